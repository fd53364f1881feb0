//! What came of the cases: as text for people, as JSON for programs.
//!
//! The JSON's shape is stable; more keys may come, none goes:
//!
//! ```json
//! {"format": 1, "plugin": {"id": "…", "version": "…", "digest": "…"}, "badge": "core" | "hosting" | "scale" | null,
//!  "counts": {"passed": 0, "failed": 0, "not-applicable": 0},
//!  "cases": [{"number": 1, "name": "…", "badge": "core", "result": "passed" | "failed" | "not-applicable",
//!             "why": "…" | null, "took_ms": 3}]}
//! ```

use std::{fmt, time::Duration};

use serde_json::{Value, json};

use crate::case::{Badge, Verdict};

/// What became of one case.
#[derive(Debug, Clone)]
pub struct Result {
    pub number: u8,
    pub name: &'static str,
    pub badge: Badge,
    pub verdict: Verdict,
    pub took: Duration,
}

/// What became of all.
#[derive(Debug, Clone)]
pub struct Report {
    pub plugin: String,
    pub version: String,
    /// SHA-256 of the component.
    pub digest: String,
    pub results: Vec<Result>,
}

impl Report {
    /// The highest badge that is had: something of it passed, and nothing of it or below failed.
    pub fn badge(&self) -> Option<Badge> {
        let had = |badge: &Badge| {
            let some = self.results.iter().any(|r| r.badge == *badge && r.verdict.is_passed());
            some && !self.failed().any(|r| r.badge <= *badge)
        };
        [Badge::Scale, Badge::Hosting, Badge::Core].into_iter().find(had)
    }

    pub fn failed(&self) -> impl Iterator<Item = &Result> {
        self.results.iter().filter(|r| r.verdict.is_failed())
    }

    /// How many passed, failed, and did not apply.
    pub fn counts(&self) -> (usize, usize, usize) {
        let count = |of: &dyn Fn(&Verdict) -> bool| self.results.iter().filter(|r| of(&r.verdict)).count();
        let passed = count(&|v| v.is_passed());
        let failed = count(&|v| v.is_failed());
        (passed, failed, self.results.len() - passed - failed)
    }

    /// In the stable shape.
    pub fn to_json(&self) -> Value {
        let (passed, failed, others) = self.counts();
        let cases: Vec<Value> = self.results.iter().map(Result::to_json).collect();
        json!({
            "format": 1,
            "plugin": {"id": self.plugin, "version": self.version, "digest": self.digest},
            "badge": self.badge(),
            "counts": {"passed": passed, "failed": failed, "not-applicable": others},
            "cases": cases,
        })
    }
}

impl Result {
    fn to_json(&self) -> Value {
        let (result, why) = match &self.verdict {
            Verdict::Passed => ("passed", None),
            Verdict::Failed(why) => ("failed", Some(why)),
            Verdict::NotApplicable(why) => ("not-applicable", Some(why)),
        };
        json!({"number": self.number, "name": self.name, "badge": self.badge, "result": result, "why": why,
            "took_ms": u64::try_from(self.took.as_millis()).unwrap_or(u64::MAX)})
    }
}

impl fmt::Display for Result {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (sign, why) = match &self.verdict {
            Verdict::Passed => ("ok", None),
            Verdict::Failed(why) => ("FAILED", Some(why)),
            Verdict::NotApplicable(why) => ("-", Some(why)),
        };
        write!(f, "{:>3}  {:<8}{sign:<7} {}", self.number, self.badge.as_str(), self.name)?;
        why.map_or(Ok(()), |why| write!(f, "\n{:20}{why}", ""))
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{} {}", self.plugin, self.version)?;
        for result in &self.results {
            writeln!(f, "{result}")?;
        }
        let (passed, failed, others) = self.counts();
        let badge = self.badge().map_or("none", Badge::as_str);
        write!(f, "badge: {badge}; {passed} passed, {failed} failed, {others} do not apply")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(verdicts: &[(u8, Badge, Verdict)]) -> Report {
        let result = |(number, badge, verdict): &(u8, Badge, Verdict)| Result {
            number: *number,
            name: "It is so.",
            badge: *badge,
            verdict: verdict.clone(),
            took: Duration::ZERO,
        };
        Report {
            plugin: "p".into(),
            version: "1.0.0".into(),
            digest: "d".into(),
            results: verdicts.iter().map(result).collect(),
        }
    }

    #[test]
    fn a_badge_is_had_when_nothing_of_it_and_below_failed() {
        let ok = |n: u8, badge: Badge| (n, badge, Verdict::Passed);
        let bad = |n: u8, badge: Badge| (n, badge, Verdict::Failed("why".into()));
        assert_eq!(
            report(&[ok(1, Badge::Core), ok(2, Badge::Hosting), ok(3, Badge::Scale)]).badge(),
            Some(Badge::Scale)
        );
        assert_eq!(
            report(&[ok(1, Badge::Core), ok(2, Badge::Hosting), bad(3, Badge::Scale)]).badge(),
            Some(Badge::Hosting)
        );
        assert_eq!(
            report(&[ok(1, Badge::Core), bad(2, Badge::Hosting), ok(3, Badge::Scale)]).badge(),
            Some(Badge::Core)
        );
        assert_eq!(report(&[bad(1, Badge::Core), ok(2, Badge::Hosting)]).badge(), None);
        assert_eq!(report(&[]).badge(), None);
    }

    #[test]
    fn what_does_not_apply_is_told_with_its_reason_and_is_not_counted_as_passed() {
        let report =
            report(&[(1, Badge::Core, Verdict::NotApplicable("the provider does not declare `atomic`".into()))]);
        assert_eq!(report.counts(), (0, 0, 1));
        assert!(report.to_string().contains("does not declare `atomic`"));
        let json = report.to_json();
        assert_eq!(json["cases"][0]["result"], "not-applicable");
        assert_eq!(json["badge"], Value::Null);
    }
}
