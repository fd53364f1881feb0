//! The linkers: everything that the host lends, and for components that import it an empty WASI 0.2.
//!
//! A linker gives nobody anything: what a component may import is decided before ([`crate::contract`]), and what a lent
//! function can do is bound to the call at hand.

use wasmtime::{
    Engine,
    component::{HasSelf, Linker},
};
use wharf_capabilities::{bindings::wharf, call::CallState};

use crate::state::StoreData;

pub(crate) struct Linkers {
    pub(crate) plain: Linker<StoreData>,
    pub(crate) with_wasi: Linker<StoreData>,
}

impl Linkers {
    pub(crate) fn new(engine: &Engine) -> wasmtime::Result<Self> {
        let mut plain = Linker::new(engine);
        lend(&mut plain)?;
        let mut with_wasi = Linker::new(engine);
        lend(&mut with_wasi)?;
        wasmtime_wasi::p2::add_to_linker_async(&mut with_wasi)?;
        Ok(Self { plain, with_wasi })
    }
}

fn call(data: &mut StoreData) -> &mut CallState {
    &mut data.call
}

fn lend(linker: &mut Linker<StoreData>) -> wasmtime::Result<()> {
    type Lent = HasSelf<CallState>;
    wharf::base::common::add_to_linker::<_, Lent>(linker, call)?;
    wharf::base::log::add_to_linker::<_, Lent>(linker, call)?;
    wharf::base::clock::add_to_linker::<_, Lent>(linker, call)?;
    wharf::base::entropy::add_to_linker::<_, Lent>(linker, call)?;
    wharf::base::kv::add_to_linker::<_, Lent>(linker, call)?;
    wharf::base::secrets::add_to_linker::<_, Lent>(linker, call)?;
    wharf::http::client::add_to_linker::<_, Lent>(linker, call)?;
    wharf::dns::zones::add_to_linker::<_, Lent>(linker, call)?;
    wharf::dns::calls::add_to_linker::<_, Lent>(linker, call)?;
    wharf::dns::naming::add_to_linker::<_, Lent>(linker, call)?;
    wharf::proxmox::vms::add_to_linker::<_, Lent>(linker, call)?;
    wharf::proxmox::cluster::add_to_linker::<_, Lent>(linker, call)?;
    wharf::ipam::leases::add_to_linker::<_, Lent>(linker, call)?;
    wharf::storage::storages::add_to_linker::<_, Lent>(linker, call)?;
    wharf::provisioner::protocol::add_to_linker::<_, Lent>(linker, call)?;
    wharf::provisioner::operations::add_to_linker::<_, Lent>(linker, call)?;
    wharf::hook::events::add_to_linker::<_, Lent>(linker, call)
}
