//! `wharf cluster`, `wharf job` and `wharf pause`: how running hosts stand, and an admin's moves on them.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use clap::Subcommand;
use reqwest::Method;
use serde_json::{Value, json};

use crate::{
    RemoteArguments,
    remote::{self, segment, text},
};

/// Between looks at a job that was forced.
const LOOK: Duration = Duration::from_millis(500);

#[derive(Subcommand)]
pub enum JobCommand {
    /// How each job stands.
    List(RemoteArguments),
    /// Run a job now, wait for its end, and show what it found.
    Run {
        name: String,
        /// Seconds to wait at most.
        #[arg(long, default_value_t = 1_800)]
        timeout: u64,
        #[command(flatten)]
        remote: RemoteArguments,
    },
    /// Make a job due now, without waiting for it.
    Force {
        name: String,
        #[command(flatten)]
        remote: RemoteArguments,
    },
    /// Take a job, or all, away from the process that runs it.
    ClearLocks {
        name: Option<String>,
        #[command(flatten)]
        remote: RemoteArguments,
    },
}

#[derive(Subcommand)]
pub enum ClusterCommand {
    /// Which hosts work on these books, and what each has in hand.
    Status(RemoteArguments),
}

#[derive(Subcommand)]
pub enum PauseCommand {
    /// What is held back, by whom, and why.
    List(RemoteArguments),
    /// Hold something back. What has been sent to a server before is watched to its end.
    Add {
        /// everything, server:<name>, node:<server>/<node>, panel:<name>, or kind:<kind of operation>
        scope: String,
        /// Why: everyone who asks why nothing happens reads it.
        #[arg(long)]
        reason: String,
        #[command(flatten)]
        remote: RemoteArguments,
    },
    /// Let it go on.
    Remove {
        scope: String,
        #[command(flatten)]
        remote: RemoteArguments,
    },
}

pub async fn job(command: JobCommand) -> Result<()> {
    match command {
        JobCommand::List(remote) => {
            let list = remote::get(&remote, "/v1/admin/jobs", &[]).await?;
            for job in list.as_array().map(Vec::as_slice).unwrap_or_default() {
                println!("{}", line(job));
            }
            Ok(())
        }
        JobCommand::Run { name, timeout, remote } => run(&remote, &name, Duration::from_secs(timeout)).await,
        JobCommand::Force { name, remote } => {
            force(&remote, &name).await?;
            println!("{name} runs as soon as a host is free");
            Ok(())
        }
        JobCommand::ClearLocks { name, remote } => {
            let path = match &name {
                Some(name) => format!("/v1/admin/jobs/{}/clear-locks", segment(name)),
                None => "/v1/admin/jobs/clear-locks".to_owned(),
            };
            let answer: Value = serde_json::from_str(&remote::call(&remote, Method::POST, &path, &[], None).await?)?;
            let cleared = answer.get("cleared").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
            let cleared: Vec<&str> = cleared.iter().filter_map(Value::as_str).collect();
            if cleared.is_empty() {
                println!("nobody held any");
            } else {
                println!("taken away: {}", cleared.join(", "));
            }
            Ok(())
        }
    }
}

async fn force(remote: &RemoteArguments, name: &str) -> Result<Value> {
    let path = format!("/v1/admin/jobs/{}/force", segment(name));
    Ok(serde_json::from_str(&remote::call(remote, Method::POST, &path, &[], None).await?)?)
}

async fn run(remote: &RemoteArguments, name: &str, timeout: Duration) -> Result<()> {
    let number = |job: &Value, key: &str| job.get(key).and_then(Value::as_i64).with_context(|| format!("no {key}"));
    let before = number(&force(remote, name).await?, "epoch")?;
    let begun = Instant::now();
    let path = format!("/v1/admin/jobs/{}", segment(name));
    loop {
        let job = remote::get(remote, &path, &[]).await?;
        if number(&job, "last_epoch")? > before {
            if let Some(error) = job.get("last_error").and_then(Value::as_str) {
                bail!("{name} failed: {error}");
            }
            println!("{}", serde_json::to_string_pretty(job.get("last_result").unwrap_or(&Value::Null))?);
            return Ok(());
        }
        if begun.elapsed() > timeout {
            bail!("{name} has not ended within {} s; it goes on: see `wharf job list`", timeout.as_secs());
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// One job in a line.
fn line(job: &Value) -> String {
    let number = |key: &str| job.get(key).and_then(Value::as_i64);
    let flag = |key: &str| job.get(key).and_then(Value::as_bool).unwrap_or(false);
    let state = match (job.get("owner").is_some_and(|o| !o.is_null()), flag("stale")) {
        (true, _) => "running",
        (false, true) => "STALE",
        (false, false) => "waiting",
    };
    let last = number("last_ok_ms").map_or_else(|| "never".to_owned(), ago);
    let mut line = format!(
        "{}  {state}  every {}  last good end {last}  runs {}  taken over {}",
        text(job, "/name"),
        span(number("every_ms").unwrap_or(0)),
        number("runs").unwrap_or(0),
        number("took_over").unwrap_or(0),
    );
    if let Some(findings) = job.pointer("/last_result/findings").and_then(Value::as_array) {
        let more = job.pointer("/last_result/more").and_then(Value::as_u64).unwrap_or(0);
        line = format!("{line}  findings {}", u64::try_from(findings.len()).unwrap_or(0).saturating_add(more));
    }
    match job.get("last_error").and_then(Value::as_str) {
        Some(error) => format!("{line}\n  last run failed: {error}"),
        None => line,
    }
}

fn ago(at_ms: i64) -> String {
    let now = wharf_model::Clock::now_ms(&wharf_model::SystemClock);
    format!("{} ago", span((now - at_ms).max(0)))
}

fn span(ms: i64) -> String {
    match ms / 1_000 {
        s if s < 120 => format!("{s} s"),
        s if s < 7_200 => format!("{} min", s / 60),
        s if s < 172_800 => format!("{} h", s / 3_600),
        s => format!("{} days", s / 86_400),
    }
}

pub async fn cluster(command: ClusterCommand) -> Result<()> {
    let ClusterCommand::Status(remote) = command;
    let cluster = remote::get(&remote, "/v1/admin/cluster", &[]).await?;
    let number = |key: &str| cluster.get(key).and_then(Value::as_i64).unwrap_or(0);
    for host in cluster.get("hosts").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default() {
        println!("{}", host_line(host));
    }
    println!(
        "live operations {}: worked on {}, waiting for a slot {}; for an admin {}",
        number("live"),
        number("claimed"),
        number("parked"),
        number("needs_admin")
    );
    if cluster.get("mixed_versions").and_then(Value::as_bool).unwrap_or(false) {
        println!("hosts of more than one version are at work: an upgrade is under way, or was forgotten");
    }
    Ok(())
}

/// One host in a line.
fn host_line(host: &Value) -> String {
    let number = |key: &str| host.get(key).and_then(Value::as_i64).unwrap_or(0);
    let flag = |key: &str| host.get(key).and_then(Value::as_bool).unwrap_or(false);
    let list = |key: &str| {
        let names: Vec<&str> =
            host.get(key).and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str).collect();
        if names.is_empty() { "-".to_owned() } else { names.join(",") }
    };
    let state = match (flag("lost"), flag("this")) {
        (true, _) => "LOST",
        (false, true) => "alive, answers this",
        (false, false) => "alive",
    };
    format!(
        "{}  {}  {}  {state}  seen {}  up {}  operations {}  watches {}  dns {}",
        text(host, "/name"),
        text(host, "/address"),
        text(host, "/version"),
        ago(number("seen_ms")),
        span(number("seen_ms") - number("started_ms")),
        number("runs"),
        list("watches"),
        list("dns_queues"),
    )
}

pub async fn pause(command: PauseCommand) -> Result<()> {
    match command {
        PauseCommand::List(remote) => {
            let list = remote::get(&remote, "/v1/admin/pauses", &[]).await?;
            let list = list.as_array().map(Vec::as_slice).unwrap_or_default();
            if list.is_empty() {
                println!("nothing is paused");
            }
            for pause in list {
                let since = pause.get("since_ms").and_then(Value::as_i64).map_or_else(|| "-".to_owned(), ago);
                println!("{}  {since} by {}: {}", text(pause, "/scope"), text(pause, "/by"), text(pause, "/reason"));
            }
            Ok(())
        }
        PauseCommand::Add { scope, reason, remote } => {
            let body = serde_json::to_vec(&json!({ "scope": scope, "reason": reason }))?;
            let body = Some(("application/json", body));
            remote::call(&remote, Method::POST, "/v1/admin/pauses", &[], body).await?;
            println!("{scope} is paused");
            Ok(())
        }
        PauseCommand::Remove { scope, remote } => {
            let path = format!("/v1/admin/pauses/{}", segment(&scope));
            remote::call(&remote, Method::DELETE, &path, &[], None).await?;
            println!("{scope} goes on");
            Ok(())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_stands_in_one_line_and_a_lost_one_catches_the_eye() {
        let host = json!({"name": "a", "address": "127.0.0.1:1", "version": "0.1.0", "lost": true, "this": false,
            "started_ms": 0, "seen_ms": 60_000, "runs": 2, "watches": ["pve"], "dns_queues": []});
        let line = host_line(&host);
        assert!(line.starts_with("a  127.0.0.1:1  0.1.0  LOST  seen "), "{line}");
        assert!(line.ends_with("up 60 s  operations 2  watches pve  dns -"), "{line}");
    }

    #[test]
    fn a_job_stands_in_one_line_and_a_failure_below_it() {
        let job = json!({"name": "drift", "every_ms": 3_600_000, "owner": null, "stale": true, "last_ok_ms": null,
            "runs": 3, "took_over": 1, "last_error": "no answer", "last_result": {"findings": [{}], "more": 2}});
        let expected = "drift  STALE  every 60 min  last good end never  runs 3  taken over 1  findings 3\n  last run failed: no answer";
        assert_eq!(line(&job), expected);
    }
}
