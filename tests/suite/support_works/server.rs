//! The in-process S3 server: what it stores, answers, refuses and counts.

use aws_sdk_s3::primitives::ByteStream;
use aws_sdk_s3::types::{ChecksumAlgorithm, CompletedPart};
use base64::prelude::{BASE64_STANDARD, Engine as _};
use sha2::{Digest as _, Sha256};

use super::{BUCKET, assert_one_winner, begin, code, complete, get, part, put};
use crate::support::data::noise;
use crate::support::endpoint::block_on;
use crate::support::s3::{Kind, S3Server};

#[test]
fn server_keeps_what_the_sdk_puts_and_counts_each_call() {
    let server = S3Server::start();
    let client = server.endpoint.client();
    block_on(async {
        let bytes = noise(1, 100_000);
        assert_eq!(put(&client, "a/odd key + % ü//x", &bytes).await, "ok");
        assert_eq!(get(&client, "a/odd key + % ü//x").await, Ok(bytes));
        client.head_object().bucket(BUCKET).key("a/odd key + % ü//x").send().await.expect("a head");
        client.list_objects_v2().bucket(BUCKET).prefix("a/").send().await.expect("a list");
        client.delete_object().bucket(BUCKET).key("a/odd key + % ü//x").send().await.expect("gone");
    });
    let calls = server.take_calls();
    assert_eq!(calls.summary(), "1 List, 1 Get, 1 Head, 1 Put, 1 Delete");
    assert_eq!(calls.of(Kind::Get)[0].bytes_out, 100_000);
    assert_eq!(calls.of(Kind::Get)[0].key, "a/odd key + % ü//x");
    assert!(calls.of(Kind::Put)[0].bytes_in >= 100_000);
    assert!(calls.iter().all(|call| call.status / 100 == 2), "{calls}");
    assert_eq!(server.calls().summary(), "");
    assert!(server.objects().is_empty());
}

#[test]
fn server_answers_as_s3_does_what_is_missing_or_not_allowed() {
    let server = S3Server::start();
    let client = server.endpoint.client();
    let with_keys = |access: &str, secret: &str| {
        let mut endpoint = server.endpoint.clone();
        (endpoint.access_key, endpoint.secret_key) = (access.to_owned(), secret.to_owned());
        endpoint.client()
    };
    let endpoint = &server.endpoint;
    let stranger = with_keys("AKIDSTRANGER", &endpoint.secret_key);
    let wrong_secret = with_keys(&endpoint.access_key, "wrong");
    block_on(async {
        assert_eq!(get(&client, "none").await, Err("NoSuchKey".to_owned()));
        let elsewhere = client.get_object().bucket("no-such-bucket").key("k").send().await;
        assert_eq!(code(elsewhere), "NoSuchBucket");
        let elsewhere = client.list_objects_v2().bucket("no-such-bucket").send().await;
        assert_eq!(code(elsewhere), "NoSuchBucket");
        assert_eq!(put(&stranger, "k", b"x").await, "InvalidAccessKeyId");
        assert_eq!(put(&wrong_secret, "k", b"x").await, "SignatureDoesNotMatch");
    });
    let statuses: Vec<u16> = server.calls().iter().map(|call| call.status).collect();
    assert_eq!(statuses, [404, 404, 404, 403, 403]);
    assert!(server.objects().is_empty());
}

#[test]
fn listing_pages_rolls_up_and_resumes_behind_a_key() {
    let server = S3Server::start();
    for number in 0..25 {
        server.put_raw(&format!("p/{number:02}/x"), "x");
        server.put_raw(&format!("p/{number:02}/y"), "y");
    }
    server.put_raw("p/z", "z");
    server.put_raw("q", "q");
    server.list_in_pages_of(7);
    let client = server.endpoint.client();
    let (keys, prefixes, behind) = block_on(async {
        let list = || client.list_objects_v2().bucket(BUCKET);
        let mut keys = Vec::new();
        let mut pages = list().prefix("p/").into_paginator().send();
        while let Some(page) = pages.next().await {
            keys.extend(page.expect("a page").contents().iter().map(|o| o.key().unwrap().to_owned()));
        }
        let mut prefixes = Vec::new();
        let mut pages = list().prefix("p/").delimiter("/").into_paginator().send();
        while let Some(page) = pages.next().await {
            let page = page.expect("a page");
            prefixes.extend(page.common_prefixes().iter().map(|p| p.prefix().unwrap().to_owned()));
            prefixes.extend(page.contents().iter().map(|o| o.key().unwrap().to_owned()));
        }
        let behind = list().prefix("p/").start_after("p/24/x").send().await.expect("a page");
        (keys, prefixes, behind)
    });
    assert_eq!(keys, server.keys("p/"));
    assert_eq!(prefixes.len(), 26);
    assert_eq!((prefixes[0].as_str(), prefixes[25].as_str()), ("p/00/", "p/z"));
    let behind: Vec<_> = behind.contents().iter().map(|o| o.key().unwrap()).collect();
    assert_eq!(behind, ["p/24/y", "p/z"]);
    assert_eq!(server.calls().count(Kind::List), 8 + 4 + 1);
}

#[test]
fn ranges_and_read_conditions_hold() {
    let server = S3Server::start();
    server.put_raw("k", "0123456789");
    let client = server.endpoint.client();
    block_on(async {
        let read = || client.get_object().bucket(BUCKET).key("k");
        let part = read().range("bytes=3-5").send().await.expect("a part");
        assert_eq!(part.content_range(), Some("bytes 3-5/10"));
        let etag = part.e_tag().expect("an etag").to_owned();
        assert_eq!(part.body.collect().await.expect("a body").to_vec(), b"345");
        let rest = read().range("bytes=8-").if_match(&etag).send().await.expect("the rest");
        assert_eq!(rest.body.collect().await.expect("a body").to_vec(), b"89");
        assert_eq!(code(read().range("bytes=10-").send().await), "InvalidRange");
        server.put_raw("k", "changed");
        assert_eq!(code(read().range("bytes=3-").if_match(&etag).send().await), "PreconditionFailed");
    });
}

#[test]
fn a_body_with_a_wrong_checksum_is_refused_and_leaves_nothing() {
    let server = S3Server::start();
    let client = server.endpoint.client();
    let body = || ByteStream::from_static(b"the body");
    let sum = |length: usize| BASE64_STANDARD.encode(vec![7u8; length]);
    block_on(async {
        let put = || client.put_object().bucket(BUCKET).key("k").body(body());
        assert_eq!(code(put().checksum_sha256(sum(32)).send().await), "BadDigest");
        assert_eq!(code(put().checksum_sha1(sum(20)).send().await), "BadDigest");
        assert_eq!(code(put().checksum_crc32(sum(4)).send().await), "BadDigest");
        assert_eq!(code(put().checksum_crc32_c(sum(4)).send().await), "BadDigest");
        assert_eq!(code(put().checksum_crc64_nvme(sum(8)).send().await), "BadDigest");
        assert_eq!(code(put().content_md5(sum(16)).send().await), "BadDigest");
        assert!(server.objects().is_empty());
        let right = BASE64_STANDARD.encode(Sha256::digest(b"the body"));
        assert_eq!(code(put().checksum_sha256(right).send().await), "ok");
        assert_eq!(server.get_raw("k").as_deref(), Some(&b"the body"[..]));
    });
}

#[test]
fn every_checksum_that_the_sdk_computes_is_accepted_in_headers_and_trailers() {
    let server = S3Server::start();
    let client = server.endpoint.client();
    let file = tempfile::NamedTempFile::new().expect("a file");
    std::fs::write(file.path(), noise(2, 300_000)).expect("bytes");
    block_on(async {
        for algorithm in ["CRC32", "CRC32C", "CRC64NVME", "SHA1", "SHA256"] {
            let algorithm = ChecksumAlgorithm::from(algorithm);
            let put = || client.put_object().bucket(BUCKET).checksum_algorithm(algorithm.clone());
            let memory = put().key(format!("m/{algorithm}")).body(noise(2, 300_000).into());
            assert_eq!(code(memory.send().await), "ok", "{algorithm}");
            let stream = ByteStream::from_path(file.path()).await.expect("a stream");
            let stream = put().key(format!("s/{algorithm}")).body(stream);
            assert_eq!(code(stream.send().await), "ok", "{algorithm}");
            assert_eq!(get(&client, &format!("s/{algorithm}")).await, Ok(noise(2, 300_000)));
        }
    });
    let trailers = server.calls().iter().filter(|call| call.header("x-amz-trailer").is_some()).count();
    assert!(trailers >= 5, "the streams were to use trailers: {}", server.calls());
}

#[test]
fn of_twenty_conditional_puts_one_wins() {
    let server = S3Server::start();
    assert_one_winner(&server.endpoint.client(), "race");
}

#[test]
fn multipart_uploads_join_list_refuse_and_abort() {
    let server = S3Server::start();
    let client = server.endpoint.client();
    block_on(async {
        let id = begin(&client, "big").await;
        let first = part(&client, "big", &id, 1, vec![1; 5 << 20]).await;
        let small = part(&client, "big", &id, 2, vec![2; 10]).await;
        let last = part(&client, "big", &id, 3, vec![3; 10]).await;
        assert_eq!(
            complete(&client, "big", &id, vec![first.clone(), small, last.clone()]).await,
            "EntityTooSmall"
        );
        assert_eq!(
            complete(&client, "big", &id, vec![last.clone(), first.clone()]).await,
            "InvalidPartOrder"
        );
        let forged = CompletedPart::builder().part_number(1).e_tag("0123").build();
        assert_eq!(complete(&client, "big", &id, vec![forged]).await, "InvalidPart");
        let parts = client.list_parts().bucket(BUCKET).key("big").upload_id(&id).send().await;
        assert_eq!(parts.expect("parts").parts().len(), 3);
        let uploads = client.list_multipart_uploads().bucket(BUCKET).send().await;
        assert_eq!(uploads.expect("uploads").uploads().len(), 1);
        assert_eq!(complete(&client, "big", &id, vec![first, last]).await, "ok");
        assert_eq!(server.get_raw("big").map(|bytes| bytes.len()), Some((5 << 20) + 10));

        let id = begin(&client, "gone").await;
        let abort = || client.abort_multipart_upload().bucket(BUCKET).key("gone").upload_id(&id);
        assert_eq!(server.open_uploads(), ["gone"]);
        assert_eq!(code(abort().send().await), "ok");
        assert_eq!(code(abort().send().await), "NoSuchUpload");
        assert!(server.open_uploads().is_empty());
    });
    assert_eq!(server.calls().count(Kind::PutPart), 3);
    assert_eq!(server.calls().count(Kind::CompleteUpload), 4);
}

#[test]
fn stored_bytes_can_be_replaced_removed_and_damaged_behind_the_clients_back() {
    let server = S3Server::start();
    let client = server.endpoint.client();
    block_on(async {
        put(&client, "k", b"0123456789").await;
        server.flip_byte("k", 3);
        assert_eq!(get(&client, "k").await, Err("body".to_owned()), "the SDK checks the CRC32");
        assert_eq!(get(&server.endpoint.plain_client(), "k").await, Ok(b"0122456789".to_vec()));
        server.truncate("k", 4);
        assert_eq!(get(&server.endpoint.plain_client(), "k").await, Ok(b"0122".to_vec()));
        server.put_raw("k", "new");
        assert_eq!(get(&client, "k").await, Ok(b"new".to_vec()));
        assert_eq!(server.stored_bytes(""), 3);
        assert!(server.delete_raw("k"));
        assert_eq!(get(&client, "k").await, Err("NoSuchKey".to_owned()));
    });
}
