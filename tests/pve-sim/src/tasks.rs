//! Workers: they run beside the request that started them, write a log, and end with a status.
//!
//! A worker outlives a lost connection. Its UPID names the node, the kind, the VM (for a clone: the template) and the
//! full token.

use std::collections::BTreeMap;
use std::future::Future;

use rand::RngExt;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::task::AbortHandle;

use crate::api::Ctx;
use crate::error::{ApiError, Put};
use crate::faults::TaskFault;
use crate::sim::Sim;

/// A task of a node.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Task {
    pub upid: String,
    pub node: String,
    #[serde(rename = "type")]
    pub kind: String,
    /// The VM; for `qmclone` the template, for `imgdel` the volume's owner and storage.
    pub id: String,
    /// User or token that started it.
    pub user: String,
    pub pid: u32,
    pub pstart: u32,
    /// Unix seconds.
    pub starttime: u64,
    pub endtime: Option<u64>,
    /// `OK`, `WARNINGS: 1`, or an error text; none while it runs.
    pub exitstatus: Option<String>,
    pub log: Vec<String>,
    #[serde(skip)]
    pub(crate) abort: Option<AbortHandle>,
}

/// Handed to a worker.
#[derive(Clone)]
pub(crate) struct Worker {
    pub sim: Sim,
    pub upid: String,
}

impl Worker {
    pub fn log(&self, text: impl Into<String>) {
        let text = text.into();
        self.sim.with(|st| {
            if let Some(t) = st.tasks.iter_mut().rev().find(|t| t.upid == self.upid) {
                t.log.push(text);
            }
        });
    }

    pub fn warn(&self, text: &str) {
        self.log(format!("WARN: {text}"));
    }

    pub async fn sleep(&self, ms: u64) {
        self.sim.sleep(ms).await;
    }

    fn finish(&self, result: Result<(), String>) {
        self.sim.with(|st| {
            let now = st.now_unix;
            let Some(t) = st.tasks.iter_mut().rev().find(|t| t.upid == self.upid) else { return };
            let warnings = t.log.iter().filter(|l| l.starts_with("WARN: ")).count();
            let status = match result {
                Err(text) => text.trim_end().to_owned(),
                Ok(()) if warnings > 0 => format!("WARNINGS: {warnings}"),
                Ok(()) => "OK".to_owned(),
            };
            t.log.push(match status.as_str() {
                "OK" => "TASK OK".to_owned(),
                s if s.starts_with("WARNINGS") => format!("TASK {s}"),
                s => format!("TASK ERROR: {s}"),
            });
            t.endtime = Some(now);
            t.exitstatus = Some(status);
            t.abort = None;
        });
    }
}

impl Sim {
    /// Starts a worker and returns its UPID.
    pub(crate) fn fork<F, Fut>(&self, node: &str, kind: &str, id: &str, user: &str, work: F) -> String
    where
        F: FnOnce(Worker) -> Fut,
        Fut: Future<Output = Result<(), ApiError>> + Send + 'static,
    {
        let (upid, fault) = self.with(|st| {
            let (pid, pstart) = (st.rng.random_range(1000..4_000_000u32), st.rng.random_range(1..90_000_000u32));
            let start = st.now_unix;
            let upid = format!("UPID:{node}:{pid:08X}:{pstart:08X}:{start:08X}:{kind}:{id}:{user}:");
            st.tasks.push(Task {
                upid: upid.clone(),
                node: node.to_owned(),
                kind: kind.to_owned(),
                id: id.to_owned(),
                user: user.to_owned(),
                pid,
                pstart,
                starttime: start,
                endtime: None,
                exitstatus: None,
                log: vec![],
                abort: None,
            });
            let hit = st.task_faults.iter_mut().find(|f| f.hits(kind, id));
            let fault = hit.map(|f| {
                f.times = f.times.map(|t| t.saturating_sub(1));
                f.clone()
            });
            (upid, fault)
        });
        let worker = Worker { sim: self.clone(), upid: upid.clone() };
        let before = fault.clone().filter(|f| !f.warn && !f.after);
        let future = before.is_none().then(|| work(worker.clone()));
        let after = fault.filter(|f| f.warn || f.after);
        let handle = tokio::spawn(async move {
            let mut result = match (before, future) {
                (Some(f), _) => {
                    worker.sleep(20).await;
                    Err(f.text)
                }
                (None, Some(future)) => future.await.map_err(String::from),
                (None, None) => Ok(()),
            };
            match after {
                Some(TaskFault { warn: true, text, .. }) => worker.warn(&text),
                Some(TaskFault { text, .. }) if result.is_ok() => result = Err(text),
                _ => {}
            }
            worker.finish(result);
        });
        self.with(|st| {
            if let Some(t) = st.tasks.iter_mut().rev().find(|t| t.upid == upid && t.exitstatus.is_none()) {
                t.abort = Some(handle.abort_handle());
            }
        });
        upid
    }

    /// Ends a running task as a signal would. What it holds is let go; what it has half done stays.
    pub(crate) fn abort_task(&self, upid: &str) {
        let handle = self.with(|st| {
            let now = st.now_unix;
            let t = st.tasks.iter_mut().find(|t| t.upid == upid && t.exitstatus.is_none())?;
            t.exitstatus = Some("interrupted by signal".into());
            t.endtime = Some(now);
            t.log.push("TASK ERROR: interrupted by signal".into());
            t.abort.take()
        });
        if let Some(handle) = handle {
            handle.abort();
        }
    }
}

fn brief(t: &Task) -> Value {
    let mut out = json!({
        "upid": t.upid, "node": t.node, "pid": t.pid, "pstart": t.pstart, "starttime": t.starttime,
        "type": t.kind, "id": t.id, "user": t.user.split('!').next(),
    });
    if let Some((_, token)) = t.user.split_once('!') {
        out.put("tokenid", json!(token));
    }
    if let Some(end) = t.endtime {
        out.put("endtime", json!(end));
    }
    out
}

/// `GET /nodes/{node}/tasks`.
pub(crate) fn list(cx: &Ctx, node: &str) -> Result<Value, ApiError> {
    cx.only(&[
        "source",
        "typefilter",
        "vmid",
        "since",
        "until",
        "userfilter",
        "limit",
        "start",
        "errors",
        "statusfilter",
    ])?;
    let source = cx.get("source").unwrap_or("archive").to_owned();
    if !["archive", "active", "all"].contains(&source.as_str()) {
        return Err(ApiError::param(
            "source",
            format!("value '{source}' does not have a value in the enumeration 'archive, active, all'"),
        ));
    }
    let (since, until) = (cx.number("since")?.unwrap_or(0), cx.number("until")?.unwrap_or(u64::MAX));
    let (start, limit) = (cx.number("start")?.unwrap_or(0), cx.number("limit")?.unwrap_or(50));
    let errors = cx.flag("errors");
    let allowed = cx.may(&format!("/nodes/{node}"), "Sys.Audit");
    Ok(cx.sim.with(|st| {
        let hits = st.tasks.iter().rev().filter(|t| {
            let running = t.exitstatus.is_none();
            let failed = t.exitstatus.as_deref().is_some_and(|s| s != "OK" && !s.starts_with("WARNINGS"));
            t.node == node
                && (allowed || t.user == cx.token)
                && (source == "all" || running == (source == "active"))
                && cx.get("typefilter").is_none_or(|f| f == t.kind)
                && cx.get("vmid").is_none_or(|v| v == t.id)
                && cx.get("userfilter").is_none_or(|u| t.user.contains(u))
                && (t.starttime >= since && t.starttime <= until)
                && (!errors || failed)
                && cx.get("statusfilter").is_none_or(|f| {
                    let word = match t.exitstatus.as_deref() {
                        Some("OK") => "ok",
                        Some(s) if s.starts_with("WARNINGS") => "warning",
                        _ => "error",
                    };
                    f.split([',', ';', ' ']).any(|w| w == word)
                })
        });
        let page = hits.skip(start as usize).take(if limit == 0 { usize::MAX } else { limit as usize });
        page.map(|t| {
            let mut v = brief(t);
            if let Some(s) = &t.exitstatus {
                v.put("status", json!(s));
            }
            v
        })
        .collect()
    }))
}

fn find(cx: &Ctx, node: &str, upid: &str) -> Result<Task, ApiError> {
    let parts: BTreeMap<usize, &str> = upid.split(':').enumerate().collect();
    if parts.get(&0) != Some(&"UPID") || parts.len() < 8 {
        return Err(ApiError::param("upid", "unable to parse worker upid"));
    }
    let task = cx.sim.with(|st| st.tasks.iter().find(|t| t.upid == upid && t.node == node).cloned());
    let task = task.ok_or_else(|| ApiError::param("upid", "no such task"))?;
    if task.user != cx.token {
        cx.need(&format!("/nodes/{node}"), "Sys.Audit")?;
    }
    Ok(task)
}

/// `GET /nodes/{node}/tasks/{upid}/status`.
pub(crate) fn status(cx: &Ctx, node: &str, upid: &str) -> Result<Value, ApiError> {
    let t = find(cx, node, upid)?;
    let mut v = brief(&t);
    v.put("status", json!(if t.exitstatus.is_some() { "stopped" } else { "running" }));
    if let Some(s) = &t.exitstatus {
        v.put("exitstatus", json!(s));
    }
    Ok(v)
}

/// `GET /nodes/{node}/tasks/{upid}/log`.
pub(crate) fn log(cx: &Ctx, node: &str, upid: &str) -> Result<Value, ApiError> {
    cx.only(&["start", "limit", "download"])?;
    let t = find(cx, node, upid)?;
    let (start, limit) = (cx.number("start")?.unwrap_or(0) as usize, cx.number("limit")?.unwrap_or(50) as usize);
    let lines = t.log.iter().enumerate().skip(start).take(if limit == 0 { usize::MAX } else { limit });
    Ok(lines.map(|(n, l)| json!({"n": n + 1, "t": l})).collect())
}

/// `DELETE /nodes/{node}/tasks/{upid}`.
pub(crate) fn stop(cx: &Ctx, node: &str, upid: &str) -> Result<Value, ApiError> {
    let t = find(cx, node, upid)?;
    if t.user != cx.token {
        cx.need(&format!("/nodes/{node}"), "Sys.Modify")?;
    }
    cx.sim.abort_task(upid);
    Ok(Value::Null)
}
