//! The provider against the test kit's HestiaCP, without sockets and with a clock of its own: what is asserted is what stands
//! in HestiaCP afterwards, and what was asked of it.

mod refusals;
mod time;
mod writes;

use std::{
    cell::{Cell, RefCell},
    collections::{BTreeMap, VecDeque},
};

use wharf_sdk::{
    dns::prelude::*,
    http::{Body, Failure, Sent},
};
use wharf_testkit::{
    facade::{self, Facade},
    facades::hestiacp::{HestiaCp, Login as By},
    model::{Model, Record},
};

use crate::{
    api::{Api, Login, Server, Watch},
    work,
};

const ZONE: &str = "example.test.";
const A: &str = "a.example.test.";

/// The call at hand: time passes with requests alone.
struct Clock {
    left_ms: Cell<u32>,
    is_cancelled: Cell<bool>,
    progress: RefCell<Vec<(u32, u32)>>,
}

impl Watch for Clock {
    fn left_ms(&self) -> u32 {
        self.left_ms.get()
    }

    fn is_cancelled(&self) -> bool {
        self.is_cancelled.get()
    }

    fn progress(&self, done: u32, total: u32) {
        self.progress.borrow_mut().push((done, total));
    }
}

fn clock(left_ms: u32) -> Clock {
    Clock { left_ms: Cell::new(left_ms), is_cancelled: Cell::new(false), progress: RefCell::default() }
}

/// Something that happens at HestiaCP before the command of this number (from 1) of those that are called so.
struct Meddling {
    cmd: &'static str,
    at: usize,
    what: Box<dyn Fn(&mut Model)>,
}

/// HestiaCP and the way to it.
struct World {
    hestia: HestiaCp,
    model: Model,
    clock: Clock,
    /// Settings with secrets, where the host's are not those of HestiaCP.
    known: Option<serde_json::Value>,
    /// Fields of each request, secrets as placeholders.
    log: Vec<BTreeMap<String, String>>,
    /// What happens to requests in order: none = nothing.
    faults: VecDeque<Option<Result<Response, Failure>>>,
    meddling: Vec<Meddling>,
    /// Numbers (from 1) of commands that are run and whose answers are lost.
    lost: Vec<usize>,
}

fn world() -> World {
    world_by(By::AccessKey)
}

fn world_by(login: By) -> World {
    let hestia = HestiaCp::default().with_login(login);
    let mut model = Model::default();
    hestia.new_zone(&mut model, ZONE, 3);
    World {
        hestia,
        model,
        clock: clock(60_000),
        known: None,
        log: Vec::new(),
        faults: VecDeque::new(),
        meddling: Vec::new(),
        lost: Vec::new(),
    }
}

fn zone() -> ZoneRef {
    ZoneRef { id: "example.test".into(), name: ZONE.into() }
}

/// `+` would do for a blank, and nothing else needs to stay.
fn encoded(text: &str) -> String {
    text.bytes()
        .map(|b| if b.is_ascii_alphanumeric() { (b as char).to_string() } else { format!("%{b:02X}") })
        .collect()
}

/// A plugin's transport over the façade.
struct Wire<'w> {
    world: &'w mut World,
    clock: &'w Clock,
}

impl Transport for Wire<'_> {
    fn send(&mut self, request: &Request) -> Result<Response, Failure> {
        let World { hestia, model, known, log, faults, meddling, lost, .. } = &mut *self.world;
        assert_eq!((request.method.as_str(), request.url.as_str()), ("POST", "https://panel.test:8083/api/"));
        assert!(request.timeout_ms.unwrap() < self.clock.left_ms.get(), "there is time to tell of a time-out");
        let Body::Form(fields) = &request.body else { panic!("no form") };
        let named: BTreeMap<String, String> = fields.iter().cloned().collect();
        assert_eq!(named.len(), fields.len(), "a field stands twice: {fields:?}");
        let cmd = named["cmd"].clone();
        log.push(named);
        let nth = log.iter().filter(|l| l["cmd"] == cmd).count();
        for one in meddling.iter().filter(|m| (m.cmd, m.at) == (cmd.as_str(), nth)) {
            (one.what)(model);
        }
        if let Some(Some(fault)) = faults.pop_front() {
            return fault;
        }
        // The host puts secrets in.
        let settings = known.clone().unwrap_or_else(|| hestia.settings("https://panel.test:8083"));
        let filled = |value: &String| match value.strip_prefix("{{").and_then(|v| v.strip_suffix("}}")) {
            Some(slot) => settings[slot].as_str().unwrap_or_else(|| panic!("no value for {slot}")).to_owned(),
            None => value.clone(),
        };
        let body: Vec<String> = fields.iter().map(|(n, v)| format!("{}={}", encoded(n), encoded(&filled(v)))).collect();
        let asked = facade::Request {
            method: request.method.clone(),
            path: "/api/".into(),
            body: body.join("&").into_bytes(),
            ..facade::Request::default()
        };
        let answered = hestia.answer(model, &asked);
        let took = hestia.pause(&asked).as_millis() as u32;
        self.clock.left_ms.set(self.clock.left_ms.get().saturating_sub(took));
        if lost.contains(&log.len()) {
            return Err(no_answer(Sent::MaybeSent));
        }
        let text = String::from_utf8_lossy(&answered.body).into_owned();
        Ok(Response { status: answered.status, headers: answered.headers, text })
    }
}

fn no_answer(sent: Sent) -> Failure {
    Failure { sent, code: "timeout".into(), message: "No answer came in time.".into(), ext: Vec::new() }
}

impl World {
    /// Runs something with the API, and a fresh call's time where asked.
    fn with<R>(&mut self, f: impl FnOnce(&mut Api<Wire<'_>>) -> R) -> R {
        let login = match self.hestia.login {
            By::AccessKey => Login::AccessKey,
            By::Password => Login::Password { admin: "admin".into() },
            By::KeyFile => Login::KeyFile,
        };
        let server = Server { url: "https://panel.test:8083/".into(), user: "wharf".into(), login };
        let clock = std::mem::replace(&mut self.clock, clock(0));
        let out = {
            let mut wire = Wire { world: self, clock: &clock };
            f(&mut Api::new(&mut wire, &clock, server))
        };
        self.clock = clock;
        out
    }

    fn apply(&mut self, batch: &[Change]) -> Report {
        self.try_apply(batch).unwrap()
    }

    fn try_apply(&mut self, batch: &[Change]) -> Result<Report, Problem> {
        self.with(|api| work::apply(api, &zone(), batch))
    }

    /// Puts a record in, with an id of one's own or the next.
    fn put(&mut self, id: &str, name: &str, rtype: &str, data: &str) {
        let zone = self.model.zone_mut(ZONE).unwrap();
        zone.records.push(Record { id: id.into(), ..Record::new(name, rtype, data, 300) });
    }

    fn with_record(mut self, id: &str, name: &str, rtype: &str, data: &str) -> Self {
        self.put(id, name, rtype, data);
        self
    }

    fn data(&self, name: &str, rtype: &str) -> Vec<&str> {
        self.model.zone(ZONE).unwrap().data(name, rtype)
    }

    fn commands(&self) -> Vec<&str> {
        self.log.iter().map(|fields| fields["cmd"].as_str()).collect()
    }

    /// Commands that change something.
    fn writes(&self) -> Vec<&BTreeMap<String, String>> {
        self.log.iter().filter(|fields| !fields["cmd"].contains("-list-")).collect()
    }

    fn before(&mut self, cmd: &'static str, at: usize, what: impl Fn(&mut Model) + 'static) {
        self.meddling.push(Meddling { cmd, at, what: Box::new(what) });
    }
}

fn records(model: &mut Model) -> &mut Vec<Record> {
    &mut model.zone_mut(ZONE).unwrap().records
}

fn change(id: u32, name: &str, rtype: &str, edit: Edit) -> Change {
    let ttl = Some(300);
    Change { id, name: name.into(), rtype: rtype.into(), ttl, edit, expect: None, owner: None, ext: Vec::new() }
}

fn add(values: &[&str]) -> Edit {
    Edit::AddValues(values.iter().map(|v| Value::new(*v)).collect())
}

fn remove(values: &[&str]) -> Edit {
    Edit::RemoveValues(values.iter().map(|v| (*v).to_owned()).collect())
}

fn replace(values: &[&str]) -> Edit {
    Edit::Replace(values.iter().map(|v| Value::new(*v)).collect())
}

fn problem(report: &Report, at: usize) -> &Problem {
    match &report.outcomes[at].1 {
        Outcome::Failed(problem) => problem,
        other => panic!("{other:?}"),
    }
}

fn is_applied(report: &Report, at: usize) -> bool {
    matches!(report.outcomes[at].1, Outcome::Applied(_))
}

/// Arguments in order, as far as they go.
fn arguments(fields: &BTreeMap<String, String>) -> Vec<&str> {
    (1..).map_while(|n| fields.get(&format!("arg{n}"))).map(String::as_str).collect()
}

#[test]
fn the_manifest_pins_the_commands_and_the_places_of_secrets() {
    let manifest: serde_json::Value = serde_json::from_str(include_str!("../manifest.json")).unwrap();
    let mut pinned: Vec<&str> = Vec::new();
    for rule in manifest["requests"].as_array().unwrap() {
        let commands = rule["pinned"]["cmd"].as_array().unwrap().iter().map(|c| c.as_str().unwrap());
        // Whatever a key may do: it is this user's records, and but for the list of domains, this zone's.
        assert_eq!(rule["pinned"]["arg1"], serde_json::json!(["{user}"]));
        assert_eq!(rule["pinned"]["arg2"].is_null(), commands.clone().eq(["v-list-dns-domains"]));
        pinned.extend(commands);
    }
    assert!(pinned.iter().all(|cmd| cmd.starts_with("v-") && cmd.contains("-dns-")));
    let mut all = pinned.clone();
    all.sort_unstable();
    let mut there = wharf_testkit::facades::hestiacp::COMMANDS.to_vec();
    there.sort_unstable();
    assert_eq!(all, there);
    for login in [By::AccessKey, By::Password, By::KeyFile] {
        let mut world = world_by(login);
        world.with(|api| api.domains()).unwrap();
        world.apply(&[change(1, A, "A", add(&["192.0.2.1"]))]);
        world.apply(&[change(1, A, "A", replace(&["192.0.2.2"]))]);
        world.apply(&[change(1, A, "A", Edit::Delete)]);
        world.with(|api| work::probe(api, ZONE)).unwrap();
        for fields in &world.log {
            assert!(pinned.contains(&fields["cmd"].as_str()));
            for (name, value) in fields.iter().filter(|(_, v)| v.contains("{{")) {
                let slot = value.trim_matches(['{', '}']);
                let declared = manifest["secrets"].as_array().unwrap().iter().find(|s| s["slot"] == slot).unwrap();
                assert_eq!(declared["positions"][0]["form"], name.as_str());
                assert_eq!(manifest["settings"]["properties"][slot]["x-secret"], true);
            }
        }
        for key in world.hestia.settings("").as_object().unwrap().keys() {
            assert!(manifest["settings"]["properties"].get(key).is_some(), "{key}");
        }
    }
}

#[test]
fn a_setting_that_is_missing_is_named() {
    let server = |pairs: &[(&str, &str)]| {
        let pairs: BTreeMap<String, String> = pairs.iter().map(|(k, v)| ((*k).into(), (*v).into())).collect();
        crate::server(move |key| pairs.get(key).cloned())
    };
    let url = ("server-url", "https://panel.test:8083/");
    assert_eq!(server(&[]).unwrap_err().code, "server-url");
    assert_eq!(server(&[url]).unwrap_err().code, "user");
    assert_eq!(server(&[url, ("user", "wharf")]).unwrap().login, Login::AccessKey);
    assert_eq!(server(&[url, ("user", "wharf"), ("login", "guess")]).unwrap_err().code, "login");
    let by_password = server(&[url, ("user", "wharf"), ("login", "password")]).unwrap();
    assert_eq!(by_password.login, Login::Password { admin: "admin".into() });
}

#[test]
fn a_zone_is_asked_for_without_its_final_dot_and_told_with_what_is_known_of_it() {
    let mut world = world();
    let probed = world.with(|api| work::probe(api, ZONE)).unwrap();
    assert_eq!(arguments(&world.log[0]), ["wharf", "example.test", "json"]);
    assert_eq!((probed.info.zone, probed.info.writable), (zone(), true));
    assert_eq!((probed.info.ttl_default, probed.info.records_used), (Some(14_400), Some(6)));
    assert_eq!(probed.info.serial.as_deref(), Some("2026010100"));
    assert_eq!((probed.can.parallel_per_server, probed.can.atomic), (1, false));
    assert_eq!(world.with(|api| api.domains()).unwrap(), [zone()]);
}

#[test]
fn a_zone_that_was_entered_decoded_is_found_and_asked_for_as_it_is_called_there() {
    let mut world = world();
    world.hestia.new_zone(&mut world.model, "xn--bcher-kva.test.", 0);
    world.model.zone_mut("xn--bcher-kva.test.").unwrap().id = "bücher.test".into();
    let probed = world.with(|api| work::probe(api, "xn--bcher-kva.test.")).unwrap();
    assert_eq!(probed.info.zone, ZoneRef { id: "bücher.test".into(), name: "xn--bcher-kva.test.".into() });
    let listed = world.with(|api| api.domains()).unwrap();
    assert!(listed.contains(&probed.info.zone));
    let read = world.with(|api| work::read(api, &probed.info.zone, &Selector::All)).unwrap();
    assert!(read.rrsets.iter().all(|set| set.name == "xn--bcher-kva.test."));
}

#[test]
fn what_is_read_is_canonical_and_whole_and_shows_nothing_that_is_not_served() {
    let mut world = world()
        .with_record("20", A, "AAAA", "2001:DB8::0:1")
        .with_record("21", "xn--bcher-kva.example.test.", "A", "192.0.2.5")
        .with_record("22", A, "TXT", r#""a\dq""#)
        .with_record("23", ZONE, "MX", "10 mail.example.test.")
        .with_record("24", "7.example.test.", "PTR", "vm.example.test.")
        .with_record("25", A, "CAA", r#"0 issue "ca.test""#)
        .with_record("26", A, "TXT", "\"v=spf1 -all; x\"");
    world.put("27", A, "A", "192.0.2.9");
    records(&mut world.model).last_mut().unwrap().disabled = true;
    let read = world.with(|api| work::read(api, &zone(), &Selector::All)).unwrap();
    assert!(read.complete);
    let of = |name: &str, rtype: &str| -> Vec<String> {
        let set = read.rrsets.iter().find(|s| s.name == name && s.rtype == rtype);
        set.map(|s| s.values.iter().map(|v| v.data.clone()).collect()).unwrap_or_default()
    };
    assert_eq!(of(A, "AAAA"), ["2001:db8::1"]);
    assert_eq!(of("xn--bcher-kva.example.test.", "A"), ["192.0.2.5"]);
    // A backslash is lost in HestiaCP's listing.
    assert_eq!(of(A, "TXT"), ["\"adq\"", "\"v=spf1 -all; x\""]);
    assert_eq!(of(ZONE, "MX"), ["10 mail.example.test."]);
    assert_eq!(of("7.example.test.", "PTR"), ["vm.example.test."]);
    assert_eq!(of(A, "CAA"), [r#"0 issue "ca.test""#]);
    assert!(of(A, "A").is_empty(), "what is suspended is not served");
    let keys = Selector::Keys(vec![(A.into(), "AAAA".into()), ("no.example.test.".into(), "A".into())]);
    let some = world.with(|api| work::read(api, &zone(), &keys)).unwrap();
    assert_eq!((some.rrsets.len(), some.complete, some.calls), (1, true, 1));
    let below = world.with(|api| work::read(api, &zone(), &Selector::Below(A.into()))).unwrap();
    assert_eq!(below.rrsets.len(), 3);
}
