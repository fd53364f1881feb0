//! The same request to two simulated clusters, and their answers side by side.
//!
//! Answers are compared by status, by the text of a refusal (the reason phrase), by the names of wrong parameters, and by
//! the keys and types of data. What changes from run to run (task ids, digests, MACs) is masked. A task is waited for: its
//! end is part of the answer.

use std::{collections::BTreeMap, time::Duration};

use anyhow::{Context, Result, bail};
use serde_json::Value;

/// A cluster that can be asked.
#[derive(Clone)]
pub struct Cluster {
    pub url: String,
    /// `user@realm!name=secret`.
    pub token: String,
    pub http: reqwest::Client,
}

/// A request; `token` is another than the cluster's own.
#[derive(Debug, Clone, Copy)]
pub struct Asked<'a> {
    pub method: &'a str,
    pub path: &'a str,
    pub params: &'a [(&'a str, &'a str)],
    pub token: Option<&'a str>,
    /// Send the parameters of a DELETE as a body.
    pub body: bool,
}

/// An answer, without what changes from run to run.
#[derive(Debug, Clone, PartialEq)]
pub enum Answer {
    Refused {
        status: u16,
        text: String,
        errors: BTreeMap<String, String>,
    },
    /// A task of this kind and id, and how it ended.
    Task {
        kind: String,
        id: String,
        exit: String,
    },
    Data(Value),
}

impl Cluster {
    /// Asks, and waits for the end of the task that this began.
    pub async fn ask(&self, asked: Asked<'_>) -> Result<Answer> {
        let answer = self.send(asked).await?;
        let Answer::Data(Value::String(upid)) = &answer else { return Ok(answer) };
        let parts: Vec<&str> = upid.split(':').collect();
        let (Some(&"UPID"), Some(node), Some(kind), Some(id)) =
            (parts.first(), parts.get(1), parts.get(5), parts.get(6))
        else {
            return Ok(answer);
        };
        let path =
            format!("/nodes/{node}/tasks/{}/status", upid.replace(':', "%3A").replace('!', "%21").replace('@', "%40"));
        for _ in 0..300 {
            let status = Asked { method: "GET", path: &path, params: &[], token: None, body: false };
            let Answer::Data(now) = self.send(status).await? else { bail!("{upid} can't be watched") };
            if let Some(exit) = now.get("exitstatus").and_then(Value::as_str) {
                return Ok(Answer::Task { kind: (*kind).to_owned(), id: (*id).to_owned(), exit: exit.to_owned() });
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        bail!("{upid} does not end")
    }

    async fn send(&self, asked: Asked<'_>) -> Result<Answer> {
        let method = reqwest::Method::from_bytes(asked.method.as_bytes())?;
        let mut request = self
            .http
            .request(method, format!("{}/api2/json{}", self.url, asked.path))
            .header("authorization", format!("PVEAPIToken={}", asked.token.unwrap_or(&self.token)));
        request = if asked.body || matches!(asked.method, "POST" | "PUT") {
            request.form(asked.params)
        } else {
            request.query(asked.params)
        };
        let answer = request.send().await.with_context(|| format!("{} {}", asked.method, asked.path))?;
        let status = answer.status();
        let reason = answer
            .extensions()
            .get::<hyper::ext::ReasonPhrase>()
            .map(|phrase| String::from_utf8_lossy(phrase.as_bytes()).trim().to_owned());
        let body: Value = serde_json::from_slice(&answer.bytes().await?).unwrap_or(Value::Null);
        if status.is_success() {
            return Ok(Answer::Data(body.get("data").cloned().unwrap_or(Value::Null)));
        }
        let errors = body.get("errors").and_then(Value::as_object).into_iter().flatten();
        let errors = errors.map(|(k, v)| (k.clone(), v.as_str().unwrap_or_default().trim().to_owned())).collect();
        let text = reason.unwrap_or_else(|| status.canonical_reason().unwrap_or_default().to_owned());
        Ok(Answer::Refused { status: status.as_u16(), text, errors })
    }
}

impl Answer {
    /// For a table: a refusal with its text, a task with its end, data as `show` picks from it.
    pub fn tell(&self, show: &[&str]) -> String {
        match self {
            Self::Refused { status, text, errors } if errors.is_empty() => format!("{status} {text}"),
            Self::Refused { status, errors, .. } => {
                let list: Vec<String> = errors.iter().map(|(k, v)| format!("{k}: {v}")).collect();
                format!("{status} {}", list.join("; "))
            }
            Self::Task { kind, id, exit } => format!("task {kind}:{id}, {exit}"),
            Self::Data(_) if show.is_empty() => "data".into(),
            Self::Data(data) => {
                show.iter().map(|key| format!("{key}={}", picked(data, key))).collect::<Vec<_>>().join(" ")
            }
        }
    }

    /// What of `self`'s data `other` lacks or has as another type; `None` unless both are data.
    pub fn lacks(&self, other: &Self) -> Option<Vec<String>> {
        let (Self::Data(own), Self::Data(theirs)) = (self, other) else { return None };
        let (mut mine, mut there) = (BTreeMap::new(), BTreeMap::new());
        shape("", own, &mut mine);
        shape("", theirs, &mut there);
        let mut wrong = Vec::new();
        for (key, kind) in mine {
            match there.get(&key) {
                None => wrong.push(format!("no {key}")),
                Some(other) if *other != kind => wrong.push(format!("{key} is {other}, not {kind}")),
                Some(_) => {}
            }
        }
        Some(wrong)
    }
}

/// Values of a key: of an object, or of all rows of a list.
fn picked(data: &Value, key: &str) -> String {
    match data {
        Value::Array(rows) => {
            let mut all: Vec<String> = rows.iter().map(|row| picked(row, key)).collect();
            all.sort();
            format!("[{}]", all.join(", "))
        }
        _ => mask(data.get(key).unwrap_or(&Value::Null)),
    }
}

/// A value without what is random in it.
fn mask(value: &Value) -> String {
    let Value::String(text) = value else { return value.to_string() };
    let parts = text.split(',').map(|part| match part.split_once('=') {
        Some((key, mac)) if mac.len() == 17 && mac.split(':').count() == 6 => format!("{key}=MAC"),
        _ => part.to_owned(),
    });
    format!("`{}`", parts.collect::<Vec<_>>().join(","))
}

/// Paths of all values, and their types. Rows of a list are one.
fn shape(at: &str, value: &Value, all: &mut BTreeMap<String, &'static str>) {
    let kind = match value {
        Value::Null => "null",
        Value::Bool(_) => "bool",
        Value::Number(_) => "a number",
        Value::String(_) => "text",
        Value::Array(rows) => {
            for row in rows {
                shape(&format!("{at}[]"), row, all);
            }
            "a list"
        }
        Value::Object(map) => {
            for (key, value) in map {
                shape(&if at.is_empty() { key.clone() } else { format!("{at}.{key}") }, value, all);
            }
            "an object"
        }
    };
    all.insert(at.to_owned(), kind);
}
