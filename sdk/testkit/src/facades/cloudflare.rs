//! Cloudflare's API v4, as far as DNS goes: zones, records, batches.
//!
//! What it answers is what was recorded of the real one (dns-lexicon's recordings of 2020 and 2025), what its reference says
//! (<https://developers.cloudflare.com/api/>, the types of the official Python SDK 5.9.0), and what people quote in issues. Where
//! none of them says what the real one does, the request is refused, so that nothing comes to rely on a guess; such places say so.
//!
//! A record of the model that is `disabled`, or whose `extra` says `proxied: true`, is a proxied one here: it is there, and what
//! is served for it is something else.

mod list;
mod records;

use std::time::SystemTime;

use serde_json::{Value, json};

use crate::{
    facade::{Facade, Features, Refusal, Request, Response, Wait, http_date},
    model::{Model, Record, Zone},
};

/// Tokens have 40 of these characters (recorded).
const TOKEN: &str = "wharf-testkit-0123456789_abcdefghijklmno";
const ACCOUNT: &str = "5da32e1ae729aa30839477d7ff488fa0";
/// Requests in five minutes (<https://developers.cloudflare.com/fundamentals/api/reference/limits/>).
const REQUESTS: u32 = 1_200;
const MOMENT: &str = "2025-02-03T04:05:06.789012Z";

/// What a zone's owner pays for. It says how much a batch may hold and how short a TTL may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Plan {
    Free,
    Pro,
    Business,
    Enterprise,
}

impl Plan {
    fn id(self) -> &'static str {
        match self {
            Self::Free => "free",
            Self::Pro => "pro",
            Self::Business => "business",
            Self::Enterprise => "enterprise",
        }
    }

    /// <https://developers.cloudflare.com/dns/manage-dns-records/how-to/batch-record-changes/>
    fn batch(self) -> usize {
        if self == Self::Free { 200 } else { 3_500 }
    }

    /// Field `ttl` of the API's reference.
    fn ttl_min(self) -> u64 {
        if self == Self::Enterprise { 30 } else { 60 }
    }
}

/// The API of one account.
pub struct Cloudflare {
    plan: Plan,
    /// Requests that are left; none = no limit.
    left: Option<u32>,
}

impl Default for Cloudflare {
    fn default() -> Self {
        Self::new(Plan::Free)
    }
}

/// Why a request is refused.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Fail {
    status: u16,
    code: u32,
    message: String,
    chain: Vec<(u32, String)>,
}

impl Fail {
    fn new(status: u16, code: u32, message: impl Into<String>) -> Self {
        Self { status, code, message: message.into(), chain: Vec::new() }
    }

    fn under(mut self, code: u32, message: impl Into<String>) -> Self {
        self.chain.push((code, message.into()));
        self
    }

    /// `1004 DNS Validation Error` with the reason below it (quoted in many issues).
    fn validation(code: u32, message: impl Into<String>) -> Self {
        Self::new(400, 1_004, "DNS Validation Error").under(code, message)
    }

    /// What the real one is not known to take.
    fn strict(what: &str) -> Self {
        Self::new(400, 1_004, format!("Not known of the real API, so refused: {what}"))
    }

    fn response(&self) -> Response {
        let mut error = json!({ "code": self.code, "message": self.message });
        if !self.chain.is_empty() {
            let chain: Vec<Value> = self.chain.iter().map(|(c, m)| json!({ "code": c, "message": m })).collect();
            if let Some(map) = error.as_object_mut() {
                map.insert("error_chain".into(), chain.into());
            }
        }
        Response::json(self.status, &json!({ "result": null, "success": false, "errors": [error], "messages": [] }))
    }
}

/// A zone's id, by its name: settings can be told before there is a zone. Twice FNV-1a, for 32 digits.
fn zone_id(name: &str) -> String {
    let hash =
        |seed: u64| name.bytes().fold(seed, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3));
    format!("{:016x}{:016x}", hash(0xcbf2_9ce4_8422_2325), hash(0x8422_2325_cbf2_9ce4))
}

fn done(result: &Value) -> Value {
    json!({ "result": result, "success": true, "errors": [], "messages": [] })
}

/// Names are shown without the final dot.
fn bare(name: &str) -> &str {
    name.strip_suffix('.').unwrap_or(name)
}

impl Cloudflare {
    pub fn new(plan: Plan) -> Self {
        Self { plan, left: None }
    }

    /// Refuses with 429 after so many requests.
    #[must_use]
    pub fn limited(mut self, requests: u32) -> Self {
        self.left = Some(requests);
        self
    }

    /// The token that is accepted.
    pub fn token(&self) -> &'static str {
        TOKEN
    }

    fn route(&self, model: &mut Model, request: &Request) -> Result<Value, Fail> {
        authorized(request)?;
        let segments = request.segments();
        let parts: Vec<&str> = segments.iter().map(String::as_str).collect();
        let ["client", "v4", path @ ..] = parts.as_slice() else {
            return Err(no_route(request));
        };
        let method = request.method.as_str();
        match (method, path) {
            // Quoted in libdns/cloudflare#12.
            ("GET", ["user", "tokens", "verify"]) => {
                let mut answer = done(&json!({ "id": "ed17574386854bf78a67040be0a770b0", "status": "active" }));
                let message =
                    json!([{ "code": 10_000, "message": "This API Token is valid and active", "type": null }]);
                if let Some(map) = answer.as_object_mut() {
                    map.insert("messages".into(), message);
                }
                Ok(answer)
            }
            ("GET", ["zones"]) => list::zones(&model.zones, request, &|zone| self.show_zone(zone)),
            ("GET", ["zones", id]) => {
                let zone = zone_of(model, id, request)?;
                Ok(done(&self.show_zone(zone)))
            }
            (_, ["zones", id, "dns_records", rest @ ..]) => {
                zone_of(model, id, request)?;
                self.records(model, id, rest, request)
            }
            _ => Err(no_route(request)),
        }
    }

    fn records(&self, model: &mut Model, id: &str, rest: &[&str], request: &Request) -> Result<Value, Fail> {
        let zone = model.zone_by_id(id).ok_or_else(|| no_route(request))?;
        if request.method == "GET" {
            return match rest {
                [] => list::records(zone, request),
                [record] => zone.record(record).map(|r| done(&records::show(r))).ok_or_else(records::no_such_record),
                _ => Err(no_route(request)),
            };
        }
        // A secondary zone holds what its primary says. Code and words of the real one are not known.
        if !zone.writable {
            return Err(Fail::new(403, 1_004, "DNS records of a secondary zone can't be changed."));
        }
        let mut work = records::Work::of(zone, self.plan);
        let mut fresh = || model.fresh_id();
        let answer = match (request.method.as_str(), rest) {
            ("POST", []) => work.post(&body(request)?, &mut fresh),
            ("POST", ["batch"]) => work.batch(&body(request)?, &mut fresh),
            ("PUT", [record]) => work.put(record, &body(request)?),
            ("PATCH", [record]) => work.patch(record, &body(request)?),
            ("DELETE", [record]) => work.delete(record).map(|gone| json!({ "id": gone.id })),
            _ => return Err(no_route(request)),
        }?;
        // Committed at once, or not at all.
        if let Some(zone) = model.zone_by_id_mut(id) {
            zone.records = work.records;
            zone.serial += 1;
        }
        Ok(done(&answer))
    }

    /// As recorded, with what the SDK's types add.
    fn show_zone(&self, zone: &Zone) -> Value {
        json!({
            "id": zone.id,
            "name": bare(&zone.name),
            "status": "active",
            "paused": false,
            "type": if zone.writable { "full" } else { "secondary" },
            "development_mode": 0,
            "name_servers": ["christian.ns.cloudflare.com", "dina.ns.cloudflare.com"],
            "original_name_servers": null,
            "original_registrar": null,
            "original_dnshost": null,
            "modified_on": MOMENT,
            "created_on": MOMENT,
            "activated_on": MOMENT,
            "meta": { "step": 2, "custom_certificate_quota": 0, "page_rule_quota": 3, "phishing_detected": false },
            "owner": { "id": null, "type": "user", "email": null },
            "account": { "id": ACCOUNT, "name": "wharf" },
            "permissions": ["#dns_records:edit", "#dns_records:read", "#zone:read"],
            "plan": {
                "id": "0feeeeeeeeeeeeeeeeeeeeeeeeeeeeee",
                "name": format!("{:?} Website", self.plan),
                "price": 0,
                "currency": "USD",
                "frequency": "",
                "is_subscribed": false,
                "can_subscribe": false,
                "legacy_id": self.plan.id(),
                "legacy_discount": false,
                "externally_managed": false,
            },
        })
    }
}

/// Malformed credentials are 6003 with 6111 or 6103 below it (libdns/cloudflare#12, acmesh-official/acme.sh#6435), wrong ones 403
/// with 10000 (cloudflare/terraform-provider-cloudflare#913). That none at all are 9106 was not verified.
fn authorized(request: &Request) -> Result<(), Fail> {
    let malformed = |code, header: &str| {
        let why = format!("Invalid format for {header} header");
        Err(Fail::new(400, 6_003, "Invalid request headers").under(code, why))
    };
    // Global keys are not this account's way: a token in their place is refused so.
    if request.header("x-auth-key").is_some() || request.header("x-auth-email").is_some() {
        return malformed(6_103, "X-Auth-Key");
    }
    let Some(header) = request.header("authorization") else {
        return Err(Fail::new(400, 9_106, "Missing X-Auth-Key, X-Auth-Email or Authorization headers"));
    };
    let formed =
        |token: &str| token.len() >= 40 && token.chars().all(|c| c.is_ascii_alphanumeric() || "-_".contains(c));
    match header.strip_prefix("Bearer ") {
        Some(TOKEN) => Ok(()),
        Some(token) if formed(token) => Err(Fail::new(403, 10_000, "Authentication error")),
        _ => malformed(6_111, "Authorization"),
    }
}

/// An id that is none is a matter of routing. The code of one that is unknown is quoted in
/// cloudflare/terraform-provider-cloudflare#192; a token that is bound to other zones would get a 403 instead.
fn zone_of<'m>(model: &'m Model, id: &str, request: &Request) -> Result<&'m Zone, Fail> {
    if id.len() != 32 || !id.chars().all(|c| c.is_ascii_hexdigit()) {
        return Err(no_route(request));
    }
    model.zone_by_id(id).ok_or_else(|| Fail::new(404, 1_001, "Invalid zone identifier"))
}

/// Quoted in timothymiller/cloudflare-ddns#152.
fn no_route(request: &Request) -> Fail {
    let message = format!("Could not route to {}, perhaps your object identifier is invalid?", request.path);
    Fail::new(404, 7_003, message)
}

fn body(request: &Request) -> Result<Value, Fail> {
    let kind = request.header("content-type").unwrap_or_default();
    if !kind.starts_with("application/json") {
        return Err(Fail::strict("a body that is not application/json"));
    }
    request.json().filter(Value::is_object).ok_or_else(|| Fail::strict("a body that is no JSON object"))
}

impl Facade for Cloudflare {
    /// Those of the zone `example.test.`: the zone's id is one of them.
    fn settings(&self, base: &str) -> Value {
        self.zone_settings(base, "example.test.")
    }

    fn zone_settings(&self, base: &str, zone: &str) -> Value {
        json!({ "server-url": format!("{base}/client/v4"), "api-token": TOKEN, "zone-id": zone_id(zone) })
    }

    fn new_zone(&self, model: &mut Model, name: &str, foreign: usize) {
        model.add_zone(name, foreign);
        if let Some(zone) = model.zones.last_mut() {
            zone.id = zone_id(name);
        }
    }

    fn answer(&mut self, model: &mut Model, request: &Request) -> Response {
        if self.left == Some(0) {
            return self.refusal(Refusal::RateLimited(Wait::Seconds(300)));
        }
        self.left = self.left.map(|left| left - 1);
        let response = match self.route(model, request) {
            Ok(answer) => Response::json(200, &answer),
            Err(fail) => fail.response(),
        };
        // Always there since 2025-09 (<https://developers.cloudflare.com/changelog/2025-09-03-rate-limiting-improvement>).
        response
            .header("ratelimit", format!("\"default\";r={};t=300", self.left.unwrap_or(REQUESTS)))
            .header("ratelimit-policy", format!("\"default\";q={REQUESTS};w=300"))
    }

    fn features(&self) -> Features {
        Features { pages: true, ids: true, disabled: true, comments: true, read_only: true, quota: true }
    }

    fn refusal(&self, why: Refusal) -> Response {
        match why {
            Refusal::Credentials => Fail::new(403, 10_000, "Authentication error").response(),
            // The words are quoted in octodns/octodns-cloudflare#60; that the code is theirs was not verified.
            Refusal::Forbidden => Fail::new(403, 9_109, "Unauthorized to access requested resource").response(),
            // Words and length of the body as in cloudflare/certbot-dns-cloudflare#6.
            Refusal::RateLimited(wait) => {
                let limited = Fail::new(429, 971, "Please wait and consider throttling your request speed").response();
                match wait {
                    Wait::Unsaid => limited,
                    Wait::Seconds(seconds) => limited.header("retry-after", seconds.to_string()),
                    Wait::Date(later) => {
                        let now = SystemTime::now();
                        limited.header("date", http_date(now)).header("retry-after", http_date(now + later))
                    }
                    Wait::Own(seconds) => limited.header("ratelimit", format!("\"default\";r=0;t={seconds}")),
                }
            }
            // The code of the real one is not known; clients go by the status.
            Refusal::Broken => Fail::new(500, 0, "Internal server error").response(),
            // js-org/js.org#2873.
            Refusal::Quota => quota().response(),
        }
    }
}

fn quota() -> Fail {
    Fail::new(400, 81_045, "Record quota exceeded.")
}

fn is_proxied(record: &Record) -> bool {
    record.disabled || record.extra.get("proxied").is_some_and(|p| p == "true")
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use super::*;

    #[test]
    fn a_limit_counts_down_and_then_refuses() {
        let mut facade = Cloudflare::default().limited(1);
        let headers = vec![("authorization".to_owned(), format!("Bearer {TOKEN}"))];
        let request = Request { method: "GET".into(), path: "/client/v4/zones".into(), headers, ..Request::default() };
        let mut ask = || {
            let answer = facade.answer(&mut Model::default(), &request);
            let header = |name: &str| answer.headers.iter().find(|(n, _)| n == name).map(|(_, v)| v.clone());
            (answer.status, header("ratelimit"), header("retry-after"))
        };
        assert_eq!(ask(), (200, Some("\"default\";r=0;t=300".into()), None));
        assert_eq!(ask(), (429, None, Some("300".into())));
    }

    #[test]
    fn a_date_is_written_as_http_does() {
        let date = |seconds| http_date(UNIX_EPOCH + Duration::from_secs(seconds));
        assert_eq!(date(0), "Thu, 01 Jan 1970 00:00:00 GMT");
        assert_eq!(date(1_445_412_480), "Wed, 21 Oct 2015 07:28:00 GMT");
        assert_eq!(date(1_709_208_000), "Thu, 29 Feb 2024 12:00:00 GMT");
        assert_eq!(date(1_735_689_599), "Tue, 31 Dec 2024 23:59:59 GMT");
    }
}
