//! `put`: stores files by hand, in the store of the repository or in a DeltaSpace of the RFC.

use clap::Args;

use super::{Context, space};
use crate::error::{Error, Result};

/// What `put` is told.
#[derive(Debug, Args)]
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
    Err(Error::Internal("unfinished".into()))
}
