"""deSEC, by its API v1: forward and reverse zones.

A batch is one bulk write that deSEC does whole or not at all, because writes are what it allows least of: 300 a day in a domain. An
RRset is written whole; the values of others in it are read right before and written as they stand, with their TTL.
"""

import normal
import work
from api import Api
from wharf_sdk import Problem
from wharf_sdk.host import Host, entropy, export_provider

URL = "https://desec.io/api/v1"
# A call that has less left makes no further request.
LEAST_MS = 2_000


def _api(call):
    domain = call.config("domain")
    if not domain:
        raise Problem.fix_config("domain", "The setting `domain` is missing: enter the zone's name at deSEC.")
    return Api(Host(), call.config("server-url") or URL, domain)


def _stop(call):
    return lambda: call.cancelled() or call.deadline_ms() < LEAST_MS


class _Provider:
    def normalize(self, can, zone, sets):
        return [normal.verdict(can, zone, s) for s in sets]

    def probe(self, call, zone):
        return work.probe(_api(call), zone)

    def test_connection(self, call, zone, try_write):
        return work.test(_api(call), zone, try_write, bytes(entropy.fresh(6)).hex())

    def list_zones(self, call):
        return work.zones(_api(call), _stop(call))

    def read(self, call, zone, what):
        return work.read(_api(call), zone, what, _stop(call))

    def apply(self, call, zone, batch):
        minimum = normal.learnt([(normal.TTL_MIN_KEY, call.learnt(normal.TTL_MIN_KEY) or "")])
        return work.apply(_api(call), zone, batch, minimum, _stop(call))

    def poll(self, call, zone, operation):
        raise Problem.report_bug("not-asynchronous", "deSEC never takes a change on for later.")


Provider = export_provider(_Provider())
