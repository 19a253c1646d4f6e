//! Which files a COPY or ADD means: its sources, found once, for its key and for its execution alike.
//!
//! Here: cleaning a source, wildcards, links at the top, the filters. Not here: what a pattern matches (the
//! caller's matcher), where the files go ([`super`]).
//!
//! The rules, by their numbers in the study of BuildKit: a source is relative to the root whatever it begins
//! with, `..` stops there (2); a wildcard matches below its longest literal prefix, in lexical order, and what
//! is below a matched directory is not matched again (5); a wildcard without a match selects nothing, a
//! literal source that is missing is an error, and so is the literal prefix of a wildcard (6); a link named or
//! matched is followed inside the root, a link inside a selected directory stays one (7); an exclusion is
//! relative to each selected directory (17). With `--parents` a source means something else: [`super::parents`].

use std::collections::BTreeSet;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use crate::confined::{Kind, Metadata, Root, open_exact, path_of};
use crate::walk::{self, Entry, Filter, Visit, join};
use crate::{Error, IoResultExt, Result};

/// Whether a name matches a pattern: `filepath.Match` of Go. A malformed pattern matches nothing.
pub type Matcher<'a> = dyn Fn(&[u8], &[u8]) -> bool + Sync + 'a;

/// What decides about a path besides its name in the instruction.
#[derive(Clone, Copy)]
pub struct Filters<'a> {
    /// The meaning of wildcards: pattern, then path, both relative to the pattern's literal prefix.
    pub matches: &'a Matcher<'a>,
    /// `.dockerignore`, by the path from the root; the answer for a path accounts for its parents. Not
    /// asked about the root itself.
    pub ignore: Option<&'a Filter<'a>>,
    /// `--exclude`, by the path from the selected directory, or by the name of a selected file.
    pub exclude: Option<&'a Filter<'a>>,
}

/// All that one COPY or ADD selects, in the order in which it is copied.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Selection {
    /// The sources.
    pub sources: Vec<Selected>,
}

impl Selection {
    /// How many files and directories are selected.
    pub fn len(&self) -> usize {
        self.sources.iter().map(|source| source.entries.len() + 1).sum()
    }

    /// Whether nothing is selected.
    pub fn is_empty(&self) -> bool {
        self.sources.is_empty()
    }
}

/// One file, or one directory whose contents are meant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Selected {
    /// The last component as it was written or matched: the name in a destination directory. A link's own.
    pub name: Vec<u8>,
    /// Where it is below the root, without links.
    pub path: PathBuf,
    /// Its metadata; never a link's.
    pub metadata: Metadata,
    /// What is in it and passes the filters, if it is a directory.
    pub entries: Vec<Entry>,
    /// The directories among `entries` that are there only for what is in them, by an exclusion that is taken back
    /// below or by `--parents`. One that the destination has already keeps its owner and its time.
    pub passed: BTreeSet<Vec<u8>>,
}

/// Selects what `sources`, as written in the instruction, mean below `root`.
///
/// # Errors
/// [`Error::SourceMissing`] with the source as cleaned, up to its first wildcard, if that leads nowhere or to what
/// `.dockerignore` hides; [`Error::File`] if something cannot be read.
pub fn select<S: AsRef<[u8]>>(root: &Root, sources: &[S], filters: &Filters<'_>) -> Result<Selection> {
    let mut selected = Vec::new();
    for source in sources {
        for path in expand(root, &clean(source.as_ref()), filters)? {
            selected.extend(literal(root, &path, filters, &walk::everything)?);
        }
    }
    Ok(Selection { sources: selected })
}

/// The paths that a cleaned source stands for: itself, if it has no wildcard.
pub(super) fn expand(root: &Root, source: &[Vec<u8>], filters: &Filters<'_>) -> Result<Vec<Vec<Vec<u8>>>> {
    match wildcard(source) {
        None => Ok(vec![source.to_vec()]),
        Some((prefix, pattern)) => matches(root, &prefix, &pattern, filters),
    }
}

/// The source relative to the root, without `.`, `..` or superfluous slashes; empty for the root.
pub(super) fn clean(source: &[u8]) -> Vec<Vec<u8>> {
    let mut components: Vec<Vec<u8>> = Vec::new();
    for component in source.split(|&byte| byte == b'/') {
        match component {
            b"" | b"." => {}
            b".." => drop(components.pop()),
            name => components.push(name.to_owned()),
        }
    }
    components
}

pub(super) fn without_wildcards(source: &[Vec<u8>]) -> bool {
    !source.iter().any(|component| has_wildcard(component))
}

/// Splits before the first component with a wildcard, if there is one.
fn wildcard(source: &[Vec<u8>]) -> Option<(Vec<Vec<u8>>, Vec<u8>)> {
    let first = source.iter().position(|component| has_wildcard(component))?;
    Some((source[..first].to_vec(), source[first..].join(&b'/')))
}

pub(super) fn has_wildcard(component: &[u8]) -> bool {
    let mut bytes = component.iter();
    while let Some(byte) = bytes.next() {
        match byte {
            b'\\' => drop(bytes.next()),
            b'*' | b'?' | b'[' => return true,
            _ => {}
        }
    }
    false
}

/// What a source without wildcards selects, of a directory what `take` leaves; `None` if it is excluded.
pub(super) fn literal(
    root: &Root,
    source: &[Vec<u8>],
    filters: &Filters<'_>,
    take: &Filter<'_>,
) -> Result<Option<Selected>> {
    let written = path_of(&source.join(&b'/'));
    let missing = || Error::SourceMissing { path: written.clone() };
    let name = source.last().cloned().unwrap_or_default();
    let found = root.resolve(&written)?.ok_or_else(missing)?;
    let is_dir = found.metadata.kind == Kind::Directory;
    let visit = filters.ignored(&found.path, is_dir);
    // A link that is ignored is not there to be followed.
    let hidden = found.links.iter().any(|link| filters.ignored(link, false) != Visit::Take);
    if hidden || visit == Visit::Skip || (visit == Visit::SkipButDescend && !is_dir) {
        return Err(missing());
    }
    let mut selected = Selected {
        name,
        path: found.path,
        metadata: found.metadata,
        entries: Vec::new(),
        passed: BTreeSet::new(),
    };
    if !is_dir {
        let excluded = filters.exclude.is_some_and(|exclude| exclude(&selected.name, false) != Visit::Take);
        return Ok((!excluded).then_some(selected));
    }
    selected.list(root, filters, take)?;
    if visit == Visit::SkipButDescend && selected.entries.is_empty() {
        return Err(missing());
    }
    Ok(Some(selected))
}

impl Selected {
    /// Finds what of a directory passes the filters.
    fn list(&mut self, root: &Root, filters: &Filters<'_>, take: &Filter<'_>) -> Result<()> {
        let chosen = |path: &[u8], is_dir: bool| {
            take(path, is_dir).and(filters.exclude.map_or(Visit::Take, |exclude| exclude(path, is_dir)))
        };
        let filter = |path: &[u8], is_dir: bool| match chosen(path, is_dir) {
            Visit::Skip => Visit::Skip,
            visit => visit.and(filters.ignored(&self.path.join(path_of(path)), is_dir)),
        };
        let dir = open_exact(root.as_fd(), self.path.as_os_str().as_bytes()).at("open", &self.path)?;
        let entries = walk::walk(dir.as_fd(), &filter).map_err(|error| error.below(&self.path))?;
        let is_passed = |entry: &&Entry| {
            entry.metadata.kind == Kind::Directory && chosen(&entry.path, true) == Visit::SkipButDescend
        };
        self.passed = entries.iter().filter(is_passed).map(|entry| entry.path.clone()).collect();
        self.entries = entries;
        Ok(())
    }
}

impl Filters<'_> {
    pub(super) fn ignored(&self, path: &Path, is_dir: bool) -> Visit {
        match self.ignore {
            Some(ignore) if !path.as_os_str().is_empty() => ignore(path.as_os_str().as_bytes(), is_dir),
            _ => Visit::Take,
        }
    }
}

impl Visit {
    /// What two filters decide together.
    fn and(self, other: Visit) -> Visit {
        match (self, other) {
            (Visit::Skip, _) | (_, Visit::Skip) => Visit::Skip,
            (Visit::Take, Visit::Take) => Visit::Take,
            _ => Visit::SkipButDescend,
        }
    }
}

/// The sources that a pattern below a literal prefix stands for.
fn matches(
    root: &Root,
    prefix: &[Vec<u8>],
    pattern: &[u8],
    filters: &Filters<'_>,
) -> Result<Vec<Vec<Vec<u8>>>> {
    let written = path_of(&prefix.join(&b'/'));
    let missing = || Error::SourceMissing { path: written.clone() };
    let found = root.resolve(&written)?.ok_or_else(missing)?;
    let hidden = found.links.iter().any(|link| filters.ignored(link, false) != Visit::Take);
    if hidden || filters.ignored(&found.path, true) == Visit::Skip {
        return Err(missing());
    }
    if found.metadata.kind != Kind::Directory {
        return Ok(Vec::new());
    }
    // `*` and `?` never match a slash, a class such as `[^a]` can: no match is deeper than this.
    let depth = 1 + pattern.iter().filter(|byte| matches!(byte, b'/' | b'[')).count();
    let base = open_exact(root.as_fd(), found.path.as_os_str().as_bytes()).at("open", &found.path)?;
    let mut search = Search { base: &base, prefix: &found.path, pattern, filters, found: Vec::new() };
    search.look_into(b"", depth)?;
    let below_prefix = |path: Vec<u8>| {
        let mut source = prefix.to_vec();
        source.extend(path.split(|&byte| byte == b'/').map(<[u8]>::to_vec));
        source
    };
    Ok(search.found.into_iter().map(below_prefix).collect())
}

struct Search<'a> {
    base: &'a std::os::fd::OwnedFd,
    prefix: &'a Path,
    pattern: &'a [u8],
    filters: &'a Filters<'a>,
    found: Vec<Vec<u8>>,
}

impl Search<'_> {
    /// Recurses at most as deep as the pattern has components.
    fn look_into(&mut self, path: &[u8], depth: usize) -> Result<()> {
        let at = |path: &[u8]| self.prefix.join(path_of(path));
        let dir = open_exact(self.base.as_fd(), path).at("open", at(path))?;
        for (name, kind) in walk::names(dir.as_fd()).at("list", at(path))? {
            let inside = join(path, name.as_bytes());
            let kind = match kind {
                Some(kind) => kind,
                None => Metadata::at(dir.as_fd(), &name).at("read the metadata of", at(&inside))?.kind,
            };
            let is_dir = kind == Kind::Directory;
            let visit = self.filters.ignored(&at(&inside), is_dir);
            if visit == Visit::Skip {
                continue;
            }
            if (self.filters.matches)(self.pattern, &inside) {
                // A directory of which something is taken is there; whether, only its contents tell.
                if visit == Visit::Take || (is_dir && self.holds_something(&inside)?) {
                    self.found.push(inside);
                }
            } else if is_dir && depth > 1 {
                self.look_into(&inside, depth - 1)?;
            }
        }
        Ok(())
    }

    fn holds_something(&self, path: &[u8]) -> Result<bool> {
        let whole = self.prefix.join(path_of(path));
        let dir = open_exact(self.base.as_fd(), path).at("open", &whole)?;
        let filter = |inside: &[u8], is_dir: bool| self.filters.ignored(&whole.join(path_of(inside)), is_dir);
        walk::walk(dir.as_fd(), &filter)
            .map(|entries| !entries.is_empty())
            .map_err(|error| error.below(&whole))
    }
}
