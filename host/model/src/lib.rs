//! The words of the domain: plain types, no I/O.
pub mod manifest;
