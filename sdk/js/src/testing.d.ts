// Types of testing.js.
import type { Request, Response, Transport } from './index.js';

/** A transport for tests: answers in order, and keeps what was asked. */
export class Scripted implements Transport {
  asked: Request[];
  /** The next answer: a status and a body (text, or a value that is sent as JSON). */
  answer(status: number, body?: unknown, headers?: [string, string][]): this;
  /** The next request gets no answer. */
  lost(sent: 'not-sent' | 'maybe-sent', code: string): this;
  /** What was asked, as `GET https://…` lines. */
  lines(): string[];
  send(request: Request): Response;
}
