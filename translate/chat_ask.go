package translate

import (
	"strconv"
	"strings"

	"github.com/tidwall/gjson"

	"github.com/dragoman-proxy/dragoman/internal/jsonx"
)

// chatNames are the members of a chat request that carry a setting by value.
// What has no name here has no place in Chat.
var chatNames = [numParams]string{
	ParamTemperature:          "temperature",
	ParamTopP:                 "top_p",
	ParamMaxTokens:            "max_tokens",
	ParamStop:                 "stop",
	ParamSeed:                 "seed",
	ParamFrequencyPenalty:     "frequency_penalty",
	ParamPresencePenalty:      "presence_penalty",
	ParamLogitBias:            "logit_bias",
	ParamLogprobs:             "logprobs",
	ParamTopLogprobs:          "top_logprobs",
	ParamUser:                 "user",
	ParamSafetyIdentifier:     "safety_identifier",
	ParamPromptCacheKey:       "prompt_cache_key",
	ParamPromptCacheRetention: "prompt_cache_retention",
	ParamPromptCacheOptions:   "prompt_cache_options",
	ParamServiceTier:          "service_tier",
	ParamMetadata:             "metadata",
	ParamParallelToolCalls:    "parallel_tool_calls",
	ParamModeration:           "moderation",
	ParamVerbosity:            "verbosity",
	ParamReasoningEffort:      "reasoning_effort",
	ParamModalities:           "modalities",
	ParamAudio:                "audio",
	ParamPrediction:           "prediction",
	ParamWebSearch:            "web_search_options",
}

// chatAsk writes the request for a chat backend.
type chatAsk struct {
	r      *Request
	a      *Agent
	title  string // of the protocol, for errors
	openai bool   // the backend is OpenAI's own
	recall bool   // earlier reasoning goes back
	dst    []byte
	err    *Error

	count   int              // messages written
	answers map[string][]int // call id → the turns that answer it, in order
	done    []bool           // turns written out of their order
}

// EncodeRequest implements Backend.
func (chatBackend) EncodeRequest(dst []byte, r *Request, a *Agent, stream bool) ([]byte, *Error) {
	c := chatAsk{r: r, a: a, dst: dst, title: chatProtocol.Title, openai: a.Option("openai", "") == "true", recall: a.Option("reasoning_history", "") == "true"}
	c.dst = append(c.dst, `{"model":`...)
	c.dst = jsonx.AppendStringS(c.dst, a.BackendModel(r))
	c.messages()
	c.stream(stream)
	c.settings()
	c.tools()
	c.toolChoice()
	c.format()
	if c.err != nil {
		return dst, c.err
	}
	return append(c.dst, '}'), nil
}

// refuse keeps the first field that the backend cannot honour.
func (c *chatAsk) refuse(at Path) {
	if c.err == nil {
		c.err = Unsupported(at, c.a, c.title)
	}
}

// add appends the parts of a document.
func (c *chatAsk) add(parts ...string) {
	for _, p := range parts {
		c.dst = append(c.dst, p...)
	}
}

// member begins the string member key and writes its value.
func (c *chatAsk) member(key, value string) {
	c.add(`,"`, key, `":`)
	c.dst = jsonx.AppendStringS(c.dst, value)
}

func (c *chatAsk) stream(stream bool) {
	obfuscation, told := c.r.take(ParamIncludeObfuscation)
	if !stream {
		c.add(`,"stream":false`)
		return
	}
	c.add(`,"stream":true`)
	// The count is for whoever watches the proxy, and for the faces that always
	// tell it; a Chat client gets the chunk only if it asked itself.
	usage := c.a.Option("request_usage", "") != "false"
	if !usage && !told {
		return
	}
	c.add(`,"stream_options":{`)
	if usage {
		c.add(`"include_usage":true`)
		if told {
			c.add(`,`)
		}
	}
	if told {
		c.add(`"include_obfuscation":`, obfuscation)
	}
	c.add(`}`)
}

// messages writes the turns. Chat wants all calls of one turn in one assistant
// message and their results directly after it, whatever the order in which
// another protocol's items came: what stands between a call and its result
// follows the result.
func (c *chatAsk) messages() {
	turns := c.r.Turns
	c.done = make([]bool, len(turns))
	c.answers = map[string][]int{}
	for i := range turns {
		if id, ok := answered(&turns[i]); ok {
			c.answers[id] = append(c.answers[id], i)
		}
	}
	c.add(`,"messages":[`)
	for i := 0; i < len(turns) && c.err == nil; i++ {
		if c.done[i] {
			continue
		}
		t := &turns[i]
		switch t.Role {
		case RoleAssistant:
			end := c.merge(i)
			c.assistant(turns[i:end])
			i = end - 1
		case RoleTool:
			c.orphan(t)
		default:
			c.said(t)
		}
	}
	c.add(`]`)
}

// answered is the call that a turn answers.
func answered(t *Turn) (id string, ok bool) {
	if t.Role == RoleTool && len(t.Blocks) > 0 && t.Blocks[0].Type == BlockToolResult {
		return t.Blocks[0].CallID, true
	}
	return "", false
}

// orphan handles a result whose call is not in the request, or one that was
// run by another agent and is nobody's to answer.
func (c *chatAsk) orphan(t *Turn) {
	if len(t.Blocks) > 0 && t.Blocks[0].Ran {
		c.r.Ledger.Drop(t.Path)
		return
	}
	if c.err == nil {
		c.err = Invalid(t.Path, "'%s' answers a tool call that the request does not hold.", t.Path)
	}
}

// merge returns the end of the assistant turns from i on that make one message:
// reasoning, text and calls that other protocols keep as items of their own. Two
// texts stay two messages.
func (c *chatAsk) merge(i int) int {
	turns := c.r.Turns
	text, calls := assistantHas(&turns[i])
	end := i + 1
	for ; end < len(turns) && turns[end].Role == RoleAssistant; end++ {
		moreText, moreCalls := assistantHas(&turns[end])
		if text && moreText && !calls {
			break
		}
		text, calls = text || moreText, calls || moreCalls
	}
	return end
}

// assistantHas tells what of a turn gets into the message.
func assistantHas(t *Turn) (text, calls bool) {
	for i := range t.Blocks {
		switch b := &t.Blocks[i]; b.Type {
		case BlockToolCall:
			calls = calls || !b.Ran
		case BlockReasoning, BlockStatus, BlockStep, BlockData, BlockToolResult:
		default:
			text = true
		}
	}
	return text, calls
}

// comma parts messages.
func (c *chatAsk) comma() {
	if c.count++; c.count > 1 {
		c.add(`,`)
	}
}

// said writes a message of the user or the system.
func (c *chatAsk) said(t *Turn) {
	role := "user"
	switch {
	case t.Role == RoleDeveloper && c.openai:
		role = "developer"
	case t.Role == RoleSystem || t.Role == RoleDeveloper:
		role = "system"
	}
	c.comma()
	c.add(`{"role":"`, role, `"`)
	if t.Name != "" {
		c.member("name", t.Name)
	}
	c.add(`,"content":`)
	c.content(t.Blocks)
	c.add(`}`)
}

// content writes text as a plain string, which every server takes, and anything
// more as parts.
func (c *chatAsk) content(blocks []Block) {
	plain := true
	for i := range blocks {
		switch blocks[i].Type {
		case BlockImage, BlockFile, BlockAudio:
			plain = false
		}
		plain = plain && (blocks[i].CacheBreakpoint == "" || !c.openai)
	}
	if plain {
		var text []byte
		for i := range blocks {
			b := &blocks[i]
			if activity(b) {
				c.r.Ledger.Drop(b.Path)
				continue
			}
			if len(text) > 0 {
				text = append(text, '\n')
			}
			text = RenderBlock(text, b)
			c.dropMarks(b)
		}
		c.dst = jsonx.AppendString(c.dst, text)
		return
	}
	c.parts(blocks)
}

// parts writes blocks as content parts.
func (c *chatAsk) parts(blocks []Block) {
	c.add(`[`)
	n := 0
	for i := range blocks {
		b := &blocks[i]
		if activity(b) {
			c.r.Ledger.Drop(b.Path)
			continue
		}
		if n++; n > 1 {
			c.add(`,`)
		}
		c.part(b)
	}
	c.add(`]`)
}

// activity reports whether a block is no content of a message.
func activity(b *Block) bool {
	switch b.Type {
	case BlockReasoning, BlockToolCall, BlockToolResult, BlockStatus, BlockStep, BlockData:
		return true
	}
	return false
}

// dropMarks notes what a block is marked with and a text cannot be.
func (c *chatAsk) dropMarks(b *Block) {
	if b.CacheBreakpoint != "" {
		c.r.Ledger.Drop(b.Path.In("prompt_cache_breakpoint"))
	}
	if len(b.Annotations) > 0 {
		c.r.Ledger.Drop(c.r.annotationsAt(b))
	}
	if b.Logprobs != "" {
		c.r.Ledger.Drop(b.Path.In("logprobs"))
	}
}

// closePart ends a part. Breakpoints of a prompt cache are OpenAI's own; other
// servers do not know them, and some refuse what they do not know.
func (c *chatAsk) closePart(b *Block) {
	if b.CacheBreakpoint != "" {
		if c.openai {
			c.add(`,"prompt_cache_breakpoint":`)
			c.dst = jsonx.AppendCompact(c.dst, viewBytes(b.CacheBreakpoint))
		} else {
			c.r.Ledger.Drop(b.Path.In("prompt_cache_breakpoint"))
		}
	}
	c.add(`}`)
}

func (c *chatAsk) part(b *Block) {
	switch b.Type {
	case BlockImage:
		if b.FileID != "" { // of another server's store
			c.refuse(b.At("file_id"))
			return
		}
		url := b.URL
		if url == "" && b.Data != "" {
			url = dataURL(firstOf(b.MIME, "image/png"), b.Data)
		}
		if url == "" {
			c.refuse(b.Path)
			return
		}
		c.add(`{"type":"image_url","image_url":{"url":`)
		c.dst = jsonx.AppendStringS(c.dst, url)
		switch {
		case b.Detail == "":
		case b.Detail == "original" && !c.openai: // a word that is OpenAI's only
			c.r.Ledger.Drop(b.At("detail"))
			c.member("detail", "high")
		default:
			c.member("detail", b.Detail)
		}
		c.add(`}`)
		c.closePart(b)
	case BlockFile:
		c.file(b)
	case BlockAudio:
		if b.Data == "" {
			c.refuse(b.Path)
			return
		}
		c.add(`{"type":"input_audio","input_audio":{"data":`)
		c.dst = jsonx.AppendStringS(c.dst, b.Data)
		c.member("format", firstOf(strings.TrimPrefix(b.MIME, "audio/"), "wav"))
		c.add(`}`)
		c.closePart(b)
	default:
		c.add(`{"type":"text","text":`)
		c.dst = jsonx.AppendString(c.dst, RenderBlock(nil, b))
		c.closePart(b)
	}
}

// file writes a file by its data. One that only a URL leads to has no form in
// Chat, and nothing is ever fetched; an id is of a store that this backend does
// not have.
func (c *chatAsk) file(b *Block) {
	data := b.Data
	switch {
	case data != "" && b.MIME != "" && !isDataURL(data):
		data = dataURL(b.MIME, data)
	case data == "" && isDataURL(b.URL):
		data = b.URL
	}
	switch {
	case b.FileID != "":
		c.refuse(b.At("file_id"))
		return
	case data == "" && b.URL != "":
		c.refuse(b.Path.In("file_url"))
		return
	case data == "":
		c.refuse(b.Path)
		return
	}
	if b.Detail != "" {
		c.r.Ledger.Drop(b.At("detail"))
	}
	c.add(`{"type":"file","file":{`)
	if b.Name != "" {
		c.add(`"filename":`)
		c.dst = jsonx.AppendStringS(c.dst, b.Name)
		c.add(`,`)
	}
	c.add(`"file_data":`)
	c.dst = jsonx.AppendStringS(c.dst, data)
	c.add(`}`)
	c.closePart(b)
}

func dataURL(mime, base64 string) string { return "data:" + mime + ";base64," + base64 }

// assistant writes turns of the assistant as one message, and after it the
// results of its calls.
func (c *chatAsk) assistant(turns []Turn) {
	var text, refusal, reasoning []byte
	var calls []*Block
	name := ""
	for i := range turns {
		t := &turns[i]
		name = firstOf(name, t.Name)
		if t.Phase != PhaseNone {
			c.r.Ledger.Drop(t.Path.In("phase"))
		}
		if t.Author != "" && t.Name == "" {
			c.r.Ledger.Drop(t.Path.In("role"))
		}
		said := false
		for j := range t.Blocks {
			b := &t.Blocks[j]
			switch b.Type {
			case BlockReasoning:
				c.r.dropOpaque(b)
				if b.Text == "" || !c.recall {
					c.r.Ledger.Drop(b.Path)
					continue
				}
				if len(reasoning) > 0 {
					reasoning = append(reasoning, "\n\n"...)
				}
				reasoning = append(reasoning, b.Text...)
			case BlockRefusal:
				refusal = append(refusal, b.Text...)
			case BlockToolCall:
				if b.Ran {
					c.r.Ledger.Drop(b.Path)
					continue
				}
				calls = append(calls, b)
			case BlockToolResult, BlockStatus, BlockStep, BlockData, BlockAudio:
				c.r.Ledger.Drop(b.Path)
			default:
				if !said && len(text) > 0 || said && b.Type != BlockText {
					text = append(text, "\n\n"...)
				}
				said = true
				text = RenderBlock(text, b)
				c.dropMarks(b)
			}
			if b.Status != StatusComplete && !b.Ran {
				at := t.Path
				if b.Type == BlockToolCall {
					at = b.Path
				}
				c.r.Ledger.Drop(at.In("status"))
			}
		}
	}
	if len(text) == 0 && len(refusal) == 0 && len(calls) == 0 && len(reasoning) == 0 {
		return // it held nothing that goes on
	}
	c.comma()
	c.add(`{"role":"assistant"`)
	if name != "" {
		c.member("name", name)
	}
	c.add(`,"content":`)
	if len(text) == 0 && (len(calls) > 0 || len(refusal) > 0) {
		c.add(`null`)
	} else {
		c.dst = jsonx.AppendString(c.dst, text)
	}
	if len(refusal) > 0 {
		c.add(`,"refusal":`)
		c.dst = jsonx.AppendString(c.dst, refusal)
	}
	if len(reasoning) > 0 {
		c.add(`,"reasoning_content":`)
		c.dst = jsonx.AppendString(c.dst, reasoning)
	}
	if len(calls) > 0 {
		c.add(`,"tool_calls":[`)
		for i, b := range calls {
			if i > 0 {
				c.add(`,`)
			}
			if b.Text == "" && !b.Custom { // a call without arguments; this has to be JSON
				empty := *b
				empty.Text = "{}"
				b = &empty
			}
			c.dst = appendToolCall(c.dst, b)
		}
		c.add(`]`)
	}
	c.add(`}`)
	for _, b := range calls {
		c.resultOf(b.CallID)
	}
}

// resultOf writes the first result of a call that is not written yet.
func (c *chatAsk) resultOf(id string) {
	list := c.answers[id]
	if len(list) == 0 {
		return
	}
	c.answers[id] = list[1:]
	t := &c.r.Turns[list[0]]
	c.done[list[0]] = true
	b := &t.Blocks[0]
	if b.IsError {
		c.r.Ledger.Drop(t.Path.In("is_error"))
	}
	c.comma()
	c.add(`{"role":"tool"`)
	c.member("tool_call_id", id)
	c.add(`,"content":`)
	text := []byte(b.Text)
	for i := range b.Parts {
		p := &b.Parts[i]
		switch p.Type {
		case BlockImage, BlockFile, BlockAudio:
			c.refuse(p.Path)
			return
		}
		if i > 0 {
			text = append(text, '\n') // as in content
		}
		text = RenderBlock(text, p)
		c.dropMarks(p)
	}
	c.dst = jsonx.AppendString(c.dst, text)
	c.add(`}`)
}

// SpliceRequest implements Backend.
func (chatBackend) SpliceRequest(dst []byte, r *Request, a *Agent) ([]byte, *Error) {
	s := newSplice(r.Body)
	silent := func(key string) bool { return s.get(key).Type == gjson.Null }
	if a.Model != "" {
		s.set("model", quote(a.Model))
	}
	if a.SystemPrompt != "" && !hasSystemMessage(s.get("messages")) {
		s.prepend("messages", `{"role":"system","content":`+quote(a.SystemPrompt)+`}`)
	}
	if a.MaxTokens > 0 && silent("max_tokens") && silent("max_completion_tokens") {
		key := "max_tokens"
		if a.Option("openai", "") == "true" {
			key = "max_completion_tokens"
		}
		s.set(key, strconv.FormatInt(a.MaxTokens, 10))
	}
	if a.Temperature != "" && silent("temperature") {
		s.set("temperature", a.Temperature)
	}
	if r.Stream && asksUsageUnasked(r, a) {
		s.setIn("stream_options", "include_usage", "true")
	}
	return s.append(dst), nil
}

// asksUsageUnasked reports whether a stream that passes through is asked for its
// usage although the client is silent about it.
func asksUsageUnasked(r *Request, a *Agent) bool {
	if r.IncludeUsage {
		return false
	}
	switch a.Option("request_usage", "") {
	case "true":
		return true
	case "false": // a server that refuses the field
		return false
	}
	return r.NeedsUsage
}

// hasSystemMessage reports whether a list of messages holds one of the system or
// the developer.
func hasSystemMessage(messages gjson.Result) bool {
	found := false
	messages.ForEach(func(_, m gjson.Result) bool {
		role := m.Get("role").String()
		found = role == "system" || role == "developer"
		return !found
	})
	return found
}
