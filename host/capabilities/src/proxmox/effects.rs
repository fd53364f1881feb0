//! Executes effects on Proxmox, and finds out what became of those whose answer was lost.
//!
//! Every write but a clone is preceded by a fresh match of the ownership marker. A clone's key is its new number: Proxmox
//! refuses a second configuration under one number, cluster-wide, so a repeated clone can't make a second VM. A
//! configuration carries the digest of the look it was made from; a resize is absolute; a destroyed number is never used
//! again.

use std::{collections::BTreeMap, net::IpAddr, sync::Arc};

use async_trait::async_trait;
use futures::StreamExt;
use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use wharf_model::{
    Clock,
    effect::{Effect, EffectResult},
    service::Service,
};
use wharf_store::{Books, queue::secret_owner};

use super::{
    Servers,
    client::{Client, PveError, is_busy, is_missing, number, segment, text},
    keys, marker,
    vms::placeholders,
};
use crate::{
    call::{Presence, VmView},
    effects::{Effector, Execution, Guest, GuestConfig, TaskView},
    scrub::Scrubber,
    secrets::Keyring,
};

/// How long a `lock: clone` without a running task is taken for a slow cluster rather than a dead stub.
const DEAD_STUB_MS: i64 = 600_000;
/// Clocks of host and nodes may differ by so much when tasks are looked up by time.
const SKEW_S: i64 = 120;
/// Tasks of one server that are looked at at a time.
const LOOKS: usize = 8;
const BUSY_RETRY_MS: i64 = 2_000;
/// Between tries at a server that refuses: an admin has to act.
const ADMIN_RETRY_MS: i64 = 30_000;

/// What an effect does, as it stands in the journal. Secrets stand in it as `{{name}}` only.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "do", rename_all = "kebab-case")]
pub enum EffectBody {
    Clone { vmid: u32, template: u32, name: String, full: bool, options: BTreeMap<String, String> },
    Migrate { vmid: u32, target: String, options: BTreeMap<String, String> },
    Configure { vmid: u32, set: BTreeMap<String, String>, delete: Vec<String>, digest: String },
    Resize { vmid: u32, disk: String, to_mib: u32 },
    Start { vmid: u32 },
    Shutdown { vmid: u32, timeout_s: u32, force: bool },
    Stop { vmid: u32 },
    Destroy { vmid: u32 },
    FirewallOptions { vmid: u32, set: BTreeMap<String, String> },
    FirewallSet { vmid: u32, name: String, addresses: Vec<IpNet> },
    RemoveBackup { vmid: u32, node: String, storage: String, volume: String },
}

impl EffectBody {
    fn vmid(&self) -> u32 {
        match self {
            Self::Clone { vmid, .. }
            | Self::Migrate { vmid, .. }
            | Self::Configure { vmid, .. }
            | Self::Resize { vmid, .. }
            | Self::Start { vmid }
            | Self::Shutdown { vmid, .. }
            | Self::Stop { vmid }
            | Self::Destroy { vmid }
            | Self::FirewallOptions { vmid, .. }
            | Self::FirewallSet { vmid, .. }
            | Self::RemoveBackup { vmid, .. } => *vmid,
        }
    }

    /// Proxmox's word for the task.
    fn task_kind(&self) -> &'static str {
        match self {
            Self::Clone { .. } => "qmclone",
            Self::Migrate { .. } => "qmigrate",
            Self::Configure { .. } => "qmconfig",
            Self::Resize { .. } => "resize",
            Self::Start { .. } => "qmstart",
            Self::Shutdown { .. } => "qmshutdown",
            Self::Stop { .. } => "qmstop",
            Self::Destroy { .. } => "qmdestroy",
            Self::FirewallOptions { .. } | Self::FirewallSet { .. } => "firewall",
            Self::RemoveBackup { .. } => "imgdel",
        }
    }

    /// The number that stands in the id of its task: a clone's is its template's.
    fn task_id(&self) -> u32 {
        if let Self::Clone { template, .. } = self { *template } else { self.vmid() }
    }
}

/// An address or network in any spelling.
pub fn network(text: &str) -> Option<IpNet> {
    text.parse::<IpNet>().ok().map(|n| n.trunc()).or_else(|| text.parse::<IpAddr>().ok().map(IpNet::from))
}

fn ok() -> Execution {
    Execution::Done(EffectResult { ok: true, code: String::new(), message: String::new() })
}

fn failed(code: &str, message: impl Into<String>) -> Execution {
    Execution::Done(result(false, code, message))
}

fn result(ok: bool, code: &str, message: impl Into<String>) -> EffectResult {
    EffectResult { ok, code: code.into(), message: message.into() }
}

fn busy(reason: impl Into<String>) -> Execution {
    Execution::NotSent { code: "busy".into(), reason: reason.into(), retry_after_ms: Some(BUSY_RETRY_MS) }
}

/// What an error of a write means for the effect.
fn after(error: PveError) -> Execution {
    let not_sent =
        |code: &str, reason: String, retry_after_ms| Execution::NotSent { code: code.into(), reason, retry_after_ms };
    match error {
        PveError::Busy(reason) => busy(reason),
        PveError::Unreachable(_) => not_sent("unreachable", error.to_string(), None),
        PveError::InDoubt(_) => Execution::InDoubt { reason: error.to_string() },
        PveError::Unauthorized(reason) => not_sent("parked", reason, Some(ADMIN_RETRY_MS)),
        PveError::Forbidden { .. } => not_sent("forbidden", error.to_string(), Some(ADMIN_RETRY_MS)),
        PveError::Config(reason) => not_sent("server-config", reason, Some(ADMIN_RETRY_MS)),
        PveError::Parameter(_) => failed("refused", error.to_string()),
        PveError::Missing(reason) => busy(reason),
        PveError::Failed(reason) if reason.contains("checksum mismatch") || reason.contains("detected modified") => {
            failed("digest", reason)
        }
        PveError::Failed(reason) => failed("refused", reason),
    }
}

/// Executes effects on all servers.
pub struct Executor {
    servers: Arc<Servers>,
    books: Books,
    keyring: Arc<Keyring>,
    clock: Arc<dyn Clock>,
}

/// Where the writes of one effect leave, and until when: one that is sent later could overtake the look for it.
struct Outlet<'a> {
    client: &'a Client,
    end: tokio::time::Instant,
}

impl Outlet<'_> {
    async fn write(
        &self,
        method: &'static str,
        node: &str,
        path: &str,
        params: Vec<(String, String)>,
    ) -> Result<Value, PveError> {
        self.client.write(method, node, path, params, self.end).await
    }
}

/// What a fresh look before a write allows.
enum Owned {
    Yes(Box<VmView>),
    Gone,
    No(Execution),
}

impl Executor {
    pub fn new(servers: Arc<Servers>, books: Books, keyring: Arc<Keyring>, clock: Arc<dyn Clock>) -> Self {
        Self { servers, books, keyring, clock }
    }

    async fn owned(&self, client: &Client, vmid: u32, service: &Service) -> Owned {
        match client.look(vmid, service.id).await {
            Err(error @ PveError::InDoubt(_)) => Owned::No(after(PveError::Unreachable(error.to_string()))),
            Err(error) => Owned::No(after(error)),
            Ok(view) => match view.presence {
                Presence::Ours => Owned::Yes(Box::new(view)),
                Presence::None => Owned::Gone,
                Presence::Copying => Owned::No(busy(format!("VM {vmid} is still being copied"))),
                Presence::Foreign => Owned::No(failed(
                    "foreign",
                    format!(
                        "VM {vmid} does not carry the marker of this service: it is somebody else's and is not touched"
                    ),
                )),
            },
        }
    }

    fn outlet<'a>(&self, client: &'a Client, effect: &Effect) -> Outlet<'a> {
        let left = u64::try_from(effect.deadline_ms.saturating_sub(self.clock.now_ms())).unwrap_or(0);
        Outlet { client, end: tokio::time::Instant::now() + std::time::Duration::from_millis(left) }
    }

    async fn clone_vm(&self, client: &Client, effect: &Effect, service: &Service, body: &EffectBody) -> Execution {
        let EffectBody::Clone { vmid, template, name, full, options } = body else {
            return failed("bug", "not a clone");
        };
        let out = self.outlet(client, effect);
        // Burnt meanwhile: whatever comes under that number is not this service's.
        match self.books.service(service.id).await {
            Ok(Some(row)) if row.vmid == Some(*vmid) => {}
            Ok(_) => return failed("number-taken", format!("VM number {vmid} is no longer this service's")),
            Err(error) => return after(PveError::Unreachable(format!("the host's books: {error}"))),
        }
        let node = match client.node_of(*template).await {
            Ok(Some(node)) => node,
            Ok(None) => return failed("no-template", format!("template {template} is not on this server any more")),
            Err(error) => return after_read(error),
        };
        let description = format!("{}\n{}:{}", marker(service.id), service.panel, service.reference);
        let mut params = vec![
            ("newid".to_owned(), vmid.to_string()),
            ("name".to_owned(), name.clone()),
            ("description".to_owned(), description),
            ("full".to_owned(), i32::from(*full).to_string()),
        ];
        params.extend(options.iter().map(|(k, v)| (k.clone(), v.clone())));
        let path = format!("/nodes/{}/qemu/{template}/clone", segment(&node));
        match out.write("POST", &node, &path, params).await {
            Ok(value) => task_of(&value),
            Err(PveError::Failed(text)) if text.contains("already exists") => {
                self.number_exists(client, effect, service, body).await
            }
            Err(PveError::Parameter(errors)) if errors.iter().any(|(_, text)| text.contains("already exists")) => {
                self.number_exists(client, effect, service, body).await
            }
            Err(error) => after(error),
        }
    }

    /// A VM has the number that a clone of ours was to get.
    async fn number_exists(&self, client: &Client, effect: &Effect, service: &Service, body: &EffectBody) -> Execution {
        let vmid = body.vmid();
        let view = match client.look(vmid, service.id).await {
            Ok(view) => view,
            Err(error) => return after_probe(error),
        };
        match view.presence {
            Presence::None => busy(format!("number {vmid} was taken a moment ago and is free again")),
            Presence::Foreign => self.burn(client, service, vmid).await,
            Presence::Ours if view.lock.is_none() => ok(),
            Presence::Ours | Presence::Copying => {
                match self.running_task(client, effect, body, view.node.as_deref()).await {
                    Ok(Some(task)) => Execution::Task(task),
                    Ok(None) if self.clock.now_ms() - effect.created_ms > DEAD_STUB_MS => Execution::Stuck {
                        reason: format!(
                            "VM {vmid} on node {} holds the lock `clone`, but no clone runs: what is left of an interrupted copy. \
                         On that node run `qm unlock {vmid}` and `qm destroy {vmid}`, then resume the operation",
                            view.node.unwrap_or_default()
                        ),
                    },
                    Ok(None) => Execution::InDoubt {
                        reason: format!("VM {vmid} is locked for a copy, and its task is not to be seen yet"),
                    },
                    Err(error) => after_probe(error),
                }
            }
        }
    }

    async fn burn(&self, client: &Client, service: &Service, vmid: u32) -> Execution {
        match self.books.burn_vmid(None, &client.name, service.id, vmid, self.clock.now_ms()).await {
            Ok(()) => {
                failed("number-taken", format!("VM number {vmid} was taken by somebody else: it is never used again"))
            }
            Err(error) => Execution::InDoubt { reason: format!("the host's books: {error}") },
        }
    }

    /// A task of ours of this sort that runs now, begun since the effect was.
    async fn running_task(
        &self,
        client: &Client,
        effect: &Effect,
        body: &EffectBody,
        node: Option<&str>,
    ) -> Result<Option<String>, PveError> {
        let since = effect.created_ms / 1000 - SKEW_S;
        let id = body.task_id().to_string();
        // A clone runs on the template's node, wherever its result is.
        let mut nodes: Vec<String> = node.map(str::to_owned).into_iter().collect();
        if let Some(template) = client.node_of(body.task_id()).await?
            && !nodes.contains(&template)
        {
            nodes.push(template);
        }
        for node in nodes {
            let path = format!("/nodes/{}/tasks", segment(&node));
            let params = [("source", "active"), ("typefilter", body.task_kind()), ("vmid", id.as_str())];
            let tasks = client.get(&path, &params).await?;
            let ours = tasks.as_array().map(Vec::as_slice).unwrap_or_default().iter().find(|task| {
                text(task, "user") == client.config.token_id
                    && text(task, "id") == id
                    && number(task, "starttime").and_then(|s| i64::try_from(s).ok()).is_some_and(|s| s >= since)
            });
            if let Some(task) = ours {
                return Ok(Some(text(task, "upid").to_owned()));
            }
        }
        Ok(None)
    }

    /// A text of a server without the service's secrets: it may quote what it was given, and when is up to it. What can't be
    /// cleaned is not let out.
    async fn clean(&self, service: &Service, text: String) -> String {
        if text.is_empty() {
            return text;
        }
        let owner = secret_owner(service.id);
        let known = async {
            let mut known = Vec::new();
            for slot in self.books.secret_slots(&owner).await.map_err(|e| e.to_string())? {
                if let Some(sealed) = self.books.secret(&owner, &slot).await.map_err(|e| e.to_string())? {
                    let value = self.keyring.open(&owner, &slot, &sealed);
                    known.push((slot.clone(), value.map_err(|e| format!("the secret `{slot}` of the service: {e}"))?));
                }
            }
            Ok::<_, String>(known)
        };
        match known.await {
            Ok(known) => Scrubber::of(known.iter().map(|(slot, v)| (slot.as_str(), v.as_slice()))).text(&text),
            Err(why) => format!("what the server said is not shown, as it may hold a secret: {why}"),
        }
    }

    async fn cleaned(&self, service: &Service, execution: Execution) -> Execution {
        match execution {
            Execution::Task(task) => Execution::Task(task),
            Execution::Done(done) => {
                let message = self.clean(service, done.message).await;
                Execution::Done(EffectResult { message, ..done })
            }
            Execution::NotSent { code, reason, retry_after_ms } => {
                Execution::NotSent { code, reason: self.clean(service, reason).await, retry_after_ms }
            }
            Execution::InDoubt { reason } => Execution::InDoubt { reason: self.clean(service, reason).await },
            Execution::Stuck { reason } => Execution::Stuck { reason: self.clean(service, reason).await },
        }
    }

    /// Puts values in where `{{name}}` stands.
    async fn reveal(
        &self,
        service: &Service,
        set: &BTreeMap<String, String>,
    ) -> Result<Vec<(String, String)>, Execution> {
        let owner = secret_owner(service.id);
        let mut params = Vec::new();
        for (key, value) in set {
            let mut value = value.clone();
            for name in placeholders(&value) {
                let sealed = match self.books.secret(&owner, &name).await {
                    Ok(Some(sealed)) => sealed,
                    Ok(None) => return Err(failed("no-secret", format!("the service has no secret `{name}`"))),
                    Err(error) => {
                        return Err(Execution::NotSent {
                            code: "books".into(),
                            reason: error.to_string(),
                            retry_after_ms: None,
                        });
                    }
                };
                match self.keyring.open(&owner, &name, &sealed) {
                    Ok(secret) => {
                        value = value.replace(&format!("{{{{{name}}}}}"), &String::from_utf8_lossy(&secret));
                    }
                    Err(error) => {
                        return Err(Execution::NotSent {
                            code: "secret".into(),
                            reason: error.to_string(),
                            retry_after_ms: Some(ADMIN_RETRY_MS),
                        });
                    }
                }
            }
            params.push((key.clone(), value));
        }
        Ok(params)
    }

    async fn run(&self, client: &Client, effect: &Effect, service: &Service, body: &EffectBody) -> Execution {
        if matches!(body, EffectBody::Clone { .. }) {
            return self.clone_vm(client, effect, service, body).await;
        }
        let out = self.outlet(client, effect);
        if let EffectBody::RemoveBackup { vmid, node, storage, volume } = body {
            let path = format!("/nodes/{}/storage/{}/content", segment(node), segment(storage));
            let rows = match client.get(&path, &[("content", "backup"), ("vmid", &vmid.to_string())]).await {
                Ok(rows) => rows,
                Err(error) => return after_read(error),
            };
            let own = marker(service.id);
            match rows.as_array().and_then(|rows| rows.iter().find(|row| text(row, "volid") == volume)) {
                None => return ok(),
                Some(row) if !text(row, "notes").split_whitespace().any(|word| word == own) => {
                    return failed(
                        "foreign",
                        format!("`{volume}` does not carry the marker of this service: it is left alone"),
                    );
                }
                Some(_) => {}
            }
            let path = format!("{path}/{}", segment(volume));
            return match out.write("DELETE", node, &path, Vec::new()).await {
                Ok(value) => task_or_done(&value),
                Err(PveError::Failed(text)) if text.contains("does not exist") => ok(),
                Err(error) => after(error),
            };
        }
        let vmid = body.vmid();
        let view = match self.owned(client, vmid, service).await {
            Owned::Yes(view) => view,
            Owned::Gone if matches!(body, EffectBody::Destroy { .. }) => return ok(),
            Owned::Gone => return failed("gone", format!("VM {vmid} is not there")),
            Owned::No(execution) => return execution,
        };
        let node = view.node.clone().unwrap_or_default();
        let at = format!("/nodes/{}/qemu/{vmid}", segment(&node));
        let owned = |pairs: &[(&str, String)]| -> Vec<(String, String)> {
            pairs.iter().map(|(k, v)| ((*k).to_owned(), v.clone())).collect()
        };
        let answer = match body {
            EffectBody::Clone { .. } | EffectBody::RemoveBackup { .. } => return failed("bug", "handled before"),
            EffectBody::Migrate { target, options, .. } => {
                if node == *target {
                    return ok();
                }
                let mut params = owned(&[("target", target.clone()), ("with-local-disks", "1".into())]);
                params.extend(options.iter().map(|(k, v)| (k.clone(), v.clone())));
                out.write("POST", &node, &format!("{at}/migrate"), params).await
            }
            EffectBody::Configure { set, delete, digest, .. } => {
                let mut params = match self.reveal(service, set).await {
                    Ok(revealed) => revealed,
                    Err(execution) => return execution,
                };
                if !delete.is_empty() {
                    params.push(("delete".into(), delete.join(",")));
                }
                params.push(("digest".into(), digest.clone()));
                // Allocating a disk may take longer than a proxied call may last, so it runs as a task.
                let allocates = set.iter().any(|(k, v)| keys::new_disk(k, v).is_some());
                let method = if allocates { "POST" } else { "PUT" };
                out.write(method, &node, &format!("{at}/config"), params).await
            }
            EffectBody::Resize { disk, to_mib, .. } => {
                let params = owned(&[("disk", disk.clone()), ("size", format!("{to_mib}M"))]);
                out.write("PUT", &node, &format!("{at}/resize"), params).await
            }
            EffectBody::Start { .. } if view.status == "running" => return ok(),
            EffectBody::Start { .. } => out.write("POST", &node, &format!("{at}/status/start"), Vec::new()).await,
            EffectBody::Shutdown { .. } | EffectBody::Stop { .. } if view.status == "stopped" => return ok(),
            EffectBody::Shutdown { timeout_s, force, .. } => {
                let params = owned(&[("timeout", timeout_s.to_string()), ("forceStop", i32::from(*force).to_string())]);
                out.write("POST", &node, &format!("{at}/status/shutdown"), params).await
            }
            EffectBody::Stop { .. } => out.write("POST", &node, &format!("{at}/status/stop"), Vec::new()).await,
            EffectBody::Destroy { .. } => {
                if view.status != "stopped" {
                    return failed("running", format!("VM {vmid} is {}: a running VM can't be removed", view.status));
                }
                out.write("DELETE", &node, &at, owned(&[("purge", "1".into())])).await
            }
            EffectBody::FirewallOptions { set, .. } => {
                let params = set.iter().map(|(k, v)| (k.clone(), v.clone())).collect();
                out.write("PUT", &node, &format!("{at}/firewall/options"), params).await
            }
            EffectBody::FirewallSet { name, addresses, .. } => {
                return self.firewall_set(&out, &node, &at, name, addresses).await;
            }
        };
        match answer {
            Ok(value) => task_or_done(&value),
            Err(error) => after(error),
        }
    }

    /// What is missing goes in before what is too much goes out: an empty set would drop all traffic.
    async fn firewall_set(&self, out: &Outlet<'_>, node: &str, at: &str, name: &str, wanted: &[IpNet]) -> Execution {
        let client = out.client;
        let sets = match client.get(&format!("{at}/firewall/ipset"), &[]).await {
            Ok(sets) => sets,
            Err(error) => return after_read(error),
        };
        let path = format!("{at}/firewall/ipset/{}", segment(name));
        let there = sets.as_array().map(Vec::as_slice).unwrap_or_default().iter().any(|s| text(s, "name") == name);
        if !there {
            match out.write("POST", node, &format!("{at}/firewall/ipset"), vec![("name".into(), name.to_owned())]).await
            {
                Ok(_) => {}
                Err(PveError::Parameter(errors)) if errors.iter().any(|(_, t)| t.contains("already exists")) => {}
                Err(error) => return after(error),
            }
        }
        let entries = match self.entries(client, &path).await {
            Ok(entries) => entries,
            Err(error) => return after_read(error),
        };
        for network in wanted.iter().filter(|w| !entries.iter().any(|(_, e)| e == *w)) {
            match out.write("POST", node, &path, vec![("cidr".into(), plain_address(network))]).await {
                Ok(_) => {}
                Err(PveError::Parameter(errors)) if errors.iter().any(|(_, t)| t.contains("already exists")) => {}
                Err(error) => return after(error),
            }
        }
        for (spelling, _) in entries.iter().filter(|(_, e)| !wanted.contains(e)) {
            if let Err(error) = out.write("DELETE", node, &format!("{path}/{}", segment(spelling)), Vec::new()).await {
                return after(error);
            }
        }
        ok()
    }

    /// As stored, and parsed: the same address has several spellings.
    async fn entries(&self, client: &Client, path: &str) -> Result<Vec<(String, IpNet)>, PveError> {
        let rows = client.get(path, &[]).await?;
        Ok(rows
            .as_array()
            .map(Vec::as_slice)
            .unwrap_or_default()
            .iter()
            .filter_map(|row| network(text(row, "cidr")).map(|n| (text(row, "cidr").to_owned(), n)))
            .collect())
    }

    async fn look_for(&self, client: &Client, effect: &Effect, service: &Service, body: &EffectBody) -> Execution {
        let vmid = body.vmid();
        if matches!(body, EffectBody::Clone { .. }) {
            return match client.look(vmid, service.id).await {
                Ok(view) if view.presence == Presence::None => Execution::NotSent {
                    code: "not-there".into(),
                    reason: format!("no VM {vmid} has come of it: it is sent again"),
                    retry_after_ms: Some(0),
                },
                Ok(_) => self.number_exists(client, effect, service, body).await,
                Err(error) => after_probe(error),
            };
        }
        if let EffectBody::RemoveBackup { node, storage, volume, vmid } = body {
            let path = format!("/nodes/{}/storage/{}/content", segment(node), segment(storage));
            return match client.get(&path, &[("content", "backup"), ("vmid", &vmid.to_string())]).await {
                Ok(rows) if rows.as_array().is_some_and(|r| r.iter().any(|v| text(v, "volid") == volume)) => again(),
                Ok(_) => ok(),
                Err(error) => after_probe(error),
            };
        }
        let view = match client.look(vmid, service.id).await {
            Ok(view) => view,
            Err(error) => return after_probe(error),
        };
        match view.presence {
            Presence::Ours => {}
            Presence::None if matches!(body, EffectBody::Destroy { .. }) => return ok(),
            Presence::None => return failed("gone", format!("VM {vmid} is not there")),
            Presence::Copying => return Execution::InDoubt { reason: format!("VM {vmid} is being copied") },
            Presence::Foreign => return failed("foreign", format!("VM {vmid} is somebody else's now")),
        }
        match self.running_task(client, effect, body, view.node.as_deref()).await {
            Ok(Some(task)) => return Execution::Task(task),
            Ok(None) => {}
            Err(error) => return after_probe(error),
        }
        self.compare(client, body, &view).await
    }

    /// No task runs: is it as the effect wanted it?
    async fn compare(&self, client: &Client, body: &EffectBody, view: &VmView) -> Execution {
        let node = view.node.clone().unwrap_or_default();
        let at = format!("/nodes/{}/qemu/{}", segment(&node), body.vmid());
        match body {
            EffectBody::Clone { .. } | EffectBody::RemoveBackup { .. } => failed("bug", "handled before"),
            EffectBody::Migrate { target, .. } => done_if(node == *target),
            EffectBody::Configure { set, delete, digest, .. } => {
                if view.digest == *digest {
                    return again();
                }
                let set_ok = set.iter().all(|(key, value)| match view.config.get(key) {
                    // Read back masked: that the configuration changed is all that can be known.
                    Some(_) if !placeholders(value).is_empty() => true,
                    Some(stands) => keys::same(key, value, stands),
                    None => false,
                });
                if set_ok && delete.iter().all(|key| !view.config.contains_key(key)) {
                    ok()
                } else {
                    failed("digest", "the configuration was changed by other hands meanwhile")
                }
            }
            EffectBody::Resize { disk, to_mib, .. } => {
                let size = view.config.get(disk).and_then(|v| {
                    keys::parts(v).1.into_iter().find(|(k, _)| k == "size").and_then(|(_, v)| keys::size_mib(&v))
                });
                done_if(size.is_some_and(|s| s >= u64::from(*to_mib)))
            }
            EffectBody::Start { .. } => done_if(view.status == "running"),
            EffectBody::Shutdown { .. } | EffectBody::Stop { .. } => done_if(view.status == "stopped"),
            EffectBody::Destroy { .. } => again(),
            EffectBody::FirewallOptions { set, .. } => match client.get(&format!("{at}/firewall/options"), &[]).await {
                Ok(stands) => {
                    let now = |key: &str| stands.get(key).and_then(crate::hook::as_text);
                    done_if(set.iter().all(|(k, v)| now(k).as_ref() == Some(v)))
                }
                Err(error) => after_probe(error),
            },
            EffectBody::FirewallSet { name, addresses, .. } => {
                match self.entries(client, &format!("{at}/firewall/ipset/{}", segment(name))).await {
                    Ok(entries) => {
                        let same =
                            entries.len() == addresses.len() && entries.iter().all(|(_, e)| addresses.contains(e));
                        done_if(same)
                    }
                    // The set itself may not have been made.
                    Err(PveError::Failed(_) | PveError::Parameter(_)) => again(),
                    Err(error) => after_probe(error),
                }
            }
        }
    }

    async fn task_view(
        &self,
        client: &Client,
        effect: &Effect,
        service: &Service,
        body: &EffectBody,
        upid: &str,
    ) -> TaskView {
        let node = upid.split(':').nth(1).unwrap_or_default();
        let path = format!("/nodes/{}/tasks/{}/status", segment(node), segment(upid));
        let status = match client.get(&path, &[]).await {
            Ok(status) => status,
            Err(PveError::Parameter(errors)) => {
                return TaskView::Lost { reason: errors.into_iter().map(|(_, t)| t).collect::<Vec<_>>().join("; ") };
            }
            Err(error) => return TaskView::Unreachable { reason: error.to_string() },
        };
        if text(&status, "status") != "stopped" {
            return TaskView::Running;
        }
        let exit = text(&status, "exitstatus");
        if exit == "OK" {
            return TaskView::Ended(result(true, "", ""));
        }
        if exit.starts_with("WARNINGS") {
            return TaskView::Ended(result(
                true,
                "warnings",
                format!("ended with {exit}: see the task's log on the server"),
            ));
        }
        if matches!(body, EffectBody::Start { .. }) && exit.contains("already running") {
            return TaskView::Ended(result(true, "", ""));
        }
        if matches!(body, EffectBody::Clone { .. }) && exit.contains("already exists") {
            return match self.number_exists(client, effect, service, body).await {
                Execution::Done(result) => TaskView::Ended(result),
                Execution::Stuck { reason } | Execution::InDoubt { reason } => TaskView::Lost { reason },
                Execution::Task(_) | Execution::NotSent { .. } => TaskView::Lost { reason: exit.to_owned() },
            };
        }
        // Moved by other hands before the task began: nothing was done, and the next look finds it elsewhere.
        if is_missing(exit) {
            return TaskView::Lost { reason: exit.to_owned() };
        }
        let code = if is_busy(exit) { "locked" } else { "task-failed" };
        TaskView::Ended(result(false, code, exit))
    }
}

fn plain_address(network: &IpNet) -> String {
    if network.prefix_len() == network.max_prefix_len() { network.addr().to_string() } else { network.to_string() }
}

fn task_of(value: &Value) -> Execution {
    match value.as_str().filter(|upid| upid.starts_with("UPID:")) {
        Some(upid) => Execution::Task(upid.to_owned()),
        None => Execution::InDoubt { reason: "the server gave no task id".into() },
    }
}

fn task_or_done(value: &Value) -> Execution {
    match value.as_str().filter(|upid| upid.starts_with("UPID:")) {
        Some(upid) => Execution::Task(upid.to_owned()),
        None => ok(),
    }
}

fn done_if(so: bool) -> Execution {
    if so { ok() } else { again() }
}

/// Surely not done: it may be sent again, at once.
fn again() -> Execution {
    Execution::NotSent {
        code: "not-done".into(),
        reason: "it has not happened: it is sent again".into(),
        retry_after_ms: Some(0),
    }
}

/// A read before the write failed: nothing was sent.
fn after_read(error: PveError) -> Execution {
    match error {
        PveError::InDoubt(text) => after(PveError::Unreachable(text)),
        other => after(other),
    }
}

/// A probe failed: nothing is known yet.
fn after_probe(error: PveError) -> Execution {
    Execution::InDoubt { reason: error.to_string() }
}

fn parse(effect: &Effect) -> Result<EffectBody, Execution> {
    serde_json::from_value(effect.body.clone()).map_err(|error| Execution::Stuck {
        reason: format!(
            "effect {} can't be read ({error}): it was written by another version of the host; upgrade, then resume",
            effect.id()
        ),
    })
}

#[async_trait]
impl Effector for Executor {
    async fn call_timeout_ms(&self, server: &str) -> i64 {
        match self.servers.client(server).await {
            // The looks before it take their time too.
            Ok(client) => i64::from(client.config.heavy_timeout_ms) + i64::from(client.config.timeout_ms),
            Err(_) => 60_000,
        }
    }

    async fn execute(&self, effect: &Effect, service: &Service) -> Execution {
        let body = match parse(effect) {
            Ok(body) => body,
            Err(stuck) => return stuck,
        };
        let execution = match self.servers.client(&effect.server).await {
            Ok(client) => self.run(&client, effect, service, &body).await,
            Err(error) => after_read(error),
        };
        self.cleaned(service, execution).await
    }

    async fn probe(&self, effect: &Effect, service: &Service) -> Execution {
        let body = match parse(effect) {
            Ok(body) => body,
            Err(stuck) => return stuck,
        };
        let execution = match self.servers.client(&effect.server).await {
            Ok(client) => self.look_for(&client, effect, service, &body).await,
            Err(error) => after_probe(error),
        };
        self.cleaned(service, execution).await
    }

    async fn task(&self, effect: &Effect, service: &Service) -> TaskView {
        let Ok(body) = parse(effect) else { return TaskView::Lost { reason: "the effect can't be read".into() } };
        let Some(upid) = &effect.task else { return TaskView::Lost { reason: "no task id was kept".into() } };
        let view = match self.servers.client(&effect.server).await {
            Ok(client) => self.task_view(&client, effect, service, &body, upid).await,
            Err(error) => TaskView::Unreachable { reason: error.to_string() },
        };
        match view {
            TaskView::Running => TaskView::Running,
            TaskView::Ended(ended) => {
                let message = self.clean(service, ended.message).await;
                TaskView::Ended(EffectResult { message, ..ended })
            }
            TaskView::Lost { reason } => TaskView::Lost { reason: self.clean(service, reason).await },
            TaskView::Unreachable { reason } => TaskView::Unreachable { reason: self.clean(service, reason).await },
        }
    }

    async fn ended_tasks(&self, server: &str, tasks: &[String]) -> Vec<String> {
        let Ok(client) = self.servers.client(server).await else { return Vec::new() };
        let looks = tasks.iter().cloned().map(|upid| {
            let client = Arc::clone(&client);
            async move {
                let node = upid.split(':').nth(1).unwrap_or_default();
                let path = format!("/nodes/{}/tasks/{}/status", segment(node), segment(&upid));
                match client.get(&path, &[]).await {
                    Ok(status) => (text(&status, "status") == "stopped").then_some(upid),
                    // Unknown to the server: the run finds out.
                    Err(PveError::Parameter(_)) => Some(upid),
                    Err(_) => None,
                }
            }
        });
        let ended: Vec<Option<String>> = futures::stream::iter(looks).buffer_unordered(LOOKS).collect().await;
        ended.into_iter().flatten().collect()
    }

    async fn nodes(&self, effect: Option<&Effect>, service: &Service) -> Result<Vec<String>, String> {
        // What can't be read is never sent.
        let body = effect.and_then(|e| parse(e).ok());
        let server = effect.map_or(&service.server, |e| &e.server);
        let client = self.servers.client(server).await.map_err(|e| e.to_string())?;
        let (number, mut nodes) = match &body {
            Some(EffectBody::Clone { template, options, .. }) => {
                (Some(*template), options.get("target").cloned().into_iter().collect())
            }
            Some(EffectBody::Migrate { vmid, target, .. }) => (Some(*vmid), vec![target.clone()]),
            Some(EffectBody::RemoveBackup { node, .. }) => (None, vec![node.clone()]),
            Some(other) => (Some(other.vmid()), Vec::new()),
            None => (service.vmid, Vec::new()),
        };
        if let Some(number) = number {
            nodes.extend(client.node_of(number).await.map_err(|e| e.to_string())?);
        }
        Ok(nodes)
    }

    async fn guests(&self, server: &str) -> Result<Vec<Guest>, String> {
        super::survey::guests(&self.servers, server).await
    }

    async fn remembered(&self, server: &str) -> Result<std::collections::BTreeMap<u32, String>, String> {
        super::survey::remembered(&self.servers, server).await
    }

    async fn guest_config(&self, server: &str, guest: &Guest) -> Result<Option<GuestConfig>, String> {
        super::survey::config(&self.servers, server, guest).await
    }
}
