//! `COPY` and `ADD`: files from elsewhere, into the image.

use std::io::Write;
use std::path::Path;
use std::time::SystemTime;

use layerfs::IoResultExt;
use layerfs::confined::{NewDirectory, Owner, Root};
use layerfs::copy as files;
use layerfs::copy::{Filters, ModeChange, Options};
use layerfs::snapshot::{Active, Snapshotter};

use super::owner;
use super::source::Chosen;
use crate::plan::{Copy, InlineFile, Step};
use crate::{Error, Events};

/// Copies what was chosen, input by input.
pub(crate) fn execute(
    (step, copy): (&Step, &Copy),
    active: &Active,
    chosen: &[Option<Chosen<'_>>],
    snapshots: &dyn Snapshotter,
    events: Events<'_>,
) -> Result<(), Error> {
    let fail = |source| Error::Step { span: step.span, act: "copy", source };
    let flag = ("--chown=", step.span);
    let owner =
        copy.owner.as_ref().map(|owner| owner::resolve(owner, active.root(), flag, events)).transpose()?;
    let mode = copy.mode.as_deref().map(str::parse::<ModeChange>).transpose().map_err(fail)?;
    let target = Root::duplicate(active.root()).map_err(fail)?;
    let destination = Path::new(&copy.destination);
    for (input, chosen) in copy.inputs.iter().zip(chosen) {
        match chosen {
            Some(Chosen::Files(source, selection, _)) => {
                let owner = owner.or_else(|| source.owner());
                let options = Options { owner, mode: mode.clone(), unpack: input.unpack };
                files::copy(&source.root, selection, &target, destination, &options).map_err(fail)?;
            }
            Some(Chosen::Inline(inline)) => {
                let owner = Some(owner.unwrap_or_default());
                let options = Options { owner, mode: mode.clone(), unpack: false };
                copy_inline(inline, snapshots, &target, destination, &options).map_err(fail)?;
            }
            None => {}
        }
    }
    Ok(())
}

/// Heredocs become files of an empty tree, and are copied from there like any others.
fn copy_inline(
    inline: &[InlineFile],
    snapshots: &dyn Snapshotter,
    target: &Root,
    destination: &Path,
    options: &Options,
) -> layerfs::Result<()> {
    let tree = snapshots.prepare(None)?;
    let root = Root::duplicate(tree.root())?;
    for file in inline {
        let path = Path::new(&file.name);
        if let Some(above) = path.parent() {
            root.make_dirs(above, &NewDirectory::default())?;
        }
        let mut written = root.create_file(path, 0o644, Owner::default())?;
        written.write_all(file.content.as_bytes()).at("write", path)?;
        written.set_modified(SystemTime::UNIX_EPOCH).at("date", path)?;
    }
    let matches = |pattern: &[u8], name: &[u8]| pattern == name;
    let filters = Filters { matches: &matches, ignore: None, exclude: None };
    for file in inline {
        let selection = files::select(&root, &[&file.name], &filters)?;
        files::copy(&root, &selection, target, destination, options)?;
    }
    Ok(())
}
