package translate

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"
	"unicode/utf8"

	"github.com/dragoman-proxy/dragoman/internal/jsonx"
	"github.com/dragoman-proxy/dragoman/internal/sse"
)

// FuzzCyclsRequest decodes requests. What is accepted is encoded for a backend
// and spliced, which must give valid JSON.
func FuzzCyclsRequest(f *testing.F) {
	for _, body := range []string{
		`{"messages":[{"role":"user","content":[{"type":"text","text":"look"},{"type":"image","image":"a.png"}],"attachments":[{"name":"p","type":"image/png","path":"a.png"}]}]}`,
		`{"messages":[{"role":"user","content":"hi"},{"role":"assistant","parts":[{"type":"session_id","session_id":"s"},{"type":"table","headers":["A",1],"rows":[["1"],2]},{"type":"code","code":"x","language":"go"},{"type":"callout","callout":"c","style":"error","title":"t"},{"type":"tool_call","tool":"f","args":{},"id":"c"}]},{"role":"tool","tool_call_id":"c","content":"r"}],"session_id":"s","plan":{}}`,
		`{"messages":[{"role":"user","content":"","parts":null},{"role":"system","content":[{"type":"image_url","image_url":{"url":"u"}}]}]}`,
		`{"messages":[{"role":"assistant","parts":[{"name":"callout","content":"c","type":"success","title":null},{"name":"table","headers":["A"],"rows":[[1]]},{"name":"text","content":[1]}]}]}`,
		`{"messages":[{"role":"assistant","parts":[{"type":"ui"},{"type":"table","row":[[]]},{"type":"step","step":5}]}]}`,
	} {
		f.Add([]byte(body), "id=1", "application/json")
	}
	f.Fuzz(func(t *testing.T, body []byte, query, accept string) {
		if jsonx.Check(body, jsonx.CheckOptions{UTF8: true, Duplicates: 1}) != nil {
			return
		}
		r, e := Lookup("cycls").DecodeRequest(&Inbound{Body: body, Query: query, Accept: accept})
		if e != nil {
			if e.Status != 400 || e.Param == "" || e.Message == "" {
				t.Fatalf("%+v", e)
			}
			return
		}
		cyclsProtocol.Query(r, &Agent{})
		a := &Agent{Name: "a", SystemPrompt: "Be brief."}
		out, e := Lookup("cycls").SpliceRequest(nil, r, a)
		if e != nil || !jsonx.Valid(out) {
			t.Fatalf("spliced: %v %s", e, out)
		}
		r.ApplyDefaults(a)
		out, e = Lookup("cycls").EncodeRequest(nil, r, a, true)
		if e != nil {
			return
		}
		if !jsonx.Valid(out) {
			t.Fatalf("encoded: %s", out)
		}
		if _, e := Lookup("cycls").DecodeRequest(&Inbound{Body: out}); e != nil {
			t.Fatalf("our own request is refused: %v\n%s", e, out)
		}
	})
}

// FuzzCyclsStream decodes streams and bodies. The order of events must hold,
// pieces must make no difference, and what the encoder makes of the events must
// be frames that the web client can read.
func FuzzCyclsStream(f *testing.F) {
	for _, pattern := range []string{"backend.sse", "backend.json"} {
		files, _ := filepath.Glob("testdata/cycls/*/" + pattern)
		for _, file := range files {
			data, err := os.ReadFile(file)
			if err != nil {
				f.Fatal(err)
			}
			f.Add(data)
		}
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		if jsonx.Valid(data) {
			cyclsCheck(t, func(s *Setup, dec Decoder, out Sink) { dec.JSON(data, out) })
		}
		feed := func(n int) func(s *Setup, dec Decoder, out Sink) {
			return func(_ *Setup, dec Decoder, out Sink) {
				c := &goldenCase{body: data, stream: true}
				if d, raw := c.unframed(dec); raw {
					for rest := data; len(rest) > 0; rest = rest[min(n, len(rest)):] {
						d.Text(rest[:min(n, len(rest))], out)
					}
					dec.End(nil, out)
					return
				}
				var r sse.Reader
				for rest := data; len(rest) > 0; {
					k := min(n, len(rest))
					r.Feed(rest[:k])
					for fr, ok := r.Next(); ok; fr, ok = r.Next() {
						dec.Frame(&fr, out)
					}
					rest = rest[k:]
				}
				if fr, ok := r.Flush(); ok {
					dec.Frame(&fr, out)
				}
				dec.End(nil, out)
			}
		}
		whole, pieces := cyclsCheck(t, feed(max(len(data), 1))), cyclsCheck(t, feed(3))
		c := &goldenCase{backend: Lookup("cycls"), body: data, stream: true}
		if !c.sameText(t, Lookup("cycls"), true, pieces, whole) {
			t.Fatalf("pieces make a difference:\n%s\nand\n%s", whole, pieces)
		}
	})
}

// cyclsCheck runs a decoder, and behind it the face as a stream and as JSON,
// and returns the stream.
func cyclsCheck(t *testing.T, run func(s *Setup, dec Decoder, out Sink)) []byte {
	t.Helper()
	s := cyclsSetup()
	p := Lookup("cycls")
	enc := &cyclsEncodeSink{enc: p.NewEncoder(s)}
	fold := NewFold()
	streamed, folded := stages(s, p, enc), stages(s, p, fold)
	check := &Checker{Next: cyclsTee{streamed, folded, cyclsUTF8{t}}}
	run(s, p.NewDecoder(s), check)
	if check.Err() != nil || !check.Ended() {
		t.Fatalf("order of events: %v, ended %v", check.Err(), check.Ended())
	}
	if !bytes.HasSuffix(enc.out, []byte(cyclsDone)) {
		t.Fatalf("no end: %s", enc.out)
	}
	for line := range bytes.SplitSeq(bytes.TrimSuffix(enc.out, []byte(cyclsDone)), []byte("\n")) {
		data, ok := bytes.CutPrefix(line, []byte("data: "))
		if len(line) > 0 && string(line) != ": ping" && (!ok || !jsonx.Valid(data)) {
			t.Fatalf("not a frame: %q", line)
		}
	}
	if fold.Err == nil {
		if got := p.AppendAnswer(nil, s, fold); !jsonx.Valid(got) {
			t.Fatalf("not JSON: %s", got)
		}
	}
	return enc.out
}

type cyclsTee []Sink

func (s cyclsTee) Event(e *Event) {
	for _, next := range s {
		next.Event(e)
	}
}

type cyclsUTF8 struct{ t *testing.T }

func (s cyclsUTF8) Event(e *Event) {
	if !utf8.Valid(e.Data) {
		s.t.Fatalf("delta is not UTF-8: %q", e.Data)
	}
}
