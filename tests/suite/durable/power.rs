//! Power cuts: what was not synced is gone, and what was acknowledged is there all the same.
//!
//! A push is stopped at each change of a file, and the store becomes what the worst disk leaves of it: the names that
//! were not synced are gone, or the files are there and empty. What the machine remembers stays, so it may know more
//! than is true.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use crate::scene::{PATIENCE, Scene, fetch, push_delta, push_full, push_history};
use crate::support::data::text;
use crate::support::fake_lfs::FakeLfs;
use crate::support::run::{is_soak, wait_until};
use crate::support::trace::{Act, Change, When};
use crate::world::World;

/// What a disk may lose.
#[derive(Default)]
struct Unsynced {
    names: BTreeSet<PathBuf>,
    contents: BTreeSet<PathBuf>,
}

impl Unsynced {
    /// What is left to be synced of a store after these changes.
    fn after(changes: &[Change], store: &Path) -> Unsynced {
        let mut unsynced = Unsynced::default();
        let mut staged = PathBuf::new();
        for Change { call, path, .. } in
            changes.iter().filter(|change| change.worked && change.path.starts_with(store))
        {
            match *call {
                "create" | "mkdir" => drop(unsynced.names.insert(path.clone())),
                "write" | "truncate" | "fallocate" | "copy" => {
                    unsynced.contents.insert(path.clone());
                    staged.clone_from(path);
                }
                "rename" | "link" => {
                    unsynced.names.insert(path.clone());
                    if unsynced.contents.contains(&staged) {
                        unsynced.contents.insert(path.clone());
                    }
                }
                "sync" => {
                    unsynced.contents.remove(path);
                    unsynced.names.retain(|name| name.parent() != Some(path));
                }
                _ => {}
            }
        }
        unsynced
    }

    /// Takes the names away.
    fn lose_names(&self) {
        for name in self.names.iter().rev() {
            let _ = if name.is_dir() { fs::remove_dir_all(name) } else { fs::remove_file(name) };
        }
    }

    /// Takes away what is in the files.
    fn lose_contents(&self) {
        let files = self.contents.iter().filter(|path| path.is_file());
        files.for_each(|path| fs::write(path, "").expect("a file"));
    }
}

fn has_answered(changes: &[Change]) -> bool {
    changes.iter().any(|change| change.call == "write" && change.text.contains("\"complete\""))
}

/// Stops a push before its n-th change of a file, and kills it; returns what it had changed, or `None` where there is
/// no n-th.
fn stop_at_change(scene: &Scene, nth: usize) -> Option<Vec<Change>> {
    let mut agent = FakeLfs::traced(scene.command(), Act::Freeze(nth, When::Before));
    let tracee = agent.tracee().clone();
    let stopped = std::thread::scope(|scope| {
        let playing = scope.spawn(|| agent.attempt(scene.operation, &scene.request));
        assert!(wait_until(PATIENCE, || tracee.has_acted() || playing.is_finished()), "nothing happens");
        let stopped = tracee.has_acted().then(|| tracee.changes());
        tracee.kill();
        tracee.thaw();
        playing.join().expect("a transfer");
        stopped
    });
    agent.wait(PATIENCE).expect("an end");
    stopped
}

/// Cuts the power at each change of a push.
fn cut_at_any_change(scene: &Scene, stride: usize) {
    let stride = if is_soak() { 1 } else { stride };
    let store = scene.world.sandbox.path("store");
    let (mut tried, mut lost) = (0, 0);
    'all: for nth in (1..).step_by(stride) {
        for lose in [Unsynced::lose_names, Unsynced::lose_contents] {
            scene.restore();
            let Some(changes) = stop_at_change(scene, nth) else { break 'all };
            let unsynced = Unsynced::after(&changes, &store);
            println!("{}: cut before change {nth}, {} names unsynced", scene.name, unsynced.names.len());
            lose(&unsynced);
            scene.assert_survived(has_answered(&changes));
            lost += unsynced.names.len();
            tried += 1;
        }
    }
    println!("{}: {tried} cuts, {lost} names were lost", scene.name);
    assert!(tried > 3 && lost > 0, "{tried} cuts, {lost} lost");
}

#[test]
fn a_power_cut_at_any_change_of_a_push_loses_nothing() {
    cut_at_any_change(&push_delta(World::on_directory()), 17);
    cut_at_any_change(&push_history(World::on_directory()), 61);
}

/// All changes of one play, the first of which is number 1.
fn counted_changes(scene: &Scene) -> Vec<Change> {
    scene.restore();
    let mut agent = FakeLfs::traced(scene.command(), Act::Watch);
    agent.attempt(scene.operation, &scene.request).expect("an answer").succeeded();
    agent.close_stdin();
    agent.wait(PATIENCE).expect("an end");
    agent.tracee().changes().into_iter().filter(|change| change.path.is_absolute()).collect()
}

/// The number of the first change that is of another copy than the first.
fn first_change_of_the_second_copy(scene: &Scene) -> usize {
    let store = scene.world.sandbox.path("store");
    let changes = counted_changes(scene);
    let is_name = |change: &Change| {
        matches!(change.call, "rename" | "link") && change.path.starts_with(store.join("objects"))
    };
    let first = changes.iter().position(is_name).expect("a copy");
    let is_staged = |change: &Change| change.call == "create" && change.path.starts_with(store.join("tmp"));
    first + 1 + changes[first..].iter().position(is_staged).expect("a second copy")
}

/// Without rule R3: a disk that has not synced the first copy when it says so, and all others.
#[test]
fn without_a_durable_base_a_power_cut_takes_it_away_from_under_a_delta() {
    let scene = push_history(World::on_directory());
    let until = first_change_of_the_second_copy(&scene);
    scene.restore();
    let mut agent = FakeLfs::traced(scene.command(), Act::Lie(until));
    agent.attempt(scene.operation, &scene.request).expect("an answer").succeeded();
    let _ = agent.try_send_raw(b"{\"event\":\"terminate\"}\n");
    agent.wait(PATIENCE).expect("an end");
    Unsynced::after(&agent.tracee().changes(), &scene.world.sandbox.path("store")).lose_names();
    let keys = scene.objects.iter().map(|object| scene.world.keys(&object.folder()).len());
    assert_eq!(keys.collect::<Vec<_>>(), [0, 1, 1]);
    let mut cold = scene.world.start("cold", "download");
    assert_eq!(fetch(&mut cold, scene.object()), Err(5004), "acknowledged, and damaged");
    cold.terminate();
}

/// A process makes a folder and stops; another one publishes in it, and says so.
#[test]
fn a_folder_that_somebody_else_made_is_durable_when_a_copy_in_it_is() {
    let scene = push_full(World::on_directory(), text(62, 20_000));
    let store = scene.world.sandbox.path("store");
    let objects = store.join("objects");
    let is_folder =
        |change: &Change| change.worked && change.call == "mkdir" && change.path.starts_with(&objects);
    let changes = counted_changes(&scene);
    let folders: Vec<usize> =
        (1..).zip(&changes).filter(|(_, change)| is_folder(change)).map(|(number, _)| number).collect();
    assert_eq!(folders.len(), 3, "objects, shard and object: {changes:?}");
    for number in folders {
        scene.restore();
        let mut all = stop_at_change(&scene, number + 1).expect("a change after it");
        let mut command = scene.command();
        command.env("LFS_DELTA_CACHE_DIR", scene.world.sandbox.path("cache-other"));
        let mut other = FakeLfs::traced(command, Act::Watch);
        other.attempt(scene.operation, &scene.request).expect("an answer").succeeded();
        let _ = other.try_send_raw(b"{\"event\":\"terminate\"}\n");
        other.wait(PATIENCE).expect("an end");
        all.extend(other.tracee().changes());
        Unsynced::after(&all, &store).lose_names();
        let mut cold = scene.world.start("cold", "download");
        fetch(&mut cold, scene.object()).expect("what was acknowledged");
        cold.terminate();
    }
}
