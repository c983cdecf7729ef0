//! Any number of machines may push at once: whatever was acknowledged is readable, byte for byte.
//!
//! Twenty processes with five caches, which are five machines to them, push versions of one file that nobody has
//! stored yet: each stores what comes before its own, so all are after the same objects.

use crate::scene::fetch;
use crate::support::data::versions;
use crate::support::fake_lfs::FakeLfs;
use crate::support::run::is_soak;
use crate::world::{Object, World};

const PROCESSES: usize = 20;
const MACHINES: usize = 5;

fn rounds() -> usize {
    if is_soak() { 50 } else { 1 }
}

/// Every kind of store: a directory, a bucket, and one of a service that ignores conditions.
fn stores() -> [World; 3] {
    let without = World::on_s3();
    without.server().ignore_conditions();
    [World::on_directory(), World::on_s3(), without]
}

/// Pushes each object by a process of its own, all at once; fails the test unless all are acknowledged.
fn push_at_once<'w>(world: &'w World, objects: impl Iterator<Item = &'w Object>) {
    let agents: Vec<_> = objects
        .enumerate()
        .map(|(number, object)| {
            let mut command = world.agent_command("a");
            command.env("LFS_DELTA_CACHE_DIR", world.sandbox.path(format!("cache-{}", number % MACHINES)));
            (FakeLfs::spawn(command).accepted("upload"), object)
        })
        .collect();
    std::thread::scope(|scope| {
        for (mut agent, object) in agents {
            scope.spawn(move || {
                agent.upload(&object.oid, object.size(), &world.local_path("a", object)).succeeded();
                agent.terminate();
            });
        }
    });
}

/// Reads all of them on a machine that has nothing.
fn assert_readable(world: &World, objects: &[Object]) {
    let mut cold = world.start("cold", "download");
    for object in objects {
        fetch(&mut cold, object).unwrap_or_else(|code| panic!("{} was acknowledged: E{code}", object.oid));
    }
    cold.terminate();
}

#[test]
fn twenty_processes_push_twenty_versions_of_a_new_file() {
    for world in stores() {
        let bodies = versions(90, 8_000, PROCESSES);
        let objects: Vec<_> = bodies.into_iter().map(|bytes| world.commit("file.bin", bytes)).collect();
        world.add_machine("cold");
        let still = world.still();
        for _ in 0..rounds() {
            world.restore(&still);
            push_at_once(&world, objects.iter());
            assert_readable(&world, &objects);
        }
        let copies = world.keys("objects/").len();
        println!("{}: {} rounds of {PROCESSES}, all readable; {copies} copies", world.url, rounds());
        assert!(copies <= PROCESSES * MACHINES, "{copies} copies of {PROCESSES} objects");
    }
}

#[test]
fn twenty_processes_push_the_same_file() {
    for world in stores() {
        let object = world.commit("file.bin", versions(91, 8_000, 1).remove(0));
        world.add_machine("cold");
        let still = world.still();
        for _ in 0..rounds() {
            world.restore(&still);
            push_at_once(&world, std::iter::repeat_n(&object, PROCESSES));
            assert_readable(&world, std::slice::from_ref(&object));
        }
        // Processes of one machine wait for each other; machines do not know each other.
        let copies = world.keys(&object.folder());
        assert!((1..=MACHINES).contains(&copies.len()), "{copies:?}");
    }
}

/// Lets each git that an agent starts write its command line into a file, and returns where that is.
fn note_every_git(world: &World) -> std::path::PathBuf {
    let log = world.sandbox.path("git.log");
    let path = std::env::var_os("PATH").expect("a PATH");
    let git = std::env::split_paths(&path).map(|folder| folder.join("git")).find(|program| program.is_file());
    let git = git.expect("a git");
    let script = format!("#!/bin/sh\necho \"$*\" >> '{}'\nexec '{}' \"$@\"\n", log.display(), git.display());
    world.sandbox.write_program("git", &script);
    log
}

/// How often the four agents of a push start git for each of its commands.
#[test]
fn agents_of_one_push_share_what_git_says() {
    const AGENTS: usize = 4;
    let world = World::on_directory();
    let mut objects: Vec<Object> = Vec::new();
    for (file, bytes) in
        (0..10).flat_map(|file| versions(92 + file, 8_000, 2).into_iter().map(move |v| (file, v)))
    {
        objects.push(world.commit(&format!("{file}x.bin"), bytes));
    }
    let log = note_every_git(&world);
    let mut agents: Vec<_> = (0..AGENTS).map(|_| world.start("a", "upload")).collect();
    for (object, agent) in objects.iter().zip((0..AGENTS).cycle()) {
        agents[agent].upload(&object.oid, object.size(), &world.local_path("a", object)).succeeded();
    }
    agents.into_iter().for_each(|agent| drop(agent.terminate()));
    let asked = std::fs::read_to_string(log).expect("a log");
    let count = |command: &str| asked.lines().filter(|line| line.contains(command)).count();
    // One log of what is pushed, one tree for new paths: by whoever asks first.
    assert_eq!((count("log --format"), count("ls-tree")), (1, 1), "{asked}");
    assert_eq!(count("deltaspace-cold"), 1, "{asked}");
    for own in ["rev-parse", "show-ref", "check-attr"] {
        assert!(count(own) <= AGENTS + 1, "{own}: {asked}");
    }
    // Contents and sizes of blobs, whatever the number of objects.
    assert!(count("cat-file --batch") <= 2 * AGENTS, "{asked}");
    assert!(asked.lines().count() <= 9 * AGENTS + 3, "{} processes: {asked}", asked.lines().count());
}
