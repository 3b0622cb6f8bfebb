import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { MergedBytes } from '../../../lib/shared/merged-bytes.ts'

test('merged bytes equal the pieces that came, however many, and no piece is overwritten (346)', () => {
  fc.assert(
    fc.property(fc.array(fc.uint8Array({ maxLength: 20 })), fc.nat(20), (pieces, taken) => {
      const merged = new MergedBytes()
      const buffers = pieces.map((piece) => Buffer.from(piece))
      const expected: Buffer[] = []
      for (const [index, piece] of buffers.entries()) {
        merged.add(piece)
        expected.push(piece)
        assert.deepEqual(merged.bytes, Buffer.concat(expected))
        if (index === taken) assert.deepEqual(merged.take(), Buffer.concat(expected.splice(0)))
      }
      assert.deepEqual(
        buffers,
        pieces.map((piece) => Buffer.from(piece)),
      )
    }),
  )
})
