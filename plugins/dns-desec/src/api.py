"""The requests of deSEC's API v1 and the meaning of its answers. One request a call, none repeated; `calls` counts them.

Facts are from https://desec.readthedocs.io/en/latest/dns/ (domains, rrsets, rate-limits) and, where that is silent, from the source of
the service, https://github.com/desec-io/desec-stack (`api/desecapi`).
"""

from urllib.parse import parse_qs, quote, urlsplit

from wharf_sdk import Problem
from wharf_sdk.http import HttpFailure, Request

# Pages of 500 that are read at most: a server that always names a next one must not hold the call.
PAGES = 40


class Refused(Exception):
    """400 to a bulk request: a problem for each part that has one, None for the others. Nothing was written."""

    def __init__(self, problems):
        super().__init__("the batch was refused")
        self.problems = problems


class Api:
    def __init__(self, transport, url, domain):
        self.transport = transport
        self.base = url.rstrip("/")
        self.domain = domain
        self.calls = 0

    def about(self):
        """The domain: `name`, `minimum_ttl`, `touched` (when a record of it was touched last)."""
        found = self._json(self._send(Request.get(self._domain()), False))
        if not isinstance(found, dict) or not isinstance(found.get("name"), str):
            raise _malformed("the domain")
        return found

    def domains(self, stop):
        """Names of all domains, and whether those are all."""
        found, complete = self._pages(f"{self.base}/domains/", stop)
        if not all(isinstance(d, dict) and isinstance(d.get("name"), str) for d in found):
            raise _malformed("the list of domains")
        return [d["name"] for d in found], complete

    def at(self, subname):
        """The RRsets of one name. deSEC has few types, so they fit on a page."""
        return _rrsets(self._json(self._send(Request.get(self._rrsets()).query("subname", subname), False)))

    def all(self, stop):
        """All RRsets, and whether those are all.

        More than 500 come page by page, by a cursor over the time of their creation: what is made meanwhile is on no page. So the
        domain's `touched` is compared before and after.
        """
        response = self._send(Request.get(self._rrsets()), False, paginated=True)
        if response is not None:
            return _rrsets(self._json(response)), True
        before = self.about().get("touched")
        found, complete = self._pages(self._rrsets(), stop)
        if complete:
            complete = before is not None and self.about().get("touched") == before
        # What moved to the next page stands on both.
        once = {(s["subname"], s["type"]): s for s in _rrsets(found)}
        return list(once.values()), complete

    def patch(self, sets):
        """Sets RRsets, all or none of them; empty `records` delete. Raises `Refused` where parts of it are."""
        response = self._send(Request("PATCH", self._rrsets()).json(sets), True, parts=len(sets))
        if not isinstance(_decoded(response), list):
            raise Problem.verify("malformed-answer", f"deSEC took the write, and answered: {response.excerpt(300)}")

    def _domain(self):
        return f"{self.base}/domains/{quote(self.domain, safe='')}/"

    def _rrsets(self):
        return self._domain() + "rrsets/"

    def _pages(self, url, stop):
        """A list by its cursors, and whether it was read to its end."""
        found, cursor, seen = [], "", set()
        while len(seen) < PAGES:
            seen.add(cursor)
            response = self._send(Request.get(url).query("cursor", cursor), False)
            page = self._json(response)
            if not isinstance(page, list):
                raise _malformed("a list")
            found += page
            cursor = _next(response.header("link") or "")
            if cursor is None:
                return found, True
            if cursor in seen or stop():
                break
        return found, False

    def _json(self, response):
        body = _decoded(response)
        if body is None:
            message = f"deSEC answered {response.status}, but not what was expected: {response.excerpt(300)}"
            raise Problem.report_bug("malformed-answer", message).status(response.status)
        return body

    def _send(self, request, write, parts=0, paginated=False):
        """An answer that is a success. None where `paginated` says that pages have to be asked for, and so does deSEC."""
        self.calls += 1
        try:
            # The host puts the token in, where the manifest allows it.
            response = self.transport.send(request.header("Authorization", "Token {{token}}"))
        except HttpFailure as failure:
            raise Problem.from_http(failure, write) from None
        if response.is_success():
            return response
        # `Link` leads to the first page (desecapi/pagination.py).
        if paginated and response.status == 400 and _next(response.header("link") or "", "first") is not None:
            return None
        if parts and response.status == 400:
            raise Refused(_refusals(response, parts))
        raise problem_of(response, write).status(response.status)


def _decoded(response):
    """None for what is no JSON, and for `null`."""
    try:
        return response.json()
    except ValueError:
        return None


def _malformed(what):
    return Problem.report_bug("malformed-answer", f"deSEC answered something else than {what}.")


def _rrsets(found):
    def good(s):
        if not isinstance(s, dict) or not isinstance(s.get("records"), list) or not isinstance(s.get("ttl"), int):
            return False
        return all(isinstance(text, str) for text in (s.get("subname"), s.get("type"), *s["records"]))

    if not isinstance(found, list) or not all(good(s) for s in found):
        raise _malformed("a list of RRsets")
    return found


def _next(link, rel="next"):
    """The cursor of a `Link` header. The rest of the address is not followed: it is the server's word for itself."""
    for part in link.split(","):
        address, *parameters = part.split(";")
        if f'rel="{rel}"' in (p.strip() for p in parameters):
            query = urlsplit(address.strip().strip("<>")).query
            return parse_qs(query, keep_blank_values=True).get("cursor", [None])[0]
    return None


def _words(said):
    """All texts of an error body, in their order."""
    if isinstance(said, dict):
        return [word for value in said.values() for word in _words(value)]
    if isinstance(said, list):
        return [word for value in said for word in _words(value)]
    return [str(said)]


def _refusals(response, parts):
    """Sanity checks say which part was wrong, by its place in a list; checks of the records' content may not, and then it is all of
    them (documentation, "Input validation")."""
    said = _decoded(response)
    problem = lambda of: Problem.fix_input("refused", f"deSEC refused it: {' '.join(_words(of))[:300]}").status(400)  # noqa: E731
    if isinstance(said, list) and len(said) == parts and any(said):
        return [problem(of) if of else None for of in said]
    if isinstance(said, (list, dict)) and said:
        return [problem(said)] * parts
    message = f"deSEC refused the batch without saying why: {response.excerpt(300)}"
    return [Problem.report_bug("malformed-answer", message).status(400)] * parts


def problem_of(response, write):
    """What the host must do about an answer that is no success."""
    said = response.excerpt(300)
    match response.status:
        case 401:
            return Problem.fix_config("credentials", f"deSEC refused the token: {said}")
        case 403:
            return Problem.fix_config("privilege", f"The token may not do this, by its policies or its address list: {said}")
        case 404:
            return Problem.fix_config("zone-not-found", f"The account of this token has no such domain: {said}")
        case 413:
            return Problem.fix_input("too-large", f"deSEC takes no write of this size: {said}")
        # Rate limits, and two writes to the account at once ("Too many concurrent requests", desecapi/exceptions.py).
        case 429:
            return Problem.wait("rate-limited", f"deSEC asks to wait: {said}", response.retry_after_ms())
        # The write may have reached the name servers before something else broke.
        case status if status >= 500:
            make = Problem.verify if write else Problem.retry
            return make("server-error", f"deSEC has a fault of its own ({status}): {said}")
        case status if 300 <= status < 400:
            return Problem.fix_config("redirect", "The API answers with a redirect: enter the final address.")
        case status:
            return Problem.report_bug("unexpected-status", f"deSEC answered {status}: {said}")
