//! `get`: fetches files by hand, from the store of the repository or from a DeltaSpace of the RFC.

use std::collections::HashSet;
use std::fs::File;
use std::path::{Path, PathBuf};

use clap::Args;
use serde_json::json;

use super::{Context, objects, space, text};
use crate::disk;
use crate::error::{Error, Result};
use crate::git::{Operation, Version};
use crate::transfer::{Meter, Wanted};

/// What `get` is told.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  lfs-delta get hero.psd HEAD~3:villain.psd -o old/\n  lfs-delta get 4d7a…2393 > hero.psd\n  lfs-delta get s3://bucket/releases/app/app.zip -o app.zip"
)]
pub struct Get {
    /// s3://bucket/space/file.zip[.delta] or file:///…; or an oid, a path, or REV:PATH of this repository
    #[arg(value_name = "WHAT", required = true)]
    pub what: Vec<String>,
    /// Where to write: a file, a directory where there are several, or - for the standard output
    #[arg(short, long, value_name = "PATH")]
    pub output: Option<PathBuf>,
    /// Another store than the one of this repository
    #[arg(long, value_name = "URL")]
    pub store: Option<String>,
    /// Print one JSON object per file (with --output)
    #[arg(long, requires = "output")]
    pub json: bool,
    /// Tell step by step what happens
    #[arg(short, long)]
    pub verbose: bool,
}

impl Get {
    /// Returns the file or the directory to write to; `None` means the standard output, which takes one file and nothing
    /// beside it. A file called `-` is `./-`.
    pub(super) fn place(&self, files: usize) -> Result<Option<&Path>> {
        let told = self.output.as_deref();
        let place = told.filter(|path| path.as_os_str() != "-");
        if place.is_some() {
            return Ok(place);
        }
        if self.json {
            return Err(Error::Usage("--json needs the standard output for itself: add -o PATH".into()));
        }
        match files {
            1 => Ok(None),
            _ => Err(Error::Usage("several of them need a directory: add -o DIRECTORY".into())),
        }
    }
}

pub(super) fn get(arguments: &Get, context: &mut Context<'_>) -> Result<()> {
    if space::is_meant(&arguments.what) {
        return space::get(arguments, context);
    }
    let (hand, what) =
        objects::open(&arguments.what, arguments.store.as_deref(), Operation::Download, context)?;
    let wanted = what.iter().map(|text| hand.transfer.resolve(text)).collect::<Result<Vec<_>>>()?;
    let places = places(arguments, &what, &wanted)?;
    for (index, wanted) in wanted.iter().enumerate() {
        let (version, file) = hand.transfer.fetch_wanted(wanted, &Meter::silent())?;
        match &places {
            Some(places) => {
                deliver(arguments, version, &file, &context.folder.join(&places[index]), context)?
            }
            None => print(&file, context)?,
        }
    }
    objects::log_calls(&hand.calls);
    Ok(())
}

/// Decides where each object goes; `None` means stdout.
fn places(arguments: &Get, what: &[String], wanted: &[Wanted]) -> Result<Option<Vec<PathBuf>>> {
    let usage = |text: String| Err(Error::Usage(text));
    let Some(output) = arguments.place(what.len())? else { return Ok(None) };
    if what.len() == 1 && !output.is_dir() {
        return Ok(Some(vec![output.to_owned()]));
    }
    if !output.is_dir() {
        return usage(format!("{} is no directory, and several objects need one", output.display()));
    }
    let mut names = HashSet::new();
    let mut places = Vec::new();
    for (text, wanted) in what.iter().zip(wanted) {
        let name = file_name(text, wanted);
        if !names.insert(name.clone()) {
            return usage(format!("two of these would be called {name} in {}", output.display()));
        }
        places.push(output.join(name));
    }
    Ok(Some(places))
}

/// Returns what an object is called in a directory: the last part of its path, else its oid.
fn file_name(text: &str, wanted: &Wanted) -> String {
    let path = match wanted {
        Wanted::Object(_) => "",
        Wanted::Pointer(_) => text.rsplit([':', '/']).next().unwrap_or_default(),
    };
    if matches!(path, "" | "." | "..") { wanted.oid().to_string() } else { path.to_owned() }
}

fn deliver(
    arguments: &Get,
    version: Version,
    file: &Path,
    place: &Path,
    context: &mut Context<'_>,
) -> Result<()> {
    disk::deliver(file, place).map_err(|source| Error::disk(format!("write {}", place.display()), source))?;
    let Version { oid, size } = version;
    if arguments.json {
        return context.say(
            &json!({ "oid": oid.to_string(), "size": size, "path": place.to_string_lossy() }).to_string(),
        );
    }
    context.say(&format!("{oid} {} -> {}", text::size(size), place.display()))
}

/// Writes a proven file to stdout.
fn print(file: &Path, context: &mut Context<'_>) -> Result<()> {
    let failed = |source| Error::disk("print the object", source);
    let mut file = File::open(file).map_err(failed)?;
    let cancel = context.cancel.clone();
    disk::copy(&mut file, context.output, &mut |_| cancel.check()).map_err(failed)?;
    context.output.flush().map_err(failed)
}
