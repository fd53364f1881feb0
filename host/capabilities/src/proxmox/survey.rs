//! A look through a whole server, for what compares it with the books: reads only. A parked server is left alone.

use std::{collections::BTreeMap, net::IpAddr};

use super::{
    Servers,
    client::{PveError, segment, text},
    marked,
};
use crate::effects::{Guest, GuestConfig};

/// One `cluster/resources` for all.
pub(super) async fn guests(servers: &Servers, server: &str) -> Result<Vec<Guest>, String> {
    let client = servers.client(server).await.map_err(|e| e.to_string())?;
    let resources = client.resources(true).await.map_err(|e| e.to_string())?;
    if resources.nodes.is_empty() {
        return Err("the token sees no node: give it Sys.Audit on /nodes".into());
    }
    Ok(resources
        .vms
        .iter()
        .map(|(vmid, vm)| Guest { vmid: *vmid, node: vm.node.clone(), template: vm.template, container: vm.container })
        .collect())
}

/// How many tasks of a node are read: more than a node keeps.
const TASKS: &str = "50000";

/// Every node is asked for its tasks, so that every node has answered.
pub(super) async fn remembered(servers: &Servers, server: &str) -> Result<BTreeMap<u32, String>, String> {
    let client = servers.client(server).await.map_err(|e| e.to_string())?;
    let resources = client.resources(true).await.map_err(|e| e.to_string())?;
    let mut numbers = BTreeMap::new();
    for node in &resources.nodes {
        if !node.online {
            return Err(format!("the node {} is offline: what is on it can't be seen", node.name));
        }
        let path = format!("/nodes/{}/tasks", segment(&node.name));
        let params = [("limit", TASKS), ("source", "all")];
        let tasks = client.get(&path, &params).await.map_err(|e| format!("{}: {e}", node.name))?;
        for task in tasks.as_array().into_iter().flatten() {
            // Guests' work is named qm…, vz…; others have ids that are no numbers.
            if let Ok(vmid) = text(task, "id").parse() {
                numbers.insert(vmid, text(task, "user").to_owned());
            }
        }
    }
    Ok(numbers)
}

/// Its configuration as it is written: what waits for the next start is in it.
pub(super) async fn config(servers: &Servers, server: &str, guest: &Guest) -> Result<Option<GuestConfig>, String> {
    let client = servers.client(server).await.map_err(|e| e.to_string())?;
    let path = format!("/nodes/{}/qemu/{}/config", segment(&guest.node), guest.vmid);
    let config = match client.get(&path, &[]).await {
        Ok(config) => config,
        Err(PveError::Missing(_)) => return Ok(None),
        Err(error) => return Err(error.to_string()),
    };
    let owner = marked(text(&config, "description"));
    let copying = owner.is_none() && text(&config, "lock") == "clone";
    let lines = config.as_object().into_iter().flatten().filter(|(key, _)| key.starts_with("ipconfig"));
    let lines: Vec<&str> = lines.filter_map(|(_, value)| value.as_str()).collect();
    let addresses = (!lines.is_empty()).then(|| lines.into_iter().flat_map(fixed).collect());
    Ok(Some(GuestConfig { owner, copying, addresses }))
}

/// The fixed addresses of an `ipconfigN`: `ip=192.0.2.10/24,gw=192.0.2.1,ip6=auto`.
fn fixed(line: &str) -> Vec<IpAddr> {
    line.split(',')
        .filter_map(|part| part.trim().split_once('='))
        .filter(|(key, _)| matches!(*key, "ip" | "ip6"))
        .filter_map(|(_, value)| value.split('/').next()?.parse().ok())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fixed_addresses_are_read_and_all_else_is_passed_over() {
        let line = "gw=192.0.2.1,ip=192.0.2.10/24,ip6=2001:db8::10/64,gw6=2001:db8::1";
        let expected: Vec<IpAddr> = vec!["192.0.2.10".parse().unwrap(), "2001:db8::10".parse().unwrap()];
        assert_eq!(fixed(line), expected);
        assert!(fixed("ip=dhcp,ip6=auto").is_empty());
        assert!(fixed("").is_empty());
    }
}
