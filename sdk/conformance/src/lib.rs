//! The conformance kit for DNS providers.
//!
//! A provider's component runs through the host's own runtime (limits, request rules, secrets put in and taken out) against a
//! façade of its API that is served by [`wharf_testkit::peer::Peer`], with faults. Each of the 54 [`Case`]s asserts on what is
//! true at the peer (its zones, the log of requests) and on what the provider answers, and says in a sentence what was expected
//! and what was seen. A case that asks for something that the provider does not declare, or that the façade can't show, does
//! not apply, and says so: it never counts as passed.
//!
//! [`Kit::open`] installs the component, [`Kit::run`] runs one case, [`Kit::run_all`] all of them; a [`Report`] is printed as
//! text or given as JSON. [`Kit::open_live`] plays those cases that can be played there in a live zone. Cases run one after another, each
//! with a peer of its own, and none longer than [`Case::limit`].

mod case;
mod cases;
mod live;
mod measure;
mod report;
mod scene;
mod site;
mod stage;
mod words;

pub use case::{Badge, Case, Need, Verdict};
pub use cases::{all, case};
pub use live::{LiveSubject, Standing};
pub use measure::{Cost, Costs, Samples, normalized, readable};
pub use report::{Report, Result as CaseResult};
pub use stage::{FacadeMaker, Kit, KitError, Subject};
