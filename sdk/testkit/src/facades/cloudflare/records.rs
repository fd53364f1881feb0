//! Records: what is taken, what is refused, and how they are shown.

use std::net::{Ipv4Addr, Ipv6Addr};

use serde_json::{Map, Value, json};

use super::{Fail, MOMENT, Plan, bare, is_proxied, quota};
use crate::model::{Record, Zone};

/// Types whose value is one text. The others need `data`, which is not kept here.
const TYPES: [&str; 7] = ["A", "AAAA", "CNAME", "MX", "NS", "PTR", "TXT"];
const PROXIABLE: [&str; 3] = ["A", "AAAA", "CNAME"];
/// Fields that a client may send.
const FIELDS: [&str; 9] = ["name", "type", "content", "ttl", "proxied", "priority", "comment", "tags", "settings"];
const TTL_MAX: u64 = 86_400;
/// Of one record, on the wire.
const CONTENT: usize = 4_096;

/// A zone's records in the course of a request.
pub(super) struct Work {
    pub(super) records: Vec<Record>,
    zone: String,
    most: Option<usize>,
    plan: Plan,
}

/// What gives new ids.
type Fresh<'a> = &'a mut dyn FnMut() -> String;

impl Work {
    pub(super) fn of(zone: &Zone, plan: Plan) -> Self {
        Self { records: zone.records.clone(), zone: zone.name.clone(), most: zone.records_max, plan }
    }

    fn at(&self, id: &str) -> Result<usize, Fail> {
        self.records.iter().position(|r| r.id == id).ok_or_else(no_such_record)
    }

    pub(super) fn post(&mut self, body: &Value, fresh: Fresh<'_>) -> Result<Value, Fail> {
        let record = Record { id: fresh(), ..self.whole(body)? };
        self.fits(&record)?;
        if self.most.is_some_and(|most| self.records.len() >= most) {
            return Err(quota());
        }
        let shown = show(&record);
        self.records.push(record);
        Ok(shown)
    }

    /// Replaces: what is not said is gone.
    pub(super) fn put(&mut self, id: &str, body: &Value) -> Result<Value, Fail> {
        let at = self.at(id)?;
        let record = Record { id: id.to_owned(), ..self.whole(body)? };
        self.settle(at, record)
    }

    /// Merges: what is not said stays.
    pub(super) fn patch(&mut self, id: &str, body: &Value) -> Result<Value, Fail> {
        let at = self.at(id)?;
        let former = self.records.get(at).cloned().ok_or_else(no_such_record)?;
        let record = self.merged(former, body)?;
        self.settle(at, record)
    }

    pub(super) fn delete(&mut self, id: &str) -> Result<Record, Fail> {
        let at = self.at(id)?;
        Ok(self.records.remove(at))
    }

    /// Deletes, patches, puts, posts, in this order; the first error is answered and nothing is kept
    /// (<https://developers.cloudflare.com/dns/manage-dns-records/how-to/batch-record-changes/>).
    pub(super) fn batch(&mut self, body: &Value, fresh: Fresh<'_>) -> Result<Value, Fail> {
        let map = body.as_object().ok_or_else(|| Fail::strict("a batch that is no object"))?;
        const KINDS: [&str; 4] = ["deletes", "patches", "puts", "posts"];
        if let Some(key) = map.keys().find(|k| !KINDS.contains(&k.as_str())) {
            return Err(Fail::strict(&format!("`{key}` in a batch")));
        }
        let of = |kind: &str| -> Result<&[Value], Fail> {
            match map.get(kind) {
                None => Ok(&[]),
                Some(Value::Array(list)) => Ok(list),
                Some(_) => Err(Fail::strict(&format!("`{kind}` that is no list"))),
            }
        };
        let count: usize = map.values().filter_map(Value::as_array).map(Vec::len).sum();
        if count == 0 {
            return Err(Fail::strict("an empty batch"));
        }
        // The limit is documented; how it is said is not.
        if count > self.plan.batch() {
            let why = format!("a batch of {count} records, {} is the limit of this plan", self.plan.batch());
            return Err(Fail::strict(&why));
        }
        let mut deleted = Vec::new();
        for op in of("deletes")? {
            if op.as_object().is_some_and(|o| o.len() > 1) {
                return Err(Fail::strict("a delete that has more than an id"));
            }
            deleted.push(show(&self.delete(&id_of(op)?)?));
        }
        let mut patched = Vec::new();
        for op in of("patches")? {
            patched.push(self.patch(&id_of(op)?, &without_id(op))?);
        }
        let mut put = Vec::new();
        for op in of("puts")? {
            put.push(self.put(&id_of(op)?, &without_id(op))?);
        }
        let mut posted = Vec::new();
        for op in of("posts")? {
            posted.push(self.post(op, fresh)?);
        }
        Ok(json!({ "deletes": deleted, "patches": patched, "puts": put, "posts": posted }))
    }

    fn settle(&mut self, at: usize, record: Record) -> Result<Value, Fail> {
        self.fits(&record)?;
        let shown = show(&record);
        if let Some(place) = self.records.get_mut(at) {
            *place = record;
        }
        Ok(shown)
    }

    fn whole(&self, body: &Value) -> Result<Record, Fail> {
        for field in ["name", "type", "content"] {
            if body.get(field).is_none() {
                return Err(Fail::strict(&format!("a record without `{field}`")));
            }
        }
        self.merged(Record::default(), body)
    }

    fn merged(&self, mut record: Record, body: &Value) -> Result<Record, Fail> {
        let map = body.as_object().ok_or_else(|| Fail::strict("a record that is no object"))?;
        // Types that need `data` are not taken here; for the others dns-lexicon 3.25 sends it as null.
        let known =
            |(key, value): (&String, &Value)| FIELDS.contains(&key.as_str()) || key == "data" && value.is_null();
        if let Some((key, _)) = map.iter().find(|field| !known(*field)) {
            return Err(Fail::strict(&format!("the field `{key}`")));
        }
        if let Some(name) = map.get("name") {
            record.name = self.name(name.as_str().unwrap_or_default())?;
        }
        if let Some(rtype) = map.get("type") {
            let rtype = rtype.as_str().unwrap_or_default();
            if !TYPES.contains(&rtype) || !(record.rtype.is_empty() || record.rtype == rtype) {
                return Err(Fail::strict(&format!("the type `{rtype}` here")));
            }
            record.rtype = rtype.to_owned();
        }
        if map.contains_key("content") || map.contains_key("priority") {
            record.data = data(&record, map)?;
        }
        if let Some(proxied) = map.get("proxied") {
            let proxied = proxied.as_bool().ok_or_else(|| Fail::strict("`proxied` that is no boolean"))?;
            // Quoted in jordantrizz/cloudflare-cli#8.
            if proxied && !PROXIABLE.contains(&record.rtype.as_str()) {
                return Err(Fail::validation(9_041, "Invalid proxied mode. Record cannot be proxied"));
            }
            record.disabled = false;
            record.extra.insert("proxied".into(), proxied.to_string());
        }
        if let Some(ttl) = map.get("ttl") {
            record.ttl = self.ttl(ttl)?;
        }
        if is_proxied(&record) {
            record.ttl = None;
        }
        match map.get("comment") {
            None => {}
            Some(Value::Null) => record.comment = None,
            Some(Value::String(text)) if !text.contains(['\n', '\r']) => {
                record.comment = Some(text.clone()).filter(|t| !t.is_empty());
            }
            Some(_) => return Err(Fail::strict("a comment that is no line of text")),
        }
        for (key, empty) in [("tags", json!([])), ("settings", json!({}))] {
            if map.get(key).is_some_and(|v| *v != empty) {
                return Err(Fail::strict(&format!(
                    "`{key}` of a record (tags cost a plan, settings are for proxied ones)"
                )));
            }
        }
        Ok(record)
    }

    /// `@` is the zone; what is not within the zone is put in front of it (NewFuture/DDNS#21).
    fn name(&self, name: &str) -> Result<String, Fail> {
        // Quoted in ethstaker/eth-docker#1396.
        let invalid = || Fail::validation(9_000, "DNS name is invalid.");
        let zone = bare(&self.zone);
        let name = name.to_ascii_lowercase();
        let name = if name == "@" || name == zone {
            zone.to_owned()
        } else if name.strip_suffix(zone).is_some_and(|front| front.ends_with('.')) {
            name
        } else {
            format!("{name}.{zone}")
        };
        // Underscores and a wildcard are good; a final dot and a slash are not known to be.
        let front = name.strip_suffix(zone).unwrap_or_default();
        let front = front.strip_suffix('.').unwrap_or(front);
        let good = |(at, label): (usize, &str)| {
            (1..=63).contains(&label.len())
                && (label == "*" && at == 0 || label.chars().all(|c| c.is_ascii_alphanumeric() || "-_".contains(c)))
        };
        if name.len() > 253 || !(front.is_empty() || front.split('.').enumerate().all(good)) || name.starts_with('.') {
            return Err(invalid());
        }
        Ok(format!("{name}."))
    }

    /// Quoted in timothymiller/cloudflare-ddns#179.
    fn ttl(&self, ttl: &Value) -> Result<Option<u32>, Fail> {
        let least = self.plan.ttl_min();
        match ttl.as_u64().or_else(|| ttl.as_f64().filter(|t| t.fract() == 0.0).map(|t| t as u64)) {
            Some(1) => Ok(None),
            Some(ttl) if (least..=TTL_MAX).contains(&ttl) => Ok(u32::try_from(ttl).ok()),
            _ => {
                let why = format!("TTL must be between {least} and {TTL_MAX} seconds, or 1 for Automatic.");
                Err(Fail::validation(9_021, why))
            }
        }
    }

    /// Whether it may stand beside the others. The one that it takes the place of does not count.
    fn fits(&self, record: &Record) -> Result<(), Fail> {
        for other in self.records.iter().filter(|r| r.name == record.name && r.id != record.id) {
            if other.rtype == record.rtype && other.data == record.data {
                return Err(Fail::new(400, 81_058, "An identical record already exists."));
            }
            match (record.rtype.as_str(), other.rtype.as_str()) {
                // Quoted in cloudflare/terraform-provider-cloudflare#1247.
                ("CNAME", "A" | "AAAA" | "CNAME") => {
                    let why = "An A, AAAA, or CNAME record with that host already exists.";
                    return Err(Fail::new(400, 81_053, why));
                }
                // Quoted in jeessy2/ddns-go#1557.
                ("A" | "AAAA", "CNAME") => {
                    return Err(Fail::new(400, 81_054, "A CNAME record with that host already exists."));
                }
                _ => {}
            }
        }
        Ok(())
    }
}

/// Quoted in zanjie1999/cloudflare-api-v4-ddns#5.
pub(super) fn no_such_record() -> Fail {
    Fail::new(404, 81_044, "Record does not exist.")
}

fn id_of(op: &Value) -> Result<String, Fail> {
    let id = op.get("id").and_then(Value::as_str);
    id.map(str::to_owned).ok_or_else(|| Fail::strict("an operation without `id`"))
}

fn without_id(op: &Value) -> Value {
    let mut op = op.clone();
    if let Some(map) = op.as_object_mut() {
        map.remove("id");
    }
    op
}

/// The value in the model's form. Contents may have their final dot; they are shown without.
fn data(record: &Record, map: &Map<String, Value>) -> Result<String, Fail> {
    let (former_priority, former) = match (record.rtype.as_str(), record.data.split_once(' ')) {
        ("MX", Some((priority, host))) => (priority.parse().ok(), host),
        _ => (None, record.data.as_str()),
    };
    let content = match map.get("content") {
        None => former,
        Some(content) => content.as_str().ok_or_else(|| Fail::strict("`content` that is no text"))?,
    };
    let priority: Option<u64> = match map.get("priority") {
        None => former_priority,
        Some(priority) => priority.as_u64().filter(|p| *p <= 65_535),
    };
    if record.rtype != "MX" && map.contains_key("priority") {
        return Err(Fail::strict("`priority` of another type than MX"));
    }
    if content.is_empty() || content.len() > CONTENT {
        return Err(Fail::strict("an empty or very long `content`"));
    }
    let host = || {
        let host = bare(content).to_ascii_lowercase();
        let good = |label: &str| {
            (1..=63).contains(&label.len()) && label.chars().all(|c| c.is_ascii_alphanumeric() || "-_/".contains(c))
        };
        if host.len() <= 253 && host.split('.').all(good) {
            return Ok(format!("{host}."));
        }
        Err(Fail::validation(9_007, format!("Content for {} record is invalid.", record.rtype)))
    };
    match record.rtype.as_str() {
        // These two come without 1004 (timothymiller/cloudflare-ddns#230, wherelse/cloudflare-ddns-script#15).
        "A" => {
            let why = "Content for A record must be a valid IPv4 address.";
            content.parse::<Ipv4Addr>().map(|a| a.to_string()).map_err(|_| Fail::new(400, 9_005, why))
        }
        "AAAA" => {
            let why = "Content for AAAA record must be a valid IPv6 address.";
            content.parse::<Ipv6Addr>().map(|a| a.to_string()).map_err(|_| Fail::new(400, 9_006, why))
        }
        "MX" => match priority {
            Some(priority) => Ok(format!("{priority} {}", host()?)),
            // Quoted in ZoneABC/ZoneABC#30; the code is not.
            None => Err(Fail::validation(0, "priority is a required field.")),
        },
        "CNAME" | "NS" | "PTR" => host(),
        _ => Ok(content.to_owned()),
    }
}

/// As recorded in 2025: without `zone_id` and `zone_name`, with `settings` and `tags`.
pub(super) fn show(record: &Record) -> Value {
    let (priority, content) = match (record.rtype.as_str(), record.data.split_once(' ')) {
        ("MX", Some((priority, host))) => (priority.parse::<u32>().ok(), bare(host)),
        ("CNAME" | "NS" | "PTR", _) => (None, bare(&record.data)),
        _ => (None, record.data.as_str()),
    };
    let mut shown = json!({
        "id": record.id,
        "name": bare(&record.name),
        "type": record.rtype,
        "content": content,
        "proxiable": PROXIABLE.contains(&record.rtype.as_str()),
        "proxied": is_proxied(record),
        "ttl": record.ttl.filter(|_| !is_proxied(record)).unwrap_or(1),
        "settings": {},
        "meta": {},
        "comment": record.comment,
        "tags": [],
        "created_on": MOMENT,
        "modified_on": MOMENT,
    });
    if let Some(map) = shown.as_object_mut() {
        if let Some(priority) = priority {
            map.insert("priority".into(), priority.into());
        }
        if record.comment.is_some() {
            map.insert("comment_modified_on".into(), MOMENT.into());
        }
    }
    shown
}
