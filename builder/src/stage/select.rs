//! The walk from a target to all that it needs, and what the names on the way refer to.
//!
//! A name in `FROM` and `--from` is, in this order: a named context, an earlier stage (in `--from` by number too), an
//! image. In `--from`, and nowhere else, that is after variables are replaced: those of the global scope and of the
//! stage's `ARG`s so far. BuildKit replaces none there.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

use oci::{Platform, Reference};

use super::arguments::{self, Variables};
use crate::dockerfile::diagnostic::{Diagnostic, Span};
use crate::dockerfile::instruction::{self, Instruction, InstructionKind, Mount, Word};
use crate::dockerfile::parse_trigger;
use crate::plan::{Base, ImageRef, Origin};
use crate::request::NamedContext;
use crate::source::Bases;
use crate::{Error, Request};

/// What is known of a needed stage; stages are named by their numbers in the file.
pub(super) struct Found<'a> {
    pub(super) base: Base,
    pub(super) files: Option<Origin>,
    pub(super) platform: Platform,
    pub(super) instructions: Vec<Cow<'a, Instruction>>,
    pub(super) triggers: usize,
    pub(super) origins: BTreeMap<(usize, usize), Origin>,
}

pub(super) struct Selector<'s, 'a> {
    pub(super) stages: &'s [instruction::Stage<'a>],
    pub(super) escape: char,
    pub(super) globals: &'s Variables,
    /// The images that are resolved already: those whose triggers are known.
    pub(super) bases: &'s Bases,
    pub(super) request: &'s Request,
    pub(super) diagnostics: Vec<Diagnostic>,
}

/// What a `FROM` refers to.
enum Start {
    Base(Base),
    Files(Origin),
}

/// The number of the stage that was asked for.
pub(super) fn find_target(stages: &[instruction::Stage<'_>], request: &Request) -> Result<usize, Error> {
    let Some(target) = &request.target else { return Ok(stages.len() - 1) };
    let wanted = target.to_lowercase();
    // A later stage of the same name hides the earlier one.
    if let Some(found) = named(stages, &wanted) {
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

fn named(stages: &[instruction::Stage<'_>], name: &str) -> Option<usize> {
    stages.iter().rposition(|stage| stage.name == Some(name))
}

impl<'a> Selector<'_, 'a> {
    /// Everything reachable from `targets`.
    pub(super) fn walk(&mut self, targets: impl IntoIterator<Item = usize>) -> BTreeMap<usize, Found<'a>> {
        let mut found = BTreeMap::new();
        let mut queue: BTreeSet<usize> = targets.into_iter().collect();
        while let Some(index) = queue.pop_last() {
            let stage = self.stage(index);
            let origins = stage.origins.values().filter_map(|origin| match origin {
                Origin::Stage(index) => Some(*index),
                _ => None,
            });
            let parent = match &stage.base {
                Base::Stage(index) => Some(*index),
                _ => None,
            };
            queue.extend(origins.chain(parent).filter(|index| !found.contains_key(index)));
            found.insert(index, stage);
        }
        found
    }

    fn stage(&mut self, index: usize) -> Found<'a> {
        let platform = self.platform(index);
        let (base, files) = match self.start(index, &platform) {
            Some(Start::Base(base)) => (base, None),
            Some(Start::Files(origin)) => (Base::Scratch, Some(origin)),
            // What is wrong has been noted.
            None => (Base::Scratch, None),
        };
        let mut instructions = self.triggers(index, &base);
        let triggers = instructions.len();
        if !self.is_replaced(index) {
            instructions.extend(self.stages[index].instructions.iter().map(Cow::Borrowed));
        }
        let origins = self.origins(index, &base, &instructions);
        Found { base, files, platform, instructions, triggers, origins }
    }

    /// `FROM --platform`, else the one that is built for.
    fn platform(&mut self, index: usize) -> Platform {
        let wanted = self.request.platform.clone();
        let Some(word) = &self.stages[index].from.platform else { return wanted };
        let Some(text) = self.globals.expand(word, self.escape, &mut self.diagnostics) else { return wanted };
        text.parse().unwrap_or_else(|error: oci::Error| {
            self.diagnostics.push(Diagnostic::error(word.span, error.to_string()));
            wanted
        })
    }

    /// Whether a named context stands in place of the whole stage.
    fn is_replaced(&self, index: usize) -> bool {
        self.stages[index].name.is_some_and(|name| self.request.contexts.contains_key(name))
    }

    fn start(&mut self, index: usize, platform: &Platform) -> Option<Start> {
        let from = self.stages[index].from;
        let base = match self.stages[index].name.filter(|_| self.is_replaced(index)) {
            Some(name) => name.to_owned(),
            None => self.globals.expand(&from.base, self.escape, &mut self.diagnostics)?,
        };
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
        match self.context(&base, platform) {
            Some(Origin::Image(image)) => return Some(Start::Base(Base::Image(image))),
            Some(origin) => return Some(Start::Files(origin)),
            None => {}
        }
        if base == "scratch" {
            return Some(Start::Base(Base::Scratch));
        }
        // Only earlier stages; the text is compared as it stands with the lower-cased names.
        if let Some(stage) = named(&self.stages[..index], &base) {
            return Some(Start::Base(Base::Stage(stage)));
        }
        let reference = self.reference(&base, from.base.span)?;
        Some(Start::Base(Base::Image(ImageRef { reference, platform: platform.clone() })))
    }

    /// The named context that `name` stands for: by that very name, or as another spelling of the same image.
    fn context(&self, name: &str, platform: &Platform) -> Option<Origin> {
        let contexts = &self.request.contexts;
        let key = name.to_lowercase();
        let same_image = || {
            let wanted: Reference = name.parse().ok()?;
            contexts.iter().find(|(known, _)| known.parse::<Reference>().is_ok_and(|known| known == wanted))
        };
        let (key, context) = contexts.get_key_value(&key).or_else(same_image)?;
        Some(match context {
            NamedContext::Directory(_) => Origin::Named(key.clone()),
            NamedContext::Image(reference) => {
                Origin::Image(ImageRef { reference: reference.clone(), platform: platform.clone() })
            }
            NamedContext::Remote(remote) => Origin::Remote(remote.clone()),
        })
    }

    /// What the base has its descendants do first: one level, so never what it was told itself.
    fn triggers(&mut self, index: usize, base: &Base) -> Vec<Cow<'a, Instruction>> {
        match base {
            Base::Scratch => Vec::new(),
            Base::Stage(base) => self.stages[*base]
                .instructions
                .iter()
                .filter_map(|instruction| match &instruction.kind {
                    InstructionKind::OnBuild(trigger) => Some(Cow::Borrowed(trigger.instruction.as_ref())),
                    _ => None,
                })
                .collect(),
            Base::Image(image) => {
                let span = self.stages[index].from.base.span;
                let texts = self.bases.find(image).map(|base| base.triggers()).unwrap_or_default();
                let mut triggers = Vec::with_capacity(texts.len());
                for text in texts {
                    match parse_trigger(text) {
                        Ok(instruction) => triggers.push(Cow::Owned(instruction)),
                        Err(errors) => {
                            let told = errors.into_iter().map(|error| in_trigger(error, text, span));
                            self.diagnostics.extend(told);
                        }
                    }
                }
                triggers
            }
        }
    }

    fn origins(
        &mut self,
        index: usize,
        base: &Base,
        instructions: &[Cow<'a, Instruction>],
    ) -> BTreeMap<(usize, usize), Origin> {
        let mut scope = self.inherited(base);
        let mut origins = BTreeMap::new();
        for (at, instruction) in instructions.iter().enumerate() {
            match &instruction.kind {
                InstructionKind::Arg(arguments) => self.declare(&mut scope, arguments),
                InstructionKind::Copy(copy) => {
                    let origin = copy.from.as_ref().and_then(|word| self.copy_origin(index, word, &scope));
                    origins.extend(origin.map(|origin| ((at, 0), origin)));
                }
                InstructionKind::Run(run) => {
                    for (number, mount) in run.mounts.iter().enumerate() {
                        let origin =
                            from_option(mount).and_then(|word| self.origin(index, &word.text, word.span));
                        origins.extend(origin.map(|origin| ((at, number), origin)));
                    }
                }
                _ => {}
            }
        }
        origins
    }

    /// The arguments that a stage has from the one that it stands on.
    fn inherited(&self, base: &Base) -> Variables {
        let Base::Stage(parent) = base else { return self.globals.clone() };
        let from = self.globals.expand(&self.stages[*parent].from.base, self.escape, &mut Vec::new());
        let mut scope = match named(&self.stages[..*parent], &from.unwrap_or_default()) {
            Some(grandparent) => self.inherited(&Base::Stage(grandparent)),
            None => self.globals.clone(),
        };
        for instruction in self.stages[*parent].instructions {
            if let InstructionKind::Arg(arguments) = &instruction.kind {
                self.declare(&mut scope, arguments);
            }
        }
        scope
    }

    fn declare(&self, scope: &mut Variables, arguments: &[instruction::Argument]) {
        for argument in arguments {
            arguments::declare(scope, argument, self.globals, self.request, self.escape);
        }
    }

    fn copy_origin(&mut self, index: usize, word: &Word, scope: &Variables) -> Option<Origin> {
        if !word.text.contains('$') {
            return self.origin(index, &word.text, word.span);
        }
        let name = scope.expand(word, self.escape, &mut self.diagnostics)?;
        if name.is_empty() {
            self.diagnostics.push(
                Diagnostic::error(word.span, format!("`--from={}` is empty", word.text))
                    .hint("`--from` sees the `ARG`s of this stage so far and those before the first `FROM`"),
            );
            return None;
        }
        self.origin(index, &name, word.span)
    }

    /// What `--from` names: a named context, an earlier stage by name or number, else an image.
    fn origin(&mut self, index: usize, text: &str, span: Span) -> Option<Origin> {
        let platform = self.request.platform.clone();
        if let Some(origin) = self.context(text, &platform) {
            return Some(origin);
        }
        if text == "scratch" {
            return Some(Origin::Scratch);
        }
        let name = text.to_lowercase();
        let problem = if let Ok(number) = text.parse::<usize>() {
            if number < index {
                return Some(Origin::Stage(number));
            }
            format!("stage {number} is not before this one, which is stage {index}")
        } else if let Some(stage) = named(&self.stages[..index], &name) {
            return Some(Origin::Stage(stage));
        } else if named(&self.stages[index..=index], &name).is_some() {
            format!("the stage `{text}` cannot copy from itself")
        } else if named(self.stages, &name).is_some() {
            format!("the stage `{text}` comes after this one; it must be defined before")
        } else {
            let reference = self.reference(text, span)?;
            return Some(Origin::Image(ImageRef { reference, platform }));
        };
        self.diagnostics.push(Diagnostic::error(span, problem));
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
}

/// The word behind the last `from=`, which is never expanded; an empty one is none.
fn from_option(mount: &Mount) -> Option<&Word> {
    let last = mount.options.iter().rfind(|option| option.key.text == "from")?;
    last.value.as_ref().filter(|word| !word.text.is_empty())
}

/// What is wrong with a trigger of an image, told of the `FROM` that brings it: its own text is not in this file.
pub(crate) fn in_trigger(error: Diagnostic, trigger: &str, from: Span) -> Diagnostic {
    let line = trigger.lines().next().unwrap_or_default();
    let message = format!("the base image's `ONBUILD {line}`: {}", error.message);
    Diagnostic { message, span: Some(from), label: None, ..error }
}
