//! "complete" means durable, seen at the system calls; and what happens where no change is possible any more.

mod power;

use std::path::{Path, PathBuf};

use crate::scene::{Scene, pull_cold, push_delta, push_full, push_history};
use crate::support::data::text;
use crate::support::fake_lfs::FakeLfs;
use crate::support::run::is_soak;
use crate::support::trace::{Act, Change};
use crate::world::{World, assert_report};

// ---- in which order

/// Everything that one play changes, up to its answer.
fn changes(scene: &Scene) -> Vec<Change> {
    scene.restore();
    let mut agent = FakeLfs::traced(scene.command(), Act::Watch);
    agent.attempt(scene.operation, &scene.request).expect("an answer").succeeded();
    agent.close_stdin();
    agent.wait(crate::scene::PATIENCE).expect("an end");
    let mut changes = agent.tracee().changes();
    changes.retain(|change| change.worked);
    let is_answer = |change: &Change| change.call == "write" && change.text.contains("\"complete\"");
    let answer = changes.iter().position(is_answer).expect("an answer among the changes");
    changes.truncate(answer);
    changes
}

/// Whether a later change syncs a file or folder.
fn is_synced(later: &[Change], path: &Path) -> bool {
    later.iter().any(|change| change.call == "sync" && change.path == path)
}

/// Fails the test unless every file and folder of a store would survive a power cut before the answer.
fn assert_durable(scene: &Scene) {
    let store = scene.world.sandbox.path("store");
    let changes = changes(scene);
    let mut published = Vec::<PathBuf>::new();
    for (at, change) in changes.iter().enumerate().filter(|(_, change)| change.path.starts_with(&store)) {
        let (before, after) = changes.split_at(at);
        let folder = change.path.parent().expect("a folder");
        match change.call {
            "mkdir" if folder != store || !change.path.ends_with("tmp") => {
                assert!(is_synced(after, folder), "a new folder may vanish: {change:?}");
            }
            "rename" | "link" => {
                let staged = before.iter().rfind(|change| change.call == "write").expect("a staged file");
                let written = before.iter().rposition(|other| other == staged).expect("it");
                assert!(
                    is_synced(&before[written..], &staged.path),
                    "published before it was synced: {change:?}"
                );
                assert!(is_synced(after, folder), "its name may vanish: {change:?}");
                published.push(change.path.clone());
            }
            "write" | "truncate" | "fallocate" => {
                assert!(change.path.starts_with(store.join("tmp")), "written in place: {change:?}");
            }
            _ => {}
        }
    }
    let copies = published.iter().filter(|path| path.starts_with(store.join("objects"))).count();
    assert_eq!(copies, scene.objects.len(), "{published:?}");
}

#[test]
fn a_copy_is_durable_before_complete_is_said() {
    assert_durable(&push_full(World::on_directory(), text(60, 20_000)));
    assert_durable(&push_delta(World::on_directory()));
}

#[test]
fn a_base_is_durable_before_a_delta_on_it_is_published() {
    let scene = push_history(World::on_directory());
    assert_durable(&scene);
    let objects = scene.world.sandbox.path("store/objects");
    let changes = changes(&scene);
    let names: Vec<_> = (0..)
        .zip(&changes)
        .filter(|(_, change)| matches!(change.call, "rename" | "link") && change.path.starts_with(&objects))
        .collect();
    for pair in names.windows(2) {
        let [(first, base), (second, _)] = pair else {
            panic!("two names");
        };
        let folder = base.path.parent().expect("a folder");
        assert!(is_synced(&changes[*first..*second], folder), "a delta was published before {base:?}");
    }
    assert_eq!(names.len(), 3);
}

// ---- where nothing can be changed any more

const ENOSPC: i32 = 28;
const EDQUOT: i32 = 122;
const EIO: i32 = 5;

/// Lets every change from each one on fail.
fn fail_from_any_change(scene: &Scene, error: i32, codes: &[i64]) {
    // The last three changes of a pull are those that it can do without.
    let stride = if is_soak() { 1 } else { 3 };
    let (mut failed, mut worked) = (0, 0);
    for nth in (1..).step_by(stride) {
        scene.restore();
        let mut agent = FakeLfs::traced(scene.command(), Act::Fail(nth, error));
        let transfer = agent.attempt(scene.operation, &scene.request).expect("an answer");
        scene.assert_bytes(&transfer);
        let is_over = !agent.tracee().has_acted();
        let _ = agent.try_send_raw(b"{\"event\":\"terminate\"}\n");
        assert!(agent.wait(crate::scene::PATIENCE).expect("an end").success());
        if is_over {
            break;
        }
        println!("{}, error {error} from change {nth} on: {:?}", scene.name, transfer.code());
        match (transfer.code(), transfer.error()) {
            (Some(code), Some(message)) => {
                assert!(codes.contains(&code), "{}: {transfer:?}", scene.name);
                assert_report(message, &format!("E{code}"), &[]);
                failed += 1;
            }
            _ => worked += 1,
        }
        let left = scene.world.temporary_files(scene.machine);
        assert!(left.is_empty(), "{}: left behind: {left:?}", scene.name);
        let staged = scene.world.sandbox.path("store/tmp");
        assert!(
            !staged.is_dir() || crate::support::sandbox::files_below(&staged).is_empty(),
            "staged files are left"
        );
        scene.assert_survived(scene.operation == "upload" && transfer.error().is_none());
    }
    println!("{}, error {error}: {failed} failed, {worked} did without", scene.name);
    assert!(failed > 0 && worked > 0, "{failed} failed, {worked} did without");
}

#[test]
fn a_full_disk_at_any_change_of_a_push_is_an_error_and_leaves_nothing() {
    fail_from_any_change(&push_delta(World::on_directory()), ENOSPC, &[6001, 2006]);
}

#[test]
fn a_quota_at_any_change_of_a_pull_is_an_error_and_leaves_nothing() {
    fail_from_any_change(&pull_cold(World::on_directory()), EDQUOT, &[6001, 2006]);
}

#[test]
fn a_broken_disk_at_any_change_of_a_push_is_an_error_and_leaves_nothing() {
    fail_from_any_change(&push_full(World::on_directory(), text(61, 20_000)), EIO, &[6002, 2007]);
}
