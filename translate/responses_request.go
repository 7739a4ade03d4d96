package translate

import (
	"math"
	"strings"

	"github.com/tidwall/gjson"
)

// respRequest reads a request in the form of the Responses API.
type respRequest struct {
	r       *Request
	input   gjson.Result
	choice  gjson.Result
	unknown int
	state   []respStateful // fields that need stored conversations

	// dialect, if set, is asked for a field before the API's own fields are.
	dialect func(key string, v gjson.Result) (bool, *Error)
}

// respStateful is a field that asks for state, and what it needs.
type respStateful struct {
	key   string
	value gjson.Result
}

// respField is a field that is carried by value.
type respField struct {
	param Param
	kind  respKind
}

// respKind is the JSON type a field must have.
type respKind uint8

const (
	respAny respKind = iota
	respNumber
	respInteger
	respString
	respBool
	respObject
)

var respKindNames = [...]string{"a value", "a number", "an integer", "a string", "a boolean", "an object"}

func (k respKind) fits(v gjson.Result) bool {
	switch k {
	case respNumber:
		return v.Type == gjson.Number
	case respInteger:
		return v.Type == gjson.Number && v.Num == math.Trunc(v.Num)
	case respString:
		return v.Type == gjson.String
	case respBool:
		return v.IsBool()
	case respObject:
		return v.IsObject()
	}
	return true
}

// respFields are the fields of design.md's parameter table that are carried by
// value. The two penalties are Open Responses' own.
var respFields = map[string]respField{
	"temperature":            {ParamTemperature, respNumber},
	"top_p":                  {ParamTopP, respNumber},
	"max_output_tokens":      {ParamMaxTokens, respInteger},
	"top_logprobs":           {ParamTopLogprobs, respInteger},
	"frequency_penalty":      {ParamFrequencyPenalty, respNumber},
	"presence_penalty":       {ParamPresencePenalty, respNumber},
	"user":                   {ParamUser, respString},
	"safety_identifier":      {ParamSafetyIdentifier, respString},
	"prompt_cache_key":       {ParamPromptCacheKey, respString},
	"prompt_cache_retention": {ParamPromptCacheRetention, respString},
	"prompt_cache_options":   {ParamPromptCacheOptions, respAny},
	"service_tier":           {ParamServiceTier, respString},
	"metadata":               {ParamMetadata, respObject},
	"parallel_tool_calls":    {ParamParallelToolCalls, respBool},
	"moderation":             {ParamModeration, respAny},
	"max_tool_calls":         {ParamMaxToolCalls, respInteger},
	"truncation":             {ParamTruncation, respString},
	"context_management":     {ParamContextManagement, respAny},
	"prompt":                 {ParamPrompt, respAny},
}

// mistyped is the 400 for a value of the wrong JSON type.
func mistyped(at Path, k respKind) *Error {
	return Invalid(at, "'%s' must be %s.", at, respKindNames[k])
}

// decode reads everything but the input, which the caller does after checks of
// its own.
func (d *respRequest) decode() *Error {
	doc := gjson.Parse(viewString(d.r.Body))
	if !doc.IsObject() {
		return Invalid(Path{I: -1, J: -1}, "The request body must be a JSON object.")
	}
	var err *Error
	doc.ForEach(func(k, v gjson.Result) bool {
		err = d.field(k.String(), v)
		return err == nil
	})
	if err == nil && d.choice.Exists() {
		err = d.toolChoice(d.choice)
	}
	if d.unknown > 0 {
		d.r.Ledger.Unknown(d.unknown)
	}
	return err
}

func (d *respRequest) field(key string, v gjson.Result) *Error {
	r := d.r
	if d.dialect != nil {
		if done, err := d.dialect(key, v); done || err != nil {
			return err
		}
	}
	if key == "input" {
		d.input = v
		return nil
	}
	if v.Type == gjson.Null {
		return nil
	}
	if f, ok := respFields[key]; ok {
		if !f.kind.fits(v) {
			return mistyped(At(key), f.kind)
		}
		r.Set(f.param, v.Raw, At(key))
		return nil
	}
	switch key {
	case "model":
		if v.Type != gjson.String {
			return mistyped(At(key), respString)
		}
		r.Model, r.Agent, r.AgentPath = v.String(), v.String(), At(key)
	case "instructions":
		if v.Type != gjson.String {
			return mistyped(At(key), respString)
		}
		if v.String() == "" {
			return nil
		}
		r.Turns = append([]Turn{{
			Role: RoleSystem, Instructions: true, Path: At(key),
			Blocks: []Block{{Type: BlockText, Text: v.String(), Path: At(key)}},
		}}, r.Turns...)
	case "stream":
		if !v.IsBool() {
			return mistyped(At(key), respBool)
		}
		r.Stream = v.Bool()
	case "store":
		if !v.IsBool() {
			return mistyped(At(key), respBool)
		}
		r.Store = TriOf(v.Bool())
	case "stream_options":
		if !v.IsObject() {
			return mistyped(At(key), respObject)
		}
		v.ForEach(func(k, o gjson.Result) bool {
			if k.String() == "include_obfuscation" {
				r.Set(ParamIncludeObfuscation, o.Raw, At(key).In("include_obfuscation"))
			} else {
				d.unknown++
			}
			return true
		})
	case "previous_response_id", "conversation", "background":
		d.state = append(d.state, respStateful{key, v})
	case "include":
		return d.include(v)
	case "reasoning":
		return d.reasoning(v)
	case "text":
		return d.text(v)
	case "tools":
		return d.tools(v)
	case "tool_choice":
		d.choice = v
	default:
		d.unknown++
	}
	return nil
}

// stateless refuses what needs stored conversations: an answer without the
// context that the client counts on would be a wrong one.
func (d *respRequest) stateless() *Error {
	for _, f := range d.state {
		switch f.key {
		case "background":
			if !f.value.IsBool() {
				return mistyped(At(f.key), respBool)
			}
			if f.value.Bool() {
				return respNeedsState(At(f.key))
			}
		default:
			return respNeedsState(At(f.key))
		}
	}
	return nil
}

func respNeedsState(at Path) *Error {
	e := Invalid(at, "'%s' is not supported: this server stores no responses. Send the whole conversation in 'input'.", at)
	e.Code = "unsupported_parameter"
	return e
}

func (d *respRequest) include(v gjson.Result) *Error {
	if !v.IsArray() {
		return Invalid(At("include"), "'include' must be an array of strings.")
	}
	var err *Error
	i := -1
	v.ForEach(func(_, w gjson.Result) bool {
		i++
		at := AtIndex("include", i)
		if w.Type != gjson.String {
			err = mistyped(at, respString)
			return false
		}
		switch w.String() {
		case "message.output_text.logprobs":
			d.r.Set(ParamLogprobs, "true", at)
		case "reasoning.encrypted_content":
			d.r.Set(ParamIncludeEncrypted, "true", at)
		default:
			d.r.Set(ParamInclude, w.Raw, at)
		}
		return true
	})
	return err
}

func (d *respRequest) reasoning(v gjson.Result) *Error {
	if !v.IsObject() {
		return mistyped(At("reasoning"), respObject)
	}
	var err *Error
	v.ForEach(func(k, o gjson.Result) bool {
		if o.Type == gjson.Null {
			return true
		}
		key := k.String()
		at := At("reasoning").In(key)
		switch key {
		case "effort", "summary":
			if o.Type != gjson.String {
				err = mistyped(at, respString)
				return false
			}
			p := ParamReasoningEffort
			if key == "summary" {
				p = ParamReasoningSummary
			}
			d.r.Set(p, o.Raw, at)
		case "generate_summary": // the older name of summary
			if !v.Get("summary").Exists() {
				d.r.Set(ParamReasoningSummary, o.Raw, at)
			}
		case "context", "mode":
			d.r.Set(ParamReasoningOther, `{"`+key+`":`+o.Raw+`}`, at)
		default:
			d.unknown++
		}
		return true
	})
	return err
}

func (d *respRequest) text(v gjson.Result) *Error {
	if !v.IsObject() {
		return mistyped(At("text"), respObject)
	}
	var err *Error
	v.ForEach(func(k, o gjson.Result) bool {
		switch key := k.String(); {
		case o.Type == gjson.Null:
		case key == "verbosity":
			if o.Type != gjson.String {
				err = mistyped(At("text").In(key), respString)
				return false
			}
			d.r.Set(ParamVerbosity, o.Raw, At("text").In(key))
		case key == "format":
			err = d.format(o)
		default:
			d.unknown++
		}
		return err == nil
	})
	return err
}

func (d *respRequest) format(v gjson.Result) *Error {
	f := &d.r.Format
	f.Path = At("text").In("format")
	if !v.IsObject() {
		return mistyped(f.Path, respObject)
	}
	switch t := v.Get("type"); t.String() {
	case "text":
		f.Kind = FormatText
	case "json_object":
		f.Kind = FormatJSONObject
	case "json_schema":
		f.Kind = FormatJSONSchema
		name, schema := v.Get("name"), v.Get("schema")
		if name.Type != gjson.String || name.String() == "" {
			return Invalid(f.Path.In("name"), "'%s' is required.", f.Path.In("name"))
		}
		if !schema.IsObject() {
			return mistyped(f.Path.In("schema"), respObject)
		}
		f.Name, f.Schema = name.String(), schema.Raw
		f.Description = respText(v.Get("description"))
		f.Strict = respTri(v.Get("strict"))
	default:
		at := f.Path.In("type")
		return Invalid(at, "'%s' must be text, json_object or json_schema.", at)
	}
	return nil
}

// respText is a string's text, "" for anything else.
func respText(v gjson.Result) string {
	if v.Type == gjson.String {
		return v.String()
	}
	return ""
}

func respTri(v gjson.Result) Tri {
	if v.IsBool() {
		return TriOf(v.Bool())
	}
	return Unset
}

func (d *respRequest) tools(v gjson.Result) *Error {
	if !v.IsArray() {
		return Invalid(At("tools"), "'tools' must be an array.")
	}
	var err *Error
	i := -1
	v.ForEach(func(_, t gjson.Result) bool {
		i++
		var tool Tool
		if tool, err = respTool(t, AtIndex("tools", i)); err == nil {
			d.r.Tools = append(d.r.Tools, tool)
		}
		return err == nil
	})
	return err
}

func respTool(v gjson.Result, at Path) (Tool, *Error) {
	t := Tool{Raw: v.Raw, Path: at}
	kind := v.Get("type")
	if !v.IsObject() || kind.Type != gjson.String || kind.String() == "" {
		return t, Invalid(at.In("type"), "'%s' is required and must be a string.", at.In("type"))
	}
	switch kind.String() {
	case "function":
		t.Kind = ToolFunction
		t.Strict = respTri(v.Get("strict"))
		// An omitted strict means "normalise to strict" here, but "not strict"
		// in Chat Completions (the vendor's documentation of April 2026).
		t.StrictByDefault = t.Strict == Unset
		if p := v.Get("parameters"); p.IsObject() {
			t.Parameters = p.Raw
		} else if p.Exists() && p.Type != gjson.Null {
			return t, mistyped(at.In("parameters"), respObject)
		}
	case "custom":
		t.Kind = ToolCustom
		f := v.Get("format")
		t.Grammar = ToolGrammar{
			Type: respText(f.Get("type")), Syntax: respText(f.Get("syntax")), Definition: respText(f.Get("definition")),
		}
	default:
		t.Kind, t.Name = ToolBuiltin, kind.String()
		return t, nil
	}
	t.Name, t.Description = respText(v.Get("name")), respText(v.Get("description"))
	if t.Name == "" {
		return t, Invalid(at.In("name"), "'%s' is required.", at.In("name"))
	}
	return t, nil
}

func (d *respRequest) toolChoice(v gjson.Result) *Error {
	c := &d.r.ToolChoice
	c.Path = At("tool_choice")
	if v.Type == gjson.String {
		switch v.String() {
		case "none":
			c.Mode = ChoiceNone
		case "auto":
			c.Mode = ChoiceAuto
		case "required":
			c.Mode = ChoiceRequired
		default:
			return Invalid(c.Path, "'tool_choice' must be none, auto, required or an object.")
		}
		return nil
	}
	kind := respText(v.Get("type"))
	if !v.IsObject() || kind == "" {
		return Invalid(c.Path, "'tool_choice' must be none, auto, required or an object with a type.")
	}
	if kind == "allowed_tools" {
		c.Mode = ChoiceAllowed
		switch respText(v.Get("mode")) {
		case "auto":
		case "required":
			c.Forced = true
		default:
			return Invalid(c.Path.In("mode"), "'tool_choice.mode' must be auto or required.")
		}
		tools := v.Get("tools")
		if !tools.IsArray() {
			return Invalid(c.Path.In("tools"), "'tool_choice.tools' must be an array.")
		}
		var err *Error
		j := -1
		tools.ForEach(func(_, t gjson.Result) bool {
			j++
			tool := Tool{Raw: t.Raw, Path: At("tool_choice").Sub("tools", j), Name: respText(t.Get("name"))}
			tool.Kind = respToolKind(respText(t.Get("type")))
			if tool.Kind == ToolBuiltin {
				tool.Name = respText(t.Get("type"))
			}
			if tool.Name == "" {
				err = Invalid(tool.Path.In("name"), "'%s' is required.", tool.Path.In("name"))
			}
			c.Tools = append(c.Tools, tool)
			return err == nil
		})
		return err
	}
	c.Mode, c.Kind, c.Name = ChoiceNamed, respToolKind(kind), respText(v.Get("name"))
	if c.Kind == ToolBuiltin {
		c.Name = kind
	}
	if c.Name == "" {
		return Invalid(c.Path.In("name"), "'tool_choice.name' is required.")
	}
	return nil
}

func respToolKind(t string) ToolKind {
	switch t {
	case "function":
		return ToolFunction
	case "custom":
		return ToolCustom
	}
	return ToolBuiltin
}

func (d *respRequest) decodeInput() *Error {
	at := At("input")
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
		err = d.item(item, AtIndex("input", i))
		return err == nil
	})
	if err == nil && len(d.r.Turns) == before {
		err = Invalid(at, "'input' must not be empty.")
	}
	return err
}

func (d *respRequest) item(v gjson.Result, at Path) *Error {
	if !v.IsObject() {
		return mistyped(at, respObject)
	}
	kind := v.Get("type")
	switch {
	case kind.Type == gjson.Null && v.Get("role").Exists():
		return d.message(v, at)
	case kind.Type == gjson.Null && v.Get("id").Exists():
		return respNeedsState(at)
	case kind.Type != gjson.String:
		return Invalid(at.In("type"), "'%s' is required and must be a string.", at.In("type"))
	}
	switch t := kind.String(); t {
	case "message":
		return d.message(v, at)
	case "item_reference":
		return respNeedsState(at)
	case "function_call", "custom_tool_call":
		return d.call(v, at, t == "custom_tool_call")
	case "function_call_output", "custom_tool_call_output":
		return d.callOutput(v, at, t == "custom_tool_call_output")
	case "reasoning":
		d.reasoningItem(v, at)
		return nil
	default:
		ran, known := respItems[t]
		if !known {
			return Invalid(at.In("type"), "'%s' is not an item type that this server knows.", at.In("type"))
		}
		// Of its own API's making, it goes back to a backend of that API as it
		// is. To others a call that the server ran is activity; the rest they
		// refuse.
		b := Block{Type: BlockData, Name: t, ID: respText(v.Get("id")), Text: v.Raw, Native: v.Raw, Path: at}
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
	t.Phase = respPhase(respText(v.Get("phase")))
	status := respStatus(respText(v.Get("status")))
	content := v.Get("content")
	switch {
	case content.Type == gjson.String:
		t.Blocks = []Block{{Type: BlockText, Text: content.String(), Status: status, Path: at.In("content")}}
	case content.IsArray():
		var err *Error
		if t.Blocks, err = respParts(content, at, "content", status); err != nil {
			return err
		}
	default:
		return Invalid(at.In("content"), "'%s' must be a string or an array of parts.", at.In("content"))
	}
	if t.Role == RoleAssistant {
		// The reasoning items before a message belong to it.
		if n := len(d.r.Turns); n > 0 && d.r.Turns[n-1].onlyReasons() {
			last := &d.r.Turns[n-1]
			last.Blocks = append(last.Blocks, t.Blocks...)
			last.Phase, last.ID = t.Phase, t.ID
			return nil
		}
	}
	d.r.Turns = append(d.r.Turns, t)
	return nil
}

// onlyReasons reports whether the turn is the assistant's and holds nothing
// but reasoning.
func (t *Turn) onlyReasons() bool {
	if t.Role != RoleAssistant {
		return false
	}
	for i := range t.Blocks {
		if t.Blocks[i].Type != BlockReasoning {
			return false
		}
	}
	return true
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

// respParts reads the parts of a message or of a tool's output, which stand in
// the field mid of the item at at.
func respParts(v gjson.Result, at Path, mid string, status EndStatus) ([]Block, *Error) {
	var blocks []Block
	var err *Error
	j := -1
	v.ForEach(func(_, p gjson.Result) bool {
		j++
		var b Block
		if b, err = respPart(p, at.Sub(mid, j)); err == nil {
			b.Status = status
			blocks = append(blocks, b)
		}
		return err == nil
	})
	return blocks, err
}

func respPart(v gjson.Result, at Path) (Block, *Error) {
	b := Block{Path: at}
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
		b.Text, err = need("text")
		v.Get("annotations").ForEach(func(_, a gjson.Result) bool {
			b.Annotations = append(b.Annotations, a.Raw)
			return true
		})
		if l := v.Get("logprobs"); l.IsArray() && len(l.Raw) > 2 {
			b.Logprobs = l.Raw
		}
	case "refusal":
		b.Type = BlockRefusal
		b.Text, err = need("refusal")
	case "input_image":
		b.Type = BlockImage
		b.Detail, b.FileID = respText(v.Get("detail")), respText(v.Get("file_id"))
		if u := v.Get("image_url"); u.Exists() && u.Type != gjson.Null || b.FileID == "" {
			if b.URL, err = need("image_url"); err == nil && b.URL == "" {
				err = Invalid(at.In("image_url"), "'%s' must not be empty.", at.In("image_url"))
			}
		}
	case "input_file":
		b.Type = BlockFile
		b.Name, b.FileID, b.URL = respText(v.Get("filename")), respText(v.Get("file_id")), respText(v.Get("file_url"))
		b.Detail = respText(v.Get("detail"))
		b.MIME, b.Data = respDataURL(respText(v.Get("file_data")))
		if b.FileID == "" && b.URL == "" && b.Data == "" {
			return b, Invalid(at, "'%s' needs file_data, file_url or file_id.", at)
		}
	default:
		return b, Invalid(at.In("type"), "'%s' is not a content type that this server knows.", at.In("type"))
	}
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
	t := d.assistant(at)
	t.Blocks = append(t.Blocks, Block{
		Type: BlockToolCall, Custom: custom, Path: at,
		ID: respText(v.Get("id")), CallID: v.Get("call_id").String(), Name: v.Get("name").String(),
		Text: v.Get(text).String(), Status: respStatus(respText(v.Get("status"))),
	})
	return nil
}

func (d *respRequest) callOutput(v gjson.Result, at Path, custom bool) *Error {
	b := Block{Type: BlockToolResult, Custom: custom, Path: at, ID: respText(v.Get("id")), CallID: respText(v.Get("call_id"))}
	if b.CallID == "" {
		return Invalid(at.In("call_id"), "'%s' is required and must be a string.", at.In("call_id"))
	}
	out := v.Get("output")
	switch {
	case out.Type == gjson.String:
		b.Text = out.String()
	case out.IsArray():
		var err *Error
		if b.Parts, err = respParts(out, at, "output", StatusComplete); err != nil {
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
func (d *respRequest) reasoningItem(v gjson.Result, at Path) {
	id := respText(v.Get("id"))
	n := len(d.r.Turns)
	var blocks []Block
	for _, mid := range [...]string{"summary", "content"} {
		j := -1
		v.Get(mid).ForEach(func(_, p gjson.Result) bool {
			j++
			blocks = append(blocks, Block{
				Type: BlockReasoning, Summary: mid == "summary", ID: id, Text: respText(p.Get("text")), Path: at.Sub(mid, j),
			})
			return true
		})
	}
	if opaque := respText(v.Get("encrypted_content")); opaque != "" {
		if len(blocks) == 0 {
			blocks = []Block{{Type: BlockReasoning, Summary: true, ID: id, Path: at}}
		}
		blocks[len(blocks)-1].Opaque = opaque
	}
	if len(blocks) == 0 {
		return // an item without a word and without a secret
	}
	// A message that is followed by reasoning is over: the reasoning belongs to
	// what comes next.
	if n > 0 && d.r.Turns[n-1].Role == RoleAssistant && !d.r.Turns[n-1].says() {
		d.r.Turns[n-1].Blocks = append(d.r.Turns[n-1].Blocks, blocks...)
		return
	}
	d.r.Turns = append(d.r.Turns, Turn{Role: RoleAssistant, Path: at, Blocks: blocks})
}

// says reports whether the turn holds content.
func (t *Turn) says() bool {
	for i := range t.Blocks {
		if ContentBlocks.Has(t.Blocks[i].Type) {
			return true
		}
	}
	return false
}
