//! Uploads in parts that break or whose process dies: what a later process goes on with, and what it does not.
//!
//! Parts are of 64 KiB here, so that copies of more than 512 KiB go up in parts.

use std::fs;
use std::path::PathBuf;

use crate::support::data::{noise, text};
use crate::support::fake_lfs::{PATIENCE, upload_event};
use crate::support::run::wait_until;
use crate::support::s3::{Calls, Fault, Kind, on};
use crate::support::sandbox::files_below;
use crate::world::{Object, World, assert_report};

const PART: usize = 64 << 10;

/// A world whose parts are small.
fn world() -> World {
    let mut world = World::on_s3();
    world.server().allow_parts_of(1);
    world.sandbox.set("LFS_DELTA_PART_SIZE", "64K").set("LFS_DELTA_ATTEMPTS", "1");
    world
}

/// Files that machine `a` keeps of uploads.
fn kept(world: &World) -> Vec<PathBuf> {
    let stores = world.sandbox.path("cache-a/stores");
    let files = if stores.is_dir() { files_below(&stores) } else { return Vec::new() };
    let of_uploads = |path: &PathBuf| path.components().any(|part| part.as_os_str() == "uploads");
    files.into_keys().filter(of_uploads).map(|path| stores.join(path)).collect()
}

/// Kills a process whose upload hangs at part `nth`, once those before are stored; returns the key.
#[track_caller]
fn kill_at_part(world: &World, object: &Object, nth: usize) -> String {
    world.server().take_calls();
    world.server().fail(on(Kind::PutPart).nth(nth).forever(), Fault::Hang);
    let mut agent = world.start("a", "upload");
    agent.send(&upload_event(&object.oid, object.size(), &world.local_path("a", object)));
    let is_far = |calls: &Calls| {
        let parts = calls.of(Kind::PutPart);
        parts.iter().any(|call| call.fault.is_some())
            && parts.iter().filter(|call| call.fault.is_none() && call.status == 200).count() == nth - 1
    };
    let calls = world.server().wait_for(is_far);
    // Its notes: what the upload is, and each part that was answered.
    let lines = |path: PathBuf| fs::read_to_string(path).unwrap_or_default().lines().count();
    let has_noted = || kept(world).into_iter().any(|path| path.extension().is_none() && lines(path) == nth);
    assert!(wait_until(PATIENCE, has_noted), "parts are not noted");
    agent.kill();
    world.server().heal();
    let begun = calls.of(Kind::BeginUpload);
    begun[0].key.trim_start_matches("team/game/").to_owned()
}

/// Pushes an object again, and checks that all is well then; returns the calls.
#[track_caller]
fn push_again(world: &World, object: &Object) -> Calls {
    world.server().take_calls();
    world.push(object);
    assert_eq!(world.server().open_uploads(), [] as [String; 0], "parts stay");
    assert_eq!(kept(world), [] as [PathBuf; 0], "notes stay");
    let calls = world.server().take_calls();
    world.add_machine("b");
    world.pull("b", object);
    calls
}

#[test]
fn a_killed_upload_goes_on_where_it_stopped_and_keeps_its_name() {
    for hides_checksums in [false, true] {
        let world = world();
        if hides_checksums {
            world.server().hide_part_checksums();
        }
        let (object, _) = world.local(noise(70, 16 * PART));
        let name = kill_at_part(&world, &object, 6);
        let calls = push_again(&world, &object);
        assert_eq!((calls.count(Kind::ListParts), calls.count(Kind::BeginUpload)), (1, 0), "{calls}");
        assert_eq!(calls.count(Kind::PutPart), 11, "five are there: {calls}");
        assert_eq!(world.copy(&object), name);
        assert!(world.get(&name) == object.bytes, "other bytes are stored");
    }
}

#[test]
fn progress_of_an_upload_that_goes_on_counts_what_is_there() {
    let world = world();
    let (object, path) = world.local(noise(71, 16 * PART));
    kill_at_part(&world, &object, 6);
    let mut agent = world.start("a", "upload");
    let transfer = agent.upload(&object.oid, object.size(), &path).succeeded();
    assert_eq!(transfer.bytes_reported(), object.size());
    agent.terminate();
}

#[test]
fn an_upload_that_broke_goes_on_when_it_is_repeated() {
    let world = world();
    let (object, _) = world.local(noise(72, 16 * PART));
    world.server().fail(on(Kind::PutPart).nth(6).forever(), Fault::internal_error());
    assert_report(&world.upload(&object).failed(), "E4001", &[&object.oid]);
    world.server().heal();
    let calls = push_again(&world, &object);
    assert_eq!(calls.count(Kind::BeginUpload), 0, "{calls}");
    assert!(calls.count(Kind::PutPart) <= 11, "{calls}");
}

#[test]
fn an_upload_whose_completion_failed_is_completed_by_the_next() {
    let world = world();
    let (object, _) = world.local(noise(73, 16 * PART));
    world.server().fail(on(Kind::CompleteUpload), Fault::ResetBefore);
    assert_report(&world.upload(&object).failed(), "E4001", &[&object.oid]);
    let calls = push_again(&world, &object);
    assert_eq!((calls.count(Kind::PutPart), calls.count(Kind::CompleteUpload)), (0, 1), "{calls}");
}

#[test]
fn a_part_with_other_bytes_is_sent_again() {
    for hides_checksums in [false, true] {
        let world = world();
        if hides_checksums {
            world.server().hide_part_checksums();
        }
        let (object, _) = world.local(noise(74, 16 * PART));
        kill_at_part(&world, &object, 6);
        world.server().damage_a_part();
        let calls = push_again(&world, &object);
        assert_eq!(calls.count(Kind::PutPart), 12, "{calls}");
    }
}

#[test]
fn an_upload_goes_on_in_parts_of_the_size_it_was_begun_with() {
    let mut world = world();
    let (object, _) = world.local(noise(89, 16 * PART));
    kill_at_part(&world, &object, 6);
    world.sandbox.unset("LFS_DELTA_PART_SIZE");
    let calls = push_again(&world, &object);
    assert_eq!((calls.count(Kind::PutPart), calls.count(Kind::CompleteUpload)), (11, 1), "{calls}");
}

#[test]
fn an_upload_that_is_a_day_old_is_given_up() {
    let mut world = world();
    let (object, _) = world.local(noise(75, 16 * PART));
    let name = kill_at_part(&world, &object, 6);
    world.sandbox.set("LFS_DELTA_LEFTOVER_AGE", "0ms");
    let calls = push_again(&world, &object);
    assert_eq!((calls.count(Kind::AbortUpload), calls.count(Kind::BeginUpload)), (1, 1), "{calls}");
    assert_eq!(calls.count(Kind::PutPart), 16, "{calls}");
    assert_ne!(world.copy(&object), name);
}

#[test]
fn old_uploads_of_other_objects_are_given_up_by_the_way() {
    let mut world = world();
    let (first, _) = world.local(noise(76, 16 * PART));
    kill_at_part(&world, &first, 6);
    world.sandbox.set("LFS_DELTA_LEFTOVER_AGE", "0ms");
    let (second, _) = world.local(noise(77, 16 * PART));
    push_again(&world, &second);
}

#[test]
fn an_upload_that_the_service_forgot_begins_anew() {
    let world = world();
    for fault in [Fault::status(404, "NoSuchUpload"), Fault::access_denied()] {
        let (object, _) = world.local(noise(78, 16 * PART));
        let name = kill_at_part(&world, &object, 6);
        world.server().fail(on(Kind::ListParts), fault);
        let calls = push_again(&world, &object);
        assert_eq!((calls.count(Kind::BeginUpload), calls.count(Kind::PutPart)), (1, 16), "{calls}");
        assert_ne!(world.copy(&object), name);
        world.remove(&world.copy(&object));
        fs::remove_dir_all(world.sandbox.path("b")).expect("machine b");
        fs::remove_dir_all(world.sandbox.path("cache-b")).expect("its cache");
        fs::remove_dir_all(world.sandbox.path("cache-a")).expect("what a remembers");
    }
}

#[test]
fn a_packed_copy_goes_on_with_the_payload_that_was_kept() {
    let world = world();
    let object = world.commit("file.txt", text(79, 6 << 20));
    let name = kill_at_part(&world, &object, 6);
    assert!(name.ends_with(".zst"), "{name}");
    let payload = kept(&world).into_iter().find(|path| path.extension().is_some()).expect("a payload");
    let bytes = fs::read(payload).expect("a payload");
    let calls = push_again(&world, &object);
    assert_eq!((calls.count(Kind::ListParts), calls.count(Kind::BeginUpload)), (1, 0), "{calls}");
    assert!(world.get(&name) == bytes, "something else was stored under the name");
}

#[test]
fn a_kept_payload_that_was_damaged_is_not_sent() {
    let world = world();
    let object = world.commit("file.txt", text(80, 6 << 20));
    let name = kill_at_part(&world, &object, 6);
    let payload = kept(&world).into_iter().find(|path| path.extension().is_some()).expect("a payload");
    let mut bytes = fs::read(&payload).expect("a payload");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::remove_file(&payload).expect("removed");
    fs::write(&payload, bytes).expect("damaged");
    push_again(&world, &object);
    assert_ne!(world.copy(&object), name);
}

/// Pushes a version, and kills the push of the next one, a delta of 600 KiB, in the middle.
fn with_a_killed_delta(world: &World) -> (Object, Object, String) {
    let first = noise(81, 3 << 20);
    let mut second = first.clone();
    second[1 << 20..][..600 << 10].copy_from_slice(&noise(82, 600 << 10));
    let base = world.commit("file.bin", first);
    world.push(&base);
    let object = world.commit("file.bin", second);
    let name = kill_at_part(world, &object, 6);
    assert!(name.contains("/delta."), "{name}");
    (base, object, name)
}

#[test]
fn a_delta_goes_on_after_its_base_was_looked_at_anew_and_is_confirmed_after_it() {
    let world = world();
    let (base, object, name) = with_a_killed_delta(&world);
    let calls = push_again(&world, &object);
    assert_eq!(calls.count(Kind::BeginUpload), 0, "{calls}");
    assert_eq!(world.copy(&object), name);
    let looks = |calls: &[crate::support::s3::Call]| {
        calls.iter().filter(|call| call.kind == Kind::List && call.query.contains(&base.oid)).count()
    };
    let completed = calls.iter().position(|call| call.kind == Kind::CompleteUpload).expect("a completion");
    assert_eq!((looks(&calls[..completed]), looks(&calls[completed..])), (1, 1), "{calls}");
}

#[test]
fn a_delta_whose_base_was_condemned_meanwhile_is_given_up_before_its_completion() {
    let world = world();
    let (base, object, name) = with_a_killed_delta(&world);
    let nonce = world.copy(&base).rsplit('.').next().expect("a nonce").to_owned();
    world.put(&format!("{}tombstone.{nonce}", base.folder()), b"test\n");
    world.push(&object);
    assert_eq!(world.server().open_uploads(), [] as [String; 0]);
    let copies = world.keys(&object.folder());
    assert!(!copies.contains(&name), "stored on a condemned base");
    assert!(copies.iter().any(|key| key.contains("/full.")), "{copies:?}");
}

#[test]
fn a_service_that_refuses_checksums_or_parts_works_without() {
    let without_checksums = world();
    without_checksums.server().refuse_checksums();
    let without_parts = world();
    without_parts.server().fail(on(Kind::BeginUpload).forever(), Fault::status(501, "NotImplemented"));
    for world in [without_checksums, without_parts] {
        for (seed, size) in [(83, 16 * PART), (84, PART)] {
            let (object, _) = world.local(noise(seed, size));
            world.push(&object);
            assert!(world.get(&world.copy(&object)) == object.bytes, "other bytes are stored");
        }
    }
}

#[test]
fn each_part_carries_its_checksum() {
    let world = world();
    let (object, _) = world.local(noise(85, 16 * PART));
    world.push(&object);
    let parts = world.server().take_calls().of(Kind::PutPart);
    assert_eq!(parts.len(), 16);
    assert!(parts.iter().all(|call| call.header("x-amz-checksum-crc32").is_some()), "{parts}");
    // Whoever does not know it would store the frames of an encoding as content.
    assert!(parts.iter().all(|call| call.header("content-encoding").is_none()), "{parts}");
}

#[test]
fn a_service_that_is_busy_is_sent_fewer_parts_at_once() {
    let mut world = world();
    world.sandbox.set("LFS_DELTA_ATTEMPTS", "8");
    let (object, path) = world.local(noise(86, 32 * PART));
    world.server().fail(on(Kind::PutPart), Fault::slow_down());
    world.server().fail(on(Kind::PutPart).nth(9).forever(), Fault::Hang);
    let mut agent = world.start("a", "upload");
    agent.send(&upload_event(&object.oid, object.size(), &path));
    let hung = |calls: &Calls| {
        let parts = calls.of(Kind::PutPart);
        parts.iter().filter(|call| call.fault.as_deref() == Some("Hang")).count()
    };
    // Four at once before the refusal, two after it. Others would come long before another process has pushed.
    world.server().wait_for(|calls| hung(calls) >= 2);
    world.push(&world.local("bytes").0);
    let calls = world.server().calls();
    assert_eq!(hung(&calls), 2, "{calls}");
    world.server().heal();
    world.server().release();
    agent.transfer(&object.oid).succeeded();
    agent.terminate();
}

#[test]
fn a_transfer_that_takes_longer_than_it_may_is_ended_and_goes_on_when_it_is_repeated() {
    let mut world = world();
    let (object, _) = world.local(noise(87, 16 * PART));
    world.server().fail(on(Kind::PutPart).nth(6).forever(), Fault::Hang);
    world.sandbox.set("LFS_DELTA_TRANSFER_TIMEOUT", "1s");
    assert_report(&world.upload(&object).failed(), "E4002", &[&object.oid, "lfs-delta.transferTimeout"]);
    world.sandbox.unset("LFS_DELTA_TRANSFER_TIMEOUT");
    world.server().heal();
    let calls = push_again(&world, &object);
    assert_eq!(calls.count(Kind::BeginUpload), 0, "{calls}");
}

#[test]
fn a_download_that_takes_longer_than_it_may_is_ended() {
    let mut world = world();
    let (object, _) = world.local(noise(88, PART));
    world.push(&object);
    world.add_machine("b");
    world.server().fail(on(Kind::Get).key("objects/").forever(), Fault::Hang);
    world.sandbox.set("LFS_DELTA_TRANSFER_TIMEOUT", "300ms");
    let message = world.download("b", &object).expect_err("a failure");
    assert_report(&message, "E4002", &[&object.oid, "lfs-delta.transferTimeout"]);
}
