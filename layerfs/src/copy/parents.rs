//! `--parents`: sources that keep their path in the destination.
//!
//! Here: the pivot, `**`, what a pattern takes of a tree. Not here: the walk and the other filters ([`super::select`]).
//!
//! The rules (16 in the study of BuildKit): a source is a pattern of what to take from the directory before its first
//! `/./`, or from the root; that directory's contents are copied, as far as they match, so what is taken keeps its path
//! from there; `**` stands for any number of components; what is in a directory that matches is taken with it; a link
//! that matches is copied as one, and none is followed behind the pivot; a source without wildcards must be there.

use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;

use rustix::io::Errno;

use super::select::{
    Filters, Matcher, Selected, Selection, clean, expand, has_wildcard, literal, without_wildcards,
};
use crate::confined::{Kind, Metadata, Root, open_exact, path_of};
use crate::walk::Visit;
use crate::{Error, IoResultExt, Result};

/// Selects what `sources`, as written in an instruction with `--parents`, mean below `root`: for each of them the
/// directory before its pivot, with as much of its contents as matches. [`Filters::exclude`] is asked with the path
/// from there, [`Filters::matches`] about one component at a time.
///
/// # Errors
/// As [`super::select()`].
pub fn select_parents<S: AsRef<[u8]>>(
    root: &Root,
    sources: &[S],
    filters: &Filters<'_>,
) -> Result<Selection> {
    let mut selected = Vec::new();
    for source in sources {
        let (base, pattern) = split_at_pivot(source.as_ref());
        let (base, pattern) = (clean(base), Pattern { components: clean(pattern) });
        let take = |path: &[u8], _: bool| pattern.visit(path, filters.matches);
        let is_literal = without_wildcards(&base) && without_wildcards(&pattern.components);
        let whole = path_of(&[base.as_slice(), &pattern.components].concat().join(&b'/'));
        let missing = || Error::SourceMissing { path: whole.clone() };
        for base in expand(root, &base, filters)? {
            let found = match literal(root, &base, filters, &take) {
                Err(Error::SourceMissing { .. }) if is_literal => return Err(missing()),
                found => found?.filter(|found| found.metadata.kind == Kind::Directory),
            };
            if is_literal && !holds(root, found.as_ref(), &pattern.components, filters)? {
                return Err(missing());
            }
            selected.extend(found.filter(|found| !found.entries.is_empty()));
        }
    }
    Ok(Selection { sources: selected })
}

/// What stands before the first `/./`, and what stands behind it.
fn split_at_pivot(source: &[u8]) -> (&[u8], &[u8]) {
    match source.windows(3).position(|window| window == b"/./") {
        Some(pivot) => (&source[..pivot], &source[pivot + 3..]),
        None => (b"", source),
    }
}

/// Whether a path without wildcards is in a selected directory, whatever `--exclude` says.
fn holds(
    root: &Root,
    base: Option<&Selected>,
    components: &[Vec<u8>],
    filters: &Filters<'_>,
) -> Result<bool> {
    let Some(base) = base else { return Ok(false) };
    let Some((name, above)) = components.split_last() else { return Ok(true) };
    let holder = base.path.join(path_of(&above.join(&b'/')));
    let look_up =
        || Metadata::at(open_exact(root.as_fd(), holder.as_os_str().as_bytes())?.as_fd(), name.as_slice());
    let path = holder.join(path_of(name));
    let is_dir = match look_up() {
        Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => return Ok(false),
        found => found.at("read the metadata of", &path)?.kind == Kind::Directory,
    };
    Ok(match filters.ignored(&path, is_dir) {
        Visit::Take => true,
        Visit::Skip => false,
        Visit::SkipButDescend => is_dir && !base.entries.is_empty(),
    })
}

/// The components of a pattern; none of them matches everything.
struct Pattern {
    components: Vec<Vec<u8>>,
}

impl Pattern {
    /// What to do with a path: take it if it matches or is in a directory that does, descend if what is in it may.
    fn visit(&self, path: &[u8], matches: &Matcher<'_>) -> Visit {
        let mut here: Vec<usize> = self.from(0).collect();
        for name in path.split(|&byte| byte == b'/') {
            if here.contains(&self.components.len()) {
                return Visit::Take;
            }
            let mut next = Vec::new();
            for &place in &here {
                let component = self.components[place].as_slice();
                if component == b"**" {
                    next.extend(self.from(place));
                }
                let is_name = component == name && !has_wildcard(component);
                if component == b"**" || is_name || matches(component, name) {
                    next.extend(self.from(place + 1));
                }
            }
            next.sort_unstable();
            next.dedup();
            here = next;
        }
        match here.last() {
            Some(&place) if place == self.components.len() => Visit::Take,
            Some(_) => Visit::SkipButDescend,
            None => Visit::Skip,
        }
    }

    /// The places in the pattern that a name may be compared with next, from this one on: `**` also stands for nothing,
    /// save as the last one.
    fn from(&self, place: usize) -> impl Iterator<Item = usize> {
        let rest = self.components.get(place..).unwrap_or_default();
        let skipped = rest.iter().take_while(|component| component.as_slice() == b"**").count();
        let last = if skipped == rest.len() { skipped.saturating_sub(1) } else { skipped };
        place..=place + last
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn visit(pattern: &str, path: &str) -> Visit {
        let matches = |pattern: &[u8], name: &[u8]| pattern == b"*" || (pattern == b"?" && name.len() == 1);
        Pattern { components: clean(pattern.as_bytes()) }.visit(path.as_bytes(), &matches)
    }

    #[test]
    fn patterns_take_descend_and_prune() {
        use Visit::{Skip, SkipButDescend as Descend, Take};
        for (pattern, path, expected) in [
            ("", "a", Take),
            ("a", "a", Take),
            ("a", "a/b/c", Take),
            ("a", "b", Skip),
            ("a/b", "a", Descend),
            ("a/b", "a/c", Skip),
            ("a/b", "a/b", Take),
            ("*", "a", Take),
            ("*/?", "dir", Descend),
            ("*/?", "dir/ab", Skip),
            ("*/?", "dir/a", Take),
            ("*/?", "dir/a/more", Take),
            ("**", "a", Take),
            ("**", "a/b/c", Take),
            ("**/x", "x", Take),
            ("**/x", "a", Descend),
            ("**/x", "a/b/x", Take),
            ("**/x", "a/x/b", Take),
            ("a/**", "a", Descend),
            ("a/**", "a/b", Take),
            ("a/**", "b", Skip),
            ("a/**/**", "a", Descend),
            ("a/**/**", "a/b", Take),
            ("a/**/x/?", "a/x", Descend),
            ("a/**/x/?", "a/x/y", Take),
            ("a/**/x/?", "a/b/x/x/y", Take),
            ("a/**/x/?", "a/x/long", Descend),
            ("a/**/x/?", "b/x/y", Skip),
            ("**/a/**/b", "a/b", Take),
            ("**/a/**/b", "c/a/d/b/e", Take),
            ("**/a/**/b", "c/b", Descend),
        ] {
            assert_eq!(visit(pattern, path), expected, "{pattern} on {path}");
        }
    }

    #[test]
    fn the_first_pivot_counts() {
        for (source, base, pattern) in [
            ("a/./b/./c", "a", "b/./c"),
            ("/./a", "", "a"),
            ("a/./", "a", ""),
            ("./a/b", "", "./a/b"),
            ("a/b/.", "", "a/b/."),
            ("a/../b", "", "a/../b"),
        ] {
            let expected = (base.as_bytes(), pattern.as_bytes());
            assert_eq!(split_at_pivot(source.as_bytes()), expected, "{source}");
        }
    }
}
