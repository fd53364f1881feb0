//! Write Wharf plugins in Rust.
//!
//! A plugin takes one feature, implements one trait and names itself once:
//!
//! | feature | trait | export |
//! |---|---|---|
//! | `provisioner` (+ `plan-check`) | [`provisioner::Provisioner`] (+ `PlanCheck`) | `wharf_sdk::export_provisioner!(Plugin);` |
//! | `dns-provider` (+ `zone-actions`) | `dns::Provider` (+ `ZoneActions`) | `wharf_sdk::export_dns_provider!(Plugin);` |
//! | `lifecycle-hook` (+ `asked`) | `hook::Told` (+ `Asked`) | `wharf_sdk::export_lifecycle_hook!(Plugin);` |
//! | `panel-adapter` | `panel::Adapter` | `wharf_sdk::export_panel_adapter!(Plugin);` |
//!
//! Guarantees: a panic's text reaches the log before the call ends ([`panics`]); [`Failure`], [`Ext`] and [`log`] are
//! the same types in every world; nothing here reaches outside the host by another way than the imports of the world.
//! Pure helpers ([`names`], `text`, `batch`, `forms`, [`http::Request`]) run and are tested on any machine; calls into the host
//! exist only in a component, and panic elsewhere (the log alone goes to standard error).

pub mod base;
pub mod failure;
pub mod log;
pub mod names;
pub mod panics;

#[cfg(feature = "dns-provider")]
pub mod batch;
#[cfg(feature = "dns-provider")]
pub mod connection;
#[cfg(feature = "dns-provider")]
pub mod dns;
#[cfg(feature = "dns-provider")]
pub mod forms;
#[cfg(feature = "lifecycle-hook")]
pub mod hook;
#[cfg(feature = "http")]
pub mod http;
#[cfg(feature = "panel-adapter")]
pub mod panel;
#[cfg(feature = "provisioner")]
pub mod provisioner;
#[cfg(feature = "http")]
pub mod testing;
#[cfg(feature = "dns-provider")]
pub mod text;

pub use base::{Action, Ext, Failure, Json};

/// Puts key-value pairs into the form of the contract.
pub fn ext<K: Into<String>, V: Into<String>>(pairs: impl IntoIterator<Item = (K, V)>) -> Ext {
    pairs.into_iter().map(|(k, v)| (k.into(), v.into())).collect()
}

/// The first value of this key.
pub fn ext_get<'a>(ext: &'a Ext, key: &str) -> Option<&'a str> {
    ext.iter().find(|(k, _)| k == key).map(|(_, v)| v.as_str())
}

/// Sets a key to one value, whatever it held.
pub fn ext_set(ext: &mut Ext, key: &str, value: impl Into<String>) {
    ext.retain(|(k, _)| k != key);
    ext.push((key.to_owned(), value.into()));
}

/// What an export macro expands to. Not to be called by hand.
#[doc(hidden)]
#[macro_export]
macro_rules! __export {
    ($world:ident, $plugin:ty) => {
        // The entry points exist only in a component: their symbol names mean nothing to another linker.
        #[cfg(target_arch = "wasm32")]
        #[allow(unsafe_code, unused_imports, clippy::all, reason = "generated entry points")]
        mod wharf_export {
            use super::*;
            type Guarded = $crate::$world::Guarded<$plugin>;
            $crate::$world::bindings::export!(Guarded with_types_in $crate::$world::bindings);
        }
        // Elsewhere it is checked that the required trait is there. Optional ones are not: in one build of a whole workspace the
        // features of all plugins are switched on at once.
        #[cfg(not(target_arch = "wasm32"))]
        const _: () = $crate::$world::is_plugin::<$plugin>();
    };
}

/// Makes a type the provisioner of this component.
#[cfg(feature = "provisioner")]
#[macro_export]
macro_rules! export_provisioner {
    ($plugin:ty) => {
        $crate::__export!(provisioner, $plugin);
    };
}

/// Makes a type the DNS provider of this component.
#[cfg(feature = "dns-provider")]
#[macro_export]
macro_rules! export_dns_provider {
    ($plugin:ty) => {
        $crate::__export!(dns, $plugin);
    };
}

/// Makes a type the lifecycle hook of this component.
#[cfg(feature = "lifecycle-hook")]
#[macro_export]
macro_rules! export_lifecycle_hook {
    ($plugin:ty) => {
        $crate::__export!(hook, $plugin);
    };
}

/// Makes a type the panel adapter of this component.
#[cfg(feature = "panel-adapter")]
#[macro_export]
macro_rules! export_panel_adapter {
    ($plugin:ty) => {
        $crate::__export!(panel, $plugin);
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn setting_a_key_leaves_one_value() {
        let mut pairs = ext([("a", "1"), ("b", "2"), ("a", "3")]);
        ext_set(&mut pairs, "a", "4");
        assert_eq!(ext_get(&pairs, "a"), Some("4"));
        assert_eq!(pairs.iter().filter(|(k, _)| k == "a").count(), 1);
        assert_eq!(ext_get(&pairs, "c"), None);
    }
}
