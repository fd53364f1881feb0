//! One look at a VM or template: configuration, status, and whose it is.

use std::collections::BTreeMap;

use serde_json::Value;
use wharf_model::service::ServiceId;

use super::{
    client::{Client, PveError, text},
    marked,
};
use crate::call::{Presence, VmView};

fn plain(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

impl Client {
    /// The VM with this number as `service` sees it. Followed when it has moved meanwhile.
    pub async fn look(&self, vmid: u32, service: ServiceId) -> Result<VmView, PveError> {
        for fresh in [false, true] {
            let node = if fresh {
                self.resources(true).await?.vms.get(&vmid).map(|v| v.node.clone())
            } else {
                self.node_of(vmid).await?
            };
            let Some(node) = node else { return Ok(VmView::default()) };
            if self.resources(false).await?.vms.get(&vmid).is_some_and(|vm| vm.container) {
                return Ok(VmView { presence: Presence::Foreign, node: Some(node), ..VmView::default() });
            }
            match self.look_on(&node, vmid).await {
                Err(PveError::Missing(_)) => {}
                Err(error) => return Err(error),
                Ok(mut view) => {
                    view.presence = whose(&view, service);
                    if view.presence == Presence::Foreign {
                        // Not ours to show.
                        view = VmView {
                            presence: Presence::Foreign,
                            node: view.node,
                            status: view.status,
                            lock: view.lock,
                            ..VmView::default()
                        };
                    }
                    return Ok(view);
                }
            }
        }
        // Listed on a node that does not have it: not gone, but on its way.
        Err(PveError::Busy(format!("VM {vmid} is on its way between two nodes")))
    }

    /// A template, whoever's it is.
    pub async fn look_at_template(&self, vmid: u32) -> Result<VmView, PveError> {
        let Some(node) = self.node_of(vmid).await? else { return Ok(VmView::default()) };
        let mut view = self.look_on(&node, vmid).await?;
        view.presence = Presence::Foreign;
        Ok(view)
    }

    async fn look_on(&self, node: &str, vmid: u32) -> Result<VmView, PveError> {
        let at = format!("/nodes/{}/qemu/{vmid}", super::client::segment(node));
        let config = self.get(&format!("{at}/config"), &[]).await?;
        let status = self.get(&format!("{at}/status/current"), &[]).await?;
        let state = text(&status, "qmpstatus");
        let state = if state.is_empty() { text(&status, "status") } else { state };
        let mut keys: BTreeMap<String, String> =
            config.as_object().map(|map| map.iter().map(|(k, v)| (k.clone(), plain(v))).collect()).unwrap_or_default();
        let digest = keys.remove("digest").unwrap_or_default();
        let lock = keys.remove("lock");
        // Only a running VM has values that wait for the next start.
        let pending = if state == "stopped" { Vec::new() } else { self.pending(&at).await? };
        Ok(VmView {
            presence: Presence::None,
            node: Some(node.to_owned()),
            status: state.to_owned(),
            lock,
            digest,
            config: keys,
            pending,
        })
    }

    async fn pending(&self, at: &str) -> Result<Vec<String>, PveError> {
        let rows = self.get(&format!("{at}/pending"), &[]).await?;
        Ok(rows
            .as_array()
            .map(Vec::as_slice)
            .unwrap_or_default()
            .iter()
            .filter(|row| row.get("pending").is_some() || row.get("delete").is_some())
            .map(|row| text(row, "key").to_owned())
            .collect())
    }
}

/// While the first disk of a clone is copied its configuration is nothing but its lock.
fn whose(view: &VmView, service: ServiceId) -> Presence {
    let description = view.config.get("description").map(String::as_str).unwrap_or_default();
    match marked(description) {
        Some(id) if id == service => Presence::Ours,
        Some(_) => Presence::Foreign,
        None if view.lock.as_deref() == Some("clone") && !view.config.contains_key("name") => Presence::Copying,
        None => Presence::Foreign,
    }
}
