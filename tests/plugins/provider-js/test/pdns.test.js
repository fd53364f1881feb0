import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Scripted } from '../vendor/wharf-sdk/testing.js';
import { Api } from '../src/pdns.js';

test('values of others and disabled ones are written as they stand', () => {
  const records = [{ content: '192.0.2.1', disabled: false }, { content: '192.0.2.9', disabled: true }];
  const rrsets = [{ name: 'www.example.com.', type: 'A', ttl: 600, records }];
  const script = new Scripted().answer(200, { rrsets }).answer(204);
  const edit = { tag: 'add-values', val: [{ data: '192.0.2.2', ext: [] }] };
  const change = { id: 1, name: 'www.example.com.', rtype: 'A', ttl: 300, edit, ext: [] };
  const report = new Api(script, 'https://pdns.test/', 'localhost').apply({ id: 'example.com.', name: 'example.com.' }, [change]);
  assert.equal(report.outcomes[0][1].tag, 'applied');
  const sent = JSON.parse(script.asked[1].body.text).rrsets[0];
  assert.deepEqual([sent.ttl, sent.records], [600, [...records, { content: '192.0.2.2', disabled: false }]]);
});
