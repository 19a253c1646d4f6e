//! `--call outline`: what the build of a target can be given: arguments, secrets, agents, caches.
//!
//! Asked are the stages that the target needs, as the text alone tells them: no image is resolved, so what a base
//! image defines or triggers is unknown here. Arguments are those that a stage declares, and those of the global scope
//! that these, a `FROM` or each other use.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use super::{Location, description, encoded, table};
use crate::dockerfile::expand::expand_word;
use crate::dockerfile::instruction::{Argument, MountSpec, Pair, RunInstruction, Word};
use crate::dockerfile::{Diagnostic, Dockerfile, Instruction, InstructionKind, Span};
use crate::plan::Base;
use crate::stage::{self, Needed, Stages, Variables};
use crate::{Error, Request, dockerfile};

/// What a target can be given.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct Outline {
    /// The target's name, if it has one.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// What the comment above it says.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub description: String,
    /// Build arguments.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub args: Vec<Arg>,
    /// Secrets.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub secrets: Vec<Need>,
    /// Agents.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub ssh: Vec<Need>,
    /// Cache mounts.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub cache: Vec<Cache>,
    /// The Dockerfile, encoded.
    pub sources: Vec<String>,
}

/// A build argument.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Arg {
    /// Its name.
    pub name: String,
    /// What the comment above says.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub description: String,
    /// What it holds in this build.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub value: String,
    /// Its `ARG`.
    pub location: Location,
}

/// A secret or an agent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Need {
    /// Its id.
    pub name: String,
    /// Whether the build fails without it.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub required: bool,
    /// The first `RUN` that uses it.
    pub location: Location,
}

/// A cache mount.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Cache {
    /// Its id.
    #[serde(rename = "ID")]
    pub id: String,
    /// The first `RUN` that uses it.
    pub location: Location,
}

/// Tells what the request's target can be given.
///
/// # Errors
/// All mistakes of the Dockerfile at once; an unknown target.
pub fn outline(request: &Request) -> Result<Outline, Error> {
    let dockerfile =
        dockerfile::parse(&request.dockerfile).map_err(|diagnostics| Error::Dockerfile { diagnostics })?;
    let stages = stage::select_by_text(&dockerfile, request)?;
    let mut drawing = Drawing::new(&dockerfile, &stages, request);
    let mut ends: Vec<Variables> = Vec::new();
    for needed in &stages.needed {
        let start = match needed.base {
            Base::Stage(id) => ends[id].clone(),
            Base::Scratch | Base::Image(_) => Variables::default(),
        };
        ends.push(drawing.stage(needed, start));
    }
    let target = &stages.needed[stages.target].stage;
    if !drawing.diagnostics.is_empty() {
        return Err(Error::Dockerfile { diagnostics: drawing.diagnostics });
    }
    Ok(Outline {
        name: target.name.unwrap_or_default().to_owned(),
        description: target.name.map(|name| description(target.head, name)).unwrap_or_default(),
        sources: vec![encoded(&request.dockerfile)],
        ..drawing.finish()
    })
}

struct Drawing<'a> {
    globals: &'a Variables,
    /// The global scope's declarations: for each name the last.
    declarations: BTreeMap<&'a str, (&'a Argument, &'a Instruction)>,
    request: &'a Request,
    escape: char,
    outline: Outline,
    diagnostics: Vec<Diagnostic>,
}

impl<'a> Drawing<'a> {
    fn new(dockerfile: &'a Dockerfile, stages: &'a Stages<'a>, request: &'a Request) -> Drawing<'a> {
        let mut declarations = BTreeMap::new();
        for instruction in dockerfile.stages().global_arguments {
            let InstructionKind::Arg(arguments) = &instruction.kind else { continue };
            for argument in arguments {
                declarations.insert(argument.name.text.as_str(), (argument, instruction));
            }
        }
        Drawing {
            globals: &stages.globals,
            declarations,
            request,
            escape: stages.escape,
            outline: Outline::default(),
            diagnostics: Vec::new(),
        }
    }

    /// Notes what a stage can be given; its variables at the end.
    fn stage(&mut self, needed: &Needed<'_>, mut variables: Variables) -> Variables {
        let from = needed.stage.from;
        for word in std::iter::once(&from.base).chain(&from.platform) {
            self.used_globals(word);
        }
        for instruction in &needed.instructions {
            match &instruction.kind {
                InstructionKind::Arg(arguments) => {
                    for argument in arguments {
                        self.argument(argument, instruction, &mut variables);
                    }
                }
                InstructionKind::Env(pairs) => self.env(pairs, &mut variables),
                InstructionKind::Run(run) => self.mounts(run, instruction.span, &variables),
                _ => {}
            }
        }
        variables
    }

    fn argument(&mut self, argument: &Argument, instruction: &Instruction, variables: &mut Variables) {
        let name = self.expand(&argument.name, variables);
        let value = match (self.request.build_args.get(&name), &argument.default) {
            (Some(given), _) => Some(given.clone()),
            (None, Some(default)) => Some(self.expand(default, variables)),
            (None, None) => match self.globals.get(&name) {
                // The global declaration is the one that says what it is.
                Some(value) => {
                    variables.set(&name, value);
                    return self.global(&name);
                }
                None => None,
            },
        };
        if let Some(value) = &value {
            variables.set(&name, value);
        }
        self.note(name, value.unwrap_or_default(), instruction);
    }

    fn env(&mut self, pairs: &[Pair], variables: &mut Variables) {
        let before = variables.clone();
        for pair in pairs {
            let (name, value) = (self.expand(&pair.key, &before), self.expand(&pair.value, &before));
            variables.set(&name, &value);
        }
    }

    fn mounts(&mut self, run: &RunInstruction, span: Span, variables: &Variables) {
        for mount in &run.mounts {
            let spec = mount.resolve(&mut |word| Ok(self.expand(word, variables)));
            match spec {
                Ok(MountSpec::Secret { id, required, .. }) => {
                    need(&mut self.outline.secrets, id, required, span)
                }
                Ok(MountSpec::Ssh { id, required, .. }) => need(&mut self.outline.ssh, id, required, span),
                Ok(MountSpec::Cache { id, target, .. }) => {
                    let id = id.unwrap_or(target);
                    if self.outline.cache.iter().all(|known| known.id != id) {
                        self.outline.cache.push(Cache { id, location: Location::of(span) });
                    }
                }
                Ok(MountSpec::Bind { .. } | MountSpec::Tmpfs { .. }) => {}
                Err(diagnostic) => self.diagnostics.push(diagnostic),
            }
        }
    }

    /// The global arguments that `word` uses.
    fn used_globals(&mut self, word: &Word) {
        let used = std::cell::RefCell::new(BTreeSet::new());
        let globals = self.globals;
        let lookup = |name: &str| {
            used.borrow_mut().insert(name.to_owned());
            globals.get(name).map(str::to_owned)
        };
        // A mistake in the word has been told while the stages were selected.
        if expand_word(&word.text, self.escape, &lookup).is_ok() {
            used.take().iter().for_each(|name| self.global(name));
        }
    }

    /// A global argument, with those that its default uses.
    fn global(&mut self, name: &str) {
        let Some((argument, instruction)) = self.declarations.get(name).copied() else { return };
        if self.outline.args.iter().any(|known| known.name == name) {
            return;
        }
        self.note(name.to_owned(), self.globals.get(name).unwrap_or_default().to_owned(), instruction);
        if let Some(default) = &argument.default {
            self.used_globals(default);
        }
    }

    fn note(&mut self, name: String, value: String, instruction: &Instruction) {
        if self.outline.args.iter().all(|known| known.name != name) {
            let description = description(instruction, &name);
            let location = Location::of(instruction.span);
            self.outline.args.push(Arg { name, description, value, location });
        }
    }

    fn expand(&mut self, word: &Word, variables: &Variables) -> String {
        let lookup = |name: &str| variables.get(name).map(str::to_owned);
        match expand_word(&word.text, self.escape, &lookup) {
            Ok(expanded) => expanded.value,
            Err(error) => {
                self.diagnostics.push(Diagnostic::error(word.span, error.message));
                String::new()
            }
        }
    }

    /// Everything in the order of the file.
    fn finish(self) -> Outline {
        let mut outline = self.outline;
        outline.args.sort_by_key(|arg| arg.location.ends());
        outline.secrets.sort_by_key(|need| need.location.ends());
        outline.ssh.sort_by_key(|need| need.location.ends());
        outline.cache.sort_by_key(|cache| cache.location.ends());
        outline
    }
}

fn need(needs: &mut Vec<Need>, name: String, required: bool, span: Span) {
    match needs.iter_mut().find(|known| known.name == name) {
        Some(known) => known.required |= required,
        None => needs.push(Need { name, required, location: Location::of(span) }),
    }
}

impl Outline {
    /// Tables of what there is, a blank line after each.
    pub fn text(&self) -> String {
        let mut text = String::new();
        if !self.name.is_empty() || !self.description.is_empty() {
            let name = if self.name.is_empty() { "(default)" } else { &self.name };
            let mut rows = vec![vec!["TARGET:".to_owned(), name.to_owned()]];
            if !self.description.is_empty() {
                rows.push(vec!["DESCRIPTION:".to_owned(), self.description.clone()]);
            }
            text.push_str(&(table(&rows, 1) + "\n"));
        }
        let mut section = |head: &[&str], rows: Vec<Vec<String>>| {
            if !rows.is_empty() {
                let head = head.iter().map(|&cell| cell.to_owned()).collect();
                let rows: Vec<Vec<String>> = std::iter::once(head).chain(rows).collect();
                text.push_str(&(table(&rows, 3) + "\n"));
            }
        };
        let args =
            self.args.iter().map(|arg| vec![arg.name.clone(), arg.value.clone(), arg.description.clone()]);
        section(&["BUILD ARG", "VALUE", "DESCRIPTION"], args.collect());
        let needs = |needs: &[Need]| {
            let row =
                |need: &Need| vec![need.name.clone(), if need.required { "true" } else { "" }.to_owned()];
            needs.iter().map(row).collect()
        };
        section(&["SECRET", "REQUIRED"], needs(&self.secrets));
        section(&["SSH", "REQUIRED"], needs(&self.ssh));
        section(&["CACHE"], self.cache.iter().map(|cache| vec![cache.id.clone()]).collect());
        text
    }
}
