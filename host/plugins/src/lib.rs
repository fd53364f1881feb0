//! Loads, checks, limits and swaps wasm components.
//!
//! Guarantees that no line of a plugin runs before its manifest was read and its imports were held to what the host offers
//! and an admin granted; that every call has a store of its own, bounded in memory, time, handles, tables and bytes, so
//! that a hostile plugin hurts only its own call; that nothing is compiled on the way of a request; and that a swap is one
//! pointer: calls see one version from beginning to end, and the next step of an operation runs on the newest rolled-out
//! version that reads its state.
//!
//! [`Runtime`] is the door; [`report`] holds what calls come back with, [`dns`] the words of DNS providers, [`settings`]
//! what manifests say of settings.

mod bindings;
mod call;
mod compile;
mod config;
mod contract;
pub mod dns;
mod engine;
mod error;
mod hooks;
mod inspect;
mod install;
mod link;
mod registry;
pub mod report;
mod runtime;
pub mod settings;
mod state;
mod step;
mod text;

pub use compile::compile_child;
pub use config::{CompileLimits, Compiler, RuntimeConfig};
pub use contract::Name;
pub use error::{InstallError, RuntimeError};
pub use inspect::{Inspection, Shape};
pub use install::{GrantRequest, Installed, plugin_topic};
pub use registry::{PluginInfo, VersionInfo};
pub use runtime::Runtime;
