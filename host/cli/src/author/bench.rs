//! `wharf plugin bench`: what calls of a provider cost on this machine, as a host would make them.
//!
//! The component is compiled anew, so that the time of it is told; calls go through a host's runtime with its limits, each in a
//! fresh store, against the API that `facade.rhai` describes. `normalize` asks nothing of anybody; in `read` the façade's own
//! time is included.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::Args;
use wharf_conformance::{Cost, Costs, Kit, Subject, readable};
use wharf_plugins::Compiler;

use super::{settings::Given, test};

#[derive(Args)]
pub struct Arguments {
    /// The plugin's folder.
    #[arg(default_value = ".")]
    folder: PathBuf,
    /// Calls of `normalize`; of `read` there are a tenth as many.
    #[arg(long, default_value_t = 500, value_parser = clap::value_parser!(u32).range(10..=1_000_000))]
    calls: u32,
    /// Records of the zone that is read.
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u16).range(..=5_000))]
    records: u16,
    /// As one JSON object, in a shape that stays.
    #[arg(long)]
    json: bool,
    /// The façade, if it is not `facade.rhai` of the folder.
    #[arg(long, value_name = "FILE")]
    facade: Option<PathBuf>,
    #[command(flatten)]
    given: Given,
}

/// The command.
pub async fn bench(arguments: &Arguments) -> Result<ExitCode> {
    let (component, manifest) = test::fresh(&arguments.folder)?;
    let script = test::facade(&arguments.folder, arguments.facade.as_deref())?;
    let compiler = Compiler::Child(std::env::current_exe().context("can't find the host's own executable")?);
    let (served, settings) = (script.clone(), arguments.given.laid_over(&manifest)?);
    let bytes = component.len();
    let subject = Subject { component, facade: Box::new(move || served.facade()), settings, compiler };
    let kit = Kit::open(subject).await;
    test::blame_the_facade(&script)?;
    let costs = kit?.costs(usize::try_from(arguments.calls)?, arguments.records.into()).await;
    test::blame_the_facade(&script)?;
    let costs = costs.map_err(anyhow::Error::msg)?;
    if arguments.json {
        let mut json = costs.to_json();
        if let Some(object) = json.as_object_mut() {
            object.insert("plugin".into(), serde_json::json!({"id": manifest.id, "version": manifest.version}));
            object.insert("bytes".into(), bytes.into());
        }
        println!("{}", serde_json::to_string_pretty(&json)?);
    } else {
        println!("{} {}, {} KiB", manifest.id, manifest.version, bytes.div_ceil(1024));
        print!("{}", table(&costs));
    }
    Ok(ExitCode::SUCCESS)
}

fn table(costs: &Costs) -> String {
    let us = |d: std::time::Duration| readable(d.as_secs_f64() * 1e6);
    let mut text = format!(
        "  compiled, in a process of its own     {}\n  loaded when it is compiled            {}\n\n  {:<38}{:>10}{:>10}{:>10}{:>12}{:>10}\n",
        us(costs.compile),
        us(costs.load),
        "",
        "p50",
        "p99",
        "memory",
        "host calls",
        "requests"
    );
    let rows = [
        ("an instance, and a call of nothing".to_owned(), &costs.empty),
        ("normalize of 4 sets".to_owned(), &costs.normalize),
        (format!("read of {} records", costs.records), &costs.read),
    ];
    for (what, cost) in rows {
        text.push_str(&row(&what, cost));
    }
    text
}

fn row(what: &str, cost: &Cost) -> String {
    format!(
        "  {what:<38}{:>10}{:>10}{:>6} MiB{:>12}{:>10}\n",
        readable(cost.times.p50()),
        readable(cost.times.p99()),
        cost.used.memory.div_ceil(1 << 20),
        cost.used.host_calls,
        cost.used.requests
    )
}
