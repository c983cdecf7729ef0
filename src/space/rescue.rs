//! Restores what `xdelta3` compared in decompressed form, and deltaglider stored as if that could be undone.
//!
//! Without `-D`, xdelta3 pipes what looks like gzip, bzip2 or xz through these programs, makes a delta between the
//! decompressed bytes, and compresses again when it decodes: with the program's default settings, whatever the file
//! was made with. Here the decompressed bytes are compressed with one setting after the other, and with the header
//! of the reference, until the SHA-256 is the file's. What surprises: the programs of this machine are run, because
//! no library writes byte for byte what they write.

use std::io::{self, Read, Write};
use std::process::{Command, Stdio};

use super::get::Place;
use super::{Error, Machine, Result};
use crate::codec::vcdiff::{self, External, Info};
use crate::disk::Bytes;
use crate::model::Oid;
use crate::threads;

/// Largest decompressed form: a bomb must not fill the disk.
const PLAIN_MAX_BYTES: u64 = 64 << 30;
/// What a gzip header with nothing optional takes.
const GZIP_HEADER_BYTES: usize = 10;
/// Where a gzip header tells how hard it was tried.
const EFFORT: usize = 8;

/// Restores a file from such a delta into `place`.
///
/// # Errors
/// `ArtefactForeign` where no setting yields it, or a program is missing; `ArtefactDamaged`; what the disk says.
pub(super) fn restore(
    machine: &Machine,
    reference: &[u8],
    delta: &[u8],
    info: &Info,
    expected: Option<Oid>,
    place: &mut Place<'_>,
) -> Result<(Oid, u64)> {
    let expected = expected.ok_or_else(|| {
        let reason = "it was stored in decompressed form, and its metadata does not tell its SHA-256".into();
        Error::ArtefactUnproven { reason }
    })?;
    let opened = info.base_external.map(|format| run(machine, format, &["-dc"], reference)).transpose()?;
    let base = opened.as_ref().map_or(reference, |(bytes, _)| bytes);
    let plain = decode(machine, base, delta)?;
    let Some(format) = info.target_external else {
        return if plain.1 == expected { write(&plain.0, expected, place) } else { Err(hopeless(expected)) };
    };
    for arguments in settings(format) {
        let (packed, found) = run(machine, format, &arguments, &plain.0)?;
        if found == expected {
            return write(&packed, expected, place);
        }
        if format == External::Gzip
            && let Some(bytes) = with_header_of(reference, &packed)
            && Oid::of(&bytes) == expected
        {
            return write(&bytes, expected, place);
        }
    }
    Err(hopeless(expected))
}

fn hopeless(expected: Oid) -> Error {
    Error::ArtefactForeign {
        reason: format!(
            "xdelta3 stored it in decompressed form, and no setting of the compressor yields the SHA-256 {expected} again"
        ),
    }
}

fn write(bytes: &[u8], sha256: Oid, place: &mut Place<'_>) -> Result<(Oid, u64)> {
    let written = place.writer().write_all(bytes);
    written.map_err(|source| Error::disk("write the file", source))?;
    Ok((sha256, bytes.len() as u64))
}

/// Decodes the delta to the decompressed form.
fn decode(machine: &Machine, base: &[u8], delta: &[u8]) -> Result<(Bytes, Oid)> {
    let mut plain = super::Hashing::new(crate::disk::Spill::new(&machine.workspace));
    let decoded = vcdiff::decode(base, &mut &delta[..], PLAIN_MAX_BYTES, &mut plain, &|| machine.step());
    decoded.map_err(|error| match error {
        crate::codec::Error::Io(source) => Error::disk("decode", source),
        error => Error::ArtefactDamaged { reason: error.to_string() },
    })?;
    let finished = plain.finish().and_then(|(spill, sha256)| Ok((spill.finish()?, sha256)));
    finished.map_err(|source| Error::disk("write a temporary file", source))
}

/// The settings that are tried, the likely ones first.
fn settings(format: External) -> Vec<[&'static str; 1]> {
    match format {
        External::Gzip => {
            vec![["-nc6"], ["-nc9"], ["-nc1"], ["-nc5"], ["-nc7"], ["-nc8"], ["-nc4"], ["-nc3"], ["-nc2"]]
        }
        External::Bzip2 => {
            vec![["-c9"], ["-c1"], ["-c2"], ["-c3"], ["-c4"], ["-c5"], ["-c6"], ["-c7"], ["-c8"]]
        }
        External::Xz => {
            vec![
                ["-c6"],
                ["-c9"],
                ["-c9e"],
                ["-c6e"],
                ["-c0"],
                ["-c1"],
                ["-c2"],
                ["-c3"],
                ["-c4"],
                ["-c5"],
                ["-c7"],
                ["-c8"],
            ]
        }
        External::Compress => vec![["-c"]],
    }
}

/// Puts the header of one gzip file before the stream of another: name and time are often the same.
fn with_header_of(reference: &[u8], packed: &[u8]) -> Option<Vec<u8>> {
    let (header, own) = (gzip_header(reference)?, gzip_header(packed)?);
    let mut joined = [header, packed.get(own.len()..)?].concat();
    // This byte tells of the effort, and goes with the stream.
    joined[EFFORT] = own[EFFORT];
    Some(joined)
}

/// Returns the header of a gzip file (RFC 1952).
fn gzip_header(file: &[u8]) -> Option<&[u8]> {
    let flags = *file.get(3)?;
    let mut end = GZIP_HEADER_BYTES;
    if flags & 4 != 0 {
        let size = file.get(end..end + 2)?;
        end += 2 + usize::from(u16::from_le_bytes([size[0], size[1]]));
    }
    for flag in [8, 16] {
        if flags & flag != 0 {
            end += file.get(end..)?.iter().position(|&byte| byte == 0)? + 1;
        }
    }
    if flags & 2 != 0 {
        end += 2;
    }
    file.get(..end).filter(|header| header.starts_with(b"\x1f\x8b"))
}

/// Runs the program of a format with `input` on its standard input.
fn run(machine: &Machine, format: External, arguments: &[&str], input: &[u8]) -> Result<(Bytes, Oid)> {
    let program = match format {
        External::Gzip => "gzip",
        External::Bzip2 => "bzip2",
        External::Compress => "compress",
        External::Xz => "xz",
    };
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
    // Settings in the environment would change what comes out.
    command
        .env_remove("GZIP")
        .env_remove("BZIP")
        .env_remove("BZIP2")
        .env_remove("XZ_DEFAULTS")
        .env_remove("XZ_OPT");
    let mut child = command.spawn().map_err(|error| Error::ArtefactForeign {
        reason: format!("to restore it takes the program {program}, which cannot be run: {error}"),
    })?;
    let (mut stdin, stdout) = (child.stdin.take(), child.stdout.take());
    let read = std::thread::scope(|scope| {
        // It ends early where its output is not wanted any more.
        threads::start_in(scope, move || stdin.as_mut().map(|stdin| stdin.write_all(input)))?;
        let mut stdout = stdout.ok_or(io::ErrorKind::BrokenPipe)?.take(PLAIN_MAX_BYTES);
        machine.gather(&mut stdout, &mut |_| ())
    });
    if read.is_err() {
        let _ = child.kill();
    }
    let ended = child.wait().map_err(|source| Error::disk(format!("run {program}"), source))?;
    let read = read.map_err(|source| Error::disk(format!("read from {program}"), source))?;
    if !ended.success() {
        let reason = format!("{program} cannot read what xdelta3 let it write: {ended}");
        return Err(Error::ArtefactDamaged { reason });
    }
    Ok(read)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_of_gzip_end_where_they_say() {
        let plain = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3];
        assert_eq!(gzip_header(&[&plain[..], b"stream"].concat()), Some(&plain[..]));
        let named = [&[0x1f, 0x8b, 8, 8, 1, 2, 3, 4, 0, 3][..], b"a.tar\0"].concat();
        assert_eq!(gzip_header(&[&named[..], b"stream"].concat()), Some(&named[..]));
        let all = [&[0x1f, 0x8b, 8, 30, 0, 0, 0, 0, 0, 3, 2, 0][..], b"xxname\0note\0cc"].concat();
        assert_eq!(gzip_header(&[&all[..], b"stream"].concat()), Some(&all[..]));
        assert_eq!(gzip_header(&named[..12]), None);
        assert_eq!(gzip_header(b"PK\x03\x04 no gzip at all"), None);
    }

    #[test]
    fn a_stream_gets_the_header_of_another_file() {
        let reference = [&[0x1f, 0x8b, 8, 8, 1, 2, 3, 4, 0, 3][..], b"a.tar\0old"].concat();
        let packed = [&[0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 2, 3][..], b"new"].concat();
        let joined = with_header_of(&reference, &packed).expect("both are gzip");
        assert_eq!(joined, [&[0x1f, 0x8b, 8, 8, 1, 2, 3, 4, 2, 3][..], b"a.tar\0new"].concat());
    }
}
