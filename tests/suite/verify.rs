//! `lfs-delta verify`: that it names exactly what is damaged, never what is not, and puts it right.
//!
//! The worlds here have agents of git-lfs, and real git for the pointers; `git::hands` has real git-lfs.

mod damages;
mod findings;
mod pushes;
mod repair;

use std::collections::BTreeSet;

use serde_json::Value;

use crate::support::data::{edited, noise, text};
use crate::support::run::Ran;
use crate::world::{Object, World};

/// What a run of `verify --json` said.
#[derive(Debug)]
pub struct Said {
    pub code: i32,
    pub findings: Vec<Value>,
    pub summary: Value,
    pub ran: Ran,
}

impl Said {
    /// The oids that were named.
    pub fn oids(&self) -> BTreeSet<String> {
        self.findings.iter().map(|finding| text_of(finding, "oid")).collect()
    }

    /// Which state each named object has.
    pub fn states(&self) -> Vec<(String, String)> {
        self.findings.iter().map(|finding| (text_of(finding, "oid"), text_of(finding, "state"))).collect()
    }

    /// Fails the test unless nothing was found.
    #[track_caller]
    pub fn assert_clean(&self) {
        assert!(self.code == 0 && self.findings.is_empty(), "{}", self.ran);
    }

    /// Fails the test unless exactly these objects were found, each in the same state.
    #[track_caller]
    pub fn assert_all(&self, state: &str, objects: &[&Object]) {
        let mut expected: Vec<_> =
            objects.iter().map(|object| (object.oid.clone(), state.to_owned())).collect();
        expected.sort();
        assert_eq!(self.states(), expected, "{}", self.ran);
    }
}

pub fn text_of(value: &Value, field: &str) -> String {
    value[field].as_str().unwrap_or_else(|| panic!("no {field} in {value}")).to_owned()
}

/// Runs `verify --json` on machine `a`.
#[track_caller]
pub fn verify(world: &World, options: &[&str]) -> Said {
    verify_on(world, "a", options)
}

/// Runs `verify --json` on a machine.
#[track_caller]
pub fn verify_on(world: &World, machine: &str, options: &[&str]) -> Said {
    let ran = verify_text(world, machine, &[options, &["--json"]].concat());
    let lines: Vec<Value> =
        ran.stdout().lines().map(|line| serde_json::from_str(line).expect("a line of JSON")).collect();
    let (summary, findings) = lines.split_last().unwrap_or_else(|| panic!("nothing was said: {ran}"));
    assert_eq!(summary["type"], "summary", "{ran}");
    assert!(findings.iter().all(|finding| finding["type"] == "finding"), "{ran}");
    Said { code: ran.code(), findings: findings.to_vec(), summary: summary.clone(), ran }
}

/// Runs `verify` on a machine, for people.
#[track_caller]
pub fn verify_text(world: &World, machine: &str, options: &[&str]) -> Ran {
    let mut command = world.sandbox.command(world.sandbox.agent_path(), machine);
    command.args(["verify", "--store", &world.url]).args(options);
    command.env("LFS_DELTA_CACHE_DIR", world.sandbox.path(format!("cache-{machine}")));
    crate::support::run::run(command)
}

/// Pushes objects by one agent, as later versions of `name`.
pub fn push_versions(world: &World, name: &str, versions: Vec<Vec<u8>>) -> Vec<Object> {
    let objects: Vec<_> = versions.into_iter().map(|bytes| world.commit(name, bytes)).collect();
    let mut agent = world.start("a", "upload");
    for object in &objects {
        agent.upload(&object.oid, object.size(), &world.local_path("a", object)).succeeded();
    }
    agent.terminate();
    objects
}

/// A store with copies of every kind: raw, packed, chains on both, small ones, an empty one.
pub fn fill(world: &World) -> Vec<Object> {
    let history = |first: Vec<u8>, seed: u64, count: usize| -> Vec<Vec<u8>> {
        let next = |before: &Vec<u8>| Some(edited(before, seed ^ before.len() as u64, 3));
        std::iter::successors(Some(first), next).take(count).collect()
    };
    let mut objects = Vec::new();
    for seed in 0..3 {
        objects.extend(push_versions(
            world,
            &format!("noise {seed}.bin"),
            history(noise(seed, 12_000), seed, 5),
        ));
    }
    for seed in 0..2 {
        let first = text(seed, 60_000);
        objects.extend(push_versions(world, &format!("text {seed}.bin"), history(first, seed + 9, 4)));
    }
    for seed in 0..4 {
        objects.extend(push_versions(world, &format!("small {seed}.bin"), vec![noise(seed + 50, 900)]));
    }
    objects.extend(push_versions(world, "empty.bin", vec![Vec::new()]));
    let keys = world.keys("objects/");
    let count = |part: &str| keys.iter().filter(|key| key.contains(part)).count();
    assert_eq!(keys.len(), objects.len());
    assert!(count("/delta.") >= 15 && count("/full.") >= 10, "{keys:?}");
    assert!(keys.iter().any(|key| key.contains("/full.") && key.ends_with(".zst")), "{keys:?}");
    objects
}
