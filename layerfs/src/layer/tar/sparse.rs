//! Sparse files: where the bytes of an entry belong, and how much is between them. No I/O. Layers should have none
//! (OCI image-spec, layer.md, "File Attributes"), but old ones do, and so do archives for ADD. They are only read.
//!
//! GNU tar has four forms (its manual, "Storing Sparse Files"): the type `S`, whose map is in the header and in blocks
//! behind it; and PAX records of the versions 0.0, 0.1 and 1.0, the last with its map before the data. Whatever the
//! form, the size in the header is that of what is stored, so readers that know none of them stay in step.

use std::collections::VecDeque;

use super::header::{in_range, number};
use super::{BLOCK, Problem, pax};

/// How many stretches of data a file may have: each costs memory (CVE-2025-58183).
const MAX_STRETCHES: usize = 10_000;

/// Where the fields of type `S` stand: a table, whether more follows, the size; and the same in the blocks behind.
const TABLE: (usize, usize) = (386, 4);
const MORE: usize = 482;
const REAL_SIZE: (usize, usize) = (483, 12);
const NEXT_TABLE: (usize, usize) = (0, 21);
const NEXT_MORE: usize = 504;

/// Offset and length of some data.
pub(super) type Stretch = (u64, u64);

/// The data of a file and the holes between, from its present place on.
#[derive(Debug)]
pub(super) struct Map {
    stretches: VecDeque<Stretch>,
    place: u64,
    size: u64,
    holes: u64,
}

/// What comes next in a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Piece {
    /// So many zeros that are not stored.
    Hole(u64),
    /// So many bytes that are.
    Data(u64),
    /// Nothing.
    End,
}

impl Map {
    /// The map of a file of `size` bytes, of which `stored` are stored.
    pub(super) fn new(stretches: Vec<Stretch>, size: u64, stored: u64) -> Result<Map, Problem> {
        let (mut end, mut sum) = (0, 0_u64);
        for (offset, length) in &stretches {
            if *offset < end {
                return Err(Problem::Sparse);
            }
            end = offset.checked_add(*length).filter(|end| *end <= size).ok_or(Problem::Sparse)?;
            sum += length;
        }
        if sum != stored || stretches.len() > MAX_STRETCHES {
            return Err(Problem::Sparse);
        }
        let stretches = stretches.into_iter().filter(|(_, length)| *length > 0).collect();
        Ok(Map { stretches, place: 0, size, holes: size - sum })
    }

    /// The size of the file in bytes.
    pub(super) fn size(&self) -> u64 {
        self.size
    }

    /// How many bytes of it are not stored.
    pub(super) fn holes(&self) -> u64 {
        self.holes
    }

    /// What comes next; not more than `most` bytes of it.
    pub(super) fn next(&self, most: u64) -> Piece {
        match self.stretches.front() {
            Some((offset, _)) if self.place < *offset => Piece::Hole(most.min(offset - self.place)),
            Some((offset, length)) => Piece::Data(most.min(offset + length - self.place)),
            None if self.place < self.size => Piece::Hole(most.min(self.size - self.place)),
            None => Piece::End,
        }
    }

    /// Goes on by so many bytes of what was next.
    pub(super) fn pass(&mut self, count: u64) {
        self.place += count;
        if self.stretches.front().is_some_and(|(offset, length)| self.place >= offset + length) {
            self.stretches.pop_front();
        }
    }
}

/// What the header of type `S` says: data, whether a block with more follows, the size of the file.
pub(super) fn old_gnu(block: &[u8; BLOCK]) -> Result<(Vec<Stretch>, bool, u64), Problem> {
    let size = in_range(number(block, REAL_SIZE, "realsize")?, "realsize")?;
    Ok((table(block, TABLE)?, block[MORE] != 0, size))
}

/// What a block behind that header says: more data, and whether another one follows.
pub(super) fn old_gnu_more(block: &[u8; BLOCK], stretches: &mut Vec<Stretch>) -> Result<bool, Problem> {
    stretches.extend(table(block, NEXT_TABLE)?);
    if stretches.len() > MAX_STRETCHES {
        return Err(Problem::Sparse);
    }
    Ok(block[NEXT_MORE] != 0)
}

/// A table ends where a row has no length.
fn table(block: &[u8; BLOCK], (start, rows): (usize, usize)) -> Result<Vec<Stretch>, Problem> {
    let places = (0..rows).map(|row| start + row * 24).take_while(|place| block[place + 12] != 0);
    places
        .map(|place| {
            let offset = in_range(number(block, (place, 12), "sparse offset")?, "sparse offset")?;
            Ok((offset, in_range(number(block, (place + 12, 12), "sparse length")?, "sparse length")?))
        })
        .collect()
}

/// What PAX records say of a sparse file.
#[derive(Debug, Default)]
pub(super) struct Records {
    /// Whether the map is before the data.
    pub(super) is_version_1: bool,
    /// The name of the file; the entry's own is made up.
    pub(super) name: Option<Vec<u8>>,
    /// The size of the file.
    pub(super) size: Option<u64>,
    pub(super) stretches: Vec<Stretch>,
    /// An offset without its length.
    open: Option<u64>,
    seen: bool,
}

impl Records {
    /// Takes a record in whose key follows `GNU.sparse.`.
    pub(super) fn take(&mut self, key: &[u8], value: &[u8]) -> Result<(), Problem> {
        self.seen = true;
        let number = || pax::decimal(value).ok_or(Problem::Sparse);
        match key {
            b"major" => {
                self.is_version_1 = match number()? {
                    0 => false,
                    1 => true,
                    _ => return Err(Problem::Sparse),
                }
            }
            b"minor" | b"numblocks" => drop(number()?),
            b"name" => self.name = Some(value.to_vec()),
            b"size" | b"realsize" => self.size = Some(number()?),
            b"offset" if self.open.is_none() => self.open = Some(number()?),
            b"numbytes" => {
                let offset = self.open.take().ok_or(Problem::Sparse)?;
                self.push((offset, number()?))?;
            }
            b"map" => {
                let mut numbers = value.split(|byte| *byte == b',').map(pax::decimal);
                while let Some(offset) = numbers.next() {
                    let length = numbers.next().flatten();
                    self.push(offset.zip(length).ok_or(Problem::Sparse)?)?;
                }
            }
            _ => return Err(Problem::Sparse),
        }
        Ok(())
    }

    fn push(&mut self, stretch: Stretch) -> Result<(), Problem> {
        if self.stretches.len() == MAX_STRETCHES {
            return Err(Problem::Sparse);
        }
        self.stretches.push(stretch);
        Ok(())
    }

    /// Whether there were any.
    pub(super) fn is_sparse(&self) -> bool {
        self.seen
    }
}

/// Reads the map before the data of version 1.0: numbers, each on a line of its own; how many stretches there are,
/// then their offsets and lengths.
#[derive(Debug, Default)]
pub(super) struct Lines {
    numbers: Vec<u64>,
    digits: Vec<u8>,
}

impl Lines {
    /// Takes a block in; the map if it ends there.
    pub(super) fn take(&mut self, block: &[u8; BLOCK]) -> Result<Option<Vec<Stretch>>, Problem> {
        for byte in block {
            if *byte == b'\n' {
                self.numbers.push(pax::decimal(&self.digits).ok_or(Problem::Sparse)?);
                self.digits.clear();
                let count = usize::try_from(self.numbers[0]).ok().filter(|count| *count <= MAX_STRETCHES);
                if self.numbers.len() == 1 + 2 * count.ok_or(Problem::Sparse)? {
                    return Ok(Some(
                        self.numbers[1..].chunks_exact(2).map(|pair| (pair[0], pair[1])).collect(),
                    ));
                }
            } else if self.digits.len() == 20 {
                return Err(Problem::Sparse);
            } else {
                self.digits.push(*byte);
            }
        }
        Ok(None)
    }
}
