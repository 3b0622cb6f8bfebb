import { Refusal } from '../refusal.ts'

const alphabet = /^[A-Za-z0-9+/]*={0,2}/

/** Refuses what Go's decoder does not take for base64, in its words. @throws Refusal 400. */
export function checkBase64(text: unknown, complaint: (fault: string) => string = (fault) => fault): void {
  const plain = typeof text === 'string' ? text.replace(/[\r\n]/g, '') : ''
  const [legal = ''] = alphabet.exec(plain) ?? []
  if (legal.length === plain.length && plain.length % 4 === 0) return
  const at = legal.length < plain.length ? legal.length : plain.length - (plain.length % 4)
  throw new Refusal(400, complaint(`illegal base64 data at input byte ${at}`))
}

/** An image of OpenAI's dialect: a data URL, never an address (ollama: decodeImageURL in openai/openai.go). @throws Refusal 400. */
export function checkImageUrl(url: unknown): void {
  if (typeof url !== 'string') throw new Refusal(400, 'invalid message format')
  if (/^https?:\/\//.test(url)) {
    throw new Refusal(400, 'image URLs are not currently supported, please use base64 encoded data instead')
  }
  const data = /^data:(?:image\/(?:jpeg|jpg|png|webp))?;base64,(.*)$/s.exec(url)?.[1]
  if (data === undefined) throw new Refusal(400, 'invalid image input')
  checkBase64(data, () => 'invalid image input')
}
