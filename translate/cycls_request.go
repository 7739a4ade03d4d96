package translate

import (
	"net/url"
	"slices"
	"strings"

	"github.com/tidwall/gjson"

	"github.com/dragoman-proxy/dragoman/internal/jsonx"
)

// DecodeRequest implements Face. The server reads the messages and nothing
// else; model, stream and all sampling are ignored by it, and so they are lost
// here, but not in silence.
func (cyclsCodec) DecodeRequest(in *Inbound) (*Request, *Error) {
	r := &Request{Face: &cyclsProtocol, Body: in.Body, Stream: cyclsStream(in.Accept)}
	doc := gjson.Parse(viewString(in.Body))
	if !doc.IsObject() {
		return nil, Invalid(At("messages"), "The request body must be a JSON object with 'messages'.")
	}
	d := cyclsRequest{r: r}
	session := false // it names the conversation as the clients of .116 to .126 do
	var messages gjson.Result
	doc.ForEach(func(k, v gjson.Result) bool {
		switch k.Str {
		case "messages":
			messages = v
		case "session_id": // .119 to .126
			switch v.Type {
			case gjson.String:
				r.ConversationID, session = v.Str, true
			case gjson.Null:
			default:
				d.err = Invalid(At("session_id"), "'session_id' must be a string.")
			}
		case "stream":
			// The server streams whatever this says; the Accept header decides.
			if v.Type != gjson.True && v.Type != gjson.Null {
				r.Ledger.Drop(At(k.Str))
			}
		case "plan", "detach", "disabled_tools", "approvals", "connectors", "auto", "selection", "folder", "regenerate",
			"retry", "declined", // Cycls
			"model", "temperature", "top_p", "max_tokens", "max_completion_tokens", "stop", "seed", "tools", "tool_choice",
			"response_format", "user": // what clients of another API would send
			if v.Type != gjson.Null {
				r.Ledger.Drop(At(k.Str))
			}
		default:
			if v.Type != gjson.Null {
				r.Ledger.Unknown(1)
			}
		}
		return d.err == nil
	})
	switch {
	case d.err != nil:
		return nil, d.err
	case !messages.Exists():
		return nil, Invalid(At("messages"), "'messages' is required.")
	case !messages.IsArray():
		return nil, Invalid(At("messages"), "'messages' must be an array.")
	}
	if d.messages(messages); d.err != nil {
		if !in.Lazy {
			return nil, d.err
		}
		r.blame(d.err) // the server reads whatever messages hold
	}
	if query, err := url.ParseQuery(in.Query); err == nil || query != nil {
		if id := query.Get("id"); id != "" { // .127 and newer
			r.ConversationID, session = id, false
			// The newer web clients leave the history to the server that knows
			// the id; those that name a session in the body send all of it.
			if !in.State {
				r.Ledger.Drop(At("id"))
			}
		}
	}
	if in.State {
		r.Lone = d.err == nil && len(r.Turns) == 1 && r.Turns[0].Role == RoleUser
		if in.Route != nil && (in.Route.Path == "/" || in.Route.Path == "/chat") && r.Stream {
			r.Announce = "chat_id"
			if session {
				r.Announce = "session_id"
			}
		}
		r.later = d.history
	}
	d.settleCalls()
	return r, nil
}

// history puts what was said before in front of what the client says.
func (d *cyclsRequest) history() *Error {
	r := d.r
	now := r.Turns
	r.Turns = nil
	r.eachOfHistory(func(m gjson.Result) bool {
		if d.err = r.room(At("id")); d.err == nil && m.IsObject() {
			d.message(m, At("id"))
		}
		return d.err == nil
	})
	r.Turns = append(r.Turns, now...)
	d.settleCalls()
	return d.err
}

// cyclsStream: every answer of the server is a stream. A client that accepts
// JSON and says nothing of a stream gets one object.
func cyclsStream(accept string) bool {
	json := false
	for part := range strings.SplitSeq(accept, ",") {
		media, _, _ := strings.Cut(part, ";")
		switch media = strings.TrimSpace(media); {
		case strings.EqualFold(media, "text/event-stream"):
			return true
		case strings.EqualFold(media, "application/json"):
			json = true
		}
	}
	return !json
}

// cyclsRequest is a request being decoded.
type cyclsRequest struct {
	r   *Request
	err *Error
}

func (d *cyclsRequest) fail(at Path, what string) bool {
	d.err = Invalid(at, "'%s' %s.", at.String(), what)
	return false
}

func (d *cyclsRequest) messages(list gjson.Result) {
	i := 0
	list.ForEach(func(_, m gjson.Result) bool {
		at := AtIndex("messages", i)
		i++
		if d.err = d.r.room(At("messages")); d.err != nil {
			return false
		}
		if !m.IsObject() {
			return d.fail(at, "must be an object")
		}
		d.message(m, at)
		return d.err == nil
	})
}

// message decodes one message. Content wins over parts if it is truthy, as in
// the server's Python: an empty string or array is not.
func (d *cyclsRequest) message(m gjson.Result, at Path) {
	var role, content, parts, attachments, name, callID gjson.Result
	m.ForEach(func(k, v gjson.Result) bool {
		switch k.Str {
		case "role":
			role = v
		case "content":
			content = v
		case "parts":
			parts = v
		case "attachments":
			attachments = v
		case "name":
			name = v
		case "tool_call_id":
			callID = v
		default:
			d.r.Ledger.Unknown(1)
		}
		return true
	})
	if d.err = aString.checkMembers(m, at, "name", "tool_call_id"); d.err != nil {
		return
	}
	t := Turn{Path: at, Name: name.String()}
	switch role.Str {
	case "user":
	case "assistant":
		t.Role = RoleAssistant
	case "system":
		t.Role = RoleSystem
	case "developer":
		t.Role = RoleDeveloper
	case "tool":
		t.Role = RoleTool
	default:
		d.fail(at.In("role"), "must be user, assistant, system, developer or tool")
		return
	}
	metadata := false // a part that is no content stood there
	switch {
	case content.Type == gjson.String && content.Str != "":
		t.Blocks = []Block{{Type: BlockText, Text: content.Str, Path: at.Sub("content", -1)}}
	case content.IsArray() && len(content.Raw) > 2 && firstByte(content.Raw[1:]) != ']':
		metadata = d.parts(&t, content, "content")
	case truthy(content):
		d.fail(at.In("content"), "must be a string or an array")
	case parts.IsArray():
		metadata = d.parts(&t, parts, "parts")
	case parts.Exists() && parts.Type != gjson.Null:
		d.fail(at.In("parts"), "must be an array")
	}
	if d.err != nil {
		return
	}
	if d.attachments(&t, attachments); d.err != nil {
		return
	}
	if len(t.Blocks) == 0 && metadata {
		return // nothing but the session's id
	}
	if len(t.Blocks) == 0 {
		t.Blocks = []Block{{Type: BlockText, Path: at.Sub("content", -1)}}
	}
	if t.Role != RoleAssistant {
		// Uploads are paths in the agent's workspace, which nobody else can read.
		for i := range t.Blocks {
			b := &t.Blocks[i]
			b.Essential = b.Essential || (b.Type == BlockImage || b.Type == BlockFile) && isRelative(b.URL)
		}
	}
	for i := range t.Blocks {
		// What a user says of his image nobody else has a place for; what an agent
		// says of its own is written out.
		if b := &t.Blocks[i]; b.Type == BlockImage && t.Role != RoleAssistant {
			if b.Alt != "" {
				d.r.Ledger.Drop(b.Path.In("alt"))
			}
			if b.Caption != "" {
				d.r.Ledger.Drop(b.Path.In("caption"))
			}
		}
	}
	if t.Role == RoleTool {
		if callID.Str == "" {
			d.fail(at.In("tool_call_id"), "is required in a tool's message")
			return
		}
		result := Block{Type: BlockToolResult, CallID: callID.Str, Path: at.Sub("content", -1)}
		if text, only := t.PlainText(); only {
			result.Text = text
		} else {
			result.Parts = t.Blocks
		}
		t.Blocks = []Block{result}
	}
	d.r.Turns = append(d.r.Turns, t)
}

// truthy is Python's idea of it.
func truthy(v gjson.Result) bool {
	switch v.Type {
	case gjson.Null, gjson.False:
		return false
	case gjson.Number:
		return v.Num != 0
	case gjson.String:
		return v.Str != ""
	case gjson.JSON:
		c := firstByte(v.Raw[1:])
		return c != ']' && c != '}'
	}
	return true
}

func firstByte(s string) byte {
	s = strings.TrimLeft(s, " \t\r\n")
	if s == "" {
		return 0
	}
	return s[0]
}

// parts decodes the elements of content or parts, and reports whether there
// were any that are no content at all.
func (d *cyclsRequest) parts(t *Turn, list gjson.Result, member string) (metadata bool) {
	i := 0
	list.ForEach(func(_, p gjson.Result) bool {
		at := t.Path.Sub(member, i)
		i++
		if d.err = d.r.room(t.Path.In(member)); d.err != nil {
			return false
		}
		if p.Type == gjson.String {
			t.Blocks = append(t.Blocks, Block{Type: BlockText, Text: p.Str, Path: at})
			return true
		}
		if !p.IsObject() {
			return d.fail(at, "must be an object")
		}
		b, content := d.part(p, at, member == "parts")
		if d.err != nil {
			return false
		}
		if !content {
			metadata = true
			return true
		}
		t.Blocks = append(t.Blocks, b)
		return true
	})
	return metadata
}

// part decodes a component of the history or a part of a message. Unknown
// components are kept in the history, where the web client keeps whatever an
// agent sent; in content they are something that only a Cycls agent may know.
func (d *cyclsRequest) part(p gjson.Result, at Path, history bool) (b Block, content bool) {
	var f [numCyclsFields]gjson.Result
	p.ForEach(func(k, v gjson.Result) bool {
		f[cyclsFieldOf(viewBytes(k.Str))] = v
		return true
	})
	if !history { // an agent may have put anything into its own components
		for _, m := range cyclsTexts {
			if d.err = aString.checkMembers(p, at, m); d.err != nil {
				return b, false
			}
		}
	}
	b = Block{Path: at}
	typ := f[cyType]
	if name := f[cyName]; cyclsIsNamed(viewBytes(typ.Str), viewBytes(name.Str)) { // .64
		if own := cyclsFieldOf(viewBytes(name.Str)); f[cyContent].Exists() {
			f[own] = f[cyContent]
		}
		if name.Str == "callout" {
			f[cyStyle] = typ
		}
		typ = name
	}
	switch typ.Str {
	case "text":
		b.Type, b.Text = BlockText, f[cyText].String()
	case "thinking":
		b.Type, b.Text = BlockReasoning, f[cyThinking].String()
	case "code":
		b.Type, b.Text, b.Language = BlockCode, f[cyCode].String(), f[cyLanguage].String()
	case "table":
		b.Type = BlockTable
		if h := f[cyHeaders]; h.Exists() && h.Type != gjson.Null {
			kind := jsonx.Array
			if !h.IsArray() {
				kind = jsonx.String
				h.Raw = h.String()
			}
			b.Headers = tableHeaders(viewBytes(h.Raw), kind)
		}
		f[cyRows].ForEach(func(_, row gjson.Result) bool {
			if d.err = d.r.room(at.In("rows")); d.err != nil {
				return false
			}
			b.Rows = append(b.Rows, cyclsRow(row))
			return true
		})
		if row := f[cyRow]; row.Exists() {
			b.Rows = append(b.Rows, cyclsRow(row))
		}
	case "callout":
		b.Type, b.Text, b.Style, b.Title = BlockCallout, f[cyCallout].String(), f[cyStyle].String(), f[cyTitle].String()
	case "image", "image_url":
		b.Type, b.Alt, b.Caption = BlockImage, f[cyAlt].String(), f[cyCaption].String()
		b.URL = firstOf(f[cyImage].Str, f[cySrc].Str)
		if u := f[cyImageURL]; b.URL == "" && u.IsObject() { // OpenAI's form
			if d.err = aString.checkMembers(u, at.In("image_url"), "url", "detail"); d.err != nil {
				return b, false
			}
			b.URL, b.Detail = u.Get("url").Str, u.Get("detail").String()
			b.Inner = "image_url"
		} else if b.URL == "" {
			b.URL = u.Str
		}
		if b.URL == "" {
			member := "image"
			if f[cyImageURL].Exists() {
				member = "image_url"
			}
			return d.nowhere(b, p, history, member)
		}
	case "file":
		b.Type, b.Name = BlockFile, f[cyName].String()
		b.URL = firstOf(f[cyFile].Str, f[cyPath].Str)
		if b.URL == "" {
			return d.nowhere(b, p, history, "file")
		}
	case "status":
		b.Type, b.Text = BlockStatus, f[cyStatus].String()
	case "step":
		b.Type, b.ID, b.Native = BlockStep, f[cyID].String(), p.Raw
		b.Name, b.Text = firstOf(f[cyStep].String(), f[cyToolName].String()), firstOf(f[cyResult].String(), f[cyData].String())
	case "tool_call":
		b.Type, b.Name, b.CallID = BlockToolCall, f[cyTool].String(), f[cyID].String()
		b.Text = f[cyArgs].Raw
		if f[cyArgs].Type == gjson.String {
			b.Text = f[cyArgs].Str
		}
		b.Native = p.Raw
	case "session_id", "chat_id":
		// .116 to .118 let the client send back messages[1].parts[0], which it
		// had been given as a component.
		d.r.ConversationID = firstOf(d.r.ConversationID, f[cySessionID].String(), f[cyChatID].String())
		return b, false
	case "ping":
		return b, false
	default:
		if !history && typ.Str == "" {
			d.fail(at.In("type"), "is required")
			return b, false
		}
		// The server hands content to the agent as it came, whatever it is.
		b.Type, b.Name, b.Text, b.Native, b.Essential = BlockData, typ.String(), p.Raw, p.Raw, !history
	}
	return b, true
}

// cyclsTexts are the members of a content part that are texts.
var cyclsTexts = []string{"type", "text", "image", "src", "alt", "caption", "file", "path", "name"}

// nowhere is an image or a file without an address: the client's mistake in
// content, an agent's in the history.
func (d *cyclsRequest) nowhere(b Block, p gjson.Result, history bool, typ string) (Block, bool) {
	if !history {
		d.fail(b.Path.In(typ), "must be an address")
		return b, false
	}
	return Block{Type: BlockData, Name: typ, Text: p.Raw, Native: p.Raw, Path: b.Path}, true
}

// cyclsRow is a table's row as an array.
func cyclsRow(row gjson.Result) string {
	if row.IsArray() {
		return row.Raw
	}
	return "[" + row.Raw + "]"
}

// attachments describes the files that parts of the message refer to; one that
// no part refers to is a part of its own.
func (d *cyclsRequest) attachments(t *Turn, list gjson.Result) {
	if list.Type == gjson.Null {
		return
	}
	i := 0
	shown := map[string]int{} // the first image or file of an address
	for j := range t.Blocks {
		if o := &t.Blocks[j]; o.Type == BlockImage || o.Type == BlockFile {
			if _, ok := shown[o.URL]; !ok {
				shown[o.URL] = j
			}
		}
	}
	list.ForEach(func(_, a gjson.Result) bool {
		at := t.Path.Sub("attachments", i)
		i++
		if d.err = d.r.room(t.Path.In("attachments")); d.err != nil {
			return false
		}
		if !a.IsObject() {
			d.r.Ledger.Drop(at)
			return true
		}
		if d.err = aString.checkMembers(a, at, "url", "path", "name", "type"); d.err != nil {
			return false
		}
		where := firstOf(a.Get("url").String(), a.Get("path").String())
		path := a.Get("path").String()
		b := Block{Type: BlockFile, Name: a.Get("name").String(), MIME: a.Get("type").String(), URL: where, Path: at}
		j, ok := shown[where]
		if k, known := shown[path]; known && path != "" && (!ok || where == "" || k < j) {
			j, ok = k, true
		}
		if ok && t.Blocks[j].URL != "" {
			o := &t.Blocks[j]
			o.MIME = firstOf(o.MIME, b.MIME)
			o.Name = firstOf(o.Name, b.Name)
			return true
		}
		switch {
		case where == "":
			d.r.Ledger.Drop(at)
			return true
		case strings.HasPrefix(b.MIME, "image/"):
			b.Type = BlockImage
		}
		shown[where] = len(t.Blocks)
		t.Blocks = append(t.Blocks, b)
		return true
	})
}

// settleCalls makes progress of the calls in the history that no tool message
// answers: a backend that knows tools would insist on a result.
func (d *cyclsRequest) settleCalls() {
	answered := map[string]bool{}
	for i := range d.r.Turns {
		if t := &d.r.Turns[i]; t.Role == RoleTool {
			answered[t.Blocks[0].CallID] = true
		}
	}
	for i := range d.r.Turns {
		for j := range d.r.Turns[i].Blocks {
			b := &d.r.Turns[i].Blocks[j]
			if b.Type == BlockToolCall && (b.Name == "" || !answered[b.CallID]) {
				b.Type, b.CallID = BlockStep, ""
			}
		}
	}
}

// EncodeRequest implements Backend. Only messages go out: from .141 on the
// server reads a dozen more fields, and a wrong type in one of them is a 500.
// What the conversation holds beyond text and images is written as text.
func (cyclsCodec) EncodeRequest(dst []byte, r *Request, a *Agent, _ bool) ([]byte, *Error) {
	if err := cyclsRefuse(r, a); err != nil {
		return dst, err
	}
	w := cyclsMessages{dst: append(dst, `{"messages":[`...), r: r, a: a}
	for i := range r.Turns {
		if err := w.turn(&r.Turns[i]); err != nil {
			return dst, err
		}
	}
	return append(w.dst, `]}`...), nil
}

// cyclsRefuse finds what an agent could not honour, and drops what it need not.
func cyclsRefuse(r *Request, a *Agent) *Error {
	switch {
	case r.ToolChoice.Forces():
		return Unsupported(r.ToolChoice.Path, a, cyclsProtocol.Title)
	case r.Format.Kind == FormatJSONObject || r.Format.Kind == FormatJSONSchema:
		return Unsupported(r.Format.Path, a, cyclsProtocol.Title)
	}
	for i := range r.Tools {
		if r.Tools[i].Kind == ToolBuiltin {
			return Unsupported(r.Tools[i].Path, a, cyclsProtocol.Title)
		}
	}
	for i := range r.Settings {
		s := &r.Settings[i]
		if r.idle(s) {
			continue
		}
		switch s.Param {
		case ParamN, ParamModalities, ParamAudio, ParamWebSearch, ParamPrompt:
			return Unsupported(s.Path, a, cyclsProtocol.Title)
		}
		r.Ledger.Drop(s.Path)
	}
	for i := range r.Tools {
		r.Ledger.Drop(r.Tools[i].Path)
	}
	return nil
}

// cyclsMessages writes the messages of a request.
type cyclsMessages struct {
	dst     []byte
	r       *Request
	a       *Agent
	any     bool   // a message was written
	text    []byte // of the message at hand, not yet written
	apart   bool   // a blank line must follow what is in text
	array   bool   // its content is an array, which is open
	parts   int    // elements written
	role    string
	scratch []byte
}

func (w *cyclsMessages) turn(t *Turn) *Error {
	w.text, w.apart, w.array, w.parts = w.text[:0], false, false, 0
	switch t.Role {
	case RoleAssistant:
		w.role = "assistant"
	case RoleSystem, RoleDeveloper:
		w.role = "system"
	default:
		// A tool's result too: the agent answers the last message if that is
		// the user's, and its model may refuse a tool message without its call.
		w.role = "user"
	}
	if t.Name != "" {
		w.r.Ledger.Drop(t.Path.In("name"))
	}
	if t.Author != "" { // the name of another agent, which stood in its role
		w.r.Ledger.Drop(t.Path.In("role"))
	}
	kept := len(t.Blocks) == 0
	for i := range t.Blocks {
		ok, err := w.block(&t.Blocks[i], t.Role == RoleAssistant)
		if err != nil {
			return err
		}
		kept = kept || ok
	}
	if !kept {
		return nil // nothing but reasoning or progress
	}
	if !w.array {
		w.begin()
		w.dst = jsonx.AppendString(w.dst, w.text)
		w.dst = append(w.dst, '}')
		return nil
	}
	w.flush()
	w.dst = append(w.dst, "]}"...)
	return nil
}

func (w *cyclsMessages) begin() {
	if w.any {
		w.dst = append(w.dst, ',')
	}
	w.any = true
	w.dst = append(append(append(w.dst, `{"role":"`...), w.role...), `","content":`...)
}

// flush writes the text before a part of another kind.
func (w *cyclsMessages) flush() {
	if !w.array {
		w.array = true
		w.begin()
		w.dst = append(w.dst, '[')
	}
	if len(w.text) > 0 {
		w.element("text", "text", w.text)
		w.text, w.apart = w.text[:0], false
	}
}

func (w *cyclsMessages) element(typ, key string, value []byte) {
	if w.parts > 0 {
		w.dst = append(w.dst, ',')
	}
	w.parts++
	w.dst = append(append(append(append(append(w.dst, `{"type":"`...), typ...), `","`...), key...), `":`...)
	w.dst = jsonx.AppendString(w.dst, value)
	w.dst = append(w.dst, '}')
}

// block writes one block, and reports whether anything of it goes to the agent.
func (w *cyclsMessages) block(b *Block, assistant bool) (bool, *Error) {
	switch b.Type {
	case BlockText, BlockRefusal:
		if b.Text != "" {
			w.paragraph(false)
			w.text = append(w.text, b.Text...)
		}
	case BlockImage:
		// Part of a user's message as the vendor's client writes it. What an
		// agent showed is a word of its answer, unless it is megabytes long.
		if assistant && b.URL != "" && !strings.HasPrefix(b.URL, "data:") {
			w.markdown(b)
			break
		}
		return true, w.address(b, "image")
	case BlockFile:
		return true, w.address(b, "file")
	case BlockAudio:
		return false, Unsupported(b.Path, w.a, cyclsProtocol.Title)
	case BlockCode, BlockTable, BlockCallout:
		w.markdown(b)
	case BlockToolCall:
		if b.Ran {
			w.r.Ledger.Drop(b.Path)
			return false, nil
		}
		w.paragraph(true)
		w.label("Called the tool", b.Name, b.CallID)
		w.text = append(w.text, b.Text...)
		w.apart = true
	case BlockToolResult:
		if b.Ran {
			w.r.Ledger.Drop(b.Path)
			return false, nil
		}
		w.paragraph(true)
		what := "Result of the tool"
		if b.IsError {
			what = "Error from the tool"
		}
		w.label(what, firstOf(b.Name, callName(w.r, b.CallID)), b.CallID)
		w.text = append(w.text, b.Text...)
		for i := range b.Parts {
			if _, err := w.block(&b.Parts[i], false); err != nil {
				return false, err
			}
		}
		w.apart = true
	default: // reasoning, status, step, data
		w.r.Ledger.Drop(b.Path)
		return false, nil
	}
	return true, nil
}

// label writes "Called the tool get_weather (call_1): ".
func (w *cyclsMessages) label(what, name, id string) {
	w.text = append(w.text, what...)
	if name != "" {
		w.text = append(append(w.text, ' '), name...)
	}
	if id != "" {
		w.text = append(append(append(w.text, " ("...), id...), ')')
	}
	w.text = append(w.text, ": "...)
}

// paragraph sets off what follows by a blank line if it, or what came before,
// must stand alone.
func (w *cyclsMessages) paragraph(alone bool) {
	if (alone || w.apart) && len(w.text) > 0 {
		for !strings.HasSuffix(viewString(w.text), "\n\n") {
			w.text = append(w.text, '\n')
		}
	}
	w.apart = false
}

func (w *cyclsMessages) markdown(b *Block) {
	w.paragraph(true)
	w.scratch = RenderBlock(w.scratch[:0], b)
	w.text = append(w.text, strings.TrimRight(viewString(w.scratch), "\n")...)
	w.apart = true
}

// address writes an image or a file as the vendor's client does.
func (w *cyclsMessages) address(b *Block, typ string) *Error {
	where := cyclsAddress(b)
	if where == "" {
		return Unsupported(b.Path, w.a, cyclsProtocol.Title)
	}
	if b.Detail != "" && b.Detail != "auto" {
		w.r.Ledger.Drop(b.At("detail"))
	}
	if b.Type == BlockFile && b.Name != "" {
		w.r.Ledger.Drop(b.At("filename"))
	}
	w.flush()
	w.element(typ, typ, viewBytes(where))
	return nil
}

// SpliceRequest implements Backend: the default system prompt is put before
// the messages of a client that has none. Nothing else that an agent's
// configuration says has a place in a Cycls request.
//
// Messages in the form of the web clients up to .126, which have parts, get the
// content that today's server would make of them: agents of .30 to .63 read
// nothing else, and .64 knows parts of its own form only, so that the history
// would be lost in silence. To the server from .65 on it makes no difference,
// and its own later versions store both.
func (cyclsCodec) SpliceRequest(dst []byte, r *Request, a *Agent) ([]byte, *Error) {
	s := newSplice(r.Body)
	history := strings.Join(slices.DeleteFunc(slices.Clone(r.History), func(turn string) bool { return turn == "" }), ",")
	if a.SystemPrompt != "" && !hasSystemMessage(s.get("messages")) && !hasSystemMessage(gjson.Parse("["+history+"]")) {
		system := `{"role":"system","content":` + quote(a.SystemPrompt) + `}`
		if history != "" {
			system += ","
		}
		history = system + history
	}
	if history != "" {
		s.prepend("messages", history)
	}
	if cyclsEraOf(a) != eraTyped {
		s.get("messages").ForEach(func(_, m gjson.Result) bool {
			cyclsContent(s, m)
			return true
		})
	}
	return s.append(dst), nil
}

// cyclsContent gives a message that has only parts the content that the server
// makes of them: their texts, joined.
func cyclsContent(s *splice, m gjson.Result) {
	if !m.IsObject() {
		return
	}
	var content, parts gjson.Result
	m.ForEach(func(k, v gjson.Result) bool {
		switch k.Str {
		case "content":
			content = v
		case "parts":
			parts = v
		}
		return true
	})
	if truthy(content) || !parts.IsArray() {
		return
	}
	text := []byte{'"'}
	parts.ForEach(func(_, p gjson.Result) bool {
		var said gjson.Result
		switch {
		case !p.IsObject():
		case p.Get("type").Str == "text":
			said = p.Get("text")
		case p.Get("name").Str == "text": // .64
			said = p.Get("content")
		}
		if said.Type == gjson.String {
			text = append(text, said.Raw[1:len(said.Raw)-1]...)
		}
		return true
	})
	text = append(text, '"')
	switch {
	case len(text) == 2:
	case content.Exists():
		s.replace(content, string(text))
	default:
		s.insert(m, m.Index, "content", string(text))
	}
}
