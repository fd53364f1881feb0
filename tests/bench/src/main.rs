//! `wharf-bench`: measures what Wharf promises and prints it as a table. `cargo xtask bench` builds what it needs and starts it.
//!
//! A figure is a file in [`figures`]. One that fails says why and does not stop the others; the exit code tells. Nothing is
//! asserted about speed: a goal that was missed is a word in the table.

#![allow(clippy::indexing_slicing, reason = "what is indexed is JSON, which gives null for what is not there")]

mod figures;
mod house;
mod lab;
mod load;
mod machine;
mod report;
mod stats;

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
    time::Instant,
};

use anyhow::{Context, Result, bail};
use clap::Parser;

use crate::{
    machine::{Machine, load},
    report::{Report, Section},
};

/// Measures Wharf.
#[derive(Parser, Debug, Clone)]
struct Arguments {
    /// Fewer samples: two minutes in all.
    #[arg(long)]
    quick: bool,
    /// A handful of samples, to see that it works: the figures say nothing.
    #[arg(long, conflicts_with = "quick")]
    smoke: bool,
    /// The host's binary.
    #[arg(long)]
    wharf: PathBuf,
    /// The binary of the peer on standard input and output.
    #[arg(long)]
    stdio: PathBuf,
    /// Folder of built plugins.
    #[arg(long)]
    plugins: PathBuf,
    /// Folder with `bench-extism-host` and `bench-extism-plugin.wasm`, if they could be built.
    #[arg(long)]
    extism: Option<PathBuf>,
    /// Where report.md and report.json go, and the books meanwhile.
    #[arg(long)]
    out: PathBuf,
    /// Figures to measure; all if none is named.
    names: Vec<String>,
}

/// How much is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Size {
    Smoke,
    Quick,
    Full,
}

/// What figures work with.
#[derive(Debug, Clone)]
pub struct Bench {
    pub size: Size,
    pub wharf: PathBuf,
    pub stdio: PathBuf,
    pub plugins: PathBuf,
    pub extism: Option<PathBuf>,
    /// Books go below it: on the disk that the target folder is on, not on one in memory.
    pub data: PathBuf,
}

impl Bench {
    /// One of three numbers.
    pub fn pick<T>(&self, smoke: T, quick: T, full: T) -> T {
        match self.size {
            Size::Smoke => smoke,
            Size::Quick => quick,
            Size::Full => full,
        }
    }
}

#[tokio::main]
async fn main() -> ExitCode {
    // A figure that looks at memory starts this program anew.
    if let Some(asked) = std::env::args().nth(1).filter(|a| a == figures::CHILD) {
        let rest: Vec<String> = std::env::args().skip(2).collect();
        return told(figures::child(&rest).await.with_context(|| asked));
    }
    let arguments = Arguments::parse();
    told(run(&arguments).await)
}

fn told(result: Result<()>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("wharf-bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn run(arguments: &Arguments) -> Result<()> {
    let figures = figures::all();
    if let Some(unknown) = arguments.names.iter().find(|n| !figures.iter().any(|f| f.name() == n.as_str())) {
        let known: Vec<_> = figures.iter().map(|f| f.name()).collect();
        bail!("there is no figure `{unknown}`; there are {}", known.join(", "));
    }
    std::fs::create_dir_all(&arguments.out)?;
    let data = tempfile::Builder::new().prefix("books-").tempdir_in(&arguments.out)?;
    let size = match (arguments.smoke, arguments.quick) {
        (true, _) => Size::Smoke,
        (_, true) => Size::Quick,
        _ => Size::Full,
    };
    let bench = Bench {
        size,
        wharf: absolute(&arguments.wharf)?,
        stdio: absolute(&arguments.stdio)?,
        plugins: absolute(&arguments.plugins)?,
        extism: arguments.extism.clone(),
        data: data.path().to_owned(),
    };
    let machine = Machine::look(data.path(), bench.pick(50, 500, 2_000))?;
    let mut report = Report { size: format!("{size:?}").to_lowercase(), machine, sections: Vec::new() };
    let chosen = figures.iter().filter(|f| arguments.names.is_empty() || arguments.names.iter().any(|n| n == f.name()));
    for figure in chosen {
        eprintln!("measuring: {}", figure.title());
        let begun = Instant::now();
        let (rows, failure) = match figure.measure(&bench).await {
            Ok(rows) => (rows, None),
            Err(error) => (Vec::new(), Some(format!("{error:#}"))),
        };
        if let Some(why) = &failure {
            eprintln!("  failed: {why}");
        }
        let seconds = begun.elapsed().as_secs_f64();
        report.sections.push(Section { name: figure.name(), title: figure.title(), seconds, rows, failure });
        report.machine.load_after = load();
        // After each, so that a run that is stopped leaves what it has.
        std::fs::write(arguments.out.join("report.md"), report.markdown())?;
        std::fs::write(arguments.out.join("report.json"), serde_json::to_vec_pretty(&report)?)?;
    }
    println!("{}", report.markdown());
    let failed: Vec<_> = report.sections.iter().filter(|s| s.failure.is_some()).map(|s| s.name).collect();
    if !failed.is_empty() {
        bail!("not measured: {} (see the table)", failed.join(", "));
    }
    Ok(())
}

fn absolute(path: &Path) -> Result<PathBuf> {
    std::fs::canonicalize(path).with_context(|| format!("{} is missing", path.display()))
}
