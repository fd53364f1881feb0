"""A transport for tests: answers in order, and keeps what was asked."""

import json

from .http import HttpFailure, Response


class Scripted:
    def __init__(self):
        self.answers = []
        self.asked = []

    def answer(self, status, body="", headers=()):
        """The next answer: a status and a body (text, or a value that is sent as JSON)."""
        self.answers.append(Response(status, list(headers), body if isinstance(body, str) else json.dumps(body)))
        return self

    def lost(self, maybe_sent, code):
        """The next request gets no answer."""
        self.answers.append(HttpFailure(maybe_sent, code, "no answer"))
        return self

    def lines(self):
        """What was asked, as `GET https://…` lines."""
        return [f"{r.method} {r.url}" for r in self.asked]

    def send(self, request):
        self.asked.append(request)
        empty = HttpFailure(False, "connect", "the script has no further answer")
        answer = self.answers.pop(0) if self.answers else empty
        if isinstance(answer, HttpFailure):
            raise answer
        return answer
