// node build.mjs [output]: checks types and writes JavaScript into `build/`; with an output, makes the component. `wharf plugin
// build` calls it and puts the manifest in.
//
// Everything of WASI is left out, so that the component imports `wharf:*` alone.
import { spawnSync } from 'node:child_process';
import { cpSync } from 'node:fs';
import { writeFile } from 'node:fs/promises';
import { resolve } from 'node:path';
import { componentize } from '@bytecodealliance/componentize-js';

const tsc = spawnSync(process.execPath, [resolve('node_modules/typescript/bin/tsc')], { stdio: 'inherit' });
if (tsc.status !== 0) process.exit(1);
// What is written leans on the SDK by the same relative path as the source.
cpSync('vendor', 'build/vendor', { recursive: true });

const output = process.argv[2];
if (output) {
  const { component } = await componentize({
    sourcePath: resolve('build/src/provider.js'),
    witPath: resolve('wit'),
    worldName: 'dns-provider',
    disableFeatures: ['stdio', 'random', 'clocks', 'http', 'fetch-event'],
  });
  await writeFile(output, component);
}
