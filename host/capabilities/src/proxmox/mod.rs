//! Proxmox VE.
/// All servers, one client each.
pub struct Servers;
