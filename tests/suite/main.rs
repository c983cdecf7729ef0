//! All tests of the binary, in one program: they share the harness in `support`.

mod agent;
mod cli;
mod codec;
mod crash;
mod damage;
mod formats;
mod git;
mod network;
mod requests;
mod scene;
mod services;
mod smoke;
#[cfg(feature = "soak")]
mod soak;
mod support;
mod support_works;
mod tidy;
mod world;
