//! What differs from service to service and from team to team: encryption, classes of storage, who pays, who
//! asks, and by which way.

use crate::support::data::{noise, versions};
use crate::support::fake_lfs::FakeLfs;
use crate::support::s3::{AUTHORITY, Call, Calls, Fault, Kind, S3Server, any};
use crate::world::{World, assert_report};

/// The values of a header in calls of one kind that are about objects.
fn values<'c>(calls: &'c Calls, kind: Kind, name: &str) -> Vec<&'c str> {
    let about_objects = |call: &&Call| call.kind == kind && call.key.contains("/objects/");
    calls.iter().filter(about_objects).map(|call| call.header(name).unwrap_or("")).collect()
}

/// Sets git config of machine `a`.
fn set(world: &World, settings: &[(&str, &str)]) {
    for (name, value) in settings {
        world.sandbox.git("a", &["config", &format!("lfs-delta.{name}"), value]);
    }
}

#[test]
fn nothing_special_is_asked_for_where_nothing_is_set() {
    let world = World::on_s3();
    world.pushed(versions(50, 30_000, 2));
    let calls = world.server().take_calls();
    for name in ["x-amz-server-side-encryption", "x-amz-storage-class", "x-amz-request-payer"] {
        assert!(calls.iter().all(|call| call.header(name).is_none()), "{name}");
    }
}

#[test]
fn references_and_deltas_are_kept_as_the_user_says() {
    let world = World::on_s3();
    set(&world, &[("storageClass", "STANDARD_IA"), ("deltaStorageClass", "INTELLIGENT_TIERING")]);
    set(&world, &[("sse", "aws:kms"), ("sseKmsKeyId", "key-1"), ("tags", "team=game&cost=art/2")]);
    world.pushed(versions(51, 30_000, 2));
    let (large, _) = world.local(noise(52, 1 << 20).repeat(65));
    world.push(&large);
    let calls = world.server().take_calls();
    assert_eq!(values(&calls, Kind::Put, "x-amz-storage-class"), ["STANDARD_IA", "INTELLIGENT_TIERING"]);
    assert_eq!(values(&calls, Kind::BeginUpload, "x-amz-storage-class"), ["STANDARD_IA"]);
    for kind in [Kind::Put, Kind::BeginUpload] {
        for (name, wanted) in [("", "aws:kms"), ("-aws-kms-key-id", "key-1")] {
            let found = values(&calls, kind, &format!("x-amz-server-side-encryption{name}"));
            assert!(!found.is_empty() && found.iter().all(|value| *value == wanted), "{found:?}");
        }
    }
    for kind in [Kind::Put, Kind::BeginUpload] {
        let tags = values(&calls, kind, "x-amz-tagging");
        assert!(!tags.is_empty() && tags.iter().all(|tags| *tags == "team=game&cost=art%2F2"), "{tags:?}");
    }
    // The other small files are encrypted too, and have neither class nor tags.
    let others: Vec<_> =
        calls.of(Kind::Put).0.into_iter().filter(|call| !call.key.contains("/objects/")).collect();
    assert!(!others.is_empty());
    for call in others {
        assert!(call.header("x-amz-server-side-encryption").is_some(), "{call}");
        assert_eq!(call.header("x-amz-storage-class"), None, "{call}");
        assert_eq!(call.header("x-amz-tagging"), None, "{call}");
    }
}

#[test]
fn who_asks_pays_for_every_request_once_the_user_says_so() {
    let world = World::on_s3();
    set(&world, &[("requesterPays", "true")]);
    let (object, _) = world.local(noise(53, 1 << 20).repeat(65));
    world.push(&object);
    world.add_machine("b");
    world.sandbox.git("b", &["config", "lfs-delta.requesterPays", "true"]);
    world.pull("b", &object);
    let calls = world.server().take_calls();
    assert!(calls.len() > 10);
    for call in calls.iter() {
        assert_eq!(call.header("x-amz-request-payer"), Some("requester"), "{call}");
    }
}

#[test]
fn a_repository_cannot_choose_encryption_class_or_payer() {
    let world = World::on_s3();
    let config = "[lfs-delta]\n\trequesterPays = true\n\tsse = AES256\n\tstorageClass = STANDARD_IA\n\
                  \tprofile = admin\n\tcaFile = /nonexistent\n";
    world.sandbox.write("a/.lfsconfig", config);
    let (object, _) = world.local("bytes");
    world.push(&object);
    for name in ["x-amz-server-side-encryption", "x-amz-storage-class", "x-amz-request-payer"] {
        assert!(world.server().calls().iter().all(|call| call.header(name).is_none()), "{name}");
    }
}

#[test]
fn wishes_that_cannot_work_are_said_before_anything_is_sent() {
    for (name, value) in [
        ("sse", "rot13"),
        ("storageClass", "DEEP_ARCHIVE"),
        ("deltaStorageClass", "glacier"),
        ("requesterPays", "maybe"),
        ("tags", "team"),
        ("caFile", "/nonexistent/ca.pem"),
    ] {
        let world = World::on_s3();
        set(&world, &[(name, value)]);
        let (object, _) = world.local("bytes");
        assert_report(&world.upload(&object).failed(), "E1007", &[name, value]);
        world.server().expect_calls("");
    }
    let world = World::on_s3();
    set(&world, &[("sse", "AES256"), ("sseKmsKeyId", "key-1")]);
    let (object, _) = world.local("bytes");
    assert_report(&world.upload(&object).failed(), "E1007", &["sseKmsKeyId", "aws:kms"]);
}

#[test]
fn credentials_may_come_from_a_profile_that_is_named() {
    let mut world = World::on_s3();
    let (object, _) = world.local("bytes");
    let endpoint = world.server().endpoint.clone();
    world.sandbox.unset("AWS_ACCESS_KEY_ID").unset("AWS_SECRET_ACCESS_KEY");
    let (key, secret) = (endpoint.access_key, endpoint.secret_key);
    let file = format!("[team]\naws_access_key_id = {key}\naws_secret_access_key = {secret}\n");
    world.sandbox.write("home/.aws/credentials", file);
    assert_report(&world.upload(&object).failed(), "E3002", &[&object.oid]);
    set(&world, &[("profile", "team")]);
    world.push(&object);
}

#[test]
fn credentials_may_come_from_a_profile_that_the_classic_set_up_names() {
    let mut world = World::on_s3();
    let (object, path) = world.local("bytes");
    let endpoint = world.server().endpoint.clone();
    world.sandbox.unset("AWS_ACCESS_KEY_ID").unset("AWS_SECRET_ACCESS_KEY");
    let (key, secret) = (endpoint.access_key, endpoint.secret_key);
    let file = format!("[team]\naws_access_key_id = {key}\naws_secret_access_key = {secret}\n");
    world.sandbox.write("home/.aws/credentials", file);
    let mut command = world.agent_command("a");
    command.args(["--profile", "team"]);
    let mut agent = FakeLfs::spawn(command).accepted("upload");
    agent.upload(&object.oid, object.size(), &path).succeeded();
    agent.terminate();
}

#[test]
fn a_profile_named_to_init_is_used_and_kept_for_this_clone_alone() {
    let mut world = World::on_s3();
    let endpoint = world.server().endpoint.clone();
    world.sandbox.unset("AWS_ACCESS_KEY_ID").unset("AWS_SECRET_ACCESS_KEY");
    let (key, secret) = (endpoint.access_key, endpoint.secret_key);
    let file = format!("[team]\naws_access_key_id = {key}\naws_secret_access_key = {secret}\n");
    world.sandbox.write("home/.aws/credentials", file);
    world.sandbox.lfs_delta("a", &["init", "--profile", "team", &world.url.clone()]);
    let kept = world.sandbox.git("a", &["config", "--local", "lfs-delta.profile"]).stdout();
    assert_eq!(kept, "team");
    let committed = std::fs::read_to_string(world.sandbox.path("a/.lfsconfig")).expect("a file");
    assert!(!committed.contains("team\n"), "a profile is nobody else's business: {committed}");
    let (object, _) = world.local("bytes");
    world.push(&object);
}

#[test]
fn requests_go_by_the_proxy_of_the_environment() {
    let mut world = World::on_s3();
    let port = world.server().endpoint.url.clone();
    world.url = world.url.replace(&port, "http://s3.example.invalid");
    let (object, _) = world.local(noise(54, 20_000));
    world.sandbox.set("HTTP_PROXY", &port);
    world.push(&object);
    let call = world.server().calls().0.pop().expect("a call");
    assert_eq!(call.header("host"), Some("s3.example.invalid"));
    world.sandbox.set("NO_PROXY", "example.invalid");
    let (other, _) = world.local(noise(55, 20_000));
    world.sandbox.set("LFS_DELTA_ATTEMPTS", "1");
    assert_report(&world.upload(&other).failed(), "E4001", &["s3.example.invalid"]);
}

#[test]
fn a_service_that_refuses_the_bucket_in_the_path_is_asked_with_it_in_the_host_name() {
    for code in ["SecondLevelDomainForbidden", "VirtualHostDomainRequired"] {
        let domain = "s3.example.invalid";
        let mut world = World::on_server(S3Server::start_with_domain(domain));
        let proxy = world.server().endpoint.url.clone();
        world.sandbox.set("HTTP_PROXY", proxy);
        world.url = format!("s3://lfs-test/team/game?region=us-east-1&endpoint=http://{domain}");
        world.server().fail(any(), Fault::status(403, code));
        let (object, _) = world.local(noise(63, 20_000));
        world.push(&object);
        let calls = world.server().take_calls();
        let hosts: Vec<_> = calls.iter().map(|call| call.header("host").unwrap_or_default()).collect();
        assert_eq!(hosts[0], domain, "{calls}");
        assert!(hosts[1..].iter().all(|host| *host == format!("lfs-test.{domain}")), "{hosts:?}");
        // What the user says stands.
        world.url.push_str("&path-style=true");
        world.server().fail(any(), Fault::status(403, code));
        let (other, _) = world.local(noise(64, 20_000));
        assert_report(&world.upload(&other).failed(), "E2005", &[&other.oid, "path-style", code]);
    }
}

#[test]
fn a_service_may_have_an_address_of_ipv6() {
    let world = World::on_server(S3Server::start_v6());
    assert!(world.url.contains("[::1]"), "{}", world.url);
    let (object, _) = world.local(noise(65, 20_000));
    world.push(&object);
    world.add_machine("b");
    world.pull("b", &object);
}

#[test]
fn a_cloud_machine_asks_itself_and_no_proxy_for_credentials() {
    let mut world = World::on_s3();
    let (object, _) = world.local(noise(66, 20_000));
    world.push(&object);
    world.server().make_public();
    world
        .sandbox
        .unset("AWS_ACCESS_KEY_ID")
        .unset("AWS_SECRET_ACCESS_KEY")
        .unset("AWS_EC2_METADATA_DISABLED");
    let metadata = S3Server::start();
    world.sandbox.set("AWS_EC2_METADATA_SERVICE_ENDPOINT", &metadata.endpoint.url);
    let proxy = S3Server::start();
    world.sandbox.set("HTTP_PROXY", &proxy.endpoint.url);
    let host = world.server().endpoint.url.clone();
    world.add_machine("b");
    let message = world.download("b", &object).expect_err("a proxy that is none");
    assert!(message.contains(&object.oid), "{message} from {host}");
    assert!(!metadata.calls().is_empty(), "the machine was not asked");
    let asked: Vec<_> = proxy.calls().iter().map(ToString::to_string).collect();
    assert!(!asked.iter().any(|call| call.contains("latest")), "{asked:?}");
}

#[test]
fn a_service_of_ones_own_authority_is_trusted_once_its_certificate_is_named() {
    for variable in ["LFS_DELTA_CA_FILE", "AWS_CA_BUNDLE"] {
        let mut world = World::on_server(S3Server::start_tls());
        let (object, _) = world.local(noise(56, 20_000));
        world.sandbox.set("LFS_DELTA_ATTEMPTS", "1");
        assert_report(&world.upload(&object).failed(), "E4001", &["certificate"]);
        world.server().expect_calls("");
        let file = world.sandbox.write("ca.pem", AUTHORITY);
        world.sandbox.set(variable, file);
        world.push(&object);
        world.add_machine("b");
        world.pull("b", &object);
    }
}

#[test]
fn a_public_store_can_be_read_without_credentials() {
    let mut world = World::on_s3();
    let (object, _) = world.local(noise(57, 20_000));
    world.push(&object);
    world.server().make_public();
    world.sandbox.unset("AWS_ACCESS_KEY_ID").unset("AWS_SECRET_ACCESS_KEY");
    world.add_machine("b");
    world.server().take_calls();
    world.pull("b", &object);
    let calls = world.server().take_calls();
    assert!(calls.iter().all(|call| call.header("authorization").is_none()), "{calls}");
    // To write is another matter, and what is missing is said.
    let (other, _) = world.local(noise(58, 20_000));
    assert_report(&world.upload(&other).failed(), "E3002", &[&other.oid, "no credentials"]);
}

#[test]
fn credentials_are_not_sent_where_the_user_wants_to_be_nobody() {
    let world = World::on_s3();
    let (object, _) = world.local(noise(59, 20_000));
    world.push(&object);
    world.server().make_public();
    world.add_machine("b");
    world.sandbox.git("b", &["config", "lfs-delta.anonymous", "true"]);
    world.server().take_calls();
    world.pull("b", &object);
    let calls = world.server().take_calls();
    assert!(calls.iter().all(|call| call.header("authorization").is_none()), "{calls}");
}

/// A world whose store's URL says nothing of the service: it is that of the environment, as AWS itself is.
fn on_the_default_service() -> World {
    let mut world = World::on_s3();
    let endpoint = world.server().endpoint.clone();
    world.sandbox.use_s3_as_default(&endpoint).unset("AWS_REGION");
    world.url = format!("s3://{}/team/game", endpoint.bucket);
    world
}

#[test]
fn the_region_of_a_bucket_is_found_where_none_is_set() {
    let world = on_the_default_service();
    world.server().be_in("eu-west-3");
    let (object, _) = world.local(noise(60, 20_000));
    world.push(&object);
    let calls = world.server().take_calls();
    assert_eq!(calls.count(Kind::HeadBucket), 1, "{calls}");
    for call in calls.iter().filter(|call| call.kind != Kind::HeadBucket) {
        let signed = call.header("authorization").unwrap_or_default();
        assert!(signed.contains("/eu-west-3/s3/"), "{call}: {signed}");
    }
    assert_eq!(calls[0].header("authorization"), None, "credentials went out before it was known where to");
}

#[test]
fn a_region_that_is_set_is_not_asked_for() {
    for place in ["url", "environment"] {
        let mut world = on_the_default_service();
        match place {
            "url" => world.url.push_str("?region=us-east-1"),
            _ => drop(world.sandbox.set("AWS_REGION", "us-east-1")),
        }
        let (object, _) = world.local(noise(61, 20_000));
        world.push(&object);
        assert_eq!(world.server().calls().count(Kind::HeadBucket), 0, "{place}");
    }
}

#[test]
fn a_service_that_does_not_say_where_the_bucket_is_leaves_it_to_the_user() {
    let world = on_the_default_service();
    let (object, _) = world.local(noise(62, 20_000));
    assert_report(&world.upload(&object).failed(), "E2005", &["region", "AWS_REGION"]);
}
