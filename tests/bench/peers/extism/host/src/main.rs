//! `bench-extism-host PLUGIN CALLS`: asks the plugin the question on standard input so often, once with a fresh plugin for each
//! call and once with one that is kept, and prints microseconds as JSON.
//!
//! With the limits that an Extism host would set: memory pages and a time-out, as Wharf has them.

use std::{
    io::Read,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use extism::{CompiledPlugin, Manifest, Plugin, PluginBuilder, Wasm};

fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let file = arguments.next().context("the plugin's file is missing")?;
    let calls: usize = arguments.next().context("the number of calls is missing")?.parse()?;
    let mut question = Vec::new();
    std::io::stdin().read_to_end(&mut question)?;

    // 64 MiB and 10 s, which are Wharf's defaults.
    let module = std::fs::read(&file).with_context(|| file.clone())?;
    let manifest = Manifest::new([Wasm::data(module)]).with_memory_max(1_024).with_timeout(Duration::from_secs(10));
    let begun = Instant::now();
    let compiled: CompiledPlugin = PluginBuilder::new(manifest).with_wasi(false).with_cache_disabled().compile()?;
    let compile_us = micros(begun);

    let mut fresh = Vec::with_capacity(calls);
    let mut answer = Vec::new();
    for _ in 0..calls {
        let begun = Instant::now();
        let mut plugin = Plugin::new_from_compiled(&compiled)?;
        answer = plugin.call::<&[u8], &[u8]>("normalize", &question)?.to_vec();
        drop(plugin);
        fresh.push(micros(begun));
    }
    let mut plugin = Plugin::new_from_compiled(&compiled)?;
    let mut kept = Vec::with_capacity(calls);
    for _ in 0..calls {
        let begun = Instant::now();
        let again = plugin.call::<&[u8], &[u8]>("normalize", &question)?.len();
        kept.push(micros(begun));
        ensure!(again == answer.len(), "it answered otherwise");
    }
    let answer: serde_json::Value = serde_json::from_slice(&answer)?;
    println!("{}", serde_json::json!({"compile_us": compile_us, "fresh_us": fresh, "kept_us": kept, "answer": answer}));
    Ok(())
}

fn micros(since: Instant) -> f64 {
    since.elapsed().as_secs_f64() * 1e6
}
