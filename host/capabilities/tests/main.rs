//! The capabilities, tried through the calls that a plugin makes. One program: each further one is all that the crate stands on, linked again.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "test code")]

mod cluster;
mod common;
mod http;
mod proxmox_bounds;
mod proxmox_effects;
mod proxmox_steps;
mod small;
