#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "test code")]

use serde_json::json;

use super::*;

const TEMPLATE: &str = include_str!("../../../template/facade.rhai");

fn script(text: &str) -> Script {
    Script::parse("facade.rhai", text).unwrap()
}

fn wrong(text: &str) -> String {
    Script::parse("facade.rhai", text).unwrap_err().to_string()
}

fn ask(facade: &mut dyn Facade, model: &mut Model, method: &str, path: &str, body: &Value) -> (u16, Value) {
    let (path, query) = path.split_once('?').unwrap_or((path, ""));
    let token = facade.settings("")["token"].as_str().unwrap_or_default().to_owned();
    let request = Request {
        method: method.into(),
        path: path.into(),
        query: crate::facade::pairs(query),
        headers: vec![("authorization".into(), format!("Bearer {token}"))],
        body: if body.is_null() { Vec::new() } else { body.to_string().into_bytes() },
        is_write: None,
    };
    let answer = facade.answer(model, &request);
    let text = String::from_utf8(answer.body).unwrap();
    (answer.status, serde_json::from_str(&text).unwrap_or(Value::String(text)))
}

/// The template's façade with one zone.
fn template(foreign: usize) -> (Script, Box<dyn Facade>, Model, String) {
    let script = script(TEMPLATE);
    let facade = script.facade();
    let mut model = Model::default();
    facade.new_zone(&mut model, "example.com.", foreign);
    let id = model.zones[0].id.clone();
    (script, facade, model, id)
}

/// The least that a façade has, with this body of `answer`.
fn least(answer: &str) -> String {
    format!(
        "fn settings(base) {{ #{{ url: base }} }}\nfn refusal(why, wait) {{ empty(500) }}\nfn answer(request, api) {{\n    {answer}\n}}\n"
    )
}

#[test]
fn the_example_api_lists_page_by_page_and_keeps_what_it_is_given() {
    let (script, mut facade, mut model, id) = template(101);
    let records = format!("/v1/zones/{id}/records");
    let mut asked = |method: &str, path: &str, body: Value| ask(&mut *facade, &mut model, method, path, &body);
    assert_eq!(asked("GET", "/v1/zones", Value::Null).1["zones"][0], json!({"id": id, "name": "example.com"}));
    let (_, first) = asked("GET", &records, Value::Null);
    assert_eq!((first["records"].as_array().unwrap().len(), &first["total"]), (100, &json!(101)));
    let (_, second) = asked("GET", &format!("{records}?page=2"), Value::Null);
    assert_eq!((second["records"].as_array().unwrap().len(), &second["next_page"]), (1, &Value::Null));
    assert_eq!(asked("GET", &format!("{records}?page=0"), Value::Null).0, 422);

    let given = json!({"name": "www.example.com", "type": "AAAA", "data": "2001:DB8::1", "ttl": 300});
    let (status, made) = asked("POST", &records, given.clone());
    assert_eq!((status, &made["data"], &made["ttl"]), (201, &json!("2001:db8::1"), &json!(300)));
    assert_eq!(asked("POST", &records, given).0, 409);
    let one = format!("{records}/{}", made["id"].as_str().unwrap());
    assert_eq!(asked("PATCH", &one, json!({"ttl": 59})).0, 422);
    assert_eq!(asked("PATCH", &one, json!({"ttl": 60})).1["ttl"], 60);
    assert_eq!(asked("GET", &format!("{records}?name=www.example.com"), Value::Null).1["total"], 1);
    assert_eq!(asked("DELETE", &one, Value::Null), (204, json!("")));
    assert_eq!(asked("DELETE", &one, Value::Null).0, 404);
    assert_eq!(model.zones[0].serial, 2_026_010_103, "once for each change");
    assert_eq!(script.complaints(), [] as [String; 0]);
}

#[test]
fn the_example_api_refuses_what_api_md_says() {
    let (_, mut facade, mut model, id) = template(1);
    let records = format!("/v1/zones/{id}/records");
    let good = json!({"name": "www.example.com", "type": "A", "data": "192.0.2.1", "ttl": 300});
    for (key, value) in [
        ("name", json!("www.example.com.")),
        ("name", json!("www.example.org")),
        ("name", json!(format!("{}.example.com", "l".repeat(64)))),
        ("type", json!("SRV")),
        ("data", json!("2001:db8::1")),
        ("data", Value::Null),
        ("ttl", json!(86_401)),
        ("ttl", json!("300")),
    ] {
        let mut body = good.clone();
        body[key] = value;
        let (status, said) = ask(&mut *facade, &mut model, "POST", &records, &body);
        assert_eq!(status, 422, "{body}: {said}");
        assert!(said["error"].as_str().unwrap().contains(key), "{said}");
    }
    let alone = json!({"name": "foreign-0.example.com", "type": "CNAME", "data": "a.test", "ttl": 300});
    assert_eq!(ask(&mut *facade, &mut model, "POST", &records, &alone).0, 422);
    model.zones[0].records_max = Some(1);
    assert_eq!(ask(&mut *facade, &mut model, "POST", &records, &good).0, 402);
    assert_eq!(ask(&mut *facade, &mut model, "GET", "/v1/zones/other/records", &Value::Null).0, 404);
    let wrong = Request { method: "GET".into(), path: "/v1/zones".into(), ..Request::default() };
    assert_eq!(facade.answer(&mut model, &wrong).status, 401);
    let waits = facade.refusal(Refusal::RateLimited(Wait::Date(Duration::from_secs(9)))).headers;
    assert!(waits.iter().any(|(n, v)| n == "retry-after" && v.ends_with(" GMT")), "{waits:?}");
}

#[test]
fn what_is_wrong_in_a_script_is_told_with_its_line_and_column() {
    for (text, place, words) in [
        (least("let x = ;"), "facade.rhai:4:13: ", "Unexpected ';'"),
        ("fn settings(base) { #{} }".into(), "facade.rhai: ", "there is no `fn answer(request, api)`"),
        (least("empty(204)").replace("(why, wait)", "(why)"), "facade.rhai:2: ", "write it as `fn refusal(why, wait)`"),
        (least("empty(204)").replace("empty(500)", "\"no\""), "facade.rhai:2: ", "`json(status, value)`"),
        (least("empty(204)").replace("#{ url: base }", "TOKEN"), "facade.rhai:1:21: ", "as in `fn token()"),
        (
            least("empty(204)") + "fn features() { #{ page: true } }",
            "facade.rhai:6: ",
            "`page` is none: there are pages",
        ),
        (least("empty(204)") + "fn features() { #{ pages: 1 } }", "facade.rhai:6: ", "`pages` is a i64"),
        (least("eval(\"1\")"), "facade.rhai:4:5: ", "eval"),
    ] {
        let said = wrong(&text);
        assert!(said.starts_with(place) && said.contains(words), "{text}\n{said}");
    }
    let said = Script::read(Path::new("./no-such.rhai")).unwrap_err().to_string();
    assert!(said.starts_with("no-such.rhai can't be read"), "{said}");
}

#[test]
fn what_goes_wrong_at_a_request_is_answered_with_500_and_complained_of_at_its_place() {
    for (answer, place, words) in [
        ("nonsense(1)", "facade.rhai:4:5: ", "there is no function `nonsense (i64)`"),
        (
            "let zone = api.zone(\"example.com.\");\n    zone.add(#{ rtype: \"A\" })",
            "facade.rhai:5:10: ",
            "a record has no `rtype`",
        ),
        ("7", "facade.rhai:3: ", "made by `json(status, value)`"),
        ("loop { }", "facade.rhai:3: ", "does a loop never end?"),
        ("answer(request, api)", "facade.rhai:3: ", "Stack overflow"),
        ("throw \"no idea\"", "facade.rhai:4:5: ", "no idea"),
        ("let text = \"0123456789\"; while true { text += text; } empty(204)", "facade.rhai:3: ", "too large"),
    ] {
        let script = script(&least(answer));
        let (mut facade, mut model) = (script.facade(), Model::default());
        facade.new_zone(&mut model, "example.com.", 1);
        let (status, said) = ask(&mut *facade, &mut model, "GET", "/x", &Value::Null);
        let complaints = script.complaints();
        assert!(status == 500 && said == json!(complaints[0]), "{answer}: {said}");
        assert!(complaints[0].starts_with(place) && complaints[0].contains(words), "{answer}\n{complaints:?}");
        assert_eq!(script.complaints(), [] as [String; 0], "told once");
    }
}

#[test]
fn what_is_thrown_is_answered_and_nothing_of_the_request_was_done() {
    let script = script(&least(
        "let zone = api.zone(\"example.com.\");
    api.state.seen = (api.state.seen ?? 0) + 1;
    zone.remove(zone.record(request.query.gone).id);
    let changed = zone.record(request.query.changed);
    changed.ttl = 7;
    zone.put(changed);
    zone.add(#{ name: \"new.example.com.\", type: \"A\", data: \"192.0.2.1\" });
    zone.set_note(\"new.example.com.\", \"A\", \"a note\");
    zone.serial += 1;
    if request.query.well == () { throw json(409, #{ seen: api.state.seen }); }
    json(200, #{ seen: api.state.seen })",
    ));
    let (mut facade, mut model) = (script.facade(), Model::default());
    facade.new_zone(&mut model, "example.com.", 4);
    let (gone, changed) = (model.zones[0].records[1].id.clone(), model.zones[0].records[2].id.clone());
    let path = format!("/x?gone={gone}&changed={changed}");
    let before = model.zones.clone();
    for _ in 0..2 {
        assert_eq!(ask(&mut *facade, &mut model, "POST", &path, &Value::Null), (409, json!({"seen": 1})));
        assert_eq!(model.zones, before);
    }
    let well = format!("{path}&well=1");
    assert_eq!(ask(&mut *facade, &mut model, "POST", &well, &Value::Null), (200, json!({"seen": 1})));
    let zone = &model.zones[0];
    assert_eq!((zone.records.len(), zone.serial, zone.notes.len()), (4, before[0].serial + 1, 1));
    assert_eq!((zone.record(&gone), zone.record(&changed).unwrap().ttl), (None, Some(7)));
    assert_eq!(script.complaints(), [] as [String; 0]);
}

#[test]
fn the_facade_of_the_page_on_the_kit_does_what_is_said_there() {
    let page = include_str!("../../../../docs/conformance.md");
    let (_, behind) = page.split_once("```rhai\n").unwrap();
    let script = script(behind.split_once("```").unwrap().0);
    let (mut facade, mut model) = (script.facade(), Model::default());
    facade.new_zone(&mut model, "example.com.", 1);
    let before = model.zones.clone();
    let ask = |facade: &mut dyn Facade, model: &mut Model, method: &str, body: Value| {
        let headers = vec![("x-token".to_owned(), "secret-0123".to_owned())];
        let body = body.to_string().into_bytes();
        let (method, path) = (method.into(), "/example.com".into());
        let answer = facade.answer(model, &Request { method, path, headers, body, ..Request::default() });
        (answer.status, String::from_utf8(answer.body).unwrap())
    };
    let good = json!({"n": "a.example.com.", "d": "192.0.2.1"});
    let (status, said) = ask(&mut *facade, &mut model, "PUT", json!([good, {"n": "b.example.com.", "d": "no"}]));
    assert!(status == 422 && said.contains("no is no address"), "{status} {said}");
    assert_eq!(model.zones, before, "whole or not at all");
    assert_eq!(ask(&mut *facade, &mut model, "PUT", json!([good])).0, 204);
    assert!(ask(&mut *facade, &mut model, "GET", json!([])).1.contains("192.0.2.1"));
    assert_eq!(facade.answer(&mut model, &Request::default()).status, 401);
    assert_eq!(script.complaints(), [] as [String; 0]);
}

#[test]
fn a_script_says_for_itself_what_writes_how_long_it_takes_and_how_a_zone_is_born() {
    let script = script(
        &(least("empty(204)")
            + "fn is_write(request) { request.form.cmd != \"list\" }\nfn pause(request) { 370 }\n\
               fn new_zone(zone) { zone.id = bare(zone.name); zone.add(#{ name: zone.name, type: \"NS\", data: \"ns1.test.\" }); }\n\
               fn zone_settings(base, zone) { #{ url: base, zone: zone } }\n"),
    );
    let facade = script.facade();
    let post = |body: &str| Request { method: "POST".into(), body: body.into(), ..Request::default() };
    assert!(facade.is_write(&post("cmd=add")) && !facade.is_write(&post("cmd=list")));
    assert_eq!(facade.pause(&post("")), Duration::from_millis(370));
    assert_eq!(facade.zone_settings("http://x", "a.test."), json!({"url": "http://x", "zone": "a.test."}));
    assert_eq!(facade.features(), Features::default());
    let mut model = Model::default();
    facade.new_zone(&mut model, "example.com.", 2);
    assert_eq!((model.zones[0].id.as_str(), model.zones[0].records.len()), ("example.com", 3));
    assert_eq!(script.complaints(), [] as [String; 0]);
}
