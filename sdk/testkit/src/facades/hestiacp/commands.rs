//! The six commands, as `bin/v-*-dns-*` run them.

use super::{HestiaCp, exit, shell};
use crate::model::{Model, Record, Zone};

/// The commands that are there.
pub const ALL: [&str; 6] = [
    "v-list-dns-domains",
    "v-list-dns-domain",
    "v-list-dns-records",
    "v-add-dns-record",
    "v-change-dns-record",
    "v-delete-dns-record",
];

/// What a command ended with and printed.
pub struct Ran {
    pub exit: u16,
    pub output: String,
}

/// What it printed, or its exit code and what it printed.
type Done = Result<String, (u16, String)>;

fn error(exit: u16, text: impl std::fmt::Display) -> (u16, String) {
    (exit, format!("Error: {text}"))
}

fn invalid(text: String) -> (u16, String) {
    error(exit::INVALID, text)
}

fn no_domain(domain: &str) -> (u16, String) {
    error(exit::NOTEXIST, format!("dns domain {domain} doesn't exist"))
}

fn no_id(domain: &str, id: &str) -> (u16, String) {
    error(exit::NOTEXIST, format!("{domain} id {id} doesn't exist"))
}

/// A domain is known here by its name without the final dot. Two name servers are what its template makes, and an address
/// where it is no reverse zone.
pub fn new_zone(model: &mut Model, name: &str, foreign: usize) {
    model.add_zone(name, foreign);
    let Some(zone) = model.zone_mut(name) else { return };
    zone.id = name.trim_end_matches('.').to_owned();
    let mut made = vec![("NS", "ns1.panel.test."), ("NS", "ns2.panel.test.")];
    if !name.ends_with(".arpa.") {
        made.push(("A", "198.51.100.1"));
    }
    let made = made.into_iter().map(|(rtype, data)| Record { ttl: None, ..Record::new(name, rtype, data, 0) });
    let others = std::mem::take(&mut zone.records).into_iter().map(|r| Record { id: String::new(), ..r });
    zone.records = made.chain(others).collect();
    number(model);
}

/// Gives ids to records that a test put in without one.
pub fn number(model: &mut Model) {
    for zone in &mut model.zones {
        let free = last_id(zone) + 1..;
        for (record, id) in zone.records.iter_mut().filter(|r| r.id.parse::<u64>().is_err()).zip(free) {
            record.id = id.to_string();
        }
    }
}

fn last_id(zone: &Zone) -> u64 {
    zone.records.iter().filter_map(|r| r.id.parse().ok()).max().unwrap_or(0)
}

/// `format_domain`: in commands that write.
fn formatted(domain: &str) -> String {
    let domain = domain.to_lowercase();
    let domain = domain.strip_prefix("www.").unwrap_or(&domain);
    domain.trim_end_matches('.').trim_start_matches('.').to_owned()
}

/// `@` is the zone, a final dot makes a name absolute, all else is below the zone (as BIND reads the file).
fn absolute(zone: &str, record: &str) -> String {
    match record {
        "@" => zone.to_owned(),
        name if name.ends_with('.') => shell::to_ascii(name),
        name => format!("{}.{zone}", shell::to_ascii(name)),
    }
}

/// `sort_dns_records`, and the serial that goes up with it.
fn sort(zone: &mut Zone) {
    zone.records.sort_by_key(|r| r.id.parse::<u64>().unwrap_or(u64::MAX));
    zone.serial += 1;
}

/// `is_dns_nameserver_valid`: a name server within the zone has an address there.
fn glue(zone: &Zone, asked: &Asked) -> Result<(), (u16, String)> {
    let is_within = asked.rtype == "NS" && asked.value.ends_with(&format!(".{}", zone.name));
    if is_within && zone.of(&asked.value, "A").next().is_none() {
        let name = asked.value.trim_end_matches('.');
        return Err(error(exit::NOTEXIST, format!("IN A {name} does not exist")));
    }
    Ok(())
}

/// A record as it is asked for.
struct Asked {
    record: String,
    rtype: String,
    priority: String,
    value: String,
    restart: String,
    ttl: String,
}

impl Asked {
    /// As it will be kept, if it is accepted.
    fn checked(mut self) -> Result<Self, (u16, String)> {
        if !matches!(self.rtype.as_str(), "MX" | "SRV") {
            self.priority.clear();
        }
        if shell::has_target(&self.rtype) {
            if !self.value.ends_with('.') {
                self.value.push('.');
            }
            self.value = shell::to_ascii(&self.value);
            self.record = shell::to_ascii(&self.record);
        }
        self.value = shell::kept_value(&self.rtype, &self.value);
        if (self.record.as_str(), self.rtype.as_str()) == ("@", "CNAME") {
            return Err(error(exit::INVALID, "CNAME on root is not allowed"));
        }
        shell::check_record(&self.record).map_err(invalid)?;
        shell::check_value(&self.rtype, &self.value).map_err(invalid)?;
        shell::check_number("ttl", &self.ttl).map_err(invalid)?;
        shell::check_restart(&self.restart).map_err(invalid)?;
        Ok(self)
    }

    /// In the model's form. TTLs beyond 32 bits are taken (measured), and no model could hold them.
    fn to_record(&self, zone: &str, id: String) -> Record {
        let data = match self.rtype.as_str() {
            "MX" | "SRV" => format!("{} {}", self.priority, self.value),
            "TXT" | "SPF" => format!("\"{}\"", self.value.trim_matches('"')),
            "AAAA" => self.value.parse::<std::net::Ipv6Addr>().map_or_else(|_| self.value.clone(), |a| a.to_string()),
            _ => self.value.clone(),
        };
        let ttl = (!self.ttl.is_empty()).then(|| self.ttl.parse().unwrap_or(u32::MAX));
        let name = absolute(zone, &self.record);
        Record { id, name, rtype: self.rtype.clone(), data, ttl, ..Record::default() }
    }
}

impl HestiaCp {
    /// None: there is no such command.
    pub(super) fn run(&mut self, model: &mut Model, cmd: &str, arguments: &[String]) -> Option<Ran> {
        let at = |n: usize| arguments.get(n - 1).map(String::as_str).unwrap_or_default();
        let (least, usage) = match cmd {
            "v-list-dns-domains" => (1, "USER [FORMAT]"),
            "v-list-dns-domain" | "v-list-dns-records" => (2, "USER DOMAIN [FORMAT]"),
            "v-add-dns-record" => (5, "USER DOMAIN RECORD TYPE VALUE [PRIORITY] [ID] [RESTART] [TTL]"),
            "v-change-dns-record" => (6, "USER DOMAIN ID RECORD TYPE VALUE [PRIORITY] [RESTART] [TTL]"),
            _ => (3, "USER DOMAIN ID [RESTART]"),
        };
        let done = match cmd {
            known if !ALL.contains(&known) => return None,
            short if arguments.len() < least => Err((exit::ARGS, format!("Usage: {short} {usage}"))),
            "v-list-dns-domains" => self.list_domains(model, at(1), at(2)),
            "v-list-dns-domain" => self.list_domain(model, at(1), at(2), at(3)),
            "v-list-dns-records" => self.list_records(model, at(1), at(2), at(3)),
            "v-add-dns-record" => self.add(model, at(1), at(2), [at(3), at(4), at(5), at(6), at(8), at(9)], at(7)),
            "v-change-dns-record" => {
                self.change(model, at(1), at(2), at(3), [at(4), at(5), at(6), at(7), at(8), at(9)])
            }
            _ => self.delete(model, at(1), at(2), at(3), at(4)),
        };
        let (exit, output) = match done {
            Ok(output) => (0, output),
            Err((exit, output)) => (exit, output),
        };
        Some(Ran { exit, output })
    }

    fn knows(&self, user: &str) -> Result<(), (u16, String)> {
        if user == self.user { Ok(()) } else { Err(error(exit::NOTEXIST, format!("user {user} doesn't exist"))) }
    }

    fn list_domains(&self, model: &Model, user: &str, format: &str) -> Done {
        self.knows(user)?;
        if format == "json" {
            return Ok(shell::domains_json(model.zones.iter(), &self.source));
        }
        let lines = model.zones.iter().map(|z| format!("{} 198.51.100.1 default {}", z.id, shell::ZONE_TTL));
        Ok(["DOMAIN IP TPL TTL".to_owned()].into_iter().chain(lines).collect::<Vec<_>>().join("\n"))
    }

    fn list_domain(&self, model: &Model, user: &str, domain: &str, format: &str) -> Done {
        shell::check_domain(domain).map_err(invalid)?;
        self.knows(user)?;
        let zone = model.zone_by_id(domain).ok_or_else(|| no_domain(domain))?;
        if format == "json" {
            return Ok(shell::domains_json(std::iter::once(zone), &self.source));
        }
        Ok(format!("DOMAIN:         {domain}\nTTL:            {}", shell::ZONE_TTL))
    }

    fn list_records(&self, model: &Model, user: &str, domain: &str, format: &str) -> Done {
        shell::check_domain(domain).map_err(invalid)?;
        self.knows(user)?;
        let zone = model.zone_by_id(domain).ok_or_else(|| no_domain(domain))?;
        Ok(if format == "json" { shell::records_json(zone) } else { shell::records_shell(zone) })
    }

    /// What add and change want of user and domain; delete wants less.
    fn writable<'m>(&self, model: &'m mut Model, user: &str, domain: &str) -> Result<&'m mut Zone, (u16, String)> {
        self.knows(user)?;
        if self.is_user_suspended {
            return Err(error(exit::SUSPENDED, format!("user {user} is suspended")));
        }
        let zone = model.zone_by_id_mut(domain).ok_or_else(|| no_domain(domain))?;
        if !zone.writable {
            return Err(error(exit::SUSPENDED, format!("dns {domain} is suspended")));
        }
        Ok(zone)
    }

    /// Nothing is compared with what is there: the same again is a second line (measured).
    fn add(
        &mut self,
        model: &mut Model,
        user: &str,
        domain: &str,
        [record, rtype, value, priority, restart, ttl]: [&str; 6],
        id: &str,
    ) -> Done {
        let domain = formatted(domain);
        shell::check_domain(&domain).map_err(invalid)?;
        let asked = Asked {
            record: shell::to_unicode(record).to_lowercase(),
            rtype: rtype.to_ascii_uppercase(),
            priority: if priority.is_empty() { "10".into() } else { priority.into() },
            value: value.into(),
            restart: restart.into(),
            ttl: ttl.into(),
        }
        .checked()?;
        let zone = self.writable(model, user, &domain)?;
        if zone.is_full(1) {
            return Err(error(exit::LIMIT, "DNS_RECORDS limit is reached :: upgrade user package"));
        }
        shell::check_number("id", id).map_err(invalid)?;
        let id = if id.is_empty() { (last_id(zone) + 1).to_string() } else { id.to_owned() };
        if zone.record(&id).is_some() {
            return Err(error(exit::EXISTS, format!("ID={id} already exists")));
        }
        glue(zone, &asked)?;
        let record = asked.to_record(&zone.name, id);
        zone.records.push(record);
        sort(zone);
        self.load_anew(restart);
        Ok(String::new())
    }

    fn change(
        &mut self,
        model: &mut Model,
        user: &str,
        domain: &str,
        id: &str,
        [record, rtype, value, priority, restart, ttl]: [&str; 6],
    ) -> Done {
        let domain = formatted(domain);
        shell::check_domain(&domain).map_err(invalid)?;
        shell::check_number("id", id).map_err(invalid)?;
        shell::check_record(record).map_err(invalid)?;
        let zone = self.writable(model, user, &domain)?;
        // Of lines that share the id the last one is read.
        let Some(old) = zone.records.iter().rfind(|r| r.id == id).cloned() else { return Err(no_id(&domain, id)) };
        let kept_priority = shell::kept_data(&old).0;
        let asked = Asked {
            record: record.into(),
            rtype: if rtype.is_empty() { old.rtype.clone() } else { rtype.into() },
            priority: if priority.is_empty() { kept_priority } else { priority.into() },
            value: value.into(),
            restart: restart.into(),
            ttl: ttl.into(),
        }
        .checked()?;
        glue(zone, &asked)?;
        let new = asked.to_record(&zone.name, id.to_owned());
        let is_same = |a: &Record, b: &Record| {
            (&a.name, &a.rtype, &a.data, a.ttl, a.disabled) == (&b.name, &b.rtype, &b.data, b.ttl, b.disabled)
        };
        if is_same(&new, &old) {
            return Err((exit::EXISTS, "No pending changes in DNS entry.".into()));
        }
        zone.records.retain(|r| r.id != id);
        zone.records.push(new);
        sort(zone);
        self.load_anew(restart);
        Ok(String::new())
    }

    fn delete(&mut self, model: &mut Model, user: &str, domain: &str, id: &str, restart: &str) -> Done {
        let domain = formatted(domain);
        shell::check_domain(&domain).map_err(invalid)?;
        shell::check_number("id", id).map_err(invalid)?;
        shell::check_restart(restart).map_err(invalid)?;
        self.knows(user)?;
        let zone = model.zone_by_id_mut(&domain).ok_or_else(|| no_domain(&domain))?;
        let Some(rtype) = zone.records.iter().rfind(|r| r.id == id).map(|r| r.rtype.clone()) else {
            return Err(no_id(&domain, id));
        };
        // `is_dns_record_critical`.
        let of_type = zone.records.iter().filter(|r| r.rtype == rtype).count();
        if matches!(rtype.as_str(), "A" | "NS") && of_type <= 1 {
            return Err(error(exit::INVALID, format!("at least one {rtype} record should remain active")));
        }
        // `sed "/^ID='$id'/d"`: every line of that id.
        zone.records.retain(|r| r.id != id);
        zone.serial += 1;
        self.load_anew(restart);
        Ok(String::new())
    }

    /// `v-restart-dns`: nothing for `no`, the cron job's queue for `scheduled`.
    fn load_anew(&mut self, restart: &str) {
        match restart {
            "no" => {}
            "scheduled" => self.is_reload_queued = true,
            _ => self.reloads += 1,
        }
    }
}
