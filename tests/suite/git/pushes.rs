//! Every way to send objects, and pushes that are interrupted.

use std::time::Duration;

use crate::git::processes;
use crate::git::world::World;
use crate::support::data::noise;
use crate::support::run::{Running, signal, wait_until};

on_both_stores! {
    push_all_sends_what_a_push_without_hooks_left_behind,
    push_object_id_sends_one_object,
    two_branches_are_pushed_at_once,
    two_batches_of_objects_are_pushed_and_cloned,
    a_second_push_of_the_same_objects_stores_nothing,
    a_push_killed_in_the_middle_is_completed_by_the_next,
    a_push_interrupted_in_the_middle_leaves_no_files_and_is_completed_by_the_next,
    a_push_to_a_url_without_a_remote_works,
}

pub fn push_all_sends_what_a_push_without_hooks_left_behind(world: &mut World) {
    world.repo("repo");
    let (first, second) = (noise(1, 30_000), noise(2, 30_000));
    world.commit_file("repo", "a.bin", &first);
    world.git("repo", &["push", "--quiet", "--no-verify"]);
    world.git("repo", &["checkout", "--quiet", "-b", "side"]);
    world.commit_file("repo", "a.bin", &second);
    world.git("repo", &["push", "--quiet", "--no-verify", "origin", "side"]);
    assert_eq!(world.copies().len(), 0);
    world.git("repo", &["lfs", "push", "--all", "origin"]);
    assert_eq!(world.copies().len(), 2);
    world.move_to_teammate();
    world.clone_repo("clone");
    world.assert_file("clone/a.bin", &first);
    world.git("clone", &["checkout", "--quiet", "side"]);
    world.assert_file("clone/a.bin", &second);
}

pub fn push_object_id_sends_one_object(world: &mut World) {
    world.repo("repo");
    let first = world.commit_file("repo", "a.bin", &noise(1, 30_000));
    world.commit_file("repo", "b.bin", &noise(2, 30_000));
    world.git("repo", &["lfs", "push", "--object-id", "origin", &first]);
    let (key, bytes) = world.copy_of(&first);
    assert_eq!((world.copies().len(), bytes), (1, noise(1, 30_000)), "{key}");
}

pub fn two_branches_are_pushed_at_once(world: &mut World) {
    world.repo("repo");
    let shared = noise(1, 20_000);
    world.commit_file("repo", "shared.bin", &shared);
    for (branch, seed) in [("left", 2), ("right", 3)] {
        world.git("repo", &["checkout", "--quiet", "-b", branch, "main"]);
        world.commit_file("repo", "own.bin", &noise(seed, 20_000));
    }
    world.git("repo", &["push", "--quiet", "origin", "left", "right"]);
    assert_eq!(world.copies().len(), 3);
    world.move_to_teammate();
    for (branch, seed) in [("left", 2), ("right", 3)] {
        world.clone_with(branch, &["--branch", branch]);
        world.assert_file(format!("{branch}/shared.bin"), &shared);
        world.assert_file(format!("{branch}/own.bin"), &noise(seed, 20_000));
    }
}

pub fn two_batches_of_objects_are_pushed_and_cloned(world: &mut World) {
    world.repo("repo");
    for seed in 0..150 {
        world.write(format!("repo/{seed}.bin"), noise(seed, 1000 + seed as usize));
    }
    world.git("repo", &["add", "."]);
    world.git("repo", &["commit", "--quiet", "--message", "Many"]);
    world.git("repo", &["push", "--quiet"]);
    assert_eq!(world.shapes(), (150, 0));
    world.move_to_teammate();
    world.clone_repo("clone");
    for seed in 0..150 {
        world.assert_file(format!("clone/{seed}.bin"), &noise(seed, 1000 + seed as usize));
    }
}

pub fn a_second_push_of_the_same_objects_stores_nothing(world: &mut World) {
    world.repo("repo");
    world.commit_and_push("repo", "a.bin", &noise(1, 30_000));
    world.commit_and_push("repo", "b.bin", &noise(2, 300));
    let before = world.copies();
    world.git("repo", &["lfs", "push", "--all", "origin"]);
    world.move_to_teammate();
    world.git("repo", &["lfs", "push", "--all", "origin"]);
    assert_eq!(world.copies(), before);
}

/// Commits three objects and starts a push that has stored two of them and hangs at the third.
fn start_push_that_hangs(world: &World) -> (Running, Option<std::fs::File>) {
    world.repo("repo");
    world.commit_and_push("repo", "first.bin", &noise(9, 1000));
    let held = world.commit_file("repo", "a.bin", &noise(1, 50_000));
    world.commit_file("repo", "b.bin", &noise(2, 60_000));
    world.commit_file("repo", "c.bin", &noise(3, 70_000));
    let hold = world.hold_upload_of(&held);
    let push = world.start_git("repo", &["push", "--quiet"]);
    world.wait_for_held_upload(&held);
    let came = wait_until(Duration::from_secs(60), || world.copies().len() == 3);
    assert!(came, "the other objects are not stored: {:?}", world.copies().keys());
    (push, hold)
}

fn assert_push_completes(world: &mut World) {
    world.git("repo", &["push", "--quiet"]);
    assert_eq!(world.copies().len(), 4);
    world.move_to_teammate();
    world.clone_repo("clone");
    for (name, seed, size) in [("a", 1, 50_000), ("b", 2, 60_000), ("c", 3, 70_000)] {
        world.assert_file(format!("clone/{name}.bin"), &noise(seed, size));
    }
}

pub fn a_push_killed_in_the_middle_is_completed_by_the_next(world: &mut World) {
    let (push, hold) = start_push_that_hangs(world);
    let group = push.pid();
    signal("KILL", &processes::only(group, "git-lfs").to_string());
    push.finish(Duration::from_secs(30)).failed();
    processes::assert_all_end(group);
    drop(hold);
    assert_eq!(world.copies().len(), 3);
    world.assert_no_leftovers("repo");
    assert_push_completes(world);
}

pub fn a_push_interrupted_in_the_middle_leaves_no_files_and_is_completed_by_the_next(world: &mut World) {
    let (push, hold) = start_push_that_hangs(world);
    let group = push.pid();
    push.signal_group("INT");
    push.finish(Duration::from_secs(30)).failed();
    processes::assert_all_end(group);
    drop(hold);
    assert_eq!(world.copies().len(), 3);
    world.assert_no_leftovers("repo");
    assert_push_completes(world);
}

pub fn a_push_to_a_url_without_a_remote_works(world: &mut World) {
    world.repo("repo");
    let bytes = noise(1, 30_000);
    world.commit_file("repo", "a.bin", &bytes);
    world.git("repo", &["init", "--quiet", "--bare", "../other.git"]);
    let url = world.origin_url("other");
    world.git("repo", &["push", "--quiet", &url, "main"]);
    world.move_to_teammate();
    world.git("", &["clone", "--quiet", &url, "clone"]);
    world.assert_file("clone/a.bin", &bytes);
}
