//! The same logic, the same question, by other ways of plugging it in: linked directly, bare wasmtime, Extism, a process for
//! each call, a process that is kept.
//!
//! All are built from one source (`tests/bench/logic`, which is `normalize` of the PowerDNS provider). What is compared is the
//! way there and back, with its isolation: Wharf and Extism with limits of memory and time, a process with none.

use std::{process::Stdio, time::Instant};

use anyhow::{Context, Result, ensure};
use async_trait::async_trait;
use serde_json::Value;
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader},
    process::Command,
};

use super::{
    Figure,
    calls::{self, Bare},
};
use crate::{Bench, lab::Lab, report::Row, stats::Samples};

pub struct Peers;

#[async_trait(?Send)]
impl Figure for Peers {
    fn name(&self) -> &'static str {
        "peers"
    }

    fn title(&self) -> &'static str {
        "The same logic by other ways of plugging it in"
    }

    async fn measure(&self, bench: &Bench) -> Result<Vec<Row>> {
        let calls = bench.pick(50, 3_000, 20_000);
        let dir = tempfile::Builder::new().prefix("peers-").tempdir_in(&bench.data)?;
        let lab = Lab::open(dir.path(), &bench.wharf).await?;
        let (id, _) = lab.install(std::fs::read(bench.plugins.join("dns-powerdns.wasm"))?).await?;
        let wharf: Samples = calls::in_wharf(&lab, &id, calls).await?.times_us.into_iter().collect();
        let mut rows = vec![
            Row::time("Wharf: fresh store, limits, log, p50", wharf.p50())
                .remark(format!("{calls} calls; p99 {}", crate::stats::time(wharf.p99()))),
        ];
        let mut told = |what: &str, samples: &Samples, remark: &str| {
            let ratio = wharf.p50() / samples.p50();
            rows.push(Row::time(format!("{what}, p50"), samples.p50()).remark(format!(
                "Wharf takes {} of it; p99 {}{remark}",
                if ratio < 0.1 { format!("{ratio:.3} ×") } else { format!("{ratio:.1} ×") },
                crate::stats::time(samples.p99())
            )));
        };
        told("linked directly (native Rust)", &native(calls), "");
        told(
            "bare wasmtime: instantiate, call, drop",
            &Bare::load(dir.path())?.times(calls).await?.into_iter().collect(),
            "",
        );
        told("a process for each call (JSON on stdio)", &spawned(bench, bench.pick(3, 100, 500)).await?, "; no limits");
        let kept = kept(bench, calls).await?;
        told("a process that is kept (JSON lines)", &kept, "; no limits, state stays from call to call");
        match extism(bench, bench.pick(20, 1_000, 5_000)).await {
            Ok((fresh, kept)) => {
                told("Extism: a fresh plugin for each call", &fresh, "");
                told("Extism: a plugin that is kept", &kept, "; state stays from call to call");
            }
            Err(error) => rows.push(Row::missing("Extism", format!("{error:#}"))),
        }
        Ok(rows)
    }
}

fn native(calls: usize) -> Samples {
    let can = bench_logic::normal::capabilities(false);
    let sets = bench_logic::sets(&bench_logic::question());
    let mut samples = Samples::default();
    for _ in 0..calls {
        let sets = sets.clone();
        let begun = Instant::now();
        let verdicts = bench_logic::normalize(&can, bench_logic::ZONE, sets);
        samples.push(begun.elapsed());
        std::hint::black_box(verdicts);
    }
    samples
}

fn line() -> Result<Vec<u8>> {
    let mut line = serde_json::to_vec(&bench_logic::question())?;
    line.push(b'\n');
    Ok(line)
}

async fn spawned(bench: &Bench, calls: usize) -> Result<Samples> {
    let question = line()?;
    let mut samples = Samples::default();
    for _ in 0..calls {
        let begun = Instant::now();
        let mut child =
            Command::new(&bench.stdio).arg("--once").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        child.stdin.take().context("no input")?.write_all(&question).await?;
        let out = child.wait_with_output().await?;
        samples.push(begun.elapsed());
        check(&out.stdout)?;
    }
    Ok(samples)
}

async fn kept(bench: &Bench, calls: usize) -> Result<Samples> {
    let question = line()?;
    let mut child =
        Command::new(&bench.stdio).stdin(Stdio::piped()).stdout(Stdio::piped()).kill_on_drop(true).spawn()?;
    let mut input = child.stdin.take().context("no input")?;
    let mut output = BufReader::new(child.stdout.take().context("no output")?);
    let mut samples = Samples::default();
    let mut answer = String::new();
    for _ in 0..calls {
        answer.clear();
        let begun = Instant::now();
        input.write_all(&question).await?;
        output.read_line(&mut answer).await?;
        samples.push(begun.elapsed());
    }
    check(answer.as_bytes())?;
    drop(input);
    child.wait().await?;
    Ok(samples)
}

async fn extism(bench: &Bench, calls: usize) -> Result<(Samples, Samples)> {
    let dir = bench.extism.as_ref().context("its peer was not built (see what `cargo xtask bench` said)")?;
    let mut child = Command::new(dir.join("bench-extism-host"))
        .arg(dir.join("bench-extism-plugin.wasm"))
        .arg(calls.to_string())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()?;
    child.stdin.take().context("no input")?.write_all(&line()?).await?;
    let out = child.wait_with_output().await?;
    ensure!(out.status.success(), "its host ended with {}", out.status);
    let told: Value = serde_json::from_slice(&out.stdout)?;
    check(told["answer"].to_string().as_bytes())?;
    let samples = |key: &str| told[key].as_array().into_iter().flatten().filter_map(Value::as_f64).collect::<Samples>();
    Ok((samples("fresh_us"), samples("kept_us")))
}

/// All must say the same.
fn check(answer: &[u8]) -> Result<()> {
    let said: Vec<bench_logic::Said> = serde_json::from_slice(answer)?;
    let expected: Vec<bench_logic::Said> = serde_json::from_slice(&bench_logic::answer(&line()?)?)?;
    ensure!(said == expected, "it answered otherwise: {said:?}");
    Ok(())
}
