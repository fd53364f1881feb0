//! The runtime: what is installed, kept up to date with the books, and found for a call.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use arc_swap::ArcSwap;
use semver::Version;
use tokio::sync::{Mutex, Semaphore};
use wasmtime::Engine;
use wharf_capabilities::call::{Bound, Lender};
use wharf_model::{
    manifest::Manifest,
    object::{Grant, ObjectKind},
    plugin::{PluginVersion, Rollout},
};
use wharf_store::StoreError;

use crate::{
    call::Callee,
    compile::Cache,
    config::RuntimeConfig,
    contract, engine,
    error::{InstallError, RuntimeError},
    link::Linkers,
    registry::{self, Exports, Loaded, Plugin, PluginInfo, Slot, Snapshot},
    report::CallError,
    state::Census,
    text,
};

/// Loads, checks, limits and swaps plugins. One for a process; cheap to share.
pub struct Runtime {
    pub(crate) config: RuntimeConfig,
    pub(crate) lender: Arc<Lender>,
    pub(crate) engine: Engine,
    pub(crate) linkers: Arc<Linkers>,
    pub(crate) cache: Cache,
    pub(crate) snapshot: ArcSwap<Snapshot>,
    pub(crate) slots: Semaphore,
    pub(crate) census: Arc<Census>,
    /// Held while something is installed or the snapshot is rebuilt: one compiler at a time.
    pub(crate) changing: Mutex<()>,
}

impl std::fmt::Debug for Runtime {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let ids: Vec<_> = self.snapshot.load().plugins.keys().cloned().collect();
        f.debug_struct("Runtime").field("plugins", &ids).field("in_use", &self.in_use()).finish_non_exhaustive()
    }
}

impl Runtime {
    /// Sets up the engine and loads what matters of what is installed: the current and the previous version of each
    /// plugin, and those that live operations need. A version that can't be loaded is kept with its reason and hurts
    /// nobody else.
    ///
    /// # Errors
    /// Limits that the machine can't give, a folder of artefacts that isn't this user's own, or books that can't be read.
    pub async fn open(config: RuntimeConfig, lender: Arc<Lender>) -> Result<Arc<Self>, RuntimeError> {
        let config = config.settled();
        let engine = engine::serving(&config).map_err(RuntimeError::Engine)?;
        let linkers = Arc::new(Linkers::new(&engine).map_err(RuntimeError::Engine)?);
        let cache = Cache::open(config.cache_dir(), &engine)?;
        let slots = permits(&config);
        let runtime = Arc::new(Self {
            config,
            lender,
            engine,
            linkers,
            cache,
            snapshot: ArcSwap::default(),
            slots: Semaphore::new(slots),
            census: Arc::default(),
            changing: Mutex::new(()),
        });
        let changing = runtime.changing.lock().await;
        let digests = runtime.rebuild(None).await?;
        runtime.cache.tidy(&digests);
        drop(changing);
        Ok(runtime)
    }

    /// The same loaded plugins for another lender: for tests that start thousands of hosts. What one installs later does not
    /// show in the other. A plugin's share of the stores is common to both, so that the one pool behind them suffices.
    pub fn lent(&self, lender: Arc<Lender>) -> Arc<Self> {
        Arc::new(Self {
            config: self.config.clone(),
            lender,
            engine: self.engine.clone(),
            linkers: Arc::clone(&self.linkers),
            cache: self.cache.clone(),
            snapshot: ArcSwap::from(self.snapshot.load_full()),
            slots: Semaphore::new(permits(&self.config)),
            census: Arc::default(),
            changing: Mutex::new(()),
        })
    }

    /// Reads rollouts and grants again: another host may have changed them.
    ///
    /// # Errors
    /// Books that can't be read; what was known before stays in force.
    pub async fn refresh(&self) -> Result<(), RuntimeError> {
        let _changing = self.changing.lock().await;
        self.rebuild(None).await?;
        Ok(())
    }

    /// The manifest of the current version, enabled or not.
    pub fn manifest(&self, id: &str) -> Option<Arc<Manifest>> {
        let snapshot = self.snapshot.load();
        match snapshot.plugins.get(id)?.current()? {
            Slot::Ready(loaded) => Some(loaded.manifest.clone()),
            other => Some(Arc::new(other.row().manifest.clone())),
        }
    }

    /// The manifest of one installed version, as a step row names it.
    pub fn manifest_of(&self, id: &str, version: &Version) -> Option<Arc<Manifest>> {
        let snapshot = self.snapshot.load();
        match snapshot.plugins.get(id)?.versions.get(version)? {
            Slot::Ready(loaded) => Some(loaded.manifest.clone()),
            other => Some(Arc::new(other.row().manifest.clone())),
        }
    }

    /// The manifest of the version that a step at this state would run on: its states are the operation's.
    pub fn manifest_for_state(&self, id: &str, state_version: u32) -> Option<Arc<Manifest>> {
        let snapshot = self.snapshot.load();
        match snapshot.plugins.get(id)?.for_state(state_version)? {
            Slot::Ready(loaded) => Some(loaded.manifest.clone()),
            other => Some(Arc::new(other.row().manifest.clone())),
        }
    }

    /// Whether it is installed and an admin has not switched it off.
    pub fn is_enabled(&self, id: &str) -> bool {
        self.snapshot.load().plugins.get(id).is_some_and(|p| p.rollout.enabled)
    }

    /// All plugins, by id.
    pub fn plugins(&self) -> Vec<PluginInfo> {
        self.snapshot.load().plugins.values().filter_map(|p| p.info()).collect()
    }

    /// Wasm stores that are alive now.
    pub fn in_use(&self) -> u32 {
        self.census.now()
    }

    /// The most wasm stores that were ever alive at once.
    pub fn max_in_use(&self) -> u32 {
        self.census.most()
    }

    /// The current version of a plugin, ready to be called.
    pub(crate) async fn current(&self, id: &str) -> Result<Callee, CallError> {
        self.find(id, |plugin| {
            plugin.current().ok_or_else(|| registry::not_installed(id)).map(|slot| slot.row().version.clone())
        })
        .await
    }

    /// The version that a step at this state runs on.
    pub(crate) async fn for_state(&self, id: &str, state_version: u32) -> Result<Callee, CallError> {
        self.find(id, |plugin| {
            let slot = plugin.for_state(state_version).ok_or_else(|| plugin.no_state(state_version))?;
            Ok(slot.row().version.clone())
        })
        .await
    }

    async fn find(
        &self,
        id: &str,
        choose: impl Fn(&Plugin) -> Result<Version, CallError> + Send,
    ) -> Result<Callee, CallError> {
        for attempt in 0..2 {
            let snapshot = self.snapshot.load_full();
            let plugin = snapshot.plugins.get(id).ok_or_else(|| registry::not_installed(id))?;
            if let Some(error) = plugin.not_enabled() {
                return Err(error);
            }
            let version = choose(plugin)?;
            match plugin.versions.get(&version) {
                Some(Slot::Ready(loaded)) => {
                    return Ok(Callee { plugin: plugin.clone(), loaded: loaded.clone() });
                }
                Some(Slot::Refused(_, why)) => {
                    return Err(registry::gone(format!("`{id}` {version} can't be run: {why}")));
                }
                Some(Slot::Cold(_)) | None if attempt == 0 => {
                    let _changing = self.changing.lock().await;
                    self.rebuild(Some((id, &version))).await.map_err(|e| {
                        crate::call::host_error(format!("`{id}` {version} can't be loaded: {}", chain(&e)))
                    })?;
                }
                _ => {}
            }
        }
        Err(registry::not_installed(id))
    }

    /// Builds a new snapshot from the books and publishes it; `also` is loaded besides what matters anyway. Returns the
    /// digests of all installed components. The caller holds `changing`.
    pub(crate) async fn rebuild(&self, also: Option<(&str, &Version)>) -> Result<BTreeSet<String>, RuntimeError> {
        let books = &self.lender.books;
        let mut installed: BTreeMap<String, BTreeMap<Version, Arc<PluginVersion>>> = BTreeMap::new();
        let mut digests = BTreeSet::new();
        for row in books.plugin_versions().await? {
            digests.insert(row.digest.clone());
            installed.entry(row.id.clone()).or_default().insert(row.version.clone(), Arc::new(row));
        }
        let mut next = Snapshot::default();
        let before = self.snapshot.load_full();
        for rollout in books.rollouts().await? {
            let Some(rows) = installed.remove(&rollout.id) else { continue };
            let grant = self.grant(&rollout.id).await?;
            let old = before.plugins.get(&rollout.id);
            let mut plugin = Plugin {
                id: rollout.id.clone(),
                grant: Arc::new(grant),
                versions: rows
                    .iter()
                    .map(|(version, row)| {
                        let known = old.and_then(|p| p.versions.get(version)).filter(|s| s.row().digest == row.digest);
                        (version.clone(), known.cloned().unwrap_or_else(|| Slot::Cold(row.clone())))
                    })
                    .collect(),
                share: old.map_or_else(|| self.share(), |p| p.share.clone()),
                rollout,
            };
            let needed = self.needed(&plugin, also).await?;
            for (version, row) in rows {
                let slot = match plugin.versions.get(&version) {
                    Some(slot) if needed.contains(&version) => self.made_ready(slot, &plugin.grant).await?,
                    // Not needed (any more): its code is unmapped when the last call on it ends.
                    _ => Slot::Cold(row),
                };
                plugin.versions.insert(version, slot);
            }
            next.plugins.insert(plugin.id.clone(), Arc::new(plugin));
        }
        self.snapshot.store(Arc::new(next));
        Ok(digests)
    }

    fn share(&self) -> Arc<Semaphore> {
        let permits = usize::try_from(self.config.slots_per_plugin.get()).unwrap_or(usize::MAX);
        Arc::new(Semaphore::new(permits.min(Semaphore::MAX_PERMITS)))
    }

    pub(crate) async fn grant(&self, id: &str) -> Result<Grant, StoreError> {
        match self.lender.books.object(ObjectKind::Grant, id).await? {
            None => Ok(Grant::default()),
            Some(row) => serde_json::from_value(row.body)
                .map_err(|e| StoreError::Corrupt(format!("the grant of the plugin `{id}`: {e}"))),
        }
    }

    /// Versions that have to be loaded.
    async fn needed(&self, plugin: &Plugin, also: Option<(&str, &Version)>) -> Result<BTreeSet<Version>, StoreError> {
        let Rollout { current, previous, .. } = &plugin.rollout;
        let mut needed: BTreeSet<_> = std::iter::once(current).chain(previous).cloned().collect();
        for (state_version, _) in self.lender.books.live_state_versions(&plugin.id).await? {
            needed.extend(plugin.for_state(state_version).map(|slot| slot.row().version.clone()));
        }
        if let Some((_, version)) = also.filter(|(id, _)| *id == plugin.id) {
            needed.insert(version.clone());
        }
        Ok(needed)
    }

    /// The version loaded, or with the reason why it isn't.
    async fn made_ready(&self, slot: &Slot, grant: &Grant) -> Result<Slot, StoreError> {
        let row = match slot {
            Slot::Ready(loaded) => loaded.row.clone(),
            Slot::Refused(row, _) | Slot::Cold(row) => row.clone(),
        };
        let missing: Vec<_> =
            contract::grantable(&row.manifest).into_iter().filter(|i| !grant.interfaces.contains(i)).collect();
        if !missing.is_empty() {
            let why = format!("it wants {}, which it is not granted (any more): grant it", text::list(&missing));
            return Ok(Slot::Refused(row, why));
        }
        if let Slot::Ready(_) = slot {
            return Ok(slot.clone());
        }
        match self.load(row.clone()).await {
            Ok(loaded) => Ok(Slot::Ready(loaded)),
            Err(InstallError::Store(e)) => Err(e),
            Err(e) => {
                let why = chain(&e);
                tracing::error!(plugin = %row.id, version = %row.version, why, "an installed plugin can't be loaded");
                Ok(Slot::Refused(row, why))
            }
        }
    }

    /// Loads an installed version: from the folder of artefacts, else compiled from the books.
    async fn load(&self, row: Arc<PluginVersion>) -> Result<Arc<Loaded>, InstallError> {
        let component = match self.cache.cached(&self.engine, &row.digest) {
            Some(component) => component,
            None => {
                let bytes = self.lender.books.component(&row.digest).await?;
                let bytes = bytes.ok_or_else(|| StoreError::NotFound(format!("the component {}", row.digest)))?;
                self.compile(row.digest.clone(), bytes).await?.0
            }
        };
        self.warm(row, &component).await
    }

    /// Compiles and hands the bytes back.
    pub(crate) async fn compile(
        &self,
        digest: String,
        bytes: Vec<u8>,
    ) -> Result<(wasmtime::component::Component, Vec<u8>), InstallError> {
        let (cache, engine) = (self.cache.clone(), self.engine.clone());
        let (compiler, limits) = (self.config.compiler.clone(), self.config.compile);
        tokio::task::spawn_blocking(move || {
            cache.compiled(&engine, &compiler, limits, &digest, &bytes).map(|component| (component, bytes))
        })
        .await
        .map_err(|e| InstallError::Compile(format!("the compiler panicked: {e}")))?
    }

    /// Links and instantiates under limits: `Pre::new` does not type-check, an instance does.
    pub(crate) async fn warm(
        &self,
        row: Arc<PluginVersion>,
        component: &wasmtime::component::Component,
    ) -> Result<Arc<Loaded>, InstallError> {
        let loaded = Loaded::new(row, component, &self.linkers).map_err(|e| {
            InstallError::Warm(format!(
                "{}; it uses something that this host does not have: upgrade the host, or build it against an older contract",
                text::cut(&format!("{e:#}"), text::MESSAGE)
            ))
        })?;
        let loaded = Arc::new(loaded);
        let _slot = self.slots.acquire().await;
        let check: crate::call::Job<()> = Box::new(|store, instance, exports| {
            Box::pin(async move {
                match exports {
                    Exports::Provisioner(main, check) => {
                        main.load(&mut *store, instance)?;
                        check.as_ref().map(|c| c.load(&mut *store, instance)).transpose()?;
                    }
                    Exports::DnsProvider(main, actions) => {
                        main.load(&mut *store, instance)?;
                        actions.as_ref().map(|a| a.load(&mut *store, instance)).transpose()?;
                    }
                    Exports::LifecycleHook(main, asked) => {
                        main.load(&mut *store, instance)?;
                        asked.as_ref().map(|a| a.load(&mut *store, instance)).transpose()?;
                    }
                    Exports::PanelAdapter(main) => {
                        main.load(&mut *store, instance)?;
                    }
                }
                Ok(())
            })
        });
        self.run(&loaded, Arc::new(Grant::default()), Bound::Nothing, "start", check)
            .await
            .map_err(|e| InstallError::Warm(e.text))?;
        Ok(loaded)
    }
}

/// Calls that may hold a store at once.
fn permits(config: &RuntimeConfig) -> usize {
    usize::try_from(config.slots.get()).unwrap_or(usize::MAX).min(Semaphore::MAX_PERMITS)
}

/// An error with its sources, in one line.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(e) = source {
        text.push_str(": ");
        text.push_str(&e.to_string());
        source = e.source();
    }
    text
}
