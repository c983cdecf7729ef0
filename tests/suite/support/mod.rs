//! What the tests stand on: an S3 server, a sandbox for git, a scripted git-lfs, real S3 servers.
//!
//! Nothing here is shared between tests, and nothing leaves the machine. `support_works.rs` proves
//! that these helpers do what they say.
#![allow(dead_code)] // not every test needs every helper

pub mod confined;
pub mod data;
pub mod endpoint;
pub mod engine;
pub mod fake_lfs;
pub mod mounts;
pub mod run;
pub mod s3;
pub mod sandbox;
pub mod tools;
pub mod trace;
