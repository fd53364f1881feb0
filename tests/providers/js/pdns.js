// A throw-away PowerDNS provider in JavaScript: proves that the contract can be spoken from here.
//
// It reads a zone whole before each write, so that other people's values and disabled ones survive, and sends one
// PATCH. Every export passes through `guarded`, because a stray exception would end the call without a text.

import { Outbound } from 'wharf:http/client@0.1.0';

class Trouble extends Error {
  constructor(action, code, message, httpStatus) {
    super(message);
    this.problem = problem(action, code, message, httpStatus);
  }
}

function problem(action, code, message, httpStatus) {
  return { action, code, message, httpStatus, ext: [] };
}

const guarded = (name) => (...args) => {
  try {
    return implementation[name](...args);
  } catch (error) {
    if (error instanceof Trouble) throw error.problem;
    throw problem('report-bug', 'guest-exception', `${error?.name}: ${error?.message}\n${error?.stack}`);
  }
};

class Api {
  constructor(call) {
    const url = call.config('server-url');
    if (!url) throw new Trouble('fix-config', 'server-url', 'The setting `server-url` is missing.');
    this.base = `${url.replace(/\/+$/, '')}/api/v1/servers/${call.config('server-id') ?? 'localhost'}/zones`;
    this.calls = 0;
  }

  send(method, path, query = [], body = undefined) {
    this.calls += 1;
    const request = new Outbound(method, this.base + path);
    request.header('X-API-Key', '{{api-key}}');
    for (const [name, value] of query) request.query(name, value);
    if (body !== undefined) request.bodyText('application/json', JSON.stringify(body));
    let reply;
    try {
      reply = request.send();
    } catch (error) {
      const failure = error.payload;
      if (!failure) throw error;
      const lost = body !== undefined && failure.sent === 'maybe-sent';
      throw new Trouble(lost ? 'verify' : 'retry', failure.code, failure.message);
    } finally {
      request[Symbol.dispose]();
    }
    const status = reply.status();
    const text = reply.text();
    reply[Symbol.dispose]();
    const said = text.slice(0, 300);
    if (status === 401 || status === 403) throw new Trouble('fix-config', 'credentials', `The key was refused: ${said}`, status);
    if (status === 404) throw new Trouble('fix-config', 'zone-not-found', 'The server has no such zone.', status);
    if (status === 422) throw new Trouble('fix-input', 'refused', said, status);
    if (status >= 500) throw new Trouble('retry', 'server-error', said, status);
    if (status < 200 || status > 299) throw new Trouble('report-bug', 'unexpected-status', `${status}: ${said}`, status);
    return text === '' ? undefined : JSON.parse(text);
  }

  sets(zone) {
    return this.send('GET', `/${zone.id}`).rrsets;
  }
}

function visible(name, rtype, ttl, records) {
  const values = records.filter((r) => !r.disabled).map((r) => ({ data: r.content, ext: [] }));
  return { name, rtype, ttl, values, ext: [] };
}

// Records after an edit, or undefined when nothing changes. Disabled ones stay.
function edited(records, edit) {
  const live = records.filter((r) => !r.disabled).map((r) => r.content);
  const off = records.filter((r) => r.disabled);
  let wanted = [];
  if (edit.tag === 'add-values') wanted = [...new Set([...live, ...edit.val.map((v) => v.data)])];
  else if (edit.tag === 'remove-values') wanted = live.filter((data) => !edit.val.includes(data));
  else if (edit.tag === 'replace') wanted = edit.val.map((v) => v.data);
  if (wanted.length === live.length && wanted.every((data) => live.includes(data))) return undefined;
  return [...wanted.map((content) => ({ content, disabled: false })), ...off];
}

const implementation = {
  normalize: (_can, _zone, sets) => sets.map((val) => ({ tag: 'ok', val })),

  probe(call, zone) {
    const found = new Api(call).send('GET', '', [['zone', zone]]).find((x) => x.name === zone);
    if (!found) throw new Trouble('fix-config', 'zone-not-found', `The server has no zone ${zone}`);
    const { id, name, kind, serial } = found;
    const writable = !['Slave', 'Secondary', 'Consumer'].includes(kind);
    const can = {
      types: ['A', 'AAAA', 'PTR'], maxValues: 0, maxChanges: 100, atomic: true, nativeMerge: false,
      conditional: false, ownerPerValue: false, ownerPerRrset: false, ownerMaxBytes: 0, parallelPerZone: 1,
      parallelPerServer: 1, asynchronous: false, reverseOnly: false, ext: [],
    };
    return { info: { zone: { id, name }, writable, serial: String(serial), ext: [] }, can };
  },

  testConnection(call, zone) {
    try {
      new Api(call).send('GET', '', [['zone', zone ?? 'example.']]);
      return [{ step: 'auth', ok: true, detail: 'The key is accepted.', ext: [] }];
    } catch (error) {
      return [{ step: 'reach', ok: false, detail: error.message, ext: [] }];
    }
  },

  listZones: (call) => new Api(call).send('GET', '').map(({ id, name }) => ({ id, name })),

  read(call, zone, what) {
    const api = new Api(call);
    let sets = api.sets(zone);
    if (what.tag === 'keys') sets = sets.filter((s) => what.val.some(([n, t]) => n === s.name && t === s.type));
    if (what.tag === 'below') sets = sets.filter((s) => s.name === what.val || s.name.endsWith(`.${what.val}`));
    const rrsets = sets.map((s) => visible(s.name, s.type, s.ttl, s.records)).filter((s) => s.values.length > 0);
    return { rrsets, complete: true, calls: api.calls, ext: [] };
  },

  apply(call, zone, batch) {
    const api = new Api(call);
    const present = api.sets(zone);
    const outcomes = [];
    const patches = [];
    for (const { id, name, rtype, ttl, edit, expect } of batch) {
      const old = present.find((s) => s.name === name && s.type === rtype) ?? { records: [], ttl: ttl ?? 3600 };
      const live = old.records.filter((r) => !r.disabled).map((r) => r.content);
      if (expect && (expect.length !== live.length || !expect.every((data) => live.includes(data)))) {
        outcomes.push([id, { tag: 'failed', val: problem('replan', 'changed', 'The set has changed.') }]);
        continue;
      }
      const records = edited(old.records, edit);
      if (records === undefined) {
        outcomes.push([id, { tag: 'unchanged', val: visible(name, rtype, old.ttl, old.records) }]);
        continue;
      }
      patches.push({ name, type: rtype, ttl: old.ttl, changetype: 'REPLACE', records });
      outcomes.push([id, { tag: 'applied', val: visible(name, rtype, old.ttl, records) }]);
    }
    if (patches.length > 0) {
      patches.sort((a, b) => Math.sign(a.records.length) - Math.sign(b.records.length));
      api.send('PATCH', `/${zone.id}`, [], { rrsets: patches });
    }
    return { outcomes, calls: api.calls, ext: [] };
  },

  poll() {
    throw new Trouble('report-bug', 'not-asynchronous', 'Nothing is ever taken on for later.');
  },
};

export const provider = Object.fromEntries(Object.keys(implementation).map((name) => [name, guarded(name)]));
