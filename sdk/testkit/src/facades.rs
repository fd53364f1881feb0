//! The APIs of real providers, one a module: strict, refusing what the real one refuses, each fact with its source.

pub mod cloudflare;
pub mod hestiacp;
pub mod plain;
pub mod powerdns;
