//! `$params` of WHMCS as a JSON object, whether it was posted as JSON or as a form. Depth and number of fields are
//! limited; the size of the body is limited by the host (1 MiB).

use serde_json::{Map, Value};
use wharf_sdk::panel::prelude::*;

/// Fields of a form. WHMCS has some hundred; PHP itself stops at 1,000.
const MAX_FIELDS: usize = 2000;
/// Levels of brackets in a form's field name.
const MAX_DEPTH: usize = 8;

/// Reads a body by its content type. `params` at the top level is opened, for modules that wrap it.
pub fn read(hook: &Hook) -> Result<Map<String, Value>, Failure> {
    let kind = hook.content_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    let value = match kind.as_str() {
        "application/x-www-form-urlencoded" => Value::Object(form(&hook.body)?),
        "" | "application/json" => serde_json::from_str(&hook.body).map_err(|e| {
            Failure::fix_input("body", format!("The body is not JSON: {e}. Post $params as json_encode makes it."))
        })?,
        other => {
            return Err(Failure::fix_input(
                "content-type",
                format!(
                    "The content type `{other}` is not understood: use application/json or application/x-www-form-urlencoded."
                ),
            ));
        }
    };
    let Value::Object(mut map) = value else {
        return Err(Failure::fix_input("body", "The body is not a JSON object: post $params, an array with names."));
    };
    match map.remove("params") {
        Some(Value::Object(inner)) => Ok(inner),
        Some(other) => {
            map.insert("params".into(), other);
            Ok(map)
        }
        None => Ok(map),
    }
}

/// A form as PHP writes it: `a[b][c]=d`.
fn form(body: &str) -> Result<Map<String, Value>, Failure> {
    let mut out = Map::new();
    for (n, pair) in body.split('&').filter(|p| !p.is_empty()).enumerate() {
        if n >= MAX_FIELDS {
            return Err(Failure::fix_input("body", format!("The form has more than {MAX_FIELDS} fields.")));
        }
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        let (name, value) = (decode(name), decode(value));
        let (first, rest) = name.split_once('[').unwrap_or((&name, ""));
        let mut path = vec![first];
        path.extend(rest.split('[').map(|p| p.trim_end_matches(']')).filter(|p| !p.is_empty()));
        if path.len() > MAX_DEPTH {
            return Err(Failure::fix_input(
                "body",
                format!("The form field `{name}` is nested more than {MAX_DEPTH} deep."),
            ));
        }
        put(&mut out, &path, value);
    }
    Ok(out)
}

/// Sets a value at a path; what stands in the way is replaced.
fn put(map: &mut Map<String, Value>, path: &[&str], value: String) {
    match path {
        [] => {}
        [last] => {
            map.insert((*last).to_owned(), Value::String(value));
        }
        [first, rest @ ..] => {
            let slot = map.entry(*first).or_insert_with(|| Value::Object(Map::new()));
            if !slot.is_object() {
                *slot = Value::Object(Map::new());
            }
            if let Value::Object(inner) = slot {
                put(inner, rest, value);
            }
        }
    }
}

/// `+` and `%XX`; what is no UTF-8 becomes U+FFFD.
fn decode(text: &str) -> String {
    let mut out = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        match byte {
            b'+' => out.push(b' '),
            b'%' => {
                let mut ahead = bytes.clone();
                let digit = |b: Option<u8>| b.and_then(|b| char::from(b).to_digit(16));
                match (digit(ahead.next()), digit(ahead.next())) {
                    (Some(high), Some(low)) => {
                        out.push(u8::try_from(high * 16 + low).unwrap_or_default());
                        bytes = ahead;
                    }
                    _ => out.push(b'%'),
                }
            }
            byte => out.push(byte),
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn brackets_make_objects_and_escapes_are_read() {
        let map = form("serviceid=7&configoptions%5BCPU%5D=2%7C2+cores&a[b][c]=%C3%A4&x&bad=%zz").unwrap();
        assert_eq!(map["configoptions"]["CPU"], "2|2 cores");
        assert_eq!(map["a"]["b"]["c"], "ä");
        assert_eq!((&map["x"], &map["bad"]), (&Value::from(""), &Value::from("%zz")));
    }

    #[test]
    fn a_form_is_limited_in_depth_and_fields() {
        assert!(form(&format!("a{}=1", "[b]".repeat(20))).is_err());
        assert!(form(&"a=1&".repeat(MAX_FIELDS + 1)).is_err());
    }
}
