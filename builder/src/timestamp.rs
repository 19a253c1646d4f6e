//! Times as image documents write them: RFC 3339 in UTC.

use std::time::SystemTime;

use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// The present, to the nanosecond.
pub(crate) fn now() -> String {
    format(OffsetDateTime::from(SystemTime::now()))
}

/// `seconds` since 1970.
pub(crate) fn at(seconds: i64) -> String {
    format(OffsetDateTime::from_unix_timestamp(seconds).unwrap_or(OffsetDateTime::UNIX_EPOCH))
}

/// `text`, or `epoch` where that is earlier. What is no time stays as it is.
pub(crate) fn clamp(text: &str, epoch: Option<i64>) -> String {
    let parsed = OffsetDateTime::parse(text, &Rfc3339);
    match (parsed, epoch) {
        (Ok(time), Some(epoch)) if time.unix_timestamp_nanos() > i128::from(epoch) * 1_000_000_000 => {
            at(epoch)
        }
        _ => text.to_owned(),
    }
}

fn format(time: OffsetDateTime) -> String {
    time.format(&Rfc3339).unwrap_or_else(|_| "1970-01-01T00:00:00Z".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clamps_only_what_is_later() {
        assert_eq!(at(0), "1970-01-01T00:00:00Z");
        let early = "2001-02-03T04:05:06.5Z";
        assert_eq!(clamp(early, None), early);
        assert_eq!(clamp(early, Some(2_000_000_000)), early);
        assert_eq!(clamp(early, Some(86_400)), "1970-01-02T00:00:00Z");
        assert_eq!(clamp("not a time", Some(0)), "not a time");
    }
}
