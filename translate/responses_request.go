package translate

import (
	"math"

	"github.com/tidwall/gjson"
)

// respRequest reads a request in the form of the Responses API.
type respRequest struct {
	r       *Request
	input   gjson.Result
	choice  gjson.Result
	unknown int
	seen    respSeen
	state   []respStateful // fields that need stored conversations

	// lazy keeps objections for Request.Complete, but for those to the fields
	// that say where to send the request and how to answer it: where it is passed
	// through, the rest is between the client and its backend.
	lazy bool

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
		return isFinite(v)
	case respInteger:
		return isFinite(v) && v.Num == math.Trunc(v.Num)
	case respString:
		return v.Type == gjson.String
	case respBool:
		return v.IsBool()
	case respObject:
		return v.IsObject()
	}
	return true
}

// respFields are the fields that are carried by value. The two penalties are in
// the specification of Open Responses, not in the vendor's.
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

// keep is err, unless it can wait.
func (d *respRequest) keep(err *Error) *Error {
	if err == nil || !d.lazy {
		return err
	}
	d.r.blame(err)
	return nil
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
		key := k.String()
		if err = d.field(key, v); key != "model" && key != "stream" {
			err = d.keep(err)
		}
		return err == nil
	})
	if err == nil && d.choice.Exists() {
		err = d.keep(d.toolChoice(d.choice))
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
		var err *Error
		v.ForEach(func(k, o gjson.Result) bool {
			at := At(key).In("include_obfuscation")
			switch {
			case k.String() != "include_obfuscation":
				d.unknown++
			case o.IsBool():
				r.Set(ParamIncludeObfuscation, o.Raw, at)
			case o.Type != gjson.Null:
				err = mistyped(at, respBool)
			}
			return err == nil
		})
		return err
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
	case "access_programs", "background_options", "image":
		r.Ledger.Drop(At(key)) // the vendor's own, without a twin anywhere
	default:
		d.unknown++
	}
	return nil
}

// refer reads what the request refers to. Without state that is refused: an answer
// without the context that the client counts on would be a wrong one.
func (d *respRequest) refer(state bool) *Error {
	r := d.r
	for _, f := range d.state {
		at, v := At(f.key), f.value
		switch f.key {
		case "background":
			if !v.IsBool() {
				return mistyped(at, respBool)
			}
			if r.Background = v.Bool(); !r.Background {
				continue
			}
		case "conversation":
			id := v
			if v.IsObject() {
				id, at = v.Get("id"), at.In("id")
			}
			if id.Type != gjson.String {
				return mistyped(at, respString)
			}
			r.Conversation = id.String()
		default:
			if v.Type != gjson.String {
				return mistyped(at, respString)
			}
			r.Previous = v.String()
		}
		if !state {
			return respNeedsState(At(f.key))
		}
		if !r.Background && r.Previous == "" && r.Conversation == "" {
			return Invalid(at, "'%s' must not be empty.", at)
		}
	}
	switch {
	case r.Previous != "" && r.Conversation != "":
		e := Invalid(At("conversation"), "'conversation' and 'previous_response_id' exclude each other.")
		e.Code = "mutually_exclusive_parameters"
		return e
	case r.Background && r.Store == No:
		return Invalid(At("background"), "'background' needs 'store': an answer that nobody keeps could never be fetched.")
	}
	return nil
}

// references notes the items of an input that stand for kept ones.
func (d *respRequest) references(state bool) *Error {
	if !d.input.IsArray() {
		return nil
	}
	var err *Error
	i := -1
	d.input.ForEach(func(_, v gjson.Result) bool {
		i++
		if !respRefers(v, v.Get("type")) {
			return true
		}
		at := AtIndex("input", i)
		id := v.Get("id")
		switch {
		case !state:
			err = respNeedsState(at)
		case id.Type != gjson.String || id.String() == "":
			err = Invalid(at.In("id"), "'%s' is required and must be a string.", at.In("id"))
		default:
			if err = d.r.room(At("input")); err == nil {
				d.r.References = append(d.r.References, id.String())
			}
		}
		return err == nil
	})
	return err
}

// respRefers reports whether an item of that type is a reference to a stored one,
// whose type may be left out.
func respRefers(item, kind gjson.Result) bool {
	switch kind.Type {
	case gjson.Null:
		return item.Get("id").Exists() && !item.Get("role").Exists()
	case gjson.String:
		return kind.Str == "item_reference"
	}
	return false
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
		if err = d.r.room(At("include")); err != nil {
			return false
		}
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
		case "effort", "summary", "generate_summary": // the last is the older name of summary
			if o.Type != gjson.String {
				err = mistyped(at, respString)
				return false
			}
			switch {
			case key == "effort":
				d.r.Set(ParamReasoningEffort, o.Raw, at)
			case key == "summary" || v.Get("summary").Type == gjson.Null:
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
	d.r.rest(v, f.Path, []string{"type", "name", "description", "schema", "strict"}, nil)
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
		if err := aString.checkMembers(v, f.Path, "description"); err != nil {
			return err
		}
		f.Description = respText(v.Get("description"))
		if s := v.Get("strict"); s.Type != gjson.Null && !s.IsBool() {
			return mistyped(f.Path.In("strict"), respBool)
		}
		f.Strict = respTri(v.Get("strict"))
	default: // a vendor's own
		if at := f.Path.In("type"); t.Type != gjson.String || t.Str == "" {
			return Invalid(at, "'%s' must be text, json_object or json_schema.", at)
		}
		f.Kind, f.Name = FormatOther, t.String()
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
		if err = d.r.room(At("tools")); err != nil {
			return false
		}
		if tool, err = d.tool(t, AtIndex("tools", i)); err == nil {
			d.r.Tools = append(d.r.Tools, tool)
		}
		return err == nil
	})
	return err
}

func (d *respRequest) tool(v gjson.Result, at Path) (Tool, *Error) {
	t := Tool{Raw: v.Raw, Path: at}
	kind := v.Get("type")
	if !v.IsObject() || kind.Type != gjson.String || kind.String() == "" {
		return t, Invalid(at.In("type"), "'%s' is required and must be a string.", at.In("type"))
	}
	switch kind.String() {
	case "function":
		t.Kind = ToolFunction
		d.r.rest(v, at, []string{"type", "name", "description", "parameters", "strict"}, respToolHabits)
		if s := v.Get("strict"); s.Type != gjson.Null && !s.IsBool() {
			return t, mistyped(at.In("strict"), respBool)
		}
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
		if f.Type != gjson.Null && !f.IsObject() {
			return t, mistyped(at.In("format"), respObject)
		}
		if err := aString.checkMembers(f, at.In("format"), "type", "syntax", "definition"); err != nil {
			return t, err
		}
		t.Grammar = ToolGrammar{
			Type: respText(f.Get("type")), Syntax: respText(f.Get("syntax")), Definition: respText(f.Get("definition")),
		}
		switch t.Grammar.Type {
		case "", "text", "grammar":
		default:
			return t, Invalid(at.In("format.type"), "'%s' must be text or grammar.", at.In("format.type"))
		}
		d.r.rest(v, at, []string{"type", "name", "description", "format"}, respToolHabits)
		d.r.rest(f, at.In("format"), []string{"type", "syntax", "definition"}, nil)
	default:
		t.Kind, t.Name = ToolBuiltin, kind.String()
		return t, nil
	}
	if err := aString.checkMembers(v, at, "name", "description"); err != nil {
		return t, err
	}
	t.Name, t.Description = respText(v.Get("name")), respText(v.Get("description"))
	if t.Name == "" {
		return t, Invalid(at.In("name"), "'%s' is required.", at.In("name"))
	}
	return t, nil
}

// respToolHabits are the members of a tool that only the vendor's server acts
// on: who may call it, whether it waits for a tool search, what its output is.
var respToolHabits = []string{"allowed_callers", "defer_loading", "output_schema"}

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
	if v.IsObject() {
		if err := aString.checkMembers(v, c.Path, "type", "mode", "name"); err != nil {
			return err
		}
	}
	if !v.IsObject() || kind == "" {
		return Invalid(c.Path, "'tool_choice' must be none, auto, required or an object with a type.")
	}
	if kind == "allowed_tools" {
		c.Mode = ChoiceAllowed
		d.r.rest(v, c.Path, []string{"type", "mode", "tools"}, nil)
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
			if err = d.r.room(c.Path.In("tools")); err != nil {
				return false
			}
			if err = anObject.check(t, tool.Path); err == nil {
				err = aString.checkMembers(t, tool.Path, "type", "name")
			}
			if err != nil {
				return false
			}
			if respText(t.Get("type")) == "" {
				err = Invalid(tool.Path.In("type"), "'%s' is required.", tool.Path.In("type"))
				return false
			}
			tool.Kind = respToolKind(respText(t.Get("type")))
			if tool.Kind == ToolBuiltin {
				tool.Name = respText(t.Get("type"))
			} else {
				d.r.rest(t, tool.Path, []string{"type", "name"}, nil)
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
	} else {
		d.r.rest(v, c.Path, []string{"type", "name"}, nil)
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
