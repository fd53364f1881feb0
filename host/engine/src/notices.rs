//! Tells live readers of this process that something was committed. A hint only: what changed is read from the books, so a
//! missed or doubled notice harms nobody.

use tokio::sync::broadcast;
use wharf_model::operation::OperationId;

/// What was committed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Notice {
    /// This operation has new log entries or another status.
    Operation(OperationId),
    /// The event feed has grown.
    Events,
}

/// Where to listen.
#[derive(Debug, Clone)]
pub struct Notices(broadcast::Sender<Notice>);

impl Default for Notices {
    fn default() -> Self {
        // A reader that lags more than this reads the books anyway.
        Self(broadcast::channel(1024).0)
    }
}

impl Notices {
    pub fn listen(&self) -> broadcast::Receiver<Notice> {
        self.0.subscribe()
    }

    pub(crate) fn tell(&self, notice: Notice) {
        // Nobody listening is the usual case.
        let _ = self.0.send(notice);
    }
}
