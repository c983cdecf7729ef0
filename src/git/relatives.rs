//! Objects that may resemble one without a history of its own, by what git knows: what its commit removed, the
//! other paths of its DeltaSpace, and paths with the same name or in the same folder.
//!
//! Nothing here is certain, so nothing here looks at bytes. What surprises: neighbours are found in an order in
//! which numbers count by their value, because the frame before the hundredth is the ninety-ninth.

use std::cmp::Ordering;
use std::collections::{HashMap, HashSet};

use super::names::BlobId;
use super::{Blobs, Git, Names, Result, Version, attributes};
use crate::model::Space;
use crate::model::limits::RELATIVES_MAX;
use crate::model::space::fold;

/// Why an object may resemble another; the more telling first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kinship {
    /// The commit that brought the object removed this one.
    Renamed,
    /// Both belong to one DeltaSpace.
    Sibling,
    /// Both have the same file name.
    Namesake,
    /// Both are in one folder, with the same extension.
    Neighbour,
}

/// An object that may resemble another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Relative {
    /// Which object.
    pub version: Version,
    /// Why.
    pub kinship: Kinship,
    /// Whether it is in commits that are being pushed: then it may not be stored yet.
    pub is_new: bool,
}

/// A relative of which git has said only the blob.
#[derive(Debug, Clone, Copy)]
struct Found {
    kinship: Kinship,
    blob: BlobId,
    is_new: bool,
}

/// The paths of a repository, each with a blob, by what relates them.
#[derive(Debug, Default)]
pub struct Families {
    /// In the order of their paths, numbers by value; one for each path.
    members: Vec<Member>,
    /// The names of the DeltaSpaces of those paths that an attribute gives one.
    named: HashMap<Vec<u8>, Vec<u8>>,
    /// Places in `members`, in order.
    by_kin: HashMap<(Kinship, Vec<u8>), Vec<u32>>,
}

#[derive(Debug)]
struct Member {
    path: Vec<u8>,
    blob: BlobId,
    is_new: bool,
}

impl Families {
    /// Gathers the paths of HEAD, which `read_tree` returns, and of what is being pushed.
    ///
    /// # Errors
    /// Those of running git.
    pub fn read(git: &Git, tree: &[u8], pushed: Option<&Names>) -> Result<Self> {
        let mut tree: Vec<Member> = tree.split(|&byte| byte == 0).filter_map(parse_entry).collect();
        for member in &mut tree {
            member.is_new = pushed.is_some_and(|names| names.brings(&member.blob));
        }
        let new = pushed.map(Names::newest).unwrap_or_default().into_iter();
        let new = new.map(|(path, blob)| Member { path: path.to_vec(), blob, is_new: true });
        // What HEAD has at a path goes before other versions of it.
        let mut members: Vec<Member> = tree.into_iter().chain(new).collect();
        let mut seen = HashSet::new();
        members.retain(|member| seen.insert(member.path.clone()));
        let paths: Vec<&[u8]> = members.iter().map(|member| &member.path[..]).collect();
        let named = attributes::deltaspaces(git, &paths)?;
        Ok(Self::new(members, named))
    }

    fn new(members: Vec<Member>, named: Vec<Option<Vec<u8>>>) -> Self {
        let mut both: Vec<_> = members.into_iter().zip(named).collect();
        both.sort_by(|(one, _), (other, _)| by_value(&one.path, &other.path));
        let mut families = Self::default();
        for (member, named) in both {
            if let Some(name) = named {
                families.named.insert(member.path.clone(), name);
            }
            families.members.push(member);
        }
        for index in 0..families.members.len() {
            let path = families.members[index].path.clone();
            for kinship in [Kinship::Sibling, Kinship::Namesake, Kinship::Neighbour] {
                let key = (kinship, families.family(kinship, &path));
                families.by_kin.entry(key).or_default().push(index as u32);
            }
        }
        families
    }

    /// Returns the DeltaSpace of a path.
    pub fn space(&self, path: &[u8]) -> Space {
        Space::named(&self.space_name(path))
    }

    fn space_name(&self, path: &[u8]) -> Vec<u8> {
        self.named.get(path).cloned().unwrap_or_else(|| fold(path))
    }

    /// Returns what all relatives of a kind share with a path.
    fn family(&self, kinship: Kinship, path: &[u8]) -> Vec<u8> {
        match kinship {
            Kinship::Renamed => Vec::new(),
            Kinship::Sibling => self.space_name(path),
            Kinship::Namesake => name_of(path).to_vec(),
            Kinship::Neighbour => [&path[..path.len() - name_of(path).len()], extension(path)].concat(),
        }
    }

    /// Returns what may resemble an object that came to be at `path` while other things went: the more telling
    /// first, and of one kind the nearest by name first.
    ///
    /// # Errors
    /// Those of running git.
    pub fn relatives(&self, blobs: &Blobs, path: &[u8], gone: &[(&[u8], BlobId)]) -> Result<Vec<Relative>> {
        let mut found = Self::renamed(path, gone);
        for kinship in [Kinship::Sibling, Kinship::Namesake, Kinship::Neighbour] {
            found.extend(self.nearest(kinship, path));
        }
        let mut seen = HashSet::new();
        found.retain(|found| seen.insert(found.blob));
        let ids: Vec<BlobId> = found.iter().map(|found| found.blob).collect();
        let relative = |(place, version): (usize, Version)| {
            let Found { kinship, is_new, .. } = found[place];
            Relative { version, kinship, is_new }
        };
        Ok(blobs.pointers_among(&ids)?.into_iter().map(relative).collect())
    }

    /// What went in the same commit: those of the same extension, the same name first.
    fn renamed(path: &[u8], gone: &[(&[u8], BlobId)]) -> Vec<Found> {
        let mut gone: Vec<_> = gone.iter().filter(|(old, _)| extension(old) == extension(path)).collect();
        gone.sort_by_key(|(old, _)| name_of(old) != name_of(path));
        let found =
            |(_, blob): &(&[u8], BlobId)| Found { kinship: Kinship::Renamed, blob: *blob, is_new: false };
        gone.into_iter().take(RELATIVES_MAX).map(found).collect()
    }

    /// The nearest of a kind by name, alternately before and after.
    fn nearest(&self, kinship: Kinship, path: &[u8]) -> Vec<Found> {
        let all =
            self.by_kin.get(&(kinship, self.family(kinship, path))).map(Vec::as_slice).unwrap_or_default();
        let member = |index: &u32| &self.members[*index as usize];
        let own = all.partition_point(|index| by_value(&member(index).path, path) == Ordering::Less);
        let (before, after) = all.split_at(own);
        let before = before.iter().rev().map(Some).chain(std::iter::repeat(None));
        let after =
            after.iter().filter(|index| member(index).path != path).map(Some).chain(std::iter::repeat(None));
        let both = before.zip(after).take(all.len()).flat_map(|(one, other)| [one, other]).flatten();
        let found = |other: &Member| Found { kinship, blob: other.blob, is_new: other.is_new };
        both.map(member).take(RELATIVES_MAX).map(found).collect()
    }
}

/// Asks git for all files of HEAD.
///
/// # Errors
/// Those of running git; `Refused` in a repository without commits.
pub fn read_tree(git: &Git) -> Result<Vec<u8>> {
    git.run(["ls-tree", "-r", "-z", "--full-tree", "HEAD"])
}

/// Parses `mode blob id\tpath` of a tree.
fn parse_entry(entry: &[u8]) -> Option<Member> {
    let tab = entry.iter().position(|&byte| byte == b'\t')?;
    let (words, path) = (&entry[..tab], entry[tab + 1..].to_vec());
    let id = words.strip_prefix(b"100").and_then(|rest| rest.get(b"644 blob ".len()..))?;
    Some(Member { path, blob: BlobId::parse(id)?, is_new: false })
}

fn name_of(path: &[u8]) -> &[u8] {
    path.rsplit(|&byte| byte == b'/').next().unwrap_or(path)
}

fn extension(path: &[u8]) -> &[u8] {
    let name = name_of(path);
    name.iter().rposition(|&byte| byte == b'.').map_or(b"", |dot| &name[dot..])
}

/// Compares paths, numbers in them by their value.
fn by_value(mut one: &[u8], mut other: &[u8]) -> Ordering {
    loop {
        let order = match (one.first(), other.first()) {
            (Some(left), Some(right)) if left.is_ascii_digit() && right.is_ascii_digit() => {
                let (left, right) = (take_number(&mut one), take_number(&mut other));
                (left.len(), left).cmp(&(right.len(), right))
            }
            (Some(left), Some(right)) => {
                (one, other) = (&one[1..], &other[1..]);
                left.cmp(right)
            }
            (left, right) => return left.cmp(&right),
        };
        if order != Ordering::Equal {
            return order;
        }
    }
}

/// Takes the digits off that `text` begins with, and returns them without leading zeros.
fn take_number<'a>(text: &mut &'a [u8]) -> &'a [u8] {
    let len = text.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let (digits, rest) = text.split_at(len);
    *text = rest;
    let zeros = digits.iter().take_while(|&&digit| digit == b'0').count();
    &digits[zeros..]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn blob(seed: u8) -> BlobId {
        BlobId::parse(format!("{seed:02x}").repeat(20).as_bytes()).expect("an id")
    }

    fn families(paths: &[(&str, Option<&str>)]) -> Families {
        let member = |(index, (path, _)): (usize, &(&str, Option<&str>))| Member {
            path: path.as_bytes().to_vec(),
            blob: blob(index as u8),
            is_new: false,
        };
        let members = paths.iter().enumerate().map(member).collect();
        Families::new(
            members,
            paths.iter().map(|(_, name)| name.map(|name| name.as_bytes().to_vec())).collect(),
        )
    }

    fn kin(families: &Families, kinship: Kinship, path: &str) -> Vec<BlobId> {
        families.nearest(kinship, path.as_bytes()).into_iter().map(|found| found.blob).collect()
    }

    #[test]
    fn the_nearest_numbers_come_first() {
        let paths = [("f/9.exr", None), ("f/10.exr", None), ("f/100.exr", None), ("f/11.exr", None)];
        let families = families(&paths);
        assert_eq!(kin(&families, Kinship::Sibling, "f/10.exr"), [blob(0), blob(3), blob(2)]);
        assert_eq!(kin(&families, Kinship::Sibling, "f/100.exr"), [blob(3), blob(1), blob(0)]);
    }

    #[test]
    fn an_attribute_joins_and_parts() {
        let paths =
            [("a/x.psd", Some("art")), ("b/y.psd", Some("art")), ("a/x2.psd", None), ("a/x3.psd", None)];
        let families = families(&paths);
        assert_eq!(kin(&families, Kinship::Sibling, "a/x.psd"), [blob(1)]);
        assert_eq!(kin(&families, Kinship::Sibling, "a/x2.psd"), [blob(3)]);
        assert_eq!(families.space(b"a/x.psd"), Space::named(b"art"));
        assert_eq!(families.space(b"c/z9.psd"), Space::named(b"c/z#.psd"));
    }

    #[test]
    fn names_and_folders_relate_too() {
        let paths = [("a/x.psd", None), ("b/x.psd", None), ("a/y.psd", None), ("a/x.png", None)];
        let families = families(&paths);
        assert_eq!(kin(&families, Kinship::Namesake, "a/x.psd"), [blob(1)]);
        assert_eq!(kin(&families, Kinship::Neighbour, "a/x.psd"), [blob(2)]);
    }

    #[test]
    fn of_what_went_the_same_name_comes_first() {
        let gone = [(&b"a/x.psd"[..], blob(1)), (&b"a/y.png"[..], blob(2)), (&b"a/y.psd"[..], blob(3))];
        let found = Families::renamed(b"b/y.psd", &gone).into_iter().map(|found| found.blob);
        assert_eq!(found.collect::<Vec<_>>(), [blob(3), blob(1)]);
    }

    #[test]
    fn entries_of_a_tree_are_files() {
        let id = blob(7).text();
        let entry = |text: String| parse_entry(text.as_bytes()).map(|member| member.path);
        assert_eq!(entry(format!("100644 blob {id}\ta b")), Some(b"a b".to_vec()));
        assert_eq!(entry(format!("100755 blob {id}\tx")), Some(b"x".to_vec()));
        assert_eq!(entry(format!("120000 blob {id}\tx")), None);
        assert_eq!(entry(format!("160000 commit {id}\tx")), None);
    }

    #[test]
    fn numbers_count_by_their_value() {
        let mut paths = ["f10", "f9", "f", "e99", "f09x", "f2"];
        paths.sort_by(|one, other| by_value(one.as_bytes(), other.as_bytes()));
        assert_eq!(paths, ["e99", "f", "f2", "f9", "f09x", "f10"]);
    }
}
