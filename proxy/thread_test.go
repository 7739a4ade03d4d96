package proxy

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/tidwall/gjson"

	"github.com/dragoman-proxy/dragoman/internal/state"
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

// TestDemoAgentsAreTold asks the embedded agents what was said to another one of them.
func TestDemoAgentsAreTold(t *testing.T) {
	t.Parallel()
	yaml := "state: {store: memory}\nagents:\n"
	for _, name := range translate.Names() {
		yaml += "  - {name: " + name + ", protocol: " + name + ", url: \"demo:" + name + "\", model: m}\n"
	}
	r := start(t, yaml)
	id := r.post("/v1/responses", `{"model":"cycls","input":[{"role":"user","content":"My name is Ann."},
		{"type":"function_call","call_id":"c","name":"f","arguments":"{}"},{"type":"function_call_output","call_id":"c","output":"rain"}]}`, "").response().Get("id").String()
	for _, name := range translate.Names() {
		got := r.post("/v1/responses", `{"model":"`+name+`","input":"What did I say?","previous_response_id":"`+id+`"}`, "")
		said := got.response().Get("output.#(type=message).content.0.text").String()
		if !strings.HasPrefix(said, "You said: “") || !strings.Contains(said, "My name is Ann.") || !strings.Contains(said, "rain") {
			t.Errorf("%s: %d %s", name, got.status, got.body)
		}
		if folded := name == "cognipeer" || name == "ticos"; folded == strings.HasPrefix(said, "You said: “My name is Ann.”, “") {
			t.Errorf("%s was told otherwise: %s", name, said)
		}
	}
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
				at, from := 0, 1
				if p.Name == "cognipeer" { // goes on in a conversation of its own
					from = turn
					if got := gjson.Get(asked, "previous_response_id").String(); turn > 1 && got != "resp_c1" {
						t.Fatalf("turn %d: %s", turn, asked)
					}
				}
				for i := from; i <= turn; i++ {
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
				if p.Name == "responses" && gjson.Get(asked, "store").String() != "false" || strings.Contains(asked, "resp_") && p.Name != "cognipeer" || strings.Contains(asked, id) {
					t.Errorf("the backend heard of our state: %s", asked)
				}
			}
		})
	}
}

// asked is what the agent was asked last.
func (b *stagedAgent) asked() string { return string((<-b.seen).body) }

// respond asks the Responses face and returns the response, which must be a good one.
func (r *running) respond(members string, headers ...string) gjson.Result {
	r.t.Helper()
	got := r.post("/v1/responses", `{"model":"it",`+members+`}`, strings.Join(headers, ""))
	if got.status != 200 {
		r.t.Fatalf("%s: %d %s", members, got.status, got.body)
	}
	resp := got.response()
	if s := resp.Get("status").String(); s != "completed" {
		r.t.Fatalf("%s: %s", members, got.body)
	}
	return resp
}

// refuses asks the Responses face for what must be refused.
func (r *running) refuses(members string, status int, code string, headers ...string) string {
	r.t.Helper()
	got := r.post("/v1/responses", `{"model":"it",`+members+`}`, strings.Join(headers, ""))
	if got.status != status || gjson.Get(got.body, "error.code").String() != code {
		r.t.Errorf("%s: got %d %s, want %d %s", members, got.status, got.body, status, code)
	}
	return got.body
}

// keeping is a configuration that keeps conversations, in front of an agent.
func keepingYAML(protocol, addr string, more ...string) string {
	return "state: {store: memory}\n" + agentYAML(protocol, addr, more...)
}

// order reports whether all of the words stand in s, in their order.
func order(s string, words ...string) bool {
	for _, w := range words {
		i := strings.Index(s, w)
		if i < 0 {
			return false
		}
		s = s[i+len(w):]
	}
	return true
}

// TestEveryTurnBranches: any answer can be gone on from, again and again, and each branch knows its own past
// alone.
func TestEveryTurnBranches(t *testing.T) {
	t.Parallel()
	b := telling(t, "chat")
	r := start(t, keepingYAML("chat", b.addr))
	one := r.respond(`"input":"trunk"`).Get("id").String()
	b.asked()
	left := r.respond(`"input":"left","previous_response_id":"` + one + `"`).Get("id").String()
	b.asked()
	right := r.respond(`"input":"right","previous_response_id":"` + one + `"`).Get("id").String()
	if got := b.asked(); !order(got, "trunk", "answer 1", "right") || strings.Contains(got, "left") || strings.Contains(got, "answer 2") {
		t.Errorf("the right branch: %s", got)
	}
	r.respond(`"input":"leftmost","previous_response_id":"` + left + `"`)
	if got := b.asked(); !order(got, "trunk", "answer 1", "left", "answer 2", "leftmost") || strings.Contains(got, "right") {
		t.Errorf("the left branch: %s", got)
	}
	r.respond(`"input":"rightmost","previous_response_id":"` + right + `"`)
	if got := b.asked(); !order(got, "trunk", "answer 1", "right", "answer 3", "rightmost") || strings.Contains(got, "left") {
		t.Errorf("the right branch: %s", got)
	}
}

// TestInstructionsAreNotInherited, and everything else is.
func TestInstructionsAreNotInherited(t *testing.T) {
	t.Parallel()
	b := telling(t, "chat")
	r := start(t, keepingYAML("chat", b.addr))
	id := r.respond(`"input":[{"role":"developer","content":"stays"},{"role":"user","content":"hello"}],"instructions":"once only"`).Get("id").String()
	b.asked()
	r.respond(`"input":"again","instructions":"now so","previous_response_id":"` + id + `"`)
	if got := b.asked(); strings.Contains(got, "once only") || !order(got, "now so", "stays", "hello", "answer 1", "again") {
		t.Errorf("got %s", got)
	}
}

// TestCallsAreAnsweredByTheirOutputsAlone: a follow-up with nothing but the output of a call reaches every kind of agent
// with the call that it answers.
func TestCallsAreAnsweredByTheirOutputsAlone(t *testing.T) {
	t.Parallel()
	n := 0
	b := stage(t, func(v *visit) {
		if n++; n == 1 {
			v.json(200, `{"id":"c","object":"chat.completion","created":1,"model":"m","choices":[{"index":0,"message":{"role":"assistant","content":null,"tool_calls":[{"id":"call_7","type":"function","function":{"name":"weather","arguments":"{\"city\":\"Bonn\"}"}}]},"finish_reason":"tool_calls"}]}`)
			return
		}
		v.tell("chat", "it rains")
	})
	r := start(t, keepingYAML("chat", b.addr))
	first := r.respond(`"input":"Is it raining?","tools":[{"type":"function","name":"weather","parameters":{"type":"object"}}]`)
	b.asked()
	second := r.respond(`"input":[{"type":"function_call_output","call_id":"call_7","output":"yes"}],"previous_response_id":"` + first.Get("id").String() + `"`)
	got := b.asked()
	if gjson.Get(got, "messages.1.tool_calls.0.function.name").String() != "weather" || gjson.Get(got, "messages.2.tool_call_id").String() != "call_7" ||
		gjson.Get(got, "messages.2.content").String() != "yes" || gjson.Get(got, "messages.#").Int() != 3 {
		t.Errorf("got %s", got)
	}
	if second.Get("output.0.content.0.text").String() != "it rains" {
		t.Errorf("got %s", second)
	}
}

// TestItemsAreReferredTo by their ids, in an input of the client's own making: that is how the AI SDK goes on.
func TestItemsAreReferredTo(t *testing.T) {
	t.Parallel()
	for _, protocol := range []string{"chat", "responses"} {
		t.Run(protocol, func(t *testing.T) {
			t.Parallel()
			b := telling(t, protocol)
			r := start(t, keepingYAML(protocol, b.addr))
			item := r.respond(`"input":"first"`).Get("output.0.id").String()
			b.asked()
			for _, ref := range []string{`{"type":"item_reference","id":"` + item + `"}`, `{"id":"` + item + `"}`} {
				r.respond(`"input":[{"role":"user","content":"first"},` + ref + `,{"role":"user","content":"second"}]`)
				if got := b.asked(); !order(got, "first", "answer 1", "second") || strings.Contains(got, item) || strings.Contains(got, "item_reference") {
					t.Errorf("got %s", got)
				}
			}
			r.refuses(`"input":[{"type":"item_reference","id":"msg_none"}]`, 400, "item_not_found")
			r.refuses(`"input":[{"type":"item_reference","id":"`+item+`0"}]`, 400, "item_not_found")
		})
	}
}

// TestNothingIsKeptWithoutBeingAsked: store:false keeps nothing, state.store none refuses what refers to something.
func TestNothingIsKeptWithoutBeingAsked(t *testing.T) {
	t.Parallel()
	b := telling(t, "chat")
	r := start(t, keepingYAML("chat", b.addr))
	resp := r.respond(`"input":"hello","store":false`)
	if resp.Get("store").Bool() {
		t.Errorf("got %s", resp)
	}
	r.refuses(`"input":"again","previous_response_id":"`+resp.Get("id").String()+`"`, 400, "previous_response_not_found")
	if n := r.state.Stats().Bytes; n != 0 {
		t.Errorf("%d bytes are kept", n)
	}
	none := start(t, "state: {store: none}\n"+agentYAML("chat", b.addr))
	if resp := none.respond(`"input":"hello","store":true`); resp.Get("store").Bool() {
		t.Errorf("got %s", resp)
	}
	none.refuses(`"input":"again","previous_response_id":"resp_1"`, 400, "unsupported_parameter")
}

// TestFailedAnswersCannotBeContinued, nor those that were cut or that the client did not wait for.
func TestFailedAnswersCannotBeContinued(t *testing.T) {
	t.Parallel()
	b := stage(t, func(v *visit) {
		v.open()
		v.chunk(`data: {"id":"c","object":"chat.completion.chunk","created":1,"model":"m","choices":[{"index":0,"delta":{"role":"assistant","content":"half"},"finish_reason":null}]}` + "\n\n")
		v.hangs = true // it dies
	})
	r := start(t, keepingYAML("chat", b.addr))
	got := r.post("/v1/responses", `{"model":"it","input":"hello","stream":true}`, "")
	resp := got.response()
	if resp.Get("status").String() != "failed" || resp.Get("store").Bool() {
		t.Errorf("got %s", got.body)
	}
	r.refuses(`"input":"again","previous_response_id":"`+resp.Get("id").String()+`"`, 400, "previous_response_not_found")
	if n := r.state.Stats().Bytes; n != 0 {
		t.Errorf("%d bytes are kept", n)
	}
}

const twoOwners = `auth:
  mode: keys
  keys:
    - {name: ann, key: {value: "ann-0123456789abcdefghijklmnopqrs"}}
    - {name: bob, key: {value: "bob-0123456789abcdefghijklmnopqrs"}}
    - {name: ann, key: {value: "ann-rotated-9abcdefghijklmnopqrst"}}
`

const (
	asAnn  = "Authorization: Bearer ann-0123456789abcdefghijklmnopqrs\r\n"
	asBob  = "Authorization: Bearer bob-0123456789abcdefghijklmnopqrs\r\n"
	rotate = "x-api-key: ann-rotated-9abcdefghijklmnopqrst\r\n"
)

// TestConversationsHaveOwners: to go on from somebody else's answer is to go on from one that does not exist, to the byte;
// another key of the same name is the same owner.
func TestConversationsHaveOwners(t *testing.T) {
	t.Parallel()
	b := telling(t, "chat")
	r := start(t, twoOwners+keepingYAML("chat", b.addr))
	resp := r.respond(`"input":"secret"`, asAnn)
	id, item := resp.Get("id").String(), resp.Get("output.0.id").String()
	b.asked()
	missing := "resp_" + strings.Repeat("0", 48)
	foreign := r.refuses(`"input":"what was it?","previous_response_id":"`+id+`"`, 400, "previous_response_not_found", asBob)
	none := r.refuses(`"input":"what was it?","previous_response_id":"`+missing+`"`, 400, "previous_response_not_found", asBob)
	if strings.ReplaceAll(foreign, id, "ID") != strings.ReplaceAll(none, missing, "ID") {
		t.Errorf("a foreign id: %s\na missing one: %s", foreign, none)
	}
	foreign = r.refuses(`"input":[{"type":"item_reference","id":"`+item+`"}]`, 400, "item_not_found", asBob)
	missing = "msg_" + strings.Repeat("0", 48) + "00"
	none = r.refuses(`"input":[{"type":"item_reference","id":"`+missing+`"}]`, 400, "item_not_found", asBob)
	if strings.ReplaceAll(foreign, item, "ID") != strings.ReplaceAll(none, missing, "ID") {
		t.Errorf("a foreign item: %s\na missing one: %s", foreign, none)
	}
	select {
	case v := <-b.seen:
		t.Errorf("the agent heard of it: %s", v.body)
	default:
	}
	r.respond(`"input":"and now?","previous_response_id":"`+id+`"`, rotate)
	if got := b.asked(); !order(got, "secret", "answer 1", "and now?") {
		t.Errorf("got %s", got)
	}
}

// TestAnswersNameTheirAgent: a request that goes on without naming a model is for the agent that answered
// before, and one that names another for that one, which hears all of it but what only the first could read.
func TestAnswersNameTheirAgent(t *testing.T) {
	t.Parallel()
	thinker := stage(t, func(v *visit) {
		v.json(200, `{"id":"r","object":"response","created_at":1,"status":"completed","model":"m","output":[`+
			`{"id":"rs_1","type":"reasoning","summary":[],"encrypted_content":"SEALED"},`+
			`{"id":"rs_2","type":"reasoning","summary":[{"type":"summary_text","text":"BRIEFLY"}]},`+
			`{"id":"rs_3","type":"reasoning","summary":[],"content":[{"type":"reasoning_text","text":"ALOUD"}]},`+
			`{"id":"msg_1","type":"message","role":"assistant","status":"completed","content":[{"type":"output_text","text":"thought","annotations":[]}]}]}`)
	})
	other, third := telling(t, "responses"), telling(t, "chat")
	r := start(t, "state: {store: memory}\nagents:\n"+
		"  - {name: it, protocol: responses, url: \"http://"+thinker.addr+"\", model: m}\n"+
		"  - {name: other, protocol: responses, url: \"http://"+other.addr+"\", model: m}\n"+
		"  - {name: third, protocol: chat, url: \"http://"+third.addr+"\", model: m}\n")
	first := r.respond(`"input":"think"`)
	thinker.asked()
	if strings.Contains(first.Raw, "resp_r") || !first.Get("store").Bool() {
		t.Errorf("got %s", first)
	}
	id := first.Get("id").String()
	got := r.post("/v1/responses", `{"input":"on","previous_response_id":"`+id+`"}`, "")
	if got.status != 200 || got.header.Get("Dragoman-Agent") != "it" {
		t.Fatalf("%d %s %s", got.status, got.header, got.body)
	}
	if asked := thinker.asked(); !order(asked, "think", "SEALED", "ALOUD", "thought", "on") || strings.Contains(asked, "BRIEFLY") {
		t.Errorf("the same agent was not given back what is its own: %s", asked)
	}
	for name, b := range map[string]*stagedAgent{"other": other, "third": third} {
		got := r.post("/v1/responses", `{"model":"`+name+`","input":"on","previous_response_id":"`+id+`"}`, "")
		if got.status != 200 || got.header.Get("Dragoman-Agent") != name {
			t.Fatalf("%d %s %s", got.status, got.header, got.body)
		}
		if asked := b.asked(); !order(asked, "think", "thought", "on") || strings.Contains(asked, "SEALED") || strings.Contains(asked, "rs_1") || strings.Contains(asked, "ALOUD") || strings.Contains(asked, "BRIEFLY") {
			t.Errorf("%s was asked %s", name, asked)
		}
	}
	// A word that means no agent leaves it at the one that answered.
	if got := r.post("/v1/responses", `{"model":"gpt-unknown","input":"on","previous_response_id":"`+id+`"}`, ""); got.header.Get("Dragoman-Agent") != "it" {
		t.Errorf("%d %s", got.status, got.body)
	}
}

// TestTwoProxiesShareAStore: ten turns without a pause, streaming and not, at one proxy and the other by turns.
func TestTwoProxiesShareAStore(t *testing.T) {
	t.Parallel()
	b := telling(t, "chat")
	one := start(t, keepingYAML("chat", b.addr))
	two := start(t, keepingYAML("chat", b.addr), func(s *Server) { s.state = unclosed{one.state} })
	previous := ""
	for turn := 1; turn <= 10; turn++ {
		r := []*running{one, two}[turn%2]
		members := fmt.Sprintf(`"input":"question %d","stream":%v`, turn, turn%3 == 0)
		if previous != "" {
			members += `,"previous_response_id":"` + previous + `"`
		}
		previous = r.respond(members).Get("id").String()
		asked := b.asked()
		if n := gjson.Get(asked, "messages.#").Int(); n != int64(2*turn-1) || turn > 1 && !order(asked, "question 1", fmt.Sprintf("answer %d", turn-1), fmt.Sprintf("question %d", turn)) {
			t.Fatalf("turn %d: %s", turn, asked)
		}
	}
}

// unclosed is a store that is somebody else's to close.
type unclosed struct{ state.Store }

func (unclosed) Close() error { return nil }

// TestWhatDoesNotFitIsNotKept: the answer is complete and says store:false.
func TestWhatDoesNotFitIsNotKept(t *testing.T) {
	t.Parallel()
	b := telling(t, "chat")
	r := start(t, "state: {store: memory, max_conversation: 16KiB}\n"+agentYAML("chat", b.addr))
	for _, stream := range []string{"true", "false"} {
		resp := r.respond(`"input":"` + strings.Repeat("x", 20_000) + `","stream":` + stream)
		if resp.Get("store").Bool() || !strings.Contains(resp.Raw, "answer") {
			t.Errorf("stream %s: %.300s", stream, resp)
		}
		r.refuses(`"input":"on","previous_response_id":"`+resp.Get("id").String()+`"`, 400, "previous_response_not_found")
	}
	if n := r.logs.FilterMessage("an answer was not kept").Len(); n != 2 {
		t.Errorf("%d lines in the log", n)
	}
}

// failing is a store that fails.
type failing struct{ state.Store }

func (failing) Save(context.Context, string, state.Change) error {
	return errors.New("the disk is full")
}
func (failing) Read(context.Context, string, state.Read) (state.Found, error) {
	return state.Found{}, errors.New("the disk is gone")
}
func (failing) Ping(context.Context) error { return errors.New("the disk is gone") }

// TestAStoreThatFails costs no answer, and no context in silence.
func TestAStoreThatFails(t *testing.T) {
	t.Parallel()
	b := telling(t, "chat")
	r := start(t, keepingYAML("chat", b.addr), func(s *Server) { s.state = failing{s.state} })
	if resp := r.respond(`"input":"hello","stream":true`); resp.Get("store").Bool() || !strings.Contains(resp.Raw, "answer 1") {
		t.Errorf("got %s", resp)
	}
	r.refuses(`"input":"on","previous_response_id":"resp_`+strings.Repeat("0", 48)+`"`, 503, "state_unavailable")
	op := r.operator()
	if status, text := op.get("/readyz"); status != 200 || !strings.Contains(text, "conversations cannot be kept now: the disk is gone") { // told, and nobody is sent away
		t.Errorf("%d %s", status, text)
	}
	if _, text := start(t, keepingYAML("chat", b.addr)).operator().get("/readyz"); !strings.Contains(text, "conversations are kept") {
		t.Errorf("%s", text)
	}
	if _, m := op.get("/metrics"); !strings.Contains(m, `dragoman_state_failures_total{why="failed"} 1`) || !strings.Contains(m, `dragoman_state_failures_total{why="read"} 1`) {
		t.Errorf("metrics: %s", m)
	}
}

// TestTruncation: beyond what an agent takes, auto leaves the oldest turns out, never a result without its call, and
// anything else is refused.
func TestTruncation(t *testing.T) {
	t.Parallel()
	b := telling(t, "chat")
	r := start(t, keepingYAML("chat", b.addr, "max_input_tokens: 1000"))
	previous := ""
	for i := range 5 {
		members := fmt.Sprintf(`"truncation":"auto","input":"turn %d %s"`, i, strings.Repeat("word ", 200))
		if previous != "" {
			members += `,"previous_response_id":"` + previous + `"`
		}
		resp := r.respond(members)
		previous = resp.Get("id").String()
		asked := b.asked()
		if i < 2 && !strings.Contains(asked, "turn 0") || i == 4 && (strings.Contains(asked, "turn 0") || !order(asked, "turn 3", "turn 4")) {
			t.Errorf("turn %d: the agent was asked %.200s…", i, asked)
		}
		if n := len(asked); n > 5000 {
			t.Errorf("%d bytes", n)
		}
	}
	r.refuses(`"input":"on","previous_response_id":"`+previous+`"`, 400, "context_length_exceeded")
	r.refuses(`"input":"on","truncation":"disabled","previous_response_id":"`+previous+`"`, 400, "context_length_exceeded")
	r.refuses(`"input":"`+strings.Repeat("word ", 2000)+`","truncation":"auto"`, 400, "context_length_exceeded")
}

// TestBackendsWithStateOfTheirOwn get ids that their callers had from them through us, and no others: all callers share one
// credential there.
func TestBackendsWithStateOfTheirOwn(t *testing.T) {
	t.Parallel()
	b := telling(t, "responses")
	r := start(t, twoOwners+keepingYAML("responses", b.addr, "options: {state: backend}"))
	for _, stream := range []string{"false", "true"} {
		resp := r.respond(`"input":"first","stream":`+stream, asAnn)
		if got := b.asked(); gjson.Get(got, "store").Exists() || resp.Get("id").String() != "resp_backend" {
			t.Errorf("asked %s, answered %s", got, resp)
		}
	}
	item := "msg_answer1"
	r.respond(`"input":[{"type":"item_reference","id":"`+item+`"},{"role":"user","content":"second"}],"previous_response_id":"resp_backend"`, asAnn)
	if got := b.asked(); gjson.Get(got, "previous_response_id").String() != "resp_backend" || gjson.Get(got, "input.0.id").String() != item || strings.Contains(got, "first") {
		t.Errorf("asked %s", got)
	}
	r.refuses(`"input":"second","previous_response_id":"resp_backend"`, 400, "previous_response_not_found", asBob)
	r.refuses(`"input":"second","previous_response_id":"resp_other"`, 400, "previous_response_not_found", asAnn)
	r.refuses(`"input":[{"type":"item_reference","id":"`+item+`"}]`, 400, "item_not_found", asBob)
	select {
	case v := <-b.seen:
		t.Errorf("the backend was asked %s", v.body)
	default:
	}
}

// TestIDsAreExact: an id with something behind it, or of another kind, is another id.
func TestIDsAreExact(t *testing.T) {
	t.Parallel()
	b := telling(t, "chat")
	r := start(t, keepingYAML("chat", b.addr))
	resp := r.respond(`"input":"hello"`)
	id := resp.Get("id").String()
	for _, other := range []string{id + "0", id + "00", "msg" + id[4:], resp.Get("output.0.id").String(), strings.ToUpper(id), id[5:]} {
		r.refuses(`"input":"on"`+previous(other), 400, "previous_response_not_found")
	}
	r.respond(`"input":"on"` + previous(id))
}

// TestIDsOfABackendReachNoOther, though both keep conversations and belong to the same caller.
func TestIDsOfABackendReachNoOther(t *testing.T) {
	t.Parallel()
	one, two := telling(t, "responses"), telling(t, "responses")
	r := start(t, "state: {store: memory}\nagents:\n"+
		"  - {name: it, protocol: responses, url: \"http://"+one.addr+"\", options: {state: backend}}\n"+
		"  - {name: two, protocol: responses, url: \"http://"+two.addr+"\", options: {state: backend}}\n")
	item := r.respond(`"input":"hello"`).Get("output.0.id").String()
	for _, members := range []string{`"input":"on"` + previous("resp_backend"), `"input":[{"type":"item_reference","id":"` + item + `"}]`} {
		if got := r.post("/v1/responses", `{"model":"two",`+members+`}`, ""); got.status != 400 {
			t.Errorf("%s: %d %s", members, got.status, got.body)
		}
		if got := r.post("/v1/responses", `{`+members+`}`, ""); got.status != 200 || got.header.Get("Dragoman-Agent") != "it" {
			t.Errorf("%s: %d %s", members, got.status, got.body)
		}
	}
	if n := len(two.seen); n != 0 {
		t.Errorf("the other backend was asked %d times", n)
	}
}

// TestAPastThatGoesMeanwhile: an answer whose past is deleted while it is made is not kept, for nobody could go on from it.
func TestAPastThatGoesMeanwhile(t *testing.T) {
	t.Parallel()
	gate := make(chan struct{})
	n := 0
	b := stage(t, func(v *visit) {
		if n++; n == 2 {
			<-gate
		}
		v.tell("chat", fmt.Sprintf("answer %d", n))
	})
	r := start(t, keepingYAML("chat", b.addr))
	one := r.respond(`"input":"one"`).Get("id").String()
	b.asked()
	done := make(chan gjson.Result, 1)
	go func() { done <- r.respond(`"input":"two"` + previous(one)) }()
	b.asked()
	if got := r.request("DELETE", "/v1/responses/"+one, ""); got.status != 200 {
		t.Errorf("%d %s", got.status, got.body)
	}
	close(gate)
	two := <-done
	if two.Get("store").Bool() || !strings.Contains(two.Raw, "answer 2") {
		t.Errorf("got %s", two)
	}
	if got := r.request("GET", "/v1/responses/"+two.Get("id").String(), ""); got.status != 404 {
		t.Errorf("%d %s", got.status, got.body)
	}
}

// TestTruncationKeepsCallsAndResultsTogether: where a call is left out its result is too.
func TestTruncationKeepsCallsAndResultsTogether(t *testing.T) {
	t.Parallel()
	n := 0
	b := stage(t, func(v *visit) {
		if n++; n == 1 {
			v.json(200, `{"id":"c","object":"chat.completion","created":1,"model":"m","choices":[{"index":0,"message":{"role":"assistant","content":null,"tool_calls":[{"id":"call_7","type":"function","function":{"name":"weather","arguments":"{}"}}]},"finish_reason":"tool_calls"}]}`)
			return
		}
		v.tell("chat", "fine")
	})
	r := start(t, keepingYAML("chat", b.addr, "max_input_tokens: 1000"))
	tools := `,"truncation":"auto","tools":[{"type":"function","name":"weather","parameters":{"type":"object"}}]`
	one := r.respond(`"input":"` + strings.Repeat("word ", 500) + `"` + tools).Get("id").String()
	two := r.respond(`"input":[{"type":"function_call_output","call_id":"call_7","output":"rain"}]` + tools + previous(one)).Get("id").String()
	b.asked()
	b.asked()
	r.respond(`"input":"` + strings.Repeat("more ", 300) + `"` + tools + previous(two))
	if got := b.asked(); strings.Contains(got, "call_7") || strings.Contains(got, "word word") || !strings.Contains(got, "more more") {
		t.Errorf("got %.300s", got)
	}
}
