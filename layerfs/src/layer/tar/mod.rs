//! The tar format as layers use it: ustar headers with PAX records. (POSIX.1-2024, pax, "ustar Interchange
//! Format" and "pax Extended Header"; GNU tar manual, "Basic Tar Format", for what is only read.)
//!
//! * `header` knows one block of 512 bytes, in both directions, and does no I/O.
//! * `sparse` knows where the bytes of a sparse file belong, which is only read, and does no I/O.
//! * `pax` knows the records of an extended header, in both directions, and does no I/O.
//! * [`Writer`] writes entries, deterministically: equal entries give equal bytes.
//! * [`Reader`] reads entries from any source, within [`Limits`].
//!
//! Two readers that disagree about where an entry ends see different files in one archive (CVE-2025-62518).
//! So a PAX `size` always overrides the header's, an extended header belongs to the next real entry whatever
//! stands between, and what other readers interpret in different ways is refused instead of guessed.

mod header;
mod pax;
mod read;
mod sparse;
mod write;

use std::fmt;

pub use read::Reader;
pub use write::Writer;
pub(crate) use write::{headers, padding};

use crate::entry::MAX_PATH_BYTES;
use crate::whiteout;

/// The unit of everything in a tar, in bytes.
pub(crate) const BLOCK: usize = 512;

/// The same unit where sizes of files are meant.
pub(crate) const BLOCK_BYTES: u64 = 512;

/// What a reader accepts at most.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// How many entries.
    pub entries: u64,
    /// How many bytes of content in all files together.
    pub content_bytes: u64,
    /// How many of them may be holes of sparse files, which the archive does not pay for.
    pub hole_bytes: u64,
    /// How many bytes of extended headers and long names for one entry.
    pub metadata_bytes: u64,
    /// How many bytes in a path.
    pub path_bytes: usize,
    /// How many bytes of paths, targets and attributes in all entries together: whoever reads an archive may have to
    /// remember them all.
    pub names_bytes: u64,
}

impl Default for Limits {
    /// Wide enough for any image known: ten million entries, 1 TiB of which 16 GiB are holes, 1 MiB of
    /// metadata, [`MAX_PATH_BYTES`], 1 GiB of names.
    fn default() -> Limits {
        Limits {
            entries: 10_000_000,
            content_bytes: 1 << 40,
            hole_bytes: 1 << 34,
            metadata_bytes: 1 << 20,
            path_bytes: MAX_PATH_BYTES,
            names_bytes: 1 << 30,
        }
    }
}

/// What is wrong with an archive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Problem {
    /// It ends within an entry.
    Truncated,
    /// A header's checksum does not fit.
    Checksum,
    /// A number that is none, or is too large for its meaning.
    Number {
        /// Which field.
        field: &'static str,
    },
    /// An extended header that does not follow its syntax.
    ExtendedHeader,
    /// Several extended headers for one entry: readers differ about which one counts.
    RepeatedHeader,
    /// An extended header for the whole archive that changes names or sizes: readers differ about it.
    GlobalHeader,
    /// A sparse file whose data overlap, do not fit the file, or are in too many pieces.
    Sparse,
    /// More holes than the limit.
    Holes,
    /// A kind of entry that is no file.
    Kind {
        /// The header's type flag.
        flag: u8,
    },
    /// An entry without a name or a link without a target.
    Nameless,
    /// A NUL in a name.
    Nul,
    /// A name that ends in a slash, and content: readers differ about what follows.
    DirectoryContent,
    /// `..` in a name.
    ParentDirectory,
    /// A path or one of its components is too long.
    LongPath,
    /// More metadata than the limit.
    Metadata,
    /// More entries than the limit.
    Entries,
    /// More bytes of names than the limit.
    Names,
    /// More content than the limit.
    Content,
    /// `.wh.` without the name that it hides.
    Whiteout,
    /// A character device 0:0, by which overlayfs marks deletions.
    WhiteoutDevice,
    /// The root of the file system as something else than a directory.
    Root,
    /// A hard link to itself.
    SelfLink,
    /// A hard link to what is not there, or is a directory.
    LinkTarget,
    /// A path through more links than the kernel follows.
    Loop,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = match self {
            Problem::Truncated => "it ends within an entry",
            Problem::Checksum => "a header's checksum does not fit; it is damaged or not a tar",
            Problem::Number { field } => return write!(f, "the field `{field}` is not a number in range"),
            Problem::ExtendedHeader => "an extended header does not follow its syntax",
            Problem::RepeatedHeader => "it has several extended headers for one entry",
            Problem::GlobalHeader => "a global header changes names or sizes",
            Problem::Sparse => "it is a sparse file whose map does not fit",
            Problem::Holes => "it has larger holes than are accepted",
            Problem::Kind { flag } => {
                return write!(f, "it has the unknown type `{}`", flag.escape_ascii());
            }
            Problem::Nameless => "it has no name or no target",
            Problem::Nul => "its name contains a NUL",
            Problem::DirectoryContent => "its name is that of a directory, and it has content",
            Problem::ParentDirectory => "its name contains `..`",
            Problem::LongPath => "its name is too long",
            Problem::Metadata => "it has more metadata than is accepted",
            Problem::Entries => "it has more entries than are accepted",
            Problem::Names => "it and those before it have longer names than are accepted",
            Problem::Content => "it has more content than is accepted",
            Problem::Whiteout => "it is a whiteout of nothing",
            Problem::WhiteoutDevice => "it is the character device 0:0, which marks deletions",
            Problem::Root => "it makes the root something else than a directory",
            Problem::SelfLink => "it is a hard link to itself",
            Problem::Loop => "its name leads through too many links",
            Problem::LinkTarget => "it is a hard link to what is not there",
        };
        f.write_str(text)
    }
}

/// A path as archives have it, in the form of [`crate::entry::Entry::path`]: leading slashes, empty components
/// and `.` mean nothing; `..` is refused. The root is the empty path.
pub(crate) fn normalise(path: &[u8], limits: &Limits) -> Result<Vec<u8>, Problem> {
    if path.len() > limits.path_bytes {
        return Err(Problem::LongPath);
    }
    if path.contains(&0) {
        return Err(Problem::Nul);
    }
    let mut normal = Vec::with_capacity(path.len());
    for component in path.split(|byte| *byte == b'/') {
        match component {
            b"" | b"." => continue,
            b".." => return Err(Problem::ParentDirectory),
            long if long.len() > whiteout::max_name_bytes(long) => return Err(Problem::LongPath),
            _ => {}
        }
        if !normal.is_empty() {
            normal.push(b'/');
        }
        normal.extend_from_slice(component);
    }
    Ok(normal)
}

#[cfg(test)]
mod tests;
