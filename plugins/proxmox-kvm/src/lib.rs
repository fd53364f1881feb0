//! KVM virtual machines on Proxmox VE: deploy, terminate, suspend and unsuspend.
//!
//! A step looks, decides and hands over one write at most. What decides is pure and tested natively; [`host`] is the
//! one door to the outside. A deploy with one IPv4 needs seven writes at most: clone, one configuration, resize (only
//! if larger), address set and entry, firewall options, start; a migration is the eighth.

pub mod check;
pub mod cloudinit;
pub mod configure;
pub mod deploy;
pub mod disks;
pub mod firewall;
mod guest;
pub mod host;
pub mod memo;
pub mod naming;
pub mod net;
pub mod placement;
pub mod power;
pub mod run;
pub mod settings;
pub mod terminate;

#[cfg(test)]
mod deploy_tests;
#[cfg(test)]
mod fake;
#[cfg(test)]
mod terminate_tests;
