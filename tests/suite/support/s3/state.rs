//! The strict in-memory store behind the test server: buckets, objects, listings, conditions.
//!
//! Plain data and plain functions. The caller holds one lock around each call, so that a condition
//! and the write it guards are one step. Multipart uploads are in `uploads`.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::time::SystemTime;

use bytes::Bytes;
use s3s::dto::{Checksum, ETag, ETagCondition, Metadata};
use s3s::{S3Error, S3Result, s3_error};

use super::uploads::Upload;

/// One stored object.
#[derive(Clone)]
pub struct Stored {
    /// What a GET answers.
    pub bytes: Bytes,
    /// Without quotes.
    pub etag: String,
    /// The checksums recorded when it was uploaded. Damage done by a test does not change them.
    pub sums: Checksum,
    /// `x-amz-meta-*`.
    pub metadata: Option<Metadata>,
    /// `Content-Type`.
    pub content_type: Option<String>,
    /// When it was stored.
    pub modified: SystemTime,
}

impl Default for Stored {
    fn default() -> Self {
        Stored {
            bytes: Bytes::new(),
            etag: String::new(),
            sums: Checksum::default(),
            metadata: None,
            content_type: None,
            modified: SystemTime::now(),
        }
    }
}

/// How this server departs from plain S3.
#[derive(Clone, Copy)]
pub struct Rules {
    /// Answer 200 to conditional requests without looking at the condition, as Garage does.
    pub ignore_conditions: bool,
    /// Refuse DELETE, and PUT of other bytes under an existing key, with 403.
    pub append_only: bool,
    /// Answer the whole object where a range is asked for.
    pub ignore_ranges: bool,
    /// Refuse requests with checksums, as older services do.
    pub refuse_checksums: bool,
    /// Tell no checksums of parts that were sent.
    pub hide_part_checksums: bool,
    /// Let everybody read and list.
    pub public: bool,
    /// Let everybody do everything.
    pub open: bool,
    /// The region that the bucket is in, told to whoever asks for the bucket's head.
    pub region: Option<&'static str>,
    /// Most entries in one page of a listing.
    pub page_max: usize,
    /// Least size of every part but the last.
    pub part_min_bytes: usize,
}

impl Default for Rules {
    fn default() -> Self {
        Rules {
            ignore_conditions: false,
            append_only: false,
            ignore_ranges: false,
            refuse_checksums: false,
            hide_part_checksums: false,
            public: false,
            open: false,
            region: None,
            page_max: 1000,
            part_min_bytes: 5 << 20,
        }
    }
}

/// The objects of one bucket, in key order.
pub type Objects = BTreeMap<String, Stored>;

/// Everything the server holds.
#[derive(Default)]
pub struct State {
    /// Buckets by name.
    pub buckets: BTreeMap<String, Objects>,
    /// Open multipart uploads by id.
    pub uploads: BTreeMap<String, Upload>,
    /// How many uploads were ever begun; makes their ids.
    pub uploads_begun: u64,
    /// How this server departs from plain S3.
    pub rules: Rules,
    /// What `Rules::append_only` refused: `DELETE key` or `PUT key`.
    pub refused: Vec<String>,
    /// What listings show of all buckets, where they lag behind.
    pub listed: Option<BTreeMap<String, Objects>>,
}

/// The conditions of one request.
#[derive(Clone, Default)]
pub struct Conditions {
    /// `If-Match`.
    pub if_match: Option<ETagCondition>,
    /// `If-None-Match`.
    pub if_none_match: Option<ETagCondition>,
}

impl Conditions {
    /// Fails if a write over `current` is not allowed.
    fn check_write(&self, current: Option<&Stored>) -> S3Result<()> {
        match (&self.if_none_match, current) {
            (Some(ETagCondition::ETag(_)), _) => {
                return Err(s3_error!(NotImplemented, "If-None-Match takes only * here"));
            }
            (Some(ETagCondition::Any), Some(_)) => {
                return Err(s3_error!(PreconditionFailed, "the key exists"));
            }
            _ => {}
        }
        match (&self.if_match, current) {
            (Some(_), None) => Err(s3_error!(NoSuchKey)),
            (Some(condition), Some(stored)) => matches_etag(condition, stored),
            (None, _) => Ok(()),
        }
    }

    /// Fails if a read of `stored` is not wanted.
    fn check_read(&self, stored: &Stored) -> S3Result<()> {
        if let Some(condition) = &self.if_match {
            matches_etag(condition, stored)?;
        }
        match &self.if_none_match {
            Some(condition) if matches_etag(condition, stored).is_ok() => Err(s3_error!(NotModified)),
            _ => Ok(()),
        }
    }
}

fn matches_etag(condition: &ETagCondition, stored: &Stored) -> S3Result<()> {
    match condition.as_etag() {
        Some(etag) if etag.value() != stored.etag => Err(s3_error!(PreconditionFailed, "the ETag differs")),
        _ => Ok(()),
    }
}

/// Quotes an ETag for an answer.
pub fn quoted(etag: &str) -> Option<ETag> {
    Some(ETag::Strong(etag.to_owned()))
}

impl State {
    /// Refuses what has checksums, if that is the rule.
    pub fn check_knows(&self, has_checksums: bool) -> S3Result<()> {
        if has_checksums && self.rules.refuse_checksums {
            return Err(s3_error!(NotImplemented, "the header x-amz-checksum-… is not implemented"));
        }
        Ok(())
    }

    /// Makes an empty bucket.
    pub fn create_bucket(&mut self, name: &str) -> S3Result<()> {
        if self.buckets.contains_key(name) {
            return Err(s3_error!(BucketAlreadyOwnedByYou));
        }
        self.buckets.insert(name.to_owned(), Objects::new());
        Ok(())
    }

    /// The objects of a bucket, or `NoSuchBucket`.
    pub fn bucket(&self, name: &str) -> S3Result<&Objects> {
        self.buckets.get(name).ok_or_else(|| s3_error!(NoSuchBucket))
    }

    fn bucket_mut(&mut self, name: &str) -> S3Result<&mut Objects> {
        self.buckets.get_mut(name).ok_or_else(|| s3_error!(NoSuchBucket))
    }

    /// Reads one object.
    pub fn get(&self, bucket: &str, key: &str, conditions: &Conditions) -> S3Result<Stored> {
        let stored = self.bucket(bucket)?.get(key).ok_or_else(|| s3_error!(NoSuchKey))?;
        if !self.rules.ignore_conditions {
            conditions.check_read(stored)?;
        }
        Ok(stored.clone())
    }

    /// Stores one object if its conditions and the rules allow it.
    pub fn put(&mut self, bucket: &str, key: &str, conditions: &Conditions, new: Stored) -> S3Result<()> {
        let current = self.bucket(bucket)?.get(key);
        if !self.rules.ignore_conditions {
            conditions.check_write(current)?;
        }
        let overwrites = current.is_some_and(|current| current.bytes != new.bytes);
        if overwrites && self.rules.append_only {
            return Err(self.refuse("PUT", key));
        }
        self.bucket_mut(bucket)?.insert(key.to_owned(), new);
        Ok(())
    }

    /// Removes one object; removing what is not there succeeds, as on S3.
    pub fn delete(&mut self, bucket: &str, key: &str, conditions: &Conditions) -> S3Result<()> {
        let current = self.bucket(bucket)?.get(key);
        if let Some(current) = current.filter(|_| !self.rules.ignore_conditions) {
            conditions.check_write(Some(current))?;
        }
        if self.rules.append_only {
            return Err(self.refuse("DELETE", key));
        }
        self.bucket_mut(bucket)?.remove(key);
        Ok(())
    }

    fn refuse(&mut self, verb: &str, key: &str) -> S3Error {
        self.refused.push(format!("{verb} {key}"));
        s3_error!(AccessDenied, "this store is append-only")
    }

    /// Answers one page of a listing.
    pub fn list(&self, bucket: &str, query: &Query) -> S3Result<Page> {
        let buckets = self.listed.as_ref().unwrap_or(&self.buckets);
        let objects = buckets.get(bucket).ok_or_else(|| s3_error!(NoSuchBucket))?;
        let max = query.max.min(self.rules.page_max);
        let mut page = Page::default();
        let mut last: Option<&str> = None;
        for (key, stored) in objects.range::<str, _>((query.first_key(), Bound::Unbounded)) {
            if !key.starts_with(&query.prefix) {
                break;
            }
            let name = query.rolled_up(key);
            if query.is_behind(key, name) || last == Some(name) {
                continue;
            }
            if page.len() == max {
                page.resume_after = last.map(str::to_owned);
                break;
            }
            last = Some(name);
            page.push(key, name, stored);
        }
        Ok(page)
    }
}

/// What a listing asks for.
#[derive(Default)]
pub struct Query {
    /// Only keys that start with this.
    pub prefix: String,
    /// Keys with this behind the prefix are rolled up into one common prefix.
    pub delimiter: Option<String>,
    /// Only keys behind this one.
    pub start_after: Option<String>,
    /// The last name of the page before.
    pub resume_after: Option<String>,
    /// Most entries wanted.
    pub max: usize,
}

impl Query {
    fn first_key(&self) -> Bound<&str> {
        let after = self.resume_after.as_deref().max(self.start_after.as_deref());
        match after {
            Some(after) if after >= self.prefix.as_str() => Bound::Excluded(after),
            _ => Bound::Included(self.prefix.as_str()),
        }
    }

    /// The name under which `key` is listed: itself, or its common prefix.
    fn rolled_up<'k>(&self, key: &'k str) -> &'k str {
        let rest = &key[self.prefix.len()..];
        let end = self.delimiter.as_deref().and_then(|d| rest.find(d).map(|at| at + d.len()));
        end.map_or(key, |end| &key[..self.prefix.len() + end])
    }

    fn is_behind(&self, key: &str, name: &str) -> bool {
        self.start_after.as_deref().is_some_and(|after| key <= after)
            || self.resume_after.as_deref().is_some_and(|after| name <= after)
    }
}

/// One page of a listing.
#[derive(Default)]
pub struct Page {
    /// Keys and what is under them.
    pub objects: Vec<(String, Stored)>,
    /// Common prefixes.
    pub prefixes: Vec<String>,
    /// Where the next page starts, if there is one.
    pub resume_after: Option<String>,
}

impl Page {
    /// Number of entries.
    pub fn len(&self) -> usize {
        self.objects.len() + self.prefixes.len()
    }

    fn push(&mut self, key: &str, name: &str, stored: &Stored) {
        if key == name {
            self.objects.push((key.to_owned(), stored.clone()));
        } else {
            self.prefixes.push(name.to_owned());
        }
    }
}
