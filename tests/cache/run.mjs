// Holds a real node against the public suite `http-cache-tests`: its server is the origin, its client asks the node.
// Called by `cargo xtask cache-tests`. Arguments: the tidegate binary, a folder to work in, and maybe one test's id.
// Every setting is the default.
// Fails when less than 95 % of the required tests pass; prints all that do not.

import { execFileSync, spawn } from 'node:child_process'
import { existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { createServer } from 'node:net'
import { join, resolve } from 'node:path'
import { pathToFileURL } from 'node:url'

const VERSION = '0.4.5'
const ENOUGH = 0.95
const [binary, folder, only] = process.argv.slice(2).map((arg, i) => (i < 2 ? resolve(arg) : arg))

// Why a required test is not passed.
const REASONS = {
  'age-parse-prefix': 'expects that `Age: 0, 7200` is young, beside others that expect `Age: 0, 0` to be old; we hold both for old',
  '304-etag-update-response-ETag': 'a 304 with another strong ETag changes nothing that is stored (RFC 9111 § 4.3.4); we ask again',
  'stale-close-must-revalidate': 'the origin closes; we answer 502, which lacks the header that the suite counts by',
  'stale-close-proxy-revalidate': 'as above',
  'stale-close-no-cache': 'as above',
  'stale-close-s-maxage=2': 'as above',
  'headers-store-Transfer-Encoding': 'an answer with an unknown transfer coding is refused: nobody knows where it ends'
}

const running = []
process.on('exit', () => running.forEach(child => child.kill('SIGKILL')))

async function freePort () {
  const server = createServer()
  await new Promise(done => server.listen(0, '127.0.0.1', done))
  const { port } = server.address()
  await new Promise(done => server.close(done))
  return port
}

function suite () {
  const home = join(folder, `http-cache-tests-${VERSION}`)
  if (!existsSync(join(home, 'package', 'node_modules', 'node-fetch'))) {
    mkdirSync(home, { recursive: true })
    const quiet = { cwd: home, stdio: ['ignore', 'ignore', 'inherit'] }
    execFileSync('npm', ['pack', '--silent', `http-cache-tests@${VERSION}`], quiet)
    execFileSync('tar', ['xzf', `http-cache-tests-${VERSION}.tgz`], quiet)
    const install = ['install', '--silent', '--no-save', '--omit=dev', '--no-package-lock', '--ignore-scripts', 'node-fetch@2']
    execFileSync('npm', install, { ...quiet, cwd: join(home, 'package') })
  }
  return join(home, 'package')
}

async function until (what, holds) {
  for (let n = 0; n < 600; n++) {
    const value = await holds()
    if (value) return value
    await new Promise(done => setTimeout(done, 50))
  }
  throw new Error(`${what} within 30 s`)
}

async function origin (home, port) {
  const env = { ...process.env, npm_config_protocol: 'http', npm_config_port: `${port}`, npm_config_pidfile: join(folder, 'origin.pid') }
  running.push(spawn('node', ['server/server.mjs'], { cwd: home, env, stdio: 'ignore' }))
  await until('the origin answers', () => fetch(`http://127.0.0.1:${port}/`).then(() => true, () => false))
}

async function node (originPort) {
  const data = join(folder, 'node')
  rmSync(data, { recursive: true, force: true })
  const ready = join(folder, 'ready.json')
  rmSync(ready, { force: true })
  const flags = ['serve', '--data', data, '--http', '127.0.0.1:0', '--https', 'off', '--admin', '127.0.0.1:0', '--peer', '127.0.0.1:0']
  running.push(spawn(binary, [...flags, '--ready-file', ready, '--log', 'warn'], { cwd: folder, stdio: ['ignore', 'ignore', 'inherit'] }))
  const at = await until('the node is ready', () => existsSync(ready) && JSON.parse(readFileSync(ready, 'utf8')))
  const document = join(folder, 'document.yaml')
  writeFileSync(document, `version: 1
upstreams:
  - {name: origin, endpoints: [{url: "http://127.0.0.1:${originPort}"}], retries: {max: 0}, breaker: {min_requests: 1000000}}
routes:
  - {name: all, to: [{upstream: origin}], cache: {}}
`)
  const token = readFileSync(join(data, 'admin.token'), 'utf8').trim()
  execFileSync(binary, ['apply', '--wait', document, '--admin', at.admin, '--token', token], { stdio: ['ignore', 'ignore', 'inherit'] })
  return `http://${at.http}`
}

async function main () {
  mkdirSync(folder, { recursive: true })
  const home = suite()
  const port = await freePort()
  await origin(home, port)
  const base = await node(port)
  const load = path => import(pathToFileURL(join(home, path)))
  const sets = (await load('tests/index.mjs')).default.concat((await load('tests/surrogate-control.mjs')).default)
  const { runTests, getResults } = await load('client/runner.mjs')
  const send = (await load('node_modules/node-fetch/lib/index.js')).default
  const chosen = sets.map(set => ({ ...set, tests: set.tests.filter(test => !only || test.id === only) })).filter(set => set.tests.length)
  if (only) chosen.forEach(set => set.tests.forEach(test => { test.dump = true }))
  await runTests(chosen, send, false, base)
  report(chosen.flatMap(set => set.tests).filter(test => !test.browser_only), getResults())
}

function report (tests, results) {
  const kinds = { required: [0, 0], optimal: [0, 0], check: [0, 0] }
  for (const test of tests) {
    const kind = test.kind ?? 'required'
    const passed = results[test.id] === true
    kinds[kind][passed ? 0 : 1]++
    if (!passed && (kind !== 'check' || only)) {
      console.log(`${kind} ${test.id}: ${results[test.id]}${kind === 'required' ? `\n    why: ${REASONS[test.id] ?? '?'}` : ''}`)
    }
  }
  for (const [kind, [passed, failed]] of Object.entries(kinds)) {
    const note = kind === 'check' ? ' (tell how a cache behaves; neither is wrong)' : ''
    console.log(`${kind}: ${passed} of ${passed + failed}${note}`)
  }
  const [passed, failed] = kinds.required
  process.exitCode = only || passed >= ENOUGH * (passed + failed) ? 0 : 1
}

main().then(() => process.exit(), why => { console.error(why); process.exit(1) })
