//! Lines in the log of the operation, delivery or call at hand. The host cuts a line at 4 KiB and keeps 200 lines or
//! 64 KiB a call. Outside a component (in tests) lines go to standard error.

use crate::Ext;

pub use crate::base::bindings::wharf::base::log::Level;

/// Writes one line with fields.
pub fn write(level: Level, message: &str, fields: &Ext) {
    #[cfg(target_arch = "wasm32")]
    crate::base::bindings::wharf::base::log::write(level, message, fields);
    #[cfg(not(target_arch = "wasm32"))]
    eprintln!("{level:?} {message} {fields:?}");
}

/// For whoever debugs the plugin.
pub fn debug(message: &str) {
    write(Level::Debug, message, &Ext::new());
}

/// For an admin who looks.
pub fn info(message: &str) {
    write(Level::Info, message, &Ext::new());
}

/// Worth an admin's look.
pub fn warn(message: &str) {
    write(Level::Warn, message, &Ext::new());
}

/// Something is broken.
pub fn error(message: &str) {
    write(Level::Error, message, &Ext::new());
}
