//! Whether a request is one of those that the manifest names.
//!
//! A rule is a set of methods, an origin, a path template and pinned fields; settings of the zone or hook at hand stand in
//! for `{name}`. Paths are compared segment by segment after percent-decoding, so that an encoded slash stays inside its
//! segment; dot segments are gone before (the URL parser removes them), and a segment that hides them behind an encoded
//! slash is refused. Pinned fields are looked for wherever a server could read them: query, form, top level of a JSON body. A
//! pinned value that is one `{name}` stands for that setting, and `{zone}` for the zone's name in any of its spellings.

use std::fmt;

use percent_encoding::percent_decode_str;
use serde::de::{Deserializer, MapAccess, Visitor};
use serde_json::Value;
use url::Url;
use wharf_model::manifest::RequestRule;

use crate::dns::names;

/// What stands in rules for the name of the zone at hand, unless the manifest has a setting of this name.
pub const ZONE: &str = "zone";

/// A request, as far as rules look at it.
pub struct Asked<'a> {
    pub method: &'a str,
    pub url: &'a Url,
    pub body: Content<'a>,
}

/// What a body can be read as.
pub enum Content<'a> {
    None,
    Form(&'a [(String, String)]),
    Bytes { content_type: &'a str, data: &'a [u8] },
}

/// Scheme, host and port, lower case, without a default port: how origins are compared.
pub fn origin(url: &Url) -> String {
    url.origin().ascii_serialization()
}

/// The same of a text, if it is an http or https URL.
pub fn origin_of(text: &str) -> Option<String> {
    let url = Url::parse(text.trim()).ok()?;
    matches!(url.scheme(), "http" | "https").then(|| origin(&url))
}

/// A rule's origin with the settings put in: the origin, the path in front of all paths, and whether the whole URL was
/// given.
struct Place {
    origin: String,
    prefix: String,
    whole: Option<Url>,
}

fn setting<'a>(settings: &'a Value, name: &str) -> Option<&'a str> {
    settings.get(name).and_then(Value::as_str).map(str::trim).filter(|text| !text.is_empty())
}

/// Puts settings in for `{name}`, each through `put`.
fn expand(template: &str, settings: &Value, put: impl Fn(&str) -> Option<String>) -> Result<String, String> {
    let mut out = String::new();
    let mut rest = template;
    while let Some((before, behind)) = rest.split_once('{') {
        let (name, behind) =
            behind.split_once('}').ok_or_else(|| format!("`{template}` has a brace that is not closed"))?;
        let value = setting(settings, name).ok_or_else(|| format!("the setting `{name}` is empty: enter it"))?;
        out.push_str(before);
        out.push_str(&put(value).ok_or_else(|| format!("the setting `{name}` can't stand in an address: correct it"))?);
        rest = behind;
    }
    out.push_str(rest);
    Ok(out)
}

fn place(rule: &RequestRule, settings: &Value) -> Result<Place, String> {
    let name = rule.origin.strip_prefix('{').and_then(|o| o.strip_suffix('}')).filter(|n| !n.contains(['{', '}']));
    if let Some(name) = name {
        let text = setting(settings, name).ok_or_else(|| format!("the setting `{name}` is empty: enter it"))?;
        let bad = || format!("the setting `{name}` is not an address like https://host:port/path: correct it");
        let url = Url::parse(text).map_err(|_| bad())?;
        if !matches!(url.scheme(), "http" | "https") || !url.username().is_empty() || url.password().is_some() {
            return Err(bad());
        }
        let prefix = url.path().trim_end_matches('/').to_owned();
        return Ok(Place { origin: origin(&url), prefix, whole: Some(url) });
    }
    let host = |value: &str| {
        value.chars().all(|c| c.is_ascii_alphanumeric() || "-._:[]".contains(c)).then(|| value.to_owned())
    };
    let text = expand(&rule.origin, settings, host)?;
    let origin = origin_of(&text).ok_or_else(|| format!("the manifest's origin `{text}` is not an address"))?;
    Ok(Place { origin, prefix: String::new(), whole: None })
}

/// The origin of a rule with these settings, as `https://host:port`; none where a setting is missing.
pub fn expanded_origin(rule: &RequestRule, settings: &Value) -> Option<String> {
    place(rule, settings).ok().map(|place| place.origin)
}

fn decoded(segment: &str) -> Vec<u8> {
    percent_decode_str(segment).collect()
}

/// A segment of the plugin's choosing: not empty, and nothing in it that a server could take for more than one segment
/// up the tree.
fn harmless(segment: &str) -> bool {
    let bytes = decoded(segment);
    !bytes.is_empty()
        && !bytes.iter().any(u8::is_ascii_control)
        && !bytes.split(|b| matches!(b, b'/' | b'\\')).any(|part| matches!(part, b"." | b".."))
}

fn path_matches(template: &str, path: &str) -> bool {
    let mut wanted = template.split('/');
    let mut given = path.split('/');
    loop {
        match (wanted.next(), given.next()) {
            (None, None) => return true,
            (Some("*"), Some(segment)) if harmless(segment) => {}
            (Some(literal), Some(segment)) if literal != "*" && decoded(literal) == decoded(segment) => {}
            _ => return false,
        }
    }
}

/// Keys and values of the top level, a key that stands twice included.
struct Pairs(Vec<(String, Value)>);

impl<'de> serde::Deserialize<'de> for Pairs {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Collect;
        impl<'de> Visitor<'de> for Collect {
            type Value = Pairs;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a JSON object")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Pairs, A::Error> {
                let mut pairs = Vec::new();
                while let Some(pair) = map.next_entry()? {
                    pairs.push(pair);
                }
                Ok(Pairs(pairs))
            }
        }
        deserializer.deserialize_map(Collect)
    }
}

/// All fields of query and body. An error where the body can't be read as fields.
fn fields(asked: &Asked<'_>) -> Result<Vec<(String, String)>, String> {
    let mut all: Vec<(String, String)> = asked.url.query_pairs().into_owned().collect();
    match &asked.body {
        Content::None => {}
        Content::Form(pairs) => all.extend(pairs.iter().cloned()),
        Content::Bytes { content_type, data } => {
            let essence = content_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
            if essence == "application/x-www-form-urlencoded" {
                all.extend(url::form_urlencoded::parse(data).into_owned());
            } else if essence == "application/json" || essence.ends_with("+json") {
                let Pairs(pairs) = serde_json::from_slice(data)
                    .map_err(|_| "its body is not a JSON object, so the pinned fields can't be checked".to_owned())?;
                all.extend(pairs.into_iter().map(|(key, value)| match value {
                    Value::String(text) => (key, text),
                    other => (key, other.to_string()),
                }));
            } else {
                return Err(format!(
                    "a body of type `{essence}` can't be checked for the pinned fields: send a form or JSON"
                ));
            }
        }
    }
    Ok(all)
}

/// What PHP and its like make of a field's name: `cmd[]`, ` cmd` and `cmd%00` are `cmd` to them.
fn plain_name(name: &str) -> String {
    name.trim().split(['[', '\0']).next().unwrap_or_default().replace(['.', ' '], "_").to_ascii_lowercase()
}

/// A value that a pinned field may have.
enum Pin {
    Exactly(String),
    /// A DNS name, whatever its case, its final dot and the letters that it is written in.
    Zone(String),
}

impl Pin {
    fn of(value: &str, settings: &Value) -> Result<Self, String> {
        let name = value.strip_prefix('{').and_then(|v| v.strip_suffix('}')).filter(|n| !n.contains(['{', '}']));
        let Some(name) = name else { return Ok(Self::Exactly(value.to_owned())) };
        let text = setting(settings, name).ok_or_else(|| format!("the setting `{name}` is empty: enter it"))?;
        Ok(if name == ZONE { Self::Zone(names::canonical(text)) } else { Self::Exactly(text.to_owned()) })
    }

    fn allows(&self, value: &str) -> bool {
        match self {
            Self::Exactly(text) => text == value,
            Self::Zone(zone) => names::canonical(value) == *zone,
        }
    }
}

fn check_pins(rule: &RequestRule, settings: &Value, asked: &Asked<'_>) -> Result<(), String> {
    if rule.pinned.is_empty() {
        return Ok(());
    }
    let fields = fields(asked)?;
    for (name, allowed) in &rule.pinned {
        let allowed = allowed.iter().map(|value| Pin::of(value, settings)).collect::<Result<Vec<_>, _>>()?;
        let mut found = false;
        for (key, value) in &fields {
            if key == name {
                if !allowed.iter().any(|pin| pin.allows(value)) {
                    return Err(format!("the field `{name}` must have one of the values that the manifest pins"));
                }
                found = true;
            } else if plain_name(key) == plain_name(name) {
                return Err(format!("the field `{key}` could be taken for the pinned `{name}`"));
            }
        }
        if !found {
            return Err(format!("the pinned field `{name}` is missing"));
        }
    }
    Ok(())
}

fn check_rule(rule: &RequestRule, settings: &Value, asked: &Asked<'_>) -> Result<(), (u8, String)> {
    let place = place(rule, settings).map_err(|why| (0, why))?;
    if place.origin != origin(asked.url) {
        return Err((1, format!("the destination is not {}", place.origin)));
    }
    let path = match (&place.whole, rule.path.as_str()) {
        // The setting is the whole address: that one, and nothing below it.
        (Some(url), "/") => asked.url.path() == url.path() && asked.url.query() == url.query(),
        (_, path) => {
            let encode = |value: &str| {
                Some(percent_encoding::utf8_percent_encode(value, percent_encoding::NON_ALPHANUMERIC).to_string())
            };
            let path = expand(path, settings, encode).map_err(|why| (2, why))?;
            path_matches(&format!("{}{path}", place.prefix), asked.url.path())
        }
    };
    if !path {
        return Err((2, "the path is not one of those that the manifest names".to_owned()));
    }
    if !rule.methods.contains(asked.method) {
        return Err((
            3,
            format!("the method {} is not one of those that the manifest names for this path", asked.method),
        ));
    }
    check_pins(rule, settings, asked).map_err(|why| (4, why))
}

/// Ok if some rule allows it; else why the nearest one does not.
pub fn check(rules: &[RequestRule], settings: &Value, asked: &Asked<'_>) -> Result<(), String> {
    let mut nearest = (0, "the manifest names no requests, so none may be made".to_owned());
    for rule in rules {
        match check_rule(rule, settings, asked) {
            Ok(()) => return Ok(()),
            Err(why) if why.0 >= nearest.0 => nearest = why,
            Err(_) => {}
        }
    }
    Err(nearest.1)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn rule(origin: &str, path: &str, pinned: Value) -> RequestRule {
        serde_json::from_value(json!({"methods": ["GET", "POST"], "origin": origin, "path": path, "pinned": pinned}))
            .unwrap()
    }

    fn allowed(rule: &RequestRule, settings: &Value, method: &str, url: &str, body: Content<'_>) -> bool {
        let url = Url::parse(url).unwrap();
        check(std::slice::from_ref(rule), settings, &Asked { method, url: &url, body }).is_ok()
    }

    fn get(rule: &RequestRule, settings: &Value, url: &str) -> bool {
        allowed(rule, settings, "GET", url, Content::None)
    }

    #[test]
    fn a_star_is_one_segment_and_an_encoded_slash_stays_inside_it() {
        let rule = rule("https://api.test", "/v1/zones/*", json!({}));
        let s = json!({});
        assert!(get(&rule, &s, "https://api.test/v1/zones/a"));
        assert!(get(&rule, &s, "https://API.test:443/v1/zones/0%2F25.2.0.192.in-addr.arpa."));
        assert!(get(&rule, &s, "https://api.test/v1/z%6Fnes/a?x=1"));
        for url in [
            "https://api.test/v1/zones/",
            "https://api.test/v1/zones",
            "https://api.test/v1/zones/a/b",
            "https://api.test/v1/zones/a/",
            "https://api.test/v1/zones/../users",
            "https://api.test/v1/zones/%2e%2e/users",
            "https://api.test/v1/zones/a%2F..%2F..%2Fusers",
            "https://api.test/v1/zones/..%2f",
            "https://api.test/v1/zones/a%5c..%5cb",
            "https://api.test/v1/zones/a%00b",
            "https://api.test/v1//zones/a",
            "https://api.test:8443/v1/zones/a",
            "http://api.test/v1/zones/a",
            "https://api.test./v1/zones/a",
            "https://xapi.test/v1/zones/a",
            "https://api.test/v1/zones%2Fa",
        ] {
            assert!(!get(&rule, &s, url), "{url}");
        }
        assert!(!allowed(&rule, &s, "DELETE", "https://api.test/v1/zones/a", Content::None));
    }

    #[test]
    fn a_setting_gives_scheme_host_port_and_leading_path() {
        let rule = rule("{server-url}", "/api/*", json!({}));
        let s = json!({"server-url": "http://ns.test:8081/behind/a/proxy/"});
        assert!(get(&rule, &s, "http://ns.test:8081/behind/a/proxy/api/zones"));
        assert!(!get(&rule, &s, "http://ns.test:8081/api/zones"));
        assert!(!get(&rule, &s, "http://ns.test:8081/behind/a/api/zones"));
        assert!(!get(&rule, &json!({}), "http://ns.test:8081/api/zones"));
        assert_eq!(expanded_origin(&rule, &s).as_deref(), Some("http://ns.test:8081"));
    }

    #[test]
    fn a_whole_address_is_that_address_and_nothing_below_it() {
        let rule = rule("{url}", "/", json!({}));
        for (url, good, bad) in [
            ("https://in.test/hooks/1", "https://in.test/hooks/1", "https://in.test/hooks/1/2"),
            ("https://in.test", "https://in.test/", "https://in.test/x"),
            ("https://in.test/a/", "https://in.test/a/", "https://in.test/a"),
            ("https://in.test/a?k=1", "https://in.test/a?k=1", "https://in.test/a?k=2"),
        ] {
            let s = json!({"url": url});
            assert!(get(&rule, &s, good), "{good}");
            assert!(!get(&rule, &s, bad), "{bad}");
        }
    }

    #[test]
    fn a_setting_within_host_or_path_stands_for_itself_alone() {
        let rule = rule("https://{host}:8083", "/users/{user}/*", json!({}));
        let s = json!({"host": "panel.test", "user": "a/b"});
        assert!(get(&rule, &s, "https://panel.test:8083/users/a%2Fb/x"));
        assert!(!get(&rule, &s, "https://panel.test:8083/users/a/b/x"));
        assert!(!get(&rule, &json!({"host": "evil.test/", "user": "a"}), "https://evil.test/users/a/x"));
    }

    #[test]
    fn a_pinned_field_is_checked_wherever_it_stands_and_however_often() {
        let rule = rule("https://h.test", "/api", json!({"cmd": ["list", "add"]}));
        let s = json!({});
        let post = |url: &str, body: Content<'_>| allowed(&rule, &s, "POST", url, body);
        let pair = |k: &str, v: &str| (k.to_owned(), v.to_owned());
        let json = |data: &'static str| Content::Bytes {
            content_type: "application/json; charset=utf-8",
            data: data.as_bytes(),
        };
        let url = "https://h.test/api";
        assert!(post(url, Content::Form(&[pair("cmd", "add")])));
        assert!(post("https://h.test/api?cmd=list", Content::None));
        assert!(post(url, json(r#"{"cmd": "add", "arg": {"cmd": "delete"}}"#)));
        let form = Content::Bytes { content_type: "application/x-www-form-urlencoded", data: b"cmd=list" };
        assert!(post(url, form));

        assert!(!post(url, Content::None));
        assert!(!post(url, Content::Form(&[pair("cmd", "delete")])));
        assert!(!post(url, Content::Form(&[pair("cmd", "add"), pair("cmd", "delete")])));
        assert!(!post(url, Content::Form(&[pair("cmd", "add"), pair("cmd[]", "delete")])));
        assert!(!post(url, Content::Form(&[pair("cmd", "add"), pair(" cmd", "delete")])));
        assert!(!post("https://h.test/api?cmd=delete", Content::Form(&[pair("cmd", "add")])));
        assert!(!post(url, json(r#"{"cmd": "delete", "cmd": "add"}"#)));
        assert!(!post(url, json(r#"["cmd"]"#)));
        assert!(!post(url, Content::Bytes { content_type: "multipart/form-data; boundary=x", data: b"cmd" }));
    }

    #[test]
    fn a_pinned_field_can_be_a_setting_or_the_zone_in_any_of_its_spellings() {
        let rule = rule("https://h.test", "/api", json!({"user": ["{user}"], "domain": ["{zone}"]}));
        let s = json!({"user": "shop", "zone": "xn--bcher-kva.example"});
        let post = |user: &str, domain: &str| {
            let form = [("user".to_owned(), user.to_owned()), ("domain".to_owned(), domain.to_owned())];
            allowed(&rule, &s, "POST", "https://h.test/api", Content::Form(&form))
        };
        for domain in ["xn--bcher-kva.example", "XN--BCHER-KVA.example.", "bücher.example"] {
            assert!(post("shop", domain), "{domain}");
        }
        for (user, domain) in [
            ("admin", "bücher.example"),
            ("Shop", "bücher.example"),
            ("{user}", "bücher.example"),
            ("shop", "sibling.example"),
            ("shop", "www.bücher.example"),
            ("shop", "notbücher.example"),
            ("shop", "{zone}"),
            ("shop", ""),
        ] {
            assert!(!post(user, domain), "{user} {domain}");
        }
        let form = [("user".to_owned(), String::new()), ("domain".to_owned(), "bücher.example".to_owned())];
        let nobody = json!({"user": "", "zone": "xn--bcher-kva.example"});
        assert!(
            !allowed(&rule, &nobody, "POST", "https://h.test/api", Content::Form(&form)),
            "an empty setting pins nothing"
        );
    }

    #[test]
    fn the_zone_can_stand_in_a_path() {
        let rule = rule("https://h.test", "/zones/{zone}.", json!({}));
        let s = json!({"zone": "0/25.2.0.192.in-addr.arpa"});
        assert!(get(&rule, &s, "https://h.test/zones/0%2F25.2.0.192.in-addr.arpa."));
        for path in ["0/25.2.0.192.in-addr.arpa.", "128%2F25.2.0.192.in-addr.arpa.", "0%2F25.2.0.192.in-addr.arpa", "*"]
        {
            assert!(!get(&rule, &s, &format!("https://h.test/zones/{path}")), "{path}");
        }
    }

    #[test]
    fn the_nearest_rule_says_why() {
        let rules = [rule("https://a.test", "/x", json!({})), rule("https://b.test", "/y", json!({}))];
        let url = Url::parse("https://b.test/z").unwrap();
        let why = check(&rules, &json!({}), &Asked { method: "GET", url: &url, body: Content::None }).unwrap_err();
        assert!(why.contains("path"), "{why}");
        assert!(check(&[], &json!({}), &Asked { method: "GET", url: &url, body: Content::None }).is_err());
    }
}
