package translate

import (
	"bytes"
	"errors"
	"strings"

	"github.com/tidwall/gjson"

	"github.com/dragoman-proxy/dragoman/internal/jsonx"
	"github.com/dragoman-proxy/dragoman/internal/sse"
)

// respDecoder reads an answer of a Responses backend.
//
// Text is taken from the deltas as they come. What comes later and tells a
// text again, the events that end a part, an item and the answer, only fills
// up what the deltas left out: nothing is told twice, and nothing that came
// only at the end is lost. A block stays open until the next part of its item
// begins or the item is done, because only the item's end tells its status and
// the encrypted reasoning.
type respDecoder struct {
	s *Setup

	dec     jsonx.Dec
	delta   Event // of text
	event   Event
	block   Block
	scratch []byte
	raw     []byte

	// dialect: zeroes mean that nobody counted, and the id is the
	// conversation's.
	cognipeer bool

	started bool
	ended   bool   // Finish or Fail went out
	done    bool   // [DONE] came
	cut     bool   // the last frame was the [DONE] of a stream without an end
	calls   bool   // the client has to run a tool
	err     *Error // an error event, until the stream really ends
	seq     int64

	keeping *respKeeping // nil: the answer is not kept

	items  []respItem
	cur    int // the item spoken of last
	blocks int // used indices
	shape  respShape
}

func newRespDecoder(s *Setup) *respDecoder {
	d := &respDecoder{s: s, seq: -1}
	if s.Keep != nil {
		d.keeping = &respKeeping{}
	}
	return d
}

// LastSeq implements Sequencer.
func (d *respDecoder) LastSeq() int64 { return d.seq }

// Finishing implements Decoder.
func (d *respDecoder) Finishing() bool { return d.ended || d.done || d.err != nil }

// Keep implements FrameFilter: the [DONE] of a stream that has not ended would
// keep the client from reading that it was cut. AppendFailure writes one.
func (d *respDecoder) Keep(*sse.Frame) bool { return !d.cut }

// respFrame is what the events of the API are made of; most have a few of
// these.
type respFrame struct {
	typ                  []byte
	untyped              bool // typ is from the event line
	itemID               []byte
	output               int64
	content              int64
	summary              int64
	delta                []byte // decoded
	deltaRaw             []byte // as it stood, with its quotes
	slots                [respSlots]respSlot
	text                 []byte // of a done event, whatever its member is called
	name                 []byte
	logprobs             []byte
	item, part, response []byte
	annotation, err      []byte
	code, message        []byte
	status               int64
}

// Frame implements Decoder.
func (d *respDecoder) Frame(f *sse.Frame, out Sink) {
	d.cut = false
	if d.ended {
		return
	}
	data := f.Data
	if len(data) == 0 {
		if data == nil && f.Event == nil {
			d.ping(out)
		}
		return
	}
	if data[0] != '{' {
		data = bytes.TrimSpace(data)
		if string(data) == "[DONE]" {
			d.done, d.cut = true, true
			return
		}
		if len(data) == 0 {
			return
		}
	}
	if d.shape.match(data) {
		if it := &d.items[d.shape.item]; !it.done && it.parts[d.shape.part].open {
			if d.shape.seq >= 0 {
				d.seq = d.shape.seq
			}
			d.emit(&it.parts[d.shape.part], d.shape.text, d.shape.quoted, out)
			return
		}
	}
	var e respFrame
	if err := d.parse(data, &e); err != nil {
		d.fail(Unreadable(err), out)
		return
	}
	if e.typ == nil {
		e.typ, e.untyped = f.Event, true
	}
	d.dispatch(&e, data, out)
	if n := len(d.items); n > maxOutputItems || d.cur < n && len(d.items[d.cur].parts) > maxOutputItems {
		d.fail(Unreadable(errManyItems), out)
	}
}

// parse reads the members of an event in one pass.
func (d *respDecoder) parse(data []byte, e *respFrame) error {
	e.output, e.content, e.summary = -1, 0, 0
	dec := &d.dec
	dec.Reset(data)
	if dec.Object() {
		for key, ok := dec.Key(); ok; key, ok = dec.Key() {
			switch string(key) {
			case "type":
				e.typ, _ = dec.Str()
			case "sequence_number":
				from := dec.Offset()
				if n, ok := dec.Int(); ok {
					d.seq = n
				}
				e.slots[slotSeq] = respSlot{from, dec.Offset()}
			case "item_id":
				e.itemID, _ = dec.Str()
			case "output_index":
				if n, ok := dec.Int(); ok && n >= 0 {
					e.output = n
				}
			case "content_index":
				e.content, _ = dec.Int()
			case "summary_index":
				e.summary, _ = dec.Int()
			case "delta":
				from := dec.Offset()
				e.delta, _ = dec.Str()
				e.slots[slotText] = respSlot{from, dec.Offset()}
				e.deltaRaw = data[from:dec.Offset()]
			case "obfuscation":
				from := dec.Offset()
				dec.Skip()
				e.slots[slotNoise] = respSlot{from, dec.Offset()}
			case "text", "refusal", "arguments", "input":
				if s, ok := dec.Str(); ok {
					e.text = s
				}
			case "name":
				e.name, _ = dec.Str()
			case "logprobs":
				e.logprobs = dec.Raw()
			case "item":
				e.item = dec.Raw()
			case "part":
				e.part = dec.Raw()
			case "response":
				e.response = dec.Raw()
			case "annotation":
				e.annotation = dec.Raw()
			case "error":
				e.err = dec.Raw()
			case "code":
				e.code, _ = dec.Str()
			case "message":
				e.message, _ = dec.Str()
			case "status":
				e.status, _ = dec.Int()
			}
		}
	}
	return dec.End()
}

func (d *respDecoder) dispatch(e *respFrame, data []byte, out Sink) {
	switch string(e.typ) {
	case "response.output_text.delta":
		d.text(partText, e.content, e, data, out)
	case "response.function_call_arguments.delta":
		d.text(partArguments, 0, e, data, out)
	case "response.reasoning_summary_text.delta", "response.reasoning_summary.delta":
		d.text(partSummary, e.summary, e, data, out)
	case "response.reasoning_text.delta", "response.reasoning.delta": // the second is Open Responses'
		d.text(partRaw, e.content, e, data, out)
	case "response.refusal.delta":
		d.text(partRefusal, e.content, e, data, out)
	case "response.custom_tool_call_input.delta":
		d.text(partInput, 0, e, data, out)

	case "response.output_text.done":
		d.textDone(partText, e.content, e, out)
	case "response.function_call_arguments.done":
		d.textDone(partArguments, 0, e, out)
	case "response.reasoning_summary_text.done", "response.reasoning_summary.done":
		d.textDone(partSummary, e.summary, e, out)
	case "response.reasoning_text.done", "response.reasoning.done":
		d.textDone(partRaw, e.content, e, out)
	case "response.refusal.done":
		d.textDone(partRefusal, e.content, e, out)
	case "response.custom_tool_call_input.done":
		d.textDone(partInput, 0, e, out)

	case "response.output_text.annotation.added":
		d.annotation(e, out)
	case "response.output_item.added":
		d.itemAdded(e, out)
	case "response.output_item.done":
		if d.keeping != nil {
			d.keeping.noteItem(e.item)
		}
		d.itemDone(e, out)
	case "response.content_part.added", "response.reasoning_summary_part.added":
		// The block begins with its first text.
	case "response.content_part.done":
		d.partDone(e, out)
	case "response.reasoning_summary_part.done":
		if t := gjson.GetBytes(e.part, "text"); t.Type == gjson.String {
			e.text = d.str(t)
			d.textDone(partSummary, e.summary, e, out)
		}

	case "response.created", "response.queued", "response.in_progress":
		d.life(e)
		d.start(gjson.Parse(viewString(e.response)), out)
	case "response.completed", "response.incomplete", "response.failed", "response.cancelled":
		d.life(e)
		status := strings.TrimPrefix(string(e.typ), "response.")
		d.terminal(status, gjson.Parse(viewString(e.response)), out)
	case "error":
		d.errorEvent(e)
	case "keepalive":
		d.ping(out)
	default:
		if e.typ == nil && len(e.err) > 2 && (e.err[0] == '{' || e.err[0] == '"') {
			d.errorEvent(e)
			return
		}
		if bytes.HasPrefix(e.typ, []byte("response.audio.")) {
			d.s.Ledger.Note("audio")
		}
		d.begin(out)
		d.event = Event{Kind: EventNative, Name: viewString(e.typ), Data: data}
		out.Event(&d.event)
	}
}

func (d *respDecoder) ping(out Sink) {
	d.event = Event{Kind: EventPing}
	out.Event(&d.event)
}

// str decodes a string of a document that was taken apart by gjson. The text is
// valid until the next call.
func (d *respDecoder) str(r gjson.Result) []byte {
	if r.Type != gjson.String {
		return nil
	}
	d.scratch, _ = jsonx.Unquote(d.scratch[:0], viewBytes(r.Raw))
	return d.scratch
}

// oneLine is a raw value without line ends, for encoders write it into frames.
func (d *respDecoder) oneLine(raw []byte) []byte {
	if bytes.IndexByte(raw, '\n') < 0 && bytes.IndexByte(raw, '\r') < 0 {
		return raw
	}
	d.raw = jsonx.AppendCompact(d.raw[:0], raw)
	return d.raw
}

func (d *respDecoder) start(response gjson.Result, out Sink) {
	if d.started {
		return
	}
	d.started = true
	d.event = Event{Kind: EventStart}
	response.ForEach(func(k, v gjson.Result) bool {
		switch k.String() {
		case "id":
			d.event.ID = respText(v)
		case "model":
			d.event.Model = respText(v)
		case "created_at":
			d.event.Created = v.Int()
		}
		return true
	})
	if d.cognipeer {
		// The id of every answer is that of its conversation.
		d.event.Handle, _ = strings.CutPrefix(d.event.ID, "resp_")
		if v := response.Get("version"); v.Type == gjson.Number {
			d.s.version = clone(v.Raw)
		}
	}
	out.Event(&d.event)
}

// begin makes sure that the answer has started.
func (d *respDecoder) begin(out Sink) { d.start(gjson.Result{}, out) }

func (d *respDecoder) fail(err *Error, out Sink) {
	if d.ended {
		return
	}
	d.ended = true
	d.event = Event{Kind: EventFail, Err: err}
	out.Event(&d.event)
}

// End implements Decoder.
func (d *respDecoder) End(cause *Error, out Sink) {
	switch {
	case d.ended:
	case d.err != nil:
		d.fail(d.err, out)
	case cause != nil:
		d.fail(cause, out)
	default:
		d.fail(Truncated(nil), out)
	}
}

// errorEvent remembers an error event: nested as the vendor's server sends it,
// flat as its specification has it. A response.failed may follow and say more.
func (d *respDecoder) errorEvent(e *respFrame) {
	code, message := string(e.code), string(e.message)
	if o := gjson.ParseBytes(e.err); o.IsObject() {
		code = firstOf(scalar(o.Get("code")), scalar(o.Get("type")))
		message = respText(o.Get("message"))
	} else if o.Type == gjson.String {
		message = firstOf(message, o.String())
	}
	d.err = InBand(firstStatus(int(e.status), respErrorStatus(code)), code, message)
}

func firstStatus(status, def int) int {
	if status >= 400 && status < 600 {
		return status
	}
	return def
}

// respErrorStatus is the HTTP status for what a stream or a body calls its
// failure; 0 for what has none of its own. The vendor's enumeration is not
// closed: real streams carry insufficient_quota.
func respErrorStatus(code string) int {
	switch code {
	case "rate_limit_exceeded", "rate_limit_error", "insufficient_quota":
		return 429
	case "server_is_overloaded", "overloaded", "overloaded_error", "slow_down":
		return 503
	case "invalid_prompt", "invalid_request_error", "context_length_exceeded":
		return 400
	case "vector_store_timeout", "timeout":
		return 504
	}
	return 0
}

// terminal is the end of the answer, as the terminal event or a body tells it.
func (d *respDecoder) terminal(status string, response gjson.Result, out Sink) {
	switch s := respText(response.Get("status")); s {
	case "failed", "incomplete", "cancelled":
		// The body can tell a worse end than the event's name, never a better one.
		if status != "failed" {
			status = s
		}
	}
	if status == "failed" || respTellsError(response.Get("error")) {
		d.failed(response, out)
		return
	}
	if d.err != nil { // an error is not undone by an end that looks well
		d.fail(d.err, out)
		return
	}
	d.start(response, out)
	rest := StatusComplete
	if status != "completed" {
		rest = StatusIncomplete
	}
	streamed := len(d.items)
	items := respArray(response.Get("output"))
	if len(items) > maxOutputItems {
		d.fail(Unreadable(errManyItems), out)
		return
	}
	for i, item := range items {
		index := int64(i)
		it := d.findFinal(index, respText(item.Get("id")))
		switch {
		case !item.IsObject():
		case it == nil && i >= streamed && !called(d.items[:streamed], item):
			// It comes here only: there are more items than were streamed.
			d.finishItem(d.newItem(index, item), item, rest, out)
		case it != nil && !it.done && it.kind == respKindOf(item):
			d.finishItem(it, item, rest, out)
		}
	}
	for i := range d.items {
		if it := &d.items[i]; !it.done {
			it.done = true
			d.closeParts(it, rest, "", out)
		}
	}
	d.usage(response.Get("usage"), out)
	d.ended = true
	d.event = Event{Kind: EventFinish, Reason: FinishStop, Word: status}
	switch tier := respText(response.Get("service_tier")); tier {
	case "default", "auto":
	default:
		d.event.Tier = tier
	}
	switch status {
	case "completed":
		if d.calls {
			d.event.Reason = FinishToolCalls
		}
	case "cancelled":
		d.event.Reason = FinishCancelled
	default:
		d.event.Word = firstOf(respText(response.Get("incomplete_details.reason")), status)
		switch d.event.Word {
		case "max_output_tokens", "max_tokens", "length":
			d.event.Reason = FinishLength
		case "content_filter":
			d.event.Reason = FinishContentFilter
		case "cancelled": // our own face's word
			d.event.Reason = FinishCancelled
		default:
			// The reason is optional. An answer that was cut short must not look
			// whole, and length is the word that every protocol has for it.
			d.event.Reason = FinishLength
		}
	}
	out.Event(&d.event)
}

// called reports whether the item is a call that is among those told, whatever
// its place and its id are now.
func called(told []respItem, item gjson.Result) bool {
	id := respText(item.Get("call_id"))
	for i := range told {
		if id != "" && told[i].callID == id {
			return true
		}
	}
	return false
}

// respArray are the elements of an array, one more than there may be at most; a
// value of another type has none.
func respArray(v gjson.Result) []gjson.Result {
	if !v.IsArray() {
		return nil
	}
	var list []gjson.Result
	v.ForEach(func(_, e gjson.Result) bool {
		list = append(list, e)
		return len(list) <= maxOutputItems
	})
	return list
}

// respTellsError reports whether the member error of a response tells one.
func respTellsError(v gjson.Result) bool {
	return v.IsObject() && strings.TrimSpace(v.Raw[1:len(v.Raw)-1]) != "" || v.Type == gjson.String && v.Str != ""
}

// failed tells the error of a response. One that holds output has run, so that
// even an error that invites to try again does not.
func (d *respDecoder) failed(response gjson.Result, out Sink) {
	e := response.Get("error")
	code, message := scalar(e.Get("code")), respText(e.Get("message"))
	if e.Type == gjson.String {
		message = e.String()
	}
	if d.err != nil && message == "" { // the error event said more
		d.fail(d.err, out)
		return
	}
	err := InBand(respErrorStatus(code), code, message)
	err.NoRetry = err.NoRetry || len(respArray(response.Get("output"))) > 0
	d.fail(err, out)
}

func (d *respDecoder) usage(v gjson.Result, out Sink) {
	if !v.IsObject() {
		return
	}
	count := func(path string) int64 {
		if n := v.Get(path); n.Type == gjson.Number && n.Num >= 0 {
			return n.Int()
		}
		return -1
	}
	u := NoUsage()
	u.Input, u.Output, u.Total = count("input_tokens"), count("output_tokens"), count("total_tokens")
	u.Cached, u.Written = count("input_tokens_details.cached_tokens"), count("input_tokens_details.cache_write_tokens")
	u.Reasoning = count("output_tokens_details.reasoning_tokens")
	if !u.Known() || d.cognipeer && u.Input <= 0 && u.Output <= 0 && u.Total <= 0 {
		return
	}
	d.event = Event{Kind: EventUsage, Usage: u}
	out.Event(&d.event)
}

// maxOutputItems is how many items an answer may have, and an item parts: each is
// remembered until the answer's end.
const maxOutputItems = 4096

var (
	errManyItems  = errors.New("the answer has too many output items")
	errNoResponse = errors.New("the body is not a response object")
	errNotDone    = errors.New("the response is not finished")
)

// JSON implements Decoder.
func (d *respDecoder) JSON(body []byte, out Sink) {
	doc := gjson.Parse(viewString(body))
	if !doc.IsObject() {
		d.fail(Unreadable(errNoResponse), out)
		return
	}
	status := respText(doc.Get("status"))
	switch {
	case respTellsError(doc.Get("error")) || status == "failed":
		d.failed(doc, out)
	case status == "in_progress" || status == "queued":
		err := InBand(0, "", "The agent's answer is not finished: its status is "+status+".")
		err.Cause = errNotDone
		d.fail(err, out)
	case !doc.Get("output").IsArray():
		d.fail(Unreadable(errNoResponse), out)
	case status == "incomplete" || status == "cancelled":
		d.terminal(status, doc, out)
	default:
		d.terminal("completed", doc, out)
	}
}
