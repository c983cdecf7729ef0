//! The edge towards git-lfs: a custom transfer agent, one line of JSON after the other.
//!
//! What surprises: `init` is answered at once and always alike, before git or the store is asked anything.
//! A worker that failed it alone could hang git-lfs for ever, so whatever is wrong is said of each object.

mod message;
mod parent;
mod progress;
mod serve;

pub use serve::{Serving, serve};
