//! The least DNS provider: one zone over one plain JSON endpoint, whose whole state is an object of name and type to
//! values.

use wharf_sdk::dns::prelude::*;

struct Plugin;

fn ask(request: &Request, write: bool) -> Result<Response, Problem> {
    let response = http::Host.send(request).map_err(|failure| Problem::from_http(failure, write))?;
    if response.is_success() {
        return Ok(response);
    }
    Err(Problem::retry("status", format!("The provider answered {}.", response.status)).status(response.status))
}

fn url(call: &Call) -> Result<String, Problem> {
    call.config("url").ok_or_else(|| Problem::fix_config("url", "The setting `url` is missing."))
}

impl Provider for Plugin {
    fn normalize(_can: Capabilities, _zone: Name, sets: Vec<Rrset>) -> Vec<Verdict> {
        sets.into_iter().map(Verdict::Ok).collect()
    }

    fn probe(call: &Call, zone: Name) -> Result<Probed, Problem> {
        ask(&Request::get(url(call)?), false)?;
        let info = ZoneInfo {
            zone: ZoneRef { id: zone.clone(), name: zone },
            writable: true,
            serial: None,
            ttl_min: None,
            ttl_max: None,
            ttl_default: None,
            records_used: None,
            records_max: None,
            ext: Vec::new(),
        };
        let can = Capabilities {
            types: vec!["A".into(), "AAAA".into(), "PTR".into()],
            max_values: 1,
            max_changes: 1,
            atomic: true,
            native_merge: false,
            conditional: false,
            owner_per_value: false,
            owner_per_rrset: false,
            owner_max_bytes: 0,
            parallel_per_zone: 1,
            parallel_per_server: 1,
            asynchronous: false,
            reverse_only: false,
            ext: Vec::new(),
        };
        Ok(Probed { info, can })
    }

    fn test_connection(call: &Call, _zone: Option<Name>, _try_write: bool) -> Vec<Check> {
        let answer = url(call).and_then(|url| ask(&Request::get(url), false));
        let (ok, detail) = match answer {
            Ok(_) => (true, "It answers.".to_owned()),
            Err(problem) => (false, problem.message),
        };
        vec![Check { step: "reach".into(), ok, detail, ext: Vec::new() }]
    }

    fn list_zones(_call: &Call) -> Result<Vec<ZoneRef>, Problem> {
        Ok(Vec::new())
    }

    fn read(call: &Call, _zone: ZoneRef, _what: Selector) -> Result<Snapshot, Problem> {
        ask(&Request::get(url(call)?), false)?;
        Ok(Snapshot { rrsets: Vec::new(), complete: false, version: None, calls: 1, ext: Vec::new() })
    }

    fn apply(call: &Call, _zone: ZoneRef, batch: Vec<Change>) -> Result<Report, Problem> {
        let mut outcomes = Vec::new();
        let mut calls = 0;
        for change in batch {
            let Edit::Replace(values) = change.edit else {
                outcomes.push((change.id, Outcome::NotAttempted));
                continue;
            };
            let mut request =
                Request::new("PUT", url(call)?).form("name", change.name.clone()).form("type", change.rtype.clone());
            for value in &values {
                request = request.form("value", value.data.clone());
            }
            calls += 1;
            let outcome = match ask(&request, true) {
                Ok(_) => Outcome::Applied(Rrset {
                    name: change.name,
                    rtype: change.rtype,
                    ttl: change.ttl,
                    values,
                    owner: None,
                    version: None,
                    ext: Vec::new(),
                }),
                Err(problem) => Outcome::Failed(problem),
            };
            outcomes.push((change.id, outcome));
        }
        Ok(Report { outcomes, version: None, calls, ext: Vec::new() })
    }

    fn poll(_call: &Call, _zone: ZoneRef, _operation: String) -> Result<Outcome, Problem> {
        Err(Problem::report_bug("not-asynchronous", "This provider never answers `accepted`."))
    }
}

wharf_sdk::export_dns_provider!(Plugin);
