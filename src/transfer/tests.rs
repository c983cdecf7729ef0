//! Upload and download on a store in memory whose calls can be counted, failed and interfered with.

use std::io::Read;
use std::process::Command;
use std::sync::{Arc, Mutex};

use super::*;
use crate::depot::Rules;
use crate::git::names::pointer_text;
use crate::model::{Entry, Key, KeyPrefix, Shape};
use crate::store::{self, Body, Calls, Listed, MemoryStore, ReadStore, Verb, Visit, WriteStore};
use crate::threads::tests::with_only;

pub(crate) mod schedule;

/// What happens right before a call.
type Hook = Box<dyn FnMut(usize, Verb, &str) -> bool + Send>;

/// A store that tests share with a transfer. The hook sees each call first; `true` makes it fail.
#[derive(Clone)]
struct Shared {
    calls: Arc<Calls<MemoryStore>>,
    hook: Arc<Mutex<(usize, Option<Hook>)>>,
}

impl Shared {
    fn enter(&self, verb: Verb, key: &str) -> store::Result<()> {
        let mut state = self.hook.lock().expect("hook");
        state.0 += 1;
        let nth = state.0;
        if state.1.as_mut().is_some_and(|hook| hook(nth, verb, key)) {
            let reason = format!("call {nth} was made to fail");
            return Err(store::Error::Unavailable { verb, key: key.to_owned(), reason });
        }
        Ok(())
    }

    fn files(&self) -> std::sync::MutexGuard<'_, std::collections::BTreeMap<String, Vec<u8>>> {
        self.calls.inner().files()
    }
}

impl ReadStore for Shared {
    fn get(&self, key: &Key, limit: Option<u64>) -> store::Result<Box<dyn Read + Send>> {
        self.enter(Verb::Get, key.as_str())?;
        self.calls.get(key, limit)
    }

    fn list(&self, prefix: &KeyPrefix, visit: &mut dyn FnMut(Listed) -> Visit) -> store::Result<()> {
        self.enter(Verb::List, prefix.as_str())?;
        self.calls.list(prefix, visit)
    }

    fn name(&self) -> String {
        self.calls.name()
    }
}

impl WriteStore for Shared {
    fn put(&self, key: &Key, body: &Body<'_>) -> store::Result<()> {
        self.enter(Verb::Put, key.as_str())?;
        self.calls.put(key, body)
    }
}

/// A repository with the versions of one file, and a store.
pub(crate) struct World {
    store: Shared,
    folder: tempfile::TempDir,
    versions: Vec<(Version, Vec<u8>)>,
}

impl World {
    /// Versions of 200 kB that differ in a few bytes, one commit each.
    fn with_versions(count: u8) -> Self {
        let store = Shared { calls: Arc::new(Calls::new(MemoryStore::default())), hook: Arc::default() };
        Depot::new(Box::new(store.clone()), None).create().expect("store");
        let mut world = Self { store, folder: tempfile::tempdir().expect("tempdir"), versions: Vec::new() };
        world.git(&["init", "--quiet"]);
        for number in 0..count {
            let mut bytes: Vec<u8> =
                (0..50_000_u32).flat_map(|i| i.wrapping_mul(2_654_435_761).to_le_bytes()).collect();
            bytes[usize::from(number) * 1000] ^= 0x55;
            bytes.truncate(200_000 - usize::from(number));
            world.commit(bytes);
        }
        world.store.calls.take();
        world
    }

    fn repo(&self) -> &Path {
        self.folder.path()
    }

    fn git(&self, arguments: &[&str]) {
        let mut command = Command::new("git");
        for name in ["GIT_AUTHOR", "GIT_COMMITTER"] {
            command.env(format!("{name}_NAME"), "t").env(format!("{name}_EMAIL"), "t@example.com");
        }
        let ran = command.args(arguments).current_dir(self.repo()).output().expect("git");
        assert!(ran.status.success(), "git {arguments:?}: {}", String::from_utf8_lossy(&ran.stderr));
    }

    fn commit(&mut self, bytes: Vec<u8>) {
        self.commit_at("file.bin", bytes);
    }

    fn commit_at(&mut self, name: &str, bytes: Vec<u8>) {
        let version = Version { oid: Oid::of(&bytes), size: bytes.len() as u64 };
        let path = object_path(&self.repo().join(".git/lfs"), &version.oid);
        std::fs::create_dir_all(path.parent().expect("parent")).expect("mkdir");
        std::fs::write(path, &bytes).expect("object");
        std::fs::write(self.repo().join(name), pointer_text(version)).expect("pointer");
        self.git(&["add", name]);
        self.git(&["commit", "--quiet", "--message", "version"]);
        self.versions.push((version, bytes));
    }

    /// A process in this repository, or in an empty one of another machine. This machine remembers what it saw, the
    /// other one nothing.
    fn transfer(&self, folder: &Path) -> Transfer {
        // This machine remembers what it saw, the other one nothing.
        self.transfer_with(folder, (folder == self.repo()).then(|| folder.join(".git/cache")))
    }

    fn transfer_with(&self, folder: &Path, cache: Option<PathBuf>) -> Transfer {
        self.transfer_on(Box::new(self.store.clone()), folder, cache)
    }

    fn transfer_on(&self, store: Box<dyn WriteStore>, folder: &Path, cache: Option<PathBuf>) -> Transfer {
        let cancel = Cancel::default();
        let git = Git::new(folder.to_path_buf(), std::time::Duration::from_secs(60), cancel.clone());
        let place = Place::find(&git).expect("repository");
        let config = Config::default();
        let mut settings = Settings::read(&config).expect("settings");
        settings.cache_folder = cache;
        settings.register = false;
        let location = Location::parse("file:///unused").expect("location");
        let session = Session {
            operation: Operation::Upload,
            remote: "origin".into(),
            store: None,
            effort: None,
            profile: None,
            repair: false,
        };
        let lfs_folder = place.lfs_folder(&config);
        let parts = Parts { git, lfs_folder, config, settings, location, session };
        Transfer::with_store(parts, store, &cancel).expect("transfer")
    }

    fn upload(&self, number: usize) -> Result<Stored> {
        self.transfer(self.repo()).upload(self.versions[number].0, Path::new(""), &Meter::silent())
    }

    /// An empty repository on another machine.
    fn elsewhere(&self) -> tempfile::TempDir {
        let elsewhere = tempfile::tempdir().expect("tempdir");
        let made = Command::new("git").args(["init", "--quiet"]).current_dir(&elsewhere).status();
        assert!(made.expect("git").success());
        elsewhere
    }

    /// Downloads a version on a machine that has nothing, and compares.
    fn assert_readable(&self, number: usize) {
        let elsewhere = self.elsewhere();
        let (version, bytes) = &self.versions[number];
        let transfer = self.transfer(elsewhere.path());
        let file = transfer.download(*version, &Meter::silent()).expect("download");
        assert_eq!(std::fs::read(file).expect("read"), *bytes);
    }

    /// Runs `hook` before each further call; `true` makes the call fail.
    fn interfere(&self, hook: impl FnMut(usize, Verb, &str) -> bool + Send + 'static) {
        *self.store.hook.lock().expect("hook") = (0, Some(Box::new(hook)));
    }

    /// Lets all calls through again; returns how many there were.
    fn heal(&self) -> usize {
        let mut state = self.store.hook.lock().expect("hook");
        state.1 = None;
        state.0
    }

    fn shapes(&self, number: usize) -> Vec<Shape> {
        let folder = KeyPrefix::folder(&self.versions[number].0.oid).to_string();
        let files = self.store.files();
        let entries = files.keys().filter(|key| key.starts_with(&folder)).filter_map(|key| Entry::parse(key));
        entries
            .filter_map(|entry| if let Entry::Copy(name) = entry { Some(name.shape) } else { None })
            .collect()
    }
}

#[test]
fn a_second_version_is_a_delta_and_both_come_back() {
    let world = World::with_versions(2);
    assert!(matches!(world.upload(0).expect("first"), Stored::Whole { .. }));
    let second = world.upload(1).expect("second");
    assert!(matches!(second, Stored::Delta { size, depth: 2, .. } if size < 2000), "{second:?}");
    world.assert_readable(0);
    world.assert_readable(1);
}

#[test]
fn a_chain_is_fetched_where_the_system_refuses_threads() {
    let world = World::with_versions(4);
    world.upload(3).expect("all");
    for threads in [0, 1] {
        let elsewhere = world.elsewhere();
        let (version, bytes) = &world.versions[3];
        let transfer = world.transfer(elsewhere.path());
        let fetched = with_only(threads, || transfer.download(*version, &Meter::silent()));
        assert_eq!(std::fs::read(fetched.expect("download")).expect("read"), *bytes);
    }
}

#[test]
fn an_object_is_stored_where_the_system_refuses_threads() {
    // The last thread that is asked for is the one that reads the object while the base is read.
    let is_delta = |threads| {
        let mut world = World::with_versions(0);
        for number in 0..2 {
            let mut bytes: Vec<u8> =
                (0..100_000_u32).flat_map(|i| i.wrapping_mul(2_654_435_761).to_le_bytes()).collect();
            bytes[9] = number;
            world.commit(bytes);
        }
        world.upload(0).expect("first");
        let transfer = world.transfer(world.repo());
        let second =
            with_only(threads, || transfer.upload(world.versions[1].0, Path::new(""), &Meter::silent()));
        let second = second.expect("second");
        world.assert_readable(1);
        matches!(second, Stored::Delta { .. })
    };
    assert!(!is_delta(0), "git was asked");
    assert!((1..30).any(is_delta));
}

#[test]
fn who_would_wait_for_another_agent_stores_what_is_pushed_with_its_object() {
    let mut world = World::with_versions(1);
    let bytes = |seed: u8| vec![seed; 10_000];
    world.git(&["checkout", "--quiet", "-b", "private"]);
    world.commit_at("private.bin", bytes(1));
    world.git(&["checkout", "--quiet", "-b", "public", "HEAD~1"]);
    world.commit_at("other.bin", bytes(2));
    world.commit_at("other.bin", bytes(3));
    world.commit(bytes(4));
    let [first, private, other, newer, last] = [0, 1, 2, 3, 4];
    let held = world.transfer(world.repo()).lock(world.versions[first].0).expect("a lock");
    assert!(held.is_some());
    std::thread::scope(|scope| {
        let upload = scope.spawn(|| world.upload(last).expect("an upload"));
        let begun = std::time::Instant::now();
        while world.shapes(newer).is_empty() && begun.elapsed() < Duration::from_secs(60) {
            std::thread::sleep(Duration::from_millis(10));
        }
        let meanwhile = [first, other, newer, last].map(|number| world.shapes(number).len());
        drop(held);
        assert_eq!(meanwhile, [0, 1, 1, 0]);
        upload.join().expect("no panic");
    });
    assert_eq!([first, last].map(|number| world.shapes(number).len()), [1, 1]);
    assert_eq!(world.shapes(private), [], "pushed with nothing that was asked for");
}

#[test]
fn who_waits_for_a_small_object_without_a_past_stores_nothing_meanwhile() {
    let mut world = World::with_versions(1);
    world.commit_at("other.bin", vec![7; 10_000]);
    let held = world.transfer(world.repo()).lock(world.versions[1].0).expect("a lock");
    std::thread::scope(|scope| {
        let upload = scope.spawn(|| world.upload(1).expect("an upload"));
        // To store the other takes less than a tenth of that.
        std::thread::sleep(Duration::from_millis(500));
        let meanwhile = [0, 1].map(|number| world.shapes(number).len());
        drop(held);
        upload.join().expect("no panic");
        assert_eq!(meanwhile, [0, 0]);
    });
    assert_eq!([0, 1].map(|number| world.shapes(number).len()), [0, 1]);
}

#[test]
fn an_object_that_is_stored_is_not_stored_again() {
    let world = World::with_versions(1);
    world.upload(0).expect("first");
    world.store.calls.take();
    assert_eq!(world.upload(0).expect("again"), Stored::Already);
    assert!(world.store.calls.take().iter().all(|call| call.verb != Verb::Put));
}

#[test]
fn a_delta_on_a_remembered_delta_asks_nothing_about_the_reference_below() {
    let world = World::with_versions(3);
    world.upload(1).expect("two versions");
    let settled = world.repo().join(".git/cache/stores");
    for file in files_named(&settled, &world.versions[0].0.oid.to_string()) {
        std::fs::remove_file(file).expect("was remembered");
    }
    world.store.calls.take();
    assert!(matches!(world.upload(2).expect("third"), Stored::Delta { depth: 3, .. }));
    let verbs: Vec<_> = world.store.calls.take().into_iter().map(|call| call.verb).collect();
    assert_eq!(verbs, [Verb::List, Verb::List, Verb::Put, Verb::List], "the first is the look at the store");
}

/// Returns the files of that name below a folder.
fn files_named(folder: &Path, name: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).expect("folder") {
        let path = entry.expect("entry").path();
        if path.is_dir() {
            found.extend(files_named(&path, name));
        } else if path.ends_with(name) {
            found.push(path);
        }
    }
    found
}

#[test]
fn earlier_versions_are_stored_first_whatever_is_asked_for_first() {
    let world = World::with_versions(4);
    assert!(matches!(world.upload(3).expect("last"), Stored::Delta { depth: 4, .. }));
    for number in 0..4 {
        assert_eq!(world.upload(number).expect("stored"), Stored::Already, "version {number}");
        world.assert_readable(number);
    }
}

#[test]
fn a_chain_that_is_full_goes_on_from_a_link_lower_down() {
    let world = World::with_versions(20);
    let depths: Vec<usize> = (0..20)
        .map(|number| match world.upload(number).expect("stored") {
            Stored::Delta { depth, size, .. } if size < 3000 => depth,
            Stored::Whole { .. } if number == 0 => 1,
            other => panic!("version {number}: {other:?}"),
        })
        .collect();
    assert_eq!(depths[..16], std::array::from_fn::<usize, 16, _>(|index| index + 1));
    assert_eq!(depths[16..], [2, 3, 4, 5]);
    world.assert_readable(15);
    world.assert_readable(19);
}

#[test]
fn a_whole_history_is_fetched_once_and_decoded_twice_at_most() {
    let world = World::with_versions(20);
    world.upload(19).expect("all");
    let elsewhere = tempfile::tempdir().expect("tempdir");
    let made = Command::new("git").args(["init", "--quiet"]).current_dir(&elsewhere).status();
    assert!(made.expect("git").success());
    let cache = elsewhere.path().join("cache");
    // By size, which is not the order of history, and each by a process of its own.
    for number in [15, 19, 3, 14, 13, 18, 17, 16, 12, 0, 11, 10, 1, 9, 2, 8, 7, 4, 5, 6] {
        let (version, bytes) = &world.versions[number];
        let transfer = world.transfer_with(elsewhere.path(), Some(cache.clone()));
        let file = transfer.download(*version, &Meter::silent()).expect("download");
        assert_eq!(std::fs::read(file).expect("read"), *bytes);
    }
    let mut fetched = std::collections::BTreeMap::new();
    for call in world.store.calls.take().into_iter().filter(|call| call.verb == Verb::Get) {
        *fetched.entry(call.key).or_insert(0) += 1;
    }
    fetched.retain(|key, count| key.starts_with("objects/") && *count > 1);
    assert_eq!(fetched, std::collections::BTreeMap::new());
}

#[test]
fn a_damaged_kept_copy_is_dropped_and_fetched_again() {
    let world = World::with_versions(4);
    world.upload(3).expect("all");
    let elsewhere = tempfile::tempdir().expect("tempdir");
    let made = Command::new("git").args(["init", "--quiet"]).current_dir(&elsewhere).status();
    assert!(made.expect("git").success());
    let cache = elsewhere.path().join("cache");
    let download = |number: usize| {
        let transfer = world.transfer_with(elsewhere.path(), Some(cache.clone()));
        let file = transfer.download(world.versions[number].0, &Meter::silent()).expect("download");
        assert_eq!(std::fs::read(file).expect("read"), world.versions[number].1);
    };
    download(3);
    let mut kept = 0;
    for shard in std::fs::read_dir(cache.join("copies")).expect("copies were kept") {
        for file in std::fs::read_dir(shard.expect("an entry").path()).expect("a folder") {
            let path = file.expect("an entry").path();
            let mut bytes = std::fs::read(&path).expect("a copy");
            let last = bytes.len() - 1;
            bytes[last] ^= 1;
            std::fs::write(&path, bytes).expect("damage");
            kept += 1;
        }
    }
    assert_eq!(kept, 3, "its own delta and those between");
    download(2);
    download(1);
}

#[test]
fn what_git_said_is_shared_until_a_ref_changes() {
    let mut world = World::with_versions(3);
    assert_eq!(world.transfer(world.repo()).earlier(world.versions[2].0).len(), 2);
    let shared: Vec<_> = std::fs::read_dir(world.repo().join(".git/cache/names"))
        .expect("a folder")
        .map(|entry| entry.expect("an entry").path())
        .filter(|path| path.extension().is_none())
        .collect();
    assert_eq!(shared.len(), 1, "{shared:?}");
    // Another process believes the file, whatever it says.
    std::fs::write(&shared[0], b"").expect("no changes");
    let other = world.transfer(world.repo());
    assert!(other.unpushed().expect("names").newest().is_empty());
    world.commit(vec![7; 300_000]);
    assert_eq!(world.transfer(world.repo()).earlier(world.versions[3].0).len(), 3);
}

#[test]
fn a_base_that_is_condemned_during_the_upload_leads_to_a_whole_copy() {
    let world = World::with_versions(2);
    world.upload(0).expect("first");
    let store = world.store.clone();
    world.interfere(move |_, verb, key| {
        if verb == Verb::Put && key.contains("/delta.") {
            let full = store.files().keys().find(|key| key.contains("/full.")).cloned().expect("the base");
            store.files().insert(full.replace("/full.", "/tombstone."), b"test\n".to_vec());
        }
        false
    });
    assert!(matches!(world.upload(1).expect("second"), Stored::Whole { .. }));
    world.heal();
    assert!(world.shapes(1).iter().any(|shape| matches!(shape, Shape::Full { .. })), "{:?}", world.shapes(1));
}

#[test]
fn a_base_that_vanishes_during_the_upload_leads_to_a_whole_copy() {
    let world = World::with_versions(2);
    world.upload(0).expect("first");
    let store = world.store.clone();
    world.interfere(move |_, verb, key| {
        if verb == Verb::Put && key.contains("/delta.") {
            store.files().retain(|key, _| !key.contains("/full."));
        }
        false
    });
    assert!(matches!(world.upload(1).expect("second"), Stored::Whole { .. }));
    world.heal();
    world.assert_readable(1);
}

#[test]
fn a_chain_with_a_gap_is_repaired_by_the_next_push() {
    let world = World::with_versions(3);
    world.upload(2).expect("all");
    world.store.files().retain(|key, _| !key.contains("/full."));
    assert!(matches!(world.upload(2).expect("repair"), Stored::Whole { .. }));
    world.assert_readable(2);
}

#[test]
fn an_upload_survives_the_failure_of_any_single_store_call() {
    for failing in 1.. {
        let world = World::with_versions(2);
        world.upload(0).expect("first");
        world.interfere(move |nth, _, _| nth == failing);
        let outcome = world.upload(1);
        let injected = world.heal() >= failing;
        assert_eq!(outcome.is_err(), injected, "call {failing}: {outcome:?}");
        world.assert_readable(0);
        world.upload(1).expect("a retry completes");
        world.assert_readable(1);
        if !injected {
            assert!(failing > 4, "only {failing} calls were tried");
            return;
        }
    }
}

#[test]
fn a_download_survives_the_failure_of_any_single_store_call() {
    let world = World::with_versions(3);
    world.upload(2).expect("all");
    for failing in 1.. {
        let elsewhere = tempfile::tempdir().expect("tempdir");
        let made = Command::new("git").args(["init", "--quiet"]).current_dir(&elsewhere).status();
        assert!(made.expect("git").success());
        world.interfere(move |nth, _, _| nth == failing);
        let transfer = world.transfer(elsewhere.path());
        let outcome = transfer.download(world.versions[2].0, &Meter::silent());
        let injected = world.heal() >= failing;
        assert_eq!(outcome.is_err(), injected, "call {failing}: {outcome:?}");
        if !injected {
            return;
        }
        let left = std::fs::read_dir(transfer.workspace()).expect("workspace");
        assert_eq!(left.count(), 1, "call {failing}: only the lock is left");
        world.assert_readable(2);
    }
}

#[test]
fn a_corrupt_local_object_is_never_stored() {
    let mut seed = 1u64;
    let mut noise = |len: usize| -> Vec<u8> {
        let mut byte = || {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (seed >> 56) as u8
        };
        (0..len).map(|_| byte()).collect()
    };
    // Alone it would be packed or stored as it is, behind another it would be a delta.
    for number in [0, 1] {
        let world = World::with_versions(2);
        if number > 0 {
            world.upload(0).expect("the version before");
        }
        let (version, bytes) = &world.versions[number];
        let path = object_path(&world.repo().join(".git/lfs"), &version.oid);
        for damaged in [vec![0; bytes.len()], noise(bytes.len()), bytes[1..].to_vec()] {
            std::fs::write(&path, damaged).expect("damage");
            let refused = world.upload(number).expect_err("damaged");
            assert_eq!(refused.kind(), crate::error::Kind::LocalCorrupt, "{refused}");
            assert!(refused.to_string().contains("their SHA-256 is"), "{refused}");
            assert!(world.shapes(number).is_empty());
        }
    }
}

#[test]
fn what_is_not_proven_is_lost() {
    let mut world = World::with_versions(0);
    world.commit(b"a text that is worth packing, ".repeat(1000));
    let path = object_path(&world.repo().join(".git/lfs"), &world.versions[0].0.oid);
    std::fs::write(&path, b"another that has the same size".repeat(1000)).expect("damage");
    let upload = |rules| {
        let mut transfer = world.transfer(world.repo());
        transfer.depot.set_rules(rules);
        transfer.upload(world.versions[0].0, Path::new(""), &Meter::silent())
    };
    upload(Rules::default()).expect_err("R2 holds");
    assert!(world.shapes(0).is_empty());
    upload(Rules::without("R2")).expect("nobody looks");
    let elsewhere = world.elsewhere();
    let read = world.transfer(elsewhere.path()).download(world.versions[0].0, &Meter::silent());
    assert_eq!(read.expect_err("lost").kind(), crate::error::Kind::Damaged);
}

#[test]
fn a_remotes_url_is_recorded_without_user_and_password() {
    let url = |text| remote_url(&Config::default(), text).expect("url");
    assert_eq!(url("https://user:secret@host/a@b"), "https://host/a@b");
    assert_eq!(url("git@host:team/repo.git"), "host:team/repo.git");
    assert_eq!(url("/srv/repo.git"), "/srv/repo.git");
}
