"""A throw-away PowerDNS provider in Python: proves that the contract can be spoken from here, by the SDK."""

from pdns import Api
from wharf_sdk import Problem
from wharf_sdk.host import Host, export_provider
from wharf_sdk.types import Check, Verdict_Ok, ZoneRef


def _api(call):
    url = call.config("server-url")
    if not url:
        raise Problem.fix_config("server-url", "The setting `server-url` is missing.")
    return Api(Host(), url, call.config("server-id") or "localhost")


class _Provider:
    def normalize(self, can, zone, sets):
        return [Verdict_Ok(s) for s in sets]

    def probe(self, call, zone):
        return _api(call).probe(zone)

    def test_connection(self, call, zone, try_write):
        _api(call).zones(zone or "example.")
        return [Check("auth", True, "The key is accepted.")]

    def list_zones(self, call):
        return [ZoneRef(z["id"], z["name"]) for z in _api(call).zones()]

    def read(self, call, zone, what):
        return _api(call).read(zone, what)

    def apply(self, call, zone, batch):
        return _api(call).apply(zone, batch)

    def poll(self, call, zone, operation):
        raise Problem.report_bug("not-asynchronous", "Nothing is ever taken on for later.")


Provider = export_provider(_Provider())
