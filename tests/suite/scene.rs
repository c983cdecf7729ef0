//! Transfers that are played again and again, each time with another thing going wrong.
//!
//! A scene remembers the world as it was before, and goes back to it before each play.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use serde_json::Value;

use crate::support::data::{text, versions};
use crate::support::fake_lfs::{FakeLfs, Transfer, download_event, upload_event};
use crate::world::{Object, Still, World};

/// How long one play may take on a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// One transfer, and the world before it.
pub struct Scene {
    pub name: String,
    pub world: World,
    pub still: Still,
    /// What was stored before and must never be lost.
    pub acknowledged: Vec<Object>,
    /// What is asked for, and what is stored with it.
    pub objects: Vec<Object>,
    pub machine: &'static str,
    pub operation: &'static str,
    pub request: Value,
}

impl Scene {
    pub fn new(name: &str, world: World, acknowledged: Vec<Object>, objects: Vec<Object>) -> Scene {
        let object = objects.last().expect("an object");
        let request = upload_event(&object.oid, object.size(), &world.local_path("a", object));
        world.add_machine("cold");
        let name = format!("{name} on {}", if world.url.starts_with("s3") { "S3" } else { "a directory" });
        let still = world.still();
        Scene { name, world, still, acknowledged, objects, machine: "a", operation: "upload", request }
    }

    pub fn pull(name: &str, world: World, machine: &'static str, object: Object) -> Scene {
        let request = download_event(&object.oid, object.size());
        let scene = Scene::new(name, world, vec![object.clone()], vec![object]);
        Scene { machine, operation: "download", request, ..scene }
    }

    /// Goes back to what was before.
    pub fn restore(&self) {
        self.world.restore(&self.still);
    }

    /// The object that is asked for.
    pub fn object(&self) -> &Object {
        self.objects.last().expect("an object")
    }

    /// The agent that plays it, not started yet.
    pub fn command(&self) -> Command {
        self.world.agent_command(self.machine)
    }

    /// Checks what must be true whatever went wrong, and then plays it once more with nothing going wrong.
    ///
    /// What was ever acknowledged comes back on a machine that has nothing; what was not is there or is said to
    /// be missing, and never damaged; the same request works; no more than one copy is left over.
    pub fn assert_survived(&self, was_acknowledged: bool) {
        let mut cold = self.world.start("cold", "download");
        for object in &self.acknowledged {
            fetch(&mut cold, object).expect("what was acknowledged");
        }
        if let Err(code) = fetch(&mut cold, self.object()) {
            assert!(!was_acknowledged && code == 5003, "{}: E{code}", self.name);
        }
        self.assert_plays();
        for object in &self.objects {
            fetch(&mut cold, object).expect("what was stored after all");
            let copies = self.world.keys(&object.folder());
            assert!(copies.len() <= 2, "{}: more than one is left over: {copies:?}", self.name);
        }
        cold.terminate();
        let left = self.world.temporary_files(self.machine);
        assert!(left.is_empty(), "{}: left behind: {left:?}", self.name);
    }

    /// Plays it by a process that sweeps what others left; it must work.
    fn assert_plays(&self) {
        let mut command = self.command();
        command.env("LFS_DELTA_LEFTOVER_AGE", "0ms");
        let mut agent = FakeLfs::spawn(command);
        let transfer = agent.attempt(self.operation, &self.request).expect("an answer").succeeded();
        self.assert_bytes(&transfer);
        agent.terminate();
    }

    /// Fails the test if a download that worked gave other bytes; takes its file away.
    pub fn assert_bytes(&self, transfer: &Transfer) {
        if self.operation == "download" && transfer.error().is_none() {
            assert!(take(&transfer.path()) == self.object().bytes, "{}: other bytes", self.name);
        }
    }
}

/// Reads a downloaded file and takes it away, as git-lfs does.
pub fn take(path: &Path) -> Vec<u8> {
    let bytes = fs::read(path).expect("a downloaded file");
    fs::remove_file(path).expect("a downloaded file");
    bytes
}

/// Downloads an object; fails the test if other bytes come, returns the code of an error.
pub fn fetch(agent: &mut FakeLfs, object: &Object) -> Result<(), i64> {
    let transfer = agent.download(&object.oid, object.size());
    if let Some(code) = transfer.code() {
        return Err(code);
    }
    assert!(take(&transfer.path()) == object.bytes, "other bytes came for {}", object.oid);
    Ok(())
}

// ---- the scenes

pub fn worlds() -> [World; 2] {
    [World::on_directory(), World::on_s3()]
}

/// A first object: `text` is packed first, what looks random is stored as it is.
pub fn push_full(world: World, bytes: Vec<u8>) -> Scene {
    let object = world.commit("file.bin", bytes);
    Scene::new("push-full", world, Vec::new(), vec![object])
}

/// A second version, on a first one that is stored.
pub fn push_delta(world: World) -> Scene {
    let bodies = versions(71, 20_000, 2);
    let first = world.pushed(bodies[..1].to_vec());
    let second = world.commit("file.bin", bodies[1].clone());
    Scene::new("push-delta", world, first, vec![second])
}

/// The same by a machine that remembers nothing: it looks the base up, and reads its header.
pub fn push_delta_afresh(world: World) -> Scene {
    let bodies = versions(71, 20_000, 2);
    let bodies = bodies.into_iter().map(|bytes| [text(71, 20_000), bytes].concat());
    let objects: Vec<_> = bodies.map(|bytes| world.commit("file.bin", bytes)).collect();
    world.push(&objects[0]);
    fs::remove_dir_all(world.sandbox.path("cache-a")).expect("a cache");
    Scene::new("push-delta afresh", world, objects[..1].to_vec(), objects[1..].to_vec())
}

/// The third of three versions none of which is stored: the others go before it.
pub fn push_history(world: World) -> Scene {
    let objects = versions(72, 20_000, 3).into_iter().map(|bytes| world.commit("file.bin", bytes)).collect();
    Scene::new("push-history", world, Vec::new(), objects)
}

/// A chain of three copies by a machine that has nothing.
pub fn pull_cold(world: World) -> Scene {
    let object = world.pushed(versions(73, 20_000, 3)).remove(2);
    world.add_machine("b");
    Scene::pull("pull-cold", world, "b", object)
}

/// A delta by a machine that has its base.
pub fn pull_warm(world: World) -> Scene {
    let mut objects = world.pushed(versions(74, 20_000, 2));
    world.add_machine("b");
    world.pull("b", &objects[0]);
    Scene::pull("pull-warm", world, "b", objects.remove(1))
}
