//! Runs a test in a process of its own that may not have more than so much memory.

use std::process::Command;
use std::time::Duration;

use super::run::{DEADLINE, Running, is_soak, soak_time};

/// Set in the process of its own.
const CONFINED: &str = "LFS_DELTA_TEST_CONFINED";

/// Does the work of `test` (its full name) in a process with at most `memory_kib` of address space.
pub fn confined(test: &str, memory_kib: usize, work: impl FnOnce()) {
    if std::env::var_os(CONFINED).is_some() {
        return work();
    }
    let test = test.split_once("::").expect("a module of the suite").1;
    let mut command = Command::new("sh");
    command.args(["-c", &format!("ulimit -v {memory_kib} && exec \"$0\" --exact \"$1\" --nocapture")]);
    command.arg(std::env::current_exe().expect("this program")).arg(test).env(CONFINED, "1");
    command.stdin(std::process::Stdio::null());
    let patience = DEADLINE + if is_soak() { soak_time() } else { Duration::ZERO };
    let ran = Running::start(command).finish(patience).succeeded();
    println!("{}", ran.stdout());
    assert!(ran.stdout().contains("1 passed"), "not one test is called {test}: {ran}");
}
