//! Transcripts with a scripted git-lfs: what real git-lfs never sends, and what it would not notice.
//!
//! The numbers in the headings are those of the conformance rules that `docs/protocol.md` section 1 rests on.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::support::data::{noise, oid, text, versions};
use crate::support::fake_lfs::{FakeLfs, Transfer, download_event, upload_event};
use crate::support::run::wait_until;
use crate::support::s3::{Fault, Kind, S3Server, any, on};
use crate::support::sandbox::{Sandbox, files_below};
use crate::support::trace::Act;
use crate::world::{Object, World, assert_report};

/// Far more than the second that an agent has to end, far less than any time-out of the network.
const PROMPTLY: Duration = Duration::from_secs(15);

/// Ends the input and returns all that still comes out, until the agent has closed its output.
fn rest(agent: &mut FakeLfs) -> Vec<Value> {
    agent.close_stdin();
    std::iter::from_fn(|| agent.answer_within(PROMPTLY)).collect()
}

// ---- 1, 2: init

#[test]
fn init_is_answered_without_repository_store_network_or_credentials() {
    let server = S3Server::start();
    server.fail(any().forever(), Fault::Hang);
    let mut sandbox = Sandbox::new();
    sandbox.unset("AWS_EC2_METADATA_DISABLED");
    sandbox.set("AWS_EC2_METADATA_SERVICE_ENDPOINT", &server.endpoint.url);
    sandbox.set("HOME", "/nonexistent").unset("XDG_CACHE_HOME").unset("XDG_STATE_HOME");
    let store = server.endpoint.store_url("x");
    for operation in ["upload", "download"] {
        for args in [vec!["agent"], vec!["agent", "--store", &store], vec!["agent", "--store", "nonsense"]] {
            let mut agent = FakeLfs::start_with(&sandbox, "", &args, &[]);
            assert_eq!(agent.init(operation), json!({}), "{args:?}");
            agent.terminate();
        }
    }
    assert_eq!(server.calls().summary(), "", "init has asked the network");
}

#[test]
fn a_wrong_setting_is_told_of_each_object_by_every_worker_alike() {
    let world = World::on_directory();
    world.sandbox.git("a", &["config", "lfs.url", "https://example.invalid/info/lfs"]);
    let (object, path) = world.local("bytes");
    let workers: Vec<_> = (0..3).map(|_| FakeLfs::start(&world.sandbox, "a").accepted("upload")).collect();
    let messages: Vec<_> = workers
        .into_iter()
        .map(|mut worker| {
            let message = worker.upload(&object.oid, object.size(), &path).failed();
            worker.terminate();
            message
        })
        .collect();
    assert_report(&messages[0], "E1003", &["lfs.url", "https://example.invalid/info/lfs", "lfs-delta init"]);
    assert!(messages.iter().all(|message| *message == messages[0]), "{messages:?}");
}

#[test]
fn a_second_init_changes_the_direction_and_keeps_the_agent() {
    let world = World::on_directory();
    let (object, path) = world.local("bytes");
    let mut agent = world.start("a", "upload");
    agent.upload(&object.oid, object.size(), &path).succeeded();
    assert_eq!(agent.init("download"), json!({}));
    agent.download(&object.oid, object.size()).succeeded();
    agent.terminate();
}

#[test]
fn an_idle_agent_takes_at_most_20_mib() {
    let world = World::on_directory();
    let agent = world.start("a", "upload");
    let memory = agent.memory_kib();
    println!("memory of an idle agent: {memory} KiB");
    assert!(memory <= 20 * 1024, "{memory} KiB");
    agent.terminate();
}

#[test]
fn the_time_from_start_to_init_is_measured() {
    let world = World::on_directory();
    let mut times: Vec<Duration> = (0..20)
        .map(|_| {
            let started = Instant::now();
            let agent = world.start("a", "upload");
            let took = started.elapsed();
            agent.terminate();
            took
        })
        .collect();
    times.sort();
    println!("process start to the answer to init: median {:?}, worst {:?}", times[10], times[19]);
}

// ---- 3, 6, 7: lines

#[test]
fn lines_that_nobody_could_answer_are_passed_over() {
    let world = World::on_directory();
    let (object, path) = world.local("bytes");
    let mut agent = world.start("a", "upload");
    let garbage: [&[u8]; 12] = [
        b"\n",
        b"\r\n",
        b"   \n",
        b"garbage\n",
        b"{\n",
        b"\xff\xfe\x00\n",
        b"\xef\xbb\xbf{}\n",
        b"[]\n",
        b"null\n",
        b"{\"event\":7}\n",
        b"{\"event\":\"later\",\"oid\":\"x\"}\n",
        b"{\"event\":\"upload\"}\n",
    ];
    for line in garbage {
        agent.send_raw(line);
        // Its answers follow at once: nothing was said about the line before.
        agent.upload(&object.oid, object.size(), &path).succeeded();
    }
    agent.send_raw(&garbage.concat());
    assert_eq!(rest(&mut agent), [] as [Value; 0]);
}

#[test]
fn fields_may_be_missing_unknown_or_null_and_lines_may_end_in_crlf() {
    let world = World::on_directory();
    let (object, path) = world.local("bytes");
    let (oid, path) = (&object.oid, path.display());
    let mut agent = FakeLfs::spawn(world.agent_command("a"));
    for init in
        ["{\"event\":\"init\"}\r\n", "{\"event\":\"init\",\"operation\":null,\"new\":[{}],\"remote\":null}\n"]
    {
        agent.send_raw(init.as_bytes());
        assert_eq!(agent.answer(), json!({}));
    }
    for request in [
        format!(
            "{{\"event\":\"upload\",\"oid\":\"{oid}\",\"size\":5,\"path\":\"{path}\",\"action\":null}}\r\n"
        ),
        format!("{{\"event\":\"upload\",\"oid\":\"{oid}\",\"size\":5,\"path\":\"{path}\"}}\n"),
        format!(
            "  {{\"path\":\"{path}\",\"size\":5, \"x\":{{\"y\":[1.5]}},\"oid\":\"{oid}\",\"event\":\"upload\"}}\n"
        ),
        format!(
            "{{\"event\":\"download\",\"oid\":\"{oid}\",\"size\":5,\"action\":{{\"href\":\"http://x\"}}}}\n"
        ),
    ] {
        agent.send_raw(request.as_bytes());
        agent.transfer(oid).succeeded();
    }
    agent.terminate();
}

#[test]
fn a_line_of_a_megabyte_and_escapes_of_go_are_read() {
    let world = World::on_directory();
    let object = Object::new("bytes");
    let path = world.sandbox.write("odd <&> é\u{2028}/object", &object.bytes);
    let escaped = path.to_str().expect("text").replace('<', "\\u003c").replace('>', "\\u003e");
    let escaped = escaped.replace('&', "\\u0026").replace('\u{2028}', "\\u2028");
    let mut agent = world.start("a", "upload");
    let (oid, filler) = (&object.oid, "x".repeat(1 << 20));
    agent.send_raw(
        format!("{{\"event\":\"upload\",\"new\":\"{filler}\",\"oid\":\"{oid}\",\"size\":5,\"path\":\"{escaped}\"}}\n")
            .as_bytes(),
    );
    agent.transfer(oid).succeeded();
    agent.terminate();
}

#[test]
fn a_line_may_arrive_in_pieces() {
    let world = World::on_directory();
    let (object, path) = world.local("bytes");
    let mut agent = world.start("a", "upload");
    let line = format!("{}\n", upload_event(&object.oid, object.size(), &path));
    for piece in line.as_bytes().chunks(7) {
        agent.send_raw(piece);
    }
    agent.transfer(&object.oid).succeeded();
    agent.terminate();
}

#[test]
fn stdout_carries_nothing_but_the_protocol_however_much_is_traced() {
    let world = World::on_s3();
    let (object, path) = world.local("bytes");
    let mut command = world.agent_command("a");
    command.envs([("LFS_DELTA_LOG", "trace"), ("RUST_LOG", "trace"), ("RUST_BACKTRACE", "full")]);
    command.envs([("GIT_TRACE", "1"), ("GIT_TRANSFER_TRACE", "1"), ("GIT_TRACE2", "1")]);
    // `FakeLfs` refuses any line that is not one JSON object.
    let mut agent = FakeLfs::spawn(command).accepted("upload");
    // What a library would print goes where stderr goes.
    let target = |fd: u8| fs::read_link(format!("/proc/{}/fd/{fd}", agent.pid())).expect("a descriptor");
    assert_eq!(target(1), target(2));
    agent.upload(&object.oid, object.size(), &path).succeeded();
    agent.upload("bad", 1, &path).failed();
    assert_eq!(rest(&mut agent), [] as [Value; 0]);
}

// ---- 4, 5, 33: one answer for each request

#[test]
fn each_request_gets_one_answer_of_its_own_and_failures_do_not_end_the_agent() {
    let world = World::on_directory();
    let (good, path) = world.local("good");
    let (damaged, damaged_path) = world.local("damaged");
    fs::write(&damaged_path, "DAMAGED").expect("write");
    let missing = oid(b"nowhere");
    let mut agent = world.start("a", "upload");
    let steps: [(Value, Option<i64>); 8] = [
        (upload_event(&damaged.oid, 7, &damaged_path), Some(5001)),
        (upload_event(&good.oid, good.size(), &path), None),
        (upload_event(&missing, 7, Path::new("/nowhere")), Some(5002)),
        (download_event(&missing, 7), Some(5003)),
        (download_event(&good.oid, good.size()), None),
        (upload_event("../../etc/passwd", 7, &path), Some(1008)),
        (download_event(&good.oid.to_uppercase(), 4), Some(1008)),
        (upload_event(&good.oid, good.size(), &path), None),
    ];
    // All at once: git-lfs never does, and nothing may be mixed up then either.
    let lines: String = steps.iter().map(|(event, _)| format!("{event}\n")).collect();
    agent.send_raw(lines.as_bytes());
    for (event, code) in steps {
        let transfer = agent.transfer(event["oid"].as_str().expect("an oid"));
        assert_eq!(transfer.code(), code, "{event}: {transfer:?}");
        assert_eq!(transfer.progress[0]["bytesSoFar"], 1, "the first byte comes first: {event}");
        if let (Some(code), Some(message)) = (code, transfer.error()) {
            assert_report(message, &format!("E{code:04}"), &[]);
        }
    }
    assert_eq!(rest(&mut agent), [] as [Value; 0]);
}

/// Where the machine gives no thread git cannot be asked, and what one has to ask git for fails; all else is done by one.
#[test]
fn a_machine_that_refuses_threads_is_no_reason_to_panic() {
    for world in [World::on_directory(), World::on_s3()] {
        let objects = world.pushed(versions(18, 20_000, 3));
        world.add_machine("b");
        let (next, path) = world.local(noise(19, 10_000));
        let mut agent = FakeLfs::traced(world.agent_command("b"), Act::Watch).accepted("upload");
        let tracee = agent.tracee().clone();
        tracee.refuse_threads(true);
        assert_report(&agent.upload(&next.oid, next.size(), &path).failed(), "E1001", &["git"]);
        tracee.refuse_threads(false);
        agent.upload(&next.oid, next.size(), &path).succeeded();
        assert_eq!(agent.init("download"), json!({}));
        let [_, _, last] = &objects[..] else { panic!("three versions") };
        tracee.refuse_threads(true);
        let file = agent.download(&last.oid, last.size()).succeeded().path();
        assert!(fs::read(file).expect("a file") == last.bytes);
        assert_eq!(rest(&mut agent), [] as [Value; 0]);
        assert!(agent.wait(PROMPTLY).expect("an end").success());
        assert_eq!(agent.stderr(), "");
    }
}

/// The runtime of the client of S3 panics where the machine gives it no thread.
#[test]
fn a_panic_is_the_answer_to_its_request_and_the_agent_goes_on() {
    let world = World::on_s3();
    let object = world.pushed(vec![noise(18, 20_000)]).remove(0);
    world.add_machine("b");
    let here = Object::new("here");
    world.sandbox.write(world.local_path("b", &here), &here.bytes);
    let mut agent = FakeLfs::traced(world.agent_command("b"), Act::Watch).accepted("download");
    let tracee = agent.tracee().clone();
    // For this one git is asked, and not the service.
    fs::remove_file(agent.download(&here.oid, here.size()).succeeded().path()).expect("a file");
    tracee.refuse_threads(true);
    assert_report(&agent.download(&object.oid, object.size()).failed(), "E9001", &["thread"]);
    assert_eq!(world.temporary_files("b"), [] as [PathBuf; 0], "left behind");
    tracee.refuse_threads(false);
    let file = agent.download(&object.oid, object.size()).succeeded().path();
    assert!(fs::read(file).expect("a file") == object.bytes);
    assert_eq!(rest(&mut agent), [] as [Value; 0]);
    assert!(agent.wait(PROMPTLY).expect("an end").success());
    assert_eq!(agent.stderr(), "");
}

#[test]
fn an_oid_that_is_none_is_answered_as_it_was_sent_and_touches_nothing() {
    let world = World::on_directory();
    let (_, path) = world.local("bytes");
    let before = files_below(world.sandbox.root());
    let mut agent = world.start("a", "upload");
    for odd in
        ["", "x", "../../../../etc/passwd", "é", &"0".repeat(63), &"A".repeat(64), &"0".repeat(100_000)]
    {
        let message = agent.upload(odd, 5, &path).failed();
        assert_report(&message, "E1008", &["oid"]);
        assert!(message.len() < 500, "{} bytes of message", message.len());
    }
    agent.terminate();
    let mut after = files_below(world.sandbox.root());
    after.retain(|path, _| path.extension().is_none_or(|extension| extension != "log"));
    assert_eq!(after.keys().collect::<Vec<_>>(), before.keys().collect::<Vec<_>>());
}

// ---- 8: messages

#[test]
fn neither_messages_nor_logs_carry_secrets() {
    let mut world = World::on_s3();
    let secret = world.server().endpoint.secret_key.clone();
    world.sandbox.set("LFS_DELTA_LOG", "trace").set("AWS_SESSION_TOKEN", "token-never-to-be-printed");
    let (object, _) = world.local(noise(1, 10_000));
    world.server().fail(on(Kind::Put).forever(), Fault::access_denied());
    let message = world.upload(&object).failed();
    assert_report(&message, "E3001", &[&object.oid]);
    let logs = files_below(&world.sandbox.path("home/.local/state/lfs-delta/logs"));
    assert!(!logs.is_empty(), "no log file");
    let logs: String = logs.values().map(|log| String::from_utf8_lossy(log).into_owned()).collect();
    assert!(logs.contains(&object.oid), "nothing of the transfer in the log:\n{logs}");
    for word in [secret.as_str(), "token-never-to-be-printed", "user:password", "Authorization"] {
        assert!(!message.contains(word), "{word} in {message}");
        assert!(!logs.contains(word), "{word} in the log");
    }
}

// ---- 9: the end

#[test]
fn terminate_and_the_end_of_input_end_an_idle_agent_cleanly() {
    let world = World::on_directory();
    let (object, path) = world.local("bytes");
    for (sent, with_transfer) in [("{\"event\":\"terminate\"}\n", false), ("", false), ("", true)] {
        let mut agent = world.start("a", "upload");
        if with_transfer {
            agent.upload(&object.oid, object.size(), &path).succeeded();
        }
        agent.send_raw(sent.as_bytes());
        if sent.is_empty() {
            agent.close_stdin();
        }
        let status = agent.wait(PROMPTLY).expect("an end");
        assert!(status.success(), "{status}");
        assert_eq!(agent.stderr(), "");
        assert_eq!(fs::read_dir(world.sandbox.path("a/.git/lfs/tmp")).map_or(0, Iterator::count), 0);
    }
}

#[test]
fn an_agent_that_was_never_spoken_to_ends_with_its_input() {
    let world = World::on_directory();
    let mut agent = FakeLfs::spawn(world.agent_command("a"));
    assert_eq!(rest(&mut agent), [] as [Value; 0]);
    assert!(agent.wait(PROMPTLY).expect("an end").success());
}

#[test]
fn a_closed_output_ends_the_agent_without_a_panic() {
    let world = World::on_directory();
    let (object, path) = world.local("bytes");
    let mut agent = world.start("a", "upload");
    agent.close_stdout();
    for _ in 0..3 {
        // It may be gone after the first.
        let _ = agent.try_send_raw(format!("{}\n", upload_event(&object.oid, 5, &path)).as_bytes());
    }
    assert!(agent.wait(PROMPTLY).is_some(), "an agent that nobody listens to goes on");
    assert_eq!(agent.stderr(), "");
    assert!(world.temporary_files("a").is_empty());
}

// ---- 10, 11: cancelling

/// How git-lfs goes away.
#[derive(Clone, Copy, Debug)]
enum Away {
    InputEnds,
    Signal(&'static str),
}

impl Away {
    fn from(self, agent: &mut FakeLfs) {
        match self {
            Away::InputEnds => agent.close_stdin(),
            Away::Signal(name) => agent.signal(name),
        }
    }
}

/// Lets the first request of a kind hang in a transfer, goes away, and checks that nothing is left.
fn leave_during(kind: Kind, event: impl Fn(&World) -> Value, away: Away) {
    let world = World::on_s3();
    let event = event(&world);
    let before = world.keys("");
    let mut agent = world.start("a", "upload");
    world.server().fail(on(kind).key("objects/").forever(), Fault::Hang);
    agent.send(&event);
    world.server().wait_for(|calls| calls.iter().any(|call| call.fault.is_some()));
    let started = Instant::now();
    away.from(&mut agent);
    assert!(agent.wait(PROMPTLY).is_some(), "{kind:?}, {away:?}: still there");
    println!("{kind:?}, {away:?}: gone after {:?}", started.elapsed());
    assert_eq!(agent.stderr(), "");
    assert_eq!(fs::read_dir(world.sandbox.path("a/.git/lfs/tmp")).map_or(0, Iterator::count), 0, "{kind:?}");
    let stored: Vec<_> = world.keys("").into_iter().filter(|key| !key.starts_with("repos/")).collect();
    assert_eq!(stored, before, "{kind:?}, {away:?}");
    assert_eq!(world.server().open_uploads(), [] as [String; 0]);
}

fn an_upload(world: &World) -> Value {
    let (object, path) = world.local(noise(1, 100_000));
    upload_event(&object.oid, object.size(), &path)
}

/// A stored object that is not at hand.
fn a_download(world: &World) -> Value {
    let object = Object::new(noise(2, 100_000));
    world.put(&format!("{}full.{}", object.folder(), "0".repeat(32)), &object.bytes);
    download_event(&object.oid, object.size())
}

#[test]
fn the_end_of_input_cancels_a_hanging_listing() {
    leave_during(Kind::List, an_upload, Away::InputEnds);
}

#[test]
fn the_end_of_input_cancels_a_hanging_upload() {
    leave_during(Kind::Put, an_upload, Away::InputEnds);
}

#[test]
fn the_end_of_input_cancels_a_hanging_download() {
    leave_during(Kind::Get, a_download, Away::InputEnds);
}

#[test]
fn sigint_cancels_a_hanging_upload() {
    leave_during(Kind::Put, an_upload, Away::Signal("INT"));
}

#[test]
fn sigterm_cancels_a_hanging_download() {
    leave_during(Kind::Get, a_download, Away::Signal("TERM"));
}

#[test]
fn sighup_cancels_a_hanging_listing() {
    leave_during(Kind::List, an_upload, Away::Signal("HUP"));
}

#[test]
fn a_stalled_body_is_cancelled_too() {
    let world = World::on_s3();
    let event = a_download(&world);
    let mut agent = world.start("a", "download");
    world.server().fail(on(Kind::Get).key("objects/"), Fault::StallBody(1000));
    agent.send(&event);
    world.server().wait_for(|calls| calls.of(Kind::Get).bytes_out() >= 1000);
    agent.close_stdin();
    assert!(agent.wait(PROMPTLY).is_some());
    assert!(world.temporary_files("a").is_empty());
}

#[test]
fn a_cancelled_upload_in_parts_is_given_up_at_the_store() {
    let large = |world: &World| {
        // Over 64 MiB goes up in parts. Noise, so that it is not packed.
        let (object, path) = world.local(noise(3, 1 << 20).repeat(65));
        upload_event(&object.oid, object.size(), &path)
    };
    leave_during(Kind::PutPart, large, Away::InputEnds);
    leave_during(Kind::PutPart, large, Away::Signal("INT"));
}

#[test]
fn work_that_cannot_be_interrupted_is_ended_by_force() {
    let world = World::on_directory();
    let object = Object::new("bytes");
    let copy = world.store_path(&format!("{}full.{}", object.folder(), "0".repeat(32)));
    fs::create_dir_all(copy.parent().expect("a folder")).expect("mkdir");
    // Opening a pipe that nobody writes to blocks in the kernel, as a dead network share does.
    let made = Command::new("mkfifo").arg(&copy).status().expect("mkfifo");
    assert!(made.success());
    let mut agent = world.start("a", "download");
    agent.send(&download_event(&object.oid, 0));
    assert_eq!(agent.answer()["bytesSoFar"], 1);
    agent.close_stdin();
    assert!(agent.wait(PROMPTLY).is_some(), "still there");
    assert!(world.temporary_files("a").is_empty());
}

#[test]
fn requests_behind_a_cancelled_one_are_not_begun() {
    let world = World::on_s3();
    let mut agent = world.start("a", "upload");
    world.server().fail(on(Kind::Put).key("objects/").forever(), Fault::Hang);
    let events: Vec<_> = (0..3).map(|seed| world.local(noise(seed, 10_000))).collect();
    for (object, path) in &events {
        agent.send(&upload_event(&object.oid, object.size(), path));
    }
    world.server().wait_for(|calls| calls.iter().any(|call| call.key.contains(&events[0].0.oid)));
    agent.close_stdin();
    assert!(agent.wait(PROMPTLY).is_some());
    for (object, _) in &events[1..] {
        let calls = world.server().calls();
        assert!(!calls.iter().any(|call| call.to_string().contains(&object.oid)), "{calls}");
    }
}

#[test]
fn a_killed_agent_leaves_the_store_whole_and_its_files_go_by_age() {
    let mut world = World::on_s3();
    let object = world.commit("file", text(4, 100_000));
    let mut agent = world.start("a", "upload");
    world.server().fail(on(Kind::Put).key("objects/"), Fault::Hang);
    agent.send(&upload_event(&object.oid, object.size(), &world.local_path("a", &object)));
    world.server().wait_for(|calls| calls.iter().any(|call| call.fault.is_some()));
    agent.kill();
    assert_eq!(world.keys("objects/"), [] as [String; 0]);
    let tmp = world.sandbox.path("a/.git/lfs/tmp");
    assert_eq!(fs::read_dir(&tmp).expect("a folder").count(), 1, "what a killed process leaves");
    world.push(&object);
    assert_eq!(fs::read_dir(&tmp).expect("a folder").count(), 1, "it is too young to be swept");
    world.sandbox.set("LFS_DELTA_LEFTOVER_AGE", "0ms");
    world.push(&object);
    assert_eq!(fs::read_dir(&tmp).expect("a folder").count(), 0, "it is old enough now");
}

#[test]
fn the_files_of_a_living_agent_are_never_swept() {
    let mut world = World::on_s3();
    world.sandbox.set("LFS_DELTA_LEFTOVER_AGE", "0ms");
    // Two copies, with names that differ from the first: agents that want one copy wait for each other.
    let [slowly, quickly] = [5, 6].map(|seed| Object::new(noise(seed, 400_000)));
    for (object, digit) in [(&slowly, "5"), (&quickly, "6")] {
        world.put(&format!("{}full.{}", object.folder(), digit.repeat(32)), &object.bytes);
    }
    world.add_machine("b");
    let mut slow = world.start("b", "download");
    world.server().fail(on(Kind::Get).key(&slowly.folder()), Fault::StallBody(300_000));
    slow.send(&download_event(&slowly.oid, slowly.size()));
    world.server().wait_for(|calls| calls.of(Kind::Get).bytes_out() >= 300_000);
    assert!(wait_until(PROMPTLY, || world.temporary_files("b").len() == 1));
    let mut quick = world.start("b", "download");
    let transfer = quick.download(&quickly.oid, quickly.size()).succeeded();
    assert_eq!(fs::read(transfer.path()).expect("a file"), quickly.bytes);
    assert_eq!(world.temporary_files("b").len(), 2);
    quick.terminate();
    assert_eq!(world.temporary_files("b").len(), 1, "only its own files go with an agent");
}

// ---- 15, 21: what is uploaded

#[test]
fn a_local_object_with_other_bytes_or_size_is_refused_and_nothing_is_stored() {
    let world = World::on_directory();
    let bytes = noise(6, 50_000);
    let changed: Vec<u8> = bytes.iter().rev().copied().collect();
    let longer = [&bytes[..], b"x"].concat();
    for wrong in [&changed[..], &bytes[..49_999], &longer, b""] {
        let (object, path) = world.local(bytes.clone());
        fs::write(&path, wrong).expect("write");
        let message = world.upload(&object).failed();
        let path = path.display().to_string();
        assert_report(&message, "E5001", &[&object.oid, &path, "git lfs fsck"]);
        assert_eq!(fs::read(&path).expect("read"), wrong, "the local object is not ours to change");
    }
    assert_eq!(world.keys("objects/"), [] as [String; 0]);
}

#[test]
fn a_size_that_is_not_the_objects_is_refused_both_ways() {
    let world = World::on_directory();
    let (object, path) = world.local(text(7, 50_000));
    let mut agent = world.start("a", "upload");
    for size in [0, 1, 49_999, 50_001, u64::MAX] {
        assert_report(&agent.upload(&object.oid, size, &path).failed(), "E5001", &[&object.oid]);
    }
    for size in ["-1", "1.5", "\"50000\"", "null"] {
        let (oid, path) = (&object.oid, path.display());
        let line =
            format!("{{\"event\":\"upload\",\"oid\":\"{oid}\",\"size\":{size},\"path\":\"{path}\"}}\n");
        agent.send_raw(line.as_bytes());
        assert_report(&agent.transfer(oid).failed(), "E5001", &[oid]);
    }
    assert_eq!(world.keys("objects/"), [] as [String; 0]);
    agent.upload(&object.oid, 50_000, &path).succeeded();
    agent.terminate();
    world.add_machine("b");
    for size in [0, 1, 49_999, 50_001, u64::MAX] {
        let other = Object { oid: object.oid.clone(), bytes: Vec::new() };
        let mut agent = world.start("b", "download");
        assert_report(&agent.download(&other.oid, size).failed(), "E5004", &[&world.copy(&object)]);
        agent.terminate();
        assert!(world.temporary_files("b").is_empty());
    }
}

#[test]
fn a_path_that_is_not_there_is_looked_for_in_git_lfs_own_folder() {
    let world = World::on_directory();
    let mut agent = world.start("a", "upload");
    for (seed, path) in
        ["\"/nowhere/\u{fffd}\"", "\"\"", "null", "7", "\"/\"", "\"relative\""].iter().enumerate()
    {
        let (object, _) = world.local(noise(seed as u64, 1000));
        let oid = &object.oid;
        let line = format!("{{\"event\":\"upload\",\"oid\":\"{oid}\",\"size\":1000,\"path\":{path}}}\n");
        agent.send_raw(line.as_bytes());
        agent.transfer(oid).succeeded();
        assert_eq!(world.get(&world.copy(&object)), object.bytes);
    }
    agent.terminate();
}

#[test]
fn a_symbolic_link_is_followed_and_stays_one() {
    let world = World::on_directory();
    let object = Object::new(noise(8, 5000));
    let real = world.sandbox.write("elsewhere/object", &object.bytes);
    let link = world.sandbox.path("link");
    symlink(&real, &link).expect("a link");
    let mut agent = world.start("a", "upload");
    agent.upload(&object.oid, object.size(), &link).succeeded();
    agent.terminate();
    assert_eq!(world.get(&world.copy(&object)), object.bytes);
    assert_eq!(fs::read_link(&link).expect("still a link"), real);
    assert_eq!(fs::read(&real).expect("read"), object.bytes);
}

#[test]
fn the_source_stays_as_it_was_in_content_and_rights() {
    let world = World::on_directory();
    let (object, path) = world.local(text(9, 100_000));
    fs::set_permissions(&path, fs::Permissions::from_mode(0o444)).expect("chmod");
    // Not its time: the cache links to it where it can, and notes there when it was wanted.
    let facts = || fs::metadata(&path).map(|data| (data.mode(), data.ino(), data.len()));
    let before = facts().expect("metadata");
    world.push(&object);
    assert_eq!(facts().expect("metadata"), before);
    assert_eq!(fs::read(&path).expect("read"), object.bytes);
}

#[test]
fn an_object_that_changes_while_it_is_sent_is_not_acknowledged() {
    let world = World::on_s3();
    let (object, path) = world.local(noise(10, 8 << 20));
    let mut agent = world.start("a", "upload");
    world.server().fail(on(Kind::Put).key("objects/"), Fault::Hang);
    agent.send(&upload_event(&object.oid, object.size(), &path));
    world.server().wait_for(|calls| calls.iter().any(|call| call.fault.is_some()));
    fs::write(&path, vec![7; 8 << 20]).expect("write");
    world.server().release();
    assert_report(&agent.transfer(&object.oid).failed(), "E5001", &[&object.oid]);
    agent.terminate();
    for key in world.keys(&object.folder()) {
        assert_eq!(oid(&world.get(&key)), object.oid, "wrong bytes were stored");
    }
}

// ---- 25, 26, 30: where downloads go

#[test]
fn a_download_is_a_new_file_in_a_folder_of_its_own_below_lfs_tmp() {
    let world = World::on_directory();
    let (object, _) = world.local(text(11, 20_000));
    world.push(&object);
    world.add_machine("b");
    let tmp = world.sandbox.path("b/.git/lfs/tmp");
    let mut agents: Vec<_> = (0..2).map(|_| world.start("b", "download")).collect();
    let paths: Vec<PathBuf> = agents
        .iter_mut()
        .flat_map(|agent| {
            [agent.download(&object.oid, 20_000).path(), agent.download(&object.oid, 20_000).path()]
        })
        .collect();
    for path in &paths {
        assert!(path.is_absolute() && path.starts_with(&tmp) && path.parent() != Some(&tmp), "{path:?}");
        assert!(fs::symlink_metadata(path).expect("a file").is_file());
        // git-lfs removes what is named like one of its objects at once.
        assert!(!path.file_name().expect("a name").to_string_lossy().starts_with(&object.oid));
        assert_eq!(fs::read(path).expect("a file"), object.bytes);
    }
    assert_eq!(paths.iter().collect::<std::collections::BTreeSet<_>>().len(), 4);
    assert!(!world.local_path("b", &object).exists(), "git-lfs puts objects there, nobody else");
    agents.into_iter().for_each(|agent| drop(agent.terminate()));
}

#[test]
fn a_download_has_the_rights_that_umask_or_the_repository_ask_for() {
    let world = World::on_directory();
    let (object, _) = world.local("bytes");
    world.push(&object);
    world.add_machine("b");
    let mode = |umask: &str| {
        let plain = world.agent_command("b");
        let mut command = world.sandbox.command("sh", "b");
        command.args(["-c", &format!("umask {umask}; exec \"$@\""), "sh"]);
        command.arg(plain.get_program()).args(plain.get_args());
        let mut agent = FakeLfs::spawn(command).accepted("download");
        let path = agent.download(&object.oid, 5).succeeded().path();
        let mode = fs::metadata(path).expect("a file").mode() & 0o777;
        agent.terminate();
        mode
    };
    assert_eq!((mode("022"), mode("077"), mode("002")), (0o644, 0o600, 0o664));
    world.sandbox.git("b", &["config", "core.sharedRepository", "group"]);
    assert_eq!(mode("077"), 0o660);
    world.sandbox.git("b", &["config", "core.sharedRepository", "0640"]);
    assert_eq!(mode("022"), 0o640);
}

/// Uploads without a path and downloads in a folder of some repository; the LFS folder must be `lfs`.
fn works_in(world: &World, dir: &str, lfs: &str) {
    let object = Object::new(noise(dir.len() as u64, 3000));
    let lfs = world.sandbox.path(lfs);
    let (oid, size) = (&object.oid, object.size());
    let path = lfs.join("objects").join(&oid[..2]).join(&oid[2..4]).join(oid);
    world.sandbox.write(&path, &object.bytes);
    let mut agent = FakeLfs::start_on(&world.sandbox, dir, &world.url).accepted("upload");
    agent.upload(oid, size, Path::new("/nowhere")).succeeded();
    agent.terminate();
    fs::remove_file(&path).expect("an object");
    let mut agent = FakeLfs::start_on(&world.sandbox, dir, &world.url).accepted("download");
    let downloaded = agent.download(oid, size).succeeded().path();
    let tmp = lfs.join("tmp").canonicalize().expect("a folder");
    assert!(downloaded.canonicalize().expect("a file").starts_with(&tmp), "{dir}: {downloaded:?}");
    assert_eq!(fs::read(&downloaded).expect("a file"), object.bytes, "{dir}");
    agent.terminate();
}

#[test]
fn every_kind_of_repository_and_folder_works() {
    let world = World::on_directory();
    let git = |dir: &str, args: &[&str]| drop(world.sandbox.git(dir, args));
    world.sandbox.commit_file("a", "deep/er/file", b"x");
    works_in(&world, "a", "a/.git/lfs");
    works_in(&world, "a/deep/er", "a/.git/lfs");
    works_in(&world, "a/.git", "a/.git/lfs");
    git("a", &["worktree", "add", "--quiet", "../tree", "-b", "tree"]);
    works_in(&world, "tree/deep", "a/.git/lfs");
    git("", &["init", "--quiet", "--bare", "bare.git"]);
    works_in(&world, "bare.git", "bare.git/lfs");
    git("", &["init", "--quiet", "--separate-git-dir", "apart.git", "apart"]);
    works_in(&world, "apart", "apart.git/lfs");
    git("", &["init", "--quiet", "odd 'quoted' \"é\" $HOME"]);
    works_in(&world, "odd 'quoted' \"é\" $HOME", "odd 'quoted' \"é\" $HOME/.git/lfs");
    git("", &["init", "--quiet", "outer"]);
    git("outer", &["submodule", "--quiet", "add", "../a", "inner"]);
    works_in(&world, "outer/inner/deep", "outer/.git/modules/inner/lfs");
    git("", &["init", "--quiet", "relative"]);
    git("relative", &["config", "lfs.storage", "../shared"]);
    works_in(&world, "relative", "relative/shared");
    git("", &["init", "--quiet", "absolute"]);
    git("absolute", &["config", "lfs.storage", world.sandbox.path("far/away").to_str().expect("text")]);
    works_in(&world, "absolute", "far/away");
}

#[test]
fn a_repository_in_a_folder_that_is_not_utf_8_uploads() {
    let world = World::on_directory();
    let odd = std::ffi::OsStr::new("odd-\u{1}");
    let dir = world.sandbox.path(<std::ffi::OsString as std::os::unix::ffi::OsStringExt>::from_vec(
        [odd.as_encoded_bytes(), b"\xff"].concat(),
    ));
    fs::create_dir(&dir).expect("a folder");
    world.sandbox.git(&dir, &["init", "--quiet"]);
    let object = Object::new(noise(12, 3000));
    let oid = &object.oid;
    world
        .sandbox
        .write(dir.join(".git/lfs/objects").join(&oid[..2]).join(&oid[2..4]).join(oid), &object.bytes);
    let mut agent = FakeLfs::start_on(&world.sandbox, &dir, &world.url).accepted("upload");
    // As git-lfs mangles it.
    agent.upload(oid, 3000, Path::new(&*dir.join(".git/lfs/objects").to_string_lossy())).succeeded();
    agent.terminate();
    assert_eq!(world.get(&world.copy(&object)), object.bytes);
}

// ---- 29: not there

#[test]
fn an_object_that_was_never_stored_is_named_with_where_it_was_looked_for() {
    for world in [World::on_directory(), World::on_s3()] {
        let object = Object::new("never stored");
        let message = world.cannot_pull(&object);
        let store = world.url.split('?').next().expect("a URL").trim_start_matches("file://");
        assert_report(&message, "E5003", &[&object.oid, &object.folder(), store, "--no-verify"]);
    }
}

// ---- 32: progress

/// Fails the test unless the progress is what git-lfs wants to see of an object of `size` bytes: where nothing was
/// counted, a step may be 0.
fn assert_progress(transfer: &Transfer, size: u64) {
    let (mut so_far, mut sum) = (0, 0);
    for event in &transfer.progress {
        let (now, step) = (&event["bytesSoFar"], &event["bytesSinceLast"]);
        let (now, step) = (now.as_u64().expect("an integer"), step.as_u64().expect("an integer"));
        assert!(now >= so_far && now <= size && step < 1 << 31, "{transfer:?}");
        sum += step;
        assert_eq!(now, sum, "the steps do not add up");
        so_far = now;
    }
    assert_eq!(transfer.progress[0]["bytesSoFar"], 1, "the gate is opened first");
    assert_eq!(so_far, size);
    let allowed = 3 + transfer.took.as_millis() as usize / 100;
    assert!(transfer.progress.len() <= allowed, "{} lines in {:?}", transfer.progress.len(), transfer.took);
}

#[test]
fn progress_begins_at_one_byte_rises_and_ends_at_the_size() {
    for world in [World::on_directory(), World::on_s3()] {
        world.add_machine("b");
        let mut bodies = versions(13, 3_000_000, 2);
        bodies.extend([text(14, 2_000_000), b"x".to_vec(), b"xy".to_vec()]);
        for bytes in bodies {
            let object = world.commit("file.bin", bytes);
            assert_progress(&world.upload(&object).succeeded(), object.size());
            // Already there.
            assert_progress(&world.upload(&object).succeeded(), object.size());
            let mut agent = world.start("b", "download");
            assert_progress(&agent.download(&object.oid, object.size()).succeeded(), object.size());
            // From the cache.
            assert_progress(&agent.download(&object.oid, object.size()).succeeded(), object.size());
            agent.terminate();
        }
    }
}

/// Lets an agent answer a request that is hindered until it has told a few lines though nothing was counted, and returns
/// all of its answer.
#[track_caller]
fn hindered(agent: &mut FakeLfs, let_go: impl FnOnce()) -> Transfer {
    let (mut told, mut repeated) = (Vec::new(), 0);
    while repeated < 3 {
        let event = agent.answer_within(PROMPTLY).expect("a line while the transfer is hindered");
        assert_eq!(event["event"], "progress", "not hindered");
        repeated += usize::from(event["bytesSinceLast"] == 0);
        told.push(event);
    }
    let_go();
    let oid = told[0]["oid"].as_str().expect("an oid").to_owned();
    let mut transfer = agent.transfer(&oid).succeeded();
    transfer.progress.splice(0..0, told);
    transfer
}

/// Fails the test unless the progress of a transfer that took long is right.
fn assert_progress_of_hindered(transfer: &Transfer, size: u64) {
    // The time until it went on is not counted.
    let took = transfer.took + PROMPTLY;
    assert_progress(&Transfer { took, ..transfer.clone() }, size);
}

#[test]
fn a_transfer_that_waits_for_the_store_tells_its_progress_all_the_time() {
    let world = World::on_s3();
    world.add_machine("b");
    let pushed = world.pushed(versions(18, 300_000, 1)).remove(0);
    let object = world.commit("file.bin", versions(18, 300_000, 2).remove(1));
    let server = world.server();
    for (machine, kind, object) in
        [("a", Kind::Put, &object), ("b", Kind::List, &pushed), ("b", Kind::Get, &object)]
    {
        server.fail(on(kind).key("objects"), Fault::Hang);
        let operation = if machine == "a" { "upload" } else { "download" };
        let mut agent = world.start(machine, operation);
        let request = match operation {
            "upload" => upload_event(&object.oid, object.size(), &world.local_path(machine, object)),
            _ => download_event(&object.oid, object.size()),
        };
        server.take_calls();
        agent.send(&request);
        server.wait_for(|calls| calls.iter().any(|call| call.fault.is_some()));
        let transfer = hindered(&mut agent, || server.release());
        assert_progress_of_hindered(&transfer, object.size());
        agent.terminate();
    }
}

/// Takes what lets agents of a machine encode and decode larger objects: they wait until it is dropped.
fn take_memory(world: &World, machine: &str) -> Vec<fs::File> {
    let folder =
        world.cached_path(machine, &Object::new("")).ancestors().nth(3).expect("a cache").join("slots");
    fs::create_dir_all(&folder).expect("a folder");
    let take = |index| {
        let file = fs::File::create(folder.join(format!("memory.{index}"))).expect("a slot");
        file.lock().expect("a free slot");
        file
    };
    (0..64).map(take).collect()
}

#[test]
fn a_transfer_that_waits_for_other_agents_tells_its_progress_all_the_time() {
    let world = World::on_directory();
    world.add_machine("b");
    let first = world.pushed(versions(19, 2_000_000, 1)).remove(0);
    world.pull("b", &first);
    let object = world.commit("file.bin", versions(19, 2_000_000, 2).remove(1));
    let upload = upload_event(&object.oid, object.size(), &world.local_path("a", &object));
    let download = download_event(&object.oid, object.size());
    for (machine, operation, request) in [("a", "upload", upload), ("b", "download", download)] {
        let (mut agent, memory) = (world.start(machine, operation), take_memory(&world, machine));
        agent.send(&request);
        let transfer = hindered(&mut agent, || drop(memory));
        assert_progress_of_hindered(&transfer, object.size());
        agent.terminate();
    }
}

#[test]
fn the_first_byte_is_reported_before_the_store_is_asked() {
    let world = World::on_s3();
    let event = an_upload(&world);
    world.server().fail(any().forever(), Fault::Hang);
    let mut agent = world.start("a", "upload");
    agent.send(&event);
    let first = agent.answer();
    assert_eq!((&first["event"], &first["bytesSoFar"]), (&json!("progress"), &json!(1)));
    agent.close_stdin();
    assert!(agent.wait(PROMPTLY).is_some());
}

// ---- set-up

#[test]
fn the_classic_set_up_uses_the_store_of_the_command_line_whatever_lfs_url_says() {
    for world in [World::on_directory(), World::on_s3()] {
        world.sandbox.git("a", &["config", "lfs.url", "https://example.invalid/info/lfs"]);
        let (object, _) = world.local(text(15, 9000));
        world.push(&object);
        world.add_machine("b");
        world.pull("b", &object);
        assert_eq!(world.keys(&object.folder()).len(), 1);
    }
}

#[test]
fn the_store_of_lfsconfig_is_used_by_an_agent_without_arguments() {
    let world = World::on_directory();
    world.sandbox.write("a/.lfsconfig", format!("[lfs]\n\turl = lfs-delta::{}\n", world.url));
    let (object, path) = world.local(text(16, 9000));
    let mut agent = FakeLfs::start(&world.sandbox, "a").accepted("upload");
    agent.upload(&object.oid, object.size(), &path).succeeded();
    agent.terminate();
    assert_eq!(world.keys(&object.folder()).len(), 1);
}

#[test]
fn no_child_outlives_the_agent() {
    let world = World::on_directory();
    let object = world.commit("file.bin", text(17, 9000));
    let mut command = world.agent_command("a");
    // Whoever inherits this pipe keeps it open.
    command.stdin(Stdio::piped());
    let mut agent = FakeLfs::spawn(command).accepted("upload");
    agent.upload(&object.oid, object.size(), &world.local_path("a", &object)).succeeded();
    let pid = agent.pid();
    // `terminate` waits for the end of stderr, which every child would hold.
    agent.terminate();
    let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    assert_eq!(children, "");
}
