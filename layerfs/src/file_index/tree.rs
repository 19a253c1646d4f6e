//! A stack of layers as a container sees it: names, and the objects that they name.
//!
//! Objects stand in a list and are never taken off it, so that what a layer has hidden is still there to be
//! counted. A directory has one name, everything else may have several. `apply` puts layers on the tree.

use std::collections::{BTreeMap, btree_map};

use oci::Digest;

use super::{FileIndex, apply};
use crate::Result;
use crate::confined::MAX_LINKS;
use crate::entry::{Kind, Time};
use crate::walk::{join, split};
use crate::xattr::Xattrs;

/// An object of a tree.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeId(usize);

/// A file, a directory, a link or a node of a tree.
#[derive(Clone, Debug)]
pub struct Node {
    /// What it is; never [`Kind::HardLink`]: all names of an object are alike.
    pub kind: Kind,
    /// Permissions with set-user-id, set-group-id and the sticky bit.
    pub mode: u32,
    /// The owner.
    pub uid: u32,
    /// The group.
    pub gid: u32,
    /// When the content changed last.
    pub mtime: Time,
    /// Extended attributes that a container sees, by name.
    pub xattrs: Xattrs,
    /// The digest of its content, if it is a regular file.
    pub content: Option<Digest>,
    /// The layer, counted from 0 at the bottom, that it is from, and the place of its entry there; no place for a
    /// directory that no layer mentions.
    pub layer: usize,
    /// See [`Node::layer`].
    pub place: Option<usize>,
    /// How many names it has.
    pub names: u32,
    pub(super) children: BTreeMap<Vec<u8>, Name>,
    /// Of a directory: where it is. The root is in itself.
    pub(super) parent: NodeId,
    pub(super) name: Vec<u8>,
    /// The layer that took its last name.
    pub(super) hidden_by: Option<usize>,
}

/// A name in a directory.
#[derive(Clone, Copy, Debug)]
pub(super) struct Name {
    pub(super) node: NodeId,
    /// The last layer that made this name, or anything below it.
    pub(super) layer: usize,
}

/// The merged view of a stack of layers.
#[derive(Clone, Debug)]
pub struct FileTree {
    pub(super) nodes: Vec<Node>,
    pub(super) layers: usize,
    /// What layers have taken away, with all below it, and the last that did.
    pub(super) removed: BTreeMap<Vec<u8>, usize>,
}

/// What one layer brings and hides.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LayerSums {
    /// How many regular files it has.
    pub files: u64,
    /// How many bytes there are in them.
    pub bytes: u64,
    /// How many of these bytes cannot be seen any more.
    pub hidden_bytes: u64,
    /// How many bytes of it and of lower layers it hides.
    pub hides_bytes: u64,
}

/// Where a path leads.
pub(super) enum Found {
    Directory(NodeId),
    Missing,
    /// Something that is no directory is in the way, or at the end.
    NotADirectory,
    /// Too many links.
    Loop,
}

impl Node {
    /// A directory that no layer mentions, made by `layer` as `name` in `parent`.
    pub(super) fn directory(layer: usize, parent: NodeId, name: &[u8]) -> Node {
        Node {
            kind: Kind::Directory,
            mode: 0o755,
            uid: 0,
            gid: 0,
            mtime: Time::default(),
            xattrs: Xattrs::new(),
            content: None,
            layer,
            place: None,
            names: 1,
            children: BTreeMap::new(),
            parent,
            name: name.to_vec(),
            hidden_by: None,
        }
    }
}

impl FileTree {
    /// The tree of no layers: a root that is empty.
    pub fn empty() -> FileTree {
        let root = Node::directory(0, NodeId(0), b"");
        FileTree { nodes: vec![root], layers: 0, removed: BTreeMap::new() }
    }

    /// The tree of these layers, bottom first.
    ///
    /// # Errors
    /// [`Error::Archive`](crate::Error::Archive) for what unpacking refuses.
    pub fn of(layers: &[FileIndex]) -> Result<FileTree> {
        let mut tree = FileTree::empty();
        layers.iter().try_for_each(|layer| tree.apply(layer))?;
        Ok(tree)
    }

    /// Puts one more layer on top.
    ///
    /// # Errors
    /// As [`FileTree::of`]; the tree is of no use afterwards.
    pub fn apply(&mut self, layer: &FileIndex) -> Result<()> {
        apply::apply(self, layer)
    }

    /// The root.
    pub fn root(&self) -> NodeId {
        NodeId(0)
    }

    /// How many layers there are.
    pub fn layers(&self) -> usize {
        self.layers
    }

    /// The object.
    pub fn node(&self, id: NodeId) -> &Node {
        &self.nodes[id.0]
    }

    pub(super) fn node_mut(&mut self, id: NodeId) -> &mut Node {
        &mut self.nodes[id.0]
    }

    pub(super) fn add(&mut self, node: Node) -> NodeId {
        self.nodes.push(node);
        NodeId(self.nodes.len() - 1)
    }

    /// The names in a directory with what they name, in order.
    pub fn children(&self, dir: NodeId) -> impl Iterator<Item = (&[u8], NodeId)> {
        self.node(dir).children.iter().map(|(name, entry)| (name.as_slice(), entry.node))
    }

    /// The object at `path`, with its path without links in it; links on the way are followed, as is one at the
    /// end if `follow` says so. None if there is nothing.
    pub fn find(&self, path: &[u8], follow: bool) -> Option<(Vec<u8>, NodeId)> {
        let (mut path, mut from) = (path.to_vec(), self.root());
        for _ in 0..=MAX_LINKS {
            let must_be_dir = path.ends_with(b"/");
            let plain = trimmed(&path);
            let (dir, name) = split(plain);
            if matches!(name, b"" | b"." | b"..") {
                let Found::Directory(dir) = self.walk(from, plain) else { return None };
                return Some((self.path(dir), dir));
            }
            let Found::Directory(dir) = self.walk(from, dir) else { return None };
            let id = self.node(dir).children.get(name)?.node;
            let target = match &self.node(id).kind {
                Kind::Symlink { target } if follow || must_be_dir => target.clone(),
                Kind::Directory => return Some((join(&self.path(dir), name), id)),
                _ if must_be_dir => return None,
                _ => return Some((join(&self.path(dir), name), id)),
            };
            from = if target.starts_with(b"/") { self.root() } else { dir };
            path = target;
            if must_be_dir {
                path.push(b'/');
            }
        }
        None
    }

    /// The directory that `path` leads to from `dir`, through links, `.` and `..`, never out of the root.
    pub(super) fn walk(&self, dir: NodeId, path: &[u8]) -> Found {
        let mut here = dir;
        let mut left: Vec<&[u8]> = path.split(|byte| *byte == b'/').rev().collect();
        let mut links = 0;
        while let Some(name) = left.pop() {
            match name {
                b"" | b"." => continue,
                b".." => {
                    here = self.node(here).parent;
                    continue;
                }
                _ => {}
            }
            let Some(next) = self.node(here).children.get(name) else { return Found::Missing };
            match &self.node(next.node).kind {
                Kind::Directory => here = next.node,
                Kind::Symlink { target } => {
                    links += 1;
                    if links > MAX_LINKS {
                        return Found::Loop;
                    }
                    if target.starts_with(b"/") {
                        here = self.root();
                    }
                    left.extend(target.split(|byte| *byte == b'/').rev());
                }
                _ => return Found::NotADirectory,
            }
        }
        Found::Directory(here)
    }

    /// Where a directory is.
    pub(super) fn path(&self, mut dir: NodeId) -> Vec<u8> {
        let mut names = Vec::new();
        while dir != self.root() {
            names.push(self.node(dir).name.as_slice());
            dir = self.node(dir).parent;
        }
        names.reverse();
        names.join(&b'/')
    }

    /// Everything below `dir`, in order: bytewise by component, a directory before what is in it. Each comes with
    /// its path below the root.
    pub fn below(&self, dir: NodeId) -> Below<'_> {
        let level = (self.path(dir), self.node(dir).children.iter());
        Below { tree: self, levels: vec![level] }
    }

    /// What each layer brings and hides, bottom first.
    pub fn sums(&self) -> Vec<LayerSums> {
        let mut sums = vec![LayerSums::default(); self.layers];
        for node in &self.nodes {
            let Kind::File { size } = node.kind else { continue };
            sums[node.layer].files += 1;
            sums[node.layer].bytes += size;
            if let Some(hider) = node.hidden_by {
                sums[node.layer].hidden_bytes += size;
                sums[hider].hides_bytes += size;
            }
        }
        sums
    }

    /// The last layer that took `path` away, or what it was in.
    pub fn removed_by(&self, path: &[u8]) -> Option<usize> {
        let ends = (0..=path.len()).filter(|end| path.get(*end).is_none_or(|byte| *byte == b'/'));
        ends.filter_map(|end| self.removed.get(&path[..end]).copied()).max()
    }
}

/// A directory's path and what is still to be visited in it.
type Level<'a> = (Vec<u8>, btree_map::Iter<'a, Vec<u8>, Name>);

/// The iterator of [`FileTree::below`].
pub struct Below<'a> {
    tree: &'a FileTree,
    levels: Vec<Level<'a>>,
}

impl<'a> Iterator for Below<'a> {
    type Item = (Vec<u8>, NodeId, &'a Node);

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let (dir, names) = self.levels.last_mut()?;
            let Some((name, entry)) = names.next() else {
                self.levels.pop();
                continue;
            };
            let path = join(dir, name);
            let node = self.tree.node(entry.node);
            if node.kind == Kind::Directory {
                self.levels.push((path.clone(), node.children.iter()));
            }
            return Some((path, entry.node, node));
        }
    }
}

/// A path without the slashes at its end.
fn trimmed(path: &[u8]) -> &[u8] {
    let end = path.iter().rposition(|byte| *byte != b'/').map_or(0, |last| last + 1);
    &path[..end]
}
