//! All tests of the binary, in one program: they share the harness in `support`.

mod agent;
mod chains;
mod cli;
mod clocks;
mod codec;
mod concurrency;
mod crash;
mod damage;
mod durable;
mod engines;
mod flips;
mod formats;
mod frozen;
mod fuzz;
mod git;
#[cfg(feature = "soak")]
mod huge;
mod network;
mod requests;
mod resume;
mod scene;
mod secrets;
mod services;
mod smoke;
#[cfg(feature = "soak")]
mod soak;
mod space;
mod support;
mod support_works;
mod tidy;
mod verify;
mod world;
