//! What a history of versions costs in the store, and that the cache costs nothing but time.

use std::fs;

use crate::git::world::{STORE, World};
use crate::support::data::{edited, noise, versions};
use crate::support::mounts::with_read_only;
use crate::support::run::run;
use crate::support::s3::Kind;

on_both_stores! {
    five_versions_pushed_one_by_one_are_one_whole_copy_and_four_deltas,
    five_versions_pushed_at_once_are_one_whole_copy_and_four_deltas,
    a_whole_history_is_fetched_once,
    a_history_pushed_at_once_takes_what_daily_pushes_take,
    a_renamed_file_is_not_stored_again,
    a_renamed_and_edited_file_can_be_cloned,
    a_file_that_returns_to_an_older_version_is_not_stored_again,
    a_merge_of_two_edits_is_stored_as_deltas,
    a_cache_deleted_between_pushes_costs_no_bytes,
    a_cache_that_cannot_be_made_costs_no_bytes,
    a_read_only_cache_costs_no_bytes,
    a_cache_folder_that_is_a_link_is_not_used,
}

/// Versions of one file, four edits apart.
fn five() -> Vec<Vec<u8>> {
    versions(1, 100_000, 5)
}

/// Fails the test unless the five versions take little more than one, and all can be had from the store.
fn assert_five_are_one_and_four(world: &mut World) {
    assert_eq!(world.shapes(), (1, 4));
    let stored: usize = world.copies().values().map(Vec::len).sum();
    assert!(stored < 110_000, "{stored} bytes for five versions of 100,000");
    world.move_to_teammate();
    world.clone_repo("clone");
    world.assert_versions("clone", "a.bin", &five());
}

pub fn five_versions_pushed_one_by_one_are_one_whole_copy_and_four_deltas(world: &mut World) {
    world.repo("repo");
    for version in five() {
        world.commit_and_push("repo", "a.bin", &version);
    }
    assert_five_are_one_and_four(world);
}

pub fn five_versions_pushed_at_once_are_one_whole_copy_and_four_deltas(world: &mut World) {
    world.repo("repo");
    for version in five() {
        world.commit_file("repo", "a.bin", &version);
    }
    world.git("repo", &["push", "--quiet"]);
    assert_five_are_one_and_four(world);
}

pub fn a_whole_history_is_fetched_once(world: &mut World) {
    world.repo("repo");
    let all = versions(3, 900_000, 30);
    for version in &all {
        world.commit_file("repo", "a.bin", version);
    }
    world.git("repo", &["push", "--quiet"]);
    let stored: usize = world.copies().values().map(Vec::len).sum();
    world.move_to_teammate();
    world.clone_pointers("clone");
    world.s3().map(|server| server.take_calls());
    world.git("clone", &["lfs", "fetch", "--all"]);
    for version in &all {
        world.assert_has_object("clone", version);
    }
    if let Some(server) = world.s3() {
        let gets = server.take_calls().of(Kind::Get);
        println!("{} requests for 30 copies, {} of {stored} bytes", gets.len(), gets.bytes_out());
        assert!(gets.bytes_out() * 100 <= stored as u64 * 105, "{} of {stored} bytes", gets.bytes_out());
    }
}

pub fn a_history_pushed_at_once_takes_what_daily_pushes_take(world: &mut World) {
    let files: Vec<_> = (0..4).map(|file| versions(20 + file, 60_000, 8)).collect();
    let mut stored = Vec::new();
    for (repo, store, daily) in [("repo", STORE, true), ("other", "store-at-once", false)] {
        world.init_repo(repo);
        world.lfs_delta(repo, &["init", &world.store_url(store)]);
        world.track(repo, "*.bin");
        world.git(repo, &["add", ".lfsconfig"]);
        world.git(repo, &["commit", "--quiet", "--message", "Use lfs-delta"]);
        world.git(repo, &["push", "--quiet", "--set-upstream", "origin", "main"]);
        for number in 0..8 {
            for (file, all) in files.iter().enumerate() {
                world.write(format!("{repo}/{file}x.bin"), &all[number]);
            }
            world.git(repo, &["add", "."]);
            world.git(repo, &["commit", "--quiet", "--message", "Next"]);
            if daily {
                world.git(repo, &["push", "--quiet"]);
            }
        }
        world.git(repo, &["push", "--quiet"]);
        let copies = world.copies_in(store);
        assert_eq!(copies.len(), 32);
        stored.push(copies.values().map(Vec::len).sum::<usize>());
    }
    println!("{} bytes daily, {} at once", stored[0], stored[1]);
    assert!(stored[1] * 100 <= stored[0] * 105, "{stored:?}");
}

pub fn a_renamed_file_is_not_stored_again(world: &mut World) {
    world.repo("repo");
    let bytes = noise(1, 50_000);
    world.commit_and_push("repo", "a.bin", &bytes);
    let before = world.copies();
    world.git("repo", &["mv", "a.bin", "b.bin"]);
    world.git("repo", &["commit", "--quiet", "--message", "Rename"]);
    world.git("repo", &["push", "--quiet"]);
    assert_eq!(world.copies(), before);
    world.move_to_teammate();
    world.clone_repo("clone");
    world.assert_file("clone/b.bin", &bytes);
}

pub fn a_renamed_and_edited_file_can_be_cloned(world: &mut World) {
    world.repo("repo");
    let bytes = noise(1, 50_000);
    world.commit_and_push("repo", "a.bin", &bytes);
    let next = edited(&bytes, 2, 3);
    world.git("repo", &["mv", "a.bin", "b.bin"]);
    world.commit_file("repo", "b.bin", &next);
    world.commit_and_push("repo", "b.bin", &edited(&next, 3, 3));
    world.move_to_teammate();
    world.clone_repo("clone");
    world.assert_versions("clone", "b.bin", &[next.clone(), edited(&next, 3, 3)]);
}

pub fn a_file_that_returns_to_an_older_version_is_not_stored_again(world: &mut World) {
    world.repo("repo");
    let (first, second) = (noise(1, 50_000), edited(&noise(1, 50_000), 2, 3));
    for version in [&first, &second, &first] {
        world.commit_file("repo", "a.bin", version);
    }
    world.git("repo", &["push", "--quiet"]);
    assert_eq!(world.shapes(), (1, 1));
    let before = world.copies();
    world.commit_and_push("repo", "a.bin", &second);
    world.commit_and_push("repo", "a.bin", &first);
    assert_eq!(world.copies(), before);
    world.move_to_teammate();
    world.clone_repo("clone");
    world.assert_versions("clone", "a.bin", &[first.clone(), second.clone(), first.clone(), second, first]);
}

pub fn a_merge_of_two_edits_is_stored_as_deltas(world: &mut World) {
    world.repo("repo");
    let base = noise(1, 50_000);
    let (left, right, both) = (edited(&base, 2, 3), edited(&base, 3, 3), edited(&base, 4, 3));
    world.commit_file("repo", "a.bin", &base);
    world.git("repo", &["checkout", "--quiet", "-b", "side"]);
    world.commit_file("repo", "a.bin", &right);
    world.git("repo", &["checkout", "--quiet", "main"]);
    world.commit_file("repo", "a.bin", &left);
    world.git_fails("repo", &["merge", "--quiet", "side"]);
    world.write("repo/a.bin", &both);
    world.git("repo", &["commit", "--quiet", "--all", "--message", "Merge"]);
    world.git("repo", &["push", "--quiet", "origin", "main", "side"]);
    assert_eq!(world.shapes(), (1, 3));
    world.move_to_teammate();
    world.clone_repo("clone");
    for (commit, bytes) in [("main", &both), ("main^1", &left), ("main^2", &right), ("main~2", &base)] {
        world.git("clone", &["checkout", "--quiet", commit]);
        world.assert_file("clone/a.bin", bytes);
    }
}

pub fn a_cache_deleted_between_pushes_costs_no_bytes(world: &mut World) {
    world.repo("repo");
    for version in five() {
        world.commit_and_push("repo", "a.bin", &version);
        fs::remove_dir_all(world.cache()).expect("a cache");
    }
    assert_five_are_one_and_four(world);
}

pub fn a_cache_that_cannot_be_made_costs_no_bytes(world: &mut World) {
    let file = world.write("no-folder", "");
    world.set("XDG_CACHE_HOME", file);
    world.repo("repo");
    for version in five() {
        world.commit_and_push("repo", "a.bin", &version);
    }
    assert_five_are_one_and_four(world);
}

pub fn a_read_only_cache_costs_no_bytes(world: &mut World) {
    world.repo("repo");
    let cache = world.cache();
    fs::create_dir_all(&cache).expect("a cache");
    for version in five() {
        world.commit_file("repo", "a.bin", &version);
        let mut push = world.command("git", "repo");
        push.args(["push", "--quiet"]);
        run(with_read_only(push, &cache)).succeeded();
    }
    assert_five_are_one_and_four(world);
}

/// Whoever may put a link there could make this program write anywhere, and read what it did not write.
pub fn a_cache_folder_that_is_a_link_is_not_used(world: &mut World) {
    let foreign = world.path("foreign");
    fs::create_dir(&foreign).expect("a folder");
    fs::create_dir_all(world.cache().parent().expect("a folder")).expect("a folder");
    if world.cache().exists() {
        fs::remove_dir_all(world.cache()).expect("a cache");
    }
    std::os::unix::fs::symlink(&foreign, world.cache()).expect("a link");
    world.repo("repo");
    for version in five() {
        world.commit_and_push("repo", "a.bin", &version);
    }
    let written = crate::support::sandbox::files_below(&foreign);
    assert!(written.is_empty(), "{:?}", written.keys());
    assert_five_are_one_and_four(world);
}
