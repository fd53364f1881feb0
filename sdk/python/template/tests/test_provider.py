import unittest

import work
from api import Api
from wharf_sdk import Problem
from wharf_sdk import types as t
from wharf_sdk.testing import Scripted

ZONE = t.ZoneRef("z1", "example.com.")


def api(script):
    return Api(script, "https://api.test/")


def holding(data):
    record = {"id": "r1", "name": "www.example.com", "type": "A", "data": data, "ttl": 600}
    return {"records": [record], "total": 1, "next_page": None}


def apply(script, data):
    change = t.Change(1, "www.example.com.", "A", 300, t.Edit_AddValues([t.Value(data)]))
    return work.apply(api(script), ZONE, [change], lambda: False).outcomes[0][1]


class Provider(unittest.TestCase):
    def test_a_value_is_added_beside_what_is_there(self):
        script = Scripted().answer(200, holding("192.0.2.1")).answer(201)
        outcome = apply(script, "192.0.2.2")
        self.assertIsInstance(outcome, t.Outcome_Applied)
        self.assertEqual(len(outcome.value.values), 2)
        records = "https://api.test/v1/zones/z1/records"
        self.assertEqual(script.lines(), [f"GET {records}", f"POST {records}"])

    def test_what_is_so_already_is_not_written(self):
        script = Scripted().answer(200, holding("192.0.2.1"))
        self.assertIsInstance(apply(script, "192.0.2.1"), t.Outcome_Unchanged)

    def test_a_refused_token_is_for_the_admin_and_asked_once(self):
        script = Scripted().answer(401, "no such token")
        with self.assertRaises(Problem) as caught:
            work.probe(api(script), ZONE.name)
        self.assertEqual((caught.exception.action, caught.exception.code), (t.Action.FIX_CONFIG, "credentials"))
        self.assertEqual(len(script.asked), 1)

    def test_a_list_that_lacks_something_is_not_complete(self):
        script = Scripted().answer(200, {"records": [], "total": 2, "next_page": None})
        self.assertFalse(work.read(api(script), ZONE, t.Selector_All()).complete)


if __name__ == "__main__":
    unittest.main()
