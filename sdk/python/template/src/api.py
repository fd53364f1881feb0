"""The requests of the API and the meaning of its answers; API.md describes it. One request a call, none repeated; `calls` counts
them."""

from urllib.parse import quote

from wharf_sdk import Problem
from wharf_sdk.http import HttpFailure, Request

# Pages that are read at most: a server that always names a next one must not hold the call.
PAGES = 500


class Api:
    def __init__(self, transport, url):
        self.transport = transport
        self.base = url.rstrip("/") + "/v1"
        self.calls = 0

    def zones(self):
        found, page = [], 1
        while True:
            answer = self._get(Request.get(f"{self.base}/zones").query("page", page), "zones")
            found.extend(answer["zones"])
            following = answer.get("next_page")
            if not following or not page < following <= PAGES:
                return found
            page = following

    def records(self, zone, name=None):
        """All records, or those of one name (no final dot, as the API writes names); and whether that is all of them."""
        found, totals, page = {}, set(), 1
        while True:
            request = Request.get(self._records(zone)).query("page", page)
            if name is not None:
                request.query("name", name)
            answer = self._get(request, "records")
            totals.add(answer.get("total"))
            # A record that moved to the next page while we read stands on both.
            found.update((record["id"], record) for record in answer["records"])
            following = answer.get("next_page")
            if not following or not page < following <= PAGES:
                # Two totals: the zone was changed between two pages, and what moved up to one that was read already is missing.
                return list(found.values()), not following and totals == {len(found)}
            page = following

    def create(self, zone, name, rtype, data, ttl):
        body = {"name": name, "type": rtype, "data": data, "ttl": 3600 if ttl is None else ttl}
        self._send(Request("POST", self._records(zone)).json(body), True)

    def set_ttl(self, zone, id, ttl):
        self._send(Request("PATCH", f"{self._records(zone)}/{quote(id, safe='')}").json({"ttl": ttl}), True)

    def delete(self, zone, id):
        """A record that is not there any more is no error."""
        try:
            self._send(Request("DELETE", f"{self._records(zone)}/{quote(id, safe='')}"), True)
        except Problem as problem:
            if problem.http_status != 404:
                raise

    def _records(self, zone):
        return f"{self.base}/zones/{quote(zone, safe='')}/records"

    def _get(self, request, what):
        """An answer that has a list of this name."""
        response = self._send(request, False)
        try:
            answer = response.json()
        except ValueError:
            answer = None
        if not isinstance(answer, dict) or not isinstance(answer.get(what), list):
            message = f"The API answered {response.status}, but not what was expected: {response.excerpt(300)}"
            raise Problem.report_bug("malformed-answer", message).status(response.status)
        return answer

    def _send(self, request, write):
        self.calls += 1
        try:
            # The host puts the token in, where the manifest allows it.
            response = self.transport.send(request.header("Authorization", "Bearer {{token}}"))
        except HttpFailure as failure:
            raise Problem.from_http(failure, write) from None
        if not response.is_success():
            raise problem_of(response, write).status(response.status)
        return response


def problem_of(response, write):
    """What the host must do about an answer that is no success."""
    said = response.excerpt(300)
    match response.status:
        case 401 | 403:
            return Problem.fix_config("credentials", f"The API refused the token: {said}")
        case 402:
            return Problem.fix_config("quota", f"The zone is full: {said}")
        case 404:
            return Problem.fix_config("zone-not-found", f"The API does not have this zone: {said}")
        case 409:
            return Problem.replan("changed", f"The zone has changed: {said}")
        case 400 | 422:
            return Problem.fix_input("refused", f"The API refused the record: {said}")
        case 429:
            return Problem.wait("rate-limited", f"The API asks to wait: {said}", response.retry_after_ms())
        # A gateway says nothing of what stands behind it.
        case 502 | 504 if write:
            return Problem.verify("gateway", f"No answer from behind the gateway: {said}")
        case status if status >= 500:
            return Problem.retry("server-error", f"The API has a fault of its own: {said}")
        case status if 300 <= status < 400:
            return Problem.fix_config("redirect", "The API answers with a redirect: enter the final address.")
        case status:
            return Problem.report_bug("unexpected-status", f"The API answered {status}: {said}")
