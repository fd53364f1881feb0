"""What exists in a component alone: the host's side of the contract."""

from dataclasses import fields, is_dataclass
from enum import Enum

from componentize_py_types import Err
from wit_world import exports
from wit_world.exports import provider as p
from wit_world.imports import client, clock, entropy
from wit_world.imports import log as host_log
from wit_world.imports import zones as z

from . import guard, types
from .http import HttpFailure, Response

__all__ = ["Host", "clock", "entropy", "export_provider", "log"]


class log:
    """Lines in the log of the call at hand. The host cuts a line at 4 KiB and keeps 200 lines or 64 KiB a call."""

    @staticmethod
    def debug(message):
        host_log.write(host_log.Level.DEBUG, message, [])

    @staticmethod
    def info(message):
        host_log.write(host_log.Level.INFO, message, [])

    @staticmethod
    def warn(message):
        host_log.write(host_log.Level.WARN, message, [])

    @staticmethod
    def error(message):
        host_log.write(host_log.Level.ERROR, message, [])


class Host:
    """Sends through the host."""

    def send(self, request):
        """Sends once. An answer of any status is a Response; no answer raises an HttpFailure."""
        # Handles are closed at once: a call may have a thousand.
        with client.Outbound(request.method, request.url) as out:
            for name, value in request.queries:
                out.query(name, value)
            for name, value in request.headers:
                out.header(name, value)
            if isinstance(request.body, list):
                for name, value in request.body:
                    out.body_form(name, value)
            elif request.body is not None:
                out.body_text(*request.body)
            for slot, scheme, header, payload in request.signs:
                out.sign(slot, scheme, header, payload)
            if request.timeout is not None:
                out.timeout_ms(request.timeout)
            try:
                reply = out.send()
            except Err as error:
                failure = error.value
                sent = failure.sent == client.Sent.MAYBE_SENT
                raise HttpFailure(sent, failure.code, failure.message, failure.ext) from None
        with reply:
            return Response(reply.status(), reply.headers(), reply.text())


def _theirs(name):
    name = "Problem" if name == "ProblemRecord" else name
    return getattr(z, name, None) or getattr(p, name)


def _out(value):
    """A record of `types` as the component hands it over."""
    if isinstance(value, list):
        return [_out(item) for item in value]
    if isinstance(value, tuple):
        return tuple(_out(item) for item in value)
    if isinstance(value, Enum):
        return _theirs(type(value).__name__)[value.name]
    if is_dataclass(value):
        return _theirs(type(value).__name__)(*(_out(getattr(value, f.name)) for f in fields(value)))
    return value


def _in(value):
    """What the component was handed, as a record of `types`."""
    if isinstance(value, list):
        return [_in(item) for item in value]
    if isinstance(value, tuple):
        return tuple(_in(item) for item in value)
    ours = getattr(types, type(value).__name__, None)
    if ours is None or not is_dataclass(value):
        return value
    return ours(*(_in(getattr(value, f.name)) for f in fields(value)))


def export_provider(implementation):
    """The class that the module exports as `Provider`: the functions of `implementation`, each in a guard. A `Problem` that is raised
    becomes the answer, anything else a line in the log and a `report-bug` problem."""

    def answer(export, call, *given):
        try:
            return _out(getattr(implementation, export)(call, *(_in(g) for g in given)))
        except Exception as error:  # whatever it is, its text must get out
            problem = guard.problem_of(error, log.error)
        # Outside of the handler: `Err` is frozen, and Python would write its context into it.
        raise Err(_out(problem.record()))

    class Provider(exports.Provider):
        def normalize(self, can, zone, sets):
            try:
                return _out(implementation.normalize(_in(can), zone, _in(sets)))
            except Exception as error:
                return _out(guard.verdicts(error, sets, log.error))

        def test_connection(self, call, zone, try_write):
            try:
                return _out(implementation.test_connection(call, zone, try_write))
            except Exception as error:
                return _out(guard.checks(error, log.error))

        def probe(self, call, zone):
            return answer("probe", call, zone)

        def list_zones(self, call):
            return answer("list_zones", call)

        def read(self, call, zone, what):
            return answer("read", call, zone, what)

        def apply(self, call, zone, batch):
            return answer("apply", call, zone, batch)

        def poll(self, call, zone, operation):
            return answer("poll", call, zone, operation)

    return Provider
