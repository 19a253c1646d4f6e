//! A tar that holds images: its files become blobs, its list is read at the end, wherever it stood.

use std::collections::BTreeMap;
use std::io::{Read, Write};

use layerfs::copy::any_decoder;
use layerfs::entry::Kind;
use layerfs::layer::tar::{Limits, Reader};
use layerfs::store::Store;
use oci::{Algorithm, Digest, MAX_DOCUMENT_BYTES};

use super::{LoadError, Loaded, docker, images};
use crate::deliver::docker::LIST;

/// The lists, which are read whole.
const INDEX: &str = "index.json";
const LAYOUT: &str = "oci-layout";

/// Each file's path is remembered until the end, so there may not be any number of any length.
const MAX_FILES: u64 = 100_000;
const MAX_PATH_BYTES: usize = 1024;

/// How many links may lead to one another.
const MAX_LINKS: usize = 8;

/// Loads all images of an archive: an OCI layout, or else Docker's own. One that is both is read as a layout.
///
/// # Errors
/// When it is neither, is damaged, or lacks something that it names.
pub fn archive(source: &mut (dyn Read + Send), store: &Store) -> Result<Vec<Loaded>, LoadError> {
    let contents = Contents::read(source, store)?;
    if contents.lists.contains_key(LAYOUT)
        && let Some(list) = contents.lists.get(INDEX)
    {
        return images(list.clone(), store, &|blob| match store.size_of(&blob.digest) == Some(blob.size) {
            true => Ok(()),
            false => Err(LoadError::Absent { path: blob.digest.blob_path() }),
        });
    }
    match contents.lists.get(LIST) {
        Some(list) => docker::images(list, &contents, store),
        None if contents.files.contains_key("repositories") => Err(LoadError::Legacy),
        None => Err(LoadError::Neither),
    }
}

/// What an archive has, by the paths that it has it under.
pub(super) struct Contents {
    files: BTreeMap<String, File>,
    lists: BTreeMap<&'static str, Vec<u8>>,
}

enum File {
    Blob {
        digest: Digest,
        size_bytes: u64,
    },
    /// Another path, in the same form.
    Link(String),
}

impl Contents {
    fn read(source: &mut (dyn Read + Send), store: &Store) -> Result<Contents, LoadError> {
        let decoder = any_decoder(source).map_err(LoadError::Read)?;
        let limits = Limits { entries: MAX_FILES, path_bytes: MAX_PATH_BYTES, ..Limits::default() };
        let mut reader = Reader::new(decoder, limits);
        let mut contents = Contents { files: BTreeMap::new(), lists: BTreeMap::new() };
        while let Some(entry) = reader.next_entry()? {
            // Names that are no text are nothing that a list can name.
            let Ok(path) = String::from_utf8(entry.path) else { continue };
            let file = match entry.kind {
                Kind::File { size } => match [INDEX, LAYOUT, LIST].into_iter().find(|list| *list == path) {
                    Some(list) => {
                        contents.lists.insert(list, read_list(&mut reader, list, size)?);
                        continue;
                    }
                    None => keep(&mut reader, &path, store)?,
                },
                Kind::HardLink { target } => match String::from_utf8(target) {
                    Ok(target) => File::Link(target),
                    Err(_) => continue,
                },
                Kind::Symlink { target } => match inside(&path, &target) {
                    Some(target) => File::Link(target),
                    None => continue,
                },
                _ => continue,
            };
            contents.files.insert(path, file);
        }
        Ok(contents)
    }

    /// The file that a list calls `path`.
    pub(super) fn find(&self, path: &str) -> Result<(Digest, u64), LoadError> {
        let absent = || LoadError::Absent { path: path.to_owned() };
        let mut at = inside("", path.as_bytes()).ok_or_else(absent)?;
        for _ in 0..MAX_LINKS {
            match self.files.get(&at).ok_or_else(absent)? {
                File::Blob { digest, size_bytes } => return Ok((*digest, *size_bytes)),
                File::Link(target) => at.clone_from(target),
            }
        }
        Err(absent())
    }
}

fn read_list<R: Read>(reader: &mut Reader<R>, path: &'static str, size: u64) -> Result<Vec<u8>, LoadError> {
    if size > MAX_DOCUMENT_BYTES {
        return Err(LoadError::TooLarge { path, limit_bytes: MAX_DOCUMENT_BYTES });
    }
    let mut bytes = vec![0; usize::try_from(size).unwrap_or(0)];
    let mut filled = 0;
    while filled < bytes.len() {
        filled += reader.read_data(&mut bytes[filled..])?;
    }
    Ok(bytes)
}

/// Makes a file a blob. One that is called by its digest must have it.
fn keep<R: Read>(reader: &mut Reader<R>, path: &str, store: &Store) -> Result<File, LoadError> {
    let promised = Digest::from_blob_path(path);
    let mut blob = store.writer_by(promised.map_or(Algorithm::Sha256, |digest| digest.algorithm()))?;
    let mut buffer = vec![0; 256 * 1024];
    loop {
        let count = reader.read_data(&mut buffer)?;
        if count == 0 {
            break;
        }
        blob.write_all(&buffer[..count]).map_err(LoadError::Write)?;
    }
    let blob = blob.close();
    let (digest, size_bytes) = (blob.digest, blob.size_bytes);
    if let Some(expected) = promised.filter(|expected| *expected != digest) {
        return Err(LoadError::Digest { path: path.to_owned(), expected, found: digest });
    }
    blob.keep()?;
    Ok(File::Blob { digest, size_bytes })
}

/// Where a link at `path` leads, within the archive; none if it leads out of it, or nowhere.
fn inside(path: &str, target: &[u8]) -> Option<String> {
    let target = std::str::from_utf8(target).ok().filter(|target| !target.starts_with('/'))?;
    let mut parts: Vec<&str> = path.split('/').collect();
    parts.pop();
    for part in target.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()?),
            part => parts.push(part),
        }
    }
    Some(parts.join("/")).filter(|path| !path.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_lead_nowhere_else() {
        for (path, target, expected) in [
            ("a/layer.tar", "../b/layer.tar", Some("b/layer.tar")),
            ("a", "b", Some("b")),
            ("a/b/c", "./../d//e", Some("a/d/e")),
            ("", "blobs/sha256/x", Some("blobs/sha256/x")),
            ("a", "../b", None),
            ("a/b", "../../../etc/passwd", None),
            ("a", "/etc/passwd", None),
            ("a", ".", None),
        ] {
            assert_eq!(inside(path, target.as_bytes()).as_deref(), expected, "{path} -> {target}");
        }
    }
}
