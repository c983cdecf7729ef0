//! Settings, each from the first place that has it: flag, environment, the user's git config, default.
//!
//! `.lfsconfig` is not among them. It may name a store, and only in the words of a URL: bucket, prefix, region.
//! An endpoint that it names is followed only to services that everybody knows, or with the user's word.

use std::env;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::cancel::Cancel;
use crate::codec::Effort;
use crate::git::{Config, Operation, Origin};
use crate::model::limits::{
    CACHE_DISK_MAX_PERCENT, CACHE_MAX_BYTES, CODEC_MEMORY_BYTES, LEFTOVER_AGE, MEMORY_MAX_BYTES,
    PART_MIN_BYTES, SINGLE_PUT_MAX_BYTES, THREADS_MAX,
};
use crate::model::location::SCHEME;
use crate::model::{Location, LocationError, Oid, S3Location};
use crate::store::s3::{Access, Anonymous, Certificates, Class, Encryption, Keeping, Tags};
use crate::store::{ArtefactStore, DirectoryStore, Pace, S3Options, S3Store, WriteStore};

/// Services whose own addresses need no word of the user: their names, and below which domains they answer.
const KNOWN_SERVICES: &[&str] = &[
    "amazonaws.com",
    "amazonaws.com.cn",
    "backblazeb2.com",
    "digitaloceanspaces.com",
    "r2.cloudflarestorage.com",
    "storage.googleapis.com",
    "wasabisys.com",
];

/// This program and its version, as it calls itself in what it stores.
pub const TOOL: &str = concat!("lfs-delta/", env!("CARGO_PKG_VERSION"));

/// Settings that cannot work.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Neither flag nor git config nor `.lfsconfig` names a store.
    #[error("this repository names no lfs-delta store (lfs.url is {found})")]
    NoStore {
        /// What `lfs.url` is instead.
        found: String,
    },
    /// The store's URL is malformed.
    #[error("the store URL from {origin} cannot be used")]
    Url {
        /// Who set it.
        origin: &'static str,
        /// What is wrong.
        source: LocationError,
    },
    /// A repository asks for an endpoint that the user has not trusted.
    #[error("this repository asks for the S3 endpoint {host}, which is not trusted on this machine")]
    Untrusted {
        /// The host.
        host: String,
    },
    /// A repository asks for an endpoint that may never be followed.
    #[error("this repository asks for the S3 endpoint {endpoint}, which is refused: {reason}")]
    Refused {
        /// The address.
        endpoint: String,
        /// Why.
        reason: &'static str,
    },
    /// A setting has a value that it cannot have.
    #[error("{name} = {value:?}: {expected}")]
    Value {
        /// The setting, as it was named where it was found.
        name: String,
        /// Its value.
        value: String,
        /// What was expected.
        expected: &'static str,
    },
}

/// The outcome of reading settings.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Every setting of the program.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The private folder of this program on this machine; `None` where there is none to be had.
    pub cache_folder: Option<PathBuf>,
    /// Bytes that cached objects take at most.
    pub cache_max_bytes: u64,
    /// How much time a smaller result is worth.
    pub effort: Effort,
    /// Threads that all agents of this machine use together.
    pub threads: usize,
    /// Bytes beyond mapped files that codecs of all agents of this machine take together.
    pub memory_max_bytes: u64,
    /// Bytes of it that one object may take.
    pub object_memory_bytes: u64,
    /// Patience with an S3 service.
    pub s3: S3Options,
    /// Patience with the transfer of one object, where it has an end.
    pub transfer_patience: Option<Duration>,
    /// Patience with one git command.
    pub git_patience: Duration,
    /// Age from which leftovers of dead processes are swept.
    pub leftover_age: Duration,
    /// Whether pushes record which repository they come from.
    pub register: bool,
    /// Endpoint hosts that the user trusts.
    pub trusted: Vec<String>,
}

impl Settings {
    /// Reads all settings; git config must have been read before.
    ///
    /// # Errors
    /// `Value` for any setting that cannot be understood: a typing error must not pass for the default.
    pub fn read(config: &Config) -> Result<Self> {
        let source = Source { config };
        let defaults = S3Options::default();
        let cache_folder =
            source.text("cacheDir").map(|found| PathBuf::from(found.value)).or_else(default_cache);
        let s3 = S3Options {
            connect_timeout: source.duration("connectTimeout", defaults.connect_timeout)?,
            read_timeout: source.duration("readTimeout", defaults.read_timeout)?,
            stall_timeout: source.duration("stallTimeout", defaults.stall_timeout)?,
            attempts: source.number("attempts", u64::from(defaults.attempts))?.clamp(1, 100) as u32,
            backoff: source.duration("backoff", defaults.backoff)?,
            part_size: source
                .size("partSize", defaults.part_size)?
                .clamp(PART_MIN_BYTES, SINGLE_PUT_MAX_BYTES / 8),
            uploads: None,
            upload_age: source.duration("leftoverAge", defaults.upload_age)?,
            upload_pace: source.pace("limit-upload", cache_folder.as_deref())?,
            download_pace: source.pace("limit-download", cache_folder.as_deref())?,
            access: source.access()?,
            keeping: source.keeping()?,
        };
        Ok(Self {
            cache_max_bytes: source.cache_size(cache_folder.as_deref())?,
            cache_folder,
            effort: source.effort()?,
            threads: source.threads()?,
            memory_max_bytes: source.size("memory", MEMORY_MAX_BYTES)?,
            object_memory_bytes: source.size("objectMemory", CODEC_MEMORY_BYTES)?,
            s3,
            transfer_patience: Some(source.duration("transferTimeout", Duration::ZERO)?)
                .filter(|time| !time.is_zero()),
            git_patience: source.duration("gitTimeout", Duration::from_secs(60))?,
            leftover_age: source.duration("leftoverAge", LEFTOVER_AGE)?,
            register: source.switch("register", true)?,
            trusted: config.user_all("lfs-delta.trust").map(str::to_ascii_lowercase).collect(),
        })
    }

    /// Decides which store is used: that of the flag, else the one git-lfs would be sent to.
    ///
    /// # Errors
    /// `NoStore`, `Url`, `Untrusted`, `Refused`.
    pub fn location(
        &self,
        flag: Option<&str>,
        config: &Config,
        operation: Operation,
        remote: &str,
    ) -> Result<Location> {
        let (url, origin) = match flag {
            Some(url) => (url.to_owned(), Origin::User),
            None => config
                .endpoint(operation, remote)
                .ok_or_else(|| Error::NoStore { found: "not set".into() })?,
        };
        if flag.is_none() && !url.starts_with(SCHEME) {
            return Err(Error::NoStore { found: format!("{url:?}") });
        }
        let named = if origin == Origin::User { "git config" } else { ".lfsconfig" };
        let location = Location::parse(&url)
            .map_err(|source| Error::Url { origin: flag.map_or(named, |_| "--store"), source })?;
        if let (Location::S3(s3), Origin::Repository) = (&location, origin) {
            self.check_endpoint(s3)?;
        }
        Ok(location)
    }

    /// Checks an endpoint that a stranger may have chosen.
    fn check_endpoint(&self, location: &S3Location) -> Result<()> {
        let Some(endpoint) = &location.endpoint else { return Ok(()) };
        let refuse = |reason| Error::Refused { endpoint: endpoint.to_string(), reason };
        if is_link_local(&endpoint.host) {
            return Err(refuse("it is an address that only serves this machine's own secrets"));
        }
        if endpoint.tls && endpoint.port.is_none_or(|port| port == 443) && is_known_service(&endpoint.host) {
            return Ok(());
        }
        if !self.trusted.contains(&endpoint.host) {
            return Err(Error::Untrusted { host: endpoint.host.clone() });
        }
        Ok(())
    }

    /// Opens the store at a location; nothing is contacted.
    pub fn open(&self, location: &Location, cancel: &Cancel) -> Box<dyn WriteStore> {
        match location {
            Location::S3(s3) => {
                let uploads = self.store_folder(location).map(|folder| folder.join("uploads"));
                let options = S3Options { uploads, ..self.s3.clone() };
                Box::new(S3Store::new(s3.clone(), options, cancel.clone()))
            }
            Location::Directory(root) => Box::new(DirectoryStore::new(root.clone(), cancel.clone())),
        }
    }

    /// Opens a place of files with names of their own; nothing is contacted.
    pub fn open_artefacts(&self, location: &Location, cancel: &Cancel) -> Box<dyn ArtefactStore> {
        match location {
            Location::S3(s3) => Box::new(S3Store::new(s3.clone(), self.s3.clone(), cancel.clone())),
            Location::Directory(root) => Box::new(DirectoryStore::of_artefacts(root.clone(), cancel.clone())),
        }
    }

    /// Returns the folder in which this machine keeps what it knows of one store.
    pub fn store_folder(&self, location: &Location) -> Option<PathBuf> {
        let name = Oid::of(location.to_string().as_bytes()).to_string();
        self.cache_folder.as_ref().map(|folder| folder.join("stores").join(&name[..32]))
    }
}

fn is_known_service(host: &str) -> bool {
    let below =
        |domain: &&str| host.strip_suffix(*domain).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'));
    KNOWN_SERVICES.iter().any(below)
}

fn is_link_local(host: &str) -> bool {
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    match bare.parse() {
        Ok(std::net::IpAddr::V4(address)) => address.is_link_local(),
        Ok(std::net::IpAddr::V6(address)) => {
            address.is_unicast_link_local() || address.segments()[0] == 0xfd00
        }
        Err(_) => matches!(bare, "metadata" | "metadata.google.internal"),
    }
}

fn default_cache() -> Option<PathBuf> {
    project_folders().map(|folders| folders.cache_dir().to_path_buf())
}

/// Returns the folder of log files.
pub fn log_folder() -> Option<PathBuf> {
    let folders = project_folders()?;
    Some(folders.state_dir().unwrap_or_else(|| folders.cache_dir()).join("logs"))
}

/// Returns the folder in which `install` remembers what it did.
pub fn data_folder() -> Option<PathBuf> {
    project_folders().map(|folders| folders.data_local_dir().to_path_buf())
}

fn project_folders() -> Option<directories::ProjectDirs> {
    directories::ProjectDirs::from("", "", "lfs-delta")
}

/// Returns the filter of log lines: `LFS_DELTA_LOG`, else debug where git-lfs traces transfers, else info.
pub fn log_filter() -> String {
    let traced =
        env::var("GIT_TRANSFER_TRACE").is_ok_and(|value| !matches!(value.as_str(), "" | "0" | "false"));
    let default = if traced { "debug" } else { "info" };
    let level = env::var("LFS_DELTA_LOG").ok().filter(|level| !level.is_empty());
    let level = level.unwrap_or_else(|| default.into());
    // The SDK's own lines would show headers.
    if level.contains('=') || level.contains(',') { level } else { format!("off,lfs_delta={level}") }
}

/// Returns the environment variable of that name as a path.
pub fn path_variable(name: &str) -> Option<PathBuf> {
    env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from)
}

/// Looks a setting up where it may be.
struct Source<'a> {
    config: &'a Config,
}

/// A setting and where it was found.
struct Found {
    name: String,
    value: String,
}

impl Found {
    fn wrong(self, expected: &'static str) -> Error {
        Error::Value { name: self.name, value: self.value, expected }
    }
}

impl Source<'_> {
    /// Finds `someName`, or `some-name`, as `LFS_DELTA_SOME_NAME` or as `lfs-delta.someName`.
    fn text(&self, name: &str) -> Option<Found> {
        let mut variable = String::from("LFS_DELTA_");
        for letter in name.chars() {
            if letter.is_ascii_uppercase() {
                variable.push('_');
            }
            variable.push(if letter == '-' { '_' } else { letter.to_ascii_uppercase() });
        }
        if let Some(value) = env::var(&variable).ok().filter(|value| !value.is_empty()) {
            return Some(Found { name: variable, value });
        }
        let value = self.config.user(&format!("lfs-delta.{}", name.to_ascii_lowercase()))?.to_owned();
        Some(Found { name: format!("git config lfs-delta.{name}"), value })
    }

    fn number(&self, name: &str, default: u64) -> Result<u64> {
        let Some(found) = self.text(name) else { return Ok(default) };
        found.value.parse().map_err(|_| found.wrong("expected a number"))
    }

    fn switch(&self, name: &str, default: bool) -> Result<bool> {
        let Some(found) = self.text(name) else { return Ok(default) };
        match found.value.to_ascii_lowercase().as_str() {
            "true" | "yes" | "on" | "1" => Ok(true),
            "false" | "no" | "off" | "0" => Ok(false),
            _ => Err(found.wrong("expected true or false")),
        }
    }

    fn duration(&self, name: &str, default: Duration) -> Result<Duration> {
        let Some(found) = self.text(name) else { return Ok(default) };
        parse_duration(&found.value).ok_or_else(|| found.wrong("expected a time like 500ms, 30s or 2m"))
    }

    fn threads(&self) -> Result<usize> {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let threads = self.number("threads", cores as u64)?;
        Ok(usize::try_from(threads).unwrap_or(usize::MAX).clamp(1, THREADS_MAX))
    }

    fn size(&self, name: &str, default: u64) -> Result<u64> {
        let Some(found) = self.text(name) else { return Ok(default) };
        parse_size(&found.value).ok_or_else(|| found.wrong("expected a size like 500M, 10G or 0"))
    }

    /// Finds a limit in KiB per second; its account is below the cache's folder, where every process finds it.
    fn pace(&self, name: &str, folder: Option<&Path>) -> Result<Option<Pace>> {
        let limit = self.number(name, 0)?;
        let file = folder.map(|folder| folder.join("limits").join(name));
        Ok((limit > 0).then(|| Pace::new(limit, file)))
    }

    fn access(&self) -> Result<Access> {
        Ok(Access {
            profile: self.text("profile").map(|found| found.value),
            anonymous: match self.switch("anonymous", false)? {
                true => Anonymous::Always,
                false => Anonymous::WithoutAny,
            },
            certificates: self.certificates()?,
            requester_pays: self.switch("requesterPays", false)?,
        })
    }

    /// Finds the file of certificates: by our own setting, else by the one that AWS tools know.
    fn certificates(&self) -> Result<Option<Certificates>> {
        let shared = || {
            let value = env::var("AWS_CA_BUNDLE").ok().filter(|value| !value.is_empty())?;
            Some(Found { name: "AWS_CA_BUNDLE".into(), value })
        };
        let Some(found) = self.text("caFile").or_else(shared) else { return Ok(None) };
        let text = std::fs::read_to_string(&found.value).unwrap_or_default();
        let certificates = Certificates::parse(&text);
        certificates.map(Some).ok_or_else(|| found.wrong("expected a file with certificates in PEM form"))
    }

    fn keeping(&self) -> Result<Keeping> {
        Ok(Keeping {
            encryption: self.encryption()?,
            storage_class: self.class("storageClass")?,
            delta_storage_class: self.class("deltaStorageClass")?,
            tags: self.tags()?,
        })
    }

    fn encryption(&self) -> Result<Option<Encryption>> {
        let key = self.text("sseKmsKeyId");
        let Some(found) = self.text("sse") else {
            return Ok(key.map(|key| Encryption::Kms { key: Some(key.value) }));
        };
        match (found.value.as_str(), key) {
            ("AES256", None) => Ok(Some(Encryption::Service)),
            ("AES256", Some(key)) => Err(key.wrong("a key needs lfs-delta.sse to be aws:kms")),
            ("aws:kms", key) => Ok(Some(Encryption::Kms { key: key.map(|key| key.value) })),
            _ => Err(found.wrong("expected AES256 or aws:kms")),
        }
    }

    fn class(&self, name: &str) -> Result<Option<Class>> {
        let Some(found) = self.text(name) else { return Ok(None) };
        let class = Class::parse(&found.value);
        class
            .map(Some)
            .ok_or_else(|| found.wrong("expected a class that can be read at once, like STANDARD_IA"))
    }

    fn tags(&self) -> Result<Option<Tags>> {
        let Some(found) = self.text("tags") else { return Ok(None) };
        let tags = Tags::parse(&found.value);
        tags.map(Some).ok_or_else(|| found.wrong("expected up to ten tags like team=game&cost=art"))
    }

    fn effort(&self) -> Result<Effort> {
        let Some(found) = self.text("effort") else { return Ok(Effort::Default) };
        Effort::parse(&found.value).ok_or_else(|| found.wrong("expected fast, default or max"))
    }

    fn cache_size(&self, folder: Option<&Path>) -> Result<u64> {
        let disk = folder.and_then(disk_size).unwrap_or(u64::MAX);
        self.size("cacheSize", CACHE_MAX_BYTES.min(disk / 100 * CACHE_DISK_MAX_PERCENT))
    }
}

/// Returns the size of the disk that a folder, or the next one above that exists, lies on.
fn disk_size(folder: &Path) -> Option<u64> {
    let existing = folder.ancestors().find(|folder| folder.exists())?;
    let data = rustix::fs::statvfs(existing).ok()?;
    Some(data.f_blocks.saturating_mul(data.f_frsize))
}

fn parse_duration(text: &str) -> Option<Duration> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let number: u64 = digits.parse().ok()?;
    match &text[digits.len()..] {
        "ms" => Some(Duration::from_millis(number)),
        "" | "s" => Some(Duration::from_secs(number)),
        "m" => Some(Duration::from_secs(number.checked_mul(60)?)),
        "h" => Some(Duration::from_secs(number.checked_mul(3600)?)),
        _ => None,
    }
}

fn parse_size(text: &str) -> Option<u64> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let number: u64 = digits.parse().ok()?;
    let shift = match text[digits.len()..].to_ascii_lowercase().as_str() {
        "" | "b" => 0,
        "k" | "kb" | "kib" => 10,
        "m" | "mb" | "mib" => 20,
        "g" | "gb" | "gib" => 30,
        "t" | "tb" | "tib" => 40,
        _ => return None,
    };
    number.checked_mul(1 << shift)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn location(url: &str, trusted: &[(&str, &str)], flag: Option<&str>) -> Result<Location> {
        let config = Config::from_pairs(trusted, &[("lfs.url", url)]);
        let settings = Settings::read(&config).expect("settings");
        settings.location(flag, &config, Operation::Upload, "origin")
    }

    #[test]
    fn a_repository_may_name_bucket_prefix_and_region() {
        let found = location("lfs-delta::s3://bucket/prefix?region=eu-west-1", &[], None).expect("allowed");
        assert_eq!(found.to_string(), "s3://bucket/prefix?region=eu-west-1");
    }

    #[test]
    fn a_repositorys_endpoint_needs_the_users_word() {
        let url = "lfs-delta::s3://bucket?endpoint=https://s3.example.com";
        assert!(
            matches!(location(url, &[], None), Err(Error::Untrusted { host }) if host == "s3.example.com")
        );
        assert!(location(url, &[("lfs-delta.trust", "S3.Example.com")], None).is_ok());
    }

    #[test]
    fn known_services_are_trusted_by_their_own_names_and_over_tls_only() {
        for (endpoint, allowed) in [
            ("https://s3.eu-west-1.amazonaws.com", true),
            ("https://abc.r2.cloudflarestorage.com", true),
            ("http://s3.eu-west-1.amazonaws.com", false),
            ("https://s3.amazonaws.com:8443", false),
            ("https://evilamazonaws.com", false),
            ("https://amazonaws.com.example.org", false),
        ] {
            let found = location(&format!("lfs-delta::s3://bucket?endpoint={endpoint}"), &[], None);
            assert_eq!(found.is_ok(), allowed, "{endpoint}");
        }
    }

    #[test]
    fn addresses_of_the_machines_own_secrets_are_refused_even_when_trusted() {
        for host in ["169.254.169.254", "[fe80::1]", "[fd00:ec2::254]", "metadata.google.internal"] {
            let found = location(
                &format!("lfs-delta::s3://bucket?endpoint=http://{host}"),
                &[("lfs-delta.trust", host)],
                None,
            );
            assert!(matches!(found, Err(Error::Refused { .. })), "{host}: {found:?}");
        }
    }

    #[test]
    fn the_users_own_settings_need_no_trust() {
        let flag = Some("s3://bucket?endpoint=http://10.0.0.1:9000");
        assert!(location("https://example.com", &[], flag).is_ok());
        let user = [("lfs.url", "lfs-delta::s3://bucket?endpoint=http://10.0.0.1:9000")];
        assert!(location("lfs-delta::s3://other", &user, None).is_ok());
    }

    #[test]
    fn an_ordinary_lfs_url_is_no_store() {
        let found = location("https://example.com/info/lfs", &[], None);
        assert!(matches!(found, Err(Error::NoStore { .. })), "{found:?}");
    }

    #[test]
    fn a_misspelt_setting_is_an_error_and_never_the_default() {
        for (key, value) in [
            ("lfs-delta.effort", "maximum"),
            ("lfs-delta.readtimeout", "soon"),
            ("lfs-delta.cachesize", "10 apples"),
            ("lfs-delta.register", "perhaps"),
            ("lfs-delta.attempts", "-1"),
            ("lfs-delta.threads", "all"),
            ("lfs-delta.memory", "plenty"),
            ("lfs-delta.limit-upload", "1M"),
        ] {
            let config = Config::from_pairs(&[(key, value)], &[]);
            assert!(matches!(Settings::read(&config), Err(Error::Value { .. })), "{key}");
        }
    }

    #[test]
    fn times_and_sizes_have_units() {
        assert_eq!(parse_duration("250ms"), Some(Duration::from_millis(250)));
        assert_eq!(parse_duration("3"), Some(Duration::from_secs(3)));
        assert_eq!(parse_size("10G"), Some(10 << 30));
        assert_eq!(parse_size("99999999T"), None);
    }
}
