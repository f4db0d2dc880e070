'use strict';
// BullMQ: queues made of Lua scripts, streams, blocking sorted-set pops and time-outs.

const { after, beforeEach, test } = require('node:test');
const assert = require('node:assert/strict');
const { FlowProducer, Queue, QueueEvents, UnrecoverableError, Worker } = require('bullmq');
const Redis = require('ioredis');
const { host, port, until } = require('./common.js');

const connection = { host, port, maxRetriesPerRequest: null };
const r = new Redis(connection);
const opened = [];
const keep = (thing) => { thing.on('error', () => {}); opened.push(thing); return thing; };
const queue = (name, options) => keep(new Queue(name, { connection, ...options }));
const worker = (name, work, options) => keep(new Worker(name, work, { connection, ...options }));

beforeEach(() => r.flushall());
after(async () => {
  await Promise.all(opened.map((thing) => thing.close()));
  r.disconnect();
});

test('thousands of jobs over two workers, each done once, results kept', async () => {
  const jobs = queue('many');
  const done = new Map();
  const work = async (job) => { done.set(job.id, (done.get(job.id) ?? 0) + 1); return job.data.n * 2; };
  const workers = [worker('many', work, { concurrency: 50 }), worker('many', work, { concurrency: 50 })];
  for (let start = 0; start < 3000; start += 500) {
    await jobs.addBulk(Array.from({ length: 500 }, (_, i) => ({ name: 'double', data: { n: start + i } })));
  }
  await until(async () => (await jobs.getCompletedCount()) === 3000, '3000 completed jobs', 60);
  assert.equal(done.size, 3000);
  assert.deepEqual([...new Set(done.values())], [1]);
  const [sample] = await jobs.getCompleted(17, 17);
  assert.equal(sample.returnvalue, sample.data.n * 2);
  assert.deepEqual(await jobs.getJobCounts('wait', 'active', 'failed'), { wait: 0, active: 0, failed: 0 });
  await Promise.all(workers.map((each) => each.close()));
});

test('retries with back-off, failures, priorities, delays', async () => {
  const jobs = queue('moods');
  const order = [];
  await jobs.add('flaky', {}, { attempts: 3, backoff: { type: 'fixed', delay: 10 } });
  const broken = await jobs.add('broken', {}, { attempts: 3 });
  const late = await jobs.add('late', {}, { delay: 200 });
  await jobs.addBulk([3, 1, 2].map((priority) => ({ name: `p${priority}`, data: {}, opts: { priority } })));
  assert.equal(await jobs.getDelayedCount(), 1);
  let tries = 0;
  const events = keep(new QueueEvents('moods', { connection }));
  await events.waitUntilReady();
  worker('moods', async (job) => {
    order.push(job.name);
    if (job.name === 'flaky' && ++tries < 3) throw new Error('not yet');
    if (job.name === 'broken') throw new UnrecoverableError('never');
    return job.name;
  });
  assert.equal(await late.waitUntilFinished(events, 20000), 'late');
  await until(async () => (await jobs.getCompletedCount()) === 5, 'five completed jobs');
  assert.equal(tries, 3);
  assert.equal(await broken.getState(), 'failed');
  assert.equal((await jobs.getFailed())[0].failedReason, 'never');
  assert.deepEqual(order.filter((name) => /^p\d/.test(name)), ['p1', 'p2', 'p3']);
});

test('a flow: the parent waits for its children', async () => {
  const flows = keep(new FlowProducer({ connection }));
  worker('leaves', async (job) => job.data.n);
  worker('roots', async (job) => Object.values(await job.getChildrenValues()).reduce((a, b) => a + b, 0));
  const { job } = await flows.add({
    name: 'sum', queueName: 'roots',
    children: Array.from({ length: 20 }, (_, n) => ({ name: 'leaf', queueName: 'leaves', data: { n } })),
  });
  const events = keep(new QueueEvents('roots', { connection }));
  assert.equal(await job.waitUntilFinished(events, 20000), 190);
});

test('pause and resume, progress in the events stream, obliterate', async () => {
  const jobs = queue('paused');
  await jobs.pause();
  const events = keep(new QueueEvents('paused', { connection }));
  await events.waitUntilReady();
  const seen = [];
  events.on('progress', ({ data }) => seen.push(data));
  worker('paused', async (each) => { await each.updateProgress(50); await each.log('halfway'); return 'done'; });
  const job = await jobs.add('one', {});
  assert.equal(await job.getState(), 'waiting');
  await jobs.resume();
  assert.equal(await job.waitUntilFinished(events, 20000), 'done');
  await until(() => seen.includes(50), 'the progress event');
  assert.deepEqual((await jobs.getJobLogs(job.id)).logs, ['halfway']);
  await jobs.obliterate({ force: true });
  assert.deepEqual(await r.keys('bull:paused:*'), []);
});

test('a scheduler repeats a job', async () => {
  const jobs = queue('ticks');
  let ticks = 0;
  await jobs.upsertJobScheduler('tick', { every: 30 }, { name: 'tick' });
  worker('ticks', async () => { ticks += 1; });
  await until(() => ticks >= 3, 'three ticks');
  assert.equal(await jobs.removeJobScheduler('tick'), true);
});
