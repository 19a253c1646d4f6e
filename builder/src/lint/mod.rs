//! Checks of a Dockerfile's style and sense: what could be built, and should be written otherwise.
//!
//! [`Rule`]s are what can be broken, [`Config`] says which count. A breach is a [`Diagnostic`] with the rule's name; its
//! message is BuildKit's, word for word. Breaches are found in three places, by what has to be known: the text alone
//! (`file`), the build arguments (`from`), or what only resolving and lowering learn (`meaning`). `settle` makes one
//! list of them, `judge` tells it during a build.
//!
//! What is not here: how breaches are shown (`call::check` and the command), and when they fail a build.

pub mod config;
mod file;
mod from;
pub(crate) mod meaning;
pub mod rule;

pub use config::Config;
pub(crate) use file::parser_warning;
pub use rule::Rule;

use crate::dockerfile::{Diagnostic, Dockerfile, Instruction, Span};
use crate::source::Bases;
use crate::stage::Stages;
use crate::{Error, Event, Events, Request};

/// Tells all breaches, those that were found by lowering among them.
///
/// # Errors
/// Settings that cannot be read; that there are breaches where the settings take them for errors.
pub(crate) fn judge(
    mut found: Vec<Diagnostic>,
    dockerfile: &Dockerfile,
    resolved: (&Stages<'_>, &Bases),
    request: &Request,
    events: Events<'_>,
) -> Result<(), Error> {
    let refuse = |diagnostics| Error::Dockerfile { diagnostics };
    let (config, unknown) =
        Config::of(dockerfile, &request.build_args).map_err(|error| refuse(vec![error]))?;
    found.extend(beside_lowering(dockerfile, Some(resolved), request));
    let mut breaches = settle(found, dockerfile, &config);
    if config.error && !breaches.is_empty() {
        breaches.insert(0, violation(&breaches));
        return Err(refuse(breaches));
    }
    for warning in unknown.into_iter().chain(breaches) {
        events(Event::Warning { warning });
    }
    Ok(())
}

/// What is found without lowering. Where nothing could be resolved all stages count.
pub(crate) fn beside_lowering(
    dockerfile: &Dockerfile,
    resolved: Option<(&Stages<'_>, &Bases)>,
    request: &Request,
) -> Vec<Diagnostic> {
    let is_needed = |index| {
        resolved.is_none_or(|(stages, _)| stages.needed.iter().any(|needed| needed.stage.index == index))
    };
    let mut found = file::check(dockerfile, &is_needed);
    found.extend(from::check(dockerfile, request));
    found.extend(resolved.map(|(stages, bases)| meaning::base_images(stages, bases)).unwrap_or_default());
    found
}

/// What of `found` counts, in the order of the file, each once.
pub(crate) fn settle(
    mut found: Vec<Diagnostic>,
    dockerfile: &Dockerfile,
    config: &Config,
) -> Vec<Diagnostic> {
    found.retain(|breach| {
        let rule = breach.rule.and_then(Rule::named);
        rule.is_none_or(|rule| {
            config.counts(rule, breach.span.and_then(|span| instruction_at(dockerfile, span)))
        })
    });
    let key = |breach: &Diagnostic| (breach.span.map_or(0, |span| span.start.offset), breach.rule);
    found.sort_by(|a, b| key(a).cmp(&key(b)).then_with(|| a.message.cmp(&b.message)));
    found.dedup();
    found
}

/// What a build that takes breaches for errors (`error=true`) says beside them.
pub(crate) fn violation(breaches: &[Diagnostic]) -> Diagnostic {
    let mut rules: Vec<&str> = breaches.iter().filter_map(|breach| breach.rule).collect();
    rules.sort_unstable();
    rules.dedup();
    Diagnostic::error_without_place(format!("lint violation found for rules: {}", rules.join(", ")))
}

/// The instruction that a span lies in.
pub(crate) fn instruction_at(dockerfile: &Dockerfile, span: Span) -> Option<&Instruction> {
    let starts_before = |instruction: &Instruction| instruction.span.start.offset <= span.start.offset;
    let after = dockerfile.instructions.partition_point(starts_before);
    after.checked_sub(1).map(|at| &dockerfile.instructions[at])
}

/// The name that may have been meant: fewer than three letters to change, case included; of several that are as near,
/// the first in the alphabet. (BuildKit, util/suggest.)
fn near<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    const FARTHEST: usize = 2;
    let name: Vec<char> = name.chars().collect();
    let known = known.into_iter().filter(|known| known.chars().count().abs_diff(name.len()) <= FARTHEST);
    known
        .map(|known| (distance(&name, known), known))
        .filter(|&(distance, _)| (1..=FARTHEST).contains(&distance))
        .min()
        .map(|(_, known)| known)
}

/// Levenshtein's distance.
fn distance(a: &[char], b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.iter().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], i + 1);
        for (j, y) in b.iter().enumerate() {
            let replaced = diagonal + usize::from(x != y);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn near_names_are_suggested() {
        for (name, known, expected) in [
            ("PAHT", &["PATH", "HOME"][..], Some("PATH")),
            ("DIR_ASSET", &["DIR_ASSETS", "DIR_CONFIG"], Some("DIR_ASSETS")),
            ("foo", &["fob", "fop"], Some("fob")),
            ("path", &["PATH"], None),
            ("MYARCH", &["MY_ARCH", "MY_OS"], Some("MY_ARCH")),
            ("", &["a"], Some("a")),
            ("x", &[], None),
        ] {
            assert_eq!(near(name, known.iter().copied()), expected, "{name}");
        }
    }
}
