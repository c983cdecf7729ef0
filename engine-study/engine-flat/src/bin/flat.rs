//! Encodes, decodes and measures from the command line.
//!
//! `flat enc [--effort fast|default|max] [--threads N] OLD NEW DELTA`, `flat dec OLD DELTA LEN OUT`,
//! `flat bench [--effort E] [--from 3] [--to 4] ROOT NAME...`

use std::path::{Path, PathBuf};
use std::time::Instant;

use engine_flat::{Effort, Options, decode_into, encode};

type Outcome = Result<(), Box<dyn std::error::Error>>;

fn main() -> Outcome {
    let mut arguments: Vec<String> = std::env::args().skip(1).collect();
    let effort = match take_flag(&mut arguments, "--effort").as_deref() {
        Some("fast") => Effort::Fast,
        Some("max") => Effort::Max,
        _ => Effort::Default,
    };
    let threads = take_flag(&mut arguments, "--threads").map_or(Ok(1), |text| text.parse())?;
    let from = take_flag(&mut arguments, "--from").unwrap_or_else(|| "3".into());
    let to = take_flag(&mut arguments, "--to").unwrap_or_else(|| "4".into());
    let options = Options { effort, threads, ..Options::default() };
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["enc", old, new, delta] => encode_file(old, new, delta, &options),
        ["dec", old, delta, len, out] => decode_file(old, delta, len.parse()?, out, threads),
        ["one", old, new] => one(old, new, &options),
        ["bench", root, names @ ..] => bench(root, names, &from, &to, &options),
        _ => Err("usage: flat enc|dec|bench, see the source".into()),
    }
}

fn take_flag(arguments: &mut Vec<String>, flag: &str) -> Option<String> {
    let at = arguments.iter().position(|argument| argument == flag)?;
    arguments.remove(at);
    (at < arguments.len()).then(|| arguments.remove(at))
}

fn encode_file(old: &str, new: &str, delta: &str, options: &Options) -> Outcome {
    let (old, new) = (std::fs::read(old)?, std::fs::read(new)?);
    let mut out = Vec::new();
    encode(&old, &new, options, &mut out)?;
    Ok(std::fs::write(delta, out)?)
}

fn decode_file(old: &str, delta: &str, len: u64, out: &str, threads: usize) -> Outcome {
    let (old, delta) = (std::fs::read(old)?, std::fs::read(delta)?);
    let mut bytes = Vec::new();
    decode_into(&old, &delta, len, threads, &mut bytes)?;
    Ok(std::fs::write(out, bytes)?)
}

/// CPU seconds of this thread so far; of all threads it would need libc.
fn cpu() -> f64 {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    let nanoseconds = text.split(' ').next().and_then(|word| word.parse::<f64>().ok());
    nanoseconds.unwrap_or(0.0) / 1e9
}

fn peak_megabytes() -> u64 {
    let text = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = text.lines().find(|line| line.starts_with("VmHWM"));
    let kilobytes = line.and_then(|line| line.split_whitespace().nth(1)?.parse::<u64>().ok());
    kilobytes.unwrap_or(0) / 1024
}

/// Measures one pair in this process.
fn one(old: &str, new: &str, options: &Options) -> Outcome {
    let (base, target) = (std::fs::read(old)?, std::fs::read(new)?);
    let before = cpu();
    let clock = Instant::now();
    let mut delta = Vec::new();
    let summary = encode(&base, &target, options, &mut delta)?;
    let encoded = cpu();
    let peak = peak_megabytes();
    let mut back = Vec::with_capacity(target.len());
    let segments = decode_into(&base, &delta, target.len() as u64, options.threads, &mut back)?;
    let decoded = cpu();
    let verdict = if back == target && segments == summary.segments { "ok" } else { "BAD" };
    let megabytes = target.len() as f64 / 1e6;
    let (encode, decode) = (encoded - before, decoded - encoded);
    let inputs = (base.len() + target.len()) as u64 >> 20;
    println!(
        "{:9} {:7.4} %  enc+proof {:6.2} s {:5.0} MB/s  dec {:5.2} s {:5.0} MB/s  +{} MiB  segs {} ctl {}  {verdict} {:.1}s",
        delta.len(),
        delta.len() as f64 * 100.0 / target.len() as f64,
        encode + decode,
        megabytes / (encode + decode),
        decode,
        megabytes / decode,
        peak.saturating_sub(inputs),
        summary.segments.len(),
        summary.alignment_len,
        clock.elapsed().as_secs_f64(),
    );
    Ok(())
}

fn version_of(root: &Path, name: &str, version: &str) -> Result<PathBuf, std::io::Error> {
    let stem = format!("v{version}.");
    let mut entries = std::fs::read_dir(root.join(name))?.filter_map(Result::ok);
    let found = entries.find(|entry| entry.file_name().to_string_lossy().starts_with(&stem));
    found.map(|entry| entry.path()).ok_or(std::io::ErrorKind::NotFound.into())
}

/// Measures each history in a process of its own, so that peaks do not mix.
fn bench(root: &str, names: &[&str], from: &str, to: &str, options: &Options) -> Outcome {
    let effort = format!("{:?}", options.effort).to_lowercase();
    for name in names {
        let (old, new) =
            (version_of(Path::new(root), name, from)?, version_of(Path::new(root), name, to)?);
        let mut command = std::process::Command::new(std::env::current_exe()?);
        command.args(["--effort", &effort, "--threads", &options.threads.to_string(), "one"]);
        let output = command.args([old, new]).output()?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let text = if text.is_empty() {
            String::from_utf8_lossy(&output.stderr).into_owned()
        } else {
            text
        };
        println!("{name:17} {}", text.trim_end());
    }
    Ok(())
}
