//! Loads, checks, limits and swaps wasm components.

pub mod report;
