//! Keys: the only place that builds or parses the names of stored files (`docs/format.md` section 1).
//!
//! A key is relative to the store's prefix. Whatever does not parse is not ours: it is passed over, never
//! guessed at.

use std::fmt;

use super::{CodecName, CopyId, CopyName, FileName, Folder, Nonce, Oid, Shape, Sketch, Space, hex};

/// The name of one stored file, relative to the store's prefix.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Key(String);

impl Key {
    /// Names the file that says what the store is.
    pub fn manifest() -> Self {
        Self("lfs-delta.json".into())
    }

    /// Names a copy.
    pub fn copy(name: &CopyName) -> Self {
        let folder = KeyPrefix::folder(&name.id.oid);
        let nonce = name.id.nonce;
        Self(match name.shape {
            Shape::Full { codec: None } => format!("{folder}full.{nonce}"),
            Shape::Full { codec: Some(codec) } => format!("{folder}full.{nonce}.{codec}"),
            Shape::Delta { base, codec } => {
                format!("{folder}delta.{}.{}.{nonce}.{codec}", base.oid, base.nonce)
            }
        })
    }

    /// Names the tombstone that condemns a copy.
    pub fn tombstone(id: &CopyId) -> Self {
        Self(format!("{}tombstone.{}", KeyPrefix::folder(&id.oid), id.nonce))
    }

    /// Names the record of a repository that pushes here: the first 128 bits of its URL's SHA-256.
    pub fn repository(remote_url: &str) -> Self {
        let digest = Oid::of(remote_url.as_bytes());
        Self(format!("repos/{}", hex::encode(&digest.as_bytes()[..16])))
    }

    /// Names a file of a DeltaSpace as deltaglider keeps it: not in a store of objects.
    pub fn artefact(folder: &Folder, name: &FileName) -> Self {
        Self(format!("{folder}{name}"))
    }

    /// Names a hint that an object belongs to a DeltaSpace.
    pub fn hint(space: &Space, hint: &Hint) -> Self {
        let Hint { id, sketch } = hint;
        let sketch = sketch.map(|sketch| format!(".{sketch}")).unwrap_or_default();
        Self(format!("{}{}.{}{sketch}", KeyPrefix::space(space), id.oid, id.nonce))
    }

    /// Names the file that `init` writes and reads to test a store.
    pub fn probe(nonce: &Nonce) -> Self {
        Self(format!("probe/{nonce}"))
    }

    /// Returns the text of the key.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Key({})", self.0)
    }
}

/// The beginning that all keys of one listing share.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct KeyPrefix(String);

impl KeyPrefix {
    /// The files that say what the store is: `lfs-delta.json` and `lfs-delta.needs.…`.
    pub fn about() -> Self {
        Self("lfs-delta".into())
    }

    /// All copies and tombstones of the store.
    pub fn objects() -> Self {
        Self("objects/".into())
    }

    /// Those of all objects whose oid begins with `shard`, two hexadecimal characters.
    pub fn shard(shard: &str) -> Self {
        Self(format!("objects/{shard}/"))
    }

    /// Those of one object.
    pub fn folder(oid: &Oid) -> Self {
        Self(format!("objects/{}/{oid}/", oid.shard()))
    }

    /// The hints of all DeltaSpaces.
    pub fn spaces() -> Self {
        Self("spaces/".into())
    }

    /// All hints of a DeltaSpace.
    pub fn space(space: &Space) -> Self {
        Self(format!("spaces/{space}/"))
    }

    /// The files that have exactly this key or begin with it.
    pub fn of(key: &Key) -> Self {
        Self(key.0.clone())
    }

    /// The files of a folder of DeltaSpaces.
    pub fn artefacts(folder: &Folder) -> Self {
        Self(folder.to_string())
    }

    /// Returns the text of the prefix.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for KeyPrefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for KeyPrefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KeyPrefix({})", self.0)
    }
}

/// What a key below `objects/` means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Entry {
    /// A stored copy.
    Copy(CopyName),
    /// The condemnation of a copy.
    Tombstone(CopyId),
}

impl Entry {
    /// Parses a key; `None` for anything that this format does not name.
    pub fn parse(key: &str) -> Option<Self> {
        let mut parts = key.strip_prefix("objects/")?.split('/');
        let (shard, oid, name) = (parts.next()?, parts.next()?, parts.next()?);
        let oid = Oid::parse(oid).ok()?;
        if parts.next().is_some() || oid.shard() != shard {
            return None;
        }
        let words: Vec<&str> = name.split('.').collect();
        match words[..] {
            ["full", nonce] => copy(oid, nonce, Shape::Full { codec: None }),
            ["full", nonce, codec] => copy(oid, nonce, Shape::Full { codec: Some(CodecName::parse(codec)?) }),
            ["delta", base_oid, base_nonce, nonce, codec] => {
                let base = CopyId { oid: Oid::parse(base_oid).ok()?, nonce: Nonce::parse(base_nonce)? };
                copy(oid, nonce, Shape::Delta { base, codec: CodecName::parse(codec)? })
            }
            ["tombstone", nonce] => Some(Self::Tombstone(CopyId { oid, nonce: Nonce::parse(nonce)? })),
            _ => None,
        }
    }
}

/// What the key of a hint says: which copy belongs to the DeltaSpace, and what its object looks like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Hint {
    /// The copy that was stored.
    pub id: CopyId,
    /// The object's sketch, where one was taken.
    pub sketch: Option<Sketch>,
}

impl Hint {
    /// Parses the key of a hint; `None` for anything else.
    pub fn parse(key: &str) -> Option<(Space, Self)> {
        let mut parts = key.strip_prefix("spaces/")?.split('/');
        let (space, name) = (parts.next()?, parts.next()?);
        if parts.next().is_some() {
            return None;
        }
        let words: Vec<&str> = name.split('.').collect();
        let (oid, nonce, sketch) = match words[..] {
            [oid, nonce] => (oid, nonce, None),
            [oid, nonce, sketch] => (oid, nonce, Some(Sketch::parse(sketch)?)),
            _ => return None,
        };
        let id = CopyId { oid: Oid::parse(oid).ok()?, nonce: Nonce::parse(nonce)? };
        Some((Space::parse(space)?, Self { id, sketch }))
    }
}

fn copy(oid: Oid, nonce: &str, shape: Shape) -> Option<Entry> {
    let id = CopyId { oid, nonce: Nonce::parse(nonce)? };
    Some(Entry::Copy(CopyName { id, shape }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(seed: u8) -> CopyId {
        CopyId { oid: Oid::of(&[seed]), nonce: Nonce::from_bytes([seed; 16]) }
    }

    #[test]
    fn every_copy_name_parses_to_itself() {
        let codec = CodecName::ZSTD;
        for shape in [
            Shape::Full { codec: None },
            Shape::Full { codec: Some(codec) },
            Shape::Delta { base: id(9), codec },
        ] {
            let name = CopyName { id: id(1), shape };
            assert_eq!(Entry::parse(Key::copy(&name).as_str()), Some(Entry::Copy(name)));
        }
        let tombstone = Key::tombstone(&id(3));
        assert_eq!(Entry::parse(tombstone.as_str()), Some(Entry::Tombstone(id(3))));
    }

    #[test]
    fn a_whole_copy_is_named_as_the_format_says() {
        let name = CopyName { id: id(1), shape: Shape::Full { codec: None } };
        let oid = id(1).oid;
        let expected = format!("objects/{}/{oid}/full.{}", &oid.to_string()[..2], "01".repeat(16));
        assert_eq!(Key::copy(&name).as_str(), expected);
    }

    #[test]
    fn every_hint_parses_to_itself_and_nothing_else_is_one() {
        let sketch = Sketch::new(&[Some(7); crate::model::sketch::SKETCH_BUCKETS], 5);
        for sketch in [None, Some(sketch)] {
            let hint = Hint { id: id(4), sketch };
            let space = Space::named(b"art");
            let key = Key::hint(&space, &hint);
            assert_eq!(Hint::parse(key.as_str()), Some((space, hint)));
            assert!(key.as_str().len() <= 242, "{key}");
            assert_eq!(Entry::parse(key.as_str()), None);
            for wrong in [format!("{key}/x"), format!("{key}.x"), key.as_str().replace("spaces/", "spaces/x")]
            {
                assert_eq!(Hint::parse(&wrong), None, "{wrong}");
            }
        }
    }

    #[test]
    fn foreign_names_are_passed_over() {
        let oid = id(1).oid;
        let folder = KeyPrefix::folder(&oid).to_string();
        let nonce = "01".repeat(16);
        for key in [
            format!("{folder}full"),
            format!("{folder}full.{nonce}."),
            format!("{folder}full.{nonce}.ZST"),
            format!("{folder}full.{nonce}.waytoolong"),
            format!("{folder}full.{nonce}/x"),
            format!("{folder}delta.{oid}.{nonce}.{nonce}"),
            format!("{folder}tombstone.{nonce}.x"),
            format!("objects/00/{oid}/full.{nonce}"),
            format!("{folder}.DS_Store"),
            "objects/aa/../../x".into(),
            String::new(),
        ] {
            assert_eq!(Entry::parse(&key), None, "{key}");
        }
    }
}
