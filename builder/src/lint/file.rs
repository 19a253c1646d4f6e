//! Rules that the text alone can break: names, casing, comments, doubled and outdated instructions.
//!
//! Rules about names and casing look at the whole file; those about what a stage holds look at the stages that are
//! asked for, as a build converts no others.

use super::Rule;
use crate::dockerfile::instruction::{FromInstruction, Pair, Stage};
use crate::dockerfile::{Diagnostic, Dockerfile, Instruction, InstructionKind, Span};

/// Breaches in the whole file, and in the stages whose number `wanted` accepts.
pub(super) fn check(dockerfile: &Dockerfile, wanted: &dyn Fn(usize) -> bool) -> Vec<Diagnostic> {
    let mut found: Vec<Diagnostic> = dockerfile.warnings.iter().map(parser_warning).collect();
    let stages = dockerfile.stages().stages;
    stage_names(&stages, &mut found);
    instruction_casing(&stages, &mut found);
    for instruction in &dockerfile.instructions {
        spelling(instruction, &mut found);
    }
    for stage in stages.iter().filter(|stage| wanted(stage.index)) {
        doubled(stage, &mut found);
        stage.instructions.iter().for_each(|instruction| variables(instruction, &mut found));
    }
    found
}

/// The parser's own warning, in the rule's words.
pub(crate) fn parser_warning(warning: &Diagnostic) -> Diagnostic {
    let mut warning = warning.clone();
    if warning.rule == Some(Rule::NoEmptyContinuation.name()) {
        "Empty continuation line".clone_into(&mut warning.message);
    }
    warning
}

fn stage_names(stages: &[Stage<'_>], found: &mut Vec<Diagnostic>) {
    for (at, stage) in stages.iter().enumerate() {
        let Some(name) = &stage.from.name else { continue };
        let span = name.written.span;
        if matches!(name.name.as_str(), "scratch" | "context") {
            let message =
                format!("Stage name should not use the same name as reserved stage {:?}", name.name);
            found.push(Rule::ReservedStageName.broken(span, message));
        }
        if stages[..at].iter().any(|earlier| earlier.name == stage.name) {
            let message = format!("Duplicate stage name {:?}, stage names should be unique", name.name);
            found.push(Rule::DuplicateStageName.broken(span, message));
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Casing {
    Lower,
    Upper,
    Mixed,
}

fn casing(word: &str) -> Casing {
    if word == word.to_lowercase() {
        Casing::Lower
    } else if word == word.to_uppercase() {
        Casing::Upper
    } else {
        Casing::Mixed
    }
}

/// Instructions from the first `FROM` on: the majority of those in one case decides, upper case where there is none.
fn instruction_casing(stages: &[Stage<'_>], found: &mut Vec<Diagnostic>) {
    let keywords = || {
        stages
            .iter()
            .flat_map(|stage| std::iter::once(stage.head).chain(stage.instructions))
            .map(|i| &i.keyword)
    };
    let count = |wanted| keywords().filter(|word| casing(&word.text) == wanted).count();
    let (wanted, name) = match count(Casing::Lower) > count(Casing::Upper) {
        true => (Casing::Lower, "lowercase"),
        false => (Casing::Upper, "uppercase"),
    };
    for word in keywords().filter(|word| casing(&word.text) != wanted) {
        let message =
            format!("Command '{}' should match the case of the command majority ({name})", word.text);
        found.push(Rule::ConsistentInstructionCasing.broken(word.span, message));
    }
}

/// What a single instruction shows without its stage.
fn spelling(instruction: &Instruction, found: &mut Vec<Diagnostic>) {
    match &instruction.kind {
        InstructionKind::Maintainer(_) => {
            let message = "Maintainer instruction is deprecated in favor of using label";
            found.push(Rule::MaintainerDeprecated.broken(instruction.span, message));
        }
        InstructionKind::From(from) => {
            from_casing(instruction, from, found);
            let names: Vec<&str> = from.name.iter().map(|name| name.name.as_str()).collect();
            description("FROM", &names, instruction, found);
        }
        InstructionKind::Arg(arguments) => {
            let names: Vec<&str> = arguments.iter().map(|argument| argument.name.text.as_str()).collect();
            description("ARG", &names, instruction, found);
        }
        _ => {}
    }
}

fn from_casing(instruction: &Instruction, from: &FromInstruction, found: &mut Vec<Diagnostic>) {
    let Some(name) = &from.name else { return };
    if name.written.text != name.written.text.to_lowercase() {
        let message = format!("Stage name '{}' should be lowercase", name.written.text);
        found.push(Rule::StageNameCasing.broken(name.written.span, message));
    }
    // A `From` is another rule's business.
    let (keyword, case) = (&instruction.keyword.text, casing(&instruction.keyword.text));
    if case != Casing::Mixed && casing(&name.keyword.text) != case {
        let message = format!("'{}' and '{keyword}' keywords' casing do not match", name.keyword.text);
        found.push(Rule::FromAsCasing.broken(name.keyword.span, message));
    }
}

/// A comment directly above is taken for a description, which begins with the name.
fn description(what: &str, names: &[&str], instruction: &Instruction, found: &mut Vec<Diagnostic>) {
    let (Some(comment), Some(first)) = (instruction.comments.last(), names.first()) else { return };
    let word = comment.split(' ').next().unwrap_or_default();
    if !names.contains(&word) {
        let name = if names.len() > 1 { "<arg_key>" } else { first };
        let message = format!("Comment for {what} should follow the format: `# {name} <description>`");
        found.push(Rule::InvalidDefinitionDescription.broken(instruction.keyword.span, message));
    }
}

/// Of these only the last one in a stage counts, so the earlier ones are told.
fn doubled(stage: &Stage<'_>, found: &mut Vec<Diagnostic>) {
    let mut earlier: [Option<Span>; 3] = [None; 3];
    for instruction in stage.instructions {
        let last = match instruction.kind {
            InstructionKind::Cmd(_) => &mut earlier[0],
            InstructionKind::Entrypoint(_) => &mut earlier[1],
            InstructionKind::Healthcheck(_) => &mut earlier[2],
            _ => continue,
        };
        if let Some(span) = last.replace(instruction.span) {
            let message = format!(
                "Multiple {} instructions should not be used in the same stage because only the last one will be used",
                instruction.keyword.text
            );
            found.push(Rule::MultipleInstructionsDisallowed.broken(span, message));
        }
    }
}

/// How variables and labels are set.
fn variables(instruction: &Instruction, found: &mut Vec<Diagnostic>) {
    let keyword = &instruction.keyword.text;
    let legacy = |pair: &Pair| {
        let message = format!(
            "\"{keyword} key=value\" should be used instead of legacy \"{keyword} key value\" format"
        );
        pair.legacy.then(|| Rule::LegacyKeyValueFormat.broken(pair.key.span.to(pair.value.span), message))
    };
    match &instruction.kind {
        InstructionKind::Label(pairs) => found.extend(pairs.iter().filter_map(legacy)),
        InstructionKind::Env(pairs) => {
            found.extend(pairs.iter().filter_map(legacy));
            found.extend(pairs.iter().filter_map(|pair| secret("ENV", &pair.key.text, pair.key.span)));
        }
        InstructionKind::Arg(arguments) => {
            found.extend(arguments.iter().filter_map(|arg| secret("ARG", &arg.name.text, arg.name.span)));
        }
        _ => {}
    }
}

/// A name one of whose words, between underscores, is one that secrets have, and none is one that others have.
fn secret(instruction: &str, key: &str, span: Span) -> Option<Diagnostic> {
    const TELLING: [&str; 10] = [
        "apikey",
        "auth",
        "credential",
        "credentials",
        "key",
        "password",
        "pword",
        "passwd",
        "secret",
        "token",
    ];
    const HARMLESS: [&str; 3] = ["public", "file", "version"];
    let key = key.trim_matches(['"', '\'']);
    let has =
        |words: &[&str]| key.split('_').any(|part| words.iter().any(|word| part.eq_ignore_ascii_case(word)));
    let message = || format!("Do not use ARG or ENV instructions for sensitive data ({instruction} {key:?})");
    (has(&TELLING) && !has(&HARMLESS)).then(|| Rule::SecretsUsedInArgOrEnv.broken(span, message()))
}
