//! Build arguments outside of instructions: the global scope, the automatic ones, and those that `--from` sees.
//!
//! Not here: what `ARG` and `ENV` do to a stage while it is lowered.

use oci::Platform;

use crate::Request;
use crate::dockerfile::diagnostic::Diagnostic;
use crate::dockerfile::expand::expand_word;
use crate::dockerfile::instruction::{Argument, Instruction, InstructionKind, Word};
use crate::request::Files;

/// The argument that limits times; <https://reproducible-builds.org/specs/source-date-epoch/>.
const EPOCH: &str = "SOURCE_DATE_EPOCH";

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

    /// `word` with these variables in it; none, and a diagnostic, if it is malformed.
    pub(super) fn expand(
        &self,
        word: &Word,
        escape: char,
        diagnostics: &mut Vec<Diagnostic>,
    ) -> Option<String> {
        let lookup = |name: &str| self.get(name).map(str::to_owned);
        match expand_word(&word.text, escape, &lookup) {
            Ok(expanded) => Some(expanded.value),
            Err(error) => {
                diagnostics.push(error.in_word(word));
                None
            }
        }
    }
}

fn declared(instructions: &[Instruction]) -> impl Iterator<Item = &Argument> {
    instructions.iter().flat_map(|instruction| match &instruction.kind {
        InstructionKind::Arg(arguments) => arguments.as_slice(),
        _ => &[],
    })
}

/// The automatic platform arguments, then the `ARG`s before the first `FROM`; `--build-arg` wins over both.
pub(super) fn globals(
    arguments: &[Instruction],
    target: Option<&str>,
    request: &Request,
    escape: char,
    diagnostics: &mut Vec<Diagnostic>,
) -> Variables {
    let mut globals = automatic(request, target);
    for argument in declared(arguments) {
        let Some(name) = globals.expand(&argument.name, escape, diagnostics) else { continue };
        let default = argument.default.as_ref();
        if let Some(value) = request.build_args.get(&name) {
            globals.set(&name, value);
        } else if let Some(value) = default.and_then(|word| globals.expand(word, escape, diagnostics)) {
            globals.set(&name, &value);
        }
    }
    globals
}

/// What one `ARG` of a stage adds to the arguments that `--from` sees.
pub(super) fn declare(
    scope: &mut Variables,
    argument: &Argument,
    globals: &Variables,
    request: &Request,
    escape: char,
) {
    // Mistakes in an `ARG` are told when it is lowered.
    let ignored = &mut Vec::new();
    let Some(name) = scope.expand(&argument.name, escape, ignored) else { return };
    let value = match (request.build_args.get(&name), &argument.default) {
        (Some(given), _) => Some(given.clone()),
        (None, Some(default)) => scope.expand(default, escape, ignored),
        (None, None) => globals.get(&name).map(str::to_owned),
    };
    if let Some(value) = value {
        scope.set(&name, &value);
    }
}

/// `SOURCE_DATE_EPOCH`: as the request has it, else as a global `ARG` does; `context` is the time of a context that
/// was fetched, and an empty one is none.
pub(super) fn epoch(
    arguments: &[Instruction],
    globals: &Variables,
    request: &Request,
    diagnostics: &mut Vec<Diagnostic>,
) -> Option<i64> {
    if request.epoch.is_some() {
        return request.epoch;
    }
    let declaration = declared(arguments).filter(|argument| argument.name.text == EPOCH).last();
    let text = request.build_args.get(EPOCH).map(String::as_str);
    let text = text.or_else(|| declaration.and_then(|_| globals.get(EPOCH)))?;
    match (text, &request.context) {
        ("", _) | ("context", Files::Directory(_)) => None,
        ("context", Files::Tree(tree)) => tree.modified,
        _ => text.parse().map(Some).unwrap_or_else(|_| {
            let message = format!("expected `{EPOCH}` in seconds since 1970 or `context`, found `{text}`");
            diagnostics.push(match declaration {
                Some(argument) => Diagnostic::error(argument.name.span, message),
                None => Diagnostic::error_without_place(message),
            });
            None
        }),
    }
}

/// `BUILDPLATFORM`, `TARGETARCH` and so on; `--build-arg` wins. `stage` is the name of the target. (Dockerfile
/// reference, "Automatic platform ARGs in the global scope".)
pub(crate) fn automatic(request: &Request, stage: Option<&str>) -> Variables {
    let (host, target) = (Platform::host(), &request.platform);
    let variant = |platform: &Platform| platform.variant.clone().unwrap_or_default();
    let values = [
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
    ];
    let mut automatic = Variables::default();
    for (name, value) in &values {
        automatic.set(name, request.build_args.get(*name).unwrap_or(value));
    }
    automatic
}
