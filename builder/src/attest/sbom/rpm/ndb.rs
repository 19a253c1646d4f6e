//! rpm's own database, `Packages.db`, as SUSE has it: slots, and the blobs that they point to.
//! (rpm's `lib/backend/ndb/rpmpkg.c`.)
//!
//! ```text
//! RpmP, version 0, generation, pages of slots, next package    32 bytes
//! slots: Slot, package, offset of the blob in blocks of 16, blocks
//! blob:  BlbS, package, generation, length; the header; checksum, length, BlbE
//! ```
//!
//! All numbers are little-endian. The file is anybody's: blobs together are no longer than it, and what does not fit
//! makes all of it unreadable.

const MAGIC: &[u8] = b"RpmP";
const SLOT: usize = 16;
const SLOTS_IN_PAGE: usize = 4096 / SLOT;
/// The first slots are the file's header.
const FIRST_SLOT: usize = 2;
const BLOCK: usize = 16;
const BLOB_HEAD: usize = 16;

/// Whether a file is such a database.
pub(super) fn is_one(bytes: &[u8]) -> bool {
    bytes.starts_with(MAGIC)
}

/// The headers of all packages.
pub(super) fn headers(bytes: &[u8]) -> Option<Vec<Vec<u8>>> {
    let version = u32_at(bytes, 4)?;
    let slots = usize_at(bytes, 12)?.checked_mul(SLOTS_IN_PAGE)?;
    if version != 0 || slots.checked_mul(SLOT)? > bytes.len() {
        return None;
    }
    let (mut headers, mut total) = (Vec::new(), 0_usize);
    for at in (FIRST_SLOT..slots).map(|slot| slot * SLOT) {
        let (package, offset) = (u32_at(bytes, at + 4)?, usize_at(bytes, at + 8)?);
        if bytes.get(at..at + 4)? != b"Slot" {
            return None;
        }
        if offset == 0 {
            continue;
        }
        let blob = offset.checked_mul(BLOCK)?;
        let length = usize_at(bytes, blob.checked_add(12)?)?;
        total = total.checked_add(length)?.checked_add(BLOB_HEAD)?;
        if bytes.get(blob..blob + 4)? != b"BlbS" || u32_at(bytes, blob + 4)? != package || total > bytes.len()
        {
            return None;
        }
        headers.push(bytes.get(blob + BLOB_HEAD..(blob + BLOB_HEAD).checked_add(length)?)?.to_vec());
    }
    Some(headers)
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(bytes.get(at..at.checked_add(4)?)?.try_into().ok()?))
}

fn usize_at(bytes: &[u8], at: usize) -> Option<usize> {
    usize::try_from(u32_at(bytes, at)?).ok()
}
