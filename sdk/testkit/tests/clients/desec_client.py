"""The client `desec-dns` against the façade: what it can't do, or reads in another way, ends this with a traceback.

Arguments: address of the API, token, what to do.
"""

import sys

import desec.api
from desec import exceptions
from desec.api import APIClient

url, token, what = sys.argv[1:]
# It has no setting for it.
desec.api.API_BASE_URL = url
ZONE = "example.test"


def refused(kind, call):
    """Calls, and wants to be refused with this exception of the client."""
    try:
        call()
    except kind as error:
        return error
    raise AssertionError(f"not refused with {kind.__name__}")


def rrset(subname, rtype, ttl, *records):
    return {"subname": subname, "type": rtype, "ttl": ttl, "records": list(records)}


client = APIClient(token, request_timeout=20, retry_limit=0)
match what:
    case "lists":
        domains = [d["name"] for d in client.list_domains()]
        assert len(domains) == len(set(domains)) == 260 and ZONE in domains, len(domains)
        assert client.domain_info(ZONE)["minimum_ttl"] == 3600
        refused(exceptions.NotFoundError, lambda: client.domain_info("missing.test"))
        found = client.get_records(ZONE)
        assert len({s["name"] for s in found}) == len(found) == 351, len(found)
        (one,) = client.get_records(ZONE, rtype="A", subname="foreign-7")
        assert (one["name"], one["domain"], one["ttl"]) == (f"foreign-7.{ZONE}.", ZONE, 3600), one
        assert [s["type"] for s in client.get_records(ZONE, subname="")] == ["NS"]
        assert client.get_records(ZONE, subname="nobody") == []
    case "bulk":
        made = [
            rrset("www", "A", 3600, "192.0.2.1"),
            rrset("gone", "AAAA", 3600, "2001:DB8::0:1"),
            rrset("text", "TXT", 7200, '"a \\"b\\"" "ü"'),
        ]
        assert len(client.update_bulk_record(ZONE, made)) == 3
        (shown,) = client.get_records(ZONE, subname="gone")
        assert shown["records"] == ["2001:db8::1"], shown
        client.update_bulk_record(ZONE, [rrset("www", "A", 3600, "192.0.2.2"), {"subname": "gone", "type": "AAAA", "records": []}])
        # What is so already.
        client.update_bulk_record(ZONE, [rrset("www", "A", 3600, "192.0.2.2")])
    case "exclusive":
        client.update_bulk_record(ZONE, [rrset("", "NS", 3600, "ns1.desec.io."), rrset("www", "A", 3600, "192.0.2.2")], exclusive=True)
    case "refused":
        for bad in [
            rrset("a", "A", 60, "192.0.2.1"),
            rrset("a", "A", 3600, "192.0.2.256"),
            rrset("a", "CNAME", 3600, "b.test"),
            rrset("a/b", "A", 3600, "192.0.2.1"),
            rrset("", "CNAME", 3600, "b.test."),
            rrset("foreign-0", "CNAME", 3600, "b.test."),
        ]:
            refused(exceptions.ParameterError, lambda bad=bad: client.update_bulk_record(ZONE, [bad]))
        refused(exceptions.AuthenticationError, lambda: APIClient("wrong", retry_limit=0).list_domains())
        refused(exceptions.NotFoundError, lambda: client.get_records("missing.test"))
    case "limited":
        # It waits as long as `Retry-After` says, once.
        assert len(APIClient(token, retry_limit=1).list_domains()) == 1
    case "forbidden":
        refused(exceptions.TokenPermissionError, client.list_domains)
    case other:
        raise SystemExit(f"no such part: {other}")
