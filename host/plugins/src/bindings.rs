//! The plugins' side of the contract, generated from `wit/`: one module for each world and for each optional export.
//!
//! Types of imports are those of [`wharf_capabilities::bindings`], so that one implementation serves every world.

/// Provisioners.
pub(crate) mod provisioner {
    wasmtime::component::bindgen!({
        path: "../../wit",
        world: "wharf:worlds/provisioner",
        imports: { default: async | trappable },
        exports: { default: async },
        with: {
            "wharf:base": wharf_capabilities::bindings::wharf::base,
            "wharf:proxmox": wharf_capabilities::bindings::wharf::proxmox,
            "wharf:ipam": wharf_capabilities::bindings::wharf::ipam,
            "wharf:dns": wharf_capabilities::bindings::wharf::dns,
            "wharf:storage": wharf_capabilities::bindings::wharf::storage,
            "wharf:provisioner/protocol": wharf_capabilities::bindings::wharf::provisioner::protocol,
            "wharf:provisioner/operations": wharf_capabilities::bindings::wharf::provisioner::operations,
        },
    });
}

/// The optional export of provisioners.
pub(crate) mod plan_check {
    wasmtime::component::bindgen!({
        path: "../../wit",
        world: "wharf:worlds/plan-check-part",
        imports: { default: async | trappable },
        exports: { default: async },
        with: { "wharf:base": wharf_capabilities::bindings::wharf::base },
    });
}

/// DNS providers.
pub(crate) mod dns {
    wasmtime::component::bindgen!({
        path: "../../wit",
        world: "wharf:worlds/dns-provider",
        imports: { default: async | trappable },
        exports: { default: async },
        with: {
            "wharf:base": wharf_capabilities::bindings::wharf::base,
            "wharf:http": wharf_capabilities::bindings::wharf::http,
            "wharf:dns/zones": wharf_capabilities::bindings::wharf::dns::zones,
            "wharf:dns/calls": wharf_capabilities::bindings::wharf::dns::calls,
        },
    });
}

/// The optional export of DNS providers.
pub(crate) mod zone_actions {
    wasmtime::component::bindgen!({
        path: "../../wit",
        world: "wharf:worlds/zone-actions-part",
        imports: { default: async | trappable },
        exports: { default: async },
        with: {
            "wharf:base": wharf_capabilities::bindings::wharf::base,
            "wharf:dns/zones": wharf_capabilities::bindings::wharf::dns::zones,
            "wharf:dns/calls": wharf_capabilities::bindings::wharf::dns::calls,
        },
    });
}

/// Lifecycle hooks.
pub(crate) mod hook {
    wasmtime::component::bindgen!({
        path: "../../wit",
        world: "wharf:worlds/lifecycle-hook",
        imports: { default: async | trappable },
        exports: { default: async },
        with: {
            "wharf:base": wharf_capabilities::bindings::wharf::base,
            "wharf:http": wharf_capabilities::bindings::wharf::http,
            "wharf:hook/events": wharf_capabilities::bindings::wharf::hook::events,
        },
    });
}

/// The optional export of lifecycle hooks.
pub(crate) mod asked {
    wasmtime::component::bindgen!({
        path: "../../wit",
        world: "wharf:worlds/asked-part",
        imports: { default: async | trappable },
        exports: { default: async },
        with: {
            "wharf:base": wharf_capabilities::bindings::wharf::base,
            "wharf:hook/events": wharf_capabilities::bindings::wharf::hook::events,
        },
    });
}

/// Panel adapters.
pub(crate) mod panel {
    wasmtime::component::bindgen!({
        path: "../../wit",
        world: "wharf:worlds/panel-adapter",
        imports: { default: async | trappable },
        exports: { default: async },
        with: { "wharf:base": wharf_capabilities::bindings::wharf::base },
    });
}
