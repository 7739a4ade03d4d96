package translate

import (
	"fmt"
	"strings"
	"testing"

	"github.com/tidwall/gjson"
)

// respRequired are the members that a Response object must have: those that
// the vendor's specification requires, and those of Open Responses.
var respRequired = []string{
	"id", "object", "created_at", "error", "incomplete_details", "instructions", "metadata", "model", "output",
	"parallel_tool_calls", "temperature", "tool_choice", "tools", "top_p",
	"completed_at", "status", "previous_response_id", "truncation", "text", "presence_penalty", "frequency_penalty",
	"top_logprobs", "reasoning", "usage", "max_output_tokens", "max_tool_calls", "store", "background", "service_tier",
	"safety_identifier", "prompt_cache_key",
}

// respNonNull are those of them that must not be null.
var respNonNull = []string{"id", "created_at", "model", "output", "temperature", "top_p", "truncation", "tool_choice", "service_tier", "tools", "text", "metadata", "parallel_tool_calls"}

// checkResponsesObject holds a Response object to its required members.
func checkResponsesObject(r gjson.Result) error {
	if !r.IsObject() {
		return fmt.Errorf("the response is %s, not an object", r.Raw)
	}
	for _, key := range respRequired {
		if !r.Get(key).Exists() {
			return fmt.Errorf("the response lacks %s", key)
		}
	}
	for _, key := range respNonNull {
		if r.Get(key).Type == gjson.Null {
			return fmt.Errorf("the response's %s is null", key)
		}
	}
	if got := r.Get("object").String(); got != "response" {
		return fmt.Errorf("object is %q", got)
	}
	if r.Get("store").Bool() {
		return fmt.Errorf("the response claims to be stored")
	}
	switch status := r.Get("status").String(); status {
	case "completed":
		if r.Get("completed_at").Type != gjson.Number {
			return fmt.Errorf("completed without completed_at")
		}
	case "failed":
		if !r.Get("error.code").Exists() || r.Get("error.message").String() == "" {
			return fmt.Errorf("failed without an error")
		}
	case "incomplete":
		if r.Get("incomplete_details.reason").String() == "" {
			return fmt.Errorf("incomplete without a reason")
		}
	case "in_progress":
	default:
		return fmt.Errorf("status is %q", status)
	}
	if u := r.Get("usage"); u.Type != gjson.Null {
		for _, key := range []string{"input_tokens", "input_tokens_details.cached_tokens", "input_tokens_details.cache_write_tokens", "output_tokens", "output_tokens_details.reasoning_tokens", "total_tokens"} {
			if u.Get(key).Type != gjson.Number {
				return fmt.Errorf("usage lacks %s", key)
			}
		}
	}
	return nil
}

// respEvents are the events that we send and their members beside type and
// sequence_number, all of which the specification requires (name of
// function_call_arguments.done included, which the vendor's own server leaves
// out). No other event may come, for Node's helper throws at those it does not
// know.
var respEvents = map[string]string{
	"response.created":                       "response",
	"response.in_progress":                   "response",
	"response.completed":                     "response",
	"response.incomplete":                    "response",
	"response.failed":                        "response",
	"response.output_item.added":             "output_index item",
	"response.output_item.done":              "output_index item",
	"response.content_part.added":            "item_id output_index content_index part",
	"response.content_part.done":             "item_id output_index content_index part",
	"response.output_text.delta":             "item_id output_index content_index delta logprobs",
	"response.output_text.done":              "item_id output_index content_index text logprobs",
	"response.output_text.annotation.added":  "item_id output_index content_index annotation_index annotation",
	"response.refusal.delta":                 "item_id output_index content_index delta",
	"response.refusal.done":                  "item_id output_index content_index refusal",
	"response.function_call_arguments.delta": "item_id output_index delta",
	"response.function_call_arguments.done":  "item_id output_index name arguments",
	"response.custom_tool_call_input.delta":  "item_id output_index delta",
	"response.custom_tool_call_input.done":   "item_id output_index input",
	"response.reasoning_summary_part.added":  "item_id output_index summary_index part",
	"response.reasoning_summary_part.done":   "item_id output_index summary_index part",
	"response.reasoning_summary_text.delta":  "item_id output_index summary_index delta",
	"response.reasoning_summary_text.done":   "item_id output_index summary_index text",
	"error":                                  "error",
}

// respGrammar is the state of checkResponsesStream.
type respGrammar struct {
	seq      int64
	id       string
	terminal string
	done     bool
	failing  bool // the error event came
	items    []gjson.Result
	open     bool // an item is
	item     gjson.Result
	index    int64
	partOpen bool
	parts    int64
	part     string // its type
	text     string // of the part, or of the call
	textDone bool
	annots   []string
	logprobs []string // of the part
	constant string   // the members of the response that do not change
}

// checkResponsesStream holds a whole event stream to the grammar of the
// Responses API: framing, numbering, the order of items, parts and deltas, and
// a terminal event that repeats what was streamed.
func checkResponsesStream(stream []byte) error {
	g := &respGrammar{index: -1}
	rest := string(stream)
	for n := 0; rest != ""; n++ {
		frame, after, ok := strings.Cut(rest, "\n\n")
		if !ok {
			return fmt.Errorf("frame %d lacks its blank line: %q", n, rest)
		}
		rest = after
		if strings.HasPrefix(frame, ":") && !strings.Contains(frame, "\n") {
			continue
		}
		if err := g.frame(frame); err != nil {
			return fmt.Errorf("frame %d: %w\n%s", n, err, frame)
		}
	}
	switch {
	case g.terminal == "":
		return fmt.Errorf("no terminal event")
	case !g.done:
		return fmt.Errorf("no [DONE]")
	}
	return nil
}

func (g *respGrammar) frame(frame string) error {
	if g.done {
		return fmt.Errorf("after [DONE]")
	}
	if frame == "data: [DONE]" {
		if g.terminal == "" {
			return fmt.Errorf("[DONE] before the terminal event")
		}
		g.done = true
		return nil
	}
	first, second, ok := strings.Cut(frame, "\n")
	if !ok || !strings.HasPrefix(first, "event: ") || !strings.HasPrefix(second, "data: ") || strings.ContainsAny(second, "\n\r") {
		return fmt.Errorf("not an event line and a data line")
	}
	data := second[len("data: "):]
	if !gjson.Valid(data) {
		return fmt.Errorf("data is not JSON")
	}
	e := gjson.Parse(data)
	typ := e.Get("type").String()
	if event := first[len("event: "):]; event != typ {
		return fmt.Errorf("event %q has type %q", event, typ)
	}
	if g.terminal != "" {
		return fmt.Errorf("after the terminal event")
	}
	allowed, known := respEvents[typ]
	if !known {
		return fmt.Errorf("an event that clients do not know")
	}
	if err := members(e, "type sequence_number "+allowed); err != nil {
		return err
	}
	if s := e.Get("sequence_number"); s.Type != gjson.Number || s.Int() != g.seq {
		return fmt.Errorf("sequence_number is %s, want %d", s.Raw, g.seq)
	}
	g.seq++
	switch {
	case g.seq == 1 && typ != "response.created", g.seq == 2 && typ != "response.in_progress",
		g.seq > 2 && (typ == "response.created" || typ == "response.in_progress"):
		return fmt.Errorf("%s is event %d", typ, g.seq-1)
	case g.failing && typ != "response.failed":
		return fmt.Errorf("%s after the error event", typ)
	}
	return g.event(typ, e)
}

func (g *respGrammar) event(typ string, e gjson.Result) error {
	switch typ {
	case "response.created", "response.in_progress":
		return g.lifecycle(e.Get("response"), "in_progress")
	case "response.completed", "response.incomplete", "response.failed":
		g.terminal = typ
		if typ == "response.failed" != g.failing {
			return fmt.Errorf("response.failed and the error event go together")
		}
		return g.lifecycle(e.Get("response"), strings.TrimPrefix(typ, "response."))
	case "error":
		g.failing = true
		for _, key := range []string{"error.message", "error.type", "error.code", "error.param"} {
			if !e.Get(key).Exists() {
				return fmt.Errorf("the error lacks %s", key)
			}
		}
		return nil
	case "response.output_item.added":
		return g.added(e)
	case "response.output_item.done":
		return g.itemDone(e)
	}
	// The rest belongs to the open item.
	if !g.open {
		return fmt.Errorf("no item is open")
	}
	if got, want := e.Get("item_id").String(), g.item.Get("id").String(); got != want {
		return fmt.Errorf("item_id is %q, want %q", got, want)
	}
	if got := e.Get("output_index"); got.Type != gjson.Number || got.Int() != g.index {
		return fmt.Errorf("output_index is %s, want %d", got.Raw, g.index)
	}
	switch g.item.Get("type").String() {
	case "message":
		return g.message(typ, e)
	case "reasoning":
		return g.reasoning(typ, e)
	case "function_call":
		return g.call(typ, e, "response.function_call_arguments", "arguments")
	case "custom_tool_call":
		return g.call(typ, e, "response.custom_tool_call_input", "input")
	}
	return fmt.Errorf("a %s has no such event", g.item.Get("type"))
}

func (g *respGrammar) lifecycle(r gjson.Result, status string) error {
	if err := checkResponsesObject(r); err != nil {
		return err
	}
	if got := r.Get("status").String(); got != status {
		return fmt.Errorf("status is %q, want %q", got, status)
	}
	id := r.Get("id").String()
	if g.id == "" {
		g.id = id
	}
	if id != g.id || id == "" {
		return fmt.Errorf("id is %q, was %q", id, g.id)
	}
	// What the request said is the same from the first to the last.
	constant := ""
	for _, key := range respRequired {
		switch key {
		case "error", "incomplete_details", "output", "completed_at", "status", "usage", "service_tier":
		default:
			constant += key + "=" + r.Get(key).Raw + " "
		}
	}
	if g.constant == "" {
		g.constant = constant
	} else if g.constant != constant {
		return fmt.Errorf("the response is now\n%s\nand was\n%s", constant, g.constant)
	}
	output := r.Get("output").Array()
	if status == "in_progress" {
		if len(output) > 0 {
			return fmt.Errorf("output at the beginning")
		}
		return nil
	}
	// A call that broke off in mid-arguments stays open: it is no item.
	kind := g.item.Get("type").String()
	if g.open && !(status == "failed" && strings.HasSuffix(kind, "_call")) {
		return fmt.Errorf("the item %s is open", g.item.Get("id"))
	}
	if len(output) != len(g.items) {
		return fmt.Errorf("output has %d items, %d were streamed", len(output), len(g.items))
	}
	for i := range output {
		if output[i].Raw != g.items[i].Raw {
			return fmt.Errorf("output[%d] is\n%s\nbut this was streamed\n%s", i, output[i].Raw, g.items[i].Raw)
		}
	}
	return checkResponsesItems(output)
}

func (g *respGrammar) added(e gjson.Result) error {
	if g.open {
		return fmt.Errorf("the item %s is open", g.item.Get("id"))
	}
	g.index++
	if got := e.Get("output_index"); got.Type != gjson.Number || got.Int() != g.index {
		return fmt.Errorf("output_index is %s, want %d", got.Raw, g.index)
	}
	g.item, g.open = e.Get("item"), true
	g.parts, g.partOpen, g.text, g.textDone = 0, false, "", false
	id := g.item.Get("id").String()
	if id == "" {
		return fmt.Errorf("the item has no id")
	}
	for i := range g.items {
		if g.items[i].Get("id").String() == id {
			return fmt.Errorf("the id %s came before", id)
		}
	}
	empty := map[string]string{"message": "content", "reasoning": "summary", "function_call": "arguments", "custom_tool_call": "input"}
	kind := g.item.Get("type").String()
	if key := empty[kind]; key != "" {
		if v := g.item.Get(key); v.Raw != "[]" && v.Raw != `""` {
			return fmt.Errorf("%s is %s in the beginning", key, v.Raw)
		}
		if status := g.item.Get("status").String(); kind != "reasoning" && status != "in_progress" {
			return fmt.Errorf("status is %q", status)
		}
	}
	if strings.HasSuffix(kind, "tool_call") || kind == "function_call" {
		if g.item.Get("call_id").String() == "" || g.item.Get("name").String() == "" {
			return fmt.Errorf("the call lacks its call_id or its name")
		}
		if g.item.Get("call_id").String() == id {
			return fmt.Errorf("the item's id is its call_id")
		}
	}
	return nil
}

func (g *respGrammar) itemDone(e gjson.Result) error {
	if !g.open {
		return fmt.Errorf("no item is open")
	}
	item := e.Get("item")
	if got := e.Get("output_index"); got.Int() != g.index {
		return fmt.Errorf("output_index is %s, want %d", got.Raw, g.index)
	}
	for _, key := range []string{"id", "type", "call_id", "name", "role", "phase"} {
		if item.Get(key).Raw != g.item.Get(key).Raw {
			return fmt.Errorf("%s is %s, was %s", key, item.Get(key).Raw, g.item.Get(key).Raw)
		}
	}
	if g.partOpen {
		return fmt.Errorf("a part is open")
	}
	switch item.Get("type").String() {
	case "message":
		if n := item.Get("content.#").Int(); n != g.parts {
			return fmt.Errorf("%d parts, %d were streamed", n, g.parts)
		}
	case "reasoning":
		if n := item.Get("summary.#").Int(); n != g.parts {
			return fmt.Errorf("%d parts, %d were streamed", n, g.parts)
		}
	case "function_call":
		if !g.textDone || item.Get("arguments").String() != g.text {
			return fmt.Errorf("arguments are not what was streamed: %q", g.text)
		}
	case "custom_tool_call":
		if !g.textDone || item.Get("input").String() != g.text {
			return fmt.Errorf("input is not what was streamed: %q", g.text)
		}
	}
	switch item.Get("type").String() {
	case "message", "function_call", "custom_tool_call": // others are as the backend wrote them
		if status := item.Get("status").String(); status != "completed" && status != "incomplete" {
			return fmt.Errorf("status is %q", status)
		}
	}
	g.items = append(g.items, item)
	g.open = false
	return nil
}

func (g *respGrammar) message(typ string, e gjson.Result) error {
	if got := e.Get("content_index"); got.Type != gjson.Number || got.Int() != g.parts {
		return fmt.Errorf("content_index is %s, want %d", got.Raw, g.parts)
	}
	switch typ {
	case "response.content_part.added":
		if err := g.openPart(e, map[string]string{
			"output_text": `{"type":"output_text","text":"","annotations":[],"logprobs":[]}`,
			"refusal":     `{"type":"refusal","refusal":""}`,
		}); err != nil {
			return err
		}
		return nil
	case "response.content_part.done":
		return g.closePart(e, map[string]string{"output_text": "text", "refusal": "refusal"}[g.part])
	}
	switch {
	case !g.partOpen || g.textDone:
		return fmt.Errorf("no part is open")
	case g.part == "output_text" && typ == "response.output_text.delta":
		if !e.Get("logprobs").IsArray() {
			return fmt.Errorf("no logprobs")
		}
		for _, l := range e.Get("logprobs").Array() {
			g.logprobs = append(g.logprobs, l.Raw)
		}
		return g.delta(e)
	case g.part == "output_text" && typ == "response.output_text.done":
		if got, want := e.Get("logprobs").Raw, "["+strings.Join(g.logprobs, ",")+"]"; got != want {
			return fmt.Errorf("logprobs are %s, streamed were %s", got, want)
		}
		return g.wholeText(e, "text")
	case g.part == "output_text" && typ == "response.output_text.annotation.added":
		if got := e.Get("annotation_index"); got.Type != gjson.Number || got.Int() != int64(len(g.annots)) {
			return fmt.Errorf("annotation_index is %s, want %d", got.Raw, len(g.annots))
		}
		if e.Get("annotation.type").Str == "" {
			return fmt.Errorf("the annotation has no type")
		}
		g.annots = append(g.annots, e.Get("annotation").Raw)
		return nil
	case g.part == "refusal" && typ == "response.refusal.delta":
		return g.delta(e)
	case g.part == "refusal" && typ == "response.refusal.done":
		return g.wholeText(e, "refusal")
	}
	return fmt.Errorf("a message with an open %s has no such event", g.part)
}

func (g *respGrammar) reasoning(typ string, e gjson.Result) error {
	if got := e.Get("summary_index"); got.Type != gjson.Number || got.Int() != g.parts {
		return fmt.Errorf("summary_index is %s, want %d", got.Raw, g.parts)
	}
	switch typ {
	case "response.reasoning_summary_part.added":
		return g.openPart(e, map[string]string{"summary_text": `{"type":"summary_text","text":""}`})
	case "response.reasoning_summary_part.done":
		return g.closePart(e, "text")
	}
	switch {
	case !g.partOpen || g.textDone:
		return fmt.Errorf("no part is open")
	case typ == "response.reasoning_summary_text.delta":
		return g.delta(e)
	case typ == "response.reasoning_summary_text.done":
		return g.wholeText(e, "text")
	}
	return fmt.Errorf("reasoning has no such event")
}

func (g *respGrammar) call(typ string, e gjson.Result, prefix, key string) error {
	switch {
	case g.textDone:
		return fmt.Errorf("the call is done")
	case typ == prefix+".delta":
		return g.delta(e)
	case typ == prefix+".done":
		if key == "arguments" && e.Get("name").Raw != g.item.Get("name").Raw {
			return fmt.Errorf("name is %s", e.Get("name").Raw)
		}
		return g.wholeText(e, key)
	}
	return fmt.Errorf("a call has no such event")
}

func (g *respGrammar) openPart(e gjson.Result, empty map[string]string) error {
	if g.partOpen {
		return fmt.Errorf("a part is open")
	}
	g.part = e.Get("part.type").String()
	if want := empty[g.part]; want == "" || e.Get("part").Raw != want {
		return fmt.Errorf("the part is %s", e.Get("part").Raw)
	}
	g.partOpen, g.text, g.textDone, g.annots, g.logprobs = true, "", false, nil, nil
	return nil
}

func (g *respGrammar) closePart(e gjson.Result, key string) error {
	if !g.partOpen || !g.textDone {
		return fmt.Errorf("the part is not done")
	}
	part := e.Get("part")
	if part.Get("type").String() != g.part || part.Get(key).String() != g.text {
		return fmt.Errorf("the part is not what was streamed: %q", g.text)
	}
	if g.part == "output_text" {
		if got, want := part.Get("annotations").Raw, "["+strings.Join(g.annots, ",")+"]"; got != want {
			return fmt.Errorf("annotations are %s, streamed were %s", got, want)
		}
		if got, want := part.Get("logprobs").Raw, "["+strings.Join(g.logprobs, ",")+"]"; got != want {
			return fmt.Errorf("logprobs are %s, streamed were %s", got, want)
		}
	}
	g.partOpen = false
	g.parts++
	return nil
}

func (g *respGrammar) delta(e gjson.Result) error {
	d := e.Get("delta")
	if d.Type != gjson.String || d.String() == "" {
		return fmt.Errorf("delta is %s", d.Raw)
	}
	g.text += d.String()
	return nil
}

func (g *respGrammar) wholeText(e gjson.Result, key string) error {
	v := e.Get(key)
	if v.Type != gjson.String || v.String() != g.text {
		return fmt.Errorf("%s is %s, streamed was %q", key, v.Raw, g.text)
	}
	g.textDone = true
	return nil
}

func TestResponsesGrammarFindsBreaches(t *testing.T) {
	t.Parallel()
	s := respTestSetup(&Request{Face: &responsesProtocol, Body: []byte(`{"model":"m","input":"x"}`)})
	enc := newRespEncoder(s)
	var good []byte
	for _, e := range parseEventText(t, `start id="a"
block 0 reasoning msg=0 part=0
delta 0 "Hm"
end 0
block 1 text msg=0 part=1
delta 1 "Hi"
delta 1 " you"
end 1
block 2 tool_call msg=1 part=0 name="f" call="c1"
delta 2 "{}"
end 2
finish stop
`) {
		good = enc.Encode(good, e)
	}
	if err := checkResponsesStream(good); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ name, old, new string }{
		{"numbering", `"sequence_number":4`, `"sequence_number":5`},
		{"event line", "event: response.output_text.delta", "event: response.output_text.done"},
		{"delta lost", "Hi\"", "Ho\""},
		{"id changes", `"id":"fc_`, `"id":"fx_`},
		{"part not announced", "response.content_part.added", "response.content_part.odd"},
		{"field missing", `"truncation":"disabled",`, ``},
		{"no done", "data: [DONE]\n\n", ""},
		{"line feed", "data: {\"type\":\"response.created\"", "data: \ndata: {\"type\":\"response.created\""},
		{"blank line", "}\n\ndata: [DONE]", "}\ndata: [DONE]"},
		{"terminal output", `"output":[{"id":"rs_`, `"output":[{"id":"ro_`},
		{"an event of its own", "event: response.in_progress\ndata: {\"type\":\"response.in_progress\"", "event: response.thinking\ndata: {\"type\":\"response.thinking\""},
		{"a member of its own", `"content_index":0,"delta":"Hi"`, `"content_index":0,"delta":"Hi","x":1`},
		{"a member missing", `"content_index":0,"delta":"Hi"`, `"delta":"Hi"`},
		{"logprobs missing", `"delta":"Hi","logprobs":[]`, `"delta":"Hi"`},
		{"name missing", `"name":"f","arguments":"{}"}` + "\n", `"arguments":"{}"}` + "\n"},
		{"content missing", `"role":"assistant","content":[],"status":"in_progress"`, `"role":"assistant","status":"in_progress"`},
		{"item_id of another", `"item_id":"fc_`, `"item_id":"fd_`},
		{"output_index jumps", `"output_index":2`, `"output_index":3`},
		{"call_id is the id", `"call_id":"c1"`, `"call_id":"fc_` + respTestSeed + `02"`},
		{"role missing", `"type":"message","role":"assistant"`, `"type":"message"`},
		{"the request's words change", `"parallel_tool_calls":true`, `"parallel_tool_calls":false`},
		{"two terminals", "data: [DONE]", "event: response.failed\ndata: {\"type\":\"response.failed\",\"sequence_number\":99,\"response\":{}}\n\ndata: [DONE]"},
		{"done early", "event: response.completed", "data: [DONE]\n\nevent: response.completed"},
		{"usage without details", `"usage":null,"user":null,"metadata":{}}}` + "\n\ndata: [DONE]", `"usage":{"input_tokens":1,"output_tokens":1,"total_tokens":2},"user":null,"metadata":{}}}` + "\n\ndata: [DONE]"},
	} {
		bad := strings.Replace(string(good), c.old, c.new, 1)
		if bad == string(good) {
			t.Errorf("%s: nothing to replace", c.name)
		}
		if checkResponsesStream([]byte(bad)) == nil {
			t.Errorf("%s: not found", c.name)
		}
	}
}

// checkResponsesAnswer holds a JSON answer to what a terminal event's response
// is held to.
func checkResponsesAnswer(r gjson.Result) error {
	if err := checkResponsesObject(r); err != nil {
		return err
	}
	if status := r.Get("status").String(); status != "completed" && status != "incomplete" {
		return fmt.Errorf("status is %q", status)
	}
	return checkResponsesItems(r.Get("output").Array())
}

// checkResponsesItems holds output items to the members that each kind must
// have, and their ids to being different.
func checkResponsesItems(items []gjson.Result) error {
	ids := map[string]bool{}
	for i, item := range items {
		fault := func(format string, args ...any) error {
			return fmt.Errorf("output[%d]: %s: %s", i, fmt.Sprintf(format, args...), item.Raw)
		}
		id, kind := item.Get("id").String(), item.Get("type").String()
		if id == "" || ids[id] {
			return fault("id")
		}
		ids[id] = true
		status := item.Get("status").String()
		var err error
		switch kind {
		case "message":
			err = members(item, "id type role content status phase?")
			if err == nil && item.Get("role").Str != "assistant" {
				return fault("role")
			}
			for _, p := range item.Get("content").Array() {
				switch p.Get("type").Str {
				case "output_text":
					err = members(p, "type text annotations logprobs")
				case "refusal":
					err = members(p, "type refusal")
				default:
					return fault("part")
				}
				if err != nil {
					return fault("%v", err)
				}
			}
		case "reasoning":
			err = members(item, "id type summary encrypted_content?")
			status = "completed"
			for _, p := range item.Get("summary").Array() {
				if e := members(p, "type text"); e != nil || p.Get("type").Str != "summary_text" {
					return fault("summary")
				}
			}
		case "function_call":
			err = members(item, "id type call_id name arguments status")
			if status == "completed" && item.Get("arguments").Str == "" {
				return fault("no arguments")
			}
		case "custom_tool_call":
			err = members(item, "id type call_id name input status")
		default: // as its backend wrote it
			status = "completed"
		}
		if err != nil {
			return fault("%v", err)
		}
		if status != "completed" && status != "incomplete" {
			return fault("status")
		}
		if c := item.Get("call_id").String(); kind == "function_call" || kind == "custom_tool_call" {
			if c == "" || c == id { // whether it came before is the backend's affair
				return fault("call_id")
			}
		}
	}
	return nil
}
