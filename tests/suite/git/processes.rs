//! The processes of one test, found by their process group: to kill one of them, or to see that all are gone.

use std::fs;
use std::time::Duration;

use crate::support::run::wait_until;

/// How long agents may live on after git-lfs; they are to end within a second, on an idle machine.
const PATIENCE: Duration = Duration::from_secs(20);

/// The living processes of a group: numbers and command lines.
pub fn in_group(group: u32) -> Vec<(u32, Vec<String>)> {
    let numbers = fs::read_dir("/proc").expect("/proc").filter_map(|entry| {
        let name = entry.ok()?.file_name();
        name.to_str()?.parse::<u32>().ok()
    });
    let living = numbers.filter(|&process| group_of(process) == Some(group));
    living.map(|process| (process, words_of(process))).collect()
}

/// The number of the only process of a group whose program is `name`.
#[track_caller]
pub fn only(group: u32, name: &str) -> u32 {
    let all = in_group(group);
    let is_named = |words: &[String]| words.first().is_some_and(|word| word.rsplit('/').next() == Some(name));
    let found: Vec<u32> =
        all.iter().filter(|(_, words)| is_named(words)).map(|(process, _)| *process).collect();
    assert_eq!(found.len(), 1, "not one {name} in {all:?}");
    found[0]
}

/// Fails the test if a process of the group lives on.
#[track_caller]
pub fn assert_all_end(group: u32) {
    let ended = wait_until(PATIENCE, || in_group(group).is_empty());
    assert!(ended, "these live on: {:?}", in_group(group));
}

/// The group of a process; `None` where it has ended, even if nobody has asked for its status yet.
fn group_of(process: u32) -> Option<u32> {
    let status = fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
    let (_, rest) = status.rsplit_once(')')?;
    let words: Vec<&str> = rest.split_whitespace().collect();
    (words[0] != "Z").then(|| words[2].parse().ok()).flatten()
}

fn words_of(process: u32) -> Vec<String> {
    let line = fs::read(format!("/proc/{process}/cmdline")).unwrap_or_default();
    line.split(|&byte| byte == 0).map(|word| String::from_utf8_lossy(word).into_owned()).collect()
}
