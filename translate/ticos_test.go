package translate

import (
	"strings"
	"testing"

	"github.com/dragoman-proxy/dragoman/internal/jsonx"
)

func ticosDecode(t *testing.T, body string) *Request {
	t.Helper()
	r, err := ticosFace{}.DecodeRequest(&Inbound{ID: "home", Body: []byte(body)})
	if err != nil {
		t.Fatalf("decode %s: %v", body, err)
	}
	return r
}

func TestTicosRequestDecodes(t *testing.T) {
	t.Parallel()
	show := func(r *Request) string {
		s := ""
		for _, turn := range r.Turns {
			s += turn.Role.String() + ":"
			for _, b := range turn.Blocks {
				s += " " + b.Type.String() + "=" + b.Text + b.URL + "@" + b.Path.String()
			}
			s += "\n"
		}
		return strings.TrimSpace(s)
	}
	f := func(body, want string) {
		t.Helper()
		r := ticosDecode(t, body)
		if got := show(r); got != want {
			t.Errorf("%s: got\n%s\nwant\n%s", body, got, want)
		}
		if r.Agent != "home" || r.Model != "home" {
			t.Errorf("%s: got agent %q, model %q, want home", body, r.Agent, r.Model)
		}
	}
	f(`{"input":"Lights on"}`, "user: text=Lights on@input")
	f(`{"input":"https://x.test/a.PNG?size=1"}`, "user: image=https://x.test/a.PNG?size=1@input")
	f(`{"input":"data:image/png;base64,AA=="}`, "user: image=data:image/png;base64,AA==@input")
	f(`{"input":" https://x.test/a.png"}`, "user: text= https://x.test/a.png@input")
	f(`{"input":"see https://x.test/a.png"}`, "user: text=see https://x.test/a.png@input")
	f(`{"input":"https://x.test/page"}`, "user: text=https://x.test/page@input")
	f(`{"input":[{"type":"text","text":"a"},{"type":"image_url","image_url":{"url":"u"}}]}`, "user: text=a@input[0] image=u@input[1]")
	f(`{"input":[{"role":"system","content":"s"},{"role":"user","content":"a"}]}`, "system: text=s@input[0].content\nuser: text=a@input[1].content")
	f(`{"instructions":"s","input":"a","stream":false}`, "system: text=s@instructions\nuser: text=a@input")
	if r := ticosDecode(t, `{"input":"a","stream":true,"temperature":1,"x":2}`); !r.Stream || strings.Join(r.Ledger.Names(), ",") != "unknown(2)" {
		t.Errorf("got stream %v, ledger %v", r.Stream, r.Ledger.Names())
	}

	bad := func(body, param string) {
		t.Helper()
		_, err := ticosFace{}.DecodeRequest(&Inbound{ID: "home", Body: []byte(body)})
		if err == nil || err.Status != 400 || err.Param != param {
			t.Errorf("%s: got %v, want a 400 for %q", body, err, param)
		}
	}
	bad(`5`, "")
	bad(`{}`, "input")
	bad(`{"input":""}`, "input")
	bad(`{"input":[]}`, "input")
	bad(`{"input":5}`, "input")
	bad(`{"input":[{"type":"input_text","text":"a"}]}`, "input[0].type")
	bad(`{"input":"a","stream":1}`, "stream")
}

func TestTicosEncodeRequest(t *testing.T) {
	t.Parallel()
	agent := &Agent{Name: "home"}
	f := func(name, body, want, ledger string) {
		t.Helper()
		r := chatDecode(t, body)
		got, err := ticosBackend{}.EncodeRequest(nil, r, agent, false)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			return
		}
		if string(got) != want || !jsonx.Valid(got) {
			t.Errorf("%s: got\n%s\nwant\n%s", name, got, want)
		}
		if got := strings.Join(r.Ledger.Names(), ","); got != ledger {
			t.Errorf("%s: ledger got %q, want %q", name, got, ledger)
		}
	}
	f("one text", `{"messages":[{"role":"user","content":"Lights \"on\""}],"temperature":1}`, `{"input":"Lights \"on\""}`, "temperature")
	f("a text that looks like an image", `{"messages":[{"role":"user","content":"https://x.test/a.png"}]}`, `{"input":[{"type":"text","text":"https://x.test/a.png"}]}`, "")
	f("a text that is an address", `{"messages":[{"role":"user","content":" https://x.test/a\n"}]}`, `{"input":[{"type":"text","text":" https://x.test/a\n"}]}`, "")
	f("a text with an address in it", `{"messages":[{"role":"user","content":"see https://x.test/a.png"}]}`, `{"input":"see https://x.test/a.png"}`, "")
	f("data as a text", `{"messages":[{"role":"user","content":"data:image/png;base64,AA=="}]}`, `{"input":[{"type":"text","text":"data:image/png;base64,AA=="}]}`, "")
	f("JSON as a text", `{"messages":[{"role":"user","content":"{\"intent\":\"on\"}"}]}`, `{"input":"{\"intent\":\"on\"}"}`, "")
	f("an image alone", `{"messages":[{"role":"user","content":[{"type":"image_url","image_url":{"url":"u"}}]}],"store":true}`,
		`{"input":[{"type":"image_url","image_url":{"url":"u"}}]}`, "store")
	f("parts in their order", `{"messages":[{"role":"user","content":[{"type":"image_url","image_url":{"url":"u"}},{"type":"text","text":"what?"}]}]}`,
		`{"input":[{"type":"image_url","image_url":{"url":"u"}},{"type":"text","text":"what?"}]}`, "")
	f("a conversation", `{"messages":[{"role":"system","content":"Be brief."},{"role":"user","name":"bob","content":"Weather?"},
		{"role":"assistant","content":"Wait.","reasoning_content":"hm","tool_calls":[{"id":"1","type":"function","function":{"name":"get_weather","arguments":"{\"city\":\"Rome\"}"}}]},
		{"role":"tool","tool_call_id":"1","content":"18 °C"},{"role":"assistant","content":"18."},{"role":"user","content":[{"type":"text","text":"And here?"},{"type":"image_url","image_url":{"url":"u"}}]}],
		"tools":[{"type":"function","function":{"name":"get_weather"}}],"tool_choice":"auto"}`,
		`{"input":[{"type":"text","text":"System: Be brief.\n\nUser (bob): Weather?\n\nAssistant: Wait.\n\nAssistant called get_weather: {\"city\":\"Rome\"}\n\nResult of get_weather: 18 °C\n\nAssistant: 18.\n\nUser: And here?"},{"type":"image_url","image_url":{"url":"u"}}]}`,
		"messages[2].reasoning_content,tools[0]")

	f("what a text has no place for", `{"messages":[{"role":"user","name":"bob","content":"a"}]}`, `{"input":"a"}`, "messages[0].name")
	f("citations", `{"messages":[{"role":"assistant","content":"a","annotations":[{"type":"url_citation","url_citation":{"url":"u"}}]},{"role":"user","content":"b"}]}`,
		`{"input":"Assistant: a\n\nUser: b"}`, "messages[0].annotations")

	bad := func(body, param string, options map[string]string) {
		t.Helper()
		_, err := ticosBackend{}.EncodeRequest(nil, chatDecode(t, body), &Agent{Name: "home", Options: options}, false)
		if err == nil || err.Status != 400 || err.Param != param {
			t.Errorf("%s: got %v, want a 400 for %q", body, err, param)
		}
	}
	const user = `"messages":[{"role":"user","content":"a"}]`
	bad(`{`+user+`,"n":2}`, "n", nil)
	bad(`{`+user+`,"modalities":["audio"]}`, "modalities", nil)
	bad(`{`+user+`,"tool_choice":"required","tools":[{"type":"function","function":{"name":"f"}}]}`, "tool_choice", nil)
	bad(`{`+user+`,"tools":[{"type":"web_search"}]}`, "tools[0]", nil)
	bad(`{`+user+`,"response_format":{"type":"json_object"}}`, "response_format", nil)
	bad(`{"messages":[{"role":"user","content":[{"type":"file","file":{"file_id":"f"}}]}]}`, "messages[0].content[0]", nil)
	bad(`{"messages":[{"role":"system","content":"s"},{"role":"user","content":"a"}]}`, "messages[0]", map[string]string{"history": "refuse"})
	if _, err := (ticosBackend{}).EncodeRequest(nil, chatDecode(t, `{`+user+`}`), &Agent{Name: "home", Options: map[string]string{"history": "refuse"}}, false); err != nil {
		t.Errorf("one message with history: refuse: %v", err)
	}
}

// The vendor's server knows the input of one message and nothing else.
func TestTicosSplice(t *testing.T) {
	t.Parallel()
	f := func(name, body, want, ledger string, a *Agent) {
		t.Helper()
		r, err := ticosFace{}.DecodeRequest(&Inbound{Body: []byte(body), ID: "home"})
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		r.Ledger = Ledger{}
		got, err := ticosBackend{}.SpliceRequest(nil, r, a)
		if err != nil || string(got) != want {
			t.Errorf("%s: got\n%s, %v\nwant\n%s", name, got, err, want)
		}
		if got := strings.Join(r.Ledger.Names(), ","); got != ledger {
			t.Errorf("%s: ledger got %q, want %q", name, got, ledger)
		}
	}
	const body = ` {"z":1e400, "input": "a" }`
	f("nothing to do", body, body, "", &Agent{})
	f("parts", `{"input":[{"type":"text", "text":"a"}]}`, `{"input":[{"type":"text", "text":"a"}]}`, "", &Agent{})
	f("history refused, but for the configuration's prompt", body, ` {"z":1e400, "input": "System: S\n\nUser: a" }`, "", &Agent{SystemPrompt: "S", Options: map[string]string{"history": "refuse"}})
	f("an image under a default prompt", `{"input":"https://x.test/a.png"}`, `{"input":[{"type":"text","text":"System: S"},{"type":"image_url","image_url":{"url":"https://x.test/a.png"}}]}`, "", &Agent{SystemPrompt: "S"})
	f("defaults", body, ` {"z":1e400, "input": "System: S\n\nUser: a" }`, "", &Agent{SystemPrompt: "S", MaxTokens: 9, Temperature: "1"})
	f("a default without a place", body, body, "", &Agent{MaxTokens: 9})
	f("instructions", `{"instructions":"S","input":"a"}`, `{"instructions":"S","input":"System: S\n\nUser: a"}`, "", &Agent{SystemPrompt: "T"})
	f("a conversation", `{"input":[{"role":"user","content":"a"}]}`, `{"input":"a"}`, "", &Agent{})
}

func TestTicosAnswers(t *testing.T) {
	t.Parallel()
	const events = `
start
block 0 text msg=0 part=0
delta 0 "on" logprobs=[{"token":"on"}]
end 0
usage input=1 output=2 total=3 cached=1
finish stop`
	s := chatTestSetup(&Request{Face: &ticosProtocol, Model: "m", Stream: true})
	fold := NewFold()
	for _, e := range parseEventText(t, events) {
		fold.Event(e)
	}
	got := string(ticosFace{}.AppendAnswer(nil, s, fold))
	want := `{"id":"chatcmpl-5eed5eed5eed5eed5eed5eed5eed5eed","object":"chat.completion","created":1700000000,"model":"m","choices":[{"index":0,"message":{"role":"assistant","content":"on"},"finish_reason":"stop"}],"usage":{"prompt_tokens":1,"completion_tokens":2,"total_tokens":3}}`
	if got != want {
		t.Errorf("JSON: got\n%s\nwant\n%s", got, want)
	}
	got = chatFaceStream(t, s, &ticosProtocol, events)
	want = `> {"role":"assistant","content":""},"finish_reason":null}]}
> {"content":"on"},"finish_reason":null}]}
> {},"finish_reason":"stop"}]}
data: [DONE]
`
	if got != want {
		t.Errorf("stream: got\n%s\nwant\n%s", got, want)
	}
}
