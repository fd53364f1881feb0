//! What admins send: one type for each kind, with every field known, and secrets that never come back.
//!
//! What is left out gets its default where the row is made. A test holds these types and the rows to the same fields.

use std::net::IpAddr;

use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::Value;
use utoipa::ToSchema;

use crate::Problem;

/// A secret on its way in. It is not written anywhere by mistake: neither by `Debug` nor by `Serialize`.
#[derive(Clone, Default, Deserialize)]
#[serde(transparent)]
pub struct Secret(String);

impl Secret {
    /// None if there is nothing to keep: what is stored stays.
    pub fn given(secret: Option<Self>) -> Option<String> {
        secret.map(|s| s.0).filter(|text| !text.is_empty() && text != wharf_plugins::settings::KEPT)
    }
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret")
    }
}

/// A server: one Proxmox host or cluster.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = Server)]
pub struct ServerBody {
    /// `https://node:8006`; more than one = tried in turn.
    #[schema(min_items = 1)]
    pub urls: Vec<String>,
    /// `user@realm!name`.
    pub token_id: String,
    /// SHA-256 of the certificates that are accepted, hex with or without colons. Empty = the system's roots.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fingerprints: Option<Vec<String>>,
    /// A CA in PEM.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ca_pem: Option<String>,
    /// For what a person waits for.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(default = 10_000, minimum = 1_000, maximum = 300_000)]
    pub timeout_ms: Option<u32>,
    /// For heavy work.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(default = 60_000, minimum = 1_000, maximum = 600_000)]
    pub heavy_timeout_ms: Option<u32>,
    /// Clones at once on one storage.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(default = 2, minimum = 1)]
    pub clones_per_storage: Option<u32>,
    /// No write at all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub paused: Option<bool>,
    /// The token's secret; needed for a new server.
    #[serde(skip_serializing)]
    #[schema(value_type = Option<String>, write_only, format = Password)]
    pub secret: Option<Secret>,
}

/// An image: what can be installed.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = Image)]
pub struct ImageBody {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub title: Option<String>,
    /// Where its templates are: one for each server, or for each node with storages of its own.
    pub templates: Vec<Template>,
}

/// A template on a server.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Template {
    pub server: String,
    pub vmid: u32,
}

/// A plan: what a product sets.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = Plan)]
pub struct PlanBody {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub title: Option<String>,
    /// Id of the provisioner.
    pub plugin: String,
    pub server: String,
    /// By the schema in the provisioner's manifest.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>)]
    pub settings: Option<Value>,
}

/// A pool of addresses on a server.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = Pool)]
pub struct PoolBody {
    pub server: String,
    /// Addresses are unique within a routing domain.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(default = "default")]
    pub domain: Option<String>,
    /// `vmbr0`
    pub bridge: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 1, maximum = 4094)]
    pub vlan: Option<u16>,
    #[schema(value_type = String)]
    pub first: IpAddr,
    #[schema(value_type = String)]
    pub last: IpAddr,
    pub prefix_length: u8,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub gateway: Option<IpAddr>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Vec<String>>)]
    pub nameservers: Option<Vec<IpAddr>>,
    /// Addresses within the range that are never leased.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Vec<String>>)]
    pub excluded: Option<Vec<IpAddr>>,
    /// Seconds that a freed address rests.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(default = 86_400)]
    pub quarantine_s: Option<u32>,
}

/// A zone at a DNS provider.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = Zone)]
pub struct ZoneBody {
    /// DNS name of the zone, without or with the final dot.
    pub zone: String,
    /// Id of the DNS provider.
    pub plugin: String,
    /// By the schema in the provider's manifest. Secret settings are kept apart and not shown.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>)]
    pub settings: Option<Value>,
    /// Seconds; left out = the provider's own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ttl: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub off: Option<bool>,
    /// `192.0.2.64/26`: the addresses whose PTR it holds, for a classless reverse zone (RFC 2317) whose name does not say so.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub covers: Option<ipnet::Ipv4Net>,
    /// Set by the host; whatever is put ends it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub parked: Option<ParkedBody>,
}

/// Why a zone's provider is not asked: it refused the credentials.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = Parked)]
pub struct ParkedBody {
    /// In the provider's own words.
    pub reason: String,
    /// Since when, milliseconds since 1970.
    pub since_ms: i64,
}

/// A panel: who may post hooks.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = Panel)]
pub struct PanelBody {
    /// Id of the panel adapter.
    pub plugin: String,
    /// Names of the plans that it may sell. Everything else does not exist for it.
    pub plans: Vec<String>,
    /// By the schema in the adapter's manifest. Secret settings are kept apart and not shown.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>)]
    pub settings: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub off: Option<bool>,
    /// Signs its hooks: `whsec_` and base64 of 24 bytes or more. Made by the host, and shown once, if a new panel has none.
    #[serde(skip_serializing)]
    #[schema(value_type = Option<String>, write_only, format = Password)]
    pub secret: Option<Secret>,
    /// Accepted beside `secret` during a rotation.
    #[serde(rename = "secret-next", skip_serializing)]
    #[schema(value_type = Option<String>, write_only, format = Password)]
    pub secret_next: Option<Secret>,
}

/// A configured lifecycle hook.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = Hook)]
pub struct HookBody {
    /// Id of the lifecycle hook plugin.
    pub plugin: String,
    /// By the schema in the plugin's manifest. Secret settings are kept apart and not shown.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>)]
    pub settings: Option<Value>,
    /// Kinds of event it is told of; empty = all. `service.*` names a family.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub events: Option<Vec<String>>,
    /// Only events of this panel's services.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub panel: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub off: Option<bool>,
    /// Why it was switched off; cleared when it is switched on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub off_reason: Option<String>,
}

/// What a plugin is allowed; its name is the plugin's id.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = Grant)]
pub struct GrantBody {
    /// Interfaces of the contract, without version: `wharf:http/client`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub interfaces: Option<Vec<String>>,
    /// Origins (`https://host:port`) that may be reached although they resolve to private addresses or speak plain http.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub private_origins: Option<Vec<String>>,
}

/// A token to be made.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = NewToken)]
pub struct TokenBody {
    /// `admin` includes all others: `services:read`, `services:write`, `events:read`, `plugins:write`, `metrics:read`.
    pub scopes: Vec<String>,
    /// Binds it to a panel: everything of others does not exist for it. It can't have `admin`, `plugins:write` or
    /// `metrics:read` then.
    #[serde(default)]
    pub panel: Option<String>,
    /// What it is for.
    #[serde(default)]
    pub note: Option<String>,
    /// Seconds from now; left out = never.
    #[serde(default)]
    #[schema(minimum = 1)]
    pub expires_in_s: Option<u32>,
}

/// A token as it is shown: without its secret.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Token)]
pub struct StoredToken {
    scopes: Vec<String>,
    panel: Option<String>,
    note: String,
    expires_ms: Option<i64>,
}

/// What is sent for an object, by kind.
#[derive(ToSchema)]
#[serde(untagged)]
#[allow(dead_code, reason = "it is documentation: the kind in the path says which it is")]
#[schema(as = ObjectBody)]
pub enum AnyBody {
    Server(ServerBody),
    Image(ImageBody),
    Plan(PlanBody),
    Pool(PoolBody),
    Zone(ZoneBody),
    Panel(PanelBody),
    Hook(HookBody),
    Grant(GrantBody),
}

/// What is kept of an object, by kind.
#[derive(ToSchema)]
#[serde(untagged)]
#[allow(dead_code, reason = "it is documentation: the kind in the path says which it is")]
pub enum StoredBody {
    Server(ServerBody),
    Image(ImageBody),
    Plan(PlanBody),
    Pool(PoolBody),
    Zone(ZoneBody),
    Panel(PanelBody),
    Hook(HookBody),
    Grant(GrantBody),
    Token(StoredToken),
}

/// The row of a body, with defaults filled in.
pub fn row<T: DeserializeOwned>(body: &impl Serialize) -> Result<T, Problem> {
    let value = serde_json::to_vec(body).unwrap_or_default();
    crate::extract::parse(&value)
}
