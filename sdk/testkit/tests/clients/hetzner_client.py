"""Hetzner's own client against the façade: what it can't do, or reads in another way, ends this with a traceback.

Arguments: address, token, what to do. The client waits for actions by itself.
"""

import sys

from hcloud import APIException, Client
from hcloud.zones import ZoneRecord

url, token, what = sys.argv[1:]
ZONE = "example.test"


def client(token):
    return Client(token=token, api_endpoint=f"{url}/v1", poll_interval=0.01, poll_max_retries=20, timeout=20)


def refused(code, call):
    """Calls, and wants to be refused with the client's own exception and this code."""
    try:
        call()
    except APIException as error:
        assert error.code == code, f"{error.code} and not {code}: {error}"
        return error
    raise AssertionError(f"not refused with {code}")


zones = client(token).zones


def record(value, comment=None):
    return ZoneRecord(value=value, comment=comment)


def values(name, type):
    return sorted(r.value for r in zones.get_rrset(zones.get(ZONE), name, type).records)


def do_zones():
    assert sorted(z.name for z in zones.get_all())[:2] == [ZONE, "z1.test"]
    assert len(zones.get_all()) == 60
    zone = zones.get(ZONE)
    assert (zone.mode, zone.ttl, zone.record_count) == ("primary", 10800, 3)
    assert zones.get(zone.id).name == ZONE
    refused("not_found", lambda: zones.get("missing.test"))


def do_pages():
    found = zones.get_rrset_all(zones.get(ZONE))
    # Beside those of others SOA and NS.
    assert len(found) == 252, len(found)
    assert len({(s.name, s.type) for s in found}) == 252
    one = zones.get_rrset_all(zones.get(ZONE), name="foreign-17")
    assert [(s.id, s.ttl) for s in one] == [("foreign-17/A", 3600)]
    none = zones.get_rrset_all(zones.get(ZONE), type=["AAAA"])
    assert none == []


def do_sets():
    zone = zones.get(ZONE)
    made = zones.create_rrset(zone, name="a", type="A", ttl=300, records=[record("192.0.2.1", "theirs")])
    assert made.action.status == "running" and made.rrset.id == "a/A"
    made.action.wait_until_finished()
    rrset = zones.get_rrset(zone, "a", "A")
    assert (rrset.ttl, rrset.records[0].comment) == (300, "theirs")
    zones.add_rrset_records(rrset, [record("192.0.2.2")]).wait_until_finished()
    assert values("a", "A") == ["192.0.2.1", "192.0.2.2"]
    zones.add_rrset_records(rrset, [record("192.0.2.3")], ttl=300).wait_until_finished()
    zones.remove_rrset_records(rrset, [record("192.0.2.2")]).wait_until_finished()
    assert values("a", "A") == ["192.0.2.1", "192.0.2.3"]
    zones.set_rrset_records(rrset, [record("192.0.2.9")]).wait_until_finished()
    zones.change_rrset_ttl(rrset, 60).wait_until_finished()
    rrset = zones.get_rrset(zone, "a", "A")
    assert ([r.value for r in rrset.records], rrset.ttl) == (["192.0.2.9"], 60)
    zones.remove_rrset_records(rrset, [record("192.0.2.9")]).wait_until_finished()
    refused("not_found", lambda: zones.get_rrset(zone, "a", "A"))
    for name, type, value in [
        ("@", "MX", "10 mx.example.test."),
        ("*", "AAAA", "2001:db8::1"),
        ("7", "PTR", "vm.example.test."),
        ("_x", "TXT", '"a \\"b\\"" "c"'),
    ]:
        zones.create_rrset(zone, name=name, type=type, records=[record(value)]).action.wait_until_finished()
        assert values(name, type) == [value]
    zones.delete_rrset(zones.get_rrset(zone, "7", "PTR")).action.wait_until_finished()
    refused("not_found", lambda: zones.get_rrset(zone, "7", "PTR"))


def do_errors():
    zone = zones.get(ZONE)
    first = zones.create_rrset(zone, name="a", type="A", ttl=300, records=[record("192.0.2.1")])
    add = lambda value, **more: zones.add_rrset_records(first.rrset, [record(value)], **more)
    refused("locked", lambda: add("192.0.2.2"))
    first.action.wait_until_finished()
    create = lambda **more: zones.create_rrset(zone, **more)
    refused("uniqueness_error", lambda: create(name="a", type="A", records=[record("192.0.2.5")]))
    refused("invalid_input", lambda: add("192.0.2.2", ttl=600))
    for wrong in [
        dict(name="b", type="A", records=[record("2001:db8::1")]),
        dict(name="b", type="A", ttl=59, records=[record("192.0.2.1")]),
        dict(name="b", type="A", records=[]),
        dict(name="b", type="A", records=[record("192.0.2.1"), record("192.0.2.1")]),
        dict(name="B", type="A", records=[record("192.0.2.1")]),
        dict(name="b.example.test", type="A", records=[record("192.0.2.1")]),
        dict(name="b", type="CNAME", records=[record("without-a-dot.test")]),
        dict(name="b", type="TXT", records=[record("bare")]),
        dict(name="b", type="TXT", records=[record('"' + 256 * "x" + '"')]),
        dict(name="a", type="CNAME", records=[record("b.test.")]),
    ]:
        refused("invalid_input", lambda: create(**wrong))
    refused("unauthorized", lambda: client("wrong").zones.get_all())


{"zones": do_zones, "pages": do_pages, "sets": do_sets, "errors": do_errors}[what]()
