package translate

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/dragoman-proxy/dragoman/internal/jsonx"
	"github.com/dragoman-proxy/dragoman/internal/sse"
)

const swarmsSeed = "0123456789abcdef0123456789abcdef"

// swarmsSetup is an exchange at a fixed time.
func swarmsSetup(r *Request) *Setup {
	return &Setup{
		Request: r, Agent: &Agent{Name: "support"}, Seed: swarmsSeed, Ledger: &Ledger{},
		Now: func() time.Time { return time.Unix(1770253095, 200_000_000) }, Created: 1770253095,
	}
}

func decodeSwarms(t testing.TB, body string) *Request {
	t.Helper()
	r, err := swarmsProtocol.DecodeRequest(&Inbound{Body: []byte(body)})
	if err != nil {
		t.Fatalf("decode %s: %v", body, err)
	}
	return r
}

// swarmsDump writes a request in lines that a test can hold.
func swarmsDump(r *Request) string {
	var b strings.Builder
	line := func(format string, args ...any) { fmt.Fprintf(&b, format+"\n", args...) }
	line("agent %q at %s model %q stream %t", r.Agent, r.AgentPath, r.Model, r.Stream)
	for i := range r.Turns {
		t := &r.Turns[i]
		line("%s %s %s", t.Path, t.Role, t.Author)
		for j := range t.Blocks {
			k := &t.Blocks[j]
			line("  %s %s %q %s%s%s", k.Path, k.Type, k.Text, k.CallID, k.Name, k.URL)
		}
	}
	for i := range r.Tools {
		t := &r.Tools[i]
		line("tool %s %s %q %s %d", t.Path, t.Name, t.Description, t.Parameters, t.Strict)
	}
	if c := &r.ToolChoice; c.Mode != ChoiceUnset {
		line("choice %s %d %s", c.Path, c.Mode, c.Name)
	}
	if f := &r.Format; f.Kind != FormatUnset {
		line("format %s %d %s %s %d", f.Path, f.Kind, f.Name, f.Schema, f.Strict)
	}
	for _, s := range r.Settings {
		line("%s = %s", s.Path, s.Raw)
	}
	if r.Ledger.Len() > 0 {
		line("ledger %s", r.Ledger.Header())
	}
	return b.String()
}

func TestSwarmsDecodeRequest(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ name, body, want string }{
		{"official Go client", `{"task":"hello","history":[{"content":"q","role":"user"}],"agent_config":{"agent_name":"A","model_name":"gpt-4.1","streaming_on":true}}`,
			`agent "A" at agent_config.agent_name model "gpt-4.1" stream true
history[0] user 
  history[0].content text "q" 
task user 
  task text "hello" 
`},
		{"no name, system prompt, nulls", `{"agent_config":{"model_name":"m","system_prompt":"Be \"kind\"","temperature":null,"max_loops":null,"agent_name":null,"tools_list_dictionary":null},"task":"t","history":null,"img":null,"imgs":null,"tools_enabled":null,"stream":null}`,
			`agent "m" at agent_config.model_name model "m" stream false
agent_config.system_prompt system 
  agent_config.system_prompt text "Be \"kind\"" 
task user 
  task text "t" 
`},
		{"documented defaults lose nothing", `{"agent_config":{"agent_name":"A","role":"worker","auto_generate_prompt":false,"max_loops":1,"dynamic_temperature_enabled":true,"tool_call_summary":true,"is_free":true,"tags":[],"description":"","streaming_on":false},"task":"t","tools_enabled":[],"search_enabled":false}`,
			`agent "A" at agent_config.agent_name model "" stream false
task user 
  task text "t" 
`},
		{"configuration in full", `{"agent_config":{"agent_name":"A","description":"D","role":"lead","max_loops":"auto","max_tokens":100,"temperature":0.50,"reasoning_effort":"high","mcp_url":"http://m","thinking_tokens":9,"made_up":1,"llm_args":{"top_p":0.9,"presence_penalty":1,"stop":["x"],"tool_choice":"required","response_format":{"type":"json_schema","json_schema":{"name":"n","schema":{"type":"object"},"strict":true}},"api_base":"b","timeout":3}},"task":"t","tools_enabled":["auto_search"],"stream":true,"search_enabled":true,"other":2}`,
			`agent "A" at agent_config.agent_name model "" stream true
task user 
  task text "t" 
choice agent_config.llm_args.tool_choice 3 
format agent_config.llm_args.response_format 3 n {"type":"object"} 1
agent_config.description = {"description":"D"}
agent_config.role = {"role":"lead"}
agent_config.mcp_url = {"mcp_url":"http://m"}
agent_config.thinking_tokens = {"thinking_tokens":9}
agent_config.llm_args.top_p = 0.9
agent_config.llm_args.presence_penalty = 1
agent_config.llm_args.stop = ["x"]
agent_config.llm_args = {"llm_args":{"api_base":"b","timeout":3}}
agent_config.temperature = 0.50
agent_config.max_tokens = 100
agent_config.reasoning_effort = "high"
agent_config.max_loops = "auto"
tools_enabled = ["auto_search"]
ledger search_enabled, unknown(2)
`},
		{"history as an object keeps its order", `{"agent_config":{},"history":{"z":{"role":"user","content":"one"},"a":{"role":"Research Assistant","content":"two"},"m":"three"},"task":"four"}`,
			`agent "" at [0] model "" stream false
history[0] user 
  history[0].content text "one" 
history[1] assistant Research Assistant
  history[1].content text "two" 
history[2] user 
  history[2] text "m:\nthree" 
task user 
  task text "four" 
`},
		{"history alone", `{"agent_config":{},"history":[{"role":"user","content":"q"},{"role":"System","content":"s"},{"role":"assistant","content":null}]}`,
			`agent "" at [0] model "" stream false
history[0] user 
  history[0].content text "q" 
history[1] system 
  history[1].content text "s" 
`},
		{"images", `{"agent_config":{},"task":"t","img":"https://x/y.png","imgs":["data:image/gif;base64,R0lG","/9j/4AAQSkZJ\nRgABAQ==","iVBORw0KGgoAAAA="]}`,
			`agent "" at [0] model "" stream false
task user 
  task text "t" 
  img image "" https://x/y.png
  imgs[0] image "" data:image/gif;base64,R0lG
  imgs[1] image "" data:image/jpeg;base64,/9j/4AAQSkZJRgABAQ==
  imgs[2] image "" data:image/png;base64,iVBORw0KGgoAAAA=
`},
		{"images after an assistant's turn", `{"agent_config":{},"history":[{"role":"assistant","content":"a"}],"img":"http://x"}`,
			`agent "" at [0] model "" stream false
history[0] assistant 
  history[0].content text "a" 
img user 
  img image "" http://x
`},
		{"tools", `{"agent_config":{"tools_list_dictionary":[{"type":"function","function":{"name":"f","description":"d","parameters":{"type":"object"},"strict":false}},{"name":"g"}],"tools_dictionary":[{"name":"old"}]},"task":"t"}`,
			`agent "" at [0] model "" stream false
task user 
  task text "t" 
tool agent_config.tools_list_dictionary[0] f "d" {"type":"object"} -1
tool agent_config.tools_list_dictionary[1] g ""  0
ledger agent_config.tools_dictionary
`},
		{"tools under their older name", `{"agent_config":{"tools_dictionary":[{"type":"function","function":{"name":"f"}}],"llm_args":{"tool_choice":{"type":"function","function":{"name":"f"}}}},"task":"t"}`,
			`agent "" at [0] model "" stream false
task user 
  task text "t" 
tool agent_config.tools_dictionary[0] f ""  0
choice agent_config.llm_args.tool_choice 4 f
`},
		{"calls with results, by id and by order", `{"agent_config":{},"history":[{"role":"A","content":[{"function":{"arguments":"{\"x\":1}","name":"f"},"id":"c1","type":"function"},{"function":{"name":"g"},"id":"c2"}]},{"role":"tool","tool_call_id":"c2","content":"two"},{"role":"Tool Executor","content":"one"}],"task":"t"}`,
			`agent "" at [0] model "" stream false
history[0] assistant A
  history[0].content tool_call "{\"x\":1}" c1f
  history[0].content tool_call "{}" c2g
history[1] tool 
  history[1].content tool_result "two" c2
history[2] tool 
  history[2].content tool_result "one" c1
task user 
  task text "t" 
`},
		{"a call without a result is text", `{"agent_config":{},"history":[{"role":"A","content":"[{\"function\":{\"arguments\":\"{}\",\"name\":\"f\"},\"id\":\"c1\",\"type\":\"function\"}]"},{"role":"tool","tool_call_id":"other","content":"lost"}],"task":"it is 18 degrees"}`,
			`agent "" at [0] model "" stream false
history[0] assistant A
  history[0].content text "[called f({})]" 
history[1] assistant tool
  history[1].content text "lost" 
task user 
  task text "it is 18 degrees" 
ledger history[1].tool_call_id
`},
		{"entries of an answer that come back", `{"agent_config":{"agent_name":"A"},"history":[{"role":"user","content":"q","name":"Bob"},{"role":"A","content":"a","timestamp":"2026-02-05T00:58:15.121915","message_id":"85b70f9d","category":"output"},{"role":"B","content":"b","own":1}],"task":"t"}`,
			`agent "A" at agent_config.agent_name model "" stream false
history[0] user 
  history[0].content text "q" 
history[1] assistant 
  history[1].content text "a" 
history[2] assistant B
  history[2].content text "b" 
task user 
  task text "t" 
ledger history[1].timestamp, history[1].message_id, history[1].category, unknown(1)
`},
		{"calls beside a text", `{"agent_config":{},"history":[{"role":"assistant","content":"I look.","tool_calls":[{"id":"c1","type":"function","function":{"name":"f","arguments":"{}"}}]},{"role":"tool","tool_call_id":"c1","content":"r"},{"role":"user","content":"u","tool_calls":[{"id":"c2","function":{"name":"f"}}]}],"task":"t"}`,
			`agent "" at [0] model "" stream false
history[0] assistant 
  history[0].content text "I look." 
  history[0].tool_calls tool_call "{}" c1f
history[1] tool 
  history[1].content tool_result "r" c1
history[2] user 
  history[2].content text "u" 
task user 
  task text "t" 
ledger history[2].tool_calls
`},
		{"a dictionary of texts and entries, and an empty one", `{"agent_config":{},"history":{"message1":{"role":"user","content":""},"notes":"n","nothing":null,"message2":{"role":"Writer","content":["a","b"]}},"task":"t"}`,
			`agent "" at [0] model "" stream false
history[0] user 
  history[0].content text "" 
history[1] user 
  history[1] text "notes:\nn" 
history[3] assistant Writer
  history[3].content text "ab" 
task user 
  task text "t" 
`},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			if got := swarmsDump(decodeSwarms(t, c.body)); got != c.want {
				t.Errorf("got\n%s\nwant\n%s", got, c.want)
			}
		})
	}
}

// A setting that stands in llm_args too reaches a backend once, as
// agent_config has it.
func TestSwarmsSettingSaidTwice(t *testing.T) {
	t.Parallel()
	r := decodeSwarms(t, `{"agent_config":{"temperature":0.5,"max_tokens":7,"llm_args":{"temperature":0.5,"max_tokens":9,"max_completion_tokens":8}},"task":"t"}`)
	var got []string
	for _, s := range r.Settings {
		got = append(got, s.Path.String()+"="+s.Raw)
	}
	if got, want := strings.Join(got, " "), "agent_config.temperature=0.5 agent_config.max_tokens=7"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	if got, want := r.Ledger.Header(), "agent_config.llm_args.max_tokens, agent_config.llm_args.max_completion_tokens"; got != want {
		t.Errorf("ledger: got %s, want %s", got, want)
	}
}

func TestSwarmsRequestErrorsNameTheField(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ param, body string }{
		{"", `[]`},
		{"agent_config", `{"task":"t"}`},
		{"agent_config", `{"task":"t","agent_config":null}`},
		{"agent_config", `{"task":"t","agent_config":"A"}`},
		{"task", `{"agent_config":{}}`},
		{"task", `{"agent_config":{"system_prompt":"s"},"task":"","history":[]}`},
		{"task", `{"agent_config":{},"task":7}`},
		{"stream", `{"agent_config":{},"task":"t","stream":"yes"}`},
		{"history", `{"agent_config":{},"task":"t","history":"h"}`},
		{"history[1]", `{"agent_config":{},"task":"t","history":[{"role":"user","content":"a"},"b"]}`},
		{"history[0].role", `{"agent_config":{},"task":"t","history":[{"content":"a"}]}`},
		{"history[0].content", `{"agent_config":{},"task":"t","history":[{"role":"user","content":5}]}`},
		{"img", `{"agent_config":{},"task":"t","img":"not an image!"}`},
		{"imgs", `{"agent_config":{},"task":"t","imgs":"x"}`},
		{"img", `{"agent_config":{},"task":"t","img":"/etc/passwd"}`},
		{"agent_config.description", `{"agent_config":{"description":["x"]},"task":"t"}`},
		{"imgs[1]", `{"agent_config":{},"task":"t","imgs":["http://x",1]}`},
		{"tools_enabled[0]", `{"agent_config":{},"task":"t","tools_enabled":[1]}`},
		{"agent_config.agent_name", `{"agent_config":{"agent_name":1},"task":"t"}`},
		{"agent_config.model_name", `{"agent_config":{"model_name":{}},"task":"t"}`},
		{"agent_config.system_prompt", `{"agent_config":{"system_prompt":[]},"task":"t"}`},
		{"agent_config.streaming_on", `{"agent_config":{"streaming_on":1},"task":"t"}`},
		{"agent_config.temperature", `{"agent_config":{"temperature":"hot"},"task":"t"}`},
		{"agent_config.max_tokens", `{"agent_config":{"max_tokens":1.5},"task":"t"}`},
		{"agent_config.max_tokens", `{"agent_config":{"max_tokens":0},"task":"t"}`},
		{"agent_config.max_loops", `{"agent_config":{"max_loops":"many"},"task":"t"}`},
		{"agent_config.reasoning_effort", `{"agent_config":{"reasoning_effort":2},"task":"t"}`},
		{"agent_config.llm_args", `{"agent_config":{"llm_args":[]},"task":"t"}`},
		{"agent_config.llm_args.top_p", `{"agent_config":{"llm_args":{"top_p":"x"}},"task":"t"}`},
		{"agent_config.llm_args.logprobs", `{"agent_config":{"llm_args":{"logprobs":1}},"task":"t"}`},
		{"agent_config.llm_args.tool_choice", `{"agent_config":{"llm_args":{"tool_choice":"maybe"}},"task":"t"}`},
		{"agent_config.llm_args.response_format", `{"agent_config":{"llm_args":{"response_format":"json"}},"task":"t"}`},
		{"agent_config.tools_list_dictionary", `{"agent_config":{"tools_list_dictionary":{}},"task":"t"}`},
		{"agent_config.tools_list_dictionary[1]", `{"agent_config":{"tools_list_dictionary":[{"name":"f"},{"type":"custom","name":"g"}]},"task":"t"}`},
	} {
		r, err := swarmsProtocol.DecodeRequest(&Inbound{Body: []byte(c.body)})
		if err == nil {
			t.Errorf("%s: got\n%swant an error", c.body, swarmsDump(r))
			continue
		}
		if err.Param != c.param || err.Status != 400 || !strings.Contains(err.Message, c.param) {
			t.Errorf("%s: got %d %q %q, want %q", c.body, err.Status, err.Param, err.Message, c.param)
		}
	}
}

// swarmsTurn is a turn of one text block under messages[i].
func swarmsTurn(i int, role Role, text string) Turn {
	at := AtIndex("messages", i)
	return Turn{Role: role, Path: at, Blocks: []Block{{Type: BlockText, Text: text, Path: at.Sub("content", -1)}}}
}

func TestSwarmsEncodeRequest(t *testing.T) {
	t.Parallel()
	const head = `{"agent_config":{"agent_name":"support","model_name":"m"`
	agent := &Agent{Name: "support"}
	for _, c := range []struct {
		name   string
		r      Request
		agent  *Agent
		stream bool
		want   string
		ledger string
	}{
		{"a task", Request{Turns: []Turn{swarmsTurn(0, RoleUser, "a \"task\"")}}, agent, false, head + `},"task":"a \"task\""}`, ""},
		{"stream, configured model", Request{Turns: []Turn{swarmsTurn(0, RoleUser, "t")}}, &Agent{Name: "support", Model: "gpt-4.1"}, true,
			`{"agent_config":{"agent_name":"support","model_name":"gpt-4.1","streaming_on":true},"task":"t","stream":true}`, ""},
		{"the vendor's own mapping", Request{
			Turns: []Turn{swarmsTurn(0, RoleSystem, "s1"), swarmsTurn(1, RoleDeveloper, "s2"), swarmsTurn(2, RoleUser, "q1"), swarmsTurn(3, RoleAssistant, "a1"), swarmsTurn(4, RoleUser, "q2")},
			Settings: []Setting{
				{ParamTemperature, "0.50", At("temperature")}, {ParamMaxTokens, "9", At("max_tokens")}, {ParamTopP, "1.0", At("top_p")},
				{ParamPresencePenalty, "0.1", At("presence_penalty")}, {ParamFrequencyPenalty, "0.2", At("frequency_penalty")}, {ParamMaxLoops, "3", At("max_loops")}},
		}, agent, false, head + `,"system_prompt":"s1\n\ns2","temperature":0.50,"max_tokens":9,"max_loops":3,"llm_args":{"top_p":1.0,"presence_penalty":0.1,"frequency_penalty":0.2}},"task":"q2","history":[{"role":"user","content":"q1"},{"role":"assistant","content":"a1"}]}`, ""},
		{"a late system message joins the prompt", Request{Turns: []Turn{swarmsTurn(0, RoleUser, "q"), swarmsTurn(1, RoleSystem, "s"), swarmsTurn(2, RoleUser, "r")}}, agent, false,
			head + `,"system_prompt":"s"},"task":"r","history":[{"role":"user","content":"q"}]}`, "messages[1].role"},
		{"after an assistant's turn", Request{Turns: []Turn{swarmsTurn(0, RoleUser, "q"), swarmsTurn(1, RoleAssistant, "a")}}, agent, false,
			head + `},"task":"Continue.","history":[{"role":"user","content":"q"},{"role":"assistant","content":"a"}]}`, "messages[1]"},
		{"a tool loop", Request{
			Turns: []Turn{
				swarmsTurn(0, RoleUser, "weather?"),
				{Role: RoleAssistant, Path: AtIndex("messages", 1), Blocks: []Block{
					{Type: BlockText, Text: "I look.", Path: AtIndex("messages", 1)},
					{Type: BlockToolCall, CallID: "c1", Name: "get_weather", Text: `{"city":"Bern"}`, Path: AtIndex("messages", 1).Sub("tool_calls", 0)},
					{Type: BlockToolCall, CallID: "c2", Name: "get_time", Text: `{}`, Path: AtIndex("messages", 1).Sub("tool_calls", 1)}}},
				{Role: RoleTool, Path: AtIndex("messages", 2), Blocks: []Block{{Type: BlockToolResult, CallID: "c1", Text: "18"}}},
				{Role: RoleTool, Path: AtIndex("messages", 3), Blocks: []Block{{Type: BlockToolResult, CallID: "c2", IsError: true, Parts: []Block{{Type: BlockText, Text: "no clock"}}}}},
			},
			Tools: []Tool{{Name: "get_weather", Description: "d", Parameters: `{"type":"object"}`, Strict: Yes}, {Kind: ToolCustom, Name: "run_code", Path: AtIndex("tools", 1)}},
		}, agent, false, head + `,"tools_list_dictionary":[{"type":"function","function":{"name":"get_weather","description":"d","parameters":{"type":"object"},"strict":true}}]},` +
			`"task":"[get_weather returned: 18]\n\n[get_time failed: no clock]","history":[{"role":"user","content":"weather?"},{"role":"assistant","content":"I look.\n\n[called get_weather({\"city\":\"Bern\"})]\n\n[called get_time({})]"}]}`,
			"tools[1]"},
		{"one image", Request{Turns: []Turn{{Role: RoleUser, Blocks: []Block{{Type: BlockText, Text: "see"}, {Type: BlockImage, URL: "https://x/y", Detail: "high", Path: At("image")}}}}}, agent, false,
			head + `},"task":"see","img":"https://x/y"}`, "image.detail"},
		{"images before tool results", Request{Turns: []Turn{
			{Role: RoleUser, Blocks: []Block{{Type: BlockImage, URL: "https://x/y"}, {Type: BlockImage, URL: "data:image/png;base64,AA=="}}},
			{Role: RoleTool, Path: AtIndex("messages", 1), Blocks: []Block{{Type: BlockToolResult, Name: "f", Text: "r"}}},
		}}, agent, false, head + `},"task":"[f returned: r]","history":[{"role":"user","content":"[image 1]\n\n[image 2]"}],"imgs":["https://x/y","data:image/png;base64,AA=="]}`, ""},
		{"images of all turns", Request{Turns: []Turn{
			{Role: RoleSystem, Blocks: []Block{{Type: BlockText, Text: "Our logo:"}, {Type: BlockImage, URL: "http://logo"}}},
			{Role: RoleUser, Blocks: []Block{{Type: BlockImage, URL: "http://1"}, {Type: BlockText, Text: "What is it?"}}},
			{Role: RoleAssistant, Blocks: []Block{{Type: BlockText, Text: "This:"}, {Type: BlockImage, URL: "http://mine", Alt: "chart"}, {Type: BlockImage, URL: "data:image/png;base64,AA=="}}},
			{Role: RoleTool, Path: AtIndex("messages", 3), Blocks: []Block{{Type: BlockToolResult, Name: "f", Path: AtIndex("messages", 3), Parts: []Block{{Type: BlockText, Text: "shot: "}, {Type: BlockImage, URL: "http://2", Detail: "low", Path: At("part")}}}}},
			{Role: RoleUser, Blocks: []Block{{Type: BlockText, Text: "And this?"}, {Type: BlockImage, URL: "http://3"}}},
		}}, agent, false, head + `,"system_prompt":"Our logo:\n\n[image 1]"},"task":"And this?","history":[{"role":"user","content":"[image 2]\n\nWhat is it?"},` +
			`{"role":"assistant","content":"This:\n\n![chart](http://mine)\n\n[image 3]"},{"role":"user","content":"[f returned: shot: [image 4]]"}],"imgs":["http://logo","http://1","data:image/png;base64,AA==","http://2","http://3"]}`, "part.detail"},
		{"a setting said twice counts once", Request{Turns: []Turn{swarmsTurn(0, RoleUser, "q")}, Settings: []Setting{
			{ParamMaxTokens, "5", At("max_tokens")}, {ParamMaxTokens, "5", At("max_completion_tokens")}, {ParamUser, `"a"`, At("user")}, {ParamTopP, "0.1", At("top_p")}, {ParamTopP, "0.2", At("other")}}}, agent, false,
			head + `,"max_tokens":5,"llm_args":{"top_p":0.2}},"task":"q"}`, "user"},
		{"what a conversation loses", Request{Store: Yes, Turns: []Turn{
			swarmsTurn(0, RoleUser, "q"),
			{Role: RoleAssistant, Phase: PhaseCommentary, Path: AtIndex("input", 1), Blocks: []Block{{Type: BlockText, Text: "a", Annotations: []string{"{}"}, Path: At("part")}}},
			swarmsTurn(2, RoleUser, "r"),
		}, Tools: []Tool{{Name: "f", StrictByDefault: true, Path: AtIndex("tools", 0)}}}, agent, false,
			head + `,"tools_list_dictionary":[{"type":"function","function":{"name":"f"}}]},"task":"r","history":[{"role":"user","content":"q"},{"role":"assistant","content":"a"}]}`, "input[1].phase, part.annotations, tools[0].strict, store"},
		{"content that has no plain text, activity", Request{Turns: []Turn{
			swarmsTurn(0, RoleUser, "q"),
			{Role: RoleAssistant, Path: AtIndex("messages", 1), Blocks: []Block{{Type: BlockReasoning, Text: "hm", Path: At("thinking")}, {Type: BlockText, Text: "see:"}, {Type: BlockCode, Language: "go", Text: "x"}, {Type: BlockText, Text: "so."}, {Type: BlockStatus, Text: "s", Path: At("status")}}},
			{Role: RoleAssistant, Path: AtIndex("messages", 2), Blocks: []Block{{Type: BlockReasoning, Text: "hm", Path: At("thinking")}}},
			{Role: RoleUser, Name: "Bob", Path: AtIndex("messages", 3), Blocks: []Block{{Type: BlockText, Text: "r"}}},
		}}, agent, false, head + `},"task":"r","history":[{"role":"user","content":"q"},{"role":"assistant","content":"see:\n\n` + "````go\\nx\\n````" + `\n\nso."}]}`, "thinking, status, messages[3].name"},
		{"settings that get lost", Request{Turns: []Turn{swarmsTurn(0, RoleUser, "q")}, Settings: []Setting{
			{ParamStop, `["x"]`, At("stop")}, {ParamSeed, "1", At("seed")}, {ParamN, "1", At("n")}, {ParamLogprobs, "false", At("logprobs")},
			{ParamParallelToolCalls, "true", At("parallel_tool_calls")}, {ParamModalities, `["text"]`, At("modalities")}, {ParamReasoningEffort, `"minimal"`, At("reasoning_effort")},
			{ParamIncludeObfuscation, "true", At("stream_options.include_obfuscation")}, {ParamMetadata, "{}", At("metadata")}}}, agent, false,
			head + `,"reasoning_effort":"low"},"task":"q"}`, "reasoning_effort, stop, seed"},
		{"options", Request{Turns: []Turn{swarmsTurn(0, RoleUser, "q")}}, &Agent{Name: "support", Options: map[string]string{"max_loops": "auto"}}, false,
			head + `,"max_loops":"auto"},"task":"q"}`, ""},
		{"no tools by choice", Request{Turns: []Turn{swarmsTurn(0, RoleUser, "q")}, Tools: []Tool{{Name: "f"}}, ToolChoice: ToolChoice{Mode: ChoiceNone}}, agent, false, head + `},"task":"q"}`, ""},
		{"some tools by choice", Request{Turns: []Turn{swarmsTurn(0, RoleUser, "q")}, Tools: []Tool{{Name: "f"}, {Name: "g"}}, ToolChoice: ToolChoice{Mode: ChoiceAllowed, Tools: []Tool{{Name: "g"}}}}, agent, false,
			head + `,"tools_list_dictionary":[{"type":"function","function":{"name":"g"}}]},"task":"q"}`, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			r := c.r
			r.Face, r.Model = &Protocol{Name: "other"}, "m"
			got, err := swarmsProtocol.Encode([]byte("^"), &r, c.agent, c.stream)
			if err != nil {
				t.Fatal(err)
			}
			if string(got) != "^"+c.want {
				t.Errorf("got  %s\nwant ^%s", got, c.want)
			}
			if !jsonx.Valid(got[1:]) {
				t.Error("not JSON")
			}
			if got := r.Ledger.Header(); got != c.ledger {
				t.Errorf("ledger: got %s, want %s", got, c.ledger)
			}
		})
	}
}

func TestSwarmsRefusesWhatChangesTheMeaning(t *testing.T) {
	t.Parallel()
	q := swarmsTurn(0, RoleUser, "q")
	user := func(blocks ...Block) []Turn {
		return []Turn{{Role: RoleUser, Path: AtIndex("messages", 0), Blocks: blocks}}
	}
	at := At("here")
	for _, c := range []struct {
		name string
		r    Request
		want string
	}{
		{"n", Request{Turns: []Turn{q}, Settings: []Setting{{ParamN, "2", at}}}, "here"},
		{"audio out", Request{Turns: []Turn{q}, Settings: []Setting{{ParamModalities, `["text","audio"]`, at}}}, "here"},
		{"prompt", Request{Turns: []Turn{q}, Settings: []Setting{{ParamPrompt, `{}`, at}}}, "here"},
		{"required tool", Request{Turns: []Turn{q}, ToolChoice: ToolChoice{Mode: ChoiceRequired, Path: at}}, "here"},
		{"named tool", Request{Turns: []Turn{q}, ToolChoice: ToolChoice{Mode: ChoiceNamed, Path: at}}, "here"},
		{"forced choice", Request{Turns: []Turn{q}, ToolChoice: ToolChoice{Mode: ChoiceAllowed, Forced: true, Path: at}}, "here"},
		{"built-in tool", Request{Turns: []Turn{q}, Tools: []Tool{{Kind: ToolBuiltin, Name: "web_search", Path: at}}}, "here.type"},
		{"JSON mode", Request{Turns: []Turn{q}, Format: Format{Kind: FormatJSONObject, Path: at}}, "here"},
		{"JSON schema", Request{Turns: []Turn{q}, Format: Format{Kind: FormatJSONSchema, Path: at}}, "here"},
		{"file", Request{Turns: user(Block{Type: BlockFile, Path: at})}, "here"},
		{"audio", Request{Turns: user(Block{Type: BlockAudio})}, "messages[0]"},
		{"image by id", Request{Turns: user(Block{Type: BlockImage, FileID: "f", Path: at})}, "here"},
		{"relative image", Request{Turns: user(Block{Type: BlockImage, URL: "/a.png", Path: at})}, "here"},
		{"image by id in the history", Request{Turns: append(user(Block{Type: BlockImage, FileID: "f", Path: at}), q)}, "here"},
		{"web search", Request{Turns: []Turn{q}, Settings: []Setting{{ParamWebSearch, `{}`, at}}}, "here"},
		{"image in a tool result", Request{Turns: []Turn{{Role: RoleTool, Path: at, Blocks: []Block{{Type: BlockToolResult, Parts: []Block{{Type: BlockImage}}}}}}}, "here"},
		{"nobody asks", Request{Turns: []Turn{swarmsTurn(0, RoleSystem, "s")}}, "messages[0]"},
	} {
		c.r.Face = &Protocol{Name: "other"}
		got, err := swarmsProtocol.Encode([]byte("^"), &c.r, &Agent{Name: "a"}, false)
		if err == nil || err.Param != c.want || err.Status != 400 {
			t.Errorf("%s: got %s, %+v; want a 400 on %s", c.name, got, err, c.want)
		}
		if string(got) != "^" {
			t.Errorf("%s: got %s beside the error", c.name, got)
		}
	}
}

// A Swarms client in front of a Swarms backend in another mode: all that
// agent_config says arrives.
func TestSwarmsRequestRoundTrip(t *testing.T) {
	t.Parallel()
	const body = `{"agent_config":{"agent_name":"A","model_name":"m","system_prompt":"s","description":"D","role":"lead","temperature":0.50,"max_tokens":100,"reasoning_effort":"minimal","max_loops":"auto",` +
		`"tools_list_dictionary":[{"type":"function","function":{"name":"f","x-own":1}}],"llm_args":{"top_p":0.9,"stop":["x"],"api_base":"b","tool_choice":"required","response_format":{"type":"json_schema","json_schema":{"name":"n","description":"d","schema":{"type":"object"},"strict":false}}},"streaming_on":true},` +
		`"task":"t","history":[{"role":"user","content":"q"},{"role":"Researcher","content":"a"}],"imgs":["http://x","http://y"],"tools_enabled":["auto_search"],"stream":true}`
	r := decodeSwarms(t, body)
	got, err := swarmsProtocol.EncodeRequest(nil, r, &Agent{Name: "support"}, true)
	if err != nil {
		t.Fatal(err)
	}
	if got := r.Ledger.Header(); got != "unknown(1)" { // x-own, which the backends of other protocols do not get
		t.Errorf("ledger: got %s, want nothing else", got)
	}
	again := decodeSwarms(t, string(got))
	if got, want := swarmsDump(again), swarmsDump(r); len(got) != len(want) || !strings.Contains(got, "x-own") && again.Tools[0].Raw != r.Tools[0].Raw {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	for line := range strings.SplitSeq(swarmsDump(r), "\n") {
		if !strings.Contains(swarmsDump(again), line+"\n") && line != "" {
			t.Errorf("lost: %s", line)
		}
	}
}

func TestSwarmsSpliceRequest(t *testing.T) {
	t.Parallel()
	full := &Agent{Name: "a", Model: "gpt-4.1", SystemPrompt: "Be \"kind\".", MaxTokens: 9, Temperature: "0.10"}
	for _, c := range []struct {
		name  string
		agent *Agent
		body  string
		want  string
	}{
		{"nothing to do", &Agent{Name: "a"}, ` {"x":9007199254740993, "agent_config" : { } ,"task":"t"}`, ` {"x":9007199254740993, "agent_config" : { } ,"task":"t"}`},
		{"all silent", full, `{"z":1.0,"agent_config":{},"task":"t"}`,
			`{"z":1.0,"agent_config":{"model_name":"gpt-4.1","system_prompt":"Be \"kind\".","max_tokens":9,"temperature":0.10},"task":"t"}`},
		{"nulls are silent", full, `{"agent_config":{ "temperature":null, "system_prompt":"", "max_tokens" : null,"model_name":null,"k":1e400},"task":"t"}`,
			`{"agent_config":{ "temperature":0.10, "system_prompt":"Be \"kind\".", "max_tokens" : 9,"model_name":"gpt-4.1","k":1e400},"task":"t"}`},
		{"the client spoke", full, `{"task":"t","agent_config":{"agent_name":"A","model_name":"mine","system_prompt":"s","max_tokens":1,"temperature":0}}`,
			`{"task":"t","agent_config":{"agent_name":"A","model_name":"gpt-4.1","system_prompt":"s","max_tokens":1,"temperature":0}}`},
		{"the client spoke in llm_args", full, `{"agent_config":{"system_prompt":"s","llm_args":{"max_completion_tokens":1,"temperature":0}},"task":"t"}`,
			`{"agent_config":{"model_name":"gpt-4.1","system_prompt":"s","llm_args":{"max_completion_tokens":1,"temperature":0}},"task":"t"}`},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			got, err := swarmsProtocol.SpliceRequest([]byte("^"), decodeSwarms(t, c.body), c.agent)
			if err != nil || string(got) != "^"+c.want {
				t.Errorf("got  %s %v\nwant ^%s", got, err, c.want)
			}
		})
	}
}

// encodeSwarms writes events, given in their text form, as a stream.
func encodeSwarms(t testing.TB, s *Setup, events string) string {
	t.Helper()
	enc := swarmsProtocol.NewEncoder(s)
	var out []byte
	for _, e := range parseEventText(t, events) {
		out = enc.Encode(out, e)
	}
	return string(out)
}

const swarmsStamped = `"timestamp": "2026-02-05T00:58:15.200000+00:00"`

func TestSwarmsStream(t *testing.T) {
	t.Parallel()
	r := decodeSwarms(t, `{"agent_config":{"agent_name":"Creative \"Writer\"","description":"Writes","temperature":0.80},"task":"t"}`)
	s := swarmsSetup(r)
	got := encodeSwarms(t, s, `
ping
start id="x"
block 0 text msg=0 part=0
delta 0 "Once\n"
delta 0 "upon" logprobs=[{"token":"upon"}]
delta 0 "gone" replace
annotation 0 {"type":"url_citation"}
end 0
block 1 tool_call msg=1 part=0 name="f\"" call="c1"
delta 1 "{\"a\":"
delta 1 "1}"
end 1
block 2 tool_call msg=1 part=1 name="g" call="c2"
delta 2 "{\"a"
end 2 incomplete
usage input=45
block 3 text msg=2 part=0 author="A"
delta 3 "One"
end 3
block 4 text msg=3 part=0
delta 4 "Two"
end 4
usage output=120
finish length`)
	want := `: ping

data: {"job_id": "agent-` + swarmsSeed + `", "success": true, "name": "Creative \"Writer\"", "description": "Writes", "temperature": 0.80, ` + swarmsStamped + `, "stream": true, "type": "metadata"}

event: start
data: {"message": "Starting agent processing..."}

event: chunk
data: {"content": "Once\n", ` + swarmsStamped + `}

event: chunk
data: {"content": "upon", ` + swarmsStamped + `}

event: tool_calls
data: {"tool_calls": [{"function": {"arguments": "{\"a\":1}", "name": "f\""}, "id": "c1", "type": "function"}], ` + swarmsStamped + `}

event: agent_start
data: {"agent": "A"}

event: chunk
data: {"agent": "A", "content": "\n\nOne", ` + swarmsStamped + `}

event: agent_end
data: {"agent": "A"}

event: chunk
data: {"content": "\n\nTwo", ` + swarmsStamped + `}

event: usage
data: {"input_tokens": 45, "output_tokens": 120, "total_tokens": 165, "img_cost": 0.0, "total_cost": 0.0}

event: end
data: {"job_id": "agent-` + swarmsSeed + `", "usage": {"input_tokens": 45, "output_tokens": 120, "total_tokens": 165, "img_cost": 0.0, "total_cost": 0.0}, ` + swarmsStamped + `, "complete": true}

event: done
data: {"message": "Agent processing complete"}

`
	if got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	if got, want := s.Ledger.Header(), "logprobs, replaced_text, annotations, tool_calls, finish_reason"; got != want {
		t.Errorf("ledger: got %s, want %s", got, want)
	}
}

func TestSwarmsStreamFails(t *testing.T) {
	t.Parallel()
	got := encodeSwarms(t, swarmsSetup(nil), `fail status=502 code="x" message="It \"broke\""`)
	want := "event: error\ndata: {\"error\": \"It \\\"broke\\\"\", " + swarmsStamped + "}\n\n"
	if got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

func TestSwarmsAnswer(t *testing.T) {
	t.Parallel()
	const head = `{"job_id":"agent-` + swarmsSeed + `","success":true,"name":"support","description":null,"temperature":null,"outputs":[`
	const at = `"timestamp":"2026-02-05T00:58:15.200000","message_id":"01234567-89ab-4def-a123-456789ab000`
	for _, c := range []struct{ name, events, want, ledger string }{
		{"text", `
start
block 0 text msg=0 part=0
delta 0 "Hé\n"
end 0
block 1 text msg=0 part=1
delta 1 "you"
end 1
usage input=1 output=2
finish stop`, head + `{"role":"support","content":"Hé\nyou",` + at + `0"}],"usage":{"input_tokens":1,"output_tokens":2,"total_tokens":3,"img_cost":0.0,"total_cost":0.0},"timestamp":"2026-02-05T00:58:15.200000+00:00"}`, ""},
		{"speakers and calls", `
start
block 0 text msg=0 part=0 author="A" phase=commentary
delta 0 "One"
end 0
block 1 text msg=1 part=0 author="B"
delta 1 "Two"
end 1
block 2 tool_call msg=1 part=1 name="f" call="c1"
delta 2 "{\"x\":\"y\"}"
end 2
block 3 tool_call msg=1 part=2 name="g" call="c2"
delta 3 "{}"
end 3
block 4 tool_call msg=1 part=3 name="h" call="c3"
end 4 failed
finish tool_calls`, head + `{"role":"A","content":"One",` + at + `0"},{"role":"B","content":"Two",` + at + `1"},{"role":"B","content":[{"function":{"arguments":"{\"x\":\"y\"}","name":"f"},"id":"c1","type":"function"},` +
			`{"function":{"arguments":"{}","name":"g"},"id":"c2","type":"function"}],` + at + `2"}],"usage":null,"timestamp":"2026-02-05T00:58:15.200000+00:00"}`, "tool_calls"},
		{"nothing", "start\nfinish content_filter", head + `{"role":"support","content":"",` + at + `0"}],"usage":null,"timestamp":"2026-02-05T00:58:15.200000+00:00"}`, "finish_reason"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			s, f := swarmsSetup(nil), NewFold()
			for _, e := range parseEventText(t, c.events) {
				f.Event(e)
			}
			if got := string(swarmsProtocol.AppendAnswer([]byte("^"), s, f)); got != "^"+c.want {
				t.Errorf("got  %s\nwant ^%s", got, c.want)
			}
			if got := s.Ledger.Header(); got != c.ledger {
				t.Errorf("ledger: got %s, want %s", got, c.ledger)
			}
		})
	}
}

func TestSwarmsBodies(t *testing.T) {
	t.Parallel()
	e := &Error{Message: `Rate "limit"`, RetryAfter: 1500 * time.Millisecond}
	for _, c := range []struct{ name, got, want string }{
		{"error", string(swarmsProtocol.AppendError(nil, e)), `{"detail":"Rate \"limit\". Retry after 2 s."}`},
		{"cut", string(swarmsProtocol.AppendFailure(nil, Truncated(nil), &Tap{Created: 1770253095})),
			"event: error\ndata: {\"error\": \"The agent's answer broke off before its end.\", \"timestamp\": \"2026-02-05T00:58:15.000000+00:00\"}\n\n"},
		{"cut, no time", string(swarmsProtocol.AppendFailure(nil, Truncated(nil), &Tap{})), "event: error\ndata: {\"error\": \"The agent's answer broke off before its end.\"}\n\n"},
		{"agents", string(swarmsProtocol.AppendAgents(nil, OpAgents, []AgentInfo{{Name: "a"}, {Name: `b"`}})), `{"success":true,"count":2,"models":["a","b\""]}`},
		{"no agents", string(swarmsProtocol.AppendAgents(nil, OpAgents, nil)), `{"success":true,"count":0,"models":[]}`},
		{"health", string(swarmsProtocol.AppendAgents(nil, OpHealth, nil)), `{"status":"ok"}`},
	} {
		if c.got != c.want {
			t.Errorf("%s: got %s, want %s", c.name, c.got, c.want)
		}
	}
}

// runSwarms decodes a stream.
func runSwarms(s *Setup, stream string, cause *Error) (events string, check *Checker) {
	log := &eventLog{}
	check = &Checker{Next: log}
	dec := swarmsProtocol.NewDecoder(s)
	var r sse.Reader
	r.Feed([]byte(stream))
	for f, ok := r.Next(); ok; f, ok = r.Next() {
		dec.Frame(&f, check)
	}
	dec.End(cause, check)
	return log.String(), check
}

func TestSwarmsStreamEnds(t *testing.T) {
	t.Parallel()
	cut := Truncated(errors.New("reset"))
	const done = "event: done\ndata: {}\n\n"
	for _, c := range []struct {
		name, stream string
		cause        *Error
		want         string
	}{
		{"done", done, nil, "start\nfinish stop\n"},
		{"done without data", "event: done\n\n", nil, "start\nfinish stop\n"},
		{"the marker of other protocols", "data: [DONE]\n\n", nil, "start\nfinish stop\n"},
		{"nothing", "", nil, `fail status=502 code="stream_truncated" message="The agent's answer broke off before its end."` + "\n"},
		{"cut after the end", "event: end\ndata: {\"complete\":true}\n\n", cut, "start\nfinish stop\n"},
		{"cut before it", "event: chunk\ndata: {\"content\":\"\"}\n\n", cut, `fail status=502 code="stream_truncated" message="The agent's answer broke off before its end."` + "\n"},
		{"not complete", "event: end\ndata: {\"complete\":false}\n\n" + done, nil, `fail status=502 code="agent_error" message="The agent did not complete its answer."` + "\n"},
		{"a swarm that failed", "event: end\ndata: {\"status\":\"failed\",\"message\":\"m\",\"execution_time\":1}\n\n", nil, `fail status=502 code="agent_error" message="m"` + "\n"},
		{"error in plain words", "event: error\ndata: it broke\n\n" + done, nil, `fail status=502 code="agent_error" message="it broke"` + "\n"},
		{"error without words", "event: error\ndata: {}\n\n", nil, `fail status=502 code="agent_error" message="The agent reported an error."` + "\n"},
		{"error object, no event line", `data: {"error":{"type":"premium_access_required","message":"Premium subscription required"}}` + "\n\n", nil, `fail status=502 code="premium_access_required" message="Premium subscription required"` + "\n"},
		{"error that is null", "event: chunk\ndata: {\"content\":\"a\",\"error\":null}\n\n" + done, nil, "start\nblock 0 text msg=0 part=0\ndelta 0 \"a\"\nend 0\nfinish stop\n"},
		{"success false in a chunk", "event: chunk\ndata: {\"content\":\"a\",\"success\":false}\n\n" + done, nil, `fail status=502 code="agent_error" message="The agent reported an error."` + "\n"},
		{"not JSON", "event: chunk\ndata: {\"content\":\n\n", nil, `fail status=502 code="bad_gateway" message="The agent's answer could not be read."` + "\n"},
		{"ping, status, odd contents", ": ping\n\nevent: status\ndata: {\"a\":1}\n\nevent: chunk\ndata: {\"content\":[{\"type\":\"text\",\"text\":\"a\"}]}\n\nevent: chunk\ndata: {\"content\":{\"k\":1}}\n\nevent: chunk\ndata: {\"content\":null}\n\n" + done, nil,
			"ping\nstart\nnative name=\"status\" data=\"{\\\"a\\\":1}\"\nblock 0 text msg=0 part=0\ndelta 0 \"a\"\ndelta 0 \"{\\\"k\\\":1}\"\nend 0\nfinish stop\n"},
		{"a swarm without event lines", `data: {"agent":"A"}` + "\n\n" + `data: {"agent":"A","content":"a"}` + "\n\n" + `data: {"agent":"A"}` + "\n\n" +
			`data: {"agent":"B","content":"b"}` + "\n\n" + done, nil,
			"start\nblock 0 text msg=0 part=0 author=\"A\"\ndelta 0 \"a\"\nend 0\nblock 1 text msg=1 part=0 author=\"B\"\ndelta 1 \"b\"\nend 1\nfinish stop\n"},
		{"cut in what may be calls", "event: chunk\ndata: {\"content\":\"[{\\\"function\\\": {\"}\n\n", cut, "start\nblock 0 text msg=0 part=0\ndelta 0 \"[{\\\"function\\\": {\"\n" +
			`fail status=502 code="stream_truncated" message="The agent's answer broke off before its end."` + "\n"},
		{"a bracket that ends the answer", "event: chunk\ndata: {\"content\":\"[\"}\n\n" + done, nil, "start\nblock 0 text msg=0 part=0\ndelta 0 \"[\"\nend 0\nfinish stop\n"},
		{"an error with a status", "event: error\ndata: {\"error\":\"429: Rate limit exceeded\"}\n\n", nil, `fail status=429 code="rate_limit_exceeded" message="Rate limit exceeded"` + "\n"},
		{"whole output as a text", `data: {"output":"all of it"}` + "\n\n" + done, nil, "start\nblock 0 text msg=0 part=0\ndelta 0 \"all of it\"\nend 0\nfinish stop\n"},
		{"whole outputs of older swarms", `data: {"output":[{"role":"user","content":"q"},{"role":"A","content":"a"},{"role":"B","content":"b"}]}` + "\n\n" + done, nil,
			"start\nblock 0 text msg=0 part=0 author=\"A\"\ndelta 0 \"a\"\nend 0\nblock 1 text msg=1 part=0 author=\"B\"\ndelta 1 \"b\"\nend 1\nfinish stop\n"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			got, check := runSwarms(swarmsSetup(&Request{Tools: []Tool{{Name: "f"}}}), c.stream, c.cause)
			if got != c.want {
				t.Errorf("got\n%s\nwant\n%s", got, c.want)
			}
			if check.Err() != nil || !check.Ended() {
				t.Errorf("order: %v, ended %t", check.Err(), check.Ended())
			}
		})
	}
}

func TestSwarmsFinishing(t *testing.T) {
	t.Parallel()
	dec := swarmsProtocol.NewDecoder(swarmsSetup(&Request{}))
	out := &eventLog{}
	if dec.Finishing() {
		t.Error("finishing before the start")
	}
	dec.Frame(&sse.Frame{Event: []byte("end"), Data: []byte(`{"complete":true}`)}, out)
	if !dec.Finishing() || strings.Contains(out.String(), "finish") {
		t.Errorf("after end: finishing %t, events %s", dec.Finishing(), out)
	}
}

func TestSwarmsJSONThatIsNoAnswer(t *testing.T) {
	t.Parallel()
	const unreadable = `fail status=502 code="bad_gateway" message="The agent's answer could not be read."` + "\n"
	for _, c := range []struct{ body, want string }{
		{`[]`, unreadable},
		{`"text"`, unreadable},
		{`{"choices":[]}`, unreadable},
		{`{"detail":[{"loc":["body"],"msg":"bad"}]}`, `fail status=502 code="agent_error" message="body: bad"` + "\n"},
		{`{"detail":"400: Agent name is required"}`, `fail status=400 code="invalid_request" message="Agent name is required"` + "\n"},
		{`{"detail":"429: Rate limit exceeded."}`, `fail status=429 code="rate_limit_exceeded" message="Rate limit exceeded."` + "\n"},
		{`{"error":{"type":"premium_access_required","message":"Premium subscription required","detail":"d","status_code":403,"upgrade_url":"u"}}`,
			`fail status=502 code="premium_access_required" message="The proxy's credential for the agent was refused; this is for the operator to mend."` + "\n"},
		{`{"success":false}`, `fail status=502 code="agent_error" message="The agent reported an error."` + "\n"},
		{`{"success":false,"error":null,"outputs":[{"role":"A","content":"half"}]}`, `fail status=502 code="agent_error" message="The agent reported an error."` + "\n"},
		{`{"success":true,"outputs":42}`, "start\nblock 0 text msg=0 part=0\ndelta 0 \"42\"\nend 0\nfinish stop\n"},
		{`{"success":true,"outputs":[]}`, "start\nfinish stop\n"},
		{`{"outputs":[],"error":"it broke"}`, `fail status=502 code="agent_error" message="it broke"` + "\n"},
		{`{"status":"error","output":[],"detail":"d"}`, `fail status=502 code="agent_error" message="d"` + "\n"},
		{`{"outputs":["a",{"role":"assistant","content":5}],"error":null}`, "start\nblock 0 text msg=0 part=0 phase=commentary\ndelta 0 \"a\"\nend 0\nblock 1 text msg=1 part=0 phase=final_answer\ndelta 1 \"5\"\nend 1\nfinish stop\n"},
	} {
		log := &eventLog{}
		check := &Checker{Next: log}
		swarmsProtocol.NewDecoder(swarmsSetup(&Request{})).JSON([]byte(c.body), check)
		if log.String() != c.want || check.Err() != nil {
			t.Errorf("%s: got\n%s%v\nwant\n%s", c.body, log, check.Err(), c.want)
		}
	}
}

// Steady state: neither reading nor writing an event allocates.
func TestSwarmsChunkDoesNotAllocate(t *testing.T) {
	s := swarmsSetup(&Request{Tools: []Tool{{Name: "f"}}})
	out := &swarmsBuffer{enc: swarmsProtocol.NewEncoder(s)}
	dec := swarmsProtocol.NewDecoder(s)
	f := &sse.Frame{Event: []byte("chunk"), Data: []byte(`{"content": "caf\u00e9 \"au\" lait", "timestamp": "2026-02-05T00:58:15.200000+00:00"}`)}
	dec.Frame(f, out)
	if n := testing.AllocsPerRun(1000, func() { out.buf = out.buf[:0]; dec.Frame(f, out) }); n != 0 {
		t.Errorf("got %v allocations an event, want none", n)
	}
}
