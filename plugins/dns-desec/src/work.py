"""What the provider does, over any transport."""

from dataclasses import replace

import normal
from api import Refused
from wharf_sdk import Problem, names
from wharf_sdk import types as t
from wharf_sdk.batch import NOT_ATTEMPTED, WRITTEN, Batch, Held, HeldSet, names_of

# Above so many names one read of the whole zone is cheaper than a look at each: an account has 50 reads a minute.
SINGLE_LOOKS = 5
# What a request may carry is 1 MiB (wit/deps/http/http.wit).
BODY = 900_000


def _dotted(name):
    return name.rstrip(".").lower() + "."


def _zone(api, zone):
    """The domain, if it is the one of the settings and there."""
    if not names.same_name(api.domain, zone):
        message = f"The settings name the domain {api.domain}, and the zone is {zone} Enter the zone's own name there."
        raise Problem.fix_config("zone-not-found", message)
    return api.about()


def _minimum(about):
    found = about.get("minimum_ttl")
    return found if isinstance(found, int) and 0 <= found <= normal.TTL_MAX else normal.TTL_MIN


def probe(api, zone):
    about = _zone(api, zone)
    minimum = _minimum(about)
    can = normal.capabilities(minimum)
    ttls = normal.ttls(minimum)
    ref = t.ZoneRef(about["name"], _dotted(about["name"]))
    return t.Probed(t.ZoneInfo(ref, ttl_min=ttls.min, ttl_max=ttls.max, ttl_default=ttls.initial, ext=can.ext), can)


def zones(api, stop):
    """All domains of the account. A list that may lack some is no list."""
    found, complete = api.domains(stop)
    if not complete:
        raise Problem.retry("incomplete", "The list of domains was not read to its end.")
    return [t.ZoneRef(name, _dotted(name)) for name in found]


def read(api, zone, what, stop):
    match what:
        case t.Selector_Keys(value=keys):
            asked = {(names.canonical(name), rtype.upper()) for name, rtype in keys}
            sets, complete = _present(api, zone, sorted({name for name, _ in asked}), stop)
            sets = [s for s in sets if (s.name, s.rtype) in asked]
        case t.Selector_Below(value=name):
            sets, complete = _whole(api, zone, stop)
            sets = [s for s in sets if names.is_within(s.name, name)]
        case _:
            sets, complete = _whole(api, zone, stop)
    rrsets = [s.rrset() for s in sets]
    return t.Snapshot([s for s in rrsets if s], complete, calls=api.calls)


def apply(api, zone, changes, minimum, stop):
    """Looks, compares, and sends what differs in one request, which deSEC does whole or not at all; what is more than one may hold
    goes in further ones, by whole sets. `stop()` says that time is up or nobody waits any more."""
    ttls = normal.ttls(minimum)
    changes = [_as_stored(change) for change in changes]
    # Refuses doubled ids before any request.
    Batch(zone.name, [], changes, ttls)
    wanted = names_of(zone.name, changes)
    sets, complete = _present(api, zone, wanted, stop) if wanted else ([], True)
    if not complete:
        if stop():
            return t.Report([(change.id, t.Outcome_NotAttempted()) for change in changes], calls=api.calls)
        raise Problem.retry("incomplete", "The zone changed while it was read, so nothing was written.")
    batch = Batch(zone.name, sets, changes, ttls)
    fates, bodies = {}, []
    for work in batch.changed():
        try:
            bodies.append((work, _body(zone, work)))
        except Problem as problem:
            fates[id(work)] = problem
    for part in _parts(bodies):
        if stop():
            break
        try:
            api.patch([body for _, body in part])
            fates.update((id(work), WRITTEN) for work, _ in part)
        except Refused as refused:
            pairs = zip(part, refused.problems, strict=True)
            fates.update((id(work), problem) for (work, _), problem in pairs if problem)
            # What this part lacks the next may lean on.
            break
        except Problem as problem:
            fates.update((id(work), problem) for work, _ in part)
            break
    return t.Report(batch.outcomes(lambda work: fates.get(id(work), NOT_ATTEMPTED)), calls=api.calls)


def _as_stored(change):
    """With values in the form in which they are read, so that they compare. What has none is told by the batch."""
    rtype = change.rtype.upper()

    def data(given):
        try:
            return normal.stored(rtype, given)
        except Problem:
            return given

    edit = change.edit
    if isinstance(edit, t.Edit_RemoveValues):
        edit = t.Edit_RemoveValues([data(v) for v in edit.value])
    elif isinstance(edit, (t.Edit_AddValues, t.Edit_Replace)):
        edit = type(edit)([replace(v, data=data(v.data)) for v in edit.value])
    expect = None if change.expect is None else [data(v) for v in change.expect]
    return replace(change, edit=edit, expect=expect)


def _body(zone, work):
    """A part of a bulk request. An RRset is written whole, with the values of others as they stand; without records it is deleted."""
    subname = normal.checked(work.name, work.rtype, zone.name)
    body = {"subname": subname, "type": work.rtype, "records": [h.data for h in work.now]}
    # What deSEC would refuse without saying whose fault it is.
    for held in work.come():
        normal.stored(work.rtype, held.data)
    if len(work.now) > normal.MAX_VALUES:
        raise Problem.fix_input("values", f"A name and type can have {normal.MAX_VALUES} values.")
    return body | {"ttl": work.ttl()} if work.now else body


def _parts(bodies):
    """As few requests as their bounds allow, in order."""
    parts, size = [], 0
    for work, body in bodies:
        length = len(str(body)) + 100
        if not parts or len(parts[-1]) >= normal.MAX_CHANGES or size + length > BODY:
            parts.append([])
            size = 0
        parts[-1].append((work, body))
        size += length
    return parts


def _present(api, zone, wanted, stop):
    """What stands under these names, of any type, and whether that is all of it."""
    if len(wanted) > SINGLE_LOOKS:
        sets, complete = _whole(api, zone, stop)
        among = set(wanted)
        return [s for s in sets if s.name in among], complete
    found = []
    for name in wanted:
        if stop():
            return _grouped(zone, found), False
        if names.is_within(name, zone.name):
            found += api.at(normal.subname(name, zone.name))
    # Nothing found is good news only from a server that finds something: every zone has its NS.
    if not found and not api.at(""):
        return _whole(api, zone, stop)
    return _grouped(zone, found), True


def _whole(api, zone, stop):
    found, complete = api.all(stop)
    if complete and not found:
        message = f"deSEC shows no record at all in {zone.name}, not even its NS. Put the NS back there, if they are gone."
        raise Problem.fix_config("empty-zone", message)
    return _grouped(zone, found), complete


def _grouped(zone, rrsets):
    sets = []
    for rrset in rrsets:
        name = _dotted(f"{rrset['subname']}.{zone.name}" if rrset["subname"] else zone.name)
        sets.append(HeldSet(name, rrset["type"], [Held(data, rrset["ttl"]) for data in rrset["records"]]))
    return sets


def test(api, zone, try_write, nonce):
    """Tells reachability, credentials and zone apart. `nonce` makes the name of the trial record unique."""
    checks = []

    def say(step, ok, detail):
        checks.append(t.Check(step, ok, detail))

    try:
        about = _zone(api, zone) if zone is not None else None
        if zone is None:
            api.domains(lambda: False)
    except Problem as problem:
        steps = {"resolve": "dns", "tls": "tls", "credentials": "auth", "privilege": "auth", "zone-not-found": "zone"}
        step = steps.get(problem.code, "reach")
        if step in ("auth", "zone"):
            say("reach", True, "deSEC answers.")
        if step == "zone":
            say("auth", True, "The token is accepted.")
        say(step, False, problem.message)
        return checks
    say("reach", True, "deSEC answers.")
    say("auth", True, "The token is accepted.")
    if about is None:
        return checks
    minimum = _minimum(about)
    say("zone", True, f"The domain {about['name']} is there; its least TTL is {minimum}.")
    try:
        api.at("")
        say("read", True, "Records can be read.")
    except Problem as problem:
        say("read", False, problem.message)
        return checks
    if try_write:
        ref = t.ZoneRef(about["name"], _dotted(about["name"]))
        problems = [p for p in (_trial(api, ref, minimum, nonce, edit) for edit in _TRIAL) if p]
        say("write", not problems, problems[0] if problems else "A trial record was written and removed.")
    return checks


# Taken away in any case: a write without an answer may have happened.
_TRIAL = [t.Edit_AddValues([t.Value('"trial"')]), t.Edit_RemoveValues(['"trial"'])]


def _trial(api, zone, minimum, nonce, edit):
    """Why a trial write did not work; None if it did."""
    change = t.Change(1, f"_wharf-{nonce}.{zone.name}", "TXT", minimum, edit)
    try:
        outcome = apply(api, zone, [change], minimum, lambda: False).outcomes[0][1]
    except Problem as problem:
        return problem.message
    return outcome.value.message if isinstance(outcome, t.Outcome_Failed) else None
