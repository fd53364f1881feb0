//! What admins manage: servers, images, plans, pools, zones, panels, hooks, grants, tokens; tests; the audit log.
//!
//! One shape for all: `GET`, `PUT` and `DELETE /v1/admin/{kind}/{name}`. Secrets go in with the body and never come out: shown is
//! only which are set; left out or empty keeps what is stored. `If-Match` guards against overwriting another admin's change,
//! the secrets included.

mod bodies;
mod check;

use axum::{
    Json,
    extract::State,
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use utoipa::{IntoParams, ToSchema};
use wharf_capabilities::{call::ZoneBinding, scrub::Scrubber};
use wharf_model::object::{Object, ObjectKind, Pool, Zone};
use wharf_store::{NewAudit, StoreError};

use crate::{
    Api, Problem,
    auth::{Allowed, Caller, scope},
    conditions::{Condition, etag},
    extract::{JsonBytes, NoQuery, Path, Query, parse},
    services::page,
    tokens::{self, NewToken},
    wire,
};
use bodies::{AnyBody, StoredBody, TokenBody};

fn kind_of(text: &str) -> Result<ObjectKind, Problem> {
    // Pauses have routes of their own.
    let here = |kind: &ObjectKind| *kind != ObjectKind::Pause;
    text.strip_suffix('s').and_then(ObjectKind::parse).filter(here).ok_or_else(|| {
        let known: Vec<String> = ObjectKind::ALL.iter().filter(|k| here(k)).map(|k| format!("{k}s")).collect();
        Problem::not_found(format!("such kind of object: use one of {}", known.join(", ")))
    })
}

fn check_name(name: &str) -> Result<(), Problem> {
    let good = (1..=100).contains(&name.len())
        && name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.'))
        && name.starts_with(|c: char| c.is_ascii_alphanumeric());
    if good {
        return Ok(());
    }
    let message = "has 1 to 100 letters, digits, `-`, `_` and `.`, and begins with a letter or digit".to_owned();
    Err(Problem::bad("name", format!("name: {message}")).naming(vec![("name".to_owned(), message)]))
}

/// An object as it is kept.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Object)]
pub struct Shown {
    name: String,
    /// Rises with every change: its `ETag`.
    revision: i64,
    #[schema(value_type = StoredBody)]
    body: Value,
    /// Which secrets are set; their values never come back.
    secrets_set: Vec<String>,
    /// Of a pool: names of the zones that its PTR records need.
    #[serde(skip_serializing_if = "Option::is_none")]
    rdns_zones: Option<RdnsZones>,
    /// Of a pool: addresses that services hold.
    #[serde(skip_serializing_if = "Option::is_none")]
    leased: Option<usize>,
    /// Of a pool: addresses in quarantine.
    #[serde(skip_serializing_if = "Option::is_none")]
    resting: Option<usize>,
    /// A secret that the host made, shown this once.
    #[serde(skip_serializing_if = "Option::is_none")]
    secret: Option<String>,
    /// What works, but may not be what was meant.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schema(required = false)]
    warnings: Vec<String>,
}

/// Zones for the PTR records of a pool.
#[derive(Debug, Serialize, ToSchema)]
pub struct RdnsZones {
    zones: Vec<String>,
    advice: Option<String>,
}

async fn shown(api: &Api, object: Object) -> Result<Shown, Problem> {
    let owner = format!("{}/{}", object.kind, object.name);
    let secrets_set = api.lender.books.secret_slots(&owner).await?;
    let mut body = object.body;
    if object.kind == ObjectKind::Token
        && let Some(map) = body.as_object_mut()
    {
        map.remove("hash");
    }
    let (mut rdns_zones, mut leased, mut resting) = (None, None, None);
    if let (ObjectKind::Pool, Ok(pool)) = (object.kind, serde_json::from_value::<Pool>(body.clone())) {
        if let Ok(net) = ipnet::IpNet::new(pool.first, pool.prefix_length) {
            let found = wharf_capabilities::dns::rdns_zone_names(net.trunc());
            rdns_zones = Some(RdnsZones { zones: found.zones, advice: found.advice });
        }
        let leases = api.lender.books.leases_in(&object.name).await?;
        leased = Some(leases.iter().filter(|l| l.service_id.is_some()).count());
        resting = Some(leases.iter().filter(|l| l.service_id.is_none()).count());
    }
    let (name, revision) = (object.name, object.revision);
    Ok(Shown { name, revision, body, secrets_set, rdns_zones, leased, resting, secret: None, warnings: Vec::new() })
}

fn answer(shown: Shown) -> Response {
    let tag = etag(shown.revision);
    let mut response = Json(shown).into_response();
    if let Some(value) = tag {
        response.headers_mut().insert(header::ETAG, value);
    }
    response
}

async fn all(api: &Api, kind: ObjectKind) -> Result<Json<Vec<Shown>>, Problem> {
    let mut all = Vec::new();
    for object in api.lender.books.objects(kind).await? {
        all.push(shown(api, object).await?);
    }
    Ok(Json(all))
}

/// All objects of a kind.
#[utoipa::path(
    get, path = "/v1/admin/{kind}", tag = "admin", operation_id = "list-objects",
    params(("kind" = String, Path, description = "`servers`, `images`, `plans`, `pools`, `zones`, `panels`, `hooks`, `grants`")),
    security(("token" = ["admin"])),
    responses((status = 200, description = "By name.", body = Vec<Shown>))
)]
pub async fn list(
    _: Allowed<scope::Admin>,
    State(api): State<Api>,
    Path(kind): Path<String>,
    _: NoQuery,
) -> Result<Json<Vec<Shown>>, Problem> {
    all(&api, kind_of(&kind)?).await
}

/// All tokens, without their secrets.
#[utoipa::path(
    get, path = "/v1/admin/tokens", tag = "admin", operation_id = "list-tokens",
    security(("token" = ["admin"])),
    responses((status = 200, description = "By id.", body = Vec<Shown>))
)]
pub async fn list_tokens(
    _: Allowed<scope::Admin>,
    State(api): State<Api>,
    _: NoQuery,
) -> Result<Json<Vec<Shown>>, Problem> {
    all(&api, ObjectKind::Token).await
}

/// One object.
#[utoipa::path(
    get, path = "/v1/admin/{kind}/{name}", tag = "admin", operation_id = "show-object",
    params(("kind" = String, Path, description = "As in the list; also `tokens`."), ("name" = String, Path, description = "Its name.")),
    security(("token" = ["admin"])),
    responses((status = 200, description = "As it is kept.", body = Shown, headers(
        ("ETag" = String, description = "The revision, for `If-Match`.")
    )))
)]
pub async fn show(
    _: Allowed<scope::Admin>,
    State(api): State<Api>,
    Path((kind, name)): Path<(String, String)>,
    _: NoQuery,
) -> Result<Response, Problem> {
    let kind = kind_of(&kind)?;
    let object = api.lender.books.object(kind, &name).await?;
    let object = object.ok_or_else(|| Problem::not_found(format!("such {kind}")))?;
    Ok(answer(shown(&api, object).await?))
}

/// Headers of a request that changes an object.
#[derive(IntoParams)]
#[into_params(parameter_in = Header)]
#[allow(dead_code, reason = "it is documentation: the headers are read by `conditions`")]
pub struct ConditionHeaders {
    /// `"<revision>"`, or `*`: only if the object is that.
    #[param(rename = "If-Match")]
    if_match: Option<String>,
    /// `*`: only if there is no such object yet.
    #[param(rename = "If-None-Match")]
    if_none_match: Option<String>,
}

/// The name under which writes of one object take turns.
fn turn_of(kind: ObjectKind, name: &str) -> String {
    format!("object/{kind}/{name}")
}

/// Creates or replaces an object. Secrets that are left out or empty stay as they are.
#[utoipa::path(
    put, path = "/v1/admin/{kind}/{name}", tag = "admin", operation_id = "put-object",
    params(
        ("kind" = String, Path, description = "`servers`, `images`, `plans`, `pools`, `zones`, `panels`, `hooks`, `grants`"),
        ("name" = String, Path, description = "1 to 100 letters, digits, `-`, `_` and `.`"),
        ConditionHeaders,
    ),
    request_body = AnyBody,
    security(("token" = ["admin"])),
    responses((status = 200, description = "As it is kept now.", body = Shown, headers(
        ("ETag" = String, description = "The new revision.")
    )))
)]
pub async fn put(
    caller: Allowed<scope::Admin>,
    State(api): State<Api>,
    Path((kind, name)): Path<(String, String)>,
    _: NoQuery,
    headers: HeaderMap,
    JsonBytes(bytes): JsonBytes,
) -> Result<Response, Problem> {
    let kind = kind_of(&kind)?;
    check_name(&name)?;
    let condition = Condition::of(&headers)?;
    let checked = check::check(&api, kind, &name, &bytes).await?;
    let now = api.lender.clock.now_ms();
    let owner = format!("{kind}/{name}");
    let turn = api.turns.take(&turn_of(kind, &name), true).await;
    let expect = match condition {
        None => None,
        Some(condition) => {
            let there = api.lender.books.object(kind, &name).await?.map(|o| o.revision);
            condition.check(there)?;
            Some(there.unwrap_or(0))
        }
    };
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
    let stored = api.lender.books.put_object(kind, &name, checked.body, expect, Some(audit), now).await;
    let object = stored.map_err(|e| match e {
        // The host itself changed it between the look and the write.
        StoreError::Conflict(_) if expect.is_some() => Problem::new(
            StatusCode::PRECONDITION_FAILED,
            "precondition",
            "it was changed meanwhile: read it again, then repeat the change",
        ),
        other => other.into(),
    })?;
    drop(turn);
    // Whoever waits for what was just added or mended looks again.
    for topic in ["addresses", "room"] {
        api.lender.books.wake_topic(topic, now).await?;
    }
    if kind == ObjectKind::Grant {
        api.runtime.refresh().await.map_err(|e| {
            tracing::error!(error = %e, "plugins could not be looked at again after a grant");
            let text = "the grant is kept, but the plugins can't be loaded right now: repeat this";
            Problem::new(StatusCode::SERVICE_UNAVAILABLE, "plugins", text).retry_after(2)
        })?;
    }
    if kind == ObjectKind::Zone {
        api.lender.books.hurry_records(None, now).await?;
    }
    api.engine.nudge();
    let shown = shown(&api, object).await?;
    Ok(answer(Shown { secret: checked.once, warnings: checked.warnings, ..shown }))
}

fn audit_of(caller: &Caller, action: &str, subject: &str, body: Value) -> NewAudit {
    NewAudit { actor: caller.name.clone(), action: action.into(), subject: subject.into(), body }
}

/// A new token, shown this once.
#[derive(Debug, Serialize, ToSchema)]
pub struct Made {
    token: String,
}

/// Makes a token.
#[utoipa::path(
    post, path = "/v1/admin/tokens", tag = "admin", operation_id = "create-token", request_body = TokenBody,
    security(("token" = ["admin"])),
    responses((status = 201, description = "It is shown this once.", body = Made))
)]
pub async fn create_token(
    caller: Allowed<scope::Admin>,
    State(api): State<Api>,
    _: NoQuery,
    JsonBytes(bytes): JsonBytes,
) -> Result<Response, Problem> {
    let body: TokenBody = parse(&bytes)?;
    let now = api.lender.clock.now_ms();
    let new = NewToken {
        scopes: body.scopes,
        panel: body.panel,
        note: body.note.unwrap_or_default(),
        expires_ms: body.expires_in_s.map(|s| now + i64::from(s) * 1_000),
    };
    if let Some((field, text)) = tokens::problem(&new) {
        return Err(Problem::field(field, text));
    }
    if let Some(panel) = &new.panel
        && api.lender.books.object(ObjectKind::Panel, panel).await?.is_none()
    {
        return Err(Problem::field("panel", "there is no such panel: create it first"));
    }
    let token = tokens::create(&api.lender.books, new, &caller.name, now).await?;
    let headers = [(header::CACHE_CONTROL, HeaderValue::from_static("no-store"))];
    Ok((StatusCode::CREATED, headers, Json(Made { token })).into_response())
}

/// What was deleted.
#[derive(Debug, Serialize, ToSchema)]
pub struct Deleted {
    /// `kind/name`
    deleted: String,
}

/// Deletes an object with its secrets. A deleted token is worth nothing from now on.
#[utoipa::path(
    delete, path = "/v1/admin/{kind}/{name}", tag = "admin", operation_id = "delete-object",
    params(
        ("kind" = String, Path, description = "As in the list; also `tokens`."), ("name" = String, Path, description = "Its name."),
        ConditionHeaders,
    ),
    security(("token" = ["admin"])),
    responses((status = 200, description = "It is gone.", body = Deleted))
)]
pub async fn delete(
    caller: Allowed<scope::Admin>,
    State(api): State<Api>,
    Path((kind, name)): Path<(String, String)>,
    _: NoQuery,
    headers: HeaderMap,
) -> Result<Json<Deleted>, Problem> {
    let kind = kind_of(&kind)?;
    let condition = Condition::of(&headers)?;
    let _turn = api.turns.take(&turn_of(kind, &name), true).await;
    if let Some(condition) = condition {
        condition.check(api.lender.books.object(kind, &name).await?.map(|o| o.revision))?;
    }
    let subject = format!("{kind}/{name}");
    let audit = audit_of(&caller, &format!("{kind}.delete"), &subject, json!({}));
    if !api.lender.books.delete_object(kind, &name, Some(audit), api.lender.clock.now_ms()).await? {
        return Err(Problem::not_found(format!("such {kind}")));
    }
    Ok(Json(Deleted { deleted: subject }))
}

/// What was tried.
#[derive(Debug, Serialize, ToSchema)]
pub struct Report {
    /// All of it works.
    ok: bool,
    lines: Vec<ReportLine>,
}

/// One thing that was tried.
#[derive(Debug, Serialize, ToSchema)]
pub struct ReportLine {
    step: String,
    ok: bool,
    detail: String,
    /// What to do about it; empty if it works, or if `detail` says it.
    remedy: String,
}

impl Report {
    /// What peers said is repeated to the admin, but for secrets: a peer may have repeated them itself.
    async fn of(api: &Api, owner: &str, mut lines: Vec<ReportLine>) -> Result<Json<Self>, Problem> {
        let mut secrets = Vec::new();
        for slot in api.lender.books.secret_slots(owner).await? {
            if let Some(sealed) = api.lender.books.secret(owner, &slot).await?
                && let Ok(secret) = api.lender.keyring.open(owner, &slot, &sealed)
            {
                secrets.push((slot, secret));
            }
        }
        let scrubber = Scrubber::of(secrets.iter().map(|(slot, value)| (slot.as_str(), value.as_slice())));
        for line in &mut lines {
            line.detail = scrubber.text(&line.detail);
            line.remedy = scrubber.text(&line.remedy);
        }
        Ok(Json(Self { ok: lines.iter().all(|l| l.ok), lines }))
    }
}

/// Tries a server or a zone, and says what to fix. One that was parked goes on if the test is good.
#[utoipa::path(
    post, path = "/v1/admin/{kind}/{name}/test", tag = "admin", operation_id = "test-object",
    params(("kind" = String, Path, description = "`servers` or `zones`"), ("name" = String, Path, description = "Its name.")),
    security(("token" = ["admin"])),
    responses((status = 200, description = "What works, and what doesn't.", body = Report))
)]
pub async fn test(
    caller: Allowed<scope::Admin>,
    State(api): State<Api>,
    Path((kind, name)): Path<(String, String)>,
    _: NoQuery,
) -> Result<Json<Report>, Problem> {
    match kind_of(&kind)? {
        kind @ ObjectKind::Server => {
            let books = &api.lender.books;
            let object = books.object(kind, &name).await?;
            let object = object.ok_or_else(|| Problem::not_found(format!("such {kind}")))?;
            let lines = api.lender.servers.test(&name).await;
            if books.signals().is_some() && lines.iter().all(|l| l.ok) {
                // A new revision ends the parking on the other hosts, too. Whoever changed it meanwhile has done so already.
                let audit = audit_of(&caller, "server.test", &format!("server/{name}"), Value::Null);
                let now = api.lender.clock.now_ms();
                match books.put_object(kind, &name, object.body, Some(object.revision), Some(audit), now).await {
                    Ok(_) | Err(StoreError::Conflict(_)) => {}
                    Err(error) => return Err(error.into()),
                }
            }
            api.engine.nudge();
            let lines = lines
                .into_iter()
                .map(|l| ReportLine { step: l.step, ok: l.ok, detail: l.detail, remedy: l.remedy })
                .collect();
            Report::of(&api, &format!("{kind}/{name}"), lines).await
        }
        kind @ ObjectKind::Zone => {
            let object = api.lender.books.object(kind, &name).await?;
            let object = object.ok_or_else(|| Problem::not_found(format!("such {kind}")))?;
            let zone: Zone = serde_json::from_value(object.body).map_err(|_| unreadable(kind))?;
            let dns_name = zone.zone.clone();
            let binding = ZoneBinding::new(name.clone(), zone, format!("test-{name}"));
            let failed = |e: wharf_plugins::report::CallError| Problem::new(StatusCode::BAD_GATEWAY, "plugin", e.text);
            let mut session = api.runtime.dns(binding).await.map_err(failed)?;
            let checks = session.test_connection(Some(&dns_name), false).await.map_err(failed)?.answer;
            if !checks.is_empty() && checks.iter().all(|c| c.ok) {
                api.engine.release_zone(&name, &caller.name).await?;
            }
            let lines = checks
                .into_iter()
                .map(|c| ReportLine { step: c.step, ok: c.ok, detail: c.detail, remedy: String::new() })
                .collect();
            Report::of(&api, &format!("{kind}/{name}"), lines).await
        }
        other => Err(Problem::bad("kind", format!("a {other} can't be tested: only servers and zones can"))),
    }
}

/// A row that an older or newer host wrote.
fn unreadable(kind: ObjectKind) -> Problem {
    Problem::new(StatusCode::CONFLICT, "unreadable", format!("this {kind} can't be read any more: put it again"))
}

/// How many rows of the audit log.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct AuditQuery {
    /// 1 to 200, which is the default.
    #[param(minimum = 1, maximum = 200)]
    limit: Option<usize>,
}

/// Who did what to which, when.
#[utoipa::path(
    get, path = "/v1/admin/audit", tag = "admin", operation_id = "list-audit", params(AuditQuery),
    security(("token" = ["admin"])),
    responses((status = 200, description = "Newest first.", body = Vec<wire::Audit>))
)]
pub async fn audit(
    _: Allowed<scope::Admin>,
    State(api): State<Api>,
    Query(query): Query<AuditQuery>,
) -> Result<Json<Vec<wire::Audit>>, Problem> {
    let rows = api.lender.books.audit_log(page(query.limit)?).await?;
    Ok(Json(rows.into_iter().map(wire::Audit::from).collect()))
}
