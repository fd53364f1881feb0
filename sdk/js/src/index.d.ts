// Types of the SDK, and of the contract's records as a component sees them (`wit/deps/dns/dns.wit`): names in camel case,
// `option` as undefined, a variant as `{ tag, val }`.

export type Ext = [string, string][];
export interface Value { data: string; owner?: string; ext: Ext }
export interface Rrset {
  name: string; rtype: string; ttl?: number; values: Value[]; owner?: string; version?: string; ext: Ext;
}
export interface ZoneRef { id: string; name: string }
export interface ZoneInfo {
  zone: ZoneRef; writable: boolean; serial?: string; ttlMin?: number; ttlMax?: number; ttlDefault?: number;
  recordsUsed?: number; recordsMax?: number; ext: Ext;
}
export type Action = 'fix-input' | 'fix-config' | 'replan' | 'wait' | 'retry' | 'verify' | 'report-bug';
export interface ProblemRecord {
  action: Action; code: string; message: string; retryAfterMs?: number; httpStatus?: number; providerCode?: string; ext: Ext;
}
export interface Capabilities {
  types: string[]; maxValues: number; maxChanges: number; atomic: boolean; nativeMerge: boolean; conditional: boolean;
  ownerPerValue: boolean; ownerPerRrset: boolean; ownerMaxBytes: number; parallelPerZone: number; parallelPerServer: number;
  asynchronous: boolean; reverseOnly: boolean; ext: Ext;
}
export interface Probed { info: ZoneInfo; can: Capabilities }
export interface Check { step: string; ok: boolean; detail: string; ext: Ext }
export type Selector = { tag: 'all' } | { tag: 'keys'; val: [string, string][] } | { tag: 'below'; val: string };
export interface Snapshot { rrsets: Rrset[]; complete: boolean; version?: string; calls: number; ext: Ext }
export type Edit =
  | { tag: 'add-values'; val: Value[] } | { tag: 'remove-values'; val: string[] } | { tag: 'replace'; val: Value[] }
  | { tag: 'delete' };
export interface Change {
  id: number; name: string; rtype: string; ttl?: number; edit: Edit; expect?: string[]; owner?: string; ext: Ext;
}
export type Outcome =
  | { tag: 'applied'; val: Rrset } | { tag: 'unchanged'; val: Rrset } | { tag: 'accepted'; val: string }
  | { tag: 'failed'; val: ProblemRecord } | { tag: 'not-attempted' };
export interface Report { outcomes: [number, Outcome][]; version?: string; calls: number; ext: Ext }
export type Verdict =
  | { tag: 'ok'; val: Rrset } | { tag: 'adjusted'; val: [Rrset, string] } | { tag: 'refused'; val: ProblemRecord };

/** The call at hand. */
export interface Call {
  config(key: string): string | undefined;
  deadlineMs(): number;
  cancelled(): boolean;
  idempotencyKey(): string;
  learnt(key: string): string | undefined;
  progress(done: number, total: number): void;
}

/** What a provider implements. A thrown Problem is an answer. */
export interface Provider {
  normalize(can: Capabilities, zone: string, sets: Rrset[]): Verdict[];
  probe(call: Call, zone: string): Probed;
  testConnection(call: Call, zone: string | undefined, tryWrite: boolean): Check[];
  listZones(call: Call): ZoneRef[];
  read(call: Call, zone: ZoneRef, what: Selector): Snapshot;
  apply(call: Call, zone: ZoneRef, batch: Change[]): Report;
  poll(call: Call, zone: ZoneRef, operation: string): Outcome;
}

export class Problem extends Error {
  constructor(action: Action, code: string, message: string, more?: Partial<ProblemRecord>);
  action: Action; code: string; retryAfterMs?: number; httpStatus?: number; providerCode?: string; ext: Ext;
  static fixInput(code: string, message: string): Problem;
  static fixConfig(code: string, message: string): Problem;
  static replan(code: string, message: string): Problem;
  static wait(code: string, message: string, afterMs?: number): Problem;
  static retry(code: string, message: string): Problem;
  static verify(code: string, message: string): Problem;
  static reportBug(code: string, message: string): Problem;
  static fromHttp(failure: HttpFailure, write: boolean): Problem;
  status(status: number): this;
  record(): ProblemRecord;
}

export class HttpFailure extends Error {
  constructor(sent: 'not-sent' | 'maybe-sent', code: string, message: string, ext?: Ext);
  sent: 'not-sent' | 'maybe-sent'; code: string; ext: Ext;
}
export class Request {
  constructor(method: string, url: string);
  static get(url: string): Request;
  method: string; url: string; queries: [string, string][]; headers: [string, string][]; timeout?: number;
  body?: { contentType: string; text: string } | { form: [string, string][] };
  signs: { slot: string; scheme: string; header: string; payload: Uint8Array }[];
  query(name: string, value: unknown): this;
  header(name: string, value: string): this;
  json(value: unknown): this;
  text(contentType: string, text: string): this;
  form(name: string, value: unknown): this;
  sign(slot: string, scheme: string, header: string, payload: Uint8Array): this;
  basic(user: string, slot: string): this;
  timeoutMs(ms: number): this;
}
export class Response {
  constructor(status: number, headers: [string, string][], text: string);
  status: number; headers: [string, string][]; text: string;
  header(name: string): string | undefined;
  json(): any;
  isSuccess(): boolean;
  retryAfterMs(): number | undefined;
  excerpt(max: number): string;
}
export interface Transport { send(request: Request): Response }

export interface Held { id?: string; data: string; ttl?: number; hidden?: boolean }
export interface HeldSet { name: string; rtype: string; held: Held[] }
export class Ttls {
  /** `initial` undefined = the provider's automatic one. */
  constructor(bounds?: { initial?: number | undefined; min?: number; max?: number });
  initial?: number; min: number; max: number;
  fit(ttl: number | undefined): number | undefined;
}
export interface Work {
  name: string; rtype: string; before: Held[]; now: Held[];
  come(): Held[]; gone(): Held[]; retimed(): Held[]; isChanged(): boolean; ttl(): number | undefined; rrset(): Rrset;
}
export type Fate = 'written' | 'not-attempted' | { accepted: string } | Problem;
export class Batch {
  constructor(zone: string, present: HeldSet[], changes: Change[], ttls?: Ttls);
  changed(): Work[];
  outcomes(fate: (work: Work) => Fate): [number, Outcome][];
}
export const MAX_TTL: number;
export function namesOf(zone: string, changes: Change[]): string[];
export function rrsetOf(set: HeldSet): Rrset | undefined;

export namespace names {
  class Refused extends Error {}
  function labels(name: string): string[];
  function isWithin(name: string, zone: string): boolean;
  function sameName(a: string, b: string): boolean;
  function relative(name: string, zone: string): string | undefined;
  function longestMatch(name: string, zones: Iterable<string>): string | undefined;
  function canonical(name: string): string;
  function reverseName(address: string): string;
  function reverseAddress(name: string): string | undefined;
  function canonicalData(rtype: string, data: string): string;
  function sameData(rtype: string, a: string, b: string): boolean;
}
