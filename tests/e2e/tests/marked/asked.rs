//! Everything that the host can be asked: addresses that show something, requests that it refuses, a support bundle.

use base64::{Engine, engine::general_purpose::STANDARD};
use percent_encoding::{NON_ALPHANUMERIC, percent_encode};
use serde_json::{Value, json};
use wharf_e2e::{
    client::http,
    journey::{Built, House, Secrets},
    whmcs::sign,
};

use super::{SERVER_PASSWORD, STORE_PASSWORD};

/// Every address that answers a GET, by the host's own description of itself, with every name that there is.
pub async fn addresses(house: &House, references: &[&str]) -> Vec<String> {
    let document = house.client.get("/v1/openapi.json").await.unwrap();
    let mut operations = Vec::new();
    for reference in references {
        let service = house.client.get(&format!("/v1/services/shop:{reference}")).await.unwrap();
        operations.push(service["operation"]["id"].as_str().unwrap().to_owned());
    }
    let kinds = ["servers", "images", "plans", "pools", "zones", "panels", "hooks", "grants"];
    let mut all = Vec::new();
    for (path, item) in document["paths"].as_object().unwrap() {
        if item["get"].is_null() {
            continue;
        }
        match path.as_str() {
            "/v1/admin/{kind}" => all.extend(kinds.map(|kind| format!("/v1/admin/{kind}"))),
            "/v1/admin/{kind}/{name}" => {
                for kind in kinds {
                    for object in house.client.get(&format!("/v1/admin/{kind}")).await.unwrap().as_array().unwrap() {
                        all.push(format!("/v1/admin/{kind}/{}", object["name"].as_str().unwrap()));
                    }
                }
            }
            "/v1/admin/jobs/{name}" => {
                for job in house.client.get("/v1/admin/jobs").await.unwrap().as_array().unwrap() {
                    all.push(format!("/v1/admin/jobs/{}", job["name"].as_str().unwrap()));
                }
            }
            path if path.starts_with("/v1/admin/zones/{name}/") => {
                for zone in house.client.get("/v1/admin/zones").await.unwrap().as_array().unwrap() {
                    all.push(path.replace("{name}", zone["name"].as_str().unwrap()));
                }
            }
            path if path.starts_with("/v1/services/{id}") => {
                all.extend(references.iter().map(|r| path.replace("{id}", &format!("shop:{r}"))));
            }
            path if path.starts_with("/v1/operations/{id}") => {
                all.extend(operations.iter().map(|id| path.replace("{id}", id)));
            }
            path => {
                assert!(!path.contains('{'), "this test does not know what to put into {path}");
                all.push(path.to_owned());
            }
        }
    }
    all
}

/// Requests with a secret in the wrong place, as made by admins in a hurry: what is answered.
pub async fn mistakes(house: &House, secrets: &Secrets) -> Vec<(String, Vec<u8>)> {
    let Secrets { pve, dns, panel, hook } = secrets;
    let server = |key: &str, value: Value| {
        let mut body = json!({"urls": [house.sim.url], "token_id": "wharf@pve!wharf"});
        body[key] = value;
        ("PUT", "/v1/admin/servers/another".to_owned(), body.to_string())
    };
    let zone = |settings: Value| {
        let body = json!({"zone": "example.org", "plugin": "dns-powerdns", "settings": settings});
        ("PUT", "/v1/admin/zones/another".to_owned(), body.to_string())
    };
    let hooked = |settings: Value| {
        let body = json!({"plugin": "hook-webhook", "settings": settings});
        ("PUT", "/v1/admin/hooks/another".to_owned(), body.to_string())
    };
    let paneled = |key: &str, value: &str| {
        let mut body = json!({"plugin": "panel-whmcs", "plans": []});
        body[key] = json!(value);
        ("PUT", "/v1/admin/panels/another".to_owned(), body.to_string())
    };
    let requests = [
        server("secret", json!({"value": pve})),
        server("secret", json!([pve])),
        server("secrets", json!(pve)),
        server("urls", json!(pve)),
        server("urls", json!([pve])),
        server("timeout_ms", json!(pve)),
        server("token_id", json!(pve)),
        ("PUT", "/v1/admin/servers/another".into(), format!("{{\"secret\": \"{pve}\"")),
        ("PUT", "/v1/admin/servers/another".into(), format!("secret={pve}")),
        ("PUT", "/v1/admin/servers/another".into(), json!(pve).to_string()),
        ("GET", format!("/v1/services?token={}", percent_encode(pve.as_bytes(), NON_ALPHANUMERIC)), String::new()),
        zone(json!(dns)),
        zone(json!({"server-url": dns, "api-key": dns})),
        zone(json!({"server-url": format!("ftp://admin:{dns}@ns1"), "api-key": dns})),
        zone(json!({"server-url": house.dns.api, "api-key": [dns]})),
        zone(json!({"server-url": house.dns.api, "api-key": dns, "server-id": dns})),
        zone(json!({"server-url": house.dns.api, "api_key": dns})),
        hooked(json!({"url": house.receiver.url, "secret": hook.trim_start_matches("whsec_")})),
        hooked(json!({"url": house.receiver.url, "secret": format!("{hook}!")})),
        hooked(json!({"url": hook, "secret": hook})),
        hooked(json!({"url": house.receiver.url, "secret": hook, "events": [hook]})),
        hooked(json!({"url": house.receiver.url, "secret": hook, "source": 5, "key": hook})),
        paneled("secret", panel.trim_start_matches("whsec_")),
        paneled("secret", &format!("{panel}!")),
        paneled("plans", panel),
        paneled("secret_next", panel),
    ];
    let mut answers = Vec::new();
    for (method, path, body) in requests {
        let answer = http()
            .request(method.parse().unwrap(), format!("{}{path}", house.client.url))
            .bearer_auth(&house.client.token)
            .header("content-type", "application/json")
            .body(body.clone())
            .send()
            .await
            .unwrap();
        // Some are no mistakes to the host, which keeps the text of what it was given.
        let status = answer.status();
        assert!(status.is_client_error() || body.contains("api-key\":["), "{method} {path} {body}: {status}");
        answers.push((format!("the answer to {method} {path} {body}"), answer.bytes().await.unwrap().to_vec()));
    }
    for (name, value) in
        [("authorization", format!("Bearer {pve}")), ("authorization", format!("Basic {}", STANDARD.encode(pve)))]
    {
        let answer = http().get(format!("{}/v1/services", house.client.url)).header(name, value).send().await.unwrap();
        assert_eq!(answer.status(), 401);
        answers.push((format!("the answer to a wrong {name}"), answer.bytes().await.unwrap().to_vec()));
    }
    // A hook whose signature is the secret itself, and one with a good signature and a bad body.
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs().to_string();
    let bad = format!("{{\"serverpassword\": \"{SERVER_PASSWORD}\"");
    let good = sign(panel, "msg_bad", &now, bad.as_bytes()).unwrap();
    for signature in [panel.clone(), good] {
        let answer = http()
            .post(format!("{}/hooks/shop/create", house.client.url))
            .header("content-type", "application/json")
            .header("webhook-id", "msg_bad")
            .header("webhook-timestamp", &now)
            .header("webhook-signature", signature)
            .body(bad.clone())
            .send()
            .await
            .unwrap();
        assert!(answer.status().is_client_error(), "{}", answer.status());
        answers.push(("the answer to a bad hook".into(), answer.bytes().await.unwrap().to_vec()));
    }
    answers
}

/// The files of a support bundle, made with settings that hold a password under two keys, one of them misspelt.
pub async fn support_bundle(house: &House) -> Vec<(String, Vec<u8>)> {
    let place = |name: &str| house.dir.join(name);
    let url = format!("postgres://wharf:{STORE_PASSWORD}@db/wharf");
    let settings =
        format!("# {STORE_PASSWORD}\nlisten = \"x\"\n[store]\nurl = {url:?}\npassword = {STORE_PASSWORD:?}\n");
    std::fs::write(place("support.toml"), settings).unwrap();
    let output = tokio::process::Command::new(Built::in_target().unwrap().wharf)
        .args(["support-bundle", "--output"])
        .arg(place("support.tar.gz"))
        .arg("--config")
        .arg(place("support.toml"))
        .arg("--host-log")
        .arg(place("wharf.log"))
        .envs([("WHARF_URL", house.client.url.as_str()), ("WHARF_TOKEN", &house.client.token)])
        .env("WHARF_STORE__PASSWORD", STORE_PASSWORD)
        .output()
        .await
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    std::fs::create_dir(place("support")).unwrap();
    let mut unpack = tokio::process::Command::new("tar");
    unpack.arg("-xzf").arg(place("support.tar.gz")).arg("-C").arg(place("support"));
    assert!(unpack.status().await.unwrap().success());
    std::fs::remove_file(place("support.toml")).unwrap();
    let mut files = vec![("what the bundling says".to_owned(), [output.stdout, output.stderr].concat())];
    let mut open = vec![place("support")];
    while let Some(path) = open.pop() {
        if path.is_dir() {
            open.extend(std::fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
        } else {
            files.push((
                path.strip_prefix(place("support")).unwrap().display().to_string(),
                std::fs::read(&path).unwrap(),
            ));
        }
    }
    files
}
