//! `--call check`: what the rules of [`crate::lint`] find, in all stages unless a target is named.
//!
//! The Dockerfile is taken as far as a plan, and nothing is executed. Images are asked for, as their configurations
//! hold variables and shells; one that cannot be had fails the check, as it does in BuildKit, and what was found until
//! then is told beside it.

use std::fmt::Write as _;

use serde::Serialize;

use super::{Location, encoded, printable};
use crate::dockerfile::{Diagnostic, Dockerfile, Severity, Span};
use crate::lint::{self, Config, Rule};
use crate::source::ImageSource;
use crate::stage::Scope;
use crate::{Error, Request, dockerfile, lower, stage};

/// What a check finds.
#[derive(Debug)]
pub struct Report {
    /// Breaches of rules, in the order of the file.
    pub warnings: Vec<Warning>,
    /// What is wrong with the settings of the check: no breach, and it fails nothing.
    pub notes: Vec<Diagnostic>,
    /// Why the Dockerfile cannot be built, as far as that shows without executing it; also that it takes breaches
    /// for errors.
    pub failure: Option<Error>,
    dockerfile_name: String,
    dockerfile: String,
}

/// A breach of a rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Warning {
    /// Which.
    pub rule: Rule,
    /// What was found, with its exact place.
    pub diagnostic: Diagnostic,
    /// The lines of the instruction it was found in.
    pub location: Location,
}

/// Checks the Dockerfile.
pub fn check(request: &Request, images: &dyn ImageSource) -> Report {
    let mut report = Report {
        warnings: Vec::new(),
        notes: Vec::new(),
        failure: None,
        dockerfile_name: request.dockerfile_name.clone(),
        dockerfile: request.dockerfile.clone(),
    };
    match dockerfile::parse(&request.dockerfile) {
        Ok(dockerfile) => report.fill(&dockerfile, request, images),
        Err(diagnostics) => {
            let (warnings, errors): (Vec<_>, Vec<_>) =
                diagnostics.into_iter().partition(|found| found.severity == Severity::Warning);
            report.warnings =
                warnings.iter().filter_map(|found| Warning::new(lint::parser_warning(found), None)).collect();
            report.failure = Some(Error::Dockerfile { diagnostics: errors });
        }
    }
    report
}

impl Report {
    fn fill(&mut self, dockerfile: &Dockerfile, request: &Request, images: &dyn ImageSource) {
        let config = match Config::of(dockerfile, &request.build_args) {
            Ok((config, unknown)) => {
                self.notes = unknown;
                config
            }
            Err(error) => return self.failure = Some(Error::Dockerfile { diagnostics: vec![error] }),
        };
        let (found, failure) = findings(dockerfile, request, images);
        let found = lint::settle(found, dockerfile, &config);
        self.failure = failure.or_else(|| {
            let is_error = config.error && !found.is_empty();
            is_error.then(|| Error::Dockerfile { diagnostics: vec![lint::violation(&found)] })
        });
        self.warnings = found.into_iter().filter_map(|found| Warning::new(found, Some(dockerfile))).collect();
    }

    /// Each breach with the lines round it, then what fails the build.
    pub fn text(&self) -> String {
        let mut text = String::new();
        for warning in &self.warnings {
            let (rule, message) = (warning.rule, printable(&warning.diagnostic.message));
            let _ = writeln!(text, "\nWARNING: {} - {}\n{message}", rule.name(), rule.url());
            self.excerpt(&mut text, &warning.location);
        }
        for (message, location) in self.failure.iter().flat_map(messages) {
            let _ = writeln!(text, "\nERROR: {}", printable(&message));
            self.excerpt(&mut text, &location);
        }
        text
    }

    /// How it went, in one sentence.
    pub fn summary(&self) -> String {
        let found = match (self.warnings.len(), &self.failure) {
            (0, None) => "no warnings found.".to_owned(),
            (0, Some(_)) => "an error has been found!".to_owned(),
            (1, None) => "1 warning has been found!".to_owned(),
            (1, Some(_)) => "1 warning and an error have been found!".to_owned(),
            (count, None) => format!("{count} warnings have been found!"),
            (count, Some(_)) => format!("{count} warnings and an error have been found!"),
        };
        format!("Check complete, {found}")
    }

    /// The marked lines and two of their neighbours on each side, or up to four where there is one line only.
    fn excerpt(&self, text: &mut String, location: &Location) {
        const RULE: &str = "--------------------";
        let Some((first, last)) = location.ends() else { return };
        let lines: Vec<&str> = self.dockerfile.split('\n').collect();
        let (first, last) = (first as usize, (last as usize).min(lines.len()));
        if first == 0 || first > lines.len() {
            return;
        }
        let room = if first == last { 2 } else { 1 };
        let (from, to) = (first.saturating_sub(room).max(1), (last + room).min(lines.len()));
        let _ = writeln!(text, "{}:{first}\n{RULE}", self.dockerfile_name);
        for number in from..=to {
            let mark = if (first..=last).contains(&number) { ">>>" } else { "   " };
            let line =
                format!(" {number:>3} | {mark} {}", printable(lines[number - 1].trim_end_matches('\r')));
            let _ = writeln!(text, "{}", line.trim_end());
        }
        let _ = writeln!(text, "{RULE}");
    }
}

/// Everything that is found, and what ends the search.
fn findings(
    dockerfile: &Dockerfile,
    request: &Request,
    images: &dyn ImageSource,
) -> (Vec<Diagnostic>, Option<Error>) {
    let scope = if request.target.is_some() { Scope::Target } else { Scope::File };
    match stage::resolve(dockerfile, request, images, scope) {
        Ok((stages, bases)) => {
            let mut found = lint::beside_lowering(dockerfile, Some((&stages, &bases)), request);
            let failure = lower::lower(&stages, &bases, request, &mut found).err();
            (found, failure)
        }
        Err(error) => (lint::beside_lowering(dockerfile, None, request), Some(error)),
    }
}

impl Warning {
    fn new(diagnostic: Diagnostic, dockerfile: Option<&Dockerfile>) -> Option<Warning> {
        let rule = diagnostic.rule.and_then(Rule::named)?;
        let span = diagnostic.span.unwrap_or_default();
        let instruction = dockerfile.and_then(|dockerfile| lint::instruction_at(dockerfile, span));
        let location = match instruction {
            // BuildKit names the line where the instruction ends.
            Some(instruction) if rule == Rule::NoEmptyContinuation => {
                Location::lines(instruction.span.end.line, instruction.span.end.line)
            }
            Some(instruction) => Location::of(instruction.span),
            None => Location::of(span),
        };
        Some(Warning { rule, diagnostic, location })
    }
}

/// What fails a build, with its causes and its place; each mistake in a Dockerfile for itself.
fn messages(failure: &Error) -> Vec<(String, Location)> {
    let location = |span: Option<Span>| span.map(Location::of).unwrap_or_default();
    if let Error::Dockerfile { diagnostics } = failure {
        let errors = diagnostics.iter().filter(|found| found.severity == Severity::Error);
        return errors.map(|error| (error.message.clone(), location(error.span))).collect();
    }
    let mut message = failure.to_string();
    let mut cause = std::error::Error::source(failure);
    while let Some(error) = cause {
        let _ = write!(message, ": {error}");
        cause = error.source();
    }
    let span = if let Error::Image { span, .. } = failure { *span } else { None };
    vec![(message, location(span))]
}

/// The shape of BuildKit's `LintResults`; there is no `definition` of the source, as nothing is a graph of operations
/// here.
#[derive(Serialize)]
struct Results<'a> {
    warnings: Vec<RuleBroken<'a>>,
    sources: [Source<'a>; 1],
    #[serde(rename = "buildError", skip_serializing_if = "Option::is_none")]
    build_error: Option<BuildError>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct RuleBroken<'a> {
    rule_name: &'static str,
    description: &'static str,
    url: String,
    detail: &'a str,
    location: &'a Location,
}

impl<'a> RuleBroken<'a> {
    fn of(warning: &'a Warning) -> Self {
        Self {
            rule_name: warning.rule.name(),
            description: warning.rule.description(),
            url: warning.rule.url(),
            detail: &warning.diagnostic.message,
            location: &warning.location,
        }
    }
}

#[derive(Serialize)]
struct Source<'a> {
    filename: &'a str,
    language: &'static str,
    data: String,
}

#[derive(Serialize)]
struct BuildError {
    message: String,
    location: Location,
}

impl Serialize for Report {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let first = self.failure.as_ref().and_then(|failure| messages(failure).into_iter().next());
        Results {
            warnings: self.warnings.iter().map(RuleBroken::of).collect(),
            sources: [Source {
                filename: &self.dockerfile_name,
                language: "Dockerfile",
                data: encoded(&self.dockerfile),
            }],
            build_error: first.map(|(message, location)| BuildError { message, location }),
        }
        .serialize(serializer)
    }
}
