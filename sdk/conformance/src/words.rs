//! What was seen, in words.

use wharf_plugins::dns::{Outcome, Problem, ProblemAction, Report, Verdict};
use wharf_testkit::peer::Asked;

/// Requests that are named; more are counted.
const NAMED: usize = 8;

pub(crate) fn action(action: ProblemAction) -> &'static str {
    match action {
        ProblemAction::FixInput => "fix-input",
        ProblemAction::FixConfig => "fix-config",
        ProblemAction::Replan => "replan",
        ProblemAction::Wait => "wait",
        ProblemAction::Retry => "retry",
        ProblemAction::Verify => "verify",
        ProblemAction::ReportBug => "report-bug",
    }
}

pub(crate) fn problem(of: &Problem) -> String {
    format!("the problem `{}` `{}` ({})", action(of.action), of.code, of.message)
}

pub(crate) fn outcome(of: &Outcome) -> String {
    match of {
        Outcome::Applied(_) => "`applied`".into(),
        Outcome::Unchanged(_) => "`unchanged`".into(),
        Outcome::Accepted(id) => format!("`accepted` as {id}"),
        Outcome::Failed(p) => format!("`failed` with {}", problem(p)),
        Outcome::NotAttempted => "`not-attempted`".into(),
    }
}

/// What an `apply` of one change came to.
pub(crate) fn answer(of: &Result<Report, Problem>) -> String {
    match of {
        Err(p) => problem(p),
        Ok(report) => {
            let all: Vec<String> =
                report.outcomes.iter().take(NAMED).map(|(id, o)| format!("change {id} {}", outcome(o))).collect();
            all.join(", ")
        }
    }
}

pub(crate) fn verdict(of: &Verdict) -> String {
    match of {
        Verdict::Ok(_) => "`ok`".into(),
        Verdict::Adjusted(_, why) => format!("`adjusted` ({why})"),
        Verdict::Refused(p) => format!("`refused` with {}", problem(p)),
    }
}

/// Requests, shortly.
pub(crate) fn asked(log: &[Asked]) -> String {
    let one = |a: &Asked| {
        let status = a.status.map_or_else(|| "no answer".to_owned(), |s| s.to_string());
        format!("{} {} → {status}", a.request.method, a.request.path)
    };
    let mut all: Vec<String> = log.iter().take(NAMED).map(one).collect();
    if log.len() > NAMED {
        all.push(format!("and {} more", log.len() - NAMED));
    }
    if all.is_empty() { "no request".into() } else { all.join(", ") }
}

pub(crate) fn writes(log: &[Asked]) -> Vec<Asked> {
    log.iter().filter(|a| a.request.writes()).cloned().collect()
}
