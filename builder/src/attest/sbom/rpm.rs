//! rpm's database: the headers of the packages, in a table of SQLite (`sqlite`), in a file of rpm's own (`ndb`), or in one
//! of Berkeley DB (`bdb`). (<https://rpm-software-management.github.io/rpm/manual/format_header.html>.)
//!
//! One with changes that are not in the file yet is noticed.

mod bdb;
mod ndb;
mod sqlite;

use std::path::Path;

use layerfs::confined::Root;

use super::{Inventory, MAX_DATABASE_BYTES, Package};

pub(super) fn rpm(root: &Root, inventory: &mut Inventory) -> layerfs::Result<()> {
    for folder in ["usr/lib/sysimage/rpm", "var/lib/rpm"] {
        let folder = Path::new(folder);
        for name in ["rpmdb.sqlite", "Packages.db", "Packages"] {
            let path = folder.join(name);
            let Some(bytes) = inventory.read(root, &path, MAX_DATABASE_BYTES)? else { continue };
            match packages(&bytes) {
                Some(found) => inventory.packages.extend(found),
                None => inventory.left_out(&path, "is damaged, or of an unknown kind"),
            }
            let log = folder.join("rpmdb.sqlite-wal");
            if name == "rpmdb.sqlite" && root.metadata(&log)?.is_some_and(|found| found.size_bytes > 0) {
                inventory.left_out(&log, "is not read");
            }
            // The one folder may be a link to the other, and what is beside a database is an older one.
            return Ok(());
        }
    }
    Ok(())
}

impl Inventory {
    fn left_out(&mut self, path: &Path, why: &str) {
        self.notes.push(format!("packages of rpm are missing: `/{}` {why}", path.display()));
    }
}

/// The packages in a database of any kind, each once for each time that it is installed; none if it cannot be read.
pub fn packages(database: &[u8]) -> Option<Vec<Package>> {
    let headers = match database {
        bytes if ndb::is_one(bytes) => ndb::headers(bytes)?,
        bytes if bdb::is_one(bytes) => bdb::values(bytes)?,
        bytes => headers_of_rows(sqlite::Database::open(bytes)?.rows("Packages")?),
    };
    Some(headers.iter().filter_map(|header| package(header)).collect())
}

fn headers_of_rows(rows: Vec<Vec<sqlite::Value>>) -> Vec<Vec<u8>> {
    let header = |row: Vec<sqlite::Value>| {
        row.into_iter().find_map(|value| match value {
            sqlite::Value::Bytes(bytes) => Some(bytes),
            _ => None,
        })
    };
    rows.into_iter().filter_map(header).collect()
}

fn package(header: &[u8]) -> Option<Package> {
    let header = Header::parse(header)?;
    // Keys are kept as if they were packages, of no architecture.
    let architecture = header.text(ARCHITECTURE)?;
    Some(Package {
        kind: "rpm",
        name: header.text(NAME)?,
        version: format!("{}-{}", header.text(VERSION)?, header.text(RELEASE)?),
        epoch: header.number(EPOCH),
        architecture: Some(architecture),
        license: header.text(LICENSE),
        supplier: header.text(VENDOR),
    })
}

const NAME: u32 = 1000;
const VERSION: u32 = 1001;
const RELEASE: u32 = 1002;
const EPOCH: u32 = 1003;
const VENDOR: u32 = 1011;
const LICENSE: u32 = 1014;
const ARCHITECTURE: u32 = 1022;

const INT32: u32 = 4;
const STRING: u32 = 6;
const I18N_STRING: u32 = 9;

/// A package's header: an index of tags, and their data behind it.
struct Header<'a> {
    index: &'a [u8],
    data: &'a [u8],
}

impl<'a> Header<'a> {
    fn parse(bytes: &'a [u8]) -> Option<Header<'a>> {
        let count = usize::try_from(u32_at(bytes, 0)?).ok()?;
        let length = usize::try_from(u32_at(bytes, 4)?).ok()?;
        let index_end = count.checked_mul(16)?.checked_add(8)?;
        let index = bytes.get(8..index_end)?;
        Some(Header { index, data: bytes.get(index_end..index_end.checked_add(length)?)? })
    }

    /// The type of a tag, and its data and what follows.
    fn find(&self, tag: u32) -> Option<(u32, &'a [u8])> {
        let entry = self.index.chunks_exact(16).find(|entry| u32_at(entry, 0) == Some(tag))?;
        let offset = usize::try_from(u32_at(entry, 8)?).ok()?;
        Some((u32_at(entry, 4)?, self.data.get(offset..)?))
    }

    fn text(&self, tag: u32) -> Option<String> {
        let (kind, data) = self.find(tag)?;
        let text = data.split(|byte| *byte == 0).next()?;
        matches!(kind, STRING | I18N_STRING).then(|| String::from_utf8_lossy(text).into_owned())
    }

    fn number(&self, tag: u32) -> Option<u32> {
        let (kind, data) = self.find(tag)?;
        (kind == INT32).then(|| u32_at(data, 0)).flatten()
    }
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_be_bytes(bytes.get(at..at.checked_add(4)?)?.try_into().ok()?))
}
