//! What a zone should hold of ours and what it holds: looked at when an admin asks, and repaired through the queue.
//!
//! Looking writes nothing. A repair changes the books alone: what was seen to be missing is due again, and the queue, which reads
//! before it writes, does the rest. Other people's records are shown where they stand beside ours, and never touched.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;
use wharf_capabilities::{call::ZoneBinding, dns::look::NoAnswer};
use wharf_model::{
    object::{ObjectKind, Zone},
    record::{Record, RecordKey},
    service::ServiceId,
};
use wharf_plugins::{
    dns::{Problem, RrSet, Selector, ZoneRef},
    report::CallError,
};
use wharf_store::{NewAudit, StoreError, queue::subject};

use crate::Engine;

/// Above so many names and types the whole zone is read.
const KEYS: usize = 500;
/// So many removals are hurried without a second yes, and more only if they are no more than [`SHARE`] of what is ours there.
const REMOVALS: usize = 10;
/// Percent.
const SHARE: usize = 30;

/// Why a zone could not be looked at, for an admin.
#[derive(Debug, thiserror::Error)]
pub enum ZoneError {
    #[error("there is no zone `{0}`")]
    NoZone(String),
    #[error("the settings of the zone `{0}` can't be read: save it again")]
    Unreadable(String),
    /// In the provider's own words.
    #[error("{}", .0.message)]
    Provider(Problem),
    #[error("{}", .0.text)]
    Plugin(CallError),
    #[error(
        "{removals} of the {ours} records that are ours in this zone would be removed: look at the plan, then repeat this with \
         `removals`"
    )]
    ManyRemovals { removals: usize, ours: usize },
    #[error("the zone `{0}` is switched off: what is in it is left as it is; switch it on, then repair it")]
    Off(String),
    #[error("the zone `{name}` is parked, so its provider is not asked: mend it, then save or test the zone: {reason}")]
    Parked { name: String, reason: String },
    #[error(
        "`{0}` is no classless reverse zone: its name does not begin with a range (`64/26`, `64-26`, `64-127`), and it has no `covers`"
    )]
    NotClassless(String),
    #[error(transparent)]
    NoResolver(NoAnswer),
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// How a record is not as it should be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Difference {
    /// It was written, and is not there any more.
    Missing,
    /// It is still to be written.
    Waiting,
    /// It is ours, should be gone, and is there.
    LeftOver,
    /// The provider did not show everything: it may be there or not.
    Unseen,
}

/// A record of ours that is not as it should be.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Differs {
    pub what: Difference,
    pub name: String,
    pub rtype: String,
    pub value: String,
    pub service: ServiceId,
    /// `panel:ref`.
    pub subject: Option<String>,
    /// Why it could not be written or removed when that was tried last.
    pub reason: Option<String>,
}

/// Values of others under a name and type that hold one of ours.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Beside {
    pub name: String,
    pub rtype: String,
    pub values: Vec<String>,
}

/// The difference between what should be and what is.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ZonePlan {
    /// Name of the zone object.
    pub zone: String,
    /// The DNS zone.
    pub dns_zone: String,
    pub plugin: String,
    /// SOA serial, where the provider tells it.
    pub serial: Option<String>,
    /// False: the provider did not show everything, so nothing can be said to be missing.
    pub complete: bool,
    /// Records that should be there.
    pub wanted: usize,
    /// Of those, how many are.
    pub present: usize,
    pub differences: Vec<Differs>,
    pub beside: Vec<Beside>,
}

/// What a repair set going.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Repair {
    /// Records that were settled and are due again.
    pub rechecked: u64,
    /// Records that were waiting and are tried at once.
    pub hurried: u64,
}

/// A value of a zone, as it is shown.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Shown {
    pub data: String,
    /// Whose it is, as `panel:ref`; none = somebody else's than ours.
    pub subject: Option<String>,
}

/// A name and type of a zone, as it is shown.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ShownSet {
    pub name: String,
    pub rtype: String,
    /// Seconds; none = automatic.
    pub ttl: Option<u32>,
    pub values: Vec<Shown>,
}

/// All that a provider has in a zone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ZoneRecords {
    pub zone: String,
    pub dns_zone: String,
    /// False: the provider did not show everything.
    pub complete: bool,
    pub sets: Vec<ShownSet>,
}

/// What a provider showed.
pub(crate) struct Seen {
    pub(crate) zone: Zone,
    pub(crate) serial: Option<String>,
    pub(crate) complete: bool,
    pub(crate) sets: Vec<RrSet>,
}

impl Engine {
    /// What should be in the zone and what is.
    pub async fn zone_plan(&self, name: &str) -> Result<ZonePlan, ZoneError> {
        let records = self.books.records_in(name).await?;
        let keys: BTreeSet<(String, String)> =
            records.iter().map(|r| (r.key.name.clone(), r.key.rtype.clone())).collect();
        let what = if keys.len() > KEYS { Selector::All } else { Selector::Keys(keys.into_iter().collect()) };
        let seen = self.see(name, what).await?;
        let (present, differing, beside) = compare(&records, &seen.sets, seen.complete);
        let mut subjects = Subjects::default();
        let mut differences = Vec::with_capacity(differing.len());
        for (what, record) in differing {
            let RecordKey { name, rtype, value, service_id, .. } = record.key.clone();
            differences.push(Differs {
                what,
                name,
                rtype,
                value,
                service: service_id,
                subject: subjects.of(self, service_id).await?,
                reason: record.reason.clone(),
            });
        }
        Ok(ZonePlan {
            zone: name.to_owned(),
            dns_zone: seen.zone.zone,
            plugin: seen.zone.plugin,
            serial: seen.serial,
            complete: seen.complete,
            wanted: records.iter().filter(|r| r.wanted).count(),
            present,
            differences,
            beside,
        })
    }

    /// Makes everything due that the plan found to differ. `removals`: even if a large part of what is ours there would go.
    pub async fn zone_repair(&self, name: &str, removals: bool, actor: &str) -> Result<(ZonePlan, Repair), ZoneError> {
        // Made due, its records would only fail.
        if self.zone(name).await?.off {
            return Err(ZoneError::Off(name.to_owned()));
        }
        let plan = self.zone_plan(name).await?;
        let going = plan.differences.iter().filter(|d| d.what == Difference::LeftOver).count();
        let ours = plan.wanted + going;
        if going > REMOVALS && going * 100 > ours * SHARE && !removals {
            return Err(ZoneError::ManyRemovals { removals: going, ours });
        }
        let now = self.clock.now_ms();
        let missing: Vec<RecordKey> = plan
            .differences
            .iter()
            .filter(|d| d.what == Difference::Missing)
            .map(|d| RecordKey {
                zone: name.to_owned(),
                name: d.name.clone(),
                rtype: d.rtype.clone(),
                value: d.value.clone(),
                service_id: d.service,
            })
            .collect();
        let rechecked = self.books.recheck_records(&missing, now).await?;
        let waiting: BTreeSet<ServiceId> = plan
            .differences
            .iter()
            .filter(|d| matches!(d.what, Difference::Waiting | Difference::LeftOver))
            .map(|d| d.service)
            .collect();
        let mut hurried = 0;
        for service in waiting {
            hurried += self.books.hurry_records(Some(service), now).await?;
        }
        let repair = Repair { rechecked, hurried };
        let audit = NewAudit {
            actor: actor.to_owned(),
            action: "zone.repair".into(),
            subject: format!("zone/{name}"),
            body: serde_json::json!({ "rechecked": rechecked, "hurried": hurried }),
        };
        self.books.audit(audit, now).await?;
        self.dns_work.notify_one();
        Ok((plan, repair))
    }

    /// All that the provider has in the zone, and whose it is.
    pub async fn zone_records(&self, name: &str) -> Result<ZoneRecords, ZoneError> {
        let records = self.books.records_in(name).await?;
        let seen = self.see(name, Selector::All).await?;
        let owners: BTreeMap<(&str, &str, String), ServiceId> = records
            .iter()
            .filter(|r| r.wanted || r.written)
            .map(|r| ((r.key.name.as_str(), r.key.rtype.as_str(), folded(&r.key.value)), r.key.service_id))
            .collect();
        let mut subjects = Subjects::default();
        let mut sets = Vec::with_capacity(seen.sets.len());
        for set in &seen.sets {
            let mut values = Vec::with_capacity(set.values.len());
            for value in &set.values {
                let owner = owners.get(&(set.name.as_str(), set.rtype.as_str(), folded(&value.data)));
                let subject = match owner {
                    Some(service) => subjects.of(self, *service).await?,
                    None => None,
                };
                values.push(Shown { data: value.data.clone(), subject });
            }
            sets.push(ShownSet { name: set.name.clone(), rtype: set.rtype.clone(), ttl: set.ttl, values });
        }
        sets.sort_by(|a, b| (&a.name, &a.rtype).cmp(&(&b.name, &b.rtype)));
        Ok(ZoneRecords { zone: name.to_owned(), dns_zone: seen.zone.zone, complete: seen.complete, sets })
    }

    /// A zone as it is configured.
    pub(crate) async fn zone(&self, name: &str) -> Result<Zone, ZoneError> {
        let object = self.books.object(ObjectKind::Zone, name).await?;
        let object = object.ok_or_else(|| ZoneError::NoZone(name.to_owned()))?;
        serde_json::from_value(object.body).map_err(|_| ZoneError::Unreadable(name.to_owned()))
    }

    pub(crate) async fn see(&self, name: &str, what: Selector) -> Result<Seen, ZoneError> {
        let zone = self.zone(name).await?;
        Self::not_parked(name, &zone)?;
        let binding = ZoneBinding::new(name, zone.clone(), format!("look-{name}"));
        let mut session = self.runtime.dns(binding).await.map_err(ZoneError::Plugin)?;
        let apex = wharf_capabilities::dns::names::canonical(&zone.zone);
        let probed = session.probe(&apex).await.map_err(ZoneError::Plugin)?.answer.map_err(ZoneError::Provider)?;
        let at: ZoneRef = probed.info.zone;
        let read = session.read(&at, what).await.map_err(ZoneError::Plugin)?.answer.map_err(ZoneError::Provider)?;
        Ok(Seen { zone, serial: probed.info.serial, complete: read.complete, sets: read.rrsets })
    }
}

/// Services by name, each read once.
#[derive(Default)]
struct Subjects(BTreeMap<ServiceId, Option<String>>);

impl Subjects {
    async fn of(&mut self, engine: &Engine, service: ServiceId) -> Result<Option<String>, StoreError> {
        if let Some(known) = self.0.get(&service) {
            return Ok(known.clone());
        }
        let found = engine.books.service(service).await?.map(|s| subject(&s));
        self.0.insert(service, found.clone());
        Ok(found)
    }
}

fn folded(data: &str) -> String {
    data.to_ascii_lowercase()
}

/// How many wanted records are there, those that are not as they should be, and what stands beside ours.
fn compare<'a>(
    records: &'a [Record],
    live: &[RrSet],
    complete: bool,
) -> (usize, Vec<(Difference, &'a Record)>, Vec<Beside>) {
    let live: BTreeMap<(&str, &str), &RrSet> = live.iter().map(|s| ((s.name.as_str(), s.rtype.as_str()), s)).collect();
    let mut ours: BTreeMap<(&str, &str), BTreeSet<String>> = BTreeMap::new();
    let (mut present, mut differing) = (0, Vec::new());
    for record in records {
        let at = (record.key.name.as_str(), record.key.rtype.as_str());
        ours.entry(at).or_default().insert(folded(&record.key.value));
        let stands =
            live.get(&at).is_some_and(|s| s.values.iter().any(|v| v.data.eq_ignore_ascii_case(&record.key.value)));
        match (record.wanted, stands) {
            (true, true) => present += 1,
            (true, false) if !record.written => differing.push((Difference::Waiting, record)),
            (true, false) if complete => differing.push((Difference::Missing, record)),
            (true, false) => differing.push((Difference::Unseen, record)),
            (false, true) => differing.push((Difference::LeftOver, record)),
            (false, false) => {}
        }
    }
    let mut beside = Vec::new();
    for ((name, rtype), own) in ours {
        let Some(set) = live.get(&(name, rtype)) else { continue };
        let others: Vec<String> =
            set.values.iter().filter(|v| !own.contains(&folded(&v.data))).map(|v| v.data.clone()).collect();
        if !others.is_empty() {
            beside.push(Beside { name: name.to_owned(), rtype: rtype.to_owned(), values: others });
        }
    }
    (present, differing, beside)
}

#[cfg(test)]
mod tests {
    use super::*;
    use wharf_plugins::dns::Value;

    fn record(value: &str, wanted: bool, written: bool) -> Record {
        Record {
            key: RecordKey {
                zone: "z".into(),
                name: "vm.example.com.".into(),
                rtype: "A".into(),
                value: value.into(),
                service_id: uuid::Uuid::nil(),
            },
            ttl: None,
            wanted,
            written,
            attempt: 0,
            due_ms: 0,
            reason: None,
            updated_ms: 0,
        }
    }

    fn set(values: &[&str]) -> RrSet {
        RrSet {
            name: "vm.example.com.".into(),
            rtype: "A".into(),
            ttl: None,
            values: values.iter().map(|v| Value { data: (*v).into(), owner: None, ext: Vec::new() }).collect(),
            owner: None,
            version: None,
            ext: Vec::new(),
        }
    }

    fn kinds(records: &[Record], live: &[RrSet], complete: bool) -> Vec<Difference> {
        compare(records, live, complete).1.into_iter().map(|(what, _)| what).collect()
    }

    #[test]
    fn each_record_is_as_it_should_be_or_differs_in_one_way() {
        let records = [
            record("192.0.2.1", true, true),
            record("192.0.2.2", true, true),
            record("192.0.2.3", true, false),
            record("192.0.2.4", false, true),
            record("192.0.2.5", false, true),
        ];
        let live = [set(&["192.0.2.1", "192.0.2.4", "198.51.100.9"])];
        let expected = [Difference::Missing, Difference::Waiting, Difference::LeftOver];
        assert_eq!(kinds(&records, &live, true), expected);
        let (present, _, beside) = compare(&records, &live, true);
        assert_eq!(present, 1);
        assert_eq!(beside[0].values, ["198.51.100.9"], "what is nobody's of ours is shown");
    }

    #[test]
    fn what_was_not_shown_is_not_said_to_be_missing() {
        assert_eq!(kinds(&[record("192.0.2.1", true, true)], &[], false), [Difference::Unseen]);
    }
}
