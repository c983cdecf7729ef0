//! What real programs packed comes back, and every version of every corpus.
//!
//! For `tests/run.sh --soak` only. The corpora are in the folder that `LFS_DELTA_CORPORA` names, each a
//! folder of its own with the versions `v1`, `v2` and so on of one file, as `benches/corpus.py` makes them.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use lfs_delta::codec::Work;
use lfs_delta::disk::Workspace;

use super::make::changed;
use super::round_trips::plain;
use super::{EFFORTS, assert_comes_back, assert_whole_comes_back, work};
use crate::support::data::Random;
use crate::support::run::run;

const PAIRS: u64 = 2_000;

/// A program that packs.
struct Packer {
    program: &'static str,
    /// The Debian package that it is in.
    package: &'static str,
    /// Shell words that pack the file `plain` to standard output at level `$1`, 1 to 9.
    script: &'static str,
}

const fn packer(program: &'static str, package: &'static str, script: &'static str) -> Packer {
    Packer { program, package, script }
}

const PACKERS: [Packer; 12] = [
    packer("gzip", "gzip", "gzip -c -$1 plain"),
    packer("pigz", "pigz", "pigz -c -$1 -b 128 -p 3 plain"),
    packer("libdeflate-gzip", "libdeflate-tools", "libdeflate-gzip -c -$1 plain"),
    packer("libdeflate-gzip", "libdeflate-tools", "libdeflate-gzip -c -12 plain"),
    packer("zopfli", "zopfli", "zopfli -c --i1 plain"),
    packer("7z", "p7zip-full", "7z a -tgzip -mx$1 -si -so x.gz < plain"),
    packer("7z", "p7zip-full", "7z a -tzip -bso0 -mx$1 packed.zip plain && cat packed.zip"),
    packer("zip", "zip", "zip -q -$1 packed.zip plain && cat packed.zip"),
    packer("zip", "zip", "zip -q -$1 - plain"),
    packer("zip", "zip", "zip -q -$1 -P secret packed.zip plain && cat packed.zip"),
    packer("node", "nodejs", "node -e \"$NODE\" gzipSync $1"),
    packer("node", "nodejs", "node -e \"$NODE\" deflateSync $1"),
];

const NODE: &str = "const [how, level] = process.argv.slice(1);
    const plain = require('fs').readFileSync('plain');
    process.stdout.write(require('zlib')[how](plain, { level: +level }));";

impl Packer {
    fn assert_installed(&self) {
        let mut command = Command::new("sh");
        command.args(["-c", "command -v \"$0\"", self.program]);
        let Packer { program, package, .. } = self;
        let is_there = run(command).status.success();
        assert!(is_there, "no {program} here: apt-get install {package}, or run tests/run.sh --soak");
    }

    fn pack(&self, plain: &[u8], level: usize) -> Vec<u8> {
        let folder = tempfile::tempdir().expect("a folder");
        fs::write(folder.path().join("plain"), plain).expect("a file");
        let mut command = Command::new("sh");
        command.args(["-ec", self.script, "sh", &level.to_string()]);
        command.current_dir(folder.path()).env("NODE", NODE);
        run(command).succeeded().out
    }
}

#[test]
fn what_real_programs_pack_comes_back() {
    PACKERS.iter().for_each(Packer::assert_installed);
    for seed in 0..PAIRS {
        let mut random = Random::new(seed);
        let packer = &PACKERS[seed as usize % PACKERS.len()];
        let level = [1, 6, 9][random.below(3)];
        let old = plain(&mut random);
        let new = changed(&old, &mut random);
        println!("seed {seed}: {} at {level}, {} and {} bytes", packer.script, old.len(), new.len());
        let (base, target) = (packer.pack(&old, level), packer.pack(&new, level));
        for effort in EFFORTS {
            assert_comes_back(&base, &target, &work(effort, 2));
        }
        assert_whole_comes_back(&target, &work(EFFORTS[seed as usize % 3], 2));
    }
}

/// All versions of one corpus, in order: `v1`, `v2` and so on, each with any extension.
pub fn versions(corpus: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(corpus) else { return Vec::new() };
    let paths: Vec<_> = entries.map(|entry| entry.expect("an entry").path()).collect();
    let version = |number: u32| {
        let name = format!("v{number}");
        paths
            .iter()
            .find(|path| path.is_file() && path.file_stem().is_some_and(|stem| *stem == *name))
            .cloned()
    };
    (1..).map_while(version).collect()
}

/// All corpora, by name.
pub fn corpora() -> Vec<PathBuf> {
    let folder = std::env::var_os("LFS_DELTA_CORPORA").expect(
        "LFS_DELTA_CORPORA is not set: name the folder with the corpora, each a folder with v1, v2 and so on",
    );
    let entries = fs::read_dir(folder).expect("the folder that LFS_DELTA_CORPORA names");
    let mut corpora: Vec<_> = entries.map(|entry| entry.expect("an entry").path()).collect();
    corpora.retain(|corpus| versions(corpus).len() > 1);
    corpora.sort();
    assert!(!corpora.is_empty(), "no corpus in the folder that LFS_DELTA_CORPORA names");
    corpora
}

#[test]
fn every_version_of_every_corpus_comes_back() {
    let parent = tempfile::tempdir().expect("a folder");
    let scratch = Workspace::create(parent.path(), Duration::from_secs(60)).expect("a workspace");
    for corpus in corpora() {
        let versions: Vec<_> =
            versions(&corpus).iter().map(|path| fs::read(path).expect("a version")).collect();
        let last = versions.len() - 1;
        let steps = (0..last).map(|index| (index, index + 1)).chain([(0, last)]);
        for (base, target) in steps {
            for effort in EFFORTS {
                let work = Work { scratch: &scratch, ..work(effort, 2) };
                let size = assert_comes_back(&versions[base], &versions[target], &work);
                let step = format!("v{} to v{}", base + 1, target + 1);
                println!("{} {step} {effort:?}: {size}", corpus.display());
            }
        }
        assert_whole_comes_back(&versions[last], &Work { scratch: &scratch, ..work(EFFORTS[1], 2) });
    }
}
