//! Packages of the system whose databases are text: dpkg's and apk's.

use std::collections::BTreeMap;
use std::path::Path;

use layerfs::confined::{Kind, Root};

use super::{Inventory, MAX_DATABASE_BYTES, Package};

/// `status`, or a file for each package, as images without a package manager have it.
pub(super) fn dpkg(root: &Root, inventory: &mut Inventory) -> layerfs::Result<()> {
    let folder = Path::new("var/lib/dpkg/status.d");
    let mut paths = vec![Path::new("var/lib/dpkg/status").to_owned()];
    let is_folder = root.metadata(folder)?.is_some_and(|found| found.kind == Kind::Directory);
    if is_folder {
        let names = root.list(folder)?;
        let is_package = |name: &std::ffi::OsString| !name.to_string_lossy().ends_with(".md5sums");
        paths.extend(names.into_iter().filter(is_package).map(|name| folder.join(name)));
    }
    for path in paths {
        if let Some(bytes) = inventory.read(root, &path, MAX_DATABASE_BYTES)? {
            let text = String::from_utf8_lossy(&bytes);
            inventory.packages.extend(paragraphs(&text).filter_map(|fields| debian(&fields)));
        }
    }
    Ok(())
}

/// Paragraphs of fields, as e-mail has them; lines that go on are left out. (deb-control(5))
fn paragraphs(text: &str) -> impl Iterator<Item = BTreeMap<&str, &str>> {
    text.split("\n\n").map(|paragraph| {
        let lines = paragraph.lines().filter(|line| !line.starts_with([' ', '\t']));
        lines.filter_map(|line| line.split_once(':')).map(|(key, value)| (key, value.trim())).collect()
    })
}

fn debian(fields: &BTreeMap<&str, &str>) -> Option<Package> {
    // What was removed may have left its configuration.
    let is_there =
        fields.get("Status").is_none_or(|status| status.split(' ').next_back() == Some("installed"));
    let text = |key: &str| fields.get(key).map(|value: &&str| (*value).to_owned());
    is_there.then_some(())?;
    Some(Package {
        kind: "deb",
        name: text("Package")?,
        version: text("Version")?,
        architecture: text("Architecture"),
        supplier: text("Maintainer"),
        ..Package::default()
    })
}

/// Fields of a letter each. (apk's package database, version 2.)
pub(super) fn apk(root: &Root, inventory: &mut Inventory) -> layerfs::Result<()> {
    for path in ["lib/apk/db/installed", "usr/lib/apk/db/installed"] {
        let Some(bytes) = inventory.read(root, Path::new(path), MAX_DATABASE_BYTES)? else { continue };
        let text = String::from_utf8_lossy(&bytes);
        inventory.packages.extend(paragraphs(&text).filter_map(|fields| {
            let text = |key: &str| fields.get(key).map(|value: &&str| (*value).to_owned());
            Some(Package {
                kind: "apk",
                name: text("P")?,
                version: text("V")?,
                architecture: text("A"),
                license: text("L"),
                supplier: text("m"),
                ..Package::default()
            })
        }));
        // The one place may be a link to the other.
        break;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debian_packages_are_those_that_are_installed() {
        let text = "Package: bash\nStatus: install ok installed\nArchitecture: amd64\nVersion: 5.2.15-2+b7\n\
                    Description: GNU\n Package: not this\nMaintainer: A <a@b.c>\n\n\
                    Package: gone\nStatus: deinstall ok config-files\nVersion: 1\n\n\
                    Package: tzdata\nVersion: 2024a\n";
        let found: Vec<Package> = paragraphs(text).filter_map(|fields| debian(&fields)).collect();
        let names: Vec<(&str, &str)> =
            found.iter().map(|package| (package.name.as_str(), package.version.as_str())).collect();
        assert_eq!(names, [("bash", "5.2.15-2+b7"), ("tzdata", "2024a")]);
        assert_eq!(found[0].supplier.as_deref(), Some("A <a@b.c>"));
        assert_eq!(found[0].architecture.as_deref(), Some("amd64"));
    }
}
