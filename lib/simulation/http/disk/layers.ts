import { createHash } from 'node:crypto'
import type { Layer, ModelDefinition } from './model-definition.ts'
export const bytesPerMiB = 1024 * 1024
const configBytes = 512

/** What `model` is made of, the config last: its own layers, or weights and a config named after its digest. */
export function layersOf(model: ModelDefinition): readonly Layer[] {
  if (model.layers) return model.layers
  const bytes = Math.round(model.sizeMiB * bytesPerMiB)
  const config = Math.min(configBytes, bytes)
  return [
    { kind: 'model', digest: digestOf(`weights of ${model.digest}`), bytes: bytes - config },
    { kind: 'config', digest: digestOf(`config of ${model.digest}`), bytes: config },
  ]
}

/** Bytes on disk. */
export function sizeOf(model: ModelDefinition): number {
  return layersOf(model).reduce((sum, { bytes }) => sum + bytes, 0)
}

/** A layer that holds `text`. */
export function textLayer(kind: Layer['kind'], text: string): Layer {
  return { kind, digest: digestOf(text), bytes: Buffer.byteLength(text) }
}

/** The digest of a manifest, hex without prefix: equal layers have an equal one on every node. */
export function manifestDigest(layers: readonly Layer[]): string {
  return hexOf(JSON.stringify(layers.map(({ digest }) => digest)))
}

/** How progress lines name a blob. */
export function shortDigest(digest: string): string {
  return digest.replace('sha256:', '').slice(0, 12)
}

function digestOf(text: string): string {
  return `sha256:${hexOf(text)}`
}

function hexOf(text: string): string {
  return createHash('sha256').update(text).digest('hex')
}
