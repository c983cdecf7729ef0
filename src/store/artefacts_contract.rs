//! The suite that every place for artefacts must pass: one test for each promise of `artefacts`.
//!
//! Not only for unit tests: the tests of the whole program run it against real services.

use std::io::Read;

use super::artefacts::{ArtefactStore, Found, Item, Metadata, Placing};
use super::{Body, Error, Result, Source, Visit};
use crate::model::{FileName, Folder, Key, Oid};

/// Makes an empty place.
pub type Make<'a> = &'a dyn Fn() -> Box<dyn ArtefactStore>;

/// Checks every promise on places fresh from `make`.
pub fn check(make: Make<'_>) {
    a_second_create_is_refused_and_changes_nothing(&*make());
    of_many_who_create_one_wins(&*make());
    what_was_put_is_found_with_its_metadata(&*make());
    a_replaced_file_has_its_own_metadata(&*make());
    a_version_that_went_is_not_found(&*make());
    wrong_bytes_are_refused_and_leave_nothing(&*make());
    what_is_not_there_is_not_found(&*make());
    a_listing_shows_files_and_folders(&*make());
    names_may_be_odd(&*make());
}

/// Names a file at the top.
pub fn key(name: &str) -> Key {
    Key::artefact(&Folder::default(), &FileName::parse(name).expect("a name"))
}

/// Stores bytes with one line of metadata.
///
/// # Errors
/// Those of `put`.
pub fn put(store: &dyn ArtefactStore, key: &Key, bytes: &[u8], note: &str, placing: Placing) -> Result<()> {
    let body = Body { source: Source::Bytes(bytes), digest: Oid::of(bytes), sent: &|_| () };
    store.put(key, &body, &metadata(note), placing)
}

fn metadata(note: &str) -> Metadata {
    Metadata::from([("dg-note".into(), note.into())])
}

fn find(store: &dyn ArtefactStore, key: &Key) -> Found {
    store.find(key).expect("looked").expect("there")
}

fn read(store: &dyn ArtefactStore, key: &Key) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut reader = store.get(key, &find(store, key)).expect("get");
    reader.read_to_end(&mut bytes).expect("bytes");
    bytes
}

fn a_second_create_is_refused_and_changes_nothing(store: &dyn ArtefactStore) {
    put(store, &key("a"), b"first", "1", Placing::Create).expect("put");
    let again = put(store, &key("a"), b"other", "2", Placing::Create);
    assert!(matches!(again, Err(Error::AlreadyExists { .. })), "{again:?}");
    assert_eq!(read(store, &key("a")), b"first");
    assert_eq!(find(store, &key("a")).metadata, metadata("1"));
}

fn of_many_who_create_one_wins(store: &dyn ArtefactStore) {
    let create = |number: u8| put(store, &key("a"), &[number; 1000], &number.to_string(), Placing::Create);
    let outcomes: Vec<_> = std::thread::scope(|scope| {
        let racers: Vec<_> = (0..8).map(|number| scope.spawn(move || create(number))).collect();
        racers.into_iter().map(|racer| racer.join().expect("no panic")).collect()
    });
    let winners: Vec<u8> = (0..8).zip(&outcomes).filter(|(_, put)| put.is_ok()).map(|(n, _)| n).collect();
    let [winner] = winners[..] else { panic!("{winners:?} of {outcomes:?}") };
    assert_eq!(read(store, &key("a")), [winner; 1000]);
    assert_eq!(find(store, &key("a")).metadata, metadata(&winner.to_string()));
}

fn what_was_put_is_found_with_its_metadata(store: &dyn ArtefactStore) {
    for bytes in [&b"content"[..], b""] {
        put(store, &key("a"), bytes, "a note", Placing::Replace).expect("put");
        let found = find(store, &key("a"));
        assert_eq!((found.size, found.metadata), (bytes.len() as u64, metadata("a note")));
        assert!(found.version.is_some());
        assert_eq!(read(store, &key("a")), bytes);
    }
}

fn a_replaced_file_has_its_own_metadata(store: &dyn ArtefactStore) {
    for (bytes, note) in [(b"aaa", "1"), (b"bbb", "2"), (b"aaa", "3")] {
        put(store, &key("a"), bytes, note, Placing::Replace).expect("put");
        assert_eq!(read(store, &key("a")), bytes);
        assert_eq!(find(store, &key("a")).metadata, metadata(note));
    }
}

fn a_version_that_went_is_not_found(store: &dyn ArtefactStore) {
    put(store, &key("a"), b"old", "1", Placing::Create).expect("put");
    let found = find(store, &key("a"));
    put(store, &key("a"), b"new", "2", Placing::Replace).expect("put");
    let read = store.get(&key("a"), &found).map(drop);
    assert!(matches!(read, Err(Error::NotFound { .. })), "{read:?}");
}

fn wrong_bytes_are_refused_and_leave_nothing(store: &dyn ArtefactStore) {
    let body = Body { source: Source::Bytes(b"wrong"), digest: Oid::of(b"right"), sent: &|_| () };
    for placing in [Placing::Create, Placing::Replace] {
        let refused = store.put(&key("a"), &body, &metadata("1"), placing);
        assert!(matches!(refused, Err(Error::Digest { .. })), "{refused:?}");
        assert_eq!(store.find(&key("a")).expect("looked"), None);
    }
}

fn what_is_not_there_is_not_found(store: &dyn ArtefactStore) {
    assert_eq!(store.find(&key("a")).expect("looked"), None);
    put(store, &key("a"), b"x", "1", Placing::Create).expect("put");
    let found = find(store, &key("a"));
    let read = store.get(&key("b"), &found).map(drop);
    assert!(matches!(read, Err(Error::NotFound { .. })), "{read:?}");
}

fn a_listing_shows_files_and_folders(store: &dyn ArtefactStore) {
    let name = |text: &str| FileName::parse(text).expect("a name");
    let below = Folder::parse("below").expect("a folder");
    assert_eq!(list(store, &below), []);
    for number in 0..5 {
        put(store, &key(&format!("file {number}")), b"abc", "1", Placing::Create).expect("put");
    }
    put(store, &Key::artefact(&below, &name("deep")), b"x", "1", Placing::Create).expect("put");
    let file = |number| Item::File { name: name(&format!("file {number}")), size: 3 };
    let mut expected: Vec<_> = (0..5).map(file).collect();
    expected.insert(0, Item::Folder(name("below")));
    assert_eq!(list(store, &Folder::default()), expected);
    assert_eq!(list(store, &below), [Item::File { name: name("deep"), size: 1 }]);
}

fn list(store: &dyn ArtefactStore, folder: &Folder) -> Vec<Item> {
    let mut items = Vec::new();
    let mut visit = |item| {
        items.push(item);
        Visit::Continue
    };
    store.list(folder, &mut visit).expect("list");
    items.sort_by(|a, b| a.name().cmp(b.name()));
    items
}

fn names_may_be_odd(store: &dyn ArtefactStore) {
    let names = ["-rf", "--help", " a b ", "100% +&?#", "ä ö ü.zip", "日本語", "a\\b", "...", "~", "=x&y"];
    for name in names {
        put(store, &key(name), name.as_bytes(), "1", Placing::Create).expect(name);
    }
    for name in names {
        assert_eq!(read(store, &key(name)), name.as_bytes(), "{name}");
    }
    assert_eq!(list(store, &Folder::default()).len(), names.len());
}
