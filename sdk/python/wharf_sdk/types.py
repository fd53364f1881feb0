"""The contract's records (`wit/deps/dns/dns.wit`), in the order of their fields there. `host` turns them into what the component
hands over, and back: names of classes and the order of fields are what it goes by."""

from dataclasses import dataclass, field
from enum import Enum


class Action(Enum):
    """What the host must do about a problem."""

    FIX_INPUT = 0
    FIX_CONFIG = 1
    REPLAN = 2
    WAIT = 3
    RETRY = 4
    VERIFY = 5
    REPORT_BUG = 6


@dataclass
class Value:
    data: str
    owner: str | None = None
    ext: list = field(default_factory=list)


@dataclass
class Rrset:
    name: str
    rtype: str
    ttl: int | None = None
    values: list = field(default_factory=list)
    owner: str | None = None
    version: str | None = None
    ext: list = field(default_factory=list)


@dataclass
class ZoneRef:
    id: str
    name: str


@dataclass
class ZoneInfo:
    zone: ZoneRef
    writable: bool = True
    serial: str | None = None
    ttl_min: int | None = None
    ttl_max: int | None = None
    ttl_default: int | None = None
    records_used: int | None = None
    records_max: int | None = None
    ext: list = field(default_factory=list)


@dataclass
class ProblemRecord:
    action: Action
    code: str
    message: str
    retry_after_ms: int | None = None
    http_status: int | None = None
    provider_code: str | None = None
    ext: list = field(default_factory=list)


@dataclass
class Capabilities:
    types: list
    max_values: int = 0
    max_changes: int = 0
    atomic: bool = False
    native_merge: bool = False
    conditional: bool = False
    owner_per_value: bool = False
    owner_per_rrset: bool = False
    owner_max_bytes: int = 0
    parallel_per_zone: int = 1
    parallel_per_server: int = 1
    asynchronous: bool = False
    reverse_only: bool = False
    ext: list = field(default_factory=list)


@dataclass
class Probed:
    info: ZoneInfo
    can: Capabilities


@dataclass
class Check:
    step: str
    ok: bool
    detail: str
    ext: list = field(default_factory=list)


@dataclass
class Selector_All:
    pass


@dataclass
class Selector_Keys:
    value: list


@dataclass
class Selector_Below:
    value: str


@dataclass
class Snapshot:
    rrsets: list
    complete: bool
    version: str | None = None
    calls: int = 0
    ext: list = field(default_factory=list)


@dataclass
class Edit_AddValues:
    value: list


@dataclass
class Edit_RemoveValues:
    value: list


@dataclass
class Edit_Replace:
    value: list


@dataclass
class Edit_Delete:
    pass


@dataclass
class Change:
    id: int
    name: str
    rtype: str
    ttl: int | None
    edit: object
    expect: list | None = None
    owner: str | None = None
    ext: list = field(default_factory=list)


@dataclass
class Outcome_Applied:
    value: Rrset


@dataclass
class Outcome_Unchanged:
    value: Rrset


@dataclass
class Outcome_Accepted:
    value: str


@dataclass
class Outcome_Failed:
    value: ProblemRecord


@dataclass
class Outcome_NotAttempted:
    pass


@dataclass
class Report:
    outcomes: list
    version: str | None = None
    calls: int = 0
    ext: list = field(default_factory=list)


@dataclass
class Verdict_Ok:
    value: Rrset


@dataclass
class Verdict_Adjusted:
    """A pair: the set, and why."""

    value: tuple


@dataclass
class Verdict_Refused:
    value: ProblemRecord
