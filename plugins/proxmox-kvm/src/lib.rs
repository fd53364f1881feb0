//! plugin-proxmox-kvm
