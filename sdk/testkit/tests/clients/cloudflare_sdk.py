"""Cloudflare's own client against the façade: what it can't do, or reads in another way, ends this with a traceback.

Arguments: address, token, the zone's id, what to do. Answers are held against the types that Cloudflare publishes
(`_strict_response_validation`); nothing is tried twice.
"""

import sys

import cloudflare
from cloudflare import Cloudflare

url, token, zone, what = sys.argv[1:]


def client(token):
    return Cloudflare(
        api_token=token,
        base_url=f"{url}/client/v4",
        max_retries=0,
        timeout=20,
        _strict_response_validation=True,
    )


def refused(kind, code, call):
    """Calls, and wants to be refused with the SDK's own exception and this code. The answer's errors."""
    try:
        call()
    except kind as error:
        codes = [e.code for e in error.errors]
        assert codes == [code], f"{codes} and not {code}: {error}"
        return error
    raise AssertionError(f"not refused with {code}")


cf = client(token)
records = cf.dns.records


def data(name, **more):
    return sorted(r.content for r in records.list(zone_id=zone, name={"exact": name}, **more))


def zones():
    assert cf.user.tokens.verify().status == "active"
    names = [z.name for z in cf.zones.list(per_page=5)]
    assert len(names) == 12 and len(set(names)) == 12, names
    assert [z.id for z in cf.zones.list(name="example.test")] == [zone]
    assert cf.zones.get(zone_id=zone).plan.legacy_id == "free"
    refused(cloudflare.NotFoundError, 1001, lambda: cf.zones.get(zone_id="f" * 32))
    refused(cloudflare.NotFoundError, 7003, lambda: cf.zones.get(zone_id="example.test"))


def pages():
    for per_page in (7, 99, 100, 101, 1000):
        found = list(records.list(zone_id=zone, per_page=per_page))
        assert len({r.id for r in found}) == 230 and len(found) == 230, (per_page, len(found))
    first = records.list(zone_id=zone)
    assert (first.result_info.page, first.result_info.per_page, len(first.result)) == (1, 100, 100)
    assert data("FOREIGN-17.example.test", type="A") == ["198.51.0.18"]
    assert data("foreign-17.example.test", type="AAAA") == []
    ends = list(records.list(zone_id=zone, name={"startswith": "foreign-1", "endswith": "7.example.test"}))
    assert {r.name for r in ends} >= {"foreign-17.example.test", "foreign-127.example.test"}, ends
    some = list(records.list(zone_id=zone, match="any", name={"exact": "foreign-1.example.test"}, content={"exact": "198.51.0.3"}))
    assert [r.name for r in some] == ["foreign-1.example.test", "foreign-2.example.test"], some
    last = next(iter(records.list(zone_id=zone, order="name", direction="desc")))
    assert last.name == "foreign-99.example.test", last.name


def single():
    made = {}
    for kind, name, content, more in [
        ("A", "vm.example.test", "192.0.2.1", {"proxied": False, "comment": "ours"}),
        ("AAAA", "vm", "2001:db8::1", {}),
        ("MX", "@", "mx.example.test", {"priority": 10}),
        ("TXT", "_x.example.test", '"a ; \\" b"', {}),
        ("PTR", "7.example.test", "vm.example.test", {}),
        ("CNAME", "*.wild.example.test", "vm.example.test", {}),
    ]:
        made[kind] = records.create(zone_id=zone, type=kind, name=name, content=content, ttl=300, **more)
        assert (made[kind].content, made[kind].ttl) == (content, 300), made[kind]
    assert made["AAAA"].name == "vm.example.test" and made["MX"].name == "example.test"
    assert made["MX"].priority == 10 and made["A"].proxiable and not made["PTR"].proxiable
    a = made["A"].id
    assert records.get(a, zone_id=zone).comment == "ours"
    # PATCH merges, PUT replaces.
    edited = records.edit(a, zone_id=zone, type="A", name="vm.example.test", content="192.0.2.2", ttl=1)
    assert (edited.content, edited.ttl, edited.comment) == ("192.0.2.2", 1, "ours"), edited
    put = records.update(a, zone_id=zone, type="A", name="vm.example.test", content="192.0.2.3", ttl=600)
    assert (put.content, put.ttl, put.comment) == ("192.0.2.3", 600, None), put
    proxied = records.edit(a, zone_id=zone, type="A", name="vm.example.test", content="192.0.2.3", ttl=600, proxied=True)
    assert (proxied.proxied, proxied.ttl) == (True, 1), proxied
    assert [r.id for r in records.list(zone_id=zone, proxied=True)] == [a]
    for kind in ("A", "AAAA", "MX", "TXT", "CNAME"):
        assert records.delete(made[kind].id, zone_id=zone).id == made[kind].id
    refused(cloudflare.NotFoundError, 81044, lambda: records.get(a, zone_id=zone))
    refused(cloudflare.NotFoundError, 81044, lambda: records.delete(a, zone_id=zone))


def batches():
    post = lambda name, content: {"type": "A", "name": name, "content": content, "ttl": 300}
    first = records.batch(zone_id=zone, posts=[post("b1.example.test", "192.0.2.1"), post("b2.example.test", "192.0.2.2")])
    one, two = first.posts
    # Deletes, patches, puts, posts: the value that goes makes room for itself.
    second = records.batch(
        zone_id=zone,
        posts=[post("b1.example.test", "192.0.2.1")],
        puts=[{"id": two.id, **post("b3.example.test", "192.0.2.3")}],
        deletes=[{"id": one.id}],
    )
    assert [r.id for r in second.deletes] == [one.id] and second.posts[0].id != one.id
    assert second.puts[0].name == "b3.example.test"
    third = records.batch(zone_id=zone, patches=[{"id": two.id, "type": "A", "name": "b3.example.test", "ttl": 900}])
    assert (third.patches[0].ttl, third.patches[0].content) == (900, "192.0.2.3")
    # All or nothing.
    refused(
        cloudflare.BadRequestError,
        81058,
        lambda: records.batch(
            zone_id=zone, deletes=[{"id": two.id}], posts=[post("b4.example.test", "192.0.2.4"), post("b1.example.test", "192.0.2.1")]
        ),
    )
    assert data("b3.example.test") == ["192.0.2.3"] and data("b4.example.test") == []
    refused(cloudflare.NotFoundError, 81044, lambda: records.batch(zone_id=zone, deletes=[{"id": "f" * 32}]))
    many = [post(f"m{n}.example.test", "192.0.2.9") for n in range(201)]
    refused(cloudflare.BadRequestError, 1004, lambda: records.batch(zone_id=zone, posts=many))
    assert len(records.batch(zone_id=zone, posts=many[:200]).posts) == 200


def errors():
    create = lambda kind, name, content, ttl=300, **more: records.create(
        zone_id=zone, type=kind, name=name, content=content, ttl=ttl, **more
    )
    bad = cloudflare.BadRequestError
    create("A", "e.example.test", "192.0.2.1")
    create("CNAME", "c.example.test", "e.example.test")
    refused(bad, 81058, lambda: create("A", "e.example.test", "192.0.2.1"))
    refused(bad, 81053, lambda: create("CNAME", "e.example.test", "x.example.test"))
    refused(bad, 81053, lambda: create("CNAME", "c.example.test", "x.example.test"))
    refused(bad, 81054, lambda: create("AAAA", "c.example.test", "2001:db8::1"))
    refused(bad, 9005, lambda: create("A", "f.example.test", "192.0.2.256"))
    refused(bad, 9006, lambda: create("AAAA", "f.example.test", "192.0.2.1"))
    for ttl in (0, 59, 86401):
        error = refused(bad, 1004, lambda: create("A", "f.example.test", "192.0.2.1", ttl))
        assert error.body["errors"][0]["error_chain"][0]["code"] == 9021, error.body
    for name in ("a..example.test", "x" * 64 + ".example.test", "a b.example.test", "f.example.test."):
        error = refused(bad, 1004, lambda: create("A", name, "192.0.2.1"))
        assert error.body["errors"][0]["error_chain"][0]["code"] == 9000, error.body
    # A name that is not of this zone ends up in it.
    assert create("A", "f.other.test", "192.0.2.1").name == "f.other.test.example.test"
    refused(bad, 1004, lambda: create("PTR", "p.example.test", "e.example.test", proxied=True))
    refused(bad, 1004, lambda: records.list(zone_id=zone, extra_query={"nmae": "e.example.test"}))
    refused(cloudflare.PermissionDeniedError, 10000, lambda: client("x" * 40).dns.records.list(zone_id=zone))
    refused(bad, 6003, lambda: client("short").dns.records.list(zone_id=zone))
    refused(cloudflare.NotFoundError, 1001, lambda: records.list(zone_id="f" * 32))


def limited():
    error = refused(cloudflare.RateLimitError, 971, lambda: records.list(zone_id=zone))
    assert error.response.headers["retry-after"] == "7", error.response.headers


def broken():
    try:
        records.list(zone_id=zone)
    except cloudflare.InternalServerError:
        return
    raise AssertionError("not an InternalServerError")


def full():
    refused(
        cloudflare.BadRequestError,
        81045,
        lambda: records.create(zone_id=zone, type="A", name="one-more.example.test", content="192.0.2.1", ttl=1),
    )


globals()[what]()
