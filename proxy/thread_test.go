package proxy

import (
	"fmt"
	"strings"
	"testing"

	"github.com/tidwall/gjson"

	"github.com/dragoman-proxy/dragoman/translate"
)

// telling is an agent of a protocol that answers what it was told, n words after another: "answer 1",
// "answer 2".
func telling(t *testing.T, protocol string) *stagedAgent {
	n := 0
	return stage(t, func(v *visit) {
		n++
		v.tell(protocol, fmt.Sprintf("answer %d", n))
	})
}

// tell answers in a protocol's own words, as it was asked to.
func (v *visit) tell(protocol, text string) {
	stream := gjson.GetBytes(v.body, "stream").Bool()
	frames := func(all ...string) {
		v.open()
		for _, f := range all {
			v.chunk(f + "\n\n")
		}
		v.end()
	}
	switch protocol {
	case "chat":
		if stream {
			frames(`data: {"id":"c","object":"chat.completion.chunk","created":1,"model":"m","choices":[{"index":0,"delta":{"role":"assistant","content":"`+text+`"},"finish_reason":null}]}`,
				`data: {"id":"c","object":"chat.completion.chunk","created":1,"model":"m","choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}`, "data: [DONE]")
			return
		}
		v.json(200, `{"id":"c","object":"chat.completion","created":1,"model":"m","choices":[{"index":0,"message":{"role":"assistant","content":"`+text+`"},"finish_reason":"stop"}]}`)
	case "responses":
		item := `{"id":"msg_` + strings.ReplaceAll(text, " ", "") + `","type":"message","role":"assistant","status":"completed","content":[{"type":"output_text","text":"` + text + `","annotations":[]}]}`
		object := func(status, output string) string {
			return `{"id":"resp_backend","object":"response","created_at":1,"status":"` + status + `","model":"m","previous_response_id":null,"store":false,"output":[` + output + `]}`
		}
		if stream {
			frames("event: response.created\ndata: "+`{"type":"response.created","sequence_number":0,"response":`+object("in_progress", "")+`}`,
				"event: response.output_item.done\ndata: "+`{"type":"response.output_item.done","sequence_number":1,"output_index":0,"item":`+item+`}`,
				"event: response.completed\ndata: "+`{"type":"response.completed","sequence_number":2,"response":`+object("completed", item)+`}`)
			return
		}
		v.json(200, object("completed", item))
	case "cognipeer":
		v.json(200, `{"id":"resp_c1","object":"response","model":"A","output":[{"id":"msg_1","type":"message","role":"assistant","content":[{"type":"output_text","text":"`+text+`"}]}],"status":"completed","usage":{"input_tokens":0,"output_tokens":0,"total_tokens":0},"created_at":1,"previous_response_id":null,"version":1}`)
	case "ticos":
		v.json(200, `{"id":"t","object":"chat.completion","created":1,"model":"m","choices":[{"index":0,"message":{"role":"assistant","content":"`+text+`"},"finish_reason":"stop"}]}`)
	case "swarms":
		v.json(200, `{"job_id":"j","success":true,"name":"it","outputs":[{"role":"it","content":"`+text+`"}],"usage":{"input_tokens":1,"output_tokens":1,"total_tokens":2},"timestamp":"2026-01-01T00:00:00+00:00"}`)
	case "cycls":
		frames(`data: {"type": "text", "text": "`+text+`"}`, "data: [DONE]")
	default:
		panic(protocol)
	}
}

// responseOf is the response of an answer of the Responses face, a stream's last one.
func (r reply) response() gjson.Result {
	if !strings.HasPrefix(r.header.Get("Content-Type"), "text/event-stream") {
		return gjson.Parse(r.body)
	}
	var last gjson.Result
	for line := range strings.SplitSeq(r.body, "\n") {
		if data, ok := strings.CutPrefix(line, "data: "); ok && gjson.Get(data, "response").Exists() {
			last = gjson.Get(data, "response")
		}
	}
	return last
}

// TestTenTurns chains ten turns without a pause, streaming and not by turns, over every backend: each agent hears
// all that was said before, in order, and nothing is stored at a backend.
func TestTenTurns(t *testing.T) {
	t.Parallel()
	for _, p := range translate.Protocols() {
		t.Run(p.Name, func(t *testing.T) {
			t.Parallel()
			b := telling(t, p.Name)
			r := start(t, "state: {store: memory}\n"+agentYAML(p.Name, b.addr))
			previous := ""
			for turn := 1; turn <= 10; turn++ {
				body := fmt.Sprintf(`{"model":"it","input":"question %d","stream":%v`, turn, turn%2 == 0)
				if previous != "" {
					body += `,"previous_response_id":"` + previous + `"`
				}
				got := r.post("/v1/responses", body+"}", "")
				resp := got.response()
				id := resp.Get("id").String()
				if got.status != 200 || !strings.HasPrefix(id, "resp_") || len(id) != 53 || id == previous || !resp.Get("store").Bool() ||
					resp.Get("previous_response_id").String() != previous || !strings.Contains(resp.Get("output").Raw, fmt.Sprintf("answer %d", turn)) {
					t.Fatalf("turn %d: %d %s", turn, got.status, got.body)
				}
				previous = id
				asked := string((<-b.seen).body)
				if p.Name == "swarms" { // says the newest first
					a, z, _ := strings.Cut(asked, `"history"`)
					asked = z + a
				}
				at := 0
				for i := 1; i <= turn; i++ {
					for _, want := range []string{fmt.Sprintf("question %d", i), fmt.Sprintf("answer %d", i)} {
						if i == turn && strings.HasPrefix(want, "answer") {
							break
						}
						n := strings.Index(asked[at:], want)
						if n < 0 {
							t.Fatalf("turn %d: the agent was not told %q in its place: %s", turn, want, asked)
						}
						at += n + len(want)
					}
				}
				if p.Name == "responses" && gjson.Get(asked, "store").String() != "false" || strings.Contains(asked, "resp_") {
					t.Errorf("the backend heard of our state: %s", asked)
				}
			}
		})
	}
}
