//! The kit's own peers, asked by plain requests and by clients of other hands. One program: each further one is all that the crate stands on, linked again.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "test code")]

mod clients;
mod cloudflare;
mod desec;
mod hestiacp;
mod hetzner;
mod peer;
mod script;
