//! What is wrong with a manifest although a host would take it, or takes it only to refuse every request: each with its
//! place in the author's file.

use std::collections::BTreeSet;

use serde_json::Value;
use wharf_model::manifest::{Manifest, ManifestError, Position, World};
use wharf_plugins::settings;

/// Something to mend. `pointer` leads to it in the manifest; empty = nowhere in particular.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    pub pointer: String,
    pub message: String,
}

impl Finding {
    pub fn at(pointer: impl Into<String>, message: impl Into<String>) -> Self {
        Self { pointer: pointer.into(), message: message.into() }
    }
}

/// The place that a field of a [`ManifestError`] names: `requests[0]` is `/requests/0`.
pub fn of_error(error: &ManifestError) -> Finding {
    match error {
        ManifestError::Field { field, problem } => {
            let pointer = field.replace(['.', '['], "/").replace(']', "");
            Finding::at(format!("/{pointer}"), format!("`{field}` {problem}"))
        }
        other => Finding::at("", other.to_string()),
    }
}

/// What a manifest that was read has wrong.
pub fn findings(manifest: &Manifest) -> Vec<Finding> {
    let mut found = Vec::new();
    if let Some(error) = settings::schema_error(&manifest.settings) {
        let message = format!("`settings` is no valid JSON Schema: {}: {}", error.message, error.remedy);
        found.push(Finding::at(format!("/settings{}", error.field), message));
        return found;
    }
    let secret: BTreeSet<String> = settings::secret_slots(&manifest.settings).into_iter().collect();
    secrets(manifest, &secret, &mut found);
    rules(manifest, &secret, &mut found);
    found
}

fn secrets(manifest: &Manifest, secret: &BTreeSet<String>, found: &mut Vec<Finding>) {
    for (n, slot) in manifest.secrets.iter().enumerate() {
        // A provisioner makes secrets of its own.
        if manifest.world != World::Provisioner && !secret.contains(&slot.slot) {
            found.push(Finding::at(
                format!("/secrets/{n}/slot"),
                format!("the slot `{}` is no setting with `\"x-secret\": true`, so it never has a value", slot.slot),
            ));
        }
        if slot.positions.is_empty() {
            found.push(Finding::at(format!("/secrets/{n}"), format!("the slot `{}` has no position", slot.slot)));
        }
        for (at, position) in slot.positions.iter().enumerate() {
            if let Position::Header(name) = position
                && wharf_capabilities::http::is_reserved(name)
            {
                found.push(Finding::at(
                    format!("/secrets/{n}/positions/{at}"),
                    format!("the header `{name}` is set by the host, so nothing of a plugin's goes in there"),
                ));
            }
        }
    }
    for name in secret {
        let pointer = format!("/settings/properties/{}", name.replace('.', "/properties/"));
        if manifest.slot(name).is_none() && manifest.world != World::Provisioner {
            found.push(Finding::at(
                &pointer,
                format!("the secret `{name}` has no entry in `secrets`, so it can't be put into any request"),
            ));
        }
        if manifest
            .settings
            .pointer(pointer.trim_start_matches("/settings"))
            .is_some_and(|p| p.get("default").is_some())
        {
            found.push(Finding::at(format!("{pointer}/default"), format!("the secret `{name}` has a default")));
        }
    }
}

fn rules(manifest: &Manifest, secret: &BTreeSet<String>, found: &mut Vec<Finding>) {
    let speaks = manifest.wants.contains_key("wharf:http/client");
    if !speaks && !manifest.requests.is_empty() {
        found.push(Finding::at("/requests", "there are requests, but `wants` does not have `wharf:http/client`"));
    }
    if speaks && manifest.requests.is_empty() {
        found
            .push(Finding::at("/wants/wharf:http~1client", "there are no `requests`, so the host refuses all of them"));
    }
    for (n, rule) in manifest.requests.iter().enumerate() {
        let at = format!("/requests/{n}");
        for (m, method) in rule.methods.iter().enumerate() {
            if method.is_empty() || !method.chars().all(|c| c.is_ascii_uppercase()) {
                found.push(Finding::at(format!("{at}/methods/{m}"), format!("`{method}` is no method: use capitals")));
            }
        }
        for (field, template) in [("origin", &rule.origin), ("path", &rule.path)] {
            let names = match names(template) {
                Ok(names) => names,
                Err(()) => {
                    found.push(Finding::at(format!("{at}/{field}"), format!("`{template}` has a lone brace")));
                    continue;
                }
            };
            for name in names {
                let pointer = format!("{at}/{field}");
                if secret.contains(name) {
                    found.push(Finding::at(
                        pointer,
                        format!("`{{{name}}}` is a secret, and those never stand in an URL"),
                    ));
                } else if property(&manifest.settings, name).is_none() {
                    found.push(Finding::at(pointer, format!("there is no setting `{name}` for `{{{name}}}`")));
                }
            }
        }
        if let Some(rest) = rule.origin.strip_prefix("http").and_then(|o| o.split_once("://")).map(|(_, rest)| rest)
            && rest.contains('/')
        {
            found.push(Finding::at(format!("{at}/origin"), "an origin has no path: put it into `path`"));
        }
    }
}

fn property<'a>(schema: &'a Value, name: &str) -> Option<&'a Value> {
    schema.get("properties")?.get(name)
}

/// Names in braces.
fn names(template: &str) -> Result<Vec<&str>, ()> {
    let mut names = Vec::new();
    let mut rest = template;
    while let Some((before, behind)) = rest.split_once('{') {
        let (name, behind) = behind.split_once('}').ok_or(())?;
        if before.contains('}') {
            return Err(());
        }
        names.push(name);
        rest = behind;
    }
    if rest.contains('}') { Err(()) } else { Ok(names) }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn manifest(change: impl FnOnce(&mut Value)) -> Manifest {
        let text =
            super::super::files::EVERY[0].1.replace("@ID@", "dns-x").replace("@MEMORY@", "64").replace("@CLOCK@", "");
        let mut value: Value = serde_json::from_str(&text).unwrap();
        change(&mut value);
        Manifest::parse(value.to_string().as_bytes()).unwrap()
    }

    #[test]
    fn the_template_has_nothing_to_mend() {
        assert_eq!(findings(&manifest(|_| {})), []);
    }

    #[test]
    fn each_mistake_is_found_at_its_place() {
        let mistakes: [(&str, fn(&mut Value)); 9] = [
            ("/secrets/0/slot", |m| m["secrets"][0]["slot"] = "tokn".into()),
            ("/settings/properties/token", |m| m["secrets"] = json!([])),
            ("/settings/properties/token/default", |m| m["settings"]["properties"]["token"]["default"] = "x".into()),
            ("/secrets/0/positions/0", |m| m["secrets"][0]["positions"][0]["header"] = "Host".into()),
            ("/requests/1/methods/0", |m| m["requests"][1]["methods"] = json!(["get"])),
            ("/requests/0/origin", |m| m["requests"][0]["origin"] = "{serverurl}".into()),
            ("/requests/2/path", |m| m["requests"][2]["path"] = "/v1/{token}".into()),
            ("/requests/2/path", |m| m["requests"][2]["path"] = "/v1/{zone".into()),
            ("/settings/properties/token/type", |m| m["settings"]["properties"]["token"]["type"] = "strng".into()),
        ];
        for (pointer, mistake) in mistakes {
            let found = findings(&manifest(mistake));
            assert!(found.iter().any(|f| f.pointer == pointer), "{pointer}: {found:?}");
        }
    }

    #[test]
    fn a_field_of_the_hosts_error_is_a_pointer() {
        let error = ManifestError::Field { field: "requests[1]".into(), problem: "names no method".into() };
        assert_eq!(of_error(&error).pointer, "/requests/1");
    }
}
