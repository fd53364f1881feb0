//! `wharf plugin check`: everything that stands between a component and its use on a host, in one go.
//!
//! The manifest is checked as the author's file, with line and column; then the component is installed into a runtime like a
//! host's: inspected, held to the contract, compiled in a child with limits, and started.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::Args;
use wharf_build::{component, json};
use wharf_model::manifest::Manifest;
use wharf_plugins::{GrantRequest, Runtime};

use super::{
    lint::{self, Finding},
    project,
    run::house::{House, Peer},
};

#[derive(Args)]
pub struct Arguments {
    /// The component, or the plugin's folder.
    component: Option<PathBuf>,
}

/// The command.
pub async fn check(arguments: &Arguments) -> Result<ExitCode> {
    // A manifest that can't be read must not hide behind a component that is not built because of it.
    let given = arguments.component.as_deref().unwrap_or(Path::new("."));
    if given.is_dir() {
        let file = given.join("manifest.json");
        let file = file.strip_prefix("./").unwrap_or(&file);
        if let Ok(text) = std::fs::read_to_string(file) {
            let problems = of_file(file, &text);
            if !problems.is_empty() {
                return Ok(told(&problems));
            }
        }
    }
    let subject = project::subject(arguments.component.as_deref())?;
    let mut problems = Vec::new();
    let found = match Runtime::inspect(&subject.bytes) {
        Ok(found) => found,
        Err(error) => return Ok(told(&[format!("{}: {error}", subject.path.display())])),
    };
    match &subject.manifest {
        Some(file) => {
            let text = std::fs::read_to_string(file).with_context(|| file.display().to_string())?;
            problems.extend(of_file(file, &text));
            let same = Manifest::parse(text.as_bytes()).is_ok_and(|manifest| manifest == found.manifest);
            if problems.is_empty() && !same {
                problems.push(format!(
                    "{}: it carries another manifest than {}: build it again with `wharf plugin build`",
                    subject.path.display(),
                    file.display()
                ));
            }
        }
        None => problems.extend(lint::findings(&found.manifest).into_iter().map(|f| f.message)),
    }
    let said = |problem: &&String| !problem.contains("is no valid JSON Schema") || problems.is_empty();
    let contract: Vec<String> = found.problems.iter().filter(said).cloned().collect();
    problems.extend(contract.into_iter().map(|problem| format!("{}: {problem}", subject.path.display())));
    if problems.is_empty() {
        let house = House::open(Default::default(), Peer::Live).await?;
        let grant = GrantRequest::Allow(found.needs_grant.iter().cloned().collect());
        if let Err(error) = house.runtime.install(subject.bytes, "author", grant).await {
            problems.push(format!("{}: {error}", subject.path.display()));
        }
    }
    if !problems.is_empty() {
        return Ok(told(&problems));
    }
    let manifest = &found.manifest;
    println!("{} {} is good: a host takes it and starts it.", manifest.id, manifest.version);
    let wasi: Vec<String> =
        found.imports.iter().filter(|i| i.interface.starts_with("wasi:")).map(|i| i.interface.clone()).collect();
    if !wasi.is_empty() {
        println!("It imports {}, which the host links to nothing: what they ask for is denied.", wasi.join(", "));
    }
    if !found.needs_grant.is_empty() {
        println!("An admin has to allow: {}.", found.needs_grant.join(", "));
    }
    Ok(ExitCode::SUCCESS)
}

/// What is wrong with a manifest's file, each with file, line and column.
fn of_file(file: &Path, text: &str) -> Vec<String> {
    let name = file.display();
    let manifest = match component::read_manifest(file).map(|_| Manifest::parse(text.as_bytes())) {
        Err(error) => return vec![error.to_string()],
        Ok(Ok(manifest)) => manifest,
        Ok(Err(error)) => {
            // What is no manifest for its form has the place from the parser.
            if let Err(e) = serde_json::from_str::<Manifest>(text) {
                let said = e.to_string();
                let said = said.split(" at line ").next().unwrap_or(&said);
                return vec![format!("{name}:{}:{}: {said}", e.line(), e.column())];
            }
            return vec![placed(file, text, &lint::of_error(&error))];
        }
    };
    lint::findings(&manifest).iter().map(|finding| placed(file, text, finding)).collect()
}

fn placed(file: &Path, text: &str, finding: &Finding) -> String {
    match json::place(text, &finding.pointer).filter(|_| !finding.pointer.is_empty()) {
        Some(at) => format!("{}:{}:{}: {}", file.display(), at.line, at.column, finding.message),
        None => format!("{}: {}", file.display(), finding.message),
    }
}

fn told(problems: &[String]) -> ExitCode {
    for problem in problems {
        eprintln!("{problem}");
    }
    let count = problems.len();
    eprintln!("wharf: {count} thing{} to mend", if count == 1 { "" } else { "s" });
    ExitCode::FAILURE
}
