//! The façade as a transport.

use serde_json::Value as Json;
use wharf_sdk::dns::prelude::*;
use wharf_sdk::http::{Failure, Sent};
use wharf_sdk::testing::delivered;
use wharf_testkit::{
    facade::{self, Facade},
    facades::hetzner::Hetzner,
    faults::{self, Armed},
    model::{Model, Record, Zone},
};

use crate::{api::Api, work};

pub const ZONE: &str = "example.test.";
pub const A: &str = "a.example.test.";
pub const BASE: &str = "https://api.test";

/// The API, and what was asked of it.
pub struct Wire {
    facade: Hetzner,
    model: Model,
    pub armed: Armed,
    pub log: Vec<facade::Request>,
    /// Done once, right before a write arrives: somebody else at work.
    pub meanwhile: Option<fn(&mut Wire)>,
}

pub fn wire_of(facade: Hetzner) -> Wire {
    let mut model = Model::default();
    facade.new_zone(&mut model, ZONE, 0);
    Wire { facade, model, armed: Armed::default(), log: Vec::new(), meanwhile: None }
}

pub fn wire() -> Wire {
    wire_of(Hetzner::default())
}

impl Transport for Wire {
    fn send(&mut self, request: &Request) -> Result<Response, Failure> {
        assert!(request.headers.iter().all(|(name, value)| name == "Authorization" || !value.contains("{{")));
        let (headers, body) = delivered(request, &[("api-token", self.facade.token())]);
        let path = request.url.strip_prefix(BASE).unwrap().to_owned();
        let (method, query) = (request.method.clone(), request.query.clone());
        let asked = facade::Request { method, path, query, headers, body, is_write: None };
        if asked.writes()
            && let Some(act) = self.meanwhile.take()
        {
            act(self);
        }
        self.log.push(asked.clone());
        let mishap = self.armed.strike(&asked);
        let answered = faults::answer(mishap.as_ref(), &mut self.facade, &mut self.model, &asked).ok_or_else(|| {
            Failure { sent: Sent::MaybeSent, code: "broken".into(), message: "Lost.".into(), ext: Vec::new() }
        })?;
        let text = String::from_utf8_lossy(&answered.body).into_owned();
        Ok(Response { status: answered.status, headers: answered.headers, text })
    }
}

impl Wire {
    pub fn with(mut self, name: &str, rtype: &str, data: &str, comment: Option<&str>) -> Self {
        self.put(name, rtype, data, comment);
        self
    }

    pub fn put(&mut self, name: &str, rtype: &str, data: &str, comment: Option<&str>) {
        let id = self.model.fresh_id();
        let record = Record { id, comment: comment.map(str::to_owned), ..Record::new(name, rtype, data, 600) };
        self.zone_mut().records.push(record);
    }

    pub fn add_zone(&mut self, name: &str) {
        self.facade.new_zone(&mut self.model, name, 0);
    }

    /// A request of somebody else.
    pub fn raw(&mut self, method: &str, path: &str, body: &Json) {
        let headers = vec![("authorization".to_owned(), format!("Bearer {}", self.facade.token()))];
        let (method, path, body) = (method.into(), format!("/v1{path}"), body.to_string().into_bytes());
        let request = facade::Request { method, path, headers, body, ..facade::Request::default() };
        assert!(self.facade.answer(&mut self.model, &request).status < 300);
    }

    pub fn zone(&self) -> &Zone {
        self.model.zone(ZONE).unwrap()
    }

    pub fn zone_mut(&mut self) -> &mut Zone {
        self.model.zone_mut(ZONE).unwrap()
    }

    pub fn data(&self, name: &str, rtype: &str) -> Vec<&str> {
        self.zone().data(name, rtype)
    }

    pub fn api(&mut self) -> Api<'_, Self> {
        let settings = self.facade.settings(BASE);
        let text = |key: &str| settings[key].as_str().unwrap().to_owned();
        let (url, zone) = (text("server-url"), text("zone"));
        Api::new(self, &url, &zone)
    }

    pub fn to_ref(&self) -> ZoneRef {
        ZoneRef { id: self.zone().id.clone(), name: ZONE.into() }
    }

    pub fn apply(&mut self, changes: &[Change]) -> Report {
        let zone = self.to_ref();
        work::apply(&mut self.api(), &zone, changes, || false).unwrap()
    }

    /// Applies, and polls what was taken on until it is done.
    pub fn settled(&mut self, changes: &[Change]) -> Vec<Outcome> {
        let zone = self.to_ref();
        let mut outcomes: Vec<Outcome> = self.apply(changes).outcomes.into_iter().map(|(_, o)| o).collect();
        for outcome in &mut outcomes {
            for _ in 0..10 {
                let Outcome::Accepted(operation) = outcome else { break };
                let operation = operation.clone();
                *outcome = work::poll(&mut self.api(), &zone, &operation).unwrap();
            }
        }
        outcomes
    }

    pub fn read(&mut self, what: &Selector) -> Result<Snapshot, Problem> {
        let zone = self.to_ref();
        work::read(&mut self.api(), &zone, what, || false)
    }

    /// Path and body of each change that was sent.
    pub fn writes(&self) -> Vec<(&str, Json)> {
        self.log.iter().filter(|r| r.writes()).map(|r| (r.path.as_str(), r.json().unwrap())).collect()
    }
}
