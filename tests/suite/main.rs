//! All tests of the binary, in one program: they share the harness in `support`.

mod agent;
mod cli;
mod clocks;
mod codec;
mod concurrency;
mod crash;
mod damage;
mod durable;
mod formats;
mod frozen;
mod fuzz;
mod git;
mod network;
mod requests;
mod scene;
mod secrets;
mod services;
mod smoke;
#[cfg(feature = "soak")]
mod soak;
mod support;
mod support_works;
mod tidy;
mod world;
