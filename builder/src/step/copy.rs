//! `COPY` and `ADD`: files from the context, a stage or an image.

use std::path::{Path, PathBuf};

use layerfs::confined::{Owner, Root};
use layerfs::copy::{Filters, ModeChange, Options, Selection};
use layerfs::snapshot::{Active, SnapshotId, Snapshotter};
use layerfs::walk::Visit;
use layerfs::{checksum, copy as files};
use oci::Digest;
use runner::user::UserProblem;

use crate::dockerfile::diagnostic::suggest;
use crate::dockerfile::glob::filepath_match;
use crate::error::{MissingReason, Place};
use crate::plan::{Copy, Origin, Step};
use crate::request::Context;
use crate::{Error, Events, Request};

/// Where files are copied from, opened.
pub(crate) struct Source {
    root: Root,
    is_context: bool,
}

impl Source {
    /// The build context.
    pub(crate) fn context(step: &Step, request: &Request) -> Result<Source, Error> {
        let root = Root::open(&request.context.root).map_err(|source| Error::Step {
            span: step.span,
            act: "open the build context",
            source,
        })?;
        Ok(Source { root, is_context: true })
    }

    /// A snapshot, or an empty file system.
    pub(crate) fn snapshot(
        snapshots: &dyn Snapshotter,
        snapshot: Option<&SnapshotId>,
    ) -> layerfs::Result<Source> {
        let root = match snapshot {
            Some(id) => Root::duplicate(snapshots.view(id)?.root())?,
            None => Root::duplicate(snapshots.prepare(None)?.root())?,
        };
        Ok(Source { root, is_context: false })
    }

    /// The files that `copy` means, and the digest of what they contain.
    pub(crate) fn select(
        &self,
        step: &Step,
        copy: &Copy,
        request: &Request,
    ) -> Result<(Selection, Digest), Error> {
        let names: Vec<&str> = copy.sources.iter().map(|(path, _)| path.as_str()).collect();
        let selection = match self.find(&names, request) {
            Ok(selection) => selection,
            Err(layerfs::Error::SourceMissing { path }) => return Err(self.missing(copy, &path, request)),
            Err(source) => {
                return Err(Error::Step { span: step.span, act: "find the files to copy", source });
            }
        };
        // Whoever checked the context out owns it; in the image it is root's.
        let options = checksum::Options { owner: self.is_context.then(Owner::default) };
        let content = checksum::digest(&self.root, &selection, options).map_err(|source| Error::Step {
            span: step.span,
            act: "read the files to copy",
            source,
        })?;
        Ok((selection, content))
    }

    fn find(&self, names: &[&str], request: &Request) -> layerfs::Result<Selection> {
        let ignore = &request.context.ignore;
        let filter = |path: &[u8], is_dir: bool| match ignore.ignores(path) {
            false => Visit::Take,
            true if is_dir && ignore.may_reinclude_below(path) => Visit::SkipButDescend,
            true => Visit::Skip,
        };
        let matches = |pattern: &[u8], name: &[u8]| filepath_match(pattern, name).unwrap_or(false);
        let is_filtered = self.is_context && !ignore.is_empty();
        let filters =
            Filters { matches: &matches, ignore: is_filtered.then_some(&filter as _), exclude: None };
        files::select(&self.root, names, &filters)
    }

    fn missing(&self, copy: &Copy, path: &Path, request: &Request) -> Error {
        // The error names the path as it was cleaned; the word is the one that fails alone.
        let is_missing = |(name, _): &&(String, _)| {
            matches!(self.find(&[name], request), Err(layerfs::Error::SourceMissing { .. }))
        };
        let word = copy.sources.iter().find(is_missing).or(copy.sources.first());
        let (name, span) = word.cloned().unwrap_or_else(|| (path.display().to_string(), Default::default()));
        let place = match &copy.origin {
            Origin::Context => Place::Context(request.context.root.clone()),
            Origin::Stage(_) => Place::Stage(copy.from.clone().unwrap_or_default()),
            Origin::Image(reference) => Place::Image(reference.clone()),
        };
        let ignored = self.is_context.then(|| ignored_by(&request.context, path)).flatten();
        let link = || self.root.read_link(path).ok().map(|target| MissingReason::Link { target });
        let reason = ignored.or_else(link).or_else(|| self.near(path)).unwrap_or(MissingReason::Absent);
        Error::MissingSource { span, path: name, place, reason }
    }

    /// A name beside the missing one that is nearly the same, perhaps in other letters.
    fn near(&self, path: &Path) -> Option<MissingReason> {
        let parent = path.parent().unwrap_or(Path::new(""));
        let wanted = path.file_name()?.to_string_lossy().into_owned();
        let names: Vec<String> = self
            .root
            .list(parent)
            .ok()?
            .into_iter()
            .map(|name| name.to_string_lossy().into_owned())
            .collect();
        let same_letters = names.iter().find(|name| name.to_lowercase() == wanted.to_lowercase());
        let near = same_letters
            .map(String::as_str)
            .or_else(|| suggest(&wanted, names.iter().map(String::as_str)))?;
        let near: PathBuf = parent.join(near);
        Some(MissingReason::Near(near.to_string_lossy().into_owned()))
    }
}

fn ignored_by(context: &Context, path: &Path) -> Option<MissingReason> {
    let decision = context.ignore.decide(path.as_os_str().as_encoded_bytes());
    let line = decision.line.filter(|_| decision.ignored)?;
    if !context.root.join(path.strip_prefix("/").unwrap_or(path)).exists() {
        return None;
    }
    let pattern = context.ignore_text.lines().nth(line - 1).unwrap_or_default().trim().to_owned();
    Some(MissingReason::Ignored { file: context.ignore_name.clone(), line, pattern })
}

/// Copies what was selected, archives of `ADD` unpacked.
pub(crate) fn execute(
    step: &Step,
    copy: &Copy,
    active: &Active,
    selection: &Selection,
    source: &Source,
    events: Events<'_>,
) -> Result<(), Error> {
    let fail = |source| Error::Step { span: step.span, act: "copy", source };
    let owner = match &copy.owner {
        Some(owner) => Some(resolve_owner(step, owner, active, events)?),
        None => source.is_context.then(Owner::default),
    };
    let mode = copy.mode.as_deref().map(str::parse::<ModeChange>).transpose().map_err(fail)?;
    let options = Options { owner, mode, unpack: copy.unpack };
    let target = Root::duplicate(active.root()).map_err(fail)?;
    files::copy(&source.root, selection, &target, Path::new(&copy.destination), &options).map_err(fail)?;
    Ok(())
}

/// The owner that `--chown` names: a lone number is user and group alike; a lone name has the group of its entry in
/// `/etc/passwd`; names are looked up in the image that is being built. A name that is not there is root, as BuildKit
/// has it, and that is told.
fn resolve_owner(step: &Step, owner: &str, active: &Active, events: Events<'_>) -> Result<Owner, Error> {
    if let Ok(id) = owner.parse::<u32>() {
        return Ok(Owner { uid: id, gid: id });
    }
    match runner::user::lookup(active.root(), owner) {
        Ok(identity) => Ok(Owner { uid: identity.uid, gid: identity.gid }),
        Err(runner::Error::User { problem: UserProblem::NoUser | UserProblem::NoGroup, .. }) => {
            let line = step.span.start.line;
            let text = format!(
                "warning: line {line}: `--chown={owner}` is not known in the image; root owns the files\n"
            );
            events(crate::Event::Warning { text });
            Ok(Owner::default())
        }
        Err(source) => Err(Error::User { span: step.span, source }),
    }
}
