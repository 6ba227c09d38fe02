// What node-pg does. Prints one line a test: its name, a tab, and what came out.
'use strict';
const { Client, Pool } = require('pg');
const Cursor = require('pg-cursor');

const settings = {
  host: process.env.PGHOST, port: +process.env.PGPORT, user: process.env.PGUSER, password: process.env.PGPASSWORD,
  database: process.env.PGDATABASE,
};

async function test(name, body, options = {}) {
  let outcome;
  const client = new Client({ ...settings, ...options });
  client.on('error', () => {});
  try {
    await client.connect();
    outcome = JSON.stringify(await body(client));
  } catch (error) {
    outcome = `${error.code} ${error.message}`;
  }
  await client.end().catch(() => {});
  console.log(`${name}\t${outcome}`);
}

const state = async (promise) => promise.then((result) => result.rows, (error) => error.code);

async function main() {
  await test('make', async (c) => {
    await c.query('CREATE TABLE node (n int PRIMARY KEY, s text)');
    return (await c.query("INSERT INTO node SELECT n, 's' || n FROM generate_series(1, 20) n RETURNING *")).rows;
  });
  await test('parameters', async (c) =>
    (await c.query('SELECT $1::int, $2::text, $3::json, $4::int[], $5::bytea, $6::timestamptz',
      [1, 'ü€', { a: [1, null] }, [1, 2, null], Buffer.from([0, 255]), new Date(0)])).rows);
  await test('named statements', async (c) => {
    const seen = [];
    for (let i = 0; i < 30; i++) seen.push((await c.query({ name: 'one', text: 'SELECT s FROM node WHERE n = $1', values: [i] })).rows);
    seen.push(await state(c.query({ name: 'wrong', text: 'SELEC' })));
    seen.push((await c.query({ name: 'two', text: 'SELECT $1::int', values: [7] })).rows);
    return seen;
  });
  await test('named statements of two clients', async (a) => {
    const b = new Client(settings);
    await b.connect();
    const seen = [];
    for (let i = 0; i < 10; i++) {
      seen.push((await a.query({ name: 'x', text: 'SELECT 1 AS a' })).rows, (await b.query({ name: 'x', text: 'SELECT 2 AS b' })).rows);
    }
    await b.end();
    return seen;
  });
  await test('many at once', async (c) =>
    (await Promise.all([...Array(100).keys()].map((i) => (i % 10 === 5 ? state(c.query('SELECT 1/0')) : state(c.query('SELECT $1::int', [i])))))));
  await test('several statements', async (c) => (await c.query('SELECT 1; UPDATE node SET n = n WHERE n < 4; SELECT 2')).map((r) => [r.command, r.rowCount, r.rows]));
  await test('transaction', async (c) => {
    const seen = [];
    await c.query('BEGIN');
    await c.query("INSERT INTO node VALUES (100, 'x')");
    await c.query('SAVEPOINT a');
    seen.push(await state(c.query("INSERT INTO node VALUES (100, 'x')")));
    seen.push(await state(c.query('SELECT 1')));
    await c.query('ROLLBACK TO a');
    seen.push((await c.query('SELECT count(*) FROM node')).rows);
    await c.query('ROLLBACK');
    seen.push((await c.query('SELECT count(*) FROM node')).rows);
    return seen;
  });
  await test('cursor', async (c) => {
    const cursor = c.query(new Cursor('SELECT n FROM generate_series(1, $1) n', [250]));
    const sizes = [];
    for (let rows; (rows = await cursor.read(100)).length;) sizes.push(rows.length);
    await cursor.close();
    return [sizes, (await c.query('SELECT 1')).rows];
  });
  await test('cursor, closed early', async (c) => {
    const cursor = c.query(new Cursor('SELECT n FROM generate_series(1, 100000) n'));
    const first = await cursor.read(3);
    await cursor.close();
    return [first, (await c.query('SELECT 1')).rows];
  });
  await test('listen', async (c) => {
    const seen = [];
    const received = new Promise((resolve) => c.on('notification', (m) => { seen.push([m.channel, m.payload]); if (seen.length === 3) resolve(); }));
    await c.query('LISTEN node');
    for (let i = 0; i < 3; i++) await c.query(`NOTIFY node, '${i}'`);
    await received;
    return seen;
  });
  await test('errors', async (c) => {
    const seen = [];
    for (const text of ['SELEC', 'SELECT 1/0', 'SELECT * FROM there_is_none', 'INSERT INTO node VALUES (1)'])
      for (const values of [undefined, []]) seen.push(await state(c.query(text, values)));
    return seen;
  });
  await test('notices', async (c) => {
    const seen = [];
    c.on('notice', (m) => seen.push(m.message));
    await c.query("DO $$BEGIN RAISE NOTICE 'one'; RAISE WARNING 'two'; END$$");
    return seen;
  });
  await test('time limit of the server', async (c) => [await state(c.query('SELECT pg_sleep(60)')), (await c.query('SELECT 1')).rows],
    { statement_timeout: 300 });
  await test('names and options', async (c) => [(await c.query('SHOW application_name')).rows, (await c.query('SHOW work_mem')).rows],
    { application_name: "node's", options: '-c work_mem=5MB' });
  await test('pool', async () => {
    const pool = new Pool({ ...settings, max: 7 });
    const results = await Promise.all([...Array(200).keys()].map((i) => pool.query('SELECT $1::int + 1 AS n', [i])));
    await pool.end();
    return results.map((r) => r.rows[0].n);
  });
  await test('large values', async (c) => {
    const seen = [];
    for (const size of [65530, 65536, 1000000]) seen.push((await c.query('SELECT length($1), $1 = repeat($2, $3) AS same', ['y'.repeat(size), 'y', size])).rows);
    seen.push((await c.query("SELECT n, repeat('x', n) FROM generate_series(1, 2000) n")).rows.length);
    return seen;
  });
}

main().then(() => process.exit(0), (error) => { console.error(error); process.exit(1); });
