//! A house whose secrets can be told apart, and what it takes to look for them everywhere.

pub mod asked;
pub mod mirror;
pub mod search;

use std::time::{Duration, Instant};

use base64::{Engine, engine::general_purpose::STANDARD};
use serde_json::{Value, json};
use wharf_e2e::{
    client::http,
    journey::{House, Secrets},
    whmcs::params,
};

pub const PATIENCE: Duration = Duration::from_secs(120);

/// Every one is unique, and has characters that codings change.
pub fn marked() -> Secrets {
    Secrets {
        pve: "Mark-pve/7f3a+9c&1.b2e4d6".into(),
        dns: "Mark-dns/51c8+0a&7=f3e9b1".into(),
        panel: format!("whsec_{}", STANDARD.encode("Mark-panel>?>?-a secret of thirty bytes")),
        hook: format!("whsec_{}", STANDARD.encode("Mark-hook<?<?~another of thirty-odd bytes")),
    }
}

/// WHMCS hands these to a module with every call; they are none of the host's business.
pub const SERVER_PASSWORD: &str = "Mark-whmcs/server+0b4d=77";
pub const ACCOUNT_PASSWORD: &str = "Mark-whmcs/account+e1f2=88";

/// What an admin may have put into the settings, where the host does not know it.
pub const STORE_PASSWORD: &str = "Mark-store/9d2e+4f&6-c8a1";

pub async fn fault(house: &House, method: &str, path: &str, times: u32, what: Value) {
    let body = json!({"method": method, "path": path, "times": times, "what": what});
    let answer = http().post(format!("{}/_sim/fault", house.sim.url)).json(&body).send().await.unwrap();
    assert!(answer.status().is_success(), "{}", answer.text().await.unwrap());
}

pub async fn put(house: &House, path: &str, body: Value) {
    house.client.put(&format!("/v1/admin/{path}"), &body).await.unwrap();
}

/// `$params` with the passwords that WHMCS adds.
pub fn order(service: u32, plan: &str, domain: &str) -> Value {
    let mut order = params(service, plan, domain, json!({}));
    order["serverpassword"] = json!(SERVER_PASSWORD);
    order["serveraccesshash"] = json!(SERVER_PASSWORD);
    order["password"] = json!(ACCOUNT_PASSWORD);
    order
}

/// Waits for a VM of ours to have been given a password, and returns it.
pub async fn os_password(house: &House) -> String {
    let begun = Instant::now();
    loop {
        let cluster = house.cluster().await.unwrap();
        let passwords = cluster["vms"].as_object().unwrap().values().filter_map(|vm| vm["cipassword"].as_str());
        if let Some(password) = passwords.map(str::to_owned).next() {
            return password;
        }
        assert!(begun.elapsed() < PATIENCE, "no VM was given a password");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
