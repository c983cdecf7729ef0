//! Agents at work on real S3 servers that are not ours: several at once, and while a part of a cluster dies.
//!
//! What is acknowledged must come back, whatever happens; what is not must fail with a reason, and work when repeated.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::support::data::noise;
use crate::support::endpoint::Endpoint;
use crate::support::engine::{Engine, Kind};
use crate::support::fake_lfs::FakeLfs;
use crate::support::sandbox::{Sandbox, files_below};
use crate::world::{Object, assert_report};

/// A store on a server, and machines that use it.
struct Team {
    sandbox: Sandbox,
    url: String,
}

impl Team {
    /// Makes a store, and machine `a`.
    fn on(endpoint: &Endpoint) -> Team {
        let mut sandbox = Sandbox::new();
        sandbox.use_s3(endpoint).set("LFS_DELTA_BACKOFF", "50ms").set("LFS_DELTA_ATTEMPTS", "5");
        let team = Team { sandbox, url: endpoint.store_url("team") };
        team.add_machine("a");
        team.sandbox.lfs_delta("a", &["init", &team.url]);
        team
    }

    fn add_machine(&self, name: &str) {
        self.sandbox.git("", &["init", "--quiet", name]);
    }

    fn start(&self, machine: &str, operation: &str) -> FakeLfs {
        let mut command = self.sandbox.command(self.sandbox.agent_path(), machine);
        command.args(["agent", "--store", &self.url]);
        command.env("LFS_DELTA_CACHE_DIR", self.sandbox.path(format!("cache-{machine}")));
        FakeLfs::spawn(command).accepted(operation)
    }

    /// Puts objects of noise into the LFS folder of machine `a`.
    fn objects(&self, seed: u64, count: u64, size: usize) -> Vec<Object> {
        let objects = (0..count).map(|number| Object::new(noise(seed * 1000 + number, size)));
        objects.inspect(|object| drop(self.sandbox.write(self.local_path(object), &object.bytes))).collect()
    }

    fn local_path(&self, object: &Object) -> std::path::PathBuf {
        let oid = &object.oid;
        self.sandbox.path("a/.git/lfs/objects").join(&oid[..2]).join(&oid[2..4]).join(oid)
    }

    /// Uploads an object; returns the reason where that fails.
    fn upload(&self, agent: &mut FakeLfs, object: &Object) -> Result<(), String> {
        let transfer = agent.upload(&object.oid, object.size(), &self.local_path(object));
        transfer.error().map_or(Ok(()), |message| Err(message.to_owned()))
    }

    /// Downloads an object, and fails the test if other bytes come.
    fn download(&self, agent: &mut FakeLfs, object: &Object) -> Result<(), String> {
        let transfer = agent.download(&object.oid, object.size());
        if let Some(message) = transfer.error() {
            return Err(message.to_owned());
        }
        let bytes = std::fs::read(transfer.path()).expect("a file");
        assert!(bytes == object.bytes, "other bytes came for {}", object.oid);
        Ok(())
    }

    /// Fails the test unless a new machine gets all objects.
    #[track_caller]
    fn assert_readable(&self, machine: &str, objects: &[Object]) {
        self.add_machine(machine);
        let mut agent = self.start(machine, "download");
        for object in objects {
            self.download(&mut agent, object).unwrap_or_else(|message| panic!("{message}"));
        }
        agent.terminate();
    }
}

/// Lets four agents of one machine push the same objects at once, each in another order.
fn push_the_same_at_once(team: &Team, objects: &[Object]) {
    std::thread::scope(|scope| {
        for shift in 0..4 {
            scope.spawn(move || {
                let mut agent = team.start("a", "upload");
                for number in 0..objects.len() {
                    let object = &objects[(number + shift * objects.len() / 4) % objects.len()];
                    team.upload(&mut agent, object).unwrap_or_else(|message| panic!("{message}"));
                }
                agent.terminate();
            });
        }
    });
}

fn agents_at_once_on(endpoint: &Endpoint) {
    let team = Team::on(endpoint);
    let objects = team.objects(1, 12, 100_000);
    push_the_same_at_once(&team, &objects);
    team.assert_readable("b", &objects);
}

#[test]
fn agents_at_once_push_the_same_objects_to_seaweedfs() {
    agents_at_once_on(&Engine::seaweedfs().new_bucket());
}

#[test]
fn agents_at_once_push_the_same_objects_to_rclone() {
    agents_at_once_on(&Engine::rclone().new_bucket());
}

#[cfg(feature = "soak")]
#[test]
fn agents_at_once_push_the_same_objects_to_garage() {
    let garage = Engine::start(Kind::Garage);
    agents_at_once_on(&garage.endpoint);
    large_objects_on(&garage.endpoint, 17 << 20, "5M");
}

/// Pushes and pulls an object in parts of this size, where the server knows such uploads.
fn large_objects_on(endpoint: &Endpoint, size: usize, part_size: &str) {
    let mut team = Team::on(endpoint);
    team.sandbox.set("LFS_DELTA_PART_SIZE", part_size);
    let objects = team.objects(2, 1, size);
    let mut agent = team.start("a", "upload");
    team.upload(&mut agent, &objects[0]).unwrap_or_else(|message| panic!("{message}"));
    agent.terminate();
    let notes = files_below(&team.sandbox.path("cache-a/stores")).into_keys();
    let of_uploads = notes.filter(|path| path.to_string_lossy().contains("/uploads/"));
    assert_eq!(of_uploads.count(), 0, "notes of an upload stay");
    team.assert_readable("b", &objects);
}

#[test]
fn large_objects_go_to_seaweedfs_in_parts() {
    large_objects_on(&Engine::seaweedfs().new_bucket(), 50 << 20, "5M");
}

#[test]
fn a_server_whose_answers_to_uploads_in_parts_cannot_be_read_gets_large_objects_in_one_piece() {
    large_objects_on(&Engine::rclone().new_bucket(), 5 << 20, "64K");
}

/// Tries again what failed, until nothing does. The reasons must be those of a service that is not well.
fn repeat(failed: &mut Vec<(Object, String)>, attempt: impl Fn(&Object) -> Result<(), String>) {
    for _ in 0..20 {
        for (object, message) in failed.iter() {
            assert_report(message, "E4001", &[&object.oid]);
        }
        let again = std::mem::take(failed).into_iter();
        failed
            .extend(again.filter_map(|(object, _)| attempt(&object).err().map(|message| (object, message))));
        if failed.is_empty() {
            return;
        }
        // The cluster takes its seconds to notice who is gone.
        std::thread::sleep(Duration::from_millis(500));
    }
    let reasons: Vec<_> = failed.iter().map(|(_, message)| message).collect();
    panic!("never works again: {reasons:?}");
}

#[test]
fn a_cluster_that_loses_a_machine_in_the_middle_loses_nothing_that_was_acknowledged() {
    let cluster = Engine::start(Kind::SeaweedFsCluster);
    let mut team = Team::on(&cluster.endpoint);
    team.sandbox.set("LFS_DELTA_PART_SIZE", "5M").set("LFS_DELTA_READ_TIMEOUT", "5s");
    let mut objects = team.objects(3, 20, 100_000);
    // One that goes up in parts, right after a machine was lost.
    objects.splice(10..10, team.objects(4, 1, 45 << 20));

    let mut agent = team.start("a", "upload");
    let mut failed = Vec::new();
    for (number, object) in objects.iter().enumerate() {
        if number == 10 {
            cluster.kill("volume-2");
        }
        if let Err(message) = team.upload(&mut agent, object) {
            failed.push((object.clone(), message));
        }
    }
    agent.terminate();
    println!("{} of {} uploads failed while a machine was lost", failed.len(), objects.len());
    let lost: BTreeSet<_> = failed.iter().map(|(object, _)| object.oid.clone()).collect();
    let acknowledged = objects.iter().filter(|object| !lost.contains(&object.oid)).cloned();
    team.add_machine("b");
    let mut unread: Vec<_> = acknowledged.map(|object| (object, String::new())).collect();
    let pull = |object: &Object| {
        let mut agent = team.start("b", "download");
        let outcome = team.download(&mut agent, object);
        agent.terminate();
        outcome
    };
    unread = unread
        .into_iter()
        .filter_map(|(object, _)| pull(&object).err().map(|message| (object, message)))
        .collect();
    repeat(&mut unread, pull);
    repeat(&mut failed, |object| {
        let mut agent = team.start("a", "upload");
        let outcome = team.upload(&mut agent, object);
        agent.terminate();
        outcome
    });
    team.assert_readable("c", &objects);
}

#[test]
fn a_pull_from_a_cluster_that_loses_a_machine_in_the_middle_goes_on_or_works_when_it_is_repeated() {
    let cluster = Engine::start(Kind::SeaweedFsCluster);
    let mut team = Team::on(&cluster.endpoint);
    team.sandbox.set("LFS_DELTA_READ_TIMEOUT", "5s").set("LFS_DELTA_STALL_TIMEOUT", "5s");
    let mut objects = team.objects(5, 20, 100_000);
    objects.splice(10..10, team.objects(6, 1, 40 << 20));
    let mut agent = team.start("a", "upload");
    for object in &objects {
        team.upload(&mut agent, object).unwrap_or_else(|message| panic!("{message}"));
    }
    agent.terminate();

    team.add_machine("b");
    let mut agent = team.start("b", "download");
    let mut failed = Vec::new();
    for (number, object) in objects.iter().enumerate() {
        if number == 10 {
            cluster.kill("volume-3");
        }
        if let Err(message) = team.download(&mut agent, object) {
            failed.push((object.clone(), message));
        }
    }
    agent.terminate();
    println!("{} of {} downloads failed while a machine was lost", failed.len(), objects.len());
    repeat(&mut failed, |object| {
        let mut agent = team.start("b", "download");
        let outcome = team.download(&mut agent, object);
        agent.terminate();
        outcome
    });
}
