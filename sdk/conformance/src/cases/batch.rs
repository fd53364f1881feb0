//! 29 to 37: batches.

use std::{collections::BTreeSet, time::Duration};

use wharf_plugins::dns::{Change, Outcome, ProblemAction};
use wharf_testkit::{
    faults::{Fault, Mishap, Target},
    model::Zone,
};

use crate::{
    case::{Stop, expect, fail},
    scene::{Open, Scene, add, outcome, remove},
    stage::Kit,
    words,
};

/// Changes of one `apply` where the provider names no limit.
const CHUNK: usize = 500;

/// Requests that each of thousands of changes may cost: one to look, one to write, one to ask what became of it, and one for what
/// lists of many pages cost besides. Who needs more reads the zone anew for each change, and is never done with a large one.
const REQUESTS_A_CHANGE: usize = 4;

fn number(n: usize) -> u32 {
    u32::try_from(n).unwrap_or(u32::MAX)
}

pub(super) async fn type_change(kit: &Kit) -> Result<(), Stop> {
    let (scene, ground) = (kit.scene(1).await?, kit.ground());
    let name = ground.name(0);
    scene.put(&ground.zone, vec![ground.record(0, 0, 3_600)]).await?;
    let mut open = scene.usual().await?;
    let batch = vec![ground.remove(1, 0, 0), add(2, &name, "CNAME", Some(3_600), &["target.example.net."])];
    open.applied(batch, "where an address becomes a CNAME").await?;
    scene.holds(&name, ground.rtype, &[], "after that")?;
    scene.holds(&name, "CNAME", &["target.example.net."], "after that")
}

/// A batch with a change in its middle that no server takes: a CNAME beside an address.
async fn with_a_bad_one<'s, 'k>(scene: &'s Scene<'k>) -> Result<(Open<'s, 'k>, Vec<Change>), Stop> {
    let ground = scene.kit.ground();
    scene.put(&ground.zone, vec![ground.record(9, 9, 3_600)]).await?;
    let open = scene.usual().await?;
    let bad = add(2, &ground.name(9), "CNAME", Some(3_600), &["target.example.net."]);
    Ok((open, vec![ground.add(1, 0, 0), bad, ground.add(3, 1, 1)]))
}

pub(super) async fn atomic(kit: &Kit) -> Result<(), Stop> {
    let (scene, ground) = (kit.scene(1).await?, kit.ground());
    let (mut open, batch) = with_a_bad_one(&scene).await?;
    let before = scene.zone(&ground.zone, Zone::picture)?;
    let report = open.apply(batch).await?;
    let bad = outcome(&report, 2)?;
    expect(matches!(bad, Outcome::Failed(p) if p.action == ProblemAction::FixInput), || {
        format!("a CNAME beside an address should be `failed` with `fix-input`, and it is {}", words::outcome(bad))
    })?;
    for id in [1, 3] {
        let other = outcome(&report, id)?;
        expect(matches!(other, Outcome::NotAttempted), || {
            format!("change {id} beside a refused one should be `not-attempted`, and it is {}", words::outcome(other))
        })?;
    }
    expect(scene.zone(&ground.zone, Zone::picture)? == before, || {
        "an atomic batch with a refused change should leave the zone as it is, and it was changed".into()
    })
}

pub(super) async fn each(kit: &Kit) -> Result<(), Stop> {
    let (scene, ground) = (kit.scene(1).await?, kit.ground());
    let (mut open, batch) = with_a_bad_one(&scene).await?;
    let report = open.apply(batch).await?;
    let bad = outcome(&report, 2)?;
    expect(matches!(bad, Outcome::Failed(p) if p.action == ProblemAction::FixInput), || {
        format!("a CNAME beside an address should be `failed` with `fix-input`, and it is {}", words::outcome(bad))
    })?;
    scene.holds(&ground.name(9), "CNAME", &[], "after a CNAME was refused")?;
    for (id, n) in [(1, 0), (3, 1)] {
        let other = outcome(&report, id)?;
        let there = !scene.data(&ground.zone, &ground.name(n), ground.rtype)?.is_empty();
        let said = match other {
            Outcome::Applied(_) => Some(true),
            Outcome::NotAttempted => Some(false),
            _ => None,
        };
        expect(said == Some(there), || {
            let state = if there { "written" } else { "not written" };
            format!("change {id} beside a refused one was {state}, and its outcome is {}", words::outcome(other))
        })?;
    }
    Ok(())
}

/// Each outcome that is told must be true at the peer.
fn all_true(scene: &Scene<'_>, outcomes: &[(u32, Outcome)]) -> Result<usize, Stop> {
    let ground = scene.kit.ground();
    let names: BTreeSet<String> = scene.zone(&ground.zone, |z| z.records.iter().map(|r| r.name.clone()).collect())?;
    let mut written = 0;
    for (id, outcome) in outcomes {
        let name = ground.name(usize::try_from(*id).unwrap_or_default());
        let there = names.contains(&name);
        written += usize::from(there);
        let good = match outcome {
            Outcome::Applied(_) | Outcome::Unchanged(_) => there,
            Outcome::NotAttempted => !there,
            Outcome::Failed(p) if p.action != ProblemAction::Verify => !there,
            Outcome::Failed(_) | Outcome::Accepted(_) => true,
        };
        expect(good, || {
            let state = if there { "written" } else { "not written" };
            format!("change {id} ({name}) was {state}, and its outcome is {}", words::outcome(outcome))
        })?;
    }
    Ok(written)
}

fn many(kit: &Kit, count: usize) -> Vec<Change> {
    let ground = kit.ground();
    (0..count).map(|n| ground.add(number(n), n, n)).collect()
}

pub(super) async fn one_too_many(kit: &Kit) -> Result<(), Stop> {
    let scene = kit.scene(1).await?;
    let mut open = scene.usual().await?;
    let count = usize::try_from(kit.can.max_changes).unwrap_or_default() + 1;
    let Ok(report) = open.try_apply(many(kit, count)).await?.answer else {
        let writes = words::writes(&open.log());
        return expect(writes.is_empty(), || {
            format!("a batch that is refused as too large should write nothing, and it made {}", words::asked(&writes))
        });
    };
    let written = all_true(&scene, &report.outcomes)?;
    expect(written > 0, || format!("of {count} changes at least some should be written, and none was"))
}

/// Applies all, in as many calls as it takes, as the host does; how many requests that took.
pub(super) async fn by_and_by(open: &mut Open<'_, '_>, changes: Vec<Change>) -> Result<usize, Stop> {
    let chunk = match usize::try_from(open.probed.can.max_changes) {
        Ok(most @ 1..) => most.min(CHUNK),
        _ => CHUNK,
    };
    let mut left = changes;
    let mut requests = 0;
    open.log();
    while !left.is_empty() {
        let batch: Vec<Change> = left.iter().take(chunk).cloned().collect();
        let answer = open.submit(batch).await?.answer;
        let mut report = answer.map_err(|p| Stop::Failed(format!("`apply` gave {}", words::problem(&p))))?;
        let seen = open.log().len();
        expect(usize::try_from(report.calls).is_ok_and(|c| c == seen), || {
            format!("`apply` should report its {seen} requests as `calls`, and it reported {}", report.calls)
        })?;
        open.settle(&mut report).await?;
        requests += seen + open.log().len();
        let mut done = BTreeSet::new();
        for (id, outcome) in &report.outcomes {
            match outcome {
                Outcome::Applied(_) | Outcome::Unchanged(_) => {
                    done.insert(*id);
                }
                Outcome::NotAttempted => {}
                other => {
                    return fail(format!(
                        "of {} changes, change {id} should be `applied`, and it is {}",
                        left.len(),
                        words::outcome(other)
                    ));
                }
            }
        }
        expect(!done.is_empty(), || {
            format!("each `apply` should come further, and with {} changes left one did nothing", left.len())
        })?;
        left.retain(|c| !done.contains(&c.id));
    }
    Ok(requests)
}

pub(super) async fn thousands(kit: &Kit) -> Result<(), Stop> {
    for count in [201, 3_501] {
        let (scene, ground) = (kit.scene(1).await?, kit.ground());
        let mut open = scene.usual().await?;
        let requests = by_and_by(&mut open, many(kit, count)).await?;
        expect(requests <= REQUESTS_A_CHANGE * count, || {
            format!(
                "{count} changes should cost at most {} requests, and they cost {requests}",
                REQUESTS_A_CHANGE * count
            )
        })?;
        let there = scene.zone(&ground.zone, |z| {
            (0..count).filter(|n| !z.data(&ground.name(*n), ground.rtype).is_empty()).count()
        })?;
        expect(there == count, || {
            format!("after {count} changes the peer should have {count} sets more, and it has {there}")
        })?;
    }
    Ok(())
}

pub(super) async fn deadline(kit: &Kit) -> Result<(), Stop> {
    let (scene, ground) = (kit.scene(1).await?, kit.ground());
    let mut open = scene.open_on(&kit.house.hurried, &ground.zone, false).await?;
    scene.peer.arm(Fault::always(Target::Any, Mishap::Delay(Duration::from_millis(300))));
    let answer = open.try_apply(many(kit, 40)).await?.answer;
    // What was under way when time ran out is done now, or never.
    tokio::time::sleep(Duration::from_millis(400)).await;
    match answer {
        Err(problem) => expect(words::writes(&open.log()).is_empty(), || {
            format!(
                "a batch that runs out of time after a write should be reported change by change, and it gave {}",
                words::problem(&problem)
            )
        }),
        Ok(report) => all_true(&scene, &report.outcomes).map(|_| ()),
    }
}

pub(super) async fn cancelled(kit: &Kit) -> Result<(), Stop> {
    let (scene, ground) = (kit.scene(1).await?, kit.ground());
    let before = scene.zone(&ground.zone, Zone::picture)?;
    let mut open = scene.open_on(&kit.house.runtime, &ground.zone, true).await?;
    let answer = open.try_apply(vec![ground.add(0, 0, 0), ground.add(1, 1, 1)]).await?.answer;
    let writes = words::writes(&open.log());
    expect(writes.is_empty(), || {
        format!("an `apply` that nobody waits for should write nothing, and it made {}", words::asked(&writes))
    })?;
    expect(scene.zone(&ground.zone, Zone::picture)? == before, || {
        "an `apply` that nobody waits for should change nothing".into()
    })?;
    answer.map_or(Ok(()), |report| all_true(&scene, &report.outcomes).map(|_| ()))
}

pub(super) async fn polled(kit: &Kit) -> Result<(), Stop> {
    let (scene, ground) = (kit.scene(1).await?, kit.ground());
    let mut open = scene.usual().await?;
    let answer = open.submit(vec![ground.add(1, 0, 0)]).await?.answer;
    let report = answer.map_err(|p| Stop::Failed(format!("`apply` gave {}", words::problem(&p))))?;
    let became = match outcome(&report, 1)? {
        Outcome::Accepted(operation) => open.settled(&operation.clone()).await?,
        other => other.clone(),
    };
    expect(matches!(became, Outcome::Applied(_)), || {
        format!("what was taken on should end as `applied`, and it is {}", words::outcome(&became))
    })?;
    scene.holds(&ground.name(0), ground.rtype, &[&ground.value(0)], "when `poll` said `applied`")?;
    match open.poll("no-such-operation").await? {
        Err(_) | Ok(Outcome::Failed(_)) => Ok(()),
        Ok(other) => fail(format!(
            "`poll` of an operation that never was should give a problem, and it gave {}",
            words::outcome(&other)
        )),
    }
}

pub(super) async fn same_ids(kit: &Kit) -> Result<(), Stop> {
    let (scene, ground) = (kit.scene(1).await?, kit.ground());
    let before = scene.zone(&ground.zone, Zone::picture)?;
    let mut open = scene.usual().await?;
    let batch = vec![ground.add(7, 0, 0), remove(7, &ground.name(1), ground.rtype, &[&ground.value(1)])];
    let answer = open.try_apply(batch).await?.answer;
    expect(answer.is_err(), || {
        format!("two changes of one id should be refused as a whole, and `apply` gave {}", words::answer(&answer))
    })?;
    expect(scene.zone(&ground.zone, Zone::picture)? == before, || {
        "two changes of one id should write nothing, and something was written".into()
    })
}
