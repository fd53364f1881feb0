//! Three hosts of the real binary on one real PostgreSQL, with the simulated cluster and PowerDNS as processes: hosts are
//! killed, frozen, upgraded and told things through one another, and the world is counted afterwards.
//!
//! `WHARF_TEST_LONG=1`: 1,000 orders and 200 kills; fewer otherwise.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use crate::orders::{PATIENCE, Panel, Story, count, hasty, moments, stories};
use postgres_peer::{How, Server};
use rand::{RngExt, rngs::StdRng};
use serde_json::{Value, json};
use tokio::{sync::watch, time::sleep};
use wharf_e2e::{
    client::{Client, http},
    cluster::{Cluster, any},
    component::reissued,
    journey::{Built, Setup, write_key},
    powerdns::Dns,
    whmcs::Whmcs,
};

/// Claims hold as long as [`hasty`] says.
const LEASE: Duration = Duration::from_secs(3);
const TOKEN: &str = "wharf@pve!wharf";

fn long() -> bool {
    std::env::var_os("WHARF_TEST_LONG").is_some()
}

/// A cluster with room for thousands of VMs, which copies them quickly, so many at once to a storage.
fn roomy(clones: u32) -> Setup {
    let node =
        |name: &str| json!({"name": name, "online": true, "cpus": 512, "memory_mib": 4_000_000, "used_mib": 4_096});
    let storage = |name: &str, kind: &str, shared: bool, content: Value| json!({"name": name, "kind": kind, "shared": shared, "nodes": [], "content": content, "total_mib": 100_000_000, "used_mib": 0});
    let mut setup = hasty();
    setup.cluster = json!({
        "nodes": [node("pve1"), node("pve2"), node("pve3")],
        "storages": [
            storage("local", "dir", false, json!(["iso", "backup", "vztmpl"])),
            storage("local-lvm", "lvmthin", false, json!(["images", "rootdir"])),
            storage("nfs", "nfs", true, json!(["images", "backup", "iso"])),
        ],
        "timing": {
            "clone_linked": 250, "clone_stub": 50, "configure": 20, "resize": 20, "start": 100, "stop": 50, "shutdown": 100,
            "destroy": 50, "read": 1, "write": 5,
        },
    });
    setup.server["clones_per_storage"] = json!(clones);
    setup.v4 = ("10.20.0.10", "10.20.7.250", 16, "10.20.0.1");
    setup.dns = Dns::Ours;
    setup
}

fn now_ms() -> i64 {
    i64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis()).unwrap()
}

/// Notes in the database itself who takes a claim over from whom, and when; and which host was killed when.
struct TakeOvers {
    kills: Vec<(String, i64)>,
    /// Claims that were left behind.
    left: usize,
    /// When the database was stopped and answered again.
    down: Vec<(i64, i64)>,
}

impl TakeOvers {
    fn watch(postgres: &Server) -> Self {
        postgres.sql(
            "books",
            "CREATE TABLE taken (operation TEXT, loser TEXT, winner TEXT, at_ms BIGINT);
             CREATE FUNCTION note_taken() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
                INSERT INTO taken VALUES (OLD.operation_id, OLD.owner, NEW.owner, EXTRACT(EPOCH FROM clock_timestamp()) * 1000);
                RETURN NEW; END $$;
             CREATE TRIGGER note_taken AFTER UPDATE ON queue FOR EACH ROW
                WHEN (OLD.owner IS NOT NULL AND NEW.owner IS NOT NULL AND NEW.owner <> OLD.owner) EXECUTE FUNCTION note_taken()",
        );
        Self { kills: Vec::new(), left: 0, down: Vec::new() }
    }

    /// Kills a host and notes what it leaves behind.
    async fn kill(&mut self, cluster: &mut Cluster, n: usize) {
        let address = cluster.host(n).unwrap().url.replace("http://", "");
        let at = now_ms();
        cluster.kill(n).await.unwrap();
        let find = format!("SELECT id FROM host WHERE address = '{address}' ORDER BY started_ms DESC LIMIT 1");
        let id = cluster.postgres.sql("books", &find);
        // One that was killed before it said that it lives has claimed nothing that could be measured.
        if !id.is_empty() {
            let left = cluster.postgres.sql("books", &format!("SELECT count(*) FROM queue WHERE owner = '{id}'"));
            self.left += left.parse::<usize>().unwrap();
            self.kills.push((id, at));
        }
    }

    /// From the kill to the claim of another, for each claim that a killed host left behind.
    fn measured(&self, postgres: &Server) -> Vec<Duration> {
        let rows = postgres.sql("books", "SELECT loser, at_ms FROM taken");
        let mut all: Vec<Duration> = rows
            .lines()
            .filter_map(|row| {
                let (loser, at) = row.split_once('|')?;
                let (_, killed) = self.kills.iter().find(|(id, _)| id == loser)?;
                // A claim that had run out before, and was taken from a host that still lived, is none of these.
                Some(Duration::from_millis(u64::try_from(at.parse::<i64>().ok()? - killed).ok()?))
            })
            .collect();
        all.sort();
        all
    }

    /// Prints them. What is asserted is that work went on, not how quick this machine was.
    fn tell(&self, postgres: &Server) {
        let all = self.measured(postgres);
        let part = |percent: usize| all.get((all.len() * percent / 100).min(all.len().saturating_sub(1))).copied();
        println!(
            "{} kills left {} claims behind; {} were taken over: p50 {:?}, p99 {:?}, longest {:?} (lease {LEASE:?})",
            self.kills.len(),
            self.left,
            all.len(),
            part(50).unwrap_or_default(),
            part(99).unwrap_or_default(),
            all.last().copied().unwrap_or_default(),
        );
        for (id, killed) in &self.kills {
            let late = format!(
                "SELECT count(*) || ' claims, up to ' || max(at_ms) - {killed} || ' ms' FROM taken
                 WHERE loser = '{id}' AND at_ms - {killed} > {} HAVING count(*) > 0",
                LEASE.as_millis() + 2_000
            );
            let late = postgres.sql("books", &late);
            if !late.is_empty() {
                let down: Vec<String> =
                    self.down.iter().map(|(from, to)| format!("{}..{}", from - killed, to - killed)).collect();
                println!("taken over late: {late}; the database was away from the kill on at {down:?} ms");
            }
        }
        assert!(!all.is_empty(), "no kill met work");
        assert!(all.iter().all(|took| *took < LEASE + Duration::from_secs(60)), "{all:?}");
    }
}

/// Reads the feed through whatever host answers, until it is told to stop and there is no more.
async fn follow(token: String, living: watch::Receiver<Vec<String>>, over: Arc<AtomicBool>) -> Vec<Value> {
    let (mut seen, mut after, mut missed) = (Vec::new(), 0, 0);
    loop {
        let last = over.load(Ordering::Relaxed);
        let client = Client { url: any(&living), token: token.clone() };
        match client.get(&format!("/v1/events?after={after}&limit=50")).await {
            Ok(page) => {
                let events = page["events"].as_array().unwrap().clone();
                if events.is_empty() && last {
                    println!("the feed: {} events; {missed} questions without an answer", seen.len());
                    return seen;
                }
                after = page["next"].as_i64().unwrap();
                seen.extend(events);
            }
            Err(_) => missed += 1,
        }
        sleep(Duration::from_millis(50)).await;
    }
}

/// No gap, no repetition, and of each service in the order in which it happened.
fn check_feed(feed: &[Value], services: usize) {
    let numbers: Vec<i64> = feed.iter().map(|e| e["seq"].as_i64().unwrap()).collect();
    let whole: Vec<i64> = (1..=i64::try_from(feed.len()).unwrap()).collect();
    assert_eq!(numbers, whole, "the feed has a gap or a repetition");
    let ids: BTreeSet<&str> = feed.iter().map(|e| e["id"].as_str().unwrap()).collect();
    assert_eq!(ids.len(), feed.len(), "an event has two numbers");
    let mut of: BTreeMap<&str, Vec<&Value>> = BTreeMap::new();
    for event in feed.iter().filter(|e| e["service_id"].is_string()) {
        of.entry(event["subject"].as_str().unwrap()).or_default().push(event);
    }
    assert_eq!(of.len(), services);
    for (subject, events) in of {
        let kinds: Vec<&str> = events.iter().map(|e| e["kind"].as_str().unwrap()).collect();
        assert_eq!(kinds.first(), Some(&"operation.accepted"), "{subject}: {kinds:?}");
        assert_eq!(kinds.last(), Some(&"operation.finished"), "{subject}: {kinds:?}");
        let generations: Vec<u64> = events.iter().map(|e| e["generation"].as_u64().unwrap()).collect();
        assert!(generations.is_sorted(), "{subject}: {events:?}");
        let accepted = kinds.iter().filter(|k| **k == "operation.accepted").count();
        let finished = kinds.iter().filter(|k| **k == "operation.finished").count();
        assert_eq!(accepted, finished, "{subject}: {kinds:?}");
    }
}

async fn all_told(told: Vec<tokio::task::JoinHandle<u32>>) -> u32 {
    let mut sent = 0;
    for story in told {
        sent += story.await.unwrap();
    }
    sent
}

#[tokio::test(flavor = "multi_thread")]
async fn orders_pass_through_killed_hosts_and_a_restarted_database_without_loss_or_double() {
    let mut moments = moments();
    let (orders, every) = if long() { (1_000, Duration::from_secs(10)) } else { (60, Duration::from_secs(8)) };
    let dir = tempfile::tempdir().unwrap();
    let mut cluster = Cluster::build(dir.path(), Built::in_target().unwrap(), roomy(4), 3).await.unwrap();
    let mut take_overs = TakeOvers::watch(&cluster.postgres);
    let over = Arc::new(AtomicBool::new(false));
    let reader = tokio::spawn(follow(cluster.house.client.token.clone(), cluster.living(), Arc::clone(&over)));
    let panel = Panel::of_all(&cluster);
    let begun = Instant::now();
    let stories: Vec<Story> = (0..orders)
        .map(|n| Story {
            service: 20_001 + n,
            plan: "linked",
            at_ms: moments.random_range(0..u64::from(orders) * 60),
            terminated_after_ms: None,
        })
        .collect();
    let told: Vec<_> = stories.iter().map(|story| tokio::spawn(story.play(panel.clone()))).collect();
    let mut restarts = vec![(orders * 2 / 3, How::Fast), (orders / 3, How::Crash)];
    let (mut next, mut last_said) = (Instant::now() + every, 0);
    loop {
        sleep(Duration::from_millis(500)).await;
        let active = cluster.postgres.sql("books", "SELECT count(*) FROM service WHERE phase = 'active'");
        let active: u32 = active.parse().unwrap();
        if active / 100 != last_said {
            last_said = active / 100;
            println!("{active} of {orders} after {:?}", begun.elapsed());
        }
        if restarts.last().is_some_and(|(when, _)| active >= *when) {
            let (_, how) = restarts.pop().unwrap();
            let stopped = now_ms();
            cluster.postgres.stop(how);
            sleep(Duration::from_millis(moments.random_range(200..2_000))).await;
            cluster.postgres.run();
            take_overs.down.push((stopped, now_ms()));
            println!("the database was restarted ({how:?}) with {active} active");
        }
        if active == orders && restarts.is_empty() {
            break;
        }
        if Instant::now() > next {
            next += every;
            let n = take_overs.kills.len() % 3;
            take_overs.kill(&mut cluster, n).await;
            sleep(Duration::from_millis(moments.random_range(0..1_000))).await;
            cluster.start(n).await.unwrap();
        }
        assert!(begun.elapsed() < Duration::from_secs(1_200), "{active} of {orders} are active");
    }
    let sent = all_told(told).await;
    println!("{orders} orders, {sent} hooks sent, active in {:?}", begun.elapsed());
    cluster.ask(0).unwrap();
    count(&cluster.house, &stories).await;
    take_overs.tell(&cluster.postgres);
    let most = cluster.house.cluster().await.unwrap()["most_clones"].clone();
    println!("most clones at once: {most}");
    let most: Vec<u64> = most.as_object().unwrap().values().filter_map(Value::as_u64).collect();
    assert!(most.iter().all(|n| *n <= 4) && most.iter().any(|n| *n > 1), "{most:?}");
    over.store(true, Ordering::Relaxed);
    check_feed(&reader.await.unwrap(), stories.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn kills_at_random_moments_over_three_hosts_lose_and_double_nothing() {
    let mut moments = moments();
    let (kills, orders) = if long() { (200, 150) } else { (20, 18) };
    let dir = tempfile::tempdir().unwrap();
    let setup = Setup { v4: roomy(1).v4, cluster: roomy(1).cluster, ..hasty() };
    let mut cluster = Cluster::build(dir.path(), Built::in_target().unwrap(), setup, 3).await.unwrap();
    let mut take_overs = TakeOvers::watch(&cluster.postgres);
    let panel = Panel::of_all(&cluster);
    let begun = Instant::now();
    let stories = stories(30_001, orders, kills * 1_200, &mut moments);
    let told: Vec<_> = stories.iter().map(|story| tokio::spawn(story.play(panel.clone()))).collect();
    let mut killed = 0;
    // On a slow machine hosts may die before they have claimed anything: then some more, until one had work in hand.
    while killed < kills || (take_overs.left == 0 && killed < kills * 4) {
        killed += 1;
        sleep(Duration::from_millis(moments.random_range(50..1_500))).await;
        let n = moments.random_range(0..cluster.count());
        take_overs.kill(&mut cluster, n).await;
        sleep(Duration::from_millis(moments.random_range(0..500))).await;
        cluster.start(n).await.unwrap();
    }
    println!("{killed} kills in {:?}", begun.elapsed());
    let sent = all_told(told).await;
    cluster.ask(0).unwrap();
    count(&cluster.house, &stories).await;
    println!("{} orders, {sent} hooks sent, all over after {:?}", stories.len(), begun.elapsed());
    take_overs.tell(&cluster.postgres);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_stopped_past_its_lease_doubles_nothing_when_it_goes_on_among_others() {
    let mut moments: StdRng = moments();
    let dir = tempfile::tempdir().unwrap();
    let mut cluster = Cluster::build(dir.path(), Built::in_target().unwrap(), hasty(), 3).await.unwrap();
    let panel = Panel::of_all(&cluster);
    let stories = stories(40_001, 12, 12_000, &mut moments);
    let told: Vec<_> = stories.iter().map(|story| tokio::spawn(story.play(panel.clone()))).collect();
    for n in 0..3 {
        sleep(Duration::from_millis(moments.random_range(100..2_000))).await;
        let host = cluster.host(n).unwrap();
        host.freeze().unwrap();
        sleep(Duration::from_millis(moments.random_range(4_000..7_000))).await;
        host.thaw().unwrap();
    }
    all_told(told).await;
    cluster.ask(0).unwrap();
    count(&cluster.house, &stories).await;
}

async fn plugin(client: &Client, id: &str) -> Value {
    let all = client.get("/v1/admin/plugins").await.unwrap();
    all.as_array().unwrap().iter().find(|p| p["id"] == id).cloned().unwrap()
}

fn client(cluster: &Cluster, n: usize) -> Client {
    Client { url: cluster.host(n).unwrap().url.clone(), ..cluster.house.client.clone() }
}

/// Waits until every host says that this version runs; returns how long that took.
async fn everywhere(cluster: &Cluster, id: &str, version: &str) -> Duration {
    let begun = Instant::now();
    for n in 0..cluster.count() {
        while plugin(&client(cluster, n), id).await["current"] != version {
            assert!(begun.elapsed() < Duration::from_secs(60), "host {n} still runs another version");
            sleep(Duration::from_millis(20)).await;
        }
    }
    begun.elapsed()
}

/// Versions that the steps of a service's last operation ran on.
async fn versions(client: &Client, reference: u32) -> BTreeSet<String> {
    let service = client.get(&format!("/v1/services/shop:{reference}")).await.unwrap();
    let log = client.log(service["operation"]["id"].as_str().unwrap()).await.unwrap();
    log.iter().filter_map(|entry| Some(entry["version"].as_str()?.to_owned())).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_installed_rolled_back_or_revoked_through_one_host_is_in_force_on_all() {
    let mut moments = moments();
    let id = "proxmox-kvm";
    let dir = tempfile::tempdir().unwrap();
    let mut cluster = Cluster::build(dir.path(), Built::in_target().unwrap(), roomy(4), 3).await.unwrap();
    let (a, b) = (client(&cluster, 0), client(&cluster, 1));
    let old = plugin(&a, id).await["current"].as_str().unwrap().to_owned();
    let new = "99.1.0";
    let mut stories = stories(50_001, 24, 12_000, &mut moments);
    for story in &mut stories {
        story.plan = "linked";
        story.terminated_after_ms = None;
    }
    let panel = Panel::of_all(&cluster);
    let told: Vec<_> = stories.iter().map(|story| tokio::spawn(story.play(panel.clone()))).collect();
    sleep(Duration::from_secs(3)).await;
    let raised = reissued(&cluster.house.component(id).unwrap(), |manifest| manifest["version"] = json!(new));
    a.upload("/v1/admin/plugins", raised).await.unwrap();
    println!("installed: on all hosts after {:?}", everywhere(&cluster, id, new).await);
    // From now on steps run on it, whoever takes them.
    let mut late = Vec::new();
    for n in 0..3_u32 {
        let story = Story { service: 50_101 + n, plan: "linked", at_ms: 0, terminated_after_ms: None };
        let whmcs = Whmcs { host: client(&cluster, n as usize).url, ..cluster.house.whmcs.clone() };
        assert_eq!(whmcs.post("create", &story.order()).await.unwrap().0, 200);
        late.push(story);
    }
    for story in &late {
        cluster.house.until(&story.service.to_string(), "active", PATIENCE).await.unwrap();
        assert_eq!(versions(&b, story.service).await, BTreeSet::from([new.to_owned()]));
    }
    b.post(&format!("/v1/admin/plugins/{id}/rollback"), &json!({})).await.unwrap();
    println!("rolled back: on all hosts after {:?}", everywhere(&cluster, id, &old).await);
    all_told(told).await;
    stories.extend(late);
    let after = Story { service: 50_201, plan: "linked", at_ms: 0, terminated_after_ms: None };
    panel.say("create", &after.order()).await;
    cluster.house.until("50201", "active", PATIENCE).await.unwrap();
    assert_eq!(versions(&b, after.service).await, BTreeSet::from([old]));
    stories.push(after);
    count(&cluster.house, &stories).await;

    // A grant that is taken away through A binds B: which is alone when it is tried.
    let kept = a.get(&format!("/v1/admin/grants/{id}")).await.unwrap()["body"].clone();
    let mut less = kept.clone();
    println!("{kept}");
    less["interfaces"] = json!([]);
    a.put(&format!("/v1/admin/grants/{id}"), &less).await.unwrap();
    cluster.kill(0).await.unwrap();
    cluster.kill(2).await.unwrap();
    cluster.ask(1).unwrap();
    let refused = Story { service: 50_301, plan: "linked", at_ms: 0, terminated_after_ms: None };
    let panel = Panel::of_all(&cluster);
    panel.say("create", &refused.order()).await;
    let begun = Instant::now();
    let reason = loop {
        let service = b.get("/v1/services/shop:50301").await.unwrap();
        if let Some(code) = service["operation"]["reason"]["code"].as_str() {
            assert_ne!(service["phase"], "active", "{service}");
            break code.to_owned();
        }
        assert!(begun.elapsed() < PATIENCE && service["phase"] != "active", "{service}");
        sleep(Duration::from_millis(100)).await;
    };
    println!("without its grant: {reason}");
    b.put(&format!("/v1/admin/grants/{id}"), &kept).await.unwrap();
    cluster.house.until("50301", "active", PATIENCE).await.unwrap();
    stories.push(refused);
    count(&cluster.house, &stories).await;
}

/// What a steady stream of hooks met.
#[derive(Default)]
struct Stream {
    over: AtomicBool,
    answered: AtomicU32,
    refused: AtomicU32,
    failed: std::sync::Mutex<Vec<String>>,
}

impl Stream {
    /// Each hook over a connection of its own; another host is tried if the connection is refused, and only then.
    async fn pour(self: Arc<Self>, whmcs: Whmcs, living: watch::Receiver<Vec<String>>, orders: Vec<(String, Value)>) {
        let http = reqwest::Client::builder().no_proxy().pool_max_idle_per_host(0).timeout(PATIENCE).build().unwrap();
        let mut next = orders.iter().cycle();
        while !self.over.load(Ordering::Relaxed) {
            let (id, order) = next.next().unwrap();
            let host = any(&living);
            match (Whmcs { host: host.clone(), ..whmcs.clone() }).post_by(&http, id, "create", order).await {
                Ok((200, _)) => drop(self.answered.fetch_add(1, Ordering::Relaxed)),
                Ok((status, body)) => self.failed.lock().unwrap().push(format!("{host}: {status} {body}")),
                Err(error) if error.downcast_ref::<reqwest::Error>().is_some_and(reqwest::Error::is_connect) => {
                    self.refused.fetch_add(1, Ordering::Relaxed);
                }
                Err(error) => self.failed.lock().unwrap().push(format!("{host}: {error:?}")),
            }
            sleep(Duration::from_millis(10)).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn hosts_replaced_one_by_one_under_load_fail_no_hook() {
    let dir = tempfile::tempdir().unwrap();
    let mut cluster = Cluster::build(dir.path(), Built::in_target().unwrap(), roomy(4), 3).await.unwrap();
    let stories: Vec<Story> = (60_001..60_041)
        .map(|service| Story { service, plan: "linked", at_ms: 0, terminated_after_ms: None })
        .collect();
    let stream = Arc::new(Stream::default());
    let pouring: Vec<_> = stories
        .chunks(10)
        .map(|part| {
            let orders = part.iter().map(|story| (format!("msg_{}", story.service), story.order())).collect();
            tokio::spawn(Arc::clone(&stream).pour(cluster.house.whmcs.clone(), cluster.living(), orders))
        })
        .collect();
    sleep(Duration::from_secs(2)).await;
    // What a newer version may do to the tables while this one still works on them.
    cluster.postgres.sql("books", "CREATE TABLE of_a_newer_version (id BIGINT PRIMARY KEY)");
    for table in ["operation", "queue", "service", "object", "effect", "event", "lease", "plugin_version", "rollout"] {
        cluster
            .postgres
            .sql("books", &format!("ALTER TABLE {table} ADD COLUMN of_a_newer_version TEXT NOT NULL DEFAULT ''"));
    }
    sleep(Duration::from_secs(2)).await;
    for n in 0..cluster.count() {
        let begun = Instant::now();
        cluster.stop(n, Duration::from_secs(30)).await.unwrap();
        let stopped = begun.elapsed();
        cluster.start(n).await.unwrap();
        println!("host {n} stopped in {stopped:?}, was back after {:?}", begun.elapsed());
        sleep(Duration::from_secs(1)).await;
    }
    stream.over.store(true, Ordering::Relaxed);
    for pour in pouring {
        pour.await.unwrap();
    }
    let (answered, refused) = (stream.answered.load(Ordering::Relaxed), stream.refused.load(Ordering::Relaxed));
    let failed = stream.failed.lock().unwrap().clone();
    println!("{answered} hooks answered, {refused} connections refused, {} failed", failed.len());
    assert!(failed.is_empty(), "{failed:#?}");
    cluster.ask(0).unwrap();
    count(&cluster.house, &stories).await;
    let shown = client(&cluster, 1).get("/v1/admin/cluster").await.unwrap();
    let living = shown["hosts"].as_array().unwrap().iter().filter(|host| host["lost"] == false).count();
    assert_eq!((living, &shown["mixed_versions"], &shown["live"]), (3, &json!(false), &json!(0)), "{shown}");
}

async fn condition(cluster: &Cluster, body: Value) {
    let url = format!("{}/_sim/condition", cluster.house.sim.url);
    http().post(url).json(&body).send().await.unwrap().error_for_status().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_secret_that_was_changed_through_one_host_ends_the_wait_on_another() {
    let dir = tempfile::tempdir().unwrap();
    let mut cluster = Cluster::build(dir.path(), Built::in_target().unwrap(), roomy(4), 2).await.unwrap();
    condition(&cluster, json!({"revoke-token": TOKEN})).await;
    let stories: Vec<Story> = (70_001..70_005)
        .map(|service| Story { service, plan: "linked", at_ms: 0, terminated_after_ms: None })
        .collect();
    let panel = Panel::of_all(&cluster);
    let (a, b) = (client(&cluster, 0), client(&cluster, 1));
    for story in &stories {
        panel.say("create", &story.order()).await;
    }
    let begun = Instant::now();
    for story in &stories {
        loop {
            let service = b.get(&format!("/v1/services/shop:{}", story.service)).await.unwrap();
            if service["operation"]["reason"]["code"] == "parked" {
                break;
            }
            assert!(begun.elapsed() < PATIENCE, "{service}");
            sleep(Duration::from_millis(100)).await;
        }
    }
    // Nobody asks with a token that was refused: neither host, for longer than a failure is waited for at first.
    let log = async || -> usize {
        let log = http().get(format!("{}/_sim/log", cluster.house.sim.url)).send().await.unwrap();
        log.json::<Vec<Value>>().await.unwrap().len()
    };
    sleep(Duration::from_secs(5)).await;
    let asked = log().await;
    sleep(Duration::from_secs(8)).await;
    let again = log().await - asked;
    assert!(again <= 2, "the server was asked {again} times with a token that it refuses");
    let other = "99999999-8888-7777-6666-555555555555";
    condition(&cluster, json!({"restore-token": [TOKEN, other]})).await;
    let mut server = a.get("/v1/admin/servers/pve").await.unwrap()["body"].clone();
    server["secret"] = json!(other);
    a.put("/v1/admin/servers/pve", &server).await.unwrap();
    // Whatever goes on now goes on over there.
    cluster.kill(0).await.unwrap();
    cluster.ask(1).unwrap();
    count(&cluster.house, &stories).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_with_another_master_key_is_refused_with_a_sentence() {
    let dir = tempfile::tempdir().unwrap();
    let mut cluster = Cluster::build(dir.path(), Built::in_target().unwrap(), hasty(), 1).await.unwrap();
    let settings = dir.path().join("wharf.toml");
    let right = std::fs::read_to_string(&settings).unwrap();
    write_key(&dir.path().join("other.key")).unwrap();
    std::fs::write(&settings, right.replace("master.key", "other.key")).unwrap();
    let refused = format!("{:#}", cluster.house.host(2).await.unwrap_err());
    assert!(
        refused.contains("the master key is not the one that the secrets in these books were sealed with"),
        "{refused}"
    );
    assert!(refused.contains("copy `master.key` from the host that made them"), "{refused}");
    std::fs::write(&settings, right).unwrap();
    cluster.house.host(2).await.unwrap();
    cluster.ask(0).unwrap();
    cluster.house.client.get("/v1/services").await.unwrap();
}
