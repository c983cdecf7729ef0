//! `get URL…`: into a file, a directory, or the standard output, and nothing unproven into any of them.
//!
//! A file is written under a temporary name beside its place and renamed once it is proven; what goes to the standard
//! output lies in a temporary file until then.

use std::collections::HashSet;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};

use serde_json::json;

use super::{Session, file_url, no_store, only_urls, say_json};
use crate::cli::Context;
use crate::cli::get::Get;
use crate::disk;
use crate::error::{Error, Result, printable};
use crate::model::{ArtefactUrl, FileName};
use crate::space::{DeltaSpace, Locate, Located, Place, Restored, Trust};

/// Where files go.
enum Goal {
    Output,
    File(PathBuf),
    Folder(PathBuf),
}

pub(super) fn get(arguments: &Get, context: &mut Context<'_>) -> Result<()> {
    no_store(arguments.store.as_deref())?;
    only_urls(&arguments.what)?;
    let wanted: Vec<(ArtefactUrl, FileName)> =
        arguments.what.iter().map(|url| file_url(url)).collect::<Result<_>>()?;
    let goal = goal(arguments, &wanted, context)?;
    let session = Session::open(context, arguments.verbose)?;
    session.progress.begin(wanted.len());
    let mut failed = 0;
    for (url, name) in &wanted {
        let space = session.space(url, Trust::Cache);
        session.progress.next(&space.url(name.as_str()));
        let fetched = fetch(&space, name, &goal, context);
        match fetched.map_err(|error| error.about_artefact("fetch", space.url(name.as_str()))) {
            Ok((located, restored, path)) => {
                session.progress.warn(&space.url(located.name.as_str()), &restored.warnings);
                if arguments.json {
                    let line = json!({
                        "url": space.url(located.name.as_str()),
                        "path": path.map(|path| path.display().to_string()),
                        "stored_size": located.stored_size(),
                        "file_size": restored.size,
                        "file_sha256": restored.sha256.to_string(),
                        "warnings": restored.warnings,
                    });
                    session.progress.aside(|| say_json(context, &line))?;
                }
            }
            Err(error) if wanted.len() == 1 || matches!(error, Error::Cancelled) => return Err(error),
            Err(error) => {
                session.progress.tell_error(&error);
                failed += 1;
            }
        }
        session.progress.done();
    }
    session.progress.end();
    match failed {
        0 => Ok(()),
        failed => Err(Error::Several { failed, total: wanted.len() }),
    }
}

/// Decides where files go, before anything is fetched.
fn goal(arguments: &Get, wanted: &[(ArtefactUrl, FileName)], context: &Context<'_>) -> Result<Goal> {
    let several = wanted.len() > 1;
    let Some(output) = arguments.place(wanted.len())? else {
        if context.output_is_terminal && arguments.output.is_none() {
            return Err(Error::Usage(
                "this is no text for a terminal: add -o PATH, redirect with >, or insist by -o -".into(),
            ));
        }
        return Ok(Goal::Output);
    };
    let path = context.folder.join(output);
    let ends_with_slash = output.as_os_str().to_string_lossy().ends_with('/');
    if !several && !ends_with_slash && !path.is_dir() {
        return Ok(Goal::File(path));
    }
    let mut names = HashSet::new();
    for (_, name) in wanted {
        // A delta's own name is that of its file once it is there.
        let name = name.of_delta().unwrap_or_else(|| name.clone());
        if !names.insert(name.clone()) {
            let name = printable(name.as_str());
            return Err(Error::Usage(format!("two of them are called {name}: get them one by one")));
        }
    }
    fs::create_dir_all(&path).map_err(|source| Error::disk(format!("make {}", path.display()), source))?;
    Ok(Goal::Folder(path))
}

type Fetched = (Located, Restored, Option<PathBuf>);

fn fetch(space: &DeltaSpace<'_>, name: &FileName, goal: &Goal, context: &mut Context<'_>) -> Result<Fetched> {
    match goal {
        Goal::Output => to_output(space, name, context).map(|(located, restored)| (located, restored, None)),
        Goal::File(path) => to_path(space, name, path),
        Goal::Folder(folder) => to_folder(space, name, folder),
    }
}

fn to_output(
    space: &DeltaSpace<'_>,
    name: &FileName,
    context: &mut Context<'_>,
) -> Result<(Located, Restored)> {
    let failed = |source| Error::disk("write to the standard output", source);
    let mut file = space.temporary()?;
    let done = space.restore(name, Locate::Either, &mut Place::File(&mut file))?;
    disk::rewind(&mut file).map_err(failed)?;
    let cancel = context.cancel.clone();
    disk::copy(&mut file, context.output, &mut |_| cancel.check()).map_err(failed)?;
    context.output.flush().map_err(failed)?;
    Ok(done)
}

fn to_path(space: &DeltaSpace<'_>, name: &FileName, path: &Path) -> Result<Fetched> {
    let failed = |source: io::Error| Error::disk(format!("write {}", path.display()), source);
    // A link stays one: what it leads to is what is written.
    let target = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    if fs::metadata(&target).is_ok_and(|data| !data.is_file()) {
        return to_device(space, name, &target);
    }
    let folder = target.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut staged = disk::stage(folder).map_err(failed)?;
    let (located, restored) = space.restore(name, Locate::Either, &mut Place::File(staged.as_file_mut()))?;
    disk::publish_over(staged, &target, folder).map_err(failed)?;
    Ok((located, restored, Some(path.to_owned())))
}

/// Writes a file into a folder, under the name that it turns out to have.
fn to_folder(space: &DeltaSpace<'_>, name: &FileName, folder: &Path) -> Result<Fetched> {
    let failed = |source: io::Error| Error::disk(format!("write into {}", folder.display()), source);
    let mut staged = disk::stage(folder).map_err(failed)?;
    let (located, restored) = space.restore(name, Locate::Either, &mut Place::File(staged.as_file_mut()))?;
    let path = folder.join(located.artefact().as_str());
    if fs::symlink_metadata(&path).is_ok_and(|data| !data.is_file() && !data.is_symlink()) {
        return Err(Error::Usage(format!("{} is there, and no file", path.display())));
    }
    disk::publish_over(staged, &path, folder).map_err(failed)?;
    Ok((located, restored, Some(path)))
}

/// Writes to what can be no file of its own: a pipe, `/dev/null`.
fn to_device(space: &DeltaSpace<'_>, name: &FileName, path: &Path) -> Result<Fetched> {
    let failed = |source: io::Error| Error::disk(format!("write {}", path.display()), source);
    if path.is_dir() {
        return Err(Error::Usage(format!("{} is a directory", path.display())));
    }
    let mut file = space.temporary()?;
    let (located, restored) = space.restore(name, Locate::Either, &mut Place::File(&mut file))?;
    disk::rewind(&mut file).map_err(failed)?;
    let mut device: File = OpenOptions::new().write(true).open(path).map_err(failed)?;
    io::copy(&mut file, &mut device).map_err(failed)?;
    Ok((located, restored, Some(path.to_owned())))
}
