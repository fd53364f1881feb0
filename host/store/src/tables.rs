//! The tables of the books, as rows that any engine can read and write: what copies, backups and digests go by.
//!
//! Every engine has the same columns (a test holds this list against their tables). `host` and `watch` are left out: they
//! say who is at work right now. A digest is SHA-256 over all rows in the order of their keys, in an encoding of its own, so
//! that equal books have equal digests whatever engine holds them; text sorts by its bytes everywhere.

use async_trait::async_trait;
use sha2::{Digest, Sha256};

use crate::Result;

/// What a column holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Int,
    Text,
    Bytes,
}

use Kind::{Bytes, Int, Text};

/// A table of the books.
#[derive(Debug, PartialEq, Eq)]
pub struct Table {
    pub name: &'static str,
    pub columns: &'static [(&'static str, Kind)],
    /// The columns of the primary key, in its order.
    pub key: &'static [&'static str],
    /// Rows that are read or written at once: bounds memory, since components are megabytes each.
    pub page: usize,
}

/// One value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Cell {
    Null,
    Int(i64),
    Text(String),
    Bytes(Vec<u8>),
}

/// In the order of the table's columns.
pub type Row = Vec<Cell>;

/// All of them, each after those that it refers to.
#[rustfmt::skip]
pub const TABLES: &[Table] = &[
    Table { name: "object", columns: &[("kind", Text), ("name", Text), ("revision", Int), ("body", Text), ("created_ms", Int), ("updated_ms", Int)], key: &["kind", "name"], page: 2000 },
    Table { name: "secret", columns: &[("owner", Text), ("slot", Text), ("sealed", Bytes), ("updated_ms", Int)], key: &["owner", "slot"], page: 500 },
    Table { name: "kv", columns: &[("plugin", Text), ("key", Text), ("value", Bytes)], key: &["plugin", "key"], page: 20 },
    Table { name: "service", columns: &[("id", Text), ("panel", Text), ("reference", Text), ("plan", Text), ("server", Text), ("plugin", Text), ("options", Text), ("settings", Text), ("ordered", Text), ("facts", Text), ("phase", Text), ("suspended", Int), ("generation", Int), ("state", Text), ("state_version", Int), ("vmid", Int), ("absence_proven_ms", Int), ("created_ms", Int), ("updated_ms", Int)], key: &["id"], page: 2000 },
    Table { name: "operation", columns: &[("id", Text), ("service_id", Text), ("generation", Int), ("kind", Text), ("plugin", Text), ("status", Text), ("state", Text), ("state_version", Int), ("memo", Text), ("attempt", Int), ("reason_code", Text), ("reason_message", Text), ("created_ms", Int), ("started_ms", Int), ("state_ms", Int), ("ended_ms", Int), ("log_last", Int), ("log_rows", Int), ("epoch", Int)], key: &["id"], page: 2000 },
    Table { name: "operation_log", columns: &[("operation_id", Text), ("n", Int), ("at_ms", Int), ("step", Int), ("body", Text)], key: &["operation_id", "n"], page: 2000 },
    Table { name: "queue", columns: &[("operation_id", Text), ("service_id", Text), ("due_ms", Int), ("was_due_ms", Int), ("owner", Text), ("epoch", Int), ("rev", Int), ("taken_over", Int), ("preempted", Int), ("nudged", Int), ("wait_slot", Text), ("ticket", Int), ("topic", Text)], key: &["operation_id"], page: 2000 },
    Table { name: "effect", columns: &[("operation_id", Text), ("sequence", Int), ("service_id", Text), ("generation", Int), ("kind", Text), ("server", Text), ("body", Text), ("slot_pool", Text), ("slot_cap", Int), ("state", Text), ("task", Text), ("deadline_ms", Int), ("result", Text), ("created_ms", Int), ("issued_ms", Int), ("resolved_ms", Int)], key: &["operation_id", "sequence"], page: 2000 },
    Table { name: "slot", columns: &[("pool", Text), ("number", Int), ("operation_id", Text)], key: &["pool", "number"], page: 2000 },
    Table { name: "idempotency", columns: &[("scope", Text), ("key", Text), ("fingerprint", Text), ("service_id", Text), ("operation_id", Text), ("at_ms", Int)], key: &["scope", "key"], page: 2000 },
    Table { name: "lease", columns: &[("domain", Text), ("family", Int), ("address", Bytes), ("pool", Text), ("service_id", Text), ("place", Int), ("network", Text), ("ptr", Text), ("leased_ms", Int), ("free_after_ms", Int)], key: &["domain", "family", "address"], page: 2000 },
    Table { name: "vmid", columns: &[("server", Text), ("vmid", Int), ("service_id", Text), ("live", Int)], key: &["server", "vmid"], page: 2000 },
    Table { name: "room", columns: &[("service_id", Text), ("server", Text), ("node", Text), ("memory_mib", Int), ("storage", Text), ("disk_mib", Int)], key: &["service_id"], page: 2000 },
    Table { name: "record", columns: &[("zone", Text), ("name", Text), ("rtype", Text), ("value", Text), ("service_id", Text), ("queue", Text), ("ttl", Int), ("wanted", Int), ("sent", Int), ("open", Int), ("sought", Int), ("attempt", Int), ("due_ms", Int), ("reason", Text), ("updated_ms", Int)], key: &["zone", "name", "rtype", "value", "service_id"], page: 2000 },
    Table { name: "dns_queue", columns: &[("queue", Text), ("owner", Text), ("epoch", Int), ("until_ms", Int)], key: &["queue"], page: 2000 },
    Table { name: "event", columns: &[("seq", Int), ("id", Text), ("at_ms", Int), ("kind", Text), ("service_id", Text), ("panel", Text), ("subject", Text), ("generation", Int), ("data", Text)], key: &["seq"], page: 2000 },
    Table { name: "delivery", columns: &[("seq", Int), ("hook", Text), ("service_id", Text), ("attempt", Int), ("due_ms", Int), ("owner", Text), ("epoch", Int)], key: &["seq", "hook"], page: 2000 },
    Table { name: "audit", columns: &[("seq", Int), ("at_ms", Int), ("actor", Text), ("action", Text), ("subject", Text), ("body", Text)], key: &["seq"], page: 2000 },
    Table { name: "component", columns: &[("digest", Text), ("bytes", Bytes)], key: &["digest"], page: 1 },
    Table { name: "plugin_version", columns: &[("id", Text), ("version", Text), ("digest", Text), ("manifest", Text), ("size", Int), ("installed_ms", Int), ("installed_by", Text)], key: &["id", "version"], page: 2000 },
    Table { name: "rollout", columns: &[("id", Text), ("current", Text), ("previous", Text), ("enabled", Int), ("revision", Int)], key: &["id"], page: 2000 },
    Table { name: "job", columns: &[("name", Text), ("every_ms", Int), ("stale_ms", Int), ("due_ms", Int), ("was_due_ms", Int), ("owner", Text), ("epoch", Int), ("forced", Int), ("declared_ms", Int), ("last_begun_ms", Int), ("last_ended_ms", Int), ("last_ok_ms", Int), ("last_result", Text), ("last_error", Text), ("last_epoch", Int), ("runs", Int), ("took_over", Int)], key: &["name"], page: 2000 },
    Table { name: "rest_clock", columns: &[("id", Int), ("at_ms", Int), ("looks", Int)], key: &["id"], page: 2000 },
    Table { name: "foreign_vmid", columns: &[("server", Text), ("vmid", Int), ("why", Text)], key: &["server", "vmid"], page: 2000 },
    Table { name: "meta", columns: &[("key", Text), ("value", Text)], key: &["key"], page: 2000 },
];

/// Where `meta` says that a copy into these books has not ended.
pub const COPYING: &str = "copying";
/// Where `meta` says that these books were restored, and that nothing may be sent before they were merged with the clusters.
pub const RECONCILE: &str = "reconcile";

/// Where `meta` says above which number a server's VMs are numbered since books were merged with it.
pub fn floor_key(server: &str) -> String {
    format!("numbers-above/{server}")
}

/// The last numbers that were given out: pruning takes rows, never numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counters {
    pub event: i64,
    pub audit: i64,
}

/// One consistent look at the whole books, while work on them goes on.
#[async_trait]
pub trait Snapshot: Send {
    /// Rows after this key, in the order of keys, at most `table.page`.
    async fn page(&mut self, table: &Table, after: Option<&[Cell]>) -> Result<Vec<Row>>;
    /// The greatest key, if there is any row.
    async fn last_key(&mut self, table: &Table) -> Result<Option<Vec<Cell>>>;
    /// How many rows there are.
    async fn count(&mut self, table: &Table) -> Result<u64>;
    async fn counters(&mut self) -> Result<Counters>;
}

/// Books as rows.
#[async_trait]
pub trait Rows: Send + Sync + 'static {
    async fn snapshot(&self) -> Result<Box<dyn Snapshot>>;
    /// Adds rows, all or none.
    async fn write_rows(&self, table: &'static Table, rows: Vec<Row>) -> Result<()>;
    /// Takes all rows out of all tables of the books, `meta` too.
    async fn clear(&self) -> Result<()>;
    /// Numbers go on after these; none is ever set back.
    async fn set_counters(&self, counters: Counters) -> Result<()>;
}

/// What a table comes to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TableDigest {
    pub table: &'static str,
    pub rows: u64,
    pub digest: [u8; 32],
}

/// What books come to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BooksDigest {
    pub tables: Vec<TableDigest>,
    pub counters: Counters,
}

impl BooksDigest {
    /// Of everything, as hexadecimal digits.
    pub fn overall(&self) -> String {
        let mut hash = Sha256::new();
        for table in &self.tables {
            feed(&mut hash, &[Cell::Text(table.table.into()), Cell::Bytes(table.digest.to_vec())]);
        }
        feed(&mut hash, &[Cell::Int(self.counters.event), Cell::Int(self.counters.audit)]);
        hex(&hash.finalize())
    }

    pub fn rows(&self) -> u64 {
        self.tables.iter().map(|t| t.rows).sum()
    }
}

/// Hexadecimal digits.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

/// The key of a row.
pub fn key_of(table: &Table, row: &Row) -> Vec<Cell> {
    let value = |name: &str| table.columns.iter().position(|(n, _)| *n == name).and_then(|at| row.get(at));
    table.key.iter().map(|name| value(name).cloned().unwrap_or(Cell::Null)).collect()
}

/// Whether a row is of the books, and not of a copy that is under way.
pub fn belongs(table: &Table, row: &Row) -> bool {
    table.name != "meta" || row.first() != Some(&Cell::Text(COPYING.into()))
}

/// Each cell is a letter, its length and itself, so that no two rows have the same encoding.
fn feed(hash: &mut Sha256, row: &[Cell]) {
    for cell in row {
        let (letter, bytes): (u8, &[u8]) = match cell {
            Cell::Null => (b'n', &[]),
            Cell::Int(n) => {
                hash.update([b'i']);
                hash.update(n.to_be_bytes());
                continue;
            }
            Cell::Text(text) => (b't', text.as_bytes()),
            Cell::Bytes(bytes) => (b'b', bytes),
        };
        hash.update([letter]);
        hash.update(u64::try_from(bytes.len()).unwrap_or(u64::MAX).to_be_bytes());
        hash.update(bytes);
    }
    hash.update(b".");
}

/// Reads everything once.
///
/// # Errors
/// Books that can't be read.
pub async fn digest(snapshot: &mut dyn Snapshot) -> Result<BooksDigest> {
    let mut tables = Vec::with_capacity(TABLES.len());
    for table in TABLES {
        let (mut hash, mut rows, mut after) = (Sha256::new(), 0, None);
        loop {
            let page = snapshot.page(table, after.as_deref()).await?;
            let Some(last) = page.last() else { break };
            after = Some(key_of(table, last));
            for row in page.iter().filter(|row| belongs(table, row)) {
                feed(&mut hash, row);
                rows += 1;
            }
        }
        tables.push(TableDigest { table: table.name, rows, digest: hash.finalize().into() });
    }
    Ok(BooksDigest { tables, counters: snapshot.counters().await? })
}
