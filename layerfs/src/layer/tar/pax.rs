//! The records of an extended header: `length key=value\n`. No I/O.

use super::Problem;
use crate::entry::Time;

/// The prefix of the keys under which extended attributes stand.
pub(super) const XATTR: &[u8] = b"SCHILY.xattr.";

/// The prefix of the keys by which GNU tar describes sparse files.
pub(super) const SPARSE: &[u8] = b"GNU.sparse.";

/// How many records one header may have.
const MAX_RECORDS: usize = 25_000;

/// One record: key and value.
pub(super) type Record<'a> = (&'a [u8], &'a [u8]);

/// Reads the records of a header.
pub(super) fn parse(mut bytes: &[u8]) -> Result<Vec<Record<'_>>, Problem> {
    let mut records = Vec::new();
    while !bytes.is_empty() {
        let bad = Problem::ExtendedHeader;
        let space = bytes.iter().take(20).position(|byte| *byte == b' ').ok_or(bad)?;
        let length = decimal(&bytes[..space]).and_then(|length| usize::try_from(length).ok()).ok_or(bad)?;
        let record = bytes.get(space + 1..length).ok_or(bad)?;
        let record = record.strip_suffix(b"\n").ok_or(bad)?;
        let equals = record.iter().position(|byte| *byte == b'=').ok_or(bad)?;
        if equals == 0 || records.len() == MAX_RECORDS {
            return Err(bad);
        }
        records.push((&record[..equals], &record[equals + 1..]));
        bytes = &bytes[length..];
    }
    Ok(records)
}

/// Appends a record. Its length counts the digits of the length.
pub(super) fn push(out: &mut Vec<u8>, key: &[u8], value: &[u8]) {
    let rest = key.len() + value.len() + 3;
    let mut length = rest + 1;
    while length != rest + length.to_string().len() {
        length = rest + length.to_string().len();
    }
    out.extend_from_slice(format!("{length} ").as_bytes());
    out.extend_from_slice(key);
    out.push(b'=');
    out.extend_from_slice(value);
    out.push(b'\n');
}

/// A number without sign.
pub(super) fn decimal(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(digits).ok()?.parse().ok()
}

/// A time: seconds with an optional sign and fraction.
pub(super) fn time(text: &[u8]) -> Option<Time> {
    let (negative, digits) = match text.strip_prefix(b"-") {
        Some(digits) => (true, digits),
        None => (false, text),
    };
    let (whole, fraction) = match digits.iter().position(|byte| *byte == b'.') {
        Some(dot) => (&digits[..dot], &digits[dot + 1..]),
        None => (digits, &b""[..]),
    };
    let seconds = i64::try_from(decimal(whole)?).ok()?;
    if !fraction.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let digit = |place: usize| u32::from(fraction.get(place).map_or(0, |digit| digit - b'0'));
    let nanoseconds = (0..9).fold(0, |value, place| value * 10 + digit(place));
    Some(match (negative, nanoseconds) {
        (false, _) => Time { seconds, nanoseconds },
        (true, 0) => Time::from_seconds(-seconds),
        (true, _) => Time { seconds: -seconds - 1, nanoseconds: 1_000_000_000 - nanoseconds },
    })
}
