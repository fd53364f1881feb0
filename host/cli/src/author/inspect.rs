//! `wharf plugin inspect`: what the bytes of a component say. Nothing of it is run.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use clap::Args;
use serde_json::json;
use wharf_model::manifest::Position;
use wharf_plugins::{Inspection, Runtime, settings};

use super::project;

#[derive(Args)]
pub struct Arguments {
    /// The component, or the plugin's folder.
    component: Option<PathBuf>,
    /// As one JSON object.
    #[arg(long)]
    json: bool,
}

/// The command.
pub fn inspect(arguments: &Arguments) -> Result<ExitCode> {
    let subject = project::subject(arguments.component.as_deref())?;
    let found = Runtime::inspect(&subject.bytes)?;
    if arguments.json {
        println!("{}", serde_json::to_string_pretty(&json!(found))?);
    } else {
        show(&found);
    }
    Ok(ExitCode::SUCCESS)
}

fn show(found: &Inspection) {
    let manifest = &found.manifest;
    println!("{} {} ({}), {}, {} bytes", manifest.id, manifest.version, manifest.world, manifest.licence, found.bytes);
    println!("{}", manifest.name);
    if !manifest.description.is_empty() {
        println!("{}", manifest.description);
    }
    let shape = &found.shape;
    println!("  sha256 {}", found.digest);
    println!(
        "  made of {} modules, {} components, {} functions; {} levels",
        shape.modules, shape.components, shape.functions, shape.depth
    );
    for import in &found.imports {
        let note = if import.interface.starts_with("wasi:") { "  (linked to nothing)" } else { "" };
        println!("  imports {import}{note}");
    }
    for export in &found.exports {
        println!("  exports {export}");
    }
    for (interface, version) in &manifest.wants {
        let grant = if found.needs_grant.contains(interface) { "  (an admin must allow it)" } else { "" };
        println!("  wants {interface} {version}{grant}");
    }
    for rule in &manifest.requests {
        let methods: Vec<&str> = rule.methods.iter().map(String::as_str).collect();
        println!("  requests {} {}{}", methods.join("|"), rule.origin, rule.path);
        for (field, values) in &rule.pinned {
            println!("    only with {field} = {}", values.join(" or "));
        }
    }
    for slot in &manifest.secrets {
        let positions: Vec<String> = slot.positions.iter().map(position).collect();
        println!("  secret {} goes into {}", slot.slot, positions.join(", "));
    }
    for slot in settings::secret_slots(&manifest.settings) {
        if manifest.slot(&slot).is_none() {
            println!("  secret {slot} goes nowhere");
        }
    }
    for kind in &manifest.operations {
        let states: Vec<&str> = kind.states.iter().map(|s| s.id.as_str()).collect();
        println!("  operation {}: {}", kind.kind, states.join(" → "));
    }
    for problem in &found.problems {
        println!("  can't run here: {problem}");
    }
}

fn position(position: &Position) -> String {
    match position {
        Position::Header(name) => format!("the header {name}"),
        Position::Form(name) => format!("the form field {name}"),
        Position::Config(key) => format!("the VM's {key}"),
        Position::Sign { scheme, header } => format!("a {scheme} signature in {header}"),
    }
}
