//! tmp
#[cfg(feature = "provisioner")]
pub mod provisioner {
    wit_bindgen::generate!({ path: "../../wit", world: "wharf:worlds/provisioner-plus", generate_all, pub_export_macro: true, default_bindings_module: "wharf_sdk::provisioner" });
}
#[cfg(feature = "dns-provider")]
pub mod dns {
    wit_bindgen::generate!({ path: "../../wit", world: "wharf:worlds/dns-provider", generate_all, pub_export_macro: true, default_bindings_module: "wharf_sdk::dns" });
}
#[cfg(feature = "lifecycle-hook")]
pub mod hook {
    wit_bindgen::generate!({ path: "../../wit", world: "wharf:worlds/lifecycle-hook", generate_all, pub_export_macro: true, default_bindings_module: "wharf_sdk::hook" });
}
#[cfg(feature = "panel-adapter")]
pub mod panel {
    wit_bindgen::generate!({ path: "../../wit", world: "wharf:worlds/panel-adapter", generate_all, pub_export_macro: true, default_bindings_module: "wharf_sdk::panel" });
}
