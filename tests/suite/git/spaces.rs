//! What an object is stored against where its path has no earlier version: relatives by name, by what its commit
//! removed, by hints in the store. And that history leads where there is one, however it was written.

use std::path::Path;

use crate::git::world::{STORE, World};
use crate::support::data::{edited, noise, oid};

on_both_stores! {
    a_renamed_and_edited_file_is_a_delta,
    an_edited_copy_is_a_delta,
    the_next_version_in_a_new_file_is_a_delta,
    an_attribute_joins_files_of_other_names,
    strangers_of_one_space_are_stored_whole,
    an_attribute_says_what_a_cold_read_may_cost,
    two_branches_that_edit_one_file_are_deltas,
    a_cherry_picked_edit_is_a_delta,
    a_rewritten_history_is_deltas,
    a_new_path_in_a_shallow_clone_is_a_delta,
    a_repository_without_a_common_history_is_led_by_a_hint,
    an_object_in_no_commit_is_led_by_a_sketch,
    history_leaves_no_hints,
    a_folder_of_frames_is_mostly_deltas,
}

const SIZE: usize = 60_000;

/// Large enough for hints.
const LARGE: usize = 1_100_000;

/// Fails the test unless the last object of `repo` is a small delta, and a teammate gets it.
#[track_caller]
fn assert_delta(world: &mut World, file: &str, bytes: &[u8]) {
    let (key, copy) = world.copy_of(&oid(bytes));
    assert!(key.contains("/delta."), "stored whole: {key}");
    assert!(copy.len() < bytes.len() / 10, "{} of {} bytes", copy.len(), bytes.len());
    world.move_to_teammate();
    world.clone_repo("clone");
    world.assert_file(Path::new("clone").join(file), bytes);
}

pub fn a_renamed_and_edited_file_is_a_delta(world: &mut World) {
    world.repo("repo");
    let first = noise(1, SIZE);
    world.commit_and_push("repo", "art/hero.bin", &first);
    world.commit_and_push("repo", "art/stranger.bin", &noise(2, SIZE));
    let second = edited(&first, 3, 4);
    world.git("repo", &["mv", "art/hero.bin", "villain.bin"]);
    world.commit_and_push("repo", "villain.bin", &second);
    assert_delta(world, "villain.bin", &second);
}

pub fn an_edited_copy_is_a_delta(world: &mut World) {
    world.repo("repo");
    let first = noise(1, SIZE);
    world.commit_and_push("repo", "art/hero.bin", &first);
    for seed in 2..5 {
        world.commit_and_push("repo", &format!("art/other{seed}x.bin"), &noise(seed, SIZE));
    }
    let second = edited(&first, 9, 4);
    world.commit_and_push("repo", "art/copy.bin", &second);
    assert_delta(world, "art/copy.bin", &second);
}

pub fn the_next_version_in_a_new_file_is_a_delta(world: &mut World) {
    world.repo("repo");
    let first = noise(1, SIZE);
    world.commit_and_push("repo", "releases/1.9/app.bin", &first);
    let second = edited(&first, 2, 4);
    world.commit_and_push("repo", "releases/1.10/app.bin", &second);
    assert_delta(world, "releases/1.10/app.bin", &second);
}

pub fn an_attribute_joins_files_of_other_names(world: &mut World) {
    world.repo("repo");
    world.write("repo/.gitattributes", "*.bin filter=lfs diff=lfs merge=lfs -text deltaspace=all\n");
    world.git("repo", &["add", ".gitattributes"]);
    let first = noise(1, SIZE);
    world.commit_and_push("repo", "one/a.bin", &first);
    let second = edited(&first, 2, 4);
    world.commit_and_push("repo", "two/b.bin", &second);
    assert_delta(world, "two/b.bin", &second);
}

pub fn an_attribute_says_what_a_cold_read_may_cost(world: &mut World) {
    world.repo("repo");
    let attributes = "*.bin filter=lfs diff=lfs merge=lfs -text\nfrequent* deltaspace-cold=1.06\n";
    world.write("repo/.gitattributes", attributes);
    world.git("repo", &["add", ".gitattributes"]);
    for (file, wanted) in [("often.bin", 1..2), ("frequent.bin", 2..5)] {
        // Each version adds three to four hundredths of the object.
        let grow = |before: &Vec<u8>| Some(edited(before, before.len() as u64, 60));
        let all = std::iter::successors(Some(noise(file.len() as u64, SIZE)), grow);
        let oids: Vec<_> = all.take(5).map(|bytes| world.commit_and_push("repo", file, &bytes)).collect();
        let whole = oids.iter().filter(|oid| world.copy_of(oid).0.contains("/full.")).count();
        assert!(wanted.contains(&whole), "{file}: {whole} of 5 are whole");
    }
}

pub fn strangers_of_one_space_are_stored_whole(world: &mut World) {
    world.repo("repo");
    for seed in 1..4 {
        world.commit_and_push("repo", &format!("shot_{seed}.bin"), &noise(seed, SIZE + seed as usize));
    }
    assert_eq!(world.shapes(), (3, 0));
}

pub fn two_branches_that_edit_one_file_are_deltas(world: &mut World) {
    world.repo("repo");
    let first = noise(1, SIZE);
    world.commit_and_push("repo", "a.bin", &first);
    for (branch, seed) in [("left", 2), ("right", 3)] {
        world.git("repo", &["checkout", "--quiet", "-b", branch, "main"]);
        world.commit_file("repo", "a.bin", &edited(&first, seed, 4));
        world.commit_file("repo", "a.bin", &edited(&edited(&first, seed, 4), seed + 10, 4));
    }
    world.git("repo", &["push", "--quiet", "origin", "left", "right"]);
    assert_eq!(world.shapes(), (1, 4));
}

pub fn a_cherry_picked_edit_is_a_delta(world: &mut World) {
    world.repo("repo");
    let first = noise(1, SIZE);
    world.commit_and_push("repo", "a.bin", &first);
    world.git("repo", &["checkout", "--quiet", "-b", "side"]);
    let second = edited(&first, 2, 4);
    world.commit_file("repo", "a.bin", &second);
    world.git("repo", &["checkout", "--quiet", "main"]);
    world.commit_file("repo", "b.bin", b"something else");
    world.git("repo", &["cherry-pick", "side"]);
    world.git("repo", &["push", "--quiet"]);
    assert_eq!(world.shapes(), (2, 1));
    assert_delta(world, "a.bin", &second);
}

pub fn a_rewritten_history_is_deltas(world: &mut World) {
    world.repo("repo");
    let first = noise(1, SIZE);
    world.commit_and_push("repo", "a.bin", &first);
    let second = edited(&first, 2, 4);
    world.commit_and_push("repo", "a.bin", &second);
    // Other commits with the same pointers, and one more edit on top.
    world.git("repo", &["commit", "--quiet", "--amend", "--message", "Said otherwise"]);
    let third = edited(&second, 3, 4);
    world.commit_file("repo", "a.bin", &third);
    world.git("repo", &["push", "--quiet", "--force"]);
    assert_eq!(world.shapes(), (1, 2));
    assert_delta(world, "a.bin", &third);
}

pub fn a_new_path_in_a_shallow_clone_is_a_delta(world: &mut World) {
    world.repo("repo");
    let first = noise(1, SIZE);
    world.commit_and_push("repo", "app_v1.bin", &first);
    world.commit_and_push("repo", "note.bin", b"the end of the shallow clone");
    world.move_to_teammate();
    world.clone_with("shallow", &["--depth=1"]);
    let second = edited(&first, 2, 4);
    world.commit_and_push("shallow", "app_v2.bin", &second);
    assert_delta(world, "app_v2.bin", &second);
}

pub fn a_repository_without_a_common_history_is_led_by_a_hint(world: &mut World) {
    // A publisher that begins anew each time: its commits have no parents.
    let first = noise(1, LARGE);
    let second = edited(&first, 2, 4);
    world.repo("repo");
    for (branch, bytes) in [("one", &first), ("two", &second)] {
        world.git("repo", &["checkout", "--quiet", "--orphan", branch]);
        world.commit_file("repo", "site/app.bin", bytes);
        world.git("repo", &["push", "--quiet", "origin", branch]);
        // What follows is another machine, on which nothing else is known.
        world.move_to_teammate();
        world.git("repo", &["checkout", "--quiet", "main"]);
        world.git("repo", &["branch", "--quiet", "-D", branch]);
        world.git("repo", &["branch", "--quiet", "--remotes", "-D", &format!("origin/{branch}")]);
        world.git("repo", &["reflog", "expire", "--expire=now", "--all"]);
    }
    let (key, copy) = world.copy_of(&oid(&second));
    assert!(key.contains("/delta.") && copy.len() < LARGE / 10, "{key} of {} bytes", copy.len());
    assert_eq!(world.hints().len(), 2, "{:?}", world.hints());
}

pub fn an_object_in_no_commit_is_led_by_a_sketch(world: &mut World) {
    world.repo("repo");
    let first = noise(1, LARGE);
    let second = edited(&first, 2, 4);
    for bytes in [&first, &noise(7, LARGE - 1), &second] {
        let path = world.lfs_object_path("repo", &oid(bytes));
        world.write(path, bytes);
        world.git("repo", &["lfs", "push", "--object-id", "origin", &oid(bytes)]);
        world.move_to_teammate();
    }
    assert_eq!(world.shapes(), (2, 1));
    let (key, copy) = world.copy_of(&oid(&second));
    assert!(key.contains(&format!("/delta.{}", oid(&first))) && copy.len() < LARGE / 10, "{key}");
}

pub fn history_leaves_no_hints(world: &mut World) {
    world.repo("repo");
    let first = noise(1, LARGE);
    world.commit_and_push("repo", "a.bin", &first);
    world.commit_and_push("repo", "a.bin", &edited(&first, 2, 4));
    world.commit_and_push("repo", "b.bin", &noise(3, LARGE));
    assert_eq!(world.hints(), [] as [String; 0]);
}

pub fn a_folder_of_frames_is_mostly_deltas(world: &mut World) {
    world.repo("repo");
    let scene = noise(1, SIZE);
    let frame = |number: usize| edited(&scene, 100 + number as u64, 3);
    for number in 1..=40 {
        world.write(format!("repo/shot/frame_{number}.bin"), frame(number));
    }
    world.git("repo", &["add", "."]);
    world.git("repo", &["commit", "--quiet", "--message", "Frames"]);
    world.git("repo", &["push", "--quiet"]);
    let (whole, deltas) = world.shapes();
    assert_eq!(whole + deltas, 40);
    // As many as there are agents may begin before there is anything to build on.
    assert!(whole <= 8, "{whole} of 40 frames are stored whole");
    world.move_to_teammate();
    world.clone_repo("clone");
    for number in 1..=40 {
        world.assert_file(format!("clone/shot/frame_{number}.bin"), &frame(number));
    }
    // Much later, on another machine: one more.
    let next = frame(41);
    world.commit_and_push("clone", "shot/frame_41.bin", &next);
    let (key, _) = world.copy_of(&oid(&next));
    assert!(key.contains("/delta."), "{key} in {STORE}");
}
