//! What came of the cases as the XML that CI systems read: one suite, a test case each, `failure` and `skipped` with their why.

use std::fmt::Write;

use wharf_conformance::{Report, Verdict};

/// The whole file.
pub fn xml(report: &Report) -> String {
    let (_, failed, others) = report.counts();
    let mut text = format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<testsuites>\n<testsuite name=\"{}\" tests=\"{}\" failures=\"{failed}\" skipped=\"{others}\">\n",
        escaped(&format!("{} {}", report.plugin, report.version)),
        report.results.len()
    );
    for result in &report.results {
        let name = escaped(&format!("{} {}", result.number, result.name));
        let head = format!(
            "<testcase classname=\"{}\" name=\"{name}\" time=\"{:.3}\"",
            result.badge.as_str(),
            result.took.as_secs_f64()
        );
        // Writing to a text can't fail.
        let _ = match &result.verdict {
            Verdict::Passed => writeln!(text, "{head}/>"),
            Verdict::Failed(why) => writeln!(text, "{head}><failure message=\"{}\"/></testcase>", escaped(why)),
            Verdict::NotApplicable(why) => writeln!(text, "{head}><skipped message=\"{}\"/></testcase>", escaped(why)),
        };
    }
    text.push_str("</testsuite>\n</testsuites>\n");
    text
}

fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '&' => out.push_str("&amp;"),
            '"' => out.push_str("&quot;"),
            '\n' => out.push_str("&#10;"),
            // XML 1.0 has no other control characters.
            c if c.is_control() => out.push(' '),
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use wharf_conformance::{Badge, CaseResult};

    use super::*;

    #[test]
    fn what_failed_and_what_does_not_apply_is_told_with_its_why() {
        let result = |number, verdict| CaseResult {
            number,
            name: "It is so",
            badge: Badge::Core,
            verdict,
            took: Duration::from_millis(1_500),
        };
        let report = Report {
            plugin: "p".into(),
            version: "1.0.0".into(),
            digest: "d".into(),
            results: vec![
                result(1, Verdict::Passed),
                result(2, Verdict::Failed("a \"<b>\" & c\n\u{7}".into())),
                result(3, Verdict::NotApplicable("no ids".into())),
            ],
        };
        let text = xml(&report);
        assert!(text.contains("tests=\"3\" failures=\"1\" skipped=\"1\""), "{text}");
        assert!(text.contains("name=\"1 It is so\" time=\"1.500\"/>"), "{text}");
        assert!(text.contains("<failure message=\"a &quot;&lt;b&gt;&quot; &amp; c&#10; \"/>"), "{text}");
        assert!(text.contains("<skipped message=\"no ids\"/>"), "{text}");
    }
}
