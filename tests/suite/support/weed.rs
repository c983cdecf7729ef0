//! A real SeaweedFS on loopback ports of its own: an S3 server that is not ours.
//!
//! It runs below a shell that waits for its own standard input to end. So it dies with the test
//! process, however that ends, and its folder goes with it. It takes 3 s to start (15 s on a busy
//! machine), so tests may share one: `Weed::shared().new_bucket()`.

use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use super::endpoint::{Endpoint, block_on};
use super::run::wait_until;
use super::tools::Tool;

/// How long it may take to start.
const PATIENCE: Duration = Duration::from_secs(90);

/// Another program may take one of our ports between our look and its start.
const ATTEMPTS_MAX: usize = 3;

/// Runs `"$@"` until standard input ends; then kills it and removes its folder, `$WEED_DIR`.
const KEEPER: &str = r#"
"$@" > "$WEED_DIR/log" 2>&1 < /dev/null &
weed=$!
read -r _
kill -9 "$weed"
wait "$weed" 2> /dev/null
rm -rf "$WEED_DIR"
"#;

/// A running SeaweedFS. Dropping it kills it and removes its data.
pub struct Weed {
    /// Where it listens and who may come in; with one empty bucket.
    pub endpoint: Endpoint,
    keeper: Child,
    buckets: AtomicUsize,
}

impl Weed {
    /// One SeaweedFS for all tests of this process. Take a bucket of your own from it.
    pub fn shared() -> &'static Weed {
        static SHARED: OnceLock<Weed> = OnceLock::new();
        SHARED.get_or_init(Weed::start)
    }

    /// The same server with another empty bucket. There is room for some twenty.
    pub fn new_bucket(&self) -> Endpoint {
        let number = self.buckets.fetch_add(1, Ordering::Relaxed);
        let endpoint = Endpoint { bucket: format!("lfs-test-{number}"), ..self.endpoint.clone() };
        let made = block_on(endpoint.client().create_bucket().bucket(&endpoint.bucket).send());
        made.expect("a new bucket");
        endpoint
    }

    /// Starts it, waits until it answers and makes an empty bucket.
    ///
    /// # Panics
    /// If it is not installed, or does not answer in time; then its log is shown.
    #[track_caller]
    pub fn start() -> Weed {
        let mut log = String::new();
        for _ in 0..ATTEMPTS_MAX {
            match Weed::try_start() {
                Ok(weed) => return weed,
                Err(said) => log = said,
            }
        }
        panic!("SeaweedFS does not start; the end of its log:\n{log}");
    }

    fn try_start() -> Result<Weed, String> {
        let program = Tool::Weed.path();
        let dir = tempfile::Builder::new().prefix("lfs-delta-weed-").tempdir().expect("a folder").keep();
        let endpoint = Endpoint {
            url: String::new(),
            access_key: "weedkey".to_owned(),
            secret_key: "weedsecret".to_owned(),
            bucket: "lfs-test".to_owned(),
        };
        write_identities(&dir, &endpoint);
        let ports = free_ports();
        let keeper = spawn(&program, &dir, &ports);
        let endpoint = Endpoint { url: format!("http://127.0.0.1:{}", ports[0]), ..endpoint };
        let weed = Weed { endpoint, keeper, buckets: AtomicUsize::new(1) };
        if weed.becomes_ready(&dir) { Ok(weed) } else { Err(end_of_log(&dir)) }
    }

    /// Waits until it makes a bucket for us, which needs all of its parts to be up.
    fn becomes_ready(&self, dir: &Path) -> bool {
        let port_is_open = || std::net::TcpStream::connect(self.endpoint.host()).is_ok();
        let gave_up = || end_of_log(dir).contains("address already in use");
        let client = self.endpoint.impatient_client(Duration::from_secs(5));
        let bucket = &self.endpoint.bucket;
        let makes_bucket = async || {
            // It may be there already, if an earlier answer came too late.
            client.create_bucket().bucket(bucket).send().await.is_ok()
                || client.head_bucket().bucket(bucket).send().await.is_ok()
        };
        let mut ready = false;
        wait_until(PATIENCE, || {
            ready = port_is_open() && block_on(makes_bucket());
            ready || gave_up()
        });
        ready
    }
}

impl Drop for Weed {
    fn drop(&mut self) {
        drop(self.keeper.stdin.take());
        let _ = self.keeper.wait(); // so that the folder is gone before the test ends
    }
}

fn write_identities(dir: &Path, endpoint: &Endpoint) {
    let identities = serde_json::json!({"identities": [{
        "name": "test",
        "credentials": [{"accessKey": endpoint.access_key, "secretKey": endpoint.secret_key}],
        "actions": ["Admin", "Read", "Write", "List"],
    }]});
    std::fs::write(dir.join("ids.json"), identities.to_string()).expect("a file of identities");
    std::fs::create_dir(dir.join("data")).expect("a folder for data");
}

/// Eight free ports, held together until all are known, so that they differ.
fn free_ports() -> [u16; 8] {
    let held: [TcpListener; 8] = std::array::from_fn(|_| TcpListener::bind("127.0.0.1:0").expect("a port"));
    held.map(|listener| listener.local_addr().expect("the address just bound").port())
}

fn spawn(program: &Path, dir: &Path, ports: &[u16; 8]) -> Child {
    let [s3, s3_grpc, master, master_grpc, volume, volume_grpc, filer, filer_grpc] = ports;
    let place = |name: &str| dir.join(name).display().to_string();
    let mut command = Command::new("sh");
    command.args(["-c", KEEPER, "weed-keeper"]).arg(program);
    command.args(["server", "-ip=127.0.0.1", "-ip.bind=127.0.0.1", "-s3"]);
    for (flag, port) in [
        ("s3.port", s3),
        ("s3.port.grpc", s3_grpc),
        ("master.port", master),
        ("master.port.grpc", master_grpc),
        ("volume.port", volume),
        ("volume.port.grpc", volume_grpc),
        ("filer.port", filer),
        ("filer.port.grpc", filer_grpc),
        // On unless 0, on fixed ports.
        ("s3.port.lance", &0),
        ("s3.port.iceberg", &0),
    ] {
        command.arg(format!("-{flag}={port}"));
    }
    command.arg(format!("-dir={}", place("data")));
    command.arg(format!("-s3.config={}", place("ids.json")));
    command.arg(format!("-s3.localSocket={}", place("s3.sock")));
    command.arg(format!("-filer.localSocket={}", place("filer.sock")));
    command.args([
        // A missing bucket is an error, as on S3, and nobody is told about us.
        "-s3.autoCreateBucket=false",
        "-master.telemetry=false",
        // A bucket takes about seven volumes.
        "-volume.max=200",
        "-master.volumeSizeLimitMB=64",
    ]);
    command.env_clear().env("HOME", dir).env("WEED_DIR", dir);
    command.env("PATH", std::env::var_os("PATH").unwrap_or_default());
    command.current_dir(dir).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
    command.spawn().expect("a shell to start")
}

fn end_of_log(dir: &Path) -> String {
    let log = std::fs::read_to_string(dir.join("log")).unwrap_or_default();
    let lines: Vec<&str> = log.lines().collect();
    lines[lines.len().saturating_sub(20)..].join("\n")
}
