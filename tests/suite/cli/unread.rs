//! Output that nobody wants to the end: `lfs-delta get … | head`.

use std::io::Read as _;
use std::os::unix::process::ExitStatusExt as _;
use std::process::Stdio;

use crate::support::data::noise;
use crate::support::run::{DEADLINE, wait_until};
use crate::world::World;

/// Fails the test unless a command whose reader is gone ends as `cat` does: by SIGPIPE, without a word.
#[track_caller]
fn assert_quiet(world: &World, arguments: &[&str]) {
    let (reader, writer) = std::io::pipe().expect("a pipe");
    drop(reader);
    let mut command = world.sandbox.command(world.sandbox.agent_path(), "a");
    command.args(arguments).stdin(Stdio::null()).stdout(writer).stderr(Stdio::piped());
    let mut child = command.spawn().expect("a program to start");
    let mut status = None;
    wait_until(DEADLINE, || {
        status = child.try_wait().expect("a child to ask");
        status.is_some()
    });
    let mut said = String::new();
    child.stderr.take().expect("a pipe").read_to_string(&mut said).expect("text");
    assert_eq!(said, "", "{arguments:?}");
    let status = status.expect("an end");
    assert_eq!(status.signal(), Some(libc::SIGPIPE), "{arguments:?}: {status}");
}

#[test]
fn a_reader_that_has_read_enough_ends_a_command_without_a_word() {
    for world in [World::on_directory(), World::on_s3()] {
        let object = world.pushed(vec![noise(80, 200_000)]).remove(0);
        let store = ["--store", &world.url];
        assert_quiet(&world, &[&["get", &object.oid], &store[..]].concat());
        for what in [&["ls"][..], &["ls", "--json"], &["verify"], &["verify", "--read-data", "--json"]] {
            assert_quiet(&world, &[what, &store].concat());
        }
        // What was found is not taken for "nothing is wrong".
        world.damage(&world.copy(&object), |bytes| bytes[5] ^= 1);
        assert_quiet(&world, &[&["verify", "--read-data"], &store[..]].concat());
    }
}

#[test]
fn so_does_one_that_works_on_files_by_hand() {
    let world = World::on_directory();
    world.sandbox.write("a/file.bin", noise(81, 200_000));
    std::fs::create_dir(world.sandbox.path("space")).expect("a folder");
    let space = format!("file://{}/", world.sandbox.path("space").display());
    let url = format!("{space}file.bin");
    world.sandbox.lfs_delta("a", &["put", "file.bin", &space]);
    for what in [&["get", &url][..], &["ls", &space], &["verify", &space], &["put", "file.bin", &space]] {
        assert_quiet(&world, what);
    }
}
