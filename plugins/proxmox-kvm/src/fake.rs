//! A host and a Proxmox cluster small enough to read, for tests: commits like the engine (memo and facts only with an
//! outcome), executes writes between steps, allocates disks like Proxmox (every `store:SIZE` makes a new volume).

use std::cell::RefCell;
use std::collections::{BTreeMap, VecDeque};

use crate::host::*;
use crate::run;

#[derive(Clone, Debug)]
pub struct Vm {
    pub node: String,
    pub status: String,
    pub lock: Option<String>,
    pub ours: bool,
    pub config: BTreeMap<String, String>,
    pub changes: u32,
}

/// An injected result for the next write of this kind.
#[derive(Clone, Debug)]
pub struct Fault {
    pub key: &'static str,
    pub code: &'static str,
    /// The effect happens all the same, but is reported failed; or, with an empty code, is reported ok and happens not.
    pub happens: bool,
}

#[derive(Clone)]
pub struct World {
    pub kind: &'static str,
    pub state: String,
    pub attempt: u32,
    pub settings: serde_json::Value,
    pub service: BTreeMap<String, String>,
    pub facts: BTreeMap<String, String>,
    pub memo: Option<String>,
    pub last: Option<Effect>,
    pub now: u64,
    pub number: Option<u32>,
    pub burnt: Vec<u32>,
    pub vms: BTreeMap<u32, Vm>,
    pub templates: Vec<(String, Template, BTreeMap<String, String>)>,
    pub nodes: Vec<Node>,
    pub storages: Vec<Storage>,
    pub version: String,
    pub pool: Vec<Lease>,
    pub held: Vec<Lease>,
    pub cluster_firewall: Option<String>,
    pub tally: Tally,
    pub declared: Option<(String, Vec<String>)>,
    pub naming_fails: bool,
    pub backups: Vec<Backup>,
    pub absence_fails: Option<Failure>,
    pub absence_proven: bool,
    pub leftovers: Vec<String>,
    pub room_fails: bool,
    /// A foreign VM's number is burnt by Proxmox's refusal only.
    pub burns_late: bool,
    /// Writes of shutdown and stop leave the VM running.
    pub undying: bool,
    /// A started VM stays stopped.
    pub lifeless: bool,
    pub firewall_set: Vec<String>,
    pub firewall_options: BTreeMap<String, String>,
    pub faults: VecDeque<Fault>,
    pub volumes: u32,
    pub seq: u32,
    pub pending: Option<(String, Write)>,
    pub writes: Vec<Write>,
    pub log: Vec<String>,
    pub reached: Vec<(String, How)>,
}

pub struct Fake(pub RefCell<World>);

pub fn node(name: &str, free: u32) -> Node {
    Node {
        name: name.into(),
        online: true,
        memory_total_mib: 64_000,
        memory_used_mib: 64_000 - free,
        promised_mib: 0,
        cpus: 8,
        ext: Vec::new(),
    }
}

pub fn storage(name: &str, node: &str, kind: &str, shared: bool) -> Storage {
    Storage {
        name: name.into(),
        node: node.into(),
        kind: kind.into(),
        shared,
        active: true,
        content: vec!["images".into(), "backup".into()],
        total_mib: 900_000,
        free_mib: 500_000,
        promised_mib: 0,
        ext: Vec::new(),
    }
}

pub fn lease(address: &str, family: u32, index: u32) -> Lease {
    let v4 = family == 4;
    Lease {
        address: address.into(),
        family,
        prefix_length: if v4 { 24 } else { 64 },
        gateway: Some(if v4 { "192.0.2.1" } else { "2001:db8::1" }.into()),
        nameservers: vec![if v4 { "9.9.9.9" } else { "2620:fe::fe" }.into()],
        bridge: "vmbr1".into(),
        vlan: Some(42),
        index,
        ext: Vec::new(),
    }
}

pub fn template(number: u32, node: &str, storage: &str, shared: bool) -> (String, Template, BTreeMap<String, String>) {
    let config = [
        ("boot", "order=ide2;scsi0".to_owned()),
        ("scsi0", format!("{storage}:base-{number}-disk-0,discard=on,size=2252M")),
        ("ide2", format!("{storage}:vm-{number}-cloudinit,media=cdrom")),
        ("net0", "virtio=AA:AA:AA:AA:AA:AA,bridge=vmbr0".to_owned()),
        ("memory", "512".to_owned()),
        ("template", "1".to_owned()),
    ];
    (
        "Debian 12".into(),
        Template { number, node: node.into(), storage: storage.into(), shared, ext: Vec::new() },
        config.into_iter().map(|(k, v)| (k.to_owned(), v)).collect(),
    )
}

impl World {
    pub fn new(settings: serde_json::Value) -> Self {
        let mut all = serde_json::json!({"image": "Debian 12", "main-domain": "example.com"});
        for (key, value) in settings.as_object().unwrap() {
            all[key] = value.clone();
        }
        Self {
            kind: "deploy",
            state: "creation".into(),
            attempt: 0,
            settings: all,
            service: [("client-id", "17"), ("ref", "5546"), ("suspended", "false")]
                .map(|(k, v)| (k.into(), v.into()))
                .into(),
            facts: BTreeMap::new(),
            memo: None,
            last: None,
            now: 1_000_000,
            number: None,
            burnt: Vec::new(),
            vms: BTreeMap::new(),
            templates: vec![template(9000, "a", "local-lvm", false)],
            nodes: vec![node("a", 9000), node("b", 5000)],
            storages: vec![storage("local-lvm", "a", "lvmthin", false), storage("local-lvm", "b", "lvmthin", false)],
            version: "9.1".into(),
            pool: vec![lease("192.0.2.10", 4, 0), lease("192.0.2.11", 4, 1), lease("2001:db8::10", 6, 0)],
            held: Vec::new(),
            cluster_firewall: Some("1".into()),
            tally: Tally { waiting: 0, written: 2, failed: 0 },
            declared: None,
            naming_fails: false,
            backups: Vec::new(),
            absence_fails: None,
            absence_proven: false,
            leftovers: Vec::new(),
            room_fails: false,
            burns_late: false,
            undying: false,
            lifeless: false,
            firewall_set: Vec::new(),
            firewall_options: BTreeMap::new(),
            faults: VecDeque::new(),
            volumes: 0,
            seq: 0,
            pending: None,
            writes: Vec::new(),
            log: Vec::new(),
            reached: Vec::new(),
        }
    }

    pub fn vm(&mut self) -> &mut Vm {
        let number = self.number.unwrap();
        self.vms.get_mut(&number).unwrap()
    }

    /// Does what the write says, with its fault if one is due.
    fn execute(&mut self, id: String, write: Write) {
        self.writes.push(write.clone());
        let fault = self.faults.front().filter(|f| write.key().starts_with(f.key)).cloned();
        let mut result = Ok(());
        if fault.as_ref().is_none_or(|f| f.happens) {
            result = self.apply(&write);
        }
        if let Some(fault) = fault {
            self.faults.pop_front();
            if !fault.code.is_empty() {
                result = Err((fault.code.to_owned(), "injected".to_owned()));
            }
            if fault.code == "number-taken" {
                self.burn();
            }
        }
        let (ok, (code, message)) = match result {
            Ok(()) => (true, Default::default()),
            Err(problem) => (false, problem),
        };
        self.last = Some(Effect { id, kind: write.key(), ok, code, message, ext: Vec::new() });
    }

    pub fn burn(&mut self) {
        self.burnt.extend(self.number.take());
    }

    fn apply(&mut self, write: &Write) -> Result<(), (String, String)> {
        let no = |code: &str, text: &str| Err((code.to_owned(), text.to_owned()));
        if let Write::Clone { template, number, name, options, .. } = write {
            let (_, of, config) = self.templates.iter().find(|(_, t, _)| t.number == *template).unwrap().clone();
            if self.vms.contains_key(number) {
                self.burn();
                return no("number-taken", "config file already exists");
            }
            let mut config: BTreeMap<String, String> = config
                .into_iter()
                .filter(|(k, _)| k != "template")
                .map(|(k, v)| (k, v.replace("base-9000", &format!("vm-{number}")).replace("9000", &number.to_string())))
                .collect();
            config.insert("name".into(), name.clone());
            if let Some((_, storage)) = options.iter().find(|(k, _)| k == "storage") {
                for value in config.values_mut().filter(|v| v.contains("-disk-")) {
                    *value = format!("{storage}:{}", value.split_once(':').unwrap().1);
                }
            }
            let node = options.iter().find(|(k, _)| k == "target").map_or(of.node, |(_, v)| v.clone());
            self.vms.insert(*number, Vm { node, status: "stopped".into(), lock: None, ours: true, config, changes: 0 });
            return Ok(());
        }
        if let Write::RemoveBackup(volume) = write {
            self.backups.retain(|b| b.volume != *volume);
            return Ok(());
        }
        let number = self.number.unwrap();
        let (undying, lifeless) = (self.undying, self.lifeless);
        let vm = self.vms.get_mut(&number).unwrap();
        assert!(vm.ours, "a foreign VM was written to: {write:?}");
        match write {
            Write::Migrate { target, options } => {
                vm.node = target.clone();
                for pair in options.iter().flat_map(|(_, v)| v.split(',')) {
                    let (from, to) = pair.split_once(':').unwrap();
                    for value in vm.config.values_mut() {
                        if let Some(rest) = value.strip_prefix(&format!("{from}:")) {
                            *value = format!("{to}:{rest}");
                        }
                    }
                }
            }
            Write::Configure { set, delete, digest } => {
                if *digest != vm.changes.to_string() {
                    return no("digest", "checksum mismatch (file change by other user?)");
                }
                assert!(!set.is_empty() || !delete.is_empty(), "no options specified");
                for (key, value) in set {
                    assert!(!key.is_empty());
                    let (head, tail) = value.split_once(',').map_or((value.as_str(), ""), |(h, t)| (h, t));
                    let alloc = head
                        .split_once(':')
                        .filter(|_| crate::disks::slot(key).is_some())
                        .and_then(|(s, n)| Some((s, n.parse::<u32>().ok()?)));
                    let stored = match alloc {
                        Some((storage, gib)) => {
                            self.volumes += 1;
                            let tail: String = tail
                                .split(',')
                                .filter(|p| !p.is_empty() && !p.starts_with("format="))
                                .map(|p| format!(",{p}"))
                                .collect();
                            format!("{storage}:vm-{number}-disk-{}{tail},size={gib}G", self.volumes)
                        }
                        None if key == "cipassword" => {
                            assert_eq!(value, "{{os-password}}");
                            "**********".into()
                        }
                        None => value.clone(),
                    };
                    if crate::disks::slot(key).is_some() {
                        // An attached detached volume is no longer listed as unused.
                        let volume = stored.split(',').next().unwrap().to_owned();
                        vm.config.retain(|k, v| !(k.starts_with("unused") && *v == volume));
                    }
                    vm.config.insert(key.clone(), stored);
                }
                for key in delete {
                    vm.config.remove(key);
                }
                vm.changes += 1;
            }
            Write::Resize { disk, to_mib } => {
                let mut drive = crate::disks::Drive::parse(vm.config.get(disk).unwrap());
                assert!(drive.size_mib().unwrap() <= *to_mib, "shrinking disks is not supported");
                drive.set("size", format!("{to_mib}M"));
                vm.config.insert(disk.clone(), drive.to_string());
                vm.changes += 1;
            }
            Write::Start if lifeless => {}
            Write::Start => vm.status = "running".into(),
            Write::Shutdown { .. } | Write::Stop if undying => {}
            Write::Shutdown { .. } | Write::Stop => vm.status = "stopped".into(),
            Write::Destroy => {
                assert_eq!(vm.status, "stopped", "VM is running - destroy failed");
                self.vms.remove(&number);
            }
            Write::FirewallOptions(set) => self.firewall_options.extend(set.iter().cloned()),
            Write::FirewallSet { addresses, .. } => self.firewall_set = addresses.clone(),
            Write::Clone { .. } | Write::RemoveBackup(_) => unreachable!(),
        }
        Ok(())
    }
}

impl Fake {
    pub fn new(settings: serde_json::Value) -> Self {
        Self(RefCell::new(World::new(settings)))
    }

    /// Changes the world between steps.
    pub fn with(&self, change: impl FnOnce(&mut World)) {
        change(&mut self.0.borrow_mut());
    }

    pub fn get<T>(&self, read: impl FnOnce(&World) -> T) -> T {
        read(&self.0.borrow())
    }

    /// One step as the engine does it: commit the outcome, then execute the write. A failed step leaves no trace.
    pub fn step(&self) -> Result<Outcome, Failure> {
        let before = self.0.borrow().clone();
        let answer = run::step(self);
        let mut world = self.0.borrow_mut();
        match &answer {
            Ok(outcome) => {
                match outcome {
                    Outcome::Reached(states) => {
                        for r in states {
                            world.state = r.state.clone();
                            world.reached.push((r.state.clone(), r.how.clone()));
                        }
                        world.attempt = 0;
                        assert!(world.pending.is_none(), "a write was submitted beside reached states");
                    }
                    Outcome::Submitted => {
                        assert!(world.pending.is_some(), "submitted without a write")
                    }
                    Outcome::Waiting(wait) => world.now += u64::from(wait.after_ms),
                    Outcome::Stuck(_) => {}
                }
                if let Some((id, write)) = world.pending.take() {
                    world.now += 100;
                    world.execute(id, write);
                }
            }
            Err(_) => {
                let log = world.log.clone();
                *world = before;
                world.log = log;
                world.attempt += 1;
                world.now += 1000;
            }
        }
        answer
    }

    /// A step whose answer is lost: nothing is committed, nothing executed.
    pub fn lost_step(&self) {
        let before = self.0.borrow().clone();
        let _ = run::step(self);
        *self.0.borrow_mut() = before;
    }

    /// Steps until the final state; panics when it isn't reached.
    pub fn finish(&self, last: &str) -> Vec<Write> {
        self.run(last, |_, _| {});
        self.get(|w| w.writes.clone())
    }

    /// Steps until the state, calling `between` before each.
    pub fn run(&self, until: &str, mut between: impl FnMut(usize, &Self)) -> usize {
        for n in 0..200 {
            // A step may go on past it.
            if self.get(|w| w.state == until || w.reached.iter().any(|(s, _)| s == until)) {
                return n;
            }
            between(n, self);
            match self.step() {
                Ok(Outcome::Stuck(why)) => {
                    panic!("stuck at {}: {why}", self.get(|w| w.state.clone()))
                }
                Err(failure) if failure.action == Action::ReportBug => panic!("{failure:?}"),
                _ => {}
            }
        }
        panic!(
            "not {until} after 200 steps, but {}; log: {:?}",
            self.get(|w| w.state.clone()),
            self.get(|w| w.log.clone())
        );
    }

    /// How a state was reached.
    pub fn how(&self, state: &str) -> How {
        self.get(|w| {
            w.reached.iter().find(|(s, _)| s == state).unwrap_or_else(|| panic!("{state} was not reached")).1.clone()
        })
    }

    pub fn skipped(&self, state: &str) -> String {
        match self.how(state) {
            How::Skipped(why) => why,
            other => panic!("{state}: {other:?}"),
        }
    }

    pub fn logged(&self, text: &str) -> bool {
        self.get(|w| w.log.iter().any(|l| l.contains(text)))
    }

    pub fn config(&self, key: &str) -> String {
        self.get(|w| w.vms[&w.number.unwrap()].config.get(key).cloned().unwrap_or_default())
    }
}

impl Server for Fake {
    fn version(&self) -> Result<String, Failure> {
        Ok(self.get(|w| w.version.clone()))
    }
    fn nodes(&self) -> Result<Vec<Node>, Failure> {
        Ok(self.get(|w| w.nodes.clone()))
    }
    fn image(&self, name: &str) -> Result<Vec<Template>, Failure> {
        Ok(self.get(|w| w.templates.iter().filter(|(n, ..)| n == name).map(|(_, t, _)| t.clone()).collect()))
    }
    fn images(&self) -> Result<Vec<String>, Failure> {
        Ok(self.get(|w| w.templates.iter().map(|(n, ..)| n.clone()).collect()))
    }
    fn template(&self, number: u32) -> Result<Look, Failure> {
        let (_, t, config) = self.get(|w| w.templates.iter().find(|(_, t, _)| t.number == number).cloned().unwrap());
        Ok(Look {
            presence: Presence::Foreign,
            node: Some(t.node),
            status: "stopped".into(),
            lock: None,
            digest: "t".into(),
            config,
        })
    }
    fn firewall_option(&self, _: &str) -> Result<Option<String>, Failure> {
        Ok(self.get(|w| w.cluster_firewall.clone()))
    }
    fn storages(&self) -> Result<Vec<Storage>, Failure> {
        Ok(self.get(|w| w.storages.clone()))
    }
}

impl Host for Fake {
    fn kind(&self) -> String {
        self.get(|w| w.kind.to_owned())
    }
    fn state(&self) -> String {
        self.get(|w| w.state.clone())
    }
    fn attempt(&self) -> u32 {
        self.get(|w| w.attempt)
    }
    fn settings(&self) -> String {
        self.get(|w| w.settings.to_string())
    }
    fn service(&self, key: &str) -> Option<String> {
        self.get(|w| w.service.get(key).cloned())
    }
    fn fact(&self, key: &str) -> Option<String> {
        self.get(|w| w.facts.get(key).cloned())
    }
    fn set_fact(&self, key: &str, value: Option<&str>) {
        self.with(|w| match value {
            Some(value) => drop(w.facts.insert(key.into(), value.into())),
            None => drop(w.facts.remove(key)),
        });
    }
    fn memo(&self) -> Option<String> {
        self.get(|w| w.memo.clone())
    }
    fn remember(&self, memo: &str) {
        self.with(|w| w.memo = Some(memo.into()));
    }
    fn last_effect(&self) -> Option<Effect> {
        self.get(|w| w.last.clone())
    }
    fn number(&self) -> Option<u32> {
        self.get(|w| w.number)
    }
    fn reserve_number(&self, first: u32) -> Result<u32, Failure> {
        self.with(|w| {
            // Found taken by somebody else: burnt.
            if !w.burns_late && w.number.is_some_and(|n| w.vms.get(&n).is_some_and(|vm| !vm.ours)) {
                w.burn();
            }
            if w.number.is_none() {
                w.number = (first..).find(|n| !w.burnt.contains(n) && !w.vms.contains_key(n));
            }
        });
        Ok(self.get(|w| w.number.unwrap()))
    }
    fn reserve_room(&self, node: &str, _: u32, _: &str, _: u32) -> Result<(), Failure> {
        if self.get(|w| w.room_fails) { Err(Failure::busy("no-room", format!("{node} is full"))) } else { Ok(()) }
    }
    fn look(&self) -> Result<Look, Failure> {
        Ok(self.get(|w| match w.number.and_then(|n| w.vms.get(&n)) {
            None => Look {
                presence: Presence::None,
                node: None,
                status: String::new(),
                lock: None,
                digest: String::new(),
                config: BTreeMap::new(),
            },
            Some(vm) => Look {
                presence: if vm.ours { Presence::Ours } else { Presence::Foreign },
                node: Some(vm.node.clone()),
                status: vm.status.clone(),
                lock: vm.lock.clone(),
                digest: vm.changes.to_string(),
                config: vm.config.clone(),
            },
        }))
    }
    fn prove_absence(&self) -> Result<Absence, Failure> {
        if let Some(failure) = self.get(|w| w.absence_fails.clone()) {
            return Err(failure);
        }
        if self.get(|w| w.number.is_some_and(|n| w.vms.contains_key(&n))) {
            return Err(Failure::busy("still-there", "a VM of this number is there"));
        }
        self.with(|w| w.absence_proven = true);
        Ok(Absence { leftovers: self.get(|w| w.leftovers.clone()) })
    }
    fn submit(&self, write: &Write) -> Result<String, Failure> {
        self.with(|w| {
            assert!(w.pending.is_none(), "a second write in one step");
            w.seq += 1;
            w.pending = Some((format!("1.{}", w.seq), write.clone()));
        });
        Ok(self.get(|w| format!("1.{}", w.seq)))
    }
    fn reserve_leases(&self, wish: Wish) -> Result<Vec<Lease>, Failure> {
        let take = |family: u32, n: u32| {
            self.get(|w| w.pool.iter().filter(|l| l.family == family).take(n as usize).cloned().collect::<Vec<_>>())
        };
        let (v4, v6) = (take(4, wish.ipv4), take(6, wish.ipv6));
        if v4.len() < wish.ipv4 as usize || v6.len() < wish.ipv6 as usize {
            return Err(Failure::busy("addresses-short", "pool `main` has too few free addresses"));
        }
        self.with(|w| w.held = [v4, v6].concat());
        self.leases()
    }
    fn leases(&self) -> Result<Vec<Lease>, Failure> {
        Ok(self.get(|w| w.held.clone()))
    }
    fn release_leases(&self) -> Result<(), Failure> {
        if !self.get(|w| w.absence_proven) {
            return Err(Failure::busy("absence-unproven", "the VM's absence is not proven"));
        }
        self.with(|w| w.held.clear());
        Ok(())
    }
    fn declare_names(&self, fqdn: &str, addresses: &[String]) -> Result<(), Failure> {
        if self.get(|w| w.naming_fails) {
            return Err(Failure::retry("dns", "no zone answers"));
        }
        self.with(|w| w.declared = Some((fqdn.into(), addresses.to_vec())));
        Ok(())
    }
    fn withdraw_names(&self) -> Result<(), Failure> {
        if self.get(|w| w.naming_fails) {
            return Err(Failure::retry("dns", "no zone answers"));
        }
        self.with(|w| w.declared = None);
        Ok(())
    }
    fn naming_progress(&self) -> Result<Tally, Failure> {
        Ok(self.get(|w| w.tally))
    }
    fn backups(&self) -> Result<Vec<Backup>, Failure> {
        Ok(self.get(|w| w.backups.clone()))
    }
    fn generate_secret(&self, _: &str, _: u32) -> Result<(), Failure> {
        Ok(())
    }
    fn secret_fingerprint(&self, _: &str) -> Result<Option<String>, Failure> {
        Ok(Some("f00d".into()))
    }
    fn now_ms(&self) -> u64 {
        self.get(|w| w.now)
    }
    fn entropy(&self, len: u32) -> Vec<u8> {
        (0..len).map(|n| (n * 37 + 11) as u8).collect()
    }
    fn log(&self, _: Level, message: &str) {
        self.with(|w| w.log.push(message.into()));
    }
}
