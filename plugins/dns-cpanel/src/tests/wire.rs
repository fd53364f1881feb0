//! The façade as a transport.

use wharf_sdk::dns::prelude::*;
use wharf_sdk::http::{Failure, Sent};
use wharf_sdk::testing::delivered;
use wharf_testkit::{
    facade::{self, Facade},
    facades::cpanel::{CPanel, Door as There},
    faults::{self, Armed},
    model::{Model, Record, Zone},
};

use crate::{
    api::{Api, Door, Server},
    work,
};

pub const ZONE: &str = "example.test.";
pub const A: &str = "a.example.test.";
const BASE: &str = "https://panel.test:2087";

/// A server, and what was asked of it.
pub struct Wire {
    facade: CPanel,
    door: Door,
    pub model: Model,
    pub armed: Armed,
    pub log: Vec<facade::Request>,
    /// Done once, right before a write arrives: somebody else at work.
    pub meanwhile: Option<fn(&mut Zone)>,
}

pub fn wire(there: There) -> Wire {
    let facade = CPanel::new(there);
    let mut model = Model::default();
    facade.new_zone(&mut model, ZONE, 0);
    let door = if there == There::Whm { Door::Whm } else { Door::Account };
    Wire { facade, door, model, armed: Armed::default(), log: Vec::new(), meanwhile: None }
}

impl Transport for Wire {
    fn send(&mut self, request: &Request) -> Result<Response, Failure> {
        assert!(request.headers.iter().all(|(name, value)| name == "Authorization" || !value.contains("{{")));
        let (headers, body) = delivered(request, &[("api-token", self.facade.token())]);
        let path = request.url.strip_prefix(BASE).unwrap().to_owned();
        let (method, query) = (request.method.clone(), request.query.clone());
        let mut asked = facade::Request { method, path, query, headers, body, is_write: None };
        asked.is_write = Some(self.facade.is_write(&asked));
        if asked.writes()
            && let Some(act) = self.meanwhile.take()
        {
            act(self.model.zone_mut(ZONE).unwrap());
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
    pub fn with(mut self, name: &str, rtype: &str, data: &str) -> Self {
        let id = self.model.fresh_id();
        let record = Record { id, ..Record::new(name, rtype, data, 600) };
        self.model.zone_mut(ZONE).unwrap().records.push(record);
        self
    }

    pub fn zone(&self) -> &Zone {
        self.model.zone(ZONE).unwrap()
    }

    pub fn data(&self, name: &str, rtype: &str) -> Vec<&str> {
        self.zone().data(name, rtype)
    }

    pub fn api(&mut self) -> Api<'_, Self> {
        let settings = self.facade.settings(BASE);
        let text = |key: &str| settings[key].as_str().unwrap().to_owned();
        let server = Server { url: text("server-url"), user: text("user"), door: self.door };
        Api::new(self, server)
    }

    pub fn to_ref(&self) -> ZoneRef {
        ZoneRef { id: ZONE.into(), name: ZONE.into() }
    }

    pub fn apply(&mut self, changes: &[Change]) -> Report {
        let zone = self.to_ref();
        work::apply(&mut self.api(), &zone, changes, || false).unwrap()
    }

    pub fn read(&mut self, what: &Selector) -> Result<Snapshot, Problem> {
        let zone = self.to_ref();
        work::read(&mut self.api(), &zone, what)
    }

    /// Fields of each change that was sent.
    pub fn writes(&self) -> Vec<Vec<(String, String)>> {
        self.log.iter().filter(|r| r.writes()).map(facade::Request::form).collect()
    }
}
