//! Checks of a Dockerfile's style and sense: what could be built, and should be written otherwise.
//!
//! [`Rule`]s are what can be broken, [`Config`] says which count. A breach is a [`Diagnostic`] with the rule's name; its
//! message is BuildKit's, word for word. Breaches are found in three places, by what has to be known:
//! the text alone ([`file`]), the build arguments ([`from`]), or what only lowering knows, which calls [`meaning`]
//! where it learns it. [`settle`] makes one list of them.
//!
//! What is not here: how breaches are shown (`call::check` and the command), and when they fail a build.

pub mod config;
mod file;
mod from;
pub(crate) mod meaning;
pub mod rule;

pub use config::Config;
pub(crate) use file::check as file;
pub(crate) use from::check as from;
pub use rule::Rule;

use crate::dockerfile::{Diagnostic, Dockerfile, Instruction, Span};

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
