// From what is there and what is asked for to what has to be sent: pure, and the same for every provider.
//
// A provider reads the names of a batch (namesOf), hands over what it found (new Batch), sends what changed() says, and tells
// what became of each set (outcomes). Kept by this: other people's values, and values that are there and not served, stay; so
// does the TTL of a set that others use too; what is so already is not sent; a change whose `expect` does not hold writes
// nothing.
import { Refused, canonical, canonicalData, isWithin, labels, sameData } from './names.js';
import { Problem } from './problem.js';

/** RFC 2181 §8. */
export const MAX_TTL = 0x7fffffff;

/** What a provider makes of TTLs, in seconds. `initial` undefined = the provider's automatic one. */
export class Ttls {
  constructor(bounds = {}) {
    Object.assign(this, { initial: 3600, min: 0, max: MAX_TTL, ...bounds });
  }

  /** Within the bounds; undefined stays so. */
  fit(ttl) {
    return ttl === undefined || ttl === null ? undefined : Math.min(Math.max(ttl, this.min), Math.max(this.max, this.min));
  }
}

const folded = (rtype, data) => {
  try {
    return canonicalData(rtype, data);
  } catch {
    return data;
  }
};

/** As it is read, of `{ name, rtype, held }`: values in canonical form; undefined when nothing of it is served. */
export function rrsetOf({ name, rtype, held }) {
  const served = held.filter((h) => !h.hidden);
  if (served.length === 0) return undefined;
  let shown = name;
  try {
    shown = canonical(name);
  } catch {
    // Shown as the provider has it.
  }
  const values = [...new Set(served.map((h) => folded(rtype, h.data)))].map((data) => ({ data, ext: [] }));
  return { name: shown, rtype, ttl: served[0].ttl, values, ext: [] };
}

/** The names that have to be looked at for a batch, canonical; those outside of the zone are left out. */
export function namesOf(zone, changes) {
  const found = new Set();
  for (const { name } of changes) {
    try {
      if (isWithin(name, zone)) found.add(canonical(name));
    } catch (error) {
      if (!(error instanceof Refused)) throw error;
    }
  }
  return [...found].sort();
}

/** A set in the course of a batch: `before` and `now` are lists of held values; what comes has no id. */
class Work {
  constructor(name, rtype, before) {
    Object.assign(this, { name, rtype, before, now: before.map((h) => ({ ...h })) });
  }

  same(a, b) {
    return a.id === b.id && Boolean(a.hidden) === Boolean(b.hidden) && sameData(this.rtype, a.data, b.data);
  }

  /** Values that have to be written. */
  come() {
    return this.now.filter((h) => !this.before.some((b) => this.same(b, h)));
  }

  /** Values that have to go. */
  gone() {
    return this.before.filter((h) => !this.now.some((n) => this.same(n, h)));
  }

  /** Values that stay with another TTL: as they shall be. */
  retimed() {
    return this.now.filter((h) => this.before.some((b) => this.same(b, h) && b.ttl !== h.ttl));
  }

  isChanged() {
    return this.come().length + this.gone().length + this.retimed().length > 0;
  }

  ttl() {
    return this.now.find((h) => !h.hidden)?.ttl;
  }

  rrset() {
    const { name, rtype } = this;
    return rrsetOf({ name, rtype, held: this.now }) ?? { name, rtype, values: [], ext: [] };
  }

  add(data, ttl) {
    const there = this.now.filter((h) => sameData(this.rtype, h.data, data));
    if (there.some((h) => !h.hidden)) return;
    if (there.length > 0) {
      const message = `${this.name} ${this.rtype} ${data} is there, but disabled. Enable or delete it at the provider.`;
      throw Problem.fixConfig('value-disabled', message);
    }
    this.now.push({ data: refusedAs('value', () => canonicalData(this.rtype, data)), ttl });
  }

  remove(unwanted) {
    this.now = this.now.filter((h) => h.hidden || !unwanted(h.data));
  }

  edit(change, ttls) {
    const asked = ttls.fit(change.ttl);
    const { tag, val } = change.edit;
    const has = (list) => (data) => list.some((v) => sameData(this.rtype, data, v));
    if (tag === 'add-values') {
      // The TTL of a set that others use too is theirs as well.
      const others = this.now.find((h) => !h.hidden);
      const ttl = others ? others.ttl : asked ?? ttls.initial;
      for (const { data } of val) this.add(data, ttl);
    } else if (tag === 'remove-values') {
      this.remove(has(val));
    } else if (tag === 'replace') {
      const ttl = asked ?? this.ttl() ?? ttls.initial;
      const wanted = has(val.map((v) => v.data));
      this.remove((data) => !wanted(data));
      for (const { data } of val) this.add(data, ttl);
      for (const held of this.now) if (!held.hidden) held.ttl = ttl;
    } else {
      this.remove(() => true);
    }
  }
}

function refusedAs(code, work) {
  try {
    return work();
  } catch (error) {
    if (error instanceof Refused) throw Problem.fixInput(code, error.message);
    throw error;
  }
}

/** A batch, worked out against `present`: a list of `{ name, rtype, held: [{ id, data, ttl, hidden }] }`. */
export class Batch {
  #found;
  #present;

  constructor(zone, present, changes, ttls = new Ttls()) {
    if (new Set(changes.map((c) => c.id)).size !== changes.length) {
      throw Problem.reportBug('duplicate-change', 'Two changes of the batch have the same id.');
    }
    this.works = [];
    // A batch of a thousand changes in a zone of thousands is compared by key.
    this.#found = new Map();
    this.#present = new Map();
    for (const set of present) {
      const key = `${labels(set.name).join('.')} ${set.rtype.toUpperCase()}`;
      this.#present.set(key, [...(this.#present.get(key) ?? []), ...set.held]);
    }
    this.steps = changes.map((change) => {
      try {
        return { id: change.id, ...this.#step(zone, change, ttls) };
      } catch (error) {
        if (error instanceof Problem) return { id: change.id, problem: error };
        throw error;
      }
    });
  }

  #step(zone, change, ttls) {
    const name = refusedAs('name', () => canonical(change.name));
    if (!isWithin(name, zone)) throw Problem.fixInput('out-of-zone', `${name} is not in the zone ${zone}`);
    const rtype = change.rtype.toUpperCase();
    const key = `${labels(name).join('.')} ${rtype}`;
    let work = this.#found.get(key);
    if (!work) {
      work = new Work(name, rtype, this.#present.get(key) ?? []);
      this.#found.set(key, work);
      this.works.push(work);
    }
    if (change.expect) {
      // As it was before this batch: the second change of a set expects nothing.
      const list = (all) => [...new Set(all.map((data) => folded(rtype, data)))].sort().join(', ');
      const live = list(work.before.filter((h) => !h.hidden).map((h) => h.data));
      const expected = list(change.expect);
      if (live !== expected) throw Problem.replan('changed', `${name} ${rtype} holds [${live}] and not [${expected}].`);
    }
    const former = work.now.map((h) => ({ ...h }));
    try {
      work.edit(change, ttls);
    } catch (error) {
      work.now = former;
      throw error;
    }
    return { work, touched: JSON.stringify(work.now) !== JSON.stringify(former) };
  }

  /** Sets that have to be written: emptied ones first, so that one type can make room for another. */
  changed() {
    const changed = this.works.filter((w) => w.isChanged());
    return [...changed.filter((w) => w.now.length === 0), ...changed.filter((w) => w.now.length > 0)];
  }

  /**
   * One outcome for each change, in the order of the batch. `fate(work)` is asked for sets that had to be written:
   * `'written'`, `'not-attempted'`, `{ accepted: operation }` or a Problem.
   */
  outcomes(fate) {
    return this.steps.map(({ id, problem, work, touched }) => {
      if (problem) return [id, { tag: 'failed', val: problem.record() }];
      if (!work.isChanged()) return [id, { tag: 'unchanged', val: work.rrset() }];
      const became = fate(work);
      if (became === 'written') return [id, { tag: touched ? 'applied' : 'unchanged', val: work.rrset() }];
      if (became instanceof Problem) return [id, { tag: 'failed', val: became.record() }];
      if (became?.accepted !== undefined) return [id, { tag: 'accepted', val: became.accepted }];
      return [id, { tag: 'not-attempted' }];
    });
  }
}
