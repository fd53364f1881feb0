//! The books as rows, and what is to be known of them.
//!
//! A look shows the books as they will be once all that was committed is numbered: what is in `pending` appears in `event`,
//! `delivery` and `audit`, under the numbers that it would get.

use std::collections::BTreeMap;

use async_trait::async_trait;
use sqlx::{
    AssertSqlSafe, PgConnection, Postgres, Row as _,
    pool::PoolConnection,
    postgres::{PgArguments, PgRow},
    query, query_as, query_scalar,
};
use uuid::Uuid;
use wharf_model::{Millis, event::NewEvent, operation::Reason};
use wharf_store::{
    Claim, Merge, Meta, Result,
    rows::{from_json, to_json, uid},
    rules,
    tables::{Cell, Counters, Kind, Row, Rows, Snapshot, TABLES, Table, floor_key, key_of},
};

use crate::{
    PostgresStore,
    error::{Db, DbError},
    events,
    lock::Lock,
    queue, services,
};

#[async_trait]
impl Meta for PostgresStore {
    async fn meta(&self, key: &str) -> Result<Option<String>> {
        let mut reader = self.reader().await?;
        let value = query_scalar("SELECT value FROM meta WHERE key = $1").bind(key).fetch_optional(&mut *reader).await;
        Ok(value.map_err(DbError::from)?)
    }

    async fn set_meta(&self, key: &str, value: Option<&str>) -> Result<()> {
        let (key, value) = (key.to_owned(), value.map(str::to_owned));
        self.write(move |c| {
            Box::pin(async move {
                match value {
                    Some(value) => query(
                        "INSERT INTO meta (key, value) VALUES ($1, $2) ON CONFLICT (key) DO UPDATE SET value = $2",
                    )
                    .bind(key)
                    .bind(value),
                    None => query("DELETE FROM meta WHERE key = $1").bind(key),
                }
                .execute(&mut *c)
                .await?;
                Ok(())
            })
        })
        .await
    }

    async fn stop_all(&self, reason: Reason, now: Millis) -> Result<u64> {
        self.write(move |c| Box::pin(async move { stop_all(c, &reason, now).await })).await
    }

    async fn merge(&self, merge: Merge) -> Result<()> {
        self.write(move |c| {
            Box::pin(async move {
                Lock::Numbers(&merge.server).take(c).await?;
                for (vmid, why) in merge.burnt {
                    query("INSERT INTO foreign_vmid (server, vmid, why) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING")
                        .bind(&merge.server)
                        .bind(i64::from(vmid))
                        .bind(why)
                        .execute(&mut *c)
                        .await?;
                }
                let above = merge.above.max(above(c, &merge.server).await?);
                query("INSERT INTO meta (key, value) VALUES ($1, $2) ON CONFLICT (key) DO UPDATE SET value = $2")
                    .bind(floor_key(&merge.server))
                    .bind(above.to_string())
                    .execute(&mut *c)
                    .await?;
                for lease in merge.resting {
                    crate::addresses::rest(c, &lease).await?;
                }
                Ok(())
            })
        })
        .await
    }
}

/// The greatest number that was seen on the server when restored books were merged with it.
pub(crate) async fn above(c: &mut PgConnection, server: &str) -> Db<u32> {
    let value: Option<String> =
        query_scalar("SELECT value FROM meta WHERE key = $1").bind(floor_key(server)).fetch_optional(&mut *c).await?;
    Ok(value.and_then(|v| v.parse().ok()).unwrap_or(0))
}

/// Numbers that are taken there by what these books do not know.
pub(crate) async fn foreign(c: &mut PgConnection, server: &str, first: u32) -> Db<Vec<i64>> {
    Ok(query_scalar("SELECT vmid FROM foreign_vmid WHERE server = $1 AND vmid >= $2")
        .bind(server)
        .bind(i64::from(first))
        .fetch_all(&mut *c)
        .await?)
}

/// In one transaction, whole: no host works on these books, so no order of locks is broken.
async fn stop_all(c: &mut PgConnection, reason: &Reason, now: Millis) -> Db<u64> {
    unbounded(c).await?;
    let owner = Uuid::new_v4();
    let mut stopped = 0;
    loop {
        // Each end may make the next operation of the service live: again, until none is left.
        let taken: Vec<(String, i64)> = query_as(
            "UPDATE queue SET owner = $1, epoch = epoch + 1, rev = rev + 1, preempted = 0, nudged = 0, wait_slot = NULL
             RETURNING operation_id, epoch",
        )
        .bind(owner.to_string())
        .fetch_all(&mut *c)
        .await?;
        if taken.is_empty() {
            return Ok(stopped);
        }
        for (id, epoch) in taken {
            let operation = uid(&id)?;
            let there = services::operation(c, operation).await?.ok_or_else(|| rules::no_operation(operation))?;
            let service =
                services::service(c, there.service_id).await?.ok_or_else(|| rules::no_service(there.service_id))?;
            let claim = Claim { operation, owner, epoch };
            queue::commit::commit(c, rules::stop(claim, &service, &there, reason, now)).await?;
            stopped += 1;
        }
    }
}

/// Takes the limits off that hosts work under.
async fn unbounded(c: &mut PgConnection) -> Db<()> {
    for setting in ["statement_timeout", "idle_in_transaction_session_timeout"] {
        query(AssertSqlSafe(format!("SET LOCAL {setting} = 0"))).execute(&mut *c).await?;
    }
    Ok(())
}

#[async_trait]
impl Rows for PostgresStore {
    async fn snapshot(&self) -> Result<Box<dyn Snapshot>> {
        let mut reader = self.reader().await?;
        query("BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY").execute(&mut *reader).await.map_err(DbError::from)?;
        let look = Look::begin(reader).await?;
        Ok(Box::new(look))
    }

    async fn write_rows(&self, table: &'static Table, rows: Vec<Row>) -> Result<()> {
        if rows.is_empty() {
            return Ok(());
        }
        self.write(move |c| {
            Box::pin(async move {
                use sqlx::Arguments;
                let count = rows.len();
                let mut columns: Vec<Vec<Cell>> = table.columns.iter().map(|_| Vec::with_capacity(count)).collect();
                for row in rows {
                    for (column, cell) in columns.iter_mut().zip(row) {
                        column.push(cell);
                    }
                }
                let mut arguments = PgArguments::default();
                let mut arrays = Vec::with_capacity(columns.len());
                for (at, (column, (_, kind))) in columns.into_iter().zip(table.columns).enumerate() {
                    let (added, of) = match kind {
                        Kind::Int => (arguments.add(column.into_iter().map(int).collect::<Vec<_>>()), "bigint"),
                        Kind::Text => (arguments.add(column.into_iter().map(text).collect::<Vec<_>>()), "text"),
                        Kind::Bytes => (arguments.add(column.into_iter().map(bytes).collect::<Vec<_>>()), "bytea"),
                    };
                    added.map_err(|error| DbError::Sql(sqlx::Error::Encode(error)))?;
                    arrays.push(format!("${}::{of}[]", at + 1));
                }
                let names: Vec<&str> = table.columns.iter().map(|(name, _)| *name).collect();
                let sql = format!(
                    "INSERT INTO {} ({}) SELECT * FROM UNNEST({})",
                    table.name,
                    names.join(", "),
                    arrays.join(", ")
                );
                sqlx::query_with(AssertSqlSafe(sql), arguments).execute(&mut *c).await?;
                Ok(())
            })
        })
        .await
    }

    async fn clear(&self) -> Result<()> {
        self.write(|c| {
            Box::pin(async move {
                let names: Vec<&str> = TABLES.iter().map(|table| table.name).collect();
                let sql = format!("TRUNCATE {}, pending", names.join(", "));
                query(AssertSqlSafe(sql)).execute(&mut *c).await?;
                query("UPDATE publisher SET event_seq = 0, audit_seq = 0").execute(&mut *c).await?;
                Ok(())
            })
        })
        .await
    }

    async fn set_counters(&self, counters: Counters) -> Result<()> {
        self.write(move |c| {
            Box::pin(async move {
                query("UPDATE publisher SET event_seq = GREATEST(event_seq, $1), audit_seq = GREATEST(audit_seq, $2)")
                    .bind(counters.event)
                    .bind(counters.audit)
                    .execute(&mut *c)
                    .await?;
                // Places in the line for slots go on after those that stand in it.
                query(
                    "SELECT setval('ticket', GREATEST((SELECT COALESCE(MAX(ticket), 0) FROM queue),
                        (SELECT last_value FROM ticket)) + 1, false)",
                )
                .execute(&mut *c)
                .await?;
                Ok(())
            })
        })
        .await
    }
}

fn int(cell: Cell) -> Option<i64> {
    match cell {
        Cell::Int(n) => Some(n),
        _ => None,
    }
}

fn text(cell: Cell) -> Option<String> {
    match cell {
        Cell::Text(text) => Some(text),
        _ => None,
    }
}

fn bytes(cell: Cell) -> Option<Vec<u8>> {
    match cell {
        Cell::Bytes(bytes) => Some(bytes),
        _ => None,
    }
}

/// A reading transaction. Dropped, its connection is closed: nobody inherits what it has begun.
struct Look {
    reader: PoolConnection<Postgres>,
    counters: Counters,
    /// Rows that `pending` stands for, by table. Their numbers are greater than any in the tables.
    unnumbered: BTreeMap<&'static str, Vec<Row>>,
}

impl Drop for Look {
    fn drop(&mut self) {
        self.reader.close_on_drop();
    }
}

impl Look {
    async fn begin(mut reader: PoolConnection<Postgres>) -> Db<Self> {
        unbounded(&mut reader).await?;
        let (event, audit): (i64, i64) =
            query_as("SELECT event_seq, audit_seq FROM publisher WHERE one = 1").fetch_one(&mut *reader).await?;
        let pending: Vec<(String, i64, String)> =
            query_as("SELECT kind, at_ms, body FROM pending ORDER BY id").fetch_all(&mut *reader).await?;
        let objects: Vec<(String, String)> =
            query_as("SELECT name, body FROM object WHERE kind = 'hook' ORDER BY name").fetch_all(&mut *reader).await?;
        let mut hooks: Vec<(String, serde_json::Value)> = Vec::with_capacity(objects.len());
        for (name, body) in objects {
            hooks.push((name, from_json(&body, "object.body")?));
        }
        let mut look = Self { reader, counters: Counters { event, audit }, unnumbered: BTreeMap::new() };
        for (kind, at_ms, body) in pending {
            look.number(&kind, at_ms, &body, &hooks)?;
        }
        Ok(look)
    }

    /// As the publisher would.
    fn number(&mut self, kind: &str, at_ms: i64, body: &str, hooks: &[(String, serde_json::Value)]) -> Db<()> {
        let some = |text: Option<String>| text.map_or(Cell::Null, Cell::Text);
        if kind == events::AUDIT {
            self.counters.audit += 1;
            let (actor, action, subject, body): (String, String, String, serde_json::Value) =
                from_json(body, "pending.body")?;
            let body = to_json(&body, "audit.body")?;
            let texts = [actor, action, subject, body].map(Cell::Text);
            let row = [Cell::Int(self.counters.audit), Cell::Int(at_ms)].into_iter().chain(texts).collect();
            self.unnumbered.entry("audit").or_default().push(row);
            return Ok(());
        }
        self.counters.event += 1;
        let seq = Cell::Int(self.counters.event);
        let (id, event): (Uuid, NewEvent) = from_json(body, "pending.body")?;
        let wanted = rules::hooks_for(hooks.iter().map(|(name, body)| (name.as_str(), body)), &event);
        let service = some(event.service_id.map(|s| s.to_string()));
        let data = to_json(&event.data, "event.data")?;
        self.unnumbered.entry("event").or_default().push(vec![
            seq.clone(),
            Cell::Text(id.to_string()),
            Cell::Int(at_ms),
            Cell::Text(event.kind),
            service.clone(),
            some(event.panel),
            Cell::Text(event.subject),
            Cell::Int(i64::from(event.generation)),
            Cell::Text(data),
        ]);
        let mut wanted = wanted;
        wanted.sort();
        for hook in wanted {
            self.unnumbered.entry("delivery").or_default().push(vec![
                seq.clone(),
                Cell::Text(hook),
                service.clone(),
                Cell::Int(0),
                Cell::Int(at_ms),
                Cell::Null,
                Cell::Int(0),
            ]);
        }
        Ok(())
    }

    /// Those after this key.
    fn unnumbered(&self, table: &Table, after: Option<&[Cell]>) -> Vec<Row> {
        let rows = self.unnumbered.get(table.name).map(Vec::as_slice).unwrap_or_default();
        // Of what has not been numbered every key begins with the number.
        let key = |row: &Row| match key_of(table, row).as_slice() {
            [Cell::Int(seq), Cell::Text(hook)] => (*seq, hook.clone()),
            [Cell::Int(seq), ..] => (*seq, String::new()),
            _ => (i64::MAX, String::new()),
        };
        let after = match after {
            Some([Cell::Int(seq), Cell::Text(hook)]) => (*seq, hook.clone()),
            Some([Cell::Int(seq), ..]) => (*seq, String::new()),
            _ => (i64::MIN, String::new()),
        };
        rows.iter().filter(|row| key(row) > after).cloned().collect()
    }
}

#[async_trait]
impl Snapshot for Look {
    async fn page(&mut self, table: &Table, after: Option<&[Cell]>) -> Result<Vec<Row>> {
        use sqlx::Arguments;
        let columns: Vec<&str> = table.columns.iter().map(|(name, _)| *name).collect();
        let key = table.key.join(", ");
        let mut arguments = PgArguments::default();
        let mut sql = format!("SELECT {} FROM {}", columns.join(", "), table.name);
        if let Some(after) = after {
            let marks: Vec<String> = (1..=after.len()).map(|n| format!("${n}")).collect();
            sql = format!("{sql} WHERE ({key}) > ({})", marks.join(", "));
            for cell in after {
                let added = match cell {
                    Cell::Null => arguments.add(Option::<i64>::None),
                    Cell::Int(n) => arguments.add(*n),
                    Cell::Text(text) => arguments.add(text.clone()),
                    Cell::Bytes(bytes) => arguments.add(bytes.clone()),
                };
                added.map_err(|error| DbError::Sql(sqlx::Error::Encode(error)))?;
            }
        }
        sql = format!("{sql} ORDER BY {key} LIMIT {}", table.page);
        let rows = sqlx::query_with(AssertSqlSafe(sql), arguments)
            .fetch_all(&mut *self.reader)
            .await
            .map_err(DbError::from)?;
        let mut page = rows.iter().map(|row| cells(row, table)).collect::<Db<Vec<Row>>>()?;
        if page.len() < table.page {
            let room = table.page - page.len();
            page.extend(self.unnumbered(table, after).into_iter().take(room));
        }
        Ok(page)
    }

    async fn last_key(&mut self, table: &Table) -> Result<Option<Vec<Cell>>> {
        if let Some(row) = self.unnumbered.get(table.name).and_then(|rows| rows.last()) {
            return Ok(Some(key_of(table, row)));
        }
        let columns: Vec<&str> = table.columns.iter().map(|(name, _)| *name).collect();
        let order: Vec<String> = table.key.iter().map(|name| format!("{name} DESC")).collect();
        let sql = format!("SELECT {} FROM {} ORDER BY {} LIMIT 1", columns.join(", "), table.name, order.join(", "));
        let row = query(AssertSqlSafe(sql)).fetch_optional(&mut *self.reader).await.map_err(DbError::from)?;
        Ok(row.map(|row| cells(&row, table)).transpose()?.map(|row| key_of(table, &row)))
    }

    async fn count(&mut self, table: &Table) -> Result<u64> {
        let sql = format!("SELECT COUNT(*) FROM {}", table.name);
        let count: i64 = query_scalar(AssertSqlSafe(sql)).fetch_one(&mut *self.reader).await.map_err(DbError::from)?;
        let more = self.unnumbered.get(table.name).map_or(0, Vec::len);
        Ok(u64::try_from(count).unwrap_or(0).saturating_add(u64::try_from(more).unwrap_or(0)))
    }

    async fn counters(&mut self) -> Result<Counters> {
        Ok(self.counters)
    }
}

fn cells(row: &PgRow, table: &Table) -> Db<Row> {
    let mut cells = Vec::with_capacity(table.columns.len());
    for (at, (_, kind)) in table.columns.iter().enumerate() {
        cells.push(match kind {
            Kind::Int => row.try_get::<Option<i64>, _>(at)?.map_or(Cell::Null, Cell::Int),
            Kind::Text => row.try_get::<Option<String>, _>(at)?.map_or(Cell::Null, Cell::Text),
            Kind::Bytes => row.try_get::<Option<Vec<u8>>, _>(at)?.map_or(Cell::Null, Cell::Bytes),
        });
    }
    Ok(cells)
}
