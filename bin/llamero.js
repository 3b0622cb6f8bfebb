#!/usr/bin/env node
// Plain JavaScript: an older Node cannot load the TypeScript program and would print a stack trace.
import { mkdirSync, statSync } from 'node:fs'
import module from 'node:module'
import { homedir } from 'node:os'
import { join } from 'node:path'

const needed = { major: 24, minor: 21 }
const [major = 0, minor = 0] = process.versions.node.split('.').map(Number)
if (major < needed.major || (major === needed.major && minor < needed.minor)) {
  process.stderr.write(
    `error: llamero needs Node ${needed.major}.${needed.minor} or newer, and this is Node ${process.versions.node}: install it, or run "npm run llamero -- COMMAND" in the checkout, which brings its own\n`,
  )
  process.exitCode = 1
} else {
  keepCompiledCode()
  await import('./main.ts')
}

/** Lets Node keep the compiled modules between runs: a command then takes half the CPU. */
function keepCompiledCode() {
  try {
    // biome-ignore lint/style/noProcessEnv: lib/settings/environment.ts, which reads all others, is among the modules that are kept.
    const { XDG_CACHE_HOME } = process.env
    const folder = join(XDG_CACHE_HOME || join(homedir(), '.cache'), 'llamero', 'compiled')
    mkdirSync(folder, { recursive: true, mode: 0o700 })
    const { uid, mode } = statSync(folder)
    // Node runs what it finds there: nobody else may write it.
    const isOurs = uid === process.geteuid?.() && (mode & 0o022) === 0
    if (isOurs) module.enableCompileCache(folder)
  } catch {
    // A service without a home folder starts a little slower.
  }
}
