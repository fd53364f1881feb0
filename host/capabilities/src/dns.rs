//! DNS: names, reverse zones, what names and addresses should be, and what a provider plugin is told of its call.
//!
//! Nothing here speaks to a provider or looks a name up: wishes go to the books, the engine's queue does the rest.

mod calls;
mod login;
pub mod names;
mod naming;
pub mod reverse;

pub use login::login_of;
pub use naming::{queue_of, wanted_records};
pub use reverse::{ReverseZones, rdns_zone_names};
