package translate

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/tidwall/gjson"

	"github.com/dragoman-proxy/dragoman/internal/jsonx"
	"github.com/dragoman-proxy/dragoman/internal/sse"
)

// streamChecks hold what each face sends to the grammar of its protocol, as
// the clients of that protocol read it.
var streamChecks = map[string]func(stream []byte) error{
	"chat":      checkChatStream,
	"responses": checkResponsesStream,
	"cognipeer": checkResponsesStream,
	"ticos":     checkChatStream,
	"swarms":    checkSwarmsStream,
	"cycls":     func(b []byte) error { _, err := checkCyclsStream(b); return err },
}

// answerChecks hold the JSON answers of the faces to the members that their
// clients need.
var answerChecks = map[string]func(r gjson.Result) error{
	"chat":      checkCompletion,
	"responses": checkResponsesAnswer,
	"cognipeer": checkResponsesAnswer,
	"ticos":     checkCompletion,
}

// checkAnswer checks a JSON answer of a face.
func checkAnswer(face *Protocol, body []byte) error {
	if !jsonx.Valid(body) {
		return errors.New("the answer is not JSON")
	}
	if check := answerChecks[face.Name]; check != nil {
		return check(gjson.ParseBytes(body))
	}
	return nil
}

// members reports the first key of an object that is not among the allowed ones,
// or the first of the required ones that it lacks. Words with a question mark are
// optional.
func members(o gjson.Result, allowed string) error {
	if !o.IsObject() {
		return fmt.Errorf("%s is no object", o.Raw)
	}
	known := map[string]bool{}
	for w := range strings.FieldsSeq(allowed) {
		name := strings.TrimSuffix(w, "?")
		known[name] = true
		if name == w && !o.Get(name).Exists() {
			return fmt.Errorf("%s is missing", name)
		}
	}
	var err error
	o.ForEach(func(k, _ gjson.Result) bool {
		if !known[k.String()] {
			err = fmt.Errorf("%s does not belong there", k.String())
		}
		known[k.String()] = false // nor does a second one
		return err == nil
	})
	return err
}

// checkUsage: the counts of a chat completion.
func checkUsage(u gjson.Result) error {
	if err := members(u, "prompt_tokens completion_tokens total_tokens prompt_tokens_details? completion_tokens_details?"); err != nil {
		return fmt.Errorf("usage: %w", err)
	}
	for _, k := range []string{"prompt_tokens", "completion_tokens", "total_tokens"} {
		if u.Get(k).Type != gjson.Number {
			return fmt.Errorf("usage: %s is %s", k, u.Get(k).Raw)
		}
	}
	return nil
}

const finishReasons = " stop length tool_calls content_filter function_call "

// checkCompletion: the members that chat.completion requires, and those whose
// absence or type some client trips over.
func checkCompletion(r gjson.Result) error {
	if err := members(r, "id object created model choices usage? service_tier?"); err != nil {
		return err
	}
	switch {
	case r.Get("object").Str != "chat.completion":
		return fmt.Errorf("object is %s", r.Get("object").Raw)
	case r.Get("id").Str == "" || r.Get("model").Str == "" || r.Get("created").Int() <= 0:
		return errors.New("id, created or model is empty")
	case r.Get("choices.#").Int() != 1:
		return fmt.Errorf("%d choices", r.Get("choices.#").Int())
	}
	if u := r.Get("usage"); u.Exists() {
		if err := checkUsage(u); err != nil {
			return err
		}
	}
	c := r.Get("choices.0")
	if err := members(c, "index message finish_reason logprobs?"); err != nil {
		return fmt.Errorf("choice: %w", err)
	}
	m := c.Get("message")
	if err := members(m, "role content refusal? reasoning_content? annotations? tool_calls? function_call?"); err != nil {
		return fmt.Errorf("message: %w", err)
	}
	content, refusal, calls := m.Get("content"), m.Get("refusal"), m.Get("tool_calls")
	switch {
	case m.Get("role").Str != "assistant":
		return fmt.Errorf("role is %s", m.Get("role").Raw)
	case content.Type != gjson.String && content.Type != gjson.Null, refusal.Exists() && refusal.Type != gjson.String && refusal.Type != gjson.Null:
		return fmt.Errorf("content is %s, refusal %s", content.Raw, refusal.Raw)
	case content.Type == gjson.Null && !calls.Exists() && !m.Get("function_call").Exists() && refusal.Type != gjson.String:
		return errors.New("content is null, and there is nothing else")
	case calls.Exists() && (!calls.IsArray() || calls.Raw == "[]"):
		return fmt.Errorf("tool_calls is %s", calls.Raw)
	}
	for _, call := range calls.Array() {
		kind := call.Get("type").Str
		if err := members(call, "id type "+kind); err != nil {
			return fmt.Errorf("tool call: %w", err)
		}
		field := map[string]string{"function": "arguments", "custom": "input"}[kind]
		if err := members(call.Get(kind), "name "+field); err != nil {
			return fmt.Errorf("tool call: %w", err)
		}
		id := call.Get("id").Str
		switch {
		case id == "":
			return errors.New("the call has no id")
		case call.Get(kind).Get("name").Str == "" || call.Get(kind).Get(field).Type != gjson.String:
			return fmt.Errorf("call %s", call.Raw)
		case kind == "function" && c.Get("finish_reason").Str == "tool_calls" && call.Get("function.arguments").Str == "":
			return errors.New("the arguments are no JSON")
		}
	}
	finish := c.Get("finish_reason").Str
	if !strings.Contains(finishReasons, " "+finish+" ") || finish == "" {
		return fmt.Errorf("finish_reason is %s", c.Get("finish_reason").Raw)
	}
	if (finish == "tool_calls") != calls.Exists() && (finish == "tool_calls" || finish == "stop") {
		return fmt.Errorf("finish_reason is %s with %d calls", finish, calls.Get("#").Int())
	}
	return nil
}

// checkStream checks what a face has sent.
func checkStream(face *Protocol, stream []byte) error {
	check := streamChecks[face.Name]
	if check == nil {
		return errors.New("streamChecks has no check of it")
	}
	return check(stream)
}

// splitStream takes a stream of ours apart. It is strict where clients are:
// only event and data lines and comments, LF, one data line, a blank line after
// every frame, no event without data (each kills some official SDK).
func splitStream(stream []byte) ([]sse.Frame, error) {
	if bytes.IndexByte(stream, '\r') >= 0 {
		return nil, errors.New("a carriage return")
	}
	var frames []sse.Frame
	for rest := string(stream); rest != ""; {
		text, after, ok := strings.Cut(rest, "\n\n")
		if !ok {
			return nil, fmt.Errorf("the last frame has no blank line: %q", rest)
		}
		rest = after
		var f sse.Frame
		for line := range strings.SplitSeq(text, "\n") {
			switch {
			case strings.HasPrefix(line, ":"):
				continue
			case strings.HasPrefix(line, "event: ") && f.Event == nil && f.Data == nil:
				f.Event = []byte(line[len("event: "):])
			case strings.HasPrefix(line, "data: ") && f.Data == nil:
				f.Data = []byte(line[len("data: "):])
			default:
				return nil, fmt.Errorf("line %q", line)
			}
		}
		if f.Event != nil && f.Data == nil {
			return nil, fmt.Errorf("event %q without data", f.Event)
		}
		if f.Data == nil {
			continue
		}
		if string(f.Data) != "[DONE]" && !jsonx.Valid(f.Data) {
			return nil, fmt.Errorf("data is not JSON: %q", f.Data)
		}
		frames = append(frames, f)
	}
	return frames, nil
}

// checkChatStream: what OpenAI sends and the official clients insist on.
func checkChatStream(stream []byte) error {
	frames, err := splitStream(stream)
	if err != nil {
		return err
	}
	if len(frames) == 0 || string(frames[len(frames)-1].Data) != "[DONE]" {
		return errors.New("no [DONE] at the end")
	}
	var head, finish, usage, counted string
	names := map[int]string{}
	arguments := map[int]string{}
	failed, legacy := false, false
	for i, f := range frames[:len(frames)-1] {
		fault := func(format string, args ...any) error {
			return fmt.Errorf("chunk %d: %s: %s", i, fmt.Sprintf(format, args...), f.Data)
		}
		if f.Event != nil {
			return fault("an event line")
		}
		if failed {
			return fault("after the error")
		}
		c := gjson.ParseBytes(f.Data)
		if e := c.Get("error"); e.Exists() {
			for _, k := range []string{"message", "type", "param", "code"} {
				if !e.Get(k).Exists() {
					return fault("error without %s", k)
				}
			}
			if finish != "" {
				return fault("an error after finish_reason")
			}
			failed = true
			continue
		}
		if err := members(c, "id object created model choices usage? service_tier?"); err != nil {
			return fault("%v", err)
		}
		// Who asked for usage gets it as null until it is known.
		switch u := c.Get("usage"); {
		case i == 0:
			counted = u.Raw
		case !u.IsObject() && u.Raw != counted, u.IsObject() && counted != "null":
			return fault("usage is %q, was %q", u.Raw, counted)
		}
		h := c.Get("id").String() + " " + c.Get("created").Raw + " " + c.Get("model").String()
		switch {
		case c.Get("object").String() != "chat.completion.chunk":
			return fault("object")
		case c.Get("id").String() == "" || c.Get("created").Int() == 0 || c.Get("model").String() == "":
			return fault("id, created or model is empty")
		case head != "" && h != head:
			return fault("id, created or model changed from %s", head)
		}
		head = h
		if u := c.Get("usage"); u.IsObject() {
			if finish == "" || usage != "" || c.Get("choices").Raw != "[]" {
				return fault("usage")
			}
			if err := checkUsage(u); err != nil {
				return fault("%v", err)
			}
			usage = u.Raw
			continue
		} else if usage != "" {
			return fault("after the usage")
		}
		if n := c.Get("choices.#").Int(); n != 1 {
			return fault("%d choices", n)
		}
		choice := c.Get("choices.0")
		delta := choice.Get("delta")
		if err := members(choice, "index delta finish_reason logprobs?"); err != nil {
			return fault("%v", err)
		}
		if err := members(delta, "role? content? refusal? reasoning_content? annotations? tool_calls? function_call?"); err != nil {
			return fault("%v", err)
		}
		switch {
		case choice.Get("index").Raw != "0" || !delta.IsObject() || !choice.Get("finish_reason").Exists():
			return fault("choice")
		case finish != "":
			return fault("after finish_reason")
		case (i == 0) != (delta.Get("role").String() == "assistant") || i > 0 && delta.Get("role").Exists():
			return fault("role")
		case choice.Get("finish_reason").Type != gjson.Null && delta.Raw != "{}":
			return fault("the finish says something")
		case i > 0 && delta.Raw == "{}" && choice.Get("finish_reason").Type == gjson.Null:
			return fault("nothing said")
		}
		for _, k := range []string{"content", "refusal", "reasoning_content"} {
			if v := delta.Get(k); i > 0 && v.Exists() && (v.Type != gjson.String || v.Str == "") {
				return fault("%s", k)
			}
		}
		if calls := delta.Get("tool_calls"); calls.Exists() && calls.Get("#").Int() == 0 {
			return fault("no tool call")
		}
		if f := delta.Get("function_call"); f.Exists() {
			if f.Get("name").Exists() == legacy || !f.Get("arguments").Exists() {
				return fault("function_call")
			}
			legacy = true
		}
		for _, call := range delta.Get("tool_calls").Array() {
			index := int(call.Get("index").Int())
			name, known := names[index]
			allowed := "index function"
			if !known {
				allowed = "index id type function? custom?"
			} else if strings.HasPrefix(name, "custom ") {
				allowed = "index custom"
			}
			if err := members(call, allowed); err != nil {
				return fault("tool call: %v", err)
			}
			arguments[index] += call.Get("function.arguments").Str
			if known && call.Get("function.arguments").Str == "" && call.Get("custom.input").Str == "" {
				return fault("no arguments")
			}
			switch {
			case !call.Get("index").Exists() || index > len(names):
				return fault("tool index")
			case known && (call.Get("id").Exists() || call.Get("type").Exists() || call.Get("function.name").Exists() || call.Get("custom.name").Exists()):
				return fault("call %s is told again", name)
			case !known:
				id, typ := call.Get("id").String(), call.Get("type").String()
				name := call.Get(typ + ".name").String()
				if id == "" || typ != "function" && typ != "custom" || name == "" {
					return fault("opening of a call")
				}
				names[index] = typ + " " + name + " " + id
			}
		}
		finish = choice.Get("finish_reason").String()
		if finish != "" && !strings.Contains(finishReasons, " "+finish+" ") {
			return fault("finish_reason")
		}
	}
	for i, name := range names {
		if finish == "tool_calls" && strings.HasPrefix(name, "function ") && arguments[i] == "" {
			return fmt.Errorf("the arguments of %s are no JSON", name)
		}
	}
	switch {
	case legacy != (finish == "function_call") && !failed:
		return fmt.Errorf("function_call %v, finish_reason %s", legacy, finish)
	case legacy && len(names) > 0:
		return errors.New("function_call and tool_calls")
	case head == "" && !failed:
		return errors.New("no chunks")
	case failed && finish != "" || !failed && finish == "":
		return fmt.Errorf("failed %v, finish_reason %q", failed, finish)
	case finish == "tool_calls" && len(names) == 0 || finish == "stop" && len(names) > 0:
		return fmt.Errorf("finish_reason %s with %d calls", finish, len(names))
	}
	return nil
}

// checkSwarmsStream: the events that Swarms documents.
func checkSwarmsStream(stream []byte) error {
	frames, err := splitStream(stream)
	if err != nil {
		return err
	}
	state, job := "", ""
	agent := ""
	for i, f := range frames {
		fault := func(format string, args ...any) error {
			return fmt.Errorf("frame %d after %q: %s: %s %s", i, state, fmt.Sprintf(format, args...), f.Event, f.Data)
		}
		d := gjson.ParseBytes(f.Data)
		event := string(f.Event)
		if event == "" {
			event = d.Get("type").String()
		}
		order := map[string]string{
			"metadata": "", "start": "metadata", "chunk": "start chunk tool_calls agent_start agent_end",
			"tool_calls": "start chunk tool_calls agent_start agent_end", "agent_start": "start chunk tool_calls agent_end",
			"agent_end": "agent_start chunk tool_calls", "usage": "start chunk tool_calls agent_end", "end": "usage start chunk tool_calls agent_end",
			"done": "end", "error": "start chunk tool_calls agent_start agent_end",
		}
		before, known := order[event]
		if !known || (state == "") != (before == "") || state != "" && !strings.Contains(" "+before+" ", " "+state+" ") {
			if event != "error" || state != "" { // a failure may be the only frame
				return fault("not in order")
			}
		}
		state = event
		var needs []string
		switch event {
		case "metadata":
			needs, job = []string{"job_id", "success", "name", "timestamp", "stream", "type"}, d.Get("job_id").String()
			if f.Event != nil {
				return fault("the first frame has no event line")
			}
		case "start", "done":
			needs = []string{"message"}
		case "chunk":
			needs = []string{"content", "timestamp"}
			if d.Get("content").String() == "" {
				return fault("empty chunk")
			}
			if d.Get("agent").String() != agent {
				return fault("agent, while %q speaks", agent)
			}
		case "agent_start":
			needs, agent = []string{"agent"}, d.Get("agent").String()
		case "agent_end":
			if d.Get("agent").String() != agent {
				return fault("agent, while %q speaks", agent)
			}
			agent = ""
		case "tool_calls":
			needs = []string{"tool_calls.0.function.name", "tool_calls.0.function.arguments", "tool_calls.0.id", "timestamp"}
		case "usage":
			needs = []string{"total_tokens"}
		case "end":
			needs = []string{"job_id", "usage", "timestamp", "complete"}
			if d.Get("job_id").String() != job {
				return fault("another job")
			}
		case "error":
			needs = []string{"error", "timestamp"}
		}
		for _, k := range needs {
			if !d.Get(k).Exists() {
				return fault("%s is missing", k)
			}
		}
	}
	if state != "done" && state != "error" {
		return fmt.Errorf("the stream ends with %q", state)
	}
	return nil
}

// cyclsPart is a component as the client keeps it.
type cyclsPart struct {
	kind   string
	fields map[string]gjson.Result
	text   string // the member named like the type
	rows   []string
	headed bool
}

// checkCyclsStream merges a stream as the web client does (
// the older and harsher algorithm) and finds whatever it would lose.
func checkCyclsStream(stream []byte) ([]cyclsPart, error) {
	frames, err := splitStream(stream)
	if err != nil {
		return nil, err
	}
	var parts []cyclsPart
	steps := map[string]bool{}
	done := false
	for i, f := range frames {
		fault := func(format string, args ...any) error {
			return fmt.Errorf("event %d: %s: %s", i, fmt.Sprintf(format, args...), f.Data)
		}
		if f.Event != nil {
			return nil, fault("an event line")
		}
		if done {
			return nil, fault("after [DONE]")
		}
		if string(f.Data) == "[DONE]" {
			done = true
			continue
		}
		item := gjson.ParseBytes(f.Data)
		kind := item.Get("type").String()
		switch kind {
		case "":
			return nil, fault("no type")
		case "chat_id", "session_id":
			if i != 0 {
				return nil, fault("not the first event")
			}
			continue
		case "step_arg":
			if !steps[item.Get("id").String()] {
				return nil, fault("no such step")
			}
			continue
		case "step":
			if id := item.Get("id").String(); id != "" {
				steps[id] = true
			}
			parts = append(parts, cyclsPart{kind: kind})
			continue
		case "text", "thinking", "code", "table", "callout", "image", "status", "tool_call":
		default: // an agent's own, passed on as it came
			parts = append(parts, cyclsPart{kind: kind})
			continue
		}
		if item.Get("rows").Exists() {
			return nil, fault("rows are discarded")
		}
		fields := item.Map()
		var last *cyclsPart
		if len(parts) > 0 {
			last = &parts[len(parts)-1]
		}
		if last == nil || last.kind != kind {
			p := cyclsPart{kind: kind, fields: fields, text: fields[kind].String(), headed: fields["headers"].IsArray()}
			if fields["row"].Exists() {
				return nil, fault("a row without headers")
			}
			parts = append(parts, p)
			continue
		}
		switch {
		case item.Get("row").Exists():
			if !last.headed {
				return nil, fault("a row without headers")
			}
			last.rows = append(last.rows, item.Get("row").Raw)
		case fields[kind].Type == gjson.String && kind != "callout" && kind != "status":
			last.text += fields[kind].String()
			for k := range fields {
				if k != "type" && k != kind {
					return nil, fault("%s is lost in the merge", k)
				}
			}
		default:
			return nil, fault("lost in the merge")
		}
	}
	if !done {
		return nil, errors.New("no [DONE] at the end")
	}
	return parts, nil
}

// The checks must be able to fail: each line is a stream that some client
// would choke on.
func TestStreamChecksSeeFaults(t *testing.T) {
	t.Parallel()
	const (
		head  = `data: {"id":"c","object":"chat.completion.chunk","created":1,"model":"m","choices":[{"index":0,"delta":{"role":"assistant","content":""},"finish_reason":null}]}` + "\n\n"
		text  = `data: {"id":"c","object":"chat.completion.chunk","created":1,"model":"m","choices":[{"index":0,"delta":{"content":"a"},"finish_reason":null}]}` + "\n\n"
		open  = `data: {"id":"c","object":"chat.completion.chunk","created":1,"model":"m","choices":[{"index":0,"delta":{"tool_calls":[{"index":0,"id":"k","type":"function","function":{"name":"f","arguments":""}}]},"finish_reason":null}]}` + "\n\n"
		stop  = `data: {"id":"c","object":"chat.completion.chunk","created":1,"model":"m","choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}` + "\n\n"
		count = `data: {"id":"c","object":"chat.completion.chunk","created":1,"model":"m","choices":[],"usage":{"prompt_tokens":1,"completion_tokens":1,"total_tokens":2}}` + "\n\n"
		args  = `data: {"id":"c","object":"chat.completion.chunk","created":1,"model":"m","choices":[{"index":0,"delta":{"tool_calls":[{"index":0,"function":{"arguments":"{}"}}]},"finish_reason":null}]}` + "\n\n"
		fail  = `data: {"error":{"message":"m","type":"t","param":null,"code":null}}` + "\n\n"
		done  = "data: [DONE]\n\n"
		meta  = `data: {"job_id":"j","success":true,"name":"n","timestamp":"t","stream":true,"type":"metadata"}` + "\n\n" + `event: start` + "\n" + `data: {"message":"m"}` + "\n\n"
		say   = "event: chunk\ndata: {\"content\":\"a\",\"timestamp\":\"t\"}\n\n"
		end   = "event: end\ndata: {\"job_id\":\"j\",\"usage\":null,\"timestamp\":\"t\",\"complete\":true}\n\nevent: done\ndata: {\"message\":\"m\"}\n\n"
	)
	nul := func(frame string) string { return strings.TrimSuffix(frame, "}\n\n") + `,"usage":null}` + "\n\n" }
	for _, c := range []struct {
		face, stream string
		ok           bool
	}{
		{"chat", head + text + stop + done, true},
		{"chat", head + text + fail + done, true},
		{"chat", ": ping\n\n" + head + ": ping\n\n" + stop + done, true},
		{"chat", head + text + stop, false},
		{"chat", head + text + done, false},
		{"chat", text + stop + done, false},
		{"chat", head + head + stop + done, false},
		{"chat", head + stop + stop + done, false},
		{"chat", head + stop + text + done, false},
		{"chat", head + text + stop + count + done, false}, // nobody was told that usage would come
		{"chat", nul(head) + nul(text) + nul(stop) + count + done, true},
		{"chat", nul(head) + nul(text) + nul(stop) + done, true},
		{"chat", nul(head) + text + nul(stop) + count + done, false},
		{"chat", nul(head) + nul(text) + count + nul(stop) + done, false},
		{"chat", nul(head) + nul(stop) + count + count + done, false},
		{"chat", head + strings.Replace(text, `"model":"m"`, `"model":"m","error":null`, 1) + stop + done, false},
		{"chat", head + strings.Replace(text, `"content":"a"`, `"content":""`, 1) + stop + done, false},
		{"chat", head + strings.Replace(text, `"content":"a"`, `"tool_calls":[]`, 1) + stop + done, false},
		{"chat", head + strings.Replace(text, `{"content":"a"}`, `{}`, 1) + stop + done, false},
		{"chat", head + strings.Replace(stop, `"stop"`, `"bored"`, 1) + done, false},
		{"chat", head + strings.Replace(stop, `{}`, `{"content":"a"}`, 1) + done, false},
		{"chat", head + strings.Replace(text, `"choices":[`, `"choices":[],"x":[`, 1) + stop + done, false},
		{"chat", head + "data: \n\n" + stop + done, false},
		{"chat", head + "event: x\n\n" + stop + done, false},
		{"chat", head + "retry: 1\n\n" + stop + done, false},
		{"chat", head + stop + "data: [DONE] \n\n", false},
		{"chat", head + open + strings.Replace(stop, "stop", "tool_calls", 1) + done, false}, // no arguments
		{"chat", head + args + stop + done, false},
		{"chat", head + count + stop + done, false},
		{"chat", head + stop + fail + done, false},
		{"chat", head + fail + stop + done, false},
		{"chat", head + open + open + strings.Replace(stop, "stop", "tool_calls", 1) + done, false},
		{"chat", head + open + args + strings.Replace(stop, "stop", "tool_calls", 1) + done, true},
		{"chat", head + open + stop + done, false},
		{"chat", head + strings.Replace(open, `"index":0,"id"`, `"index":1,"id"`, 1) + strings.Replace(stop, "stop", "tool_calls", 1) + done, false},
		{"chat", head + strings.Replace(text, `"c"`, `"d"`, 1) + stop + done, false},
		{"chat", strings.ReplaceAll(head+stop+done, "\n", "\r\n"), false},
		{"chat", head + stop + "data: [DONE]\n", false},
		{"chat", head + "id: 1\n" + stop + done, false},
		{"swarms", meta + say + end, true},
		{"swarms", meta + say + "event: error\ndata: {\"error\":\"e\",\"timestamp\":\"t\"}\n\n", true},
		{"swarms", meta + say, false},
		{"swarms", say + end, false},
		{"swarms", meta + end + say, false},
		{"swarms", meta + say + "event: done\n\n", false},
		{"cycls", `data: {"type":"text","text":"a"}` + "\n\n" + done, true},
		{"cycls", `data: {"type":"text","text":"a"}` + "\n\n", false},
		{"cycls", `data: {"type":"image","src":"a"}` + "\n\n" + `data: {"type":"image","src":"b"}` + "\n\n" + done, false},
		{"cycls", `data: {"type":"callout","callout":"a"}` + "\n\n" + `data: {"type":"callout","callout":"b"}` + "\n\n" + done, false},
		{"cycls", `data: {"type":"table","headers":["a"]}` + "\n\n" + `data: {"type":"table","headers":["b"]}` + "\n\n" + done, false},
		{"cycls", `data: {"type":"table","row":["a"]}` + "\n\n" + done, false},
		{"cycls", `data: {"type":"table","headers":["a"],"rows":[["b"]]}` + "\n\n" + done, false},
		{"cycls", `data: {"type":"table","headers":["a"]}` + "\n\n" + `data: {"type":"table","row":["b"]}` + "\n\n" + done, true},
		{"cycls", `data:{"type":"text","text":"a"}` + "\n\n" + done, false},
	} {
		if err := checkStream(Lookup(c.face), []byte(c.stream)); (err == nil) != c.ok {
			t.Errorf("%s: %v, want ok to be %v:\n%s", c.face, err, c.ok, c.stream)
		}
	}
}
