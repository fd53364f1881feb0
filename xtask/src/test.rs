//! `cargo xtask test`: every check there is, in stages, each with a budget of minutes.
//!
//! The first stage that fails ends the run; the table at the end says which stages ran, how long, and which did not.
//! Nothing is left out in silence.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde::Deserialize;

use crate::shell::{cargo, root, run as run_command, succeeds};
use crate::{guests, plugins, setup};

/// What `cargo xtask test` takes.
#[derive(clap::Args)]
pub struct Args {
    /// More seeds, more kills.
    #[arg(long)]
    long: bool,
    /// This stage alone; may be given several times.
    #[arg(long, value_name = "STAGE")]
    only: Vec<String>,
    /// Handed on to the test runner (names of tests, flags).
    #[arg(last = true)]
    rest: Vec<String>,
}

const STAGES: [&str; 7] = ["setup", "fmt", "clippy", "plugins", "guests", "wit-check", "tests"];

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Budget {
    minutes: BTreeMap<String, f64>,
    #[serde(default)]
    long: BTreeMap<String, f64>,
}

impl Budget {
    fn of(&self, stage: &str, long: bool) -> Result<Duration> {
        let long = self.long.get(stage).filter(|_| long);
        let minutes = long.or_else(|| self.minutes.get(stage));
        let minutes = minutes.with_context(|| format!(".ci/budget.toml gives no minutes for `{stage}`"))?;
        Duration::try_from_secs_f64(minutes * 60.0)
            .map_err(|_| anyhow::anyhow!(".ci/budget.toml: `{stage}` is not a number of minutes"))
    }
}

/// How a stage went.
struct Row {
    stage: &'static str,
    took: Option<Duration>,
    budget: Duration,
    state: &'static str,
}

/// The command.
pub fn run(args: &Args) -> Result<()> {
    if let Some(unknown) = args.only.iter().find(|s| !STAGES.contains(&s.as_str())) {
        bail!("there is no stage `{unknown}`; there are {}", STAGES.join(", "));
    }
    let text = std::fs::read_to_string(root().join(".ci/budget.toml")).context(".ci/budget.toml can't be read")?;
    let budget: Budget = toml::from_str(&text).context(".ci/budget.toml")?;
    let stages = STAGES.iter().copied().filter(|s| args.only.is_empty() || args.only.iter().any(|o| o == s));
    let mut plan = Vec::new();
    for stage in stages {
        plan.push((stage, budget.of(stage, args.long)?));
    }
    let begun = Instant::now();
    let (rows, failure) = walk(&plan, |stage| work(stage, args));
    print(&rows, begun.elapsed());
    failure.map_or(Ok(()), Err)
}

/// Runs stages until one fails or takes too long.
fn walk(
    plan: &[(&'static str, Duration)],
    mut work: impl FnMut(&str) -> Result<()>,
) -> (Vec<Row>, Option<anyhow::Error>) {
    let mut rows = Vec::new();
    let mut failure: Option<anyhow::Error> = None;
    for &(stage, budget) in plan {
        if failure.is_some() {
            rows.push(Row { stage, took: None, budget, state: "not run" });
            continue;
        }
        println!("\n=== {stage}");
        let begun = Instant::now();
        let result = work(stage);
        let took = begun.elapsed();
        let state = match result {
            Err(error) => {
                failure = Some(error.context(format!("stage `{stage}` failed")));
                "failed"
            }
            Ok(()) if took > budget => {
                failure = Some(anyhow::anyhow!(
                    "stage `{stage}` took {:.1} minutes, {:.1} are in .ci/budget.toml: make it faster, or give it more",
                    took.as_secs_f64() / 60.0,
                    budget.as_secs_f64() / 60.0
                ));
                "too slow"
            }
            Ok(()) => "ok",
        };
        rows.push(Row { stage, took: Some(took), budget, state });
    }
    (rows, failure)
}

fn work(stage: &str, args: &Args) -> Result<()> {
    match stage {
        "setup" => setup::all(),
        "fmt" => run_command(cargo().args(["fmt", "--all", "--", "--check"])),
        "clippy" => {
            run_command(cargo().args(["clippy", "--workspace", "--all-targets", "--quiet", "--", "-D", "warnings"]))
        }
        "plugins" => plugins::build_all(&[]),
        "guests" => {
            let built = plugins::build_guests()?;
            guests::check_types()?;
            guests::test(&built)
        }
        "wit-check" => crate::check_contract(),
        _ => tests(args),
    }
}

/// Unit, conformance and end-to-end tests. The environment says where they find what the stages before have made.
fn tests(args: &Args) -> Result<()> {
    // The binaries too, with the same features: tests start them as processes.
    run_command(cargo().args(["build", "--workspace", "--all-targets", "--quiet"]))?;
    let mut command = cargo();
    if succeeds("cargo", &["nextest", "--version"]) {
        command.args(["nextest", "run", "--workspace", "--no-fail-fast"]);
        command.args(&args.rest);
    } else {
        eprintln!("xtask: cargo-nextest is not here, the same tests run with `cargo test`");
        command.args(["test", "--workspace", "--no-fail-fast", "--lib", "--bins", "--tests"]);
        if !args.rest.is_empty() {
            command.arg("--").args(&args.rest);
        }
    }
    command
        .env("WHARF_PLUGINS_DIR", plugins::out_dir())
        // Which is not that of the machine where that is too old.
        .env("WHARF_TEST_NODE", setup::node_folder()?)
        .env("WHARF_PVE_SCHEMA_91", setup::pve_schema("9.1")?)
        .env("WHARF_PVE_SCHEMA_92", setup::pve_schema("9.2")?);
    if args.long {
        // Random scripts that the in-memory model and SQLite must answer alike; 12 otherwise.
        command.env("WHARF_TEST_SEEDS", "200");
        // Simulated histories; 10,000 otherwise.
        command.env("WHARF_TEST_SIM_SEEDS", "100000");
        // 1,000 orders and 200 kills over three hosts; 60 and 20 otherwise.
        command.env("WHARF_TEST_LONG", "1");
    }
    run_command(&mut command)
}

fn print(rows: &[Row], whole: Duration) {
    println!("\n{:<12}{:>10}{:>10}  ", "stage", "took", "budget");
    for Row { stage, took, budget, state } in rows {
        let took = took.map_or_else(|| "-".to_owned(), clock);
        println!("{stage:<12}{took:>10}{:>10}  {state}", clock(*budget));
    }
    println!("{:<12}{:>10}", "all", clock(whole));
}

/// Minutes and seconds.
fn clock(time: Duration) -> String {
    let seconds = time.as_secs();
    format!("{}:{:02}", seconds / 60, seconds % 60)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_failure_ends_the_run_and_the_rest_is_told_as_not_run() {
        let hour = Duration::from_secs(3600);
        let plan = [("setup", hour), ("fmt", hour), ("clippy", hour)];
        let (rows, failure) = walk(&plan, |stage| if stage == "fmt" { bail!("bad") } else { Ok(()) });
        assert_eq!(rows.iter().map(|r| r.state).collect::<Vec<_>>(), ["ok", "failed", "not run"]);
        assert!(failure.unwrap().to_string().contains("fmt"));
    }

    #[test]
    fn a_stage_over_its_budget_fails() {
        let (rows, failure) = walk(&[("fmt", Duration::ZERO)], |_| Ok(()));
        assert_eq!(rows[0].state, "too slow");
        assert!(failure.unwrap().to_string().contains("budget.toml"));
    }

    #[test]
    fn every_stage_has_a_budget() {
        let text = std::fs::read_to_string(root().join(".ci/budget.toml")).unwrap();
        let budget: Budget = toml::from_str(&text).unwrap();
        for stage in STAGES {
            assert!(budget.of(stage, false).unwrap() > Duration::ZERO);
            assert!(budget.of(stage, true).unwrap() >= budget.of(stage, false).unwrap());
        }
        for stage in budget.minutes.keys().chain(budget.long.keys()) {
            assert!(STAGES.contains(&stage.as_str()), "{stage} is no stage");
        }
    }

    /// A crate whose tests are one program (`autotests = false`) compiles what its tests/main.rs names, and nothing else: the tests
    /// of a forgotten file would never fail.
    #[test]
    fn every_file_of_tests_that_are_one_program_is_a_module_of_it() {
        let mut programs = 0;
        for folder in ["host", "sdk", "tests"].iter().flat_map(|f| std::fs::read_dir(root().join(f)).unwrap()) {
            let tests = folder.unwrap().path().join("tests");
            let Ok(main) = std::fs::read_to_string(tests.join("main.rs")) else { continue };
            programs += 1;
            for file in std::fs::read_dir(&tests).unwrap() {
                let file = file.unwrap().path();
                let rust = file.extension().is_some_and(|e| e == "rs") || file.join("mod.rs").exists();
                let module = file.file_stem().unwrap().to_str().unwrap();
                if rust && module != "main" && !main.lines().any(|l| l == format!("mod {module};")) {
                    panic!("{} is not run: {}/main.rs has no line `mod {module};`", file.display(), tests.display());
                }
            }
        }
        assert_eq!(programs, 4);
    }
}
