//! What people type: install, uninstall, init, trust, and what they are told when it cannot be done.

mod errors;
mod init;
mod install;
mod output;
mod unread;

use crate::support::sandbox::Sandbox;

#[test]
fn help_names_every_command_for_people() {
    let said = Sandbox::new().lfs_delta("", &["--help"]).stdout();
    for command in ["install", "uninstall", "init", "trust", "put", "get", "verify", "ls"] {
        assert!(said.lines().any(|line| line.trim().starts_with(command)), "no {command} in {said}");
    }
    assert!(!said.contains("agent"), "the agent is for git-lfs: {said}");
    assert!(said.contains("lfs-delta init s3://bucket/prefix"), "{said}");
}

#[test]
fn every_command_explains_itself_with_an_example() {
    let sandbox = Sandbox::new();
    for command in ["install", "uninstall", "init", "trust", "put", "get", "verify", "ls"] {
        let said = sandbox.lfs_delta("", &[command, "--help"]).stdout();
        assert!(said.contains(&format!("  lfs-delta {command}")), "{said}");
    }
}

#[test]
fn version_is_that_of_the_package() {
    let said = Sandbox::new().lfs_delta("", &["--version"]).stdout();
    assert_eq!(said, format!("lfs-delta {}", env!("CARGO_PKG_VERSION")));
}

#[test]
fn what_is_no_command_is_refused_with_the_usage() {
    let ran = Sandbox::new().lfs_delta_fails("", &["frobnicate"]);
    assert_eq!(ran.code(), 2);
    ran.says("Usage");
}
