//! How to deal with a service: with how much patience, as whom, and how it is to keep what it is given.

use std::path::PathBuf;
use std::time::Duration;

use aws_sdk_s3::types::{RequestPayer, ServerSideEncryption, StorageClass};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};

use super::Pace;
use crate::model::limits::{PART_BYTES, UPLOAD_AGE_MAX};
use crate::model::{Entry, Key};

/// How to deal with a service. Each is a setting, so that tests of faults take milliseconds.
#[derive(Debug, Clone)]
pub struct S3Options {
    /// Until a connection stands.
    pub connect_timeout: Duration,
    /// How long a request may be silent: no byte of it goes out, and none of its answer comes.
    pub read_timeout: Duration,
    /// Between two pieces of an answer's body.
    pub stall_timeout: Duration,
    /// Tries of one request, the first included.
    pub attempts: u32,
    /// The pause before the second try; it doubles, with jitter.
    pub backoff: Duration,
    /// Bytes of one part of an upload in parts; files of up to eight of them go up in one request.
    pub part_size: u64,
    /// The private folder in which uploads in parts are remembered until they are done; without one none is gone
    /// on with.
    pub uploads: Option<PathBuf>,
    /// From which age on an upload in parts is given up instead.
    pub upload_age: Duration,
    /// The limit of bytes that are sent, where there is one.
    pub upload_pace: Option<Pace>,
    /// The limit of bytes that are received, where there is one.
    pub download_pace: Option<Pace>,
    /// As whom.
    pub access: Access,
    /// How things are kept.
    pub keeping: Keeping,
}

impl S3Options {
    /// Returns up to which size a file goes up in one request.
    pub(super) const fn single_put_max_bytes(&self) -> u64 {
        self.part_size.saturating_mul(8)
    }
}

impl Default for S3Options {
    fn default() -> Self {
        Self {
            connect_timeout: Duration::from_secs(10),
            read_timeout: Duration::from_secs(60),
            stall_timeout: Duration::from_secs(60),
            attempts: 8,
            backoff: Duration::from_millis(500),
            part_size: PART_BYTES,
            uploads: None,
            upload_age: UPLOAD_AGE_MAX,
            upload_pace: None,
            download_pace: None,
            access: Access::default(),
            keeping: Keeping::default(),
        }
    }
}

/// As whom a service is asked, and how it is known.
#[derive(Debug, Clone, Default)]
pub struct Access {
    /// The AWS profile that is meant, whatever the environment says.
    pub profile: Option<String>,
    /// When no credentials are used.
    pub anonymous: Anonymous,
    /// Certificates that are trusted besides those of the system.
    pub certificates: Option<Certificates>,
    /// Whether whoever asks pays, instead of the owner of the bucket.
    pub requester_pays: bool,
}

impl Access {
    pub(super) fn payer(&self) -> Option<RequestPayer> {
        self.requester_pays.then_some(RequestPayer::Requester)
    }
}

/// When a service is asked without credentials.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Anonymous {
    /// Never: whoever wants to write has some, or is told so before anything is asked.
    Never,
    /// Where none are found: the store may be public.
    #[default]
    WithoutAny,
    /// Always: none are looked for.
    Always,
}

/// How a service is to keep what it is given.
#[derive(Debug, Clone, Default)]
pub struct Keeping {
    /// How the service encrypts it; else as the bucket says.
    pub encryption: Option<Encryption>,
    /// The storage class of whole copies; else the bucket's own.
    pub storage_class: Option<Class>,
    /// The storage class of deltas; else the bucket's own.
    pub delta_storage_class: Option<Class>,
    /// The tags of copies.
    pub tags: Option<Tags>,
}

impl Keeping {
    pub(super) fn encryption(&self) -> Option<ServerSideEncryption> {
        self.encryption.as_ref().map(|encryption| match encryption {
            Encryption::Service => ServerSideEncryption::Aes256,
            Encryption::Kms { .. } => ServerSideEncryption::AwsKms,
        })
    }

    pub(super) fn kms_key(&self) -> Option<String> {
        match &self.encryption {
            Some(Encryption::Kms { key }) => key.clone(),
            _ => None,
        }
    }

    /// Returns the tags of a copy.
    pub(super) fn tagging(&self, key: &Key) -> Option<String> {
        let is_copy = matches!(Entry::parse(key.as_str()), Some(Entry::Copy(_)));
        self.tags.as_ref().filter(|_| is_copy).map(|tags| tags.0.clone())
    }

    /// Returns the class of a copy. The store's other files are tiny, and classes charge for a least size.
    pub(super) fn class(&self, key: &Key) -> Option<StorageClass> {
        let Some(Entry::Copy(copy)) = Entry::parse(key.as_str()) else { return None };
        self.class_of(copy.base().is_some())
    }

    /// Returns the class of deltas, or of what is whole.
    pub(super) fn class_of(&self, is_delta: bool) -> Option<StorageClass> {
        let class = if is_delta { &self.delta_storage_class } else { &self.storage_class };
        class.as_ref().map(|class| StorageClass::from(class.0.as_str()))
    }
}

/// Tags of what is stored, for bills and the rules of a bucket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tags(String);

impl Tags {
    /// Reads `name=value&name=value`; `None` for what no service takes: more than ten, none, or too long ones.
    pub fn parse(text: &str) -> Option<Self> {
        let escaped = |text: &str| utf8_percent_encode(text, NON_ALPHANUMERIC).to_string();
        let tag = |pair: &str| {
            let (name, value) = pair.split_once('=')?;
            let fits = (1..=128).contains(&name.chars().count()) && value.chars().count() <= 256;
            (fits && !text.chars().any(char::is_control))
                .then(|| format!("{}={}", escaped(name), escaped(value)))
        };
        let tags: Vec<_> = text.split('&').map(tag).collect::<Option<_>>()?;
        (tags.len() <= 10).then(|| Self(tags.join("&")))
    }
}

/// How a service encrypts what it stores.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Encryption {
    /// With keys of its own (SSE-S3).
    Service,
    /// With a key of its key management (SSE-KMS).
    Kms {
        /// Which one; else the account's own for S3.
        key: Option<String>,
    },
}

/// A storage class from which files can be read at once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Class(String);

impl Class {
    /// Reads the name of a class; `None` for what is none, or must be restored for hours before it can be read.
    pub fn parse(text: &str) -> Option<Self> {
        let is_name = text.chars().all(|c| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_');
        let is_archive = matches!(text, "GLACIER" | "DEEP_ARCHIVE" | "SNOW");
        (is_name && !is_archive && (1..=64).contains(&text.len())).then(|| Self(text.to_owned()))
    }
}

/// Certificates in PEM form.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Certificates(pub(super) Vec<u8>);

impl Certificates {
    /// Reads a file's text; `None` where it has none, or one that is cut or mangled: the TLS library would panic.
    pub fn parse(text: &str) -> Option<Self> {
        let blocks: Vec<_> = text.split("-----BEGIN CERTIFICATE-----").skip(1).collect();
        let is_whole = |block: &&str| {
            let Some((body, _)) = block.split_once("-----END CERTIFICATE-----") else { return false };
            let digits: String = body.chars().filter(|c| !c.is_whitespace()).collect();
            // A DER sequence.
            STANDARD.decode(digits).is_ok_and(|bytes| bytes.first() == Some(&0x30))
        };
        (!blocks.is_empty() && blocks.iter().all(is_whole)).then(|| Self(text.as_bytes().to_vec()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_class_that_must_be_restored_first_is_none() {
        for (text, fits) in [
            ("STANDARD_IA", true),
            ("GLACIER_IR", true),
            ("GLACIER", false),
            ("DEEP_ARCHIVE", false),
            ("standard", false),
            ("", false),
        ] {
            assert_eq!(Class::parse(text).is_some(), fits, "{text}");
        }
    }

    #[test]
    fn tags_are_pairs_and_few() {
        for (text, header) in [
            ("team=game", Some("team=game")),
            ("cost centre=a/b&empty=", Some("cost%20centre=a%2Fb&empty=")),
            ("", None),
            ("team", None),
            ("=game", None),
            (&"a=b&".repeat(10), None),
        ] {
            assert_eq!(Tags::parse(text).map(|tags| tags.0).as_deref(), header, "{text}");
        }
    }

    #[test]
    fn certificates_are_whole_or_none() {
        let whole = "# ours\n-----BEGIN CERTIFICATE-----\nMAMC\nAQU=\n-----END CERTIFICATE-----\n";
        assert!(Certificates::parse(whole).is_some());
        assert!(Certificates::parse(&whole.repeat(2)).is_some());
        for wrong in
            ["", "text", &whole[..40], &whole.replace("MAMC", "M?MC"), &whole.replace("MAMC", "AAMC")]
        {
            assert_eq!(Certificates::parse(wrong), None, "{wrong}");
        }
    }
}
