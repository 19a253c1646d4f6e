//! What is in an image: the packages that its own databases tell of, as an SPDX document.
//!
//! Read are the databases of dpkg, apk, rpm, pip and npm. Where one cannot be read, the document says so. Nothing is run, and no file is read that is not below the image's root.

mod database;
mod language;
mod rpm;
mod spdx;

use std::path::Path;

use layerfs::confined::Root;
use serde_json::Value;

use super::Statement;

pub use rpm::packages as packages_of_rpm;

/// The kind of statement that it is.
pub const PREDICATE_TYPE: &str = "https://spdx.dev/Document";

/// A database larger than this is nobody's, in bytes.
const MAX_DATABASE_BYTES: u64 = 128 << 20;

/// What tells of one package of a language is small, in bytes.
const MAX_METADATA_BYTES: u64 = 4 << 20;

/// A package of an image.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Package {
    /// Who knows it: `deb`, `apk`, `rpm`, `pypi`, `npm`.
    pub kind: &'static str,
    /// What it is called.
    pub name: String,
    /// Its version, with what the distribution adds to it.
    pub version: String,
    /// What goes before the version, of packages of rpm.
    pub epoch: Option<u32>,
    /// What it runs on, in its distribution's words.
    pub architecture: Option<String>,
    /// As its author wrote it.
    pub license: Option<String>,
    /// Who made it, or keeps it.
    pub supplier: Option<String>,
}

/// What was found.
#[derive(Clone, Debug, Default)]
struct Inventory {
    packages: Vec<Package>,
    distribution: Distribution,
    /// What was not read.
    notes: Vec<String>,
}

/// What `os-release` says. (os-release(5))
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Distribution {
    id: String,
    version: String,
}

/// A document about the files below `root`, and what it leaves out; `created` in RFC 3339.
///
/// # Errors
/// When a database is there and cannot be read.
pub fn document(
    root: Option<&Root>,
    name: &str,
    created: Option<&str>,
) -> layerfs::Result<(Statement, Vec<String>)> {
    let inventory = root.map_or_else(|| Ok(Inventory::default()), Inventory::of)?;
    let predicate: Value = spdx::document(&inventory, name, created.unwrap_or("1970-01-01T00:00:00Z"));
    Ok((Statement { predicate_type: PREDICATE_TYPE, predicate }, inventory.notes))
}

impl Inventory {
    /// A file of the image, if it is there; one that is no file, or is larger than anybody's, is noted and left out.
    fn read(&mut self, root: &Root, path: &Path, limit_bytes: u64) -> layerfs::Result<Option<Vec<u8>>> {
        match root.read_small(path, limit_bytes) {
            Err(error @ (layerfs::Error::NotAFile { .. } | layerfs::Error::FileTooLarge { .. })) => {
                self.notes.push(format!("`/{}` is left out: {error}", path.display()));
                Ok(None)
            }
            read => read,
        }
    }

    fn of(root: &Root) -> layerfs::Result<Inventory> {
        let mut inventory = Inventory::default();
        inventory.distribution(root)?;
        database::dpkg(root, &mut inventory)?;
        database::apk(root, &mut inventory)?;
        rpm::rpm(root, &mut inventory)?;
        language::find(root, &mut inventory)?;
        inventory.packages.sort();
        inventory.packages.dedup();
        Ok(inventory)
    }

    fn distribution(&mut self, root: &Root) -> layerfs::Result<()> {
        for path in ["etc/os-release", "usr/lib/os-release"] {
            let Some(bytes) = self.read(root, Path::new(path), MAX_METADATA_BYTES)? else { continue };
            for line in String::from_utf8_lossy(&bytes).lines() {
                let Some((key, value)) = line.split_once('=') else { continue };
                let value = value.trim().trim_matches(['"', '\'']).to_owned();
                match key.trim() {
                    "ID" => self.distribution.id = value,
                    "VERSION_ID" => self.distribution.version = value,
                    _ => {}
                }
            }
            break;
        }
        Ok(())
    }
}
