//! DNS: names, reverse zones, what names and addresses should be, and what a provider plugin is told of its call.
//!
//! Nothing here speaks to a provider: wishes go to the books, the engine's queue does the rest. Names are looked up when somebody asks
//! how they stand.

mod calls;
pub mod classless;
pub mod confirmed;
mod login;
pub mod look;
pub mod names;
mod naming;
pub mod reverse;

pub use login::login_of;
pub use naming::{DECLARED, Wishes, wishes};
pub use reverse::{ReverseZones, rdns_zone_names};
