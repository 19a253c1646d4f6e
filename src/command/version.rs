//! `lbuild version`: makes nothing, and looks only at what snapshots can be made of.

use serde_json::json;

use crate::args::{Format, VersionArgs};
use crate::command::Session;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::output;

/// The crate's version.
const VERSION: &str = env!("CARGO_PKG_VERSION");

pub(crate) fn version(args: &VersionArgs, session: &Session) -> Result<Exit, Failure> {
    match args.format {
        Format::Table => output::print(&format!("lbuild {VERSION}\n"))?,
        Format::Json => output::print_json(&json!({
            "Version": VERSION,
            "Platform": oci::Platform::host().to_string(),
            "Snapshotter": session.look_home()?.store.driver().to_string(),
        }))?,
    }
    Ok(Exit::Done)
}
