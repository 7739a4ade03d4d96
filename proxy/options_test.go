package proxy

import (
	"strings"
	"testing"

	"github.com/tidwall/gjson"

	"github.com/dragoman-proxy/dragoman/translate"
)

// TestOptionsWork sets each option of each protocol in a configuration and looks
// for what it changes: in what the agent gets, or in what its client is told. An
// option without a line here is a failure.
func TestOptionsWork(t *testing.T) {
	t.Parallel()
	const (
		chat      = "/v1/chat/completions"
		responses = "/v1/responses"
		hello     = `{"model":"it","messages":[{"role":"user","content":"hello"}]}`
		told      = `{"model":"it","messages":[{"role":"user","content":"a"},{"role":"assistant","content":"b"},{"role":"user","content":"c"}]}`
		thought   = `{"model":"it","input":[{"role":"user","content":"a"},{"type":"reasoning","id":"rs_1","summary":[],"content":[{"type":"reasoning_text","text":"hm"}]},{"role":"assistant","content":"b"},{"role":"user","content":"c"}]}`
		brief     = `{"model":"it","instructions":"s","input":[{"role":"developer","content":"d"},{"role":"user","content":"hello"}],"max_output_tokens":99}`
		branching = `{"model":"it","input":"hello","previous_response_id":"FIRST"}`
		streamed  = `{"model":"it","input":"hello","stream":true}`
		doneAlone = `data: {"id":"c","object":"chat.completion.chunk","created":1,"model":"m","choices":[{"index":0,"delta":{"role":"assistant","content":"one two"},"finish_reason":null}]}` + "\n\ndata: [DONE]\n\n"
		picture   = `data: {"type": "image", "src": "/public/a.png", "alt": "A"}` + "\n\ndata: [DONE]\n\n"
	)
	type line struct {
		option, value string // a value of "" leaves it out
		path, body    string // FIRST stands for the first of two answers that were chained before
		stream        string // what the agent streams, if not the usual
		asked         string // a path of the agent's request
		want          string // and what stands there; "" if nothing does
		status        int    // 200 if 0
		says          string // a part of the client's answer
		never         string // and what must be no part of it
		dropped       string // named in Dragoman-Dropped
	}
	lines := map[string][]line{
		"chat": {
			{option: "openai", path: responses, body: brief, asked: "messages.1.role", want: "system"},
			{option: "openai", value: "true", path: responses, body: brief, asked: "messages.1.role", want: "developer"},
			{option: "openai", path: responses, body: brief, asked: "max_tokens", want: "99"},
			{option: "openai", value: "true", path: responses, body: brief, asked: "max_completion_tokens", want: "99"},
			{option: "openai", value: "true", path: responses, body: brief, asked: "max_tokens"},
			{option: "reasoning_history", path: responses, body: thought, asked: "messages.1.reasoning_content", dropped: "input[1].content[0]"},
			{option: "reasoning_history", value: "true", path: responses, body: thought, asked: "messages.1.reasoning_content", want: "hm"},
			{option: "request_usage", path: responses, body: streamed, asked: "stream_options.include_usage", want: "true"},
			{option: "request_usage", value: "true", path: responses, body: streamed, asked: "stream_options.include_usage", want: "true"},
			{option: "request_usage", value: "false", path: responses, body: streamed, asked: "stream_options"},
			{option: "strict_finish", path: responses, body: streamed, stream: doneAlone, says: "event: response.completed", never: "response.failed"},
			{option: "strict_finish", value: "true", path: responses, body: streamed, stream: doneAlone, says: "event: response.failed", never: "response.completed"},
		},
		"responses": {
			{option: "state", path: responses, body: brief, asked: "store", want: "false"},
			{option: "state", value: "proxy", path: responses, body: brief, asked: "store", want: "false"},
			{option: "state", value: "backend", path: responses, body: brief, asked: "store"},
		},
		"cognipeer": {
			{option: "history", path: chat, body: told, asked: "input", want: "User: a\n\nAssistant: b\n\nUser: c"},
			{option: "history", value: "refuse", path: chat, body: told, status: 400, says: "messages[0]"},
			{option: "history", value: "refuse", path: chat, body: hello, asked: "input", want: "hello"},
			{option: "branch", path: responses, body: branching, asked: "input", want: "User: one\n\nAssistant: ANSWER\n\nUser: hello"},
			{option: "branch", value: "replay", path: responses, body: branching, asked: "input", want: "User: one\n\nAssistant: ANSWER\n\nUser: hello"},
			{option: "branch", value: "refuse", path: responses, body: branching, status: 400, says: "previous_response_not_latest"},
			{option: "version", path: chat, body: hello, asked: "version"},
			{option: "version", value: "3", path: chat, body: hello, asked: "version", want: "3"},
		},
		"ticos": {
			{option: "history", path: chat, body: told, asked: "input", want: "User: a\n\nAssistant: b\n\nUser: c"},
			{option: "history", value: "refuse", path: chat, body: told, status: 400, says: "messages[0]"},
			{option: "history", value: "refuse", path: chat, body: hello, asked: "input", want: "hello"},
		},
		"swarms": {
			{option: "max_loops", path: chat, body: hello, asked: "agent_config.max_loops"},
			{option: "max_loops", value: "auto", path: chat, body: hello, asked: "agent_config.max_loops", want: "auto"},
			{option: "max_loops", value: "3", path: chat, body: hello, asked: "agent_config.max_loops", want: "3"},
		},
		"cycls": {
			{option: "history", path: chat, body: hello, asked: "messages.0.content", want: "hello"},
			{option: "history", value: "id", path: chat, body: hello, asked: "messages.0.content", want: "hello"},
			{option: "era", value: "text", path: chat, body: hello, stream: "data: 1\n\nis what I say", says: `"data: 1\n\nis what I say"`},
			{option: "era", value: "typed", path: chat, body: hello, stream: "I say", status: 502},
			{option: "public_url", path: chat, body: hello, stream: picture, says: `![A](/public/a.png)`, dropped: "image.src"},
			{option: "public_url", value: "https://files.test/x/", path: chat, body: hello, stream: picture, says: `![A](https://files.test/x/public/a.png)`},
		},
	}
	for _, p := range translate.Protocols() {
		for _, o := range p.Options {
			tried := false
			for _, l := range lines[p.Name] {
				tried = tried || l.option == o.Name && l.value != ""
			}
			if !tried {
				t.Errorf("%s: nothing here tries the option %s", p.Name, o.Name)
			}
		}
	}
	for _, b := range backendScripts {
		for _, l := range lines[b.name] {
			t.Run(b.name+" "+l.option+"="+l.value, func(t *testing.T) {
				t.Parallel()
				back := stage(t, func(v *visit) {
					if l.stream == "" {
						v.answer(b)
						return
					}
					v.open()
					v.chunk(l.stream)
					v.end()
				})
				var more []string
				if l.value != "" {
					more = append(more, "options: {"+l.option+": \""+l.value+"\"}")
				}
				yaml := agentYAML(b.name, back.addr, more...)
				chained := strings.Contains(l.body, "FIRST")
				if chained {
					yaml = "state: {store: memory}\n" + yaml
				}
				r := start(t, yaml)
				if chained {
					one := r.respond(`"input":"one"`)
					two := r.respond(`"input":"two","previous_response_id":"` + one.Get("id").String() + `"`)
					if two.Get("status").String() != "completed" {
						t.Fatalf("got %s", two)
					}
					<-back.seen
					<-back.seen
					l.body = strings.Replace(l.body, "FIRST", one.Get("id").String(), 1)
					l.want = strings.Replace(l.want, "ANSWER", one.Get("output.#(type==\"message\").content.0.text").String(), 1)
				}
				got := r.post(l.path, l.body, "")
				if l.status == 0 {
					l.status = 200
				}
				if got.status != l.status || !strings.Contains(got.body, l.says) || l.never != "" && strings.Contains(got.body, l.never) {
					t.Errorf("%d %s, want %d with %q, without %q", got.status, got.body, l.status, l.says, l.never)
				}
				if d := got.header.Get("Dragoman-Dropped"); !strings.Contains(d, l.dropped) || l.dropped == "" && d != "" && l.stream == "" {
					t.Errorf("dropped %q, want %q", d, l.dropped)
				}
				if l.status == 400 {
					if n := len(back.seen); n > 0 {
						t.Errorf("the agent got %d requests", n)
					}
					return
				}
				v := <-back.seen
				if at := gjson.GetBytes(v.body, l.asked); l.asked != "" && at.String() != l.want {
					t.Errorf("the agent got %s %q, want %q, in %s", l.asked, at.String(), l.want, v.body)
				}
			})
		}
	}
}
