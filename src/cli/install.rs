//! `install` and `uninstall`: the lines in git config by which git-lfs finds the agent.
//!
//! What surprises: uninstall restores the file to what it was, byte for byte, as long as nobody changed it
//! meanwhile. So install keeps the file's former content. Where somebody did change it, only the keys that
//! install set are removed.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};

use super::{Context, trust};
use crate::config;
use crate::error::{Error, Result};
use crate::git::{self, Config, Git, Place};

/// Which git config is meant; the user's own if neither is given.
#[derive(Debug, Clone, Copy, clap::Args)]
pub struct Scope {
    /// For all users of this machine
    #[arg(long, conflicts_with = "local")]
    system: bool,
    /// For this repository only
    #[arg(long)]
    local: bool,
}

impl Scope {
    const fn flag(self) -> &'static str {
        match (self.system, self.local) {
            (true, _) => "--system",
            (_, true) => "--local",
            _ => "--global",
        }
    }

    const fn file_name(self) -> &'static str {
        match (self.system, self.local) {
            (true, _) => "installed-system.json",
            (_, true) => "lfs-delta-installed.json",
            _ => "installed-global.json",
        }
    }
}

/// What install did, kept for uninstall.
#[derive(Debug, Serialize, Deserialize)]
struct Record {
    /// The file that was changed.
    file: PathBuf,
    /// Its content before, in base64; absent where there was no file.
    before: Option<String>,
    /// Its content after, in base64.
    after: String,
    /// Whether `before` is all that has to be restored.
    exact: bool,
    /// Whether `git lfs install` was run.
    filter: bool,
    /// Hosts that were trusted.
    trusted: Vec<String>,
}

/// Our keys and their values.
fn keys(program: &str) -> [(&'static str, String); 3] {
    [
        ("lfs.customtransfer.lfs-delta.path", program.to_owned()),
        ("lfs.customtransfer.lfs-delta.args", "agent".to_owned()),
        ("lfs.lfs-delta::.standalonetransferagent", "lfs-delta".to_owned()),
    ]
}

pub(super) fn install(scope: Scope, hosts: &[String], context: &mut Context<'_>) -> Result<()> {
    let git = context.git();
    let hosts = hosts.iter().map(|host| trust::check_host(host)).collect::<Result<Vec<_>>>()?;
    check_git_lfs(&git)?;
    let file = config_file(scope, &git)?;
    let record_path = record_path(scope, &git)?;
    let earlier = read_record(&record_path);
    let before = read_optional(&file)?;
    let filter = Config::read_user(&git)?.user("filter.lfs.process").is_none();
    if filter {
        git.run(["lfs", "install", "--skip-repo"].into_iter().chain(match scope.flag() {
            "--global" => None,
            flag => Some(flag),
        }))?;
    }
    for (key, value) in keys(&program()?) {
        git.run(["config", scope.flag(), "--replace-all", key, &value])?;
    }
    let mut trusted = Vec::new();
    for host in hosts {
        if trust::add(&git, scope.flag(), &host)? {
            trusted.push(host);
        }
    }
    let after = read_optional(&file)?.unwrap_or_default();
    if before.as_deref() == Some(&after) {
        return context.say("lfs-delta is installed already; nothing was changed.");
    }
    let record = Record {
        file,
        before: before.as_deref().map(to_base64),
        after: to_base64(&after),
        exact: true,
        filter,
        trusted,
    };
    let record = merge(earlier, record, before.as_deref());
    write_record(&record_path, &record)?;
    report(context, &record)
}

fn report(context: &mut Context<'_>, record: &Record) -> Result<()> {
    context.say(&format!("lfs-delta is registered with git-lfs in {}.", record.file.display()))?;
    if record.filter {
        context.say("git-lfs was not set up yet: its filters are now, too (git lfs install).")?;
    }
    for host in &record.trusted {
        context.say(&format!("The endpoint {host} is trusted."))?;
    }
    context.say("Repositories that use lfs-delta can now be cloned with plain git clone.")?;
    context.say("For a new one run, inside of it: lfs-delta init s3://bucket/prefix")
}

/// Joins what an earlier install did with what this one did.
fn merge(earlier: Option<Record>, mut record: Record, before: Option<&[u8]>) -> Record {
    let Some(earlier) = earlier.filter(|earlier| earlier.file == record.file) else { return record };
    let untouched = before.map(to_base64).as_deref() == Some(earlier.after.as_str());
    record.exact = earlier.exact && untouched;
    record.before = earlier.before;
    record.filter |= earlier.filter;
    record.trusted.extend(earlier.trusted);
    record
}

pub(super) fn uninstall(scope: Scope, context: &mut Context<'_>) -> Result<()> {
    let git = context.git();
    let record_path = record_path(scope, &git)?;
    let Some(record) = read_record(&record_path) else {
        let removed = unset(&git, scope, &keys(&program()?))?;
        return context.say(match removed {
            true => "lfs-delta is unregistered.",
            false => "lfs-delta was not installed here; nothing was changed.",
        });
    };
    let current = read_optional(&record.file)?;
    if record.exact && current.as_deref().map(to_base64).as_deref() == Some(record.after.as_str()) {
        restore(&record)?;
    } else {
        remove_keys(&git, scope, &record)?;
    }
    fs::remove_file(&record_path)
        .map_err(|source| Error::disk(format!("remove {}", record_path.display()), source))?;
    context.say(&format!("lfs-delta is unregistered; {} is as it was.", record.file.display()))
}

/// Puts the former content back, with the rights that the file has.
fn restore(record: &Record) -> Result<()> {
    let failed = |source| Error::disk(format!("write {}", record.file.display()), source);
    let Some(before) = record.before.as_deref().map(from_base64).transpose()? else {
        return fs::remove_file(&record.file).map_err(failed);
    };
    // A link (dotfiles are often linked) stays one.
    let target = fs::canonicalize(&record.file).map_err(failed)?;
    write_like(&target, &before).map_err(failed)
}

fn write_like(path: &Path, content: &[u8]) -> io::Result<()> {
    let folder = path.parent().ok_or(io::ErrorKind::InvalidInput)?;
    let mut staged = tempfile::NamedTempFile::new_in(folder)?;
    staged.write_all(content)?;
    staged.as_file().set_permissions(fs::metadata(path)?.permissions())?;
    staged.as_file().sync_all()?;
    staged.persist(path).map_err(|failed| failed.error)?;
    Ok(())
}

fn remove_keys(git: &Git, scope: Scope, record: &Record) -> Result<()> {
    let program = current_value(git, scope, "lfs.customtransfer.lfs-delta.path");
    unset(git, scope, &keys(&program.unwrap_or_default()))?;
    for host in &record.trusted {
        unset(git, scope, &[("lfs-delta.trust", host.clone())])?;
    }
    if record.filter {
        let flag = scope.flag();
        git.run(["lfs", "uninstall", "--skip-repo"].into_iter().chain((flag != "--global").then_some(flag)))?;
    }
    Ok(())
}

/// Removes keys that have exactly these values; returns whether there were any.
fn unset(git: &Git, scope: Scope, keys: &[(&str, String)]) -> Result<bool> {
    let mut removed = false;
    for (key, value) in keys {
        let pattern = format!("^{}$", escape(value));
        match git.run(["config", scope.flag(), "--unset-all", key, &pattern]) {
            Ok(_) => removed = true,
            // There was none.
            Err(git::Error::Refused { .. }) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(removed)
}

fn current_value(git: &Git, scope: Scope, key: &str) -> Option<String> {
    let text = git.run(["config", scope.flag(), "--get", key]).ok()?;
    Some(String::from_utf8_lossy(&text).trim_end().to_owned())
}

/// Escapes a text for git's extended regular expressions.
fn escape(text: &str) -> String {
    let escaped = |c: char| {
        if c.is_ascii_alphanumeric() || "/_-: ".contains(c) { c.to_string() } else { format!("[{c}]") }
    };
    text.chars().map(escaped).collect::<String>().replace("[^]", "\\^")
}

fn check_git_lfs(git: &Git) -> Result<()> {
    git.run(["--version"])?;
    let missing = || {
        let text = "git-lfs is not installed: install it (Debian, Ubuntu: apt install git-lfs; macOS: brew install \
                    git-lfs), then run lfs-delta install again";
        Error::Usage(text.into())
    };
    git.run(["lfs", "version"]).map(drop).map_err(|_| missing())
}

/// Returns the absolute path of this program, as git config can hold it.
fn program() -> Result<String> {
    let path = std::env::current_exe().map_err(|source| Error::disk("find this program", source))?;
    path.to_str()
        .map(str::to_owned)
        .ok_or_else(|| Error::Usage(format!("{} is no path that git config can hold", path.display())))
}

/// Returns the file that git changes in this scope.
fn config_file(scope: Scope, git: &Git) -> Result<PathBuf> {
    match scope.flag() {
        "--local" => Ok(Place::find(git)?.common.join("config")),
        "--system" => {
            let mut command = git.command(["config", "--system", "--edit"]);
            // git hands the file's name to its editor.
            command.env("GIT_EDITOR", "printf %s");
            let text = git.finish(command, Vec::new())?;
            Ok(PathBuf::from(String::from_utf8_lossy(&text).trim_end().to_owned()))
        }
        _ => global_file(),
    }
}

fn global_file() -> Result<PathBuf> {
    if let Some(path) = config::path_variable("GIT_CONFIG_GLOBAL") {
        return Ok(path);
    }
    let home = directories::BaseDirs::new().ok_or_else(|| Error::Usage("HOME is not set".into()))?;
    let first = home.home_dir().join(".gitconfig");
    let second = home.config_dir().join("git").join("config");
    Ok(if !first.exists() && second.exists() { second } else { first })
}

fn record_path(scope: Scope, git: &Git) -> Result<PathBuf> {
    if scope.local {
        return Ok(Place::find(git)?.common.join(scope.file_name()));
    }
    let folder = config::data_folder().ok_or_else(|| Error::Usage("HOME is not set".into()))?;
    Ok(folder.join(scope.file_name()))
}

fn read_record(path: &Path) -> Option<Record> {
    serde_json::from_slice(&fs::read(path).ok()?).ok()
}

fn write_record(path: &Path, record: &Record) -> Result<()> {
    let text = serde_json::to_vec_pretty(record).map_err(|error| Error::Internal(error.to_string()))?;
    crate::disk::replace(path, &text)
        .map_err(|source| Error::disk(format!("write {}", path.display()), source))
}

fn read_optional(path: &Path) -> Result<Option<Vec<u8>>> {
    match fs::read(path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(Error::disk(format!("read {}", path.display()), source)),
    }
}

fn to_base64(bytes: &[u8]) -> String {
    STANDARD.encode(bytes)
}

fn from_base64(text: &str) -> Result<Vec<u8>> {
    STANDARD
        .decode(text)
        .map_err(|error| Error::Internal(format!("the record of install is damaged: {error}")))
}
