//! Commands by hand die: `put` and `get` of a store and of a DeltaSpace, `init` and `install`.
//!
//! After each death, with no step by hand: what was said to be stored comes back on another machine; what was not is
//! there or missing, and never damaged; a file that was to be written is whole or not there; the same command works.

use std::fs;
use std::io::Read as _;
use std::path::Path;
use std::process::{Command, Stdio};

use super::{World, buckets, points, worlds};
use crate::scene::{PATIENCE, fetch};
use crate::space::{self, World as Space};
use crate::support::data::{noise, versions};
use crate::support::fake_lfs::FakeLfs;
use crate::support::run::{Ran, Running, run, wait_until};
use crate::support::s3::{Fault, S3Server, any};
use crate::support::sandbox::{Sandbox, Still, files_below};
use crate::support::trace::{Act, Tracee, When};
use crate::world::Object;

/// A command, and where it is typed.
struct Hand<'a> {
    name: &'a str,
    sandbox: &'a Sandbox,
    server: Option<&'a S3Server>,
    place: &'a str,
    arguments: &'a [&'a str],
}

impl Hand<'_> {
    fn command(&self) -> Command {
        let mut command = self.sandbox.command(self.sandbox.agent_path(), self.place);
        command.args(self.arguments);
        command
    }

    /// Runs it under ptrace; returns whether it said a line, and whether it died as planned.
    fn play(&self, act: Act) -> (bool, bool) {
        let mut command = self.command();
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
        let (tracee, mut child) = Tracee::start(command, act);
        assert!(wait_until(PATIENCE, || tracee.status().is_some()), "{} hangs", self.name);
        let mut said = Vec::new();
        child.stdout.take().expect("a pipe").read_to_end(&mut said).expect("what it said");
        (said.ends_with(b"\n"), tracee.has_acted())
    }

    /// The number of changes that it makes when nothing happens, and those of them that are below `out`, where users look.
    fn changes(&self) -> (usize, Vec<usize>) {
        let mut command = self.command();
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let (tracee, _child) = Tracee::start(command, Act::Watch);
        assert!(wait_until(PATIENCE, || tracee.status().is_some()), "{} hangs", self.name);
        let changes = tracee.changes();
        let paths: Vec<_> =
            changes.iter().map(|change| &change.path).filter(|path| path.is_absolute()).collect();
        let is_shown = |path: &Path| path.iter().any(|part| part == "out");
        (paths.len(), (1..).zip(&paths).filter(|(_, path)| is_shown(path)).map(|(nth, _)| nth).collect())
    }

    /// Kills it at every change of a file, or at some and all that users would see. After each death, and once more after
    /// the same command, `check` looks whether all is well; it is told whether the command said that it had done its work.
    fn die_at_every_change(&self, stride: usize, check: &dyn Fn(bool)) {
        let still = (Still::of(self.sandbox.root()), self.server.map(S3Server::still));
        let (all, shown) = self.changes();
        let shown = shown.into_iter().flat_map(|nth| [(nth, When::Before), (nth, When::After)]);
        let mut tried = 0;
        for (nth, when) in shown.chain(points(stride).take_while(|(nth, _)| *nth <= all)) {
            still.0.restore();
            self.server.zip(still.1.as_ref()).into_iter().for_each(|(server, still)| server.restore(still));
            let (said, died) = self.play(Act::Kill(nth, when));
            if died {
                println!("{}: killed {when:?} change {nth}", self.name);
                self.assert_outlived(said, check);
                tried += 1;
            }
        }
        println!("{}: {tried} points at changes of files", self.name);
        assert!(tried > 0, "{}: none was tried", self.name);
    }

    /// Kills it at every request.
    fn die_at_every_request(&self, stride: usize, check: &dyn Fn(bool)) {
        let server = self.server.expect("a server");
        let still = (Still::of(self.sandbox.root()), server.still());
        let mut tried = 0;
        for (nth, when) in points(stride) {
            still.0.restore();
            server.restore(&still.1);
            server.fail(any().nth(nth), if when == When::Before { Fault::Hang } else { Fault::HangAfter });
            let Some(ran) = self.die_in_request(server, when) else { break };
            server.heal();
            println!("{}: killed {when:?} request {nth}", self.name);
            self.assert_outlived(ran.out.ends_with(b"\n"), check);
            tried += 1;
        }
        println!("{}: {tried} points at requests", self.name);
        assert!(tried > 0, "{}: none was tried", self.name);
    }

    /// Kills it in the request that hangs; `None` if there was none.
    fn die_in_request(&self, server: &S3Server, when: When) -> Option<Ran> {
        let is_done = |status| when == When::Before || status > 0;
        let hangs = || server.calls().iter().any(|call| call.fault.is_some() && is_done(call.status));
        let mut command = self.command();
        command.stdin(Stdio::null());
        let mut running = Running::start(command);
        assert!(wait_until(PATIENCE, || hangs() || !running.is_running()), "{} hangs", self.name);
        let died = hangs();
        running.signal("KILL");
        let ran = running.finish(PATIENCE);
        died.then_some(ran)
    }

    fn assert_outlived(&self, said: bool, check: &dyn Fn(bool)) {
        check(said);
        let mut again = self.command();
        again.env("LFS_DELTA_LEFTOVER_AGE", "0ms");
        run(again).succeeded();
        check(true);
    }
}

// ---- a store of objects

/// Fails the test unless an object that was put comes back, or is missing and was never said to be stored.
fn assert_stored(world: &World, object: &Object, was_said: bool) {
    let mut cold = world.start("cold", "download");
    if let Err(code) = fetch(&mut cold, object) {
        assert!(!was_said && code == 5003, "E{code}");
    }
    cold.terminate();
    let copies = world.keys(&object.folder());
    assert!(copies.len() <= 2, "more than one is left over: {copies:?}");
}

/// The second version of a file is put, in a repository that has the first at its path.
fn put_dies(worlds: impl IntoIterator<Item = World>, die: impl Fn(&Hand<'_>, &dyn Fn(bool))) {
    for world in worlds {
        let bodies = versions(78, 20_000, 2);
        world.pushed(bodies[..1].to_vec());
        world.add_machine("cold");
        let object = Object::new(bodies[1].clone());
        world.sandbox.write("a/file.bin", &object.bytes);
        let hand = Hand {
            name: "put",
            sandbox: &world.sandbox,
            server: world.in_bucket(),
            place: "a",
            arguments: &["put", "file.bin", "--store", &world.url],
        };
        die(&hand, &|said| assert_stored(&world, &object, said));
    }
}

/// The second version of a file is fetched into a folder.
fn get_dies(worlds: impl IntoIterator<Item = World>, die: impl Fn(&Hand<'_>, &dyn Fn(bool))) {
    for world in worlds {
        let object = world.pushed(versions(79, 20_000, 2)).remove(1);
        world.add_machine("cold");
        fs::create_dir(world.sandbox.path("out")).expect("a folder");
        let hand = Hand {
            name: "get",
            sandbox: &world.sandbox,
            server: world.in_bucket(),
            place: "cold",
            arguments: &["get", &object.oid, "--store", &world.url, "-o", "../out/file", "--json"],
        };
        die(&hand, &|said| assert_written(&world.sandbox, &object.bytes, said));
    }
}

/// Fails the test unless `out/file` is whole, or not there and never said to be.
fn assert_written(sandbox: &Sandbox, bytes: &[u8], was_said: bool) {
    let files = files_below(&sandbox.path("out"));
    match files.get(std::path::Path::new("file")) {
        Some(file) => assert!(file == bytes, "other bytes"),
        None => assert!(!was_said, "{:?}", files.keys()),
    }
}

#[test]
fn put_dies_at_any_change_of_a_file() {
    put_dies(worlds(), |hand, check| hand.die_at_every_change(23, check));
}

#[test]
fn put_dies_in_any_request() {
    put_dies(buckets(), |hand, check| hand.die_at_every_request(3, check));
}

#[test]
fn get_dies_at_any_change_of_a_file() {
    get_dies(worlds(), |hand, check| hand.die_at_every_change(17, check));
}

#[test]
fn get_dies_in_any_request() {
    get_dies(buckets(), |hand, check| hand.die_at_every_request(3, check));
}

// ---- a DeltaSpace

/// A DeltaSpace of a service that honours conditional writes, and one of a service that does not.
fn space_buckets() -> [Space; 2] {
    let without = Space::on_s3();
    without.server().ignore_conditions();
    [Space::on_s3(), without]
}

/// Fetches a file on another machine.
fn get_elsewhere(space: &Space, name: &str) -> Ran {
    let mut command = space.sandbox.command(space.sandbox.agent_path(), "");
    command.args(["get", &space.url(name)]).env("LFS_DELTA_CACHE_DIR", space.sandbox.path("cache-elsewhere"));
    run(command)
}

/// The first and the second file of a DeltaSpace are put, one command each.
fn put_in_space_dies(spaces: impl Fn() -> [Space; 2], die: impl Fn(&Hand<'_>, &dyn Fn(bool))) {
    let files = space::versions(78, 2);
    for (name, others) in [("first", &files[..0]), ("second", &files[..1])] {
        for space in spaces() {
            others.iter().for_each(|bytes| drop(space.put("other", bytes)));
            let bytes = &files[others.len()];
            space.write("file", bytes);
            let hand = Hand {
                name: &format!("put of the {name} file of a DeltaSpace"),
                sandbox: &space.sandbox,
                server: space.in_bucket(),
                place: "files",
                arguments: &["put", "file", &space.url("")],
            };
            die(&hand, &|said| {
                let ran = get_elsewhere(&space, "file");
                if ran.status.success() {
                    assert!(ran.out == *bytes, "other bytes: {}", ran.stderr());
                } else {
                    assert!(!said && ran.code() == 4, "{}", ran.stderr());
                }
                others.iter().for_each(|bytes| assert!(get_elsewhere(&space, "other").out == *bytes));
            });
        }
    }
}

fn get_from_space_dies(spaces: impl Fn() -> [Space; 2], die: impl Fn(&Hand<'_>, &dyn Fn(bool))) {
    let files = space::versions(79, 2);
    for space in spaces() {
        space.put("other", &files[0]);
        space.put("file", &files[1]);
        space.move_away();
        fs::create_dir(space.sandbox.path("out")).expect("a folder");
        let hand = Hand {
            name: "get from a DeltaSpace",
            sandbox: &space.sandbox,
            server: space.in_bucket(),
            place: "",
            arguments: &["get", &space.url("file"), "-o", "out/file", "--json"],
        };
        die(&hand, &|said| assert_written(&space.sandbox, &files[1], said));
    }
}

#[test]
fn put_into_a_delta_space_dies_at_any_change_of_a_file() {
    put_in_space_dies(Space::both, |hand, check| hand.die_at_every_change(23, check));
}

#[test]
fn put_into_a_delta_space_dies_in_any_request() {
    put_in_space_dies(space_buckets, |hand, check| hand.die_at_every_request(5, check));
}

#[test]
fn get_from_a_delta_space_dies_at_any_change_of_a_file() {
    get_from_space_dies(Space::both, |hand, check| hand.die_at_every_change(17, check));
}

#[test]
fn get_from_a_delta_space_dies_in_any_request() {
    get_from_space_dies(space_buckets, |hand, check| hand.die_at_every_request(3, check));
}

// ---- setting up

/// Makes a store in a fresh repository, in which a push then works.
fn init_dies(worlds: impl IntoIterator<Item = World>, die: impl Fn(&Hand<'_>, &dyn Fn(bool))) {
    for world in worlds {
        world.remove("lfs-delta.json");
        world.sandbox.init_repo("repo");
        let hand = Hand {
            name: "init",
            sandbox: &world.sandbox,
            server: world.in_bucket(),
            place: "repo",
            arguments: &["init", &world.url],
        };
        die(&hand, &|said| {
            if said {
                assert_store_works(&world);
            }
        });
    }
}

fn assert_store_works(world: &World) {
    let object = Object::new(noise(77, 5000));
    let path = world.sandbox.write("file", &object.bytes);
    let mut agent = FakeLfs::start(&world.sandbox, "repo").accepted("upload");
    agent.upload(&object.oid, object.size(), &path).succeeded();
    fetch(&mut agent, &object).expect("what was stored");
    agent.terminate();
}

#[test]
fn init_dies_at_any_change_of_a_file() {
    init_dies(worlds(), |hand, check| hand.die_at_every_change(5, check));
}

#[test]
fn init_dies_in_any_request() {
    init_dies(buckets(), |hand, check| hand.die_at_every_request(2, check));
}

#[test]
fn install_dies_at_any_change_of_a_file() {
    let sandbox = Sandbox::new();
    let hand = Hand { name: "install", sandbox: &sandbox, server: None, place: "", arguments: &["install"] };
    hand.die_at_every_change(3, &|said| {
        let agent = sandbox.try_git("", &["config", "lfs.customtransfer.lfs-delta.args"]).stdout();
        assert!(!said || agent == "agent", "not installed: {agent:?}");
    });
    sandbox.lfs_delta("", &["uninstall"]);
    assert_eq!(sandbox.try_git("", &["config", "--get-regexp", "lfs-delta"]).stdout(), "");
}
