"""How deSEC would store a set: pure. Bounds and forms are those of https://desec.readthedocs.io/en/latest/dns/rrsets.html and of
`api/desecapi/models/records.py` and `dns.py` in https://github.com/desec-io/desec-stack."""

import re
from dataclasses import replace

from wharf_sdk import Problem, names
from wharf_sdk import types as t
from wharf_sdk.batch import Ttls

# Types that are written. Others are read and left alone.
TYPES = ["A", "AAAA", "CNAME", "MX", "NS", "PTR", "TXT"]
# "The maximum value is 86400 (one day)".
TTL_MAX = 86_400
# What a domain has unless its owner has asked for less.
TTL_MIN = 3_600
# "The maximum number of array elements is 4091".
MAX_VALUES = 4_091
# RRsets of a bulk request. No limit is named; a call has to read and to compare them, too.
MAX_CHANGES = 500
# Where `normalize` finds the domain's own minimum: the capabilities are all that it gets.
TTL_MIN_KEY = "ttl-min"

_SUBNAME = re.compile(r"[*]|([*][.])?([a-z0-9_-]{1,63}[.])*[a-z0-9_-]{1,63}")
_SUBNAME_MAX = 178


def ttls(minimum):
    return Ttls(initial=max(3_600, minimum), min=minimum, max=TTL_MAX)


def learnt(ext):
    """The minimum that `probe` found, from the extras of its answer."""
    text = dict(ext).get(TTL_MIN_KEY, "")
    return int(text) if text.isascii() and text.isdigit() else TTL_MIN


def capabilities(minimum):
    return t.Capabilities(
        types=TYPES,
        max_values=MAX_VALUES,
        max_changes=MAX_CHANGES,
        atomic=True,
        # An RRset is written whole.
        native_merge=False,
        parallel_per_zone=1,
        # Zones share the account's limits of requests.
        parallel_per_server=1,
        ext=[(TTL_MIN_KEY, str(minimum))],
    )


def subname(name, zone):
    """The part in front of the zone, empty for the zone itself."""
    front = names.relative(name, zone)
    if front is None:
        raise Problem.fix_input("out-of-zone", f"{name} is not in the zone {zone}")
    return "" if front == "@" else front


def checked(name, rtype, zone):
    """The subname of a set that deSEC takes."""
    front = subname(name, zone)
    if rtype not in TYPES:
        raise Problem.fix_input("type", f"Records of type {rtype} are not written here.")
    if front and (len(front) > _SUBNAME_MAX or not _SUBNAME.fullmatch(front)):
        message = f"`{front}` can't be a name at deSEC: a-z, 0-9, - and _ in labels of up to 63, {_SUBNAME_MAX} characters in all."
        raise Problem.fix_input("name", message)
    if rtype == "CNAME" and not front:
        raise Problem.fix_input("name", "A CNAME can't stand at the zone itself, beside its NS.")
    return front


def verdict(can, zone, rrset):
    try:
        adjusted, reasons = _adjusted(learnt(can.ext), zone, rrset)
    except names.Refused as error:
        return t.Verdict_Refused(Problem.fix_input("name", str(error)).record())
    except Problem as problem:
        return t.Verdict_Refused(problem.record())
    return t.Verdict_Adjusted((adjusted, "; ".join(reasons) + ".")) if reasons else t.Verdict_Ok(rrset)


def _adjusted(minimum, zone, rrset):
    reasons = []
    name, rtype = names.canonical(rrset.name), rrset.rtype.upper()
    checked(name, rtype, zone)
    if (name, rtype) != (rrset.name, rrset.rtype):
        reasons.append("names are stored in lower case with the final dot, types in capitals")
    ttl = ttls(minimum).fit(rrset.ttl)
    if ttl != rrset.ttl:
        reasons.append(f"a TTL has {minimum} to {TTL_MAX} seconds in this domain")
    values = []
    for value in rrset.values:
        data = stored(rtype, value.data)
        if any(v.data == data for v in values):
            reasons.append(f"{data} is stored once")
            continue
        if data != value.data:
            reasons.append(f"{value.data} is stored as {data}")
        values.append(replace(value, data=data))
    if rtype == "CNAME" and len(values) > 1:
        raise Problem.fix_input("values", f"{name} can have one CNAME only.")
    if len(values) > MAX_VALUES:
        raise Problem.fix_input("values", f"A name and type can have {MAX_VALUES} values.")
    return replace(rrset, name=name, rtype=rtype, ttl=ttl, values=values), reasons


def stored(rtype, data):
    """A value in the form in which it is read back."""
    if rtype == "TXT":
        return quoted(data)
    try:
        if rtype != "MX":
            return names.canonical_data(rtype, data)
        priority, _, host = data.strip().partition(" ")
        if not (priority.isascii() and priority.isdigit() and int(priority) < 65_536 and host.strip()):
            raise names.Refused(f"`{data}` is not a priority and a host name, and an MX record holds those.")
        return f"{int(priority)} {names.canonical(host.strip())}"
    except names.Refused as error:
        raise Problem.fix_input("value", str(error)) from None


def quoted(data):
    """Strings of up to 255 octets in quotes, each octet that is not printable ASCII as `\\DDD`: longer ones are cut up on the wire, and
    come back so. Text without quotes is one string."""
    text = data.strip()
    strings = _strings(text) if text.startswith('"') else [text.encode()]
    parts = [s[at : at + 255] for s in strings for at in range(0, max(len(s), 1), 255)]
    return " ".join(f'"{"".join(map(_shown, part))}"' for part in parts)


def _shown(octet):
    if octet in b'"\\':
        return "\\" + chr(octet)
    return chr(octet) if 0x20 <= octet < 0x7F else f"\\{octet:03}"


_STRING = re.compile(r'"((?:[^"\\]|\\[0-9]{3}|\\[^0-9])*)"\s*', re.S)
_ESCAPE = re.compile(r"\\([0-9]{3}|.)", re.S)


def _strings(text):
    out, at = [], 0
    while at < len(text):
        found = _STRING.match(text, at)
        if found is None:
            raise Problem.fix_input("value", f"`{text[:100]}` is not a text in quotes.")
        octets, last = bytearray(), 0
        for escape in _ESCAPE.finditer(found[1]):
            octets += found[1][last : escape.start()].encode()
            code = escape[1]
            if code.isdigit() and len(code) == 3:
                if int(code) > 255:
                    raise Problem.fix_input("value", f"`\\{code}` is no octet.")
                octets.append(int(code))
            else:
                octets += code.encode()
            last = escape.end()
        out.append(bytes(octets + found[1][last:].encode()))
        at = found.end()
    return out
