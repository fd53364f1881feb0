//! The APIs of real providers, one a module: strict, refusing what the real one refuses, each fact with its source. Two are
//! invented: `example`, the peer of every new project of an author, and `plain`, that of the kit's own mutants.

pub mod cloudflare;
pub mod cpanel;
pub mod desec;
pub mod example;
pub mod hestiacp;
pub mod hetzner;
pub mod plain;
pub mod powerdns;
pub mod robot;
