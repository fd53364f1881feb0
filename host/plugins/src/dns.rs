//! Calls of DNS providers, in plain types.
//!
//! A [`DnsSession`] stays with one zone and one version of the plugin, with a fresh store for each call. Guarantees that
//! what a provider reports is sound: TTLs within RFC 2181's 31 bits, lists within bounds, one outcome for each change of a
//! batch and none besides, verdicts in the order and number of what was asked. What is not becomes a [`Problem`] with
//! [`ProblemAction::ReportBug`].

mod convert;
mod session;

pub use session::DnsSession;

/// A value of a record set. `data` in canonical presentation form.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Value {
    pub data: String,
    pub owner: Option<String>,
    pub ext: Vec<(String, String)>,
}

impl Value {
    /// A value without a note.
    pub fn new(data: impl Into<String>) -> Self {
        Self { data: data.into(), ..Self::default() }
    }
}

/// All values of one name and type.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RrSet {
    /// Absolute, lower case, with the final dot.
    pub name: String,
    pub rtype: String,
    /// Seconds; none = automatic.
    pub ttl: Option<u32>,
    pub values: Vec<Value>,
    pub owner: Option<String>,
    pub version: Option<String>,
    pub ext: Vec<(String, String)>,
}

#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ZoneRef {
    /// The provider's own, opaque.
    pub id: String,
    pub name: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ZoneInfo {
    pub zone: ZoneRef,
    pub writable: bool,
    pub serial: Option<String>,
    pub ttl_min: Option<u32>,
    pub ttl_max: Option<u32>,
    pub ttl_default: Option<u32>,
    pub records_used: Option<u32>,
    pub records_max: Option<u32>,
    pub ext: Vec<(String, String)>,
}

/// What a provider can do.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Capabilities {
    pub types: Vec<String>,
    /// 0 = no limit known.
    pub max_values: u32,
    pub max_changes: u32,
    pub atomic: bool,
    pub native_merge: bool,
    pub conditional: bool,
    pub owner_per_value: bool,
    pub owner_per_rrset: bool,
    pub owner_max_bytes: u32,
    /// At least 1.
    pub parallel_per_zone: u32,
    pub parallel_per_server: u32,
    pub asynchronous: bool,
    pub reverse_only: bool,
    pub ext: Vec<(String, String)>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Probed {
    pub info: ZoneInfo,
    pub can: Capabilities,
}

/// One line of a connection test.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Check {
    pub step: String,
    pub ok: bool,
    pub detail: String,
}

/// What to read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Selector {
    All,
    /// (name, type).
    Keys(Vec<(String, String)>),
    Below(String),
}

/// What was read. If not `complete`, something may be missing: nothing may be deleted by it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snapshot {
    pub rrsets: Vec<RrSet>,
    pub complete: bool,
    pub version: Option<String>,
    /// Requests made.
    pub calls: u32,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Edit {
    /// These too; all others stay.
    AddValues(Vec<Value>),
    /// Not these any more; all others stay.
    RemoveValues(Vec<String>),
    /// Exactly these.
    Replace(Vec<Value>),
    /// The whole set.
    Delete,
}

/// One change. `id` is unique in its batch; `expect` the values that the plan saw.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    pub id: u32,
    pub name: String,
    pub rtype: String,
    pub ttl: Option<u32>,
    pub edit: Edit,
    pub expect: Option<Vec<String>>,
    pub owner: Option<String>,
}

/// What became of a change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    Applied(RrSet),
    Unchanged(RrSet),
    /// Ask [`DnsSession::poll`] with this id.
    Accepted(String),
    Failed(Problem),
    NotAttempted,
}

/// One outcome for each change of the batch, by id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    pub outcomes: Vec<(u32, Outcome)>,
    pub version: Option<String>,
    pub calls: u32,
}

/// How the provider would store a set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    Ok(RrSet),
    /// So; why.
    Adjusted(RrSet, String),
    Refused(Problem),
}

/// What the host must do about a problem.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProblemAction {
    /// Permanent for this change.
    FixInput,
    /// Permanent for this zone until an admin acts.
    FixConfig,
    /// Read again, plan again, once.
    Replan,
    /// Rate limited.
    Wait,
    /// Passing, and surely nothing was written.
    Retry,
    /// Sent, and no answer: read before writing again.
    Verify,
    ReportBug,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    pub action: ProblemAction,
    pub code: String,
    pub message: String,
    pub retry_after_ms: Option<u32>,
    pub http_status: Option<u16>,
    pub provider_code: Option<String>,
    pub ext: Vec<(String, String)>,
}
