package translate

import (
	"strconv"

	"github.com/tidwall/gjson"

	"github.com/dragoman-proxy/dragoman/internal/jsonx"
)

// EncodeRequest implements Backend. It follows the vendor's own translation of
// Chat Completions: the system prompt into the agent's configuration, the last
// user message as the task, what came before it as history, sampling that the
// configuration has no member for into llm_args. What the vendor leaves open is
// decided here:
//   - System messages in mid-conversation join the system prompt, since a
//     history has no such role.
//   - Tool calls and their results become text: "[called f({…})]" said by the
//     assistant, "[f returned: …]" said by the user. Results at the end are the
//     task.
//   - After a trailing assistant message the task is "Continue.".
//   - The images of all turns are sent, in order. "[image 2]" stands in a turn of
//     the history, or in a tool's result, where the second of them was; those of
//     the task follow. What the agent showed under a URL stays a link.
//   - Without a system prompt none is sent; the agent has its own.
func (swarmsBackend) EncodeRequest(dst []byte, r *Request, a *Agent, stream bool) ([]byte, *Error) {
	e := swarmsRequest{r: r, a: a}
	if err := e.turns(); err != nil {
		return dst, err
	}
	if err := e.tools(); err != nil {
		return dst, err
	}
	if err := e.settings(); err != nil {
		return dst, err
	}
	if err := e.format(); err != nil {
		return dst, err
	}

	dst = append(dst, `{"agent_config":{"agent_name":`...)
	dst = jsonx.AppendStringS(dst, swarmsAgentName(r, a))
	dst = append(dst, `,"model_name":`...)
	dst = jsonx.AppendStringS(dst, a.BackendModel(r))
	if len(e.system) > 0 {
		dst = append(dst, `,"system_prompt":`...)
		dst = jsonx.AppendString(dst, e.system)
	}
	dst = append(dst, e.config...)
	if len(e.toolList) > 0 {
		dst = append(dst, `,"tools_list_dictionary":[`...)
		dst = append(append(dst, e.toolList...), ']')
	}
	if len(e.args) > 0 {
		dst = append(dst, `,"llm_args":{`...)
		dst = append(append(dst, e.args[1:]...), '}')
	}
	if stream {
		dst = append(dst, `,"streaming_on":true`...)
	}
	dst = append(dst, `},"task":`...)
	history := e.lines
	if n := len(history); n > 0 && history[n-1].role == "user" {
		dst = jsonx.AppendString(dst, history[n-1].text)
		history = history[:n-1]
	} else {
		dst = append(dst, `"Continue."`...)
	}
	if len(history) > 0 {
		dst = append(dst, `,"history":[`...)
		for i := range history {
			if i > 0 {
				dst = append(dst, ',')
			}
			dst = append(dst, `{"role":`...)
			dst = jsonx.AppendStringS(dst, history[i].role)
			dst = append(dst, `,"content":`...)
			dst = jsonx.AppendString(dst, history[i].text)
			dst = append(dst, '}')
		}
		dst = append(dst, ']')
	}
	switch len(e.images) {
	case 0:
	case 1:
		dst = append(dst, `,"img":`...)
		dst = jsonx.AppendStringS(dst, e.images[0])
	default:
		dst = append(dst, `,"imgs":[`...)
		for i, url := range e.images {
			if i > 0 {
				dst = append(dst, ',')
			}
			dst = jsonx.AppendStringS(dst, url)
		}
		dst = append(dst, ']')
	}
	dst = append(dst, e.top...)
	if stream {
		// The documents want streaming_on, the vendor's examples and Python
		// client send this; a server reads one of them.
		dst = append(dst, `,"stream":true`...)
	}
	return append(dst, '}'), nil
}

// swarmsRequest gathers the parts of a backend's request.
type swarmsRequest struct {
	r *Request
	a *Agent

	system   []byte
	lines    []swarmsLine
	images   []string
	names    map[string]string // of the tools called, by call id
	toolList []byte            // elements
	config   []byte            // members of agent_config, each after a comma
	args     []byte            // members of llm_args, each after a comma
	top      []byte            // members of the request, each after a comma
}

// swarmsLine is one entry of the history; the last one may become the task.
type swarmsLine struct {
	role string
	text []byte
	tool bool // made of tool results
}

func (e *swarmsRequest) unsupported(at Path) *Error { return Unsupported(at, e.a, "Swarms") }

// swarmsPlace is the path of a block, or of its turn where it has none.
func swarmsPlace(b *Block, t *Turn) Path {
	if b.Path.Base != "" {
		return b.Path
	}
	return t.Path
}

func (e *swarmsRequest) turns() *Error {
	talk := false
	for i := range e.r.Turns {
		t := &e.r.Turns[i]
		switch t.Role {
		case RoleSystem, RoleDeveloper:
			if talk {
				e.r.Ledger.Drop(t.Path.In("role"))
			}
		default:
			talk = true
		}
		if err := e.turn(t, i == len(e.r.Turns)-1); err != nil {
			return err
		}
	}
	n := len(e.lines)
	switch {
	case n == 0 && len(e.images) == 0:
		at := At("task")
		if len(e.r.Turns) > 0 {
			at = e.r.Turns[len(e.r.Turns)-1].Path
		}
		return Invalid(at, "A Swarms agent needs a user message, which is its task.")
	case n == 0 || e.lines[n-1].role != "user":
		e.r.Ledger.Drop(e.r.Turns[len(e.r.Turns)-1].Path)
	}
	return nil
}

// turn adds a turn to the system prompt or to the conversation, of which it may
// be the last.
func (e *swarmsRequest) turn(t *Turn, last bool) *Error {
	if t.Name != "" {
		e.r.Ledger.Drop(t.Path.In("name"))
	}
	var text []byte
	said, markdown := false, false
	for i := range t.Blocks {
		b := &t.Blocks[i]
		switch b.Type {
		case BlockText, BlockRefusal, BlockCode, BlockTable, BlockCallout:
			if markdown || b.Type > BlockRefusal {
				text = paragraph(text)
			}
			markdown = b.Type > BlockRefusal
			text = RenderBlock(text, b)
			said = true
		case BlockToolCall: // told in words, like a table: not lost
			if e.names == nil {
				e.names = map[string]string{}
			}
			e.names[b.CallID] = b.Name
			text = appendSwarmsCall(paragraph(text), b)
			said, markdown = true, true
		case BlockToolResult:
			var err *Error
			if text, err = e.result(paragraph(text), b, t); err != nil {
				return err
			}
			said = true
		case BlockImage:
			said = true
			if t.Role == RoleAssistant && b.URL != "" && !isDataURL(b.URL) {
				text, markdown = RenderBlock(paragraph(text), b), true
				continue
			}
			if err := e.image(b, swarmsPlace(b, t)); err != nil {
				return err
			}
			if !last || t.Role != RoleUser {
				text, markdown = e.mark(paragraph(text)), true
			}
		case BlockFile, BlockAudio:
			return e.unsupported(swarmsPlace(b, t))
		default: // reasoning and other activity is nothing that anybody said
			e.r.Ledger.Drop(swarmsPlace(b, t))
		}
	}
	switch t.Role {
	case RoleSystem, RoleDeveloper:
		if len(text) > 0 {
			e.system = append(paragraph(e.system), text...)
		}
		return nil
	}
	if !said {
		return nil
	}
	line := swarmsLine{role: "user", text: text, tool: t.Role == RoleTool}
	if t.Role == RoleAssistant {
		line.role = firstOf(t.Author, "assistant")
	}
	if n := len(e.lines); line.tool && n > 0 && e.lines[n-1].tool { // results of parallel calls
		e.lines[n-1].text = append(paragraph(e.lines[n-1].text), text...)
		return nil
	}
	e.lines = append(e.lines, line)
	return nil
}

// appendSwarmsCall tells a tool call in words.
func appendSwarmsCall(dst []byte, b *Block) []byte {
	dst = append(append(dst, "[called "...), b.Name...)
	return append(append(append(dst, '('), b.Text...), ")]"...)
}

// result tells a tool's result in words.
func (e *swarmsRequest) result(dst []byte, b *Block, t *Turn) ([]byte, *Error) {
	dst = append(dst, '[')
	dst = append(dst, firstOf(b.Name, e.names[b.CallID], "the tool")...)
	if b.IsError {
		dst = append(dst, " failed: "...)
	} else {
		dst = append(dst, " returned: "...)
	}
	dst = append(dst, b.Text...)
	for i := range b.Parts {
		p := &b.Parts[i]
		switch p.Type {
		case BlockImage, BlockFile, BlockAudio:
			at := p.Path
			if at.Base == "" {
				at = swarmsPlace(b, t)
			}
			if p.Type != BlockImage {
				return dst, e.unsupported(at)
			}
			if err := e.image(p, at); err != nil {
				return dst, err
			}
			dst = e.mark(dst)
		default:
			dst = RenderBlock(dst, p)
		}
	}
	return append(dst, ']'), nil
}

// image adds an image to those that are sent.
func (e *swarmsRequest) image(b *Block, at Path) *Error {
	if b.URL == "" || swarmsImageURL(b.URL) != b.URL {
		return e.unsupported(at)
	}
	if b.Detail != "" && b.Detail != "auto" {
		if b.Inner != "" {
			at = at.In(b.Inner)
		}
		e.r.Ledger.Drop(at.In("detail"))
	}
	e.images = append(e.images, b.URL)
	return nil
}

// mark stands in a text where the last image was.
func (e *swarmsRequest) mark(dst []byte) []byte {
	dst = strconv.AppendInt(append(dst, "[image "...), int64(len(e.images)), 10)
	return append(dst, ']')
}

// tools writes the tools that the model may call.
func (e *swarmsRequest) tools() *Error {
	c := &e.r.ToolChoice
	if c.Forces() {
		if e.r.Face != &swarmsProtocol {
			return e.unsupported(c.Path)
		}
		e.args = append(e.args, `,"tool_choice":`...)
		if c.Mode == ChoiceNamed {
			e.args = append(e.args, `{"type":"function","function":{"name":`...)
			e.args = append(jsonx.AppendStringS(e.args, c.Name), "}}"...)
		} else {
			e.args = append(e.args, `"required"`...)
		}
	}
	type tool struct {
		kind ToolKind
		name string
	}
	allowed := map[tool]bool{}
	for i := range c.Tools {
		allowed[tool{c.Tools[i].Kind, c.Tools[i].Name}] = true
	}
	for i := range e.r.Tools {
		t := &e.r.Tools[i]
		switch {
		case t.Kind == ToolBuiltin:
			return e.unsupported(t.Path)
		case c.Mode == ChoiceNone || c.Mode == ChoiceAllowed && !allowed[tool{t.Kind, t.Name}]:
			continue
		case t.Kind == ToolCustom:
			e.r.Ledger.Drop(t.Path)
			continue
		}
		if len(e.toolList) > 0 {
			e.toolList = append(e.toolList, ',')
		}
		if e.r.Face == &swarmsProtocol {
			e.toolList = append(e.toolList, t.Raw...)
			continue
		}
		b := append(e.toolList, `{"type":"function","function":{"name":`...)
		b = jsonx.AppendStringS(b, t.Name)
		if t.Description != "" {
			b = append(b, `,"description":`...)
			b = jsonx.AppendStringS(b, t.Description)
		}
		if t.Parameters != "" {
			b = append(append(b, `,"parameters":`...), t.Parameters...)
		}
		switch {
		case t.Strict == Yes:
			b = append(b, `,"strict":true`...)
		case t.Strict == Unset && t.StrictByDefault: // here it means not strict
			e.r.Ledger.Drop(t.Path.In("strict"))
		}
		e.toolList = append(b, "}}"...)
	}
	return nil
}

// format refuses what the backend cannot hold itself to. Only a client of this
// protocol, which asked for it through llm_args, gets it passed on there.
func (e *swarmsRequest) format() *Error {
	f := &e.r.Format
	switch {
	case f.Kind == FormatUnset || f.Kind == FormatText:
		return nil
	case e.r.Face != &swarmsProtocol:
		return e.unsupported(f.Path)
	case f.Kind == FormatJSONObject:
		e.args = append(e.args, `,"response_format":{"type":"json_object"}`...)
		return nil
	}
	b := append(e.args, `,"response_format":{"type":"json_schema","json_schema":{"name":`...)
	b = jsonx.AppendStringS(b, f.Name)
	if f.Description != "" {
		b = append(b, `,"description":`...)
		b = jsonx.AppendStringS(b, f.Description)
	}
	if f.Schema != "" {
		b = append(append(b, `,"schema":`...), f.Schema...)
	}
	if f.Strict != Unset {
		b = append(b, `,"strict":`...)
		if f.Strict == Yes {
			b = append(b, "true"...)
		} else {
			b = append(b, "false"...)
		}
	}
	e.args = append(b, "}}"...)
	return nil
}

// swarmsMember appends a member after a comma.
func swarmsMember(dst []byte, key, raw string) []byte {
	dst = append(append(dst, `,"`...), key...)
	return append(append(dst, `":`...), raw...)
}

func (e *swarmsRequest) settings() *Error {
	loops := ""
	for i := range e.r.Settings {
		s := &e.r.Settings[i]
		if s.Path.Base == "agent_config" && s.Path.Mid == "llm_args" { // from a client of this protocol
			e.r.Take(i)
			if s.Param == ParamAgentConfig {
				v := swarmsMemberValue(s.Raw)
				e.args = append(append(e.args, ','), v[1:len(v)-1]...)
			} else {
				e.args = swarmsMember(e.args, s.Path.Leaf, s.Raw)
			}
			continue
		}
		switch s.Param {
		case ParamTemperature:
			e.config = swarmsMember(e.config, "temperature", e.r.Take(i))
		case ParamMaxTokens:
			e.config = swarmsMember(e.config, "max_tokens", e.r.Take(i))
		case ParamTopP:
			e.args = swarmsMember(e.args, "top_p", e.r.Take(i))
		case ParamPresencePenalty:
			e.args = swarmsMember(e.args, "presence_penalty", e.r.Take(i))
		case ParamFrequencyPenalty:
			e.args = swarmsMember(e.args, "frequency_penalty", e.r.Take(i))
		case ParamReasoningEffort:
			e.r.Take(i)
			e.config = swarmsMember(e.config, "reasoning_effort", e.effort(s))
		case ParamMaxLoops:
			loops = e.r.Take(i)
		case ParamAgentConfig:
			e.r.Take(i)
			e.config = append(append(e.config, ','), s.Raw[1:len(s.Raw)-1]...)
		case ParamToolsEnabled:
			e.top = swarmsMember(e.top, "tools_enabled", e.r.Take(i))
		case ParamN:
			if !e.r.idle(s) {
				return e.unsupported(s.Path)
			}
		case ParamModalities:
			if gjson.Get(s.Raw, `#(=="audio")`).Exists() {
				return e.unsupported(s.Path)
			}
		case ParamAudio, ParamPrompt, ParamWebSearch:
			return e.unsupported(s.Path)
		case ParamIncludeObfuscation: // of the client's stream, not of the backend's
			e.r.Take(i)
		}
	}
	if loops == "" {
		loops = e.a.Option("max_loops", "")
		if loops == "auto" {
			loops = `"auto"`
		}
	}
	if loops != "" {
		e.config = swarmsMember(e.config, "max_loops", loops)
	}
	return nil
}

// effort is the nearest of the three words that the vendor knows.
func (e *swarmsRequest) effort(s *Setting) string {
	switch s.Raw {
	case `"low"`, `"medium"`, `"high"`:
		return s.Raw
	}
	if e.r.Face == &swarmsProtocol { // its own client's business
		return s.Raw
	}
	e.r.Ledger.Drop(s.Path)
	switch s.Raw {
	case `"none"`, `"minimal"`:
		return `"low"`
	case `"xhigh"`, `"max"`:
		return `"high"`
	}
	return `"medium"`
}

// SpliceRequest implements Backend: the configured model, the defaults where
// the client was silent, and in an item of a batch no stream.
func (swarmsBackend) SpliceRequest(dst []byte, r *Request, a *Agent) ([]byte, *Error) {
	s := newSplice(r.Body)
	config := s.get("agent_config")
	if !config.IsObject() {
		return dst, Invalid(At("agent_config"), "'agent_config' is required.")
	}
	var added []byte
	put := func(v gjson.Result, key, raw string) {
		if v.Exists() {
			s.replace(v, raw)
		} else {
			added = swarmsMember(added, key, raw)
		}
	}
	if a.Model != "" {
		put(s.get("agent_config.model_name"), "model_name", quote(a.Model))
	}
	if v := s.get("agent_config.system_prompt"); a.SystemPrompt != "" && (swarmsAbsent(v) || swarmsEmpty(v)) {
		put(v, "system_prompt", quote(a.SystemPrompt))
	}
	args := s.get("agent_config.llm_args")
	if v := s.get("agent_config.max_tokens"); a.MaxTokens > 0 && swarmsAbsent(v) &&
		swarmsAbsent(args.Get("max_tokens")) && swarmsAbsent(args.Get("max_completion_tokens")) {
		put(v, "max_tokens", strconv.FormatInt(a.MaxTokens, 10))
	}
	if v := s.get("agent_config.temperature"); a.Temperature != "" && swarmsAbsent(v) && swarmsAbsent(args.Get("temperature")) {
		put(v, "temperature", a.Temperature)
	}
	for _, path := range swarmsStreaming {
		if v := s.get(path); !r.Stream && v.Type == gjson.True {
			s.replace(v, "false")
			r.Ledger.Note(path)
		}
	}
	if len(added) > 0 {
		added = added[1:]
		if !swarmsEmpty(config) {
			added = append(added, ',')
		}
		s.edits = append(s.edits, edit{config.Index + 1, config.Index + 1, string(added)})
	}
	return s.append(dst), nil
}
