"""The vectors of names are those of sdk/rust/src/names.rs."""

import unittest

from wharf_sdk import Problem, guard, names, types
from wharf_sdk.batch import WRITTEN, Batch, Held, HeldSet, Ttls, names_of
from wharf_sdk.http import HttpFailure, Request, Response
from wharf_sdk.testing import Scripted

Refused = names.Refused


class Names(unittest.TestCase):
    def test_a_suffix_counts_only_at_a_label_boundary(self):
        self.assertFalse(names.is_within("notexample.com.", "example.com."))
        self.assertTrue(names.is_within("a.EXAMPLE.com", "example.com."))
        self.assertTrue(names.is_within("example.com.", "example.com"))
        self.assertTrue(names.is_within("anything.", "."))
        self.assertFalse(names.is_within("com.", "example.com."))
        self.assertIsNone(names.relative("notexample.com", "example.com"))
        self.assertEqual(names.relative("example.com.", "example.com"), "@")
        self.assertEqual(names.relative("a.b.example.com.", "example.com"), "a.b")

    def test_an_escaped_dot_does_not_end_a_label(self):
        self.assertEqual(names.labels(r"a\.b.example."), [r"a\.b", "example"])
        self.assertFalse(names.is_within(r"x\.example.com.", "example.com."))

    def test_the_longest_zone_wins(self):
        self.assertEqual(names.longest_match("x.a.test.", ["test.", "a.test.", "b.test."]), "a.test.")
        self.assertIsNone(names.longest_match("x.org.", ["test."]))

    def test_reverse_names_have_four_octets_or_thirty_two_nibbles(self):
        self.assertEqual(names.reverse_name("192.0.2.7"), "7.2.0.192.in-addr.arpa.")
        name = "1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.b.d.0.1.0.0.2.ip6.arpa."
        self.assertEqual(names.reverse_name("2001:db8::1"), name)
        self.assertEqual(names.reverse_name("::"), "0." * 32 + "ip6.arpa.")

    def test_a_reverse_name_gives_its_address_back(self):
        for text in ["192.0.2.7", "0.0.0.0", "2001:db8::1", "::", "fe80::dead:beef"]:
            self.assertEqual(names.reverse_address(names.reverse_name(text)), text)
        for name in [
            "2.0.192.in-addr.arpa.",
            "70.64/26.2.0.192.in-addr.arpa.",
            "07.2.0.192.in-addr.arpa.",
            "arpa.",
            ".",
        ]:
            self.assertIsNone(names.reverse_address(name), name)

    def test_labels_and_names_are_measured(self):
        self.assertTrue(names.canonical("a" * 63 + ".test"))
        with self.assertRaisesRegex(Refused, "63"):
            names.canonical("a" * 64 + ".test")
        long = ".".join(["a" * 63, "b" * 63, "c" * 63, "d" * 61])
        self.assertEqual(len(long), 253)
        self.assertTrue(names.canonical(long))
        for bad in [long + "e", "a..b"]:
            with self.assertRaises(Refused):
                names.canonical(bad)
        self.assertEqual(names.canonical("_Dmarc.*.Test"), "_dmarc.*.test.")
        self.assertEqual(names.canonical("64/26.2.0.192.in-addr.arpa"), "64/26.2.0.192.in-addr.arpa.")

    def test_values_take_their_canonical_form(self):
        self.assertEqual(names.canonical_data("AAAA", "2001:DB8:0:0::1"), "2001:db8::1")
        self.assertEqual(names.canonical_data("PTR", "VM1.Example.Test"), "vm1.example.test.")
        for rtype, data in [("A", "192.0.2.256"), ("AAAA", "::ffff:192.0.2.1"), ("AAAA", "fe80::1%eth0")]:
            with self.assertRaises(Refused):
                names.canonical_data(rtype, data)
        self.assertEqual(names.canonical_data("TYPE65", " 1 . alpn=h2 "), "1 . alpn=h2")
        self.assertTrue(names.same_data("PTR", "A.test.", "a.test"))
        self.assertFalse(names.same_data("TXT", '"A"', '"a"'))


class Http(unittest.TestCase):
    def test_a_write_that_may_have_arrived_is_verified_before_it_is_repeated(self):
        def action(maybe, code, write):
            return Problem.from_http(HttpFailure(maybe, code, "It broke."), write).action

        self.assertEqual(action(True, "timeout", True), types.Action.VERIFY)
        self.assertEqual(action(True, "timeout", False), types.Action.RETRY)
        self.assertEqual(action(False, "connect", True), types.Action.RETRY)
        self.assertEqual(action(False, "address-refused", True), types.Action.FIX_CONFIG)

    def test_an_answer_is_read_and_its_beginning_fits_a_message(self):
        response = Response(429, [("Retry-After", "7")], "ä\n b" * 50)
        self.assertEqual((response.retry_after_ms(), response.excerpt(5)), (7000, "ä bä …"))
        now = ("Date", "Sat, 28 Feb 2026 23:59:30 GMT")

        def after(text, *others):
            return Response(429, [("retry-after", text), *others], "").retry_after_ms()

        self.assertEqual(after("Sun, 01 Mar 2026 00:00:00 GMT", now), 30_000)
        self.assertEqual(after("Fri, 27 Feb 2026 00:00:00 GMT", now), 0)
        for text in ("Wed, 21 Oct", "99999999999", "-1", "2026-03-01", "", "Sun, 01 Mar 0000 00:00:00 GMT"):
            self.assertIsNone(after(text, now), text)
        self.assertIsNone(after("Sun, 01 Mar 2026 00:00:00 GMT"))
        signs = Request.get("https://x/").basic("Aladdin", "password").signs
        self.assertEqual(signs, [("password", "basic", "Authorization", b"Aladdin")])
        self.assertEqual(Request("POST", "https://x/").form("a", 1).form("b", 2).body, [("a", "1"), ("b", "2")])

    def test_a_script_answers_in_order(self):
        script = Scripted().answer(200, {"a": 1}).lost(True, "timeout")
        self.assertEqual(script.send(Request.get("https://a.test/x")).json()["a"], 1)
        with self.assertRaises(HttpFailure):
            script.send(Request("PUT", "https://a.test/y"))
        self.assertEqual(script.lines(), ["GET https://a.test/x", "PUT https://a.test/y"])

    def test_a_stray_exception_is_a_line_in_the_log_and_a_problem(self):
        log = []
        try:
            {}["x"]
        except KeyError as error:
            problem = guard.problem_of(error, log.append)
        self.assertEqual((problem.action, problem.code), (types.Action.REPORT_BUG, "guest-exception"))
        self.assertIn("test_sdk.py", log[0])
        self.assertEqual(guard.checks(Problem.retry("a", "b"), log.append)[0].ok, False)
        self.assertEqual(len(guard.verdicts(ValueError("x"), [1, 2], log.append)), 2)


ZONE = "example.test."


def held(id, data, **more):
    return Held(data, 600, id, **more)


def held_set(*values):
    return HeldSet("vm.example.test", "A", list(values))


def change(id, edit, name="vm.example.test.", **more):
    return types.Change(id, name, "A", 300, edit, **more)


def add(data):
    return types.Edit_AddValues([types.Value(data)])


class Batches(unittest.TestCase):
    def test_a_value_that_comes_leaves_its_neighbours_and_takes_their_ttl(self):
        batch = Batch(ZONE, [held_set(held("1", "192.0.2.1"))], [change(7, add("192.0.2.2"))])
        [work] = batch.changed()
        self.assertEqual(work.come(), [Held("192.0.2.2", 600)])
        self.assertEqual((work.gone(), work.retimed()), ([], []))
        [(id, outcome)] = batch.outcomes(lambda _: WRITTEN)
        self.assertEqual((id, type(outcome), len(outcome.value.values)), (7, types.Outcome_Applied, 2))

    def test_what_is_so_already_needs_no_write(self):
        batch = Batch(ZONE, [held_set(held("1", "192.0.2.1"))], [change(1, add("192.0.2.1"))])
        self.assertEqual(batch.changed(), [])
        self.assertIsInstance(batch.outcomes(lambda _: self.fail("asked"))[0][1], types.Outcome_Unchanged)

    def test_every_copy_of_a_value_goes_and_nothing_else(self):
        there = held_set(held("1", "192.0.2.1"), held("2", "192.0.2.1"), held("3", "192.0.2.9"))
        batch = Batch(ZONE, [there], [change(1, types.Edit_RemoveValues(["192.0.2.1"]))])
        self.assertEqual([h.id for h in batch.changed()[0].gone()], ["1", "2"])

    def test_a_replaced_set_gets_its_ttl_and_keeps_the_ids_of_what_stays(self):
        there = held_set(held("1", "192.0.2.1"), held("2", "192.0.2.2"))
        wanted = types.Edit_Replace([types.Value("192.0.2.2"), types.Value("192.0.2.3")])
        [work] = Batch(ZONE, [there], [change(1, wanted)]).changed()
        self.assertEqual([h.id for h in work.gone()], ["1"])
        self.assertEqual([(h.id, h.ttl) for h in work.retimed()], [("2", 300)])
        self.assertEqual([h.data for h in work.come()], ["192.0.2.3"])

    def test_what_is_hidden_is_neither_lost_nor_adopted(self):
        there = [held_set(held("1", "192.0.2.1", hidden=True), held("2", "192.0.2.2"))]
        emptied = Batch(ZONE, there, [change(1, types.Edit_Delete())])
        self.assertEqual([h.id for h in emptied.changed()[0].gone()], ["2"])
        [(_, outcome)] = Batch(ZONE, there, [change(1, add("192.0.2.1"))]).outcomes(lambda _: WRITTEN)
        self.assertEqual(outcome.value.code, "value-disabled")

    def test_a_change_that_expects_something_else_writes_nothing_and_its_neighbours_go_on(self):
        changes = [
            change(1, add("192.0.2.2"), expect=["192.0.2.7"]),
            change(2, add("192.0.2.3"), "b.example.test."),
            change(3, add("192.0.2.3"), "b.notexample.test."),
            change(4, add("192.0.2.300"), "c.example.test."),
        ]
        batch = Batch(ZONE, [held_set(held("1", "192.0.2.1"))], changes)
        self.assertEqual(len(batch.changed()), 1)
        outcomes = [o for _, o in batch.outcomes(lambda _: WRITTEN)]
        self.assertEqual([outcomes[i].value.code for i in (0, 2, 3)], ["changed", "out-of-zone", "value"])
        self.assertIsInstance(outcomes[1], types.Outcome_Applied)
        self.assertEqual(names_of(ZONE, changes), ["b.example.test.", "c.example.test.", "vm.example.test."])

    def test_two_changes_of_one_id_are_refused_whole_and_a_ttl_is_brought_within_its_bounds(self):
        with self.assertRaises(Problem):
            Batch(ZONE, [], [change(1, add("192.0.2.1")), change(1, types.Edit_Delete())])
        ttls = Ttls(min=60, max=86400)
        self.assertEqual([ttls.fit(t) for t in (1, 300, 2**32 - 1, None)], [60, 300, 86400, None])


if __name__ == "__main__":
    unittest.main()
