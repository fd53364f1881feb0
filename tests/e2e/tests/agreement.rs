//! The same requests to pve-sim and to fakepve: where they agree, where they differ, and who is right.
//!
//! `docs/second-opinion.md` shows the answers as they were seen by this test; it fails when they change, when a difference
//! has no explanation, and when an explained difference is gone.

use crate::opinions::pair::Pair;
use crate::opinions::questions::{Step, steps};
use crate::opinions::{committed, table};
use wharf_e2e::opinions::{Answer, Asked};

#[tokio::test]
async fn both_clusters_answer_alike_or_the_difference_is_explained() {
    let pair = Pair::start().await;
    let (mut rows, mut wrong, mut alike) = (Vec::new(), Vec::new(), 0);
    for step in steps() {
        let question = match step {
            Step::Sim(condition) => {
                pair.condition(condition).await;
                continue;
            }
            Step::Fake(what, args, kwargs) => {
                pair.fakepve.call(what, args, kwargs).await.unwrap();
                continue;
            }
            Step::Ask(question) => question,
        };
        let asked = Asked {
            method: question.method,
            path: question.path,
            params: &question.params,
            token: question.token,
            body: question.body,
        };
        let sim = pair.sim.ask(asked).await.unwrap_or_else(|e| panic!("pve-sim, {}: {e:#}", question.what));
        let fake = pair.fake.ask(asked).await.unwrap_or_else(|e| panic!("fakepve, {}: {e:#}", question.what));
        let (mut own, mut theirs) = (sim.tell(question.show), fake.tell(question.show));
        // Of data only what the host reads is simulated by us: that has to be there in both, and of the same type.
        let lacks = if question.show.is_empty() { sim.lacks(&fake).unwrap_or_default() } else { Vec::new() };
        if !lacks.is_empty() {
            theirs = format!("data, but {}", lacks.join("; "));
        }
        if own == "data"
            && let Answer::Data(data) = &sim
        {
            own = describe(data);
            if theirs == "data" {
                theirs.clone_from(&own);
            }
        }
        let same = own == theirs;
        alike += usize::from(same);
        let (right, why) = match (&question.verdict, same) {
            (None, true) => ("", String::new()),
            (Some((right, why)), false) => (right.word(), (*why).to_owned()),
            (None, false) => {
                wrong.push(format!(
                    "{} is answered differently, and nothing says why:\n  {own}\n  {theirs}",
                    question.what
                ));
                ("", String::new())
            }
            (Some(_), true) => {
                wrong.push(format!("{} is answered alike now: {own}", question.what));
                ("", String::new())
            }
        };
        let theirs = if same { "the same".to_owned() } else { theirs };
        rows.push(vec![question.what.to_owned(), own, theirs, right.to_owned(), why]);
    }
    println!("{alike} of {} answers are alike", rows.len());
    for row in &rows {
        println!("{}", row.join(" | "));
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    let head = ["request", "pve-sim", "fakepve", "who is right", "why"];
    committed("answers", &format!("{alike} of {} answers are alike.\n\n{}", rows.len(), table(&head, &rows)));
}

/// Data in a table.
fn describe(data: &serde_json::Value) -> String {
    match data {
        serde_json::Value::Null => "null".into(),
        serde_json::Value::Array(rows) => format!("{} rows", rows.len()),
        _ => "data".into(),
    }
}
