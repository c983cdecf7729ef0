//! SeaweedFS, run by the harness.

use base64::prelude::{BASE64_STANDARD, Engine as _};
use sha2::{Digest as _, Sha256};

use super::{BUCKET, assert_one_winner, code, get};
use crate::support::data::noise;
use crate::support::endpoint::block_on;
use crate::support::engine::{Engine, Kind};

#[test]
fn seaweedfs_starts_stores_refuses_and_goes() {
    let weed = Engine::start(Kind::SeaweedFs);
    let client = weed.endpoint.client();
    let bytes = noise(8, 200_000);
    block_on(async {
        let right = BASE64_STANDARD.encode(Sha256::digest(&bytes));
        let put = |sum: String| {
            let request = client.put_object().bucket(BUCKET).key("k").checksum_sha256(sum);
            request.body(bytes.clone().into()).send()
        };
        assert_eq!(code(put(BASE64_STANDARD.encode([7; 32])).await), "BadDigest");
        assert_eq!(code(put(right).await), "ok");
        assert_eq!(get(&client, "k").await, Ok(bytes.clone()));
        let elsewhere = client.put_object().bucket("no-such-bucket").key("k").send().await;
        assert_eq!(code(elsewhere), "NoSuchBucket");
    });
    assert_one_winner(&client, "race");
    let other = weed.new_bucket();
    assert_ne!(other.bucket, weed.endpoint.bucket);
    let list = block_on(client.list_objects_v2().bucket(&other.bucket).send());
    assert!(list.expect("a listing").contents().is_empty());
    let host = weed.endpoint.host().to_owned();
    drop(weed);
    assert!(std::net::TcpStream::connect(host).is_err(), "it is still there");
}
