//! Commands that talk to a running host.

use std::path::Path;

use anyhow::{Context, Result, bail};
use serde_json::Value;
use wharf_plugins::Runtime;

use crate::RemoteArguments;

fn text<'a>(value: &'a Value, pointer: &str) -> &'a str {
    value.pointer(pointer).and_then(Value::as_str).unwrap_or("-")
}

async fn call(remote: &RemoteArguments, method: reqwest::Method, path: &str, body: Option<Vec<u8>>) -> Result<String> {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let client = reqwest::Client::builder().build()?;
    let url = format!("{}{path}", remote.url.trim_end_matches('/'));
    let mut request =
        client.request(method, &url).bearer_auth(&remote.token).header("accept", "application/json, text/plain");
    if let Some(body) = body {
        request = request.header("content-type", "application/wasm").body(body);
    }
    let answer =
        request.send().await.with_context(|| format!("no answer from {}: does the host run there?", remote.url))?;
    let status = answer.status();
    let body = answer.text().await?;
    if !status.is_success() {
        let problem: Value = serde_json::from_str(&body).unwrap_or_default();
        bail!("{} ({status})", problem.pointer("/detail").and_then(Value::as_str).unwrap_or(&body));
    }
    Ok(body)
}

async fn get(remote: &RemoteArguments, path: &str) -> Result<Value> {
    Ok(serde_json::from_str(&call(remote, reqwest::Method::GET, path, None).await?)?)
}

pub async fn plugins(remote: &RemoteArguments) -> Result<()> {
    let list = get(remote, "/v1/admin/plugins").await?;
    println!("{}", serde_json::to_string_pretty(&list)?);
    Ok(())
}

pub fn inspect(component: &Path) -> Result<()> {
    let bytes = std::fs::read(component).with_context(|| format!("can't read {}", component.display()))?;
    let found = Runtime::inspect(&bytes)?;
    let manifest = &found.manifest;
    println!("{} {} ({}), {}, {} bytes", manifest.id, manifest.version, manifest.world, manifest.licence, bytes.len());
    println!("{}", manifest.name);
    for (interface, version) in &manifest.wants {
        println!("  wants {interface} {version}");
    }
    for rule in &manifest.requests {
        let methods: Vec<&str> = rule.methods.iter().map(String::as_str).collect();
        println!("  requests {} {}{}", methods.join("|"), rule.origin, rule.path);
    }
    for kind in &manifest.operations {
        let states: Vec<&str> = kind.states.iter().map(|s| s.id.as_str()).collect();
        println!("  operation {}: {}", kind.kind, states.join(" → "));
    }
    Ok(())
}

pub async fn install(remote: &RemoteArguments, component: &Path, allow: Option<String>) -> Result<()> {
    let bytes = std::fs::read(component).with_context(|| format!("can't read {}", component.display()))?;
    let path = match allow {
        Some(allow) => format!("/v1/admin/plugins?allow={allow}"),
        None => "/v1/admin/plugins".to_owned(),
    };
    println!("{}", call(remote, reqwest::Method::POST, &path, Some(bytes)).await?);
    Ok(())
}

pub async fn rollback(remote: &RemoteArguments, id: &str) -> Result<()> {
    println!("{}", call(remote, reqwest::Method::POST, &format!("/v1/admin/plugins/{id}/rollback"), None).await?);
    Ok(())
}

pub async fn services(remote: &RemoteArguments) -> Result<()> {
    let list = get(remote, "/v1/services").await?;
    for service in list.as_array().map(Vec::as_slice).unwrap_or_default() {
        let vm = service.get("vmid").and_then(Value::as_u64).map_or_else(|| "-".to_owned(), |n| n.to_string());
        println!(
            "{}:{}  {}  {}  vm={vm}  {}",
            text(service, "/panel"),
            text(service, "/ref"),
            text(service, "/phase"),
            text(service, "/state"),
            text(service, "/operation/reason/message"),
        );
    }
    Ok(())
}

pub async fn service(remote: &RemoteArguments, id: &str) -> Result<()> {
    println!("{}", serde_json::to_string_pretty(&get(remote, &format!("/v1/services/{id}")).await?)?);
    Ok(())
}

pub async fn log(remote: &RemoteArguments, id: &str) -> Result<()> {
    print!("{}", call(remote, reqwest::Method::GET, &format!("/v1/services/{id}/log"), None).await?);
    Ok(())
}
