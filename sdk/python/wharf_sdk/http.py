"""HTTP in two halves: a `Request` is plain data, so that building it and reading its `Response` can be tested on any machine; a
transport (with `send(request)`) sends it, and `Host` of `host` is the one that a component has.

A request is sent once and never repeated here. Secrets are `{{slot}}`: the host puts the value in on the way out.
"""

import json
from dataclasses import dataclass, field


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
        """`Retry-After` in milliseconds, if it is a number of seconds that fits."""
        text = (self.header("retry-after") or "").strip()
        ms = int(text) * 1000 if text.isascii() and text.isdigit() and len(text) < 10 else None
        return ms if ms is not None and ms <= 0xFFFFFFFF else None

    def excerpt(self, most):
        """The body's beginning, on one line, for a message: at most `most` characters."""
        line = " ".join(self.text.split())
        return line if len(line) <= most else line[:most] + "…"
