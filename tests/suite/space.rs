//! DeltaSpaces as deltaglider keeps them: `put`, `get`, `verify`, `ls` in a bucket and in a directory.

mod damage;
mod deltaglider;
mod output;
mod races;
mod xdelta3;

use std::fs;
use std::io::Write as _;
use std::path::PathBuf;

use serde_json::Value;

use crate::support::data::{edited, noise, oid};
use crate::support::endpoint::Endpoint;
use crate::support::engine::Engine;
use crate::support::run::Ran;
use crate::support::s3::S3Server;
use crate::support::sandbox::Sandbox;

/// The bucket's key of the DeltaSpace of a world.
pub const PREFIX: &str = "team/app";

/// A DeltaSpace with a machine beside it.
pub struct World {
    pub sandbox: Sandbox,
    server: Option<S3Server>,
    endpoint: Option<Endpoint>,
    /// The DeltaSpace, without a slash at its end and without settings.
    base: String,
    settings: String,
}

impl World {
    pub fn on_s3() -> World {
        World::on_server(S3Server::start())
    }

    pub fn on_server(server: S3Server) -> World {
        let world = World::on_endpoint(server.endpoint.clone());
        World { server: Some(server), ..world }
    }

    /// In a bucket of a service that is not ours.
    pub fn on_seaweedfs() -> World {
        World::on_endpoint(Engine::seaweedfs().new_bucket())
    }

    fn on_endpoint(endpoint: Endpoint) -> World {
        let mut sandbox = Sandbox::new();
        sandbox.use_s3(&endpoint).set("LFS_DELTA_BACKOFF", "2ms");
        let url = endpoint.store_url(PREFIX);
        let (base, settings) = url.split_once('?').expect("settings");
        let (base, settings) = (base.to_owned(), format!("?{settings}"));
        World { sandbox, server: None, endpoint: Some(endpoint), base, settings }
    }

    pub fn on_directory() -> World {
        let sandbox = Sandbox::new();
        fs::create_dir(sandbox.path("space")).expect("a folder");
        let base = format!("file://{}", sandbox.path("space").display());
        World { sandbox, server: None, endpoint: None, base, settings: String::new() }
    }

    /// One of each kind.
    pub fn both() -> [World; 2] {
        [World::on_s3(), World::on_directory()]
    }

    pub fn server(&self) -> &S3Server {
        self.server.as_ref().expect("a world on S3")
    }

    pub fn endpoint(&self) -> &Endpoint {
        self.endpoint.as_ref().expect("a world on S3")
    }

    /// The same, if there is one.
    pub fn in_bucket(&self) -> Option<&S3Server> {
        self.server.as_ref()
    }

    /// The URL of a file in the DeltaSpace, or of the DeltaSpace.
    pub fn url(&self, name: &str) -> String {
        format!("{}/{name}{}", self.base, self.settings)
    }

    /// Writes a file of the machine.
    pub fn write(&self, name: &str, bytes: &[u8]) -> PathBuf {
        self.sandbox.write(PathBuf::from("files").join(name), bytes)
    }

    /// Puts bytes as a file of that name and returns what was said.
    #[track_caller]
    pub fn put(&self, name: &str, bytes: &[u8]) -> Value {
        self.write(name, bytes);
        let ran = self.sandbox.lfs_delta("files", &["put", "--", name, &self.url("")]);
        json(&ran.stdout())
    }

    #[track_caller]
    pub fn get(&self, name: &str) -> Ran {
        self.sandbox.lfs_delta("", &["get", &self.url(name)])
    }

    #[track_caller]
    pub fn assert_get(&self, name: &str, bytes: &[u8]) {
        let ran = self.get(name);
        assert!(ran.out == bytes, "{name}: {} other bytes: {}", ran.out.len(), ran.stderr());
    }

    /// Gets what must not be had. Nothing must come out.
    #[track_caller]
    pub fn get_fails(&self, name: &str) -> Ran {
        let ran = self.sandbox.lfs_delta_fails("", &["get", &self.url(name)]);
        assert_eq!(ran.out, b"", "{ran}");
        ran
    }

    /// Verifies everything and returns the lines that are said of the files, and the sum.
    pub fn verify(&self) -> (Vec<Value>, Value) {
        let ran = self.sandbox.try_lfs_delta("", &["verify", "--json", &self.url("")]);
        let mut lines: Vec<Value> = ran.stdout().lines().map(json).collect();
        let sum = lines.pop().unwrap_or_else(|| panic!("nothing said: {ran}"));
        (lines, sum)
    }

    /// All files of the DeltaSpace but metadata, by their names.
    pub fn stored(&self) -> Vec<String> {
        match &self.server {
            Some(server) => {
                let keys = server.keys(&format!("{PREFIX}/"));
                keys.iter().map(|key| key[PREFIX.len() + 1..].to_owned()).collect()
            }
            None => {
                let entries = fs::read_dir(self.sandbox.path("space")).expect("a folder");
                let names = entries.map(|entry| entry.expect("an entry").file_name());
                let mut names: Vec<_> = names.map(|name| name.into_string().expect("text")).collect();
                names.retain(|name| name != ".deltaspace");
                names.sort();
                names
            }
        }
    }

    /// Damages what is stored under a name, but not what is told of it.
    pub fn damage(&self, name: &str, damage: impl FnOnce(&mut Vec<u8>)) {
        match &self.server {
            Some(server) => server.damage(&format!("{PREFIX}/{name}"), damage),
            None => {
                let path = self.sandbox.path("space").join(name);
                let mut bytes = fs::read(&path).expect("a file");
                damage(&mut bytes);
                fs::write(path, bytes).expect("a file");
            }
        }
    }

    pub fn remove(&self, name: &str) {
        match &self.server {
            Some(server) => assert!(server.delete_raw(&format!("{PREFIX}/{name}")), "no {name}"),
            None => fs::remove_file(self.sandbox.path("space").join(name)).expect("a file"),
        }
    }

    /// Forgets what is cached: from now on this is another machine.
    pub fn move_away(&self) {
        let _ = fs::remove_dir_all(self.sandbox.path("home/.cache/lfs-delta"));
    }
}

#[track_caller]
pub fn json(line: &str) -> Value {
    serde_json::from_str(line).unwrap_or_else(|error| panic!("{error} in {line:?}"))
}

/// Versions of a file of which a few KB change each time.
pub fn versions(seed: u64, count: u64) -> Vec<Vec<u8>> {
    let first = noise(seed, 100_000);
    (0..count)
        .map(|number| if number == 0 { first.clone() } else { edited(&first, seed + number, 5) })
        .collect()
}

/// A gzip file, by the program itself.
pub fn gzip(sandbox: &Sandbox, arguments: &[&str], plain: &[u8]) -> Vec<u8> {
    let mut command = sandbox.command("gzip", "");
    command
        .arg("-c")
        .args(arguments)
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped());
    let mut child = command.spawn().expect("gzip");
    let mut stdin = child.stdin.take().expect("a pipe");
    let plain = plain.to_vec();
    let writer = std::thread::spawn(move || stdin.write_all(&plain));
    let output = child.wait_with_output().expect("gzip");
    writer.join().expect("a writer").expect("gzip reads");
    assert!(output.status.success());
    output.stdout
}

#[test]
fn the_first_file_is_the_reference_and_the_next_are_deltas() {
    for world in World::both() {
        let files = versions(1, 3);
        let first = world.put("app-1.zip", &files[0]);
        assert_eq!(first["operation"], "create_reference");
        assert_eq!(first["file_sha256"], oid(&files[0]));
        assert!(first["delta_size"].as_u64().expect("a size") < 100, "{first}");
        for (number, bytes) in files.iter().enumerate().skip(1) {
            let said = world.put(&format!("app-{}.zip", number + 1), bytes);
            assert_eq!(said["operation"], "create_delta");
            assert_eq!(said["ref_sha256"], oid(&files[0]));
            assert_eq!(said["warnings"].as_array().map(Vec::len), Some(0));
            assert!(said["delta_ratio"].as_f64().expect("a ratio") < 0.05, "{said}");
        }
        assert_eq!(
            world.stored(),
            ["app-1.zip.delta", "app-2.zip.delta", "app-3.zip.delta", "reference.bin"]
        );
        world.move_away();
        for (number, bytes) in files.iter().enumerate() {
            world.assert_get(&format!("app-{}.zip", number + 1), bytes);
            world.assert_get(&format!("app-{}.zip.delta", number + 1), bytes);
        }
        let (lines, sum) = world.verify();
        assert_eq!((lines.len(), &sum["proven"]), (4, &Value::from(4)), "{lines:?}");
    }
}

#[test]
fn metadata_is_the_superset_that_all_tools_read() {
    let world = World::on_s3();
    let files = versions(2, 2);
    world.put("a.zip", &files[0]);
    world.put("b.zip", &files[1]);
    world.put("c.bin", &noise(3, 50_000));
    let common = [
        "dg-created-at",
        "dg-file-sha256",
        "dg-file-size",
        "dg-md5",
        "dg-note",
        "dg-original-name",
        "dg-tool",
    ];
    let of_delta = ["dg-delta-cmd", "dg-delta-size", "dg-ref-key", "dg-ref-path", "dg-ref-sha256"];
    for (name, more, note) in [
        ("reference.bin", &["dg-source-name"][..], "reference"),
        ("a.zip.delta", &of_delta, "zero-diff (reference identical)"),
        ("b.zip.delta", &of_delta, "delta"),
        ("c.bin", &["dg-compression"], "passthrough"),
    ] {
        let metadata = world.server().metadata(&format!("{PREFIX}/{name}"));
        let mut expected: Vec<_> = common.iter().chain(more).copied().collect();
        expected.sort_unstable();
        assert_eq!(metadata.keys().map(String::as_str).collect::<Vec<_>>(), expected, "{name}");
        assert_eq!(metadata["dg-note"], note);
    }
    let delta = world.server().metadata(&format!("{PREFIX}/b.zip.delta"));
    assert_eq!(delta["dg-file-sha256"], oid(&files[1]));
    assert_eq!(delta["dg-ref-sha256"], oid(&files[0]));
    assert_eq!(delta["dg-ref-key"], format!("{PREFIX}/reference.bin"));
    assert_eq!(delta["dg-original-name"], "b.zip");
    assert!(delta["dg-created-at"].ends_with('Z') && delta["dg-created-at"].len() == 27, "{delta:?}");
    assert_eq!(world.server().metadata(&format!("{PREFIX}/c.bin"))["dg-compression"], "none");
}

#[test]
fn what_resembles_nothing_is_stored_whole_whatever_it_is_called() {
    for world in World::both() {
        world.put("a.zip", &noise(4, 60_000));
        let said = world.put("b.zip", &noise(5, 60_000));
        assert_eq!(said["operation"], "upload_direct", "{said}");
        assert!(said["why_whole"].as_str().expect("a reason").contains("a delta would take"), "{said}");
        assert_eq!(world.stored(), ["a.zip.delta", "b.zip", "reference.bin"]);
        world.assert_get("b.zip", &noise(5, 60_000));
    }
}

#[test]
fn a_delta_that_takes_much_is_warned_about() {
    let world = World::on_directory();
    let base = noise(6, 100_000);
    world.put("a", &base);
    let half = [&base[..40_000], &noise(7, 60_000)[..]].concat();
    let said = world.put("b", &half);
    assert_eq!(said["operation"], "create_delta");
    assert!(said["warnings"][0].as_str().expect("a warning").contains("more than 0.5"), "{said}");
    let again = world.sandbox.lfs_delta("files", &["put", "--max-ratio", "0.7", "b", &world.url("")]);
    assert_eq!(json(&again.stdout())["warnings"].as_array().map(Vec::len), Some(0));
}

#[test]
fn an_empty_file_comes_back_and_is_no_reference() {
    for world in World::both() {
        assert_eq!(world.put("empty", b"")["operation"], "upload_direct");
        assert_eq!(world.stored(), ["empty"]);
        world.assert_get("empty", b"");
        world.put("a", &noise(8, 1000));
        assert_eq!(world.put("empty", b"")["replaced"], true);
        world.assert_get("empty", b"");
    }
}

#[test]
fn a_compressed_file_is_never_what_xdelta3_would_open_by_itself() {
    let world = World::on_s3();
    let plain = noise(9, 50_000);
    let packed = gzip(&world.sandbox, &["-n"], &plain);
    assert_eq!(world.put("a.tar.gz", &packed)["operation"], "upload_direct");
    assert_eq!(world.stored(), ["a.tar.gz"], "no reference");
    world.put("a.tar", &plain);
    let said = world.put("b.tar.gz", &gzip(&world.sandbox, &["-n", "-1"], &noise(10, 50_000)));
    assert_eq!(said["operation"], "upload_direct");
    world.assert_get("a.tar.gz", &packed);
    world.assert_get("a.tar", &plain);
}

#[test]
fn the_same_name_again_is_the_later_file() {
    for world in World::both() {
        let files = versions(11, 3);
        world.put("a", &files[0]);
        assert_eq!(world.put("b", &files[1])["replaced"], false);
        assert_eq!(world.put("b", &files[2])["replaced"], true);
        world.assert_get("b", &files[2]);
        // Now one that is stored whole beside its delta, and then one that could be a delta again.
        let other = noise(12, 70_000);
        assert_eq!(world.put("b", &other)["operation"], "upload_direct");
        assert_eq!(world.stored(), ["a.delta", "b", "b.delta", "reference.bin"]);
        world.assert_get("b", &other);
        world.assert_get("b.delta", &other);
        let said = world.put("b", &files[1]);
        assert!(said["why_whole"].as_str().expect("a reason").contains("hides a delta"), "{said}");
        world.assert_get("b", &files[1]);
        world.assert_get("b.delta", &files[1]);
        // The first file's name too: the reference stays what it was.
        world.put("a", &files[2]);
        world.assert_get("a", &files[2]);
        let (_, sum) = world.verify();
        assert_eq!((&sum["damaged"], &sum["failed"]), (&Value::from(0), &Value::from(0)));
    }
}

#[test]
fn a_clock_that_is_behind_does_not_bring_back_an_older_file() {
    let world = World::on_s3();
    let files = versions(13, 2);
    world.put("a", &files[0]);
    world.put("b", &files[1]);
    let key = format!("{PREFIX}/b.delta");
    world.server().change_metadata(&key, |metadata| {
        metadata.insert("dg-created-at".into(), "2999-01-01T00:00:00.000000Z".into());
    });
    let later = noise(14, 70_000);
    world.put("b", &later);
    world.assert_get("b", &later);
}

#[test]
fn odd_names_are_names() {
    for world in World::both() {
        let files = versions(15, NAMES.len() as u64);
        for (name, bytes) in NAMES.iter().zip(&files) {
            world.put(name, bytes);
        }
        world.move_away();
        for (name, bytes) in NAMES.iter().zip(&files) {
            let escaped = name.replace('%', "%25").replace('?', "%3f");
            world.assert_get(&escaped, bytes);
        }
        let urls: Vec<_> =
            NAMES.iter().map(|name| world.url(&name.replace('%', "%25").replace('?', "%3f"))).collect();
        let mut arguments = vec!["get", "-o", "out"];
        arguments.extend(urls.iter().map(String::as_str));
        world.sandbox.lfs_delta("", &arguments);
        for (name, bytes) in NAMES.iter().zip(&files) {
            assert!(fs::read(world.sandbox.path("out").join(name)).expect(name) == *bytes, "{name}");
        }
    }
}

/// Twenty names that have broken other programs.
pub const NAMES: [&str; 20] = [
    "plain.zip",
    "with space.zip",
    " leading space",
    "trailing space ",
    "-rf",
    "--help",
    "-",
    "--",
    "ä ö ü.zip",
    "日本語.tar",
    "emoji 🦀.bin",
    "100%.zip",
    "a%20b",
    "a+b&c=d",
    "what?.zip",
    "quo'te\"s",
    "back\\slash",
    "...",
    "~",
    "$HOME;`id`|*.zip",
];

#[test]
fn no_repository_and_no_git_is_needed() {
    let mut world = World::on_s3();
    let empty = world.sandbox.path("empty");
    fs::create_dir(&empty).expect("a folder");
    world.sandbox.set("PATH", &empty);
    world.put("a", b"bytes");
    world.assert_get("a", b"bytes");
}

#[test]
fn a_second_put_downloads_nothing_and_a_second_get_only_the_delta() {
    let world = World::on_s3();
    let files = versions(16, 3);
    world.put("a", &files[0]);
    world.server().expect_calls("5 Head, 2 Put");
    world.put("b", &files[1]);
    let calls = world.server().take_calls();
    assert_eq!(calls.summary(), "4 Head, 1 Put", "{calls}");
    world.move_away();
    world.assert_get("b", &files[1]);
    let calls = world.server().take_calls();
    assert_eq!(calls.summary(), "2 Get, 3 Head", "{calls}");
    world.assert_get("b", &files[1]);
    let calls = world.server().take_calls();
    assert_eq!(calls.summary(), "1 Get, 2 Head", "{calls}");
    assert!(calls.bytes_out() < 10_000, "{calls}");
}

#[test]
fn nothing_lies_in_a_shared_temporary_folder() {
    let world = World::on_directory();
    let files = versions(17, 2);
    world.put("a", &files[0]);
    world.put("b", &files[1]);
    world.move_away();
    world.assert_get("b", &files[1]);
    assert_eq!(fs::read_dir(world.sandbox.path("tmp")).expect("a folder").count(), 0);
    let cached =
        world.sandbox.path("home/.cache/lfs-delta/objects").join(&oid(&files[0])[..2]).join(oid(&files[0]));
    assert!(fs::read(cached).expect("the cached reference") == files[0]);
}

#[test]
fn a_large_file_goes_in_parts_and_comes_back_in_pieces() {
    let world = World::on_s3();
    let base = noise(18, 1 << 20);
    let large = base.repeat(65);
    world.put("a", &large);
    let calls = world.server().take_calls();
    assert!(calls.summary().contains("BeginUpload"), "{calls}");
    assert_eq!(world.server().metadata(&format!("{PREFIX}/reference.bin"))["dg-file-sha256"], oid(&large));
    let edited = edited(&large, 19, 3);
    world.put("b", &edited);
    world.move_away();
    world.assert_get("b", &edited);
}
