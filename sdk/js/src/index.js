// Write Wharf DNS providers in JavaScript. Everything here is pure and runs anywhere; host.js exists in a component alone.
export * as names from './names.js';
export { Problem } from './problem.js';
export { HttpFailure, Request, Response } from './http.js';
export { Batch, MAX_TTL, Ttls, namesOf, rrsetOf } from './batch.js';
