//! What a case is.

use std::{future::Future, pin::Pin, time::Duration};

use serde::Serialize;
use wharf_plugins::dns::Capabilities;
use wharf_testkit::facade::Features;

use crate::stage::Kit;

/// Longest that one case may take.
const CASE_SECONDS: u64 = 60;
/// The same of case 33, which makes 3,702 changes.
const LONG_CASE_SECONDS: u64 = 600;
/// The same in a live zone, where each request takes its time.
const LIVE_SECONDS: u64 = 300;

/// Which badge a case counts for. A badge is had when its cases and those of the badges below have all passed, as far as they
/// apply.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Badge {
    Core,
    Hosting,
    Scale,
}

impl Badge {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Core => "core",
            Self::Hosting => "hosting",
            Self::Scale => "scale",
        }
    }
}

/// What must be there for a case to apply.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Need {
    /// The provider writes records of this type.
    Type(&'static str),
    /// A name and type may have two values: `max-values` is 0 or more than 1.
    ManyValues,
    Atomic,
    NotAtomic,
    Asynchronous,
    /// `max-changes` is said, and is no more than 4,000.
    MaxChanges,
    /// It has zones with names of any kind: `reverse-only` is false.
    Zones,
    Pages,
    Ids,
    Disabled,
    ReadOnly,
    Quota,
}

impl Need {
    /// None if it is there; else what is missing, by the name of the capability.
    pub fn missing(self, can: &Capabilities, features: Features) -> Option<String> {
        let by_facade = |there: bool, what: &str| (!there).then(|| format!("the façade has no {what}"));
        let by_plugin = |there: bool, what: &str| (!there).then(|| format!("the provider does not declare {what}"));
        match self {
            Self::Type(rtype) => {
                by_plugin(can.types.iter().any(|t| t == rtype), &format!("the type {rtype} in `types`"))
            }
            Self::ManyValues => by_plugin(can.max_values != 1, "more than 1 in `max-values`"),
            Self::Atomic => by_plugin(can.atomic, "`atomic`"),
            Self::NotAtomic => can.atomic.then(|| "the provider declares `atomic`".to_owned()),
            Self::Asynchronous => by_plugin(can.asynchronous, "`asynchronous`"),
            Self::MaxChanges => by_plugin((1..=4_000).contains(&can.max_changes), "`max-changes` of 1 to 4,000"),
            Self::Zones => can.reverse_only.then(|| "the provider declares `reverse-only`".to_owned()),
            Self::Pages => by_facade(features.pages, "pages (`pages`)"),
            Self::Ids => by_facade(features.ids, "ids of records (`ids`)"),
            Self::Disabled => by_facade(features.disabled, "records that are not served (`disabled`)"),
            Self::ReadOnly => by_facade(features.read_only, "zones that take no writes (`read_only`)"),
            Self::Quota => by_facade(features.quota, "quota (`quota`)"),
        }
    }
}

/// How a case ends before its end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Stop {
    Failed(String),
}

/// Ends a case: what was expected and what was seen.
pub(crate) fn fail<T>(why: impl Into<String>) -> Result<T, Stop> {
    Err(Stop::Failed(why.into()))
}

/// Fails with this sentence unless it is so.
pub(crate) fn expect(so: bool, why: impl FnOnce() -> String) -> Result<(), Stop> {
    if so { Ok(()) } else { Err(Stop::Failed(why())) }
}

pub(crate) type Running<'a> = Pin<Box<dyn Future<Output = Result<(), Stop>> + Send + 'a>>;

/// One of the 54.
pub struct Case {
    pub number: u8,
    /// What is true of a provider that passes.
    pub name: &'static str,
    pub badge: Badge,
    pub needs: &'static [Need],
    pub(crate) run: for<'a> fn(&'a Kit) -> Running<'a>,
}

/// Cases that need neither faults, nor a look behind the API, nor a zone of their own.
const LIVE: [u8; 21] = [1, 2, 5, 6, 11, 13, 14, 15, 16, 17, 18, 29, 30, 31, 37, 38, 41, 42, 43, 44, 54];

/// Thousands of changes: counted in requests, not in seconds, since an API that takes records one by one makes it wait for each.
const LONG: u8 = 33;

impl Case {
    /// Longest that it may take.
    pub fn limit(&self, live: bool) -> Duration {
        Duration::from_secs(match (self.number, live) {
            (LONG, _) => LONG_CASE_SECONDS,
            (_, true) => LIVE_SECONDS,
            (_, false) => CASE_SECONDS,
        })
    }

    /// Whether it can be played in a live zone.
    pub fn is_live(&self) -> bool {
        LIVE.contains(&self.number)
    }
}

/// How a case ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "result", content = "why", rename_all = "kebab-case")]
pub enum Verdict {
    Passed,
    /// What was expected, and what was seen.
    Failed(String),
    /// What is missing.
    NotApplicable(String),
}

impl Verdict {
    pub fn is_passed(&self) -> bool {
        *self == Self::Passed
    }

    pub fn is_failed(&self) -> bool {
        matches!(self, Self::Failed(_))
    }
}
