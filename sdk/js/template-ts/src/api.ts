// The requests of the API and the meaning of its answers; API.md describes it. One request a call, none repeated; `calls` counts
// them.
import { HttpFailure, Problem, Request } from '../vendor/wharf-sdk/index.js';
import type { Response, Transport } from '../vendor/wharf-sdk/index.js';

/** As the API has them, without final dot. */
export interface ApiZone { id: string; name: string }
export interface ApiRecord { id: string; name: string; type: string; data: string; ttl: number }

// Pages that are read at most: a server that always names a next one must not hold the call.
const PAGES = 500;

export class Api {
  calls = 0;
  readonly #transport: Transport;
  readonly #base: string;

  constructor(transport: Transport, url: string) {
    this.#transport = transport;
    this.#base = `${url.replace(/\/+$/, '')}/v1`;
  }

  zones(): ApiZone[] {
    const all: ApiZone[] = [];
    for (let page = 1; ;) {
      const { items, next } = this.#get(Request.get(`${this.#base}/zones`).query('page', page), 'zones');
      all.push(...(items as ApiZone[]));
      if (next === undefined || next <= page || next > PAGES) return all;
      page = next;
    }
  }

  /** All records, or those of one name (no final dot, as the API writes names). If not `complete`, something may be missing. */
  records(zone: string, name?: string): { records: ApiRecord[]; complete: boolean } {
    const found = new Map<string, ApiRecord>();
    const totals = new Set<unknown>();
    for (let page = 1; ;) {
      const request = Request.get(this.#records(zone)).query('page', page);
      if (name !== undefined) request.query('name', name);
      const { items, next, total } = this.#get(request, 'records');
      totals.add(total);
      // A record that moved to the next page while we read stands on both.
      for (const record of items as ApiRecord[]) found.set(record.id, record);
      if (next === undefined || next <= page || next > PAGES) {
        // Two totals: the zone was changed between two pages, and what moved up to one that was read already is missing.
        const complete = next === undefined && totals.size === 1 && totals.has(found.size);
        return { records: [...found.values()], complete };
      }
      page = next;
    }
  }

  create(zone: string, name: string, type: string, data: string, ttl = 3600): void {
    this.#send(new Request('POST', this.#records(zone)).json({ name, type, data, ttl }), true);
  }

  setTtl(zone: string, id: string, ttl: number | undefined): void {
    this.#send(new Request('PATCH', `${this.#records(zone)}/${encodeURIComponent(id)}`).json({ ttl }), true);
  }

  /** A record that is not there any more is no error. */
  delete(zone: string, id: string): void {
    try {
      this.#send(new Request('DELETE', `${this.#records(zone)}/${encodeURIComponent(id)}`), true);
    } catch (error) {
      if (!(error instanceof Problem) || error.httpStatus !== 404) throw error;
    }
  }

  #records(zone: string): string {
    return `${this.#base}/zones/${encodeURIComponent(zone)}/records`;
  }

  /** An answer that has a list of this name. */
  #get(request: Request, list: string): { items: unknown[]; next: number | undefined; total: unknown } {
    const response = this.#send(request, false);
    let answer: any;
    try {
      answer = response.json();
    } catch {
      // Told below.
    }
    const items: unknown = answer?.[list];
    if (!Array.isArray(items)) {
      const message = `The API answered ${response.status}, but not what was expected: ${response.excerpt(300)}`;
      throw Problem.reportBug('malformed-answer', message).status(response.status);
    }
    return { items, next: answer.next_page ?? undefined, total: answer.total };
  }

  #send(request: Request, write: boolean): Response {
    this.calls += 1;
    let response: Response;
    try {
      // The host puts the token in, where the manifest allows it.
      response = this.#transport.send(request.header('Authorization', 'Bearer {{token}}'));
    } catch (error) {
      throw error instanceof HttpFailure ? Problem.fromHttp(error, write) : error;
    }
    if (!response.isSuccess()) throw problemOf(response, write).status(response.status);
    return response;
  }
}

/** What the host must do about an answer that is no success. */
function problemOf(response: Response, write: boolean): Problem {
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
