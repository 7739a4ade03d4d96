package translate

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"github.com/tidwall/gjson"

	"github.com/dragoman-proxy/dragoman/internal/jsonx"
	"github.com/dragoman-proxy/dragoman/internal/sse"
)

func chatTestSetup(r *Request) *Setup {
	return &Setup{
		Request: r, Agent: &Agent{Name: "support"}, Seed: strings.Repeat("5eed", 8), Created: 1700000000,
		Now: func() time.Time { return time.Unix(1700000000, 0) }, Ledger: &Ledger{},
	}
}

func chatDecode(t *testing.T, body string) *Request {
	t.Helper()
	r, err := chatFace{}.DecodeRequest(&Inbound{Body: []byte(body)})
	if err != nil {
		t.Fatalf("decode %s: %v", body, err)
	}
	return r
}

func TestChatRequestDecodesEveryField(t *testing.T) {
	t.Parallel()
	r := chatDecode(t, `{
		"model":"support","stream":true,"stream_options":{"include_usage":true,"include_obfuscation":false},"store":true,
		"messages":[
			{"role":"system","content":"Be brief."},
			{"role":"developer","content":[{"type":"text","text":"And kind."}]},
			{"role":"user","name":"bob","content":[
				{"type":"text","text":"Look:"},
				{"type":"image_url","image_url":{"url":"https://x.test/a.png","detail":"low"}},
				{"type":"image_url","image_url":"data:image/png;base64,AA=="},
				{"type":"input_audio","input_audio":{"data":"QUJD","format":"wav"}},
				{"type":"file","file":{"filename":"a.pdf","file_data":"data:application/pdf;base64,QUJD"}},
				{"type":"file","file":{"file_id":"file-1"}}]},
			{"role":"assistant","content":"Hm","reasoning_content":"thinking","refusal":"no","tool_calls":[
				{"id":"call_1","type":"function","function":{"name":"get_weather","arguments":"{}"}},
				{"id":"call_2","type":"custom","custom":{"name":"run_code","input":"print()"}}]},
			{"role":"tool","tool_call_id":"call_1","content":"18 °C"},
			{"role":"tool","tool_call_id":"call_2","content":[{"type":"text","text":"a"},{"type":"text","text":"b"}]}],
		"max_completion_tokens":100,"max_tokens":5,"temperature":1.0,"top_p":0.5,"stop":["a"],"seed":9007199254740993,"n":1,
		"modalities":["text"],"logprobs":true,"top_logprobs":3,"metadata":{"a":"b"},"reasoning_effort":"low","verbosity":"high",
		"tools":[
			{"type":"function","function":{"name":"get_weather","description":"d","parameters":{"type":"object"},"strict":true}},
			{"type":"function","function":{"name":"plain"}},
			{"type":"custom","custom":{"name":"run_code","format":{"type":"grammar","grammar":{"definition":"x","syntax":"lark"}}}},
			{"type":"web_search"}],
		"tool_choice":{"type":"allowed_tools","allowed_tools":{"mode":"required","tools":[{"type":"function","function":{"name":"plain"}}]}},
		"response_format":{"type":"json_schema","json_schema":{"name":"s","schema":{"type":"object"},"strict":false}},
		"made_up":1,"user":null}`)

	for _, c := range []struct {
		name      string
		got, want any
	}{
		{"model", r.Model, "support"},
		{"agent", r.Agent, "support"},
		{"agent path", r.AgentPath.String(), "model"},
		{"stream", r.Stream, true},
		{"include usage", r.IncludeUsage, true},
		{"store", r.Store, Yes},
		{"turns", len(r.Turns), 6},
		{"developer", r.Turns[1].Role, RoleDeveloper},
		{"name", r.Turns[2].Name, "bob"},
		{"image", r.Turns[2].Blocks[1].URL, "https://x.test/a.png"},
		{"detail", r.Turns[2].Blocks[1].Detail, "low"},
		{"flat image", r.Turns[2].Blocks[2].URL, "data:image/png;base64,AA=="},
		{"audio", r.Turns[2].Blocks[3].Data + r.Turns[2].Blocks[3].MIME, "QUJDaudio/wav"},
		{"file", r.Turns[2].Blocks[4].Name + r.Turns[2].Blocks[4].MIME + r.Turns[2].Blocks[4].Data, "a.pdfapplication/pdfQUJD"},
		{"file id", r.Turns[2].Blocks[5].FileID, "file-1"},
		{"part path", r.Turns[2].Blocks[5].Path.String(), "messages[2].content[5]"},
		{"reasoning first", r.Turns[3].Blocks[0].Type, BlockReasoning},
		{"refusal", r.Turns[3].Blocks[2].Text, "no"},
		{"call", r.Turns[3].Blocks[3].CallID + r.Turns[3].Blocks[3].Name + r.Turns[3].Blocks[3].Text, "call_1get_weather{}"},
		{"custom call", r.Turns[3].Blocks[4].Custom, true},
		{"call path", r.Turns[3].Blocks[4].Path.String(), "messages[3].tool_calls[1]"},
		{"result", r.Turns[4].Blocks[0].Text, "18 °C"},
		{"result name", r.Turns[4].Blocks[0].Name, "get_weather"},
		{"custom result", r.Turns[5].Blocks[0].Custom, true},
		{"joined result", r.Turns[5].Blocks[0].Text, "a\nb"},
		{"strict", r.Tools[0].Strict, Yes},
		{"absent strict", r.Tools[1].Strict, Unset},
		{"absent strict is not strict in Chat", r.Tools[1].StrictByDefault, false},
		{"grammar", r.Tools[2].Grammar, ToolGrammar{"grammar", "lark", "x"}},
		{"built-in", r.Tools[3].Kind, ToolBuiltin},
		{"choice", r.ToolChoice.Mode, ChoiceAllowed},
		{"forced", r.ToolChoice.Forces(), true},
		{"allowed", r.ToolChoice.Tools[0].Name, "plain"},
		{"format", r.Format.Kind, FormatJSONSchema},
		{"format strict", r.Format.Strict, No},
		{"unknown", strings.Join(r.Ledger.Names(), ","), "unknown(1)"},
	} {
		if c.got != c.want {
			t.Errorf("%s: got %v, want %v", c.name, c.got, c.want)
		}
	}
	for _, c := range []struct {
		p    Param
		want string
	}{
		{ParamMaxTokens, "100"}, {ParamTemperature, "1.0"}, {ParamSeed, "9007199254740993"}, {ParamStop, `["a"]`},
		{ParamTopLogprobs, "3"}, {ParamN, ""}, {ParamModalities, ""}, {ParamUser, ""}, {ParamReasoningEffort, `"low"`},
	} {
		if got, _ := r.Setting(c.p); got != c.want {
			t.Errorf("setting %d: got %q, want %q", c.p, got, c.want)
		}
	}
}

func TestChatRequestNamesTheFieldAtFault(t *testing.T) {
	t.Parallel()
	const user = `"messages":[{"role":"user","content":"a"}]`
	f := func(body, param string) {
		t.Helper()
		_, err := chatFace{}.DecodeRequest(&Inbound{Body: []byte(body)})
		switch {
		case err == nil:
			t.Errorf("%s: got no error, want one for %q", body, param)
		case err.Param != param || err.Status != 400 || param != "" && !strings.Contains(err.Message, param):
			t.Errorf("%s: got %d %q %q, want 400 for %q", body, err.Status, err.Param, err.Message, param)
		}
	}
	f(`[]`, "")
	f(`{}`, "messages")
	f(`{"messages":null}`, "messages")
	f(`{"messages":[]}`, "messages")
	f(`{"messages":"hi"}`, "messages")
	f(`{"model":5,`+user+`}`, "model")
	f(`{"stream":"yes",`+user+`}`, "stream")
	f(`{"stream_options":{"include_usage":1},`+user+`}`, "stream_options.include_usage")
	f(`{"temperature":"hot",`+user+`}`, "temperature")
	f(`{"max_tokens":1.5,`+user+`}`, "max_tokens")
	f(`{"stop":["a",1],`+user+`}`, "stop[1]")
	f(`{"messages":["hi"]}`, "messages[0]")
	f(`{"messages":[{"content":"a"}]}`, "messages[0].role")
	f(`{"messages":[{"role":"robot","content":"a"}]}`, "messages[0].role")
	f(`{"messages":[{"role":"user"}]}`, "messages[0].content")
	f(`{"messages":[{"role":"user","content":5}]}`, "messages[0].content")
	f(`{"messages":[{"role":"user","content":[{"text":"a"}]}]}`, "messages[0].content[0].type")
	f(`{"messages":[{"role":"user","content":[{"type":5}]}]}`, "messages[0].content[0].type")
	f(`{"messages":[{"role":"user","content":[{"type":"image_url","image_url":""}]}]}`, "messages[0].content[0].image_url")
	f(`{"messages":[{"role":"user","content":[{"type":"image_url","image_url":{"url":1}}]}]}`, "messages[0].content[0].image_url.url")
	f(`{"messages":[{"role":"user","content":[{"type":"image_url","image_url":{"url":"u","detail":1}}]}]}`, "messages[0].content[0].image_url.detail")
	f(`{"messages":[{"role":"user","content":[{"type":"file","file":{"file_data":1}}]}]}`, "messages[0].content[0].file.file_data")
	f(`{"messages":[{"role":"user","content":[{"type":"input_audio","input_audio":{"data":1}}]}]}`, "messages[0].content[0].input_audio.data")
	f(`{"messages":[{"role":"assistant","tool_calls":[{"id":1,"function":{"name":"f"}}]}]}`, "messages[0].tool_calls[0].id")
	f(`{"tools":[{"type":"function","function":{"name":"f","description":1}}],`+user+`}`, "tools[0].function.description")
	f(`{"tools":[{"type":"custom","custom":{"name":"f","format":1}}],`+user+`}`, "tools[0].custom.format")
	f(`{"tool_choice":{"type":"allowed_tools","allowed_tools":{"mode":"auto","tools":1}},`+user+`}`, "tool_choice.allowed_tools.tools")
	f(`{"tool_choice":{"type":"allowed_tools","allowed_tools":{"mode":"auto","tools":[{"type":"function"}]}},`+user+`}`, "tool_choice.allowed_tools.tools[0].function.name")
	f(`{"response_format":{"type":"json_schema","json_schema":{"name":1}},`+user+`}`, "response_format.json_schema.name")
	f(`{"response_format":{"type":"json_schema","json_schema":{"name":"n","strict":"no"}},`+user+`}`, "response_format.json_schema.strict")
	f(`{"seed":1.5,`+user+`}`, "seed")
	f(`{"messages":[{"role":"user","content":[{"type":"text"}]}]}`, "messages[0].content[0].text")
	f(`{"messages":[{"role":"user","content":[{"type":"image_url","image_url":{}}]}]}`, "messages[0].content[0].image_url.url")
	f(`{"messages":[{"role":"assistant","tool_calls":[{"function":{"name":"f"}}]}]}`, "messages[0].tool_calls[0].id")
	f(`{"messages":[{"role":"assistant","tool_calls":[{"id":"1","function":{}}]}]}`, "messages[0].tool_calls[0].function.name")
	f(`{"messages":[{"role":"tool","content":"a"}]}`, "messages[0].tool_call_id")
	f(`{"messages":[{"role":"function","name":"f","content":"a"}]}`, "messages[0].name")
	f(`{"tools":[{"function":{"name":"f"}}],`+user+`}`, "tools[0].type")
	f(`{"tools":[{"type":"function","function":{}}],`+user+`}`, "tools[0].function.name")
	f(`{"tool_choice":"maybe",`+user+`}`, "tool_choice")
	f(`{"response_format":{"type":5},`+user+`}`, "response_format.type")
}

// What only a vendor's server knows goes through to it, and nowhere else.
func TestChatVendorsPartGoesThrough(t *testing.T) {
	t.Parallel()
	const body = `{"messages":[{"role":"user","content":[{"type":"video_url","video_url":{"url":"u"}}]}],"seed":18446744073709551615}`
	got, err := chatBackend{}.SpliceRequest(nil, chatDecode(t, body), &Agent{})
	if err != nil || string(got) != body {
		t.Errorf("got %s, %v, want %s", got, err, body)
	}
	for _, p := range Protocols() {
		if p == &chatProtocol {
			continue
		}
		_, err := p.Encode(nil, chatDecode(t, body), &Agent{Name: "a"}, false)
		if err == nil || err.Status != 400 || err.Param != "messages[0].content[0].type" {
			t.Errorf("%s: got %v, want a 400 for the part", p.Name, err)
		}
	}
}

// A null counts as absent, and a call that is not the assistant's is none.
func TestChatRequestLeavesOut(t *testing.T) {
	t.Parallel()
	r := chatDecode(t, `{"messages":[{"role":"user","content":"a","tool_calls":[{"id":"1","function":{"name":"f"}}]}],
		"response_format":{"type":"json_schema","json_schema":{"name":"n","schema":null,"strict":null,"description":null}},
		"tools":[{"type":"custom","custom":{"name":"f","format":null,"description":null}}]}`)
	if got := len(r.Turns[0].Blocks); got != 1 {
		t.Errorf("got %d blocks of the user's, want 1", got)
	}
	if got, want := strings.Join(r.Ledger.Names(), ","), "messages[0].tool_calls"; got != want {
		t.Errorf("ledger: got %q, want %q", got, want)
	}
}

func TestChatEncodeRequest(t *testing.T) {
	t.Parallel()
	f := func(name, body string, a *Agent, stream bool, want, ledger string) {
		t.Helper()
		r := chatDecode(t, body)
		r.Ledger = Ledger{}
		got, err := chatProtocol.Encode(nil, r, a, stream)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			return
		}
		if string(got) != want {
			t.Errorf("%s: got\n%s\nwant\n%s", name, got, want)
		}
		if !jsonx.Valid(got) {
			t.Errorf("%s: not JSON: %s", name, got)
		}
		if got := strings.Join(r.Ledger.Names(), ","); got != ledger {
			t.Errorf("%s: ledger got %q, want %q", name, got, ledger)
		}
	}
	plain := &Agent{Name: "a"}
	openai := &Agent{Name: "a", Model: "gpt", Options: map[string]string{"openai": "true", "reasoning_history": "true"}}
	quiet := &Agent{Name: "a", Options: map[string]string{"request_usage": "false"}}

	f("text parts become one string", `{"model":"m","messages":[{"role":"developer","content":"x"},{"role":"user","name":"bob","content":[{"type":"text","text":"a"},{"type":"text","text":"b"}]}]}`, plain, false,
		`{"model":"m","messages":[{"role":"system","content":"x"},{"role":"user","name":"bob","content":"a\nb"}],"stream":false}`, "")
	f("OpenAI's own words", `{"messages":[{"role":"developer","content":"x"},{"role":"assistant","content":"y","reasoning_content":"r"}],"max_tokens":7}`, openai, true,
		`{"model":"gpt","messages":[{"role":"developer","content":"x"},{"role":"assistant","content":"y","reasoning_content":"r"}],"stream":true,"stream_options":{"include_usage":true},"max_completion_tokens":7}`, "")
	f("reasoning stays behind", `{"messages":[{"role":"user","content":"x"},{"role":"assistant","content":"y","reasoning_content":"r"}],"store":true}`, quiet, true,
		`{"model":"a","messages":[{"role":"user","content":"x"},{"role":"assistant","content":"y"}],"stream":true}`, "messages[1].reasoning_content,store")
	f("parts that are more than text", `{"messages":[{"role":"user","content":[{"type":"text","text":"a"},{"type":"image_url","image_url":{"url":"u","detail":"low"}},{"type":"input_audio","input_audio":{"data":"QQ==","format":"mp3"}},{"type":"file","file":{"filename":"f.pdf","file_data":"data:application/pdf;base64,QQ=="}}]}]}`, plain, false,
		`{"model":"a","messages":[{"role":"user","content":[{"type":"text","text":"a"},{"type":"image_url","image_url":{"url":"u","detail":"low"}},{"type":"input_audio","input_audio":{"data":"QQ==","format":"mp3"}},{"type":"file","file":{"filename":"f.pdf","file_data":"data:application/pdf;base64,QQ=="}}]}],"stream":false}`, "")
	f("calls and results", `{"messages":[{"role":"user","content":"x"},{"role":"assistant","content":null,"tool_calls":[{"id":"1","type":"function","function":{"name":"f","arguments":"{}"}},{"id":"2","type":"custom","custom":{"name":"g","input":"z"}}]},{"role":"tool","tool_call_id":"2","content":"two"},{"role":"tool","tool_call_id":"1","content":"one"}]}`, plain, false,
		`{"model":"a","messages":[{"role":"user","content":"x"},{"role":"assistant","content":null,"tool_calls":[{"id":"1","type":"function","function":{"name":"f","arguments":"{}"}},{"id":"2","type":"custom","custom":{"name":"g","input":"z"}}]},{"role":"tool","tool_call_id":"1","content":"one"},{"role":"tool","tool_call_id":"2","content":"two"}],"stream":false}`, "")
	f("settings by value", `{"messages":[{"role":"user","content":"x"}],"temperature":1.0,"seed":9007199254740993,"stop":["a", "b"],"logprobs":true,"top_logprobs":2,"parallel_tool_calls":false,"tool_choice":"auto"}`, plain, false,
		`{"model":"a","messages":[{"role":"user","content":"x"}],"stream":false,"temperature":1.0,"seed":9007199254740993,"stop":["a","b"],"logprobs":true,"top_logprobs":2}`, "")
	f("tools", `{"messages":[{"role":"user","content":"x"}],"tools":[{"type":"function","function":{"name":"f","description":"d","parameters":{"type": "object"},"strict":true}},{"type":"custom","custom":{"name":"g","format":{"type":"grammar","grammar":{"definition":"d","syntax":"regex"}}}}],"tool_choice":{"type":"function","function":{"name":"f"}},"parallel_tool_calls":true}`, plain, false,
		`{"model":"a","messages":[{"role":"user","content":"x"}],"stream":false,"parallel_tool_calls":true,"tools":[{"type":"function","function":{"name":"f","description":"d","parameters":{"type":"object"},"strict":true}},{"type":"custom","custom":{"name":"g","format":{"type":"grammar","grammar":{"definition":"d","syntax":"regex"}}}}],"tool_choice":{"type":"function","function":{"name":"f"}}}`, "")
	f("format", `{"messages":[{"role":"user","content":"x"}],"response_format":{"type":"json_schema","json_schema":{"name":"s","description":"d","schema":{"a": 1},"strict":true}}}`, plain, false,
		`{"model":"a","messages":[{"role":"user","content":"x"}],"stream":false,"response_format":{"type":"json_schema","json_schema":{"name":"s","description":"d","schema":{"a":1},"strict":true}}}`, "")
	f("deprecated functions become tools", `{"messages":[{"role":"user","content":"x"},{"role":"assistant","content":null,"function_call":{"name":"f","arguments":"{}"}},{"role":"function","name":"f","content":"one"}],"functions":[{"name":"f","parameters":{}}],"function_call":{"name":"f"}}`, plain, false,
		`{"model":"a","messages":[{"role":"user","content":"x"},{"role":"assistant","content":null,"tool_calls":[{"id":"call_function_1","type":"function","function":{"name":"f","arguments":"{}"}}]},{"role":"tool","tool_call_id":"call_function_1","content":"one"}],"stream":false,"tools":[{"type":"function","function":{"name":"f","parameters":{}}}],"tool_choice":{"type":"function","function":{"name":"f"}}}`, "")
}

// Items of other protocols come one by one; Chat wants the calls of one turn in
// one message and their results right behind it.
func TestChatEncodeRequestPutsItemsInOrder(t *testing.T) {
	t.Parallel()
	text := func(role Role, s string) Turn {
		return Turn{Role: role, Blocks: []Block{{Type: BlockText, Text: s}}, Path: At("t")}
	}
	call := func(id string) Turn {
		return Turn{Role: RoleAssistant, Blocks: []Block{{Type: BlockToolCall, CallID: id, Name: "f", Text: "{}"}}}
	}
	result := func(id string) Turn {
		return Turn{Role: RoleTool, Blocks: []Block{{Type: BlockToolResult, CallID: id, Text: "r" + id}}, Path: AtIndex("input", 9)}
	}
	reasoning := Turn{Role: RoleAssistant, Blocks: []Block{{Type: BlockReasoning, Text: "hm", Path: AtIndex("input", 1)}}}
	f := func(name, want string, turns ...Turn) {
		t.Helper()
		got, err := chatBackend{}.EncodeRequest(nil, &Request{Turns: turns}, &Agent{Name: "a"}, false)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			return
		}
		got = bytes.TrimSuffix(bytes.TrimPrefix(got, []byte(`{"model":"a","messages":[`)), []byte(`],"stream":false}`))
		if string(got) != want {
			t.Errorf("%s: got\n%s\nwant\n%s", name, got, want)
		}
	}
	tc := func(ids ...string) string {
		s := `"tool_calls":[`
		for i, id := range ids {
			if i > 0 {
				s += ","
			}
			s += `{"id":"` + id + `","type":"function","function":{"name":"f","arguments":"{}"}}`
		}
		return s + `]}`
	}
	res := func(id string) string { return `,{"role":"tool","tool_call_id":"` + id + `","content":"r` + id + `"}` }

	f("calls merge", `{"role":"assistant","content":null,`+tc("1", "2")+res("1")+res("2"), call("1"), call("2"), result("1"), result("2"))
	f("text and calls merge", `{"role":"assistant","content":"a",`+tc("1")+res("1"), reasoning, text(RoleAssistant, "a"), call("1"), result("1"))
	f("a message between call and result waits", `{"role":"assistant","content":null,`+tc("1")+res("1")+`,{"role":"user","content":"u"}`,
		call("1"), text(RoleUser, "u"), result("1"))
	f("two texts stay two", `{"role":"assistant","content":"a"},{"role":"assistant","content":"b"}`, text(RoleAssistant, "a"), text(RoleAssistant, "b"))
	f("rounds stay apart", `{"role":"assistant","content":null,`+tc("1")+res("1")+`,{"role":"assistant","content":null,`+tc("2")+res("2"),
		call("1"), result("1"), call("2"), result("2"))
	f("equal ids go by order", `{"role":"assistant","content":null,`+tc("1")+res("1")+`,{"role":"assistant","content":null,`+tc("1")+res("1"),
		call("1"), result("1"), call("1"), result("1"))
	f("reasoning alone leaves no message", `{"role":"user","content":"u"}`, reasoning, text(RoleUser, "u"))

	_, err := chatBackend{}.EncodeRequest(nil, &Request{Turns: []Turn{result("1")}}, &Agent{Name: "a"}, false)
	if err == nil || err.Param != "input[9]" || err.Status != 400 {
		t.Errorf("a result without its call: got %v, want a 400 for input[9]", err)
	}
}

func TestChatEncodeRequestRefuses(t *testing.T) {
	t.Parallel()
	at := At("field")
	user := []Turn{{Role: RoleUser, Blocks: []Block{{Type: BlockText, Text: "a"}}}}
	for _, c := range []struct {
		name, want string
		r          *Request
	}{
		{"n", "field", &Request{Turns: user, Settings: []Setting{{ParamN, "2", at}}}},
		{"a prompt", "field", &Request{Turns: user, Settings: []Setting{{ParamPrompt, "{}", at}}}},
		{"built-in tools", "field.type", &Request{Turns: user, Tools: []Tool{{Kind: ToolBuiltin, Name: "web_search", Path: at}}}},
		{"an image by id", "field.file_id", &Request{Turns: []Turn{{Blocks: []Block{{Type: BlockImage, FileID: "file-1", Path: at}}}}}},
		{"a file by id", "field.file_id", &Request{Turns: []Turn{{Blocks: []Block{{Type: BlockFile, FileID: "file-1", Path: at}}}}}},
		{"a file by URL", "field.file_url", &Request{Turns: []Turn{{Blocks: []Block{{Type: BlockFile, URL: "https://x.test/a", Path: at}}}}}},
		{"an image as a result", "field", &Request{Turns: []Turn{
			{Role: RoleAssistant, Blocks: []Block{{Type: BlockToolCall, CallID: "1", Name: "f"}}},
			{Role: RoleTool, Blocks: []Block{{Type: BlockToolResult, CallID: "1", Parts: []Block{{Type: BlockImage, URL: "u", Path: at}}}}}}}},
	} {
		dst, err := chatBackend{}.EncodeRequest([]byte("kept"), c.r, &Agent{Name: "a"}, false)
		if err == nil || err.Status != 400 || err.Param != c.want {
			t.Errorf("%s: got %v, want a 400 for %s", c.name, err, c.want)
		}
		if string(dst) != "kept" {
			t.Errorf("%s: got %q in the buffer, want what was there", c.name, dst)
		}
	}
}

// An absent strict means strict in the Responses API and not in Chat.
func TestChatStrictTrap(t *testing.T) {
	t.Parallel()
	const closed = `{"type":"object","properties":{"a":{"type":"string"},"b":{"type":"array","items":{"type":"object","properties":{},"additionalProperties":false}}},"required":["a","b"],"additionalProperties":false}`
	f := func(tool Tool, want, ledger string) {
		t.Helper()
		tool.Name, tool.Path = "f", AtIndex("tools", 0)
		r := &Request{Tools: []Tool{tool}}
		got, err := chatBackend{}.EncodeRequest(nil, r, &Agent{Name: "a"}, false)
		if err != nil {
			t.Fatal(err)
		}
		word := gjson.GetBytes(got, "tools.0.function.strict").Raw
		if word != want {
			t.Errorf("%+v: got strict %q, want %q", tool, word, want)
		}
		if got := strings.Join(r.Ledger.Names(), ","); got != ledger {
			t.Errorf("%+v: ledger got %q, want %q", tool, got, ledger)
		}
	}
	byDefault := func(schema string) Tool { return Tool{Parameters: schema, StrictByDefault: true} }
	f(byDefault(closed), "true", "")
	f(byDefault(strings.Replace(closed, `,"b"]`, `]`, 1)), "", "tools[0].strict")
	f(byDefault(strings.Replace(closed, `"properties":{},"additionalProperties":false`, `"properties":{}`, 1)), "", "tools[0].strict")
	f(byDefault(`{"type":"object"}`), "", "tools[0].strict")
	f(byDefault(""), "", "tools[0].strict")
	f(Tool{Parameters: closed}, "", "")
	f(Tool{Parameters: `{"type":"object"}`, Strict: Yes}, "true", "")
	f(Tool{Parameters: closed, Strict: No}, "false", "")
}

func TestChatSplice(t *testing.T) {
	t.Parallel()
	f := func(name string, a *Agent, body, want string) {
		t.Helper()
		r := chatDecode(t, body)
		got, err := chatBackend{}.SpliceRequest(nil, r, a)
		if err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if string(got) != want {
			t.Errorf("%s: got\n%s\nwant\n%s", name, got, want)
		}
	}
	const body = ` {"z":1e400, "messages": [ {"role":"user","content":"a"} ],"model":"m" ,"stream":true}`
	f("nothing to do", &Agent{}, body, body)
	f("model", &Agent{Model: `b"c`}, body, ` {"z":1e400, "messages": [ {"role":"user","content":"a"} ],"model":"b\"c" ,"stream":true}`)
	f("defaults", &Agent{SystemPrompt: "S", MaxTokens: 9, Temperature: "0.10"}, body,
		` {"max_tokens":9,"temperature":0.10,"z":1e400, "messages": [{"role":"system","content":"S"}, {"role":"user","content":"a"} ],"model":"m" ,"stream":true}`)
	f("the client's word stands", &Agent{SystemPrompt: "S", MaxTokens: 9, Temperature: "0.10"},
		`{"messages":[{"role":"developer","content":"a"}],"max_completion_tokens":1,"temperature":2}`,
		`{"messages":[{"role":"developer","content":"a"}],"max_completion_tokens":1,"temperature":2}`)
	f("usage is asked for", &Agent{Options: map[string]string{"request_usage": "true", "openai": "true"}, MaxTokens: 3},
		`{"messages":[{"role":"user","content":"a"}],"stream":true,"stream_options":{"x":1}}`,
		`{"max_completion_tokens":3,"messages":[{"role":"user","content":"a"}],"stream":true,"stream_options":{"include_usage":true,"x":1}}`)
	f("the client asked itself", &Agent{Options: map[string]string{"request_usage": "true"}},
		`{"messages":[{"role":"user","content":"a"}],"stream":true,"stream_options":{"include_usage":true}}`,
		`{"messages":[{"role":"user","content":"a"}],"stream":true,"stream_options":{"include_usage":true}}`)
	f("no stream, no question", &Agent{Options: map[string]string{"request_usage": "true"}},
		`{"messages":[{"role":"user","content":"a"}]}`, `{"messages":[{"role":"user","content":"a"}]}`)
}

// The usage chunk that only we asked for does not reach the client, and nothing
// else is taken out.
func TestChatPassThroughHidesUnaskedUsage(t *testing.T) {
	t.Parallel()
	const usage = `data: {"id":"x","choices":[],"usage":{"prompt_tokens":1,"completion_tokens":2,"total_tokens":3}}` + "\n\n"
	head := ": hi\n\ndata: " + string(chatChunk(`{"content":"a"}`)) + "\n\n" + "data: {\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"stop\"}]}\r\n\r\n"
	const done = "data: [DONE]\n\n"
	f := func(option string, asked bool, want string) {
		t.Helper()
		s := chatTestSetup(&Request{Face: &chatProtocol, Stream: true, IncludeUsage: asked})
		s.Agent.Options = map[string]string{"request_usage": option}
		a := NewAnswer(s, &chatProtocol, true, true)
		got := a.Feed(nil, []byte(head+usage+done))
		got = a.End(got, nil)
		if string(got) != want {
			t.Errorf("request_usage %q, asked %v: got\n%s\nwant\n%s", option, asked, got, want)
		}
		if u := a.Usage(); u.Total != 3 || a.Err() != nil {
			t.Errorf("got usage %+v, error %v", u, a.Err())
		}
	}
	f("true", false, head+done)
	f("true", true, head+usage+done)
	f("", false, head+usage+done)
}

// A terminator without a finish_reason is told for what it is where the option
// insists on one.
func TestChatPassThroughInsistsOnFinish(t *testing.T) {
	t.Parallel()
	head := "data: " + string(chatChunk(`{"content":"a"}`)) + "\n\n"
	s := chatTestSetup(&Request{Face: &chatProtocol, Stream: true})
	s.Agent.Options = map[string]string{"strict_finish": "true"}
	a := NewAnswer(s, &chatProtocol, true, true)
	got := a.End(a.Feed(nil, []byte(head+"data: [DONE]\n\n")), nil)
	want := head + `data: {"error":{"message":"The agent's answer broke off before its end.","type":"server_error","param":null,"code":"stream_truncated"}}` + "\n\ndata: [DONE]\n\n"
	if string(got) != want || a.Err() == nil {
		t.Errorf("got\n%s, error %v, want\n%s", got, a.Err(), want)
	}
}

func TestChatPassThroughTellsACut(t *testing.T) {
	t.Parallel()
	head := "data: " + string(chatChunk(`{"content":"a"}`)) + "\n\n"
	a := NewAnswer(chatTestSetup(&Request{Face: &chatProtocol, Stream: true}), &chatProtocol, true, true)
	got := a.Feed(nil, []byte(head))
	got = a.End(got, nil)
	want := head + `data: {"error":{"message":"The agent's answer broke off before its end.","type":"server_error","param":null,"code":"stream_truncated"}}` + "\n\ndata: [DONE]\n\n"
	if string(got) != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

// A stream of several choices is whole when all of them are.
func TestChatPassThroughWaitsForEveryChoice(t *testing.T) {
	t.Parallel()
	const both = `data: {"choices":[{"index":0,"delta":{"content":"a"},"finish_reason":null},{"index":1,"delta":{"content":"b"},"finish_reason":null}]}` + "\n\n"
	end := func(i string) string {
		return `data: {"choices":[{"index":` + i + `,"delta":{},"finish_reason":"stop"}]}` + "\n\n"
	}
	a := NewAnswer(chatTestSetup(&Request{Face: &chatProtocol, Stream: true}), &chatProtocol, true, true)
	a.Feed(nil, []byte(both+end("0")))
	if a.Finishing() {
		t.Error("got finishing after the first choice's end, want it after both")
	}
	a.End(nil, nil)
	if err := a.Err(); err == nil || err.Code != "stream_truncated" {
		t.Errorf("got %v, want a truncation", err)
	}
	a = NewAnswer(chatTestSetup(&Request{Face: &chatProtocol, Stream: true}), &chatProtocol, true, true)
	a.Feed(nil, []byte(both+end("0")+end("1")))
	if !a.Finishing() {
		t.Error("got not finishing after both ends")
	}
	a.End(nil, nil)
	if err := a.Err(); err != nil {
		t.Errorf("got %v, want an end", err)
	}
}

// chatEvents decodes frames and returns the events in their text form. slow
// keeps the decoder from comparing chunks with the one before.
func chatEvents(t testing.TB, s *Setup, frames []string, slow bool) string {
	t.Helper()
	log := &eventLog{}
	check := &Checker{Next: log}
	d := newCompletionDecoder(s)
	for _, f := range frames {
		if slow {
			d.like.ok = false
		}
		frame := sse.Frame{Data: []byte(f)}
		if name, data, ok := strings.Cut(f, "\n"); ok { // a named event
			frame = sse.Frame{Event: []byte(name), Data: []byte(data)}
		}
		d.Frame(&frame, check)
	}
	d.End(nil, check)
	if err := check.Err(); err != nil {
		t.Errorf("order of events: %v\n%s", err, log)
	}
	if !check.Ended() {
		t.Errorf("no end:\n%s", log)
	}
	return log.String()
}

func TestChatDecodesWhatIsInTheField(t *testing.T) {
	t.Parallel()
	const id0, id1 = "call_5eed5eed5eed5eed5eed5eed5eed5eed00", "call_5eed5eed5eed5eed5eed5eed5eed5eed01"
	delta := func(d string) string { return `{"choices":[{"index":0,"delta":` + d + `}]}` }
	tool := func(s string) string { return delta(`{"tool_calls":[` + s + `]}`) }
	const stop = `{"choices":[{"delta":{},"finish_reason":"stop"}]}`
	f := func(name, want, ledger string, frames ...string) {
		t.Helper()
		for _, slow := range []bool{false, true} {
			s := chatTestSetup(&Request{})
			got := chatEvents(t, s, frames, slow)
			if want := strings.TrimSpace(want) + "\n"; got != want {
				t.Errorf("%s: got\n%s\nwant\n%s", name, got, want)
			}
			if got := strings.Join(s.Ledger.Names(), ","); got != ledger {
				t.Errorf("%s: ledger got %q, want %q", name, got, ledger)
			}
		}
	}

	f("calls without ids, one after the other", `
start
block 0 tool_call msg=0 part=0 name="a" call="`+id0+`"
delta 0 "{\"x\":1}"
end 0
block 1 tool_call msg=0 part=0 name="b" call="`+id1+`"
delta 1 "{}"
end 1
finish tool_calls word="stop"`, "",
		tool(`{"index":0,"function":{"name":"a","arguments":"{\"x\":"}}`), tool(`{"index":0,"function":{"arguments":"1}"}}`),
		tool(`{"index":1,"function":{"name":"b","arguments":"{}"}}`), stop)
	f("calls without ids, all on index 0", `
start
block 0 tool_call msg=0 part=0 name="a" call="`+id0+`"
delta 0 "{\"x\":1}"
end 0
block 1 tool_call msg=0 part=0 name="a" call="`+id1+`"
delta 1 "{\"x\":2}"
end 1
finish tool_calls word="stop"`, "",
		tool(`{"index":0,"function":{"name":"a","arguments":"{\"x\":1}"}}`), tool(`{"index":0,"function":{"name":"a","arguments":"{\"x\":2}"}}`), stop)
	f("the name on every piece", `
start
block 0 tool_call msg=0 part=0 name="a" call="c"
delta 0 "{\"x\":"
delta 0 "1}"
end 0
finish tool_calls word="stop"`, "",
		tool(`{"index":0,"id":"c","function":{"name":"a","arguments":"{\"x\":"}}`), tool(`{"index":0,"function":{"name":"a","arguments":"1}"}}`), stop)
	f("an id that changes on the way", `
start
block 0 tool_call msg=0 part=0 name="a" call="c"
delta 0 "{\"x\":"
delta 0 "1}"
end 0
finish tool_calls word="stop"`, "",
		tool(`{"index":0,"id":"c","function":{"name":"a","arguments":"{\"x\":"}}`), tool(`{"index":0,"id":"d","function":{"arguments":"1}"}}`), stop)
	f("interleaved by id, all on index 0", `
start
block 0 tool_call msg=0 part=0 name="a" call="c"
delta 0 "{\"x\":"
block 1 tool_call msg=0 part=0 name="a" call="d"
delta 1 "{\"x\":"
delta 0 "1}"
delta 1 "2}"
end 0
end 1
finish tool_calls word="stop"`, "",
		tool(`{"index":0,"id":"c","function":{"name":"a","arguments":"{\"x\":"}}`), tool(`{"index":0,"id":"d","function":{"name":"a","arguments":"{\"x\":"}}`),
		tool(`{"index":0,"id":"c","function":{"arguments":"1}"}}`), tool(`{"index":0,"id":"d","function":{"arguments":"2}"}}`), stop)
	f("the deprecated function_call", `
start
block 0 tool_call msg=0 part=0 name="a" call="`+id0+`"
delta 0 "{}"
end 0
finish tool_calls word="function_call"`, "",
		delta(`{"role":"assistant","function_call":{"name":"a","arguments":""}}`), delta(`{"function_call":{"arguments":"{}"}}`),
		`{"choices":[{"delta":{},"finish_reason":"function_call"}]}`)
	f("a call without arguments", `
start
block 0 tool_call msg=0 part=0 name="a" call="c"
end 0
finish tool_calls word="stop"`, "",
		tool(`{"index":0,"id":"c","function":{"name":"a","arguments":null}}`), stop)
	f("an empty announcement", "start\nfinish stop word=\"stop\"", "", tool(`{"index":0}`), tool(`{"index":0,"type":"function","function":{}}`), stop)
	f("a call without a name", "start\nfail status=502 code=\"bad_gateway\" message=\"The agent's answer could not be read.\"", "",
		tool(`{"index":0,"id":"c","function":{"arguments":"{}"}}`), stop)
	f("arguments after the end", `
start
block 0 tool_call msg=0 part=0 name="a" call="c"
delta 0 "{}"
end 0
block 1 text msg=0 part=0
delta 1 "t"
end 1
finish tool_calls word="stop"`, "tool_calls",
		tool(`{"index":0,"id":"c","function":{"name":"a","arguments":"{}"}}`), delta(`{"content":"t"}`), tool(`{"index":0,"function":{"arguments":"\n"}}`),
		tool(`{"index":0,"function":{"arguments":"x"}}`), stop)
	f("both names of reasoning", "start\nblock 0 reasoning msg=0 part=0\ndelta 0 \"r\"\nend 0\nfinish stop word=\"stop\"", "",
		delta(`{"reasoning_content":"r","reasoning":"r"}`), stop)
	f("content that is no text", "start\nblock 0 text msg=0 part=0\ndelta 0 \"t\"\nend 0\nfinish stop word=\"stop\"", "content",
		delta(`{"content":[{"type":"chart","chart":{}},{"type":"text","text":"t"}]}`), delta(`{"content":5}`), stop)
	f("text after the finish", `
start
block 0 text msg=0 part=0
delta 0 "a"
end 0
block 1 text msg=0 part=0
delta 1 "b"
end 1
finish stop word="stop"`, "", `{"choices":[{"delta":{"content":"a"},"finish_reason":"stop"}]}`, delta(`{"content":"b"}`), "[DONE]")
	f("half a call and no finish", `
start
block 0 tool_call msg=0 part=0 name="f" call="a"
delta 0 "{\"x\":"
fail status=502 code="stream_truncated" message="The agent's answer broke off before its end."`, "",
		tool(`{"index":0,"id":"a","function":{"name":"f","arguments":"{\"x\":"}}`), "[DONE]")
	f("nothing but the end", "start\nfinish stop", "finish_reason", "[DONE]")
	f("a vendor's word", "start\nfinish other word=\"bored\"", "", `{"choices":[{"delta":{},"finish_reason":"bored"}]}`)
	f("a failure in the finish", "start\nfail status=502 code=\"agent_error\" message=\"The agent reported an error.\"", "", `{"choices":[{"delta":{},"finish_reason":"error"}]}`)
	f("not JSON", "fail status=502 code=\"bad_gateway\" message=\"The agent's answer could not be read.\"", "", "<html>")
	f("a text in a vendor's event is no error", "ping\nstart\nfinish stop word=\"stop\"", "", "progress\n{\"type\":\"progress\",\"message\":\"thinking\"}", stop)
	f("an error in a vendor's event is one", "fail status=502 code=\"agent_error\" message=\"no\"", "", "progress\n{\"error\":\"no\"}")
	f("a heartbeat of somebody's", "ping\nstart\nfinish stop word=\"stop\"", "", `{"type":"ping"}`, stop)
	f("a flat detail", "fail status=502 code=\"agent_error\" message=\"Not today\"", "", `{"detail":"Not today"}`)
	f("an empty error is none", "start\nblock 0 text msg=0 part=0\ndelta 0 \"a\"\nend 0\nfinish stop word=\"stop\"", "",
		`{"error":{},"choices":[{"delta":{"content":"a"},"finish_reason":"stop"}]}`)
	f("usage before the answer", "start\nusage input=1\nfinish stop word=\"stop\"", "", `{"choices":[],"usage":{"prompt_tokens":1}}`, stop)
	f("cached tokens by other names", "start\nusage input=9 cached=4\nfinish stop word=\"stop\"", "", stop, `{"choices":[],"usage":{"prompt_tokens":9,"prompt_cache_hit_tokens":4,"completion_tokens":null}}`)
}

func TestChatInsistsOnFinishByOption(t *testing.T) {
	t.Parallel()
	s := chatTestSetup(&Request{})
	s.Agent.Options = map[string]string{"strict_finish": "true"}
	got := chatEvents(t, s, []string{`{"choices":[{"delta":{}}]}`, "[DONE]"}, false)
	want := "start\nfail status=502 code=\"stream_truncated\" message=\"The agent's answer broke off before its end.\"\n"
	if got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

// Chunks that only differ in their text are not parsed; the events are the same.
func TestChatShapeEqualsParsing(t *testing.T) {
	t.Parallel()
	var frames []string
	for _, text := range []string{`a`, `b`, ``, `\n`, `\"q\"`, `ü`, `\u00e9`, `\ud83d`, `\ude00`, `x\ud83d`, `y`, `\ufffd`, `\\`, `\u0022`, `}`, `{\"a\":1}`} {
		for _, d := range []string{`{"content":"$"}`, `{"reasoning_content":"$","content":null}`, `{"tool_calls":[{"index":0,"function":{"arguments":"$"}}]}`} {
			chunk := string(chatChunk(strings.Replace(d, "$", text, 1)))
			frames = append(frames, chunk, chunk,
				strings.TrimSuffix(chunk, "}")+`,"obfuscation":"ab"}`, strings.TrimSuffix(chunk, "}")+`,"obfuscation":"xyz0"}`)
		}
	}
	frames = append([]string{string(chatChunk(`{"tool_calls":[{"index":0,"id":"c","function":{"name":"f"}}]}`))}, frames...)
	frames = append(frames, `{"choices":[{"delta":{},"finish_reason":"stop"}]}`)
	fast := chatEvents(t, chatTestSetup(&Request{}), frames, false)
	slow := chatEvents(t, chatTestSetup(&Request{}), frames, true)
	if fast != slow {
		t.Errorf("got\n%s\nwant\n%s", fast, slow)
	}
	for _, broken := range []string{`{"choices":[{"index":0,"delta":{"content":"b"x"}}]}`, `{"choices":[{"index":0,"delta":{"content":"b\"}}]}`, "{\"choices\":[{\"index\":0,\"delta\":{\"content\":\"b\n\"}}]}", `{"choices":[{"index":0,"delta":{"content":"\q"}}]}`} {
		frames := []string{`{"choices":[{"index":0,"delta":{"content":"a"}}]}`, broken}
		if fast, slow := chatEvents(t, chatTestSetup(&Request{}), frames, false), chatEvents(t, chatTestSetup(&Request{}), frames, true); fast != slow {
			t.Errorf("%s: got\n%s\nwant\n%s", broken, fast, slow)
		}
	}
}

// chatFaceStream encodes events given in their text form as a chat stream.
func chatFaceStream(t *testing.T, s *Setup, face *Protocol, events string) string {
	t.Helper()
	e := face.NewEncoder(s)
	var dst []byte
	for _, ev := range parseEventText(t, events) {
		dst = e.Encode(dst, ev)
	}
	out := string(dst)
	out = strings.ReplaceAll(out, `data: {"id":"chatcmpl-5eed5eed5eed5eed5eed5eed5eed5eed","object":"chat.completion.chunk","created":1700000000,"model":"m",`, "> ")
	out = strings.ReplaceAll(out, `"choices":[{"index":0,"delta":`, "")
	out = strings.ReplaceAll(out, `,"logprobs":null,"finish_reason":null}]}`, "")
	return strings.ReplaceAll(out, "\n\n", "\n")
}

func TestChatStreamEncoding(t *testing.T) {
	t.Parallel()
	const role = `> {"role":"assistant","content":"","refusal":null}` + "\n"
	f := func(name string, r *Request, events, want, ledger string) {
		t.Helper()
		r.Face, r.Model = &chatProtocol, "m"
		s := chatTestSetup(r)
		got := chatFaceStream(t, s, &chatProtocol, events)
		if want := role + strings.TrimSpace(want) + "\n"; got != want {
			t.Errorf("%s: got\n%s\nwant\n%s", name, got, want)
		}
		if got := strings.Join(s.Ledger.Names(), ","); got != ledger {
			t.Errorf("%s: ledger got %q, want %q", name, got, ledger)
		}
	}
	f("an empty block parts nothing", &Request{}, `
start
block 0 text msg=0 part=0
delta 0 "a"
end 0
block 1 text msg=1 part=0
end 1
block 2 text msg=1 part=1
delta 2 "b"
end 2
finish stop`, `
> {"content":"a"}
> {"content":"\n\nb"}
> {},"logprobs":null,"finish_reason":"stop"}]}
data: [DONE]`, "")
	f("messages are parted by a blank line", &Request{}, `
start
block 0 text msg=0 part=0
delta 0 "a"
end 0
block 1 text msg=0 part=1
delta 1 "b"
end 1
block 2 text msg=1 part=0
annotation 2 {"type":"url_citation","start_index":0,"end_index":1,"url":"u"}
annotation 2 {"type":"file_citation","file_id":"f"}
delta 2 "c"
delta 2 "d"
end 2
finish pause
`, `
> {"content":"a"}
> {"content":"b"}
> {"content":"\n\nc"}
> {"content":"d"}
> {"annotations":[{"type":"url_citation","url_citation":{"start_index":4,"end_index":5,"url":"u"}}]}
> {},"logprobs":null,"finish_reason":"stop"}]}
data: [DONE]`, "annotations,finish_reason")
	f("citations come all at once", &Request{}, `
start
block 0 text msg=0 part=0
delta 0 "ab"
annotation 0 {"type":"url_citation","start_index":0,"end_index":1,"url":"u"}
annotation 0 {"type":"url_citation","start_index":1,"end_index":2,"url":"v"}
end 0
fail status=502 code="c" message="m"`, `
> {"content":"ab"}
> {"annotations":[{"type":"url_citation","url_citation":{"start_index":0,"end_index":1,"url":"u"}},{"type":"url_citation","url_citation":{"start_index":1,"end_index":2,"url":"v"}}]}
data: {"error":{"message":"m","type":"server_error","param":null,"code":"c"}}
data: [DONE]`, "")
	f("a call that ran is not the client's", &Request{}, `
start
block 0 tool_call msg=0 part=0 name="f" call="c" ran
delta 0 "{}"
end 0
finish tool_calls`, `
> {},"logprobs":null,"finish_reason":"stop"}]}
data: [DONE]`, "")
	f("a cut answer says so", &Request{}, `
start
block 0 tool_call msg=0 part=0 name="f" call="c"
delta 0 "{"
end 0 incomplete
finish length`, `
> {"tool_calls":[{"index":0,"id":"c","type":"function","function":{"name":"f","arguments":""}}]}
> {"tool_calls":[{"index":0,"function":{"arguments":"{"}}]}
> {},"logprobs":null,"finish_reason":"length"}]}
data: [DONE]`, "")
	f("the deprecated dialect is answered in it", &Request{Tools: []Tool{{Name: "f", Path: AtIndex("functions", 0)}}}, `
start
block 0 tool_call msg=0 part=0 name="f" call="c"
delta 0 "{}"
end 0
block 1 tool_call msg=0 part=0 name="f" call="d"
delta 1 "{}"
end 1
finish tool_calls`, `
> {"function_call":{"name":"f","arguments":""}}
> {"function_call":{"arguments":"{}"}}
> {},"logprobs":null,"finish_reason":"function_call"}]}
data: [DONE]`, "tool_calls")
	f("logprobs only where asked for", &Request{Settings: []Setting{{ParamLogprobs, "true", At("logprobs")}}}, `
start
block 0 text msg=0 part=0
delta 0 "a" logprobs=[{"token":"a"}]
end 0
block 1 refusal msg=0 part=1
delta 1 "b" logprobs=[{"token":"b"}]
end 1
finish stop`, `
> {"content":"a"},"logprobs":{"content":[{"token":"a"}],"refusal":null},"finish_reason":null}]}
> {"refusal":"b"},"logprobs":{"content":null,"refusal":[{"token":"b"}]},"finish_reason":null}]}
> {},"logprobs":null,"finish_reason":"stop"}]}
data: [DONE]`, "")
	f("nor logprobs nor usage otherwise", &Request{}, `
start
block 0 text msg=0 part=0
delta 0 "a" logprobs=[{"token":"a"}]
end 0
usage input=1
finish stop`, `
> {"content":"a"}
> {},"logprobs":null,"finish_reason":"stop"}]}
data: [DONE]`, "")
	f("a failure has no finish_reason", &Request{}, `
start
block 0 text msg=0 part=0
delta 0 "a"
fail status=502 code="c" message="m"`, `
> {"content":"a"}
data: {"error":{"message":"m","type":"server_error","param":null,"code":"c"}}
data: [DONE]`, "")
	f("thoughts are paragraphs", &Request{}, `
start
block 0 reasoning msg=0 part=0 summary
delta 0 "a"
end 0
block 1 reasoning msg=0 part=1 summary
delta 1 "b"
delta 1 "c"
end 1
finish stop`, `
> {"reasoning_content":"a"}
> {"reasoning_content":"\n\nb"}
> {"reasoning_content":"c"}
> {},"logprobs":null,"finish_reason":"stop"}]}
data: [DONE]`, "")
}

func TestChatUsageChunkExactlyWhenAskedFor(t *testing.T) {
	t.Parallel()
	s := chatTestSetup(&Request{Face: &chatProtocol, Model: "m", IncludeUsage: true})
	got := chatFaceStream(t, s, &chatProtocol, `
start
block 0 text msg=0 part=0
delta 0 "a"
end 0
usage input=1 output=2
finish stop`)
	want := `> {"role":"assistant","content":"","refusal":null},"logprobs":null,"finish_reason":null}],"usage":null}
> {"content":"a"},"logprobs":null,"finish_reason":null}],"usage":null}
> {},"logprobs":null,"finish_reason":"stop"}],"usage":null}
> "choices":[],"usage":{"prompt_tokens":1,"completion_tokens":2,"total_tokens":3}}
data: [DONE]
`
	if got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

func TestChatAnswerEncoding(t *testing.T) {
	t.Parallel()
	f := func(name string, r *Request, events, want string) {
		t.Helper()
		r.Face, r.Model = &chatProtocol, "m"
		fold := NewFold()
		for _, ev := range parseEventText(t, events) {
			fold.Event(ev)
		}
		got := string(chatFace{}.AppendAnswer(nil, chatTestSetup(r), fold))
		if !jsonx.Valid([]byte(got)) {
			t.Errorf("%s: not JSON: %s", name, got)
		}
		got = strings.TrimPrefix(got, `{"id":"chatcmpl-5eed5eed5eed5eed5eed5eed5eed5eed","object":"chat.completion","created":1700000000,"model":"m","choices":[{"index":0,"message":{"role":"assistant",`)
		if got != want {
			t.Errorf("%s: got\n%s\nwant\n%s", name, got, want)
		}
	}
	f("messages, thoughts, citations", &Request{}, `
start
block 0 reasoning msg=0 part=0
delta 0 "r"
end 0
block 1 text msg=1 part=0
delta 1 "ä"
end 1
block 2 text msg=2 part=0
delta 2 "b"
annotation 2 {"type":"url_citation","start_index":0,"end_index":1,"url":"u"}
end 2
usage input=3
finish other word="x"`,
		`"content":"ä\n\nb","refusal":null,"reasoning_content":"r","annotations":[{"type":"url_citation","url_citation":{"start_index":3,"end_index":4,"url":"u"}}]},"logprobs":null,"finish_reason":"stop"}],"usage":{"prompt_tokens":3,"completion_tokens":0,"total_tokens":3}}`)
	f("the deprecated dialect", &Request{Tools: []Tool{{Name: "f", Path: AtIndex("functions", 0)}}}, `
start
block 0 tool_call msg=0 part=0 name="f" call="c"
delta 0 "{}"
end 0
finish tool_calls`, `"content":null,"refusal":null,"function_call":{"name":"f","arguments":"{}"}},"logprobs":null,"finish_reason":"function_call"}]}`)
	f("an empty block parts nothing", &Request{}, `
start
block 0 text msg=0 part=0
delta 0 "a"
end 0
block 1 text msg=1 part=0
end 1
block 2 text msg=1 part=1
delta 2 "b"
end 2
finish stop`, `"content":"a\n\nb","refusal":null},"logprobs":null,"finish_reason":"stop"}]}`)
	f("nothing said", &Request{}, "start\nfinish length", `"content":"","refusal":null},"logprobs":null,"finish_reason":"length"}]}`)
	f("logprobs", &Request{Settings: []Setting{{ParamLogprobs, "true", At("logprobs")}}}, `
start
block 0 text msg=0 part=0
delta 0 "a" logprobs=[{"token":"a"}]
delta 0 "b" logprobs=[{"token":"b"}]
end 0
finish stop`, `"content":"ab","refusal":null},"logprobs":{"content":[{"token":"a"},{"token":"b"}],"refusal":null},"finish_reason":"stop"}]}`)
}

func TestChatAgents(t *testing.T) {
	t.Parallel()
	agents := []AgentInfo{{Name: `a"b`, Created: 5}, {Name: "c", Created: 6}}
	got := string(chatFace{}.AppendAgents(nil, OpAgents, agents))
	want := `{"object":"list","data":[{"id":"a\"b","object":"model","created":5,"owned_by":"dragoman"},{"id":"c","object":"model","created":6,"owned_by":"dragoman"}]}`
	if got != want {
		t.Errorf("list: got %s, want %s", got, want)
	}
	got = string(chatFace{}.AppendAgents(nil, OpAgent, agents[1:]))
	want = `{"id":"c","object":"model","created":6,"owned_by":"dragoman"}`
	if got != want {
		t.Errorf("one: got %s, want %s", got, want)
	}
	if got := string(chatFace{}.AppendAgents(nil, OpAgents, nil)); got != `{"object":"list","data":[]}` {
		t.Errorf("none: got %s", got)
	}
}

func TestChatSteadyStateAllocatesNothing(t *testing.T) {
	s := chatTestSetup(&Request{Face: &chatProtocol, Model: "m"})
	for _, delta := range []string{`{"content":" a\n"}`, `{"reasoning_content":"b"}`, `{"tool_calls":[{"index":0,"function":{"arguments":"{\"a"}}]}`} {
		d := newCompletionDecoder(s)
		e := &chatEncoding{enc: newCompletionEncoder(s, false)}
		d.Frame(&sse.Frame{Data: chatChunk(`{"role":"assistant","content":"","refusal":null}`)}, e)
		d.Frame(&sse.Frame{Data: chatChunk(`{"tool_calls":[{"index":0,"id":"c","function":{"name":"f","arguments":""}}]}`)}, e)
		f := &sse.Frame{Data: chatChunk(delta)}
		other := &sse.Frame{Data: bytes.Replace(f.Data, []byte("fp_44"), []byte("fp_55"), 1)}
		step := func() {
			e.dst = e.dst[:0]
			d.Frame(f, e)
			d.Frame(f, e)
			d.Frame(other, e) // parsed
		}
		step()
		if n := testing.AllocsPerRun(100, step); n != 0 {
			t.Errorf("%s: got %v allocations, want 0", delta, n)
		}
		if len(e.dst) == 0 {
			t.Errorf("%s: nothing was written", delta)
		}
	}
}

// chatEncoding is a Sink that encodes.
type chatEncoding struct {
	enc Encoder
	dst []byte
}

func (e *chatEncoding) Event(ev *Event) { e.dst = e.enc.Encode(e.dst, ev) }

// TestChatLazyRequest leaves the conversation of a request that is passed through
// undecoded, and decodes it, with its errors, for every other backend.
func TestChatLazyRequest(t *testing.T) {
	t.Parallel()
	decode := func(body string) (*Request, *Error) {
		return chatProtocol.DecodeRequest(&Inbound{Route: &chatProtocol.Routes[0], Body: []byte(body), Lazy: true})
	}
	a := &Agent{Name: "it"}
	odd := `{"messages":[{"role":"wizard","content":"hi"}]}`
	r, e := decode(odd)
	if e != nil || len(r.Turns) != 0 {
		t.Fatalf("%v, %d turns", e, len(r.Turns))
	}
	if got, e := chatProtocol.SpliceRequest(nil, r, a); e != nil || string(got) != odd {
		t.Errorf("passed through: %s %v", got, e)
	}
	for _, p := range Protocols()[1:] {
		r, _ := decode(odd)
		if _, e := p.Encode(nil, r, a, false); e == nil || e.Param != "messages[0].role" {
			t.Errorf("%s: %v", p.Name, e)
		}
	}
	r, _ = decode(`{"messages":[{"role":"system","content":"be brief"},{"role":"user","content":"hi"}]}`)
	if got, e := chatProtocol.SpliceRequest(nil, r, &Agent{SystemPrompt: "be long"}); e != nil || strings.Contains(string(got), "be long") {
		t.Errorf("a default over the client's own word: %s %v", got, e)
	}
	r, e = decode(`{"messages":[ ]}`)
	if e != nil {
		t.Fatalf("empty: %v", e)
	}
	if _, e := responsesProtocol.Encode(nil, r, a, false); e == nil || e.Code != "empty_array" {
		t.Errorf("empty: %v", e)
	}
}
