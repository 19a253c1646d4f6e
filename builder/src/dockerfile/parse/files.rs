//! `COPY` and `ADD`.

use std::collections::HashMap;

use super::Flags;
use crate::dockerfile::diagnostic::Diagnostic;
use crate::dockerfile::heredoc;
use crate::dockerfile::instruction::{
    AddInstruction, CopyInstruction, CopySource, Heredoc, InstructionKind, Word,
};
use crate::dockerfile::statement::Statement;

/// The most bytes that the heredocs of one instruction may hold.
const MAX_HEREDOCS: usize = super::MAX_SOURCE;

pub(super) fn copy(statement: &mut Statement, found: &mut Vec<Diagnostic>) -> Option<InstructionKind> {
    let mut flags = Flags::new(statement, found);
    let from = flags.string("from");
    let chown = flags.string("chown");
    let chmod = flags.string("chmod");
    let link = flags.boolean("link").unwrap_or(false);
    let parents = flags.boolean("parents").unwrap_or(false);
    let exclude = flags.list("exclude").into_iter().map(|(_, value)| value).collect();
    flags.finish();
    let (sources, destination) = sources_and_destination(statement, found)?;
    let copy = CopyInstruction { from, chown, chmod, link, parents, exclude, sources, destination };
    Some(InstructionKind::Copy(copy))
}

pub(super) fn add(statement: &mut Statement, found: &mut Vec<Diagnostic>) -> Option<InstructionKind> {
    let mut flags = Flags::new(statement, found);
    let chown = flags.string("chown");
    let chmod = flags.string("chmod");
    let link = flags.boolean("link").unwrap_or(false);
    let keep_git_dir = flags.boolean("keep-git-dir");
    let checksum = flags.string("checksum");
    let unpack = flags.boolean("unpack");
    let exclude = flags.list("exclude").into_iter().map(|(_, value)| value).collect();
    flags.finish();
    let (sources, destination) = sources_and_destination(statement, found)?;
    let add =
        AddInstruction { chown, chmod, link, keep_git_dir, checksum, unpack, exclude, sources, destination };
    Some(InstructionKind::Add(add))
}

fn sources_and_destination(
    statement: &mut Statement,
    found: &mut Vec<Diagnostic>,
) -> Option<(Vec<CopySource>, Word)> {
    let name = statement.word.text.to_ascii_uppercase();
    let mut words = std::mem::take(&mut statement.args);
    let Some(destination) = words.pop().filter(|_| !words.is_empty()) else {
        let message = format!("`{name}` needs at least one source and a destination");
        return super::fail(found, statement.span, message);
    };
    let is_heredoc = |word: &Word| if statement.json { None } else { heredoc::in_word(&word.text) };
    if is_heredoc(&destination).is_some() {
        return super::fail(
            found,
            destination.span,
            format!("a heredoc cannot be the destination of `{name}`"),
        );
    }
    // Of two heredocs with one name the last one's body counts for both.
    let bodies: HashMap<&str, &Heredoc> =
        statement.heredocs.iter().map(|heredoc| (heredoc.name.as_str(), heredoc)).collect();
    let mut bytes = 0;
    let mut sources = Vec::with_capacity(words.len());
    for word in words {
        let Some(named) = is_heredoc(&word) else {
            sources.push(CopySource::Path(word));
            continue;
        };
        let Some(body) = bodies.get(named.name.as_str()) else {
            sources.push(CopySource::Heredoc(named));
            continue;
        };
        // Only a body that is shared many times is ever that long.
        bytes += body.content.len();
        if bytes > MAX_HEREDOCS {
            let message = format!("the heredocs of this `{name}` hold more than {MAX_HEREDOCS} bytes");
            return super::fail(found, word.span, message);
        }
        sources.push(CopySource::Heredoc(Heredoc {
            content: body.content.clone(),
            span: body.span,
            ..named
        }));
    }
    Some((sources, destination))
}
