//! Files from elsewhere that a step reads: found, filtered, digested.
//!
//! A [`Source`] is an opened tree: a directory of this machine, behind its ignore file, or a snapshot. A [`Chosen`] is
//! what one [`Input`] takes of it. Copying them is [`super::copy`]; showing them to a command is [`super::mount`].

use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use layerfs::checksum::Known;
use layerfs::confined::{Owner, Root};
use layerfs::copy::{Filters, Selection};
use layerfs::snapshot::{Active, SnapshotId, Snapshotter};
use layerfs::walk::Visit;
use layerfs::{checksum, copy as files};
use oci::Digest;

use super::known::KnownFiles;
use crate::cache::KeyBuilder;
use crate::dockerfile::diagnostic::{Span, suggest};
use crate::dockerfile::glob::filepath_match;
use crate::error::{MissingReason, Place};
use crate::ignore::Ignore;
use crate::plan::{InlineFile, Input, Origin, Step, StepKind};
use crate::request::Context;
use crate::{Error, Request};

/// Whose the files of a build context are in an image.
const CONTEXT_OWNER: Owner = Owner { uid: 0, gid: 0 };

/// A tree to take files from, opened.
pub(crate) struct Source<'a> {
    pub(crate) root: Root,
    /// Where it is, if it is in the store; else it is a directory of this machine.
    pub(crate) snapshot: Option<Stored>,
    /// The directory, if it is one, and what is known of its files.
    context: Option<(&'a Context, Arc<Known>)>,
    /// An empty tree, which is there as long as this is.
    _empty: Option<Active>,
}

/// A tree of the store; none for an empty one.
pub(crate) struct Stored(pub(crate) Option<SnapshotId>);

impl<'a> Source<'a> {
    /// A directory of this machine.
    pub(crate) fn directory(
        context: &'a Context,
        known: &KnownFiles<'_>,
        span: Span,
    ) -> Result<Source<'a>, Error> {
        let fail = |source| Error::Step { span, act: "open the build context", source };
        let root = Root::duplicate(context.files().as_fd()).map_err(fail)?;
        let known = known.of(context, &root, CONTEXT_OWNER).map_err(fail)?;
        Ok(Source { root, snapshot: None, context: Some((context, known)), _empty: None })
    }

    /// A snapshot, or an empty file system.
    pub(crate) fn snapshot(
        snapshots: &dyn Snapshotter,
        snapshot: Option<SnapshotId>,
    ) -> layerfs::Result<Source<'a>> {
        let (root, empty) = match &snapshot {
            Some(id) => (Root::duplicate(snapshots.view(id)?.root())?, None),
            None => {
                let empty = snapshots.prepare(None)?;
                (Root::duplicate(empty.root())?, Some(empty))
            }
        };
        Ok(Source { root, snapshot: Some(Stored(snapshot)), context: None, _empty: empty })
    }

    /// The owner of its files in an image, unless `--chown` says otherwise; none where they keep theirs.
    pub(crate) fn owner(&self) -> Option<Owner> {
        self.directory_of().map(|_| CONTEXT_OWNER)
    }

    fn directory_of(&self) -> Option<&'a Context> {
        self.context.as_ref().map(|(context, _)| *context)
    }

    fn ignore(&self) -> Option<&'a Ignore> {
        self.directory_of().map(|context| &context.ignore).filter(|ignore| !ignore.is_empty())
    }
}

/// How a step chooses among the files of its inputs.
#[derive(Default)]
struct Choice {
    parents: bool,
    exclude: Ignore,
}

impl Choice {
    fn of(step: &Step) -> Choice {
        match &step.kind {
            // Lowering has checked the patterns.
            StepKind::Copy(copy) => Choice {
                parents: copy.parents,
                exclude: Ignore::from_patterns(&copy.exclude).unwrap_or_default(),
            },
            StepKind::Run(_) | StepKind::Workdir(_) => Choice::default(),
        }
    }
}

/// What a step takes from one of its inputs.
pub(crate) enum Chosen<'a> {
    /// Files of a tree, and the digest of what they contain.
    Files(Box<Source<'a>>, Selection, Digest),
    /// Files of the Dockerfile.
    Inline(&'a [InlineFile]),
}

impl<'a> Chosen<'a> {
    /// What `input` takes from `source`.
    pub(crate) fn from(
        source: Source<'a>,
        input: &'a Input,
        step: &Step,
        request: &Request,
    ) -> Result<Chosen<'a>, Error> {
        let choice = Choice::of(step);
        let names: Vec<&str> = input.paths.iter().map(|(path, _)| path.as_str()).collect();
        let selection = match find(&source, &names, &choice) {
            Ok(selection) => selection,
            Err(layerfs::Error::SourceMissing { path }) => {
                return Err(missing(&source, input, &path, &choice, request));
            }
            Err(source) => {
                return Err(Error::Step { span: step.span, act: "find the files to copy", source });
            }
        };
        let known = source.context.as_ref().map(|(_, known)| known.as_ref());
        let options = checksum::Options { owner: source.owner(), known };
        let digest = checksum::digest(&source.root, &selection, options).map_err(|source| Error::Step {
            span: step.span,
            act: "read the files to copy",
            source,
        })?;
        Ok(Chosen::Files(Box::new(source), selection, digest))
    }

    /// The first file or directory itself: mode and owner.
    pub(crate) fn root(&self) -> Option<String> {
        let Chosen::Files(source, selection, _) = self else { return None };
        let metadata = &selection.sources.first()?.metadata;
        let owner = source.owner().unwrap_or(metadata.owner);
        Some(format!("{:o} {}:{}", metadata.mode, owner.uid, owner.gid))
    }

    /// Makes it a part of a key.
    pub(crate) fn describe(&self, builder: &mut KeyBuilder) {
        match self {
            Chosen::Files(_, _, digest) => builder.add("content", digest.to_string()),
            Chosen::Inline(files) => {
                builder.add_all("file name", files.iter().map(|file| file.name.as_str()));
                builder.add_all("file", files.iter().map(|file| file.content.as_str()));
            }
        }
    }
}

fn find(source: &Source<'_>, names: &[&str], choice: &Choice) -> layerfs::Result<Selection> {
    let visit = |patterns: &Ignore, path: &[u8], is_dir: bool| match patterns.ignores(path) {
        false => Visit::Take,
        true if is_dir && patterns.may_reinclude_below(path) => Visit::SkipButDescend,
        true => Visit::Skip,
    };
    let ignore = source.ignore();
    let ignored =
        |path: &[u8], is_dir: bool| ignore.map_or(Visit::Take, |ignore| visit(ignore, path, is_dir));
    let excluded = |path: &[u8], is_dir: bool| visit(&choice.exclude, path, is_dir);
    let matches = |pattern: &[u8], name: &[u8]| filepath_match(pattern, name).unwrap_or(false);
    let filters = Filters {
        matches: &matches,
        ignore: ignore.is_some().then_some(&ignored as _),
        exclude: (!choice.exclude.is_empty()).then_some(&excluded as _),
    };
    match choice.parents {
        true => files::select_parents(&source.root, names, &filters),
        false => files::select(&source.root, names, &filters),
    }
}

fn missing(source: &Source<'_>, input: &Input, path: &Path, choice: &Choice, request: &Request) -> Error {
    // The error names the path as it was cleaned; the word is the one that fails alone.
    let is_missing = |(name, _): &&(String, Span)| {
        matches!(find(source, &[name], choice), Err(layerfs::Error::SourceMissing { .. }))
    };
    let word = input.paths.iter().find(is_missing).or(input.paths.first());
    let (name, span) = word.cloned().unwrap_or_else(|| (path.display().to_string(), Default::default()));
    let place = match (&input.origin, source.directory_of()) {
        (_, Some(context)) => Place::Context(context.root.clone()),
        (Origin::Image(image), _) => Place::Image(image.reference.clone()),
        (Origin::Stage(_), _) => Place::Stage(input.from.clone().unwrap_or_default()),
        (Origin::Remote(remote), _) => Place::Fetched(remote.to_string()),
        (Origin::Context, None) => Place::SentContext,
        (Origin::Scratch, None) => Place::Stage("scratch".to_owned()),
        (Origin::Named(_) | Origin::Inline(_), None) => Place::Fetched(request.dockerfile_name.clone()),
    };
    let ignored = source.directory_of().and_then(|context| ignored_by(context, path));
    let link = || source.root.read_link(path).ok().map(|target| MissingReason::Link { target });
    let reason = ignored.or_else(link).or_else(|| near(&source.root, path)).unwrap_or(MissingReason::Absent);
    Error::MissingSource { span, path: name, place, reason }
}

/// A name that is nearly the same, perhaps in other letters, in place of the first part of `path` that is missing.
fn near(root: &Root, path: &Path) -> Option<MissingReason> {
    let exists = |path: &&Path| path.as_os_str().is_empty() || root.exists(path).unwrap_or(false);
    let parent = path.ancestors().skip(1).find(exists)?;
    let below = path.strip_prefix(parent).ok()?;
    let mut parts = below.components();
    let wanted = parts.next()?.as_os_str().to_string_lossy().into_owned();
    let names: Vec<String> =
        root.list(parent).ok()?.into_iter().map(|name| name.to_string_lossy().into_owned()).collect();
    let same_letters = names.iter().find(|name| name.to_lowercase() == wanted.to_lowercase());
    let near =
        same_letters.map(String::as_str).or_else(|| suggest(&wanted, names.iter().map(String::as_str)))?;
    let mut near: PathBuf = parent.join(near);
    near.extend(parts);
    Some(MissingReason::Near(near.to_string_lossy().into_owned()))
}

fn ignored_by(context: &Context, path: &Path) -> Option<MissingReason> {
    let decision = context.ignore.decide(path.as_os_str().as_encoded_bytes());
    let line = decision.line.filter(|_| decision.ignored)?;
    if !context.files().exists(path).unwrap_or(false) {
        return None;
    }
    let pattern = context.ignore_text.lines().nth(line - 1).unwrap_or_default().trim().to_owned();
    Some(MissingReason::Ignored { file: context.ignore_name.clone(), line, pattern })
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_context_stays_the_directory_that_was_opened() {
        let dir = tempfile::tempdir().unwrap();
        let (path, other) = (dir.path().join("context"), dir.path().join("other"));
        for (path, name) in [(&path, "own"), (&other, "foreign")] {
            fs::create_dir(path).unwrap();
            fs::write(path.join(name), "").unwrap();
        }
        let context = Context::open(path.clone()).unwrap();
        fs::rename(&path, dir.path().join("moved")).unwrap();
        std::os::unix::fs::symlink(&other, &path).unwrap();
        let store = layerfs::store::Store::open(&dir.path().join("store")).unwrap();
        let source = Source::directory(&context, &KnownFiles::new(&store), Span::default()).unwrap();
        assert_eq!(source.root.list(Path::new("")).unwrap(), ["own"]);
        let selection = find(&source, &["."], &Choice::default()).unwrap();
        assert_eq!(selection.sources[0].entries.len(), 1);
        assert_eq!(selection.sources[0].entries[0].path, b"own");
    }
}
