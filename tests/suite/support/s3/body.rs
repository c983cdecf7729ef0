//! Receives the body of one upload and checks every checksum that was claimed for it.
//!
//! A claim may come in a header or, behind an `aws-chunked` body, in a trailer. A trailer that was
//! announced and did not come is an error too: nothing unchecked is ever stored.

use base64::prelude::{BASE64_STANDARD, Engine as _};
use futures_util::TryStreamExt as _;
use http::HeaderMap;
use s3s::checksum::ChecksumHasher;
use s3s::crypto::{Checksum as _, Md5};
use s3s::dto::{Checksum, ChecksumAlgorithm, StreamingBlob};
use s3s::{S3Result, TrailingHeaders, s3_error};

use super::state::Stored;

/// Collects the five checksum fields of an s3s input or output.
macro_rules! sums_of {
    ($from:expr) => {
        s3s::dto::Checksum {
            checksum_crc32: $from.checksum_crc32.clone(),
            checksum_crc32c: $from.checksum_crc32c.clone(),
            checksum_crc64nvme: $from.checksum_crc64nvme.clone(),
            checksum_sha1: $from.checksum_sha1.clone(),
            checksum_sha256: $from.checksum_sha256.clone(),
            checksum_type: None,
        }
    };
}
pub(super) use sums_of;

/// What the client said about a body before or after it.
pub struct Claims {
    /// `Content-MD5`.
    pub md5: Option<String>,
    /// The `x-amz-checksum-*` headers.
    pub sums: Checksum,
    /// `x-amz-sdk-checksum-algorithm`.
    pub algorithm: Option<ChecksumAlgorithm>,
    /// All request headers, for `x-amz-trailer`.
    pub headers: HeaderMap,
    /// The trailers, there once the body was read.
    pub trailers: Option<TrailingHeaders>,
}

/// Names and values of a set of checksums, in a fixed order.
pub fn named(sums: &Checksum) -> [(&'static str, Option<&String>); 5] {
    [
        ("CRC32", sums.checksum_crc32.as_ref()),
        ("CRC32C", sums.checksum_crc32c.as_ref()),
        ("CRC64NVME", sums.checksum_crc64nvme.as_ref()),
        ("SHA1", sums.checksum_sha1.as_ref()),
        ("SHA256", sums.checksum_sha256.as_ref()),
    ]
}

/// Makes a hasher for the algorithms that `wanted` says yes to.
pub fn hasher(wanted: impl Fn(&str) -> bool) -> ChecksumHasher {
    ChecksumHasher {
        crc32: wanted("CRC32").then(Default::default),
        crc32c: wanted("CRC32C").then(Default::default),
        crc64nvme: wanted("CRC64NVME").then(Default::default),
        sha1: wanted("SHA1").then(Default::default),
        sha256: wanted("SHA256").then(Default::default),
    }
}

/// Lower-case hexadecimal, as ETags have it.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Reads `body` to its end and returns it as a stored object, or the error for the first claim
/// that does not hold.
pub async fn receive(body: Option<StreamingBlob>, claims: Claims) -> S3Result<Stored> {
    let announced = announced_trailers(&claims.headers);
    let mut hasher = hasher(|name| claims.wants(name, &announced));
    let mut md5 = Md5::new();
    let mut bytes = Vec::new();
    if let Some(mut body) = body {
        while let Some(piece) = read_piece(&mut body).await? {
            hasher.update(&piece);
            md5.update(&piece);
            bytes.extend_from_slice(&piece);
        }
    }
    let md5 = md5.finalize();
    let sums = hasher.finalize();
    claims.check(&sums, &announced)?;
    if claims.md5.is_some_and(|said| said != BASE64_STANDARD.encode(md5)) {
        return Err(s3_error!(BadDigest, "Content-MD5 does not match the body"));
    }
    Ok(Stored { bytes: bytes.into(), etag: hex(&md5), sums, ..Stored::default() })
}

async fn read_piece(body: &mut StreamingBlob) -> S3Result<Option<bytes::Bytes>> {
    body.try_next().await.map_err(|error| s3_error!(IncompleteBody, "{error}"))
}

/// The algorithms named by `x-amz-trailer: x-amz-checksum-…`.
fn announced_trailers(headers: &HeaderMap) -> Vec<String> {
    headers
        .get_all("x-amz-trailer")
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter_map(|name| {
            name.trim().to_ascii_lowercase().strip_prefix("x-amz-checksum-").map(str::to_uppercase)
        })
        .collect()
}

impl Claims {
    fn wants(&self, name: &str, announced: &[String]) -> bool {
        self.algorithm.as_ref().is_some_and(|algorithm| algorithm.as_str() == name)
            || announced.iter().any(|one| one == name)
            || named(&self.sums).iter().any(|(one, value)| *one == name && value.is_some())
    }

    fn check(&self, computed: &Checksum, announced: &[String]) -> S3Result<()> {
        let trailers = self.trailers.as_ref().and_then(TrailingHeaders::take).unwrap_or_default();
        let computed = named(computed);
        for ((name, in_header), (_, actual)) in named(&self.sums).iter().zip(computed) {
            let header = format!("x-amz-checksum-{}", name.to_lowercase());
            let in_trailer = trailers.get(header).and_then(|value| value.to_str().ok());
            if in_trailer.is_none() && announced.iter().any(|one| one == name) {
                return Err(s3_error!(InvalidRequest, "the announced trailer for {name} did not come"));
            }
            for said in in_header.map(String::as_str).into_iter().chain(in_trailer) {
                if actual.map(String::as_str) != Some(said) {
                    return Err(s3_error!(BadDigest, "the {name} you specified did not match"));
                }
            }
        }
        Ok(())
    }
}
