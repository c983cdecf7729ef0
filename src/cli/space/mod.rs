//! The RFC's DeltaSpaces at the command line.
//!
//! The work is in `crate::space`; here are URLs, files, and what people read. Settings are those of the agent, read from
//! git config where there is a git, and no repository is needed.

use serde_json::Value;

use super::Context;
use super::get::Get;
use super::ls::Ls;
use super::put::Put;
use super::verify::Verify;
use crate::config::Settings;
use crate::error::{Error, Result, printable};
use crate::git::{self, Config};
use crate::model::artefact::UrlError;
use crate::model::{ArtefactUrl, FileName};
use crate::space::{DeltaSpace, Machine, Trust};

mod fetch;
mod list;
mod progress;
mod prove;
mod store;

use progress::Progress;

/// Returns whether an argument is a URL: then a DeltaSpace of the RFC is meant, not a store of objects.
pub(super) fn is_meant(what: &[String]) -> bool {
    what.iter().any(|word| is_url(word))
}

fn is_url(word: &str) -> bool {
    word.starts_with("s3://") || word.starts_with("file://")
}

/// Refuses what is no URL beside those that are: paths and oids are about another kind of store.
fn only_urls(what: &[String]) -> Result<()> {
    match what.iter().find(|word| !is_url(word)) {
        Some(word) => Err(Error::Usage(format!(
            "{} is no URL like the others; where to write is told by -o PATH",
            printable(word)
        ))),
        None => Ok(()),
    }
}

pub(super) fn put(arguments: &Put, context: &mut Context<'_>) -> Result<()> {
    store::put(arguments, context)
}

pub(super) fn get(arguments: &Get, context: &mut Context<'_>) -> Result<()> {
    fetch::get(arguments, context)
}

pub(super) fn verify(arguments: &Verify, context: &mut Context<'_>) -> Result<()> {
    prove::verify(arguments, context)
}

pub(super) fn ls(arguments: &Ls, context: &mut Context<'_>) -> Result<()> {
    list::ls(arguments, context)
}

/// What every one of the commands works with.
struct Session {
    settings: Settings,
    machine: Machine,
    progress: Progress,
}

impl Session {
    fn open(context: &Context<'_>, verbose: bool) -> Result<Self> {
        let config = match Config::read_user(&context.git()) {
            // Whoever stores artefacts may have no git at all.
            Err(git::Error::Missing { .. }) => Config::default(),
            read => read?,
        };
        let settings = Settings::read(&config)?;
        let machine = Machine::open(&settings, &context.cancel)?;
        let progress = Progress::new(context.messages.clone(), verbose);
        Ok(Self { settings, machine, progress })
    }

    fn space(&self, url: &ArtefactUrl, trust: Trust) -> DeltaSpace<'_> {
        DeltaSpace::new(&self.machine, &self.settings, url, &self.progress, trust)
    }
}

/// Parses the URL of a file in a DeltaSpace.
fn file_url(url: &str) -> Result<(ArtefactUrl, FileName)> {
    let mut parsed = ArtefactUrl::parse(url).map_err(usage)?;
    match parsed.name.take() {
        Some(name) => Ok((parsed, name)),
        None => Err(Error::Usage(format!("{} names no file: put its name behind the slash", printable(url)))),
    }
}

fn usage(error: UrlError) -> Error {
    Error::Usage(error.to_string())
}

/// Refuses flags that mean stores of objects.
fn no_store(store: Option<&str>) -> Result<()> {
    match store {
        Some(_) => {
            Err(Error::Usage("--store is for objects of git-lfs; a DeltaSpace is named by its URL".into()))
        }
        None => Ok(()),
    }
}

/// Prints one line of JSON.
fn say_json(context: &mut Context<'_>, value: &Value) -> Result<()> {
    context.say(&value.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_says_what_is_meant() {
        let is_meant =
            |words: &[&str]| super::is_meant(&words.iter().map(|&word| word.into()).collect::<Vec<_>>());
        assert!(is_meant(&["a.zip", "s3://bucket/space/"]) && is_meant(&["file:///srv/space/a.zip"]));
        assert!(is_meant(&["s3://bucket", "a.zip"]) && !is_meant(&[]) && !is_meant(&["S3"]));
        assert!(!is_meant(&["a.zip", "lfs-delta::s3://bucket/game"]));
    }

    #[test]
    fn a_space_alone_names_no_file() {
        assert!(matches!(file_url("s3://bucket/space/"), Err(Error::Usage(_))));
        assert_eq!(file_url("s3://bucket/space/a").expect("a file").1.as_str(), "a");
    }
}
