//! HTTP to granted destinations.
/// Sends what plugins build.
pub struct Sender;
