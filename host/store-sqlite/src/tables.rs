//! The books as rows, and what is to be known of them.

use async_trait::async_trait;
use sqlx::{
    AssertSqlSafe, QueryBuilder, Row as _, Sqlite, SqliteConnection,
    pool::PoolConnection,
    query, query_as, query_scalar,
    sqlite::{SqliteArguments, SqliteRow},
};
use uuid::Uuid;
use wharf_model::{Millis, operation::Reason};
use wharf_store::{
    Claim, Merge, Meta, Result,
    rows::uid,
    rules,
    tables::{Cell, Counters, Kind, Row, Rows, Snapshot, TABLES, Table, floor_key},
};

use crate::{
    SqliteStore,
    error::{Db, DbError},
    queue, services,
};

/// Values in one statement, at most; SQLite itself takes 32,766.
const VALUES: usize = 4_000;

#[async_trait]
impl Meta for SqliteStore {
    async fn meta(&self, key: &str) -> Result<Option<String>> {
        let mut reader = self.reader().await?;
        let value = query_scalar("SELECT value FROM meta WHERE key = ?1").bind(key).fetch_optional(&mut *reader).await;
        Ok(value.map_err(DbError::from)?)
    }

    async fn set_meta(&self, key: &str, value: Option<&str>) -> Result<()> {
        let (key, value) = (key.to_owned(), value.map(str::to_owned));
        self.writer
            .run(move |c| {
                Box::pin(async move {
                    match value {
                        Some(value) => query(
                            "INSERT INTO meta (key, value) VALUES (?1, ?2) ON CONFLICT (key) DO UPDATE SET value = ?2",
                        )
                        .bind(key)
                        .bind(value),
                        None => query("DELETE FROM meta WHERE key = ?1").bind(key),
                    }
                    .execute(&mut *c)
                    .await?;
                    Ok(())
                })
            })
            .await
    }

    async fn stop_all(&self, reason: Reason, now: Millis) -> Result<u64> {
        self.writer.run(move |c| Box::pin(async move { stop_all(c, &reason, now).await })).await
    }

    async fn merge(&self, merge: Merge) -> Result<()> {
        self.writer
            .run(move |c| {
                Box::pin(async move {
                    for (vmid, why) in merge.burnt {
                        query(
                            "INSERT INTO foreign_vmid (server, vmid, why) VALUES (?1, ?2, ?3) ON CONFLICT DO NOTHING",
                        )
                        .bind(&merge.server)
                        .bind(vmid)
                        .bind(why)
                        .execute(&mut *c)
                        .await?;
                    }
                    let above = merge.above.max(above(c, &merge.server).await?);
                    query("INSERT INTO meta (key, value) VALUES (?1, ?2) ON CONFLICT (key) DO UPDATE SET value = ?2")
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
pub(crate) async fn above(c: &mut SqliteConnection, server: &str) -> Db<u32> {
    let value: Option<String> =
        query_scalar("SELECT value FROM meta WHERE key = ?1").bind(floor_key(server)).fetch_optional(&mut *c).await?;
    Ok(value.and_then(|v| v.parse().ok()).unwrap_or(0))
}

/// Numbers that are taken there by what these books do not know.
pub(crate) async fn foreign(c: &mut SqliteConnection, server: &str, first: u32) -> Db<Vec<i64>> {
    Ok(query_scalar("SELECT vmid FROM foreign_vmid WHERE server = ?1 AND vmid >= ?2")
        .bind(server)
        .bind(first)
        .fetch_all(&mut *c)
        .await?)
}

async fn stop_all(c: &mut SqliteConnection, reason: &Reason, now: Millis) -> Db<u64> {
    let owner = Uuid::new_v4();
    let mut stopped = 0;
    loop {
        // Each end may make the next operation of the service live: again, until none is left.
        let taken: Vec<(String, i64)> = query_as(
            "UPDATE queue SET owner = ?1, epoch = epoch + 1, rev = rev + 1, preempted = 0, nudged = 0, wait_slot = NULL
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

#[async_trait]
impl Rows for SqliteStore {
    async fn snapshot(&self) -> Result<Box<dyn Snapshot>> {
        let mut reader = self.reader().await?;
        query("BEGIN").execute(&mut *reader).await.map_err(DbError::from)?;
        Ok(Box::new(Look { reader }))
    }

    async fn write_rows(&self, table: &'static Table, rows: Vec<Row>) -> Result<()> {
        self.writer
            .run(move |c| {
                Box::pin(async move {
                    let at_once = (VALUES / table.columns.len()).max(1);
                    let mut rows = rows.into_iter().peekable();
                    while rows.peek().is_some() {
                        let columns: Vec<&str> = table.columns.iter().map(|(name, _)| *name).collect();
                        let mut insert: QueryBuilder<Sqlite> =
                            QueryBuilder::new(format!("INSERT INTO {} ({}) ", table.name, columns.join(", ")));
                        insert.push_values(rows.by_ref().take(at_once), |mut to, row| {
                            for cell in row {
                                match cell {
                                    Cell::Null => to.push_bind(Option::<i64>::None),
                                    Cell::Int(n) => to.push_bind(n),
                                    Cell::Text(text) => to.push_bind(text),
                                    Cell::Bytes(bytes) => to.push_bind(bytes),
                                };
                            }
                        });
                        insert.build().execute(&mut *c).await?;
                    }
                    Ok(())
                })
            })
            .await
    }

    async fn clear(&self) -> Result<()> {
        self.writer
            .run(|c| {
                Box::pin(async move {
                    for table in TABLES.iter().rev() {
                        query(AssertSqlSafe(format!("DELETE FROM {}", table.name))).execute(&mut *c).await?;
                    }
                    Ok(())
                })
            })
            .await
    }

    async fn set_counters(&self, counters: Counters) -> Result<()> {
        self.writer
            .run(move |c| {
                Box::pin(async move {
                    let there = read_counters(c).await?;
                    for (name, seq) in
                        [("event", counters.event.max(there.event)), ("audit", counters.audit.max(there.audit))]
                    {
                        // https://www.sqlite.org/autoinc.html: an ordinary table, without a unique key.
                        query("DELETE FROM sqlite_sequence WHERE name = ?1").bind(name).execute(&mut *c).await?;
                        query("INSERT INTO sqlite_sequence (name, seq) VALUES (?1, ?2)")
                            .bind(name)
                            .bind(seq)
                            .execute(&mut *c)
                            .await?;
                    }
                    Ok(())
                })
            })
            .await
    }
}

async fn read_counters(c: &mut SqliteConnection) -> Db<Counters> {
    let rows: Vec<(String, i64)> = query_as("SELECT name, seq FROM sqlite_sequence").fetch_all(&mut *c).await?;
    let of = |name: &str| rows.iter().find(|(n, _)| n == name).map_or(0, |(_, seq)| *seq);
    Ok(Counters { event: of("event"), audit: of("audit") })
}

/// A reading transaction. Dropped, its connection is closed: nobody inherits what it has begun.
struct Look {
    reader: PoolConnection<Sqlite>,
}

impl Drop for Look {
    fn drop(&mut self) {
        self.reader.close_on_drop();
    }
}

#[async_trait]
impl Snapshot for Look {
    async fn page(&mut self, table: &Table, after: Option<&[Cell]>) -> Result<Vec<Row>> {
        let columns: Vec<&str> = table.columns.iter().map(|(name, _)| *name).collect();
        let key = table.key.join(", ");
        let mut arguments = SqliteArguments::default();
        let mut sql = format!("SELECT {} FROM {}", columns.join(", "), table.name);
        if let Some(after) = after {
            let marks: Vec<&str> = after.iter().map(|_| "?").collect();
            sql = format!("{sql} WHERE ({key}) > ({})", marks.join(", "));
            for cell in after {
                bind(&mut arguments, cell)?;
            }
        }
        sql = format!("{sql} ORDER BY {key} LIMIT {}", table.page);
        let rows = sqlx::query_with(AssertSqlSafe(sql), arguments)
            .fetch_all(&mut *self.reader)
            .await
            .map_err(DbError::from)?;
        Ok(rows.iter().map(|row| cells(row, table)).collect::<Db<_>>()?)
    }

    async fn last_key(&mut self, table: &Table) -> Result<Option<Vec<Cell>>> {
        let columns: Vec<&str> = table.columns.iter().map(|(name, _)| *name).collect();
        let order: Vec<String> = table.key.iter().map(|name| format!("{name} DESC")).collect();
        let sql = format!("SELECT {} FROM {} ORDER BY {} LIMIT 1", columns.join(", "), table.name, order.join(", "));
        let row = query(AssertSqlSafe(sql)).fetch_optional(&mut *self.reader).await.map_err(DbError::from)?;
        Ok(row.map(|row| cells(&row, table)).transpose()?.map(|row| wharf_store::tables::key_of(table, &row)))
    }

    async fn count(&mut self, table: &Table) -> Result<u64> {
        let sql = format!("SELECT COUNT(*) FROM {}", table.name);
        let count: i64 = query_scalar(AssertSqlSafe(sql)).fetch_one(&mut *self.reader).await.map_err(DbError::from)?;
        Ok(u64::try_from(count).unwrap_or(0))
    }

    async fn counters(&mut self) -> Result<Counters> {
        Ok(read_counters(&mut self.reader).await?)
    }
}

fn bind(arguments: &mut SqliteArguments, cell: &Cell) -> Db<()> {
    use sqlx::Arguments;
    let added = match cell {
        Cell::Null => arguments.add(Option::<i64>::None),
        Cell::Int(n) => arguments.add(*n),
        Cell::Text(text) => arguments.add(text.clone()),
        Cell::Bytes(bytes) => arguments.add(bytes.clone()),
    };
    added.map_err(|error| DbError::Sql(sqlx::Error::Encode(error)))
}

fn cells(row: &SqliteRow, table: &Table) -> Db<Row> {
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
