//! The least lifecycle hook: remembers the last event that it was told of.

use wharf_sdk::hook::prelude::*;

struct Plugin;

impl Told for Plugin {
    fn tell(of: &Delivery) -> Result<Heard, Failure> {
        let event = of.event();
        log::info(&format!("told of {}", event.kind));
        kv::set("last", event.id.as_bytes())?;
        Ok(Heard::Delivered)
    }
}

wharf_sdk::export_lifecycle_hook!(Plugin);
