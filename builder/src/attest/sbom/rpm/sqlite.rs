//! As much of SQLite's file format as it takes to read the rows of one table. (<https://www.sqlite.org/fileformat2.html>.)
//!
//! The file is anybody's: every number in it is checked before it is used, no page is visited twice, rows together are no longer than the
//! file, and what does not fit makes the whole file unreadable.

use std::collections::BTreeSet;

const MAGIC: &[u8] = b"SQLite format 3\0";

/// A database in memory.
pub(super) struct Database<'a> {
    bytes: &'a [u8],
    page_bytes: usize,
    /// The part of a page that holds data.
    usable_bytes: usize,
}

/// A value of a row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Value {
    Number(i64),
    /// Text, or bytes of no kind.
    Bytes(Vec<u8>),
    /// Null, and what is not needed here.
    Other,
}

impl<'a> Database<'a> {
    pub(super) fn open(bytes: &'a [u8]) -> Option<Database<'a>> {
        if !bytes.starts_with(MAGIC) || bytes.len() < 512 {
            return None;
        }
        let page_bytes = match u16::from_be_bytes([bytes[16], bytes[17]]) {
            1 => 65536,
            size => usize::from(size),
        };
        let usable_bytes = page_bytes.checked_sub(usize::from(bytes[20]))?;
        (page_bytes.is_power_of_two() && usable_bytes >= 480).then_some(Database {
            bytes,
            page_bytes,
            usable_bytes,
        })
    }

    /// The rows of a table, in order; none if there is no such table, or the file is damaged.
    pub(super) fn rows(&self, table: &str) -> Option<Vec<Vec<Value>>> {
        let is_table = |row: &&Vec<Value>| match &row[..] {
            [Value::Bytes(kind), Value::Bytes(name), ..] => kind == b"table" && name == table.as_bytes(),
            _ => false,
        };
        let schema = self.tree(1)?;
        let Value::Number(root) = schema.iter().find(is_table)?.get(3)? else { return None };
        self.tree(u32::try_from(*root).ok()?)
    }

    fn page(&self, number: u32) -> Option<&'a [u8]> {
        let begin = usize::try_from(number).ok()?.checked_sub(1)?.checked_mul(self.page_bytes)?;
        self.bytes.get(begin..begin.checked_add(self.page_bytes)?)
    }

    fn tree(&self, root: u32) -> Option<Vec<Vec<Value>>> {
        let (mut rows, mut seen, mut left) = (Vec::new(), BTreeSet::new(), self.bytes.len());
        let mut pages = vec![root];
        while let Some(number) = pages.pop() {
            if !seen.insert(number) {
                return None;
            }
            let page = self.page(number)?;
            // The first page begins with the file's header.
            let head = if number == 1 { 100 } else { 0 };
            let count = usize::from(u16_at(page, head + 3)?);
            match page.get(head)? {
                0x0d => {
                    for cell in 0..count {
                        let at = usize::from(u16_at(page, head + 8 + 2 * cell)?);
                        rows.push(self.row(page, at, &mut left)?);
                    }
                }
                0x05 => {
                    // The last child is visited last.
                    pages.push(u32_at(page, head + 8)?);
                    for cell in (0..count).rev() {
                        let at = usize::from(u16_at(page, head + 12 + 2 * cell)?);
                        pages.push(u32_at(page, at)?);
                    }
                }
                _ => return None,
            }
        }
        Some(rows)
    }

    /// The row at a place in a page; `left` says how many bytes the rest of the rows may have.
    fn row(&self, page: &[u8], mut at: usize, left: &mut usize) -> Option<Vec<Value>> {
        let size = usize::try_from(varint(page, &mut at)?).ok()?;
        let _rowid = varint(page, &mut at)?;
        *left = left.checked_sub(size)?;
        let local = self.local_bytes(size);
        let mut payload = page.get(at..at.checked_add(local)?)?.to_vec();
        let mut next = if local < size { u32_at(page, at + local)? } else { 0 };
        let mut seen = BTreeSet::new();
        while payload.len() < size {
            if !seen.insert(next) {
                return None;
            }
            let overflow = self.page(next)?;
            let count = (size - payload.len()).min(self.usable_bytes - 4);
            payload.extend_from_slice(overflow.get(4..4 + count)?);
            next = u32_at(overflow, 0)?;
        }
        record(&payload)
    }

    /// How much of a row stands in its page. ("B-tree Cell Format".)
    fn local_bytes(&self, size: usize) -> usize {
        let usable = self.usable_bytes;
        let most = usable - 35;
        if size <= most {
            return size;
        }
        let least = (usable - 12) * 32 / 255 - 23;
        let fitting = least + (size - least) % (usable - 4);
        if fitting <= most { fitting } else { least }
    }
}

fn record(payload: &[u8]) -> Option<Vec<Value>> {
    let mut at = 0;
    let header = usize::try_from(varint(payload, &mut at)?).ok()?;
    let mut body = header;
    let mut row = Vec::new();
    while at < header {
        let kind = varint(payload, &mut at)?;
        let length = match kind {
            0 | 8 | 9 => 0,
            1..=4 => usize::try_from(kind).ok()?,
            5 => 6,
            6 | 7 => 8,
            10 | 11 => return None,
            text => usize::try_from((text - 12) / 2).ok()?,
        };
        let bytes = payload.get(body..body.checked_add(length)?)?;
        body += length;
        row.push(match kind {
            1..=6 => Value::Number(number(bytes)),
            8 | 9 => Value::Number(i64::from(kind == 9)),
            0 | 7 => Value::Other,
            _ => Value::Bytes(bytes.to_vec()),
        });
    }
    Some(row)
}

/// Two's complement of up to eight bytes.
fn number(bytes: &[u8]) -> i64 {
    let sign = bytes.first().is_some_and(|byte| byte & 0x80 != 0);
    bytes.iter().fold(if sign { -1 } else { 0 }, |number, byte| number << 8 | i64::from(*byte))
}

/// Seven bits a byte, at most nine bytes, the last of which has eight.
fn varint(bytes: &[u8], at: &mut usize) -> Option<u64> {
    let mut value = 0;
    for count in 0..9 {
        let byte = *bytes.get(*at)?;
        *at += 1;
        if count == 8 {
            return Some(value << 8 | u64::from(byte));
        }
        value = value << 7 | u64::from(byte & 0x7f);
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes(bytes.get(at..at.checked_add(2)?)?.try_into().ok()?))
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_be_bytes(bytes.get(at..at.checked_add(4)?)?.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_signs() {
        for (bytes, expected) in
            [(&[][..], 0), (&[5], 5), (&[0xff], -1), (&[0x80, 0], -32768), (&[1, 0, 0], 65536)]
        {
            assert_eq!(number(bytes), expected);
        }
        let mut at = 0;
        assert_eq!(varint(&[0x81, 0x00], &mut at), Some(128));
        assert_eq!(varint(&[0xff; 9], &mut 0), Some(u64::MAX));
        assert_eq!(varint(&[0xff; 3], &mut 0), None);
    }

    #[test]
    fn no_bytes_make_it_panic() {
        let mut state = 1_u64;
        let mut random = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            u8::try_from(state >> 56).unwrap()
        };
        for _ in 0..2000 {
            let mut bytes: Vec<u8> = (0..2048).map(|_| random() & random()).collect();
            bytes[..16].copy_from_slice(MAGIC);
            (bytes[16], bytes[17], bytes[20]) = (2, 0, 0);
            bytes[100] = if random() & 1 == 0 { 0x0d } else { 0x05 };
            let found = Database::open(&bytes).and_then(|database| database.rows("Packages"));
            assert!(found.is_none_or(|rows| rows.len() < 10_000));
        }
        assert!(Database::open(b"SQLite format 3\0").is_none());
    }
}
