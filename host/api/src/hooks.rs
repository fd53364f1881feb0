//! `POST /hooks/{panel}/{verb}`: the panel's own payload, through its adapter plugin.
//!
//! Order: signature over the raw bytes, then the adapter, then one durable transaction, then the answer in the panel's own form.
//! The same `webhook-id` again gives the same operation.

use axum::{
    extract::{RawQuery, State},
    http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use utoipa::IntoParams;
use wharf_engine::wish::{Idempotency, Order, Target, Wish};
use wharf_model::object::{ObjectKind, Panel};
use wharf_plugins::report::{PanelCommand, PanelHook, PanelResult};
use wharf_store::Accepted;

use crate::{
    Api, Problem,
    auth::Peer,
    extract::{Path, Raw},
    services::{REFERENCE, is_reference, turn_of},
    signature, tokens, traces,
};

/// Headers that sign a hook.
#[derive(IntoParams)]
#[into_params(parameter_in = Header)]
#[allow(dead_code, reason = "it is documentation: the headers are read by `signature`")]
pub struct SignatureHeaders {
    /// Of the sender's choosing, at most 256 characters: the same again within 30 days gives the same operation.
    #[param(rename = "webhook-id")]
    webhook_id: String,
    /// Unix seconds, at most 300 off the host's clock.
    #[param(rename = "webhook-timestamp")]
    webhook_timestamp: i64,
    /// `v1,` and base64; more than one with spaces between.
    #[param(rename = "webhook-signature")]
    webhook_signature: String,
}

/// Takes what a panel posts, in the panel's own form. Its adapter reads it and words the answer.
#[utoipa::path(
    post, path = "/hooks/{panel}/{verb}", tag = "hooks", operation_id = "receive-hook",
    params(
        ("panel" = String, Path, description = "Name of the panel."), ("verb" = String, Path, description = "As the adapter knows it."),
        SignatureHeaders,
    ),
    request_body(content = String, content_type = "*/*", description = "As the panel writes it, UTF-8, at most 1 MiB."),
    security(("signature" = [])),
    responses((status = 200, description = "Accepted, in the panel's own form. Refusals (409, 422, …) are in that form too.",
        body = String, content_type = "*/*", headers(("wharf-operation" = String, description = "What it led to, if anything."))))
)]
pub async fn receive(
    State(api): State<Api>,
    peer: Peer,
    Path((panel, verb)): Path<(String, String)>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
    Raw(body): Raw,
) -> Result<Response, Problem> {
    let checked = authenticate(&api, &panel, &headers, &body).await;
    let (known, id) = checked.map_err(|problem| peer.refused(&api, "signature", problem))?;
    traces::hook(&panel, &verb);
    let content_type =
        headers.get(header::CONTENT_TYPE).and_then(|v| v.to_str().ok()).unwrap_or("application/json").to_owned();
    let Ok(text) = std::str::from_utf8(&body) else {
        return Err(Problem::bad("encoding", "the body is not UTF-8"));
    };
    let hook = PanelHook {
        panel: panel.clone(),
        verb,
        query: query.unwrap_or_default(),
        headers: shown(&headers),
        content_type,
        body: text.to_owned(),
        settings: known.settings.clone(),
    };
    let (status, result) = match carry_out(&api, &known, &hook, &id).await {
        Ok(done) => (StatusCode::OK, done),
        Err((problem, customer_message)) => (problem.status(), refusal(&problem, customer_message)),
    };
    let operation = result.operation.clone();
    if let Some(operation) = &operation {
        traces::led_to(operation);
    }
    metrics::counter!("wharf_hooks_total", "panel" => panel.clone(), "accepted" => result.accepted.to_string())
        .increment(1);
    let answer = api
        .runtime
        .present(&known.plugin, &hook, result)
        .await
        .map_err(|e| Problem::new(StatusCode::BAD_GATEWAY, "panel-adapter", e.text))?;
    let status = answer.status.and_then(|s| StatusCode::from_u16(s).ok()).unwrap_or(status);
    let mut response = (status, answer.body).into_response();
    if let Ok(value) = HeaderValue::from_str(&answer.content_type) {
        response.headers_mut().insert(header::CONTENT_TYPE, value);
    }
    if let Some(value) = operation.and_then(|o| HeaderValue::from_str(&o).ok()) {
        response.headers_mut().insert(HeaderName::from_static("wharf-operation"), value);
    }
    Ok(response)
}

/// An unknown panel is told nothing else than a wrong signature is.
async fn authenticate(api: &Api, panel: &str, headers: &HeaderMap, body: &[u8]) -> Result<(Panel, String), Problem> {
    let denied = || {
        Problem::new(StatusCode::UNAUTHORIZED, "signature", "the signature does not fit: check panel name and secret")
    };
    let object = api.lender.books.object(ObjectKind::Panel, panel).await?;
    let mut secrets = Vec::new();
    let owner = format!("panel/{panel}");
    for slot in ["secret", "secret-next"] {
        if let Some(sealed) = api.lender.books.secret(&owner, slot).await?
            && let Ok(secret) = api.lender.keyring.open(&owner, slot, &sealed)
        {
            secrets.push(secret.to_vec());
        }
    }
    let now = api.lender.clock.now_ms() / 1000;
    let id = signature::check(headers, body, &secrets, now).map_err(|refused| match refused {
        signature::Refused::Signature => denied(),
        signature::Refused::Clock => {
            let text = format!(
                "the timestamp is more than {} s off this host's clock ({now}): set the clocks by NTP",
                signature::SKEW_S
            );
            Problem::new(StatusCode::UNAUTHORIZED, "clock-skew", text)
        }
    })?;
    let known: Panel = object.and_then(|o| serde_json::from_value(o.body).ok()).ok_or_else(denied)?;
    if known.off {
        return Err(Problem::new(StatusCode::FORBIDDEN, "panel-off", "this panel is switched off"));
    }
    Ok((known, id))
}

/// Headers that a plugin may see: none that authenticates, at most 16 KiB.
fn shown(headers: &HeaderMap) -> Vec<(String, String)> {
    let mut room = 16 * 1024_usize;
    headers
        .iter()
        .filter(|(name, _)| {
            let name = name.as_str();
            !name.starts_with("webhook-") && !["authorization", "cookie", "proxy-authorization"].contains(&name)
        })
        .filter_map(|(name, value)| Some((name.as_str().to_owned(), value.to_str().ok()?.to_owned())))
        .take_while(|(name, value)| {
            room = room.saturating_sub(name.len() + value.len());
            room > 0
        })
        .collect()
}

/// A refusal comes with what its adapter has to say to a customer, if anything.
async fn carry_out(
    api: &Api,
    known: &Panel,
    hook: &PanelHook,
    id: &str,
) -> Result<PanelResult, (Problem, Option<String>)> {
    let translated = api
        .runtime
        .translate(&known.plugin, hook)
        .await
        .map_err(|e| (Problem::new(StatusCode::BAD_GATEWAY, "panel-adapter", e.text), None))?;
    match translated.answer {
        Ok(command) => accept(api, known, hook, id, command).await.map_err(|problem| (problem, None)),
        Err(failure) => {
            let said = failure.ext.into_iter().find(|(key, _)| key == "customer-message").map(|(_, text)| text);
            Err((Problem::new(StatusCode::UNPROCESSABLE_ENTITY, &failure.code, failure.message), said))
        }
    }
}

async fn accept(
    api: &Api,
    known: &Panel,
    hook: &PanelHook,
    id: &str,
    command: PanelCommand,
) -> Result<PanelResult, Problem> {
    let PanelHook { panel, verb, query, body, .. } = hook;
    if !is_reference(&command.reference) {
        return Err(Problem::field("ref", format!("the panel's id of a service has {REFERENCE}")));
    }
    let target = Target { panel: panel.clone(), reference: command.reference.clone() };
    let Some(wish) = wish(known, command)? else {
        return Ok(PanelResult {
            accepted: true,
            operation: None,
            phase: String::new(),
            code: String::new(),
            customer_message: String::new(),
            admin_message: String::new(),
            ext: Vec::new(),
        });
    };
    let fingerprint = tokens::hash(&format!("{verb}\0{query}\0{body}"));
    let idempotency = Idempotency { scope: format!("hook/{panel}"), key: id.to_owned(), fingerprint };
    let _turn = api.turns.take(&turn_of(&target), false).await;
    match api.engine.wish(&target, wish, Some(idempotency)).await? {
        Accepted::Done { service, operation, .. } => Ok(PanelResult {
            accepted: true,
            operation: operation.map(|o| o.id.to_string()),
            phase: service.phase.as_str().to_owned(),
            code: String::new(),
            customer_message: String::new(),
            admin_message: String::new(),
            ext: Vec::new(),
        }),
        _ => Err(Problem::not_found("such service")),
    }
}

/// What a command asks for; none = nothing to be done about it.
fn wish(known: &Panel, command: PanelCommand) -> Result<Option<Wish>, Problem> {
    Ok(Some(match command.verb.as_str() {
        "provision" | "change" => {
            let plan =
                command.plan.ok_or_else(|| Problem::fields(vec![("plan".into(), "an order names a plan".into())]))?;
            if !known.plans.contains(&plan) {
                let text = format!(
                    "the plan `{plan}` is not granted to this panel: add it to the panel's plans, or order another"
                );
                return Err(Problem::fields(vec![("plan".into(), text)]));
            }
            Wish::Provision(Order {
                plan,
                options: command.options.into_iter().collect(),
                facts: command.facts.into_iter().collect(),
            })
        }
        "terminate" => Wish::Terminate,
        "suspend" => Wish::Suspend,
        "unsuspend" => Wish::Unsuspend,
        "renew" => return Ok(None),
        other => {
            let text = format!("`{other}` is none of provision, change, suspend, unsuspend, terminate, renew");
            return Err(Problem::bad("verb", text));
        }
    }))
}

fn refusal(problem: &Problem, customer_message: Option<String>) -> PanelResult {
    PanelResult {
        accepted: false,
        operation: None,
        phase: String::new(),
        code: problem.code.clone(),
        customer_message: customer_message
            .unwrap_or_else(|| "The request could not be carried out. Please contact support.".into()),
        admin_message: problem.detail.clone(),
        ext: Vec::new(),
    }
}
