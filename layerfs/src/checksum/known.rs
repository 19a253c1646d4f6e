//! Records of the files of one directory tree, kept between builds, so that a file is read again only when the
//! kernel says that something about it has changed.
//!
//! Here: the rows, when one is believed, the file they are kept in. Not here: what a record is ([`super`]).
//!
//! A row says: this inode, with this length and these times, has that record. Nobody can set the time of a
//! file's last change, so a row that agrees with the kernel in all of them is true, with two exceptions, which
//! are kept out: a file that was changed just before it was read, since a second change within the same tick
//! of the clock would have the same time (git calls such an entry racy), and file systems whose clock is not this
//! machine's.
//!
//! Form of `contexts/<hex>`, numbers in little endian: [`FORM`], rows of [`ROW_BYTES`] sorted by inode, and
//! the CRC-32 of all before it. A file in another form counts as none. Two builds that write it at once replace one
//! another's; each is whole.

use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use oci::Digest;
use rustix::fd::AsFd;
use rustix::time::{ClockId, clock_gettime};

use crate::confined::{Metadata, Owner, Root, Time};
use crate::ingest::Ingest;
use crate::store::Store;
use crate::{IoResultExt, Result};

const FORM: &[u8] = b"lbuild known files 1\n";
/// What the kernel says of a file, as it is compared.
const STAMP_BYTES: usize = 44;
/// A stamp, which begins with the inode's number, and a record.
const ROW_BYTES: usize = STAMP_BYTES + 32;

/// File systems of this machine, whose times come from its own clock: `statfs(2)`.
const LOCAL: [u32; 8] = [
    0xef53,      // ext4
    0x5846_5342, // xfs
    0x9123_683e, // btrfs
    0x0102_1994, // tmpfs
    0x794c_7630, // overlayfs
    0xf2f5_2010, // f2fs
    0x2fc1_2fc1, // zfs
    0xca45_1a4e, // bcachefs
];

/// The longest tick of a kernel's clock is 10 ms; some more for the kernel's own delays.
const TICK: Time = Time { seconds: 0, nanoseconds: 50_000_000 };
/// Where times are whole seconds.
const SECOND: Time = Time { seconds: 2, nanoseconds: 0 };

type Stamp = [u8; STAMP_BYTES];
type Row = (Stamp, Digest);

/// What is known of the files of one tree.
#[derive(Debug)]
pub struct Known {
    path: PathBuf,
    ingest: Ingest,
    owner: Option<Owner>,
    /// The file system that rows are about; none if nothing can be known of it.
    device: Option<(u32, u32)>,
    /// When this was opened: what has changed since, or just before, may change unseen.
    opened: Time,
    /// The file, of which [`Known::rows`] are the sorted rows.
    file: Vec<u8>,
    /// A bit a row: whether it was asked for.
    used: Vec<AtomicU64>,
    fresh: Mutex<Vec<Row>>,
}

impl Store {
    /// What is known of the files below `root` when they are taken to have this owner.
    ///
    /// # Errors
    /// When `root` cannot be examined. What cannot be read of what was known counts as unknown.
    pub fn known(&self, root: &Root, owner: Option<Owner>) -> Result<Known> {
        let metadata = Metadata::of(root.as_fd()).at("read the metadata of", "/")?;
        let kind = rustix::fs::fstatfs(root.as_fd()).at("examine the file system of", "/")?.f_type;
        let is_local = u32::try_from(kind).is_ok_and(|kind| LOCAL.contains(&kind));
        let (device, inode) = metadata.inode;
        let name = Digest::of(format!("{device:?} {inode} {owner:?}").as_bytes());
        let path = self.root().join("contexts").join(name.hex());
        let file = if is_local { read(&path) } else { Vec::new() };
        let used = (0..(file.len() / ROW_BYTES).div_ceil(64)).map(|_| AtomicU64::new(0)).collect();
        let now = clock_gettime(ClockId::RealtimeCoarse);
        let nanoseconds = u32::try_from(now.tv_nsec).unwrap_or(0);
        Ok(Known {
            path,
            ingest: self.ingest(),
            owner,
            device: is_local.then_some(device),
            opened: Time { seconds: now.tv_sec, nanoseconds },
            file,
            used,
            fresh: Mutex::default(),
        })
    }
}

impl Known {
    /// The owner that files are taken to have.
    pub(super) fn owner(&self) -> Option<Owner> {
        self.owner
    }

    /// The record of the file of which the kernel says this, if nothing about it can have changed.
    pub(super) fn get(&self, found: &Metadata) -> Option<Digest> {
        if self.device != Some(found.inode.0) {
            return None;
        }
        let stamp = stamp(found);
        let nth = self.find(&stamp)?;
        let row = self.row(nth);
        if row[..STAMP_BYTES] != stamp {
            return None;
        }
        self.used[nth / 64].fetch_or(1 << (nth % 64), Ordering::Relaxed);
        Some(Digest::from_bytes(row[STAMP_BYTES..].try_into().expect("a row ends with 32 bytes")))
    }

    /// Remembers records that have just been made.
    pub(super) fn put<'a>(&self, records: impl Iterator<Item = (&'a Metadata, Digest)>) {
        let worthy =
            records.filter(|(found, _)| self.device == Some(found.inode.0) && self.is_settled(found));
        let rows = worthy.map(|(found, record)| (stamp(found), record));
        self.fresh.lock().unwrap_or_else(PoisonError::into_inner).extend(rows);
    }

    /// Keeps what is known now for the next build, if it is more than before.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn save(&self) -> Result<()> {
        let mut fresh = std::mem::take(&mut *self.fresh.lock().unwrap_or_else(PoisonError::into_inner));
        if fresh.is_empty() {
            return Ok(());
        }
        let bytes = self.merge(&mut fresh);
        if let Some(directory) = self.path.parent() {
            std::fs::create_dir_all(directory).at("create", directory)?;
        }
        self.ingest.replace_file(&self.path, &bytes)
    }

    /// Whether a further change of the file would have another time than its last one.
    fn is_settled(&self, found: &Metadata) -> bool {
        let Time { seconds, nanoseconds } = found.changed;
        let grain = if nanoseconds == 0 { SECOND } else { TICK };
        let sum = nanoseconds + grain.nanoseconds;
        let (carried, nanoseconds) = (i64::from(sum / 1_000_000_000), sum % 1_000_000_000);
        Time { seconds: seconds + grain.seconds + carried, nanoseconds } < self.opened
    }

    fn rows(&self) -> &[u8] {
        self.file.get(FORM.len()..).unwrap_or_default()
    }

    fn count(&self) -> usize {
        self.rows().len() / ROW_BYTES
    }

    fn row(&self, nth: usize) -> &[u8] {
        &self.rows()[nth * ROW_BYTES..][..ROW_BYTES]
    }

    /// Where the row of an inode is.
    fn find(&self, stamp: &Stamp) -> Option<usize> {
        let wanted = inode(stamp);
        let (mut low, mut high) = (0, self.count());
        while low < high {
            let middle = usize::midpoint(low, high);
            match inode(self.row(middle)).cmp(&wanted) {
                std::cmp::Ordering::Less => low = middle + 1,
                std::cmp::Ordering::Greater => high = middle,
                std::cmp::Ordering::Equal => return Some(middle),
            }
        }
        None
    }

    /// The file's new bytes. Rows that nobody asked for stay while they are not the greater part: another Dockerfile
    /// may take other files of the same tree.
    fn merge(&self, fresh: &mut Vec<Row>) -> Vec<u8> {
        fresh.sort_unstable_by_key(|(stamp, _)| inode(stamp));
        fresh.dedup_by_key(|(stamp, _)| inode(stamp));
        let is_used = |nth: usize| self.used[nth / 64].load(Ordering::Relaxed) & (1 << (nth % 64)) != 0;
        let wanted = fresh.len() + (0..self.count()).filter(|nth| is_used(*nth)).count();
        let keep_all = self.count() <= 2 * wanted + 1000;
        let mut old = (0..self.count()).filter(|nth| keep_all || is_used(*nth)).peekable();
        let mut bytes = FORM.to_vec();
        for (stamp, record) in fresh {
            while let Some(nth) = old.next_if(|nth| inode(self.row(*nth)) < inode(stamp)) {
                bytes.extend_from_slice(self.row(nth));
            }
            old.next_if(|nth| inode(self.row(*nth)) == inode(stamp));
            bytes.extend_from_slice(stamp);
            bytes.extend_from_slice(record.as_bytes());
        }
        old.for_each(|nth| bytes.extend_from_slice(self.row(nth)));
        let sum = checksum(&bytes);
        bytes.extend_from_slice(&sum);
        bytes
    }
}

/// The file without its sum; nothing if it is not whole.
fn read(path: &std::path::Path) -> Vec<u8> {
    let whole = || {
        let mut bytes = std::fs::read(path).ok()?;
        let sum = bytes.split_off(bytes.len().checked_sub(4)?);
        let is_whole = bytes.starts_with(FORM) && checksum(&bytes) == sum[..];
        (is_whole && (bytes.len() - FORM.len()).is_multiple_of(ROW_BYTES)).then_some(bytes)
    };
    whole().unwrap_or_default()
}

fn checksum(bytes: &[u8]) -> [u8; 4] {
    let mut crc = flate2::Crc::new();
    crc.update(bytes);
    crc.sum().to_le_bytes()
}

fn inode(row: &[u8]) -> u64 {
    u64::from_le_bytes(row[..8].try_into().expect("eight bytes"))
}

fn stamp(found: &Metadata) -> Stamp {
    let mut stamp = [0; STAMP_BYTES];
    stamp[..8].copy_from_slice(&found.inode.1.to_le_bytes());
    stamp[8..16].copy_from_slice(&found.size_bytes.to_le_bytes());
    stamp[16..24].copy_from_slice(&found.modified.seconds.to_le_bytes());
    stamp[24..32].copy_from_slice(&found.changed.seconds.to_le_bytes());
    stamp[32..36].copy_from_slice(&found.modified.nanoseconds.to_le_bytes());
    stamp[36..40].copy_from_slice(&found.changed.nanoseconds.to_le_bytes());
    stamp[40..].copy_from_slice(&((found.kind as u32) << 16 | found.mode).to_le_bytes());
    stamp
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use rustix::fd::AsFd;

    use super::*;

    struct World {
        dir: tempfile::TempDir,
        store: Store,
    }

    impl World {
        fn new() -> World {
            let dir = tempfile::tempdir().unwrap();
            fs::create_dir(dir.path().join("context")).unwrap();
            for name in ["a", "b", "c"] {
                fs::write(dir.path().join("context").join(name), name).unwrap();
            }
            let store = Store::open(&dir.path().join("store")).unwrap();
            World { dir, store }
        }

        fn context(&self) -> std::path::PathBuf {
            self.dir.path().join("context")
        }

        /// What is known, opened so long after the last change that every file counts as settled.
        fn later(&self) -> Known {
            let mut known = self.store.known(&Root::open(&self.context()).unwrap(), None).unwrap();
            known.opened.seconds += 10;
            known
        }

        fn find(&self, name: &str) -> Metadata {
            Metadata::at(Root::open(&self.context()).unwrap().as_fd(), name).unwrap()
        }

        /// Makes all files known, each by the digest of its name.
        fn learn(&self) {
            let known = self.later();
            let found = ["a", "b", "c"].map(|name| (self.find(name), Digest::of(name.as_bytes())));
            known.put(found.iter().map(|(found, record)| (found, *record)));
            known.save().unwrap();
        }

        fn file(&self) -> std::path::PathBuf {
            fs::read_dir(self.store.root().join("contexts")).unwrap().next().unwrap().unwrap().path()
        }
    }

    #[test]
    fn what_has_not_changed_stays_known() {
        let world = World::new();
        world.learn();
        let known = world.later();
        for name in ["a", "b", "c"] {
            assert_eq!(known.get(&world.find(name)), Some(Digest::of(name.as_bytes())), "{name}");
        }
        let other =
            world.store.known(&Root::open(&world.context()).unwrap(), Some(Owner::default())).unwrap();
        assert_eq!(other.get(&world.find("a")), None, "records of files with another owner are others");
    }

    #[test]
    fn a_change_is_noticed_whatever_it_is() {
        type Act = fn(&Path);
        let change: [(&str, Act); 5] = [
            ("data of the same length, dated back", |path| {
                let before = fs::metadata(path).unwrap().modified().unwrap();
                fs::write(path, "x").unwrap();
                fs::File::open(path).unwrap().set_modified(before).unwrap();
            }),
            ("mode", |path| rustix::fs::chmod(path, 0o600.into()).unwrap()),
            ("owner", |path| std::os::unix::fs::chown(path, Some(7), None).unwrap()),
            ("attribute", |path| {
                rustix::fs::setxattr(path, "user.x", b"1", rustix::fs::XattrFlags::empty()).unwrap();
            }),
            ("another file", |path| {
                fs::write(path.with_extension("new"), "x").unwrap();
                fs::rename(path.with_extension("new"), path).unwrap();
            }),
        ];
        for (what, change) in change {
            let world = World::new();
            world.learn();
            // The clock must have moved on, as it has between any two changes that are not racy.
            while clock_gettime(ClockId::RealtimeCoarse).tv_nsec / 10_000_000
                == i64::from(world.find("a").changed.nanoseconds) / 10_000_000
            {
                std::thread::yield_now();
            }
            change(&world.context().join("a"));
            let known = world.later();
            assert_eq!(known.get(&world.find("a")), None, "{what}");
            assert!(known.get(&world.find("b")).is_some(), "{what}");
        }
    }

    #[test]
    fn a_file_that_was_just_changed_is_not_believed() {
        let world = World::new();
        let mut known = world.store.known(&Root::open(&world.context()).unwrap(), None).unwrap();
        fs::write(world.context().join("a"), "new").unwrap();
        let found = world.find("a");
        known.put([(&found, Digest::of(b"a"))].into_iter());
        known.save().unwrap();
        assert_eq!(world.later().get(&found), None);
        known.opened.nanoseconds = 0;
        for (seconds, nanoseconds, is_settled) in
            [(-1, 1, true), (-1, 0, false), (-3, 0, true), (0, 1, false), (1, 1, false)]
        {
            let mut found = found;
            found.changed = Time { seconds: known.opened.seconds + seconds, nanoseconds };
            assert_eq!(known.is_settled(&found), is_settled, "{seconds} {nanoseconds}");
        }
    }

    #[test]
    fn a_damaged_file_says_nothing() {
        let world = World::new();
        world.learn();
        let whole = fs::read(world.file()).unwrap();
        let mut flipped = whole.clone();
        flipped[FORM.len() + STAMP_BYTES] ^= 1;
        for bytes in [&whole[..whole.len() - 1], &whole[..3], &[], &flipped] {
            fs::write(world.file(), bytes).unwrap();
            assert_eq!(world.later().get(&world.find("a")), None);
        }
        world.learn();
        assert!(world.later().get(&world.find("a")).is_some());
    }

    #[test]
    fn rows_are_replaced_and_those_out_of_use_go() {
        let world = World::new();
        world.learn();
        let known = world.later();
        let found = world.find("b");
        known.put([(&found, Digest::of(b"other"))].into_iter());
        known.save().unwrap();
        let known = world.later();
        assert_eq!(known.count(), 3, "nothing was asked for, and yet it stays");
        assert_eq!(known.get(&found), Some(Digest::of(b"other")));
        let many = (0..3000).map(|nth| {
            let mut found = found;
            found.inode.1 += 1_000_000 + nth;
            found
        });
        let many: Vec<Metadata> = many.collect();
        known.put(many.iter().map(|found| (found, Digest::of(b""))));
        known.save().unwrap();
        let known = world.later();
        assert_eq!(known.count(), 3003);
        known.get(&found);
        known.put([(&world.find("a"), Digest::of(b"a"))].into_iter());
        known.save().unwrap();
        assert_eq!(world.later().count(), 2, "the one that was asked for and the new one");
    }
}
