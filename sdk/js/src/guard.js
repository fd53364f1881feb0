// Brings a stray exception's text out: in a component it would end the call without one.
import { Problem } from './problem.js';

function stray(error, say) {
  const text = `${error?.name ?? 'Error'}: ${error?.message ?? error}`;
  say('error', `${text}\n${error?.stack ?? ''}`.trim());
  return Problem.reportBug('guest-exception', text);
}

/**
 * The exports of a provider, each in a guard: a Problem that is thrown becomes the answer, anything else a line in the log
 * and a `report-bug` problem. `say(level, text)` writes to the log.
 */
export function guarded(implementation, say) {
  const problem = (error) => (error instanceof Problem ? error : stray(error, say));
  const answers = {
    normalize: (error, [, , sets]) => sets.map(() => ({ tag: 'refused', val: problem(error).record() })),
    testConnection: (error) => [{ step: 'reach', ok: false, detail: problem(error).message, ext: [] }],
  };
  const wrap = (name) => (...args) => {
    try {
      return implementation[name](...args);
    } catch (error) {
      if (answers[name]) return answers[name](error, args);
      throw problem(error).record();
    }
  };
  const names = ['normalize', 'probe', 'testConnection', 'listZones', 'read', 'apply', 'poll'];
  return Object.fromEntries(names.map((name) => [name, wrap(name)]));
}
