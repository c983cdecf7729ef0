//! Pointers: the one that a path has, and all that any ref has.
//!
//! What surprises: to find every pointer of every ref, no tree is read twice and no large blob at all. git lists
//! what is reachable once, tells the sizes, and is asked for the content of the small ones only.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::Path;

use super::names::parse_pointer;
use super::{Error, Git, Result, Version};
use crate::model::Oid;
use crate::model::limits::{GIT_OUTPUT_MAX_BYTES, POINTER_MAX_BYTES};

/// What a name like `HEAD:path` or `:./path` stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Named {
    /// A pointer.
    Pointer(Version),
    /// A file whose content git has itself.
    Plain,
}

/// Reads what a name stands for.
///
/// # Errors
/// `Refused` where there is no such file; those of running git.
pub fn find(git: &Git, name: &str) -> Result<Named> {
    let size = git.run(["cat-file", "-s", "--end-of-options", name])?;
    let size: Option<u64> = std::str::from_utf8(&size).ok().and_then(|text| text.trim().parse().ok());
    if size.is_none_or(|size| size > POINTER_MAX_BYTES) {
        return Ok(Named::Plain);
    }
    let content = git.run(["cat-file", "blob", "--end-of-options", name])?;
    let version = std::str::from_utf8(&content).ok().and_then(parse_pointer);
    Ok(version.map_or(Named::Plain, Named::Pointer))
}

/// Returns how git names a path of the work tree in a commit, or in the index where `rev` is empty; `None` for a path
/// elsewhere.
pub fn name_at(git: &Git, rev: &str, path: &Path) -> Option<String> {
    let below_here = if path.is_absolute() { path.strip_prefix(git.folder()).ok() } else { Some(path) };
    if let Some(path) = below_here {
        return Some(format!("{rev}:./{}", path.to_str()?));
    }
    let top = super::path_from(&git.run(["rev-parse", "--show-toplevel"]).ok()?);
    Some(format!("{rev}:{}", path.strip_prefix(top).ok()?.to_str()?))
}

/// All pointers that the refs of a repository lead to.
#[derive(Debug, Default)]
pub struct Pointers {
    /// By object: its size, and the blobs that point to it.
    objects: BTreeMap<Oid, (u64, Vec<String>)>,
}

/// Where an object is needed.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Use {
    /// The commit that brought it.
    pub commit: String,
    /// The path in it.
    pub path: String,
}

impl Pointers {
    /// Reads the pointers of all refs, remote ones, tags and the stash among them.
    ///
    /// # Errors
    /// Those of running git; `Incomplete` where this clone lacks blobs, so that nobody can say what they are.
    pub fn of_all_refs(git: &Git) -> Result<Self> {
        let listed = whole(git, "rev-list", {
            let mut command = git.command(["rev-list", "--ignore-missing", "--objects"]);
            command.args(["--no-object-names", "--missing=print", "--all", "HEAD", "--"]);
            git.finish(command, Vec::new())?
        })?;
        if listed.split(|&byte| byte == b'\n').any(|line| line.starts_with(b"?")) {
            return Err(Error::Incomplete);
        }
        let format = "--batch-check=%(objecttype) %(objectsize) %(objectname)";
        let checked = whole(git, "cat-file", git.finish(git.command(["cat-file", format]), listed)?)?;
        let blobs: Vec<&str> = checked.split(|&byte| byte == b'\n').filter_map(small_blob).collect();
        let mut pointers = Self::default();
        // In groups, so that the answers never come near the bound.
        for group in blobs.chunks(BLOBS_AT_ONCE) {
            pointers.read(git, group)?;
        }
        Ok(pointers)
    }

    fn read(&mut self, git: &Git, blobs: &[&str]) -> Result<()> {
        let command = git.command(["cat-file", "--batch"]);
        let answers = git.finish(command, format!("{}\n", blobs.join("\n")).into_bytes())?;
        let mut rest = &answers[..];
        while let Some((id, content)) = take_blob(&mut rest) {
            let Some(version) = std::str::from_utf8(content).ok().and_then(parse_pointer) else { continue };
            let object = self.objects.entry(version.oid).or_insert((version.size, Vec::new()));
            object.1.push(id.to_owned());
        }
        Ok(())
    }

    /// Returns the objects that are pointed to.
    pub fn versions(&self) -> impl Iterator<Item = Version> {
        self.objects.iter().map(|(oid, (size, _))| Version { oid: *oid, size: *size })
    }

    /// Returns the size that an object has, as its pointer says.
    pub fn size(&self, oid: &Oid) -> Option<u64> {
        self.objects.get(oid).map(|(size, _)| *size)
    }

    /// Finds the commits and paths that brought some objects, newest first.
    ///
    /// # Errors
    /// Those of running git.
    pub fn uses(&self, git: &Git, oids: &HashSet<Oid>) -> Result<BTreeMap<Oid, Vec<Use>>> {
        let wanted = self.objects.iter().filter(|(oid, _)| oids.contains(oid));
        let blobs: HashMap<&str, Oid> = wanted
            .flat_map(|(oid, (_, blobs))| blobs.iter().map(move |blob| (blob.as_str(), *oid)))
            .collect();
        let mut uses = BTreeMap::new();
        if blobs.is_empty() {
            return Ok(uses);
        }
        let quiet = ["-c", "log.showSignature=false", "-c", "log.showRoot=true", "-c", "diff.relative=false"];
        let shape = ["log", "--format=%x00%H", "--raw", "-z", "--no-abbrev", "--no-renames", "--no-ext-diff"];
        let mut command = git.command(quiet.iter().chain(&shape));
        command.args(["--ignore-missing", "-m", "--all", "HEAD", "--"]);
        let log = whole(git, "log", git.finish(command, Vec::new())?)?;
        for (blob, used) in parse_log(&log) {
            if let Some(oid) = blobs.get(blob) {
                let uses: &mut Vec<Use> = uses.entry(*oid).or_default();
                if !uses.contains(&used) {
                    uses.push(used);
                }
            }
        }
        Ok(uses)
    }
}

/// Blobs whose content git is asked for at once.
const BLOBS_AT_ONCE: usize = 100_000;

/// Fails for an answer that was cut: what is missing in it must not pass for not being there.
fn whole(git: &Git, command: &str, answer: Vec<u8>) -> Result<Vec<u8>> {
    if answer.len() as u64 >= GIT_OUTPUT_MAX_BYTES {
        let message = format!("more than {GIT_OUTPUT_MAX_BYTES} bytes from {}", git.folder().display());
        return Err(Error::Refused { command: command.to_owned(), message });
    }
    Ok(answer)
}

/// Returns the id in a line `blob <size> <id>` of a blob that may be a pointer.
fn small_blob(line: &[u8]) -> Option<&str> {
    let mut words = std::str::from_utf8(line).ok()?.split(' ');
    let (kind, size, id) = (words.next()?, words.next()?.parse::<u64>().ok()?, words.next()?);
    (kind == "blob" && size <= POINTER_MAX_BYTES).then_some(id)
}

/// Takes `<id> blob <size>\n<content>\n` off.
fn take_blob<'a>(answers: &mut &'a [u8]) -> Option<(&'a str, &'a [u8])> {
    let line_end = answers.iter().position(|&byte| byte == b'\n')?;
    let mut words = std::str::from_utf8(&answers[..line_end]).ok()?.split(' ');
    let (id, _, size) = (words.next()?, words.next()?, words.next()?.parse::<usize>().ok()?);
    let content = answers.get(line_end + 1..line_end + 1 + size)?;
    *answers = answers.get(line_end + size + 2..)?;
    Some((id, content))
}

/// Parses a log of `\0<commit>` and `:modes old new status\0path\0` into blobs and where they were brought.
fn parse_log(log: &[u8]) -> Vec<(&str, Use)> {
    let mut found = Vec::new();
    let mut commit = String::new();
    let mut fields = log.split(|&byte| byte == 0).map(|field| field.strip_prefix(b"\n").unwrap_or(field));
    while let Some(field) = fields.next() {
        if !field.starts_with(b":") {
            let text = String::from_utf8_lossy(field);
            let id = text.trim();
            if !id.is_empty() {
                commit = id.to_owned();
            }
            continue;
        }
        let Some(path) = fields.next() else { break };
        let new = std::str::from_utf8(field).ok().and_then(|record| record.split(' ').nth(3));
        if let Some(blob) = new {
            let path = String::from_utf8_lossy(path).into_owned();
            found.push((blob, Use { commit: commit.clone(), path }));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_tells_which_commit_brought_which_blob_where() {
        let log = b"\0c2\0\n:100644 100644 a b M\0p q\0:000000 100644 0 d A\0r\0\0c1\0\n:000000 100644 0 a A\0p q\0";
        let used = |commit: &str, path: &str| Use { commit: commit.into(), path: path.into() };
        assert_eq!(
            parse_log(log),
            [("b", used("c2", "p q")), ("d", used("c2", "r")), ("a", used("c1", "p q"))]
        );
    }

    #[test]
    fn only_small_blobs_may_be_pointers() {
        assert_eq!(small_blob(b"blob 130 ab"), Some("ab"));
        for line in ["blob 5000 ab", "tree 130 ab", "commit 12 ab", "ab missing", ""] {
            assert_eq!(small_blob(line.as_bytes()), None, "{line}");
        }
    }
}
