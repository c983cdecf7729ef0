//! All tests of the binary, in one program: they share the harness in `support`.

mod agent;
mod chains;
mod cli;
mod codec;
mod damage;
mod engines;
mod formats;
mod git;
mod requests;
mod resume;
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
