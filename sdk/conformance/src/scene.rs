//! One case's peer, and the provider at work on it as the host would let it: probe, then read and apply.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, atomic::AtomicBool, atomic::AtomicU32, atomic::Ordering},
};

use serde_json::Value as Json;
use wharf_capabilities::call::ZoneBinding;
use wharf_model::object::Zone as ZoneObject;
use wharf_plugins::{
    Runtime,
    dns::{
        Change, Check, DnsSession, Edit, Outcome, Probed, Problem, Report, RrSet, Selector, Snapshot, Value, Verdict,
        ZoneRef,
    },
    report::{CallError, CallReport},
    settings,
};
use wharf_testkit::{
    model::{Record, Zone},
    peer::{Asked, Peer},
};

use crate::{
    case::{Stop, expect, fail},
    site::{Mirror, Site},
    stage::{Kit, held},
    words,
};

/// A zone with names and values that fit what a provider can do.
#[derive(Debug, Clone)]
pub(crate) struct Ground {
    pub(crate) zone: String,
    /// The zone, or the name in it that is ours to write below.
    pub(crate) under: String,
    pub(crate) rtype: &'static str,
}

impl Ground {
    pub(crate) fn forward() -> Self {
        Self::of("example.test.", "A")
    }

    pub(crate) fn reverse() -> Self {
        Self::of("2.0.192.in-addr.arpa.", "PTR")
    }

    fn of(zone: &str, rtype: &'static str) -> Self {
        Self { zone: zone.to_owned(), under: zone.to_owned(), rtype }
    }

    /// Another zone of the kind.
    pub(crate) fn other(&self, n: usize) -> String {
        if self.is_reverse() { format!("{}.51.198.in-addr.arpa.", 100 + n) } else { format!("other-{n}.test.") }
    }

    pub(crate) fn is_reverse(&self) -> bool {
        self.zone.ends_with(".arpa.")
    }

    /// The nth name that is ours to use.
    pub(crate) fn name(&self, n: usize) -> String {
        if self.is_reverse() { format!("{}.{}", n + 1, self.under) } else { format!("vm-{n}.{}", self.under) }
    }

    /// The nth value.
    pub(crate) fn value(&self, n: usize) -> String {
        match self.rtype {
            "A" => format!("203.0.{}.{}", 113 + n / 250 % 100, n % 250 + 1),
            "AAAA" => format!("2001:db8::{:x}", n + 1),
            _ => format!("vm-{n}.example.test."),
        }
    }

    pub(crate) fn add(&self, id: u32, name: usize, value: usize) -> Change {
        add(id, &self.name(name), self.rtype, Some(3_600), &[&self.value(value)])
    }

    pub(crate) fn remove(&self, id: u32, name: usize, value: usize) -> Change {
        remove(id, &self.name(name), self.rtype, &[&self.value(value)])
    }

    /// A record of this ground, as if it stood there already.
    pub(crate) fn record(&self, name: usize, value: usize, ttl: u32) -> Record {
        Record::new(&self.name(name), self.rtype, &self.value(value), ttl)
    }
}

fn change(id: u32, name: &str, rtype: &str, ttl: Option<u32>, edit: Edit) -> Change {
    Change { id, name: name.into(), rtype: rtype.into(), ttl, edit, expect: None, owner: None }
}

pub(crate) fn values(of: &[&str]) -> Vec<Value> {
    of.iter().map(|v| Value::new(*v)).collect()
}

pub(crate) fn add(id: u32, name: &str, rtype: &str, ttl: Option<u32>, data: &[&str]) -> Change {
    change(id, name, rtype, ttl, Edit::AddValues(values(data)))
}

pub(crate) fn remove(id: u32, name: &str, rtype: &str, data: &[&str]) -> Change {
    change(id, name, rtype, None, Edit::RemoveValues(data.iter().map(|d| (*d).to_owned()).collect()))
}

pub(crate) fn replace(id: u32, name: &str, rtype: &str, ttl: Option<u32>, data: &[&str]) -> Change {
    change(id, name, rtype, ttl, Edit::Replace(values(data)))
}

pub(crate) fn delete(id: u32, name: &str, rtype: &str) -> Change {
    change(id, name, rtype, None, Edit::Delete)
}

pub(crate) fn set(name: &str, rtype: &str, ttl: Option<u32>, data: &[&str]) -> RrSet {
    RrSet { name: name.into(), rtype: rtype.into(), ttl, values: values(data), ..RrSet::default() }
}

/// What is served, by name and type.
pub(crate) type Sets = BTreeMap<(String, String), BTreeSet<String>>;

/// What an API makes by itself, and shows or not.
fn own(zone: &str, name: &str, rtype: &str) -> bool {
    rtype == "SOA" || (rtype == "NS" && name == zone)
}

/// What is true at the peer.
pub(crate) fn truth(zone: &Zone) -> Sets {
    let mut sets = Sets::new();
    for r in zone.records.iter().filter(|r| !r.disabled && !own(&zone.name, &r.name, &r.rtype)) {
        sets.entry((r.name.clone(), r.rtype.clone())).or_default().insert(r.data.clone());
    }
    sets
}

/// What the provider says that is there.
pub(crate) fn told(zone: &str, rrsets: &[RrSet]) -> Result<Sets, Stop> {
    let mut sets = Sets::new();
    for set in rrsets.iter().filter(|s| !own(zone, &s.name, &s.rtype)) {
        let data = set.values.iter().map(|v| v.data.clone()).collect();
        if sets.insert((set.name.clone(), set.rtype.clone()), data).is_some() {
            return fail(format!(
                "all values of a name and type are one set, and `read` gave two sets of {} {}",
                set.name, set.rtype
            ));
        }
    }
    Ok(sets)
}

pub(crate) struct Scene<'k> {
    pub(crate) kit: &'k Kit,
    pub(crate) peer: Site,
    /// Of the zone object.
    name: String,
    /// Where the provider is sent to.
    address: String,
}

/// Zone objects are told apart over all kits of a process.
static SCENES: AtomicU32 = AtomicU32::new(0);

fn broken<E: std::error::Error>(error: E) -> Stop {
    Stop::Failed(format!("the kit itself failed: {error}"))
}

impl<'k> Scene<'k> {
    /// A fresh peer with these zones, each with so many records of others.
    pub(crate) async fn new(kit: &'k Kit, zones: &[(&str, usize)]) -> Result<Self, Stop> {
        if let Some(live) = &kit.live {
            if zones.iter().any(|(zone, _)| *zone != live.zone) {
                return fail("the kit itself failed: a live zone is one, and this case wants others");
            }
            let mirror = Mirror::new(&live.zone, kit.house.spy.clone(), (kit.house.facade)());
            let name = format!("scene-{}", SCENES.fetch_add(1, Ordering::Relaxed));
            return Ok(Self { kit, peer: Site::Live(mirror), name, address: String::new() });
        }
        let peer = Peer::start((kit.house.facade)()).await.map_err(broken)?;
        for (zone, foreign) in zones {
            peer.add_zone(zone, *foreign);
        }
        let at = peer.url.clone();
        Self::at(kit, peer, &at).await
    }

    /// As [`Scene::new`], with the provider sent to another address than the peer's.
    pub(crate) async fn at(kit: &'k Kit, peer: Peer, address: &str) -> Result<Self, Stop> {
        let name = format!("scene-{}", SCENES.fetch_add(1, Ordering::Relaxed));
        kit.house.grant(address).await.map_err(broken)?;
        Ok(Self { kit, peer: Site::Facade(peer), name, address: address.to_owned() })
    }

    /// What an admin enters for a zone; its secrets are kept apart.
    async fn settings(&self, zone: &str) -> Result<Json, Stop> {
        let kit = self.kit;
        let mut given = (kit.house.facade)().zone_settings(&self.address, zone);
        if let (Some(given), Some(laid)) = (given.as_object_mut(), kit.settings.as_object()) {
            given.extend(laid.clone());
        }
        let taken = settings::take_secrets(&kit.manifest().settings, &mut given);
        held(&kit.secrets).extend(taken.iter().map(|(_, value)| value.clone()));
        kit.house.keep(&self.name, &taken).await.map_err(broken)?;
        Ok(given)
    }

    fn ground(&self) -> Ground {
        self.kit.ground()
    }

    pub(crate) async fn session_on(
        &self,
        runtime: &Arc<Runtime>,
        zone: &str,
        cancelled: bool,
    ) -> Result<DnsSession, Stop> {
        let binding = ZoneBinding {
            name: self.name.clone(),
            zone: ZoneObject {
                zone: zone.to_owned(),
                plugin: self.kit.manifest().id.clone(),
                settings: self.settings(zone).await?,
                ..ZoneObject::default()
            },
            idempotency_key: format!("{}-1", self.name),
            learnt: Vec::new(),
            progress: Default::default(),
            cancelled: Arc::new(AtomicBool::new(cancelled)),
        };
        runtime.dns(binding).await.map_err(|e| Stop::Failed(format!("the provider can't be called: {e}")))
    }

    /// A session that has probed nothing yet.
    pub(crate) async fn session(&self, zone: &str) -> Result<Open<'_, 'k>, Stop> {
        let session = self.session_on(&self.kit.house.runtime, zone, false).await?;
        let probed = Probed { info: self.kit.info.clone(), can: self.kit.can.clone() };
        let zone = ZoneRef { id: String::new(), name: zone.to_owned() };
        Ok(Open { scene: self, session, zone, probed })
    }

    /// A session that has found the zone. The log begins after that.
    pub(crate) async fn open(&self, zone: &str) -> Result<Open<'_, 'k>, Stop> {
        self.open_on(&self.kit.house.runtime, zone, false).await
    }

    pub(crate) async fn open_on(
        &self,
        runtime: &Arc<Runtime>,
        zone: &str,
        cancelled: bool,
    ) -> Result<Open<'_, 'k>, Stop> {
        let mut open = Open { session: self.session_on(runtime, zone, cancelled).await?, ..self.session(zone).await? };
        match open.probe(zone).await? {
            Ok(probed) => (open.zone, open.probed) = (probed.info.zone.clone(), probed),
            Err(problem) => {
                return fail(format!("`probe` of the zone {zone}, which is there, gave {}", words::problem(&problem)));
            }
        }
        self.peer.take_log();
        Ok(open)
    }

    /// A session on the usual zone.
    pub(crate) async fn usual(&self) -> Result<Open<'_, 'k>, Stop> {
        self.open(&self.ground().zone).await
    }

    /// Looks at a zone at the peer.
    pub(crate) fn zone<R>(&self, name: &str, look: impl FnOnce(&Zone) -> R) -> Result<R, Stop> {
        let model = self.peer.model();
        model.zone(name).map(look).ok_or_else(|| Stop::Failed(format!("the zone {name} is gone at the peer")))
    }

    /// Puts records of others in, with ids where they have none.
    pub(crate) async fn put(&self, zone: &str, records: Vec<Record>) -> Result<(), Stop> {
        if self.kit.live.is_some() {
            let changes = (1..).zip(&records).map(|(id, r)| add(id, &r.name, &r.rtype, r.ttl, &[&r.data])).collect();
            self.open(zone).await?.applied(changes, "where what the case begins with is written").await?;
            self.peer.take_log();
            return Ok(());
        }
        let mut model = self.peer.model();
        for mut record in records {
            if record.id.is_empty() {
                record.id = model.fresh_id();
            }
            let found = model.zone_mut(zone).ok_or_else(|| Stop::Failed(format!("the zone {zone} is not there")))?;
            found.records.push(record);
        }
        Ok(())
    }

    /// Values at the peer, as often as they are there.
    pub(crate) fn data(&self, zone: &str, name: &str, rtype: &str) -> Result<Vec<String>, Stop> {
        self.zone(zone, |z| z.data(name, rtype).into_iter().map(str::to_owned).collect())
    }

    /// Fails unless exactly these are at the peer.
    pub(crate) fn holds(&self, name: &str, rtype: &str, wanted: &[&str], when: &str) -> Result<(), Stop> {
        self.holds_in(&self.ground().zone, name, rtype, wanted, when)
    }

    pub(crate) fn holds_in(
        &self,
        zone: &str,
        name: &str,
        rtype: &str,
        wanted: &[&str],
        when: &str,
    ) -> Result<(), Stop> {
        let there = self.data(zone, name, rtype)?;
        let mut wanted: Vec<&str> = wanted.to_vec();
        wanted.sort_unstable();
        expect(there == wanted, || {
            format!(
                "{when} the peer should have {name} {rtype} [{}], and it has [{}]",
                wanted.join(", "),
                there.join(", ")
            )
        })
    }
}

/// The provider at work on a zone.
pub(crate) struct Open<'s, 'k> {
    pub(crate) scene: &'s Scene<'k>,
    pub(crate) session: DnsSession,
    pub(crate) zone: ZoneRef,
    pub(crate) probed: Probed,
}

impl Open<'_, '_> {
    fn took<T: std::fmt::Debug>(
        &self,
        what: &str,
        answer: Result<CallReport<T>, CallError>,
    ) -> Result<CallReport<T>, Stop> {
        held(&self.scene.kit.said).push(format!("{what} {answer:?}"));
        answer.map_err(|error| {
            Stop::Failed(format!("`{what}` gave no answer at all ({}): {}", error.cause.as_str(), error.text))
        })
    }

    pub(crate) async fn probe(&mut self, zone: &str) -> Result<Result<Probed, Problem>, Stop> {
        let answer = self.session.probe(zone).await;
        Ok(self.took("probe", answer)?.answer)
    }

    pub(crate) async fn zones(&mut self) -> Result<Result<Vec<ZoneRef>, Problem>, Stop> {
        let answer = self.session.list_zones().await;
        Ok(self.took("list-zones", answer)?.answer)
    }

    pub(crate) async fn test(&mut self, zone: Option<&str>, write: bool) -> Result<Vec<Check>, Stop> {
        let answer = self.session.test_connection(zone, write).await;
        Ok(self.took("test-connection", answer)?.answer)
    }

    pub(crate) async fn try_read(&mut self, what: Selector) -> Result<CallReport<Result<Snapshot, Problem>>, Stop> {
        let answer = self.session.read(&self.zone, what).await;
        self.took("read", answer)
    }

    /// Applies. What is taken on for later stays so.
    pub(crate) async fn submit(&mut self, batch: Vec<Change>) -> Result<CallReport<Result<Report, Problem>>, Stop> {
        let answer = self.session.apply(&self.zone, batch).await;
        let answer = self.took("apply", answer)?;
        self.scene.refresh().await?;
        Ok(answer)
    }

    /// Applies. What is taken on for later is waited for.
    pub(crate) async fn try_apply(&mut self, batch: Vec<Change>) -> Result<CallReport<Result<Report, Problem>>, Stop> {
        let mut answer = self.submit(batch).await?;
        if let Ok(report) = &mut answer.answer {
            self.settle(report).await?;
        }
        Ok(answer)
    }

    /// Waits for what was taken on for later.
    pub(crate) async fn settle(&mut self, report: &mut Report) -> Result<(), Stop> {
        let mut some = false;
        for (_, outcome) in &mut report.outcomes {
            if let Outcome::Accepted(operation) = outcome {
                *outcome = self.settled(&operation.clone()).await?;
                some = true;
            }
        }
        if some { self.scene.refresh().await } else { Ok(()) }
    }

    pub(crate) async fn poll(&mut self, operation: &str) -> Result<Result<Outcome, Problem>, Stop> {
        let answer = self.session.poll(&self.zone, operation).await;
        Ok(self.took("poll", answer)?.answer)
    }

    pub(crate) async fn normalize(&mut self, sets: Vec<RrSet>) -> Result<Vec<Verdict>, Stop> {
        let answer = self.session.normalize(self.probed.can.clone(), &self.zone.name, sets).await;
        let answer = self.took("normalize", answer)?.answer;
        answer.map_err(|p| Stop::Failed(format!("`normalize` gave {}", words::problem(&p))))
    }

    pub(crate) async fn verdict(&mut self, set: RrSet) -> Result<Verdict, Stop> {
        let verdicts = self.normalize(vec![set]).await?;
        verdicts.into_iter().next().ok_or_else(|| Stop::Failed("`normalize` gave no verdict".into()))
    }

    /// Reads, and fails if that gives a problem.
    pub(crate) async fn read(&mut self, what: Selector) -> Result<Snapshot, Stop> {
        let answer = self.try_read(what).await?.answer;
        answer.map_err(|p| Stop::Failed(format!("`read` gave {}", words::problem(&p))))
    }

    pub(crate) async fn read_one(&mut self, name: &str, rtype: &str) -> Result<Option<RrSet>, Stop> {
        let snapshot = self.read(Selector::Keys(vec![(name.to_owned(), rtype.to_owned())])).await?;
        Ok(snapshot.rrsets.into_iter().find(|s| s.name == name && s.rtype == rtype))
    }

    /// Applies, and fails if that gives a problem as a whole.
    pub(crate) async fn apply(&mut self, batch: Vec<Change>) -> Result<Report, Stop> {
        let answer = self.try_apply(batch).await?.answer;
        answer.map_err(|p| Stop::Failed(format!("`apply` gave {}", words::problem(&p))))
    }

    /// Polls until it is done.
    pub(crate) async fn settled(&mut self, operation: &str) -> Result<Outcome, Stop> {
        for _ in 0..100 {
            match self.poll(operation).await? {
                Ok(Outcome::Accepted(_)) => tokio::time::sleep(std::time::Duration::from_millis(10)).await,
                Ok(outcome) => return Ok(outcome),
                Err(problem) => return Ok(Outcome::Failed(problem)),
            }
        }
        fail(format!("`poll` of {operation} said `accepted` a hundred times"))
    }

    /// Applies and fails unless all was written.
    pub(crate) async fn applied(&mut self, batch: Vec<Change>, when: &str) -> Result<Report, Stop> {
        let report = self.apply(batch).await?;
        match report.outcomes.iter().find(|(_, o)| !matches!(o, Outcome::Applied(_))) {
            None => Ok(report),
            Some((id, other)) => {
                fail(format!("{when}, change {id} should be `applied`, and it is {}", words::outcome(other)))
            }
        }
    }

    /// Requests since this was asked last.
    pub(crate) fn log(&self) -> Vec<Asked> {
        self.scene.peer.take_log()
    }
}

impl Kit {
    /// The usual zone.
    pub(crate) fn ground(&self) -> Ground {
        let has = |rtype: &str| self.can.types.iter().any(|t| t == rtype);
        if let Some(live) = &self.live {
            let rtype = match (live.zone.ends_with(".arpa."), has("A")) {
                (true, _) => "PTR",
                (false, false) if has("AAAA") => "AAAA",
                _ => "A",
            };
            return Ground { zone: live.zone.clone(), under: live.under.clone(), rtype };
        }
        match (self.can.reverse_only, has("A"), has("AAAA")) {
            (false, true, _) => Ground::forward(),
            (false, false, true) => Ground { rtype: "AAAA", ..Ground::forward() },
            _ => Ground::reverse(),
        }
    }

    /// A scene with the usual zone, with so many records of others.
    pub(crate) async fn scene(&self, foreign: usize) -> Result<Scene<'_>, Stop> {
        Scene::new(self, &[(&self.ground().zone, foreign)]).await
    }

    pub(crate) fn writes(&self, rtype: &str) -> bool {
        self.can.types.iter().any(|t| t == rtype)
    }
}

/// The outcome of a change.
pub(crate) fn outcome(report: &Report, id: u32) -> Result<&Outcome, Stop> {
    let found = report.outcomes.iter().find(|(of, _)| *of == id).map(|(_, o)| o);
    found.ok_or_else(|| Stop::Failed(format!("`apply` gave no outcome for change {id}")))
}

/// The problem that an `apply` came to: of the whole, or of its first change that failed.
pub(crate) fn problem_of(answer: &Result<Report, Problem>) -> Option<Problem> {
    match answer {
        Err(problem) => Some(problem.clone()),
        Ok(report) => report.outcomes.iter().find_map(|(_, o)| match o {
            Outcome::Failed(problem) => Some(problem.clone()),
            _ => None,
        }),
    }
}
