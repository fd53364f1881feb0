//! 1 to 6: what a provider is before anything goes wrong.

use serde_json::Value as Json;
use wharf_plugins::{
    dns::{ProblemAction, Selector, Verdict},
    settings,
};

use crate::{
    case::{Stop, expect, fail},
    scene::{Scene, add, outcome, set},
    stage::Kit,
    words,
};

pub(super) async fn pure(kit: &Kit) -> Result<(), Stop> {
    let (scene, ground) = (kit.scene(0).await?, kit.ground());
    let mut open = scene.usual().await?;
    let name = ground.name(0);
    let bare = name.trim_end_matches('.').to_ascii_uppercase();
    let sets = vec![
        set(&name, ground.rtype, Some(3_600), &[&ground.value(0)]),
        set(&bare, ground.rtype, None, &[&ground.value(0), &ground.value(1)]),
        set(&name, ground.rtype, Some(u32::MAX), &["nonsense nonsense"]),
        set("elsewhere.invalid.", ground.rtype, Some(1), &[&ground.value(0)]),
        set(&name, "TYPE65280", None, &["\\# 0"]),
    ];
    let first = open.normalize(sets.clone()).await?;
    let second = open.normalize(sets).await?;
    let log = open.log();
    expect(log.is_empty(), || format!("`normalize` should make no request, and it made {}", words::asked(&log)))?;
    expect(first == second, || "`normalize` should say the same of the same sets, and it said two things".into())?;
    match first.first() {
        Some(Verdict::Refused(p)) => {
            fail(format!("an ordinary set should be `ok` in `normalize`, and is refused with {}", words::problem(p)))
        }
        _ => Ok(()),
    }
}

/// The property of a slot: its name, with the names of the objects around it before it and dots between.
fn property<'a>(schema: &'a Json, slot: &str) -> Option<&'a Json> {
    slot.split('.').try_fold(schema, |at, name| at.get("properties")?.get(name))
}

pub(super) async fn schema(kit: &Kit) -> Result<(), Stop> {
    let manifest = kit.manifest();
    let (schema, problems) = (&manifest.settings, &kit.house.inspection.problems);
    expect(problems.is_empty(), || format!("the manifest has problems: {}", problems.join("; ")))?;
    let secret = settings::secret_slots(schema);
    for slot in &secret {
        let given = property(schema, slot).is_some_and(|p| p.get("default").is_some());
        expect(!given, || {
            format!("the secret `{slot}` should have no `default` in the settings' schema, and has one")
        })?;
        let placed = manifest.slot(slot).is_some_and(|s| !s.positions.is_empty());
        expect(placed, || {
            format!(
                "the secret setting `{slot}` should have a position in the manifest's `secrets`, and has none: it could never be sent"
            )
        })?;
    }
    for slot in &manifest.secrets {
        expect(secret.contains(&slot.slot), || {
            format!("the manifest places the secret `{}`, and no setting of that name has `x-secret`", slot.slot)
        })?;
    }
    expect(!manifest.requests.is_empty(), || {
        "the manifest should name the requests that are made, and names none".into()
    })?;
    let given = (kit.house.facade)().settings("http://127.0.0.1:1");
    let errors = settings::check(schema, &given);
    expect(errors.is_empty(), || {
        let all: Vec<String> = errors.iter().map(ToString::to_string).collect();
        format!("the façade's settings should be valid by the schema: {}", all.join("; "))
    })
}

pub(super) async fn contacts(kit: &Kit) -> Result<(), Stop> {
    let ground = kit.ground();
    let sibling = ground.other(1);
    let scene = Scene::new(kit, &[(&ground.zone, 3), (&sibling, 3)]).await?;
    let (before, id) = scene.zone(&sibling, |z| (z.clone(), z.id.clone()))?;
    // Its own session: what `probe` asks is looked at, too.
    let mut session = scene.session(&ground.zone).await?;
    let _ = session.probe(&ground.zone).await?;
    let mut log = session.log();
    let mut open = scene.usual().await?;
    open.read(Selector::All).await?;
    open.applied(vec![ground.add(1, 0, 0)], "where a value is added to an empty name").await?;
    log.extend(open.log());
    let bare = sibling.trim_end_matches('.');
    for asked in &log {
        let r = &asked.request;
        let text = format!("{} {:?} {}", r.segments().join("/"), r.query, String::from_utf8_lossy(&r.body));
        let hit = text.contains(bare) || r.segments().contains(&id);
        expect(!hit, || {
            format!(
                "only the zone {} should be touched, and {} is about {sibling}",
                ground.zone,
                words::asked(std::slice::from_ref(asked))
            )
        })?;
    }
    let after = scene.zone(&sibling, Clone::clone)?;
    expect(before == after, || format!("the zone {sibling} should be as it was, and it was changed"))?;
    let names = kit.house.spy.names();
    expect(names.is_empty(), || {
        format!("a provider does no DNS of its own, and these names were looked up: {names:?}")
    })?;
    let strange: Vec<String> = kit
        .house
        .spy
        .origins()
        .into_iter()
        .filter(|o| !o.starts_with("http://127.0.0.1:") && !o.starts_with("https://127.0.0.1:"))
        .collect();
    expect(strange.is_empty(), || {
        format!("only the address of the settings should be contacted, and {} was", strange.join(", "))
    })
}

pub(super) async fn labels(kit: &Kit) -> Result<(), Stop> {
    let ground = kit.ground();
    let longer = format!("not{}", ground.zone);
    // The longer one first: a comparison of suffixes finds it.
    let scene = Scene::new(kit, &[(&longer, 2), (&ground.zone, 2)]).await?;
    let mut open = scene.usual().await?;
    expect(open.zone.name == ground.zone, || {
        format!("`probe` of {} should find that zone, and it found {}", ground.zone, open.zone.name)
    })?;
    let wanted = scene.zone(&ground.zone, |z| z.id.clone())?;
    expect(open.zone.id == wanted, || {
        format!("`probe` of {} should give its id {wanted}, and it gave {}", ground.zone, open.zone.id)
    })?;
    let alone = Scene::new(kit, &[(&longer, 2)]).await?;
    let mut session = alone.session(&ground.zone).await?;
    if let Ok(found) = session.probe(&ground.zone).await? {
        return fail(format!(
            "`probe` of {} should find nothing where only {longer} is, and it found {}",
            ground.zone, found.info.zone.name
        ));
    }
    let before = scene.zone(&ground.zone, |z| z.clone())?;
    let outside = format!("vm.{longer}");
    let change = add(1, &outside, ground.rtype, Some(3_600), &[&ground.value(0)]);
    let answer = open.try_apply(vec![change]).await?.answer;
    let written = answer.as_ref().is_ok_and(|r| !matches!(outcome(r, 1), Ok(wharf_plugins::dns::Outcome::Failed(_))));
    expect(!written, || {
        format!("a change of {outside} in the zone {} should fail, and it gave {}", ground.zone, words::answer(&answer))
    })?;
    expect(scene.zone(&ground.zone, |z| z.clone())? == before, || {
        format!("a change of {outside} should write nothing into {}", ground.zone)
    })?;
    let (inside, beside) = (format!("a.vm-1.{}", ground.zone), format!("a.notvm-1.{}", ground.zone));
    let record = |name: &str| wharf_testkit::model::Record::new(name, ground.rtype, &ground.value(5), 3_600);
    scene.put(&ground.zone, vec![record(&inside), record(&beside)]).await?;
    let below = open.read(Selector::Below(ground.name(1))).await?;
    let names: Vec<&str> = below.rrsets.iter().map(|s| s.name.as_str()).collect();
    expect(names.contains(&inside.as_str()), || {
        format!("`read` below {} should give {inside}, and it gave {names:?}", ground.name(1))
    })?;
    expect(!names.contains(&beside.as_str()), || {
        format!("`read` below {} should leave {beside} out, and it gave it", ground.name(1))
    })
}

pub(super) async fn unknown_zone(kit: &Kit) -> Result<(), Stop> {
    let (scene, ground) = (kit.scene(1).await?, kit.ground());
    let missing = ground.other(2);
    let mut session = scene.session(&missing).await?;
    let missed = |what: &str, found: Option<wharf_plugins::dns::Problem>| match found {
        Some(p) if p.action == ProblemAction::FixConfig && p.code == "zone-not-found" => Ok(()),
        Some(p) => {
            fail(format!("{what} should give `fix-config` `zone-not-found`, and it gave {}", words::problem(&p)))
        }
        None => fail(format!("{what} should give `fix-config` `zone-not-found`, and it gave no problem")),
    };
    missed("`probe` of a zone that is not there", session.probe(&missing).await?.err())?;
    // A live zone stays where it is.
    if kit.live.is_some() {
        return Ok(());
    }
    // Taken away after it was found.
    let mut open = scene.usual().await?;
    scene.peer.model().zones.clear();
    missed("`read` of a zone that was taken away", open.try_read(Selector::All).await?.answer.err())
}

pub(super) async fn strings(kit: &Kit) -> Result<(), Stop> {
    let (scene, ground) = (kit.scene(0).await?, kit.ground());
    let mut open = scene.usual().await?;
    let texts = [
        r#""a \"quoted\" word""#,
        r#""a back\\slash""#,
        r#""one; two; three""#,
        r#""b\195\188cher""#,
        r#""two" "strings""#,
    ];
    for (n, text) in texts.iter().enumerate() {
        let (id, name) = (u32::try_from(n).unwrap_or_default(), ground.name(n));
        // What can't be kept is refused before it is sent, and never kept otherwise.
        if matches!(open.verdict(set(&name, "TXT", Some(3_600), &[text])).await?, Verdict::Refused(_)) {
            let answer = open.try_apply(vec![add(id, &name, "TXT", Some(3_600), &[text])]).await?.answer;
            expect(crate::scene::problem_of(&answer).is_some(), || {
                format!("`normalize` refuses the text {text}, and `apply` gave {}", words::answer(&answer))
            })?;
            scene.holds(&name, "TXT", &[], "after that")?;
            continue;
        }
        open.applied(vec![add(id, &name, "TXT", Some(3_600), &[text])], &format!("where the text {text} is added"))
            .await?;
        scene.holds(&name, "TXT", &[text], "after that")?;
        let read = open.read_one(&name, "TXT").await?;
        let data: Vec<&str> = read.iter().flat_map(|s| &s.values).map(|v| v.data.as_str()).collect();
        expect(data == [*text], || {
            format!("the text {text} should be read back as it is, and it came as {}", data.join(", "))
        })?;
    }
    Ok(())
}
