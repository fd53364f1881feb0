"""A DNS provider for Wharf. `api` speaks to the API, `work` says what has to be sent; this file joins both to the contract
(wit/deps/dns/dns.wit has every word of it).

The host plans, matches zones, waits and repeats. A provider translates: it reads, applies a batch once, and maps each error to
what the host must do about it. A `Problem` that is raised is the answer.
"""

import work
from api import Api
from wharf_sdk import Problem
from wharf_sdk.host import Host, entropy, export_provider


def _api(call):
    url = call.config("server-url")
    if not url:
        raise Problem.fix_config("server-url", "The setting `server-url` is missing: enter the API's address.")
    return Api(Host(), url)


class _Provider:
    def normalize(self, can, zone, sets):
        return [work.verdict(can, zone, s) for s in sets]

    def probe(self, call, zone):
        return work.probe(_api(call), zone)

    def test_connection(self, call, zone, try_write):
        # A name that nobody has.
        return work.test(_api(call), zone, try_write, entropy.fresh(6).hex())

    def list_zones(self, call):
        return [work.zone_ref(z) for z in _api(call).zones()]

    def read(self, call, zone, what):
        return work.read(_api(call), zone, what)

    def apply(self, call, zone, batch):
        # Time to write down what was done, before the host ends the call.
        return work.apply(_api(call), zone, batch, lambda: call.cancelled() or call.deadline_ms() < 2000)

    def poll(self, call, zone, operation):
        raise Problem.report_bug("not-asynchronous", "This provider never takes a change on for later.")


Provider = export_provider(_Provider())
