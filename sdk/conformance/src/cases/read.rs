//! 7 to 14: reading.

use wharf_plugins::dns::{Outcome, Selector, Snapshot, Verdict};
use wharf_testkit::{
    faults::{Fault, Meanwhile, Mishap, Target},
    model::Record,
};

use crate::{
    case::{Stop, expect, fail},
    scene::{Ground, Open, Scene, Sets, add, remove, replace, set, told, truth},
    stage::Kit,
    words,
};

/// Requests after which an API that repeats itself must have been given up.
const ENDLESS: usize = 50;

fn missing(wanted: &Sets, seen: &Sets) -> Option<String> {
    let lost: Vec<_> = wanted
        .iter()
        .filter(|(key, data)| seen.get(*key) != Some(data))
        .map(|((n, t), _)| format!("{n} {t}"))
        .collect();
    (!lost.is_empty()).then(|| {
        format!(
            "{} of {} sets are missing or other, the first {}",
            lost.len(),
            wanted.len(),
            lost.first().cloned().unwrap_or_default()
        )
    })
}

fn too_much(wanted: &Sets, seen: &Sets) -> Option<String> {
    seen.keys().find(|key| !wanted.contains_key(*key)).map(|(n, t)| format!("{n} {t} is not at the peer"))
}

fn whole(zone: &str, snapshot: &Snapshot, wanted: &Sets) -> Result<(), Stop> {
    let seen = told(zone, &snapshot.rrsets)?;
    expect(snapshot.complete, || format!("`read` of {zone} should be `complete`, and it is not"))?;
    match missing(wanted, &seen).or_else(|| too_much(wanted, &seen)) {
        None => Ok(()),
        Some(why) => fail(format!("`read` of {zone} with {} sets should give all of them: {why}", wanted.len())),
    }
}

pub(super) async fn sizes(kit: &Kit) -> Result<(), Stop> {
    let ground = kit.ground();
    // A reverse zone of IPv4 has no more addresses.
    let sizes: &[usize] = if ground.is_reverse() { &[0, 99, 100, 101, 250] } else { &[0, 99, 100, 101, 601, 1_201] };
    for (n, size) in sizes.iter().enumerate() {
        let zone = ground.other(n);
        let scene = Scene::new(kit, &[(&zone, *size)]).await?;
        let mut open = scene.open(&zone).await?;
        let snapshot = open.read(Selector::All).await?;
        whole(&zone, &snapshot, &scene.zone(&zone, truth)?)?;
    }
    Ok(())
}

pub(super) async fn moving(kit: &Kit) -> Result<(), Stop> {
    let zone = kit.ground().zone;
    let shrink = |records: &mut Vec<Record>| {
        records.drain(..records.len().min(60));
    };
    let grow = |records: &mut Vec<Record>| {
        let new = (0..60).map(|n| {
            let mut record = records.get(n).cloned().unwrap_or_default();
            record.name = format!("new-{n}-{}", record.name);
            record.id = format!("{:032x}", 0xffff_0000_usize + n);
            record
        });
        *records = new.collect::<Vec<_>>().into_iter().chain(records.clone()).collect();
    };
    let ways: [(&str, fn(&mut Vec<Record>)); 2] = [("shrinks by 60", shrink), ("grows by 60", grow)];
    for (how, way) in ways {
        let scene = kit.scene(350).await?;
        let mut open = scene.usual().await?;
        let name = zone.clone();
        let change = Meanwhile::new(move |model| {
            if let Some(zone) = model.zone_mut(&name) {
                way(&mut zone.records);
            }
        });
        scene.peer.arm(Fault::once(Target::Reads, Mishap::Meanwhile(change)).after(1));
        let Ok(snapshot) = open.try_read(Selector::All).await?.answer else { continue };
        if !snapshot.complete {
            continue;
        }
        let seen = told(&zone, &snapshot.rrsets)?;
        if let Some(why) = missing(&scene.zone(&zone, truth)?, &seen) {
            return fail(format!(
                "`read` of a zone that {how} after the first page should give all, or not say `complete`: it said so, and {why} ({})",
                words::asked(&open.log())
            ));
        }
    }
    Ok(())
}

pub(super) async fn endless(kit: &Kit) -> Result<(), Stop> {
    let zone = kit.ground().zone;
    let scene = kit.scene(350).await?;
    let mut open = scene.usual().await?;
    scene.peer.arm(Fault::always(Target::Reads, Mishap::Repeated).after(1));
    let answer = open.try_read(Selector::All).await?.answer;
    let count = open.log().len();
    expect(count <= ENDLESS, || {
        format!("a page that comes again and again should be given up within {ENDLESS} requests, and {count} were made")
    })?;
    match answer {
        Ok(snapshot) if snapshot.complete => match missing(&scene.zone(&zone, truth)?, &told(&zone, &snapshot.rrsets)?)
        {
            None => Ok(()),
            Some(why) => fail(format!("where one page comes again and again, `read` should not say `complete`: {why}")),
        },
        _ => Ok(()),
    }
}

pub(super) async fn many_zones(kit: &Kit) -> Result<(), Stop> {
    let names: Vec<String> = (0..260).map(|n| format!("zone-{n}.test.")).collect();
    let zones: Vec<(&str, usize)> = names.iter().map(|n| (n.as_str(), 0)).collect();
    let scene = Scene::new(kit, &zones).await?;
    let last = names.last().cloned().unwrap_or_default();
    let mut open = scene.open(&last).await?;
    expect(open.zone.name == last, || {
        format!("`probe` should find the last of 260 zones, and it found {}", open.zone.name)
    })?;
    let listed = open.zones().await?.map_err(|p| Stop::Failed(format!("`list-zones` gave {}", words::problem(&p))))?;
    let lost: Vec<&String> = names.iter().filter(|n| !listed.iter().any(|z| z.name == **n)).collect();
    expect(lost.is_empty(), || {
        format!(
            "`list-zones` should give all 260 zones, and {} are missing ({})",
            lost.len(),
            words::asked(&open.log())
        )
    })
}

pub(super) async fn grouped(kit: &Kit) -> Result<(), Stop> {
    let (scene, ground) = (kit.scene(0).await?, kit.ground());
    // Those of one name are apart from each other.
    let order = [(0, 3), (1, 7), (0, 1), (1, 8), (0, 2)];
    scene.put(&ground.zone, order.iter().map(|(name, value)| ground.record(*name, *value, 3_600)).collect()).await?;
    let mut open = scene.usual().await?;
    let wanted = scene.zone(&ground.zone, truth)?;
    // In a live zone others have records, too.
    let all = if kit.live.is_some() { Selector::Below(ground.under.clone()) } else { Selector::All };
    let all = open.read(all).await?;
    whole(&ground.zone, &all, &wanted)?;
    let keys = open.read(Selector::Keys(vec![(ground.name(0), ground.rtype.into())])).await?;
    let seen = told(&ground.zone, &keys.rrsets)?;
    let key = (ground.name(0), ground.rtype.to_owned());
    expect(seen.get(&key) == wanted.get(&key), || {
        format!(
            "`read` of {} {} should give its three values as one set, and it gave {:?}",
            key.0,
            key.1,
            seen.get(&key)
        )
    })
}

pub(super) async fn one_key(kit: &Kit) -> Result<(), Stop> {
    let ground = kit.ground();
    let foreign = if ground.is_reverse() { 250 } else { 5_000 };
    let scene = kit.scene(foreign).await?;
    // One that none of the others has; 256 addresses are not many.
    let free = if ground.is_reverse() { 2 } else { 300 };
    scene.put(&ground.zone, vec![ground.record(free, 3, 3_600)]).await?;
    let mut open = scene.usual().await?;
    let whole = open.read(Selector::All).await?;
    let all = open.log().len();
    expect(usize::try_from(whole.calls).is_ok_and(|c| c == all), || {
        format!("`read` of all should report its {all} requests as `calls`, and it reported {}", whole.calls)
    })?;
    let key = (ground.name(free), ground.rtype.to_owned());
    let one = open.read(Selector::Keys(vec![key.clone()])).await?;
    let log = open.log();
    expect(usize::try_from(one.calls).is_ok_and(|c| c == log.len()), || {
        format!("`read` of one name should report its {} requests as `calls`, and it reported {}", log.len(), one.calls)
    })?;
    expect(log.len() <= all.max(1), || {
        format!("one name should cost no more requests than all {foreign} records ({all}), and it cost {}", log.len())
    })?;
    let seen = told(&ground.zone, &one.rrsets)?;
    let found = seen.get(&key).is_some_and(|data| data.iter().eq([&ground.value(3)]));
    expect(found, || format!("`read` of {} should give {}, and it gave {seen:?}", key.0, ground.value(3)))?;
    expect(seen.len() == 1, || {
        format!("`read` of one name and type should give that set alone, and it gave {}", seen.len())
    })
}

/// Writes one set and reads it.
async fn round(
    open: &mut Open<'_, '_>,
    ground: &Ground,
    name: usize,
    rtype: &str,
    ttl: Option<u32>,
    data: &str,
) -> Result<(), Stop> {
    let name = ground.name(name);
    let what = format!("where {name} {rtype} {data} is added");
    let report = open.applied(vec![add(1, &name, rtype, ttl, &[data])], &what).await?;
    let Some((_, Outcome::Applied(said))) = report.outcomes.first() else { return fail("`apply` gave no set") };
    open.scene.holds(&name, rtype, &[data], "after that")?;
    let Some(read) = open.read_one(&name, rtype).await? else {
        return fail(format!("{name} {rtype} was written and should be read back, and `read` does not have it"));
    };
    for (of, got) in [("`apply`", said), ("`read`", &read)] {
        let values: Vec<&str> = got.values.iter().map(|v| v.data.as_str()).collect();
        expect(got.name == name && got.rtype == rtype && values == [data], || {
            format!(
                "{of} should give {name} {rtype} {data}, in canonical form, and it gave {} {} {}",
                got.name,
                got.rtype,
                values.join(", ")
            )
        })?;
    }
    // None means automatic, whatever number that is.
    let same = said.ttl == read.ttl || said.ttl.is_none() || read.ttl.is_none();
    expect(same, || {
        format!("`read` should give the TTL that `apply` gave ({:?}), and it gave {:?}", said.ttl, read.ttl)
    })?;
    let wanted = match (ttl, open.verdict(set(&name, rtype, ttl, &[data])).await?) {
        (None, _) => None,
        (_, Verdict::Ok(set) | Verdict::Adjusted(set, _)) => set.ttl,
        (_, Verdict::Refused(p)) => {
            return fail(format!(
                "what was written should not be refused in `normalize`, and it gave {}",
                words::problem(&p)
            ));
        }
    };
    expect(wanted.is_none() || wanted == read.ttl, || {
        format!("`read` should give the TTL that `normalize` foretold ({wanted:?}), and it gave {:?}", read.ttl)
    })
}

pub(super) async fn read_back(kit: &Kit) -> Result<(), Stop> {
    let (scene, ground) = (kit.scene(0).await?, kit.ground());
    let mut open = scene.usual().await?;
    round(&mut open, &ground, 0, ground.rtype, Some(3_600), &ground.value(0)).await?;
    round(&mut open, &ground, 1, ground.rtype, None, &ground.value(1)).await?;
    if kit.writes("AAAA") && !ground.is_reverse() {
        round(&mut open, &ground, 2, "AAAA", Some(3_600), "2001:db8::1:0:0:1").await?;
        let odd = set(&ground.name(3), "AAAA", Some(3_600), &["2001:DB8:0:0:0::1"]);
        match open.verdict(odd).await? {
            Verdict::Adjusted(set, _) if set.values.iter().any(|v| v.data == "2001:db8::1") => {}
            Verdict::Refused(_) => {}
            other => {
                return fail(format!(
                    "`normalize` of 2001:DB8:0:0:0::1 should be `adjusted` to 2001:db8::1 or `refused`, and it is {}",
                    words::verdict(&other)
                ));
            }
        }
    }
    let bare = ground.name(4).trim_end_matches('.').to_ascii_uppercase();
    match open.verdict(set(&bare, ground.rtype, Some(3_600), &[&ground.value(4)])).await? {
        Verdict::Adjusted(set, _) if set.name == ground.name(4) => Ok(()),
        Verdict::Refused(_) => Ok(()),
        other => fail(format!(
            "`normalize` of the name {bare} should be `adjusted` to {} or `refused`, and it is {}",
            ground.name(4),
            words::verdict(&other)
        )),
    }
}

pub(super) async fn twice(kit: &Kit) -> Result<(), Stop> {
    let (scene, ground) = (kit.scene(3).await?, kit.ground());
    let mut open = scene.usual().await?;
    let batch = || {
        vec![
            ground.add(1, 0, 0),
            replace(2, &ground.name(1), ground.rtype, Some(3_600), &[&ground.value(1)]),
            remove(3, &ground.name(2), ground.rtype, &[&ground.value(2)]),
        ]
    };
    open.apply(batch()).await?;
    let (before, log) = (scene.zone(&ground.zone, Clone::clone)?, open.log());
    expect(!words::writes(&log).is_empty(), || "the first `apply` should write, and it made no write".into())?;
    let again = open.apply(batch()).await?;
    for (id, outcome) in &again.outcomes {
        expect(matches!(outcome, Outcome::Unchanged(_)), || {
            format!("the same batch again should be `unchanged`, and change {id} is {}", words::outcome(outcome))
        })?;
    }
    let writes = words::writes(&open.log());
    expect(writes.is_empty(), || {
        format!("the same batch again should write nothing, and it made {}", words::asked(&writes))
    })?;
    let after = scene.zone(&ground.zone, Clone::clone)?;
    expect(before == after, || {
        format!(
            "the same batch again should leave the zone as it is; its serial went from {} to {}",
            before.serial, after.serial
        )
    })
}
