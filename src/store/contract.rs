//! The suite that every store and every decorator must pass: one test for each promise of `store`.
//!
//! Not only for unit tests: the tests of the whole program run it against real services.

use std::io::Read;

use super::{Body, Error, Listed, Source, Visit, WriteStore, get_bytes, put_bytes};
use crate::model::{CopyId, CopyName, Key, KeyPrefix, Nonce, Oid, Shape};

/// Makes an empty store.
pub type Make<'a> = &'a dyn Fn() -> Box<dyn WriteStore>;

/// Checks every promise on stores fresh from `make`.
pub fn check(make: Make<'_>) {
    a_second_put_is_refused_and_changes_nothing(&*make());
    check_without_conditions(make);
}

/// Checks every promise but the second, which no store can keep on a service that ignores conditions: there only
/// names that are never used twice keep what is stored.
pub fn check_without_conditions(make: Make<'_>) {
    what_was_put_can_be_read_and_listed(&*make());
    wrong_bytes_are_refused_and_leave_nothing(&*make());
    a_shrunken_file_is_refused_and_leaves_nothing(&*make());
    a_missing_key_is_not_found(&*make());
    a_limit_gives_the_first_bytes(&*make());
    the_size_of_a_large_file_is_only_a_hint(&*make());
    a_listing_is_complete_and_ordered(&*make());
    a_listing_stops_when_told(&*make());
    a_prefix_ends_anywhere_in_a_name(&*make());
    an_empty_file_is_a_file(&*make());
}

fn key(object: u8, upload: u8) -> Key {
    let id = CopyId { oid: Oid::of(&[object]), nonce: Nonce::from_bytes([upload; 16]) };
    Key::copy(&CopyName { id, shape: Shape::Full { codec: None } })
}

fn list(store: &dyn WriteStore, prefix: &KeyPrefix) -> Vec<Listed> {
    let mut all = Vec::new();
    let mut visit = |listed| {
        all.push(listed);
        Visit::Continue
    };
    store.list(prefix, &mut visit).expect("list");
    all
}

fn what_was_put_can_be_read_and_listed(store: &dyn WriteStore) {
    put_bytes(store, &key(1, 1), b"content").expect("put");
    assert_eq!(get_bytes(store, &key(1, 1), 100).expect("get"), b"content");
    let listed = Listed { key: key(1, 1).as_str().to_owned(), size: 7 };
    assert_eq!(list(store, &KeyPrefix::folder(&Oid::of(&[1]))), [listed]);
}

fn the_size_of_a_large_file_is_only_a_hint(store: &dyn WriteStore) {
    for (number, content) in [(1, &b"content"[..]), (2, b"")] {
        put_bytes(store, &key(number, 1), content).expect("put");
        for size in [0, 7, 1 << 30] {
            let mut bytes = Vec::new();
            let mut reader = store.get_large(&key(number, 1), size).expect("get");
            reader.read_to_end(&mut bytes).expect("bytes");
            assert_eq!(bytes, content, "said to have {size} bytes");
        }
    }
    let missing = store.get_large(&key(9, 1), 1 << 30).map(drop);
    assert!(matches!(missing, Err(Error::NotFound { .. })), "{missing:?}");
}

fn a_second_put_is_refused_and_changes_nothing(store: &dyn WriteStore) {
    put_bytes(store, &key(1, 1), b"first").expect("put");
    let again = put_bytes(store, &key(1, 1), b"second");
    assert!(matches!(again, Err(Error::AlreadyExists { .. })), "{again:?}");
    assert_eq!(get_bytes(store, &key(1, 1), 100).expect("get"), b"first");
}

fn wrong_bytes_are_refused_and_leave_nothing(store: &dyn WriteStore) {
    let body = Body { source: Source::Bytes(b"wrong"), digest: Oid::of(b"right"), sent: &|_| () };
    let refused = store.put(&key(1, 1), &body);
    assert!(matches!(refused, Err(Error::Digest { .. })), "{refused:?}");
    assert_eq!(list(store, &KeyPrefix::objects()), []);
}

fn a_shrunken_file_is_refused_and_leaves_nothing(store: &dyn WriteStore) {
    let file = tempfile::NamedTempFile::new().expect("file");
    std::fs::write(file.path(), b"short").expect("write");
    let source = Source::File { path: file.path(), size: 6 };
    let body = Body { source, digest: Oid::of(b"short!"), sent: &|_| () };
    assert!(store.put(&key(1, 1), &body).is_err());
    assert_eq!(list(store, &KeyPrefix::objects()), []);
}

fn a_missing_key_is_not_found(store: &dyn WriteStore) {
    assert!(matches!(store.get(&key(1, 1), None), Err(Error::NotFound { .. })));
    put_bytes(store, &key(1, 1), b"x").expect("put");
    assert!(matches!(store.get(&key(1, 2), None), Err(Error::NotFound { .. })));
}

fn a_limit_gives_the_first_bytes(store: &dyn WriteStore) {
    put_bytes(store, &key(1, 1), b"0123456789").expect("put");
    assert_eq!(get_bytes(store, &key(1, 1), 4).expect("get"), b"0123");
    let mut all = Vec::new();
    store.get(&key(1, 1), None).expect("get").read_to_end(&mut all).expect("read");
    assert_eq!(all, b"0123456789");
}

fn a_listing_is_complete_and_ordered(store: &dyn WriteStore) {
    let mut expected = Vec::new();
    for object in 0..30 {
        for upload in [2, 1] {
            put_bytes(store, &key(object, upload), &[object]).expect("put");
            expected.push(key(object, upload).as_str().to_owned());
        }
    }
    put_bytes(store, &Key::manifest(), b"{}").expect("put");
    expected.sort();
    let keys: Vec<_> = list(store, &KeyPrefix::objects()).into_iter().map(|listed| listed.key).collect();
    assert_eq!(keys, expected);
}

fn a_listing_stops_when_told(store: &dyn WriteStore) {
    for object in 0..5 {
        put_bytes(store, &key(object, 1), b"x").expect("put");
    }
    let mut shown = 0;
    let mut visit = |_| {
        shown += 1;
        if shown == 2 { Visit::Stop } else { Visit::Continue }
    };
    store.list(&KeyPrefix::objects(), &mut visit).expect("list");
    assert_eq!(shown, 2);
}

fn a_prefix_ends_anywhere_in_a_name(store: &dyn WriteStore) {
    put_bytes(store, &Key::manifest(), b"{}").expect("put");
    put_bytes(store, &key(1, 1), b"x").expect("put");
    let keys: Vec<_> = list(store, &KeyPrefix::about()).into_iter().map(|listed| listed.key).collect();
    assert_eq!(keys, ["lfs-delta.json"]);
}

fn an_empty_file_is_a_file(store: &dyn WriteStore) {
    put_bytes(store, &key(1, 1), b"").expect("put");
    assert_eq!(get_bytes(store, &key(1, 1), 10).expect("get"), b"");
    assert_eq!(list(store, &KeyPrefix::objects())[0].size, 0);
}
