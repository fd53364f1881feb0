//! HestiaCP 1.10: `POST /api/`, one command a request.
//!
//! Facts are of two kinds. *Measured* ones are those of the reference page on DNS, which ran HestiaCP's own PHP and shell; the
//! others were read in HestiaCP's source, and name the file. Three things are left out: the DNS cluster, passwords that are
//! right (nobody measured what a right one gives beyond the same path as a key file), and two commands at a time (a façade
//! answers one request after the other, so ids collide here only where a test makes them).
//!
//! `fail2ban` (measured: five failed logins) closes the firewall for the client. A façade can't refuse a connection, so it
//! answers 403 without HestiaCP's header; clients are told apart by `X-Forwarded-For`.

mod commands;
mod shell;

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use serde_json::{Value, json};

use self::commands::Ran;
pub use self::commands::{ALL as COMMANDS, number};
use crate::{
    facade::{Facade, Features, Refusal, Request, Response, Wait},
    model::Model,
};

/// What a command that touches or lists records takes (measured).
pub const PACE: Duration = Duration::from_millis(370);
/// Failed logins after which the firewall is closed (`install/deb/fail2ban/jail.local`: `maxretry = 5`).
pub const BAN_AFTER: u32 = 5;

/// Exit codes (`func/main.sh`, `web/inc/helpers.php`).
pub mod exit {
    pub const ARGS: u16 = 1;
    pub const INVALID: u16 = 2;
    pub const NOTEXIST: u16 = 3;
    pub const EXISTS: u16 = 4;
    pub const SUSPENDED: u16 = 5;
    pub const LIMIT: u16 = 8;
    pub const PASSWORD: u16 = 9;
    pub const FORBIDDEN: u16 = 10;
    pub const DISABLED: u16 = 11;
    pub const LOAD: u16 = 14;
}

/// By which of its ways the settings of a zone log in. All of them are always open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Login {
    AccessKey,
    Password,
    KeyFile,
}

/// One server with one user who owns all zones. A zone that is not writable is a suspended domain; `records_max` of a zone is
/// the package's DNS_RECORDS (it counts the lines of one zone: `is_package_full` in `func/main.sh`).
#[derive(Debug, Clone)]
pub struct HestiaCp {
    pub user: String,
    pub login: Login,
    /// 20 letters and digits.
    pub access_key: String,
    /// 40 characters.
    pub secret_key: String,
    /// The commands of the access key's profile.
    pub permissions: BTreeSet<String>,
    pub password: String,
    pub key_file: String,
    /// Whether the API is on at all.
    pub is_on: bool,
    /// Whether the client's address is in the API's list.
    pub admits_address: bool,
    pub is_user_suspended: bool,
    /// SRC of all domains: the server that they are copies of (`bin/v-insert-dns-domain`), empty where they are at home.
    pub source: String,
    /// What a record command takes; zero unless a test sets [`PACE`].
    pub pace: Duration,
    /// How often RESTART made the DNS server load its zones anew.
    pub reloads: u32,
    /// Whether a reload is waiting for the panel's cron job.
    pub is_reload_queued: bool,
    /// Failed logins by client.
    pub failed: BTreeMap<String, u32>,
}

impl Default for HestiaCp {
    fn default() -> Self {
        Self {
            user: "wharf".into(),
            login: Login::AccessKey,
            access_key: "bxDaKPyAfLPRgSkoqlkI".into(),
            secret_key: "Pc8czGPRECp3GxTNMr3LF6zWc8cjfPrNHy_-=A1b".into(),
            permissions: commands::ALL.map(String::from).into(),
            password: "correct horse".into(),
            key_file: "Vw3ZyVjvGhKzRkKx0dLzJ1b8".into(),
            is_on: true,
            admits_address: true,
            is_user_suspended: false,
            source: String::new(),
            pace: Duration::ZERO,
            reloads: 0,
            is_reload_queued: false,
            failed: BTreeMap::new(),
        }
    }
}

/// Fields of a request as PHP has them: a name that stands twice has its last value.
type Fields = BTreeMap<String, String>;

fn fields(request: &Request) -> Option<Fields> {
    if request.method != "POST" {
        return None;
    }
    let form: Fields = request.form().into_iter().collect();
    if ["access_key", "user", "hash"].iter().any(|name| form.contains_key(*name)) {
        return Some(form);
    }
    let json = request.json()?;
    let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    Some(json.as_object()?.iter().map(|(name, value)| (name.clone(), text(value))).collect())
}

fn trimmed(fields: &Fields, name: &str) -> String {
    fields.get(name).map(|value| value.trim().to_owned()).unwrap_or_default()
}

/// `arg1` to `arg13`, those that are there, in order: one that is left out makes the others move up.
fn arguments(fields: &Fields) -> Vec<String> {
    (1..=13).filter_map(|n| fields.get(&format!("arg{n}"))).map(|value| value.trim().to_owned()).collect()
}

/// `exit_code_to_http_code` in `web/inc/helpers.php` (measured).
fn http_code(exit: u16) -> u16 {
    match exit {
        0 => 200,
        exit::INVALID => 422,
        exit::SUSPENDED | 6 | exit::PASSWORD | exit::FORBIDDEN => 401,
        code if code >= 100 => code,
        _ => 400,
    }
}

fn html(status: u16, text: impl Into<String>) -> Response {
    Response::text(status, "text/html; charset=UTF-8", text)
}

/// `api_error` in `web/api/index.php`.
fn api_error(exit: u16, message: &str, returns_code: bool) -> Response {
    let text = match message.strip_prefix("Error:") {
        _ if returns_code => exit.to_string(),
        Some(_) => message.to_owned(),
        None => format!("Error: {message}"),
    };
    html(http_code(exit), text).header("hestia-exit-code", exit.to_string())
}

/// What is wrong with `cmd` before anything is run.
fn bad_command(cmd: &str) -> Option<String> {
    if cmd.is_empty() {
        return Some("Command not provided".into());
    }
    let good = cmd.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-'));
    (!good).then(|| format!("{cmd} command invalid"))
}

impl HestiaCp {
    /// The settings of a zone, when it logs in so.
    #[must_use]
    pub fn with_login(mut self, login: Login) -> Self {
        self.login = login;
        self
    }

    fn fail(&mut self, client: &str) {
        *self.failed.entry(client.to_owned()).or_default() += 1;
    }

    /// `v-check-access-key`: exit 10 for what is forbidden, 9 for all else that is wrong; each is a failed login.
    fn check_key(&self, key: &str, secret: &str, cmd: &str) -> Result<(), (u16, String)> {
        if key != self.access_key {
            return Err((exit::PASSWORD, format!("key {key} doesn't exist")));
        }
        if secret != self.secret_key {
            return Err((exit::PASSWORD, format!("Invalid secret key for key {key}")));
        }
        if !commands::ALL.contains(&cmd) {
            return Err((exit::FORBIDDEN, format!("Command {cmd} not found")));
        }
        if !self.permissions.contains(cmd) {
            let text = format!("Key {key} don't have permission to run the command {cmd}");
            return Err((exit::FORBIDDEN, text));
        }
        if self.is_user_suspended {
            return Err((exit::PASSWORD, format!("user {} is suspended", self.user)));
        }
        Ok(())
    }

    /// `api_connection` in `web/api/index.php`.
    fn by_access_key(&mut self, model: &mut Model, client: &str, fields: &Fields) -> Response {
        let returns_code = trimmed(fields, "returncode") == "yes";
        let error = |exit: u16, text: &str| api_error(exit, text, returns_code);
        if !self.is_on {
            return error(exit::DISABLED, "API has been disabled");
        }
        if !self.admits_address {
            return error(exit::FORBIDDEN, "IP is not allowed to connect with API");
        }
        let (key, secret, cmd) = (trimmed(fields, "access_key"), trimmed(fields, "secret_key"), trimmed(fields, "cmd"));
        if let Some(why) = bad_command(&cmd) {
            return error(exit::INVALID, &why);
        }
        if key.is_empty() || secret.is_empty() {
            return error(exit::PASSWORD, "Authentication failed");
        }
        if let Err((exit, why)) = self.check_key(&key, &secret, &cmd) {
            self.fail(client);
            return error(exit, &why);
        }
        let arguments = arguments(fields);
        // USER is the first argument of all of these commands.
        if arguments.first() != Some(&self.user) {
            let text = format!("Key {key} - the \"user\" argument doesn't match the key's user");
            return error(exit::FORBIDDEN, &text);
        }
        let Ran { exit, output } = self.run(model, &cmd, &arguments).unwrap_or(Ran { exit: 0, output: String::new() });
        let output = output.trim().to_owned();
        let status = match (returns_code, exit) {
            (true, _) => return html(200, exit.to_string()).header("hestia-exit-code", exit.to_string()),
            (false, 0) if output.is_empty() => 204,
            (false, exit) => http_code(exit),
        };
        let is_json = exit == 0 && serde_json::from_str::<Value>(&output).is_ok();
        let content_type = if is_json { "application/json; charset=utf-8" } else { "text/html; charset=UTF-8" };
        Response::text(status, content_type, output).header("hestia-exit-code", exit.to_string())
    }

    /// `api_legacy` in `web/api/index.php`: a command that fails answers 200 all the same (measured).
    fn by_password_or_key_file(&mut self, model: &mut Model, client: &str, fields: &Fields) -> Response {
        let returns_code = trimmed(fields, "returncode") == "yes";
        let error = |exit: u16, text: &str| api_error(exit, text, returns_code);
        if !self.is_on {
            return error(exit::DISABLED, "Error: API Disabled");
        }
        if !self.admits_address {
            return error(exit::FORBIDDEN, "Error: IP is not allowed to connect with API");
        }
        let is_right = match trimmed(fields, "hash") {
            hash if !hash.is_empty() => hash == self.key_file,
            // Refused before anything is asked, so it is no failed login.
            _ if trimmed(fields, "user") != "admin" => {
                return error(exit::FORBIDDEN, "Error: authentication failed");
            }
            _ => fields.get("password") == Some(&self.password),
        };
        if !is_right {
            self.fail(client);
            return error(exit::PASSWORD, "Error: authentication failed");
        }
        let cmd = trimmed(fields, "cmd");
        if let Some(why) = bad_command(&cmd) {
            return error(exit::INVALID, &why);
        }
        let ran = self.run(model, &cmd, &arguments(fields));
        html(
            200,
            match (returns_code, ran) {
                (true, ran) => ran.map_or(1, |ran| ran.exit).to_string(),
                // A command that does not exist prints nothing, and nothing is OK (measured).
                (false, None) => "OK".to_owned(),
                (false, Some(ran)) if ran.output.is_empty() => "OK".to_owned(),
                (false, Some(ran)) => format!("{}\n", ran.output),
            },
        )
    }
}

impl Facade for HestiaCp {
    fn settings(&self, base: &str) -> Value {
        match self.login {
            Login::AccessKey => json!({
                "server-url": base, "user": self.user, "access-key": self.access_key, "secret-key": self.secret_key,
            }),
            Login::Password => json!({
                "server-url": base, "user": self.user, "login": "password", "password": self.password,
            }),
            Login::KeyFile => json!({
                "server-url": base, "user": self.user, "login": "key-file", "key-file": self.key_file,
            }),
        }
    }

    fn answer(&mut self, model: &mut Model, request: &Request) -> Response {
        let client = request.header("x-forwarded-for").unwrap_or_default().to_owned();
        if self.failed.get(&client).is_some_and(|times| *times >= BAN_AFTER) {
            return html(403, "the firewall refuses this connection (fail2ban)");
        }
        if !matches!(request.path.as_str(), "/api/" | "/api/index.php") {
            return html(404, "<html><head><title>404 Not Found</title></head></html>");
        }
        let Some(mut fields) = fields(request) else { return api_error(405, NO_DATA, false) };
        // An access key can come in one field.
        if !fields.contains_key("access_key")
            && let Some((key, secret)) = trimmed(&fields, "hash").split_once(':')
            && (key.len(), secret.len()) == (20, 40)
        {
            fields.insert("access_key".into(), key.into());
            fields.insert("secret_key".into(), secret.into());
        }
        commands::number(model);
        if fields.contains_key("access_key") && fields.contains_key("secret_key") {
            self.by_access_key(model, &client, &fields)
        } else if fields.contains_key("user") || fields.contains_key("hash") {
            self.by_password_or_key_file(model, &client, &fields)
        } else {
            api_error(405, NO_DATA, false)
        }
    }

    /// Everything is a POST: the command says whether it writes.
    fn is_write(&self, request: &Request) -> bool {
        fields(request).is_some_and(|fields| !trimmed(&fields, "cmd").starts_with("v-list-"))
    }

    /// It lists a zone in one answer, and keeps no comments.
    fn features(&self) -> Features {
        Features { pages: false, ids: true, disabled: true, comments: false, read_only: true, quota: true }
    }

    fn refusal(&self, why: Refusal) -> Response {
        let (exit, text) = match why {
            Refusal::Credentials => (exit::PASSWORD, "Invalid secret key"),
            Refusal::Forbidden => (exit::FORBIDDEN, "Key don't have permission to run the command"),
            Refusal::Quota => (exit::LIMIT, "DNS_RECORDS limit is reached :: upgrade user package"),
            Refusal::Broken => (exit::LOAD, "Load average is too high"),
            // HestiaCP has no limit of its own; this is what a proxy in front of it says.
            Refusal::RateLimited(wait) => {
                let response = html(429, "<html><head><title>429 Too Many Requests</title></head></html>");
                return match wait {
                    Wait::Unsaid => response,
                    Wait::Seconds(seconds) | Wait::Own(seconds) => response.header("retry-after", seconds.to_string()),
                    Wait::Date(from_now) => response.header("retry-after", from_now.as_secs().to_string()),
                };
            }
        };
        match (self.login, why) {
            (Login::AccessKey, _) | (_, Refusal::Credentials) => api_error(exit, text, false),
            // To a write, which asks for the code.
            _ => html(200, exit.to_string()),
        }
    }

    fn pause(&self, request: &Request) -> Duration {
        let of_records = fields(request).is_some_and(|fields| trimmed(&fields, "cmd").contains("-dns-record"));
        if of_records { self.pace } else { Duration::ZERO }
    }

    fn new_zone(&self, model: &mut Model, name: &str, foreign: usize) {
        commands::new_zone(model, name, foreign);
    }
}

const NO_DATA: &str =
    "Error: data received is null or invalid, check https://hestiacp.com/docs/server-administration/rest-api.html";
