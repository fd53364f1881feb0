// What the provider does, over any transport.
import { Batch, Problem, Ttls, names, namesOf, rrsetOf } from '../vendor/wharf-sdk/index.js';
import type {
  Capabilities, Change, Check, Edit, Fate, HeldSet, Probed, Report, Rrset, Selector, Snapshot, Value, Verdict, Work, ZoneRef,
} from '../vendor/wharf-sdk/index.js';
import type { Api, ApiRecord, ApiZone } from './api.js';

// Types that the API takes. Others are read and left alone.
const TYPES = ['A', 'AAAA', 'CNAME', 'MX', 'NS', 'PTR', 'TXT'];
// Above so many names one read of the whole zone is cheaper than a look at each.
const SINGLE_LOOKS = 20;
const TTLS = new Ttls({ initial: 3600, min: 60, max: 86400 });

/** Sets, and whether those are all that there is. */
interface Found { sets: HeldSet[]; complete: boolean }

const bare = (name: string) => name.replace(/\.$/, '');
const dotted = (name: string) => `${bare(name).toLowerCase()}.`;

export const zoneRef = ({ id, name }: ApiZone): ZoneRef => ({ id, name: dotted(name) });

export function probe(api: Api, zone: string): Probed {
  const found = api.zones().find((z) => names.sameName(z.name, zone));
  if (!found) {
    throw Problem.fixConfig('zone-not-found', `The account has no zone ${zone} Create it, or remove it here.`);
  }
  return {
    info: {
      zone: zoneRef(found), writable: true, ttlMin: TTLS.min, ttlMax: TTLS.max, ttlDefault: TTLS.initial, ext: [],
    },
    can: {
      types: TYPES, maxValues: 0, maxChanges: 50, atomic: false,
      // Records are written one by one, so neighbours are never touched.
      nativeMerge: true,
      conditional: false, ownerPerValue: false, ownerPerRrset: false, ownerMaxBytes: 0, parallelPerZone: 1,
      parallelPerServer: 1, asynchronous: false, reverseOnly: false, ext: [],
    },
  };
}

const check = (step: string, ok: boolean, detail: string): Check => ({ step, ok, detail, ext: [] });

/** What works, step by step, up to the first that does not. */
export function test(api: Api, zone: string | undefined, tryWrite: boolean, nonce: string): Check[] {
  const checks: Check[] = [];
  let step = 'reach';
  try {
    const zones = api.zones();
    checks.push(check('auth', true, 'The token is accepted.'));
    if (zone === undefined) return checks;
    const found = zones.find((z) => names.sameName(z.name, zone));
    checks.push(check('zone', found !== undefined, found ? 'The zone is there.' : 'The account has no such zone.'));
    if (!found || !tryWrite) return checks;
    step = 'write';
    trial(api, zoneRef(found), nonce);
    checks.push(check('write', true, 'A trial record was written and removed.'));
  } catch (error) {
    if (!(error instanceof Problem)) throw error;
    // The first two are codes of the host (wit/deps/http/http.wit).
    const early: Record<string, string> = { resolve: 'dns', tls: 'tls', credentials: 'auth' };
    checks.push(check(step === 'write' ? step : early[error.code] ?? 'reach', false, error.message));
  }
  return checks;
}

/** Writes a record of our own and takes it away in any case: a write without an answer may have happened. */
function trial(api: Api, zone: ZoneRef, nonce: string): void {
  const change = (edit: Edit): void => {
    const one: Change = { id: 1, name: `_wharf-${nonce}.${zone.name}`, rtype: 'TXT', ttl: 60, edit, ext: [] };
    const outcome = apply(api, zone, [one], () => false).outcomes[0]?.[1];
    if (outcome?.tag === 'failed') {
      throw new Problem(outcome.val.action, outcome.val.code, outcome.val.message, outcome.val);
    }
  };
  try {
    change({ tag: 'add-values', val: [{ data: '"trial"', ext: [] }] });
  } finally {
    change({ tag: 'remove-values', val: ['"trial"'] });
  }
}

export function read(api: Api, zone: ZoneRef, what: Selector): Snapshot {
  const keys = what.tag === 'keys' ? what.val : [];
  const { sets, complete } = what.tag === 'keys'
    ? present(api, zone, [...new Set(keys.map(([name]) => name))])
    : whole(api, zone);
  const wanted = (set: HeldSet) => {
    if (what.tag === 'below') return names.isWithin(set.name, what.val);
    if (what.tag === 'keys') return keys.some(([n, t]) => t.toUpperCase() === set.rtype && names.sameName(n, set.name));
    return true;
  };
  const rrsets = sets.filter(wanted).map(rrsetOf).filter((set): set is Rrset => set !== undefined);
  return { rrsets, complete, calls: api.calls, ext: [] };
}

/** Looks, compares, and sends what differs. `stop()` says that time is up or nobody waits any more. */
export function apply(api: Api, zone: ZoneRef, changes: Change[], stop: () => boolean): Report {
  const { sets, complete } = present(api, zone, namesOf(zone.name, changes));
  if (!complete) throw Problem.retry('incomplete', 'The zone changed while it was read, so nothing was written.');
  const batch = new Batch(zone.name, sets, changes, TTLS);
  const fates = new Map<Work, Fate>();
  let ended = false;
  for (const set of batch.changed()) {
    ended ||= stop();
    if (ended) break;
    try {
      write(api, zone, set);
      fates.set(set, 'written');
    } catch (error) {
      if (!(error instanceof Problem)) throw error;
      fates.set(set, error);
      // What was refused hurts itself alone; everything else would hurt the next one too.
      ended = error.action !== 'fix-input';
    }
  }
  return { outcomes: batch.outcomes((set) => fates.get(set) ?? 'not-attempted'), calls: api.calls, ext: [] };
}

/** Writes one set, record by record: what goes first, so that a CNAME finds room. */
function write(api: Api, zone: ZoneRef, set: Work): void {
  const steps = [
    ...set.gone().map(({ id }) => () => api.delete(zone.id, id!)),
    ...set.retimed().map(({ id, ttl }) => () => api.setTtl(zone.id, id!, ttl)),
    ...set.come().map(({ data, ttl }) => () => api.create(zone.id, bare(set.name), set.rtype, data, ttl)),
  ];
  steps.forEach((step, written) => {
    try {
      step();
    } catch (error) {
      // `retry` promises that nothing was written, and a part of this set was.
      if (error instanceof Problem && written > 0 && error.action === 'retry') error.action = 'verify';
      throw error;
    }
  });
}

export function verdict(can: Capabilities, zone: string, set: Rrset): Verdict {
  try {
    const adjusted = adjust(can, zone, set);
    if (JSON.stringify(adjusted) === JSON.stringify(set)) return { tag: 'ok', val: set };
    const why = `Names and data are stored in canonical form, TTLs within ${TTLS.min} to ${TTLS.max}.`;
    return { tag: 'adjusted', val: [adjusted, why] };
  } catch (error) {
    if (error instanceof names.Refused) return { tag: 'refused', val: Problem.fixInput('value', error.message).record() };
    if (error instanceof Problem) return { tag: 'refused', val: error.record() };
    throw error;
  }
}

function adjust(can: Capabilities, zone: string, set: Rrset): Rrset {
  const name = names.canonical(set.name);
  if (!names.isWithin(name, zone)) throw Problem.fixInput('out-of-zone', `${name} is not in the zone ${zone}`);
  const rtype = set.rtype.toUpperCase();
  if (!can.types.includes(rtype)) throw Problem.fixInput('type', `Records of type ${rtype} are not written here.`);
  const values: Value[] = [];
  for (const value of set.values) {
    const data = names.canonicalData(rtype, value.data);
    if (!values.some((v) => v.data === data)) values.push({ ...value, data });
  }
  if (rtype === 'CNAME' && values.length > 1) throw Problem.fixInput('values', `${name} can have one CNAME only.`);
  return { ...set, name, rtype, ttl: TTLS.fit(set.ttl), values };
}

/** What stands under these names, and whether that is all of it. */
function present(api: Api, zone: ZoneRef, wanted: string[]): Found {
  if (wanted.length > SINGLE_LOOKS) return whole(api, zone);
  const lists = wanted.map((name) => api.records(zone.id, bare(name)));
  return { sets: lists.flatMap((list) => grouped(list.records)), complete: lists.every((list) => list.complete) };
}

function whole(api: Api, zone: ZoneRef): Found {
  const { records, complete } = api.records(zone.id);
  return { sets: grouped(records), complete };
}

function grouped(records: ApiRecord[]): HeldSet[] {
  const sets = new Map<string, HeldSet>();
  for (const { id, name, type, data, ttl } of records) {
    const key = `${dotted(name)} ${type}`;
    const set = sets.get(key) ?? { name: dotted(name), rtype: type, held: [] };
    set.held.push({ id, data, ttl });
    sets.set(key, set);
  }
  return [...sets.values()];
}
