//! Where a store is: `s3://bucket/prefix?region=…`, `file:///path`, and their form in `lfs.url`.
//!
//! A URL may come from a stranger's `.lfsconfig`. This file says only whether it is well formed and what it
//! asks for; whether that may be followed is decided in `config.rs`.

use std::fmt;
use std::path::PathBuf;

use percent_encoding::{AsciiSet, CONTROLS, percent_decode_str, utf8_percent_encode};

/// What stands before the store's URL in `lfs.url`, so that git-lfs hands it to the agent unread.
pub const SCHEME: &str = "lfs-delta::";

const URL_MAX_BYTES: usize = 2048;

/// Some servers stop at keys of 500 bytes, and a store's add up to 250.
const PREFIX_MAX_BYTES: usize = 200;

/// What must be escaped in a path of a URL.
const PATH: &AsciiSet = &CONTROLS.add(b' ').add(b'"').add(b'#').add(b'%').add(b'<').add(b'>').add(b'?');
/// What must be escaped in a value of a query.
const QUERY: &AsciiSet = &PATH.add(b'&').add(b'+').add(b'=');

/// A well-formed store URL.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Location {
    /// A bucket, or a part of one.
    S3(S3Location),
    /// A directory, by its absolute path.
    Directory(PathBuf),
}

/// A prefix of a bucket and how to reach it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct S3Location {
    /// The bucket's name.
    pub bucket: String,
    /// What all keys begin with: empty, or parts joined by `/` with none at either end.
    pub prefix: String,
    /// The region; else the user's own AWS settings say it.
    pub region: Option<String>,
    /// The service, as `http[s]://host[:port]`; else AWS.
    pub endpoint: Option<Endpoint>,
    /// Whether the bucket goes into the path; else into the host name, but for custom endpoints.
    pub path_style: Option<bool>,
}

/// The address of an S3 service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// `true` for https.
    pub tls: bool,
    /// Host name or address, lower-case, IPv6 in brackets.
    pub host: String,
    /// The port, where it is not the scheme's own.
    pub port: Option<u16>,
}

/// A URL that is no store's.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LocationError {
    /// Not one of the forms this program knows.
    #[error("{url:?} is not a store: expected s3://bucket/prefix or file:///absolute/path")]
    Form {
        /// The text, cut and escaped.
        url: String,
    },
    /// A part of the URL is not what it should be.
    #[error("{part} {value:?} in a store URL: {reason}")]
    Part {
        /// Which part.
        part: &'static str,
        /// Its text.
        value: String,
        /// What is wrong with it.
        reason: &'static str,
    },
}

impl Location {
    /// Parses a store URL, with or without the `lfs-delta::` of `lfs.url`.
    ///
    /// # Errors
    /// `Form` for any other kind of URL, `Part` for a bad bucket, prefix, query or endpoint.
    pub fn parse(url: &str) -> Result<Self, LocationError> {
        Self::parse_up_to(url, PREFIX_MAX_BYTES)
    }

    /// Parses the URL of a place whose prefix may be as long as the service allows.
    pub(super) fn parse_long(url: &str) -> Result<Self, LocationError> {
        Self::parse_up_to(url, URL_MAX_BYTES)
    }

    fn parse_up_to(url: &str, prefix_max_bytes: usize) -> Result<Self, LocationError> {
        let text = url.strip_prefix(SCHEME).unwrap_or(url);
        if text.len() > URL_MAX_BYTES || text.chars().any(char::is_control) {
            return Err(form(url));
        }
        if let Some(rest) = text.strip_prefix("s3://") {
            return S3Location::parse(rest, prefix_max_bytes).map(Self::S3);
        }
        let path = text.strip_prefix("file://").ok_or_else(|| form(url))?;
        let path = path.strip_prefix("localhost").unwrap_or(path);
        if !path.starts_with('/') {
            return Err(form(url));
        }
        Ok(Self::Directory(PathBuf::from(decode("path", path)?)))
    }

    /// Returns the value of `lfs.url` that names this store.
    pub fn lfs_url(&self) -> String {
        format!("{SCHEME}{self}")
    }
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::S3(location) => location.fmt(f),
            Self::Directory(path) => {
                write!(f, "file://{}", utf8_percent_encode(&path.to_string_lossy(), PATH))
            }
        }
    }
}

impl S3Location {
    fn parse(rest: &str, prefix_max_bytes: usize) -> Result<Self, LocationError> {
        let (place, query) = rest.split_once('?').unwrap_or((rest, ""));
        let (bucket, prefix) = place.split_once('/').unwrap_or((place, ""));
        let mut location = Self {
            bucket: check_bucket(bucket)?,
            prefix: check_path(&decode("prefix", prefix)?, prefix_max_bytes)?,
            region: None,
            endpoint: None,
            path_style: None,
        };
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            location.set(name, &decode("query", value)?)?;
        }
        Ok(location)
    }

    fn set(&mut self, name: &str, value: &str) -> Result<(), LocationError> {
        match name {
            "region" => self.region = Some(check_region(value)?),
            "endpoint" => self.endpoint = Some(Endpoint::parse(value)?),
            "path-style" => self.path_style = Some(check_switch(value)?),
            _ => return Err(part("setting", name, "known are region, endpoint and path-style")),
        }
        Ok(())
    }

    /// Returns the full key of a file in the bucket.
    pub fn full_key(&self, key: &str) -> String {
        if self.prefix.is_empty() { key.to_owned() } else { format!("{}/{key}", self.prefix) }
    }
}

impl fmt::Display for S3Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "s3://{}", self.bucket)?;
        if !self.prefix.is_empty() {
            write!(f, "/{}", utf8_percent_encode(&self.prefix, PATH))?;
        }
        let mut separator = '?';
        let mut pair = |name: &str, value: Option<String>| {
            let Some(value) = value else { return Ok(()) };
            let written = write!(f, "{separator}{name}={}", utf8_percent_encode(&value, QUERY));
            separator = '&';
            written
        };
        pair("region", self.region.clone())?;
        pair("endpoint", self.endpoint.as_ref().map(ToString::to_string))?;
        pair("path-style", self.path_style.map(|on| on.to_string()))
    }
}

impl Endpoint {
    /// Parses `http[s]://host[:port]`; a lone host means https.
    ///
    /// # Errors
    /// `Part` when it is anything more or other than that.
    pub fn parse(text: &str) -> Result<Self, LocationError> {
        let bad = |reason| part("endpoint", text, reason);
        let (tls, rest) = match text.split_once("://") {
            Some(("https", rest)) => (true, rest),
            Some(("http", rest)) => (false, rest),
            Some(_) => return Err(bad("only https:// and http:// are known")),
            None => (true, text),
        };
        let rest = rest.strip_suffix('/').unwrap_or(rest);
        let (host, port) = split_port(rest).ok_or_else(|| bad("the port is not a number"))?;
        let inner = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
        let fits = match inner {
            Some(address) => address.parse::<std::net::Ipv6Addr>().is_ok(),
            None => !host.is_empty() && host.chars().all(|c| c.is_ascii_alphanumeric() || "-._".contains(c)),
        };
        if !fits {
            return Err(bad("expected http[s]://host[:port]"));
        }
        Ok(Self { tls, host: host.to_ascii_lowercase(), port })
    }

    /// Returns whether it is this very machine, where plain http is safe.
    pub fn is_loopback(&self) -> bool {
        let bare = self.host.trim_start_matches('[').trim_end_matches(']');
        bare == "localhost" || bare.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}", if self.tls { "https" } else { "http" }, self.host)?;
        self.port.map_or(Ok(()), |port| write!(f, ":{port}"))
    }
}

fn split_port(text: &str) -> Option<(&str, Option<u16>)> {
    if text.ends_with(']') {
        return Some((text, None));
    }
    match text.rsplit_once(':') {
        Some((host, port)) => Some((host, Some(port.parse().ok()?))),
        None => Some((text, None)),
    }
}

fn check_bucket(bucket: &str) -> Result<String, LocationError> {
    let letters = bucket.chars().all(|c| c.is_ascii_alphanumeric() || "-._".contains(c));
    if !letters || !(3..=255).contains(&bucket.len()) || bucket.starts_with('.') {
        return Err(part("bucket", bucket, "expected 3 to 255 letters, digits, - . _"));
    }
    Ok(bucket.to_owned())
}

/// Checks a path of keys and takes the slashes around it away.
pub(super) fn check_path(prefix: &str, max_bytes: usize) -> Result<String, LocationError> {
    let prefix = prefix.trim_matches('/');
    let odd = |step: &str| step.is_empty() || step == "." || step == "..";
    if prefix.chars().any(char::is_control) || (!prefix.is_empty() && prefix.split('/').any(odd)) {
        return Err(part(
            "prefix",
            prefix,
            "empty, '.' and '..' parts and control characters are not allowed",
        ));
    }
    if prefix.len() > max_bytes {
        return Err(part("prefix", prefix, "it is too long"));
    }
    Ok(prefix.to_owned())
}

fn check_region(region: &str) -> Result<String, LocationError> {
    let letters = region.chars().all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '_');
    if !letters || region.is_empty() || region.len() > 64 {
        return Err(part("region", region, "expected a name like eu-west-1"));
    }
    Ok(region.to_owned())
}

fn check_switch(value: &str) -> Result<bool, LocationError> {
    match value {
        "true" | "1" | "yes" | "" => Ok(true),
        "false" | "0" | "no" => Ok(false),
        _ => Err(part("path-style", value, "expected true or false")),
    }
}

/// Escapes a path for a URL.
pub(super) fn encode(path: &str) -> String {
    utf8_percent_encode(path, PATH).to_string()
}

/// Resolves the escapes of a part of a URL.
pub(super) fn decode(name: &'static str, text: &str) -> Result<String, LocationError> {
    let decoded = percent_decode_str(text).decode_utf8();
    let decoded = decoded.map_err(|_| part(name, text, "not UTF-8 once its escapes are resolved"))?;
    if decoded.chars().any(char::is_control) {
        return Err(part(name, text, "control characters are not allowed"));
    }
    Ok(decoded.into_owned())
}

fn form(url: &str) -> LocationError {
    LocationError::Form { url: url.chars().take(200).collect() }
}

fn part(part: &'static str, value: &str, reason: &'static str) -> LocationError {
    LocationError::Part { part, value: value.chars().take(200).collect(), reason }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_prints_as_it_parses() {
        for url in [
            "s3://bucket",
            "s3://bucket/team/game?region=eu-west-1",
            "s3://bucket/a%20b?endpoint=http://127.0.0.1:9000&path-style=true",
            "s3://bucket?endpoint=https://[::1]:443",
            "file:///srv/with%20space",
        ] {
            let location = Location::parse(url).expect(url);
            assert_eq!(location.to_string(), url);
            assert_eq!(Location::parse(&location.lfs_url()), Ok(location));
        }
    }

    #[test]
    fn slashes_around_the_prefix_do_not_matter() {
        assert_eq!(Location::parse("s3://bucket/a/b/"), Location::parse("s3://bucket//a/b"));
    }

    #[test]
    fn what_is_no_store_is_refused() {
        for url in [
            "",
            "https://example.com/x",
            "s3://",
            "s3://ab",
            "s3://bucket/../x",
            "s3://bucket/a//b",
            "s3://bucket?profile=admin",
            "s3://bucket?region=a%0ab",
            "s3://bucket?endpoint=ftp://host",
            "s3://bucket?endpoint=http://user@host",
            "s3://bucket?endpoint=http://host/path",
            "s3://bucket?endpoint=http://host:99999",
            "file://relative",
            "file:///a%00b",
        ] {
            assert!(Location::parse(url).is_err(), "{url}");
        }
    }

    #[test]
    fn loopback_is_recognised_by_name_and_address() {
        for (text, loopback) in [
            ("http://localhost:1", true),
            ("http://127.9.9.9", true),
            ("http://[::1]:80", true),
            ("http://127.0.0.1.example.com", false),
            ("http://169.254.169.254", false),
        ] {
            assert_eq!(Endpoint::parse(text).expect(text).is_loopback(), loopback, "{text}");
        }
    }
}
