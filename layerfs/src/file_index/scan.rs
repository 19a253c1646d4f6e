//! A layer's tar to its index, in one pass that verifies what the layer is.

use std::io::Read;

use oci::{DiffId, Digest, Hasher};

use super::{FileIndex, Record};
use crate::entry::Kind;
use crate::hash::Hashed;
use crate::layer::expand;
use crate::layer::tar::{Limits, Problem, Reader};
use crate::{Error, Result};

/// The most memory that the index of a layer may take, in bytes: a hostile layer has many entries with long names.
const MAX_INDEX_BYTES: usize = 1 << 30;

/// What an attribute takes beside its name and value, in bytes.
const ATTRIBUTE_BYTES: usize = 64;

/// Reads a layer, compressed or not; fails unless its decompressed bytes are `expected`.
///
/// # Errors
/// [`Error::DiffId`] for another layer, [`Error::Archive`] for what unpacking would refuse too.
pub fn scan(source: impl Read + Send, expected: DiffId) -> Result<FileIndex> {
    let decoder = expand::decoder(source).map_err(|source| Error::ReadArchive { source })?;
    let mut hashed = Hashed { source: decoder, hasher: Hasher::of(expected.0.algorithm()) };
    let records = read_records(&mut hashed)?;
    // What follows the archive's end belongs to the digest too.
    std::io::copy(&mut hashed, &mut std::io::sink()).map_err(|source| Error::ReadArchive { source })?;
    let size_bytes = hashed.hasher.bytes();
    let found = DiffId(hashed.hasher.finish());
    match found == expected {
        true => Ok(FileIndex { diff_id: found, size_bytes, records }),
        false => Err(Error::DiffId { expected, found }),
    }
}

fn read_records(source: impl Read) -> Result<Vec<Record>> {
    let mut reader = Reader::new(source, Limits::default());
    let mut buffer = vec![0; 256 * 1024];
    let mut records = Vec::new();
    let mut memory = 0;
    while let Some(entry) = reader.next_entry()? {
        memory += size_of::<Record>() + entry.names_bytes() + ATTRIBUTE_BYTES * entry.xattrs.len();
        if memory > MAX_INDEX_BYTES {
            return Err(Error::Archive { entry: None, problem: Problem::Metadata });
        }
        let offset = reader.entry_offset();
        let content = match entry.kind {
            Kind::File { .. } => Some(content(&mut reader, &mut buffer)?),
            _ => None,
        };
        records.push(Record { entry, content, offset });
    }
    Ok(records)
}

fn content<R: Read>(reader: &mut Reader<R>, buffer: &mut [u8]) -> Result<Digest> {
    let mut hasher = Hasher::new();
    loop {
        match reader.read_data(buffer)? {
            0 => return Ok(hasher.finish()),
            count => hasher.update(&buffer[..count]),
        }
    }
}
