//! What admins manage: servers, images, plans, pools, zones, panels, hooks, grants, tokens.
//!
//! All are kept as one kind of row with a JSON body; the types of the bodies live with what uses them.

use serde::{Deserialize, Serialize};

use crate::Millis;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ObjectKind {
    Server,
    Image,
    Plan,
    Pool,
    Zone,
    Panel,
    Hook,
    Grant,
    Token,
    Pause,
}

impl ObjectKind {
    pub const ALL: [Self; 10] = [
        Self::Server,
        Self::Image,
        Self::Plan,
        Self::Pool,
        Self::Zone,
        Self::Panel,
        Self::Hook,
        Self::Grant,
        Self::Token,
        Self::Pause,
    ];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Server => "server",
            Self::Image => "image",
            Self::Plan => "plan",
            Self::Pool => "pool",
            Self::Zone => "zone",
            Self::Panel => "panel",
            Self::Hook => "hook",
            Self::Grant => "grant",
            Self::Token => "token",
            Self::Pause => "pause",
        }
    }

    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|k| k.as_str() == text)
    }
}

impl std::fmt::Display for ObjectKind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The row. `revision` rises with every change: it is the ETag.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Object {
    pub kind: ObjectKind,
    pub name: String,
    pub revision: i64,
    pub body: serde_json::Value,
    pub created_ms: Millis,
    pub updated_ms: Millis,
}

/// A server: one Proxmox host or cluster. The token's secret is kept apart, in slot `secret`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Server {
    /// `https://node:8006`; more than one = tried in turn.
    pub urls: Vec<String>,
    /// `user@realm!name`.
    pub token_id: String,
    /// SHA-256 of the certificates that are accepted, hex with or without colons. Empty = the system's roots.
    #[serde(default)]
    pub fingerprints: Vec<String>,
    /// A CA in PEM.
    #[serde(default)]
    pub ca_pem: Option<String>,
    /// Milliseconds: 10,000 for what a person waits for, 60,000 for heavy work.
    #[serde(default = "interactive_timeout")]
    pub timeout_ms: u32,
    #[serde(default = "heavy_timeout")]
    pub heavy_timeout_ms: u32,
    /// Clones at once on one storage.
    #[serde(default = "two")]
    pub clones_per_storage: u32,
    /// True: no write at all, by an admin's wish.
    #[serde(default)]
    pub paused: bool,
}

fn interactive_timeout() -> u32 {
    10_000
}
fn heavy_timeout() -> u32 {
    60_000
}
fn two() -> u32 {
    2
}

/// An image: what can be installed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Image {
    #[serde(default)]
    pub title: String,
    pub templates: Vec<ImageTemplate>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ImageTemplate {
    pub server: String,
    pub vmid: u32,
}

/// A plan: what a product sets. `settings` is valid by the provisioner's schema.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Plan {
    #[serde(default)]
    pub title: String,
    pub plugin: String,
    pub server: String,
    #[serde(default)]
    pub settings: serde_json::Value,
}

/// A pool of addresses on a server.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pool {
    pub server: String,
    #[serde(default = "default_domain")]
    pub domain: String,
    pub bridge: String,
    #[serde(default)]
    pub vlan: Option<u16>,
    pub first: std::net::IpAddr,
    pub last: std::net::IpAddr,
    pub prefix_length: u8,
    #[serde(default)]
    pub gateway: Option<std::net::IpAddr>,
    #[serde(default)]
    pub nameservers: Vec<std::net::IpAddr>,
    /// Addresses within the range that are never leased.
    #[serde(default)]
    pub excluded: Vec<std::net::IpAddr>,
    /// Seconds that a freed address rests.
    #[serde(default = "one_day")]
    pub quarantine_s: u32,
}

fn default_domain() -> String {
    "default".into()
}
fn one_day() -> u32 {
    86_400
}

/// A zone at a DNS provider. Settings are valid by the plugin's schema; secret ones are kept apart.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Zone {
    /// DNS name of the zone, without or with the final dot.
    pub zone: String,
    pub plugin: String,
    #[serde(default)]
    pub settings: serde_json::Value,
    /// Seconds; none = the provider's own.
    #[serde(default)]
    pub ttl: Option<u32>,
    #[serde(default)]
    pub off: bool,
    /// The addresses whose PTR it holds, where its name does not say so: a classless reverse zone (RFC 2317).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub covers: Option<ipnet::Ipv4Net>,
    /// Why its provider is not asked. Set by the host, ended by an admin.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parked: Option<Parked>,
}

/// A provider refused a zone's credentials: it is not asked again until an admin has saved or tested the zone, for some lock a
/// client out that keeps trying.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Parked {
    /// The provider's own words.
    pub reason: String,
    pub since_ms: Millis,
}

/// A panel: who may post hooks. Its signing secret is kept apart, in slot `secret` (and `secret-next` during rotation).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Panel {
    /// Id of the panel adapter plugin.
    pub plugin: String,
    /// Names of the plans that it may sell. Everything else does not exist for it.
    pub plans: Vec<String>,
    /// Settings of the adapter, by its manifest's schema.
    #[serde(default)]
    pub settings: serde_json::Value,
    #[serde(default)]
    pub off: bool,
}

/// A configured lifecycle hook.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Hook {
    pub plugin: String,
    #[serde(default)]
    pub settings: serde_json::Value,
    /// Kinds of event it is told of; empty = all. `service.*` names a family.
    #[serde(default)]
    pub events: Vec<String>,
    /// Only events of this panel's services.
    #[serde(default)]
    pub panel: Option<String>,
    #[serde(default)]
    pub off: bool,
    /// Why it was switched off.
    #[serde(default)]
    pub off_reason: Option<String>,
}

impl Hook {
    /// Whether it wants this event.
    pub fn wants(&self, kind: &str, panel: Option<&str>) -> bool {
        let family = |pattern: &str| pattern.strip_suffix('*').map_or(pattern == kind, |head| kind.starts_with(head));
        !self.off
            && self.panel.as_deref().is_none_or(|p| panel == Some(p))
            && (self.events.is_empty() || self.events.iter().any(|p| family(p)))
    }
}

/// What an admin allowed a plugin. The row's name is the plugin's id.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Grant {
    /// Interfaces of the contract, without version: `wharf:http/client`.
    pub interfaces: std::collections::BTreeSet<String>,
    /// Origins (`https://host:port`) that may be reached although they resolve to private addresses or speak plain http.
    pub private_origins: std::collections::BTreeSet<String>,
}

/// A bearer token. The row's name is the public half; only a hash of the secret half is kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Token {
    /// SHA-256 of the secret half, hex. The secret has 256 bits, so a fast hash is enough.
    pub hash: String,
    pub scopes: Vec<String>,
    /// None = all panels.
    pub panel: Option<String>,
    pub note: String,
    pub expires_ms: Option<Millis>,
}

/// What is held back. The row's name is [`PauseScope::name`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum PauseScope {
    Everything,
    Server(String),
    Node {
        server: String,
        node: String,
    },
    Panel(String),
    /// Operations of this kind ("deploy").
    Kind(String),
}

impl PauseScope {
    /// `everything`, `server:pve`, `node:pve/pve1`, `panel:shop`, `kind:deploy`.
    pub fn name(&self) -> String {
        match self {
            Self::Everything => "everything".into(),
            Self::Server(server) => format!("server:{server}"),
            Self::Node { server, node } => format!("node:{server}/{node}"),
            Self::Panel(panel) => format!("panel:{panel}"),
            Self::Kind(kind) => format!("kind:{kind}"),
        }
    }

    /// Reads what [`name`](Self::name) writes.
    pub fn parse(text: &str) -> Option<Self> {
        if text == "everything" {
            return Some(Self::Everything);
        }
        let (what, which) = text.split_once(':').filter(|(_, which)| !which.is_empty())?;
        Some(match what {
            "server" => Self::Server(which.into()),
            "node" => {
                let (server, node) = which.split_once('/').filter(|(s, n)| !s.is_empty() && !n.is_empty())?;
                Self::Node { server: server.into(), node: node.into() }
            }
            "panel" => Self::Panel(which.into()),
            "kind" => Self::Kind(which.into()),
            _ => return None,
        })
    }
}

/// An admin's pause: nothing in its scope is begun or sent until it is removed. Since when: the row's `created_ms`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pause {
    pub scope: PauseScope,
    /// Why, in the admin's words.
    pub reason: String,
    /// Who paused it.
    pub by: String,
}
