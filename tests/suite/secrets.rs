//! Secrets stay secret, whatever is logged, and strangers' texts do nothing to a terminal.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use crate::support::data::noise;
use crate::support::s3::{Fault, Kind, on};
use crate::support::sandbox::files_below;
use crate::world::{World, assert_report};

const TOKEN: &str = "canary-token-that-must-never-be-printed";

#[test]
fn no_secret_is_written_anywhere_however_much_is_logged() {
    for filter in ["trace", "trace,aws_smithy_runtime=trace,hyper=trace", "lfs_delta=trace,aws_sdk_s3=debug"]
    {
        let mut world = World::on_s3();
        let secret = world.server().endpoint.secret_key.clone();
        world.sandbox.set("LFS_DELTA_LOG", filter).set("RUST_LOG", "trace").set("AWS_SESSION_TOKEN", TOKEN);
        let (object, _) = world.local(noise(100, 20_000));
        world.server().fail(on(Kind::Put).key("objects/"), Fault::access_denied());
        let mut said = world.upload(&object).failed();
        world.push(&object);
        world.add_machine("b");
        world.pull("b", &object);
        world.server().fail(on(Kind::List).forever(), Fault::expired_token());
        said.push_str(&world.download("b", &crate::world::Object::new("other")).expect_err("a failure"));
        let written = files_below(world.sandbox.root());
        let logs = written.keys().filter(|path| path.extension().is_some_and(|end| end == "log")).count();
        assert!(logs > 3, "only {logs} log files");
        let stored = world.server().objects();
        for secret in [secret.as_str(), TOKEN, "user:password"] {
            assert!(!said.contains(secret), "{filter}: {secret} in a message");
            let has = |bytes: &[u8]| bytes.windows(secret.len()).any(|part| part == secret.as_bytes());
            for (path, _) in written.iter().filter(|(_, bytes)| has(bytes)) {
                assert!(path.ends_with(".git/config"), "{filter}: {secret} in {}", path.display());
            }
            assert!(!stored.values().any(|bytes| has(bytes)), "{filter}: {secret} in the store");
        }
    }
}

#[test]
fn folders_of_logs_and_cache_are_for_their_owner_alone() {
    let world = World::on_directory();
    let (object, _) = world.local(noise(101, 20_000));
    world.push(&object);
    for place in ["home/.local/state/lfs-delta/logs", "cache-a"] {
        let mode = fs::metadata(world.sandbox.path(place)).expect("a folder").permissions().mode();
        assert_eq!(mode & 0o777, 0o700, "{place}");
    }
}

#[test]
fn what_a_service_says_does_nothing_to_a_terminal() {
    let escapes = "&#27;]0;owned&#7;&#27;[2J\u{9b}31m\u{202e}";
    for (status, code) in [(403, "E3001"), (400, "E4001")] {
        let world = World::on_s3();
        let body = format!("<Error><Code>Odd{escapes}</Code><Message>{escapes}</Message></Error>");
        world.server().fail(on(Kind::List).forever(), Fault::Answer(status, body));
        let (object, _) = world.local("bytes");
        let message = world.upload(&object).failed();
        assert_report(&message, code, &[&object.oid]);
        let is_plain = |c: char| c == '\n' || !(c.is_control() || ('\u{202a}'..='\u{202e}').contains(&c));
        assert!(message.chars().all(is_plain), "{message:?}");
    }
}

#[test]
fn a_service_that_sends_to_the_secrets_of_the_machine_is_not_followed() {
    let world = World::on_s3();
    for place in ["http://169.254.169.254/latest/meta-data/", "http://[fd00:ec2::254]/", "file:///etc/passwd"]
    {
        world.server().fail(on(Kind::List).forever(), Fault::Redirect(place.into()));
        let (object, _) = world.local("bytes");
        assert_report(&world.upload(&object).failed(), "E2005", &[&object.oid]);
        assert_eq!(world.server().take_calls().len(), 1, "{place}: asked again");
        world.server().heal();
    }
}
