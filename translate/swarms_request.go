package translate

import (
	"slices"
	"strconv"
	"strings"

	"github.com/tidwall/gjson"

	"github.com/dragoman-proxy/dragoman/internal/jsonx"
)

// DecodeRequest implements Face.
func (swarmsFace) DecodeRequest(in *Inbound) (*Request, *Error) {
	r := &Request{Face: &swarmsProtocol, Body: in.Body}
	doc := gjson.Parse(viewString(in.Body))
	if !doc.IsObject() {
		return nil, Invalid(At(""), "The body must be a JSON object with agent_config and task.")
	}
	var config, task, history, img, imgs, tools gjson.Result
	var err *Error
	doc.ForEach(func(k, v gjson.Result) bool {
		switch k.String() {
		case "agent_config":
			config = v
		case "task":
			task = v
		case "history":
			history = v
		case "img":
			img = v
		case "imgs":
			imgs = v
		case "tools_enabled":
			tools = v
		case "stream":
			// No schema of the vendor has it, but its examples and its Python
			// client send it beside agent_config.streaming_on.
			err = swarmsStream(r, v, At("stream"))
		case "search_enabled":
			// An early name of tools_enabled, which no server reads any more.
			if v.Type == gjson.True {
				r.Ledger.Drop(At("search_enabled"))
			}
		default:
			r.Ledger.Unknown(1)
		}
		return err == nil
	})
	var settings func() *Error
	if err == nil {
		settings, err = decodeSwarmsConfig(r, config)
	}
	if err != nil {
		return nil, err
	}
	if r.Stream && in.Route != nil && in.Route.Op == OpBatch {
		// The answers of a batch stand in one JSON body.
		r.Stream = false
		for _, path := range swarmsStreaming {
			if doc.Get(path).Type == gjson.True {
				r.Ledger.Note(path)
			}
		}
	}
	r.later = func() *Error {
		err := settings()
		if err == nil {
			err = decodeSwarmsHistory(r, history)
		}
		if err == nil {
			err = decodeSwarmsTask(r, task)
		}
		if err == nil {
			err = decodeSwarmsImages(r, img, imgs)
		}
		if err == nil {
			err = decodeSwarmsToolNames(r, tools)
		}
		if err == nil && !slices.ContainsFunc(r.Turns, func(t Turn) bool { return t.Role != RoleSystem }) {
			err = Invalid(At("task"), "'task' is required when there is no history.")
		}
		return err
	}
	if in.Lazy {
		return r, nil
	}
	if err = r.Complete(); err != nil {
		return nil, err
	}
	return r, nil
}

// swarmsStreaming are the places of a request that ask for a stream.
var swarmsStreaming = [...]string{"stream", "agent_config.streaming_on"}

// decodeSwarmsConfig reads what agent_config says of the agent, and leaves how it
// is to be run to settings.
func decodeSwarmsConfig(r *Request, config gjson.Result) (settings func() *Error, err *Error) {
	at := At("agent_config")
	if swarmsAbsent(config) {
		return nil, Invalid(at, "'agent_config' is required.")
	}
	if !config.IsObject() {
		return nil, Invalid(at, "'agent_config' must be an object.")
	}
	var args, tools, oldTools gjson.Result
	var system string
	config.ForEach(func(k, v gjson.Result) bool {
		if v.Type == gjson.Null {
			return true
		}
		key := k.String()
		switch key {
		case "agent_name":
			var name string
			if name, err = swarmsString(v, at.Sub("agent_name", -1)); name != "" {
				r.Agent, r.AgentPath = name, at.Sub("agent_name", -1)
			}
		case "model_name":
			r.Model, err = swarmsString(v, at.Sub("model_name", -1))
		case "system_prompt":
			system, err = swarmsString(v, at.Sub("system_prompt", -1))
		case "llm_args":
			args = v
		case "tools_list_dictionary":
			tools = v
		case "tools_dictionary": // its name in 2025
			oldTools = v
		case "streaming_on":
			err = swarmsStream(r, v, at.Sub("streaming_on", -1))
		case "temperature", "max_tokens", "reasoning_effort", "max_loops": // after llm_args
		default:
			if key == "description" { // answers repeat it
				if _, err = swarmsString(v, at.Sub("description", -1)); err != nil {
					return false
				}
			}
			def, known := swarmsConfigDefault(key)
			switch {
			case !known:
				r.Ledger.Unknown(1)
			case v.Raw != def && !swarmsEmpty(v):
				r.Set(ParamAgentConfig, `{"`+key+`":`+v.Raw+`}`, at.Sub(swarmsConstant(key), -1))
			}
		}
		return err == nil
	})
	if err != nil {
		return nil, err
	}
	if r.Agent == "" && r.Model != "" {
		r.Agent, r.AgentPath = r.Model, at.Sub("model_name", -1)
	}
	if system != "" {
		p := at.Sub("system_prompt", -1)
		r.Turns = append(r.Turns, Turn{Role: RoleSystem, Path: p, Blocks: []Block{{Type: BlockText, Text: system, Path: p}}})
	}
	return func() *Error { return decodeSwarmsSettings(r, config, args, tools, oldTools) }, nil
}

func decodeSwarmsSettings(r *Request, config, args, tools, oldTools gjson.Result) *Error {
	at := At("agent_config")
	if err := decodeSwarmsArgs(r, args); err != nil {
		return err
	}
	for _, p := range [...]swarmsParam{
		{"temperature", ParamTemperature, swarmsNumber},
		{"max_tokens", ParamMaxTokens, swarmsPositive},
		{"reasoning_effort", ParamReasoningEffort, swarmsText},
		{"max_loops", ParamMaxLoops, swarmsLoops},
	} {
		if err := p.decode(r, config, at.Sub(p.key, -1)); err != nil {
			return err
		}
	}
	if raw, ok := r.Setting(ParamMaxLoops); ok && raw == "1" { // the default
		r.Settings = r.Settings[:len(r.Settings)-1]
	}
	if !swarmsAbsent(tools) {
		if !swarmsAbsent(oldTools) && !swarmsEmpty(oldTools) && oldTools.Raw != tools.Raw {
			r.Ledger.Drop(at.Sub("tools_dictionary", -1))
		}
		return decodeSwarmsTools(r, tools, "tools_list_dictionary")
	}
	return decodeSwarmsTools(r, oldTools, "tools_dictionary")
}

// swarmsConfigKeys are the members of agent_config without a neutral meaning,
// each with its default as the documents of July 2026 have it.
var swarmsConfigKeys = [...]struct{ key, def string }{
	{"description", "null"}, {"marketplace_prompt_id", "null"}, {"auto_generate_prompt", "false"}, {"role", `"worker"`},
	{"selected_tools", "null"}, {"mcp_url", "null"}, {"mcp_config", "null"}, {"mcp_configs", "null"},
	{"dynamic_temperature_enabled", "true"}, {"tool_call_summary", "true"}, {"thinking_tokens", "null"},
	{"reasoning_enabled", "false"}, {"publish_to_marketplace", "false"}, {"use_cases", "null"}, {"tags", "null"},
	{"capabilities", "null"}, {"category", "null"}, {"is_free", "true"}, {"price_usd", "null"}, {"handoffs", "null"},
}

func swarmsConfigDefault(key string) (def string, known bool) {
	for i := range swarmsConfigKeys {
		if swarmsConfigKeys[i].key == key {
			return swarmsConfigKeys[i].def, true
		}
	}
	return "", false
}

// swarmsConstant is our own spelling of a key that swarmsConfigDefault knows: it
// outlives the body.
func swarmsConstant(key string) string {
	for i := range swarmsConfigKeys {
		if swarmsConfigKeys[i].key == key {
			return swarmsConfigKeys[i].key
		}
	}
	return ""
}

// swarmsMemberValue is the value of a setting with the form {"key":value}.
func swarmsMemberValue(raw string) string {
	return raw[strings.IndexByte(raw, ':')+1 : len(raw)-1]
}

// swarmsParam is a member that becomes a setting, and the form it must have.
type swarmsParam struct {
	key   string
	param Param
	form  swarmsForm
}

type swarmsForm uint8

const (
	swarmsAny swarmsForm = iota
	swarmsNumber
	swarmsPositive // a whole number above zero
	swarmsWhole
	swarmsText
	swarmsBool
	swarmsLoops // a whole number above zero or "auto"
	swarmsStops // a string or strings
	swarmsObject
)

// swarmsArgs are the members of llm_args that the neutral model knows. The
// vendor hands llm_args to its model library as keyword arguments, so they
// have the names of Chat Completions.
var swarmsArgs = [...]swarmsParam{
	{"temperature", ParamTemperature, swarmsNumber},
	{"top_p", ParamTopP, swarmsNumber},
	{"presence_penalty", ParamPresencePenalty, swarmsNumber},
	{"frequency_penalty", ParamFrequencyPenalty, swarmsNumber},
	{"max_tokens", ParamMaxTokens, swarmsPositive},
	{"max_completion_tokens", ParamMaxTokens, swarmsPositive},
	{"stop", ParamStop, swarmsStops},
	{"seed", ParamSeed, swarmsWhole},
	{"n", ParamN, swarmsPositive},
	{"user", ParamUser, swarmsText},
	{"logit_bias", ParamLogitBias, swarmsObject},
	{"logprobs", ParamLogprobs, swarmsBool},
	{"top_logprobs", ParamTopLogprobs, swarmsWhole},
	{"parallel_tool_calls", ParamParallelToolCalls, swarmsBool},
	{"reasoning_effort", ParamReasoningEffort, swarmsText},
	{"verbosity", ParamVerbosity, swarmsText},
	{"service_tier", ParamServiceTier, swarmsText},
}

// decode reads the member p.key of object, if it is there, into a setting.
func (p *swarmsParam) decode(r *Request, object gjson.Result, at Path) *Error {
	v := object.Get(p.key)
	if swarmsAbsent(v) {
		return nil
	}
	raw, want := v.Raw, ""
	switch p.form {
	case swarmsNumber:
		if !isFinite(v) {
			want = "a number"
		}
	case swarmsPositive, swarmsWhole, swarmsLoops:
		n, ok := swarmsInt(v)
		switch {
		case p.form == swarmsLoops && v.Type == gjson.String && v.Str == "auto":
			raw = `"auto"`
		case !ok && p.form == swarmsLoops:
			want = `a whole number above zero or "auto"`
		case !ok:
			want = "a whole number"
		case n < 1 && p.form != swarmsWhole:
			want = "a whole number above zero"
		default:
			raw = strconv.FormatInt(n, 10)
		}
	case swarmsStops:
		if err := stringOrStrings.check(v, at); err != nil {
			return err
		}
	case swarmsObject:
		if !v.IsObject() {
			want = "an object"
		}
	case swarmsText:
		if v.Type != gjson.String {
			want = "a string"
		}
	case swarmsBool:
		if !v.IsBool() {
			want = "true or false"
		}
	}
	if want != "" {
		return Invalid(at, "'%s' must be %s.", at, want)
	}
	for i := range r.Settings { // agent_config says it again, and counts
		if s := &r.Settings[i]; s.Param == p.param {
			if s.Raw != raw {
				r.Ledger.Drop(s.Path)
			}
			*s = Setting{Param: p.param, Raw: raw, Path: at}
			return nil
		}
	}
	r.Set(p.param, raw, at)
	return nil
}

// decodeSwarmsArgs reads agent_config.llm_args.
func decodeSwarmsArgs(r *Request, args gjson.Result) *Error {
	if swarmsAbsent(args) {
		return nil
	}
	at := At("agent_config").Sub("llm_args", -1)
	if !args.IsObject() {
		return Invalid(at, "'%s' must be an object.", at)
	}
	for i := range swarmsArgs {
		if err := swarmsArgs[i].decode(r, args, at.In(swarmsArgs[i].key)); err != nil {
			return err
		}
	}
	var rest []byte
	var err *Error
	args.ForEach(func(k, v gjson.Result) bool {
		key := k.String()
		switch {
		case v.Type == gjson.Null || swarmsKnownArg(key):
		case key == "tool_choice":
			err = decodeSwarmsChoice(r, v, at.In("tool_choice"))
		case key == "response_format":
			err = decodeSwarmsFormat(r, v, at.In("response_format"))
		default:
			if len(rest) > 0 {
				rest = append(rest, ',')
			}
			rest = append(jsonx.AppendStringS(rest, key), ':')
			rest = append(rest, v.Raw...)
		}
		return err == nil
	})
	if len(rest) > 0 {
		r.Set(ParamAgentConfig, `{"llm_args":{`+string(rest)+`}}`, at)
	}
	return err
}

func swarmsKnownArg(key string) bool {
	for i := range swarmsArgs {
		if swarmsArgs[i].key == key {
			return true
		}
	}
	return false
}

// decodeSwarmsChoice reads a tool choice in the form of Chat Completions.
func decodeSwarmsChoice(r *Request, v gjson.Result, at Path) *Error {
	c := ToolChoice{Path: at}
	switch {
	case v.Type == gjson.String && v.Str == "none":
		c.Mode = ChoiceNone
	case v.Type == gjson.String && v.Str == "auto":
		c.Mode = ChoiceAuto
	case v.Type == gjson.String && v.Str == "required":
		c.Mode = ChoiceRequired
	case v.IsObject():
		f, inner := v.Get("function"), at.In("function")
		if err := anObject.check(f, inner); err != nil {
			return err
		}
		if err := aString.check(f.Get("name"), inner.In("name")); err != nil {
			return err
		}
		c.Mode, c.Name = ChoiceNamed, v.Get("function.name").String()
	default:
		return Invalid(at, "'%s' must be none, auto, required or a function.", at)
	}
	r.ToolChoice = c
	return nil
}

// decodeSwarmsFormat reads an output format in the form of Chat Completions.
func decodeSwarmsFormat(r *Request, v gjson.Result, at Path) *Error {
	f := Format{Path: at}
	if v.IsObject() {
		if err := aString.checkMembers(v, at, "type"); err != nil {
			return err
		}
	}
	switch v.Get("type").String() {
	case "text":
		f.Kind = FormatText
	case "json_object":
		f.Kind = FormatJSONObject
	case "json_schema":
		s, inner := v.Get("json_schema"), at.In("json_schema")
		if err := anObject.check(s, inner); err != nil {
			return err
		}
		for _, m := range [...]struct {
			kind valueKind
			name string
		}{{aString, "name"}, {aString, "description"}, {anObject, "schema"}, {aBoolean, "strict"}} {
			if err := m.kind.checkMembers(s, inner, m.name); err != nil {
				return err
			}
		}
		f.Kind = FormatJSONSchema
		f.Name, f.Description, f.Schema = s.Get("name").String(), s.Get("description").String(), s.Get("schema").Raw
		if strict := s.Get("strict"); strict.IsBool() {
			f.Strict = TriOf(strict.Bool())
		}
	default:
		return Invalid(at, "'%s' must be an object with a type of text, json_object or json_schema.", at)
	}
	r.Format = f
	return nil
}

// decodeSwarmsTools reads the function tools, which stand in the form of Chat
// Completions or, without its envelope, as name, description and parameters.
func decodeSwarmsTools(r *Request, list gjson.Result, key string) *Error {
	if swarmsAbsent(list) {
		return nil
	}
	at := At("agent_config").Sub(key, -1)
	if !list.IsArray() {
		return Invalid(at, "'%s' must be a list of function tools.", at)
	}
	var err *Error
	i := 0
	list.ForEach(func(_, v gjson.Result) bool {
		p := At("agent_config").Sub(key, i)
		i++
		if err = r.room(at); err != nil {
			return false
		}
		f := v.Get("function")
		if !f.IsObject() && v.IsObject() && v.Get("name").Exists() {
			f = v
		}
		t := v.Get("type")
		if err = swarmsToolKinds(f, v, p); err != nil {
			return false
		}
		if name := f.Get("name"); name.Type != gjson.String || name.Str == "" || t.Exists() && t.Str != "function" {
			err = Invalid(p, "'%s' must be a function tool: {\"type\":\"function\",\"function\":{\"name\":…}}.", p)
			return false
		}
		tool := Tool{
			Kind: ToolFunction, Name: f.Get("name").String(), Description: f.Get("description").String(), Raw: v.Raw, Path: p,
		}
		if params := f.Get("parameters"); params.IsObject() {
			tool.Parameters = params.Raw
		}
		if strict := f.Get("strict"); strict.IsBool() {
			tool.Strict = TriOf(strict.Bool())
		}
		swarmsUnknown(r, v)
		if f.Raw != v.Raw {
			swarmsUnknown(r, f)
		}
		r.Tools = append(r.Tools, tool)
		return true
	})
	return err
}

// swarmsToolKinds checks what stands in a tool. f is the tool
// itself or what is in its envelope.
func swarmsToolKinds(f, tool gjson.Result, at Path) *Error {
	if !tool.IsObject() {
		return nil // and no tool
	}
	if err := aString.checkMembers(tool, at, "type"); err != nil {
		return err
	}
	if f.Raw != tool.Raw {
		if err := anObject.checkMembers(tool, at, "function"); err != nil {
			return err
		}
		at = at.In("function")
	}
	if err := aString.checkMembers(f, at, "name", "description"); err != nil {
		return err
	}
	if err := anObject.checkMembers(f, at, "parameters"); err != nil {
		return err
	}
	return aBoolean.checkMembers(f, at, "strict")
}

// swarmsUnknown counts the members of a tool that nobody knows.
func swarmsUnknown(r *Request, v gjson.Result) {
	v.ForEach(func(k, _ gjson.Result) bool {
		switch k.String() {
		case "type", "function", "name", "description", "parameters", "strict":
		default:
			r.Ledger.Unknown(1)
		}
		return true
	})
}

func decodeSwarmsTask(r *Request, task gjson.Result) *Error {
	if swarmsAbsent(task) {
		return nil
	}
	text, err := swarmsString(task, At("task"))
	if err == nil && text != "" {
		r.Turns = append(r.Turns, Turn{Role: RoleUser, Path: At("task"), Blocks: []Block{{Type: BlockText, Text: text, Path: At("task")}}})
	}
	return err
}

// decodeSwarmsToolNames reads tools_enabled, the vendor's own tools.
func decodeSwarmsToolNames(r *Request, v gjson.Result) *Error {
	if swarmsAbsent(v) || swarmsEmpty(v) {
		return nil
	}
	at := At("tools_enabled")
	if !v.IsArray() {
		return Invalid(at, "'tools_enabled' must be a list of strings.")
	}
	if err := stringOrStrings.check(v, at); err != nil {
		return err
	}
	r.Set(ParamToolsEnabled, v.Raw, at)
	return nil
}

// swarmsAbsent reports whether a member is missing or null, which mean the same
// here.
func swarmsAbsent(v gjson.Result) bool { return !v.Exists() || v.Type == gjson.Null }

// swarmsEmpty reports whether a value says nothing: an empty string, list or
// object.
func swarmsEmpty(v gjson.Result) bool {
	switch v.Type {
	case gjson.String:
		return v.Str == ""
	case gjson.JSON:
		empty := true
		v.ForEach(func(_, _ gjson.Result) bool { empty = false; return false })
		return empty
	}
	return false
}

func swarmsString(v gjson.Result, at Path) (string, *Error) {
	if v.Type != gjson.String {
		return "", Invalid(at, "'%s' must be a string.", at)
	}
	return v.String(), nil
}

func swarmsStream(r *Request, v gjson.Result, at Path) *Error {
	if v.Type == gjson.Null {
		return nil
	}
	if !v.IsBool() {
		return Invalid(at, "'%s' must be true or false.", at)
	}
	r.Stream = r.Stream || v.Bool()
	return nil
}

// swarmsInt is the value of a number without a fraction; Python's 100.0 is one.
func swarmsInt(v gjson.Result) (int64, bool) {
	if v.Type != gjson.Number {
		return 0, false
	}
	var d jsonx.Dec
	d.Reset(viewBytes(v.Raw))
	return d.Int()
}
