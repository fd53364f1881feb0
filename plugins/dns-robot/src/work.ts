// What the provider does, over any transport.
import { Batch, Problem, Ttls, names, namesOf, rrsetOf } from '../vendor/wharf-sdk/index.js';
import type {
  Capabilities, Change, Check, Fate, HeldSet, Probed, Report, Rrset, Selector, Snapshot, Verdict, Work, ZoneRef,
} from '../vendor/wharf-sdk/index.js';
import type { Api, Entry } from './api.js';
import { isDefault, isReverseZone, overlap } from './reverse.js';

/** Robot has one of its own, which it does not tell. */
class NoTtls extends Ttls {
  constructor() {
    super({ initial: undefined });
  }

  override fit(): undefined {
    return undefined;
  }
}
const TTLS = new NoTtls();

const CAN: Capabilities = {
  types: ['PTR'],
  maxValues: 1,
  // Each is a request, and Robot allows 500 in an hour.
  maxChanges: 100,
  atomic: false, nativeMerge: false, conditional: false, ownerPerValue: false, ownerPerRrset: false, ownerMaxBytes: 0,
  parallelPerZone: 1, parallelPerServer: 1, asynchronous: false, reverseOnly: true, ext: [],
};

// A call has 200 (wit/deps/http/http.wit); what is left over is for the next one.
const REQUESTS = 190;

const bare = (name: string) => name.replace(/\.$/, '');

/** Fails unless the account has an address of the zone. */
function find(api: Api, zone: string): void {
  if (!isReverseZone(zone)) {
    const message = `Robot has PTRs of addresses alone, and ${zone} is no reverse zone of whole octets or nibbles.`;
    throw Problem.fixConfig('zone-not-found', message);
  }
  const here = api.subnets().some((n) => overlap(zone, n)) || api.addresses().some((n) => overlap(zone, n));
  if (!here) throw Problem.fixConfig('zone-not-found', `The account has no address of ${zone} Remove the zone here, or take another user.`);
}

export function probe(api: Api, zone: string): Probed {
  find(api, zone);
  return { info: { zone: { id: zone, name: zone }, writable: true, ext: [] }, can: CAN };
}

export function read(api: Api, zone: ZoneRef, what: Selector): Snapshot {
  let held: HeldSet[];
  if (what.tag === 'keys') {
    const keys = what.val.map(([name, rtype]) => `${names.canonical(name)} ${rtype.toUpperCase()}`);
    const wanted = [...new Set(what.val.map(([name]) => names.canonical(name)))];
    held = sets(present(api, zone, wanted)).filter((s) => keys.includes(`${s.name} ${s.rtype}`));
  } else {
    const all = inZone(api.list(), zone);
    // Nothing there is good news only in a zone of this account.
    if (all.length === 0) find(api, zone.name);
    held = sets(all).filter((s) => what.tag === 'all' || names.isWithin(s.name, what.val));
  }
  const rrsets = held.map(rrsetOf).filter((s): s is Rrset => s !== undefined);
  return { rrsets, complete: true, calls: api.calls, ext: [] };
}

const nameOf = ({ ip }: Entry): string => {
  try {
    return names.reverseName(ip);
  } catch {
    throw Problem.reportBug('malformed-answer', `Robot names \`${ip}\` as an address.`);
  }
};

const inZone = (entries: Entry[], zone: ZoneRef) => entries.filter((e) => names.isWithin(nameOf(e), zone.name));

/** What Robot has under these names. One is asked for by itself; more are in the list of all, which costs no more. */
function present(api: Api, zone: ZoneRef, wanted: string[]): Entry[] {
  const addresses = wanted.flatMap((name) => names.reverseAddress(name) ?? []);
  if (addresses.length > 1) return inZone(api.list(), zone).filter((e) => wanted.includes(nameOf(e)));
  return addresses.flatMap((ip) => {
    const ptr = api.get(ip);
    return ptr === undefined ? [] : [{ ip, ptr }];
  });
}

const sets = (entries: Entry[]): HeldSet[] =>
  entries.filter((e) => !isDefault(e.ptr)).map((e) => ({ name: nameOf(e), rtype: 'PTR', held: [{ data: `${bare(e.ptr)}.` }] }));

/** Looks, compares, and sends what differs. `stop()` says that time is up or nobody waits any more. */
export function apply(api: Api, zone: ZoneRef, changes: Change[], stop: () => boolean): Report {
  // Refuses doubled ids before any request.
  new Batch(zone.name, [], changes, TTLS);
  const there = present(api, zone, namesOf(zone.name, changes));
  const batch = new Batch(zone.name, sets(there), changes, TTLS);
  const taken = new Set(there.map(nameOf));
  const fates = new Map<Work, Fate>();
  let ended = false;
  for (const set of batch.changed()) {
    ended ||= stop() || api.calls >= REQUESTS;
    if (ended) break;
    try {
      write(api, set, taken);
      fates.set(set, 'written');
    } catch (error) {
      if (!(error instanceof Problem)) throw error;
      fates.set(set, error);
      // What hurts one address alone does not stop the others.
      ended = !['fix-input', 'replan'].includes(error.action) && error.code !== 'address-not-found';
    }
  }
  return { outcomes: batch.outcomes((set) => fates.get(set) ?? 'not-attempted'), calls: api.calls, ext: [] };
}

/** `taken` holds the names that have a PTR at Robot, Hetzner's own included. */
function write(api: Api, set: Work, taken: Set<string>): void {
  const ip = address(set.name, set.rtype);
  const [value, other] = set.now;
  if (value === undefined) return api.remove(ip);
  if (other !== undefined) {
    const message = `${ip} has the PTR ${value.data} and Robot keeps one for each address: remove that one before ${other.data} is added.`;
    throw Problem.fixInput('values', message);
  }
  const ptr = target(value.data);
  return taken.has(set.name) ? api.update(ip, ptr) : api.create(ip, ptr);
}

/** The address that a set speaks of. */
function address(name: string, rtype: string): string {
  if (rtype !== 'PTR') throw Problem.fixInput('type', `Robot has PTR records alone, and none of type ${rtype}.`);
  const ip = names.reverseAddress(name);
  if (ip === undefined) throw Problem.fixInput('name', `${name} is not the reverse name of an address.`);
  return ip;
}

/** A target as Robot takes it: a host's name, without the final dot. */
function target(data: string): string {
  const labels = names.labels(data);
  if (labels.length < 2 || !labels.every((l) => /^[a-z0-9]([a-z0-9-]*[a-z0-9])?$/.test(l))) {
    throw Problem.fixInput('value', `${data} is not the name of a host, and a PTR leads to one.`);
  }
  if (isDefault(data)) throw Problem.fixInput('value', `${data} is what Hetzner puts there by itself: delete the PTR instead.`);
  return bare(data);
}

export function verdict(zone: string, set: Rrset): Verdict {
  try {
    const adjusted = adjust(zone, set);
    if (JSON.stringify(adjusted) === JSON.stringify(set)) return { tag: 'ok', val: set };
    const why = 'Names are stored in canonical form, a value once, and the TTL is one of Robot\'s own.';
    return { tag: 'adjusted', val: [adjusted, why] };
  } catch (error) {
    if (error instanceof names.Refused) return { tag: 'refused', val: Problem.fixInput('value', error.message).record() };
    if (error instanceof Problem) return { tag: 'refused', val: error.record() };
    throw error;
  }
}

function adjust(zone: string, set: Rrset): Rrset {
  const [name, rtype] = [names.canonical(set.name), set.rtype.toUpperCase()];
  if (!names.isWithin(name, zone)) throw Problem.fixInput('out-of-zone', `${name} is not in the zone ${zone}`);
  address(name, rtype);
  const values = set.values.map((value) => ({ ...value, data: names.canonicalData('PTR', value.data) }));
  const once = values.filter((value, at) => values.findIndex((v) => v.data === value.data) === at);
  if (once.length > CAN.maxValues) throw Problem.fixInput('values', `${name} can have one PTR at Robot.`);
  for (const { data } of once) target(data);
  return { ...set, name, rtype, ttl: undefined, values: once };
}

/** Tells reachability, credentials and zone apart. */
export function test(api: Api, zone: string | undefined, tryWrite: boolean): Check[] {
  const checks: Check[] = [];
  const say = (step: string, ok: boolean, detail: string) => checks.push({ step, ok, detail, ext: [] });
  /** Undefined where it failed, which is told. */
  const attempt = <T>(step: string, work: () => T): T | undefined => {
    try {
      return work();
    } catch (error) {
      if (!(error instanceof Problem)) throw error;
      const steps: Record<string, string> = {
        resolve: 'dns', tls: 'tls', credentials: 'auth', forbidden: 'auth', 'zone-not-found': 'zone',
      };
      const at = steps[error.code] ?? step;
      if (checks.length === 0 && ['auth', 'zone'].includes(at)) say('reach', true, 'Robot answers.');
      if (at === 'zone') say('auth', true, 'The login is accepted.');
      say(at, false, error.message);
      return undefined;
    }
  };
  const found = attempt('reach', () => {
    if (zone === undefined) return api.list();
    find(api, zone);
    return [];
  });
  if (found === undefined) return checks;
  say('reach', true, 'Robot answers.');
  say('auth', true, 'The login is accepted.');
  if (zone === undefined) return checks;
  say('zone', true, `The account has addresses of ${zone}`);
  const entries = attempt('read', () => inZone(api.list(), { id: zone, name: zone }));
  if (entries === undefined) return checks;
  say('read', true, 'PTRs can be read.');
  if (tryWrite) {
    const [one] = entries;
    if (one === undefined) {
      say('write', true, 'Not tried: there is no PTR yet, and an address without one may be in use.');
    } else if (attempt('write', () => { api.update(one.ip, one.ptr); return true; })) {
      // No PTR of an address that somebody uses is anybody's to try out.
      say('write', true, `The PTR of ${one.ip} was written as it is.`);
    }
  }
  return checks;
}
