//! Uploads in parts, for files that are too large for one request.
//!
//! Nothing shows before the completion, and the completion waits until the file's SHA-256 was computed once
//! more beside the upload: no service checks it over parts.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use aws_sdk_s3::Client;
use aws_sdk_s3::primitives::{ByteStream, Length};
use aws_sdk_s3::types::{CompletedMultipartUpload, CompletedPart, RequestPayer};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use super::body::Sent;
use super::fault::Fault;
use super::{Error, Order, Result, S3Store, Verb, check_digest};
use crate::model::Key;
use crate::model::limits::{BUFFER_BYTES, PART_MIN_BYTES, PARTS_IN_FLIGHT};

/// The service's own bound; parts grow so that their number stays below.
const PARTS_MAX: u64 = 10_000;

/// How long a cancelled process waits for its parts to be given up.
const ABORT_PATIENCE: Duration = Duration::from_millis(500);

/// One upload in parts that has begun.
#[derive(Clone)]
struct Upload {
    client: Client,
    bucket: String,
    key: String,
    id: String,
    payer: Option<RequestPayer>,
}

impl S3Store {
    pub(super) async fn put_parts(
        &self,
        client: &Client,
        order: &Order<'_>,
        path: &Path,
        size: u64,
    ) -> Result<()> {
        let Order { key, body, .. } = *order;
        let upload = self.begin(client, order).await?;
        let sent = Sent::new(self.options.upload_pace.clone());
        let sending = sent.report(body.sent, upload.send_parts(key, path, size, &sent));
        let outcome = tokio::select! {
            outcome = sending => outcome,
            () = self.cancel.raised() => Err(Error::Cancelled),
        };
        let outcome = outcome.and_then(|parts| check_digest(key, body).map(|()| parts));
        match outcome {
            Ok(parts) => self.complete(&upload, order, parts).await,
            Err(error) => {
                // Whoever waits for the end of this process has no more than a second.
                let hurry = matches!(error, Error::Cancelled);
                upload.abort(if hurry { ABORT_PATIENCE } else { self.options.read_timeout }).await;
                Err(error)
            }
        }
    }

    async fn begin(&self, client: &Client, order: &Order<'_>) -> Result<Upload> {
        let Order { key, body, .. } = *order;
        let (bucket, full) = (self.location.bucket.clone(), self.location.full_key(key.as_str()));
        let payer = self.options.access.payer();
        let sent = client
            .create_multipart_upload()
            .bucket(&bucket)
            .key(&full)
            .set_server_side_encryption(self.options.keeping.encryption())
            .set_ssekms_key_id(self.options.keeping.kms_key())
            .set_content_type(order.content_type())
            .set_metadata(order.user_metadata())
            .set_storage_class(order.class.clone())
            .set_request_payer(payer.clone())
            .send()
            .await;
        let begun = sent.map_err(|error| {
            Fault::from(error).into_error(Verb::Put, key.as_str(), Some((key, body.digest)))
        })?;
        let id = begun.upload_id().map(str::to_owned).ok_or_else(|| Error::Unavailable {
            verb: Verb::Put,
            key: key.to_string(),
            reason: "the service began an upload without naming it".into(),
        })?;
        Ok(Upload { client: client.clone(), bucket, key: full, id, payer })
    }

    async fn complete(&self, upload: &Upload, order: &Order<'_>, parts: Vec<CompletedPart>) -> Result<()> {
        let parts = CompletedMultipartUpload::builder().set_parts(Some(parts)).build();
        let sent = upload
            .client
            .complete_multipart_upload()
            .bucket(&upload.bucket)
            .key(&upload.key)
            .upload_id(&upload.id)
            .multipart_upload(parts)
            .set_if_none_match(order.metadata.and_then(|_| self.condition(order)))
            .set_request_payer(upload.payer.clone())
            .send()
            .await;
        match sent.map_err(Fault::from) {
            Ok(_) => Ok(()),
            Err(fault) => self.settle(order, fault).await,
        }
    }
}

impl Upload {
    async fn send_parts(&self, key: &Key, path: &Path, size: u64, sent: &Sent) -> Result<Vec<CompletedPart>> {
        let part_size = PART_MIN_BYTES.max(size.div_ceil(PARTS_MAX));
        // Where a limit is the bottleneck, more connections would only be slower ones.
        let slots = if sent.is_limited() { 1 } else { PARTS_IN_FLIGHT };
        let slots = Arc::new(Semaphore::new(slots));
        let mut tasks = JoinSet::new();
        for (number, start) in (1..).zip((0..size).step_by(usize::try_from(part_size).unwrap_or(usize::MAX)))
        {
            let part = Part { number, start, length: part_size.min(size - start), path: path.to_owned() };
            let (upload, sent, slots, key) = (self.clone(), sent.clone(), Arc::clone(&slots), key.clone());
            tasks.spawn(async move {
                let _slot = slots.acquire_owned().await;
                upload.send_part(&key, part, &sent).await
            });
        }
        let mut parts = Vec::new();
        while let Some(done) = tasks.join_next().await {
            let failed = |error: tokio::task::JoinError| Error::Unavailable {
                verb: Verb::Put,
                key: key.to_string(),
                reason: error.to_string(),
            };
            // Dropping the set on the first error stops the other parts.
            parts.push(done.map_err(failed)??);
        }
        parts.sort_by_key(CompletedPart::part_number);
        Ok(parts)
    }

    async fn send_part(&self, key: &Key, part: Part, sent: &Sent) -> Result<CompletedPart> {
        let stream = ByteStream::read_from()
            .path(&part.path)
            .offset(part.start)
            .length(Length::Exact(part.length))
            .buffer_size(BUFFER_BYTES)
            .build()
            .await
            .map_err(|error| Error::from_io(Verb::Put, key.as_str(), std::io::Error::other(error)))?;
        let answer = self
            .client
            .upload_part()
            .bucket(&self.bucket)
            .key(&self.key)
            .upload_id(&self.id)
            .part_number(part.number)
            .set_request_payer(self.payer.clone())
            .content_length(i64::try_from(part.length).unwrap_or(i64::MAX))
            .body(sent.count(stream))
            .send()
            .await
            .map_err(|error| Fault::from(error).into_error(Verb::Put, key.as_str(), None))?;
        Ok(CompletedPart::builder()
            .part_number(part.number)
            .set_e_tag(answer.e_tag().map(str::to_owned))
            .set_checksum_crc32(answer.checksum_crc32().map(str::to_owned))
            .set_checksum_crc64_nvme(answer.checksum_crc64_nvme().map(str::to_owned))
            .build())
    }

    /// Gives the parts up. A failure costs space until the bucket's own rule for abandoned parts removes them.
    async fn abort(&self, patience: Duration) {
        let request = self.client.abort_multipart_upload();
        let request = request.bucket(&self.bucket).key(&self.key).upload_id(&self.id);
        let aborted = request.set_request_payer(self.payer.clone()).send();
        let aborted = tokio::time::timeout(patience, aborted).await;
        tracing::debug!(
            key = self.key,
            done = aborted.is_ok_and(|sent| sent.is_ok()),
            "gave up an upload in parts"
        );
    }
}

struct Part {
    number: i32,
    start: u64,
    length: u64,
    path: PathBuf,
}
