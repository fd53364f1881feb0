//! The world of panel adapters: from what a panel posts to what the host does, and back. Pure.

use std::marker::PhantomData;

pub use self::bindings::exports::wharf::panel::adapter::{Answer, Command, Guest as Adapter, Hook, ResultOf};

use crate::{Failure, panics};

/// The generated items, whole.
#[allow(unsafe_code, clippy::all, reason = "generated")]
pub mod bindings {
    wit_bindgen::generate!({
        path: "../../wit",
        world: "wharf:worlds/panel-adapter",
        generate_all,
        with: {
            "wharf:base/common@0.1.0": crate::base::bindings::wharf::base::common,
            "wharf:base/log@0.1.0": crate::base::bindings::wharf::base::log,
        },
        additional_derives: [PartialEq, Eq],
        pub_export_macro: true,
        default_bindings_module: "wharf_sdk::panel::bindings",
    });
}

/// All that a panel adapter needs by its short name; each name once.
pub mod prelude {
    pub use super::{Adapter, Answer, Command, Hook, ResultOf};
    pub use crate::{Action, Ext, Failure, ext, ext_get, ext_set, log};
}

/// What is exported in the plugin's stead: arms the panic hook, then calls it.
pub struct Guarded<T>(PhantomData<T>);

impl<T: Adapter> Adapter for Guarded<T> {
    fn translate(of: Hook) -> Result<Command, Failure> {
        panics::arm();
        T::translate(of)
    }

    fn present(of: Hook, what: ResultOf) -> Answer {
        panics::arm();
        T::present(of, what)
    }
}

/// Compiles only if the type has what the world exports.
#[doc(hidden)]
pub const fn is_plugin<T: Adapter>() {}
