//! Bad settings, credentials and networks: each with its code, quickly, and with what to do about it.

use crate::git::world::World;
use crate::support::data::noise;
use crate::support::endpoint::{REGION, closed_url};
use crate::support::s3::{Fault, S3Server, any};
use crate::support::sandbox::Sandbox;

/// Time-outs that are over before anybody notices.
fn be_impatient(sandbox: &mut Sandbox) {
    for (name, value) in [
        ("LFS_DELTA_CONNECT_TIMEOUT", "300ms"),
        ("LFS_DELTA_READ_TIMEOUT", "300ms"),
        ("LFS_DELTA_STALL_TIMEOUT", "300ms"),
        ("LFS_DELTA_ATTEMPTS", "2"),
        ("LFS_DELTA_BACKOFF", "5ms"),
    ] {
        sandbox.set(name, value);
    }
}

/// A server, a repository, and the credentials for the server.
fn with_server() -> (S3Server, Sandbox) {
    let server = S3Server::start();
    let mut sandbox = Sandbox::new();
    be_impatient(sandbox.use_s3(&server.endpoint));
    sandbox.init_repo("repo");
    (server, sandbox)
}

/// Runs `init`, which must fail with this code and exit code, and write nothing.
#[track_caller]
fn assert_init_fails(sandbox: &Sandbox, url: &str, code: &str, exit: i32) {
    let ran = sandbox.lfs_delta_fails("repo", &["init", url]);
    assert_eq!(ran.code(), exit, "{ran}");
    let said = ran.stderr();
    assert!(said.starts_with(&format!("error: {code}: ")), "{ran}");
    assert!(said.lines().last().is_some_and(|line| line.starts_with("fix: ")), "{ran}");
    assert!(!said.contains("secret-that-must-never-be-printed"), "{ran}");
    assert!(!sandbox.path("repo/.lfsconfig").exists(), "a setting was written: {ran}");
}

#[test]
fn a_bucket_that_is_not_there_is_named() {
    let (server, sandbox) = with_server();
    let url = server.endpoint.store_url("x").replace("lfs-test", "no-such-bucket");
    assert_init_fails(&sandbox, &url, "E2002", 10);
    assert!(sandbox.lfs_delta_fails("repo", &["init", &url]).stderr().contains("no-such-bucket"));
}

#[test]
fn missing_credentials_are_told_before_anything_is_tried() {
    let (server, mut sandbox) = with_server();
    sandbox.unset("AWS_ACCESS_KEY_ID").unset("AWS_SECRET_ACCESS_KEY");
    assert_init_fails(&sandbox, &server.endpoint.store_url("x"), "E3002", 7);
    assert_eq!(server.calls().len(), 0);
}

#[test]
fn credentials_that_nobody_knows_are_told() {
    let (server, mut sandbox) = with_server();
    sandbox.set("AWS_ACCESS_KEY_ID", "AKIDOFSOMEBODYELSE");
    assert_init_fails(&sandbox, &server.endpoint.store_url("x"), "E3002", 7);
}

#[test]
fn credentials_that_have_expired_are_told() {
    let (server, sandbox) = with_server();
    server.fail(any().forever(), Fault::expired_token());
    assert_init_fails(&sandbox, &server.endpoint.store_url("x"), "E3002", 7);
}

#[test]
fn credentials_without_rights_are_told() {
    let (server, sandbox) = with_server();
    server.fail(any().forever(), Fault::access_denied());
    assert_init_fails(&sandbox, &server.endpoint.store_url("x"), "E3001", 7);
}

#[test]
fn an_endpoint_where_nobody_listens_is_given_up() {
    let mut sandbox = Sandbox::new();
    be_impatient(&mut sandbox);
    sandbox.set("AWS_ACCESS_KEY_ID", "key").set("AWS_SECRET_ACCESS_KEY", "word");
    sandbox.init_repo("repo");
    let url = format!("s3://bucket/x?region={REGION}&endpoint={}&path-style=true", closed_url());
    assert_init_fails(&sandbox, &url, "E4001", 8);
}

#[test]
fn a_server_that_never_answers_is_given_up() {
    let (server, sandbox) = with_server();
    server.fail(any().forever(), Fault::Hang);
    assert_init_fails(&sandbox, &server.endpoint.store_url("x"), "E4001", 8);
    assert_eq!(server.calls().len(), 2, "as many attempts as the setting says");
}

#[test]
fn a_push_without_a_network_fails_and_can_be_repeated() {
    let mut world = World::on_s3();
    be_impatient(&mut world);
    world.install();
    world.repo("repo");
    let oid = world.commit_file("repo", "a.bin", &noise(1, 30_000));
    let url = format!("lfs-delta::s3://lfs-test/store?region={REGION}&endpoint={}", closed_url());
    let refused = world.git_fails("repo", &["-c", &format!("lfs.url={url}"), "push"]);
    refused.says("E4001").says(&oid).says("nothing was lost");
    world.git("repo", &["push", "--quiet"]);
    assert_eq!(world.copies().len(), 1);
}

#[test]
fn a_repository_cannot_send_credentials_to_an_endpoint_nobody_trusts() {
    let mut world = World::on_s3();
    world.install();
    world.repo("repo");
    world.commit_and_push("repo", "a.bin", &noise(1, 30_000));
    world.move_to_bare_machine();
    world.lfs_delta("", &["install"]);
    let refused = world.git_fails("", &["clone", "--quiet", &world.origin_url("repo"), "clone"]);
    refused.says("E1005").says("endpoint 127.0.0.1").says("lfs-delta trust");
    world.lfs_delta("", &["trust", "127.0.0.1"]);
    world.git("clone", &["checkout", "--quiet", "--force", "HEAD"]);
    world.assert_file("clone/a.bin", &noise(1, 30_000));
}

#[test]
fn an_endpoint_that_serves_secrets_is_never_followed() {
    let sandbox = Sandbox::new();
    sandbox.lfs_delta("", &["install", "--trust", "169.254.169.254"]);
    sandbox.init_repo("repo");
    sandbox.track("repo", "*.bin");
    let config = "[lfs]\n\turl = lfs-delta::s3://bucket/x?endpoint=http://169.254.169.254\n";
    sandbox.commit_file("repo", ".lfsconfig", config.as_bytes());
    sandbox.commit_file("repo", "a.bin", &noise(1, 1000));
    sandbox.git_fails("repo", &["push", "origin", "main"]).says("E1006");
}

#[test]
fn a_directory_that_is_no_store_is_not_made_one_by_a_push() {
    let sandbox = Sandbox::new();
    sandbox.lfs_delta("", &["install"]);
    sandbox.init_repo("repo");
    sandbox.track("repo", "*.bin");
    let place = sandbox.path("not-a-store");
    std::fs::create_dir(&place).expect("a folder");
    for (folder, code) in [("not-a-store", "E2001"), ("nowhere", "E2002")] {
        let config = format!("[lfs]\n\turl = lfs-delta::file://{}\n", sandbox.path(folder).display());
        sandbox.commit_file("repo", ".lfsconfig", config.as_bytes());
        sandbox.commit_file("repo", "a.bin", &noise(1, 1000 + folder.len()));
        sandbox.git_fails("repo", &["push", "origin", "main"]).says(code);
    }
    assert_eq!(std::fs::read_dir(place).expect("a folder").count(), 0);
    assert!(!sandbox.path("nowhere").exists());
}

#[test]
fn a_setting_that_cannot_be_is_named_where_it_stands() {
    let mut sandbox = Sandbox::new();
    sandbox.init_repo("repo");
    sandbox.set("LFS_DELTA_READ_TIMEOUT", "soon");
    assert_init_fails(&sandbox, "../store", "E1007", 2);
    let said = sandbox.lfs_delta_fails("repo", &["init", "../store"]);
    said.says("LFS_DELTA_READ_TIMEOUT").says("soon").says("500ms");
    sandbox.unset("LFS_DELTA_READ_TIMEOUT");
    for (key, value) in
        [("cacheSize", "huge"), ("attempts", "-1"), ("effort", "extreme"), ("register", "maybe")]
    {
        let key = format!("lfs-delta.{key}");
        sandbox.git("repo", &["config", &key, value]);
        assert_init_fails(&sandbox, "../store", "E1007", 2);
        sandbox.lfs_delta_fails("repo", &["init", "../store"]).says(&key).says(value);
        sandbox.git("repo", &["config", "--unset", &key]);
    }
    sandbox.lfs_delta("repo", &["init", "../store"]);
}

#[test]
fn a_push_with_a_setting_that_cannot_be_names_it() {
    let mut world = World::in_directory();
    world.install();
    world.repo("repo");
    world.commit_file("repo", "a.bin", &noise(1, 30_000));
    world.set("LFS_DELTA_CACHE_SIZE", "huge");
    world.git_fails("repo", &["push"]).says("E1007").says("LFS_DELTA_CACHE_SIZE");
    assert_eq!(world.copies().len(), 0);
}
