//! Takes secrets out of everything that is logged, stored or shown, in whatever coding they come.
//!
//! A value is looked for as it is and as JSON, URLs, forms, HTML, hex and base64 would write it; base64 at all three
//! alignments, so that `user:password` does not hide the password. Values of fewer than [`SHORTEST`] bytes are not looked
//! for: they would take ordinary words along.

use std::fmt;

use base64::{
    Engine,
    engine::general_purpose::{STANDARD, STANDARD_NO_PAD, URL_SAFE_NO_PAD},
};
use percent_encoding::{NON_ALPHANUMERIC, percent_encode};
use zeroize::Zeroizing;

/// Least bytes of a value that is looked for.
pub const SHORTEST: usize = 6;

/// A set of secrets to be taken out.
#[derive(Default, Clone)]
pub struct Scrubber {
    /// What to look for, longest first, and what to put there.
    needles: Vec<(Zeroizing<Vec<u8>>, String)>,
}

impl fmt::Debug for Scrubber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Scrubber").field("needles", &self.needles.len()).finish()
    }
}

impl Scrubber {
    /// Of (slot, value) pairs. A found value becomes `[secret <slot>]`.
    pub fn of<'a>(pairs: impl IntoIterator<Item = (&'a str, &'a [u8])>) -> Self {
        let mut needles = Vec::new();
        for (slot, value) in pairs {
            let put = format!("[secret {slot}]");
            let trimmed = value.trim_ascii();
            // What stands behind the prefix of Standard Webhooks is the whole secret.
            let bare = trimmed.strip_prefix(b"whsec_").unwrap_or(trimmed);
            for value in [value, trimmed, bare] {
                if value.len() >= SHORTEST {
                    needles.extend(forms(value).into_iter().map(|form| (form, put.clone())));
                }
            }
        }
        needles.sort_by(|a, b| b.0.len().cmp(&a.0.len()).then_with(|| a.0.cmp(&b.0)));
        needles.dedup_by(|a, b| a.0 == b.0);
        Self { needles }
    }

    /// Whether there is nothing to look for.
    pub fn is_empty(&self) -> bool {
        self.needles.is_empty()
    }

    /// The text without secrets.
    pub fn text(&self, text: &str) -> String {
        // A value that is not text can be a part of text all the same: what it leaves is made text again.
        match String::from_utf8(self.bytes(text.as_bytes().to_vec())) {
            Ok(text) => text,
            Err(error) => String::from_utf8_lossy(error.as_bytes()).into_owned(),
        }
    }

    /// The same for bytes that may not be text.
    pub fn bytes(&self, bytes: Vec<u8>) -> Vec<u8> {
        self.needles.iter().fold(bytes, |bytes, (needle, put)| replace(bytes, needle, put.as_bytes()))
    }
}

/// How a value could be written.
fn forms(value: &[u8]) -> Vec<Zeroizing<Vec<u8>>> {
    let mut all = vec![value.to_vec()];
    if let Ok(text) = std::str::from_utf8(value) {
        let json = within_json(text);
        // PHP escapes slashes and everything that is not ASCII, Python the latter, Go what is special in HTML, .NET most
        // of it, in capitals.
        let ascii = escaped(&json, |c| !c.is_ascii(), false);
        let go = escaped(&json, |c| "&<>".contains(c), false);
        let net = escaped(&json.replace("\\\"", "\\u0022"), |c| !c.is_ascii() || "&'+<>`".contains(c), true);
        let mut written = vec![json.replace('/', "\\/"), ascii.replace('/', "\\/"), json, ascii, go, net];
        // A text within a text: JSON that is logged as JSON.
        written.extend(written.iter().map(|form| within_json(form)).collect::<Vec<_>>());
        all.extend(written.into_iter().map(String::into_bytes));
        let html = text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;");
        all.push(html.replace('\'', "&#039;").into_bytes());
        all.push(html.replace('\'', "&#39;").into_bytes());
        all.push(html.into_bytes());
    }
    for url in [
        percent_encode(value, NON_ALPHANUMERIC).to_string(),
        percent_encode(value, UNRESERVED).to_string(),
        percent_encode(value, COMPONENT).to_string(),
        url::form_urlencoded::byte_serialize(value).collect(),
    ] {
        all.push(lower_escapes(&url).into_bytes());
        all.push(url.into_bytes());
    }
    let hex = |upper: bool| {
        value.iter().fold(String::new(), |out, b| if upper { format!("{out}{b:02X}") } else { format!("{out}{b:02x}") })
    };
    all.push(hex(false).into_bytes());
    all.push(hex(true).into_bytes());
    all.push(STANDARD.encode(value).into_bytes());
    for shift in 0..3 {
        for engine in [&STANDARD_NO_PAD, &URL_SAFE_NO_PAD] {
            all.push(within_base64(value, shift, engine));
        }
    }
    all.retain(|form| form.len() >= SHORTEST);
    all.into_iter().map(Zeroizing::new).collect()
}

/// A text as JSON writes it, without the quotation marks.
fn within_json(text: &str) -> String {
    let json = serde_json::to_string(text).unwrap_or_default();
    json.get(1..json.len().saturating_sub(1)).unwrap_or_default().to_owned()
}

/// With `\u` and four digits in place of what is `odd`.
fn escaped(json: &str, odd: impl Fn(char) -> bool, capitals: bool) -> String {
    json.chars().fold(String::new(), |mut out, c| {
        if odd(c) {
            let mut units = [0; 2];
            for unit in c.encode_utf16(&mut units) {
                out.push_str(&if capitals { format!("\\u{unit:04X}") } else { format!("\\u{unit:04x}") });
            }
        } else {
            out.push(c);
        }
        out
    })
}

/// RFC 3986 leaves these as they are, and so do most encoders.
const UNRESERVED: &percent_encoding::AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');
/// JavaScript's `encodeURIComponent` leaves some more.
const COMPONENT: &percent_encoding::AsciiSet =
    &UNRESERVED.remove(b'!').remove(b'*').remove(b'\'').remove(b'(').remove(b')');

/// `%2F` as `%2f`.
fn lower_escapes(url: &str) -> String {
    let mut escape = 0;
    url.chars()
        .map(|c| {
            if c == '%' {
                escape = 2;
                return c;
            }
            if escape > 0 {
                escape -= 1;
                return c.to_ascii_lowercase();
            }
            c
        })
        .collect()
}

/// What stays the same of a value in base64, whatever stands before and behind it, if it begins `shift` bytes into a group
/// of three.
fn within_base64(value: &[u8], shift: usize, engine: &impl Engine) -> Vec<u8> {
    let padded = [vec![0; shift], value.to_vec()].concat();
    let encoded = engine.encode(&padded);
    // Characters that hold bits of what stands before, and a last one that would hold bits of what stands behind.
    let from = (shift * 8).div_ceil(6);
    let to = padded.len() * 8 / 6;
    encoded.get(from..to).unwrap_or_default().as_bytes().to_vec()
}

fn replace(bytes: Vec<u8>, needle: &[u8], put: &[u8]) -> Vec<u8> {
    let Some(first) = find(&bytes, needle) else { return bytes };
    let mut out = Vec::with_capacity(bytes.len());
    let (mut rest, mut at) = (bytes.as_slice(), Some(first));
    while let Some(found) = at {
        out.extend_from_slice(rest.get(..found).unwrap_or_default());
        out.extend_from_slice(put);
        rest = rest.get(found + needle.len()..).unwrap_or_default();
        at = find(rest, needle);
    }
    out.extend_from_slice(rest);
    out
}

fn find(bytes: &[u8], needle: &[u8]) -> Option<usize> {
    memchr::memmem::find(bytes, needle)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECRET: &str = "pä\"ss/w+rd &'1";

    #[test]
    fn a_secret_is_found_in_every_coding() {
        let scrub = Scrubber::of([("key", SECRET.as_bytes())]);
        let json = serde_json::json!({"a": SECRET}).to_string();
        let url: String = percent_encode(SECRET.as_bytes(), NON_ALPHANUMERIC).collect();
        for form in [
            SECRET.to_owned(),
            serde_json::json!({"outer": json}).to_string(),
            json,
            r#"{"a":"p\u00e4\"ss\/w+rd &'1"}"#.to_owned(),
            r#"{"a":"pä\"ss/w+rd \u0026'1"}"#.to_owned(),
            r#"{"a":"p\u00E4\u0022ss/w\u002Brd \u0026\u00271"}"#.to_owned(),
            serde_json::json!({"a": r#"p\u00e4\"ss\/w+rd &'1"#}).to_string(),
            url.to_lowercase(),
            url,
            url::form_urlencoded::byte_serialize(SECRET.as_bytes()).collect(),
            "p&auml;".replace("p&auml;", "pä&quot;ss/w+rd &amp;&#039;1"),
            STANDARD.encode(SECRET),
            STANDARD.encode(format!("admin:{SECRET}")),
            STANDARD.encode(format!("me:{SECRET}:and more")),
            URL_SAFE_NO_PAD.encode(format!("a:{SECRET}")),
            SECRET.bytes().map(|b| format!("{b:02x}")).collect(),
        ] {
            let text = scrub.text(&format!("before {form} after"));
            assert!(text.contains("[secret key]"), "{form} became {text}");
            assert!(text.starts_with("before ") && text.ends_with(" after"), "{text}");
            assert_eq!(scrub.bytes(form.clone().into_bytes()), scrub.text(&form).into_bytes());
        }
    }

    #[test]
    fn a_signing_secret_is_found_without_its_prefix() {
        let scrub = Scrubber::of([("secret", b"whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw".as_slice())]);
        assert_eq!(scrub.text("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"), "[secret secret]");
        assert_eq!(scrub.text("key=MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw."), "key=[secret secret].");
    }

    #[test]
    fn everything_else_stays_as_it_is() {
        let scrub = Scrubber::of([("key", SECRET.as_bytes()), ("short", b"a".as_slice())]);
        let bytes: Vec<u8> = (0..=255).collect();
        assert_eq!(scrub.bytes(bytes.clone()), bytes);
        assert_eq!(scrub.text("a banana"), "a banana");
    }

    #[test]
    fn of_two_secrets_the_longer_one_goes_first() {
        let scrub = Scrubber::of([("one", b"secret-value".as_slice()), ("two", b"secret-value-2".as_slice())]);
        assert_eq!(scrub.text("secret-value-2 secret-value"), "[secret two] [secret one]");
    }

    #[test]
    fn a_secret_that_is_no_text_is_found_too() {
        let scrub = Scrubber::of([("key", [0xff, 0xfe, 0, 1, 2, 3, 4].as_slice())]);
        assert_eq!(scrub.bytes(vec![b'a', 0xff, 0xfe, 0, 1, 2, 3, 4, b'b']), b"a[secret key]b");
    }
}
