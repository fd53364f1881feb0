//! HestiaCP's six DNS commands, one request each, none repeated. `calls` counts them.

use serde::de::Error as _;
use wharf_sdk::dns::prelude::*;

use crate::{
    answer::{self, Said},
    listing::{self, Domain, Line},
};

/// A command takes 0.37 s (measured) and loads on a busy panel; waited for, so that it need not be verified.
const TIMEOUT_MS: u32 = 30_000;
/// Left for the report when a request runs into its time.
const REPORT_MS: u32 = 1_000;

/// How the call at hand is doing.
pub trait Watch {
    fn left_ms(&self) -> u32;
    fn is_cancelled(&self) -> bool;
    fn progress(&self, done: u32, total: u32);
}

/// How one logs in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Login {
    AccessKey,
    Password { admin: String },
    KeyFile,
}

/// Where and as whom.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Server {
    pub url: String,
    pub user: String,
    pub login: Login,
}

/// What the DNS server is told after a write. The zone's file is written in any case.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reload {
    /// `no`: more is to come.
    Later,
    /// The empty word: by the server's own setting, at once or with its next scheduled round. It is a reload; `yes` would
    /// stop the DNS server and start it again (`bin/v-restart-service`), and `scheduled` is refused by older versions.
    Now,
}

impl Reload {
    fn word(self) -> &'static str {
        match self {
            Self::Later => "no",
            Self::Now => "",
        }
    }
}

/// A record as it is to be kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    pub record: String,
    pub rtype: String,
    pub priority: String,
    pub value: String,
    pub ttl: Option<u32>,
}

impl Wanted {
    /// Of canonical data.
    pub fn new(record: impl Into<String>, rtype: &str, data: &str, ttl: Option<u32>) -> Self {
        let (priority, value) = match (rtype, data.split_once(' ')) {
            ("MX", Some((priority, value))) => (priority, value),
            // HestiaCP takes quotes away and puts them back where they are needed.
            ("TXT", _) => ("", data.trim_matches('"')),
            _ => ("", data),
        };
        let (priority, value) = (priority.to_owned(), value.to_owned());
        Self { record: record.into(), rtype: rtype.to_owned(), priority, value, ttl }
    }

    fn ttl(&self) -> String {
        self.ttl.map(|ttl| ttl.to_string()).unwrap_or_default()
    }
}

/// The API of one server.
pub struct Api<'t, T: Transport> {
    transport: &'t mut T,
    watch: &'t dyn Watch,
    server: Server,
    pub calls: u32,
    /// The longest that a command has taken.
    pub slowest_ms: u32,
}

impl<'t, T: Transport> Api<'t, T> {
    pub fn new(transport: &'t mut T, watch: &'t dyn Watch, server: Server) -> Self {
        Self { transport, watch, server, calls: 0, slowest_ms: 0 }
    }

    pub fn watch(&self) -> &'t dyn Watch {
        self.watch
    }

    fn is_keyed(&self) -> bool {
        self.server.login == Login::AccessKey
    }

    fn send(&mut self, cmd: &str, arguments: &[&str], write: bool) -> Result<(Said, Response), Problem> {
        let url = format!("{}/api/", self.server.url.trim().trim_end_matches('/'));
        let mut request = Request::new("POST", url);
        request = match &self.server.login {
            Login::AccessKey => request.form("access_key", "{{access-key}}").form("secret_key", "{{secret-key}}"),
            Login::Password { admin } => request.form("user", admin).form("password", "{{password}}"),
            Login::KeyFile => request.form("hash", "{{key-file}}"),
        };
        // With an access key the code is in a header, and asking for it as body would lose the text.
        if write && !self.is_keyed() {
            request = request.form("returncode", "yes");
        }
        request = request.form("cmd", cmd);
        for (n, argument) in arguments.iter().enumerate() {
            request = request.form(format!("arg{}", n + 1), *argument);
        }
        let before = self.watch.left_ms();
        let request = request.timeout_ms(TIMEOUT_MS.min(before.saturating_sub(REPORT_MS).max(1)));
        self.calls += 1;
        let sent = self.transport.send(&request);
        self.slowest_ms = self.slowest_ms.max(before.saturating_sub(self.watch.left_ms()));
        let response = sent.map_err(|failure| Problem::from_http(failure, write))?;
        let said = answer::said(&response, self.is_keyed(), write)?;
        Ok((said, response))
    }

    /// Runs a command that prints JSON.
    fn list<R>(
        &mut self,
        cmd: &str,
        arguments: &[&str],
        parse: impl FnOnce(&str) -> Result<R, serde_json::Error>,
    ) -> Result<R, Problem> {
        let (said, response) = self.send(cmd, arguments, false)?;
        match said {
            Said::Exit(0) | Said::Text => {
                parse(&response.text).map_err(|error| answer::not_json(&response, &error.to_string()))
            }
            Said::Exit(code) => Err(answer::problem(code, &response)),
        }
    }

    /// Runs a command that changes something. `fine`: a code that means that it was so already.
    fn write(&mut self, cmd: &str, arguments: &[&str], fine: u16) -> Result<(), Problem> {
        match self.send(cmd, arguments, true)? {
            (Said::Exit(0), _) => Ok(()),
            (Said::Exit(code), _) if code == fine => Ok(()),
            (Said::Exit(code), response) => Err(answer::problem(code, &response)),
            (Said::Text, response) => Err(answer::not_json(&response, "no exit code")),
        }
    }

    /// All zones of the user.
    pub fn domains(&mut self) -> Result<Vec<ZoneRef>, Problem> {
        let user = self.server.user.clone();
        let found = self.list("v-list-dns-domains", &[&user, "json"], listing::domains)?;
        Ok(found.into_iter().map(|(id, _)| ZoneRef { name: format!("{}.", listing::to_ascii(&id)), id }).collect())
    }

    /// The domain of this name, and how it is called there.
    pub fn domain(&mut self, zone: &str) -> Result<(ZoneRef, Domain), Problem> {
        let name = names::canonical(zone).map_err(|e| Problem::fix_input("zone-name", e.to_string()))?;
        if name.contains(['/', '_']) {
            let text = format!(
                "HestiaCP takes no `/` and no `_` in the name of a zone: {name} A classless reverse zone needs the style with a hyphen."
            );
            return Err(Problem::fix_config("zone-name", text));
        }
        // Listings refuse a name with its final dot.
        let ascii = name.trim_end_matches('.').to_owned();
        match self.domain_as(&name, &ascii) {
            Err(problem) if problem.code == "zone-not-found" && ascii.contains("xn--") => {
                let (decoded, _) = idna::domain_to_unicode(&ascii);
                self.domain_as(&name, &decoded)
            }
            found => found,
        }
    }

    fn domain_as(&mut self, name: &str, id: &str) -> Result<(ZoneRef, Domain), Problem> {
        let user = self.server.user.clone();
        let one = |text: &str| {
            let mut found = listing::domains(text)?;
            found.retain(|(key, _)| key == id);
            found.pop().ok_or_else(|| serde_json::Error::custom("the domain is not in the answer"))
        };
        let (id, domain) = self.list("v-list-dns-domain", &[&user, id, "json"], one)?;
        Ok((ZoneRef { id, name: name.to_owned() }, domain))
    }

    /// All records of a zone, in one answer.
    pub fn records(&mut self, zone: &ZoneRef) -> Result<Vec<Line>, Problem> {
        let user = self.server.user.clone();
        self.list("v-list-dns-records", &[&user, &zone.id, "json"], |text| {
            let lines = listing::records(text, &zone.name)?;
            if lines.is_empty() {
                return Err(serde_json::Error::custom("not one record, and a zone has a name server at least"));
            }
            Ok(lines)
        })
    }

    pub fn add(&mut self, zone: &ZoneRef, wanted: &Wanted, reload: Reload) -> Result<(), Problem> {
        let (user, ttl) = (self.server.user.clone(), wanted.ttl());
        // The id stands before RESTART here, and here alone; an empty one is chosen by HestiaCP.
        let Wanted { record, rtype, priority, value, .. } = wanted;
        let arguments = [&user, &zone.id, record, rtype, value, priority, "", reload.word(), &ttl];
        self.write("v-add-dns-record", &arguments, 0)
    }

    /// "No pending changes" is what it says when it was so already.
    pub fn change(&mut self, zone: &ZoneRef, id: &str, wanted: &Wanted, reload: Reload) -> Result<(), Problem> {
        let (user, ttl) = (self.server.user.clone(), wanted.ttl());
        let Wanted { record, rtype, priority, value, .. } = wanted;
        let arguments = [&user, &zone.id, id, record, rtype, value, priority, reload.word(), &ttl];
        self.write("v-change-dns-record", &arguments, answer::EXISTS)
    }

    /// An id that is not there any more is gone, as it should be.
    pub fn delete(&mut self, zone: &ZoneRef, id: &str, reload: Reload) -> Result<(), Problem> {
        let user = self.server.user.clone();
        self.write("v-delete-dns-record", &[&user, &zone.id, id, reload.word()], answer::NOTEXIST)
    }
}
