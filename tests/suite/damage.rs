//! Everything that is wrong before it begins, and everything that breaks in the store, the cache or the
//! repository: what is said of it, that nothing wrong remains, and what heals by itself.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use lfs_delta::codec::{self, Effort, Header, Memory, Work};
use lfs_delta::model::{Chain, CodecName, CopyId, CopyName, Entry, Key, Link, Nonce, Oid, Shape};

use crate::support::data::{edited, noise, text, versions};
use crate::support::endpoint::closed_url;
use crate::support::fake_lfs::{FakeLfs, download_event};
use crate::support::mounts::{on_small_disk, with_read_only};
use crate::support::s3::{Fault, Kind, any, on};
use crate::world::{MANIFEST, Object, World, assert_report};

/// What codecs work with here.
fn work() -> Work<'static> {
    Work { effort: Effort::Fast, threads: 1, memory: 0, scratch: &Memory, watch: &|_| Ok(()) }
}

/// Both directions must fail alike, and store or keep nothing; `parts` are in both messages.
#[track_caller]
fn assert_unusable(world: &World, code: &str, parts: &[&str]) {
    let (object, _) = world.local(text(1, 20_000));
    let before = world.keys("");
    let parts = [parts, &[&object.oid]].concat();
    assert_report(&world.upload(&object).failed(), code, &parts);
    world.add_machine("b");
    let message = world.download("b", &object).expect_err("a failure");
    assert_report(&message, code, &parts);
    assert_eq!(world.keys(""), before);
}

// ---- the store cannot be used

#[test]
fn a_bucket_that_does_not_exist_is_named() {
    let mut world = World::on_s3();
    world.url = world.url.replace("lfs-test", "lfs-tset");
    assert_unusable(&world, "E2002", &["lfs-tset", "NoSuchBucket"]);
}

#[test]
fn a_directory_that_does_not_exist_is_named_and_not_made() {
    let mut world = World::on_directory();
    let gone = world.sandbox.path("unmounted");
    world.url = format!("file://{}", gone.display());
    assert_unusable(&world, "E2002", &[gone.to_str().expect("text")]);
    assert!(!gone.exists());
}

#[test]
fn a_place_without_a_store_is_named_and_not_made_one() {
    for world in [World::on_directory(), World::on_s3()] {
        world.remove("lfs-delta.json");
        world.put("something/else", "x");
        assert_unusable(&world, "E2001", &["no lfs-delta store", "lfs-delta init"]);
    }
}

#[test]
fn missing_credentials_are_said_to_be_missing() {
    let mut world = World::on_s3();
    world.sandbox.unset("AWS_ACCESS_KEY_ID").unset("AWS_SECRET_ACCESS_KEY");
    assert_unusable(&world, "E3002", &["s3://lfs-test/team/game", "credentials"]);
}

#[test]
fn unknown_and_wrong_credentials_are_told_from_missing_rights() {
    let mut world = World::on_s3();
    world.sandbox.set("AWS_SECRET_ACCESS_KEY", "wrong");
    assert_unusable(&world, "E3002", &["SignatureDoesNotMatch"]);
    world.sandbox.set("AWS_ACCESS_KEY_ID", "AKIDNOBODY");
    let (object, _) = world.local("x");
    assert_report(&world.upload(&object).failed(), "E3002", &["InvalidAccessKeyId"]);
}

#[test]
fn expired_credentials_are_said_to_have_expired() {
    let world = World::on_s3();
    world.server().fail(any().forever(), Fault::expired_token());
    assert_unusable(&world, "E3002", &["ExpiredToken", "log in"]);
}

#[test]
fn an_untrusted_endpoint_is_not_contacted() {
    let world = World::on_s3();
    world.sandbox.write("a/.lfsconfig", format!("[lfs]\n\turl = lfs-delta::{}\n", world.url));
    let (object, path) = world.local("bytes");
    let mut agent = FakeLfs::start(&world.sandbox, "a").accepted("upload");
    let message = agent.upload(&object.oid, object.size(), &path).failed();
    agent.terminate();
    assert_report(&message, "E1005", &["127.0.0.1", "lfs-delta trust"]);
    world.server().expect_calls("");
    world.sandbox.lfs_delta("a", &["trust", "127.0.0.1"]);
    let mut agent = FakeLfs::start(&world.sandbox, "a").accepted("upload");
    agent.upload(&object.oid, object.size(), &path).succeeded();
    agent.terminate();
}

#[test]
fn a_store_url_that_is_none_is_named_with_where_it_stands() {
    let mut world = World::on_directory();
    for url in ["s3://", "https://example.invalid", "s3://bucket?profile=admin", "file://relative"] {
        world.url = url.to_owned();
        let (object, _) = world.local("bytes");
        assert_report(&world.upload(&object).failed(), "E1004", &["--store"]);
    }
}

#[test]
fn a_service_that_nobody_answers_at_is_named_after_some_tries() {
    let mut world = World::on_s3();
    let closed = closed_url();
    world.url = world.url.replace(&world.server().endpoint.url, &closed);
    assert_unusable(&world, "E4001", &["s3://lfs-test/team/game", &closed, "network"]);
}

#[test]
fn a_service_that_never_answers_is_given_up() {
    let mut world = World::on_s3();
    world.sandbox.set("LFS_DELTA_READ_TIMEOUT", "30ms").set("LFS_DELTA_ATTEMPTS", "2");
    world.server().fail(any().forever(), Fault::Hang);
    assert_unusable(&world, "E4001", &["s3://lfs-test/team/game"]);
}

#[test]
fn missing_rights_are_named_with_what_they_were_needed_for() {
    let world = World::on_s3();
    let (object, _) = world.local(noise(1, 10_000));
    world.server().fail(on(Kind::Put).key("objects/").forever(), Fault::access_denied());
    let message = world.upload(&object).failed();
    assert_report(&message, "E3001", &[&object.folder(), "store", "AccessDenied", "s3:PutObject"]);
    assert_eq!(world.keys("objects/"), [] as [String; 0]);
    world.server().heal();
    world.push(&object);
    world.server().fail(on(Kind::Get).key("objects/").forever(), Fault::access_denied());
    assert_report(&world.cannot_pull(&object), "E3001", &[&world.copy(&object), "read"]);
    world.server().heal();
    world.server().fail(any().forever(), Fault::access_denied());
    assert_report(&world.download("cold", &object).expect_err("a failure"), "E3001", &["list"]);
}

/// A machine's agent under other mounts.
fn agent_with(command: Command, operation: &str) -> FakeLfs {
    FakeLfs::spawn(command).accepted(operation)
}

#[test]
fn a_read_only_directory_can_be_read_and_not_written() {
    let world = World::on_directory();
    let stored = world.pushed(versions(2, 20_000, 2));
    let (object, path) = world.local(noise(3, 10_000));
    let read_only = |machine| with_read_only(world.agent_command(machine), &world.sandbox.path("store"));
    let before = world.keys("");
    let mut agent = agent_with(read_only("a"), "upload");
    let message = agent.upload(&object.oid, object.size(), &path).failed();
    agent.terminate();
    assert_report(&message, "E3001", &[&object.oid, "store"]);
    assert_eq!(world.keys(""), before);
    world.add_machine("b");
    let mut agent = agent_with(read_only("b"), "download");
    let path = agent.download(&stored[1].oid, stored[1].size()).succeeded().path();
    assert_eq!(fs::read(path).expect("a file"), stored[1].bytes);
    agent.terminate();
}

#[test]
fn a_read_only_repository_is_named() {
    let world = World::on_directory();
    let (object, _) = world.local("bytes");
    world.push(&object);
    world.add_machine("b");
    let git = world.sandbox.path("b/.git");
    let mut agent = agent_with(with_read_only(world.agent_command("b"), &git), "download");
    let message = agent.download(&object.oid, object.size()).failed();
    agent.terminate();
    assert_report(&message, "E6002", &[git.join("lfs/tmp").to_str().expect("text")]);
}

#[test]
fn a_cache_that_cannot_be_written_changes_nothing() {
    let world = World::on_directory();
    let (object, path) = world.local(text(4, 20_000));
    for folder in ["cache-a", "cache-b"] {
        fs::create_dir(world.sandbox.path(folder)).expect("a folder");
    }
    let read_only = |machine| {
        with_read_only(world.agent_command(machine), &world.sandbox.path(format!("cache-{machine}")))
    };
    let mut agent = agent_with(read_only("a"), "upload");
    agent.upload(&object.oid, object.size(), &path).succeeded();
    agent.terminate();
    world.add_machine("b");
    let mut agent = agent_with(read_only("b"), "download");
    agent.download(&object.oid, object.size()).succeeded();
    agent.terminate();
}

// ---- full disks

#[test]
fn a_full_store_is_said_to_be_full_and_keeps_nothing() {
    let world = World::on_directory();
    let (object, path) = world.local(noise(5, 1 << 20));
    let store = world.sandbox.path("store");
    // The small disk is empty: the store is made on it first.
    let plain = world.agent_command("a");
    let mut command = world.sandbox.command("sh", "a");
    command.args(["-c", "printf '{\"format\": 1}' > \"$0/lfs-delta.json\"; exec \"$@\""]);
    command.arg(&store).arg(plain.get_program()).args(plain.get_args());
    command.env("LFS_DELTA_REGISTER", "no");
    let mut agent = agent_with(on_small_disk(command, &store, 300_000), "upload");
    let message = agent.upload(&object.oid, object.size(), &path).failed();
    assert_report(&message, "E2006", &[&object.folder(), "no space left"]);
    let seen = PathBuf::from(format!("/proc/{}/root{}", agent.pid(), store.display()));
    let left: Vec<_> = crate::support::sandbox::files_below(&seen).into_keys().collect();
    assert_eq!(left, [PathBuf::from("lfs-delta.json")]);
    let (small, path) = world.local(noise(6, 1000));
    agent.upload(&small.oid, small.size(), &path).succeeded();
    agent.terminate();
}

#[test]
fn a_full_local_disk_is_said_to_be_full_and_keeps_nothing() {
    let world = World::on_directory();
    let packable = world.commit("file", text(7, 2 << 20));
    let raw = Object::new(noise(7, 1 << 20));
    world.put(&format!("{}full.{}", raw.folder(), "0".repeat(32)), &raw.bytes);
    let tmp = world.sandbox.path("a/.git/lfs/tmp");
    fs::create_dir_all(&tmp).expect("a folder");
    let mut agent = agent_with(on_small_disk(world.agent_command("a"), &tmp, 100_000), "upload");
    let path = world.local_path("a", &packable);
    let up = agent.upload(&packable.oid, packable.size(), &path).failed();
    assert_report(&up, "E6001", &[&packable.oid, "local disk"]);
    assert_eq!(world.keys(&packable.folder()), [] as [String; 0]);
    let down = agent.download(&raw.oid, raw.size()).failed();
    assert_report(&down, "E6001", &[&raw.oid, "local disk"]);
    let seen = PathBuf::from(format!("/proc/{}/root{}", agent.pid(), tmp.display()));
    let left: Vec<_> = crate::support::sandbox::files_below(&seen).into_keys().collect();
    assert!(left.iter().all(|path| path.ends_with("in-use")), "{left:?}");
    agent.terminate();
}

// ---- the store is of another format

#[test]
fn a_store_of_another_format_is_not_touched() {
    for manifest in ["{\"format\": 2}", "{\"format\": 0}"] {
        let world = World::on_directory();
        world.put("lfs-delta.json", manifest);
        assert_unusable(&world, "E2003", &["format", "latest version"]);
    }
}

#[test]
fn a_store_that_does_not_say_what_it_is_is_not_touched() {
    for manifest in ["", "{}", "{\"format\": \"1\"}", "\u{0}", "[1]"] {
        let world = World::on_directory();
        world.put("lfs-delta.json", manifest);
        assert_unusable(&world, "E2004", &["lfs-delta.json"]);
    }
}

#[test]
fn a_feature_that_readers_must_know_stops_everything() {
    for feature in ["read.sparse", "future", "Read.x"] {
        let world = World::on_directory();
        world.put(&format!("lfs-delta.needs.{feature}"), "");
        assert_unusable(&world, "E2003", &[feature, "latest version"]);
    }
}

#[test]
fn a_feature_that_writers_must_know_stops_writing_only() {
    let world = World::on_directory();
    let stored = world.pushed(vec![text(8, 20_000)]);
    world.put("lfs-delta.needs.write.quota", "");
    let (object, _) = world.local(noise(8, 10_000));
    let before = world.keys("");
    assert_report(&world.upload(&object).failed(), "E2003", &["quota", &object.oid]);
    assert_eq!(world.keys(""), before);
    world.add_machine("b");
    world.pull("b", &stored[0]);
}

// ---- copies that yield other bytes

type Damage = fn(&mut Vec<u8>);

/// What can happen to a stored file.
const DAMAGES: [(&str, Damage); 5] = [
    ("a flipped bit at the end", |bytes| *bytes.last_mut().expect("bytes") ^= 1),
    ("a flipped bit in the middle", |bytes| *bytes.get_mut(150).expect("bytes") ^= 0x40),
    ("cut", |bytes| bytes.truncate(bytes.len() - 1)),
    ("empty", Vec::clear),
    ("longer", |bytes| bytes.push(0)),
];

#[test]
fn a_damaged_copy_fails_the_first_and_the_second_pull_and_is_named() {
    for (how, damage) in DAMAGES {
        let world = World::on_directory();
        let raw = world.pushed(versions(9, 20_000, 1)).remove(0);
        let packed = world.commit("packed", text(9, 20_000));
        world.push(&packed);
        for object in [&raw, &packed] {
            let key = world.copy(object);
            world.damage(&key, damage);
            assert_report(
                &world.cannot_pull(object),
                "E5004",
                &[&object.oid, &key, "git lfs push --object-id"],
            );
            println!("{how}: {key}");
        }
    }
}

#[test]
fn a_damaged_delta_fails_the_first_and_the_second_pull_and_is_named() {
    for (how, damage) in DAMAGES {
        let world = World::on_s3();
        let objects = world.pushed(versions(10, 20_000, 2));
        let key = world.copy(&objects[1]);
        assert!(key.contains("/delta."), "{key}");
        world.damage(&key, damage);
        let message = world.cannot_pull(&objects[1]);
        assert_report(&message, "E5004", &[&objects[1].oid, &key]);
        world.pull("cold", &objects[0]);
        println!("{how}: {message}");
    }
}

#[test]
fn a_damaged_base_is_named_in_the_error_of_what_is_built_on_it() {
    for (_, damage) in DAMAGES {
        let world = World::on_directory();
        let objects = world.pushed(versions(11, 20_000, 3));
        let key = world.copy(&objects[0]);
        world.damage(&key, damage);
        for object in &objects {
            assert_report(&world.cannot_pull(object), "E5004", &[&object.oid, &key]);
        }
    }
}

#[test]
fn a_missing_base_is_damage_and_never_called_not_found() {
    for world in [World::on_directory(), World::on_s3()] {
        let objects = world.pushed(versions(12, 20_000, 3));
        let base = world.copy(&objects[0]);
        world.remove(&base);
        for object in &objects[1..] {
            assert_report(&world.cannot_pull(object), "E5004", &[&object.oid, &objects[0].oid, "gone"]);
        }
        assert_report(&world.cannot_pull(&objects[0]), "E5003", &[&objects[0].oid]);
    }
}

/// Downloads the object again and again by one agent without a cache, each time after one damage.
fn try_damages(world: &World, object: &Object, damages: impl Iterator<Item = Vec<u8>>) {
    world.add_machine("cold");
    let mut command = world.agent_command("cold");
    command.env("LFS_DELTA_CACHE_SIZE", "0");
    let mut agent = FakeLfs::spawn(command).accepted("download");
    let key = world.copy(object);
    let (mut refused, mut harmless) = (0, 0);
    for (number, bytes) in damages.enumerate() {
        world.put(&key, bytes);
        let transfer = agent.download(&object.oid, object.size());
        if let Some(message) = transfer.error() {
            assert_report(message, "E5004", &[&object.oid, &key]);
            refused += 1;
        } else {
            assert_eq!(fs::read(transfer.path()).expect("a file"), object.bytes, "damage {number}");
            fs::remove_file(transfer.path()).expect("a file");
            harmless += 1;
        }
        assert_eq!(world.temporary_files("cold"), [] as [PathBuf; 0], "damage {number}");
    }
    println!("{refused} refused, {harmless} harmless");
    assert!(refused > harmless * 20, "{refused} refused, {harmless} harmless");
    agent.terminate();
}

/// Every byte of the header flipped, and some of the payload; then cut at each of these places.
fn each_byte(good: &[u8], header: usize) -> impl Iterator<Item = Vec<u8>> + use<> {
    let places: Vec<usize> = (0..good.len()).filter(|at| *at < header || at % 13 == 0).collect();
    let (flipped, cut) = (good.to_vec(), good.to_vec());
    let flips = places.clone().into_iter().map(move |at| {
        let mut bytes = flipped.clone();
        bytes[at] ^= 1 << (at % 8);
        bytes
    });
    flips.chain(places.into_iter().map(move |at| cut[..at].to_vec()))
}

#[test]
fn no_flipped_or_missing_byte_of_a_delta_ever_yields_other_bytes() {
    let world = World::on_directory();
    let objects = world.pushed(versions(13, 20_000, 2));
    let good = world.get(&world.copy(&objects[1]));
    try_damages(&world, &objects[1], each_byte(&good, Header::size(1)));
}

#[test]
fn no_flipped_or_missing_byte_of_a_packed_copy_ever_yields_other_bytes() {
    let world = World::on_directory();
    let object = world.pushed(vec![text(14, 5000)]).remove(0);
    let good = world.get(&world.copy(&object));
    try_damages(&world, &object, each_byte(&good, Header::size(0)));
}

// ---- copies made by hand, with headers that hold together and lie

fn id_of(object: &Object, nonce: u8) -> CopyId {
    CopyId { oid: Oid::parse(&object.oid).expect("an oid"), nonce: Nonce::from_bytes([nonce; 16]) }
}

fn link(object: &Object, nonce: u8, codec: Option<CodecName>) -> Link {
    let size = object.size();
    Link { id: id_of(object, nonce), codec, object_size: size, stored_size: size, written_size: size }
}

/// Stores a delta with a header that `lie` changed; returns its key.
fn forge(
    world: &World,
    object: &Object,
    base: &Object,
    chain: Vec<Link>,
    lie: impl FnOnce(&mut Header),
) -> String {
    let (id, size) = (id_of(object, 1), object.size());
    let mut payload = Vec::new();
    let pair = codec::Pair { base: &base.bytes, target: &object.bytes };
    let encoded = codec::encode_delta(pair, &work(), &mut payload).expect("encode");
    assert_eq!(encoded.codec, CodecName::ZSTD);
    let shape = Shape::Delta { base: chain[0].id, codec: CodecName::ZSTD };
    let key = Key::copy(&CopyName { id, shape }).to_string();
    let mut header = Header { id, object_size: size, written_size: size, chain: Chain { links: chain } };
    lie(&mut header);
    world.put(&key, [header.to_bytes(), payload].concat());
    key
}

fn store_raw(world: &World, object: &Object) {
    let name = CopyName { id: id_of(object, 1), shape: Shape::Full { codec: None } };
    world.put(Key::copy(&name).as_str(), &object.bytes);
}

fn pair(seed: u64) -> (Object, Object) {
    let base = Object::new(noise(seed, 30_000));
    let target = Object::new(edited(&base.bytes, seed, 3));
    (base, target)
}

#[test]
fn a_header_that_lies_about_its_object_is_refused() {
    let lies: [fn(&mut Header); 6] = [
        |header| header.object_size += 1,
        |header| header.object_size = u64::MAX,
        |header| header.id.oid = Oid::of(b"another"),
        |header| header.id.nonce = Nonce::from_bytes([9; 16]),
        |header| header.chain.links[0].id.nonce = Nonce::from_bytes([9; 16]),
        |header| header.chain.links.clear(),
    ];
    for lie in lies {
        let world = World::on_directory();
        let (base, target) = pair(15);
        store_raw(&world, &base);
        let key = forge(&world, &target, &base, vec![link(&base, 1, None)], lie);
        assert_report(&world.cannot_pull(&target), "E5004", &[&target.oid, &key]);
    }
}

#[test]
fn a_chain_record_that_lies_about_costs_does_no_harm() {
    let lies: [fn(&mut Header); 4] = [
        |header| header.chain.links[0].stored_size = u64::MAX,
        |header| header.chain.links[0].written_size = 0,
        |header| header.written_size = u64::MAX,
        // It says that the base is packed; its name does not.
        |header| header.chain.links[0].codec = Some(CodecName::ZSTD),
    ];
    for (number, lie) in lies.into_iter().enumerate() {
        let world = World::on_directory();
        let (base, target) = pair(16);
        store_raw(&world, &base);
        forge(&world, &target, &base, vec![link(&base, 1, None)], lie);
        world.add_machine("b");
        world.pull("b", &target);
        println!("lie {number} did no harm");
    }
}

#[test]
fn a_chain_record_that_lies_about_the_base_ends_in_an_error() {
    let lies: [fn(&mut Header); 3] = [
        |header| header.chain.links[0].object_size = 5,
        |header| header.chain.links[0].object_size = u64::MAX,
        |header| header.chain.links[0].object_size = 0,
    ];
    for lie in lies {
        let world = World::on_s3();
        let (base, target) = pair(17);
        store_raw(&world, &base);
        let key = forge(&world, &target, &base, vec![link(&base, 1, None)], lie);
        assert_report(&world.cannot_pull(&target), "E5004", &[&target.oid, &key]);
    }
}

#[test]
fn a_circle_of_deltas_ends_in_an_error() {
    let world = World::on_directory();
    let (one, other) = pair(18);
    let codec = Some(CodecName::ZSTD);
    forge(&world, &one, &other, vec![link(&other, 1, codec), link(&one, 1, None)], |_| ());
    forge(&world, &other, &one, vec![link(&one, 1, codec), link(&other, 1, None)], |_| ());
    assert_report(&world.cannot_pull(&one), "E5004", &[&one.oid]);
    assert_report(&world.cannot_pull(&other), "E5004", &[&other.oid]);
    // Its own base, in one step.
    let narcissus = Object::new(noise(19, 10_000));
    forge(&world, &narcissus, &narcissus, vec![link(&narcissus, 1, None)], |_| ());
    assert_report(&world.cannot_pull(&narcissus), "E5004", &[&narcissus.oid]);
}

#[test]
fn a_push_is_not_satisfied_with_a_circle_of_deltas() {
    let world = World::on_directory();
    let (one, other) = pair(20);
    let codec = Some(CodecName::ZSTD);
    forge(&world, &one, &other, vec![link(&other, 1, codec), link(&one, 1, None)], |_| ());
    forge(&world, &other, &one, vec![link(&one, 1, codec), link(&other, 1, None)], |_| ());
    world.local(one.bytes.clone());
    world.push(&one);
    assert!(world.keys(&one.folder()).iter().any(|key| key.contains("/full.")));
    world.add_machine("b");
    world.pull("b", &one);
    world.pull("b", &other);
}

#[test]
fn a_chain_over_the_bound_ends_in_an_error() {
    let world = World::on_directory();
    let objects: Vec<Object> = versions(21, 5000, 40).into_iter().map(Object::new).collect();
    store_raw(&world, &objects[0]);
    for step in objects.windows(2) {
        // Each says only that its base is whole, so that the walk is long.
        forge(&world, &step[1], &step[0], vec![link(&step[0], 1, Some(CodecName::ZSTD))], |_| ());
    }
    world.add_machine("b");
    let message = world.download("b", &objects[39]).expect_err("a failure");
    assert_report(&message, "E5004", &[&objects[39].oid]);
    assert!(message.len() < 20_000, "{} bytes of message", message.len());
}

#[test]
fn a_copy_with_an_unknown_codec_needs_a_later_version_unless_there_is_another() {
    let world = World::on_s3();
    let (base, target) = pair(22);
    store_raw(&world, &base);
    let key = forge(&world, &target, &base, vec![link(&base, 1, None)], |_| ());
    let later = key.replace(".zst", ".brains");
    world.put(&later, world.get(&key));
    world.remove(&key);
    assert_report(&world.cannot_pull(&target), "E2003", &[&target.oid, &later, "brains", "latest version"]);
    store_raw(&world, &target);
    world.pull("cold", &target);
}

#[test]
fn a_bomb_stops_at_the_size_that_was_asked_for() {
    let world = World::on_directory();
    let bomb = Object::new(vec![0; 200 << 20]);
    let small = Object::new(noise(23, 1000));
    let mut payload = Vec::new();
    codec::encode_whole(&mut &bomb.bytes[..], bomb.size(), &work(), &mut payload).expect("encode");
    let id = id_of(&small, 1);
    let header = Header { id, object_size: 1000, written_size: 1000, chain: Chain::default() };
    let name = CopyName { id, shape: Shape::Full { codec: Some(CodecName::ZSTD) } };
    let key = Key::copy(&name).to_string();
    world.put(&key, [header.to_bytes(), payload].concat());
    world.add_machine("b");
    let mut agent = world.start("b", "download");
    assert_report(&agent.download(&small.oid, 1000).failed(), "E5004", &[&key, "more than 1000 bytes"]);
    assert!(agent.memory_kib() < 60 * 1024, "{} KiB", agent.memory_kib());
    agent.terminate();
}

#[test]
fn names_that_are_no_copies_are_passed_over() {
    let world = World::on_directory();
    let object = world.pushed(vec![text(24, 20_000)]).remove(0);
    let folder = object.folder();
    for foreign in ["full", "full.x", ".DS_Store", "full.00.zst", "delta.a.b.c.d", "tombstone.x"] {
        world.put(&format!("{folder}{foreign}"), "foreign");
    }
    world.add_machine("b");
    world.pull("b", &object);
    world.push(&object);
    assert_eq!(world.keys(&folder).len(), 7);
}

// ---- what heals by itself (R5, R7)

#[test]
fn a_damaged_base_in_the_store_does_no_harm_where_git_lfs_or_the_cache_has_it() {
    let world = World::on_directory();
    let objects = world.pushed(versions(25, 20_000, 2));
    world.add_machine("has-object");
    world.add_machine("has-cache");
    world.pull("has-cache", &objects[0]);
    world.sandbox.write(world.local_path("has-object", &objects[0]), &objects[0].bytes);
    world.damage(&world.copy(&objects[0]), |bytes| bytes[100] ^= 1);
    world.pull("has-object", &objects[1]);
    world.pull("has-cache", &objects[1]);
    world.cannot_pull(&objects[1]);
}

#[test]
fn a_damaged_cache_entry_is_dropped_and_fetched_again() {
    let world = World::on_directory();
    let objects = world.pushed(versions(26, 20_000, 2));
    world.add_machine("b");
    for (damaged, wanted) in [(&objects[0], &objects[0]), (&objects[0], &objects[1])] {
        world.pull("b", damaged);
        let entry = world.cached_path("b", damaged);
        let mut bytes = fs::read(&entry).expect("a cache entry");
        bytes[77] ^= 1;
        fs::write(&entry, bytes).expect("write");
        world.pull("b", wanted);
        let now = fs::read(&entry).ok();
        assert!(now.is_none_or(|bytes| bytes == damaged.bytes), "the damaged entry is still there");
    }
}

#[test]
fn a_damaged_object_of_git_lfs_is_not_used_as_base() {
    let world = World::on_directory();
    let objects = world.pushed(versions(27, 20_000, 2));
    world.add_machine("b");
    let local = world.local_path("b", &objects[0]);
    world.sandbox.write(&local, vec![7; objects[0].bytes.len()]);
    world.pull("b", &objects[1]);
    assert_eq!(fs::read(&local).expect("a file"), vec![7; objects[0].bytes.len()], "not ours to repair");
}

#[test]
fn an_earlier_version_that_is_damaged_here_is_left_out_of_a_push() {
    let world = World::on_directory();
    let bodies = versions(28, 20_000, 3);
    let objects: Vec<_> = bodies.into_iter().map(|bytes| world.commit("file.bin", bytes)).collect();
    let damaged = world.local_path("a", &objects[1]);
    fs::write(&damaged, vec![7; objects[1].bytes.len()]).expect("write");
    world.push(&objects[2]);
    assert_eq!(world.keys(&objects[1].folder()), [] as [String; 0]);
    world.add_machine("b");
    world.pull("b", &objects[2]);
}

#[test]
fn another_copy_of_the_object_serves_when_the_first_is_damaged() {
    for world in [World::on_directory(), World::on_s3()] {
        let objects = world.pushed(versions(29, 20_000, 2));
        let delta = world.copy(&objects[1]);
        world.put(&format!("{}full.{}", objects[1].folder(), "0".repeat(32)), &objects[1].bytes);
        world.damage(&delta, |bytes| bytes[200] ^= 1);
        // Its base is at hand: the delta is tried first.
        world.add_machine("b");
        world.sandbox.write(world.local_path("b", &objects[0]), &objects[0].bytes);
        world.pull("b", &objects[1]);
    }
}

#[test]
fn another_copy_of_the_base_serves_when_the_one_that_was_used_is_gone() {
    for world in [World::on_directory(), World::on_s3()] {
        let objects = world.pushed(versions(30, 20_000, 3));
        world.remove(&world.copy(&objects[0]));
        world.put(&format!("{}full.{}", objects[0].folder(), "0".repeat(32)), &objects[0].bytes);
        world.add_machine("b");
        world.pull("b", &objects[2]);
    }
}

#[test]
fn a_copy_that_vanishes_between_listing_and_reading_is_looked_for_again() {
    let world = World::on_s3();
    let object = Object::new(noise(31, 20_000));
    let copy = |nonce: &str| format!("{}full.{}", object.folder(), nonce.repeat(32));
    world.put(&copy("0"), &object.bytes);
    world.add_machine("b");
    let mut agent = world.start("b", "download");
    world.server().fail(on(Kind::Get).key("objects/"), Fault::Hang);
    agent.send(&download_event(&object.oid, object.size()));
    world.server().wait_for(|calls| calls.iter().any(|call| call.fault.is_some()));
    world.remove(&copy("0"));
    world.put(&copy("1"), &object.bytes);
    world.server().release();
    let path = agent.transfer(&object.oid).succeeded().path();
    assert_eq!(fs::read(path).expect("a file"), object.bytes);
    agent.terminate();
}

#[test]
fn a_push_repairs_an_object_whose_chain_has_a_gap() {
    for world in [World::on_directory(), World::on_s3()] {
        let objects = world.pushed(versions(32, 20_000, 3));
        world.remove(&world.copy(&objects[0]));
        for object in objects.iter().rev() {
            world.push(object);
        }
        world.add_machine("b");
        for object in &objects {
            world.pull("b", object);
        }
        let whole = world.keys(&objects[2].folder());
        assert!(whole.len() == 2 && whole.iter().any(|key| key.contains("/full.")), "{whole:?}");
    }
}

#[test]
fn a_store_that_was_wiped_is_filled_again_by_a_machine_that_remembers_it() {
    let world = World::on_directory();
    let objects = world.pushed(versions(33, 20_000, 3));
    for key in world.keys("objects/") {
        world.remove(&key);
    }
    let mut agent = world.start("a", "upload");
    for object in objects.iter().rev() {
        agent.upload(&object.oid, object.size(), &world.local_path("a", object)).succeeded();
    }
    agent.terminate();
    world.add_machine("b");
    for object in &objects {
        world.pull("b", object);
    }
}

#[test]
fn condemned_copies_are_read_but_never_relied_upon() {
    let world = World::on_directory();
    let bodies = versions(34, 20_000, 3);
    let objects = world.pushed(bodies[..2].to_vec());
    let Some(Entry::Copy(base)) = Entry::parse(&world.copy(&objects[1])) else { panic!("a copy") };
    world.put(Key::tombstone(&base.id).as_str(), "a test\n");
    world.add_machine("b");
    world.pull("b", &objects[1]);
    // Built on nothing that is condemned, though this machine remembers it as settled.
    let next = world.commit("file.bin", bodies[2].clone());
    world.push(&next);
    let copies = world.keys(&next.folder());
    assert!(copies.iter().any(|key| !key.contains(&base.id.nonce.to_string())), "{copies:?}");
    // Not "already there": stored anew.
    world.push(&objects[1]);
    assert_eq!(world.keys(&objects[1].folder()).len(), 3);
    assert_eq!(world.get("lfs-delta.json"), MANIFEST.as_bytes());
}
