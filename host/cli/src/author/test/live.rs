//! `wharf plugin test --live`: the cases that can be played in a real zone, under one random label of it.
//!
//! What will be written is said before anything is; a zone that holds more than a few records of others is refused. What stands
//! under the label is deleted before each case and at the end, also when a case failed or Ctrl-C was pressed; the records of
//! others are read before and after, and what differs is told.

use std::{collections::BTreeSet, path::Path};

use anyhow::{Context, Result, bail};
use serde_json::Value as Json;
use wharf_conformance::{Case, Kit, LiveSubject};
use wharf_model::manifest::Manifest;
use wharf_plugins::Compiler;
use wharf_testkit::script::Script;

use super::{Arguments, Told};
use crate::author::settings;

/// Records that are named in an error.
const NAMED: usize = 5;

/// Opens the kit in the zone.
pub async fn open(
    arguments: &Arguments,
    component: Vec<u8>,
    manifest: &Manifest,
    place: &Path,
    compiler: Compiler,
) -> Result<Kit> {
    let zone = arguments.zone.as_deref().context("--zone is missing: name the zone that may be written to")?;
    let zone = format!("{}.", zone.trim_end_matches('.').to_ascii_lowercase());
    let (mut settings, secrets) = arguments.given.whole(manifest)?;
    for (slot, value) in secrets {
        put(&mut settings, &slot, value);
    }
    let file = arguments.facade.clone().unwrap_or_else(|| arguments.folder.join("facade.rhai"));
    // It is known there which requests are writes.
    let script = if file.is_file() { Some(Script::read(&file)?) } else { None };
    let subject = LiveSubject {
        component,
        zone,
        settings,
        private_origins: settings::origins(&arguments.allow_private)?,
        facade: script.map(|script| -> wharf_conformance::FacadeMaker { Box::new(move || script.facade()) }),
        compiler,
    };
    Ok(Kit::open_live(subject, place).await?)
}

/// A secret back into the settings: its name has dots where objects hold each other.
fn put(settings: &mut Json, slot: &str, value: String) {
    let (at, name) = slot
        .rsplit_once('.')
        .map_or((String::new(), slot), |(front, name)| (format!("/{}", front.replace('.', "/")), name));
    if let Some(object) = settings.pointer_mut(&at).and_then(Json::as_object_mut) {
        object.insert(name.to_owned(), value.into());
    }
}

/// Says what will be written, plays the cases, and cleans up.
pub async fn play(kit: &Kit, cases: &[&Case], arguments: &Arguments, told: &mut Told<'_>) -> Result<()> {
    let label = kit.label().unwrap_or_default().trim_end_matches('.').to_owned();
    let before = kit.others().await?;
    let zone = arguments.zone.as_deref().unwrap_or_default();
    if before.len() > arguments.records && !arguments.yes {
        bail!(
            "{zone} holds {} records that are not the kit's, as {}: it does not look like a zone to be thrown away. Nothing was \
             written. If it is one, say --yes",
            before.len(),
            named(before.iter().take(2))
        );
    }
    let played = cases.iter().filter(|c| c.is_live()).count();
    eprintln!(
        "This writes into the live zone {zone}: records of the types {}, at {label} and below it, a handful at a time. No other \
         name is written to, and everything there is deleted at the end. The zone holds {} other records. Of {} cases {played} \
         can be played; the others need faults or zones of the kit's own.",
        kit.types().join(", "),
        before.len(),
        cases.len(),
    );
    let went = tokio::select! {
        went = each(kit, cases, told) => went,
        _ = tokio::signal::ctrl_c() => Err(anyhow::anyhow!("it was interrupted")),
    };
    let left = kit.sweep().await.context("what the kit wrote can't be found, so it may stand there")?;
    if !left.is_empty() {
        bail!("these could not be deleted, so delete them by hand: {}", left.join(", "));
    }
    eprintln!("Everything at and below {label} is deleted.");
    went?;
    let after = kit.others().await?;
    let differs: BTreeSet<&(String, String, String)> = before.symmetric_difference(&after).collect();
    if !differs.is_empty() {
        bail!("records that are not the kit's are other than before: {}", named(differs.into_iter()));
    }
    Ok(())
}

async fn each(kit: &Kit, cases: &[&Case], told: &mut Told<'_>) -> Result<()> {
    for case in cases {
        if case.is_live() {
            let left = kit.sweep().await?;
            if !left.is_empty() {
                bail!("before case {} these could not be deleted: {}", case.number, left.join(", "));
            }
        }
        told.case(kit.run(case).await);
    }
    Ok(())
}

fn named<'a>(records: impl Iterator<Item = &'a (String, String, String)>) -> String {
    let mut all: Vec<String> = records.map(|(name, rtype, data)| format!("{name} {rtype} {data}")).collect();
    let more = all.len().saturating_sub(NAMED);
    all.truncate(NAMED);
    if more > 0 {
        all.push(format!("and {more} more"));
    }
    all.join(", ")
}
