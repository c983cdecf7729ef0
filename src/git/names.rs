//! From an oid to its path and the versions before it.
//!
//! The protocol gives neither. But a pointer's text is canonical, so the id of its blob can be computed from
//! oid and size, and one `git log --raw` of what is being pushed shows at which path it came to be and which
//! blob stood there before. Only for those blobs git is asked for their content, the older pointers.

use std::collections::{HashMap, HashSet};

use sha1::Digest;

use super::{Blobs, Git, Result};
use crate::model::limits::HISTORY_MAX_VERSIONS;
use crate::model::{Oid, hex};

/// One object as a version of a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Version {
    /// The object.
    pub oid: Oid,
    /// Its bytes.
    pub size: u64,
}

/// The id of a blob, of SHA-1 or SHA-256.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct BlobId {
    len: u8,
    bytes: [u8; 32],
}

impl BlobId {
    /// Parses what git prints.
    pub fn parse(text: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(text).ok()?;
        let mut id = Self { len: (text.len() / 2) as u8, bytes: [0; 32] };
        match text.len() {
            40 => id.bytes[..20].copy_from_slice(&hex::decode::<20>(text)?),
            64 => id.bytes = hex::decode(text)?,
            _ => return None,
        }
        Some(id)
    }

    /// Returns what git prints.
    pub fn text(&self) -> String {
        hex::encode(&self.bytes[..usize::from(self.len)])
    }

    /// Computes the id of an object's pointer.
    fn of<D: Digest>(version: Version) -> Self {
        let text = pointer_text(version);
        let mut hasher = D::new();
        hasher.update(format!("blob {}\0", text.len()));
        hasher.update(text);
        let digest = hasher.finalize();
        let mut id = Self { len: digest.len() as u8, bytes: [0; 32] };
        id.bytes[..digest.len()].copy_from_slice(&digest);
        id
    }
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

/// Where an object came to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origin {
    /// Its path.
    pub path: Vec<u8>,
    /// Whether it was the first at its path, in a commit that nothing leads to: the first of all, or the end of a
    /// shallow clone.
    pub is_rootless: bool,
}

/// The changes that a range of commits made to blobs.
#[derive(Debug, Default)]
pub struct Names {
    paths: Vec<Vec<u8>>,
    /// Sorted by new blob; those of one blob newest first.
    changes: Vec<Change>,
    /// What went, newest commit first.
    deleted: Vec<Deleted>,
    /// Commits without parents.
    roots: HashSet<u32>,
    /// What commits lead to each other.
    graph: Graph,
}

/// The commits of a log. One that merges is listed once for each parent, with a number for each.
#[derive(Debug, Default)]
struct Graph {
    /// The commit behind each number; numbers begin at 1.
    listed: Vec<u32>,
    /// The parents of each commit, as far as they are in the log.
    parents: Vec<Vec<u32>>,
}

impl Graph {
    fn of(log: &[(&[u8], &[u8])]) -> Self {
        let (mut places, mut graph) = (HashMap::new(), Self::default());
        let mut unique = Vec::new();
        for (id, parents) in log {
            let place = *places.entry(*id).or_insert_with(|| {
                unique.push(*parents);
                unique.len() as u32 - 1
            });
            graph.listed.push(place);
        }
        let known = |parents: &[u8]| {
            parents.split(|&byte| byte == b' ').filter_map(|id| places.get(id).copied()).collect()
        };
        graph.parents = unique.into_iter().map(known).collect();
        graph
    }

    fn commit(&self, number: u32) -> Option<u32> {
        self.listed.get((number as usize).checked_sub(1)?).copied()
    }

    /// Marks a commit and all that lead to it.
    fn history(&self, number: u32) -> Vec<bool> {
        let mut marked = vec![false; self.parents.len()];
        let mut open: Vec<u32> = self.commit(number).into_iter().collect();
        while let Some(commit) = open.pop() {
            if !std::mem::replace(&mut marked[commit as usize], true) {
                open.extend(&self.parents[commit as usize]);
            }
        }
        marked
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Change {
    new: BlobId,
    path: u32,
    /// The blob before; `None` where the path is new.
    old: Option<BlobId>,
    commit: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Deleted {
    commit: u32,
    path: u32,
    blob: BlobId,
}

impl Names {
    /// Parses what `read_log` returns: `@commit parents\0` and `:modes old new status\0path\0`, newest commit first.
    pub fn parse(log: &[u8]) -> Self {
        let mut names = Self::default();
        let mut numbers: HashMap<&[u8], u32> = HashMap::new();
        let mut commit = 0;
        let mut commits: Vec<(&[u8], &[u8])> = Vec::new();
        let mut fields = log.split(|&byte| byte == 0);
        while let Some(field) = fields.next() {
            let field = field.strip_prefix(b"\n").unwrap_or(field);
            if let Some(ids) = field.strip_prefix(b"@") {
                commit += 1;
                let end = ids.iter().position(|&byte| byte == b' ').unwrap_or(ids.len());
                let (id, parents) = (&ids[..end], ids[end..].trim_ascii());
                commits.push((id, parents));
                if parents.is_empty() {
                    names.roots.insert(commit);
                }
                continue;
            }
            if field.first() != Some(&b':') {
                continue;
            }
            let Some(path) = fields.next() else { break };
            let Some(record) = parse_record(field) else { continue };
            let path = *numbers.entry(path).or_insert_with(|| {
                names.paths.push(path.to_vec());
                names.paths.len() as u32 - 1
            });
            match record {
                (old, Some(new)) => names.changes.push(Change { new, path, old, commit }),
                (Some(blob), None) => names.deleted.push(Deleted { commit, path, blob }),
                (None, None) => {}
            }
        }
        // Stable: those of one blob stay in their order.
        names.changes.sort_by_key(|change| change.new);
        names.graph = Graph::of(&commits);
        names
    }

    fn changes_of(&self, blob: &BlobId) -> &[Change] {
        let start = self.changes.partition_point(|change| change.new < *blob);
        let len = self.changes[start..].partition_point(|change| change.new == *blob);
        &self.changes[start..start + len]
    }

    /// Returns the change by which a blob came to a path: the oldest, because later ones only brought it back.
    fn first_at(&self, blob: &BlobId, path: u32) -> Option<&Change> {
        self.changes_of(blob).iter().rfind(|change| change.path == path)
    }

    /// Returns the change by which an object came to be, one that has a blob before it if there is any.
    fn change(&self, version: Version) -> Option<&Change> {
        let ids = [BlobId::of::<sha1::Sha1>(version), BlobId::of::<sha2::Sha256>(version)];
        let changes = ids.iter().map(|id| self.changes_of(id)).find(|changes| !changes.is_empty())?;
        let firsts = || changes.iter().filter_map(|change| self.first_at(&change.new, change.path));
        firsts().find(|change| change.old.is_some()).or_else(|| firsts().next())
    }

    /// Returns where an object came to be; `None` where it is not in these changes.
    pub fn origin(&self, version: Version) -> Option<Origin> {
        let change = self.change(version)?;
        let is_rootless = change.old.is_none() && self.roots.contains(&change.commit);
        Some(Origin { path: self.paths[change.path as usize].clone(), is_rootless })
    }

    /// Returns the versions before an object at its path, the nearest first; `None` where the object is not
    /// in these changes.
    ///
    /// # Errors
    /// Those of running git.
    pub fn earlier(&self, blobs: &Blobs, version: Version) -> Result<Option<Vec<Version>>> {
        let Some(change) = self.change(version) else { return Ok(None) };
        let mut versions = blobs.pointers_until_another(&self.blobs_before(change))?;
        // Two blobs may point to one object: it cannot be its own base.
        let mut seen = HashSet::from([version.oid]);
        versions.retain(|earlier| seen.insert(earlier.oid));
        Ok(Some(versions))
    }

    fn blobs_before(&self, change: &Change) -> Vec<BlobId> {
        let mut blobs = Vec::new();
        let mut seen = HashSet::from([change.new]);
        let mut next = change.old;
        while let Some(blob) = next.take() {
            if blobs.len() == HISTORY_MAX_VERSIONS || !seen.insert(blob) {
                break;
            }
            next = self.first_at(&blob, change.path).and_then(|older| older.old);
            blobs.push(blob);
        }
        blobs
    }

    /// Returns the paths and blobs that went in the commit that brought an object: it may be one of them, renamed.
    pub fn gone_with(&self, version: Version) -> Vec<(&[u8], BlobId)> {
        let Some(change) = self.change(version) else { return Vec::new() };
        let gone = self.deleted.iter().filter(|gone| gone.commit == change.commit);
        gone.map(|gone| (&self.paths[gone.path as usize][..], gone.blob)).collect()
    }

    /// Returns the blobs that stand at other paths where an object came to be, for each path the newest: whoever pushes the
    /// object pushes these, too. Where several commits brought it, all of them must lead to a blob.
    pub fn beside(&self, version: Version) -> Vec<BlobId> {
        let Some(own) = self.change(version) else { return Vec::new() };
        let histories = self.changes_of(&own.new).iter().map(|change| self.graph.history(change.commit));
        let all = histories.reduce(|one, other| one.iter().zip(&other).map(|(&a, &b)| a && b).collect());
        let all = all.unwrap_or_default();
        let leads_here = |change: &&Change| {
            self.graph.commit(change.commit).and_then(|commit| all.get(commit as usize)) == Some(&true)
        };
        let mut newest: HashMap<u32, &Change> = HashMap::new();
        for change in self.changes.iter().filter(|change| change.path != own.path).filter(leads_here) {
            let known = newest.entry(change.path).or_insert(change);
            if change.commit < known.commit {
                *known = change;
            }
        }
        let mut newest: Vec<&Change> = newest.into_values().collect();
        newest.sort_by_key(|change| (change.commit, change.path));
        newest.into_iter().map(|change| change.new).collect()
    }

    /// Returns whether a blob came to be in these changes.
    pub fn brings(&self, blob: &BlobId) -> bool {
        !self.changes_of(blob).is_empty()
    }

    /// Returns all blobs that came, and those that stood there before, each once.
    pub fn blobs(&self) -> Vec<BlobId> {
        let both = self.changes.iter().flat_map(|change| [Some(change.new), change.old]);
        let mut blobs: Vec<BlobId> = both.flatten().collect();
        blobs.sort_unstable();
        blobs.dedup();
        blobs
    }

    /// Returns all paths to which blobs came, each with the newest.
    pub fn newest(&self) -> Vec<(&[u8], BlobId)> {
        let mut newest: Vec<Option<&Change>> = vec![None; self.paths.len()];
        for change in &self.changes {
            let known = &mut newest[change.path as usize];
            if known.is_none_or(|known| change.commit < known.commit) {
                *known = Some(change);
            }
        }
        newest
            .into_iter()
            .flatten()
            .map(|change| (&self.paths[change.path as usize][..], change.new))
            .collect()
    }
}

/// Asks git for the changes of a range.
///
/// # Errors
/// Those of running git. A repository without commits has no changes.
pub fn read_log(git: &Git, range: Range<'_>) -> Result<Vec<u8>> {
    let quiet = ["-c", "log.showSignature=false", "-c", "log.showRoot=true", "-c", "diff.relative=false"];
    let shape = [
        "log",
        "--format=@%H %P",
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
    git.finish(command, Vec::new())
}

/// Returns old and new blob of a change, each where it is an ordinary file; `None` for what does not parse.
fn parse_record(record: &[u8]) -> Option<(Option<BlobId>, Option<BlobId>)> {
    let mut words = record.strip_prefix(b":")?.split(|&byte| byte == b' ');
    let (old_mode, new_mode, old, new) = (words.next()?, words.next()?, words.next()?, words.next()?);
    let file = |mode: &[u8], id| if mode.starts_with(b"100") { BlobId::parse(id) } else { None };
    Some((file(old_mode, old), file(new_mode, new)))
}

/// Returns the text that git keeps in an object's place.
pub fn pointer_text(version: Version) -> String {
    let Version { oid, size } = version;
    format!("version https://git-lfs.github.com/spec/v1\noid sha256:{oid}\nsize {size}\n")
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

    /// The pointer of `version(seed)`; 0 stands for none.
    fn blob(seed: u8) -> BlobId {
        BlobId::of::<sha1::Sha1>(version(seed))
    }

    /// Of each file: the version before, the one after, the path.
    type Changes<'a> = &'a [(u8, u8, &'a str)];

    /// A log of commits, newest first: their parents, and what they changed. Each is called by its place.
    fn names(commits: &[(&str, Changes<'_>)]) -> Names {
        let mut log = String::new();
        for (place, (parents, changes)) in commits.iter().enumerate() {
            log += &format!("@{place} {parents}\0\n");
            for (old, new, path) in *changes {
                let mode = |seed: u8| if seed == 0 { "000000" } else { "100644" };
                let id = |seed| if seed == 0 { "0".repeat(40) } else { blob(seed).text() };
                log += &format!(":{} {} {} {} M\0{path}\0", mode(*old), mode(*new), id(*old), id(*new));
            }
        }
        Names::parse(log.as_bytes())
    }

    fn before(names: &Names, seed: u8) -> Vec<BlobId> {
        names.blobs_before(names.change(version(seed)).expect("a change"))
    }

    #[test]
    fn a_blob_id_is_what_git_computes() {
        let oid =
            Oid::parse("4d7a214614ab2935c943f9e0ff69d22eadbb8f32b1258daaa5e2ca24d17e2393").expect("oid");
        let version = Version { oid, size: 12345 };
        assert_eq!(parse_pointer(&pointer_text(version)), Some(version));
        // git hash-object of that pointer.
        let id = BlobId::of::<sha1::Sha1>(version).text();
        assert_eq!(id, "60c8d8ab2adcf57a391163a7eeb0cdb8bf348e44");
        assert_eq!(BlobId::parse(id.as_bytes()), Some(BlobId::of::<sha1::Sha1>(version)));
        let long = BlobId::of::<sha2::Sha256>(version);
        assert_eq!(BlobId::parse(long.text().as_bytes()), Some(long));
        assert_eq!(BlobId::parse(b"60c8"), None);
    }

    #[test]
    fn a_paths_history_is_followed_to_its_beginning() {
        let names = names(&[("p", &[(2, 3, "p")]), ("p", &[(1, 2, "p"), (8, 9, "q")]), ("", &[(0, 1, "p")])]);
        assert_eq!(before(&names, 3), [blob(2), blob(1)]);
        let origin = names.origin(version(3)).expect("an origin");
        assert_eq!(origin, Origin { path: b"p".to_vec(), is_rootless: false });
        assert!(names.origin(version(1)).expect("an origin").is_rootless);
        assert_eq!(names.origin(version(7)), None);
    }

    #[test]
    fn a_blob_that_came_back_has_the_history_of_its_first_coming() {
        let names = names(&[("p", &[(2, 1, "p")]), ("p", &[(1, 2, "p")]), ("p", &[(0, 1, "p")])]);
        assert_eq!(before(&names, 1), []);
        assert_eq!(before(&names, 2), [blob(1)]);
    }

    #[test]
    fn changes_that_run_in_a_circle_end() {
        let names = names(&[("p", &[(2, 1, "p")]), ("p", &[(1, 2, "p")])]);
        assert_eq!(before(&names, 1), [blob(2)]);
    }

    #[test]
    fn what_went_with_an_object_may_be_the_same_renamed() {
        let names = names(&[("p", &[(1, 0, "old"), (0, 2, "new")]), ("p", &[(3, 0, "other")])]);
        assert_eq!(names.gone_with(version(2)), [(&b"old"[..], blob(1))]);
        assert_eq!(before(&names, 2), []);
    }

    #[test]
    fn what_stands_beside_an_object_is_what_its_commit_or_one_before_brought() {
        let names = names(&[
            ("1 2", &[(6, 9, "merged")]),
            ("3", &[(0, 5, "p"), (2, 3, "q")]),
            ("3", &[(0, 6, "private"), (0, 5, "copy")]),
            ("", &[(0, 1, "old"), (0, 2, "q"), (0, 7, "r")]),
        ]);
        let beside = |seed| {
            let found = names.beside(version(seed));
            (1..10).filter(|&other| found.contains(&blob(other))).collect::<Vec<_>>()
        };
        // Two branches brought it: only what both have behind them is pushed with either.
        assert_eq!(beside(5), [1, 2, 7]);
        assert_eq!(beside(3), [1, 5, 7]);
        assert_eq!(beside(9), [1, 3, 5, 6, 7]);
        assert_eq!(beside(8), [] as [u8; 0]);
    }

    #[test]
    fn links_and_submodules_are_no_versions() {
        let (one, other) = (blob(1).text(), blob(2).text());
        let record = |modes: &str| parse_record(format!(":{modes} {one} {other} T").as_bytes());
        assert_eq!(record("160000 160000"), Some((None, None)));
        assert_eq!(record("100644 120000"), Some((Some(blob(1)), None)));
        assert_eq!(record("120000 100755"), Some((None, Some(blob(2)))));
        assert_eq!(parse_record(b":100644"), None);
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
