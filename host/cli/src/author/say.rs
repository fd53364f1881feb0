//! The words of DNS as JSON, named as in the contract.

use serde::Deserialize;
use serde_json::{Map, Value as Json, json};
use wharf_plugins::dns::{
    Capabilities, Change, Check, Edit, Outcome, Probed, Problem, ProblemAction, Report, RrSet, Snapshot, Value,
    Verdict, ZoneRef,
};

/// A change as an author writes it.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ChangeText {
    id: u32,
    name: String,
    rtype: String,
    ttl: Option<u32>,
    edit: EditText,
    expect: Option<Vec<String>>,
    owner: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum EditText {
    AddValues(Vec<String>),
    RemoveValues(Vec<String>),
    Replace(Vec<String>),
    Delete,
}

impl From<ChangeText> for Change {
    fn from(text: ChangeText) -> Self {
        let values = |list: Vec<String>| list.into_iter().map(Value::new).collect();
        let edit = match text.edit {
            EditText::AddValues(list) => Edit::AddValues(values(list)),
            EditText::RemoveValues(list) => Edit::RemoveValues(list),
            EditText::Replace(list) => Edit::Replace(values(list)),
            EditText::Delete => Edit::Delete,
        };
        let ChangeText { id, name, rtype, ttl, expect, owner, .. } = text;
        Self { id, name, rtype, ttl, edit, expect, owner }
    }
}

fn pairs(ext: &[(String, String)]) -> Json {
    ext.iter().map(|(k, v)| (k.clone(), Json::from(v.clone()))).collect::<Map<_, _>>().into()
}

pub fn zone(zone: &ZoneRef) -> Json {
    json!({"id": zone.id, "name": zone.name})
}

pub fn set(set: &RrSet) -> Json {
    let values: Vec<&str> = set.values.iter().map(|v| v.data.as_str()).collect();
    json!({"name": set.name, "rtype": set.rtype, "ttl": set.ttl, "values": values})
}

pub fn problem(problem: &Problem) -> Json {
    let action = match problem.action {
        ProblemAction::FixInput => "fix-input",
        ProblemAction::FixConfig => "fix-config",
        ProblemAction::Replan => "replan",
        ProblemAction::Wait => "wait",
        ProblemAction::Retry => "retry",
        ProblemAction::Verify => "verify",
        ProblemAction::ReportBug => "report-bug",
    };
    json!({
        "action": action, "code": problem.code, "message": problem.message, "retry-after-ms": problem.retry_after_ms,
        "http-status": problem.http_status, "provider-code": problem.provider_code, "ext": pairs(&problem.ext),
    })
}

pub fn capabilities(can: &Capabilities) -> Json {
    json!({
        "types": can.types, "max-values": can.max_values, "max-changes": can.max_changes, "atomic": can.atomic,
        "native-merge": can.native_merge, "conditional": can.conditional, "owner-per-value": can.owner_per_value,
        "owner-per-rrset": can.owner_per_rrset, "owner-max-bytes": can.owner_max_bytes,
        "parallel-per-zone": can.parallel_per_zone, "parallel-per-server": can.parallel_per_server,
        "asynchronous": can.asynchronous, "reverse-only": can.reverse_only, "ext": pairs(&can.ext),
    })
}

pub fn probed(probed: &Probed) -> Json {
    let info = &probed.info;
    json!({
        "info": {
            "zone": zone(&info.zone), "writable": info.writable, "serial": info.serial, "ttl-min": info.ttl_min,
            "ttl-max": info.ttl_max, "ttl-default": info.ttl_default, "records-used": info.records_used,
            "records-max": info.records_max, "ext": pairs(&info.ext),
        },
        "can": capabilities(&probed.can),
    })
}

pub fn check(check: &Check) -> Json {
    json!({"step": check.step, "ok": check.ok, "detail": check.detail})
}

pub fn snapshot(of: &Snapshot) -> Json {
    let sets: Vec<Json> = of.rrsets.iter().map(set).collect();
    json!({"rrsets": sets, "complete": of.complete, "version": of.version, "calls": of.calls})
}

pub fn outcome(of: &Outcome) -> Json {
    match of {
        Outcome::Applied(rrset) => json!({"applied": set(rrset)}),
        Outcome::Unchanged(rrset) => json!({"unchanged": set(rrset)}),
        Outcome::Accepted(operation) => json!({"accepted": operation}),
        Outcome::Failed(failed) => json!({"failed": problem(failed)}),
        Outcome::NotAttempted => json!("not-attempted"),
    }
}

pub fn report(of: &Report) -> Json {
    let outcomes: Vec<Json> =
        of.outcomes.iter().map(|(id, became)| json!({"id": id, "outcome": outcome(became)})).collect();
    json!({"outcomes": outcomes, "version": of.version, "calls": of.calls})
}

pub fn verdict(of: &Verdict) -> Json {
    match of {
        Verdict::Ok(rrset) => json!({"ok": set(rrset)}),
        Verdict::Adjusted(rrset, why) => json!({"adjusted": set(rrset), "why": why}),
        Verdict::Refused(refused) => json!({"refused": problem(refused)}),
    }
}
