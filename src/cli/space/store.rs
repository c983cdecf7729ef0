//! `put FILE… SPACE`.

use std::path::PathBuf;

use serde_json::{Value, json};

use super::{Session, is_url, no_store, usage};
use crate::cli::Context;
use crate::cli::put::Put;
use crate::cli::text;
use crate::error::{Error, Result, printable};
use crate::model::{ArtefactUrl, FileName};
use crate::space::{self, DeltaSpace, Trust};
use crate::store::s3::Anonymous;

pub(super) fn put(arguments: &Put, context: &mut Context<'_>) -> Result<()> {
    no_store(arguments.store.as_deref())?;
    let named = arguments.what.split_last().filter(|(space, files)| is_url(space) && !files.is_empty());
    let Some((space, files)) = named else {
        return Err(Error::Usage("name the files to put first, and the DeltaSpace last".into()));
    };
    if !(0.0..=1000.0).contains(&arguments.max_ratio) {
        return Err(Error::Usage("--max-ratio is a share like 0.5".into()));
    }
    let url = ArtefactUrl::parse_space(space).map_err(usage)?;
    // All names before the first byte is sent.
    let files = files.iter().map(|file| {
        let path = context.folder.join(file);
        space::name_of(&path).map(|name| (path, name))
    });
    let files: Vec<(PathBuf, FileName)> = files.collect::<Result<_>>()?;
    check_distinct(&files)?;
    let mut session = Session::open(context, arguments.verbose)?;
    session.settings.s3.access.anonymous = Anonymous::Never;
    let space = session.space(&url, Trust::Cache);
    let mut failed = Vec::new();
    session.progress.begin(files.len());
    for (path, name) in &files {
        session.progress.next(&space.url(name.as_str()));
        let stored = space.read(path).and_then(|local| space.put(&local, name, arguments.max_ratio));
        match stored.map_err(|error| error.about_artefact("store", space.url(name.as_str()))) {
            Ok(stored) => {
                session.progress.warn(&space.url(stored.name.as_str()), &stored.warnings);
                let line = if arguments.json || !context.output_is_terminal {
                    summary(&space, name, &stored).to_string()
                } else {
                    sentence(&space, &stored)
                };
                session.progress.aside(|| context.say(&line))?;
            }
            Err(error) if files.len() == 1 || matches!(error, Error::Cancelled) => return Err(error),
            Err(error) => {
                session.progress.tell_error(&error);
                failed.push(error);
            }
        }
        session.progress.done();
    }
    session.progress.end();
    match failed.len() {
        0 => Ok(()),
        failed => Err(Error::Several { failed, total: files.len() }),
    }
}

fn check_distinct(files: &[(PathBuf, FileName)]) -> Result<()> {
    for (index, (_, name)) in files.iter().enumerate() {
        if files[..index].iter().any(|(_, other)| other == name) {
            return Err(Error::Usage(format!(
                "two files are called {}: put them one by one",
                printable(name.as_str())
            )));
        }
    }
    Ok(())
}

/// Returns what deltaglider prints, and more.
fn summary(space: &DeltaSpace<'_>, name: &FileName, stored: &space::Put) -> Value {
    let (bucket, key) = space.place(&stored.name);
    let delta = stored.delta;
    let operation = match delta {
        Some(delta) if delta.is_first => "create_reference",
        Some(_) => "create_delta",
        None => "upload_direct",
    };
    let reference = delta.map(|_| space.place(&FileName::reference()).1);
    json!({
        "operation": operation,
        "url": space.url(stored.name.as_str()),
        "bucket": bucket,
        "key": key,
        "original_name": name.as_str(),
        "file_size": stored.size,
        "file_sha256": stored.sha256.to_string(),
        "delta_size": delta.map(|delta| delta.size),
        "delta_ratio": stored.ratio(),
        "ref_key": reference,
        "ref_sha256": delta.map(|delta| delta.reference.to_string()),
        "cache_hit": delta.is_some_and(|delta| delta.was_cached),
        "replaced": stored.replaced,
        "why_whole": stored.why_whole,
        "warnings": stored.warnings,
    })
}

fn sentence(space: &DeltaSpace<'_>, stored: &space::Put) -> String {
    let (url, size) = (printable(&space.url(stored.name.as_str())), text::size(stored.size));
    let again = if stored.replaced { ", in place of an earlier version" } else { "" };
    match (stored.delta, &stored.why_whole) {
        (Some(delta), _) if delta.is_first => {
            format!("{url}: {size}, the reference of this DeltaSpace{again}")
        }
        (Some(delta), _) => {
            let share = stored.ratio().unwrap_or_default() * 100.0;
            format!("{url}: {size} as a delta of {} ({share:.1} %){again}", text::size(delta.size))
        }
        (None, why) => {
            let why = why.as_ref().map(|why| format!(" ({})", printable(why))).unwrap_or_default();
            format!("{url}: {size}, stored whole{why}{again}")
        }
    }
}
