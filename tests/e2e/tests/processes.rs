//! The real binary on SQLite, the simulated cluster and PowerDNS as processes: the host is killed, stopped and overtaken at
//! random moments, and the world is counted afterwards.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "test code")]

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};

use rand::{RngExt, SeedableRng, rngs::StdRng};
use serde_json::{Value, json};
use tokio::sync::watch;
use wharf_e2e::{
    client::Client,
    journey::{Built, House, Setup, ZONES, names_of},
    peer::Peer,
    whmcs::{Whmcs, params},
};
use wharf_store::{Addresses, Queue};
use wharf_store_sqlite::SqliteStore;

const PATIENCE: Duration = Duration::from_secs(300);
/// What a killed host held of a zone or a webhook is taken up again when its claim has run out, after at most 90 s.
const SIDE_SHOW_PATIENCE: Duration = Duration::from_secs(180);

/// Claims run out after 3 s, the least that the host takes, and a call is in doubt for 6 s and not for 62: so that many kills
/// meet work, and few meet waiting.
fn hasty() -> Setup {
    Setup {
        settings: "[engine]\nclaim_ttl_s = 3\n".into(),
        server: json!({"timeout_ms": 4_000, "heavy_timeout_ms": 4_000}),
        ..Setup::default()
    }
}

/// Random moments, told so that they can be had again: `WHARF_TEST_SEED=…`.
fn moments() -> StdRng {
    let given = std::env::var("WHARF_TEST_SEED").ok().and_then(|text| text.parse().ok());
    let seed = given.unwrap_or_else(rand::random::<u64>);
    println!("WHARF_TEST_SEED={seed}");
    StdRng::seed_from_u64(seed)
}

/// A panel: what it could not deliver it sends again under the same id, to wherever the host is now.
#[derive(Clone)]
struct Panel {
    whmcs: Whmcs,
    host: watch::Receiver<String>,
}

impl Panel {
    fn of(house: &House) -> (Self, watch::Sender<String>) {
        let (moved, host) = watch::channel(house.client.url.clone());
        (Self { whmcs: house.whmcs.clone(), host }, moved)
    }

    /// Returns how often it had to be sent.
    async fn say(&self, verb: &str, params: &Value) -> u32 {
        self.say_as(&format!("msg_{:032x}", rand::random::<u128>()), verb, params).await
    }

    async fn say_as(&self, id: &str, verb: &str, params: &Value) -> u32 {
        let begun = Instant::now();
        let mut sent = 0;
        while begun.elapsed() < PATIENCE {
            sent += 1;
            let whmcs = Whmcs { host: self.host.borrow().clone(), ..self.whmcs.clone() };
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
struct Story {
    service: u32,
    plan: &'static str,
    at_ms: u64,
    /// So long after the order, which may be in the middle of it.
    terminated_after_ms: Option<u64>,
}

impl Story {
    fn order(&self) -> Value {
        params(self.service, self.plan, "", json!({}))
    }

    async fn play(self, panel: Panel) -> u32 {
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
fn stories(from: u32, count: u32, span_ms: u64, moments: &mut StdRng) -> Vec<Story> {
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
async fn count(house: &House, stories: &[Story]) {
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
            let zone = ZONES.iter().find(|zone| record.0.ends_with(*zone)).unwrap();
            expected.entry((*zone).to_owned()).or_default().insert(record);
        }
    }
    let listed = house.client.get("/v1/services").await.unwrap();
    assert_eq!(listed.as_array().unwrap().len(), stories.len(), "{listed}");

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
    let books = SqliteStore::open(house.dir.join("data/wharf.db")).await.unwrap();
    assert_eq!(books.slots().await.unwrap(), BTreeMap::new(), "a slot is still held");
    let queue = books.queue_counts().await.unwrap();
    assert_eq!(queue.live, 0, "{queue:?}");
    assert_eq!(books.integrity_check().await.unwrap(), Vec::<String>::new());
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

#[tokio::test(flavor = "multi_thread")]
async fn twenty_kills_at_random_moments_lose_and_double_nothing() {
    let mut moments = moments();
    let dir = tempfile::tempdir().unwrap();
    let mut house = House::with(dir.path(), Built::in_target().unwrap(), hasty()).await.unwrap();
    let (panel, moved) = Panel::of(&house);
    let begun = Instant::now();
    let stories = stories(7001, 15, 45_000, &mut moments);
    let told: Vec<_> = stories.iter().map(|story| tokio::spawn(story.play(panel.clone()))).collect();
    for _ in 0..20 {
        // Half of them soon after the start, while claims of the last one still stand.
        let longest = if moments.random_bool(0.5) { 1_500 } else { 6_000 };
        tokio::time::sleep(Duration::from_millis(moments.random_range(50..longest))).await;
        house.wharf.take().unwrap().kill().await.unwrap();
        // As long as a supervisor waits.
        tokio::time::sleep(Duration::from_millis(moments.random_range(0..700))).await;
        house.restart().await.unwrap();
        moved.send_replace(house.client.url.clone());
    }
    let mut sent = 0;
    for story in told {
        sent += story.await.unwrap();
    }
    println!("{} orders, {sent} hooks sent in {:?}", stories.len(), begun.elapsed());
    count(&house, &stories).await;
    // What is asked for once more is there.
    for story in stories.iter().filter(|story| story.terminated_after_ms.is_none()) {
        panel.say("create", &story.order()).await;
    }
    count(&house, &stories).await;
    house.wharf.take().unwrap().stop(Duration::from_secs(20)).await.unwrap();
}

/// One process per SQLite file is by design: the data folder is locked, also by a host that hangs.
#[tokio::test(flavor = "multi_thread")]
async fn a_second_host_on_the_same_sqlite_books_is_refused_with_a_sentence() {
    let dir = tempfile::tempdir().unwrap();
    let house = House::build(dir.path(), Built::in_target().unwrap()).await.unwrap();
    let refused = async || format!("{:#}", house.another_host("second.log").await.unwrap_err());
    let sentence = format!("another wharf serves {} already: stop it", house.dir.join("data").display());
    let text = refused().await;
    assert!(text.contains(&sentence) && text.contains("--data-dir"), "{text}");
    let first = house.wharf.as_ref().unwrap();
    first.freeze().unwrap();
    let text = refused().await;
    first.thaw().unwrap();
    assert!(text.contains(&sentence), "{text}");
    house.client.get("/v1/services").await.unwrap();
}

/// On SQLite nobody can take over from a host that hangs (see above): it finds its own claims run out, and goes on.
#[tokio::test(flavor = "multi_thread")]
async fn a_host_stopped_past_its_lease_and_continued_goes_on_and_doubles_nothing() {
    let mut moments = moments();
    let dir = tempfile::tempdir().unwrap();
    let house = House::with(dir.path(), Built::in_target().unwrap(), hasty()).await.unwrap();
    let (panel, _moved) = Panel::of(&house);
    let stories = stories(7101, 6, 15_000, &mut moments);
    let told: Vec<_> = stories.iter().map(|story| tokio::spawn(story.play(panel.clone()))).collect();
    for _ in 0..4 {
        tokio::time::sleep(Duration::from_millis(moments.random_range(100..2_500))).await;
        let host = house.wharf.as_ref().unwrap();
        host.freeze().unwrap();
        // Longer than a claim holds and than a call is waited for.
        tokio::time::sleep(Duration::from_millis(moments.random_range(4_000..8_000))).await;
        host.thaw().unwrap();
    }
    for story in told {
        story.await.unwrap();
    }
    count(&house, &stories).await;
}

/// Freezes the first host, takes the lock away and starts a second one.
///
/// Frozen in the middle of a write, the first one holds the file itself: then nobody writes, which is safe, too, and no
/// overtaking. That is tried again at another moment.
async fn overtake(house: &House, first: &Peer, moments: &mut StdRng) -> Peer {
    for _ in 0..20 {
        first.freeze().unwrap();
        std::fs::remove_file(house.dir.join("data/lock")).unwrap();
        match house.another_host("second.log").await {
            Ok(second) => {
                let writer = Client { url: second.url.clone(), ..house.client.clone() };
                let image = json!({"templates": [{"server": "pve", "vmid": 9001}]});
                match writer.put("/v1/admin/images/written-by-the-second-host", &image).await {
                    Ok(_) => return second,
                    Err(error) => assert!(format!("{error:#}").contains("503"), "{error:#}"),
                }
                second.kill().await.unwrap();
            }
            Err(error) => assert!(format!("{error:#}").contains("locked"), "{error:#}"),
        }
        first.thaw().unwrap();
        tokio::time::sleep(Duration::from_millis(moments.random_range(20..300))).await;
    }
    panic!("the first host was frozen twenty times in the middle of a write");
}

/// What happens on shared books, and here to an admin who takes the lock away from a host that hangs: another host takes its
/// work over, and what the first one still says when it wakes up is refused by the fence.
#[tokio::test(flavor = "multi_thread")]
async fn a_host_stopped_past_its_lease_and_overtaken_changes_nothing_when_it_goes_on() {
    let mut moments = moments();
    let dir = tempfile::tempdir().unwrap();
    let mut house = House::with(dir.path(), Built::in_target().unwrap(), hasty()).await.unwrap();
    let (panel, moved) = Panel::of(&house);
    let mut stories = stories(7201, 4, 2_000, &mut moments);
    for story in &mut stories {
        story.terminated_after_ms = None;
    }
    let told: Vec<_> = stories.iter().map(|story| tokio::spawn(story.play(panel.clone()))).collect();
    tokio::time::sleep(Duration::from_millis(moments.random_range(800..4_000))).await;
    let first = house.wharf.take().unwrap();
    let second = overtake(&house, &first, &mut moments).await;
    house.client.url.clone_from(&second.url);
    house.whmcs.host.clone_from(&second.url);
    moved.send_replace(second.url.clone());
    house.wharf = Some(second);
    for story in told {
        story.await.unwrap();
    }
    for story in &stories {
        house.until(&story.service.to_string(), "active", PATIENCE).await.unwrap();
    }
    let vms = house.cluster().await.unwrap()["vms"].clone();
    first.thaw().unwrap();
    // Longer than anything that it may have had in hand.
    tokio::time::sleep(Duration::from_secs(10)).await;
    assert_eq!(house.cluster().await.unwrap()["vms"], vms);
    count(&house, &stories).await;
    first.kill().await.unwrap();
    count(&house, &stories).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_signature_is_refused_before_the_body_is_parsed_and_a_repeated_id_gives_the_same_operation() {
    let dir = tempfile::tempdir().unwrap();
    let house = House::build(dir.path(), Built::in_target().unwrap()).await.unwrap();
    let order = params(8001, "linked", "", json!({}));
    let stranger = wharf_e2e::whmcs::Whmcs {
        secret: "whsec_c3RyYW5nZXItd2l0aC1hbm90aGVyLWtleS1hbHRvZ2V0aGVy".into(),
        ..house.whmcs.clone()
    };
    assert_eq!(stranger.post("create", &order).await.unwrap().0, 401);
    let nobody = wharf_e2e::whmcs::Whmcs { panel: "nobody".into(), ..house.whmcs.clone() };
    assert_eq!(nobody.post("create", &order).await.unwrap().0, 401);
    assert_eq!(house.whmcs.post_as("msg_1", "create", &order).await.unwrap().0, 200);
    assert_eq!(house.whmcs.post_as("msg_1", "create", &order).await.unwrap().0, 200);
    let other = params(8002, "linked", "", json!({}));
    let (status, body) = house.whmcs.post_as("msg_1", "create", &other).await.unwrap();
    assert_eq!(status, 409, "{body}");
    let (status, body) = house.whmcs.post("create", &params(8003, "secret-plan", "", json!({}))).await.unwrap();
    assert!(status == 422 && !body.contains("success"), "{status} {body}");
    let (status, body) =
        house.whmcs.post("create", &params(8004, "linked", "", json!({"CPU Coers": "2"}))).await.unwrap();
    assert!(status == 422 && !body.contains("success"), "{status} {body}");
    assert!(house.client.get("/v1/services/shop:8004").await.is_err(), "nothing is half done");
    house.until("8001", "active", PATIENCE).await.unwrap();
}
