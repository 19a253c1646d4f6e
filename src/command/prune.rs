//! `lbuild prune` and `lbuild du`: what builds keep for later ones, freed and shown; and the limit that a build
//! keeps the cache within.

use std::io::Write;

use builder::prune::{self, Item, Policy};
use builder::usage::Usage;
use serde::Serialize;
use time::OffsetDateTime;

use crate::args::{DuArgs, Format, PruneArgs};
use crate::command::Session;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::home::{Home, KeepStorage};
use crate::value::{Bytes, PruneFilter, kind_name};
use crate::{output, text};

/// One line of the list.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Row {
    #[serde(rename = "ID")]
    id: String,
    r#type: &'static str,
    description: String,
    /// In bytes of disk.
    size: u64,
    /// Whether `prune` would free it.
    reclaimable: bool,
    in_use: bool,
    /// Whether an image with a name consists of it; `prune --all` frees what of it can be unpacked again.
    in_image: bool,
    created: String,
    last_used: String,
}

impl Row {
    fn of(item: &Item) -> Row {
        Row {
            id: item.id.clone(),
            r#type: kind_name(item.kind),
            description: item.what.clone(),
            size: item.bytes,
            reclaimable: !item.in_use && !item.in_image,
            in_use: item.in_use,
            in_image: item.in_image,
            created: text::rfc3339(item.created),
            last_used: text::rfc3339(item.last_used),
        }
    }
}

pub(crate) fn prune(args: &PruneArgs, session: &Session) -> Result<Exit, Failure> {
    let policy = Policy {
        all: args.all,
        keep_bytes: args.keep_storage.map(|Bytes(bytes)| bytes),
        ..PruneFilter::policy(&args.filters)
    };
    let pruned = if args.dry_run {
        let home = session.look_home()?;
        prune::preview(&home.store, &policy).map_err(home.failure("look through the cache"))?
    } else {
        let home = session.open_home()?;
        prune::prune(&home.store, &policy).map_err(home.failure("free the cache"))?
    };
    let rows: Vec<Row> = pruned.items.iter().map(Row::of).collect();
    let list = match rows.as_slice() {
        [] => String::new(),
        rows if args.verbose => blocks(rows),
        rows => table(rows, OffsetDateTime::now_utc()),
    };
    let total = if args.dry_run { "Reclaimable space" } else { "Total reclaimed space" };
    output::print(&format!("{list}{total}: {}\n", text::size(pruned.bytes)))?;
    Ok(Exit::Done)
}

pub(crate) fn du(args: &DuArgs, session: &Session) -> Result<Exit, Failure> {
    let home = session.look_home()?;
    let usage = Usage::read(&home.store).map_err(home.failure("look through the cache"))?;
    let policy = PruneFilter::policy(&args.filters);
    let shown = usage.items().into_iter().rev().filter(|item| policy.matches(item));
    let rows: Vec<Row> = shown.map(|item| Row::of(&item)).collect();
    if args.format == Format::Json {
        output::print_json(&rows)?;
        return Ok(Exit::Done);
    }
    let list = if args.verbose { blocks(&rows) } else { table(&rows, OffsetDateTime::now_utc()) };
    let sum = |rows: &mut dyn Iterator<Item = &Row>| rows.map(|row| row.size).sum::<u64>();
    let (mut total, mut free) = (sum(&mut rows.iter()), sum(&mut rows.iter().filter(|row| row.reclaimable)));
    if args.filters.is_empty() {
        let broken = usage.downloads.iter().filter(|download| !download.in_use);
        total += usage.document_bytes + usage.download_bytes() + usage.garbage_bytes;
        free += usage.garbage_bytes + broken.map(|download| download.bytes).sum::<u64>();
    }
    let (free, total) = (text::size(free), text::size(total));
    output::print(&format!("{list}Reclaimable: {free}\nTotal:       {total}\n"))?;
    Ok(Exit::Done)
}

/// Frees the least recently used, if builds keep more than `limit`. What a build just made is in use.
pub(crate) fn keep_within(limit: KeepStorage, home: &Home) {
    let kept = match limit {
        KeepStorage::Usual => prune::keep_within_usual(&home.store),
        KeepStorage::Within(Bytes(bytes)) => prune::keep_within(&home.store, bytes),
        KeepStorage::Unlimited => Ok(()),
    };
    if let Err(error) = kept {
        // The image is there all the same. And nobody may be left to tell.
        let error = text::printable(&error.to_string());
        writeln!(std::io::stderr().lock(), "warning: cannot keep the cache within its limit: {error}").ok();
    }
}

fn table(rows: &[Row], now: OffsetDateTime) -> String {
    let cells: Vec<[String; 5]> = rows
        .iter()
        .map(|row| {
            let state = match (row.in_use, row.in_image) {
                (true, _) => "in use",
                (_, true) => "image",
                _ => "yes",
            };
            [
                row.id.chars().take(12).collect(),
                text::size(row.size),
                state.to_owned(),
                text::age(&row.last_used, now),
                text::shorten(&row.description, 60),
            ]
        })
        .collect();
    text::table(["ID", "SIZE", "RECLAIMABLE", "LAST USED", "DESCRIPTION"], &cells)
}

/// All that is known, a block each.
fn blocks(rows: &[Row]) -> String {
    let block = |row: &Row| {
        let lines = [
            ("ID", row.id.clone()),
            ("Type", row.r#type.to_owned()),
            ("Description", row.description.clone()),
            ("Size", text::size(row.size)),
            ("Reclaimable", row.reclaimable.to_string()),
            ("In use", row.in_use.to_string()),
            ("In image", row.in_image.to_string()),
            ("Created at", row.created.clone()),
            ("Last used at", row.last_used.clone()),
        ];
        let lines =
            lines.map(|(name, value)| format!("{:13} {}\n", format!("{name}:"), text::printable(&value)));
        lines.concat() + "\n"
    };
    rows.iter().map(block).collect()
}
