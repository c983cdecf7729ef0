//! `init`: makes a store, or checks one, and writes the line of `.lfsconfig` that points a repository at it.

use std::path::{Component, Path, PathBuf};

use super::{Context, trust};
use crate::config::Settings;
use crate::depot::{self, Depot};
use crate::disk;
use crate::error::{Error, Result};
use crate::git::{Config, Git, Place};
use crate::model::location::SCHEME;
use crate::model::{Location, S3Location};
use crate::store::s3::Anonymous;

pub(super) fn init(store: &str, profile: Option<String>, context: &mut Context<'_>) -> Result<()> {
    let git = context.git();
    let place = Place::find(&git)?;
    let top = place.work_tree.clone().ok_or_else(|| {
        Error::Usage(
            "this repository has no work tree, and .lfsconfig is a committed file: run this in a clone"
                .into(),
        )
    })?;
    let location = locate(store, &top)?;
    let config = Config::read(&git, &place)?;
    check_other_store(&config, &git, &top, &location)?;
    let mut settings = Settings::read(&config)?;
    // To make a store is to write.
    settings.s3.access.anonymous = Anonymous::Never;
    if profile.is_some() {
        settings.s3.access.profile = profile.clone();
    }
    let made = make(&location, &settings, context)?;
    write_lfsconfig(&git, &top, &location)?;
    if let Some(profile) = profile {
        // In this clone alone: teammates have profiles of their own.
        git.run(["config", "--local", "lfs-delta.profile", &profile])?;
    }
    let trusted = match &location {
        Location::S3(s3) => trust_endpoint(s3, &git)?,
        Location::Directory(_) => None,
    };
    install_hooks(&git, context)?;
    report(&location, made, trusted.as_deref(), &config, context)
}

/// Reads a store as people write it: a URL, or a directory relative to the top of the repository.
fn locate(store: &str, top: &Path) -> Result<Location> {
    let url = |error: crate::model::LocationError| Error::Usage(error.to_string());
    if store.contains("://") || store.starts_with(SCHEME) {
        return Location::parse(store).map_err(url);
    }
    if store.trim().is_empty() {
        return Err(Error::Usage("the name of the store is empty: is a variable not set?".into()));
    }
    let path = plain(&top.join(store));
    if path == plain(top) {
        return Err(Error::Usage("a store in the place of the work tree would mix with its files".into()));
    }
    if path.starts_with(top.join(".git")) {
        return Err(Error::Usage("a store inside of .git would be lost with the clone".into()));
    }
    // Through its URL, so that what cannot be written in one is refused now.
    Location::parse(&Location::Directory(path).to_string()).map_err(url)
}

/// Resolves `.` and `..` in a path that need not exist.
fn plain(path: &Path) -> PathBuf {
    let mut plain = PathBuf::new();
    for part in path.components() {
        match part {
            Component::ParentDir => drop(plain.pop()),
            Component::CurDir => {}
            part => plain.push(part),
        }
    }
    plain
}

/// Refuses to redirect a repository that uses another store: its objects would not be found any more.
fn check_other_store(config: &Config, git: &Git, top: &Path, location: &Location) -> Result<()> {
    let file = top.join(".lfsconfig");
    let found = git.run(["config", "--file", &file.to_string_lossy(), "--get", "lfs.url"]);
    let found = found.map(|text| String::from_utf8_lossy(&text).trim_end().to_owned()).ok();
    let local = config.user("lfs.url").map(str::to_owned);
    for (url, place) in [(found, ".lfsconfig"), (local, "git config")] {
        if let Some(url) = url.filter(|url| *url != location.lfs_url()) {
            return Err(Error::Usage(format!(
                "lfs.url in {place} is {url} already. To move, run git lfs fetch --all, remove that line, run \
                 lfs-delta init again, commit, and git lfs push --all REMOTE"
            )));
        }
    }
    Ok(())
}

/// Makes the store and tests it; returns whether it is new.
fn make(location: &Location, settings: &Settings, context: &Context<'_>) -> Result<bool> {
    if let Location::Directory(path) = location {
        disk::make_folder(path).map_err(|source| Error::disk(format!("make {}", path.display()), source))?;
    }
    let depot = Depot::new(settings.open(location, &context.cancel), None);
    depot.create().map_err(|source| match source {
        depot::Error::Store(crate::store::Error::Cancelled) => Error::Cancelled,
        source => Error::Depot { store: location.to_string(), source },
    })
}

fn write_lfsconfig(git: &Git, top: &Path, location: &Location) -> Result<()> {
    let file = top.join(".lfsconfig");
    git.run(["config", "--file", &file.to_string_lossy(), "lfs.url", &location.lfs_url()])?;
    Ok(())
}

/// Who types an endpoint's name trusts it; returns the host that was not trusted before.
fn trust_endpoint(location: &S3Location, git: &Git) -> Result<Option<String>> {
    let Some(endpoint) = &location.endpoint else { return Ok(None) };
    Ok(trust::add(git, "--global", &endpoint.host)?.then(|| endpoint.host.clone()))
}

/// Lets git-lfs put its hooks into this repository, without which git push would leave objects behind.
fn install_hooks(git: &Git, context: &mut Context<'_>) -> Result<()> {
    match git.run(["lfs", "update"]) {
        Ok(_) => Ok(()),
        Err(error) => context
            .say(&format!("Warning: the hooks of git-lfs are not in place ({error}). Run: git lfs update")),
    }
}

fn report(
    location: &Location,
    made: bool,
    trusted: Option<&str>,
    config: &Config,
    context: &mut Context<'_>,
) -> Result<()> {
    let state = if made { "is ready (new)" } else { "is ready (it was there already)" };
    context.say(&format!("The store {location} {state}: writing, reading and listing work."))?;
    if let Some(host) = trusted {
        context.say(&format!("The endpoint {host} is trusted on this machine from now on."))?;
    }
    if config.user("lfs.lfs-delta::.standalonetransferagent").is_none() {
        context
            .say("lfs-delta is not registered with git-lfs on this machine yet. Run: lfs-delta install")?;
    }
    context.say("")?;
    context.say("Commit the setting by itself, before any new LFS object:")?;
    context.say("    git add .lfsconfig && git commit -m 'Store LFS objects with lfs-delta'")?;
    context.say(
        "If this repository has LFS objects already, bring all of them over: git lfs push --all REMOTE",
    )?;
    let endpoint = match location {
        Location::S3(S3Location { endpoint: Some(endpoint), .. }) => format!(" --trust {}", endpoint.host),
        _ => String::new(),
    };
    context
        .say(&format!("Teammates run once per machine, then git clone as ever: lfs-delta install{endpoint}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_is_relative_to_the_top_of_the_repository() {
        let located = |store| locate(store, Path::new("/srv/repo")).map(|location| location.to_string());
        assert_eq!(located("../store").expect("path"), "file:///srv/store");
        assert_eq!(located("/srv/a b").expect("path"), "file:///srv/a%20b");
        assert_eq!(located("s3://bucket/x").expect("url"), "s3://bucket/x");
        assert!(located(".git/lfs-store").is_err());
        assert!(located("https://example.com").is_err());
    }
}
