//! The one writer: many requests in one transaction and one fsync.
//!
//! A task owns the only writing connection. It takes what has piled up (at most [`BATCH`] requests), runs each in a
//! savepoint of its own within one `BEGIN IMMEDIATE`, and answers all of them after `COMMIT` succeeded: nobody hears of
//! anything that is not on disk, not even of a refusal that rests on another request of the same batch. A request that
//! fails takes back its own savepoint only. If the transaction itself can't begin or commit, everybody gets
//! `Unavailable` and nothing is written. A request whose asker has gone before it began is left out.

use std::panic::AssertUnwindSafe;

use futures::{FutureExt, future::BoxFuture};
use sqlx::{ConnectOptions, Connection, SqliteConnection, sqlite::SqliteConnectOptions};
use tokio::sync::{mpsc, oneshot};
use wharf_store::{Result, StoreError};

use crate::error::{Db, DbError};

/// Requests in one transaction, at most: bounds how long the first of them waits for the last.
const BATCH: usize = 256;
/// Requests waiting, at most; askers beyond wait for a place.
const WAITING: usize = 4_096;

/// Tells the asker how it ended; gets the reason if the transaction was lost.
type Answer = Box<dyn FnOnce(Option<&str>) + Send>;

struct Done {
    /// What went wrong in it, in words.
    failure: Option<String>,
    answer: Answer,
}

type Work = Box<dyn for<'c> FnOnce(&'c mut SqliteConnection) -> BoxFuture<'c, Option<Done>> + Send>;

/// A handle on the writer. The task ends when the last handle is dropped.
#[derive(Clone)]
pub(crate) struct Writer {
    requests: mpsc::Sender<Work>,
}

impl Writer {
    pub(crate) fn start(connection: SqliteConnection, options: SqliteConnectOptions) -> Self {
        let (requests, waiting) = mpsc::channel(WAITING);
        tokio::spawn(run(connection, options, waiting));
        Self { requests }
    }

    /// Runs `work` in a transaction. When it returns `Ok`, it is on disk.
    pub(crate) async fn run<T, F>(&self, work: F) -> Result<T>
    where
        T: Send + 'static,
        F: for<'c> FnOnce(&'c mut SqliteConnection) -> BoxFuture<'c, Db<T>> + Send + 'static,
    {
        let (reply, answer) = oneshot::channel::<Result<T>>();
        let request: Work = Box::new(move |connection| {
            Box::pin(async move {
                if reply.is_closed() {
                    return None;
                }
                // `work` itself may panic too: a caller's decision runs in it.
                let attempt = AssertUnwindSafe(async move { work(connection).await }).catch_unwind().await;
                let result = attempt.map_or_else(
                    |_| {
                        let message = "a request to the store panicked; nothing was written for it";
                        Err(StoreError::Corrupt(message.into()))
                    },
                    |result| result.map_err(StoreError::from),
                );
                let failure = result.as_ref().err().map(ToString::to_string);
                let answer: Answer = Box::new(move |lost| {
                    let result = match lost {
                        Some(reason) => Err(StoreError::Unavailable(reason.to_owned())),
                        None => result,
                    };
                    // The asker may have gone; what was written stays written.
                    let _ = reply.send(result);
                });
                Some(Done { failure, answer })
            })
        });
        let gone = || StoreError::Unavailable("the store is shut down".into());
        self.requests.send(request).await.map_err(|_| gone())?;
        let unbegun = |_| StoreError::Unavailable("the transaction could not begin; nothing was written".into());
        answer.await.map_err(unbegun)?
    }
}

async fn run(connection: SqliteConnection, options: SqliteConnectOptions, mut waiting: mpsc::Receiver<Work>) {
    let mut connection = Some(connection);
    let mut batch = Vec::with_capacity(BATCH);
    while waiting.recv_many(&mut batch, BATCH).await > 0 {
        let mut own = match connection.take() {
            Some(connection) => connection,
            None => match options.connect().await {
                Ok(connection) => connection,
                Err(error) => {
                    tracing::error!(%error, "the writing connection can't be opened again");
                    // Nobody of this batch was begun: dropping them tells them so.
                    batch.clear();
                    continue;
                }
            },
        };
        let mut answers = Vec::with_capacity(batch.len());
        let lost = transaction(&mut own, batch.drain(..), &mut answers).await.err();
        let reason = lost.map(|error| {
            tracing::warn!(%error, begun = answers.len(), "a transaction was lost; nothing of it was written");
            format!("the transaction was not committed: {error}")
        });
        match &reason {
            None => connection = Some(own),
            Some(_) => {
                // Rolled back by SQLite already or by this; a connection that can't even do that is closed.
                let rolled_back = sqlx::query("ROLLBACK").execute(&mut own).await;
                let clean = match rolled_back {
                    Ok(_) => true,
                    Err(sqlx::Error::Database(error)) => error.message().contains("no transaction is active"),
                    Err(_) => false,
                };
                if clean {
                    connection = Some(own);
                } else {
                    let _ = own.close_hard().await;
                }
            }
        }
        for answer in answers {
            answer(reason.as_deref());
        }
    }
    if let Some(connection) = connection
        && let Err(error) = connection.close().await
    {
        tracing::warn!(%error, "the writing connection was not closed cleanly");
    }
}

/// One batch. On `Err` (why, in words) nothing was committed.
async fn transaction(
    connection: &mut SqliteConnection,
    batch: impl Iterator<Item = Work>,
    answers: &mut Vec<Answer>,
) -> Result<(), String> {
    run_sql(connection, "BEGIN IMMEDIATE").await?;
    for work in batch {
        // If one fails, the rest is dropped unbegun, which tells their askers so.
        savepoint(connection, work, answers).await?;
    }
    run_sql(connection, "COMMIT").await
}

async fn savepoint(connection: &mut SqliteConnection, work: Work, answers: &mut Vec<Answer>) -> Result<(), String> {
    run_sql(connection, "SAVEPOINT request").await?;
    let done = work(&mut *connection).await;
    let failure = match done {
        Some(done) => {
            answers.push(done.answer);
            done.failure
        }
        // Nobody waits for it any more: it was not begun.
        None => None,
    };
    if let Some(failure) = failure {
        // A full disk may have rolled back the whole transaction: then there is no savepoint either, and its cause is the
        // failure itself.
        run_sql(connection, "ROLLBACK TO request").await.map_err(|_| failure)?;
    }
    run_sql(connection, "RELEASE request").await
}

async fn run_sql(connection: &mut SqliteConnection, sql: &'static str) -> Result<(), String> {
    sqlx::query(sql)
        .execute(connection)
        .await
        .map(|_| ())
        .map_err(|error| StoreError::from(DbError::Sql(error)).to_string())
}
