//! What the host logs, for machines that read it.

use std::time::Duration;

use postgres_peer::Server;
use serde_json::{Value, json};
use wharf_e2e::{
    client::http,
    journey::{Built, House, Setup},
    whmcs::params,
};

const PATIENCE: Duration = Duration::from_secs(120);

#[tokio::test(flavor = "multi_thread")]
async fn each_line_about_a_service_names_it_its_operation_and_its_server() {
    let dir = tempfile::tempdir().unwrap();
    let setup = Setup { settings: "log_format = \"json\"\n".into(), ..Setup::default() };
    let house = House::with(dir.path(), Built::in_target().unwrap(), setup).await.unwrap();
    // The server is parked in the middle of a step.
    let refusal =
        json!({"method": "POST", "path": "/clone", "times": 1, "what": {"refuse": {"status": 401, "text": "no"}}});
    http().post(format!("{}/_sim/fault", house.sim.url)).json(&refusal).send().await.unwrap();
    let (status, _) = house.whmcs.post("create", &params(6301, "linked", "", json!({}))).await.unwrap();
    assert_eq!(status, 200);
    let lines = || -> Vec<Value> {
        let text = std::fs::read_to_string(house.dir.join("wharf.log")).unwrap();
        text.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}"))).collect()
    };
    let parked = async || loop {
        let found = lines().into_iter().find(|l| l["fields"]["message"].as_str().unwrap().starts_with("server parked"));
        if let Some(line) = found {
            return line;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    };
    let parked = tokio::time::timeout(PATIENCE, parked()).await.expect("the log does not say that a server is parked");
    assert_eq!((&parked["level"], &parked["fields"]["server"]), (&json!("ERROR"), &json!("pve")));
    let test = house.client.post("/v1/admin/servers/pve/test", &json!({})).await.unwrap();
    assert_eq!(test["ok"], true, "{test}");
    // An admin's test ends the parking; the operation goes on by itself, in its own time.
    let service = house.client.get("/v1/services/shop:6301").await.unwrap();
    let operation = service["operation"]["id"].clone();
    let about =
        json!({"name": "run", "service": "shop:6301", "operation": operation, "kind": "deploy", "server": "pve"});
    assert_eq!(parked["span"], about);
    house.until("6301", "active", PATIENCE).await.unwrap();
    for message in ["operation accepted", "operation ended"] {
        let lines = lines();
        let line = lines.iter().find(|l| l["fields"]["message"] == message).expect(message);
        for (key, value) in about.as_object().unwrap().iter().filter(|(key, _)| *key != "name") {
            let told = [&line["fields"], &line["span"]].iter().any(|part| part[key] == *value);
            assert!(told, "{key} is not in {line}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_start_on_postgresql_says_nothing_of_tables_that_are_there_unless_an_admin_asks_for_it() {
    let notice = "already exists, skipping";
    let postgres = Server::start();
    let dir = tempfile::tempdir().unwrap();
    let setup = Setup { database: Some(postgres.database("books", None)), ..Setup::default() };
    let mut house = House::with(dir.path(), Built::in_target().unwrap(), setup).await.unwrap();
    let said = async |house: &mut House, filter: &str, log: &str| {
        house.setup.log = filter.into();
        house.wharf = None;
        house.wharf = Some(house.another_host(log).await.unwrap());
        let whole = async || loop {
            let text = std::fs::read_to_string(house.dir.join(log)).unwrap();
            if text.contains("serving") {
                return text;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        };
        tokio::time::timeout(PATIENCE, whole()).await.expect("the log does not say that it serves")
    };
    let quiet = said(&mut house, "info", "quiet.log").await;
    assert!(!quiet.contains(notice), "{quiet}");
    let asked = said(&mut house, "info,sqlx=info", "asked.log").await;
    assert!(asked.contains(notice), "{asked}");
}
