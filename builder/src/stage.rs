//! Which stages the target needs, and what each name in them refers to.
//!
//! Order of steps: parse; collect the global arguments; find the target; walk from it through `FROM`,
//! `COPY --from` and mounts; resolve the images that were found; if these bring `ONBUILD` triggers, which may name
//! further stages and images, walk again; put what was found into the order of the file. Only stages that are needed
//! are looked at, so a mistake in another one does not stop a build.

mod arguments;
mod select;

use std::borrow::Cow;
use std::collections::BTreeMap;

use oci::Platform;

use crate::dockerfile::diagnostic::Span;
use crate::dockerfile::instruction::{self, Dockerfile, Instruction};
use crate::plan::{Base, ImageRef, Origin, StageId};
use crate::source::{self, Bases, ImageSource};
use crate::{Error, Request};

pub use arguments::Variables;
pub(crate) use arguments::automatic;
pub(crate) use select::in_trigger;
use select::{Found, Selector};

/// The stages that a build needs.
pub struct Stages<'a> {
    /// Global arguments and automatic ones.
    pub globals: Variables,
    /// The stages, in the order of the file.
    pub needed: Vec<Needed<'a>>,
    /// The one that was asked for.
    pub target: StageId,
    /// The escape character.
    pub escape: char,
    /// The names of all stages of the file.
    pub names: Vec<&'a str>,
    /// How many stages the file has.
    pub stages_in_file: usize,
    /// No time in the image is later than this, in seconds since 1970.
    pub epoch: Option<i64>,
}

/// One needed stage.
pub struct Needed<'a> {
    /// As it stands in the file.
    pub stage: instruction::Stage<'a>,
    /// What it does: the triggers of its base, then its own instructions.
    pub instructions: Vec<Cow<'a, Instruction>>,
    /// How many of them are triggers.
    pub triggers: usize,
    /// What its `FROM` refers to.
    pub base: Base,
    /// Files that it starts with in place of a base: a named context.
    pub files: Option<Origin>,
    /// What its commands run on.
    pub platform: Platform,
    /// What each `--from` refers to, by the instruction's number in the stage and, for `RUN`, the mount's.
    pub origins: BTreeMap<(usize, usize), Origin>,
}

impl Needed<'_> {
    /// Its name, or its number in the file.
    pub fn name(&self) -> String {
        self.stage.name.map_or_else(|| self.stage.index.to_string(), str::to_owned)
    }
}

impl Stages<'_> {
    /// The images that the stages start from or copy from, each with the place of its first mention.
    pub fn images(&self) -> Vec<(ImageRef, Span)> {
        let mut images: Vec<(ImageRef, Span)> = Vec::new();
        let mut mention = |image: &ImageRef, span: Span| {
            if images.iter().all(|(known, _)| known != image) {
                images.push((image.clone(), span));
            }
        };
        for needed in &self.needed {
            if let Base::Image(image) = &needed.base {
                mention(image, needed.stage.from.base.span);
            }
            for ((at, _), origin) in &needed.origins {
                if let Origin::Image(image) = origin {
                    let is_trigger = *at < needed.triggers;
                    let span =
                        if is_trigger { needed.stage.head.span } else { needed.instructions[*at].span };
                    mention(image, span);
                }
            }
        }
        images
    }
}

/// Which stages are looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// Those that the target needs.
    Target,
    /// All of the file.
    File,
}

/// Parses the Dockerfile.
///
/// # Errors
/// All mistakes at once.
pub fn parse(request: &Request) -> Result<Dockerfile, Error> {
    crate::dockerfile::parse(&request.dockerfile).map_err(|diagnostics| Error::Dockerfile { diagnostics })
}

/// Finds the stages of `scope`, and the images that they name.
///
/// # Errors
/// An unknown target; names in these stages that refer to nothing; an image that cannot be had.
pub fn resolve<'a>(
    dockerfile: &'a Dockerfile,
    request: &Request,
    images: &dyn ImageSource,
    scope: Scope,
) -> Result<(Stages<'a>, Bases), Error> {
    let mut bases = Bases::default();
    loop {
        let stages = select(dockerfile, request, &bases, scope)?;
        let mut wanted = stages.images();
        wanted.retain(|(image, _)| !bases.contains(image));
        let found = source::resolve_bases(&wanted, &stages.names, request, images)?;
        // What a base has its descendants do may need further stages and images.
        let brings_triggers = found.iter().any(|base| !base.triggers().is_empty());
        bases.extend(found);
        if !brings_triggers {
            return Ok((stages, bases));
        }
    }
}

/// Finds the stages that the target needs as far as the text alone tells them: without what base images have their
/// descendants do.
///
/// # Errors
/// An unknown target; names in these stages that refer to nothing.
pub(crate) fn select_by_text<'a>(dockerfile: &'a Dockerfile, request: &Request) -> Result<Stages<'a>, Error> {
    select(dockerfile, request, &Bases::default(), Scope::Target)
}

/// Finds the stages of `scope`, with the triggers of those images that are in `bases`.
fn select<'a>(
    dockerfile: &'a Dockerfile,
    request: &Request,
    bases: &Bases,
    scope: Scope,
) -> Result<Stages<'a>, Error> {
    let escape = dockerfile.directives.escape;
    let view = dockerfile.stages();
    let target = select::find_target(&view.stages, request)?;
    let mut diagnostics = Vec::new();
    let globals = arguments::globals(
        view.global_arguments,
        view.stages[target].name,
        request,
        escape,
        &mut diagnostics,
    );
    let epoch = arguments::epoch(view.global_arguments, &globals, request, &mut diagnostics);
    let mut selector =
        Selector { stages: &view.stages, escape, globals: &globals, bases, request, diagnostics };
    let found = match scope {
        Scope::Target => selector.walk([target]),
        Scope::File => selector.walk(0..view.stages.len()),
    };
    if !selector.diagnostics.is_empty() {
        return Err(Error::Dockerfile { diagnostics: selector.diagnostics });
    }
    let names = view.stages.iter().filter_map(|stage| stage.name).collect();
    let order: Vec<usize> = found.keys().copied().collect();
    let target = place(&order, target);
    let needed = in_order(&view.stages, found, &order);
    let stages_in_file = view.stages.len();
    Ok(Stages { globals, needed, target, escape, names, stages_in_file, epoch })
}

/// The place of a stage of the file among those that are needed.
fn place(order: &[usize], index: usize) -> StageId {
    order.iter().position(|known| *known == index).unwrap_or_default()
}

/// Stages by their places among the needed ones; one derived from another runs on that one's platform.
fn in_order<'a>(
    stages: &[instruction::Stage<'a>],
    found: BTreeMap<usize, Found<'a>>,
    order: &[usize],
) -> Vec<Needed<'a>> {
    let mut needed: Vec<Needed<'a>> = Vec::with_capacity(found.len());
    for (index, found) in found {
        let base = match found.base {
            Base::Stage(index) => Base::Stage(place(order, index)),
            base => base,
        };
        let platform = match base {
            Base::Stage(id) => needed[id].platform.clone(),
            _ => found.platform,
        };
        let origins = found.origins.into_iter().map(|(at, origin)| match origin {
            Origin::Stage(index) => (at, Origin::Stage(place(order, index))),
            origin => (at, origin),
        });
        needed.push(Needed {
            stage: stages[index],
            instructions: found.instructions,
            triggers: found.triggers,
            base,
            files: found.files,
            platform,
            origins: origins.collect(),
        });
    }
    needed
}
