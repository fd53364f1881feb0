//! What one step tells the next of the same operation.
//!
//! Everything in here can be lost without harm: the VM is looked at again and what differs is written again. Unknown
//! fields are ignored and missing ones have defaults, so neighbouring versions of the plugin read each other's memos.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Version of the layout. Another one is dropped, not guessed at.
pub const VERSION: u32 = 1;

/// A write that was submitted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Flight {
    /// The effect's id.
    pub id: String,
    /// The aim, as `Write::key` names it.
    pub key: String,
    /// The states that it satisfies when it succeeds.
    #[serde(default)]
    pub states: Vec<String>,
    /// `op.attempt()` at the time.
    #[serde(default)]
    pub attempt: u32,
    /// Fingerprint of the password that it sets, if it sets one.
    #[serde(default)]
    pub password: Option<String>,
}

/// Where the VM is to end up, decided when it is cloned.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Placed {
    /// Node to migrate to; none = it stays where it was cloned.
    pub target: Option<String>,
    /// Why, in plain words.
    pub reason: String,
}

/// The memo.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Memo {
    pub v: u32,
    pub flight: Option<Flight>,
    /// State → id of the effect that satisfied it.
    pub effects: BTreeMap<String, String>,
    pub placed: Option<Placed>,
    /// When things began (wall clock, ms): DNS, start, shutdown, hard stop, proof of absence.
    pub dns_since_ms: Option<u64>,
    pub started_ms: Option<u64>,
    pub stop_since_ms: Option<u64>,
    pub hard_stop_since_ms: Option<u64>,
    pub absent_since_ms: Option<u64>,
    /// Heartbeats of 15 s written so far.
    pub heartbeats: u64,
    /// Archives whose removal was tried.
    pub backups_tried: Vec<String>,
    /// Collisions with other writers of the configuration, in a row.
    pub collisions: u32,
    /// Hard stops submitted after the VM had been stopped once.
    pub restops: u32,
}

impl Memo {
    /// Reads a memo; one of another version or not readable counts as none.
    pub fn read(text: Option<&str>) -> Self {
        text.and_then(|text| serde_json::from_str::<Self>(text).ok())
            .filter(|memo| memo.v == VERSION)
            .unwrap_or(Self { v: VERSION, ..Self::default() })
    }

    /// As JSON.
    pub fn write(&self) -> String {
        serde_json::to_string(self).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_memo_makes_the_round_trip_and_one_of_another_version_counts_as_none() {
        let memo = Memo { v: VERSION, heartbeats: 3, ..Memo::default() };
        assert_eq!(Memo::read(Some(&memo.write())), memo);
        assert_eq!(Memo::read(Some(r#"{"v":99,"heartbeats":3}"#)).heartbeats, 0);
        assert_eq!(Memo::read(Some("not json")).v, VERSION);
        assert_eq!(Memo::read(Some(r#"{"v":1,"from_the_future":true,"heartbeats":2}"#)).heartbeats, 2);
    }
}
