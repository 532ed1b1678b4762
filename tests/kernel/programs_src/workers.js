// Node with worker threads over one SharedArrayBuffer, shared WebAssembly memory and a loaded file.
//
//     node workers.js FOLDER
//
// Says "ready PID", answers every line of standard input with a sum, and ends with the input.
'use strict';

const fs = require('node:fs');
const path = require('node:path');
const readline = require('node:readline');
const { Worker, isMainThread, parentPort, workerData } = require('node:worker_threads');

const WORKERS = 2;

if (!isMainThread) {
  const cells = new Int32Array(workerData);
  parentPort.on('message', (index) => {
    cells[index] = index + 1;
    parentPort.postMessage(index);
  });
} else {
  const file = path.join(process.argv[2], 'data');
  fs.writeFileSync(file, Buffer.alloc(4 << 20, 7));
  const loaded = fs.readFileSync(file);
  const shared = new SharedArrayBuffer(3 << 20);
  const memory = new WebAssembly.Memory({ initial: 16, maximum: 64, shared: true });
  new Uint8Array(memory.buffer)[0] = 5;
  const workers = [];
  let waiting = WORKERS;
  for (let index = 0; index < WORKERS; index++) {
    const worker = new Worker(__filename, { workerData: shared });
    worker.on('message', () => {
      if (--waiting === 0) serve();
    });
    worker.postMessage(index);
    workers.push(worker);
  }

  function serve() {
    const lines = readline.createInterface({ input: process.stdin });
    lines.on('line', () => {
      const cells = new Int32Array(shared);
      console.log(cells[0] + cells[1] + loaded[0] + new Uint8Array(memory.buffer)[0]);
    });
    lines.on('close', () => workers.forEach((worker) => worker.terminate()));
    console.log('ready', process.pid);
  }
}
