#!/usr/bin/env node
// Plain JavaScript, which any Node can read: an older one cannot even load the program, and would print a stack.
const needed = { major: 24, minor: 21 }
const [major = 0, minor = 0] = process.versions.node.split('.').map(Number)
if (major < needed.major || (major === needed.major && minor < needed.minor)) {
  process.stderr.write(
    `error: llamero needs Node ${needed.major}.${needed.minor} or newer, and this is ${process.versions.node}: install that, or run "npm run llamero -- COMMAND" in its folder, which brings its own\n`,
  )
  process.exitCode = 1
} else await import('./main.ts')
