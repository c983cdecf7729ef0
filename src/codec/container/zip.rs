//! ZIP, by its central directory: also JAR, APK, wheels, DOCX and XLSX, ZIP64 and self-extractors.

use memchr::memmem;

use super::scan::{Kind, Member, le};

const LOCAL: &[u8] = b"PK\x03\x04";
const CENTRAL: &[u8] = b"PK\x01\x02";
const END: &[u8] = b"PK\x05\x06";
const END64: &[u8] = b"PK\x06\x06";
const LOCATOR64: &[u8] = b"PK\x06\x07";
const END_BYTES: usize = 22;
const LOCATOR64_BYTES: usize = 20;
const LOCAL_BYTES: usize = 30;
const CENTRAL_BYTES: usize = 46;
const COMMENT_MAX: usize = 65535;
const ENCRYPTED: u64 = 1;
const DEFLATED: u64 = 8;

/// Returns the members a file's central directory lists; none when it has no directory.
pub fn members(bytes: &[u8]) -> Vec<Member> {
    directory(bytes).map(|directory| directory.members(bytes)).unwrap_or_default()
}

struct Directory {
    start: usize,
    end: usize,
    /// Bytes in front of the archive that its offsets do not count.
    prefix: usize,
}

fn directory(bytes: &[u8]) -> Option<Directory> {
    let last = bytes.len().checked_sub(END_BYTES)?;
    let first = last.saturating_sub(COMMENT_MAX);
    let end = first + memmem::rfind(&bytes[first..last + END.len()], END)?;
    directory64(bytes, end).or_else(|| {
        let (size, offset) = (le::<4>(bytes, end + 12)?, le::<4>(bytes, end + 16)?);
        bounded(end, size, offset)
    })
}

/// Follows the ZIP64 records in front of the end record, if there are any.
fn directory64(bytes: &[u8], end: usize) -> Option<Directory> {
    let locator = end.checked_sub(LOCATOR64_BYTES)?;
    bytes[locator..].starts_with(LOCATOR64).then_some(())?;
    let told = usize::try_from(le::<8>(bytes, locator + 8)?).ok()?;
    let usual = locator.checked_sub(56)?; // where it is when a prefix makes the offset wrong
    let is_record = |&at: &usize| bytes.get(at..).is_some_and(|rest| rest.starts_with(END64));
    let record = [told, usual].into_iter().find(is_record)?;
    bounded(record, le::<8>(bytes, record + 40)?, le::<8>(bytes, record + 48)?)
}

/// The directory ends where its end record starts.
fn bounded(end: usize, size: u64, offset: u64) -> Option<Directory> {
    let start = end.checked_sub(usize::try_from(size).ok()?)?;
    let prefix = start.checked_sub(usize::try_from(offset).ok()?)?;
    Some(Directory { start, end, prefix })
}

impl Directory {
    fn members(&self, bytes: &[u8]) -> Vec<Member> {
        let mut found = Vec::new();
        let mut at = self.start;
        while at + CENTRAL_BYTES <= self.end && bytes[at..].starts_with(CENTRAL) {
            found.extend(self.member(bytes, at));
            let tail: u64 = [28, 30, 32].iter().filter_map(|&field| le::<2>(bytes, at + field)).sum();
            at += CENTRAL_BYTES + tail as usize;
        }
        found
    }

    /// Reads the directory entry at `at` and the local header it points to.
    fn member(&self, bytes: &[u8], at: usize) -> Option<Member> {
        let (flags, method) = (le::<2>(bytes, at + 8)?, le::<2>(bytes, at + 10)?);
        let mut fields = [le::<4>(bytes, at + 24)?, le::<4>(bytes, at + 20)?, le::<4>(bytes, at + 42)?];
        widen(bytes, at, &mut fields);
        let [_, size, offset] = fields;
        let local = self.prefix.checked_add(usize::try_from(offset).ok()?)?;
        bytes.get(local..)?.starts_with(LOCAL).then_some(())?;
        let names = le::<2>(bytes, local + 26)? + le::<2>(bytes, local + 28)?;
        let start = local + LOCAL_BYTES + names as usize;
        let end = start.checked_add(usize::try_from(size).ok()?)?;
        let kind = match method {
            DEFLATED if flags & ENCRYPTED == 0 => Kind::Deflate,
            _ => Kind::Opaque,
        };
        (end <= bytes.len()).then_some(Member { range: start..end, kind })
    }
}

/// Replaces fields that are full by those of the ZIP64 extra field, in its order.
fn widen(bytes: &[u8], at: usize, fields: &mut [u64; 3]) -> Option<()> {
    let name = le::<2>(bytes, at + 28)? as usize;
    let extra = le::<2>(bytes, at + 30)? as usize;
    let mut at = at + CENTRAL_BYTES + name;
    let end = at + extra;
    while at + 4 <= end {
        let (id, size) = (le::<2>(bytes, at)?, le::<2>(bytes, at + 2)? as usize);
        at += 4;
        if id == 1 {
            let full = fields.iter_mut().filter(|field| **field == u64::from(u32::MAX));
            for (field, place) in full.zip((at..at + size).step_by(8)) {
                *field = le::<8>(bytes, place)?;
            }
            return Some(());
        }
        at += size;
    }
    None
}
