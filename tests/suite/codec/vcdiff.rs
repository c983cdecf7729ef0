//! VCDIFF between real files, with stock `xdelta3` on the other side: it decodes ours, we decode all that it writes.
//!
//! Always on the fixtures; with `tests/run.sh --soak` also on each corpus of `benches/corpus.py` that is not over
//! 100 MB, in the folder that `LFS_DELTA_CORPORA` names.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use lfs_delta::codec::{Effort, vcdiff};

use crate::support::run::run;

/// What xdelta3 is told: the RFC's compression, and each of the others that it knows.
const COMPRESSIONS: [&[&str]; 3] = [&[], &["-S", "djw"], &["-S", "none"]];

/// Successive versions of real files: two of five kinds, and one more pair that changed in size.
const FIXTURES: [(&str, &str); 6] = [
    ("docx/2-wording.docx", "docx/3-new-chapter.docx"),
    ("so/2-3.11.1.so", "so/3-3.11.2.so"),
    ("sqlite/1-january.sqlite", "sqlite/2-corrections.sqlite"),
    ("sqlite/3-one-more-day.sqlite", "sqlite/4-indexed.sqlite"),
    ("wheel/5-7.10.6.whl", "wheel/6-7.10.7.whl"),
    ("xlsx/1-flights.xlsx", "xlsx/2-corrections.xlsx"),
];

/// Runs xdelta3, without its own unpacking of gzip files, and returns what it made.
fn xdelta3(folder: &Path, arguments: &[&str], base: &Path, input: &Path) -> Vec<u8> {
    let made = folder.join("made");
    let mut command = Command::new("xdelta3");
    command.args(arguments).args(["-D", "-f", "-s"]).args([base, input, &made]);
    run(command).succeeded();
    fs::read(made).expect("what xdelta3 made")
}

fn assert_decodes(what: &str, base: &[u8], delta: &[u8], target: &[u8]) {
    let mut object = Vec::new();
    let size = vcdiff::decode(base, &mut &*delta, target.len() as u64, &mut object, &|| Ok(()));
    assert_eq!(size.unwrap_or_else(|error| panic!("{what}: {error}")), target.len() as u64, "{what}");
    assert!(object == target, "{what}: other bytes");
}

/// Checks a pair both ways, and returns the sizes of our delta and of xdelta3's.
fn assert_interoperable(base_path: &Path, target_path: &Path) -> [usize; 2] {
    let folder = tempfile::tempdir().expect("a folder");
    let read = |path: &Path| fs::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let (base, target) = (read(base_path), read(target_path));
    let name = target_path.display();

    let encode = || {
        let mut delta = Vec::new();
        vcdiff::encode(&base, &target, Effort::Default, &mut delta, &|| Ok(())).expect("encodes");
        delta
    };
    let ours = encode();
    assert!(ours == encode(), "{name}: not the same bytes again");
    assert_decodes(&format!("{name}, ours"), &base, &ours, &target);
    let delta = folder.path().join("delta");
    fs::write(&delta, &ours).expect("a delta");
    assert!(
        xdelta3(folder.path(), &["-d"], base_path, &delta) == target,
        "{name}: xdelta3 makes other bytes"
    );

    let mut sizes = Vec::new();
    for compression in COMPRESSIONS {
        let arguments = [&["-e", "-9"], compression].concat();
        let theirs = xdelta3(folder.path(), &arguments, base_path, target_path);
        assert_decodes(&format!("{name}, {arguments:?}"), &base, &theirs, &target);
        sizes.push(theirs.len());
    }
    println!("{name}: {} bytes, those of xdelta3 {sizes:?}", ours.len());
    [ours.len(), sizes[0]]
}

fn assert_small(name: &Path, [ours, theirs]: [usize; 2]) {
    assert!(ours * 100 <= theirs * 102, "{}: {ours} bytes, xdelta3 {theirs}", name.display());
}

#[test]
fn real_files_go_both_ways() {
    let fixtures = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("fixtures");
    for (base, target) in FIXTURES {
        let sizes = assert_interoperable(&fixtures.join(base), &fixtures.join(target));
        assert_small(target.as_ref(), sizes);
    }
}

#[cfg(feature = "soak")]
mod corpora {
    use super::*;

    const SIZE_MAX: u64 = 100 << 20;

    #[test]
    fn every_corpus_goes_both_ways() {
        for corpus in crate::codec::packers::corpora() {
            let versions = crate::codec::packers::versions(&corpus);
            let [.., base, target] = &versions[..] else { continue };
            let size = |path: &Path| fs::metadata(path).expect("a version").len();
            if size(base).max(size(target)) > SIZE_MAX {
                continue;
            }
            let sizes = assert_interoperable(base, target);
            println!("{}: {} bytes, xdelta3 {}", corpus.display(), sizes[0], sizes[1]);
            assert_small(&corpus, sizes);
        }
    }
}
