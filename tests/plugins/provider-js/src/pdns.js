// It reads a zone whole before each write, so that other people's values and disabled ones survive, and sends one PATCH.
import { Batch, HttpFailure, Problem, Request, names, rrsetOf } from '../vendor/wharf-sdk/index.js';

export class Api {
  constructor(transport, url, server) {
    this.transport = transport;
    this.base = `${url.replace(/\/+$/, '')}/api/v1/servers/${server}/zones`;
    this.calls = 0;
  }

  send(request, write = false) {
    this.calls += 1;
    let response;
    try {
      response = this.transport.send(request.header('X-API-Key', '{{api-key}}'));
    } catch (error) {
      throw error instanceof HttpFailure ? Problem.fromHttp(error, write) : error;
    }
    const { status } = response;
    const said = response.excerpt(300);
    if (status === 401 || status === 403) throw Problem.fixConfig('credentials', `The key was refused: ${said}`).status(status);
    if (status === 404) throw Problem.fixConfig('zone-not-found', 'The server has no such zone.').status(status);
    if (status === 422) throw Problem.fixInput('refused', said).status(status);
    if (status >= 500) throw Problem.retry('server-error', said).status(status);
    if (!response.isSuccess()) throw Problem.reportBug('unexpected-status', said).status(status);
    return response;
  }

  zones(name) {
    const request = Request.get(this.base);
    return this.send(name === undefined ? request : request.query('zone', name)).json();
  }

  probe(zone) {
    const found = this.zones(zone).find((z) => names.sameName(z.name, zone));
    if (!found) throw Problem.fixConfig('zone-not-found', `The server has no zone ${zone}`);
    const { id, name, kind, serial } = found;
    const writable = !['Slave', 'Secondary', 'Consumer'].includes(kind);
    const can = {
      types: ['A', 'AAAA', 'PTR'], maxValues: 0, maxChanges: 100, atomic: true, nativeMerge: false, conditional: false,
      ownerPerValue: false, ownerPerRrset: false, ownerMaxBytes: 0, parallelPerZone: 1, parallelPerServer: 1,
      asynchronous: false, reverseOnly: false, ext: [],
    };
    return { info: { zone: { id, name }, writable, serial: String(serial), ext: [] }, can };
  }

  sets(zone) {
    const { rrsets } = this.send(Request.get(`${this.base}/${zone.id}`)).json();
    return rrsets.map(({ name, type, ttl, records }) => ({
      name, rtype: type, held: records.map(({ content, disabled }) => ({ data: content, ttl, hidden: disabled })),
    }));
  }

  read(zone, what) {
    const wanted = ({ name, rtype }) => {
      if (what.tag === 'keys') return what.val.some(([n, t]) => t === rtype && names.sameName(n, name));
      return what.tag === 'all' || names.isWithin(name, what.val);
    };
    const rrsets = this.sets(zone).filter(wanted).map(rrsetOf).filter(Boolean);
    return { rrsets, complete: true, calls: this.calls, ext: [] };
  }

  apply(zone, changes) {
    const batch = new Batch(zone.name, this.sets(zone), changes);
    const rrsets = batch.changed().map((set) => ({
      name: set.name, type: set.rtype, changetype: 'REPLACE', ttl: set.ttl() ?? set.now[0]?.ttl ?? 3600,
      records: set.now.map(({ data, hidden }) => ({ content: data, disabled: Boolean(hidden) })),
    }));
    if (rrsets.length > 0) this.send(new Request('PATCH', `${this.base}/${zone.id}`).json({ rrsets }), true);
    return { outcomes: batch.outcomes(() => 'written'), calls: this.calls, ext: [] };
  }
}
