"""What a provider says when something did not work. `action` is what the host must do about it."""

from .types import Action, ProblemRecord


class Problem(Exception):
    """Raised anywhere in a provider; the guard of `host` hands it to the host."""

    def __init__(self, action, code, message, retry_after_ms=None, http_status=None, provider_code=None, ext=None):
        super().__init__(message)
        self.action = action
        self.code = code
        self.message = message
        self.retry_after_ms = retry_after_ms
        self.http_status = http_status
        self.provider_code = provider_code
        self.ext = ext or []

    @classmethod
    def fix_input(cls, code, message):
        """The value or name is refused, for good."""
        return cls(Action.FIX_INPUT, code, message)

    @classmethod
    def fix_config(cls, code, message):
        """An admin must act: credentials, quota, missing zone."""
        return cls(Action.FIX_CONFIG, code, message)

    @classmethod
    def replan(cls, code, message):
        """The live state differs from what the plan assumed."""
        return cls(Action.REPLAN, code, message)

    @classmethod
    def wait(cls, code, message, after_ms=None):
        """Rate limited; milliseconds to wait, if the provider said so."""
        return cls(Action.WAIT, code, message, after_ms)

    @classmethod
    def retry(cls, code, message):
        """A passing fault, and surely nothing was written."""
        return cls(Action.RETRY, code, message)

    @classmethod
    def verify(cls, code, message):
        """A write was sent and no answer came."""
        return cls(Action.VERIFY, code, message)

    @classmethod
    def report_bug(cls, code, message):
        """The provider answered something that this plugin does not understand."""
        return cls(Action.REPORT_BUG, code, message)

    @classmethod
    def from_http(cls, failure, write):
        """A request that got no answer. A write that the peer may have seen must be looked at before it is repeated."""
        if failure.maybe_sent and write:
            action = Action.VERIFY
        elif failure.code in ("rule", "secret-position", "unknown-slot", "address-refused"):
            action = Action.FIX_CONFIG
        elif failure.code in ("already-sent", "malformed", "too-large"):
            action = Action.REPORT_BUG
        else:
            action = Action.RETRY
        return cls(action, failure.code, str(failure), ext=failure.ext)

    def status(self, status):
        """Adds the status that the provider answered with."""
        self.http_status = status
        return self

    def record(self):
        """The record of the contract."""
        return ProblemRecord(
            self.action,
            self.code,
            self.message,
            self.retry_after_ms,
            self.http_status,
            self.provider_code,
            self.ext,
        )
