//! What was typed for the verbs that look after the store.

use clap::Args;

use super::Format;
use crate::value::{Bytes, PruneFilter};

#[derive(Debug, Args)]
pub(crate) struct PruneArgs {
    /// Also what images consist of and can be unpacked again: their steps run again in the next build. Images that
    /// have a name stay whole in any case
    #[arg(short, long)]
    pub(crate) all: bool,
    /// `until=24h` (or a time) for what was not used since, `id=ID`, `type=regular`, `type=exec.cachemount` or
    /// `type=source.git.checkout`; may be repeated
    #[arg(long = "filter", value_name = "FILTER")]
    pub(crate) filters: Vec<PruneFilter>,
    /// Stop as soon as the cache takes no more than this, such as 10GB; the least recently used goes first
    #[arg(long, visible_aliases = ["max-used-space", "reserved-space"], value_name = "SIZE")]
    pub(crate) keep_storage: Option<Bytes>,
    /// Show what would go, and free nothing
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// Show all that is known of what goes
    #[arg(long)]
    pub(crate) verbose: bool,
    /// Accepted because Docker has it: nothing is asked anyhow
    #[arg(short, long)]
    pub(crate) force: bool,
}

#[derive(Debug, Args)]
pub(crate) struct DuArgs {
    /// As for `prune`; may be repeated
    #[arg(long = "filter", value_name = "FILTER")]
    pub(crate) filters: Vec<PruneFilter>,
    /// Show all that is known
    #[arg(long)]
    pub(crate) verbose: bool,
    /// Form of the list
    #[arg(long, value_enum, default_value_t = Format::Table)]
    pub(crate) format: Format,
}

#[derive(Debug, Args)]
pub(crate) struct FsckArgs {
    /// Also hash every blob, and compare every snapshot with its layers
    #[arg(long)]
    pub(crate) deep: bool,
    /// Put what is damaged into `quarantine/` and delete what is left over; the next build or pull makes it anew
    #[arg(long)]
    pub(crate) repair: bool,
    /// Form of the report
    #[arg(long, value_enum, default_value_t = Format::Table)]
    pub(crate) format: Format,
}
