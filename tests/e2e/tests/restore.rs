//! Books that were lost and restored from a backup: orders since then are not in them, but their VMs are on the cluster. No
//! number and no address that the cluster has ever seen is given to anybody else.

use std::{
    collections::{BTreeMap, BTreeSet},
    process::Output,
    time::{Duration, Instant},
};

use postgres_peer::Server;
use serde_json::{Value, json};
use wharf_e2e::{
    journey::{Built, House, Setup},
    powerdns::Dns,
    whmcs::params,
};

const PATIENCE: Duration = Duration::from_secs(180);

fn wharf(arguments: &[&str]) -> Output {
    let built = Built::in_target().unwrap();
    std::process::Command::new(built.wharf).args(arguments).env_remove("WHARF_TOKEN").output().unwrap()
}

fn words(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// Everything that VMs of the cluster have or had: numbers with their owners, addresses with theirs.
#[derive(Default)]
struct Seen {
    numbers: BTreeMap<String, BTreeSet<String>>,
    addresses: BTreeMap<String, BTreeSet<String>>,
}

impl Seen {
    async fn look(&mut self, house: &House) {
        let state = house.cluster().await.unwrap();
        for (vmid, vm) in state["vms"].as_object().unwrap() {
            let description = vm["config"]["description"].as_str().unwrap_or_default();
            let Some(at) = description.find("wharf:") else { continue };
            let owner: String = description[at..].chars().take(42).collect();
            self.numbers.entry(vmid.clone()).or_default().insert(owner.clone());
            for (_, line) in vm["config"].as_object().unwrap().iter().filter(|(key, _)| key.starts_with("ipconfig")) {
                for part in line.as_str().unwrap().split(',') {
                    if let Some(ip) = part.strip_prefix("ip=").or_else(|| part.strip_prefix("ip6=")) {
                        self.addresses.entry(ip.to_owned()).or_default().insert(owner.clone());
                    }
                }
            }
        }
    }

    fn doubled(&self) -> Vec<String> {
        let all = self.numbers.iter().chain(&self.addresses);
        all.filter(|(_, owners)| owners.len() > 1).map(|(what, owners)| format!("{what}: {owners:?}")).collect()
    }
}

async fn say(house: &House, verb: &str, numbers: std::ops::Range<u32>) {
    for n in numbers {
        let params = params(n, "linked", &format!("vm{n}.example.com"), json!({}));
        let (status, body) = house.whmcs.post(verb, &params).await.unwrap();
        assert!((200..300).contains(&status), "{verb} {n}: {status} {body}");
    }
}

async fn all(house: &House, seen: &mut Seen, numbers: std::ops::Range<u32>, phase: &str) {
    for n in numbers {
        house.until(&n.to_string(), phase, PATIENCE).await.unwrap();
        seen.look(house).await;
    }
}

/// How many orders there are.
struct Orders {
    /// Since the backup, all unknown to it.
    unknown: u32,
    /// Of those, terminated again before the books are lost.
    terminated: u32,
    /// After the restore.
    after: u32,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_a_restore_no_number_and_no_address_that_was_ever_seen_is_another_services() {
    books_are_lost_and_restored(None, Orders { unknown: 100, terminated: 30, after: 100 }).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_a_restore_into_the_database_no_number_and_no_address_is_another_services() {
    let postgres = Server::start();
    let orders = if std::env::var_os("WHARF_TEST_LONG").is_some() { 100 } else { 30 };
    books_are_lost_and_restored(Some(&postgres), Orders { unknown: orders, terminated: 10, after: orders }).await;
}

async fn books_are_lost_and_restored(postgres: Option<&Server>, orders: Orders) {
    let folder = tempfile::tempdir().unwrap();
    let timing = json!({"clone_linked": 50, "clone_stub": 10, "configure": 5, "resize": 5, "start": 20, "stop": 20, "shutdown": 20,
        "destroy": 20, "remove_volume": 5});
    let setup = Setup {
        settings: "[engine]\nclaim_ttl_s = 3\n".into(),
        server: json!({"clones_per_storage": 8}),
        cluster: json!({ "timing": timing }),
        dns: Dns::Any,
        database: postgres.map(|p| p.database("books", None)),
        v4: ("10.64.0.10", "10.64.3.250", 22, "10.64.0.1"),
        ..Setup::default()
    };
    let mut house = House::with(folder.path(), Built::in_target().unwrap(), setup).await.unwrap();
    let data = folder.path().join("data");
    let (settings, backup) = (folder.path().join("wharf.toml"), folder.path().join("backup.db"));
    let (file, config) = (backup.to_str().unwrap(), settings.to_str().unwrap());
    let store = |verb: &[&str]| {
        wharf(&[&["store"], verb, &["--config", config, "--data-dir", data.to_str().unwrap()]].concat())
    };
    let mut seen = Seen::default();
    say(&house, "create", 1..9).await;
    all(&house, &mut seen, 1..9, "active").await;

    // While the host runs, and with one order under way.
    let pause = json!({"scope": "everything", "reason": "a backup with an order under way"});
    house.client.post("/v1/admin/pauses", &pause).await.unwrap();
    say(&house, "create", 9..10).await;
    let done = store(&["backup", file]);
    assert!(done.status.success(), "{}", words(&done));
    let mode = std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(&backup).unwrap().permissions());
    assert_eq!(mode & 0o777, 0o600);
    house.client.delete("/v1/admin/pauses/everything").await.unwrap();

    // What the backup does not know.
    let unknown = 10..10 + orders.unknown;
    let gone = unknown.end - orders.terminated - 2..unknown.end - 2;
    say(&house, "create", unknown.clone()).await;
    all(&house, &mut seen, 9..unknown.end, "active").await;
    say(&house, "terminate", gone.clone()).await;
    all(&house, &mut seen, gone, "terminated").await;
    let polled = feed(&house, 0).await.1;

    // A running host's books can't be replaced.
    let refused = store(&["restore", file, "--replace"]);
    assert!(!refused.status.success() && words(&refused).contains("stop it"), "{}", words(&refused));
    house.wharf.take().unwrap().kill().await.unwrap();
    if postgres.is_none() {
        for name in ["wharf.db", "wharf.db-wal", "wharf.db-shm"] {
            let _ = std::fs::remove_file(data.join(name));
        }
    }
    let begun = Instant::now();
    let restored = loop {
        let restored = store(&["restore", file, "--replace"]);
        // Of a host that was killed, the database knows only that it has been silent for a while.
        if restored.status.success() || begun.elapsed() > Duration::from_secs(40) {
            break restored;
        }
        assert!(words(&restored).contains("was at work on these books"), "{}", words(&restored));
        tokio::time::sleep(Duration::from_secs(2)).await;
    };
    assert!(restored.status.success(), "{}", words(&restored));
    if postgres.is_some() {
        let kept = words(&restored).lines().find_map(|l| l.split_once("kept as ").map(|(_, f)| f.to_owned())).unwrap();
        let (aside, again) = (folder.path().join("aside"), folder.path().join("again"));
        std::fs::create_dir(&aside).unwrap();
        std::fs::copy(kept, aside.join("kept.db")).unwrap();
        let place = |file: std::path::PathBuf| format!("sqlite:{}", file.display());
        let checked =
            wharf(&["store", "copy", "--from", &place(aside.join("kept.db")), "--to", &place(again.join("wharf.db"))]);
        assert!(checked.status.success(), "what was replaced can be had back: {}", words(&checked));
    }
    house.restart().await.unwrap();
    let stopped = house.until("9", "needs-admin", PATIENCE).await.unwrap();
    assert!(stopped.to_string().contains("restored from a backup"), "{stopped}");

    house.client.delete("/v1/admin/pauses/everything").await.unwrap();

    // Taken on, and nothing is done about it.
    let after = unknown.end + 10..unknown.end + 10 + orders.after;
    let before = house.cluster().await.unwrap()["vms"].as_object().unwrap().len();
    say(&house, "create", after.clone()).await;
    tokio::time::sleep(Duration::from_secs(7)).await;
    assert_eq!(house.cluster().await.unwrap()["vms"].as_object().unwrap().len(), before);
    let cluster = house.client.get("/v1/admin/cluster").await.unwrap();
    assert!(cluster["reconcile"].is_string(), "{cluster}");

    let merged = wharf(&["store", "reconcile", "--url", &house.client.url, "--token", &house.client.token]);
    assert!(merged.status.success(), "{}", words(&merged));
    let report: Value = serde_json::from_slice(&merged.stdout).unwrap();
    let findings = report["findings"].as_array().unwrap();
    let strangers = findings.iter().filter(|f| f.as_str().unwrap().contains("do not know")).count();
    assert_eq!(u32::try_from(strangers).unwrap(), orders.unknown - orders.terminated, "{report}");

    all(&house, &mut seen, after.clone(), "active").await;
    assert_eq!(seen.doubled(), Vec::<String>::new());
    let all_there = usize::try_from(9 + orders.unknown + orders.after).unwrap();
    assert!(seen.numbers.len() >= all_there, "{:?}", seen.numbers.keys());
    let told = feed(&house, polled).await.0;
    let last = format!("shop:{}", after.end - 1);
    assert!(told.contains(&last), "a panel that goes on from the last number it saw misses nothing");
    let cluster = house.client.get("/v1/admin/cluster").await.unwrap();
    assert!(cluster["reconcile"].is_null(), "{cluster}");
}

async fn feed(house: &House, mut after: i64) -> (String, i64) {
    let mut told = String::new();
    loop {
        let page = house.client.get(&format!("/v1/events?after={after}&limit=200")).await.unwrap();
        if page["events"].as_array().unwrap().is_empty() {
            return (told, after);
        }
        after = page["next"].as_i64().unwrap();
        told.push_str(&page.to_string());
    }
}
