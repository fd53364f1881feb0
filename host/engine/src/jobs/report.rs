//! What a job found that does not agree with the books: kept as its last result, told once as an event.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use wharf_model::{
    Millis,
    event::NewEvent,
    service::{Service, ServiceId},
};
use wharf_store::queue::subject;

use super::{Found, JobError};

/// As many findings are kept; of more, only their number. A cluster with so many has one cause for all.
pub const MOST: usize = 500;

/// One thing that does not agree.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// Stable kebab-case.
    pub kind: String,
    pub server: String,
    pub vmid: Option<u32>,
    pub service: Option<ServiceId>,
    /// The service as `panel:ref`.
    pub subject: Option<String>,
    /// What it is and what to do, in a sentence.
    pub text: String,
    /// When it was found first.
    pub since_ms: Millis,
}

impl Finding {
    pub fn new(kind: &str, server: &str, vmid: Option<u32>, service: Option<&Service>, text: String) -> Self {
        Self {
            kind: kind.into(),
            server: server.into(),
            vmid,
            service: service.map(|s| s.id),
            subject: service.map(subject),
            text,
            since_ms: 0,
        }
    }

    /// The same thing found again is no news, however it is worded.
    fn key(&self) -> (&str, &str, Option<u32>, Option<ServiceId>) {
        (&self.kind, &self.server, self.vmid, self.service)
    }
}

/// The result of a job that compares.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Report {
    /// Guests or services that were looked at, by server.
    pub looked_at: BTreeMap<String, u64>,
    /// Servers that were not, and why: what was found there before stands.
    pub skipped: BTreeMap<String, String>,
    /// Guests that could not be looked at closer in this run.
    pub unread: u64,
    /// Where the next run goes on, if this one could not look at all.
    pub next: Option<ServiceId>,
    pub findings: Vec<Finding>,
    /// Findings beyond those that are listed.
    pub more: u64,
}

impl Report {
    /// What the last good run said. A result of another version of the host is as good as none.
    pub fn before(result: Option<Value>) -> Self {
        result.and_then(|r| serde_json::from_value(r).ok()).unwrap_or_default()
    }

    /// Puts what was found beside what stood before, and says what of it is new. `stands` = of a finding from before: it was
    /// not looked at again.
    pub fn settle(
        mut self,
        before: Self,
        stands: impl Fn(&Finding) -> bool,
        event: &str,
        now: Millis,
    ) -> Result<Found, JobError> {
        for finding in &mut self.findings {
            let known = before.findings.iter().find(|b| b.key() == finding.key());
            finding.since_ms = known.map_or(now, |b| b.since_ms);
        }
        let again: Vec<Finding> = before.findings.iter().filter(|b| stands(b)).cloned().collect();
        for finding in again {
            if !self.findings.iter().any(|f| f.key() == finding.key()) {
                self.findings.push(finding);
            }
        }
        // Those that are known come first: what is cut off has never been told of.
        self.findings.sort_by(|a, b| (a.since_ms, a.key()).cmp(&(b.since_ms, b.key())));
        self.more = u64::try_from(self.findings.len().saturating_sub(MOST)).unwrap_or(u64::MAX);
        self.findings.truncate(MOST);
        let new = self.findings.iter().filter(|f| !before.findings.iter().any(|b| b.key() == f.key()));
        let events = new.map(|f| told(f, event)).collect();
        Ok(Found { result: serde_json::to_value(&self)?, events })
    }
}

/// For admins only: it may name what no panel should hear of.
fn told(finding: &Finding, kind: &str) -> NewEvent {
    NewEvent {
        kind: kind.into(),
        service_id: finding.service,
        panel: None,
        subject: finding.subject.clone().unwrap_or_else(|| format!("server/{}", finding.server)),
        generation: 0,
        data: serde_json::json!({
            "kind": finding.kind,
            "server": finding.server,
            "vmid": finding.vmid,
            "service": finding.service,
            "text": finding.text,
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(server: &str, vmid: u32) -> Finding {
        Finding::new("unowned-vm", server, Some(vmid), None, format!("VM {vmid}"))
    }

    fn report(findings: Vec<Finding>) -> Report {
        Report { findings, ..Report::default() }
    }

    fn read(found: &Found) -> Report {
        Report::before(Some(found.result.clone()))
    }

    #[test]
    fn a_finding_is_news_once_and_keeps_the_time_when_it_was_found_first() {
        let first = report(vec![found("a", 1)]).settle(Report::default(), |_| false, "orphan.found", 10).unwrap();
        assert_eq!(first.events.len(), 1);
        assert_eq!(first.events[0].data["vmid"], 1);
        let again =
            report(vec![found("a", 2), found("a", 1)]).settle(read(&first), |_| false, "orphan.found", 20).unwrap();
        assert_eq!(again.events.iter().map(|e| e.data["vmid"].clone()).collect::<Vec<_>>(), [2]);
        let since: Vec<_> = read(&again).findings.iter().map(|f| (f.vmid, f.since_ms)).collect();
        assert_eq!(since, [(Some(1), 10), (Some(2), 20)]);
        let gone = report(vec![found("a", 2)]).settle(read(&again), |_| false, "orphan.found", 30).unwrap();
        assert!(gone.events.is_empty());
        let back = report(vec![found("a", 1)]).settle(read(&gone), |_| false, "orphan.found", 40).unwrap();
        assert_eq!(back.events.len(), 1, "what was gone and is back is news");
    }

    #[test]
    fn what_was_not_looked_at_stands() {
        let before = report(vec![found("a", 1), found("b", 2)]);
        let after = report(vec![]).settle(before, |f| f.server == "b", "orphan.found", 10).unwrap();
        assert!(after.events.is_empty());
        assert_eq!(read(&after).findings.iter().map(|f| f.vmid).collect::<Vec<_>>(), [Some(2)]);
    }

    #[test]
    fn a_report_is_bounded_and_tells_of_the_rest_when_there_is_room() {
        let most = u32::try_from(MOST).unwrap();
        let many: Vec<_> = (0..most + 7).map(|n| found("a", n)).collect();
        let first = report(many.clone()).settle(Report::default(), |_| false, "orphan.found", 10).unwrap();
        assert_eq!((read(&first).findings.len(), read(&first).more, first.events.len()), (MOST, 7, MOST));
        let again = report(many.clone()).settle(read(&first), |_| false, "orphan.found", 20).unwrap();
        assert_eq!((read(&again).more, again.events.len()), (7, 0));
        let fewer = many.into_iter().skip(10).collect();
        let room = report(fewer).settle(read(&again), |_| false, "orphan.found", 30).unwrap();
        assert_eq!((read(&room).more, room.events.len()), (0, 7));
    }
}
