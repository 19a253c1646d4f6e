//! The limit of what builds keep where the user has set none: nobody's disk fills because nobody thought of it.
//!
//! Once a day, because looking takes the longer the more is kept, and a build may take a few milliseconds. The time of
//! the last look is that of the file `pruned` in the store; the first build of a store has nothing to look for.

use std::fs::File;
use std::path::Path;
use std::time::{Duration, SystemTime};

use layerfs::store::Store;
use layerfs::{IoResultExt as _, Result};

/// How often is looked.
const EVERY: Duration = Duration::from_secs(24 * 60 * 60);

/// BuildKit's `maxUsedSpace`: so much of a hundredth of the file system, and never more than so many bytes.
const PERCENT: u64 = 80;
const MOST: u64 = 100_000_000_000;

/// Frees the least recently used of what builds keep, if that is more than 80 % of the file system or 100 GB; looks
/// at most once a day.
///
/// # Errors
/// As [`super::prune`], and when the day of the last look cannot be kept.
pub fn keep_within_usual(store: &Store) -> Result<()> {
    if is_due(&store.root().join("pruned"), SystemTime::now())? {
        super::keep_within(store, limit(store.root())?)?;
    }
    Ok(())
}

/// Whether the last look is long ago; if so, this is one.
fn is_due(stamp: &Path, now: SystemTime) -> Result<bool> {
    let last = match stamp.metadata() {
        Ok(found) => Some(found.modified().at("read the time of", stamp)?),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
        Err(error) => return Err(error).at("read the time of", stamp),
    };
    // A clock that was set back must not put it off for ever.
    let is_recent = |last: SystemTime| now.duration_since(last).is_ok_and(|age| age < EVERY);
    if last.is_some_and(is_recent) {
        return Ok(false);
    }
    let file = File::options().create(true).append(true).open(stamp).at("open", stamp)?;
    file.set_modified(now).at("set the time of", stamp)?;
    Ok(last.is_some())
}

fn limit(root: &Path) -> Result<u64> {
    let found = rustix::fs::statvfs(root).at("ask for the size of the file system of", root)?;
    let bytes = found.f_blocks.saturating_mul(found.f_frsize);
    // Memory without a limit, such as ramfs, has no size.
    Ok(if bytes == 0 { MOST } else { (bytes / 100 * PERCENT).min(MOST) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_due_once_a_day_and_not_at_first() {
        let folder = tempfile::tempdir().expect("a folder");
        let stamp = folder.path().join("pruned");
        let start = SystemTime::UNIX_EPOCH + EVERY * 20_000;
        let ask = |now| is_due(&stamp, now).expect("a stamp");
        assert!(!ask(start), "a new store has nothing to look for");
        assert!(!ask(start + EVERY / 2));
        assert!(ask(start + EVERY));
        assert!(!ask(start + EVERY * 3 / 2), "counted from the last look");
        assert!(ask(start), "the clock was set back");
        assert!(!ask(start));
    }

    #[test]
    fn the_limit_is_a_part_of_the_disk() {
        let limit = limit(Path::new("/")).expect("a file system");
        assert!(0 < limit && limit <= MOST);
    }
}
