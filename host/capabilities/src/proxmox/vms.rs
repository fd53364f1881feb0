//! `wharf:proxmox/vms` and `wharf:proxmox/cluster`: looks answer at once, writes are handed to the engine.

use std::collections::BTreeMap;

use wasmtime::component::Resource;
use wharf_model::{
    effect::SlotPool,
    manifest::Position,
    object::{Image, ObjectKind},
};
use wharf_store::Room;

use super::{
    client::{Client, PveError, number, text},
    effects::EffectBody,
    keys,
};
use crate::{
    base::{books, failure},
    bindings::wharf::{
        base::common::{Action, Failure},
        proxmox::{cluster, vms},
    },
    call::{Bound, CallState, Presence, Submitted, VmHandle, VmView},
};

type Answer<T> = wasmtime::Result<Result<T, Failure>>;

/// Numbers that are tried when VMs out of the token's sight hold them.
const UNSEEN: usize = 20;
/// Operations that the books keep of a service.
const HISTORY: usize = 50;

/// An error of the server as a plugin sees it.
pub(crate) fn to_failure(error: &PveError) -> Failure {
    let (action, code) = match error {
        PveError::Busy(_) => (Action::Busy, "busy"),
        PveError::Unreachable(_) => (Action::Retry, "unreachable"),
        PveError::InDoubt(_) => (Action::Unknown, "in-doubt"),
        PveError::Unauthorized(_) => (Action::FixConfig, "parked"),
        PveError::Forbidden { .. } => (Action::FixConfig, "forbidden"),
        PveError::Parameter(_) => (Action::FixInput, "refused"),
        PveError::Missing(_) => (Action::Retry, "missing"),
        PveError::Failed(_) => (Action::Retry, "server-error"),
        PveError::Config(_) => (Action::FixConfig, "server-config"),
    };
    failure(action, code, error.to_string())
}

macro_rules! attempt {
    ($e:expr) => {
        match $e {
            Ok(value) => value,
            Err(error) => return Ok(Err(to_failure(&error))),
        }
    };
}
macro_rules! attempt_books {
    ($e:expr) => {
        match $e {
            Ok(value) => value,
            Err(error) => return Ok(Err(books(&error))),
        }
    };
}
macro_rules! attempt_failure {
    ($e:expr) => {
        match $e {
            Ok(value) => value,
            Err(failure) => return Ok(Err(failure)),
        }
    };
}

impl CallState {
    /// The server at hand: the service's, or the plan's.
    pub(crate) fn server_name(&self) -> wasmtime::Result<String> {
        match &self.bound {
            Bound::Operation(binding) => Ok(binding.run.service.server.clone()),
            Bound::Server(name) => Ok(name.clone()),
            _ => Err(wasmtime::Error::msg("this call is about no server")),
        }
    }

    pub(crate) async fn client(&mut self) -> wasmtime::Result<Result<std::sync::Arc<Client>, PveError>> {
        self.meter.requests += 1;
        let name = self.server_name()?;
        Ok(self.lender.servers.client(&name).await)
    }

    fn vmid(&self) -> wasmtime::Result<Option<u32>> {
        Ok(self.operation()?.run.service.vmid)
    }

    /// Hands a write over. The first of a call is taken, a second one refused.
    pub(crate) fn submit(&mut self, kind: &str, body: &EffectBody, slot: Option<SlotPool>) -> Answer<String> {
        let binding = self.operation_mut()?;
        if binding.submitted.is_some() {
            return Ok(Err(failure(
                Action::ReportBug,
                "second-write",
                "a step submits one write at most: return `submitted` after the first",
            )));
        }
        let body = serde_json::to_value(body)?;
        binding.submitted =
            Some(Submitted { kind: kind.to_owned(), server: binding.run.service.server.clone(), body, slot });
        Ok(Ok(binding.next_effect_id()))
    }

    fn reserved(&self) -> wasmtime::Result<Result<u32, Failure>> {
        Ok(self.vmid()?.ok_or_else(|| {
            failure(Action::ReportBug, "no-number", "no VM number is reserved: call reserve-number in an earlier step")
        }))
    }

    /// Whether a clone of this service ever went well, or that can't be said any more.
    async fn ever_cloned(&mut self) -> Result<bool, wharf_store::StoreError> {
        let service = match &self.bound {
            Bound::Operation(binding) => binding.run.service.id,
            _ => return Ok(true),
        };
        let operations = self.lender.books.operations(service, HISTORY).await?;
        if operations.len() >= HISTORY {
            return Ok(true);
        }
        for operation in operations {
            let effects = self.lender.books.effects(operation.id).await?;
            if effects.iter().any(|e| e.kind == "clone" && e.result.as_ref().is_some_and(|r| r.ok)) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Only what an admin listed under an image may be seen and copied.
    async fn listed(&mut self, template: u32) -> Result<Result<(), Failure>, wharf_store::StoreError> {
        let server = match &self.bound {
            Bound::Operation(binding) => binding.run.service.server.clone(),
            Bound::Server(name) => name.clone(),
            _ => String::new(),
        };
        let objects = self.lender.books.objects(ObjectKind::Image).await?;
        let listed = objects.into_iter().any(|o| {
            serde_json::from_value::<Image>(o.body)
                .is_ok_and(|image| image.templates.iter().any(|t| t.server == server && t.vmid == template))
        });
        Ok(if listed {
            Ok(())
        } else {
            let text = format!("template {template} is listed under no image of this server: add it to one");
            Err(failure(Action::FixConfig, "template-not-listed", text))
        })
    }

    fn check_secrets(&self, set: &[(String, String)]) -> Result<(), Failure> {
        for (key, value) in set {
            for name in placeholders(value) {
                let declared = self.caller.manifest.slot(&name);
                let here = Position::Config(key.clone());
                if !declared.is_some_and(|slot| slot.positions.contains(&here)) {
                    let text =
                        format!("`{{{{{name}}}}}` may not stand in `{key}`: the manifest declares no such position");
                    return Err(failure(Action::FixConfig, "secret-position", text));
                }
            }
        }
        Ok(())
    }
}

/// Names within `{{…}}`.
pub(crate) fn placeholders(text: &str) -> Vec<String> {
    let mut names = Vec::new();
    let mut rest = text;
    while let Some((_, after)) = rest.split_once("{{") {
        let Some((name, after)) = after.split_once("}}") else { break };
        names.push(name.to_owned());
        rest = after;
    }
    names
}

impl vms::Host for CallState {}

impl vms::HostView for CallState {
    async fn presence(&mut self, view: Resource<VmView>) -> wasmtime::Result<vms::Presence> {
        Ok(match self.table.get(&view)?.presence {
            Presence::None => vms::Presence::None,
            Presence::Copying => vms::Presence::Copying,
            Presence::Ours => vms::Presence::Ours,
            Presence::Foreign => vms::Presence::Foreign,
        })
    }

    async fn node(&mut self, view: Resource<VmView>) -> wasmtime::Result<Option<String>> {
        Ok(self.table.get(&view)?.node.clone())
    }

    async fn status(&mut self, view: Resource<VmView>) -> wasmtime::Result<String> {
        Ok(self.table.get(&view)?.status.clone())
    }

    async fn lock(&mut self, view: Resource<VmView>) -> wasmtime::Result<Option<String>> {
        Ok(self.table.get(&view)?.lock.clone())
    }

    async fn digest(&mut self, view: Resource<VmView>) -> wasmtime::Result<String> {
        Ok(self.table.get(&view)?.digest.clone())
    }

    async fn config(&mut self, view: Resource<VmView>, key: String) -> wasmtime::Result<Option<String>> {
        Ok(self.table.get(&view)?.config.get(&key).cloned())
    }

    async fn config_keys(&mut self, view: Resource<VmView>) -> wasmtime::Result<Vec<String>> {
        Ok(self.table.get(&view)?.config.keys().cloned().collect())
    }

    async fn pending_keys(&mut self, view: Resource<VmView>) -> wasmtime::Result<Vec<String>> {
        Ok(self.table.get(&view)?.pending.clone())
    }

    async fn drop(&mut self, view: Resource<VmView>) -> wasmtime::Result<()> {
        self.table.delete(view)?;
        Ok(())
    }
}

impl vms::HostVm for CallState {
    async fn number(&mut self, _: Resource<VmHandle>) -> wasmtime::Result<Option<u32>> {
        self.vmid()
    }

    async fn reserve_number(&mut self, _: Resource<VmHandle>, first: u32) -> Answer<u32> {
        if !(100..=999_999_999).contains(&first) {
            let text = format!("the first VM number is {first}: it must be 100 to 999999999");
            return Ok(Err(failure(Action::FixInput, "first-number", text)));
        }
        let (service, server, claim) = {
            let run = &self.operation()?.run;
            (run.service.id, run.service.server.clone(), run.claim)
        };
        let now = self.lender.clock.now_ms();
        let client = attempt!(self.client().await?);
        let taken: Vec<u32> = attempt!(client.resources(false).await).vms.keys().copied().collect();
        let held = self.vmid()?;
        for _ in 0..UNSEEN {
            let vmid = attempt_books!(
                self.lender.books.reserve_vmid(Some(&claim), &server, service, first, &taken, now).await
            );
            self.operation_mut()?.run.service.vmid = Some(vmid);
            if held == Some(vmid) {
                return Ok(Ok(vmid));
            }
            // The list holds only what the token may see; this answer does not.
            match client.get("/cluster/nextid", &[("vmid", &vmid.to_string())]).await {
                Ok(_) => return Ok(Ok(vmid)),
                Err(PveError::Parameter(errors)) if errors.iter().any(|(_, text)| text.contains("already exists")) => {
                    attempt_books!(self.lender.books.burn_vmid(Some(&claim), &server, service, vmid, now).await);
                    self.operation_mut()?.run.service.vmid = None;
                }
                Err(error) => return Ok(Err(to_failure(&error))),
            }
        }
        let text = format!(
            "{UNSEEN} VM numbers from {first} on are taken by VMs that the token can't see: give it VM.Audit on /vms"
        );
        Ok(Err(failure(Action::FixConfig, "numbers-unseen", text)))
    }

    async fn reserve_room(
        &mut self,
        _: Resource<VmHandle>,
        node: String,
        memory_mib: u32,
        storage: String,
        disk_mib: u32,
    ) -> Answer<()> {
        let (service, server, claim) = {
            let run = &self.operation()?.run;
            (run.service.id, run.service.server.clone(), run.claim)
        };
        let client = attempt!(self.client().await?);
        let resources = attempt!(client.resources(false).await);
        let Some(row) = resources.nodes.iter().find(|n| n.name == node && n.online) else {
            return Ok(Err(failure(Action::Busy, "no-room", format!("node `{node}` is not online"))));
        };
        let Some(store) = resources.storages.iter().find(|s| s.name == storage && s.node == node && s.active) else {
            let text = format!("storage `{storage}` is not available on node `{node}`");
            return Ok(Err(failure(Action::Busy, "no-room", text)));
        };
        let room = Room { service, server, node: node.clone(), memory_mib, storage: storage.clone(), disk_mib };
        let memory = row.memory_total_mib.saturating_sub(row.memory_used_mib);
        let disk = store.total_mib.saturating_sub(store.used_mib);
        if attempt_books!(self.lender.books.reserve_room(Some(&claim), room, memory, disk).await) {
            return Ok(Ok(()));
        }
        let text = format!(
            "not enough room for {memory_mib} MiB of memory on `{node}` and {disk_mib} MiB on `{storage}`, promises to others counted"
        );
        Ok(Err(failure(Action::Busy, "no-room", text)))
    }

    async fn look(&mut self, _: Resource<VmHandle>) -> Answer<Resource<VmView>> {
        let service = self.operation()?.run.service.id;
        let view = match self.vmid()? {
            None => VmView::default(),
            Some(vmid) => {
                let client = attempt!(self.client().await?);
                attempt!(client.look(vmid, service).await)
            }
        };
        Ok(Ok(self.table.push(view)?))
    }

    async fn prove_absence(&mut self, _: Resource<VmHandle>) -> Answer<vms::Absence> {
        let now = self.lender.clock.now_ms();
        let service = self.operation()?.run.service.id;
        let Some(vmid) = self.vmid()? else {
            // No number, no clone: there can't be a VM.
            self.operation_mut()?.absence_proven_ms = Some(now);
            return Ok(Ok(vms::Absence { leftovers: Vec::new() }));
        };
        let unproven = |text: String| failure(Action::Retry, "absence-unproven", text);
        let client = attempt!(self.client().await?);
        let (quorate, offline) = attempt!(client.quorate().await);
        if !quorate {
            return Ok(Err(unproven("the cluster has no quorum, so what it says of its VMs can't be trusted".into())));
        }
        if !offline.is_empty() {
            let text = format!("node {} does not answer: the VM may be there", offline.join(", "));
            return Ok(Err(unproven(text)));
        }
        let view = attempt!(client.look(vmid, service).await);
        match view.presence {
            Presence::None => {}
            // Without its marker it may still be the one that we made.
            Presence::Foreign if attempt_books!(self.ever_cloned().await) => {
                let text = format!(
                    "VM {vmid} was made for this service and no longer carries its marker: find out whose it is"
                );
                return Ok(Err(failure(Action::Busy, "still-there", text)));
            }
            // The number is somebody else's: ours is not under it, and nothing of ours can be.
            Presence::Foreign => {
                self.operation_mut()?.absence_proven_ms = Some(now);
                return Ok(Ok(vms::Absence { leftovers: Vec::new() }));
            }
            Presence::Ours | Presence::Copying => {
                let text = format!("VM {vmid} is still there, on node {}", view.node.unwrap_or_default());
                return Ok(Err(failure(Action::Busy, "still-there", text)));
            }
        }
        let resources = attempt!(client.resources(true).await);
        if resources.vms.contains_key(&vmid) {
            return Ok(Err(failure(Action::Busy, "still-there", format!("VM {vmid} is still listed"))));
        }
        // A list leaves out what the token may not see. Each node says itself that it has no such VM.
        if resources.nodes.is_empty() {
            return Ok(Err(unproven("the token sees no node: give it Sys.Audit on /".into())));
        }
        for node in &resources.nodes {
            let path = format!("/nodes/{}/qemu/{vmid}/config", super::client::segment(&node.name));
            match client.get(&path, &[]).await {
                Err(PveError::Missing(_)) => {}
                Ok(_) => {
                    let text =
                        format!("VM {vmid} is on node {}, and the token can't see it in the cluster's list", node.name);
                    return Ok(Err(failure(Action::Busy, "still-there", text)));
                }
                Err(error) => {
                    return Ok(Err(unproven(format!(
                        "node {} does not say whether it has VM {vmid}: {error}",
                        node.name
                    ))));
                }
            }
        }
        let leftovers = attempt!(leftovers(&client, vmid).await);
        self.operation_mut()?.absence_proven_ms = Some(now);
        Ok(Ok(vms::Absence { leftovers }))
    }

    async fn submit_clone(
        &mut self,
        _: Resource<VmHandle>,
        template: u32,
        name: String,
        full: bool,
        options: Vec<(String, String)>,
    ) -> Answer<String> {
        let vmid = attempt_failure!(self.reserved()?);
        const KNOWN: [&str; 5] = ["target", "storage", "format", "pool", "bwlimit"];
        if let Some((key, _)) = options.iter().find(|(k, _)| !KNOWN.contains(&k.as_str())) {
            let text = format!("clone has no option `{key}`: one of {}", KNOWN.join(", "));
            return Ok(Err(failure(Action::FixInput, "unknown-option", text)));
        }
        if !full && let Some((key, _)) = options.iter().find(|(k, _)| matches!(k.as_str(), "storage" | "format")) {
            let text = format!("a linked copy takes no `{key}`: it stays on its template's storage");
            return Ok(Err(failure(Action::FixInput, "unknown-option", text)));
        }
        attempt_failure!(attempt_books!(self.listed(template).await));
        let client = attempt!(self.client().await?);
        let chosen = options.iter().find(|(k, _)| k == "storage").map(|(_, v)| v.clone());
        let storage = match chosen {
            Some(storage) => storage,
            None => {
                let view = attempt!(client.look_at_template(template).await);
                let disk = view.config.iter().find(|(k, v)| keys::is_disk_slot(k) && !v.contains("media=cdrom"));
                disk.and_then(|(_, v)| v.split_once(':')).map(|(s, _)| s.to_owned()).unwrap_or_default()
            }
        };
        // A storage of one node's own is as many storages as there are nodes: one that is slow must not hold up the others.
        let target = options.iter().find(|(k, _)| k == "target").map(|(_, v)| v.clone());
        let node = match target {
            Some(node) => node,
            None => attempt!(client.node_of(template).await).unwrap_or_default(),
        };
        let resources = attempt!(client.resources(false).await);
        let shared = resources.storages.iter().any(|s| s.name == storage && s.shared);
        let place = if shared { storage } else { format!("{node}/{storage}") };
        let slot = SlotPool { name: format!("clone:{}/{place}", client.name), cap: client.config.clones_per_storage };
        let body = EffectBody::Clone { vmid, template, name, full, options: options.into_iter().collect() };
        self.submit("clone", &body, Some(slot))
    }

    async fn submit_migrate(
        &mut self,
        _: Resource<VmHandle>,
        target: String,
        options: Vec<(String, String)>,
    ) -> Answer<String> {
        let vmid = attempt_failure!(self.reserved()?);
        if let Some((key, _)) = options.iter().find(|(k, _)| !matches!(k.as_str(), "targetstorage" | "bwlimit")) {
            return Ok(Err(failure(Action::FixInput, "unknown-option", format!("migrate has no option `{key}`"))));
        }
        self.submit("migrate", &EffectBody::Migrate { vmid, target, options: options.into_iter().collect() }, None)
    }

    async fn submit_configure(
        &mut self,
        _: Resource<VmHandle>,
        set: Vec<(String, String)>,
        delete: Vec<String>,
        digest: String,
    ) -> Answer<String> {
        let vmid = attempt_failure!(self.reserved()?);
        if let Some(key) = set.iter().map(|(k, _)| k).chain(&delete).find(|k| !keys::known(k)) {
            let text = format!("`{key}` is not a configuration key that Proxmox VE 8 and 9 know: nothing was sent");
            return Ok(Err(failure(Action::FixInput, "unknown-property", text)));
        }
        let service = self.operation()?.run.service.id;
        if let Some((code, text)) = set.iter().find_map(|(k, v)| keys::refused(k, v, vmid, service)) {
            return Ok(Err(failure(Action::FixInput, code, text)));
        }
        if delete.iter().any(|k| k == "description") {
            let text = "the description holds the line by which the VM is known: it can't be deleted";
            return Ok(Err(failure(Action::FixInput, "marker", text)));
        }
        if set.is_empty() && delete.is_empty() {
            return Ok(Err(failure(Action::ReportBug, "nothing-to-do", "configure with nothing to set or delete")));
        }
        if digest.is_empty() {
            return Ok(Err(failure(Action::ReportBug, "no-digest", "configure without the digest of a look")));
        }
        attempt_failure!(self.check_secrets(&set));
        let set: BTreeMap<String, String> = set.into_iter().collect();
        self.submit("configure", &EffectBody::Configure { vmid, set, delete, digest }, None)
    }

    async fn submit_resize(&mut self, _: Resource<VmHandle>, disk: String, to_mib: u32) -> Answer<String> {
        let vmid = attempt_failure!(self.reserved()?);
        if !keys::is_disk_slot(&disk) {
            return Ok(Err(failure(Action::FixInput, "unknown-disk", format!("`{disk}` is no disk slot"))));
        }
        self.submit("resize", &EffectBody::Resize { vmid, disk, to_mib }, None)
    }

    async fn submit_start(&mut self, _: Resource<VmHandle>) -> Answer<String> {
        let vmid = attempt_failure!(self.reserved()?);
        self.submit("start", &EffectBody::Start { vmid }, None)
    }

    async fn submit_shutdown(&mut self, _: Resource<VmHandle>, timeout_s: u32, force: bool) -> Answer<String> {
        let vmid = attempt_failure!(self.reserved()?);
        self.submit("shutdown", &EffectBody::Shutdown { vmid, timeout_s: timeout_s.clamp(1, 3_600), force }, None)
    }

    async fn submit_stop(&mut self, _: Resource<VmHandle>) -> Answer<String> {
        let vmid = attempt_failure!(self.reserved()?);
        self.submit("stop", &EffectBody::Stop { vmid }, None)
    }

    async fn submit_destroy(&mut self, _: Resource<VmHandle>) -> Answer<String> {
        let vmid = attempt_failure!(self.reserved()?);
        self.submit("destroy", &EffectBody::Destroy { vmid }, None)
    }

    async fn submit_firewall_options(&mut self, _: Resource<VmHandle>, set: Vec<(String, String)>) -> Answer<String> {
        let vmid = attempt_failure!(self.reserved()?);
        const KNOWN: [&str; 10] = [
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
        ];
        if let Some((key, _)) = set.iter().find(|(k, _)| !KNOWN.contains(&k.as_str())) {
            return Ok(Err(failure(
                Action::FixInput,
                "unknown-property",
                format!("a VM's firewall has no option `{key}`"),
            )));
        }
        let set: BTreeMap<String, String> = set.into_iter().collect();
        self.submit("firewall-options", &EffectBody::FirewallOptions { vmid, set }, None)
    }

    async fn submit_firewall_set(
        &mut self,
        _: Resource<VmHandle>,
        name: String,
        addresses: Vec<String>,
    ) -> Answer<String> {
        let vmid = attempt_failure!(self.reserved()?);
        let mut parsed = Vec::new();
        for text in &addresses {
            match super::effects::network(text) {
                Some(network) => parsed.push(network),
                None => {
                    let text = format!("`{text}` is neither an address nor a network");
                    return Ok(Err(failure(Action::FixInput, "address", text)));
                }
            }
        }
        self.submit("firewall-set", &EffectBody::FirewallSet { vmid, name, addresses: parsed }, None)
    }

    async fn drop(&mut self, handle: Resource<VmHandle>) -> wasmtime::Result<()> {
        self.table.delete(handle)?;
        Ok(())
    }
}

/// Volumes that carry the number, over all storages that can hold disks.
async fn leftovers(client: &Client, vmid: u32) -> Result<Vec<String>, PveError> {
    let resources = client.resources(false).await?;
    let mut found = Vec::new();
    let mut shared_seen = Vec::new();
    for row in resources.storages.iter().filter(|s| s.active && s.content.iter().any(|c| c == "images")) {
        if row.shared {
            if shared_seen.contains(&row.name) {
                continue;
            }
            shared_seen.push(row.name.clone());
        }
        let path = format!(
            "/nodes/{}/storage/{}/content",
            super::client::segment(&row.node),
            super::client::segment(&row.name)
        );
        let volumes = client.get(&path, &[("content", "images"), ("vmid", &vmid.to_string())]).await?;
        for volume in volumes.as_array().map(Vec::as_slice).unwrap_or_default() {
            if number(volume, "vmid") == Some(u64::from(vmid)) {
                found.push(text(volume, "volid").to_owned());
            }
        }
    }
    Ok(found)
}

impl cluster::Host for CallState {
    async fn version(&mut self) -> Answer<String> {
        let client = attempt!(self.client().await?);
        Ok(Ok(attempt!(client.version().await)))
    }

    async fn nodes(&mut self) -> Answer<Vec<cluster::Node>> {
        let server = self.server_name()?;
        let own = match &self.bound {
            Bound::Operation(binding) => Some(binding.run.service.id),
            _ => None,
        };
        let client = attempt!(self.client().await?);
        let resources = attempt!(client.resources(false).await);
        let rooms = attempt_books!(self.lender.books.rooms(&server).await);
        Ok(Ok(resources
            .nodes
            .iter()
            .map(|node| cluster::Node {
                name: node.name.clone(),
                online: node.online,
                memory_total_mib: node.memory_total_mib,
                memory_used_mib: node.memory_used_mib,
                // What this service was promised itself is no obstacle to it.
                promised_mib: rooms
                    .iter()
                    .filter(|r| r.node == node.name && Some(r.service) != own)
                    .map(|r| r.memory_mib)
                    .sum(),
                cpus: node.cpus,
                ext: Vec::new(),
            })
            .collect()))
    }

    async fn image(&mut self, name: String) -> Answer<Vec<cluster::Template>> {
        let server = self.server_name()?;
        let object = attempt_books!(self.lender.books.object(ObjectKind::Image, &name).await);
        let Some(object) = object else { return Ok(Ok(Vec::new())) };
        let Ok(image) = serde_json::from_value::<Image>(object.body) else {
            let text = format!("the image `{name}` can't be read: save it again");
            return Ok(Err(failure(Action::FixConfig, "image", text)));
        };
        let client = attempt!(self.client().await?);
        let resources = attempt!(client.resources(false).await);
        let (mut list, mut unseen) = (Vec::new(), None);
        for entry in image.templates.iter().filter(|t| t.server == server) {
            let Some(row) = resources.vms.get(&entry.vmid).filter(|vm| vm.template) else {
                unseen.get_or_insert_with(|| {
                    format!("server `{server}` has no template {}: correct the image `{name}`", entry.vmid)
                });
                continue;
            };
            let view = match client.look_at_template(entry.vmid).await {
                Ok(view) => view,
                // One node that is away must not hide the template on another.
                Err(error @ (PveError::Unreachable(_) | PveError::Missing(_))) => {
                    unseen =
                        Some(format!("template {} is on node {}, which is offline: {error}", entry.vmid, row.node));
                    continue;
                }
                Err(error) => return Ok(Err(to_failure(&error))),
            };
            let disk = view.config.iter().find(|(k, v)| keys::is_disk_slot(k) && !v.contains("media=cdrom"));
            let storage = disk.and_then(|(_, v)| v.split_once(':')).map(|(s, _)| s.to_owned()).unwrap_or_default();
            let shared = resources.storages.iter().any(|s| s.name == storage && s.shared);
            list.push(cluster::Template {
                number: entry.vmid,
                node: row.node.clone(),
                storage,
                shared,
                ext: Vec::new(),
            });
        }
        if let (true, Some(why)) = (list.is_empty(), unseen) {
            let text = format!("no template of the image `{name}` can be used now: {why}");
            return Ok(Err(failure(Action::Retry, "template-unseen", text)));
        }
        Ok(Ok(list))
    }

    async fn images(&mut self) -> Answer<Vec<String>> {
        let server = self.server_name()?;
        let objects = attempt_books!(self.lender.books.objects(ObjectKind::Image).await);
        Ok(Ok(objects
            .into_iter()
            .filter(|o| {
                serde_json::from_value::<Image>(o.body.clone())
                    .is_ok_and(|image| image.templates.iter().any(|t| t.server == server))
            })
            .map(|o| o.name)
            .collect()))
    }

    async fn look_at_template(&mut self, number: u32) -> Answer<Resource<VmView>> {
        attempt_failure!(attempt_books!(self.listed(number).await));
        let client = attempt!(self.client().await?);
        let view = attempt!(client.look_at_template(number).await);
        Ok(Ok(self.table.push(view)?))
    }

    async fn firewall_option(&mut self, key: String) -> Answer<Option<String>> {
        let client = attempt!(self.client().await?);
        let options = attempt!(client.get("/cluster/firewall/options", &[]).await);
        Ok(Ok(options.get(&key).and_then(crate::hook::as_text)))
    }
}
