//! Workers: tasks with a UPID, an end, and a log.

use std::future::Future;

use serde_json::{Value, json};

use crate::{Answer, Params, Refusal, Sim, faults::What, state::Task};

impl Sim {
    /// Forks a worker; answers with its UPID. `id` is what Proxmox puts into it (a clone: the *template's* number).
    pub(crate) fn fork<F>(&self, node: &str, kind: &str, id: &str, user: &str, work: F) -> Value
    where
        F: Future<Output = Result<(), String>> + Send + 'static,
    {
        let started_s = self.now_s();
        let (upid, planned) = {
            let mut state = self.lock();
            let n = state.fresh();
            let upid = format!("UPID:{node}:{:08X}:{n:08X}:{started_s:08X}:{kind}:{id}:{user}:", 4_096 + n);
            state.tasks.push(Task {
                upid: upid.clone(),
                node: node.to_owned(),
                kind: kind.to_owned(),
                id: id.to_owned(),
                user: user.to_owned(),
                started_s,
                exit: None,
                log: Vec::new(),
            });
            (upid, state.next_task.take())
        };
        let sim = self.clone();
        let own = upid.clone();
        let worker = tokio::spawn(async move {
            let ended = match planned {
                Some(What::TaskFails(text)) => Err(text),
                Some(What::TaskWarns) => work.await.map(|()| "WARNINGS: 1".to_owned()),
                _ => work.await.map(|()| "OK".to_owned()),
            };
            let exit = ended.unwrap_or_else(|text| text);
            let mut state = sim.lock();
            state.workers.remove(&own);
            if let Some(task) = state.tasks.iter_mut().find(|t| t.upid == own) {
                task.log.push(if exit == "OK" { "TASK OK".into() } else { format!("TASK ERROR: {exit}") });
                task.exit = Some(exit);
            }
        });
        // It runs at the next await at the earliest, so it has not ended yet.
        self.lock().workers.insert(upid.clone(), worker.abort_handle());
        Value::String(upid)
    }

    /// The node goes down, at once and for so long: its workers are gone in the middle of what they did, its VMs are off, and
    /// when it is back it starts those that are to start at boot. What a copy had begun stays, with its lock.
    pub(crate) fn reboot(&self, node: &str, ms: u64) {
        let mut state = self.lock();
        let mut stubs = 0;
        let dead: Vec<String> =
            state.tasks.iter().filter(|t| t.node == node && t.exit.is_none()).map(|t| t.upid.clone()).collect();
        for upid in dead {
            if let Some(worker) = state.workers.remove(&upid) {
                worker.abort();
            }
            if let Some(task) = state.tasks.iter_mut().find(|t| t.upid == upid) {
                // What `upid_read_status` makes of a log without a last line.
                task.exit = Some("unexpected status".into());
                stubs += u32::from(task.kind == "qmclone");
            }
        }
        let gone: Vec<u32> = state.vms.values().filter(|vm| vm.node == node).map(|vm| vm.vmid).collect();
        for vmid in gone {
            state.flocks.remove(&vmid);
            if let Some(vm) = state.vms.get_mut(&vmid) {
                vm.running = false;
            }
        }
        for _ in 0..stubs {
            state.strike("stub");
        }
        for n in state.config.nodes.iter_mut().filter(|n| n.name == node) {
            n.online = false;
        }
        let (sim, node) = (self.clone(), node.to_owned());
        tokio::spawn(async move {
            Self::sleep(ms).await;
            let now = sim.now_ms();
            let mut state = sim.lock();
            for n in state.config.nodes.iter_mut().filter(|n| n.name == node) {
                n.online = true;
            }
            for vm in state.vms.values_mut().filter(|vm| vm.node == node && vm.lock().is_none()) {
                if vm.config.get("onboot").is_some_and(|v| v == "1") {
                    crate::config::apply_pending(vm);
                    vm.running = true;
                    vm.started_ms = now;
                }
            }
        });
    }

    pub(crate) fn task_status(&self, node: &str, upid: &str) -> Answer {
        let state = self.lock();
        let task = state
            .tasks
            .iter()
            .find(|t| t.upid == upid && t.node == node)
            .ok_or_else(|| Refusal::parameter("upid", "no such task"))?;
        Ok(match &task.exit {
            None => {
                json!({"upid": upid, "node": node, "type": task.kind, "id": task.id, "user": task.user, "starttime": task.started_s, "status": "running"})
            }
            Some(exit) => {
                json!({"upid": upid, "node": node, "type": task.kind, "id": task.id, "user": task.user, "starttime": task.started_s, "status": "stopped", "exitstatus": exit})
            }
        })
    }

    pub(crate) fn task_log(&self, upid: &str) -> Answer {
        let state = self.lock();
        let task =
            state.tasks.iter().find(|t| t.upid == upid).ok_or_else(|| Refusal::parameter("upid", "no such task"))?;
        Ok(task.log.iter().enumerate().map(|(n, t)| json!({"n": n + 1, "t": t})).collect())
    }

    /// Newest first. `source` active | archive | all.
    pub(crate) fn task_list(&self, node: &str, params: &Params) -> Answer {
        let state = self.lock();
        let source = params.get("source").map_or("archive", String::as_str);
        let number = |key: &str| params.get(key).and_then(|v| v.parse::<i64>().ok());
        let limit = number("limit").and_then(|n| usize::try_from(n).ok()).unwrap_or(50);
        let list: Vec<Value> = state
            .tasks
            .iter()
            .rev()
            .filter(|t| t.node == node)
            .filter(|t| match source {
                "active" => t.exit.is_none(),
                "all" => true,
                _ => t.exit.is_some(),
            })
            .filter(|t| params.get("vmid").is_none_or(|id| *id == t.id))
            .filter(|t| params.get("typefilter").is_none_or(|k| t.kind.contains(k.as_str())))
            .filter(|t| number("since").is_none_or(|s| t.started_s >= s))
            .take(limit)
            .map(|t| {
                let mut row = json!({"upid": t.upid, "node": t.node, "type": t.kind, "id": t.id, "user": t.user, "starttime": t.started_s});
                if let (Some(exit), Some(map)) = (&t.exit, row.as_object_mut()) {
                    map.insert("status".into(), exit.clone().into());
                    map.insert("endtime".into(), t.started_s.into());
                }
                row
            })
            .collect();
        Ok(Value::Array(list))
    }
}
