//! `RUN` with its mounts.

use std::ops::Range;

use super::Flags;
use crate::dockerfile::diagnostic::Diagnostic;
use crate::dockerfile::expand::expand_word;
use crate::dockerfile::heredoc;
use crate::dockerfile::instruction::{
    Device, InstructionKind, Mount, NetworkMode, RunCommand, RunInstruction, Script, SecurityMode, Word,
};
use crate::dockerfile::mount::MountOption;
use crate::dockerfile::statement::{Flag, Statement};

const NETWORKS: [(&str, NetworkMode); 3] =
    [("default", NetworkMode::Default), ("none", NetworkMode::None), ("host", NetworkMode::Host)];
const SECURITIES: [(&str, SecurityMode); 2] =
    [("sandbox", SecurityMode::Sandbox), ("insecure", SecurityMode::Insecure)];

pub(super) fn run(statement: &mut Statement, found: &mut Vec<Diagnostic>) -> Option<InstructionKind> {
    let mut flags = Flags::new(statement, found);
    let network = flags.choice("network", &NETWORKS);
    let security = flags.choice("security", &SECURITIES);
    let mount_flags = flags.list("mount");
    let device_flags = flags.list("device");
    flags.finish();
    let mut mounts = Vec::new();
    for (flag, _) in mount_flags {
        match mount(flag) {
            Ok(mount) => mounts.push(mount),
            Err(error) => found.push(error),
        }
    }
    let mut devices = Vec::new();
    for (flag, _) in device_flags {
        match device(flag) {
            Ok(device) => devices.push(device),
            Err(error) => found.push(error),
        }
    }
    let command = command(statement, found)?;
    Some(InstructionKind::Run(RunInstruction { command, mounts, network, security, devices }))
}

fn command(statement: &mut Statement, found: &mut Vec<Diagnostic>) -> Option<RunCommand> {
    if statement.args.is_empty() {
        return super::fail(found, statement.word.span, "`RUN` needs a command");
    }
    let mut args = std::mem::take(&mut statement.args).into_iter().map(|word| word.text);
    if statement.json {
        return Some(RunCommand::Exec(args.collect()));
    }
    let line = args.next()?;
    if let [only] = statement.heredocs.as_slice()
        && heredoc::in_word(&line).is_some()
    {
        let body = only.body();
        let shebang = only.content.starts_with("#!");
        return Some(RunCommand::Script(Script { name: only.name.clone(), line, body, shebang }));
    }
    // The shell is to find the heredocs in its own text.
    let mut text = line;
    for heredoc in &statement.heredocs {
        text.extend(["\n", &heredoc.content, &heredoc.name]);
    }
    Some(RunCommand::Shell(text))
}

fn mount(flag: &Flag) -> Result<Mount, Diagnostic> {
    let mut options = Vec::new();
    for field in fields(&flag.word)? {
        let text = &flag.word.text[field.clone()];
        let equals = text.find('=').map(|at| field.start + at);
        let mut key = flag.word.part(field.start..equals.unwrap_or(field.end));
        key.text = key.text.to_lowercase();
        let value = equals.map(|at| flag.word.part(at + 1..field.end));
        if let Some(value) = value.as_ref().filter(|value| key.text == "from" && value.text.contains('$')) {
            return Err(Diagnostic::error(value.span, "variables are not expanded in `from=` of a mount")
                .hint("name the image in a stage of its own, `FROM $IMAGE AS name`, and write `from=name`"));
        }
        options.push(MountOption { key, value });
    }
    let mount = Mount { span: flag.word.span, options };
    // Without variables all is known already, and its mistakes belong to this parse.
    if !flag.word.text.contains('$') {
        mount.resolve(&mut |word: &Word| {
            let expanded = expand_word(&word.text, '\\', &|_| None);
            expanded.map(|text| text.value).map_err(|error| error.in_word(word))
        })?;
    }
    Ok(mount)
}

/// The fields of a flag's value, between commas. A field in double quotes may hold commas.
fn fields(flag: &Word) -> Result<Vec<Range<usize>>, Diagnostic> {
    let start = flag.text.find('=').map_or(flag.text.len(), |at| at + 1);
    let bad = |range: Range<usize>, message: &str| Err(Diagnostic::error(flag.place(range), message));
    if start == flag.text.len() {
        return bad(0..start, "the flag needs a value");
    }
    let mut fields = Vec::new();
    let mut at = start;
    loop {
        let rest = &flag.text[at..];
        let (field, end) = match rest.strip_prefix('"') {
            Some(quoted) => {
                let Some(length) = quoted.find('"') else {
                    return bad(at..flag.text.len(), "this quote is never closed");
                };
                (at + 1..at + 1 + length, at + length + 2)
            }
            None => {
                let length = rest.find(',').unwrap_or(rest.len());
                (at..at + length, at + length)
            }
        };
        fields.push(field);
        match flag.text[end..].chars().next() {
            None => return Ok(fields),
            Some(',') => at = end + 1,
            Some(_) => return bad(end..flag.text.len(), "expected a comma after the quoted field"),
        }
    }
}

fn device(flag: &Flag) -> Result<Device, Diagnostic> {
    let mut name = None;
    let mut required = false;
    for field in fields(&flag.word)? {
        let word = flag.word.part(field);
        match word.text.split_once('=') {
            None if word.text == "required" => required = true,
            Some(("required", "true" | "1")) => required = true,
            Some(("required", "false" | "0")) => required = false,
            Some(("name", _)) => name = Some(word.part("name=".len()..word.text.len())),
            // A device's name holds a `=` itself: `vendor.com/class=name`.
            Some((key, _)) if !key.contains('/') => {
                let message = format!("unknown option `{key}` of `--device`");
                return Err(Diagnostic::error(word.span, message).did_you_mean(key, ["name", "required"]));
            }
            _ if name.is_none() => name = Some(word),
            _ => return Err(Diagnostic::error(word.span, "`--device` takes one device")),
        }
    }
    name.map(|name| Device { name, required })
        .ok_or_else(|| Diagnostic::error(flag.word.span, "`--device` needs a device"))
}
