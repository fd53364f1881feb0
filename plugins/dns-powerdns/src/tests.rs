//! The provider against a PowerDNS in memory, whose answers are those measured on 4.7.3.

use std::collections::VecDeque;

use serde_json::{Value as Json, json};
use wharf_sdk::dns::prelude::*;
use wharf_sdk::http::{Body, Failure, Sent};

use crate::api::Api;
use crate::work;

struct Fake {
    version: &'static str,
    kind: &'static str,
    searches: bool,
    sets: Vec<(String, String, u32, Vec<(String, bool)>)>,
    /// Answers given instead of the server's own.
    faults: VecDeque<Option<Result<Response, Failure>>>,
    log: Vec<String>,
    patches: Vec<Json>,
}

fn fake() -> Fake {
    let soa = ("example.test.".into(), "SOA".into(), 3600, vec![("ns. host. 1 2 3 4 5".into(), false)]);
    Fake {
        version: "4.7.3",
        kind: "Native",
        searches: true,
        sets: vec![soa],
        faults: VecDeque::new(),
        log: Vec::new(),
        patches: Vec::new(),
    }
}

fn ok(json: Json) -> Response {
    Response { status: 200, headers: Vec::new(), text: json.to_string() }
}

impl Fake {
    fn with(mut self, name: &str, rtype: &str, values: &[(&str, bool)]) -> Self {
        let values = values.iter().map(|(v, d)| ((*v).to_owned(), *d)).collect();
        self.sets.push((name.into(), rtype.into(), 60, values));
        self
    }

    fn values(&self, name: &str, rtype: &str) -> Vec<(&str, bool)> {
        let set = self.sets.iter().find(|s| s.0 == name && s.1 == rtype);
        set.map(|s| s.3.iter().map(|(v, d)| (v.as_str(), *d)).collect()).unwrap_or_default()
    }

    fn api(&mut self) -> Api<'_, Self> {
        Api::new(self, "http://ns.test:8081/", "localhost")
    }

    fn patch(&mut self, body: &str) -> Response {
        let body: Json = serde_json::from_str(body).unwrap();
        self.patches.push(body.clone());
        for set in body["rrsets"].as_array().unwrap() {
            let (name, rtype) = (set["name"].as_str().unwrap(), set["type"].as_str().unwrap());
            let old = self.sets.iter().position(|s| s.0 == name && s.1 == rtype).map(|at| self.sets.remove(at));
            let mut values = old.map(|s| s.3).unwrap_or_default();
            let sent: Vec<(String, bool)> = set["records"]
                .as_array()
                .into_iter()
                .flatten()
                .map(|r| (r["content"].as_str().unwrap().to_owned(), r["disabled"].as_bool().unwrap()))
                .collect();
            match set["changetype"].as_str().unwrap() {
                "REPLACE" => values = sent,
                "DELETE" => values.clear(),
                "EXTEND" => values.extend(sent),
                "PRUNE" => values.retain(|v| !sent.contains(v)),
                other => panic!("changetype {other}"),
            }
            if !values.is_empty() {
                self.sets.push((name.into(), rtype.into(), set["ttl"].as_u64().unwrap() as u32, values));
            }
        }
        Response { status: 204, ..Response::default() }
    }
}

impl Transport for Fake {
    fn send(&mut self, request: &Request) -> Result<Response, Failure> {
        assert!(request.headers.contains(&("X-API-Key".into(), "{{api-key}}".into())));
        let path = request.url.strip_prefix("http://ns.test:8081/api/v1/servers/localhost").unwrap().to_owned();
        self.log.push(format!("{} {path}", request.method));
        if let Some(Some(fault)) = self.faults.pop_front() {
            return fault;
        }
        let query = |name: &str| request.query.iter().find(|(n, _)| n == name).map(|(_, v)| v.clone());
        let records = |values: &[(String, bool)], all: bool| -> Vec<Json> {
            values.iter().filter(|(_, d)| all || !d).map(|(v, d)| json!({"content": v, "disabled": d})).collect()
        };
        Ok(match (request.method.as_str(), path.as_str()) {
            ("GET", "") => ok(json!({"version": self.version})),
            ("GET", "/zones") => {
                ok(json!([{"id": "example.test.", "name": "example.test.", "kind": self.kind, "serial": 7}]))
            }
            ("GET", "/search-data") => {
                let name = format!("{}.", query("q").unwrap());
                let rows: Vec<Json> = self
                    .sets
                    .iter()
                    .filter(|s| self.searches && s.0 == name)
                    .flat_map(|s| {
                        s.3.iter().map(|(v, d)| {
                            json!({"object_type": "record", "name": s.0, "type": s.1, "ttl": s.2,
                        "content": v, "disabled": d, "zone_id": "example.test."})
                        })
                    })
                    .collect();
                ok(json!(rows))
            }
            ("GET", "/zones/example.test.") => {
                let (name, rtype) = (query("rrset_name"), query("rrset_type"));
                let all = name.is_none();
                let sets: Vec<Json> = self
                    .sets
                    .iter()
                    .filter(|s| all || (Some(&s.0), Some(&s.1)) == (name.as_ref(), rtype.as_ref()))
                    .map(|s| json!({"name": s.0, "type": s.1, "ttl": s.2, "records": records(&s.3, all)}))
                    .collect();
                ok(json!({"rrsets": sets}))
            }
            ("PATCH", "/zones/example.test.") => {
                let Body::Text(_, body) = &request.body else { panic!("no body") };
                self.patch(body)
            }
            other => panic!("unexpected {other:?}"),
        })
    }
}

fn zone() -> ZoneRef {
    ZoneRef { id: "example.test.".into(), name: "example.test.".into() }
}

fn change(id: u32, name: &str, rtype: &str, edit: Edit) -> Change {
    Change {
        id,
        name: name.into(),
        rtype: rtype.into(),
        ttl: Some(300),
        edit,
        expect: None,
        owner: None,
        ext: Vec::new(),
    }
}

fn add(values: &[&str]) -> Edit {
    Edit::AddValues(values.iter().map(|v| Value::new(*v)).collect())
}

fn apply(fake: &mut Fake, batch: &[Change]) -> Report {
    work::apply(&mut fake.api(), &zone(), batch, || false).unwrap()
}

fn problem(report: &Report, at: usize) -> &Problem {
    match &report.outcomes[at].1 {
        Outcome::Failed(problem) => problem,
        other => panic!("{other:?}"),
    }
}

const A: &str = "a.example.test.";

#[test]
fn adding_keeps_foreign_and_disabled_values_and_their_ttl() {
    let mut fake = fake().with(A, "A", &[("192.0.2.1", false), ("192.0.2.2", true)]);
    let report = apply(&mut fake, &[change(1, A, "A", add(&["192.0.2.3"]))]);
    assert!(matches!(&report.outcomes[0].1, Outcome::Applied(set) if set.ttl == Some(60) && set.values.len() == 2));
    assert_eq!(fake.values(A, "A"), [("192.0.2.1", false), ("192.0.2.2", true), ("192.0.2.3", false)]);
    assert!(fake.patches[0]["rrsets"][0].get("comments").is_none());
}

#[test]
fn a_second_apply_of_the_same_batch_writes_nothing() {
    let mut fake = fake();
    let batch = [change(1, A, "A", add(&["192.0.2.3"])), change(2, A, "AAAA", add(&["2001:DB8::0:1"]))];
    apply(&mut fake, &batch);
    assert_eq!(fake.patches.len(), 1, "one request for the batch");
    let again = apply(&mut fake, &batch);
    assert!(again.outcomes.iter().all(|(_, o)| matches!(o, Outcome::Unchanged(_))), "{again:?}");
    assert_eq!(fake.patches.len(), 1);
}

#[test]
fn removing_takes_only_what_is_named_and_the_last_value_takes_the_set() {
    let mut fake = fake().with(A, "A", &[("192.0.2.1", false), ("192.0.2.2", false)]);
    apply(&mut fake, &[change(1, A, "A", Edit::RemoveValues(vec!["192.0.2.2".into()]))]);
    assert_eq!(fake.values(A, "A"), [("192.0.2.1", false)]);
    apply(&mut fake, &[change(1, A, "A", Edit::RemoveValues(vec!["192.0.2.1".into()]))]);
    assert_eq!(fake.patches[1]["rrsets"][0]["changetype"], "DELETE");
    let third = apply(&mut fake, &[change(1, A, "A", Edit::RemoveValues(vec!["192.0.2.1".into()]))]);
    assert!(matches!(third.outcomes[0].1, Outcome::Unchanged(_)));
    assert_eq!(fake.patches.len(), 2);
}

#[test]
fn deleting_leaves_what_somebody_has_disabled() {
    let mut fake = fake().with(A, "A", &[("192.0.2.1", false), ("192.0.2.2", true)]);
    apply(&mut fake, &[change(1, A, "A", Edit::Delete)]);
    assert_eq!(fake.values(A, "A"), [("192.0.2.2", true)]);
}

#[test]
fn a_value_that_somebody_has_disabled_is_not_enabled() {
    let mut fake = fake().with(A, "A", &[("192.0.2.2", true)]);
    let report = apply(&mut fake, &[change(1, A, "A", add(&["192.0.2.2"]))]);
    assert_eq!(problem(&report, 0).code, "value-disabled");
    assert!(fake.patches.is_empty());
}

#[test]
fn what_is_not_as_expected_is_planned_again_and_nothing_is_written() {
    let mut fake = fake().with(A, "A", &[("192.0.2.1", false)]);
    let mut asked = change(1, A, "A", Edit::Replace(vec![Value::new("192.0.2.9")]));
    asked.expect = Some(vec!["192.0.2.7".into()]);
    let report = apply(&mut fake, &[asked.clone()]);
    assert_eq!(problem(&report, 0).action, ProblemAction::Replan);
    assert!(fake.patches.is_empty());
    asked.expect = Some(vec!["192.0.2.1".into()]);
    apply(&mut fake, &[asked]);
    assert_eq!(fake.values(A, "A"), [("192.0.2.9", false)]);
}

#[test]
fn a_type_makes_room_for_another_in_one_request() {
    let mut fake = fake().with(A, "A", &[("192.0.2.1", false)]);
    apply(&mut fake, &[change(1, A, "CNAME", add(&["b.example.test."])), change(2, A, "A", Edit::Delete)]);
    let sent = fake.patches[0]["rrsets"].as_array().unwrap();
    assert_eq!((&sent[0]["type"], &sent[1]["type"]), (&json!("A"), &json!("CNAME")));
}

#[test]
fn a_server_that_can_merge_is_asked_to_only_beside_other_values() {
    let mut fake = fake().with(A, "A", &[("192.0.2.1", false)]);
    fake.version = "5.0.2";
    apply(&mut fake, &[change(1, A, "A", add(&["192.0.2.3"])), change(2, "n.example.test.", "A", add(&["192.0.2.4"]))]);
    let sent = fake.patches[0]["rrsets"].as_array().unwrap();
    assert_eq!((&sent[0]["changetype"], &sent[0]["ttl"]), (&json!("EXTEND"), &json!(60)));
    assert_eq!(sent[1]["changetype"], "REPLACE");
    apply(&mut fake, &[change(1, A, "A", Edit::RemoveValues(vec!["192.0.2.3".into()]))]);
    assert_eq!(fake.patches[1]["rrsets"][0]["changetype"], "PRUNE");
    assert_eq!(fake.values(A, "A"), [("192.0.2.1", false)]);
}

#[test]
fn a_backend_without_search_is_read_whole_before_a_write() {
    let mut fake = fake().with(A, "A", &[("192.0.2.2", true)]);
    fake.searches = false;
    apply(&mut fake, &[change(1, A, "A", add(&["192.0.2.3"]))]);
    assert_eq!(fake.values(A, "A"), [("192.0.2.2", true), ("192.0.2.3", false)]);
}

#[test]
fn a_write_without_an_answer_is_to_be_verified() {
    let mut fake = fake().with(A, "A", &[("192.0.2.1", false)]);
    let lost = Failure { sent: Sent::MaybeSent, code: "timeout".into(), message: "No answer.".into(), ext: Vec::new() };
    fake.faults = [None, None, Some(Err(lost))].into();
    let report = apply(&mut fake, &[change(1, A, "A", add(&["192.0.2.3"]))]);
    assert_eq!(problem(&report, 0).action, ProblemAction::Verify);
}

#[test]
fn a_wrong_key_costs_exactly_one_request() {
    let mut fake = fake();
    fake.faults = [Some(Ok(Response { status: 401, text: "Unauthorized".into(), ..Response::default() }))].into();
    let error = work::apply(&mut fake.api(), &zone(), &[change(1, A, "A", add(&["192.0.2.3"]))], || false).unwrap_err();
    assert_eq!((error.action, error.code.as_str()), (ProblemAction::FixConfig, "credentials"));
    assert_eq!(fake.log.len(), 1);
}

#[test]
fn one_refused_set_leaves_the_others_not_attempted() {
    let mut fake = fake().with(A, "A", &[("192.0.2.1", false)]);
    let text = json!({"error": "RRset b.example.test. IN CNAME: Conflicts with pre-existing RRset"}).to_string();
    fake.faults = [None, None, None, Some(Ok(Response { status: 422, text, ..Response::default() }))].into();
    let report = apply(
        &mut fake,
        &[
            change(1, A, "A", add(&["192.0.2.3"])),
            change(2, "b.example.test.", "CNAME", add(&["a.example.test."])),
            change(3, "x.elsewhere.test.", "A", add(&["192.0.2.3"])),
        ],
    );
    assert_eq!(report.outcomes[0].1, Outcome::NotAttempted);
    assert_eq!(problem(&report, 1).action, ProblemAction::FixInput);
    assert_eq!(problem(&report, 2).code, "out-of-zone");
}

#[test]
fn two_changes_with_one_id_are_refused_before_any_request() {
    let mut fake = fake();
    let batch = [change(1, A, "A", Edit::Delete), change(1, A, "AAAA", Edit::Delete)];
    assert!(work::apply(&mut fake.api(), &zone(), &batch, || false).is_err());
    assert!(fake.log.is_empty());
}

#[test]
fn a_secondary_zone_is_not_writable_and_an_unknown_one_is_named() {
    let mut fake = fake();
    fake.kind = "Slave";
    let probed = work::probe(&mut fake.api(), "example.test.").unwrap();
    assert!(!probed.info.writable && !probed.can.native_merge);
    assert_eq!(probed.info.serial.as_deref(), Some("7"));
    let error = work::probe(&mut fake.api(), "other.test.").unwrap_err();
    assert_eq!((error.action, error.code.as_str()), (ProblemAction::FixConfig, "zone-not-found"));
}

#[test]
fn reading_shows_no_disabled_values_and_many_keys_cost_one_request() {
    let mut fake = fake().with(A, "A", &[("192.0.2.1", false), ("192.0.2.2", true)]);
    let keys = vec![(A.to_owned(), "A".to_owned())];
    let one = work::read(&mut fake.api(), &zone(), &Selector::Keys(keys.clone())).unwrap();
    assert_eq!((one.rrsets.len(), one.rrsets[0].values.len(), one.complete), (1, 1, true));
    let many: Vec<_> = keys.into_iter().chain((0..50).map(|n| (format!("n{n}.example.test."), "A".into()))).collect();
    let read = work::read(&mut fake.api(), &zone(), &Selector::Keys(many)).unwrap();
    assert_eq!((read.rrsets.len(), read.calls), (1, 1));
}

#[test]
fn html_in_place_of_json_is_told_and_never_an_empty_zone() {
    let mut fake = fake();
    fake.faults = [Some(Ok(Response { status: 200, text: "<html>".into(), ..Response::default() }))].into();
    let error = work::read(&mut fake.api(), &zone(), &Selector::All).unwrap_err();
    assert_eq!(error.code, "malformed-answer");
}

#[test]
fn the_test_button_writes_and_removes_a_record_of_its_own() {
    let mut fake = fake();
    let before = fake.sets.clone();
    let checks = work::test(&mut fake.api(), Some("example.test."), true, "0f");
    let steps: Vec<_> = checks.iter().map(|c| (c.step.as_str(), c.ok)).collect();
    assert_eq!(steps, [("reach", true), ("auth", true), ("zone", true), ("read", true), ("write", true)]);
    assert_eq!((fake.patches.len(), &fake.sets), (2, &before));
    fake.faults = [Some(Ok(Response { status: 401, ..Response::default() }))].into();
    let checks = work::test(&mut fake.api(), None, false, "0f");
    assert_eq!(checks.iter().map(|c| (c.step.as_str(), c.ok)).collect::<Vec<_>>(), [("reach", true), ("auth", false)]);
}
