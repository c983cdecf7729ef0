//! Proves that the harness does what its documentation says.

mod engine;
mod faults;
mod sandbox;
mod server;

use std::time::Duration;

use aws_sdk_s3::Client;
use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_s3::operation::get_object::GetObjectError;
use aws_sdk_s3::types::{CompletedMultipartUpload, CompletedPart};

use crate::support::endpoint::block_on;
use crate::support::s3::S3Server;

const BUCKET: &str = "lfs-test";

/// What a failed call was answered: the S3 code, or the kind of failure if there was no answer.
fn code<T, E: ProvideErrorMetadata>(result: Result<T, SdkError<E>>) -> String {
    match result {
        Ok(_) => "ok".to_owned(),
        Err(SdkError::ServiceError(error)) => error.err().code().unwrap_or("no code").to_owned(),
        Err(SdkError::TimeoutError(_)) => "timeout".to_owned(),
        Err(SdkError::DispatchFailure(failure)) if failure.is_timeout() => "timeout".to_owned(),
        Err(SdkError::DispatchFailure(_)) => "no connection".to_owned(),
        Err(SdkError::ResponseError(_)) => "bad answer".to_owned(),
        Err(_) => "other".to_owned(),
    }
}

async fn put(client: &Client, key: &str, bytes: &[u8]) -> String {
    code(client.put_object().bucket(BUCKET).key(key).body(bytes.to_vec().into()).send().await)
}

async fn put_new(client: &Client, key: &str, bytes: &[u8]) -> String {
    let request = client.put_object().bucket(BUCKET).key(key).if_none_match("*");
    code(request.body(bytes.to_vec().into()).send().await)
}

/// The bytes, or what was answered.
async fn get(client: &Client, key: &str) -> Result<Vec<u8>, String> {
    let answer = client.get_object().bucket(BUCKET).key(key).send().await;
    match answer {
        Ok(answer) => {
            answer.body.collect().await.map(|b| b.into_bytes().to_vec()).map_err(|_| "body".to_owned())
        }
        Err(error) => Err(code::<(), GetObjectError>(Err(error))),
    }
}

/// Reads until `at` bytes have come, and checks that then the body breaks or stalls.
async fn assert_breaks_at(client: &Client, key: &str, at: usize) {
    const LONG: Duration = Duration::from_secs(30);
    const SHORT: Duration = Duration::from_millis(100);
    let answer = client.get_object().bucket(BUCKET).key(key).send().await;
    let mut body = answer.expect("a head").body;
    let mut arrived = 0;
    while arrived < at {
        let piece = tokio::time::timeout(LONG, body.next()).await.expect("no stall yet");
        arrived += piece.expect("no end yet").expect("no break yet").len();
    }
    assert_eq!(arrived, at);
    let after = tokio::time::timeout(SHORT, body.next()).await;
    assert!(matches!(after, Ok(Some(Err(_))) | Err(_)), "the body goes on: {after:?}");
}

fn one_attempt(server: &S3Server) -> Client {
    server.endpoint.impatient_client(Duration::from_secs(20))
}

async fn begin(client: &Client, key: &str) -> String {
    let answer = client.create_multipart_upload().bucket(BUCKET).key(key).send().await;
    answer.expect("an upload").upload_id().expect("an id").to_owned()
}

async fn part(client: &Client, key: &str, id: &str, number: i32, bytes: Vec<u8>) -> CompletedPart {
    let request = client.upload_part().bucket(BUCKET).key(key).upload_id(id).part_number(number);
    let answer = request.body(bytes.into()).send().await.expect("a part");
    CompletedPart::builder()
        .part_number(number)
        .set_e_tag(answer.e_tag)
        .set_checksum_crc32(answer.checksum_crc32)
        .build()
}

async fn complete(client: &Client, key: &str, id: &str, parts: Vec<CompletedPart>) -> String {
    let parts = CompletedMultipartUpload::builder().set_parts(Some(parts)).build();
    let request = client.complete_multipart_upload().bucket(BUCKET).key(key).upload_id(id);
    code(request.multipart_upload(parts).send().await)
}

/// Checks that of twenty writers who must find the key free, one gets it.
pub fn assert_one_winner(client: &Client, key: &str) {
    let answers = block_on(async {
        let racers = (0..20u8).map(|n| {
            let (client, key) = (client.clone(), key.to_owned());
            tokio::spawn(async move { (n, put_new(&client, &key, &[n; 1000]).await) })
        });
        let mut answers = Vec::new();
        for racer in racers.collect::<Vec<_>>() {
            answers.push(racer.await.expect("a racer"));
        }
        answers
    });
    let winners: Vec<u8> = answers.iter().filter(|(_, answer)| answer == "ok").map(|(n, _)| *n).collect();
    assert_eq!(winners.len(), 1, "{answers:?}");
    let lost = |answer: &str| answer == "ok" || answer == "PreconditionFailed";
    assert!(answers.iter().all(|(_, answer)| lost(answer)), "{answers:?}");
    assert_eq!(block_on(get(client, key)), Ok(vec![winners[0]; 1000]));
}
