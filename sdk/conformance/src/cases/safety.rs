//! 47 to 54: safety and limits.

use std::time::Duration;

use wharf_plugins::dns::{Check, Outcome, ProblemAction, Selector};
use wharf_testkit::{
    facade::{Refusal, Response},
    faults::{Fault, Mangle, Mishap, Target},
    model::Zone,
    peer::Peer,
};

use super::batch::by_and_by;
use crate::{
    case::{Stop, expect, fail},
    scene::{Scene, outcome, problem_of},
    stage::{Kit, NOWHERE},
    words,
};

pub(super) async fn secrets(kit: &Kit) -> Result<(), Stop> {
    let (scene, ground) = (kit.scene(2).await?, kit.ground());
    let mut misplaced = Vec::new();
    // Good answers first, then with the request behind each answer: what came out is searched for secrets at the case's end.
    for echo in [false, true] {
        let mut open = scene.usual().await?;
        if echo {
            scene.peer.arm(Fault::always(Target::Any, Mishap::Echo));
        }
        let mut problems = Vec::new();
        problems.extend(open.probe(&ground.zone).await?.err());
        problems.extend(open.zones().await?.err());
        problems.extend(open.try_read(Selector::All).await?.answer.err());
        problems.extend(problem_of(&open.try_apply(vec![ground.add(1, 0, 0)]).await?.answer));
        let checks = open.test(Some(&ground.zone), true).await?;
        misplaced.extend(problems.into_iter().map(|p| format!("{} {}", p.code, p.message)));
        misplaced.extend(checks.into_iter().map(|c| c.detail));
    }
    let signs = ["secret-position", "unknown-slot", "the manifest does not allow the secret"];
    match misplaced.into_iter().find(|text| signs.iter().any(|s| text.contains(s))) {
        Some(text) => fail(format!(
            "a secret should go nowhere but to its declared positions, and the host had to stop it: {text}"
        )),
        None => Ok(()),
    }
}

pub(super) async fn no_list(kit: &Kit) -> Result<(), Stop> {
    let ground = kit.ground();
    let json = |text: &str| Mishap::Answered(Response::text(200, "application/json", text));
    for (how, mishap) in [
        ("an empty answer", Mishap::Mangled(Mangle::Empty)),
        ("half an answer", Mishap::Mangled(Mangle::Cut(40))),
        ("a page of HTML", Mishap::Mangled(Mangle::Html)),
        ("an empty list", json("[]")),
        ("an empty object", json("{}")),
        ("`null`", json("null")),
    ] {
        let scene = kit.scene(3).await?;
        scene.put(&ground.zone, vec![ground.record(0, 0, 3_600)]).await?;
        let before = scene.zone(&ground.zone, Zone::picture)?;
        let mut open = scene.usual().await?;
        scene.peer.arm(Fault::always(Target::Reads, mishap));
        for what in [Selector::All, Selector::Keys(vec![(ground.name(0), ground.rtype.into())])] {
            if let Ok(snapshot) = open.try_read(what).await?.answer {
                expect(!snapshot.complete, || {
                    format!(
                        "`read` that gets {how} should give a problem or not say `complete`, and it gave {} sets as the whole",
                        snapshot.rrsets.len()
                    )
                })?;
            }
        }
        let report = open.try_apply(vec![ground.remove(1, 0, 0)]).await?.answer;
        let denied =
            report.as_ref().is_ok_and(|r| matches!(outcome(r, 1), Ok(Outcome::Unchanged(_) | Outcome::Applied(_))));
        expect(!denied, || {
            format!(
                "removing a value where the look at it gets {how} should be a problem, and it gave {}",
                words::answer(&report)
            )
        })?;
        expect(scene.zone(&ground.zone, Zone::picture)? == before, || {
            format!("where a look gets {how} nothing should be changed, and something was")
        })?;
    }
    Ok(())
}

pub(super) async fn read_only(kit: &Kit) -> Result<(), Stop> {
    let (scene, ground) = (kit.scene(2).await?, kit.ground());
    if let Some(zone) = scene.peer.model().zone_mut(&ground.zone) {
        zone.writable = false;
    }
    let open = scene.usual().await?;
    expect(!open.probed.info.writable, || {
        "`probe` of a zone that takes no writes should say `writable` false, and it says true".into()
    })
}

pub(super) async fn quota(kit: &Kit) -> Result<(), Stop> {
    let (scene, ground) = (kit.scene(2).await?, kit.ground());
    if let Some(zone) = scene.peer.model().zone_mut(&ground.zone) {
        zone.records_max = Some(zone.records.len());
    }
    let mut open = scene.usual().await?;
    let answer = open.try_apply(vec![ground.add(1, 0, 0)]).await?.answer;
    expect(problem_of(&answer).is_some_and(|p| p.action == ProblemAction::FixConfig), || {
        format!("a record too many should be `fix-config`, and `apply` gave {}", words::answer(&answer))
    })?;
    scene.holds(&ground.name(0), ground.rtype, &[], "after the quota was full")
}

pub(super) async fn two_at_once(kit: &Kit) -> Result<(), Stop> {
    let (scene, ground) = (kit.scene(2).await?, kit.ground());
    let before = scene.zone(&ground.zone, Zone::picture)?.len();
    let (mut one, mut two) = (scene.usual().await?, scene.usual().await?);
    scene.peer.arm(Fault::always(Target::Any, Mishap::Delay(Duration::from_millis(20))));
    let (first, second) =
        tokio::join!(one.try_apply(vec![ground.add(1, 0, 0)]), two.try_apply(vec![ground.add(1, 1, 1)]));
    let mut there = 0;
    for (n, answer) in [(0, first?.answer), (1, second?.answer)] {
        let stands = !scene.data(&ground.zone, &ground.name(n), ground.rtype)?.is_empty();
        there += usize::from(stands);
        let passing = problem_of(&answer).is_some_and(|p| {
            matches!(
                p.action,
                ProblemAction::Retry | ProblemAction::Wait | ProblemAction::Replan | ProblemAction::Verify
            )
        });
        expect(stands || passing, || {
            format!(
                "of two calls at once each should arrive or be tried again, and {} was lost: {}",
                ground.name(n),
                words::answer(&answer)
            )
        })?;
    }
    let after = scene.zone(&ground.zone, Zone::picture)?.len();
    expect(after == before + there, || "two calls at once lost a record of others".into())
}

fn wrong(checks: &[Check]) -> Vec<&str> {
    checks.iter().filter(|c| !c.ok).map(|c| c.step.as_str()).collect()
}

pub(super) async fn connection(kit: &Kit) -> Result<(), Stop> {
    let ground = kit.ground();
    let broken = |e: std::io::Error| Stop::Failed(format!("the kit itself failed: {e}"));
    // A port that nobody listens at.
    let closed = tokio::net::TcpListener::bind(("127.0.0.1", 0)).await.and_then(|l| l.local_addr()).map_err(broken)?;
    let fresh = || async { Peer::start((kit.house.facade)()).await.map_err(broken) };
    let plain = fresh().await?;
    let tls = plain.url.replacen("http://", "https://", 1);
    for (what, address, steps) in [
        ("a name that does not exist", format!("http://{NOWHERE}:8081"), &["dns"][..]),
        ("a port that nobody listens at", format!("http://{closed}"), &["reach", "tcp"]),
        ("a server without TLS", tls, &["tls"]),
    ] {
        let scene = Scene::at(kit, fresh().await?, &address).await?;
        let checks = scene.session(&ground.zone).await?.test(Some(&ground.zone), false).await?;
        expect(wrong(&checks).first().is_some_and(|step| steps.contains(step)), || {
            format!(
                "`test-connection` to {what} should fail at the step {}, and it failed at {:?}",
                steps.join(" or "),
                wrong(&checks)
            )
        })?;
    }
    let scene = kit.scene(2).await?;
    let before = scene.zone(&ground.zone, Zone::picture)?;
    let mut open = scene.usual().await?;
    scene.peer.arm(Fault::always(Target::Any, Mishap::Refused(Refusal::Credentials)));
    let checks = open.test(Some(&ground.zone), false).await?;
    expect(wrong(&checks) == ["auth"], || {
        format!(
            "`test-connection` with wrong credentials should fail at the step auth, and it failed at {:?}",
            wrong(&checks)
        )
    })?;
    scene.peer.clear_faults();
    let missing = ground.other(7);
    let checks = scene.session(&missing).await?.test(Some(&missing), false).await?;
    expect(wrong(&checks).contains(&"zone"), || {
        format!(
            "`test-connection` of a zone that is not there should fail at the step zone, and it failed at {:?}",
            wrong(&checks)
        )
    })?;
    open.log();
    let checks = open.test(Some(&ground.zone), false).await?;
    let writes = words::writes(&open.log());
    expect(writes.is_empty(), || {
        format!("`test-connection` without a trial write should write nothing, and it made {}", words::asked(&writes))
    })?;
    expect(wrong(&checks).is_empty(), || {
        format!("`test-connection` of what is right should be ok, and it failed at {:?}", wrong(&checks))
    })?;
    let checks = open.test(Some(&ground.zone), true).await?;
    expect(wrong(&checks).is_empty(), || {
        format!("`test-connection` with a trial write should be ok, and it failed at {:?}", wrong(&checks))
    })?;
    expect(checks.iter().any(|c| c.step == "write"), || {
        "`test-connection` with a trial write should have a line `write`".into()
    })?;
    let left = scene.zone(&ground.zone, Zone::picture)?;
    expect(left == before, || {
        "the trial record of `test-connection` should be gone afterwards, and the zone is not as it was".into()
    })
}

pub(super) async fn thousand(kit: &Kit) -> Result<(), Stop> {
    let (scene, ground) = (kit.scene(1).await?, kit.ground());
    let mut open = scene.usual().await?;
    let changes = (0..1_000).map(|n| ground.add(u32::try_from(n).unwrap_or_default(), n, n)).collect();
    by_and_by(&mut open, changes).await?;
    let there = scene
        .zone(&ground.zone, |z| (0..1_000).filter(|n| !z.data(&ground.name(*n), ground.rtype).is_empty()).count())?;
    expect(there == 1_000, || format!("after 1,000 changes the peer should have 1,000 sets more, and it has {there}"))
}

pub(super) async fn loads(kit: &Kit) -> Result<(), Stop> {
    let found = &kit.house.inspection;
    expect(found.problems.is_empty(), || {
        format!("the component should run on this host: {}", found.problems.join("; "))
    })?;
    let manifest = kit.manifest();
    for name in &found.imports {
        let text = name.to_string();
        let (interface, version) = text.split_once('@').unwrap_or((&text, ""));
        // What languages need of WASI is linked to nothing, and is nobody's wish.
        if !interface.starts_with("wharf:") {
            continue;
        }
        let wanted = manifest.wants.get(interface).map(ToString::to_string);
        expect(wanted.as_deref() == Some(version), || {
            format!(
                "the component imports {text}, and the manifest should want it in that version; it wants {}",
                wanted.as_deref().unwrap_or("nothing of it")
            )
        })?;
    }
    for interface in manifest.wants.keys() {
        let imported = found.imports.iter().any(|n| n.to_string().split('@').next() == Some(interface));
        expect(imported, || {
            format!(
                "the manifest wants {interface}, which the component does not import: an admin would allow it for nothing"
            )
        })?;
    }
    Ok(())
}
