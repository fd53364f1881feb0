//! Start, stop, shutdown, destroy.

use serde_json::json;

use crate::{Answer, Params, Refusal, Sim, State, config::apply_pending, drives};

impl State {
    /// A VM and its disks.
    pub(crate) fn remove(&mut self, vmid: u32) {
        let Some(vm) = self.vms.remove(&vmid) else { return };
        for (key, value) in &vm.config {
            if drives::is_disk(key, value) || drives::indexed(key, "unused") {
                self.free(&drives::parse(value).0);
            }
        }
    }
}

impl Sim {
    pub(crate) fn status(&self, node: &str, vmid: u32) -> Answer {
        let now = self.now_ms();
        let mut state = self.lock();
        let vm = state.vm(node, vmid)?;
        let memory: u64 = vm.config.get("memory").and_then(|m| m.parse().ok()).unwrap_or(512);
        let mut status = json!({
            "vmid": vmid, "status": if vm.running { "running" } else { "stopped" },
            "qmpstatus": if vm.running { "running" } else { "stopped" },
            "name": vm.config.get("name"), "uptime": if vm.running { now.saturating_sub(vm.started_ms) / 1000 } else { 0 },
            "maxmem": memory * 1_048_576, "cpus": 1, "ha": {"managed": 0},
        });
        if let (Some(lock), Some(map)) = (vm.lock(), status.as_object_mut()) {
            map.insert("lock".into(), lock.into());
        }
        Ok(status)
    }

    pub(crate) async fn start(&self, node: &str, vmid: u32, user: &str) -> Answer {
        self.lock().vm(node, vmid)?;
        let (sim, own, time) = (self.clone(), node.to_owned(), self.timing().start);
        Ok(self.fork(node, "qmstart", &vmid.to_string(), user, async move {
            sim.flock(vmid).await.map_err(|e| e.text)?;
            {
                let mut state = sim.lock();
                if state.vm(&own, vmid).map_err(|e| e.text)?.template {
                    return Err("you can't start a vm if it's a template".into());
                }
                if state.unlocked(&own, vmid).map_err(|e| e.text)?.running {
                    return Err(format!("VM {vmid} already running"));
                }
            }
            Sim::sleep(time).await;
            let now = sim.now_ms();
            let mut state = sim.lock();
            let vm = state.vm(&own, vmid).map_err(|e| e.text)?;
            apply_pending(vm);
            vm.running = true;
            vm.started_ms = now;
            Ok(())
        }))
    }

    pub(crate) async fn stop(&self, node: &str, vmid: u32, params: &Params, user: &str) -> Answer {
        self.lock().unlocked(node, vmid)?;
        let overrule = params.get("overrule-shutdown").is_some_and(|v| v == "1");
        let (sim, own, time) = (self.clone(), node.to_owned(), self.timing().stop);
        Ok(self.fork(node, "qmstop", &vmid.to_string(), user, async move {
            if overrule {
                sim.lock().flocks.remove(&vmid);
            }
            sim.flock(vmid).await.map_err(|e| e.text)?;
            Sim::sleep(time).await;
            let mut state = sim.lock();
            let vm = state.vm(&own, vmid).map_err(|e| e.text)?;
            if vm.undying {
                return Err("VM still running - terminating now with SIGKILL failed".into());
            }
            vm.running = false;
            apply_pending(vm);
            Ok(())
        }))
    }

    pub(crate) async fn shutdown(&self, node: &str, vmid: u32, params: &Params, user: &str) -> Answer {
        self.lock().unlocked(node, vmid)?;
        let seconds: u64 = params.get("timeout").and_then(|t| t.parse().ok()).unwrap_or(60);
        let force = params.get("forceStop").is_some_and(|v| v == "1");
        let (sim, own, time) = (self.clone(), node.to_owned(), self.timing().shutdown);
        Ok(self.fork(node, "qmshutdown", &vmid.to_string(), user, async move {
            sim.flock(vmid).await.map_err(|e| e.text)?;
            let (running, hung) = {
                let mut state = sim.lock();
                let vm = state.vm(&own, vmid).map_err(|e| e.text)?;
                (vm.running, vm.hung)
            };
            if !running {
                return Ok(());
            }
            // The worker holds the configuration for its whole time-out.
            sim.lock().flocks.insert(vmid);
            Sim::sleep(if hung { seconds * 1000 } else { time.min(seconds * 1000) }).await;
            let mut state = sim.lock();
            state.flocks.remove(&vmid);
            let vm = state.vm(&own, vmid).map_err(|e| e.text)?;
            if hung && (!force || vm.undying) {
                return Err("VM quit/powerdown failed - got timeout".into());
            }
            vm.running = false;
            apply_pending(vm);
            Ok(())
        }))
    }

    pub(crate) async fn destroy(&self, node: &str, vmid: u32, user: &str) -> Answer {
        {
            let mut state = self.lock();
            let vm = state.vm(node, vmid)?;
            if vm.config.get("protection").is_some_and(|p| p == "1") {
                return Err(Refusal::die(format!("can't remove VM {vmid} - protection mode enabled")));
            }
            if vm.running {
                return Err(Refusal::die(format!("VM {vmid} is running - destroy failed")));
            }
        }
        let (sim, own, time) = (self.clone(), node.to_owned(), self.timing().destroy);
        Ok(self.fork(node, "qmdestroy", &vmid.to_string(), user, async move {
            sim.flock(vmid).await.map_err(|e| e.text)?;
            {
                let mut state = sim.lock();
                let vm = state.unlocked(&own, vmid).map_err(|e| e.text)?;
                if vm.running {
                    return Err(format!("VM {vmid} is running - destroy failed"));
                }
                vm.config.insert("lock".into(), "destroyed".into());
            }
            Sim::sleep(time).await;
            let mut state = sim.lock();
            state.remove(vmid);
            Ok(())
        }))
    }

    pub(crate) fn agent_ping(&self) -> Answer {
        Err(Refusal::die("No QEMU guest agent configured"))
    }
}
