//! Leases: addresses held by services.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use crate::{Millis, service::ServiceId};

/// A held or resting address. Unique by (routing domain, address).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Lease {
    /// Routing domain: addresses are unique within it. "default" unless a pool says otherwise.
    pub domain: String,
    pub address: IpAddr,
    pub pool: String,
    /// None = in quarantine until `free_after_ms`.
    pub service_id: Option<ServiceId>,
    /// 0 is the primary of its family.
    pub index: u32,
    pub network: Network,
    /// A name of its own for the PTR; none = follows the service's FQDN.
    pub ptr: Option<String>,
    pub leased_ms: Millis,
    pub free_after_ms: Millis,
}

/// What a VM must know of the network around its address; copied at leasing, so that a later change of the pool touches
/// nobody.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Network {
    pub prefix_length: u8,
    pub gateway: Option<IpAddr>,
    pub nameservers: Vec<IpAddr>,
    pub bridge: String,
    pub vlan: Option<u16>,
}

/// Addresses that may be leased, both ends included, `excluded` left out.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Range {
    pub pool: String,
    pub domain: String,
    pub first: IpAddr,
    pub last: IpAddr,
    pub excluded: Vec<IpAddr>,
    pub network: Network,
}
