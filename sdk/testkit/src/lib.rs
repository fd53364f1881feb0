//! What DNS provider plugins are tested against.
//!
//! A provider's API is a *façade* over one [`model::Model`] of zones: it answers requests as the real one does, and refuses what
//! the real one refuses. [`peer::Peer`] serves it on loopback, keeps a log of all requests, and lets [`faults::Fault`]s strike.
//! Assertions run on the model, the log and what the plugin answers, so that a test says what was true at the provider and not
//! what the plugin believed.

pub mod facade;
pub mod facades;
pub mod faults;
pub mod model;
pub mod peer;
pub mod script;
