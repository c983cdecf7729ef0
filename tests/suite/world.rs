//! A store, and machines with a repository each that push to it and pull from it by the agent.
//!
//! Every machine has its own repository and its own cache folder, so "another machine" means: nothing at
//! hand. The store is a directory or the S3 server of the tests; both can be looked into and damaged.
#![allow(dead_code)] // not every test needs every helper

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::support::data::{oid, pointer};
use crate::support::fake_lfs::{FakeLfs, Transfer};
use crate::support::s3::{self, S3Server};
use crate::support::sandbox::{self, Sandbox, files_below};

/// What every manifest of format 1 starts with, as `docs/format.md` section 2 has it.
pub const MANIFEST: &str = "{\n  \"format\": 1\n}\n";

/// Below which prefix of the bucket the store is.
const PREFIX: &str = "team/game";

/// One object.
#[derive(Clone, Debug)]
pub struct Object {
    pub oid: String,
    pub bytes: Vec<u8>,
}

impl Object {
    pub fn new(bytes: impl Into<Vec<u8>>) -> Object {
        let bytes = bytes.into();
        Object { oid: oid(&bytes), bytes }
    }

    pub fn size(&self) -> u64 {
        self.bytes.len() as u64
    }

    /// The folder of its copies.
    pub fn folder(&self) -> String {
        format!("objects/{}/{}/", &self.oid[..2], self.oid)
    }
}

/// A store with machines around it.
pub struct World {
    pub sandbox: Sandbox,
    /// The S3 server, if the store is in a bucket.
    server: Option<S3Server>,
    /// The store, as `agent --store` takes it.
    pub url: String,
}

impl World {
    /// A store in a directory, and machine `a`.
    pub fn on_directory() -> World {
        let sandbox = Sandbox::new();
        let url = format!("file://{}", sandbox.path("store").display());
        let world = World { sandbox, server: None, url };
        world.put("lfs-delta.json", MANIFEST);
        world.add_machine("a");
        world
    }

    /// A store below a prefix of a bucket, and machine `a`. Retries are quick.
    pub fn on_s3() -> World {
        World::on_server(S3Server::start())
    }

    /// The same, on a server that was started already.
    pub fn on_server(server: S3Server) -> World {
        let mut sandbox = Sandbox::new();
        sandbox.use_s3(&server.endpoint).set("LFS_DELTA_BACKOFF", "5ms");
        let url = server.endpoint.store_url(PREFIX);
        let world = World { sandbox, server: Some(server), url };
        world.put("lfs-delta.json", MANIFEST);
        world.add_machine("a");
        world
    }

    /// The server behind the store.
    pub fn server(&self) -> &S3Server {
        self.server.as_ref().expect("a store in a bucket")
    }

    /// The same, if there is one.
    pub fn in_bucket(&self) -> Option<&S3Server> {
        self.server.as_ref()
    }

    /// Makes a machine: a repository with this name.
    pub fn add_machine(&self, machine: &str) -> PathBuf {
        let sandbox = &self.sandbox;
        sandbox.git("", &["init", "--quiet", machine]);
        let url = "https://user:password@git.example.invalid/team/game.git";
        sandbox.git(machine, &["config", "remote.origin.url", url]);
        sandbox.path(machine)
    }

    // ---- objects

    /// Puts an object into the LFS folder of machine `a`, in no commit.
    pub fn local(&self, bytes: impl Into<Vec<u8>>) -> (Object, PathBuf) {
        let object = Object::new(bytes);
        let path = self.local_path("a", &object);
        self.sandbox.write(&path, &object.bytes);
        (object, path)
    }

    /// The same, and commits its pointer as the next version of `name`.
    pub fn commit(&self, name: &str, bytes: impl Into<Vec<u8>>) -> Object {
        let (object, _) = self.local(bytes);
        self.sandbox.commit_file("a", name, pointer(&object.bytes).as_bytes());
        object
    }

    /// Commits and pushes versions of one file, each in a process of its own.
    pub fn pushed(&self, versions: Vec<Vec<u8>>) -> Vec<Object> {
        let push = |bytes| {
            let object = self.commit("file.bin", bytes);
            self.push(&object);
            object
        };
        versions.into_iter().map(push).collect()
    }

    /// Where git-lfs keeps an object on a machine.
    pub fn local_path(&self, machine: &str, object: &Object) -> PathBuf {
        let oid = &object.oid;
        self.sandbox.path(machine).join(".git/lfs/objects").join(&oid[..2]).join(&oid[2..4]).join(oid)
    }

    /// Where a machine's cache keeps an object.
    pub fn cached_path(&self, machine: &str, object: &Object) -> PathBuf {
        self.cache_folder(machine).join("objects").join(&object.oid[..2]).join(&object.oid)
    }

    fn cache_folder(&self, machine: &str) -> PathBuf {
        self.sandbox.path(format!("cache-{machine}"))
    }

    // ---- transfers

    /// The agent of a machine, not started yet.
    pub fn agent_command(&self, machine: &str) -> Command {
        let mut command = self.sandbox.command(self.sandbox.agent_path(), machine);
        command.args(["agent", "--store", &self.url]);
        command.env("LFS_DELTA_CACHE_DIR", self.cache_folder(machine));
        command
    }

    /// Starts a machine's agent.
    #[track_caller]
    pub fn start(&self, machine: &str, operation: &str) -> FakeLfs {
        FakeLfs::spawn(self.agent_command(machine)).accepted(operation)
    }

    /// Uploads an object of machine `a` by a process of its own.
    #[track_caller]
    pub fn upload(&self, object: &Object) -> Transfer {
        let mut agent = self.start("a", "upload");
        let transfer = agent.upload(&object.oid, object.size(), &self.local_path("a", object));
        agent.terminate();
        transfer
    }

    /// The same, and fails the test unless it works.
    #[track_caller]
    pub fn push(&self, object: &Object) {
        self.upload(object).succeeded();
    }

    /// Downloads an object by a process of its own, and returns its bytes or the error's message.
    ///
    /// Fails the test if a failed download leaves a file, or any download touches git-lfs' own objects.
    #[track_caller]
    pub fn download(&self, machine: &str, object: &Object) -> Result<Vec<u8>, String> {
        let objects = self.sandbox.path(machine).join(".git/lfs/objects");
        let before = objects.is_dir().then(|| files_below(&objects));
        let mut agent = self.start(machine, "download");
        let transfer = agent.download(&object.oid, object.size());
        let outcome = match transfer.error() {
            None => Ok(fs::read(transfer.path()).expect("a downloaded file")),
            Some(message) => Err(message.to_owned()),
        };
        let parts: Vec<_> = self.temporary_files(machine);
        assert_eq!(parts.len(), usize::from(outcome.is_ok()), "temporary files: {parts:?}");
        agent.terminate();
        assert_eq!(objects.is_dir().then(|| files_below(&objects)), before, "git-lfs' objects changed");
        assert_eq!(self.temporary_files(machine), [] as [PathBuf; 0], "left behind");
        outcome
    }

    /// Downloads an object and fails the test unless its bytes come.
    #[track_caller]
    pub fn pull(&self, machine: &str, object: &Object) {
        let bytes = self.download(machine, object).unwrap_or_else(|message| panic!("{message}"));
        assert!(bytes == object.bytes, "other bytes came");
    }

    /// Fails the test unless a new machine cannot download an object, twice; returns the message.
    #[track_caller]
    pub fn cannot_pull(&self, object: &Object) -> String {
        self.add_machine("cold");
        let first = self.download("cold", object).expect_err("a failure");
        let second = self.download("cold", object).expect_err("a failure again");
        assert_eq!(first, second);
        first
    }

    /// What is in a machine's temporary folder of git-lfs, but for the lock files of live agents.
    pub fn temporary_files(&self, machine: &str) -> Vec<PathBuf> {
        let folder = self.sandbox.path(machine).join(".git/lfs/tmp");
        let files = if folder.is_dir() { files_below(&folder) } else { return Vec::new() };
        files.into_keys().filter(|path| !path.ends_with("in-use")).collect()
    }

    // ---- going back

    /// Remembers everything: the machines and the store.
    pub fn still(&self) -> Still {
        let files = sandbox::Still::of(self.sandbox.root());
        Still { files, bucket: self.server.as_ref().map(S3Server::still) }
    }

    /// Makes everything what it was. All agents must have ended.
    pub fn restore(&self, still: &Still) {
        still.files.restore();
        if let (Some(server), Some(bucket)) = (&self.server, &still.bucket) {
            server.restore(bucket);
        }
    }

    // ---- the store, behind the program's back

    /// All keys that begin with `prefix`, in order. Staged files of a directory are no keys.
    pub fn keys(&self, prefix: &str) -> Vec<String> {
        let keys: Vec<String> = match &self.server {
            Some(server) => {
                let root = format!("{PREFIX}/");
                let keys = server.keys(&root);
                keys.iter().map(|key| key[root.len()..].to_owned()).collect()
            }
            None => {
                let files = files_below(&self.sandbox.path("store")).into_keys();
                files.map(|path| path.to_str().expect("a text path").to_owned()).collect()
            }
        };
        let mut keys: Vec<String> =
            keys.into_iter().filter(|key| key.starts_with(prefix) && !key.starts_with("tmp/")).collect();
        keys.sort();
        keys
    }

    /// The key of an object's only copy.
    #[track_caller]
    pub fn copy(&self, object: &Object) -> String {
        let keys = self.keys(&object.folder());
        assert_eq!(keys.len(), 1, "not one copy: {keys:?}");
        keys[0].clone()
    }

    /// The bytes under a key.
    #[track_caller]
    pub fn get(&self, key: &str) -> Vec<u8> {
        match &self.server {
            Some(server) => server.get_raw(&format!("{PREFIX}/{key}")).expect("an object").to_vec(),
            None => fs::read(self.store_path(key)).expect("a stored file"),
        }
    }

    /// Stores bytes under a key, whatever was there.
    pub fn put(&self, key: &str, bytes: impl AsRef<[u8]>) {
        match &self.server {
            Some(server) => server.put_raw(&format!("{PREFIX}/{key}"), bytes.as_ref().to_vec()),
            None => drop(self.sandbox.write(self.store_path(key), bytes)),
        }
    }

    /// Removes what is under a key.
    #[track_caller]
    pub fn remove(&self, key: &str) {
        match &self.server {
            Some(server) => assert!(server.delete_raw(&format!("{PREFIX}/{key}")), "no {key}"),
            None => fs::remove_file(self.store_path(key)).expect("a stored file"),
        }
    }

    /// Changes the bytes under a key.
    #[track_caller]
    pub fn damage(&self, key: &str, damage: impl FnOnce(&mut Vec<u8>)) {
        let mut bytes = self.get(key);
        damage(&mut bytes);
        self.put(key, bytes);
    }

    /// Where a key is in a directory store.
    pub fn store_path(&self, key: &str) -> PathBuf {
        self.sandbox.path(Path::new("store").join(key))
    }

    /// The key as it stands in the bucket.
    pub fn bucket_key(key: &str) -> String {
        format!("{PREFIX}/{key}")
    }
}

/// What a world was at some time.
pub struct Still {
    files: sandbox::Still,
    bucket: Option<s3::Still>,
}

/// Fails the test unless a message has this code, names all of `parts`, and says what to do.
#[track_caller]
pub fn assert_report(message: &str, code: &str, parts: &[&str]) {
    assert!(message.starts_with(&format!("{code}: ")), "no {code} in {message:?}");
    let fix = message.lines().last().expect("a line");
    assert!(fix.starts_with("fix: ") && fix.len() > 20, "no remedy in {message:?}");
    assert!(message.lines().count() <= 3 && !message.contains('\u{1b}'), "too much: {message:?}");
    for part in parts {
        assert!(message.contains(part), "no {part:?} in {message:?}");
    }
}
