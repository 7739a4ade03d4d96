package translate

import (
	"bytes"
	"strings"
	"unicode/utf8"

	"github.com/tidwall/gjson"

	"github.com/dragoman-proxy/dragoman/internal/jsonx"
)

// respItem is an output item as far as it is known.
type respItem struct {
	index  int64 // output_index, -1 if nobody told
	id     []byte
	kind   respItemKind
	name   string
	callID string
	phase  Phase
	msg    int
	ords   int // content parts so far
	cur    int // the part spoken of last
	parts  []respPartState
	// announced says that output_item.added told of it.
	announced bool
	done      bool
}

// respItemKind is the type of an item.
type respItemKind uint8

const (
	respMessage respItemKind = iota
	respReasoning
	respFunctionCall
	respCustomCall
	respOther
)

// respPartKind is which text of an item a part is.
type respPartKind uint8

const (
	partText respPartKind = iota
	partRefusal
	partSummary
	partRaw
	partArguments
	partInput
)

var respPartItems = [...]respItemKind{
	partText: respMessage, partRefusal: respMessage, partSummary: respReasoning, partRaw: respReasoning,
	partArguments: respFunctionCall, partInput: respCustomCall,
}

// respPartState is one content part of an item, or its arguments.
type respPartState struct {
	kind   respPartKind
	index  int64 // content_index or summary_index
	ord    int
	block  int
	open   bool
	sent   int      // bytes of text that went out
	tail   [16]byte // the last of them
	annots int      // annotations that went out

	held   [4]byte // the beginning of a code point, or
	nheld  uint8   // (its length)
	hiHalf rune    // the first half of a surrogate pair
}

// find returns the item an event speaks of. The output_index counts more than
// the id, for some servers change the ids in mid-stream; but some say 0 of
// every item, so that both together count most.
func (d *respDecoder) find(index int64, id []byte) *respItem {
	if d.cur < len(d.items) {
		if it := &d.items[d.cur]; it.index == index && bytes.Equal(it.id, id) {
			return it
		}
	}
	guess := -1
	for i := len(d.items) - 1; i >= 0; i-- {
		it := &d.items[i]
		sameID := len(id) > 0 && bytes.Equal(it.id, id)
		sameIndex := index >= 0 && it.index == index
		switch {
		case sameID && (sameIndex || index < 0 || it.index < 0):
			d.cur = i
			return it
		case guess >= 0:
		case sameIndex && !it.done, index < 0 && len(id) == 0 && !it.done:
			guess = i
		}
	}
	if guess < 0 {
		return nil
	}
	d.cur = guess
	return &d.items[guess]
}

// findFinal returns the streamed item that an item of the final output is: its id
// counts most, for the place may be another.
func (d *respDecoder) findFinal(index int64, id string) *respItem {
	it := d.find(index, viewBytes(id))
	if id == "" || it != nil && string(it.id) == id {
		return it
	}
	for i := range d.items {
		if o := &d.items[i]; !o.done && string(o.id) == id {
			return o
		}
	}
	return it
}

func (d *respDecoder) add(index int64, id []byte, kind respItemKind) *respItem {
	d.items = append(d.items, respItem{index: index, id: bytes.Clone(id), kind: kind, msg: len(d.items)})
	d.cur = len(d.items) - 1
	return &d.items[d.cur]
}

func (it *respItem) part(kind respPartKind, index int64) *respPartState {
	if it.cur < len(it.parts) {
		if p := &it.parts[it.cur]; p.kind == kind && p.index == index {
			return p
		}
	}
	for i := range it.parts {
		if p := &it.parts[i]; p.kind == kind && p.index == index {
			it.cur = i
			return p
		}
	}
	it.parts = append(it.parts, respPartState{kind: kind, index: index, ord: -1})
	it.cur = len(it.parts) - 1
	return &it.parts[it.cur]
}

// target is the item and the part a text event speaks of; nil if it is over, or
// is not what the event takes it for. An item that was not announced is begun,
// but a call has no name yet: it waits for its end.
func (d *respDecoder) target(kind respPartKind, index int64, e *respFrame) (*respItem, *respPartState) {
	it := d.find(e.output, e.itemID)
	if it == nil {
		it = d.add(e.output, e.itemID, respPartItems[kind])
	}
	if it.done || it.kind != respPartItems[kind] {
		return nil, nil
	}
	return it, it.part(kind, index)
}

func (d *respDecoder) text(kind respPartKind, index int64, e *respFrame, data []byte, out Sink) {
	it, p := d.target(kind, index, e)
	if it == nil || len(e.delta) == 0 || !d.open(it, p, out) {
		return
	}
	if len(e.logprobs) > 2 && e.logprobs[0] == '[' {
		d.delta.Logprobs = d.oneLine(e.logprobs)
	} else if !e.untyped {
		d.shape.learn(data, e, d.cur, it.cur)
	}
	d.emit(p, e.delta, e.deltaRaw, out)
	d.delta.Logprobs = nil
}

// emit sends a delta; raw is its text as it stood, with its quotes.
func (d *respDecoder) emit(p *respPartState, text, raw []byte, out Sink) {
	if last := text[len(text)-1]; last >= utf8.RuneSelf || p.nheld > 0 || p.hiHalf != 0 {
		if text = d.whole(p, text, raw); len(text) == 0 {
			return
		}
	}
	d.send(p, text, out)
}

func (d *respDecoder) send(p *respPartState, text []byte, out Sink) {
	p.sent += len(text)
	if n := len(p.tail); len(text) >= n {
		copy(p.tail[:], text[len(text)-n:])
	} else {
		copy(p.tail[:], p.tail[len(text):])
		copy(p.tail[n-len(text):], text)
	}
	d.delta.Kind, d.delta.Index, d.delta.Data = EventBlockDelta, p.block, text
	out.Event(&d.delta)
}

// whole cuts a delta so that it ends with a whole code point and keeps the rest
// for the next one: servers that cut text by tokens cut emoji too, be it in
// their bytes or between the two escapes of a surrogate pair.
func (d *respDecoder) whole(p *respPartState, text, raw []byte) []byte {
	if p.nheld > 0 || p.hiHalf != 0 {
		buf := d.scratch[:0]
		if p.hiHalf != 0 {
			if lo, ok := jsonx.EscapedUnit(bytes.TrimLeft(raw, " \t\r\n\""), 0); ok && lo >= 0xdc00 && lo < 0xe000 {
				buf = utf8.AppendRune(buf, (p.hiHalf-0xd800)<<10|(lo-0xdc00)+0x10000)
				text = text[len("\uFFFD"):]
			} else {
				buf = append(buf, "\uFFFD"...)
			}
		}
		buf = append(buf, p.held[:p.nheld]...)
		p.nheld, p.hiHalf = 0, 0
		buf = append(buf, text...)
		d.scratch, text = buf, buf
	}
	if bytes.HasSuffix(text, []byte("\uFFFD")) && len(raw) >= 7 {
		if hi, ok := jsonx.EscapedUnit(raw, len(raw)-7); ok && hi >= 0xd800 && hi < 0xdc00 && !escaped(raw, len(raw)-7) {
			p.hiHalf = hi
			return text[:len(text)-len("\uFFFD")]
		}
	}
	for n := 1; n < utf8.UTFMax && n <= len(text); n++ {
		if c := text[len(text)-n]; utf8.RuneStart(c) {
			if c >= utf8.RuneSelf && !utf8.FullRune(text[len(text)-n:]) {
				p.nheld = uint8(copy(p.held[:], text[len(text)-n:]))
				return text[:len(text)-n]
			}
			break
		}
	}
	return text
}

// escaped reports whether the backslash at raw[i] is itself escaped.
func escaped(raw []byte, i int) bool {
	n := 0
	for i > 0 && raw[i-1] == '\\' {
		n++
		i--
	}
	return n%2 == 1
}

// open makes sure that the part's block is open. It is not if a call lacks its
// name.
func (d *respDecoder) open(it *respItem, p *respPartState, out Sink) bool {
	if p.open {
		return true
	}
	b := Block{ID: viewString(it.id)}
	switch p.kind {
	case partText:
		b.Type = BlockText
	case partRefusal:
		b.Type = BlockRefusal
	case partSummary, partRaw:
		b.Type, b.Summary = BlockReasoning, p.kind == partSummary
	default:
		if it.name == "" {
			return false
		}
		b.Type, b.Custom = BlockToolCall, p.kind == partInput
		b.Name, b.CallID = it.name, firstOf(it.callID, b.ID, it.name)
		d.calls = true
	}
	d.begin(out)
	d.closeParts(it, StatusComplete, "", out)
	if p.ord < 0 {
		p.ord = it.ords
		it.ords++
	}
	p.block, p.open = d.blocks, true
	d.blocks++
	d.startBlock(it, b, p.block, p.ord, out)
	return true
}

func (d *respDecoder) startBlock(it *respItem, b Block, index, part int, out Sink) {
	d.block = b
	d.event = Event{Kind: EventBlockStart, Index: index, Block: &d.block, Msg: it.msg, Part: part, Phase: it.phase}
	out.Event(&d.event)
}

// closeParts ends what is open of an item.
func (d *respDecoder) closeParts(it *respItem, status EndStatus, opaque string, out Sink) {
	for i := range it.parts {
		p := &it.parts[i]
		if !p.open {
			continue
		}
		if p.nheld > 0 || p.hiHalf != 0 { // the rest never came
			p.nheld, p.hiHalf = 0, 0
			d.send(p, []byte("\uFFFD"), out)
		}
		p.open = false
		d.event = Event{Kind: EventBlockEnd, Index: p.block, Status: status, Opaque: opaque}
		out.Event(&d.event)
	}
}

// fill sends what of the whole text has not been sent.
func (d *respDecoder) fill(it *respItem, p *respPartState, text []byte, out Sink) {
	if p.sent > len(text) {
		return
	}
	rest := text[p.sent:]
	n := min(p.sent, len(p.tail))
	if !bytes.Equal(p.tail[len(p.tail)-n:], text[p.sent-n:p.sent]) {
		return // not the text that was sent
	}
	p.nheld, p.hiHalf = 0, 0
	if len(rest) > 0 && d.open(it, p, out) {
		d.send(p, rest, out)
	}
}

func (d *respDecoder) textDone(kind respPartKind, index int64, e *respFrame, out Sink) {
	it, p := d.target(kind, index, e)
	if it == nil {
		return
	}
	if it.name == "" && len(e.name) > 0 {
		it.name = string(e.name)
	}
	// A call whose id is not known yet waits for the item's end.
	if p.open || it.callID != "" || p.kind < partArguments {
		d.fill(it, p, e.text, out)
	}
}

func (d *respDecoder) partDone(e *respFrame, out Sink) {
	it := d.find(e.output, e.itemID)
	if it == nil {
		it = d.add(e.output, e.itemID, respMessage)
	}
	if !it.done {
		d.fillPart(it, e.content, gjson.Parse(viewString(e.part)), out)
	}
}

// fillPart fills up one part of a message or of raw reasoning.
func (d *respDecoder) fillPart(it *respItem, index int64, part gjson.Result, out Sink) {
	kind, key := partText, "text"
	switch respText(part.Get("type")) {
	case "output_text", "text":
	case "refusal":
		kind, key = partRefusal, "refusal"
	case "reasoning_text":
		kind = partRaw
	default:
		return
	}
	if respPartItems[kind] != it.kind {
		return
	}
	p := it.part(kind, index)
	if text := d.str(part.Get(key)); text != nil {
		if p.sent == 0 {
			if l := part.Get("logprobs"); l.IsArray() && len(l.Raw) > 2 {
				d.delta.Logprobs = d.oneLine(viewBytes(l.Raw))
			}
		}
		d.fill(it, p, text, out)
		d.delta.Logprobs = nil
	}
	if kind == partText {
		n := 0
		part.Get("annotations").ForEach(func(_, a gjson.Result) bool {
			if n++; n > p.annots {
				d.annotate(it, p, viewBytes(a.Raw), out)
			}
			return true
		})
	}
}

func (d *respDecoder) annotation(e *respFrame, out Sink) {
	if it, p := d.target(partText, e.content, e); it != nil {
		d.annotate(it, p, e.annotation, out)
	}
}

func (d *respDecoder) annotate(it *respItem, p *respPartState, raw []byte, out Sink) {
	if len(raw) == 0 || raw[0] != '{' {
		return
	}
	if gjson.Get(viewString(raw), "type").Str == "" { // nobody could tell what it is
		p.annots++
		d.s.Ledger.Note("annotations")
		return
	}
	if !p.open && p.sent > 0 {
		// Its text is over and another part's follows: there is no block left
		// whose beginning the offsets could count from.
		p.annots++
		d.s.Ledger.Note("annotations")
		return
	}
	if !d.open(it, p, out) {
		return
	}
	p.annots++
	d.event = Event{Kind: EventAnnotation, Index: p.block, Data: d.oneLine(raw)}
	out.Event(&d.event)
}

func (d *respDecoder) itemAdded(e *respFrame, out Sink) {
	item := gjson.Parse(viewString(e.item))
	if !item.IsObject() {
		return
	}
	id := respText(item.Get("id"))
	it := d.find(e.output, viewBytes(id))
	if it == nil || it.done || it.kind != respKindOf(item) || it.isOther(id, respText(item.Get("call_id"))) {
		it = d.newItem(e.output, item)
	} else {
		it.describe(item)
	}
	it.announced = true
	// A call is told as soon as its name is known.
	if it.kind == respFunctionCall && it.callID != "" {
		d.open(it, it.part(partArguments, 0), out)
	} else if it.kind == respCustomCall && it.callID != "" {
		d.open(it, it.part(partInput, 0), out)
	}
}

// isOther reports whether an item that is announced under an index which was
// taken is another one: some servers say 0 of every item.
func (it *respItem) isOther(id, callID string) bool {
	if it.callID != "" && callID != "" {
		return it.callID != callID
	}
	return it.announced && id != "" && len(it.id) > 0 && string(it.id) != id
}

func respKindOf(item gjson.Result) respItemKind {
	switch respText(item.Get("type")) {
	case "message":
		return respMessage
	case "reasoning":
		return respReasoning
	case "function_call":
		return respFunctionCall
	case "custom_tool_call":
		return respCustomCall
	}
	return respOther
}

func (d *respDecoder) newItem(index int64, item gjson.Result) *respItem {
	it := d.add(index, viewBytes(respText(item.Get("id"))), respKindOf(item))
	it.describe(item)
	return it
}

func (it *respItem) describe(item gjson.Result) {
	switch it.kind {
	case respMessage:
		it.phase = respPhase(respText(item.Get("phase")))
	case respFunctionCall, respCustomCall:
		it.name = firstOf(it.name, clone(respText(item.Get("name"))))
		it.callID = firstOf(it.callID, clone(respText(item.Get("call_id"))))
	}
}

func (d *respDecoder) itemDone(e *respFrame, out Sink) {
	item := gjson.Parse(viewString(e.item))
	if !item.IsObject() {
		return
	}
	it := d.find(e.output, viewBytes(respText(item.Get("id"))))
	if it == nil {
		it = d.newItem(e.output, item)
	}
	if !it.done {
		d.finishItem(it, item, StatusComplete, out)
	}
}

// finishItem fills up an item from its final form and ends it. status is what
// it has if it does not tell.
func (d *respDecoder) finishItem(it *respItem, item gjson.Result, status EndStatus, out Sink) {
	// An item that is over is not in progress, though some servers say so.
	if s := respText(item.Get("status")); s != "" && s != "in_progress" {
		status = respStatus(s)
	}
	it.done = true
	it.describe(item)
	switch it.kind {
	case respMessage:
		if content := item.Get("content"); content.Type == gjson.String && content.Str != "" {
			d.fill(it, it.part(partText, 0), d.str(content), out)
		} else {
			d.fillParts(it, content, out)
		}
		d.closeParts(it, status, "", out)
	case respReasoning:
		i := int64(0)
		item.Get("summary").ForEach(func(_, p gjson.Result) bool {
			if text := d.str(p.Get("text")); text != nil {
				d.fill(it, it.part(partSummary, i), text, out)
			}
			i++
			return true
		})
		d.fillParts(it, item.Get("content"), out)
		opaque := respText(item.Get("encrypted_content"))
		if opaque != "" && !it.anyOpen() {
			d.open(it, it.part(partSummary, i), out)
		}
		d.closeParts(it, status, opaque, out)
	case respFunctionCall:
		d.finishCall(it, partArguments, item.Get("arguments"), status, out)
	case respCustomCall:
		d.finishCall(it, partInput, item.Get("input"), status, out)
	default:
		d.native(it, item, status, out)
	}
}

func (it *respItem) anyOpen() bool {
	for i := range it.parts {
		if it.parts[i].open {
			return true
		}
	}
	return false
}

func (d *respDecoder) fillParts(it *respItem, content gjson.Result, out Sink) {
	i := int64(0)
	content.ForEach(func(_, p gjson.Result) bool {
		d.fillPart(it, i, p, out)
		i++
		return true
	})
}

func (d *respDecoder) finishCall(it *respItem, kind respPartKind, text gjson.Result, status EndStatus, out Sink) {
	p := it.part(kind, 0)
	if !d.open(it, p, out) {
		d.s.Ledger.Note("tool_call") // of a tool without a name
		return
	}
	if t := d.str(text); t != nil {
		d.fill(it, p, t, out)
	} else if text.IsObject() || text.IsArray() { // some servers forget to write it as a string
		d.fill(it, p, d.oneLine(viewBytes(text.Raw)), out)
	}
	d.closeParts(it, status, "", out)
}

// native tells an item that only this API has: a call that the server has run
// itself, or something that no other protocol knows.
func (d *respDecoder) native(it *respItem, item gjson.Result, status EndStatus, out Sink) {
	kind := respText(item.Get("type"))
	own := respFamily(d.s.Request)
	b := Block{Type: BlockData, Name: kind, ID: viewString(it.id), Native: item.Raw}
	text := item.Raw
	if respItems[kind] {
		b.Type, b.Ran, b.Name = BlockToolCall, true, firstOf(respText(item.Get("name")), strings.TrimSuffix(kind, "_call"))
		b.CallID = firstOf(b.ID, b.Name)
		text = respRanArguments(item)
	}
	if !respNative(item.Raw) {
		b.Native = "" // of a type that the face does not know either
	}
	d.begin(out)
	d.tellWhole(it, b, 0, text, status, out)
	if result, failed := respRanResult(item); b.Ran && !own && result != "" {
		d.tellWhole(it, Block{Type: BlockToolResult, Ran: true, Name: b.Name, CallID: b.CallID, IsError: failed}, 2, result, status, out)
	}
	if kind == "image_generation_call" && !own {
		if result := respText(item.Get("result")); result != "" {
			format := firstOf(respText(item.Get("output_format")), "png")
			d.tellWhole(it, Block{Type: BlockImage, ID: viewString(it.id), URL: "data:image/" + format + ";base64," + result,
				Alt: respText(item.Get("revised_prompt"))}, 1, "", status, out)
		}
	}
}

// respRanResult is what a call that the server ran itself came to.
func respRanResult(item gjson.Result) (text string, failed bool) {
	for _, key := range [...]string{"error", "output", "results", "outputs"} {
		switch v := item.Get(key); {
		case v.Type == gjson.Null, v.IsArray() && isBare(v):
		case v.Type == gjson.String:
			text = v.String()
		default:
			text = v.Raw
		}
		if text != "" {
			return text, key == "error"
		}
	}
	return "", false
}

// tellWhole tells a block that is whole.
func (d *respDecoder) tellWhole(it *respItem, b Block, part int, text string, status EndStatus, out Sink) {
	index := d.blocks
	d.blocks++
	d.startBlock(it, b, index, part, out)
	if text != "" {
		d.event = Event{Kind: EventBlockDelta, Index: index, Data: d.oneLine(viewBytes(text))}
		out.Event(&d.event)
	}
	d.event = Event{Kind: EventBlockEnd, Index: index, Status: status}
	out.Event(&d.event)
}
