"""A throw-away PowerDNS provider in Python: proves that the contract can be spoken from here.

It reads a zone whole before each write, so that other people's values and disabled ones survive, and sends one PATCH.
Every export passes through `guarded`, because a stray exception would end the call without a text.
"""

import functools
import json

from componentize_py_types import Err
from wit_world import exports
from wit_world.exports import provider as p
from wit_world.imports import client, zones as z


class Trouble(Exception):
    """Carries a problem to the outermost frame; `Err` itself is frozen and breaks in a `with`."""

    def __init__(self, action, code, message, status=None):
        super().__init__(message)
        self.problem = z.Problem(action, code, message, None, status, None, [])


def guarded(export):
    @functools.wraps(export)
    def call(*args):
        try:
            return export(*args)
        except Trouble as trouble:
            problem = trouble.problem
        except Exception as error:  # whatever it is, its text must get out
            text = f"{type(error).__name__}: {error}"
            problem = z.Problem(z.Action.REPORT_BUG, "guest-exception", text, None, None, None, [])
        raise Err(problem)

    return call


class Api:
    def __init__(self, call):
        url = call.config("server-url")
        if not url:
            raise Trouble(z.Action.FIX_CONFIG, "server-url", "The setting `server-url` is missing.")
        self.base = f"{url.rstrip('/')}/api/v1/servers/{call.config('server-id') or 'localhost'}/zones"
        self.calls = 0

    def send(self, method, path, query=(), body=None):
        self.calls += 1
        with client.Outbound(method, self.base + path) as request:
            request.header("X-API-Key", "{{api-key}}")
            for name, value in query:
                request.query(name, value)
            if body is not None:
                request.body_text("application/json", json.dumps(body))
            try:
                reply = request.send()
            except Err as error:
                failure = error.value
                lost = body is not None and failure.sent == client.Sent.MAYBE_SENT
                action = z.Action.VERIFY if lost else z.Action.RETRY
                raise Trouble(action, failure.code, failure.message) from None
        with reply:
            status, text = reply.status(), reply.text()
        if status in (401, 403):
            raise Trouble(z.Action.FIX_CONFIG, "credentials", f"The key was refused: {text[:200]}", status)
        if status == 404:
            raise Trouble(z.Action.FIX_CONFIG, "zone-not-found", "The server has no such zone.", status)
        if status == 422:
            raise Trouble(z.Action.FIX_INPUT, "refused", text[:300], status)
        if status >= 500:
            raise Trouble(z.Action.RETRY, "server-error", text[:300], status)
        if not 200 <= status < 300:
            raise Trouble(z.Action.REPORT_BUG, "unexpected-status", f"{status}: {text[:300]}", status)
        return json.loads(text) if text else None

    def sets(self, zone):
        return {(s["name"], s["type"]): s for s in self.send("GET", "/" + zone.id)["rrsets"]}


def visible(name, rtype, ttl, records):
    values = [z.Value(r["content"], None, []) for r in records if not r.get("disabled")]
    return z.Rrset(name, rtype, ttl, values, None, None, [])


def edited(records, edit):
    """Records after an edit, or None when nothing changes. Disabled ones stay."""
    live = [r["content"] for r in records if not r.get("disabled")]
    off = [r for r in records if r.get("disabled")]
    match edit:
        case p.Edit_AddValues(values):
            wanted = live + [v.data for v in values if v.data not in live]
        case p.Edit_RemoveValues(values):
            wanted = [data for data in live if data not in values]
        case p.Edit_Replace(values):
            wanted = [v.data for v in values]
        case _:
            wanted = []
    if set(wanted) == set(live):
        return None
    return [{"content": data, "disabled": False} for data in wanted] + off


class Provider(exports.Provider):
    def normalize(self, can, zone, sets):
        return [p.Verdict_Ok(s) for s in sets]

    @guarded
    def probe(self, call, zone):
        found = [x for x in Api(call).send("GET", "", [("zone", zone)]) if x["name"] == zone]
        if not found:
            raise Trouble(z.Action.FIX_CONFIG, "zone-not-found", f"The server has no zone {zone}")
        one = found[0]
        ref = z.ZoneRef(one["id"], one["name"])
        writable = one["kind"] not in ("Slave", "Secondary", "Consumer")
        info = z.ZoneInfo(ref, writable, str(one["serial"]), None, None, None, None, None, [])
        types = ["A", "AAAA", "PTR"]
        can = p.Capabilities(types, 0, 100, True, False, False, False, False, 0, 1, 1, False, False, [])
        return p.Probed(info, can)

    def test_connection(self, call, zone, try_write):
        try:
            Api(call).send("GET", "", [("zone", zone or "example.")])
            return [p.Check("auth", True, "The key is accepted.", [])]
        except Exception as error:
            return [p.Check("reach", False, str(error), [])]

    @guarded
    def list_zones(self, call):
        return [z.ZoneRef(x["id"], x["name"]) for x in Api(call).send("GET", "")]

    @guarded
    def read(self, call, zone, what):
        api = Api(call)
        sets = api.sets(zone).values()
        match what:
            case p.Selector_Keys(keys):
                sets = [s for s in sets if (s["name"], s["type"]) in keys]
            case p.Selector_Below(name):
                sets = [s for s in sets if s["name"] == name or s["name"].endswith("." + name)]
        shown = [visible(s["name"], s["type"], s["ttl"], s["records"]) for s in sets]
        return p.Snapshot([s for s in shown if s.values], True, None, api.calls, [])

    @guarded
    def apply(self, call, zone, batch):
        api = Api(call)
        present = api.sets(zone)
        outcomes, patches = [], []
        for change in batch:
            key = (change.name, change.rtype)
            old = present.get(key, {"records": [], "ttl": change.ttl or 3600})
            live = {r["content"] for r in old["records"] if not r.get("disabled")}
            if change.expect is not None and set(change.expect) != live:
                problem = z.Problem(z.Action.REPLAN, "changed", "The set has changed.", None, None, None, [])
                outcomes.append((change.id, p.Outcome_Failed(problem)))
                continue
            records = edited(old["records"], change.edit)
            if records is None:
                shown = visible(*key, old["ttl"], old["records"])
                outcomes.append((change.id, p.Outcome_Unchanged(shown)))
                continue
            patch = {"name": key[0], "type": key[1], "ttl": old["ttl"], "changetype": "REPLACE", "records": records}
            patches.append(patch)
            outcomes.append((change.id, p.Outcome_Applied(visible(*key, old["ttl"], records))))
        if patches:
            patches.sort(key=lambda patch: bool(patch["records"]))
            api.send("PATCH", "/" + zone.id, body={"rrsets": patches})
        return p.Report(outcomes, None, api.calls, [])

    @guarded
    def poll(self, call, zone, operation):
        raise Trouble(z.Action.REPORT_BUG, "not-asynchronous", "Nothing is ever taken on for later.")
