//! The format of the store, byte by byte as `docs/format.md` has it, with stock tools where it says so.

use std::fs;
use std::path::{Path, PathBuf};

use lfs_delta::depot::FORMAT;
use lfs_delta::model::{Entry, Key};

use crate::support::data::{noise, oid, text, versions};
use crate::support::fake_lfs::FakeLfs;
use crate::support::run::run;
use crate::support::sandbox::files_below;
use crate::world::{Object, World};

/// The document that promises all this.
const DOCUMENT: &str = include_str!("../../docs/format.md");

/// The command that section 6 gives for copies with such names.
fn command_for(kind: &str) -> String {
    let (_, section) = DOCUMENT.split_once("## 6. By hand").expect("section 6");
    let mut commands = section.lines().filter_map(|line| line.strip_prefix("    "));
    let command = commands.find(|line| line.split_whitespace().any(|word| word.ends_with(kind)));
    command.unwrap_or_else(|| panic!("no command for {kind} in docs/format.md")).to_owned()
}

/// Restores a copy of a directory store with the document's own command, in `dir`, to the file `object` there.
fn restore_by_hand(world: &World, key: &str, dir: &Path) -> Vec<u8> {
    let kind = match key.rsplit('/').next().expect("a name") {
        name if name.starts_with("delta.") => "/delta.BASE-OID.BASE-NONCE.NONCE.zst",
        name if name.ends_with(".zst") => "/full.NONCE.zst",
        _ => "/full.NONCE",
    };
    let line = command_for(kind);
    let place = line.split_whitespace().find(|word| word.ends_with(kind)).expect("just found");
    let line = line.replace(place, &format!("\"$S/{key}\""));
    let mut command = world.sandbox.command("sh", dir);
    command.args(["-ec", &line]).env("S", world.sandbox.path("store"));
    run(command).succeeded();
    fs::read(world.sandbox.path(dir).join("object")).expect("the restored object")
}

/// Restores an object of a directory store, its bases first.
fn restore(world: &World, object: &Object) -> Vec<u8> {
    let key = world.copy(object);
    let dir = PathBuf::from(format!("by-hand/{}", object.oid));
    fs::create_dir_all(world.sandbox.path(&dir)).expect("a folder");
    if let Some(rest) = key.split_once("/delta.").map(|(_, rest)| rest) {
        let base = Object { oid: rest[..64].to_owned(), bytes: Vec::new() };
        let bytes = restore(world, &base);
        world.sandbox.write(dir.join("base"), bytes);
    }
    restore_by_hand(world, &key, &dir)
}

/// A world whose deltas are those that zstd's own tool decodes: the least effort makes them.
fn world_of_zstd() -> World {
    let mut world = World::on_directory();
    world.sandbox.set("LFS_DELTA_EFFORT", "fast");
    world
}

fn assert_restored(world: &World, object: &Object) {
    let bytes = restore(world, object);
    assert!(bytes == object.bytes, "other bytes");
    assert_eq!(oid(&bytes), object.oid);
}

#[test]
fn a_raw_whole_copy_is_restored_by_cp() {
    let world = World::on_directory();
    let object = world.pushed(vec![noise(1, 20_000)]).remove(0);
    let key = world.copy(&object);
    assert!(key.rsplit('.').next().is_some_and(|nonce| nonce.len() == 32), "{key}");
    assert!(command_for("/full.NONCE").starts_with("cp "));
    assert_restored(&world, &object);
    assert_eq!(world.get(&key), object.bytes);
}

#[test]
fn a_packed_whole_copy_is_restored_by_zstd() {
    let world = World::on_directory();
    let object = world.pushed(vec![text(2, 50_000)]).remove(0);
    assert!(world.copy(&object).ends_with(".zst"));
    assert_restored(&world, &object);
}

#[test]
fn deltas_on_raw_and_on_packed_copies_are_restored_by_zstd() {
    let packed = text(3, 50_000);
    let on_packed = [&packed[..20_000], &noise(3, 50), &packed[20_000..]].concat();
    for bodies in [versions(3, 50_000, 2), vec![packed, on_packed]] {
        let world = world_of_zstd();
        let objects = world.pushed(bodies);
        assert!(world.copy(&objects[1]).contains("/delta."));
        assert_restored(&world, &objects[1]);
    }
}

#[test]
fn a_chain_of_three_deltas_is_restored_by_zstd_step_by_step() {
    let world = world_of_zstd();
    let objects = world.pushed(versions(4, 100_000, 4));
    for pair in objects.windows(2) {
        let key = world.copy(&pair[1]);
        assert!(key.contains(&format!("/delta.{}.", pair[0].oid)), "not on the version before: {key}");
    }
    assert_restored(&world, &objects[3]);
}

#[test]
fn a_large_delta_is_restored_with_the_window_that_the_document_names() {
    let world = world_of_zstd();
    let block = noise(5, 1 << 20).repeat(9);
    let first: Vec<u8> = block.iter().enumerate().map(|(at, byte)| byte ^ (at >> 20) as u8).collect();
    let second = [&first[5 << 20..], &noise(6, 1000), &first[..5 << 20]].concat();
    let objects = world.pushed(vec![first, second]);
    assert!(world.copy(&objects[1]).contains("/delta."));
    assert_restored(&world, &objects[1]);
}

#[test]
fn a_store_that_was_copied_with_cp_is_the_same_store() {
    let mut world = World::on_directory();
    let objects = world.pushed(versions(7, 30_000, 3));
    let mut copy = world.sandbox.command("cp", "");
    copy.args(["-R", "store", "copied"]);
    run(copy).succeeded();
    fs::rename(world.sandbox.path("store"), world.sandbox.path("lost")).expect("rename");
    world.url = world.url.replace("/store", "/copied");
    world.add_machine("b");
    world.pull("b", &objects[2]);
}

// ---- names

fn is_hex(text: &str, length: usize) -> bool {
    text.len() == length && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

/// Whether a key is one of the table of section 1.
fn is_in_table(key: &str) -> bool {
    let parts: Vec<&str> = key.split('/').collect();
    match parts[..] {
        ["lfs-delta.json"] => true,
        ["repos", hash] => is_hex(hash, 32),
        ["probe", nonce] => is_hex(nonce, 32),
        ["objects", shard, oid, name] => {
            let words: Vec<&str> = name.split('.').collect();
            let known = match words[..] {
                ["full", nonce] | ["full", nonce, "zst" | "d1"] => is_hex(nonce, 32),
                ["delta", base, base_nonce, nonce, "zst" | "d1"] => {
                    is_hex(base, 64) && is_hex(base_nonce, 32) && is_hex(nonce, 32)
                }
                _ => false,
            };
            known && is_hex(oid, 64) && shard == &oid[..2]
        }
        _ => false,
    }
}

#[test]
fn every_name_in_a_store_is_in_the_table_and_parses_to_itself() {
    let world = World::on_directory();
    world.pushed(versions(8, 30_000, 3));
    world.pushed(vec![text(8, 30_000)]);
    let keys = world.keys("");
    assert_eq!(keys.len(), 6, "{keys:?}");
    for key in &keys {
        assert!(is_in_table(key) && key.len() <= 221, "{key}");
        if key.starts_with("objects/") {
            let Some(Entry::Copy(name)) = Entry::parse(key) else { panic!("{key} is no copy") };
            assert_eq!(Key::copy(&name).as_str(), key);
        }
    }
    let url = b"https://git.example.invalid/team/game.git";
    assert_eq!(world.keys("repos/"), [format!("repos/{}", &oid(url)[..32])]);
}

#[test]
fn init_writes_the_same_manifest_everywhere_and_what_it_tested_with() {
    let world = World::on_directory();
    for store in ["one", "two"] {
        world.sandbox.lfs_delta("a", &["init", world.sandbox.path(store).to_str().expect("text")]);
        fs::remove_file(world.sandbox.path("a/.lfsconfig")).expect("the setting");
        let keys: Vec<_> = files_below(&world.sandbox.path(store)).into_keys().collect();
        let keys: Vec<_> = keys.iter().map(|key| key.to_str().expect("text")).collect();
        assert!(keys.len() == 2 && keys.iter().all(|key| is_in_table(key)), "{keys:?}");
    }
    let manifest = |store: &str| fs::read(world.sandbox.path(store).join("lfs-delta.json")).expect("a file");
    assert_eq!(manifest("one"), manifest("two"));
    let fields: serde_json::Value = serde_json::from_slice(&manifest("one")).expect("JSON");
    assert_eq!(fields["format"], FORMAT);
    // Released bytes: a change here is another format.
    assert_eq!(oid(&manifest("one")), "94002b805d69c3ee8b38ad1b19c5b5afff69bd6b6d36ab0028d3d2ef2205e57c");
}

// ---- headers

fn number(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes"))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Checks the fixed part of a header over `links` links, and what begins after it.
fn assert_header(key: &str, bytes: &[u8], object: &Object, links: usize) {
    assert_eq!(bytes[..4], 0x184D_2A5D_u32.to_le_bytes());
    assert_eq!(bytes[4..8], (112 + 80 * links as u32).to_le_bytes());
    assert_eq!(&bytes[8..16], b"LFSDELTA");
    assert_eq!(bytes[16..24], [1, if links == 0 { 1 } else { 2 }, links as u8, 0, 0, 0, 0, 0]);
    assert_eq!((number(bytes, 24), number(bytes, 32)), (object.size(), object.size()));
    assert_eq!(hex(&bytes[40..72]), object.oid);
    let words: Vec<&str> = key.split('.').collect();
    assert_eq!(hex(&bytes[72..88]), words[words.len() - 2], "the nonce is the last but the codec");
    let end = 88 + 80 * links;
    assert_eq!(hex(&bytes[end..end + 32]), oid(&bytes[8..end]), "the SHA-256 of all from offset 8");
    let frame = &bytes[end + 32..];
    assert_eq!(frame[..4], 0xFD2F_B528_u32.to_le_bytes(), "one zstd frame");
    assert_eq!(frame[4] & 0b100, 0b100, "with a checksum");
    assert!(frame[4] >> 6 != 0 || frame[4] & 0b10_0000 != 0, "that states its size");
}

#[test]
fn the_header_of_a_packed_whole_copy_is_as_documented() {
    let world = World::on_directory();
    let object = world.pushed(vec![text(9, 50_000)]).remove(0);
    let key = world.copy(&object);
    assert_header(&key, &world.get(&key), &object, 0);
}

#[test]
fn the_header_of_a_delta_records_its_chain_as_documented() {
    let first = text(10, 50_000);
    let edit = |bytes: &[u8], seed| [&bytes[..30_000], &noise(seed, 60), &bytes[30_000..]].concat();
    let second = edit(&first, 1);
    let third = edit(&second, 2);
    let world = world_of_zstd();
    let objects = world.pushed(vec![first, second, third]);
    let keys: Vec<String> = objects.iter().map(|object| world.copy(object)).collect();
    let bytes = world.get(&keys[2]);
    assert_header(&keys[2], &bytes, &objects[2], 2);
    for (number_of_link, below) in [1, 0].into_iter().enumerate() {
        let link = &bytes[88 + 80 * number_of_link..];
        let words: Vec<&str> = keys[below].split('.').collect();
        assert_eq!(hex(&link[..32]), objects[below].oid);
        assert_eq!(hex(&link[32..48]), words[words.len() - 2]);
        assert_eq!(&link[48..56], b"zst\0\0\0\0\0");
        assert_eq!(number(link, 56), objects[below].size());
        assert_eq!(number(link, 64), world.get(&keys[below]).len() as u64);
        assert_eq!(number(link, 72), objects[below].size());
    }
}

#[test]
fn a_delta_of_the_engine_is_named_in_the_chain_of_the_next() {
    let world = World::on_directory();
    let objects = world.pushed(versions(12, 30_000, 3));
    let keys: Vec<String> = objects.iter().map(|object| world.copy(object)).collect();
    assert!(keys[1].ends_with(".d1") && keys[2].ends_with(".d1"), "{keys:?}");
    let bytes = world.get(&keys[2]);
    assert_eq!(&bytes[88 + 48..88 + 56], b"d1\0\0\0\0\0\0");
    assert_eq!(bytes[88 + 80 * 2 + 32..][..2], [1, 0], "version and shape of the payload");
}

#[test]
fn the_effort_of_the_command_line_beats_that_of_the_settings() {
    let mut world = World::on_directory();
    world.sandbox.set("LFS_DELTA_EFFORT", "max");
    let bodies = versions(13, 30_000, 2);
    let first = world.pushed(bodies[..1].to_vec()).remove(0);
    let second = world.commit("file.bin", bodies[1].clone());
    let mut command = world.agent_command("a");
    command.args(["--effort", "fast"]);
    let mut agent = FakeLfs::spawn(command).accepted("upload");
    agent.upload(&second.oid, second.size(), &world.local_path("a", &second)).succeeded();
    agent.terminate();
    let key = world.copy(&second);
    assert!(key.contains(&format!("/delta.{}.", first.oid)) && key.ends_with(".zst"), "{key}");
}

#[test]
fn a_link_to_a_raw_copy_names_no_codec() {
    let world = World::on_directory();
    let objects = world.pushed(versions(11, 30_000, 2));
    let bytes = world.get(&world.copy(&objects[1]));
    assert_eq!(bytes[88 + 48..88 + 56], [0; 8]);
    assert_eq!(number(&bytes, 88 + 64), objects[0].size());
}

// ---- released stores

/// The stores that older releases wrote. They never change; each released format adds one.
fn frozen() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/frozen")
}

#[test]
fn every_format_that_was_released_is_read() {
    for format in 1..=FORMAT {
        let world = World::on_directory();
        let store = frozen().join(format!("format-{format}"));
        for (path, bytes) in files_below(&store) {
            world.put(path.to_str().expect("text"), bytes);
        }
        world.add_machine("b");
        let keys = world.keys("objects/");
        assert!(keys.len() >= 4, "{keys:?}");
        let said = crate::verify::verify_on(&world, "b", &["--read-data"]);
        said.assert_clean();
        assert_eq!(said.summary["read"], keys.len());
        let mut agent = world.start("b", "download");
        for line in
            fs::read_to_string(frozen().join(format!("format-{format}.sizes"))).expect("sizes").lines()
        {
            let (oid_, size) = line.split_once(' ').expect("an oid and a size");
            let path = agent.download(oid_, size.parse().expect("a size")).succeeded().path();
            assert_eq!(oid(&fs::read(path).expect("a file")), oid_);
        }
        agent.terminate();
    }
}
