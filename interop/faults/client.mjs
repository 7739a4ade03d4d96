// One streamed answer through OpenAI's own client: tells when the first words came, and then how it ended.
import OpenAI from 'openai'

const client = new OpenAI({ baseURL: process.argv[2] + '/v1', apiKey: 'none', maxRetries: 0, timeout: 30_000 })
const face = process.argv[3]
let told = false
try {
  const messages = [{ role: 'user', content: 'hold' }]
  const stream = face === 'chat'
    ? await client.chat.completions.create({ model: 'victim', messages, stream: true })
    : await client.responses.create({ model: 'victim', input: 'hold', stream: true })
  for await (const e of stream) {
    const text = face === 'chat' ? e.choices?.[0]?.delta?.content : e.type === 'response.output_text.delta' && e.delta
    if (e.type === 'error' || e.type === 'response.failed') throw new Error(e.type)
    if (text && !told) {
      told = true
      console.log('first')
    }
  }
  console.log('end')
} catch (e) {
  console.log('error ' + e.constructor.name + ': ' + e.message)
}
