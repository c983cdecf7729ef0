//! A machine with lfs-delta installed, a store, and a small team that works with both.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::ops::{Deref, DerefMut};
use std::path::{Path, PathBuf};

use crate::support::data::oid;
use crate::support::endpoint::{Endpoint, block_on};
use crate::support::engine::Engine;
use crate::support::run::{Ran, run};
use crate::support::s3::{Fault, Kind, S3Server, on};
use crate::support::sandbox::{Sandbox, files_below};
use crate::support::tools::Tool;

/// The store that `repo` uses.
pub const STORE: &str = "store";

/// Where objects are.
enum Backing {
    Directory,
    S3(S3Server),
    Engine(Endpoint),
}

/// A sandbox with a store. To a test it is the sandbox, and more.
pub struct World {
    sandbox: Sandbox,
    backing: Backing,
    /// The user's git config before anything was installed.
    plain_config: Vec<u8>,
    machines: usize,
}

impl Deref for World {
    type Target = Sandbox;
    fn deref(&self) -> &Sandbox {
        &self.sandbox
    }
}

impl DerefMut for World {
    fn deref_mut(&mut self) -> &mut Sandbox {
        &mut self.sandbox
    }
}

impl World {
    // ---- worlds

    /// A directory store, git-lfs 3.6.1.
    pub fn in_directory() -> World {
        World::new(Sandbox::new(), Backing::Directory)
    }

    /// The in-process S3 server, git-lfs 3.6.1.
    pub fn on_s3() -> World {
        World::new(Sandbox::new(), Backing::S3(S3Server::start()))
    }

    /// A directory store, the git-lfs of Debian.
    pub fn in_directory_with_debian_git_lfs() -> World {
        World::new(Sandbox::with_git_lfs(Tool::GitLfsOld), Backing::Directory)
    }

    /// A bucket of its own on a SeaweedFS that all tests share, git-lfs 3.6.1.
    pub fn on_seaweedfs() -> World {
        World::new(Sandbox::new(), Backing::Engine(Engine::seaweedfs().new_bucket()))
    }

    /// A bucket of its own on an rclone that all tests share, git-lfs 3.6.1.
    pub fn on_rclone() -> World {
        World::new(Sandbox::new(), Backing::Engine(Engine::rclone().new_bucket()))
    }

    /// A bucket of its own on a SeaweedFS of three volume servers that all tests share, git-lfs 3.6.1.
    #[cfg(feature = "soak")]
    pub fn on_seaweedfs_cluster() -> World {
        World::new(Sandbox::new(), Backing::Engine(Engine::seaweedfs_cluster().new_bucket()))
    }

    /// A bucket of its own on a Garage that all tests share, git-lfs 3.6.1.
    #[cfg(feature = "soak")]
    pub fn on_garage() -> World {
        World::new(Sandbox::new(), Backing::Engine(Engine::garage().new_bucket()))
    }

    fn new(mut sandbox: Sandbox, backing: Backing) -> World {
        if let Some(endpoint) = endpoint_of(&backing) {
            sandbox.use_s3(endpoint);
        }
        let plain_config = fs::read(sandbox.path("home/.gitconfig")).expect("a git config");
        World { sandbox, backing, plain_config, machines: 1 }
    }

    /// The server behind the store, if that is the one of the tests.
    pub fn s3(&self) -> Option<&S3Server> {
        match &self.backing {
            Backing::S3(server) => Some(server),
            _ => None,
        }
    }

    /// Installs, runs a case, and looks whether anything tried ssh.
    pub fn run(mut self, case: impl FnOnce(&mut World)) {
        self.install();
        case(&mut self);
        self.assert_no_ssh();
    }

    // ---- machines

    /// What a teammate does once per machine.
    pub fn install(&self) {
        match endpoint_of(&self.backing) {
            Some(endpoint) => self.lfs_delta("", &["install", "--trust", endpoint.host()]),
            None => self.lfs_delta("", &["install"]),
        };
    }

    /// Goes on with another machine: an empty cache, other settings, lfs-delta not installed.
    pub fn move_to_bare_machine(&mut self) {
        self.machines += 1;
        let home = PathBuf::from(format!("home-{}", self.machines));
        let config = self.sandbox.write(home.join(".gitconfig"), &self.plain_config);
        for (name, place) in [
            ("XDG_CACHE_HOME", ".cache"),
            ("XDG_CONFIG_HOME", ".config"),
            ("XDG_DATA_HOME", ".local/share"),
            ("XDG_STATE_HOME", ".local/state"),
        ] {
            let path = self.path(home.join(place));
            self.set(name, path);
        }
        let home = self.path(home);
        self.set("HOME", home).set("GIT_CONFIG_GLOBAL", config);
    }

    /// Goes on with a teammate's machine, on which lfs-delta is installed.
    pub fn move_to_teammate(&mut self) {
        self.move_to_bare_machine();
        self.install();
    }

    /// The cache of the machine that the test is on.
    pub fn cache(&self) -> PathBuf {
        let place = if self.machines == 1 { "home".to_owned() } else { format!("home-{}", self.machines) };
        self.path(place).join(".cache/lfs-delta")
    }

    /// Log files of agents on the machine that the test is on: one for each that was started.
    pub fn agents_started(&self) -> usize {
        self.logs().len()
    }

    /// What agents on the machine that the test is on have logged, one text for each.
    pub fn logs(&self) -> Vec<String> {
        let home = self.cache().parent().and_then(Path::parent).expect("a home").to_owned();
        let entries = fs::read_dir(home.join(".local/state/lfs-delta/logs")).into_iter().flatten().flatten();
        let of_agents = entries.filter(|entry| entry.file_name().to_string_lossy().starts_with("agent-"));
        of_agents.map(|entry| fs::read_to_string(entry.path()).expect("a log")).collect()
    }

    // ---- the store

    /// A store as it is given to `lfs-delta init`, and behind `lfs-delta::`.
    pub fn store_url(&self, name: &str) -> String {
        match endpoint_of(&self.backing) {
            Some(endpoint) => endpoint.store_url(name),
            None => format!("file://{}", self.path(name).display()),
        }
    }

    /// A store as `lfs.url` names it.
    pub fn lfs_url(&self, name: &str) -> String {
        format!("lfs-delta::{}", self.store_url(name))
    }

    /// The host that has to be trusted, if any.
    pub fn trusted_host(&self) -> Option<String> {
        let host = endpoint_of(&self.backing)?.host();
        host.split(':').next().map(str::to_owned)
    }

    /// Makes a store that no repository uses yet.
    pub fn make_store(&self, name: &str) {
        let scratch = format!("scratch-{name}");
        self.git("", &["init", "--quiet", &scratch]);
        self.lfs_delta(&scratch, &["init", &self.store_url(name)]);
    }

    /// All copies of a store: keys below its prefix, and bytes.
    pub fn copies_in(&self, name: &str) -> BTreeMap<String, Vec<u8>> {
        self.files_in(name).into_iter().filter(|(key, _)| key.starts_with("objects/")).collect()
    }

    /// The names of all hints of the store.
    pub fn hints(&self) -> Vec<String> {
        self.files_in(STORE).into_keys().filter(|key| key.starts_with("spaces/")).collect()
    }

    fn files_in(&self, name: &str) -> BTreeMap<String, Vec<u8>> {
        match &self.backing {
            Backing::Directory => {
                let files = files_below(&self.path(name));
                files.into_iter().map(|(path, bytes)| (path.display().to_string(), bytes)).collect()
            }
            Backing::S3(server) => {
                below(name, server.objects().into_iter().map(|(key, bytes)| (key, bytes.to_vec())))
            }
            Backing::Engine(endpoint) => below(name, block_on(read_all(endpoint)).into_iter()),
        }
    }

    /// All copies of the store.
    pub fn copies(&self) -> BTreeMap<String, Vec<u8>> {
        self.copies_in(STORE)
    }

    /// How many copies are whole, and how many are deltas.
    pub fn shapes(&self) -> (usize, usize) {
        let is_whole = |key: &&String| key.rsplit('/').next().is_some_and(|name| name.starts_with("full."));
        let copies = self.copies();
        let whole = copies.keys().filter(is_whole).count();
        (whole, copies.len() - whole)
    }

    /// The bytes of one object's only copy.
    #[track_caller]
    pub fn copy_of(&self, oid: &str) -> (String, Vec<u8>) {
        let mut found: Vec<_> =
            self.copies().into_iter().filter(|(key, _)| key.contains(&format!("/{oid}/"))).collect();
        assert_eq!(found.len(), 1, "not one copy of {oid}: {found:?}");
        found.remove(0)
    }

    /// Damages a copy as a bad disk does: one bit changes, and nothing else.
    pub fn flip_bit(&self, key: &str, at: usize) {
        match &self.backing {
            Backing::Directory => {
                let path = self.path(STORE).join(key);
                let mut bytes = fs::read(&path).expect("a copy");
                bytes[at] ^= 1;
                fs::write(path, bytes).expect("a damaged copy");
            }
            Backing::S3(server) => server.flip_byte(&format!("{STORE}/{key}"), at),
            Backing::Engine(endpoint) => {
                let mut bytes = self.copies()[key].clone();
                bytes[at] ^= 1;
                let put = endpoint.client().put_object().bucket(&endpoint.bucket);
                let put = put.key(format!("{STORE}/{key}")).body(bytes.into());
                block_on(put.send()).expect("a damaged copy");
            }
        }
    }

    /// Removes a copy, as somebody with a console does.
    pub fn remove(&self, key: &str) {
        match &self.backing {
            Backing::Directory => fs::remove_file(self.path(STORE).join(key)).expect("a copy"),
            Backing::S3(server) => assert!(server.delete_raw(&format!("{STORE}/{key}")), "no {key}"),
            Backing::Engine(endpoint) => {
                let delete = endpoint.client().delete_object().bucket(&endpoint.bucket);
                block_on(delete.key(format!("{STORE}/{key}")).send()).expect("a copy");
            }
        }
    }

    /// Forgets what the machines saw within the last minute: as if that were over.
    pub fn forget_listings(&self) {
        for machine in 1..=self.machines {
            let home = if machine == 1 { "home".to_owned() } else { format!("home-{machine}") };
            let stores = fs::read_dir(self.path(home).join(".cache/lfs-delta/stores"));
            for store in stores.into_iter().flatten().flatten() {
                let _ = fs::remove_dir_all(store.path().join("listings"));
            }
        }
    }

    /// Lets the next upload of an object hang: on S3 for ever, on a directory until the returned value is dropped.
    ///
    /// The server does not answer; the lock of the object is taken, as by another process.
    pub fn hold_upload_of(&self, oid: &str) -> Option<File> {
        if let Backing::S3(server) = &self.backing {
            server.fail(on(Kind::Put).key(oid), Fault::Hang);
            return None;
        }
        let path = self.lock_of(oid);
        fs::create_dir_all(path.parent().expect("a folder")).expect("a folder of locks");
        let lock = File::create(path).expect("a lock");
        lock.lock().expect("a free lock");
        Some(lock)
    }

    /// Waits until the upload of this object hangs. On a directory it may still be on its way to the lock.
    pub fn wait_for_held_upload(&self, oid: &str) {
        if let Backing::S3(server) = &self.backing {
            let put = format!("/{oid}/");
            server.wait_for(|calls| calls.of(Kind::Put).iter().any(|call| call.key.contains(&put)));
        }
    }

    /// The lock that agents of this machine take for a small object of the only store that they know.
    fn lock_of(&self, oid: &str) -> PathBuf {
        let mut stores = fs::read_dir(self.cache().join("stores")).expect("a store that was pushed to");
        stores.next().expect("one store").expect("an entry").path().join("locks").join(&oid[..2])
    }

    // ---- repositories

    /// Makes a repository that uses the store, tracks `*.bin`, and is pushed to its bare `origin`.
    pub fn repo(&self, name: &str) {
        self.init_repo(name);
        self.lfs_delta(name, &["init", &self.store_url(STORE)]);
        self.track(name, "*.bin");
        self.git(name, &["add", ".lfsconfig"]);
        self.git(name, &["commit", "--quiet", "--message", "Use lfs-delta"]);
        self.git(name, &["push", "--quiet", "--set-upstream", "origin", "main"]);
    }

    /// Commits one file and pushes it.
    #[track_caller]
    pub fn commit_and_push(&self, repo: &str, file: &str, bytes: &[u8]) -> String {
        let oid = self.commit_file(repo, file, bytes);
        self.git(repo, &["push", "--quiet"]);
        oid
    }

    /// The URL of a repository's bare `origin`.
    pub fn origin_url(&self, repo: &str) -> String {
        format!("file://{}", self.path(format!("{repo}.git")).display())
    }

    /// Clones the `origin` of `repo`.
    #[track_caller]
    pub fn clone_repo(&self, name: &str) {
        self.clone_with(name, &[]);
    }

    /// Clones the `origin` of `repo`, with options.
    #[track_caller]
    pub fn clone_with(&self, name: &str, options: &[&str]) {
        let url = self.origin_url("repo");
        self.git("", &[&["clone", "--quiet"], options, &[&url, name]].concat());
    }

    /// Clones the `origin` of `repo` and leaves pointers in place of objects.
    #[track_caller]
    pub fn clone_pointers(&self, name: &str) {
        let mut command = self.command("git", "");
        command.args(["clone", "--quiet", &self.origin_url("repo"), name]).env("GIT_LFS_SKIP_SMUDGE", "1");
        run(command).succeeded();
    }

    // ---- what came of it

    /// Fails the test unless a file has these bytes.
    #[track_caller]
    pub fn assert_file(&self, place: impl AsRef<Path>, expected: &[u8]) {
        let path = self.path(place);
        let found = fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        assert!(
            found == expected,
            "{} has {} other bytes: {}",
            path.display(),
            found.len(),
            start_of(&found)
        );
    }

    /// Fails the test unless the last commits of a clone have these versions of a file, the newest last.
    #[track_caller]
    pub fn assert_versions(&self, clone: &str, file: &str, versions: &[Vec<u8>]) {
        for (back, version) in versions.iter().rev().enumerate() {
            self.git(clone, &["checkout", "--quiet", &format!("main~{back}")]);
            self.assert_file(Path::new(clone).join(file), version);
        }
        self.git(clone, &["checkout", "--quiet", "main"]);
    }

    /// Fails the test unless git-lfs has this object in a repository.
    #[track_caller]
    pub fn assert_has_object(&self, repo: &str, bytes: &[u8]) {
        let path = self.lfs_object_path(repo, &oid(bytes));
        assert_eq!(fs::read(path).expect("an object"), bytes);
    }

    /// Fails the test if files are left below `lfs/tmp` of a repository.
    #[track_caller]
    pub fn assert_no_leftovers(&self, repo: &str) {
        let left = self.leftovers(repo);
        assert!(left.is_empty(), "these are left: {left:?}");
    }

    /// Files below `lfs/tmp` of a repository.
    pub fn leftovers(&self, repo: &str) -> Vec<PathBuf> {
        let common = self.git(repo, &["rev-parse", "--git-common-dir"]).stdout();
        let folder = self.path(repo).join(common).join("lfs/tmp");
        if folder.is_dir() { files_below(&folder).into_keys().collect() } else { Vec::new() }
    }

    /// Runs a shell script in `dir`.
    #[track_caller]
    pub fn shell(&self, dir: &str, script: &str) -> Ran {
        let mut command = self.command("sh", dir);
        command.args(["-e", "-c", script]);
        run(command)
    }
}

fn endpoint_of(backing: &Backing) -> Option<&Endpoint> {
    match backing {
        Backing::Directory => None,
        Backing::S3(server) => Some(&server.endpoint),
        Backing::Engine(endpoint) => Some(endpoint),
    }
}

fn below(name: &str, objects: impl Iterator<Item = (String, Vec<u8>)>) -> BTreeMap<String, Vec<u8>> {
    let prefix = format!("{name}/");
    objects.filter_map(|(key, bytes)| Some((key.strip_prefix(&prefix)?.to_owned(), bytes))).collect()
}

async fn read_all(endpoint: &Endpoint) -> Vec<(String, Vec<u8>)> {
    let client = endpoint.client();
    let listing = client.list_objects_v2().bucket(&endpoint.bucket).send().await.expect("a listing");
    let mut objects = Vec::new();
    for key in listing.contents().iter().filter_map(|object| object.key()) {
        let answer = client.get_object().bucket(&endpoint.bucket).key(key).send().await.expect("an object");
        let bytes = answer.body.collect().await.expect("its bytes").to_vec();
        objects.push((key.to_owned(), bytes));
    }
    objects
}

fn start_of(bytes: &[u8]) -> String {
    String::from_utf8_lossy(&bytes[..bytes.len().min(200)]).into_owned()
}
