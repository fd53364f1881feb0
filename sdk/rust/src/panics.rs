//! Brings a panic's text out: a trap has none of its own.
//!
//! Every export arms this at its entry. The hook writes one line to the log and lets the panic go on, which ends the
//! call.

use std::sync::Once;

static ARMED: Once = Once::new();

/// Sets the hook, once in the life of an instance. Does nothing outside a component, where the test harness has its
/// own.
pub fn arm() {
    ARMED.call_once(|| {
        #[cfg(target_arch = "wasm32")]
        std::panic::set_hook(Box::new(|info| crate::log::error(&info.to_string())));
    });
}
