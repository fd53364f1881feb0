//! The types that all worlds share, generated once, so that a [`Failure`] is one type whatever the world.

pub use self::bindings::wharf::base::common::{Action, Ext, Failure, Json};

/// The generated items.
#[allow(unsafe_code, clippy::all, reason = "generated")]
pub mod bindings {
    wit_bindgen::generate!({
        path: "../../wit",
        inline: "
            package wharf:sdk-base;
            world base {
              import wharf:base/common@0.1.0;
              import wharf:base/log@0.1.0;
            }
        ",
        world: "wharf:sdk-base/base",
        generate_all,
        additional_derives: [PartialEq, Eq],
    });
}
