//! Whether what an admin sends makes sense, before any of it is kept. Each wrong field is named with its remedy.

use std::{collections::BTreeMap, net::IpAddr};

use base64::{Engine, engine::general_purpose::STANDARD};
use rand::RngExt;
use serde_json::{Value, json};
use wharf_capabilities::dns;
use wharf_model::{
    manifest::World,
    object::{Grant, Hook, Image, ObjectKind, Panel, Plan, Pool, Server, Zone},
};
use wharf_plugins::settings::FieldError;

use super::bodies::{GrantBody, HookBody, ImageBody, PanelBody, PlanBody, PoolBody, Secret, ServerBody, ZoneBody, row};
use crate::{Api, Problem, extract::parse};

/// Fewest bytes of a panel's signing key, as Standard Webhooks wants them.
const KEY_BYTES: usize = 24;

/// A checked body, with the secrets split off.
pub struct Checked {
    pub body: Value,
    /// Slot and value.
    pub secrets: Vec<(String, String)>,
    /// Made by the host, to be shown to the caller once.
    pub once: Option<String>,
    pub warnings: Vec<String>,
}

impl Checked {
    fn plain<T: serde::Serialize>(value: &T) -> Self {
        let body = serde_json::to_value(value).unwrap_or_default();
        Self { body, secrets: Vec::new(), once: None, warnings: Vec::new() }
    }
}

/// Reads and checks what was sent for an object of this kind.
pub async fn check(api: &Api, kind: ObjectKind, name: &str, bytes: &[u8]) -> Result<Checked, Problem> {
    match kind {
        ObjectKind::Server => check_server(api, name, parse(bytes)?).await,
        ObjectKind::Image => Ok(Checked::plain(&row::<Image>(&parse::<ImageBody>(bytes)?)?)),
        ObjectKind::Grant => Ok(Checked::plain(&row::<Grant>(&parse::<GrantBody>(bytes)?)?)),
        ObjectKind::Pool => check_pool(row(&parse::<PoolBody>(bytes)?)?),
        ObjectKind::Plan => check_plan(api, row(&parse::<PlanBody>(bytes)?)?).await,
        ObjectKind::Zone => {
            let mut zone: Zone = row(&parse::<ZoneBody>(bytes)?)?;
            zone.zone = dns::names::canonical(&zone.zone);
            // An admin has acted.
            zone.parked = None;
            check_covers(&zone)?;
            let secrets = settings(api, &zone.plugin, World::DnsProvider, &mut zone.settings)?;
            Ok(Checked { secrets, ..Checked::plain(&zone) })
        }
        ObjectKind::Hook => {
            let mut hook: Hook = row(&parse::<HookBody>(bytes)?)?;
            let secrets = settings(api, &hook.plugin, World::LifecycleHook, &mut hook.settings)?;
            if !hook.off {
                hook.off_reason = None;
            }
            Ok(Checked { secrets, ..Checked::plain(&hook) })
        }
        ObjectKind::Panel => check_panel(api, name, parse(bytes)?).await,
        ObjectKind::Token => Err(Problem::bad("kind", "tokens are made by `POST /v1/admin/tokens`, not put")),
        ObjectKind::Pause => Err(Problem::bad("kind", "pauses are made by `POST /v1/admin/pauses`, not put")),
    }
}

async fn check_server(api: &Api, name: &str, mut body: ServerBody) -> Result<Checked, Problem> {
    let secret = Secret::given(body.secret.take());
    let server: Server = row(&body)?;
    let mut wrong = Vec::new();
    if server.urls.is_empty() || server.urls.iter().any(|u| !u.starts_with("https://") && !u.starts_with("http://")) {
        wrong.push(("urls".to_owned(), "at least one `https://node:8006`".to_owned()));
    }
    if !server.token_id.contains('!') || !server.token_id.contains('@') {
        wrong.push(("token_id".to_owned(), "is `user@realm!name`".to_owned()));
    }
    if !(1_000..=300_000).contains(&server.timeout_ms) {
        wrong.push(("timeout_ms".to_owned(), "is 1000 to 300000".to_owned()));
    }
    if !(1_000..=600_000).contains(&server.heavy_timeout_ms) {
        wrong.push(("heavy_timeout_ms".to_owned(), "is 1000 to 600000".to_owned()));
    }
    if server.clones_per_storage == 0 {
        wrong.push(("clones_per_storage".to_owned(), "is 1 or more".to_owned()));
    }
    if secret.is_none() && api.lender.books.secret(&format!("server/{name}"), "secret").await?.is_none() {
        wrong.push(("secret".to_owned(), "the token's secret is needed for a new server".to_owned()));
    }
    if wrong.is_empty() {
        let secrets = secret.map(|s| ("secret".to_owned(), s)).into_iter().collect();
        Ok(Checked { secrets, ..Checked::plain(&server) })
    } else {
        Err(Problem::fields(wrong))
    }
}

fn in_settings(errors: Vec<FieldError>) -> Problem {
    let named = |e: FieldError| (format!("settings{}", e.field), format!("{}: {}", e.message, e.remedy));
    Problem::fields(errors.into_iter().map(named).collect())
}

/// Settings of a zone, hook or panel: known plugin of the right kind, secrets split off, valid by its schema.
fn settings(api: &Api, plugin: &str, world: World, settings: &mut Value) -> Result<Vec<(String, String)>, Problem> {
    let manifest = api.runtime.manifest(plugin).filter(|m| m.world == world).ok_or_else(|| {
        Problem::field("plugin", format!("no such {world} is installed: install it, or name another"))
    })?;
    if settings.is_null() {
        *settings = json!({});
    }
    let secrets = wharf_plugins::settings::take_secrets(&manifest.settings, settings);
    for (slot, value) in &secrets {
        let schema = slot.split('.').try_fold(&manifest.settings, |schema, name| schema.get("properties")?.get(name));
        let wrong = schema.map(|s| wharf_plugins::settings::check(s, &json!(value))).unwrap_or_default();
        if let Some(wrong) = wrong.into_iter().next() {
            // The message would quote the secret.
            let field = format!("settings/{}", slot.replace('.', "/"));
            return Err(Problem::field(&field, format!("this can't be right: {}", wrong.remedy)));
        }
    }
    wharf_plugins::settings::effective(&manifest, settings, &BTreeMap::new()).map_err(in_settings)?;
    Ok(secrets)
}

/// A range of a classless reverse zone (RFC 2317) is a part of a /24, and its first address is written.
fn check_covers(zone: &Zone) -> Result<(), Problem> {
    let Some(range) = zone.covers else { return Ok(()) };
    let wrong = if !(25..=32).contains(&range.prefix_len()) || range.addr() != range.network() {
        Some("is a part of a /24, as in 192.0.2.64/26")
    } else if dns::classless::range(zone).is_none() {
        Some("is not needed: this zone holds the addresses' plain names. Leave it out")
    } else if dns::names::classless(&zone.zone).is_some_and(|named| named != range) {
        Some("is another range than the zone's name says")
    } else {
        None
    };
    wrong.map_or(Ok(()), |text| Err(Problem::field("covers", text)))
}

fn check_pool(pool: Pool) -> Result<Checked, Problem> {
    let mut wrong = Vec::new();
    let mut say = |field: &str, text: String| wrong.push((field.to_owned(), text));
    let most = if pool.first.is_ipv4() { 32 } else { 128 };
    if pool.first.is_ipv4() != pool.last.is_ipv4() {
        say("last", "is of another family than `first`".into());
    } else if pool.last < pool.first {
        say("last", "comes before `first`".into());
    }
    if pool.prefix_length == 0 || pool.prefix_length > most {
        say("prefix_length", format!("is 1 to {most}"));
    } else if let Ok(net) = ipnet::IpNet::new(pool.first, pool.prefix_length)
        && !net.contains(&pool.last)
    {
        say("last", format!("is not inside {}", net.trunc()));
    }
    if let Some(gateway) = pool.gateway
        && gateway.is_ipv4() != pool.first.is_ipv4()
    {
        say("gateway", "is of another family than the pool".into());
    }
    if pool.vlan.is_some_and(|v| !(1..=4094).contains(&v)) {
        say("vlan", "is 1 to 4094, or left out for untagged".into());
    }
    let bridge_ok = (1..=15).contains(&pool.bridge.len())
        && pool.bridge.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '-' || c == '.');
    if !bridge_ok {
        say("bridge", "is an interface name like vmbr0: 1 to 15 letters, digits, `-`, `_` and `.`".into());
    }
    if let IpAddr::V6(v6) = pool.first
        && v6.to_ipv4_mapped().is_some()
    {
        say("first", "is an IPv4 address in IPv6 clothes".into());
    }
    if wrong.is_empty() { Ok(Checked::plain(&pool)) } else { Err(Problem::fields(wrong)) }
}

async fn check_plan(api: &Api, plan: Plan) -> Result<Checked, Problem> {
    let manifest = api
        .runtime
        .manifest(&plan.plugin)
        .filter(|m| m.world == World::Provisioner)
        .ok_or_else(|| Problem::field("plugin", "no such provisioner is installed: install it, or name another"))?;
    if api.lender.books.object(ObjectKind::Server, &plan.server).await?.is_none() {
        return Err(Problem::field("server", "there is no such server: create it first, or name another"));
    }
    let given = if plan.settings.is_null() { json!({}) } else { plan.settings.clone() };
    let effective = wharf_plugins::settings::effective(&manifest, &given, &BTreeMap::new()).map_err(in_settings)?;
    let findings = api
        .runtime
        .check_plan(&plan.plugin, &plan.server, &effective)
        .await
        .map_err(|e| Problem::new(axum::http::StatusCode::BAD_GATEWAY, "plan-check", e.text))?;
    let (fatal, warnings): (Vec<_>, Vec<_>) = findings.into_iter().partition(|f| f.fatal);
    if !fatal.is_empty() {
        let named = |f: wharf_plugins::report::Finding| {
            (format!("settings{}", f.field), format!("{}: {}", f.message, f.remedy))
        };
        return Err(Problem::fields(fatal.into_iter().map(named).collect()));
    }
    let warnings = warnings.into_iter().map(|f| format!("{}: {}: {}", f.field, f.message, f.remedy)).collect();
    Ok(Checked { warnings, ..Checked::plain(&Plan { settings: given, ..plan }) })
}

async fn check_panel(api: &Api, name: &str, mut body: PanelBody) -> Result<Checked, Problem> {
    let given =
        [("secret", Secret::given(body.secret.take())), ("secret-next", Secret::given(body.secret_next.take()))];
    let mut secrets: Vec<_> = given.into_iter().filter_map(|(slot, s)| Some((slot.to_owned(), s?))).collect();
    for (slot, value) in &secrets {
        let key = value.strip_prefix("whsec_").and_then(|b| STANDARD.decode(b).ok());
        if key.is_none_or(|key| key.len() < KEY_BYTES) {
            return Err(Problem::field(slot, format!("is `whsec_` and base64 of {KEY_BYTES} bytes or more")));
        }
    }
    let mut panel: Panel = row(&body)?;
    let of_adapter = settings(api, &panel.plugin, World::PanelAdapter, &mut panel.settings)?;
    if let Some((slot, _)) = of_adapter.iter().find(|(slot, _)| ["secret", "secret-next"].contains(&slot.as_str())) {
        // They would be the keys that hooks are signed with.
        let text = "this name is the host's own: the adapter has to call its setting otherwise";
        return Err(Problem::field(&format!("settings/{slot}"), text));
    }
    secrets.extend(of_adapter);
    let mut once = None;
    let signs = secrets.iter().any(|(slot, _)| slot == "secret");
    if !signs && api.lender.books.secret(&format!("panel/{name}"), "secret").await?.is_none() {
        let key: [u8; 32] = rand::rng().random();
        let secret = format!("whsec_{}", STANDARD.encode(key));
        once = Some(secret.clone());
        secrets.push(("secret".into(), secret));
    }
    Ok(Checked { secrets, once, ..Checked::plain(&panel) })
}
