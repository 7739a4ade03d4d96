package translate

import (
	"bytes"
	"errors"
	"sync"
	"unicode/utf8"

	"github.com/tidwall/gjson"

	"github.com/dragoman-proxy/dragoman/internal/jsonx"
	"github.com/dragoman-proxy/dragoman/internal/sse"
)

// cyclsDecoder reads an answer: typed components (.65 and newer), what the older
// eras streamed (cycls_era.go), and the stored form that our own face gives as
// JSON. It merges what the vendor's web client merges, consecutive components of one type, and keeps apart what
// that client mixes up: a second table, a callout with a style of its own, code
// in another language.
type cyclsDecoder struct {
	s    *Setup
	dec  jsonx.Dec
	next int // index of the next block

	*cyclsScratch // while a frame is at work

	era   cyclsEra
	named []byte // the array era's open component
	tail  []byte // the text era's code point of which a part has come

	started, ended bool
	announced      bool // the conversation's id was told
	told           bool // the failure was held back until the end
	clientCalls    bool // a call went out that is the client's to run

	// The block that further components of its type continue.
	open     bool
	openType BlockType
	openAt   int
	language []byte // of open code
	pair     pairing

	calls []cyclsCall // steps with an id, oldest first
	held  cyclsHeld
	text  []byte // scratch
}

// cyclsScratch is what only a frame needs: streams wait most of the time, and share it.
type cyclsScratch struct {
	have   uint64 // the fields that the component at hand has
	fields [numCyclsFields]cyclsSlot

	ev    Event
	delta Event // has only ever the fields of a delta
	block Block
}

var cyclsScratches = sync.Pool{New: func() any { return &cyclsScratch{delta: Event{Kind: EventBlockDelta}} }}

// borrow gets the scratch; what it holds of the last borrower means nothing.
func (d *cyclsDecoder) borrow() {
	d.cyclsScratch = cyclsScratches.Get().(*cyclsScratch) //nolint:forcetypeassert // the pool holds nothing else
	d.have = 0
}

// giveBack ends the use of the scratch, which then keeps nothing of an answer alive.
func (d *cyclsDecoder) giveBack() {
	d.delta.Data = nil
	cyclsScratches.Put(d.cyclsScratch)
	d.cyclsScratch = nil
}

// cyclsSlot is a member's value: decoded if it is a string, else raw.
type cyclsSlot struct {
	kind jsonx.Kind
	cut  halves
	b    []byte
}

// cyclsHeld is a component in the words of the server's own error: a failure if
// the stream ends now, else the agent's.
type cyclsHeld struct {
	held               bool
	typ                BlockType // callout; text or reasoning in some versions
	text, style, title []byte
}

// NewDecoder implements Backend.
func (cyclsCodec) NewDecoder(s *Setup) Decoder {
	return &cyclsDecoder{s: s, era: cyclsEraOf(s.Agent)}
}

var (
	errCyclsJSON   = errors.New("cycls: an event is not JSON")
	errCyclsArray  = errors.New("cycls: an event is an array, but the stream did not begin in the array protocol of 0.0.2.64")
	errCyclsOp     = errors.New("cycls: an event is not one of the array protocol of 0.0.2.64")
	errCyclsChunk  = errors.New("cycls: an event is not a chunk of /chat/completions")
	errCyclsObject = errors.New("cycls: an event is not an object")
	errCyclsAnswer = errors.New("cycls: the answer has no parts")
)

// Finishing implements Decoder. The terminator is the finish: nothing comes
// between.
func (d *cyclsDecoder) Finishing() bool { return d.ended }

// Frame implements Decoder.
func (d *cyclsDecoder) Frame(f *sse.Frame, out Sink) {
	if d.ended {
		return
	}
	d.borrow()
	d.frame(f, out)
	d.giveBack()
}

func (d *cyclsDecoder) frame(f *sse.Frame, out Sink) {
	data := f.Data
	if len(data) == 0 {
		if f.Event == nil && f.Data == nil && len(f.Raw) > 0 && f.Raw[0] == ':' {
			d.ping(out) // a comment of something between us and the agent
		}
		return
	}
	if data[0] == '[' && string(bytes.TrimSpace(data)) == "[DONE]" {
		d.finish(out)
		return
	}
	if d.era == eraAuto {
		d.era = d.sniff(data)
	}
	switch d.era {
	case eraArray:
		d.retry(d.operation, data, out)
	case eraChat:
		if !d.plainChunk(data, out) {
			d.retry(d.chunk, data, out)
		}
	default:
		if !d.plain(data, out) {
			d.component(data, out)
		}
	}
}

// End implements Decoder. [DONE] has always ended what is whole, in every era
// that has events: before .127 an agent's exception breaks the body off (but
// for .89 and .90), from .141 on a body may end cleanly with events missing. Text
// without events has no end but the body's.
func (d *cyclsDecoder) End(cause *Error, out Sink) {
	d.borrow()
	defer d.giveBack()
	switch {
	case d.ended:
	case d.held.held:
		d.told = true
		d.failInBand(out)
	case d.era == eraText && cause == nil:
		d.endText(out)
	case cause != nil:
		d.fail(cause, out)
	default:
		d.fail(Truncated(nil), out)
	}
}

// JSON implements Decoder: {"role":"assistant","parts":[…]}.
func (d *cyclsDecoder) JSON(body []byte, out Sink) {
	d.borrow()
	defer d.giveBack()
	doc := gjson.Parse(viewString(body))
	parts, content := doc.Get("parts"), doc.Get("content")
	switch {
	case parts.IsArray():
		parts.ForEach(func(_, part gjson.Result) bool {
			d.component(viewBytes(part.Raw), out)
			if !d.ended {
				d.close(out)
			}
			return !d.ended
		})
	case content.Type == gjson.String:
		d.start(out, "")
		d.say(out, BlockText, cyclsValid([]byte(content.Str)), halves{})
	case doc.Get("detail").Type == gjson.String:
		d.fail(InBand(0, "", doc.Get("detail").Str), out)
	default:
		d.fail(Unreadable(errCyclsAnswer), out)
	}
	if !d.ended {
		d.finish(out)
	}
}

// read takes a component apart.
func (d *cyclsDecoder) read(data []byte) error {
	d.have = 0
	dec := &d.dec
	dec.Reset(data)
	switch dec.Kind() {
	case jsonx.Object:
	case jsonx.Array:
		return errCyclsArray
	case jsonx.Invalid:
		return errCyclsJSON
	default:
		return errCyclsObject
	}
	dec.Object()
	for k, ok := dec.Key(); ok; k, ok = dec.Key() {
		f := cyclsFieldOf(k)
		if f == cyNone {
			continue
		}
		slot := &d.fields[f]
		slot.kind, slot.cut = dec.Kind(), halves{}
		if slot.kind == jsonx.String {
			from := dec.Offset()
			text, ok := dec.Str()
			if slot.b = text; ok {
				slot.cut = halvesOf(text, data[from+1:dec.Offset()-1])
			}
		} else {
			slot.b = dec.Raw()
		}
		d.have |= 1 << f
	}
	return dec.End()
}

// cyclsWithoutNaN makes JSON of what Python's json.dumps writes for numbers that
// JSON does not have: a table made of a data frame is full of them. It returns
// nil if there are none.
func cyclsWithoutNaN(data []byte) []byte {
	var dst []byte
	from, quoted := 0, false
	for i := 0; i < len(data); i++ {
		switch c := data[i]; {
		case c == '"':
			quoted = !quoted
		case quoted:
			if c == '\\' {
				i++
			}
		case c == 'N' || c == 'I' || c == '-':
			for _, word := range [...]string{"NaN", "Infinity", "-Infinity"} {
				if bytes.HasPrefix(data[i:], []byte(word)) {
					dst = append(append(dst, data[from:i]...), "null"...)
					i += len(word) - 1
					from = i + 1
					break
				}
			}
		}
	}
	if dst == nil {
		return nil
	}
	return append(dst, data[from:]...)
}

func (d *cyclsDecoder) has(f cyclsField) bool { return d.have>>f&1 != 0 }

// str is a member's text, nil if it is absent or no string.
func (d *cyclsDecoder) str(f cyclsField) []byte {
	if !d.has(f) || d.fields[f].kind != jsonx.String {
		return nil
	}
	return cyclsValid(d.fields[f].b)
}

// value is a member as text: what is no string counts as its JSON text, since
// from .141 on an item that is a number or an array comes so:
// {"type": "text", "text": 42}.
func (d *cyclsDecoder) value(f cyclsField) []byte {
	if !d.has(f) || d.fields[f].kind == jsonx.Null {
		return nil
	}
	return cyclsValid(d.fields[f].b)
}

// cut is where a member's text was cut in the middle of a code point.
func (d *cyclsDecoder) cut(f cyclsField) halves {
	if !d.has(f) {
		return halves{}
	}
	return d.fields[f].cut
}

// cyclsValid makes text UTF-8.
func cyclsValid(b []byte) []byte {
	if utf8.Valid(b) {
		return b
	}
	return bytes.ToValidUTF8(b, []byte("\uFFFD"))
}

// The beginnings of nearly all events, to the letter as Python's json.dumps
// writes them.
var (
	cyclsTextHead     = []byte(`{"type": "text", "text": `)
	cyclsThinkingHead = []byte(`{"type": "thinking", "thinking": `)
)

// plain decodes an event that is nothing but a piece of text or thinking in the
// server's own spelling, and reports whether it was one. It does in one look
// what component does member by member.
func (d *cyclsDecoder) plain(data []byte, out Sink) bool {
	if !d.started || d.held.held || data[len(data)-1] != '}' {
		return false
	}
	typ, head := BlockText, len(cyclsTextHead)
	switch {
	case bytes.HasPrefix(data, cyclsTextHead):
	case bytes.HasPrefix(data, cyclsThinkingHead):
		typ, head = BlockReasoning, len(cyclsThinkingHead)
	default:
		return false
	}
	text, ok := jsonx.Unquote(d.text[:0], data[head:len(data)-1])
	if !ok {
		return false
	}
	d.text = text
	if typ == BlockReasoning && cyclsThinkingError(text) {
		return false
	}
	d.piece(out, typ, text, data[head+1:len(data)-2])
	return true
}

// piece says a decoded string, which raw is between its quotes.
func (d *cyclsDecoder) piece(out Sink, t BlockType, text, raw []byte) {
	n := len(text)
	if n > 0 && text[n-1] != replacement[2] && d.pair.half == 0 && d.open && d.openType == t { // nearly always
		d.emit(out, d.openAt, cyclsValid(text))
		return
	}
	d.say(out, t, cyclsValid(text), halvesOf(text, raw))
}

func (d *cyclsDecoder) component(data []byte, out Sink) { d.retry(d.typed, data, out) }

// retry decodes an event, once more without the numbers that are no JSON if it
// has such.
func (d *cyclsDecoder) retry(decode func(data []byte, out Sink) error, data []byte, out Sink) {
	err := decode(data, out)
	if err != nil {
		if data = cyclsWithoutNaN(data); data != nil {
			err = decode(data, out)
		}
	}
	if err != nil {
		d.fail(Unreadable(err), out)
	}
}

// typed decodes a component.
func (d *cyclsDecoder) typed(data []byte, out Sink) error {
	if err := d.read(data); err != nil {
		return err
	}
	kind := d.fields[cyType]
	if !d.has(cyType) || kind.kind != jsonx.String {
		kind.b = nil
		if d.has(cyText) { // a dict without a type; the vendor's command line shows its text
			kind.b = []byte("text")
		}
	}
	if !d.started {
		handle := d.str(cyChatID)
		if handle == nil {
			handle = d.str(cySessionID)
		}
		switch string(kind.b) {
		case "chat_id", "session_id":
			d.start(out, viewString(handle))
			return nil
		}
		d.start(out, "")
	}
	if d.era == eraChat && cyclsIsNamed(kind.b, d.str(cyName)) { // .64
		d.unname(d.str(cyName))
		kind.b = d.str(cyName)
	}
	d.dispatch(kind.b, data, out)
	return nil
}

// dispatch decodes the component that was read; data is all of it.
func (d *cyclsDecoder) dispatch(kind, data []byte, out Sink) {
	if d.held.held && string(kind) != "ping" {
		d.release(out)
	}
	switch string(kind) {
	case "text":
		d.words(out, BlockText, cyText, data)
	case "thinking":
		d.words(out, BlockReasoning, cyThinking, data)
	case "code":
		d.code(out, data)
	case "table":
		d.table(out, data)
	case "callout":
		d.callout(out, data)
	case "image":
		d.image(out, data)
	case "file":
		d.file(out, data)
	case "status":
		d.status(out, data)
	case "step":
		d.step(out, data)
	case "step_arg":
		d.stepArg(out)
	case "tool_call":
		d.toolCall(out, data)
	case "ping":
		d.ping(out)
	case "chat_id", "session_id":
		// Metadata. It comes first or not at all: a run that overflows the
		// server's queue loses its first events.
	default:
		d.data(out, kind, data)
	}
}

func (d *cyclsDecoder) start(out Sink, handle string) {
	if d.started {
		return
	}
	d.started = true
	d.ev = Event{Kind: EventStart, Handle: handle}
	out.Event(&d.ev)
}

func (d *cyclsDecoder) ping(out Sink) {
	d.ev = Event{Kind: EventPing}
	out.Event(&d.ev)
}

// begin opens the block described by d.block after ending what it follows.
func (d *cyclsDecoder) begin(out Sink) int {
	d.close(out)
	at := d.next
	d.next++
	d.ev = Event{Kind: EventBlockStart, Index: at, Block: &d.block}
	out.Event(&d.ev)
	return at
}

// beginContent opens content: the calls before it have all their arguments.
func (d *cyclsDecoder) beginContent(out Sink) int {
	d.close(out)
	for i := range d.calls {
		if c := &d.calls[i]; c.open && (c.args.Complete() || c.args.Empty()) {
			d.endCall(out, c)
		}
	}
	return d.begin(out)
}

func (d *cyclsDecoder) emit(out Sink, at int, data []byte) {
	if len(data) == 0 {
		return
	}
	d.delta.Index, d.delta.Data = at, data
	out.Event(&d.delta)
}

func (d *cyclsDecoder) end(out Sink, at int, status EndStatus) {
	d.ev = Event{Kind: EventBlockEnd, Index: at, Status: status}
	out.Event(&d.ev)
}

// close ends the block that could have been continued.
func (d *cyclsDecoder) close(out Sink) {
	if d.open {
		d.emit(out, d.openAt, d.pair.rest())
		d.open = false
		d.end(out, d.openAt, StatusComplete)
	}
}

// keep says that components of the same type continue the block just opened.
func (d *cyclsDecoder) keep(at int, t BlockType) { d.open, d.openAt, d.openType = true, at, t }

// say continues a block of type t that needs no description, or opens one.
func (d *cyclsDecoder) say(out Sink, t BlockType, text []byte, cut halves) {
	if len(text) == 0 {
		return
	}
	if !d.open || d.openType != t {
		d.block = Block{Type: t}
		d.keep(d.beginContent(out), t)
	}
	d.grow(out, text, cut)
}

// grow adds to the open block, as the web client joins its strings: of a
// surrogate pair in two events the first half waits for the second.
func (d *cyclsDecoder) grow(out Sink, text []byte, cut halves) {
	if len(text) > 0 {
		d.emit(out, d.openAt, d.pair.join(text, cut))
	}
}

func (d *cyclsDecoder) words(out Sink, t BlockType, f cyclsField, data []byte) {
	if !d.has(f) {
		d.data(out, []byte(t.String()), data)
		return
	}
	text := d.value(f)
	if t == BlockReasoning && d.era != eraArray && cyclsThinkingError(text) {
		d.hold(t, text, nil, nil)
		return
	}
	d.say(out, t, text, d.cut(f))
}

func (d *cyclsDecoder) code(out Sink, data []byte) {
	language := d.str(cyLanguage)
	if !d.has(cyCode) && language == nil {
		d.data(out, []byte("code"), data)
		return
	}
	// Agents that stream code name the language each time or only at first.
	if !d.open || d.openType != BlockCode || len(language) > 0 && !bytes.Equal(language, d.language) {
		d.block = Block{Type: BlockCode, Language: viewString(language)}
		d.keep(d.beginContent(out), BlockCode)
		d.language = append(d.language[:0], language...)
	}
	d.grow(out, d.value(cyCode), d.cut(cyCode))
}

// table opens a table for headers and adds rows. The web client loses rows that
// come in one event with the headers, or without any headers at all; the agent
// meant them.
func (d *cyclsDecoder) table(out Sink, data []byte) {
	switch {
	case d.has(cyHeaders):
		d.beginTable(out, tableHeaders(cyclsValid(d.fields[cyHeaders].b), d.fields[cyHeaders].kind))
	case !d.has(cyRow) && !d.has(cyRows):
		d.data(out, []byte("table"), data)
		return
	}
	if d.has(cyRows) && d.fields[cyRows].kind == jsonx.Array {
		gjson.Parse(viewString(cyclsValid(d.fields[cyRows].b))).ForEach(func(_, row gjson.Result) bool {
			d.row(out, viewBytes(row.Raw), row.IsArray())
			return true
		})
	}
	if d.has(cyRow) {
		d.row(out, cyclsValid(d.fields[cyRow].b), d.fields[cyRow].kind == jsonx.Array)
	}
}

// beginTable opens a table; headers is "" if it has none.
func (d *cyclsDecoder) beginTable(out Sink, headers string) {
	d.block = Block{Type: BlockTable, Headers: headers}
	d.keep(d.beginContent(out), BlockTable)
}

func (d *cyclsDecoder) row(out Sink, row []byte, array bool) {
	if !array { // one cell
		if len(row) == 0 || row[0] != '"' && !jsonx.Valid(row) {
			row = jsonx.AppendString(nil, row)
		}
		row = append(append([]byte{'['}, row...), ']')
	}
	if !d.open || d.openType != BlockTable {
		d.beginTable(out, "")
	}
	d.emit(out, d.openAt, row)
}

// tableHeaders makes headers an array of strings, which it nearly always is.
func tableHeaders(raw []byte, kind jsonx.Kind) string {
	if kind != jsonx.Array {
		if kind == jsonx.Null {
			return "[]"
		}
		return "[" + quote(viewString(raw)) + "]"
	}
	all := gjson.Parse(viewString(raw))
	strings := true
	all.ForEach(func(_, h gjson.Result) bool {
		strings = h.Type == gjson.String
		return strings
	})
	if strings {
		return viewString(raw)
	}
	dst := []byte{'['}
	all.ForEach(func(_, h gjson.Result) bool {
		if len(dst) > 1 {
			dst = append(dst, ',')
		}
		dst = jsonx.AppendStringS(dst, h.String())
		return true
	})
	return viewString(append(dst, ']'))
}

func (d *cyclsDecoder) callout(out Sink, data []byte) {
	text, style, title := d.value(cyCallout), d.str(cyStyle), d.str(cyTitle)
	if text == nil && title == nil {
		d.data(out, []byte("callout"), data)
		return
	}
	if d.era != eraArray && d.serverError(text, style) { // an error breaks that one off
		d.hold(BlockCallout, text, style, title)
		return
	}
	d.appendCallout(out, text, style, title, d.cut(cyCallout))
}

// hold keeps back what may be the server's error until it is known whether
// anything follows.
func (d *cyclsDecoder) hold(t BlockType, text, style, title []byte) {
	h := &d.held
	h.held, h.typ = true, t
	h.text = append(h.text[:0], text...)
	h.style = append(h.style[:0], style...)
	h.title = append(h.title[:0], title...)
}

// Told implements Teller.
func (d *cyclsDecoder) Told() bool { return d.told }

// serverError tells the server's error callout from an agent's own: from .145
// on it has an error_id, before that only its wording.
func (d *cyclsDecoder) serverError(text, style []byte) bool {
	return len(d.str(cyErrorID)) > 0 || string(style) == "error" &&
		(bytes.HasPrefix(text, []byte("Something went wrong. Reference: ")) || bytes.HasPrefix(text, []byte("Stream failed: ")))
}

func (d *cyclsDecoder) appendCallout(out Sink, text, style, title []byte, cut halves) {
	if !d.open || d.openType != BlockCallout || len(style) > 0 || len(title) > 0 {
		d.block = Block{Type: BlockCallout, Style: viewString(style), Title: viewString(title)}
		d.keep(d.beginContent(out), BlockCallout)
	}
	d.grow(out, text, cut)
}

// release lets what was held pass as content: something came after it.
func (d *cyclsDecoder) release(out Sink) {
	d.held.held = false
	if d.held.typ == BlockCallout {
		d.appendCallout(out, d.held.text, d.held.style, d.held.title, halves{})
		return
	}
	d.say(out, d.held.typ, d.held.text, halves{})
}

func (d *cyclsDecoder) image(out Sink, data []byte) {
	src := d.str(cySrc)
	if src == nil {
		src = d.str(cyImage) // the vendor's other web client
	}
	if src == nil {
		d.data(out, []byte("image"), data)
		return
	}
	d.block = Block{Type: BlockImage, URL: viewString(src), Alt: viewString(d.str(cyAlt)), Caption: viewString(d.str(cyCaption))}
	d.end(out, d.beginContent(out), StatusComplete)
}

func (d *cyclsDecoder) file(out Sink, data []byte) {
	path := d.str(cyPath)
	if path == nil {
		path = d.str(cyFile)
	}
	if path == nil {
		d.data(out, []byte("file"), data)
		return
	}
	d.block = Block{Type: BlockFile, URL: viewString(path), Name: viewString(d.str(cyName))}
	d.end(out, d.beginContent(out), StatusComplete)
}

// status is a block of its own each time: the vendor's documents say that one
// replaces the other.
func (d *cyclsDecoder) status(out Sink, data []byte) {
	text := d.value(cyStatus)
	if text == nil {
		d.data(out, []byte("status"), data)
		return
	}
	d.block = Block{Type: BlockStatus}
	at := d.begin(out)
	d.emit(out, at, text)
	d.end(out, at, StatusComplete)
}

// data carries a component without a neutral meaning whole: ui, sources,
// canvas, usage, and whatever an agent made up.
func (d *cyclsDecoder) data(out Sink, name, data []byte) {
	d.block = Block{Type: BlockData, Name: viewString(cyclsValid(name))}
	at := d.begin(out)
	d.emit(out, at, cyclsValid(data))
	d.end(out, at, StatusComplete)
}

func (d *cyclsDecoder) finish(out Sink) {
	d.start(out, "")
	if d.held.held {
		d.failInBand(out)
		return
	}
	d.close(out)
	for i := range d.calls {
		d.endCall(out, &d.calls[i])
	}
	d.ended = true
	d.ev = Event{Kind: EventFinish}
	if d.clientCalls {
		d.ev.Reason = FinishToolCalls
	}
	out.Event(&d.ev)
}

func (d *cyclsDecoder) failInBand(out Sink) {
	d.fail(InBand(0, "", string(cyclsErrorText(d.held.text))), out)
}

func (d *cyclsDecoder) fail(err *Error, out Sink) {
	d.ended = true
	d.emit(out, d.openAt, d.pair.rest())
	d.ev = Event{Kind: EventFail, Err: err}
	out.Event(&d.ev)
}
