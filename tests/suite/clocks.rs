//! Your computer's clock does not matter, ten years off in either direction, or set while something is under way.
//!
//! The program is given another clock by a small library in front of the system's own.

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, SystemTime};

use crate::support::data::{noise, versions};
use crate::support::fake_lfs::{FakeLfs, upload_event};
use crate::support::run::run;
use crate::support::s3::{Fault, Kind, on};
use crate::support::sandbox::Sandbox;
use crate::world::{World, assert_report};

const YEARS: i64 = 10 * 365 * 24 * 3600;

/// Adds the seconds that stand in a file to what the system's clock says.
const LIBRARY: &str = r#"
#define _GNU_SOURCE
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>
#include <sys/syscall.h>
int clock_gettime(clockid_t clock, struct timespec *time) {
    int result = syscall(SYS_clock_gettime, clock, time);
    const char *name = getenv("TEST_CLOCK_FILE");
    FILE *file = clock == CLOCK_REALTIME && name ? fopen(name, "r") : 0;
    long offset = 0;
    if (file) {
        if (fscanf(file, "%ld", &offset) == 1) time->tv_sec += offset;
        fclose(file);
    }
    return result;
}
"#;

fn library(sandbox: &Sandbox) -> PathBuf {
    let (source, library) = (sandbox.write("clock.c", LIBRARY), sandbox.path("clock.so"));
    let mut compiler = sandbox.command("cc", "");
    compiler.args(["-shared", "-fPIC", "-o"]).arg(&library).arg(source);
    run(compiler).succeeded();
    library
}

/// The agent of a machine whose clock is off by the seconds that stand in the file `name`.
fn with_clock(world: &World, machine: &str, name: &str, offset: i64) -> Command {
    let file = world.sandbox.write(name, offset.to_string());
    let mut command = world.agent_command(machine);
    command.env("LD_PRELOAD", library(&world.sandbox)).env("TEST_CLOCK_FILE", file);
    command
}

#[test]
fn machines_that_are_twenty_years_apart_push_and_pull() {
    for world in [World::on_directory(), World::on_s3()] {
        let bodies = versions(95, 20_000, 4);
        let objects: Vec<_> = bodies.into_iter().map(|bytes| world.commit("file.bin", bytes)).collect();
        for (object, offset) in objects.iter().zip([YEARS, -YEARS, 0, YEARS]) {
            let mut agent = FakeLfs::spawn(with_clock(&world, "a", "clock", offset)).accepted("upload");
            agent.upload(&object.oid, object.size(), &world.local_path("a", object)).succeeded();
            agent.terminate();
        }
        assert_eq!(world.keys("objects/").iter().filter(|key| key.contains("/delta.")).count(), 3);
        for (machine, offset) in [("b", YEARS), ("c", -YEARS)] {
            world.add_machine(machine);
            let mut agent = FakeLfs::spawn(with_clock(&world, machine, "clock", offset)).accepted("download");
            for object in &objects {
                crate::scene::fetch(&mut agent, object).expect("what was stored");
            }
            agent.terminate();
        }
    }
}

#[test]
fn a_clock_that_is_ahead_does_not_sweep_what_others_are_staging() {
    let world = World::on_directory();
    let (fresh, old) = (world.store_path("tmp/.lfs-delta-fresh"), world.store_path("tmp/.lfs-delta-old"));
    for path in [&fresh, &old] {
        world.sandbox.write(path, "somebody's");
    }
    let two_days_ago = SystemTime::now() - Duration::from_secs(2 * 24 * 3600);
    fs::File::open(&old).and_then(|file| file.set_modified(two_days_ago)).expect("a time");
    let (object, path) = world.local(noise(96, 20_000));
    let mut agent = FakeLfs::spawn(with_clock(&world, "a", "clock", YEARS)).accepted("upload");
    agent.upload(&object.oid, object.size(), &path).succeeded();
    agent.terminate();
    assert!(fresh.exists() && !old.exists(), "by its own clock");
}

#[test]
fn a_push_that_slept_for_two_weeks_is_not_acknowledged() {
    let world = World::on_s3();
    let (object, path) = world.local(noise(97, 20_000));
    world.server().fail(on(Kind::Put).key("objects/"), Fault::HangAfter);
    let mut agent = FakeLfs::spawn(with_clock(&world, "a", "clock", 0)).accepted("upload");
    agent.send(&upload_event(&object.oid, object.size(), &path));
    world.server().wait_for(|calls| calls.iter().any(|call| call.fault.is_some() && call.status > 0));
    world.sandbox.write("clock", (15 * 24 * 3600).to_string());
    world.server().release();
    assert_report(&agent.transfer(&object.oid).failed(), "E7002", &[&object.oid]);
    // It begins again, and finds what it stored.
    agent.upload(&object.oid, object.size(), &path).succeeded();
    agent.terminate();
    assert_eq!(world.get(&world.copy(&object)), object.bytes);
}
