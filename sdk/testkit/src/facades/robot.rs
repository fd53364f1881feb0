//! Hetzner Robot, its webservice: reverse DNS, and the lists of addresses that say which zones there are. Every fact is from
//! <https://robot.hetzner.com/doc/webservice/en.html> ("Preface", "IP", "Subnet", "Reverse DNS") unless its place says otherwise.
//!
//! Robot has addresses and no zones. Here the account has all addresses of the model's reverse zones: each zone is a subnet of it, and
//! of IPv4 the even addresses are main addresses of servers, with the name that Hetzner gives those. Limits are not kept: what one
//! answers is in [`Facade::refusal`].

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use base64::{Engine, engine::general_purpose::STANDARD};
use serde_json::{Value, json};

use crate::{
    facade::{Facade, Refusal, Request, Response, Wait},
    facades::powerdns::waiting,
    model::{Model, Record, Zone},
};

/// Of reverse DNS: 500 requests in an hour.
const LIMIT: (u32, u64) = (500, 3_600);

/// One account with one webservice user.
#[derive(Debug, Clone)]
pub struct Robot {
    user: String,
    password: String,
}

impl Default for Robot {
    fn default() -> Self {
        Self { user: "#ws+facade".into(), password: "password-of-the-robot-facade".into() }
    }
}

impl Facade for Robot {
    fn settings(&self, base: &str) -> Value {
        json!({"server-url": base, "user": self.user, "password": self.password})
    }

    fn answer(&mut self, model: &mut Model, request: &Request) -> Response {
        let login = STANDARD.encode(format!("{}:{}", self.user, self.password));
        if request.header("authorization") != Some(&format!("Basic {login}")) {
            return self.refusal(Refusal::Credentials);
        }
        let segments = request.segments();
        let path: Vec<&str> = segments.iter().map(String::as_str).collect();
        match (request.method.as_str(), path.as_slice()) {
            ("GET", ["rdns"]) => listed(entries(model).iter().map(|(ip, ptr)| rdns(ip, ptr)).collect()),
            ("GET", ["ip"]) => listed(mains(model).iter().map(|ip| address(*ip)).collect()),
            ("GET", ["subnet"]) => listed(model.zones.iter().filter_map(subnet).collect()),
            (method, ["rdns", ip]) => entry(model, method, ip, request),
            _ => error(404, "NOT_FOUND", "Not Found"),
        }
    }

    fn refusal(&self, why: Refusal) -> Response {
        match why {
            Refusal::Credentials => error(401, "UNAUTHORIZED", "Unauthorized"),
            // After three wrong logins the address of the caller is blocked for ten minutes; how that is answered is not said.
            Refusal::Forbidden => Response::text(403, "text/html", "<h1>403 Forbidden</h1>"),
            Refusal::RateLimited(wait) => {
                let interval = if let Wait::Own(seconds) = wait { seconds } else { LIMIT.1 };
                let answer = json!({"error": {"status": 403, "code": "RATE_LIMIT_EXCEEDED", "message": "rate limit exceeded",
                    "max_request": LIMIT.0, "interval": interval}});
                // It has no `Retry-After`; a proxy in front of it may.
                let wait = if matches!(wait, Wait::Own(_)) { Wait::Unsaid } else { wait };
                waiting(Response::json(403, &answer), wait)
            }
            Refusal::Broken => error(500, "INTERNAL_ERROR", "Internal error"),
            // PTRs are not counted there.
            Refusal::Quota => {
                error(500, "RDNS_CREATE_FAILED", "Creating the reverse DNS entry failed due to an internal error")
            }
        }
    }

    fn new_zone(&self, model: &mut Model, name: &str, foreign: usize) {
        let id = model.fresh_id();
        let mut zone = Zone::new(&id, name);
        for n in 0..foreign {
            let Some(owner) = foreign_name(name, n) else { break };
            let record = Record::new(&owner, "PTR", &format!("foreign-{n}.example.net."), 0);
            zone.records.push(Record { id: model.fresh_id(), ttl: None, ..record });
        }
        model.zones.push(zone);
    }
}

/// The nth address of others: from the end, so that the first ones are free.
fn foreign_name(zone: &str, n: usize) -> Option<String> {
    if zone.ends_with(".in-addr.arpa.") {
        return Some(format!("{}.{zone}", 253_usize.checked_sub(n)?));
    }
    let free = 32_usize.checked_sub(zone.strip_suffix(".ip6.arpa.")?.split('.').count() + 4)?;
    let last: String = format!("{:04x}", 0xf000 + n).chars().rev().map(|digit| format!("{digit}.")).collect();
    Some(format!("{last}{}{zone}", "0.".repeat(free)))
}

fn error(status: u16, code: &str, message: &str) -> Response {
    Response::json(status, &json!({"error": {"status": status, "code": code, "message": message}}))
}

fn invalid(missing: &Value, invalid: &Value) -> Response {
    let error = json!({"status": 400, "code": "INVALID_INPUT", "message": "invalid input", "missing": missing, "invalid": invalid});
    Response::json(400, &json!({"error": error}))
}

fn rdns(ip: &IpAddr, ptr: &str) -> Value {
    json!({"rdns": {"ip": ip.to_string(), "ptr": ptr}})
}

/// Without entries: 404.
fn listed(all: Vec<Value>) -> Response {
    if all.is_empty() { error(404, "NOT_FOUND", "No entries found") } else { Response::json(200, &Value::Array(all)) }
}

/// The address that a name speaks of, and of a zone the first one with the length of its prefix.
fn network(name: &str) -> Option<(IpAddr, usize)> {
    let number = |text: &str, radix: u32| u8::from_str_radix(text, radix).ok();
    if let Some(front) = name.strip_suffix(".in-addr.arpa.") {
        let mut octets: Vec<u8> = front.rsplit('.').map(|o| number(o, 10)).collect::<Option<_>>()?;
        let length = octets.len();
        octets.resize(4, 0);
        let octets: [u8; 4] = octets.try_into().ok()?;
        return (length <= 4).then(|| (Ipv4Addr::from(octets).into(), length * 8));
    }
    let front = name.strip_suffix(".ip6.arpa.")?;
    let digits: Vec<u8> = front.rsplit('.').map(|d| number(d, 16).filter(|d| *d < 16)).collect::<Option<_>>()?;
    let length = digits.len();
    let bits = digits.iter().fold(0_u128, |bits, digit| (bits << 4) | u128::from(*digit));
    let bits = bits.checked_shl(u32::try_from(128 - 4 * length.min(32)).ok()?).unwrap_or(0);
    (length <= 32).then(|| (Ipv6Addr::from(bits).into(), length * 4))
}

fn reverse_name(ip: IpAddr) -> String {
    match ip {
        IpAddr::V4(v4) => {
            let [a, b, c, d] = v4.octets();
            format!("{d}.{c}.{b}.{a}.in-addr.arpa.")
        }
        IpAddr::V6(v6) => {
            let nibbles = v6.octets().into_iter().rev().map(|o| format!("{:x}.{:x}.", o & 15, o >> 4));
            format!("{}ip6.arpa.", nibbles.collect::<String>())
        }
    }
}

/// The name that the main address of a server has as long as nobody gave it one. For the form, and that deleting its PTR brings it back:
/// the note of <https://docs.ansible.com/projects/ansible/latest/collections/community/hrobot/reverse_dns_module.html>.
fn default_of(ip: IpAddr) -> Option<String> {
    let IpAddr::V4(v4) = ip else { return None };
    let [a, b, c, d] = v4.octets();
    (d % 2 == 0).then(|| format!("static.{d}.{c}.{b}.{a}.clients.your-server.de"))
}

fn mains(model: &Model) -> Vec<IpAddr> {
    let of = |zone: &Zone| match network(&zone.name) {
        Some((IpAddr::V4(first), 24)) => {
            let [a, b, c, _] = first.octets();
            (2..=254).map(|d| IpAddr::from([a, b, c, d])).filter(|ip| default_of(*ip).is_some()).collect()
        }
        _ => Vec::new(),
    };
    model.zones.iter().flat_map(of).collect()
}

/// All PTRs, those that Hetzner has set included.
fn entries(model: &Model) -> Vec<(IpAddr, String)> {
    let records = model.zones.iter().flat_map(|z| z.records.iter()).filter(|r| r.rtype == "PTR");
    let mut all: Vec<(IpAddr, String)> =
        records.filter_map(|r| Some((network(&r.name)?.0, bare(&r.data).to_owned()))).collect();
    for ip in mains(model) {
        if let (false, Some(name)) = (all.iter().any(|(there, _)| *there == ip), default_of(ip)) {
            all.push((ip, name));
        }
    }
    all
}

fn subnet(zone: &Zone) -> Option<Value> {
    let (ip, mask) = network(&zone.name)?;
    Some(json!({"subnet": {"ip": ip.to_string(), "mask": mask, "gateway": ip.to_string(), "server_ip": null,
        "server_number": 321, "failover": false, "locked": false, "traffic_warnings": false}}))
}

fn address(ip: IpAddr) -> Value {
    json!({"ip": {"ip": ip.to_string(), "server_ip": ip.to_string(), "server_number": 321, "locked": false,
        "separate_mac": null, "traffic_warnings": false}})
}

fn bare(name: &str) -> &str {
    name.strip_suffix('.').unwrap_or(name)
}

/// A PTR that is taken: what is not a host's name is an invalid input. Whether a final dot would be taken is not said; no example has one.
fn is_host(ptr: &str) -> bool {
    let label = |l: &str| {
        let good = |c: char| c.is_ascii_alphanumeric() || c == '-';
        (1..=63).contains(&l.len()) && l.chars().all(good) && !l.starts_with('-') && !l.ends_with('-')
    };
    ptr.len() <= 253 && ptr.contains('.') && ptr.split('.').all(label)
}

fn entry(model: &mut Model, method: &str, ip: &str, request: &Request) -> Response {
    let not_found = || error(404, "IP_NOT_FOUND", &format!("The IP address {ip} was not found"));
    let Ok(address) = ip.parse::<IpAddr>() else { return not_found() };
    let name = reverse_name(address);
    let inside = |zone: &Zone| name.ends_with(&format!(".{}", zone.name));
    let fresh = model.fresh_id();
    let Some(zone) = model.zones.iter_mut().find(|z| inside(z)) else { return not_found() };
    let own = |r: &Record| r.name == name && r.rtype == "PTR";
    let there = zone.records.iter().find(|r| own(r)).map(|r| bare(&r.data).to_owned()).or_else(|| default_of(address));
    let shown = |status: u16, ptr: &str| Response::json(status, &rdns(&address, ptr));
    match method {
        "GET" => there.map_or_else(
            || error(404, "RDNS_NOT_FOUND", &format!("The IP address {ip} has no reverse DNS entry yet")),
            |ptr| shown(200, &ptr),
        ),
        "PUT" | "POST" => {
            let fields = request.form();
            let is_form = request.header("content-type") == Some("application/x-www-form-urlencoded");
            let Some((_, ptr)) = fields.iter().find(|(field, _)| is_form && field == "ptr") else {
                return invalid(&json!(["ptr"]), &Value::Null);
            };
            if !is_host(ptr) {
                return invalid(&Value::Null, &json!(["ptr"]));
            }
            if method == "PUT" && there.is_some() {
                return error(409, "RDNS_ALREADY_EXISTS", "There is already an existing reverse DNS entry");
            }
            let data = format!("{}.", ptr.to_ascii_lowercase());
            // The name that Hetzner gives is no record of anybody's.
            zone.records.retain(|r| !own(r));
            if default_of(address).is_none_or(|default| default != bare(&data)) {
                let record = Record::new(&name, "PTR", &data, 0);
                zone.records.push(Record { id: fresh, ttl: None, ..record });
            }
            zone.serial += 1;
            shown(if there.is_some() { 200 } else { 201 }, ptr)
        }
        "DELETE" => {
            // That nothing is there is none of its errors.
            zone.records.retain(|r| !own(r));
            zone.serial += 1;
            Response::empty(200)
        }
        _ => error(405, "METHOD_NOT_ALLOWED", "Method not allowed"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn house(zone: &str, foreign: usize) -> (Robot, Model) {
        let mut model = Model::default();
        Robot::default().new_zone(&mut model, zone, foreign);
        (Robot::default(), model)
    }

    fn ask(robot: &mut Robot, model: &mut Model, method: &str, path: &str, body: &str) -> (u16, Value) {
        let login = STANDARD.encode(format!("{}:{}", robot.user, robot.password));
        let request = Request {
            method: method.into(),
            path: path.into(),
            headers: vec![
                ("authorization".into(), format!("Basic {login}")),
                ("content-type".into(), "application/x-www-form-urlencoded".into()),
            ],
            body: body.as_bytes().to_vec(),
            ..Request::default()
        };
        let answer = robot.answer(model, &request);
        (answer.status, serde_json::from_slice(&answer.body).unwrap_or_default())
    }

    const V4: &str = "2.0.192.in-addr.arpa.";

    #[test]
    fn an_entry_is_made_once_by_put_and_made_or_changed_by_post() {
        let (mut robot, mut model) = house(V4, 0);
        let mut ask =
            |method: &str, ip: &str, body: &str| ask(&mut robot, &mut model, method, &format!("/rdns/{ip}"), body);
        assert_eq!(ask("GET", "192.0.2.7", "").1["error"]["code"], "RDNS_NOT_FOUND");
        assert_eq!(ask("PUT", "192.0.2.7", "ptr=vm.example.test").0, 201);
        assert_eq!(ask("PUT", "192.0.2.7", "ptr=vm.example.test").1["error"]["code"], "RDNS_ALREADY_EXISTS");
        assert_eq!(ask("POST", "192.0.2.7", "ptr=other.example.test").0, 200);
        assert_eq!(ask("GET", "192.0.2.7", "").1["rdns"]["ptr"], "other.example.test");
        assert_eq!(ask("POST", "192.0.2.9", "ptr=new.example.test").0, 201);
        assert_eq!(ask("DELETE", "192.0.2.9", "").0, 200);
        for (body, field) in
            [("", "missing"), ("ptr=host", "invalid"), ("ptr=a_b.test", "invalid"), ("ptr=a.test.", "invalid")]
        {
            let (status, said) = ask("POST", "192.0.2.7", body);
            assert_eq!((status, &said["error"][field][0]), (400, &json!("ptr")), "{body}");
        }
        for ip in ["198.51.100.1", "nonsense"] {
            assert_eq!(ask("PUT", ip, "ptr=a.test").1["error"]["code"], "IP_NOT_FOUND");
        }
    }

    #[test]
    fn the_main_address_of_a_server_has_a_name_of_hetzners_that_comes_back() {
        let (mut robot, mut model) = house(V4, 0);
        let default = "static.8.2.0.192.clients.your-server.de";
        assert_eq!(ask(&mut robot, &mut model, "GET", "/rdns/192.0.2.8", "").1["rdns"]["ptr"], default);
        assert_eq!(ask(&mut robot, &mut model, "PUT", "/rdns/192.0.2.8", "ptr=a.test").0, 409);
        assert_eq!(ask(&mut robot, &mut model, "POST", "/rdns/192.0.2.8", "ptr=a.test").0, 200);
        assert_eq!(model.zones[0].data("8.2.0.192.in-addr.arpa.", "PTR"), ["a.test."]);
        assert_eq!(ask(&mut robot, &mut model, "DELETE", "/rdns/192.0.2.8", "").0, 200);
        assert_eq!(ask(&mut robot, &mut model, "GET", "/rdns/192.0.2.8", "").1["rdns"]["ptr"], default);
        assert!(model.zones[0].records.is_empty());
    }

    #[test]
    fn lists_are_whole_and_without_entries_they_are_404() {
        let (mut robot, mut model) = house("8.b.d.0.1.0.0.2.ip6.arpa.", 2);
        let (_, list) = ask(&mut robot, &mut model, "GET", "/rdns", "");
        assert_eq!(list[1]["rdns"]["ip"], "2001:db8::f001");
        let (_, subnets) = ask(&mut robot, &mut model, "GET", "/subnet", "");
        assert_eq!((&subnets[0]["subnet"]["ip"], &subnets[0]["subnet"]["mask"]), (&json!("2001:db8::"), &json!(32)));
        assert_eq!(ask(&mut robot, &mut model, "GET", "/ip", "").1["error"]["code"], "NOT_FOUND");
        let (mut robot, mut model) = house(V4, 250);
        assert_eq!(model.zones[0].records.last().unwrap().name, format!("4.{V4}"));
        let (_, list) = ask(&mut robot, &mut model, "GET", "/rdns", "");
        // Those of 2 and 254 are Hetzner's.
        assert_eq!(list.as_array().unwrap().len(), 252);
        model.zones.clear();
        assert_eq!(ask(&mut robot, &mut model, "GET", "/rdns", "").1["error"]["code"], "NOT_FOUND");
    }

    #[test]
    fn a_limit_is_403_with_its_window_and_a_wrong_login_401() {
        let robot = Robot::default();
        let said = |why: Refusal| -> Value { serde_json::from_slice(&robot.refusal(why).body).unwrap() };
        assert_eq!(said(Refusal::RateLimited(Wait::Own(5)))["error"]["interval"], 5);
        assert_eq!(said(Refusal::RateLimited(Wait::Unsaid))["error"]["interval"], 3_600);
        let wrong = Request { method: "GET".into(), path: "/rdns".into(), ..Request::default() };
        assert_eq!(Robot::default().answer(&mut Model::default(), &wrong).status, 401);
    }
}
