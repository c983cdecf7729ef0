//! Files of many GiB, for `tests/run.sh --soak` only: minutes and 40 GiB of disk each, which is looked for first.
//!
//! Played by `benches/scale/huge.py` with a release build: one of the tests' own profile would take hours. The script
//! holds memory, silence and stored bytes to its limits, and compares what comes back.

use std::process::Command;
use std::sync::{Mutex, PoisonError};

/// One at a time, so that the disk need hold one.
static TURN: Mutex<()> = Mutex::new(());

/// Plays a file of so many GiB.
fn play(through: &str, gibibytes: &str) {
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let agent = std::env::var_os("LFS_DELTA_TEST_RELEASE").expect("run this by tests/run.sh --soak");
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/benches/scale/huge.py");
    let mut command = Command::new("python3");
    command.arg(script).arg(agent).args([through, "--gib", gibibytes]);
    let status = command.status().expect("python3");
    assert!(status.success(), "{through}, {gibibytes} GiB: {status}; what failed is printed above");
}

#[test]
fn eight_gibibytes_go_through_git_and_come_back() {
    play("git", "8");
}

#[test]
fn twenty_gibibytes_go_through_agents_and_come_back() {
    play("scripted", "20");
}
