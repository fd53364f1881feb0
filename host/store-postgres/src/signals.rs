//! Tells of what other hosts have committed: NOTIFY in the committing transaction, one LISTEN for each host.
//!
//! A hint only. What was missed while the connection was lost comes as [`Signal::All`]: look at everything.

use std::time::Duration;

use sqlx::{
    PgConnection,
    postgres::{PgConnectOptions, PgListener, PgPoolOptions},
    query,
};
use tokio::sync::broadcast;
use wharf_store::{Signal, Signals};

use crate::{PostgresStore, error::Db};

const CHANNEL: &str = "wharf";
/// Between two attempts to listen again.
const AGAIN: Duration = Duration::from_secs(1);

impl Signals for PostgresStore {
    fn signals(&self) -> Option<broadcast::Receiver<Signal>> {
        Some(self.signals.subscribe())
    }
}

/// Tells all hosts when this transaction commits. The same word said twice in a transaction is sent once.
pub(crate) async fn tell(c: &mut PgConnection, signal: Signal) -> Db<()> {
    query!("SELECT pg_notify($1, $2)", CHANNEL, signal.as_str()).execute(&mut *c).await?;
    Ok(())
}

/// Passes on what is heard, for ever.
pub(crate) async fn hear(options: PgConnectOptions, signals: broadcast::Sender<Signal>) {
    let mut told = false;
    loop {
        // A connection of its own, so that work which takes all others does not delay what wakes it.
        let pool = PgPoolOptions::new().max_connections(1).connect_lazy_with(options.clone());
        let ended = async {
            let mut listener = PgListener::connect_with(&pool).await?;
            listener.listen(CHANNEL).await?;
            // Before and between connections anything may have happened.
            let _ = signals.send(Signal::All);
            loop {
                match listener.try_recv().await? {
                    Some(notification) => {
                        if let Some(signal) = Signal::parse(notification.payload()) {
                            // Nobody listening is no fault.
                            let _ = signals.send(signal);
                        }
                    }
                    None => {
                        let _ = signals.send(Signal::All);
                    }
                }
            }
        };
        let ended: Result<(), sqlx::Error> = ended.await;
        if let Err(error) = ended
            && !std::mem::replace(&mut told, true)
        {
            tracing::warn!(%error, "can't listen to the other hosts; looking every few seconds until I can");
        }
        tokio::time::sleep(AGAIN).await;
    }
}
