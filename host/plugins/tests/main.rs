//! What runs plugins, tried on whole components. One program: each further one is all that the crate stands on, linked again.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "test code")]

mod common;
mod dns;
mod grown;
mod hostile;
mod refused;
mod steps;
mod versions;
