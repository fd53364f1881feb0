//! The VM's firewall: options, IP sets.

use std::{collections::BTreeSet, net::IpAddr};

use serde_json::{Value, json};

use crate::{Answer, Params, Refusal, Sim};

const OPTIONS: [&str; 11] = [
    "dhcp",
    "enable",
    "ipfilter",
    "log_level_in",
    "log_level_out",
    "macfilter",
    "ndp",
    "policy_in",
    "policy_out",
    "radv",
    "digest",
];

/// As Proxmox stores it: no `/32` or `/128`, IPv6 compressed.
pub fn normal(cidr: &str) -> Option<String> {
    let (ip, len) = cidr.split_once('/').map_or((cidr, None), |(ip, len)| (ip, Some(len)));
    let ip: IpAddr = ip.parse().ok()?;
    let whole = if ip.is_ipv4() { 32 } else { 128 };
    match len {
        None => Some(ip.to_string()),
        Some(len) => {
            let len: u8 = len.parse().ok().filter(|l| *l <= whole)?;
            Some(if len == whole { ip.to_string() } else { format!("{ip}/{len}") })
        }
    }
}

impl Sim {
    pub(crate) fn fw_options(&self, node: &str, vmid: u32) -> Answer {
        let mut state = self.lock();
        let vm = state.vm(node, vmid)?;
        Ok(vm
            .firewall
            .iter()
            .map(|(k, v)| (k.clone(), v.parse::<i64>().map_or_else(|_| json!(v), |n| json!(n))))
            .collect())
    }

    pub(crate) fn fw_set_options(&self, node: &str, vmid: u32, params: &Params) -> Answer {
        if let Some(key) = params.keys().find(|k| !OPTIONS.contains(&k.as_str()) && *k != "delete") {
            return Err(Refusal::parameter(
                key,
                "property is not defined in schema and the schema does not allow additional properties",
            ));
        }
        let mut state = self.lock();
        let vm = state.vm(node, vmid)?;
        for (key, value) in params.iter().filter(|(k, _)| *k != "digest" && *k != "delete") {
            vm.firewall.insert(key.clone(), value.clone());
        }
        Ok(Value::Null)
    }

    pub(crate) fn fw_sets(&self, node: &str, vmid: u32) -> Answer {
        let mut state = self.lock();
        Ok(state.vm(node, vmid)?.ipsets.keys().map(|name| json!({"name": name, "digest": "0"})).collect())
    }

    pub(crate) fn fw_new_set(&self, node: &str, vmid: u32, params: &Params) -> Answer {
        let name = params
            .get("name")
            .ok_or_else(|| Refusal::parameter("name", "property is missing and it is not optional"))?;
        let mut state = self.lock();
        let vm = state.vm(node, vmid)?;
        if vm.ipsets.contains_key(name) {
            return Err(Refusal::parameter("name", format!("IPSet '{name}' already exists")));
        }
        vm.ipsets.insert(name.clone(), BTreeSet::new());
        Ok(Value::Null)
    }

    pub(crate) fn fw_entries(&self, node: &str, vmid: u32, name: &str) -> Answer {
        let mut state = self.lock();
        let set =
            state.vm(node, vmid)?.ipsets.get(name).ok_or_else(|| Refusal::die(format!("no such IPSet '{name}'")))?;
        Ok(set.iter().map(|cidr| json!({"cidr": cidr, "digest": "0"})).collect())
    }

    pub(crate) fn fw_add_entry(&self, node: &str, vmid: u32, name: &str, params: &Params) -> Answer {
        let cidr = params.get("cidr").and_then(|c| normal(c)).ok_or_else(|| {
            Refusal::parameter("cidr", "invalid format - value does not look like a valid IP address or CIDR network")
        })?;
        let mut state = self.lock();
        let set = state
            .vm(node, vmid)?
            .ipsets
            .get_mut(name)
            .ok_or_else(|| Refusal::die(format!("no such IPSet '{name}'")))?;
        if !set.insert(cidr.clone()) {
            return Err(Refusal::parameter("cidr", format!("address '{cidr}' already exists")));
        }
        Ok(Value::Null)
    }

    /// Another spelling of the address deletes nothing, and says nothing.
    pub(crate) fn fw_remove_entry(&self, node: &str, vmid: u32, name: &str, cidr: &str) -> Answer {
        let mut state = self.lock();
        let set = state
            .vm(node, vmid)?
            .ipsets
            .get_mut(name)
            .ok_or_else(|| Refusal::die(format!("no such IPSet '{name}'")))?;
        set.remove(cidr);
        Ok(Value::Null)
    }
}
