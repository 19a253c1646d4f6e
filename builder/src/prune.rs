//! Freeing what builds keep for later ones: the least recently used first, and never what a living process holds.
//!
//! Order: look at everything; choose, which needs no lock; take nameless images off the list, delete directories and
//! repositories that nobody has; then, while the gate of the store is shut, look once more whether something chosen
//! is in use by now, delete the records of the rest, and let the store collect what no record leads to any more.
//!
//! Invariants: an image that has a name stays whole, whatever is asked for; what something stands on goes after that.

mod usual;

use std::collections::BTreeSet;
use std::time::SystemTime;

use layerfs::Result;
use layerfs::gc::{Marks, Roots};
use layerfs::snapshot::SnapshotId;
use layerfs::store::Store;
use oci::Digest;

use crate::cache::records;
use crate::remote;
use crate::usage::{Node, Root, Usage};

pub use usual::keep_within_usual;

/// What may go.
#[derive(Clone, Debug, Default)]
pub struct Policy {
    /// Also what images with names consist of, as far as it can be unpacked again: their steps are executed again by
    /// the next build.
    pub all: bool,
    /// Only what was last used before.
    pub until: Option<SystemTime>,
    /// Only as much as is above this, in bytes.
    pub keep_bytes: Option<u64>,
    /// Only these kinds; all of them if there are none.
    pub kinds: Vec<Kind>,
    /// Only what has an id that begins so.
    pub id: Option<String>,
}

/// Kinds of what builds keep, by BuildKit's names where it has them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Results of steps, and layers of images.
    Regular,
    /// Directories of `RUN --mount=type=cache`.
    CacheMount,
    /// Copies of git repositories.
    Repository,
}

/// One thing that builds keep.
#[derive(Clone, Debug)]
pub struct Item {
    /// Its name.
    pub id: String,
    /// What kind of thing it is.
    pub kind: Kind,
    /// What it is, for people.
    pub what: String,
    /// What it takes of the disk, in bytes.
    pub bytes: u64,
    /// What of that would be free without it, in bytes: images with names keep their layers.
    pub reclaimable_bytes: u64,
    /// When it was made.
    pub created: SystemTime,
    /// When it was last used, an hour more or less.
    pub last_used: SystemTime,
    /// Whether a living process holds it.
    pub in_use: bool,
    /// Whether an image with a name consists of it.
    pub in_image: bool,
    place: Place,
}

/// Where an item is.
#[derive(Clone, Debug)]
enum Place {
    Node(SnapshotId),
    Mount(usize),
    Repository(usize),
}

/// What went, or would go.
#[derive(Debug, Default)]
pub struct Pruned {
    /// The items, the least recently used first.
    pub items: Vec<Item>,
    /// How many bytes of disk are free now that were not.
    pub bytes: u64,
}

impl Usage {
    /// Everything as items, the least recently used first; what stands on something goes before it.
    pub fn items(&self) -> Vec<Item> {
        let nodes = self.nodes.values().map(|node| self.item(node));
        let mounts = self.mounts.iter().enumerate().map(|(at, mount)| Item {
            id: mount.id.clone(),
            kind: Kind::CacheMount,
            what: "RUN --mount=type=cache".to_owned(),
            bytes: mount.size_bytes,
            reclaimable_bytes: mount.size_bytes,
            created: mount.created,
            last_used: mount.last_used,
            in_use: mount.in_use,
            in_image: false,
            place: Place::Mount(at),
        });
        let repositories = self.repositories.iter().enumerate().map(|(at, repository)| Item {
            id: repository.lock.file_stem().unwrap_or_default().to_string_lossy().into_owned(),
            kind: Kind::Repository,
            what: "a git repository".to_owned(),
            bytes: repository.bytes,
            reclaimable_bytes: repository.bytes,
            created: repository.last_used,
            last_used: repository.last_used,
            in_use: repository.in_use,
            in_image: false,
            place: Place::Repository(at),
        });
        let mut items: Vec<Item> = nodes.chain(mounts).chain(repositories).collect();
        let depth = |item: &Item| match &item.place {
            Place::Node(id) => self.nodes.get(id).map_or(0, |node| node.ancestors.len()),
            _ => 0,
        };
        items.sort_by_key(|item| (item.last_used, std::cmp::Reverse(depth(item))));
        items
    }

    fn item(&self, node: &Node) -> Item {
        let kept = node.blobs.iter().filter(|(blob, _)| self.named.contains(blob)).map(|(_, bytes)| bytes);
        Item {
            id: hex(&node.id),
            kind: Kind::Regular,
            what: node.what.clone(),
            bytes: node.bytes(),
            reclaimable_bytes: node.bytes() - kept.sum::<u64>(),
            created: node.created,
            last_used: node.last_used,
            in_use: node.in_use,
            in_image: node.in_image,
            place: Place::Node(node.id),
        }
    }

    /// What goes by this policy.
    fn choose(&self, policy: &Policy) -> Vec<Item> {
        let items = self.items();
        let counts = |item: &&Item| policy.all || !item.in_image;
        // Garbage goes with every collection, so it counts for nothing.
        let mut left: u64 = items.iter().filter(counts).map(|item| item.reclaimable_bytes).sum();
        let mut needed: BTreeSet<SnapshotId> = BTreeSet::new();
        let mut chosen = Vec::new();
        for item in items {
            let is_enough = policy.keep_bytes.is_some_and(|keep| left <= keep);
            let is_needed = matches!(&item.place, Place::Node(id) if needed.contains(id));
            if is_enough || is_needed || !policy.allows(&item) {
                if let Place::Node(id) = &item.place {
                    needed.extend(self.nodes.get(id).map_or(&[][..], |node| &node.ancestors));
                }
                continue;
            }
            left -= item.reclaimable_bytes;
            chosen.push(item);
        }
        chosen
    }
}

impl Policy {
    fn allows(&self, item: &Item) -> bool {
        !item.in_use && (self.all || !item.in_image) && self.matches(item)
    }

    /// Whether the filters are for this one.
    pub fn matches(&self, item: &Item) -> bool {
        self.until.is_none_or(|until| item.last_used < until)
            && (self.kinds.is_empty() || self.kinds.contains(&item.kind))
            && self.id.as_ref().is_none_or(|id| item.id.starts_with(id.as_str()))
    }

    /// Whether it is for all that builds keep, and not for some of it.
    fn takes_all_kinds(&self) -> bool {
        self.keep_bytes.is_none() && self.kinds.is_empty() && self.id.is_none()
    }

    /// Whether an image without a name, or a base image that is remembered, goes with these.
    fn takes<T>(&self, root: &Root<T>, chosen: &BTreeSet<SnapshotId>) -> bool {
        match root.top {
            Some(top) if chosen.contains(&top) => true,
            // Its layers may be those of another image; then there is nothing but a name to lose.
            _ => {
                let is_old = self.until.is_none_or(|until| root.last_used < until);
                is_old && self.takes_all_kinds()
            }
        }
    }
}

/// Says what [`prune`] would do, and does nothing.
///
/// # Errors
/// When the store cannot be read.
pub fn preview(store: &Store, policy: &Policy) -> Result<Pruned> {
    let usage = Usage::read(store)?;
    let items = usage.choose(policy);
    let broken = usage.downloads.iter().filter(|broken| {
        let is_old = policy.until.is_none_or(|until| broken.last_used < until);
        !broken.in_use && is_old && policy.takes_all_kinds()
    });
    let bytes = usage.garbage_bytes
        + broken.map(|broken| broken.bytes).sum::<u64>()
        + items.iter().map(|item| item.reclaimable_bytes).sum::<u64>();
    Ok(Pruned { items, bytes })
}

/// Frees what `policy` says, and what nothing refers to. Builds go on meanwhile.
///
/// # Errors
/// When something cannot be read or deleted; what has gone by then stays so.
pub fn prune(store: &Store, policy: &Policy) -> Result<Pruned> {
    free(store, policy, &look(store)?)
}

/// Frees the least recently used, if what builds keep takes more bytes than this. What is in use stays.
///
/// # Errors
/// As [`prune`].
pub fn keep_within(store: &Store, bytes: u64) -> Result<()> {
    let usage = look(store)?;
    if usage.cache_bytes() > bytes {
        free(store, &Policy { keep_bytes: Some(bytes), ..Policy::default() }, &usage)?;
    }
    Ok(())
}

/// Only looked at, or reading the images would hold them.
fn look(store: &Store) -> Result<Usage> {
    Usage::read(&Store::look(store.root())?)
}

fn free(store: &Store, policy: &Policy, usage: &Usage) -> Result<Pruned> {
    let chosen = usage.choose(policy);
    let nodes: BTreeSet<SnapshotId> = chosen.iter().filter_map(Item::node).collect();
    let nameless = usage.nameless.iter().filter(|image| policy.takes(image, &nodes));
    let nameless: BTreeSet<Digest> = nameless.map(|image| image.place).collect();
    let unlist = || nameless.iter().try_for_each(|image| store.forget_nameless(image).map(drop));
    // A full disk has room for a shorter list only when something has gone.
    let is_late = unlist().is_err();
    let (mut bytes, mut items) = (0, Vec::new());
    for item in chosen {
        let freed = match item.place {
            Place::Mount(at) => store.cache_mounts().remove(&usage.mounts[at])?,
            Place::Repository(at) => remote::forget_repository(store, &usage.repositories[at].lock)?,
            Place::Node(_) => Some(0),
        };
        // None: somebody has come to use it meanwhile.
        if let Some(freed) = freed {
            bytes += freed;
            items.push(item);
        }
    }
    let mut gone = BTreeSet::new();
    let freed = store.collect(|in_use| {
        gone = nodes.difference(&in_use.snapshots).copied().collect();
        forget(store, usage, policy, &gone, in_use)?;
        let forsaken = if policy.all { gone.clone() } else { BTreeSet::new() };
        let forgotten = if is_late { nameless.clone() } else { BTreeSet::new() };
        let downloads_before = policy.takes_all_kinds().then(|| policy.until.unwrap_or_else(SystemTime::now));
        Ok(Roots { forsaken, forgotten, downloads_before, ..roots(store)? })
    })?;
    if is_late {
        unlist()?;
    }
    items.retain(|item| item.node().is_none_or(|id| gone.contains(&id)));
    Ok(Pruned { items, bytes: bytes + freed.bytes })
}

/// What the builder's records lead to, for a collection that keeps it.
///
/// # Errors
/// When they cannot be listed.
pub fn roots(store: &Store) -> Result<Roots> {
    let (mut snapshots, blobs) = records::references(store)?;
    snapshots.extend(remote::references(store)?);
    Ok(Roots { blobs, snapshots, ..Roots::default() })
}

/// Deletes the records of what goes.
fn forget(
    store: &Store,
    usage: &Usage,
    policy: &Policy,
    gone: &BTreeSet<SnapshotId>,
    in_use: &Marks,
) -> Result<()> {
    let nodes = gone.iter().filter_map(|id| usage.nodes.get(id));
    let bases = usage.bases.iter().filter(|base| {
        let is_held = base.top.is_some_and(|top| in_use.snapshots.contains(&top));
        !is_held && policy.takes(base, gone)
    });
    for path in nodes.flat_map(|node| &node.records).chain(bases.map(|base| &base.place)) {
        store.delete(path)?;
    }
    Ok(())
}

/// The name without its kind.
fn hex(id: &SnapshotId) -> String {
    match id {
        SnapshotId::Chain(chain) => chain.0.hex(),
        SnapshotId::Key(key) => key.hex(),
    }
    .to_string()
}

impl Item {
    fn node(&self) -> Option<SnapshotId> {
        match self.place {
            Place::Node(id) => Some(id),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use layerfs::cache_mount::Sharing;

    use super::*;

    #[test]
    fn what_is_taken_meanwhile_is_not_said_to_be_gone() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).unwrap();
        let take = |id| store.cache_mounts().take(id, Sharing::Locked, &|_| Ok(()), &|| false).unwrap();
        let git = store.root().join("remote/git");
        for name in ["held", "free"] {
            drop(take(name));
            std::fs::create_dir_all(git.join(name)).unwrap();
            std::fs::write(git.join(name).with_extension("lock"), "").unwrap();
        }
        let usage = look(&store).unwrap();
        assert_eq!(usage.choose(&Policy::default()).len(), 4);
        let _mount = take("held");
        let lock = std::fs::File::open(git.join("held.lock")).unwrap();
        lock.lock().unwrap();
        let pruned = free(&store, &Policy::default(), &usage).unwrap();
        let went: Vec<(&str, Kind)> = pruned.items.iter().map(|item| (&*item.id, item.kind)).collect();
        assert_eq!(went.len(), 2, "{went:?}");
        assert!(went.contains(&("free", Kind::CacheMount)) && went.contains(&("free", Kind::Repository)));
    }
}
