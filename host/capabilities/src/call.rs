//! One call into a plugin: to what it is bound, what it may use up, and what it leaves behind.
//!
//! A [`CallState`] is the data of one wasmtime store and lives as long as one call. What a provisioner writes goes into
//! [`OperationBinding`] and is committed by the engine with the outcome of the step, or dropped.

use std::{collections::BTreeMap, sync::Arc};

use semver::Version;
use wasmtime::component::ResourceTable;
use wharf_model::{
    Clock, Millis,
    effect::SlotPool,
    event::Event,
    manifest::Manifest,
    object::{Grant, Zone},
};
use wharf_store::{Books, Run};

/// Who is called, and what it was allowed.
#[derive(Debug, Clone)]
pub struct Caller {
    pub id: String,
    pub version: Version,
    pub manifest: Arc<Manifest>,
    pub grant: Arc<Grant>,
}

/// What the host lends to calls; shared by all of them.
#[derive(Clone)]
pub struct Lender {
    pub books: Books,
    pub clock: Arc<dyn Clock>,
    pub keyring: Arc<crate::secrets::Keyring>,
    pub servers: Arc<crate::proxmox::Servers>,
    pub sender: Arc<crate::http::Sender>,
}

/// Data of one wasmtime store.
pub struct CallState {
    pub table: ResourceTable,
    pub caller: Caller,
    pub lender: Arc<Lender>,
    pub bound: Bound,
    pub log: LogBuffer,
    pub meter: Meter,
    /// End of the wall-clock budget.
    pub deadline: tokio::time::Instant,
    pub began: tokio::time::Instant,
}

/// What the call is about.
pub enum Bound {
    /// Pure calls: panel adapters.
    Nothing,
    Operation(Box<OperationBinding>),
    /// A plan check: looks at this server, writes nothing.
    Server(String),
    Zone(Box<ZoneBinding>),
    Hook(Box<HookBinding>),
}

/// A step of an operation.
pub struct OperationBinding {
    pub run: Run,
    /// What `remember` said, if it was called.
    pub memo: Option<Option<String>>,
    pub facts: BTreeMap<String, Option<String>>,
    pub submitted: Option<Submitted>,
    /// Set when the VM's absence was proven in this call.
    pub absence_proven_ms: Option<Millis>,
}

impl OperationBinding {
    pub fn new(run: Run) -> Self {
        Self { run, memo: None, facts: BTreeMap::new(), submitted: None, absence_proven_ms: None }
    }

    /// Id that the next effect of this operation gets.
    pub fn next_effect_id(&self) -> String {
        let sequence = self.run.effect.as_ref().map_or(0, |e| e.sequence) + 1;
        format!("{}.{sequence}", self.run.operation.generation)
    }
}

/// The one write that a step handed over.
#[derive(Debug, Clone, PartialEq)]
pub struct Submitted {
    pub kind: String,
    pub server: String,
    pub body: serde_json::Value,
    pub slot: Option<SlotPool>,
}

/// A call of a DNS provider for one zone.
pub struct ZoneBinding {
    /// Name of the zone object: owner of its secrets.
    pub name: String,
    pub zone: Zone,
    pub idempotency_key: String,
    /// What the provider's `probe` told besides, for the calls that follow.
    pub learnt: Vec<(String, String)>,
    /// How far the plugin says it is; can be looked at while the call runs.
    pub progress: Progress,
    pub cancelled: Arc<std::sync::atomic::AtomicBool>,
}

impl ZoneBinding {
    /// For a zone (by the name of its object) and a piece of work of this key.
    pub fn new(name: impl Into<String>, zone: Zone, idempotency_key: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            zone,
            idempotency_key: idempotency_key.into(),
            learnt: Vec::new(),
            progress: Progress::default(),
            cancelled: Arc::default(),
        }
    }
}

/// What a call has done of how much. Clones show the same.
#[derive(Debug, Clone, Default)]
pub struct Progress(Arc<std::sync::Mutex<Option<(u32, u32)>>>);

impl Progress {
    pub fn set(&self, done: u32, total: u32) {
        *self.held() = Some((done.min(total), total));
    }

    pub fn clear(&self) {
        *self.held() = None;
    }

    /// (done, total) as it was said last; none = nothing was said.
    pub fn get(&self) -> Option<(u32, u32)> {
        *self.held()
    }

    fn held(&self) -> std::sync::MutexGuard<'_, Option<(u32, u32)>> {
        self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

/// A call of a lifecycle hook.
pub struct HookBinding {
    /// Name of the hook object: owner of its secrets.
    pub name: String,
    pub settings: serde_json::Value,
    pub event: Option<Event>,
    pub attempt: u32,
    pub question: Option<Question>,
}

/// What a hook is asked.
#[derive(Debug, Clone, PartialEq)]
pub struct Question {
    pub kind: String,
    pub subject: String,
    pub wish: serde_json::Value,
}

/// One line that a plugin wrote.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogLine {
    pub level: String,
    pub message: String,
    pub fields: Vec<(String, String)>,
}

/// Lines of one call, capped.
#[derive(Debug, Default)]
pub struct LogBuffer {
    pub lines: Vec<LogLine>,
    pub bytes: usize,
    /// Lines that were dropped because the call had written enough.
    pub dropped: u32,
    /// Takes secrets out; made at the first need.
    pub(crate) scrubber: Option<Arc<crate::scrub::Scrubber>>,
}

/// What a call has used of its host-call budget.
#[derive(Debug, Default, Clone, Copy)]
pub struct Meter {
    /// Host calls of any kind.
    pub calls: u32,
    /// Bytes that crossed between guest and host in either direction.
    pub bytes: u64,
    /// Requests to servers and providers.
    pub requests: u32,
}

/// An HTTP request under construction.
#[derive(Debug, Default)]
pub struct Outbound {
    pub method: String,
    pub url: String,
    pub query: Vec<(String, String)>,
    pub headers: Vec<(String, String)>,
    pub body: Body,
    pub signs: Vec<Sign>,
    pub timeout_ms: Option<u32>,
    pub sent: bool,
}

#[derive(Debug, Default)]
pub enum Body {
    #[default]
    None,
    Bytes {
        content_type: String,
        data: Vec<u8>,
    },
    Form(Vec<(String, String)>),
}

/// A signature to be made on the way out.
#[derive(Debug)]
pub struct Sign {
    pub slot: String,
    pub scheme: String,
    pub header: String,
    pub payload: Vec<u8>,
}

/// An HTTP answer, secrets taken out.
#[derive(Debug)]
pub struct Reply {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

/// Handles that name nothing: what they stand for is [`Bound`].
#[derive(Debug)]
pub struct DnsCall;
#[derive(Debug)]
pub struct VmHandle;
#[derive(Debug)]
pub struct OperationHandle;
#[derive(Debug)]
pub struct DeliveryHandle;
#[derive(Debug)]
pub struct QuestionHandle;

/// One look at a VM or template.
#[derive(Debug, Clone, Default)]
pub struct VmView {
    pub presence: Presence,
    pub node: Option<String>,
    pub status: String,
    pub lock: Option<String>,
    pub digest: String,
    pub config: BTreeMap<String, String>,
    pub pending: Vec<String>,
}

/// Whether a VM is there, and whose it is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Presence {
    #[default]
    None,
    Copying,
    Ours,
    Foreign,
}
