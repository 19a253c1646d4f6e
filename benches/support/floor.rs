//! What no builder can do without, done with nothing around it: a walk, a copy and a hash.

use std::fs::{self, File};
use std::io::Read as _;
use std::mem::MaybeUninit;
use std::path::{Path, PathBuf};
use std::sync::{Condvar, Mutex};
use std::thread;

use rustix::fs::{AtFlags, FileType, Mode, OFlags, RawDir, StatxFlags};
use sha2::{Digest as _, Sha256};

/// Directories that wait, and how many threads may still find more.
struct Queue {
    folders: Vec<PathBuf>,
    busy: usize,
    entries: usize,
}

/// Reads every directory below `folder` and asks for the status of every entry, with a thread a processor; gives the
/// number of entries.
pub(crate) fn walk(folder: &Path) -> usize {
    let threads = thread::available_parallelism().map_or(1, usize::from);
    let queue = Mutex::new(Queue { folders: vec![folder.to_owned()], busy: 0, entries: 0 });
    let changed = Condvar::new();
    thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| walk_some(&queue, &changed));
        }
    });
    queue.into_inner().expect("no panic").entries
}

fn walk_some(queue: &Mutex<Queue>, changed: &Condvar) {
    loop {
        let mut waiting = queue.lock().expect("no panic");
        let folder = loop {
            if let Some(folder) = waiting.folders.pop() {
                break folder;
            }
            if waiting.busy == 0 {
                return;
            }
            waiting = changed.wait(waiting).expect("no panic");
        };
        waiting.busy += 1;
        drop(waiting);
        let mut found = Vec::new();
        let entries = list(&folder, &mut found);
        let mut waiting = queue.lock().expect("no panic");
        waiting.busy -= 1;
        waiting.entries += entries;
        waiting.folders.append(&mut found);
        drop(waiting);
        changed.notify_all();
    }
}

/// One directory: the number of its entries, and its directories into `found`.
fn list(folder: &Path, found: &mut Vec<PathBuf>) -> usize {
    let handle =
        rustix::fs::open(folder, OFlags::RDONLY | OFlags::DIRECTORY, Mode::empty()).expect("a folder");
    let mut buffer = [MaybeUninit::uninit(); 32768];
    let mut reader = RawDir::new(&handle, &mut buffer);
    let mut entries = 0;
    while let Some(entry) = reader.next() {
        let entry = entry.expect("an entry");
        let name = entry.file_name();
        if matches!(name.to_bytes(), b"." | b"..") {
            continue;
        }
        rustix::fs::statx(&handle, name, AtFlags::SYMLINK_NOFOLLOW, StatxFlags::BASIC_STATS)
            .expect("a status");
        entries += 1;
        if entry.file_type() == FileType::Directory {
            found.push(folder.join(name.to_str().expect("a name in UTF-8")));
        }
    }
    entries
}

/// Every byte below `folder` through one SHA-256.
pub(crate) fn hash(folder: &Path) -> [u8; 32] {
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; 1 << 20];
    hash_into(folder, &mut hasher, &mut buffer);
    hasher.finalize().into()
}

fn hash_into(folder: &Path, hasher: &mut Sha256, buffer: &mut [u8]) {
    for entry in fs::read_dir(folder).expect("a folder") {
        let entry = entry.expect("an entry");
        if entry.file_type().expect("a type").is_dir() {
            hash_into(&entry.path(), hasher, buffer);
            continue;
        }
        let mut file = File::open(entry.path()).expect("a file");
        while let Ok(length @ 1..) = file.read(buffer) {
            hasher.update(&buffer[..length]);
        }
    }
}
