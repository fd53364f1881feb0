// Hetzner Robot: PTR records of dedicated servers and their subnets. api.ts speaks to the webservice, work.ts says what has to be
// sent, reverse.ts knows which addresses a zone is about.
//
// Robot has no zones and no TTLs: it has one PTR for each address. A zone is there when the account has an address of it.
import { Problem } from '../vendor/wharf-sdk/index.js';
import type { Call, Provider } from '../vendor/wharf-sdk/index.js';
import { Host, exportProvider } from '../vendor/wharf-sdk/host.js';
import { Api } from './api.js';
import * as work from './work.js';

const URL = 'https://robot-ws.your-server.de';
// A call that has less left makes no further request.
const LEAST_MS = 2000;

function api(call: Call): Api {
  const user = call.config('user');
  if (!user) throw Problem.fixConfig('user', 'The setting `user` is missing: enter the webservice user of Robot.');
  return new Api(new Host(), call.config('server-url') ?? URL, user);
}

const implementation: Provider = {
  normalize: (_can, zone, sets) => sets.map((set) => work.verdict(zone, set)),
  probe: (call, zone) => work.probe(api(call), zone),
  testConnection: (call, zone, tryWrite) => work.test(api(call), zone, tryWrite),
  // Robot has none to name.
  listZones: () => [],
  read: (call, zone, what) => work.read(api(call), zone, what),
  apply: (call, zone, batch) => work.apply(api(call), zone, batch, () => call.cancelled() || call.deadlineMs() < LEAST_MS),
  poll() {
    throw Problem.reportBug('not-asynchronous', 'Robot never takes a change on for later.');
  },
};

export const provider = exportProvider(implementation);
