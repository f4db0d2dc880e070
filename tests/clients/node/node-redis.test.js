'use strict';
// node-redis with RESP2 and RESP3: typed replies, pools, transactions, client-side caching's invalidations.

const { after, before, beforeEach, describe, test } = require('node:test');
const assert = require('node:assert/strict');
const { createClient, createClientPool, defineScript, ErrorReply, WatchError } = require('redis');
const { host, port, until, names } = require('./common.js');

const take = defineScript({
  NUMBER_OF_KEYS: 1,
  SCRIPT: "local n = redis.call('INCRBY', KEYS[1], ARGV[1]) return {n, KEYS[1]}",
  parseCommand: (parser, key, amount) => { parser.pushKey(key); parser.push(String(amount)); },
  transformReply: ([count, key]) => ({ count, key }),
});

for (const RESP of [2, 3]) {
  describe(`RESP${RESP}`, () => {
    let r;
    const opened = [];
    const connect = async (options = {}) => {
      const client = createClient({ url: `redis://${host}:${port}`, RESP, unstableResp3: true, scripts: { take },
        ...options, socket: { reconnectStrategy: 10, ...options.socket } });
      client.on('error', () => {}); // reconnecting is what some tests are about
      opened.push(client);
      return client.connect();
    };

    before(async () => { r = await connect(); });
    beforeEach(() => r.flushAll());
    after(() => opened.forEach((client) => client.destroy()));

    test('typed replies', async () => {
      assert.equal(await r.set('k', 'v', { expiration: { type: 'EX', value: 100 }, condition: 'NX' }), 'OK');
      assert.equal(await r.set('k', 'w', { condition: 'NX' }), null);
      assert.equal(await r.hSet('h', { f: 'v', n: 1 }), 2);
      assert.deepEqual({ ...(await r.hGetAll('h')) }, { f: 'v', n: '1' });
      assert.equal(await r.zAdd('z', [{ score: 1, value: 'a' }, { score: 2.5, value: 'b' }, { score: Infinity, value: 'c' }]), 3);
      assert.deepEqual(await r.zRangeWithScores('z', 1, -1), [{ value: 'b', score: 2.5 }, { value: 'c', score: Infinity }]);
      assert.equal(await r.zScore('z', 'b'), 2.5);
      assert.deepEqual(await r.zPopMin('z'), { value: 'a', score: 1 });
      await r.sAdd('s', ['x', 'y']);
      assert.deepEqual((await r.sMembers('s')).sort(), ['x', 'y']);
      assert.deepEqual(await r.mGet(['k', 'missing']), ['v', null]);
      assert.ok((await r.ttl('k')) > 0);
      await assert.rejects(r.lPush('k', 'x'), (e) => e instanceof ErrorReply && /^WRONGTYPE/.test(e.message));
      assert.equal((await r.configGet('maxmemory-policy'))['maxmemory-policy'], 'noeviction');
      assert.ok((await r.clientInfo()).id > 0);
      assert.equal(await r.geoAdd('g', [{ longitude: 13.361389, latitude: 38.115556, member: 'Palermo' },
        { longitude: 15.087269, latitude: 37.502669, member: 'Catania' }]), 2);
      assert.equal(await r.geoDist('g', 'Palermo', 'Catania', 'km'), 166.2742);
    });

    test('thousands of commands at once', async () => {
      const keys = names('many', 5000);
      await Promise.all(keys.map((key, i) => r.set(key, String(i))));
      assert.deepEqual(await Promise.all(keys.map((key) => r.get(key))), keys.map((_, i) => String(i)));
    });

    test('transactions, and one that WATCH stops', async () => {
      assert.deepEqual(await r.multi().set('a', '1').incr('a').hSet('h', 'f', 'v').hGetAll('h').execTyped(),
        ['OK', 2, 1, Object.assign(Object.create(null), { f: 'v' })]);
      const watcher = await connect();
      await watcher.watch('a');
      await r.incr('a');
      await assert.rejects(watcher.multi().set('a', 'lost').exec(), WatchError);
      assert.equal(await r.get('a'), '3');
    });

    test('a pool of clients counts every increment', async () => {
      const pool = await createClientPool({ url: `redis://${host}:${port}`, RESP }, { minimum: 4, maximum: 4 }).connect();
      await Promise.all(Array.from({ length: 40 }, () => pool.execute(async (client) => {
        for (;;) {
          await client.watch('n');
          const n = Number(await client.get('n'));
          try {
            return await client.multi().set('n', String(n + 1)).exec();
          } catch (error) {
            if (!(error instanceof WatchError)) throw error;
          }
        }
      })));
      assert.equal(await r.get('n'), '40');
      pool.destroy();
    });

    test('publish and subscribe', async () => {
      const sub = await connect();
      const heard = [];
      await sub.subscribe(['news', 'sport'], (message, channel) => heard.push(`${channel} ${message}`));
      await sub.pSubscribe('n*', (message, channel) => heard.push(`n* ${channel} ${message}`));
      await sub.sSubscribe('shard', (message, channel) => heard.push(`${channel} ${message}`));
      assert.equal(await r.publish('news', 'first'), 2);
      assert.equal(await r.publish('sport', 'second'), 1);
      assert.equal(await r.sPublish('shard', 'third'), 1);
      await until(() => heard.length === 4, 'four messages');
      assert.deepEqual(heard.sort(), ['n* news first', 'news first', 'shard third', 'sport second']);
      if (RESP === 3) assert.equal(await sub.get('usual commands while subscribed'), null);
      assert.deepEqual({ ...(await r.pubSubNumSub('news')) }, { news: 1 });
      await sub.unsubscribe(['news', 'sport']);
      await sub.pUnsubscribe('n*');
      assert.equal(await r.publish('news', 'nobody'), 0);
    });

    test('blocking', async () => {
      const blocked = await connect();
      assert.equal(await blocked.blPop('queue', 0.02), null);
      const popped = blocked.blPop(['other', 'queue'], 0);
      await until(async () => /blocked_clients:1\b/.test(await r.info('clients')), 'a blocked client');
      await r.rPush('queue', 'job');
      assert.deepEqual({ ...(await popped) }, { key: 'queue', element: 'job' });
      const moved = blocked.blMove('from', 'to', 'LEFT', 'RIGHT', 0);
      await r.rPush('from', 'x');
      assert.equal(await moved, 'x');
      const lowest = blocked.bzPopMin('z', 0);
      await r.zAdd('z', { score: 1.5, value: 'm' });
      assert.deepEqual({ ...(await lowest) }, { key: 'z', value: 'm', score: 1.5 });
    });

    test('streams', async () => {
      const blocked = await connect();
      await r.xGroupCreate('events', 'workers', '$', { MKSTREAM: true });
      const reading = blocked.xReadGroup('workers', 'alice', { key: 'events', id: '>' }, { BLOCK: 0, COUNT: 10 });
      await until(async () => /blocked_clients:1\b/.test(await r.info('clients')), 'a blocked client');
      const id = await r.xAdd('events', '*', { kind: 'login' });
      if (RESP === 2) {
        const [{ name, messages }] = await reading;
        assert.equal(name, 'events');
        assert.equal(messages[0].id, id);
        assert.deepEqual({ ...messages[0].message }, { kind: 'login' });
      } else { // as it came: the library does not give these replies a form yet
        assert.deepEqual({ ...(await reading) }, { events: [[id, ['kind', 'login']]] });
      }
      assert.equal((await r.xPending('events', 'workers')).pending, 1);
      assert.equal((await r.xInfoStream('events')).length, 1);
      assert.equal((await r.xInfoGroups('events'))[0].name, 'workers');
      assert.equal((await r.xAutoClaim('events', 'workers', 'bob', 0, '0')).messages[0].id, id);
      assert.equal(await r.xAck('events', 'workers', id), 1);
      assert.equal((await r.xRange('events', '-', '+')).length, 1);
    });

    test('scripts', async () => {
      assert.deepEqual(await r.take('n', 5), { count: 5, key: 'n' });
      await r.scriptFlush();
      assert.deepEqual(await r.take('n', 5), { count: 10, key: 'n' });
      assert.deepEqual(await r.multi().take('n', 1).get('n').exec(), [{ count: 11, key: 'n' }, '11']);
      assert.equal(await r.eval("return redis.call('MGET', KEYS[1], KEYS[2])[1] .. ARGV[1]",
        { keys: ['n', 'other'], arguments: ['!'] }), '11!');
      await assert.rejects(r.eval("return redis.error_reply('MY own')"), /^Error: MY own/);
    });

    test('scan iterators', async () => {
      await r.mSet(names('scan', 1000).flatMap((key) => [key, '1']));
      const seen = new Set();
      for await (const keys of r.scanIterator({ MATCH: 'scan:*', COUNT: 100 })) keys.forEach((key) => seen.add(key));
      assert.equal(seen.size, 1000);
    });

    test('reconnects after CLIENT KILL', async () => {
      const victim = await connect();
      const heard = [];
      const sub = await connect();
      await sub.subscribe('after', (message) => heard.push(message));
      const id = await victim.clientId();
      assert.equal(await r.clientKill({ filter: 'ID', id }), 1);
      await until(async () => (await victim.clientId().catch(() => id)) !== id, 'another connection');
      assert.ok((await r.clientKill({ filter: 'TYPE', type: 'PUBSUB' })) >= 1);
      await until(async () => (await r.publish('after', 'still here')) && heard.includes('still here'), 'the subscription');
    });

    if (RESP === 3) {
      test('a client-side cache follows what others write', async () => {
        const cached = await connect({ clientSideCache: { ttl: 0, maxEntries: 0 } });
        await r.set('k', 'one');
        assert.equal(await cached.get('k'), 'one');
        await r.configResetStat();
        assert.equal(await cached.get('k'), 'one');
        assert.doesNotMatch(await r.info('commandstats'), /cmdstat_get:/);
        await r.set('k', 'two');
        await until(async () => (await cached.get('k')) === 'two', 'the invalidation');
        await r.del('k');
        await until(async () => (await cached.get('k')) === null, 'the invalidation of a deleted key');
      });
    }
  });
}
