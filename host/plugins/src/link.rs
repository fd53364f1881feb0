//! The linkers: everything that the host lends, and for components that import it an empty WASI 0.2.
//!
//! A linker gives nobody anything: what a component may import is decided before ([`crate::contract`]), and what a lent
//! function can do is bound to the call at hand.

use wasmtime::{Engine, component::Linker};
use wharf_capabilities::{HasCall, call::CallState};

use crate::state::StoreData;

pub(crate) struct Linkers {
    pub(crate) plain: Linker<StoreData>,
    pub(crate) with_wasi: Linker<StoreData>,
}

impl Linkers {
    pub(crate) fn new(engine: &Engine) -> wasmtime::Result<Self> {
        let mut plain = Linker::new(engine);
        wharf_capabilities::link(&mut plain)?;
        let mut with_wasi = Linker::new(engine);
        wharf_capabilities::link(&mut with_wasi)?;
        wasmtime_wasi::p2::add_to_linker_async(&mut with_wasi)?;
        Ok(Self { plain, with_wasi })
    }
}

impl HasCall for StoreData {
    /// Every host call comes through here, whichever it is: this is where they are counted.
    fn call(&mut self) -> &mut CallState {
        self.call.meter.calls = self.call.meter.calls.saturating_add(1);
        &mut self.call
    }
}
