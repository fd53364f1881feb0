//! 20 to 28: what goes wrong between a provider and its API.

use std::time::Duration;

use wharf_plugins::dns::{Outcome, Problem, ProblemAction, Report, Selector, Snapshot};
use wharf_plugins::report::CallReport;
use wharf_testkit::{
    facade::{Refusal, Response, Wait},
    faults::{Fault, Mangle, Meanwhile, Mishap, Target},
    model::{Record, Zone},
    peer::Peer,
};

use crate::{
    case::{Stop, expect, fail},
    scene::{outcome, problem_of},
    stage::Kit,
    words,
};

/// Longest that a call may take that was refused at once.
const PROMPT: Duration = Duration::from_secs(2);

fn of_read(answer: &CallReport<Result<Snapshot, Problem>>) -> Option<Problem> {
    answer.answer.as_ref().err().cloned()
}

fn seen(problem: Option<&Problem>) -> String {
    problem.map_or_else(|| "no problem".to_owned(), words::problem)
}

pub(super) async fn rate_limits(kit: &Kit) -> Result<(), Stop> {
    let ground = kit.ground();
    let ways = [
        ("in seconds", Wait::Seconds(7), Some(7_000)),
        ("as a date", Wait::Date(Duration::from_secs(90)), Some(90_000)),
        ("in the provider's own header", Wait::Own(5), Some(5_000)),
        ("not at all", Wait::Unsaid, None),
    ];
    for (how, wait, pause) in ways {
        for write in [false, true] {
            let scene = kit.scene(2).await?;
            let mut open = scene.usual().await?;
            let target = if write { Target::Writes } else { Target::Reads };
            scene.peer.arm(Fault::always(target.clone(), Mishap::Refused(Refusal::RateLimited(wait))));
            let (what, problem) = if write {
                ("`apply`", problem_of(&open.try_apply(vec![ground.add(1, 0, 0)]).await?.answer))
            } else {
                ("`read`", of_read(&open.try_read(Selector::All).await?))
            };
            let struck: Vec<_> = open.log().into_iter().filter(|a| target.is_hit(&a.request)).collect();
            let Some(problem) = problem.as_ref().filter(|p| p.action == ProblemAction::Wait) else {
                return fail(format!(
                    "{what} under a rate limit should give `wait`, and it gave {}",
                    seen(problem.as_ref())
                ));
            };
            expect(struck.len() == 1, || {
                format!(
                    "{what} under a rate limit should stop at the first refusal, and {} requests were made",
                    struck.len()
                )
            })?;
            let said = problem.retry_after_ms;
            let good = match pause {
                // A date has no fractions of a second, and the call took some time.
                Some(ms) => said.is_some_and(|s| s + 3_000 >= ms && s <= ms + 3_000),
                None => said.is_none_or(|s| (1_000..=3_600_000).contains(&s)),
            };
            expect(good, || {
                format!("where the pause is told {how}, `retry-after-ms` should be {pause:?}, and {what} gave {said:?}")
            })?;
        }
    }
    Ok(())
}

pub(super) async fn no_sleep(kit: &Kit) -> Result<(), Stop> {
    let ground = kit.ground();
    for (how, refusal) in [
        ("a rate limit of 30 s", Refusal::RateLimited(Wait::Seconds(30))),
        ("a fault of the provider", Refusal::Broken),
        ("wrong credentials", Refusal::Credentials),
    ] {
        let scene = kit.scene(2).await?;
        let mut open = scene.usual().await?;
        scene.peer.arm(Fault::always(Target::Writes, Mishap::Refused(refusal)));
        let apply = open.try_apply(vec![ground.add(1, 0, 0)]).await?.took;
        scene.peer.arm(Fault::always(Target::Any, Mishap::Refused(refusal)));
        let read = open.try_read(Selector::All).await?.took;
        for (what, took) in [("apply", apply), ("read", read)] {
            expect(took < PROMPT, || {
                format!(
                    "`{what}` under {how} should come back within {} s, and it took {} ms",
                    PROMPT.as_secs(),
                    took.as_millis()
                )
            })?;
        }
    }
    Ok(())
}

pub(super) async fn credentials(kit: &Kit) -> Result<(), Stop> {
    let ground = kit.ground();
    for (how, refusal) in
        [("credentials that are wrong", Refusal::Credentials), ("credentials that may not do this", Refusal::Forbidden)]
    {
        let scene = kit.scene(2).await?;
        let mut open = scene.usual().await?;
        scene.peer.arm(Fault::always(Target::Any, Mishap::Refused(refusal)));
        for what in ["probe", "list-zones", "read", "apply"] {
            let problem = match what {
                "probe" => open.probe(&ground.zone).await?.err(),
                // Who knows no zones asks for none.
                "list-zones" if kit.can.reverse_only => continue,
                "list-zones" => open.zones().await?.err(),
                "read" => of_read(&open.try_read(Selector::All).await?),
                _ => problem_of(&open.try_apply(vec![ground.add(1, 0, 0)]).await?.answer),
            };
            let log = open.log();
            expect(problem.as_ref().is_some_and(|p| p.action == ProblemAction::FixConfig), || {
                format!("`{what}` with {how} should give `fix-config`, and it gave {}", seen(problem.as_ref()))
            })?;
            expect(log.len() == 1, || {
                format!(
                    "`{what}` with {how} should make one request, and it made {}: {}",
                    log.len(),
                    words::asked(&log)
                )
            })?;
        }
        open.test(Some(&ground.zone), false).await?;
        let log = open.log();
        expect(log.len() == 1, || {
            format!("`test-connection` with {how} should make one request, and it made {}", words::asked(&log))
        })?;
    }
    Ok(())
}

/// What an answer may be made of, and whether the request was done all the same.
fn breakages() -> Vec<(&'static str, Mishap, bool)> {
    let html = "<html><head><title>502 Bad Gateway</title></head><body>nginx</body></html>";
    vec![
        ("502 with a page of HTML", Mishap::Answered(Response::text(502, "text/html", html)), false),
        (
            "500 with a word of text",
            Mishap::Answered(Response::text(500, "text/plain", "Internal Server Error")),
            false,
        ),
        ("an empty answer", Mishap::Mangled(Mangle::Empty), true),
        ("an answer cut after 9 bytes", Mishap::Mangled(Mangle::Cut(9)), true),
        ("a page of HTML as answer", Mishap::Mangled(Mangle::Html), true),
        ("an answer of 10 MB", Mishap::Mangled(Mangle::Blow(10 << 20)), true),
    ]
}

pub(super) async fn garbage(kit: &Kit) -> Result<(), Stop> {
    use ProblemAction as A;
    let ground = kit.ground();
    for (how, mishap, done) in breakages() {
        let scene = kit.scene(2).await?;
        let mut open = scene.usual().await?;
        scene.peer.arm(Fault::always(Target::Reads, mishap.clone()));
        let read = of_read(&open.try_read(Selector::All).await?);
        // Nothing is known of what a broken answer hides; a server that fails may be well again by itself.
        let right = if done { [A::ReportBug, A::Retry] } else { [A::Retry, A::Wait] };
        expect(read.as_ref().is_some_and(|p| right.contains(&p.action)), || {
            let right = right.map(|a| format!("`{}`", words::action(a))).join(" or ");
            format!("`read` with {how} should give {right}, and it gave {}", seen(read.as_ref()))
        })?;
        scene.peer.clear_faults();
        scene.peer.arm(Fault::once(Target::Writes, mishap));
        let answer = open.try_apply(vec![ground.add(1, 0, 0)]).await?.answer;
        let there = !scene.data(&ground.zone, &ground.name(0), ground.rtype)?.is_empty();
        truly(&format!("with {how}"), &answer, there)?;
    }
    Ok(())
}

/// What is said of one change that adds a value must not deny what happened.
fn truly(how: &str, answer: &Result<Report, Problem>, there: bool) -> Result<(), Stop> {
    let said = match answer {
        Err(problem) => Err(problem.action),
        Ok(report) => match outcome(report, 1)? {
            Outcome::Applied(_) | Outcome::Unchanged(_) => Ok(true),
            Outcome::NotAttempted => Ok(false),
            // Not settled yet: whoever asks again learns it.
            Outcome::Accepted(_) => Err(ProblemAction::Verify),
            Outcome::Failed(problem) => Err(problem.action),
        },
    };
    let state = if there { "written" } else { "not written" };
    match said {
        Ok(claims) if claims == there => Ok(()),
        Err(ProblemAction::Verify | ProblemAction::ReportBug) => Ok(()),
        Err(ProblemAction::Retry | ProblemAction::Wait | ProblemAction::FixConfig) if !there => Ok(()),
        _ => fail(format!(
            "`apply` {how} should tell the truth (it was {state}) or `verify`, and it gave {}",
            words::answer(answer)
        )),
    }
}

pub(super) async fn lost_before(kit: &Kit) -> Result<(), Stop> {
    let (scene, ground) = (kit.scene(2).await?, kit.ground());
    let mut open = scene.usual().await?;
    scene.peer.arm(Fault::once(Target::Writes, Mishap::LostBefore));
    let answer = open.try_apply(vec![ground.add(1, 0, 0)]).await?.answer;
    let writes = words::writes(&open.log());
    expect(problem_of(&answer).is_some_and(|p| p.action == ProblemAction::Verify), || {
        format!("a write whose connection was lost should be `verify`, and `apply` gave {}", words::answer(&answer))
    })?;
    expect(writes.len() == 1, || {
        format!("a write without an answer should not be repeated by the plugin, and it made {}", words::asked(&writes))
    })?;
    open.applied(vec![ground.add(1, 0, 0)], "where a write was lost and is repeated").await?;
    scene.holds(&ground.name(0), ground.rtype, &[&ground.value(0)], "after that")
}

pub(super) async fn lost_after(kit: &Kit) -> Result<(), Stop> {
    let (scene, ground) = (kit.scene(2).await?, kit.ground());
    let mut open = scene.usual().await?;
    scene.peer.arm(Fault::once(Target::Writes, Mishap::LostAfter));
    let answer = open.try_apply(vec![ground.add(1, 0, 0)]).await?.answer;
    expect(problem_of(&answer).is_some_and(|p| p.action == ProblemAction::Verify), || {
        format!(
            "a write that was done and got no answer should be `verify`, and `apply` gave {}",
            words::answer(&answer)
        )
    })?;
    let again = open.apply(vec![ground.add(1, 0, 0)]).await?;
    let became = outcome(&again, 1)?;
    expect(matches!(became, Outcome::Unchanged(_) | Outcome::Applied(_)), || {
        format!("the same batch after a lost answer should be `unchanged`, and it is {}", words::outcome(became))
    })?;
    scene.holds(&ground.name(0), ground.rtype, &[&ground.value(0)], "after a lost answer and the same batch again")
}

/// The id of a record, by its data.
fn id_of(zone: &Zone, data: &str) -> Option<String> {
    zone.records.iter().find(|r| r.data == data).map(|r| r.id.clone())
}

pub(super) async fn vanished(kit: &Kit) -> Result<(), Stop> {
    let (scene, ground) = (kit.scene(2).await?, kit.ground());
    scene.put(&ground.zone, vec![ground.record(0, 0, 3_600), ground.record(1, 6, 3_600)]).await?;
    let mut open = scene.usual().await?;
    let (zone, data) = (ground.zone.clone(), ground.value(0));
    let gone = Meanwhile::new(move |model| {
        if let Some(zone) = model.zone_mut(&zone) {
            zone.records.retain(|r| r.data != data);
        }
    });
    scene.peer.arm(Fault::once(Target::Writes, Mishap::Meanwhile(gone)));
    let report = open.apply(vec![ground.remove(1, 0, 0)]).await?;
    let became = outcome(&report, 1)?;
    expect(matches!(became, Outcome::Applied(_) | Outcome::Unchanged(_)), || {
        format!(
            "a record that is gone before it is deleted should count as gone, and it is {} ({})",
            words::outcome(became),
            words::asked(&open.log())
        )
    })?;
    scene.holds(&ground.name(1), ground.rtype, &[&ground.value(6)], "after that")
}

pub(super) async fn reused(kit: &Kit) -> Result<(), Stop> {
    let (scene, ground) = (kit.scene(2).await?, kit.ground());
    scene.put(&ground.zone, vec![ground.record(0, 0, 3_600)]).await?;
    let mut open = scene.usual().await?;
    open.read(Selector::All).await?;
    let id = scene.zone(&ground.zone, |z| id_of(z, &ground.value(0)))?.unwrap_or_default();
    if let Some(zone) = scene.peer.model().zone_mut(&ground.zone) {
        zone.records.retain(|r| r.id != id);
        zone.records.push(Record { id, ..ground.record(1, 6, 3_600) });
    }
    let _ = open.try_apply(vec![ground.remove(1, 0, 0)]).await?;
    scene.holds(&ground.name(1), ground.rtype, &[&ground.value(6)], "after ours went and its id was given to this one,")
}

pub(super) async fn redirect(kit: &Kit) -> Result<(), Stop> {
    let ground = kit.ground();
    let elsewhere =
        Peer::start((kit.house.facade)()).await.map_err(|e| Stop::Failed(format!("the kit itself failed: {e}")))?;
    elsewhere.add_zone(&ground.zone, 2);
    let scene = kit.scene(2).await?;
    let mut open = scene.usual().await?;
    scene.peer.arm(Fault::always(Target::Reads, Mishap::Redirect(format!("{}/", elsewhere.url))));
    if open.try_read(Selector::All).await?.answer.is_ok() {
        return fail("`read` that is sent elsewhere should give a problem, and it gave a snapshot");
    }
    scene.peer.clear_faults();
    scene.peer.arm(Fault::always(Target::Writes, Mishap::Redirect(format!("{}/", elsewhere.url))));
    let answer = open.try_apply(vec![ground.add(1, 0, 0)]).await?.answer;
    expect(problem_of(&answer).is_some(), || {
        format!("`apply` that is sent elsewhere should give a problem, and it gave {}", words::answer(&answer))
    })?;
    let log = elsewhere.take_log();
    expect(log.is_empty(), || {
        format!("a redirect should not be followed, and elsewhere arrived {}", words::asked(&log))
    })
}
