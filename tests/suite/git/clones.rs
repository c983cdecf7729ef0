//! Every way to get objects: clones of all kinds, worktrees, submodules, archives.

use crate::git::world::World;
use crate::support::data::{noise, versions};

on_both_stores! {
    a_plain_clone_has_every_file,
    a_worktree_has_every_file,
    a_bare_clone_fetches_all_objects,
    a_submodule_has_its_files,
    a_shallow_clone_pulls_and_pushes,
    a_clone_without_blobs_pulls_and_pushes,
    an_archive_has_the_files_not_the_pointers,
    push_and_pull_work_in_a_sub_directory,
    a_pull_fetches_what_others_pushed,
    ci_may_fetch_before_it_checks_out,
    a_clone_made_before_install_is_repaired_by_checkout,
}

pub fn a_plain_clone_has_every_file(world: &mut World) {
    world.repo("repo");
    let files = [("a.bin", noise(1, 60_000)), ("folder/b.bin", noise(2, 500)), ("empty.bin", Vec::new())];
    for (name, bytes) in &files {
        world.commit_file("repo", name, bytes);
    }
    world.git("repo", &["push", "--quiet"]);
    world.move_to_teammate();
    world.clone_repo("clone");
    for (name, bytes) in &files {
        world.assert_file(format!("clone/{name}"), bytes);
    }
    world.assert_no_leftovers("clone");
    assert_eq!(world.git("clone", &["status", "--porcelain"]).stdout(), "");
}

pub fn a_worktree_has_every_file(world: &mut World) {
    world.repo("repo");
    world.git("repo", &["checkout", "--quiet", "-b", "side"]);
    let bytes = noise(1, 30_000);
    world.commit_file("repo", "a.bin", &bytes);
    world.git("repo", &["push", "--quiet", "origin", "side"]);
    world.move_to_teammate();
    world.clone_repo("clone");
    world.git("clone", &["worktree", "add", "--quiet", "../tree", "side"]);
    world.assert_file("tree/a.bin", &bytes);
    world.assert_has_object("clone", &bytes);
    let next = noise(2, 30_000);
    world.commit_file("tree", "a.bin", &next);
    world.git("tree", &["push", "--quiet", "origin", "side"]);
    assert_eq!(world.copies().len(), 2);
}

pub fn a_bare_clone_fetches_all_objects(world: &mut World) {
    world.repo("repo");
    let versions = versions(1, 40_000, 3);
    for version in &versions {
        world.commit_and_push("repo", "a.bin", version);
    }
    world.git("repo", &["checkout", "--quiet", "-b", "side"]);
    let other = noise(2, 10_000);
    world.commit_file("repo", "b.bin", &other);
    world.git("repo", &["push", "--quiet", "origin", "side"]);
    world.move_to_teammate();
    world.clone_with("bare", &["--bare"]);
    world.git("bare", &["lfs", "fetch", "--all"]);
    for bytes in versions.iter().chain([&other]) {
        world.assert_has_object("bare", bytes);
    }
}

pub fn a_submodule_has_its_files(world: &mut World) {
    world.repo("repo");
    let bytes = noise(1, 30_000);
    world.commit_and_push("repo", "a.bin", &bytes);
    world.init_repo("outer");
    world.git("outer", &["submodule", "--quiet", "add", &world.origin_url("repo"), "inner"]);
    world.git("outer", &["commit", "--quiet", "--message", "Add a submodule"]);
    world.git("outer", &["push", "--quiet", "origin", "main"]);
    world.move_to_teammate();
    world.git("", &["clone", "--quiet", &world.origin_url("outer"), "clone"]);
    world.git("clone", &["submodule", "--quiet", "update", "--init"]);
    world.assert_file("clone/inner/a.bin", &bytes);
}

pub fn a_shallow_clone_pulls_and_pushes(world: &mut World) {
    world.repo("repo");
    let versions = versions(1, 40_000, 4);
    for version in &versions[..3] {
        world.commit_and_push("repo", "a.bin", version);
    }
    world.move_to_teammate();
    world.clone_with("clone", &["--depth", "1"]);
    world.assert_file("clone/a.bin", &versions[2]);
    world.commit_and_push("clone", "a.bin", &versions[3]);
    assert_eq!(world.shapes(), (1, 3));
    world.git("repo", &["pull", "--quiet"]);
    world.assert_file("repo/a.bin", &versions[3]);
}

pub fn a_clone_without_blobs_pulls_and_pushes(world: &mut World) {
    world.repo("repo");
    world.git("repo.git", &["config", "uploadpack.allowFilter", "true"]);
    let versions = versions(1, 40_000, 4);
    for version in &versions[..3] {
        world.commit_and_push("repo", "a.bin", version);
    }
    world.move_to_teammate();
    world.clone_with("clone", &["--filter=blob:none"]);
    world.assert_file("clone/a.bin", &versions[2]);
    world.commit_and_push("clone", "a.bin", &versions[3]);
    assert_eq!(world.shapes(), (1, 3));
    world.assert_versions("clone", "a.bin", &versions);
}

pub fn an_archive_has_the_files_not_the_pointers(world: &mut World) {
    world.repo("repo");
    let files = [("a.bin", noise(1, 30_000)), ("b.bin", noise(2, 20_000))];
    for (name, bytes) in &files {
        world.commit_file("repo", name, bytes);
    }
    world.git("repo", &["push", "--quiet"]);
    world.move_to_teammate();
    world.clone_pointers("clone");
    world.git("clone", &["archive", "--output", "../archive.tar", "HEAD"]);
    world.shell("", "mkdir unpacked && tar -xf archive.tar -C unpacked").succeeded();
    for (name, bytes) in &files {
        world.assert_file(format!("unpacked/{name}"), bytes);
    }
}

pub fn push_and_pull_work_in_a_sub_directory(world: &mut World) {
    world.repo("repo");
    let (first, second) = (noise(1, 30_000), noise(2, 30_000));
    world.commit_file("repo", "folder/deep/a.bin", &first);
    world.git("repo/folder/deep", &["push", "--quiet"]);
    world.commit_file("repo", "folder/deep/b.bin", &second);
    world.git("repo/folder", &["lfs", "push", "origin", "main"]);
    world.git("repo", &["push", "--quiet"]);
    world.move_to_teammate();
    world.clone_pointers("clone");
    world.git("clone/folder/deep", &["lfs", "fetch", "--include", "folder/deep/a.bin"]);
    world.assert_has_object("clone", &first);
    world.git("clone/folder/deep", &["lfs", "pull"]);
    world.assert_file("clone/folder/deep/a.bin", &first);
    world.assert_file("clone/folder/deep/b.bin", &second);
}

pub fn a_pull_fetches_what_others_pushed(world: &mut World) {
    world.repo("repo");
    let versions = versions(1, 60_000, 2);
    world.commit_and_push("repo", "a.bin", &versions[0]);
    world.clone_repo("clone");
    world.move_to_teammate();
    world.commit_and_push("repo", "a.bin", &versions[1]);
    world.move_to_teammate();
    world.git("clone", &["pull", "--quiet"]);
    world.assert_file("clone/a.bin", &versions[1]);
}

/// What build services do: `lfs.url` set for the user, objects fetched while there is no tree yet.
pub fn ci_may_fetch_before_it_checks_out(world: &mut World) {
    world.repo("repo");
    let bytes = noise(1, 30_000);
    world.commit_and_push("repo", "a.bin", &bytes);
    world.move_to_teammate();
    world.git("", &["config", "--global", "lfs.url", &world.lfs_url("store")]);
    world.git("", &["init", "--quiet", "build"]);
    world.git("build", &["remote", "add", "origin", &world.origin_url("repo")]);
    let reference = "+refs/heads/main:refs/remotes/origin/main";
    world.git("build", &["fetch", "--quiet", "--depth", "1", "origin", reference]);
    world.git("build", &["lfs", "fetch", "origin", "refs/remotes/origin/main"]);
    world.assert_has_object("build", &bytes);
    world.git("build", &["checkout", "--quiet", "-B", "main", "refs/remotes/origin/main"]);
    world.assert_file("build/a.bin", &bytes);
}

pub fn a_clone_made_before_install_is_repaired_by_checkout(world: &mut World) {
    world.repo("repo");
    let versions = versions(1, 30_000, 2);
    for version in &versions {
        world.commit_and_push("repo", "a.bin", version);
    }
    world.move_to_bare_machine();
    world.install_git_lfs();
    // git-lfs shows the URL, which names what is missing.
    world.git_fails("", &["clone", "--quiet", &world.origin_url("repo"), "clone"]).says("lfs-delta::");
    world.install();
    world.git("clone", &["checkout", "--quiet", "--force", "HEAD"]);
    world.assert_versions("clone", "a.bin", &versions);
}
