//! Encodes, decodes and measures the container stage.

use std::fs::File;
use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use engine_deflate::plain::Plain;
use engine_deflate::scratch::{Buffer, Memory, Scratch};
use engine_deflate::tokens::plan::Care;
use engine_deflate::{Options, decode, encode};

type Failure = Box<dyn std::error::Error>;

const CORPORA: [&str; 10] = [
    "whl_cryptography",
    "whl_numpy",
    "whl_botocore",
    "whl_transformers",
    "jar_closure",
    "xlsx",
    "docx",
    "tgz_typescript",
    "crate_awslc",
    "png",
];

fn main() -> Result<(), Failure> {
    let mut arguments: Vec<String> = std::env::args().skip(1).collect();
    let effort = take_option(&mut arguments, "--effort").unwrap_or_else(|| "default".into());
    let threads = take_option(&mut arguments, "--threads").map_or(Ok(1), |n| n.parse())?;
    let spill = take_option(&mut arguments, "--spill");
    let settings = Settings::of(&effort, threads, spill)?;
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["enc", old, new, delta] => settings.encode(old, new, delta),
        ["dec", old, delta, out] => settings.decode(old, delta, out),
        ["bench", corpora, ref names @ ..] => bench(corpora, names, &effort),
        ["measure", old, new] => settings.measure(old, new),
        _ => Err(
            "cont [--effort fast|default|max] enc OLD NEW DELTA | dec OLD DELTA OUT | bench CORPORA [NAME..]"
                .into(),
        ),
    }
}

fn take_option(arguments: &mut Vec<String>, name: &str) -> Option<String> {
    let at = arguments.iter().position(|argument| argument == name)?;
    arguments.remove(at);
    (at < arguments.len()).then(|| arguments.remove(at))
}

#[cfg(not(feature = "flat"))]
fn plain_stage(_: &str, level: i32) -> Box<dyn Plain> {
    Box::new(engine_deflate::simple::Simple { level })
}

#[cfg(feature = "flat")]
fn plain_stage(effort: &str, _: i32) -> Box<dyn Plain> {
    Box::new(engine_deflate::flat::Flat::of(effort))
}

struct Settings {
    options: Options,
    plain: Box<dyn Plain>,
    scratch: Box<dyn Scratch>,
}

impl Settings {
    fn of(effort: &str, threads: usize, spill: Option<String>) -> Result<Self, Failure> {
        let (depth, trust, level) = match effort {
            "fast" => (0, 0, 3),
            "default" => (2, 2, 9),
            "max" => (3, 3, 19),
            _ => return Err("efforts are fast, default and max".into()),
        };
        let options = Options { care: Care { depth, trust }, threads, ..Options::default() };
        let scratch: Box<dyn Scratch> = match spill {
            Some(folder) => Box::new(Spilled { folder }),
            None => Box::new(Memory),
        };
        Ok(Self { options, plain: plain_stage(effort, level), scratch })
    }

    fn encode(&self, old: &str, new: &str, delta: &str) -> Result<(), Failure> {
        let (old, new) = (map(old)?, map(new)?);
        let mut out = Vec::new();
        let summary = encode(&old, &new, &self.options, &*self.plain, &*self.scratch, &mut out)?;
        eprintln!("{summary:?}");
        Ok(std::fs::write(delta, out)?)
    }

    fn decode(&self, old: &str, delta: &str, out: &str) -> Result<(), Failure> {
        let (old, delta) = (map(old)?, map(delta)?);
        let mut file = std::io::BufWriter::new(File::create(out)?);
        decode(&old, &delta, u64::MAX, &self.options, &*self.plain, &*self.scratch, &mut file)?;
        Ok(file.flush()?)
    }

    /// Prints one line: sizes, CPU seconds and peak memory of an encode and of a decode.
    fn measure(&self, old: &str, new: &str) -> Result<(), Failure> {
        let (old, new) = (map(old)?, map(new)?);
        let watch = Watch::start();
        let started = cpu_seconds()?;
        let mut delta = Vec::new();
        let summary = encode(&old, &new, &self.options, &*self.plain, &*self.scratch, &mut delta)?;
        let encoded = cpu_seconds()?;
        let encode_peak = watch.peak_mib();
        let watch = Watch::start();
        let mut out = Vec::with_capacity(new.len());
        decode(&old, &delta, u64::MAX, &self.options, &*self.plain, &*self.scratch, &mut out)?;
        let decoded = cpu_seconds()?;
        if out[..] != new[..] {
            return Err("the round trip is not exact".into());
        }
        println!(
            "{} {} {:.2} {:.2} {} {} {} {} {} {} {} {}",
            new.len(),
            delta.len(),
            encoded - started,
            decoded - encoded,
            encode_peak,
            watch.peak_mib(),
            summary.opened,
            summary.closed,
            summary.plain_target_bytes,
            summary.plain_delta_bytes,
            summary.token_bytes,
            summary.recipe_bytes
        );
        Ok(())
    }
}

/// Buffers on unlinked, mapped files.
struct Spilled {
    folder: String,
}

struct SpilledBuffer {
    file: File,
    map: Option<memmap2::MmapMut>,
}

impl Scratch for Spilled {
    fn buffer(&self) -> std::io::Result<Box<dyn Buffer>> {
        static NUMBER: AtomicU64 = AtomicU64::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let path = format!("{}/cont-{}-{number}", self.folder, std::process::id());
        let file = File::options().read(true).write(true).create_new(true).open(&path)?;
        std::fs::remove_file(&path)?;
        Ok(Box::new(SpilledBuffer { file, map: None }))
    }
}

impl Buffer for SpilledBuffer {
    fn bytes(&self) -> &[u8] {
        self.map.as_deref().unwrap_or(&[])
    }
    fn bytes_mut(&mut self) -> &mut [u8] {
        self.map.as_deref_mut().unwrap_or(&mut [])
    }
    fn resize(&mut self, len: usize) -> std::io::Result<()> {
        self.map = None;
        self.file.set_len(len as u64)?;
        // SAFETY: the file has no name; nobody else changes it.
        self.map = Some(unsafe { memmap2::MmapMut::map_mut(&self.file)? });
        Ok(())
    }
}

/// Watches this process's anonymous memory.
struct Watch {
    stop: Arc<AtomicBool>,
    thread: std::thread::JoinHandle<u64>,
}

impl Watch {
    fn start() -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = std::thread::spawn(move || {
            let mut peak = 0;
            while !stopped.load(Ordering::Relaxed) {
                peak = peak.max(anonymous_mib().unwrap_or(0));
                std::thread::sleep(std::time::Duration::from_millis(3));
            }
            peak
        });
        Self { stop, thread }
    }

    fn peak_mib(self) -> u64 {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().unwrap_or(0)
    }
}

/// Measures every corpus in a process of its own.
fn bench(corpora: &str, names: &[&str], effort: &str) -> Result<(), Failure> {
    let names = if names.is_empty() { &CORPORA[..] } else { names };
    for (from, to) in [("v3", "v4"), ("v1", "v4")] {
        println!("{from} -> {to}, {effort}");
        println!(
            "corpus             MB    delta       %   enc s  dec s  enc MB/s dec MB/s  MiB  dec  opened closed plain MB | plain tokens recipe"
        );
        let mut sums = [0.0; 4];
        for name in names {
            let row = measured(corpora, name, (from, to), effort)?;
            print_row(name, &row);
            sums.iter_mut().zip(&row).for_each(|(sum, value)| *sum += value);
        }
        let [size, delta, encode, decode] = sums;
        println!(
            "sum              {:5.1} {:8.0} {:7.3} {encode:7.2} {decode:6.2} {:9.1} {:8.1}\n",
            size / 1e6,
            delta,
            100.0 * delta / size,
            size / 1e6 / encode,
            size / 1e6 / decode
        );
    }
    Ok(())
}

fn measured(corpora: &str, name: &str, versions: (&str, &str), effort: &str) -> Result<Vec<f64>, Failure> {
    let file = |version: &str| -> Result<String, Failure> {
        let mut entries = std::fs::read_dir(format!("{corpora}/{name}"))?.filter_map(Result::ok);
        let entry = entries.find(|entry| entry.file_name().to_string_lossy().starts_with(version));
        Ok(entry.ok_or("no such version")?.path().to_string_lossy().into_owned())
    };
    let output = std::process::Command::new(std::env::current_exe()?)
        .args(["measure", &file(versions.0)?, &file(versions.1)?, "--effort", effort])
        .output()?;
    if !output.status.success() {
        return Err(format!("{name}: {}", String::from_utf8_lossy(&output.stderr)).into());
    }
    let line = String::from_utf8(output.stdout)?;
    Ok(line.split_whitespace().map(|number| number.parse().unwrap_or(0.0)).collect())
}

fn print_row(name: &str, row: &[f64]) {
    let &[size, delta, encode, decode, peak, decode_peak, opened, closed, plain, plain_delta, tokens, recipe] =
        row
    else {
        return;
    };
    println!(
        "{name:16} {:5.1} {delta:8} {:7.3} {encode:7.2} {decode:6.2} {:9.1} {:8.1} {peak:4} {decode_peak:4} {opened:7} {closed:6} {:8.1} | {plain_delta} {tokens} {recipe}",
        size / 1e6,
        100.0 * delta / size,
        size / 1e6 / encode,
        size / 1e6 / decode,
        plain / 1e6
    );
}

fn map(path: &str) -> Result<memmap2::Mmap, Failure> {
    // SAFETY: the bench's own inputs, which nobody truncates meanwhile.
    Ok(unsafe { memmap2::Mmap::map(&File::open(path)?)? })
}

/// User and system time of this process.
fn cpu_seconds() -> Result<f64, Failure> {
    let stat = std::fs::read_to_string("/proc/self/schedstat")?;
    let nanoseconds: f64 = stat.split(' ').next().ok_or("no time")?.parse()?;
    Ok(nanoseconds / 1e9)
}

fn anonymous_mib() -> Result<u64, Failure> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find(|line| line.starts_with("RssAnon"));
    let kib: u64 = line.and_then(|line| line.split_whitespace().nth(1)).ok_or("no peak")?.parse()?;
    Ok(kib / 1024)
}
