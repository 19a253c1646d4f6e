//! The content of a file, out of the layer that has it.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};

use oci::{Descriptor, DiffId, Verifier};

use super::Record;
use crate::entry::Kind;
use crate::layer::expand;
use crate::layer::tar::{Limits, Reader};
use crate::store::Store;
use crate::{Error, IoResultExt, Result};

/// The bytes of one file; a reading that fails at its end unless they are what the index says.
pub(super) type Content<R> = Verifier<EntryData<R>>;

/// The bytes of an archive's present entry.
pub(super) struct EntryData<R>(Reader<R>);

impl<R: Read> Read for EntryData<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.read_data(buffer).map_err(io::Error::other)
    }
}

impl Store {
    /// The content of the regular file `record` of the layer `diff_id`, which `layer` points to.
    ///
    /// # Errors
    /// [`Error::MissingBlob`] if the layer is not in the store.
    pub fn content(&self, layer: &Descriptor, diff_id: DiffId, record: &Record) -> Result<impl Read + use<>> {
        let fail = |source| Error::ReadBlob { digest: diff_id.0, source };
        let source: Box<dyn Read + Send> = if self.stored_tar(diff_id)?.is_some() {
            let mut tar = self.open_blob(&diff_id.0)?;
            tar.seek(SeekFrom::Start(record.offset)).map_err(fail)?;
            Box::new(tar)
        } else {
            let mut tar = expand::decoder(self.open_blob(&layer.digest)?).map_err(fail)?;
            io::copy(&mut (&mut tar).take(record.offset), &mut io::sink()).map_err(fail)?;
            tar
        };
        content(source, record)
    }

    /// The tar of a layer as a file: the store's own, or else a decompressed copy that has no name.
    ///
    /// # Errors
    /// [`Error::MissingBlob`] if the layer is not in the store, [`Error::DiffId`] if it is another.
    pub(super) fn tar(&self, layer: &Descriptor, diff_id: DiffId) -> Result<File> {
        if self.stored_tar(diff_id)?.is_some() {
            return self.open_blob(&diff_id.0);
        }
        let mut source = expand::decoder(self.verified(layer)?)
            .map_err(|source| Error::ReadBlob { digest: layer.digest, source })?;
        let mut tar = self.scratch_file()?;
        let mut hasher = oci::Hasher::of(diff_id.0.algorithm());
        let mut buffer = vec![0; 256 * 1024];
        loop {
            let count = source
                .read(&mut buffer)
                .map_err(|source| Error::ReadBlob { digest: layer.digest, source })?;
            if count == 0 {
                break;
            }
            hasher.update(&buffer[..count]);
            tar.write_all(&buffer[..count]).at("write a layer in", self.root())?;
        }
        let found = DiffId(hasher.finish());
        if found == diff_id { Ok(tar) } else { Err(Error::DiffId { expected: diff_id, found }) }
    }
}

/// The content of `record` out of its tar, read from where the record begins.
pub(super) fn content<R: Read>(source: R, record: &Record) -> Result<Content<R>> {
    let mut reader = Reader::new(source, Limits::default());
    // What is found there proves itself by its digest.
    let found = reader.next_entry()?;
    let size = match (&record.entry.kind, found) {
        (Kind::File { size }, Some(_)) => *size,
        _ => 0,
    };
    let digest = record.content.unwrap_or_else(|| oci::Digest::of(b""));
    Ok(Verifier::new(EntryData(reader), digest, size))
}
