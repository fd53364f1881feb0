//! Secret settings, taken out of what is stored and shown.
//!
//! Guarantees that after [`take_secrets`] no property marked `x-secret` is left in the settings, whatever was sent.

use serde_json::Value;

use super::{MAX_DEPTH, properties};

/// What is shown, and may be sent back, in place of a value that is kept.
pub const KEPT: &str = "••••••••";

/// Takes the values of all properties marked `x-secret` out of `settings`: (slot, value). The slot is the property's name,
/// with the names of the objects around it before it and dots between. A value that is missing, `null`, empty or
/// [`KEPT`] is not returned: what is stored stays.
pub fn take_secrets(schema: &Value, settings: &mut Value) -> Vec<(String, String)> {
    let mut taken = Vec::new();
    take(schema, settings, &mut Vec::new(), &mut taken);
    taken
}

/// Names of all secret slots that a schema has, in its order.
pub fn secret_slots(schema: &Value) -> Vec<String> {
    let mut slots = Vec::new();
    names(schema, &mut Vec::new(), &mut slots);
    slots
}

fn is_secret(property: &Value) -> bool {
    property.get("x-secret").and_then(Value::as_bool).unwrap_or(false)
}

fn names(schema: &Value, path: &mut Vec<String>, slots: &mut Vec<String>) {
    if path.len() >= MAX_DEPTH {
        return;
    }
    for (name, property) in properties(schema) {
        path.push(name.clone());
        if is_secret(property) {
            slots.push(path.join("."));
        } else {
            names(property, path, slots);
        }
        path.pop();
    }
}

fn take(schema: &Value, settings: &mut Value, path: &mut Vec<String>, taken: &mut Vec<(String, String)>) {
    if path.len() >= MAX_DEPTH {
        return;
    }
    let Some(map) = settings.as_object_mut() else { return };
    for (name, property) in properties(schema) {
        path.push(name.clone());
        if is_secret(property) {
            let text = match map.remove(name) {
                Some(Value::String(text)) => text,
                Some(Value::Null) | None => String::new(),
                // A number as a password: what was meant is its text.
                Some(other) => other.to_string(),
            };
            if !text.is_empty() && text != KEPT {
                taken.push((path.join("."), text));
            }
        } else if let Some(inner) = map.get_mut(name) {
            take(property, inner, path, taken);
        }
        path.pop();
    }
}
