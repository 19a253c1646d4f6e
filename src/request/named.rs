//! `--build-context`: what each name stands for.

use std::path::Path;

use builder::remote::Remote;
use builder::source::layout::LayoutImage;
use builder::{Context, NamedContext};
use oci::Reference;

use super::{place, text};
use crate::failure::Failure;
use crate::value::ContextArg;

/// What a name stands for, before any layout is read.
#[derive(Clone, Debug)]
pub(crate) enum NamedPlace {
    Directory(Context),
    Image(Reference),
    Layout(LayoutImage),
    Remote(Remote),
}

impl NamedPlace {
    /// What the builder makes of it, unless a layout has to be read first.
    pub(super) fn in_place(&self) -> Option<NamedContext> {
        match self {
            NamedPlace::Directory(context) => Some(NamedContext::Directory(context.clone())),
            NamedPlace::Image(reference) => Some(NamedContext::Image(reference.clone())),
            NamedPlace::Remote(remote) => Some(NamedContext::Remote(remote.clone())),
            NamedPlace::Layout(_) => None,
        }
    }

    /// What has to be fetched.
    pub(super) fn remote(&self) -> Option<&Remote> {
        if let NamedPlace::Remote(remote) = self { Some(remote) } else { None }
    }
}

/// Looks for directories, reads their ignore files, parses names and addresses.
pub(super) fn locate(arg: &ContextArg) -> Result<NamedPlace, Failure> {
    let ContextArg { name, place, .. } = arg;
    if let Some(reference) = place.strip_prefix("docker-image://") {
        return Ok(NamedPlace::Image(reference.parse().map_err(Failure::usage)?));
    }
    if let Some(layout) = place.strip_prefix("oci-layout://") {
        let image: LayoutImage = layout.parse().map_err(Failure::usage)?;
        let path = place::directory(&image.path, "the layout of a build context")
            .map_err(|failure| failure.unwrap_or_else(|| missing(name, &image.path.display().to_string())))?;
        return Ok(NamedPlace::Layout(LayoutImage { path, ..image }));
    }
    if let Some(target) = place.strip_prefix("target:").or_else(|| place.strip_prefix("input:")) {
        return Err(Failure::usage(format!("`{place}`: contexts made by other builds are not known"))
            .hint(format!("a stage is named by `--from={target}` in the Dockerfile itself")));
    }
    match place::directory(Path::new(place), &format!("the build context `{name}`")) {
        Ok(root) => text::context(root, None).map(NamedPlace::Directory),
        Err(Some(failure)) => Err(failure),
        Err(None) => Ok(NamedPlace::Remote(place::remote(place)?.ok_or_else(|| missing(name, place))?)),
    }
}

fn missing(name: &str, place: &str) -> Failure {
    Failure::usage(format!("there is no `{place}` for the build context `{name}`")).hint(
        "a context is a directory, `docker-image://NAME`, `oci-layout://PATH`, or an address of git, http or https",
    )
}
