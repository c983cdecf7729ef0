//! Files with names of their own, in DeltaSpaces as deltaglider keeps them: `s3://bucket/space/app-1.2.zip`.
//!
//! A name is typed by people, or comes from a listing that strangers wrote: only through `FileName` does it become
//! a part of a key or a path. What surprises: `reference.bin` and names that end in `.delta` are the layout's own.

use std::fmt;

use super::location::{self, Location, LocationError};

/// The file that all deltas of a DeltaSpace are made against.
pub const REFERENCE: &str = "reference.bin";
/// What the name of a delta adds to that of its artefact.
pub const DELTA: &str = ".delta";
/// Where a directory keeps what S3 keeps as metadata. Never an artefact.
pub const ASIDE: &str = ".deltaspace";

/// File systems allow no longer one; a delta's name is longer by `.delta`.
const NAME_MAX_BYTES: usize = 255;
/// S3 allows keys of 1,024 bytes, and a file's name takes up to 255 of them.
const FOLDER_MAX_BYTES: usize = 700;

/// The name of a file in a DeltaSpace: not empty, no path, no control characters.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FileName(String);

/// A text that is no name of a file.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{name:?} cannot be the name of a file in a DeltaSpace: {reason}")]
pub struct InvalidName {
    /// The text, cut.
    pub name: String,
    /// What is wrong with it.
    pub reason: &'static str,
}

impl FileName {
    /// Checks a name.
    ///
    /// # Errors
    /// `InvalidName` with what is wrong.
    pub fn parse(text: &str) -> Result<Self, InvalidName> {
        let reason = match text {
            "" => "it is empty",
            "." | ".." => "it names a folder",
            ASIDE => "directories keep their metadata there",
            _ if text.contains('/') => "it has a slash",
            _ if cfg!(windows) && text.contains(['\\', ':']) => "it has a backslash or a colon",
            _ if text.chars().any(char::is_control) => "it has control characters",
            _ if text.len() > NAME_MAX_BYTES => "it is longer than 255 bytes",
            _ => return Ok(Self(text.to_owned())),
        };
        Err(InvalidName { name: text.chars().take(80).collect(), reason })
    }

    /// Names the reference.
    pub fn reference() -> Self {
        Self(REFERENCE.into())
    }

    /// Returns the name that this artefact's delta has.
    ///
    /// # Errors
    /// `InvalidName` when that is too long.
    pub fn delta(&self) -> Result<Self, InvalidName> {
        Self::parse(&format!("{}{DELTA}", self.0))
    }

    /// Returns the artefact that a delta of this name would be of.
    pub fn of_delta(&self) -> Option<Self> {
        self.0.strip_suffix(DELTA).and_then(|name| Self::parse(name).ok())
    }

    /// Checks that an artefact may be stored under this name.
    ///
    /// # Errors
    /// `InvalidName` where readers would take it for something else.
    pub fn check_artefact(&self) -> Result<(), InvalidName> {
        let refuse = |reason| Err(InvalidName { name: self.0.clone(), reason });
        if self.0 == REFERENCE {
            return refuse("this is what the reference is called");
        }
        if self.0.ends_with(DELTA) {
            return refuse("names of deltas end like this");
        }
        self.delta().map(drop)
    }

    /// Returns the text of the name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for FileName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A folder of a bucket or directory: empty for the top, else parts with a slash behind each.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Folder(String);

impl Folder {
    /// Checks a path; slashes around it do not matter.
    ///
    /// # Errors
    /// `Part` for a path with empty, `.` or `..` parts or control characters, or a very long one.
    pub fn parse(text: &str) -> Result<Self, LocationError> {
        let path = location::check_path(text, FOLDER_MAX_BYTES)?;
        Ok(Self(if path.is_empty() { path } else { path + "/" }))
    }

    /// Returns a folder in this one.
    ///
    /// # Errors
    /// As `parse`.
    pub fn child(&self, name: &FileName) -> Result<Self, LocationError> {
        Self::parse(&format!("{}{name}", self.0))
    }

    /// Returns the text, empty or with a slash at the end.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Folder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What a URL says: a DeltaSpace, and which file in it is meant, if any.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ArtefactUrl {
    /// The bucket without a prefix, or the directory that is the DeltaSpace.
    pub root: Location,
    /// Where below it the DeltaSpace is; always the top of a directory.
    pub folder: Folder,
    /// The file; none where the URL ends with a slash, or is a bucket alone.
    pub name: Option<FileName>,
}

/// A URL that is none of an artefact.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum UrlError {
    /// The place is none.
    #[error(transparent)]
    Location(#[from] LocationError),
    /// The file's name is none.
    #[error(transparent)]
    Name(#[from] InvalidName),
}

impl ArtefactUrl {
    /// Parses the URL of a DeltaSpace or of a file in one; `%` escapes are resolved, a `?` begins settings.
    ///
    /// # Errors
    /// As they say.
    pub fn parse(url: &str) -> Result<Self, UrlError> {
        let (path, query) = url.split_at(url.find('?').unwrap_or(url.len()));
        let start = path.find("://").map_or(0, |at| at + 3);
        let (above, last) = match path[start..].rfind('/') {
            Some(at) => path.split_at(start + at + 1),
            None => (path, ""),
        };
        let last = location::decode("name", last)?;
        let name = if last.is_empty() { None } else { Some(FileName::parse(&last)?) };
        Self::split(Location::parse_long(&format!("{above}{query}"))?, name)
    }

    /// Parses the URL of a DeltaSpace, with or without a slash at its end.
    ///
    /// # Errors
    /// As they say.
    pub fn parse_space(url: &str) -> Result<Self, UrlError> {
        Self::split(Location::parse_long(url)?, None)
    }

    fn split(mut root: Location, name: Option<FileName>) -> Result<Self, UrlError> {
        let folder = match &mut root {
            Location::S3(s3) => Folder::parse(&std::mem::take(&mut s3.prefix))?,
            Location::Directory(_) => Folder::default(),
        };
        Ok(Self { root, folder, name })
    }

    /// Writes the URL of a folder, or of a file in it, without settings.
    pub fn show(root: &Location, folder: &Folder, name: &str) -> String {
        let path = location::encode(&format!("{folder}{name}"));
        match root {
            Location::S3(s3) => format!("s3://{}/{path}", s3.bucket),
            Location::Directory(_) => format!("{}/{path}", root.to_string().trim_end_matches('/')),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_is_a_space_and_a_name() {
        for (url, folder, name) in [
            ("s3://bucket", "", None),
            ("s3://bucket/", "", None),
            ("s3://bucket/a.zip", "", Some("a.zip")),
            ("s3://bucket/x/y/", "x/y/", None),
            ("s3://bucket/x/-a b.zip.delta?region=r", "x/", Some("-a b.zip.delta")),
            ("s3://bucket/x/100%25%20%3f", "x/", Some("100% ?")),
            ("file:///srv/space/ä.zip", "", Some("ä.zip")),
            ("file:///srv/space/", "", None),
        ] {
            let parsed = ArtefactUrl::parse(url).expect(url);
            assert_eq!(parsed.folder.as_str(), folder, "{url}");
            assert_eq!(parsed.name.as_ref().map(FileName::as_str), name, "{url}");
        }
        let directory = ArtefactUrl::parse("file:///srv/space/a").expect("a URL").root;
        assert_eq!(directory, Location::Directory("/srv/space/".into()));
    }

    #[test]
    fn a_space_needs_no_slash_at_its_end() {
        let [with, without] = ["s3://bucket/x/y/?region=r", "s3://bucket/x/y?region=r"]
            .map(|url| ArtefactUrl::parse_space(url).expect(url));
        assert_eq!(with, without);
        assert_eq!(with.folder.as_str(), "x/y/");
    }

    #[test]
    fn a_url_prints_as_it_parses() {
        for url in ["s3://bucket/a%20b/c%25d.zip", "s3://bucket/x", "file:///srv/a%20b/c.zip"] {
            let ArtefactUrl { root, folder, name } = ArtefactUrl::parse(url).expect(url);
            assert_eq!(ArtefactUrl::show(&root, &folder, name.expect("a name").as_str()), url);
        }
    }

    #[test]
    fn no_name_is_a_path() {
        for text in ["", ".", "..", "a/b", "../a", "/etc/passwd", "a\nb", "a\0", ASIDE, &"x".repeat(256)] {
            assert!(FileName::parse(text).is_err(), "{text:?}");
        }
        for text in ["-rf", "--", " a", "ä ö.zip", "...", "a\\b", "~"] {
            assert!(FileName::parse(text).is_ok(), "{text:?}");
        }
        for url in ["s3://bucket/x/a%2fb", "s3://bucket/x/%2e%2e", "s3://bucket/../a", "file:///x/a%00"] {
            assert!(ArtefactUrl::parse(url).is_err(), "{url}");
        }
    }

    #[test]
    fn names_that_the_layout_needs_are_no_artefacts() {
        for text in [REFERENCE, "a.delta", &"x".repeat(250)] {
            assert!(FileName::parse(text).expect("a name").check_artefact().is_err(), "{text}");
        }
        let name = FileName::parse("a.zip").expect("a name");
        assert_eq!(name.check_artefact(), Ok(()));
        assert_eq!(name.delta().expect("a name").of_delta(), Some(name));
    }
}
