"""It reads a zone whole before each write, so that other people's values and disabled ones survive, and sends one PATCH."""

from wharf_sdk import Problem, names
from wharf_sdk import types as t
from wharf_sdk.batch import WRITTEN, Batch, Held, HeldSet
from wharf_sdk.http import HttpFailure, Request


class Api:
    def __init__(self, transport, url, server):
        self.transport = transport
        self.base = f"{url.rstrip('/')}/api/v1/servers/{server}/zones"
        self.calls = 0

    def send(self, request, write=False):
        self.calls += 1
        try:
            response = self.transport.send(request.header("X-API-Key", "{{api-key}}"))
        except HttpFailure as failure:
            raise Problem.from_http(failure, write) from None
        said = response.excerpt(300)
        match response.status:
            case 401 | 403:
                problem = Problem.fix_config("credentials", f"The key was refused: {said}")
            case 404:
                problem = Problem.fix_config("zone-not-found", "The server has no such zone.")
            case 422:
                problem = Problem.fix_input("refused", said)
            case status if status >= 500:
                problem = Problem.retry("server-error", said)
            case _ if response.is_success():
                return response
            case _:
                problem = Problem.report_bug("unexpected-status", said)
        raise problem.status(response.status)

    def zones(self, name=None):
        request = Request.get(self.base)
        return self.send(request if name is None else request.query("zone", name)).json()

    def probe(self, zone):
        found = next((z for z in self.zones(zone) if names.same_name(z["name"], zone)), None)
        if found is None:
            raise Problem.fix_config("zone-not-found", f"The server has no zone {zone}")
        writable = found["kind"] not in ("Slave", "Secondary", "Consumer")
        info = t.ZoneInfo(t.ZoneRef(found["id"], found["name"]), writable, str(found["serial"]))
        return t.Probed(info, t.Capabilities(["A", "AAAA", "PTR"], max_changes=100, atomic=True))

    def sets(self, zone):
        rrsets = self.send(Request.get(f"{self.base}/{zone.id}")).json()["rrsets"]

        def held(s):
            return [Held(r["content"], s["ttl"], hidden=r["disabled"]) for r in s["records"]]

        return [HeldSet(s["name"], s["type"], held(s)) for s in rrsets]

    def read(self, zone, what):
        def wanted(s):
            if isinstance(what, t.Selector_Keys):
                return any(r == s.rtype and names.same_name(n, s.name) for n, r in what.value)
            return not isinstance(what, t.Selector_Below) or names.is_within(s.name, what.value)

        rrsets = [s.rrset() for s in self.sets(zone) if wanted(s)]
        return t.Snapshot([s for s in rrsets if s], True, calls=self.calls)

    def apply(self, zone, changes):
        batch = Batch(zone.name, self.sets(zone), changes)
        patches = []
        for work in batch.changed():
            ttl = work.ttl() or next((h.ttl for h in work.now), 3600)
            records = [{"content": h.data, "disabled": h.hidden} for h in work.now]
            patch = {"name": work.name, "type": work.rtype, "ttl": ttl, "changetype": "REPLACE", "records": records}
            patches.append(patch)
        if patches:
            self.send(Request("PATCH", f"{self.base}/{zone.id}").json({"rrsets": patches}), True)
        return t.Report(batch.outcomes(lambda work: WRITTEN), calls=self.calls)
