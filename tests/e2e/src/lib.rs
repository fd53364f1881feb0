//! Peers and journeys: real processes that Wharf is shown and tested with.
//!
//! Everything listens on loopback, on free ports, in a folder of its own, and ends with the value that started it.

#![allow(clippy::indexing_slicing, reason = "JSON values answer null for what they lack, and this is test code")]

pub mod client;
pub mod cluster;
pub mod collector;
pub mod component;
pub mod dns;
pub mod fakepve;
pub mod journey;
pub mod opinions;
pub mod peer;
pub mod powerdns;
pub mod receiver;
pub mod whmcs;
