// node build.mjs <wit folder> <output file>: makes the component. Everything of WASI is left out, so that it imports
// `wharf:*` alone.
import { writeFile } from 'node:fs/promises';
import { fileURLToPath } from 'node:url';
import { componentize } from '@bytecodealliance/componentize-js';

const [witPath, output] = process.argv.slice(2);
const { component } = await componentize({
  sourcePath: fileURLToPath(new URL('./pdns.js', import.meta.url)),
  witPath,
  worldName: 'dns-provider',
  disableFeatures: ['stdio', 'random', 'clocks', 'http', 'fetch-event'],
});
await writeFile(output, component);
