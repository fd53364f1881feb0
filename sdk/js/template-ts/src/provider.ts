// A DNS provider for Wharf. api.ts speaks to the API, work.ts says what has to be sent; this file joins both to the contract
// (wit/deps/dns/dns.wit has every word of it).
//
// The host plans, matches zones, waits and repeats. A provider translates: it reads, applies a batch once, and maps each error
// to what the host must do about it. A Problem that is thrown is the answer.
import { Problem, names } from '../vendor/wharf-sdk/index.js';
import type { Call, Check, Provider } from '../vendor/wharf-sdk/index.js';
import { Host, exportProvider } from '../vendor/wharf-sdk/host.js';
import { Api } from './api.js';
import type { ApiZone } from './api.js';
import * as work from './work.js';

function api(call: Call): Api {
  const url = call.config('server-url');
  if (!url) throw Problem.fixConfig('server-url', "The setting `server-url` is missing: enter the API's address.");
  return new Api(new Host(), url);
}

const implementation: Provider = {
  normalize: (can, zone, sets) => sets.map((set) => work.verdict(can, zone, set)),

  probe: (call, zone) => work.probe(api(call), zone),

  testConnection(call, zone) {
    const check = (step: string, ok: boolean, detail: string): Check => ({ step, ok, detail, ext: [] });
    let zones: ApiZone[];
    try {
      zones = api(call).zones();
    } catch (error) {
      if (!(error instanceof Problem)) throw error;
      return [check(error.code === 'credentials' ? 'auth' : 'reach', false, error.message)];
    }
    const checks = [check('auth', true, 'The token is accepted.')];
    if (zone !== undefined) {
      const found = zones.some((z) => names.sameName(z.name, zone));
      checks.push(check('zone', found, found ? 'The zone is there.' : 'The account has no such zone.'));
    }
    return checks;
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
