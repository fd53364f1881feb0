//! Copies whole books from one engine to another, so that an end in the middle can be gone on from.
//!
//! The destination is marked before its first row and unmarked after its last: `meta` holds `copying`, with what the source
//! came to when it began. Each page is one transaction; going on begins after the greatest key of each table. In the end
//! both are read anew and must come to the same, and the source must be what it was: nothing that ran meanwhile is lost
//! unnoticed. Time and disk bound it: everything is read three times.

use std::time::Instant;

use crate::{
    Meta, Result, StoreError,
    tables::{self, BooksDigest, COPYING, Cell, Row, Rows, Snapshot, TABLES, Table, belongs, key_of},
};

/// Books that can be copied from and to.
pub trait Copied: Rows + Meta {}
impl<T: Rows + Meta> Copied for T {}

/// What a copy came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Copy {
    pub digest: BooksDigest,
    /// Rows that were there already: a copy that was gone on with.
    pub found: u64,
    /// Rows that were written.
    pub written: u64,
}

/// Copies everything. `restart` throws an unfinished copy away first. `tell` hears of progress.
///
/// # Errors
/// `Conflict`: the destination holds something else; the source has changed; the two differ in the end.
pub async fn copy(from: &dyn Copied, to: &dyn Copied, restart: bool, tell: &(dyn Fn(String) + Sync)) -> Result<Copy> {
    if let Some(value) = from.meta(COPYING).await? {
        return Err(conflict(format!(
            "the source is itself an unfinished copy ({value}): finish that copy, or copy from where it came from"
        )));
    }
    let source = tables::digest(&mut *from.snapshot().await?).await?;
    let says = source.overall();
    tell(format!("the source holds {} rows, digest {says}", source.rows()));
    begin(to, &says, restart).await?;
    let done = rows(&mut *from.snapshot().await?, to, tell).await?;
    to.set_counters(source.counters).await?;
    if tables::digest(&mut *from.snapshot().await?).await? != source {
        return Err(conflict(
            "the source changed while it was copied: is a host at work on it? Stop it, then copy again with --restart"
                .into(),
        ));
    }
    verify(from, to, &source).await?;
    to.set_meta(COPYING, None).await?;
    Ok(Copy { digest: source, found: done.0, written: done.1 })
}

/// Copies one look at books that may be at work into empty ones.
///
/// # Errors
/// Books that can't be read or written.
pub async fn copy_snapshot(from: &dyn Rows, to: &dyn Copied, tell: &(dyn Fn(String) + Sync)) -> Result<BooksDigest> {
    let mut snapshot = from.snapshot().await?;
    rows(&mut *snapshot, to, tell).await?;
    to.set_counters(snapshot.counters().await?).await?;
    let source = tables::digest(&mut *snapshot).await?;
    let copy = tables::digest(&mut *to.snapshot().await?).await?;
    if source != copy {
        return Err(StoreError::Corrupt("what was written is not what was read: try again, and check the disk".into()));
    }
    Ok(source)
}

async fn begin(to: &dyn Copied, source: &str, restart: bool) -> Result<()> {
    match to.meta(COPYING).await? {
        Some(_) if restart => to.clear().await?,
        Some(there) if there == source => return Ok(()),
        Some(_) => {
            return Err(conflict(
                "the destination holds an unfinished copy of other books, or the source has changed since it began: throw it \
                 away and begin anew with --restart"
                    .into(),
            ));
        }
        None => {
            let mut there = to.snapshot().await?;
            for table in TABLES {
                if there.last_key(table).await?.is_some() {
                    return Err(conflict(format!(
                        "the destination is not empty (`{}` has rows): copies go into new books only",
                        table.name
                    )));
                }
            }
        }
    }
    to.set_meta(COPYING, Some(source)).await
}

/// Rows that were there, and rows that were written.
async fn rows(from: &mut dyn Snapshot, to: &dyn Rows, tell: &(dyn Fn(String) + Sync)) -> Result<(u64, u64)> {
    let (begun, mut found, mut written) = (Instant::now(), 0, 0_u64);
    let mut told = begun;
    for table in TABLES {
        let (mut after, mut had) = there(to, table).await?;
        found += had;
        loop {
            let page = from.page(table, after.as_deref()).await?;
            let Some(last) = page.last() else { break };
            after = Some(key_of(table, last));
            let rows: Vec<Row> = page.into_iter().filter(|row| belongs(table, row)).collect();
            had = u64::try_from(rows.len()).unwrap_or(0);
            to.write_rows(table, rows).await?;
            written += had;
            if told.elapsed().as_secs() >= 2 {
                told = Instant::now();
                let rate =
                    written.saturating_mul(1_000) / u64::try_from(begun.elapsed().as_millis()).unwrap_or(1).max(1);
                tell(format!("{}: {written} rows written, {rate} rows/s", table.name));
            }
        }
    }
    Ok((found, written))
}

/// The greatest key that was copied, and how many rows there are.
async fn there(to: &dyn Rows, table: &Table) -> Result<(Option<Vec<Cell>>, u64)> {
    let mut snapshot = to.snapshot().await?;
    if table.name != "meta" {
        return Ok((snapshot.last_key(table).await?, snapshot.count(table).await?));
    }
    // The mark of the copy is among these few rows, and none of the books'.
    let rows = snapshot.page(table, None).await?;
    let rows: Vec<&Row> = rows.iter().filter(|row| belongs(table, row)).collect();
    Ok((rows.last().map(|row| key_of(table, row)), u64::try_from(rows.len()).unwrap_or(0)))
}

async fn verify(from: &dyn Rows, to: &dyn Rows, source: &BooksDigest) -> Result<()> {
    let copy = tables::digest(&mut *to.snapshot().await?).await?;
    for (table, (one, other)) in TABLES.iter().zip(source.tables.iter().zip(&copy.tables)) {
        if one != other {
            let key = first_difference(&mut *from.snapshot().await?, &mut *to.snapshot().await?, table).await?;
            return Err(conflict(format!(
                "the copy differs from the source in `{}`, first at {key}: begin anew with --restart",
                table.name
            )));
        }
    }
    if copy.counters != source.counters {
        return Err(conflict("the numbers of events or audit rows differ: begin anew with --restart".into()));
    }
    Ok(())
}

async fn first_difference(one: &mut dyn Snapshot, other: &mut dyn Snapshot, table: &Table) -> Result<String> {
    let mut after: Option<Vec<Cell>> = None;
    loop {
        let keep = |page: Vec<Row>| -> Vec<Row> { page.into_iter().filter(|row| belongs(table, row)).collect() };
        let (a, b) = (one.page(table, after.as_deref()).await?, other.page(table, after.as_deref()).await?);
        let next = a.last().map(|row| key_of(table, row));
        let (a, b) = (keep(a), keep(b));
        let differs = a.iter().zip(&b).find(|(a, b)| a != b).map(|(a, _)| a);
        let longer = if a.len() > b.len() { a.get(b.len()) } else { b.get(a.len()) };
        if let Some(row) = differs.or(longer) {
            return Ok(words(&key_of(table, row)));
        }
        let Some(next) = next else { return Ok("no row".into()) };
        after = Some(next);
    }
}

fn words(key: &[Cell]) -> String {
    let cells: Vec<String> = key
        .iter()
        .map(|cell| match cell {
            Cell::Null => "null".into(),
            Cell::Int(n) => n.to_string(),
            Cell::Text(text) => text.clone(),
            Cell::Bytes(bytes) => tables::hex(bytes),
        })
        .collect();
    cells.join(", ")
}

fn conflict(message: String) -> StoreError {
    StoreError::Conflict(message)
}
