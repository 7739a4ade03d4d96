package translate

import (
	"strings"
	"testing"

	"github.com/dragoman-proxy/dragoman/internal/sse"
)

const swarmsBenchChunk = `{"content": " and the quick brown", "timestamp": "2026-02-05T00:58:15.200000+00:00"}`

// swarmsNothing is a Sink that does nothing.
type swarmsNothing struct{ n int }

func (s *swarmsNothing) Event(*Event) { s.n++ }

func BenchmarkSwarmsDecodeEvent(b *testing.B) {
	dec, out := swarmsProtocol.NewDecoder(swarmsSetup(&Request{})), &swarmsNothing{}
	f := &sse.Frame{Event: []byte("chunk"), Data: []byte(swarmsBenchChunk)}
	b.ReportAllocs()
	b.SetBytes(int64(len(swarmsBenchChunk)))
	for b.Loop() {
		dec.Frame(f, out)
	}
}

func BenchmarkSwarmsEncodeEvent(b *testing.B) {
	enc := swarmsProtocol.NewEncoder(swarmsSetup(&Request{}))
	e := &Event{Kind: EventBlockDelta, Data: []byte(" and the quick brown")}
	buf := enc.Encode(nil, &Event{Kind: EventBlockStart, Block: &Block{Type: BlockText}})
	b.ReportAllocs()
	for b.Loop() {
		buf = enc.Encode(buf[:0], e)
	}
	b.SetBytes(int64(len(buf)))
}

// BenchmarkSwarmsStream carries a whole answer of 64 chunks from backend bytes
// to client bytes, through all stages.
func BenchmarkSwarmsStream(b *testing.B) {
	stream := []byte("data: {\"job_id\": \"agent-1\", \"success\": true, \"type\": \"metadata\"}\n\n" +
		strings.Repeat("event: chunk\ndata: "+swarmsBenchChunk+"\n\n", 64) +
		"event: usage\ndata: {\"input_tokens\": 45, \"output_tokens\": 120, \"total_tokens\": 165}\n\n" +
		"event: end\ndata: {\"complete\": true}\n\nevent: done\ndata: {}\n\n")
	var buf []byte
	var f sse.Frame
	b.ReportAllocs()
	b.SetBytes(int64(len(stream)))
	for b.Loop() {
		s := swarmsSetup(&Request{Face: &swarmsProtocol})
		sink := &swarmsBuffer{enc: swarmsProtocol.NewEncoder(s), buf: buf[:0]}
		dec, out := swarmsProtocol.NewDecoder(s), stages(s, &swarmsProtocol, sink)
		var r sse.Reader
		r.Feed(stream)
		for {
			var ok bool
			if f, ok = r.Next(); !ok {
				break
			}
			dec.Frame(&f, out)
		}
		dec.End(nil, out)
		buf = sink.buf
	}
}

// swarmsBuffer encodes a whole answer.
type swarmsBuffer struct {
	enc Encoder
	buf []byte
}

func (s *swarmsBuffer) Event(e *Event) { s.buf = s.enc.Encode(s.buf, e) }
