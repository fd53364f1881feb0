// HTTP in two halves: a Request is plain data, so that building it and reading its Response can be tested on any machine; a
// transport (`{ send(request) }`) sends it, and `Host` of host.js is the one that a component has.
//
// A request is sent once and never repeated here. Secrets are `{{slot}}`: the host puts the value in on the way out.

/** A request that got no answer. `sent` is `not-sent` or `maybe-sent`. */
export class HttpFailure extends Error {
  constructor(sent, code, message, ext = []) {
    super(message);
    this.name = 'HttpFailure';
    this.sent = sent;
    this.code = code;
    this.ext = ext;
  }
}

/** One request, not yet sent. */
export class Request {
  constructor(method, url) {
    this.method = method;
    this.url = url;
    this.queries = [];
    this.headers = [];
    /** undefined, `{ contentType, text }` or `{ form: [[name, value]] }` */
    this.body = undefined;
    this.timeout = undefined;
    /** `{ slot, scheme, header, payload }`: what the host makes of a secret. */
    this.signs = [];
  }

  static get(url) {
    return new Request('GET', url);
  }

  query(name, value) {
    this.queries.push([name, String(value)]);
    return this;
  }

  header(name, value) {
    this.headers.push([name, value]);
    return this;
  }

  json(value) {
    return this.text('application/json', JSON.stringify(value));
  }

  text(contentType, text) {
    this.body = { contentType, text };
    return this;
  }

  /** Appends a form field, replacing a body of another kind. */
  form(name, value) {
    if (!this.body?.form) this.body = { form: [] };
    this.body.form.push([name, String(value)]);
    return this;
  }

  /** Lets the host make a header of a secret and these bytes; `wit/deps/http/http.wit` and docs/contract.md name the schemes. */
  sign(slot, scheme, header, payload) {
    this.signs.push({ slot, scheme, header, payload });
    return this;
  }

  /** Basic authentication: the secret in `slot` is the password. */
  basic(user, slot) {
    return this.sign(slot, 'basic', 'Authorization', new TextEncoder().encode(user));
  }

  /** From connect to the last byte. */
  timeoutMs(ms) {
    this.timeout = ms;
    return this;
  }
}

/** A whole answer. */
export class Response {
  constructor(status, headers, text) {
    this.status = status;
    this.headers = headers;
    this.text = text;
  }

  /** First value, or undefined; case of `name` does not matter. */
  header(name) {
    return this.headers.find(([n]) => n.toLowerCase() === name.toLowerCase())?.[1];
  }

  /** The body, decoded; throws a SyntaxError. */
  json() {
    return JSON.parse(this.text);
  }

  isSuccess() {
    return this.status >= 200 && this.status < 300;
  }

  /**
   * `Retry-After` in milliseconds: a number of seconds, or a date as seen from the answer's own `Date`, so that no clock is needed
   * (RFC 9110 §10.2.3). Undefined if it is neither, or does not fit.
   */
  retryAfterMs() {
    const text = this.header('retry-after')?.trim() ?? '';
    let ms = /^\d+$/.test(text) ? Number(text) * 1000 : NaN;
    if (Number.isNaN(ms)) ms = Math.max(httpDate(text) - httpDate(this.header('date') ?? ''), 0);
    return ms <= 0xffffffff ? ms : undefined;
  }

  /** The body's beginning, on one line, for a message: at most `max` characters. */
  excerpt(max) {
    const line = [...this.text.split(/\s+/).filter(Boolean).join(' ')];
    return line.length > max ? `${line.slice(0, max).join('')}…` : line.join('');
  }
}

/** Milliseconds since 1970 of a date as headers have it, `Wed, 21 Oct 2015 07:28:00 GMT` (RFC 9110 §5.6.7); NaN for any other text. */
function httpDate(text) {
  return /^[A-Z][a-z]{2}, \d{2} [A-Z][a-z]{2} \d{4} \d{2}:\d{2}:\d{2} GMT$/.test(text.trim()) ? Date.parse(text) : NaN;
}
