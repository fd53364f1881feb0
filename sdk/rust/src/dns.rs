//! The world of DNS providers: translates between the contract and a provider's API, and maps its errors. It does not
//! plan, match zones, retry writes or sleep: the host does. Name arithmetic is in [`crate::names`].

use std::marker::PhantomData;

pub use self::bindings::exports::wharf::dns::provider::{
    Capabilities, Change, Check, Edit, Guest as Provider, Outcome, Probed, Report, Selector, Snapshot, Verdict,
};
#[cfg(feature = "zone-actions")]
pub use self::bindings::exports::wharf::dns::zone_actions::Guest as ZoneActions;
pub use self::bindings::wharf::base::{clock, entropy};
pub use self::bindings::wharf::dns::calls::Call;
pub use self::bindings::wharf::dns::zones::{
    Action as ProblemAction, Name, Problem, RrType, Rrset, Value, ZoneInfo, ZoneRef,
};

use crate::http::{self, Sent};
use crate::panics;

/// The generated items, whole.
#[allow(unsafe_code, clippy::all, reason = "generated")]
pub mod bindings {
    #[cfg(not(feature = "zone-actions"))]
    wit_bindgen::generate!({
        path: "../../wit",
        world: "wharf:worlds/dns-provider",
        generate_all,
        with: {
            "wharf:base/common@0.1.0": crate::base::bindings::wharf::base::common,
            "wharf:base/log@0.1.0": crate::base::bindings::wharf::base::log,
            "wharf:http/client@0.1.0": crate::http::bindings::wharf::http::client,
        },
        additional_derives: [PartialEq, Eq],
        pub_export_macro: true,
        default_bindings_module: "wharf_sdk::dns::bindings",
    });
    #[cfg(feature = "zone-actions")]
    wit_bindgen::generate!({
        path: "../../wit",
        world: "wharf:worlds/dns-provider-plus",
        generate_all,
        with: {
            "wharf:base/common@0.1.0": crate::base::bindings::wharf::base::common,
            "wharf:base/log@0.1.0": crate::base::bindings::wharf::base::log,
            "wharf:http/client@0.1.0": crate::http::bindings::wharf::http::client,
        },
        additional_derives: [PartialEq, Eq],
        pub_export_macro: true,
        default_bindings_module: "wharf_sdk::dns::bindings",
    });
}

/// All that a DNS provider needs by its short name; each name once.
pub mod prelude {
    #[cfg(feature = "zone-actions")]
    pub use super::ZoneActions;
    pub use super::{
        Call, Capabilities, Change, Check, Edit, Name, Outcome, Probed, Problem, ProblemAction, Provider, Report,
        RrType, Rrset, Selector, Snapshot, Value, Verdict, ZoneInfo, ZoneRef, clock, entropy,
    };
    pub use crate::batch::{self, Batch, Fate, Held, Set, Ttls};
    pub use crate::connection::{self, Checks};
    pub use crate::forms::{self, Forms};
    pub use crate::http::{self, Request, Response, Transport};
    pub use crate::{Ext, ext, ext_get, ext_set, log, names, text};
}

impl Value {
    /// A value that says nothing of its owner.
    pub fn new(data: impl Into<String>) -> Self {
        Self { data: data.into(), owner: None, ext: Vec::new() }
    }
}

impl Problem {
    /// A problem without status, wait or extras.
    pub fn new(action: ProblemAction, code: impl Into<String>, message: impl Into<String>) -> Self {
        Self {
            action,
            code: code.into(),
            message: message.into(),
            retry_after_ms: None,
            http_status: None,
            provider_code: None,
            ext: Vec::new(),
        }
    }

    /// The value or name is refused, for good.
    pub fn fix_input(code: impl Into<String>, message: impl Into<String>) -> Self {
        Self::new(ProblemAction::FixInput, code, message)
    }

    /// An admin must act: credentials, quota, missing zone.
    pub fn fix_config(code: impl Into<String>, message: impl Into<String>) -> Self {
        Self::new(ProblemAction::FixConfig, code, message)
    }

    /// The live state differs from what the plan assumed.
    pub fn replan(code: impl Into<String>, message: impl Into<String>) -> Self {
        Self::new(ProblemAction::Replan, code, message)
    }

    /// Rate limited; milliseconds to wait, if the provider said so.
    pub fn wait(code: impl Into<String>, message: impl Into<String>, after_ms: Option<u32>) -> Self {
        Self { retry_after_ms: after_ms, ..Self::new(ProblemAction::Wait, code, message) }
    }

    /// A passing fault, and surely nothing was written.
    pub fn retry(code: impl Into<String>, message: impl Into<String>) -> Self {
        Self::new(ProblemAction::Retry, code, message)
    }

    /// A write was sent and no answer came.
    pub fn verify(code: impl Into<String>, message: impl Into<String>) -> Self {
        Self::new(ProblemAction::Verify, code, message)
    }

    /// The provider answered something that this plugin does not understand.
    pub fn report_bug(code: impl Into<String>, message: impl Into<String>) -> Self {
        Self::new(ProblemAction::ReportBug, code, message)
    }

    /// Adds the status that the provider answered with.
    #[must_use]
    pub fn status(mut self, status: u16) -> Self {
        self.http_status = Some(status);
        self
    }

    /// A request that got no answer. A write that the peer may have seen must be looked at before it is repeated.
    pub fn from_http(failure: http::Failure, write: bool) -> Self {
        let http::Failure { sent, code, message, ext } = failure;
        let action = match (http::Trouble::of(&code), sent) {
            (_, Sent::MaybeSent) if write => ProblemAction::Verify,
            (http::Trouble::Config, _) => ProblemAction::FixConfig,
            (http::Trouble::Bug, _) => ProblemAction::ReportBug,
            (http::Trouble::Passing, _) => ProblemAction::Retry,
        };
        Self { ext, ..Self::new(action, code, message) }
    }
}

/// What is exported in the plugin's stead: arms the panic hook, then calls it.
pub struct Guarded<T>(PhantomData<T>);

impl<T: Provider> Provider for Guarded<T> {
    fn normalize(can: Capabilities, zone: Name, sets: Vec<Rrset>) -> Vec<Verdict> {
        panics::arm();
        T::normalize(can, zone, sets)
    }

    fn probe(call: &Call, zone: Name) -> Result<Probed, Problem> {
        panics::arm();
        T::probe(call, zone)
    }

    fn test_connection(call: &Call, zone: Option<Name>, try_write: bool) -> Vec<Check> {
        panics::arm();
        T::test_connection(call, zone, try_write)
    }

    fn list_zones(call: &Call) -> Result<Vec<ZoneRef>, Problem> {
        panics::arm();
        T::list_zones(call)
    }

    fn read(call: &Call, zone: ZoneRef, what: Selector) -> Result<Snapshot, Problem> {
        panics::arm();
        T::read(call, zone, what)
    }

    fn apply(call: &Call, zone: ZoneRef, batch: Vec<Change>) -> Result<Report, Problem> {
        panics::arm();
        T::apply(call, zone, batch)
    }

    fn poll(call: &Call, zone: ZoneRef, operation: String) -> Result<Outcome, Problem> {
        panics::arm();
        T::poll(call, zone, operation)
    }
}

#[cfg(feature = "zone-actions")]
impl<T: ZoneActions> ZoneActions for Guarded<T> {
    fn publish(call: &Call, zone: ZoneRef) -> Result<(), Problem> {
        panics::arm();
        T::publish(call, zone)
    }
}

/// Compiles only if the type has what the world exports.
#[doc(hidden)]
pub const fn is_plugin<T: Provider>() {}

#[cfg(test)]
mod tests {
    use super::*;

    fn failure(sent: Sent, code: &str) -> http::Failure {
        http::Failure { sent, code: code.into(), message: "It broke.".into(), ext: Vec::new() }
    }

    #[test]
    fn a_write_that_may_have_arrived_is_verified_before_it_is_repeated() {
        assert_eq!(Problem::from_http(failure(Sent::MaybeSent, "timeout"), true).action, ProblemAction::Verify);
        assert_eq!(Problem::from_http(failure(Sent::MaybeSent, "timeout"), false).action, ProblemAction::Retry);
        assert_eq!(Problem::from_http(failure(Sent::NotSent, "connect"), true).action, ProblemAction::Retry);
    }

    #[test]
    fn a_refused_destination_is_for_the_admin() {
        let problem = Problem::from_http(failure(Sent::NotSent, "address-refused"), true);
        assert_eq!((problem.action, problem.code.as_str()), (ProblemAction::FixConfig, "address-refused"));
    }
}
