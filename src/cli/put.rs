//! `put`: stores files by hand, in the store of the repository or in a DeltaSpace of the RFC.

use std::path::Path;

use clap::Args;
use serde_json::json;

use super::{Context, objects, space, text};
use crate::error::{Error, Result};
use crate::git::{Operation, Version};
use crate::transfer::{self, Meter, Stored};

/// What `put` is told.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  lfs-delta put build/app.zip\n  lfs-delta put -v hero.psd\n  lfs-delta put app.zip --store s3://bucket/game\n  lfs-delta put app.zip s3://bucket/releases/app/"
)]
pub struct Put {
    /// The files to store, and last where to: s3://bucket/path/to/space/ or file:///path/to/space/;
    /// without one, the store of this repository
    #[arg(value_name = "FILE|SPACE", required = true)]
    pub what: Vec<String>,
    /// Another store than the one of this repository
    #[arg(long, value_name = "URL")]
    pub store: Option<String>,
    /// Warn where a delta takes more than this share of the file (a DeltaSpace only)
    #[arg(long, value_name = "RATIO", default_value_t = 0.5)]
    pub max_ratio: f64,
    /// Print one JSON object per file
    #[arg(long)]
    pub json: bool,
    /// Tell step by step what happens
    #[arg(short, long)]
    pub verbose: bool,
}

pub(super) fn put(arguments: &Put, context: &mut Context<'_>) -> Result<()> {
    if space::is_meant(&arguments.what) {
        return space::put(arguments, context);
    }
    let (hand, files) =
        objects::open(&arguments.what, arguments.store.as_deref(), Operation::Upload, context)?;
    if files.is_empty() {
        return Err(Error::Usage("name the files to store".into()));
    }
    for file in &files {
        let put = hand.transfer.put(Path::new(file), &Meter::silent())?;
        let line = if arguments.json { as_json(file, &put) } else { as_text(file, &put) };
        context.say(&line)?;
    }
    objects::log_calls(&hand.calls);
    Ok(())
}

fn as_text(file: &str, put: &transfer::Put) -> String {
    let Version { oid, size } = put.version;
    let whole = text::size(size);
    let how = match put.stored {
        Stored::Already => format!("{whole}, stored already"),
        Stored::Whole { size } => format!("{whole}, stored whole in {}", text::size(size)),
        Stored::Delta { size, depth, base } => {
            let size = text::size(size);
            format!("{whole}, stored in {size} as a delta on {} ({depth} copies in its chain)", base.oid)
        }
    };
    format!("{oid} {file}: {how}")
}

fn as_json(file: &str, put: &transfer::Put) -> String {
    let (stored, stored_size, depth, base) = match put.stored {
        Stored::Already => ("already", None, None, None),
        Stored::Whole { size } => ("whole", Some(size), Some(1), None),
        Stored::Delta { size, depth, base } => ("delta", Some(size), Some(depth), Some(base.oid.to_string())),
    };
    json!({
        "path": file,
        "oid": put.version.oid.to_string(),
        "size": put.version.size,
        "stored": stored,
        "stored_size": stored_size,
        "depth": depth,
        "base": base,
    })
    .to_string()
}
