// The requests of the Robot webservice and the meaning of its answers. One request a call, none repeated; `calls` counts them.
//
// Facts are from https://robot.hetzner.com/doc/webservice/en.html (sections "Preface", "IP", "Subnet" and "Reverse DNS"). What it does
// not say is said where it is used.
import { HttpFailure, Problem, Request } from '../vendor/wharf-sdk/index.js';
import type { Response, Transport } from '../vendor/wharf-sdk/index.js';

/** A PTR as Robot has it; `ptr` has no final dot. */
export interface Entry { ip: string; ptr: string }
/** Addresses of the account: a subnet, or one address with a mask of all its bits. */
export interface Network { ip: string; mask: number }

// Where Robot does not say how long its limit counts; its sections on reverse DNS name an hour.
const INTERVAL_S = 3600;

type Json = Record<string, unknown>;
const isObject = (value: unknown): value is Json => typeof value === 'object' && value !== null && !Array.isArray(value);

export class Api {
  calls = 0;
  readonly #transport: Transport;
  readonly #base: string;
  readonly #user: string;

  constructor(transport: Transport, url: string, user: string) {
    this.#transport = transport;
    this.#base = url.replace(/\/+$/, '');
    this.#user = user;
  }

  /** All PTRs of the account. */
  list(): Entry[] {
    return this.#list('/rdns', 'rdns').map((item) => entry(item, '/rdns'));
  }

  /** The PTR of one address; undefined where there is none, or the account does not have the address (any more). */
  get(ip: string): string | undefined {
    const response = this.#send(Request.get(`${this.#base}/rdns/${ip}`), false, ['RDNS_NOT_FOUND', 'IP_NOT_FOUND']);
    return response && entry(decoded(response), '/rdns/{ip}').ptr;
  }

  /** The account's subnets. */
  subnets(): Network[] {
    return this.#list('/subnet', 'subnet').map((item) => network(item, 'subnet', undefined));
  }

  /** The account's single addresses. */
  addresses(): Network[] {
    return this.#list('/ip', 'ip').map((item) => network(item, 'ip', 128));
  }

  /** Where there is no PTR yet: Robot refuses if there is one. */
  create(ip: string, ptr: string): void {
    this.#write(new Request('PUT', `${this.#base}/rdns/${ip}`), ptr);
  }

  /** Whatever there is. */
  update(ip: string, ptr: string): void {
    this.#write(new Request('POST', `${this.#base}/rdns/${ip}`), ptr);
  }

  /** An address that is not the account's any more has no PTR of ours either. */
  remove(ip: string): void {
    const response = this.#send(new Request('DELETE', `${this.#base}/rdns/${ip}`), true, ['RDNS_NOT_FOUND', 'IP_NOT_FOUND']);
    // "No output".
    if (response && response.text.trim() !== '') throw unclear(response);
  }

  #write(request: Request, ptr: string): void {
    const response = this.#send(request.form('ptr', ptr), true, []);
    const said = response && decoded(response);
    const rdns = isObject(said) && isObject(said['rdns']) ? said['rdns'] : undefined;
    if (!response || typeof rdns?.['ptr'] !== 'string') throw unclear(response);
    const folded = (name: string) => name.replace(/\.$/, '').toLowerCase();
    if (folded(rdns['ptr']) !== folded(ptr)) throw unclear(response);
  }

  /** A list of objects, each within one of this name. Without entries it is a 404 of its own, and never an empty list. */
  #list(path: string, name: string): Json[] {
    const response = this.#send(Request.get(this.#base + path), false, ['NOT_FOUND']);
    if (!response) return [];
    const list = decoded(response);
    if (!Array.isArray(list) || list.length === 0 || !list.every((item) => isObject(item) && isObject(item[name]))) {
      const message = `Robot answered ${response.status} to ${path}, but not what was expected: ${response.excerpt(300)}`;
      throw Problem.reportBug('malformed-answer', message).status(response.status);
    }
    return list;
  }

  /** An answer that is a success; undefined for a 404 with one of these codes. */
  #send(request: Request, write: boolean, absent: string[]): Response | undefined {
    this.calls += 1;
    let response: Response;
    try {
      // The host puts user and password together, where the manifest allows it.
      response = this.#transport.send(request.basic(this.#user, 'password'));
    } catch (error) {
      throw error instanceof HttpFailure ? Problem.fromHttp(error, write) : error;
    }
    if (response.isSuccess()) return response;
    const body = decoded(response);
    const error = isObject(body) && isObject(body['error']) ? body['error'] : {};
    const code = typeof error['code'] === 'string' ? error['code'] : '';
    if (response.status === 404 && absent.includes(code)) return undefined;
    const problem = problemOf(response, code, error, write).status(response.status);
    if (code) problem.providerCode = code;
    throw problem;
  }
}

function decoded(response: Response): unknown {
  try {
    return response.json();
  } catch {
    return undefined;
  }
}

function entry(item: unknown, path: string): Entry {
  const rdns = isObject(item) ? item['rdns'] : undefined;
  if (!isObject(rdns) || typeof rdns['ip'] !== 'string' || typeof rdns['ptr'] !== 'string' || rdns['ptr'] === '') {
    throw Problem.reportBug('malformed-answer', `Robot answered something else than a PTR to ${path}.`);
  }
  return { ip: rdns['ip'], ptr: rdns['ptr'] };
}

/** A mask is a number; the documentation's own examples have it as text, too. Of a single address it is that of the server's network. */
function network(item: Json, name: string, whole: number | undefined): Network {
  const of = item[name];
  const mask = whole ?? (isObject(of) ? Number(of['mask']) : NaN);
  if (!isObject(of) || typeof of['ip'] !== 'string' || !Number.isInteger(mask)) {
    throw Problem.reportBug('malformed-answer', `Robot answered something else than a list of addresses to /${name}.`);
  }
  return { ip: of['ip'], mask };
}

/** A write that was answered, but not as a write that was done. */
function unclear(response: Response | undefined): Problem {
  return Problem.verify('malformed-answer', `Robot took the write, and answered: ${response?.excerpt(300) ?? 'nothing'}`);
}

/** What the host must do about an answer that is no success. */
function problemOf(response: Response, code: string, error: Json, write: boolean): Problem {
  const { status } = response;
  const said = typeof error['message'] === 'string' ? `${error['message']} (${code})` : response.excerpt(300);
  if (status === 401) {
    return Problem.fixConfig('credentials', `Robot refused the login, and closes for 10 minutes after the third such one: ${said}`);
  }
  if (status === 429 || (status === 403 && code === 'RATE_LIMIT_EXCEEDED')) {
    // Robot names the window and not what is left of it: after all of it there is room for sure.
    const seconds = typeof error['interval'] === 'number' && error['interval'] > 0 ? error['interval'] : INTERVAL_S;
    return Problem.wait('rate-limited', `Robot asks to wait: ${said}`, response.retryAfterMs() ?? Math.min(seconds, INTERVAL_S) * 1000);
  }
  if (status === 403) return Problem.fixConfig('forbidden', `Robot does not let this host or user in: ${said}`);
  if (status === 404 && code === 'IP_NOT_FOUND') {
    return Problem.fixConfig('address-not-found', `The account has no such address: ${said}`);
  }
  if (status === 404) return Problem.fixConfig('no-api', `There is no Robot webservice at this address: ${said}`);
  if (status === 400) {
    const fields = [error['invalid'], error['missing']].filter((list) => list).join(', ');
    return Problem.fixInput('refused', `Robot refused the PTR: ${said} ${fields}`.trim());
  }
  if (status === 409) return Problem.replan('changed', `There is a PTR by now: ${said}`);
  // RDNS_CREATE_FAILED and its like are "due to an internal error": what was done before it is not said.
  if (status >= 500 && write) return Problem.verify('server-error', `Robot failed at the write: ${said}`);
  if (status >= 500) return Problem.retry('server-error', `Robot has a fault of its own, or is being maintained: ${said}`);
  if (status >= 300 && status < 400) return Problem.fixConfig('redirect', 'Robot answers with a redirect: enter the final address.');
  return Problem.reportBug('unexpected-status', `Robot answered ${status}: ${said}`);
}
