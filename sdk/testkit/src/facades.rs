//! The APIs of real providers, one a module: strict, refusing what the real one refuses, each fact with its source. One is
//! invented: `plain`, the peer of the kit's own mutants. That of an author's own provider is a [`crate::script`].

pub mod cloudflare;
pub mod cpanel;
pub mod desec;
pub mod hestiacp;
pub mod hetzner;
pub mod plain;
pub mod powerdns;
pub mod robot;
