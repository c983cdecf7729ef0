//! A crash loses nothing: `kill -9` before and after every change of a file and every request.
//!
//! Each scene is played again and again, killed one step later each time. After each death, with no step by hand:
//! whatever was ever acknowledged comes back byte for byte on a machine that has nothing; what was not is there
//! or is said to be missing, and never damaged; the same request works; no more than one copy is left over.
//!
//! `tests/run.sh` tries a part of the points, `tests/run.sh --soak` all of them.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::Value;

use crate::support::data::{noise, text, versions};
use crate::support::fake_lfs::{FakeLfs, Transfer, download_event, upload_event};
use crate::support::run::{is_soak, signal, wait_until};
use crate::support::s3::{Fault, any};
use crate::support::trace::{Act, Tracee, When};
use crate::world::{Object, Still, World};

const PATIENCE: Duration = Duration::from_secs(60);

/// The points to be tried of 1, 2, 3 …, each with its side.
fn points(stride: usize) -> impl Iterator<Item = (usize, When)> {
    let stride = if is_soak() { 1 } else { stride };
    let both = move |nth: usize| match (stride, nth / stride % 2) {
        (1, _) => vec![(nth, When::Before), (nth, When::After)],
        (_, 0) => vec![(nth, When::Before)],
        _ => vec![(nth, When::After)],
    };
    (1..).step_by(stride).flat_map(both)
}

/// What is being done when the process dies.
struct Scene {
    name: String,
    world: World,
    still: Still,
    /// What was stored before and must never be lost.
    acknowledged: Vec<Object>,
    /// What is asked for, and what is stored with it.
    objects: Vec<Object>,
    machine: &'static str,
    operation: &'static str,
    request: Value,
}

impl Scene {
    fn new(name: &str, world: World, acknowledged: Vec<Object>, objects: Vec<Object>) -> Scene {
        let object = objects.last().expect("an object");
        let request = upload_event(&object.oid, object.size(), &world.local_path("a", object));
        world.add_machine("cold");
        let name = format!("{name} on {}", if world.url.starts_with("s3") { "S3" } else { "a directory" });
        let still = world.still();
        Scene { name, world, still, acknowledged, objects, machine: "a", operation: "upload", request }
    }

    fn pull(name: &str, world: World, machine: &'static str, object: Object) -> Scene {
        let request = download_event(&object.oid, object.size());
        let scene = Scene::new(name, world, vec![object.clone()], vec![object]);
        Scene { machine, operation: "download", request, ..scene }
    }

    fn command(&self) -> Command {
        self.world.agent_command(self.machine)
    }

    /// Plays it to its end under ptrace; returns what was answered, and whether it died as planned.
    fn play(&self, act: Act) -> (Option<Transfer>, bool) {
        let mut agent = FakeLfs::traced(self.command(), act);
        let answer = agent.attempt(self.operation, &self.request);
        if answer.is_some() {
            let _ = agent.try_send_raw(b"{\"event\":\"terminate\"}\n");
        }
        agent.close_stdin();
        agent.wait(PATIENCE).expect("an end");
        (answer, agent.tracee().has_acted())
    }

    /// The number of changes that it makes when nothing happens.
    fn changes(&self) -> usize {
        self.world.restore(&self.still);
        let mut agent = FakeLfs::traced(self.command(), Act::Watch);
        agent.attempt(self.operation, &self.request).expect("an answer").succeeded();
        let _ = agent.try_send_raw(b"{\"event\":\"terminate\"}\n");
        agent.wait(PATIENCE).expect("an end");
        agent.tracee().changes().iter().filter(|change| change.path.is_absolute()).count()
    }

    /// Kills it at every change of a file.
    fn die_at_every_change(&self, stride: usize) {
        let (all, mut tried) = (self.changes() * 2, 0);
        for (nth, when) in points(stride) {
            self.world.restore(&self.still);
            let (answer, died) = self.play(Act::Kill(nth, when));
            if !died {
                break;
            }
            println!("{}: killed {when:?} change {nth}", self.name);
            self.assert_survived(answer.as_ref());
            tried += 1;
        }
        println!("{}: {tried} of {all} points at changes of files", self.name);
        assert!(all > 20 && tried * stride * 2 >= all / 2, "{tried} of {all} were tried");
    }

    /// Kills it at every request to the S3 server.
    fn die_at_every_request(&self, stride: usize) {
        let mut tried = 0;
        for (nth, when) in points(stride) {
            self.world.restore(&self.still);
            let fault = if when == When::Before { Fault::Hang } else { Fault::HangAfter };
            self.world.server().fail(any().nth(nth), fault);
            let mut agent = FakeLfs::spawn(self.command());
            let Some(answer) = self.die_in_request(&mut agent, when) else { break };
            println!("{}: killed {when:?} request {nth}", self.name);
            self.world.server().heal();
            self.assert_survived(answer.as_ref());
            tried += 1;
        }
        println!("{}: {tried} points at requests", self.name);
        assert!(tried > 2, "only {tried} were tried");
    }

    /// Kills an agent in the request that hangs; `None` if there was none.
    fn die_in_request(&self, agent: &mut FakeLfs, when: When) -> Option<Option<Transfer>> {
        let hangs = || {
            let is_done = |status| when == When::Before || status > 0;
            let calls = self.world.server().calls();
            calls.iter().any(|call| call.fault.is_some() && is_done(call.status))
        };
        let pid = agent.pid();
        let answer = std::thread::scope(|scope| {
            let playing = scope.spawn(|| agent.attempt(self.operation, &self.request));
            assert!(wait_until(PATIENCE, || hangs() || playing.is_finished()), "{}: hangs", self.name);
            signal("KILL", &pid.to_string());
            playing.join().expect("a transfer")
        });
        agent.wait(PATIENCE).expect("an end");
        hangs().then_some(answer)
    }

    // ---- afterwards

    fn assert_survived(&self, answer: Option<&Transfer>) {
        let was_acknowledged = answer.is_some_and(|transfer| transfer.error().is_none());
        if let Some(transfer) = answer.filter(|_| !was_acknowledged) {
            panic!("{}: an error nobody made: {transfer:?}", self.name);
        }
        let asked = self.objects.last().expect("an object");
        let mut cold = self.world.start("cold", "download");
        for object in &self.acknowledged {
            fetch(&mut cold, object).expect("what was acknowledged");
        }
        match fetch(&mut cold, asked) {
            Ok(()) => {}
            Err(code) => assert!(!was_acknowledged && code == 5003, "{}: E{code}", self.name),
        }
        self.play_again();
        for object in &self.objects {
            fetch(&mut cold, object).expect("what was stored after all");
            let copies = self.world.keys(&object.folder());
            assert!(copies.len() <= 2, "{}: more than one is left over: {copies:?}", self.name);
        }
        cold.terminate();
        self.assert_swept();
    }

    /// The same request once more, by a process that sweeps what the dead one left.
    fn play_again(&self) {
        let mut command = self.command();
        command.env("LFS_DELTA_LEFTOVER_AGE", "0ms");
        let mut agent = FakeLfs::spawn(command);
        let transfer = agent.attempt(self.operation, &self.request).expect("an answer").succeeded();
        if self.operation == "download" {
            let object = self.objects.last().expect("an object");
            assert!(take(&transfer.path()) == object.bytes, "{}: other bytes", self.name);
        }
        agent.terminate();
    }

    fn assert_swept(&self) {
        let left = self.world.temporary_files(self.machine);
        assert!(left.is_empty(), "{}: left behind: {left:?}", self.name);
    }
}

/// Reads a downloaded file and takes it away, as git-lfs does.
fn take(path: &Path) -> Vec<u8> {
    let bytes = fs::read(path).expect("a downloaded file");
    fs::remove_file(path).expect("a downloaded file");
    bytes
}

/// Downloads an object; fails the test if other bytes come, returns the code of an error.
fn fetch(agent: &mut FakeLfs, object: &Object) -> Result<(), i64> {
    let transfer = agent.download(&object.oid, object.size());
    if let Some(code) = transfer.code() {
        return Err(code);
    }
    assert!(take(&transfer.path()) == object.bytes, "other bytes came for {}", object.oid);
    Ok(())
}

// ---- the scenes

fn worlds() -> [World; 2] {
    [World::on_directory(), World::on_s3()]
}

/// A first object: `text` is packed first, what looks random is stored as it is.
fn push_full(world: World, bytes: Vec<u8>) -> Scene {
    let object = world.commit("file.bin", bytes);
    Scene::new("push-full", world, Vec::new(), vec![object])
}

/// A second version, on a first one that is stored.
fn push_delta(world: World) -> Scene {
    let bodies = versions(71, 20_000, 2);
    let first = world.pushed(bodies[..1].to_vec());
    let second = world.commit("file.bin", bodies[1].clone());
    Scene::new("push-delta", world, first, vec![second])
}

/// The third of three versions none of which is stored: the others go before it.
fn push_history(world: World) -> Scene {
    let objects = versions(72, 20_000, 3).into_iter().map(|bytes| world.commit("file.bin", bytes)).collect();
    Scene::new("push-history", world, Vec::new(), objects)
}

/// A chain of three copies by a machine that has nothing.
fn pull_cold(world: World) -> Scene {
    let object = world.pushed(versions(73, 20_000, 3)).remove(2);
    world.add_machine("b");
    Scene::pull("pull-cold", world, "b", object)
}

/// A delta by a machine that has its base.
fn pull_warm(world: World) -> Scene {
    let mut objects = world.pushed(versions(74, 20_000, 2));
    world.add_machine("b");
    world.pull("b", &objects[0]);
    Scene::pull("pull-warm", world, "b", objects.remove(1))
}

#[test]
fn a_push_of_a_whole_copy_dies_at_any_change_of_a_file() {
    push_full(World::on_directory(), text(70, 20_000)).die_at_every_change(7);
}

#[test]
fn a_push_of_a_raw_copy_dies_at_any_change_of_a_file() {
    push_full(World::on_directory(), noise(70, 20_000)).die_at_every_change(7);
}

#[test]
fn a_push_of_a_delta_dies_at_any_change_of_a_file() {
    worlds().map(push_delta).iter().for_each(|scene| scene.die_at_every_change(7));
}

#[test]
fn a_push_of_a_history_dies_at_any_change_of_a_file() {
    worlds().map(push_history).iter().for_each(|scene| scene.die_at_every_change(11));
}

#[test]
fn a_cold_pull_dies_at_any_change_of_a_file() {
    worlds().map(pull_cold).iter().for_each(|scene| scene.die_at_every_change(7));
}

#[test]
fn a_warm_pull_dies_at_any_change_of_a_file() {
    worlds().map(pull_warm).iter().for_each(|scene| scene.die_at_every_change(7));
}

/// Buckets of services that honour conditional writes, and of those that do not.
fn buckets() -> [World; 2] {
    let without = World::on_s3();
    without.server().ignore_conditions();
    [World::on_s3(), without]
}

#[test]
fn a_push_of_a_whole_copy_dies_in_any_request() {
    buckets()
        .map(|world| push_full(world, text(75, 20_000)))
        .iter()
        .for_each(|scene| scene.die_at_every_request(1));
}

#[test]
fn a_push_of_a_delta_dies_in_any_request() {
    buckets().map(push_delta).iter().for_each(|scene| scene.die_at_every_request(1));
}

#[test]
fn a_push_of_a_history_dies_in_any_request() {
    buckets().map(push_history).iter().for_each(|scene| scene.die_at_every_request(2));
}

#[test]
fn a_cold_pull_dies_in_any_request() {
    buckets().map(pull_cold).iter().for_each(|scene| scene.die_at_every_request(1));
}

#[test]
fn a_push_in_parts_dies_in_any_request() {
    let scene = push_full(World::on_s3(), noise(76, 1 << 20).repeat(65));
    scene.die_at_every_request(4);
}

// ---- init

/// Runs `init` in a fresh repository under ptrace; returns whether it died.
fn init_dies(world: &World, act: Act) -> bool {
    let mut command = world.sandbox.command(world.sandbox.agent_path(), "repo");
    command.args(["init", &world.url]).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let (tracee, _child) = Tracee::start(command, act);
    assert!(wait_until(PATIENCE, || tracee.status().is_some()), "init hangs");
    tracee.has_acted()
}

fn init_dies_at_every_change(world: &World) {
    world.remove("lfs-delta.json");
    world.sandbox.init_repo("repo");
    let still = world.still();
    let mut tried = 0;
    for (nth, when) in points(3) {
        world.restore(&still);
        if !init_dies(world, Act::Kill(nth, when)) {
            break;
        }
        println!("init of {}: killed {when:?} change {nth}", world.url);
        world.sandbox.lfs_delta("repo", &["init", &world.url]);
        let object = Object::new(noise(77, 5000));
        let path = world.sandbox.write("file", &object.bytes);
        let mut agent = FakeLfs::start(&world.sandbox, "repo").accepted("upload");
        agent.upload(&object.oid, object.size(), &path).succeeded();
        fetch(&mut agent, &object).expect("what was stored");
        agent.terminate();
        tried += 1;
    }
    println!("init of {}: {tried} points at changes of files", world.url);
}

#[test]
fn init_dies_at_any_change_of_a_file() {
    for world in worlds() {
        init_dies_at_every_change(&world);
    }
}
