//! Git LFS objects in a bucket of one's own, as references and deltas: the parts of the program.
//!
//! Read from the bottom: `model` holds the words; `clock`, `cancel`, `threads` and `disk` touch the machine; `store`,
//! `codec` and `git` turn keys into bytes, bytes into bytes, and oids into names. `depot` knows what a copy
//! is and when it may be relied upon, `cache` what is here already, `plan` what is worth storing, `config`
//! where everything is set. `transfer` joins them to the two lines that matter, upload and download; `verify`
//! says what of a store holds, and repairs; `space` keeps files with names of their own as deltaglider does.
//! `agent` and `cli` are the edges. Each imports only from those before it; a test holds that.

pub mod agent;
pub mod cache;
pub mod cancel;
pub mod cli;
pub mod clock;
pub mod codec;
pub mod config;
pub mod depot;
pub mod disk;
pub mod error;
pub mod git;
pub mod logging;
pub mod model;
pub mod plan;
pub mod space;
pub mod store;
pub mod threads;
pub mod transfer;
pub mod verify;
