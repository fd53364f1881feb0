//! Orders of a panel that sends again what it could not deliver, and the count of what has become of them.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::{Duration, Instant},
};

use rand::{RngExt, SeedableRng, rngs::StdRng};
use serde_json::{Value, json};
use tokio::sync::watch;
use wharf_e2e::{
    cluster::{Cluster, any},
    journey::{House, Setup, ZONES, names_of},
    whmcs::{Whmcs, params},
};
use wharf_store::Books;
use wharf_store_postgres::PostgresStore;
use wharf_store_sqlite::SqliteStore;

pub const PATIENCE: Duration = Duration::from_secs(300);
/// What a killed host held of a zone or a webhook is taken up again when its claim has run out, after at most 90 s.
const SIDE_SHOW_PATIENCE: Duration = Duration::from_secs(180);

/// Claims run out after 3 s, the least that the host takes, and a call is in doubt for 6 s and not for 62: so that many kills
/// meet work, and few meet waiting.
pub fn hasty() -> Setup {
    Setup {
        settings: "[engine]\nclaim_ttl_s = 3\n".into(),
        server: json!({"timeout_ms": 4_000, "heavy_timeout_ms": 4_000}),
        ..Setup::default()
    }
}

/// Random moments, told so that they can be had again: `WHARF_TEST_SEED=…`.
pub fn moments() -> StdRng {
    let given = std::env::var("WHARF_TEST_SEED").ok().and_then(|text| text.parse().ok());
    let seed = given.unwrap_or_else(rand::random::<u64>);
    println!("WHARF_TEST_SEED={seed}");
    StdRng::seed_from_u64(seed)
}

/// A panel: what it could not deliver it sends again under the same id, to wherever the host is now.
#[derive(Clone)]
pub struct Panel {
    whmcs: Whmcs,
    hosts: watch::Receiver<Vec<String>>,
}

impl Panel {
    pub fn of(house: &House) -> (Self, watch::Sender<Vec<String>>) {
        let (moved, hosts) = watch::channel(vec![house.client.url.clone()]);
        (Self { whmcs: house.whmcs.clone(), hosts }, moved)
    }

    /// One that goes to any host that runs.
    pub fn of_all(cluster: &Cluster) -> Self {
        Self { whmcs: cluster.house.whmcs.clone(), hosts: cluster.living() }
    }

    /// Returns how often it had to be sent.
    pub async fn say(&self, verb: &str, params: &Value) -> u32 {
        self.say_as(&format!("msg_{:032x}", rand::random::<u128>()), verb, params).await
    }

    pub async fn say_as(&self, id: &str, verb: &str, params: &Value) -> u32 {
        let begun = Instant::now();
        let mut sent = 0;
        while begun.elapsed() < PATIENCE {
            sent += 1;
            let whmcs = Whmcs { host: any(&self.hosts), ..self.whmcs.clone() };
            // Refused, reset, or without an answer: it is not known whether it was taken on.
            match whmcs.post_as(id, verb, params).await {
                // The host says itself that it can't write right now, and that one should try again.
                Ok((503, _)) | Err(_) => {}
                Ok((status, body)) => {
                    assert_eq!((status, body.trim()), (200, "success"), "{verb} {params}");
                    return sent;
                }
            }
            tokio::time::sleep(Duration::from_millis(150)).await;
        }
        panic!("{verb} {params} could not be delivered in {PATIENCE:?}");
    }
}

/// An order and what becomes of it.
#[derive(Debug, Clone, Copy)]
pub struct Story {
    pub service: u32,
    pub plan: &'static str,
    pub at_ms: u64,
    /// So long after the order, which may be in the middle of it.
    pub terminated_after_ms: Option<u64>,
}

impl Story {
    pub fn order(&self) -> Value {
        params(self.service, self.plan, "", json!({}))
    }

    pub async fn play(self, panel: Panel) -> u32 {
        tokio::time::sleep(Duration::from_millis(self.at_ms)).await;
        let id = format!("msg_{}", self.service);
        let mut sent = panel.say_as(&id, "create", &self.order()).await;
        if self.service.is_multiple_of(2) {
            // Its answer got lost on the way.
            sent += panel.say_as(&id, "create", &self.order()).await;
        }
        if let Some(after) = self.terminated_after_ms {
            tokio::time::sleep(Duration::from_millis(after)).await;
            sent += panel.say("terminate", &self.order()).await;
        }
        sent
    }
}

/// Orders within `span`; every third is terminated again.
pub fn stories(from: u32, count: u32, span_ms: u64, moments: &mut StdRng) -> Vec<Story> {
    (0..count)
        .map(|n| Story {
            service: from + n,
            plan: ["linked", "migrated", "dual-stack"][moments.random_range(0..3)],
            at_ms: moments.random_range(0..=span_ms),
            terminated_after_ms: (n % 3 == 2).then(|| moments.random_range(0..12_000)),
        })
        .collect()
}

/// Waits until all stories have ended, then counts: nothing is lost, and nothing is there twice.
pub async fn count(house: &House, stories: &[Story]) {
    let mut expected: BTreeMap<String, BTreeSet<(String, String, String)>> = BTreeMap::new();
    let (mut vmids, mut addresses) = (BTreeMap::new(), BTreeSet::new());
    for story in stories {
        let reference = story.service.to_string();
        let phase = if story.terminated_after_ms.is_some() { "terminated" } else { "active" };
        let service = house.until(&reference, phase, PATIENCE).await.unwrap();
        assert_eq!(service["operation"]["status"], "succeeded", "{service}");
        let own: Vec<&str> = service["addresses"].as_array().unwrap().iter().filter_map(Value::as_str).collect();
        if phase == "terminated" {
            assert!(own.is_empty(), "{service}");
            continue;
        }
        assert_eq!(own.len(), if story.plan == "dual-stack" { 2 } else { 1 }, "{service}");
        for address in own {
            assert!(addresses.insert(address.to_owned()), "{address} is leased twice");
        }
        let vmid = service["vmid"].as_u64().unwrap();
        assert!(vmids.insert(vmid, service.clone()).is_none(), "two services have the VM {vmid}");
        for record in names_of(&service, &format!("42-{reference}.example.com.")).unwrap() {
            // Addresses of other networks than those of the zones have no names.
            if let Some(zone) = ZONES.iter().find(|zone| record.0.ends_with(*zone)) {
                expected.entry((*zone).to_owned()).or_default().insert(record);
            }
        }
    }
    let (mut listed, mut path) = (0, "/v1/services".to_owned());
    loop {
        let page = house.client.get(&path).await.unwrap();
        let Some(last) = page.as_array().unwrap().last() else { break };
        listed += page.as_array().unwrap().len();
        path = format!("/v1/services?after={}", last["id"].as_str().unwrap());
    }
    assert_eq!(listed, stories.len());

    // One VM for each active service, and no other: neither whole nor in parts.
    let cluster = house.cluster().await.unwrap();
    assert_eq!(cluster["violations"], json!([]));
    let vms: BTreeMap<u64, &Value> = cluster["vms"]
        .as_object()
        .unwrap()
        .iter()
        .filter(|(_, vm)| vm["template"] == false)
        .map(|(id, vm)| (id.parse().unwrap(), vm))
        .collect();
    assert_eq!(vms.keys().collect::<Vec<_>>(), vmids.keys().collect::<Vec<_>>(), "VMs and services differ");
    assert_eq!(house.guests().await.unwrap().len(), vms.len(), "a VM has no marker");
    for (vmid, service) in &vmids {
        let vm = vms[vmid];
        assert_eq!(vm["running"], true, "{vm}");
        let marker = format!("wharf:{}", service["id"].as_str().unwrap());
        assert!(vm["config"]["description"].as_str().unwrap().lines().any(|line| line.trim() == marker), "{vm}");
        assert!(vm["config"]["lock"].is_null(), "{vm}");
        let network = vm["config"]["ipconfig0"].as_str().unwrap();
        for address in service["addresses"].as_array().unwrap().iter().filter_map(Value::as_str) {
            assert!(network.split([',', '=', '/']).any(|part| part == address), "{address}: {network}");
        }
    }
    for volume in cluster["volumes"].as_array().unwrap() {
        let template = |id: u64| cluster["vms"][id.to_string()]["template"] == true;
        let owned = volume["vmid"].as_u64().is_none_or(|id| vmids.contains_key(&id) || template(id));
        assert!(owned, "left over: {volume}");
    }

    // One set of records. Those of other hands (none here but SOA and NS) are not among these types.
    let begun = Instant::now();
    for zone in ZONES {
        let wanted = expected.remove(zone).unwrap_or_default();
        loop {
            let records = house.dns.records(zone).await.unwrap();
            if records == wanted {
                break;
            }
            assert!(begun.elapsed() < SIDE_SHOW_PATIENCE, "{zone} has {records:?}, and should have {wanted:?}");
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
    }

    // What was announced in the feed has arrived at the receiver, each at least once.
    loop {
        let told: BTreeSet<String> =
            house.receiver.seen().events.iter().filter_map(|event| Some(event["id"].as_str()?.to_owned())).collect();
        let mut missing = 0;
        let mut after = 0;
        loop {
            let page = house.client.get(&format!("/v1/events?after={after}&limit=200")).await.unwrap();
            let events = page["events"].as_array().unwrap();
            missing += events.iter().filter(|e| !told.contains(e["id"].as_str().unwrap())).count();
            after = page["next"].as_i64().unwrap();
            if events.is_empty() {
                break;
            }
        }
        assert!(after > 0, "the feed is empty");
        if missing == 0 {
            break;
        }
        assert!(begun.elapsed() < SIDE_SHOW_PATIENCE, "{missing} events did not arrive");
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    assert_eq!(house.receiver.seen().refused, 0);

    // And the books say the same.
    let (books, wrong) = open_books(house).await;
    assert_eq!(books.slots().await.unwrap(), BTreeMap::new(), "a slot is still held");
    let queue = books.queue_counts().await.unwrap();
    assert_eq!(queue.live, 0, "{queue:?}");
    assert_eq!(wrong, Vec::<String>::new());
    let mut leased = BTreeSet::new();
    for pool in ["office-v4", "office-v6"] {
        for lease in books.leases_in(pool).await.unwrap().into_iter().filter(|lease| lease.service_id.is_some()) {
            assert!(leased.insert(lease.address.to_string()), "{lease:?}");
        }
    }
    assert_eq!(leased, addresses);
    // A number stays that of its service for ever, and each has had one.
    let numbers = books.vmids("pve").await.unwrap();
    let services: BTreeSet<_> = numbers.iter().filter(|(_, _, live)| *live).map(|(_, service, _)| *service).collect();
    assert_eq!(services.len(), numbers.iter().filter(|(_, _, live)| *live).count(), "{numbers:?}");
    for (vmid, service) in &vmids {
        let own =
            numbers.iter().find(|(id, _, live)| u64::from(*id) == *vmid && *live).map(|(_, id, _)| id.to_string());
        assert_eq!(own.as_deref(), service["id"].as_str());
    }
}

/// The books beside the hosts, and what is wrong with them.
async fn open_books(house: &House) -> (Books, Vec<String>) {
    if let Some(url) = &house.setup.database {
        let store = PostgresStore::open(url, 4).await.unwrap();
        let wrong = store.integrity_check().await.unwrap();
        return (Arc::new(store), wrong);
    }
    let store = SqliteStore::open(house.dir.join("data/wharf.db")).await.unwrap();
    let wrong = store.integrity_check().await.unwrap();
    (Arc::new(store), wrong)
}
