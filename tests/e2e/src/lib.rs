//! Peers and journeys: real processes that Wharf is shown and tested with.
//!
//! Everything listens on loopback, on free ports, in a folder of its own, and ends with the value that started it.

pub mod client;
pub mod journey;
pub mod peer;
pub mod powerdns;
pub mod receiver;
pub mod whmcs;
