//! HestiaCP, by its API: forward and reverse zones of one of its users, version 1.6 and later with access keys, older ones and
//! those that still use them with a password or a key file.
//!
//! HestiaCP knows lines with numbers, one command a line, without transactions. Kept here all the same: other people's lines;
//! what is so already is not written; a number is looked up right before it is used, because numbers are given out again and
//! can stand twice; wrong credentials cost one request. What HestiaCP can't do is said before it is asked where it can be
//! known. A call ends before its time and its requests are used up, with a report of what was done; the host asks again.

mod answer;
mod api;
mod listing;
mod normal;
mod run;
mod work;

#[cfg(test)]
mod tests;

use wharf_sdk::dns::prelude::*;

use api::{Api, Login, Server, Watch};

struct HestiaCp;

impl Watch for Call {
    fn left_ms(&self) -> u32 {
        self.deadline_ms()
    }

    fn is_cancelled(&self) -> bool {
        self.cancelled()
    }

    fn progress(&self, done: u32, total: u32) {
        Call::progress(self, done, total);
    }
}

/// The server that the zone's settings name.
fn server(config: impl Fn(&str) -> Option<String>) -> Result<Server, Problem> {
    let wanted = |key: &str, what: &str| {
        config(key)
            .filter(|text| !text.trim().is_empty())
            .ok_or_else(|| Problem::fix_config(key, format!("The setting `{key}` is missing: enter {what}.")))
    };
    let login = match config("login").as_deref() {
        None | Some("access-key") => Login::AccessKey,
        Some("password") => Login::Password { admin: config("admin-user").unwrap_or_else(|| "admin".into()) },
        Some("key-file") => Login::KeyFile,
        Some(other) => {
            let text = format!("`{other}` is no way to log in: choose access-key, password or key-file.");
            return Err(Problem::fix_config("login", text));
        }
    };
    Ok(Server {
        url: wanted("server-url", "the address of the panel")?,
        user: wanted("user", "the owner of the zones")?,
        login,
    })
}

/// Runs `f` with the API that the zone's settings name.
fn with_api<R>(call: &Call, f: impl FnOnce(&mut Api<http::Host>) -> Result<R, Problem>) -> Result<R, Problem> {
    let server = server(|key| call.config(key))?;
    let mut host = http::Host;
    f(&mut Api::new(&mut host, call, server))
}

impl Provider for HestiaCp {
    fn normalize(can: Capabilities, zone: Name, sets: Vec<Rrset>) -> Vec<Verdict> {
        forms::verdicts(&normal::HestiaForms, &can, &zone, sets)
    }

    fn probe(call: &Call, zone: Name) -> Result<Probed, Problem> {
        with_api(call, |api| work::probe(api, &zone))
    }

    fn test_connection(call: &Call, zone: Option<Name>, try_write: bool) -> Vec<Check> {
        let nonce = connection::nonce();
        with_api(call, |api| Ok(work::test(api, zone.as_deref(), try_write, &nonce))).unwrap_or_else(connection::unset)
    }

    fn list_zones(call: &Call) -> Result<Vec<ZoneRef>, Problem> {
        with_api(call, |api| api.domains())
    }

    fn read(call: &Call, zone: ZoneRef, what: Selector) -> Result<Snapshot, Problem> {
        with_api(call, |api| work::read(api, &zone, &what))
    }

    fn apply(call: &Call, zone: ZoneRef, batch: Vec<Change>) -> Result<Report, Problem> {
        with_api(call, |api| work::apply(api, &zone, &batch))
    }

    fn poll(_call: &Call, _zone: ZoneRef, _operation: String) -> Result<Outcome, Problem> {
        Err(Problem::report_bug("not-asynchronous", "HestiaCP never takes a change on for later."))
    }
}

wharf_sdk::export_dns_provider!(HestiaCp);
