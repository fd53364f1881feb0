//! What can go wrong, on demand: `POST /_sim/control` with `{"do": "…", …}`, or [`Sim::control`] in Rust.
//!
//! Faults on requests are kept in a list and tried in order; all that match work together (a thief *and* a lost
//! reply). Other controls change the cluster at once, as an admin at the console would.

use std::collections::BTreeMap;

use regex::Regex;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::props::random_mac;
use crate::sim::Sim;
use crate::state::{State, Vm};

/// Which requests a fault meets. Empty = all.
#[derive(Clone, Debug, Default, Serialize, Deserialize, PartialEq, Eq)]
#[serde(default, deny_unknown_fields)]
pub struct Match {
    /// "GET", "POST", …, or "WRITE" for all but GET.
    pub method: Option<String>,
    /// Part of the path, which starts with `/nodes/…` or `/cluster/…`.
    pub path: Option<String>,
    /// A regular expression on the path.
    pub path_regex: Option<String>,
    /// The VM, or the new number of a clone.
    pub vmid: Option<u32>,
    /// How often it works; none = always.
    pub times: Option<u64>,
    /// How many matching requests pass first.
    pub skip: u64,
}

/// What happens to a request that a [`Match`] meets.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq, Eq)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
pub enum FaultKind {
    /// The work begins `ms` later; the answer comes after the work.
    Delay { ms: u64 },
    /// The work is done, the answer comes `ms` later.
    DelayAnswer { ms: u64 },
    /// Nothing is done, this is answered.
    Fail { status: u16, text: String },
    /// Nothing is done, the connection breaks.
    DropBefore {},
    /// The work is done, then the connection breaks.
    LoseAfter {},
    /// 596 after `answer_ms`; the work is done `ms` after the request all the same.
    Late {
        ms: u64,
        #[serde(default)]
        answer_ms: u64,
    },
    /// A foreign VM takes the number (`newid`, else the request's VM) just before the work is done; on `node`, or
    /// where the request goes.
    Thief {
        #[serde(default)]
        node: Option<String>,
    },
}

/// A fault on requests.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Fault {
    pub id: u64,
    #[serde(rename = "match")]
    pub on: Match,
    pub what: FaultKind,
    /// How often it has met a request.
    pub hits: u64,
    #[serde(skip)]
    regex: Option<Regex>,
}

/// A fault of a worker.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
pub struct TaskFault {
    /// `qmclone`, `qmstart`, …
    #[serde(rename = "type")]
    pub kind: String,
    /// The task's id (for a clone: the template's number); none = any.
    #[serde(default)]
    pub id: Option<String>,
    pub text: String,
    /// Ends as `WARNINGS: 1` after doing its work, instead of failing.
    #[serde(default)]
    pub warn: bool,
    /// Fails after doing its work, instead of before.
    #[serde(default)]
    pub after: bool,
    #[serde(default)]
    pub times: Option<u64>,
}

impl TaskFault {
    pub(crate) fn hits(&self, kind: &str, id: &str) -> bool {
        self.kind == kind && self.id.as_deref().is_none_or(|i| i == id) && self.times != Some(0)
    }
}

/// A request to change the cluster or to add a fault.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq, Eq)]
#[serde(tag = "do", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Control {
    /// Adds a fault on requests; answers its id.
    Fault {
        #[serde(rename = "match", default)]
        on: Match,
        what: FaultKind,
    },
    /// Adds a fault of workers.
    TaskFault {
        fault: TaskFault,
    },
    /// Removes one fault on requests, or every fault of both kinds.
    Clear {
        #[serde(default)]
        id: Option<u64>,
    },
    Node {
        node: String,
        online: bool,
    },
    Quorum {
        quorate: bool,
    },
    /// Sets or takes away `lock`.
    LockVm {
        vmid: u32,
        lock: Option<String>,
    },
    /// Someone else holds the configuration lock for so long.
    HoldConfigLock {
        vmid: u32,
        ms: u64,
    },
    /// The remains of a clone whose node was rebooted: `lock: clone`, no task.
    StaleClone {
        vmid: u32,
        node: String,
    },
    StorageFull {
        storage: String,
        full: bool,
    },
    StorageDisabled {
        storage: String,
        disabled: bool,
    },
    RevokeToken {
        token: String,
    },
    RestoreToken {
        token: String,
    },
    /// Replaces what a token may do; none = everything.
    Acl {
        token: String,
        acl: Option<BTreeMap<String, std::collections::BTreeSet<String>>>,
    },
    /// A foreign VM takes the number now.
    Foreign {
        vmid: u32,
        node: String,
    },
    /// The VM's configuration moves to another node, as HA would do it. Its local disks go along.
    MoveVm {
        vmid: u32,
        node: String,
    },
    StopVm {
        vmid: u32,
    },
    StartVm {
        vmid: u32,
    },
    /// Removed by hand, with its disks.
    RemoveVm {
        vmid: u32,
    },
    /// The guest no longer listens to a shutdown.
    HangGuest {
        vmid: u32,
        hung: bool,
    },
    /// Sets configuration keys by hand; null deletes.
    EditVm {
        vmid: u32,
        set: BTreeMap<String, Option<String>>,
    },
    /// Whether a node handles only so many protected calls at once as it has workers.
    WorkerLimit {
        on: bool,
    },
    /// Ends a running task as a signal would.
    AbortTask {
        upid: String,
    },
    /// An archive as another tool, or another cluster, would have made it.
    Archive {
        storage: String,
        node: String,
        vmid: u32,
        notes: String,
        protected: bool,
    },
    ClusterFirewall {
        set: BTreeMap<String, String>,
    },
    /// Empties journal, counters and violations.
    ClearLog {},
}

/// What the faults make of one request.
#[derive(Clone, Debug, Default)]
pub(crate) struct Plan {
    pub delay: u64,
    pub delay_answer: u64,
    pub fail: Option<(u16, String)>,
    pub drop_before: bool,
    pub lose_after: bool,
    pub late: Option<(u64, u64)>,
    pub thief: Option<Option<String>>,
}

impl State {
    pub(crate) fn plan(&mut self, method: &str, path: &str, vmid: Option<u32>) -> Plan {
        let mut plan = Plan::default();
        for f in &mut self.faults {
            let m = &mut f.on;
            let method_fits = m.method.as_deref().is_none_or(|x| x == method || (x == "WRITE" && method != "GET"));
            let path_fits = m.path.as_deref().is_none_or(|p| path.contains(p));
            let fits = method_fits
                && path_fits
                && f.regex.as_ref().is_none_or(|r| r.is_match(path))
                && m.vmid.is_none_or(|v| vmid == Some(v));
            if !fits || m.times == Some(0) {
                continue;
            }
            if m.skip > 0 {
                m.skip -= 1;
                continue;
            }
            m.times = m.times.map(|t| t - 1);
            f.hits += 1;
            match f.what.clone() {
                FaultKind::Delay { ms } => plan.delay += ms,
                FaultKind::DelayAnswer { ms } => plan.delay_answer += ms,
                FaultKind::Fail { status, text } => plan.fail = Some((status, text)),
                FaultKind::DropBefore {} => plan.drop_before = true,
                FaultKind::LoseAfter {} => plan.lose_after = true,
                FaultKind::Late { ms, answer_ms } => plan.late = Some((ms, answer_ms)),
                FaultKind::Thief { node } => plan.thief = Some(node),
            }
        }
        plan
    }

    /// Puts a VM of somebody else's under a number, if the number is free.
    pub(crate) fn foreign(&mut self, vmid: u32, node: &str, at: u64) {
        if self.vms.contains_key(&vmid) {
            return;
        }
        let storage = self.storages.values().find(|s| s.content.iter().any(|c| c == "images")).map(|s| s.name.clone());
        let volid = storage.and_then(|s| self.allocate(&s, node, vmid, 8 << 30, None, None).ok());
        let mut config: BTreeMap<String, String> = [
            ("name", format!("somebody-elses-{vmid}")),
            ("description", "Not made by Wharf.".to_owned()),
            ("cores", "2".into()),
            ("memory", "2048".into()),
            ("net0", format!("virtio={},bridge=vmbr0", random_mac(&mut self.rng))),
        ]
        .map(|(k, v)| (k.to_owned(), v))
        .into();
        if let Some(volid) = volid {
            config.insert("scsi0".into(), format!("{volid},size=8G"));
        }
        let mut vm = Vm::new(node, config);
        vm.remember(at);
        self.vms.insert(vmid, vm);
    }

    fn change_vm(&mut self, vmid: u32, f: impl FnOnce(&mut Vm)) -> Result<Value, String> {
        let vm = self.vms.get_mut(&vmid).ok_or_else(|| format!("vmid: there is no VM {vmid}"))?;
        f(vm);
        Ok(Value::Null)
    }
}

impl Sim {
    /// Adds a fault on requests and returns its id. Panics never; a bad `path_regex` matches nothing.
    pub fn fault(&self, on: Match, what: FaultKind) -> u64 {
        let never = || Regex::new("[^\\s\\S]").ok();
        let regex = on.path_regex.as_deref().and_then(|r| Regex::new(r).ok().or_else(never));
        self.with(|st| {
            let id = st.next_fault;
            st.next_fault += 1;
            st.faults.push(Fault { id, on, what, hits: 0, regex });
            id
        })
    }

    /// The next `times` requests of this method whose path contains `path` fail with `status` and `text`.
    pub fn fail(&self, method: &str, path: &str, status: u16, text: &str, times: u64) -> u64 {
        let on = Match { method: Some(method.into()), path: Some(path.into()), times: Some(times), ..Match::default() };
        self.fault(on, FaultKind::Fail { status, text: text.into() })
    }

    /// The next such request is carried out, and its answer is lost.
    pub fn lose_reply(&self, method: &str, path: &str) -> u64 {
        let on = Match { method: Some(method.into()), path: Some(path.into()), times: Some(1), ..Match::default() };
        self.fault(on, FaultKind::LoseAfter {})
    }

    /// Changes the cluster, or adds a fault.
    ///
    /// # Errors
    /// One sentence: no such VM, node, storage, token.
    pub fn control(&self, c: Control) -> Result<Value, String> {
        let now = self.now_ms();
        let known_node = |st: &State, node: &str| {
            st.nodes.contains_key(node).then_some(()).ok_or_else(|| format!("node: there is no node `{node}`"))
        };
        match c {
            Control::Fault { on, what } => {
                if let Some(Err(e)) = on.path_regex.as_deref().map(Regex::new) {
                    return Err(format!("match.path_regex: {e}"));
                }
                Ok(json!({ "id": self.fault(on, what) }))
            }
            Control::TaskFault { fault } => self.with(|st| {
                st.task_faults.push(fault);
                Ok(Value::Null)
            }),
            Control::Clear { id } => self.with(|st| {
                st.faults.retain(|f| id.is_some_and(|id| f.id != id));
                if id.is_none() {
                    st.task_faults.clear();
                }
                Ok(Value::Null)
            }),
            Control::Node { node, online } => self.with(|st| {
                let n = st.nodes.get_mut(&node).ok_or_else(|| format!("node: there is no node `{node}`"))?;
                n.online = online;
                Ok(Value::Null)
            }),
            Control::Quorum { quorate } => self.with(|st| {
                st.quorate = quorate;
                Ok(Value::Null)
            }),
            Control::LockVm { vmid, lock } => self.with(|st| {
                st.change_vm(vmid, |vm| {
                    match lock {
                        Some(l) => vm.config.insert("lock".into(), l),
                        None => vm.config.remove("lock"),
                    };
                })
            }),
            Control::HoldConfigLock { vmid, ms } => {
                let sim = self.clone();
                tokio::spawn(async move {
                    let guard = sim.lock_vm(vmid).await;
                    sim.sleep(ms).await;
                    drop(guard);
                });
                Ok(Value::Null)
            }
            Control::StaleClone { vmid, node } => self.with(|st| {
                known_node(st, &node)?;
                let config = [
                    ("lock".to_owned(), "clone".to_owned()),
                    ("description".to_owned(), crate::clone::STUB_TEXT.to_owned()),
                ];
                let mut vm = Vm::new(&node, config.into());
                vm.remember(now);
                st.vms.insert(vmid, vm);
                Ok(Value::Null)
            }),
            Control::StorageFull { storage, full } => self.with(|st| {
                if full {
                    st.full.insert(storage);
                } else {
                    st.full.remove(&storage);
                }
                Ok(Value::Null)
            }),
            Control::StorageDisabled { storage, disabled } => self.with(|st| {
                let s = st.storages.get_mut(&storage);
                s.ok_or_else(|| format!("storage: there is no storage `{storage}`"))?.disabled = disabled;
                Ok(Value::Null)
            }),
            Control::RevokeToken { token } => self.with(|st| {
                st.revoked.insert(token);
                Ok(Value::Null)
            }),
            Control::RestoreToken { token } => self.with(|st| {
                st.revoked.remove(&token);
                Ok(Value::Null)
            }),
            Control::Acl { token, acl } => self.with(|st| {
                let t = st.tokens.get_mut(&token);
                t.ok_or_else(|| format!("token: there is no token `{token}`"))?.acl = acl;
                Ok(Value::Null)
            }),
            Control::Foreign { vmid, node } => self.with(|st| {
                known_node(st, &node)?;
                st.foreign(vmid, &node, now);
                Ok(Value::Null)
            }),
            Control::MoveVm { vmid, node } => self.with(|st| {
                known_node(st, &node)?;
                let vm = st.vms.get(&vmid).cloned().ok_or_else(|| format!("vmid: there is no VM {vmid}"))?;
                for (_, volid) in vm.volids() {
                    let Some((storage, name)) = volid.split_once(':') else { continue };
                    if st.storages.get(storage).is_some_and(|s| !s.shared) {
                        let moved = st.content(storage, &vm.node).get().remove(name);
                        if let Some(v) = moved {
                            st.content(storage, &node).get().insert(name.to_owned(), v);
                        }
                    }
                }
                st.change_vm(vmid, |vm| vm.node = node)
            }),
            Control::StopVm { vmid } => self.with(|st| {
                st.change_vm(vmid, |vm| {
                    vm.running = false;
                    vm.remember(now);
                })
            }),
            Control::StartVm { vmid } => self.with(|st| {
                st.change_vm(vmid, |vm| {
                    vm.running = true;
                    vm.started = now;
                    vm.remember(now);
                })
            }),
            Control::RemoveVm { vmid } => self.with(|st| {
                let vm = st.vms.remove(&vmid).ok_or_else(|| format!("vmid: there is no VM {vmid}"))?;
                for (_, volid) in vm.volids() {
                    st.free_volume(&volid, &vm.node).map_err(String::from)?;
                }
                st.firewalls.remove(&vmid);
                Ok(Value::Null)
            }),
            Control::HangGuest { vmid, hung } => self.with(|st| st.change_vm(vmid, |vm| vm.hung = hung)),
            Control::EditVm { vmid, set } => self.with(|st| {
                st.change_vm(vmid, |vm| {
                    for (k, v) in set {
                        match v {
                            Some(v) => vm.config.insert(k, v),
                            None => vm.config.remove(&k),
                        };
                    }
                    vm.remember(now);
                })
            }),
            Control::WorkerLimit { on } => self.with(|st| {
                st.limit_workers = on;
                Ok(Value::Null)
            }),
            Control::AbortTask { upid } => {
                self.abort_task(&upid);
                Ok(Value::Null)
            }
            Control::Archive { storage, node, vmid, notes, protected } => self.with(|st| {
                let name = crate::backup::archive_name(st, &storage, &node, vmid);
                let mut v = st.volume(Some(vmid), 1 << 30, "vma.zst", "backup");
                v.notes = Some(notes);
                v.protected = protected;
                st.content(&storage, &node).get().insert(name.clone(), v);
                Ok(json!({ "volid": format!("{storage}:{name}") }))
            }),
            Control::ClusterFirewall { set } => self.with(|st| {
                st.cluster_firewall = set;
                Ok(Value::Null)
            }),
            Control::ClearLog {} => self.with(|st| {
                st.journal.clear();
                st.violations.clear();
                st.counters = Default::default();
                Ok(Value::Null)
            }),
        }
    }

    /// The faults on requests that are set, with their hits.
    #[must_use]
    pub fn faults(&self) -> Vec<Fault> {
        self.with(|st| st.faults.clone())
    }
}
