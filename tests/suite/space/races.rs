//! Many at once: one of them makes the reference, and nobody loses a file.

use super::deltaglider::it_gets;
use super::{PREFIX, World};
use crate::support::data::{edited, noise};
use crate::support::run::{DEADLINE, Running};
use crate::support::s3::{Fault, Kind, on};

/// Who race.
const RACERS: usize = 20;

/// Lets twenty processes put a file each into an empty DeltaSpace, reads all of them back, and returns them with the names
/// that they are stored under.
fn race(world: &World, round: u64) -> Vec<(String, Vec<u8>)> {
    println!("{} round {round}", world.base);
    world.move_away();
    let base = noise(round, 30_000);
    let files: Vec<_> = (0..RACERS).map(|racer| edited(&base, round * 100 + racer as u64, 3)).collect();
    let folder = format!("round-{round}");
    if world.endpoint.is_none() {
        std::fs::create_dir(world.sandbox.path("space").join(&folder)).expect("a folder");
    }
    let url = |name: &str| world.url(&format!("{folder}/{name}"));
    let mut racing = Vec::new();
    for (racer, bytes) in files.iter().enumerate() {
        let path = world.write(&format!("{racer}.zip"), bytes);
        let mut command = world.sandbox.command(world.sandbox.agent_path(), "");
        command.arg("put").arg(path).arg(url("")).stdin(std::process::Stdio::null());
        racing.push(Running::start(command));
    }
    for running in racing {
        running.finish(DEADLINE).succeeded();
    }
    world.move_away();
    for (racer, bytes) in files.iter().enumerate() {
        let ran = world.sandbox.lfs_delta("", &["get", &url(&format!("{racer}.zip"))]);
        assert!(ran.out == *bytes, "round {round}, racer {racer}: {ran}");
    }
    let ran = world.sandbox.lfs_delta("", &["verify", &url("")]);
    assert!(ran.stdout().contains("21 of 21"), "one reference and a delta each: {ran}");
    let stored = |(racer, bytes)| (format!("{folder}/{racer}.zip.delta"), bytes);
    files.into_iter().enumerate().map(stored).collect()
}

/// Fails the test unless deltaglider gets all of them, too.
fn assert_it_gets(world: &World, files: &[(String, Vec<u8>)]) {
    let names: Vec<_> = files.iter().map(|(name, _)| name.clone()).collect();
    for ((name, bytes), got) in files.iter().zip(it_gets(world, &names)) {
        assert!(got.as_ref() == Ok(bytes), "{name}: {:?}", got.err());
    }
}

#[test]
fn of_twenty_first_puts_none_is_lost_in_a_bucket() {
    race(&World::on_s3(), 1);
}

#[test]
fn of_twenty_first_puts_none_is_lost_on_another_service() {
    let world = World::on_seaweedfs();
    assert_it_gets(&world, &race(&world, 3));
}

#[test]
fn of_twenty_first_puts_none_is_lost_in_a_directory() {
    race(&World::on_directory(), 2);
}

#[cfg(feature = "soak")]
#[test]
fn of_twenty_first_puts_none_is_lost_in_twenty_rounds() {
    for world in World::both() {
        (1..=20).for_each(|round| drop(race(&world, round)));
    }
    let world = World::on_seaweedfs();
    (1..=20).for_each(|round| assert_it_gets(&world, &race(&world, round)));
}

/// Starts a put of `name` and holds its upload of the reference back until `meanwhile` was done.
fn overtaken(world: &World, name: &str, bytes: &[u8], meanwhile: impl FnOnce()) {
    let server = world.server();
    server.take_calls();
    server.fail(on(Kind::Put).key("reference.bin"), Fault::Hang);
    let path = world.write(name, bytes);
    let mut command = world.sandbox.command(world.sandbox.agent_path(), "");
    command.arg("put").arg(path).arg(world.url("")).stdin(std::process::Stdio::null());
    let slow = Running::start(command);
    server.wait_for(|calls| {
        calls.iter().any(|call| call.kind == Kind::Put && call.key.ends_with("reference.bin"))
    });
    meanwhile();
    server.release();
    slow.finish(DEADLINE).succeeded();
}

#[test]
fn who_is_overtaken_stores_a_delta_on_the_winners_reference() {
    let world = World::on_s3();
    let base = noise(60, 50_000);
    let (slow, fast) = (edited(&base, 61, 3), edited(&base, 62, 3));
    overtaken(&world, "slow", &slow, || drop(world.put("fast", &fast)));
    assert_eq!(world.server().get_raw(&format!("{PREFIX}/reference.bin")).expect("a reference"), fast);
    world.move_away();
    world.assert_get("slow", &slow);
    world.assert_get("fast", &fast);
}

#[test]
fn who_overwrites_where_conditions_are_ignored_notices_and_so_does_the_other() {
    let world = World::on_s3();
    world.server().ignore_conditions();
    let base = noise(63, 50_000);
    let (slow, fast) = (edited(&base, 64, 3), edited(&base, 65, 3));
    // The slow one overwrites the reference between the fast one's upload and its last look.
    let server = world.server();
    let path = world.write("slow", &slow);
    server.fail(on(Kind::Put).key("reference.bin"), Fault::Hang);
    let mut command = world.sandbox.command(world.sandbox.agent_path(), "");
    command.arg("put").arg(path).arg(world.url("")).stdin(std::process::Stdio::null());
    let overwriting = Running::start(command);
    server.wait_for(|calls| {
        calls.iter().any(|call| call.kind == Kind::Put && call.key.ends_with("reference.bin"))
    });
    server.fail(on(Kind::Put).key("fast.delta"), Fault::Hang);
    let path = world.write("fast", &fast);
    let mut command = world.sandbox.command(world.sandbox.agent_path(), "");
    command.arg("put").arg(path).arg(world.url("")).stdin(std::process::Stdio::null());
    let looking = Running::start(command);
    server.wait_for(|calls| {
        calls.iter().any(|call| call.kind == Kind::Put && call.key.ends_with("fast.delta"))
    });
    server.release();
    overwriting.finish(DEADLINE).succeeded();
    looking.finish(DEADLINE).succeeded();
    world.move_away();
    world.assert_get("slow", &slow);
    world.assert_get("fast", &fast);
}

#[test]
fn a_reader_of_what_is_replaced_gets_one_of_both() {
    let world = World::on_s3();
    let base = noise(66, 50_000);
    let (old, new) = (edited(&base, 67, 3), edited(&base, 68, 3));
    world.put("base", &base);
    world.put("a", &old);
    let server = world.server();
    server.fail(on(Kind::Get).key("a.delta"), Fault::Hang);
    let mut command = world.sandbox.command(world.sandbox.agent_path(), "");
    command.arg("get").arg(world.url("a")).stdin(std::process::Stdio::null());
    let reading = Running::start(command);
    server.wait_for(|calls| calls.iter().any(|call| call.kind == Kind::Get && call.key.ends_with("a.delta")));
    world.put("a", &new);
    server.release();
    assert!(reading.finish(DEADLINE).succeeded().out == new);
}
