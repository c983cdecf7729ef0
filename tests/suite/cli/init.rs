//! `init`: what it makes, what it writes, what it prints, and what it refuses.

use std::fs;

use crate::git::world::World;
use crate::support::s3::S3Server;
use crate::support::sandbox::{Sandbox, files_below};

fn lfsconfig(sandbox: &Sandbox, repo: &str) -> String {
    sandbox.git(repo, &["config", "--file", ".lfsconfig", "lfs.url"]).stdout()
}

#[test]
fn a_directory_becomes_a_store_that_the_repository_names() {
    let sandbox = Sandbox::new();
    sandbox.init_repo("repo");
    let store = sandbox.path("some where/store");
    let said = sandbox.lfs_delta("repo", &["init", &store.display().to_string()]).stdout();
    let url = format!("file://{}", store.display().to_string().replace(' ', "%20"));
    assert_eq!(lfsconfig(&sandbox, "repo"), format!("lfs-delta::{url}"));
    assert!(store.join("lfs-delta.json").is_file());
    for part in [&url, "(new)", "git add .lfsconfig && git commit", "git lfs push --all", "lfs-delta install"]
    {
        assert!(said.contains(part), "no {part:?} in {said}");
    }
    assert!(sandbox.path("repo/.git/hooks/pre-push").is_file(), "without the hook no object is pushed");
}

#[test]
fn a_directory_may_be_relative_to_the_top_of_the_repository() {
    let sandbox = Sandbox::new();
    sandbox.init_repo("repo");
    fs::create_dir_all(sandbox.path("repo/deep/folder")).expect("folders");
    sandbox.lfs_delta("repo/deep/folder", &["init", "../store"]);
    let url =
        format!("lfs-delta::file://{}", sandbox.path("store").canonicalize().expect("a store").display());
    assert_eq!(lfsconfig(&sandbox, "repo"), url);
    assert!(!sandbox.path("repo/deep/folder/.lfsconfig").exists());
}

#[test]
fn a_bucket_becomes_a_store_that_the_repository_names() {
    let world = World::on_s3();
    world.init_repo("repo");
    let said = world.lfs_delta("repo", &["init", &world.store_url("team/game")]).stdout();
    let url = lfsconfig(&world, "repo");
    assert!(
        url.starts_with("lfs-delta::s3://lfs-test/team/game?region=us-east-1&endpoint=http://127.0.0.1:"),
        "{url}"
    );
    for part in ["127.0.0.1 is trusted", "lfs-delta install --trust 127.0.0.1", "(new)"] {
        assert!(said.contains(part), "no {part:?} in {said}");
    }
    assert_eq!(world.git("", &["config", "--global", "lfs-delta.trust"]).stdout(), "127.0.0.1");
}

#[test]
fn init_reads_writes_and_lists_and_names_the_store_last() {
    let server = S3Server::start();
    let mut sandbox = Sandbox::new();
    sandbox.use_s3(&server.endpoint).init_repo("repo");
    sandbox.lfs_delta("repo", &["init", &server.endpoint.store_url("game")]);
    let calls = server.calls();
    let written: Vec<_> =
        calls.iter().filter(|call| call.verb == "PUT").map(|call| call.key.as_str()).collect();
    assert!(written.len() == 2 && written[0].starts_with("game/probe/"), "{calls}");
    assert_eq!(written[1], "game/lfs-delta.json");
    assert!(server.get_raw("game/lfs-delta.json").expect("a manifest").starts_with(b"{"));
}

#[test]
fn a_second_init_changes_nothing() {
    let sandbox = Sandbox::new();
    sandbox.init_repo("repo");
    let store = sandbox.path("store").display().to_string();
    sandbox.lfs_delta("repo", &["init", &store]);
    let before = fs::read(sandbox.path("repo/.lfsconfig")).expect("a setting");
    let manifest = fs::read(sandbox.path("store/lfs-delta.json")).expect("a manifest");
    let said = sandbox.lfs_delta("repo", &["init", &store]).stdout();
    assert!(said.contains("it was there already"), "{said}");
    assert_eq!(fs::read(sandbox.path("repo/.lfsconfig")).expect("a setting"), before);
    assert_eq!(fs::read(sandbox.path("store/lfs-delta.json")).expect("a manifest"), manifest);
}

#[test]
fn two_repositories_may_share_a_store() {
    let mut world = World::on_s3();
    world.install();
    for name in ["one", "two"] {
        world.repo(name);
        world.commit_and_push(name, "same.bin", &[7; 5000]);
    }
    assert_eq!(world.copies().len(), 1, "one object, stored once");
    world.move_to_teammate();
    world.git("", &["clone", "--quiet", &world.origin_url("two"), "clone"]);
    world.assert_file("clone/same.bin", &[7; 5000]);
}

#[test]
fn other_lines_of_lfsconfig_stay() {
    let sandbox = Sandbox::new();
    sandbox.init_repo("repo");
    sandbox.write("repo/.lfsconfig", "# ours\n[lfs]\n\tfetchexclude = big/*\n");
    sandbox.lfs_delta("repo", &["init", "../store"]);
    let text = fs::read_to_string(sandbox.path("repo/.lfsconfig")).expect("a setting");
    assert!(text.starts_with("# ours\n[lfs]\n\tfetchexclude = big/*\n"), "{text}");
    assert_eq!(text.lines().count(), 4, "{text}");
}

#[test]
fn a_repository_with_another_store_is_not_redirected() {
    let sandbox = Sandbox::new();
    sandbox.init_repo("repo");
    sandbox.write("repo/.lfsconfig", "[lfs]\n\turl = https://example.invalid/lfs\n");
    let refused = sandbox.lfs_delta_fails("repo", &["init", "../store"]);
    refused.says("https://example.invalid/lfs").says(".lfsconfig").says("git lfs push --all");
    assert_eq!(lfsconfig(&sandbox, "repo"), "https://example.invalid/lfs");
    fs::remove_file(sandbox.path("repo/.lfsconfig")).expect("a setting");
    sandbox.git("repo", &["config", "lfs.url", "https://example.invalid/own"]);
    sandbox
        .lfs_delta_fails("repo", &["init", "../store"])
        .says("https://example.invalid/own")
        .says("git config");
    assert!(!sandbox.path("repo/.lfsconfig").exists());
    assert!(!sandbox.path("store").exists(), "nothing is made before everything is known to be right");
}

#[test]
fn a_bare_repository_is_refused() {
    let sandbox = Sandbox::new();
    sandbox.init_repo("repo");
    let before = files_below(&sandbox.path("repo.git"));
    let refused = sandbox.lfs_delta_fails("repo.git", &["init", "../store"]);
    assert_eq!(refused.code(), 2);
    refused.says("run this in a clone");
    assert_eq!(files_below(&sandbox.path("repo.git")), before);
    assert!(!sandbox.path("store").exists());
}

#[test]
fn a_place_outside_of_any_repository_is_refused() {
    let sandbox = Sandbox::new();
    let refused = sandbox.lfs_delta_fails("", &["init", "../store"]);
    assert_eq!(refused.code(), 2);
    refused.says("E1002").says("fix: run this inside of a git repository");
}

#[test]
fn a_store_that_would_go_with_the_clone_is_refused() {
    let sandbox = Sandbox::new();
    sandbox.init_repo("repo");
    sandbox.lfs_delta_fails("repo", &["init", ".git/store"]).says("lost with the clone");
    assert!(!sandbox.path("repo/.git/store").exists());
}

#[test]
fn a_store_without_a_name_or_in_the_place_of_the_work_tree_is_refused() {
    let sandbox = Sandbox::new();
    sandbox.init_repo("repo");
    for (store, says) in [("", "is empty"), (" ", "is empty"), (".", "work tree"), ("x/..", "work tree")] {
        let refused = sandbox.lfs_delta_fails("repo", &["init", store]);
        assert_eq!(refused.code(), 2, "{refused}");
        refused.says(says).says("fix: ");
    }
    assert!(!sandbox.path("repo/.lfsconfig").exists() && !sandbox.path("repo/objects").exists());
}

#[test]
fn a_url_that_is_no_store_is_refused() {
    let sandbox = Sandbox::new();
    sandbox.init_repo("repo");
    for url in [
        "https://example.invalid/x",
        "s3://",
        "s3://b",
        "s3://bucket/x?colour=red",
        "s3://bucket?endpoint=ftp://h",
    ] {
        let refused = sandbox.lfs_delta_fails("repo", &["init", url]);
        assert_eq!(refused.code(), 2, "{refused}");
        refused.says("fix: ");
    }
    assert!(!sandbox.path("repo/.lfsconfig").exists());
}
