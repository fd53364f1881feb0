//! What a collector of traces gets of an order, and that no order waits for a collector.

use std::{
    collections::BTreeSet,
    path::Path,
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use wharf_e2e::{
    collector::{Collector, Span},
    journey::{Built, House, Setup},
    peer::free_port,
    whmcs::params,
};

const PATIENCE: Duration = Duration::from_secs(120);
/// The collector asks for it.
const COLLECTOR_TOKEN: &str = "Bearer collector-token-0b7f";

async fn house(dir: &Path, log: &str, traces: &str) -> House {
    let setup = Setup { log: log.into(), settings: format!("[traces]\n{traces}"), ..Setup::default() };
    House::with(dir, Built::in_target().unwrap(), setup).await.unwrap()
}

/// Orders a VM and waits until it is there; the operation that made it.
async fn deploy(house: &House, service: u32) -> String {
    let order = params(service, "linked", &format!("s{service}.example.com"), json!({}));
    let (status, body) = house.whmcs.post("create", &order).await.unwrap();
    assert_eq!(status, 200, "{body}");
    let service = house.until(&service.to_string(), "active", PATIENCE).await.unwrap();
    service["operation"]["id"].as_str().unwrap().to_owned()
}

async fn until(what: &str, mut done: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !done() {
        assert!(begun.elapsed() < PATIENCE, "{what}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

fn log(house: &House) -> String {
    std::fs::read_to_string(house.dir.join("wharf.log")).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_collector_sees_the_hook_the_steps_and_each_request_to_proxmox_of_an_order_and_no_secret() {
    let dir = tempfile::tempdir().unwrap();
    let collector = Collector::start(0).await.unwrap();
    let headers = dir.path().join("collector-headers");
    std::fs::write(&headers, format!("# for the collector\nAuthorization: {COLLECTOR_TOKEN}\n")).unwrap();
    let traces = format!("endpoint = {}\nheaders_file = {}\n", json!(collector.url), json!(headers));
    let mut house = house(dir.path(), "debug", &traces).await;
    let operation = deploy(&house, 7101).await;
    until("no webhook came", || house.receiver.seen().events.len() > 2).await;
    house.wharf.take().unwrap().stop(Duration::from_secs(20)).await.unwrap();
    let got = collector.got();
    let named = |name: &str| got.spans.iter().filter(|s| s.name == name).cloned().collect::<Vec<Span>>();

    // Who sends, and that it may.
    assert_eq!(got.resource["service.name"], "wharf");
    assert!(got.resource.contains_key("service.version") && got.resource.contains_key("service.instance.id"));
    assert!(got.headers.iter().all(|h| h["authorization"] == COLLECTOR_TOKEN));
    assert!(!log(&house).contains(COLLECTOR_TOKEN));

    // The hook, and what the panel's adapter and the books did for it.
    let hooks = named("POST /hooks/{panel}/{verb}");
    let [hook] = &hooks[..] else { panic!("{hooks:?}") };
    assert_eq!((hook.kind, hook.failed, hook.parent.as_str()), (2, false, ""));
    for (key, value) in [
        ("http.request.method", json!("POST")),
        ("http.route", json!("/hooks/{panel}/{verb}")),
        ("http.response.status_code", json!(200)),
        ("panel", json!("shop")),
        ("verb", json!("create")),
        ("operation", json!(operation)),
    ] {
        assert_eq!(hook.attributes.get(key), Some(&value), "{key}: {hook:?}");
    }
    let accepts = named("accept");
    let accept = accepts.iter().find(|s| s.attributes["service"] == "shop:7101").unwrap();
    assert_eq!((accept.trace.as_str(), accept.parent.as_str()), (hook.trace.as_str(), hook.id.as_str()));
    assert_eq!((&accept.attributes["wish"], &accept.attributes["outcome"]), (&json!("provision"), &json!("accepted")));

    // The operation: a trace of its own, known by the operation's id, that points at the hook.
    let trace = operation.replace('-', "");
    let of_operation: Vec<&Span> = got.spans.iter().filter(|s| s.trace == trace).collect();
    let roots: Vec<_> = of_operation.iter().filter(|s| s.parent.is_empty()).collect();
    let [root] = &roots[..] else { panic!("{roots:?}") };
    assert_eq!((root.name.as_str(), &root.links), ("operation", &vec![hook.trace.clone()]));
    let about = |span: &Span| {
        for (key, value) in [
            ("service", json!("shop:7101")),
            ("operation", json!(operation)),
            ("kind", json!("deploy")),
            ("plugin", json!("proxmox-kvm")),
            ("generation", json!(1)),
        ] {
            assert_eq!(span.attributes.get(key), Some(&value), "{key}: {span:?}");
        }
    };
    about(root);
    let runs: Vec<_> = of_operation.iter().filter(|s| s.name == "run").collect();
    assert!(
        !runs.is_empty() && runs.iter().all(|s| s.parent == root.id && s.attributes["server"] == "pve"),
        "{runs:?}"
    );
    let steps: Vec<_> = of_operation.iter().filter(|s| s.name.starts_with("step after ")).collect();
    let run_ids: BTreeSet<&str> = runs.iter().map(|s| s.id.as_str()).collect();
    let mut reached = BTreeSet::new();
    for step in &steps {
        about(step);
        assert!(run_ids.contains(step.parent.as_str()), "{step:?}");
        assert_eq!(step.name, format!("step after {}", step.attributes["state"].as_str().unwrap()));
        assert!(
            ["submitted", "reached", "waiting"].contains(&step.attributes["outcome"].as_str().unwrap()),
            "{step:?}"
        );
        reached.extend(step.attributes.get("reached").and_then(Value::as_str));
    }
    // The order's own log says which states there were.
    assert!(steps.len() > 5 && reached.len() > 3 && reached.contains("ready"), "{reached:?}");
    let step_ids: BTreeSet<&str> = steps.iter().map(|s| s.id.as_str()).collect();
    let calls: Vec<_> = of_operation.iter().filter(|s| s.attributes.contains_key("export")).collect();
    assert_eq!(calls.len(), steps.len());
    assert!(calls.iter().all(|s| step_ids.contains(s.parent.as_str()) && s.attributes["outcome"] == "ok"), "{calls:?}");

    // Requests to Proxmox: what was asked for, and nothing of what was named.
    let requests: Vec<_> = got.spans.iter().filter(|s| s.attributes.contains_key("url.template")).collect();
    for request in &requests {
        let template = request.attributes["url.template"].as_str().unwrap();
        assert!(template.starts_with('/') && !template.contains(|c: char| c.is_ascii_digit()), "{request:?}");
        assert_eq!(request.name, format!("{} {template}", request.attributes["http.request.method"].as_str().unwrap()));
        assert_eq!((request.kind, &request.attributes["server"]), (3, &json!("pve")));
        assert!(request.attributes["http.response.status_code"].as_i64().unwrap() >= 200, "{request:?}");
    }
    for asked in ["POST /nodes/{node}/qemu/{vmid}/clone", "POST /nodes/{node}/qemu/{vmid}/status/start"] {
        let found: Vec<_> = of_operation.iter().filter(|s| s.name == asked).collect();
        let [request] = &found[..] else { panic!("{asked}: {found:?}") };
        assert_eq!((request.failed, &request.attributes["http.response.status_code"]), (false, &json!(200)));
        assert!(run_ids.contains(request.parent.as_str()), "{request:?}");
    }
    // A step's own looks are below its call.
    let call_ids: BTreeSet<&str> = calls.iter().map(|s| s.id.as_str()).collect();
    assert!(requests.iter().any(|s| call_ids.contains(s.parent.as_str())), "{requests:?}");

    // Side shows.
    let zones: BTreeSet<_> = named("dns apply").iter().map(|s| s.attributes["zone"].to_string()).collect();
    assert!(zones.contains("\"forward\"") && zones.contains("\"reverse-v4\""), "{zones:?}");
    let told = named("delivery");
    assert!(
        told.iter().any(|s| {
            s.attributes["hook"] == "receiver"
                && s.attributes["service"] == "shop:7101"
                && s.attributes["outcome"] == "done"
        }),
        "{told:?}"
    );

    // Every span stands where it says, and carries no line of a log.
    let ids: BTreeSet<&str> = got.spans.iter().map(|s| s.id.as_str()).collect();
    assert_eq!(ids.len(), got.spans.len());
    for span in &got.spans {
        assert!(span.parent.is_empty() || ids.contains(span.parent.as_str()), "{span:?}");
        assert_eq!(span.events, 0, "{span:?}");
    }
    // Every coding of every secret is looked for by `secrets.rs`.
    for body in &got.bodies {
        for secret in [&house.setup.secrets.pve, &house.setup.secrets.dns, &house.setup.secrets.hook] {
            assert!(!body.windows(secret.len()).any(|part| part == secret.as_bytes()));
        }
    }
    // The log is as it is without traces: the run's span, and none of theirs.
    let log = log(&house);
    assert!(log.contains("run{service=\"shop:7101\" operation="));
    for theirs in ["step after", "otel.", "url.template", "accept{", "plugin{", "proxmox{", "request{"] {
        assert!(!log.contains(theirs), "{theirs} is in the log");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_order_becomes_active_without_a_collector_which_is_told_once_and_when_it_comes_it_gets_spans() {
    let dir = tempfile::tempdir().unwrap();
    let port = free_port().unwrap();
    let house = house(dir.path(), "info", &format!("endpoint = \"http://127.0.0.1:{port}\"\n")).await;
    deploy(&house, 7102).await;
    let missing = "the collector does not take all traces";
    until("the log does not say that spans are lost", || log(&house).contains(missing)).await;
    deploy(&house, 7103).await;
    // Twice as long as a batch is waited for and repeated.
    tokio::time::sleep(Duration::from_secs(14)).await;
    let text = log(&house);
    assert_eq!(text.matches(missing).count(), 1, "{text}");
    assert!(
        text.contains("refused") && text.contains(&format!("endpoint=\"http://127.0.0.1:{port}/v1/traces\"")),
        "{text}"
    );
    let collector = Collector::start(port).await.unwrap();
    let operation = deploy(&house, 7104).await.replace('-', "");
    until("nothing of a later order came", || collector.got().spans.iter().any(|s| s.trace == operation)).await;
    until("the log does not say that it is over", || log(&house).contains("the collector takes traces again")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_collector_that_never_answers_holds_up_neither_orders_nor_the_end_of_the_host() {
    let dir = tempfile::tempdir().unwrap();
    // It takes connections and says nothing.
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("endpoint = \"http://{}\"\n", silent.local_addr().unwrap());
    let held = tokio::spawn(async move {
        let mut held = Vec::new();
        loop {
            held.push(silent.accept().await.unwrap());
        }
    });
    let mut house = house(dir.path(), "info", &endpoint).await;
    deploy(&house, 7105).await;
    until("the log does not say that spans are lost", || log(&house).contains("it did not answer within 5 s")).await;
    let begun = Instant::now();
    house.wharf.take().unwrap().stop(Duration::from_secs(20)).await.unwrap();
    let took = begun.elapsed();
    assert!(took < Duration::from_secs(6), "it took {took:?} to stop");
    assert!(log(&house).contains("spans were not delivered"), "{}", log(&house));
    held.abort();
}
