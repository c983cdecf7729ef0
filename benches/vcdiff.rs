//! One VCDIFF encode or decode of one pair of files, as a program: what `xdelta3 -e` and `xdelta3 -d` are.
//!
//! `vcdiff encode|decode BASE INPUT OUTPUT`. `benches/vcdiff.py` runs it over corpora beside xdelta3.

use std::fs::{self, File};
use std::io::{self, BufWriter, Write};

use lfs_delta::codec::{Effort, vcdiff};

fn main() -> io::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|word| word != "--bench").collect();
    let [what, base, input, output] = &arguments[..] else {
        return Err(io::Error::other("vcdiff encode|decode BASE INPUT OUTPUT"));
    };
    let base = fs::read(base)?;
    let mut sink = BufWriter::new(File::create(output)?);
    match what.as_str() {
        "encode" => vcdiff::encode(&base, &fs::read(input)?, Effort::Default, &mut sink, &|| Ok(())),
        "decode" => {
            vcdiff::decode(&base, &mut File::open(input)?, u64::MAX, &mut sink, &|| Ok(())).map(|_| ())
        }
        other => return Err(io::Error::other(format!("no {other}"))),
    }
    .map_err(io::Error::other)?;
    sink.flush()
}
