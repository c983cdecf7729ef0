//! What a history of versions costs in the store, and that the cache costs nothing but time.

use std::collections::BTreeMap;
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
    a_history_pushed_at_once_is_chained_as_by_daily_pushes,
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
    let all = versions(3, 300_000, 30);
    for version in &all {
        world.commit_file("repo", "a.bin", version);
    }
    world.git("repo", &["push", "--quiet"]);
    world.move_to_teammate();
    world.clone_pointers("clone");
    world.set("LFS_DELTA_LOG", "debug");
    world.s3().map(|server| server.take_calls());
    world.git("clone", &["lfs", "fetch", "--all"]);
    for version in &all {
        world.assert_has_object("clone", version);
    }
    if let Some(server) = world.s3() {
        let mut fetched = BTreeMap::new();
        for call in server.take_calls().of(Kind::Get).iter().filter(|call| call.key.contains("/objects/")) {
            *fetched.entry(call.key.clone()).or_insert(0) += 1;
        }
        // Eight processes, by size: in no order of history.
        assert_eq!(fetched.len(), 30);
        assert!(fetched.values().all(|&count| count == 1), "fetched more than once: {fetched:#?}");
    }
    let mut decoded = BTreeMap::new();
    for log in world.logs() {
        for line in log.lines().filter(|line| line.contains("decoding")) {
            *decoded.entry(line.split("copy=").nth(1).expect("a copy").to_owned()).or_insert(0) += 1;
        }
    }
    let deltas = decoded.iter().filter(|(copy, _)| copy.contains("/delta."));
    assert_eq!(deltas.clone().count(), 29);
    // Once in passing, once to make its object.
    assert!(deltas.clone().all(|(_, &count)| count <= 2), "decoded too often: {decoded:#?}");
}

/// How many commits `a_history_pushed_at_once…` makes over how many files; more take minutes.
const COMMITS: usize = if cfg!(feature = "soak") { 40 } else { 12 };
const FILES: usize = 6;

/// The versions of some files on two branches that part at a third of the commits: which branch each commit is on,
/// which file it changes, and to what.
fn two_branches() -> Vec<(&'static str, String, Vec<u8>)> {
    let mut now: BTreeMap<(&str, usize), Vec<u8>> = BTreeMap::new();
    let mut commits = Vec::new();
    for number in 0..COMMITS * 3 {
        // Three changes make a commit.
        let is_side = number / 3 > COMMITS / 3 && number / 3 % 2 == 0;
        let (branch, file) = (if is_side { "side" } else { "main" }, number % FILES);
        if number / 3 == COMMITS / 3 {
            (0..FILES).for_each(|file| drop(now.insert(("side", file), now[&("main", file)].clone())));
        }
        let next = match now.get(&(branch, file)) {
            Some(before) => edited(before, number as u64, 3),
            None => noise(20 + file as u64, 60_000),
        };
        now.insert((branch, file), next.clone());
        commits.push((branch, format!("{file}x.bin"), next));
    }
    commits
}

/// Commits all of it, pushes each commit if it is to be, and then all branches at once.
fn push_two_branches(world: &World, repo: &str, store: &str, daily: bool) {
    world.init_repo(repo);
    world.lfs_delta(repo, &["init", &world.store_url(store)]);
    world.track(repo, "*.bin");
    world.git(repo, &["add", ".lfsconfig"]);
    world.git(repo, &["commit", "--quiet", "--message", "Use lfs-delta"]);
    for (number, changes) in two_branches().chunks(3).enumerate() {
        if number == COMMITS / 3 + 1 {
            world.git(repo, &["branch", "side"]);
        }
        world.git(repo, &["checkout", "--quiet", changes[0].0]);
        for (_, file, bytes) in changes {
            world.write(format!("{repo}/{file}"), bytes);
        }
        world.git(repo, &["add", "."]);
        world.git(repo, &["commit", "--quiet", "--message", "Next"]);
        if daily {
            world.git(repo, &["push", "--quiet", "origin", changes[0].0]);
        }
    }
    world.git(repo, &["push", "--quiet", "--all", "origin"]);
}

/// What each object of a store is a delta on; `None` for those that are whole.
fn bases(world: &World, store: &str) -> BTreeMap<String, Option<String>> {
    let base = |key: &String| {
        let (folder, name) = key.rsplit_once('/').expect("a folder");
        let base = name.strip_prefix("delta.").map(|rest| rest[..64].to_owned());
        (folder[folder.len() - 64..].to_owned(), base)
    };
    world.copies_in(store).keys().map(base).collect()
}

pub fn a_history_pushed_at_once_is_chained_as_by_daily_pushes(world: &mut World) {
    push_two_branches(world, "repo", STORE, true);
    push_two_branches(world, "other", "store-at-once", false);
    let [daily, once] = [STORE, "store-at-once"].map(|store| bases(world, store));
    assert_eq!(daily.len(), COMMITS * 3);
    assert_eq!(daily.values().filter(|base| base.is_none()).count(), FILES);
    assert_eq!(daily, once, "not on the same versions");
    let [daily, once] =
        [STORE, "store-at-once"].map(|store| world.copies_in(store).values().map(Vec::len).sum::<usize>());
    println!("{daily} bytes daily, {once} at once");
    assert!(once * 100 <= daily * 105, "{once} bytes at once, {daily} daily");
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
