//! Real S3 servers that are not ours, by the scripts of `tests/servers/`, on loopback ports of their own.
//!
//! A script runs its server for as long as its standard input is open. So a server dies with the test process,
//! however that ends, and its folder goes with it. A SeaweedFS takes 3 s to start (15 s on a busy machine), so tests
//! may share one, and take a bucket of their own.

use std::collections::HashMap;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::endpoint::{Endpoint, block_on};
use super::run::signal;
use super::tools::Tool;

/// Another program may take one of the ports between the script's look and the server's start.
const ATTEMPTS_MAX: usize = 3;

/// Which server.
#[derive(Clone, Copy, Debug)]
pub enum Kind {
    /// SeaweedFS in one process.
    SeaweedFs,
    /// SeaweedFS with three volume servers, each file on two of them.
    SeaweedFsCluster,
    /// rclone's server: no conditions, no checksums, no uploads in parts.
    Rclone,
    /// Garage: no conditions. Only where `tests/run.sh --soak` has built it.
    #[cfg_attr(not(feature = "soak"), allow(dead_code))]
    Garage,
}

impl Kind {
    fn script(self) -> &'static str {
        match self {
            Kind::SeaweedFs => "seaweedfs",
            Kind::SeaweedFsCluster => "seaweedfs-cluster",
            Kind::Rclone => "rclone",
            Kind::Garage => "garage",
        }
    }

    fn tool(self) -> Tool {
        match self {
            Kind::SeaweedFs | Kind::SeaweedFsCluster => Tool::Weed,
            Kind::Rclone => Tool::Rclone,
            Kind::Garage => Tool::Garage,
        }
    }
}

/// A running server. Dropping it kills it and removes its data.
pub struct Engine {
    /// Where it listens and who may come in; with one empty bucket.
    pub endpoint: Endpoint,
    dir: PathBuf,
    keeper: Child,
    buckets: AtomicUsize,
}

impl Engine {
    /// One SeaweedFS for all tests of this process. Take a bucket of your own from it.
    pub fn seaweedfs() -> &'static Engine {
        static SHARED: OnceLock<Engine> = OnceLock::new();
        SHARED.get_or_init(|| Engine::start(Kind::SeaweedFs))
    }

    /// One rclone for all tests of this process.
    pub fn rclone() -> &'static Engine {
        static SHARED: OnceLock<Engine> = OnceLock::new();
        SHARED.get_or_init(|| Engine::start(Kind::Rclone))
    }

    /// One SeaweedFS of three volume servers for all tests of this process.
    #[cfg(feature = "soak")]
    pub fn seaweedfs_cluster() -> &'static Engine {
        static SHARED: OnceLock<Engine> = OnceLock::new();
        SHARED.get_or_init(|| Engine::start(Kind::SeaweedFsCluster))
    }

    /// One Garage for all tests of this process.
    #[cfg(feature = "soak")]
    pub fn garage() -> &'static Engine {
        static SHARED: OnceLock<Engine> = OnceLock::new();
        SHARED.get_or_init(|| Engine::start(Kind::Garage))
    }

    /// The same server with another empty bucket. On SeaweedFS there is room for hundreds.
    pub fn new_bucket(&self) -> Endpoint {
        let number = self.buckets.fetch_add(1, Ordering::Relaxed);
        let endpoint = Endpoint { bucket: format!("lfs-test-{number}"), ..self.endpoint.clone() };
        let made = block_on(endpoint.client().create_bucket().bucket(&endpoint.bucket).send());
        made.expect("a new bucket");
        endpoint
    }

    /// Starts a server; it answers, and has an empty bucket.
    ///
    /// # Panics
    /// If it is not installed, or does not answer in time; the script shows the logs then.
    #[track_caller]
    pub fn start(kind: Kind) -> Engine {
        let started = (0..ATTEMPTS_MAX).find_map(|_| Engine::try_start(kind));
        started.unwrap_or_else(|| panic!("{kind:?} does not start"))
    }

    fn try_start(kind: Kind) -> Option<Engine> {
        let (variable, program) = (kind.tool().variable(), kind.tool().path());
        let scripts = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/servers");
        let mut command = Command::new("bash");
        command.arg(scripts.join(kind.script()).with_extension("sh")).arg("run").env(variable, program);
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut keeper = command.spawn().expect("a shell to start");
        let said = read_until_ready(keeper.stdout.take().expect("its output"));
        let Some((endpoint, dir)) = place_in(said) else {
            let _ = keeper.wait(); // it has ended, or is about to
            return None;
        };
        Some(Engine { endpoint, dir, keeper, buckets: AtomicUsize::new(1) })
    }

    /// Kills one process of the server, as a machine loses its power.
    #[track_caller]
    pub fn kill(&self, part: &str) {
        let number = std::fs::read_to_string(self.dir.join(part).with_extension("pid")).expect("its number");
        signal("KILL", number.trim());
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        drop(self.keeper.stdin.take());
        let _ = self.keeper.wait(); // so that the folder is gone before the test ends
    }
}

/// Where a server is, and where its data; `None` where its script did not come so far.
fn place_in(mut said: HashMap<String, String>) -> Option<(Endpoint, PathBuf)> {
    let mut take = |name: &str| said.remove(name);
    let endpoint = Endpoint {
        url: take("url")?,
        access_key: take("access_key")?,
        secret_key: take("secret_key")?,
        bucket: take("bucket")?,
    };
    Some((endpoint, take("dir")?.into()))
}

/// Reads `name=value` lines up to `ready`; what comes early ends with nothing.
fn read_until_ready(output: ChildStdout) -> HashMap<String, String> {
    let lines = BufReader::new(output).lines().map_while(Result::ok);
    let said = lines.take_while(|line| line != "ready");
    said.filter_map(|line| line.split_once('=').map(|(name, value)| (name.to_owned(), value.to_owned())))
        .collect()
}
