//! Every place where git-lfs may be told of the agent and of the store.

use crate::git::world::{STORE, World};
use crate::support::data::noise;

on_both_stores! {
    a_url_on_the_command_line_wins,
    a_push_url_is_used_for_pushes_only,
    a_url_of_one_remote_works,
    the_environment_alone_is_enough,
    options_of_clone_alone_are_enough,
    the_classic_set_up_needs_no_url,
    the_classic_set_up_ignores_the_url,
    no_ssh_is_tried_with_an_ssh_remote,
    other_repositories_are_untouched_by_install,
    an_old_clone_moves_with_the_store_by_the_recipe,
    an_old_clone_that_pulled_too_early_is_repaired_by_the_recipe,
    an_index_or_a_commit_may_hold_the_setting,
}

pub fn a_url_on_the_command_line_wins(world: &mut World) {
    world.repo("repo");
    world.make_store("other");
    let bytes = noise(1, 30_000);
    world.commit_file("repo", "a.bin", &bytes);
    let setting = format!("lfs.url={}", world.lfs_url("other"));
    world.git("repo", &["-c", &setting, "push", "--quiet"]);
    assert_eq!((world.copies().len(), world.copies_in("other").len()), (0, 1));
    world.move_to_teammate();
    world.clone_pointers("clone");
    world.git_fails("clone", &["lfs", "pull"]).says("E5003");
    world.git("clone", &["-c", &setting, "lfs", "pull"]);
    world.assert_file("clone/a.bin", &bytes);
}

pub fn a_push_url_is_used_for_pushes_only(world: &mut World) {
    world.repo("repo");
    world.make_store("other");
    world.git("repo", &["config", "lfs.pushurl", &world.lfs_url("other")]);
    let (first, second) = (noise(1, 30_000), noise(2, 30_000));
    world.commit_and_push("repo", "a.bin", &first);
    assert_eq!((world.copies().len(), world.copies_in("other").len()), (0, 1));
    world.git("repo", &["config", "--unset", "lfs.pushurl"]);
    world.commit_and_push("repo", "b.bin", &second);
    assert_eq!((world.copies().len(), world.copies_in("other").len()), (1, 1));
    world.move_to_teammate();
    world.clone_pointers("clone");
    world.git("clone", &["config", "lfs.pushurl", &world.lfs_url("other")]);
    world.git("clone", &["lfs", "pull", "--include", "b.bin"]);
    world.assert_file("clone/b.bin", &second);
    world.git_fails("clone", &["lfs", "pull"]).says("E5003");
}

pub fn a_url_of_one_remote_works(world: &mut World) {
    world.make_store(STORE);
    world.init_repo("repo");
    world.track("repo", "*.bin");
    let bytes = noise(1, 30_000);
    world.write("repo/.lfsconfig", format!("[remote \"origin\"]\n\tlfsurl = {}\n", world.lfs_url(STORE)));
    world.git("repo", &["add", ".lfsconfig"]);
    world.commit_file("repo", "a.bin", &bytes);
    world.git("repo", &["push", "--quiet", "origin", "main"]);
    assert_eq!(world.copies().len(), 1);
    world.move_to_teammate();
    world.clone_repo("clone");
    world.assert_file("clone/a.bin", &bytes);
}

/// The settings that `install` makes, as pairs.
fn settings(world: &World) -> Vec<(String, String)> {
    let mut pairs = vec![
        ("lfs.customtransfer.lfs-delta.path".to_owned(), world.agent_path().display().to_string()),
        ("lfs.customtransfer.lfs-delta.args".to_owned(), "agent".to_owned()),
        ("lfs.lfs-delta::.standalonetransferagent".to_owned(), "lfs-delta".to_owned()),
    ];
    if let Some(host) = world.trusted_host() {
        pairs.push(("lfs-delta.trust".to_owned(), host));
    }
    pairs
}

pub fn the_environment_alone_is_enough(world: &mut World) {
    world.repo("repo");
    let bytes = noise(1, 30_000);
    world.commit_and_push("repo", "a.bin", &bytes);
    world.move_to_bare_machine();
    world.install_git_lfs();
    let pairs = settings(world);
    world.set("GIT_CONFIG_COUNT", pairs.len().to_string());
    for (index, (key, value)) in pairs.iter().enumerate() {
        world.set(format!("GIT_CONFIG_KEY_{index}"), key).set(format!("GIT_CONFIG_VALUE_{index}"), value);
    }
    world.clone_repo("clone");
    world.assert_file("clone/a.bin", &bytes);
    world.commit_and_push("clone", "a.bin", &noise(2, 30_000));
    assert_eq!(world.copies().len(), 2);
}

pub fn options_of_clone_alone_are_enough(world: &mut World) {
    world.repo("repo");
    let bytes = noise(1, 30_000);
    world.commit_and_push("repo", "a.bin", &bytes);
    world.move_to_bare_machine();
    world.install_git_lfs();
    let options = settings(world)
        .into_iter()
        .flat_map(|(key, value)| ["--config".to_owned(), format!("{key}={value}")]);
    let options: Vec<String> = options.collect();
    world.clone_with("clone", &options.iter().map(String::as_str).collect::<Vec<_>>());
    world.assert_file("clone/a.bin", &bytes);
    world.commit_and_push("clone", "a.bin", &noise(2, 30_000));
    assert_eq!(world.copies().len(), 2);
}

/// Options that set one repository up by hand, as for any custom transfer agent.
fn classic(world: &World) -> Vec<String> {
    let args = format!("agent --store '{}'", world.store_url(STORE));
    let pairs = [
        ("lfs.customtransfer.classic.path", world.agent_path().display().to_string()),
        ("lfs.customtransfer.classic.args", args),
        ("lfs.standalonetransferagent", "classic".to_owned()),
    ];
    pairs.into_iter().map(|(key, value)| format!("{key}={value}")).collect()
}

/// Pushes two commits from a repository that is set up the classic way, and clones it in the same way.
fn check_classic(world: &mut World, lfsconfig: Option<&str>) {
    world.make_store(STORE);
    world.move_to_bare_machine();
    world.install_git_lfs();
    world.init_repo("repo");
    world.track("repo", "*.bin");
    for setting in classic(world) {
        let (key, value) = setting.split_once('=').expect("a pair");
        world.git("repo", &["config", key, value]);
    }
    if let Some(url) = lfsconfig {
        world.commit_file("repo", ".lfsconfig", format!("[lfs]\n\turl = {url}\n").as_bytes());
    }
    let bytes = noise(1, 30_000);
    world.commit_file("repo", "a.bin", &bytes);
    world.git("repo", &["push", "--quiet", "--set-upstream", "origin", "main"]);
    world.commit_and_push("repo", "b.bin", &noise(2, 10_000));
    assert_eq!(world.copies().len(), 2);
    let settings = classic(world);
    let options: Vec<&str> = settings.iter().flat_map(|setting| ["--config", setting.as_str()]).collect();
    world.clone_with("clone", &options);
    world.assert_file("clone/a.bin", &bytes);
}

pub fn the_classic_set_up_needs_no_url(world: &mut World) {
    check_classic(world, None);
}

pub fn the_classic_set_up_ignores_the_url(world: &mut World) {
    check_classic(world, Some("https://never-contacted.invalid/some/where"));
}

/// Without `lfs.url` git-lfs would run `ssh host git-lfs-transfer` before anything else.
pub fn no_ssh_is_tried_with_an_ssh_remote(world: &mut World) {
    world.repo("repo");
    let oid = world.commit_file("repo", "a.bin", &noise(1, 30_000));
    world.git("repo", &["remote", "set-url", "origin", "git@host.invalid:team/repo.git"]);
    world.git("repo", &["lfs", "push", "origin", "main"]);
    assert_eq!(world.copies().len(), 1);
    std::fs::remove_file(world.lfs_object_path("repo", &oid)).expect("an object");
    world.git("repo", &["lfs", "fetch", "origin", "main"]);
    world.assert_has_object("repo", &noise(1, 30_000));
    // git itself asks the remote for its branches; git-lfs asks it for nothing.
    let log = world.path("ssh.log");
    let asked = std::fs::read_to_string(&log).unwrap_or_default();
    assert!(!asked.contains("git-lfs"), "{asked}");
    let _ = std::fs::remove_file(log);
}

pub fn other_repositories_are_untouched_by_install(world: &mut World) {
    world.init_repo("repo");
    world.track("repo", "*.bin");
    let bytes = noise(1, 30_000);
    world.commit_file("repo", "a.bin", &bytes);
    world.git("repo", &["remote", "set-url", "origin", &world.origin_url("repo")]);
    world.git("repo", &["push", "--quiet", "origin", "main"]);
    world.clone_repo("clone");
    world.assert_file("clone/a.bin", &bytes);
    world.assert_has_object("repo.git", &bytes);
    assert_eq!(world.agents_started(), 0);
}

/// A repository with an object in its bare `origin`, a clone of it, and then a move to the store together with
/// another object. Returns both objects.
fn move_to_store(world: &World) -> [Vec<u8>; 2] {
    let files = [noise(1, 30_000), noise(2, 30_000)];
    world.init_repo("repo");
    world.git("repo", &["remote", "set-url", "origin", &world.origin_url("repo")]);
    world.track("repo", "*.bin");
    world.commit_file("repo", "a.bin", &files[0]);
    world.git("repo", &["push", "--quiet", "--set-upstream", "origin", "main"]);
    world.clone_repo("clone");
    world.lfs_delta("repo", &["init", &world.store_url(STORE)]);
    world.git("repo", &["add", ".lfsconfig"]);
    world.commit_file("repo", "b.bin", &files[1]);
    world.git("repo", &["lfs", "push", "--all", "origin"]);
    world.git("repo", &["push", "--quiet"]);
    assert_eq!(world.copies().len(), 2);
    files
}

/// git-lfs 4505: a fast-forward that brings `.lfsconfig` and an object asks the old endpoint for the object.
pub fn an_old_clone_moves_with_the_store_by_the_recipe(world: &mut World) {
    let files = move_to_store(world);
    world.move_to_teammate();
    let setting = format!("lfs.url={}", world.lfs_url(STORE));
    world.git("clone", &["-c", &setting, "pull", "--quiet"]);
    world.assert_file("clone/b.bin", &files[1]);
    world.move_to_teammate();
    world.clone_repo("new");
    world.assert_file("new/a.bin", &files[0]);
    world.assert_file("new/b.bin", &files[1]);
}

pub fn an_old_clone_that_pulled_too_early_is_repaired_by_the_recipe(world: &mut World) {
    let files = move_to_store(world);
    world.move_to_teammate();
    world.git_fails("clone", &["pull", "--quiet"]);
    world.shell("clone", "rm -f .lfsconfig && git checkout --quiet --force").succeeded();
    world.git("clone", &["config", "lfs.url", &world.lfs_url(STORE)]);
    world.git("clone", &["pull", "--quiet"]);
    world.assert_file("clone/a.bin", &files[0]);
    world.assert_file("clone/b.bin", &files[1]);
}

pub fn an_index_or_a_commit_may_hold_the_setting(world: &mut World) {
    world.repo("repo");
    let bytes = noise(1, 30_000);
    let oid = world.commit_and_push("repo", "a.bin", &bytes);
    world.move_to_teammate();
    world.clone_pointers("clone");
    std::fs::remove_file(world.path("clone/.lfsconfig")).expect("a setting");
    // Only in the index: there is no commit on this branch.
    world.git("clone", &["checkout", "--quiet", "--orphan", "fresh"]);
    world.git("clone", &["lfs", "fetch", "origin", "origin/main"]);
    world.assert_has_object("clone", &bytes);
    std::fs::remove_file(world.lfs_object_path("clone", &oid)).expect("an object");
    // Only in the commit.
    world.git("clone", &["symbolic-ref", "HEAD", "refs/heads/main"]);
    world.git("clone", &["rm", "--quiet", "--cached", ".lfsconfig"]);
    world.git("clone", &["lfs", "fetch", "origin", "origin/main"]);
    world.assert_has_object("clone", &bytes);
}
