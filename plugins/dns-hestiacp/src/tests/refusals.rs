//! What goes wrong, and what is made of it.

use super::*;

fn one() -> [Change; 1] {
    [change(1, A, "A", add(&["192.0.2.3"]))]
}

fn told(problem: &Problem) -> (ProblemAction, &str) {
    (problem.action, problem.code.as_str())
}

const CONFIG: ProblemAction = ProblemAction::FixConfig;

#[test]
fn wrong_credentials_cost_exactly_one_request() {
    for login in [By::AccessKey, By::Password, By::KeyFile] {
        for step in 0..4 {
            let mut world = world_by(login);
            // The host has secrets that were changed at HestiaCP.
            world.known = Some(world.hestia.settings(""));
            world.hestia.secret_key = "-".repeat(40);
            world.hestia.password = "changed".into();
            world.hestia.key_file = "changed".into();
            let problem = match step {
                0 => world.with(|api| work::probe(api, ZONE)).unwrap_err(),
                1 => world.with(|api| work::read(api, &zone(), &Selector::All)).unwrap_err(),
                2 => world.try_apply(&one()).unwrap_err(),
                _ => {
                    let checks = world.with(|api| work::test(api, Some(ZONE), true, "0f"));
                    assert_eq!(
                        checks.iter().map(|c| (c.step.as_str(), c.ok)).collect::<Vec<_>>(),
                        [("reach", true), ("auth", false)]
                    );
                    Problem::fix_config("credentials", "")
                }
            };
            assert_eq!(told(&problem), (CONFIG, "credentials"), "{login:?}");
            assert_eq!(world.log.len(), 1);
        }
    }
}

#[test]
fn what_the_key_may_not_do_is_told_once_and_names_the_remedy() {
    let mut world = world();
    world.hestia.permissions.remove("v-add-dns-record");
    let report = world.apply(&[change(1, A, "A", add(&["192.0.2.3"])), change(2, A, "AAAA", add(&["2001:db8::1"]))]);
    assert_eq!(told(problem(&report, 0)), (CONFIG, "privilege"));
    assert_eq!(problem(&report, 0).provider_code.as_deref(), Some("10"));
    assert_eq!(report.outcomes[1].1, Outcome::NotAttempted);
    assert_eq!(world.commands(), ["v-list-dns-records", "v-add-dns-record"], "one failed login and no more");
}

#[test]
fn a_switched_off_api_a_refused_address_and_an_unknown_user_are_told_apart() {
    for login in [By::AccessKey, By::KeyFile] {
        let mut off = world_by(login);
        off.hestia.is_on = false;
        assert_eq!(told(&off.try_apply(&one()).unwrap_err()), (CONFIG, "switched-off"));
        let mut strange = world_by(login);
        strange.hestia.admits_address = false;
        assert_eq!(told(&strange.try_apply(&one()).unwrap_err()), (CONFIG, "address-not-allowed"));
    }
    let mut other = world_by(By::Password);
    other.hestia.user = "else".into();
    assert_eq!(told(&other.try_apply(&one()).unwrap_err()), (CONFIG, "user-not-found"));
}

#[test]
fn a_suspended_domain_answers_401_and_is_still_no_matter_of_credentials() {
    for login in [By::AccessKey, By::Password] {
        let mut world = world_by(login);
        world.model.zone_mut(ZONE).unwrap().writable = false;
        let report = world.apply(&one());
        assert_eq!(told(problem(&report, 0)), (CONFIG, "suspended"));
        let status = if login == By::AccessKey { 401 } else { 200 };
        assert_eq!(problem(&report, 0).http_status, Some(status));
        assert!(!world.with(|api| work::probe(api, ZONE)).unwrap().info.writable);
        let checks = world.with(|api| work::test(api, Some(ZONE), true, "0f"));
        assert!(checks.last().unwrap().detail.contains("suspended"));
    }
}

#[test]
fn a_copy_of_another_servers_domain_is_not_writable() {
    let mut world = world();
    world.hestia.source = "ns1.panel.test".into();
    let info = world.with(|api| work::probe(api, ZONE)).unwrap().info;
    assert_eq!((info.writable, ext_get(&info.ext, "source")), (false, Some("ns1.panel.test")));
    let checks = world.with(|api| work::test(api, Some(ZONE), true, "0f"));
    let last = checks.last().unwrap();
    assert!(last.step == "zone" && last.detail.contains("ns1.panel.test"), "{last:?}");
    assert!(world.writes().is_empty());
}

#[test]
fn a_cname_beside_others_is_not_written_though_hestiacp_would_take_it() {
    let mut world = world();
    world.apply(&one());
    let name = "b.example.test.";
    let report =
        world.apply(&[change(1, A, "CNAME", add(&["c.example.test."])), change(2, name, "A", add(&["192.0.2.4"]))]);
    assert_eq!(told(problem(&report, 0)), (ProblemAction::FixInput, "conflict"));
    assert!(matches!(report.outcomes[1].1, Outcome::Applied(_)), "its neighbour goes on: {report:?}");
    let room = world.apply(&[change(1, A, "CNAME", add(&["c.example.test."])), change(2, A, "A", Edit::Delete)]);
    assert!(room.outcomes.iter().all(|(_, o)| matches!(o, Outcome::Applied(_))), "{room:?}");
}

#[test]
fn a_full_package_stops_what_comes_after_what_went() {
    for login in [By::AccessKey, By::KeyFile] {
        let mut world = world_by(login).with_record("20", A, "A", "192.0.2.1");
        let zone = world.model.zone_mut(ZONE).unwrap();
        zone.records_max = Some(zone.records.len() - 1);
        let name = |n: u32| format!("v{n}.example.test.");
        let mut batch = vec![change(9, A, "A", Edit::Delete)];
        batch.extend((1..=3).map(|n| change(n, &name(n), "A", add(&["192.0.2.3"]))));
        let report = world.apply(&batch);
        assert!(is_applied(&report, 0), "{report:?}");
        assert_eq!(told(problem(&report, 1)), (CONFIG, "quota"));
        assert_eq!((&report.outcomes[2].1, &report.outcomes[3].1), (&Outcome::NotAttempted, &Outcome::NotAttempted));
        assert_eq!(world.writes().len(), 2);
    }
}

#[test]
fn an_unknown_zone_is_named_and_one_that_hestiacp_could_not_hold_is_not_asked_for() {
    for login in [By::AccessKey, By::Password, By::KeyFile] {
        let mut world = world_by(login);
        let missing = world.with(|api| work::probe(api, "notexample.test.")).unwrap_err();
        assert_eq!(told(&missing), (CONFIG, "zone-not-found"));
        world.log.clear();
        for name in ["64/26.2.0.192.in-addr.arpa.", "_tcp.example.test."] {
            let refused = world.with(|api| work::probe(api, name)).unwrap_err();
            assert_eq!(told(&refused), (CONFIG, "zone-name"));
        }
        assert!(world.log.is_empty());
        world.hestia.new_zone(&mut world.model, "64-26.2.0.192.in-addr.arpa.", 0);
        assert!(world.with(|api| work::probe(api, "64-26.2.0.192.in-addr.arpa.")).is_ok());
    }
}

#[test]
fn a_list_that_cant_be_read_is_a_bug_and_never_an_empty_zone() {
    let answer = |status: u16, text: &str| {
        let headers = vec![("Hestia-Exit-Code".to_owned(), "0".to_owned())];
        Some(Ok(Response { status, headers, text: text.into() }))
    };
    for text in
        ["", "{\n}", "{\n    \"7\": {\n        \"RECORD\": \"a", "<html>", "[]", "OK", "Error: something", "null"]
    {
        let mut world = world().with_record("20", A, "A", "192.0.2.1");
        world.faults = [answer(if text.is_empty() { 204 } else { 200 }, text)].into();
        let found = world.try_apply(&[change(1, A, "A", Edit::Delete)]).unwrap_err();
        assert_eq!(told(&found), (ProblemAction::ReportBug, "malformed-answer"), "{text}");
        world.faults = [answer(200, text)].into();
        let found = world.with(|api| work::read(api, &zone(), &Selector::All)).unwrap_err();
        assert_eq!(found.action, ProblemAction::ReportBug, "{text}");
        assert_eq!(world.data(A, "A"), ["192.0.2.1"]);
    }
    // What the shell does not escape.
    let mut world = world().with_record("20", "x.example.test.", "TXT", "\"a\u{1}b\"");
    assert_eq!(world.try_apply(&one()).unwrap_err().action, ProblemAction::ReportBug);
    // Without an access key a command that does not exist answers 200 and OK.
    let mut legacy = world_by(By::KeyFile);
    legacy.faults = [Some(Ok(Response { status: 200, text: "OK".into(), ..Response::default() }))].into();
    assert_eq!(legacy.try_apply(&one()).unwrap_err().action, ProblemAction::ReportBug);
}

#[test]
fn a_write_without_an_answer_is_to_be_verified_and_its_repetition_makes_no_double() {
    let batch = [change(1, A, "A", add(&["192.0.2.3"])), change(2, A, "AAAA", add(&["2001:db8::1"]))];
    let mut world = world();
    world.lost = vec![2];
    let report = world.apply(&batch);
    assert_eq!(problem(&report, 0).action, ProblemAction::Verify);
    assert_eq!(report.outcomes[1].1, Outcome::NotAttempted, "the server may still be at the first");
    assert_eq!(world.commands(), ["v-list-dns-records", "v-add-dns-record"]);
    world.lost.clear();
    let again = world.apply(&batch);
    assert!(matches!(again.outcomes[0].1, Outcome::Unchanged(_)) && is_applied(&again, 1), "{again:?}");
    assert_eq!(world.model.zone(ZONE).unwrap().of(A, "A").count(), 1);
}

#[test]
fn an_exit_code_of_zero_is_not_believed_when_the_line_is_not_there() {
    let mut world = world();
    world.before("v-list-dns-records", 2, |model| records(model).retain(|r| r.name != A));
    let report =
        world.apply(&[change(1, A, "A", add(&["192.0.2.3"])), change(2, "b.example.test.", "A", add(&["192.0.2.4"]))]);
    assert_eq!(told(problem(&report, 0)), (ProblemAction::Verify, "not-as-said"));
    assert!(is_applied(&report, 1));
}

#[test]
fn what_was_written_in_spite_of_a_refusal_is_there() {
    let headers = vec![("Hestia-Exit-Code".to_owned(), "2".to_owned())];
    let refused = Response { status: 422, headers, text: "Error: 20".into() };
    let mut world = world();
    world.faults = [None, Some(Ok(refused.clone()))].into();
    world.before("v-list-dns-records", 2, |model| {
        records(model).push(Record::new(A, "A", "192.0.2.3", 300));
        wharf_testkit::facades::hestiacp::number(model);
    });
    assert!(is_applied(&world.apply(&one()), 0));
    let mut other = self::world();
    other.faults = [None, Some(Ok(refused))].into();
    assert_eq!(told(problem(&other.apply(&one()), 0)), (ProblemAction::FixInput, "refused"));
}

#[test]
fn a_name_server_without_an_address_is_told_as_that() {
    for login in [By::AccessKey, By::Password] {
        let mut world = world_by(login);
        let report = world.apply(&[change(1, "sub.example.test.", "NS", add(&["ns.sub.example.test."]))]);
        assert_eq!(told(problem(&report, 0)), (ProblemAction::FixInput, "no-glue"));
    }
}

#[test]
fn answers_that_are_not_hestiacps_have_their_meaning() {
    use ProblemAction as P;
    let cases = [
        (502, "<html>", P::Retry, P::Verify),
        (504, "<html>", P::Retry, P::Verify),
        (500, "oops", P::Retry, P::Verify),
        (503, "<html>", P::Retry, P::Retry),
        (429, "", P::Wait, P::Wait),
        (302, "", P::FixConfig, P::FixConfig),
        (403, "banned", P::FixConfig, P::FixConfig),
        (404, "<html>", P::FixConfig, P::FixConfig),
        (418, "", P::ReportBug, P::Verify),
    ];
    for login in [By::AccessKey, By::KeyFile] {
        for (status, text, on_read, on_write) in cases {
            let headers = vec![("Retry-After".to_owned(), "7".to_owned())];
            let answer = Some(Ok(Response { status, headers, text: text.into() }));
            let mut world = world_by(login);
            world.faults = [answer.clone()].into();
            let read = world.try_apply(&one()).unwrap_err();
            assert_eq!((read.action, read.http_status), (on_read, Some(status)));
            let mut world = world_by(login);
            world.faults = [None, answer].into();
            let report = world.apply(&one());
            assert_eq!(problem(&report, 0).action, on_write, "{status}");
            if status == 429 {
                assert_eq!(problem(&report, 0).retry_after_ms, Some(7_000));
            }
        }
    }
    // 200 without the header, or without a number: somebody else's page.
    for login in [By::AccessKey, By::KeyFile] {
        let mut world = world_by(login);
        let page = Response { status: 200, text: "<html>login".into(), ..Response::default() };
        world.faults = [None, Some(Ok(page))].into();
        assert_eq!(problem(&world.apply(&one()), 0).action, P::Verify);
    }
}

#[test]
fn each_exit_code_has_its_meaning() {
    use ProblemAction as P;
    for (exit, action) in [
        (1, P::ReportBug),
        (2, P::FixInput),
        (3, P::FixConfig),
        (4, P::Replan),
        (5, P::FixConfig),
        (8, P::FixConfig),
        (9, P::FixConfig),
        (10, P::FixConfig),
        (11, P::FixConfig),
        (12, P::ReportBug),
        (14, P::Retry),
        (15, P::Retry),
        (17, P::Retry),
        (20, P::Retry),
        (21, P::FixConfig),
        (99, P::ReportBug),
    ] {
        let headers = vec![("Hestia-Exit-Code".to_owned(), exit.to_string())];
        let keyed = Response { status: 400, headers, text: "Error: something".into() };
        let bare = Response { status: 200, text: exit.to_string(), ..Response::default() };
        for (login, response) in [(By::AccessKey, keyed), (By::Password, bare)] {
            let mut world = world_by(login);
            world.faults = [None, Some(Ok(response))].into();
            let report = world.apply(&one());
            let found = problem(&report, 0);
            assert_eq!((found.action, found.provider_code.as_deref()), (action, Some(exit.to_string().as_str())));
        }
    }
}

#[test]
fn a_password_or_a_key_file_does_what_an_access_key_does() {
    for login in [By::Password, By::KeyFile] {
        let mut world = world_by(login).with_record("20", A, "A", "192.0.2.1");
        let report =
            world.apply(&[change(1, A, "A", replace(&["192.0.2.2"])), change(2, A, "AAAA", add(&["2001:db8::1"]))]);
        assert!(is_applied(&report, 0) && is_applied(&report, 1), "{report:?}");
        assert!(is_applied(&world.apply(&[change(1, A, "A", Edit::Delete)]), 0));
        assert!(world.data(A, "A").is_empty());
        for fields in &world.log {
            assert_eq!(fields.contains_key("returncode"), !fields["cmd"].contains("-list-"), "{fields:?}");
        }
    }
    let mut keyed = world();
    keyed.apply(&one());
    assert!(keyed.log.iter().all(|fields| !fields.contains_key("returncode")), "it would cost the text");
}
