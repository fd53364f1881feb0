//! Two engines can't be told apart: the same long random script, the same answers at every step.
//!
//! Simulation rests on the in-memory model, so a difference between it and an engine of SQL would make it prove nothing. Each
//! seed is a script of its own; a failure names the seed and the step. Time is virtual, so a script takes as long as its
//! slower engine.

use std::collections::BTreeMap;

use rand::{Rng, RngExt, SeedableRng, rngs::StdRng};
use uuid::Uuid;
use wharf_model::{
    effect::{EffectResult, SlotPool},
    lease::{Network, Range},
    operation::{Operation, Reason, Status},
    record::RecordKey,
    service::{Phase, Service},
};

use super::fixture::{self, NOW};
use crate::{
    Accept, Books, Claim, Commit, Decision, DnsClaim, EffectChange, LeaseSet, LeaseWish, NewOperation, RecordOutcome,
    ServiceFilter, ServicePatch, Then,
};

/// How many calls a script makes.
pub const STEPS: usize = 600;

/// Ids that come from the script, so that both sides get the same.
fn id(rng: &mut StdRng) -> Uuid {
    uuid::Builder::from_random_bytes(rng.random()).into_uuid()
}

fn pick<T: Clone>(rng: &mut StdRng, from: &[T]) -> Option<T> {
    if from.is_empty() { None } else { Some(from[rng.random_range(0..from.len())].clone()) }
}

fn show(what: impl std::fmt::Debug) -> String {
    format!("{what:?}")
}

struct Script {
    rng: StdRng,
    now: i64,
    claims: Vec<Claim>,
    dns: Vec<DnsClaim>,
    services: Vec<Uuid>,
    operations: Vec<Uuid>,
    owners: [Uuid; 2],
}

impl Script {
    fn effect(&mut self) -> Option<EffectChange> {
        let slot = match self.rng.random_range(0..3) {
            0 => None,
            _ => Some(SlotPool { name: "pool".into(), cap: self.rng.random_range(1..4) }),
        };
        let deadline_ms = self.now + 100;
        Some(match self.rng.random_range(0..9) {
            0..3 => {
                let body = serde_json::json!({ "n": self.rng.random_range(0..9) });
                EffectChange::New { kind: "clone".into(), server: "pve".into(), body, slot, deadline_ms }
            }
            3 => EffectChange::Send { deadline_ms },
            4 => EffectChange::Issued { task: format!("UPID:{}", self.rng.random_range(0..3)) },
            5 => EffectChange::NotSent,
            6 | 7 => EffectChange::Resolved(EffectResult {
                ok: self.rng.random(),
                code: String::new(),
                message: "said".into(),
            }),
            _ => return None,
        })
    }

    fn then(&mut self) -> Then {
        match self.rng.random_range(0..8) {
            0..4 => Then::Keep,
            4..6 => Then::Wait {
                due_ms: self.now + self.rng.random_range(0..40),
                topic: self.rng.random::<bool>().then(|| "topic".into()),
                reason: self.rng.random::<bool>().then(|| Reason { code: "c".into(), message: "m".into() }),
            },
            6 => Then::Finish { status: Status::Succeeded, phase: Phase::Active, reason: None },
            _ => Then::Finish { status: Status::NeedsAdmin, phase: Phase::NeedsAdmin, reason: None },
        }
    }

    fn commit(&mut self) -> Option<Commit> {
        let claim = pick(&mut self.rng, &self.claims)?;
        let mut commit = Commit::new(claim, self.now, self.then());
        commit.effect = if self.rng.random() { self.effect() } else { None };
        if self.rng.random_range(0..3) == 0 {
            commit.state = Some((format!("s{}", self.rng.random_range(0..5)), self.rng.random_range(1..3)));
            commit.log = vec![fixture::step(1), fixture::line("x")];
        }
        if self.rng.random_range(0..4) == 0 {
            commit.attempt = Some(self.rng.random_range(0..5));
            commit.memo = Some(self.rng.random::<bool>().then(|| "memo".into()));
            commit.service.facts = vec![("k".into(), self.rng.random::<bool>().then(|| "v".into()))];
            commit.service.absence_proven_ms = Some(self.rng.random::<bool>().then_some(self.now));
        }
        Some(commit)
    }

    fn operation(&mut self) -> NewOperation {
        let operation = NewOperation { id: id(&mut self.rng), ..fixture::operation("change") };
        self.operations.push(operation.id);
        operation
    }

    /// A wish that both sides decide alike, from what they see.
    fn accept(&mut self) -> impl Fn() -> Accept + use<> {
        let reference = self.rng.random_range(0..6_u8).to_string();
        let service = Service { id: id(&mut self.rng), ..fixture::service(&reference) };
        self.services.push(service.id);
        let operation = self.operation();
        let (preempt, cancel, add) = (self.rng.random(), self.rng.random::<bool>(), self.rng.random::<bool>());
        let key = self.rng.random_range(0..20_u8).to_string();
        let keyed = self.rng.random_range(0..3) == 0;
        let now = self.now;
        move || {
            let (service, operation) = (service.clone(), operation.clone());
            let decide = move |there: Option<&Service>, open: &[Operation]| match there {
                None => Decision::Create { service: Box::new(service), operation, events: Vec::new() },
                Some(there) => Decision::Change {
                    patch: ServicePatch { suspended: Some(preempt), ..ServicePatch::default() },
                    operation: (add && open.len() < 4).then_some(operation),
                    cancel: open.iter().filter(|o| cancel && o.status == Status::Queued).map(|o| o.id).collect(),
                    preempt,
                    events: vec![fixture::event(Some(there), "service.changed")],
                },
            };
            let accept = fixture::accept(&reference, decide, now);
            if keyed { fixture::keyed(accept, &key, &reference) } else { accept }
        }
    }

    fn lease(&mut self) -> Option<LeaseWish> {
        let network = |bridge: &str| Network {
            prefix_length: 24,
            gateway: None,
            nameservers: Vec::new(),
            bridge: bridge.into(),
            vlan: None,
        };
        let range = |pool: &str, first: &str, last: &str, bridge: &str| Range {
            pool: pool.into(),
            domain: "default".into(),
            first: first.parse().unwrap(),
            last: last.parse().unwrap(),
            excluded: vec!["192.0.2.3".parse().unwrap()],
            network: network(bridge),
        };
        let four = vec![range("p", "192.0.2.1", "192.0.2.9", "a"), range("q", "198.51.100.1", "198.51.100.4", "b")];
        let six = vec![range("six", "2001:db8::fffe", "2001:db8::1:3", "a")];
        let sets = vec![
            LeaseSet { family: 4, count: self.rng.random_range(0..4), ranges: four },
            LeaseSet { family: 6, count: self.rng.random_range(0..2), ranges: six },
        ];
        Some(LeaseWish { service: pick(&mut self.rng, &self.services)?, sets })
    }

    fn record(&mut self, service: Uuid) -> RecordKey {
        RecordKey {
            zone: format!("z{}", self.rng.random_range(0..2)),
            name: format!("n{}.", self.rng.random_range(0..2)),
            rtype: "A".into(),
            value: "192.0.2.1".into(),
            service_id: service,
        }
    }
}

/// One step on both sides; returns what both said.
async fn step(script: &mut Script, books: &[Books; 2]) -> [String; 2] {
    let mut said = [String::new(), String::new()];
    let now = script.now;
    let kind = script.rng.random_range(0..20);
    let accept = (kind < 3).then(|| script.accept());
    let owner = pick(&mut script.rng, &script.owners.clone()).unwrap();
    let (n, ttl) = (script.rng.random_range(1..4), script.rng.random_range(5..60));
    let commit = script.commit();
    let claim = pick(&mut script.rng, &script.claims.clone());
    let operation = pick(&mut script.rng, &script.operations.clone());
    let service = pick(&mut script.rng, &script.services.clone()).unwrap_or_default();
    let lease = script.lease();
    let keys: Vec<_> = (0..script.rng.random_range(0..3)).map(|_| script.record(service)).collect();
    let dns = pick(&mut script.rng, &script.dns.clone());
    let outcome = match script.rng.random_range(0..4) {
        0 => RecordOutcome::Failed { reason: "no".into(), due_ms: now + 20 },
        1 => RecordOutcome::Postponed { due_ms: now + 20 },
        _ => RecordOutcome::Done,
    };
    let (first, taken) = (script.rng.random_range(100..104), [101, 103]);
    let mut new_claims = Vec::new();
    let mut new_dns = Vec::new();
    for (books, said) in books.iter().zip(&mut said) {
        *said = match kind {
            0..3 => show(books.accept(accept.as_ref().unwrap()()).await),
            3..6 => {
                let runs = books.claim(owner, ttl, n, now).await.unwrap();
                new_claims = runs.iter().map(|r| r.claim).collect();
                show(runs)
            }
            6..11 => match commit.clone() {
                Some(commit) => show(books.commit(commit).await),
                None => String::new(),
            },
            11 => match claim {
                Some(claim) => show((books.renew(&claim, ttl, now).await, books.reload(&claim).await)),
                None => String::new(),
            },
            12 => show((books.wake_topic("topic", now).await, books.wake(operation.unwrap_or_default(), now).await)),
            13 => match operation {
                Some(operation) => show(books.resume(operation, None, fixture::audit("resume"), now).await),
                None => String::new(),
            },
            14 => match lease.clone() {
                Some(wish) => show(books.lease(None, wish, now).await),
                None => String::new(),
            },
            15 => show((
                books.release_leases(None, service, BTreeMap::from([("p".into(), 30), ("q".into(), 0)]), now).await,
                books.reserve_vmid(None, "pve", service, first, &taken, now).await,
            )),
            16 => show(books.burn_vmid(None, "pve", service, first, now).await),
            17 => {
                let wanted = keys.iter().map(|k| (k.clone(), Some(60))).collect();
                let queues = BTreeMap::from([("z0".into(), "q".into()), ("z1".into(), "r".into())]);
                show(books.want_records(None, service, wanted, queues, now).await)
            }
            18 => {
                let claims = books.claim_dns(owner, ttl, n, now).await.unwrap();
                new_dns.clone_from(&claims);
                show(claims)
            }
            _ => match &dns {
                Some(claim) => {
                    let due = books.due_records(claim, n, now).await;
                    let keys: Vec<_> = due.iter().flatten().map(|r| r.key.clone()).collect();
                    let sent = books.mark_sent(claim, &keys, now).await;
                    let outcomes = keys.into_iter().map(|k| (k, outcome.clone())).collect();
                    show((due, sent, books.settle_records(claim, outcomes, now).await))
                }
                None => String::new(),
            },
        };
    }
    script.claims.extend(new_claims);
    script.dns.extend(new_dns);
    let surplus = script.claims.len().saturating_sub(8);
    script.claims.drain(..surplus);
    let surplus = script.dns.len().saturating_sub(4);
    script.dns.drain(..surplus);
    said
}

/// Everything that can be seen.
async fn all(books: &Books) -> String {
    let services = books.services(ServiceFilter { limit: 1_000, ..ServiceFilter::default() }).await.unwrap();
    let mut seen = show((books.queue_counts().await, books.slots().await, books.next_due().await));
    seen += &show((books.next_dns_due().await, books.vmids("pve").await, books.audit_log(100).await));
    seen += &show((books.issued_tasks("pve").await, books.phase_counts().await));
    for pool in ["p", "q", "six"] {
        seen += &show(books.leases_in(pool).await);
    }
    for zone in ["z0", "z1"] {
        seen += &show(books.records_in(zone).await);
    }
    for event in books.events_after(0, None, 10_000).await.unwrap() {
        // Ids of events are random on each side.
        seen += &show((event.seq, event.at_ms, event.event));
    }
    for service in services {
        let operations = books.operations(service.id, 100).await.unwrap();
        seen += &show(service);
        for operation in operations {
            seen += &show((books.log(operation.id, 0, 100).await, books.effects(operation.id).await));
            seen += &show(operation);
        }
    }
    seen
}

/// How many scripts an engine is put through: `WHARF_TEST_SEEDS`, else `default`.
pub fn seeds(default: u64) -> u64 {
    std::env::var("WHARF_TEST_SEEDS").ok().and_then(|s| s.parse().ok()).unwrap_or(default)
}

/// Plays the script of `seed` on two empty books. Panics, with seed and step, where they first differ.
pub async fn play(seed: u64, model: Books, other: Books) {
    let books = [model, other];
    let mut rng = StdRng::seed_from_u64(seed);
    let owners = [id(&mut rng), id(&mut rng)];
    let mut script = Script {
        rng,
        now: NOW,
        claims: Vec::new(),
        dns: Vec::new(),
        services: Vec::new(),
        operations: Vec::new(),
        owners,
    };
    for n in 0..STEPS {
        script.now += i64::from(script.rng.next_u32() % 12);
        let [model, other] = step(&mut script, &books).await;
        assert_eq!(model, other, "seed {seed}, step {n}");
        if n % 20 == 0 {
            assert_eq!(all(&books[0]).await, all(&books[1]).await, "seed {seed}, after step {n}");
        }
    }
    let counts = books[0].queue_counts().await.unwrap();
    assert!(counts.live > 0 && !books[0].events_after(0, None, 1).await.unwrap().is_empty(), "seed {seed} did nothing");
}
