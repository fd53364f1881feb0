//! What a plugin says of itself, as data, before any line of it has run.
//!
//! The manifest is JSON in the custom section `wharf:manifest` at the top level of the component. Everything here is
//! decoded once, with limits, by [`Manifest::parse`]; whatever holds a [`Manifest`] may rely on it.

use std::collections::{BTreeMap, BTreeSet};

use semver::Version;
use serde::{Deserialize, Serialize};

/// Name of the custom section.
pub const SECTION: &str = "wharf:manifest";
/// Largest manifest that is read. Shipped ones have 5 to 20 KiB; the schemas are the bulk of it.
pub const MAX_BYTES: usize = 256 * 1024;

/// The four kinds of plugin.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum World {
    Provisioner,
    DnsProvider,
    LifecycleHook,
    PanelAdapter,
}

impl World {
    /// As it is written in manifests, tables and messages.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Provisioner => "provisioner",
            Self::DnsProvider => "dns-provider",
            Self::LifecycleHook => "lifecycle-hook",
            Self::PanelAdapter => "panel-adapter",
        }
    }
}

impl std::fmt::Display for World {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The whole manifest.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// Stable id of the plugin: 2 to 64 of `a-z 0-9 -`, beginning with a letter.
    pub id: String,
    /// For people.
    pub name: String,
    pub version: Version,
    pub world: World,
    /// SPDX expression.
    pub licence: String,
    #[serde(default)]
    pub description: String,
    /// Interfaces of the contract that it wants to import, with the oldest version it can live with:
    /// `"wharf:http/client": "0.1.0"`. What a component imports beyond this list is refused.
    pub wants: BTreeMap<String, Version>,
    /// JSON Schema (2020-12) of a plan, a zone's settings or a hook's settings. `x-secret: true` marks a property
    /// whose value stays in the host; `x-option: {"name", "legacy"}` the panel option that overrides it.
    #[serde(default = "empty_object")]
    pub settings: serde_json::Value,
    /// Provisioners: the kinds of operation, each with its states.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub operations: Vec<OperationKind>,
    /// Provisioners: what people may ask for on a service.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub actions: Vec<Action>,
    /// Versions of the meaning of states.
    #[serde(default)]
    pub state: StateVersions,
    /// Which requests it makes. Without rules it makes none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub requests: Vec<RequestRule>,
    /// Where secrets may be put.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub secrets: Vec<SecretSlot>,
    #[serde(default)]
    pub limits: WantedLimits,
}

fn empty_object() -> serde_json::Value {
    serde_json::json!({"type": "object"})
}

/// One kind of operation ("deploy") and the states it passes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OperationKind {
    pub kind: String,
    pub label: String,
    /// Phase of the service while this runs.
    pub phase: String,
    /// Phase of the service when the final state is reached.
    pub final_phase: String,
    /// Phase when it is stuck. `needs-admin` if not said.
    #[serde(default = "needs_admin")]
    pub stuck_phase: String,
    /// In order. The first is where the operation begins, the last where it ends.
    pub states: Vec<State>,
}

fn needs_admin() -> String {
    "needs-admin".into()
}

/// A state: the last completed step.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct State {
    pub id: String,
    /// What was done when this state is reached ("Clone VM"); empty for the first.
    #[serde(default)]
    pub label: String,
}

/// What people may ask for.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Action {
    pub id: String,
    pub label: String,
    #[serde(default = "empty_object")]
    pub input: serde_json::Value,
    /// Word to type before it is done ("REINSTALL").
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub danger: Option<String>,
    /// Setting of the plan that allows it to clients; none = always.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub permission: Option<String>,
    #[serde(default)]
    pub needs: Needs,
    /// Only for admins.
    #[serde(default)]
    pub admin: bool,
}

/// What must be so for an action to be allowed. Empty = anything goes.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Needs {
    pub phase: BTreeSet<String>,
    pub power: BTreeSet<String>,
    /// True: not while Proxmox holds a lock.
    pub unlocked: bool,
}

/// Which meanings of its states a version can read, and which it writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StateVersions {
    /// Oldest and newest that it reads.
    pub reads: (u32, u32),
    pub writes: u32,
}

impl Default for StateVersions {
    fn default() -> Self {
        Self { reads: (1, 1), writes: 1 }
    }
}

impl StateVersions {
    /// Whether an operation whose state has this version can go on here.
    pub fn can_read(&self, version: u32) -> bool {
        (self.reads.0..=self.reads.1).contains(&version)
    }
}

/// One kind of request that a plugin makes. `{name}` in `host` and `path` stands for the setting of that name, taken
/// from the zone or hook at hand, and `{zone}`, where there is no setting of that name, for the zone's DNS name in A-labels without
/// the final dot; in `path`, `*` stands for one segment of the plugin's choosing.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RequestRule {
    pub methods: BTreeSet<String>,
    /// Scheme, host and port: `https://api.example.com` or `{server-url}` (scheme, host, port and leading path of that
    /// setting).
    pub origin: String,
    /// `/api/v1/servers/localhost/zones/*`.
    pub path: String,
    /// Form, query or JSON-body fields whose value is pinned: one of these values or it is refused. A value that is one `{name}` stands
    /// for the setting, as in `path`; `{zone}` for the zone's name in any spelling.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub pinned: BTreeMap<String, Vec<String>>,
}

/// A secret and the positions where its value may be put.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SecretSlot {
    /// The property of the settings that holds it, or, for provisioners, a name of its own.
    pub slot: String,
    pub positions: Vec<Position>,
}

/// Where the value of a secret may be put.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Position {
    /// As the value, or a part of the value, of this request header.
    Header(String),
    /// As the value of this form field.
    Form(String),
    /// As the value of this key of a VM's configuration.
    Config(String),
    /// As the key of a signature of this scheme, in this header.
    Sign { scheme: String, header: String },
}

/// What a plugin asks for; the host takes the smaller of this and its own.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct WantedLimits {
    pub memory_mib: Option<u32>,
    pub call_ms: Option<u32>,
}

/// What is wrong with a manifest, in one sentence with a remedy.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum ManifestError {
    #[error("the manifest has {0} bytes, more than the {MAX_BYTES} that are read: shorten its schemas and texts")]
    TooLarge(usize),
    #[error("the manifest is not valid: {0}")]
    Syntax(String),
    #[error("manifest field `{field}`: {problem}")]
    Field { field: String, problem: String },
}

impl ManifestError {
    fn field(field: impl Into<String>, problem: impl Into<String>) -> Self {
        Self::Field { field: field.into(), problem: problem.into() }
    }
}

/// Phases that a manifest may name: the host's own words.
pub const PHASES: [&str; 7] =
    ["pending", "provisioning", "active", "changing", "terminating", "terminated", "needs-admin"];

impl Manifest {
    /// Decodes and checks. What comes out has unique operation kinds, states and actions, known phases, at least two
    /// states an operation, and slots and rules that name each other.
    pub fn parse(bytes: &[u8]) -> Result<Self, ManifestError> {
        if bytes.len() > MAX_BYTES {
            return Err(ManifestError::TooLarge(bytes.len()));
        }
        let manifest: Self = serde_json::from_slice(bytes).map_err(|e| ManifestError::Syntax(e.to_string()))?;
        manifest.check()?;
        Ok(manifest)
    }

    /// The kind of operation of this name.
    pub fn operation(&self, kind: &str) -> Option<&OperationKind> {
        self.operations.iter().find(|o| o.kind == kind)
    }

    /// The slot of this name.
    pub fn slot(&self, name: &str) -> Option<&SecretSlot> {
        self.secrets.iter().find(|s| s.slot == name)
    }

    fn check(&self) -> Result<(), ManifestError> {
        check_word("id", &self.id)?;
        if self.name.is_empty() || self.name.len() > 100 {
            return Err(ManifestError::field("name", "must have 1 to 100 bytes"));
        }
        if self.state.reads.0 > self.state.reads.1 || !self.state.can_read(self.state.writes) {
            return Err(ManifestError::field("state", "`reads` must be [oldest, newest] and hold what `writes` says"));
        }
        if !self.settings.is_object() {
            return Err(ManifestError::field("settings", "must be a JSON Schema object"));
        }
        if self.world == World::Provisioner && self.operations.is_empty() {
            return Err(ManifestError::field("operations", "a provisioner needs at least one"));
        }
        let mut kinds = BTreeSet::new();
        for op in &self.operations {
            let at = format!("operations.{}", op.kind);
            check_word(&at, &op.kind)?;
            if !kinds.insert(&op.kind) {
                return Err(ManifestError::field(at, "stands twice"));
            }
            for phase in [&op.phase, &op.final_phase, &op.stuck_phase] {
                if !PHASES.contains(&phase.as_str()) {
                    return Err(ManifestError::field(
                        &at,
                        format!("unknown phase `{phase}`: one of {}", PHASES.join(", ")),
                    ));
                }
            }
            if op.states.len() < 2 {
                return Err(ManifestError::field(at, "needs a first and a final state at least"));
            }
            let mut ids = BTreeSet::new();
            for state in &op.states {
                if state.id.is_empty() || state.id.len() > 64 || !ids.insert(&state.id) {
                    return Err(ManifestError::field(
                        at,
                        format!("state `{}` is empty, too long or stands twice", state.id),
                    ));
                }
            }
        }
        let mut actions = BTreeSet::new();
        for action in &self.actions {
            if action.id.is_empty() || !actions.insert(&action.id) {
                return Err(ManifestError::field("actions", format!("`{}` is empty or stands twice", action.id)));
            }
        }
        for (n, rule) in self.requests.iter().enumerate() {
            let at = format!("requests[{n}]");
            if rule.methods.is_empty() {
                return Err(ManifestError::field(at, "names no method"));
            }
            if !rule.path.starts_with('/') {
                return Err(ManifestError::field(at, "`path` must begin with `/`"));
            }
            if !(rule.origin.starts_with("https://")
                || rule.origin.starts_with("http://")
                || rule.origin.starts_with('{'))
            {
                return Err(ManifestError::field(at, "`origin` must be an URL without path, or `{setting}`"));
            }
        }
        let mut slots = BTreeSet::new();
        for slot in &self.secrets {
            if slot.slot.is_empty() || !slots.insert(&slot.slot) {
                return Err(ManifestError::field("secrets", format!("slot `{}` is empty or stands twice", slot.slot)));
            }
        }
        Ok(())
    }
}

fn check_word(field: &str, word: &str) -> Result<(), ManifestError> {
    let good = (2..=64).contains(&word.len())
        && word.starts_with(|c: char| c.is_ascii_lowercase())
        && word.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-');
    if good {
        Ok(())
    } else {
        Err(ManifestError::field(field, format!("`{word}` must be 2 to 64 of a-z, 0-9 and -, beginning with a letter")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn minimal() -> serde_json::Value {
        serde_json::json!({
            "id": "example", "name": "Example", "version": "1.2.3", "world": "provisioner", "licence": "MIT",
            "wants": {"wharf:proxmox/vms": "0.1.0"},
            "operations": [{"kind": "deploy", "label": "Deploy", "phase": "provisioning", "final_phase": "active",
                "states": [{"id": "begun"}, {"id": "done", "label": "Do it"}]}]
        })
    }

    fn parse(value: &serde_json::Value) -> Result<Manifest, ManifestError> {
        Manifest::parse(value.to_string().as_bytes())
    }

    #[test]
    fn a_minimal_manifest_is_read_with_defaults() {
        let manifest = parse(&minimal()).unwrap();
        assert_eq!(manifest.state, StateVersions { reads: (1, 1), writes: 1 });
        assert_eq!(manifest.operation("deploy").unwrap().stuck_phase, "needs-admin");
    }

    #[test]
    fn an_unknown_field_is_named() {
        let mut value = minimal();
        value["operatoins"] = serde_json::json!([]);
        assert!(parse(&value).unwrap_err().to_string().contains("operatoins"));
    }

    #[test]
    fn an_unknown_phase_is_refused_with_the_known_ones() {
        let mut value = minimal();
        value["operations"][0]["phase"] = "cooking".into();
        let text = parse(&value).unwrap_err().to_string();
        assert!(text.contains("cooking") && text.contains("provisioning"), "{text}");
    }

    #[test]
    fn a_state_that_stands_twice_is_refused() {
        let mut value = minimal();
        value["operations"][0]["states"] = serde_json::json!([{"id": "a"}, {"id": "a"}]);
        assert!(parse(&value).is_err());
    }

    #[test]
    fn a_manifest_of_50_mb_is_refused_by_its_size_alone() {
        assert_eq!(Manifest::parse(&vec![b' '; 50 << 20]), Err(ManifestError::TooLarge(50 << 20)));
    }

    #[test]
    fn writes_must_lie_within_reads() {
        let mut value = minimal();
        value["state"] = serde_json::json!({"reads": [2, 3], "writes": 1});
        assert!(parse(&value).is_err());
    }
}
