//! Garbage gives an error, never a panic and never a wrong file: seeded mutations of everything that is parsed.
//!
//! A target is a corpus of good inputs and what must hold of any input. In each run 10,000 mutations of it are
//! tried, with `tests/run.sh --soak` as many as there is time for. A failure prints its seed and its input. The
//! delta engine's payloads are damaged in `codec/hostile.rs`, whole stores in `damage.rs`.

use std::io::{self, BufRead as _, BufReader, Write as _};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use lfs_delta::codec::vcdiff::{self, Secondary};
use lfs_delta::codec::{self, Effort, Header, Memory, Pair, Work};
use lfs_delta::depot::{self, Depot};
use lfs_delta::git::names::parse_pointer;
use lfs_delta::model::sketch::SKETCH_BUCKETS;
use lfs_delta::model::{
    ArtefactUrl, Chain, CodecName, CopyId, CopyName, Entry, FileName, Folder, Hint, Key, KeyPrefix, Link,
    Location, Nonce, Oid, Shape, Sketch, Space,
};
use lfs_delta::space::{Facts, Kind};
use lfs_delta::store::s3::Certificates;
use lfs_delta::store::{
    self, MemoryStore, ReadStore as _, S3Options, S3Store, Visit, WriteStore as _, get_bytes, put_bytes,
};
use serde_json::Value;

use crate::support::confined::confined;
use crate::support::data::{Random, edited, noise, pointer, text};
use crate::support::run::{DEADLINE, rounds, run, thread_time};
use crate::support::s3::{AUTHORITY, Calls, Fault, Kind as Request, S3Server, any, on, written};
use crate::support::sandbox::files_below;
use crate::world::World;

/// Address space of a target's process, which is more than its memory.
const MEMORY_MAX_KIB: usize = 1 << 20;

/// No input may take longer, not even here, unoptimised.
const INPUT_MAX_TIME: Duration = Duration::from_secs(10);

/// Words that mean something somewhere.
const WORDS: &[&[u8]] = &[
    b"/",
    b"..",
    b"\0",
    b"\n",
    b"\r\n",
    b" ",
    b"%00",
    b"%2e%2e%2f",
    b"\"",
    b"\\",
    b"{",
    b"[",
    b"<",
    b"&#0;",
    b"<!DOCTYPE x [<!ENTITY a \"aaaa\">]>&a;",
    b"<![CDATA[",
    b"-1",
    b"0",
    b"18446744073709551615",
    b"1e99",
    b"null",
    b"\xff\xfe",
    b"\xef\xbb\xbf",
    b"\xe2\x80\xae",
    b"\x1b[2J",
    &[0xff; 8],
    &[0x80; 9],
    b"@",
    b":",
    b"?",
    b"//",
];

/// One to four edits of one input, some of them from another.
fn mutated(input: &[u8], other: &[u8], random: &mut Random) -> Vec<u8> {
    let mut bytes = input.to_vec();
    for _ in 0..=random.below(4) {
        let at = random.below(bytes.len() + 1);
        let end = (at + random.below(20)).min(bytes.len());
        match random.below(8) {
            0 if at < bytes.len() => bytes[at] ^= 1 << random.below(8),
            1 if at < bytes.len() => bytes[at] = random.next() as u8,
            2 => bytes.truncate(at),
            3 => drop(bytes.drain(at..end)),
            4 => {
                let twice = bytes[at..end].to_vec();
                bytes.splice(at..at, twice);
            }
            5 => drop(bytes.splice(at..end, WORDS[random.below(WORDS.len())].iter().copied())),
            6 => drop(bytes.splice(at..end, (1_u64 << random.below(64)).to_le_bytes())),
            _ => {
                let from = random.below(other.len() + 1);
                bytes.truncate(at);
                bytes.extend_from_slice(&other[from..]);
            }
        }
    }
    bytes
}

/// Tries a corpus, and then mutations of it.
fn try_all(name: &str, count: u64, corpus: &[Vec<u8>], mut run: impl FnMut(&[u8])) {
    corpus.iter().for_each(|input| run(input));
    let (mut tried, mut slowest) = (0, Duration::ZERO);
    for seed in rounds(count) {
        let mut random = Random::new(seed);
        let (input, other) = (random.below(corpus.len()), random.below(corpus.len()));
        let input = mutated(&corpus[input], &corpus[other], &mut random);
        let (started, began) = (thread_time(), Instant::now());
        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| run(&input))) {
            println!("{name}, seed {seed}: {}", input.escape_ascii());
            resume_unwind(panic);
        }
        let took = thread_time() - started;
        assert!(began.elapsed() < DEADLINE, "{name}, seed {seed} hangs");
        slowest = slowest.max(took);
        tried += 1;
    }
    println!("{name}: {tried} inputs, the slowest took {slowest:?}");
    assert!(slowest < INPUT_MAX_TIME, "{name}: one took {slowest:?}");
}

/// The same with 10,000 of them in a process of its own. The name is the test's.
fn fuzz(name: &str, corpus: &[Vec<u8>], run: impl FnMut(&[u8])) {
    fuzz_some(name, 10_000, corpus, run);
}

fn fuzz_some(name: &str, count: u64, corpus: &[Vec<u8>], run: impl FnMut(&[u8])) {
    confined(&format!("{}::{name}", module_path!()), MEMORY_MAX_KIB, || try_all(name, count, corpus, run));
}

fn text_of(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn texts(texts: &[&str]) -> Vec<Vec<u8>> {
    texts.iter().map(|text| text.as_bytes().to_vec()).collect()
}

fn id(number: u8) -> CopyId {
    CopyId { oid: Oid::of(&[number]), nonce: Nonce::from_bytes([number; 16]) }
}

fn hint(sketch: Option<Sketch>) -> String {
    Key::hint(&Space::named(b"art"), &Hint { id: id(3), sketch }).to_string()
}

/// The keys of a store with every kind of entry.
fn keys() -> Vec<String> {
    let full = |codec| Key::copy(&CopyName { id: id(1), shape: Shape::Full { codec } });
    let shape = Shape::Delta { base: id(1), codec: CodecName::DELTA };
    let delta = Key::copy(&CopyName { id: id(2), shape });
    let keys = [full(None), full(Some(CodecName::ZSTD)), delta, Key::tombstone(&id(1)), Key::manifest()];
    let sketch = Sketch::new(&[Some(7); SKETCH_BUCKETS], 5);
    keys.iter().map(ToString::to_string).chain([hint(None), hint(Some(sketch))]).collect()
}

// ---- names and texts

#[test]
fn keys_are_parsed_to_themselves_or_not_at_all() {
    let corpus: Vec<_> = keys().into_iter().map(String::into_bytes).collect();
    fuzz("keys_are_parsed_to_themselves_or_not_at_all", &corpus, |input| {
        let text = text_of(input);
        match Entry::parse(&text) {
            Some(Entry::Copy(name)) => assert_eq!(Key::copy(&name).as_str(), text),
            Some(Entry::Tombstone(id)) => assert_eq!(Key::tombstone(&id).as_str(), text),
            None => {}
        }
        if let Some((space, hint)) = Hint::parse(&text) {
            assert_eq!(Key::hint(&space, &hint).as_str(), text);
        }
    });
}

#[test]
fn names_of_files_stay_in_their_folder_or_are_refused() {
    let corpus = texts(&["app-1.2.zip", "a.delta", "x/y/reference.bin", "s3://b/x/y/a.zip", "/srv/a/b.bin"]);
    fuzz("names_of_files_stay_in_their_folder_or_are_refused", &corpus, |input| {
        let text = text_of(input);
        if let Ok(name) = FileName::parse(&text) {
            let is_plain = |text: &str| !text.contains(['/', '\0']) && !text.contains(char::is_control);
            assert!(is_plain(name.as_str()) && !["", ".", ".."].contains(&name.as_str()), "{name:?}");
        }
        if let Ok(folder) = Folder::parse(&text) {
            let mut parts: Vec<_> = folder.as_str().split('/').collect();
            assert_eq!(parts.pop(), Some(""), "{folder:?}");
            assert!(!parts.iter().any(|part| ["", ".", ".."].contains(part)), "{folder:?}");
            assert_eq!(Folder::parse(folder.as_str()).as_ref(), Ok(&folder));
        }
        let _ = ArtefactUrl::parse(&text);
    });
}

/// What is kept beside a delta, as lines of a name and a text.
fn metadata() -> Vec<Vec<u8>> {
    let (file, reference) = ("1a".repeat(32), "2b".repeat(32));
    let one = format!(
        "dg-file-sha256={file}\ndg-file-size=77\ndg-created-at=2025-09-21T12:34:56.5Z\ndg-note=delta\n\
         dg-ref-key==?UTF-8?B?eC9yZWZlcmVuY2UuYmlu?=\ndg-ref-sha256={reference}\ndg-encrypted=x"
    );
    let spelt = [one.replace("dg-", "dg_").replace('-', "_"), one.replace("dg-", "")];
    [&[one][..], &spelt, &["note=zero-diff\ncompression=none".into()]]
        .concat()
        .into_iter()
        .map(String::into_bytes)
        .collect()
}

#[test]
fn what_is_kept_beside_a_file_is_read_as_far_as_it_makes_sense() {
    fuzz("what_is_kept_beside_a_file_is_read_as_far_as_it_makes_sense", &metadata(), |input| {
        let text = text_of(input);
        let lines = text.lines().filter_map(|line| line.split_once('='));
        let facts = Facts::read(&lines.map(|(name, text)| (name.to_owned(), text.to_owned())).collect());
        if let Some(folder) = &facts.reference_folder {
            assert_eq!(Folder::parse(folder.as_str()).as_ref(), Ok(folder));
        }
        for kind in [Kind::Reference, Kind::Delta, Kind::Whole] {
            let has_hash = !facts.missing(kind).contains(&"dg-file-sha256");
            assert_eq!(has_hash, facts.sha256.is_some());
        }
    });
}

#[test]
fn store_urls_mean_what_they_say_again() {
    let corpus = texts(&[
        "s3://bucket/some/prefix?region=eu-west-1",
        "lfs-delta::s3://b-1.x/p?region=us-east-1&endpoint=https://s3.example.com:9000&path-style=true",
        "file:///srv/a%20b/store",
        "/plain/path",
        "s3://bucket?endpoint=http://[::1]:80",
        "file:///srv/100%2525/a%3Fb",
        "s3://bucket/100%2525/a%3Fb",
    ]);
    fuzz("store_urls_mean_what_they_say_again", &corpus, |input| {
        if let Ok(location) = Location::parse(&text_of(input)) {
            let shown = location.to_string();
            let again = Location::parse(&shown).unwrap_or_else(|error| panic!("{shown}: {error}"));
            assert_eq!(again, location, "{shown}");
            assert!(!shown.contains(char::is_control), "{shown:?}");
        }
    });
}

#[test]
fn pointers_and_certificates_are_read_or_not() {
    let corpus = vec![pointer(b"x").into_bytes(), pointer(&noise(1, 99)).into_bytes(), AUTHORITY.into()];
    fuzz("pointers_and_certificates_are_read_or_not", &corpus, |input| {
        let text = text_of(input);
        let _ = parse_pointer(&text);
        let _ = Certificates::parse(&text);
    });
}

// ---- what a store holds

fn link(number: u8) -> Link {
    Link {
        id: id(number),
        codec: Some(CodecName::ZSTD),
        object_size: 1000,
        stored_size: 500,
        written_size: 1000,
    }
}

fn headers() -> Vec<Vec<u8>> {
    let header = |links| {
        let chain = Chain { links };
        Header { id: id(9), object_size: 1000, written_size: 1000, chain }.to_bytes()
    };
    vec![header(Vec::new()), header(vec![link(1)]), header((0..15).map(link).collect())]
}

/// What stands before the SHA-256 that something ends with, and its own: else hardly anything but that is tested.
fn resealed(input: &[u8]) -> Option<Vec<u8>> {
    let content = &input[..input.len().checked_sub(32)?];
    Some([content, Oid::of(content).as_bytes()].concat())
}

/// The same of a header, whose frame says how long it is.
fn resealed_header(input: &[u8]) -> Option<Vec<u8>> {
    let (frame, content) = input.split_at_checked(8)?;
    let content = resealed(content)?;
    Some([&frame[..4], &(content.len() as u32).to_le_bytes(), &content].concat())
}

/// Every second input, so done to.
fn every_second<'a>(
    input: &'a [u8],
    count: &mut u64,
    change: fn(&[u8]) -> Option<Vec<u8>>,
) -> std::borrow::Cow<'a, [u8]> {
    *count += 1;
    let changed = if count.is_multiple_of(2) { change(input) } else { None };
    changed.map_or(input.into(), Into::into)
}

#[test]
fn headers_are_read_as_written_or_refused() {
    let mut seals = 0;
    fuzz("headers_are_read_as_written_or_refused", &headers(), |input| {
        let bytes = every_second(input, &mut seals, resealed_header);
        if let Ok(header) = Header::read(&mut &bytes[..]) {
            let again = header.to_bytes();
            assert_eq!(again[..], bytes[..again.len()]);
        }
    });
}

/// Takes no more than was asked for.
struct Bounded(u64);

impl io::Write for Bounded {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0 = self.0.checked_sub(bytes.len() as u64).expect("no more bytes than were asked for");
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn work() -> Work<'static> {
    Work { effort: Effort::Fast, threads: 1, memory: 0, scratch: &Memory, watch: &|_| Ok(()) }
}

fn base_and_target() -> (Vec<u8>, Vec<u8>) {
    let base = [text(5, 1500), noise(5, 1500)].concat();
    let target = edited(&base, 6, 5);
    (base, target)
}

#[test]
fn zstd_payloads_give_as_many_bytes_or_an_error() {
    let (base, target) = base_and_target();
    let (mut delta, mut whole, mut short, mut bomb) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    codec::encode_delta(Pair { base: &base, target: &target }, &work(), &mut delta).expect("a delta");
    codec::encode_whole(&mut &target[..], target.len() as u64, &work(), &mut whole).expect("a copy");
    codec::encode_whole(&mut &target[1..], target.len() as u64 - 1, &work(), &mut short).expect("a copy");
    codec::encode_whole(&mut io::Read::take(io::repeat(0), 1 << 30), 1 << 30, &work(), &mut bomb)
        .expect("a bomb");
    let size = target.len() as u64;
    fuzz("zstd_payloads_give_as_many_bytes_or_an_error", &[delta, whole, short, bomb], |input| {
        for base in [None, Some(&base[..])] {
            let mut sink = Bounded(size);
            if codec::decode(CodecName::ZSTD, base, &mut &input[..], size, &work(), &mut sink).is_ok() {
                assert_eq!(sink.0, 0, "too few bytes, and no error");
            }
        }
    });
}

/// Deltas as stock xdelta3 writes them with each of its compressions, and ours.
fn vcdiff_deltas(base: &[u8], target: &[u8]) -> Vec<Vec<u8>> {
    let folder = tempfile::tempdir().expect("a folder");
    let [base_path, target_path, delta] = ["base", "target", "delta"].map(|name| folder.path().join(name));
    std::fs::write(&base_path, base).and_then(|()| std::fs::write(&target_path, target)).expect("files");
    let theirs = [(Secondary::Lzma, "lzma"), (Secondary::Djw, "djw")].map(|(secondary, name)| {
        let mut command = Command::new("xdelta3");
        command.args(["-S", name, "-n", "-D", "-f", "-W", "16384", "-s"]).args([
            &base_path,
            &target_path,
            &delta,
        ]);
        run(command).succeeded();
        let delta = std::fs::read(&delta).expect("a delta");
        assert_eq!(vcdiff::inspect(&mut &delta[..]).expect("a header").secondary, Some(secondary));
        delta
    });
    let ours = [Effort::Fast, Effort::Max].map(|effort| {
        let mut delta = Vec::new();
        vcdiff::encode(base, target, effort, &mut delta, &|| Ok(())).expect("a delta");
        delta
    });
    [theirs, ours].concat()
}

#[test]
fn vcdiff_deltas_give_no_more_bytes_than_were_asked_for() {
    let (base, target) = base_and_target();
    let target = [target, text(7, 3000)].concat();
    let size = target.len() as u64;
    let too_long = [&target[..], b"x"].concat();
    let corpus = [vcdiff_deltas(&base, &target), vcdiff_deltas(&base, &too_long)].concat();
    fuzz("vcdiff_deltas_give_no_more_bytes_than_were_asked_for", &corpus, |input| {
        let mut sink = Bounded(size);
        if let Ok(written) = vcdiff::decode(&base, &mut &input[..], size, &mut sink, &|| Ok(())) {
            assert_eq!(written, size - sink.0);
        }
    });
}

#[test]
fn a_manifest_is_of_this_format_or_refused() {
    let corpus = texts(&[
        "{\"format\": 1}",
        "{\n  \"format\": 1,\n  \"about\": \"x\"\n}\n",
        "{\"format\": 2, \"x\": [1e9]}",
    ]);
    fuzz("a_manifest_is_of_this_format_or_refused", &corpus, |input| {
        let store = MemoryStore::default();
        put_bytes(&store, &Key::manifest(), input).expect("stored");
        if Depot::new(Box::new(store), None).open().is_ok() {
            let fields: Value = serde_json::from_slice(input).expect("JSON");
            assert_eq!(fields["format"].as_u64(), Some(1));
        }
    });
}

/// A store with a base, a delta on it whose header is true, and a file under the key that is given.
fn store_with(key: &str, bytes: &[u8]) -> MemoryStore {
    let store = MemoryStore::default();
    put_bytes(&store, &Key::manifest(), b"{\"format\": 1}").expect("stored");
    let mut files = store.files();
    let base = CopyName { id: id(1), shape: Shape::Full { codec: None } };
    files.insert(Key::copy(&base).to_string(), vec![0; 1000]);
    files.insert(key.to_owned(), bytes.to_vec());
    drop(files);
    store
}

fn is_clean<T>(outcome: &depot::Result<T>) -> bool {
    !matches!(outcome, Err(depot::Error::Store(store::Error::Io { .. })))
}

#[test]
fn foreign_keys_and_bytes_in_a_store_are_looked_at_without_harm() {
    let corpus: Vec<_> = keys().into_iter().map(String::into_bytes).chain(headers()).collect();
    let mut seals = 0;
    fuzz("foreign_keys_and_bytes_in_a_store_are_looked_at_without_harm", &corpus, |input| {
        let sealed = every_second(input, &mut seals, resealed_header);
        let shape = Shape::Delta { base: id(1), codec: CodecName::ZSTD };
        let delta = Key::copy(&CopyName { id: id(9), shape }).to_string();
        for (key, bytes) in [(text_of(input), &b""[..]), (delta, &sealed[..])] {
            let depot = Depot::new(Box::new(store_with(&key, bytes)), None);
            for number in [1, 2, 9] {
                let oid = Oid::of(&[number]);
                assert!(is_clean(&depot.look(&oid)) && is_clean(&depot.presence(&oid)));
                assert!(is_clean(&depot.find_base(&oid)));
            }
        }
    });
}

#[test]
fn what_a_machine_remembers_may_be_garbage() {
    let folder = tempfile::tempdir().expect("a folder");
    let seen = || Depot::new(Box::new(store_with("x", b"")), Some(folder.path().to_owned()));
    seen().remember(Chain { links: vec![link(2), link(1)] }, None);
    let oids: Vec<_> = (0..9).map(|number| Oid::of(&[number])).collect();
    let depot = seen();
    oids.iter().for_each(|oid| drop(depot.look_recently(oid).expect("a look")));
    let files = files_below(folder.path());
    assert!(files.len() > 3, "{:?}", files.keys());
    let one_of = |kind: &str| {
        let found = files.iter().find(|(path, _)| path.starts_with(kind));
        found.expect("a file of this kind").1.clone()
    };
    let corpus = [one_of("settled"), one_of("listings")];
    let mut seals = 0;
    // Each input is written to every file.
    fuzz_some("what_a_machine_remembers_may_be_garbage", 200, &corpus, |input| {
        let bytes = every_second(input, &mut seals, resealed);
        for path in files.keys() {
            std::fs::write(folder.path().join(path), &bytes).expect("written");
        }
        let depot = seen();
        for oid in &oids {
            assert!(is_clean(&depot.presence(oid)) && is_clean(&depot.find_base(oid)));
        }
    });
}

// ---- what others say

const LISTING: &str = "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<ListBucketResult xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\">\
    <Name>b</Name><Prefix>p/</Prefix><KeyCount>2</KeyCount><MaxKeys>1000</MaxKeys><IsTruncated>false</IsTruncated>\
    <Contents><Key>p/lfs-delta.json</Key><LastModified>2026-01-01T00:00:00.000Z</LastModified><ETag>&quot;a&quot;</ETag>\
    <Size>14</Size><StorageClass>STANDARD</StorageClass></Contents><Contents><Key>p/objects/x</Key><Size>7</Size></Contents>\
    </ListBucketResult>";

const REFUSAL: &str = "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<Error><Code>NoSuchKey</Code><Message>The specified key does \
    not exist.</Message><Key>p/x</Key><RequestId>1</RequestId><HostId>2</HostId></Error>";

/// What a service says when it has begun an upload in parts, when it has completed one, and when it has stored anything.
const BEGUN: &str = "200 OK\n\n<InitiateMultipartUploadResult><Bucket>b</Bucket><Key>p/x</Key><UploadId>{UploadId}</UploadId>\
    </InitiateMultipartUploadResult>";
const COMPLETED: &str = "200 OK\n\n<?xml version=\"1.0\"?>\n<CompleteMultipartUploadResult><Location>http://b/p/x</Location>\
    <ETag>&quot;3858f62230ac3c915f300c664312c11f-9&quot;</ETag></CompleteMultipartUploadResult>";
const STORED: &str = "200 OK\nServer: AmazonS3\nx-amz-id-2: LriYPLdmOdAiIfgSm/F1YsViT1LW94/xUQxMsF7xiEb1a0wiIOIxl+zbwZ163pt7\n\
    x-amz-request-id: 0A49CE4060975EAC\nETag: {ETag}\nx-amz-server-side-encryption: AES256\nDate: Mon, 30 Nov 2026 17:50:00 GMT\n\n";

/// What else may be answered to an upload, by the service or by a proxy.
const REFUSALS: [&str; 7] = [
    "200 OK\n\n<Error><Code>InternalError</Code><Message>x</Message></Error>",
    "200 OK\nContent-Type: text/html\n\n<html><body>Please log in</body></html>",
    "204 No Content\n\n",
    "403 Forbidden\n\n<Error><Code>AccessDenied</Code></Error>",
    "404 Not Found\n\n<Error><Code>NoSuchUpload</Code></Error>",
    "412 Precondition Failed\n\n<Error><Code>PreconditionFailed</Code></Error>",
    "500 Internal Server Error\nETag: \"x\"\n\n",
];

const PART_BYTES: usize = 256;

fn store_on(server: &S3Server) -> S3Store {
    let (backoff, part_size) = (Duration::from_millis(1), PART_BYTES as u64);
    server.open_store(S3Options { attempts: 1, backoff, part_size, ..S3Options::default() })
}

#[test]
fn what_a_service_answers_is_understood_or_an_error() {
    let server = S3Server::start();
    let store = store_on(&server);
    let corpus = texts(&[LISTING, REFUSAL]);
    try_all("answers", 2_000, &corpus, |input| {
        let body = text_of(input);
        for status in [200, 403, 404] {
            server.heal();
            server.fail(any().forever(), Fault::Answer(status, body.clone()));
            let mut seen = 0;
            let listed = store.list(&KeyPrefix::about(), &mut |listed| {
                seen += 1;
                assert!(seen < 10_000 && listed.key.len() < 10_000);
                Visit::Continue
            });
            assert!(status == 200 || listed.is_err(), "{listed:?}");
            if status != 200 {
                let read = get_bytes(&store, &Key::manifest(), 1000);
                let is_said = body.contains("NoSuchKey");
                assert!(is_said || !matches!(read, Err(store::Error::NotFound { .. })), "{read:?}");
                assert!(read.is_err());
            }
        }
        server.take_calls();
    });
}

/// An upload to one of whose requests something is answered.
struct Upload {
    kind: Request,
    /// Whether the service does the work before.
    after: bool,
    answer: String,
}

impl Upload {
    const KINDS: [Request; 4] =
        [Request::Put, Request::PutPart, Request::CompleteUpload, Request::BeginUpload];

    fn fault(&self) -> Fault {
        match self.after {
            true => Fault::WrittenAfter(self.answer.clone()),
            false => Fault::Written(self.answer.clone()),
        }
    }

    /// Whether the answer is of those that mean success.
    fn is_2xx(&self) -> bool {
        matches!(written(&self.answer).status().as_u16(), 200..300)
    }

    /// Whether the answer may be read as the service's word that it has the file, or the part.
    fn says_done(&self) -> bool {
        let answer = written(&self.answer);
        let names_it = match self.kind {
            Request::CompleteUpload => {
                ["CompleteMultipartUploadResult", "ETag"].into_iter().all(|word| answer.body().contains(word))
            }
            _ => answer.headers().contains_key("etag"),
        };
        self.is_2xx() && names_it
    }

    /// Whether the service tells the truth, in its own words.
    fn is_true(&self) -> bool {
        let words = match self.kind {
            Request::BeginUpload => BEGUN,
            Request::CompleteUpload => COMPLETED,
            _ => STORED,
        };
        self.after && self.answer == words
    }

    /// Fails the test unless what was made of the answer is right: `kept` is what the store has, and `calls` were made.
    fn judge(&self, put: &store::Result<()>, kept: Option<&[u8]>, bytes: &[u8], calls: &Calls) {
        let Self { kind, after, answer } = self;
        let what = format!("{put:?} of {kind:?} {}", if *after { "after the work" } else { "without work" });
        assert!(kept.is_none_or(|kept| kept == bytes), "other bytes are kept: {what}: {answer}");
        // The last word on a file is that of these two; nobody can see through a lie.
        let is_last = matches!(kind, Request::Put | Request::CompleteUpload);
        match (put, kept) {
            (Ok(()), None) => {
                assert!(is_last && !after && self.says_done(), "lost: {what}: {answer}");
            }
            (Err(_), Some(_)) => {
                assert!(is_last && *after && !self.is_2xx(), "stored all the same: {what}: {answer}");
            }
            _ => {}
        }
        assert!(put.is_ok() || !self.is_true(), "not understood: {what}: {answer}");
        // A refusal may make it begin once more, without what the service does not know.
        if *kind == Request::PutPart && !self.says_done() && calls.count(Request::BeginUpload) == 1 {
            assert_eq!(calls.count(Request::CompleteUpload), 0, "a part is missing: {what}: {answer}");
        }
    }
}

#[test]
fn what_a_service_answers_to_an_upload_is_understood_or_an_error() {
    let server = S3Server::start();
    server.allow_parts_of(1);
    let folder = tempfile::tempdir().expect("a folder");
    let (path, bytes) = (folder.path().join("file"), noise(3, 9 * PART_BYTES));
    std::fs::write(&path, &bytes).expect("a file");
    let source = store::Source::File { path: &path, size: bytes.len() as u64 };
    let body = store::Body { source, digest: Oid::of(&bytes), sent: &|_| () };
    let corpus = texts(&[&[STORED, BEGUN, COMPLETED, STORED, BEGUN, COMPLETED][..], &REFUSALS].concat());
    let (mut number, mut outcomes) = (0_u32, [[0; 2]; 8]);
    try_all("answers to uploads", 250, &corpus, |input| {
        let store = store_on(&server);
        for (at, kind) in Upload::KINDS.into_iter().chain(Upload::KINDS).enumerate() {
            let upload = Upload { kind, after: at < 4, answer: text_of(input) };
            number += 1;
            let id = CopyId { oid: Oid::of(&number.to_le_bytes()), nonce: Nonce::from_bytes([1; 16]) };
            let key = Key::copy(&CopyName { id, shape: Shape::Full { codec: None } });
            // Up to all nine parts, or some of them.
            server.fail(on(kind).times(1 + number as usize % 9), upload.fault());
            let put = match kind {
                Request::Put => put_bytes(&store, &key, &bytes),
                // A service that knows no uploads in parts is not asked for one again.
                Request::BeginUpload => store_on(&server).put(&key, &body),
                _ => store.put(&key, &body),
            };
            server.heal();
            let kept = server.get_raw(&format!("p/{key}"));
            upload.judge(&put, kept.as_deref(), &bytes, &server.take_calls());
            outcomes[at][usize::from(put.is_ok())] += 1;
        }
    });
    println!("{number} answers; errors and successes of each kind, after the work and without: {outcomes:?}");
    let both_ways = outcomes.iter().filter(|outcome| outcome.iter().all(|&count| count > 9)).count();
    assert!(both_ways >= 5, "hardly anything was tried: {outcomes:?}");
}

#[test]
fn lines_of_garbage_are_answered_by_lines_of_the_protocol() {
    let world = World::on_directory();
    let (object, path) = world.local("bytes");
    world.push(&object);
    let before = world.keys("");
    let (oid, path) = (&object.oid, path.display());
    let corpus = texts(&[
        "{\"event\":\"init\",\"operation\":\"upload\",\"remote\":\"origin\",\"concurrent\":true}",
        &format!("{{\"event\":\"upload\",\"oid\":\"{oid}\",\"size\":5,\"path\":\"{path}\",\"action\":null}}"),
        &format!("{{\"event\":\"download\",\"oid\":\"{oid}\",\"size\":5}}"),
        "{\"event\":\"later\",\"x\":[{\"y\":[1.5,null]}]}",
    ]);
    let mut command: Command = world.agent_command("a");
    let mut agent = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("an agent");
    let mut input = agent.stdin.take().expect("its input");
    let last = "0".repeat(64);
    let sentinel = format!("{{\"event\":\"download\",\"oid\":\"{last}\",\"size\":1}}\n");
    let writer = std::thread::spawn(move || {
        try_all("lines", 10_000, &corpus, |line| {
            input.write_all(line).and_then(|()| input.write_all(b"\n")).expect("an agent that reads");
        });
        input.write_all(sentinel.as_bytes()).expect("an agent that reads");
        input
    });
    let mut writer = Some(writer);
    let (mut worked, mut failed) = (0, 0);
    for line in BufReader::new(agent.stdout.take().expect("its output")).lines() {
        let line = line.expect("a line of text");
        let answer: Value = serde_json::from_str(&line).unwrap_or_else(|error| panic!("{line:?}: {error}"));
        assert!(answer.is_object(), "{line}");
        match (answer["event"].as_str(), answer["error"].is_object()) {
            (Some("complete"), true) if answer["oid"] == *last => {
                // The end of its input would cancel what is still to be answered.
                drop(writer.take().expect("one end").join().expect("a writer"));
            }
            (Some("complete"), true) => failed += 1,
            (Some("complete"), false) => {
                assert_eq!(answer["oid"], **oid, "{line}");
                worked += 1;
                if let Some(path) = answer["path"].as_str() {
                    assert_eq!(std::fs::read(path).expect("a file"), object.bytes);
                    std::fs::remove_file(path).expect("a file");
                }
            }
            (Some("progress"), false) => {}
            _ => assert_eq!(line, "{}"),
        }
    }
    assert!(agent.wait().expect("its end").success());
    println!("{worked} requests worked, {failed} failed");
    assert!(worked > 100 && failed > 100, "{worked} worked, {failed} failed");
    assert_eq!(world.keys(""), before, "garbage was stored");
}
