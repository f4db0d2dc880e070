'use strict';
// ioredis as its users hold it: one object for everything, a duplicate for what blocks.

const { after, before, beforeEach, test } = require('node:test');
const assert = require('node:assert/strict');
const Redis = require('ioredis');
const { host, port, until, names } = require('./common.js');

let r;
const opened = [];
const connect = (options = {}) => {
  const client = new Redis({ host, port, ...options });
  client.on('error', () => {}); // reconnecting is what some tests are about
  opened.push(client);
  return client;
};

before(() => { r = connect(); });
beforeEach(() => r.flushall());
after(() => opened.forEach((client) => client.disconnect()));

test('types come back as JavaScript has them', async () => {
  assert.equal(await r.set('k', 'v', 'EX', 100, 'NX'), 'OK');
  assert.equal(await r.set('k', 'w', 'NX'), null);
  assert.deepEqual(await r.mget('k', 'missing'), ['v', null]);
  await r.hset('h', { f: 'v', n: 1 });
  assert.deepEqual(await r.hgetall('h'), { f: 'v', n: '1' });
  assert.deepEqual(await r.zadd('z', 1, 'a', 2.5, 'b'), 2);
  assert.deepEqual(await r.zrange('z', 0, -1, 'WITHSCORES'), ['a', '1', 'b', '2.5']);
  await r.mset(new Map([['a', '1'], ['b', '2']]));
  assert.equal(await r.incrby('a', 41), 42);
  const bytes = Buffer.from([0, 255, 13, 10, 128]);
  await r.set(bytes, bytes);
  assert.deepEqual(await r.getBuffer(bytes), bytes);
  await assert.rejects(r.lpush('k', 'x'), { name: 'ReplyError', message: /^WRONGTYPE/ });
});

test('a database chosen in the options', async () => {
  const third = connect({ db: 3, keyPrefix: 'app:' });
  await third.set('k', 'v');
  assert.equal(await r.exists('app:k'), 0);
  await r.select(3);
  assert.deepEqual(await r.keys('*'), ['app:k']);
  await r.select(0);
});

test('commands are pipelined automatically, and answered in order', async () => {
  const auto = connect({ enableAutoPipelining: true });
  const keys = names('auto', 2000);
  await Promise.all(keys.map((key, i) => auto.set(key, i)));
  assert.deepEqual(await Promise.all(keys.map((key) => auto.get(key))), keys.map((_, i) => String(i)));
  assert.equal(await r.dbsize(), 2000);
});

test('a pipeline gives each error at its place', async () => {
  const replies = await r.pipeline().set('k', 'text').incr('k').get('k').exec();
  assert.deepEqual(replies[0], [null, 'OK']);
  assert.match(replies[1][0].message, /not an integer/);
  assert.deepEqual(replies[2], [null, 'text']);
});

test('MULTI over keys of several shards, WATCH and its failure', async () => {
  const chain = r.multi();
  names('n', 20).forEach((key, i) => chain.set(key, i).incr(key));
  const replies = await chain.exec();
  assert.deepEqual(replies.filter((_, i) => i % 2).map(([, value]) => value), names('n', 20).map((_, i) => i + 1));
  const watcher = connect();
  await watcher.watch('n:1', 'n:2');
  await r.incr('n:2');
  assert.equal(await watcher.multi().set('n:1', 'lost').exec(), null);
  assert.equal(await r.get('n:1'), '2');
  await assert.rejects(r.multi().set('k').exec(), /EXECABORT/);
});

test('publish and subscribe, with patterns and binary messages', async () => {
  const sub = connect();
  const heard = [];
  sub.on('message', (channel, message) => heard.push([channel, message]));
  sub.on('pmessage', (pattern, channel, message) => heard.push([pattern, channel, message]));
  assert.equal(await sub.subscribe('news', 'sport'), 2);
  assert.equal(await sub.psubscribe('n?ws'), 3);
  assert.equal(await r.publish('news', 'first'), 2);
  assert.equal(await r.publish('sport', 'second'), 1);
  await until(() => heard.length === 3, 'three messages');
  assert.deepEqual(heard.sort(), [['n?ws', 'news', 'first'], ['news', 'first'], ['sport', 'second']]);
  assert.deepEqual(await r.pubsub('NUMSUB', 'news', 'none'), ['news', 1, 'none', 0]);
  assert.deepEqual(await sub.ping(), ['pong', '']);
  await sub.unsubscribe('news', 'sport');
  await sub.punsubscribe('n?ws');
  assert.equal(await sub.get('usual again'), null);
});

test('keyspace notifications', async () => {
  await r.config('SET', 'notify-keyspace-events', 'KEA');
  const sub = connect();
  const events = [];
  sub.on('pmessage', (_, channel, event) => events.push(`${channel.split('__:')[1]} ${event}`));
  await sub.psubscribe('__keyspace@0__:*');
  await r.set('k', 'v');
  await r.rpush('l', 'a');
  await r.lpop('l');
  await r.set('soon', 'v', 'PX', 5);
  await until(() => events.includes('soon expired'), 'the expiry');
  assert.deepEqual(events.filter((e) => !e.startsWith('soon')), ['k set', 'l rpush', 'l lpop', 'l del']);
  await r.config('SET', 'notify-keyspace-events', '');
});

test('blocking pops, with a time-out and with a producer', async () => {
  const blocked = connect();
  assert.equal(await blocked.blpop('queue', 0.02), null);
  const popped = blocked.blpop('other', 'queue', 0);
  await until(async () => /blocked_clients:1\b/.test(await r.info('clients')), 'a blocked client');
  await r.rpush('queue', 'job');
  assert.deepEqual(await popped, ['queue', 'job']);
  const scored = blocked.bzpopmin('zset', 0);
  await r.zadd('zset', 2, 'b', 1, 'a');
  assert.deepEqual((await scored).slice(0, 2), ['zset', 'a']);
});

test('streams with a consumer group', async () => {
  const blocked = connect();
  const pending = blocked.xread('BLOCK', 0, 'STREAMS', 'events', '$');
  await until(async () => /blocked_clients:1\b/.test(await r.info('clients')), 'a blocked client');
  const id = await r.xadd('events', '*', 'kind', 'login', 'user', '7');
  assert.deepEqual(await pending, [['events', [[id, ['kind', 'login', 'user', '7']]]]]);
  await r.xgroup('CREATE', 'events', 'workers', '0');
  for (let i = 0; i < 9; i++) await r.xadd('events', '*', 'n', i);
  const [[, first]] = await r.xreadgroup('GROUP', 'workers', 'alice', 'COUNT', 6, 'STREAMS', 'events', '>');
  const [[, second]] = await r.xreadgroup('GROUP', 'workers', 'bob', 'STREAMS', 'events', '>');
  assert.deepEqual([first.length, second.length], [6, 4]);
  assert.equal(await r.xack('events', 'workers', ...first.map(([entry]) => entry)), 6);
  assert.equal((await r.xpending('events', 'workers'))[0], 4);
  const [, claimed] = await r.xautoclaim('events', 'workers', 'alice', 0, '0');
  assert.deepEqual(claimed.map(([entry]) => entry), second.map(([entry]) => entry));
});

test('defineCommand: scripts by their SHA, loaded when missing', async () => {
  r.defineCommand('take', {
    numberOfKeys: 1,
    lua: `local left = tonumber(redis.call('GET', KEYS[1]) or ARGV[1])
          if left <= 0 then return {'empty', left} end
          return {'taken', redis.call('SET', KEYS[1], left - 1).ok, left - 1}`,
  });
  assert.deepEqual(await r.take('tokens', 2), ['taken', 'OK', 1]);
  await r.script('FLUSH');
  assert.deepEqual(await r.take('tokens', 2), ['taken', 'OK', 0]);
  assert.deepEqual(await r.take('tokens', 2), ['empty', 0]);
  const replies = await r.pipeline().take('other', 5).take('other', 5).exec();
  assert.deepEqual(replies, [[null, ['taken', 'OK', 4]], [null, ['taken', 'OK', 3]]]);
  assert.deepEqual(await r.multi().take('other', 5).get('other').exec(), [[null, ['taken', 'OK', 2]], [null, '2']]);
  r.defineCommand('move', { lua: "redis.call('SET', KEYS[2], redis.call('GETDEL', KEYS[1])) return #KEYS" });
  await r.set('from', 'cargo');
  assert.equal(await r.move(2, 'from', 'to'), 2);
  assert.deepEqual(await r.mget('from', 'to'), [null, 'cargo']);
  await assert.rejects(r.eval("return redis.call('INCR', KEYS[1])", 1, 'to'), /not an integer or out of range/);
});

test('scan streams see every key once or more', async () => {
  await r.mset(Object.fromEntries(names('scan', 1000).map((key) => [key, '1'])));
  const seen = new Set();
  for await (const keys of r.scanStream({ match: 'scan:*', count: 100 })) keys.forEach((key) => seen.add(key));
  assert.equal(seen.size, 1000);
  await r.hset('h', Object.fromEntries(names('field', 600).map((field) => [field, '1'])));
  let fields = 0;
  for await (const pairs of r.hscanStream('h')) fields += pairs.length / 2;
  assert.equal(fields, 600);
});

test('reconnects after CLIENT KILL, subscriptions with it', async () => {
  const victim = connect({ retryStrategy: () => 10 });
  const sub = connect({ retryStrategy: () => 10 });
  const heard = [];
  sub.on('message', (_, message) => heard.push(message));
  await sub.subscribe('after');
  const id = await victim.client('ID');
  assert.equal(await r.client('KILL', 'ID', id), 1);
  await until(async () => (await victim.client('ID')) !== id, 'another connection');
  assert.ok((await r.client('KILL', 'TYPE', 'pubsub')) >= 1);
  await until(async () => (await r.publish('after', 'still here')) && heard.includes('still here'), 'the subscription');
});
