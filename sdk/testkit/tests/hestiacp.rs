//! The façade of HestiaCP, served and asked by plain HTTP as `curl -d` would: it answers what was measured and read.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use wharf_testkit::{
    facade::Refusal,
    facades::hestiacp::{BAN_AFTER, COMMANDS, HestiaCp, Login},
    faults::{Fault, Mishap, Target},
    model::Record,
    peer::Peer,
};

const ZONE: &str = "example.test.";

struct Panel {
    peer: Peer,
    client: reqwest::Client,
    truth: HestiaCp,
}

/// What came back: status, exit code, body.
type Said = (u16, Option<String>, String);

fn said(status: u16, exit: &str, body: &str) -> Said {
    (status, Some(exit.into()), body.into())
}

fn bare(body: &str) -> Said {
    (200, None, body.into())
}

async fn panel_with(truth: HestiaCp) -> Panel {
    let peer = Peer::start(Box::new(truth.clone())).await.unwrap();
    peer.add_zone(ZONE, 2);
    // reqwest asks for one, though nothing here is encrypted.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let client = reqwest::Client::builder().redirect(reqwest::redirect::Policy::none()).build().unwrap();
    Panel { peer, client, truth }
}

async fn panel() -> Panel {
    panel_with(HestiaCp::default()).await
}

impl Panel {
    async fn post(&self, fields: &[(&str, &str)]) -> Said {
        self.post_from("", fields).await
    }

    async fn post_from(&self, address: &str, fields: &[(&str, &str)]) -> Said {
        let request = self.client.post(format!("{}/api/", self.peer.url)).header("x-forwarded-for", address);
        let answer = request.form(fields).send().await.unwrap();
        let exit = answer.headers().get("hestia-exit-code").map(|v| v.to_str().unwrap().to_owned());
        (answer.status().as_u16(), exit, answer.text().await.unwrap())
    }

    async fn with(&self, login: &[(&str, &str)], cmd: &str, arguments: &[&str]) -> Said {
        let names: Vec<String> = (1..=arguments.len()).map(|n| format!("arg{n}")).collect();
        let mut fields = login.to_vec();
        fields.push(("cmd", cmd));
        fields.extend(names.iter().map(String::as_str).zip(arguments.iter().copied()));
        self.post(&fields).await
    }

    /// With the access key.
    async fn run(&self, cmd: &str, arguments: &[&str]) -> Said {
        let login = [("access_key", self.truth.access_key.as_str()), ("secret_key", &self.truth.secret_key)];
        self.with(&login, cmd, arguments).await
    }

    /// With the key file; `code`: with `returncode=yes`.
    async fn legacy(&self, code: bool, cmd: &str, arguments: &[&str]) -> Said {
        let mut login = vec![("hash", self.truth.key_file.as_str())];
        if code {
            login.push(("returncode", "yes"));
        }
        self.with(&login, cmd, arguments).await
    }

    async fn add(&self, rest: &[&str]) -> Said {
        self.run("v-add-dns-record", &[&["wharf", "example.test"], rest].concat()).await
    }

    async fn records(&self) -> Value {
        let (status, _, text) = self.run("v-list-dns-records", &["wharf", "example.test", "json"]).await;
        assert_eq!(status, 200);
        serde_json::from_str(&text).unwrap()
    }

    fn data(&self, name: &str, rtype: &str) -> Vec<String> {
        self.peer.model().zone(ZONE).unwrap().data(name, rtype).into_iter().map(String::from).collect()
    }
}

#[tokio::test]
async fn with_an_access_key_the_header_tells_and_nothing_is_204() {
    let panel = panel().await;
    assert_eq!(panel.add(&["a", "A", "192.0.2.1"]).await, said(204, "0", ""));
    let (status, exit, list) = panel.run("v-list-dns-records", &["wharf", "example.test", "json"]).await;
    assert_eq!((status, exit.as_deref()), (200, Some("0")));
    assert_eq!(serde_json::from_str::<Value>(&list).unwrap()["6"]["VALUE"], "192.0.2.1");
    // With returncode=yes the body is the code, and the text is lost.
    let coded = [
        ("access_key", panel.truth.access_key.as_str()),
        ("secret_key", &panel.truth.secret_key),
        ("returncode", "yes"),
    ];
    assert_eq!(panel.with(&coded, "v-list-dns-domain", &["wharf", "no.test", "json"]).await, said(200, "3", "3"));
    // Both halves in one field, and JSON in place of a form.
    let hash = format!("{}:{}", panel.truth.access_key, panel.truth.secret_key);
    assert_eq!(panel.with(&[("hash", &hash)], "v-list-dns-domains", &["wharf", "json"]).await.0, 200);
    let body = json!({"access_key": panel.truth.access_key, "secret_key": panel.truth.secret_key,
        "cmd": "v-list-dns-domains", "arg1": "wharf", "arg2": "json"});
    let answer = panel.client.post(format!("{}/api/index.php", panel.peer.url)).json(&body).send().await.unwrap();
    assert_eq!(answer.headers()["content-type"], "application/json; charset=utf-8");
    let domains: Value = answer.json().await.unwrap();
    assert_eq!(
        (&domains["example.test"]["TTL"], &domains["example.test"]["SUSPENDED"]),
        (&json!("14400"), &json!("no"))
    );
}

#[tokio::test]
async fn statuses_follow_exit_codes_and_a_suspended_domain_is_401() {
    let panel = panel().await;
    let missing = panel.run("v-list-dns-records", &["wharf", "no.test", "json"]).await;
    assert_eq!(missing, said(400, "3", "Error: dns domain no.test doesn't exist"));
    assert_eq!(panel.add(&["a--b", "A", "192.0.2.1"]).await, said(422, "2", "Error: invalid record format :: a--b"));
    assert_eq!(panel.add(&["a", "A"]).await.1.as_deref(), Some("1"));
    panel.peer.model().zone_mut(ZONE).unwrap().writable = false;
    assert_eq!(panel.add(&["a", "A", "192.0.2.1"]).await, said(401, "5", "Error: dns example.test is suspended"));
    {
        let mut model = panel.peer.model();
        let zone = model.zone_mut(ZONE).unwrap();
        (zone.writable, zone.records_max) = (true, Some(zone.records.len()));
    }
    let full = "Error: DNS_RECORDS limit is reached :: upgrade user package";
    assert_eq!(panel.add(&["a", "A", "192.0.2.1"]).await, said(400, "8", full));
}

#[tokio::test]
async fn a_key_file_or_a_password_answers_200_whatever_a_command_came_to() {
    let panel = panel().await;
    let add = ["wharf", "example.test", "a", "A", "192.0.2.1"];
    let bad = ["wharf", "example.test", "a--b", "A", "192.0.2.1"];
    assert_eq!(panel.legacy(false, "v-add-dns-record", &add).await, bare("OK"));
    assert_eq!(panel.legacy(true, "v-add-dns-record", &add).await, bare("0"));
    assert_eq!(panel.legacy(false, "v-add-dns-record", &bad).await, bare("Error: invalid record format :: a--b\n"));
    assert_eq!(panel.legacy(true, "v-add-dns-record", &bad).await, bare("2"));
    // A command that does not exist is OK, too.
    assert_eq!(panel.legacy(false, "v-no-such-command", &["wharf"]).await, bare("OK"));
    assert_ne!(panel.legacy(true, "v-no-such-command", &["wharf"]).await, bare("0"));
    let by_password = [("user", "admin"), ("password", panel.truth.password.as_str())];
    let (status, exit, text) = panel.with(&by_password, "v-list-dns-records", &["wharf", "example.test", "json"]).await;
    assert_eq!((status, exit), (200, None));
    assert!(serde_json::from_str::<Value>(&text).is_ok());
    let wrong = said(401, "9", "Error: authentication failed");
    assert_eq!(panel.with(&[("hash", "wrong")], "v-list-dns-domains", &["wharf"]).await, wrong);
    assert_eq!(panel.with(&[("user", "admin"), ("password", "x")], "v-list-dns-domains", &["wharf"]).await, wrong);
    let other = said(401, "10", "Error: authentication failed");
    assert_eq!(panel.with(&[("user", "wharf"), ("password", "x")], "v-list-dns-domains", &["wharf"]).await, other);
}

#[tokio::test]
async fn what_is_no_request_of_the_api_is_refused() {
    let panel = panel().await;
    assert_eq!(panel.post(&[("cmd", "v-list-dns-domains")]).await.0, 405);
    let url = format!("{}/api/", panel.peer.url);
    assert_eq!(panel.client.get(&url).send().await.unwrap().status(), 405);
    let elsewhere = format!("{}/login/", panel.peer.url);
    assert_eq!(panel.client.get(&elsewhere).send().await.unwrap().status(), 404);
    assert_eq!(panel.run("v-list-dns-domains; id", &["wharf"]).await.1.as_deref(), Some("2"));
}

#[tokio::test]
async fn switched_off_and_strange_addresses_have_codes_of_their_own() {
    let off = panel_with(HestiaCp { is_on: false, ..HestiaCp::default() }).await;
    assert_eq!(off.add(&["a", "A", "192.0.2.1"]).await, said(400, "11", "Error: API has been disabled"));
    let strange = panel_with(HestiaCp { admits_address: false, ..HestiaCp::default() }).await;
    let text = "Error: IP is not allowed to connect with API";
    assert_eq!(strange.add(&["a", "A", "192.0.2.1"]).await, said(401, "10", text));
}

#[tokio::test]
async fn a_key_runs_the_commands_of_its_profile_for_its_own_user() {
    let mut truth = HestiaCp::default();
    truth.permissions.remove("v-add-dns-record");
    let panel = panel_with(truth).await;
    let (status, exit, text) = panel.add(&["a", "A", "192.0.2.1"]).await;
    assert_eq!((status, exit.as_deref()), (401, Some("10")));
    assert!(text.contains("don't have permission to run the command v-add-dns-record"), "{text}");
    assert_eq!(panel.run("v-delete-user", &["wharf"]).await.1.as_deref(), Some("10"));
    let other = panel.run("v-list-dns-domains", &["somebody", "json"]).await;
    assert_eq!((other.0, other.1.as_deref()), (401, Some("10")));
}

#[tokio::test]
async fn five_failed_logins_close_the_firewall_for_that_client() {
    let panel = panel().await;
    let wrong =
        [("access_key", panel.truth.access_key.as_str()), ("secret_key", "wrong"), ("cmd", "v-list-dns-domains")];
    let right = [
        ("access_key", panel.truth.access_key.as_str()),
        ("secret_key", &panel.truth.secret_key),
        ("cmd", "v-list-dns-domains"),
        ("arg1", "wharf"),
    ];
    for _ in 0..BAN_AFTER {
        assert_eq!(panel.post_from("192.0.2.9", &wrong).await.1.as_deref(), Some("9"));
    }
    let banned = panel.post_from("192.0.2.9", &right).await;
    assert_eq!((banned.0, banned.1), (403, None));
    assert_eq!(panel.post_from("192.0.2.10", &right).await.0, 200);
}

#[tokio::test]
async fn the_id_stands_before_the_restart_in_add_and_nowhere_else() {
    let panel = panel().await;
    // USER DOMAIN RECORD TYPE VALUE PRIORITY ID RESTART TTL
    assert_eq!(panel.add(&["a", "A", "192.0.2.1", "", "20", "no", "60"]).await.0, 204);
    assert_eq!(panel.records().await["20"]["TTL"], "60");
    assert_eq!(panel.add(&["b", "A", "192.0.2.1", "", "20"]).await, said(400, "4", "Error: ID=20 already exists"));
    // As Hestia's own test has it: `yes` is no id.
    assert_eq!(panel.add(&["b", "A", "192.0.2.1", "", "yes", "20"]).await.1.as_deref(), Some("2"));
    // USER DOMAIN ID RECORD TYPE VALUE PRIORITY RESTART TTL
    let change = ["wharf", "example.test", "20", "a", "A", "192.0.2.2", "", "no", "60"];
    assert_eq!(panel.run("v-change-dns-record", &change).await, said(204, "0", ""));
    assert_eq!(panel.run("v-change-dns-record", &change).await, said(400, "4", "No pending changes in DNS entry."));
    // USER DOMAIN ID RESTART
    assert_eq!(panel.run("v-delete-dns-record", &["wharf", "example.test", "20", "no"]).await.0, 204);
    let gone = panel.run("v-delete-dns-record", &["wharf", "example.test", "20", "no"]).await;
    assert_eq!(gone, said(400, "3", "Error: example.test id 20 doesn't exist"));
}

#[tokio::test]
async fn ids_are_the_highest_and_one_so_that_they_are_given_out_again() {
    let panel = panel().await;
    let highest = || panel.peer.model().zone(ZONE).unwrap().records.last().unwrap().id.clone();
    panel.add(&["a", "A", "192.0.2.1"]).await;
    let first = highest();
    panel.run("v-delete-dns-record", &["wharf", "example.test", &first]).await;
    panel.add(&["b", "A", "192.0.2.2"]).await;
    assert_eq!(highest(), first);
}

#[tokio::test]
async fn the_same_again_is_a_second_line_and_a_deletion_takes_all_lines_of_an_id() {
    let panel = panel().await;
    for _ in 0..2 {
        assert_eq!(panel.add(&["a", "A", "192.0.2.1"]).await.0, 204);
    }
    let name = "a.example.test.";
    assert_eq!(panel.data(name, "A"), ["192.0.2.1", "192.0.2.1"]);
    let twice = Record { id: "90".into(), ..Record::new("c.example.test.", "A", "192.0.2.3", 60) };
    let other = Record { id: "90".into(), ..Record::new("d.example.test.", "TXT", "\"x\"", 60) };
    panel.peer.model().zone_mut(ZONE).unwrap().records.extend([twice, other]);
    // The listing has the key twice.
    let (_, _, text) = panel.run("v-list-dns-records", &["wharf", "example.test", "json"]).await;
    assert_eq!(text.matches("    \"90\": {").count(), 2);
    panel.run("v-delete-dns-record", &["wharf", "example.test", "90"]).await;
    assert!(panel.data("c.example.test.", "A").is_empty() && panel.data("d.example.test.", "TXT").is_empty());
}

#[tokio::test]
async fn the_last_address_and_the_last_name_server_stay() {
    let panel = panel().await;
    panel
        .peer
        .model()
        .zone_mut(ZONE)
        .unwrap()
        .records
        .retain(|r| r.data == "198.51.100.1" || r.data == "ns1.panel.test.");
    for (rtype, id) in [("A", "3"), ("NS", "1")] {
        let text = format!("Error: at least one {rtype} record should remain active");
        assert_eq!(panel.run("v-delete-dns-record", &["wharf", "example.test", id]).await, said(422, "2", &text));
    }
}

#[tokio::test]
async fn names_are_checked_and_kept_as_the_shell_does() {
    let panel = panel().await;
    for good in ["*", "*.sub", "_x", "@", "xn--bcher-kva"] {
        assert_eq!(panel.add(&[good, "A", "192.0.2.1"]).await.0, 204, "{good}");
    }
    for bad in ["a--b", "a__b", "a/b", "-a", "a-", "a..b"] {
        assert_eq!(panel.add(&[bad, "A", "192.0.2.1"]).await.0, 422, "{bad}");
    }
    // An owner of a type with a host name is kept as A-labels, and its hyphens are two.
    assert_eq!(panel.add(&["xn--bcher-kva", "CNAME", "a.example.test"]).await.0, 422);
    assert_eq!(panel.add(&["@", "CNAME", "a.example.test"]).await.0, 422);
    let list = panel.records().await;
    let kept: Vec<&str> = list.as_object().unwrap().values().map(|r| r["RECORD"].as_str().unwrap()).collect();
    assert!(kept.contains(&"bücher") && !kept.contains(&"xn--bcher-kva"), "{kept:?}");
    assert_eq!(panel.data("xn--bcher-kva.example.test.", "A"), ["192.0.2.1"]);
    // The zone's own name: a final dot is refused by listings and taken away by the others.
    assert_eq!(panel.run("v-list-dns-records", &["wharf", "example.test.", "json"]).await.1.as_deref(), Some("2"));
    assert_eq!(panel.run("v-add-dns-record", &["wharf", "example.test.", "dot", "A", "192.0.2.1"]).await.0, 204);
    for zone in ["64/26.2.0.192.in-addr.arpa", "_tcp.example.test"] {
        assert_eq!(panel.run("v-list-dns-domain", &["wharf", zone, "json"]).await.1.as_deref(), Some("2"));
    }
}

#[tokio::test]
async fn values_get_their_dot_and_their_quotes_and_lose_their_backslashes() {
    let panel = panel().await;
    assert_eq!(panel.add(&["7", "PTR", "vm.example.test"]).await.0, 204);
    assert_eq!(panel.data("7.example.test.", "PTR"), ["vm.example.test."]);
    let one_label = panel.add(&["8", "PTR", "localhost"]).await;
    assert_eq!(one_label, said(422, "2", "Error: PTR record localhost should be a fully qualified domain name (FQDN)"));
    assert_eq!(panel.add(&["m", "MX", "mail.example.test"]).await.0, 204);
    assert_eq!(panel.data("m.example.test.", "MX"), ["10 mail.example.test."]);
    panel.add(&["t", "TXT", "\"v=spf1 -all\"", "", "50"]).await;
    panel.add(&["u", "TXT", "\"bare\"", "", "51"]).await;
    panel.add(&["w", "TXT", r"a\dq", "", "52"]).await;
    let list = panel.records().await;
    assert_eq!([&list["50"]["VALUE"], &list["51"]["VALUE"], &list["52"]["VALUE"]], ["\"v=spf1 -all\"", "bare", "adq"]);
    for (bad, why) in [
        (["x", "A", "300.0.2.1"], "invalid ip"),
        (["x", "TYPE65", "x"], "invalid dns record type"),
        (["x", "A", "::1"], "invalid ip"),
    ] {
        assert!(panel.add(&bad).await.2.contains(why), "{bad:?}");
    }
}

#[tokio::test]
async fn ttls_are_not_bounded_and_the_zones_stands_in_for_none() {
    let panel = panel().await;
    panel.add(&["z", "A", "192.0.2.1", "", "50", "", "0"]).await;
    panel.add(&["n", "A", "192.0.2.1", "", "51", "", ""]).await;
    assert_eq!(panel.add(&["h", "A", "192.0.2.1", "", "52", "", "99999999999"]).await.0, 204);
    assert_eq!(panel.add(&["x", "A", "192.0.2.1", "", "53", "", "-1"]).await.0, 422);
    let list = panel.records().await;
    assert_eq!([&list["50"]["TTL"], &list["51"]["TTL"]], ["0", "14400"]);
}

#[tokio::test]
async fn a_restart_is_one_of_few_words() {
    let panel = panel().await;
    for word in ["yes", "no", "ssl", "reload", "updatessl", "scheduled", ""] {
        assert_eq!(panel.add(&["a", "A", "192.0.2.1", "", "", word, ""]).await.0, 204, "{word}");
    }
    assert_eq!(panel.add(&["a", "A", "192.0.2.1", "", "", "now", ""]).await.0, 422);
}

#[tokio::test]
async fn the_listing_is_put_together_by_a_shell() {
    let panel = panel().await;
    panel.peer.model().zone_mut(ZONE).unwrap().records.push(Record::new("t.example.test.", "TXT", "\"a\u{1}b\"", 60));
    let (_, _, text) = panel.run("v-list-dns-records", &["wharf", "example.test", "json"]).await;
    assert!(serde_json::from_str::<Value>(&text).is_err(), "a control character is not escaped");
    let shell = panel.run("v-list-dns-records", &["wharf", "example.test"]).await;
    assert!(shell.2.starts_with("ID RECORD TYPE"), "JSON is printed only where it is asked for");
}

#[tokio::test]
async fn a_record_command_takes_its_time_where_a_test_wants_it_and_refusals_are_in_its_own_words() {
    let pace = Duration::from_millis(120);
    let panel = panel_with(HestiaCp { pace, ..HestiaCp::default() }).await;
    let began = Instant::now();
    panel.add(&["a", "A", "192.0.2.1"]).await;
    assert!(began.elapsed() >= pace);
    for (why, status, exit) in
        [(Refusal::Credentials, 401, "9"), (Refusal::Forbidden, 401, "10"), (Refusal::Quota, 400, "8")]
    {
        panel.peer.arm(Fault::once(Target::Any, Mishap::Refused(why)));
        let refused = panel.add(&["b", "A", "192.0.2.1"]).await;
        assert_eq!((refused.0, refused.1.as_deref()), (status, Some(exit)));
    }
}

#[tokio::test]
async fn settings_are_those_of_the_way_to_log_in() {
    assert_eq!(COMMANDS.len(), 6);
    for (login, field) in
        [(Login::AccessKey, "secret-key"), (Login::Password, "password"), (Login::KeyFile, "key-file")]
    {
        let panel = panel_with(HestiaCp::default().with_login(login)).await;
        let settings = panel.peer.settings();
        assert_eq!(settings["server-url"], panel.peer.url);
        assert!(settings[field].is_string(), "{settings}");
    }
}
