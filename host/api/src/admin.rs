//! What admins manage: servers, images, plans, pools, zones, panels, hooks, grants; tests; the audit log.
//!
//! One shape for all: `GET`, `PUT` and `DELETE /v1/admin/{kind}/{name}`. Secrets go in with the body and never come out: shown is
//! only which are set; left out or empty keeps what is stored.

use std::{collections::BTreeMap, net::IpAddr};

use axum::{
    Json,
    extract::{FromRequest, Path, Request, State, rejection::JsonRejection},
    http::HeaderMap,
};
use base64::{Engine, engine::general_purpose::STANDARD};
use rand::RngExt;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use wharf_capabilities::call::ZoneBinding;
use wharf_model::{
    manifest::World,
    object::{Grant, Hook, Image, Object, ObjectKind, Panel, Plan, Pool, Server, Zone},
};
use wharf_store::NewAudit;

use crate::{
    Api, Problem,
    auth::{Caller, require},
};

fn kind_of(text: &str) -> Result<ObjectKind, Problem> {
    text.strip_suffix('s').and_then(ObjectKind::parse).ok_or_else(|| {
        let known: Vec<String> = ObjectKind::ALL.iter().map(|k| format!("{k}s")).collect();
        Problem::not_found(format!("kind `{text}`: one of {}", known.join(", ")))
    })
}

async fn shown(api: &Api, object: Object) -> Result<Value, Problem> {
    let owner = format!("{}/{}", object.kind, object.name);
    let slots = api.lender.books.secret_slots(&owner).await?;
    let mut body = object.body;
    if object.kind == ObjectKind::Token
        && let Some(map) = body.as_object_mut()
    {
        map.remove("hash");
    }
    let mut all = json!({"name": object.name, "revision": object.revision, "body": body, "secrets_set": slots});
    if let (ObjectKind::Pool, Ok(pool)) = (object.kind, serde_json::from_value::<Pool>(body.clone()))
        && let Some(map) = all.as_object_mut()
    {
        if let Ok(net) = ipnet::IpNet::new(pool.first, pool.prefix_length) {
            let zones = wharf_capabilities::dns::rdns_zone_names(net.trunc());
            map.insert("rdns_zones".into(), json!({"zones": zones.zones, "advice": zones.advice}));
        }
        let leases = api.lender.books.leases_in(&object.name).await?;
        map.insert("leased".into(), json!(leases.iter().filter(|l| l.service_id.is_some()).count()));
        map.insert("resting".into(), json!(leases.iter().filter(|l| l.service_id.is_none()).count()));
    }
    Ok(all)
}

pub async fn list(
    State(api): State<Api>,
    Path(kind): Path<String>,
    headers: HeaderMap,
) -> Result<Json<Vec<Value>>, Problem> {
    require(&api, &headers, "admin").await?;
    let mut all = Vec::new();
    for object in api.lender.books.objects(kind_of(&kind)?).await? {
        all.push(shown(&api, object).await?);
    }
    Ok(Json(all))
}

pub async fn show(
    State(api): State<Api>,
    Path((kind, name)): Path<(String, String)>,
    headers: HeaderMap,
) -> Result<Json<Value>, Problem> {
    require(&api, &headers, "admin").await?;
    let kind = kind_of(&kind)?;
    let object =
        api.lender.books.object(kind, &name).await?.ok_or_else(|| Problem::not_found(format!("{kind} `{name}`")))?;
    Ok(Json(shown(&api, object).await?))
}

fn check_name(name: &str) -> Result<(), Problem> {
    let good = (1..=100).contains(&name.len())
        && name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.'))
        && name.starts_with(|c: char| c.is_ascii_alphanumeric());
    if good {
        Ok(())
    } else {
        Err(Problem::bad(
            "name",
            format!(
                "`{name}`: a name has 1 to 100 letters, digits, `-`, `_` and `.`, beginning with a letter or digit"
            ),
        ))
    }
}

fn typed<T: DeserializeOwned>(body: &Value) -> Result<T, Problem> {
    serde_json::from_value(body.clone()).map_err(|e| Problem::fields(vec![("body".into(), e.to_string())]))
}

/// A checked body and the secrets that were split off.
struct Checked {
    body: Value,
    secrets: Vec<(String, String)>,
    /// Shown to the caller once.
    once: Option<(String, String)>,
    warnings: Vec<String>,
}

impl Checked {
    fn plain<T: serde::Serialize>(value: &T) -> Self {
        Self {
            body: serde_json::to_value(value).unwrap_or_default(),
            secrets: Vec::new(),
            once: None,
            warnings: Vec::new(),
        }
    }
}

/// Splits `secret` off a body of server or panel.
fn take_secret(body: &mut Value, slot: &str) -> Vec<(String, String)> {
    let taken = body.as_object_mut().and_then(|map| map.remove(slot));
    match taken.and_then(|v| v.as_str().map(str::to_owned)) {
        Some(text) if !text.is_empty() => vec![(slot.to_owned(), text)],
        _ => Vec::new(),
    }
}

pub async fn put(
    State(api): State<Api>,
    Path((kind, name)): Path<(String, String)>,
    headers: HeaderMap,
    request: Request,
) -> Result<Json<Value>, Problem> {
    let caller = require(&api, &headers, "admin").await?;
    let kind = kind_of(&kind)?;
    check_name(&name)?;
    let parsed: Result<Json<Value>, JsonRejection> = Json::from_request(request, &api).await;
    let Json(body) = parsed?;
    let expect = headers
        .get("if-match")
        .and_then(|v| v.to_str().ok())
        .and_then(|v| v.trim_matches('"').parse::<i64>().ok())
        .or_else(|| headers.get("if-none-match").map(|_| 0));
    if kind == ObjectKind::Token {
        return create_token(&api, &caller, &body).await;
    }
    let checked = check(&api, kind, &name, body).await?;
    let now = api.lender.clock.now_ms();
    let owner = format!("{kind}/{name}");
    // Secrets first: a client made from the new row must not meet the old secret.
    for (slot, value) in &checked.secrets {
        let sealed = api.lender.keyring.seal(&owner, slot, value.as_bytes());
        api.lender.books.put_secret(&owner, slot, &sealed, now).await?;
    }
    let audit = audit_of(
        &caller,
        &format!("{kind}.put"),
        &owner,
        json!({"secrets": checked.secrets.iter().map(|(s, _)| s).collect::<Vec<_>>()}),
    );
    let object = api.lender.books.put_object(kind, &name, checked.body, expect, Some(audit), now).await?;
    // Whoever waits for what was just added or mended looks again.
    for topic in ["addresses", "room"] {
        api.lender.books.wake_topic(topic, now).await?;
    }
    if kind == ObjectKind::Grant {
        api.runtime.refresh().await.map_err(|e| Problem::bad("plugins", e.to_string()))?;
    }
    if kind == ObjectKind::Zone {
        api.lender.books.hurry_records(None, now).await?;
    }
    api.engine.nudge();
    let mut answer = shown(&api, object).await?;
    if let Some(map) = answer.as_object_mut() {
        if let Some((slot, value)) = checked.once {
            map.insert(slot, value.into());
        }
        if !checked.warnings.is_empty() {
            map.insert("warnings".into(), json!(checked.warnings));
        }
    }
    Ok(Json(answer))
}

fn audit_of(caller: &Caller, action: &str, subject: &str, body: Value) -> NewAudit {
    NewAudit { actor: caller.name.clone(), action: action.into(), subject: subject.into(), body }
}

async fn create_token(api: &Api, caller: &Caller, body: &Value) -> Result<Json<Value>, Problem> {
    let list: Vec<String> = typed(body.get("scopes").unwrap_or(&Value::Null))?;
    if let Some(unknown) = list.iter().find(|s| !crate::tokens::SCOPES.contains(&s.as_str())) {
        let text = format!("`{unknown}` is no scope: one of {}", crate::tokens::SCOPES.join(", "));
        return Err(Problem::fields(vec![("scopes".into(), text)]));
    }
    let text = |key: &str| body.get(key).and_then(Value::as_str).map(str::to_owned);
    let now = api.lender.clock.now_ms();
    let token = crate::tokens::create(
        &api.lender.books,
        list,
        text("panel"),
        text("note").unwrap_or_default(),
        &caller.name,
        now,
    )
    .await?;
    Ok(Json(json!({"token": token, "shown": "once"})))
}

async fn check(api: &Api, kind: ObjectKind, name: &str, mut body: Value) -> Result<Checked, Problem> {
    match kind {
        ObjectKind::Server => {
            let secrets = take_secret(&mut body, "secret");
            let server: Server = typed(&body)?;
            let mut wrong = Vec::new();
            if server.urls.is_empty()
                || server.urls.iter().any(|u| !u.starts_with("https://") && !u.starts_with("http://"))
            {
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
            if secrets.is_empty() && api.lender.books.secret(&format!("server/{name}"), "secret").await?.is_none() {
                wrong.push(("secret".to_owned(), "the token's secret is needed for a new server".to_owned()));
            }
            if wrong.is_empty() {
                Ok(Checked { secrets, ..Checked::plain(&server) })
            } else {
                Err(Problem::fields(wrong))
            }
        }
        ObjectKind::Image => Ok(Checked::plain(&typed::<Image>(&body)?)),
        ObjectKind::Grant => Ok(Checked::plain(&typed::<Grant>(&body)?)),
        ObjectKind::Pool => check_pool(typed(&body)?),
        ObjectKind::Plan => check_plan(api, typed(&body)?).await,
        ObjectKind::Zone => {
            let mut zone: Zone = typed(&body)?;
            zone.zone = wharf_capabilities::dns::names::canonical(&zone.zone);
            let secrets = settings(api, &zone.plugin, World::DnsProvider, &mut zone.settings)?;
            Ok(Checked { secrets, ..Checked::plain(&zone) })
        }
        ObjectKind::Hook => {
            let mut hook: Hook = typed(&body)?;
            let secrets = settings(api, &hook.plugin, World::LifecycleHook, &mut hook.settings)?;
            if !hook.off {
                hook.off_reason = None;
            }
            Ok(Checked { secrets, ..Checked::plain(&hook) })
        }
        ObjectKind::Panel => check_panel(api, name, body).await,
        ObjectKind::Token => Err(Problem::bad("kind", "tokens are made, not put")),
    }
}

/// Settings of a zone or hook: known plugin of the right kind, secrets split off, valid by its schema.
fn settings(api: &Api, plugin: &str, world: World, settings: &mut Value) -> Result<Vec<(String, String)>, Problem> {
    let manifest = api.runtime.manifest(plugin).filter(|m| m.world == world).ok_or_else(|| {
        Problem::fields(vec![(
            "plugin".into(),
            format!("no {world} `{plugin}` is installed: install it, or name another"),
        )])
    })?;
    if settings.is_null() {
        *settings = json!({});
    }
    let secrets = wharf_plugins::settings::take_secrets(&manifest.settings, settings);
    wharf_plugins::settings::effective(&manifest, settings, &BTreeMap::new()).map_err(|errors| {
        Problem::fields(
            errors
                .into_iter()
                .map(|e| (format!("settings{}", e.field), format!("{}: {}", e.message, e.remedy)))
                .collect(),
        )
    })?;
    Ok(secrets)
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
    let manifest = api.runtime.manifest(&plan.plugin).filter(|m| m.world == World::Provisioner).ok_or_else(|| {
        Problem::fields(vec![(
            "plugin".into(),
            format!("no provisioner `{}` is installed: install it, or name another", plan.plugin),
        )])
    })?;
    if api.lender.books.object(ObjectKind::Server, &plan.server).await?.is_none() {
        return Err(Problem::fields(vec![(
            "server".into(),
            format!("there is no server `{}`: create it first", plan.server),
        )]));
    }
    let given = if plan.settings.is_null() { json!({}) } else { plan.settings.clone() };
    let effective = wharf_plugins::settings::effective(&manifest, &given, &BTreeMap::new()).map_err(|errors| {
        Problem::fields(
            errors
                .into_iter()
                .map(|e| (format!("settings{}", e.field), format!("{}: {}", e.message, e.remedy)))
                .collect(),
        )
    })?;
    let findings = api
        .runtime
        .check_plan(&plan.plugin, &plan.server, &effective)
        .await
        .map_err(|e| Problem::bad("plan-check", e.text))?;
    let (fatal, warnings): (Vec<_>, Vec<_>) = findings.into_iter().partition(|f| f.fatal);
    if !fatal.is_empty() {
        return Err(Problem::fields(
            fatal
                .into_iter()
                .map(|f| (format!("settings{}", f.field), format!("{}: {}", f.message, f.remedy)))
                .collect(),
        ));
    }
    let warnings = warnings.into_iter().map(|f| format!("{}: {}: {}", f.field, f.message, f.remedy)).collect();
    Ok(Checked { warnings, ..Checked::plain(&Plan { settings: given, ..plan }) })
}

async fn check_panel(api: &Api, name: &str, mut body: Value) -> Result<Checked, Problem> {
    let mut secrets = take_secret(&mut body, "secret");
    secrets.extend(take_secret(&mut body, "secret-next"));
    let panel: Panel = typed(&body)?;
    if api.runtime.manifest(&panel.plugin).is_none_or(|m| m.world != World::PanelAdapter) {
        return Err(Problem::fields(vec![(
            "plugin".into(),
            format!("no panel adapter `{}` is installed", panel.plugin),
        )]));
    }
    for (slot, value) in &secrets {
        if value.strip_prefix("whsec_").and_then(|b| STANDARD.decode(b).ok()).is_none_or(|key| key.len() < 24) {
            return Err(Problem::fields(vec![(slot.clone(), "is `whsec_` and base64 of 24 bytes or more".into())]));
        }
    }
    let mut once = None;
    if secrets.is_empty() && api.lender.books.secret(&format!("panel/{name}"), "secret").await?.is_none() {
        let key: [u8; 32] = rand::rng().random();
        let secret = format!("whsec_{}", STANDARD.encode(key));
        once = Some(("secret".to_owned(), secret.clone()));
        secrets.push(("secret".into(), secret));
    }
    Ok(Checked { secrets, once, ..Checked::plain(&panel) })
}

pub async fn delete(
    State(api): State<Api>,
    Path((kind, name)): Path<(String, String)>,
    headers: HeaderMap,
) -> Result<Json<Value>, Problem> {
    let caller = require(&api, &headers, "admin").await?;
    let kind = kind_of(&kind)?;
    let subject = format!("{kind}/{name}");
    let audit = audit_of(&caller, &format!("{kind}.delete"), &subject, json!({}));
    if !api.lender.books.delete_object(kind, &name, Some(audit), api.lender.clock.now_ms()).await? {
        return Err(Problem::not_found(format!("{kind} `{name}`")));
    }
    Ok(Json(json!({"deleted": subject})))
}

/// Tries a server or a zone, and says what to fix.
pub async fn test(
    State(api): State<Api>,
    Path((kind, name)): Path<(String, String)>,
    headers: HeaderMap,
) -> Result<Json<Value>, Problem> {
    require(&api, &headers, "admin").await?;
    match kind_of(&kind)? {
        ObjectKind::Server => {
            let lines = api.lender.servers.test(&name).await;
            api.engine.nudge();
            Ok(Json(json!({"ok": lines.iter().all(|l| l.ok), "lines": lines})))
        }
        ObjectKind::Zone => {
            let object = api.lender.books.object(ObjectKind::Zone, &name).await?;
            let zone: Zone = typed(&object.ok_or_else(|| Problem::not_found(format!("zone `{name}`")))?.body)?;
            let dns_name = zone.zone.clone();
            let binding = ZoneBinding {
                name: name.clone(),
                zone,
                idempotency_key: format!("test-{name}"),
                progress: None,
                cancelled: std::sync::Arc::default(),
            };
            let call = |e: wharf_plugins::report::CallError| Problem::bad("plugin", e.text);
            let mut session = api.runtime.dns(binding).await.map_err(call)?;
            let checks = session.test_connection(Some(&dns_name), false).await.map_err(call)?.answer;
            let lines: Vec<Value> =
                checks.iter().map(|c| json!({"step": c.step, "ok": c.ok, "detail": c.detail})).collect();
            Ok(Json(json!({"ok": checks.iter().all(|c| c.ok), "lines": lines})))
        }
        other => Err(Problem::bad("kind", format!("a {other} can't be tested: only servers and zones can"))),
    }
}

pub async fn audit(State(api): State<Api>, headers: HeaderMap) -> Result<Json<Value>, Problem> {
    require(&api, &headers, "admin").await?;
    Ok(Json(json!(api.lender.books.audit_log(200).await?)))
}
