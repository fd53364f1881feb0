//! `cargo xtask bench`: builds in release what the bench needs, then measures (`tests/bench`).
//!
//! What can't be had (the providers' tools, Extism's crates) is told and left out: the table says "not measured" there.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};
use wharf_build::toolchain;

use crate::plugins;
use crate::shell::{apt, cargo, root, run as run_command};

/// What `cargo xtask bench` takes.
#[derive(clap::Args)]
pub struct Args {
    /// Fewer samples: two minutes in all, once everything is built.
    #[arg(long)]
    quick: bool,
    /// Figures to measure: hooks, deploy, step, calls, peers, in-flight, idle-services, swap, idle-memory; all if none is named.
    names: Vec<String>,
}

const PLUGINS: [&str; 5] = ["proxmox-kvm", "dns-powerdns", "hook-webhook", "panel-whmcs", "provisioner-still"];
/// By language.
const GUESTS: [&str; 2] = ["test-provider-js", "test-provider-python"];

/// The command.
pub fn run(args: &Args) -> Result<()> {
    plugins::build_all(&PLUGINS.map(str::to_owned))?;
    if let Err(error) = plugins::build_all(&GUESTS.map(str::to_owned)) {
        eprintln!("xtask: {error:#}; the bench goes on without plugins in JavaScript and Python");
    }
    run_command(cargo().args(["build", "--release", "--bins", "-p", "wharf", "-p", "wharf-bench"]))?;
    let extism = match extism() {
        Ok(folder) => Some(folder),
        Err(error) => {
            eprintln!("xtask: {error:#}; the bench goes on without Extism");
            None
        }
    };
    let bin = root().join("target/release");
    let mut bench = Command::new(bin.join("wharf-bench"));
    bench.arg("--wharf").arg(bin.join("wharf")).arg("--stdio").arg(bin.join("bench-stdio"));
    bench.arg("--plugins").arg(plugins::out_dir());
    bench.arg("--out").arg(out_dir());
    if let Some(folder) = extism {
        bench.arg("--extism").arg(folder);
    }
    if args.quick {
        bench.arg("--quick");
    }
    run_command(bench.args(&args.names))?;
    println!("written to {} and report.json beside it", out_dir().join("report.md").display());
    Ok(())
}

fn out_dir() -> PathBuf {
    root().join("target/bench")
}

/// Builds the Extism peer, which is a workspace of its own, and returns the folder that holds its host and its plugin.
fn extism() -> Result<PathBuf> {
    let source = root().join("tests/bench/peers/extism");
    let target = out_dir().join("extism");
    run_command(
        cargo()
            .current_dir(&source)
            .args(["build", "--release", "--locked", "-p", "bench-extism-host", "--target-dir"])
            .arg(&target),
    )
    .context("the Extism peer can't be built")?;
    let wasm = target.join("plugin");
    run_command(toolchain::choose(apt)?.build(&source, &wasm).args(["--package", "bench-extism-plugin", "--locked"]))
        .context("the Extism plugin can't be built")?;
    let built = wasm.join(toolchain::TARGET).join("release/bench_extism_plugin.wasm");
    copy(&built, &target.join("bench-extism-plugin.wasm"))?;
    copy(&target.join("release/bench-extism-host"), &target.join("bench-extism-host"))?;
    Ok(target)
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    std::fs::copy(from, to).with_context(|| format!("{} was not made", from.display()))?;
    Ok(())
}
