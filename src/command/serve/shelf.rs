//! The store as a registry's storage.
//!
//! The repository `me/app` of `localhost:5000` is what the store knows as `localhost:5000/me/app`, and under the other
//! names of this machine's loopback. A client's name for the server becomes part of an image's name only if it is one
//! of those: what is pushed can never take the name of another registry's image. Whatever else the store has is there
//! to be pulled, under the name that people type: `localhost:5000/debian:bookworm`, `localhost:5000/ghcr.io/me/app:1`.
//!
//! Only what a name refers to outlives the next collection, and what refers to that (`layerfs::layout`). What is pushed by
//! its digest alone is found until then.
//!
//! Invariants: bytes are deleted by a collection only, and a manifest or blob that is deleted here is one that this
//! server no longer shows, by its digest or by a tag; the user's images of other registries stay his all the same. A
//! server that nobody asks for anything keeps nobody from collecting.

use std::collections::BTreeSet;
use std::io::{self, Write};
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use layerfs::layout::StoredImage;
use layerfs::store::{BlobWriter, Store};
use oci::{Descriptor, Digest, Index, MAX_DOCUMENT_BYTES, MediaType, Raw, Reference};
use registry::server::Storage;
use registry::server::storage::{Content, Repository, StoredManifest, Target, Upload};

use crate::command::images;
use crate::failure::is_full_disk;

/// The names of this machine to itself.
const LOOPBACK: [&str; 3] = ["localhost", "127.0.0.1", "[::1]"];

/// How long a store stays open that nobody asks for anything: whoever has pushed a blob pushes what names it sooner.
const REST: Duration = Duration::from_secs(60);

/// How much deleted content is remembered: whoever deletes from ever more repositories shall not fill the memory.
const MAX_GONE: usize = 100_000;

/// What was deleted from which repository, by its name.
type Gone = Arc<Mutex<BTreeSet<(String, Digest)>>>;

/// The store's images as repositories.
pub(super) struct Shelf {
    root: PathBuf,
    open: Mutex<Option<Open>>,
    address: SocketAddr,
    gone: Gone,
    /// Held while a name is given to something else, so that nothing is lost between reading and writing.
    naming: Mutex<()>,
}

/// The store while it is in use.
struct Open {
    store: Arc<Store>,
    used: Instant,
}

impl Shelf {
    /// All of `store`, for a server at `address`.
    pub(super) fn new(store: Store, address: SocketAddr) -> Shelf {
        let (root, used) = (store.root().to_owned(), Instant::now());
        let open = Mutex::new(Some(Open { store: Arc::new(store), used }));
        Shelf { root, open, address, gone: Gone::default(), naming: Mutex::default() }
    }

    /// The store, opened if it was left.
    fn store(&self) -> io::Result<Arc<Store>> {
        let mut open = lock(&self.open);
        let store = match open.take() {
            Some(open) => open.store,
            None => Arc::new(Store::open(&self.root).map_err(io)?),
        };
        *open = Some(Open { store: store.clone(), used: Instant::now() });
        Ok(store)
    }

    /// Leaves a store that nobody has asked for anything for a while, so that it can be collected. To be called now and
    /// then. Who is in the middle of something keeps it open.
    pub(super) fn rest(&self) {
        self.rest_after(REST);
    }

    fn rest_after(&self, rest: Duration) {
        let mut open = lock(&self.open);
        if open.as_ref().is_some_and(|open| open.used.elapsed() >= rest) {
            *open = None;
        }
    }

    /// The name under which `tag` of `repository` is put: the client's for this machine, if it is one.
    fn own_name(&self, repository: &Repository, tag: &str) -> Option<Reference> {
        let asked = LOOPBACK.into_iter().find(|host| *host == without_port(&repository.host));
        let host = self.own_host(asked.unwrap_or(LOOPBACK[0]));
        let name = format!("{host}/{}:{tag}", repository.name).parse::<Reference>();
        name.ok().filter(|name| name.registry() == host)
    }

    /// A name of this machine with the server's port, whatever way a client came.
    fn own_host(&self, host: &str) -> String {
        match self.address.port() {
            80 | 443 => host.to_owned(),
            port => format!("{host}:{port}"),
        }
    }

    /// The names without tag that `repository` has in the store, the server's own ones first.
    fn names(&self, repository: &Repository) -> Vec<String> {
        let mut names = self.own_names(repository);
        names.extend(repository.name.parse::<Reference>().ok().map(|reference| reference.name()));
        names
    }

    fn own_names(&self, repository: &Repository) -> Vec<String> {
        LOOPBACK.iter().map(|host| format!("{}/{}", self.own_host(host), repository.name)).collect()
    }

    fn images(&self) -> io::Result<Vec<StoredImage>> {
        self.store()?.images().map_err(io)
    }

    /// The images that are shown as `repository`, those with the server's own names first. What was deleted is shown
    /// under such a name alone: it was given since.
    fn shown(&self, repository: &Repository) -> io::Result<Vec<StoredImage>> {
        let images = self.images()?;
        let own = self.own_names(repository);
        let mut shown = Vec::new();
        for name in self.names(repository) {
            let has_name = |image: &&StoredImage| {
                image.reference.as_ref().is_some_and(|reference| reference.name() == name)
            };
            let is_shown = |image: &&StoredImage| {
                own.contains(&name) || !self.is_gone(&repository.name, &image.descriptor.digest)
            };
            shown.extend(images.iter().filter(has_name).filter(is_shown).cloned());
        }
        Ok(shown)
    }

    /// Whether the manifest with this digest was deleted, and no image that is shown has it.
    fn is_deleted(&self, repository: &Repository, digest: &Digest) -> io::Result<bool> {
        Ok(self.is_gone(&repository.name, digest)
            && !self.shown(repository)?.iter().any(|image| image.descriptor.digest == *digest))
    }

    fn is_gone(&self, repository: &str, digest: &Digest) -> bool {
        lock(&self.gone).contains(&(repository.to_owned(), *digest))
    }

    /// Keeps collectors away from a blob, if it is there. What is not there is not held: there is no end of it.
    fn hold(store: &Store, digest: &Digest) -> io::Result<bool> {
        Ok(store.has(digest) && store.hold(digest).map_err(io)?.is_some())
    }

    /// Shows it no longer; says whether it was shown.
    fn hide(&self, repository: &Repository, digest: &Digest) -> io::Result<bool> {
        let mut gone = lock(&self.gone);
        if gone.len() >= MAX_GONE {
            let reason = "too much was deleted: the registry has to be started anew";
            return Err(io::Error::new(io::ErrorKind::QuotaExceeded, reason));
        }
        Ok(gone.insert((repository.name.clone(), *digest)))
    }

    /// Gives a name to an image. What had it is no longer listed, unless it has another.
    fn name(store: &Store, name: &Reference, descriptor: &Descriptor) -> layerfs::Result<()> {
        let before = store.images()?.into_iter().find(|image| image.reference.as_ref() == Some(name));
        store.tag(name, descriptor)?;
        if let Some(old) = before.filter(|old| old.descriptor.digest != descriptor.digest) {
            store.forget_nameless(&old.descriptor.digest)?;
        }
        Ok(())
    }
}

impl Storage for Shelf {
    /// On loopback only the loopback's names are this server: else a web page could speak with it, under a name that
    /// its owner lets point here.
    fn objection(&self, host: &str) -> Option<String> {
        let host = without_port(host);
        let address = host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
        let is_own =
            host.is_empty() || host == "localhost" || address.is_ok_and(|address| address.is_loopback());
        (self.address.ip().is_loopback() && !is_own)
            .then(|| format!("this registry is `localhost:{}`, not `{host}`", self.address.port()))
    }

    fn blob(&self, repository: &Repository, digest: &Digest) -> io::Result<Option<Content>> {
        if self.is_gone(&repository.name, digest) {
            return Ok(None);
        }
        let store = self.store()?;
        // Who asks for it may be about to push what names it.
        if !Shelf::hold(&store, digest)? {
            return Ok(None);
        }
        match store.open_blob(digest) {
            Ok(file) => {
                let length = file.metadata()?.len();
                Ok(Some(Content::File(file, length)))
            }
            Err(layerfs::Error::MissingBlob { .. }) => Ok(None),
            Err(error) => Err(io(error)),
        }
    }

    fn mount(&self, _from: Option<&str>, to: &Repository, digest: &Digest) -> io::Result<bool> {
        // The store has each blob once, for whoever names it. It is held: the client does not send it.
        let is_here = Shelf::hold(&*self.store()?, digest)?;
        if is_here {
            lock(&self.gone).remove(&(to.name.clone(), *digest));
        }
        Ok(is_here)
    }

    fn remove_blob(&self, repository: &Repository, digest: &Digest) -> io::Result<bool> {
        Ok(self.store()?.has(digest) && self.hide(repository, digest)?)
    }

    fn begin(&self, _: &Repository) -> io::Result<Box<dyn Upload>> {
        let store = self.store()?;
        let writer = store.writer().map_err(io)?;
        Ok(Box::new(Incoming { writer, gone: self.gone.clone(), _store: store }))
    }

    fn manifest(&self, repository: &Repository, target: &Target) -> io::Result<Option<StoredManifest>> {
        let tag = match target {
            Target::Tag(tag) => tag,
            Target::Digest(digest) if self.is_deleted(repository, digest)? => return Ok(None),
            Target::Digest(digest) => {
                let found = self.store()?.find_document(digest);
                return Ok(found.map(|document| StoredManifest {
                    media_type: document.descriptor().media_type,
                    bytes: document.bytes().to_vec(),
                    digest: *digest,
                }));
            }
        };
        let has_tag = |image: &StoredImage| image.reference.as_ref().and_then(|name| name.tag()) == Some(tag);
        let Some(image) = self.shown(repository)?.into_iter().find(has_tag) else { return Ok(None) };
        match self.store()?.read_document(&image.descriptor) {
            Ok(bytes) => {
                let Descriptor { media_type, digest, .. } = image.descriptor;
                Ok(Some(StoredManifest { media_type, bytes, digest }))
            }
            Err(layerfs::Error::MissingBlob { .. }) => Ok(None),
            Err(error) => Err(io(error)),
        }
    }

    fn put_manifest(
        &self,
        repository: &Repository,
        tag: Option<&str>,
        manifest: &StoredManifest,
    ) -> io::Result<()> {
        let store = self.store()?;
        let algorithm = manifest.digest.algorithm();
        let digest = store.put_bytes_by(algorithm, &manifest.bytes).map_err(io)?;
        lock(&self.gone).remove(&(repository.name.clone(), digest));
        let Some(tag) = tag else { return Ok(()) };
        let name = self.own_name(repository, tag).ok_or(io::ErrorKind::InvalidInput)?;
        let size = manifest.bytes.len() as u64;
        let _naming = lock(&self.naming);
        Shelf::name(&store, &name, &Descriptor::new(manifest.media_type.clone(), digest, size)).map_err(io)
    }

    fn remove_manifest(&self, repository: &Repository, target: &Target) -> io::Result<bool> {
        let own = self.own_names(repository);
        let is_meant = |image: &StoredImage| match (&image.reference, target) {
            (Some(name), Target::Tag(tag)) => own.contains(&name.name()) && name.tag() == Some(tag),
            (Some(name), Target::Digest(digest)) => {
                own.contains(&name.name()) && image.descriptor.digest == *digest
            }
            (None, _) => false,
        };
        let _naming = lock(&self.naming);
        let mut is_found = false;
        for name in self.images()?.iter().filter(|image| is_meant(image)).filter_map(|i| i.reference.as_ref())
        {
            is_found |= self.store()?.untag(name).map_err(io)?;
        }
        if let Target::Digest(digest) = target {
            is_found |= self.store()?.find_document(digest).is_some() && self.hide(repository, digest)?;
            self.store()?.forget_referrer(digest).map_err(io)?;
        }
        Ok(is_found)
    }

    fn tags(&self, repository: &Repository) -> io::Result<Option<Vec<String>>> {
        let names = self.shown(repository)?.into_iter().filter_map(|image| image.reference);
        let tags: Vec<String> = names.filter_map(|name| name.tag().map(str::to_owned)).collect();
        let is_known = !tags.is_empty();
        Ok(is_known.then_some(tags))
    }

    fn repositories(&self, _host: &str) -> io::Result<Vec<String>> {
        let own = LOOPBACK.map(|host| self.own_host(host));
        let images = self.images()?;
        let shown = |image: &StoredImage| {
            let reference = image.reference.as_ref()?;
            if own.iter().any(|host| host == reference.registry()) {
                return Some(reference.repository().to_owned());
            }
            // A port has a colon, which no repository has.
            let name = Some(images::repository(reference)).filter(|name| !name.contains(':'));
            name.filter(|name| !self.is_gone(name, &image.descriptor.digest))
        };
        Ok(images.iter().filter_map(shown).collect())
    }

    fn add_referrer(
        &self,
        _repository: &Repository,
        subject: &Digest,
        referrer: &Descriptor,
    ) -> io::Result<()> {
        let store = self.store()?;
        let mut all = store.referrers(subject).map_err(io)?;
        all.retain(|other| other.digest != referrer.digest);
        all.push(referrer.clone());
        if Raw::write(Index::oci(all)).size() > MAX_DOCUMENT_BYTES {
            // It could not be read again by whoever asks what refers to the subject.
            let reason = format!("too much refers to `{subject}`: its list has no room for more");
            return Err(io::Error::new(io::ErrorKind::FileTooLarge, reason));
        }
        store.add_referrer(subject, referrer).map_err(io)
    }

    fn referrers(&self, repository: &Repository, subject: &Digest) -> io::Result<Vec<Descriptor>> {
        let mut all = self.store()?.referrers(subject).map_err(io)?;
        all.retain(|entry| !self.is_gone(&repository.name, &entry.digest));
        Ok(all)
    }
}

/// A blob that is being pushed: a file without a name, so that nothing is left of it whatever happens.
struct Incoming {
    writer: BlobWriter,
    gone: Gone,
    /// Nobody collects while something is on its way.
    _store: Arc<Store>,
}

impl Write for Incoming {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.writer.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.writer.flush()
    }
}

impl Upload for Incoming {
    fn bytes(&self) -> u64 {
        self.writer.bytes()
    }

    fn commit(self: Box<Self>, repository: &Repository, digest: &Digest) -> io::Result<bool> {
        let bytes = self.writer.bytes();
        let kind = MediaType::Other("application/octet-stream".to_owned());
        match self.writer.commit_verified(&Descriptor::new(kind, *digest, bytes)) {
            Ok(()) => {
                lock(&self.gone).remove(&(repository.name.clone(), *digest));
                Ok(true)
            }
            Err(layerfs::Error::ReadBlob { .. }) => Ok(false),
            Err(error) => Err(io(error)),
        }
    }
}

/// A host without its port.
fn without_port(host: &str) -> &str {
    let after_address = host.rfind(']').map_or(0, |at| at + 1);
    host[after_address..].find(':').map_or(host, |at| &host[..after_address + at])
}

/// A failure of the store as that of a storage: a full disk is told from others.
fn io(error: layerfs::Error) -> io::Error {
    match is_full_disk(&error) {
        true => io::Error::new(io::ErrorKind::StorageFull, error),
        false => io::Error::other(error),
    }
}

/// What these locks guard is whole between any two statements.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use layerfs::gc::Roots;
    use oci::Raw;

    use super::*;

    fn shelf(address: &str) -> (tempfile::TempDir, Shelf) {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(&folder.path().join("store")).unwrap();
        (folder, Shelf::new(store, address.parse().unwrap()))
    }

    fn repository(host: &str, name: &str) -> Repository {
        Repository { host: host.to_owned(), name: name.to_owned() }
    }

    #[test]
    fn what_is_pushed_never_takes_the_name_of_another_registry() {
        let (_folder, shelf) = shelf("0.0.0.0:5000");
        for (host, expected) in [
            ("localhost:5000", "localhost:5000/debian:1"),
            ("127.0.0.1:5001", "127.0.0.1:5000/debian:1"),
            ("[::1]:5000", "[::1]:5000/debian:1"),
            ("localhost", "localhost:5000/debian:1"),
            ("docker.io", "localhost:5000/debian:1"),
            ("registry.example:5000", "localhost:5000/debian:1"),
            ("localhost:x", "localhost:5000/debian:1"),
            ("", "localhost:5000/debian:1"),
            ("x/../docker.io", "localhost:5000/debian:1"),
        ] {
            let name = shelf.own_name(&repository(host, "debian"), "1").unwrap();
            assert_eq!(name.to_string(), expected, "{host}");
        }
    }

    #[test]
    fn on_loopback_only_loopbacks_names_are_answered() {
        let (_folder, shelf) = shelf("127.0.0.1:5000");
        for (host, is_own) in [
            ("localhost:5000", true),
            ("127.0.0.1", true),
            ("127.8.8.8:1", true),
            ("[::1]:5000", true),
            ("", true),
            ("evil.example:5000", false),
            ("localhost.evil.example", false),
            ("169.254.169.254", false),
        ] {
            assert_eq!(shelf.objection(host).is_none(), is_own, "{host}");
        }
        let (_other, everywhere) = super::tests::shelf("0.0.0.0:5000");
        assert_eq!(everywhere.objection("registry.example"), None);
    }

    #[test]
    fn an_idle_server_holds_nothing_back_from_collectors() {
        let (folder, shelf) = shelf("127.0.0.1:5000");
        let blob = shelf.store().unwrap().put_bytes(b"pushed and not named yet").unwrap();
        let other = Store::open(&folder.path().join("store")).unwrap();
        let survives = || {
            other.collect(|_| Ok(Roots::default())).unwrap();
            other.has(&blob)
        };
        assert!(survives());
        shelf.rest();
        assert!(survives(), "it was used just now");
        let upload = shelf.begin(&repository("localhost:5000", "app")).unwrap();
        shelf.rest_after(Duration::ZERO);
        assert!(survives(), "something is on its way");
        drop(upload);
        assert!(!survives());
    }

    #[test]
    fn a_name_that_moves_leaves_nothing_behind() {
        let (_folder, shelf) = shelf("127.0.0.1:5000");
        let to = repository("localhost:5000", "app");
        let put = |note: &str, tag: Option<&str>| {
            let config = Descriptor::new(MediaType::OciConfig, Digest::of(note.as_bytes()), 1);
            let bytes = Raw::write(oci::Manifest::oci(config, Vec::new())).bytes().to_vec();
            let digest = Digest::of(&bytes);
            let manifest = StoredManifest { media_type: MediaType::OciManifest, bytes, digest };
            shelf.put_manifest(&to, tag, &manifest).unwrap();
            digest
        };
        let (first, second) = (put("a", Some("1")), put("b", Some("1")));
        let listed: Vec<_> =
            shelf.images().unwrap().into_iter().map(|image| image.descriptor.digest).collect();
        assert_eq!(listed, [second]);
        let by_digest = |digest| shelf.manifest(&to, &Target::Digest(digest)).unwrap().is_some();
        assert!(by_digest(first) && by_digest(second));
        let other = repository("127.0.0.1:5000", "app");
        assert!(shelf.manifest(&other, &Target::Tag("1".into())).unwrap().is_some());
        assert!(shelf.remove_manifest(&to, &Target::Digest(second)).unwrap());
        assert!(!shelf.remove_manifest(&to, &Target::Digest(second)).unwrap());
        assert!(!by_digest(second) && shelf.tags(&to).unwrap().is_none());
        assert_eq!(put("b", None), second);
        assert!(by_digest(second));
    }

    #[test]
    fn what_is_deleted_is_shown_under_no_name() {
        let (_folder, shelf) = shelf("127.0.0.1:5000");
        let store = shelf.store().unwrap();
        let config = Descriptor::new(MediaType::OciConfig, Digest::of(b"{}"), 2);
        let manifest = Raw::write(oci::Manifest::oci(config, Vec::new()));
        let digest = store.put_bytes(manifest.bytes()).unwrap();
        let image = Descriptor::new(MediaType::OciManifest, digest, manifest.size());
        let names = ["docker.io/library/debian:1", "localhost:5000/debian:2", "localhost:5000/debian:3"];
        let names = names.map(|name| name.parse::<Reference>().unwrap());
        for name in &names[..2] {
            store.tag(name, &image).unwrap();
        }
        let to = repository("localhost:5000", "debian");
        let shows = |target: Target| shelf.manifest(&to, &target).unwrap().is_some();
        let tag = |tag: &str| Target::Tag(tag.to_owned());
        assert_eq!(shelf.tags(&to).unwrap().unwrap(), ["2", "1"]);
        assert_eq!(shelf.repositories("").unwrap(), ["debian", "debian"]);
        assert!(shelf.remove_manifest(&to, &Target::Digest(digest)).unwrap());
        assert!(!shows(Target::Digest(digest)) && !shows(tag("1")) && !shows(tag("2")));
        assert_eq!((shelf.tags(&to).unwrap(), shelf.repositories("").unwrap()), (None, Vec::new()));
        let kept: Vec<_> = shelf.images().unwrap().into_iter().filter_map(|image| image.reference).collect();
        assert_eq!(kept, names[..1], "an image of another registry is not the server's to delete");
        // Whoever names it for this server since wants it to be here.
        store.tag(&names[2], &image).unwrap();
        assert!(shows(Target::Digest(digest)) && shows(tag("3")) && !shows(tag("1")));
        assert_eq!(shelf.tags(&to).unwrap().unwrap(), ["3"]);
        assert!(shelf.remove_manifest(&to, &Target::Digest(digest)).unwrap());
        assert!(!shows(Target::Digest(digest)) && !shows(tag("3")));
    }

    #[test]
    fn what_clients_make_it_remember_has_an_end() {
        let (_folder, shelf) = shelf("127.0.0.1:5000");
        let to = repository("localhost:5000", "app");
        let absent = Digest::of(b"absent");
        assert!(!shelf.remove_manifest(&to, &Target::Digest(absent)).unwrap());
        assert!(!shelf.is_gone(&to.name, &absent), "what was not there is not remembered");
        let blob = shelf.store().unwrap().put_bytes(b"there").unwrap();
        let leases =
            || std::fs::read_dir(shelf.root.join("leases")).unwrap().map(|lease| lease.unwrap().path());
        assert!(shelf.blob(&to, &absent).unwrap().is_none() && !shelf.mount(None, &to, &absent).unwrap());
        assert!(leases().all(|lease| !std::fs::read_to_string(lease).unwrap().contains(&absent.hex())));
        let numbers = (0..MAX_GONE).map(|number| (format!("other-{number}"), blob));
        lock(&shelf.gone).extend(numbers);
        let refused = shelf.remove_blob(&to, &blob).unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::QuotaExceeded);
        let referrer = |text: &str| {
            let digest = shelf.store().unwrap().put_bytes(text.as_bytes()).unwrap();
            let mut referrer = Descriptor::new(MediaType::OciManifest, digest, text.len() as u64);
            referrer.annotations.insert("long".to_owned(), "x".repeat(3 << 20));
            referrer
        };
        shelf.add_referrer(&to, &blob, &referrer("one")).unwrap();
        let refused = shelf.add_referrer(&to, &blob, &referrer("two")).unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::FileTooLarge);
        assert_eq!(shelf.referrers(&to, &blob).unwrap().len(), 1, "and those before are still read");
    }

    #[test]
    fn a_full_disk_is_told_from_other_failures() {
        let fail = |kind: io::ErrorKind| {
            let path = PathBuf::from("ingest");
            io(layerfs::Error::File { act: "write", path, source: kind.into() }).kind()
        };
        assert_eq!(fail(io::ErrorKind::StorageFull), io::ErrorKind::StorageFull);
        assert_eq!(fail(io::ErrorKind::QuotaExceeded), io::ErrorKind::StorageFull);
        assert_eq!(fail(io::ErrorKind::PermissionDenied), io::ErrorKind::Other);
    }

    #[test]
    fn what_is_mounted_outlives_a_collection() {
        let (folder, shelf) = shelf("127.0.0.1:5000");
        let other = Store::open(&folder.path().join("store")).unwrap();
        let blob = other.put_bytes(b"of an image that goes").unwrap();
        drop(other);
        assert!(shelf.mount(None, &repository("localhost:5000", "app"), &blob).unwrap());
        let collector = Store::open(&folder.path().join("store")).unwrap();
        collector.collect(|_| Ok(Roots::default())).unwrap();
        assert!(collector.has(&blob));
    }
}
