//! `ls SPACE`: what a DeltaSpace holds, by one listing and not a request for each file.

use serde_json::json;

use super::{Session, no_store, only_urls, say_json, usage};
use crate::cli::Context;
use crate::cli::ls::Ls;
use crate::cli::text;
use crate::error::{Result, printable};
use crate::model::artefact::{DELTA, REFERENCE};
use crate::model::{ArtefactUrl, FileName};
use crate::space::{DeltaSpace, Trust};
use crate::store::artefacts::Item;

pub(super) fn ls(arguments: &Ls, context: &mut Context<'_>) -> Result<()> {
    no_store(arguments.store.as_deref())?;
    only_urls(&arguments.what)?;
    let urls = arguments.what.iter().map(|url| ArtefactUrl::parse_space(url).map_err(usage));
    let urls: Vec<ArtefactUrl> = urls.collect::<Result<_>>()?;
    let session = Session::open(context, false)?;
    for url in &urls {
        let space = session.space(url, Trust::Cache);
        let items = space.files().map_err(|error| error.about_artefact("list", space.url("")))?;
        if !arguments.json && urls.len() > 1 {
            context.say(&format!("{}:", printable(&space.url(""))))?;
        }
        for item in &items {
            if arguments.json {
                say_json(context, &line_of_json(&space, item))?;
            } else {
                context.say(&line_of_text(item))?;
            }
        }
    }
    Ok(())
}

/// Tells by its name how a file is stored.
fn kind(name: &FileName) -> &'static str {
    match name.as_str() {
        REFERENCE => "reference",
        name if name.ends_with(DELTA) => "delta",
        _ => "whole",
    }
}

fn line_of_json(space: &DeltaSpace<'_>, item: &Item) -> serde_json::Value {
    match item {
        Item::File { name, size } => {
            let file = name.of_delta().unwrap_or_else(|| name.clone());
            json!({
                "url": space.url(name.as_str()), "name": file.as_str(), "kind": kind(name), "stored_size": size,
            })
        }
        Item::Folder(name) => {
            json!({ "url": format!("{}/", space.url(name.as_str())), "name": name.as_str(), "kind": "folder" })
        }
    }
}

fn line_of_text(item: &Item) -> String {
    match item {
        Item::File { name, size } => {
            let file = name.of_delta().unwrap_or_else(|| name.clone());
            format!("{:9} {:>12}  {}", kind(name), text::size(*size), printable(file.as_str()))
        }
        Item::Folder(name) => format!("{:9} {:>12}  {}/", "folder", "", printable(name.as_str())),
    }
}
