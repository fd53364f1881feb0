//! What 100,000 services cost that have nothing to do, each with a history of five operations: claims, wake-ups, CPU, memory.
//!
//! One VM is deployed for real; its rows are then copied in the stopped host's file, so that whatever columns the books have are
//! those of a service that went its whole way. Logs of the copied operations are left out: nothing but a reader of one log looks
//! at them.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use async_trait::async_trait;
use sqlx::{AssertSqlSafe, ConnectOptions, Connection, SqliteConnection, sqlite::SqliteConnectOptions};
use uuid::Uuid;
use wharf_store::Queue;
use wharf_store_sqlite::SqliteStore;

use super::{Figure, hooks::QUICK};
use crate::{
    Bench,
    house::{House, cluster},
    machine,
    report::Row,
    stats::{Samples, time},
};

const PATIENCE: Duration = Duration::from_secs(60);
const HISTORY: u32 = 5;

pub struct IdleServices;

/// What was measured on one size of the books.
struct Seen {
    start_us: f64,
    cpu_share: f64,
    memory_mib: f64,
    claim: Samples,
    first_call: Samples,
}

#[async_trait(?Send)]
impl Figure for IdleServices {
    fn name(&self) -> &'static str {
        "idle-services"
    }

    fn title(&self) -> &'static str {
        "Idle services"
    }

    async fn measure(&self, bench: &Bench) -> Result<Vec<Row>> {
        let count = bench.pick(200, 20_000, 100_000);
        let mut house = House::start(bench, cluster(QUICK)).await?;
        house.order(1).await?;
        house.active(1, PATIENCE).await?;
        let few = look(bench, &mut house, 100, 1).await?;
        house.stop().await?;
        let begun = Instant::now();
        multiply(&house, count).await?;
        let copied = begun.elapsed();
        // The copies, the one that was copied, and those of the first look.
        let idle = usize::try_from(count)? + 1 + services(bench);
        let many = look(bench, &mut house, 1_000_000_000, idle).await?;
        let file = std::fs::metadata(house.books())?.len() / (1 << 20);
        let beside = |row: Row, one: String| row.remark(format!("with a handful of services: {one}"));
        Ok(vec![
            Row::count("services, idle", usize::try_from(count)?).remark(format!(
                "{HISTORY} operations each; the books have {file} MiB; copied in {}",
                time(copied.as_secs_f64() * 1e6)
            )),
            beside(
                Row::share("CPU of the idle host, of one core", many.cpu_share),
                format!("{:.1} %", few.cpu_share * 100.0),
            ),
            beside(
                Row::time("a claim that finds nothing, and when to wake: p50", many.claim.p50()),
                time(few.claim.p50()),
            ),
            beside(
                Row::time("order → first call to Proxmox: p50", many.first_call.p50()).below(50_000.0, "< 50 ms"),
                time(few.first_call.p50()),
            ),
            beside(Row::mib("resident memory after a start", many.memory_mib), format!("{:.0} MiB", few.memory_mib)),
            beside(Row::time("start until it listens", many.start_us), time(few.start_us)),
        ])
    }
}

/// Orders of one look.
fn services(bench: &Bench) -> usize {
    bench.pick(2, 4, 20)
}

async fn look(bench: &Bench, house: &mut House, from: u32, there: usize) -> Result<Seen> {
    // While nobody else has the file open, as a host that has just started does it.
    house.stop().await?;
    let claim = claims(house, bench.pick(20, 300, 1_000)).await?;
    let start_us = house.restart().await?.as_secs_f64() * 1e6;
    tokio::time::sleep(Duration::from_secs(bench.pick(0, 2, 5))).await;
    let (pid, span) = (house.pid()?, Duration::from_secs(bench.pick(1, 5, 20)));
    let cpu = machine::cpu_seconds(pid)?;
    tokio::time::sleep(span).await;
    let cpu_share = (machine::cpu_seconds(pid)? - cpu) / span.as_secs_f64();
    let memory_mib = machine::resident_mib(pid)?;
    let mut first_call = Samples::default();
    for (number, n) in (from..).zip(0..services(bench)) {
        let (sent, _) = house.order(number).await?;
        house.active(there + n + 1, PATIENCE).await?;
        let first = house.stamps(sent).iter().map(|s| s.came).min().context("Proxmox was never asked")?;
        first_call.push(first - sent);
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    Ok(Seen { start_us, cpu_share, memory_mib, claim, first_call })
}

/// What a worker does when it looks for work and there is none.
async fn claims(house: &House, count: usize) -> Result<Samples> {
    let store = SqliteStore::open(house.books()).await?;
    let mut samples = Samples::default();
    let now = i64::try_from(std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH)?.as_millis())?;
    for n in 0..count + count / 10 {
        let begun = Instant::now();
        let claimed = store.claim(Uuid::new_v4(), 30_000, 32, now).await?;
        store.next_due().await?;
        let took = begun.elapsed();
        anyhow::ensure!(claimed.is_empty(), "there is work in books that should be idle");
        if n >= count / 10 {
            samples.push(took);
        }
    }
    Ok(samples)
}

/// Copies the first service so often.
async fn multiply(house: &House, count: u32) -> Result<()> {
    let mut file = SqliteConnectOptions::new().filename(house.books()).foreign_keys(true).connect().await?;
    let service = "printf('%08x-0000-7000-8000-%012x', n.i, n.i)";
    let operation = "printf('%08x-%04x-7000-9000-%012x', n.i, k.i, n.i)";
    let own =
        [("id", service), ("reference", "'copy-' || n.i"), ("vmid", "NULL"), ("generation", &HISTORY.to_string())];
    let columns = columns(&mut file, "service", &own).await?;
    let numbers = format!("WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {count})");
    let one = "(SELECT * FROM service WHERE reference = '1')";
    run(&mut file, format!("INSERT INTO service {numbers} SELECT {columns} FROM n, {one} AS old")).await?;
    let own = [("id", operation), ("service_id", service), ("generation", "k.i")];
    let columns = self::columns(&mut file, "operation", &own).await?;
    let one = "(SELECT o.* FROM operation o JOIN service s ON s.id = o.service_id WHERE s.reference = '1' LIMIT 1)";
    let history = format!("{numbers}, k(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM k WHERE i < {HISTORY})");
    run(&mut file, format!("INSERT INTO operation {history} SELECT {columns} FROM n, k, {one} AS old")).await?;
    run(&mut file, "PRAGMA wal_checkpoint(TRUNCATE)".into()).await?;
    file.close().await?;
    Ok(())
}

/// All columns of a table, with other values for those named.
async fn columns(file: &mut SqliteConnection, table: &str, own: &[(&str, &str)]) -> Result<String> {
    let sql = format!("SELECT name FROM pragma_table_info('{table}') ORDER BY cid");
    let names: Vec<String> = sqlx::query_scalar(AssertSqlSafe(sql)).fetch_all(file).await?;
    let value = |name: &String| {
        own.iter().find(|(of, _)| of == name).map_or_else(|| format!("old.{name}"), |(_, value)| (*value).to_owned())
    };
    Ok(names.iter().map(value).collect::<Vec<_>>().join(", "))
}

async fn run(file: &mut SqliteConnection, sql: String) -> Result<()> {
    sqlx::query(AssertSqlSafe(sql)).execute(file).await?;
    Ok(())
}
