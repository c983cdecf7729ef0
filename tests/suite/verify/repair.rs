//! `verify --repair`: condemns what is wrong with all that is built on it, and stores again what can be had.

use lfs_delta::model::{Entry, Key};
use serde_json::json;

use super::{fill, push_versions, verify, verify_on, verify_text};
use crate::support::data::{noise, versions};
use crate::world::{Object, World};

impl World {
    /// Pulls objects on a machine that has nothing.
    #[track_caller]
    pub fn pull_everything(&self, objects: &[Object]) {
        self.add_machine("fresh");
        for object in objects {
            self.pull("fresh", object);
        }
    }
}

/// Damages the base, the middle or the end of a chain in some way.
fn damaged(world: &World, objects: &[Object], number: usize, how: &str) {
    let key = world.copy(&objects[number]);
    match how {
        "delete" => world.remove(&key),
        "truncate" => world.damage(&key, |bytes| bytes.truncate(bytes.len() / 2)),
        "flip" => world.damage(&key, |bytes| {
            let middle = bytes.len() / 2;
            bytes[middle] ^= 1;
        }),
        "swap" => {
            let other = world.copy(&objects[(number + 1) % objects.len()]);
            let (here, there) = (world.get(&key), world.get(&other));
            world.put(&key, there);
            world.put(&other, here);
        }
        _ => panic!("{how}"),
    }
}

/// The machine that pushed has everything: it repairs at once.
#[test]
fn a_machine_that_has_the_objects_repairs_every_damage_at_once() {
    for (how, number) in
        [("delete", 0), ("truncate", 0), ("flip", 1), ("swap", 1), ("delete", 2), ("flip", 3)]
    {
        for world in [World::on_directory(), World::on_s3()] {
            let objects = push_versions(&world, "file.bin", versions(1, 20_000, 4));
            damaged(&world, &objects, number, how);
            assert_eq!(verify(&world, &["--refs", "--read-data"]).code, 5, "{how} {number}");
            let before = world.keys("objects/");
            let said = verify(&world, &["--refs", "--read-data", "--repair"]);
            said.assert_clean();
            let again = said.summary["stored_again"].as_u64().expect("a number");
            assert!(again >= 1, "{}", said.ran);
            assert!(before.iter().all(|key| world.keys("objects/").contains(key)), "something was deleted");
            verify(&world, &["--refs", "--read-data"]).assert_clean();
            world.pull_everything(&objects);
        }
    }
}

/// A machine without the objects condemns; the one that has them pushes, and all is well.
#[test]
fn what_one_machine_condemned_the_next_push_of_another_stores_again() {
    for world in [World::on_directory(), World::on_s3()] {
        world.add_machine("b");
        let objects = push_versions(&world, "file.bin", versions(1, 20_000, 4));
        let other = push_versions(&world, "other.bin", vec![noise(5, 9000)]);
        damaged(&world, &objects, 1, "flip");
        let said = verify_on(&world, "b", &["--read-data", "--repair"]);
        said.assert_all("damaged", &[&objects[1], &objects[2], &objects[3]]);
        assert_eq!((&said.summary["condemned_now"], &said.summary["stored_again"]), (&json!(3), &json!(0)));
        assert_eq!(said.code, 5);
        let tombstones = || world.keys("objects/").iter().filter(|key| key.contains("/tombstone.")).count();
        assert_eq!(tombstones(), 3);
        let mut agent = world.start("a", "upload");
        for object in objects.iter().chain(&other) {
            agent.upload(&object.oid, object.size(), &world.local_path("a", object)).succeeded();
        }
        agent.terminate();
        verify_on(&world, "b", &["--read-data"]).assert_clean();
        // Nothing is left to do.
        let before = world.keys("objects/");
        verify(&world, &["--refs", "--read-data", "--repair"]).assert_clean();
        assert_eq!(world.keys("objects/"), before);
        world.pull_everything(&objects);
    }
}

/// The bytes are still in the store, by another copy of the base: a machine that has nothing saves them.
#[test]
fn what_the_store_still_yields_is_stored_again_by_a_machine_that_has_nothing() {
    let world = World::on_directory();
    world.add_machine("b");
    let objects = push_versions(&world, "file.bin", versions(1, 20_000, 3));
    world.put(&format!("{}full.{}", objects[0].folder(), "ab".repeat(16)), &objects[0].bytes);
    let first =
        world.keys(&objects[0].folder()).into_iter().find(|key| !key.contains("abab")).expect("a copy");
    world.remove(&first);
    verify_on(&world, "b", &[]).assert_all("weakened", &[&objects[1], &objects[2]]);
    let said = verify_on(&world, "b", &["--repair"]);
    said.assert_clean();
    // The missing copy itself, and the two that are built on it.
    assert_eq!((&said.summary["condemned_now"], &said.summary["stored_again"]), (&json!(3), &json!(2)));
    verify_on(&world, "b", &["--read-data"]).assert_clean();
    world.pull_everything(&objects);
}

/// Somebody stores a delta on a damaged copy while that is being condemned: the next look finds it.
#[test]
fn copies_that_were_stored_meanwhile_on_a_condemned_one_are_condemned_as_well() {
    use crate::support::s3::{Fault, Kind, on};
    let world = World::on_s3();
    let objects = push_versions(&world, "file.bin", versions(1, 20_000, 3));
    world.add_machine("b");
    let last = world.copy(&objects[2]);
    let bytes = world.get(&last);
    world.remove(&last);
    world.damage(&world.copy(&objects[0]), |bytes| bytes[99] ^= 1);
    world.server().fail(on(Kind::Put).key("/tombstone."), Fault::Hang);
    std::thread::scope(|scope| {
        let check = scope.spawn(|| verify_on(&world, "b", &["--read-data", "--repair"]));
        world
            .server()
            .wait_for(|calls| calls.of(Kind::Put).iter().any(|call| call.key.contains("/tombstone.")));
        world.put(&last, &bytes);
        world.server().release();
        let said = check.join().expect("a check");
        assert_eq!(said.summary["condemned_now"], json!(3), "{}", said.ran);
    });
    assert!(world.keys(&objects[2].folder()).iter().any(|key| key.contains("/tombstone.")));
}

#[test]
fn a_damaged_local_object_is_never_stored_by_a_repair() {
    let world = World::on_directory();
    let objects = push_versions(&world, "file.bin", vec![noise(1, 9000)]);
    world.damage(&world.copy(&objects[0]), |bytes| bytes[99] ^= 1);
    world.sandbox.write(world.local_path("a", &objects[0]), noise(2, 9000));
    let said = verify(&world, &["--read-data", "--repair"]);
    said.assert_all("damaged", &[&objects[0]]);
    assert_eq!(said.summary["stored_again"], json!(0));
    world.sandbox.write(world.local_path("a", &objects[0]), &objects[0].bytes);
    verify(&world, &["--read-data", "--repair"]).assert_clean();
}

#[test]
fn an_object_that_was_never_pushed_is_pushed_by_a_repair() {
    let world = World::on_directory();
    fill(&world);
    let object = world.commit("new.bin", noise(77, 9000));
    verify(&world, &["--refs"]).assert_all("missing", &[&object]);
    let said = verify(&world, &["--refs", "--repair"]);
    said.assert_clean();
    assert_eq!((&said.summary["condemned_now"], &said.summary["stored_again"]), (&json!(0), &json!(1)));
    world.pull_everything(&[object]);
}

#[test]
fn a_repair_without_the_right_to_write_says_so_and_changes_nothing() {
    use crate::support::s3::{Fault, Kind, on};
    let world = World::on_s3();
    let objects = push_versions(&world, "file.bin", versions(1, 20_000, 2));
    world.damage(&world.copy(&objects[0]), |bytes| bytes[99] ^= 1);
    let before = world.keys("objects/");
    world.server().fail(on(Kind::Put).forever(), Fault::access_denied());
    let ran = verify_text(&world, "a", &["--read-data", "--repair"]).says("E3001").says("tombstone");
    assert_eq!((ran.code(), world.keys("objects/")), (7, before));
}

/// What a machine has listed within the last minute is forgotten by its repair: the next push looks anew.
#[test]
fn a_push_right_after_a_repair_relies_on_nothing_that_was_condemned() {
    let world = World::on_directory();
    let objects = push_versions(&world, "file.bin", versions(1, 20_000, 6));
    let push = || {
        let mut agent = world.start("a", "upload");
        for object in &objects {
            agent.upload(&object.oid, object.size(), &world.local_path("a", object)).succeeded();
        }
        agent.terminate();
    };
    // Lists, and shares what it saw.
    push();
    damaged(&world, &objects, 0, "flip");
    // Another repository of the same machine, which has none of the objects.
    world.add_machine("b");
    let mut command = world.sandbox.command(world.sandbox.agent_path(), "b");
    command.args(["verify", "--store", &world.url, "--read-data", "--repair"]);
    command.env("LFS_DELTA_CACHE_DIR", world.sandbox.path("cache-a"));
    // The cache of the machine has them: it is of no help here.
    std::fs::remove_dir_all(world.sandbox.path("cache-a/objects")).expect("cached objects");
    assert_eq!(crate::support::run::run(command).says("6 objects").code(), 5);
    push();
    verify_on(&world, "b", &["--read-data"]).assert_clean();
}

/// Killed after its first tombstone: whoever repairs next finishes it.
#[test]
fn a_repair_that_was_broken_off_is_finished_by_the_next() {
    for how in ["flip", "delete"] {
        let world = World::on_directory();
        let objects = push_versions(&world, "file.bin", versions(1, 20_000, 4));
        let base = world.copy(&objects[1]);
        let Some(Entry::Copy(name)) = Entry::parse(&base) else { panic!("{base}") };
        damaged(&world, &objects, 1, how);
        world.put(Key::tombstone(&name.id).as_str(), "damaged\n");
        let said = verify(&world, &["--refs", "--read-data", "--repair"]);
        said.assert_clean();
        // The two that are built on it; all three are stored anew.
        assert_eq!(
            (&said.summary["condemned_now"], &said.summary["stored_again"]),
            (&json!(2), &json!(3)),
            "{how}"
        );
        verify(&world, &["--refs", "--read-data"]).assert_clean();
        world.pull_everything(&objects);
    }
}
