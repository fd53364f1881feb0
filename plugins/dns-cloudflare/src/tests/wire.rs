//! The façade as a transport.

use serde_json::Value as Json;
use wharf_sdk::dns::prelude::*;
use wharf_sdk::http::{Failure, Sent};
use wharf_sdk::testing::delivered;
use wharf_testkit::{
    facade::{self, Facade, pairs},
    facades::cloudflare::{Cloudflare, Plan as Paid},
    faults::{self, Armed},
    model::{Model, Record, Zone},
};

use crate::{api::Api, normal::Plan, work};

pub const ZONE: &str = "example.test.";
pub const A: &str = "a.example.test.";
pub const BASE: &str = "https://api.test";

/// The API, and what was asked of it.
pub struct Wire {
    pub facade: Cloudflare,
    pub model: Model,
    pub armed: Armed,
    pub log: Vec<facade::Request>,
    /// Done to the model before the request of this number: somebody else at work.
    pub meanwhile: Vec<(usize, fn(&mut Zone))>,
}

pub fn wire_of(plan: Paid, foreign: usize) -> Wire {
    let facade = Cloudflare::new(plan);
    let mut model = Model::default();
    facade.new_zone(&mut model, ZONE, foreign);
    Wire { facade, model, armed: Armed::default(), log: Vec::new(), meanwhile: Vec::new() }
}

pub fn wire() -> Wire {
    wire_of(Paid::Free, 0)
}

impl Transport for Wire {
    fn send(&mut self, request: &Request) -> Result<Response, Failure> {
        assert!(request.headers.iter().all(|(name, value)| name == "Authorization" || !value.contains("{{")));
        let (headers, body) = delivered(request, &[("api-token", self.facade.token())]);
        let (path, query) = request.url.strip_prefix(BASE).unwrap().split_once('?').unwrap_or_default();
        let path = if path.is_empty() { request.url.strip_prefix(BASE).unwrap() } else { path };
        let mut query = pairs(query);
        query.extend(request.query.clone());
        let asked =
            facade::Request { method: request.method.clone(), path: path.into(), query, headers, body, is_write: None };
        for (_, act) in self.meanwhile.extract_if(.., |(at, _)| *at == self.log.len()) {
            act(self.model.zone_mut(ZONE).unwrap());
        }
        self.log.push(asked.clone());
        let mishap = self.armed.strike(&asked);
        let answered = faults::answer(mishap.as_ref(), &mut self.facade, &mut self.model, &asked).ok_or_else(|| {
            Failure { sent: Sent::MaybeSent, code: "broken".into(), message: "Lost.".into(), ext: Vec::new() }
        })?;
        Ok(Response {
            status: answered.status,
            headers: answered.headers,
            text: String::from_utf8_lossy(&answered.body).into_owned(),
        })
    }
}

impl Wire {
    pub fn with(mut self, name: &str, rtype: &str, data: &str) -> Self {
        self.put(name, rtype, data, |_| {});
        self
    }

    pub fn proxied(mut self, name: &str, data: &str) -> Self {
        self.put(name, "A", data, |r| {
            r.extra.insert("proxied".into(), "true".into());
        });
        self
    }

    pub fn put(&mut self, name: &str, rtype: &str, data: &str, more: impl Fn(&mut Record)) {
        let mut record = Record { id: self.model.fresh_id(), ..Record::new(name, rtype, data, 600) };
        more(&mut record);
        self.zone_mut().records.push(record);
    }

    pub fn zone(&self) -> &Zone {
        self.model.zone(ZONE).unwrap()
    }

    pub fn zone_mut(&mut self) -> &mut Zone {
        self.model.zone_mut(ZONE).unwrap()
    }

    pub fn api(&mut self) -> Api<'_, Self> {
        let settings = self.facade.zone_settings(BASE, ZONE);
        let text = |key: &str| settings[key].as_str().unwrap().to_owned();
        let (url, id) = (text("server-url"), text("zone-id"));
        Api::new(self, &url, &id, None)
    }

    pub fn to_ref(&self) -> ZoneRef {
        ZoneRef { id: self.zone().id.clone(), name: ZONE.into() }
    }

    pub fn apply(&mut self, plan: Plan, changes: &[Change]) -> Report {
        let zone = self.to_ref();
        work::apply(&mut self.api(), &zone, changes, plan, || false).unwrap()
    }

    pub fn read(&mut self, what: &Selector) -> Result<Snapshot, Problem> {
        let zone = self.to_ref();
        work::read(&mut self.api(), &zone, what, || false)
    }

    pub fn data(&self, name: &str, rtype: &str) -> Vec<&str> {
        self.zone().data(name, rtype)
    }

    pub fn writes(&self) -> Vec<Json> {
        self.log.iter().filter(|r| r.writes()).map(|r| r.json().unwrap()).collect()
    }
}
