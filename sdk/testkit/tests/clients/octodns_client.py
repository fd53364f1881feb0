"""octoDNS against an API: what it can't do, or reads back in another way than it wrote it, ends this with a traceback.

Arguments: the API's name, its address, the zone's settings as JSON (those of Wharf's own provider), the zone, what to do. octoDNS
takes a zone for its own: whatever is not in its plan it deletes. What is in the zone at the end, as octoDNS reads it, is printed
as JSON: [name, type, ttl, values].
"""

import json
import sys
from urllib.parse import urlsplit

from octodns.record import Record
from octodns.zone import Zone

api, url, settings, zone_name, what = sys.argv[1:]
settings = json.loads(settings)


def cloudflare():
    from octodns_cloudflare import CloudflareProvider

    return CloudflareProvider(
        api, token=settings["api-token"], api_url=settings["server-url"], pagerules=False, retry_count=0, min_ttl=60
    )


def powerdns():
    from octodns_powerdns import PowerDnsProvider

    at = urlsplit(url)
    return PowerDnsProvider(
        api, at.hostname, settings["api-key"], port=at.port, mode_of_operation="native", enable_dynamic=False, notify=True
    )


def desec():
    from octodns_desec import DesecAPI, DesecProvider

    # It knows one address only.
    DesecAPI.API_DOMAINS_URL = f"{url}/api/v1/domains"
    return DesecProvider(api, settings["token"], retries=1, max_sleep=0)


PROVIDERS = {"cloudflare": cloudflare, "powerdns": powerdns, "desec": desec}

# More than a page of any API.
MANY = 120


def fresh():
    """A provider that remembers nothing: a look is a look."""
    return PROVIDERS[api]()


def zone(records):
    made = Zone(zone_name, [])
    for (name, rtype), (ttl, values) in records.items():
        one = rtype == "CNAME"
        data = {"type": rtype, "ttl": ttl, **({"value": values[0]} if one else {"values": values})}
        made.add_record(Record.new(made, name, data))
    return made


def seen():
    found = Zone(zone_name, [])
    fresh().populate(found, lenient=True)
    # What the API makes by itself is not ours to compare.
    ours = [r for r in found.records if not (r.name == "" and r._type in ("NS", "SOA"))]
    values = lambda r: sorted(str(v) for v in getattr(r, "values", None) or [r.value])
    return sorted([r.name, r._type, r.ttl, values(r)] for r in ours)


def make(records, changes):
    """Plans, applies, and finds nothing more to do: how many changes it took, by kind."""
    provider = fresh()
    plan = provider.plan(zone(records))
    assert plan is not None, "nothing to do?"
    counts = {}
    for change in plan.changes:
        kind = type(change).__name__
        counts[kind] = counts.get(kind, 0) + 1
    assert counts == changes, counts
    provider.apply(plan)
    again = fresh().plan(zone(records))
    assert again is None, f"what was written reads back in another way: {again.changes}"


BUILT = {
    ("www", "A"): (3600, ["192.0.2.1", "192.0.2.2"]),
    ("www", "AAAA"): (3600, ["2001:db8::1"]),
    ("alias", "CNAME"): (3600, [f"www.{zone_name}"]),
    ("7", "PTR"): (3600, [f"vm.{zone_name}"]),
    ("note", "TXT"): (7200, ["hello world", "with \\; and = too"]),
    ("*.wild", "A"): (3600, ["192.0.2.9"]),
    ("_under.score", "TXT"): (3600, ["x"]),
    **{(f"host-{n}", "A"): (3600, [f"198.51.100.{n + 1}"]) for n in range(MANY)},
}
CHANGED = {
    **{key: value for key, value in BUILT.items() if key not in (("note", "TXT"), ("www", "AAAA"))},
    ("www", "A"): (7200, ["192.0.2.2", "192.0.2.3"]),
    ("alias", "CNAME"): (3600, [f"host-1.{zone_name}"]),
    ("host-5", "A"): (3600, ["198.51.100.6", "203.0.113.6"]),
}


def build():
    make(BUILT, {"Create": len(BUILT)})


def change():
    make(CHANGED, {"Update": 3, "Delete": 2})


def retype():
    """From an address to an alias under one name, and the other way round."""
    kept = {key: value for key, value in CHANGED.items() if key not in (("host-7", "A"), ("alias", "CNAME"))}
    swapped = {
        **kept,
        ("host-7", "CNAME"): (3600, [f"www.{zone_name}"]),
        ("alias", "A"): (3600, ["192.0.2.77"]),
    }
    make(swapped, {"Create": 2, "Delete": 2})


def clear():
    """One is left: octoDNS takes an empty zone for one that is not there."""
    make({("last", "A"): (3600, ["192.0.2.200"])}, {"Create": 1, "Delete": len(CHANGED)})


def refused():
    """Wrong credentials are refused in a way that it understands."""
    for key in ("api-token", "api-key", "token"):
        if key in settings:
            settings[key] = "x" * len(settings[key])
    try:
        fresh().populate(Zone(zone_name, []))
    except Exception as error:  # Each provider has an exception of its own.
        text = f"{type(error).__name__}: {error}"
        assert any(sign in text.lower() for sign in ("auth", "forbidden", "403", "401")), text
        return
    raise AssertionError("it was let in with wrong credentials")


{"build": build, "change": change, "retype": retype, "clear": clear, "refused": refused}[what]()
print(json.dumps(seen() if what != "refused" else []))
