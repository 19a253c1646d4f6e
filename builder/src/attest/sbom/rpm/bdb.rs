//! As much of Berkeley DB's hash files as it takes to read the values in one: `Packages`, as RHEL up to 8 has it.
//! (Berkeley DB's `src/dbinc/db_page.h`.)
//!
//! ```text
//! page 0:         …, number at 8, magic at 12, page size at 20, encryption at 24, type at 25, last page at 32
//! other pages:    …, number at 8, next page at 16, entries at 20, end of the data at 22, level, type at 25
//! a hash page:    offsets of keys and values by turns, from 26 on; the items themselves from the end of the page down
//! an item:        a byte for its kind; then the bytes, or 3 of nothing, the first page of a chain, and the length
//! ```
//!
//! Buckets and order do not matter, so all pages are looked at in their order. The file is in the byte order of the
//! machine that wrote it, and it is anybody's: values together are no longer than it, and what does not fit makes all of
//! it unreadable.

const MAGIC: u32 = 0x0006_1561;
const META: u8 = 8;
const HASH: u8 = 13;
const HASH_UNSORTED: u8 = 2;
const OVERFLOW: u8 = 7;
const PAGE_HEAD: usize = 26;
const IN_PAGE: u8 = 1;
const IN_CHAIN: u8 = 3;

/// Whether a file is such a database.
pub(super) fn is_one(bytes: &[u8]) -> bool {
    File::open(bytes).is_some()
}

/// The values, in no order.
pub(super) fn values(bytes: &[u8]) -> Option<Vec<Vec<u8>>> {
    let file = File::open(bytes)?;
    let (mut values, mut total) = (Vec::new(), 0_usize);
    for number in 1..=file.usize_at(bytes, 32)? {
        let page = file.page(number)?;
        if !matches!(page[25], HASH | HASH_UNSORTED) {
            continue;
        }
        let offsets = file.offsets(page)?;
        for (nth, begin) in offsets.iter().enumerate().skip(1).step_by(2) {
            // Each item ends where the one before it begins.
            let value = file.value(page.get(*begin..offsets[nth - 1])?, bytes.len() - total)?;
            total += value.len();
            values.push(value);
        }
    }
    Some(values)
}

struct File<'a> {
    bytes: &'a [u8],
    is_little: bool,
    page_bytes: usize,
}

impl<'a> File<'a> {
    fn open(bytes: &'a [u8]) -> Option<File<'a>> {
        let is_little = match <[u8; 4]>::try_from(bytes.get(12..16)?).ok()? {
            magic if u32::from_le_bytes(magic) == MAGIC => true,
            magic if u32::from_be_bytes(magic) == MAGIC => false,
            _ => return None,
        };
        let file = File { bytes, is_little, page_bytes: 0 };
        let page_bytes = file.usize_at(bytes, 20)?;
        let is_plain = bytes.get(24..26)? == [0, META];
        let is_sound = page_bytes.is_power_of_two() && (512..=65536).contains(&page_bytes);
        (is_plain && is_sound).then_some(File { page_bytes, ..file })
    }

    fn page(&self, number: usize) -> Option<&'a [u8]> {
        let begin = number.checked_mul(self.page_bytes)?;
        self.bytes.get(begin..begin.checked_add(self.page_bytes)?)
    }

    fn offsets(&self, page: &[u8]) -> Option<Vec<usize>> {
        let count = usize::from(self.u16_at(page, 20)?);
        (0..count).map(|nth| Some(usize::from(self.u16_at(page, PAGE_HEAD + 2 * nth)?))).collect()
    }

    fn value(&self, item: &[u8], limit_bytes: usize) -> Option<Vec<u8>> {
        let (kind, rest) = item.split_first()?;
        match *kind {
            IN_PAGE => (rest.len() <= limit_bytes).then(|| rest.to_vec()),
            IN_CHAIN => self.chain(self.usize_at(item, 4)?, self.usize_at(item, 8)?, limit_bytes),
            _ => None,
        }
    }

    fn chain(&self, first: usize, length: usize, limit_bytes: usize) -> Option<Vec<u8>> {
        if length > limit_bytes {
            return None;
        }
        let mut value = Vec::with_capacity(length);
        let mut number = first;
        while value.len() < length {
            let page = self.page(number)?;
            let count = usize::from(self.u16_at(page, 22)?);
            // A page without bytes would be the first of endlessly many.
            if page[25] != OVERFLOW || count == 0 {
                return None;
            }
            value.extend_from_slice(page.get(PAGE_HEAD..PAGE_HEAD + count)?);
            number = self.usize_at(page, 16)?;
        }
        (value.len() == length).then_some(value)
    }

    fn u16_at(&self, bytes: &[u8], at: usize) -> Option<u16> {
        let number = bytes.get(at..at.checked_add(2)?)?.try_into().ok()?;
        Some(if self.is_little { u16::from_le_bytes(number) } else { u16::from_be_bytes(number) })
    }

    fn usize_at(&self, bytes: &[u8], at: usize) -> Option<usize> {
        let number = bytes.get(at..at.checked_add(4)?)?.try_into().ok()?;
        let number = if self.is_little { u32::from_le_bytes(number) } else { u32::from_be_bytes(number) };
        usize::try_from(number).ok()
    }
}
