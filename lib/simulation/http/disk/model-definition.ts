import { createHash } from 'node:crypto'
import { parseName } from './model-name.ts'

/** One blob of a model's manifest. */
export interface Layer {
  readonly kind: 'model' | 'template' | 'system' | 'params' | 'license' | 'config'
  /** `sha256:` and 64 hex digits. */
  readonly digest: string
  readonly bytes: number
}

export interface ToolCall {
  readonly name: string
  readonly arguments: Readonly<Record<string, unknown>>
}

/**
 * One model on the disk of a simulated node. Sizes in MiB, durations in milliseconds, speeds in tokens per second, where
 * 0 or Infinity means as fast as the machine can.
 */
export interface ModelDefinition {
  readonly name: string
  /** Hex, no prefix; equal definitions have equal digests on every node. */
  readonly digest: string
  readonly sizeMiB: number
  readonly kvMiBPer1kCtx: number
  readonly trainCtx: number
  readonly family: string
  readonly parameterSize: string
  readonly quant: string
  readonly capabilities: readonly string[]
  /** How long a first load takes; without it `sizeMiB / loadMiBps` seconds. */
  readonly loadMs?: number
  readonly loadMiBps: number
  readonly promptTps: number
  readonly decodeTps: number
  /** How many times slower the model is with no layer in VRAM. */
  readonly cpuFactor: number
  readonly embedDim: number
  /** Tokens of thinking before the answer, for a model with the capability `thinking`. */
  readonly thinkTokens: number
  /** The tool call that the model answers with when a request brings tools. */
  readonly toolCall?: ToolCall
  /** The text of its answers; by default made from the model's name and the user's last message. */
  readonly text?: string | ((question: string) => string)
  /** Ollama serves its family one request at a time and ignores OLLAMA_NUM_PARALLEL (docs/ollama.md#scheduling). */
  readonly seqParallel1: boolean
  /** Its blobs; by default weights and a config made from its digest. */
  readonly layers?: readonly Layer[]
  /** The base and the texts that `/api/create` made it from. */
  readonly parent?: string
  readonly system?: string
  readonly template?: string
  readonly license?: string
  /** Lines of name and value, as a Modelfile has them. */
  readonly parameters?: string
}

/**
 * A model with sensible defaults: a quantised 3B chat model that loads in one second.
 * @throws TypeError on a name Ollama would not accept.
 */
export function aModel(given: Partial<ModelDefinition> & Pick<ModelDefinition, 'name'>): ModelDefinition {
  const name = parseName(given.name)
  if (!name) throw new TypeError(`invalid model name "${given.name}"`)
  const sizeMiB = given.sizeMiB ?? 2048
  return {
    digest: createHash('sha256').update(`${name.key} ${sizeMiB}`).digest('hex'),
    kvMiBPer1kCtx: 112,
    trainCtx: 131_072,
    family: 'llama',
    parameterSize: '3.2B',
    quant: 'Q4_K_M',
    capabilities: ['completion', 'tools'],
    loadMiBps: 2048,
    promptTps: 2000,
    decodeTps: 60,
    cpuFactor: 8,
    embedDim: 3072,
    thinkTokens: 0,
    seqParallel1: false,
    ...given,
    name: name.short,
    sizeMiB,
  }
}

/** The models of the quick start's nodes. Loads are short: a first request is answered within two seconds. */
export const quickstartModels: readonly ModelDefinition[] = [
  aModel({ name: 'llama3.2:3b', sizeMiB: 1926, loadMs: 600 }),
  aModel({
    name: 'qwen3:8b',
    sizeMiB: 4983,
    kvMiBPer1kCtx: 144,
    trainCtx: 40_960,
    family: 'qwen3',
    parameterSize: '8.2B',
    loadMs: 1000,
    promptTps: 1200,
    decodeTps: 35,
    embedDim: 4096,
  }),
  aModel({
    name: 'nomic-embed-text:latest',
    sizeMiB: 262,
    kvMiBPer1kCtx: 6,
    trainCtx: 2048,
    family: 'nomic-bert',
    parameterSize: '137M',
    quant: 'F16',
    capabilities: ['embedding'],
    loadMs: 300,
    promptTps: 8000,
    embedDim: 768,
  }),
]
