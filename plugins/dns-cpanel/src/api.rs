//! The requests of both interfaces and the meaning of their answers. One request a call, none repeated; `calls` counts them.
//!
//! A refusal comes with status 200: UAPI says `status: 0` and `errors`, WHM API 1 `metadata.result: 0` and a reason. UAPI's
//! documentation puts everything into `result`; a real server does not (go-acme/lego#1060). Both are read. A serial that is not
//! the current one and a zone file that would be invalid name themselves in `data.type` (`Cpanel::APICommon::Error`); all else
//! is told from sentences, in the English that cPanel's API speaks unless the user's locale is another.

use serde_json::Value as Json;
use wharf_sdk::dns::prelude::*;

use crate::zone::{Edits, Parsed};

/// Whose interface it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Door {
    /// WHM API 1, as root or a reseller.
    Whm,
    /// UAPI, as the owner of an account.
    Account,
}

#[derive(Debug, Clone)]
pub struct Server {
    pub url: String,
    pub user: String,
    pub door: Door,
}

/// What a request carries at most is 1 MiB (`wit/deps/http/http.wit`), with every other byte of JSON encoded as three.
const BODY_BYTES: usize = 400_000;

pub struct Api<'t, T: Transport> {
    transport: &'t mut T,
    server: Server,
    pub calls: u32,
}

/// The server's own form of a zone's name.
fn bare(zone: &str) -> &str {
    zone.strip_suffix('.').unwrap_or(zone)
}

impl<'t, T: Transport> Api<'t, T> {
    pub fn new(transport: &'t mut T, server: Server) -> Self {
        Self { transport, server, calls: 0 }
    }

    pub fn door(&self) -> Door {
        self.server.door
    }

    /// `account` and `whm`: the function of each interface.
    fn request(&self, method: &str, account: &str, whm: &str) -> Request {
        let base = self.server.url.trim_end_matches('/');
        let (path, scheme) = match self.server.door {
            Door::Account => (format!("execute/{account}"), "cpanel"),
            Door::Whm => (format!("json-api/{whm}"), "whm"),
        };
        let request = Request::new(method, format!("{base}/{path}"));
        // Without it WHM API 0 answers, in another form.
        let request = if self.server.door == Door::Whm { request.query("api.version", "1") } else { request };
        request.header("Authorization", format!("{scheme} {}:{{{{api-token}}}}", self.server.user))
    }

    fn ask(&mut self, write: bool, request: &Request) -> Result<Json, Problem> {
        self.calls += 1;
        let response = self.transport.send(request).map_err(|failure| Problem::from_http(failure, write))?;
        let body: Option<Json> = if response.is_success() { response.json().ok() } else { None };
        match body.as_ref().and_then(said) {
            Some(Said { done: true, data, .. }) => Ok(data.clone()),
            Some(refused) => Err(refusal(write, &refused).status(response.status)),
            None => Err(problem_of(write, &response)),
        }
    }

    /// The zone, whole.
    pub fn parse(&mut self, zone: &str) -> Result<Parsed, Problem> {
        let zone = names::canonical(zone).map_err(|e| Problem::fix_input("zone-name", e.to_string()))?;
        let request = self.request("GET", "DNS/parse_zone", "parse_dns_zone").query("zone", bare(&zone));
        let mut data = self.ask(false, &request)?;
        if self.server.door == Door::Whm {
            data = data.get_mut("payload").map(Json::take).unwrap_or_default();
        }
        Parsed::of(&zone, data).map_err(|why| malformed(false, 200, &why))
    }

    /// All zones of the server, or those of the account.
    pub fn zones(&mut self) -> Result<Vec<ZoneRef>, Problem> {
        let request = self.request("GET", "DomainInfo/list_domains", "listzones");
        let data = self.ask(false, &request)?;
        let text = |value: &Json| value.as_str().filter(|t| !t.is_empty()).map(str::to_owned);
        let list = |key: &str| data.get(key).and_then(Json::as_array);
        let found: Option<Vec<String>> = match self.server.door {
            // Without any zone there is no list (`listzones` in `Whostmgr::API::1::DNS`).
            Door::Whm if data.is_null() => Some(Vec::new()),
            Door::Whm => list("zone").map(|all| all.iter().filter_map(|z| text(z.get("domain")?)).collect()),
            // Subdomains are names in these zones. Where cPanel may not read the account's files all is blank, without an error
            // (documentation of `list_domains`): no account is without a main domain.
            Door::Account => data.get("main_domain").and_then(text).map(|main| {
                let more = ["addon_domains", "parked_domains"].into_iter().filter_map(list).flatten().filter_map(text);
                std::iter::once(main).chain(more).collect()
            }),
        };
        let found = found.ok_or_else(|| malformed(false, 200, "it lists no domains"))?;
        Ok(found
            .iter()
            .filter_map(|name| names::canonical(name).ok())
            .map(|name| ZoneRef { id: name.clone(), name })
            .collect())
    }

    /// All changes, or none: they hold for the zone of this serial only. What is the serial now, if that was told.
    pub fn mass_edit(&mut self, zone: &str, serial: &str, edits: &Edits) -> Result<Option<String>, Problem> {
        let mut request = self.request("POST", "DNS/mass_edit_zone", "mass_edit_dns_zone");
        let fields = edits.fields();
        if fields.iter().map(|(name, value)| name.len() + value.len() + 2).sum::<usize>() > BODY_BYTES {
            let text = "These changes are more than one request to cPanel can carry: ask for fewer at a time.";
            return Err(Problem::fix_input("too-many-changes", text));
        }
        request = request.form("zone", bare(zone)).form("serial", serial);
        for (name, value) in fields {
            request = request.form(name, value);
        }
        let data = self.ask(true, &request)?;
        let text = |v: &Json| v.as_str().map(str::to_owned).or_else(|| v.as_u64().map(|n| n.to_string()));
        Ok(data.get("new_serial").and_then(text))
    }
}

/// An answer in either form.
struct Said<'j> {
    done: bool,
    data: &'j Json,
    text: String,
}

fn said(body: &Json) -> Option<Said<'_>> {
    let is = |value: &Json| value.as_u64().or_else(|| value.as_str()?.parse().ok()).map(|n| n == 1);
    if let Some(metadata) = body.get("metadata").filter(|m| m.get("result").is_some()) {
        let reason = metadata.get("reason").and_then(Json::as_str).unwrap_or_default();
        let data = body.get("data").unwrap_or(&Json::Null);
        return Some(Said { done: is(metadata.get("result")?)?, data, text: reason.to_owned() });
    }
    let body = body.get("result").unwrap_or(body);
    let errors = body.get("errors").and_then(Json::as_array).into_iter().flatten().filter_map(Json::as_str);
    let text = errors.collect::<Vec<_>>().join(" ");
    Some(Said { done: is(body.get("status")?)?, data: body.get("data").unwrap_or(&Json::Null), text })
}

/// What the host must do about a refusal that was said in so many words.
fn refusal(write: bool, said: &Said<'_>) -> Problem {
    let text: String = said.text.chars().take(300).collect();
    let has = |words: &[&str]| words.iter().any(|word| said.text.contains(word));
    let kind = said.data.get("type").and_then(Json::as_str).unwrap_or_default();
    let mut problem = if kind == "Stale" || has(&["does not match the DNS zone’s serial number"]) {
        Problem::replan("changed", format!("The zone was changed by somebody else meanwhile: {text}"))
    } else if has(&["You do not control a DNS zone", "does not exist", "do not have access to a domain"]) {
        Problem::fix_config(
            "zone-not-found",
            format!(
                "cPanel has no such zone for this user ({text}). Create it there, or take it out of the zones here."
            ),
        )
    } else if has(&["not a valid domain"]) {
        Problem::fix_config("zone-not-found", format!("cPanel can't have a zone of this name: {text}"))
    } else if has(&[
        "feature",
        "permission",
        "privilege",
        "cannot edit DNS zones",
        "This interface cannot create",
        "cannot edit or remove",
    ]) {
        Problem::fix_config("privilege", format!("The user may not do this in cPanel: {text}"))
    } else if write {
        // `InvalidZoneFile`, a name or value that makes no record, a line that holds none: nothing is written.
        Problem::fix_input("refused", format!("cPanel refused the changes: {text}"))
    } else {
        Problem::report_bug("unexpected-answer", format!("cPanel refused to show it: {text}"))
    };
    problem.provider_code = Some(kind.to_owned()).filter(|k| !k.is_empty());
    problem
}

/// A 2xx that can't be read. A write may well have been done.
fn malformed(write: bool, status: u16, why: &str) -> Problem {
    let message = format!("cPanel answered {status}, but not with what was expected ({why}).");
    let make = if write { Problem::verify } else { Problem::report_bug };
    make("malformed-answer", message).status(status)
}

fn problem_of(write: bool, response: &Response) -> Problem {
    let status = response.status;
    let said = || format!("{status} {}", response.excerpt(200));
    let problem = match status {
        200..=299 => return malformed(write, status, &response.excerpt(60)),
        401 | 403 => Problem::fix_config(
            "credentials",
            format!(
                "cPanel refused the API token ({}). Compare interface, user and token; a token may be bound to addresses and privileges.",
                said()
            ),
        ),
        404 => Problem::fix_config(
            "server-not-found",
            format!(
                "The address answers, but not as cPanel does ({}). WHM is at port 2087, an account's cPanel at 2083.",
                said()
            ),
        ),
        429 => Problem::wait("rate-limited", format!("The server asks to wait: {}", said()), response.retry_after_ms()),
        300..=399 => Problem::fix_config(
            "redirect",
            format!("The address answers with a redirect ({status}). Enter the address that it points to."),
        ),
        // Whether the file was written is not said.
        500..=599 if write => Problem::verify("server-error", format!("The server has a fault of its own: {}", said())),
        500..=599 => Problem::retry("server-error", format!("The server has a fault of its own: {}", said())),
        _ => Problem::report_bug("unexpected-status", format!("The server answered {}", said())),
    };
    problem.status(status)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_answer_is_read_in_the_form_of_the_documentation_and_in_the_real_one() {
        for body in [
            json!({"status": 1, "errors": null, "data": [1]}),
            json!({"apiversion": 3, "result": {"status": 1, "errors": null, "data": [1]}}),
            json!({"metadata": {"result": 1, "reason": "OK"}, "data": [1]}),
        ] {
            let said = said(&body).unwrap();
            assert!(said.done && *said.data == json!([1]), "{body}");
        }
        assert!(said(&json!({"cpanelresult": {"error": "Access denied"}})).is_none());
    }

    #[test]
    fn each_refusal_has_its_meaning() {
        use ProblemAction as A;
        for (write, text, kind, action, code) in [
            (true, "whatever", "Stale", A::Replan, "changed"),
            (
                true,
                "The given serial number (1) does not match the DNS zone’s serial number (2).",
                "",
                A::Replan,
                "changed",
            ),
            (true, "whatever", "InvalidZoneFile", A::FixInput, "refused"),
            (true, "(XID a) No record exists at line 4.", "", A::FixInput, "refused"),
            (false, "You do not control a DNS zone named “x”.", "", A::FixConfig, "zone-not-found"),
            (false, "(XID a) The domain “x” does not exist.", "", A::FixConfig, "zone-not-found"),
            (true, "You do not have the feature “zoneedit”.", "", A::FixConfig, "privilege"),
            (true, "This interface cannot create “PTR” records.", "", A::FixConfig, "privilege"),
            (false, "Failed to parse DNS zone", "", A::ReportBug, "unexpected-answer"),
        ] {
            let data = json!({"type": kind, "detail": null});
            let problem = refusal(write, &Said { done: false, data: &data, text: text.into() });
            assert_eq!((problem.action, problem.code.as_str()), (action, code), "{text} {kind}");
        }
    }

    #[test]
    fn each_status_has_its_meaning() {
        use ProblemAction as A;
        for (write, status, action, code) in [
            (false, 401, A::FixConfig, "credentials"),
            (true, 403, A::FixConfig, "credentials"),
            (false, 404, A::FixConfig, "server-not-found"),
            (true, 429, A::Wait, "rate-limited"),
            (true, 302, A::FixConfig, "redirect"),
            (true, 500, A::Verify, "server-error"),
            (false, 502, A::Retry, "server-error"),
            (true, 200, A::Verify, "malformed-answer"),
            (false, 200, A::ReportBug, "malformed-answer"),
            (false, 418, A::ReportBug, "unexpected-status"),
        ] {
            let answer = Response { status, text: "<html>".into(), ..Response::default() };
            let problem = problem_of(write, &answer);
            assert_eq!((problem.action, problem.code.as_str(), problem.http_status), (action, code, Some(status)));
        }
    }
}
