// DNS names and values in canonical form: pure, no lookups.
//
// Labels are compared whole (`notexample.com` is not below `example.com`), case-folded, and a backslash escapes the
// character behind it (RFC 1035 §5.1). Everything here expects A-labels; the host does IDNA.

/** Why a name or value is refused, as a sentence. */
export class Refused extends Error {
  constructor(message) {
    super(message);
    this.name = 'Refused';
  }
}

const lower = (text) => text.replace(/[A-Z]/g, (c) => c.toLowerCase());

/** The labels of a name, lower case, without the root. `"A.b."` → `["a", "b"]`; `"."` → none. */
export function labels(name) {
  if (name === '.') return [];
  const out = [];
  let label = '';
  const chars = [...name];
  for (let i = 0; i < chars.length; i += 1) {
    const c = chars[i];
    if (c === '\\') {
      label += c + (chars[i + 1] ?? '');
      i += 1;
    } else if (c === '.') {
      out.push(label);
      label = '';
    } else {
      label += lower(c);
    }
  }
  out.push(label);
  // The root: one empty label at the end.
  if (out.at(-1) === '') out.pop();
  return out;
}

function endsWith(parts, tail) {
  if (tail.length > parts.length) return false;
  return tail.every((label, i) => parts[parts.length - tail.length + i] === label);
}

/** Whether `name` is `zone` or below it, by whole labels. */
export const isWithin = (name, zone) => endsWith(labels(name), labels(zone));

/** Whether two names are the same. */
export const sameName = (a, b) => labels(a).join('.') === labels(b).join('.');

/** The part of `name` in front of `zone`: `@` for the zone itself, undefined when it is elsewhere. */
export function relative(name, zone) {
  const [parts, tail] = [labels(name), labels(zone)];
  if (!endsWith(parts, tail)) return undefined;
  return parts.slice(0, parts.length - tail.length).join('.') || '@';
}

/** Of several zones the one with the most labels that holds `name`. */
export function longestMatch(name, zones) {
  let best;
  for (const zone of zones) {
    if (isWithin(name, zone) && (best === undefined || labels(zone).length >= labels(best).length)) best = zone;
  }
  return best;
}

/** Octets of a label on the wire: an escape counts as one. */
const octets = (label) => label.replace(/\\(\d{1,3}|[^\d]|$)/g, 'x').length;

/** Lower case with the final dot; labels of 1 to 63 octets, 253 characters at most without the final dot. */
export function canonical(name) {
  const parts = labels(name);
  const bad = parts.find((l) => octets(l) < 1 || octets(l) > 63);
  if (bad !== undefined) {
    const why = bad === '' ? 'an empty label' : 'a label of more than 63 octets';
    throw new Refused(`\`${name}\` has ${why}: a label has 1 to 63.`);
  }
  if (parts.some((l) => /[^\x21-\x7e]/.test(l))) {
    throw new Refused(`\`${name}\` has a character that a name can't have: use A-labels (xn--…).`);
  }
  if (parts.reduce((sum, l) => sum + octets(l) + 1, 0) > 254) {
    throw new Refused(`\`${name}\` has more than 253 characters.`);
  }
  return `${parts.join('.')}.`;
}

/** Four numbers, or undefined. */
function parseV4(text) {
  const parts = text.split('.');
  if (parts.length !== 4 || !parts.every((p) => /^(0|[1-9]\d{0,2})$/.test(p) && Number(p) < 256)) return undefined;
  return parts.map(Number);
}

/** Sixteen numbers, or undefined. */
function parseV6(text) {
  let body = text;
  const v4 = /^(.*:)(\d+\.\d+\.\d+\.\d+)$/.exec(body);
  if (v4) {
    const four = parseV4(v4[2]);
    if (!four) return undefined;
    const hex = (a, b) => ((a << 8) | b).toString(16);
    body = `${v4[1]}${hex(four[0], four[1])}:${hex(four[2], four[3])}`;
  }
  const halves = body.split('::');
  if (halves.length > 2) return undefined;
  const groups = (half) => (half === '' ? [] : half.split(':'));
  const [front, back] = [groups(halves[0]), halves.length === 2 ? groups(halves[1]) : []];
  const missing = 8 - front.length - back.length;
  if (halves.length === 2 ? missing < 1 : missing !== 0) return undefined;
  const all = [...front, ...Array(halves.length === 2 ? missing : 0).fill('0'), ...back];
  if (!all.every((g) => /^[0-9a-fA-F]{1,4}$/.test(g))) return undefined;
  return all.flatMap((g) => [Number.parseInt(g, 16) >> 8, Number.parseInt(g, 16) & 255]);
}

const groupsOf = (bytes) => Array.from({ length: 8 }, (_, i) => (bytes[2 * i] << 8) | bytes[2 * i + 1]);

/** By RFC 5952. */
function formatV6(bytes) {
  const groups = groupsOf(bytes);
  let best = { at: 0, length: 0 };
  for (let i = 0; i < 8; i += 1) {
    let length = 0;
    while (i + length < 8 && groups[i + length] === 0) length += 1;
    if (length > best.length) best = { at: i, length };
  }
  const text = (list) => list.map((g) => g.toString(16)).join(':');
  if (best.length < 2) return text(groups);
  return `${text(groups.slice(0, best.at))}::${text(groups.slice(best.at + best.length))}`;
}

/** The name whose PTR speaks of an address: four octets below `in-addr.arpa.`, 32 nibbles below `ip6.arpa.`. */
export function reverseName(address) {
  const v4 = parseV4(address);
  if (v4) return `${v4.reverse().join('.')}.in-addr.arpa.`;
  const v6 = parseV6(address);
  if (!v6) throw new Refused(`\`${address}\` is not an address.`);
  const nibbles = v6.reverse().map((b) => `${(b & 15).toString(16)}.${(b >> 4).toString(16)}.`);
  return `${nibbles.join('')}ip6.arpa.`;
}

/** The address that a reverse name speaks of; undefined for zones, RFC 2317 names and anything else. */
export function reverseAddress(name) {
  const parts = labels(name);
  if (parts.pop() !== 'arpa') return undefined;
  const kind = parts.pop();
  parts.reverse();
  if (kind === 'in-addr' && parts.length === 4) return parseV4(parts.join('.'))?.join('.');
  if (kind !== 'ip6' || parts.length !== 32 || !parts.every((p) => /^[0-9a-f]$/.test(p))) return undefined;
  const digits = parts.join('');
  return formatV6(Array.from({ length: 16 }, (_, i) => Number.parseInt(digits.slice(2 * i, 2 * i + 2), 16)));
}

/**
 * A value in canonical presentation form: IPv4 dotted, IPv6 by RFC 5952, names lower case with the final dot. Types that are
 * not known here come back untouched but for space at both ends.
 */
export function canonicalData(rtype, given) {
  const data = given.trim();
  switch (rtype.toUpperCase()) {
    case 'A': {
      const v4 = parseV4(data);
      if (!v4) throw new Refused(`\`${data}\` is not an IPv4 address, and an A record holds one.`);
      return v4.join('.');
    }
    case 'AAAA': {
      const v6 = parseV6(data);
      if (!v6) throw new Refused(`\`${data}\` is not an IPv6 address, and an AAAA record holds one.`);
      const groups = groupsOf(v6);
      if (groups.slice(0, 5).every((g) => g === 0) && groups[5] === 0xffff) {
        throw new Refused(`\`${data}\` is an IPv4 address in IPv6 form: use an A record.`);
      }
      return formatV6(v6);
    }
    case 'PTR':
    case 'CNAME':
    case 'NS':
    case 'DNAME':
      return canonical(data);
    default:
      return data;
  }
}

/** Whether two values mean the same. What can't be read is compared as text. */
export function sameData(rtype, a, b) {
  try {
    return canonicalData(rtype, a) === canonicalData(rtype, b);
  } catch (error) {
    if (!(error instanceof Refused)) throw error;
    return a.trim() === b.trim();
  }
}
