// A throw-away PowerDNS provider in JavaScript: proves that the contract can be spoken from here, by the SDK.
import { Problem } from '../vendor/wharf-sdk/index.js';
import { Host, exportProvider } from '../vendor/wharf-sdk/host.js';
import { Api } from './pdns.js';

function api(call) {
  const url = call.config('server-url');
  if (!url) throw Problem.fixConfig('server-url', 'The setting `server-url` is missing.');
  return new Api(new Host(), url, call.config('server-id') ?? 'localhost');
}

export const provider = exportProvider({
  normalize: (_can, _zone, sets) => sets.map((val) => ({ tag: 'ok', val })),
  probe: (call, zone) => api(call).probe(zone),
  testConnection(call, zone) {
    api(call).zones(zone ?? 'example.');
    return [{ step: 'auth', ok: true, detail: 'The key is accepted.', ext: [] }];
  },
  listZones: (call) => api(call).zones().map(({ id, name }) => ({ id, name })),
  read: (call, zone, what) => api(call).read(zone, what),
  apply: (call, zone, batch) => api(call).apply(zone, batch),
  poll() {
    throw Problem.reportBug('not-asynchronous', 'Nothing is ever taken on for later.');
  },
});
