//! What was typed for the verbs that look into images and rewrite them.

use std::str::FromStr;

use clap::Args;
use oci::{Platform, Reference};

use super::{Format, RegistryArgs};

#[derive(Debug, Args)]
pub(crate) struct LsArgs {
    /// Name, id or digest of the image
    #[arg(value_name = "IMAGE")]
    pub(crate) image: String,
    /// File or directory in the image
    #[arg(value_name = "PATH", default_value = "/")]
    pub(crate) path: String,
    /// Show modes, links, owners, sizes in bytes and times, which are in UTC
    #[arg(short, long)]
    pub(crate) long: bool,
    /// List directories in directories too
    #[arg(short = 'R', long)]
    pub(crate) recursive: bool,
    /// Show a directory itself, not what is in it
    #[arg(short, long)]
    pub(crate) directory: bool,
    /// Accepted because `ls` has it: nothing is hidden anyhow
    #[arg(short, long)]
    pub(crate) all: bool,
    /// Form of the list
    #[arg(long, value_enum, default_value_t = Format::Table)]
    pub(crate) format: Format,
    /// Platform to look at, of an image for several [default: this machine's, else the first]
    #[arg(long, value_name = "OS/ARCH")]
    pub(crate) platform: Option<Platform>,
}

#[derive(Debug, Args)]
pub(crate) struct CatArgs {
    /// Name, id or digest of the image
    #[arg(value_name = "IMAGE")]
    pub(crate) image: String,
    /// Files in the image
    #[arg(value_name = "PATH", required = true)]
    pub(crate) paths: Vec<String>,
    /// Platform to look at, of an image for several [default: this machine's, else the first]
    #[arg(long, value_name = "OS/ARCH")]
    pub(crate) platform: Option<Platform>,
}

#[derive(Debug, Args)]
pub(crate) struct DiffArgs {
    /// Name, id or digest of the image
    #[arg(value_name = "IMAGE")]
    pub(crate) image: String,
    /// The image to compare it with: what this one has and the first has not is added [default: the first image is
    /// compared with what it was built on]
    #[arg(value_name = "OTHER")]
    pub(crate) other: Option<String>,
    /// Compare two heights of the image's layers, counted from 1 at the bottom: `3` is what layer 3 changed, `0..3`
    /// what the first three did
    #[arg(long, value_name = "N|FROM..TO", conflicts_with = "other")]
    pub(crate) layers: Option<LayerRange>,
    /// Count files that differ in their times alone
    #[arg(long)]
    pub(crate) times: bool,
    /// End with 1 if anything differs
    #[arg(long)]
    pub(crate) exit_code: bool,
    /// Form of the answer
    #[arg(long, value_enum, default_value_t = Format::Table)]
    pub(crate) format: Format,
    /// Platform to look at, of images for several [default: this machine's, else the first]
    #[arg(long, value_name = "OS/ARCH")]
    pub(crate) platform: Option<Platform>,
}

#[derive(Debug, Args)]
pub(crate) struct SquashArgs {
    /// Name, id or digest of the image
    #[arg(value_name = "IMAGE")]
    pub(crate) image: String,
    /// Base whose layers stay as they are [default: all layers become one]
    #[arg(long, value_name = "BASE")]
    pub(crate) from: Option<String>,
    #[command(flatten)]
    pub(crate) made: MadeArgs,
}

#[derive(Debug, Args)]
pub(crate) struct RebaseArgs {
    /// Name, id or digest of the image
    #[arg(value_name = "IMAGE")]
    pub(crate) image: String,
    /// Base that the image is to stand on; pulled when absent
    #[arg(long, value_name = "NEWBASE")]
    pub(crate) onto: String,
    /// Base that the image was built on [default: what its annotations say, else the image of the store with the most
    /// layers that it begins with]
    #[arg(long, value_name = "OLDBASE")]
    pub(crate) from: Option<String>,
    /// Go on if the image touches files that differ between the two bases
    #[arg(long)]
    pub(crate) force: bool,
    #[command(flatten)]
    pub(crate) made: MadeArgs,
}

/// What becomes of an image that was made out of another.
#[derive(Debug, Args)]
pub(crate) struct MadeArgs {
    /// Name of the new image; may be repeated
    #[arg(short, long = "tag", value_name = "NAME[:TAG]")]
    pub(crate) tags: Vec<Reference>,
    /// Print the new image's digest and nothing else
    #[arg(short, long)]
    pub(crate) quiet: bool,
    #[command(flatten)]
    pub(crate) registry: RegistryArgs,
}

/// Two heights in a stack of layers: how many layers lie below each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct LayerRange {
    pub(crate) from: usize,
    pub(crate) to: usize,
}

impl FromStr for LayerRange {
    type Err = String;

    fn from_str(text: &str) -> Result<LayerRange, String> {
        let number = |text: &str| text.parse::<usize>().ok();
        let range = match text.split_once("..") {
            Some((from, to)) => number(from).zip(number(to)),
            None => number(text).and_then(|to| Some((to.checked_sub(1)?, to))),
        };
        let range = range.filter(|(from, to)| from < to).map(|(from, to)| LayerRange { from, to });
        range.ok_or_else(|| "expected a layer's number, or two numbers such as `1..3`".to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layers_are_counted_from_the_bottom() {
        let range = |from, to| Some(LayerRange { from, to });
        for (text, expected) in [
            ("1", range(0, 1)),
            ("3", range(2, 3)),
            ("0..2", range(0, 2)),
            ("1..3", range(1, 3)),
            ("0", None),
            ("2..2", None),
            ("3..1", None),
            ("..2", None),
            ("-1", None),
            ("x", None),
        ] {
            assert_eq!(text.parse::<LayerRange>().ok(), expected, "{text}");
        }
    }
}
