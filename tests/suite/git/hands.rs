//! Commands by hand beside real git and git-lfs: what one stores the other fetches, and what one finds the other mends.

use std::fs;

use serde_json::Value;

use crate::git::world::World;
use crate::support::data::{edited, noise, oid, versions};
use crate::support::run::{Ran, run};

on_both_stores! {
    what_git_pushed_is_fetched_by_hand,
    what_was_put_by_hand_is_pulled_by_git,
    a_file_is_put_as_a_delta_on_what_git_has_at_its_path,
    every_step_is_told_where_it_is_asked_for,
    objects_are_listed_with_their_copies_and_sums,
    damaged_bytes_never_get_out,
    a_store_is_used_from_anywhere_by_its_url,
    a_push_mends_a_chain_whose_base_is_gone,
    after_a_repair_one_push_of_everything_makes_the_store_sound,
    a_partial_clone_says_that_it_cannot_tell_what_is_needed,
    verify_tells_what_git_lfs_prune_would_lose,
}

/// Runs `lfs-delta`; it must succeed.
fn by_hand(world: &World, place: &str, arguments: &[&str]) -> Ran {
    world.lfs_delta(place, arguments)
}

fn json_lines(ran: &Ran) -> Vec<Value> {
    ran.stdout().lines().map(|line| serde_json::from_str(line).expect("a line of JSON")).collect()
}

pub fn what_git_pushed_is_fetched_by_hand(world: &mut World) {
    world.repo("repo");
    let versions = versions(1, 40_000, 3);
    for version in &versions {
        world.commit_and_push("repo", "folder/a b.bin", version);
    }
    let other = noise(2, 5000);
    world.commit_and_push("repo", "b.bin", &other);
    world.move_to_teammate();
    world.clone_pointers("clone");
    // By oid, by path, by REV:PATH; from the top and from a folder; also what is no pointer's path any more.
    assert_eq!(by_hand(world, "clone", &["get", &oid(&versions[0])]).out, versions[0]);
    assert_eq!(by_hand(world, "clone", &["get", "folder/a b.bin"]).out, versions[2]);
    assert_eq!(by_hand(world, "clone/folder", &["get", "a b.bin"]).out, versions[2]);
    assert_eq!(by_hand(world, "clone", &["get", "HEAD~2:folder/a b.bin"]).out, versions[1]);
    let absolute = world.path("clone/folder/a b.bin");
    assert_eq!(by_hand(world, "clone/folder", &["get", absolute.to_str().expect("text")]).out, versions[2]);
    // One into a file, several into a folder.
    by_hand(world, "clone", &["get", "b.bin", "-o", "../one.bin"]);
    world.assert_file("one.bin", &other);
    fs::create_dir(world.path("out")).expect("a folder");
    let ran = by_hand(
        world,
        "clone",
        &["get", "b.bin", "HEAD:folder/a b.bin", &oid(&versions[0]), "-o", "../out", "--json"],
    );
    world.assert_file("out/b.bin", &other);
    world.assert_file("out/a b.bin", &versions[2]);
    world.assert_file(format!("out/{}", oid(&versions[0])), &versions[0]);
    let sizes: Vec<_> = json_lines(&ran).iter().map(|line| line["size"].as_u64().expect("a size")).collect();
    assert_eq!(sizes, [5000, versions[2].len() as u64, 40_000]);
    world.assert_no_leftovers("clone");
    // What cannot be meant.
    let refused = |arguments: &[&str], says: &str| {
        let ran = world.lfs_delta_fails("clone", arguments).says(says);
        assert_eq!((ran.code(), ran.out.len()), (2, 0), "{ran}");
    };
    refused(&["get", "no such.bin"], "no such.bin");
    refused(&["get", ".gitattributes"], "no LFS pointer");
    refused(&["get", "HEAD:nothing"], "REV:PATH");
    refused(&["get", "b.bin", "HEAD:folder/a b.bin"], "-o DIRECTORY");
    refused(&["get", "b.bin", "HEAD:b.bin", "-o", "../out"], "two of these");
    refused(&["get", "b.bin", "--store", "file:///x", &world.lfs_url("store")], "one store");
    let nothing = oid(b"nothing");
    assert_eq!(world.lfs_delta_fails("clone", &["get", &nothing]).says("E5003").says(&nothing).code(), 4);
}

pub fn what_was_put_by_hand_is_pulled_by_git(world: &mut World) {
    world.repo("repo");
    let files = [("a.bin", noise(1, 30_000)), ("empty.bin", Vec::new()), ("small.bin", noise(3, 100))];
    for (name, bytes) in &files {
        world.write(format!("repo/{name}"), bytes);
    }
    let ran = by_hand(world, "repo", &["put", "a.bin", "empty.bin", "small.bin"]);
    for (name, bytes) in &files {
        assert!(ran.stdout().contains(&format!("{} {name}: ", oid(bytes))), "{ran}");
    }
    let stored = world.copies();
    assert_eq!(stored.len(), 3);
    for (name, bytes) in &files {
        world.commit_file("repo", name, bytes);
    }
    world.git("repo", &["push", "--quiet"]);
    assert_eq!(world.copies(), stored, "git had nothing to add");
    world.move_to_teammate();
    world.clone_repo("clone");
    for (name, bytes) in &files {
        world.assert_file(format!("clone/{name}"), bytes);
    }
    // A pointer is no object.
    world.clone_pointers("pointers");
    let refused = world.lfs_delta_fails("pointers", &["put", "a.bin"]).says("git lfs pull");
    assert_eq!(refused.code(), 2);
    assert_eq!(world.lfs_delta_fails("clone", &["put", "gone.bin"]).says("E5002").says("gone.bin").code(), 4);
}

pub fn a_file_is_put_as_a_delta_on_what_git_has_at_its_path(world: &mut World) {
    world.repo("repo");
    let versions = versions(1, 60_000, 2);
    world.commit_and_push("repo", "a.bin", &versions[0]);
    // Not committed: what HEAD has there is the version before.
    let path = world.write("repo/a.bin", &versions[1]);
    let before = fs::metadata(&path).and_then(|data| data.modified()).expect("a time");
    let line = json_lines(&by_hand(world, "repo", &["put", "a.bin", "--json"])).remove(0);
    assert_eq!(
        (&line["stored"], &line["base"], &line["oid"], &line["depth"]),
        (&"delta".into(), &oid(&versions[0]).into(), &oid(&versions[1]).into(), &2.into())
    );
    assert_eq!(line["stored_size"].as_u64(), Some(world.copy_of(&oid(&versions[1])).1.len() as u64));
    assert_eq!(
        fs::metadata(&path).and_then(|data| data.modified()).expect("a time"),
        before,
        "it was touched"
    );
    // Once more, and from elsewhere by its absolute path.
    let absolute = path.to_str().expect("text").to_owned();
    let line = json_lines(&by_hand(world, "repo", &["put", &absolute, "--json"])).remove(0);
    assert_eq!(line["stored"], "already");
    // What the user changes later is not what the machine remembers.
    world.write("repo/a.bin", noise(9, 60_000));
    assert_eq!(by_hand(world, "repo", &["get", &oid(&versions[1])]).out, versions[1]);
    // A path that git does not know has no history.
    world.write("repo/new.bin", edited(&versions[1], 5, 3));
    let line = json_lines(&by_hand(world, "repo", &["put", "new.bin", "--json"])).remove(0);
    assert_eq!((&line["stored"], &line["base"]), (&"whole".into(), &Value::Null));
}

pub fn every_step_is_told_where_it_is_asked_for(world: &mut World) {
    world.repo("repo");
    let versions = versions(1, 60_000, 2);
    world.commit_and_push("repo", "a.bin", &versions[0]);
    world.write("repo/a.bin", &versions[1]);
    let quiet = by_hand(world, "repo", &["get", &oid(&versions[0])]);
    assert_eq!(quiet.stderr(), "");
    let ran = by_hand(world, "repo", &["put", "-v", "a.bin"]);
    let base = oid(&versions[0]);
    for part in [
        "1 earlier versions of the path are known",
        &format!("the nearest earlier version that can be built on base={base}"),
        "judged a delta",
        "verdict=Keep",
        &format!("store objects/{}/{}/delta.{base}", &oid(&versions[1])[..2], oid(&versions[1])),
        "asked the store 1 times to store: ",
    ] {
        assert!(ran.stderr().contains(part), "no {part:?} in {ran}");
    }
    world.move_to_teammate();
    world.clone_pointers("clone");
    let ran = by_hand(world, "clone", &["get", "-v", &oid(&versions[1])]);
    assert_eq!(ran.out, versions[1]);
    // What the store is, the delta's size, the delta, its base.
    for part in ["list objects/", "/delta.", "/full.", "asked the store 4 times to read: "] {
        assert!(ran.stderr().contains(part), "no {part:?} in {}", ran.stderr());
    }
}

pub fn objects_are_listed_with_their_copies_and_sums(world: &mut World) {
    world.repo("repo");
    let versions = versions(1, 40_000, 2);
    for version in &versions {
        world.commit_and_push("repo", "a.bin", version);
    }
    let copies = world.copies();
    let lines = json_lines(&by_hand(world, "repo", &["ls", "--json"]));
    let [objects @ .., sum] = &lines[..] else { panic!("nothing was listed") };
    assert_eq!(objects.len(), 2);
    for line in objects {
        let copy = &line["copies"][0];
        let bytes = &copies[copy["key"].as_str().expect("a key")];
        assert_eq!(copy["stored_size"].as_u64(), Some(bytes.len() as u64));
        let is_delta = line["oid"] == oid(&versions[1]).as_str();
        assert_eq!(
            (&copy["shape"], copy["base"].is_string()),
            (&Value::from(if is_delta { "delta" } else { "full" }), is_delta)
        );
        assert_eq!(copy["condemned"], false);
    }
    let stored: usize = copies.values().map(Vec::len).sum();
    assert_eq!(
        (&sum["objects"], &sum["copies"], &sum["deltas"], &sum["stored_size"]),
        (&2.into(), &2.into(), &1.into(), &stored.into())
    );
    // Of single objects the size is told.
    let lines = json_lines(&by_hand(world, "repo", &["ls", "--json", &oid(&versions[1])]));
    assert_eq!((lines.len(), lines[0]["size"].as_u64()), (2, Some(versions[1].len() as u64)));
    let text = by_hand(world, "repo", &["ls"]).stdout();
    assert!(text.contains(&format!("{}\n    delta d1 ", oid(&versions[1]))), "{text}");
    assert!(text.contains("2 objects with 2 copies in ") && text.contains("1 delta in "), "{text}");
    assert_eq!(world.lfs_delta_fails("repo", &["ls", &oid(b"nothing")]).says("E5003").code(), 4);
}

/// stdout gets nothing before the proof, and a file stays what it was.
pub fn damaged_bytes_never_get_out(world: &mut World) {
    world.repo("repo");
    let versions = versions(1, 50_000, 2);
    for version in &versions {
        world.commit_and_push("repo", "a.bin", version);
    }
    let (key, bytes) = world.copy_of(&oid(&versions[0]));
    world.flip_bit(&key, bytes.len() - 1);
    world.move_to_teammate();
    world.clone_pointers("clone");
    world.write("kept.bin", b"mine");
    for version in &versions {
        let ran = world.lfs_delta_fails("clone", &["get", &oid(version)]).says("E5004").says(&oid(version));
        assert_eq!((ran.code(), ran.out.len()), (5, 0), "{ran}");
        world.lfs_delta_fails("clone", &["get", &oid(version), "-o", "../kept.bin"]).says("E5004");
        world.assert_file("kept.bin", b"mine");
    }
    world.assert_no_leftovers("clone");
}

pub fn a_store_is_used_from_anywhere_by_its_url(world: &mut World) {
    world.repo("repo");
    let bytes = noise(1, 30_000);
    world.commit_and_push("repo", "a.bin", &bytes);
    world.move_to_teammate();
    let (url, lfs_url) = (world.store_url("store"), world.lfs_url("store"));
    fs::create_dir(world.path("nowhere")).expect("a folder");
    assert_eq!(by_hand(world, "nowhere", &["get", "--store", &url, &oid(&bytes)]).out, bytes);
    assert_eq!(by_hand(world, "nowhere", &["get", &oid(&bytes), &lfs_url]).out, bytes);
    let more = noise(2, 20_000);
    world.write("nowhere/more.bin", &more);
    by_hand(world, "nowhere", &["put", "more.bin", "--store", &url]);
    assert_eq!(world.copies().len(), 2);
    by_hand(world, "nowhere", &["verify", "--read-data", &lfs_url]);
    by_hand(world, "nowhere", &["ls", "--store", &url]);
    by_hand(world, "nowhere", &["verify", "--store", &url, &oid(&more)]);
    assert_eq!(fs::read_dir(world.path("nowhere")).expect("a folder").count(), 1, "files were left");
    // Without a store there is nothing that could be meant; refs are a repository's.
    assert_eq!(world.lfs_delta_fails("nowhere", &["ls"]).says("E1002").code(), 2);
    world.lfs_delta_fails("nowhere", &["verify", "--refs", &lfs_url]).says("git");
    world.lfs_delta_fails("nowhere", &["get", "a.bin", &lfs_url]).says("E1008");
    // Another store than the repository's own.
    world.make_store("second");
    world.lfs_delta_fails("repo", &["get", &oid(&more), "--store", &world.store_url("second")]).says("E5003");
    by_hand(world, "nowhere", &["put", "more.bin", "--store", &world.store_url("second")]);
    assert_eq!(world.copies_in("second").len(), 1);
}

/// Removes the copy of an object from the store.
fn remove_copy(world: &World, oid: &str) {
    world.remove(&world.copy_of(oid).0);
}

/// Rule 5: a push does not rely on what it cannot see whole.
pub fn a_push_mends_a_chain_whose_base_is_gone(world: &mut World) {
    world.repo("repo");
    let versions = versions(1, 50_000, 3);
    for version in &versions {
        world.commit_and_push("repo", "a.bin", version);
    }
    assert_eq!(world.shapes(), (1, 2));
    remove_copy(world, &oid(&versions[0]));
    world.forget_listings();
    world.git("repo", &["lfs", "push", "--all", "origin"]);
    world.move_to_teammate();
    world.clone_repo("clone");
    world.assert_versions("clone", "a.bin", &versions);
    // The deltas with the gap are still there, and said to be; nothing is lost.
    let ran = world.lfs_delta_fails("clone", &["verify", "--refs", "--read-data"]).says("E5006");
    assert_eq!(ran.code(), 3);
    by_hand(world, "clone", &["verify", "--repair"]);
    by_hand(world, "clone", &["verify", "--refs", "--read-data"]);
}

pub fn after_a_repair_one_push_of_everything_makes_the_store_sound(world: &mut World) {
    world.repo("repo");
    let mut files = Vec::new();
    for number in 0..3 {
        let versions = versions(10 + number, 30_000, 3);
        for version in &versions {
            world.commit_file("repo", &format!("{number}.bin"), version);
        }
        files.push(versions);
    }
    world.git("repo", &["push", "--quiet"]);
    let lfs_delta =
        |world: &World, place: &str, arguments: &[&str]| world.try_lfs_delta(place, arguments).code();
    // One of each kind, and each at another place of its chain.
    remove_copy(world, &oid(&files[0][1]));
    let (key, bytes) = world.copy_of(&oid(&files[1][0]));
    world.flip_bit(&key, bytes.len() / 2);
    let (key, bytes) = world.copy_of(&oid(&files[2][2]));
    world.flip_bit(&key, bytes.len() - 5);
    // A teammate finds out and condemns; whoever has the objects pushes.
    world.git("", &["clone", "--quiet", "--no-checkout", &world.origin_url("repo"), "finder"]);
    world.move_to_teammate();
    let check = ["verify", "--refs", "--read-data", "--json"];
    let ran = world.lfs_delta_fails("finder", &check);
    let named: Vec<_> =
        json_lines(&ran).iter().filter_map(|line| Some(line["oid"].as_str()?.to_owned())).collect();
    let mut expected: Vec<_> =
        files[0][1..].iter().chain(&files[1]).chain(&files[2][2..]).map(|bytes| oid(bytes)).collect();
    expected.sort();
    assert_eq!(named, expected);
    assert_eq!(lfs_delta(world, "finder", &["verify", "--refs", "--read-data", "--repair"]), 5);
    world.forget_listings();
    world.git("repo", &["lfs", "push", "--all", "origin"]);
    by_hand(world, "finder", &check);
    world.move_to_teammate();
    world.clone_repo("clone");
    world.git("clone", &["lfs", "fetch", "--all"]);
    for version in files.iter().flatten() {
        world.assert_has_object("clone", version);
    }
    by_hand(world, "clone", &["verify", "--refs", "--read-data"]);
}

/// Without its blobs a clone knows no pointers, and must not say that all is well.
pub fn a_partial_clone_says_that_it_cannot_tell_what_is_needed(world: &mut World) {
    world.repo("repo");
    world.git("repo.git", &["config", "uploadpack.allowFilter", "true"]);
    for version in versions(1, 20_000, 2) {
        world.commit_and_push("repo", "a.bin", &version);
    }
    world.clone_with("clone", &["--filter=blob:none"]);
    let ran = world.lfs_delta_fails("clone", &["verify", "--refs"]).says("E1008").says("partial clone");
    assert_eq!(ran.code(), 2);
    by_hand(world, "clone", &["verify", "--read-data"]);
}

/// `git lfs prune --verify-remote` asks no agent. This asks the store.
pub fn verify_tells_what_git_lfs_prune_would_lose(world: &mut World) {
    world.repo("repo");
    let pushed = noise(1, 30_000);
    world.commit_and_push("repo", "pushed.bin", &pushed);
    by_hand(world, "repo", &["verify", "--refs"]);
    let kept = world.commit_file("repo", "kept.bin", &noise(2, 30_000));
    world.git("repo", &["push", "--quiet", "--no-verify"]);
    let ran = world.lfs_delta_fails("repo", &["verify", "--refs"]).says("E5005");
    assert_eq!(ran.code(), 5);
    let commit = world.git("repo", &["rev-parse", "HEAD"]).stdout();
    let said = format!("missing {kept}\n    needed by kept.bin in commit {commit}\n");
    assert!(ran.stdout().contains(&said), "{ran}");
    let mut command = world.command(world.agent_path(), "repo");
    command.args(["verify", "--refs", "--repair"]);
    run(command).succeeded();
    by_hand(world, "repo", &["verify", "--refs"]);
}
