//! `lbuild version`: opens nothing.

use serde_json::json;

use crate::args::{Format, VersionArgs};
use crate::exit::Exit;
use crate::failure::Failure;
use crate::output;

/// The crate's version.
const VERSION: &str = env!("CARGO_PKG_VERSION");

pub(crate) fn version(args: &VersionArgs) -> Result<Exit, Failure> {
    match args.format {
        Format::Table => output::print(&format!("lbuild {VERSION}\n"))?,
        Format::Json => output::print_json(&json!({
            "Version": VERSION,
            "Platform": oci::Platform::host().to_string(),
        }))?,
    }
    Ok(Exit::Done)
}
