//! Standard Webhooks signatures, checked over the raw bytes before anything is parsed.

use axum::http::HeaderMap;
use base64::{Engine, engine::general_purpose::STANDARD};
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use subtle::ConstantTimeEq;

/// How far a timestamp may be off, in seconds.
pub const SKEW_S: i64 = 300;

/// Why a hook is not let in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refused {
    /// Missing or malformed headers, or no signature that fits.
    Signature,
    /// The sender's clock is off.
    Clock,
}

/// Checks `webhook-id`, `webhook-timestamp` and `webhook-signature` with any of the secrets. Returns the id.
pub fn check(headers: &HeaderMap, body: &[u8], secrets: &[Vec<u8>], now_s: i64) -> Result<String, Refused> {
    let header = |name: &str| {
        headers.get(name).and_then(|v| v.to_str().ok()).filter(|v| !v.is_empty()).ok_or(Refused::Signature)
    };
    let (id, timestamp, given) = (header("webhook-id")?, header("webhook-timestamp")?, header("webhook-signature")?);
    if id.len() > 256 {
        return Err(Refused::Signature);
    }
    let mut good = false;
    for secret in secrets {
        let expected = sign(secret, id, timestamp, body).ok_or(Refused::Signature)?;
        for part in given.split(' ').take(16) {
            good |= bool::from(part.as_bytes().ct_eq(expected.as_bytes()));
        }
    }
    if !good {
        return Err(Refused::Signature);
    }
    let sent: i64 = timestamp.parse().map_err(|_| Refused::Signature)?;
    if (now_s - sent).abs() > SKEW_S {
        return Err(Refused::Clock);
    }
    Ok(id.to_owned())
}

/// `v1,` + base64; none if the secret is not `whsec_` + base64.
fn sign(secret: &[u8], id: &str, timestamp: &str, body: &[u8]) -> Option<String> {
    let text = std::str::from_utf8(secret).ok()?;
    let key = STANDARD.decode(text.strip_prefix("whsec_")?).ok()?;
    let mut mac = Hmac::<Sha256>::new_from_slice(&key).ok()?;
    mac.update(format!("{id}.{timestamp}.").as_bytes());
    mac.update(body);
    Some(format!("v1,{}", STANDARD.encode(mac.finalize().into_bytes())))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// From the Standard Webhooks specification's reference libraries.
    const SECRET: &[u8] = b"whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
    const BODY: &[u8] = br#"{"test": 2432232314}"#;

    fn headers(signature: &str) -> HeaderMap {
        let mut map = HeaderMap::new();
        map.insert("webhook-id", "msg_p5jXN8AQM9LWM0D4loKWxJek".parse().unwrap());
        map.insert("webhook-timestamp", "1614265330".parse().unwrap());
        map.insert("webhook-signature", signature.parse().unwrap());
        map
    }

    const GOOD: &str = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=";

    #[test]
    fn the_vector_of_the_specification_is_accepted_also_among_others() {
        let secrets = [SECRET.to_vec()];
        assert!(check(&headers(GOOD), BODY, &secrets, 1_614_265_330).is_ok());
        assert!(check(&headers(&format!("v1,AAAA v1a,xyz {GOOD}")), BODY, &secrets, 1_614_265_600).is_ok());
    }

    #[test]
    fn another_body_secret_or_time_is_refused() {
        let secrets = [SECRET.to_vec()];
        assert_eq!(check(&headers(GOOD), b"{}", &secrets, 1_614_265_330), Err(Refused::Signature));
        assert_eq!(check(&headers(GOOD), BODY, &[b"whsec_AAAA".to_vec()], 1_614_265_330), Err(Refused::Signature));
        assert_eq!(check(&headers(GOOD), BODY, &[], 1_614_265_330), Err(Refused::Signature));
        assert_eq!(check(&headers(GOOD), BODY, &secrets, 1_614_265_330 + SKEW_S + 1), Err(Refused::Clock));
    }
}
