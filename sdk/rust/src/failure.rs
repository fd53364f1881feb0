//! Makes [`Failure`]s in one line. A code is stable kebab-case, a message one plain sentence for an admin.

use crate::{Action, Failure};

impl Failure {
    /// A failure without wait or extras.
    pub fn new(action: Action, code: impl Into<String>, message: impl Into<String>) -> Self {
        Self { action, code: code.into(), message: message.into(), retry_after_ms: None, ext: Vec::new() }
    }

    /// What was ordered or entered is wrong.
    pub fn fix_input(code: impl Into<String>, message: impl Into<String>) -> Self {
        Self::new(Action::FixInput, code, message)
    }

    /// A setting, a credential or a privilege is wrong: an admin has to change it.
    pub fn fix_config(code: impl Into<String>, message: impl Into<String>) -> Self {
        Self::new(Action::FixConfig, code, message)
    }

    /// Expected contention: ask again later.
    pub fn busy(code: impl Into<String>, message: impl Into<String>) -> Self {
        Self::new(Action::Busy, code, message)
    }

    /// A passing fault: ask again later.
    pub fn retry(code: impl Into<String>, message: impl Into<String>) -> Self {
        Self::new(Action::Retry, code, message)
    }

    /// It can't be known whether it happened.
    pub fn unknown(code: impl Into<String>, message: impl Into<String>) -> Self {
        Self::new(Action::Unknown, code, message)
    }

    /// The other side answered something that this plugin does not understand.
    pub fn report_bug(code: impl Into<String>, message: impl Into<String>) -> Self {
        Self::new(Action::ReportBug, code, message)
    }

    /// Says when it is worth asking again, in milliseconds.
    #[must_use]
    pub fn after_ms(mut self, ms: u32) -> Self {
        self.retry_after_ms = Some(ms);
        self
    }

    /// Adds one open key-value pair.
    #[must_use]
    pub fn with(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.ext.push((key.into(), value.into()));
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_carries_what_was_said() {
        let failure = Failure::busy("locked", "The VM is locked.").after_ms(500).with("lock", "backup");
        assert_eq!(failure.action, Action::Busy);
        assert_eq!(failure.retry_after_ms, Some(500));
        assert_eq!(crate::ext_get(&failure.ext, "lock"), Some("backup"));
    }
}
