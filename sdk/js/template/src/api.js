// The requests of the API and the meaning of its answers; API.md describes it. One request a call, none repeated; `calls` counts
// them.
import { HttpFailure, Problem, Request } from '../vendor/wharf-sdk/index.js';

// Pages that are read at most: a server that always names a next one must not hold the call.
const PAGES = 500;

export class Api {
  constructor(transport, url) {
    this.transport = transport;
    this.base = `${url.replace(/\/+$/, '')}/v1`;
    this.calls = 0;
  }

  zones() {
    const all = [];
    for (let page = 1; ;) {
      const answer = this.#get(Request.get(`${this.base}/zones`).query('page', page), 'zones');
      all.push(...answer.zones);
      const next = answer.next_page;
      if (!(next > page && next <= PAGES)) return all;
      page = next;
    }
  }

  /** All records, or those of one name (no final dot, as the API writes names). If not `complete`, something may be missing. */
  records(zone, name) {
    const found = new Map();
    const totals = new Set();
    for (let page = 1; ;) {
      const request = Request.get(this.#records(zone)).query('page', page);
      if (name !== undefined) request.query('name', name);
      const answer = this.#get(request, 'records');
      totals.add(answer.total);
      // A record that moved to the next page while we read stands on both.
      for (const record of answer.records) found.set(record.id, record);
      const next = answer.next_page;
      if (!(next > page && next <= PAGES)) {
        // Two totals: the zone was changed between two pages, and what moved up to one that was read already is missing.
        const complete = (next === null || next === undefined) && totals.size === 1 && totals.has(found.size);
        return { records: [...found.values()], complete };
      }
      page = next;
    }
  }

  create(zone, name, rtype, data, ttl) {
    this.#send(new Request('POST', this.#records(zone)).json({ name, type: rtype, data, ttl: ttl ?? 3600 }), true);
  }

  setTtl(zone, id, ttl) {
    this.#send(new Request('PATCH', `${this.#records(zone)}/${encodeURIComponent(id)}`).json({ ttl }), true);
  }

  /** A record that is not there any more is no error. */
  delete(zone, id) {
    try {
      this.#send(new Request('DELETE', `${this.#records(zone)}/${encodeURIComponent(id)}`), true);
    } catch (error) {
      if (error.httpStatus !== 404) throw error;
    }
  }

  #records(zone) {
    return `${this.base}/zones/${encodeURIComponent(zone)}/records`;
  }

  /** An answer that has a list of this name. */
  #get(request, list) {
    const response = this.#send(request, false);
    let answer;
    try {
      answer = response.json();
    } catch {
      // Told below.
    }
    if (!Array.isArray(answer?.[list])) {
      const message = `The API answered ${response.status}, but not what was expected: ${response.excerpt(300)}`;
      throw Problem.reportBug('malformed-answer', message).status(response.status);
    }
    return answer;
  }

  #send(request, write) {
    this.calls += 1;
    let response;
    try {
      // The host puts the token in, where the manifest allows it.
      response = this.transport.send(request.header('Authorization', 'Bearer {{token}}'));
    } catch (error) {
      throw error instanceof HttpFailure ? Problem.fromHttp(error, write) : error;
    }
    if (!response.isSuccess()) throw problemOf(response, write).status(response.status);
    return response;
  }
}

/** What the host must do about an answer that is no success. */
function problemOf(response, write) {
  const { status } = response;
  const said = response.excerpt(300);
  if (status === 401 || status === 403) return Problem.fixConfig('credentials', `The API refused the token: ${said}`);
  if (status === 402) return Problem.fixConfig('quota', `The zone is full: ${said}`);
  if (status === 404) return Problem.fixConfig('zone-not-found', `The API does not have this zone: ${said}`);
  if (status === 409) return Problem.replan('changed', `The zone has changed: ${said}`);
  if (status === 400 || status === 422) return Problem.fixInput('refused', `The API refused the record: ${said}`);
  if (status === 429) return Problem.wait('rate-limited', `The API asks to wait: ${said}`, response.retryAfterMs());
  // A gateway says nothing of what stands behind it.
  if (write && (status === 502 || status === 504)) return Problem.verify('gateway', `No answer from behind the gateway: ${said}`);
  if (status >= 500) return Problem.retry('server-error', `The API has a fault of its own: ${said}`);
  if (status >= 300 && status < 400) return Problem.fixConfig('redirect', 'The API answers with a redirect: enter the final address.');
  return Problem.reportBug('unexpected-status', `The API answered ${status}: ${said}`);
}
