import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { Change, Edit, Outcome, Problem, Rrset, Verdict } from '../vendor/wharf-sdk/index.js';
import { Scripted } from '../vendor/wharf-sdk/testing.js';
import { Api } from '../src/api.js';
import { isDefault, isReverseZone, overlap } from '../src/reverse.js';
import * as work from '../src/work.js';

const BASE = 'https://robot.test';
const name = '2.0.192.in-addr.arpa.';
const zone = { id: name, name };
const api = (script: Scripted) => new Api(script, `${BASE}/`, '#ws+test');
const rdns = (ip: string, ptr: string) => ({ rdns: { ip, ptr } });
const refused = (status: number, code: string, more = {}) => ({ error: { status, code, message: `no: ${code}`, ...more } });
const change = (id: number, n: number, edit: Edit, more: Partial<Change> = {}): Change => ({
  id, name: `${n}.${name}`, rtype: 'PTR', ttl: 3600, edit, ext: [], ...more,
});
const add = (data: string): Edit => ({ tag: 'add-values', val: [{ data, ext: [] }] });
const remove = (data: string): Edit => ({ tag: 'remove-values', val: [data] });
const apply = (script: Scripted, ...changes: Change[]): Outcome[] =>
  work.apply(api(script), zone, changes, () => false).outcomes.map(([, outcome]) => outcome);
const code = (outcome: Outcome | undefined) => (outcome?.tag === 'failed' ? `${outcome.val.action} ${outcome.val.code}` : outcome?.tag);
const form = (script: Scripted) => script.asked.map((r) => (r.body && 'form' in r.body ? r.body.form : undefined));
const throws = (what: () => unknown, action: string, word: string) =>
  assert.throws(what, (p: Problem) => p.action === action && p.code === word, `${action} ${word}`);
const subnets = [{ subnet: { ip: '192.0.2.64', mask: 26 } }];

test('a first ptr is made where robot refuses if there is one by now', () => {
  const script = new Scripted().answer(404, refused(404, 'RDNS_NOT_FOUND')).answer(201, rdns('192.0.2.7', 'vm.example.test'));
  assert.deepEqual(apply(script, change(1, 7, add('vm.example.test.'))).map(code), ['applied']);
  assert.deepEqual(script.lines(), [`GET ${BASE}/rdns/192.0.2.7`, `PUT ${BASE}/rdns/192.0.2.7`]);
  assert.deepEqual(form(script)[1], [['ptr', 'vm.example.test']]);
  const [sign] = script.asked[0]?.signs ?? [];
  assert.deepEqual([sign?.slot, sign?.scheme, sign?.header], ['password', 'basic', 'Authorization']);
  const late = new Scripted().answer(404, refused(404, 'RDNS_NOT_FOUND')).answer(409, refused(409, 'RDNS_ALREADY_EXISTS'));
  assert.deepEqual(apply(late, change(1, 7, add('vm.example.test.'))).map(code), ['replan changed']);
});

test('what hetzner puts there by itself is no ptr and gives way', () => {
  const there = rdns('192.0.2.7', 'static.7.2.0.192.clients.your-server.de');
  const script = new Scripted().answer(200, there).answer(200, rdns('192.0.2.7', 'vm.example.test'));
  const changed = change(1, 7, add('vm.example.test.'), { expect: [] });
  assert.deepEqual(apply(script, changed).map(code), ['applied']);
  assert.equal(script.lines()[1], `POST ${BASE}/rdns/192.0.2.7`);
  const shown = work.read(api(new Scripted().answer(200, there)), zone, { tag: 'keys', val: [[`7.${name}`, 'PTR']] });
  assert.deepEqual([shown.rrsets, shown.complete], [[], true]);
  for (const ptr of ['static.7.2.0.192.clients.your-server.de', 'static.192-0-2-7.clients.your-server.de.']) assert(isDefault(ptr), ptr);
  assert(!isDefault('static.clients.your-server.de.example.test'));
});

test('a ptr of somebody else stays and the second one is refused', () => {
  const script = new Scripted().answer(200, rdns('192.0.2.7', 'a.example.test'));
  const [outcome] = apply(script, change(1, 7, add('b.example.test.')));
  assert.equal(code(outcome), 'fix-input values');
  assert.equal(script.asked.length, 1);
});

test('one ptr takes the place of another in one request, and a removed one is deleted', () => {
  const script = new Scripted()
    .answer(200, [rdns('192.0.2.7', 'a.example.test'), rdns('192.0.2.8', 'c.example.test'), rdns('198.51.100.1', 'x.test')])
    // Those that only go come first.
    .answer(200, '')
    .answer(200, rdns('192.0.2.7', 'b.example.test'));
  const outcomes = apply(
    script, change(1, 7, remove('a.example.test.')), change(2, 7, add('b.example.test.')), change(3, 8, { tag: 'delete' }),
  );
  assert.deepEqual(outcomes.map(code), ['applied', 'applied', 'applied']);
  assert.deepEqual(script.lines(), [`GET ${BASE}/rdns`, `DELETE ${BASE}/rdns/192.0.2.8`, `POST ${BASE}/rdns/192.0.2.7`]);
});

test('what is so already and what is gone with its address is not written', () => {
  assert.deepEqual(apply(new Scripted().answer(200, rdns('192.0.2.7', 'VM.example.test')), change(1, 7, add('vm.example.test.'))).map(code), ['unchanged']);
  const gone = new Scripted().answer(404, refused(404, 'IP_NOT_FOUND'));
  assert.deepEqual(apply(gone, change(1, 7, remove('vm.example.test.'))).map(code), ['unchanged']);
});

test('an address that is not ours hurts itself alone, wrong credentials hurt all', () => {
  const both = (...answers: [number, unknown][]) => {
    const script = new Scripted().answer(404, refused(404, 'NOT_FOUND'));
    for (const [status, body] of answers) script.answer(status, body);
    const outcomes = apply(script, change(1, 7, add('a.example.test.')), change(2, 8, add('b.example.test.')));
    return [...outcomes.map(code), script.asked.length];
  };
  const done: [number, unknown] = [201, rdns('192.0.2.8', 'b.example.test')];
  assert.deepEqual(both([404, refused(404, 'IP_NOT_FOUND')], done), ['fix-config address-not-found', 'applied', 3]);
  assert.deepEqual(both([400, refused(400, 'INVALID_INPUT', { invalid: ['ptr'] })], done), ['fix-input refused', 'applied', 3]);
  assert.deepEqual(both([401, refused(401, 'UNAUTHORIZED')]), ['fix-config credentials', 'not-attempted', 2]);
  assert.deepEqual(both([403, refused(403, 'RATE_LIMIT_EXCEEDED', { interval: 60 })]), ['wait rate-limited', 'not-attempted', 2]);
});

test('what a call has no requests for is left to the next one', () => {
  const script = new Scripted().answer(404, refused(404, 'NOT_FOUND'));
  const changes = Array.from({ length: 250 }, (_, n) => change(n, n + 1, add('vm.example.test.')));
  for (const { name: owner } of changes) script.answer(201, rdns(`192.0.2.${owner.split('.')[0]}`, 'vm.example.test'));
  const outcomes = apply(script, ...changes).map(code);
  assert.deepEqual([outcomes.filter((c) => c === 'applied').length, outcomes.filter((c) => c === 'not-attempted').length], [189, 61]);
});

test('a write without a good answer is looked at before it is repeated', () => {
  for (const [status, body] of [
    [500, refused(500, 'RDNS_CREATE_FAILED')], [502, '<html>'], [201, ''], [201, '{}'], [201, rdns('192.0.2.7', 'other.test')],
  ] as [number, unknown][]) {
    const script = new Scripted().answer(404, refused(404, 'RDNS_NOT_FOUND')).answer(status, body);
    const [outcome] = apply(script, change(1, 7, add('vm.example.test.')));
    assert.match(String(code(outcome)), /^verify /, JSON.stringify(body));
  }
  const lost = new Scripted().answer(404, refused(404, 'RDNS_NOT_FOUND')).lost('maybe-sent', 'timeout');
  assert.equal(code(apply(lost, change(1, 7, add('vm.example.test.')))[0]), 'verify timeout');
});

test('a rate limit is waited out as long as robot says', () => {
  const after = (body: unknown, status = 403, headers: [string, string][] = []) => {
    try {
      work.probe(api(new Scripted().answer(status, body, headers)), name);
    } catch (error) {
      return [(error as Problem).action, (error as Problem).retryAfterMs];
    }
    return [];
  };
  assert.deepEqual(after(refused(403, 'RATE_LIMIT_EXCEEDED', { max_request: 500, interval: 3600 })), ['wait', 3_600_000]);
  assert.deepEqual(after(refused(403, 'RATE_LIMIT_EXCEEDED', { interval: 5 })), ['wait', 5000]);
  assert.deepEqual(after(refused(403, 'RATE_LIMIT_EXCEEDED', { interval: 1e9 })), ['wait', 3_600_000]);
  assert.deepEqual(after('slowly', 429, [['Retry-After', '7']]), ['wait', 7000]);
});

test('a zone is there when the account has an address of it', () => {
  const found = work.probe(api(new Scripted().answer(200, subnets)), name);
  assert.deepEqual([found.info.zone.name, found.can.reverseOnly, found.can.maxValues], [name, true, 1]);
  const single = new Scripted().answer(404, refused(404, 'NOT_FOUND')).answer(200, [{ ip: { ip: '192.0.2.7' } }]);
  assert(work.probe(api(single), name).info.writable);
  const none = () => new Scripted().answer(404, refused(404, 'NOT_FOUND')).answer(404, refused(404, 'NOT_FOUND'));
  throws(() => work.probe(api(none()), name), 'fix-config', 'zone-not-found');
  // After a list without any: the zone may be gone.
  throws(() => work.read(api(none().answer(404, refused(404, 'NOT_FOUND'))), zone, { tag: 'all' }), 'fix-config', 'zone-not-found');
  for (const other of ['example.test.', '64/26.2.0.192.in-addr.arpa.']) {
    throws(() => work.probe(api(new Scripted()), other), 'fix-config', 'zone-not-found');
  }
});

test('zones and networks meet in their bits', () => {
  for (const [z, ip, mask, meets] of [
    ['2.0.192.in-addr.arpa.', '192.0.2.64', 26, true],
    ['2.0.192.in-addr.arpa.', '192.0.0.0', 16, true],
    ['2.0.192.in-addr.arpa.', '192.0.3.0', 24, false],
    ['7.2.0.192.in-addr.arpa.', '192.0.2.0', 29, true],
    ['9.2.0.192.in-addr.arpa.', '192.0.2.0', 29, false],
    ['8.b.d.0.1.0.0.2.ip6.arpa.', '2001:db8:1::', 64, true],
    ['9.b.d.0.1.0.0.2.ip6.arpa.', '2001:db8:1::', 64, false],
    ['2.0.192.in-addr.arpa.', '2001:db8::', 0, false],
    ['2.0.192.in-addr.arpa.', 'nonsense', 0, false],
  ] as [string, string, number, boolean][]) {
    assert.equal(overlap(z, { ip, mask }), meets, `${z} ${ip}/${mask}`);
  }
  assert(!isReverseZone('300.0.192.in-addr.arpa.') && !isReverseZone('1.2.3.4.5.in-addr.arpa.') && isReverseZone('in-addr.arpa.'));
});

test('a list is filtered by the zone and nothing that is no list is one', () => {
  const all = new Scripted().answer(200, [rdns('192.0.2.7', 'a.test'), rdns('2001:db8::1', 'b.test'), rdns('192.0.3.7', 'c.test')]);
  const shown = work.read(api(all), zone, { tag: 'all' });
  assert.deepEqual([shown.rrsets.map((s) => s.name), shown.complete, shown.calls], [[`7.${name}`], true, 1]);
  const six = new Scripted().answer(200, [rdns('2001:db8::1', 'b.test')]);
  const v6 = { id: '', name: '8.b.d.0.1.0.0.2.ip6.arpa.' };
  assert.equal(work.read(api(six), v6, { tag: 'all' }).rrsets[0]?.values[0]?.data, 'b.test.');
  for (const body of ['[]', '{}', 'null', '', '<html>', '[{}]', '[{"rdns":{"ip":1,"ptr":"a"}}]', '[{"rdns":{"ip":"x","ptr":"a"}}]']) {
    throws(() => work.read(api(new Scripted().answer(200, body)), zone, { tag: 'all' }), 'report-bug', 'malformed-answer');
  }
});

test('wrong credentials are asked once and a 404 that is not robot\'s is told', () => {
  const script = new Scripted().answer(401, refused(401, 'UNAUTHORIZED'));
  throws(() => work.probe(api(script), name), 'fix-config', 'credentials');
  assert.equal(script.asked.length, 1);
  throws(() => work.probe(api(new Scripted().answer(404, 'nginx')), name), 'fix-config', 'no-api');
  throws(() => work.probe(api(new Scripted().answer(503, 'maintenance')), name), 'retry', 'server-error');
  throws(() => work.probe(api(new Scripted().answer(302, '')), name), 'fix-config', 'redirect');
});

test('the connection is tested with a ptr that is written as it is', () => {
  const there = rdns('192.0.2.9', 'Mail.example.test');
  const script = new Scripted().answer(200, subnets).answer(200, [there]).answer(200, there);
  const checks = work.test(api(script), name, true);
  assert.deepEqual(checks.map((c) => [c.step, c.ok]), ['reach', 'auth', 'zone', 'read', 'write'].map((s) => [s, true]));
  assert.deepEqual(form(script)[2], [['ptr', 'Mail.example.test']]);
  const empty = work.test(api(new Scripted().answer(200, subnets).answer(404, refused(404, 'NOT_FOUND'))), name, true);
  assert.match(empty.at(-1)?.detail ?? '', /Not tried/);
  const down = new Scripted();
  assert.deepEqual(work.test(api(down), name, false).map((c) => [c.step, c.ok]), [['reach', false]]);
});

const judge = (set: Partial<Rrset>): Verdict =>
  work.verdict(name, { name: `7.${name}`, rtype: 'PTR', values: [{ data: 'vm.example.test.', ext: [] }], ext: [], ...set });

test('a set is one ptr without a ttl', () => {
  assert.equal(judge({}).tag, 'ok');
  const verdict = judge({ name: '7.2.0.192.IN-ADDR.ARPA', ttl: 3600, values: [{ data: 'VM.example.test', ext: [] }] });
  assert(verdict.tag === 'adjusted');
  assert.deepEqual([verdict.val[0].name, verdict.val[0].ttl, verdict.val[0].values[0]?.data], [`7.${name}`, undefined, 'vm.example.test.']);
  const two = ['a.test.', 'b.test.'].map((data) => ({ data, ext: [] }));
  for (const [set, why] of [
    [{ values: two }, 'values'], [{ rtype: 'A' }, 'type'], [{ name }, 'name'], [{ name: `70.64/26.${name}` }, 'name'],
    [{ name: '7.3.0.192.in-addr.arpa.' }, 'out-of-zone'], [{ values: [{ data: '*.test.', ext: [] }] }, 'value'],
    [{ values: [{ data: 'host.', ext: [] }] }, 'value'], [{ values: [{ data: 'a_b.test.', ext: [] }] }, 'value'],
    [{ values: [{ data: 'static.7.2.0.192.clients.your-server.de.', ext: [] }] }, 'value'],
  ] as [Partial<Rrset>, string][]) {
    const refusal = judge(set);
    assert.equal(refusal.tag === 'refused' ? refusal.val.code : refusal.tag, why, JSON.stringify(set));
  }
});
