//! What may be typed behind the verbs that move images and files in and out of archives. Names and forms are Docker's
//! and podman's.

use std::path::PathBuf;

use builder::deliver::{Form, LayerForm};
use clap::{Args, ValueEnum};
use oci::{Platform, Reference};

use crate::value::{self, MethodArg};

/// How what is pushed is compressed. The names are kaniko's and podman's.
#[derive(Clone, Debug, Default, Args)]
pub(crate) struct CompressionArgs {
    /// How layers are compressed that are pushed by name: gzip, zstd, estargz or uncompressed [default: gzip]
    #[arg(long, visible_alias = "compression-format", value_name = "METHOD")]
    compression: Option<MethodArg>,
    /// How hard to try: 1 to 9, for zstd 1 to 22
    #[arg(long, value_name = "N")]
    compression_level: Option<u32>,
    /// Compress layers anew that are compressed by another method
    #[arg(long)]
    force_compression: bool,
}

impl CompressionArgs {
    /// The form that was asked for.
    ///
    /// # Errors
    /// When the method has no such level.
    pub(crate) fn form(&self) -> Result<Form, String> {
        let method = self.compression.map(|MethodArg(method)| method).unwrap_or_default();
        let layers = LayerForm { method, level: self.compression_level, force: self.force_compression };
        value::check_level(layers)?;
        Ok(Form { layers, ..Form::default() })
    }
}

#[derive(Debug, Args)]
pub(crate) struct SaveArgs {
    /// Names, ids or digests
    #[arg(value_name = "IMAGE", required = true)]
    pub(crate) images: Vec<String>,
    /// Where to write [default: standard output]
    #[arg(short, long, value_name = "FILE")]
    pub(crate) output: Option<PathBuf>,
    /// Form of it [default: an OCI archive that `docker load` reads too]
    #[arg(long, value_enum)]
    pub(crate) format: Option<SaveFormat>,
    /// Of an index, only the image for this platform
    #[arg(long, value_name = "OS/ARCH")]
    pub(crate) platform: Option<Platform>,
    /// Show no progress
    #[arg(short, long)]
    pub(crate) quiet: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum SaveFormat {
    /// A tar that is an OCI layout and nothing else
    OciArchive,
    /// A directory that is an OCI layout
    OciDir,
    /// Docker's archive as it was before it was a layout too; its layers are not compressed
    DockerArchive,
}

#[derive(Debug, Args)]
pub(crate) struct LoadArgs {
    /// Archive, or directory that is an OCI layout [default: standard input]
    #[arg(short, long, value_name = "FILE")]
    pub(crate) input: Option<PathBuf>,
    /// Show no progress
    #[arg(short, long)]
    pub(crate) quiet: bool,
}

#[derive(Debug, Args)]
pub(crate) struct ImportArgs {
    /// File system: an archive, a directory, or `-` for an archive on standard input
    #[arg(value_name = "FILE|DIR|-")]
    pub(crate) source: PathBuf,
    /// Name of the image
    #[arg(value_name = "NAME[:TAG]")]
    pub(crate) name: Option<Reference>,
    /// Instruction about how to run it, such as `CMD ["sh"]`; may be repeated
    #[arg(short, long = "change", value_name = "INSTRUCTION")]
    pub(crate) changes: Vec<String>,
    /// Comment of its line of history
    #[arg(short, long, value_name = "TEXT")]
    pub(crate) message: Option<String>,
    /// What its programs run on [default: this machine's]
    #[arg(long, value_name = "OS/ARCH")]
    pub(crate) platform: Option<Platform>,
}

#[derive(Debug, Args)]
pub(crate) struct ExportArgs {
    /// Name, id or digest of the image
    #[arg(value_name = "IMAGE")]
    pub(crate) image: String,
    /// Where to write [default: standard output]
    #[arg(short, long, value_name = "FILE")]
    pub(crate) output: Option<PathBuf>,
    /// Which of the images of an index [default: this machine's]
    #[arg(long, value_name = "OS/ARCH")]
    pub(crate) platform: Option<Platform>,
}
