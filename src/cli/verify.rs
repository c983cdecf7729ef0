//! `verify`: proves that what is stored can be restored, in a store or in a DeltaSpace of the RFC.

use clap::Args;

use super::{Context, space};
use crate::error::{Error, Result};

/// What `verify` is told.
#[derive(Debug, Args)]
pub struct Verify {
    /// Oids, a store, or s3://bucket/space/[file.zip.delta] or file:///…; without any, the store of this repository
    #[arg(value_name = "WHAT")]
    pub what: Vec<String>,
    /// Another store than the one of this repository
    #[arg(long, value_name = "URL")]
    pub store: Option<String>,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
    /// Tell step by step what happens
    #[arg(short, long)]
    pub verbose: bool,
}

pub(super) fn verify(arguments: &Verify, context: &mut Context<'_>) -> Result<()> {
    if space::is_meant(&arguments.what) {
        return space::verify(arguments, context);
    }
    Err(Error::Internal("unfinished".into()))
}
