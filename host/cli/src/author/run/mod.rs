//! `wharf plugin run`: one call of one export, through a host's runtime with its limits.
//!
//! The answer, the log, the requests and what was used up go to standard output as one JSON object; secrets are taken out of
//! all of it. As a host does, the zone is probed before it is read or written. The exit code is 0 only for an answer that is
//! no problem.

pub mod house;
mod recording;

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use clap::{Args, ValueEnum};
use serde_json::{Map, Value as Json, json};
use wharf_capabilities::call::ZoneBinding;
use wharf_model::{
    manifest::{Manifest, World},
    object::{Grant, ObjectKind, Zone},
};
use wharf_plugins::{
    GrantRequest, Runtime,
    dns::{Change, DnsSession, Edit, Outcome, Problem, RrSet, Selector, Value, ZoneRef},
    report::{CallError, CallReport},
};

use self::house::{House, Peer};
use super::{
    project,
    say::{self, ChangeText},
    settings,
};

#[derive(Args)]
pub struct Arguments {
    /// What is called.
    export: Export,
    /// The component, or the plugin's folder.
    #[arg(long, default_value = ".")]
    plugin: PathBuf,
    /// The zone, as in example.com.
    #[arg(long)]
    zone: Option<String>,
    #[command(flatten)]
    given: settings::Given,
    /// An origin (`http://127.0.0.1:8080`) that may be reached although it is private or plain http.
    #[arg(long, value_name = "ORIGIN")]
    allow_private: Vec<String>,
    /// Keeps what is exchanged in this file, as HAR 1.2, without the secrets.
    #[arg(long, value_name = "FILE", conflicts_with = "replay")]
    record: Option<PathBuf>,
    /// Nothing is sent: this recording answers.
    #[arg(long, value_name = "FILE")]
    replay: Option<PathBuf>,
    /// read: this name and below.
    #[arg(long, value_name = "NAME")]
    below: Option<String>,
    /// read: this name and type alone; may be given several times.
    #[arg(long, num_args = 2, value_names = ["NAME", "TYPE"])]
    key: Vec<String>,
    /// apply: a value that shall be there; normalize: a value of a set.
    #[arg(long, num_args = 3, value_names = ["NAME", "TYPE", "VALUE"])]
    add: Vec<String>,
    /// apply: a value that shall not be there.
    #[arg(long, num_args = 3, value_names = ["NAME", "TYPE", "VALUE"])]
    remove: Vec<String>,
    /// apply and normalize: seconds.
    #[arg(long)]
    ttl: Option<u32>,
    /// apply: a JSON list of changes, as `[{"id": 1, "name": "www.example.com.", "rtype": "A", "ttl": 300,
    /// "edit": {"add-values": ["192.0.2.1"]}}]`.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["add", "remove"])]
    changes: Option<PathBuf>,
    /// apply: the same for every repetition of a batch.
    #[arg(long, default_value = "wharf-plugin-run")]
    idempotency_key: String,
    /// poll: what `accepted` named.
    #[arg(long)]
    operation: Option<String>,
    /// test-connection: write and remove a record of its own.
    #[arg(long)]
    try_write: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Export {
    Normalize,
    Probe,
    TestConnection,
    ListZones,
    Read,
    Apply,
    Poll,
    Publish,
}

/// What a call came to.
struct Said {
    answer: Json,
    good: bool,
    log: Json,
    used: Json,
}

/// The command.
pub async fn run(arguments: Arguments) -> Result<ExitCode> {
    let subject = project::subject(Some(&arguments.plugin))?;
    let found = Runtime::inspect(&subject.bytes).with_context(|| subject.path.display().to_string())?;
    if found.manifest.world != World::DnsProvider {
        bail!("`{}` is a {}, and only DNS providers can be run by hand", found.manifest.id, found.manifest.world);
    }
    let (settings, secrets) = arguments.given.whole(&found.manifest)?;
    let peer = arguments.replay.clone().map_or(Peer::Live, Peer::Recorded);
    let house = House::open(secrets.clone(), peer).await?;
    if arguments.record.is_some() {
        house.asked.can_record()?;
    }
    allow(&house, &found.manifest, &arguments.allow_private).await?;
    let grant = GrantRequest::Allow(found.needs_grant.iter().cloned().collect());
    let id = found.manifest.id.clone();
    house.runtime.install(subject.bytes, "author", grant).await.with_context(|| subject.path.display().to_string())?;
    for (slot, value) in &secrets {
        let sealed = house.lender.keyring.seal("zone/zone", slot, value.as_bytes());
        house.lender.books.put_secret("zone/zone", slot, &sealed, house.lender.clock.now_ms()).await?;
    }
    let name = arguments.zone.as_deref().map(dotted);
    let binding = ZoneBinding {
        name: "zone".into(),
        zone: Zone { zone: name.clone().unwrap_or_else(|| ".".into()), plugin: id, settings, ..Zone::default() },
        idempotency_key: arguments.idempotency_key.clone(),
        learnt: Vec::new(),
        progress: Default::default(),
        cancelled: Arc::default(),
    };
    let mut session = house.runtime.dns(binding).await?;
    let plugin = format!("{} {}", found.manifest.id, session.version());
    let (export, said) = call(&arguments, name, &mut session).await?;
    let whole = json!({
        "plugin": plugin,
        "export": export.to_possible_value().map(|v| v.get_name().to_owned()),
        "answer": said.answer,
        "log": said.log,
        "requests": house.asked.take(),
        "used": said.used,
        "replay": house.asked.left().map(|left| json!({"left": left})),
    });
    println!("{}", house.asked.clean(&serde_json::to_string_pretty(&whole)?));
    if let Some(file) = &arguments.record {
        house.asked.record(file)?;
    }
    Ok(if said.good { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

async fn allow(house: &House, manifest: &Manifest, origins: &[String]) -> Result<()> {
    let grant = Grant { private_origins: settings::origins(origins)?, ..Grant::default() };
    let row = serde_json::to_value(&grant)?;
    let now = house.lender.clock.now_ms();
    house.lender.books.put_object(ObjectKind::Grant, &manifest.id, row, None, None, now).await?;
    Ok(())
}

/// Does it, with the probe before it where a host would probe.
async fn call(arguments: &Arguments, name: Option<String>, session: &mut DnsSession) -> Result<(Export, Said)> {
    let export = arguments.export;
    match export {
        Export::ListZones => {
            let zones = |all: &Vec<ZoneRef>| all.iter().map(say::zone).collect::<Vec<_>>().into();
            return Ok((export, answered(session.list_zones().await, zones)));
        }
        Export::TestConnection => {
            let report = session.test_connection(name.as_deref(), arguments.try_write).await;
            return Ok((
                export,
                plain(report, |checks| {
                    (checks.iter().all(|c| c.ok), checks.iter().map(say::check).collect::<Vec<_>>().into())
                }),
            ));
        }
        _ => {}
    }
    let Some(name) = name else { bail!("--zone is missing: name the zone, as in --zone example.com") };
    let probe = session.probe(&name).await;
    let probed = match &probe {
        Ok(CallReport { answer: Ok(probed), .. }) if export != Export::Probe => probed.clone(),
        // What was asked for, or why it can't be done.
        _ => return Ok((Export::Probe, answered(probe, say::probed))),
    };
    let zone = probed.info.zone;
    let said = match export {
        Export::Read => {
            let what = match (&arguments.below, arguments.key.as_slice()) {
                (Some(_), [_, ..]) => bail!("--below and --key exclude each other"),
                (Some(below), _) => Selector::Below(dotted(below)),
                (None, []) => Selector::All,
                (None, keys) => Selector::Keys(
                    keys.chunks(2).filter_map(|k| Some((dotted(k.first()?), k.get(1)?.clone()))).collect(),
                ),
            };
            answered(session.read(&zone, what).await, say::snapshot)
        }
        Export::Apply => {
            let batch = changes(arguments)?;
            let report = session.apply(&zone, batch).await;
            let failed = |outcome: &Outcome| matches!(outcome, Outcome::Failed(_) | Outcome::NotAttempted);
            let whole =
                matches!(&report, Ok(CallReport { answer: Ok(r), .. }) if !r.outcomes.iter().any(|o| failed(&o.1)));
            let said = answered(report, say::report);
            Said { good: said.good && whole, ..said }
        }
        Export::Poll => {
            let Some(operation) = &arguments.operation else { bail!("--operation is missing") };
            answered(session.poll(&zone, operation).await, say::outcome)
        }
        Export::Normalize => {
            let verdicts = |all: &Vec<_>| all.iter().map(say::verdict).collect::<Vec<_>>().into();
            answered(session.normalize(probed.can, &name, sets(arguments)?).await, verdicts)
        }
        Export::Publish => plain(session.publish(&zone).await, |answer| match answer {
            None => (true, json!({"ok": "the plugin has no such step: what is written is public"})),
            Some(Ok(())) => (true, json!({"ok": null})),
            Some(Err(problem)) => (false, json!({"problem": say::problem(problem)})),
        }),
        Export::Probe | Export::ListZones | Export::TestConnection => bail!("this was answered before"),
    };
    Ok((export, said))
}

fn answered<T>(report: Result<CallReport<Result<T, Problem>>, CallError>, ok: impl Fn(&T) -> Json) -> Said {
    plain(report, |answer| match answer {
        Ok(answer) => (true, json!({"ok": ok(answer)})),
        Err(problem) => (false, json!({"problem": say::problem(problem)})),
    })
}

fn plain<T>(report: Result<CallReport<T>, CallError>, show: impl Fn(&T) -> (bool, Json)) -> Said {
    let (good, answer, log, used, took) = match report {
        Ok(report) => {
            let (good, answer) = show(&report.answer);
            (good, answer, report.log, report.used, Some(report.took))
        }
        Err(error) => {
            let failed = json!({"failed": {"cause": error.cause.as_str(), "text": error.text}});
            (false, failed, error.log, error.used, None)
        }
    };
    let log = log
        .iter()
        .map(|line| {
            let fields: Map<String, Json> = line.fields.iter().map(|(k, v)| (k.clone(), v.clone().into())).collect();
            json!({"level": line.level, "message": line.message, "fields": fields})
        })
        .collect();
    let used = json!({
        "took_ms": took.map(|t| t.as_secs_f64() * 1000.0),
        "cpu_ms": u64::try_from(used.cpu.as_millis()).unwrap_or(u64::MAX),
        "memory_bytes": used.memory,
        "host_calls": used.host_calls,
        "bytes": used.bytes,
        "requests": used.requests,
    });
    Said { answer, good, log, used }
}

fn changes(arguments: &Arguments) -> Result<Vec<Change>> {
    if let Some(file) = &arguments.changes {
        let text = std::fs::read_to_string(file).with_context(|| format!("{} can't be read", file.display()))?;
        let list: Vec<ChangeText> = serde_json::from_str(&text)
            .map_err(|e| anyhow::anyhow!("{}:{}:{}: {e}", file.display(), e.line(), e.column()))?;
        return Ok(list.into_iter().map(Change::from).collect());
    }
    let mut batch = Vec::new();
    let removed = arguments.remove.chunks(3).map(|c| (c, false));
    for (id, (given, comes)) in (1..).zip(removed.chain(arguments.add.chunks(3).map(|c| (c, true)))) {
        let [name, rtype, data] = given else { continue };
        let edit = if comes { Edit::AddValues(vec![Value::new(data)]) } else { Edit::RemoveValues(vec![data.clone()]) };
        let (name, rtype) = (dotted(name), rtype.clone());
        batch.push(Change { id, name, rtype, ttl: arguments.ttl, edit, expect: None, owner: None });
    }
    if batch.is_empty() {
        bail!("nothing to apply: say --add NAME TYPE VALUE, --remove NAME TYPE VALUE or --changes FILE");
    }
    Ok(batch)
}

fn sets(arguments: &Arguments) -> Result<Vec<RrSet>> {
    let mut sets: Vec<RrSet> = Vec::new();
    for given in arguments.add.chunks(3) {
        let [name, rtype, data] = given else { continue };
        // As it was given: what becomes of it is the question.
        match sets.iter_mut().find(|s| s.name == *name && s.rtype == *rtype) {
            Some(set) => set.values.push(Value::new(data)),
            None => sets.push(RrSet {
                name: name.clone(),
                rtype: rtype.clone(),
                ttl: arguments.ttl,
                values: vec![Value::new(data)],
                ..RrSet::default()
            }),
        }
    }
    if sets.is_empty() {
        bail!("nothing to normalize: say --add NAME TYPE VALUE");
    }
    Ok(sets)
}

/// A name as the host hands it over.
fn dotted(name: &str) -> String {
    let name = name.to_ascii_lowercase();
    if name.ends_with('.') { name } else { format!("{name}.") }
}
