//! Commands that talk to a running host.

use std::{path::Path, time::Duration};

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::RemoteArguments;

/// A host that is well answers in milliseconds.
const HEALTH_TIMEOUT: Duration = Duration::from_secs(5);

pub(crate) fn text<'a>(value: &'a Value, pointer: &str) -> &'a str {
    value.pointer(pointer).and_then(Value::as_str).unwrap_or("-")
}

/// Query parameters of a call.
pub(crate) type Query<'a> = [(&'a str, &'a str)];

/// For health checks of containers and balancers: nobody has to be known for it.
pub async fn health(url: &str) -> Result<()> {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let client = reqwest::Client::builder().timeout(HEALTH_TIMEOUT).build()?;
    let asked = client.get(format!("{}/readyz", url.trim_end_matches('/'))).send().await;
    let answer = asked.with_context(|| format!("no answer from {url}: does the host run there?"))?;
    if !answer.status().is_success() {
        bail!("{url}/readyz answers {}: {}", answer.status(), answer.text().await?);
    }
    Ok(())
}

pub(crate) async fn call(
    remote: &RemoteArguments,
    method: reqwest::Method,
    path: &str,
    query: &Query<'_>,
    body: Option<(&'static str, Vec<u8>)>,
) -> Result<String> {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let client = reqwest::Client::builder().build()?;
    let url = format!("{}{path}", remote.url.trim_end_matches('/'));
    let mut request =
        client.request(method, &url).bearer_auth(&remote.token).header("accept", "application/json, text/plain");
    if !query.is_empty() {
        request = request.query(query);
    }
    if let Some((kind, body)) = body {
        request = request.header("content-type", kind).body(body);
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

/// What a path answers, as it is.
pub async fn answer(remote: &RemoteArguments, path: &str) -> Result<String> {
    call(remote, reqwest::Method::GET, path, &[], None).await
}

pub(crate) async fn get(remote: &RemoteArguments, path: &str, query: &Query<'_>) -> Result<Value> {
    Ok(serde_json::from_str(&call(remote, reqwest::Method::GET, path, query, None).await?)?)
}

/// An id as a segment of a path: what the panel calls a service may have any character.
pub(crate) fn segment(id: &str) -> String {
    let mut url = reqwest::Url::parse("http://x/").ok();
    if let Some(Ok(mut path)) = url.as_mut().map(|u| u.path_segments_mut()) {
        path.push(id);
    }
    url.map(|u| u.path().trim_start_matches('/').to_owned()).unwrap_or_default()
}

pub async fn plugins(remote: &RemoteArguments) -> Result<()> {
    let list = get(remote, "/v1/admin/plugins", &[]).await?;
    println!("{}", serde_json::to_string_pretty(&list)?);
    Ok(())
}

pub async fn install(remote: &RemoteArguments, component: &Path, allow: Option<String>) -> Result<()> {
    let bytes = std::fs::read(component).with_context(|| format!("can't read {}", component.display()))?;
    let query: Vec<_> = allow.iter().map(|allow| ("allow", allow.as_str())).collect();
    println!(
        "{}",
        call(remote, reqwest::Method::POST, "/v1/admin/plugins", &query, Some(("application/wasm", bytes))).await?
    );
    Ok(())
}

pub async fn rollback(remote: &RemoteArguments, id: &str) -> Result<()> {
    let path = format!("/v1/admin/plugins/{}/rollback", segment(id));
    println!("{}", call(remote, reqwest::Method::POST, &path, &[], None).await?);
    Ok(())
}

pub async fn services(remote: &RemoteArguments) -> Result<()> {
    let mut after = String::new();
    loop {
        let query = [("after", after.as_str())];
        let page = get(remote, "/v1/services", if after.is_empty() { &[] } else { &query }).await?;
        let page = page.as_array().map(Vec::as_slice).unwrap_or_default();
        for service in page {
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
        match page.last() {
            Some(last) => after = text(last, "/id").to_owned(),
            None => return Ok(()),
        }
    }
}

pub async fn service(remote: &RemoteArguments, id: &str) -> Result<()> {
    let shown = get(remote, &format!("/v1/services/{}", segment(id)), &[]).await?;
    println!("{}", serde_json::to_string_pretty(&shown)?);
    Ok(())
}

pub async fn log(remote: &RemoteArguments, id: &str) -> Result<()> {
    let path = format!("/v1/services/{}/log", segment(id));
    print!("{}", call(remote, reqwest::Method::GET, &path, &[], None).await?);
    Ok(())
}
