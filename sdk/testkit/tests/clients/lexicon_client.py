"""dns-lexicon against an API: what it can't do, or reads back in another way than it wrote it, ends this with a traceback.

Arguments: the API's name, its address, the zone's settings as JSON (those of Wharf's own provider), the zone, what to do. What is in
the zone at the end, as lexicon reads it, is printed as JSON: [name, type, ttl, content].

Its providers are used without its client, which would look up on the public net where a domain ends.
"""

import importlib
import json
import sys

import requests
from lexicon.config import ConfigResolver

api, url, settings, zone, what = sys.argv[1:]
settings = json.loads(settings)
domain = zone.rstrip(".")

OPTIONS = {
    "cloudflare": lambda: {"auth_token": settings["api-token"]},
    "powerdns": lambda: {"auth_token": settings["api-key"], "pdns_server": url},
}
# Where a provider knows one address only.
ADDRESS = {"cloudflare": lambda: settings["server-url"]}


def provider():
    module = importlib.import_module(f"lexicon._private.providers.{api}")
    config = ConfigResolver().with_dict({"provider_name": api, "domain": domain, "ttl": 3600, api: OPTIONS[api]()})
    made = module.Provider(config)
    if api in ADDRESS:
        made.api_endpoint = ADDRESS[api]()
    made.authenticate()
    return made


def contents(rtype, name):
    return sorted(r["content"] for r in provider().list_records(rtype, name))


def records():
    """Makes, lists, changes and deletes. Others' values of the same name survive."""
    dns = provider()
    before = len(dns.list_records())
    for content in ("192.0.2.1", "192.0.2.2"):
        assert dns.create_record("A", "www", content)
    # The same once more is nothing new.
    assert dns.create_record("A", f"www.{domain}", "192.0.2.2")
    assert dns.create_record("TXT", "_acme-challenge.www", "challengetoken")
    assert dns.create_record("CNAME", "alias", f"www.{domain}.")
    assert dns.create_record("AAAA", "v6", "2001:db8::1")
    assert contents("A", "www") == ["192.0.2.1", "192.0.2.2"]
    assert [c.strip('"') for c in contents("TXT", "_acme-challenge.www")] == ["challengetoken"]
    found = provider().list_records("A", f"www.{domain}.", "192.0.2.2")
    assert [(r["name"], r["ttl"]) for r in found] == [(f"www.{domain}", 3600)], found
    assert provider().update_record(found[0]["id"], "A", f"www.{domain}", "192.0.2.3")
    assert contents("A", "www") == ["192.0.2.1", "192.0.2.3"]
    assert provider().delete_record(None, "A", f"www.{domain}", "192.0.2.1")
    assert contents("A", "www") == ["192.0.2.3"]
    assert provider().delete_record(provider().list_records("AAAA", "v6")[0]["id"])
    assert contents("AAAA", "v6") == []
    # What is not there can be deleted, too.
    assert provider().delete_record(None, "A", f"nobody.{domain}", "192.0.2.1")
    assert len(provider().list_records()) == before + 3


def pages():
    """All of a zone that has more than a page."""
    names = [r["name"] for r in provider().list_records("A")]
    assert len(names) == len(set(names)) == 230, len(names)


def refused():
    for key in ("api-token", "api-key", "token"):
        if key in settings:
            settings[key] = "x" * len(settings[key])
    try:
        provider()
    except requests.exceptions.HTTPError as error:
        assert error.response.status_code in (401, 403), error
        return
    raise AssertionError("it was let in with wrong credentials")


{"records": records, "pages": pages, "refused": refused}[what]()
if what != "refused":
    rows = [[r["name"], r["type"], r["ttl"], r["content"]] for r in provider().list_records()]
    print(json.dumps(sorted(r for r in rows if r[1] not in ("NS", "SOA"))))
