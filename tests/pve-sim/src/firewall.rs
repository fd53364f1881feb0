//! A VM's firewall file: options, rules, IP sets.
//!
//! The file lives apart from the VM. Entries of an IP set are normalised (`/32` and `/128` vanish, IPv6 is compressed);
//! a removal under another spelling silently does nothing; rules are inserted at the top and are off by default.

use std::collections::BTreeMap;
use std::net::IpAddr;

use serde_json::{Value, json};

use crate::api::Ctx;
use crate::error::{ApiError, Put};
use crate::state::{Firewall, IpEntry, State, digest_of};

const LEVELS: &[&str] = &["emerg", "alert", "crit", "err", "warning", "notice", "info", "debug", "nolog"];
const CHANGED: &str = "detected modified configuration - file changed by other user? Try again.";

/// None = no such call.
pub(crate) fn call(cx: &Ctx, vmid: u32, method: &str, rest: &[&str]) -> Option<Result<Value, ApiError>> {
    let write = method != "GET";
    if let Err(e) = cx.need_vm(vmid, if write { "VM.Config.Network" } else { "VM.Audit" }) {
        return Some(Err(e));
    }
    Some(match (method, rest) {
        ("GET", ["options"]) => options(cx, vmid),
        ("PUT", ["options"]) => set_options(cx, vmid),
        ("GET", ["rules"]) => rules(cx, vmid),
        ("POST", ["rules"]) => add_rule(cx, vmid),
        ("GET", ["rules", pos]) => one_rule(cx, vmid, pos),
        ("PUT", ["rules", pos]) => change_rule(cx, vmid, pos),
        ("DELETE", ["rules", pos]) => remove_rule(cx, vmid, pos),
        ("GET", ["ipset"]) => sets(cx, vmid),
        ("POST", ["ipset"]) => add_set(cx, vmid),
        ("GET", ["ipset", name]) => entries(cx, vmid, name),
        ("POST", ["ipset", name]) => add_entry(cx, vmid, name),
        ("DELETE", ["ipset", name]) => remove_set(cx, vmid, name),
        ("GET", ["ipset", name, cidr]) => entry(cx, vmid, name, cidr),
        ("DELETE", ["ipset", name, cidr]) => remove_entry(cx, vmid, name, cidr),
        _ => return None,
    })
}

fn file(st: &State, vmid: u32) -> Firewall {
    st.firewalls.get(&vmid).cloned().unwrap_or_default()
}

fn change<T>(
    cx: &Ctx,
    vmid: u32,
    part: fn(&Firewall) -> String,
    f: impl FnOnce(&mut Firewall) -> Result<T, ApiError>,
) -> Result<T, ApiError> {
    cx.with(|st| {
        let mut fw = file(st, vmid);
        if cx.get("digest").is_some_and(|d| d != part(&fw)) {
            return Err(ApiError::die(CHANGED));
        }
        let out = f(&mut fw)?;
        st.firewalls.insert(vmid, fw);
        Ok(out)
    })
}

fn rules_digest(fw: &Firewall) -> String {
    digest_of(&fw.rules)
}
fn options_digest(fw: &Firewall) -> String {
    digest_of(&fw.options)
}
fn sets_digest(fw: &Firewall) -> String {
    digest_of(&fw.ipsets)
}

fn options(cx: &Ctx, vmid: u32) -> Result<Value, ApiError> {
    cx.only(&[])?;
    let fw = cx.with(|st| file(st, vmid));
    let mut out: serde_json::Map<String, Value> =
        fw.options.iter().map(|(k, v)| (k.clone(), v.parse::<u64>().map_or_else(|_| json!(v), |n| json!(n)))).collect();
    out.insert("digest".into(), json!(options_digest(&fw)));
    Ok(Value::Object(out))
}

fn set_options(cx: &Ctx, vmid: u32) -> Result<Value, ApiError> {
    const FLAGS: &[&str] = &["enable", "dhcp", "ipfilter", "macfilter", "ndp", "radv"];
    const POLICIES: &[&str] = &["policy_in", "policy_out"];
    const LOGS: &[&str] = &["log_level_in", "log_level_out"];
    cx.only(&[FLAGS, POLICIES, LOGS, &["delete", "digest"]].concat())?;
    let (mut set, mut errors) = (BTreeMap::new(), BTreeMap::new());
    for (k, v) in cx.params.iter().filter(|(k, _)| !["delete", "digest"].contains(&k.as_str())) {
        let key = k.as_str();
        let value = match v.to_ascii_lowercase().as_str() {
            "1" | "on" | "yes" | "true" if FLAGS.contains(&key) => Some("1".to_owned()),
            "0" | "off" | "no" | "false" if FLAGS.contains(&key) => Some("0".to_owned()),
            _ if POLICIES.contains(&key) => ["ACCEPT", "REJECT", "DROP"].contains(&v.as_str()).then(|| v.clone()),
            _ if LOGS.contains(&key) => LEVELS.contains(&v.as_str()).then(|| v.clone()),
            _ => None,
        };
        match value {
            Some(v) => {
                set.insert(k.clone(), v);
            }
            None => {
                errors.insert(k.clone(), format!("value '{v}' does not have a value in the enumeration"));
            }
        }
    }
    if !errors.is_empty() {
        return Err(ApiError::params(errors));
    }
    change(cx, vmid, options_digest, |fw| {
        for k in cx.get("delete").unwrap_or_default().split([',', ';', ' ']).filter(|k| !k.is_empty()) {
            fw.options.remove(k);
        }
        fw.options.extend(set);
        Ok(Value::Null)
    })
}

fn rule_value(pos: usize, rule: &BTreeMap<String, String>, digest: &str) -> Value {
    let mut out = json!({ "pos": pos, "digest": digest });
    for (k, v) in rule {
        let value = match (k.as_str(), v.parse::<u64>()) {
            ("enable", Ok(n)) => json!(n),
            _ => json!(v),
        };
        out.put(k, value);
    }
    out
}

fn rules(cx: &Ctx, vmid: u32) -> Result<Value, ApiError> {
    cx.only(&[])?;
    let fw = cx.with(|st| file(st, vmid));
    let digest = rules_digest(&fw);
    Ok(fw.rules.iter().enumerate().map(|(i, r)| rule_value(i, r, &digest)).collect())
}

const RULE_KEYS: &[&str] = &[
    "action",
    "type",
    "comment",
    "dest",
    "dport",
    "enable",
    "icmp-type",
    "iface",
    "log",
    "macro",
    "proto",
    "source",
    "sport",
];

fn rule_fields(cx: &Ctx) -> Result<BTreeMap<String, String>, ApiError> {
    let out: BTreeMap<String, String> = cx
        .params
        .iter()
        .filter(|(k, _)| RULE_KEYS.contains(&k.as_str()))
        .map(|(k, v)| (k.clone(), v.clone()))
        .collect();
    let mut errors = BTreeMap::new();
    if let Some(t) = out.get("type").filter(|t| !["in", "out", "forward", "group"].contains(&t.as_str())) {
        errors.insert(
            "type".to_owned(),
            format!("value '{t}' does not have a value in the enumeration 'in, out, forward, group'"),
        );
    }
    if let Some(l) = out.get("log").filter(|l| !LEVELS.contains(&l.as_str())) {
        errors.insert("log".to_owned(), format!("value '{l}' does not have a value in the enumeration"));
    }
    for k in ["sport", "dport"] {
        let needs = out.contains_key(k)
            && !out.get("proto").is_some_and(|p| ["tcp", "udp", "sctp", "dccp", "udplite"].contains(&p.as_str()));
        if needs && out.contains_key("type") {
            errors.insert("proto".to_owned(), "missing property - required by 'sport'/'dport'".to_owned());
        }
    }
    for k in ["source", "dest"] {
        let fine = |v: &String| {
            v.starts_with('+')
                || v.split(',').all(|a| {
                    normalise(a).is_ok() || a.contains('-') || a.starts_with(|c: char| c.is_ascii_alphabetic())
                })
        };
        if out.get(k).is_some_and(|v| !fine(v)) {
            errors.insert(
                k.to_owned(),
                "invalid format - value does not look like a valid IP address or CIDR network".into(),
            );
        }
    }
    if errors.is_empty() { Ok(out) } else { Err(ApiError::params(errors)) }
}

fn add_rule(cx: &Ctx, vmid: u32) -> Result<Value, ApiError> {
    cx.only(&[RULE_KEYS, &["pos", "digest"]].concat())?;
    cx.must("action")?;
    cx.must("type")?;
    let mut rule = rule_fields(cx)?;
    rule.entry("enable".into()).or_insert_with(|| "0".into());
    let pos = cx.number("pos")?.unwrap_or(0) as usize;
    change(cx, vmid, rules_digest, |fw| {
        fw.rules.insert(pos.min(fw.rules.len()), rule);
        Ok(Value::Null)
    })
}

fn position(fw: &Firewall, pos: &str) -> Result<usize, ApiError> {
    pos.parse().ok().filter(|p| *p < fw.rules.len()).ok_or_else(|| ApiError::die(format!("no rule at position {pos}")))
}

fn one_rule(cx: &Ctx, vmid: u32, pos: &str) -> Result<Value, ApiError> {
    cx.only(&[])?;
    let fw = cx.with(|st| file(st, vmid));
    let at = position(&fw, pos)?;
    Ok(fw.rules.get(at).map(|r| rule_value(at, r, &rules_digest(&fw))).unwrap_or_default())
}

fn change_rule(cx: &Ctx, vmid: u32, pos: &str) -> Result<Value, ApiError> {
    cx.only(&[RULE_KEYS, &["moveto", "delete", "digest"]].concat())?;
    let fields = rule_fields(cx)?;
    let moveto = cx.number("moveto")?;
    change(cx, vmid, rules_digest, |fw| {
        let at = position(fw, pos)?;
        if let Some(to) = moveto {
            // As in Proxmox: the rule goes before the one that is at `moveto` now.
            let rule = fw.rules.remove(at);
            let to = to as usize;
            let to = if to > at { to - 1 } else { to };
            fw.rules.insert(to.min(fw.rules.len()), rule);
        } else if let Some(rule) = fw.rules.get_mut(at) {
            for k in cx.get("delete").unwrap_or_default().split([',', ';', ' ']) {
                rule.remove(k);
            }
            rule.extend(fields);
        }
        Ok(Value::Null)
    })
}

fn remove_rule(cx: &Ctx, vmid: u32, pos: &str) -> Result<Value, ApiError> {
    cx.only(&["digest"])?;
    change(cx, vmid, rules_digest, |fw| {
        let at = position(fw, pos)?;
        fw.rules.remove(at);
        Ok(Value::Null)
    })
}

fn sets(cx: &Ctx, vmid: u32) -> Result<Value, ApiError> {
    cx.only(&[])?;
    let fw = cx.with(|st| file(st, vmid));
    let digest = sets_digest(&fw);
    Ok(fw
        .ipsets
        .keys()
        .map(|n| match fw.comments.get(n) {
            Some(c) => json!({ "name": n, "digest": digest, "comment": c }),
            None => json!({ "name": n, "digest": digest }),
        })
        .collect())
}

fn add_set(cx: &Ctx, vmid: u32) -> Result<Value, ApiError> {
    cx.only(&["name", "comment", "digest", "rename"])?;
    let name = cx.must("name")?.to_owned();
    let good = (2..=64).contains(&name.len())
        && name.starts_with(|c: char| c.is_ascii_alphabetic())
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_');
    if !good {
        return Err(ApiError::param("name", "value does not match the regex pattern"));
    }
    change(cx, vmid, sets_digest, |fw| {
        if let Some(old) = cx.get("rename") {
            let set = fw
                .ipsets
                .remove(old)
                .ok_or_else(|| ApiError::param("name", format!("IPSet '{old}' does not exist")))?;
            fw.ipsets.insert(name, set);
            return Ok(Value::Null);
        }
        if fw.ipsets.contains_key(&name) {
            return Err(ApiError::param("name", format!("IPSet '{name}' already exists")));
        }
        if let Some(c) = cx.get("comment") {
            fw.comments.insert(name.clone(), c.to_owned());
        }
        fw.ipsets.insert(name, BTreeMap::new());
        Ok(Value::Null)
    })
}

fn no_set(name: &str) -> ApiError {
    ApiError::die(format!("no such IPSet '{name}'"))
}

fn remove_set(cx: &Ctx, vmid: u32, name: &str) -> Result<Value, ApiError> {
    cx.only(&["force", "digest"])?;
    change(cx, vmid, sets_digest, |fw| match fw.ipsets.get(name) {
        None => Ok(Value::Null),
        Some(set) if !set.is_empty() && !cx.flag("force") => Err(ApiError::die(format!("IPSet '{name}' is not empty"))),
        Some(_) => {
            fw.ipsets.remove(name);
            fw.comments.remove(name);
            Ok(Value::Null)
        }
    })
}

fn entry_value(cidr: &str, e: &IpEntry, digest: &str) -> Value {
    let mut out = json!({ "cidr": cidr, "digest": digest });
    if let Some(c) = &e.comment {
        out.put("comment", json!(c));
    }
    if e.nomatch {
        out.put("nomatch", json!(1));
    }
    out
}

fn entries(cx: &Ctx, vmid: u32, name: &str) -> Result<Value, ApiError> {
    cx.only(&[])?;
    let fw = cx.with(|st| file(st, vmid));
    let digest = sets_digest(&fw);
    let set = fw.ipsets.get(name).ok_or_else(|| no_set(name))?;
    Ok(set.iter().map(|(c, e)| entry_value(c, e, &digest)).collect())
}

fn entry(cx: &Ctx, vmid: u32, name: &str, cidr: &str) -> Result<Value, ApiError> {
    cx.only(&[])?;
    let fw = cx.with(|st| file(st, vmid));
    let set = fw.ipsets.get(name).ok_or_else(|| no_set(name))?;
    let e = set.get(cidr).ok_or_else(|| ApiError::param("cidr", "no such IP/Network"))?;
    Ok(entry_value(cidr, e, &sets_digest(&fw)))
}

/// As Proxmox prints it: no `/32` or `/128`, IPv6 compressed.
pub(crate) fn normalise(text: &str) -> Result<String, String> {
    let bad = || "invalid format - value does not look like a valid IP address or CIDR network".to_owned();
    let Some((ip, len)) = text.split_once('/') else {
        return text.parse::<IpAddr>().map(|ip| ip.to_string()).map_err(|_| bad());
    };
    let ip: IpAddr = ip.parse().map_err(|_| bad())?;
    let len: u8 = len.parse().map_err(|_| bad())?;
    let net = ipnet::IpNet::new(ip, len).map_err(|_| bad())?;
    if net.network() != ip {
        return Err(bad());
    }
    Ok(if len == net.max_prefix_len() { ip.to_string() } else { format!("{ip}/{len}") })
}

fn add_entry(cx: &Ctx, vmid: u32, name: &str) -> Result<Value, ApiError> {
    cx.only(&["cidr", "comment", "nomatch"])?;
    let given = cx.must("cidr")?;
    let cidr = normalise(given).map_err(|text| ApiError::param("cidr", text))?;
    if cidr.ends_with("/0") {
        return Err(ApiError::param("cidr", "a zero prefix is not allowed in ipset entries"));
    }
    change(
        cx,
        vmid,
        |_| String::new(),
        |fw| {
            let set = fw.ipsets.get_mut(name).ok_or_else(|| no_set(name))?;
            if set.contains_key(&cidr) {
                return Err(ApiError::param("cidr", format!("address '{cidr}' already exists")));
            }
            set.insert(cidr, IpEntry { comment: cx.get("comment").map(str::to_owned), nomatch: cx.flag("nomatch") });
            Ok(Value::Null)
        },
    )
}

fn remove_entry(cx: &Ctx, vmid: u32, name: &str, cidr: &str) -> Result<Value, ApiError> {
    cx.only(&["digest"])?;
    change(cx, vmid, sets_digest, |fw| {
        // Compared as text: another spelling of the same address is no hit, and no error.
        fw.ipsets.get_mut(name).ok_or_else(|| no_set(name))?.remove(cidr);
        Ok(Value::Null)
    })
}
