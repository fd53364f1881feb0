//! The other side of a provider: a façade with faults, or a live zone, of which is known what the provider reads.

use std::sync::{Arc, Mutex, MutexGuard};

use wharf_testkit::{
    facade::{Facade, Request},
    faults::Fault,
    model::{Model, Record, Zone},
    peer::{Asked, Peer},
};

use crate::stage::{Spy, held};

pub(crate) enum Site {
    Facade(Peer),
    Live(Mirror),
}

/// A live zone as the provider read it last.
pub(crate) struct Mirror {
    model: Mutex<Model>,
    spy: Arc<Spy>,
    /// Knows which requests ask for a change.
    facade: Mutex<Box<dyn Facade>>,
    /// Requests that were taken out of the spy's list and not asked for yet.
    log: Mutex<Vec<Asked>>,
}

impl Mirror {
    /// Nothing stands in this zone yet.
    pub(crate) fn new(zone: &str, spy: Arc<Spy>, facade: Box<dyn Facade>) -> Self {
        spy.take_asked();
        let mut model = Model::default();
        model.zones.push(Zone::new("", zone));
        Self { model: Mutex::new(model), spy, facade: Mutex::new(facade), log: Mutex::default() }
    }

    /// Keeps what was asked so far apart from what comes.
    pub(crate) fn set_aside(&self) {
        let asked = self.spy.take_asked().into_iter().map(|(request, status)| {
            let is_write = Some(held(&self.facade).is_write(&request));
            Asked { request: Request { is_write, ..request }, status }
        });
        held(&self.log).extend(asked);
    }

    /// What the provider read. What was asked for it is not told.
    pub(crate) fn read(&self, records: Vec<Record>) {
        self.spy.take_asked();
        if let Some(zone) = held(&self.model).zones.first_mut() {
            zone.records = records;
        }
    }
}

impl Site {
    /// What is there; of a live zone what the provider read after its last write.
    pub(crate) fn model(&self) -> MutexGuard<'_, Model> {
        match self {
            Self::Facade(peer) => peer.model(),
            Self::Live(mirror) => held(&mirror.model),
        }
    }

    /// Requests since this was asked last.
    pub(crate) fn take_log(&self) -> Vec<Asked> {
        match self {
            Self::Facade(peer) => peer.take_log(),
            Self::Live(mirror) => {
                mirror.set_aside();
                std::mem::take(&mut *held(&mirror.log))
            }
        }
    }

    /// Cases with faults are never played in a live zone.
    pub(crate) fn arm(&self, fault: Fault) {
        match self {
            Self::Facade(peer) => peer.arm(fault),
            Self::Live(_) => debug_assert!(false, "a fault in a live zone: {fault:?}"),
        }
    }

    pub(crate) fn clear_faults(&self) {
        if let Self::Facade(peer) = self {
            peer.clear_faults();
        }
    }
}
