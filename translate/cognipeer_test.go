package translate

import (
	"strings"
	"testing"

	"github.com/tidwall/gjson"
)

func TestCognipeerChecksInTheVendorsOrder(t *testing.T) {
	t.Parallel()
	const (
		model   = "model field is required and must contain the agent key"
		version = "version must be a positive integer"
		input   = "input field is required (string or array of message items)"
	)
	for _, c := range []struct{ body, want string }{
		{`{}`, model},
		{`{"model":5,"version":0,"input":""}`, model},
		{`{"temperature":"x","model":null}`, model},
		{`{"model":"a","version":0}`, version},
		{`{"model":"a","version":"two","input":""}`, version},
		{`{"model":"a","version":""}`, version},
		{`{"model":"a","version":false}`, version},
		{`{"model":"a","version":{}}`, version},
		{`{"model":"a"}`, input},
		{`{"model":"a","version":1.5,"input":null}`, input},
		{`{"model":"a","version":"2","input":""}`, input},
		{`{"model":"a","input":[ ]}`, input},
		{`{"model":"a","input":7}`, input},
		{`{"model":"a","input":[{"role":"assistant","content":"x"}]}`, input},
		{`{"model":"a","input":[{"role":"user","content":""}]}`, input},
		{`{"model":"a","input":"x","previous_response_id":"resp_1"}`, "previous_response_id"},
		{`{"model":"a","input":"x","conversation":"conv_1"}`, "conversation"},
		{`{"model":"a","input":[{"type":"mystery"}]}`, "input[0].type"},
		{`{"model":"a","input":"x","runtime_context":"x"}`, "runtime_context"},
		{`{"model":"a","temperature":"x"}`, input},
		{`{"model":"a","input":{},"previous_response_id":"resp_1"}`, input},
		{`{"model":"a","input":[{"role":"user","content":""}],"previous_response_id":"resp_1","background":true}`, input},
		{`{"model":"a","input":"x","background":true,"previous_response_id":"resp_1"}`, "previous_response_id"},
		{`{"model":"a","version":"0x","input":""}`, version},
		{`{"model":"a","version":"inf","input":""}`, version},
		{`{"model":"a","version":"1_0","input":""}`, version},
		{`{"model":"a","version":"0x10","input":""}`, input},
		{`{"model":"a","version":" 2 ","input":""}`, input},
		{`{"model":"a","version":"1e3","input":""}`, input},
		{`{"model":"a","version":0.5,"input":""}`, version},
		{`{"model":"a","version":[2],"input":""}`, version},
	} {
		_, err := cognipeerProtocol.DecodeRequest(&Inbound{Body: []byte(c.body)})
		// What the vendor's server checks when it has found the agent waits for
		// Complete.
		lazy, late := cognipeerProtocol.DecodeRequest(&Inbound{Body: []byte(c.body), Lazy: true})
		if early := c.want == model || c.want == version; early != (late != nil) {
			t.Errorf("%s: %v before the agent is found", c.body, late)
		} else if late == nil {
			late = lazy.Complete()
		}
		if (err == nil) != (late == nil) || err != nil && err.Message != late.Message {
			t.Errorf("%s: %v at once, %v in two steps", c.body, err, late)
		}
		if err == nil {
			t.Errorf("%s: accepted", c.body)
			continue
		}
		body := cognipeerProtocol.AppendError(nil, err)
		if got := gjson.GetBytes(body, "error").String(); err.Status != 400 || got != c.want && !strings.Contains(got, "'"+c.want+"'") {
			t.Errorf("%s: got %d %s, want %s", c.body, err.Status, body, c.want)
		}
	}
}

func TestCognipeerDecodesRequests(t *testing.T) {
	t.Parallel()
	r, err := cognipeerProtocol.DecodeRequest(&Inbound{Body: []byte(`{"model":"support","input":[{"role":"system","content":"s"},{"role":"user","content":[{"type":"input_text","text":"u"}]}],` +
		`"version":"2","runtime_context":{"metadata":{"a":1}},"previous_response_id":"whatever","stream":true,"instructions":"i","tools":[{"type":"function","name":"f"}]}`)})
	if err != nil {
		t.Fatal(err)
	}
	if got, want := respTurns(r), "system!: text(i)@instructions\nsystem: text(s)@input[0].content\nuser: text(u)@input[1].content[0]\n"; got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	if v, _ := r.Setting(ParamVersion); v != `"2"` {
		t.Errorf("version %s", v)
	}
	if v, _ := r.Setting(ParamRuntimeContext); v != `{"metadata":{"a":1}}` {
		t.Errorf("runtime_context %s", v)
	}
	// A value that names no conversation begins a new one, which the client is told.
	if l := strings.Join(r.Ledger.Names(), " "); l != "previous_response_id" {
		t.Errorf("ledger %q", l)
	}
	if !r.Stream || r.Agent != "support" || len(r.Tools) != 1 {
		t.Errorf("%+v", r)
	}
}

func TestCognipeerAsksWithOneText(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name, body   string
		a            *Agent
		want, ledger string
	}{
		{"a single message", `{"input":"hi \"you\""}`, &Agent{Name: "ag"}, `{"model":"ag","input":"hi \"you\""}`, ""},
		{"history", `{"model":"m","input":[{"role":"user","content":"a"},{"role":"assistant","content":"b"},{"role":"user","content":"c"}],"instructions":"s"}`,
			&Agent{Name: "ag", Model: "key"}, `{"model":"key","input":"System: s\n\nUser: a\n\nAssistant: b\n\nUser: c"}`, ""},
		{"settings", `{"model":"m","input":"x","temperature":1,"tools":[{"type":"function","name":"f"}],"text":{"verbosity":"low","format":{"type":"text"}},"version":3,"runtime_context":{"a":1}}`,
			&Agent{Name: "ag"}, `{"model":"m","input":"x","version":3,"runtime_context":{"a":1}}`, "tools[0] temperature text.verbosity"},
		{"what a text has no place for", `{"model":"m","input":[{"role":"assistant","phase":"commentary","content":"a"},{"role":"user","content":"b"}],"store":true}`,
			&Agent{Name: "ag"}, `{"model":"m","input":"Assistant: a\n\nUser: b"}`, "input[0].phase store"},
		{"parts", `{"model":"m","input":[{"role":"user","content":[{"type":"input_text","text":"a"},{"type":"input_text","text":"b"}]}]}`,
			&Agent{Name: "ag"}, `{"model":"m","input":"a\nb"}`, ""},
		{"a tool's result", `{"model":"m","input":[{"role":"user","content":"Weather?"},{"type":"function_call","call_id":"c","name":"get_weather","arguments":"{}"},{"type":"function_call_output","call_id":"c","output":"18"}],"stream":true}`,
			&Agent{Name: "ag"}, `{"model":"m","input":"User: Weather?\n\nAssistant called get_weather: {}\n\nResult of get_weather: 18"}`, ""},
		{"a default prompt", `{"model":"m","input":"x"}`, &Agent{Name: "ag", SystemPrompt: "S", MaxTokens: 5, Temperature: "1", Options: map[string]string{"history": "refuse"}},
			`{"model":"m","input":"System: S\n\nUser: x"}`, ""},
		{"configured version", `{"model":"m","input":"x"}`, &Agent{Name: "ag", Options: map[string]string{"version": "7"}}, `{"model":"m","input":"x","version":7}`, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			r := cognipeerAsk(t, c.body)
			got, err := cognipeerProtocol.Encode(nil, r, c.a, false)
			if err != nil || string(got) != c.want {
				t.Errorf("got  %s (%v)\nwant %s", got, err, c.want)
			}
			if l := strings.Join(r.Ledger.Names(), " "); l != c.ledger {
				t.Errorf("ledger %q, want %q", l, c.ledger)
			}
		})
	}
}

// cognipeerAsk decodes a request of the Responses face, whose paths the tests
// can name, with the dialect's fields.
func cognipeerAsk(t *testing.T, body string) *Request {
	t.Helper()
	r, err := responsesProtocol.DecodeRequest(&Inbound{Body: []byte(body)})
	if err != nil {
		t.Fatal(err)
	}
	r.Ledger = Ledger{}
	for _, p := range []struct {
		key   string
		param Param
	}{{"version", ParamVersion}, {"runtime_context", ParamRuntimeContext}} {
		if v := gjson.Get(body, p.key); v.Exists() {
			r.Set(p.param, v.Raw, At(p.key))
		}
	}
	return r
}

func TestCognipeerRefusesWhatTheServerWouldDrop(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ body, param string }{
		{`{"input":[{"role":"user","content":[{"type":"input_image","image_url":"u"}]}]}`, "input[0].content[0]"},
		{`{"input":[{"role":"user","content":[{"type":"input_file","file_id":"f"}]}]}`, "input[0].content[0]"},
		{`{"input":"x","text":{"format":{"type":"json_object"}}}`, "text.format"},
		{`{"input":"x","tools":[{"type":"function","name":"f"}],"tool_choice":"required"}`, "tool_choice"},
		{`{"input":"x","tools":[{"type":"web_search"}]}`, "tools[0].type"},
		{`{"input":"x","prompt":{"id":"p"}}`, "prompt"},
		{`{"input":[{"role":"user","content":"q"},{"type":"computer_call_output","call_id":"c"}]}`, "input[1].type"},
	} {
		_, err := cognipeerProtocol.EncodeRequest(nil, cognipeerAsk(t, c.body), &Agent{Name: "ag"}, false)
		if err == nil || err.Param != c.param {
			t.Errorf("%s: got %v, want a 400 that names %s", c.body, err, c.param)
		}
	}
	refuse := &Agent{Name: "ag", Options: map[string]string{"history": "refuse"}}
	if _, err := cognipeerProtocol.EncodeRequest(nil, cognipeerAsk(t, `{"input":[{"role":"system","content":"s"},{"role":"user","content":"q"}]}`), refuse, false); err == nil || err.Param != "input[0]" {
		t.Errorf("history is not refused: %v", err)
	}
	if _, err := cognipeerProtocol.EncodeRequest(nil, cognipeerAsk(t, `{"input":"q"}`), refuse, false); err != nil {
		t.Errorf("a single message is refused: %v", err)
	}
}

func TestCognipeerSplices(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name, body string
		a          *Agent
		want       string
	}{
		{"nothing", ` { "x":1e400, "model":"m", "input":"x" }`, &Agent{}, ` { "x":1e400, "model":"m", "input":"x" }`},
		{"what the server does not read", `{"model":"m","input":[{"role":"system","content":"s"},{"role":"user","content":"x"}],"temperature":1.0,"z":9007199254740993,"stream":true}`,
			&Agent{MaxTokens: 5, Temperature: "1"},
			`{"model":"m","input":[{"role":"system","content":"s"},{"role":"user","content":"x"}],"temperature":1.0,"z":9007199254740993,"stream":true}`},
		{"model", `{ "model":"m", "input":"x" }`, &Agent{Model: "key"}, `{ "model":"key", "input":"x" }`},
		{"version", `{ "model":"m", "input":"x" }`, &Agent{Options: map[string]string{"version": "4"}}, `{"version":4, "model":"m", "input":"x" }`},
		{"the client's version", `{ "model":"m", "input":"x", "version":"2" }`, &Agent{Options: map[string]string{"version": "4"}}, `{ "model":"m", "input":"x", "version":"2" }`},
		{"a system prompt", ` { "model":"m", "input": "x\n" }`, &Agent{SystemPrompt: "Be \"brief\"."},
			` { "model":"m", "input": "System: Be \"brief\".\n\nUser: x\n" }`},
		{"a system prompt before the last user's text", `{"input": [ {"role":"user","content":"old"}, {"content":"new" ,"role":"user"}, {"role":"assistant","content":"a"} ],"model":"m"}`, &Agent{SystemPrompt: "S"},
			`{"input": [ {"role":"user","content":"old"}, {"content":"System: S\n\nUser: new" ,"role":"user"}, {"role":"assistant","content":"a"} ],"model":"m"}`},
		{"a system prompt before the first text part", `{"model":"m","input":[{"role":"user","content":[{"type":"input_image","image_url":"u"}, {"text":"a","type":"input_text"},{"type":"input_text","text":"b"}]}]}`, &Agent{SystemPrompt: "S"},
			`{"model":"m","input":[{"role":"user","content":[{"type":"input_image","image_url":"u"}, {"text":"System: S\n\nUser: a","type":"input_text"},{"type":"input_text","text":"b"}]}]}`},
		{"the client's system prompt", `{"model":"m","input":"x","instructions":"i"}`, &Agent{SystemPrompt: "S"}, `{"model":"m","input":"x","instructions":"i"}`},
		{"no text", `{"model":"m","input":[{"role":"user","content":[{"type":"input_image","image_url":"u"}]}]}`, &Agent{SystemPrompt: "S"},
			`{"model":"m","input":[{"role":"user","content":[{"type":"input_image","image_url":"u"}]}]}`},
	} {
		for _, lazy := range []bool{true, false} {
			r, err := cognipeerProtocol.DecodeRequest(&Inbound{Body: []byte(c.body), Lazy: lazy})
			if err != nil {
				t.Fatalf("%s: %v", c.name, err)
			}
			got, err := cognipeerProtocol.SpliceRequest(nil, r, c.a)
			if err != nil || string(got) != c.want {
				t.Errorf("%s: got  %s (%v)\nwant %s", c.name, got, err, c.want)
			}
			if l := strings.Join(r.Ledger.Names(), " "); l != "" {
				t.Errorf("%s: ledger %q", c.name, l)
			}
		}
	}
	r, err := cognipeerProtocol.DecodeRequest(&Inbound{Body: []byte(`{"model":"m"}`), Lazy: true})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := cognipeerProtocol.SpliceRequest(nil, r, &Agent{}); err == nil || err.Message != cognipeerNoInput {
		t.Errorf("passed through without an input: %v", err)
	}
}

func TestCognipeerVersionOption(t *testing.T) {
	t.Parallel()
	for v, ok := range map[string]bool{"1": true, "12": true, "0": false, "01": false, "-1": false, "1.5": false, "two": false, "": false, "99999999999": false} {
		if err := CheckOption("cognipeer", "version", v); (err == nil) != ok {
			t.Errorf("%q: %v", v, err)
		}
	}
}

// TestCognipeerTellsVersionAndUsage: the vendor's answers always have both.
func TestCognipeerTellsVersionAndUsage(t *testing.T) {
	t.Parallel()
	const zeroes = `{"input_tokens":0,"input_tokens_details":{"cached_tokens":0,"cache_write_tokens":0},"output_tokens":0,"output_tokens_details":{"reasoning_tokens":0},"total_tokens":0}`
	const counted = `{"input_tokens":3,"input_tokens_details":{"cached_tokens":0,"cache_write_tokens":0},"output_tokens":4,"output_tokens_details":{"reasoning_tokens":0},"total_tokens":7}`
	for _, c := range []struct {
		face                 *Protocol
		asked, answered      string
		usage                string
		version, tokens, end string
	}{
		{&cognipeerProtocol, "", "", "", "1", zeroes, "completed"},
		{&cognipeerProtocol, `,"version":3`, "", "", "3", zeroes, "completed"},
		{&cognipeerProtocol, `,"version":"2"`, "", "", "2", zeroes, "completed"},
		{&cognipeerProtocol, `,"version":1.5`, "", "usage input=3 output=4\n", "1.5", counted, "completed"},
		{&cognipeerProtocol, `,"version":"2"`, "7", "", "7", zeroes, "completed"}, // the agent itself knows best
		{&responsesProtocol, `,"version":3`, "", "", "", "null", "completed"},
	} {
		r, err := c.face.DecodeRequest(&Inbound{Body: []byte(`{"model":"m","input":"x"` + c.asked + `}`)})
		if err != nil {
			t.Fatal(err)
		}
		f := NewFold()
		for _, e := range parseEventText(t, "start\nblock 0 text msg=0 part=0\ndelta 0 \"hi\"\nend 0\n"+c.usage+"finish stop") {
			f.Event(e)
		}
		s := respTestSetup(r)
		s.version = c.answered
		body := gjson.ParseBytes(c.face.AppendAnswer(nil, s, f))
		if got := body.Get("version").Raw; got != c.version {
			t.Errorf("%s%s: version %q, want %q", c.face.Name, c.asked, got, c.version)
		}
		if got := body.Get("usage").Raw; got != c.tokens {
			t.Errorf("%s%s: usage %s, want %s", c.face.Name, c.asked, got, c.tokens)
		}
		if got := body.Get("previous_response_id").Raw + body.Get("output.0.content.0.text").Raw; got != `null"hi"` {
			t.Errorf("%s: %s", c.face.Name, body.Raw)
		}
	}
	// A draft or a published version ran: a stream made of the answer says which.
	r, err := cognipeerProtocol.DecodeRequest(&Inbound{Body: []byte(`{"model":"m","input":"x","stream":true}`)})
	if err != nil {
		t.Fatal(err)
	}
	a := NewAnswer(respTestSetup(r), &cognipeerProtocol, true, false)
	out := string(a.Body(nil, []byte(`{"id":"resp_1","object":"response","model":"A","output":[{"id":"msg_1","type":"message","role":"assistant","content":[{"type":"output_text","text":"hi"}]}],"status":"completed","usage":{"input_tokens":0,"output_tokens":0,"total_tokens":0},"created_at":1,"previous_response_id":null,"version":9}`)))
	if n := strings.Count(out, `"version":9}`); n != 3 || a.Err() != nil {
		t.Errorf("the version stands in %d lifecycle events, want 3 (%v):\n%s", n, a.Err(), out)
	}
}

func TestCognipeerErrorsAreStrings(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		e    Error
		want string
	}{
		{Error{Kind: KindNotFound, Status: 404, Message: "Agent not found"}, `{"error":"Agent not found"}`},
		{Error{Kind: KindUnauthenticated, Status: 401, Message: "Missing."}, `{"error":"Unauthorized","message":"Missing."}`},
		{Error{Kind: KindOverloaded, Status: 503, Message: "Later."}, `{"error":"ServiceUnavailable","message":"Later."}`},
		{Error{Kind: KindNotFound, Status: 404, Code: "model_not_found", Message: "There is no agent \"x\"."}, `{"error":"Agent not found"}`},
		{Error{Kind: KindNotFound, Status: 404, Code: "model_not_found", NoRetry: true, Message: "No such model."}, `{"error":"No such model."}`},
		{Error{Kind: KindUnauthenticated, Status: 401, Code: "invalid_api_key", Message: "Missing."}, `{"error":"Unauthorized","message":"Missing."}`},
		{Error{Kind: KindUnauthenticated, Status: 401, Code: "invalid_api_key", NoRetry: true, Message: "Invalid API token"}, `{"error":"Invalid API token"}`},
		{Error{Kind: KindForbidden, Status: 403, Message: "Not yours."}, `{"error":"Forbidden: Not yours."}`},
		{Error{Kind: KindOverloaded, Status: 503, Code: "shutting_down", Message: "Down."}, `{"error":"Service is shutting down","message":"Down."}`},
		{Error{Kind: KindInternal, Status: 500, Message: "The proxy failed."}, `{"error":"The proxy failed."}`},
		{Error{Kind: KindRateLimited, Status: 429, Message: "Slow.", RetryAfter: 2e9}, `{"error":"Slow. Retry after 2 s."}`},
	} {
		if got := string(cognipeerProtocol.AppendError(nil, &c.e)); got != c.want {
			t.Errorf("got %s, want %s", got, c.want)
		}
	}
}

func TestCognipeerListsAgents(t *testing.T) {
	t.Parallel()
	agents := []AgentInfo{{Name: "support", Description: "d\"", Created: 1767225600}, {Name: "b", Model: "gpt", MaxTokens: 99, Temperature: "0.5"}}
	one := `{"key":"support","name":"support","description":"d\"","config":{"modelKey":"support","temperature":null,"topP":null,"maxTokens":null},"status":"active","createdAt":"2026-01-01T00:00:00.000Z"}`
	two := `{"key":"b","name":"b","description":"","config":{"modelKey":"gpt","temperature":0.5,"topP":null,"maxTokens":99},"status":"active","createdAt":"1970-01-01T00:00:00.000Z"}`
	if got, want := string(cognipeerProtocol.AppendAgents(nil, OpAgents, agents)), `{"agents":[`+one+`,`+two+`]}`; got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	if got, want := string(cognipeerProtocol.AppendAgents(nil, OpAgent, agents[:1])), `{"agent":`+one+`}`; got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	if got := string(cognipeerProtocol.AppendAgents(nil, OpAgents, nil)); got != `{"agents":[]}` {
		t.Errorf("got %s", got)
	}
}

func TestCognipeerFiltersAgentsByStatus(t *testing.T) {
	t.Parallel()
	for query, want := range map[string]int{"": 2, "status=active": 2, "status=": 2, "other=x": 2, "status=archived": 0, "status=ACTIVE": 0, "status=active&status=draft": 0, "status=%61ctive": 2, "status=%zz": 2} {
		if got := len(cognipeerFace{}.FilterAgents(query, make([]AgentInfo, 2))); got != want {
			t.Errorf("%q: %d agents, want %d", query, got, want)
		}
	}
}

func TestCognipeerLinksWhatTheAssistantShowed(t *testing.T) {
	t.Parallel()
	r := &Request{Face: &Protocol{Name: "cycls"}, Turns: []Turn{
		{Role: RoleUser, Blocks: []Block{{Type: BlockText, Text: "draw"}}},
		{Role: RoleAssistant, Blocks: []Block{{Type: BlockText, Text: "see"}, {Type: BlockImage, URL: "https://e.com/a.png", Alt: "A"}}},
		{Role: RoleUser, Blocks: []Block{{Type: BlockText, Text: "more"}}},
	}}
	got, err := cognipeerProtocol.EncodeRequest(nil, r, &Agent{Name: "ag"}, false)
	if err != nil {
		t.Fatal(err)
	}
	want := `{"model":"ag","input":"User: draw\n\nAssistant: see\n\n![A](https://e.com/a.png)\n\nUser: more"}`
	if string(got) != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

// TestCognipeerNamesConversations: with state a resp_ id names what was said before; what is no such id begins anew, and is in
// the ledger. The input is looked at before the id is.
func TestCognipeerNamesConversations(t *testing.T) {
	t.Parallel()
	decode := func(body string) *Request {
		t.Helper()
		r, e := cognipeerProtocol.DecodeRequest(&Inbound{Body: []byte(body), Lazy: true, State: true})
		if e != nil {
			t.Fatal(e)
		}
		return r
	}
	r := decode(`{"model":"a","input":"x","previous_response_id":"resp_1","store":false}`)
	if e := r.Check(); r.Previous != "resp_1" || r.Store != No || e != nil || r.Complete() != nil || r.Ledger.Len() > 0 {
		t.Errorf("got %q, %v, ledger %v", r.Previous, e, r.Ledger.Names())
	}
	r = decode(`{"model":"a","input":"x","previous_response_id":"conv-7"}`)
	if e := r.Complete(); r.Previous != "" || e != nil || strings.Join(r.Ledger.Names(), " ") != "previous_response_id" {
		t.Errorf("got %q, %v, ledger %v", r.Previous, e, r.Ledger.Names())
	}
	r = decode(`{"model":"a","input":"","previous_response_id":"resp_1"}`)
	if e := r.Check(); e == nil || e.Param != "input" {
		t.Errorf("got %v", e)
	}
	for _, member := range []string{`"conversation":"conv_1"`, `"background":true`} {
		r = decode(`{"model":"a","input":"x",` + member + `}`)
		if e := r.Complete(); e == nil || e.Status != 400 || strings.Contains(e.Message, "stores no responses") || !strings.Contains(member, e.Param) {
			t.Errorf("%s: got %v", member, e)
		}
	}
}

// TestCognipeerGoesOn in a conversation of the backend's with what is new, tools' results among it; where it does not go
// on it is told all, and no id of ours.
func TestCognipeerGoesOn(t *testing.T) {
	t.Parallel()
	before := []string{`{"type":"message","role":"user","content":"one"}`, `{"type":"function_call","call_id":"c","name":"f","arguments":"{}"}`}
	for _, c := range []struct{ name, input, handle, want string }{
		{"on", `"two"`, "h1", `{"model":"m","input":"two","previous_response_id":"resp_h1"}`},
		{"a result", `[{"type":"function_call_output","call_id":"c","output":"18"}]`, "h1", `{"model":"m","input":"Result of the tool: 18","previous_response_id":"resp_h1"}`},
		{"anew", `"two"`, "", `{"model":"m","input":"System: S\n\nUser: one\n\nAssistant called f: {}\n\nResult of f: 18\n\nUser: two"}`},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			r, e := responsesProtocol.DecodeRequest(&Inbound{Lazy: true, State: true, Body: []byte(`{"model":"m","previous_response_id":"resp_ours","input":` + c.input + `}`)})
			if e != nil {
				t.Fatal(e)
			}
			if r.Handle, r.Goes, r.Kept = c.handle, c.handle != "", true; !r.Goes {
				r.History = append(append(r.History, before...), `{"type":"function_call_output","call_id":"c","output":"18"}`)
			}
			got, e := cognipeerProtocol.Encode(nil, r, &Agent{Name: "ag", SystemPrompt: "S"}, false)
			if e != nil || string(got) != c.want {
				t.Errorf("got  %s %v\nwant %s", got, e, c.want)
			}
		})
	}
}
