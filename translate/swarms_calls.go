package translate

import (
	"strings"

	"github.com/tidwall/gjson"

	"github.com/dragoman-proxy/dragoman/internal/jsonx"
)

// swarmsCall is a tool call in an answer or in a history.
type swarmsCall struct {
	id, name, args string
	author         string
	held           bool // waits for the end of the stream: it may be the client's
	ran            bool // a result followed
	resulted       bool // which was this call's own
}

// swarmsCalls reads a content that is a list of tool calls, as such or as the text
// of one, or a single call by itself.
func swarmsCalls(v gjson.Result) ([]swarmsCall, bool) {
	if v.Type == gjson.String {
		return swarmsCallText(v.String())
	}
	var calls []swarmsCall
	ok := v.IsArray() || v.IsObject()
	add := func(v gjson.Result) bool {
		f, t := v.Get("function"), v.Get("type")
		name, args := f.Get("name"), f.Get("arguments")
		if ok = ok && v.IsObject() && f.IsObject() && name.Type == gjson.String && name.Str != "" &&
			(!t.Exists() || t.Str == "function"); !ok {
			return false
		}
		c := swarmsCall{id: v.Get("id").String(), name: name.String(), args: args.String()}
		switch {
		case args.IsObject() || args.IsArray():
			c.args = args.Raw
		case strings.TrimSpace(c.args) == "":
			c.args = "{}"
		}
		calls = append(calls, c)
		return len(calls) <= maxItems // more are refused by whoever asks
	}
	if v.IsObject() {
		add(v)
	} else if ok {
		v.ForEach(func(_, v gjson.Result) bool { return add(v) })
	}
	return calls, ok && len(calls) > 0
}

// swarmsCallText reads a text that is a list of tool calls and nothing else, in
// JSON or as Python writes one: swarms turn what their agents answer into text
// by str().
func swarmsCallText(text string) ([]swarmsCall, bool) {
	s := strings.TrimSpace(text)
	if !strings.HasPrefix(s, "[") || !strings.HasSuffix(s, "]") || !strings.Contains(s, "function") {
		return nil, false
	}
	if !jsonx.Valid(viewBytes(s)) {
		b, ok := pythonJSON(s)
		if !ok || !jsonx.Valid(b) {
			return nil, false
		}
		s = viewString(b)
	}
	return swarmsCalls(gjson.Parse(s))
}

// The beginnings of a text that may be a list of tool calls.
const (
	swarmsNoCalls     = iota
	swarmsTooShort    // not to be told yet
	swarmsJSONCalls   // it goes on as such a list does
	swarmsPythonCalls // so does it, as Python writes one
)

// swarmsCallHead looks at the beginning of a text: [{"function": or another
// member of a call, or in Python [{'id': or [ChatCompletionMessageToolCall(.
func swarmsCallHead(text []byte) int {
	i := 0
	space := func() {
		for i < len(text) && (text[i] == ' ' || text[i] == '\n' || text[i] == '\r' || text[i] == '\t') {
			i++
		}
	}
	for _, c := range [...]byte{'[', '{'} {
		space()
		if i == len(text) {
			return swarmsTooShort
		}
		if text[i] != c {
			if c == '{' {
				return swarmsHeadIn(text[i:], "ChatCompletion", swarmsPythonCalls)
			}
			return swarmsNoCalls
		}
		i++
	}
	space()
	if i == len(text) {
		return swarmsTooShort
	}
	kind := swarmsJSONCalls
	switch text[i] {
	case '"':
	case '\'':
		kind = swarmsPythonCalls
	default:
		return swarmsNoCalls
	}
	best := swarmsNoCalls
	for _, key := range [...]string{"function", "id", "type", "index"} {
		if h := swarmsHeadIn(text[i+1:], key+string(text[i]), kind); h > best {
			best = h
		}
	}
	return best
}

// swarmsHeadIn compares the beginning of text with want.
func swarmsHeadIn(text []byte, want string, kind int) int {
	n := min(len(text), len(want))
	switch {
	case string(text[:n]) != want[:n]:
		return swarmsNoCalls
	case n < len(want):
		return swarmsTooShort
	}
	return kind
}

// hold takes tool calls of a stream. Those that the client does not offer ran
// here, and are told at once; the others wait for the end, since a result that
// follows takes them away from the client.
func (d *swarmsDecoder) hold(calls []swarmsCall, author string, out Sink) {
	msg := -1
	for i := range calls {
		c := calls[i]
		c.author = clone(author)
		c.id, c.name, c.args = clone(c.id), clone(c.name), clone(c.args)
		if c.id == "" {
			c.id = d.setup.ID("call_", len(d.calls))
		}
		if c.held = d.offered(c.name); c.held {
			d.held += len(c.id) + len(c.name) + len(c.args)
		} else {
			msg = d.tell(&c, true, msg, out)
		}
		d.know(c)
	}
	if d.held > MaxAnswer || len(d.calls) > maxOutputItems {
		d.fail(Unreadable(errSwarmsHeld), out)
	}
}

func (d *swarmsDecoder) offered(name string) bool {
	return d.setup.Request != nil && d.setup.Request.OffersTool(name)
}

// tell emits a tool call. msg is the message of a call beside it, -1 if there
// is none; the message used is returned.
func (d *swarmsDecoder) tell(c *swarmsCall, ran bool, msg int, out Sink) int {
	if msg < 0 {
		msg = d.msgs
		d.msgs++
		d.part = 0
	}
	b := Block{Type: BlockToolCall, Name: c.name, CallID: c.id, Ran: ran}
	if !ran {
		d.called = true
		b.Custom = d.offeredCustom(c.name)
	}
	d.emit(&b, c.args, msg, d.part, c.author, PhaseNone, out)
	d.part++
	return msg
}

func (d *swarmsDecoder) offeredCustom(name string) bool {
	t := d.setup.Request.offer(name)
	return t != nil && t.Kind == ToolCustom
}

// emit sends a whole block.
func (d *swarmsDecoder) emit(b *Block, text string, msg, part int, author string, phase Phase, out Sink) {
	i := d.blocks
	d.blocks++
	out.Event(&Event{Kind: EventBlockStart, Index: i, Block: b, Msg: msg, Part: part, Author: author, Phase: phase})
	if text != "" {
		out.Event(&Event{Kind: EventBlockDelta, Index: i, Data: viewBytes(text)})
	}
	out.Event(&Event{Kind: EventBlockEnd, Index: i})
}

// result takes a result: the backend ran the call.
func (d *swarmsDecoder) result(id, text, author string, out Sink) {
	for i := range d.speakers {
		d.settleText(&d.speakers[i], out)
	}
	d.tellResult(d.settle(id, out), id, text, author, out)
}

// settle notes that calls ran whose result has come: the one of that id, else,
// where results have none, all before it. It returns the call that the result
// belongs to, -1 if there is none. Calls that were held are told.
func (d *swarmsDecoder) settle(id string, out Sink) int {
	of, msg := -1, -1
	if id != "" {
		i, known := d.byID[id]
		if !known {
			return -1
		}
		d.ran(i, msg, out)
		of = i
	} else {
		for ; d.settled < len(d.calls); d.settled++ {
			msg = d.ran(d.settled, msg, out)
		}
		for d.due < len(d.calls) && d.calls[d.due].resulted {
			d.due++
		}
		if d.due < len(d.calls) {
			of = d.due
		}
	}
	if of >= 0 {
		d.calls[of].resulted = true
	}
	return of
}

// ran notes that a call ran, and tells it if it was held.
func (d *swarmsDecoder) ran(i, msg int, out Sink) int {
	c := &d.calls[i]
	c.ran = true
	if c.held {
		c.held = false
		msg = d.tell(c, true, msg, out)
	}
	return msg
}

func (d *swarmsDecoder) tellResult(call int, id, text, author string, out Sink) {
	b := Block{Type: BlockToolResult, CallID: clone(id), Ran: true}
	if call >= 0 {
		b.CallID, b.Name = d.calls[call].id, d.calls[call].name
	}
	d.msgs++
	d.emit(&b, text, d.msgs-1, 0, author, PhaseNone, out)
}

// know adds a call to those seen.
func (d *swarmsDecoder) know(c swarmsCall) {
	if d.byID == nil {
		d.byID = map[string]int{}
	}
	d.byID[c.id] = len(d.calls)
	d.calls = append(d.calls, c)
}
