//! Between the contract's types and the house's.

use wharf_capabilities::bindings::wharf::dns::zones;

use super::{
    Capabilities, Change, Check, Edit, Outcome, Probed, Problem, ProblemAction, Report, RrSet, Selector, Snapshot,
    Value, Verdict, ZoneInfo, ZoneRef,
};
use crate::{bindings::dns::exports::wharf::dns::provider as wit, text};

/// RFC 2181 §8.
const MAX_TTL: u32 = i32::MAX as u32;
/// Sets of one zone that are read at once: more is a provider's whole world, and 16 MiB are full before.
const MAX_SETS: usize = 100_000;
/// Values of one set. A DNS answer holds 4,000 addresses at most.
const MAX_VALUES: usize = 10_000;
/// Longest presentation form: 65,535 bytes of RDATA, escaped.
const MAX_DATA: usize = 65_535 * 4;
/// Longest opaque id or version.
const MAX_ID: usize = 1024;
/// Longest name: 255 bytes, each of which may be escaped as `\ddd`.
const MAX_NAME: usize = 255 * 4;
const MAX_ZONES: usize = 10_000;
const MAX_CHECKS: usize = 100;
/// Longest pause a provider can ask for: a day.
const MAX_PAUSE_MS: u32 = 86_400_000;

/// What is wrong with an answer, as a sentence; it becomes a problem or is thrown away with the list that holds it.
pub(super) type Unsound = String;

pub(super) fn bug(message: Unsound) -> Problem {
    Problem {
        action: ProblemAction::ReportBug,
        code: "bad-answer".to_owned(),
        message,
        retry_after_ms: None,
        http_status: None,
        provider_code: None,
        ext: Vec::new(),
    }
}

fn bounded(what: &str, text: String, max: usize) -> Result<String, Unsound> {
    if text.len() > max {
        return Err(format!("the provider plugin gave a {what} of {} bytes, and {max} are the most", text.len()));
    }
    Ok(text)
}

fn bounded_option(what: &str, text: Option<String>, max: usize) -> Result<Option<String>, Unsound> {
    text.map(|t| bounded(what, t, max)).transpose()
}

fn few<T>(what: &str, list: &[T], max: usize) -> Result<(), Unsound> {
    if list.len() > max {
        return Err(format!("the provider plugin gave {} {what}, and {max} are the most", list.len()));
    }
    Ok(())
}

fn ttl(of: Option<u32>) -> Result<Option<u32>, Unsound> {
    match of {
        Some(ttl) if ttl > MAX_TTL => Err(format!(
            "the provider plugin gave a TTL of {ttl}, and {MAX_TTL} is the most: a negative number, perhaps"
        )),
        ttl => Ok(ttl),
    }
}

pub(super) fn rrset(of: zones::Rrset) -> Result<RrSet, Unsound> {
    few("values of one record set", &of.values, MAX_VALUES)?;
    Ok(RrSet {
        name: bounded("name", of.name, MAX_NAME)?,
        rtype: bounded("type", of.rtype, text::CODE)?,
        ttl: ttl(of.ttl)?,
        values: of.values.into_iter().map(value).collect::<Result<_, _>>()?,
        owner: bounded_option("note", of.owner, MAX_ID)?,
        version: bounded_option("version", of.version, MAX_ID)?,
        ext: text::cut_ext(of.ext),
    })
}

fn value(of: zones::Value) -> Result<Value, Unsound> {
    Ok(Value {
        data: bounded("value", of.data, MAX_DATA)?,
        owner: bounded_option("note", of.owner, MAX_ID)?,
        ext: text::cut_ext(of.ext),
    })
}

pub(super) fn to_rrset(of: RrSet) -> zones::Rrset {
    zones::Rrset {
        name: of.name,
        rtype: of.rtype,
        ttl: of.ttl,
        values: of.values.into_iter().map(to_value).collect(),
        owner: of.owner,
        version: of.version,
        ext: of.ext,
    }
}

fn to_value(of: Value) -> zones::Value {
    zones::Value { data: of.data, owner: of.owner, ext: of.ext }
}

pub(super) fn zone_ref(of: zones::ZoneRef) -> Result<ZoneRef, Unsound> {
    Ok(ZoneRef { id: bounded("zone id", of.id, MAX_ID)?, name: bounded("zone name", of.name, MAX_NAME)? })
}

pub(super) fn to_zone_ref(of: &ZoneRef) -> zones::ZoneRef {
    zones::ZoneRef { id: of.id.clone(), name: of.name.clone() }
}

pub(super) fn zone_refs(of: Vec<zones::ZoneRef>) -> Result<Vec<ZoneRef>, Unsound> {
    few("zones", &of, MAX_ZONES)?;
    of.into_iter().map(zone_ref).collect()
}

pub(super) fn problem(of: zones::Problem) -> Problem {
    Problem {
        action: match of.action {
            zones::Action::FixInput => ProblemAction::FixInput,
            zones::Action::FixConfig => ProblemAction::FixConfig,
            zones::Action::Replan => ProblemAction::Replan,
            zones::Action::Wait => ProblemAction::Wait,
            zones::Action::Retry => ProblemAction::Retry,
            zones::Action::Verify => ProblemAction::Verify,
            zones::Action::ReportBug => ProblemAction::ReportBug,
        },
        code: text::cut(&of.code, text::CODE),
        message: text::cut(&of.message, text::MESSAGE),
        retry_after_ms: of.retry_after_ms.map(|ms| ms.min(MAX_PAUSE_MS)),
        http_status: of.http_status.filter(|s| (100..600).contains(s)),
        provider_code: text::cut_option(of.provider_code, text::CODE),
        ext: text::cut_ext(of.ext),
    }
}

pub(super) fn probed(of: wit::Probed) -> Result<Probed, Unsound> {
    few("types", &of.can.types, MAX_VALUES)?;
    let (info, can) = (of.info, of.can);
    Ok(Probed {
        info: ZoneInfo {
            zone: zone_ref(info.zone)?,
            writable: info.writable,
            serial: bounded_option("serial", info.serial, MAX_ID)?,
            ttl_min: ttl(info.ttl_min)?,
            ttl_max: ttl(info.ttl_max)?,
            ttl_default: ttl(info.ttl_default)?,
            records_used: info.records_used,
            records_max: info.records_max,
            ext: text::cut_ext(info.ext),
        },
        can: Capabilities {
            types: can.types.into_iter().map(|t| bounded("type", t, text::CODE)).collect::<Result<_, _>>()?,
            max_values: can.max_values,
            max_changes: can.max_changes,
            atomic: can.atomic,
            native_merge: can.native_merge,
            conditional: can.conditional,
            owner_per_value: can.owner_per_value,
            owner_per_rrset: can.owner_per_rrset,
            owner_max_bytes: can.owner_max_bytes,
            parallel_per_zone: can.parallel_per_zone.max(1),
            parallel_per_server: can.parallel_per_server.max(1),
            asynchronous: can.asynchronous,
            reverse_only: can.reverse_only,
            ext: text::cut_ext(can.ext),
        },
    })
}

pub(super) fn to_capabilities(of: Capabilities) -> wit::Capabilities {
    wit::Capabilities {
        types: of.types,
        max_values: of.max_values,
        max_changes: of.max_changes,
        atomic: of.atomic,
        native_merge: of.native_merge,
        conditional: of.conditional,
        owner_per_value: of.owner_per_value,
        owner_per_rrset: of.owner_per_rrset,
        owner_max_bytes: of.owner_max_bytes,
        parallel_per_zone: of.parallel_per_zone,
        parallel_per_server: of.parallel_per_server,
        asynchronous: of.asynchronous,
        reverse_only: of.reverse_only,
        ext: of.ext,
    }
}

pub(super) fn checks(of: Vec<wit::Check>) -> Vec<Check> {
    of.into_iter()
        .take(MAX_CHECKS)
        .map(|c| Check { step: text::cut(&c.step, text::CODE), ok: c.ok, detail: text::cut(&c.detail, text::MESSAGE) })
        .collect()
}

pub(super) fn to_selector(of: Selector) -> wit::Selector {
    match of {
        Selector::All => wit::Selector::All,
        Selector::Keys(keys) => wit::Selector::Keys(keys),
        Selector::Below(name) => wit::Selector::Below(name),
    }
}

pub(super) fn snapshot(of: wit::Snapshot) -> Result<Snapshot, Unsound> {
    few("record sets", &of.rrsets, MAX_SETS)?;
    Ok(Snapshot {
        rrsets: of.rrsets.into_iter().map(rrset).collect::<Result<_, _>>()?,
        complete: of.complete,
        version: bounded_option("version", of.version, MAX_ID)?,
        calls: of.calls,
    })
}

pub(super) fn to_change(of: Change) -> wit::Change {
    wit::Change {
        id: of.id,
        name: of.name,
        rtype: of.rtype,
        ttl: of.ttl.map(|t| t.min(MAX_TTL)),
        edit: match of.edit {
            Edit::AddValues(values) => wit::Edit::AddValues(values.into_iter().map(to_value).collect()),
            Edit::RemoveValues(values) => wit::Edit::RemoveValues(values),
            Edit::Replace(values) => wit::Edit::Replace(values.into_iter().map(to_value).collect()),
            Edit::Delete => wit::Edit::Delete,
        },
        expect: of.expect,
        owner: of.owner,
        ext: Vec::new(),
    }
}

pub(super) fn outcome(of: wit::Outcome) -> Result<Outcome, Unsound> {
    Ok(match of {
        wit::Outcome::Applied(set) => Outcome::Applied(rrset(set)?),
        wit::Outcome::Unchanged(set) => Outcome::Unchanged(rrset(set)?),
        wit::Outcome::Accepted(id) => Outcome::Accepted(bounded("operation id", id, MAX_ID)?),
        wit::Outcome::Failed(p) => Outcome::Failed(problem(p)),
        wit::Outcome::NotAttempted => Outcome::NotAttempted,
    })
}

/// `ids`: those of the batch. An outcome that is unsound counts as `verify`: something was sent.
pub(super) fn report(of: wit::Report, ids: &[u32]) -> Result<Report, Unsound> {
    let mut given: Vec<u32> = of.outcomes.iter().map(|(id, _)| *id).collect();
    let mut wanted = ids.to_vec();
    given.sort_unstable();
    wanted.sort_unstable();
    if given != wanted {
        return Err(format!(
            "the provider plugin reported {} outcomes for {} changes, or other ids than it was given",
            given.len(),
            wanted.len()
        ));
    }
    let outcomes = of.outcomes.into_iter().map(|(id, o)| {
        let outcome = outcome(o)
            .unwrap_or_else(|unsound| Outcome::Failed(Problem { action: ProblemAction::Verify, ..bug(unsound) }));
        (id, outcome)
    });
    Ok(Report {
        outcomes: outcomes.collect(),
        version: bounded_option("version", of.version, MAX_ID)?,
        calls: of.calls,
    })
}

pub(super) fn verdict(of: wit::Verdict) -> Verdict {
    let sound = |set: zones::Rrset, to: &dyn Fn(RrSet) -> Verdict| match rrset(set) {
        Ok(set) => to(set),
        Err(unsound) => Verdict::Refused(bug(unsound)),
    };
    match of {
        wit::Verdict::Ok(set) => sound(set, &Verdict::Ok),
        wit::Verdict::Adjusted((set, why)) => sound(set, &|set| Verdict::Adjusted(set, text::cut(&why, text::MESSAGE))),
        wit::Verdict::Refused(p) => Verdict::Refused(problem(p)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(ttl: Option<u32>) -> zones::Rrset {
        zones::Rrset {
            name: "a.example.".into(),
            rtype: "A".into(),
            ttl,
            values: Vec::new(),
            owner: None,
            version: None,
            ext: Vec::new(),
        }
    }

    #[test]
    fn a_ttl_that_was_minus_one_in_javascript_is_refused() {
        assert!(rrset(set(Some(3600))).is_ok());
        assert!(rrset(set(Some(u32::MAX))).unwrap_err().contains("4294967295"));
        assert!(matches!(verdict(wit::Verdict::Ok(set(Some(1 << 31)))), Verdict::Refused(_)));
    }

    #[test]
    fn a_report_must_answer_each_change_once_and_nothing_else() {
        let report_of = |ids: &[u32]| wit::Report {
            outcomes: ids.iter().map(|id| (*id, wit::Outcome::NotAttempted)).collect(),
            version: None,
            calls: 0,
            ext: Vec::new(),
        };
        assert!(report(report_of(&[2, 1]), &[1, 2]).is_ok());
        for wrong in [&[1][..], &[1, 1], &[1, 3], &[1, 2, 3]] {
            assert!(report(report_of(wrong), &[1, 2]).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn an_unsound_outcome_of_a_write_says_look_again() {
        let given = wit::Report {
            outcomes: vec![(1, wit::Outcome::Applied(set(Some(u32::MAX))))],
            version: None,
            calls: 1,
            ext: Vec::new(),
        };
        let Outcome::Failed(problem) = &report(given, &[1]).unwrap().outcomes[0].1 else { panic!("it failed") };
        assert_eq!(problem.action, ProblemAction::Verify);
    }

    #[test]
    fn a_value_without_end_is_refused() {
        let mut big = set(None);
        big.values.push(zones::Value { data: "x".repeat(MAX_DATA + 1), owner: None, ext: Vec::new() });
        assert!(rrset(big).is_err());
    }
}
