//! What the figures were measured on: without it they say nothing.

use std::{fs, io::Write, path::Path, process::Command, time::Instant};

use anyhow::{Context, Result};
use serde::Serialize;

use crate::stats::Samples;

/// Size of one append.
const BLOCK: usize = 4_096;

/// The machine, the disk under the data folder, and what was measured when.
#[derive(Debug, Clone, Serialize)]
pub struct Machine {
    pub cpu: String,
    pub cores: usize,
    pub memory_mib: u64,
    pub kernel: String,
    /// Over 1, 5 and 15 minutes, before the first figure.
    pub load_before: String,
    /// The same after the last.
    pub load_after: String,
    pub data_folder: String,
    /// Microseconds of one append of 4 KiB with fsync.
    pub fsync_p50_us: f64,
    pub fsync_p99_us: f64,
    pub commit: String,
    pub date: String,
}

impl Machine {
    /// Looks at the machine and measures `appends` appends in `dir`.
    pub fn look(dir: &Path, appends: usize) -> Result<Self> {
        let fsync = fsync(dir, appends)?;
        let cpuinfo = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let meminfo = fs::read_to_string("/proc/meminfo").unwrap_or_default();
        let kib = field(&meminfo, "MemTotal").and_then(|v| v.trim_end_matches(" kB").parse::<u64>().ok());
        Ok(Self {
            cpu: field(&cpuinfo, "model name").unwrap_or("unknown").to_owned(),
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            memory_mib: kib.unwrap_or_default() / 1_024,
            kernel: fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default().trim().to_owned(),
            load_before: load(),
            load_after: String::new(),
            data_folder: kind_of(dir),
            fsync_p50_us: fsync.p50(),
            fsync_p99_us: fsync.p99(),
            commit: commit(),
            date: said(Command::new("date").args(["-u", "+%Y-%m-%d %H:%M UTC"])),
        })
    }
}

/// The three load averages.
pub fn load() -> String {
    let text = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split(' ').take(3).collect::<Vec<_>>().join(" ")
}

fn fsync(dir: &Path, appends: usize) -> Result<Samples> {
    let path = dir.join("fsync-probe");
    let mut file = fs::File::create(&path).with_context(|| path.display().to_string())?;
    let mut samples = Samples::default();
    for _ in 0..appends {
        let begun = Instant::now();
        file.write_all(&[0xA5; BLOCK])?;
        file.sync_all()?;
        samples.push(begun.elapsed());
    }
    fs::remove_file(&path)?;
    Ok(samples)
}

/// File system and mount of a folder.
fn kind_of(dir: &Path) -> String {
    let told = said(Command::new("df").arg("--output=fstype,source").arg(dir));
    told.lines().last().map(|l| l.split_whitespace().collect::<Vec<_>>().join(" on ")).unwrap_or_default()
}

fn commit() -> String {
    let git = |arguments: &[&str]| said(Command::new("git").args(["-C", env!("CARGO_MANIFEST_DIR")]).args(arguments));
    let hash = git(&["rev-parse", "--short=12", "HEAD"]);
    if git(&["status", "--porcelain", "--untracked-files=no"]).is_empty() { hash } else { format!("{hash} (edited)") }
}

/// What a command says; empty if it can't.
fn said(command: &mut Command) -> String {
    command.output().map(|out| String::from_utf8_lossy(&out.stdout).trim().to_owned()).unwrap_or_default()
}

fn field<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    let line = text.lines().find(|line| line.starts_with(name))?;
    line.split_once(':').map(|(_, value)| value.trim())
}

/// CPU seconds that a process has used, over all its threads.
pub fn cpu_seconds(pid: u32) -> Result<f64> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    // The name in brackets may hold spaces.
    let after = text.rsplit_once(") ").context("no such line in /proc")?.1;
    let number = |n: usize| after.split(' ').nth(n).and_then(|v| v.parse::<f64>().ok()).unwrap_or_default();
    // utime and stime, in ticks of which Linux has 100 a second for user space.
    Ok((number(11) + number(12)) / 100.0)
}

/// Resident memory of a process, MiB.
pub fn resident_mib(pid: u32) -> Result<f64> {
    status_mib(pid, "VmRSS")
}

/// The most that it ever had.
pub fn peak_mib(pid: u32) -> Result<f64> {
    status_mib(pid, "VmHWM")
}

fn status_mib(pid: u32, name: &str) -> Result<f64> {
    let text = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let kib = field(&text, name).and_then(|v| v.trim_end_matches(" kB").parse::<f64>().ok());
    Ok(kib.with_context(|| format!("no {name}"))? / 1_024.0)
}
