//! Rules about `FROM` and the arguments it uses: which exist, what they give without `--build-arg`, which platform is
//! asked for. All stages are looked at, also those that a build does not need.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};

use oci::{Platform, Reference};

use super::{Rule, near};
use crate::Request;
use crate::dockerfile::expand::{ExpandError, expand_word};
use crate::dockerfile::instruction::{Argument, InstructionKind, Stage, Word};
use crate::dockerfile::{Diagnostic, Dockerfile};
use crate::stage::{Variables, automatic};

/// Breaches in the `FROM`s of all stages.
pub(super) fn check(dockerfile: &Dockerfile, request: &Request) -> Vec<Diagnostic> {
    let view = dockerfile.stages();
    let target = request.target.as_deref().or(view.stages.last().and_then(|stage| stage.name));
    let automatic = automatic(request, target);
    let arguments: Vec<&Argument> = view
        .global_arguments
        .iter()
        .filter_map(|instruction| match &instruction.kind {
            InstructionKind::Arg(arguments) => Some(arguments),
            _ => None,
        })
        .flatten()
        .collect();
    let scope = |given: &BTreeMap<String, String>| {
        Scope::of(&arguments, automatic.clone(), given, dockerfile.directives.escape)
    };
    let mut found = Vec::new();
    if let Ok(scope) = scope(&BTreeMap::new()) {
        scope.defaults(&view.stages, &mut found);
    }
    // Where an argument cannot be expanded, the build says so.
    if let Ok(scope) = scope(&request.build_args) {
        for stage in &view.stages {
            scope.undeclared(&stage.from.base, &mut found);
            if let Some(platform) = &stage.from.platform {
                scope.undeclared(platform, &mut found);
                scope.platform(stage, platform, &mut found);
            }
        }
    }
    found
}

/// What `FROM` lines see.
struct Scope {
    /// Arguments that have a value.
    values: Variables,
    /// Arguments that are declared, with a value or without one.
    declared: BTreeSet<String>,
    escape: char,
}

impl Scope {
    fn of(
        arguments: &[&Argument],
        automatic: Variables,
        given: &BTreeMap<String, String>,
        escape: char,
    ) -> Result<Scope, ExpandError> {
        let declared = automatic.iter().map(|(name, _)| name.to_owned()).collect();
        let mut scope = Scope { values: automatic, declared, escape };
        for argument in arguments {
            let name = scope.expand(&argument.name)?.0;
            let value = match (given.get(&name), &argument.default) {
                (Some(given), _) => Some(given.clone()),
                (None, Some(default)) => Some(scope.expand(default)?.0),
                (None, None) => None,
            };
            if let Some(value) = value {
                scope.values.set(&name, &value);
            }
            scope.declared.insert(name);
        }
        Ok(scope)
    }

    /// The text of `word`, and the variables that it uses and that have no value.
    fn expand(&self, word: &Word) -> Result<(String, Vec<String>), ExpandError> {
        let lookup = |name: &str| self.values.get(name).map(str::to_owned);
        expand_word(&word.text, self.escape, &lookup).map(|expanded| (expanded.value, expanded.unset))
    }

    /// Names that are valid only with a build argument.
    fn defaults(&self, stages: &[Stage<'_>], found: &mut Vec<Diagnostic>) {
        for word in stages.iter().map(|stage| &stage.from.base) {
            let Ok((name, _)) = self.expand(word) else { return };
            if name.parse::<Reference>().is_err() {
                let message = format!(
                    "Default value for ARG {} results in empty or invalid base image name",
                    word.text
                );
                found.push(Rule::InvalidDefaultArgInFrom.broken(word.span, message));
            }
        }
    }

    fn undeclared(&self, word: &Word, found: &mut Vec<Diagnostic>) {
        let Ok((_, unset)) = self.expand(word) else { return };
        for name in unset.iter().filter(|name| !self.declared.contains(*name)) {
            let mut message = format!("FROM argument '{name}' is not declared");
            if let Some(near) = near(name, self.declared.iter().map(String::as_str)) {
                message.push_str(&format!(" (did you mean {near}?)"));
            }
            found.push(Rule::UndefinedArgInFrom.broken(word.span, message));
        }
    }

    /// A platform that is the default one, or that no build can choose.
    fn platform(&self, stage: &Stage<'_>, word: &Word, found: &mut Vec<Diagnostic>) {
        let used = RefCell::new(BTreeSet::new());
        let lookup = |name: &str| {
            used.borrow_mut().insert(name.to_owned());
            self.values.get(name).map(str::to_owned)
        };
        let Ok(expanded) = expand_word(&word.text, self.escape, &lookup) else { return };
        let used = used.take();
        let is_target = self.values.get("TARGETPLATFORM") == Some(expanded.value.as_str());
        if is_target && used.iter().eq(["TARGETPLATFORM"]) {
            let message = format!(
                "Setting platform to predefined {} in FROM is redundant as this is the default behavior",
                word.text
            );
            found.push(Rule::RedundantTargetPlatform.broken(word.span, message));
        }
        // A stage whose name tells its platform is meant to be of that one.
        let Ok(platform) = expanded.value.parse::<Platform>() else { return };
        let name = stage.name.unwrap_or_default();
        if used.is_empty() && !name.contains(&platform.os) && !name.contains(&platform.architecture) {
            let message = format!("FROM --platform flag should not use constant value {:?}", expanded.value);
            found.push(Rule::FromPlatformFlagConstDisallowed.broken(word.span, message));
        }
    }
}
