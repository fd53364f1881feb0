//! The bench's logic as an Extism plugin: bytes in, bytes out.

use extism_pdk::{Error, FnResult, plugin_fn};

/// From JSON to JSON.
#[plugin_fn]
pub fn normalize(question: Vec<u8>) -> FnResult<Vec<u8>> {
    Ok(bench_logic::answer(&question).map_err(Error::from)?)
}
