// What a provider says when something did not work. `action` is what the host must do about it.

/** Thrown anywhere in a provider; the guard of host.js hands it to the host. */
export class Problem extends Error {
  constructor(action, code, message, more = {}) {
    super(message);
    this.name = 'Problem';
    this.action = action;
    this.code = code;
    this.retryAfterMs = more.retryAfterMs;
    this.httpStatus = more.httpStatus;
    this.providerCode = more.providerCode;
    this.ext = more.ext ?? [];
  }

  /** The value or name is refused, for good. */
  static fixInput(code, message) {
    return new Problem('fix-input', code, message);
  }

  /** An admin must act: credentials, quota, missing zone. */
  static fixConfig(code, message) {
    return new Problem('fix-config', code, message);
  }

  /** The live state differs from what the plan assumed. */
  static replan(code, message) {
    return new Problem('replan', code, message);
  }

  /** Rate limited; milliseconds to wait, if the provider said so. */
  static wait(code, message, afterMs) {
    return new Problem('wait', code, message, { retryAfterMs: afterMs });
  }

  /** A passing fault, and surely nothing was written. */
  static retry(code, message) {
    return new Problem('retry', code, message);
  }

  /** A write was sent and no answer came. */
  static verify(code, message) {
    return new Problem('verify', code, message);
  }

  /** The provider answered something that this plugin does not understand. */
  static reportBug(code, message) {
    return new Problem('report-bug', code, message);
  }

  /** A request that got no answer. A write that the peer may have seen must be looked at before it is repeated. */
  static fromHttp(failure, write) {
    const { sent, code, message, ext } = failure;
    let action = 'retry';
    if (sent === 'maybe-sent' && write) action = 'verify';
    else if (['rule', 'secret-position', 'unknown-slot', 'address-refused'].includes(code)) action = 'fix-config';
    else if (['already-sent', 'malformed', 'too-large'].includes(code)) action = 'report-bug';
    return new Problem(action, code, message, { ext });
  }

  /** Adds the status that the provider answered with. */
  status(status) {
    this.httpStatus = status;
    return this;
  }

  /** The record of the contract. */
  record() {
    const { action, code, message, retryAfterMs, httpStatus, providerCode, ext } = this;
    return { action, code, message, retryAfterMs, httpStatus, providerCode, ext };
  }
}
