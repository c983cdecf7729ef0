//! Containers: where deflate streams are, and how a file is made of them.
//!
//! Only the encoder looks for streams ([`scan`]); what it found travels in a [`recipe`], and both
//! sides expand ([`expand`]) and rebuild ([`rebuild`]) by the recipe alone.

pub mod expand;
pub mod follow;
pub mod form;
pub mod gzip;
pub mod loose;
pub mod pairing;
pub mod png;
pub mod rebuild;
pub mod recipe;
pub mod rules;
pub mod scan;
pub mod zip;
