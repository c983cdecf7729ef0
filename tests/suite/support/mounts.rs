//! Disks that are full, read-only or other ones, for a single program: it gets mounts of its own.
//!
//! Permission bits do not do here: tests often run as root, who may do anything. The mounts vanish
//! with the program. `unshare` (of util-linux) needs no root where user namespaces are allowed.

use std::ffi::OsString;
use std::path::Path;
use std::process::Command;

/// `command` with an empty disk of `size_bytes` mounted at the existing folder `at`.
///
/// Neither the test nor any other program sees what is written there.
pub fn on_small_disk(command: Command, at: &Path, size_bytes: u64) -> Command {
    let script = format!(r#"mount -t tmpfs -o size={size_bytes} none "$0" && exec "$@""#);
    mounted(command, at, &script)
}

/// `command` with the existing folder `at` read-only.
pub fn with_read_only(command: Command, at: &Path) -> Command {
    mounted(command, at, r#"mount --bind "$0" "$0" && mount -o remount,ro,bind "$0" && exec "$@""#)
}

/// `command` with the existing folder `at` on another device: no rename, no hard link from outside.
/// What is in it before stays visible after, but is not seen by `command`.
pub fn on_other_device(command: Command, at: &Path) -> Command {
    on_small_disk(command, at, 1 << 30)
}

/// Runs `script` in a mount namespace of its own, with the folder as `$0` and `command` as `$@`.
fn mounted(command: Command, at: &Path, script: &str) -> Command {
    let mut wrapped = Command::new("unshare");
    wrapped.args(["--map-root-user", "--mount", "sh", "-c", script]).arg(at);
    wrapped.arg(command.get_program()).args(command.get_args());
    wrapped.env_clear();
    for (name, value) in command.get_envs() {
        wrapped.env(name, value.map_or_else(OsString::new, OsString::from));
    }
    if let Some(dir) = command.get_current_dir() {
        wrapped.current_dir(dir);
    }
    wrapped
}
