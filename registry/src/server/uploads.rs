//! Uploads: in one request, in two, in chunks, and without any byte by a mount. (OCI distribution-spec, "Pushing
//! blobs".)
//!
//! Invariants: the bytes of an upload are a prefix of what its client sent, in order, however often the connection
//! breaks; requests for one upload wait for each other; an upload that nobody goes on with is forgotten.

use std::collections::HashMap;
use std::io::{self, Write as _};
use std::sync::{Arc, Mutex, PoisonError, TryLockError};
use std::time::{Duration, Instant};

use super::Limits;
use super::api::{Answer, Api, Refusal, refuse, wrong_method};
use super::blobs::parse_digest;
use super::http::{Reply, Request};
use super::storage::{Repository, Upload};
use crate::transport::lock;

const BUFFER_BYTES: usize = 256 * 1024;
/// How long an upload is left alone at least before another one takes its place.
const WHILE: Duration = Duration::from_secs(60);

/// All uploads in progress, by id.
pub(super) struct Uploads {
    open: Mutex<HashMap<String, Arc<Mutex<Session>>>>,
    most: usize,
    idle_time: Duration,
}

/// An upload that its client may go on with.
pub(super) struct Session {
    repository: Repository,
    /// None once it is committed.
    upload: Option<Box<dyn Upload>>,
    touched: Instant,
}

impl Uploads {
    pub(super) fn new(limits: Limits) -> Uploads {
        Uploads { open: Mutex::default(), most: limits.uploads, idle_time: limits.upload_idle_time }
    }

    #[cfg(feature = "testing")]
    pub(super) fn count(&self) -> usize {
        lock(&self.open).len()
    }

    pub(super) fn find(&self, id: &str) -> Option<Arc<Mutex<Session>>> {
        lock(&self.open).get(id).cloned()
    }

    /// Keeps an upload, unless there are too many; forgets those that were left.
    fn keep(&self, session: Session) -> Result<String, Refusal> {
        self.forget_idle();
        let mut open = lock(&self.open);
        if open.len() >= self.most && !make_room(&mut open) {
            let refusal = refuse(429, "TOOMANYREQUESTS", "too many uploads are open");
            return Err(refusal.with("retry-after", 10).into());
        }
        let id = random_id()?;
        open.insert(id.clone(), Arc::new(Mutex::new(session)));
        Ok(id)
    }

    /// Forgets the uploads that were left, with their bytes.
    pub(super) fn forget_idle(&self) {
        lock(&self.open).retain(|_, session| match session.try_lock() {
            Ok(session) => session.touched.elapsed() < self.idle_time,
            Err(TryLockError::Poisoned(_)) => false,
            Err(TryLockError::WouldBlock) => true,
        });
    }

    fn forget(&self, id: &str) {
        lock(&self.open).remove(id);
    }
}

/// Forgets the upload that was left longest, if that is a while: most that are left are never gone on with.
fn make_room(open: &mut HashMap<String, Arc<Mutex<Session>>>) -> bool {
    let touched = |session: &Mutex<Session>| session.try_lock().ok().map(|session| session.touched);
    let left = open.iter().filter_map(|(id, session)| Some((touched(session)?, id.clone()))).min();
    match left {
        Some((touched, id)) if touched.elapsed() >= WHILE => open.remove(&id).is_some(),
        _ => false,
    }
}

/// 128 bits that nobody guesses.
fn random_id() -> io::Result<String> {
    let mut bytes = [0; 16];
    let random = rustls::crypto::ring::default_provider().secure_random;
    random.fill(&mut bytes).map_err(|_| io::Error::other("this machine has no random numbers"))?;
    Ok(format!("{:032x}", u128::from_ne_bytes(bytes)))
}

impl Api {
    pub(super) fn upload(&self, request: &mut Request<'_>, repository: &Repository, id: &str) -> Answer {
        if id.is_empty() {
            return match request.head.method.as_str() {
                "POST" => self.begin(request, repository),
                _ => Ok(wrong_method("POST")),
            };
        }
        let unknown = || refuse(404, "BLOB_UPLOAD_UNKNOWN", "blob upload unknown to the registry");
        let session = self.uploads.find(id).ok_or_else(unknown)?;
        // Who writes at the moment may be a connection that is gone and has not noticed; its end is waited for.
        let mut session = session.lock().unwrap_or_else(PoisonError::into_inner);
        session.touched = Instant::now();
        if session.repository.name != repository.name || session.upload.is_none() {
            return Err(unknown().into());
        }
        match request.head.method.as_str() {
            "GET" | "HEAD" => Ok(at(&session, id, 204)),
            "PATCH" => {
                append(request, &mut session, id)?;
                session.touched = Instant::now();
                Ok(at(&session, id, 202))
            }
            "PUT" => {
                let digest = request.head.query("digest").unwrap_or_default();
                let digest = parse_digest(&digest)?;
                append(request, &mut session, id)?;
                self.uploads.forget(id);
                let Some(upload) = session.upload.take() else { return Err(unknown().into()) };
                self.finish(upload, repository, &digest)
            }
            "DELETE" => {
                session.upload = None;
                self.uploads.forget(id);
                Ok(Reply::new(204))
            }
            _ => Ok(wrong_method("GET, HEAD, PATCH, PUT, DELETE")),
        }
    }

    fn begin(&self, request: &mut Request<'_>, repository: &Repository) -> Answer {
        if let Some(digest) = request.head.query("mount") {
            // Whatever does not mount becomes an upload: the client has the bytes.
            if let Ok(digest) = parse_digest(&digest)
                && self.storage.mount(request.head.query("from").as_deref(), repository, &digest)?
            {
                return Ok(created(repository, &digest));
            }
        }
        let digest = request.head.query("digest").filter(|_| request.head.query("mount").is_none());
        let digest = digest.map(|digest| parse_digest(&digest)).transpose()?;
        let upload = self.storage.begin(repository)?;
        let mut session =
            Session { repository: repository.clone(), upload: Some(upload), touched: Instant::now() };
        if let Some(digest) = digest {
            append(request, &mut session, "")?;
            let upload = session.upload.take().ok_or(Refusal::Gone)?;
            return self.finish(upload, repository, &digest);
        }
        let id = self.uploads.keep(session)?;
        let session = self.uploads.find(&id).ok_or(Refusal::Gone)?;
        let session = session.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(at(&session, &id, 202))
    }

    fn finish(&self, upload: Box<dyn Upload>, repository: &Repository, digest: &oci::Digest) -> Answer {
        match upload.commit(repository, digest)? {
            true => Ok(created(repository, digest)),
            false => Ok(refuse(400, "DIGEST_INVALID", "the bytes have another digest than promised")),
        }
    }
}

fn created(repository: &Repository, digest: &oci::Digest) -> Reply {
    Reply::new(201)
        .with("location", format!("/v2/{}/blobs/{digest}", repository.name))
        .with("docker-content-digest", digest)
}

/// Where the upload is and how far it has come. `0-0` stands for no byte as well as for one: the specification has no
/// range for nothing.
fn at(session: &Session, id: &str, status: u16) -> Reply {
    let bytes = session.upload.as_ref().map_or(0, |upload| upload.bytes());
    Reply::new(status)
        .with("location", format!("/v2/{}/blobs/uploads/{id}", session.repository.name))
        .with("range", format!("0-{}", bytes.saturating_sub(1)))
        .with("docker-upload-uuid", id)
}

/// Writes the request's body behind what is there, unless it says that it belongs elsewhere.
fn append(request: &mut Request<'_>, session: &mut Session, id: &str) -> Result<(), Refusal> {
    if let Some(range) = request.head.header("content-range") {
        let here = session.upload.as_ref().map_or(0, |upload| upload.bytes());
        let announced = request.head.header("content-length").and_then(|length| length.parse::<u64>().ok());
        let fits = parse_range(range).is_some_and(|(start, end)| {
            start == here && announced.is_none_or(|length| length.checked_sub(1) == Some(end - start))
        });
        if !fits {
            let refusal = refuse(416, "RANGE_INVALID", "expected the bytes that follow those that are here");
            let headers = at(session, id, 416).headers;
            return Err(headers.iter().fold(refusal, |reply, (name, value)| reply.with(name, value)).into());
        }
    }
    let mut buffer = vec![0; BUFFER_BYTES];
    loop {
        let count = match request.body.read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            // What came stays: the client asks how much that is, and goes on.
            Err(_) => return Err(Refusal::Gone),
        };
        session.upload.as_mut().ok_or(Refusal::Gone)?.write_all(&buffer[..count])?;
        session.touched = Instant::now();
    }
}

/// `0-9`, with or without a unit.
fn parse_range(text: &str) -> Option<(u64, u64)> {
    let text = text.trim().strip_prefix("bytes").unwrap_or(text).trim_start_matches(['=', ' ']);
    let (start, end) = text.split('/').next()?.split_once('-')?;
    let number = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok())?;
    let (start, end) = (number(start.trim())?, number(end.trim())?);
    (start <= end).then_some((start, end))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_a_chunk_says_of_itself() {
        for (text, expected) in [
            ("0-9", Some((0, 9))),
            ("bytes=5-5", Some((5, 5))),
            ("bytes 5-9/10", Some((5, 9))),
            ("9-5", None),
            ("5", None),
            ("-5", None),
            ("a-b", None),
            ("+0-9", None),
            ("0-18446744073709551615", Some((0, u64::MAX))),
            ("0-18446744073709551616", None),
        ] {
            assert_eq!(parse_range(text), expected, "{text}");
        }
    }

    #[test]
    fn ids_differ() {
        let ids: std::collections::BTreeSet<_> = (0..100).map(|_| random_id().unwrap()).collect();
        assert_eq!(ids.len(), 100);
        assert!(ids.iter().all(|id| id.len() == 32));
    }

    /// Bytes of which is known whether they are still there.
    struct Bytes {
        _alive: Arc<()>,
    }

    impl io::Write for Bytes {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl Upload for Bytes {
        fn bytes(&self) -> u64 {
            0
        }

        fn commit(self: Box<Self>, _: &Repository, _: &oci::Digest) -> io::Result<bool> {
            Ok(true)
        }
    }

    fn session(alive: &Arc<()>, left: Duration) -> Session {
        let repository = Repository { host: String::new(), name: "a".to_owned() };
        let touched = Instant::now().checked_sub(left).expect("the machine was started before");
        Session { repository, upload: Some(Box::new(Bytes { _alive: alive.clone() })), touched }
    }

    #[test]
    fn of_too_many_uploads_the_one_that_was_left_longest_goes() {
        let uploads = Uploads::new(Limits { uploads: 2, ..Limits::default() });
        let (old, new) = (Arc::new(()), Arc::new(()));
        assert!(uploads.keep(session(&new, WHILE / 2)).is_ok());
        assert!(uploads.keep(session(&old, 2 * WHILE)).is_ok());
        assert!(uploads.keep(session(&new, Duration::ZERO)).is_ok());
        assert_eq!((Arc::strong_count(&old), Arc::strong_count(&new)), (1, 3));
        assert!(uploads.keep(session(&new, Duration::ZERO)).is_err(), "these may still go on");
    }

    #[test]
    fn what_is_left_alone_is_forgotten_without_another_upload() {
        let uploads = Uploads::new(Limits { upload_idle_time: Duration::ZERO, ..Limits::default() });
        let alive = Arc::new(());
        let kept = uploads.keep(session(&alive, Duration::ZERO));
        let id = kept.unwrap_or_else(|_| panic!("there is room"));
        let session = uploads.find(&id).unwrap();
        {
            let _somebody_writes = lock(&session);
            uploads.forget_idle();
            assert!(uploads.find(&id).is_some());
        }
        drop(session);
        uploads.forget_idle();
        assert!(uploads.find(&id).is_none());
        assert_eq!(Arc::strong_count(&alive), 1, "its bytes are gone");
    }
}
