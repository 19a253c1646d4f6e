//! The untyped view of a Dockerfile that the official Go parser gives (PyPI package `dockerfile`): one entry
//! an instruction, in the order of the file.
//!
//! It stands on the same statements as `parse.rs`, before they are understood: unknown instructions and wrong
//! flags are in it like all others. Only what the official parser refuses is refused here.

use serde_json::{Value, json};

use super::diagnostic::{Diagnostic, Severity};
use super::instruction::Heredoc;
use super::lines::Reader;
use super::parse::read_statement;
use super::source::Source;
use super::statement::{Keyword, Statement};

/// One instruction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    /// The keyword as written.
    pub cmd: String,
    /// The keyword that `ONBUILD` triggers, as written.
    pub sub_cmd: Option<String>,
    /// Whether the arguments are a JSON array.
    pub json: bool,
    /// The text without continuations; bodies of heredocs follow it, except below `ONBUILD`.
    pub original: String,
    /// The first line, from 1.
    pub start_line: usize,
    /// The last line, bodies of heredocs included.
    pub end_line: usize,
    /// The flags, unquoted.
    pub flags: Vec<String>,
    /// The arguments; `ENV` and `LABEL` give names and values in turn.
    pub value: Vec<String>,
    /// The heredocs; none for `ONBUILD`.
    pub heredocs: Vec<Heredoc>,
}

/// The entries of a Dockerfile.
///
/// # Errors
/// What the official parser refuses: a bad directive, a `ENV` without value, a mixed JSON array, an open
/// heredoc, no instructions at all. All errors at once.
pub fn nodes(source: &str) -> Result<Vec<Node>, Vec<Diagnostic>> {
    let source = Source::new(source);
    let mut reader = Reader::new(&source);
    let mut nodes = Vec::new();
    let mut errors = Vec::new();
    while let Some(mut line) = reader.next() {
        match read_statement(&mut reader, &source, &mut line) {
            Ok(statement) => nodes.push(node(statement, line.first_line, line.last_line)),
            Err(error) => errors.push(error),
        }
    }
    errors.extend(reader.diagnostics.into_iter().filter(|found| found.severity == Severity::Error));
    if nodes.is_empty() && errors.is_empty() {
        errors.push(Diagnostic::error_without_place("the Dockerfile has no instructions"));
    }
    if errors.is_empty() { Ok(nodes) } else { Err(errors) }
}

/// The entries as JSON.
///
/// # Errors
/// As [`nodes`].
pub fn to_values(source: &str) -> Result<Value, Vec<Diagnostic>> {
    Ok(nodes(source)?.iter().map(to_value).collect())
}

fn node(statement: Statement, start_line: usize, end_line: usize) -> Node {
    let mut original = statement.text.clone();
    let sub_cmd = statement.sub.as_ref().map(|sub| sub.word.text.clone());
    let is_trigger = sub_cmd.is_some();
    let heredocs = if is_trigger { Vec::new() } else { statement.heredocs };
    for (index, heredoc) in heredocs.iter().enumerate() {
        let line_end = if index == 0 { "\n" } else { "" };
        original.extend([line_end, &heredoc.content, &heredoc.name, "\n"]);
    }
    let (cmd, flags) = (statement.word.text, statement.flags);
    let inner = statement
        .sub
        .map_or((statement.keyword, statement.json, statement.args), |sub| (sub.keyword, sub.json, sub.args));
    let (keyword, json, args) = inner;
    // An unknown instruction's arguments, and those of an `ONBUILD` inside another, are one empty one there.
    let opaque = keyword.is_none() || (is_trigger && keyword == Some(Keyword::OnBuild) && !args.is_empty());
    let value = if opaque { vec![String::new()] } else { args.into_iter().map(|word| word.text).collect() };
    Node {
        cmd,
        sub_cmd,
        json,
        original,
        start_line,
        end_line,
        flags: flags.into_iter().map(|flag| flag.word.text).collect(),
        value,
        heredocs,
    }
}

fn to_value(node: &Node) -> Value {
    let heredoc = |heredoc: &Heredoc| {
        json!({
            "name": heredoc.name,
            "file_descriptor": heredoc.file_descriptor,
            "content": heredoc.content,
        })
    };
    json!({
        "cmd": node.cmd,
        "sub_cmd": node.sub_cmd,
        "json": node.json,
        "flags": node.flags,
        "value": node.value,
        "heredocs": node.heredocs.iter().map(heredoc).collect::<Vec<_>>(),
        "start_line": node.start_line,
        "end_line": node.end_line,
        "original": node.original,
    })
}
