// What exists in a component alone: the host's side of the contract.
import * as clock from 'wharf:base/clock@0.1.0';
import * as entropy from 'wharf:base/entropy@0.1.0';
import { write } from 'wharf:base/log@0.1.0';
import { Outbound } from 'wharf:http/client@0.1.0';
import { guarded } from './guard.js';
import { HttpFailure, Response } from './http.js';

export { clock, entropy };

/** Lines in the log of the call at hand. The host cuts a line at 4 KiB and keeps 200 lines or 64 KiB a call. */
export const log = {
  debug: (message) => write('debug', message, []),
  info: (message) => write('info', message, []),
  warn: (message) => write('warn', message, []),
  error: (message) => write('error', message, []),
};

/** Sends through the host. */
export class Host {
  /** Sends once. An answer of any status is a Response; no answer throws an HttpFailure. */
  send(request) {
    const out = new Outbound(request.method, request.url);
    let reply;
    try {
      for (const [name, value] of request.queries) out.query(name, value);
      for (const [name, value] of request.headers) out.header(name, value);
      if (request.body?.form) for (const [name, value] of request.body.form) out.bodyForm(name, value);
      else if (request.body) out.bodyText(request.body.contentType, request.body.text);
      for (const { slot, scheme, header, payload } of request.signs) out.sign(slot, scheme, header, payload);
      if (request.timeout !== undefined) out.timeoutMs(request.timeout);
      reply = out.send();
    } catch (error) {
      const failure = error?.payload;
      if (!failure) throw error;
      throw new HttpFailure(failure.sent, failure.code, failure.message, failure.ext);
    } finally {
      // Handles are kept until the garbage collector runs, and a call may have a thousand.
      out[Symbol.dispose]();
    }
    try {
      return new Response(reply.status(), reply.headers(), reply.text());
    } finally {
      reply[Symbol.dispose]();
    }
  }
}

/** What the component exports as `provider`: the functions of `implementation`, guarded. */
export const exportProvider = (implementation) => guarded(implementation, (level, text) => write(level, text, []));
