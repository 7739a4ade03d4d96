package translate

import (
	"strconv"
	"strings"
	"testing"
	"time"
)

// TestSteadyStateAllocatesNothing feeds text to every face from every backend
// that streams, through all stages. What a protocol obliges us to keep grows by
// doubling, which is next to nothing for an event.
func TestSteadyStateAllocatesNothing(t *testing.T) {
	// Not parallel: AllocsPerRun counts for the whole process.
	seq := 4
	backends := map[string]struct {
		open string
		more func() string
	}{
		"chat": {
			`data: {"id":"c","object":"chat.completion.chunk","created":1,"model":"m","choices":[{"index":0,"delta":{"role":"assistant","content":""},"finish_reason":null}]}` + "\n\n",
			func() string {
				return `data: {"id":"c","object":"chat.completion.chunk","created":1,"model":"m","choices":[{"index":0,"delta":{"content":" w\u00f6rd\n"},"finish_reason":null}]}` + "\n\n"
			},
		},
		"responses": {
			`event: response.created` + "\n" + `data: {"type":"response.created","sequence_number":0,"response":{"id":"r","object":"response","created_at":1,"status":"in_progress","model":"m","output":[]}}` + "\n\n" +
				`event: response.output_item.added` + "\n" + `data: {"type":"response.output_item.added","sequence_number":1,"output_index":0,"item":{"type":"message","id":"m","role":"assistant","status":"in_progress","content":[]}}` + "\n\n" +
				`event: response.content_part.added` + "\n" + `data: {"type":"response.content_part.added","sequence_number":2,"item_id":"m","output_index":0,"content_index":0,"part":{"type":"output_text","text":"","annotations":[],"logprobs":[]}}` + "\n\n",
			func() string {
				seq++
				return `event: response.output_text.delta` + "\n" + `data: {"type":"response.output_text.delta","sequence_number":` + strconv.Itoa(seq) + `,"item_id":"m","output_index":0,"content_index":0,"delta":" w\u00f6rd\n","logprobs":[]}` + "\n\n"
			},
		},
		"swarms": {
			`data: {"job_id": "j", "success": true, "name": "W", "stream": true, "type": "metadata"}` + "\n\n",
			func() string {
				return `event: chunk` + "\n" + `data: {"content": " w\u00f6rd\n", "timestamp": "2026-02-05T00:58:15.200000+00:00"}` + "\n\n"
			},
		},
		"cycls": {
			`data: {"type": "chat_id", "chat_id": "c"}` + "\n\n",
			func() string { return `data: {"type": "text", "text": " w\u00f6rd\n"}` + "\n\n" },
		},
		"cycls array": {
			`data: ["+", "text", {"content": "x"}]` + "\n\n",
			func() string { return `data: ["~", {"content": " w\u00f6rd\n"}]` + "\n\n" },
		},
		"cycls chat": {
			`data: {"choices": [{"delta": {"content": "x"}}]}` + "\n\n",
			func() string { return `data: {"choices": [{"delta": {"content": " w\u00f6rd\n"}}]}` + "\n\n" },
		},
		"cycls chat objects": {
			`data: {"choices": [{"delta": {"content": {"type": "text", "text": "x"}}}]}` + "\n\n",
			func() string {
				return `data: {"choices": [{"delta": {"content": {"type": "text", "text": " w\u00f6rd\n"}}}]}` + "\n\n"
			},
		},
		"cycls text": {
			"Once upon a time",
			func() string { return " wörd \xc3" },
		},
	}
	const n = 2000
	for name, b := range backends {
		frames := make([][]byte, n+200)
		for i := range frames {
			frames[i] = []byte(b.more())
		}
		for _, face := range Protocols() {
			s := &Setup{
				Request: &Request{Face: face, Stream: true, Model: "m"}, Agent: &Agent{Name: "it"},
				Seed: strings.Repeat("0", 32), Now: time.Now, Ledger: &Ledger{},
			}
			backend, _, _ := strings.Cut(name, " ")
			a := NewAnswer(s, Lookup(backend), true, true)
			a.Gather()
			out := a.Feed(make([]byte, 0, 64<<10), []byte(b.open))
			i := 0
			step := func() {
				out = a.Feed(out[:0], frames[i])
				i++
			}
			for range 100 {
				step()
			}
			// One more than n: AllocsPerRun runs the function once before it counts.
			if got := testing.AllocsPerRun(n, step); got != 0 {
				t.Errorf("%s ← %s: %v allocations an event", face.Name, name, got)
			}
			if a.Err() != nil || len(out) == 0 {
				t.Errorf("%s ← %s: nothing came out: %v", face.Name, name, a.Err())
			}
		}
	}
}
