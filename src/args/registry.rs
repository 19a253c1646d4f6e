//! The options of the verbs that speak with registries, or are one.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args, Subcommand};
use oci::{Platform, Reference};

use super::{RegistryArgs, TransferArgs};

#[derive(Debug, Args)]
pub(crate) struct ServeArgs {
    /// Address to listen on; whoever reaches it may pull and push everything
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "127.0.0.1:5000", value_parser = address)]
    pub(crate) addr: SocketAddr,
    /// Certificate chain to speak TLS with, in PEM
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    pub(crate) tls_cert: Option<PathBuf>,
    /// Key of the certificate, in PEM
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    pub(crate) tls_key: Option<PathBuf>,
    /// Log no requests
    #[arg(short, long)]
    pub(crate) quiet: bool,
}

/// An address with its port; of names only this machine's own is one.
fn address(text: &str) -> Result<SocketAddr, &'static str> {
    let text = text.strip_prefix("localhost:").map_or(text.to_owned(), |port| format!("127.0.0.1:{port}"));
    text.parse()
        .map_err(|_| "expected an address and a port: `127.0.0.1:5000`, or `0.0.0.0:5000` for all networks")
}

#[derive(Debug, Args)]
pub(crate) struct LoginArgs {
    /// Host of the registry, with a namespace if the account is for that alone [default: Docker Hub]
    #[arg(value_name = "SERVER")]
    pub(crate) server: Option<String>,
    /// Name of the account [default: asked for]
    #[arg(short, long, value_name = "NAME")]
    pub(crate) username: Option<String>,
    /// Password or access token; others may see it on the command line [default: asked for]
    #[arg(short, long, value_name = "PASSWORD", conflicts_with = "password_stdin")]
    pub(crate) password: Option<String>,
    /// Take the password from standard input
    #[arg(long)]
    pub(crate) password_stdin: bool,
    /// File to keep it in [default: $REGISTRY_AUTH_FILE, else Docker's config.json]
    #[arg(long, value_name = "FILE")]
    pub(crate) authfile: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) registry: RegistryArgs,
}

#[derive(Debug, Args)]
pub(crate) struct LogoutArgs {
    /// Host of the registry [default: Docker Hub]
    #[arg(value_name = "SERVER")]
    pub(crate) server: Option<String>,
    /// File to forget it in [default: $REGISTRY_AUTH_FILE, else Docker's config.json]
    #[arg(long, value_name = "FILE")]
    pub(crate) authfile: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct CopyArgs {
    /// Where it is: `docker://NAME`, `oci:DIR[:TAG]` or `store:NAME`; `NAME` alone is in a registry
    #[arg(value_name = "SOURCE")]
    pub(crate) from: String,
    /// Where it goes, in the same way
    #[arg(value_name = "DESTINATION")]
    pub(crate) to: String,
    /// Copy the image for this platform alone [default: all of them]
    #[arg(long, value_name = "OS/ARCH")]
    pub(crate) platform: Option<Platform>,
    /// Copy what refers to it, too: signatures, bills of materials
    #[arg(long)]
    pub(crate) referrers: bool,
    /// Accepted because skopeo has it: all platforms are copied anyhow
    #[arg(short, long, conflicts_with = "platform")]
    pub(crate) all: bool,
    /// How often a request that failed is tried again [default: 5]
    #[arg(long, value_name = "N")]
    pub(crate) push_retry: Option<u32>,
    #[command(flatten)]
    pub(crate) transfer: TransferArgs,
}

#[derive(Debug, Args)]
pub(crate) struct TagsArgs {
    /// Name of the repository
    #[arg(value_name = "NAME")]
    pub(crate) repository: String,
    #[command(flatten)]
    pub(crate) registry: RegistryArgs,
}

#[derive(Debug, Subcommand)]
pub(crate) enum ManifestVerb {
    /// Begin an index of images that are in a registry
    Create(ManifestCreateArgs),
    /// Say for which platform an image of the index is
    Annotate(ManifestAnnotateArgs),
    /// Send the index to its registry
    Push(ManifestPushArgs),
    /// Show the index that was begun, or what a registry has
    Inspect(ManifestInspectArgs),
    /// Forget indexes that were begun
    Rm(ManifestRmArgs),
}

#[derive(Debug, Args)]
pub(crate) struct ManifestCreateArgs {
    /// Name of the index
    #[arg(value_name = "INDEX")]
    pub(crate) index: Reference,
    /// Names of images
    #[arg(value_name = "IMAGE", required = true)]
    pub(crate) images: Vec<Reference>,
    /// Add to an index that was begun
    #[arg(short, long)]
    pub(crate) amend: bool,
    /// Let the registries speak plain HTTP or have any certificate
    #[arg(long)]
    pub(crate) insecure: bool,
    #[command(flatten)]
    pub(crate) registry: RegistryArgs,
}

#[derive(Debug, Args)]
pub(crate) struct ManifestAnnotateArgs {
    /// Name of the index
    #[arg(value_name = "INDEX")]
    pub(crate) index: Reference,
    /// Name of the image in it
    #[arg(value_name = "IMAGE")]
    pub(crate) image: Reference,
    /// Architecture
    #[arg(long, value_name = "ARCH")]
    pub(crate) arch: Option<String>,
    /// Operating system
    #[arg(long, value_name = "OS")]
    pub(crate) os: Option<String>,
    /// Version of the operating system
    #[arg(long, value_name = "VERSION")]
    pub(crate) os_version: Option<String>,
    /// Feature of the operating system; may be repeated
    #[arg(long, value_name = "FEATURE", value_delimiter = ',')]
    pub(crate) os_features: Vec<String>,
    /// Variant of the architecture
    #[arg(long, value_name = "VARIANT")]
    pub(crate) variant: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct ManifestPushArgs {
    /// Name of the index
    #[arg(value_name = "INDEX")]
    pub(crate) index: Reference,
    /// Forget the index once it is there
    #[arg(short, long)]
    pub(crate) purge: bool,
    /// Let the registries speak plain HTTP or have any certificate
    #[arg(long)]
    pub(crate) insecure: bool,
    #[command(flatten)]
    pub(crate) registry: RegistryArgs,
}

#[derive(Debug, Args)]
pub(crate) struct ManifestInspectArgs {
    /// Name of the index or image
    #[arg(value_name = "NAME")]
    pub(crate) name: Reference,
    /// Let the registry speak plain HTTP or have any certificate
    #[arg(long)]
    pub(crate) insecure: bool,
    #[command(flatten)]
    pub(crate) registry: RegistryArgs,
}

#[derive(Debug, Args)]
pub(crate) struct ManifestRmArgs {
    /// Names of indexes
    #[arg(value_name = "INDEX", required = true)]
    pub(crate) indexes: Vec<Reference>,
}
