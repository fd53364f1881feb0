//! The world of provisioners: carries a VM through its states.
//!
//! ```ignore
//! use wharf_sdk::provisioner::prelude::*;
//!
//! struct Plugin;
//! impl Provisioner for Plugin {
//!     fn step(op: &Operation) -> Result<Outcome, Failure> {
//!         op.vm().submit_start()?;
//!         Ok(Outcome::Submitted)
//!     }
//! }
//! wharf_sdk::export_provisioner!(Plugin);
//! ```

use std::marker::PhantomData;

#[cfg(feature = "plan-check")]
pub use self::bindings::exports::wharf::provisioner::plan_check::{Finding, Guest as PlanCheck};
pub use self::bindings::exports::wharf::provisioner::provisioning::Guest as Provisioner;
pub use self::bindings::wharf::provisioner::operations::Operation;
pub use self::bindings::wharf::provisioner::protocol::{How, Outcome, Reached, Wait};

pub use self::bindings::wharf::base::{clock, entropy, secrets};
pub use self::bindings::wharf::dns::naming;
pub use self::bindings::wharf::ipam::leases;
pub use self::bindings::wharf::proxmox::{cluster, vms};
pub use self::bindings::wharf::storage::storages;

use crate::{Failure, panics};

/// The generated items, whole.
#[allow(unsafe_code, clippy::all, reason = "generated")]
pub mod bindings {
    #[cfg(not(feature = "plan-check"))]
    wit_bindgen::generate!({
        path: "../../wit",
        world: "wharf:worlds/provisioner",
        generate_all,
        with: {
            "wharf:base/common@0.1.0": crate::base::bindings::wharf::base::common,
            "wharf:base/log@0.1.0": crate::base::bindings::wharf::base::log,
        },
        additional_derives: [PartialEq],
        pub_export_macro: true,
        default_bindings_module: "wharf_sdk::provisioner::bindings",
    });
    #[cfg(feature = "plan-check")]
    wit_bindgen::generate!({
        path: "../../wit",
        world: "wharf:worlds/provisioner-plus",
        generate_all,
        with: {
            "wharf:base/common@0.1.0": crate::base::bindings::wharf::base::common,
            "wharf:base/log@0.1.0": crate::base::bindings::wharf::base::log,
        },
        additional_derives: [PartialEq],
        pub_export_macro: true,
        default_bindings_module: "wharf_sdk::provisioner::bindings",
    });
}

/// All that a provisioner needs by its short name; each name once.
pub mod prelude {
    pub use super::cluster::{Node, Template};
    pub use super::leases::{Lease, Wish};
    pub use super::naming::Tally;
    pub use super::storages::{Backup, Storage};
    pub use super::vms::{Absence, Effect, Presence, View, Vm};
    #[cfg(feature = "plan-check")]
    pub use super::{Finding, PlanCheck};
    pub use super::{How, Operation, Outcome, Provisioner, Reached, Wait};
    pub use super::{clock, cluster, entropy, leases, naming, secrets, storages, vms};
    pub use crate::{Action, Ext, Failure, Json, ext, ext_get, ext_set, log};
}

impl Reached {
    /// It was so already, or needed no write.
    pub fn done(state: impl Into<String>) -> Self {
        Self { state: state.into(), how: How::Done, ext: Vec::new() }
    }

    /// Done by the write with this id.
    pub fn by(state: impl Into<String>, effect: impl Into<String>) -> Self {
        Self { state: state.into(), how: How::ByEffect(effect.into()), ext: Vec::new() }
    }

    /// Not needed; why, in plain words.
    pub fn skipped(state: impl Into<String>, why: impl Into<String>) -> Self {
        Self { state: state.into(), how: How::Skipped(why.into()), ext: Vec::new() }
    }
}

impl Outcome {
    /// One state, reached.
    pub fn one(reached: Reached) -> Self {
        Self::Reached(vec![reached])
    }

    /// Ask again after so many milliseconds; `reason` in plain words.
    pub fn wait(after_ms: u32, reason: impl Into<String>) -> Self {
        Self::Waiting(Wait { after_ms, topic: None, reason: reason.into(), ext: Vec::new() })
    }

    /// The same, ended early by news of this topic ("addresses", "room", "vm", "dns").
    pub fn wait_for(topic: impl Into<String>, after_ms: u32, reason: impl Into<String>) -> Self {
        Self::Waiting(Wait { after_ms, topic: Some(topic.into()), reason: reason.into(), ext: Vec::new() })
    }
}

impl Operation {
    /// The settings, decoded. They are valid by the manifest's schema, so a failure here is a fault of the plugin:
    /// `report-bug`, code `settings`.
    pub fn settings_as<T: serde::de::DeserializeOwned>(&self) -> Result<T, Failure> {
        serde_json::from_str(&self.settings()).map_err(|e| {
            Failure::report_bug("settings", format!("The settings don't have the form that this plugin expects: {e}."))
        })
    }
}

/// What is exported in the plugin's stead: arms the panic hook, then calls it.
pub struct Guarded<T>(PhantomData<T>);

impl<T: Provisioner> Provisioner for Guarded<T> {
    fn step(op: &Operation) -> Result<Outcome, Failure> {
        panics::arm();
        T::step(op)
    }
}

#[cfg(feature = "plan-check")]
impl<T: PlanCheck> PlanCheck for Guarded<T> {
    fn check(settings: crate::Json) -> Vec<Finding> {
        panics::arm();
        T::check(settings)
    }
}

/// Compiles only if the type has what the world exports.
#[doc(hidden)]
pub const fn is_plugin<T: Provisioner>() {}
