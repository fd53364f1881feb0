//! Marked secrets go in, peers echo them in every coding, and nothing that is stored, logged or shown has them.

use std::time::{Duration, Instant};

use crate::marked::{
    ACCOUNT_PASSWORD, PATIENCE, SERVER_PASSWORD, STORE_PASSWORD,
    asked::{addresses, mistakes, support_bundle},
    fault, marked,
    mirror::Mirror,
    order, os_password, put,
    search::{Search, codings, everything, memmem},
};
use percent_encoding::{NON_ALPHANUMERIC, percent_encode};
use serde_json::{Value, json};
use wharf_e2e::{
    client::http,
    collector::Collector,
    journey::{Built, House, Secrets, Setup},
};

#[tokio::test(flavor = "multi_thread")]
async fn a_marked_secret_is_found_nowhere() {
    let dir = tempfile::tempdir().unwrap();
    let secrets = marked();
    let collector = Collector::start(0).await.unwrap();
    let setup = Setup {
        secrets: secrets.clone(),
        log: "trace".into(),
        // Nobody answers there: what names are in the world is not what is looked for here.
        settings: format!(
            "[traces]\nendpoint = {}\n[dns]\nresolvers = [\"127.0.0.1:1\"]\n[names]\nallow = [\"127.0.0.0/8\"]\n",
            json!(collector.url)
        ),
        server: json!({"timeout_ms": 4_000, "heavy_timeout_ms": 4_000}),
        ..Setup::default()
    };
    let house = House::with(dir.path(), Built::in_target().unwrap(), setup).await.unwrap();
    let mirror = Mirror::start(&house.dns.api, &[]).await;
    let receiver = Mirror::start("", &[&secrets.hook]).await;
    for (plugin, origins) in [("dns-powerdns", vec![&mirror.url]), ("hook-webhook", vec![&receiver.url])] {
        let mut grant = house.client.get(&format!("/v1/admin/grants/{plugin}")).await.unwrap()["body"].clone();
        grant["private_origins"] = json!(origins);
        put(&house, &format!("grants/{plugin}"), grant).await;
    }
    for (name, zone) in
        [("forward", "example.com"), ("reverse-v4", "2.0.192.in-addr.arpa"), ("reverse-v6", "8.b.d.0.1.0.0.2.ip6.arpa")]
    {
        // Without the key: what is stored stays.
        let settings = json!({"server-url": mirror.url});
        put(&house, &format!("zones/{name}"), json!({"zone": zone, "plugin": "dns-powerdns", "settings": settings}))
            .await;
    }
    let events = format!("{}/events", receiver.url);
    put(&house, "hooks/receiver", json!({"plugin": "hook-webhook", "settings": {"url": events}})).await;

    // Everything that can fail fails, and says why at length.
    let mut answers = Vec::new();
    mirror.quote(true);
    for _ in 0..codings(&secrets.dns).len() {
        let test = house.client.post("/v1/admin/zones/forward/test", &json!({})).await.unwrap();
        assert_eq!(test["ok"], false);
        answers.push(("the test of a zone".to_owned(), test.to_string().into_bytes()));
    }
    let token = everything(&[&secrets.pve]);
    fault(&house, "GET", "", 8, json!({"refuse": {"status": 500, "text": token}})).await;
    let test = house.client.post("/v1/admin/servers/pve/test", &json!({})).await.unwrap();
    assert_eq!(test["ok"], false);
    answers.push(("the test of a server".to_owned(), test.to_string().into_bytes()));
    http().delete(format!("{}/_sim/fault", house.sim.url)).send().await.unwrap();
    fault(&house, "GET", "", 2, json!({"refuse": {"status": 500, "text": token}})).await;
    fault(&house, "POST", "/clone", 1, json!({"refuse": {"status": 500, "text": token}})).await;
    fault(&house, "POST", "/clone", 1, json!({"task-fails": token})).await;
    fault(&house, "POST", "/status/start", 1, json!({"refuse": {"status": 500, "text": token}})).await;
    let (status, body) = house.whmcs.post("create", &order(6201, "dual-stack", "")).await.unwrap();
    assert_eq!((status, body.trim()), (200, "success"));
    let password = os_password(&house).await;
    let both = everything(&[&password, &secrets.pve]);
    fault(&house, "POST", "/status/start", 1, json!({"task-fails": both})).await;
    fault(&house, "POST", "/status/start", 1, json!({"refuse": {"status": 500, "text": both}})).await;
    house.until("6201", "active", PATIENCE).await.unwrap();
    answers.extend(mistakes(&house, &secrets).await);
    // With its zones as they should be, the rest goes well.
    mirror.quote(false);
    for zone in ["forward", "reverse-v4", "reverse-v6"] {
        let shown = house.client.get(&format!("/v1/admin/zones/{zone}")).await.unwrap();
        put(&house, &format!("zones/{zone}"), shown["body"].clone()).await;
    }
    let (status, body) = house.whmcs.post("create", &order(6202, "linked", "")).await.unwrap();
    assert_eq!((status, body.trim()), (200, "success"));
    house.until("6202", "active", PATIENCE).await.unwrap();
    let begun = Instant::now();
    while house.dns.dig("42-6202.example.com", "A").await.unwrap().is_empty() {
        assert!(begun.elapsed() < PATIENCE, "DNS does not go on");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    fault(&house, "POST", "/status/shutdown", 1, json!({"refuse": {"status": 500, "text": both}})).await;
    fault(&house, "DELETE", "/qemu/", 1, json!({"task-fails": both})).await;
    for phase in ["needs-admin", "terminated"] {
        assert_eq!(house.whmcs.post("terminate", &order(6201, "dual-stack", "")).await.unwrap().0, 200);
        let service = house.until("6201", phase, PATIENCE).await.unwrap();
        let log = house.client.text("/v1/services/shop:6201/log").await.unwrap();
        answers.push((format!("a service that is {phase}, and its log"), format!("{service}\n{log}").into_bytes()));
        if phase == "needs-admin" {
            let files = support_bundle(&house).await;
            let file = |end: &str| {
                let found = files.iter().find(|(name, _)| name.ends_with(end));
                let (_, bytes) = found.unwrap_or_else(|| panic!("{end} is not in {:?}", files.iter().map(|f| &f.0)));
                String::from_utf8_lossy(bytes).into_owned()
            };
            // All that it is for is in it.
            assert!(!file("README.txt").contains("Not in it"), "{}", file("README.txt"));
            let id = service["id"].as_str().unwrap();
            assert!(file(&format!("services/{id}.log")).contains("stuck"), "{}", file(&format!("services/{id}.log")));
            assert!(file(&format!("services/{id}.json")).contains("needs-admin") && file("services.json").contains(id));
            assert!(file("metrics.txt").contains("wharf_operations{status=\"needs-admin\"} 1"));
            for (name, part) in [
                ("machine.txt", "wharf 0."),
                ("host.log", "TRACE"),
                ("plugins.json", "proxmox-kvm"),
                ("objects/servers.json", "wharf@pve!wharf"),
                ("audit.json", "token.create"),
                ("settings.json", "WHARF_STORE__PASSWORD"),
            ] {
                assert!(file(name).contains(part), "{name}: {}", &file(name)[..file(name).len().min(2_000)]);
            }
            answers.extend(files);
        }
    }

    // Webhooks of both services, each refused once.
    let begun = Instant::now();
    while receiver.got.lock().unwrap().len() < 9 {
        assert!(begun.elapsed() < PATIENCE, "webhooks are not delivered");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }

    let mut search = Search::default();
    let Secrets { pve, dns, panel, hook } = &secrets;
    let (_, api_token) = house.client.token.rsplit_once('_').unwrap();
    for (name, value) in [
        ("the token's secret", pve.as_str()),
        ("the DNS key", dns),
        ("the panel's secret", panel),
        ("the hook's secret", hook),
        ("the OS password", &password),
        ("WHMCS' password for the server", SERVER_PASSWORD),
        ("WHMCS' password for the account", ACCOUNT_PASSWORD),
        ("the API token", api_token),
        ("the password in the settings", STORE_PASSWORD),
    ] {
        search.add(name, value);
    }
    // What peers got: the OS password in its field, the key in its header, and nothing else.
    let journal: Value = http().get(format!("{}/_sim/log", house.sim.url)).send().await.unwrap().json().await.unwrap();
    let mut given = 0;
    for entry in journal.as_array().unwrap() {
        let mut entry = entry.clone();
        if let Some(field) = entry["params"].as_object_mut().and_then(|params| params.remove("cipassword")) {
            given += usize::from(field == json!(password));
        }
        search.look("a request to the cluster", entry.to_string().as_bytes());
    }
    assert_eq!(given, 1, "the password is given once");
    for (line, headers, body) in mirror.got.lock().unwrap().iter().chain(receiver.got.lock().unwrap().iter()) {
        let mut headers = headers.clone();
        headers.remove("x-api-key");
        search.look("a request to PowerDNS or a webhook", format!("{line}\n{headers:?}\n").as_bytes());
        search.look("the body of a request to PowerDNS or a webhook", body);
    }
    for event in &house.receiver.seen().events {
        search.look("a webhook", event.to_string().as_bytes());
    }
    for (place, bytes) in &answers {
        search.look(place, bytes);
    }
    // What the host shows, live logs included.
    let shown = addresses(&house, &["6201", "6202"]).await;
    assert!(shown.len() > 40, "{shown:?}");
    for path in &shown {
        for accept in ["*/*", "text/event-stream"] {
            if accept != "*/*" && !path.ends_with("/log") {
                continue;
            }
            let request = http().get(format!("{}{path}", house.client.url)).bearer_auth(&house.client.token);
            let answer = request.header("accept", accept).send().await.unwrap();
            // One zone's provider can't be asked: what is said of that must hold no secret either.
            let asked = path.starts_with("/v1/admin/zones/another/") && answer.status().as_u16() == 502;
            // None is a part of a /24.
            let plain = path.ends_with("/parent") && answer.status().as_u16() == 409;
            assert!(answer.status().is_success() || asked || plain, "{path}: {}", answer.status());
            let bytes = answer.bytes().await.unwrap();
            assert!(!bytes.is_empty(), "{path}");
            search.look(path, &bytes);
        }
    }
    let unknown =
        http().get(format!("{}/v1/services/shop:{}", house.client.url, "none")).bearer_auth(&house.client.token);
    search.look("an unknown service", &unknown.send().await.unwrap().bytes().await.unwrap());
    // What it keeps and logs, while it runs and afterwards.
    search.look_into(&house.dir.join("data"));
    search.look("the host's log", &std::fs::read(house.dir.join("wharf.log")).unwrap());
    let mut house = house;
    house.wharf.take().unwrap().stop(Duration::from_secs(20)).await.unwrap();
    search.look_into(&house.dir.join("data"));
    let log = std::fs::read(house.dir.join("wharf.log")).unwrap();
    assert!(memmem(&log, b"TRACE").is_some(), "it does not log all that it could");
    search.look("the host's log", &log);
    let spans = collector.got();
    assert!(spans.spans.len() > 100, "{} spans were sent", spans.spans.len());
    for body in &spans.bodies {
        search.look("spans that were sent to the collector of traces", body);
    }
    assert!(search.found.is_empty(), "{} places:\n{}", search.places, search.found.join("\n"));
    println!("{} places, {} codings of {} secrets", search.places, search.needles.len(), 9);
    // The host has seen them: had the echoes not reached it, nothing would be shown by this.
    for slot in ["secret", "api-key", "os-password"] {
        assert!(search.taken_out.get(slot).is_some_and(|n| *n > 0), "{slot} was not echoed: {:?}", search.taken_out);
    }
}

/// As the telltale writes what it found: hex of each byte XOR 0xa5.
fn disguised(text: &str) -> String {
    text.bytes().map(|b| format!("{:02x}", b ^ 0xa5)).collect()
}

fn undisguised(hex: &str) -> Vec<u8> {
    hex.as_bytes()
        .chunks(2)
        .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap() ^ 0xa5)
        .collect()
}

/// The memory of a component can't be read from outside, so a plugin of ours looks through its own.
#[tokio::test(flavor = "multi_thread")]
async fn a_plugin_meets_no_secret_in_what_it_gets_nor_in_its_memory() {
    let dir = tempfile::tempdir().unwrap();
    let house = House::build(dir.path(), Built::in_target().unwrap()).await.unwrap();
    let mirror = Mirror::start("", &[]).await;
    let component = std::fs::read(Built::in_target().unwrap().plugins.join("telltale.wasm")).unwrap();
    let wants = "wharf:base/common,wharf:dns/zones,wharf:base/log,wharf:http/client,wharf:dns/calls";
    house.client.upload(&format!("/v1/admin/plugins?allow={wants}"), component).await.unwrap();
    let mut grant = house.client.get("/v1/admin/grants/telltale").await.unwrap()["body"].clone();
    grant["private_origins"] = json!([mirror.url]);
    put(&house, "grants/telltale", grant).await;
    let key = "Mark-key/7d0e+44&5<a1b2c3";
    let codings = codings(key);
    // Besides the secret something that the peer echoes and that is none: were it not found, the search would be blind.
    let mut sought: Vec<String> = codings.iter().map(|coding| disguised(coding)).collect();
    sought.push(disguised("x-quoted"));
    let settings = json!({"server-url": mirror.url, "api-key": key, "sought": sought.join(" ")});
    put(&house, "zones/told", json!({"zone": "told.example", "plugin": "telltale", "settings": settings})).await;
    let test = house.client.post("/v1/admin/zones/told/test", &json!({})).await.unwrap();
    let lines: Vec<(&str, &str)> = test["lines"]
        .as_array()
        .unwrap()
        .iter()
        .map(|line| (line["step"].as_str().unwrap(), line["detail"].as_str().unwrap()))
        .collect();
    let of = |step: &str| lines.iter().filter(|(s, _)| *s == step).map(|(_, d)| *d).collect::<Vec<_>>();

    // The peer got the secret, at both places where the manifest allows it.
    let got = mirror.got.lock().unwrap().clone();
    assert_eq!(got.len(), 2, "{got:?}");
    assert_eq!(got[0].1["x-api-key"].to_str().unwrap(), key);
    let form = percent_encode(key.as_bytes(), NON_ALPHANUMERIC).to_string().replace("%2D", "-");
    assert_eq!(String::from_utf8_lossy(&got[1].2), format!("key={form}"));

    // What came back to the plugin has a word in its place, in all codings.
    let echoes = of("echo");
    assert_eq!(echoes.len(), 2, "{lines:?}");
    for echo in echoes {
        let echo = undisguised(echo);
        let text = String::from_utf8_lossy(&echo);
        assert!(text.contains("[secret api-key]"), "{text}");
        for coding in &codings {
            assert!(memmem(&echo, coding.as_bytes()).is_none(), "{coding}: {text}");
        }
    }
    assert_eq!(of("setting"), [""], "a secret is no setting");
    let found = of("memory");
    let (control, secret) = found.split_last().unwrap();
    assert_ne!(*control, "0", "it does not find what must be there");
    assert_eq!(secret.len(), codings.len());
    assert!(secret.iter().all(|n| *n == "0"), "{secret:?}");

    for step in [
        "url",
        "host",
        "query",
        "query-name",
        "header",
        "header-name",
        "record-value",
        "record-name",
        "field",
        "field-name",
        "method",
    ] {
        assert_eq!(of(step), ["secret-position"], "{step}");
    }
}

/// What a customer or an admin enters can't become a placeholder: no name of a record has braces.
#[tokio::test(flavor = "multi_thread")]
async fn a_placeholder_in_a_name_reaches_no_provider() {
    let dir = tempfile::tempdir().unwrap();
    let house = House::build(dir.path(), Built::in_target().unwrap()).await.unwrap();
    let mirror = Mirror::start(&house.dns.api, &[]).await;
    let mut grant = house.client.get("/v1/admin/grants/dns-powerdns").await.unwrap()["body"].clone();
    grant["private_origins"] = json!([house.dns.api, mirror.url]);
    put(&house, "grants/dns-powerdns", grant).await;
    let settings = json!({"server-url": mirror.url});
    for (name, zone) in [("forward", "example.com"), ("reverse-v4", "2.0.192.in-addr.arpa")] {
        put(&house, &format!("zones/{name}"), json!({"zone": zone, "plugin": "dns-powerdns", "settings": settings}))
            .await;
    }
    let slot = "{{api-key}}";
    let (status, body) =
        house.whmcs.post("create", &order(6301, "linked", &format!("{slot}.example.com"))).await.unwrap();
    println!("{status} {body}");
    if status == 200 {
        house.until("6301", "active", PATIENCE).await.unwrap();
    }
    let settings_of_plan = json!({"image": "debian-12", "main-domain": format!("{slot}.example.com")});
    let plan = json!({"plugin": "proxmox-kvm", "server": "pve", "settings": settings_of_plan});
    let text = format!("{:#}", house.client.put("/v1/admin/plans/braces", &plan).await.unwrap_err());
    assert!(text.contains("main-domain"), "{text}");
    let zone = json!({"zone": format!("{slot}.example.com"), "plugin": "dns-powerdns", "settings": settings});
    let refused = house.client.put("/v1/admin/zones/braces", &zone).await;
    println!("{refused:?}");
    for (line, _, body) in mirror.got.lock().unwrap().iter() {
        let text = format!("{line} {}", String::from_utf8_lossy(body));
        assert!(
            !text.contains('{') || !text.contains(slot) && !text.contains(house.setup.secrets.dns.as_str()),
            "{text}"
        );
    }
    for zone in wharf_e2e::journey::ZONES {
        for (name, _, value) in house.dns.records(zone).await.unwrap() {
            assert!(!format!("{name} {value}").contains(['{', '}']), "{name} {value}");
        }
    }
}
