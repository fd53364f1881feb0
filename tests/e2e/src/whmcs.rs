//! Hooks as a WHMCS module would post them: the `$params` that WHMCS hands to a module function, signed by the Standard
//! Webhooks scheme.

use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};
use base64::{Engine, engine::general_purpose::STANDARD};
use hmac::{Hmac, KeyInit, Mac};
use serde_json::{Value, json};
use sha2::Sha256;

/// `v1,` + base64 of the HMAC over `id.timestamp.body`. `secret` is `whsec_` + base64.
pub fn sign(secret: &str, id: &str, timestamp: &str, body: &[u8]) -> Result<String> {
    let key = STANDARD.decode(secret.strip_prefix("whsec_").context("a secret begins with whsec_")?)?;
    let mut mac = Hmac::<Sha256>::new_from_slice(&key)?;
    mac.update(format!("{id}.{timestamp}.").as_bytes());
    mac.update(body);
    Ok(format!("v1,{}", STANDARD.encode(mac.finalize().into_bytes())))
}

/// Where hooks go and with what they are signed.
#[derive(Debug, Clone)]
pub struct Whmcs {
    pub host: String,
    pub panel: String,
    pub secret: String,
}

impl Whmcs {
    /// Posts a hook; returns status and body.
    pub async fn post(&self, verb: &str, params: &Value) -> Result<(u16, String)> {
        let id = format!("msg_{:032x}", rand::random::<u128>());
        self.post_as(&id, verb, params).await
    }

    /// The same with an id of the caller's choosing, as a repetition has.
    pub async fn post_as(&self, id: &str, verb: &str, params: &Value) -> Result<(u16, String)> {
        self.post_by(crate::client::http(), id, verb, params).await
    }

    /// The same by a client of the caller's.
    pub async fn post_by(&self, http: &reqwest::Client, id: &str, verb: &str, params: &Value) -> Result<(u16, String)> {
        let body = serde_json::to_vec(params)?;
        let timestamp = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs().to_string();
        let signature = sign(&self.secret, id, &timestamp, &body)?;
        let answer = http
            .post(format!("{}/hooks/{}/{verb}", self.host, self.panel))
            .header("content-type", "application/json")
            .header("webhook-id", id)
            .header("webhook-timestamp", timestamp)
            .header("webhook-signature", signature)
            .body(body)
            .send()
            .await?;
        Ok((answer.status().as_u16(), answer.text().await?))
    }
}

/// `$params` of an order: the fields that WHMCS documents, `configoptions` as ordered.
pub fn params(service: u32, plan: &str, domain: &str, configoptions: Value) -> Value {
    json!({
        "serviceid": service, "userid": 42, "pid": 7, "serverid": 1, "domain": domain, "username": "", "password": "not-ours",
        "producttype": "server", "moduletype": "wharf", "configoption1": plan,
        "clientsdetails": {"userid": 42, "firstname": "Ada", "lastname": "Example", "email": "ada@example.com"},
        "customfields": [], "configoptions": configoptions,
        "server": true, "serverhostname": "wharf.example.net", "serverpassword": "panel-side-secret",
    })
}
