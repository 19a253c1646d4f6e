//! One header block: 512 bytes to fields and back. No I/O.

use super::{BLOCK, Problem};

/// Where the fields stand: first byte and length.
pub(super) type Field = (usize, usize);
const NAME: Field = (0, 100);
const MODE: Field = (100, 8);
const UID: Field = (108, 8);
const GID: Field = (116, 8);
const SIZE: Field = (124, 12);
const MTIME: Field = (136, 12);
const CHECKSUM: Field = (148, 8);
const FLAG: usize = 156;
const LINK: Field = (157, 100);
const MAGIC: Field = (257, 6);
const VERSION: Field = (263, 2);
const MAJOR: Field = (329, 8);
const MINOR: Field = (337, 8);
const PREFIX: Field = (345, 155);

/// The largest number that the field `uid` or `gid` holds: seven octal digits.
pub(super) const MAX_ID: u32 = 0o7_777_777;
/// The largest number that the field `size` or `mtime` holds: eleven octal digits.
pub(super) const MAX_LONG: u64 = 0o77_777_777_777;
/// The longest name that the fields `name` and `linkname` hold, in bytes.
pub(super) const MAX_NAME: usize = NAME.1;

/// A header's fields as they stand in it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) name: Vec<u8>,
    pub(super) mode: u32,
    pub(super) uid: u64,
    pub(super) gid: u64,
    pub(super) size: u64,
    pub(super) mtime: i64,
    pub(super) flag: u8,
    pub(super) link: Vec<u8>,
    pub(super) major: u32,
    pub(super) minor: u32,
}

impl Header {
    /// Reads a block; `None` for one of zeros, which ends the archive.
    pub(super) fn parse(block: &[u8; BLOCK]) -> Result<Option<Header>, Problem> {
        if block.iter().all(|byte| *byte == 0) {
            return Ok(None);
        }
        let stored = number(block, CHECKSUM, "checksum")?;
        // Old tars summed the bytes as signed.
        if stored != i128::from(sum(block)) && stored != i128::from(signed_sum(block)) {
            return Err(Problem::Checksum);
        }
        let posix = field(block, MAGIC) == b"ustar\0";
        let mut name = text(block, NAME).to_vec();
        // GNU tar keeps times where POSIX has the prefix.
        let prefix = if posix { text(block, PREFIX) } else { b"" };
        if !prefix.is_empty() {
            name = [prefix, b"/", &name].concat();
        }
        let flag = block[FLAG];
        let device = matches!(flag, b'3' | b'4');
        Ok(Some(Header {
            name,
            // Some writers put the type's bits into the mode.
            mode: in_range(number(block, MODE, "mode")? & 0o7777, "mode")?,
            uid: in_range(number(block, UID, "uid")?, "uid")?,
            gid: in_range(number(block, GID, "gid")?, "gid")?,
            size: in_range(number(block, SIZE, "size")?, "size")?,
            mtime: in_range(number(block, MTIME, "mtime")?, "mtime")?,
            flag,
            link: text(block, LINK).to_vec(),
            major: if device { in_range(number(block, MAJOR, "devmajor")?, "devmajor")? } else { 0 },
            minor: if device { in_range(number(block, MINOR, "devminor")?, "devminor")? } else { 0 },
        }))
    }

    /// Writes a block. What does not fit its field must stand in an extended header: names are cut off and
    /// numbers become zero here.
    pub(super) fn to_block(&self) -> [u8; BLOCK] {
        let mut block = [0; BLOCK];
        put(&mut block, NAME, &self.name);
        put(&mut block, LINK, &self.link);
        put_octal(&mut block, MODE, self.mode.into());
        put_octal(&mut block, UID, self.uid);
        put_octal(&mut block, GID, self.gid);
        put_octal(&mut block, SIZE, self.size);
        put_octal(&mut block, MTIME, u64::try_from(self.mtime).unwrap_or(0));
        put_octal(&mut block, MAJOR, self.major.into());
        put_octal(&mut block, MINOR, self.minor.into());
        block[FLAG] = self.flag;
        put(&mut block, MAGIC, b"ustar\0");
        put(&mut block, VERSION, b"00");
        let sum = format!("{:06o}\0 ", sum(&block));
        put(&mut block, CHECKSUM, sum.as_bytes());
        block
    }
}

fn field(block: &[u8; BLOCK], (start, length): Field) -> &[u8] {
    &block[start..start + length]
}

/// A field up to its first NUL.
fn text(block: &[u8; BLOCK], place: Field) -> &[u8] {
    let bytes = field(block, place);
    let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
    &bytes[..end]
}

/// Octal digits between blanks, or GNU's base 256: the top bit set, then a number in two's complement.
pub(super) fn number(block: &[u8; BLOCK], place: Field, name: &'static str) -> Result<i128, Problem> {
    let bytes = field(block, place);
    if bytes[0] & 0x80 != 0 {
        let negative = bytes[0] & 0x40 != 0;
        let first = i128::from(bytes[0] & 0x7f) - if negative { 0x80 } else { 0 };
        return Ok(bytes[1..].iter().fold(first, |value, byte| value << 8 | i128::from(*byte)));
    }
    let digits = bytes.split(|byte| *byte == 0).next().unwrap_or_default().trim_ascii();
    digits.iter().try_fold(0, |value, digit| match digit {
        b'0'..=b'7' => Ok(value << 3 | i128::from(digit - b'0')),
        _ => Err(Problem::Number { field: name }),
    })
}

pub(super) fn in_range<T: TryFrom<i128>>(value: i128, field: &'static str) -> Result<T, Problem> {
    T::try_from(value).map_err(|_| Problem::Number { field })
}

/// The sum of all bytes, with the checksum's own counted as blanks.
fn sum(block: &[u8; BLOCK]) -> u32 {
    let (start, length) = CHECKSUM;
    let all: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
    let own: u32 = block[start..start + length].iter().map(|byte| u32::from(*byte)).sum();
    all - own + 8 * u32::from(b' ')
}

fn signed_sum(block: &[u8; BLOCK]) -> i32 {
    let (start, length) = CHECKSUM;
    let of = |bytes: &[u8]| bytes.iter().map(|byte| i32::from(byte.cast_signed())).sum::<i32>();
    of(block) - of(&block[start..start + length]) + 8 * i32::from(b' ')
}

fn put(block: &mut [u8; BLOCK], (start, length): Field, bytes: &[u8]) {
    let length = length.min(bytes.len());
    block[start..start + length].copy_from_slice(&bytes[..length]);
}

/// Octal digits and a NUL; zero for what does not fit.
fn put_octal(block: &mut [u8; BLOCK], place: Field, value: u64) {
    let width = place.1 - 1;
    let digits = format!("{value:0width$o}");
    let digits = if digits.len() > width { "0".repeat(width) } else { digits };
    put(block, place, digits.as_bytes());
}
