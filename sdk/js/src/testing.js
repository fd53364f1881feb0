// A transport for tests: answers in order, and keeps what was asked.
import { HttpFailure, Response } from './http.js';

export class Scripted {
  constructor() {
    this.answers = [];
    this.asked = [];
  }

  /** The next answer: a status and a body (text, or a value that is sent as JSON). */
  answer(status, body = '', headers = []) {
    this.answers.push(new Response(status, headers, typeof body === 'string' ? body : JSON.stringify(body)));
    return this;
  }

  /** The next request gets no answer. */
  lost(sent, code) {
    this.answers.push(new HttpFailure(sent, code, 'no answer'));
    return this;
  }

  /** What was asked, as `GET https://…` lines. */
  lines() {
    return this.asked.map((r) => `${r.method} ${r.url}`);
  }

  send(request) {
    this.asked.push(request);
    const answer = this.answers.shift() ?? new HttpFailure('not-sent', 'connect', 'the script has no further answer');
    if (answer instanceof HttpFailure) throw answer;
    return answer;
  }
}
