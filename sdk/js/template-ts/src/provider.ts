// A DNS provider for Wharf. api.ts speaks to the API, work.ts says what has to be sent; this file joins both to the contract
// (wit/deps/dns/dns.wit has every word of it).
//
// The host plans, matches zones, waits and repeats. A provider translates: it reads, applies a batch once, and maps each error
// to what the host must do about it. A Problem that is thrown is the answer.
import { Problem } from '../vendor/wharf-sdk/index.js';
import type { Call, Provider } from '../vendor/wharf-sdk/index.js';
import { Host, entropy, exportProvider } from '../vendor/wharf-sdk/host.js';
import { Api } from './api.js';
import * as work from './work.js';

function api(call: Call): Api {
  const url = call.config('server-url');
  if (!url) throw Problem.fixConfig('server-url', "The setting `server-url` is missing: enter the API's address.");
  return new Api(new Host(), url);
}

const implementation: Provider = {
  normalize: (can, zone, sets) => sets.map((set) => work.verdict(can, zone, set)),

  probe: (call, zone) => work.probe(api(call), zone),

  testConnection(call, zone, tryWrite) {
    // A name that nobody has.
    const nonce = Array.from(entropy.fresh(6), (byte) => byte.toString(16).padStart(2, '0')).join('');
    return work.test(api(call), zone, tryWrite, nonce);
  },

  listZones: (call) => api(call).zones().map(work.zoneRef),

  read: (call, zone, what) => work.read(api(call), zone, what),

  // Time to write down what was done, before the host ends the call.
  apply: (call, zone, batch) => work.apply(api(call), zone, batch, () => call.cancelled() || call.deadlineMs() < 2000),

  poll() {
    throw Problem.reportBug('not-asynchronous', 'This provider never takes a change on for later.');
  },
};

export const provider = exportProvider(implementation);
