import json
import unittest

from pdns import Api
from wharf_sdk import types as t
from wharf_sdk.testing import Scripted


class Provider(unittest.TestCase):
    def test_values_of_others_and_disabled_ones_are_written_as_they_stand(self):
        records = [{"content": "192.0.2.1", "disabled": False}, {"content": "192.0.2.9", "disabled": True}]
        rrsets = [{"name": "www.example.com.", "type": "A", "ttl": 600, "records": records}]
        script = Scripted().answer(200, {"rrsets": rrsets}).answer(204)
        change = t.Change(1, "www.example.com.", "A", 300, t.Edit_AddValues([t.Value("192.0.2.2")]))
        zone = t.ZoneRef("example.com.", "example.com.")
        report = Api(script, "https://pdns.test/", "localhost").apply(zone, [change])
        self.assertIsInstance(report.outcomes[0][1], t.Outcome_Applied)
        sent = json.loads(script.asked[1].body[1])["rrsets"][0]
        new = {"content": "192.0.2.2", "disabled": False}
        self.assertEqual((sent["ttl"], sent["records"]), (600, [*records, new]))


if __name__ == "__main__":
    unittest.main()
