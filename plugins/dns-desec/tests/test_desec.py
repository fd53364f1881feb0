import json
import unittest

import normal
import work
from api import Api
from wharf_sdk import Problem
from wharf_sdk import types as t
from wharf_sdk.testing import Scripted

ZONE = t.ZoneRef("example.com", "example.com.")
BASE = "https://desec.test/api/v1/domains/example.com/"
NS = {"subname": "", "type": "NS", "ttl": 3600, "records": ["ns1.desec.io."]}


def api(script):
    return Api(script, "https://desec.test/api/v1/", "example.com")


def rrset(subname, *records, rtype="A", ttl=7200):
    return {"subname": subname, "type": rtype, "ttl": ttl, "records": list(records)}


def change(id, edit, name="www.example.com.", rtype="A", **more):
    return t.Change(id, name, rtype, 3600, edit, **more)


def add(id, data, **more):
    return change(id, t.Edit_AddValues([t.Value(data)]), **more)


def apply(script, *changes, minimum=3600, stop=lambda: False):
    report = work.apply(api(script), ZONE, list(changes), minimum, stop)
    return [outcome for _, outcome in report.outcomes]


def page(*rrsets, cursor=None):
    link = f'<{BASE}rrsets/?cursor=>; rel="first"'
    if cursor:
        link += f', <{BASE}rrsets/?cursor={cursor}>; rel="next"'
    return 200, list(rrsets), [("Link", link)]


PAGED = (400, {"detail": "Pagination required."}, [("Link", f'<{BASE}rrsets/?cursor=>; rel="first"')])


def about(touched, **more):
    return 200, {"name": "example.com", "minimum_ttl": 3600, "touched": touched, **more}


def script(*answers):
    made = Scripted()
    for answer in answers:
        made.answer(*answer)
    return made


class Writes(unittest.TestCase):
    def test_a_set_is_written_whole_with_the_values_and_the_ttl_of_others(self):
        asked = script((200, [rrset("www", "192.0.2.1")]), (200, []))
        outcome = apply(asked, add(1, "192.0.2.2"))[0]
        self.assertIsInstance(outcome, t.Outcome_Applied)
        self.assertEqual(asked.lines(), [f"GET {BASE}rrsets/", f"PATCH {BASE}rrsets/"])
        self.assertEqual(asked.asked[0].queries, [("subname", "www")])
        body = json.loads(asked.asked[1].body[1])
        self.assertEqual(body, [{"subname": "www", "type": "A", "records": ["192.0.2.1", "192.0.2.2"], "ttl": 7200}])
        self.assertEqual(asked.asked[1].headers, [("Authorization", "Token {{token}}")])

    def test_what_is_so_already_is_not_written(self):
        asked = script((200, [rrset("www", "192.0.2.1")]))
        self.assertIsInstance(apply(asked, add(1, "192.0.2.1"))[0], t.Outcome_Unchanged)

    def test_the_last_value_goes_with_its_set_and_all_of_a_batch_is_one_write(self):
        asked = script((200, [rrset("a", "192.0.2.1")]), (200, []), (200, []))
        gone = change(1, t.Edit_RemoveValues(["192.0.2.1"]), name="a.example.com.")
        outcomes = apply(asked, gone, add(2, "192.0.2.2", name="example.com."))
        self.assertTrue(all(isinstance(o, t.Outcome_Applied) for o in outcomes))
        body = json.loads(asked.asked[-1].body[1])
        self.assertEqual(body[0], {"subname": "a", "type": "A", "records": []})
        self.assertEqual((body[1]["subname"], body[1]["ttl"]), ("", 3600))

    def test_a_short_ttl_is_raised_to_the_domains_least(self):
        asked = script((200, []), (200, [NS]), (200, []))
        apply(asked, t.Change(1, "www.example.com.", "A", 60, t.Edit_AddValues([t.Value("192.0.2.1")])), minimum=900)
        self.assertEqual(json.loads(asked.asked[-1].body[1])[0]["ttl"], 900)

    def test_a_refused_part_is_told_apart_from_those_that_waited_for_it(self):
        errors = [{}, {"non_field_errors": ["RRset with conflicting type present: database (CNAME)."]}]
        asked = script((200, [NS]), (200, [NS]), (400, errors))
        first, second = apply(asked, add(1, "192.0.2.1", name="a.example.com."), add(2, "192.0.2.1", name="b.example.com."))
        self.assertIsInstance(first, t.Outcome_NotAttempted)
        self.assertEqual((second.value.action, second.value.code), (t.Action.FIX_INPUT, "refused"))
        self.assertIn("conflicting type", second.value.message)

    def test_a_refusal_without_a_place_is_that_of_all(self):
        asked = script((200, [NS]), (200, [NS]), (400, ["CNAME RRset cannot have multiple records."]))
        outcomes = apply(asked, add(1, "192.0.2.1", name="a.example.com."), add(2, "192.0.2.1", name="b.example.com."))
        self.assertEqual([o.value.action for o in outcomes], [t.Action.FIX_INPUT] * 2)

    def test_what_deSEC_does_not_take_is_not_sent_and_its_neighbours_are(self):
        asked = script((200, [NS]), (200, [NS]), (200, []))
        odd = add(1, "\\# 0", rtype="TYPE65280", name="a.example.com.")
        first, second = apply(asked, odd, add(2, "192.0.2.1", name="b.example.com."))
        self.assertEqual(first.value.code, "type")
        self.assertIsInstance(second, t.Outcome_Applied)
        self.assertEqual(len(json.loads(asked.asked[-1].body[1])), 1)

    def test_a_write_without_a_good_answer_is_looked_at_before_it_is_repeated(self):
        for answer in [(502, "<html>"), (500, "<h1>Server Error (500)</h1>"), (200, "<html>"), (200, "")]:
            outcome = apply(script((200, [rrset("www", "192.0.2.1")]), answer), add(1, "192.0.2.2"))[0]
            self.assertEqual(outcome.value.action, t.Action.VERIFY, answer)
        lost = script((200, [rrset("www", "192.0.2.1")])).lost(True, "timeout")
        self.assertEqual(apply(lost, add(1, "192.0.2.2"))[0].value.action, t.Action.VERIFY)

    def test_nothing_is_written_when_nobody_waits(self):
        asked = script((200, [rrset("www", "192.0.2.1")]))
        stops = iter([False, True])
        outcome = apply(asked, add(1, "192.0.2.2"), stop=lambda: next(stops))[0]
        self.assertIsInstance(outcome, t.Outcome_NotAttempted)
        self.assertEqual(len(asked.asked), 1)

    def test_doubled_ids_are_refused_before_any_request(self):
        asked = script()
        with self.assertRaises(Problem):
            apply(asked, add(1, "192.0.2.1"), add(1, "192.0.2.2"))
        self.assertEqual(asked.asked, [])

    def test_more_than_a_request_may_hold_goes_in_several(self):
        many = [rrset(f"n{n}", "192.0.2.1") for n in range(600)]
        asked = script((200, [NS, *many]), (200, []), (200, []))
        changes = [change(n, t.Edit_Delete(), name=f"n{n}.example.com.") for n in range(600)]
        outcomes = apply(asked, *changes)
        self.assertTrue(all(isinstance(o, t.Outcome_Applied) for o in outcomes))
        self.assertEqual([len(json.loads(a.body[1])) for a in asked.asked[1:]], [500, 100])


class Reads(unittest.TestCase):
    def read(self, asked, what=t.Selector_All()):
        return work.read(api(asked), ZONE, what, lambda: False)

    def test_a_small_zone_is_one_request(self):
        found = self.read(script((200, [NS, rrset("www", "192.0.2.1"), rrset("", "192.0.2.9")])))
        self.assertEqual([s.name for s in found.rrsets], ["example.com.", "www.example.com.", "example.com."])
        self.assertEqual((found.complete, found.calls), (True, 1))

    def test_pages_are_read_to_the_end_by_their_cursor_and_never_by_the_servers_address(self):
        asked = script(PAGED, about("1"), page(NS, cursor="c1%3D"), page(rrset("www", "192.0.2.1")), about("1"))
        found = self.read(asked)
        self.assertEqual((len(found.rrsets), found.complete, found.calls), (2, True, 5))
        self.assertEqual([a.queries for a in asked.asked if a.queries], [[("cursor", "")], [("cursor", "c1=")]])

    def test_a_zone_that_was_changed_while_it_was_read_is_not_complete(self):
        asked = script(PAGED, about("1"), page(NS, cursor="c1"), page(rrset("www", "192.0.2.1")), about("2"))
        self.assertFalse(self.read(asked).complete)

    def test_a_page_that_names_itself_again_is_given_up(self):
        asked = script(PAGED, about("1"), page(NS, cursor="c1"), page(NS, cursor="c1"))
        self.assertFalse(self.read(asked).complete)

    def test_a_name_that_is_not_there_is_believed_of_a_server_that_shows_the_ns(self):
        keys = t.Selector_Keys([("new.example.com.", "A")])
        found = self.read(script((200, []), (200, [NS])), keys)
        self.assertEqual((found.rrsets, found.complete, found.calls), ([], True, 2))
        with self.assertRaises(Problem) as caught:
            self.read(script((200, []), (200, []), (200, [])), keys)
        self.assertEqual(caught.exception.code, "empty-zone")

    def test_answers_that_are_none_are_bugs(self):
        for body in ["null", "{}", "<html>", "", '[{"subname": "a"}]', "[1]"]:
            with self.assertRaises(Problem) as caught:
                self.read(script((200, body)))
            self.assertEqual(caught.exception.action, t.Action.REPORT_BUG, body)

    def test_each_refusal_says_what_to_do(self):
        for status, headers, action, code, after in [
            (401, [], t.Action.FIX_CONFIG, "credentials", None),
            (403, [], t.Action.FIX_CONFIG, "privilege", None),
            (404, [], t.Action.FIX_CONFIG, "zone-not-found", None),
            (429, [("Retry-After", "59")], t.Action.WAIT, "rate-limited", 59_000),
            (429, [], t.Action.WAIT, "rate-limited", None),
            (503, [], t.Action.RETRY, "server-error", None),
            (301, [], t.Action.FIX_CONFIG, "redirect", None),
        ]:
            asked = script((status, {"detail": "No."}, headers))
            with self.assertRaises(Problem) as caught:
                self.read(asked)
            p = caught.exception
            self.assertEqual((p.action, p.code, p.retry_after_ms, p.http_status), (action, code, after, status))
            self.assertEqual(len(asked.asked), 1)


class Zones(unittest.TestCase):
    def test_the_least_ttl_is_the_domains_own(self):
        probed = work.probe(api(script(about("1", minimum_ttl=60))), "example.com.")
        self.assertEqual((probed.info.ttl_min, probed.info.ttl_max, probed.info.ttl_default), (60, 86_400, 3_600))
        self.assertEqual(normal.learnt(probed.can.ext), 60)

    def test_another_zone_than_the_settings_name_is_not_asked_for(self):
        asked = script()
        with self.assertRaises(Problem) as caught:
            work.probe(api(asked), "other.com.")
        self.assertEqual((caught.exception.code, asked.asked), ("zone-not-found", []))

    def test_a_trial_record_is_written_and_taken_away(self):
        here = [rrset("_wharf-ab", '"trial"', rtype="TXT")]
        asked = script(about("1"), (200, [NS]), (200, []), (200, [NS]), (200, here), (200, here), (200, []))
        checks = work.test(api(asked), "example.com.", True, "ab")
        self.assertEqual([(c.step, c.ok) for c in checks], [(s, True) for s in ("reach", "auth", "zone", "read", "write")])
        self.assertEqual([json.loads(a.body[1])[0]["records"] for a in asked.asked if a.body], [['"trial"'], []])

    def test_wrong_credentials_are_asked_once(self):
        asked = script((401, {"detail": "Invalid token."}))
        checks = work.test(api(asked), "example.com.", True, "ab")
        self.assertEqual([(c.step, c.ok) for c in checks], [("reach", True), ("auth", False)])
        self.assertEqual(len(asked.asked), 1)


class Normal(unittest.TestCase):
    def judge(self, name, rtype, ttl, *values):
        rrset = t.Rrset(name, rtype, ttl, [t.Value(v) for v in values])
        return normal.verdict(normal.capabilities(3_600), "example.com.", rrset)

    def test_what_is_canonical_is_ok_as_it_is(self):
        for good in [
            ("*.example.com.", "A", 3600, "192.0.2.1"),
            ("example.com.", "MX", 86_400, "10 mx.example.com."),
            ("_x.example.com.", "TXT", None, '"a" "b\\195\\188"'),
        ]:
            self.assertIsInstance(self.judge(*good), t.Verdict_Ok, good)

    def test_spelling_ttl_and_doubles_are_adjusted_with_reasons(self):
        set, why = self.judge("WWW.example.com", "txt", 60, "plain", '"plain"').value
        self.assertEqual((set.name, set.rtype, set.ttl, [v.data for v in set.values]), ("www.example.com.", "TXT", 3600, ['"plain"']))
        for word in ("lower case", "3600 to 86400", "once", "stored as"):
            self.assertIn(word, why)

    def test_what_deSEC_does_not_take_is_refused(self):
        long = ".".join(["b" * 60] * 3) + ".example.com."
        for bad, code in [
            (("a.example.org.", "A", 3600, "192.0.2.1"), "out-of-zone"),
            (("a/b.example.com.", "A", 3600, "192.0.2.1"), "name"),
            ((long, "A", 3600, "192.0.2.1"), "name"),
            (("a.*.example.com.", "A", 3600, "192.0.2.1"), "name"),
            (("example.com.", "CNAME", 3600, "a.test."), "name"),
            (("a.example.com.", "CNAME", 3600, "a.test.", "b.test."), "values"),
            (("a.example.com.", "A", 3600, "2001:db8::1"), "value"),
            (("a.example.com.", "MX", 3600, "mx.test."), "value"),
            (("a.example.com.", "TXT", 3600, '"open'), "value"),
            (("a.example.com.", "SRV", 3600, "1 2 3 a."), "type"),
        ]:
            verdict = self.judge(*bad)
            self.assertIsInstance(verdict, t.Verdict_Refused, bad)
            self.assertEqual(verdict.value.code, code, bad)

    def test_text_has_strings_of_255_octets_with_escapes(self):
        for given, stored in [('"a\\"b\\\\"', '"a\\"b\\\\"'), ("ü", '"\\195\\188"'), ('"\\a\\013"', '"a\\013"')]:
            self.assertEqual(normal.quoted(given), stored)
        self.assertEqual(normal.quoted(f'"{"x" * 300}"'), f'"{"x" * 255}" "{"x" * 45}"')


if __name__ == "__main__":
    unittest.main()
