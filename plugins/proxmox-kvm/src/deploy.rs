//! Deploy: from a reserved address to a running VM.
//!
//! Every state is looked at before anything is written, so a step may be repeated, and a VM that was configured, moved
//! or started by hand in between is taken as it is. The node is never remembered, only where the VM was meant to go.

use crate::configure::{self, Changes, Inputs};
use crate::host::{Action, Failure, Host, How, Level, Look, Presence, Wish, Write};
use crate::memo::Placed;
use crate::placement::{self, Choice, Need, Source};
use crate::run::{PASSWORD, Run, Stop, Turn};
use crate::{cloudinit, disks, firewall, naming, net};

/// A state names the last completed step.
pub const STATES: [&str; 16] = [
    "creation",
    "set_ip",
    "clone",
    "set_dns",
    "migrated",
    "set_cpu_ram",
    "set_system_disk_size",
    "set_system_disk_bandwidth",
    "set_created_additional_disk",
    "set_additional_disk_size",
    "set_additional_disk_bandwidth",
    "set_network",
    "set_firewall",
    "set_cloudinit",
    "starting",
    "ready",
];

/// What is known of the service beyond the books; cleared when it ends.
pub const FACTS: [&str; 6] = ["name", "fqdn", "mac", "os-user", "additional-slot", "password-set"];

/// The VM goes on without waiting longer for DNS.
pub const DNS_WAIT_MS: u64 = 10_000;
/// A started VM is expected to run within this.
const START_MS: u64 = 60_000;

impl<H: Host> Run<'_, H> {
    /// What a state of the deploy needs.
    pub fn deploy_turn(&mut self, state: &'static str) -> Result<Turn, Stop> {
        match state {
            "set_ip" => self.set_ip(),
            "clone" => self.clone_vm(),
            "set_dns" => self.set_dns(),
            "migrated" => self.migrated(),
            "set_system_disk_size" => {
                let vm = self.own_vm()?;
                let (slot, drive) = disks::system_disk(&vm.config)?;
                Ok(self.grow(state, &slot, &drive, self.settings.system_disk, "the plan takes the template's size"))
            }
            configure::ADDITIONAL_SIZE => {
                if self.settings.additional_disk == 0 {
                    return Ok(Turn::skipped("the plan has no additional disk"));
                }
                let vm = self.own_vm()?;
                match configure::additional_disk(&vm, self.host.fact("additional-slot").as_deref()) {
                    Some((slot, drive)) => Ok(self.grow(state, &slot, &drive, self.settings.additional_disk, "")),
                    None => self.configured(state),
                }
            }
            "set_firewall" => self.set_firewall(),
            "starting" => self.starting(),
            "ready" => self.ready(),
            other => self.configured(other),
        }
    }

    fn set_ip(&mut self) -> Result<Turn, Stop> {
        let s = &self.settings;
        let (ipv4, ipv6) = s.wanted_addresses();
        let leases = if ipv4 + ipv6 == 0 {
            self.info("no addresses to lease: DHCP, or the plan has none");
            Vec::new()
        } else {
            let auto = s.auto_bridge_vlan;
            self.host.reserve_leases(Wish {
                ipv4,
                ipv6,
                bridge: (!auto).then(|| s.bridge.clone()),
                vlan: (!auto).then_some(s.vlan),
            })?
        };
        for lease in &leases {
            let vlan = lease.vlan.map_or_else(|| "untagged".to_owned(), |v| format!("VLAN {v}"));
            self.info(format!("leased {}/{} on {}, {vlan}", lease.address, lease.prefix_length, lease.bridge));
        }
        let number = self.host.reserve_number(self.settings.first_vm_id)?;
        self.identity()?;
        self.info(format!("VM {number}, name {}", self.name()));
        Ok(Turn::Reached(How::Done))
    }

    /// Makes what is made once: name, MAC, OS user, password. What stands stays.
    fn identity(&self) -> Result<(), Failure> {
        let host = self.host;
        if host.fact("name").is_none() {
            let client = host.service("client-id").unwrap_or_else(|| "0".into());
            let service = host.service("ref").or_else(|| host.service("id")).unwrap_or_default();
            let random = host.entropy(32);
            let words =
                naming::Words { client_id: &client, service_id: &service, now_ms: host.now_ms(), random: &random };
            let name = naming::host_label(&naming::expand(&self.settings.vm_name_rule, &words));
            host.set_fact("name", Some(&name));
            if let Some(domain) = self.settings.domain() {
                host.set_fact("fqdn", Some(&format!("{name}.{domain}")));
            }
        }
        if host.fact("mac").is_none() {
            let mac = net::mac(&host.entropy(6))
                .ok_or_else(|| Failure::report_bug("no-entropy", "The host gave no random bytes for a MAC address."))?;
            host.set_fact("mac", Some(&mac));
        }
        if host.fact("os-user").is_none() {
            let user = match self.settings.os_user.trim() {
                "" => naming::random_user(&host.entropy(8)),
                user => user.to_owned(),
            };
            host.set_fact("os-user", Some(&user));
        }
        host.generate_secret(PASSWORD, 20)
    }

    fn name(&self) -> String {
        self.host.fact("name").unwrap_or_else(|| "vm".into())
    }

    fn clone_vm(&mut self) -> Result<Turn, Stop> {
        let first = self.settings.first_vm_id;
        let mut number = self.host.reserve_number(first)?;
        let mut look = self.look()?;
        if look.presence == Presence::Foreign {
            // Somebody else's VM under our number: it stays untouched, ours gets another.
            let other = self.host.reserve_number(first)?;
            if other != number {
                self.info(format!(
                    "number {number} belongs to somebody else's VM and is given up; the next is {other}"
                ));
                number = other;
                self.look_again();
                look = self.look()?;
            }
        }
        match look.presence {
            Presence::Ours => {
                self.own_vm()?;
                Ok(match self.memo.effects.get("clone") {
                    Some(id) => Turn::Reached(How::ByEffect(id.clone())),
                    None => Turn::Reached(How::Done),
                })
            }
            Presence::Copying => Ok(Turn::wait(2_000, Some("vm"), format!("the copy of VM {number} has just begun"))),
            // Proxmox never clones over a VM: its refusal is what the host burns the number by.
            Presence::Foreign | Presence::None => self.clone_to(number),
        }
    }

    fn clone_to(&mut self, number: u32) -> Result<Turn, Stop> {
        self.identity()?;
        let sources = self.sources()?;
        let s = &self.settings;
        let need = Need {
            memory_mib: s.memory_mib(),
            system_mib: s.system_disk.saturating_mul(1024),
            additional_mib: s.additional_disk.saturating_mul(1024),
            storage: s.named_storage(),
            additional_storage: s.named_additional_storage(),
            linked: s.linked(),
            migration: s.migration,
            node: s.named_node(),
        };
        let choices = placement::choices(&need, &sources, &self.host.nodes()?, &self.host.storages()?);
        if choices.is_empty() {
            return Ok(Turn::wait(
                30_000,
                Some("room"),
                format!("no node that holds image `{}` is online with room on its storage", s.image),
            ));
        }
        let choice = self.promise(&need, choices)?;
        if sources
            .iter()
            .any(|x| x.template.number == choice.template && need.system_mib > 0 && x.disk_mib > need.system_mib)
        {
            self.warn(format!(
                "template {}'s disk is larger than the plan's {} GiB: it keeps its size",
                choice.template, s.system_disk
            ));
        }
        self.info(format!("template {}: {}", choice.template, choice.reason));
        let mut options = choice.options.clone();
        if s.linked() {
            options.retain(|(key, _)| key == "target");
        }
        let write = Write::Clone { template: choice.template, number, name: self.name(), full: !s.linked(), options };
        self.memo.placed = Some(Placed { target: choice.migrate_to, reason: choice.reason });
        // A new VM: nothing was set in it yet.
        self.host.set_fact("password-set", None);
        self.host.set_fact("additional-slot", None);
        Ok(Turn::submit(write, &["clone"]))
    }

    /// The first choice that the host can promise room for; when none has room, where the template is.
    fn promise(&self, need: &Need<'_>, choices: Vec<Choice>) -> Result<Choice, Failure> {
        let mut last = None;
        for choice in choices {
            match self.host.reserve_room(&choice.node, need.memory_mib, &choice.storage, choice.disk_mib) {
                Ok(()) => return Ok(choice),
                Err(busy) if busy.action == Action::Busy => {
                    self.info(format!("node {}: {}", choice.node, busy.message));
                    last = Some((choice, busy));
                }
                Err(other) => return Err(other),
            }
        }
        match last {
            Some((choice, _)) if choice.stays => {
                self.warn(format!("{}; there is no room promised for it", choice.reason));
                Ok(choice)
            }
            Some((_, busy)) => Err(busy),
            None => Err(Failure::busy("no-room", "No node has room for this VM.")),
        }
    }

    /// The image's templates, each looked at. One that can't be used is left out; when none is left, its reason counts.
    fn sources(&self) -> Result<Vec<Source>, Failure> {
        let templates = crate::check::templates(self.host, &self.settings.image)?;
        if templates.is_empty() {
            return Err(Failure::fix_config(
                "image-missing",
                format!("Image `{}` is not on this server: list a template for it under Images.", self.settings.image),
            ));
        }
        let storages = self.host.storages()?;
        let mut sources = Vec::new();
        let mut problem = None;
        for template in templates {
            let number = template.number;
            let look = match self.host.template(number) {
                Ok(look) => look,
                Err(failure) => {
                    problem = Some(failure);
                    continue;
                }
            };
            if !disks::has_cloudinit(&look.config) {
                problem = Some(Failure::fix_config(
                    "no-cloud-init-drive",
                    format!(
                        "Template {number} has no cloud-init drive: add one to it (Hardware > Add > CloudInit Drive)."
                    ),
                ));
                continue;
            }
            let disk_mib = match disks::system_disk(&look.config) {
                Ok((_, drive)) => drive.size_mib().unwrap_or_default(),
                Err(failure) => {
                    problem = Some(failure);
                    continue;
                }
            };
            let movable = disks::volumes(&look.config)
                .iter()
                .filter_map(|d| d.storage())
                .all(|name| storages.iter().any(|s| s.name == name && s.shared));
            sources.push(Source { template, movable, disk_mib });
        }
        match (sources.is_empty(), problem) {
            (true, Some(problem)) => Err(problem),
            (_, Some(problem)) => {
                self.warn(problem.message);
                Ok(sources)
            }
            _ => Ok(sources),
        }
    }

    fn set_dns(&mut self) -> Result<Turn, Stop> {
        let Some(fqdn) = self.host.fact("fqdn") else {
            return Ok(Turn::skipped("the plan has no main domain"));
        };
        let addresses = firewall::addresses(&self.host.leases()?);
        if addresses.is_empty() {
            return Ok(Turn::skipped("there are no leased addresses"));
        }
        if self.memo.dns_since_ms.is_none()
            && let Err(failure) = self.host.declare_names(&format!("{fqdn}."), &addresses)
        {
            // DNS never blocks a VM.
            self.host.log(Level::Error, &format!("DNS: {}", failure.message));
            return Ok(Turn::skipped(format!("DNS could not be asked for: {}", failure.message)));
        }
        Ok(self.dns_pass())
    }

    /// Waits for the first pass over the records, at most ten seconds.
    pub fn dns_pass(&mut self) -> Turn {
        let now = self.host.now_ms();
        let first_look = self.memo.dns_since_ms.is_none();
        let since = *self.memo.dns_since_ms.get_or_insert(now);
        let tally = match self.host.naming_progress() {
            Ok(tally) => tally,
            Err(failure) => {
                self.host.log(Level::Error, &format!("DNS: {}", failure.message));
                return Turn::skipped(format!("how far DNS is can't be seen: {}", failure.message));
            }
        };
        let waited = now.saturating_sub(since);
        if tally.waiting > 0 && waited < DNS_WAIT_MS {
            let left = u32::try_from(DNS_WAIT_MS - waited).unwrap_or(1_000);
            return Turn::wait(left.min(1_000), Some("dns"), "DNS records are being written");
        }
        let all = tally.written + tally.failed + tally.waiting;
        if all == 0 && self.host.kind() == "deploy" {
            if first_look {
                return Turn::wait(250, Some("dns"), "DNS records are being planned");
            }
            self.warn("DNS: no zone of this host matches the VM's name or its addresses");
            return Turn::skipped("no zone matches");
        }
        let summary = format!("DNS: {} written, {} failed, {} waiting", tally.written, tally.failed, tally.waiting);
        if tally.failed + tally.waiting > 0 {
            self.warn(format!("{summary}; the rest is repeated without this operation"));
        } else {
            self.info(summary);
        }
        Turn::Reached(How::Done)
    }

    fn migrated(&mut self) -> Result<Turn, Stop> {
        let vm = self.own_vm()?;
        if !self.settings.migration {
            return Ok(Turn::skipped("migration is off in the plan"));
        }
        let placed = self.memo.placed.clone();
        let target = match &placed {
            Some(Placed { target: None, reason }) => {
                return Ok(Turn::skipped(if reason.starts_with("no suitable") {
                    reason.clone()
                } else {
                    "no change".into()
                }));
            }
            Some(Placed { target: Some(target), .. }) => target.clone(),
            // The memo was lost: the plan's node is what is left to go by.
            None => match self.settings.named_node() {
                Some(node) => node.to_owned(),
                None => return Ok(Turn::skipped("no change")),
            },
        };
        let node = vm.node.clone().unwrap_or_default();
        if self.memo.effects.contains_key("migrated") && node != target {
            self.info(format!("moved to {node} by other hands after the migration: it is followed"));
        }
        if self.memo.effects.contains_key("migrated") || node == target {
            return Ok(self.by_effect("migrated"));
        }
        if vm.status == "running" {
            return Ok(Turn::skipped("the VM runs already: it stays where it is"));
        }
        if !self.host.nodes()?.iter().any(|n| n.name == target && n.online) {
            let why = format!("no suitable node: {target} is not online; the VM stays where it is");
            self.warn(&why);
            return Ok(Turn::skipped(why));
        }
        if self.settings.linked() && !self.on_shared_storage(&vm)? && placed.is_none() {
            return Ok(Turn::skipped("a linked clone can't leave its base on local storage"));
        }
        let system = disks::system_disk(&vm.config)?.1;
        let volumes = disks::volumes(&vm.config);
        let used: Vec<&str> = volumes.iter().filter_map(disks::Drive::storage).collect();
        let wanted = self.settings.named_storage();
        match placement::storage_mapping(
            &used,
            system.storage().unwrap_or_default(),
            wanted,
            &target,
            &self.host.storages()?,
        ) {
            Ok(mapping) => {
                let options = if mapping.is_empty() { Vec::new() } else { vec![("targetstorage".to_owned(), mapping)] };
                Ok(Turn::submit(Write::Migrate { target, options }, &["migrated"]))
            }
            Err(why) => {
                let why = format!("no suitable node: {why}; the VM stays where it is");
                self.warn(&why);
                Ok(Turn::skipped(why))
            }
        }
    }

    fn changes(&self, vm: &Look) -> Result<Changes, Failure> {
        self.identity()?;
        let fact = |key: &str| self.host.fact(key);
        let (name, mac, user) = (self.name(), fact("mac").unwrap_or_default(), fact("os-user").unwrap_or_default());
        let (password, password_set) = (self.host.secret_fingerprint(PASSWORD)?, fact("password-set"));
        let keys = self.host.service("ssh-keys").unwrap_or_default();
        let slot = fact("additional-slot");
        configure::changes(
            &Inputs {
                settings: &self.settings,
                leases: &self.host.leases()?,
                storages: &self.host.storages()?,
                number: self.host.number().unwrap_or_default(),
                name: &name,
                mac: &mac,
                user: &user,
                password: password.as_deref(),
                password_set: password_set.as_deref(),
                ssh_keys: &keys,
                suspended: self.suspended(),
                version: configure::version(&self.host.version()?),
                slot: slot.as_deref(),
            },
            vm,
        )
    }

    /// A state that the one configuration call serves.
    fn configured(&mut self, state: &'static str) -> Result<Turn, Stop> {
        let vm = self.own_vm()?;
        let changes = self.changes(&vm)?;
        if changes.touches(state) {
            if let Some(slot) = &changes.slot {
                self.host.set_fact("additional-slot", Some(slot));
            }
            let password = if changes.sets_password() { self.host.secret_fingerprint(PASSWORD)? } else { None };
            return Ok(Turn::Submit {
                write: Write::Configure { set: changes.set(), delete: changes.delete(), digest: vm.digest },
                states: changes.states(),
                password,
            });
        }
        let s = &self.settings;
        Ok(match state {
            configure::SYSTEM_IO if s.system_limits().none() => Turn::skipped("the plan sets no limits"),
            configure::CREATED if s.additional_disk == 0 => Turn::skipped("the plan has no additional disk"),
            configure::ADDITIONAL_IO if s.additional_disk == 0 => Turn::skipped("the plan has no additional disk"),
            configure::ADDITIONAL_IO if s.additional_limits().none() => Turn::skipped("the plan sets no limits"),
            _ => self.by_effect(state),
        })
    }

    /// Grow only. `gib` 0 = leave it.
    fn grow(&mut self, state: &'static str, slot: &str, drive: &disks::Drive, gib: u32, if_zero: &str) -> Turn {
        if gib == 0 {
            return Turn::skipped(if_zero);
        }
        let wanted = gib.saturating_mul(1024);
        match drive.size_mib() {
            // Storages round up.
            Some(size) if size == wanted || (size > wanted && self.memo.effects.contains_key(state)) => {
                self.by_effect(state)
            }
            Some(size) if size > wanted => {
                let rejected = if state == configure::ADDITIONAL_SIZE {
                    "additional_disk_shrink_rejected"
                } else {
                    "system_disk_shrink_rejected"
                };
                self.warn(format!("{rejected}: {slot} has {size} MiB, the plan {wanted} MiB"));
                Turn::skipped("shrink not allowed by Proxmox")
            }
            // Where the configuration doesn't say a size, the write's own result has to do.
            None if self.result_of(&format!("resize {slot}")).is_some_and(|e| e.ok) => self.by_effect(state),
            _ => Turn::submit(
                Write::Resize { disk: slot.to_owned(), to_mib: wanted },
                if state == configure::ADDITIONAL_SIZE {
                    &[configure::ADDITIONAL_SIZE]
                } else {
                    &["set_system_disk_size"]
                },
            ),
        }
    }

    fn set_firewall(&mut self) -> Result<Turn, Stop> {
        self.own_vm()?;
        const SET: &str = "firewall-set";
        const OPTIONS: &str = "set_firewall";
        let addresses = firewall::addresses(&self.host.leases()?);
        if firewall::filters(&self.settings) && !addresses.is_empty() && !self.memo.effects.contains_key(SET) {
            return Ok(Turn::submit(Write::FirewallSet { name: firewall::FILTER_SET.to_owned(), addresses }, &[SET]));
        }
        if !self.memo.effects.contains_key(OPTIONS) {
            return Ok(Turn::submit(Write::FirewallOptions(firewall::options(&self.settings)), &[OPTIONS]));
        }
        if firewall::filter_left_off(&self.settings) {
            self.warn("anti-spoofing stays off: a family of this plan is DHCP, so the VM's addresses aren't known");
        }
        if firewall::enabled(&self.settings) {
            match self.host.firewall_option("enable") {
                Ok(value) if value.as_deref() == Some("1") => {}
                Ok(_) => self.warn("the cluster's firewall is off: rules and anti-spoofing have no effect until an admin switches it on (Datacenter > Firewall > Options)"),
                Err(failure) => self.warn(format!("whether the cluster's firewall is on can't be seen: {}", failure.message)),
            }
        }
        Ok(self.by_effect(OPTIONS))
    }

    fn starting(&mut self) -> Result<Turn, Stop> {
        if self.suspended() {
            return Ok(Turn::skipped("the service is suspended: the VM is not started"));
        }
        let vm = self.own_vm()?;
        if vm.status == "running" || self.result_of("start").is_some_and(|e| e.ok) {
            // Where a cluster manager starts it, the write ends before the VM runs: that is the next state's business.
            self.memo.started_ms = Some(self.host.now_ms());
            return Ok(match self.memo.effects.get("starting") {
                Some(id) => Turn::Reached(How::ByEffect(id.clone())),
                None => Turn::Reached(How::Done),
            });
        }
        Ok(Turn::submit(Write::Start, &["starting"]))
    }

    fn ready(&mut self) -> Result<Turn, Stop> {
        if self.suspended() {
            return Ok(Turn::skipped("the service is suspended: the VM is ready and switched off"));
        }
        let vm = self.own_vm()?;
        if vm.status == "running" {
            let primary = self.host.leases().unwrap_or_default();
            let at = [4, 6]
                .iter()
                .find_map(|f| cloudinit::primary(&primary, *f))
                .map_or_else(String::new, |l| format!(" at {}", l.address));
            self.info(format!("VM is ready: {}{at}", self.name()));
            return Ok(Turn::Reached(How::Done));
        }
        let now = self.host.now_ms();
        let since = *self.memo.started_ms.get_or_insert(now);
        let waited = now.saturating_sub(since);
        if waited < START_MS {
            return Ok(Turn::wait(
                2_000,
                Some("vm"),
                format!("started, but it does not run yet (status: {})", vm.status),
            ));
        }
        Ok(Turn::wait(
            30_000,
            Some("vm"),
            format!(
                "the VM does not run 60 s after its start (status: {}): look at its console; it is checked again every 30 s",
                vm.status
            ),
        ))
    }
}
