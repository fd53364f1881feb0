//! The truth behind an API: zones and their records.
//!
//! Names are absolute, lower case, A-labels, with the final dot; data is in canonical presentation form. What an API shows and
//! takes is the façade's affair.

use std::collections::{BTreeMap, BTreeSet};

/// One record. An API that knows sets of values only shows records of the same name and type as one.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Record {
    /// The API's own; unique in its zone unless the API gives ids out again.
    pub id: String,
    pub name: String,
    pub rtype: String,
    pub data: String,
    /// Seconds; none = automatic, or the zone's default.
    pub ttl: Option<u32>,
    /// There, and not served.
    pub disabled: bool,
    pub comment: Option<String>,
    /// What else the API keeps beside a record: `proxied`, `priority`, …
    pub extra: BTreeMap<String, String>,
}

impl Record {
    pub fn new(name: &str, rtype: &str, data: &str, ttl: u32) -> Self {
        Self { name: name.into(), rtype: rtype.into(), data: data.into(), ttl: Some(ttl), ..Self::default() }
    }

    fn stands_for(&self, name: &str, rtype: &str) -> bool {
        self.name == name && self.rtype == rtype
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Zone {
    pub id: String,
    pub name: String,
    /// False: a secondary or locked zone.
    pub writable: bool,
    /// Raised once for each change that was committed.
    pub serial: u64,
    pub records: Vec<Record>,
    /// The provider's quota, if it has one.
    pub records_max: Option<usize>,
    /// Comments and the like of whole sets, by name and type.
    pub notes: BTreeMap<(String, String), String>,
}

impl Zone {
    pub fn new(id: &str, name: &str) -> Self {
        Self {
            id: id.into(),
            name: name.into(),
            writable: true,
            serial: 2_026_010_100,
            records: Vec::new(),
            records_max: None,
            notes: BTreeMap::new(),
        }
    }

    /// Data of a name and type that is served, in order.
    pub fn data(&self, name: &str, rtype: &str) -> Vec<&str> {
        let mut data: Vec<&str> =
            self.records.iter().filter(|r| r.stands_for(name, rtype) && !r.disabled).map(|r| r.data.as_str()).collect();
        data.sort_unstable();
        data
    }

    /// All of a name and type, disabled ones included, as they were put in.
    pub fn of<'a>(&'a self, name: &'a str, rtype: &'a str) -> impl Iterator<Item = &'a Record> {
        self.records.iter().filter(move |r| r.stands_for(name, rtype))
    }

    /// Names and types that have a record.
    pub fn sets(&self) -> BTreeSet<(String, String)> {
        self.records.iter().map(|r| (r.name.clone(), r.rtype.clone())).collect()
    }

    pub fn record(&self, id: &str) -> Option<&Record> {
        self.records.iter().find(|r| r.id == id)
    }

    /// Whether so many more would be too many.
    pub fn is_full(&self, more: usize) -> bool {
        self.records_max.is_some_and(|most| self.records.len() + more > most)
    }

    /// What is compared to see that nothing, or only what should, has changed: everything but ids and the serial.
    pub fn picture(&self) -> BTreeSet<(String, String, String, Option<u32>, bool, Option<String>)> {
        let one = |r: &Record| (r.name.clone(), r.rtype.clone(), r.data.clone(), r.ttl, r.disabled, r.comment.clone());
        self.records.iter().map(one).collect()
    }
}

/// Everything a set of credentials reaches.
#[derive(Debug, Clone, Default)]
pub struct Model {
    pub zones: Vec<Zone>,
    last_id: u64,
}

impl Model {
    pub fn zone(&self, name: &str) -> Option<&Zone> {
        self.zones.iter().find(|z| z.name == name)
    }

    pub fn zone_mut(&mut self, name: &str) -> Option<&mut Zone> {
        self.zones.iter_mut().find(|z| z.name == name)
    }

    pub fn zone_by_id(&self, id: &str) -> Option<&Zone> {
        self.zones.iter().find(|z| z.id == id)
    }

    pub fn zone_by_id_mut(&mut self, id: &str) -> Option<&mut Zone> {
        self.zones.iter_mut().find(|z| z.id == id)
    }

    /// An id that nothing has had: 32 hexadecimal digits that count up.
    pub fn fresh_id(&mut self) -> String {
        self.last_id += 1;
        format!("{:032x}", self.last_id)
    }

    /// A new zone with so many records of others, each a name of its own.
    pub fn add_zone(&mut self, name: &str, foreign: usize) {
        let id = self.fresh_id();
        let mut zone = Zone::new(&id, name);
        for n in 0..foreign {
            let octets = (n / 250 % 250, n % 250 + 1);
            let data = format!("198.51.{}.{}", octets.0, octets.1);
            let id = self.fresh_id();
            zone.records.push(Record { id, ..Record::new(&format!("foreign-{n}.{name}"), "A", &data, 3_600) });
        }
        self.zones.push(zone);
    }
}
