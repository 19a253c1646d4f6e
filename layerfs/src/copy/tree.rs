//! The contents of a directory into another one.
//!
//! Order: the directories, parents first; the files, in parallel; further hard links to them; and then, because
//! making a file changes its directory's time, the directories' metadata.
//!
//! Invariants: a file is made in a directory that is opened by a path without links below the destination, so
//! a link that stands there, or that somebody puts there meanwhile, is an error and not a way out; directories
//! that exist below the destination get the metadata of their source (point 9 of the study of BuildKit), unless they
//! are only passed through.

use std::collections::{BTreeSet, HashMap};
use std::os::fd::{AsFd, BorrowedFd};
use std::path::{Path, PathBuf};

use rayon::prelude::*;
use rustix::fs::{AtFlags, Mode};
use rustix::io::Errno;

use super::Selected;
use super::file::{Copier, Fault, Spot, attributes_of, source, target};
use crate::confined::{Kind, Metadata, Time, open_exact, path_of, replacing, set_modified};
use crate::walk::Entry;
use crate::{Error, IoResultExt, Result};

/// How many files of one directory one thread takes at a time.
const CHUNK: usize = 64;
/// Nor more bytes than this, unless one file has more.
const JOB_BYTES: u64 = 4 * 1024 * 1024;
/// Below this number of files, and that number of bytes, threads cost more than they save.
const PARALLEL: usize = 32;

/// The two directories, and how they are called in messages.
#[derive(Clone, Copy)]
pub(super) struct Pair<'a> {
    pub(super) source: BorrowedFd<'a>,
    pub(super) source_path: &'a Path,
    pub(super) target: BorrowedFd<'a>,
    pub(super) target_path: &'a Path,
}

impl Pair<'_> {
    fn in_source(&self, path: &[u8]) -> PathBuf {
        self.source_path.join(path_of(path))
    }

    fn in_target(&self, path: &[u8]) -> PathBuf {
        self.target_path.join(path_of(path))
    }

    fn blame(&self, fault: Fault, path: &[u8]) -> Error {
        fault.named(|| self.in_source(path), || self.in_target(path))
    }
}

/// Copies the entries of a selected directory into the target directory.
pub(super) fn copy(copier: &Copier<'_>, pair: Pair<'_>, selected: &Selected) -> Result<()> {
    let (directories, others): (Vec<_>, Vec<_>) =
        selected.entries.iter().partition(|entry| entry.metadata.kind == Kind::Directory);
    let passed = make_directories(pair, &directories, &selected.passed)?;
    let (files, links) = split_links(others);
    let jobs: Vec<&[&Entry]> =
        files.chunk_by(|one, other| one.parent() == other.parent()).flat_map(split_job).collect();
    let size_bytes: u64 = files.iter().map(|file| file.metadata.size_bytes).sum();
    if files.len() < PARALLEL && size_bytes < JOB_BYTES {
        let mut buffer = Vec::new();
        jobs.iter().try_for_each(|job| copy_files(copier, pair, job, &mut buffer))?;
    } else {
        jobs.par_iter()
            .map_init(Vec::new, |buffer, job| copy_files(copier, pair, job, buffer))
            .collect::<Result<()>>()?;
    }
    links.iter().try_for_each(|link| make_link(pair, link))?;
    let dress = |directory: &&Entry| match passed.get(directory.path.as_slice()) {
        Some(time) => dress_passed(pair, directory, *time),
        None => dress_directory(copier, pair, directory),
    };
    if directories.len() < PARALLEL {
        directories.iter().try_for_each(dress)
    } else {
        directories.par_iter().map(dress).collect()
    }
}

/// Parts of the files of one directory, each of which is some work and not too much.
fn split_job<'a, 'e>(files: &'a [&'e Entry]) -> impl Iterator<Item = &'a [&'e Entry]> {
    let mut rest = files;
    std::iter::from_fn(move || {
        let mut bytes = 0;
        let fits = |file: &&&Entry| {
            bytes += file.metadata.size_bytes;
            bytes <= JOB_BYTES
        };
        let count = rest.iter().take(CHUNK).take_while(fits).count().max(1);
        let (job, left) = rest.split_at_checked(count)?;
        rest = left;
        Some(job)
    })
}

/// A further name of a file that is copied under its first one.
struct HardLink<'a> {
    first: &'a Entry,
    path: &'a [u8],
}

/// Splits off all but the first name of each file.
fn split_links(others: Vec<&Entry>) -> (Vec<&Entry>, Vec<HardLink<'_>>) {
    let mut firsts: HashMap<_, &Entry> = HashMap::new();
    let mut links = Vec::new();
    let mut files = Vec::with_capacity(others.len());
    for entry in others {
        let shared = entry.metadata.kind == Kind::File && entry.metadata.links > 1;
        match firsts.get(&entry.metadata.inode) {
            Some(first) if shared => links.push(HardLink { first, path: &entry.path }),
            _ => {
                if shared {
                    firsts.insert(entry.metadata.inode, entry);
                }
                files.push(entry);
            }
        }
    }
    (files, links)
}

/// Makes what is not there; gives those that are only passed through and were there, with their times.
fn make_directories<'a>(
    pair: Pair<'_>,
    directories: &[&'a Entry],
    passed: &BTreeSet<Vec<u8>>,
) -> Result<HashMap<&'a [u8], Time>> {
    let mut found = HashMap::new();
    for siblings in directories.chunk_by(|one, other| one.parent() == other.parent()) {
        let parent = siblings[0].parent();
        let holder = open_exact(pair.target, parent).at("open", pair.in_target(parent))?;
        for entry in siblings {
            // The mode comes with the rest of the metadata; until then nobody else is to look in.
            match rustix::fs::mkdirat(&holder, entry.name(), Mode::RWXU) {
                Err(Errno::EXIST) => {
                    let before = existing(pair, holder.as_fd(), entry)?;
                    if passed.contains(&entry.path) {
                        found.insert(entry.path.as_slice(), before.modified);
                    }
                }
                made => made.at("create the directory", pair.in_target(&entry.path))?,
            }
        }
    }
    Ok(found)
}

/// What is in the way of a directory, which must be one.
fn existing(pair: Pair<'_>, holder: BorrowedFd<'_>, entry: &Entry) -> Result<Metadata> {
    let path = || pair.in_target(&entry.path);
    match open_exact(holder, entry.name()) {
        Err(Errno::NOTDIR | Errno::LOOP) => Err(Error::NotADirectory { path: path() }),
        opened => Metadata::of(&opened.at("open", path())?).at("read the metadata of", path()),
    }
}

/// Copies files of one directory.
fn copy_files(copier: &Copier<'_>, pair: Pair<'_>, files: &[&Entry], buffer: &mut Vec<u8>) -> Result<()> {
    let parent = files[0].parent();
    let from = open_exact(pair.source, parent).at("open", pair.in_source(parent))?;
    let to = open_exact(pair.target, parent).at("open", pair.in_target(parent))?;
    for entry in files {
        let from = Spot { dir: from.as_fd(), name: entry.name() };
        let to = Spot { dir: to.as_fd(), name: entry.name() };
        copier.copy(from, &entry.metadata, to, buffer).map_err(|fault| pair.blame(fault, &entry.path))?;
    }
    Ok(())
}

fn make_link(pair: Pair<'_>, link: &HardLink<'_>) -> Result<()> {
    let first = link.first;
    let new = Entry { path: link.path.to_owned(), metadata: first.metadata };
    let old_dir = open_exact(pair.target, first.parent()).at("open", pair.in_target(first.parent()))?;
    let new_dir = open_exact(pair.target, new.parent()).at("open", pair.in_target(new.parent()))?;
    replacing(new_dir.as_fd(), new.name(), || {
        rustix::fs::linkat(&old_dir, first.name(), &new_dir, new.name(), AtFlags::empty())
    })
    .map_err(|error| pair.blame(target("create")(error), &new.path))
}

fn dress_directory(copier: &Copier<'_>, pair: Pair<'_>, directory: &Entry) -> Result<()> {
    let blame = |fault| pair.blame(fault, &directory.path);
    let from = open_exact(pair.source, &directory.path).map_err(source("open")).map_err(blame)?;
    let to = open_exact(pair.target, &directory.path).map_err(target("open")).map_err(blame)?;
    let attributes = attributes_of(from.as_fd(), || pair.in_source(&directory.path))?;
    copier.dress(to.as_fd(), &directory.metadata, &attributes).map_err(blame)
}

/// A directory that was there and is only passed through keeps what it has but the mode, as BuildKit has it.
fn dress_passed(pair: Pair<'_>, directory: &Entry, before: Time) -> Result<()> {
    let path = || pair.in_target(&directory.path);
    let to = open_exact(pair.target, &directory.path).at("open", path())?;
    let mode = Mode::from_raw_mode(directory.metadata.mode);
    rustix::fs::fchmod(&to, mode).at("set the mode of", path())?;
    set_modified(&to, before).at("set the time of", path())
}
