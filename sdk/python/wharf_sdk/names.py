"""DNS names and values in canonical form: pure, no lookups.

Labels are compared whole (`notexample.com` is not below `example.com`), case-folded, and a backslash escapes the character
behind it (RFC 1035 §5.1). Everything here expects A-labels; the host does IDNA.
"""

import ipaddress
import re

_LOWER = {c: c + 32 for c in range(ord("A"), ord("Z") + 1)}


class Refused(Exception):
    """Why a name or value is refused, as a sentence."""


def labels(name):
    """The labels of a name, lower case, without the root. `"A.b."` → `["a", "b"]`; `"."` → none."""
    if name == ".":
        return []
    out, label, chars = [], "", iter(name)
    for c in chars:
        if c == "\\":
            label += c + next(chars, "")
        elif c == ".":
            out.append(label)
            label = ""
        else:
            label += c.translate(_LOWER)
    out.append(label)
    # The root: one empty label at the end.
    if out[-1] == "":
        out.pop()
    return out


def is_within(name, zone):
    """Whether `name` is `zone` or below it, by whole labels."""
    return relative(name, zone) is not None


def same_name(a, b):
    return labels(a) == labels(b)


def relative(name, zone):
    """The part of `name` in front of `zone`: `@` for the zone itself, None when it is elsewhere."""
    parts, tail = labels(name), labels(zone)
    front = len(parts) - len(tail)
    if front < 0 or parts[front:] != tail:
        return None
    return ".".join(parts[:front]) or "@"


def longest_match(name, zones):
    """Of several zones the one with the most labels that holds `name`."""
    return max((z for z in zones if is_within(name, z)), key=lambda z: len(labels(z)), default=None)


def _octets(label):
    """Octets of a label on the wire: an escape counts as one."""
    return len(re.sub(r"\\(\d{1,3}|\D|$)", "x", label))


def canonical(name):
    """Lower case with the final dot; labels of 1 to 63 octets, 253 characters at most without the final dot."""
    parts = labels(name)
    for label in parts:
        if not 1 <= _octets(label) <= 63:
            why = "a label of more than 63 octets" if label else "an empty label"
            raise Refused(f"`{name}` has {why}: a label has 1 to 63.")
    if any(re.search(r"[^\x21-\x7e]", label) for label in parts):
        raise Refused(f"`{name}` has a character that a name can't have: use A-labels (xn--…).")
    if sum(_octets(label) + 1 for label in parts) > 254:
        raise Refused(f"`{name}` has more than 253 characters.")
    return ".".join(parts) + "."


def reverse_name(address):
    """The name whose PTR speaks of an address: four octets below `in-addr.arpa.`, 32 nibbles below `ip6.arpa.`."""
    try:
        return ipaddress.ip_address(address).reverse_pointer + "."
    except ValueError:
        raise Refused(f"`{address}` is not an address.") from None


def reverse_address(name):
    """The address that a reverse name speaks of; None for zones, RFC 2317 names and anything else."""
    parts = labels(name)[::-1]
    try:
        if parts[:2] == ["arpa", "in-addr"] and len(parts) == 6:
            return str(ipaddress.IPv4Address(".".join(parts[2:])))
        if parts[:2] == ["arpa", "ip6"] and len(parts) == 34 and all(re.fullmatch("[0-9a-f]", p) for p in parts[2:]):
            return str(ipaddress.IPv6Address(int("".join(parts[2:]), 16)))
    except ValueError:
        pass
    return None


def canonical_data(rtype, data):
    """A value in canonical presentation form: IPv4 dotted, IPv6 by RFC 5952, names lower case with the final dot. Types that are
    not known here come back untouched but for space at both ends."""
    data = data.strip()
    rtype = rtype.upper()
    if rtype == "A":
        try:
            return str(ipaddress.IPv4Address(data))
        except ValueError:
            raise Refused(f"`{data}` is not an IPv4 address, and an A record holds one.") from None
    if rtype == "AAAA":
        try:
            if "%" in data:
                raise ValueError
            address = ipaddress.IPv6Address(data)
        except ValueError:
            raise Refused(f"`{data}` is not an IPv6 address, and an AAAA record holds one.") from None
        if address.ipv4_mapped is not None:
            raise Refused(f"`{data}` is an IPv4 address in IPv6 form: use an A record.")
        return str(address)
    return canonical(data) if rtype in ("PTR", "CNAME", "NS", "DNAME") else data


def same_data(rtype, a, b):
    """Whether two values mean the same. What can't be read is compared as text."""
    try:
        return canonical_data(rtype, a) == canonical_data(rtype, b)
    except Refused:
        return a.strip() == b.strip()
