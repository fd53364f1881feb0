//! The lines of a connection test, in the words that every provider uses: `dns`, `tls`, `reach`, `auth`, `zone`, `read`, `write`.
//!
//! A provider makes its first request and says [`Checks::let_in`] or [`Checks::turned_away`], goes on with zone and reading, and
//! lets [`Checks::trial`] write a record of its own and take it away again.

use crate::dns::{Change, Check, Edit, Outcome, Problem, ProblemAction, Report, Value, ZoneRef, entropy};

/// What was found so far.
#[derive(Debug, Default)]
pub struct Checks(Vec<Check>);

/// A part of a name that nothing else has: 12 hexadecimal digits. Only in a component.
pub fn nonce() -> String {
    entropy::fresh(6).iter().map(|b| format!("{b:02x}")).collect()
}

/// The test could not begin: a setting is missing.
pub fn unset(problem: Problem) -> Vec<Check> {
    let mut checks = Checks::default();
    checks.bad("reach", problem.message);
    checks.done()
}

impl Checks {
    fn say(&mut self, step: &str, ok: bool, detail: impl Into<String>) {
        self.0.push(Check { step: step.into(), ok, detail: detail.into(), ext: Vec::new() });
    }

    pub fn good(&mut self, step: &str, detail: impl Into<String>) {
        self.say(step, true, detail);
    }

    pub fn bad(&mut self, step: &str, detail: impl Into<String>) {
        self.say(step, false, detail);
    }

    pub fn done(self) -> Vec<Check> {
        self.0
    }

    /// The provider answered and took the credentials.
    pub fn let_in(&mut self, who: &str, credentials: &str) {
        self.good("reach", format!("{who} answers."));
        self.good("auth", format!("{credentials} accepted."));
    }

    /// The first request failed: at which step, and what had gone well before it. `auth`: codes, beside `credentials`, of a
    /// problem with the credentials.
    pub fn turned_away(&mut self, who: &str, credentials: &str, auth: &[&str], problem: Problem) {
        let step = match problem.code.as_str() {
            "resolve" => "dns",
            "tls" => "tls",
            "credentials" | "unknown-slot" => "auth",
            code if auth.contains(&code) => "auth",
            "zone-not-found" | "zone-name" => "zone",
            _ => "reach",
        };
        match step {
            "zone" => self.let_in(who, credentials),
            "auth" if problem.http_status.is_some() => self.good("reach", format!("{who} answers.")),
            _ => {}
        }
        self.bad(step, problem.message);
    }

    /// Writes a text under a name that nobody has, and takes it away. `apply` is the provider's own.
    pub fn trial(&mut self, zone: &ZoneRef, nonce: &str, apply: impl FnMut(Change) -> Result<Report, Problem>) {
        match trial(zone, nonce, apply) {
            Ok(()) => self.good("write", "A trial record was written and removed."),
            Err(problem) => self.bad("write", problem.message),
        }
    }
}

fn trial(zone: &ZoneRef, nonce: &str, mut apply: impl FnMut(Change) -> Result<Report, Problem>) -> Result<(), Problem> {
    let text = "\"trial\"";
    let name = format!("_wharf-{nonce}.{}", zone.name);
    let mut write = |edit: Edit| {
        let (name, rtype, ttl) = (name.clone(), "TXT".into(), Some(60));
        let report = apply(Change { id: 1, name, rtype, ttl, edit, expect: None, owner: None, ext: Vec::new() })?;
        match report.outcomes.into_iter().next() {
            Some((_, Outcome::Applied(_) | Outcome::Unchanged(_))) => Ok(()),
            Some((_, Outcome::Failed(problem))) => Err(problem),
            Some((_, Outcome::Accepted(_))) => {
                Err(Problem::verify("not-done", "It was taken on and not done in time."))
            }
            _ => Err(Problem::retry("not-attempted", "There was no time to write the trial record.")),
        }
    };
    let told = match write(Edit::AddValues(vec![Value::new(text)])) {
        // All other problems say that nothing was written.
        Err(problem) if !matches!(problem.action, ProblemAction::Verify | ProblemAction::ReportBug) => {
            return Err(problem);
        }
        told => told,
    };
    told.and(write(Edit::RemoveValues(vec![text.into()])).map_err(|problem| {
        let message = format!("The trial record {name} may be left there. {}", problem.message);
        Problem { message, ..problem }
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn zone() -> ZoneRef {
        ZoneRef { id: "1".into(), name: "example.test.".into() }
    }

    fn lines(checks: &Checks) -> Vec<(&str, bool)> {
        checks.0.iter().map(|c| (c.step.as_str(), c.ok)).collect()
    }

    fn report(outcome: Outcome) -> Result<Report, Problem> {
        Ok(Report { outcomes: vec![(1, outcome)], version: None, calls: 1, ext: Vec::new() })
    }

    fn written(change: &Change) -> Outcome {
        let values = Vec::new();
        let (name, rtype) = (change.name.clone(), change.rtype.clone());
        Outcome::Applied(crate::dns::Rrset {
            name,
            rtype,
            ttl: None,
            values,
            owner: None,
            version: None,
            ext: Vec::new(),
        })
    }

    #[test]
    fn a_first_request_that_failed_names_its_step_and_what_was_well_before() {
        let tell = |problem: Problem| {
            let mut checks = Checks::default();
            checks.turned_away("The server", "The key is", &["privilege"], problem);
            lines(&checks).into_iter().map(|(step, ok)| format!("{step} {ok}")).collect::<Vec<_>>().join(", ")
        };
        let config = |code: &str| Problem::fix_config(code, "Why.");
        assert_eq!(tell(Problem::retry("resolve", "No such name.")), "dns false");
        assert_eq!(tell(Problem::retry("tls", "No TLS.")), "tls false");
        assert_eq!(tell(Problem::retry("connect", "Closed.")), "reach false");
        assert_eq!(tell(Problem::retry("server-error", "500").status(500)), "reach false");
        assert_eq!(tell(config("credentials").status(401)), "reach true, auth false");
        assert_eq!(tell(config("privilege").status(403)), "reach true, auth false");
        assert_eq!(tell(config("unknown-slot")), "auth false");
        assert_eq!(tell(config("zone-not-found")), "reach true, auth true, zone false");
    }

    #[test]
    fn a_trial_record_is_written_and_taken_away() {
        let mut asked = Vec::new();
        let mut checks = Checks::default();
        checks.trial(&zone(), "0f", |change| {
            let outcome = written(&change);
            asked.push(change);
            report(outcome)
        });
        assert_eq!(lines(&checks), [("write", true)]);
        assert!(asked.iter().all(|c| c.name == "_wharf-0f.example.test." && c.rtype == "TXT"));
        assert!(matches!(&[&asked[0].edit, &asked[1].edit], [Edit::AddValues(_), Edit::RemoveValues(_)]));
    }

    #[test]
    fn what_was_surely_not_written_is_not_taken_away_and_what_may_be_there_is() {
        for (problem, writes) in [
            (Problem::fix_config("privilege", "No."), 1),
            (Problem::retry("locked", "Later."), 1),
            (Problem::verify("timeout", "No answer."), 2),
            (Problem::report_bug("malformed-answer", "What?"), 2),
        ] {
            let mut count = 0;
            let mut checks = Checks::default();
            checks.trial(&zone(), "0f", |change| {
                count += 1;
                if count == 1 { report(Outcome::Failed(problem.clone())) } else { report(written(&change)) }
            });
            assert_eq!((lines(&checks), count), (vec![("write", false)], writes), "{problem:?}");
        }
    }

    #[test]
    fn a_trial_record_that_may_be_left_is_named() {
        let mut first = true;
        let mut checks = Checks::default();
        checks.trial(&zone(), "0f", |change| {
            let outcome = if first { written(&change) } else { Outcome::Accepted("7".into()) };
            first = false;
            report(outcome)
        });
        let last = checks.done().remove(0);
        assert!(!last.ok && last.detail.contains("_wharf-0f.example.test."), "{}", last.detail);
    }
}
