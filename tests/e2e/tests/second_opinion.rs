//! The real host over TLS against fakepve, which other people wrote: provisioning, refused tokens, missing privileges,
//! faults. Where it is not stateful (migration, resizing, allocation by configuration), `docs/second-opinion.md` says so.

use std::time::{Duration, Instant};

use crate::opinions::{SECRET, TOKEN, committed, settings, table};
use serde_json::{Value, json};
use tempfile::TempDir;
use wharf_e2e::{
    client::http,
    fakepve::{Fakepve, LEAST, Privileges, least},
    journey::{Built, House, Setup},
    whmcs::params,
};

const PATIENCE: Duration = Duration::from_secs(120);

/// A house whose cluster is fakepve, where a second takes 20 ms; and the same on pve-sim.
struct Stage {
    house: House,
    fake: Option<Fakepve>,
    _dir: TempDir,
}

impl Stage {
    async fn on_fakepve() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut world = settings();
        world["privileges"] = json!({TOKEN: least()});
        world["time_scale"] = json!(0.02);
        let fake = Fakepve::start(&dir.path().join("fakepve"), &world).await.unwrap();
        let server = json!({"urls": [fake.url], "fingerprints": [fake.fingerprint], "timeout_ms": 4_000, "heavy_timeout_ms": 4_000});
        Self::build(dir, json!({}), server, Some(fake)).await
    }

    async fn on_pve_sim() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut world = settings();
        world["privileges"] = json!({TOKEN: least()});
        world.as_object_mut().unwrap().remove("tokens");
        Self::build(dir, world, json!({}), None).await
    }

    async fn build(dir: TempDir, cluster: Value, server: Value, fake: Option<Fakepve>) -> Self {
        let setup = Setup { cluster, server, ..Setup::default() };
        assert_eq!(setup.secrets.pve, SECRET);
        let house = House::with(&dir.path().join("house"), Built::in_target().unwrap(), setup).await.unwrap();
        let plan = |settings: Value| json!({"plugin": "proxmox-kvm", "server": "pve", "settings": settings});
        let full = json!({"image": "debian-12-local", "clone": "full", "node": "pve1", "main-domain": "example.com"});
        house.client.put("/v1/admin/plans/full", &plan(full)).await.unwrap();
        let local = json!({"image": "debian-12-local", "main-domain": "example.com"});
        house.client.put("/v1/admin/plans/local", &plan(local)).await.unwrap();
        let plans = ["linked", "migrated", "dual-stack", "full", "local"];
        let panel = json!({"plugin": "panel-whmcs", "plans": plans, "secret": house.setup.secrets.panel});
        house.client.put("/v1/admin/panels/shop", &panel).await.unwrap();
        Self { house, fake, _dir: dir }
    }

    fn fake(&self) -> &Fakepve {
        self.fake.as_ref().unwrap()
    }

    async fn say(&self, verb: &str, service: u32, plan: &str, options: Value) {
        let order = params(service, plan, &format!("vm{service}.example.com"), options);
        let (status, text) = self.house.whmcs.post(verb, &order).await.unwrap();
        assert_eq!((status, text.trim()), (200, "success"), "{verb} of {service}");
    }

    async fn service(&self, service: u32) -> Value {
        self.house.client.get(&format!("/v1/services/shop:{service}")).await.unwrap_or_default()
    }

    /// Until the newest operation of this kind is over, or waits with a reason that names `word`: its state and reason.
    async fn over_or_stuck(&self, service: u32, kind: &str, word: &str) -> Option<(String, String)> {
        self.watch(service, kind, |reason, _| reason.contains(word)).await
    }

    /// The same, for whatever it waits for: a privilege, or anything that does not pass within 4 s.
    async fn over_or_waiting(&self, service: u32, kind: &str) -> Option<(String, String)> {
        self.watch(service, kind, |reason, for_| reason.contains("privilege") || for_ > Duration::from_secs(4)).await
    }

    async fn watch(
        &self,
        service: u32,
        kind: &str,
        enough: impl Fn(&str, Duration) -> bool,
    ) -> Option<(String, String)> {
        let begun = Instant::now();
        let mut last = Value::Null;
        let mut stands = (String::new(), String::new(), Instant::now());
        while begun.elapsed() < PATIENCE {
            last = self.service(service).await;
            let operation = &last["operation"];
            if operation["kind"] == kind {
                if operation["status"] == "succeeded" {
                    return None;
                }
                let reason = operation["reason"]["message"].as_str().unwrap_or_default().to_owned();
                let state = operation["state"].as_str().unwrap_or_default().to_owned();
                if reason.is_empty() || (&state, &reason) != (&stands.0, &stands.1) {
                    stands = (state.clone(), reason.clone(), Instant::now());
                }
                if !reason.is_empty() && enough(&reason, stands.2.elapsed()) {
                    return Some((state, reason));
                }
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        let log = self.house.client.text(&format!("/v1/services/shop:{service}/log")).await.unwrap_or_default();
        panic!("{kind} of {service} is neither over nor waits as expected: {last}\n{log}");
    }

    async fn done(&self, service: u32, kind: &str) {
        let stuck = self.over_or_stuck(service, kind, "\u{0}").await;
        assert_eq!(stuck, None);
    }

    /// An admin's retry, if the operation needs one; what waits tries again by itself.
    async fn resume(&self, service: u32) {
        let operation = self.service(service).await["operation"].clone();
        if operation["status"] == "needs-admin" {
            let id = operation["id"].as_str().unwrap();
            self.house.client.post(&format!("/v1/operations/{id}/resume"), &json!({})).await.unwrap();
        }
    }

    /// What the token holds from now on.
    async fn grant(&self, privileges: &Privileges) {
        if let Some(fake) = &self.fake {
            return fake.privileges(TOKEN, privileges).await.unwrap();
        }
        let url = format!("{}/_sim/condition", self.house.sim.url);
        let condition = json!({"privileges": [TOKEN, privileges]});
        http().post(url).json(&condition).send().await.unwrap().error_for_status().unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn services_live_and_end_on_fakepve() {
    let stage = Stage::on_fakepve().await;
    for (service, plan) in [(1, "linked"), (2, "full")] {
        stage.say("create", service, plan, json!({"CPU Cores": "2", "RAM": "2"})).await;
        stage.done(service, "deploy").await;
        let shown = stage.service(service).await;
        assert_eq!(shown["phase"], "active", "{shown}");
        let vmid = shown["vmid"].as_u64().unwrap();
        let address = shown["addresses"][0].as_str().unwrap().to_owned();
        let vm = stage.fake().state().await.unwrap()["vms"][vmid.to_string()].clone();
        assert_eq!(vm["running"], true, "{vm}");
        let config = &vm["config"];
        assert_eq!((config["cores"].as_str(), config["memory"].as_str()), (Some("2"), Some("2048")), "{config}");
        assert!(config["ipconfig0"].as_str().unwrap().contains(&address), "{config}");
        assert!(config["net0"].as_str().unwrap().contains("firewall=1"), "{config}");
        assert!(config["description"].as_str().unwrap().contains("wharf:"), "{config}");

        stage.say("suspend", service, plan, json!({})).await;
        stage.done(service, "suspend").await;
        let vm = stage.fake().state().await.unwrap()["vms"][vmid.to_string()].clone();
        assert_eq!((vm["running"].as_bool(), vm["config"]["onboot"].as_str()), (Some(false), Some("0")), "{vm}");
        stage.say("unsuspend", service, plan, json!({})).await;
        stage.done(service, "unsuspend").await;
        let vm = stage.fake().state().await.unwrap()["vms"][vmid.to_string()].clone();
        assert_eq!((vm["running"].as_bool(), vm["config"]["onboot"].as_str()), (Some(true), Some("1")), "{vm}");

        stage.say("terminate", service, plan, json!({})).await;
        stage.done(service, "terminate").await;
        assert_eq!(stage.service(service).await["phase"], "terminated");
        let state = stage.fake().state().await.unwrap();
        assert_eq!(state["vms"][vmid.to_string()], Value::Null);
        let left = state["volumes"].as_array().unwrap().iter().filter_map(Value::as_str);
        let left: Vec<&str> = left.filter(|volume| volume.contains(&format!("vm-{vmid}-"))).collect();
        assert!(left.is_empty(), "{left:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_secret_is_told_by_the_test_and_parks_the_server() {
    let stage = Stage::on_fakepve().await;
    stage.fake().secrets(&json!({TOKEN: "another"})).await.unwrap();
    let test = stage.house.client.post("/v1/admin/servers/pve/test", &json!({})).await.unwrap();
    assert_eq!(test["ok"], false);
    let line = test["lines"].as_array().unwrap().iter().find(|l| l["ok"] == false).unwrap();
    assert_eq!(line["step"], "credentials", "{test}");
    stage.say("create", 1, "linked", json!({})).await;
    let (_, reason) = stage.over_or_stuck(1, "deploy", "refused the token").await.unwrap();
    assert!(reason.contains(TOKEN) && !reason.contains(SECRET), "{reason}");
    let asked = stage.fake().state().await.unwrap()["requests"].as_array().unwrap().len();
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(stage.fake().state().await.unwrap()["requests"].as_array().unwrap().len(), asked, "left alone");
    stage.fake().secrets(&json!({TOKEN: SECRET})).await.unwrap();
    let test = stage.house.client.post("/v1/admin/servers/pve/test", &json!({})).await.unwrap();
    assert_eq!(test["ok"], true, "{test}");
    stage.resume(1).await;
    stage.done(1, "deploy").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn another_certificate_is_not_talked_to() {
    let stage = Stage::on_fakepve().await;
    let wrong = vec!["AB"; 32].join(":");
    let server = json!({"urls": [stage.fake().url], "fingerprints": [wrong], "token_id": TOKEN, "secret": SECRET});
    stage.house.client.put("/v1/admin/servers/other", &server).await.unwrap();
    let asked = stage.fake().state().await.unwrap()["requests"].as_array().unwrap().len();
    let test = stage.house.client.post("/v1/admin/servers/other/test", &json!({})).await.unwrap();
    assert_eq!((test["ok"].as_bool(), test["lines"][0]["step"].as_str()), (Some(false), Some("reach")), "{test}");
    assert!(test["lines"][0]["detail"].as_str().unwrap().contains("fingerprint"), "{test}");
    let after = stage.fake().state().await.unwrap()["requests"].as_array().unwrap().len();
    assert_eq!(after, asked, "the token was not shown to it");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_offline_node_and_a_lost_quorum_of_fakepve_are_waited_for() {
    let stage = Stage::on_fakepve().await;
    let fake = stage.fake();
    // The node of the template answers 595, through the one that is asked.
    fake.call("set_node_offline", json!(["pve1"]), json!({})).await.unwrap();
    stage.say("create", 1, "linked", json!({})).await;
    stage.over_or_stuck(1, "deploy", "pve1").await.unwrap();
    fake.call("set_node_offline", json!(["pve1", false]), json!({})).await.unwrap();
    stage.done(1, "deploy").await;
    fake.call("lose_quorum", json!([]), json!({})).await.unwrap();
    stage.say("create", 2, "linked", json!({})).await;
    stage.over_or_stuck(2, "deploy", "quorum").await.unwrap();
    fake.call("regain_quorum", json!([]), json!({})).await.unwrap();
    stage.done(2, "deploy").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_and_a_guest_that_will_not_shut_down_are_coped_with() {
    let stage = Stage::on_fakepve().await;
    let fake = stage.fake();
    stage.say("create", 1, "linked", json!({})).await;
    stage.done(1, "deploy").await;
    let vmid = stage.service(1).await["vmid"].as_u64().unwrap();
    fake.call("snapshot_lock", json!([vmid, "backup"]), json!({})).await.unwrap();
    stage.say("suspend", 1, "linked", json!({})).await;
    stage.over_or_stuck(1, "suspend", "`backup`").await.unwrap();
    fake.call("unlock", json!([vmid]), json!({})).await.unwrap();
    stage.done(1, "suspend").await;
    stage.say("unsuspend", 1, "linked", json!({})).await;
    stage.done(1, "unsuspend").await;
    fake.guest(vmid, &json!({"acpi": false})).await.unwrap();
    stage.say("terminate", 1, "linked", json!({})).await;
    stage.done(1, "terminate").await;
    assert_eq!(fake.state().await.unwrap()["vms"][vmid.to_string()], Value::Null);
}

#[tokio::test(flavor = "multi_thread")]
async fn lost_connections_make_no_second_vm() {
    let stage = Stage::on_fakepve().await;
    let fake = stage.fake();
    // Every tenth connection breaks, before anything is done.
    fake.call("flaky_network", json!([]), json!({"drop_rate": 0.1, "seed": 7})).await.unwrap();
    for service in [1, 2] {
        stage.say("create", service, "linked", json!({})).await;
        stage.done(service, "deploy").await;
    }
    let guests =
        |state: &Value| state["vms"].as_object().unwrap().values().filter(|vm| vm["template"] == false).count();
    assert_eq!(guests(&fake.state().await.unwrap()), 2);
    // A shutdown that never arrived is told from a guest that is slow by its 120 s alone: not for a test.
    fake.clear_faults().await.unwrap();
    for service in [1, 2] {
        stage.say("terminate", service, "linked", json!({})).await;
        stage.done(service, "terminate").await;
    }
    assert_eq!(guests(&fake.state().await.unwrap()), 0);
}

/// One life without one privilege: at which operation and state it stops, and what the admin reads; `None` = nowhere.
async fn without(
    stage: &Stage,
    service: u32,
    path: &str,
    privilege: &str,
) -> (String, Option<(String, String, String)>) {
    let mut held = least();
    held.get_mut(path).unwrap().retain(|name| name != privilege);
    stage.grant(&held).await;
    let test = stage.house.client.post("/v1/admin/servers/pve/test", &json!({})).await.unwrap();
    let says: Vec<&str> = test["lines"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|line| line["ok"] == false)
        .filter_map(|line| line["detail"].as_str())
        .collect();
    let mut stuck = None;
    for (verb, kind) in
        [("create", "deploy"), ("suspend", "suspend"), ("unsuspend", "unsuspend"), ("terminate", "terminate")]
    {
        let options = json!({"CPU Cores": "2", "RAM": "2", "System Disk Read Bandwidth": "50"});
        stage.say(verb, service, "local", options).await;
        if let Some((state, reason)) = stage.over_or_waiting(service, kind).await {
            stuck = Some((kind.to_owned(), state, reason));
            break;
        }
    }
    // With all of them again, whatever stopped comes to its end.
    stage.grant(&least()).await;
    stage.resume(service).await;
    if stuck.as_ref().is_some_and(|(kind, ..)| kind != "terminate") {
        stage.say("terminate", service, "local", json!({})).await;
    }
    stage.done(service, "terminate").await;
    (says.join("; "), stuck)
}

/// What they do not agree on, and why. pve-sim goes by the schema and by `reference/proxmox.md`.
const DIFFERS: [(&str, &str); 3] = [
    ("Sys.Audit", "Proxmox's schema has `/cluster/status` check it on `/`; fakepve's own handler does not"),
    ("SDN.Use", "§1.3 Clone, §1.4: needed on the bridges of what is cloned; fakepve does not check it"),
    (
        "VM.Config.HWType",
        "§1.3 Cloud-init: its keys need VM.Config.Cloudinit or VM.Config.Network; fakepve takes them for hardware",
    ),
];

#[tokio::test(flavor = "multi_thread")]
async fn each_missing_privilege_is_named_to_the_admin() {
    let (fake, sim) = tokio::join!(Stage::on_fakepve(), Stage::on_pve_sim());
    let mut rows = Vec::new();
    let mut service = 0;
    for (path, names) in LEAST {
        for privilege in names {
            service += 1;
            let (on_fake, on_sim) =
                tokio::join!(without(&fake, service, path, privilege), without(&sim, service, path, privilege));
            // Numbers of VMs are drawn; what the host says is the same but for them.
            let tell = |stuck: &Option<(String, String, String)>| match stuck {
                None => "nothing stops".to_owned(),
                Some((kind, state, reason)) => format!("{kind}, after `{state}`: {}", numberless(reason)),
            };
            assert!(on_fake.0.contains(privilege), "the test of the server does not name {privilege}: {}", on_fake.0);
            assert_eq!(on_fake.0, on_sim.0, "what the test says of {privilege}");
            let (on_fake, on_sim) = (tell(&on_fake.1), tell(&on_sim.1));
            let why = DIFFERS.iter().find(|(name, _)| name == privilege).map(|(_, why)| *why);
            assert_eq!(why.is_some(), on_fake != on_sim, "explained or alike: {privilege}: {on_fake} | {on_sim}");
            let on_sim = if on_sim == on_fake { "the same".to_owned() } else { on_sim };
            rows.push(vec![format!("{privilege} on {path}"), on_fake, on_sim, why.unwrap_or_default().to_owned()]);
        }
    }
    for row in &rows {
        println!("{}", row.join(" | "));
    }
    committed("privileges", &table(&["without", "on fakepve", "on pve-sim", "why they differ"], &rows));
}

fn numberless(reason: &str) -> String {
    let words = reason.split(' ').map(|word| {
        // The template's is not drawn.
        match word.strip_prefix("/vms/").map(|rest| rest.trim_start_matches(|c: char| c.is_ascii_digit())) {
            Some(end) if !word.contains("9000") => format!("/vms/N{end}"),
            _ => word.to_owned(),
        }
    });
    words.collect::<Vec<_>>().join(" ")
}
