//! Rows as they stand in the tables of the engines that speak SQL, and the way to the words of the domain and back.
//!
//! All engines have the same columns and the same kinds of values: whole numbers of 64 bits, text and bytes; times are Unix
//! milliseconds, ids are text, JSON is text, yes and no are 1 and 0. So a row means the same everywhere and can be copied.

use std::net::IpAddr;

use crate::{Result, StoreError, rules::records};
use serde::{Serialize, de::DeserializeOwned};
use uuid::Uuid;
use wharf_model::{
    effect::{Effect, EffectState, SlotPool},
    event::{Event, NewEvent},
    job::Job,
    lease::Lease,
    object::{Object, ObjectKind},
    operation::{Operation, Reason, Status},
    plugin::{AuditEntry, PluginVersion, Rollout},
    record::{Record, RecordKey},
    service::{Phase, Service},
};

/// A row that can't be read.
pub fn corrupt(what: impl std::fmt::Display) -> StoreError {
    StoreError::Corrupt(what.to_string())
}

/// A whole number that must fit.
pub fn num<T: TryFrom<i64>>(value: i64, column: &str) -> Result<T> {
    T::try_from(value).map_err(|_| corrupt(format!("{column} is {value}, which is out of range")))
}

pub fn uid(text: &str) -> Result<Uuid> {
    Uuid::try_parse(text).map_err(|_| corrupt(format!("{text} is no id")))
}

pub fn opt_uid(text: Option<&String>) -> Result<Option<Uuid>> {
    text.map(|t| uid(t)).transpose()
}

pub fn from_json<T: DeserializeOwned>(text: &str, column: &str) -> Result<T> {
    serde_json::from_str(text).map_err(|error| corrupt(format!("{column}: {error}")))
}

pub fn to_json<T: Serialize>(value: &T, column: &str) -> Result<String> {
    serde_json::to_string(value).map_err(|error| corrupt(format!("{column}: {error}")))
}

/// Family and 16 bytes: IPv4 is mapped into IPv6, so that all sort alike.
pub fn address_key(address: IpAddr) -> (i64, Vec<u8>) {
    match address {
        IpAddr::V4(v4) => (4, v4.to_ipv6_mapped().octets().to_vec()),
        IpAddr::V6(v6) => (6, v6.octets().to_vec()),
    }
}

pub fn address(family: i64, bytes: &[u8]) -> Result<IpAddr> {
    let octets: [u8; 16] = bytes.try_into().map_err(|_| corrupt("an address has not 16 bytes"))?;
    let v6 = std::net::Ipv6Addr::from(octets);
    match family {
        4 => v6.to_ipv4_mapped().map(IpAddr::V4).ok_or_else(|| corrupt("an IPv4 address is not mapped")),
        6 => Ok(IpAddr::V6(v6)),
        other => Err(corrupt(format!("{other} is no family of addresses"))),
    }
}

pub struct ObjectRow {
    pub kind: String,
    pub name: String,
    pub revision: i64,
    pub body: String,
    pub created_ms: i64,
    pub updated_ms: i64,
}

impl ObjectRow {
    pub fn model(self) -> Result<Object> {
        Ok(Object {
            kind: ObjectKind::parse(&self.kind)
                .ok_or_else(|| corrupt(format!("{} is no kind of object", self.kind)))?,
            body: from_json(&self.body, "object.body")?,
            name: self.name,
            revision: self.revision,
            created_ms: self.created_ms,
            updated_ms: self.updated_ms,
        })
    }
}

pub struct ServiceRow {
    pub id: String,
    pub panel: String,
    pub reference: String,
    pub plan: String,
    pub server: String,
    pub plugin: String,
    pub options: String,
    pub settings: String,
    pub ordered: String,
    pub facts: String,
    pub phase: String,
    pub suspended: i64,
    pub generation: i64,
    pub state: String,
    pub state_version: i64,
    pub vmid: Option<i64>,
    pub absence_proven_ms: Option<i64>,
    pub created_ms: i64,
    pub updated_ms: i64,
}

impl ServiceRow {
    pub fn model(self) -> Result<Service> {
        Ok(Service {
            id: uid(&self.id)?,
            options: from_json(&self.options, "service.options")?,
            settings: from_json(&self.settings, "service.settings")?,
            order: from_json(&self.ordered, "service.ordered")?,
            facts: from_json(&self.facts, "service.facts")?,
            phase: Phase::parse(&self.phase).ok_or_else(|| corrupt(format!("{} is no phase", self.phase)))?,
            suspended: self.suspended != 0,
            generation: num(self.generation, "service.generation")?,
            state_version: num(self.state_version, "service.state_version")?,
            vmid: self.vmid.map(|v| num(v, "service.vmid")).transpose()?,
            panel: self.panel,
            reference: self.reference,
            plan: self.plan,
            server: self.server,
            plugin: self.plugin,
            state: self.state,
            absence_proven_ms: self.absence_proven_ms,
            created_ms: self.created_ms,
            updated_ms: self.updated_ms,
        })
    }
}

/// Not all columns are read outside SQL, but `*` names them all.
#[allow(dead_code)]
pub struct OperationRow {
    pub id: String,
    pub service_id: String,
    pub generation: i64,
    pub kind: String,
    pub plugin: String,
    pub status: String,
    pub state: String,
    pub state_version: i64,
    pub memo: Option<String>,
    pub attempt: i64,
    pub reason_code: Option<String>,
    pub reason_message: Option<String>,
    pub created_ms: i64,
    pub started_ms: Option<i64>,
    pub state_ms: i64,
    pub ended_ms: Option<i64>,
    pub log_last: i64,
    pub log_rows: i64,
    pub epoch: i64,
}

impl OperationRow {
    pub fn model(self) -> Result<Operation> {
        Ok(Operation {
            id: uid(&self.id)?,
            service_id: uid(&self.service_id)?,
            generation: num(self.generation, "operation.generation")?,
            status: Status::parse(&self.status).ok_or_else(|| corrupt(format!("{} is no status", self.status)))?,
            state_version: num(self.state_version, "operation.state_version")?,
            attempt: num(self.attempt, "operation.attempt")?,
            reason: match (self.reason_code, self.reason_message) {
                (Some(code), Some(message)) => Some(Reason { code, message }),
                _ => None,
            },
            kind: self.kind,
            plugin: self.plugin,
            state: self.state,
            memo: self.memo,
            created_ms: self.created_ms,
            started_ms: self.started_ms,
            state_ms: self.state_ms,
            ended_ms: self.ended_ms,
        })
    }
}

/// Not all columns are read outside SQL, but `*` names them all.
#[allow(dead_code)]
pub struct QueueRow {
    pub operation_id: String,
    pub service_id: String,
    pub due_ms: i64,
    pub was_due_ms: i64,
    pub owner: Option<String>,
    pub epoch: i64,
    pub rev: i64,
    pub taken_over: i64,
    pub preempted: i64,
    pub nudged: i64,
    pub wait_slot: Option<String>,
    pub ticket: Option<i64>,
    pub topic: Option<String>,
}

pub struct EffectRow {
    pub operation_id: String,
    pub sequence: i64,
    pub service_id: String,
    pub generation: i64,
    pub kind: String,
    pub server: String,
    pub body: String,
    pub slot_pool: Option<String>,
    pub slot_cap: Option<i64>,
    pub state: String,
    pub task: Option<String>,
    pub deadline_ms: i64,
    pub result: Option<String>,
    pub created_ms: i64,
    pub issued_ms: Option<i64>,
    pub resolved_ms: Option<i64>,
}

impl EffectRow {
    pub fn model(self) -> Result<Effect> {
        Ok(Effect {
            service_id: uid(&self.service_id)?,
            operation_id: uid(&self.operation_id)?,
            generation: num(self.generation, "effect.generation")?,
            sequence: num(self.sequence, "effect.sequence")?,
            body: from_json(&self.body, "effect.body")?,
            slot: match (self.slot_pool, self.slot_cap) {
                (Some(name), Some(cap)) => Some(SlotPool { name, cap: num(cap, "effect.slot_cap")? }),
                _ => None,
            },
            state: EffectState::parse(&self.state)
                .ok_or_else(|| corrupt(format!("{} is no state of an effect", self.state)))?,
            result: self.result.map(|r| from_json(&r, "effect.result")).transpose()?,
            kind: self.kind,
            server: self.server,
            task: self.task,
            deadline_ms: self.deadline_ms,
            created_ms: self.created_ms,
            issued_ms: self.issued_ms,
            resolved_ms: self.resolved_ms,
        })
    }
}

pub struct LeaseRow {
    pub domain: String,
    pub family: i64,
    pub address: Vec<u8>,
    pub pool: String,
    pub service_id: Option<String>,
    pub place: i64,
    pub network: String,
    pub ptr: Option<String>,
    pub leased_ms: i64,
    pub free_after_ms: i64,
}

impl LeaseRow {
    pub fn model(self) -> Result<Lease> {
        Ok(Lease {
            address: address(self.family, &self.address)?,
            service_id: opt_uid(self.service_id.as_ref())?,
            index: num(self.place, "lease.place")?,
            network: from_json(&self.network, "lease.network")?,
            domain: self.domain,
            pool: self.pool,
            ptr: self.ptr,
            leased_ms: self.leased_ms,
            free_after_ms: self.free_after_ms,
        })
    }
}

/// Not all columns are read outside SQL, but `*` names them all.
#[allow(dead_code)]
pub struct RecordRow {
    pub zone: String,
    pub name: String,
    pub rtype: String,
    pub value: String,
    pub service_id: String,
    pub queue: String,
    pub ttl: Option<i64>,
    pub wanted: i64,
    pub sent: i64,
    pub open: i64,
    pub sought: i64,
    pub attempt: i64,
    pub due_ms: i64,
    pub reason: Option<String>,
    pub updated_ms: i64,
}

impl RecordRow {
    pub fn model(self) -> Result<Record> {
        Ok(Record {
            key: RecordKey {
                zone: self.zone,
                name: self.name,
                rtype: self.rtype,
                value: self.value,
                service_id: uid(&self.service_id)?,
            },
            ttl: self.ttl.map(|t| num(t, "record.ttl")).transpose()?,
            wanted: self.wanted != 0,
            written: records::written(self.wanted != 0, self.sent != 0, self.open != 0),
            attempt: num(self.attempt, "record.attempt")?,
            due_ms: self.due_ms,
            reason: self.reason,
            updated_ms: self.updated_ms,
        })
    }
}

pub struct EventRow {
    pub seq: i64,
    pub id: String,
    pub at_ms: i64,
    pub kind: String,
    pub service_id: Option<String>,
    pub panel: Option<String>,
    pub subject: String,
    pub generation: i64,
    pub data: String,
}

impl EventRow {
    pub fn model(self) -> Result<Event> {
        Ok(Event {
            seq: self.seq,
            id: uid(&self.id)?,
            at_ms: self.at_ms,
            event: NewEvent {
                kind: self.kind,
                service_id: opt_uid(self.service_id.as_ref())?,
                panel: self.panel,
                subject: self.subject,
                generation: num(self.generation, "event.generation")?,
                data: from_json(&self.data, "event.data")?,
            },
        })
    }
}

pub struct AuditRow {
    pub seq: i64,
    pub at_ms: i64,
    pub actor: String,
    pub action: String,
    pub subject: String,
    pub body: String,
}

impl AuditRow {
    pub fn model(self) -> Result<AuditEntry> {
        Ok(AuditEntry {
            seq: self.seq,
            at_ms: self.at_ms,
            actor: self.actor,
            action: self.action,
            subject: self.subject,
            body: from_json(&self.body, "audit.body")?,
        })
    }
}

pub struct JobRow {
    pub name: String,
    pub every_ms: i64,
    pub stale_ms: i64,
    pub due_ms: i64,
    pub was_due_ms: i64,
    pub owner: Option<String>,
    pub epoch: i64,
    pub forced: i64,
    pub declared_ms: i64,
    pub last_begun_ms: Option<i64>,
    pub last_ended_ms: Option<i64>,
    pub last_ok_ms: Option<i64>,
    pub last_result: Option<String>,
    pub last_error: Option<String>,
    pub last_epoch: i64,
    pub runs: i64,
    pub took_over: i64,
}

impl JobRow {
    pub fn model(self) -> Result<Job> {
        Ok(Job {
            owner: opt_uid(self.owner.as_ref())?,
            last_result: self.last_result.map(|r| from_json(&r, "job.last_result")).transpose()?,
            name: self.name,
            every_ms: self.every_ms,
            stale_ms: self.stale_ms,
            due_ms: self.due_ms,
            was_due_ms: self.was_due_ms,
            epoch: self.epoch,
            forced: self.forced != 0,
            declared_ms: self.declared_ms,
            last_begun_ms: self.last_begun_ms,
            last_ended_ms: self.last_ended_ms,
            last_ok_ms: self.last_ok_ms,
            last_error: self.last_error,
            last_epoch: self.last_epoch,
            runs: self.runs,
            took_over: self.took_over,
        })
    }
}

pub struct PluginVersionRow {
    pub id: String,
    pub version: String,
    pub digest: String,
    pub manifest: String,
    pub size: i64,
    pub installed_ms: i64,
    pub installed_by: String,
}

pub fn version(text: &str) -> Result<semver::Version> {
    semver::Version::parse(text).map_err(|error| corrupt(format!("the version {text}: {error}")))
}

impl PluginVersionRow {
    pub fn model(self) -> Result<PluginVersion> {
        Ok(PluginVersion {
            version: version(&self.version)?,
            manifest: from_json(&self.manifest, "plugin_version.manifest")?,
            id: self.id,
            digest: self.digest,
            size: self.size,
            installed_ms: self.installed_ms,
            installed_by: self.installed_by,
        })
    }
}

pub struct RolloutRow {
    pub id: String,
    pub current: String,
    pub previous: Option<String>,
    pub enabled: i64,
    pub revision: i64,
}

impl RolloutRow {
    pub fn model(self) -> Result<Rollout> {
        Ok(Rollout {
            current: version(&self.current)?,
            previous: self.previous.as_deref().map(version).transpose()?,
            enabled: self.enabled != 0,
            id: self.id,
            revision: self.revision,
        })
    }
}
