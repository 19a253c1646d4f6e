//! Packages of languages, wherever in the tree they are: Python's `*.dist-info` and `*.egg-info`, npm's `node_modules`.

use std::os::fd::AsFd;
use std::path::Path;

use layerfs::confined::{Kind, Root};
use layerfs::walk::{everything, walk};
use serde_json::Value;

use super::{Inventory, MAX_METADATA_BYTES, Package};

pub(super) fn find(root: &Root, inventory: &mut Inventory) -> layerfs::Result<()> {
    for entry in walk(root.as_fd(), &everything)? {
        if entry.metadata.kind != Kind::File {
            continue;
        }
        let Ok(path) = std::str::from_utf8(&entry.path) else { continue };
        let parse = match path.rsplit('/').next() {
            Some("METADATA") if folder(path).ends_with(".dist-info") => python,
            Some("PKG-INFO") if folder(path).ends_with(".egg-info") => python,
            Some("package.json") if is_module(path) => npm,
            _ => continue,
        };
        let Some(bytes) = inventory.read(root, Path::new(path), MAX_METADATA_BYTES)? else {
            continue;
        };
        inventory.packages.extend(parse(&String::from_utf8_lossy(&bytes)));
    }
    Ok(())
}

fn folder(path: &str) -> &str {
    path.rsplit_once('/').map_or("", |(folder, _)| folder)
}

/// Whether a `package.json` is that of a module, and not of something within one.
fn is_module(path: &str) -> bool {
    let mut folders = folder(path).rsplit('/').skip(1);
    match folders.next() {
        Some("node_modules") => true,
        Some(scope) if scope.starts_with('@') => folders.next() == Some("node_modules"),
        _ => false,
    }
}

/// The head of core metadata. (PEP 566.)
fn python(text: &str) -> Option<Package> {
    let head = text.split("\n\n").next().unwrap_or_default();
    let field = |name: &str| {
        let mut lines = head.lines().filter_map(|line| line.split_once(':'));
        let value = lines.find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim());
        value.filter(|value| !value.is_empty() && *value != "UNKNOWN").map(str::to_owned)
    };
    Some(Package {
        kind: "pypi",
        name: field("Name")?,
        version: field("Version")?,
        license: field("License-Expression"),
        supplier: field("Author"),
        ..Package::default()
    })
}

fn npm(text: &str) -> Option<Package> {
    let value: Value = serde_json::from_str(text).ok()?;
    let field = |name: &str| value[name].as_str().map(str::to_owned);
    Some(Package {
        kind: "npm",
        name: field("name")?,
        version: field("version")?,
        license: field("license"),
        ..Package::default()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modules_are_told_from_what_is_in_them() {
        for (path, expected) in [
            ("app/node_modules/left-pad/package.json", true),
            ("app/node_modules/@scope/x/package.json", true),
            ("app/package.json", false),
            ("app/node_modules/x/test/package.json", false),
            ("package.json", false),
        ] {
            assert_eq!(is_module(path), expected, "{path}");
        }
    }

    #[test]
    fn metadata_is_its_head() {
        let text = "Metadata-Version: 2.1\nName: Flask\nVersion: 3.0\nLicense: UNKNOWN\n\nVersion: 9\n";
        let found = python(text).unwrap();
        assert_eq!((found.name.as_str(), found.version.as_str(), found.license), ("Flask", "3.0", None));
        assert!(python("Name: x\n").is_none() && npm("[]").is_none());
        assert_eq!(npm(r#"{"name":"@a/b","version":"1.0.0","license":"MIT"}"#).unwrap().name, "@a/b");
    }
}
