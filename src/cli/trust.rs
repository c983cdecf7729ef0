//! `trust`: the user's word for an S3 endpoint that repositories ask for.

use super::Context;
use crate::error::{Error, Result};
use crate::git::{Config, Git};
use crate::model::location::Endpoint;

/// The setting that holds the trusted hosts, one value each.
const KEY: &str = "lfs-delta.trust";

pub(super) fn trust(host: &str, context: &mut Context<'_>) -> Result<()> {
    let host = check_host(host)?;
    if add(&context.git(), "--global", &host)? {
        context.say(&format!("{host} is trusted on this machine from now on."))
    } else {
        context.say(&format!("{host} is trusted already."))
    }
}

/// Reads a host as people write it: alone, with a port, or as a whole URL.
pub(super) fn check_host(text: &str) -> Result<String> {
    let endpoint = Endpoint::parse(text).map_err(|error| Error::Usage(error.to_string()))?;
    Ok(endpoint.host)
}

/// Adds a host to the trusted ones; `false` when it is one of them.
pub(super) fn add(git: &Git, scope: &str, host: &str) -> Result<bool> {
    let config = Config::read_user(git)?;
    if config.user_all(KEY).any(|trusted| trusted.eq_ignore_ascii_case(host)) {
        return Ok(false);
    }
    git.run(["config", scope, "--add", KEY, host])?;
    Ok(true)
}
