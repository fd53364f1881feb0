//! The API from outside: the real router, called in process.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "test code")]

mod admin;
mod auth;
mod contract;
mod hooks;
mod log;
mod metrics;
mod names;
mod operate;
mod secrets;
mod services;
mod world;
mod zones;
