//! What the storages of the server at hand hold and can hold, and this service's own archives.

use wharf_model::service::ServiceId;

use crate::{
    base::{books, failure},
    bindings::wharf::{
        base::common::{Action, Failure},
        storage::storages,
    },
    call::{Bound, CallState},
    proxmox::{
        EffectBody, PveError,
        client::{Client, number, segment, text},
        marker, to_failure,
    },
};

type Answer<T> = wasmtime::Result<Result<T, Failure>>;

const MIB: u64 = 1_048_576;

/// An archive and the node it can be reached from.
struct Found {
    backup: storages::Backup,
    node: String,
}

/// Archives with this number. Ours are only those whose notes carry the marker: storages are shared, numbers are reused by
/// others.
async fn archives(client: &Client, vmid: u32, service: ServiceId) -> Result<Vec<Found>, PveError> {
    let resources = client.resources(false).await?;
    let own = marker(service);
    let mut found = Vec::new();
    let mut shared_seen: Vec<&str> = Vec::new();
    for row in resources.storages.iter().filter(|s| s.active && s.content.iter().any(|c| c == "backup")) {
        if row.shared {
            if shared_seen.contains(&row.name.as_str()) {
                continue;
            }
            shared_seen.push(&row.name);
        }
        let path = format!("/nodes/{}/storage/{}/content", segment(&row.node), segment(&row.name));
        let volumes = client.get(&path, &[("content", "backup"), ("vmid", &vmid.to_string())]).await?;
        for volume in volumes.as_array().map(Vec::as_slice).unwrap_or_default() {
            if number(volume, "vmid") != Some(u64::from(vmid)) {
                continue;
            }
            let backup = storages::Backup {
                volume: text(volume, "volid").to_owned(),
                storage: row.name.clone(),
                made_at_ms: number(volume, "ctime").unwrap_or(0) * 1_000,
                size_mib: u32::try_from(number(volume, "size").unwrap_or(0) / MIB).unwrap_or(u32::MAX),
                ours: text(volume, "notes").split_whitespace().any(|word| word == own),
                protected: number(volume, "protected") == Some(1),
                ext: Vec::new(),
            };
            found.push(Found { backup, node: row.node.clone() });
        }
    }
    Ok(found)
}

impl storages::Host for CallState {
    async fn all(&mut self) -> Answer<Vec<storages::Storage>> {
        let server = self.server_name()?;
        let own = match &self.bound {
            Bound::Operation(binding) => Some(binding.run.service.id),
            _ => None,
        };
        let client = match self.client().await? {
            Ok(client) => client,
            Err(error) => return Ok(Err(to_failure(&error))),
        };
        let resources = match client.resources(false).await {
            Ok(resources) => resources,
            Err(error) => return Ok(Err(to_failure(&error))),
        };
        let rooms = match self.lender.books.rooms(&server).await {
            Ok(rooms) => rooms,
            Err(error) => return Ok(Err(books(&error))),
        };
        Ok(Ok(resources
            .storages
            .iter()
            .map(|s| storages::Storage {
                name: s.name.clone(),
                node: s.node.clone(),
                kind: s.kind.clone(),
                shared: s.shared,
                active: s.active,
                content: s.content.clone(),
                total_mib: s.total_mib,
                free_mib: s.total_mib.saturating_sub(s.used_mib),
                promised_mib: rooms
                    .iter()
                    .filter(|r| r.storage == s.name && (s.shared || r.node == s.node) && Some(r.service) != own)
                    .map(|r| r.disk_mib)
                    .sum(),
                ext: Vec::new(),
            })
            .collect()))
    }

    async fn backups(&mut self) -> Answer<Vec<storages::Backup>> {
        let (service, vmid) = {
            let service = &self.operation()?.run.service;
            (service.id, service.vmid)
        };
        let Some(vmid) = vmid else { return Ok(Ok(Vec::new())) };
        let client = match self.client().await? {
            Ok(client) => client,
            Err(error) => return Ok(Err(to_failure(&error))),
        };
        Ok(archives(&client, vmid, service)
            .await
            .map(|all| all.into_iter().map(|f| f.backup).collect())
            .map_err(|e| to_failure(&e)))
    }

    async fn submit_remove_backup(&mut self, volume: String) -> Answer<String> {
        let (service, vmid) = {
            let service = &self.operation()?.run.service;
            (service.id, service.vmid)
        };
        let client = match self.client().await? {
            Ok(client) => client,
            Err(error) => return Ok(Err(to_failure(&error))),
        };
        let found = match vmid {
            Some(vmid) => match archives(&client, vmid, service).await {
                Ok(all) => all.into_iter().find(|f| f.backup.volume == volume),
                Err(error) => return Ok(Err(to_failure(&error))),
            },
            None => None,
        };
        match (found, vmid) {
            (Some(found), Some(vmid)) if found.backup.ours => {
                let body = EffectBody::RemoveBackup { vmid, node: found.node, storage: found.backup.storage, volume };
                self.submit("remove-backup", &body, None)
            }
            (Some(_), _) => {
                let text = format!("`{volume}` is not provably this service's: it is left alone");
                Ok(Err(failure(Action::FixInput, "not-ours", text)))
            }
            (None, _) => {
                Ok(Err(failure(Action::FixInput, "no-such-backup", format!("there is no archive `{volume}`"))))
            }
        }
    }
}
