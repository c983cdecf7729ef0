//! One encode and one decode of one pair of files by the delta engine, measured: a line of JSON.
//!
//! `codec EFFORT BASE TARGET [DELTA]`; an empty BASE name is a whole copy. CPU seconds are of this process,
//! which works in one thread; memory is what lies beyond mapped files, and `CODEC_MEMORY_MIB` how much of it encoding may
//! take if that is more than by default. `benches/codec.py` runs it over corpora.

use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use lfs_delta::codec::{self, Effort, Pair, Work};
use lfs_delta::disk::{Bytes, Spill, Workspace};
use lfs_delta::model::Hasher;

static PEAK: AtomicU64 = AtomicU64::new(0);
static DONE: AtomicBool = AtomicBool::new(false);

fn main() -> io::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|word| word != "--bench").collect();
    let [effort, base, target, rest @ ..] = &arguments[..] else {
        return Err(io::Error::other("codec EFFORT BASE TARGET [DELTA]"));
    };
    let effort = match effort.as_str() {
        "fast" => Effort::Fast,
        "default" => Effort::Default,
        "max" => Effort::Max,
        other => return Err(io::Error::other(format!("no effort {other}"))),
    };
    let watcher = std::thread::spawn(watch_memory);
    let workspace = Workspace::create(&std::env::temp_dir(), Duration::from_secs(86400))?;
    let base = if base.is_empty() { Bytes::from(Vec::new()) } else { read(&workspace, Path::new(base))? };
    let target = read(&workspace, Path::new(target))?;
    let mebibytes = std::env::var("CODEC_MEMORY_MIB").ok().and_then(|text| text.parse::<u64>().ok());
    let memory = mebibytes.unwrap_or(0) << 20;
    let work = Work { effort, threads: 1, memory, scratch: &workspace, watch: &|_| Ok(()) };
    let place = rest.first().map_or_else(|| workspace.path().join("delta"), PathBuf::from);
    let pair = Pair { base: &base, target: &target };

    let start = cpu_seconds();
    let mut sink = BufWriter::new(File::create(&place)?);
    let whole = pair.base.is_empty();
    let encoded = match whole {
        true => codec::encode_whole_opened(&target, &work, &mut sink).map_err(io::Error::other)?,
        false => Some(codec::encode_delta(pair, &work, &mut sink).map_err(io::Error::other)?),
    };
    sink.flush()?;
    let Some(encoded) = encoded else { return Err(io::Error::other("nothing to open")) };
    let encode = cpu_seconds() - start;
    let encode_memory = PEAK.swap(0, Ordering::Relaxed);

    let start = cpu_seconds();
    let mut sink = HashSink(Hasher::default());
    let size = target.len() as u64;
    let mut payload = File::open(&place)?;
    codec::decode(encoded.codec, (!whole).then_some(&base), &mut payload, size, &work, &mut sink)
        .map_err(io::Error::other)?;
    let decode = cpu_seconds() - start;
    let decode_memory = PEAK.load(Ordering::Relaxed);
    let mut hasher = Hasher::default();
    hasher.update(&target);
    let exact = hasher.finish() == sink.0.finish();
    DONE.store(true, Ordering::Relaxed);
    watcher.join().map_err(|_| io::Error::other("the watcher failed"))?;
    let delta = fs::metadata(&place)?.len();
    let codec = encoded.codec;
    writeln!(
        io::stdout(),
        "{{\"size\": {size}, \"delta\": {delta}, \"codec\": \"{codec}\", \"encode_s\": {encode:.3}, \"decode_s\": {decode:.3}, \
         \"encode_mib\": {}, \"decode_mib\": {}, \"exact\": {exact}}}",
        encode_memory >> 20,
        decode_memory >> 20,
    )?;
    if exact { Ok(()) } else { Err(io::Error::other("the decoded bytes are others")) }
}

fn read(workspace: &Workspace, path: &Path) -> io::Result<Bytes> {
    let mut spill = Spill::new(workspace);
    io::copy(&mut File::open(path)?, &mut spill)?;
    spill.finish()
}

/// Reads what the kernel has charged to this process so far, in seconds.
fn cpu_seconds() -> f64 {
    let stat = fs::read_to_string("/proc/self/schedstat").unwrap_or_default();
    stat.split(' ')
        .next()
        .and_then(|text| text.parse::<f64>().ok())
        .map_or(0.0, |nanoseconds| nanoseconds / 1e9)
}

fn watch_memory() {
    while !DONE.load(Ordering::Relaxed) {
        let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
        let anonymous = status.lines().find_map(|line| line.strip_prefix("RssAnon:"));
        let kilobytes = anonymous.and_then(|text| text.trim().split(' ').next()?.parse::<u64>().ok());
        PEAK.fetch_max(kilobytes.unwrap_or(0) << 10, Ordering::Relaxed);
        std::thread::sleep(Duration::from_millis(10));
    }
}

struct HashSink(Hasher);

impl Write for HashSink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
