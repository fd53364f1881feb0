//! Lists: filters, order, pages.

use std::cmp::Ordering;

use serde_json::{Value, json};

use super::{ACCOUNT, Fail, bare, is_proxied, records::show};
use crate::{
    facade::Request,
    model::{Record, Zone},
};

/// Pages of records have 100 unless asked for more. The true limit is not known; external-dns documents 5,000.
const RECORDS: (usize, usize) = (100, 5_000);
/// Pages of zones have 20 (recorded), and 50 at most (the API's reference). Yet dns-lexicon 3.25 asks for 100 and works: who asks
/// for more than 50 gets pages of 50 here, the harder of the two things that this can mean.
const ZONES: (usize, usize) = (20, 50);
const ZONES_ASKED: usize = 100;

/// Cuts a page out; up to `asked` may be asked for. A page behind the last is empty; of nothing there is one page (recorded).
fn paged<T>(
    all: &[T],
    request: &Request,
    (usual, most): (usize, usize),
    asked: usize,
    show: impl Fn(&T) -> Value,
) -> Result<Value, Fail> {
    // The SDK's types say float.
    let number = |name: &str, usual: usize, most: usize| -> Result<usize, Fail> {
        let Some(text) = request.query(name) else { return Ok(usual) };
        let number = text.strip_suffix(".0").unwrap_or(text).parse().ok();
        number
            .filter(|n| (1..=most).contains(n))
            .ok_or_else(|| Fail::strict(&format!("`{name}={text}`, it is 1 to {most}")))
    };
    let page = number("page", 1, usize::MAX)?;
    let per_page = number("per_page", usual, asked)?.min(most);
    let shown: Vec<Value> = all.iter().skip((page - 1).saturating_mul(per_page)).take(per_page).map(show).collect();
    let info = json!({
        "page": page,
        "per_page": per_page,
        "count": shown.len(),
        "total_count": all.len(),
        "total_pages": all.len().div_ceil(per_page).max(1),
    });
    Ok(json!({ "result": shown, "success": true, "errors": [], "messages": [], "result_info": info }))
}

/// Of several values one is taken by the real one, nobody knows which.
fn known(request: &Request, names: &[&str], matches: impl Fn(&str) -> bool) -> Result<(), Fail> {
    for (at, (name, _)) in request.query.iter().enumerate() {
        if !names.contains(&name.as_str()) && !matches(name) {
            return Err(Fail::strict(&format!("the parameter `{name}`")));
        }
        if request.query.iter().skip(at + 1).any(|(n, _)| n == name) {
            return Err(Fail::strict(&format!("the parameter `{name}` twice")));
        }
    }
    Ok(())
}

pub(super) fn zones(zones: &[Zone], request: &Request, show: &dyn Fn(&Zone) -> Value) -> Result<Value, Fail> {
    known(request, &["name", "account.id", "status", "page", "per_page", "order", "direction", "match"], |_| false)?;
    let wanted = |zone: &&Zone| {
        request.query("name").is_none_or(|name| name.eq_ignore_ascii_case(bare(&zone.name)))
            && request.query("account.id").is_none_or(|id| id == ACCOUNT)
            && request.query("status").is_none_or(|status| status == "active")
    };
    let mut found: Vec<&Zone> = zones.iter().filter(wanted).collect();
    found.sort_by(|a, b| a.name.cmp(&b.name));
    if request.query("direction") == Some("desc") {
        found.reverse();
    }
    paged(&found, request, ZONES, ZONES_ASKED, |zone| show(zone))
}

/// `name.exact`, `content.startswith`, …: no matter the case (the API's reference).
fn text_filter(request: &Request, field: &str, text: &str) -> Vec<bool> {
    let text = text.to_ascii_lowercase();
    let ask = |how: &str| request.query(&format!("{field}{how}")).map(str::to_ascii_lowercase);
    [
        // Without a way it is `exact`; it still worked in 2025 (recorded).
        ask("").map(|t| text == t),
        ask(".exact").map(|t| text == t),
        ask(".contains").map(|t| text.contains(&t)),
        ask(".startswith").map(|t| text.starts_with(&t)),
        ask(".endswith").map(|t| text.ends_with(&t)),
    ]
    .into_iter()
    .flatten()
    .collect()
}

pub(super) fn records(zone: &Zone, request: &Request) -> Result<Value, Fail> {
    let plain =
        ["type", "proxied", "match", "order", "direction", "page", "per_page", "comment.present", "comment.absent"];
    let text = |name: &str| {
        let (field, how) = name.split_once('.').unwrap_or((name, "exact"));
        matches!(field, "name" | "content" | "comment")
            && matches!(how, "exact" | "contains" | "startswith" | "endswith")
            && name != "comment"
    };
    known(request, &plain, text)?;
    let any = match request.query("match") {
        None | Some("all") => false,
        Some("any") => true,
        Some(other) => return Err(Fail::strict(&format!("`match={other}`"))),
    };
    let by_content = request.query.iter().any(|(name, _)| name.starts_with("content"));
    let wanted = |record: &&Record| {
        let shown = if by_content { show(record) } else { Value::Null };
        let content = shown.get("content").and_then(Value::as_str).unwrap_or_default();
        let comment = record.comment.as_deref();
        let mut said = text_filter(request, "name", bare(&record.name));
        said.extend(text_filter(request, "content", content));
        said.extend(text_filter(request, "comment", comment.unwrap_or_default()));
        said.extend(request.query("type").map(|t| t == record.rtype));
        said.extend(request.query("proxied").map(|p| p == is_proxied(record).to_string()));
        said.extend(request.query("comment.present").map(|_| comment.is_some()));
        said.extend(request.query("comment.absent").map(|_| comment.is_none()));
        if any && !said.is_empty() { said.contains(&true) } else { !said.contains(&false) }
    };
    let mut found: Vec<&Record> = zone.records.iter().filter(wanted).collect();
    let by: fn(&Record, &Record) -> Ordering = match request.query("order") {
        None => |_, _| Ordering::Equal,
        Some("name") => |a, b| a.name.cmp(&b.name),
        Some("type") => |a, b| a.rtype.cmp(&b.rtype),
        Some("content") => |a, b| a.data.cmp(&b.data),
        Some("ttl") => |a, b| a.ttl.cmp(&b.ttl),
        Some("proxied") => |a, b| is_proxied(a).cmp(&is_proxied(b)),
        Some(other) => return Err(Fail::strict(&format!("`order={other}`"))),
    };
    found.sort_by(|a, b| by(a, b));
    match request.query("direction") {
        None | Some("asc") => {}
        Some("desc") => found.reverse(),
        Some(other) => return Err(Fail::strict(&format!("`direction={other}`"))),
    }
    paged(&found, request, RECORDS, RECORDS.1, |record| show(record))
}
