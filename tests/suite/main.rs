//! All tests of the binary, in one program: they share the harness in `support`.

#[cfg(feature = "soak")]
mod soak;
mod support;
mod support_works;
