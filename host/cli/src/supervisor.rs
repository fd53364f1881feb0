//! What a service manager that started this process is told, and what it hands over.
//!
//! Without one (no `NOTIFY_SOCKET`, no `CREDENTIALS_DIRECTORY`) nothing here does anything. The watchdog is fed by a task of
//! the runtime that does the work: a runtime whose workers are all blocked feeds it no more. It asks no peer: an outage of
//! the books or of Proxmox is nothing that a restart of this process would mend.

use std::path::{Path, PathBuf};

use sd_notify::NotifyState;

/// The credential that holds the master key, as `LoadCredential=` of the unit names it.
pub const MASTER_KEY: &str = "master.key";

/// The socket is open: the unit is up. Feeds the watchdog from now on, if there is one.
pub fn ready(address: &str) {
    tell(&[NotifyState::Ready, NotifyState::Status(&format!("serving on {address}"))]);
    // Twice in the time there is, as sd_watchdog_enabled(3) advises.
    if let Some(half) = sd_notify::watchdog_enabled().map(|within| within / 2).filter(|half| !half.is_zero()) {
        tokio::spawn(async move {
            let mut every = tokio::time::interval(half);
            loop {
                every.tick().await;
                tell(&[NotifyState::Watchdog]);
            }
        });
    }
}

/// The end has begun.
pub fn stopping() {
    tell(&[NotifyState::Stopping]);
}

fn tell(state: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(state) {
        tracing::warn!(%error, "the service manager can't be told what this process does");
    }
}

/// The master key that the service manager hands over, if it does. It lies in a folder that only this process's user can
/// enter, in memory; its mode bits say nothing (an access list lets the user in, and shows as `group may read`).
pub fn master_key() -> Option<PathBuf> {
    credential(std::env::var_os("CREDENTIALS_DIRECTORY").as_deref().map(Path::new))
}

fn credential(folder: Option<&Path>) -> Option<PathBuf> {
    folder.map(|f| f.join(MASTER_KEY)).filter(|f| f.exists())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_credential_counts_only_if_it_was_handed_over() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(credential(None), None);
        assert_eq!(credential(Some(dir.path())), None);
        let file = dir.path().join(MASTER_KEY);
        std::fs::write(&file, "x").unwrap();
        assert_eq!(credential(Some(dir.path())), Some(file));
    }
}
