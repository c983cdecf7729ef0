//! From an oid to its path and the versions before it.
//!
//! The protocol gives neither. But a pointer's text is canonical, so the id of its blob can be computed from
//! oid and size, and one `git log --raw` of what is being pushed shows at which path it came to be and which
//! blob stood there before. Only for those blobs git is asked for their content, the older pointers.

use std::collections::{HashMap, HashSet};

use sha1::Digest;

use super::{Git, Result};
use crate::model::limits::{HISTORY_MAX_VERSIONS, POINTER_MAX_BYTES};
use crate::model::{Oid, hex};

/// One object as a version of a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Version {
    /// The object.
    pub oid: Oid,
    /// Its bytes.
    pub size: u64,
}

/// Which commits are looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Range<'a> {
    /// Those that the remote is not known to have.
    Unpushed {
        /// The remote's name.
        remote: &'a str,
    },
    /// All.
    Everything,
}

/// The changes that a range of commits made to blobs.
#[derive(Debug, Default)]
pub struct Names {
    /// By new blob: where it came to be, the oldest change last seen.
    changes: HashMap<String, Vec<Change>>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Change {
    path: Vec<u8>,
    /// The blob before; `None` where the path is new.
    old: Option<String>,
}

impl Names {
    /// Reads the changes of a range.
    ///
    /// # Errors
    /// Those of running git. A repository without commits has no changes.
    pub fn read(git: &Git, range: Range<'_>) -> Result<Self> {
        let quiet = ["-c", "log.showSignature=false", "-c", "log.showRoot=true", "-c", "diff.relative=false"];
        let shape = [
            "log",
            "--format=",
            "--raw",
            "-z",
            "--no-abbrev",
            "--no-renames",
            "--no-ext-diff",
            "-m",
            "--topo-order",
        ];
        let mut command = git.command(quiet.iter().chain(&shape));
        match range {
            Range::Unpushed { remote } => {
                command.args(["--branches", "--tags", "HEAD", "--not"]).arg(format!("--remotes={remote}"));
            }
            Range::Everything => drop(command.args(["--all", "HEAD"])),
        }
        command.args(["--ignore-missing", "--"]);
        Ok(Self { changes: parse_log(&git.finish(command, Vec::new())?) })
    }

    /// Returns the versions before an object at its path, the nearest first; `None` where the object is not
    /// in these changes.
    ///
    /// # Errors
    /// Those of running git.
    pub fn earlier(&self, git: &Git, version: Version) -> Result<Option<Vec<Version>>> {
        let ids = [blob_id::<sha1::Sha1>(version), blob_id::<sha2::Sha256>(version)];
        let Some((blob, changes)) = ids.iter().find_map(|id| Some((id, self.changes.get(id)?))) else {
            return Ok(None);
        };
        let Some(change) = changes.iter().find(|change| change.old.is_some()).or(changes.first()) else {
            return Ok(None);
        };
        let blobs = self.blobs_before(blob, change);
        let mut versions = read_pointers(git, &blobs)?;
        // Two blobs may point to one object: it cannot be its own base.
        let mut seen = HashSet::from([version.oid]);
        versions.retain(|earlier| seen.insert(earlier.oid));
        Ok(Some(versions))
    }

    fn blobs_before(&self, blob: &str, change: &Change) -> Vec<String> {
        let mut blobs = Vec::new();
        let mut seen = HashSet::from([blob.to_owned()]);
        let mut next = change.old.clone();
        while let Some(blob) = next.take() {
            if blobs.len() == HISTORY_MAX_VERSIONS || !seen.insert(blob.clone()) {
                break;
            }
            let changes = self.changes.get(&blob).map(Vec::as_slice).unwrap_or_default();
            next = changes.iter().find(|other| other.path == change.path).and_then(|other| other.old.clone());
            blobs.push(blob);
        }
        blobs
    }
}

/// Parses `:modes old new status\0path\0…`, newest commit first.
fn parse_log(log: &[u8]) -> HashMap<String, Vec<Change>> {
    let mut changes: HashMap<String, Vec<Change>> = HashMap::new();
    let mut fields = log.split(|&byte| byte == 0);
    while let Some(field) = fields.next() {
        let Some(record) = field.iter().position(|&byte| byte == b':').map(|at| &field[at..]) else {
            continue;
        };
        let Some(path) = fields.next() else { break };
        let Some((old, new)) = parse_record(record) else { continue };
        let paths = changes.entry(new).or_default();
        let change = Change { path: path.to_vec(), old };
        // The oldest change of a path is where the blob came to be: later ones only brought it back.
        match paths.iter_mut().find(|other| other.path == change.path) {
            Some(other) => *other = change,
            None => paths.push(change),
        }
    }
    changes
}

/// Returns old and new blob of a change to an ordinary file; `None` for all others and for deletions.
fn parse_record(record: &[u8]) -> Option<(Option<String>, String)> {
    let words: Vec<&str> = std::str::from_utf8(record).ok()?.split(' ').collect();
    let [old_mode, new_mode, old, new, _status] = words[..] else { return None };
    let is_file = |mode: &str| mode.trim_start_matches(':').starts_with("100");
    if !is_file(new_mode) {
        return None;
    }
    Some((is_file(old_mode).then(|| old.to_owned()), new.to_owned()))
}

/// Returns the text that git keeps in an object's place.
pub fn pointer_text(version: Version) -> String {
    let Version { oid, size } = version;
    format!("version https://git-lfs.github.com/spec/v1\noid sha256:{oid}\nsize {size}\n")
}

fn blob_id<D: Digest>(version: Version) -> String {
    let text = pointer_text(version);
    let mut hasher = D::new();
    hasher.update(format!("blob {}\0", text.len()));
    hasher.update(text);
    hex::encode(&hasher.finalize())
}

/// Reads the pointers among some blobs, in their order; stops at the first blob that is none.
fn read_pointers(git: &Git, blobs: &[String]) -> Result<Vec<Version>> {
    if blobs.is_empty() {
        return Ok(Vec::new());
    }
    let command = git.command(["cat-file", "--batch"]);
    let answers = git.finish(command, format!("{}\n", blobs.join("\n")).into_bytes())?;
    let mut rest = &answers[..];
    let mut versions = Vec::new();
    while let Some(version) = take_blob(&mut rest).and_then(parse_pointer) {
        versions.push(version);
    }
    Ok(versions)
}

/// Takes `<id> blob <size>\n<content>\n` off; `None` at the end and for whatever is no small blob.
fn take_blob<'a>(answers: &mut &'a [u8]) -> Option<&'a str> {
    let line_end = answers.iter().position(|&byte| byte == b'\n')?;
    let line = std::str::from_utf8(&answers[..line_end]).ok()?;
    let size = line.split(' ').skip_while(|word| *word != "blob").nth(1)?;
    let size: usize = size.parse().ok()?;
    let content = answers.get(line_end + 1..line_end + 1 + size)?;
    *answers = answers.get(line_end + size + 2..)?;
    (size as u64 <= POINTER_MAX_BYTES).then(|| std::str::from_utf8(content).ok()).flatten()
}

/// Parses a pointer, canonical or not; `None` for any other text.
pub fn parse_pointer(text: &str) -> Option<Version> {
    let mut lines = text.lines();
    if !lines.next()?.starts_with("version https://") {
        return None;
    }
    let (mut oid, mut size) = (None, None);
    for line in lines {
        match line.split_once(' ')? {
            ("oid", value) => oid = Oid::parse(value.strip_prefix("sha256:")?).ok(),
            ("size", value) => size = value.parse().ok(),
            _ => {}
        }
    }
    Some(Version { oid: oid?, size: size? })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn version(seed: u8) -> Version {
        Version { oid: Oid::of(&[seed]), size: u64::from(seed) }
    }

    fn log(records: &[(&str, &str, &str)]) -> Vec<u8> {
        let line = |(old, new, path): &(&str, &str, &str)| {
            let mode = if *old == "0" { "000000" } else { "100644" };
            format!(":{mode} 100644 {old} {new} M\0{path}\0")
        };
        records.iter().map(line).collect::<String>().into_bytes()
    }

    #[test]
    fn a_blob_id_is_what_git_computes() {
        let oid =
            Oid::parse("4d7a214614ab2935c943f9e0ff69d22eadbb8f32b1258daaa5e2ca24d17e2393").expect("oid");
        let text = pointer_text(Version { oid, size: 12345 });
        assert_eq!(parse_pointer(&text), Some(Version { oid, size: 12345 }));
        // git hash-object of that pointer.
        let id = blob_id::<sha1::Sha1>(Version { oid, size: 12345 });
        assert_eq!(id.len(), 40);
    }

    #[test]
    fn a_paths_history_is_followed_to_its_beginning() {
        let changes = parse_log(&log(&[("b", "c", "p"), ("a", "b", "p"), ("0", "a", "p"), ("x", "y", "q")]));
        let names = Names { changes };
        let change = names.changes["c"][0].clone();
        assert_eq!(names.blobs_before("c", &change), ["b", "a"]);
    }

    #[test]
    fn a_blob_that_came_back_has_the_history_of_its_first_coming() {
        let names = Names { changes: parse_log(&log(&[("b", "a", "p"), ("a", "b", "p"), ("0", "a", "p")])) };
        assert_eq!(names.blobs_before("a", &names.changes["a"][0]), [""; 0]);
        assert_eq!(names.blobs_before("b", &names.changes["b"][0]), ["a"]);
    }

    #[test]
    fn changes_that_run_in_a_circle_end() {
        let names = Names { changes: parse_log(&log(&[("b", "a", "p"), ("a", "b", "p")])) };
        assert_eq!(names.blobs_before("a", &names.changes["a"][0]), ["b"]);
    }

    #[test]
    fn links_and_submodules_are_no_versions() {
        let text = b":160000 160000 a b M\0sub\0:100644 120000 c d T\0link\0:120000 100644 e f T\0file\0";
        let changes = parse_log(text);
        assert_eq!(changes.len(), 1);
        assert_eq!(changes["f"], [Change { path: b"file".to_vec(), old: None }]);
    }

    #[test]
    fn pointers_are_read_until_the_first_that_is_none() {
        let pointer = pointer_text(version(7));
        let mut answers = format!("id blob {}\n{pointer}\n", pointer.len()).into_bytes();
        answers.extend(b"id2 missing\n");
        let mut rest = &answers[..];
        assert_eq!(take_blob(&mut rest).and_then(parse_pointer), Some(version(7)));
        assert_eq!(take_blob(&mut rest), None);
    }

    #[test]
    fn pointers_with_extensions_are_understood_and_others_refused() {
        let oid = version(1).oid;
        let text = format!(
            "version https://git-lfs.github.com/spec/v1\next-0-x sha256:ab\noid sha256:{oid}\nsize 1\n"
        );
        assert_eq!(parse_pointer(&text), Some(Version { oid, size: 1 }));
        assert_eq!(parse_pointer("some other file\n"), None);
        assert_eq!(parse_pointer(""), None);
    }
}
