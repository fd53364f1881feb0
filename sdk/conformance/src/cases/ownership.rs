//! 15 to 19: other people's records.

use wharf_plugins::dns::{Change, Outcome, ProblemAction};
use wharf_testkit::model::{Record, Zone};

use crate::{
    case::{Stop, expect, fail},
    scene::{delete, outcome, problem_of},
    stage::Kit,
    words,
};

fn noted(mut record: Record, text: &str) -> Record {
    record.comment = Some(text.to_owned());
    record
}

fn find<'a>(zone: &'a Zone, name: &str, data: &str) -> Option<&'a Record> {
    zone.records.iter().find(|r| r.name == name && r.data == data)
}

pub(super) async fn neighbours(kit: &Kit) -> Result<(), Stop> {
    let (scene, ground) = (kit.scene(2).await?, kit.ground());
    let name = ground.name(0);
    scene.put(&ground.zone, vec![noted(ground.record(0, 5, 4_711), "of somebody else")]).await?;
    let key = (name.clone(), ground.rtype.to_owned());
    if let Some(zone) = scene.peer.model().zone_mut(&ground.zone) {
        zone.notes.insert(key.clone(), "a note on the set".into());
    }
    let mut open = scene.usual().await?;
    open.applied(vec![ground.add(1, 0, 0)], "where a value is added beside another").await?;
    scene.holds(
        &name,
        ground.rtype,
        &[&ground.value(0), &ground.value(5)],
        "after a value was added beside a foreign one",
    )?;
    let (record, note) =
        scene.zone(&ground.zone, |z| (find(z, &name, &ground.value(5)).cloned(), z.notes.get(&key).cloned()))?;
    let record = record.unwrap_or_default();
    expect(record.ttl == Some(4_711), || {
        format!("the foreign value of {name} should keep its TTL of 4711, and it has {:?}", record.ttl)
    })?;
    if kit.features.comments {
        expect(record.comment.is_some() && note.is_some(), || {
            format!("the comments at {name} should stay, and one is gone")
        })?;
    }
    Ok(())
}

pub(super) async fn remove_ours(kit: &Kit) -> Result<(), Stop> {
    let (scene, ground) = (kit.scene(2).await?, kit.ground());
    let (name, ttl) = (ground.name(0), 3_600);
    scene
        .put(
            &ground.zone,
            vec![
                ground.record(0, 5, ttl),
                ground.record(0, 0, ttl),
                ground.record(0, 6, ttl),
                ground.record(1, 0, ttl),
            ],
        )
        .await?;
    let mut open = scene.usual().await?;
    open.applied(vec![ground.remove(1, 0, 0)], "where one of three values is removed").await?;
    scene.holds(&name, ground.rtype, &[&ground.value(5), &ground.value(6)], "after one of three values was removed")?;
    scene.holds(
        &ground.name(1),
        ground.rtype,
        &[&ground.value(0)],
        "after the same value was removed from another name",
    )
}

pub(super) async fn last_value(kit: &Kit) -> Result<(), Stop> {
    let (scene, ground) = (kit.scene(2).await?, kit.ground());
    let before = scene.zone(&ground.zone, Zone::picture)?;
    scene.put(&ground.zone, vec![ground.record(0, 0, 3_600)]).await?;
    let mut open = scene.usual().await?;
    open.applied(vec![ground.remove(1, 0, 0)], "where the only value of a name is removed").await?;
    scene.holds(&ground.name(0), ground.rtype, &[], "after its only value was removed")?;
    expect(scene.zone(&ground.zone, Zone::picture)? == before, || {
        "with the last value of one name something else went, too".into()
    })?;
    let left = open.read_one(&ground.name(0), ground.rtype).await?;
    expect(left.is_none_or(|s| s.values.is_empty()), || format!("`read` should not show {} any more", ground.name(0)))
}

pub(super) async fn expected(kit: &Kit) -> Result<(), Stop> {
    let (scene, ground) = (kit.scene(2).await?, kit.ground());
    scene.put(&ground.zone, vec![ground.record(0, 5, 3_600)]).await?;
    let before = scene.zone(&ground.zone, Clone::clone)?;
    let mut open = scene.usual().await?;
    for (what, expect_values) in [("another value", vec![ground.value(6)]), ("nothing", Vec::new())] {
        let changes = [
            Change { expect: Some(expect_values.clone()), ..ground.remove(1, 0, 5) },
            Change { expect: Some(expect_values), ..delete(1, &ground.name(0), ground.rtype) },
        ];
        for change in changes {
            let answer = open.try_apply(vec![change]).await?.answer;
            match problem_of(&answer) {
                Some(p) if p.action == ProblemAction::Replan => {}
                _ => {
                    return fail(format!(
                        "a change that expects {what} where {} stands should be `replan`, and it gave {}",
                        ground.value(5),
                        words::answer(&answer)
                    ));
                }
            }
            let writes = words::writes(&open.log());
            expect(writes.is_empty(), || {
                format!("a change that expects {what} should write nothing, and it made {}", words::asked(&writes))
            })?;
        }
    }
    expect(scene.zone(&ground.zone, Clone::clone)? == before, || {
        "the zone should be as it was, and it was changed".into()
    })?;
    let right = Change { expect: Some(vec![ground.value(5)]), ..ground.remove(1, 0, 5) };
    open.applied(vec![right], "where what is expected stands").await?;
    Ok(())
}

pub(super) async fn disabled(kit: &Kit) -> Result<(), Stop> {
    let (scene, ground) = (kit.scene(2).await?, kit.ground());
    let name = ground.name(0);
    let off = Record { disabled: true, ..ground.record(0, 5, 3_600) };
    scene.put(&ground.zone, vec![off, ground.record(0, 6, 3_600)]).await?;
    let stays = |when: &str| -> Result<(), Stop> {
        let stands = scene.zone(&ground.zone, |z| find(z, &name, &ground.value(5)).is_some_and(|r| r.disabled))?;
        expect(stands, || format!("the disabled value of {name} should be there and disabled {when}, and it is not"))
    };
    let mut open = scene.usual().await?;
    let read = open.read_one(&name, ground.rtype).await?;
    let data: Vec<String> = read.into_iter().flat_map(|s| s.values).map(|v| v.data).collect();
    expect(!data.contains(&ground.value(5)), || {
        format!("`read` should not show a disabled value as one that is served, and it shows {}", ground.value(5))
    })?;
    open.applied(vec![ground.add(1, 0, 0)], "where a value is added beside a disabled one").await?;
    stays("after another value was added")?;
    let report = open.apply(vec![ground.add(1, 0, 5)]).await?;
    let adopted = outcome(&report, 1)?;
    expect(matches!(adopted, Outcome::Failed(_)), || {
        format!(
            "adding the value that stands there disabled should fail (it is not served, and not ours), and it is {}",
            words::outcome(adopted)
        )
    })?;
    stays("after the same value was asked for")?;
    open.applied(vec![delete(1, &name, ground.rtype)], "where the served values of a name are deleted").await?;
    stays("after the set was deleted")
}
