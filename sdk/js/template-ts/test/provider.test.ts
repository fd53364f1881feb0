import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { Change, Problem } from '../vendor/wharf-sdk/index.js';
import { Scripted } from '../vendor/wharf-sdk/testing.js';
import { Api } from '../src/api.js';
import * as work from '../src/work.js';

const zone = { id: 'z1', name: 'example.com.' };
const api = (script: Scripted) => new Api(script, 'https://api.test/');
const holding = (data: string) => ({
  records: [{ id: 'r1', name: 'www.example.com', type: 'A', data, ttl: 600 }], total: 1, next_page: null,
});
const add = (data: string): Change => ({
  id: 1, name: 'www.example.com.', rtype: 'A', ttl: 300, edit: { tag: 'add-values', val: [{ data, ext: [] }] }, ext: [],
});
const apply = (script: Scripted, change: Change) => work.apply(api(script), zone, [change], () => false).outcomes[0]?.[1];

test('a value is added beside what is there', () => {
  const script = new Scripted().answer(200, holding('192.0.2.1')).answer(201);
  const outcome = apply(script, add('192.0.2.2'));
  assert(outcome?.tag === 'applied');
  assert.equal(outcome.val.values.length, 2);
  const records = 'https://api.test/v1/zones/z1/records';
  assert.deepEqual(script.lines(), [`GET ${records}`, `POST ${records}`]);
});

test('what is so already is not written', () => {
  const script = new Scripted().answer(200, holding('192.0.2.1'));
  assert.equal(apply(script, add('192.0.2.1'))?.tag, 'unchanged');
});

test('a refused token is for the admin and asked once', () => {
  const script = new Scripted().answer(401, 'no such token');
  assert.throws(() => work.probe(api(script), zone.name), (p: Problem) => p.action === 'fix-config' && p.code === 'credentials');
  assert.equal(script.asked.length, 1);
});

test('a list that lacks something is not complete', () => {
  const script = new Scripted().answer(200, { records: [], total: 2, next_page: null });
  assert.equal(work.read(api(script), zone, { tag: 'all' }).complete, false);
});
