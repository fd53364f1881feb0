//! The host's side of the contract, generated from `wit/` once for all worlds.

wasmtime::component::bindgen!({
    path: "../../wit",
    world: "wharf:worlds/capabilities",
    imports: { default: async | trappable },
    with: {
        "wharf:http/client.outbound": crate::call::Outbound,
        "wharf:http/client.reply": crate::call::Reply,
        "wharf:dns/calls.call": crate::call::DnsCall,
        "wharf:proxmox/vms.vm": crate::call::VmHandle,
        "wharf:proxmox/vms.view": crate::call::VmView,
        "wharf:provisioner/operations.operation": crate::call::OperationHandle,
        "wharf:hook/events.delivery": crate::call::DeliveryHandle,
        "wharf:hook/events.question": crate::call::QuestionHandle,
    },
});
