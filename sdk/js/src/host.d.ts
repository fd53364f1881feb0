// Types of host.js: what exists in a component alone.
import type { Provider, Request, Response, Transport } from './index.js';

/** Lines in the log of the call at hand. The host cuts a line at 4 KiB and keeps 200 lines or 64 KiB a call. */
export const log: Record<'debug' | 'info' | 'warn' | 'error', (message: string) => void>;

/** Sends through the host. */
export class Host implements Transport {
  /** Sends once. An answer of any status is a Response; no answer throws an HttpFailure. */
  send(request: Request): Response;
}

/** What the component exports as `provider`: the functions of `implementation`, guarded. */
export function exportProvider(implementation: Provider): Provider;

export namespace clock {
  /** Wall clock, milliseconds since 1970-01-01 UTC. */
  function nowMs(): bigint;
  /** Never goes back; starts anywhere. */
  function monotonicMs(): bigint;
  /** What is left of this call's wall-clock budget. */
  function budgetMs(): number;
}
export namespace entropy {
  /** Fresh bytes from the operating system; at most 32. */
  function fresh(count: number): Uint8Array;
}
