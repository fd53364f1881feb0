//! Books that are moved from SQLite to PostgreSQL with a deploy under way: it ends on the other side.

use std::time::{Duration, Instant};

use postgres_peer::Server;
use serde_json::json;
use sqlx::Connection;
use wharf_e2e::{
    journey::{Built, House, Setup},
    powerdns::Dns,
    whmcs::params,
};

/// A service that is none of those of the large house.
const NUMBER: u32 = 900_001;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deploy_under_way_before_the_books_are_copied_ends_after_it() {
    let folder = tempfile::tempdir().unwrap();
    let setup = Setup {
        settings: "[engine]\nclaim_ttl_s = 3\n".into(),
        cluster: json!({"timing": {"clone_linked": 4_000}}),
        dns: Dns::Any,
        ..Setup::default()
    };
    let mut house = House::with(folder.path(), Built::in_target().unwrap(), setup).await.unwrap();
    let books = folder.path().join("data/wharf.db");
    // A house that has been at work for long.
    let services = if std::env::var_os("WHARF_TEST_LONG").is_some() { 100_000 } else { 500 };
    house.wharf.take().unwrap().kill().await.unwrap();
    let mut shell = sqlx::SqliteConnection::connect(&format!("sqlite:{}", books.display())).await.unwrap();
    for sql in include_str!("../../../host/store-sqlite/tests/large_house.sql").trim().split_terminator(';') {
        let sql = sql.replace("'pve'", "'elsewhere'");
        sqlx::query(sqlx::AssertSqlSafe(sql)).bind(services).execute(&mut shell).await.unwrap();
    }
    shell.close().await.unwrap();
    house.restart().await.unwrap();

    let ordered = params(NUMBER, "linked", "moved.example.com", json!({}));
    assert_eq!(house.whmcs.post("create", &ordered).await.unwrap().0, 200);
    let copying = async {
        while house.guests().await.unwrap().is_empty() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), copying).await.expect("no copy was begun");
    house.wharf.take().unwrap().kill().await.unwrap();
    let (postgres, begun) = (Server::start(), Instant::now());
    let url = postgres.database("books", None);
    let copied = std::process::Command::new(Built::in_target().unwrap().wharf)
        .args(["store", "copy", "--from", &format!("sqlite:{}", books.display()), "--to", &url])
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&copied.stdout).into_owned();
    assert!(copied.status.success(), "{said}{}", String::from_utf8_lossy(&copied.stderr));
    println!("{} after {:?}", said.trim(), begun.elapsed());
    let key = folder.path().join("data/master.key");
    let settings = format!("database_url = {}\nmaster_key_file = {}\n", json!(url), json!(key));
    std::fs::write(folder.path().join("wharf.toml"), format!("{settings}[engine]\nclaim_ttl_s = 3\n")).unwrap();
    std::fs::rename(&books, folder.path().join("moved.db")).unwrap();
    house.restart().await.unwrap();

    let service = house.until(&NUMBER.to_string(), "active", Duration::from_secs(60)).await.unwrap();
    assert_eq!(house.guests().await.unwrap(), [service["vmid"].as_u64().unwrap()]);
    let state = house.cluster().await.unwrap();
    let copies = state["tasks"].as_array().unwrap().iter().filter(|t| t["kind"] == "qmclone").count();
    assert_eq!(copies, 1, "{}", state["tasks"]);
    let there = postgres.sql("books", "SELECT count(*) FROM service");
    assert_eq!(there, (services + 1).to_string());
}
