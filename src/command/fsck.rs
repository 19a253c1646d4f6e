//! `lbuild fsck`: whether the store is whole, and what is done about it.
//!
//! Exit code 0: nothing is damaged, or all that was has been put away; 1: something is, or an image lacks something
//! that only a pull or a build can bring back. What is merely left over never fails the command.

use std::path::PathBuf;

use builder::cache::{LocalCache, records};
use layerfs::fsck::{Finding, Severity};
use layerfs::snapshot::SnapshotId;
use serde::Serialize;

use crate::args::{Format, FsckArgs};
use crate::command::Session;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::home::Home;
use crate::{output, text};

/// One thing that is not as it should be.
#[derive(Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Row {
    /// `damage` or `leftover`.
    severity: &'static str,
    /// The file, relative to the store.
    path: String,
    problem: String,
    repaired: bool,
}

impl Row {
    fn of(finding: &Finding, repaired: bool) -> Row {
        Row {
            severity: if finding.severity == Severity::Damage { "damage" } else { "leftover" },
            path: finding.path.display().to_string(),
            problem: finding.problem.clone(),
            repaired,
        }
    }
}

pub(crate) fn fsck(args: &FsckArgs, session: &Session) -> Result<Exit, Failure> {
    let home = if args.repair { session.open_home()? } else { session.look_home()? };
    let mut rows: Vec<Row> = Vec::new();
    let mut is_first = true;
    loop {
        let findings =
            findings(&home, args.deep && is_first).map_err(home.failure("look through the store"))?;
        let before = rows.iter().filter(|row| row.repaired).count();
        // What is missing now was put away by the first look.
        for finding in findings.iter().filter(|finding| is_first || finding.is_there) {
            let repaired = args.repair
                && home.store.repair(finding).map_err(home.failure("put away what is damaged"))?;
            let row = Row::of(finding, repaired);
            if !rows.contains(&row) {
                rows.push(row);
            }
        }
        // What stood on something that was put away is of no use either.
        if rows.iter().filter(|row| row.repaired).count() == before {
            break;
        }
        is_first = false;
    }
    match args.format {
        Format::Json => output::print_json(&rows)?,
        Format::Table => output::print(&report(&rows))?,
    }
    let is_whole = rows.iter().all(|row| row.repaired || row.severity != "damage");
    Ok(if is_whole { Exit::Done } else { Exit::Failed })
}

fn findings(home: &Home, deep: bool) -> layerfs::Result<Vec<Finding>> {
    let store = &home.store;
    let mut findings = store.check(deep)?;
    for snapshots in deep.then(|| store.readers()).into_iter().flatten() {
        let path = |id: SnapshotId| PathBuf::from(snapshots.layout().folder()).join(id.to_string());
        let altered = LocalCache::new(store, &*snapshots).altered()?;
        findings.extend(altered.into_iter().map(|(id, problem)| Finding::damage(path(id), problem)));
    }
    for path in records::useless(store)? {
        let path = path.strip_prefix(store.root()).unwrap_or(&path).to_owned();
        findings.push(Finding::leftover(path, "a record of something that is not here"));
    }
    Ok(findings)
}

fn report(rows: &[Row]) -> String {
    let line = |row: &Row| {
        let repaired = if row.repaired { " (put away)" } else { "" };
        let (path, problem) = (text::printable(&row.path), text::printable(&row.problem));
        format!("{}: `{path}`: {problem}{repaired}\n", row.severity)
    };
    let count = |severity| rows.iter().filter(|row| row.severity == severity).count() as u64;
    let (damaged, left) = (count("damage"), count("leftover"));
    let lines: String = rows.iter().map(line).collect();
    let hint = match rows.iter().any(|row| row.severity == "damage" && !row.repaired) {
        true if rows.iter().any(|row| row.repaired) => "hint: pull or build these images again\n",
        true => "hint: `lbuild fsck --repair` puts it away; pull or build the images again\n",
        false => "",
    };
    format!("{lines}{} damaged, {} left over\n{hint}", text::count(damaged, "thing"), left)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_report_says_what_to_do() {
        let row = |severity, repaired| Row {
            severity,
            path: "blobs/sha256/a\u{1b}".into(),
            problem: "is bad".into(),
            repaired,
        };
        assert_eq!(report(&[]), "0 things damaged, 0 left over\n");
        let damaged = report(&[row("damage", false), row("leftover", false)]);
        assert!(damaged.starts_with("damage: `blobs/sha256/a\u{fffd}`: is bad\n"), "{damaged}");
        assert!(damaged.contains("1 thing damaged, 1 left over\nhint: `lbuild fsck --repair`"), "{damaged}");
        let repaired = report(&[row("damage", true)]);
        assert!(repaired.contains("is bad (put away)") && !repaired.contains("hint"), "{repaired}");
    }
}
