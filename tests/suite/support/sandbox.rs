//! A folder that is a whole machine to git, git-lfs and lfs-delta: own HOME, own config, own PATH.
//!
//! Nothing of the developer's environment gets in, and nothing leaves: no system config, no ssh, no
//! terminal, no metadata service. Every test makes its own.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{OsStr, OsString};
use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::SystemTime;

use tempfile::TempDir;

use super::data::oid;
use super::endpoint::Endpoint;
use super::run::{Ran, Running, run};
use super::tools::{Tool, lfs_delta};

/// A temporary folder with a clean environment for the programs run in it.
pub struct Sandbox {
    root: TempDir,
    environment: BTreeMap<OsString, OsString>,
}

impl Sandbox {
    /// Makes one with git-lfs 3.6.1 first in PATH. git-lfs' filters are not installed yet.
    pub fn new() -> Sandbox {
        Sandbox::with_git_lfs(Tool::GitLfs)
    }

    /// Makes one with another git-lfs.
    pub fn with_git_lfs(git_lfs: Tool) -> Sandbox {
        let root = tempfile::Builder::new().prefix("lfs-delta-test-").tempdir().expect("a folder");
        let mut sandbox = Sandbox { root, environment: BTreeMap::new() };
        for folder in ["home", "bin", "tmp", "run"] {
            fs::create_dir(sandbox.path(folder)).expect("a folder in the sandbox");
        }
        symlink(git_lfs.path(), sandbox.path("bin/git-lfs")).expect("a link to git-lfs");
        sandbox.set_up_environment();
        sandbox.write_git_config();
        sandbox.write_ssh_trap();
        sandbox
    }

    fn set_up_environment(&mut self) {
        let inherited = std::env::var_os("PATH").unwrap_or_default();
        let folders = std::iter::once(self.path("bin")).chain(std::env::split_paths(&inherited));
        self.set("PATH", std::env::join_paths(folders).expect("a PATH"));
        let root = self.root().to_owned();
        self.set("GIT_CEILING_DIRECTORIES", root);
        for (name, place) in [
            ("HOME", "home"),
            ("TMPDIR", "tmp"),
            ("GIT_CONFIG_GLOBAL", "home/.gitconfig"),
            ("GIT_SSH_COMMAND", "bin/ssh-trap"),
            ("XDG_CACHE_HOME", "home/.cache"),
            ("XDG_CONFIG_HOME", "home/.config"),
            ("XDG_DATA_HOME", "home/.local/share"),
            ("XDG_STATE_HOME", "home/.local/state"),
            ("XDG_RUNTIME_DIR", "run"),
        ] {
            self.set(name, self.path(place));
        }
        for (name, value) in [
            ("GIT_CONFIG_NOSYSTEM", "1"),
            ("GIT_TERMINAL_PROMPT", "0"),
            ("GIT_ASKPASS", "false"),
            ("AWS_EC2_METADATA_DISABLED", "true"),
            ("LC_ALL", "C.UTF-8"),
            ("TERM", "dumb"),
            ("TZ", "UTC"),
        ] {
            self.set(name, value);
        }
    }

    fn write_git_config(&self) {
        let config = "[user]\n\tname = Test\n\temail = test@example.invalid\n\
                      [init]\n\tdefaultBranch = main\n\
                      [protocol \"file\"]\n\tallow = always\n\
                      [advice]\n\tdetachedHead = false\n\
                      [gc]\n\tauto = 0\n\
                      [maintenance]\n\tauto = false\n";
        fs::write(self.path("home/.gitconfig"), config).expect("a git config");
    }

    fn write_ssh_trap(&self) {
        let log = self.path("ssh.log");
        let script = format!("#!/bin/sh\necho \"$*\" >> '{}'\nexit 255\n", log.display());
        self.write_program("ssh-trap", &script);
    }

    // ---- places

    /// The folder itself.
    pub fn root(&self) -> &Path {
        self.root.path()
    }

    /// A path in the sandbox.
    pub fn path(&self, place: impl AsRef<Path>) -> PathBuf {
        self.root.path().join(place)
    }

    /// Writes a file in the sandbox, and the folders above it.
    pub fn write(&self, place: impl AsRef<Path>, bytes: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path(place);
        fs::create_dir_all(path.parent().expect("a folder")).expect("folders");
        fs::write(&path, bytes).unwrap_or_else(|error| panic!("cannot write {}: {error}", path.display()));
        path
    }

    /// Puts a script into the sandbox's PATH, before everything else there.
    pub fn write_program(&self, name: &str, script: &str) -> PathBuf {
        let path = self.write(Path::new("bin").join(name), script);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("an executable file");
        path
    }

    /// Where git-lfs keeps an object of the repository that `dir` is in. Worktrees share it.
    pub fn lfs_object_path(&self, dir: impl AsRef<Path>, oid: &str) -> PathBuf {
        let common = self.git(dir.as_ref(), &["rev-parse", "--git-common-dir"]).stdout();
        let common = self.path(dir).join(common);
        common.join("lfs/objects").join(&oid[..2]).join(&oid[2..4]).join(oid)
    }

    // ---- environment

    /// Sets a variable for all programs run from now on.
    pub fn set(&mut self, name: impl AsRef<OsStr>, value: impl AsRef<OsStr>) -> &mut Sandbox {
        self.environment.insert(name.as_ref().to_owned(), value.as_ref().to_owned());
        self
    }

    /// Removes a variable for all programs run from now on.
    pub fn unset(&mut self, name: impl AsRef<OsStr>) -> &mut Sandbox {
        self.environment.remove(name.as_ref());
        self
    }

    /// Gives programs the credentials and the region of a server.
    pub fn use_s3(&mut self, endpoint: &Endpoint) -> &mut Sandbox {
        for (name, value) in endpoint.environment() {
            self.set(name, value);
        }
        self
    }

    /// The same, and points every AWS client at it by `AWS_ENDPOINT_URL_S3`.
    pub fn use_s3_as_default(&mut self, endpoint: &Endpoint) -> &mut Sandbox {
        self.use_s3(endpoint).set("AWS_ENDPOINT_URL_S3", &endpoint.url)
    }

    // ---- programs

    /// A program to be run in `dir` with this environment and no other.
    pub fn command(&self, program: impl AsRef<OsStr>, dir: impl AsRef<Path>) -> Command {
        let mut command = Command::new(program);
        command.env_clear().envs(&self.environment).current_dir(self.path(dir));
        command
    }

    /// Runs git in `dir`; it must succeed.
    #[track_caller]
    pub fn git(&self, dir: impl AsRef<Path>, args: &[&str]) -> Ran {
        self.try_git(dir, args).succeeded()
    }

    /// Runs git in `dir`; it must fail.
    #[track_caller]
    pub fn git_fails(&self, dir: impl AsRef<Path>, args: &[&str]) -> Ran {
        self.try_git(dir, args).failed()
    }

    /// Runs git in `dir`, whatever comes of it.
    #[track_caller]
    pub fn try_git(&self, dir: impl AsRef<Path>, args: &[&str]) -> Ran {
        let mut command = self.command("git", dir);
        command.args(args);
        run(command)
    }

    /// Starts git in the background, for tests that interfere with it.
    #[track_caller]
    pub fn start_git(&self, dir: impl AsRef<Path>, args: &[&str]) -> Running {
        let mut command = self.command("git", dir);
        command.args(args).stdin(std::process::Stdio::null());
        Running::start(command)
    }

    /// Runs the program under test in `dir`; it must succeed.
    #[track_caller]
    pub fn lfs_delta(&self, dir: impl AsRef<Path>, args: &[&str]) -> Ran {
        self.try_lfs_delta(dir, args).succeeded()
    }

    /// Runs the program under test in `dir`; it must fail.
    #[track_caller]
    pub fn lfs_delta_fails(&self, dir: impl AsRef<Path>, args: &[&str]) -> Ran {
        self.try_lfs_delta(dir, args).failed()
    }

    /// Runs the program under test in `dir`, whatever comes of it.
    #[track_caller]
    pub fn try_lfs_delta(&self, dir: impl AsRef<Path>, args: &[&str]) -> Ran {
        let mut command = self.command(self.agent_path(), dir);
        command.args(args);
        run(command)
    }

    /// The program under test.
    pub fn agent_path(&self) -> PathBuf {
        lfs_delta()
    }

    // ---- repositories

    /// Installs git-lfs' filters into this sandbox's global config.
    pub fn install_git_lfs(&self) {
        self.git("", &["lfs", "install", "--skip-repo"]);
    }

    /// Makes a repository, and a bare one beside it as its `origin`.
    pub fn init_repo(&self, name: &str) -> PathBuf {
        let bare = format!("{name}.git");
        self.git("", &["init", "--quiet", "--bare", &bare]);
        self.git("", &["init", "--quiet", name]);
        let url = self.path(bare);
        self.git(name, &["remote", "add", "origin", url.to_str().expect("a text path")]);
        self.path(name)
    }

    /// Writes, adds and commits a file of a repository; returns its oid.
    #[track_caller]
    pub fn commit_file(&self, repo: impl AsRef<Path>, name: &str, bytes: &[u8]) -> String {
        let repo = repo.as_ref();
        self.write(repo.join(name), bytes);
        self.git(repo, &["add", "--", name]);
        self.git(repo, &["commit", "--quiet", "--message", &format!("{name}: {} bytes", bytes.len())]);
        oid(bytes)
    }

    /// Lets git-lfs keep files of this pattern, and commits that.
    #[track_caller]
    pub fn track(&self, repo: impl AsRef<Path>, pattern: &str) {
        let line = format!("{pattern} filter=lfs diff=lfs merge=lfs -text\n");
        self.commit_file(repo, ".gitattributes", line.as_bytes());
    }

    /// Fails the test if any program has tried to use ssh.
    #[track_caller]
    pub fn assert_no_ssh(&self) {
        let log = fs::read_to_string(self.path("ssh.log")).unwrap_or_default();
        assert!(log.is_empty(), "ssh was tried:\n{log}");
    }
}

/// What a folder held at some time.
pub struct Still {
    root: PathBuf,
    folders: BTreeSet<PathBuf>,
    files: BTreeMap<PathBuf, (SystemTime, Vec<u8>)>,
}

impl Still {
    /// Remembers everything below a folder, links aside.
    pub fn of(root: &Path) -> Still {
        let mut still = Still { root: root.to_owned(), folders: BTreeSet::new(), files: BTreeMap::new() };
        for (path, kind) in everything_below(root) {
            if kind.is_dir() {
                still.folders.insert(path);
            } else if kind.is_file() {
                let data = fs::metadata(&path).and_then(|data| data.modified()).expect("a time");
                let bytes = fs::read(&path).expect("a file");
                still.files.insert(path, (data, bytes));
            }
        }
        still
    }

    /// Makes everything what it was, its times included.
    pub fn restore(&self) {
        let mut now = everything_below(&self.root);
        // What is inside of a folder goes before it.
        now.sort_by(|a, b| b.0.cmp(&a.0));
        for (path, kind) in now {
            if kind.is_dir() && !self.folders.contains(&path) {
                fs::remove_dir(&path).expect("an empty folder");
            } else if kind.is_file() && !self.files.get(&path).is_some_and(|then| is_as_then(&path, then)) {
                fs::remove_file(&path).expect("a file");
            }
        }
        for folder in &self.folders {
            fs::create_dir_all(folder).expect("a folder");
        }
        for (path, (modified, bytes)) in self.files.iter().filter(|(path, _)| !path.exists()) {
            fs::write(path, bytes).expect("a file");
            fs::File::open(path).and_then(|file| file.set_modified(*modified)).expect("a time");
        }
    }
}

fn is_as_then(path: &Path, (modified, bytes): &(SystemTime, Vec<u8>)) -> bool {
    let data = fs::metadata(path).expect("a file");
    data.len() == bytes.len() as u64 && data.modified().is_ok_and(|now| now == *modified)
}

/// All files and folders below one, folders before what is in them.
fn everything_below(root: &Path) -> Vec<(PathBuf, fs::FileType)> {
    let (mut found, mut folders) = (Vec::new(), vec![root.to_owned()]);
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).expect("a folder").map(|entry| entry.expect("an entry")) {
            let kind = entry.file_type().expect("a file type");
            if kind.is_dir() {
                folders.push(entry.path());
            }
            found.push((entry.path(), kind));
        }
    }
    found
}

/// All files below `dir`, by their paths relative to it, with their bytes. For comparing trees.
pub fn files_below(dir: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    let mut folders = vec![dir.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).expect("a folder").map(|entry| entry.expect("an entry")) {
            let path = entry.path();
            if entry.file_type().expect("a file type").is_dir() {
                folders.push(path);
            } else {
                let name = path.strip_prefix(dir).expect("a path below").to_owned();
                found.insert(name, fs::read(&path).unwrap_or_default());
            }
        }
    }
    found
}
