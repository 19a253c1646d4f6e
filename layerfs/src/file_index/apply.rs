//! One layer onto a tree, by the rules of unpacking (`layer::unpack`).
//!
//! Deletions are about lower layers, whatever their place in the archive: what the layer itself has made stays. A
//! file goes only at the end, when no link can mean it any more; a directory or a link goes at once, because what
//! comes later must not be put into it or behind it. (OCI image-spec, layer.md, "Whiteouts".)

use std::collections::BTreeSet;

use super::tree::{FileTree, Found, Name, Node, NodeId};
use super::{FileIndex, Record};
use crate::confined::{MAX_LINKS, path_of};
use crate::entry::{Entry, Kind};
use crate::layer::tar::Problem;
use crate::layer::unpack::lexical;
use crate::walk::{join, split};
use crate::whiteout::{self, Meaning};
use crate::xattr;
use crate::{Error, Result};

pub(super) fn apply(tree: &mut FileTree, index: &FileIndex) -> Result<()> {
    let layer = tree.layers;
    tree.layers += 1;
    let mut applying = Applying { tree, layer, hidden: BTreeSet::new(), last: None };
    for (place, record) in index.records.iter().enumerate() {
        applying.record(place, record)?;
    }
    applying.remove_hidden();
    Ok(())
}

struct Applying<'a> {
    tree: &'a mut FileTree,
    layer: usize,
    /// Files of lower layers that this one deletes: directory and name.
    hidden: BTreeSet<(NodeId, Vec<u8>)>,
    /// The directory of the last entry: entries come directory by directory.
    last: Option<(Vec<u8>, NodeId)>,
}

impl Applying<'_> {
    fn record(&mut self, place: usize, record: &Record) -> Result<()> {
        let entry = &record.entry;
        let refuse = |problem| Error::Archive { entry: Some(path_of(&entry.path)), problem };
        match whiteout::meaning(entry).map_err(refuse)? {
            Meaning::Object => self.put(place, record).map_err(refuse)?,
            Meaning::Nothing => {}
            Meaning::Opaque { dir } => {
                let dir = self.hidden_in(dir).map_err(refuse)?;
                dir.into_iter().for_each(|dir| self.hide_lower(dir));
            }
            Meaning::Deletion { dir, name } => {
                let dir = self.hidden_in(dir).map_err(refuse)?;
                dir.into_iter().for_each(|dir| self.hide(dir, name));
            }
        }
        Ok(())
    }

    fn put(&mut self, place: usize, record: &Record) -> Result<(), Problem> {
        let entry = &record.entry;
        if entry.path.is_empty() {
            self.dress(self.tree.root(), place, entry);
            return Ok(());
        }
        let (dir, name) = split(&entry.path);
        let parent = self.parent(dir)?;
        let there = self.tree.node(parent).children.get(name).map(|name| name.node);
        match &entry.kind {
            Kind::HardLink { target } => {
                let (dir, target_name) = self.link_parent(target)?;
                self.link_target(dir, target_name)?;
                self.unlink(parent, name);
                // It may have been in the directory that had to go.
                let target = self.link_target(dir, target_name)?;
                self.tree.node_mut(target).names += 1;
                self.name(parent, name, target);
            }
            Kind::Directory => {
                let is_dir = |id: &NodeId| self.tree.node(*id).kind == Kind::Directory;
                let id = there.filter(is_dir).unwrap_or_else(|| {
                    self.unlink(parent, name);
                    self.make_dir(parent, name)
                });
                self.stamp(id);
                self.dress(id, place, entry);
            }
            kind => {
                self.unlink(parent, name);
                let id = self.tree.add(Node {
                    kind: kind.clone(),
                    content: record.content,
                    place: Some(place),
                    ..Node::directory(self.layer, parent, name)
                });
                self.name(parent, name, id);
                self.dress(id, place, entry);
            }
        }
        Ok(())
    }

    /// The directory that a deletion is about; where there is none there is nothing to delete.
    fn hidden_in(&self, dir: &[u8]) -> Result<Option<NodeId>, Problem> {
        match self.tree.walk(self.tree.root(), dir) {
            Found::Directory(dir) => Ok(Some(dir)),
            Found::Missing | Found::NotADirectory => Ok(None),
            Found::Loop => Err(Problem::Loop),
        }
    }

    /// The directory that a hard link's target is in, and its name there.
    fn link_parent<'t>(&self, target: &'t [u8]) -> Result<(NodeId, &'t [u8]), Problem> {
        let (dir, name) = split(target);
        match self.tree.walk(self.tree.root(), dir) {
            Found::Directory(dir) => Ok((dir, name)),
            _ => Err(Problem::LinkTarget),
        }
    }

    /// The object that a hard link is another name of: not through a link at the end of its path.
    fn link_target(&self, dir: NodeId, name: &[u8]) -> Result<NodeId, Problem> {
        let target = self.tree.node(dir).children.get(name).map(|name| name.node);
        target.filter(|id| self.tree.node(*id).kind != Kind::Directory).ok_or(Problem::LinkTarget)
    }

    /// Gives an object what its entry says of it.
    fn dress(&mut self, id: NodeId, place: usize, entry: &Entry) {
        let carries = matches!(entry.kind, Kind::File { .. } | Kind::Directory);
        let xattrs = entry.xattrs.iter().filter(|(name, _)| carries && xattr::travels(name));
        let xattrs = xattrs.map(|(name, value)| (name.clone(), value.clone())).collect();
        let layer = self.layer;
        let node = self.tree.node_mut(id);
        (node.mode, node.uid, node.gid, node.mtime) = (entry.mode, entry.uid, entry.gid, entry.mtime);
        (node.xattrs, node.layer, node.place) = (xattrs, layer, Some(place));
    }

    fn make_dir(&mut self, parent: NodeId, name: &[u8]) -> NodeId {
        let id = self.tree.add(Node::directory(self.layer, parent, name));
        self.name(parent, name, id);
        id
    }

    fn parent(&mut self, dir: &[u8]) -> Result<NodeId, Problem> {
        if let Some((_, id)) = self.last.as_ref().filter(|(path, _)| path == dir) {
            return Ok(*id);
        }
        let id = self.make_dirs(dir, 0)?;
        self.last = Some((dir.to_vec(), id));
        Ok(id)
    }

    /// The directory `dir`, made with its parents if it is missing. A dangling link's target is made; a file in the
    /// way goes.
    fn make_dirs(&mut self, dir: &[u8], links: usize) -> Result<NodeId, Problem> {
        if links > MAX_LINKS {
            return Err(Problem::Loop);
        }
        if let Found::Directory(found) = self.tree.walk(self.tree.root(), dir) {
            return Ok(found);
        }
        let mut here = self.tree.root();
        let mut path = Vec::new();
        for name in dir.split(|byte| *byte == b'/').filter(|name| !name.is_empty()) {
            let above = std::mem::take(&mut path);
            path = join(&above, name);
            match self.tree.walk(self.tree.root(), &path) {
                Found::Directory(found) => {
                    here = found;
                    continue;
                }
                Found::Loop => return Err(Problem::Loop),
                Found::NotADirectory => self.unlink(here, name),
                Found::Missing => {}
            }
            let dangling = self.tree.node(here).children.get(name).map(|name| name.node);
            here = match dangling.map(|id| &self.tree.node(id).kind) {
                Some(Kind::Symlink { target }) => {
                    let target = lexical(&above, target);
                    self.make_dirs(&target, links + 1)?
                }
                _ => self.make_dir(here, name),
            };
        }
        Ok(here)
    }

    /// Names `node` in `dir`, where the name must be free.
    fn name(&mut self, dir: NodeId, name: &[u8], node: NodeId) {
        let layer = self.layer;
        self.tree.node_mut(dir).children.insert(name.to_vec(), Name { node, layer });
        self.stamp(dir);
    }

    /// A directory in which this layer has made something is this layer's too, and so is what it is in.
    fn stamp(&mut self, mut dir: NodeId) {
        while dir != self.tree.root() {
            let (layer, node) = (self.layer, self.tree.node(dir));
            let (parent, name) = (node.parent, node.name.clone());
            match self.tree.node_mut(parent).children.get_mut(&name) {
                Some(entry) if entry.layer != layer => entry.layer = layer,
                _ => return,
            }
            dir = parent;
        }
    }

    /// Hides `name` of lower layers in `dir`.
    fn hide(&mut self, dir: NodeId, name: &[u8]) {
        let Some(found) = self.tree.node(dir).children.get(name).copied() else { return };
        match (&self.tree.node(found.node).kind, found.layer == self.layer) {
            (Kind::Directory, true) => self.hide_lower(found.node),
            (_, true) => {}
            (Kind::File { .. }, false) => {
                self.hidden.insert((dir, name.to_vec()));
            }
            (_, false) => self.remove(dir, name),
        }
    }

    /// Removes from `dir` what this layer has not made, at every depth.
    fn hide_lower(&mut self, dir: NodeId) {
        let mut left = vec![dir];
        while let Some(dir) = left.pop() {
            let children = self.tree.node(dir).children.clone();
            for (name, entry) in children {
                if entry.layer != self.layer {
                    self.remove(dir, &name);
                } else if self.tree.node(entry.node).kind == Kind::Directory {
                    left.push(entry.node);
                }
            }
        }
    }

    /// Removes the files that were hidden and not made since.
    fn remove_hidden(&mut self) {
        for (dir, name) in std::mem::take(&mut self.hidden) {
            let found = self.tree.node(dir).children.get(&name);
            if found.is_some_and(|found| found.layer != self.layer) {
                self.remove(dir, &name);
            }
        }
    }

    /// Takes a name of lower layers away, and remembers that.
    fn remove(&mut self, dir: NodeId, name: &[u8]) {
        let path = join(&self.tree.path(dir), name);
        self.tree.removed.insert(path, self.layer);
        self.unlink(dir, name);
    }

    /// Takes a name away, if it is there, with all that is below it.
    fn unlink(&mut self, dir: NodeId, name: &[u8]) {
        let Some(gone) = self.tree.node_mut(dir).children.remove(name) else { return };
        if matches!(self.tree.node(gone.node).kind, Kind::Directory | Kind::Symlink { .. }) {
            // The path of the last directory may lead elsewhere now.
            self.last = None;
        }
        let mut left = vec![gone.node];
        while let Some(id) = left.pop() {
            let layer = self.layer;
            let node = self.tree.node_mut(id);
            node.names = node.names.saturating_sub(1);
            if node.names == 0 {
                node.hidden_by = Some(layer);
            }
            left.extend(std::mem::take(&mut node.children).into_values().map(|name| name.node));
        }
    }
}
