package translate

import (
	"fmt"
	"reflect"
	"strings"
	"testing"

	"github.com/dragoman-proxy/dragoman/internal/jsonx"
)

func cyclsDecodeRequest(t *testing.T, in Inbound) *Request {
	t.Helper()
	r, err := Lookup("cycls").DecodeRequest(&in)
	if err != nil {
		t.Fatalf("%s: %v", in.Body, err)
	}
	return r
}

// cyclsTurns writes what the turns of a request hold, a line a block.
func cyclsTurns(r *Request) string {
	var b strings.Builder
	for i := range r.Turns {
		turn := &r.Turns[i]
		fmt.Fprintf(&b, "%s %s\n", turn.Role, turn.Path)
		for j := range turn.Blocks {
			k := turn.Blocks[j]
			fmt.Fprintf(&b, "\t%s %s %q", k.Type, k.Path, k.Text)
			for _, a := range []struct{ key, v string }{
				{"name", k.Name}, {"call", k.CallID}, {"language", k.Language}, {"style", k.Style}, {"title", k.Title},
				{"headers", k.Headers}, {"rows", strings.Join(k.Rows, " ")}, {"url", k.URL}, {"alt", k.Alt}, {"mime", k.MIME}, {"detail", k.Detail},
			} {
				if a.v != "" {
					fmt.Fprintf(&b, " %s=%s", a.key, a.v)
				}
			}
			b.WriteByte('\n')
		}
	}
	return b.String()
}

func TestCyclsDecodeRequest(t *testing.T) {
	t.Parallel()
	f := func(name, body, want string, lost ...string) {
		t.Helper()
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := cyclsDecodeRequest(t, Inbound{Body: []byte(body)})
			if got := cyclsTurns(r); got != strings.ReplaceAll(strings.TrimLeft(want, "\n"), "\t\t\t", "") {
				t.Errorf("got\n%s\nwant\n%s", got, want)
			}
			if got := r.Ledger.Names(); len(got)+len(lost) > 0 && !reflect.DeepEqual(got, lost) {
				t.Errorf("ledger: got %v, want %v", got, lost)
			}
		})
	}
	f("what the web client of .140 sends", `{"messages":[{"role":"user","content":[{"type":"text","text":"look"},
			{"type":"image","image":"attachments/1a2b3c4d-p.png"}],"attachments":[{"name":"p.png","size":123,"type":"image/png",
			"url":"","path":"attachments/1a2b3c4d-p.png"}]}]}`, `
			user messages[0]
				text messages[0].content[0] "look"
				image messages[0].content[1] "" name=p.png url=attachments/1a2b3c4d-p.png mime=image/png
`)
	f("attachments that no part shows", `{"messages":[{"role":"user","content":"x","attachments":[
			{"name":"a.png","type":"image/png","url":"https://e.com/a.png"},{"name":"b.pdf","type":"application/pdf","path":"b.pdf"},{"name":"c"},5]}]}`, `
			user messages[0]
				text messages[0].content "x"
				image messages[0].attachments[0] "" name=a.png url=https://e.com/a.png mime=image/png
				file messages[0].attachments[1] "" name=b.pdf url=b.pdf mime=application/pdf
`, "messages[0].attachments[2]", "messages[0].attachments[3]")
	f("the history of .126", `{"messages":[{"role":"user","content":"hi"},{"role":"assistant","parts":[
			{"type":"session_id","session_id":"s1"},
			{"type":"thinking","thinking":"Hm"},{"type":"text","text":"Hello"},{"type":"code","code":"x=1","language":"python"},
			{"type":"table","headers":["A","B"],"rows":[["1","2"],["3","4"]]},{"type":"callout","callout":"Done","style":"success","title":"T"},
			{"type":"image","src":"/a.png","alt":"A"},{"type":"status","status":"busy"},{"type":"step","step":"Reading","id":"t1"},
			{"type":"tool_call","tool":"f","args":{"a":1},"id":"c1"},
			{"type":"ui","action":"x"},{"type":"ping"}]},{"role":"user","content":"go on"}]}`, `
			user messages[0]
				text messages[0].content "hi"
			assistant messages[1]
				reasoning messages[1].parts[1] "Hm"
				text messages[1].parts[2] "Hello"
				code messages[1].parts[3] "x=1" language=python
				table messages[1].parts[4] "" headers=["A","B"] rows=["1","2"] ["3","4"]
				callout messages[1].parts[5] "Done" style=success title=T
				image messages[1].parts[6] "" url=/a.png alt=A
				status messages[1].parts[7] "busy"
				step messages[1].parts[8] "" name=Reading
				step messages[1].parts[9] "{\"a\":1}" name=f
				data messages[1].parts[10] "{\"type\":\"ui\",\"action\":\"x\"}" name=ui
			user messages[2]
				text messages[2].content "go on"
`)
	f("the history of .64", `{"messages":[{"role":"assistant","parts":[{"name":"thinking","content":"Hm"},{"name":"text","content":"Hello"},
			{"name":"code","content":"x=1","language":"python"},{"name":"table","headers":["A"],"rows":[["1"]]},
			{"name":"callout","content":"Done","type":"success","title":null},{"name":"image","src":"/a.png","alt":"A","caption":null},
			{"name":"status","content":"busy"},{"name":"card","content":"x"},{"type":"file","name":"text","file":"/a.txt"}]}]}`, `
			assistant messages[0]
				reasoning messages[0].parts[0] "Hm"
				text messages[0].parts[1] "Hello"
				code messages[0].parts[2] "x=1" language=python
				table messages[0].parts[3] "" headers=["A"] rows=["1"]
				callout messages[0].parts[4] "Done" style=success
				image messages[0].parts[5] "" url=/a.png alt=A
				status messages[0].parts[6] "busy"
				data messages[0].parts[7] "{\"name\":\"card\",\"content\":\"x\"}"
				file messages[0].parts[8] "" name=text url=/a.txt
`)
	f("content wins if it is truthy", `{"messages":[
			{"role":"user","content":"a","parts":[{"type":"text","text":"b"}]},
			{"role":"user","content":"","parts":[{"type":"text","text":"c"},{"type":"text","text":"d"}]},
			{"role":"user","content":[ ],"parts":[{"type":"text","text":"e"}]},
			{"role":"user","content":null,"parts":null},
			{"role":"assistant","parts":[{"type":"session_id","session_id":"s"}]}]}`, `
			user messages[0]
				text messages[0].content "a"
			user messages[1]
				text messages[1].parts[0] "c"
				text messages[1].parts[1] "d"
			user messages[2]
				text messages[2].parts[0] "e"
			user messages[3]
				text messages[3].content ""
`)
	f("OpenAI's image and a bare string", `{"messages":[{"role":"user","content":["x",
			{"type":"image_url","image_url":{"url":"https://e.com/a","detail":"low"}},{"type":"image_url","image_url":"https://e.com/b"}]}]}`, `
			user messages[0]
				text messages[0].content[0] "x"
				image messages[0].content[1] "" url=https://e.com/a detail=low
				image messages[0].content[2] "" url=https://e.com/b
`)
	f("a call of the client that is answered", `{"messages":[{"role":"user","content":"x"},
			{"role":"assistant","parts":[{"type":"tool_call","tool":"f","args":{"a":1},"id":"c1"}]},
			{"role":"tool","tool_call_id":"c1","content":"42"}]}`, `
			user messages[0]
				text messages[0].content "x"
			assistant messages[1]
				tool_call messages[1].parts[0] "{\"a\":1}" name=f call=c1
			tool messages[2]
				tool_result messages[2].content "42" call=c1
`)
	f("fields that the server ignores", `{"messages":[],"model":"m","stream":false,"detach":true,"plan":{},"temperature":1,"made_up":1,
			"retry":null}`, ``, "model", "stream", "detach", "plan", "temperature", "unknown(1)")
	f("a stream is what there is", `{"messages":[],"stream":true}`, ``)
	f("escapes", `{"messages":[{"role":"user","content":"\ud83d\ude00 \"\n"}]}`, `
			user messages[0]
				text messages[0].content "😀 \"\n"
`)
}

func TestCyclsConversation(t *testing.T) {
	t.Parallel()
	const part = `{"messages":[{"role":"user","content":"x"},{"role":"assistant","parts":[{"type":"session_id","session_id":"from-part"}]}]`
	f := func(query, body, want string) {
		t.Helper()
		r := cyclsDecodeRequest(t, Inbound{Query: query, Body: []byte(body)})
		if r.ConversationID != want {
			t.Errorf("%s %s: got %q, want %q", query, body, r.ConversationID, want)
		}
	}
	f("", part+`}`, "from-part")
	f("", part+`,"session_id":"from-body"}`, "from-body")
	f("id=from%20query&x=1", part+`,"session_id":"from-body"}`, "from query")
	f("id=", part+`}`, "from-part")
	f("%zz&id=q", `{"messages":[]}`, "q")

	r := cyclsDecodeRequest(t, Inbound{Query: "id=a%26b", Body: []byte(`{"messages":[]}`)})
	if got, want := cyclsProtocol.Query(r, &Agent{}), "id=a%26b"; got != want {
		t.Errorf("query: got %q, want %q", got, want)
	}
	r.Face = Lookup("chat")
	if got := cyclsProtocol.Query(r, &Agent{}); got != "" {
		t.Errorf("query of another protocol's request: %q", got)
	}
}

// The server keeps conversations by their ids and its newer web clients send
// nothing but the newest message beside one: an agent of another protocol never
// hears the rest.
func TestCyclsConversationIsNamedAsLost(t *testing.T) {
	t.Parallel()
	r := cyclsDecodeRequest(t, Inbound{Query: "id=c9", Body: []byte(`{"messages":[{"role":"user","content":"x"}]}`)})
	if got := r.Ledger.Names(); !reflect.DeepEqual(got, []string{"id"}) {
		t.Errorf("ledger: got %v, want [id]", got)
	}
}

// The server hands content to its agent as it came. What only that agent may
// know passes to it, and is refused by name for every other.
func TestCyclsUnknownContentPart(t *testing.T) {
	t.Parallel()
	const body = `{"messages":[{"role":"user","content":[{"type":"text","text":"x"},{"type":"hologram","at":1.0}]}]}`
	got, err := Lookup("cycls").SpliceRequest(nil, cyclsDecodeRequest(t, Inbound{Body: []byte(body)}), &Agent{Name: "demo"})
	if err != nil || string(got) != body {
		t.Errorf("to a Cycls agent: got %s, %v", got, err)
	}
	for _, p := range Protocols() {
		if p.Name == "cycls" {
			continue
		}
		_, err := p.Encode(nil, cyclsDecodeRequest(t, Inbound{Body: []byte(body)}), &Agent{Name: "demo"}, true)
		if err == nil || err.Status != 400 || err.Param != "messages[0].content[1].type" {
			t.Errorf("to %s: got %+v, want a 400 on messages[0].content[1].type", p.Name, err)
		}
	}
}

func TestCyclsAccept(t *testing.T) {
	t.Parallel()
	for accept, want := range map[string]bool{
		"": true, "*/*": true, "text/event-stream": true, "application/json": false, "Application/JSON; charset=utf-8": false,
		"application/json, text/event-stream": true, "application/json, */*": false, "text/html, */*": true,
	} {
		if got := cyclsDecodeRequest(t, Inbound{Accept: accept, Body: []byte(`{"messages":[]}`)}).Stream; got != want {
			t.Errorf("%q: got %v, want %v", accept, got, want)
		}
	}
}

func TestCyclsRequestErrors(t *testing.T) {
	t.Parallel()
	f := func(body, param string) {
		t.Helper()
		_, err := Lookup("cycls").DecodeRequest(&Inbound{Body: []byte(body)})
		switch {
		case err == nil:
			t.Errorf("%s: no error", body)
		case err.Status != 400 || err.Param != param || !strings.Contains(err.Message, "'"+param+"'"):
			t.Errorf("%s: got %d %s %q, want 400 %s", body, err.Status, err.Param, err.Message, param)
		}
	}
	f(`[]`, "messages")
	f(`"x"`, "messages")
	f(`{}`, "messages")
	f(`{"messages":null}`, "messages")
	f(`{"messages":"x"}`, "messages")
	f(`{"messages":{}}`, "messages")
	f(`{"messages":[1]}`, "messages[0]")
	f(`{"messages":[{"content":"x"}]}`, "messages[0].role")
	f(`{"messages":[{"role":"wizard","content":"x"}]}`, "messages[0].role")
	f(`{"messages":[{"role":"user","content":5}]}`, "messages[0].content")
	f(`{"messages":[{"role":"user","content":{"a":1}}]}`, "messages[0].content")
	f(`{"messages":[{"role":"user","content":[5]}]}`, "messages[0].content[0]")
	f(`{"messages":[{"role":"user","content":[{"text":"x"}]}]}`, "messages[0].content[0].type")
	f(`{"messages":[{"role":"user","content":[{"type":"image"}]}]}`, "messages[0].content[0].image")
	f(`{"messages":[{"role":"user","content":[{"type":"image","image":5}]}]}`, "messages[0].content[0].image")
	f(`{"messages":[{"role":"user","content":[{"type":"image_url","image_url":{"url":5}}]}]}`, "messages[0].content[0].image_url.url")
	f(`{"messages":[{"role":"user","content":[{"type":"file"}]}]}`, "messages[0].content[0].file")
	f(`{"messages":[{"role":"user","parts":"x"}]}`, "messages[0].parts")
	f(`{"messages":[{"role":"tool","content":"x"}]}`, "messages[0].tool_call_id")
	f(`{"messages":[],"session_id":5}`, "session_id")
}

func TestCyclsEncodeRequest(t *testing.T) {
	t.Parallel()
	text := func(s string) Block { return Block{Type: BlockText, Text: s} }
	f := func(name string, r *Request, want string, lost ...string) {
		t.Helper()
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, err := Lookup("cycls").EncodeRequest([]byte("before"), r, &Agent{Name: "demo"}, true)
			if err != nil {
				t.Fatal(err)
			}
			if want := `before{"messages":[` + want + `]}`; string(got) != want {
				t.Errorf("\ngot  %s\nwant %s", got, want)
			}
			if got := r.Ledger.Names(); len(got)+len(lost) > 0 && !reflect.DeepEqual(got, lost) {
				t.Errorf("ledger: got %v, want %v", got, lost)
			}
		})
	}
	f("empty", &Request{}, ``)
	f("texts are strings", &Request{Model: "m", Turns: []Turn{
		{Role: RoleDeveloper, Blocks: []Block{text("Be \"brief\".")}},
		{Role: RoleUser, Blocks: []Block{text("Hello "), text("wörld\n")}},
		{Role: RoleAssistant, Blocks: []Block{text("Hi"), {Type: BlockRefusal, Text: "!"}}},
		{Role: RoleSystem, Blocks: []Block{text("Stay.")}},
		{Role: RoleUser, Blocks: []Block{text("")}},
	}}, `{"role":"system","content":"Be \"brief\"."},{"role":"user","content":"Hello wörld\n"},{"role":"assistant","content":"Hi!"},`+
		`{"role":"system","content":"Stay."},{"role":"user","content":""}`)
	f("images and files", &Request{Turns: []Turn{{Blocks: []Block{
		text("a"), text("b"), {Type: BlockImage, URL: "https://e.com/a.png"}, text("c"),
		{Type: BlockFile, Data: "AA==", MIME: "application/pdf", Name: "x.pdf", Path: AtIndex("messages", 0).Sub("content", 4)},
		{Type: BlockImage, Data: "AA==", Detail: "low", Path: AtIndex("messages", 0).Sub("content", 5)},
	}}}}, `{"role":"user","content":[{"type":"text","text":"ab"},{"type":"image","image":"https://e.com/a.png"},{"type":"text","text":"c"},`+
		`{"type":"file","file":"data:application/pdf;base64,AA=="},{"type":"image","image":"data:application/octet-stream;base64,AA=="}]}`,
		"messages[0].content[4].filename", "messages[0].content[5].detail")
	f("an answer of the past as Markdown", &Request{Turns: []Turn{{Role: RoleAssistant, Blocks: []Block{
		{Type: BlockReasoning, Text: "r", Path: AtIndex("messages", 0).Sub("parts", 0)},
		text("See:"), {Type: BlockCode, Text: "x=1", Language: "python"}, {Type: BlockTable, Headers: `["A"]`, Rows: []string{`["1"]`}},
		text("and"), {Type: BlockImage, URL: "https://e.com/a.png", Alt: "A"},
		{Type: BlockStatus, Text: "s", Path: AtIndex("messages", 0).Sub("parts", 6)},
	}}, {Role: RoleAssistant, Blocks: []Block{{Type: BlockReasoning, Text: "only", Path: AtIndex("messages", 1).Sub("parts", 0)}}}}},
		`{"role":"assistant","content":"See:\n\n`+"````python\\nx=1\\n````"+`\n\n| A |\n| --- |\n| 1 |\n\nand\n\n![A](https://e.com/a.png)"}`,
		"messages[0].parts[0]", "messages[0].parts[6]", "messages[1].parts[0]")
	f("calls and results", &Request{Turns: []Turn{
		{Role: RoleUser, Name: "Ann", Path: AtIndex("messages", 0), Blocks: []Block{text("Weather?")}},
		{Role: RoleAssistant, Blocks: []Block{text("Let me see."), {Type: BlockToolCall, Name: "get_weather", CallID: "c1", Text: `{"city":"Paris"}`,
			Path: AtIndex("messages", 1).Sub("tool_calls", 0)}}},
		{Role: RoleTool, Blocks: []Block{{Type: BlockToolResult, CallID: "c1", Text: "18 °C", Path: AtIndex("messages", 2)}}},
		{Role: RoleTool, Blocks: []Block{{Type: BlockToolResult, CallID: "c2", IsError: true, Parts: []Block{text("see "), {Type: BlockImage, URL: "https://e.com/x"}},
			Path: AtIndex("messages", 3)}}},
	}}, `{"role":"user","content":"Weather?"},{"role":"assistant","content":"Let me see.\n\nCalled the tool get_weather (c1): {\"city\":\"Paris\"}"},`+
		`{"role":"user","content":"Result of the tool get_weather (c1): 18 °C"},`+
		`{"role":"user","content":[{"type":"text","text":"Error from the tool (c2): see "},{"type":"image","image":"https://e.com/x"}]}`,
		"messages[0].name")
	f("settings and tools", &Request{
		Turns:      []Turn{{Blocks: []Block{text("x")}}},
		Tools:      []Tool{{Name: "f", Path: AtIndex("tools", 0)}},
		ToolChoice: ToolChoice{Mode: ChoiceAuto, Path: At("tool_choice")},
		Format:     Format{Kind: FormatText},
		Settings: []Setting{{ParamTemperature, "0.5", At("temperature")}, {ParamN, "1", At("n")}, {ParamSeed, "7", At("seed")},
			{ParamModalities, `[ "text" ]`, At("modalities")}, {ParamLogprobs, "false", At("logprobs")}},
	}, `{"role":"user","content":"x"}`, "temperature", "seed", "tools[0]")
}

func TestCyclsRefuses(t *testing.T) {
	t.Parallel()
	f := func(param string, r *Request) {
		t.Helper()
		_, err := Lookup("cycls").EncodeRequest(nil, r, &Agent{Name: "demo"}, true)
		if err == nil || err.Status != 400 || err.Param != param || err.Code != "unsupported_parameter" {
			t.Errorf("%s: got %+v", param, err)
		}
	}
	at := AtIndex("messages", 0).Sub("content", 1)
	f("tool_choice", &Request{ToolChoice: ToolChoice{Mode: ChoiceRequired, Path: At("tool_choice")}})
	f("tool_choice", &Request{ToolChoice: ToolChoice{Mode: ChoiceNamed, Name: "f", Path: At("tool_choice")}})
	f("tool_choice", &Request{ToolChoice: ToolChoice{Mode: ChoiceAllowed, Forced: true, Path: At("tool_choice")}})
	f("response_format", &Request{Format: Format{Kind: FormatJSONObject, Path: At("response_format")}})
	f("text.format", &Request{Format: Format{Kind: FormatJSONSchema, Path: At("text").In("format")}})
	f("tools[1]", &Request{Tools: []Tool{{Name: "f"}, {Kind: ToolBuiltin, Name: "web_search", Path: AtIndex("tools", 1)}}})
	f("n", &Request{Settings: []Setting{{ParamN, "2", At("n")}}})
	f("audio", &Request{Settings: []Setting{{ParamAudio, "{}", At("audio")}}})
	f("modalities", &Request{Settings: []Setting{{ParamModalities, `["text","audio"]`, At("modalities")}}})
	f("prompt", &Request{Settings: []Setting{{ParamPrompt, "{}", At("prompt")}}})
	f("messages[0].content[1]", &Request{Turns: []Turn{{Blocks: []Block{{Type: BlockAudio, Data: "AA==", Path: at}}}}})
	f("messages[0].content[1]", &Request{Turns: []Turn{{Blocks: []Block{{Type: BlockImage, FileID: "file-1", Path: at}}}}})
	f("messages[0].content[1]", &Request{Turns: []Turn{{Blocks: []Block{{Type: BlockFile, FileID: "file-1", Path: at}}}}})
}

func TestCyclsSplice(t *testing.T) {
	t.Parallel()
	f := func(prompt, body, want string) {
		t.Helper()
		r := cyclsDecodeRequest(t, Inbound{Body: []byte(body)})
		got, err := Lookup("cycls").SpliceRequest(nil, r, &Agent{SystemPrompt: prompt})
		if err != nil || string(got) != want || !jsonx.Valid(got) {
			t.Errorf("got %s, %v, want %s", got, err, want)
		}
	}
	f("", ` {"a" : 1e400, "messages": [ {"role":"user","content":"x","id":9007199254740993} ]}`,
		` {"a" : 1e400, "messages": [ {"role":"user","content":"x","id":9007199254740993} ]}`)
	f(`Be "brief".`, `{"messages": [ {"role":"user","content":"x"} ]}`,
		`{"messages": [{"role":"system","content":"Be \"brief\"."}, {"role":"user","content":"x"} ]}`)
	f("Be brief.", `{"messages": []}`, `{"messages": [{"role":"system","content":"Be brief."}]}`)
	f("Be brief.", `{"messages":[{"role":"system","content":"x"}]}`, `{"messages":[{"role":"system","content":"x"}]}`)
}

// TestCyclsWorkspacePathsGoNowhereElse refuses, with the field's name, files that
// only the agent that they were uploaded to could read.
func TestCyclsWorkspacePathsGoNowhereElse(t *testing.T) {
	t.Parallel()
	f := func(message, field string) {
		t.Helper()
		for _, p := range registry {
			body := []byte(`{"messages":[` + message + `]}`)
			r := cyclsDecodeRequest(t, Inbound{Body: body})
			a := &Agent{Name: "it", Options: map[string]string{}}
			if p.Name == "cycls" {
				if out, e := p.SpliceRequest(nil, r, a); e != nil || string(out) != string(body) {
					t.Errorf("%s: %v %s", message, e, out)
				}
				continue
			}
			_, e := p.Encode(nil, r, a, true)
			switch {
			case field == "" && e != nil && e.Code != "unsupported_parameter":
				t.Errorf("%s to %s: %v", message, p.Name, e)
			case field == "" && e != nil && (p.Name == "chat" || p.Name == "responses"):
				t.Errorf("%s to %s: %v", message, p.Name, e)
			case field != "" && (e == nil || e.Status != 400 || e.Param != field):
				t.Errorf("%s to %s: %v, want a 400 that names %s", message, p.Name, e, field)
			}
		}
	}
	f(`{"role":"user","content":[{"type":"text","text":"look"},{"type":"image","image":"attachments/1a2b3c4d-p.png"}]}`, "messages[0].content[1]")
	f(`{"role":"user","content":[{"type":"file","file":"attachments/1a2b3c4d-p.pdf"}]}`, "messages[0].content[0]")
	f(`{"role":"user","content":"look","attachments":[{"name":"p.png","size":123,"type":"image/png","url":"","path":"attachments/1a2b3c4d-p.png"}]}`, "messages[0].attachments[0]")
	f(`{"role":"user","content":[{"type":"image","image":"/public/a.png"}]}`, "messages[0].content[0]")
	f(`{"role":"user","content":[{"type":"image","image":"https://example.com/a.png"}]}`, "")
	f(`{"role":"user","content":[{"type":"image","image":"data:image/png;base64,AA=="}]}`, "")
	// What an agent once showed is a word of its answer, not a file to read.
	f(`{"role":"user","content":"x"},{"role":"assistant","parts":[{"type":"image","src":"/public/a.png"}]},{"role":"user","content":"y"}`, "")
}

// TestCyclsExtrasAreInTheLedger names what newer web clients send and no other
// backend understands; a Cycls backend gets all of it.
func TestCyclsExtrasAreInTheLedger(t *testing.T) {
	t.Parallel()
	names := []string{"disabled_tools", "approvals", "connectors", "auto", "detach", "selection", "folder", "regenerate", "retry", "declined", "plan"}
	body := `{"messages":[{"role":"user","content":"x"}]`
	for _, n := range names {
		body += `,"` + n + `":[1.0,{"k":9007199254740993}]`
	}
	body += "}"
	r := cyclsDecodeRequest(t, Inbound{Body: []byte(body)})
	if got := r.Ledger.Names(); !reflect.DeepEqual(got, names) {
		t.Errorf("got %v, want %v", got, names)
	}
	if out, e := Lookup("cycls").SpliceRequest(nil, r, &Agent{}); e != nil || string(out) != body {
		t.Errorf("%v %s", e, out)
	}
}
