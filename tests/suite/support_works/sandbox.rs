//! The sandbox, the tools in it, and the scripted git-lfs.

use std::time::Duration;

use crate::support::data::{edited, noise, oid, pointer, text, versions};
use crate::support::fake_lfs::FakeLfs;
use crate::support::mounts::{on_other_device, on_small_disk, with_read_only};
use crate::support::run::{Running, run, wait_until};
use crate::support::sandbox::{Sandbox, files_below};
use crate::support::tools::Tool;

#[test]
fn a_sandbox_lets_nothing_in() {
    let mut sandbox = Sandbox::new();
    let shown = run(sandbox.command("env", "")).succeeded().stdout();
    let names: Vec<&str> = shown.lines().filter_map(|line| line.split('=').next()).collect();
    for name in ["CARGO_MANIFEST_DIR", "CARGO_PKG_NAME", "USER", "SSH_AUTH_SOCK", "LFS_DELTA_LOG"] {
        assert!(!names.contains(&name), "{name} came in");
    }
    let root = sandbox.root().display().to_string();
    for name in ["HOME", "TMPDIR", "GIT_CONFIG_GLOBAL", "XDG_CACHE_HOME", "XDG_CONFIG_HOME"] {
        assert!(shown.contains(&format!("{name}={root}/")), "{name} is outside");
    }
    let origins = sandbox.git("", &["config", "--list", "--show-origin", "--name-only"]).stdout();
    assert!(origins.lines().all(|line| line.contains("home/.gitconfig")), "{origins}");
    sandbox.set("ADDED", "yes").unset("TZ");
    let shown = run(sandbox.command("env", "")).stdout();
    assert!(shown.contains("ADDED=yes") && !shown.contains("TZ="));
}

#[test]
fn git_lfs_in_a_sandbox_is_the_chosen_one() {
    for (tool, version) in [(Tool::GitLfs, "git-lfs/3.6.1"), (Tool::GitLfsOld, "git-lfs/3.")] {
        let sandbox = Sandbox::with_git_lfs(tool);
        let said = sandbox.git("", &["lfs", "version"]).stdout();
        assert!(said.starts_with(version), "{said}");
        sandbox.install_git_lfs();
        sandbox.init_repo("repo");
        sandbox.track("repo", "*.bin");
        let bytes = noise(6, 10_000);
        let oid = sandbox.commit_file("repo", "a file.bin", &bytes);
        let kept = sandbox.git("repo", &["show", "HEAD:a file.bin"]).out;
        assert_eq!(String::from_utf8_lossy(&kept), pointer(&bytes));
        let place = sandbox.lfs_object_path("repo", &oid);
        assert_eq!(std::fs::read(&place).expect("an object"), bytes);
        sandbox.git("repo", &["worktree", "add", "--quiet", "../tree", "-b", "other"]);
        assert_eq!(sandbox.lfs_object_path("tree", &oid).canonicalize().unwrap(), place);
        sandbox.assert_no_ssh();
    }
}

#[test]
fn a_sandbox_notices_ssh_and_failing_programs_show_both_streams() {
    let sandbox = Sandbox::new();
    sandbox.git_fails("", &["clone", "ssh://host.invalid/repo", "x"]).says("fatal");
    let log = std::fs::read_to_string(sandbox.path("ssh.log")).expect("a trapped ssh");
    assert!(log.contains("host.invalid"), "{log}");
    let ran = sandbox.try_git("", &["rev-parse", "HEAD"]);
    assert!(ran.to_string().contains("not a git repository"), "{ran}");
    assert_eq!(ran.code(), 128);
}

#[test]
fn a_program_that_hangs_is_killed_with_its_children() {
    let sandbox = Sandbox::new();
    let mut command = sandbox.command("sh", "");
    command.args(["-c", "sleep 600 & echo $! > child; wait"]);
    let running = Running::start(command);
    assert!(wait_until(Duration::from_secs(10), || sandbox.path("child").exists()));
    let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        running.finish(Duration::from_millis(50));
    }));
    assert!(outcome.is_err());
    let child = std::fs::read_to_string(sandbox.path("child")).expect("a number");
    let gone = || !std::path::Path::new("/proc").join(child.trim()).join("fd/0").exists();
    assert!(wait_until(Duration::from_secs(10), gone), "the child {child} lives on");
}

/// A stand-in for the agent, to prove the scripted git-lfs against.
const ECHO_AGENT: &str = r#"
read -r init; echo '{}'
read -r request
oid=$(echo "$request" | sed 's/.*"oid":"\([^"]*\)".*/\1/')
echo "{\"event\":\"progress\",\"oid\":\"$oid\",\"bytesSoFar\":1,\"bytesSinceLast\":1}"
case $request in
*upload*) echo "{\"event\":\"complete\",\"oid\":\"$oid\"}" ;;
*) echo "{\"event\":\"complete\",\"oid\":\"$oid\",\"error\":{\"code\":2,\"message\":\"no\"}}" ;;
esac
read -r line || line=eof
echo "$line" >&2
"#;

#[test]
fn scripted_git_lfs_speaks_the_protocol() {
    let sandbox = Sandbox::new();
    let agent = || {
        let mut command = sandbox.command("sh", "");
        command.args(["-c", ECHO_AGENT]);
        FakeLfs::spawn(command)
    };
    let oid = oid(b"x");
    let mut uploading = agent().accepted("upload");
    let transfer = uploading.upload(&oid, 1, &sandbox.path("x")).succeeded();
    assert_eq!((transfer.bytes_reported(), transfer.code()), (1, None));
    assert!(uploading.memory_kib() > 0);
    assert!(uploading.terminate().contains("terminate"));

    let mut downloading = agent().accepted("download");
    assert_eq!(downloading.download(&oid, 1).failed(), "no");
    downloading.close_stdin();
    assert!(downloading.wait(Duration::from_secs(10)).expect("an end").success());
    assert_eq!(downloading.stderr(), "eof\n");

    let mut silent = agent();
    assert_eq!(silent.answer_within(Duration::from_millis(30)), None);
    silent.kill();
}

#[test]
fn test_data_is_the_same_every_time_and_edits_are_small() {
    assert_eq!(oid(&noise(1, 1000)), oid(&noise(1, 1000)));
    assert_ne!(noise(1, 1000), noise(2, 1000));
    assert_eq!(text(1, 1001).len(), 1001);
    let base = noise(1, 100_000);
    let next = edited(&base, 7, 3);
    assert_ne!(base, next);
    assert!(base.len().abs_diff(next.len()) <= 3 * 64);
    assert_eq!(versions(1, 5000, 4).len(), 4);
}

#[test]
fn files_below_a_folder_are_found() {
    let sandbox = Sandbox::new();
    sandbox.write("d/e/f", b"1");
    sandbox.write("d/g", b"2");
    let files = files_below(&sandbox.path("d"));
    let names: Vec<String> = files.keys().map(|path| path.display().to_string()).collect();
    assert_eq!(names, ["e/f", "g"]);
}

#[test]
fn disks_can_be_full_or_read_only_for_one_program() {
    let sandbox = Sandbox::new();
    sandbox.write("disk/before", b"x");
    let disk = sandbox.path("disk");
    let shell = |script: &str| {
        let mut command = sandbox.command("sh", "");
        command.args(["-c", script]);
        command
    };
    let writing = shell("head -c 200000 /dev/zero > disk/new");
    run(on_small_disk(writing, &disk, 65536)).failed().says("No space left");
    run(with_read_only(shell("echo x > disk/new"), &disk)).failed().says("Read-only");
    let linking = shell("echo x > tmp/x && ln tmp/x disk/new");
    run(on_other_device(linking, &disk)).failed().says("cross-device");
    assert_eq!(files_below(&disk).len(), 1, "the mounts were for those programs only");
}

/// The least agent that can be: keeps objects as files in `$STORE`.
const COPYING_AGENT: &str = r#"#!/bin/sh
field() { echo "$line" | sed "s/.*\"$1\":\"\([^\"]*\)\".*/\1/"; }
while read -r line; do
    oid=$(field oid)
    case $(field event) in
    init) echo '{}' ;;
    upload)
        cp "$(field path)" "$STORE/$oid"
        echo "{\"event\":\"complete\",\"oid\":\"$oid\"}" ;;
    download)
        cp "$STORE/$oid" "$TMPDIR/$oid.$$"
        echo "{\"event\":\"complete\",\"oid\":\"$oid\",\"path\":\"$TMPDIR/$oid.$$\"}" ;;
    terminate) exit ;;
    esac
done
"#;

#[test]
fn both_git_lfs_push_and_clone_through_a_custom_agent_in_a_sandbox() {
    for tool in [Tool::GitLfs, Tool::GitLfsOld] {
        let mut sandbox = Sandbox::with_git_lfs(tool);
        sandbox.write("store/empty", b"");
        sandbox.set("STORE", sandbox.path("store"));
        let agent = sandbox.write_program("copying-agent", COPYING_AGENT);
        let agent = agent.to_str().expect("a text path");
        for (key, value) in
            [("lfs.customtransfer.copying.path", agent), ("lfs.standalonetransferagent", "copying")]
        {
            sandbox.git("", &["config", "--global", key, value]);
        }
        sandbox.install_git_lfs();
        sandbox.init_repo("repo");
        sandbox.track("repo", "*.bin");
        let bytes = noise(9, 50_000);
        let oid = sandbox.commit_file("repo", "sub/a.bin", &bytes);
        sandbox.git("repo", &["push", "--quiet", "origin", "main"]);
        assert_eq!(std::fs::read(sandbox.path("store").join(&oid)).expect("an object"), bytes);
        sandbox.git("", &["clone", "--quiet", "repo.git", "clone"]);
        assert_eq!(std::fs::read(sandbox.path("clone/sub/a.bin")).expect("a file"), bytes);
        sandbox.assert_no_ssh();
    }
}
