package translate

import (
	"strconv"
	"strings"

	"github.com/tidwall/gjson"
)

// decodeInput reads the input: a user's text, or items, of which those of the
// assistant that follow one another make one turn.
func (d *respRequest) decodeInput() *Error {
	at := At("input")
	if err := d.history(); err != nil {
		return err
	}
	switch {
	case d.input.Type == gjson.String:
		if d.input.String() == "" {
			return Invalid(at, "'input' must not be empty.")
		}
		d.r.Turns = append(d.r.Turns, Turn{
			Role: RoleUser, Path: at,
			Blocks: []Block{{Type: BlockText, Text: d.input.String(), Path: at}},
		})
		return nil
	case !d.input.IsArray():
		return Invalid(at, "'input' must be a string or an array of items.")
	}
	var err *Error
	i, before := -1, len(d.r.Turns)
	d.input.ForEach(func(_, item gjson.Result) bool {
		i++
		if err = d.r.room(at); err == nil {
			err = d.item(item, AtIndex("input", i))
		}
		return err == nil
	})
	if err == nil && len(d.r.Turns) == before {
		err = Invalid(at, "'input' must not be empty.")
	}
	return err
}

// history reads what was said before.
func (d *respRequest) history() *Error {
	at := At("previous_response_id")
	if d.r.Conversation != "" {
		at = At("conversation")
	}
	var err *Error
	d.r.eachOfHistory(func(item gjson.Result) bool {
		if err = d.r.room(at); err == nil {
			err = d.item(item, at)
		}
		return err == nil
	})
	return err
}

func (d *respRequest) item(v gjson.Result, at Path) *Error {
	if !v.IsObject() {
		return mistyped(at, respObject)
	}
	kind := v.Get("type")
	switch {
	case respRefers(v, kind):
		raw, ok := d.r.Items[v.Get("id").String()]
		if !ok {
			return respNeedsState(at)
		}
		item := gjson.Parse(raw)
		if respRefers(item, item.Get("type")) {
			return Invalid(at, "'%s' refers to a reference.", at)
		}
		return d.item(item, at)
	case kind.Type == gjson.Null && v.Get("role").Exists():
		return d.message(v, at)
	case kind.Type != gjson.String:
		return Invalid(at.In("type"), "'%s' is required and must be a string.", at.In("type"))
	}
	if err := aString.checkMembers(v, at, "id", "status"); err != nil {
		return err
	}
	switch t := kind.String(); t {
	case "message":
		return d.message(v, at)
	case "function_call", "custom_tool_call":
		return d.call(v, at, t == "custom_tool_call")
	case "function_call_output", "custom_tool_call_output":
		return d.callOutput(v, at, t == "custom_tool_call_output")
	case "reasoning":
		return d.reasoningItem(v, at)
	default:
		ran, known := respItems[t]
		if !known {
			return Invalid(at.In("type"), "'%s' is not an item type that this server knows.", at.In("type"))
		}
		// Of its own API's making, it goes back to a backend of that API as it
		// is. To others a call that the server ran is activity; the rest they
		// refuse.
		b := Block{Type: BlockData, Name: t, ID: respText(v.Get("id")), Text: v.Raw, Native: v.Raw, Essential: true, Path: at}
		if ran {
			b.Type, b.Ran, b.Name, b.Text = BlockToolCall, true, strings.TrimSuffix(t, "_call"), respRanArguments(v)
			b.CallID = b.ID
		}
		turn := d.assistant(at)
		turn.Blocks = append(turn.Blocks, b)
		return nil
	}
}

// respRanArguments is what a call that the server ran itself was called with.
func respRanArguments(v gjson.Result) string {
	for _, key := range [...]string{"arguments", "action", "queries", "code"} {
		switch a := v.Get(key); {
		case key == "queries" && a.IsArray():
			return `{"queries":` + a.Raw + `}`
		case key == "code" && a.Type == gjson.String:
			return `{"code":` + a.Raw + `}`
		case a.Type == gjson.String:
			return a.String()
		case a.IsObject():
			return a.Raw
		}
	}
	return ""
}

// assistant is the assistant's turn that calls and reasoning join: items that
// follow one another are one turn.
func (d *respRequest) assistant(at Path) *Turn {
	if n := len(d.r.Turns); n > 0 && d.r.Turns[n-1].Role == RoleAssistant {
		return &d.r.Turns[n-1]
	}
	d.r.Turns = append(d.r.Turns, Turn{Role: RoleAssistant, Path: at})
	return &d.r.Turns[len(d.r.Turns)-1]
}

func (d *respRequest) message(v gjson.Result, at Path) *Error {
	if err := aString.checkMembers(v, at, "id", "status", "phase"); err != nil {
		return err
	}
	t := Turn{Path: at, ID: respText(v.Get("id"))}
	switch respText(v.Get("role")) {
	case "user":
		t.Role = RoleUser
	case "assistant":
		t.Role = RoleAssistant
	case "system":
		t.Role = RoleSystem
	case "developer":
		t.Role = RoleDeveloper
	default:
		return Invalid(at.In("role"), "'%s' must be user, assistant, system or developer.", at.In("role"))
	}
	d.r.rest(v, at, []string{"type", "role", "content", "id", "status", "phase"}, nil)
	t.Phase = respPhase(respText(v.Get("phase")))
	status := respStatus(respText(v.Get("status")))
	content := v.Get("content")
	switch {
	case content.Type == gjson.String:
		t.Blocks = []Block{{Type: BlockText, Text: content.String(), Status: status, Path: at.In("content")}}
	case content.IsArray():
		var err *Error
		if t.Blocks, err = d.parts(content, at, "content", status); err != nil {
			return err
		}
	default:
		return Invalid(at.In("content"), "'%s' must be a string or an array of parts.", at.In("content"))
	}
	if t.Role == RoleAssistant {
		// The reasoning items before a message belong to it.
		if seen := d.last(); seen != nil && !seen.other {
			last := &d.r.Turns[len(d.r.Turns)-1]
			last.Blocks = append(last.Blocks, t.Blocks...)
			last.Phase, last.ID, last.Path = t.Phase, t.ID, at
			return nil
		}
	}
	d.r.Turns = append(d.r.Turns, t)
	return nil
}

// respSeen is what is known of the blocks of a turn that goes on: they are looked
// at once, however many items join it.
type respSeen struct {
	turn, blocks int
	says         bool // content
	other        bool // anything but reasoning
}

// last looks at the last turn; nil if that is not the assistant's.
func (d *respRequest) last() *respSeen {
	n := len(d.r.Turns) - 1
	if n < 0 || d.r.Turns[n].Role != RoleAssistant {
		return nil
	}
	if d.seen.turn != n {
		d.seen = respSeen{turn: n}
	}
	for blocks := d.r.Turns[n].Blocks; d.seen.blocks < len(blocks); d.seen.blocks++ {
		t := blocks[d.seen.blocks].Type
		d.seen.says = d.seen.says || ContentBlocks.Has(t)
		d.seen.other = d.seen.other || t != BlockReasoning
	}
	return &d.seen
}

func respPhase(s string) Phase {
	switch s {
	case "commentary":
		return PhaseCommentary
	case "final_answer":
		return PhaseFinal
	}
	return PhaseNone
}

func respStatus(s string) EndStatus {
	switch s {
	case "incomplete", "in_progress":
		return StatusIncomplete
	case "failed":
		return StatusFailed
	}
	return StatusComplete
}

// parts reads the parts of a message or of a tool's output, which stand in
// the field mid of the item at at.
func (d *respRequest) parts(v gjson.Result, at Path, mid string, status EndStatus) ([]Block, *Error) {
	var blocks []Block
	var err *Error
	j := -1
	v.ForEach(func(_, p gjson.Result) bool {
		j++
		var b Block
		if err = d.r.room(at.In(mid)); err != nil {
			return false
		}
		if b, err = d.part(p, at.Sub(mid, j)); err == nil {
			b.Status = status
			blocks = append(blocks, b)
		}
		return err == nil
	})
	return blocks, err
}

// respPartMembers are the members that each type of part has.
var respPartMembers = map[string][]string{
	"input_text":  {"type", "text", "prompt_cache_breakpoint"},
	"text":        {"type", "text", "prompt_cache_breakpoint"},
	"output_text": {"type", "text", "annotations", "logprobs", "prompt_cache_breakpoint"},
	"refusal":     {"type", "refusal"},
	"input_image": {"type", "detail", "file_id", "image_url", "prompt_cache_breakpoint"},
	"input_file":  {"type", "detail", "file_data", "file_id", "file_url", "filename", "prompt_cache_breakpoint"},
}

func (d *respRequest) part(v gjson.Result, at Path) (Block, *Error) {
	b := Block{Path: at}
	if !v.IsObject() {
		return b, mistyped(at, respObject)
	}
	need := func(key string) (string, *Error) {
		s := v.Get(key)
		if s.Type != gjson.String {
			return "", Invalid(at.In(key), "'%s' is required and must be a string.", at.In(key))
		}
		return s.String(), nil
	}
	var err *Error
	switch kind := respText(v.Get("type")); kind {
	case "input_text", "output_text", "text":
		if err := anArray.checkMembers(v, at, "annotations", "logprobs"); err != nil { // SDKs dump null where there are none
			return b, err
		}
		if b.Text, err = need("text"); err != nil {
			return b, err
		}
		if list := v.Get("annotations"); list.IsArray() {
			list.ForEach(func(_, a gjson.Result) bool {
				if err = d.r.room(at.In("annotations")); err == nil {
					err = anObject.check(a, At(at.In("annotations["+strconv.Itoa(len(b.Annotations))+"]").String()))
				}
				b.Annotations = append(b.Annotations, a.Raw)
				return err == nil
			})
		}
		if l := v.Get("logprobs"); l.IsArray() && len(l.Raw) > 2 {
			b.Logprobs = l.Raw
		}
	case "refusal":
		b.Type = BlockRefusal
		b.Text, err = need("refusal")
	case "input_image":
		b.Type = BlockImage
		if err := aString.checkMembers(v, at, "detail", "file_id"); err != nil {
			return b, err
		}
		b.Detail, b.FileID = respText(v.Get("detail")), respText(v.Get("file_id"))
		if u := v.Get("image_url"); u.Exists() && u.Type != gjson.Null || b.FileID == "" {
			if b.URL, err = need("image_url"); err == nil && b.URL == "" {
				err = Invalid(at.In("image_url"), "'%s' must not be empty.", at.In("image_url"))
			}
		}
	case "input_file":
		b.Type = BlockFile
		if err := aString.checkMembers(v, at, "detail", "filename", "file_id", "file_url", "file_data"); err != nil {
			return b, err
		}
		b.Name, b.FileID, b.URL = respText(v.Get("filename")), respText(v.Get("file_id")), respText(v.Get("file_url"))
		b.Detail = respText(v.Get("detail"))
		b.MIME, b.Data = respDataURL(respText(v.Get("file_data")))
		if b.FileID == "" && b.URL == "" && b.Data == "" {
			return b, Invalid(at, "'%s' needs file_data, file_url or file_id.", at)
		}
	default:
		return b, Invalid(at.In("type"), "'%s' is not a content type that this server knows.", at.In("type"))
	}
	if mark := v.Get("prompt_cache_breakpoint"); mark.IsObject() {
		b.CacheBreakpoint = mark.Raw
	}
	d.r.rest(v, at, respPartMembers[v.Get("type").String()], nil)
	return b, err
}

// respDataURL takes data:<mime>;base64,<data> apart; anything else is data
// whose type nobody told.
func respDataURL(s string) (mime, data string) {
	rest, ok := strings.CutPrefix(s, "data:")
	if !ok {
		return "", s
	}
	mime, data, ok = strings.Cut(rest, ";base64,")
	if !ok || strings.ContainsAny(mime, ",;") {
		return "", s
	}
	return mime, data
}

func (d *respRequest) call(v gjson.Result, at Path, custom bool) *Error {
	text := "arguments"
	if custom {
		text = "input"
	}
	for _, key := range [...]string{"call_id", "name", text} {
		f := v.Get(key)
		if f.Type != gjson.String || f.String() == "" && key != text {
			return Invalid(at.In(key), "'%s' is required and must be a string.", at.In(key))
		}
	}
	d.r.rest(v, at, []string{"type", "id", "call_id", "name", text, "status"}, respCallHabits)
	t := d.assistant(at)
	t.Blocks = append(t.Blocks, Block{
		Type: BlockToolCall, Custom: custom, Path: at,
		ID: respText(v.Get("id")), CallID: v.Get("call_id").String(), Name: v.Get("name").String(),
		Text: v.Get(text).String(), Status: respStatus(respText(v.Get("status"))),
	})
	return nil
}

// respCallHabits are the members of a call and its output that say where in the
// vendor's own machinery it belongs: a namespace of tools, a program.
var respCallHabits = []string{"caller", "namespace"}

func (d *respRequest) callOutput(v gjson.Result, at Path, custom bool) *Error {
	b := Block{Type: BlockToolResult, Custom: custom, Path: at, ID: respText(v.Get("id")), CallID: respText(v.Get("call_id"))}
	if b.CallID == "" {
		return Invalid(at.In("call_id"), "'%s' is required and must be a string.", at.In("call_id"))
	}
	if err := aString.checkMembers(v, at, "name"); err != nil {
		return err
	}
	b.Name = respText(v.Get("name"))
	d.r.rest(v, at, []string{"type", "id", "call_id", "output", "name", "status"}, respCallHabits)
	out := v.Get("output")
	switch {
	case out.Type == gjson.String:
		b.Text = out.String()
	case out.IsArray():
		var err *Error
		if b.Parts, err = d.parts(out, at, "output", StatusComplete); err != nil {
			return err
		}
	default:
		return Invalid(at.In("output"), "'%s' must be a string or an array of parts.", at.In("output"))
	}
	d.r.Turns = append(d.r.Turns, Turn{Role: RoleTool, Path: at, Blocks: []Block{b}})
	return nil
}

// reasoningItem reads a reasoning item that comes back: one block a part, the
// encrypted content on the last one.
func (d *respRequest) reasoningItem(v gjson.Result, at Path) *Error {
	if err := anArray.checkMembers(v, at, "summary", "content"); err != nil { // SDKs dump null for the one that is not there
		return err
	}
	if err := aString.checkMembers(v, at, "encrypted_content"); err != nil {
		return err
	}
	var err *Error
	id := respText(v.Get("id"))
	d.r.rest(v, at, []string{"type", "id", "summary", "content", "encrypted_content", "status"}, nil)
	var blocks []Block
	for _, mid := range [...]string{"summary", "content"} {
		parts := v.Get(mid)
		if !parts.IsArray() {
			continue
		}
		j := -1
		parts.ForEach(func(_, p gjson.Result) bool {
			j++
			if err = d.r.room(at.In(mid)); err != nil {
				return false
			}
			if err = anObject.check(p, at.Sub(mid, j)); err == nil {
				err = aString.checkMembers(p, at.Sub(mid, j), "type", "text")
			}
			if err != nil {
				return false
			}
			d.r.rest(p, at.Sub(mid, j), []string{"type", "text"}, nil)
			blocks = append(blocks, Block{
				Type: BlockReasoning, Summary: mid == "summary", ID: id, Text: respText(p.Get("text")), Path: at.Sub(mid, j),
			})
			return true
		})
		if err != nil {
			return err
		}
	}
	if opaque := respText(v.Get("encrypted_content")); opaque != "" {
		if len(blocks) == 0 {
			blocks = []Block{{Type: BlockReasoning, Summary: true, ID: id, Path: at}}
		}
		blocks[len(blocks)-1].Opaque = opaque
	}
	if len(blocks) == 0 {
		return nil // an item without a word and without a secret
	}
	// A message that is followed by reasoning is over: the reasoning belongs to
	// what comes next.
	if seen := d.last(); seen != nil && !seen.says {
		last := &d.r.Turns[len(d.r.Turns)-1]
		last.Blocks = append(last.Blocks, blocks...)
		return nil
	}
	d.r.Turns = append(d.r.Turns, Turn{Role: RoleAssistant, Path: at, Blocks: blocks})
	return nil
}
