//! ADD of a local archive: recognised by its content, and unpacked into the destination.
//!
//! Here: what counts as an archive, and bzip2 and xz, which layers never use. Not here: tar, gzip and zstd
//! ([`crate::layer`]). A file whose first header is not that of a tar, compressed or not, is no archive and is
//! copied as it is; one that turns out to be damaged only later is an error.

use std::fs::File;
use std::io::{self, BufReader, Read, Seek};
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use liblzma::stream::{CONCATENATED, Stream};

use super::Selected;
use super::file::Copier;
use crate::confined::{Kind, Metadata, NewDirectory, Root, open_exact, open_listed};
use crate::layer::codec;
use crate::layer::expand::{self, FREE_BYTES};
use crate::layer::tar::{Limits, Problem, Reader};
use crate::layer::unpack::{self, Destination, Whiteouts};
use crate::snapshot::Below;
use crate::walk::Entry;
use crate::{Error, IoResultExt, Result};

/// What an xz archive may ask for to be decompressed, in bytes; `xz -9` needs 65 MiB.
const XZ_MEMORY: u64 = 512 << 20;

/// Unpacks `selected` if it is an archive; `false` if it is none. `--chmod` does not apply to what is unpacked.
pub(super) fn unpack(
    copier: &Copier<'_>,
    source: &Root,
    selected: &Selected,
    target: &Root,
    destination: &Path,
) -> Result<bool> {
    if selected.metadata.kind != Kind::File {
        return Ok(false);
    }
    let mut file = open(source, selected)?;
    if !is_archive(&file).at("read", &selected.path)? {
        return Ok(false);
    }
    file.rewind().at("read", &selected.path)?;
    let new = NewDirectory { mode: 0o755, ..copier.new_directory() };
    let (root, _) = target.open_or_make_dir(destination, &new)?;
    let options = unpack::Options {
        whiteouts: Whiteouts::Literal,
        owner: copier.options.owner.map(|owner| (owner.uid, owner.gid)),
        limits: Limits::default(),
    };
    // The archive's own links lead nowhere but below it.
    let destination = Destination { root: root.as_fd(), below: Below::Nothing };
    unpack::unpack(decompressed(&file, FREE_BYTES).at("read", &selected.path)?, destination, &options)?;
    unchanged(&file, selected)?;
    Ok(true)
}

fn open(source: &Root, selected: &Selected) -> Result<File> {
    let path = selected.path.as_os_str().as_bytes().to_owned();
    let entry = Entry { path, metadata: selected.metadata };
    let dir = open_exact(source.as_fd(), entry.parent()).at("open", &selected.path)?;
    let file = open_listed(dir.as_fd(), entry.name()).at("open", &selected.path)?;
    unchanged(&file, selected)?;
    Ok(file)
}

fn unchanged(file: &File, selected: &Selected) -> Result<()> {
    match Metadata::of(file).at("read the metadata of", &selected.path)?.is_unchanged(&selected.metadata) {
        true => Ok(()),
        false => Err(Error::SourceChanged { path: selected.path.clone() }),
    }
}

/// Whether a file begins, once decompressed, with the header of a tar. A header that is one and is refused for
/// what it says makes an archive too: unpacking it will tell why.
fn is_archive(file: &File) -> io::Result<bool> {
    let Ok(decoder) = any_decoder(file) else { return Ok(false) };
    Ok(match Reader::new(decoder, Limits::default()).next_entry() {
        Ok(first) => first.is_some(),
        Err(Error::Archive { problem, .. }) => {
            !matches!(problem, Problem::Checksum | Problem::Truncated | Problem::Number { .. })
        }
        Err(_) => false,
    })
}

/// What `source` holds, decompressed by whatever archives are compressed by: gzip, zstd, bzip2 or xz. What grows
/// without measure ends in an error.
pub fn any_decoder<'a>(source: impl Read + Send + 'a) -> io::Result<Box<dyn Read + Send + 'a>> {
    any_within(source, FREE_BYTES)
}

fn any_within<'a>(source: impl Read + Send + 'a, free_bytes: u64) -> io::Result<Box<dyn Read + Send + 'a>> {
    expand::measured(decompressed(source, free_bytes)?, free_bytes, codec::decoder)
}

/// The bytes of a file, decompressed if they are bzip2's or xz's. Gzip and zstd stay: unpacking reads them.
fn decompressed<'a>(
    mut file: impl Read + Send + 'a,
    free_bytes: u64,
) -> io::Result<Box<dyn Read + Send + 'a>> {
    let mut head = Vec::with_capacity(6);
    file.by_ref().take(6).read_to_end(&mut head)?;
    let head_says = |magic: &[u8]| head.starts_with(magic);
    let (bzip2, xz) = (head_says(b"BZh"), head_says(b"\xfd7zXZ\0"));
    let whole = io::Cursor::new(head).chain(file);
    if bzip2 {
        let decode = |source| Ok(Box::new(bzip2::read::MultiBzDecoder::new(source)) as Box<_>);
        expand::measured(whole, free_bytes, decode)
    } else if xz {
        let stream = Stream::new_stream_decoder(XZ_MEMORY, CONCATENATED).map_err(io::Error::from)?;
        let decode = |source| {
            Ok(Box::new(liblzma::bufread::XzDecoder::new_stream(BufReader::new(source), stream)) as Box<_>)
        };
        expand::measured(whole, free_bytes, decode)
    } else {
        Ok(Box::new(whole))
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    #[test]
    fn no_bomb_grows_without_measure() {
        let zeros = vec![0; 64 << 20];
        let mut bzip2 = bzip2::write::BzEncoder::new(Vec::new(), bzip2::Compression::fast());
        let mut xz = liblzma::write::XzEncoder::new(Vec::new(), 0);
        bzip2.write_all(&zeros).unwrap();
        xz.write_all(&zeros).unwrap();
        for bomb in [bzip2.finish().unwrap(), xz.finish().unwrap()] {
            let read = |free| io::copy(&mut any_within(&bomb[..], free).unwrap(), &mut io::sink());
            assert_eq!(read(FREE_BYTES).unwrap(), 64 << 20);
            assert_eq!(read(1 << 20).unwrap_err().kind(), io::ErrorKind::InvalidData);
        }
    }
}
