// node build.mjs <output>: makes the component. `wharf plugin build` calls it and puts the manifest in.
//
// Everything of WASI is left out, so that the component imports `wharf:*` alone.
import { writeFile } from 'node:fs/promises';
import { resolve } from 'node:path';
import { componentize } from '@bytecodealliance/componentize-js';

const { component } = await componentize({
  sourcePath: resolve('src/provider.js'),
  witPath: resolve('wit'),
  worldName: 'dns-provider',
  disableFeatures: ['stdio', 'random', 'clocks', 'http', 'fetch-event'],
});
await writeFile(process.argv[2], component);
