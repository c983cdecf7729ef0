//! Real deltaglider 6.2.0: it reads all that we put, and we read all that it puts, also where it cannot itself.

use std::fs;
use std::io::Write as _;
use std::path::PathBuf;
use std::process::Stdio;

use serde_json::{Value, json};

use super::{NAMES, PREFIX, World, gzip, versions};
use crate::support::data::{edited, noise, text};
use crate::support::endpoint::Endpoint;
use crate::support::engine::Engine;
use crate::support::run::run;
use crate::support::tools::Tool;

/// Lets deltaglider do several things and returns what it says of each.
fn deltaglider(world: &World, requests: &[Value]) -> Vec<Value> {
    let python = Tool::DeltaGlider.path().with_file_name("python");
    let script = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/suite/space/peer.py");
    let endpoint = world.endpoint();
    let mut command = world.sandbox.command(python, "");
    command
        .arg(script)
        .arg(&endpoint.url)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = command.spawn().expect("python");
    let mut stdin = child.stdin.take().expect("a pipe");
    let lines: String = requests.iter().map(|request| format!("{request}\n")).collect();
    let writer = std::thread::spawn(move || stdin.write_all(lines.as_bytes()));
    let output = child.wait_with_output().expect("python");
    writer.join().expect("a writer").expect("python reads");
    let answers: Vec<Value> = String::from_utf8_lossy(&output.stdout).lines().map(super::json).collect();
    assert_eq!(answers.len(), requests.len(), "{}", String::from_utf8_lossy(&output.stderr));
    answers
}

/// Lets deltaglider put files into the world's DeltaSpace.
fn it_puts(world: &World, names: &[&str]) -> Vec<Value> {
    let request = |name: &&str| {
        let path = world.sandbox.path("files").join(name);
        json!({"do": "put", "bucket": world.endpoint().bucket, "prefix": PREFIX, "path": path})
    };
    deltaglider(world, &names.iter().map(request).collect::<Vec<_>>())
}

/// Lets deltaglider get what is stored under these names; returns the bytes, or what it says went wrong.
pub fn it_gets(world: &World, stored: &[String]) -> Vec<Result<Vec<u8>, Value>> {
    let path = |number: usize| world.sandbox.path(format!("its-{number}"));
    let requests: Vec<_> = stored
        .iter()
        .enumerate()
        .map(|(number, name)| {
            let key = format!("{PREFIX}/{name}");
            json!({"do": "get", "bucket": world.endpoint().bucket, "key": key, "path": path(number)})
        })
        .collect();
    let answers = deltaglider(world, &requests);
    answers
        .into_iter()
        .enumerate()
        .map(|(number, answer)| match answer["done"] == "got" {
            true => Ok(fs::read(path(number)).expect("what it got")),
            false => Err(answer),
        })
        .collect()
}

/// A tar file of some files, and a ZIP file of the same, by Python.
fn archives(world: &World, seed: u64) -> [(String, Vec<u8>); 3] {
    let script = "import io, random, sys, tarfile, zipfile\n\
        seed, folder = int(sys.argv[1]), sys.argv[2]\n\
        tar = tarfile.open(f'{folder}/{seed}.tar', 'w')\n\
        zip = zipfile.ZipFile(f'{folder}/{seed}.zip', 'w', zipfile.ZIP_DEFLATED)\n\
        for n in range(20):\n\
        \x20   random.seed(n if n != seed % 20 else seed)\n\
        \x20   data = ' '.join(str(random.randrange(10**6)) for _ in range(800)).encode()\n\
        \x20   info = tarfile.TarInfo(f'member-{n}'); info.size = len(data)\n\
        \x20   tar.addfile(info, io.BytesIO(data))\n\
        \x20   zip.writestr(zipfile.ZipInfo(f'member-{n}'), data, zipfile.ZIP_DEFLATED)\n\
        tar.close(); zip.close()\n";
    let folder = world.sandbox.path("archives");
    fs::create_dir_all(&folder).expect("a folder");
    let mut command = world.sandbox.command("python3", "");
    command.args(["-c", script, &seed.to_string()]).arg(&folder);
    run(command).succeeded();
    let read = |kind: &str| fs::read(folder.join(format!("{seed}.{kind}"))).expect("an archive");
    let tar = read("tar");
    let packed = gzip(&world.sandbox, &[], &tar);
    [(format!("{seed}.zip"), read("zip")), (format!("{seed}.tar"), tar), (format!("{seed}.tar.gz"), packed)]
}

#[test]
fn it_reads_all_that_we_put() {
    let world = World::on_s3();
    let mut files = Vec::new();
    for seed in 1..=4 {
        files.extend(archives(&world, seed));
    }
    files.push(("noise.zip".into(), noise(80, 50_000)));
    files.push(("empty.zip".into(), Vec::new()));
    for (name, bytes) in &files {
        world.put(name, bytes);
    }
    assert_it_gets(&world, &files);
}

/// Fails the test unless deltaglider gets all these files, and verifies all that are deltas.
#[track_caller]
fn assert_it_gets(world: &World, files: &[(String, Vec<u8>)]) {
    let keys = world.stored();
    let stored = |name: &String| if keys.contains(name) { name.clone() } else { format!("{name}.delta") };
    let stored: Vec<_> = files.iter().map(|(name, _)| stored(name)).collect();
    let deltas = stored.iter().filter(|name| name.ends_with(".delta")).count();
    assert!(deltas > files.len() / 3, "{keys:?}");
    for ((name, bytes), got) in files.iter().zip(it_gets(world, &stored)) {
        match got {
            Ok(got) => assert!(got == *bytes, "{name}: other bytes"),
            Err(said) => panic!("{name}: {said}"),
        }
    }
    let requests: Vec<_> = stored.iter().filter(|name| name.ends_with(".delta")).map(|name| {
        json!({"do": "verify", "bucket": world.endpoint().bucket, "key": format!("{PREFIX}/{name}")})
    }).collect();
    for answer in deltaglider(world, &requests) {
        assert_eq!(answer["done"], "Integrity verified");
    }
}

#[test]
fn it_reads_a_space_that_began_with_compressed_files() {
    let world = World::on_s3();
    let plain = text(93, 50_000);
    let mut files = vec![("a.tar.gz".to_owned(), gzip(&world.sandbox, &["-9"], &plain))];
    files.push(("b.tar.gz".into(), gzip(&world.sandbox, &["-9"], &edited(&plain, 94, 3))));
    files.push(("a.tar".into(), plain.clone()));
    files.push(("b.tar".into(), edited(&plain, 94, 3)));
    for (name, bytes) in &files {
        world.put(name, bytes);
    }
    assert_it_gets(&world, &files);
}

#[test]
fn it_reads_odd_names_that_we_put() {
    let world = World::on_s3();
    let files: Vec<_> =
        NAMES.iter().map(|name| (*name).to_owned()).zip(versions(81, NAMES.len() as u64)).collect();
    for (name, bytes) in &files {
        world.put(name, bytes);
    }
    assert_it_gets(&world, &files);
}

#[test]
fn we_read_all_that_it_puts() {
    let world = World::on_s3();
    let mut files = Vec::new();
    for seed in 1..=4 {
        files.extend(archives(&world, seed).into_iter().filter(|(name, _)| !name.ends_with(".gz")));
    }
    files.push(("notes.txt".into(), text(82, 5_000)));
    files.push(("unlike.zip".into(), noise(83, 50_000)));
    let names = NAMES.iter().filter(|name| name.is_ascii()).map(|name| format!("{name}.zip"));
    files.extend(names.zip(versions(84, NAMES.len() as u64)));
    for (name, bytes) in &files {
        world.write(name, bytes);
    }
    for answer in it_puts(&world, &files.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>()) {
        assert_eq!(answer["failed"], Value::Null, "{answer}");
    }
    for (name, bytes) in &files {
        world.assert_get(&name.replace('%', "%25").replace('?', "%3f"), bytes);
    }
    let (lines, sum) = world.verify();
    assert_eq!(sum["proven"], files.len() + 1, "{lines:?}");
}

#[test]
fn both_work_in_one_space() {
    let world = World::on_s3();
    let files = versions(85, 4);
    for (name, bytes) in ["1.zip", "2.zip", "3.zip", "4.zip"].iter().zip(&files) {
        world.write(name, bytes);
    }
    it_puts(&world, &["1.zip"]);
    assert_eq!(world.put("2.zip", &files[1])["operation"], "create_delta");
    assert_eq!(it_puts(&world, &["3.zip"])[0]["done"], "create_delta");
    // It replaces what we stored, and we what it stored.
    world.write("2.zip", &files[3]);
    it_puts(&world, &["2.zip"]);
    world.put("3.zip", &files[0]);
    for (name, bytes) in [("1.zip", &files[0]), ("2.zip", &files[3]), ("3.zip", &files[0])] {
        world.assert_get(name, bytes);
    }
    let stored = ["1.zip.delta", "2.zip.delta", "3.zip.delta"].map(String::from);
    let got = it_gets(&world, &stored);
    for (got, bytes) in got.into_iter().zip([&files[0], &files[3], &files[0]]) {
        assert!(got.expect("it gets it") == *bytes);
    }
}

/// It stores gzip, bzip2 and xz so that it mostly cannot restore them. Its first file is in the reference all the same;
/// of the others we bring back what the compressor's settings allow, and say clearly what we cannot.
#[test]
fn we_restore_what_it_stored_and_cannot_restore() {
    let world = World::on_s3();
    let plain: Vec<_> = (0..6).map(|seed| edited(&text(86, 100_000), 87 + seed, 4)).collect();
    let cases: [(&str, &[&str]); 5] = [
        ("first", &["-9"]),
        ("default", &["-n"]),
        ("best", &["-9", "-n"]),
        ("fast", &["-1", "-n"]),
        ("named", &[]),
    ];
    let mut names = Vec::new();
    let mut files = Vec::new();
    for ((name, arguments), plain) in cases.iter().zip(&plain) {
        let name = format!("{name}.tar.gz");
        let packed = if name.starts_with("named") || name.starts_with("first") {
            // With a name and a time in the header, as `gzip FILE` writes it.
            let path = world.sandbox.write("plain/data.tar", plain);
            let mut touch = world.sandbox.command("touch", "");
            touch.args(["-d", "2024-01-01T00:00:00Z"]).arg(&path);
            run(touch).succeeded();
            let mut command = world.sandbox.command("gzip", "plain");
            command.args(*arguments).args(["-c", "data.tar"]);
            run(command).succeeded().out
        } else {
            gzip(&world.sandbox, arguments, plain)
        };
        world.write(&name, &packed);
        names.push(name);
        files.push(packed);
    }
    // No setting of gzip writes this: the last stream is not what any encoder makes of it.
    let mut odd = gzip(&world.sandbox, &["-n"], &plain[5]);
    odd[4..8].copy_from_slice(&[1, 2, 3, 4]);
    world.write("odd.tar.gz", &odd);
    names.push("odd.tar.gz".into());
    for answer in it_puts(&world, &names.iter().map(String::as_str).collect::<Vec<_>>()) {
        assert_eq!(answer["failed"], Value::Null, "{answer}");
    }
    let stored: Vec<_> = names.iter().map(|name| format!("{name}.delta")).collect();
    let its: Vec<_> = it_gets(&world, &stored).iter().map(Result::is_ok).collect();
    assert_eq!(its, [false, true, false, false, false, false], "what it can restore itself");
    world.move_away();
    for (name, bytes) in names.iter().zip(&files) {
        world.assert_get(name, bytes);
    }
    let ran = world.get_fails("odd.tar.gz");
    assert_eq!(ran.code(), 5);
    ran.says("E5104").says("decompressed form");
}

#[test]
fn its_reference_that_is_compressed_gets_no_delta_of_ours() {
    let world = World::on_s3();
    let packed = gzip(&world.sandbox, &["-9"], &text(90, 50_000));
    world.write("first.tar.gz", &packed);
    it_puts(&world, &["first.tar.gz"]);
    let said = world.put("second.tar", &text(91, 50_000));
    assert!(said["why_whole"].as_str().expect("a reason").contains("no delta on it"), "{said}");
    assert!(it_gets(&world, &["second.tar".into()])[0].as_ref().is_ok_and(|got| *got == text(91, 50_000)));
    world.assert_get("first.tar.gz", &packed);
}

#[test]
fn its_command_line_and_ours_meet_on_another_service() {
    let endpoint: Endpoint = Engine::seaweedfs().new_bucket();
    let mut sandbox = crate::support::sandbox::Sandbox::new();
    sandbox.use_s3(&endpoint);
    let files = versions(92, 2);
    sandbox.write("a.zip", &files[0]);
    sandbox.write("b.zip", &files[1]);
    let url = |name: &str| endpoint.store_url(&format!("space/{name}"));
    let cp = |from: &str, to: &str| {
        let mut command = sandbox.command(Tool::DeltaGlider.path(), "");
        command.args(["cp", from, to, "--endpoint-url", &endpoint.url]);
        run(command).succeeded();
    };
    sandbox.lfs_delta("", &["put", "a.zip", &url("")]);
    cp("b.zip", &format!("s3://{}/space/b.zip", endpoint.bucket));
    cp(&format!("s3://{}/space/a.zip", endpoint.bucket), "its.zip");
    assert!(fs::read(sandbox.path("its.zip")).expect("a file") == files[0]);
    for (name, bytes) in ["a.zip", "b.zip"].iter().zip(&files) {
        assert!(sandbox.lfs_delta("", &["get", &url(name)]).out == *bytes, "{name}");
    }
    let ran = sandbox.lfs_delta("", &["verify", &url("")]);
    assert!(ran.stdout().contains("3 of 3"), "{ran}");
}
