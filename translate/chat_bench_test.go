package translate

import (
	"bytes"
	"fmt"
	"testing"
	"time"

	"github.com/dragoman-proxy/dragoman/internal/sse"
)

// chatDiscard is a Sink that counts.
type chatDiscard struct{ n int }

func (d *chatDiscard) Event(*Event) { d.n++ }

func chatBenchSetup(face *Protocol) *Setup {
	return &Setup{
		Request: &Request{Face: face, Model: "gpt-5.4-mini", Stream: true}, Agent: &Agent{Name: "support"},
		Seed: "0123456789abcdef0123456789abcdef", Ledger: &Ledger{}, Created: 1762000000,
		Now: func() time.Time { return time.Unix(1762000000, 0) },
	}
}

// chatChunk is a chunk as OpenAI sends it.
func chatChunk(delta string) []byte {
	return []byte(`{"id":"chatcmpl-B9MBs8CjcvOU2jLn4n570S5qMJKcT","object":"chat.completion.chunk","created":1762000000,` +
		`"model":"gpt-5.4-mini-2026-03-17","service_tier":"default","system_fingerprint":"fp_44709d6fcb","choices":[{"index":0,"delta":` +
		delta + `,"logprobs":null,"finish_reason":null}],"usage":null}`)
}

// chatStream is a stream of n text chunks and what belongs around them.
func chatStream(n int) []byte {
	var b []byte
	b = sse.AppendData(b, chatChunk(`{"role":"assistant","content":"","refusal":null}`))
	for i := range n {
		text := fmt.Sprintf(" word%d", i)
		if i%8 == 7 {
			text += `,\n`
		}
		b = sse.AppendData(b, chatChunk(`{"content":"`+text+`"}`))
	}
	b = sse.AppendData(b, bytes.Replace(chatChunk(`{}`), []byte(`"finish_reason":null`), []byte(`"finish_reason":"stop"`), 1))
	return append(b, "data: [DONE]\n\n"...)
}

func BenchmarkChatDecode(b *testing.B) {
	first := chatChunk(`{"role":"assistant","content":"","refusal":null}`)
	opener := chatChunk(`{"tool_calls":[{"index":0,"id":"call_1","type":"function","function":{"name":"get_weather","arguments":"{\"city\":\""}}]}`)
	for _, c := range []struct {
		name   string
		frames [][]byte
	}{
		// The same shape chunk after chunk.
		{"text", [][]byte{chatChunk(`{"content":" weather"}`)}},
		{"escapes", [][]byte{chatChunk(`{"content":"\n\n\"Hi\""}`)}},
		// OpenAI's obfuscation, of random length.
		{"obfuscated", [][]byte{
			append(bytes.TrimSuffix(chatChunk(`{"content":" weather"}`), []byte("}")), `,"obfuscation":"a8Jk2"}`...),
			append(bytes.TrimSuffix(chatChunk(`{"content":" today"}`), []byte("}")), `,"obfuscation":"p0Zq7bX"}`...),
		}},
		// Chunks that differ in more than their text are parsed.
		{"parsed", [][]byte{
			chatChunk(`{"content":" weather"}`),
			bytes.Replace(chatChunk(`{"content":" today"}`), []byte("fp_44709d6fcb"), []byte("fp_0a1b2c3d4e"), 1),
		}},
		{"reasoning", [][]byte{chatChunk(`{"reasoning_content":" weather"}`)}},
		{"arguments", [][]byte{chatChunk(`{"tool_calls":[{"index":0,"function":{"arguments":" weather"}}]}`)}},
	} {
		b.Run(c.name, func(b *testing.B) {
			d := newCompletionDecoder(chatBenchSetup(&responsesProtocol))
			out := &chatDiscard{}
			d.Frame(&sse.Frame{Data: first}, out)
			if c.name == "arguments" {
				d.Frame(&sse.Frame{Data: opener}, out)
			}
			frames := make([]sse.Frame, len(c.frames))
			for i := range frames {
				frames[i].Data = c.frames[i]
				d.Frame(&frames[i], out)
			}
			b.SetBytes(int64(len(c.frames[0])))
			b.ReportAllocs()
			b.ResetTimer()
			for i := range b.N {
				d.Frame(&frames[i%len(frames)], out)
			}
		})
	}
}

func BenchmarkChatEncode(b *testing.B) {
	for _, c := range []struct {
		name  string
		block Block
		data  string
	}{
		{"text", Block{Type: BlockText}, " weather"},
		{"escapes", Block{Type: BlockText}, "\n\n\"Hi\""},
		{"reasoning", Block{Type: BlockReasoning}, " weather"},
		{"arguments", Block{Type: BlockToolCall, CallID: "call_1", Name: "get_weather"}, `"city":`},
	} {
		b.Run(c.name, func(b *testing.B) {
			e := newCompletionEncoder(chatBenchSetup(&chatProtocol), false)
			dst := e.Encode(nil, &Event{Kind: EventStart})
			dst = e.Encode(dst[:0], &Event{Kind: EventBlockStart, Block: &c.block})
			ev := Event{Kind: EventBlockDelta, Data: []byte(c.data)}
			dst = e.Encode(dst[:0], &ev)
			b.SetBytes(int64(len(dst)))
			b.ReportAllocs()
			b.ResetTimer()
			for range b.N {
				dst = e.Encode(dst[:0], &ev)
			}
		})
	}
}

// BenchmarkChatStream carries a whole stream of 64 text events from a chat
// backend to each face, Answer and stages included.
func BenchmarkChatStream(b *testing.B) {
	stream := chatStream(64)
	for _, face := range Protocols() {
		b.Run(face.Name, func(b *testing.B) {
			var dst []byte
			b.SetBytes(int64(len(stream)))
			b.ReportAllocs()
			for range b.N {
				a := NewAnswer(chatBenchSetup(face), &chatProtocol, true, true)
				dst = a.Feed(dst[:0], stream)
				dst = a.End(dst, nil)
				if a.Err() != nil {
					b.Fatal(a.Err())
				}
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/64, "ns/event")
		})
	}
}
