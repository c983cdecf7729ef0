//! Puts the in-memory store behind the `s3s` protocol crate: S3 requests in, `State` calls, answers out.
//!
//! Only what the product may call is here. Everything else answers 501 `NotImplemented`, which is
//! also what tells a test that the product calls something new.

use std::sync::{Arc, Mutex, MutexGuard};

use http::StatusCode;
use s3s::dto::*;
use s3s::{S3, S3Request, S3Response, S3Result, s3_error};

use super::body::{Claims, hex, named, receive, sums_of};
use super::state::{Conditions, Page, Query, State, Stored, quoted};

/// The `s3s` side of the server. Clones share one state.
#[derive(Clone, Default)]
pub struct Backend(Arc<Mutex<State>>);

impl Backend {
    /// Locks the state. A test that panicked with the lock held does not poison the server.
    pub fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

/// The claims of a PutObject or UploadPart request, and the request without its body's headers.
macro_rules! claims_of {
    ($request:expr) => {
        Claims {
            md5: $request.input.content_md5.clone(),
            sums: sums_of!($request.input),
            algorithm: $request.input.checksum_algorithm.clone(),
            headers: $request.headers.clone(),
            trailers: $request.trailing_headers.clone(),
        }
    };
}

macro_rules! conditions_of {
    ($input:expr) => {
        Conditions { if_match: $input.if_match.clone(), if_none_match: $input.if_none_match.clone() }
    };
}

fn answer<T>(output: T) -> S3Result<S3Response<T>> {
    Ok(S3Response::new(output))
}

fn no_content<T: Default>() -> S3Result<S3Response<T>> {
    Ok(S3Response::with_status(T::default(), StatusCode::NO_CONTENT))
}

#[async_trait::async_trait]
impl S3 for Backend {
    async fn create_bucket(
        &self,
        request: S3Request<CreateBucketInput>,
    ) -> S3Result<S3Response<CreateBucketOutput>> {
        self.state().create_bucket(&request.input.bucket)?;
        answer(CreateBucketOutput::default())
    }

    async fn head_bucket(
        &self,
        request: S3Request<HeadBucketInput>,
    ) -> S3Result<S3Response<HeadBucketOutput>> {
        self.state().bucket(&request.input.bucket)?;
        let bucket_region = self.state().rules.region.map(str::to_owned);
        answer(HeadBucketOutput { bucket_region, ..HeadBucketOutput::default() })
    }

    async fn put_object(&self, request: S3Request<PutObjectInput>) -> S3Result<S3Response<PutObjectOutput>> {
        let claims = claims_of!(request);
        let input = request.input;
        self.state().check_knows(named(&sums_of!(input)).iter().any(|(_, value)| value.is_some()))?;
        let conditions = conditions_of!(input);
        let mut stored = receive(input.body, claims).await?;
        (stored.metadata, stored.content_type) = (input.metadata, input.content_type);
        let output = PutObjectOutput {
            e_tag: quoted(&stored.etag),
            checksum_crc32: stored.sums.checksum_crc32.clone(),
            checksum_crc32c: stored.sums.checksum_crc32c.clone(),
            checksum_crc64nvme: stored.sums.checksum_crc64nvme.clone(),
            checksum_sha1: stored.sums.checksum_sha1.clone(),
            checksum_sha256: stored.sums.checksum_sha256.clone(),
            ..PutObjectOutput::default()
        };
        self.state().put(&input.bucket, &input.key, &conditions, stored)?;
        answer(output)
    }

    async fn get_object(&self, request: S3Request<GetObjectInput>) -> S3Result<S3Response<GetObjectOutput>> {
        let input = request.input;
        let stored = self.state().get(&input.bucket, &input.key, &conditions_of!(input))?;
        let size = stored.bytes.len() as u64;
        let ignored = self.state().rules.ignore_ranges;
        let range = input.range.filter(|_| !ignored).map(|range| range.check(size)).transpose()?;
        let (bytes, content_range) = match range {
            None => (stored.bytes.clone(), None),
            Some(range) => (
                stored.bytes.slice(range.start as usize..range.end as usize),
                Some(format!("bytes {}-{}/{size}", range.start, range.end - 1)),
            ),
        };
        let sums = if content_range.is_none() {
            asked_sums(input.checksum_mode, &stored)
        } else {
            Checksum::default()
        };
        answer(GetObjectOutput {
            content_length: Some(bytes.len() as i64),
            body: Some(StreamingBlob::from(s3s::Body::from(bytes))),
            content_range,
            accept_ranges: Some("bytes".to_owned()),
            e_tag: quoted(&stored.etag),
            metadata: stored.metadata,
            content_type: stored.content_type,
            last_modified: Some(Timestamp::from(stored.modified)),
            checksum_crc32: sums.checksum_crc32,
            checksum_crc32c: sums.checksum_crc32c,
            checksum_crc64nvme: sums.checksum_crc64nvme,
            checksum_sha1: sums.checksum_sha1,
            checksum_sha256: sums.checksum_sha256,
            ..GetObjectOutput::default()
        })
    }

    async fn head_object(
        &self,
        request: S3Request<HeadObjectInput>,
    ) -> S3Result<S3Response<HeadObjectOutput>> {
        let input = request.input;
        let stored = self.state().get(&input.bucket, &input.key, &conditions_of!(input))?;
        let sums = asked_sums(input.checksum_mode, &stored);
        answer(HeadObjectOutput {
            content_length: Some(stored.bytes.len() as i64),
            e_tag: quoted(&stored.etag),
            metadata: stored.metadata,
            content_type: stored.content_type,
            last_modified: Some(Timestamp::from(stored.modified)),
            checksum_crc32: sums.checksum_crc32,
            checksum_crc32c: sums.checksum_crc32c,
            checksum_crc64nvme: sums.checksum_crc64nvme,
            checksum_sha1: sums.checksum_sha1,
            checksum_sha256: sums.checksum_sha256,
            ..HeadObjectOutput::default()
        })
    }

    async fn delete_object(
        &self,
        request: S3Request<DeleteObjectInput>,
    ) -> S3Result<S3Response<DeleteObjectOutput>> {
        let input = request.input;
        let conditions = Conditions { if_match: input.if_match, if_none_match: None };
        self.state().delete(&input.bucket, &input.key, &conditions)?;
        no_content()
    }

    async fn delete_objects(
        &self,
        request: S3Request<DeleteObjectsInput>,
    ) -> S3Result<S3Response<DeleteObjectsOutput>> {
        let mut output = DeleteObjectsOutput::default();
        let mut state = self.state();
        state.bucket(&request.input.bucket)?;
        for object in request.input.delete.objects {
            match state.delete(&request.input.bucket, &object.key, &Conditions::default()) {
                Ok(()) => output
                    .deleted
                    .get_or_insert_default()
                    .push(DeletedObject { key: Some(object.key), ..DeletedObject::default() }),
                Err(error) => output.errors.get_or_insert_default().push(Error {
                    key: Some(object.key),
                    code: Some(error.code().as_str().to_owned()),
                    ..Error::default()
                }),
            }
        }
        answer(output)
    }

    async fn list_objects_v2(
        &self,
        request: S3Request<ListObjectsV2Input>,
    ) -> S3Result<S3Response<ListObjectsV2Output>> {
        let input = request.input;
        if input.encoding_type.is_some() {
            return Err(s3_error!(NotImplemented, "encoding-type"));
        }
        let query = Query {
            prefix: input.prefix.clone().unwrap_or_default(),
            delimiter: input.delimiter.clone().filter(|delimiter| !delimiter.is_empty()),
            start_after: input.start_after.clone(),
            resume_after: input.continuation_token.as_deref().map(open_token).transpose()?,
            max: usize::try_from(input.max_keys.unwrap_or(1000)).map_err(|_| s3_error!(InvalidArgument))?,
        };
        let page = self.state().list(&input.bucket, &query)?;
        answer(list_answer(input, page))
    }

    async fn create_multipart_upload(
        &self,
        request: S3Request<CreateMultipartUploadInput>,
    ) -> S3Result<S3Response<CreateMultipartUploadOutput>> {
        let input = request.input;
        self.state().check_knows(input.checksum_algorithm.is_some())?;
        let template =
            Stored { metadata: input.metadata, content_type: input.content_type, ..Stored::default() };
        let id = self.state().begin_upload(&input.bucket, &input.key, template)?;
        answer(CreateMultipartUploadOutput {
            bucket: Some(input.bucket),
            key: Some(input.key),
            upload_id: Some(id),
            checksum_algorithm: input.checksum_algorithm,
            checksum_type: input.checksum_type,
            ..CreateMultipartUploadOutput::default()
        })
    }

    async fn upload_part(
        &self,
        request: S3Request<UploadPartInput>,
    ) -> S3Result<S3Response<UploadPartOutput>> {
        let claims = claims_of!(request);
        let input = request.input;
        let part = receive(input.body, claims).await?;
        let output = UploadPartOutput {
            e_tag: quoted(&part.etag),
            checksum_crc32: part.sums.checksum_crc32.clone(),
            checksum_crc32c: part.sums.checksum_crc32c.clone(),
            checksum_crc64nvme: part.sums.checksum_crc64nvme.clone(),
            checksum_sha1: part.sums.checksum_sha1.clone(),
            checksum_sha256: part.sums.checksum_sha256.clone(),
            ..UploadPartOutput::default()
        };
        let place = (input.bucket.as_str(), input.key.as_str(), input.upload_id.as_str());
        self.state().put_part(place, input.part_number, part)?;
        answer(output)
    }

    async fn complete_multipart_upload(
        &self,
        request: S3Request<CompleteMultipartUploadInput>,
    ) -> S3Result<S3Response<CompleteMultipartUploadOutput>> {
        let input = request.input;
        let whole = self.state().complete_upload(&input)?;
        answer(CompleteMultipartUploadOutput {
            bucket: Some(input.bucket),
            key: Some(input.key),
            e_tag: quoted(&whole.etag),
            checksum_crc64nvme: whole.sums.checksum_crc64nvme,
            checksum_sha256: whole.sums.checksum_sha256,
            ..CompleteMultipartUploadOutput::default()
        })
    }

    async fn abort_multipart_upload(
        &self,
        request: S3Request<AbortMultipartUploadInput>,
    ) -> S3Result<S3Response<AbortMultipartUploadOutput>> {
        let input = request.input;
        self.state().abort_upload(&input.bucket, &input.key, &input.upload_id)?;
        no_content()
    }

    async fn list_parts(&self, request: S3Request<ListPartsInput>) -> S3Result<S3Response<ListPartsOutput>> {
        let input = request.input;
        let mut state = self.state();
        let hidden = state.rules.hide_part_checksums;
        let max = state.rules.page_max.min(input.max_parts.unwrap_or(1000) as usize);
        let after = input.part_number_marker.unwrap_or(0);
        let upload = state.upload(&input.bucket, &input.key, &input.upload_id)?;
        let rest: Vec<_> = upload.parts.range(after + 1..).collect();
        let shown = &rest[..rest.len().min(max)];
        let parts = shown.iter().map(|(number, stored)| Part {
            part_number: Some(**number),
            size: Some(stored.bytes.len() as i64),
            e_tag: quoted(&stored.etag),
            last_modified: Some(Timestamp::from(stored.modified)),
            checksum_crc32: stored.sums.checksum_crc32.clone().filter(|_| !hidden),
            checksum_sha256: stored.sums.checksum_sha256.clone().filter(|_| !hidden),
            ..Part::default()
        });
        let more = shown.len() < rest.len();
        answer(ListPartsOutput {
            parts: Some(parts.collect()),
            is_truncated: Some(more),
            next_part_number_marker: shown.last().filter(|_| more).map(|(number, _)| **number),
            upload_id: Some(input.upload_id),
            bucket: Some(input.bucket),
            key: Some(input.key),
            ..ListPartsOutput::default()
        })
    }

    async fn list_multipart_uploads(
        &self,
        request: S3Request<ListMultipartUploadsInput>,
    ) -> S3Result<S3Response<ListMultipartUploadsOutput>> {
        let input = request.input;
        let state = self.state();
        state.bucket(&input.bucket)?;
        let prefix = input.prefix.clone().unwrap_or_default();
        let mut uploads: Vec<_> = state
            .uploads
            .iter()
            .filter(|(_, upload)| upload.bucket == input.bucket && upload.key.starts_with(&prefix))
            .collect();
        uploads.sort_by_key(|(id, upload)| (upload.key.clone(), (*id).clone()));
        let uploads = uploads.into_iter().map(|(id, upload)| MultipartUpload {
            upload_id: Some(id.clone()),
            key: Some(upload.key.clone()),
            initiated: Some(Timestamp::from(upload.template.modified)),
            ..MultipartUpload::default()
        });
        answer(ListMultipartUploadsOutput {
            uploads: Some(uploads.collect()),
            bucket: Some(input.bucket),
            prefix: input.prefix,
            is_truncated: Some(false),
            ..ListMultipartUploadsOutput::default()
        })
    }
}

/// The recorded checksums, if the client asked for them with `x-amz-checksum-mode: ENABLED`.
fn asked_sums(mode: Option<ChecksumMode>, stored: &Stored) -> Checksum {
    let asked = mode.is_some_and(|mode| mode.as_str() == ChecksumMode::ENABLED);
    if asked { stored.sums.clone() } else { Checksum::default() }
}

fn list_answer(input: ListObjectsV2Input, page: Page) -> ListObjectsV2Output {
    let contents = page.objects.iter().map(|(key, stored)| Object {
        key: Some(key.clone()),
        size: Some(stored.bytes.len() as i64),
        e_tag: quoted(&stored.etag),
        last_modified: Some(Timestamp::from(stored.modified)),
        ..Object::default()
    });
    let prefixes = page.prefixes.iter().map(|prefix| CommonPrefix { prefix: Some(prefix.clone()) });
    ListObjectsV2Output {
        key_count: Some(page.len() as i32),
        contents: Some(contents.collect()),
        common_prefixes: Some(prefixes.collect()),
        is_truncated: Some(page.resume_after.is_some()),
        next_continuation_token: page.resume_after.as_deref().map(seal_token),
        continuation_token: input.continuation_token,
        max_keys: Some(input.max_keys.unwrap_or(1000)),
        delimiter: input.delimiter,
        start_after: input.start_after,
        prefix: input.prefix,
        name: Some(input.bucket),
        ..ListObjectsV2Output::default()
    }
}

/// Tokens are opaque on S3: this one cannot be mistaken for a key.
fn seal_token(name: &str) -> String {
    format!("1{}", hex(name.as_bytes()))
}

fn open_token(token: &str) -> S3Result<String> {
    let wrong = || s3_error!(InvalidArgument, "the continuation token is not one of ours");
    let digits = token.strip_prefix('1').filter(|rest| rest.len() % 2 == 0).ok_or_else(wrong)?;
    let pairs = (0..digits.len()).step_by(2).map(|at| digits.get(at..at + 2));
    let bytes: Option<Vec<u8>> = pairs.map(|pair| u8::from_str_radix(pair?, 16).ok()).collect();
    bytes.and_then(|bytes| String::from_utf8(bytes).ok()).ok_or_else(wrong)
}
