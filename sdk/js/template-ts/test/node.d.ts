// What the tests use of Node.js. Its own types (`@types/node`) would offer files and sockets to the source as well, and a component
// has none.
declare module 'node:test' {
  export function test(name: string, body: () => void | Promise<void>): void;
}
declare module 'node:assert/strict' {
  const assert: {
    (value: unknown, message?: string): asserts value;
    equal(actual: unknown, expected: unknown, message?: string): void;
    deepEqual(actual: unknown, expected: unknown, message?: string): void;
    throws(body: () => unknown, expected: RegExp | ((error: any) => boolean), message?: string): void;
    match(text: string, expected: RegExp, message?: string): void;
    fail(message?: string): never;
  };
  export default assert;
}
