//! What is installed and loaded, as one immutable snapshot.
//!
//! Guarantees that a call sees one consistent set of rollouts, grants and components from its beginning to its end: a
//! snapshot is built aside and published whole. What a snapshot no longer holds lives until the last call on it ends.
//! Bounded by the versions that matter: current, previous, and those that live operations need; others are loaded when a
//! call needs them.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use semver::Version;
use serde::Serialize;
use tokio::sync::Semaphore;
use wasmtime::component::{Component, InstancePre};
use wharf_model::{
    manifest::{Manifest, World},
    object::Grant,
    plugin::{PluginVersion, Rollout},
};

use crate::{
    bindings::{asked, dns, hook, panel, plan_check, provisioner, zone_actions},
    contract,
    link::Linkers,
    report::{CallError, Cause},
    state::StoreData,
    text,
};

/// All plugins at one moment.
#[derive(Default)]
pub(crate) struct Snapshot {
    pub(crate) plugins: BTreeMap<String, Arc<Plugin>>,
}

/// One plugin with all its installed versions.
pub(crate) struct Plugin {
    pub(crate) id: String,
    pub(crate) rollout: Rollout,
    pub(crate) grant: Arc<Grant>,
    pub(crate) versions: BTreeMap<Version, Slot>,
    /// Its share of the stores.
    pub(crate) share: Arc<Semaphore>,
}

/// One installed version.
#[derive(Clone)]
pub(crate) enum Slot {
    Ready(Arc<Loaded>),
    /// Can't be run; why.
    Refused(Arc<PluginVersion>, String),
    /// Not loaded: nothing needs it so far.
    Cold(Arc<PluginVersion>),
}

impl Slot {
    pub(crate) fn row(&self) -> &PluginVersion {
        match self {
            Self::Ready(loaded) => &loaded.row,
            Self::Refused(row, _) | Self::Cold(row) => row,
        }
    }
}

/// A version ready to be called.
pub(crate) struct Loaded {
    pub(crate) row: Arc<PluginVersion>,
    pub(crate) manifest: Arc<Manifest>,
    pub(crate) pre: InstancePre<StoreData>,
    pub(crate) exports: Exports,
}

/// The exports that the host calls, found once.
pub(crate) enum Exports {
    Provisioner(provisioner::ProvisionerIndices, Option<plan_check::PlanCheckPartIndices>),
    DnsProvider(dns::DnsProviderIndices, Option<zone_actions::ZoneActionsPartIndices>),
    LifecycleHook(hook::LifecycleHookIndices, Option<asked::AskedPartIndices>),
    PanelAdapter(panel::PanelAdapterIndices),
}

impl Loaded {
    /// Links a compiled component and finds its exports. Types are checked when it is instantiated, not here.
    pub(crate) fn new(row: Arc<PluginVersion>, component: &Component, linkers: &Linkers) -> wasmtime::Result<Self> {
        let engine = component.engine();
        let kind = component.component_type();
        let wasi = kind.imports(engine).any(|(name, _)| name.starts_with("wasi:"));
        let linker = if wasi { &linkers.with_wasi } else { &linkers.plain };
        let pre = linker.instantiate_pre(component)?;
        let exported: Vec<_> = kind.exports(engine).map(|(name, _)| contract::Name::parse(name)).collect();
        let has = |interface: &str| contract::exports(&exported, interface);
        let exports = match row.manifest.world {
            World::Provisioner => Exports::Provisioner(
                provisioner::ProvisionerIndices::new(&pre)?,
                has("wharf:provisioner/plan-check").then(|| plan_check::PlanCheckPartIndices::new(&pre)).transpose()?,
            ),
            World::DnsProvider => Exports::DnsProvider(
                dns::DnsProviderIndices::new(&pre)?,
                has("wharf:dns/zone-actions").then(|| zone_actions::ZoneActionsPartIndices::new(&pre)).transpose()?,
            ),
            World::LifecycleHook => Exports::LifecycleHook(
                hook::LifecycleHookIndices::new(&pre)?,
                has("wharf:hook/asked").then(|| asked::AskedPartIndices::new(&pre)).transpose()?,
            ),
            World::PanelAdapter => Exports::PanelAdapter(panel::PanelAdapterIndices::new(&pre)?),
        };
        Ok(Self { manifest: Arc::new(row.manifest.clone()), row, pre, exports })
    }
}

impl Plugin {
    /// The version that new work runs on.
    pub(crate) fn current(&self) -> Option<&Slot> {
        self.versions.get(&self.rollout.current)
    }

    /// The version that a step at this state runs on: the current one if it reads the state, else the one that wrote it
    /// (the newest of them), else any that reads it.
    pub(crate) fn for_state(&self, state_version: u32) -> Option<&Slot> {
        let reads = |slot: &&Slot| slot.row().manifest.state.can_read(state_version);
        let wrote = |slot: &&Slot| slot.row().manifest.state.writes == state_version;
        self.current()
            .filter(reads)
            .or_else(|| self.versions.values().rev().find(wrote))
            .or_else(|| self.versions.values().rev().find(reads))
    }

    pub(crate) fn not_enabled(&self) -> Option<CallError> {
        (!self.rollout.enabled)
            .then(|| gone(format!("the plugin `{}` is switched off by an admin: switch it on to go on", self.id)))
    }

    pub(crate) fn no_state(&self, state_version: u32) -> CallError {
        let have: Vec<_> = self.versions.keys().map(Version::to_string).collect();
        gone(format!(
            "no installed version of `{}` reads state version {state_version} (installed: {}): install one that does",
            self.id,
            text::list(&have)
        ))
    }
}

pub(crate) fn gone(text: String) -> CallError {
    CallError { cause: Cause::NotInstalled, version: None, text, log: Vec::new(), used: Default::default() }
}

pub(crate) fn not_installed(id: &str) -> CallError {
    gone(format!("the plugin `{id}` is not installed: install it with `wharf plugin install`"))
}

/// A plugin, for admins.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct PluginInfo {
    pub id: String,
    pub name: String,
    pub description: String,
    pub licence: String,
    pub world: World,
    pub current: Version,
    pub previous: Option<Version>,
    pub enabled: bool,
    pub revision: i64,
    /// Interfaces that the current version wants.
    pub wants: BTreeSet<String>,
    /// Interfaces that an admin allowed.
    pub granted: BTreeSet<String>,
    /// Oldest first.
    pub versions: Vec<VersionInfo>,
}

/// An installed version, for admins.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct VersionInfo {
    pub version: Version,
    pub digest: String,
    pub bytes: i64,
    pub installed_ms: i64,
    pub installed_by: String,
    pub state_reads: (u32, u32),
    pub state_writes: u32,
    /// Ready to be called without loading it first.
    pub loaded: bool,
    /// Why it can't be run.
    pub problem: Option<String>,
}

impl Plugin {
    pub(crate) fn info(&self) -> Option<PluginInfo> {
        let manifest = &self.current()?.row().manifest;
        Some(PluginInfo {
            id: self.id.clone(),
            name: manifest.name.clone(),
            description: manifest.description.clone(),
            licence: manifest.licence.clone(),
            world: manifest.world,
            current: self.rollout.current.clone(),
            previous: self.rollout.previous.clone(),
            enabled: self.rollout.enabled,
            revision: self.rollout.revision,
            wants: manifest.wants.keys().cloned().collect(),
            granted: self.grant.interfaces.clone(),
            versions: self.versions.values().map(Slot::info).collect(),
        })
    }
}

impl Slot {
    fn info(&self) -> VersionInfo {
        let row = self.row();
        VersionInfo {
            version: row.version.clone(),
            digest: row.digest.clone(),
            bytes: row.size,
            installed_ms: row.installed_ms,
            installed_by: row.installed_by.clone(),
            state_reads: row.manifest.state.reads,
            state_writes: row.manifest.state.writes,
            loaded: matches!(self, Self::Ready(_)),
            problem: if let Self::Refused(_, why) = self { Some(why.clone()) } else { None },
        }
    }
}
