//! Calls about one zone.

use std::{future::Future, pin::Pin, sync::Arc};

use semver::Version;
use wasmtime::{
    Store,
    component::{Instance, Resource},
};
use wharf_capabilities::{
    bindings::wharf::dns::zones,
    call::{Bound, DnsCall, Progress, ZoneBinding},
};

use wharf_model::object::Zone;
use wharf_store::StoreError;

use super::{
    Capabilities, Change, Check, Outcome, Probed, Problem, Report, RrSet, Selector, Snapshot, Verdict, ZoneRef, convert,
};
use crate::{
    bindings::{dns::DnsProvider, zone_actions::ZoneActionsPart},
    call::{Callee, Job},
    hooks,
    registry::Exports,
    report::{CallError, CallReport},
    runtime::Runtime,
    state::StoreData,
};

type Borrowed = Resource<DnsCall>;
type Calling<'a, R> = Pin<Box<dyn Future<Output = wasmtime::Result<R>> + Send + 'a>>;

/// One zone at its provider. Each method is one call with a store of its own, all on the version that was current when
/// the session began.
pub struct DnsSession {
    runtime: Arc<Runtime>,
    callee: Callee,
    binding: ZoneBinding,
}

impl Runtime {
    /// Opens a session for this zone, with the plugin that the zone names.
    ///
    /// # Errors
    /// The plugin is not installed, switched off or not a DNS provider.
    pub async fn dns(self: &Arc<Self>, binding: ZoneBinding) -> Result<DnsSession, CallError> {
        let callee = self.current(&binding.zone.plugin).await?;
        if !matches!(callee.loaded.exports, Exports::DnsProvider(..)) {
            return Err(crate::registry::gone(format!(
                "the plugin `{}` is not a DNS provider: name one in the zone's `plugin`",
                binding.zone.plugin
            )));
        }
        Ok(DnsSession { runtime: self.clone(), callee, binding })
    }
}

impl Runtime {
    /// What this zone has in common with all that show the same credentials to the same server.
    ///
    /// # Errors
    /// The books can't be read.
    pub async fn zone_login(&self, name: &str, zone: &Zone) -> Result<String, StoreError> {
        let manifest = self.manifest(&zone.plugin);
        wharf_capabilities::dns::login_of(&self.lender, name, zone, manifest.as_deref()).await
    }
}

impl DnsSession {
    /// The version of the plugin that this session runs on.
    pub fn version(&self) -> &Version {
        &self.callee.loaded.row.version
    }

    /// Sets the key of the next batch: the same for every repetition of it.
    pub fn set_idempotency_key(&mut self, key: impl Into<String>) {
        self.binding.idempotency_key = key.into();
    }

    /// How far the plugin says it is in the call that runs, or said in its last. Can be looked at while a call runs.
    pub fn progress(&self) -> Progress {
        self.binding.progress.clone()
    }

    /// Finds the zone and what can be done there.
    ///
    /// # Errors
    /// The plugin gave no answer; so for all that follow.
    pub async fn probe(&mut self, zone: &str) -> Result<CallReport<Result<Probed, Problem>>, CallError> {
        let zone = zone.to_owned();
        let report = self
            .provider("probe", move |p, store, call| {
                Box::pin(async move {
                    let answer = p.wharf_dns_provider().call_probe(store, call, &zone).await?;
                    Ok(sound(answer, convert::probed))
                })
            })
            .await?;
        if let Ok(probed) = &report.answer {
            self.binding.learnt.clone_from(&probed.info.ext);
        }
        Ok(report)
    }

    /// For the Test button: each line one thing that works or doesn't.
    pub async fn test_connection(
        &mut self,
        zone: Option<&str>,
        try_write: bool,
    ) -> Result<CallReport<Vec<Check>>, CallError> {
        let zone = zone.map(str::to_owned);
        self.provider("test-connection", move |p, store, call| {
            Box::pin(async move {
                let zone = zone.as_ref();
                let answer = p.wharf_dns_provider().call_test_connection(store, call, zone, try_write).await?;
                Ok(convert::checks(answer))
            })
        })
        .await
    }

    /// All zones that the credentials reach.
    pub async fn list_zones(&mut self) -> Result<CallReport<Result<Vec<ZoneRef>, Problem>>, CallError> {
        self.provider("list-zones", |p, store, call| {
            Box::pin(async move {
                let answer = p.wharf_dns_provider().call_list_zones(store, call).await?;
                Ok(sound(answer, convert::zone_refs))
            })
        })
        .await
    }

    pub async fn read(
        &mut self,
        zone: &ZoneRef,
        what: Selector,
    ) -> Result<CallReport<Result<Snapshot, Problem>>, CallError> {
        let (zone, what) = (convert::to_zone_ref(zone), convert::to_selector(what));
        self.provider("read", move |p, store, call| {
            Box::pin(async move {
                let answer = p.wharf_dns_provider().call_read(store, call, &zone, &what).await?;
                Ok(sound(answer, convert::snapshot))
            })
        })
        .await
    }

    /// Applies a batch, in order. Every change has its outcome in the report.
    pub async fn apply(
        &mut self,
        zone: &ZoneRef,
        batch: Vec<Change>,
    ) -> Result<CallReport<Result<Report, Problem>>, CallError> {
        let zone = convert::to_zone_ref(zone);
        let ids: Vec<_> = batch.iter().map(|c| c.id).collect();
        let batch: Vec<_> = batch.into_iter().map(convert::to_change).collect();
        self.provider("apply", move |p, store, call| {
            Box::pin(async move {
                let answer = p.wharf_dns_provider().call_apply(store, call, &zone, &batch).await?;
                // Something may have been written whatever the report is worth.
                Ok(answer.map_err(convert::problem).and_then(|report| {
                    convert::report(report, &ids)
                        .map_err(|unsound| Problem { action: super::ProblemAction::Verify, ..convert::bug(unsound) })
                }))
            })
        })
        .await
    }

    /// What became of an accepted change.
    pub async fn poll(
        &mut self,
        zone: &ZoneRef,
        operation: &str,
    ) -> Result<CallReport<Result<Outcome, Problem>>, CallError> {
        let (zone, operation) = (convert::to_zone_ref(zone), operation.to_owned());
        self.provider("poll", move |p, store, call| {
            Box::pin(async move {
                let answer = p.wharf_dns_provider().call_poll(store, call, &zone, &operation).await?;
                Ok(sound(answer, convert::outcome))
            })
        })
        .await
    }

    /// How the provider would store these sets; same order and number.
    pub async fn normalize(
        &mut self,
        can: Capabilities,
        zone: &str,
        sets: Vec<RrSet>,
    ) -> Result<CallReport<Result<Vec<Verdict>, Problem>>, CallError> {
        let (can, zone) = (convert::to_capabilities(can), zone.to_owned());
        let sets: Vec<_> = sets.into_iter().map(convert::to_rrset).collect();
        self.provider("normalize", move |p, store, _| {
            Box::pin(async move {
                let verdicts = p.wharf_dns_provider().call_normalize(store, &can, &zone, &sets).await?;
                if verdicts.len() != sets.len() {
                    return Ok(Err(convert::bug(format!(
                        "the provider plugin gave {} verdicts on {} record sets",
                        verdicts.len(),
                        sets.len()
                    ))));
                }
                Ok(Ok(verdicts.into_iter().map(convert::verdict).collect()))
            })
        })
        .await
    }

    /// Makes written changes public. `None` = the plugin has no such step: what is written is public.
    pub async fn publish(&mut self, zone: &ZoneRef) -> Result<CallReport<Option<Result<(), Problem>>>, CallError> {
        if !matches!(self.callee.loaded.exports, Exports::DnsProvider(_, Some(_))) {
            let version = self.version().clone();
            return Ok(CallReport {
                version,
                answer: None,
                log: Vec::new(),
                took: std::time::Duration::ZERO,
                used: Default::default(),
            });
        }
        let zone = convert::to_zone_ref(zone);
        let job: Job<Option<Result<(), Problem>>> = Box::new(move |store, instance, exports| {
            Box::pin(async move {
                let Exports::DnsProvider(_, Some(part)) = exports else { return Ok(None) };
                let part: ZoneActionsPart = part.load(&mut *store, instance)?;
                let call = handle(store)?;
                let answer = part.wharf_dns_zone_actions().call_publish(&mut *store, call, &zone).await?;
                Ok(Some(answer.map_err(convert::problem)))
            })
        });
        self.run("publish", job).await
    }

    async fn provider<R: Send + 'static>(
        &mut self,
        export: &'static str,
        job: impl for<'a> FnOnce(&'a DnsProvider, &'a mut Store<StoreData>, Borrowed) -> Calling<'a, R> + Send + 'static,
    ) -> Result<CallReport<R>, CallError> {
        let job: Job<R> = Box::new(move |store: &mut Store<StoreData>, instance: &Instance, exports: &Exports| {
            Box::pin(async move {
                let Exports::DnsProvider(main, _) = exports else { wasmtime::bail!("it is not a DNS provider") };
                let provider = main.load(&mut *store, instance)?;
                let call = handle(store)?;
                job(&provider, store, call).await
            })
        });
        self.run(export, job).await
    }

    async fn run<R: Send + 'static>(&mut self, export: &'static str, job: Job<R>) -> Result<CallReport<R>, CallError> {
        self.binding.progress.clear();
        let binding = ZoneBinding {
            name: self.binding.name.clone(),
            zone: self.binding.zone.clone(),
            idempotency_key: self.binding.idempotency_key.clone(),
            learnt: self.binding.learnt.clone(),
            progress: self.binding.progress.clone(),
            cancelled: self.binding.cancelled.clone(),
        };
        let done = self.runtime.call(&self.callee, Bound::Zone(Box::new(binding)), export, job).await?;
        Ok(hooks::report(done, self.version().clone()))
    }
}

fn handle(store: &mut Store<StoreData>) -> wasmtime::Result<Borrowed> {
    let owned = store.data_mut().call.table.push(DnsCall)?;
    Ok(Resource::new_borrow(owned.rep()))
}

/// An answer in the house's types, or the problem that it is.
fn sound<A, B>(
    answer: Result<A, zones::Problem>,
    convert: impl FnOnce(A) -> Result<B, convert::Unsound>,
) -> Result<B, Problem> {
    answer.map_err(convert::problem).and_then(|a| convert(a).map_err(convert::bug))
}
