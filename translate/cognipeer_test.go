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
	} {
		_, err := cognipeerProtocol.DecodeRequest(&Inbound{Body: []byte(c.body)})
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
	if !r.Stream || r.Agent != "support" || len(r.Tools) != 1 || r.Ledger.Len() != 0 {
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
		{"configured version", `{"model":"m","input":"x"}`, &Agent{Name: "ag", Options: map[string]string{"version": "7"}}, `{"model":"m","input":"x","version":7}`, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			r := cognipeerAsk(t, c.body)
			got, err := cognipeerProtocol.EncodeRequest(nil, r, c.a, false)
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

func TestCognipeerSplicesModelAndVersion(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		a            *Agent
		want, ledger string
	}{
		{&Agent{}, `{ "model":"m", "input":"x" }`, ""},
		{&Agent{Model: "key"}, `{ "model":"key", "input":"x" }`, ""},
		{&Agent{Options: map[string]string{"version": "4"}, SystemPrompt: "s"}, `{"version":4, "model":"m", "input":"x" }`, "defaults.system_prompt"},
	} {
		r, err := cognipeerProtocol.DecodeRequest(&Inbound{Body: []byte(`{ "model":"m", "input":"x" }`)})
		if err != nil {
			t.Fatal(err)
		}
		got, err := cognipeerProtocol.SpliceRequest(nil, r, c.a)
		if err != nil || string(got) != c.want {
			t.Errorf("got  %s (%v)\nwant %s", got, err, c.want)
		}
		if l := strings.Join(r.Ledger.Names(), " "); l != c.ledger {
			t.Errorf("ledger %q, want %q", l, c.ledger)
		}
	}
}

func TestCognipeerEchoesTheVersion(t *testing.T) {
	t.Parallel()
	for _, face := range []*Protocol{&cognipeerProtocol, &responsesProtocol} {
		r, err := face.DecodeRequest(&Inbound{Body: []byte(`{"model":"m","input":"x","version":3}`)})
		if err != nil {
			t.Fatal(err)
		}
		f := NewFold()
		for _, e := range parseEventText(t, "start\nblock 0 text msg=0 part=0\ndelta 0 \"hi\"\nend 0\nfinish stop") {
			f.Event(e)
		}
		body := gjson.ParseBytes(face.AppendAnswer(nil, respTestSetup(r), f))
		want := "3"
		if face == &responsesProtocol {
			want = ""
		}
		if got := body.Get("version").Raw; got != want {
			t.Errorf("%s: version %q, want %q", face.Name, got, want)
		}
		if got := body.Get("previous_response_id").Raw + body.Get("output.0.content.0.text").Raw; got != `null"hi"` {
			t.Errorf("%s: %s", face.Name, body.Raw)
		}
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
		{Error{Kind: KindRateLimited, Status: 429, Message: "Slow.", RetryAfter: 2e9}, `{"error":"Slow. Retry after 2 s."}`},
	} {
		if got := string(cognipeerProtocol.AppendError(nil, &c.e)); got != c.want {
			t.Errorf("got %s, want %s", got, c.want)
		}
	}
}

func TestCognipeerListsAgents(t *testing.T) {
	t.Parallel()
	agents := []AgentInfo{{Name: "support", Description: "d\"", Created: 1767225600}, {Name: "b", Model: "gpt"}}
	one := `{"key":"support","name":"support","description":"d\"","config":{"modelKey":"support","temperature":null,"topP":null,"maxTokens":null},"status":"active","createdAt":"2026-01-01T00:00:00.000Z"}`
	two := `{"key":"b","name":"b","description":"","config":{"modelKey":"gpt","temperature":null,"topP":null,"maxTokens":null},"status":"active","createdAt":"1970-01-01T00:00:00.000Z"}`
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
