//! Settings of the host: a TOML file, over it the environment, over it flags.
//!
//! Guarantees that nothing wrong is passed over: a wrong key or value is named with its place (file and line, variable, or
//! flag) and with what would be right.

use std::{
    ffi::{OsStr, OsString},
    net::{IpAddr, SocketAddr},
    num::{NonZeroU32, NonZeroUsize},
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, anyhow};
use ipnet::IpNet;
use serde::{Deserialize, Deserializer};
use toml::{Table, Value};

use crate::ConfigArguments;

pub const DEFAULT_FILE: &str = "/etc/wharf/wharf.toml";

/// Before the name of a variable: `WHARF_LISTEN`; `__` stands between a section and its key: `WHARF_ENGINE__CONCURRENCY`.
const PREFIX: &str = "WHARF_";
/// Variables with the prefix that are no settings of the host: what flags of other commands read, and what the tools of the
/// source tree hand on to the processes that they start.
const OTHERS: [&str; 7] = [
    "WHARF_CONFIG",
    "WHARF_URL",
    "WHARF_TOKEN",
    "WHARF_PLUGINS_DIR",
    "WHARF_PLUGIN_TOOLCHAIN",
    "WHARF_SQLITE_DATABASE_URL",
    "WHARF_POSTGRES_DATABASE_URL",
];
/// The same, by how they begin. Kubernetes sets `WHARF_SERVICE_HOST`, `WHARF_PORT_8480_TCP` and so on in every container
/// beside a service named `wharf`.
const OTHER_PREFIXES: [&str; 4] = ["WHARF_TEST_", "WHARF_PVE_SCHEMA", "WHARF_SERVICE_", "WHARF_PORT"];

/// What the host runs with.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Address and port.
    pub listen: String,
    pub data_dir: PathBuf,
    /// `postgres://user:password@host:port/database`; none = SQLite in `data_dir`. Several hosts may share it.
    pub database_url: Option<String>,
    /// A file that holds it, for those who keep passwords out of settings.
    pub database_url_file: Option<PathBuf>,
    /// Connections of this host to the database.
    pub database_connections: NonZeroU32,
    /// 64 hex digits; none = the credential `master.key` of the service manager, else `master.key` in `data_dir`, made at
    /// the first start.
    pub master_key_file: Option<PathBuf>,
    /// Log filter.
    pub log: String,
    pub log_format: LogFormat,
    /// Whether `/metrics` can be read without a token of scope `metrics:read`.
    pub metrics_open: bool,
    pub engine: EngineSection,
    pub plugins: PluginSection,
    pub retention: RetentionSection,
    pub dns: DnsSection,
    pub names: NamesSection,
    pub traces: TracesSection,
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
    pub concurrency: NonZeroUsize,
    /// Seconds that a claim holds, 3 to 3600. It is renewed in a third of that: fewer than 3 leave no time for a slow disk.
    #[serde(deserialize_with = "claim_ttl")]
    pub claim_ttl_s: u32,
}

fn claim_ttl<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u32, D::Error> {
    let seconds = u32::deserialize(deserializer)?;
    if (3..=3_600).contains(&seconds) { Ok(seconds) } else { Err(serde::de::Error::custom("is 3 to 3600 seconds")) }
}

/// `[plugins]`
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct PluginSection {
    /// Wasm stores alive at once.
    pub slots: NonZeroU32,
}

/// `[dns]`
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct DnsSection {
    /// Whom to ask what the world sees of names: `192.0.2.53` or `192.0.2.53:5353`. Empty = the system's resolvers.
    #[serde(deserialize_with = "servers")]
    pub resolvers: Vec<SocketAddr>,
}

fn servers<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<SocketAddr>, D::Error> {
    let server = |text: &String| {
        text.parse().or_else(|_| text.parse::<IpAddr>().map(|ip| SocketAddr::new(ip, 53))).map_err(|_| {
            serde::de::Error::custom(format!("`{text}` is no address like 192.0.2.53 or [2001:db8::53]:5353"))
        })
    };
    Vec::<String>::deserialize(deserializer)?.iter().map(server).collect()
}

/// `[names]`
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct NamesSection {
    /// Networks whose machines may read `GET /v1/names` without a token.
    pub allow: Vec<IpNet>,
    /// Addresses of proxies in front of the host, whose `X-Forwarded-For` is believed there.
    pub proxies: Vec<IpAddr>,
}

/// `[traces]`
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TracesSection {
    /// Where a collector takes OTLP over HTTP; none = no traces.
    #[serde(deserialize_with = "endpoint")]
    pub endpoint: Option<String>,
    /// The share of traces that is sent, 0.0 to 1.0.
    #[serde(deserialize_with = "share")]
    pub sample: f64,
    /// Headers that the collector asks for, `Name: value` a line. They are in a file because they hold secrets.
    pub headers_file: Option<PathBuf>,
}

fn endpoint<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    let text = String::deserialize(deserializer)?;
    let wrong = |why: &str| {
        // What is wrong with it may be a password: it is not repeated.
        serde::de::Error::custom(format!("{why}: it is written as in http://127.0.0.1:4318"))
    };
    let url = reqwest::Url::parse(&text).map_err(|_| wrong("is no URL"))?;
    if !matches!(url.scheme(), "http" | "https") || url.query().is_some() || url.fragment().is_some() {
        return Err(wrong("is http or https, a host, and a path at most"));
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err(wrong("must not hold a name or a password; they go into `headers_file`"));
    }
    Ok(Some(text))
}

fn share<'de, D: Deserializer<'de>>(deserializer: D) -> Result<f64, D::Error> {
    let share = f64::deserialize(deserializer)?;
    if (0.0..=1.0).contains(&share) { Ok(share) } else { Err(serde::de::Error::custom("is 0.0 to 1.0")) }
}

impl Default for TracesSection {
    fn default() -> Self {
        Self { endpoint: None, sample: 1.0, headers_file: None }
    }
}

/// `[retention]`
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RetentionSection {
    /// Days that events are kept; one that a hook has still to be told of is kept in any case.
    pub events_days: NonZeroU32,
    /// Days that audit rows are kept.
    pub audit_days: NonZeroU32,
}

impl Default for RetentionSection {
    fn default() -> Self {
        let days = |n: u32| NonZeroU32::MIN.saturating_add(n - 1);
        Self { events_days: days(90), audit_days: days(730) }
    }
}

impl Default for Config {
    fn default() -> Self {
        Self {
            listen: "127.0.0.1:8480".into(),
            data_dir: "/var/lib/wharf".into(),
            database_url: None,
            database_url_file: None,
            database_connections: NonZeroU32::MIN.saturating_add(wharf_store_postgres::CONNECTIONS - 1),
            master_key_file: None,
            log: "info".into(),
            log_format: LogFormat::Text,
            metrics_open: false,
            engine: EngineSection::default(),
            plugins: PluginSection::default(),
            retention: RetentionSection::default(),
            dns: DnsSection::default(),
            names: NamesSection::default(),
            traces: TracesSection::default(),
        }
    }
}

impl Config {
    /// Where the books are, if not in the data folder.
    ///
    /// # Errors
    /// Both keys are set, or the file can't be read.
    pub fn database(&self) -> Result<Option<String>> {
        match (&self.database_url, &self.database_url_file) {
            (Some(_), Some(_)) => {
                Err(anyhow!("`database_url` and `database_url_file` are both set: take one of them out"))
            }
            (Some(url), None) => Ok(Some(url.clone())),
            (None, Some(file)) => {
                let text = std::fs::read_to_string(file)
                    .with_context(|| format!("`database_url_file`: can't read {}", file.display()))?;
                Ok(Some(text.trim().to_owned()))
            }
            (None, None) => Ok(None),
        }
    }
}

impl Default for EngineSection {
    fn default() -> Self {
        Self { concurrency: NonZeroUsize::MIN.saturating_add(63), claim_ttl_s: 30 }
    }
}

impl Default for PluginSection {
    fn default() -> Self {
        Self { slots: NonZeroU32::MIN.saturating_add(31) }
    }
}

/// Reads the file that was named, or the default one if it is there, and lays environment and flags over it.
///
/// # Errors
/// A file that can't be read, and the first key or value that is wrong.
pub fn load(arguments: &ConfigArguments) -> Result<Config> {
    let file = match &arguments.config {
        Some(file) => Some(file.as_path()),
        None => Some(Path::new(DEFAULT_FILE)).filter(|f| f.exists()),
    };
    let text = match file {
        Some(file) => std::fs::read_to_string(file).with_context(|| format!("can't read {}", file.display()))?,
        None => String::new(),
    };
    let table = parse(&text).with_context(|| {
        let place = file.map(|f| f.display().to_string()).unwrap_or_default();
        format!("in {place}")
    })?;
    let mut config = with_environment(table, environment())?;
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

/// The keys of a file, all of them known and good.
fn parse(text: &str) -> Result<Table> {
    // The error of the toml crate shows line, column, the key, and the keys that are known.
    toml::from_str::<Config>(text)?;
    Ok(toml::from_str(text)?)
}

fn with_environment(mut table: Table, variables: impl Iterator<Item = (OsString, OsString)>) -> Result<Config> {
    let mut named: Vec<(OsString, OsString)> = variables.filter(|(name, _)| is_setting(name)).collect();
    named.sort();
    for (name, value) in named {
        let wrong = |why: String| anyhow!("the environment variable {}: {why}", name.display());
        let text = name.to_str().and_then(|n| n.strip_prefix(PREFIX)).ok_or_else(|| wrong("is not UTF-8".into()))?;
        let value = value.to_str().ok_or_else(|| wrong("its value is not UTF-8".into()))?;
        let key = text.to_lowercase();
        let path: Vec<&str> = key.split("__").collect();
        // Written as TOML writes it (`5`, `true`); else the text as it is.
        let mut readings: Vec<Value> =
            toml::from_str::<Table>(&format!("x = {value}")).ok().and_then(|mut t| t.remove("x")).into_iter().collect();
        readings.push(Value::String(value.to_owned()));
        let mut first = None;
        let laid = readings.into_iter().find_map(|reading| {
            let mut next = table.clone();
            lay(&mut next, &path, reading);
            match Config::deserialize(Value::Table(next.clone())) {
                Ok(_) => Some(next),
                Err(error) => {
                    first.get_or_insert(error);
                    None
                }
            }
        });
        table = laid.ok_or_else(|| {
            let why = first.map(|e| e.to_string()).unwrap_or_default();
            wrong(format!(
                "{}. A variable is named like its key in the file, with `__` after a section: WHARF_ENGINE__CONCURRENCY",
                why.trim_end().replace('\n', ", ")
            ))
        })?;
    }
    Ok(Config::deserialize(Value::Table(table))?)
}

/// Variables of this process that are settings, as they are written.
pub fn environment() -> impl Iterator<Item = (OsString, OsString)> {
    std::env::vars_os().filter(|(name, _)| is_setting(name))
}

fn is_setting(name: &OsStr) -> bool {
    let name = name.to_string_lossy();
    name.starts_with(PREFIX)
        && !OTHERS.contains(&name.as_ref())
        && !OTHER_PREFIXES.iter().any(|prefix| name.starts_with(prefix))
}

fn lay(table: &mut Table, path: &[&str], value: Value) {
    let Some((first, rest)) = path.split_first() else { return };
    if rest.is_empty() {
        table.insert((*first).to_owned(), value);
        return;
    }
    let inner = table.entry((*first).to_owned()).or_insert_with(|| Value::Table(Table::new()));
    if let Value::Table(inner) = inner {
        lay(inner, rest, value);
    } else {
        // Said of a key that is no section: what is wrong with it is found when it is read.
        let mut section = Table::new();
        lay(&mut section, rest, value);
        *inner = Value::Table(section);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(text: &str) -> String {
        format!("{:#}", parse(text).unwrap_err())
    }

    fn laid(file: &str, variables: &[(&str, &str)]) -> Result<Config> {
        let variables = variables.iter().map(|(k, v)| (OsString::from(k), OsString::from(v)));
        with_environment(parse(file).unwrap(), variables)
    }

    #[test]
    fn a_wrong_key_is_named_with_its_line_and_the_known_ones() {
        let text = refused("listen = \"127.0.0.1:1\"\n[engine]\nconcurency = 5\n");
        assert!(text.contains("line 3") && text.contains("concurency") && text.contains("concurrency"), "{text}");
        let text = refused("listen = \"127.0.0.1:1\"\n\nmetric_open = true\n");
        assert!(text.contains("line 3") && text.contains("metrics_open"), "{text}");
    }

    /// Keys of a section, as it names them itself when it is given one that it does not know.
    fn keys(section: &str) -> Vec<String> {
        let text = refused(&format!("{section}\nno_such_key = 1\n"));
        let (_, known) = text.split_once("expected").unwrap();
        known.split('`').skip(1).step_by(2).map(str::to_owned).collect()
    }

    #[test]
    fn the_example_has_each_setting_with_its_default() {
        let example = include_str!("../../../examples/wharf.toml");
        parse(example).unwrap();
        // Settings without a default are written as comments.
        let all: Vec<&str> =
            example.lines().map(|l| l.strip_prefix("# ").filter(|l| l.contains(" = ")).unwrap_or(l)).collect();
        let all: toml::Table = all.join("\n").parse().unwrap();
        for top in keys("") {
            let Some(value) = all.get(&top) else { panic!("the example has no `{top}`") };
            for key in value.as_table().map(|_| keys(&format!("[{top}]"))).unwrap_or_default() {
                assert!(value.get(&key).is_some(), "the example has no `{key}` in [{top}]");
            }
        }
        assert_eq!(
            format!("{:?}", laid(example, &[]).unwrap()),
            format!("{:?}", Config::default()),
            "a default is another"
        );
    }

    #[test]
    fn a_wrong_value_is_named_with_its_line() {
        for (file, line, remedy) in [
            ("[engine]\nconcurrency = 0\n", "line 2", "nonzero"),
            ("[engine]\nclaim_ttl_s = 1\n", "line 2", "3 to 3600"),
            ("\nlog_format = \"xml\"\n", "line 2", "json"),
            ("metrics_open = \"yes\"\n", "line 1", "boolean"),
            ("listen = \n", "line 1", ""),
            ("[traces]\nsample = 1.5\n", "line 2", "0.0 to 1.0"),
            ("[traces]\nendpoint = \"127.0.0.1:4318\"\n", "line 2", "http://"),
            ("[traces]\nendpoint = \"http://a:b@127.0.0.1:4318\"\n", "line 2", "headers_file"),
        ] {
            let text = refused(file);
            assert!(text.contains(line) && text.contains(remedy), "{file}: {text}");
        }
    }

    #[test]
    fn what_is_not_said_has_its_default() {
        let config = laid("[engine]\nconcurrency = 5\n", &[]).unwrap();
        let engine = &config.engine;
        assert_eq!((engine.concurrency.get(), engine.claim_ttl_s, config.listen.as_str()), (5, 30, "127.0.0.1:8480"));
    }

    #[test]
    fn every_key_has_a_variable_that_goes_over_the_file() {
        let file = "listen = \"a:1\"\nmetrics_open = false\n[engine]\nconcurrency = 5\nclaim_ttl_s = 60\n";
        let config = laid(
            file,
            &[
                ("WHARF_LISTEN", "b:2"),
                ("WHARF_DATA_DIR", "123"),
                ("WHARF_MASTER_KEY_FILE", "/k"),
                ("WHARF_LOG_FORMAT", "json"),
                ("WHARF_METRICS_OPEN", "true"),
                ("WHARF_ENGINE__CONCURRENCY", "7"),
                ("WHARF_PLUGINS__SLOTS", "9"),
                ("WHARF_TRACES__ENDPOINT", "http://127.0.0.1:4318"),
                ("WHARF_TRACES__SAMPLE", "0.25"),
                ("WHARF_TRACES__HEADERS_FILE", "/h"),
            ],
        )
        .unwrap();
        assert_eq!((config.listen.as_str(), config.data_dir.as_path()), ("b:2", Path::new("123")));
        assert_eq!((config.master_key_file, config.log_format), (Some("/k".into()), LogFormat::Json));
        assert!(config.metrics_open);
        assert_eq!(
            (config.engine.concurrency.get(), config.engine.claim_ttl_s, config.plugins.slots.get()),
            (7, 60, 9)
        );
        let traces = config.traces;
        assert_eq!((traces.endpoint.as_deref(), traces.sample), (Some("http://127.0.0.1:4318"), 0.25));
        assert_eq!(traces.headers_file, Some("/h".into()));
    }

    #[test]
    fn a_wrong_variable_is_named_with_what_there_is() {
        for (name, value, remedy) in [
            ("WHARF_FOO", "1", "`listen`"),
            ("WHARF_METRIC_OPEN", "true", "`metrics_open`"),
            ("WHARF_ENGINE__CONCURENCY", "5", "`concurrency`"),
            ("WHARF_ENGINE_CONCURRENCY", "5", "WHARF_ENGINE__CONCURRENCY"),
            ("WHARF_ENGINE", "5", "WHARF_ENGINE__CONCURRENCY"),
            ("WHARF_LISTEN__PORT", "5", "string"),
            ("WHARF_ENGINE__CONCURRENCY", "many", "usize"),
            ("WHARF_ENGINE__CLAIM_TTL_S", "1", "3 to 3600"),
            ("WHARF_METRICS_OPEN", "1", "boolean"),
        ] {
            let text = format!("{:#}", laid("", &[(name, value)]).unwrap_err());
            assert!(text.contains(&format!("environment variable {name}:")) && text.contains(remedy), "{text}");
        }
    }

    #[test]
    fn variables_of_others_are_left_alone() {
        let others =
            ["WHARF_TOKEN", "WHARF_URL", "WHARF_TEST_SEEDS", "WHARF_PORT_8480_TCP", "WHARF_SERVICE_HOST", "PATH"];
        let variables: Vec<_> = others.iter().map(|name| (*name, "x")).collect();
        assert!(laid("", &variables).is_ok());
    }
}
