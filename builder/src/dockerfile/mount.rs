//! `RUN --mount`: its options as written, and what they mean once their variables are known.
//!
//! Options stay raw in a [`Mount`] because every value may hold variables (`type=$T` is legal);
//! [`Mount::resolve`] expands them from left to right and checks each against the type known at that point,
//! as BuildKit does: `size=` and `required` must therefore follow `type=`. A mount without any variable is
//! resolved once while parsing, so that its mistakes are reported with all others.

mod resolve;

use super::diagnostic::{Diagnostic, Span};
use super::instruction::Word;

/// `RUN --mount=…`, its values not yet expanded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mount {
    /// Where the value of the flag stands.
    pub span: Span,
    /// The options in the order given.
    pub options: Vec<MountOption>,
}

/// One option of `--mount`: `key` or `key=value`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MountOption {
    /// The key, in lower case.
    pub key: Word,
    /// The value as written, if there is a `=`.
    pub value: Option<Word>,
}

/// The types of mounts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum MountKind {
    /// Files of the context, a stage or an image.
    Bind,
    /// A folder kept between builds.
    Cache,
    /// Memory.
    Tmpfs,
    /// A secret as a file or a variable.
    Secret,
    /// The socket of an agent.
    Ssh,
}

/// How builds share a cache mount.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Sharing {
    /// All at once.
    #[default]
    Shared,
    /// Each its own copy.
    Private,
    /// One after the other.
    Locked,
}

/// A mount whose values are known. Paths are as the author gave them: a relative target is below `WORKDIR`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MountSpec {
    /// `type=bind`
    Bind {
        /// Where it appears.
        target: String,
        /// The path inside `from`; the whole if absent.
        source: Option<String>,
        /// Stage, image or named context; the build context if absent.
        from: Option<String>,
        /// `rw`: writes are possible and thrown away.
        writable: bool,
    },
    /// `type=cache`
    Cache {
        /// Where it appears.
        target: String,
        /// The cache's name; the cleaned target if absent.
        id: Option<String>,
        /// The path inside `from`.
        source: Option<String>,
        /// What a new cache starts with; empty if absent.
        from: Option<String>,
        /// `ro`
        read_only: bool,
        /// `sharing=`
        sharing: Sharing,
        /// Permission bits of a new cache's root; 0755 if absent.
        mode: Option<u32>,
        /// Owner of a new cache's root.
        uid: Option<u32>,
        /// Group of a new cache's root.
        gid: Option<u32>,
    },
    /// `type=tmpfs`
    Tmpfs {
        /// Where it appears.
        target: String,
        /// The limit in bytes, if one is set.
        size_bytes: Option<u64>,
    },
    /// `type=secret`
    Secret {
        /// Which secret.
        id: String,
        /// Where the file appears; absent when only the variable is wanted.
        target: Option<String>,
        /// The variable that holds it.
        env: Option<String>,
        /// Whether the build fails without it.
        required: bool,
        /// Permission bits; 0400 if absent.
        mode: Option<u32>,
        /// Owner of the file.
        uid: Option<u32>,
        /// Group of the file.
        gid: Option<u32>,
    },
    /// `type=ssh`
    Ssh {
        /// Which agent; `default` if the author named none.
        id: String,
        /// Where the socket appears; `/run/buildkit/ssh_agent.N` if absent.
        target: Option<String>,
        /// Whether the build fails without it.
        required: bool,
        /// Permission bits; 0600 if absent.
        mode: Option<u32>,
        /// Owner of the socket.
        uid: Option<u32>,
        /// Group of the socket.
        gid: Option<u32>,
    },
}

impl Mount {
    /// What the mount means, with every value passed through `expand`.
    ///
    /// # Errors
    /// What `expand` refuses; an unknown, misplaced, doubled or malformed option, with its place.
    pub fn resolve(
        &self,
        expand: &mut dyn FnMut(&Word) -> Result<String, Diagnostic>,
    ) -> Result<MountSpec, Diagnostic> {
        resolve::resolve(self, expand)
    }
}

#[cfg(test)]
mod tests;
