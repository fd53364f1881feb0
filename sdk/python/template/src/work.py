"""What the provider does, over any transport."""

from dataclasses import replace

from wharf_sdk import Problem, names
from wharf_sdk import types as t
from wharf_sdk.batch import NOT_ATTEMPTED, WRITTEN, Batch, Held, HeldSet, Ttls, names_of

# Types that the API takes. Others are read and left alone.
TYPES = ["A", "AAAA", "CNAME", "MX", "NS", "PTR", "TXT"]
# Above so many names one read of the whole zone is cheaper than a look at each.
SINGLE_LOOKS = 20
TTLS = Ttls(initial=3600, min=60, max=86400)


def _bare(name):
    return name.removesuffix(".")


def _dotted(name):
    return _bare(name).lower() + "."


def zone_ref(zone):
    return t.ZoneRef(zone["id"], _dotted(zone["name"]))


def probe(api, zone):
    found = next((z for z in api.zones() if names.same_name(z["name"], zone)), None)
    if found is None:
        message = f"The account has no zone {zone} Create it, or remove it here."
        raise Problem.fix_config("zone-not-found", message)
    info = t.ZoneInfo(zone_ref(found), ttl_min=TTLS.min, ttl_max=TTLS.max, ttl_default=TTLS.initial)
    # Records are written one by one, so neighbours are never touched.
    return t.Probed(info, t.Capabilities(TYPES, max_changes=50, native_merge=True))


def test(api, zone, try_write, nonce):
    """What works, step by step, up to the first that does not."""
    try:
        zones = api.zones()
    except Problem as problem:
        # The first two are codes of the host (wit/deps/http/http.wit).
        step = {"resolve": "dns", "tls": "tls", "credentials": "auth"}.get(problem.code, "reach")
        return [t.Check(step, False, problem.message)]
    checks = [t.Check("auth", True, "The token is accepted.")]
    if zone is None:
        return checks
    found = next((z for z in zones if names.same_name(z["name"], zone)), None)
    detail = "The zone is there." if found else "The account has no such zone."
    checks.append(t.Check("zone", found is not None, detail))
    if found and try_write:
        try:
            _trial(api, zone_ref(found), nonce)
            checks.append(t.Check("write", True, "A trial record was written and removed."))
        except Problem as problem:
            checks.append(t.Check("write", False, problem.message))
    return checks


def _trial(api, zone, nonce):
    """Writes a record of our own and takes it away in any case: a write without an answer may have happened."""

    def change(edit):
        one = t.Change(1, f"_wharf-{nonce}.{zone.name}", "TXT", 60, edit)
        (_, outcome), *_ = apply(api, zone, [one], lambda: False).outcomes
        if isinstance(outcome, t.Outcome_Failed):
            failed = outcome.value
            raise Problem(failed.action, failed.code, failed.message, http_status=failed.http_status)

    try:
        change(t.Edit_AddValues([t.Value('"trial"')]))
    finally:
        change(t.Edit_RemoveValues(['"trial"']))


def read(api, zone, what):
    keys = what.value if isinstance(what, t.Selector_Keys) else []
    if isinstance(what, t.Selector_Keys):
        sets, complete = _present(api, zone, sorted({name for name, _ in keys}))
    else:
        sets, complete = _whole(api, zone)

    def wanted(held):
        if isinstance(what, t.Selector_Below):
            return names.is_within(held.name, what.value)
        if isinstance(what, t.Selector_Keys):
            return any(r.upper() == held.rtype and names.same_name(n, held.name) for n, r in keys)
        return True

    rrsets = [held.rrset() for held in sets if wanted(held)]
    return t.Snapshot([s for s in rrsets if s], complete, calls=api.calls)


def apply(api, zone, changes, stop):
    """Looks, compares, and sends what differs. `stop()` says that time is up or nobody waits any more."""
    sets, complete = _present(api, zone, names_of(zone.name, changes))
    if not complete:
        raise Problem.retry("incomplete", "The zone changed while it was read, so nothing was written.")
    batch = Batch(zone.name, sets, changes, TTLS)
    fates = {}
    for work in batch.changed():
        if stop():
            break
        try:
            _write(api, zone, work)
            fates[id(work)] = WRITTEN
        except Problem as problem:
            fates[id(work)] = problem
            # What was refused hurts itself alone; everything else would hurt the next one too.
            if problem.action != t.Action.FIX_INPUT:
                break
    return t.Report(batch.outcomes(lambda work: fates.get(id(work), NOT_ATTEMPTED)), calls=api.calls)


def _write(api, zone, work):
    """Writes one set, record by record: what goes first, so that a CNAME finds room."""
    steps = [lambda h=h: api.delete(zone.id, h.id) for h in work.gone()]
    steps += [lambda h=h: api.set_ttl(zone.id, h.id, h.ttl) for h in work.retimed()]
    steps += [lambda h=h: api.create(zone.id, _bare(work.name), work.rtype, h.data, h.ttl) for h in work.come()]
    for written, step in enumerate(steps):
        try:
            step()
        except Problem as problem:
            # `retry` promises that nothing was written, and a part of this set was.
            if written and problem.action == t.Action.RETRY:
                problem.action = t.Action.VERIFY
            raise


def verdict(can, zone, rrset):
    try:
        adjusted = _adjusted(can, zone, rrset)
    except names.Refused as error:
        return t.Verdict_Refused(Problem.fix_input("value", str(error)).record())
    except Problem as problem:
        return t.Verdict_Refused(problem.record())
    if adjusted == rrset:
        return t.Verdict_Ok(rrset)
    why = f"Names and data are stored in canonical form, TTLs within {TTLS.min} to {TTLS.max}."
    return t.Verdict_Adjusted((adjusted, why))


def _adjusted(can, zone, rrset):
    name = names.canonical(rrset.name)
    if not names.is_within(name, zone):
        raise Problem.fix_input("out-of-zone", f"{name} is not in the zone {zone}")
    rtype = rrset.rtype.upper()
    if rtype not in can.types:
        raise Problem.fix_input("type", f"Records of type {rtype} are not written here.")
    values = []
    for value in rrset.values:
        data = names.canonical_data(rtype, value.data)
        if all(v.data != data for v in values):
            values.append(replace(value, data=data))
    if rtype == "CNAME" and len(values) > 1:
        raise Problem.fix_input("values", f"{name} can have one CNAME only.")
    return replace(rrset, name=name, rtype=rtype, ttl=TTLS.fit(rrset.ttl), values=values)


def _present(api, zone, wanted):
    """What stands under these names, and whether that is all of it."""
    if len(wanted) > SINGLE_LOOKS:
        return _whole(api, zone)
    sets, complete = [], True
    for name in wanted:
        records, whole = api.records(zone.id, _bare(name))
        sets += _grouped(records)
        complete = complete and whole
    return sets, complete


def _whole(api, zone):
    records, complete = api.records(zone.id)
    return _grouped(records), complete


def _grouped(records):
    sets = {}
    for record in records:
        key = (_dotted(record["name"]), record["type"])
        sets.setdefault(key, HeldSet(*key)).held.append(Held(record["data"], record["ttl"], record["id"]))
    return list(sets.values())
