//! Multipart uploads of the in-memory store: begin, parts, complete, abort.
//!
//! Completing twice answers `NoSuchUpload`, the harsher of the two answers real stores give: a
//! client whose answer was lost has to look for the key itself.

use std::collections::BTreeMap;

use base64::prelude::{BASE64_STANDARD, Engine as _};
use bytes::Bytes;
use s3s::crypto::{Checksum as _, Md5};
use s3s::dto::{Checksum, CompleteMultipartUploadInput, CompletedPart};
use s3s::{S3Result, s3_error};

use super::body::{hasher, hex, named, sums_of};
use super::state::{Conditions, State, Stored};

/// An upload that was begun and neither completed nor aborted.
pub struct Upload {
    /// Where it will go.
    pub bucket: String,
    /// Where it will go.
    pub key: String,
    /// Metadata and content type for the finished object.
    pub template: Stored,
    /// Parts by number; a part sent again replaces the one before.
    pub parts: BTreeMap<i32, Stored>,
}

impl State {
    /// Opens an upload and returns its id.
    pub fn begin_upload(&mut self, bucket: &str, key: &str, template: Stored) -> S3Result<String> {
        self.bucket(bucket)?;
        self.uploads_begun += 1;
        let id = format!("upload-{:08}", self.uploads_begun);
        let upload =
            Upload { bucket: bucket.to_owned(), key: key.to_owned(), template, parts: BTreeMap::new() };
        self.uploads.insert(id.clone(), upload);
        Ok(id)
    }

    /// The open upload `id`, if it is one of `bucket` and `key`.
    pub fn upload(&mut self, bucket: &str, key: &str, id: &str) -> S3Result<&mut Upload> {
        self.uploads
            .get_mut(id)
            .filter(|upload| upload.bucket == bucket && upload.key == key)
            .ok_or_else(|| s3_error!(NoSuchUpload))
    }

    /// Stores one part.
    pub fn put_part(&mut self, place: (&str, &str, &str), number: i32, part: Stored) -> S3Result<()> {
        if !(1..=10_000).contains(&number) {
            return Err(s3_error!(InvalidArgument, "part numbers go from 1 to 10000"));
        }
        self.upload(place.0, place.1, place.2)?.parts.insert(number, part);
        Ok(())
    }

    /// Joins the named parts into one object and stores it.
    pub fn complete_upload(&mut self, input: &CompleteMultipartUploadInput) -> S3Result<Stored> {
        let part_min_bytes = self.rules.part_min_bytes;
        let upload = self.upload(&input.bucket, &input.key, &input.upload_id)?;
        let named = input.multipart_upload.as_ref().and_then(|upload| upload.parts.as_ref());
        let parts = upload.chosen(named.map_or(&[], Vec::as_slice), part_min_bytes)?;
        let mut whole = join(&parts, upload.template.clone());
        check_whole(input, &parts, &mut whole)?;
        let conditions =
            Conditions { if_match: input.if_match.clone(), if_none_match: input.if_none_match.clone() };
        self.put(&input.bucket, &input.key, &conditions, whole.clone())?;
        self.uploads.remove(&input.upload_id);
        Ok(whole)
    }

    /// Drops an upload and its parts.
    pub fn abort_upload(&mut self, bucket: &str, key: &str, id: &str) -> S3Result<()> {
        self.upload(bucket, key, id)?;
        self.uploads.remove(id);
        Ok(())
    }
}

impl Upload {
    fn chosen(&self, named: &[CompletedPart], part_min_bytes: usize) -> S3Result<Vec<Stored>> {
        if named.is_empty() {
            return Err(s3_error!(MalformedXML, "no parts named"));
        }
        let numbers: Vec<i32> = named.iter().map(|part| part.part_number.unwrap_or(0)).collect();
        if !numbers.is_sorted_by(|a, b| a < b) {
            return Err(s3_error!(InvalidPartOrder));
        }
        let parts: Vec<Stored> = named.iter().map(|part| self.matching(part)).collect::<S3Result<_>>()?;
        let all_but_last = &parts[..parts.len() - 1];
        if all_but_last.iter().any(|part| part.bytes.len() < part_min_bytes) {
            return Err(s3_error!(EntityTooSmall));
        }
        Ok(parts)
    }

    /// The stored part that `said` names, if its ETag and checksums are the recorded ones.
    fn matching(&self, said: &CompletedPart) -> S3Result<Stored> {
        let number = said.part_number.unwrap_or(0);
        let part = self.parts.get(&number).ok_or_else(|| s3_error!(InvalidPart))?;
        let same_etag = said.e_tag.as_ref().is_some_and(|etag| etag.value() == part.etag);
        let said_sums = sums_of!(said);
        let same_sums = named(&said_sums)
            .iter()
            .zip(named(&part.sums))
            .all(|((_, said), (_, is))| said.is_none() || *said == is);
        if same_etag && same_sums { Ok(part.clone()) } else { Err(s3_error!(InvalidPart)) }
    }
}

/// Joins parts as S3 does: the ETag is the MD5 of the parts' MD5s, with their number behind.
fn join(parts: &[Stored], template: Stored) -> Stored {
    let mut md5 = Md5::new();
    for part in parts {
        md5.update(&unhex(&part.etag));
    }
    let bytes: Vec<u8> = parts.iter().flat_map(|part| part.bytes.iter().copied()).collect();
    let etag = format!("{}-{}", hex(&md5.finalize()), parts.len());
    Stored { bytes: Bytes::from(bytes), etag, modified: std::time::SystemTime::now(), ..template }
}

fn unhex(text: &str) -> Vec<u8> {
    let digits = text.as_bytes().chunks_exact(2);
    digits.map(|pair| u8::from_str_radix(&String::from_utf8_lossy(pair), 16).expect("hex")).collect()
}

/// Checks size and checksums said of the whole, and records the checksums.
fn check_whole(input: &CompleteMultipartUploadInput, parts: &[Stored], whole: &mut Stored) -> S3Result<()> {
    if input.mpu_object_size.is_some_and(|size| size != whole.bytes.len() as i64) {
        return Err(s3_error!(InvalidRequest, "the size you specified did not match"));
    }
    let said = sums_of!(input);
    let composite = composite_sums(parts, &said);
    let mut hasher = hasher(|name| said_value(&said, name).is_some_and(|value| !value.contains('-')));
    hasher.update(&whole.bytes);
    let full = hasher.finalize();
    for (name, value) in named(&said) {
        let Some(value) = value else { continue };
        let actual = said_value(&full, name).or_else(|| said_value(&composite, name));
        if actual != Some(value) {
            return Err(s3_error!(BadDigest, "the {name} you specified did not match"));
        }
    }
    whole.sums = said;
    Ok(())
}

fn said_value<'s>(sums: &'s Checksum, name: &str) -> Option<&'s String> {
    named(sums).into_iter().find(|(one, _)| *one == name).and_then(|(_, value)| value)
}

/// The checksums of the parts' checksums, as `COMPOSITE` has them, for the algorithms in `said`.
fn composite_sums(parts: &[Stored], said: &Checksum) -> Checksum {
    let mut hasher = hasher(|name| said_value(said, name).is_some_and(|value| value.contains('-')));
    for part in parts {
        // Only one algorithm is in use in one upload, so all parts have the same one recorded.
        let recorded = named(&part.sums).into_iter().find_map(|(_, value)| value);
        hasher.update(&recorded.and_then(|sum| BASE64_STANDARD.decode(sum).ok()).unwrap_or_default());
    }
    let count = parts.len();
    let with_count = |sum: Option<String>| sum.map(|sum| format!("{sum}-{count}"));
    let sums = hasher.finalize();
    Checksum {
        checksum_crc32: with_count(sums.checksum_crc32),
        checksum_crc32c: with_count(sums.checksum_crc32c),
        checksum_crc64nvme: with_count(sums.checksum_crc64nvme),
        checksum_sha1: with_count(sums.checksum_sha1),
        checksum_sha256: with_count(sums.checksum_sha256),
        checksum_type: None,
    }
}

/// Changes a part as `S3Server::damage_a_part` says.
pub fn damage(part: &mut Stored) {
    let mut bytes = part.bytes.to_vec();
    bytes[0] ^= 1;
    let mut md5 = Md5::new();
    md5.update(&bytes);
    let mut hasher = hasher(|name| said_value(&part.sums, name).is_some());
    hasher.update(&bytes);
    (part.etag, part.sums, part.bytes) = (hex(&md5.finalize()), hasher.finalize(), Bytes::from(bytes));
}
