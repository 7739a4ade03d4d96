package translate

import (
	"math"
	"strconv"
	"strings"

	"github.com/tidwall/gjson"
)

// chatSettings are the settings of a chat request that are carried by value:
// their names here, and the kind of JSON value that each must be.
var chatSettings = map[string]struct {
	param Param
	kind  valueKind
}{
	"temperature":            {ParamTemperature, aNumber},
	"top_p":                  {ParamTopP, aNumber},
	"max_tokens":             {ParamMaxTokens, anInteger},
	"max_completion_tokens":  {ParamMaxTokens, anInteger},
	"stop":                   {ParamStop, stringOrStrings},
	"seed":                   {ParamSeed, anInteger},
	"frequency_penalty":      {ParamFrequencyPenalty, aNumber},
	"presence_penalty":       {ParamPresencePenalty, aNumber},
	"logit_bias":             {ParamLogitBias, anObject},
	"logprobs":               {ParamLogprobs, aBoolean},
	"top_logprobs":           {ParamTopLogprobs, anInteger},
	"n":                      {ParamN, anInteger},
	"user":                   {ParamUser, aString},
	"safety_identifier":      {ParamSafetyIdentifier, aString},
	"prompt_cache_key":       {ParamPromptCacheKey, aString},
	"prompt_cache_retention": {ParamPromptCacheRetention, aString},
	"prompt_cache_options":   {ParamPromptCacheOptions, anObject},
	"service_tier":           {ParamServiceTier, aString},
	"metadata":               {ParamMetadata, anObject},
	"parallel_tool_calls":    {ParamParallelToolCalls, aBoolean},
	"moderation":             {ParamModeration, anything},
	"verbosity":              {ParamVerbosity, aString},
	"reasoning_effort":       {ParamReasoningEffort, aString},
	"modalities":             {ParamModalities, anArray},
	"audio":                  {ParamAudio, anObject},
	"prediction":             {ParamPrediction, anObject},
	"web_search_options":     {ParamWebSearch, anObject},
}

// valueKind is what a member must be.
type valueKind uint8

const (
	anything valueKind = iota
	aString
	aNumber
	anInteger
	aBoolean
	anArray
	anObject
	stringOrStrings
)

var valueKindNames = [...]string{
	"", "a string", "a number", "an integer", "true or false", "an array", "an object", "a string or an array of strings",
}

// is reports whether v is of the kind.
func (k valueKind) is(v gjson.Result) bool {
	switch k {
	case aString:
		return v.Type == gjson.String
	case aNumber:
		return isFinite(v)
	case anInteger:
		return isFinite(v) && v.Num == math.Trunc(v.Num) // of any size: seeds are unsigned with some
	case aBoolean:
		return v.Type == gjson.True || v.Type == gjson.False
	case anArray:
		return v.IsArray()
	case anObject:
		return v.IsObject()
	case stringOrStrings:
		if v.IsArray() {
			ok := true
			v.ForEach(func(_, e gjson.Result) bool {
				ok = e.Type == gjson.String
				return ok
			})
			return ok
		}
		return v.Type == gjson.String
	}
	return true
}

// isFinite reports whether v is a number that a float64 can hold: 1e400 is an
// error to one parser, infinite to another, and a text to a third.
func isFinite(v gjson.Result) bool { return v.Type == gjson.Number && !math.IsInf(v.Num, 0) }

// check is the error that v at p is not of the kind, nil if it is.
func (k valueKind) check(v gjson.Result, at Path) *Error {
	if k.is(v) {
		return nil
	}
	if k == stringOrStrings && v.IsArray() {
		i := 0
		v.ForEach(func(_, e gjson.Result) bool {
			if e.Type == gjson.String {
				i++
			}
			return e.Type == gjson.String
		})
		k, at = aString, At(at.String()+"["+strconv.Itoa(i)+"]")
	}
	e := Invalid(at, "'%s' must be %s.", at, valueKindNames[k])
	e.Code = "invalid_type"
	return e
}

// checkMembers is the error that one of the members of v, which is at p, is
// there but not of the kind.
func (k valueKind) checkMembers(v gjson.Result, at Path, names ...string) *Error {
	for _, name := range names {
		if m := v.Get(name); m.Type != gjson.Null {
			if err := k.check(m, at.In(name)); err != nil {
				return err
			}
		}
	}
	return nil
}

// missing is the error that the field is not there.
func missing(at Path) *Error {
	e := Invalid(at, "'%s' is required.", at)
	e.Code = "missing_required_parameter"
	return e
}

// decodeChatRequest reads r.Body. A null counts as absent everywhere, as it
// does with OpenAI. What lazy leaves to Request.Complete is the conversation, and
// every objection but those to the fields that say where to send the request and
// how to answer it, or to there being no conversation at all: where it is passed
// through, the rest is between the client and its backend.
func decodeChatRequest(r *Request, lazy bool) *Error {
	root := gjson.Parse(viewString(r.Body))
	if !root.IsObject() {
		return Invalid(At(""), "The request body must be a JSON object.")
	}
	var messages gjson.Result
	var err *Error
	root.ForEach(func(k, v gjson.Result) bool {
		if v.Type == gjson.Null {
			return true
		}
		key := k.String()
		if key == "messages" {
			messages = v
			return true
		}
		e := decodeChatField(r, key, v)
		if e != nil && lazy && key != "model" && key != "stream" {
			r.blame(e)
			return true
		}
		err = e
		return err == nil
	})
	if err != nil {
		return err
	}
	switch at := At("messages"); {
	case !messages.Exists():
		return missing(at)
	case !messages.IsArray():
		return anArray.check(messages, at)
	case lazy:
		r.later = func() *Error { return decodeConversation(r, messages) }
		return nil
	}
	return decodeConversation(r, messages)
}

// decodeConversation reads the messages of a chat request.
func decodeConversation(r *Request, messages gjson.Result) *Error {
	if first := strings.TrimLeft(messages.Raw[1:], " \t\r\n"); first[0] == ']' {
		e := Invalid(At("messages"), "'messages' must hold at least one message.")
		e.Code = "empty_array"
		return e
	}
	return decodeMessages(r, messages, "messages")
}

// decodeChatField reads one top-level member other than messages.
func decodeChatField(r *Request, key string, v gjson.Result) *Error {
	if s, ok := chatSettings[key]; ok {
		at := At(key)
		if err := s.kind.check(v, at); err != nil {
			return err
		}
		switch {
		case s.param == ParamN && v.Num < 1:
			return Invalid(at, "'n' must be at least 1.")
		case s.param == ParamN && v.Num == 1,
			s.param == ParamModalities && onlyText(v):
			return nil // what everybody does anyway
		case key == "max_tokens":
			if _, ok := r.Setting(ParamMaxTokens); ok {
				return nil // max_completion_tokens replaced it
			}
		}
		r.Set(s.param, v.Raw, at)
		return nil
	}
	switch key {
	case "model":
		if err := aString.check(v, At("model")); err != nil {
			return err
		}
		r.Model = v.String()
		r.Agent, r.AgentPath = r.Model, At("model")
	case "stream":
		if err := aBoolean.check(v, At("stream")); err != nil {
			return err
		}
		r.Stream = v.Bool()
	case "stream_options":
		return decodeStreamOptions(r, v)
	case "store":
		if err := aBoolean.check(v, At("store")); err != nil {
			return err
		}
		r.Store = TriOf(v.Bool())
	case "tools":
		return decodeChatTools(r, v)
	case "functions":
		return decodeFunctions(r, v)
	case "tool_choice":
		return decodeToolChoice(r, v)
	case "function_call":
		return decodeFunctionCall(r, v)
	case "response_format":
		return decodeResponseFormat(r, v)
	default:
		r.Ledger.Unknown(1)
	}
	return nil
}

// onlyText reports whether v is ["text"].
func onlyText(v gjson.Result) bool {
	n, text := 0, true
	v.ForEach(func(_, e gjson.Result) bool {
		n++
		text = e.Str == "text"
		return text
	})
	return n == 1 && text
}

func decodeStreamOptions(r *Request, v gjson.Result) *Error {
	at := At("stream_options")
	if err := anObject.check(v, at); err != nil {
		return err
	}
	if usage := v.Get("include_usage"); usage.Type != gjson.Null {
		if err := aBoolean.check(usage, at.In("include_usage")); err != nil {
			return err
		}
		r.IncludeUsage = usage.Bool()
	}
	if told := v.Get("include_obfuscation"); told.Type != gjson.Null {
		if err := aBoolean.check(told, at.In("include_obfuscation")); err != nil {
			return err
		}
		r.Set(ParamIncludeObfuscation, told.Raw, at.In("include_obfuscation"))
	}
	r.rest(v, at, []string{"include_usage", "include_obfuscation"}, nil)
	return nil
}

// decodeMessages reads an array of chat messages into turns.
func decodeMessages(r *Request, messages gjson.Result, base string) *Error {
	var err *Error
	i := 0
	messages.ForEach(func(_, m gjson.Result) bool {
		if err = r.room(At(base)); err == nil {
			err = decodeMessage(r, m, AtIndex(base, i))
		}
		i++
		return err == nil
	})
	return err
}

var chatRoles = map[string]Role{
	"user": RoleUser, "assistant": RoleAssistant, "system": RoleSystem, "developer": RoleDeveloper,
	"tool": RoleTool, "function": RoleTool,
}

func decodeMessage(r *Request, m gjson.Result, at Path) *Error {
	if err := anObject.check(m, at); err != nil {
		return err
	}
	var f struct {
		role, content, name, toolCalls, toolCallID, functionCall, refusal, reasoning, annotations gjson.Result
	}
	thoughts := "" // what the client calls its reasoning
	m.ForEach(func(k, v gjson.Result) bool {
		if v.Type == gjson.Null {
			return true
		}
		switch k.String() {
		case "role":
			f.role = v
		case "content":
			f.content = v
		case "name":
			f.name = v
		case "tool_calls":
			f.toolCalls = v
		case "tool_call_id":
			f.toolCallID = v
		case "function_call":
			f.functionCall = v
		case "refusal":
			f.refusal = v
		case "reasoning_content":
			f.reasoning, thoughts = v, "reasoning_content"
		case "reasoning":
			switch {
			case v.Type != gjson.String:
				r.Ledger.Drop(at.In("reasoning"))
			case !f.reasoning.Exists():
				f.reasoning, thoughts = v, "reasoning"
			}
		case "annotations":
			f.annotations = v
		case "audio":
			// A reference to an earlier answer of the model's own, which
			// nobody else has.
			r.Ledger.Drop(at.In("audio"))
		case "cache_control", "reasoning_details":
			r.Ledger.Drop(at.In(k.String()))
		default:
			r.Ledger.Unknown(1)
		}
		return true
	})

	if !f.role.Exists() {
		return missing(at.In("role"))
	}
	role, ok := chatRoles[f.role.String()]
	if !ok {
		return Invalid(at.In("role"), "'%s' must be system, developer, user, assistant, tool or function.", at.In("role"))
	}
	for _, s := range [...]struct {
		v    gjson.Result
		name string
	}{{f.name, "name"}, {f.toolCallID, "tool_call_id"}, {f.refusal, "refusal"}, {f.reasoning, "reasoning_content"}} {
		if s.v.Exists() {
			if err := aString.check(s.v, at.In(s.name)); err != nil {
				return err
			}
		}
	}
	t := Turn{Role: role, Name: f.name.String(), Path: at}
	// What a message of its role cannot have means nothing to anybody.
	if role != RoleAssistant {
		none := func(v gjson.Result, name string) gjson.Result {
			if v.Exists() {
				r.Ledger.Drop(at.In(name))
			}
			return gjson.Result{}
		}
		f.toolCalls = none(f.toolCalls, "tool_calls")
		f.functionCall = none(f.functionCall, "function_call")
		f.refusal = none(f.refusal, "refusal")
		f.reasoning = none(f.reasoning, "reasoning_content")
		f.annotations = none(f.annotations, "annotations")
	}
	if role == RoleTool {
		return decodeToolMessage(r, t, f.role.Str == "function", f.content, f.toolCallID)
	}
	if f.toolCallID.Exists() {
		r.Ledger.Drop(at.In("tool_call_id"))
	}
	if s := f.reasoning.String(); s != "" {
		t.Blocks = append(t.Blocks, Block{Type: BlockReasoning, Text: s, Path: at.In(thoughts)})
	}
	switch {
	case f.content.Exists():
		var err *Error
		if t.Blocks, err = decodeContent(r, t.Blocks, f.content, at.In("content"), at); err != nil {
			return err
		}
	case role != RoleAssistant:
		return missing(at.In("content"))
	}
	if s := f.refusal.String(); s != "" {
		t.Blocks = append(t.Blocks, Block{Type: BlockRefusal, Text: s, Path: at.In("refusal")})
	}
	switch {
	case f.annotations.IsArray():
		if err := keepAnnotations(r, &t, f.annotations); err != nil {
			return err
		}
	case f.annotations.Exists():
		r.Ledger.Drop(at.In("annotations"))
	}
	if f.toolCalls.Exists() {
		if err := decodeToolCalls(r, &t, f.toolCalls); err != nil {
			return err
		}
	}
	if f.functionCall.Exists() {
		c := f.functionCall
		if err := anObject.check(c, at.In("function_call")); err != nil {
			return err
		}
		b := Block{Type: BlockToolCall, CallID: functionCallID(len(r.Turns)), Path: at.In("function_call")}
		if err := decodeCall(r, &b, c, "arguments", at.In("function_call")); err != nil {
			return err
		}
		t.Blocks = append(t.Blocks, b)
	}
	r.know(t)
	return nil
}

// functionCallID makes the id of a call in the deprecated form, which has none.
func functionCallID(turn int) string { return "call_function_" + strconv.Itoa(turn) }

// keepAnnotations gives the citations of an earlier answer to its text.
func keepAnnotations(r *Request, t *Turn, list gjson.Result) (err *Error) {
	var text *Block
	for i := range t.Blocks {
		if t.Blocks[i].Type == BlockText {
			text = &t.Blocks[i]
			break
		}
	}
	list.ForEach(func(_, a gjson.Result) bool {
		if err = r.room(t.Path.In("annotations")); err != nil {
			return false
		}
		if text == nil || !a.IsObject() {
			r.Ledger.Drop(t.Path.In("annotations"))
			return false
		}
		if annotationType(a) == "" {
			r.Ledger.Drop(t.Path.In("annotations"))
			return true
		}
		text.Annotations = append(text.Annotations, string(flatAnnotation(nil, a, 0)))
		return true
	})
	return err
}

// decodeToolMessage reads a tool's output, of the present or the deprecated
// form.
func decodeToolMessage(r *Request, t Turn, function bool, content, id gjson.Result) *Error {
	b := Block{Type: BlockToolResult, CallID: id.String(), Name: t.Name, Path: t.Path}
	switch {
	case function:
		// It names its function; the last call of that name is what it answers.
		b.CallID = ""
		if c := r.lastCall(r.byTool, t.Name); c != nil {
			b.CallID = c.CallID
		}
		if b.CallID == "" {
			return Invalid(t.Path.In("name"), "'%s' must be the name of a function that was called before.", t.Path.In("name"))
		}
	case b.CallID == "":
		return missing(t.Path.In("tool_call_id"))
	default:
		if c := r.lastCall(r.byCall, b.CallID); c != nil {
			b.Custom = c.Custom
			b.Name = firstOf(b.Name, c.Name)
		}
	}
	t.Name = ""
	if content.Exists() {
		parts, err := decodeContent(r, nil, content, t.Path.In("content"), t.Path)
		if err != nil {
			return err
		}
		for i := range parts {
			if parts[i].Type != BlockText {
				b.Parts = parts
			}
		}
		if b.Parts == nil {
			b.Text = joinTexts(parts)
		}
	}
	t.Blocks = []Block{b}
	r.Turns = append(r.Turns, t)
	return nil
}

// joinTexts puts texts that the client told apart on lines of their own.
func joinTexts(parts []Block) string {
	texts := make([]string, len(parts))
	for i := range parts {
		texts[i] = parts[i].Text
	}
	return strings.Join(texts, "\n")
}

// callAt is the place of a tool call in the turns.
type callAt struct{ turn, block int }

// know adds a turn, and notes its calls for the results that answer them: their
// number times that of the turns would be too much to search.
func (r *Request) know(t Turn) {
	for j := range t.Blocks {
		if b := &t.Blocks[j]; b.Type == BlockToolCall {
			if r.byCall == nil {
				r.byCall, r.byTool = map[string]callAt{}, map[string]callAt{}
			}
			at := callAt{len(r.Turns), j}
			r.byCall[b.CallID], r.byTool[b.Name] = at, at
		}
	}
	r.Turns = append(r.Turns, t)
}

// lastCall is the latest tool call of an id or of a tool, nil if there is none.
func (r *Request) lastCall(by map[string]callAt, name string) *Block {
	at, ok := by[name]
	if !ok {
		return nil
	}
	return &r.Turns[at.turn].Blocks[at.block]
}

// decodeContent reads a message's content, a string or an array of parts, and
// adds its blocks. parts is the path under which the array's elements stand.
func decodeContent(r *Request, blocks []Block, v gjson.Result, at, message Path) ([]Block, *Error) {
	switch {
	case v.Type == gjson.String:
		return append(blocks, Block{Type: BlockText, Text: v.String(), Path: at}), nil
	case !v.IsArray():
		e := Invalid(at, "'%s' must be a string or an array of content parts.", at)
		e.Code = "invalid_type"
		return nil, e
	}
	var err *Error
	j := 0
	v.ForEach(func(_, part gjson.Result) bool {
		if err = r.room(at); err == nil {
			blocks, err = decodePart(r, blocks, part, message.Sub("content", j))
		}
		j++
		return err == nil
	})
	return blocks, err
}

// decodePart reads one content part and adds its block.
func decodePart(r *Request, blocks []Block, v gjson.Result, at Path) ([]Block, *Error) {
	if err := anObject.check(v, at); err != nil {
		return nil, err
	}
	typ := v.Get("type")
	if !typ.Exists() {
		return nil, missing(at.In("type"))
	}
	if err := aString.check(typ, at.In("type")); err != nil {
		return nil, err
	}
	b := Block{Path: at}
	body := v.Get(partBody(typ.String()))
	var err *Error
	switch typ.String() {
	case "text":
		b.Type, b.Text = BlockText, body.String()
		err = aString.check(body, at.In("text"))
	case "refusal":
		b.Type, b.Text = BlockRefusal, body.String()
		err = aString.check(body, at.In("refusal"))
	case "image_url":
		b.Type = BlockImage
		if body.Type == gjson.String { // many clients write it flat
			if b.URL = body.String(); b.URL == "" {
				err = missing(at.In("image_url"))
			}
			break
		}
		if err = anObject.check(body, at.In("image_url")); err == nil {
			err = aString.checkMembers(body, at.In("image_url"), "url", "detail")
		}
		if err == nil {
			r.rest(body, at.In("image_url"), imageMembers, nil)
			b.Inner = "image_url"
			b.URL, b.Detail = body.Get("url").String(), body.Get("detail").String()
			if b.URL == "" {
				err = missing(at.In("image_url.url"))
			}
		}
	case "input_audio":
		b.Type = BlockAudio
		if err = anObject.check(body, at.In("input_audio")); err == nil {
			err = aString.checkMembers(body, at.In("input_audio"), "data", "format")
		}
		if err == nil {
			r.rest(body, at.In("input_audio"), audioMembers, nil)
			b.Data = body.Get("data").String()
			if format := body.Get("format").String(); format != "" {
				b.MIME = "audio/" + format
			}
			if b.Data == "" {
				err = missing(at.In("input_audio.data"))
			}
		}
	case "file":
		b.Type = BlockFile
		if err = anObject.check(body, at.In("file")); err == nil {
			err = aString.checkMembers(body, at.In("file"), "filename", "file_id", "file_data")
		}
		if err == nil {
			r.rest(body, at.In("file"), fileMembers, nil)
			b.Inner = "file"
			b.Name, b.FileID = body.Get("filename").String(), body.Get("file_id").String()
			b.MIME, b.Data = splitDataURL(body.Get("file_data").String())
			if b.FileID == "" && b.Data == "" {
				err = missing(at.In("file.file_data"))
			}
		}
	default:
		if r.Face == &ticosProtocol {
			return nil, Invalid(at.In("type"), "'%s' must be text, image_url, input_audio, file or refusal.", at.In("type"))
		}
		// A vendor's own (vLLM's video_url): it goes through to a backend of
		// this protocol, and to others it is what audio is, a part that none of
		// them takes and all of them refuse.
		b.Type, b.Native, b.Path = BlockAudio, v.Raw, at.In("type")
		return append(blocks, b), nil
	}
	if err != nil {
		return nil, err
	}
	if mark := v.Get("prompt_cache_breakpoint"); mark.IsObject() {
		b.CacheBreakpoint = mark.Raw
	}
	r.rest(v, at, []string{"type", partBody(typ.String()), "prompt_cache_breakpoint"}, chatHabits)
	return append(blocks, b), nil
}

// The members of the parts' objects.
var (
	imageMembers = []string{"url", "detail"}
	audioMembers = []string{"data", "format"}
	fileMembers  = []string{"filename", "file_id", "file_data"}
)

// chatHabits are members that vendors add to messages, parts and tools: marks of
// a prompt cache as Anthropic has them, thought signatures of Gemini. Only a
// server of the same habit understands them.
var chatHabits = []string{"cache_control", "extra_content"}

// partBody is the member of a content part that holds its content: it has the
// name of the part's type.
func partBody(typ string) string {
	switch typ {
	case "text", "refusal", "image_url", "input_audio", "file":
		return typ
	}
	return "type"
}

// splitDataURL takes the base64 and the media type out of a data: URL; anything
// else is taken for base64.
func splitDataURL(s string) (mime, data string) {
	if rest, ok := strings.CutPrefix(s, "data:"); ok {
		if head, data, ok := strings.Cut(rest, ","); ok {
			if mime, ok := strings.CutSuffix(head, ";base64"); ok {
				return mime, data
			}
		}
	}
	return "", s
}

func decodeToolCalls(r *Request, t *Turn, v gjson.Result) *Error {
	if err := anArray.check(v, t.Path.In("tool_calls")); err != nil {
		return err
	}
	var err *Error
	j := 0
	v.ForEach(func(_, c gjson.Result) bool {
		at := t.Path.Sub("tool_calls", j)
		j++
		if err = r.room(t.Path.In("tool_calls")); err != nil {
			return false
		}
		if err = anObject.check(c, at); err != nil {
			return false
		}
		if err = aString.checkMembers(c, at, "id"); err != nil {
			return false
		}
		b := Block{Type: BlockToolCall, CallID: c.Get("id").String(), Path: at}
		if b.CallID == "" {
			err = missing(at.In("id"))
			return false
		}
		switch c.Get("type").String() {
		case "function", "":
			err = decodeCall(r, &b, c.Get("function"), "arguments", at.In("function"))
		case "custom":
			b.Custom = true
			err = decodeCall(r, &b, c.Get("custom"), "input", at.In("custom"))
		default:
			err = Invalid(at.In("type"), "'%s' must be function or custom.", at.In("type"))
		}
		if err != nil {
			return false
		}
		r.rest(c, at, []string{"id", "type", "index", "function", "custom"}, chatHabits)
		t.Blocks = append(t.Blocks, b)
		return true
	})
	return err
}

// decodeCall reads {name, arguments} or {name, input}.
func decodeCall(r *Request, b *Block, v gjson.Result, field string, at Path) *Error {
	if !v.Exists() {
		return missing(at)
	}
	if err := anObject.check(v, at); err != nil {
		return err
	}
	name, args := v.Get("name"), v.Get(field)
	if b.Name = name.String(); name.Type != gjson.String || b.Name == "" {
		return missing(at.In("name"))
	}
	r.rest(v, at, []string{"name", field}, nil)
	switch args.Type {
	case gjson.String:
		b.Text = args.String()
	case gjson.Null:
	case gjson.JSON: // some clients hand back what they have parsed
		b.Text = args.Raw
	default:
		return aString.check(args, at.In(field))
	}
	return nil
}
