//! What answers look like. Shapes of their own, apart from the rows of the books: a new column is not shown by accident.

use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;
use uuid::Uuid;
use wharf_model::{event, operation, plugin, service};
use wharf_plugins::{Installed as InstalledPlugin, PluginInfo, VersionInfo};

/// Where a service is in its life.
#[derive(Debug, Clone, Copy, Serialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Phase {
    Pending,
    Provisioning,
    Active,
    Changing,
    Terminating,
    Terminated,
    NeedsAdmin,
}

impl From<service::Phase> for Phase {
    fn from(phase: service::Phase) -> Self {
        match phase {
            service::Phase::Pending => Self::Pending,
            service::Phase::Provisioning => Self::Provisioning,
            service::Phase::Active => Self::Active,
            service::Phase::Changing => Self::Changing,
            service::Phase::Terminating => Self::Terminating,
            service::Phase::Terminated => Self::Terminated,
            service::Phase::NeedsAdmin => Self::NeedsAdmin,
        }
    }
}

/// What an operation is doing. `succeeded`, `cancelled` (overtaken by a newer wish) and `needs-admin` are ends.
#[derive(Debug, Clone, Copy, Serialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Status {
    Queued,
    Running,
    Waiting,
    Succeeded,
    Cancelled,
    NeedsAdmin,
}

impl From<operation::Status> for Status {
    fn from(status: operation::Status) -> Self {
        match status {
            operation::Status::Queued => Self::Queued,
            operation::Status::Running => Self::Running,
            operation::Status::Waiting => Self::Waiting,
            operation::Status::Succeeded => Self::Succeeded,
            operation::Status::Cancelled => Self::Cancelled,
            operation::Status::NeedsAdmin => Self::NeedsAdmin,
        }
    }
}

/// Why an operation does not go on right now, or why it stopped.
#[derive(Debug, Serialize, ToSchema)]
pub struct Reason {
    /// Stable, in kebab-case.
    code: String,
    /// One plain sentence.
    message: String,
}

/// An operation of a service: deploy, change, terminate, …
#[derive(Debug, Serialize, ToSchema)]
pub struct Operation {
    pub id: Uuid,
    service_id: Uuid,
    /// The service's generation that it is.
    generation: u32,
    kind: String,
    plugin: String,
    pub status: Status,
    /// Last completed state, in the provisioner's words.
    pub state: String,
    state_version: u32,
    /// Failures in a row at this state.
    attempt: u32,
    pub reason: Option<Reason>,
    created_ms: i64,
    started_ms: Option<i64>,
    /// When `state` changed last.
    state_ms: i64,
    ended_ms: Option<i64>,
}

impl From<operation::Operation> for Operation {
    fn from(row: operation::Operation) -> Self {
        Self {
            id: row.id,
            service_id: row.service_id,
            generation: row.generation,
            kind: row.kind,
            plugin: row.plugin,
            status: row.status.into(),
            state: row.state,
            state_version: row.state_version,
            attempt: row.attempt,
            reason: row.reason.map(|r| Reason { code: r.code, message: r.message }),
            created_ms: row.created_ms,
            started_ms: row.started_ms,
            state_ms: row.state_ms,
            ended_ms: row.ended_ms,
        }
    }
}

/// A service: one sold VM.
#[derive(Debug, Serialize, ToSchema)]
pub struct Service {
    id: Uuid,
    panel: String,
    /// The panel's own id of it.
    #[serde(rename = "ref")]
    reference: String,
    plan: String,
    server: String,
    phase: Phase,
    /// Denied to the client, whatever runs.
    suspended: bool,
    /// Counts its operations: its `ETag`.
    generation: u32,
    /// State of its last operation, in the provisioner's words.
    state: String,
    vmid: Option<u32>,
    addresses: Vec<String>,
    /// The operation that the request led to; else its last one.
    operation: Option<Operation>,
}

impl Service {
    pub fn new(row: service::Service, addresses: Vec<String>, operation: Option<operation::Operation>) -> Self {
        Self {
            id: row.id,
            panel: row.panel,
            reference: row.reference,
            plan: row.plan,
            server: row.server,
            phase: row.phase.into(),
            suspended: row.suspended,
            generation: row.generation,
            state: row.state,
            vmid: row.vmid,
            addresses,
            operation: operation.map(Operation::from),
        }
    }
}

/// How a step ended.
#[derive(Debug, Serialize, ToSchema)]
#[serde(tag = "is", rename_all = "kebab-case")]
pub enum StepResult {
    Success,
    Skip { reason: String },
    Waiting { reason: String },
    Error { code: String, message: String },
}

impl From<operation::StepResult> for StepResult {
    fn from(result: operation::StepResult) -> Self {
        match result {
            operation::StepResult::Success => Self::Success,
            operation::StepResult::Skip { reason } => Self::Skip { reason },
            operation::StepResult::Waiting { reason } => Self::Waiting { reason },
            operation::StepResult::Error { code, message } => Self::Error { code, message },
        }
    }
}

/// What a line of the log holds.
#[derive(Debug, Serialize, ToSchema)]
#[serde(tag = "what", rename_all = "kebab-case")]
pub enum LogBody {
    /// A state was reached, or a step ended without reaching one.
    Step {
        /// Place of the target state in its operation, from 1.
        number: u32,
        label: String,
        from: String,
        to: String,
        result: StepResult,
        /// Id of the write that did it.
        effect: Option<String>,
        /// Version of the plugin that carried it out.
        version: String,
        duration_ms: i64,
        /// Epoch of the claim: it rises when another worker takes over.
        epoch: i64,
    },
    /// A line of the plugin or the host.
    Line { level: String, message: String, fields: Vec<(String, String)> },
}

/// One entry of an operation's log: the data of the event `log`.
#[derive(Debug, Serialize, ToSchema)]
pub struct LogEntry {
    /// From 1, without gaps: the `id` of the event.
    n: i64,
    at_ms: i64,
    #[serde(flatten)]
    body: LogBody,
}

impl From<operation::LogEntry> for LogEntry {
    fn from(row: operation::LogEntry) -> Self {
        let body = match row.body {
            operation::LogBody::Step { number, label, from, to, result, effect, version, duration_ms, epoch } => {
                LogBody::Step { number, label, from, to, result: result.into(), effect, version, duration_ms, epoch }
            }
            operation::LogBody::Line { level, message, fields } => LogBody::Line { level, message, fields },
        };
        Self { n: row.n, at_ms: row.at_ms, body }
    }
}

/// How an operation ended: the data of the event `end`.
#[derive(Debug, Serialize, ToSchema)]
pub struct LogEnd {
    status: Status,
    state: String,
    reason: Option<Reason>,
}

impl From<operation::Operation> for LogEnd {
    fn from(row: operation::Operation) -> Self {
        let Operation { status, state, reason, .. } = row.into();
        Self { status, state, reason }
    }
}

/// The data of an event of a live log.
#[derive(Debug, Serialize, ToSchema)]
#[serde(untagged)]
#[allow(dead_code, reason = "it is documentation: the stream makes each event by itself")]
pub enum LogEvent {
    Log(LogEntry),
    End(LogEnd),
}

/// What happened. Thin: ids, phase, generation.
#[derive(Debug, Serialize, ToSchema)]
pub struct Event {
    /// Place in the feed.
    pub seq: i64,
    id: Uuid,
    at_ms: i64,
    /// `operation.accepted`, `service.suspended`, …
    kind: String,
    service_id: Option<Uuid>,
    panel: Option<String>,
    /// The service as `panel:ref`, or what else it is about.
    subject: String,
    generation: u32,
    data: Value,
}

impl From<event::Event> for Event {
    fn from(row: event::Event) -> Self {
        let event::Event { seq, id, at_ms, event } = row;
        Self {
            seq,
            id,
            at_ms,
            kind: event.kind,
            service_id: event.service_id,
            panel: event.panel,
            subject: event.subject,
            generation: event.generation,
            data: event.data,
        }
    }
}

/// A piece of the ordered feed.
#[derive(Debug, Serialize, ToSchema)]
pub struct Events {
    pub events: Vec<Event>,
    /// What to give as `after` next.
    pub next: i64,
}

/// Who did what to which, when.
#[derive(Debug, Serialize, ToSchema)]
pub struct Audit {
    seq: i64,
    at_ms: i64,
    actor: String,
    action: String,
    subject: String,
    body: Value,
}

impl From<plugin::AuditEntry> for Audit {
    fn from(row: plugin::AuditEntry) -> Self {
        let plugin::AuditEntry { seq, at_ms, actor, action, subject, body } = row;
        Self { seq, at_ms, actor, action, subject, body }
    }
}

/// A plugin with its installed versions.
#[derive(Debug, Serialize, ToSchema)]
pub struct Plugin {
    id: String,
    name: String,
    description: String,
    licence: String,
    /// `provisioner`, `dns-provider`, `lifecycle-hook` or `panel-adapter`.
    world: String,
    current: String,
    /// What `rollback` goes back to.
    previous: Option<String>,
    enabled: bool,
    revision: i64,
    /// Interfaces that the current version wants.
    wants: Vec<String>,
    /// Interfaces that an admin allowed.
    granted: Vec<String>,
    /// Oldest first.
    versions: Vec<Version>,
}

/// An installed version of a plugin.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = PluginVersion)]
pub struct Version {
    version: String,
    /// SHA-256 of the component.
    digest: String,
    bytes: i64,
    installed_ms: i64,
    installed_by: String,
    /// Oldest and newest version of the states' meaning that it reads.
    state_reads: (u32, u32),
    state_writes: u32,
    /// Ready to be called without loading it first.
    loaded: bool,
    /// Why it can't be run.
    problem: Option<String>,
}

impl From<VersionInfo> for Version {
    fn from(info: VersionInfo) -> Self {
        Self {
            version: info.version.to_string(),
            digest: info.digest,
            bytes: info.bytes,
            installed_ms: info.installed_ms,
            installed_by: info.installed_by,
            state_reads: info.state_reads,
            state_writes: info.state_writes,
            loaded: info.loaded,
            problem: info.problem,
        }
    }
}

impl From<PluginInfo> for Plugin {
    fn from(info: PluginInfo) -> Self {
        Self {
            id: info.id,
            name: info.name,
            description: info.description,
            licence: info.licence,
            world: info.world.to_string(),
            current: info.current.to_string(),
            previous: info.previous.map(|v| v.to_string()),
            enabled: info.enabled,
            revision: info.revision,
            wants: info.wants.into_iter().collect(),
            granted: info.granted.into_iter().collect(),
            versions: info.versions.into_iter().map(Version::from).collect(),
        }
    }
}

/// A plugin that was installed and rolled out.
#[derive(Debug, Serialize, ToSchema)]
pub struct Installed {
    id: String,
    version: String,
    world: String,
    digest: String,
    /// What ran before.
    previous: Option<String>,
    /// It was installed already.
    again: bool,
    granted: Vec<String>,
}

impl From<InstalledPlugin> for Installed {
    fn from(done: InstalledPlugin) -> Self {
        Self {
            id: done.id,
            version: done.version.to_string(),
            world: done.world.to_string(),
            digest: done.digest,
            previous: done.previous.map(|v| v.to_string()),
            again: done.again,
            granted: done.granted.into_iter().collect(),
        }
    }
}

/// Which version of a plugin new steps run on.
#[derive(Debug, Serialize, ToSchema)]
pub struct Rollout {
    id: String,
    current: String,
    previous: Option<String>,
    enabled: bool,
    /// Rises with every move.
    revision: i64,
}

impl From<plugin::Rollout> for Rollout {
    fn from(row: plugin::Rollout) -> Self {
        Self {
            id: row.id,
            current: row.current.to_string(),
            previous: row.previous.map(|v| v.to_string()),
            enabled: row.enabled,
            revision: row.revision,
        }
    }
}
