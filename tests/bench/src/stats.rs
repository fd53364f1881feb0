//! Percentiles of samples, as `wharf plugin bench` has them.

pub use wharf_conformance::{Samples, readable as time};
