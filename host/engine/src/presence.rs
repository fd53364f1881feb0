//! Several hosts on the same books: says that this one is alive, and hears what the others have committed.
//!
//! Nothing rests on either: a host that is not seen may be at work all the same (claims are what counts), and what was not
//! heard is found by the next sweep.

use std::{sync::Arc, time::Duration};

use tokio::sync::{
    broadcast::error::{RecvError, TryRecvError},
    watch,
};
use wharf_store::{Host, Signal};

use crate::{Engine, Notice};

/// How often a host says that it is alive. One that was not seen for four of these is shown as lost.
pub const SEEN_EVERY_MS: i64 = 5_000;
/// What arrives within this is looked at together: an admin's script that puts forty objects reloads the plugins once.
const TOGETHER: Duration = Duration::from_millis(50);

impl Engine {
    pub(crate) async fn presence_loop(self: Arc<Self>, mut stop: watch::Receiver<bool>) {
        let started_ms = self.clock.now_ms();
        let every = Duration::from_millis(u64::try_from(SEEN_EVERY_MS).unwrap_or(5_000));
        while !*stop.borrow() {
            let host = Host {
                id: self.owner,
                name: self.config.host_name.clone(),
                address: self.config.address.clone(),
                version: env!("CARGO_PKG_VERSION").into(),
                started_ms,
                seen_ms: self.clock.now_ms(),
            };
            if let Err(error) = self.books.host_seen(&host).await {
                tracing::debug!(%error, "can't say that this host is alive");
            }
            tokio::select! {
                biased;
                () = tokio::time::sleep(every) => {}
                changed = stop.changed() => if changed.is_err() { break },
            }
        }
        // Best effort: it is forgotten after a while anyway.
        let _ = self.books.host_gone(self.owner).await;
    }

    pub(crate) async fn signal_loop(self: Arc<Self>, mut stop: watch::Receiver<bool>) {
        let Some(mut signals) = self.books.signals() else { return };
        while !*stop.borrow() {
            let first = tokio::select! {
                biased;
                heard = signals.recv() => heard,
                changed = stop.changed() => if changed.is_err() { break } else { continue },
            };
            let mut heard = match first {
                Ok(signal) => vec![signal],
                Err(RecvError::Lagged(_)) => vec![Signal::All],
                Err(RecvError::Closed) => return,
            };
            // Work is woken at once; what is read anew for everybody can wait for what comes with it.
            self.heed(&heard);
            if heard.iter().any(|s| matches!(s, Signal::Objects | Signal::Plugins | Signal::All)) {
                tokio::time::sleep(TOGETHER).await;
                loop {
                    match signals.try_recv() {
                        Ok(signal) => heard.push(signal),
                        Err(TryRecvError::Lagged(_)) => heard.push(Signal::All),
                        Err(_) => break,
                    }
                }
                // Grants are objects.
                match self.runtime.refresh().await {
                    Ok(()) => self.heed(&heard),
                    Err(error) => {
                        tracing::warn!(%error, "can't read what was installed or granted on another host; trying again soon");
                        self.refresh_again().await;
                    }
                }
            }
        }
    }

    fn heed(&self, heard: &[Signal]) {
        for signal in heard {
            match signal {
                Signal::Queue => self.work.notify_one(),
                Signal::Records => self.dns_work.notify_one(),
                Signal::Events => {
                    self.delivery_work.notify_one();
                    self.notices.tell(Notice::Events);
                }
                Signal::Objects | Signal::Plugins => self.nudge(),
                Signal::All => {
                    self.nudge();
                    self.notices.tell(Notice::Events);
                }
            }
        }
    }

    /// The books may be away for a moment. After a while the next signal does it: their return is one.
    async fn refresh_again(&self) {
        for _ in 0..5 {
            tokio::time::sleep(Duration::from_secs(1)).await;
            if self.runtime.refresh().await.is_ok() {
                self.nudge();
                return;
            }
        }
    }
}
