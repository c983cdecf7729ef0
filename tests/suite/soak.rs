//! Long runs, for `tests/run.sh --soak` only: they look for what happens once in a thousand times.
//!
//! Each runs for `LFS_DELTA_SOAK_SECONDS`, 60 unless said otherwise, and prints its seed.

use std::time::{Instant, SystemTime};

use crate::support::endpoint::Endpoint;
use crate::support::engine::{Engine, Kind};
use crate::support::run::{soak_seed, soak_time};
use crate::support::s3::S3Server;
use crate::support_works::assert_one_winner;

/// Runs `round` with ever new seeds until the time is over. Prints each seed before it is used.
pub fn soak(mut round: impl FnMut(u64)) {
    assert!(std::env::var_os("LFS_DELTA_SOAK").is_some(), "run this by tests/run.sh --soak");
    let end = Instant::now() + soak_time();
    let since_1970 = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("a time after 1970");
    let first = soak_seed().unwrap_or(since_1970.as_nanos() as u64);
    let mut rounds = 0;
    while Instant::now() < end {
        println!("LFS_DELTA_SOAK_SEED={}", first.wrapping_add(rounds));
        round(first.wrapping_add(rounds));
        rounds += 1;
    }
    println!("{rounds} rounds");
}

fn race_again_and_again(endpoint: &Endpoint) {
    let client = endpoint.client();
    soak(|seed| assert_one_winner(&client, &format!("race/{seed}")));
}

#[test]
fn conditional_puts_have_one_winner_every_time_on_our_server() {
    race_again_and_again(&S3Server::start().endpoint);
}

#[test]
fn conditional_puts_have_one_winner_every_time_on_seaweedfs() {
    race_again_and_again(&Engine::start(Kind::SeaweedFs).endpoint);
}
