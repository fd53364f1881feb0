//! The calls: what a request is once it is let in, and which function answers it.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::error::ApiError;
use crate::sim::Sim;
use crate::state::State;
use crate::{backup, clone, cluster, config_api, destroy, firewall, migrate, power, resize, storage_api, tasks};

/// A request that has passed authentication.
#[derive(Clone)]
pub(crate) struct Ctx {
    pub sim: Sim,
    pub method: String,
    /// Decoded, without `/api2/json`.
    pub segments: Vec<String>,
    pub params: BTreeMap<String, String>,
    pub token: String,
}

pub(crate) const NOT_IN_SCHEMA: &str =
    "property is not defined in schema and the schema does not allow additional properties";

impl Ctx {
    pub fn get(&self, key: &str) -> Option<&str> {
        self.params.get(key).map(String::as_str)
    }

    /// Refuses parameters that the call doesn't know.
    pub fn only(&self, keys: &[&str]) -> Result<(), ApiError> {
        let strange = self.params.keys().filter(|k| !keys.contains(&k.as_str()));
        let errors: BTreeMap<_, _> = strange.map(|k| (k.clone(), NOT_IN_SCHEMA.to_owned())).collect();
        if errors.is_empty() { Ok(()) } else { Err(ApiError::params(errors)) }
    }

    pub fn must(&self, key: &str) -> Result<&str, ApiError> {
        self.get(key).ok_or_else(|| ApiError::param(key, "property is missing and it is not optional"))
    }

    pub fn number(&self, key: &str) -> Result<Option<u64>, ApiError> {
        let bad = |v: &str| ApiError::param(key, format!("type check ('integer') failed - got '{v}'"));
        self.get(key).map(|v| v.parse().map_err(|_| bad(v))).transpose()
    }

    /// A boolean; the API takes 1, on, yes, true.
    pub fn flag(&self, key: &str) -> bool {
        self.get(key).is_some_and(truthy)
    }

    pub fn vmid_param(&self, key: &str) -> Result<u32, ApiError> {
        let text = self.must(key)?;
        match text.parse::<u32>() {
            Ok(n) if (100..=999_999_999).contains(&n) => Ok(n),
            Ok(_) => {
                Err(ApiError::param(key, "value must have a minimum value of 100 and a maximum value of 999999999"))
            }
            Err(_) => Err(ApiError::param(key, "invalid format - value does not look like a valid VM ID")),
        }
    }

    /// Whether the token has a privilege on a path: the longest path of its list that leads there decides.
    pub fn may(&self, path: &str, privilege: &str) -> bool {
        self.sim.with(|st| {
            let Some(token) = st.tokens.get(&self.token) else { return false };
            let Some(acl) = &token.acl else { return true };
            let leads = |p: &str| p == "/" || path == p || path.strip_prefix(p).is_some_and(|r| r.starts_with('/'));
            let best = acl.iter().filter(|(p, _)| leads(p)).max_by_key(|(p, _)| p.len());
            best.is_some_and(|(_, privileges)| privileges.contains(privilege))
        })
    }

    pub fn need(&self, path: &str, privilege: &str) -> Result<(), ApiError> {
        if self.may(path, privilege) { Ok(()) } else { Err(ApiError::forbidden(path, privilege)) }
    }

    pub fn need_vm(&self, vmid: u32, privilege: &str) -> Result<(), ApiError> {
        self.need(&format!("/vms/{vmid}"), privilege)
    }

    pub fn with<R>(&self, f: impl FnOnce(&mut State) -> R) -> R {
        self.sim.with(f)
    }
}

pub(crate) fn truthy(v: &str) -> bool {
    matches!(v.to_ascii_lowercase().as_str(), "1" | "on" | "yes" | "true")
}

/// Which VM a path speaks of.
pub(crate) fn vmid_of(segments: &[String], params: &BTreeMap<String, String>) -> Option<u32> {
    let of = |k: &str| params.get(k).and_then(|v| v.parse().ok());
    match segments {
        [a, _, b, _, c, ..] if a == "nodes" && b == "qemu" && c == "clone" => of("newid"),
        [a, _, b, id, ..] if a == "nodes" && b == "qemu" => id.parse().ok(),
        [a, _, b, ..] if a == "nodes" && b == "vzdump" => of("vmid"),
        [a, _, b, _, c, ..] if a == "nodes" && b == "storage" && c == "content" => {
            let name = segments.get(5)?;
            let digits = name.split("qemu-").nth(1).or_else(|| name.split("vm-").nth(1))?;
            digits.split('-').next()?.parse().ok()
        }
        _ => None,
    }
}

/// Carries a request out.
pub(crate) async fn dispatch(cx: &Ctx) -> Result<Value, ApiError> {
    let path: Vec<&str> = cx.segments.iter().map(String::as_str).collect();
    let method = cx.method.as_str();
    match (method, path.as_slice()) {
        ("GET", ["version"]) => Ok(cluster::version(cx)),
        ("GET", ["nodes"]) => cluster::nodes(cx),
        ("GET", ["nodes", node, "status"]) => cluster::node_status(cx, node),
        ("GET", ["cluster", "resources"]) => cluster::resources(cx),
        ("GET", ["cluster", "status"]) => cluster::status(cx),
        ("GET", ["cluster", "nextid"]) => cluster::next_id(cx),
        ("GET", ["cluster", "options"]) => Ok(json!({ "next-id": {
            "lower": cx.sim.config().next_id.0, "upper": cx.sim.config().next_id.1 } })),
        ("GET", ["cluster", "firewall", "options"]) => Ok(json!(cx.with(|st| st.cluster_firewall.clone()))),
        ("GET", ["access", "permissions"]) => cluster::permissions(cx),
        ("GET", ["storage"]) => storage_api::definitions(cx),
        ("GET", ["nodes", node, "storage"]) => storage_api::on_node(cx, node),
        ("GET", ["nodes", node, "storage", s, "status"]) => storage_api::status(cx, node, s),
        ("GET", ["nodes", node, "storage", s, "content"]) => storage_api::content(cx, node, s),
        ("GET", ["nodes", node, "storage", s, "content", v]) => storage_api::attributes(cx, node, s, v),
        ("PUT", ["nodes", node, "storage", s, "content", v]) => storage_api::update(cx, node, s, v),
        ("DELETE", ["nodes", node, "storage", s, "content", v]) => storage_api::delete(cx, node, s, v).await,
        ("GET", ["nodes", node, "network"]) => cluster::network(cx, node),
        ("POST", ["nodes", node, "vzdump"]) => backup::vzdump(cx, node),
        ("GET", ["nodes", node, "tasks"]) => tasks::list(cx, node),
        ("GET", ["nodes", node, "tasks", upid, "status"]) => tasks::status(cx, node, upid),
        ("GET", ["nodes", node, "tasks", upid, "log"]) => tasks::log(cx, node, upid),
        ("DELETE", ["nodes", node, "tasks", upid]) => tasks::stop(cx, node, upid),
        ("GET", ["nodes", node, "qemu"]) => cluster::vms(cx, node),
        (_, ["nodes", node, "qemu", id, rest @ ..]) => {
            let vmid = id.parse::<u32>().ok().filter(|n| (100..=999_999_999).contains(n));
            let vmid =
                vmid.ok_or_else(|| ApiError::param("vmid", "invalid format - value does not look like a valid VM ID"))?;
            vm_call(cx, node, vmid, method, rest).await
        }
        _ => Err(unknown(cx)),
    }
}

fn unknown(cx: &Ctx) -> ApiError {
    ApiError::new(501, format!("Method '{} /{}' not implemented", cx.method, cx.segments.join("/")))
}

async fn vm_call(cx: &Ctx, node: &str, vmid: u32, method: &str, rest: &[&str]) -> Result<Value, ApiError> {
    match (method, rest) {
        ("DELETE", []) => destroy::destroy(cx, node, vmid),
        ("POST", ["clone"]) => clone::clone(cx, node, vmid),
        ("GET", ["migrate"]) => migrate::check(cx, node, vmid),
        ("POST", ["migrate"]) => migrate::migrate(cx, node, vmid),
        ("GET", ["config"]) => config_api::read(cx, node, vmid),
        ("GET", ["pending"]) => config_api::pending(cx, node, vmid),
        ("PUT", ["config"]) => config_api::update(cx, node, vmid).await,
        ("POST", ["config"]) => config_api::update_async(cx, node, vmid).await,
        ("PUT", ["resize"]) => resize::resize(cx, node, vmid),
        ("PUT", ["unlink"]) => config_api::unlink(cx, node, vmid).await,
        ("GET", ["cloudinit"]) => config_api::cloudinit_pending(cx, node, vmid),
        ("PUT", ["cloudinit"]) => config_api::regenerate(cx, node, vmid).await,
        ("GET", ["status", "current"]) => power::current(cx, node, vmid),
        ("POST", ["status", "start"]) => power::start(cx, node, vmid),
        ("POST", ["status", "stop"]) => power::stop(cx, node, vmid),
        ("POST", ["status", "shutdown"]) => power::shutdown(cx, node, vmid),
        ("POST", ["status", "reboot"]) => power::reboot(cx, node, vmid),
        ("GET", ["snapshot"]) => {
            cx.need_vm(vmid, "VM.Audit")?;
            cx.with(|st| st.vm(node, vmid).map(Vm::digest))
                .map(|digest| json!([{ "name": "current", "description": "You are here!", "digest": digest }]))
        }
        (_, ["firewall", rest @ ..]) => firewall::call(cx, vmid, method, rest).ok_or_else(|| unknown(cx))?,
        _ => Err(unknown(cx)),
    }
}

use crate::state::Vm;
