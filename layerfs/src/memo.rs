//! What a layer was compressed to: remembered by its diff id, so that it is done once.

use oci::{Compression, Descriptor, DiffId, MediaType};
use serde::{Deserialize, Serialize};

use crate::layer::codec::Codec;
use crate::layer::pack::LAYER_FORMAT;
use crate::store::Store;
use crate::{Error, IoResultExt, Result};

/// A file in `memo/`.
#[derive(Serialize, Deserialize)]
pub(crate) struct Memo {
    /// The tar.
    pub(crate) diff_id: DiffId,
    /// What became of it.
    pub(crate) blob: Descriptor,
}

impl Store {
    /// The layer `diff_id`, whose tar is in the store, as a blob compressed by `codec`; compressed now, with
    /// this many threads, unless it was before. A tar that is not what its diff id says is an error.
    pub fn compressed(&self, diff_id: DiffId, codec: Codec, threads: usize) -> Result<Descriptor> {
        let media_type = MediaType::OciLayer(codec.compression);
        let plain = |size| Descriptor::new(MediaType::OciLayer(Compression::None), diff_id.0, size);
        let tar = self.hold(&diff_id.0)?.map(plain).ok_or(Error::MissingBlob { digest: diff_id.0 });
        if codec.compression == Compression::None {
            return tar;
        }
        let name = match codec.compression {
            Compression::Zstd => "zstd",
            _ => "gzip",
        };
        let name = format!("{}-{LAYER_FORMAT}-{name}-{}.json", diff_id.0.hex(), codec.level);
        let path = self.root().join("memo").join(name);
        // A memo that cannot be read is made again.
        let known = std::fs::read(&path).ok().and_then(|bytes| serde_json::from_slice::<Memo>(&bytes).ok());
        if let Some(Memo { blob, .. }) = known
            && self.hold(&blob.digest)? == Some(blob.size)
        {
            return Ok(blob);
        }
        let mut tar = self.verified(&tar?)?;
        let mut writer = self.writer()?;
        codec
            .compress(&mut tar, &mut writer, threads)
            .map_err(|source| self.blame(&diff_id.0, Error::WriteLayer { source }))?;
        let (digest, size) = writer.commit()?;
        let blob = Descriptor::new(media_type, digest, size);
        self.remember(&path, diff_id, &blob)?;
        Ok(blob)
    }

    fn remember(&self, path: &std::path::Path, diff_id: DiffId, blob: &Descriptor) -> Result<()> {
        let memo = Memo { diff_id, blob: blob.clone() };
        let bytes = serde_json::to_vec(&memo).expect("a memo has string keys and no failing parts");
        self.ingest().replace_file(path, &bytes)
    }

    /// All memos that can be read, with the files they are in.
    pub(crate) fn memos(&self) -> Result<Vec<(std::path::PathBuf, Option<Memo>)>> {
        let dir = self.root().join("memo");
        let mut memos = Vec::new();
        for entry in std::fs::read_dir(&dir).at("read", &dir)? {
            let path = entry.at("read", &dir)?.path();
            let memo = std::fs::read(&path).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok());
            memos.push((path, memo));
        }
        Ok(memos)
    }
}
