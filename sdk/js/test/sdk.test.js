// The vectors of names are those of sdk/rust/src/names.rs.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Batch, HttpFailure, Problem, Request, Response, Ttls, names, namesOf } from '../src/index.js';
import { guarded } from '../src/guard.js';
import { Scripted } from '../src/testing.js';

const { Refused, canonical, canonicalData, isWithin, labels, longestMatch, relative, reverseAddress, reverseName, sameData } = names;

test('a suffix counts only at a label boundary', () => {
  assert(!isWithin('notexample.com.', 'example.com.'));
  assert(isWithin('a.EXAMPLE.com', 'example.com.'));
  assert(isWithin('example.com.', 'example.com'));
  assert(isWithin('anything.', '.'));
  assert(!isWithin('com.', 'example.com.'));
  assert.equal(relative('notexample.com', 'example.com'), undefined);
  assert.equal(relative('example.com.', 'example.com'), '@');
  assert.equal(relative('a.b.example.com.', 'example.com'), 'a.b');
});

test('an escaped dot does not end a label', () => {
  assert.deepEqual(labels(String.raw`a\.b.example.`), [String.raw`a\.b`, 'example']);
  assert(!isWithin(String.raw`x\.example.com.`, 'example.com.'));
});

test('the longest zone wins', () => {
  assert.equal(longestMatch('x.a.test.', ['test.', 'a.test.', 'b.test.']), 'a.test.');
  assert.equal(longestMatch('x.org.', ['test.']), undefined);
});

test('reverse names have four octets or thirty-two nibbles', () => {
  assert.equal(reverseName('192.0.2.7'), '7.2.0.192.in-addr.arpa.');
  assert.equal(
    reverseName('2001:db8::1'),
    '1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.b.d.0.1.0.0.2.ip6.arpa.',
  );
  assert.equal(reverseName('::'), `${'0.'.repeat(32)}ip6.arpa.`);
  assert.throws(() => reverseName('192.0.2'), Refused);
});

test('a reverse name gives its address back', () => {
  for (const text of ['192.0.2.7', '0.0.0.0', '2001:db8::1', '::', 'fe80::dead:beef']) {
    assert.equal(reverseAddress(reverseName(text)), text);
  }
  for (const name of ['2.0.192.in-addr.arpa.', '70.64/26.2.0.192.in-addr.arpa.', '07.2.0.192.in-addr.arpa.', 'arpa.', '.']) {
    assert.equal(reverseAddress(name), undefined, name);
  }
});

test('labels and names are measured', () => {
  assert(canonical(`${'a'.repeat(63)}.test`));
  assert.throws(() => canonical(`${'a'.repeat(64)}.test`), /63/);
  const long = ['a', 'b', 'c'].map((c) => c.repeat(63)).join('.') + `.${'d'.repeat(61)}`;
  assert.equal(long.length, 253);
  assert(canonical(long));
  assert.throws(() => canonical(`${long}e`), Refused);
  assert.throws(() => canonical('a..b'), Refused);
  assert.equal(canonical('_Dmarc.*.Test'), '_dmarc.*.test.');
  assert.equal(canonical('64/26.2.0.192.in-addr.arpa'), '64/26.2.0.192.in-addr.arpa.');
});

test('values take their canonical form', () => {
  assert.equal(canonicalData('AAAA', '2001:DB8:0:0::1'), '2001:db8::1');
  assert.equal(canonicalData('AAAA', '1:0:0:2:0:0:0:3'), '1:0:0:2::3');
  assert.equal(canonicalData('PTR', 'VM1.Example.Test'), 'vm1.example.test.');
  for (const [rtype, data] of [['A', '192.0.2.256'], ['AAAA', '::ffff:192.0.2.1'], ['AAAA', 'fe80::1%eth0'], ['AAAA', '1::2::3']]) {
    assert.throws(() => canonicalData(rtype, data), Refused, data);
  }
  assert.equal(canonicalData('TYPE65', ' 1 . alpn=h2 '), '1 . alpn=h2');
  assert(sameData('PTR', 'A.test.', 'a.test'));
  assert(!sameData('TXT', '"A"', '"a"'));
});

test('a write that may have arrived is verified before it is repeated', () => {
  const action = (sent, code, write) => Problem.fromHttp(new HttpFailure(sent, code, 'It broke.'), write).action;
  assert.equal(action('maybe-sent', 'timeout', true), 'verify');
  assert.equal(action('maybe-sent', 'timeout', false), 'retry');
  assert.equal(action('not-sent', 'connect', true), 'retry');
  assert.equal(action('not-sent', 'address-refused', true), 'fix-config');
});

test('an answer is read, and its beginning fits a message', () => {
  const response = new Response(429, [['Retry-After', '7']], 'ä\n b'.repeat(50));
  assert.equal(response.retryAfterMs(), 7000);
  assert.equal(response.excerpt(5), 'ä bä …');
  const after = (...headers) => new Response(429, headers, '').retryAfterMs();
  const now = ['Date', 'Sat, 28 Feb 2026 23:59:30 GMT'];
  assert.equal(after(now, ['retry-after', 'Sun, 01 Mar 2026 00:00:00 GMT']), 30_000);
  assert.equal(after(now, ['retry-after', 'Fri, 27 Feb 2026 00:00:00 GMT']), 0);
  for (const text of ['Wed, 21 Oct', '99999999999', '-1', '2026-03-01', '']) assert.equal(after(now, ['retry-after', text]), undefined, text);
  assert.equal(after(['retry-after', 'Sun, 01 Mar 2026 00:00:00 GMT']), undefined);
  const [sign] = Request.get('https://x/').basic('Aladdin', 'password').signs;
  assert.deepEqual({ ...sign, payload: [...sign.payload].length }, { slot: 'password', scheme: 'basic', header: 'Authorization', payload: 7 });
  assert.deepEqual(new Request('POST', 'https://x/').form('a', 1).form('b', 2).body, { form: [['a', '1'], ['b', '2']] });
});

test('a stray exception is a line in the log and a problem', () => {
  const log = [];
  const out = guarded({
    probe() { return undefined.x; },
    read() { throw Problem.wait('rate-limited', 'Slowly.', 5); },
    testConnection() { throw new Error('oh'); },
    normalize() { throw new Error('no'); },
  }, (level, text) => log.push([level, text]));
  assert.throws(() => out.probe(), (p) => p.action === 'report-bug' && p.message.includes('TypeError'));
  assert(log[0][0] === 'error' && log[0][1].includes('sdk.test.js'));
  assert.throws(() => out.read(), (p) => p.action === 'wait' && p.retryAfterMs === 5);
  assert.equal(out.testConnection()[0].ok, false);
  assert.equal(out.normalize({}, 'x.', [{}])[0].tag, 'refused');
});

const zone = 'example.test.';
const held = (id, data, ttl = 600) => ({ id, data, ttl });
const set = (...values) => ({ name: 'vm.example.test', rtype: 'A', held: values });
const change = (id, edit, more = {}) => ({ id, name: 'vm.example.test.', rtype: 'A', ttl: 300, edit, ext: [], ...more });
const add = (data) => ({ tag: 'add-values', val: [{ data, ext: [] }] });

test('a value that comes leaves its neighbours and takes their ttl', () => {
  const batch = new Batch(zone, [set(held('1', '192.0.2.1'))], [change(7, add('192.0.2.2'))]);
  const [work] = batch.changed();
  assert.deepEqual(work.come(), [{ data: '192.0.2.2', ttl: 600 }]);
  assert.deepEqual([work.gone(), work.retimed()], [[], []]);
  const [[id, outcome]] = batch.outcomes(() => 'written');
  assert.deepEqual([id, outcome.tag, outcome.val.values.length], [7, 'applied', 2]);
});

test('what is so already needs no write', () => {
  const batch = new Batch(zone, [set(held('1', '192.0.2.1'))], [change(1, add('192.0.2.1'))]);
  assert.deepEqual(batch.changed(), []);
  assert.equal(batch.outcomes(() => assert.fail('asked'))[0][1].tag, 'unchanged');
});

test('every copy of a value goes and nothing else', () => {
  const there = set(held('1', '192.0.2.1'), held('2', '192.0.2.1'), held('3', '192.0.2.9'));
  const batch = new Batch(zone, [there], [change(1, { tag: 'remove-values', val: ['192.0.2.1'] })]);
  assert.deepEqual(batch.changed()[0].gone().map((h) => h.id), ['1', '2']);
});

test('a replaced set gets its ttl and keeps the ids of what stays', () => {
  const there = set(held('1', '192.0.2.1'), held('2', '192.0.2.2'));
  const val = [{ data: '192.0.2.2' }, { data: '192.0.2.3' }];
  const [work] = new Batch(zone, [there], [change(1, { tag: 'replace', val })]).changed();
  assert.deepEqual(work.gone().map((h) => h.id), ['1']);
  assert.deepEqual(work.retimed().map((h) => [h.id, h.ttl]), [['2', 300]]);
  assert.deepEqual(work.come().map((h) => h.data), ['192.0.2.3']);
});

test('what is hidden is neither lost nor adopted', () => {
  const there = [set({ ...held('1', '192.0.2.1'), hidden: true }, held('2', '192.0.2.2'))];
  assert.deepEqual(new Batch(zone, there, [change(1, { tag: 'delete' })]).changed()[0].gone().map((h) => h.id), ['2']);
  const [[, outcome]] = new Batch(zone, there, [change(1, add('192.0.2.1'))]).outcomes(() => 'written');
  assert.equal(outcome.val.code, 'value-disabled');
});

test('a change that expects something else writes nothing and its neighbours go on', () => {
  const changes = [
    change(1, add('192.0.2.2'), { expect: ['192.0.2.7'] }),
    change(2, add('192.0.2.3'), { name: 'b.example.test.' }),
    change(3, add('192.0.2.3'), { name: 'b.notexample.test.' }),
    change(4, add('192.0.2.300'), { name: 'c.example.test.' }),
  ];
  const batch = new Batch(zone, [set(held('1', '192.0.2.1'))], changes);
  assert.equal(batch.changed().length, 1);
  const codes = batch.outcomes(() => 'written').map(([, o]) => o.val.code ?? o.tag);
  assert.deepEqual(codes, ['changed', 'applied', 'out-of-zone', 'value']);
  assert.deepEqual(namesOf(zone, changes), ['b.example.test.', 'c.example.test.', 'vm.example.test.']);
});

test('two changes of one id are refused whole, and a ttl is brought within its bounds', () => {
  const twice = [change(1, add('192.0.2.1')), change(1, { tag: 'delete' })];
  assert.throws(() => new Batch(zone, [], twice), (p) => p.code === 'duplicate-change');
  const ttls = new Ttls({ min: 60, max: 86400 });
  assert.deepEqual([ttls.initial, new Ttls({ initial: undefined }).initial], [3600, undefined]);
  assert.deepEqual([1, 300, 2 ** 32 - 1, undefined].map((t) => ttls.fit(t)), [60, 300, 86400, undefined]);
});

test('a script answers in order', () => {
  const script = new Scripted().answer(200, { a: 1 }).lost('maybe-sent', 'timeout');
  assert.equal(script.send(Request.get('https://a.test/x')).json().a, 1);
  assert.throws(() => script.send(new Request('PUT', 'https://a.test/y')), (e) => e.sent === 'maybe-sent');
  assert.deepEqual(script.lines(), ['GET https://a.test/x', 'PUT https://a.test/y']);
});
