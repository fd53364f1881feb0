"""From what is there and what is asked for to what has to be sent: pure, and the same for every provider.

A provider reads the names of a batch (`names_of`), hands over what it found (`Batch`), sends what `changed()` says, and tells what
became of each set (`outcomes`). Kept by this: other people's values, and values that are there and not served, stay; so does the
TTL of a set that others use too; what is so already is not sent; a change whose `expect` does not hold writes nothing.
"""

from dataclasses import dataclass, field, replace

from . import names, types
from .problem import Problem

# RFC 2181 §8.
MAX_TTL = 0x7FFFFFFF

WRITTEN = "written"
NOT_ATTEMPTED = "not-attempted"


@dataclass
class Held:
    """One value as the provider has it. `id` is the provider's own, where it writes by id; what is to be written has none.
    `hidden`: there, and not an ordinary value that is served; never changed, never counted."""

    data: str
    ttl: int | None = None
    id: str | None = None
    hidden: bool = False


@dataclass
class HeldSet:
    """All that the provider has under a name and type."""

    name: str
    rtype: str
    held: list = field(default_factory=list)

    def rrset(self):
        """As it is read: values in canonical form; None when nothing of it is served."""
        served = [h for h in self.held if not h.hidden]
        if not served:
            return None
        try:
            name = names.canonical(self.name)
        except names.Refused:
            name = self.name
        data = dict.fromkeys(_folded(self.rtype, h.data) for h in served)
        return types.Rrset(name, self.rtype, served[0].ttl, [types.Value(d) for d in data])


@dataclass
class Ttls:
    """What a provider makes of TTLs, in seconds. `initial` None = the provider's automatic one."""

    initial: int | None = 3600
    min: int = 0
    max: int = MAX_TTL

    def fit(self, ttl):
        """Within the bounds; None stays None."""
        return None if ttl is None else min(max(ttl, self.min), max(self.max, self.min))


@dataclass
class Accepted:
    """Taken on by the provider under this id, to be polled."""

    operation: str


def _folded(rtype, data):
    try:
        return names.canonical_data(rtype, data)
    except names.Refused:
        return data


def names_of(zone, changes):
    """The names that have to be looked at for a batch, canonical; those outside of the zone are left out."""
    found = set()
    for change in changes:
        try:
            if names.is_within(change.name, zone):
                found.add(names.canonical(change.name))
        except names.Refused:
            pass
    return sorted(found)


class Work:
    """A set in the course of a batch: `before` and `now` are lists of `Held`."""

    def __init__(self, name, rtype, before):
        self.name = name
        self.rtype = rtype
        self.before = before
        self.now = [replace(h) for h in before]

    def _same(self, a, b):
        return a.id == b.id and a.hidden == b.hidden and names.same_data(self.rtype, a.data, b.data)

    def come(self):
        """Values that have to be written."""
        return [h for h in self.now if not any(self._same(b, h) for b in self.before)]

    def gone(self):
        """Values that have to go."""
        return [h for h in self.before if not any(self._same(n, h) for n in self.now)]

    def retimed(self):
        """Values that stay with another TTL: as they shall be."""
        return [h for h in self.now if any(self._same(b, h) and b.ttl != h.ttl for b in self.before)]

    def is_changed(self):
        return self.before != self.now

    def ttl(self):
        return next((h.ttl for h in self.now if not h.hidden), None)

    def rrset(self):
        return HeldSet(self.name, self.rtype, self.now).rrset() or types.Rrset(self.name, self.rtype)

    def _add(self, data, ttl):
        there = [h for h in self.now if names.same_data(self.rtype, h.data, data)]
        if any(not h.hidden for h in there):
            return
        if there:
            message = f"{self.name} {self.rtype} {data} is there, but disabled. Enable or delete it at the provider."
            raise Problem.fix_config("value-disabled", message)
        try:
            self.now.append(Held(names.canonical_data(self.rtype, data), ttl))
        except names.Refused as error:
            raise Problem.fix_input("value", str(error)) from None

    def _remove(self, unwanted):
        self.now = [h for h in self.now if h.hidden or not unwanted(h.data)]

    def edit(self, change, ttls):
        asked = ttls.fit(change.ttl)
        edit = change.edit

        def among(data, values):
            return any(names.same_data(self.rtype, data, v) for v in values)

        if isinstance(edit, types.Edit_AddValues):
            # The TTL of a set that others use too is theirs as well.
            others = [h for h in self.now if not h.hidden]
            ttl = others[0].ttl if others else asked if asked is not None else ttls.initial
            for value in edit.value:
                self._add(value.data, ttl)
        elif isinstance(edit, types.Edit_RemoveValues):
            self._remove(lambda data: among(data, edit.value))
        elif isinstance(edit, types.Edit_Replace):
            ttl = next((t for t in (asked, self.ttl(), ttls.initial) if t is not None), None)
            self._remove(lambda data: not among(data, [v.data for v in edit.value]))
            for value in edit.value:
                self._add(value.data, ttl)
            for held in self.now:
                if not held.hidden:
                    held.ttl = ttl
        else:
            self._remove(lambda data: True)


class Batch:
    """A batch, worked out against `present`, a list of `HeldSet`."""

    def __init__(self, zone, present, changes, ttls=None):
        if len({change.id for change in changes}) != len(changes):
            raise Problem.report_bug("duplicate-change", "Two changes of the batch have the same id.")
        self.works = []
        self.steps = []
        # A batch of a thousand changes in a zone of thousands is compared by key.
        self._present, self._found = {}, {}
        for held_set in present:
            key = (tuple(names.labels(held_set.name)), held_set.rtype.upper())
            self._present.setdefault(key, []).extend(held_set.held)
        for change in changes:
            try:
                step = self._step(zone, change, ttls or Ttls())
            except Problem as problem:
                step = problem
            self.steps.append((change.id, step))

    def _step(self, zone, change, ttls):
        try:
            name = names.canonical(change.name)
        except names.Refused as error:
            raise Problem.fix_input("name", str(error)) from None
        if not names.is_within(name, zone):
            raise Problem.fix_input("out-of-zone", f"{name} is not in the zone {zone}")
        rtype = change.rtype.upper()
        work = self._found.get((name, rtype))
        if work is None:
            work = Work(name, rtype, self._present.get((tuple(names.labels(name)), rtype), []))
            self._found[name, rtype] = work
            self.works.append(work)
        if change.expect is not None:
            # As it was before this batch: the second change of a set expects nothing.
            live = sorted({_folded(rtype, h.data) for h in work.before if not h.hidden})
            expected = sorted({_folded(rtype, data) for data in change.expect})
            if live != expected:
                message = f"{name} {rtype} holds [{', '.join(live)}] and not [{', '.join(expected)}]."
                raise Problem.replan("changed", message)
        former = [replace(h) for h in work.now]
        try:
            work.edit(change, ttls)
        except Problem:
            work.now = former
            raise
        return work, work.now != former

    def changed(self):
        """Sets that have to be written: emptied ones first, so that one type can make room for another."""
        return sorted((w for w in self.works if w.is_changed()), key=lambda w: bool(w.now))

    def outcomes(self, fate):
        """One outcome for each change, in the order of the batch. `fate(work)` is asked for sets that had to be written: WRITTEN,
        NOT_ATTEMPTED, an `Accepted` or a `Problem`."""
        return [(id, self._outcome(step, fate)) for id, step in self.steps]

    @staticmethod
    def _outcome(step, fate):
        if isinstance(step, Problem):
            return types.Outcome_Failed(step.record())
        work, touched = step
        if not work.is_changed():
            return types.Outcome_Unchanged(work.rrset())
        became = fate(work)
        if became == WRITTEN:
            return (types.Outcome_Applied if touched else types.Outcome_Unchanged)(work.rrset())
        if isinstance(became, Accepted):
            return types.Outcome_Accepted(became.operation)
        if isinstance(became, Problem):
            return types.Outcome_Failed(became.record())
        return types.Outcome_NotAttempted()
