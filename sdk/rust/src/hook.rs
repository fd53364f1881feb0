//! The world of lifecycle hooks: told of what happened, or asked before it does.

use std::marker::PhantomData;

#[cfg(feature = "asked")]
pub use self::bindings::exports::wharf::hook::asked::{Guest as Asked, Verdict};
pub use self::bindings::exports::wharf::hook::told::{Guest as Told, Heard};
pub use self::bindings::wharf::base::{clock, entropy, kv};
pub use self::bindings::wharf::hook::events::{Delivery, Event, Question};

use crate::{Failure, panics};

/// The generated items, whole.
#[allow(unsafe_code, clippy::all, reason = "generated")]
pub mod bindings {
    #[cfg(not(feature = "asked"))]
    wit_bindgen::generate!({
        path: "../../wit",
        world: "wharf:worlds/lifecycle-hook",
        generate_all,
        with: {
            "wharf:base/common@0.1.0": crate::base::bindings::wharf::base::common,
            "wharf:base/log@0.1.0": crate::base::bindings::wharf::base::log,
            "wharf:http/client@0.1.0": crate::http::bindings::wharf::http::client,
        },
        additional_derives: [PartialEq, Eq],
        pub_export_macro: true,
        default_bindings_module: "wharf_sdk::hook::bindings",
    });
    #[cfg(feature = "asked")]
    wit_bindgen::generate!({
        path: "../../wit",
        world: "wharf:worlds/lifecycle-hook-plus",
        generate_all,
        with: {
            "wharf:base/common@0.1.0": crate::base::bindings::wharf::base::common,
            "wharf:base/log@0.1.0": crate::base::bindings::wharf::base::log,
            "wharf:http/client@0.1.0": crate::http::bindings::wharf::http::client,
        },
        additional_derives: [PartialEq, Eq],
        pub_export_macro: true,
        default_bindings_module: "wharf_sdk::hook::bindings",
    });
}

/// All that a lifecycle hook needs by its short name; each name once.
pub mod prelude {
    #[cfg(feature = "asked")]
    pub use super::{Asked, Verdict};
    pub use super::{Delivery, Event, Heard, Question, Told, clock, entropy, kv};
    pub use crate::http::{self, Request, Response, Transport};
    pub use crate::{Action, Ext, Failure, Json, ext, ext_get, ext_set, log};
}

/// What is exported in the plugin's stead: arms the panic hook, then calls it.
pub struct Guarded<T>(PhantomData<T>);

impl<T: Told> Told for Guarded<T> {
    fn tell(of: &Delivery) -> Result<Heard, Failure> {
        panics::arm();
        T::tell(of)
    }
}

#[cfg(feature = "asked")]
impl<T: Asked> Asked for Guarded<T> {
    fn ask(about: &Question) -> Result<Verdict, Failure> {
        panics::arm();
        T::ask(about)
    }
}

/// Compiles only if the type has what the world exports.
#[doc(hidden)]
pub const fn is_plugin<T: Told>() {}
