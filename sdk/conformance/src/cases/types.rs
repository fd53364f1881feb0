//! 38 to 46: names, types and TTLs.

use wharf_plugins::dns::{Outcome, ProblemAction, Selector, Verdict};
use wharf_testkit::model::Record;

use crate::{
    case::{Stop, expect, fail},
    scene::{Open, Scene, add, delete, outcome, problem_of, replace, set},
    stage::Kit,
    words,
};

/// Made, changed, deleted; the peer is looked at after each.
async fn live(scene: &Scene<'_>, zone: &str, name: &str, rtype: &str, data: [&str; 2]) -> Result<(), Stop> {
    let mut open = scene.open(zone).await?;
    open.applied(vec![add(1, name, rtype, Some(3_600), &[data[0]])], &format!("where {name} {rtype} is made")).await?;
    scene.holds_in(zone, name, rtype, &[data[0]], "after it was made")?;
    open.applied(vec![replace(2, name, rtype, Some(3_600), &[data[1]])], &format!("where {name} {rtype} is changed"))
        .await?;
    scene.holds_in(zone, name, rtype, &[data[1]], "after it was changed")?;
    open.applied(vec![delete(3, name, rtype)], &format!("where {name} {rtype} is deleted")).await?;
    scene.holds_in(zone, name, rtype, &[], "after it was deleted")
}

const FORWARD: &str = "example.test.";
const V4: &str = "2.0.192.in-addr.arpa.";
const V6: &str = "8.b.d.0.1.0.0.2.ip6.arpa.";

/// The same where the zone is given.
async fn life_of(kit: &Kit) -> Result<(), Stop> {
    let (scene, ground) = (kit.scene(0).await?, kit.ground());
    let data = |rtype: &str| match rtype {
        "A" => Some(["203.0.113.1", "203.0.113.2"]),
        "AAAA" => Some(["2001:db8::1", "2001:db8::2"]),
        _ => None,
    };
    if ground.is_reverse() {
        return live(&scene, &ground.zone, &ground.name(0), "PTR", ["vm.example.test.", "other.example.test."]).await;
    }
    for rtype in ["A", "AAAA"] {
        if let Some(data) = data(rtype).filter(|_| kit.writes(rtype)) {
            live(&scene, &ground.zone, &ground.name(0), rtype, data).await?;
        }
    }
    Ok(())
}

pub(super) async fn life(kit: &Kit) -> Result<(), Stop> {
    if kit.live.is_some() {
        return life_of(kit).await;
    }
    let some = ["A", "AAAA", "PTR"].into_iter().any(|t| kit.writes(t));
    expect(some, || "a provider should write A, AAAA or PTR, and `types` has none of them".into())?;
    let scene = if kit.can.reverse_only {
        Scene::new(kit, &[(V4, 1)]).await?
    } else {
        Scene::new(kit, &[(FORWARD, 1), (V4, 1)]).await?
    };
    for (rtype, zone, name, data) in [
        ("A", FORWARD, "vm.example.test.", ["203.0.113.1", "203.0.113.2"]),
        ("AAAA", FORWARD, "vm.example.test.", ["2001:db8::1", "2001:db8::2"]),
        ("PTR", V4, "7.2.0.192.in-addr.arpa.", ["vm.example.test.", "other.example.test."]),
    ] {
        if kit.writes(rtype) && (rtype == "PTR" || !kit.can.reverse_only) {
            live(&scene, zone, name, rtype, data).await?;
        }
    }
    Ok(())
}

pub(super) async fn reverse(kit: &Kit) -> Result<(), Stop> {
    let scene = Scene::new(kit, &[(V4, 1), (V6, 1)]).await?;
    let nibbles = "1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.b.d.0.1.0.0.2.ip6.arpa.";
    for (zone, name) in [(V4, "254.2.0.192.in-addr.arpa."), (V6, nibbles)] {
        let mut open = scene.open(zone).await?;
        open.applied(
            vec![add(1, name, "PTR", Some(3_600), &["vm.example.test."])],
            &format!("where the PTR of {name} is made"),
        )
        .await?;
        scene.holds_in(zone, name, "PTR", &["vm.example.test."], "after it was made")?;
        let read = open.read_one(name, "PTR").await?;
        expect(read.is_some(), || format!("`read` should give {name}, and it does not"))?;
        open.applied(vec![delete(2, name, "PTR")], &format!("where the PTR of {name} is deleted")).await?;
        scene.holds_in(zone, name, "PTR", &[], "after it was deleted")?;
    }
    Ok(())
}

/// What `normalize` says of a set and what `apply` does with it must be the same: stored as it is, or refused both times.
async fn agree(open: &mut Open<'_, '_>, name: &str, rtype: &str, data: &str) -> Result<bool, Stop> {
    let verdict = open.verdict(set(name, rtype, Some(3_600), &[data])).await?;
    let zone = open.zone.name.clone();
    let before = open.scene.zone(&zone, Clone::clone)?;
    let answer = open.try_apply(vec![add(1, name, rtype, Some(3_600), &[data])]).await?.answer;
    match (&verdict, problem_of(&answer)) {
        (Verdict::Refused(_), Some(problem)) => {
            expect(open.scene.zone(&zone, Clone::clone)? == before, || {
                format!("{name} {rtype} was refused, and yet something was written")
            })?;
            expect(matches!(problem.action, ProblemAction::FixInput | ProblemAction::FixConfig), || {
                format!(
                    "{name} {rtype} is refused in `normalize`, so `apply` should give `fix-input`, and it gave {}",
                    words::problem(&problem)
                )
            })?;
            Ok(false)
        }
        (Verdict::Refused(p), None) => {
            fail(format!("`normalize` refuses {name} {rtype} ({}), and `apply` wrote it", p.message))
        }
        (_, Some(problem)) => fail(format!(
            "`normalize` says {} of {name} {rtype} {data}, and `apply` gave {}",
            words::verdict(&verdict),
            words::problem(&problem)
        )),
        (_, None) => {
            open.scene.holds_in(&zone, name, rtype, &[data], &format!("after {name} {rtype} was written"))?;
            let read = open.read_one(name, rtype).await?;
            let back = read.is_some_and(|s| s.values.iter().any(|v| v.data == data));
            expect(back, || format!("`read` should give {name} {rtype} {data}, which was written, and it does not"))?;
            Ok(true)
        }
    }
}

pub(super) async fn classless(kit: &Kit) -> Result<(), Stop> {
    for label in ["64/26", "64-26", "64-127"] {
        let zone = format!("{label}.2.0.192.in-addr.arpa.");
        let scene = Scene::new(kit, &[(&zone, 1)]).await?;
        let mut session = scene.session(&zone).await?;
        match session.probe(&zone).await? {
            Err(p) if matches!(p.action, ProblemAction::FixConfig | ProblemAction::FixInput) => continue,
            Err(p) => {
                return fail(format!(
                    "`probe` of {zone} should find it or give `fix-config`, and it gave {}",
                    words::problem(&p)
                ));
            }
            Ok(_) => {}
        }
        let mut open = scene.open(&zone).await?;
        agree(&mut open, &format!("70.{zone}"), "PTR", "vm.example.test.").await?;
    }
    Ok(())
}

pub(super) async fn odd_names(kit: &Kit) -> Result<(), Stop> {
    let (scene, ground) = (kit.scene(1).await?, kit.ground());
    let mut open = scene.usual().await?;
    let zone = &ground.under;
    let long = |total: usize| {
        // Labels of 63 and a first one of what is left, with the dot behind it.
        let mut rest = zone.clone();
        while rest.len() + 65 < total {
            rest = format!("{}.{rest}", "b".repeat(63));
        }
        let first = total - rest.len();
        if first <= 63 {
            format!("{}.{rest}", "a".repeat(first))
        } else {
            format!("{}.{}.{rest}", "a".repeat(first - 2), "a")
        }
    };
    let good = [
        format!("*.{zone}"),
        format!("*.sub.{zone}"),
        format!("_srv._tcp.{zone}"),
        format!("{}.{zone}", "l".repeat(63)),
        long(253),
    ];
    for name in &good {
        agree(&mut open, name, ground.rtype, &ground.value(0)).await?;
    }
    for name in [format!("{}.{zone}", "l".repeat(64)), long(254)] {
        let stored = agree(&mut open, &name, ground.rtype, &ground.value(0)).await?;
        expect(!stored, || format!("{name} is too long for a name and should be refused, and it was written"))?;
    }
    Ok(())
}

pub(super) async fn punycode(kit: &Kit) -> Result<(), Stop> {
    let (scene, ground) = (kit.scene(1).await?, kit.ground());
    let mut open = scene.usual().await?;
    let name = format!("xn--bcher-kva.{}", ground.under);
    for (name, rtype, data) in [
        (name.as_str(), ground.rtype, ground.value(0)),
        (ground.name(1).as_str(), "CNAME", "xn--mnchen-3ya.example.net.".to_owned()),
    ] {
        let stored = agree(&mut open, name, rtype, &data).await?;
        expect(stored, || format!("{name} {rtype} {data} is plain A-labels and should be stored, and it is refused"))?;
    }
    let all = open.read(Selector::All).await?;
    let decoded = all.rrsets.iter().find(|s| !s.name.is_ascii() || s.values.iter().any(|v| !v.data.is_ascii()));
    expect(decoded.is_none(), || format!("`read` should give A-labels, and it gave {decoded:?}"))
}

pub(super) async fn dots(kit: &Kit) -> Result<(), Stop> {
    let (scene, ground) = (kit.scene(1).await?, kit.ground());
    let mut open = scene.usual().await?;
    let targets = [format!("target.{}", ground.zone), "target.example.net.".to_owned(), ground.zone.clone()];
    for (n, target) in targets.iter().enumerate() {
        for name in [ground.name(n), format!("a.b-{n}.{}", ground.under)] {
            let stored = agree(&mut open, &name, "CNAME", target).await?;
            expect(stored, || format!("{name} CNAME {target} should be stored, and it is refused"))?;
        }
    }
    // Some APIs put an address there by themselves, and in a live zone it is not ours.
    if kit.live.is_some() || !scene.data(&ground.zone, &ground.zone, ground.rtype)?.is_empty() {
        return Ok(());
    }
    let apex = agree(&mut open, &ground.zone, ground.rtype, &ground.value(0)).await?;
    expect(apex, || format!("{} {} should be stored, and it is refused", ground.zone, ground.rtype))
}

pub(super) async fn ttls(kit: &Kit) -> Result<(), Stop> {
    let (scene, ground) = (kit.scene(1).await?, kit.ground());
    let mut open = scene.usual().await?;
    let (min, max) = (kit.info.ttl_min, kit.info.ttl_max);
    let mut asked = vec![0, 1, 3_600, 0x7fff_ffff, 1 << 31];
    asked.extend(min.map(|m| m.saturating_sub(1)));
    asked.extend(max.map(|m| m.saturating_add(1)));
    for (n, ttl) in asked.into_iter().enumerate() {
        let (name, value) = (ground.name(n), ground.value(n));
        let verdict = open.verdict(set(&name, ground.rtype, Some(ttl), &[&value])).await?;
        let answer = open.try_apply(vec![add(1, &name, ground.rtype, Some(ttl), &[&value])]).await?.answer;
        let stored: Option<Record> = scene.zone(&ground.zone, |z| z.of(&name, ground.rtype).next().cloned())?;
        match (verdict, problem_of(&answer), stored) {
            (Verdict::Refused(_), Some(_), None) => {}
            (Verdict::Ok(set) | Verdict::Adjusted(set, _), None, Some(record)) => {
                expect(set.ttl == record.ttl, || {
                    format!(
                        "of a TTL of {ttl} `normalize` said that {:?} is stored, and the peer has {:?}",
                        set.ttl, record.ttl
                    )
                })?;
                let read = open.read_one(&name, ground.rtype).await?.and_then(|s| s.ttl);
                expect(read == record.ttl, || {
                    format!("the peer has a TTL of {:?}, and `read` gave {read:?}", record.ttl)
                })?;
            }
            (verdict, _, stored) => {
                return fail(format!(
                    "of a TTL of {ttl} `normalize` said {}, and `apply` gave {}, and the peer has {:?}",
                    words::verdict(&verdict),
                    words::answer(&answer),
                    stored.map(|r| r.ttl)
                ));
            }
        }
    }
    Ok(())
}

pub(super) async fn two_targets(kit: &Kit) -> Result<(), Stop> {
    let scene = Scene::new(kit, &[(V4, 1)]).await?;
    let mut open = scene.open(V4).await?;
    let name = "7.2.0.192.in-addr.arpa.";
    let (one, two) = ("a.example.test.", "b.example.test.");
    open.applied(vec![add(1, name, "PTR", Some(3_600), &[one])], "where a PTR is made").await?;
    let answer = open.try_apply(vec![add(1, name, "PTR", Some(3_600), &[two])]).await?.answer;
    if kit.can.max_values == 1 {
        let verdict = open.verdict(set(name, "PTR", Some(3_600), &[one, two])).await?;
        expect(matches!(verdict, Verdict::Refused(_)), || {
            format!("with `max-values` of 1 `normalize` should refuse two, and it says {}", words::verdict(&verdict))
        })?;
        expect(problem_of(&answer).is_some(), || {
            format!("with `max-values` of 1 a second value should fail, and `apply` gave {}", words::answer(&answer))
        })?;
        return scene.holds_in(V4, name, "PTR", &[one], "after a second value was refused");
    }
    expect(problem_of(&answer).is_none(), || {
        format!("more than one value is declared, and the second gave {}", words::answer(&answer))
    })?;
    scene.holds_in(V4, name, "PTR", &[one, two], "after a second value was added")
}

pub(super) async fn unknown(kit: &Kit) -> Result<(), Stop> {
    let (scene, ground) = (kit.scene(1).await?, kit.ground());
    let name = ground.name(0);
    let strange = Record::new(&name, "TYPE65280", "\\# 4 0A000001", 3_600);
    scene.put(&ground.zone, vec![strange]).await?;
    let mut open = scene.usual().await?;
    let stays = |when: &str| scene.holds(&name, "TYPE65280", &["\\# 4 0A000001"], when);
    let all = open.read(Selector::All).await?;
    let shown = all.rrsets.iter().find(|s| s.rtype == "TYPE65280");
    // Some can't list what they do not know as it is; that it is there must be seen all the same.
    expect(shown.is_some(), || format!("`read` should give the record of an unknown type at {name}, and it does not"))?;
    open.applied(vec![ground.add(1, 0, 0)], "where a value is added beside a record of an unknown type").await?;
    stays("after a value was added at its name")?;
    open.applied(vec![replace(2, &name, ground.rtype, Some(3_600), &[&ground.value(1)])], "where it is replaced")
        .await?;
    stays("after a value was replaced at its name")?;
    open.applied(vec![delete(3, &name, ground.rtype)], "where it is deleted").await?;
    stays("after a set was deleted at its name")?;
    let report = open.try_apply(vec![add(4, &name, "TYPE65281", Some(3_600), &["\\# 0"])]).await?.answer;
    let refused = kit.writes("TYPE65281")
        || report.as_ref().is_ok_and(|r| matches!(outcome(r, 4), Ok(Outcome::Failed(_))))
        || report.is_err();
    expect(refused, || {
        format!("a type that is not in `types` should fail in `apply`, and it gave {}", words::answer(&report))
    })
}
