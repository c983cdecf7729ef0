//! `install` and `uninstall`: git config afterwards is what it was before, byte for byte.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::PathBuf;

use crate::support::sandbox::Sandbox;

/// As people write it: a comment, odd spaces, a section twice.
const EDITED: &str =
    "# mine\n[user]\n  name=A\n\temail = a@example.invalid ; why not\n\n[alias]\n\tco = checkout\n[user]\n";

/// A sandbox in which git finds its config by HOME, as on a real machine.
fn machine() -> Sandbox {
    let mut sandbox = Sandbox::new();
    sandbox.unset("GIT_CONFIG_GLOBAL");
    sandbox
}

/// Everything that could be a git config of the user: what it links to, its rights, its bytes.
type Configs = BTreeMap<&'static str, (Option<PathBuf>, u32, Vec<u8>)>;

fn configs(sandbox: &Sandbox) -> Configs {
    let places = [
        "home/.gitconfig",
        "home/.config/git/config",
        "home/dotfiles/gitconfig",
        "system",
        "repo/.git/config",
    ];
    let found = places.into_iter().filter_map(|place| {
        let path = sandbox.path(place);
        let bytes = fs::read(&path).ok()?;
        let mode = fs::metadata(&path).expect("a file just read").permissions().mode();
        Some((place, (fs::read_link(&path).ok(), mode, bytes)))
    });
    found.collect()
}

fn setting(sandbox: &Sandbox, key: &str) -> String {
    sandbox.try_git("", &["config", "--get-all", key]).stdout()
}

#[track_caller]
fn assert_installed(sandbox: &Sandbox) {
    let program = sandbox.agent_path().display().to_string();
    for (key, value) in [
        ("lfs.customtransfer.lfs-delta.path", program.as_str()),
        ("lfs.customtransfer.lfs-delta.args", "agent"),
        ("lfs.lfs-delta::.standalonetransferagent", "lfs-delta"),
        ("lfs.standalonetransferagent", ""),
    ] {
        assert_eq!(setting(sandbox, key), value, "{key}");
    }
    assert_ne!(setting(sandbox, "filter.lfs.process"), "", "git-lfs is not set up");
}

/// Installs and uninstalls; everything must be as it was, and install must have written to `place`.
#[track_caller]
fn assert_round_trip(sandbox: &Sandbox, place: &str) {
    let before = configs(sandbox);
    sandbox.lfs_delta("", &["install"]);
    assert_installed(sandbox);
    assert_ne!(configs(sandbox).get(place), before.get(place), "{place} was not changed");
    sandbox.lfs_delta("", &["uninstall"]);
    assert_eq!(configs(sandbox), before);
    assert_eq!(setting(sandbox, "filter.lfs.process"), "");
}

#[test]
fn uninstall_restores_an_edited_config() {
    let sandbox = machine();
    sandbox.write("home/.gitconfig", EDITED);
    assert_round_trip(&sandbox, "home/.gitconfig");
}

#[test]
fn uninstall_restores_a_config_without_a_newline_at_its_end() {
    let sandbox = machine();
    sandbox.write("home/.gitconfig", "[user]\r\n\tname = A");
    assert_round_trip(&sandbox, "home/.gitconfig");
}

#[test]
fn uninstall_removes_a_config_that_was_not_there() {
    let sandbox = machine();
    fs::remove_file(sandbox.path("home/.gitconfig")).expect("a config");
    assert_round_trip(&sandbox, "home/.gitconfig");
    assert!(!sandbox.path("home/.gitconfig").exists());
}

#[test]
fn uninstall_restores_an_empty_config() {
    let sandbox = machine();
    sandbox.write("home/.gitconfig", "");
    assert_round_trip(&sandbox, "home/.gitconfig");
}

#[test]
fn uninstall_restores_a_linked_config_and_keeps_the_link() {
    let sandbox = machine();
    let real = sandbox.write("home/dotfiles/gitconfig", EDITED);
    fs::remove_file(sandbox.path("home/.gitconfig")).expect("a config");
    symlink(real, sandbox.path("home/.gitconfig")).expect("a link");
    assert_round_trip(&sandbox, "home/dotfiles/gitconfig");
}

#[test]
fn uninstall_restores_a_config_in_the_xdg_folder() {
    let sandbox = machine();
    fs::remove_file(sandbox.path("home/.gitconfig")).expect("a config");
    sandbox.write("home/.config/git/config", EDITED);
    assert_round_trip(&sandbox, "home/.config/git/config");
}

#[test]
fn uninstall_restores_the_first_of_two_configs() {
    let sandbox = machine();
    sandbox.write("home/.config/git/config", EDITED);
    assert_round_trip(&sandbox, "home/.gitconfig");
}

#[test]
fn uninstall_restores_the_rights_of_a_private_config() {
    let sandbox = machine();
    let path = sandbox.write("home/.gitconfig", EDITED);
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).expect("a private file");
    assert_round_trip(&sandbox, "home/.gitconfig");
}

#[test]
fn uninstall_leaves_git_lfs_set_up_where_it_was() {
    let sandbox = machine();
    sandbox.install_git_lfs();
    let before = configs(&sandbox);
    sandbox.lfs_delta("", &["install"]);
    assert_installed(&sandbox);
    sandbox.lfs_delta("", &["uninstall"]);
    assert_eq!(configs(&sandbox), before);
    assert_ne!(setting(&sandbox, "filter.lfs.process"), "");
}

#[test]
fn a_second_install_changes_nothing_and_is_undone_by_one_uninstall() {
    let sandbox = machine();
    sandbox.write("home/.gitconfig", EDITED);
    let before = configs(&sandbox);
    sandbox.lfs_delta("", &["install"]);
    let installed = configs(&sandbox);
    let said = sandbox.lfs_delta("", &["install"]).stdout();
    assert!(said.contains("nothing was changed"), "{said}");
    assert_eq!(configs(&sandbox), installed);
    sandbox.lfs_delta("", &["uninstall"]);
    assert_eq!(configs(&sandbox), before);
}

/// All settings, without where they stand.
fn all_settings(sandbox: &Sandbox) -> Vec<String> {
    let mut lines: Vec<_> =
        sandbox.git("", &["config", "--global", "--list"]).stdout().lines().map(str::to_owned).collect();
    lines.sort();
    lines
}

#[test]
fn uninstall_keeps_what_was_edited_after_install() {
    let sandbox = machine();
    sandbox.write("home/.gitconfig", EDITED);
    sandbox.lfs_delta("", &["install", "--trust", "s3.example.com"]);
    sandbox.git("", &["config", "--global", "alias.st", "status"]);
    sandbox.git("", &["config", "--global", "lfs.concurrenttransfers", "3"]);
    sandbox.git("", &["config", "--global", "--add", "lfs-delta.trust", "mine.example.com"]);
    sandbox.lfs_delta("", &["uninstall"]);
    let expected = [
        "alias.co=checkout",
        "alias.st=status",
        "lfs-delta.trust=mine.example.com",
        "lfs.concurrenttransfers=3",
        "user.email=a@example.invalid",
        "user.name=A",
    ];
    assert_eq!(all_settings(&sandbox), expected);
    let text = fs::read_to_string(sandbox.path("home/.gitconfig")).expect("a config");
    assert!(text.starts_with("# mine\n[user]\n  name=A\n"), "{text}");
}

#[test]
fn an_install_after_an_edit_is_undone_without_the_edit() {
    let sandbox = machine();
    sandbox.write("home/.gitconfig", EDITED);
    sandbox.lfs_delta("", &["install"]);
    sandbox.git("", &["config", "--global", "alias.st", "status"]);
    sandbox.git("", &["config", "--global", "--unset", "lfs.customtransfer.lfs-delta.args"]);
    sandbox.lfs_delta("", &["install"]);
    assert_installed(&sandbox);
    sandbox.lfs_delta("", &["uninstall"]);
    let expected = ["alias.co=checkout", "alias.st=status", "user.email=a@example.invalid", "user.name=A"];
    assert_eq!(all_settings(&sandbox), expected);
}

#[test]
fn uninstall_without_install_changes_nothing() {
    let sandbox = machine();
    sandbox.write("home/.gitconfig", EDITED);
    let before = configs(&sandbox);
    let said = sandbox.lfs_delta("", &["uninstall"]).stdout();
    assert!(said.contains("nothing was changed"), "{said}");
    sandbox.lfs_delta("", &["install"]);
    sandbox.lfs_delta("", &["uninstall"]);
    sandbox.lfs_delta("", &["uninstall"]);
    assert_eq!(configs(&sandbox), before);
}

#[test]
fn install_for_one_repository_touches_its_config_only() {
    let sandbox = machine();
    sandbox.init_repo("repo");
    fs::create_dir(sandbox.path("repo/folder")).expect("a folder");
    let before = configs(&sandbox);
    sandbox.lfs_delta("repo/folder", &["install", "--local"]);
    let installed = configs(&sandbox);
    assert_eq!(installed["home/.gitconfig"], before["home/.gitconfig"]);
    let kept =
        sandbox.git("repo", &["config", "--local", "lfs.lfs-delta::.standalonetransferagent"]).stdout();
    assert_eq!(kept, "lfs-delta");
    sandbox.lfs_delta("repo", &["uninstall", "--local"]);
    assert_eq!(configs(&sandbox), before);
    sandbox.lfs_delta_fails("", &["install", "--local"]).says("E1002");
}

#[test]
fn install_for_all_users_touches_the_system_config_only() {
    let mut sandbox = machine();
    let system = sandbox.write("system", "[core]\n\tautocrlf = false");
    sandbox.unset("GIT_CONFIG_NOSYSTEM").set("GIT_CONFIG_SYSTEM", &system);
    let before = configs(&sandbox);
    sandbox.lfs_delta("", &["install", "--system"]);
    assert_installed(&sandbox);
    assert_eq!(configs(&sandbox)["home/.gitconfig"], before["home/.gitconfig"]);
    sandbox.lfs_delta("", &["uninstall", "--system"]);
    assert_eq!(configs(&sandbox), before);
}

#[test]
fn install_and_trust_note_hosts_without_scheme_and_port() {
    let sandbox = machine();
    let before = configs(&sandbox);
    let hosts = ["install", "--trust", "S3.Example.com", "--trust", "http://127.0.0.1:9000"];
    sandbox.lfs_delta("", &hosts);
    assert_eq!(setting(&sandbox, "lfs-delta.trust"), "s3.example.com\n127.0.0.1");
    let said = sandbox.lfs_delta("", &["trust", "https://s3.example.com"]).stdout();
    assert!(said.contains("already"), "{said}");
    sandbox.lfs_delta("", &["uninstall"]);
    assert_eq!(configs(&sandbox), before);
    sandbox.lfs_delta("", &["trust", "minio.lan:9000"]);
    assert_eq!(setting(&sandbox, "lfs-delta.trust"), "minio.lan");
}

#[test]
fn a_trusted_host_that_is_none_changes_nothing() {
    let sandbox = machine();
    let before = configs(&sandbox);
    for host in ["", "a b", "ftp://host", "host/path", "user@host"] {
        let ran = sandbox.lfs_delta_fails("", &["install", "--trust", host]);
        assert_eq!(ran.code(), 2, "{ran}");
        sandbox.lfs_delta_fails("", &["trust", host]);
    }
    assert_eq!(configs(&sandbox), before);
}

#[test]
fn install_without_git_lfs_says_how_to_get_it() {
    let mut sandbox = machine();
    let path = std::env::var_os("PATH").expect("a PATH");
    let git = std::env::split_paths(&path).map(|folder| folder.join("git")).find(|path| path.is_file());
    fs::create_dir(sandbox.path("only-git")).expect("a folder");
    symlink(git.expect("git"), sandbox.path("only-git/git")).expect("a link");
    let path = sandbox.path("only-git");
    sandbox.set("PATH", path);
    let before = configs(&sandbox);
    sandbox.lfs_delta_fails("", &["install"]).says("git-lfs is not installed").says("fix: ");
    assert_eq!(configs(&sandbox), before);
}
