#!/usr/bin/env node
// Plain JavaScript: an older Node cannot load the TypeScript program and would print a stack trace.
const needed = { major: 24, minor: 21 }
const [major = 0, minor = 0] = process.versions.node.split('.').map(Number)
if (major < needed.major || (major === needed.major && minor < needed.minor)) {
  process.stderr.write(
    `error: llamero needs Node ${needed.major}.${needed.minor} or newer, and this is Node ${process.versions.node}: install it, or run "npm run llamero -- COMMAND" in the checkout, which brings its own\n`,
  )
  process.exitCode = 1
} else await import('./main.ts')
