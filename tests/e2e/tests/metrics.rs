//! The dashboard that is packaged, held against what a host gives while it works: each name and each label in it is there, and
//! nothing is given that it does not show.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use wharf_e2e::{
    client::http,
    journey::{Built, House},
    whmcs::params,
};

const PATIENCE: Duration = Duration::from_secs(120);

/// Labels that each target gets from Prometheus itself.
const OF_THE_TARGET: [&str; 2] = ["job", "instance"];

/// Names of series, each with the labels that it was seen with.
type Series = BTreeMap<String, BTreeSet<String>>;

/// `label` of `{label="value",…}`. Values may hold braces and commas.
fn labels(text: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    // Between quotes are values; what stands before one ends in the label and its operator.
    for before in text.split('"').step_by(2) {
        let name = before.trim_end_matches(['=', '~', '!']).rsplit(['{', ',']).next().unwrap_or_default().trim();
        if before.ends_with(['=', '~']) && !name.is_empty() {
            found.insert(name.to_owned());
        }
    }
    found
}

/// What a scrape gives.
fn given(text: &str, into: &mut Series) {
    for line in text.lines().filter(|line| !line.starts_with('#') && !line.is_empty()) {
        let name = line.split(['{', ' ']).next().unwrap();
        into.entry(name.to_owned()).or_default().extend(labels(line));
    }
}

/// Everything under `expr`, at any depth.
fn queries(value: &Value, found: &mut Vec<String>) {
    match value {
        Value::Object(map) => {
            found.extend(map.get("expr").and_then(Value::as_str).map(str::to_owned));
            map.values().for_each(|inner| queries(inner, found));
        }
        Value::Array(list) => list.iter().for_each(|inner| queries(inner, found)),
        _ => {}
    }
}

/// The series that a query names, and the labels that it picks or sums by. A query of the dashboard is about one series.
fn asked(query: &str) -> (String, BTreeSet<String>) {
    let word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let names: BTreeSet<&str> =
        query.split(|c| !word(c)).filter(|w| w.starts_with("wharf_") || w.starts_with("process_")).collect();
    assert_eq!(names.len(), 1, "{query}");
    let mut picked = labels(query);
    for by in query.split(" by (").skip(1) {
        picked.extend(by.split(')').next().unwrap().split(',').map(|l| l.trim().to_owned()));
    }
    (names.into_iter().next().unwrap().to_owned(), picked)
}

/// `x_bucket`, `x_sum` and `x_count` are what a histogram `x` gives.
fn base(name: &str) -> &str {
    ["_bucket", "_sum", "_count"].iter().find_map(|end| name.strip_suffix(end)).unwrap_or(name)
}

#[test]
fn labels_are_told_from_values() {
    let names = |text: &str| labels(text).into_iter().collect::<Vec<_>>();
    assert_eq!(names("x{path=\"/a/{b},c=\",method=\"GET\"} 1"), ["method", "path"]);
    assert_eq!(names("sum by (le) (rate(x{a!=\"ok\",b=~\"5..\"}[5m]))"), ["a", "b"]);
    assert!(names("x 1").is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_dashboard_shows_what_a_host_gives_and_nothing_else() {
    let dir = tempfile::tempdir().unwrap();
    let house = House::build(dir.path(), Built::in_target().unwrap()).await.unwrap();
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../packaging/grafana/wharf.json");
    let dashboard: Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    let mut all = Vec::new();
    queries(&dashboard, &mut all);
    assert!(all.len() > 30, "{all:?}");
    let wanted: BTreeSet<String> = all.iter().map(|query| base(&asked(query).0).to_owned()).collect();

    // What is only there when something happens: a deploy with a task and a slot, a wrong token, a job with findings.
    let wrong = http().get(format!("{}/v1/services", house.client.url)).bearer_auth("wrong").send().await.unwrap();
    assert_eq!(wrong.status(), 401);
    house.client.post("/v1/admin/jobs/orphans/force", &json!({})).await.unwrap();
    let (status, _) = house.whmcs.post("create", &params(1, "linked", "", json!({}))).await.unwrap();
    assert_eq!(status, 200);
    let begun = Instant::now();
    let mut seen = Series::new();
    loop {
        given(&house.client.text("/metrics").await.unwrap(), &mut seen);
        let missing: Vec<_> = wanted.iter().filter(|name| !seen.keys().any(|s| base(s) == *name)).collect();
        if missing.is_empty() {
            break;
        }
        assert!(begun.elapsed() < PATIENCE, "the host never gave {missing:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    house.until("1", "active", PATIENCE).await.unwrap();
    given(&house.client.text("/metrics").await.unwrap(), &mut seen);

    for query in &all {
        let (name, picked) = asked(query);
        let has = seen.get(&name).unwrap_or_else(|| panic!("`{query}`: the host gives no {name}: {seen:#?}"));
        for label in picked.iter().filter(|label| !OF_THE_TARGET.contains(&label.as_str())) {
            assert!(has.contains(label), "`{query}`: {name} has no label {label}, it has {has:?}");
        }
    }
    for (name, labels) in &seen {
        assert!(wanted.contains(base(name)), "the dashboard does not show {name}");
        let clash = OF_THE_TARGET.iter().find(|label| labels.contains(**label));
        assert!(clash.is_none(), "{name} has a label {clash:?}, which Prometheus gives to the target");
    }
}
