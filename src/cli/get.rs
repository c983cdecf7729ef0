//! `get`: fetches files by hand, from the store of the repository or from a DeltaSpace of the RFC.

use std::path::PathBuf;

use clap::Args;

use super::{Context, space};
use crate::error::{Error, Result};

/// What `get` is told.
#[derive(Debug, Args)]
pub struct Get {
    /// s3://bucket/space/file.zip[.delta] or file:///…; or an oid, a path, or REV:PATH of this repository
    #[arg(value_name = "WHAT", required = true)]
    pub what: Vec<String>,
    /// Where to write: a file, or a directory where there are several
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

pub(super) fn get(arguments: &Get, context: &mut Context<'_>) -> Result<()> {
    if space::is_meant(&arguments.what) {
        return space::get(arguments, context);
    }
    Err(Error::Internal("unfinished".into()))
}
