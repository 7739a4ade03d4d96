package translate

import (
	"bytes"
	"strconv"
	"testing"

	"github.com/dragoman-proxy/dragoman/internal/sse"
)

// respBenchStream is a stream of a real backend's shape with n text deltas.
func respBenchStream(n int) []byte {
	var b bytes.Buffer
	seq := 0
	event := func(typ, rest string) {
		b.WriteString("event: " + typ + "\ndata: {\"type\":\"" + typ + "\",\"sequence_number\":" + strconv.Itoa(seq) + "," + rest + "}\n\n")
		seq++
	}
	const id = "msg_68a1f3c2d4e88190a1b2c3d4e5f60718"
	response := func(status, output string) string {
		return `"response":{"id":"resp_68a1f3c2d4e88190a1b2c3d4e5f60717","object":"response","created_at":1760000000,"status":"` + status +
			`","error":null,"incomplete_details":null,"instructions":null,"model":"gpt-5-mini","output":[` + output + `],"tools":[],"usage":{"input_tokens":12,"output_tokens":64,"total_tokens":76}}`
	}
	text := ""
	event("response.created", response("in_progress", ""))
	event("response.in_progress", response("in_progress", ""))
	event("response.output_item.added", `"output_index":0,"item":{"id":"`+id+`","type":"message","status":"in_progress","content":[],"role":"assistant"}`)
	event("response.content_part.added", `"item_id":"`+id+`","output_index":0,"content_index":0,"part":{"type":"output_text","annotations":[],"logprobs":[],"text":""}`)
	for i := range n {
		word := " word" + strconv.Itoa(i%10)
		text += word
		event("response.output_text.delta", `"item_id":"`+id+`","output_index":0,"content_index":0,"delta":"`+word+`","logprobs":[],"obfuscation":"Xk3vQ9aB"`)
	}
	part := `{"type":"output_text","annotations":[],"logprobs":[],"text":"` + text + `"}`
	item := `{"id":"` + id + `","type":"message","status":"completed","content":[` + part + `],"role":"assistant"}`
	event("response.output_text.done", `"item_id":"`+id+`","output_index":0,"content_index":0,"text":"`+text+`","logprobs":[]`)
	event("response.content_part.done", `"item_id":"`+id+`","output_index":0,"content_index":0,"part":`+part)
	event("response.output_item.done", `"output_index":0,"item":`+item)
	event("response.completed", response("completed", item))
	return b.Bytes()
}

// respFrames are the frames of a stream.
func respFrames(stream []byte) []sse.Frame {
	var frames []sse.Frame
	var r sse.Reader
	r.Feed(stream)
	for f, ok := r.Next(); ok; f, ok = r.Next() {
		frames = append(frames, f)
	}
	return frames
}

type respDiscard struct{}

func (respDiscard) Event(*Event) {}

func BenchmarkResponsesDecodeDelta(b *testing.B) {
	frames := respFrames(respBenchStream(1))
	d := newRespDecoder(respTestSetup(respTestRequest(b, &responsesProtocol)))
	for i := range 4 {
		d.Frame(&frames[i], respDiscard{})
	}
	f := &frames[4]
	b.SetBytes(int64(len(f.Raw)))
	b.ReportAllocs()
	for b.Loop() {
		d.Frame(f, respDiscard{})
	}
}

func BenchmarkResponsesEncodeDelta(b *testing.B) {
	for name, text := range map[string]string{"plain": " word5", "escaped": "a \"b\"\nc"} {
		b.Run(name, func(b *testing.B) {
			e := newRespEncoder(respTestSetup(respTestRequest(b, &responsesProtocol)))
			var dst []byte
			dst = e.Encode(dst, &Event{Kind: EventStart})
			dst = e.Encode(dst, &Event{Kind: EventBlockStart, Block: &Block{Type: BlockText}})
			ev := &Event{Kind: EventBlockDelta, Data: []byte(text)}
			keep := len(e.output)
			b.SetBytes(int64(len(e.Encode(dst[:0], ev))))
			b.ReportAllocs()
			n := 0
			for b.Loop() {
				if n++; n&0xfff == 0 {
					e.output = e.output[:keep]
				}
				dst = e.Encode(dst[:0], ev)
			}
		})
	}
}

// BenchmarkResponsesStream is a whole stream of 64 text events, through the
// stages, to a client of the dialect, for which it is translated.
func BenchmarkResponsesStream(b *testing.B) {
	stream := respBenchStream(64)
	r := respTestRequest(b, &cognipeerProtocol)
	out := make([]byte, 0, 1<<16)
	b.SetBytes(int64(len(stream)))
	b.ReportAllocs()
	for b.Loop() {
		a := NewAnswer(respTestSetup(r), &responsesProtocol, true, true)
		out = a.Feed(out[:0], stream)
		out = a.End(out, nil)
		if a.Err() != nil {
			b.Fatal(a.Err())
		}
	}
}

// BenchmarkResponsesPassThrough is the same stream with the decoder as a tap.
func BenchmarkResponsesPassThrough(b *testing.B) {
	stream := respBenchStream(64)
	r := respTestRequest(b, &responsesProtocol)
	out := make([]byte, 0, 1<<16)
	b.SetBytes(int64(len(stream)))
	b.ReportAllocs()
	for b.Loop() {
		a := NewAnswer(respTestSetup(r), &responsesProtocol, true, true)
		out = a.Feed(out[:0], stream)
		out = a.End(out, nil)
		if a.Err() != nil || len(out) != len(stream) {
			b.Fatal(a.Err())
		}
	}
}

func BenchmarkResponsesRequest(b *testing.B) {
	body := []byte(`{"model":"gpt-5","stream":true,"instructions":"Be brief.","input":[{"role":"user","content":"What is the weather in Paris?"},` +
		`{"type":"function_call","call_id":"call_1","name":"get_weather","arguments":"{\"city\":\"Paris\"}"},{"type":"function_call_output","call_id":"call_1","output":"7 degrees"}],` +
		`"tools":[{"type":"function","name":"get_weather","description":"Weather","parameters":{"type":"object","properties":{"city":{"type":"string"}}}}],"temperature":0.5}`)
	agent := &Agent{Name: "weather"}
	var dst []byte
	b.Run("decode", func(b *testing.B) {
		b.SetBytes(int64(len(body)))
		b.ReportAllocs()
		for b.Loop() {
			if _, err := responsesProtocol.DecodeRequest(&Inbound{Body: body}); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("encode", func(b *testing.B) {
		r, err := responsesProtocol.DecodeRequest(&Inbound{Body: body})
		if err != nil {
			b.Fatal(err)
		}
		b.ReportAllocs()
		for b.Loop() {
			if dst, err = responsesProtocol.EncodeRequest(dst[:0], r, agent, true); err != nil {
				b.Fatal(err)
			}
		}
	})
}
