//! What is said of a store: states, exit codes, the shape of JSON, parts of a store, hostile graphs.

use std::collections::BTreeSet;

use lfs_delta::codec::Header;
use lfs_delta::model::{Chain, CodecName, CopyId, CopyName, Entry, Key, Link, Nonce, Oid, Shape};
use serde_json::json;

use super::{fill, push_versions, text_of, verify, verify_text};
use crate::support::data::{noise, versions};
use crate::world::{MANIFEST, Object, World};

/// The shape of the lines is what scripts rely on: fields are added, never renamed or dropped.
#[test]
fn the_shape_of_json_is_frozen() {
    let world = World::on_directory();
    let objects = push_versions(&world, "file.bin", versions(1, 20_000, 2));
    let keys = [world.copy(&objects[0]), world.copy(&objects[1])];
    let base = match Entry::parse(&keys[0]) {
        Some(Entry::Copy(name)) => name.id,
        other => panic!("{other:?}"),
    };
    let stored_size = world.get(&keys[0]).len() + world.get(&keys[1]).len();
    world.damage(&keys[0], |bytes| bytes[100] ^= 1);
    let said = verify(&world, &["--refs", "--read-data"]);
    let commits = world.sandbox.git("a", &["log", "--format=%H", "--reverse", "--", "file.bin"]).stdout();
    let commits: Vec<&str> = commits.lines().collect();
    let finding = |number: usize, reason: String| {
        json!({
            "type": "finding",
            "oid": objects[number].oid,
            "state": "damaged",
            "flaws": [{ "key": keys[number], "reason": reason }],
            "uses": [{ "commit": commits[number], "path": "file.bin" }],
        })
    };
    let mut expected = vec![
        finding(0, format!("{} yields other bytes", keys[0])),
        finding(1, format!("{base} in its chain is wrong")),
    ];
    expected.sort_by_key(|finding| text_of(finding, "oid"));
    assert_eq!(said.findings, expected);
    let read_size = world.get(&keys[0]).len();
    let summary = json!({
        "type": "summary",
        "store": format!("directory {}", world.sandbox.path("store").display()),
        "objects": 2, "copies": 2, "condemned": 0, "stored_size": stored_size,
        "read": 1, "read_size": read_size,
        "missing": 0, "damaged": 2, "unknown": 0, "weakened": 0,
        "condemned_now": 0, "stored_again": 0,
    });
    assert_eq!(said.summary, summary);
}

#[test]
fn people_are_told_what_is_wrong_who_needs_it_and_what_to_do() {
    let world = World::on_directory();
    let objects = push_versions(&world, "a file.bin", versions(1, 20_000, 2));
    let key = world.copy(&objects[0]);
    world.damage(&key, |bytes| bytes[100] ^= 1);
    let ran = verify_text(&world, "a", &["--read-data"]);
    let said = ran.stdout();
    for part in [
        format!("damaged {}", objects[0].oid),
        format!("damaged {}", objects[1].oid),
        format!("    {key} yields other bytes"),
        "    needed by a file.bin in commit ".into(),
        "2 objects with 2 copies in ".into(),
    ] {
        assert!(said.contains(&part), "no {part:?} in {ran}");
    }
    let ran = ran.says("E5005").says("2 objects").says("verify --read-data --repair");
    assert_eq!(ran.code(), 5);
}

#[test]
fn a_store_that_says_nothing_of_itself_or_nonsense_is_not_verified() {
    for world in [World::on_directory(), World::on_s3()] {
        fill(&world);
        verify(&world, &[]).assert_clean();
        world.damage("lfs-delta.json", |bytes| bytes[0] ^= 1);
        let ran = verify_text(&world, "a", &[]).says("E2004").says("lfs-delta.json");
        assert_eq!(ran.code(), 5, "the machine has read it before, and reads it again");
        world.put("lfs-delta.json", "{\"format\": 2}");
        assert_eq!(verify_text(&world, "a", &[]).says("E2003").code(), 9);
        world.remove("lfs-delta.json");
        assert_eq!(verify_text(&world, "a", &[]).says("E2001").code(), 10);
        world.put("lfs-delta.json", MANIFEST);
        world.put("lfs-delta.needs.read.later", "");
        assert_eq!(verify_text(&world, "a", &[]).says("E2003").says("later").code(), 9);
        world.remove("lfs-delta.needs.read.later");
        let said = verify(&world, &["--read-data"]);
        said.assert_clean();
        assert_eq!(said.ran.stderr(), "", "a bar is for terminals");
    }
}

/// The truth that `git lfs prune --verify-remote` does not tell.
#[test]
fn every_pointer_of_every_ref_is_looked_for() {
    for world in [World::on_directory(), World::on_s3()] {
        let stored = push_versions(&world, "stored.bin", versions(1, 20_000, 2));
        verify(&world, &["--refs"]).assert_clean();
        let git = |args: &[&str]| drop(world.sandbox.git("a", args));
        let main = world.sandbox.git("a", &["symbolic-ref", "--short", "HEAD"]).stdout();
        let mut missing = Vec::new();
        for (name, place) in [("branch", "branch"), ("tag", "tag"), ("stash", "update-ref")] {
            git(&["checkout", "--quiet", "-b", name]);
            missing.push(world.commit(&format!("{name}.bin"), noise(missing.len() as u64 + 5, 5000)));
            match place {
                "tag" => git(&["tag", "v1"]),
                "update-ref" => git(&["update-ref", "refs/stash", "HEAD"]),
                _ => {}
            }
            git(&["checkout", "--quiet", &main]);
            if place != "branch" {
                git(&["branch", "--quiet", "-D", name]);
            }
        }
        verify(&world, &["--read-data"]).assert_clean();
        let said = verify(&world, &["--refs"]);
        said.assert_all("missing", &missing.iter().collect::<Vec<_>>());
        assert_eq!(said.code, 5);
        let mut paths: Vec<_> =
            said.findings.iter().map(|finding| text_of(&finding["uses"][0], "path")).collect();
        paths.sort();
        assert_eq!(paths, ["branch.bin", "stash.bin", "tag.bin"]);
        // A black hole.
        for key in world.keys("objects/") {
            world.remove(&key);
        }
        let said = verify(&world, &["--refs"]);
        said.assert_all("missing", &missing.iter().chain(&stored).collect::<Vec<_>>());
    }
}

#[test]
fn a_part_of_the_store_is_always_the_same_part() {
    let world = World::on_directory();
    let objects = fill(&world);
    // Raw copies that nothing is built on: each is found in its own part.
    let small: Vec<_> = objects.iter().filter(|object| object.size() == 900).collect();
    for object in &small {
        world.damage(&world.copy(object), |bytes| bytes[5] ^= 1);
    }
    let part = |part: &str| verify(&world, &["--read-data", "--subset", part]).oids();
    let parts: Vec<BTreeSet<String>> = (1..=3).map(|number| part(&format!("{number}/3"))).collect();
    let all: Vec<&String> = parts.iter().flatten().collect();
    let expected: BTreeSet<&String> = small.iter().map(|object| &object.oid).collect();
    assert_eq!((all.len(), all.into_iter().collect::<BTreeSet<_>>()), (small.len(), expected));
    assert_eq!(part("1/3"), parts[0]);
    assert_eq!(part("100%").len(), small.len());
    let read = verify(&world, &["--read-data", "--subset", "20%"]).summary["read"].as_u64();
    assert!(read.is_some_and(|read| read > 0 && read < objects.len() as u64), "{read:?}");
    for wrong in ["0/3", "4/3", "x", "0%"] {
        assert_eq!(verify_text(&world, "a", &["--read-data", "--subset", wrong]).says("subset").code(), 2);
    }
    assert_eq!(verify_text(&world, "a", &["--subset", "1/3"]).code(), 2);
}

#[test]
fn single_objects_are_read_and_nothing_else() {
    for world in [World::on_directory(), World::on_s3()] {
        let objects = push_versions(&world, "file.bin", versions(1, 20_000, 3));
        let other = push_versions(&world, "other.bin", vec![noise(9, 3000)]).remove(0);
        world.damage(&world.copy(&other), |bytes| bytes[5] ^= 1);
        let said = verify(&world, &[&objects[2].oid]);
        said.assert_clean();
        assert_eq!((&said.summary["read"], &said.summary["objects"]), (&json!(3), &json!(3)));
        let said = verify(&world, &[&other.oid, &objects[0].oid]);
        said.assert_all("damaged", &[&other]);
        let nothing = Object::new("nothing");
        verify(&world, &[&nothing.oid]).assert_all("missing", &[&nothing]);
        assert_eq!(verify_text(&world, "a", &["main.bin"]).says("E1008").says("main.bin").code(), 2);
        assert_eq!(verify_text(&world, "a", &[&other.oid, "--refs"]).code(), 2);
    }
}

/// One wrong copy beside a right one: nothing is lost, and it is said all the same.
#[test]
fn a_wrong_copy_beside_a_right_one_weakens_the_object() {
    let world = World::on_directory();
    let objects = push_versions(&world, "file.bin", versions(1, 20_000, 2));
    let second = format!("{}full.{}", objects[0].folder(), "ab".repeat(16));
    world.put(&second, &objects[0].bytes);
    verify(&world, &["--read-data"]).assert_clean();
    world.damage(&world.copy(&objects[1]), |bytes| bytes[150] ^= 1);
    world.put(&second, noise(3, 20_000));
    let said = verify(&world, &["--read-data"]);
    let mut expected =
        vec![(objects[0].oid.clone(), "weakened".into()), (objects[1].oid.clone(), "damaged".into())];
    expected.sort();
    assert_eq!(said.states(), expected);
    world.damage(&world.copy(&objects[1]), |bytes| bytes[150] ^= 1);
    let said = verify(&world, &["--read-data"]);
    said.assert_all("weakened", &[&objects[0]]);
    assert_eq!(said.code, 3);
    said.ran.says("E5006");
}

/// By content any copy of a base serves, so a delta whose own base is gone can be restored here.
#[test]
fn a_delta_whose_base_has_another_copy_is_weakened_not_damaged() {
    let world = World::on_directory();
    let objects = push_versions(&world, "file.bin", versions(1, 20_000, 2));
    world.remove(&world.copy(&objects[0]));
    world.put(&format!("{}full.{}", objects[0].folder(), "ab".repeat(16)), &objects[0].bytes);
    for options in [&[][..], &["--read-data"]] {
        let said = verify(&world, options);
        said.assert_all("weakened", &[&objects[1]]);
        assert_eq!(said.code, 3);
    }
    world.pull_everything(&objects);
}

#[test]
fn objects_that_only_condemned_copies_hold_are_weakened() {
    let world = World::on_directory();
    let objects = push_versions(&world, "file.bin", versions(1, 20_000, 3));
    let condemn = |object: &Object| {
        let nonce = world.keys(&object.folder())[0].split('.').rev().nth(1).map(str::to_owned);
        let name = match Entry::parse(&world.keys(&object.folder())[0]) {
            Some(Entry::Copy(name)) => name,
            other => panic!("{other:?} {nonce:?}"),
        };
        world.put(Key::tombstone(&name.id).as_str(), "test\n");
    };
    condemn(&objects[1]);
    let said = verify(&world, &[]);
    said.assert_all("weakened", &[&objects[1], &objects[2]]);
    assert_eq!((said.code, &said.summary["condemned"]), (3, &json!(1)));
    // What is condemned and wrong is damaged, to somebody who reads.
    world.damage(&world.keys(&objects[1].folder())[0], |bytes| bytes[150] ^= 1);
    verify(&world, &["--read-data"]).assert_all("damaged", &[&objects[1], &objects[2]]);
}

#[test]
fn a_delta_on_a_condemned_base_is_no_damage_beside_a_sound_copy() {
    let world = World::on_directory();
    let objects = push_versions(&world, "file.bin", versions(1, 20_000, 2));
    let nonce = "cd".repeat(16);
    world.put(&format!("{}full.{nonce}", objects[0].folder()), &objects[0].bytes);
    world.put(&format!("{}full.{nonce}", objects[1].folder()), &objects[1].bytes);
    let base =
        world.keys(&objects[0].folder()).into_iter().find(|key| !key.contains(&nonce)).expect("the first");
    let Some(Entry::Copy(name)) = Entry::parse(&base) else { panic!("{base}") };
    world.put(Key::tombstone(&name.id).as_str(), "test\n");
    verify(&world, &["--read-data"]).assert_clean();
    // Collected.
    world.remove(&base);
    verify(&world, &["--read-data"]).assert_clean();
}

fn name(seed: u8, base: Option<u8>) -> CopyName {
    let id = |seed: u8| CopyId { oid: Oid::of(&[seed]), nonce: Nonce::from_bytes([seed; 16]) };
    let codec = CodecName::parse("later").expect("a name");
    let shape = match base {
        Some(base) => Shape::Delta { base: id(base), codec },
        None => Shape::Full { codec: Some(codec) },
    };
    CopyName { id: id(seed), shape }
}

/// A copy by a codec of the future, with a right header.
fn later(seed: u8) -> (CopyName, Vec<u8>) {
    let name = name(seed, None);
    let header = Header { id: name.id, object_size: 1, written_size: 1, chain: Chain::default() };
    (name, [header.to_bytes(), b"payload".to_vec()].concat())
}

#[test]
fn what_only_a_later_version_can_read_is_said_to_be_so_and_never_condemned() {
    let world = World::on_directory();
    let (copy, bytes) = later(1);
    world.put(Key::copy(&copy).as_str(), bytes);
    verify(&world, &[]).assert_clean();
    for options in [&["--read-data"][..], &["--read-data", "--repair"]] {
        let said = verify(&world, options);
        assert_eq!(said.states(), [(copy.id.oid.to_string(), "unknown".to_owned())]);
        assert_eq!(said.code, 9);
        said.ran.says("E2003").says("later");
    }
    assert_eq!(world.keys("objects/").len(), 1);
}

#[test]
fn circles_and_endless_chains_are_damage_and_end() {
    let world = World::on_directory();
    let link = |seed: u8| {
        let CopyName { id, .. } = name(seed, None);
        Link { id, codec: None, object_size: 1, stored_size: 1, written_size: 1 }
    };
    let put = |copy: CopyName| {
        let chain =
            Chain { links: copy.base().map(|base| Link { id: base, ..link(0) }).into_iter().collect() };
        let header = Header { id: copy.id, object_size: 1, written_size: 1, chain };
        // As long as the longest header, so that nothing but the graph is wrong.
        world.put(Key::copy(&copy).as_str(), [header.to_bytes(), vec![0; 2000]].concat());
    };
    put(name(1, Some(2)));
    put(name(2, Some(1)));
    for seed in 10..40 {
        put(name(seed, Some(seed + 1)));
    }
    for options in [&[][..], &["--read-data"]] {
        let said = verify(&world, options);
        assert_eq!(said.code, 5);
        assert_eq!(said.oids().len(), 32, "{}", said.ran);
        assert!(said.ran.stdout().contains("a circle"), "{}", said.ran);
    }
}

/// Whatever order the copies are looked at in: those with more than sixteen copies in their chain, and no others.
#[test]
fn a_chain_is_followed_to_the_bound_and_not_beyond() {
    let world = World::on_directory();
    let whole = Object::new([0_u8]);
    let end = CopyName { shape: Shape::Full { codec: None }, ..name(0, None) };
    world.put(Key::copy(&end).as_str(), &whole.bytes);
    for seed in 1..40 {
        world.put(Key::copy(&name(seed, Some(seed - 1))).as_str(), vec![0; 2000]);
    }
    let beyond: Vec<Object> = (16..40).map(|seed: u8| Object::new([seed])).collect();
    verify(&world, &[]).assert_all("damaged", &beyond.iter().collect::<Vec<_>>());
}

/// Nobody may make others condemn what is right by a pointer that is wrong.
#[test]
fn a_pointer_with_a_wrong_size_condemns_nothing() {
    let world = World::on_directory();
    let object = push_versions(&world, "file.bin", vec![noise(1, 3000)]).remove(0);
    world.sandbox.git("a", &["checkout", "--quiet", "--orphan", "stranger"]);
    world.sandbox.git("a", &["branch", "--quiet", "-D", "main"]);
    let pointer =
        format!("version https://git-lfs.github.com/spec/v1\noid sha256:{}\nsize 4000\n", object.oid);
    world.sandbox.commit_file("a", "file.bin", pointer.as_bytes());
    let said = verify(&world, &["--refs"]);
    assert!(said.oids().contains(&object.oid) && said.code == 5, "{}", said.ran);
    verify(&world, &["--refs", "--repair"]);
    verify(&world, &["--refs", "--repair", "--read-data"]);
    assert_eq!(world.keys("objects/").len(), 1, "nothing was condemned or stored");
}
