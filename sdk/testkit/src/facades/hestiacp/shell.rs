//! What HestiaCP's shell accepts and prints: format checks of `func/main.sh`, listings of `bin/v-list-dns-*`.

use std::net::Ipv4Addr;

use crate::model::{Record, Zone};

/// The zone's TTL, which records without one of their own have (measured).
pub const ZONE_TTL: u32 = 14_400;
/// `is_dns_type_format_valid`.
const TYPES: [&str; 15] =
    ["A", "AAAA", "NS", "CNAME", "MX", "TXT", "SRV", "DNSKEY", "KEY", "IPSECKEY", "PTR", "SPF", "TLSA", "CAA", "DS"];

/// Types whose owner and value are kept as A-labels; the owner of all others is kept decoded (`v-add-dns-record`).
pub fn has_target(rtype: &str) -> bool {
    matches!(rtype, "NS" | "CNAME" | "MX" | "PTR" | "SRV")
}

pub fn to_ascii(name: &str) -> String {
    idna::domain_to_ascii(name).unwrap_or_else(|_| name.to_ascii_lowercase())
}

pub fn to_unicode(name: &str) -> String {
    idna::domain_to_unicode(name).0
}

/// `is_domain_format_valid`; a final dot is refused where the command does not take it away first (measured: the listings).
pub fn check_domain(domain: &str) -> Result<(), String> {
    let bad = domain.chars().any(|c| "!@#$^&*()+={}:,<>?_/\\\"';%`| \t\n".contains(c));
    let digits = !domain.is_empty() && domain.chars().all(|c| c.is_ascii_digit());
    if bad || digits || domain.contains("..") || domain == "www" || domain.ends_with('.') {
        return Err(format!("invalid domain format :: {domain}"));
    }
    Ok(())
}

/// `is_common_format_valid`, as it is used for RECORD.
pub fn check_record(record: &str) -> Result<(), String> {
    let bad = record.chars().any(|c| "!#$^&()+={}:<>?/\\\"';%`| \n".contains(c));
    let good_edge =
        |c: Option<char>, also: &str| c.is_none_or(|c| c.is_ascii_alphanumeric() || also.contains(c) || !c.is_ascii());
    let bad_star = record.contains('*') && !record.contains("*.") && record != "*";
    if bad
        || record.len() >= 400
        || (record.contains('@') && record.len() > 1)
        || bad_star
        || !good_edge(record.chars().last(), "_*@.")
        || !good_edge(record.chars().next(), "_*@")
        || ["..", "--", "__"].iter().any(|twice| record.contains(twice))
    {
        return Err(format!("invalid record format :: {record}"));
    }
    Ok(())
}

/// `is_dns_type_format_valid`, `is_dns_record_format_valid` and `is_dns_fqnd`.
pub fn check_value(rtype: &str, value: &str) -> Result<(), String> {
    if !TYPES.contains(&rtype) {
        return Err(format!("invalid dns record type format :: {rtype}"));
    }
    if value.contains('\n') {
        return Err(format!("invalid value :: {value}"));
    }
    if rtype == "A" && value.parse::<Ipv4Addr>().is_err() {
        return Err(format!("invalid ip format :: {value}"));
    }
    if matches!(rtype, "NS" | "MX") {
        check_domain(value.trim_end_matches('.')).map_err(|_| format!("invalid {rtype} format :: {value}"))?;
    }
    let dots = match rtype {
        "NS" | "SRV" => 3,
        "CNAME" | "MX" | "PTR" => 2,
        _ => 0,
    };
    if value.matches('.').count() < dots {
        let name = value.trim_end_matches('.');
        return Err(format!("{rtype} record {name} should be a fully qualified domain name (FQDN)"));
    }
    Ok(())
}

pub fn check_number(what: &str, text: &str) -> Result<(), String> {
    if text.chars().all(|c| c.is_ascii_digit()) {
        return Ok(());
    }
    Err(format!("invalid {what} format :: {text}"))
}

/// `is_restart_format_valid` (the words as measured on 1.10).
pub fn check_restart(word: &str) -> Result<(), String> {
    match word {
        "" | "yes" | "no" | "ssl" | "reload" | "updatessl" | "scheduled" => Ok(()),
        _ => Err(format!("invalid restart format :: {word}")),
    }
}

/// VALUE as it is kept: without quotes, and within quotes where it has a blank or a semicolon; CAA as it is, SRV without.
pub fn kept_value(rtype: &str, value: &str) -> String {
    if rtype == "CAA" {
        return value.to_owned();
    }
    let bare = value.replace('"', "");
    let needs = bare.contains(|c: char| c == ';' || c.is_whitespace());
    if needs && !matches!(rtype, "SRV" | "DNSKEY" | "DS" | "TLSA") { format!("\"{bare}\"") } else { bare }
}

/// RECORD as it is kept.
pub fn kept_record(zone: &Zone, record: &Record) -> String {
    let relative = match record.name.strip_suffix(&zone.name) {
        Some("") => "@",
        Some(front) => front.trim_end_matches('.'),
        None => &record.name,
    };
    if has_target(&record.rtype) { relative.to_owned() } else { to_unicode(relative) }
}

/// PRIORITY and VALUE as they are kept.
pub fn kept_data(record: &Record) -> (String, String) {
    match (record.rtype.as_str(), record.data.split_once(' ')) {
        ("MX" | "SRV", Some((priority, value))) => (priority.to_owned(), value.to_owned()),
        _ => (String::new(), kept_value(&record.rtype, &record.data)),
    }
}

fn yes(is_so: bool) -> &'static str {
    if is_so { "yes" } else { "no" }
}

/// Fields of an object as the listings print them.
fn object(key: &str, fields: &[(&str, &str)]) -> String {
    let lines: Vec<String> = fields.iter().map(|(name, value)| format!("        \"{name}\": \"{value}\"")).collect();
    format!("    \"{key}\": {{\n{}\n    }}", lines.join(",\n"))
}

/// `v-list-dns-records … json`: text put together by the shell. A backslash is lost (measured), `"` is escaped in VALUE and
/// nowhere else, a tab becomes `\u0009`; ids that stand twice are keys that stand twice.
pub fn records_json(zone: &Zone) -> String {
    let one = |record: &Record| {
        let (priority, value) = kept_data(record);
        let value = value.replace('\\', "").replace('"', "\\\"").replace('\t', "\\u0009");
        object(
            &record.id,
            &[
                ("RECORD", &kept_record(zone, record)),
                ("TYPE", &record.rtype),
                ("PRIORITY", &priority),
                ("VALUE", &value),
                ("ID", &record.id),
                ("SUSPENDED", yes(record.disabled)),
                ("TIME", "12:00:00"),
                ("DATE", "2026-11-21"),
                ("TTL", &record.ttl.unwrap_or(ZONE_TTL).to_string()),
            ],
        )
    };
    let all: Vec<String> = zone.records.iter().map(one).collect();
    format!("{{\n{}\n}}", all.join(",\n"))
}

/// The same in the format `shell`, which is the one that is printed when none is asked for.
pub fn records_shell(zone: &Zone) -> String {
    let mut lines = vec!["ID RECORD TYPE VALUE DATE TTL".to_owned()];
    lines.extend(zone.records.iter().map(|record| {
        let ttl = record.ttl.unwrap_or(ZONE_TTL);
        format!("{} {} {} {} 2026-11-21 {ttl}", record.id, kept_record(zone, record), record.rtype, kept_data(record).1)
    }));
    lines.join("\n")
}

/// `v-list-dns-domain … json` and `v-list-dns-domains … json`.
pub fn domains_json<'a>(zones: impl Iterator<Item = &'a Zone>, source: &str) -> String {
    let one = |zone: &Zone| {
        object(
            &zone.id,
            &[
                ("IP", "198.51.100.1"),
                ("TPL", "default"),
                ("TTL", &ZONE_TTL.to_string()),
                ("EXP", "2027-11-21"),
                ("SOA", "ns1.panel.test"),
                ("SERIAL", &zone.serial.to_string()),
                ("DNSSEC", "no"),
                ("SRC", source),
                ("RECORDS", &zone.records.len().to_string()),
                ("SUSPENDED", yes(!zone.writable)),
                ("TIME", "12:00:00"),
                ("DATE", "2026-11-21"),
            ],
        )
    };
    let all: Vec<String> = zones.map(one).collect();
    format!("{{\n{}\n}}", all.join(",\n"))
}
