package translate

import (
	"bytes"
	"fmt"
	"testing"

	"github.com/dragoman-proxy/dragoman/internal/sse"
)

type cyclsNowhere struct{}

func (cyclsNowhere) Event(*Event) {}

var cyclsBenchEvents = []struct{ name, data string }{
	{"text", `{"type": "text", "text": " the quick brown"}`},
	{"escaped", `{"type": "text", "text": "caf\u00e9 \"au lait\"\n"}`},
	{"thinking", `{"type": "thinking", "thinking": "Let me see what that means"}`},
	{"row", `{"type": "table", "row": ["one", "two", "three"]}`},
}

func BenchmarkCyclsDecode(b *testing.B) {
	for _, c := range cyclsBenchEvents {
		b.Run(c.name, func(b *testing.B) {
			dec := Lookup("cycls").NewDecoder(cyclsSetup())
			f := &sse.Frame{Data: []byte(c.data)}
			dec.Frame(&sse.Frame{Data: []byte(`{"type": "table", "headers": ["A", "B", "C"]}`)}, cyclsNowhere{})
			b.ReportAllocs()
			b.SetBytes(int64(len(c.data)))
			for b.Loop() {
				dec.Frame(f, cyclsNowhere{})
			}
		})
	}
}

func BenchmarkCyclsEncode(b *testing.B) {
	for _, c := range []struct {
		name, data string
		typ        BlockType
	}{
		{"text", " the quick brown", BlockText},
		{"escaped", "café \"au lait\"\n", BlockText},
		{"thinking", "Let me see what that means", BlockReasoning},
		{"row", `["one","two","three"]`, BlockTable},
	} {
		b.Run(c.name, func(b *testing.B) {
			enc := Lookup("cycls").NewEncoder(cyclsSetup())
			out := enc.Encode(make([]byte, 0, 4096), &Event{Kind: EventBlockStart, Block: &Block{Type: c.typ, Headers: `["A","B","C"]`}})
			e := &Event{Kind: EventBlockDelta, Data: []byte(c.data)}
			b.ReportAllocs()
			b.SetBytes(int64(len(c.data)))
			for b.Loop() {
				out = enc.Encode(out[:0], e)
			}
		})
	}
}

// BenchmarkCyclsStream is a whole answer of 64 events from a Cycls backend,
// decoded, and encoded for a Cycls client as if it could not be passed through.
func BenchmarkCyclsStream(b *testing.B) {
	var stream bytes.Buffer
	stream.WriteString("data: {\"type\": \"chat_id\", \"chat_id\": \"3b88a467-1b98-4f24-8294-1f93ab909128\"}\n\n")
	for i := range 62 {
		fmt.Fprintf(&stream, "data: {\"type\": \"text\", \"text\": \"token %d of many \"}\n\n", i)
	}
	stream.WriteString(cyclsDone)
	p := Lookup("cycls")
	sink := &cyclsEncodeSink{out: make([]byte, 0, 16<<10)}
	b.ReportAllocs()
	b.SetBytes(int64(stream.Len()))
	for b.Loop() {
		s := cyclsSetup()
		dec := p.NewDecoder(s)
		sink.enc, sink.out = p.NewEncoder(s), sink.out[:0]
		var (
			r  sse.Reader
			f  sse.Frame
			ok bool
		)
		r.Feed(stream.Bytes())
		for f, ok = r.Next(); ok; f, ok = r.Next() {
			dec.Frame(&f, sink)
		}
		dec.End(nil, sink)
	}
}
