"""HTTP in two halves: a `Request` is plain data, so that building it and reading its `Response` can be tested on any machine; a
transport (with `send(request)`) sends it, and `Host` of `host` is the one that a component has.

A request is sent once and never repeated here. Secrets are `{{slot}}`: the host puts the value in on the way out.
"""

import calendar
import json
import re
from dataclasses import dataclass, field

_DATE = re.compile(r"[A-Z][a-z]{2}, (\d{2}) ([A-Z][a-z]{2}) (\d{4}) (\d{2}):(\d{2}):(\d{2}) GMT")
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")


def http_date(text):
    """Seconds since 1970 of a date as headers have it, `Wed, 21 Oct 2015 07:28:00 GMT` (RFC 9110 §5.6.7); None for any other text."""
    found = _DATE.fullmatch(text.strip())
    if found is None or found[2] not in _MONTHS or int(found[3]) < 1970:
        return None
    day, month, year, *clock = found.groups()
    return calendar.timegm((int(year), _MONTHS.index(month) + 1, int(day), *map(int, clock)))


class HttpFailure(Exception):
    """A request that got no answer. `maybe_sent`: the peer may have seen it."""

    def __init__(self, maybe_sent, code, message, ext=None):
        super().__init__(message)
        self.maybe_sent = maybe_sent
        self.code = code
        self.ext = ext or []


@dataclass
class Request:
    """One request, not yet sent. `body` is None, (content type, text), or a list of form fields."""

    method: str
    url: str
    queries: list = field(default_factory=list)
    headers: list = field(default_factory=list)
    body: object = None
    timeout: int | None = None
    # (slot, scheme, header, payload): what the host makes of a secret.
    signs: list = field(default_factory=list)

    @classmethod
    def get(cls, url):
        return cls("GET", url)

    def query(self, name, value):
        self.queries.append((name, str(value)))
        return self

    def header(self, name, value):
        self.headers.append((name, value))
        return self

    def json(self, value):
        return self.text("application/json", json.dumps(value))

    def text(self, content_type, text):
        self.body = (content_type, text)
        return self

    def form(self, name, value):
        """Appends a form field, replacing a body of another kind."""
        if not isinstance(self.body, list):
            self.body = []
        self.body.append((name, str(value)))
        return self

    def sign(self, slot, scheme, header, payload):
        """Lets the host make a header of a secret and these bytes; `wit/deps/http/http.wit` and docs/contract.md name the schemes."""
        self.signs.append((slot, scheme, header, payload))
        return self

    def basic(self, user, slot):
        """Basic authentication: the secret in `slot` is the password."""
        return self.sign(slot, "basic", "Authorization", user.encode())

    def timeout_ms(self, ms):
        """From connect to the last byte."""
        self.timeout = ms
        return self


@dataclass
class Response:
    """A whole answer."""

    status: int
    headers: list
    text: str

    def header(self, name):
        """First value, or None; case of `name` does not matter."""
        return next((v for n, v in self.headers if n.lower() == name.lower()), None)

    def json(self):
        """The body, decoded; raises ValueError."""
        return json.loads(self.text)

    def is_success(self):
        return 200 <= self.status < 300

    def retry_after_ms(self):
        """`Retry-After` in milliseconds: a number of seconds, or a date as seen from the answer's own `Date`, so that no clock is
        needed (RFC 9110 §10.2.3). None if it is neither, or does not fit."""
        text = (self.header("retry-after") or "").strip()
        if text.isascii() and text.isdigit():
            seconds = int(text[:12])
        else:
            until, now = http_date(text), http_date(self.header("date") or "")
            if until is None or now is None:
                return None
            seconds = max(until - now, 0)
        return seconds * 1000 if seconds * 1000 <= 0xFFFFFFFF else None

    def excerpt(self, most):
        """The body's beginning, on one line, for a message: at most `most` characters."""
        line = " ".join(self.text.split())
        return line if len(line) <= most else line[:most] + "…"
