//! The RFC's DeltaSpaces at the command line.

use super::Context;
use super::get::Get;
use super::ls::Ls;
use super::put::Put;
use super::verify::Verify;
use crate::error::{Error, Result};

/// Returns whether the last argument is a URL: then a DeltaSpace of the RFC is meant, not a store of objects.
pub(super) fn is_meant(what: &[String]) -> bool {
    what.last().is_some_and(|last| last.starts_with("s3://") || last.starts_with("file://"))
}

pub(super) fn put(_arguments: &Put, _context: &mut Context<'_>) -> Result<()> {
    Err(Error::Internal("unfinished".into()))
}

pub(super) fn get(_arguments: &Get, _context: &mut Context<'_>) -> Result<()> {
    Err(Error::Internal("unfinished".into()))
}

pub(super) fn verify(_arguments: &Verify, _context: &mut Context<'_>) -> Result<()> {
    Err(Error::Internal("unfinished".into()))
}

pub(super) fn ls(_arguments: &Ls, _context: &mut Context<'_>) -> Result<()> {
    Err(Error::Internal("unfinished".into()))
}
