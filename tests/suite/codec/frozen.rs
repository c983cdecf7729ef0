//! Payloads that were written once and must be read for ever: `tests/frozen/d1`.
//!
//! To add one, add a case in `cases.rs`, run this with `LFS_DELTA_FREEZE=1` and commit the folder that
//! appears. What is there is never written again.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use lfs_delta::codec::{self, Effort};
use lfs_delta::model::CodecName;

use super::{cases, encode, work};

/// Where they are; those that are to be written are there.
static FOLDER: LazyLock<PathBuf> = LazyLock::new(|| {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/frozen/d1");
    if std::env::var_os("LFS_DELTA_FREEZE").is_some() {
        freeze(&folder);
    }
    folder
});

/// Base, target and payload of every frozen delta.
fn frozen() -> Vec<(PathBuf, [Vec<u8>; 3])> {
    let folders =
        fs::read_dir(&*FOLDER).expect("tests/frozen/d1").map(|entry| entry.expect("a folder").path());
    let read = |path: PathBuf| {
        let files = ["base", "target", "payload"].map(|name| fs::read(path.join(name)).expect(name));
        (path, files)
    };
    folders.map(read).collect()
}

#[test]
fn frozen_payloads_still_give_their_targets() {
    for (path, [base, target, payload]) in frozen() {
        let mut object = Vec::new();
        let size = target.len() as u64;
        let work = work(Effort::Default, 2);
        codec::decode(CodecName::DELTA, Some(&base), &mut payload.as_slice(), size, &work, &mut object)
            .unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        assert!(object == target, "{} gives another object", path.display());
    }
}

/// Writes the cases that are not there yet.
fn freeze(folder: &Path) {
    for case in cases::all() {
        let place = folder.join(case.name);
        if place.exists() {
            continue;
        }
        let (encoded, payload) = encode(&case.base, &case.target, &work(case.effort, 1)).expect("encodes");
        assert_eq!(encoded.codec, CodecName::DELTA, "{} is no d1 payload", case.name);
        fs::create_dir_all(&place).expect("a folder");
        for (name, bytes) in [("base", &case.base), ("target", &case.target), ("payload", &payload)] {
            fs::write(place.join(name), bytes).expect("a file");
        }
    }
}

#[test]
fn a_payload_of_every_shape_and_method_is_frozen() {
    let kind = |payload: &[u8]| match payload {
        [1, 0, method, ..] => (0, Some(*method)),
        [1, shape, ..] => (*shape, None),
        _ => panic!("no payload of version 1"),
    };
    let kinds: BTreeSet<_> = frozen().iter().map(|(_, [_, _, payload])| kind(payload)).collect();
    assert_eq!(kinds, BTreeSet::from([(0, Some(0)), (0, Some(1)), (0, Some(2)), (1, None)]));
}

#[test]
fn every_case_is_frozen() {
    let missing: Vec<_> =
        cases::all().iter().map(|case| case.name).filter(|name| !FOLDER.join(name).exists()).collect();
    assert!(missing.is_empty(), "run this module with LFS_DELTA_FREEZE=1 to write {missing:?}");
}
