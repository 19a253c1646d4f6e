//! `lbuild cache`: what builds keep for later ones. `ls` lists the directories of `RUN --mount=type=cache`, `prune`
//! removes them; with `--all` it also forgets the steps that are part of no image, and what was fetched for them.

use builder::cache::records;
use builder::remote;
use layerfs::cache_mount::CacheMountInfo;
use layerfs::gc::Roots;
use serde::Serialize;
use time::OffsetDateTime;

use crate::args::{CacheLsArgs, CachePruneArgs, Format};
use crate::command::Session;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::home::Home;
use crate::value::CacheFilter;
use crate::{output, text};

/// One line of the list.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Row {
    #[serde(rename = "ID")]
    id: String,
    /// Counts the directories of one id, from 0: builds that share none have each their own.
    instance: usize,
    size: u64,
    created: String,
    last_used: String,
    in_use: bool,
}

impl Row {
    fn of(mount: &CacheMountInfo) -> Row {
        Row {
            id: mount.id.clone(),
            instance: mount.instance,
            size: mount.size_bytes,
            created: text::rfc3339(mount.created),
            last_used: text::rfc3339(mount.last_used),
            in_use: mount.in_use,
        }
    }
}

pub(crate) fn ls(args: &CacheLsArgs, session: &Session) -> Result<Exit, Failure> {
    let home = session.open_home()?;
    let rows: Vec<Row> = mounts(&home)?.iter().map(Row::of).collect();
    match args.format {
        Format::Json => output::print_json(&rows)?,
        Format::Table => output::print(&table(&rows, OffsetDateTime::now_utc()))?,
    }
    Ok(Exit::Done)
}

pub(crate) fn prune(args: &CachePruneArgs, session: &Session) -> Result<Exit, Failure> {
    let home = session.open_home()?;
    let all = home.store.cache_mounts();
    let mut rows = Vec::new();
    let mut freed = 0;
    for mount in mounts(&home)?.iter().filter(|mount| is_meant(mount, args)) {
        // None: a build uses it.
        if let Some(bytes) = all.remove(mount).map_err(home.failure("remove the cache"))? {
            rows.push([mount.id.clone(), text::size(bytes)]);
            freed += bytes;
        }
    }
    if args.all {
        let steps = forget_steps(&home)?;
        rows.extend((steps > 0).then(|| ["steps of no image".to_owned(), text::size(steps)]));
        freed += steps;
    }
    let list = if rows.is_empty() { String::new() } else { text::table(["ID", "SIZE"], &rows) };
    output::print(&format!("{list}Total reclaimed space: {}\n", text::size(freed)))?;
    Ok(Exit::Done)
}

/// By id, then by instance.
fn mounts(home: &Home) -> Result<Vec<CacheMountInfo>, Failure> {
    let mut mounts = home.store.cache_mounts().list().map_err(home.failure("list the cache"))?;
    mounts.sort_by(|a, b| (&a.id, a.instance).cmp(&(&b.id, b.instance)));
    Ok(mounts)
}

fn is_meant(mount: &CacheMountInfo, args: &CachePruneArgs) -> bool {
    let passes = |filter: &CacheFilter| match filter {
        CacheFilter::Id(id) => *id == mount.id,
        CacheFilter::CacheMount => true,
    };
    (args.ids.is_empty() || args.ids.contains(&mount.id)) && args.filters.iter().all(passes)
}

/// Forgets what is part of no image, and what was fetched; gives the number of bytes that were freed.
fn forget_steps(home: &Home) -> Result<u64, Failure> {
    let fail = home.failure("forget the steps");
    let freed = home.store.collect(|_| Ok(Roots::default())).map_err(&fail)?;
    records::forget_missing(&home.store).map_err(&fail)?;
    Ok(freed.bytes + remote::forget_all(&home.store).map_err(fail)?)
}

fn table(rows: &[Row], now: OffsetDateTime) -> String {
    let cells: Vec<[String; 5]> = rows
        .iter()
        .map(|row| {
            let in_use = if row.in_use { "yes" } else { "no" };
            [
                row.id.clone(),
                text::size(row.size),
                text::age(&row.created, now),
                text::age(&row.last_used, now),
                in_use.to_owned(),
            ]
        })
        .collect();
    let total = text::size(rows.iter().map(|row| row.size).sum());
    text::table(["ID", "SIZE", "CREATED", "LAST USED", "IN USE"], &cells) + &format!("Total: {total}\n")
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, SystemTime};

    use super::*;

    #[test]
    fn the_table_has_a_total() {
        let at = |seconds| text::rfc3339(SystemTime::UNIX_EPOCH + Duration::from_secs(seconds));
        let row = |id: &str, size, in_use| Row {
            id: id.into(),
            instance: 0,
            size,
            created: at(1_000_000_000),
            last_used: at(1_000_003_600),
            in_use,
        };
        let now = OffsetDateTime::from_unix_timestamp(1_000_007_200).unwrap();
        let shown = table(&[row("/var/cache/apt", 12_300_000, false), row("go", 5, true)], now);
        let expected = "ID               SIZE     CREATED       LAST USED    IN USE\n\
                        /var/cache/apt   12.3MB   2 hours ago   1 hour ago   no\n\
                        go               5B       2 hours ago   1 hour ago   yes\n\
                        Total: 12.3MB\n";
        assert_eq!(shown, expected);
    }
}
