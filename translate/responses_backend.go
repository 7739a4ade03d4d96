package translate

import (
	"strconv"

	"github.com/tidwall/gjson"

	"github.com/dragoman-proxy/dragoman/internal/jsonx"
)

// respWriter writes a request in the form of the Responses API.
type respWriter struct {
	b     []byte
	r     *Request
	a     *Agent
	items int  // written so far
	parts int  // written so far in the open item
	own   bool // the client speaks the same items
}

// EncodeRequest implements Backend.
func (responsesBackend) EncodeRequest(dst []byte, r *Request, a *Agent, stream bool) ([]byte, *Error) {
	w := respWriter{b: dst, r: r, a: a, own: respFamily(r)}
	w.b = append(w.b, `{"model":`...)
	w.b = jsonx.AppendStringS(w.b, a.BackendModel(r))
	w.instructions()
	w.b = append(w.b, `,"input":[`...)
	for i := range r.Turns {
		if err := w.turn(&r.Turns[i]); err != nil {
			return nil, err
		}
	}
	w.b = append(w.b, ']')
	// The API's own default is to store; nobody asked for it here.
	w.b = append(w.b, `,"store":`...)
	w.b = strconv.AppendBool(w.b, r.TakeStore() == Yes && !r.Kept)
	w.b = append(w.b, `,"stream":`...)
	w.b = strconv.AppendBool(w.b, stream)
	if err := w.tools(); err != nil {
		return nil, err
	}
	if err := w.settings(stream); err != nil {
		return nil, err
	}
	return append(w.b, '}'), nil
}

func (w *respWriter) refuse(at Path) *Error { return Unsupported(at, w.a, responsesProtocol.Title) }

// isInstructions tells the turns that go to the field instructions: the
// client's own, and the configured system prompt.
func isInstructions(t *Turn) bool {
	return t.Instructions || t.Path.Base == "defaults.system_prompt"
}

func (w *respWriter) instructions() {
	open := false
	for i := range w.r.Turns {
		t := &w.r.Turns[i]
		if !isInstructions(t) {
			continue
		}
		for j := range t.Blocks {
			if !open {
				open = true
				w.b = append(w.b, `,"instructions":"`...)
			} else {
				w.b = append(w.b, `\n\n`...)
			}
			w.b = jsonx.AppendEscaped(w.b, RenderBlock(nil, &t.Blocks[j]))
		}
	}
	if open {
		w.b = append(w.b, '"')
	}
}

func (w *respWriter) item() {
	if w.items > 0 {
		w.b = append(w.b, ',')
	}
	w.items++
	w.parts = 0
}

func (w *respWriter) turn(t *Turn) *Error {
	if isInstructions(t) {
		return nil
	}
	if t.Name != "" {
		w.r.Ledger.Drop(t.Path.In("name"))
	}
	if t.Author != "" { // the name of another agent, which stood in its role
		w.r.Ledger.Drop(t.Path.In("role"))
	}
	blocks := t.Blocks
	for len(blocks) > 0 {
		b := &blocks[0]
		n := 1
		var err *Error
		switch b.Type {
		case BlockReasoning:
			for n < len(blocks) && blocks[n].Type == BlockReasoning && blocks[n-1].Opaque == "" {
				n++
			}
			w.reasoning(blocks[:n])
		case BlockToolCall:
			w.call(b)
		case BlockToolResult:
			err = w.callOutput(b)
		case BlockStatus, BlockStep:
			w.r.Ledger.Drop(b.Path)
		case BlockData:
			switch {
			case w.own && respNative(b.Native):
				w.native(b)
			case respNative(b.Native):
				err = w.refuse(b.Path.In("type"))
			default:
				w.r.Ledger.Drop(b.Path)
			}
		default:
			for n < len(blocks) && respSaid(blocks[n].Type) {
				n++
			}
			err = w.message(t, blocks[:n])
		}
		if err != nil {
			return err
		}
		blocks = blocks[n:]
	}
	return nil
}

// respSaid tells the block types that are parts of a message.
func respSaid(t BlockType) bool { return ContentBlocks.Has(t) || t == BlockAudio }

func (w *respWriter) native(b *Block) {
	w.item()
	w.b = respAppendJSON(w.b, viewBytes(b.Native))
}

func (w *respWriter) message(t *Turn, blocks []Block) *Error {
	w.item()
	role := t.Role
	if role == RoleTool {
		role = RoleUser
	}
	w.b = append(w.b, `{"type":"message","role":"`...)
	w.b = append(w.b, role.String()...)
	w.b = append(w.b, '"')
	if p := t.Phase.String(); p != "" && role == RoleAssistant {
		w.b = append(append(append(w.b, `,"phase":"`...), p...), '"')
	}
	for i := range blocks {
		w.marks(t, &blocks[i], role == RoleAssistant)
	}
	if b := &blocks[0]; len(blocks) == 1 && b.Type == BlockText && len(b.Annotations) == 0 && b.Logprobs == "" &&
		(b.CacheBreakpoint == "" || role == RoleAssistant) {
		w.b = append(w.b, `,"content":`...)
		w.b = jsonx.AppendStringS(w.b, blocks[0].Text)
		w.b = append(w.b, '}')
		return nil
	}
	w.b = append(w.b, `,"content":[`...)
	for i := range blocks {
		if err := w.part(&blocks[i], role == RoleAssistant); err != nil {
			return err
		}
	}
	w.b = append(w.b, "]}"...)
	return nil
}

// marks notes what a block is marked with where the part that it becomes has no
// place for it: an answer's own marks in a message of the user's, a breakpoint of
// a prompt cache in one of the assistant's, an unfinished message.
func (w *respWriter) marks(t *Turn, b *Block, output bool) {
	switch {
	case output && b.CacheBreakpoint != "":
		w.r.Ledger.Drop(b.Path.In("prompt_cache_breakpoint"))
	case !output && len(b.Annotations) > 0:
		w.r.Ledger.Drop(b.Path.In("annotations"))
	}
	if b.Logprobs != "" && (!output || b.Type != BlockText) {
		w.r.Ledger.Drop(b.Path.In("logprobs"))
	}
	if output && b.Status != StatusComplete {
		w.r.Ledger.Drop(t.Path.In("status"))
	}
}

// part writes one part of a message or of a tool's output.
func (w *respWriter) part(b *Block, output bool) *Error {
	if w.parts > 0 {
		w.b = append(w.b, ',')
	}
	w.parts++
	typ := b.Type
	if output && (typ == BlockImage || typ == BlockFile) && b.URL != "" && !isDataURL(b.URL) {
		// The assistant's own messages are text here: what it showed earlier is
		// the link that a client of this API would have got for it.
		typ = BlockText
	}
	switch typ {
	case BlockRefusal:
		w.b = append(w.b, `{"type":"refusal","refusal":`...)
		w.b = jsonx.AppendStringS(w.b, b.Text)
		w.b = append(w.b, '}')
	case BlockImage:
		switch {
		case output:
			return w.refuse(b.Path)
		case b.FileID != "" && !w.own: // of another server's store
			return w.refuse(b.Path.In("file_id"))
		}
		w.b = append(w.b, `{"type":"input_image","detail":`...)
		w.b = jsonx.AppendStringS(w.b, firstOf(b.Detail, "auto"))
		url := b.URL
		if url == "" && b.Data != "" {
			url = "data:" + firstOf(b.MIME, "image/png") + ";base64," + b.Data
		}
		w.optional("image_url", url)
		w.optional("file_id", b.FileID)
		w.closePart(b, output)
	case BlockFile:
		switch {
		case output:
			return w.refuse(b.Path)
		case b.FileID != "" && !w.own:
			return w.refuse(b.Path.In("file_id"))
		}
		w.b = append(w.b, `{"type":"input_file"`...)
		w.optional("filename", b.Name)
		w.optional("file_url", b.URL)
		w.optional("file_id", b.FileID)
		w.optional("detail", b.Detail)
		if b.Data != "" {
			w.b = append(w.b, `,"file_data":"`...)
			if b.MIME != "" {
				w.b = append(w.b, "data:"...)
				w.b = jsonx.AppendEscaped(w.b, viewBytes(b.MIME))
				w.b = append(w.b, ";base64,"...)
			}
			w.b = jsonx.AppendEscaped(w.b, viewBytes(b.Data))
			w.b = append(w.b, '"')
		}
		w.closePart(b, output)
	case BlockAudio:
		return w.refuse(b.Path)
	default:
		kind := "input_text"
		if output {
			kind = "output_text"
		}
		w.b = append(append(append(w.b, `{"type":"`...), kind...), `","text":`...)
		w.b = jsonx.AppendString(w.b, RenderBlock(nil, b))
		if output {
			w.b = append(w.b, `,"annotations":[`...)
			for i, a := range b.Annotations {
				if i > 0 {
					w.b = append(w.b, ',')
				}
				w.b = respAppendJSON(w.b, viewBytes(a))
			}
			w.b = append(w.b, ']')
			if b.Logprobs != "" && b.Type == BlockText {
				w.raw("logprobs", b.Logprobs)
			}
		}
		w.closePart(b, output)
	}
	return nil
}

// closePart ends a part, with its breakpoint of a prompt cache if it is a part
// that the server reads.
func (w *respWriter) closePart(b *Block, output bool) {
	if b.CacheBreakpoint != "" && !output {
		w.raw("prompt_cache_breakpoint", b.CacheBreakpoint)
	}
	w.b = append(w.b, '}')
}

// optional writes a string member that is left out when empty.
func (w *respWriter) optional(key, s string) {
	if s == "" {
		return
	}
	w.b = append(append(append(w.b, `,"`...), key...), `":`...)
	w.b = jsonx.AppendStringS(w.b, s)
}

// reasoning hands reasoning back to the agent that it came from, which the
// encrypted content proves. Anything else it would not accept.
func (w *respWriter) reasoning(blocks []Block) {
	opaque := blocks[len(blocks)-1].Opaque
	if opaque == "" {
		for i := range blocks {
			w.r.Ledger.Drop(blocks[i].Path)
		}
		return
	}
	w.item()
	w.b = append(w.b, `{"type":"reasoning"`...)
	w.reasoningParts("summary", "summary_text", blocks, true)
	w.reasoningParts("content", "reasoning_text", blocks, false)
	w.b = append(w.b, `,"encrypted_content":`...)
	w.b = jsonx.AppendStringS(w.b, opaque)
	w.b = append(w.b, '}')
}

func (w *respWriter) reasoningParts(key, kind string, blocks []Block, summary bool) {
	n := 0
	for i := range blocks {
		if blocks[i].Summary != summary || blocks[i].Text == "" {
			continue
		}
		if n == 0 {
			w.b = append(append(append(w.b, `,"`...), key...), `":[`...)
		} else {
			w.b = append(w.b, ',')
		}
		n++
		w.b = append(append(append(w.b, `{"type":"`...), kind...), `","text":`...)
		w.b = jsonx.AppendStringS(w.b, blocks[i].Text)
		w.b = append(w.b, '}')
	}
	switch {
	case n > 0:
		w.b = append(w.b, ']')
	case summary: // a required member
		w.b = append(w.b, `,"summary":[]`...)
	}
}

func (w *respWriter) call(b *Block) {
	switch {
	case b.Ran && w.own && respNative(b.Native):
		w.native(b)
		return
	case b.Ran:
		w.r.Ledger.Drop(b.Path)
		return
	}
	w.item()
	kind, text := "function_call", "arguments"
	if b.Custom {
		kind, text = "custom_tool_call", "input"
	}
	w.b = append(append(append(w.b, `{"type":"`...), kind...), `","call_id":`...)
	w.b = jsonx.AppendStringS(w.b, b.CallID)
	w.b = append(w.b, `,"name":`...)
	w.b = jsonx.AppendStringS(w.b, b.Name)
	w.b = append(append(append(w.b, `,"`...), text...), `":`...)
	args := b.Text
	if args == "" && !b.Custom { // a call without arguments; this has to be JSON
		args = "{}"
	}
	w.b = jsonx.AppendStringS(w.b, args)
	if b.Status != StatusComplete {
		if b.Custom { // has no status
			w.r.Ledger.Drop(b.Path.In("status"))
		} else {
			w.b = append(w.b, `,"status":"incomplete"`...)
		}
	}
	w.b = append(w.b, '}')
}

func (w *respWriter) callOutput(b *Block) *Error {
	if b.Ran {
		w.r.Ledger.Drop(b.Path)
		return nil
	}
	if b.IsError {
		w.r.Ledger.Drop(b.Path.In("is_error"))
	}
	w.item()
	kind := "function_call_output"
	if b.Custom || w.calledCustom(b.CallID) {
		kind = "custom_tool_call_output"
	}
	w.b = append(append(append(w.b, `{"type":"`...), kind...), `","call_id":`...)
	w.b = jsonx.AppendStringS(w.b, b.CallID)
	w.b = append(w.b, `,"output":`...)
	if b.Parts == nil {
		w.b = jsonx.AppendStringS(w.b, b.Text)
		w.b = append(w.b, '}')
		return nil
	}
	w.b = append(w.b, '[')
	for i := range b.Parts {
		w.marks(nil, &b.Parts[i], false)
		if err := w.part(&b.Parts[i], false); err != nil {
			return err
		}
	}
	w.b = append(w.b, "]}"...)
	return nil
}

// calledCustom reports whether the call was one of a custom tool: a Chat
// client's tool message does not say.
func (w *respWriter) calledCustom(callID string) bool {
	for i := range w.r.Tools {
		if w.r.Tools[i].Kind == ToolCustom {
			for j := range w.r.Turns {
				for k := range w.r.Turns[j].Blocks {
					if b := &w.r.Turns[j].Blocks[k]; b.Type == BlockToolCall && b.CallID == callID {
						return b.Custom
					}
				}
			}
			return false
		}
	}
	return false
}

// SpliceRequest implements Backend. Besides what the configuration says, the
// edit is store: the proxy keeps the answer, or nobody does, and the backend's
// own answer says so.
func (responsesBackend) SpliceRequest(dst []byte, r *Request, a *Agent) ([]byte, *Error) {
	s := newSplice(r.Body)
	silent := func(key string) bool { return s.get(key).Type == gjson.Null }
	if a.Model != "" {
		s.set("model", quote(a.Model))
	}
	if a.SystemPrompt != "" && silent("instructions") && !respHasSystem(s.get("input")) {
		s.set("instructions", quote(a.SystemPrompt))
	}
	if a.MaxTokens > 0 && silent("max_output_tokens") {
		s.set("max_output_tokens", strconv.FormatInt(a.MaxTokens, 10))
	}
	if a.Temperature != "" && silent("temperature") {
		s.set("temperature", a.Temperature)
	}
	if a.Option("state", "proxy") == "backend" {
		return s.append(dst), nil
	}
	if r.Store != No {
		s.set("store", "false")
	}
	if r.Store == Yes && !r.Kept {
		r.Ledger.Drop(At("store"))
	}
	if len(r.History) > 0 || len(r.References) > 0 {
		s.set("input", respReplayInput(r, s.get("input")))
	}
	if r.Background { // what runs in the background is told as a stream
		s.set("stream", "true")
	}
	// What the proxy itself has seen to.
	for _, f := range [...]struct {
		key  string
		seen bool
	}{{"previous_response_id", r.Previous != ""}, {"conversation", r.Conversation != ""}, {"background", r.Background}} {
		if f.seen {
			s.set(f.key, "null")
		}
	}
	return s.append(dst), nil
}

// respHasSystem reports whether an input holds a message of the system or the
// developer.
func respHasSystem(input gjson.Result) bool {
	found := false
	if input.IsArray() {
		input.ForEach(func(_, item gjson.Result) bool {
			role := item.Get("role").String()
			found = role == "system" || role == "developer"
			return !found
		})
	}
	return found
}
