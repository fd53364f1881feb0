//! Settings of a zone as an author gives them: by name, from a file, each secret from a file of its own.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use clap::Args;
use serde_json::{Map, Value as Json};
use wharf_capabilities::http::rules;
use wharf_model::manifest::Manifest;
use wharf_plugins::settings;

use super::run::house::Secrets;

#[derive(Args)]
pub struct Given {
    /// A setting of the zone, `name=value`; may be given several times.
    #[arg(long = "setting", value_name = "NAME=VALUE")]
    pub settings: Vec<String>,
    /// Settings of the zone as a JSON object, secrets included; `--setting` goes over it.
    #[arg(long, value_name = "FILE")]
    pub settings_file: Option<PathBuf>,
    /// A secret of the zone: the first line of a file, `name=path`; may be given several times.
    #[arg(long = "secret-file", value_name = "NAME=PATH")]
    pub secrets: Vec<String>,
}

/// Origins that may be reached although they are private.
pub fn origins(given: &[String]) -> Result<BTreeSet<String>> {
    let origin = |text: &String| {
        rules::origin_of(text)
            .with_context(|| format!("--allow-private: `{text}` is no origin like http://127.0.0.1:8080"))
    };
    given.iter().map(origin).collect()
}

/// `name=value`.
fn pair<'a>(flag: &str, given: &'a str) -> Result<(&'a str, &'a str)> {
    given.split_once('=').with_context(|| format!("--{flag}: `{given}` is not of the form name=value"))
}

/// A value as the schema has it: a text, or what JSON says.
fn value_of(schema: &Json, name: &str, text: &str) -> Json {
    let is_text = schema.pointer(&format!("/properties/{name}/type")).is_none_or(|t| t == "string");
    if is_text { None } else { serde_json::from_str(text).ok() }.unwrap_or_else(|| text.into())
}

/// A secret's name, and the first line of its file.
fn secret<'a>(slots: &[String], text: &'a str) -> Result<(&'a str, String)> {
    let (name, path) = pair("secret-file", text)?;
    if !slots.iter().any(|slot| slot == name) {
        bail!("the manifest has no secret `{name}`; it has: {}", slots.join(", "));
    }
    let value = std::fs::read_to_string(path).with_context(|| format!("{path} can't be read"))?;
    Ok((name, value.lines().next().unwrap_or_default().to_owned()))
}

impl Given {
    /// What is laid over the settings of a façade.
    pub fn laid_over(&self, manifest: &Manifest) -> Result<Json> {
        let mut laid = self.of_file()?;
        for text in &self.settings {
            let (name, value) = pair("setting", text)?;
            let value = value_of(&manifest.settings, name, value);
            laid.as_object_mut().context("the settings are no JSON object")?.insert(name.to_owned(), value);
        }
        Ok(laid)
    }

    fn of_file(&self) -> Result<Json> {
        match &self.settings_file {
            None => Ok(Json::Object(Map::new())),
            Some(file) => {
                let text =
                    std::fs::read_to_string(file).with_context(|| format!("{} can't be read", file.display()))?;
                serde_json::from_str(&text)
                    .map_err(|e| anyhow::anyhow!("{}:{}:{}: {e}", file.display(), e.line(), e.column()))
            }
        }
    }

    /// The settings of the zone, valid by the schema, and its secrets.
    pub fn whole(&self, manifest: &Manifest) -> Result<(Json, Secrets)> {
        let schema = &manifest.settings;
        let mut given = self.of_file()?;
        let mut secrets: BTreeMap<String, String> = settings::take_secrets(schema, &mut given).into_iter().collect();
        let slots = settings::secret_slots(schema);
        for text in &self.settings {
            let (name, value) = pair("setting", text)?;
            if slots.iter().any(|slot| slot == name) {
                bail!("`{name}` is a secret: put it into a file and say --secret-file {name}=<path>");
            }
            let value = value_of(schema, name, value);
            given.as_object_mut().context("the settings are no JSON object")?.insert(name.to_owned(), value);
        }
        for text in &self.secrets {
            let (name, value) = secret(&slots, text)?;
            secrets.insert(name.to_owned(), value);
        }
        let errors = settings::check(schema, &given);
        if !errors.is_empty() {
            let lines: Vec<String> = errors.iter().map(|e| format!("  {e}")).collect();
            bail!("the settings are not what the manifest asks for:\n{}", lines.join("\n"));
        }
        let required = schema.get("required").and_then(Json::as_array).into_iter().flatten().filter_map(Json::as_str);
        for name in required.filter(|name| slots.iter().any(|slot| slot == name)) {
            if secrets.get(name).is_none_or(String::is_empty) {
                bail!("the secret `{name}` is missing: put it into a file and say --secret-file {name}=<path>");
            }
        }
        Ok((given, secrets.into_iter().collect()))
    }
}
