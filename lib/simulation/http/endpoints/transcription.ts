import { type GenerationOutcome, type Head, jsonType, type Writer } from '../dialects/dialect.ts'
import { type GenerateRequest, readChat } from '../dialects/request.ts'
import { Fields, goString } from '../json.ts'
import { Refusal } from '../refusal.ts'
import type { GenerateEndpoint } from './inference.ts'

/** A form of `/v1/audio/transcriptions`: a chat about a file. Only the name and the size of the file count. */
export interface TranscriptionRequest extends GenerateRequest {
  readonly plainText: boolean
}

/** The form of `/v1/audio/transcriptions`. @throws Refusal 400. */
export function readTranscription(body: unknown): TranscriptionRequest {
  const fields = new Fields(body, 'TranscriptionRequest')
  const file = fields.record('file')
  if (file['name'] === undefined) throw new Refusal(400, 'file is required')
  const model = fields.text('model')
  if (model === '') throw new Refusal(400, 'model is required')
  const content = `${fields.text('prompt')} ${file['name']} of ${file['bytes']} bytes`.trim()
  const chat = readChat({ model, stream: false, messages: [{ role: 'user', content }] })
  const plainText = fields.text('response_format') === 'text'
  return { ...chat, capabilities: ['completion', 'audio'], plainText }
}

/** How the answer to `ask` is written: as a whole, in JSON or as plain text (docs/ollama.md#answers). */
export function transcriptionEndpoint({ plainText }: TranscriptionRequest): GenerateEndpoint {
  const textOf = ({ answer }: GenerationOutcome) => answer.content.join('')
  const write = (text: string) => (plainText ? text : `{"text":${goString(text)}}\n`)
  const wholeType = plainText ? 'text/plain; charset=utf-8' : jsonType
  const writer = (_head: Head): Writer => ({
    streamType: wholeType,
    wholeType,
    piece: ({ text }) => text,
    last: () => '',
    whole: (outcome) => write(textOf(outcome)),
    failure: () => '',
    idle: () => ({ type: wholeType, text: write('') }),
  })
  return { wording: 'chat', writer }
}
