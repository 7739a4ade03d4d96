package main

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/dragoman-proxy/dragoman/translate"
)

// A feature of a request, in the words of several faces: a backend is asked in
// the words of the first that is not its own. mark is a text that must arrive.
type feature struct {
	name string
	mark string
	in   []said
}

type said struct{ face, body string }

func inChat(members string) said {
	return said{"chat", `{"model":"m","messages":[{"role":"user","content":"Go."}],` + members + `}`}
}

func inChatMessages(messages string) said {
	return said{"chat", `{"model":"m","messages":[` + messages + `]}`}
}

func inResponses(members string) said {
	return said{"responses", `{"model":"m","input":"Go.",` + members + `}`}
}

func inResponsesItems(items string) said {
	return said{"responses", `{"model":"m","input":[` + items + `]}`}
}

func inSwarms(args string) said {
	return said{"swarms", `{"agent_config":{"agent_name":"m","llm_args":{` + args + `}},"task":"Go."}`}
}

func inTicos(parts string) said { return said{"ticos", `{"input":[` + parts + `]}`} }

const (
	functionTool = `"tools":[{"type":"function","function":{"name":"f"}}]`
	functionItem = `"tools":[{"type":"function","name":"f","strict":false}]`
)

var features = []feature{
	{"system prompt", "MARK", []said{
		inChatMessages(`{"role":"system","content":"MARK"},{"role":"user","content":"Go."}`), inResponses(`"instructions":"MARK"`)}},
	{"history", "MARK", []said{
		inChatMessages(`{"role":"user","content":"a"},{"role":"assistant","content":"MARK"},{"role":"user","content":"Go."}`),
		inResponsesItems(`{"role":"user","content":"a"},{"role":"assistant","content":"MARK"},{"role":"user","content":"Go."}`)}},
	{"earlier reasoning", "MARK", []said{
		inChatMessages(`{"role":"user","content":"a"},{"role":"assistant","content":"b","reasoning_content":"MARK"},{"role":"user","content":"Go."}`),
		inResponsesItems(`{"role":"user","content":"a"},{"type":"reasoning","summary":[{"type":"summary_text","text":"MARK"}]},{"role":"assistant","content":"b"},{"role":"user","content":"Go."}`)}},
	{"earlier tool calls and results", "MARK", []said{
		inChatMessages(`{"role":"user","content":"a"},{"role":"assistant","content":null,"tool_calls":[{"id":"call_1","type":"function","function":{"name":"f","arguments":"{}"}}]},{"role":"tool","tool_call_id":"call_1","content":"MARK"},{"role":"user","content":"Go."}`),
		inResponsesItems(`{"role":"user","content":"a"},{"type":"function_call","call_id":"call_1","name":"f","arguments":"{}"},{"type":"function_call_output","call_id":"call_1","output":"MARK"},{"role":"user","content":"Go."}`)}},
	{"names of participants", "MARK", []said{
		inChatMessages(`{"role":"user","name":"MARK","content":"Go."}`), {"cycls", `{"messages":[{"role":"user","name":"MARK","content":"Go."}]}`}}},
	{"images by URL", "https://example.com/a.png", []said{
		inChatMessages(`{"role":"user","content":[{"type":"text","text":"Go."},{"type":"image_url","image_url":{"url":"https://example.com/a.png"}}]}`),
		inResponsesItems(`{"role":"user","content":[{"type":"input_text","text":"Go."},{"type":"input_image","image_url":"https://example.com/a.png"}]}`)}},
	{"image data", "iVBORw0KGgoAAAA=", []said{
		inChatMessages(`{"role":"user","content":[{"type":"text","text":"Go."},{"type":"image_url","image_url":{"url":"data:image/png;base64,iVBORw0KGgoAAAA="}}]}`),
		inResponsesItems(`{"role":"user","content":[{"type":"input_text","text":"Go."},{"type":"input_image","image_url":"data:image/png;base64,iVBORw0KGgoAAAA="}]}`)}},
	{"file data", "JVBERi0xLjQ=", []said{
		inChatMessages(`{"role":"user","content":[{"type":"text","text":"Go."},{"type":"file","file":{"file_data":"data:application/pdf;base64,JVBERi0xLjQ="}}]}`),
		inResponsesItems(`{"role":"user","content":[{"type":"input_text","text":"Go."},{"type":"input_file","file_data":"data:application/pdf;base64,JVBERi0xLjQ="}]}`)}},
	{"files by URL", "https://example.com/a.pdf", []said{
		inResponsesItems(`{"role":"user","content":[{"type":"input_text","text":"Go."},{"type":"input_file","file_url":"https://example.com/a.pdf"}]}`),
		{"cycls", `{"messages":[{"role":"user","content":[{"type":"text","text":"Go."},{"type":"file","file":"https://example.com/a.pdf"}]}]}`}}},
	{"audio", "UklGRgAAAAA=", []said{
		inChatMessages(`{"role":"user","content":[{"type":"text","text":"Go."},{"type":"input_audio","input_audio":{"data":"UklGRgAAAAA=","format":"wav"}}]}`),
		inTicos(`{"type":"text","text":"Go."},{"type":"input_audio","input_audio":{"data":"UklGRgAAAAA=","format":"wav"}}`)}},
	{"function tools", "", []said{inChat(functionTool), inResponses(functionItem)}},
	{"custom tools", "", []said{inChat(`"tools":[{"type":"custom","custom":{"name":"f"}}]`), inResponses(`"tools":[{"type":"custom","name":"f"}]`)}},
	{"built-in tools", "", []said{inResponses(`"tools":[{"type":"web_search"}]`), {"cognipeer", `{"model":"m","input":"Go.","tools":[{"type":"web_search"}]}`}}},
	{"`tool_choice`: required or named", "", []said{inChat(functionTool + `,"tool_choice":"required"`), inResponses(functionItem + `,"tool_choice":"required"`)}},
	{"`parallel_tool_calls`: false", "", []said{inChat(functionTool + `,"parallel_tool_calls":false`), inResponses(functionItem + `,"parallel_tool_calls":false`)}},
	{"JSON schema, JSON mode", "", []said{inChat(`"response_format":{"type":"json_object"}`), inResponses(`"text":{"format":{"type":"json_object"}}`)}},
	{"temperature, `top_p`", "", []said{inChat(`"temperature":0.5,"top_p":0.9`), inResponses(`"temperature":0.5,"top_p":0.9`)}},
	{"limit of tokens", "", []said{inChat(`"max_completion_tokens":100`), inResponses(`"max_output_tokens":100`)}},
	{"penalties", "", []said{inChat(`"frequency_penalty":0.5,"presence_penalty":0.5`), inSwarms(`"frequency_penalty":0.5,"presence_penalty":0.5`)}},
	{"`stop`, `seed`, `logit_bias`", "", []said{inChat(`"stop":["x"],"seed":7,"logit_bias":{"1":1}`), inSwarms(`"stop":["x"],"seed":7,"logit_bias":{"1":1}`)}},
	{"log probabilities", "", []said{inChat(`"logprobs":true,"top_logprobs":2`), inResponses(`"include":["message.output_text.logprobs"],"top_logprobs":2`)}},
	{"reasoning effort", "", []said{inChat(`"reasoning_effort":"high"`), inResponses(`"reasoning":{"effort":"high"}`)}},
	{"verbosity", "", []said{inChat(`"verbosity":"low"`), inResponses(`"text":{"verbosity":"low"}`)}},
	{"metadata, user, service tier", "", []said{inChat(`"metadata":{"a":"b"},"user":"u","service_tier":"flex"`), inResponses(`"metadata":{"a":"b"},"user":"u","service_tier":"flex"`)}},
	{"`n` above 1", "", []said{inChat(`"n":2`), inSwarms(`"n":2`)}},
}

// carried says what becomes of a feature at a backend.
func carried(t *testing.T, f feature, back *translate.Protocol) string {
	t.Helper()
	at := slices.IndexFunc(f.in, func(s said) bool { return s.face != back.Name })
	if at < 0 {
		t.Fatalf("%s has no words for a backend of %s", f.name, back.Name)
	}
	face := translate.Lookup(f.in[at].face)
	r, e := face.DecodeRequest(&translate.Inbound{Route: generateRoute(face), ID: "m", Body: []byte(f.in[at].body)})
	if e != nil {
		t.Fatalf("%s: %v (%s)", f.name, e, e.Param)
	}
	out, e := back.Encode(nil, r, &translate.Agent{Name: "it", Options: map[string]string{}}, false)
	text := string(out)
	switch {
	case e != nil:
		return "400"
	case f.mark == "" || f.mark != "MARK":
		if r.Ledger.Len() > 0 {
			return "dropped"
		}
		if f.mark != "" && !strings.Contains(text, f.mark) {
			t.Errorf("%s is lost towards %s: %s", f.name, back.Name, text)
		}
		return "✓"
	case strings.Contains(text, `"MARK"`) && r.Ledger.Len() == 0:
		return "✓"
	case strings.Contains(text, "MARK"):
		return "as text"
	case r.Ledger.Len() > 0:
		return "dropped"
	}
	t.Errorf("%s is lost towards %s: %s", f.name, back.Name, text)
	return "lost"
}

func generateRoute(p *translate.Protocol) *translate.Route {
	for i := range p.Routes {
		if p.Routes[i].Op == translate.OpGenerate {
			return &p.Routes[i]
		}
	}
	return nil
}

func requestTable(t *testing.T) string {
	var b strings.Builder
	b.WriteString("| a request's |")
	for _, p := range translate.Protocols() {
		b.WriteString(" `" + p.Name + "` |")
	}
	b.WriteString("\n| --- |" + strings.Repeat(" --- |", len(translate.Protocols())) + "\n")
	for _, f := range features {
		b.WriteString("| " + f.name + " |")
		for _, p := range translate.Protocols() {
			b.WriteString(" " + carried(t, f, p) + " |")
		}
		b.WriteString("\n")
	}
	return b.String()
}

// A showing is something that an agent says or does, as a backend of some
// protocol streams it, with MARK in it.
type showing struct {
	name    string
	backend string
	stream  string
	block   translate.BlockType
}

func data(frames ...string) string {
	var b strings.Builder
	for _, f := range frames {
		b.WriteString("data: " + f + "\n\n")
	}
	return b.String()
}

func fromCycls(events ...string) string {
	return data(append(append([]string{`{"type":"text","text":"Hi."}`}, events...), "[DONE]")...)
}

func fromChat(choice string) string {
	return data(`{"id":"c","object":"chat.completion.chunk","created":1,"model":"m","choices":[{"index":0,"delta":{"role":"assistant","content":"Hi."},"finish_reason":null}]}`,
		`{"id":"c","object":"chat.completion.chunk","created":1,"model":"m","choices":[{"index":0,`+choice+`,"finish_reason":null}]}`,
		`{"id":"c","object":"chat.completion.chunk","created":1,"model":"m","choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}`, "[DONE]")
}

func fromResponses(items ...string) string {
	var b strings.Builder
	b.WriteString("event: response.created\ndata: {\"type\":\"response.created\",\"response\":{\"id\":\"r\",\"status\":\"in_progress\",\"output\":[]}}\n\n")
	for i, item := range items {
		for _, kind := range []string{"added", "done"} {
			b.WriteString("event: response.output_item." + kind + "\ndata: {\"type\":\"response.output_item." + kind + "\",\"output_index\":" + string(rune('0'+i)) + ",\"item\":" + item + "}\n\n")
		}
	}
	b.WriteString("event: response.completed\ndata: {\"type\":\"response.completed\",\"response\":{\"id\":\"r\",\"status\":\"completed\",\"output\":[" + strings.Join(items, ",") + "]}}\n\n")
	return b.String()
}

var showings = []showing{
	{"text", "cycls", fromCycls(`{"type":"text","text":"MARK"}`), translate.BlockText},
	{"code", "cycls", fromCycls(`{"type":"code","code":"MARK","language":"go"}`), translate.BlockCode},
	{"table", "cycls", fromCycls(`{"type":"table","headers":["A"]}`, `{"type":"table","row":["MARK"]}`), translate.BlockTable},
	{"callout", "cycls", fromCycls(`{"type":"callout","callout":"MARK","style":"info"}`), translate.BlockCallout},
	{"image", "cycls", fromCycls(`{"type":"image","src":"https://example.com/MARK.png"}`), translate.BlockImage},
	{"file", "cycls", fromCycls(`{"type":"file","path":"https://example.com/MARK.pdf","name":"a.pdf"}`), translate.BlockFile},
	{"refusal", "chat", fromChat(`"delta":{"refusal":"MARK"}`), translate.BlockRefusal},
	{"citations", "chat", fromChat(`"delta":{"annotations":[{"type":"url_citation","url_citation":{"url":"https://example.com/MARK","title":"T","start_index":0,"end_index":1}}]}`), translate.BlockText},
	{"log probabilities", "chat", fromChat(`"delta":{"content":"a"},"logprobs":{"content":[{"token":"MARK","logprob":-1,"bytes":null,"top_logprobs":[]}],"refusal":null}`), translate.BlockText},
	{"calls of the client's tools", "chat", fromChat(`"delta":{"tool_calls":[{"index":0,"id":"call_1","type":"function","function":{"name":"f","arguments":"{\"MARK\":1}"}}]}`), translate.BlockToolCall},
	{"reasoning", "cycls", fromCycls(`{"type":"thinking","thinking":"MARK"}`), translate.BlockReasoning},
	{"commentary before the answer", "responses", fromResponses(
		`{"type":"message","id":"m1","role":"assistant","status":"completed","phase":"commentary","content":[{"type":"output_text","text":"MARK","annotations":[]}]}`,
		`{"type":"message","id":"m2","role":"assistant","status":"completed","phase":"final_answer","content":[{"type":"output_text","text":"Hi.","annotations":[]}]}`), translate.BlockText},
	{"status lines", "cycls", fromCycls(`{"type":"status","status":"MARK"}`), translate.BlockStatus},
	{"steps", "cycls", fromCycls(`{"type":"step","step":"MARK"}`), translate.BlockStep},
	{"tools that the agent ran itself", "cycls", fromCycls(`{"type":"step","step":"MARK","tool_name":"look","id":"s1"}`, `{"type":"step","id":"s1","ok":true,"result":"MARK"}`), translate.BlockToolResult},
	{"other events of the agent's", "cycls", fromCycls(`{"type":"ui","action":"MARK"}`), translate.BlockData},
}

// shown says what a client sees of it.
func shown(t *testing.T, s showing, face *translate.Protocol) string {
	t.Helper()
	bodies := map[string]string{
		"chat":      `{"model":"m","messages":[{"role":"user","content":"Go."}],"logprobs":true,` + functionTool + `}`,
		"responses": `{"model":"m","input":"Go.","include":["message.output_text.logprobs"],` + functionItem + `}`,
		"cognipeer": `{"model":"m","input":"Go.","include":["message.output_text.logprobs"],` + functionItem + `}`,
		"ticos":     `{"input":"Go."}`,
		"swarms":    `{"agent_config":{"agent_name":"m","tools_list_dictionary":[{"type":"function","function":{"name":"f"}}]},"task":"Go."}`,
		"cycls":     `{"messages":[{"role":"user","content":"Go."}]}`,
	}
	r, e := face.DecodeRequest(&translate.Inbound{Route: generateRoute(face), ID: "m", Body: []byte(bodies[face.Name])})
	if e != nil {
		t.Fatal(e)
	}
	r.Tools = append(r.Tools, translate.Tool{Name: "f"}) // whatever the protocol can say
	r.Stream = face.Name != s.backend                    // else the bytes would pass
	var lost translate.Ledger
	a := translate.NewAnswer(&translate.Setup{
		Request: r, Agent: &translate.Agent{Name: "it", Options: map[string]string{}}, Seed: "0", Ledger: &lost,
		Now: func() time.Time { return time.Unix(1, 0) },
	}, translate.Lookup(s.backend), r.Stream, true)
	text := string(a.End(a.Feed(nil, []byte(s.stream)), nil))
	if a.Err() != nil {
		t.Fatalf("%s to %s: %v", s.name, face.Name, a.Err())
	}
	there, told := strings.Contains(text, "MARK"), lost.Len() > 0
	speaks := face.Speaks.Blocks.Has(s.block)
	switch {
	case !there && told:
		return "dropped"
	case !there:
		t.Errorf("%s is lost towards %s: %s", s.name, face.Name, text)
		return "lost"
	case s.block == translate.BlockText && strings.Contains(text, `"reasoning_content":"MARK`), s.block == translate.BlockText && strings.Contains(text, `"thinking": "MARK`),
		s.block == translate.BlockText && strings.Contains(text, `"thinking":"MARK`):
		return "as reasoning"
	case speaks && !told:
		return "✓"
	case told:
		return "in part"
	case s.block == translate.BlockRefusal:
		return "as text"
	case translate.ContentBlocks.Has(s.block):
		return "Markdown"
	}
	return "✓"
}

func answerTable(t *testing.T) string {
	var b strings.Builder
	b.WriteString("| an agent's |")
	for _, p := range translate.Protocols() {
		b.WriteString(" `" + p.Name + "` |")
	}
	b.WriteString("\n| --- |" + strings.Repeat(" --- |", len(translate.Protocols())) + "\n")
	for _, s := range showings {
		b.WriteString("| " + s.name + " |")
		for _, p := range translate.Protocols() {
			b.WriteString(" " + shown(t, s, p) + " |")
		}
		b.WriteString("\n")
	}
	return b.String()
}
