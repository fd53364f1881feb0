//! Faults on demand, by `POST /_sim/fault` or by methods of [`Sim`].

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::Sim;

/// One fault: which requests it hits, what it does, how often.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fault {
    /// Empty = any method; "write" = POST, PUT and DELETE.
    #[serde(default)]
    pub method: String,
    /// Part of the path; empty = all.
    #[serde(default)]
    pub path: String,
    /// How many requests; none = until it is cleared.
    #[serde(default)]
    pub times: Option<u32>,
    pub what: What,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum What {
    /// Answers after so many milliseconds; the work is done first.
    SlowAnswer(u64),
    /// Begins after so many milliseconds.
    SlowStart(u64),
    /// Refuses: status and text, nothing is done.
    Refuse { status: u16, text: String },
    /// The connection breaks before anything is done.
    DropBefore,
    /// Everything is done, and the connection breaks instead of an answer.
    LoseReply,
    /// The client gets a 596 at once; the request is carried out after so many milliseconds.
    Late(u64),
    /// A stranger's VM takes the number of this clone just before it arrives.
    Thief,
    /// The task that this write starts fails with this text.
    TaskFails(String),
    /// The task that this write starts ends with warnings.
    TaskWarns,
}

impl What {
    /// Its name, as it is counted.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::SlowAnswer(_) => "slow-answer",
            Self::SlowStart(_) => "slow-start",
            Self::Refuse { .. } => "refuse",
            Self::DropBefore => "drop-before",
            Self::LoseReply => "lose-reply",
            Self::Late(_) => "late",
            Self::Thief => "thief",
            Self::TaskFails(_) => "task-fails",
            Self::TaskWarns => "task-warns",
        }
    }
}

impl Fault {
    pub fn hits(&self, method: &str, path: &str) -> bool {
        let method_fits = match self.method.as_str() {
            "" => true,
            "write" => method != "GET",
            wanted => wanted == method,
        };
        method_fits && path.contains(&self.path) && self.times != Some(0)
    }
}

/// States that last.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Condition {
    NodeOffline(String),
    NodeOnline(String),
    NoQuorum,
    Quorum,
    RevokeToken(String),
    RestoreToken(String, String),
    /// (token, part of the path, privilege): answers 403.
    Forbid(String, String, String),
    AllowAll,
    /// What a token holds from now on, by path.
    Privileges(String, BTreeMap<String, BTreeSet<String>>),
    Lock(u32, String),
    Unlock(u32),
    /// Moved by other hands.
    Move(u32, String),
    StopByHand(u32),
    /// (storage, free MiB).
    Free(String, u64),
    DisableStorage(String),
    EnableStorage(String),
    /// A stranger's VM of this number on this node, running.
    ForeignVm(u32, String),
    /// The guest ignores a shutdown.
    Hang(u32),
    /// And not even a hard stop ends it.
    Undying(u32),
    /// Another worker holds the VM's configuration file, until it lets go.
    Hold(u32),
    LetGo(u32),
    /// Removed by hand, with its disks, whatever its lock.
    Remove(u32),
    /// The node reboots: (node, milliseconds until it is back). Its workers die where they stand.
    Reboot(String, u64),
    /// A `lock: clone` stub without a task, as a node's reboot leaves it.
    Stub(u32, String),
    /// Archive of this number on this storage, with these notes, made by somebody else.
    Archive(u32, String, String),
}

impl Sim {
    pub fn fault(&self, fault: Fault) {
        self.lock().faults.push(fault);
    }

    /// Hits the next request that fits, once.
    pub fn once(&self, method: &str, path: &str, what: What) {
        self.fault(Fault { method: method.into(), path: path.into(), times: Some(1), what });
    }

    pub fn clear_faults(&self) {
        self.lock().faults.clear();
    }

    pub fn condition(&self, condition: Condition) {
        if let Condition::Reboot(node, ms) = &condition {
            return self.reboot(node, *ms);
        }
        let mut state = self.lock();
        match condition {
            Condition::NodeOffline(node) => set_online(&mut state.config.nodes, &node, false),
            Condition::NodeOnline(node) => set_online(&mut state.config.nodes, &node, true),
            Condition::NoQuorum => state.quorate = false,
            Condition::Quorum => state.quorate = true,
            Condition::RevokeToken(id) => {
                state.config.tokens.remove(&id);
            }
            Condition::RestoreToken(id, secret) => {
                state.config.tokens.insert(id, secret);
            }
            Condition::Forbid(token, path, privilege) => state.forbidden.push((token, path, privilege)),
            Condition::Privileges(token, paths) => {
                state.config.privileges.insert(token, paths);
            }
            Condition::AllowAll => state.forbidden.clear(),
            Condition::Lock(vmid, lock) => {
                if let Some(vm) = state.vms.get_mut(&vmid) {
                    vm.config.insert("lock".into(), lock);
                }
            }
            Condition::Unlock(vmid) => {
                if let Some(vm) = state.vms.get_mut(&vmid) {
                    vm.config.remove("lock");
                }
            }
            Condition::Move(vmid, node) => {
                let names: Vec<String> = state
                    .vms
                    .get(&vmid)
                    .map(|vm| {
                        vm.config
                            .iter()
                            .filter(|(k, _)| crate::drives::is_disk_key(k))
                            .map(|(_, v)| crate::drives::parse(v).0)
                            .collect()
                    })
                    .unwrap_or_default();
                for volume in &mut state.volumes {
                    if names.contains(&volume.volid) && volume.node.is_some() {
                        volume.node = Some(node.clone());
                    }
                }
                if let Some(vm) = state.vms.get_mut(&vmid) {
                    vm.node = node;
                }
            }
            Condition::StopByHand(vmid) => {
                if let Some(vm) = state.vms.get_mut(&vmid) {
                    vm.running = false;
                }
            }
            Condition::Free(storage, mib) => {
                if let Some(s) = state.config.storages.iter_mut().find(|s| s.name == storage) {
                    s.used_mib = s.total_mib.saturating_sub(mib);
                }
            }
            Condition::DisableStorage(name) => enable(&mut state.config.storages, &name, false),
            Condition::EnableStorage(name) => enable(&mut state.config.storages, &name, true),
            Condition::ForeignVm(vmid, node) => state.foreign(vmid, &node),
            Condition::Hold(vmid) => {
                state.flocks.insert(vmid);
            }
            Condition::LetGo(vmid) => {
                state.flocks.remove(&vmid);
            }
            Condition::Remove(vmid) => state.remove(vmid),
            // Done above.
            Condition::Reboot(..) => {}
            Condition::Hang(vmid) => {
                if let Some(vm) = state.vms.get_mut(&vmid) {
                    vm.hung = true;
                }
            }
            Condition::Undying(vmid) => {
                if let Some(vm) = state.vms.get_mut(&vmid) {
                    vm.hung = true;
                    vm.undying = true;
                }
            }
            Condition::Stub(vmid, node) => {
                let config = [("lock".to_owned(), "clone".to_owned())].into();
                state.vms.insert(vmid, crate::state::Vm { vmid, node, config, ..Default::default() });
            }
            Condition::Archive(vmid, storage, notes) => state.archive(vmid, &storage, &notes),
        }
    }
}

fn set_online(nodes: &mut [crate::state::Node], name: &str, online: bool) {
    for node in nodes.iter_mut().filter(|n| n.name == name) {
        node.online = online;
    }
}

fn enable(storages: &mut [crate::state::Storage], name: &str, enabled: bool) {
    for storage in storages.iter_mut().filter(|s| s.name == name) {
        storage.enabled = enabled;
    }
}
