//! Signatures, and what else is made of a secret and a text on the way out.

use base64::{Engine, engine::general_purpose::STANDARD};
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use zeroize::Zeroizing;

/// HMAC-SHA256 over the payload, as `v1,` and base64. Standard Webhooks specification, "Signature scheme".
pub const STANDARD_WEBHOOKS: &str = "standard-webhooks-v1";

/// `Basic ` and the base64 of `payload:secret`: the payload is the user's name, the secret the password (RFC 7617 §2).
pub const BASIC: &str = "basic";

/// Why no signature was made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SignError {
    #[error(
        "the signature scheme `{0}` is not known to this host: use `{STANDARD_WEBHOOKS}` or `{BASIC}`, or upgrade the host"
    )]
    Scheme(String),
    #[error("the name of a user has no colon and no control characters, and neither has the password the latter")]
    User,
    #[error("the signing secret is not `whsec_` and base64 of 24 to 64 bytes: enter it again")]
    Secret,
}

/// The value of the signature's header.
pub fn sign(scheme: &str, secret: &str, payload: &[u8]) -> Result<String, SignError> {
    match scheme {
        STANDARD_WEBHOOKS => standard_webhooks(secret, payload),
        BASIC => basic(secret, payload),
        other => Err(SignError::Scheme(other.to_owned())),
    }
}

fn basic(secret: &str, user: &[u8]) -> Result<String, SignError> {
    if user.contains(&b':') || user.iter().chain(secret.as_bytes()).any(u8::is_ascii_control) {
        return Err(SignError::User);
    }
    let pair = Zeroizing::new([user, b":", secret.as_bytes()].concat());
    Ok(format!("Basic {}", STANDARD.encode(&*pair)))
}

fn standard_webhooks(secret: &str, payload: &[u8]) -> Result<String, SignError> {
    let key = secret.trim().strip_prefix("whsec_").ok_or(SignError::Secret)?;
    let key = Zeroizing::new(STANDARD.decode(key).map_err(|_| SignError::Secret)?);
    if !(24..=64).contains(&key.len()) {
        return Err(SignError::Secret);
    }
    let mut mac = Hmac::<Sha256>::new_from_slice(&key).map_err(|_| SignError::Secret)?;
    mac.update(payload);
    Ok(format!("v1,{}", STANDARD.encode(mac.finalize().into_bytes())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_example_of_the_specification_has_its_signature() {
        // Test vector of the reference libraries.
        let payload = b"msg_p5jXN8AQM9LWM0D4loKWxJek.1614265330.{\"test\": 2432232314}";
        let signature = sign(STANDARD_WEBHOOKS, "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", payload).unwrap();
        assert_eq!(signature, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
    }

    #[test]
    fn a_user_and_a_password_are_put_together_as_basic_authentication_wants_it() {
        // RFC 7617 §2 and §2.1.
        assert_eq!(sign(BASIC, "open sesame", b"Aladdin").unwrap(), "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==");
        assert_eq!(sign(BASIC, "123\u{a3}", b"test").unwrap(), "Basic dGVzdDoxMjPCow==");
        for (user, password) in [("a:b", "c"), ("a\n", "c"), ("a", "c\r\nx: y")] {
            assert_eq!(sign(BASIC, password, user.as_bytes()), Err(SignError::User), "{user}");
        }
    }

    #[test]
    fn a_secret_or_scheme_of_another_form_is_refused() {
        for secret in ["", "whsec_", "whsec_!!", "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "whsec_AAAA"] {
            assert_eq!(sign(STANDARD_WEBHOOKS, secret, b""), Err(SignError::Secret), "{secret}");
        }
        assert!(matches!(sign("other", "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", b""), Err(SignError::Scheme(_))));
    }
}
