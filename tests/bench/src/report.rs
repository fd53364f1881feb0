//! The table: Markdown for people, JSON beside it for comparing runs.

use std::fmt::Write;

use serde::Serialize;

use crate::{machine::Machine, stats::time};

/// One line of a figure.
#[derive(Debug, Clone, Serialize)]
pub struct Row {
    pub what: String,
    /// As a person reads it.
    pub measured: String,
    /// The number itself, in `unit`.
    pub number: f64,
    pub unit: &'static str,
    /// In words; empty = there is none.
    pub goal: String,
    /// None where there is no goal.
    pub met: Option<bool>,
    pub remark: String,
}

impl Row {
    /// A time in microseconds.
    pub fn time(what: impl Into<String>, us: f64) -> Self {
        Self::new(what, time(us), us, "µs")
    }

    pub fn count(what: impl Into<String>, n: usize) -> Self {
        #[allow(clippy::cast_precision_loss, reason = "counts are small")]
        let number = n as f64;
        Self::new(what, n.to_string(), number, "")
    }

    pub fn mib(what: impl Into<String>, mib: f64) -> Self {
        Self::new(what, format!("{mib:.0} MiB"), mib, "MiB")
    }

    /// A share, 0 to 1.
    pub fn share(what: impl Into<String>, share: f64) -> Self {
        Self::new(what, format!("{:.1} %", share * 100.0), share, "share")
    }

    /// So many times as much as something else.
    pub fn ratio(what: impl Into<String>, ratio: f64) -> Self {
        let text = if ratio < 0.1 { format!("{ratio:.4} ×") } else { format!("{ratio:.1} ×") };
        Self::new(what, text, ratio, "×")
    }

    /// Something that could not be had here.
    pub fn missing(what: impl Into<String>, why: impl Into<String>) -> Self {
        Self::new(what, "not measured".into(), f64::NAN, "").remark(why)
    }

    pub fn new(what: impl Into<String>, measured: String, number: f64, unit: &'static str) -> Self {
        Self { what: what.into(), measured, number, unit, goal: String::new(), met: None, remark: String::new() }
    }

    /// Has to be below.
    pub fn below(mut self, limit: f64, goal: impl Into<String>) -> Self {
        self.goal = goal.into();
        self.met = Some(self.number < limit);
        self
    }

    /// Has to be at most.
    pub fn at_most(mut self, limit: f64, goal: impl Into<String>) -> Self {
        self.goal = goal.into();
        self.met = Some(self.number <= limit);
        self
    }

    pub fn remark(mut self, text: impl Into<String>) -> Self {
        self.remark = text.into();
        self
    }
}

/// What one figure gave.
#[derive(Debug, Clone, Serialize)]
pub struct Section {
    pub name: &'static str,
    pub title: &'static str,
    pub seconds: f64,
    pub rows: Vec<Row>,
    /// Why it gave nothing.
    pub failure: Option<String>,
}

/// A whole run.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    pub size: String,
    pub machine: Machine,
    pub sections: Vec<Section>,
}

impl Report {
    pub fn markdown(&self) -> String {
        let mut out = String::new();
        let m = &self.machine;
        let fsync = format!("p50 {}, p99 {}", time(m.fsync_p50_us), time(m.fsync_p99_us));
        for (what, value) in [
            ("machine", format!("{}, {} cores, {} MiB, Linux {}", m.cpu, m.cores, m.memory_mib, m.kernel)),
            ("data folder", format!("{}; append of 4 KiB with fsync: {fsync}", m.data_folder)),
            ("load average", format!("{} before, {} after", m.load_before, m.load_after)),
            ("run", format!("{}, commit {}, {}", self.size, m.commit, m.date)),
        ] {
            let _ = writeln!(out, "* {what}: {value}");
        }
        for section in &self.sections {
            let _ = writeln!(out, "\n### {} (`{}`, {:.0} s)\n", section.title, section.name, section.seconds);
            if let Some(why) = &section.failure {
                let _ = writeln!(out, "**Failed:** {}\n", cell(why));
            }
            if section.rows.is_empty() {
                continue;
            }
            out.push_str("| | measured | goal | |\n|---|---:|---|---|\n");
            for row in &section.rows {
                let goal = match row.met {
                    None => row.goal.clone(),
                    Some(true) => format!("{}: met", row.goal),
                    Some(false) => format!("{}: **missed**", row.goal),
                };
                let _ = writeln!(
                    out,
                    "| {} | {} | {} | {} |",
                    cell(&row.what),
                    cell(&row.measured),
                    cell(&goal),
                    cell(&row.remark)
                );
            }
        }
        out
    }
}

/// Text in a cell: one line, no bars.
fn cell(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ").replace('|', "\\|")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_goal_is_told_as_met_or_missed() {
        assert_eq!(Row::time("x", 9_000.0).below(10_000.0, "< 10 ms").met, Some(true));
        assert_eq!(Row::count("x", 9).at_most(8.0, "≤ 8").met, Some(false));
        assert_eq!(cell("a|b\n c"), "a\\|b c");
    }
}
