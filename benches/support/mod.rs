//! What the benches share: a folder that is always cleaned up, measured commands, made-up files, floors to
//! measure against, and the figures' presentation.
//!
//! * [`guard`] owns the folder of a run; [`registry`] is Debian's docker-registry in it.
//! * [`measure`] runs one command and says what it took; [`content`] makes the files to work on.
//! * [`floor`] has what no builder can beat: a walk, a copy, a hash.
//! * [`machine`] says where the figures are from, [`statistics`] sums them up, [`results`] keeps them.
#![allow(dead_code, reason = "each bench uses a part")]
#![allow(clippy::disallowed_methods, reason = "a bench reads its environment")]

pub(crate) mod content;
pub(crate) mod floor;
pub(crate) mod guard;
pub(crate) mod machine;
pub(crate) mod measure;
pub(crate) mod plot;
pub(crate) mod registry;
pub(crate) mod results;
pub(crate) mod statistics;
