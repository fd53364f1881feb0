//! Settings of the host: a TOML file, over it the environment, over it flags. A wrong key is named with its place.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde::Deserialize;

use crate::ConfigArguments;

const DEFAULT_FILE: &str = "/etc/wharf/wharf.toml";

/// What the host runs with.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Address and port.
    pub listen: String,
    pub data_dir: PathBuf,
    /// 64 hex digits; none = `master.key` in `data_dir`, made at the first start.
    pub master_key_file: Option<PathBuf>,
    /// Log filter.
    pub log: String,
    pub log_format: LogFormat,
    pub engine: EngineSection,
    pub plugins: PluginSection,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LogFormat {
    Text,
    Json,
}

/// `[engine]`
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct EngineSection {
    /// Runs worked on at once.
    pub concurrency: usize,
    /// Seconds that a claim holds.
    pub claim_ttl_s: u32,
}

/// `[plugins]`
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct PluginSection {
    /// Wasm stores alive at once.
    pub slots: std::num::NonZeroU32,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            listen: "127.0.0.1:8480".into(),
            data_dir: "/var/lib/wharf".into(),
            master_key_file: None,
            log: "info".into(),
            log_format: LogFormat::Text,
            engine: EngineSection::default(),
            plugins: PluginSection::default(),
        }
    }
}

impl Default for EngineSection {
    fn default() -> Self {
        Self { concurrency: 64, claim_ttl_s: 30 }
    }
}

impl Default for PluginSection {
    fn default() -> Self {
        Self { slots: std::num::NonZeroU32::MIN.saturating_add(31) }
    }
}

/// Reads the file that was named, or the default one if it is there, and lays flags and environment over it.
pub fn load(arguments: &ConfigArguments) -> Result<Config> {
    let file = match &arguments.config {
        Some(file) => Some(file.as_path()),
        None => Some(Path::new(DEFAULT_FILE)).filter(|f| f.exists()),
    };
    let mut config = match file {
        Some(file) => {
            let text = std::fs::read_to_string(file).with_context(|| format!("can't read {}", file.display()))?;
            parse(&text).with_context(|| format!("in {}", file.display()))?
        }
        None => Config::default(),
    };
    if let Some(listen) = &arguments.listen {
        config.listen.clone_from(listen);
    }
    if let Some(dir) = &arguments.data_dir {
        config.data_dir.clone_from(dir);
    }
    if let Some(log) = &arguments.log {
        config.log.clone_from(log);
    }
    Ok(config)
}

fn parse(text: &str) -> Result<Config> {
    // The error of the toml crate shows line, column, the key, and the keys that are known.
    Ok(toml::from_str(text)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wrong_key_is_named_with_its_line_and_the_known_ones() {
        let text = format!("{:#}", parse("listen = \"127.0.0.1:1\"\n[engine]\nconcurency = 5\n").unwrap_err());
        assert!(text.contains("line 3") && text.contains("concurency") && text.contains("concurrency"), "{text}");
    }

    #[test]
    fn what_is_not_said_has_its_default() {
        let config = parse("[engine]\nconcurrency = 5\n").unwrap();
        assert_eq!(
            (config.engine.concurrency, config.engine.claim_ttl_s, config.listen.as_str()),
            (5, 30, "127.0.0.1:8480")
        );
    }
}
