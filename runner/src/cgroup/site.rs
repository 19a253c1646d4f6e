//! Where the cgroups of one container are made: in lbuild's own, or in a named one.
//!
//! A named one (Docker's `--cgroup-parent`) is below the top of each hierarchy, wherever lbuild is. What is
//! missing on the way is made and remembered, for [`Hierarchies::remove_empty_parents`]. A container below a
//! named cgroup enters it in every hierarchy, for what the name limits is whatever any of them says.

use std::io;
use std::path::{Path, PathBuf};

use super::hierarchy::{Controller, Hierarchies, Place};
use crate::error::{Failure, Limit, Obstacle};

/// How often a named cgroup is made anew that another lbuild removes at the same time.
const TRIES: u32 = 16;

/// Where the cgroups of one container are made.
pub(super) struct Site<'a> {
    hierarchies: &'a mut Hierarchies,
    named: Option<&'a Path>,
}

impl<'a> Site<'a> {
    pub(super) fn new(hierarchies: &'a mut Hierarchies, named: Option<&'a Path>) -> Site<'a> {
        Site { hierarchies, named }
    }

    /// Which version has a controller here.
    pub(super) fn place(&self, controller: Controller) -> Option<Place> {
        self.hierarchies.place(controller, self.named.is_some())
    }

    /// The failure for an obstacle to a limit.
    pub(super) fn blame(&self, limit: Limit, obstacle: Obstacle) -> Failure {
        match (self.named, &obstacle) {
            (None, _) | (_, Obstacle::NoController { .. }) => Failure::Limit { limit, obstacle },
            (Some(parent), _) => Failure::CgroupParent { parent: parent.to_owned(), obstacle },
        }
    }

    /// Without a limit a container does without a cgroup, unless one was named.
    pub(super) fn must_have(&self, obstacle: Obstacle) -> Result<(), Failure> {
        match self.named {
            Some(parent) => Err(Failure::CgroupParent { parent: parent.to_owned(), obstacle }),
            None => Ok(()),
        }
    }

    /// The v1 hierarchies to enter whatever is limited, each by one of its controllers.
    pub(super) fn v1_to_enter(&self) -> Vec<String> {
        if self.named.is_some() { self.hierarchies.v1_controllers() } else { Vec::new() }
    }

    /// Whether a v1 directory is in the hierarchy of a controller.
    pub(super) fn has_v1(&self, controller: &str, directory: &Path) -> bool {
        self.hierarchies.v1_of(controller).is_some_and(|v1| directory.starts_with(&v1.top))
    }

    /// Makes a cgroup in the v1 hierarchy of a controller.
    pub(super) fn make_v1(&mut self, controller: &str, name: &str) -> Result<PathBuf, Obstacle> {
        let Some(v1) = self.hierarchies.v1_of(controller).cloned() else {
            return Err(Obstacle::NoController { controller: controller.to_owned() });
        };
        let path = self.retry(name, |hierarchies, named| match named {
            None => Ok(v1.own.clone()),
            Some(named) => hierarchies.named(&v1.top, named),
        })?;
        super::seed(&path).map_err(|error| Obstacle::refused(&path, &error))?;
        Ok(path)
    }

    /// Makes a cgroup in the v2 hierarchy, if there is one, with these controllers.
    pub(super) fn make_v2(
        &mut self,
        controllers: &[Controller],
        name: &str,
    ) -> Result<Option<PathBuf>, Obstacle> {
        if !self.hierarchies.has_v2() {
            return Ok(None);
        }
        self.retry(name, |hierarchies, named| match named {
            None => hierarchies.parent_for(controllers),
            Some(named) => hierarchies.named_v2(named, controllers),
        })
        .map(Some)
    }

    /// Makes a cgroup in a parent; one that is named may be removed between the two steps, by another lbuild
    /// that made it.
    fn retry(
        &mut self,
        name: &str,
        parent: impl Fn(&mut Hierarchies, Option<&Path>) -> Result<PathBuf, Obstacle>,
    ) -> Result<PathBuf, Obstacle> {
        let mut tries = if self.named.is_some() { TRIES } else { 1 };
        loop {
            tries -= 1;
            let parent = match parent(self.hierarchies, self.named) {
                Err(Obstacle::Refused { errno: libc::ENOENT, .. }) if tries > 0 => continue,
                parent => parent?,
            };
            match super::make(&parent, name) {
                Err(error) if error.kind() == io::ErrorKind::NotFound && tries > 0 => {}
                made => return made.map_err(|error| Obstacle::refused(&parent, &error)),
            }
        }
    }
}
