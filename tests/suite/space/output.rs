//! What people and programs read of `put`, `get`, `verify` and `ls`, where files go, and what is refused at once.

use std::fs;
use std::os::unix::fs::symlink;

use super::{World, json, versions};
use crate::support::data::noise;

#[test]
fn several_are_put_and_got_at_once() {
    for world in World::both() {
        let files = versions(30, 3);
        for (number, bytes) in files.iter().enumerate() {
            world.write(&format!("{number}.bin"), bytes);
        }
        let said =
            world.sandbox.lfs_delta("files", &["put", "0.bin", "1.bin", "2.bin", &world.url("")]).stdout();
        let operations: Vec<_> = said.lines().map(|line| json(line)["operation"].clone()).collect();
        assert_eq!(operations, ["create_reference", "create_delta", "create_delta"]);
        let urls: Vec<_> = (0..3).map(|number| world.url(&format!("{number}.bin"))).collect();
        let said =
            world.sandbox.lfs_delta("", &["get", "--json", "-o", "new/folder", &urls[0], &urls[1], &urls[2]]);
        assert_eq!(said.stdout().lines().count(), 3);
        for (number, bytes) in files.iter().enumerate() {
            assert!(
                fs::read(world.sandbox.path(format!("new/folder/{number}.bin"))).expect("a file") == *bytes
            );
        }
    }
}

#[test]
fn one_of_several_that_fails_does_not_stop_the_others() {
    let world = World::on_directory();
    world.put("a", b"first");
    let (a, missing) = (world.url("a"), world.url("missing"));
    let ran = world.sandbox.lfs_delta_fails("", &["get", "-o", "out/", &missing, &a]);
    assert_eq!(ran.code(), 3);
    ran.says("E5101").says("missing").says("1 of 2 failed");
    assert_eq!(fs::read(world.sandbox.path("out/a")).expect("a file"), b"first");
    assert!(!world.sandbox.path("out/missing").exists());
}

#[test]
fn a_file_goes_where_it_is_wanted() {
    let world = World::on_directory();
    world.put("a.zip", b"bytes");
    let url = world.url("a.zip");
    let read = |place: &str| fs::read(world.sandbox.path(place)).expect(place);
    world.sandbox.lfs_delta("", &["get", "-o", "named", &url]);
    assert_eq!(read("named"), b"bytes");
    fs::create_dir(world.sandbox.path("folder")).expect("a folder");
    world.sandbox.lfs_delta("", &["get", "-o", "folder", &world.url("a.zip.delta")]);
    assert_eq!(read("folder/a.zip"), b"bytes");
    // In place of what is there, and through a link.
    world.sandbox.write("real", "old");
    symlink("real", world.sandbox.path("link")).expect("a link");
    world.sandbox.lfs_delta("", &["get", "-o", "link", &url]);
    assert_eq!(read("real"), b"bytes");
    assert!(world.sandbox.path("link").is_symlink());
    world.sandbox.lfs_delta("", &["get", "-o", "/dev/null", &url]);
}

#[test]
fn what_fails_leaves_the_old_file_and_no_other() {
    let world = World::on_directory();
    let files = versions(31, 2);
    world.put("a", &files[0]);
    world.put("b", &files[1]);
    world.damage("b.delta", |bytes| *bytes.last_mut().expect("a byte") ^= 1);
    world.sandbox.write("out/b", "old");
    world.sandbox.lfs_delta_fails("out", &["get", "-o", "b", &world.url("b")]).says("E5102");
    assert_eq!(fs::read(world.sandbox.path("out/b")).expect("a file"), b"old");
    assert_eq!(fs::read_dir(world.sandbox.path("out")).expect("a folder").count(), 1);
}

#[test]
fn what_cannot_be_meant_is_refused_before_anything_is_sent() {
    let world = World::on_s3();
    world.write("reference.bin", b"x");
    world.write("a.delta", b"x");
    world.write("a", b"x");
    world.write("folder/a", b"x");
    let space = world.url("");
    for (arguments, why) in [
        (vec!["put", "reference.bin", &space], "what the reference is called"),
        (vec!["put", "a.delta", &space], "names of deltas end like this"),
        (vec!["put", "missing", &space], "there is no file"),
        (vec!["put", "folder", &space], "is no file"),
        (vec!["put", "a", "folder/a", &space], "two files are called a"),
        (vec!["put", &space], "the DeltaSpace last"),
        (vec!["put", "--max-ratio=-1", "a", &space], "--max-ratio"),
        (vec!["put", "--store", "s3://other", "a", &space], "--store"),
        (vec!["put", "a", "s3://bucket/../x/"], "prefix"),
        (vec!["get", &space], "names no file"),
        (vec!["get", &world.url("a"), &world.url("b")], "-o DIRECTORY"),
        (vec!["get", "-o", "out/", &world.url("a"), &world.url("a.delta")], "get them one by one"),
        (vec!["get", "s3://bucket/space/a%2f..%2fb"], "slash"),
        // Once one is a URL, all are; and a DeltaSpace comes last.
        (vec!["put", &space, "a"], "the DeltaSpace last"),
        (vec!["get", &world.url("a"), "a"], "-o PATH"),
        (vec!["get", "a", &world.url("a"), "-o", "out/"], "a is no URL"),
        (vec!["verify", &space, "a"], "a is no URL"),
        (vec!["ls", &space, "a"], "a is no URL"),
        // Neither a store nor a DeltaSpace was named, and there is no repository.
        (vec!["put", "a", "folder/"], "--store"),
    ] {
        let ran = world.sandbox.lfs_delta_fails("files", &arguments);
        assert!(ran.code() == 2 && ran.stderr().contains(why), "{why}: {ran}");
    }
    assert_eq!(world.server().calls().summary(), "", "nothing was asked");
}

#[test]
fn what_is_listed_takes_one_request_and_says_what_is_what() {
    let world = World::on_s3();
    let files = versions(32, 2);
    world.put("a.zip", &files[0]);
    world.put("b.zip", &files[1]);
    world.put("c.zip", &noise(33, 60_000));
    world.server().put_raw("team/app/below/reference.bin", &b"x"[..]);
    world.server().take_calls();
    let said = world.sandbox.lfs_delta("", &["ls", &world.url("")]).stdout();
    world.server().expect_calls("1 List");
    let words: Vec<_> = said
        .lines()
        .map(|line| {
            let words: Vec<_> = line.split_whitespace().collect();
            (words[0], words[words.len() - 1])
        })
        .collect();
    assert_eq!(
        words,
        [
            ("delta", "a.zip"),
            ("delta", "b.zip"),
            ("folder", "below/"),
            ("whole", "c.zip"),
            ("reference", "reference.bin"),
        ]
    );
    let said = world.sandbox.lfs_delta("", &["ls", "--json", &world.url("")]).stdout();
    let line = json(said.lines().next().expect("a line"));
    assert_eq!((&line["name"], &line["kind"]), (&"a.zip".into(), &"delta".into()));
    assert_eq!(line["url"], "s3://lfs-test/team/app/a.zip.delta");
}

#[test]
fn steps_are_told_where_they_are_wanted() {
    let world = World::on_s3();
    let files = versions(34, 2);
    world.put("a", &files[0]);
    world.write("b", &files[1]);
    let said = world.sandbox.lfs_delta("files", &["put", "-v", "b", &world.url("")]).stderr();
    assert_steps(
        &said,
        &[
            "s3://lfs-test/team/app/b",
            "looking for team/app/b.delta",
            "looking for team/app/reference.bin",
            "looking for team/app/b",
            "the reference is in the cache",
            "a delta of … bytes for …, proven",
            "storing team/app/b.delta, … bytes",
            "looking for team/app/reference.bin",
        ],
    );
    world.move_away();
    let said = world.sandbox.lfs_delta("", &["get", "-v", &world.url("b")]).stderr();
    assert_steps(
        &said,
        &[
            "s3://lfs-test/team/app/b",
            "looking for team/app/b",
            "looking for team/app/b.delta",
            "reading team/app/b.delta, … bytes",
            "looking for team/app/reference.bin",
            "reading team/app/reference.bin, … bytes",
        ],
    );
}

/// Fails the test unless these lines were told and no others, whatever their numbers.
#[track_caller]
fn assert_steps(said: &str, expected: &[&str]) {
    let is_number = |word: &str| word.trim_end_matches(',').chars().all(|letter| letter.is_ascii_digit());
    let hidden = |word: &str| match is_number(word) {
        true => word.replace(|letter: char| letter.is_ascii_digit(), "").replacen("", "…", 1),
        false => word.to_owned(),
    };
    let line = |line: &str| line.split_whitespace().map(hidden).collect::<Vec<_>>().join(" ");
    assert_eq!(said.lines().map(line).collect::<Vec<_>>(), expected, "{said}");
}

#[test]
fn a_name_from_a_listing_reaches_the_terminal_without_its_escapes() {
    let world = World::on_s3();
    world.server().put_raw("team/app/a\u{202e}b", &b"x"[..]);
    let said = world.sandbox.lfs_delta("", &["ls", &world.url("")]).stdout();
    assert!(!said.contains('\u{202e}') && said.contains("a\u{fffd}b"), "{said:?}");
}
