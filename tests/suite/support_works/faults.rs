//! The planned faults and the modes of the in-process S3 server.

use std::time::{Duration, Instant};

use super::{BUCKET, assert_breaks_at, begin, code, complete, get, one_attempt, part, put, put_new};
use crate::support::data::noise;
use crate::support::endpoint::{block_on, closed_url};
use crate::support::s3::{Fault, Kind, S3Server, any, on, on_verb};

#[test]
fn an_append_only_server_refuses_delete_and_overwrite_but_not_the_same_bytes_again() {
    let server = S3Server::start();
    let client = server.endpoint.client();
    server.put_raw("k", "first");
    server.refuse_delete_and_overwrite();
    block_on(async {
        assert_eq!(put(&client, "k", b"other").await, "AccessDenied");
        assert_eq!(put(&client, "k", b"first").await, "ok");
        assert_eq!(put(&client, "new", b"new").await, "ok");
        let delete = client.delete_object().bucket(BUCKET).key("k").send().await;
        assert_eq!(code(delete), "AccessDenied");
    });
    assert_eq!(server.refused(), ["PUT k", "DELETE k"]);
    assert_eq!(server.keys(""), ["k", "new"]);
}

#[test]
fn a_server_can_ignore_conditions_as_some_stores_do() {
    let server = S3Server::start();
    let client = server.endpoint.client();
    block_on(async {
        assert_eq!(put_new(&client, "k", b"first").await, "ok");
        assert_eq!(put_new(&client, "k", b"second").await, "PreconditionFailed");
        server.ignore_conditions();
        assert_eq!(put_new(&client, "k", b"third").await, "ok");
    });
    assert_eq!(server.get_raw("k").as_deref(), Some(&b"third"[..]));
}

#[test]
fn faults_answer_with_their_status_and_do_no_work() {
    let server = S3Server::start();
    let client = one_attempt(&server);
    let answers = [
        (Fault::internal_error(), 500, "InternalError"),
        (Fault::slow_down(), 503, "SlowDown"),
        (Fault::too_many_requests(1), 429, "TooManyRequests"),
        (Fault::expired_token(), 403, "ExpiredToken"),
        (Fault::access_denied(), 403, "AccessDenied"),
        (Fault::conflict(), 409, "ConditionalRequestConflict"),
        (Fault::Html404, 404, "no code"),
        (Fault::Redirect(closed_url()), 307, "TemporaryRedirect"),
    ];
    for (fault, status, expected) in answers {
        server.fail(any(), fault);
        assert_eq!(block_on(put(&client, "k", &noise(3, 100_000))), expected);
        let calls = server.take_calls();
        assert_eq!((calls.len(), calls[0].status), (1, status), "{calls}");
    }
    assert!(server.objects().is_empty());
}

#[test]
fn the_sdk_survives_what_it_retries() {
    let server = S3Server::start();
    let client = server.endpoint.client();
    server.fail(on(Kind::Put).times(2), Fault::slow_down());
    assert_eq!(block_on(put(&client, "k", b"x")), "ok");
    server.expect_calls("3 Put");
    assert_eq!(server.heal(), 2);
}

#[test]
fn a_reset_before_the_work_leaves_nothing_and_one_after_it_loses_only_the_answer() {
    let server = S3Server::start();
    let client = one_attempt(&server);
    server.fail(any(), Fault::ResetBefore);
    assert_ne!(block_on(put(&client, "before", b"x")), "ok");
    server.fail(any(), Fault::ResetInUpload(50_000));
    assert_ne!(block_on(put(&client, "in", &noise(4, 1_000_000))), "ok");
    server.fail(any(), Fault::ResetAfter);
    assert_ne!(block_on(put(&client, "after", b"x")), "ok");
    assert_eq!(server.keys(""), ["after"]);
    assert!(server.calls().iter().all(|call| call.status == 0), "{}", server.calls());
}

#[test]
fn a_lost_answer_to_a_conditional_put_meets_its_own_object() {
    let server = S3Server::start();
    server.fail(on(Kind::Put), Fault::ResetAfter);
    let answer = block_on(put_new(&server.endpoint.client(), "k", b"x"));
    assert_eq!(answer, "PreconditionFailed");
    assert_eq!(server.calls().summary(), "2 Put");
}

#[test]
fn a_hanging_request_waits_until_it_is_released() {
    let server = S3Server::start();
    let client = server.endpoint.client();
    server.fail(on(Kind::Put), Fault::Hang);
    let answer = std::thread::scope(|scope| {
        let writer = scope.spawn(|| block_on(put(&client, "k", b"x")));
        server.wait_for(|calls| calls.count(Kind::Put) == 1);
        assert!(server.objects().is_empty());
        server.release();
        writer.join().expect("a writer")
    });
    assert_eq!(answer, "ok");
    server.fail(on(Kind::Get), Fault::Hang);
    let impatient = server.endpoint.impatient_client(Duration::from_millis(100));
    assert_eq!(block_on(get(&impatient, "k")), Err("timeout".to_owned()));
}

#[test]
fn a_delayed_answer_comes_late() {
    let server = S3Server::start();
    server.fail(any(), Fault::Delay(Duration::from_millis(60)));
    let started = Instant::now();
    assert_eq!(block_on(put(&server.endpoint.client(), "k", b"x")), "ok");
    assert!(started.elapsed() >= Duration::from_millis(60));
}

#[test]
fn a_body_is_cut_stalled_or_flipped_at_its_offset_exactly() {
    let server = S3Server::start();
    server.put_raw("k", noise(5, 3_000_000));
    let client = one_attempt(&server);
    server.fail(any(), Fault::CutBody(1_000_001));
    block_on(assert_breaks_at(&client, "k", 1_000_001));
    assert_eq!(server.take_calls().bytes_out(), 1_000_001);
    server.fail(any(), Fault::CutBody(0));
    block_on(assert_breaks_at(&client, "k", 0));
    server.fail(any(), Fault::StallBody(1_000_001));
    block_on(assert_breaks_at(&client, "k", 1_000_001));
    server.fail(any(), Fault::FlipByte(1_000_001));
    let mut flipped = noise(5, 3_000_000);
    flipped[1_000_001] ^= 1;
    assert_eq!(block_on(get(&client, "k")), Ok(flipped));
    assert_eq!(block_on(get(&client, "k")), Ok(noise(5, 3_000_000)));
}

#[test]
fn an_answer_of_200_may_hold_an_error() {
    let server = S3Server::start();
    server.allow_parts_of(1);
    let client = one_attempt(&server);
    let answer = block_on(async {
        let id = begin(&client, "k").await;
        let parts = vec![part(&client, "k", &id, 1, vec![1; 10]).await];
        server.fail(on(Kind::CompleteUpload), Fault::ErrorIn200);
        complete(&client, "k", &id, parts).await
    });
    assert_eq!(answer, "InternalError");
    assert_eq!(server.calls().of(Kind::CompleteUpload)[0].status, 200);
    assert!(server.objects().is_empty());
}

#[test]
fn rules_take_requests_by_kind_verb_key_and_number() {
    let server = S3Server::start();
    let client = one_attempt(&server);
    server.fail(on(Kind::Put).key("b/").nth(2), Fault::slow_down());
    server.fail(on_verb("PUT").key("b/"), Fault::internal_error());
    server.fail(on(Kind::List).key("pre/fix").forever(), Fault::access_denied());
    block_on(async {
        let mut answers = Vec::new();
        for key in ["a/1", "b/1", "a/2", "b/2", "b/3"] {
            answers.push(put(&client, key, b"x").await);
        }
        // The first b/ is counted by the first rule, is not due there, and taken by the second.
        assert_eq!(answers, ["ok", "InternalError", "ok", "SlowDown", "ok"]);
        for _ in 0..3 {
            let list = client.list_objects_v2().bucket(BUCKET).prefix("pre/fix").send().await;
            assert_eq!(code(list), "AccessDenied");
        }
    });
    assert_eq!(server.heal(), 5);
}
