//! Takes secrets out of everything that is logged, stored or shown, in whatever coding they come.

use base64::{Engine, engine::general_purpose::STANDARD};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use zeroize::Zeroizing;

/// Shorter values would take ordinary words along.
const SHORTEST: usize = 6;

/// The secrets of one call.
#[derive(Default, Clone)]
pub struct Scrubber {
    /// What to look for, longest first, and what to put there.
    needles: Vec<(Zeroizing<String>, String)>,
}

impl Scrubber {
    /// (slot, value) pairs.
    pub fn of<'a>(pairs: impl IntoIterator<Item = (&'a str, &'a [u8])>) -> Self {
        let mut needles = Vec::new();
        for (slot, value) in pairs {
            let Ok(text) = std::str::from_utf8(value) else { continue };
            if text.len() < SHORTEST {
                continue;
            }
            let put = format!("[secret {slot}]");
            let json = serde_json::to_string(text).unwrap_or_default();
            let url: String = utf8_percent_encode(text, NON_ALPHANUMERIC).collect();
            for form in [text.to_owned(), json.trim_matches('"').to_owned(), url, STANDARD.encode(value)] {
                needles.push((Zeroizing::new(form), put.clone()));
            }
        }
        needles.sort_by_key(|(needle, _)| std::cmp::Reverse(needle.len()));
        needles.dedup_by(|a, b| a.0 == b.0);
        Self { needles }
    }

    pub fn text(&self, text: &str) -> String {
        self.needles.iter().fold(text.to_owned(), |text, (needle, put)| {
            if text.contains(needle.as_str()) { text.replace(needle.as_str(), put) } else { text }
        })
    }

    /// The same for bytes that may not be text.
    pub fn bytes(&self, bytes: Vec<u8>) -> Vec<u8> {
        self.needles.iter().fold(bytes, |bytes, (needle, put)| replace(bytes, needle.as_bytes(), put.as_bytes()))
    }
}

fn replace(bytes: Vec<u8>, needle: &[u8], put: &[u8]) -> Vec<u8> {
    if needle.is_empty() || !bytes.windows(needle.len()).any(|w| w == needle) {
        return bytes;
    }
    let mut out = Vec::with_capacity(bytes.len());
    let mut rest = bytes.as_slice();
    while let Some(at) = rest.windows(needle.len()).position(|w| w == needle) {
        out.extend_from_slice(rest.get(..at).unwrap_or_default());
        out.extend_from_slice(put);
        rest = rest.get(at + needle.len()..).unwrap_or_default();
    }
    out.extend_from_slice(rest);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_found_in_every_coding() {
        let secret = "pa\"ss/w+rd-1";
        let scrub = Scrubber::of([("key", secret.as_bytes())]);
        let url: String = utf8_percent_encode(secret, NON_ALPHANUMERIC).collect();
        for form in [secret.to_owned(), serde_json::json!({"a": secret}).to_string(), url, STANDARD.encode(secret)] {
            let text = scrub.text(&format!("before {form} after"));
            assert!(text.contains("[secret key]"), "{text}");
            assert_eq!(scrub.bytes(form.clone().into_bytes()), scrub.text(&form).into_bytes());
        }
    }

    #[test]
    fn short_values_are_left_alone() {
        assert_eq!(Scrubber::of([("k", b"a".as_slice())]).text("banana"), "banana");
    }
}
