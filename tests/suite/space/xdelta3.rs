//! Stock `xdelta3`: it decodes what we store, and we what it stores. And why the RFC's own command is not run.

use std::fs;
use std::path::Path;
use std::process::Stdio;

use super::{PREFIX, World, gzip, versions};
use crate::support::data::{edited, noise, text};
use crate::support::run::{DEADLINE, Ran, Running, is_soak};
use crate::support::sandbox::Sandbox;

fn xdelta3(sandbox: &Sandbox, folder: &Path, arguments: &[&str]) -> Ran {
    let mut command = sandbox.command("xdelta3", folder);
    command.args(arguments).stdin(Stdio::null());
    // It takes minutes for a corpus where the machine has other things to do.
    Running::start(command).finish(if is_soak() { 10 * DEADLINE } else { DEADLINE })
}

#[test]
fn stock_xdelta3_decodes_what_we_store() {
    let world = World::on_directory();
    let mut files = versions(70, 3);
    files.push(text(71, 80_000));
    for (number, bytes) in files.iter().enumerate() {
        world.put(&number.to_string(), bytes);
    }
    let space = world.sandbox.path("space");
    for (number, bytes) in files.iter().enumerate() {
        let delta = format!("{number}.delta");
        xdelta3(&world.sandbox, &space, &["-d", "-f", "-s", "reference.bin", &delta, "out"]).succeeded();
        assert!(fs::read(space.join("out")).expect("a file") == *bytes, "{number}");
    }
}

#[test]
fn we_decode_what_stock_xdelta3_stores() {
    let world = World::on_s3();
    let files = versions(72, 2);
    let folder = world.sandbox.path("files");
    world.write("reference.bin", &files[0]);
    world.write("b", &files[1]);
    for options in
        [&["-9"][..], &["-9", "-S", "none"], &["-S", "djw"], &["-A"], &["-n"], &["-B", "268435456"]]
    {
        let mut arguments = vec!["-e", "-f", "-D"];
        arguments.extend(options);
        arguments.extend(["-s", "reference.bin", "b", "b.delta"]);
        xdelta3(&world.sandbox, &folder, &arguments).succeeded();
        let delta = fs::read(folder.join("b.delta")).expect("a delta");
        // As the RFC has it: bare keys with underscores.
        let oid = |bytes: &[u8]| crate::support::data::oid(bytes);
        for (name, bytes) in [("reference.bin", files[0].clone()), ("b.delta", delta)] {
            let key = format!("{PREFIX}/{name}");
            world.server().put_raw(&key, bytes);
            world.server().change_metadata(&key, |metadata| {
                metadata.insert("tool".into(), "deltaglider/0.1.0".into());
                let file = if name == "b.delta" { &files[1] } else { &files[0] };
                metadata.insert("file_sha256".into(), oid(file));
                metadata.insert("file_size".into(), file.len().to_string());
                if name == "b.delta" {
                    metadata.insert("ref_sha256".into(), oid(&files[0]));
                }
            });
        }
        world.move_away();
        assert!(world.get("b").out == files[1], "{options:?}");
        // And without any metadata where the delta has checksums.
        world.server().change_metadata(&format!("{PREFIX}/b.delta"), |metadata| metadata.clear());
        if options == ["-n"] {
            world.get_fails("b").says("E5103").says("no checksum");
        } else {
            assert!(world.get("b").out == files[1], "{options:?}");
        }
    }
}

/// The RFC says `xdelta3 -e -9 -s reference.bin <input> <input>.delta`. Between gzip files that loses the file: the
/// program compresses again when it decodes, with settings of its own, and calls that success.
#[test]
fn the_rfcs_own_command_does_not_restore_gzip_files() {
    let sandbox = Sandbox::new();
    let plain = text(73, 200_000);
    sandbox.write("reference.bin", gzip(&sandbox, &["-9", "-n"], &plain));
    let input = gzip(&sandbox, &["-9", "-n"], &edited(&plain, 74, 5));
    sandbox.write("input.gz", &input);
    let folder = sandbox.path("");
    xdelta3(&sandbox, &folder, &["-e", "-9", "-s", "reference.bin", "input.gz", "input.gz.delta"])
        .succeeded();
    xdelta3(&sandbox, &folder, &["-d", "-s", "reference.bin", "input.gz.delta", "output.gz"]).succeeded();
    let output = fs::read(folder.join("output.gz")).expect("a file");
    assert!(output != input, "xdelta3 restored it: does this program need -D no more?");
    // With -D both ways it does.
    xdelta3(
        &sandbox,
        &folder,
        &["-e", "-9", "-D", "-f", "-s", "reference.bin", "input.gz", "input.gz.delta"],
    )
    .succeeded();
    xdelta3(&sandbox, &folder, &["-d", "-D", "-f", "-s", "reference.bin", "input.gz.delta", "output.gz"])
        .succeeded();
    assert!(fs::read(folder.join("output.gz")).expect("a file") == input);
}

/// Why a compressed file never becomes the reference.
#[test]
fn stock_xdelta3_decodes_no_delta_on_a_compressed_reference_without_being_told() {
    let sandbox = Sandbox::new();
    let folder = sandbox.path("");
    for magic in [&b"BZh"[..], b"\x1f\x8b", b"\x1f\x9d", b"\xfd7"] {
        let base = [magic, &noise(75, 20_000)].concat();
        sandbox.write("reference.bin", &base);
        sandbox.write("input", edited(&base, 76, 3));
        xdelta3(&sandbox, &folder, &["-e", "-D", "-A", "-f", "-s", "reference.bin", "input", "delta"])
            .succeeded();
        xdelta3(&sandbox, &folder, &["-d", "-f", "-s", "reference.bin", "delta", "output"]).failed();
    }
}

/// Largest version that is tried: the program under test is not optimised.
#[cfg(feature = "soak")]
const VERSION_MAX_BYTES: u64 = 100 << 20;

#[cfg(feature = "soak")]
#[test]
fn every_corpus_goes_both_ways() {
    use crate::codec::packers::{corpora, versions};
    for corpus in corpora() {
        let files = versions(&corpus);
        let [first, .., last] = &files[..] else { panic!("two versions at least") };
        if [first, last].iter().any(|path| fs::metadata(path).expect("a version").len() > VERSION_MAX_BYTES) {
            continue;
        }
        let world = World::on_directory();
        let put = |path: &Path| {
            let ran = world.sandbox.lfs_delta("", &["put", &path.display().to_string(), &world.url("")]);
            super::json(&ran.stdout())
        };
        let name = |path: &Path| path.file_name().expect("a name").to_string_lossy().into_owned();
        put(first);
        let said = put(last);
        println!("{}: {} of {}", corpus.display(), said["delta_size"], said["file_size"]);
        let bytes = fs::read(last).expect("a version");
        world.move_away();
        world.assert_get(&name(last), &bytes);
        let (space, delta) = (world.sandbox.path("space"), format!("{}.delta", name(last)));
        if said["operation"] == "create_delta" {
            xdelta3(&world.sandbox, &space, &["-d", "-f", "-s", "reference.bin", &delta, "../out"])
                .succeeded();
            assert!(fs::read(world.sandbox.path("out")).expect("a file") == bytes, "{}", corpus.display());
        }
        // And what xdelta3 makes of the same, with nothing but its checksums to prove it.
        let reference =
            fs::copy(first, space.join("reference.bin")).map(|_| "reference.bin").expect("a file");
        let target = last.display().to_string();
        xdelta3(&world.sandbox, &space, &["-e", "-9", "-D", "-f", "-s", reference, &target, "its.delta"])
            .succeeded();
        world.assert_get("its", &bytes);
    }
}
