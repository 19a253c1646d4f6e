//! What differs between two trees, path by path.

use std::collections::BTreeSet;

use super::tree::{FileTree, Node, NodeId};
use crate::entry::Kind;
use crate::walk::join;

/// A path at which two trees differ.
#[derive(Clone, Debug)]
pub struct Difference<'a> {
    /// Below the root, in the form of [`Entry::path`](crate::entry::Entry::path).
    pub path: Vec<u8>,
    /// What is there in the first tree.
    pub before: Option<&'a Node>,
    /// What is there in the second.
    pub after: Option<&'a Node>,
    /// In what they differ, if both have it; in order.
    pub aspects: Vec<Aspect>,
}

/// Something that two objects can differ in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Aspect {
    /// One is a file, the other a directory, …
    Type,
    /// Their permissions.
    Mode,
    /// Owner or group.
    Owner,
    /// The sizes of files.
    Size,
    /// What is in files, if they are equally long.
    Content,
    /// Where symbolic links lead.
    Target,
    /// The numbers of devices.
    Device,
    /// Extended attributes, capabilities among them.
    Xattrs,
    /// When they were modified.
    Time,
}

impl Aspect {
    /// The word for it.
    pub fn name(self) -> &'static str {
        match self {
            Aspect::Type => "type",
            Aspect::Mode => "mode",
            Aspect::Owner => "owner",
            Aspect::Size => "size",
            Aspect::Content => "content",
            Aspect::Target => "target",
            Aspect::Device => "device",
            Aspect::Xattrs => "xattrs",
            Aspect::Time => "time",
        }
    }
}

/// All differences, in the order of [`FileTree::below`]. Times count only where `times` says so: two builds of the
/// same files differ in them.
pub fn compare<'a>(before: &'a FileTree, after: &'a FileTree, times: bool) -> Vec<Difference<'a>> {
    let mut differences = Vec::new();
    let roots = (Some(before.root()), Some(after.root()));
    let mut left = vec![(Vec::new(), roots)];
    while let Some((path, (one, other))) = left.pop() {
        let nodes = (one.map(|id| before.node(id)), other.map(|id| after.node(id)));
        let aspects = match nodes {
            (Some(one), Some(other)) => aspects(one, other, times),
            _ => Vec::new(),
        };
        if !path.is_empty() && (one.is_none() || other.is_none() || !aspects.is_empty()) {
            differences.push(Difference { path: path.clone(), before: nodes.0, after: nodes.1, aspects });
        }
        let names: BTreeSet<&Vec<u8>> =
            [nodes.0, nodes.1].into_iter().flatten().flat_map(|node| node.children.keys()).collect();
        let child = |node: Option<&Node>, name: &Vec<u8>| -> Option<NodeId> {
            node.and_then(|node| node.children.get(name)).map(|name| name.node)
        };
        // The first name is to come off the stack first.
        left.extend(
            names
                .into_iter()
                .rev()
                .map(|name| (join(&path, name), (child(nodes.0, name), child(nodes.1, name)))),
        );
    }
    differences
}

/// What two objects differ in.
pub(super) fn aspects(one: &Node, other: &Node, times: bool) -> Vec<Aspect> {
    let mut found = Vec::new();
    match (&one.kind, &other.kind) {
        (Kind::File { size: one }, Kind::File { size: other }) if one != other => found.push(Aspect::Size),
        (Kind::File { .. }, Kind::File { .. }) if one.content != other.content => found.push(Aspect::Content),
        (Kind::Symlink { target: one }, Kind::Symlink { target: other }) if one != other => {
            found.push(Aspect::Target);
        }
        (Kind::CharDevice { .. }, Kind::CharDevice { .. })
        | (Kind::BlockDevice { .. }, Kind::BlockDevice { .. })
            if one.kind != other.kind =>
        {
            found.push(Aspect::Device);
        }
        (one, other) if std::mem::discriminant(one) != std::mem::discriminant(other) => {
            found.push(Aspect::Type);
        }
        _ => {}
    }
    // The mode of a link means nothing.
    let has_mode = !matches!(other.kind, Kind::Symlink { .. });
    if has_mode && one.mode != other.mode {
        found.push(Aspect::Mode);
    }
    if (one.uid, one.gid) != (other.uid, other.gid) {
        found.push(Aspect::Owner);
    }
    if one.xattrs != other.xattrs {
        found.push(Aspect::Xattrs);
    }
    if times && one.mtime != other.mtime {
        found.push(Aspect::Time);
    }
    found.sort_unstable();
    found
}
