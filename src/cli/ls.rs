//! `ls`: lists what is stored, in a store or in a DeltaSpace of the RFC.

use clap::Args;

use super::{Context, space};
use crate::error::{Error, Result};

/// What `ls` is told.
#[derive(Debug, Args)]
pub struct Ls {
    /// s3://bucket/space/ or file:///…; or oids, or a store; without any, the store of this repository
    #[arg(value_name = "WHAT")]
    pub what: Vec<String>,
    /// Another store than the one of this repository
    #[arg(long, value_name = "URL")]
    pub store: Option<String>,
    /// Print one JSON object per file
    #[arg(long)]
    pub json: bool,
}

pub(super) fn ls(arguments: &Ls, context: &mut Context<'_>) -> Result<()> {
    if space::is_meant(&arguments.what) {
        return space::ls(arguments, context);
    }
    Err(Error::Internal("unfinished".into()))
}
