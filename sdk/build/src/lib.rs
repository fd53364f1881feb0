//! From a plugin's source to a component that carries its manifest: the one way, for `wharf plugin build` and for this
//! repository's own plugins.
//!
//! [`component`] turns what a compiler made into what a host installs, [`toolchain`] finds the compiler for Rust, [`guest`] runs
//! the tools of the other languages, [`json`] tells an author the line of what is wrong in a manifest. Nothing is installed here but a compiler's target, and that only where
//! rustup is the one who manages it.

pub mod component;
mod error;
pub mod guest;
pub mod json;
pub mod shell;
pub mod toolchain;

pub use error::BuildError;
