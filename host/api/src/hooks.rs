//! `POST /hooks/{panel}/{verb}`: the panel's own payload, through its adapter plugin.
//!
//! Order: signature over the raw bytes, then the adapter, then one durable transaction, then the answer in the panel's own form.
//! The same `webhook-id` again gives the same operation.

use axum::{
    body::Bytes,
    extract::{Path, State},
    http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use sha2::{Digest, Sha256};
use wharf_engine::wish::{Idempotency, Order, Target, Wish};
use wharf_model::object::{ObjectKind, Panel};
use wharf_plugins::report::{PanelCommand, PanelResult};
use wharf_store::Accepted;

use crate::{Api, Problem, signature};

pub async fn receive(
    State(api): State<Api>,
    Path((panel, verb)): Path<(String, String)>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response, Problem> {
    let (known, id) = authenticate(&api, &panel, &headers, &body).await?;
    let content_type =
        headers.get(header::CONTENT_TYPE).and_then(|v| v.to_str().ok()).unwrap_or("application/json").to_owned();
    let Ok(text) = std::str::from_utf8(&body) else {
        return Err(Problem::bad("encoding", "the body is not UTF-8"));
    };
    let (status, result) = match carry_out(&api, &panel, &known, &verb, &content_type, text, &id).await {
        Ok(done) => (StatusCode::OK, done),
        Err(problem) => (problem.status(), refusal(&problem)),
    };
    let operation = result.operation.clone();
    metrics::counter!("wharf_hooks_total", "panel" => panel.clone(), "accepted" => result.accepted.to_string())
        .increment(1);
    let answer = api
        .runtime
        .present(&known.plugin, &verb, &content_type, text, result)
        .await
        .map_err(|e| Problem::new(StatusCode::BAD_GATEWAY, "panel-adapter", e.text))?;
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

async fn carry_out(
    api: &Api,
    panel: &str,
    known: &Panel,
    verb: &str,
    content_type: &str,
    body: &str,
    id: &str,
) -> Result<PanelResult, Problem> {
    let translated = api
        .runtime
        .translate(&known.plugin, verb, content_type, body)
        .await
        .map_err(|e| Problem::new(StatusCode::BAD_GATEWAY, "panel-adapter", e.text))?;
    let command = translated.answer.map_err(|f| Problem::new(StatusCode::UNPROCESSABLE_ENTITY, &f.code, f.message))?;
    let target = Target { panel: panel.to_owned(), reference: command.reference.clone() };
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
    let fingerprint =
        Sha256::digest(format!("{verb}\0{body}")).iter().fold(String::new(), |t, b| format!("{t}{b:02x}"));
    let idempotency = Idempotency { scope: format!("hook/{panel}"), key: id.to_owned(), fingerprint };
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

fn refusal(problem: &Problem) -> PanelResult {
    PanelResult {
        accepted: false,
        operation: None,
        phase: String::new(),
        code: problem.code.clone(),
        customer_message: "The request could not be carried out. Please contact support.".into(),
        admin_message: problem.detail.clone(),
        ext: Vec::new(),
    }
}
