//! What a plan, a zone or a hook is set to: defaults filled in, options laid over, checked by the plugin's schema.
//!
//! The host knows no setting. Everything here is driven by the JSON Schema in the manifest: `default` fills what is
//! missing, `x-option: {"name", "legacy"}` names the panel option that overrides a property, `x-secret: true` marks a
//! property whose value is kept apart. Names of options have one owner: two properties that claim one are an error of the
//! manifest, and an option that nobody claims is refused with the known ones. Bounded by the size of the schema
//! ([`wharf_model::manifest::MAX_BYTES`]) and [`MAX_DEPTH`].

mod compiled;
mod secrets;

use std::collections::BTreeMap;

use jsonschema::error::ValidationErrorKind;
use serde_json::{Map, Value};
use wharf_model::manifest::Manifest;

pub use secrets::{KEPT, secret_slots, take_secrets};

/// Objects within objects that are walked for defaults, options and secrets. Forms with more levels are unreadable.
pub const MAX_DEPTH: usize = 8;
/// Errors that are reported at once: enough to mend a form in one go, few enough to read.
const MAX_ERRORS: usize = 20;

/// What is wrong with one field, and what to do about it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {message}: {remedy}")]
pub struct FieldError {
    /// JSON pointer into the settings (`/network/bridge`), or `options.<name>` for an option of an order.
    pub field: String,
    pub message: String,
    pub remedy: String,
}

impl FieldError {
    fn new(field: impl Into<String>, message: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { field: field.into(), message: message.into(), remedy: remedy.into() }
    }
}

/// A property of the schema that an option overrides.
#[derive(Debug, Clone, PartialEq)]
struct OptionOwner {
    name: String,
    legacy: Option<String>,
    path: Vec<String>,
    types: Vec<String>,
}

/// The settings that count: `plan` with defaults filled in and `options` laid over, valid by the manifest's schema.
///
/// An option is matched by its exact name; else by the legacy form `PREFIX|anything`. Given both, the exact name wins. Its
/// text is converted to the type of the property it overrides; an empty text for a property that is no string counts as
/// not given. `0` and `false` are values.
///
/// # Errors
/// All fields that are wrong, each with its remedy; at most 20.
pub fn effective(
    manifest: &Manifest,
    plan: &Value,
    options: &BTreeMap<String, String>,
) -> Result<Value, Vec<FieldError>> {
    let schema = &manifest.settings;
    let mut settings = match plan {
        Value::Null => Value::Object(Map::new()),
        Value::Object(_) => plan.clone(),
        _ => {
            return Err(vec![FieldError::new("", "the settings are not a JSON object", "send an object of settings")]);
        }
    };
    let owners = option_owners(schema)?;
    let mut errors = Vec::new();
    lay_over(&owners, &mut settings, options, &mut errors);
    fill_defaults(schema, &mut settings, 0);
    if errors.is_empty() {
        errors = check(schema, &settings);
    }
    if errors.is_empty() { Ok(settings) } else { Err(errors) }
}

/// Checks settings against a schema: at most 20 errors, each with the pointer of its field. Required secrets are not
/// missed: they are kept apart.
pub fn check(schema: &Value, settings: &Value) -> Vec<FieldError> {
    let secret: Vec<_> = secret_slots(schema).iter().map(|slot| format!("/{}", slot.replace('.', "/"))).collect();
    match compiled::validator(schema) {
        Ok(validator) => validator
            .iter_errors(settings)
            .filter_map(|e| {
                let required = matches!(e.kind(), ValidationErrorKind::Required { .. });
                let error = field_error(schema, &e, !secret.is_empty());
                (!required || !secret.contains(&error.field)).then_some(error)
            })
            .take(MAX_ERRORS)
            .collect(),
        Err(e) => vec![FieldError::new(
            "",
            format!("the plugin's own schema is not valid ({e})"),
            "report it to the plugin's author",
        )],
    }
}

/// Fills in the defaults of every property that is missing, in nested objects too.
pub fn with_defaults(schema: &Value, settings: &Value) -> Value {
    let mut settings = if settings.is_object() { settings.clone() } else { Value::Object(Map::new()) };
    fill_defaults(schema, &mut settings, 0);
    settings
}

/// What is wrong with a schema itself: the pointer into it, and why.
pub fn schema_error(schema: &Value) -> Option<FieldError> {
    let error = jsonschema::validator_for(schema).err()?;
    Some(FieldError::new(error.instance_path().to_string(), error.to_string(), "see https://json-schema.org"))
}

/// `discreet`: without the value, for who has secrets to enter may have entered one in the wrong field.
fn field_error(schema: &Value, error: &jsonschema::ValidationError<'_>, discreet: bool) -> FieldError {
    let at = error.instance_path().to_string();
    // The schema whose rule is broken; none behind a reference.
    let rule = error.schema_path().to_string();
    let broken = rule.rsplit_once('/').and_then(|(parent, _)| schema.pointer(parent));
    let about = |schema: Option<&Value>| {
        let text = schema.and_then(|s| s.get("description")).and_then(Value::as_str).unwrap_or_default();
        crate::text::cut(text.trim().trim_end_matches('.'), 300)
    };
    let said = || {
        let said = if discreet { error.masked_with("what was given").to_string() } else { error.to_string() };
        crate::text::cut(&said, 500)
    };
    let given = || match error.instance().as_ref() {
        Value::String(text) if !discreet => format!("`{}`", crate::text::cut(text, 200)),
        _ => "what was given".to_owned(),
    };
    let (field, message, remedy) = match error.kind() {
        ValidationErrorKind::Required { property } => {
            let name = property.as_str().unwrap_or_default();
            let own = broken.and_then(|s| s.get("properties")).and_then(|p| p.get(name));
            let remedy = match about(own) {
                text if text.is_empty() => "give it a value".to_owned(),
                text => format!("give it a value ({text})"),
            };
            (format!("{at}/{name}"), "it is missing".to_owned(), remedy)
        }
        ValidationErrorKind::AdditionalProperties { unexpected }
        | ValidationErrorKind::UnevaluatedProperties { unexpected } => {
            let wrong = unexpected.first().map(String::as_str).unwrap_or_default();
            let mut known: Vec<&str> = broken.into_iter().flat_map(properties).map(|(name, _)| name.as_str()).collect();
            // Of many, those that begin alike are the likeliest.
            known.sort_by_key(|name| !(name.get(..3).is_some() && name.get(..3) == wrong.get(..3)));
            let remedy = if known.is_empty() {
                "remove it".to_owned()
            } else {
                format!("remove it, or correct its name: there are {}", crate::text::cut(&known.join(", "), 200))
            };
            let field = unexpected.first().map_or_else(|| at.clone(), |name| format!("{at}/{name}"));
            (field, "there is no such setting".to_owned(), remedy)
        }
        ValidationErrorKind::Enum { options } => (at, said(), format!("use one of {options}")),
        ValidationErrorKind::Maximum { limit } => (at, said(), format!("use {limit} or less")),
        ValidationErrorKind::Minimum { limit } => (at, said(), format!("use {limit} or more")),
        ValidationErrorKind::MaxLength { limit } => (at, said(), format!("use at most {limit} characters")),
        ValidationErrorKind::MinLength { limit } => (at, said(), format!("use at least {limit} characters")),
        ValidationErrorKind::Pattern { pattern } => {
            let remedy = match about(broken) {
                text if text.is_empty() => format!("it must match {pattern}"),
                text => format!("{text} (it must match {pattern})"),
            };
            (at, format!("{} does not have the form that is asked for", given()), remedy)
        }
        ValidationErrorKind::Format { format } => (at, said(), format!("it must be a valid {format}")),
        ValidationErrorKind::Type { .. } => (at, said(), "use a value of that type".to_owned()),
        _ => match about(broken) {
            text if text.is_empty() => (at, said(), "see the description of this setting".to_owned()),
            text => (at, said(), text),
        },
    };
    FieldError::new(field, message, remedy)
}

fn properties(schema: &Value) -> impl Iterator<Item = (&String, &Value)> {
    schema.get("properties").and_then(Value::as_object).into_iter().flatten()
}

fn types_of(schema: &Value) -> Vec<String> {
    match schema.get("type") {
        Some(Value::String(one)) => vec![one.clone()],
        Some(Value::Array(many)) => many.iter().filter_map(Value::as_str).map(str::to_owned).collect(),
        _ => Vec::new(),
    }
}

fn fill_defaults(schema: &Value, settings: &mut Value, depth: usize) {
    let Some(map) = settings.as_object_mut() else { return };
    if depth >= MAX_DEPTH {
        return;
    }
    for (name, property) in properties(schema) {
        if !map.contains_key(name) {
            if let Some(default) = property.get("default") {
                map.insert(name.clone(), default.clone());
            } else if properties(property).next().is_some() {
                // An object without a default of its own exists as far as its parts have defaults.
                let mut nested = Value::Object(Map::new());
                fill_defaults(property, &mut nested, depth + 1);
                if nested.as_object().is_some_and(|n| !n.is_empty()) {
                    map.insert(name.clone(), nested);
                }
                continue;
            }
        }
        if let Some(value) = map.get_mut(name) {
            if let (Some(items), Value::Array(values)) = (property.get("items"), &mut *value) {
                for item in values {
                    fill_defaults(items, item, depth + 1);
                }
            } else {
                fill_defaults(property, value, depth + 1);
            }
        }
    }
}

fn option_owners(schema: &Value) -> Result<Vec<OptionOwner>, Vec<FieldError>> {
    let mut owners = Vec::new();
    collect_owners(schema, &mut Vec::new(), &mut owners);
    let mut seen = BTreeMap::new();
    for owner in &owners {
        for name in std::iter::once(&owner.name).chain(&owner.legacy) {
            let at = pointer(&owner.path);
            if let Some(other) = seen.insert(name.clone(), at.clone())
                && other != at
            {
                return Err(vec![FieldError::new(
                    at,
                    format!("the plugin's schema gives the option `{name}` to `{other}` too"),
                    "report it to the plugin's author",
                )]);
            }
        }
    }
    Ok(owners)
}

/// The author's mistake of giving one option to two settings.
pub(crate) fn owner_problem(schema: &Value) -> Option<String> {
    option_owners(schema).err()?.into_iter().next().map(|e| format!("manifest field `settings`: {e}"))
}

fn collect_owners(schema: &Value, path: &mut Vec<String>, owners: &mut Vec<OptionOwner>) {
    if path.len() >= MAX_DEPTH {
        return;
    }
    for (name, property) in properties(schema) {
        path.push(name.clone());
        let text =
            |key: &str| property.get("x-option").and_then(|o| o.get(key)).and_then(Value::as_str).map(str::to_owned);
        if let Some(option) = text("name") {
            owners.push(OptionOwner {
                name: option,
                legacy: text("legacy"),
                path: path.clone(),
                types: types_of(property),
            });
        }
        collect_owners(property, path, owners);
        path.pop();
    }
}

fn lay_over(
    owners: &[OptionOwner],
    settings: &mut Value,
    options: &BTreeMap<String, String>,
    errors: &mut Vec<FieldError>,
) {
    // By owner: the exact name, and the first legacy spelling.
    let mut chosen: Vec<Option<(&String, &String, bool)>> = vec![None; owners.len()];
    for (given, text) in options {
        let exact = owners.iter().position(|o| o.name == *given);
        let legacy = || {
            // `PREFIX|anything` as some panels write it, and the bare prefix.
            let prefix = given.split('|').next().unwrap_or(given).trim();
            owners.iter().position(|o| o.legacy.as_deref() == Some(prefix))
        };
        let Some(n) = exact.or_else(legacy) else {
            let mut known: Vec<_> = owners.iter().map(|o| o.name.as_str()).collect();
            known.sort_unstable();
            let remedy = if known.is_empty() {
                "this plan takes no options: remove it".to_owned()
            } else {
                format!("remove it, or use one of: {}", known.join(", "))
            };
            errors.push(FieldError::new(format!("options.{given}"), "no setting of this plan has this option", remedy));
            continue;
        };
        if let Some(slot) = chosen.get_mut(n)
            && (exact.is_some() || slot.is_none())
        {
            *slot = Some((given, text, exact.is_some()));
        }
    }
    for (owner, choice) in owners.iter().zip(chosen) {
        let Some((given, text, _)) = choice else { continue };
        match convert(text, &owner.types) {
            Ok(Some(value)) => set(settings, &owner.path, value),
            Ok(None) => {}
            Err(wanted) => errors.push(FieldError::new(
                format!("options.{given}"),
                format!("`{}` is not {wanted}", crate::text::cut(text, 100)),
                format!("order it with {wanted} as its value"),
            )),
        }
    }
    errors.truncate(MAX_ERRORS);
}

/// Text of an option as the property's type. `None` = nothing was chosen.
fn convert(text: &str, types: &[String]) -> Result<Option<Value>, &'static str> {
    let trimmed = text.trim();
    let has = |name: &str| types.iter().any(|t| t == name);
    if trimmed.is_empty() && !has("string") && !types.is_empty() {
        return Ok(None);
    }
    let mut wanted = "a text";
    if has("boolean") {
        match trimmed.to_ascii_lowercase().as_str() {
            "true" | "yes" | "on" | "1" => return Ok(Some(Value::Bool(true))),
            "false" | "no" | "off" | "0" => return Ok(Some(Value::Bool(false))),
            _ => wanted = "yes or no",
        }
    }
    if has("integer") {
        match trimmed.parse::<i64>() {
            Ok(n) => return Ok(Some(Value::from(n))),
            Err(_) => wanted = "a whole number",
        }
    }
    if has("number") {
        match trimmed.parse::<f64>().ok().and_then(serde_json::Number::from_f64) {
            Some(n) => return Ok(Some(Value::Number(n))),
            None => wanted = "a number",
        }
    }
    if has("array") {
        let items = trimmed.split(',').map(str::trim).filter(|s| !s.is_empty()).map(|s| Value::from(s.to_owned()));
        return Ok(Some(Value::Array(items.collect())));
    }
    if has("string") || types.is_empty() {
        return Ok(Some(Value::from(text.to_owned())));
    }
    Err(wanted)
}

fn set(settings: &mut Value, path: &[String], value: Value) {
    let mut at = settings;
    for name in path {
        if !at.is_object() {
            *at = Value::Object(Map::new());
        }
        let Some(map) = at.as_object_mut() else { return };
        at = map.entry(name.clone()).or_insert(Value::Null);
    }
    *at = value;
}

fn pointer(path: &[String]) -> String {
    path.iter().map(|p| format!("/{}", p.replace('~', "~0").replace('/', "~1"))).collect()
}

#[cfg(test)]
mod tests;
