//! A tree held against files that its layers were unpacked to.
//!
//! Order: what the merged view has and has not; then every object in the directory of the last layer alone: what it
//! is, mode, owner, time, attributes but access control lists, and content. What lower layers have is theirs to answer for.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::os::fd::BorrowedFd;

use rayon::prelude::*;

use super::compare::{Aspect, aspects};
use super::tree::{FileTree, Node};
use oci::Algorithm;

use crate::confined::path_of;
use crate::confined::{self, open_exact};
use crate::diff::Object;
use crate::entry::{Kind, Time, is_whiteout};
use crate::walk::{self, everything};
use crate::{Result, trust, xattr};

impl FileTree {
    /// The first thing that files unpacked from these layers have otherwise, in words. `view` shows all of them, `own`
    /// is the directory of the last layer.
    ///
    /// # Errors
    /// When a directory cannot be listed.
    pub(crate) fn mismatch(&self, view: BorrowedFd<'_>, own: BorrowedFd<'_>) -> Result<Option<String>> {
        let expected: BTreeMap<Vec<u8>, &Node> =
            self.below(self.root()).map(|(path, _, node)| (path, node)).collect();
        let mut missing: BTreeMap<&[u8], &Node> =
            expected.iter().map(|(path, node)| (path.as_slice(), *node)).collect();
        for found in walk::walk(view, &everything)? {
            match missing.remove(found.path.as_slice()) {
                None => return Ok(say(&found.path, "is in none of its layers")),
                Some(node) if kind_of(&node.kind) != found.metadata.kind => {
                    return Ok(say(&found.path, "is not as in its layer: type"));
                }
                Some(_) => {}
            }
        }
        if let Some(path) = missing.keys().next() {
            return Ok(say(path, "is missing"));
        }
        let own_entries = walk::walk(own, &everything)?;
        let differing = own_entries.par_iter().find_map_first(|entry| {
            let node = expected.get(&entry.path)?;
            match self.differences(node, own, entry) {
                Ok(aspects) if aspects.is_empty() => None,
                Ok(aspects) => {
                    let names: Vec<&str> = aspects.iter().map(|aspect| aspect.name()).collect();
                    say(&entry.path, &format!("is not as in its layer: {}", names.join(", ")))
                }
                Err(error) => say(&entry.path, &format!("cannot be read: {error}")),
            }
        });
        Ok(differing)
    }

    fn differences(&self, node: &Node, own: BorrowedFd<'_>, found: &walk::Entry) -> io::Result<Vec<Aspect>> {
        let dir = open_exact(own, found.parent())?;
        let Some(object) = Object::try_open(&dir, found.name(), &found.path, false)? else {
            return Ok(vec![Aspect::Type]);
        };
        if is_whiteout(&object.stat) {
            return Ok(Vec::new());
        }
        let mut expected = node.clone();
        // The kernel says a list in other bytes than it was told.
        expected.xattrs.retain(|name, _| !xattr::is_acl(name));
        let entry = object.entry;
        let mut content = None;
        if let Some(fd) = object.fd {
            if !xattr::has_user_attributes(&fd) {
                expected.xattrs.retain(|name, _| !name.starts_with(b"user."));
            }
            if matches!(entry.kind, Kind::File { .. }) {
                content = Some(trust::hash(&mut File::from(fd), Algorithm::Sha256)?);
            }
        }
        // What was brought up from below has the time that it has there, which a step may have given it.
        let times = node.layer + 1 == self.layers && is_sure(node.mtime);
        let mtime = Time { nanoseconds: node.mtime.nanoseconds, ..entry.mtime };
        let (kind, mode, uid, gid, xattrs) = (entry.kind, entry.mode, entry.uid, entry.gid, entry.xattrs);
        let found = Node { kind, mode, uid, gid, mtime, xattrs, content, ..node.clone() };
        Ok(aspects(&expected, &found, times))
    }
}

fn say(path: &[u8], what: &str) -> Option<String> {
    Some(format!("`/{}` {what}", path_of(path).display()))
}

/// Whether every file system keeps this time: some have 32 bits for its seconds, and none before 1970.
fn is_sure(time: Time) -> bool {
    (0..=i64::from(i32::MAX)).contains(&time.seconds)
}

fn kind_of(kind: &Kind) -> confined::Kind {
    match kind {
        Kind::File { .. } | Kind::HardLink { .. } => confined::Kind::File,
        Kind::Directory => confined::Kind::Directory,
        Kind::Symlink { .. } => confined::Kind::Symlink,
        Kind::CharDevice { .. } => confined::Kind::CharDevice,
        Kind::BlockDevice { .. } => confined::Kind::BlockDevice,
        Kind::Fifo => confined::Kind::Fifo,
    }
}
