//! Where cases are played: a host's runtime with the provider installed, and what is known of both.

use std::{
    collections::BTreeSet,
    fmt,
    net::IpAddr,
    path::Path,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use async_trait::async_trait;
use serde_json::Value;
use wharf_capabilities::{
    call::Lender,
    http::{Answer, Lost, Network, Prepared, Resolver, Sender, SystemResolver, Transport},
    proxmox::Servers,
    secrets::Keyring,
};
use wharf_model::{
    SystemClock,
    manifest::Manifest,
    object::{Grant, ObjectKind},
};
use wharf_plugins::{
    Compiler, GrantRequest, Inspection, InstallError, Runtime, RuntimeConfig, RuntimeError,
    dns::{Capabilities, ZoneInfo},
};
use wharf_store::{Books, StoreError, memory::MemoryStore};
use wharf_testkit::facade::{Facade, Features, Request};

use crate::{
    case::{Case, Stop, Verdict},
    live::Place,
    report::{Report, Result as CaseResult},
    scene::{Ground, Scene},
};

/// Time of a call where a case needs it to run out.
const HURRY_MS: u32 = 3_000;
/// A name that is nowhere, for the test of a connection.
pub(crate) const NOWHERE: &str = "nowhere.invalid";

/// Makes a fresh façade.
pub type FacadeMaker = Box<dyn Fn() -> Box<dyn Facade> + Send + Sync>;

/// What is to be tried.
pub struct Subject {
    /// The component with its manifest, as it would be uploaded.
    pub component: Vec<u8>,
    /// A fresh façade of the provider's API.
    pub facade: FacadeMaker,
    /// Laid over the façade's settings.
    pub settings: Value,
    pub compiler: Compiler,
}

/// Why nothing could be tried.
#[derive(Debug, thiserror::Error)]
pub enum KitError {
    #[error("the runtime can't be set up")]
    Runtime(#[from] RuntimeError),
    #[error("the component can't be installed")]
    Install(#[from] InstallError),
    #[error("the books of the kit can't be used")]
    Store(#[from] StoreError),
    #[error("no peer can be served on loopback, or no folder made")]
    Io(#[from] std::io::Error),
    #[error("the provider does not find a zone that is there, so nothing can be tried: {0}")]
    FirstProbe(String),
    #[error("{0}")]
    Live(String),
}

pub(crate) struct House {
    pub(crate) runtime: Arc<Runtime>,
    /// The same with calls of three seconds.
    pub(crate) hurried: Arc<Runtime>,
    lender: Arc<Lender>,
    pub(crate) spy: Arc<Spy>,
    pub(crate) inspection: Inspection,
    pub(crate) facade: FacadeMaker,
    /// How long it took to install the component, and to load what was compiled.
    pub(crate) took: (Duration, Duration),
    /// Origins that were granted so far.
    granted: Mutex<BTreeSet<String>>,
    granting: tokio::sync::Mutex<()>,
    /// Of a kit that keeps nothing.
    _dir: Option<tempfile::TempDir>,
}

/// A provider on its stage.
pub struct Kit {
    pub(crate) house: Arc<House>,
    pub(crate) settings: Value,
    pub(crate) can: Capabilities,
    pub(crate) info: ZoneInfo,
    pub(crate) features: Features,
    /// None with a façade.
    pub(crate) live: Option<Place>,
    /// Whatever came out of the provider in the case at hand, and the secrets that must not be in it.
    pub(crate) said: Mutex<Vec<String>>,
    pub(crate) secrets: Mutex<BTreeSet<String>>,
}

impl fmt::Debug for Kit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Kit").field("plugin", &self.manifest().id).finish_non_exhaustive()
    }
}

pub(crate) fn held<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Kit {
    /// Installs the component and asks it once what it can do.
    ///
    /// # Errors
    /// It can't be installed, or does not find a zone that is there.
    pub async fn open(subject: Subject) -> Result<Self, KitError> {
        let dir = tempfile::tempdir()?;
        let mut kit = Self::open_in(subject, dir.path()).await?;
        if let Some(house) = Arc::get_mut(&mut kit.house) {
            house._dir = Some(dir);
        }
        Ok(kit)
    }

    /// The same, with compiled components kept in this folder for the next time.
    ///
    /// # Errors
    /// See [`Kit::open`].
    pub async fn open_in(subject: Subject, folder: &Path) -> Result<Self, KitError> {
        let mut kit = Self::set_up(subject, folder, None).await?;
        let mut why = String::new();
        for ground in [Ground::forward(), Ground::reverse()] {
            match kit.first_probe(&ground).await {
                Ok((info, can)) => {
                    (kit.info, kit.can) = (info, can);
                    return Ok(kit);
                }
                Err(Stop::Failed(text)) if why.is_empty() => why = text,
                Err(_) => {}
            }
        }
        Err(KitError::FirstProbe(why))
    }

    /// Installed, and nothing asked yet.
    pub(crate) async fn set_up(subject: Subject, folder: &Path, live: Option<Place>) -> Result<Self, KitError> {
        let spy = Arc::new(Spy { is_live: live.is_some(), ..Spy::default() });
        let books: Books = Arc::new(MemoryStore::default());
        let keyring = Arc::new(Keyring::new([7; 32]));
        let lender = Arc::new(Lender {
            clock: Arc::new(SystemClock),
            servers: Arc::new(Servers::new(books.clone(), keyring.clone())),
            sender: Arc::new(Sender::with_transport(spy.clone()).resolving(spy.clone())),
            keyring,
            books,
        });
        let config = |ceiling: Option<u32>| {
            let mut config = RuntimeConfig { compiler: subject.compiler.clone(), ..RuntimeConfig::for_tests(folder) };
            config.call_ceiling_ms = ceiling.unwrap_or(config.call_ceiling_ms);
            config
        };
        let runtime = Runtime::open(config(None), lender.clone()).await?;
        let inspection = Runtime::inspect(&subject.component)?;
        let all = inspection.needs_grant.iter().cloned().collect();
        let begun = Instant::now();
        runtime.install(subject.component, "kit", GrantRequest::Allow(all)).await?;
        let compile = begun.elapsed();
        let begun = Instant::now();
        let hurried = Runtime::open(config(Some(HURRY_MS)), lender.clone()).await?;
        let took = (compile, begun.elapsed());
        let features = (subject.facade)().features();
        let house = Arc::new(House {
            runtime,
            hurried,
            lender,
            spy,
            inspection,
            facade: subject.facade,
            took,
            granted: Mutex::default(),
            granting: tokio::sync::Mutex::default(),
            _dir: None,
        });
        Ok(Self::over(house, subject.settings, features, live))
    }

    fn over(house: Arc<House>, settings: Value, features: Features, live: Option<Place>) -> Self {
        Self {
            house,
            settings,
            can: Capabilities::default(),
            info: ZoneInfo::default(),
            features,
            live,
            said: Mutex::default(),
            secrets: Mutex::default(),
        }
    }

    pub(crate) async fn first_probe(&self, ground: &Ground) -> Result<(ZoneInfo, Capabilities), Stop> {
        let scene = Scene::new(self, &[(&ground.zone, 0)]).await?;
        let open = scene.open(&ground.zone).await?;
        Ok((open.probed.info, open.probed.can))
    }

    /// The same provider with these settings laid over the façade's. If it finds no zone with them, it counts as able to do
    /// what it was before.
    pub async fn with_settings(&self, settings: Value) -> Self {
        let mut kit = Self::over(self.house.clone(), settings, self.features, self.live.clone());
        let known = (self.info.clone(), self.can.clone());
        (kit.info, kit.can) = kit.first_probe(&self.ground()).await.unwrap_or(known);
        kit
    }

    pub(crate) fn manifest(&self) -> &Manifest {
        &self.house.inspection.manifest
    }

    /// Runs one case.
    pub async fn run(&self, case: &Case) -> CaseResult {
        let began = Instant::now();
        let missing = case.needs.iter().find_map(|need| need.missing(&self.can, self.features));
        let apart = (self.live.is_some() && !case.is_live())
            .then(|| "it needs faults or zones of the kit's own, so it is not played in a live zone".to_owned());
        let verdict = match apart.or(missing) {
            Some(missing) => Verdict::NotApplicable(missing),
            None => {
                held(&self.said).clear();
                let limit = case.limit(self.live.is_some());
                match tokio::time::timeout(limit, (case.run)(self)).await {
                    Err(_) => Verdict::Failed(format!("it was not done after {} s", limit.as_secs())),
                    Ok(Err(Stop::Failed(why))) => Verdict::Failed(why),
                    Ok(Ok(())) => self.leaked().map_or(Verdict::Passed, Verdict::Failed),
                }
            }
        };
        CaseResult { number: case.number, name: case.name, badge: case.badge, verdict, took: began.elapsed() }
    }

    /// Whatever the case was about: a secret in what came out fails it.
    fn leaked(&self) -> Option<String> {
        let (said, secrets) = (held(&self.said), held(&self.secrets));
        let place = said.iter().find(|text| secrets.iter().any(|s| text.contains(s.as_str())))?;
        let end = place.find(['(', ' ', '{']).unwrap_or(place.len());
        Some(format!("a secret of the zone stands in what came out of `{}`", place.get(..end).unwrap_or_default()))
    }

    /// Runs all cases, one after another.
    pub async fn run_all(&self) -> Report {
        let mut results = Vec::new();
        for case in crate::all() {
            results.push(self.run(case).await);
        }
        self.report(results)
    }

    /// What came of these cases.
    pub fn report(&self, results: Vec<CaseResult>) -> Report {
        let manifest = self.manifest();
        Report {
            plugin: manifest.id.clone(),
            version: manifest.version.to_string(),
            digest: self.house.inspection.digest.clone(),
            results,
        }
    }
}

impl House {
    /// Keeps a zone's secrets as the host does.
    pub(crate) async fn keep(&self, zone: &str, secrets: &[(String, String)]) -> Result<(), StoreError> {
        let owner = format!("zone/{zone}");
        for (slot, value) in secrets {
            let sealed = self.lender.keyring.seal(&owner, slot, value.as_bytes());
            self.lender.books.put_secret(&owner, slot, &sealed, self.lender.clock.now_ms()).await?;
        }
        Ok(())
    }

    /// Allows the plugin an origin on loopback, as an admin does.
    pub(crate) async fn grant(&self, origin: &str) -> Result<(), KitError> {
        let _granting = self.granting.lock().await;
        if !held(&self.granted).insert(origin.to_owned()) {
            return Ok(());
        }
        let id = &self.inspection.manifest.id;
        let stands = self.lender.books.object(ObjectKind::Grant, id).await?;
        let grant: Option<Grant> = stands.and_then(|row| serde_json::from_value(row.body).ok());
        let grant = Grant { private_origins: held(&self.granted).clone(), ..grant.unwrap_or_default() };
        let body = serde_json::to_value(&grant).map_err(|e| StoreError::Corrupt(e.to_string()))?;
        self.lender.books.put_object(ObjectKind::Grant, id, body, None, None, self.lender.clock.now_ms()).await?;
        self.runtime.refresh().await?;
        self.hurried.refresh().await?;
        Ok(())
    }
}

/// The real network, watched: which origins were connected to, and which names were looked up.
#[derive(Default)]
pub(crate) struct Spy {
    network: Network,
    /// Names are looked up, and requests are kept with their status.
    is_live: bool,
    asked: Mutex<Vec<(Request, Option<u16>)>>,
    origins: Mutex<BTreeSet<String>>,
    names: Mutex<BTreeSet<String>>,
}

impl Spy {
    /// Names that a provider looked up, without the one that it was given for that.
    pub(crate) fn names(&self) -> BTreeSet<String> {
        held(&self.names).iter().filter(|name| *name != NOWHERE).cloned().collect()
    }

    /// Requests that were sent since this was called last.
    pub(crate) fn take_asked(&self) -> Vec<(Request, Option<u16>)> {
        std::mem::take(&mut *held(&self.asked))
    }

    pub(crate) fn origins(&self) -> BTreeSet<String> {
        held(&self.origins).clone()
    }
}

#[async_trait]
impl Transport for Spy {
    async fn send(&self, request: Prepared) -> Result<Answer, Lost> {
        held(&self.origins).insert(request.url.origin().ascii_serialization());
        if !self.is_live {
            return self.network.send(request).await;
        }
        let headers = request.headers.iter();
        let seen = Request {
            method: request.method.to_string(),
            path: request.url.path().to_owned(),
            query: request.url.query_pairs().into_owned().collect(),
            headers: headers
                .map(|(n, v)| (n.to_string(), String::from_utf8_lossy(v.as_bytes()).into_owned()))
                .collect(),
            body: request.body.to_vec(),
            is_write: None,
        };
        let answer = self.network.send(request).await;
        held(&self.asked).push((seen, answer.as_ref().ok().map(|a| a.status)));
        answer
    }
}

#[async_trait]
impl Resolver for Spy {
    /// Nothing has an address but for a live zone: all peers of the kit are on loopback and reached by number.
    async fn lookup(&self, host: &str) -> std::io::Result<Vec<IpAddr>> {
        if self.is_live {
            return SystemResolver.lookup(host).await;
        }
        held(&self.names).insert(host.to_owned());
        Err(std::io::Error::new(std::io::ErrorKind::NotFound, "no such host is known"))
    }
}
