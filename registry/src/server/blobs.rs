//! Blobs: read whole or in part, looked at, deleted. (OCI distribution-spec, "Pulling blobs", "Deleting Blobs".)

use oci::Digest;

use super::api::{Answer, Api, Refusal, refuse, wrong_method};
use super::http::{Content, Head, Reply};
use super::storage::Repository;

impl Api {
    pub(super) fn blobs(&self, head: &Head, repository: &Repository, digest: &str) -> Answer {
        let digest = parse_digest(digest)?;
        match head.method.as_str() {
            "GET" | "HEAD" => {
                let content = self.storage.blob(repository, &digest)?;
                blob(head, &digest, content.ok_or_else(unknown)?)
            }
            "DELETE" if self.storage.remove_blob(repository, &digest)? => Ok(Reply::new(202)),
            "DELETE" => Err(unknown().into()),
            _ => Ok(wrong_method("GET, HEAD, DELETE")),
        }
    }
}

/// A digest of the kind that is kept here.
pub(super) fn parse_digest(text: &str) -> Result<Digest, Refusal> {
    let reason = "expected `sha256:` and 64 lower-case hexadecimal digits, or `sha512:` and 128";
    text.parse().map_err(|_| refuse(400, "DIGEST_INVALID", reason).into())
}

fn unknown() -> Reply {
    refuse(404, "BLOB_UNKNOWN", "blob unknown to the repository")
}

fn blob(head: &Head, digest: &Digest, content: Content) -> Answer {
    let length = content.length();
    let reply = |status| {
        Reply::new(status)
            .with("content-type", "application/octet-stream")
            .with("docker-content-digest", digest)
            .with("etag", format!("\"{digest}\""))
            .with("accept-ranges", "bytes")
    };
    match head.header("range").map_or(Part::Whole, |range| part(range, length)) {
        Part::Whole => Ok(Reply { body: content, ..reply(200) }),
        Part::From { start, count } => {
            let range = format!("bytes {start}-{}/{length}", start + count - 1);
            let reply = reply(206).with("content-range", range);
            Ok(Reply { body: content.part(start, count)?, ..reply })
        }
        Part::None => Ok(refuse(416, "RANGE_INVALID", "the blob has no such bytes")
            .with("content-range", format!("bytes */{length}"))),
    }
}

/// What a `Range` header asks for.
#[derive(Debug, PartialEq, Eq)]
enum Part {
    /// Several ranges at once, or another unit: the whole may answer those. (RFC 9110, 14.2.)
    Whole,
    From {
        start: u64,
        count: u64,
    },
    /// Nothing that is there.
    None,
}

fn part(range: &str, length: u64) -> Part {
    let Some((first, last)) = range.strip_prefix("bytes=").and_then(|range| range.split_once('-')) else {
        return Part::Whole;
    };
    let (first, last) = (first.trim(), last.trim());
    let number = |text: &str| text.parse::<u64>().ok().filter(|_| text.bytes().all(|b| b.is_ascii_digit()));
    let (start, end) = match (number(first), number(last)) {
        (Some(start), _) if last.is_empty() => (start, length),
        (Some(start), Some(last)) if start <= last => (start, last.saturating_add(1).min(length)),
        (None, Some(count)) if first.is_empty() => (length - count.min(length), length),
        (Some(_), Some(_)) => return Part::None,
        _ => return Part::Whole,
    };
    if start >= end { Part::None } else { Part::From { start, count: end - start } }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_what_rfc_9110_says() {
        let from = |start, count| Part::From { start, count };
        for (range, expected) in [
            ("bytes=0-", from(0, 10)),
            ("bytes=3-", from(3, 7)),
            ("bytes=3-5", from(3, 3)),
            ("bytes=3-99", from(3, 7)),
            ("bytes=-4", from(6, 4)),
            ("bytes=-99", from(0, 10)),
            ("bytes=9-9", from(9, 1)),
            ("bytes=3-18446744073709551615", from(3, 7)),
            ("bytes=10-", Part::None),
            ("bytes=-0", Part::None),
            ("bytes=5-3", Part::None),
            ("bytes=1-2,4-5", Part::Whole),
            ("bytes=x-", Part::Whole),
            ("bytes=-", Part::Whole),
            ("lines=1-2", Part::Whole),
            ("bytes=+1-2", Part::Whole),
        ] {
            assert_eq!(part(range, 10), expected, "{range}");
        }
        assert_eq!(part("bytes=0-", 0), Part::None);
    }
}
