//! Any number of machines may push at once: whatever was acknowledged is readable, byte for byte.
//!
//! Twenty processes with five caches, which are five machines to them, push versions of one file that nobody has
//! stored yet: each stores what comes before its own, so all are after the same objects.

use std::fs;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde_json::Value;

use crate::scene::fetch;
use crate::support::data::{edited, noise, oid, pointer, versions};
use crate::support::fake_lfs::{FakeLfs, download_event, upload_event};
use crate::support::run::is_soak;
use crate::support::s3::Kind;
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

// ---- large objects

/// Agents that git-lfs starts.
const AGENTS: usize = 8;

/// What all agents of a machine may take together, beside what they map from files.
const MEMORY_MAX_KIB: u64 = 2 << 20;

/// How long one transfer of a large object may take on a busy machine.
const LARGE_PATIENCE: Duration = Duration::from_secs(3600);

/// Bytes of one object.
fn large() -> usize {
    if is_soak() { 1 << 30 } else { 2 << 20 }
}

/// Asks each agent for one thing, all at once; returns their answers, and the most memory that they took together.
fn ask_at_once(agents: Vec<FakeLfs>, requests: Vec<Value>) -> (Vec<Value>, u64) {
    let pids: Vec<u32> = agents.iter().map(FakeLfs::pid).collect();
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let watching = scope.spawn(|| {
            let mut most = 0;
            while !done.load(Ordering::SeqCst) {
                most = most.max(pids.iter().map(|pid| unmapped_kib(*pid)).sum());
                std::thread::sleep(Duration::from_millis(20));
            }
            most
        });
        let asking: Vec<_> = agents.into_iter().zip(requests).map(|pair| scope.spawn(|| ask(pair))).collect();
        let answers = asking.into_iter().map(|asking| asking.join().expect("an answer")).collect();
        done.store(true, Ordering::SeqCst);
        (answers, watching.join().expect("a number"))
    })
}

fn ask((mut agent, request): (FakeLfs, Value)) -> Value {
    agent.send(&request);
    loop {
        let answer = agent.answer_within(LARGE_PATIENCE).expect("an answer");
        if answer["event"] == "complete" {
            assert!(answer.get("error").is_none(), "{answer}");
            agent.terminate();
            return answer;
        }
    }
}

/// The memory of a process that is no file's.
fn unmapped_kib(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:"));
    line.map_or(0, |line| line.trim().trim_end_matches(" kB").parse().expect("a number"))
}

/// What the server sent of an object's copies.
fn bytes_fetched(world: &World, oid: &str) -> u64 {
    let calls = world.server().take_calls().of(Kind::Get);
    calls.iter().filter(|call| call.key.contains(oid)).map(|call| call.bytes_out).sum()
}

#[test]
fn eight_agents_with_large_objects_share_memory_and_a_base() {
    let world = World::on_s3();
    let base = noise(92, large());
    let size = base.len() as u64;
    let base_oid = oid(&base);
    let commit = |number: usize, bytes: &[u8]| {
        world.sandbox.commit_file("a", &format!("{number}.bin"), pointer(bytes).as_bytes())
    };
    (0..AGENTS).for_each(|number| drop(commit(number, &base)));
    let (first, path) = world.local(&base[..]);
    world.push(&first);
    drop(first);
    // As in a clone that has pointers only.
    fs::remove_file(path).expect("an object");
    fs::remove_dir_all(world.sandbox.path("cache-a")).expect("a cache");
    let objects: Vec<(String, u64, std::path::PathBuf)> = (0..AGENTS)
        .map(|number| {
            let bytes = edited(&base, number as u64, 5);
            commit(number, &bytes);
            let (object, path) = world.local(bytes);
            (object.oid.clone(), object.size(), path)
        })
        .collect();
    drop(base);
    world.server().take_calls();

    let agents = (0..AGENTS).map(|_| world.start("a", "upload")).collect();
    let requests = objects.iter().map(|(oid, size, path)| upload_event(oid, *size, path)).collect();
    let (_, push_kib) = ask_at_once(agents, requests);
    let fetched_by_push = bytes_fetched(&world, &base_oid);
    let deltas = world.keys("objects/").iter().filter(|key| key.contains("/delta.")).count();
    objects.iter().for_each(|(_, _, path)| fs::remove_file(path).expect("an object"));
    fs::remove_dir_all(world.sandbox.path("cache-a")).expect("a cache");

    world.add_machine("b");
    let agents = (0..AGENTS).map(|_| world.start("b", "download")).collect();
    let requests = objects.iter().map(|(oid, size, _)| download_event(oid, *size)).collect();
    let (answers, pull_kib) = ask_at_once(agents, requests);
    let fetched_by_pull = bytes_fetched(&world, &base_oid);
    println!(
        "{AGENTS} objects of {size} bytes, {deltas} deltas: a push took {push_kib} KiB and fetched {fetched_by_push} bytes \
         of the base, a pull {pull_kib} KiB and {fetched_by_pull} bytes"
    );
    assert_eq!(answers.len(), AGENTS);
    assert_eq!(deltas, AGENTS);
    assert!(push_kib <= MEMORY_MAX_KIB && pull_kib <= MEMORY_MAX_KIB, "{push_kib} and {pull_kib} KiB");
    let once = size..size + size / 20;
    assert!(once.contains(&fetched_by_push) && once.contains(&fetched_by_pull), "fetched more than once");
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
