package translate

import (
	"fmt"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/dragoman-proxy/dragoman/internal/jsonx"
	"github.com/dragoman-proxy/dragoman/internal/sse"
)

// hostileAnswers are what a backend may send in the place of JSON.
var hostileAnswers = []struct{ name, doc string }{
	{"arrays without end", strings.Repeat("[", 1<<20)},
	{"objects without end", strings.Repeat(`{"a":`, 1<<20/5)},
	{"arrays and objects without end", strings.Repeat(`[{"a":`, 1<<20/6)},
	{"deep, but closed", `{"x":` + strings.Repeat("[", 200) + strings.Repeat("]", 200) + `}`},
	{"deep in what an answer has", `{"choices":[{"index":0,"delta":{"content":` + strings.Repeat("[", 200) + strings.Repeat("]", 200) + `}}],"type":"text","text":1,"content":` + strings.Repeat("[", 200) + strings.Repeat("]", 200) + `}`},
	{"cut", `{"type":"text","content":"one","choices":[{"index":0,`},
	{"with something behind it", `{"type":"text","content":"one"} {}`},
	{"infinite", `{"type":"text","text":Infinite,"content":Infinite}`},
	{"no JSON at all", `<html><body>Bad Gateway</body></html>`},
	{"a control character", "{\"type\":\"text\",\"text\":\"a\x01b\",\"content\":\"a\x01b\"}"},
	{"a trailing comma", `{"type":"text","text":"a","content":"a",}`},
}

// TestHostileAnswersAreFailures has every backend send them, in a stream behind a
// good beginning and as a body, to every kind of client: the client is told of a
// failure and of nothing else, and little memory is taken.
func TestHostileAnswersAreFailures(t *testing.T) { //nolint:paralleltest // it counts what the process allocates
	for _, back := range registry {
		for _, face := range registry {
			for _, h := range hostileAnswers {
				for mode := range 4 {
					wantStream, gotStream := mode&1 != 0, mode&2 != 0
					name := fmt.Sprintf("%s to %s, %s, stream %v to %v", back.Name, face.Name, h.name, gotStream, wantStream)
					in := fullRequests[face.Name][0]
					in.Body = []byte(plainRequests[face.Name])
					r, e := face.DecodeRequest(&in)
					if e != nil {
						t.Fatal(name, e)
					}
					a := NewAnswer(&Setup{Request: r, Agent: coverageAgent, Seed: strings.Repeat("0", 32), Now: fixedNow, Ledger: &Ledger{}, Created: 1}, back, wantStream, gotStream)
					var out []byte
					used := allocates(func() {
						if !gotStream {
							out = a.Body(nil, []byte(h.doc))
							return
						}
						stream := append([]byte(beginnings[back.Name]), eventOf(back, h.doc)...)
						for len(stream) > 0 {
							n := min(len(stream), 16<<10)
							out = a.Feed(out, stream[:n])
							stream = stream[n:]
						}
						out = a.End(out, nil)
					})
					if err := a.Err(); err == nil || err.Status != 502 || !err.NoRetry {
						t.Errorf("%s: %v\n%.300s", name, err, out)
						continue
					}
					if wantStream && gotStream {
						if err := tellsFailure(face, out); err != nil {
							t.Errorf("%s: %v\n%.600s", name, err, out)
						}
					}
					// A frame is kept until it is whole; its buffer grows in steps.
					if limit := uint64(7*len(h.doc) + 1<<20); used > limit {
						t.Errorf("%s: %d KiB for %d", name, used>>10, len(h.doc)>>10)
					}
				}
			}
		}
	}
}

// plainRequests are the simplest of each face.
var plainRequests = map[string]string{
	"chat": `{"model":"m","messages":[{"role":"user","content":"a"}]}`, "responses": `{"model":"m","input":"a"}`, "cognipeer": `{"model":"m","input":"a"}`,
	"ticos": `{"input":"a"}`, "swarms": `{"agent_config":{"agent_name":"m"},"task":"a"}`, "cycls": `{"messages":[{"role":"user","content":"a"}]}`,
}

// beginnings are the good beginnings of streams.
var beginnings = map[string]string{
	"chat": chatOne, "ticos": chatOne,
	"responses": "data: {\"type\":\"response.created\",\"response\":{\"id\":\"resp_1\"}}\n\n", "cognipeer": "data: {\"type\":\"response.created\",\"response\":{\"id\":\"resp_1\"}}\n\n",
	"swarms": "event: chunk\ndata: {\"content\":\"one\"}\n\n", "cycls": "data: {\"type\": \"text\", \"text\": \"one\"}\n\n",
}

// eventOf puts a document into an event that the protocol's text comes in.
func eventOf(p *Protocol, doc string) []byte {
	if p.Name == "swarms" {
		return []byte("event: chunk\ndata: " + doc + "\n\n")
	}
	return []byte("data: " + doc + "\n\n")
}

// tellsFailure is what keeps a stream from being a failure for the face's clients.
func tellsFailure(face *Protocol, stream []byte) error {
	if !utf8.Valid(stream) {
		return fmt.Errorf("it is not UTF-8")
	}
	r := &Request{Face: face}
	dec := face.NewDecoder(&Setup{Request: r, Agent: coverageAgent, Seed: strings.Repeat("0", 32), Now: fixedNow, Ledger: &Ledger{}})
	var failed, finished bool
	sink := sinkFunc(func(e *Event) {
		failed = failed || e.Kind == EventFail
		finished = finished || e.Kind == EventFinish
	})
	var reader sse.Reader
	reader.Feed(stream)
	for f, ok := reader.Next(); ok; f, ok = reader.Next() {
		if d := f.Data; len(d) > 0 && string(d) != "[DONE]" && !jsonx.Valid(d) {
			return fmt.Errorf("what cannot be read goes through: %.80q", d)
		}
		dec.Frame(&f, sink)
	}
	dec.End(nil, sink)
	if finished || !failed {
		return fmt.Errorf("finished %v, failed %v", finished, failed)
	}
	return nil
}

func fixedNow() time.Time { return time.Unix(1, 0) }

// TestAnswersHaveBoundedMemory sends what never ends and is short at every step:
// what has to be remembered of it is counted, so that it ends in a failure.
func TestAnswersHaveBoundedMemory(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		back, event string
		most        int
	}{
		{"cycls", `data: {"type": "code", "code": "x"}` + "\n\n" + `data: {"type": "text", "text": "y"}` + "\n\n", MaxAnswer / foldCost / 2},
		{"responses", `data: {"type":"response.output_item.added","output_index":%d,"item":{"type":"message","id":"m%[1]d"}}` + "\n\n", maxOutputItems},
		{"swarms", "event: tool_calls\n" + `data: {"tool_calls":[{"id":"c%d","type":"function","function":{"name":"f","arguments":"{}"}}]}` + "\n\n", maxOutputItems},
	} {
		r, e := Lookup("chat").DecodeRequest(&Inbound{Body: []byte(plainRequests["chat"])})
		if e != nil {
			t.Fatal(e)
		}
		a := NewAnswer(&Setup{Request: r, Agent: coverageAgent, Seed: strings.Repeat("0", 32), Now: fixedNow, Ledger: &Ledger{}}, Lookup(c.back), false, true)
		n := 0
		for ; n <= c.most+1 && a.Err() == nil; n++ {
			event := c.event
			if strings.Contains(event, "%") {
				event = fmt.Sprintf(event, n)
			}
			a.Feed(nil, []byte(event))
		}
		if e := a.Err(); e == nil || e.Status != 502 {
			t.Errorf("%s: %d events are taken: %v", c.back, n, e)
		}
	}
}
