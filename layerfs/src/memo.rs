//! What a layer was compressed to: remembered by its diff id, so that it is done once.

use std::io::{self, Read};

use oci::{Compression, Descriptor, DiffId, MediaType};
use serde::{Deserialize, Serialize};

use crate::layer::codec::Codec;
use crate::layer::pack::LAYER_FORMAT;
use crate::layer::{estargz, expand};
use crate::store::Store;
use crate::{Error, Result};

/// A file in `memo/`.
#[derive(Serialize, Deserialize)]
pub(crate) struct Memo {
    /// The tar.
    pub(crate) diff_id: DiffId,
    /// What became of it.
    pub(crate) blob: Descriptor,
    /// The archive in the blob, where that is not the tar but has something added to it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) content: Option<DiffId>,
}

/// A source that ends with an error when it is not wanted any more.
struct Wanted<'a, R> {
    source: R,
    is_wanted: &'a (dyn Fn() -> bool + Sync),
}

impl<R: Read> Read for Wanted<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match (self.is_wanted)() {
            true => self.source.read(buffer),
            false => Err(io::Error::other("it is not wanted any more")),
        }
    }
}

impl Store {
    /// The layer `diff_id`, whose tar is in the store, as a blob compressed by `codec`; compressed now, with
    /// this many threads, unless it was before. A tar that is not what its diff id says is an error.
    pub fn compressed(&self, diff_id: DiffId, codec: Codec, threads: usize) -> Result<Descriptor> {
        self.compressed_while(diff_id, codec, threads, &|| true)
    }

    /// The same for as long as it is wanted: it ends with an error soon after `is_wanted` has become false.
    pub fn compressed_while(
        &self,
        diff_id: DiffId,
        codec: Codec,
        threads: usize,
        is_wanted: &(dyn Fn() -> bool + Sync),
    ) -> Result<Descriptor> {
        let media_type = MediaType::OciLayer(codec.compression);
        let tar = self.stored_tar(diff_id)?.ok_or(Error::MissingBlob { digest: diff_id.0 });
        if codec.compression == Compression::None {
            return tar;
        }
        let name = match codec.compression {
            Compression::Zstd => "zstd",
            _ => "gzip",
        };
        let name = format!("{}-{LAYER_FORMAT}-{name}-{}.json", diff_id.0.hex(), codec.level);
        let path = self.root().join("memo").join(name);
        if let Some(Memo { blob, .. }) = self.recall(&path)? {
            return Ok(blob);
        }
        let mut tar = Wanted { source: self.verified(&tar?)?, is_wanted };
        let mut writer = self.writer()?;
        codec.compress(&mut tar, &mut writer, threads).map_err(|source| {
            let error = Error::WriteLayer { source };
            if is_wanted() { self.blame(&diff_id.0, error) } else { error }
        })?;
        let (digest, size) = writer.commit()?;
        let blob = Descriptor::new(media_type, digest, size);
        self.remember(&path, &Memo { diff_id, blob: blob.clone(), content: None })?;
        Ok(blob)
    }

    /// The layer `diff_id`, whose tar is in the store, as eStargz, and the diff id that it has as that; made now unless
    /// it was before. A tar that is not what its diff id says is an error.
    pub fn estargz(&self, diff_id: DiffId, level: u32) -> Result<(Descriptor, DiffId)> {
        let tar = self.stored_tar(diff_id)?.ok_or(Error::MissingBlob { digest: diff_id.0 })?;
        let level = level.clamp(1, 9);
        let name = format!("{}-{LAYER_FORMAT}-estargz-{level}.json", diff_id.0.hex());
        let path = self.root().join("memo").join(name);
        if let Some(Memo { blob, content: Some(content), .. }) = self.recall(&path)? {
            return Ok((blob, content));
        }
        let mut source = std::io::BufReader::with_capacity(256 * 1024, self.verified(&tar)?);
        let mut writer = self.writer()?;
        let written = estargz::write(&mut source, &mut writer, self.scratch_file()?, level)
            .map_err(|error| self.blame(&diff_id.0, error))?;
        let (digest, size) = writer.commit()?;
        let mut blob = Descriptor::new(MediaType::OciLayer(Compression::Gzip), digest, size);
        blob.annotations.insert(estargz::TOC_DIGEST.to_owned(), written.toc.to_string());
        blob.annotations.insert(estargz::UNCOMPRESSED_SIZE.to_owned(), written.size_bytes.to_string());
        let content = DiffId(written.diff_id);
        self.remember(&path, &Memo { diff_id, blob: blob.clone(), content: Some(content) })?;
        Ok((blob, content))
    }

    /// The tar of `layer`, which has this diff id: decompressed now, unless the store has it.
    pub fn decompress(&self, layer: &Descriptor, diff_id: DiffId) -> Result<Descriptor> {
        if let Some(tar) = self.stored_tar(diff_id)? {
            return Ok(tar);
        }
        let mut source = expand::decoder(self.verified(layer)?)
            .map_err(|source| Error::ReadBlob { digest: layer.digest, source })?;
        let mut writer = self.writer_by(diff_id.0.algorithm())?;
        std::io::copy(&mut source, &mut writer)
            .map_err(|source| Error::ReadBlob { digest: layer.digest, source })?;
        let tar = writer.close();
        let found = DiffId(tar.digest);
        if found != diff_id {
            return Err(Error::DiffId { expected: diff_id, found });
        }
        let descriptor = Descriptor::new(MediaType::OciLayer(Compression::None), tar.digest, tar.size_bytes);
        tar.keep()?;
        Ok(descriptor)
    }

    /// Points to the tar of a layer, if the store has it, and holds it.
    pub(crate) fn stored_tar(&self, diff_id: DiffId) -> Result<Option<Descriptor>> {
        let size = self.hold(&diff_id.0)?;
        Ok(size.map(|size| Descriptor::new(MediaType::OciLayer(Compression::None), diff_id.0, size)))
    }

    /// What a memo says, if its blob is still there. One that cannot be read is made again.
    fn recall(&self, path: &std::path::Path) -> Result<Option<Memo>> {
        let known = std::fs::read(path).ok().and_then(|bytes| serde_json::from_slice::<Memo>(&bytes).ok());
        let Some(memo) = known else { return Ok(None) };
        Ok((self.hold(&memo.blob.digest)? == Some(memo.blob.size)).then_some(memo))
    }

    fn remember(&self, path: &std::path::Path, memo: &Memo) -> Result<()> {
        let bytes = serde_json::to_vec(memo).expect("a memo has string keys and no failing parts");
        self.ingest().replace_file(path, &bytes)
    }

    /// All memos that can be read, with the files they are in.
    pub(crate) fn memos(&self) -> Result<Vec<(std::path::PathBuf, Option<Memo>)>> {
        let read = |path: std::path::PathBuf| {
            let memo = std::fs::read(&path).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok());
            (path, memo)
        };
        Ok(self.records("memo")?.into_iter().map(read).collect())
    }
}
