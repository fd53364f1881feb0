//! `wharf plugin test`: the conformance kit on the project's component, against the API that its `facade.rhai` describes, or in
//! a zone that may be thrown away (`--live`).
//!
//! Each case is told as it ends: a sentence that is true of a provider that passes, and where it failed what was expected and
//! what was seen. The exit code is 1 when a case failed or the badge that was asked for is not had. What goes wrong in the
//! façade is told as the façade's, with file and line.

mod junit;
mod live;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use clap::{Args, ValueEnum};
use serde_json::Value as Json;
use wharf_conformance::{Badge, Case, CaseResult, Kit, Report, Subject, Verdict};
use wharf_model::manifest::{Manifest, World};
use wharf_plugins::{Compiler, Runtime};
use wharf_testkit::script::Script;

use super::{
    build,
    project::{self, Project},
    run::house,
    settings::Given,
};

#[derive(Args)]
pub struct Arguments {
    /// The plugin's folder.
    #[arg(default_value = ".")]
    folder: PathBuf,
    /// This case alone; may be given several times.
    #[arg(long = "case", value_name = "NUMBER")]
    cases: Vec<u8>,
    /// Fail unless the provider has this badge.
    #[arg(long, conflicts_with = "cases")]
    badge: Option<BadgeName>,
    /// As one JSON object, in a shape that stays.
    #[arg(long)]
    json: bool,
    /// Write what came of it into this file, too, as JUnit's XML.
    #[arg(long, value_name = "FILE")]
    junit: Option<PathBuf>,
    /// The façade, if it is not `facade.rhai` of the folder.
    #[arg(long, value_name = "FILE")]
    facade: Option<PathBuf>,
    /// Play in a live zone that may be thrown away: cases that need neither faults nor zones of the kit's own.
    #[arg(long, conflicts_with = "badge")]
    live: bool,
    /// --live: the zone.
    #[arg(long, requires = "live")]
    zone: Option<String>,
    /// --live: an origin (`http://127.0.0.1:8080`) that may be reached although it is private or plain http.
    #[arg(long, value_name = "ORIGIN", requires = "live")]
    allow_private: Vec<String>,
    /// --live: records of others that the zone may hold.
    #[arg(long, value_name = "NUMBER", default_value_t = 20, requires = "live")]
    records: usize,
    /// --live: even if it holds more.
    #[arg(long, requires = "live")]
    yes: bool,
    #[command(flatten)]
    given: Given,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum BadgeName {
    Core,
    Hosting,
    Scale,
}

impl From<BadgeName> for Badge {
    fn from(name: BadgeName) -> Self {
        match name {
            BadgeName::Core => Self::Core,
            BadgeName::Hosting => Self::Hosting,
            BadgeName::Scale => Self::Scale,
        }
    }
}

/// The command.
pub async fn test(arguments: &Arguments) -> Result<ExitCode> {
    let wanted = wanted(&arguments.cases)?;
    let (component, manifest) = fresh(&arguments.folder)?;
    let (place, _guard) = house::place()?;
    let compiler = Compiler::Child(std::env::current_exe().context("can't find the host's own executable")?);
    let mut told = Told::new(arguments);
    if arguments.live {
        let kit = live::open(arguments, component, &manifest, &place, compiler).await?;
        live::play(&kit, &wanted, arguments, &mut told).await?;
        return told.end(kit.report(told.results.clone()));
    }
    let script = facade(&arguments.folder, arguments.facade.as_deref())?;
    let served = script.clone();
    let settings = arguments.given.laid_over(&manifest)?;
    let subject = Subject { component, facade: Box::new(move || served.facade()), settings, compiler };
    let kit = Kit::open_in(subject, &place).await;
    blame_the_facade(&script)?;
    let kit = kit?;
    for case in wanted {
        told.case(played(&kit, case, &script).await);
    }
    told.end(kit.report(told.results.clone()))
}

/// The cases that were asked for.
fn wanted(numbers: &[u8]) -> Result<Vec<&'static Case>> {
    if numbers.is_empty() {
        return Ok(wharf_conformance::all().collect());
    }
    let known =
        |n: &u8| wharf_conformance::case(*n).with_context(|| format!("--case: there is no case {n}, but 1 to 54"));
    numbers.iter().map(known).collect()
}

/// The component as its sources are, built if it has to be.
pub fn fresh(folder: &Path) -> Result<(Vec<u8>, Manifest)> {
    let project = Project::open(folder)?;
    if let Some(why) = project.stale() {
        eprintln!("building, because {why}");
        eprintln!("{}", build::made(&project)?);
    }
    let subject = project::subject(Some(folder))?;
    let manifest = Runtime::inspect(&subject.bytes).with_context(|| subject.path.display().to_string())?.manifest;
    if manifest.world != World::DnsProvider {
        bail!("`{}` is a {}, and the cases are of DNS providers", manifest.id, manifest.world);
    }
    Ok((subject.bytes, manifest))
}

/// The project's façade.
pub fn facade(folder: &Path, given: Option<&Path>) -> Result<Script> {
    let file = given.map_or_else(|| folder.join("facade.rhai"), Path::to_path_buf);
    if !file.is_file() {
        bail!(
            "there is no {}: describe the provider's API in it (docs/conformance.md says how), or name the file with --facade",
            file.strip_prefix("./").unwrap_or(&file).display()
        );
    }
    Ok(Script::read(&file)?)
}

/// What broke in the script is told as that.
pub fn blame_the_facade(script: &Script) -> Result<()> {
    match script.complaints().as_slice() {
        [] => Ok(()),
        complaints => bail!("the façade broke, so nothing can be said of the provider:\n{}", complaints.join("\n")),
    }
}

async fn played(kit: &Kit, case: &Case, script: &Script) -> CaseResult {
    let mut result = kit.run(case).await;
    let complaints = script.complaints();
    if !complaints.is_empty() {
        let why = complaints.join("; ");
        result.verdict = Verdict::Failed(format!("the façade broke, so nothing can be said of the provider: {why}"));
    }
    result
}

/// Tells what comes of the cases.
struct Told<'a> {
    arguments: &'a Arguments,
    results: Vec<CaseResult>,
}

impl<'a> Told<'a> {
    fn new(arguments: &'a Arguments) -> Self {
        Self { arguments, results: Vec::new() }
    }

    fn case(&mut self, result: CaseResult) {
        // What can't be played live was counted beforehand.
        let apart = self.arguments.live && wharf_conformance::case(result.number).is_some_and(|c| !c.is_live());
        if !self.arguments.json && !apart {
            println!("{result}");
        }
        self.results.push(result);
    }

    fn end(&self, report: Report) -> Result<ExitCode> {
        // Of some cases no badge can be told.
        let whole = self.arguments.cases.is_empty() && !self.arguments.live;
        if let Some(file) = &self.arguments.junit {
            std::fs::write(file, junit::xml(&report))
                .with_context(|| format!("{} can't be written", file.display()))?;
        }
        if self.arguments.json {
            let mut json = report.to_json();
            if !whole && let Some(object) = json.as_object_mut() {
                object.insert("badge".into(), Json::Null);
            }
            println!("{}", serde_json::to_string_pretty(&json)?);
        } else {
            let (passed, failed, others) = report.counts();
            let badge = report.badge().map_or("none", Badge::as_str);
            let badge = if whole { format!("badge: {badge}; ") } else { String::new() };
            println!("{badge}{passed} passed, {failed} failed, {others} do not apply");
        }
        let good = match self.arguments.badge {
            Some(wanted) => report.badge() >= Some(wanted.into()),
            None => report.failed().next().is_none(),
        };
        Ok(if good { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_case_that_is_not_there_is_refused() {
        assert_eq!(wanted(&[]).unwrap().len(), 54);
        assert_eq!(wanted(&[7, 3]).unwrap().iter().map(|c| c.number).collect::<Vec<_>>(), [7, 3]);
        assert!(wanted(&[55]).err().unwrap().to_string().contains("no case 55"));
    }
}
