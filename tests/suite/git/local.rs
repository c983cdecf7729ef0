//! Where repositories and their objects may be on disk, and with which rights.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use crate::git::world::World;
use crate::support::data::{noise, oid, versions};
use crate::support::sandbox::files_below;

on_both_stores! {
    objects_may_be_kept_in_a_folder_of_ones_own,
    objects_may_be_kept_in_a_folder_relative_to_the_git_directory,
    paths_may_have_spaces_quotes_and_letters_of_any_script,
    a_shared_repository_gives_its_group_the_objects,
    a_separate_git_directory_works,
}

/// Pushes and clones two versions with `lfs.storage` set, and returns nothing but that it worked.
fn check_storage(world: &mut World, storage: &str, place: impl Fn(&str) -> String) {
    world.repo("repo");
    world.git("repo", &["config", "lfs.storage", storage]);
    let versions = versions(1, 50_000, 2);
    for version in &versions {
        world.commit_file("repo", "a.bin", version);
    }
    world.git("repo", &["push", "--quiet"]);
    assert_eq!(world.shapes(), (1, 1));
    world.move_to_teammate();
    world.clone_with("clone", &["--config", &format!("lfs.storage={storage}")]);
    world.assert_file("clone/a.bin", &versions[1]);
    let kept = files_below(&world.path(place("clone")));
    let oid = oid(&versions[1]);
    let expected = Path::new("objects").join(&oid[..2]).join(&oid[2..4]).join(&oid);
    assert!(kept.contains_key(&expected), "{:?}", kept.keys());
    assert!(!kept.keys().any(|path| path.starts_with("tmp")), "{:?}", kept.keys());
    assert!(!world.path("clone/.git/lfs/tmp").exists(), "files were made in the usual folder");
}

pub fn objects_may_be_kept_in_a_folder_of_ones_own(world: &mut World) {
    let storage = world.path("big disk").display().to_string();
    check_storage(world, &storage, |_| "big disk".to_owned());
}

pub fn objects_may_be_kept_in_a_folder_relative_to_the_git_directory(world: &mut World) {
    check_storage(world, "own/lfs", |repo| format!("{repo}/.git/own/lfs"));
}

pub fn paths_may_have_spaces_quotes_and_letters_of_any_script(world: &mut World) {
    let name = "it's a \"täst\" $HOME 図面 #1";
    world.repo(name);
    let versions = versions(1, 50_000, 2);
    let file = "a 'file' with \"quotes\" & ümläuts.bin";
    for version in &versions {
        world.commit_and_push(name, file, version);
    }
    assert_eq!(world.shapes(), (1, 1));
    world.move_to_teammate();
    let clone = format!("{name} clone");
    let bare = world.path(format!("{name}.git")).display().to_string();
    world.git("", &["clone", "--quiet", &bare, &clone]);
    world.assert_versions(&clone, file, &versions);
    world.assert_no_leftovers(&clone);
}

pub fn a_shared_repository_gives_its_group_the_objects(world: &mut World) {
    world.repo("repo");
    let versions = versions(1, 50_000, 2);
    for version in &versions {
        world.commit_and_push("repo", "a.bin", version);
    }
    world.move_to_teammate();
    let clone = format!(
        "umask 077; git clone --quiet -c core.sharedRepository=group '{}' clone",
        world.origin_url("repo")
    );
    world.shell("", &clone).succeeded();
    world.git("clone", &["lfs", "fetch", "--all"]);
    for version in &versions {
        let path = world.lfs_object_path("clone", &oid(version));
        let mode = fs::metadata(&path).expect("an object").permissions().mode();
        assert_eq!(mode & 0o070, 0o060, "{} has mode {mode:o}", path.display());
    }
}

pub fn a_separate_git_directory_works(world: &mut World) {
    world.repo("repo");
    let (first, second) = (noise(1, 30_000), noise(2, 30_000));
    world.commit_and_push("repo", "a.bin", &first);
    world.move_to_teammate();
    world.clone_with("clone", &["--separate-git-dir", "git-directory"]);
    world.assert_file("clone/a.bin", &first);
    world.commit_and_push("clone", "a.bin", &second);
    assert_eq!(world.copies().len(), 2);
    let left = files_below(&world.path("git-directory/lfs/tmp"));
    assert!(left.is_empty(), "{:?}", left.keys());
}
