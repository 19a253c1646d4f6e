//! The store: content-addressed blobs, in a directory that is an OCI image layout.
//!
//! ```text
//! <root>/                 0700
//!   oci-layout, index.json   the layout's two files; see `layout`
//!   index.lock               held by whoever changes the list of images
//!   state.json               the format of all this, and when it was last trusted; see `trust`
//!   blobs/sha256/<hex>       complete, never written to again; blobs/sha512/<hex> where others call a blob so
//!   downloads/               blobs that have come in part; see `download`
//!   ingest/                  snapshots being made, each a locked directory
//!   snapshots/<id>/          committed snapshots, layer by layer; see `snapshot`
//!   trees/<id>/              committed snapshots that are whole trees
//!   mounts/                  directories that outlive a build; see `cache_mount`
//!   memo/                    which blob a layer was compressed to
//!   files/                   what is in layers; see `file_index`
//!   contexts/                what is known of the files of contexts; see `checksum::Known`
//!   uploads/, drafts/        transfers and indexes in the making, of the command
//!   resolved/, cache/        the builder's records; digests in `resolved/` keep blobs alive
//!   remote/                  what the builder has fetched: records, and copies of repositories
//!   trash/                   what a collection or a commit has taken out of sight and is deleting
//!   lock, leases/            who uses what; see `lease`
//!   pruned                   its time is that of the builder's last look at how much is kept
//!   quarantine/              what was found to be damaged
//! ```
//!
//! A blob is written into a file without a name and linked under its digest when it is complete and verified,
//! so that a killed writer leaves nothing behind. What a power cut may have damaged is hashed before it is used.

use std::fs::File;
use std::io::{self, Read, Seek as _, SeekFrom, Write};
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use oci::{Algorithm, Descriptor, Digest, ImageConfig, MAX_DOCUMENT_BYTES, Manifest, Raw, Verifier};
use rustix::fs::{AtFlags, CWD, Mode, OFlags, RenameFlags};
use rustix::io::Errno;

use crate::hash::SideHasher;
use crate::ingest::{self, Ingest};
use crate::lease::{Held, Lease};
use crate::snapshot::{Choice, Chosen, Driver, Everywhere, SnapshotId, Snapshotter};
use crate::trust::{BLOB_IN_MEMORY, Settling};
use crate::{Error, IoResultExt, Result, lock, remove, site, trust};

/// An open store. Cheap to share by reference between threads.
///
/// What it was asked to [hold](Store::hold), what it made and what it read as a document is left alone by
/// collectors for as long as it is open.
#[derive(Debug)]
pub struct Store {
    root: PathBuf,
    pub(crate) lease: Arc<Lease>,
    pub(crate) settling: Settling,
    choice: Choice,
    /// What came of the choice, once it had to be made.
    chosen: OnceLock<Chosen>,
}

impl Store {
    /// Opens the store in `root`, which is made if it is missing, and clears away what killed processes left.
    ///
    /// # Errors
    /// [`Error::Site`], [`Error::NewerStore`], and when `root` cannot be used.
    pub fn open(root: &Path) -> Result<Store> {
        let root = site::prepare(root)?;
        let store = Store::new(Lease::new(&root)?, root);
        store.check_state()?;
        store.init_layout()?;
        store.ingest().clear();
        store.clear_trash();
        Ok(store)
    }

    /// Opens the store in `root` only to look at it: nothing is made but notes of what was measured, nothing is cleared
    /// away or held, and all is as if it were
    /// empty where there is none. So it may be on a read-only file system, and what is seen may be collected at once.
    ///
    /// # Errors
    /// [`Error::NewerStore`], and when `root` is there and cannot be opened.
    pub fn look(root: &Path) -> Result<Store> {
        let root = match root.canonicalize() {
            Err(error) if error.kind() == io::ErrorKind::NotFound => root.to_owned(),
            canonical => canonical.at("open", root)?,
        };
        let store = Store::new(Lease::of_onlooker(), root);
        store.known_state()?;
        Ok(store)
    }

    fn new(lease: Lease, root: PathBuf) -> Store {
        let (settling, choice, chosen) = Default::default();
        Store { root, lease: Arc::new(lease), settling, choice, chosen }
    }

    /// The directory.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Makes snapshots by the driver that is wanted, instead of by the first that works.
    pub fn choose(&mut self, choice: Choice) {
        (self.choice, self.chosen) = (choice, OnceLock::new());
    }

    /// What makes snapshots in this store.
    pub fn snapshots(&self) -> Arc<dyn Snapshotter> {
        self.chosen().open(&self.root, &self.lease)
    }

    /// Which driver that is.
    pub fn driver(&self) -> Driver {
        self.chosen().driver()
    }

    fn chosen(&self) -> &Chosen {
        self.chosen.get_or_init(|| self.choice.decide(&self.root, &self.lease))
    }

    /// What can read the snapshots of each layout, as far as that is possible here.
    pub fn readers(&self) -> Vec<Arc<dyn Snapshotter>> {
        let own = self.chosen().clone();
        let other = match own {
            Chosen::Layers(_) => Chosen::Trees,
            Chosen::Trees => Choice { driver: None, ..self.choice.clone() }.decide(&self.root, &self.lease),
        };
        let mut readers = vec![own.open(&self.root, &self.lease)];
        if other.driver() != own.driver() {
            readers.push(other.open(&self.root, &self.lease));
        }
        readers
    }

    /// Whether there is a snapshot by this name, whichever driver made it.
    pub fn has_snapshot(&self, id: &SnapshotId) -> bool {
        self.everywhere().contains(id)
    }

    /// The ancestors of the snapshots by this name, whichever drivers made them; none if there is none.
    pub fn ancestors(&self, id: &SnapshotId) -> Vec<SnapshotId> {
        self.everywhere().ancestors(id)
    }

    /// The snapshot that `name` stands for with whichever driver: itself, unless it is an alias.
    pub fn resolve(&self, name: &SnapshotId) -> SnapshotId {
        self.everywhere().resolve(name)
    }

    pub(crate) fn everywhere(&self) -> Everywhere {
        Everywhere::of(&self.root, &self.lease)
    }

    /// Keeps collectors away from a blob and from all that it names; says the size of the blob in bytes, if it is there.
    pub fn hold(&self, digest: &Digest) -> Result<Option<u64>> {
        self.lease.hold(Held::Blob(*digest))?;
        self.trusted_size(digest)
    }

    /// Lets go of all that was held, unless somebody still works on [`Store::snapshots`]. For those who collect.
    pub fn release(&mut self) {
        if let Some(lease) = Arc::get_mut(&mut self.lease) {
            lease.release();
        }
    }

    /// Where the blob `digest` is, or would be.
    pub fn blob_path(&self, digest: &Digest) -> PathBuf {
        self.root.join(digest.blob_path())
    }

    /// Whether the blob is there.
    pub fn has(&self, digest: &Digest) -> bool {
        self.blob_path(digest).exists()
    }

    /// The size of a blob in bytes, if it is there.
    pub fn size_of(&self, digest: &Digest) -> Option<u64> {
        self.blob_path(digest).metadata().ok().map(|metadata| metadata.len())
    }

    /// Opens a blob for reading. Its bytes were verified when they were put; [`Store::verified`] does it again.
    pub fn open_blob(&self, digest: &Digest) -> Result<File> {
        self.trusted_size(digest)?;
        self.open_untrusted(digest)
    }

    pub(crate) fn open_untrusted(&self, digest: &Digest) -> Result<File> {
        let path = self.blob_path(digest);
        File::open(&path).map_err(|source| match source.kind() {
            io::ErrorKind::NotFound => Error::MissingBlob { digest: *digest },
            _ => Error::File { act: "open", path, source },
        })
    }

    /// Opens a blob for a reading that fails at its end unless it has the promised digest and size.
    pub fn verified(&self, descriptor: &Descriptor) -> Result<Verifier<File>> {
        Ok(Verifier::new(self.open_blob(&descriptor.digest)?, descriptor.digest, descriptor.size))
    }

    /// Reads a document whole, with the limit on its size and its digest verified.
    pub fn read_document(&self, descriptor: &Descriptor) -> Result<Vec<u8>> {
        let Descriptor { digest, size, .. } = descriptor;
        if *size > MAX_DOCUMENT_BYTES {
            return Err(Error::TooLarge {
                digest: *digest,
                size_bytes: *size,
                limit_bytes: MAX_DOCUMENT_BYTES,
            });
        }
        self.lease.hold(Held::Blob(*digest))?;
        let mut bytes = Vec::new();
        self.verified(descriptor)?
            .read_to_end(&mut bytes)
            .map_err(|source| self.blame(digest, Error::ReadBlob { digest: *digest, source }))?;
        Ok(bytes)
    }

    /// Reads an image's manifest.
    pub fn manifest(&self, descriptor: &Descriptor) -> Result<Raw<Manifest>> {
        match oci::Document::parse(self.read_document(descriptor)?, &descriptor.media_type)? {
            oci::Document::Manifest(raw) => Ok(raw.called(descriptor.digest)),
            oci::Document::Index(_) => {
                Err(oci::Error::UnsupportedDocument { media_type: descriptor.media_type.to_string() }.into())
            }
        }
    }

    /// Reads an image's configuration.
    pub fn config(&self, manifest: &Manifest) -> Result<Raw<ImageConfig>> {
        let config = Raw::parse(self.read_document(&manifest.config)?, "image configuration")?;
        Ok(config.called(manifest.config.digest))
    }

    /// Begins a new blob.
    pub fn writer(&self) -> Result<BlobWriter> {
        self.writer_by(Algorithm::Sha256)
    }

    /// Begins a new blob that is called by a digest of this algorithm.
    pub fn writer_by(&self, algorithm: Algorithm) -> Result<BlobWriter> {
        let (file, hasher) = (self.unnamed(BLOB_IN_MEMORY)?, SideHasher::new(algorithm));
        Ok(BlobWriter { file, hasher, shelf: self.shelf() })
    }

    /// A file without a name, which goes with its last descriptor.
    pub(crate) fn unnamed(&self, mode: u32) -> Result<File> {
        let dir = self.root.join("ingest");
        let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
        let file = rustix::fs::open(&dir, flags, Mode::from_raw_mode(mode)).at("create a file in", &dir)?;
        Ok(file.into())
    }

    pub(crate) fn shelf(&self) -> Shelf {
        Shelf { root: self.root.clone(), lease: Arc::clone(&self.lease) }
    }

    /// A file without a name, which goes when it is closed.
    pub(crate) fn scratch_file(&self) -> Result<File> {
        self.unnamed(0o600)
    }

    /// Keeps all bytes of `reader`; says their digest and how many there were.
    pub fn put(&self, reader: &mut dyn Read) -> Result<(Digest, u64)> {
        let mut writer = self.writer()?;
        copy(reader, &mut writer)?;
        writer.commit()
    }

    /// Keeps `bytes`, called by their sha256.
    pub fn put_bytes(&self, bytes: &[u8]) -> Result<Digest> {
        self.put_bytes_by(Algorithm::Sha256, bytes)
    }

    /// Keeps `bytes`, called by a digest of this algorithm.
    pub fn put_bytes_by(&self, algorithm: Algorithm, bytes: &[u8]) -> Result<Digest> {
        let digest = algorithm.digest(bytes);
        if self.hold(&digest)? != Some(bytes.len() as u64) {
            self.remove_damaged(&digest, bytes.len() as u64)?;
            let mut file = self.unnamed(BLOB_IN_MEMORY)?;
            file.write_all(bytes).at("write a blob in", &self.root)?;
            self.shelf().link(&file, &digest)?;
        }
        Ok(digest)
    }

    /// Keeps a document and returns a descriptor for it.
    pub fn put_document<T>(&self, document: &Raw<T>, media_type: oci::MediaType) -> Result<Descriptor> {
        self.put_bytes(document.bytes())?;
        Ok(Descriptor::new(media_type, document.digest(), document.size()))
    }

    /// Deletes a blob that has another size than it should: a power cut leaves such.
    pub(crate) fn remove_damaged(&self, digest: &Digest, size_bytes: u64) -> Result<()> {
        match self.size_of(digest) {
            Some(size) if size != size_bytes => self.delete(&self.blob_path(digest)).map(drop),
            _ => Ok(()),
        }
    }

    pub(crate) fn ingest(&self) -> Ingest {
        Ingest::new(&self.root)
    }

    /// Deletes what a collection took out of sight and did not live to delete, while the caller goes on.
    fn clear_trash(&self) {
        let Ok(trash) = ingest::open_dir(&self.root.join("trash")) else { return };
        let is_empty = remove::names(&trash).is_ok_and(|names| names.is_empty());
        // Whoever is deleting there needs no help.
        if is_empty || lock::try_exclusive(&trash) != Ok(true) {
            return;
        }
        rayon::spawn(move || {
            // What cannot be deleted now stays for the next time.
            let _freed = remove::remove_children(&trash);
        });
    }
}

/// A blob being written; dropped without [`BlobWriter::commit`] it leaves nothing behind.
pub struct BlobWriter {
    file: File,
    hasher: SideHasher,
    shelf: Shelf,
}

impl BlobWriter {
    /// How many bytes have been written.
    pub fn bytes(&self) -> u64 {
        self.hasher.bytes()
    }

    /// Makes the blob visible under its digest; says the digest and the size in bytes.
    pub fn commit(self) -> Result<(Digest, u64)> {
        let blob = self.close();
        let made = (blob.digest, blob.size_bytes);
        blob.keep()?;
        Ok(made)
    }

    /// Ends the blob, which is not visible yet: only now its digest is known.
    pub fn close(self) -> ClosedBlob {
        let BlobWriter { file, hasher, shelf } = self;
        ClosedBlob { size_bytes: hasher.bytes(), digest: hasher.finish(), file, shelf }
    }

    /// As [`BlobWriter::commit`], but only if the bytes are what `descriptor` promises.
    pub fn commit_verified(self, descriptor: &Descriptor) -> Result<()> {
        let mut blob = self.close();
        // Only now it is known what the blob is to be called by.
        if blob.digest.algorithm() != descriptor.digest.algorithm() {
            blob.rehash(descriptor.digest.algorithm())?;
        }
        let (found_bytes, found) = (blob.size_bytes, blob.digest);
        let (expected, expected_bytes) = (descriptor.digest, descriptor.size);
        let mismatch = if found_bytes != expected_bytes {
            oci::digest::Mismatch::Size { digest: expected, expected_bytes, found_bytes }
        } else if found != expected {
            oci::digest::Mismatch::Digest { expected, found }
        } else {
            return blob.keep();
        };
        let source = io::Error::new(io::ErrorKind::InvalidData, mismatch);
        Err(Error::ReadBlob { digest: expected, source })
    }
}

/// A blob that was written; dropped without [`ClosedBlob::keep`] it leaves nothing behind.
pub struct ClosedBlob {
    /// The digest of its bytes.
    pub digest: Digest,
    /// How many there are.
    pub size_bytes: u64,
    file: File,
    shelf: Shelf,
}

impl ClosedBlob {
    /// Calls the blob by a digest of another algorithm, which takes reading it once more.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn rehash(&mut self, algorithm: Algorithm) -> Result<()> {
        let fail = |source| Error::ReadBlob { digest: self.digest, source };
        self.file.seek(SeekFrom::Start(0)).map_err(fail)?;
        self.digest = trust::hash(&mut self.file, algorithm).map_err(fail)?;
        Ok(())
    }

    /// Makes the blob visible under its digest.
    ///
    /// # Errors
    /// When the store cannot be written.
    pub fn keep(self) -> Result<()> {
        self.shelf.link(&self.file, &self.digest)
    }
}

/// The store in which blobs get their names, and the lease that then keeps them.
pub(crate) struct Shelf {
    root: PathBuf,
    lease: Arc<Lease>,
}

impl Shelf {
    /// Where the blob will be, which from now on nobody collects.
    fn place(&self, digest: &Digest) -> Result<PathBuf> {
        self.lease.hold(Held::Blob(*digest))?;
        let path = self.root.join(digest.blob_path());
        // The usual folder is always there.
        if let (true, Some(folder)) = (digest.algorithm() != Algorithm::Sha256, path.parent()) {
            std::fs::create_dir_all(folder).at("create", folder)?;
        }
        Ok(path)
    }

    /// A twin that another thread or process linked first has the same bytes, unless a power cut came after it.
    pub(crate) fn link(&self, file: &File, digest: &Digest) -> Result<()> {
        let path = self.place(digest)?;
        match link_unnamed(file, &path) {
            Err(Errno::EXIST) if trust::is_in_doubt(&path) => Ingest::new(&self.root).replace_by(&path, file),
            Ok(()) | Err(Errno::EXIST) => Ok(()),
            Err(errno) => Err(errno).at("create", path),
        }
    }

    /// The same of a file that has a name.
    pub(crate) fn move_in(&self, file: &Path, digest: &Digest) -> Result<()> {
        let path = self.place(digest)?;
        match rustix::fs::renameat_with(CWD, file, CWD, &path, RenameFlags::NOREPLACE) {
            Err(Errno::EXIST) if trust::is_in_doubt(&path) => {
                std::fs::rename(file, &path).at("replace", path)
            }
            Err(Errno::EXIST) => std::fs::remove_file(file).at("delete", file),
            moved => moved.at("create", path),
        }
    }
}

impl Write for BlobWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.file.write(bytes)?;
        self.hasher.update(&bytes[..written]);
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Gives a name to a file that has none.
pub(crate) fn link_unnamed(file: &File, path: &Path) -> rustix::io::Result<()> {
    let unnamed = format!("/proc/self/fd/{}", file.as_raw_fd());
    rustix::fs::linkat(CWD, unnamed, CWD, path, AtFlags::SYMLINK_FOLLOW)
}

fn copy(reader: &mut dyn Read, writer: &mut BlobWriter) -> Result<()> {
    let mut buffer = vec![0; 256 * 1024];
    loop {
        let read = retry_read(reader, &mut buffer).map_err(|source| Error::WriteLayer { source })?;
        if read == 0 {
            return Ok(());
        }
        writer.write_all(&buffer[..read]).at("write a blob in", writer.shelf.root.clone())?;
    }
}

pub(crate) fn retry_read(reader: &mut (impl Read + ?Sized), buffer: &mut [u8]) -> io::Result<usize> {
    loop {
        match reader.read(buffer) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            result => return result,
        }
    }
}
