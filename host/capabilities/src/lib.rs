//! What plugins may ask for: a module for each capability.
//!
//! Nothing is ambient. What an import can do is bound to the [`call::CallState`] of one call: the service, zone or event at
//! hand. A capability knows no plugin, and no capability knows the name of an option, a state or a provider.

pub mod bindings;
pub mod call;
pub mod effects;
pub mod http;
pub mod proxmox;
pub mod secrets;
