//! Façades of providers' APIs, one file each.

pub mod cloudflare;
pub mod hestiacp;
