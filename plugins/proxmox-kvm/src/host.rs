//! What the pipeline asks of the host, as a trait: the bindings implement it in the guest, a fake implements it in tests.
//!
//! Everything that decides is written against this trait and plain data, so it runs and is tested natively. A write is
//! data ([`Write`]) until the very end of a step; that is how "at most one write a step" is kept in one place.

use std::collections::BTreeMap;

pub use wharf_sdk::log::Level;
pub use wharf_sdk::provisioner::prelude::{
    Absence, Backup, Effect, How, Lease, Node, Outcome, Presence, Reached, Storage, Tally, Template, Wait, Wish,
};
pub use wharf_sdk::{Action, Failure};

/// One look at a VM or template, as plain data.
#[derive(Debug, Clone)]
pub struct Look {
    pub presence: Presence,
    pub node: Option<String>,
    /// "running", "stopped", "paused", "": an open set.
    pub status: String,
    pub lock: Option<String>,
    pub digest: String,
    /// Configuration with pending changes merged, in Proxmox's own spelling.
    pub config: BTreeMap<String, String>,
}

impl Look {
    /// The value of a configuration key.
    pub fn get(&self, key: &str) -> Option<&str> {
        self.config.get(key).map(String::as_str)
    }
}

/// A write to the service's VM, not handed over yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Write {
    Clone {
        template: u32,
        number: u32,
        name: String,
        full: bool,
        options: Vec<(String, String)>,
    },
    Migrate {
        target: String,
        options: Vec<(String, String)>,
    },
    Configure {
        set: Vec<(String, String)>,
        delete: Vec<String>,
        digest: String,
    },
    /// To this size in MiB.
    Resize {
        disk: String,
        to_mib: u32,
    },
    Start,
    Shutdown {
        timeout_s: u32,
        force: bool,
    },
    Stop,
    Destroy,
    FirewallOptions(Vec<(String, String)>),
    FirewallSet {
        name: String,
        addresses: Vec<String>,
    },
    RemoveBackup(String),
}

impl Write {
    /// Names the aim of the write: two writes of one key want the same thing done to the same subject.
    pub fn key(&self) -> String {
        match self {
            Self::Clone { number, .. } => format!("clone {number}"),
            Self::Migrate { target, .. } => format!("migrate {target}"),
            Self::Configure { .. } => "configure".into(),
            Self::Resize { disk, .. } => format!("resize {disk}"),
            Self::Start => "start".into(),
            Self::Shutdown { .. } => "shutdown".into(),
            Self::Stop => "stop".into(),
            Self::Destroy => "destroy".into(),
            Self::FirewallOptions(_) => "firewall-options".into(),
            Self::FirewallSet { name, .. } => format!("firewall-set {name}"),
            Self::RemoveBackup(volume) => format!("remove-backup {volume}"),
        }
    }
}

/// Read-only looks at the server. All that a plan check needs.
pub trait Server {
    fn version(&self) -> Result<String, Failure>;
    fn nodes(&self) -> Result<Vec<Node>, Failure>;
    fn image(&self, name: &str) -> Result<Vec<Template>, Failure>;
    fn images(&self) -> Result<Vec<String>, Failure>;
    fn template(&self, number: u32) -> Result<Look, Failure>;
    fn firewall_option(&self, key: &str) -> Result<Option<String>, Failure>;
    fn storages(&self) -> Result<Vec<Storage>, Failure>;
}

/// The operation at hand and everything it may touch.
pub trait Host: Server {
    fn kind(&self) -> String;
    fn state(&self) -> String;
    fn attempt(&self) -> u32;
    /// The effective settings, JSON.
    fn settings(&self) -> String;
    fn service(&self, key: &str) -> Option<String>;
    fn fact(&self, key: &str) -> Option<String>;
    fn set_fact(&self, key: &str, value: Option<&str>);
    fn memo(&self) -> Option<String>;
    fn remember(&self, memo: &str);
    fn last_effect(&self) -> Option<Effect>;

    fn number(&self) -> Option<u32>;
    fn reserve_number(&self, first: u32) -> Result<u32, Failure>;
    fn reserve_room(&self, node: &str, memory_mib: u32, storage: &str, disk_mib: u32) -> Result<(), Failure>;
    fn look(&self) -> Result<Look, Failure>;
    fn prove_absence(&self) -> Result<Absence, Failure>;
    /// Hands the write over; its effect's id.
    fn submit(&self, write: &Write) -> Result<String, Failure>;

    fn reserve_leases(&self, wish: Wish) -> Result<Vec<Lease>, Failure>;
    fn leases(&self) -> Result<Vec<Lease>, Failure>;
    fn release_leases(&self) -> Result<(), Failure>;

    fn declare_names(&self, fqdn: &str, addresses: &[String]) -> Result<(), Failure>;
    fn withdraw_names(&self) -> Result<(), Failure>;
    fn naming_progress(&self) -> Result<Tally, Failure>;

    fn backups(&self) -> Result<Vec<Backup>, Failure>;

    fn generate_secret(&self, name: &str, length: u32) -> Result<(), Failure>;
    fn secret_fingerprint(&self, name: &str) -> Result<Option<String>, Failure>;

    fn now_ms(&self) -> u64;
    /// At most 32 bytes.
    fn entropy(&self, len: u32) -> Vec<u8>;
    fn log(&self, level: Level, message: &str);
}
