//! The rules of the store protocol, on a store in memory that counts its calls.

use std::sync::Arc;

use super::*;
use crate::model::{CodecName, Shape};
use crate::store::{Calls, MemoryStore, ReadStore, Source, Verb};

/// A store that a test and a depot share.
#[derive(Clone)]
struct Shared(Arc<Calls<MemoryStore>>);

impl ReadStore for Shared {
    fn get(&self, key: &Key, limit: Option<u64>) -> store::Result<Box<dyn std::io::Read + Send>> {
        self.0.get(key, limit)
    }

    fn list(&self, prefix: &KeyPrefix, visit: &mut dyn FnMut(Listed) -> Visit) -> store::Result<()> {
        self.0.list(prefix, visit)
    }

    fn name(&self) -> String {
        self.0.name()
    }
}

impl WriteStore for Shared {
    fn put(&self, key: &Key, body: &Body<'_>) -> store::Result<()> {
        self.0.put(key, body)
    }
}

struct World {
    store: Shared,
    folder: tempfile::TempDir,
}

impl World {
    fn new() -> Self {
        let world = Self {
            store: Shared(Arc::new(Calls::new(MemoryStore::default()))),
            folder: tempfile::tempdir().expect("tempdir"),
        };
        world.depot().create().expect("a new store");
        world.store.0.take();
        world
    }

    /// A process of this machine.
    fn depot(&self) -> Depot {
        Depot::new(Box::new(self.store.clone()), Some(self.folder.path().to_path_buf()))
    }

    /// A process of another machine.
    fn stranger(&self) -> Depot {
        Depot::new(Box::new(self.store.clone()), None)
    }

    fn put(&self, key: &str, bytes: &[u8]) {
        self.store.0.inner().files().insert(key.to_owned(), bytes.to_vec());
    }

    fn remove(&self, name: &CopyName) {
        self.store.0.inner().files().remove(Key::copy(name).as_str()).expect("was there");
    }

    fn condemn(&self, name: &CopyName) {
        self.put(Key::tombstone(&name.id).as_str(), b"test\n");
    }

    /// Puts a copy there without looking at anything.
    fn place(&self, seed: u8, base: Option<&CopyName>) -> CopyName {
        let id = CopyId { oid: Oid::of(&[seed]), nonce: Nonce::from_bytes([seed; 16]) };
        let shape = match base {
            None => Shape::Full { codec: None },
            Some(base) => Shape::Delta { base: base.id, codec: CodecName::ZSTD },
        };
        let name = CopyName { id, shape };
        self.put(Key::copy(&name).as_str(), &[seed]);
        name
    }

    fn verbs(&self) -> Vec<Verb> {
        self.store.0.take().into_iter().map(|call| call.verb).collect()
    }
}

fn body(bytes: &[u8]) -> Body<'_> {
    Body { source: Source::Bytes(bytes), digest: Oid::of(bytes), sent: &|_| () }
}

#[test]
fn a_place_without_the_manifest_is_no_store() {
    let store = Shared(Arc::new(Calls::new(MemoryStore::default())));
    let depot = Depot::new(Box::new(store), None);
    assert!(matches!(depot.look(&Oid::of(b"x")), Err(Error::NoStore { .. })));
}

#[test]
fn a_store_of_another_format_is_not_touched() {
    let world = World::new();
    world.put("lfs-delta.json", b"{\"format\": 2}");
    for outcome in [world.stranger().open(), world.stranger().create().map(drop)] {
        assert!(matches!(outcome, Err(Error::TooNew { .. })), "{outcome:?}");
    }
}

#[test]
fn a_damaged_manifest_is_named() {
    let world = World::new();
    world.put("lfs-delta.json", b"not json");
    assert!(matches!(world.stranger().open(), Err(Error::Manifest { .. })));
}

#[test]
fn a_feature_needed_for_reading_stops_everything() {
    let world = World::new();
    world.put("lfs-delta.needs.read.shards", b"");
    assert!(matches!(world.depot().open(), Err(Error::TooNew { .. })));
    world.store.0.inner().files().remove("lfs-delta.needs.read.shards");
    world.put("lfs-delta.needs.something", b"");
    assert!(matches!(world.depot().open(), Err(Error::TooNew { .. })));
}

#[test]
fn a_feature_needed_for_writing_leaves_reading() {
    let world = World::new();
    let name = world.place(1, None);
    world.put("lfs-delta.needs.write.packs", b"");
    let depot = world.depot();
    assert_eq!(depot.look(&name.id.oid).expect("readable").copies().len(), 1);
    let id = CopyId { oid: Oid::of(b"y"), nonce: Nonce::from_bytes([7; 16]) };
    let stored = depot.publish(&CopyName { id, shape: Shape::Full { codec: None } }, &body(b"y"));
    assert!(matches!(stored, Err(Error::TooNew { .. })), "{stored:?}");
}

#[test]
fn making_a_store_twice_changes_nothing_of_it() {
    let world = World::new();
    let before = world.store.0.inner().files().get("lfs-delta.json").cloned();
    assert!(!world.stranger().create().expect("again"));
    assert_eq!(world.store.0.inner().files().get("lfs-delta.json").cloned(), before);
}

#[test]
fn an_object_is_stored_when_its_whole_chain_is_there() {
    let world = World::new();
    let first = world.place(1, None);
    let second = world.place(2, Some(&first));
    let third = world.place(3, Some(&second));
    let presence = |name: &CopyName| world.stranger().presence(&name.id.oid).expect("presence");
    assert_eq!(presence(&third), Presence::Stored);
    world.remove(&first);
    assert_eq!(presence(&third), Presence::Broken);
    assert_eq!(presence(&first), Presence::Absent);
}

#[test]
fn a_condemned_copy_and_a_delta_on_one_are_not_relied_upon() {
    let world = World::new();
    let first = world.place(1, None);
    let second = world.place(2, Some(&first));
    let third = world.place(3, Some(&second));
    world.condemn(&first);
    let presence = |name: &CopyName| world.stranger().presence(&name.id.oid).expect("presence");
    assert_eq!(presence(&first), Presence::Absent, "condemned itself");
    assert_eq!(presence(&second), Presence::Broken, "its base is condemned");
    assert_eq!(presence(&third), Presence::Stored, "two looks are enough: its base's base does not matter");
}

#[test]
fn copies_that_name_each_other_in_a_circle_are_not_whole() {
    let world = World::new();
    let id = |seed: u8| CopyId { oid: Oid::of(&[seed]), nonce: Nonce::from_bytes([seed; 16]) };
    for (own, base) in [(1, 2), (2, 1)] {
        let name = CopyName { id: id(own), shape: Shape::Delta { base: id(base), codec: CodecName::ZSTD } };
        world.put(Key::copy(&name).as_str(), b"x");
    }
    assert_eq!(world.stranger().presence(&id(1).oid).expect("presence"), Presence::Broken);
}

#[test]
fn a_remembered_base_costs_no_request_and_its_confirmation_one() {
    let world = World::new();
    let first = world.place(1, None);
    let depot = world.depot();
    let base = depot.find_base(&first.id.oid).expect("looked").expect("a base");
    world.verbs();
    let later = world.depot();
    assert_eq!(later.find_base(&first.id.oid).expect("looked"), Some(base));
    assert_eq!(world.verbs(), []);
    assert_eq!(depot.base_of(&first.id).expect("looked"), Base::Settled);
    assert_eq!(world.verbs(), [Verb::List]);
}

#[test]
fn a_base_that_was_condemned_or_is_gone_is_noticed_afterwards() {
    let world = World::new();
    let (first, second) = (world.place(1, None), world.place(2, None));
    let depot = world.depot();
    world.condemn(&first);
    world.remove(&second);
    assert_eq!(depot.base_of(&first.id).expect("looked"), Base::Condemned);
    assert_eq!(depot.base_of(&second.id).expect("looked"), Base::Condemned);
}

#[test]
fn a_delta_on_a_condemned_base_is_no_base() {
    let world = World::new();
    let first = world.place(1, None);
    let second = world.place(2, Some(&first));
    world.condemn(&first);
    assert_eq!(world.depot().find_base(&second.id.oid).expect("looked"), None);
}

#[test]
fn a_copy_with_a_damaged_header_is_no_base() {
    let world = World::new();
    let first = world.place(1, None);
    let second = world.place(2, Some(&first));
    assert_eq!(world.depot().find_base(&second.id.oid).expect("looked"), None);
}

#[test]
fn many_stored_objects_share_a_few_listings_between_processes() {
    let world = World::new();
    let whole: Vec<_> = (0..200).map(|seed| world.place(seed, None)).collect();
    let looks = |depot: &Depot| {
        for name in &whole {
            assert_eq!(depot.presence(&name.id.oid).expect("presence"), Presence::Stored);
        }
        world.verbs().iter().filter(|verb| **verb == Verb::List).count()
    };
    let first = looks(&world.depot());
    assert!(first <= 25, "{first} listings for 200 objects");
    let second = looks(&world.depot());
    assert!(second <= 5, "{second} listings of a second process");
}

#[test]
fn many_stored_deltas_share_their_listings_too() {
    let world = World::new();
    let pairs: Vec<_> = (0..100)
        .map(|seed| {
            let base = world.place(seed, None);
            world.place(seed + 100, Some(&base))
        })
        .collect();
    let depot = world.stranger();
    for name in &pairs {
        assert_eq!(depot.presence(&name.id.oid).expect("presence"), Presence::Stored);
    }
    let lists = world.verbs().iter().filter(|verb| **verb == Verb::List).count();
    assert!(lists <= 60, "{lists} listings for 100 deltas");
}

#[test]
fn a_repository_is_recorded_once() {
    let world = World::new();
    let depot = world.depot();
    depot.register("https://host/repo").expect("registered");
    assert!(world.verbs().contains(&Verb::Put));
    world.depot().register("https://host/repo").expect("known");
    assert_eq!(world.verbs(), []);
    world.stranger().register("https://host/repo").expect("there already");
    assert!(!world.verbs().contains(&Verb::Put));
}

#[test]
fn what_another_machine_stored_since_the_last_listing_is_seen_before_an_upload() {
    let world = World::new();
    let whole: Vec<_> = (0..100).map(|seed| world.place(seed, None)).collect();
    let depot = world.depot();
    for name in &whole {
        depot.presence(&name.id.oid).expect("presence");
    }
    let late = world.place(200, None);
    assert_eq!(depot.presence(&late.id.oid).expect("presence"), Presence::Absent, "from a listing");
    world.verbs();
    assert!(depot.is_seen(&late.id.oid).expect("seen"));
    assert_eq!(world.verbs(), [Verb::List]);
    assert_eq!(depot.presence(&late.id.oid).expect("presence"), Presence::Stored);
}

#[test]
fn a_folder_that_was_just_listed_is_not_listed_again_before_an_upload() {
    let world = World::new();
    let depot = world.depot();
    let oid = Oid::of(b"new");
    depot.presence(&oid).expect("presence");
    world.verbs();
    assert!(!depot.is_seen(&oid).expect("seen"));
    assert_eq!(world.verbs(), []);
}

#[test]
fn a_chain_that_grew_since_the_last_listing_is_not_called_broken() {
    let world = World::new();
    let whole: Vec<_> = (0..100).map(|seed| world.place(seed, None)).collect();
    let depot = world.depot();
    for name in &whole {
        depot.presence(&name.id.oid).expect("presence");
    }
    let base = world.place(200, None);
    let delta = world.place(201, Some(&base));
    assert!(depot.is_seen(&delta.id.oid).expect("seen"));
    assert_eq!(depot.presence(&delta.id.oid).expect("presence"), Presence::Stored);
}
