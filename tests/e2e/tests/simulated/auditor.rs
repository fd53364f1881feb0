//! What must be true whatever happened: looked at while it happens, and when all has come to rest.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    sync::{Arc, Mutex},
    time::Duration,
};

use tokio::time::{Instant, sleep};
use wharf_model::{
    event::Event,
    operation::Status,
    service::{Phase, ServiceId},
};

use super::{plan::Plan, run::Stage};

/// Reads the feed as a panel does, and watches slots, leases and operations all the time.
pub struct Auditor {
    stage: Arc<Stage>,
    cap: u32,
    /// An address may be used again after it was seen to be free for so long.
    rest: Duration,
    seen: Mutex<Seen>,
}

#[derive(Default)]
struct Seen {
    feed: Vec<Event>,
    holders: BTreeMap<IpAddr, Option<ServiceId>>,
    freed: BTreeMap<IpAddr, (ServiceId, Instant)>,
    /// What was seen to be wrong while it went on.
    wrong: Option<String>,
}

/// Between two looks.
const LOOK: Duration = Duration::from_millis(700);

impl Auditor {
    pub fn new(stage: Arc<Stage>, plan: &Plan) -> Self {
        let rest = Duration::from_secs(plan.quarantine_s)
            .saturating_sub(Duration::from_millis(plan.skew_ms.unsigned_abs()))
            // It is seen to be free up to one look late.
            .saturating_sub(LOOK);
        Self { stage, cap: plan.cap, rest, seen: Mutex::default() }
    }

    /// Looks again and again.
    pub async fn watch(self: Arc<Self>) {
        loop {
            let wrong = self.look().await;
            if wrong.is_some() {
                self.seen.lock().unwrap().wrong = wrong;
                return;
            }
            // Little happens when all wait.
            let busy = !self.stage.world.sim.running().is_empty();
            let quiet = self.stage.world.books.queue_counts().await.unwrap().claimed == 0;
            sleep(if busy || !quiet { LOOK } else { LOOK * 2 }).await;
        }
    }

    /// Fails with what was seen to be wrong so far.
    pub fn alive(&self) {
        let wrong = self.seen.lock().unwrap().wrong.clone();
        if let Some(wrong) = wrong {
            panic!("{wrong}");
        }
    }

    async fn look(&self) -> Option<String> {
        let books = &self.stage.world.books;
        let last = self.seen.lock().unwrap().feed.last().map_or(0, |e| e.seq);
        let news = books.events_after(last, None, 1_000).await.unwrap();
        let leases = books.leases_in("v4").await.unwrap();
        let services = self.stage.world.services().await;
        let mut live = Vec::new();
        for service in &services {
            let open = books.operations(service.id, 50).await.unwrap();
            live.push(open.iter().filter(|o| matches!(o.status, Status::Running | Status::Waiting)).count());
        }
        let mut seen = self.seen.lock().unwrap();
        for event in news {
            let expected = seen.feed.last().map_or(1, |e| e.seq + 1);
            if event.seq != expected {
                return Some(format!("the feed goes from {} to {}", expected - 1, event.seq));
            }
            seen.feed.push(event);
        }
        if let Some((service, n)) = services.iter().zip(live).find(|(_, n)| *n > 1) {
            return Some(format!("{n} operations of {} are live at once", service.reference));
        }
        for lease in leases {
            let before = seen.holders.insert(lease.address, lease.service_id).flatten();
            match (before, lease.service_id) {
                (Some(former), None) => {
                    seen.freed.insert(lease.address, (former, Instant::now()));
                }
                (Some(former), Some(now)) if former != now => {
                    return Some(format!("{} went from one service to another without a rest", lease.address));
                }
                (None, Some(now)) => {
                    if let Some((former, at)) = seen.freed.remove(&lease.address)
                        && former != now
                        && at.elapsed() < self.rest
                    {
                        return Some(format!("{} was leased again after {:?}", lease.address, at.elapsed()));
                    }
                }
                _ => {}
            }
        }
        None
    }

    /// When all has come to rest.
    pub async fn at_rest(&self) {
        if let Some(wrong) = self.look().await {
            panic!("{wrong}");
        }
        self.alive();
        let stage = &self.stage;
        // But the order of operations: what an admin has resumed ends after what came later.
        stage.world.audit_services().await;
        // Known: a host whose clock is an hour ahead takes claims over that still hold, and sends beside their owner.
        if stage.world.skew_ms == 0 {
            self.slots();
        }
        self.answers().await;
        self.services().await;
        self.orphans().await;
        // What was reported meanwhile is in the feed, too.
        if let Some(wrong) = self.look().await {
            panic!("{wrong}");
        }
        self.feed().await;
    }

    fn slots(&self) {
        for (storage, most) in self.stage.world.sim.snapshot().most_clones {
            assert!(most <= self.cap, "{most} copies at once on {storage}, where {} are allowed", self.cap);
        }
    }

    async fn answers(&self) {
        let answers = self.stage.answers.lock().unwrap().clone();
        for (key, operations) in answers {
            let different: BTreeSet<_> = operations.iter().collect();
            assert_eq!(different.len(), 1, "the key {key} was answered with {operations:?}");
            for id in operations.into_iter().flatten() {
                let operation = self.stage.world.books.operation(id).await.unwrap();
                let operation = operation.unwrap_or_else(|| panic!("the operation of the key {key} is lost"));
                assert!(operation.status.is_final(), "{} of {key} is {}", operation.kind, operation.status.as_str());
            }
        }
    }

    /// Each ended in what it is, with a reason where it stopped, and its VM is as the books have it.
    async fn services(&self) {
        let world = &self.stage.world;
        let guests = world.sim.guests();
        for service in world.services().await {
            let tell = || async { world.tell(&service.reference).await };
            let operations = world.books.operations(service.id, 50).await.unwrap();
            for operation in &operations {
                assert!(operation.status.is_final(), "{}", tell().await);
                if operation.status == Status::NeedsAdmin {
                    let reason = operation.reason.as_ref().map(|r| r.message.len()).unwrap_or_default();
                    assert!(reason > 0, "stopped without a reason: {}", tell().await);
                }
            }
            // Oldest last.
            let ended = operations.iter().find(|o| o.kind == "terminate");
            if let Some(ended) = ended {
                match ended.status {
                    Status::Succeeded => assert_eq!(service.phase, Phase::Terminated, "{}", tell().await),
                    _ => assert_eq!(service.phase, Phase::NeedsAdmin, "{}", tell().await),
                }
            } else {
                assert!(matches!(service.phase, Phase::Active | Phase::NeedsAdmin), "{}", tell().await);
            }
            if service.phase == Phase::Active {
                let vm = &guests[&service.vmid.unwrap()];
                assert_eq!(vm.running, !service.suspended, "VM {}: {}", vm.vmid, tell().await);
                let onboot = vm.config.get("onboot").map(String::as_str).unwrap_or("0");
                assert_eq!(onboot == "1", !service.suspended, "VM {}: {}", vm.vmid, tell().await);
                assert_eq!(world.books.leases_of(service.id).await.unwrap().len(), 1, "{}", tell().await);
            }
        }
        assert!(world.books.slots().await.unwrap().is_empty(), "slots are held at rest");
        assert!(world.books.rooms("pve").await.unwrap().is_empty(), "room is promised at rest");
        assert!(world.sim.schema_violations().is_empty());
    }

    /// Each VM in our range is some service's, and none is left of one that is gone; where clocks were wrong, it is reported.
    async fn orphans(&self) {
        let services = self.stage.world.services().await;
        for (vmid, vm) in self.stage.world.sim.guests() {
            let owner = services.iter().find(|s| s.vmid == Some(vmid) && s.phase != Phase::Terminated);
            if owner.is_none() && self.stage.world.skew_ms != 0 {
                let reported = self.stage.world.reported_orphans().await;
                assert!(reported.contains(&vmid), "VM {vmid} is nobody's and not reported: {:?}", vm.config);
                continue;
            }
            assert!(owner.is_some(), "VM {vmid} is nobody's: {:?}\n{}", vm.config, self.stage.tell().await);
        }
    }

    /// The reader has seen all, and of each operation its beginning before its end, each once.
    async fn feed(&self) {
        let seen = std::mem::take(&mut self.seen.lock().unwrap().feed);
        let all = self.stage.world.books.events_after(0, None, 100_000).await.unwrap();
        assert_eq!(seen.iter().map(|e| e.seq).collect::<Vec<_>>(), all.iter().map(|e| e.seq).collect::<Vec<_>>());
        let ids: BTreeSet<_> = all.iter().map(|e| e.id).collect();
        assert_eq!(ids.len(), all.len(), "an event stands twice in the feed");
        for service in self.stage.world.services().await {
            let own: Vec<&Event> = all.iter().filter(|e| e.event.service_id == Some(service.id)).collect();
            for operation in self.stage.world.books.operations(service.id, 50).await.unwrap() {
                let id = operation.id.to_string();
                let of = |kinds: &[&str]| -> Vec<i64> {
                    let told = own.iter().filter(|e| e.event.data["operation"] == id.as_str());
                    told.filter(|e| kinds.contains(&e.event.kind.as_str())).map(|e| e.seq).collect()
                };
                let begun = of(&["operation.accepted", "service.suspended", "service.unsuspended"]);
                assert_eq!(begun.len(), 1, "the {} of {} was announced {begun:?}", operation.kind, service.reference);
                let ended = of(&["operation.finished"]);
                let expected = usize::from(operation.started_ms.is_some() && operation.status != Status::NeedsAdmin);
                assert_eq!(ended.len(), expected, "the end of {} was told {ended:?}", operation.kind);
                assert!(ended.iter().all(|end| *end > begun[0]), "an end was told before its beginning");
                if operation.status == Status::NeedsAdmin {
                    assert!(
                        !of(&["operation.needs-admin"]).is_empty(),
                        "nobody was told that {} stopped",
                        operation.kind
                    );
                }
            }
            let phase = own.iter().rev().find_map(|e| e.event.data["phase"].as_str()).unwrap_or_default();
            assert_eq!(phase, service.phase.as_str(), "the last event of {} is wrong", service.reference);
        }
    }
}
