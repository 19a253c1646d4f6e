//! A fast, sorted listing of a directory tree with the metadata of all that is in it.
//!
//! Here: the walk and its filter. Not here: what the files contain ([`crate::checksum`], [`crate::copy`]).
//!
//! Order: breadth first, one level of directories at a time and the directories of a level in parallel; then
//! the listings are joined depth first. So no descriptor is kept open and nothing recurses, however deep a
//! hostile tree may be.
//!
//! Invariants: the result is sorted by name, bytewise, component by component, with each directory before
//! what is in it; links are not followed; a directory is opened by a path that must not lead through a link,
//! so a tree that changes during the walk can make it fail, but not lead it elsewhere.

use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, BorrowedFd};

use rayon::prelude::*;
use rustix::fs::RawDir;
use rustix::io::Errno;

use crate::confined::{Kind, Metadata, open_exact};
use crate::entry::MAX_PATH_BYTES;
use crate::{IoResultExt, Result};

/// What to do with a file, or with a directory and what is in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Visit {
    /// List it, and look into it if it is a directory.
    Take,
    /// Leave it out, with all that is in it.
    Skip,
    /// Look into it; list it only if something in it is listed.
    SkipButDescend,
}

/// Decides by the path from the root of the walk and by whether it is a directory.
pub type Filter<'a> = dyn Fn(&[u8], bool) -> Visit + Sync + 'a;

/// The filter that takes all there is.
pub fn everything(_path: &[u8], _is_dir: bool) -> Visit {
    Visit::Take
}

/// One file of a tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The path from the root of the walk; never empty.
    pub path: Vec<u8>,
    /// The metadata at the time of the walk.
    pub metadata: Metadata,
}

impl Entry {
    /// The last component.
    pub fn name(&self) -> &[u8] {
        split(&self.path).1
    }

    /// The path of the directory that holds it; empty for the root of the walk.
    pub fn parent(&self) -> &[u8] {
        split(&self.path).0
    }
}

/// Directory, empty for the root, and name.
pub(crate) fn split(path: &[u8]) -> (&[u8], &[u8]) {
    match path.iter().rposition(|&byte| byte == b'/') {
        Some(slash) => (&path[..slash], &path[slash + 1..]),
        None => (&[], path),
    }
}

/// From how many names on the metadata of one directory's entries is read in parallel.
const LARGE_DIRECTORY: usize = 1024;
const DIRENT_BUFFER: usize = 32 * 1024;

/// Lists all below `dir`, itself not included. Errors name paths from `dir`; a directory whose path is longer than
/// [`MAX_PATH_BYTES`] is one.
pub fn walk(dir: BorrowedFd<'_>, filter: &Filter<'_>) -> Result<Vec<Entry>> {
    let mut listings = Vec::new();
    let mut level = vec![Vec::new()];
    while !level.is_empty() {
        let mut below = Vec::new();
        let mut next_listing = listings.len() + level.len();
        for mut listing in read_level(dir, &level, filter)? {
            for child in listing.iter_mut().filter(|child| child.metadata.kind == Kind::Directory) {
                if child.path.len() > MAX_PATH_BYTES {
                    return Err(Errno::NAMETOOLONG).at("list", crate::confined::path_of(&child.path));
                }
                child.listing = Some(next_listing);
                next_listing += 1;
                below.push(child.path.clone());
            }
            listings.push(listing);
        }
        level = below;
    }
    Ok(flatten(listings))
}

/// `name` below `dir`, which may be empty.
pub(crate) fn join(dir: &[u8], name: &[u8]) -> Vec<u8> {
    let mut path = Vec::with_capacity(dir.len() + 1 + name.len());
    path.extend_from_slice(dir);
    if !dir.is_empty() {
        path.push(b'/');
    }
    path.extend_from_slice(name);
    path
}

/// The names in an open directory with their types if the file system tells them, sorted bytewise.
pub(crate) fn names(dir: BorrowedFd<'_>) -> rustix::io::Result<Vec<(CString, Option<Kind>)>> {
    let names = Names::of(dir)?;
    Ok((0..names.len()).map(|nth| names.get(nth)).map(|(name, kind)| (name.to_owned(), kind)).collect())
}

/// The sorted names in a directory, in one buffer: an allocation for each would cost more than listing it.
struct Names {
    /// Every name with the NUL behind it.
    text: Vec<u8>,
    /// Where names begin and, behind their NULs, end.
    places: Vec<(usize, usize, Option<Kind>)>,
}

impl Names {
    fn of(dir: BorrowedFd<'_>) -> rustix::io::Result<Names> {
        let mut buffer = Vec::with_capacity(DIRENT_BUFFER);
        let mut entries = RawDir::new(dir, buffer.spare_capacity_mut());
        let (mut text, mut places) = (Vec::new(), Vec::new());
        while let Some(entry) = entries.next() {
            let entry = entry?;
            if !matches!(entry.file_name().to_bytes(), b"." | b"..") {
                let begin = text.len();
                text.extend_from_slice(entry.file_name().to_bytes_with_nul());
                places.push((begin, text.len(), Kind::of(entry.file_type())));
            }
        }
        places.sort_unstable_by_key(|(begin, end, _)| &text[*begin..*end]);
        Ok(Names { text, places })
    }

    fn len(&self) -> usize {
        self.places.len()
    }

    fn get(&self, nth: usize) -> (&CStr, Option<Kind>) {
        let (begin, end, kind) = self.places[nth];
        let name = CStr::from_bytes_with_nul(&self.text[begin..end]);
        (name.expect("names were put here with their NULs"), kind)
    }
}

struct Child {
    /// From the root of the walk.
    path: Vec<u8>,
    metadata: Metadata,
    visit: Visit,
    /// Which listing is that of this directory.
    listing: Option<usize>,
}

fn read_level(dir: BorrowedFd<'_>, level: &[Vec<u8>], filter: &Filter<'_>) -> Result<Vec<Vec<Child>>> {
    match level {
        [only] => Ok(vec![read_directory(dir, only, filter)?]),
        _ => level.par_iter().map(|path| read_directory(dir, path, filter)).collect(),
    }
}

fn read_directory(root: BorrowedFd<'_>, path: &[u8], filter: &Filter<'_>) -> Result<Vec<Child>> {
    let at = |name: &[u8]| crate::confined::path_of(&join(path, name));
    let dir = open_exact(root, path).at("open", at(b""))?;
    let dir = dir.as_fd();
    let names = Names::of(dir).at("list", at(b""))?;
    let examine = |nth: usize| {
        let (name, kind) = names.get(nth);
        let stat = || match Metadata::at(dir, name) {
            // It was removed since it was listed: the listing without it is as true.
            Err(Errno::NOENT) => Ok(None),
            found => found.map(Some).at("read the metadata of", at(name.to_bytes())),
        };
        let known = if kind.is_none() { stat()? } else { None };
        let is_dir = kind.or(known.map(|known| known.kind)) == Some(Kind::Directory);
        let path = join(path, name.to_bytes());
        let visit = match filter(&path, is_dir) {
            Visit::Skip => return Ok(None),
            Visit::SkipButDescend if !is_dir => return Ok(None),
            visit => visit,
        };
        let found = if known.is_some() { known } else { stat()? };
        Ok(found.map(|metadata| Child { path, metadata, visit, listing: None }))
    };
    if names.len() < LARGE_DIRECTORY {
        (0..names.len()).map(examine).filter_map(Result::transpose).collect()
    } else {
        let all = (0..names.len()).into_par_iter().with_min_len(256);
        all.map(examine).filter_map(Result::transpose).collect()
    }
}

/// A directory whose children are being emitted.
struct Open {
    children: std::vec::IntoIter<Child>,
    /// Where the directory itself stands in the result, if it is to go again should nothing follow it.
    provisional: Option<usize>,
}

fn flatten(mut listings: Vec<Vec<Child>>) -> Vec<Entry> {
    let mut entries = Vec::with_capacity(listings.iter().map(Vec::len).sum());
    let mut take = |listing: usize| std::mem::take(&mut listings[listing]).into_iter();
    let mut open = vec![Open { children: take(0), provisional: None }];
    while let Some(top) = open.last_mut() {
        let Some(child) = top.children.next() else {
            if top.provisional.is_some_and(|place| place + 1 == entries.len()) {
                entries.pop();
            }
            open.pop();
            continue;
        };
        if let Some(listing) = child.listing {
            let provisional = (child.visit == Visit::SkipButDescend).then_some(entries.len());
            open.push(Open { children: take(listing), provisional });
        }
        entries.push(Entry { path: child.path, metadata: child.metadata });
    }
    entries
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;
    use std::path::Path;

    use super::*;
    use crate::confined::Root;

    fn paths(dir: &Path, filter: &Filter<'_>) -> Vec<String> {
        let entries = walk(Root::open(dir).unwrap().as_fd(), filter).unwrap();
        entries.iter().map(|entry| String::from_utf8(entry.path.clone()).unwrap()).collect()
    }

    fn tree(files: &[&str]) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        for file in files {
            let path = dir.path().join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, file).unwrap();
        }
        dir
    }

    #[test]
    fn lists_sorted_by_component_with_directories_first() {
        let dir = tree(&["b/z", "b.txt", "b-", "a/n/deep", "a/m", "c"]);
        symlink("/", dir.path().join("b/link")).unwrap();
        fs::create_dir(dir.path().join("d")).unwrap();
        let all = ["a", "a/m", "a/n", "a/n/deep", "b", "b/link", "b/z", "b-", "b.txt", "c", "d"];
        let mut found = paths(dir.path(), &everything);
        assert_eq!(found.len(), all.len());
        // `b` comes before `b-`: what is in a directory follows it, though `/` is greater than `-`.
        assert_eq!(found, all);
        found.sort_by(|one, other| one.split('/').cmp(other.split('/')));
        assert_eq!(found, all);
    }

    #[test]
    fn filters_prune_and_bring_back_parents() {
        let dir = tree(&["keep/a", "skip/a", "maybe/no/a", "maybe/yes/b", "maybe/empty/c", "file"]);
        let filter = |path: &[u8], _: bool| {
            assert!(!path.starts_with(b"skip/"), "a skipped directory is not looked into");
            match path {
                b"skip" => Visit::Skip,
                path if path.starts_with(b"maybe") && !path.ends_with(b"/b") => Visit::SkipButDescend,
                _ => Visit::Take,
            }
        };
        assert_eq!(
            paths(dir.path(), &filter),
            ["file", "keep", "keep/a", "maybe", "maybe/yes", "maybe/yes/b"]
        );
        let nothing = |_: &[u8], _: bool| Visit::SkipButDescend;
        assert!(paths(dir.path(), &nothing).is_empty());
    }

    #[test]
    fn lists_large_directories_and_deep_trees() {
        let dir = tempfile::tempdir().unwrap();
        for file in 0..LARGE_DIRECTORY + 10 {
            fs::write(dir.path().join(format!("{file:06}")), "").unwrap();
        }
        let found = paths(dir.path(), &everything);
        assert_eq!((found.len(), found.is_sorted()), (LARGE_DIRECTORY + 10, true));

        let dir = tempfile::tempdir().unwrap();
        let root = Root::open(dir.path()).unwrap();
        let deep = vec!["d"; 1500].join("/");
        root.make_dirs(Path::new(&deep), &crate::confined::NewDirectory::default()).unwrap();
        assert_eq!(paths(dir.path(), &everything).len(), 1500);
        root.remove(Path::new("d")).unwrap();
        assert!(paths(dir.path(), &everything).is_empty());
    }

    #[test]
    fn tells_the_metadata() {
        let dir = tree(&["d/file"]);
        symlink("0123456789", dir.path().join("link")).unwrap();
        let entries = walk(Root::open(dir.path()).unwrap().as_fd(), &everything).unwrap();
        let seen: Vec<_> = entries.iter().map(|entry| (entry.metadata.kind, entry.name())).collect();
        let kinds = [(Kind::Directory, &b"d"[..]), (Kind::File, b"file"), (Kind::Symlink, b"link")];
        assert_eq!(seen, kinds);
        assert_eq!((entries[1].parent(), entries[1].metadata.size_bytes), (&b"d"[..], 6));
        assert_eq!((entries[2].parent(), entries[2].metadata.size_bytes), (&b""[..], 10));
    }
}
