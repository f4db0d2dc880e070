'use strict';
// What the tests of all libraries share: where the server is, and waiting for conditions.

const port = Number(process.env.SERVER_PORT);
if (!port) throw new Error('SERVER_PORT is not set');

const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

/** Resolves with the first truthy value of `condition`. */
async function until(condition, what, seconds = 20) {
  const deadline = Date.now() + seconds * 1000;
  for (;;) {
    const value = await condition();
    if (value) return value;
    if (Date.now() > deadline) throw new Error(`waited ${seconds} s for: ${what}`);
    await pause(5);
  }
}

/** Names that hash to different slots, so that they spread over shards. */
const names = (prefix, count) => Array.from({ length: count }, (_, i) => `${prefix}:${i}`);

module.exports = { host: '127.0.0.1', port, until, names };
