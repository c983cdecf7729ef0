//! Wrong bytes, here and in the store: never published, never checked out, and told with what to do.

use std::fs;

use crate::git::world::World;
use crate::support::data::{noise, versions};

on_both_stores! {
    a_local_object_with_wrong_bytes_is_not_published,
    a_damaged_whole_copy_is_never_checked_out,
    a_damaged_delta_is_never_checked_out,
    a_damaged_base_is_never_used,
    a_clone_from_a_damaged_store_fails_and_leaves_no_file,
    a_damaged_copy_is_repaired_by_push_object_id,
    a_delta_on_a_damaged_base_is_repaired_by_push_object_id,
    an_object_that_was_never_pushed_is_named,
    prune_verify_remote_is_refused_and_deletes_nothing,
}

pub fn a_local_object_with_wrong_bytes_is_not_published(world: &mut World) {
    world.repo("repo");
    let oid = world.commit_file("repo", "a.bin", &noise(1, 50_000));
    let place = world.lfs_object_path("repo", &oid);
    fs::remove_file(&place).expect("an object");
    fs::write(&place, noise(2, 50_000)).expect("a damaged object");
    let before = world.git("repo.git", &["rev-parse", "main"]).stdout();
    world.git_fails("repo", &["push"]).says("E5001").says(&oid).says("git lfs fsck");
    assert_eq!(world.copies().len(), 0);
    assert_eq!(world.git("repo.git", &["rev-parse", "main"]).stdout(), before);
    world.assert_no_leftovers("repo");
}

/// Pulls twice on another machine; both must fail for this object and leave nothing.
fn assert_pulls_fail(world: &mut World, oid: &str) {
    world.move_to_teammate();
    world.clone_pointers("clone");
    for attempt in 1..=2 {
        world.git_fails("clone", &["lfs", "pull"]).says("E5004").says(oid).says("git lfs push --object-id");
        assert!(!world.lfs_object_path("clone", oid).exists(), "attempt {attempt} stored it");
        world.assert_no_leftovers("clone");
    }
}

pub fn a_damaged_whole_copy_is_never_checked_out(world: &mut World) {
    world.repo("repo");
    let oid = world.commit_and_push("repo", "a.bin", &noise(1, 50_000));
    let (key, bytes) = world.copy_of(&oid);
    world.flip_bit(&key, bytes.len() / 2);
    assert_pulls_fail(world, &oid);
}

pub fn a_damaged_delta_is_never_checked_out(world: &mut World) {
    world.repo("repo");
    let versions = versions(1, 50_000, 2);
    world.commit_and_push("repo", "a.bin", &versions[0]);
    let oid = world.commit_and_push("repo", "a.bin", &versions[1]);
    let (key, bytes) = world.copy_of(&oid);
    assert!(key.contains("/delta."), "{key}");
    world.flip_bit(&key, bytes.len() - 3);
    assert_pulls_fail(world, &oid);
}

pub fn a_damaged_base_is_never_used(world: &mut World) {
    world.repo("repo");
    let versions = versions(1, 50_000, 2);
    let base = world.commit_and_push("repo", "a.bin", &versions[0]);
    let oid = world.commit_and_push("repo", "a.bin", &versions[1]);
    let (key, bytes) = world.copy_of(&base);
    world.flip_bit(&key, bytes.len() / 2);
    assert_pulls_fail(world, &oid);
}

pub fn a_clone_from_a_damaged_store_fails_and_leaves_no_file(world: &mut World) {
    world.repo("repo");
    let oid = world.commit_and_push("repo", "a.bin", &noise(1, 50_000));
    let (key, _) = world.copy_of(&oid);
    world.flip_bit(&key, 17);
    world.move_to_teammate();
    world.git_fails("", &["clone", "--quiet", &world.origin_url("repo"), "clone"]).says("E5004");
    assert!(!world.path("clone/a.bin").exists());
    world.git_fails("clone", &["checkout", "--force", "HEAD"]).says("E5004");
    assert!(!world.path("clone/a.bin").exists());
    assert!(!world.lfs_object_path("clone", &oid).exists());
    world.assert_no_leftovers("clone");
}

/// What the error of a damaged copy tells the user to do.
pub fn a_damaged_copy_is_repaired_by_push_object_id(world: &mut World) {
    world.repo("repo");
    let bytes = noise(1, 50_000);
    let oid = world.commit_and_push("repo", "a.bin", &bytes);
    let (key, _) = world.copy_of(&oid);
    world.flip_bit(&key, 25_000);
    world.git("repo", &["lfs", "push", "--object-id", "origin", &oid]);
    world.move_to_teammate();
    world.clone_repo("clone");
    world.assert_file("clone/a.bin", &bytes);
}

pub fn a_delta_on_a_damaged_base_is_repaired_by_push_object_id(world: &mut World) {
    world.repo("repo");
    let versions = versions(1, 50_000, 2);
    let base = world.commit_and_push("repo", "a.bin", &versions[0]);
    let oid = world.commit_and_push("repo", "a.bin", &versions[1]);
    let (key, _) = world.copy_of(&base);
    world.flip_bit(&key, 25_000);
    world.git("repo", &["lfs", "push", "--object-id", "origin", &oid]);
    let repaired = world.copies();
    world.git("repo", &["lfs", "push", "--object-id", "origin", &oid]);
    assert_eq!(world.copies(), repaired, "what is right is not stored again");
    world.move_to_teammate();
    world.clone_repo("clone");
    world.assert_file("clone/a.bin", &versions[1]);
}

pub fn an_object_that_was_never_pushed_is_named(world: &mut World) {
    world.repo("repo");
    let oid = world.commit_file("repo", "a.bin", &noise(1, 50_000));
    world.git("repo", &["push", "--quiet", "--no-verify"]);
    world.move_to_teammate();
    world.clone_pointers("clone");
    world.git_fails("clone", &["lfs", "pull"]).says("E5003").says(&oid).says("git lfs push --all");
    world.assert_no_leftovers("clone");
}

pub fn prune_verify_remote_is_refused_and_deletes_nothing(world: &mut World) {
    world.repo("repo");
    let versions = versions(1, 50_000, 2);
    for version in &versions {
        world.commit_and_push("repo", "a.bin", version);
    }
    for days in ["lfs.fetchrecentrefsdays", "lfs.fetchrecentcommitsdays", "lfs.pruneoffsetdays"] {
        world.git("repo", &["config", days, "0"]);
    }
    // Without the refusal git-lfs calls everything verified. It does not pass our reason on.
    let missing = "These objects to be pruned are missing on remote";
    world.git_fails("repo", &["lfs", "prune", "--verify-remote"]).says(missing);
    world.git_fails("repo", &["-c", "lfs.pruneverifyremotealways=true", "lfs", "prune"]).says(missing);
    for version in &versions {
        world.assert_has_object("repo", version);
    }
    world.git("repo", &["lfs", "prune", "--no-verify-remote"]);
    world.git("repo", &["lfs", "fetch", "--all"]);
    world.assert_has_object("repo", &versions[0]);
}
