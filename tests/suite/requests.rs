//! What the program asks of an S3 server: how often, and what it makes of the answers.
//!
//! The counts are those of `docs/protocol.md` section 2. What a process or a machine asks once is counted
//! apart: one LIST for each process, one GET of `lfs-delta.json` and one LIST and PUT in `repos/` for each machine.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::{Duration, Instant};

use lfs_delta::cancel::Cancel;
use lfs_delta::model::{CopyId, CopyName, Key, KeyPrefix, Location, Nonce, Oid, Shape};
use lfs_delta::store::s3::{Access, Certificates};
use lfs_delta::store::{
    Body, ReadStore as _, S3Options, S3Store, Source, Visit, WriteStore as _, artefacts_contract, contract,
    get_bytes, put_bytes,
};

use crate::support::data::{edited, noise, pointer, text, versions};
use crate::support::fake_lfs::{FakeLfs, download_event, upload_event};
use crate::support::run::run;
use crate::support::s3::{AUTHORITY, Call, Calls, Fault, Goodbye, Kind, S3Server, any, on};
use crate::support::sandbox::Sandbox;
use crate::world::{Object, World, assert_report};

/// What a process asks when it begins.
const PROCESS: &str = "1 List";
/// What the first process of a machine asks besides, to push.
const MACHINE_PUSH: &str = "2 List, 1 Get, 1 Put";
/// What the first process of a machine asks besides, to pull.
const MACHINE_PULL: &str = "1 List, 1 Get";

/// Which key, or which prefix of keys, a call is about.
fn subject(call: &Call) -> String {
    let query = percent_encoding::percent_decode_str(&call.query).decode_utf8_lossy().into_owned();
    let prefix = query.split('&').find_map(|pair| pair.strip_prefix("prefix=").map(str::to_owned));
    prefix.unwrap_or_else(|| call.key.clone()).trim_start_matches("team/game/").to_owned()
}

/// Takes the calls so far: how many were about the set-up, and those about objects.
fn taken(world: &World) -> (String, Calls) {
    let (objects, others): (Vec<Call>, Vec<Call>) =
        world.server().take_calls().0.into_iter().partition(|call| subject(call).starts_with("objects/"));
    (Calls(others).summary(), Calls(objects))
}

/// A world in which machine `a` has pushed before, and nothing was counted yet.
fn counted(pushed: Vec<Vec<u8>>) -> (World, Vec<Object>) {
    let world = World::on_s3();
    let objects = world.pushed(pushed);
    world.server().take_calls();
    (world, objects)
}

// ---- how often (store protocol, section 7)

#[test]
fn a_whole_copy_costs_one_list_and_one_put() {
    let world = World::on_s3();
    for (bytes, setup) in
        [(noise(1, 20_000), MACHINE_PUSH), (text(1, 20_000), PROCESS), (b"x".to_vec(), PROCESS)]
    {
        let (object, _) = world.local(bytes);
        world.push(&object);
        let (others, calls) = taken(&world);
        assert_eq!((others.as_str(), calls.summary().as_str()), (setup, "1 List, 1 Put"), "{calls}");
        assert_eq!(subject(&calls[0]), object.folder());
        assert_eq!(subject(&calls[1]), world.copy(&object));
    }
}

#[test]
fn a_delta_on_a_remembered_base_costs_two_lists_and_one_put() {
    let mut bodies = versions(2, 30_000, 3);
    let last = bodies.split_off(1);
    let (world, first) = counted(bodies);
    let mut base = first[0].clone();
    for bytes in last {
        let object = world.commit("file.bin", bytes);
        world.push(&object);
        let (others, calls) = taken(&world);
        assert_eq!((others.as_str(), calls.summary().as_str()), (PROCESS, "2 List, 1 Put"), "{calls}");
        let order: Vec<_> = calls.iter().map(subject).collect();
        assert_eq!(
            order,
            [object.folder(), world.copy(&object), base.folder()],
            "looked at after the PUT (R4c)"
        );
        assert!(order[1].contains("/delta."));
        base = object;
    }
}

/// Pushes one more version by a process that remembers nothing, and returns the calls about objects.
fn pushed_by_a_stranger(world: &World, bytes: Vec<u8>) -> Calls {
    let object = world.commit("file.bin", bytes);
    let mut command = world.agent_command("a");
    command.env("LFS_DELTA_CACHE_DIR", world.sandbox.path("another-cache"));
    let mut agent = FakeLfs::spawn(command).accepted("upload");
    let path = world.local_path("a", &object);
    agent.upload(&object.oid, object.size(), &path).succeeded();
    agent.terminate();
    assert!(world.copy(&object).contains("/delta."), "stored whole");
    taken(world).1
}

#[test]
fn an_unknown_base_that_is_stored_raw_costs_one_list_more() {
    let bodies = versions(3, 30_000, 2);
    let (world, _) = counted(bodies[..1].to_vec());
    let calls = pushed_by_a_stranger(&world, bodies[1].clone());
    assert_eq!(calls.summary(), "3 List, 1 Put", "{calls}");
}

#[test]
fn an_unknown_base_that_is_packed_costs_one_list_and_a_few_bytes_more() {
    let first = text(4, 50_000);
    let second = [&first[..30_000], &noise(4, 100), &first[30_000..]].concat();
    let (world, _) = counted(vec![first]);
    let calls = pushed_by_a_stranger(&world, second);
    assert_eq!(calls.summary(), "3 List, 1 Get, 1 Put", "{calls}");
    let header = &calls.of(Kind::Get)[0];
    assert!(header.header("range").is_some() && header.bytes_out < 2000, "{header}");
}

#[test]
fn an_unknown_base_that_is_a_delta_costs_two_lists_and_a_few_bytes_more() {
    let bodies = versions(5, 30_000, 3);
    let (world, _) = counted(bodies[..2].to_vec());
    let calls = pushed_by_a_stranger(&world, bodies[2].clone());
    assert_eq!(calls.summary(), "4 List, 1 Get, 1 Put", "{calls}");
    let header = &calls.of(Kind::Get)[0];
    assert!(header.header("range").is_some() && header.bytes_out < 2000, "{header}");
}

#[test]
fn a_warm_pull_costs_one_list_and_one_get_of_the_delta() {
    let (world, objects) = counted(versions(6, 100_000, 3));
    world.add_machine("b");
    world.sandbox.write(world.local_path("b", &objects[1]), &objects[1].bytes);
    world.pull("b", &objects[2]);
    let (others, calls) = taken(&world);
    assert_eq!((others.as_str(), calls.summary().as_str()), (MACHINE_PULL, "1 List, 1 Get"), "{calls}");
    let copy = world.copy(&objects[2]);
    assert_eq!(subject(&calls[1]), copy);
    assert_eq!(calls.of(Kind::Get).bytes_out(), world.get(&copy).len() as u64);
}

#[test]
fn a_cold_pull_costs_one_list_and_a_get_for_each_copy() {
    let (world, objects) = counted(versions(7, 100_000, 4));
    for (number, object) in objects.iter().enumerate() {
        let machine = format!("cold-{number}");
        world.add_machine(&machine);
        world.pull(&machine, object);
        let (others, calls) = taken(&world);
        assert_eq!(others, MACHINE_PULL);
        assert_eq!((calls.count(Kind::List), calls.count(Kind::Get)), (1, number + 1), "{calls}");
        assert_eq!(calls.len(), number + 2, "{calls}");
        // From the cache: nothing but the look at what the store is.
        world.pull(&machine, object);
        assert_eq!(taken(&world).1.summary(), "");
    }
}

#[test]
fn all_copies_of_a_chain_but_the_first_are_fetched_at_once() {
    let (world, objects) = counted(versions(8, 100_000, 4));
    world.add_machine("b");
    let mut agent = world.start("b", "download");
    world.server().fail(on(Kind::Get).key("objects/").nth(2).times(3), Fault::Hang);
    agent.send(&download_event(&objects[3].oid, objects[3].size()));
    world.server().wait_for(|calls| calls.iter().filter(|call| call.fault.is_some()).count() == 3);
    world.server().release();
    agent.transfer(&objects[3].oid).succeeded();
    agent.terminate();
}

#[test]
fn three_hundred_stored_objects_cost_few_listings_and_a_second_process_shares_them() {
    let world = World::on_s3();
    let objects: Vec<Object> = (0..300).map(|seed| world.local(noise(seed, 50)).0).collect();
    for object in &objects {
        world.put(&format!("{}full.{}", object.folder(), "0".repeat(32)), &object.bytes);
    }
    for (setup, lists_max) in [(MACHINE_PUSH, 25), (PROCESS, 4)] {
        let mut agent = world.start("a", "upload");
        for object in &objects {
            agent.upload(&object.oid, object.size(), &world.local_path("a", object)).succeeded();
        }
        agent.terminate();
        let (others, calls) = taken(&world);
        assert_eq!(others, setup);
        assert_eq!(calls.len(), calls.count(Kind::List), "only listings: {}", calls.summary());
        assert!(calls.len() <= lists_max, "{} listings", calls.len());
        println!("{} listings for 300 stored objects", calls.len());
    }
}

/// How many objects `many_small_objects…` pushes; 10,000 takes minutes.
const MANY: usize = if cfg!(feature = "soak") { 10_000 } else { 600 };

/// Commits objects as files of their own, all at once.
fn commit_all(world: &World, objects: &[Object]) {
    for (number, object) in objects.iter().enumerate() {
        world.sandbox.write(format!("a/f{}/{number}x.bin", number % 50), pointer(&object.bytes));
    }
    world.sandbox.git("a", &["add", "."]);
    world.sandbox.git("a", &["commit", "--quiet", "--message", "all"]);
}

/// Transfers objects by two processes of a machine, as git-lfs starts eight, and returns how many requests that took.
fn requests_of(world: &World, machine: &str, operation: &str, objects: &[Object]) -> usize {
    let mut agents = [world.start(machine, operation), world.start(machine, operation)];
    for (object, agent) in objects.iter().zip([0, 1].into_iter().cycle()) {
        let agent = &mut agents[agent];
        if operation == "upload" {
            agent.upload(&object.oid, object.size(), &world.local_path("a", object)).succeeded();
        } else {
            let path = agent.download(&object.oid, object.size()).path();
            std::fs::remove_file(path).expect("a downloaded file");
        }
    }
    agents.into_iter().for_each(|agent| drop(agent.terminate()));
    world.server().take_calls().0.len()
}

#[test]
fn many_small_objects_cost_two_requests_to_push_and_one_to_pull() {
    let world = World::on_s3();
    let bodies = (0..MANY).map(|seed| noise(seed as u64, 1000 + seed * 37 % 99_000));
    let first: Vec<Object> = bodies.map(|bytes| world.local(bytes).0).collect();
    commit_all(&world, &first);
    let pushed = requests_of(&world, "a", "upload", &first);
    let next: Vec<Object> = first.iter().map(|old| world.local(edited(&old.bytes, 1, 4)).0).collect();
    commit_all(&world, &next);
    let pushed_again = requests_of(&world, "a", "upload", &next);
    let deltas = world.keys("objects/").iter().filter(|key| key.contains("/delta.")).count();
    world.add_machine("b");
    let pulled = requests_of(&world, "b", "download", &first);
    println!("{pushed}, {pushed_again} ({deltas} deltas) and {pulled} requests for {MANY} objects");
    for (what, count, most) in [("push", pushed, 21), ("push again", pushed_again, 21), ("pull", pulled, 11)]
    {
        assert!(count * 10 <= MANY * most, "{count} requests to {what} {MANY}");
    }
    assert!(deltas * 10 > MANY * 8, "{deltas} of {MANY} edited objects are deltas");
}

#[test]
fn a_store_of_many_pages_is_listed_whole() {
    let world = World::on_s3();
    world.server().list_in_pages_of(7);
    let objects: Vec<Object> = (0..60).map(|seed| world.local(noise(seed, 50)).0).collect();
    for object in &objects {
        world.put(&format!("{}full.{}", object.folder(), "0".repeat(32)), &object.bytes);
    }
    let mut agent = world.start("a", "upload");
    for object in &objects {
        agent.upload(&object.oid, object.size(), &world.local_path("a", object)).succeeded();
    }
    agent.terminate();
    assert_eq!(taken(&world).1.count(Kind::Put), 0, "something was stored twice");
}

#[test]
fn a_repository_is_recorded_once_and_without_its_password() {
    let world = World::on_s3();
    let (object, _) = world.local("bytes");
    world.push(&object);
    let records = world.keys("repos/");
    assert_eq!(records.len(), 1);
    assert_eq!(world.get(&records[0]), b"https://git.example.invalid/team/game.git");
    // Another machine finds it recorded.
    world.add_machine("b");
    world.server().take_calls();
    let mut agent = world.start("b", "upload");
    agent.upload(&object.oid, 5, &world.local_path("a", &object)).succeeded();
    agent.terminate();
    assert_eq!(taken(&world).0, "2 List, 1 Get");
}

#[test]
fn a_repository_without_a_remote_is_not_recorded() {
    let world = World::on_s3();
    world.sandbox.git("a", &["config", "--unset", "remote.origin.url"]);
    let (object, _) = world.local("bytes");
    world.push(&object);
    assert_eq!(world.keys("repos/"), [] as [String; 0]);
}

#[test]
fn a_user_may_switch_the_record_of_repositories_off() {
    let mut world = World::on_s3();
    world.sandbox.set("LFS_DELTA_REGISTER", "no");
    let (object, _) = world.local("bytes");
    world.push(&object);
    assert_eq!(world.keys("repos/"), [] as [String; 0]);
}

// ---- what becomes of faults

#[test]
fn a_service_that_is_busy_twice_is_asked_a_third_time() {
    for kind in [Kind::List, Kind::Put, Kind::Get] {
        let world = World::on_s3();
        world.server().fail(on(kind).key("objects/").times(2), Fault::slow_down());
        let (object, _) = world.local(noise(9, 20_000));
        world.push(&object);
        world.add_machine("b");
        world.pull("b", &object);
        assert_eq!(world.server().heal(), 2);
        assert_eq!(world.get(&world.copy(&object)), object.bytes);
    }
}

#[test]
fn too_many_requests_and_conflicts_are_asked_again() {
    for fault in [Fault::too_many_requests(0), Fault::conflict()] {
        let world = World::on_s3();
        world.server().fail(on(Kind::Put).key("objects/"), fault);
        let (object, _) = world.local(noise(9, 20_000));
        world.push(&object);
        assert_eq!(world.server().heal(), 1);
        assert_eq!(world.get(&world.copy(&object)), object.bytes);
    }
}

#[test]
fn a_service_that_stays_busy_is_given_up_after_the_tries_that_are_set() {
    let mut world = World::on_s3();
    world.sandbox.set("LFS_DELTA_ATTEMPTS", "3");
    for (fault, word) in [(Fault::slow_down(), "SlowDown"), (Fault::internal_error(), "InternalError")] {
        let (object, _) = world.local(noise(10, 20_000));
        world.server().take_calls();
        world.server().fail(on(Kind::Put).key("objects/").forever(), fault);
        assert_report(&world.upload(&object).failed(), "E4001", &[&object.oid, word]);
        let calls = taken(&world).1;
        assert_eq!(calls.count(Kind::Put), 3, "{calls}");
        world.server().heal();
        assert_eq!(world.keys("objects/"), [] as [String; 0]);
    }
}

#[test]
fn refusals_are_not_repeated_and_told_apart() {
    for (fault, code) in [(Fault::access_denied(), "E3001"), (Fault::expired_token(), "E3002")] {
        for kind in [Kind::List, Kind::Put, Kind::Get] {
            let world = World::on_s3();
            let (object, _) = world.local(noise(11, 20_000));
            if kind == Kind::Get {
                world.push(&object);
                world.add_machine("b");
            }
            world.server().take_calls();
            world.server().fail(on(kind).key("objects/").forever(), fault.clone());
            let message = match kind {
                Kind::Get => world.download("b", &object).expect_err("a failure"),
                _ => world.upload(&object).failed(),
            };
            assert_report(&message, code, &[&object.oid, &object.folder()]);
            assert_eq!(taken(&world).1.count(kind), 1, "a refusal was asked again");
        }
    }
}

/// Lets the agents of a world get their credentials from a program, which gives another session at each run.
fn use_renewed_credentials(world: &mut World) {
    let endpoint = world.server().endpoint.clone();
    let runs = world.sandbox.path("runs");
    let script = format!(
        "#!/bin/sh\necho run >> '{runs}'\nprintf '{{\"Version\": 1, \"AccessKeyId\": \"{key}\", \
         \"SecretAccessKey\": \"{secret}\", \"SessionToken\": \"session-%d\"}}' $(wc -l < '{runs}')\n",
        runs = runs.display(),
        key = endpoint.access_key,
        secret = endpoint.secret_key,
    );
    let program = world.sandbox.write_program("get-credentials", &script);
    let config = format!("[default]\ncredential_process = {}\n", program.display());
    world.sandbox.write("home/.aws/config", config);
    world.sandbox.unset("AWS_ACCESS_KEY_ID").unset("AWS_SECRET_ACCESS_KEY");
}

/// The sessions that calls were made in.
fn sessions(calls: &Calls) -> Vec<&str> {
    calls.iter().map(|call| call.header("x-amz-security-token").unwrap_or("none")).collect()
}

#[test]
fn credentials_that_expire_are_renewed_and_the_request_is_asked_again() {
    for kind in [Kind::List, Kind::Put] {
        let mut world = World::on_s3();
        use_renewed_credentials(&mut world);
        let (object, _) = world.local(noise(33, 20_000));
        world.server().fail(on(kind).key("objects/"), Fault::expired_token());
        world.push(&object);
        assert_eq!(world.server().heal(), 1);
        let calls = taken(&world).1;
        assert_eq!(sessions(&calls.of(kind)), ["session-1", "session-2"], "{kind:?}");
    }
}

#[test]
fn credentials_that_expire_between_parts_and_ranges_do_not_break_a_transfer() {
    let mut world = World::on_s3();
    use_renewed_credentials(&mut world);
    let (object, _) = world.local(noise(34, 1 << 20).repeat(65));
    world.server().fail(on(Kind::PutPart).nth(2), Fault::expired_token());
    world.push(&object);
    assert_eq!(world.server().heal(), 1);
    let calls = taken(&world).1;
    let seen: BTreeSet<_> = sessions(&calls).into_iter().collect();
    assert_eq!(seen, BTreeSet::from(["session-1", "session-2"]));
    world.add_machine("b");
    world.server().fail(on(Kind::Get).key("objects/").nth(4), Fault::expired_token());
    world.pull("b", &object);
    assert_eq!(world.server().heal(), 1);
}

#[test]
fn a_clock_that_is_wrong_once_is_asked_again_once() {
    for (times, works) in [(1, true), (2, false)] {
        let world = World::on_s3();
        let (object, _) = world.local(noise(35, 20_000));
        let fault = Fault::status(403, "RequestTimeTooSkewed");
        world.server().fail(on(Kind::Put).key("objects/").times(times), fault);
        let transfer = world.upload(&object);
        assert_eq!(transfer.error().is_none(), works, "{transfer:?}");
        if let Some(message) = transfer.error() {
            assert_report(message, "E3002", &[&object.oid, "RequestTimeTooSkewed", "clock"]);
        }
        assert_eq!(taken(&world).1.count(Kind::Put), 2);
    }
}

#[test]
fn a_service_that_names_a_pause_is_given_it() {
    for status in [429, 503] {
        let world = World::on_s3();
        let (object, _) = world.local(noise(36, 20_000));
        let fault = Fault::Status { status, code: "SlowDown", retry_after: Some(1) };
        world.server().fail(on(Kind::Put).key("objects/"), fault);
        let begun = Instant::now();
        world.push(&object);
        // The pause of the settings is 5 ms.
        assert!(begun.elapsed() >= Duration::from_secs(1), "{status}: after {:?}", begun.elapsed());
    }
}

#[test]
fn a_name_that_somebody_else_took_meanwhile_is_not_taken_for_ours() {
    let world = World::on_s3();
    let (object, _) = world.local(noise(37, 20_000));
    world.server().fail(on(Kind::Put).key("objects/"), Fault::Hang);
    let mut agent = world.start("a", "upload");
    agent.send(&upload_event(&object.oid, object.size(), &world.local_path("a", &object)));
    let calls = world.server().wait_for(|calls| calls.iter().any(|call| call.fault.is_some()));
    let put = calls.iter().find(|call| call.fault.is_some()).expect("the call");
    // As many bytes, and others.
    world.server().put_raw(&put.key, noise(38, 20_000));
    world.server().release();
    let transfer = agent.transfer(&object.oid);
    agent.terminate();
    assert!(transfer.error().is_some(), "another file was believed to be ours");
    assert!(taken(&world).1.count(Kind::Head) > 0, "nobody looked");
}

#[test]
fn a_page_of_a_proxy_does_not_mean_that_something_is_absent() {
    for kind in [Kind::List, Kind::Get] {
        let world = World::on_s3();
        let (object, _) = world.local(noise(12, 20_000));
        world.push(&object);
        world.server().fail(on(kind).key("objects/").forever(), Fault::Html404);
        assert_report(&world.cannot_pull(&object), "E4001", &[&object.oid, "404"]);
        world.server().heal();
        world.pull("cold", &object);
    }
    let world = World::on_s3();
    world.server().fail(on(Kind::List).forever(), Fault::Html404);
    let (object, _) = world.local("bytes");
    assert_report(&world.upload(&object).failed(), "E4001", &["404"]);
}

#[test]
fn a_page_of_a_proxy_is_not_taken_for_a_stored_copy() {
    let page = || Fault::Answer(200, "<html><body>Please log in</body></html>".into());
    for (kind, bytes) in
        [(Kind::Put, noise(45, 20_000)), (Kind::CompleteUpload, noise(46, 1 << 20).repeat(65))]
    {
        let world = World::on_s3();
        let (object, _) = world.local(bytes);
        world.server().fail(on(kind).key("objects/"), page());
        assert_report(&world.upload(&object).failed(), "E4001", &[&object.oid]);
        assert_eq!((world.server().heal(), world.keys("objects/")), (1, vec![]));
        world.push(&object);
        world.add_machine("b");
        world.pull("b", &object);
    }
}

#[test]
fn a_redirect_is_a_wrong_address_and_not_followed() {
    let world = World::on_s3();
    let elsewhere = S3Server::start();
    world.server().fail(any().forever(), Fault::Redirect(format!("{}/x", elsewhere.endpoint.url)));
    let (object, _) = world.local("bytes");
    assert_report(&world.upload(&object).failed(), "E2005", &[&object.oid]);
    elsewhere.expect_calls("");
}

#[test]
fn a_put_whose_answer_is_lost_counts_as_stored_once_it_is_seen() {
    for fault in [Fault::ResetAfter, Fault::internal_error(), Fault::ResetBefore, Fault::ResetInUpload(5000)]
    {
        let world = World::on_s3();
        world.server().fail(on(Kind::Put).key("objects/"), fault.clone());
        let (object, _) = world.local(noise(13, 20_000));
        world.push(&object);
        assert_eq!(world.server().heal(), 1, "{fault:?}");
        assert_eq!(world.get(&world.copy(&object)), object.bytes, "{fault:?}: one copy, the right one");
    }
}

#[test]
fn a_put_that_is_never_answered_is_looked_for_by_its_size_and_bytes() {
    let mut world = World::on_s3();
    world.sandbox.set("LFS_DELTA_ATTEMPTS", "1");
    let (object, _) = world.local(noise(14, 20_000));
    world.server().fail(on(Kind::Put).key("objects/"), Fault::ResetAfter);
    world.push(&object);
    assert!(taken(&world).1.count(Kind::Head) > 0);
    assert_eq!(world.keys("objects/").len(), 1);
    let (other, _) = world.local(noise(15, 20_000));
    world.server().fail(on(Kind::Put).key("objects/"), Fault::ResetBefore);
    assert_report(&world.upload(&other).failed(), "E4001", &[&other.oid]);
    assert_eq!(world.keys(&other.folder()), [] as [String; 0]);
}

#[test]
fn an_answer_of_200_with_an_error_inside_is_not_believed() {
    let world = World::on_s3();
    world.server().fail(on(Kind::Put).key("objects/"), Fault::ErrorIn200);
    let (object, _) = world.local(noise(16, 20_000));
    let transfer = world.upload(&object);
    let stored = world.keys("objects/").len();
    assert_eq!(transfer.error().is_none(), stored == 1, "complete, and nothing stored: {transfer:?}");
}

#[test]
fn a_conflict_of_conditional_writes_fails_or_stores_and_never_pretends() {
    let world = World::on_s3();
    world.server().fail(on(Kind::Put).key("objects/"), Fault::conflict());
    let (object, _) = world.local(noise(17, 20_000));
    let transfer = world.upload(&object);
    assert_eq!(transfer.error().is_none(), world.keys("objects/").len() == 1, "{transfer:?}");
    world.push(&object);
    assert_eq!(world.get(&world.copy(&object)), object.bytes);
}

#[test]
fn a_body_that_is_cut_is_resumed_where_it_broke_and_of_the_same_file() {
    let world = World::on_s3();
    let (object, _) = world.local(noise(18, 300_000));
    world.push(&object);
    world.add_machine("b");
    world.server().take_calls();
    world.server().fail(on(Kind::Get).key("objects/"), Fault::CutBody(100_000));
    world.server().fail(on(Kind::Get).key("objects/"), Fault::CutBody(50_000));
    world.pull("b", &object);
    let calls = taken(&world).1.of(Kind::Get);
    assert_eq!(calls.len(), 3, "{calls}");
    let ranges: Vec<_> = calls.iter().map(|call| call.header("range")).collect();
    assert_eq!(ranges, [None, Some("bytes=100000-"), Some("bytes=150000-")]);
    assert!(calls[1..].iter().all(|call| call.header("if-match").is_some()), "resumed unconditionally");
    assert_eq!(calls.bytes_out(), 300_000, "nothing is fetched twice");
}

#[test]
fn a_body_that_stalls_is_resumed() {
    let mut world = World::on_s3();
    world.sandbox.set("LFS_DELTA_STALL_TIMEOUT", "50ms");
    let (object, _) = world.local(noise(19, 300_000));
    world.push(&object);
    world.add_machine("b");
    world.server().fail(on(Kind::Get).key("objects/"), Fault::StallBody(100_000));
    world.pull("b", &object);
    assert_eq!(world.server().heal(), 1);
}

#[test]
fn a_body_that_breaks_again_and_again_is_given_up_after_the_tries_that_are_set() {
    let mut world = World::on_s3();
    world.sandbox.set("LFS_DELTA_ATTEMPTS", "4");
    let (object, _) = world.local(noise(27, 300_000));
    world.push(&object);
    world.add_machine("b");
    world.server().take_calls();
    world.server().fail(on(Kind::Get).key("objects/").forever(), Fault::CutBody(1000));
    assert_report(&world.download("b", &object).expect_err("a failure"), "E4001", &[&object.oid]);
    let gets = taken(&world).1.count(Kind::Get);
    assert!((4..=8).contains(&gets), "{gets} tries");
}

/// Bytes of each request for a large copy.
const PIECE: u64 = 8 << 20;

/// A world in which a raw copy of 40 MiB is stored, and machine `b` that has nothing.
fn with_a_large_copy(seed: u64) -> (World, Object) {
    let world = World::on_s3();
    let (object, _) = world.local(noise(seed, 1 << 20).repeat(40));
    world.push(&object);
    world.add_machine("b");
    world.server().take_calls();
    (world, object)
}

#[test]
fn a_large_copy_is_fetched_by_ranges_of_one_file_and_each_byte_once() {
    let (world, object) = with_a_large_copy(28);
    world.pull("b", &object);
    let calls = taken(&world).1.of(Kind::Get);
    let ranges: BTreeSet<_> =
        calls.iter().map(|call| call.header("range").unwrap_or_default().to_owned()).collect();
    let piece = |start: u64| format!("bytes={start}-{}", start + PIECE - 1);
    assert_eq!(ranges, (0..5).map(|number| piece(number * PIECE)).collect(), "{calls}");
    assert!(calls[1..].iter().all(|call| call.header("if-match").is_some()), "of any file");
    assert_eq!((calls.len(), calls.bytes_out()), (5, object.size()));
}

#[test]
fn ranges_of_a_large_copy_are_asked_for_at_once_and_no_more_than_four() {
    let (world, object) = with_a_large_copy(29);
    let mut agent = world.start("b", "download");
    world.server().fail(on(Kind::Get).key("objects/").nth(2).times(3), Fault::Hang);
    agent.send(&download_event(&object.oid, object.size()));
    world.server().wait_for(|calls| calls.iter().filter(|call| call.fault.is_some()).count() == 3);
    assert_eq!(taken(&world).1.count(Kind::Get), 4);
    world.server().release();
    agent.transfer(&object.oid).succeeded();
    agent.terminate();
}

#[test]
fn a_range_that_is_cut_or_stalls_is_resumed_where_it_broke() {
    for (seed, fault) in [(30, Fault::CutBody(3_000_000)), (31, Fault::StallBody(3_000_000))] {
        let (mut world, object) = with_a_large_copy(seed);
        world.sandbox.set("LFS_DELTA_STALL_TIMEOUT", "500ms");
        for nth in [1, 3] {
            world.server().fail(on(Kind::Get).key("objects/").nth(nth), fault.clone());
        }
        world.pull("b", &object);
        let calls = taken(&world).1.of(Kind::Get);
        assert_eq!(world.server().heal(), 2);
        assert_eq!((calls.len(), calls.bytes_out()), (7, object.size()), "{calls}");
    }
}

#[test]
fn a_service_that_knows_no_ranges_gives_large_copies_in_one_piece() {
    let (world, object) = with_a_large_copy(32);
    world.server().ignore_ranges();
    world.pull("b", &object);
    assert_eq!(taken(&world).1.count(Kind::Get), 1);
}

#[test]
fn a_request_that_is_never_answered_is_asked_again() {
    let mut world = World::on_s3();
    world.sandbox.set("LFS_DELTA_READ_TIMEOUT", "100ms");
    for kind in [Kind::List, Kind::Get, Kind::Put] {
        let (object, _) = world.local(noise(kind as u64, 20_000));
        world.server().fail(on(kind).key("objects/"), Fault::Hang);
        world.push(&object);
        let machine = format!("{kind:?}");
        world.add_machine(&machine);
        world.pull(&machine, &object);
        assert_eq!(world.server().heal(), 1, "{kind:?}");
    }
}

#[test]
fn a_flipped_byte_on_the_way_is_detected_and_fetched_again() {
    for bytes in [noise(20, 20_000), text(20, 20_000)] {
        let (world, objects) = counted(vec![bytes]);
        world.add_machine("b");
        world.server().fail(on(Kind::Get).key("objects/"), Fault::FlipByte(130));
        world.pull("b", &objects[0]);
        assert_eq!(taken(&world).1.count(Kind::Get), 2);
        world.server().fail(on(Kind::Get).key("objects/").forever(), Fault::FlipByte(130));
        assert_report(&world.cannot_pull(&objects[0]), "E5004", &[&objects[0].oid, &world.copy(&objects[0])]);
    }
}

#[test]
fn a_file_that_is_not_found_once_is_looked_for_again() {
    let (world, objects) = counted(vec![noise(21, 20_000)]);
    world.add_machine("b");
    world.server().fail(on(Kind::Get).key("objects/"), Fault::status(404, "NoSuchKey"));
    world.pull("b", &objects[0]);
}

#[test]
fn an_upload_in_parts_survives_a_busy_part_and_a_lost_answer() {
    let world = World::on_s3();
    // Over 64 MiB goes up in parts.
    let (object, path) = world.local(noise(22, 1 << 20).repeat(65));
    world.server().fail(on(Kind::PutPart), Fault::slow_down());
    world.server().fail(on(Kind::CompleteUpload), Fault::ResetAfter);
    let mut agent = world.start("a", "upload");
    let transfer = agent.upload(&object.oid, object.size(), &path).succeeded();
    assert_eq!(transfer.bytes_reported(), object.size());
    agent.terminate();
    assert_eq!(world.server().heal(), 2);
    assert!(world.get(&world.copy(&object)) == object.bytes, "other bytes are stored");
    assert_eq!(world.server().open_uploads(), [] as [String; 0]);
}

#[test]
fn a_refused_part_gives_the_whole_upload_up() {
    let world = World::on_s3();
    let (object, _) = world.local(noise(23, 1 << 20).repeat(65));
    world.server().fail(on(Kind::PutPart).nth(3).forever(), Fault::access_denied());
    assert_report(&world.upload(&object).failed(), "E3001", &[&object.oid]);
    assert_eq!(world.server().open_uploads(), [] as [String; 0]);
    assert_eq!(world.keys("objects/"), [] as [String; 0]);
}

#[test]
fn the_server_is_never_asked_to_delete_or_to_overwrite() {
    let world = World::on_s3();
    world.server().refuse_delete_and_overwrite();
    let objects = world.pushed(versions(24, 30_000, 3));
    for object in objects.iter().rev() {
        world.push(object);
    }
    assert_eq!(world.server().refused(), [] as [String; 0]);
    let puts = world.server().take_calls().of(Kind::Put);
    assert!(puts.iter().all(|call| call.header("if-none-match") == Some("*")), "{puts}");
}

#[test]
fn a_service_that_ignores_or_refuses_conditions_works_too() {
    let world = World::on_s3();
    world.server().ignore_conditions();
    let (object, _) = world.local(noise(25, 20_000));
    world.push(&object);
    let refusing = World::on_s3();
    refusing.server().fail(on(Kind::Put).key("objects/"), Fault::status(501, "NotImplemented"));
    let (other, _) = refusing.local(noise(26, 20_000));
    refusing.push(&other);
    let puts = refusing.server().take_calls().of(Kind::Put);
    assert_eq!(puts.last().and_then(|call| call.header("if-none-match")), None, "{puts}");
}

// ---- connections that the service has closed

/// A store on a server whose requests are tried so often.
fn store_with(server: &S3Server, attempts: u32, certificates: Option<&str>) -> S3Store {
    let certificates = certificates.map(|text| Certificates::parse(text).expect("certificates"));
    let access = Access { certificates, ..Access::default() };
    let backoff = Duration::from_millis(1);
    server.open_store(S3Options { attempts, backoff, access, ..S3Options::default() })
}

fn copy_key(number: u8) -> Key {
    let id = CopyId { oid: Oid::of(&[number]), nonce: Nonce::from_bytes([number; 16]) };
    Key::copy(&CopyName { id, shape: Shape::Full { codec: None } })
}

/// Services close what has been idle for some seconds; routers forget it, and answer by a reset.
///
/// One try is enough for what is asked one after the other. Of other connections a thread of its own takes care, which may
/// not have had the time yet: there it takes two at most.
#[test]
fn a_connection_that_was_closed_while_it_was_idle_costs_nothing() {
    let folder = tempfile::tempdir().expect("a folder");
    let (path, bytes) = (folder.path().join("file"), noise(47, 300_000));
    std::fs::write(&path, &bytes).expect("a file");
    let source = Source::File { path: &path, size: bytes.len() as u64 };
    let file = Body { source, digest: Oid::of(&bytes), sent: &|_| () };
    for (server, certificates) in [(S3Server::start(), None), (S3Server::start_tls(), Some(AUTHORITY))] {
        let [once, twice] = [1, 2].map(|attempts| store_with(&server, attempts, certificates));
        put_bytes(&once, &copy_key(0), b"small").expect("stored");
        let mut number = 0;
        let mut ask = |what: &str| {
            number += 1;
            match what {
                "PUT from memory" => put_bytes(&once, &copy_key(number), b"small"),
                "PUT from a file" => once.put(&copy_key(number), &file),
                "LIST" => once.list(&KeyPrefix::about(), &mut |_| Visit::Continue),
                _ => get_bytes(&twice, &copy_key(0), 100).map(|read| assert_eq!(read, b"small")),
            }
        };
        for goodbye in [Goodbye::Close, Goodbye::Reset] {
            for what in ["PUT from memory", "PUT from a file", "LIST", "GET"] {
                ask(what).expect("a connection");
                server.hang_up(goodbye);
                let outcome = ask(what);
                assert!(outcome.is_ok(), "{what} after {goodbye:?}: {outcome:?}");
            }
        }
    }
}

// ---- limits

/// Runs a transfer of each object on machine `a` or `b` by agents that all run at once, and returns the time.
fn at_once(world: &World, operation: &str, objects: &[Object]) -> Duration {
    let machine = if operation == "upload" { "a" } else { "b" };
    let agents: Vec<_> = objects.iter().map(|_| world.start(machine, operation)).collect();
    let begun = Instant::now();
    std::thread::scope(|scope| {
        for (mut agent, object) in agents.into_iter().zip(objects) {
            scope.spawn(move || {
                let transfer = match operation {
                    "upload" => agent.upload(&object.oid, object.size(), &world.local_path("a", object)),
                    _ => agent.download(&object.oid, object.size()),
                };
                transfer.succeeded();
                agent.terminate();
            });
        }
    });
    begun.elapsed()
}

#[test]
fn all_agents_of_a_machine_share_one_limit() {
    let objects = |world: &World| -> Vec<Object> {
        (40..43).map(|seed| world.local(noise(seed, 256 << 10)).0).collect()
    };
    // 768 KiB at 384 KiB/s; the first bytes need not wait.
    let least = Duration::from_millis(1700);
    let mut world = World::on_s3();
    world.add_machine("b");
    world.sandbox.git("a", &["config", "lfs-delta.limit-upload", "384"]);
    let objects = objects(&world);
    let took = at_once(&world, "upload", &objects);
    assert!(took >= least, "uploaded in {took:?}");
    world.sandbox.set("LFS_DELTA_LIMIT_DOWNLOAD", "384");
    let took = at_once(&world, "download", &objects);
    assert!(took >= least, "downloaded in {took:?}");
    for object in &objects {
        assert!(world.get(&world.copy(object)) == object.bytes, "other bytes were stored");
    }
}

/// A transfer takes four times as long as a connection may be silent; a slice of it takes less than half of that. Both ways
/// at once: they wait most of the time.
#[test]
fn a_slow_limit_is_not_taken_for_a_broken_connection() {
    let mut world = World::on_s3();
    world.add_machine("b");
    let [up, down] = [44, 48].map(|seed| world.local(noise(seed, 10_000)).0);
    world.push(&down);
    world.server().take_calls();
    world.sandbox.set("LFS_DELTA_LIMIT_DOWNLOAD", "1").set("LFS_DELTA_LIMIT_UPLOAD", "1");
    world.sandbox.set("LFS_DELTA_STALL_TIMEOUT", "2400ms").set("LFS_DELTA_READ_TIMEOUT", "2400ms");
    std::thread::scope(|scope| {
        scope.spawn(|| world.push(&up));
        world.pull("b", &down);
    });
    let calls = taken(&world).1;
    assert_eq!((calls.count(Kind::Put), calls.count(Kind::Get)), (1, 1), "{calls}");
}

// ---- the promises of `store`

/// Set for the process in which the contract is checked: a store's URL.
const CONTRACT_URL: &str = "LFS_DELTA_TEST_CONTRACT_URL";

/// Runs in a process of its own, because an S3 client takes its credentials from the environment. Without that
/// environment there is nothing to check.
#[test]
fn contract_in_a_process_of_its_own() {
    let Ok(url) = std::env::var(CONTRACT_URL) else { return };
    let numbers = std::sync::atomic::AtomicUsize::new(0);
    let store = || {
        let number = numbers.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let url = url.replace("/contract?", &format!("/contract-{number}?"));
        let Ok(Location::S3(location)) = Location::parse(&url) else { panic!("no S3 URL: {url}") };
        let options = S3Options { backoff: Duration::from_millis(5), ..S3Options::default() };
        S3Store::new(location, options, Cancel::default())
    };
    let make = || -> Box<dyn lfs_delta::store::WriteStore> { Box::new(store()) };
    if url.contains("without-conditions") {
        contract::check_without_conditions(&make);
    } else if url.contains("artefacts") {
        artefacts_contract::check(&|| Box::new(store()));
    } else {
        contract::check(&make);
    }
}

/// Lets the process check the contract on a server.
#[track_caller]
fn check_contract(server: &S3Server, folder: &str) {
    let mut sandbox = Sandbox::new();
    sandbox.use_s3(&server.endpoint);
    sandbox.set(CONTRACT_URL, server.endpoint.store_url(&format!("{folder}/contract")));
    let mut command = sandbox.command(std::env::current_exe().expect("this program"), Path::new(""));
    command.args(["--exact", "requests::contract_in_a_process_of_its_own"]);
    let ran = run(command).succeeded();
    assert!(ran.stdout().contains("1 passed"), "{ran}");
    assert!(server.calls().count(Kind::Put) > 30, "the contract was not checked: {ran}");
}

#[test]
fn a_strict_service_keeps_every_promise() {
    check_contract(&S3Server::start(), "strict");
}

#[test]
fn a_service_that_lists_in_small_pages_keeps_every_promise() {
    let server = S3Server::start();
    server.list_in_pages_of(7);
    check_contract(&server, "pages");
}

#[test]
fn a_service_keeps_every_promise_of_artefacts() {
    check_contract(&S3Server::start(), "artefacts");
    let server = S3Server::start();
    server.list_in_pages_of(2);
    check_contract(&server, "artefacts-in-pages");
}

#[test]
fn a_service_that_ignores_ranges_keeps_every_promise() {
    let server = S3Server::start();
    server.ignore_ranges();
    check_contract(&server, "ranges");
}

#[test]
fn a_service_that_ignores_conditions_keeps_every_promise_but_the_second() {
    let server = S3Server::start();
    server.ignore_conditions();
    check_contract(&server, "without-conditions");
}

/// Each push sees what was there before it, or all see an empty store.
#[test]
fn listings_that_lag_behind_lose_nothing() {
    for lag_once in [false, true] {
        let world = World::on_s3();
        world.add_machine("b");
        let bodies = crate::support::data::versions(64, 20_000, 3);
        let objects: Vec<_> = bodies.into_iter().map(|bytes| world.commit("file.bin", bytes)).collect();
        world.server().lag();
        for object in &objects {
            world.push(object);
            // To others it is there, or not yet, but never damaged.
            if let Err(message) = world.download("b", object) {
                assert_report(&message, "E5003", &[&object.oid]);
            }
            if !lag_once {
                world.server().lag();
            }
        }
        world.server().catch_up();
        world.add_machine("c");
        objects.iter().for_each(|object| world.pull("c", object));
    }
}
