//! `COPY` and `ADD`: files from elsewhere, into the image.

use std::cell::OnceCell;
use std::io::Write;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use layerfs::IoResultExt;
use layerfs::confined::{NewDirectory, Owner, Root};
use layerfs::copy as files;
use layerfs::copy::{Filters, ModeChange, Options, Selection};
use layerfs::snapshot::{Active, SnapshotId, Snapshotter};

use super::owner;
use super::source::Chosen;
use crate::plan::{Copy, InlineFile, Step};
use crate::{Error, Events};

/// Copies what was chosen, input by input, onto `parent`; gives the snapshot in the making.
pub(crate) fn execute(
    (step, copy): (&Step, &Copy),
    parent: Option<&SnapshotId>,
    chosen: &[Option<Chosen<'_>>],
    snapshots: &dyn Snapshotter,
    events: Events<'_>,
) -> Result<Active, Error> {
    let fail = |act| move |source| Error::Step { span: step.span, act, source };
    let mode = copy.mode.as_deref().map(str::parse::<ModeChange>).transpose().map_err(fail("copy"))?;
    let copying = Copying { step, copy, owner: OnceCell::new(), mode, chosen, snapshots, events };
    if let Some(parent) = parent
        && let Some(active) = copying.beside(parent)?
    {
        return Ok(active);
    }
    let active = snapshots.prepare(parent).map_err(fail("prepare the file system"))?;
    copying.copy(active.root(), &active, |_, _| Ok(Some(PathBuf::from(&copy.destination))))?;
    Ok(active)
}

/// One `COPY` or `ADD`.
struct Copying<'a> {
    step: &'a Step,
    copy: &'a Copy,
    owner: OnceCell<Owner>,
    mode: Option<ModeChange>,
    chosen: &'a [Option<Chosen<'a>>],
    snapshots: &'a dyn Snapshotter,
    events: Events<'a>,
}

impl Copying<'_> {
    /// Copies beside what is there, if the copy is simple enough for that.
    fn beside(&self, parent: &SnapshotId) -> Result<Option<Active>, Error> {
        if self.copy.parents || self.copy.inputs.iter().any(|input| input.unpack) {
            return Ok(None);
        }
        let active = self.snapshots.prepare_beside(parent).map_err(|source| self.failure(source))?;
        let below = self.snapshots.view(parent).map_err(|source| self.failure(source))?;
        let below = Root::duplicate(below.root()).map_err(|source| self.failure(source))?;
        let destination = Path::new(&self.copy.destination);
        let bring_up =
            |selection: &Selection, target: &Root| files::bring_up(&below, target, selection, destination);
        Ok(self.copy(below.as_fd(), &active, bring_up)?.then_some(active))
    }

    /// Copies into `active`, of users and groups that `image` knows. `place` says where each selection goes, or that it
    /// cannot go there; then this says `false`.
    fn copy(
        &self,
        image: BorrowedFd<'_>,
        active: &Active,
        place: impl Fn(&Selection, &Root) -> layerfs::Result<Option<PathBuf>>,
    ) -> Result<bool, Error> {
        let owner = self.owner(image)?;
        let target = Root::duplicate(active.root()).map_err(|source| self.failure(source))?;
        let put = |source: &Root, selection: &Selection, options: &Options| {
            let Some(destination) = place(selection, &target)? else { return Ok(false) };
            files::copy(source, selection, &target, &destination, options).map(|_| true)
        };
        for (input, chosen) in self.copy.inputs.iter().zip(self.chosen) {
            let is_put = match chosen {
                Some(Chosen::Files(source, selection, _)) => {
                    let owner = owner.or_else(|| source.owner());
                    let options = Options { owner, mode: self.mode.clone(), unpack: input.unpack };
                    put(&source.root, selection, &options)
                }
                Some(Chosen::Inline(inline)) => {
                    let owner = Some(owner.unwrap_or_default());
                    let options = Options { owner, mode: self.mode.clone(), unpack: false };
                    put_inline(inline, self.snapshots, |source, selection| put(source, selection, &options))
                }
                None => Ok(true),
            };
            if !is_put.map_err(|source| self.failure(source))? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Whom `--chown` means; looked up, and complained of, once.
    fn owner(&self, image: BorrowedFd<'_>) -> Result<Option<Owner>, Error> {
        let Some(text) = &self.copy.owner else { return Ok(None) };
        if let Some(owner) = self.owner.get() {
            return Ok(Some(*owner));
        }
        let owner = owner::resolve(text, image, ("--chown=", self.step.span), self.events)?;
        Ok(Some(*self.owner.get_or_init(|| owner)))
    }

    fn failure(&self, source: layerfs::Error) -> Error {
        Error::Step { span: self.step.span, act: "copy", source }
    }
}

/// Heredocs become files of an empty tree, and are copied from there like any others.
fn put_inline(
    inline: &[InlineFile],
    snapshots: &dyn Snapshotter,
    put: impl Fn(&Root, &Selection) -> layerfs::Result<bool>,
) -> layerfs::Result<bool> {
    let tree = snapshots.prepare(None)?;
    let root = Root::duplicate(tree.root())?;
    for file in inline {
        let path = Path::new(&file.name);
        if let Some(above) = path.parent() {
            root.make_dirs(above, &NewDirectory::default())?;
        }
        let mut written = root.create_file(path, 0o644, Owner::default())?;
        written.write_all(file.content.as_bytes()).at("write", path)?;
        written.set_modified(SystemTime::UNIX_EPOCH).at("date", path)?;
    }
    let matches = |pattern: &[u8], name: &[u8]| pattern == name;
    let filters = Filters { matches: &matches, ignore: None, exclude: None };
    for file in inline {
        if !put(&root, &files::select(&root, &[&file.name], &filters)?)? {
            return Ok(false);
        }
    }
    Ok(true)
}
