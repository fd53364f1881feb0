//! Kill points: every edge between a commit and a call, named, so that tests can stop a host there.
//!
//! In production no hook is set and a point costs one atomic load.

use std::sync::{
    Arc, OnceLock,
    atomic::{AtomicBool, Ordering},
};

use futures::future::BoxFuture;

/// What a test does at an edge: returning lets the host go on; a future that never ends is a host that froze or died.
pub type Hook = Arc<dyn Fn(&'static str) -> BoxFuture<'static, ()> + Send + Sync>;

/// Where hooks are set.
#[derive(Default)]
pub struct KillPoints {
    armed: AtomicBool,
    hook: OnceLock<Hook>,
}

impl KillPoints {
    /// Set once, before the engine runs.
    pub fn set(&self, hook: Hook) {
        if self.hook.set(hook).is_ok() {
            self.armed.store(true, Ordering::Release);
        }
    }

    /// An edge.
    pub(crate) async fn reach(&self, edge: &'static str) {
        if self.armed.load(Ordering::Acquire)
            && let Some(hook) = self.hook.get()
        {
            hook(edge).await;
        }
    }
}
