//! The bindings behind [`Host`] and the exports of the component. Nothing is decided here.

use wharf_sdk::provisioner::prelude::{
    Finding, Operation, PlanCheck, Provisioner, clock, cluster, entropy, leases, log, naming, secrets, storages, vms,
};

use crate::host::{
    Absence, Backup, Effect, Failure, Host, Lease, Level, Look, Node, Outcome, Server, Storage, Tally, Template, Wish,
    Write,
};
use crate::{check, run};

fn plain(view: &vms::View) -> Look {
    Look {
        presence: view.presence(),
        node: view.node(),
        status: view.status(),
        lock: view.lock(),
        digest: view.digest(),
        config: view.config_keys().into_iter().filter_map(|key| view.config(&key).map(|value| (key, value))).collect(),
    }
}

/// The server of the call at hand.
struct Here;

impl Server for Here {
    fn version(&self) -> Result<String, Failure> {
        cluster::version()
    }
    fn nodes(&self) -> Result<Vec<Node>, Failure> {
        cluster::nodes()
    }
    fn image(&self, name: &str) -> Result<Vec<Template>, Failure> {
        cluster::image(name)
    }
    fn images(&self) -> Result<Vec<String>, Failure> {
        cluster::images()
    }
    fn template(&self, number: u32) -> Result<Look, Failure> {
        cluster::look_at_template(number).map(|view| plain(&view))
    }
    fn firewall_option(&self, key: &str) -> Result<Option<String>, Failure> {
        cluster::firewall_option(key)
    }
    fn storages(&self) -> Result<Vec<Storage>, Failure> {
        storages::all()
    }
}

/// The operation of the call at hand.
struct Bound<'a> {
    op: &'a Operation,
    vm: vms::Vm,
}

impl Server for Bound<'_> {
    fn version(&self) -> Result<String, Failure> {
        Here.version()
    }
    fn nodes(&self) -> Result<Vec<Node>, Failure> {
        Here.nodes()
    }
    fn image(&self, name: &str) -> Result<Vec<Template>, Failure> {
        Here.image(name)
    }
    fn images(&self) -> Result<Vec<String>, Failure> {
        Here.images()
    }
    fn template(&self, number: u32) -> Result<Look, Failure> {
        Here.template(number)
    }
    fn firewall_option(&self, key: &str) -> Result<Option<String>, Failure> {
        Here.firewall_option(key)
    }
    fn storages(&self) -> Result<Vec<Storage>, Failure> {
        Here.storages()
    }
}

impl Host for Bound<'_> {
    fn kind(&self) -> String {
        self.op.kind()
    }
    fn state(&self) -> String {
        self.op.state()
    }
    fn attempt(&self) -> u32 {
        self.op.attempt()
    }
    fn settings(&self) -> String {
        self.op.settings()
    }
    fn service(&self, key: &str) -> Option<String> {
        self.op.service(key)
    }
    fn fact(&self, key: &str) -> Option<String> {
        self.op.fact(key)
    }
    fn set_fact(&self, key: &str, value: Option<&str>) {
        self.op.set_fact(key, value);
    }
    fn memo(&self) -> Option<String> {
        self.op.memo()
    }
    fn remember(&self, memo: &str) {
        self.op.remember(Some(memo));
    }
    fn last_effect(&self) -> Option<Effect> {
        self.op.last_effect()
    }
    fn number(&self) -> Option<u32> {
        self.vm.number()
    }
    fn reserve_number(&self, first: u32) -> Result<u32, Failure> {
        self.vm.reserve_number(first)
    }
    fn reserve_room(&self, node: &str, memory_mib: u32, storage: &str, disk_mib: u32) -> Result<(), Failure> {
        self.vm.reserve_room(node, memory_mib, storage, disk_mib)
    }
    fn look(&self) -> Result<Look, Failure> {
        self.vm.look().map(|view| plain(&view))
    }
    fn prove_absence(&self) -> Result<Absence, Failure> {
        self.vm.prove_absence()
    }
    fn submit(&self, write: &Write) -> Result<String, Failure> {
        match write {
            Write::Clone { template, name, full, options, .. } => self.vm.submit_clone(*template, name, *full, options),
            Write::Migrate { target, options } => self.vm.submit_migrate(target, options),
            Write::Configure { set, delete, digest } => self.vm.submit_configure(set, delete, digest),
            Write::Resize { disk, to_mib } => self.vm.submit_resize(disk, *to_mib),
            Write::Start => self.vm.submit_start(),
            Write::Shutdown { timeout_s, force } => self.vm.submit_shutdown(*timeout_s, *force),
            Write::Stop => self.vm.submit_stop(),
            Write::Destroy => self.vm.submit_destroy(),
            Write::FirewallOptions(set) => self.vm.submit_firewall_options(set),
            Write::FirewallSet { name, addresses } => self.vm.submit_firewall_set(name, addresses),
            Write::RemoveBackup(volume) => storages::submit_remove_backup(volume),
        }
    }
    fn reserve_leases(&self, wish: Wish) -> Result<Vec<Lease>, Failure> {
        leases::reserve(&wish)
    }
    fn leases(&self) -> Result<Vec<Lease>, Failure> {
        leases::held()
    }
    fn release_leases(&self) -> Result<(), Failure> {
        leases::release()
    }
    fn declare_names(&self, fqdn: &str, addresses: &[String]) -> Result<(), Failure> {
        naming::declare(fqdn, addresses)
    }
    fn withdraw_names(&self) -> Result<(), Failure> {
        naming::withdraw()
    }
    fn naming_progress(&self) -> Result<Tally, Failure> {
        naming::progress()
    }
    fn backups(&self) -> Result<Vec<Backup>, Failure> {
        storages::backups()
    }
    fn generate_secret(&self, name: &str, length: u32) -> Result<(), Failure> {
        secrets::generate(name, length)
    }
    fn secret_fingerprint(&self, name: &str) -> Result<Option<String>, Failure> {
        secrets::fingerprint(name)
    }
    fn now_ms(&self) -> u64 {
        clock::now_ms()
    }
    fn entropy(&self, len: u32) -> Vec<u8> {
        entropy::fresh(len)
    }
    fn log(&self, level: Level, message: &str) {
        log::write(level, message, &Vec::new());
    }
}

/// The component.
pub struct Component;

impl Provisioner for Component {
    fn step(op: &Operation) -> Result<Outcome, Failure> {
        run::step(&Bound { op, vm: op.vm() })
    }
}

impl PlanCheck for Component {
    fn check(settings: String) -> Vec<Finding> {
        check::check(&Here, &settings)
    }
}

wharf_sdk::export_provisioner!(Component);
