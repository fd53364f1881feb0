//! What plugins may ask for: a module for each capability.
//!
//! Nothing is ambient. What an import can do is bound to the [`call::CallState`] of one call: the service, zone or event at
//! hand. A capability knows no plugin, and no capability knows the name of an option, a state or a provider.

pub mod base;
pub mod bindings;
pub mod call;
pub mod dns;
pub mod effects;
pub mod hook;
pub mod http;
pub mod ipam;
pub mod provisioner;
pub mod proxmox;
pub mod scrub;
pub mod secrets;
pub mod storage;

use wasmtime::component::{HasData, Linker};

use crate::{bindings::wharf, call::CallState};

/// Data of a wasm store that holds the state of a call.
pub trait HasCall: Send + 'static {
    fn call(&mut self) -> &mut CallState;
}

/// Ties the generated functions to [`CallState`].
struct Lent;

impl HasData for Lent {
    type Data<'a> = &'a mut CallState;
}

/// Adds everything that the host can lend. What a component may import of it is decided before it is linked.
pub fn link<T: HasCall>(linker: &mut Linker<T>) -> wasmtime::Result<()> {
    wharf::base::log::add_to_linker::<T, Lent>(linker, T::call)?;
    wharf::base::clock::add_to_linker::<T, Lent>(linker, T::call)?;
    wharf::base::entropy::add_to_linker::<T, Lent>(linker, T::call)?;
    wharf::base::kv::add_to_linker::<T, Lent>(linker, T::call)?;
    wharf::base::secrets::add_to_linker::<T, Lent>(linker, T::call)?;
    wharf::http::client::add_to_linker::<T, Lent>(linker, T::call)?;
    wharf::dns::calls::add_to_linker::<T, Lent>(linker, T::call)?;
    wharf::dns::naming::add_to_linker::<T, Lent>(linker, T::call)?;
    wharf::proxmox::vms::add_to_linker::<T, Lent>(linker, T::call)?;
    wharf::proxmox::cluster::add_to_linker::<T, Lent>(linker, T::call)?;
    wharf::ipam::leases::add_to_linker::<T, Lent>(linker, T::call)?;
    wharf::storage::storages::add_to_linker::<T, Lent>(linker, T::call)?;
    wharf::provisioner::operations::add_to_linker::<T, Lent>(linker, T::call)?;
    wharf::hook::events::add_to_linker::<T, Lent>(linker, T::call)?;
    Ok(())
}

/// Names of all interfaces that [`link`] adds, with the version that this host speaks.
pub const OFFERED: [(&str, &str); 14] = [
    ("wharf:base/log", "0.1.0"),
    ("wharf:base/clock", "0.1.0"),
    ("wharf:base/entropy", "0.1.0"),
    ("wharf:base/kv", "0.1.0"),
    ("wharf:base/secrets", "0.1.0"),
    ("wharf:http/client", "0.1.0"),
    ("wharf:dns/calls", "0.1.0"),
    ("wharf:dns/naming", "0.1.0"),
    ("wharf:proxmox/vms", "0.1.0"),
    ("wharf:proxmox/cluster", "0.1.0"),
    ("wharf:ipam/leases", "0.1.0"),
    ("wharf:storage/storages", "0.1.0"),
    ("wharf:provisioner/operations", "0.1.0"),
    ("wharf:hook/events", "0.1.0"),
];
