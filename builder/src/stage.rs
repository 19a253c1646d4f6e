//! Which stages the target needs, and what each name in them refers to.
//!
//! Order of steps: parse; collect the global arguments; find the target; walk from it through `FROM`,
//! `COPY --from` and mounts; put what was found into the order of the file. Only stages that are needed are looked at,
//! so a mistake in another one does not stop a build.

use std::collections::{BTreeMap, BTreeSet};

use oci::{Platform, Reference};

use crate::dockerfile::diagnostic::{Diagnostic, Span};
use crate::dockerfile::expand::expand_word;
use crate::dockerfile::instruction::{self, Dockerfile, InstructionKind, Word};
use crate::plan::{Base, Origin, StageId};
use crate::{Error, Event, Events, Request};

/// Variables in order of first definition.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Variables(Vec<(String, String)>);

impl Variables {
    /// The value of `name`.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// Sets `name`, in its old place if it had one.
    pub fn set(&mut self, name: &str, value: &str) {
        match self.0.iter_mut().find(|(known, _)| known == name) {
            Some((_, old)) => value.clone_into(old),
            None => self.0.push((name.to_owned(), value.to_owned())),
        }
    }

    /// All of them, in order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }
}

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
}

/// One needed stage.
pub struct Needed<'a> {
    /// Its instructions.
    pub stage: instruction::Stage<'a>,
    /// What its `FROM` refers to.
    pub base: Base,
    /// What each `--from` refers to, by the instruction's number in the stage.
    pub origins: BTreeMap<usize, Origin>,
}

impl Needed<'_> {
    /// Its name, or its number in the file.
    pub fn name(&self) -> String {
        self.stage.name.map_or_else(|| self.stage.index.to_string(), str::to_owned)
    }
}

impl Stages<'_> {
    /// The images that the stages start from or copy from, each with the place of its first mention.
    pub fn images(&self) -> Vec<(Reference, Span)> {
        let mut images: Vec<(Reference, Span)> = Vec::new();
        let mut mention = |reference: &Reference, span: Span| {
            if images.iter().all(|(known, _)| known != reference) {
                images.push((reference.clone(), span));
            }
        };
        for needed in &self.needed {
            if let Base::Image(reference) = &needed.base {
                mention(reference, needed.stage.from.base.span);
            }
            for (at, origin) in &needed.origins {
                if let Origin::Image(reference) = origin {
                    mention(reference, needed.stage.instructions[*at].span);
                }
            }
        }
        images
    }
}

/// Parses the Dockerfile and tells its warnings.
///
/// # Errors
/// All mistakes at once.
pub fn parse(request: &Request, events: Events<'_>) -> Result<Dockerfile, Error> {
    let dockerfile = crate::dockerfile::parse(&request.dockerfile)
        .map_err(|diagnostics| Error::Dockerfile { diagnostics })?;
    for warning in &dockerfile.warnings {
        events(Event::Warning { text: warning.render(&request.dockerfile_name, &request.dockerfile) });
    }
    Ok(dockerfile)
}

/// Finds the stages that the target needs.
///
/// # Errors
/// An unknown target; names in needed stages that refer to nothing.
pub fn select<'a>(dockerfile: &'a Dockerfile, request: &Request) -> Result<Stages<'a>, Error> {
    let escape = dockerfile.directives.escape;
    let view = dockerfile.stages();
    let target = find_target(&view.stages, request)?;
    let mut selector =
        Selector { stages: &view.stages, escape, globals: Variables::default(), diagnostics: Vec::new() };
    selector.globals = selector.global_arguments(view.global_arguments, target, request);
    let found = selector.walk(target, &request.platform);
    if !selector.diagnostics.is_empty() {
        return Err(Error::Dockerfile { diagnostics: selector.diagnostics });
    }
    let order: Vec<usize> = found.keys().copied().collect();
    let place = |index: usize| order.iter().position(|known| *known == index).unwrap_or_default();
    let needed = found
        .into_iter()
        .map(|(index, (base, origins))| Needed {
            stage: view.stages[index],
            base: match base {
                Base::Stage(index) => Base::Stage(place(index)),
                base => base,
            },
            origins: origins
                .into_iter()
                .map(|(at, origin)| match origin {
                    Origin::Stage(index) => (at, Origin::Stage(place(index))),
                    origin => (at, origin),
                })
                .collect(),
        })
        .collect();
    let names = view.stages.iter().filter_map(|stage| stage.name).collect();
    Ok(Stages { globals: selector.globals, needed, target: place(target), escape, names })
}

fn find_target(stages: &[instruction::Stage<'_>], request: &Request) -> Result<usize, Error> {
    let Some(target) = &request.target else { return Ok(stages.len() - 1) };
    let wanted = target.to_lowercase();
    // A later stage of the same name hides the earlier one.
    if let Some(found) = stages.iter().rposition(|stage| stage.name == Some(wanted.as_str())) {
        return Ok(found);
    }
    let names: Vec<&str> = stages.iter().filter_map(|stage| stage.name).collect();
    let mut diagnostic = Diagnostic::error_without_place(format!("no stage is named `{target}`"))
        .did_you_mean(&wanted, names.iter().copied());
    if diagnostic.hint.is_none() {
        diagnostic = match names[..] {
            [] => diagnostic.hint("no stage has a name; give one with `FROM … AS name`"),
            _ => diagnostic.hint(format!("the stages are `{}`", names.join("`, `"))),
        };
    }
    Err(Error::Dockerfile { diagnostics: vec![diagnostic] })
}

struct Selector<'a> {
    stages: &'a [instruction::Stage<'a>],
    escape: char,
    globals: Variables,
    diagnostics: Vec<Diagnostic>,
}

type Found = BTreeMap<usize, (Base, BTreeMap<usize, Origin>)>;

impl Selector<'_> {
    /// The automatic platform arguments, then the `ARG`s before the first `FROM`; `--build-arg` wins over both.
    fn global_arguments(
        &mut self,
        arguments: &[instruction::Instruction],
        target: usize,
        request: &Request,
    ) -> Variables {
        let mut globals = Variables::default();
        for (name, value) in automatic_arguments(&request.platform, self.stages[target].name) {
            globals.set(name, request.build_args.get(name).unwrap_or(&value));
        }
        for argument in arguments.iter().flat_map(|instruction| match &instruction.kind {
            InstructionKind::Arg(arguments) => arguments.as_slice(),
            _ => &[],
        }) {
            self.globals.clone_from(&globals);
            let Some(name) = self.expand(&argument.name) else { continue };
            if let Some(value) = request.build_args.get(&name) {
                globals.set(&name, value);
            } else if let Some(value) = argument.default.as_ref().and_then(|word| self.expand(word)) {
                globals.set(&name, &value);
            }
        }
        globals
    }

    /// Everything reachable from `target`.
    fn walk(&mut self, target: usize, platform: &Platform) -> Found {
        let mut found = Found::new();
        let mut queue = BTreeSet::from([target]);
        while let Some(index) = queue.pop_last() {
            let Some(base) = self.base(index, platform) else {
                found.insert(index, (Base::Scratch, BTreeMap::new()));
                continue;
            };
            let origins = self.origins(index);
            let stages = origins.values().filter_map(|origin| match origin {
                Origin::Stage(index) => Some(*index),
                _ => None,
            });
            let parent = match &base {
                Base::Stage(index) => Some(*index),
                _ => None,
            };
            queue.extend(stages.chain(parent).filter(|index| !found.contains_key(index)));
            found.insert(index, (base, origins));
        }
        found
    }

    fn base(&mut self, index: usize, platform: &Platform) -> Option<Base> {
        let from = self.stages[index].from;
        let base = self.expand(&from.base)?;
        if base.is_empty() {
            self.diagnostics.push(
                Diagnostic::error(
                    from.base.span,
                    format!("the base image's name `{}` is empty", from.base.text),
                )
                .hint("give the argument a default before `FROM`, or set it with `--build-arg`"),
            );
            return None;
        }
        if base == "scratch" {
            return Some(Base::Scratch);
        }
        if let Some(word) = &from.platform {
            self.check_platform(word, platform);
        }
        // Only earlier stages; the text is compared as it stands with the lower-cased names.
        if let Some(stage) = self.stages[..index].iter().rposition(|stage| stage.name == Some(base.as_str()))
        {
            return Some(Base::Stage(stage));
        }
        self.reference(&base, from.base.span).map(Base::Image)
    }

    fn check_platform(&mut self, word: &Word, wanted: &Platform) {
        let Some(text) = self.expand(word) else { return };
        let problem = match text.parse::<Platform>() {
            Ok(platform) if wanted.accepts(&platform) || Platform::host().accepts(&platform) => return,
            Ok(platform) => {
                format!("building for `{platform}` is not supported yet: this build is for `{wanted}`")
            }
            Err(error) => error.to_string(),
        };
        self.diagnostics.push(Diagnostic::error(word.span, problem));
    }

    fn origins(&mut self, index: usize) -> BTreeMap<usize, Origin> {
        let mut origins = BTreeMap::new();
        for (at, instruction) in self.stages[index].instructions.iter().enumerate() {
            let InstructionKind::Copy(copy) = &instruction.kind else { continue };
            let Some(word) = &copy.from else { continue };
            if let Some(origin) = self.origin(index, word) {
                origins.insert(at, origin);
            }
        }
        origins
    }

    /// What `--from` names: an earlier stage by name or number, else an image.
    fn origin(&mut self, index: usize, word: &Word) -> Option<Origin> {
        let name = word.text.to_lowercase();
        let fail = |message: String| Some(Diagnostic::error(word.span, message));
        let named =
            |range: &[instruction::Stage<'_>]| range.iter().rposition(|s| s.name == Some(name.as_str()));
        let problem = if word.text.contains('$') {
            fail("variables are not expanded in `--from`".to_owned())
                .map(|d| d.hint("name a stage with `FROM $ARG AS name`, and copy from that"))
        } else if let Ok(number) = word.text.parse::<usize>() {
            if number < index {
                return Some(Origin::Stage(number));
            }
            fail(format!("stage {number} is not before this one, which is stage {index}"))
        } else if let Some(stage) = named(&self.stages[..index]) {
            return Some(Origin::Stage(stage));
        } else if named(&self.stages[index..=index]).is_some() {
            fail(format!("the stage `{}` cannot copy from itself", word.text))
        } else if named(self.stages).is_some() {
            fail(format!("the stage `{}` comes after this one; it must be defined before", word.text))
        } else {
            return self.reference(&word.text, word.span).map(Origin::Image);
        };
        self.diagnostics.extend(problem);
        None
    }

    fn reference(&mut self, text: &str, span: Span) -> Option<Reference> {
        match text.parse::<Reference>() {
            Ok(reference) => Some(reference),
            Err(error) => {
                let names = self.stages.iter().filter_map(|stage| stage.name);
                self.diagnostics.push(Diagnostic::error(span, error.to_string()).did_you_mean(text, names));
                None
            }
        }
    }

    fn expand(&mut self, word: &Word) -> Option<String> {
        let lookup = |name: &str| self.globals.get(name).map(str::to_owned);
        match expand_word(&word.text, self.escape, &lookup) {
            Ok(expanded) => Some(expanded.value),
            Err(error) => {
                self.diagnostics.push(Diagnostic::error(word.span, error.message));
                None
            }
        }
    }
}

/// `BUILDPLATFORM`, `TARGETARCH` and so on. (Dockerfile reference, "Automatic platform ARGs in the global scope".)
fn automatic_arguments(target: &Platform, stage: Option<&str>) -> Vec<(&'static str, String)> {
    let host = Platform::host();
    let variant = |platform: &Platform| platform.variant.clone().unwrap_or_default();
    vec![
        ("BUILDPLATFORM", host.to_string()),
        ("BUILDOS", host.os.clone()),
        ("BUILDOSVERSION", String::new()),
        ("BUILDARCH", host.architecture.clone()),
        ("BUILDVARIANT", variant(&host)),
        ("TARGETPLATFORM", target.to_string()),
        ("TARGETOS", target.os.clone()),
        ("TARGETOSVERSION", String::new()),
        ("TARGETARCH", target.architecture.clone()),
        ("TARGETVARIANT", variant(target)),
        ("TARGETSTAGE", stage.unwrap_or("default").to_owned()),
    ]
}
