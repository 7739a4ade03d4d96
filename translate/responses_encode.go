package translate

import (
	"bytes"
	"slices"
	"strconv"
	"unicode/utf8"

	"github.com/tidwall/gjson"

	"github.com/dragoman-proxy/dragoman/internal/jsonx"
)

// respEncoder writes the event stream of the Responses API, and with quiet set
// only the output items of a JSON answer.
//
// Each item is written once, into output, as it grows; the events that repeat
// it (a part's end, an item's end, the terminal event) copy from there, so that
// they cannot differ from what was streamed. A message stays open until
// something else begins: rendered blocks and further text of it join its part.
type respEncoder struct {
	s      *Setup
	b      []byte // what is being appended to
	object *respSkeleton
	quiet  bool
	// probable says that the client asked for log probabilities.
	probable bool

	created int64

	completedAt int64

	started bool
	ended   bool
	seq     int64
	usage   Usage

	output []byte // the output items, comma between them
	items  int    // finished or open

	open respOpen // what kind of item is open
	msg  int      // its message
	cur  int      // index of the open block, -1 if none
	skip bool     // the open block has no place here

	natives  []string // ids of native items
	id       []byte
	itemAt   int // where in output the open item begins
	partAt   int // where its open part begins
	textAt   int // where the part's text begins
	blockAt  int // where the open block's text begins
	parts    int // of the item, without the open one
	part     respPartKind
	partOpen bool
	status   EndStatus
	opaque   []byte
	secrets  []edit // what of output only the agent may read
	name     []byte // of the tool, escaped

	annots   []byte // of the open part
	nannots  int
	shift    int // code points in the part before the open block
	logprobs []byte

	head string // of a delta event, up to the sequence number
	mid  []byte // and from there to the text
	end  string // its end without log probabilities
	tmp  []byte
}

// respOpen is the kind of the open item.
type respOpen uint8

const (
	openNone respOpen = iota
	openMessage
	openReasoning
	openCall
)

func newRespEncoder(s *Setup) *respEncoder {
	e := &respEncoder{s: s, cur: -1, usage: NoUsage(), created: s.Created}
	if r := s.Request; r != nil {
		e.probable = wantsLogprobs(r)
	}
	return e
}

// Encode implements Encoder.
func (e *respEncoder) Encode(dst []byte, ev *Event) []byte {
	if e.ended {
		return dst
	}
	e.b = dst
	switch ev.Kind {
	case EventBlockDelta:
		e.delta(ev)
	case EventStart:
		if ev.Created > 0 && !e.started {
			e.created = ev.Created
		}
		e.start()
	case EventBlockStart:
		e.start()
		e.blockStart(ev)
	case EventAnnotation:
		e.annotation(ev)
	case EventBlockEnd:
		e.blockEnd(ev)
	case EventUsage:
		e.usage.Merge(ev.Usage)
	case EventFinish:
		e.finish(ev)
	case EventFail:
		e.fail(ev.Err)
	case EventPing:
		if e.started && !e.quiet {
			e.b = append(e.b, ": ping\n\n"...)
		}
	}
	if len(e.output)+len(e.annots)+len(e.logprobs) > MaxAnswer && !e.ended && !e.quiet {
		e.fail(Unreadable(errAnswerTooLong))
	}
	dst, e.b = e.b, nil
	return dst
}

// event begins an event; the caller writes the rest of its members and calls
// over.
func (e *respEncoder) event(typ string) {
	e.b = append(append(append(e.b, "event: "...), typ...), "\ndata: {\"type\":\""...)
	e.b = append(append(e.b, typ...), `","sequence_number":`...)
	e.b = strconv.AppendInt(e.b, e.seq, 10)
	e.seq++
}

func (e *respEncoder) over() { e.b = append(e.b, "}\n\n"...) }

// at writes where an event belongs; index is "" or the name of the index of
// the part.
func (e *respEncoder) at(index string) {
	e.b = appendRespAt(e.b, e.id, e.items-1, index, e.parts)
}

func appendRespAt(dst, id []byte, item int, index string, part int) []byte {
	dst = append(append(append(dst, `,"item_id":"`...), id...), `","output_index":`...)
	dst = strconv.AppendInt(dst, int64(item), 10)
	if index != "" {
		dst = append(append(append(dst, `,"`...), index...), `":`...)
		dst = strconv.AppendInt(dst, int64(part), 10)
	}
	return dst
}

func (e *respEncoder) start() {
	if e.started {
		return
	}
	e.started = true
	echo := respEchoOf(e.s.Request)
	if echo.dialect { // the agent that answered knows its version best
		echo.version = firstOf(e.s.version, echo.version)
	}
	if k := e.s.Keep; k != nil {
		echo.previous, echo.conversation, echo.background = k.Previous, k.Conversation, k.Background
	}
	e.object = newRespSkeleton(e.s.AnswerID("resp_"), e.s.Model(), e.created, &echo)
	e.object.store = e.s.Keep != nil
	if k := e.s.Keep; k != nil && k.Begin != nil {
		e.object.store = k.Begin(e.s.AnswerID("resp_"))
	}
	if e.quiet {
		return
	}
	first := 0
	if k := e.s.Keep; k != nil && k.Background { // AppendQueued has told the rest
		e.seq, first = queuedEvents, 1
	}
	for _, typ := range []string{"response.created", "response.in_progress"}[first:] {
		e.event(typ)
		e.b = append(e.b, `,"response":`...)
		e.b = e.object.append(e.b, "in_progress", 0, nil, "", nil, NoUsage())
		e.over()
	}
}

func (e *respEncoder) blockStart(ev *Event) {
	b := ev.Block
	e.cur, e.skip = ev.Index, false
	if ev.Author != "" {
		e.s.Ledger.Note("author")
	}
	switch b.Type {
	case BlockReasoning:
		if e.open != openReasoning || e.msg != ev.Msg {
			e.closeItem()
			e.openReasoning(ev.Msg)
		} else {
			e.closePart()
		}
	case BlockToolCall:
		if !b.Ran {
			e.closeItem()
			e.openCall(b)
			return
		}
		fallthrough
	case BlockData:
		e.skip = true
		if !respNative(b.Native) {
			name := "data"
			if b.Ran {
				name = "ran_tool_call"
			}
			e.s.Ledger.Note(name)
			return
		}
		e.closeItem()
		e.native(b.Native)
	default:
		kind := partText
		if b.Type == BlockRefusal {
			kind = partRefusal
		}
		if e.open != openMessage || e.msg != ev.Msg {
			e.closeItem()
			e.openMessage(ev.Msg, ev.Phase)
		}
		switch {
		case !e.partOpen:
			e.openPart(kind)
		case e.part != kind || kind == partRefusal:
			e.closePart()
			e.openPart(kind)
		default: // the text goes on
			e.shift = countEscaped(e.output[e.textAt:])
		}
		e.blockAt = len(e.output)
	}
}

// countEscaped counts the code points of a JSON string's inside as AppendEscaped
// writes it.
func countEscaped(s []byte) int {
	n := utf8.RuneCount(s)
	for i := 0; i < len(s)-1; i++ {
		if s[i] != '\\' {
			continue
		}
		if s[i+1] == 'u' {
			n -= len(`\u0000`) - 1
		} else {
			n--
		}
		i++
	}
	return n
}

// openItem begins an item in output.
func (e *respEncoder) openItem(kind respOpen, prefix string) {
	if e.items > 0 {
		e.output = append(e.output, ',')
	}
	e.itemAt = len(e.output)
	e.id = e.s.AppendID(e.id[:0], prefix, e.items)
	e.output = append(append(append(e.output, `{"id":"`...), e.id...), `","type":"`...)
	e.items++
	e.open, e.parts, e.partOpen, e.status = kind, 0, false, StatusComplete
	e.opaque = e.opaque[:0]
}

// added announces the open item: what is in output of it so far, and the rest.
func (e *respEncoder) added(rest string) {
	if e.quiet {
		return
	}
	e.event("response.output_item.added")
	e.b = append(e.b, `,"output_index":`...)
	e.b = strconv.AppendInt(e.b, int64(e.items-1), 10)
	e.b = append(append(append(e.b, `,"item":`...), e.output[e.itemAt:]...), rest...)
	e.over()
}

func (e *respEncoder) openMessage(msg int, phase Phase) {
	e.openItem(openMessage, "msg_")
	e.msg = msg
	e.output = append(e.output, `message","role":"assistant"`...)
	if phase != PhaseNone {
		e.output = append(append(append(e.output, `,"phase":"`...), phase.String()...), '"')
	}
	e.output = append(e.output, `,"content":[`...)
	e.added(`],"status":"in_progress"}`)
}

func (e *respEncoder) openReasoning(msg int) {
	e.openItem(openReasoning, "rs_")
	e.msg = msg
	e.output = append(e.output, `reasoning","summary":[`...)
	e.added(`]}`)
}

func (e *respEncoder) openCall(b *Block) {
	prefix, kind, text := "fc_", "function_call", "arguments"
	e.part = partArguments
	if b.Custom {
		prefix, kind, text = "ctc_", "custom_tool_call", "input"
		e.part = partInput
	}
	e.openItem(openCall, prefix)
	e.output = append(append(e.output, kind...), `","call_id":`...)
	e.output = jsonx.AppendStringS(e.output, b.CallID)
	e.output = append(e.output, `,"name":`...)
	from := len(e.output)
	e.output = jsonx.AppendStringS(e.output, b.Name)
	e.name = append(e.name[:0], e.output[from:]...)
	e.output = append(append(append(e.output, `,"`...), text...), `":"`...)
	e.added(`","status":"in_progress"}`)
	e.textAt, e.blockAt = len(e.output), len(e.output)
	if b.Custom {
		e.deltas("response.custom_tool_call_input.delta", "", `"`)
	} else {
		e.deltas("response.function_call_arguments.delta", "", `"`)
	}
}

// native writes an item as the backend wrote it; it only gets an id of its own
// if its own is missing or came before.
func (e *respEncoder) native(item string) {
	if e.items > 0 {
		e.output = append(e.output, ',')
	}
	e.itemAt = len(e.output)
	id := respText(gjson.Get(item, "id"))
	if id == "" || slices.Contains(e.natives, id) {
		id = e.s.ID("item_", e.items)
		s := newSplice(viewBytes(item))
		s.set("id", quote(id))
		item = viewString(s.append(nil))
	}
	e.natives = append(e.natives, clone(id))
	e.output = respAppendJSON(e.output, viewBytes(item))
	e.items++
	e.added("")
	e.itemDone()
}

// deltas prepares the delta events of the open part.
func (e *respEncoder) deltas(typ, index, end string) {
	switch typ {
	case "response.output_text.delta":
		e.head = "event: response.output_text.delta\ndata: {\"type\":\"response.output_text.delta\",\"sequence_number\":"
	case "response.refusal.delta":
		e.head = "event: response.refusal.delta\ndata: {\"type\":\"response.refusal.delta\",\"sequence_number\":"
	case "response.reasoning_summary_text.delta":
		e.head = "event: response.reasoning_summary_text.delta\ndata: {\"type\":\"response.reasoning_summary_text.delta\",\"sequence_number\":"
	case "response.custom_tool_call_input.delta":
		e.head = "event: response.custom_tool_call_input.delta\ndata: {\"type\":\"response.custom_tool_call_input.delta\",\"sequence_number\":"
	default:
		e.head = "event: response.function_call_arguments.delta\ndata: {\"type\":\"response.function_call_arguments.delta\",\"sequence_number\":"
	}
	e.mid = appendRespAt(e.mid[:0], e.id, e.items-1, index, e.parts)
	e.mid = append(e.mid, `,"delta":"`...)
	e.end = end
}

// openPart opens a content part of the open message, or a part of the summary.
func (e *respEncoder) openPart(kind respPartKind) {
	if e.parts > 0 {
		e.output = append(e.output, ',')
	}
	e.part, e.partOpen = kind, true
	e.partAt = len(e.output)
	e.annots, e.nannots, e.logprobs, e.shift = e.annots[:0], 0, e.logprobs[:0], 0
	event, index, rest := "response.content_part.added", "content_index", `"}`
	switch kind {
	case partText:
		e.output = append(e.output, `{"type":"output_text","text":"`...)
		rest = `","annotations":[],"logprobs":[]}`
		e.deltas("response.output_text.delta", index, `","logprobs":[]`)
	case partRefusal:
		e.output = append(e.output, `{"type":"refusal","refusal":"`...)
		e.deltas("response.refusal.delta", index, `"`)
	default:
		event, index = "response.reasoning_summary_part.added", "summary_index"
		e.output = append(e.output, `{"type":"summary_text","text":"`...)
		e.deltas("response.reasoning_summary_text.delta", index, `"`)
	}
	e.textAt, e.blockAt = len(e.output), len(e.output)
	if e.quiet {
		return
	}
	e.event(event)
	e.at(index)
	e.b = append(append(append(e.b, `,"part":`...), e.output[e.partAt:]...), rest...)
	e.over()
}

func (e *respEncoder) delta(ev *Event) {
	if e.skip || ev.Index != e.cur || e.open == openNone {
		return
	}
	if e.open == openReasoning && !e.partOpen {
		e.openPart(partSummary)
	}
	if ev.Replace {
		e.replace(ev)
		return
	}
	e.text(ev.Data, ev.Logprobs)
}

// text writes a delta event and keeps the text.
func (e *respEncoder) text(data, logprobs []byte) {
	if len(logprobs) > 0 && (!e.probable || e.part != partText) {
		if e.probable {
			e.s.Ledger.Note("logprobs") // of a refusal, which has no place for them
		}
		logprobs = nil
	}
	if e.quiet {
		e.output = jsonx.AppendEscaped(e.output, data)
		e.keepLogprobs(logprobs)
		return
	}
	b := append(e.b, e.head...)
	b = strconv.AppendInt(b, e.seq, 10)
	e.seq++
	b = append(b, e.mid...)
	from := len(b)
	b = jsonx.AppendEscaped(b, data)
	e.output = append(e.output, b[from:]...)
	if len(logprobs) > 2 && e.open == openMessage && e.part == partText {
		b = append(b, `","logprobs":`...)
		b = respAppendJSON(b, logprobs)
		e.keepLogprobs(logprobs)
	} else {
		b = append(b, e.end...)
	}
	e.b = append(b, "}\n\n"...)
}

// keepLogprobs adds the elements of an array to those of the part.
func (e *respEncoder) keepLogprobs(raw []byte) {
	if len(raw) <= 2 || raw[0] != '[' {
		return
	}
	if len(e.logprobs) > 0 {
		e.logprobs = append(e.logprobs, ',')
	}
	e.logprobs = respAppendJSON(e.logprobs, raw[1:len(raw)-1])
}

// replace takes a new version of a block's whole text. Nothing can be taken
// back: what the new version adds is written, a different one follows the old.
func (e *respEncoder) replace(ev *Event) {
	e.tmp = jsonx.AppendEscaped(e.tmp[:0], ev.Data)
	old := e.output[e.blockAt:]
	if bytes.HasPrefix(e.tmp, old) {
		// The same prefix of the escaped texts is the same prefix of the texts.
		skip, n := countEscaped(old), 0
		for n = 0; skip > 0 && n < len(ev.Data); skip-- {
			_, size := utf8.DecodeRune(ev.Data[n:])
			n += size
		}
		if n < len(ev.Data) {
			e.text(ev.Data[n:], ev.Logprobs)
		}
		return
	}
	e.s.Ledger.Note("replaced_text")
	if e.open == openCall {
		return // arguments cannot be said twice
	}
	e.text([]byte("\n\n"), nil)
	e.blockAt = len(e.output)
	e.text(ev.Data, ev.Logprobs)
}

func (e *respEncoder) annotation(ev *Event) {
	if e.skip || ev.Index != e.cur || !e.partOpen || e.part != partText {
		return
	}
	e.tmp = shiftAnnotation(e.tmp[:0], ev.Data, e.shift)
	if e.nannots > 0 {
		e.annots = append(e.annots, ',')
	}
	from := len(e.annots)
	e.annots = respAppendJSON(e.annots, e.tmp)
	if !e.quiet {
		e.event("response.output_text.annotation.added")
		e.at("content_index")
		e.b = append(e.b, `,"annotation_index":`...)
		e.b = strconv.AppendInt(e.b, int64(e.nannots), 10)
		e.b = append(append(e.b, `,"annotation":`...), e.annots[from:]...)
		e.over()
	}
	e.nannots++
}

func (e *respEncoder) blockEnd(ev *Event) {
	if ev.Index != e.cur {
		return
	}
	e.cur = -1
	if e.skip {
		e.skip = false
		return
	}
	if ev.Status != StatusComplete {
		e.status = ev.Status
	}
	switch e.open {
	case openReasoning:
		if ev.Opaque != "" {
			e.opaque = append(e.opaque[:0], ev.Opaque...)
		}
	case openCall:
		if e.part == partArguments && len(e.output) == e.textAt && e.status == StatusComplete {
			// A call without arguments: no client parses an empty text.
			e.text([]byte("{}"), nil)
		}
		e.closeItem()
	}
}

// closePart ends the open part.
func (e *respEncoder) closePart() {
	if !e.partOpen {
		return
	}
	text := len(e.output)
	if !e.quiet {
		index := "content_index"
		switch e.part {
		case partText:
			e.event("response.output_text.done")
			e.at(index)
			e.b = append(append(e.b, `,"text":"`...), e.output[e.textAt:text]...)
			e.b = append(append(append(e.b, `","logprobs":[`...), e.logprobs...), ']')
		case partRefusal:
			e.event("response.refusal.done")
			e.at(index)
			e.b = append(append(append(e.b, `,"refusal":"`...), e.output[e.textAt:text]...), '"')
		default:
			index = "summary_index"
			e.event("response.reasoning_summary_text.done")
			e.at(index)
			e.b = append(append(append(e.b, `,"text":"`...), e.output[e.textAt:text]...), '"')
		}
		e.over()
	}
	e.output = append(e.output, '"')
	event, index := "response.content_part.done", "content_index"
	switch e.part {
	case partText:
		e.output = append(append(e.output, `,"annotations":[`...), e.annots...)
		e.output = append(append(append(e.output, `],"logprobs":[`...), e.logprobs...), ']')
	case partRefusal:
	default:
		event, index = "response.reasoning_summary_part.done", "summary_index"
	}
	e.output = append(e.output, '}')
	if !e.quiet {
		e.event(event)
		e.at(index)
		e.b = append(append(e.b, `,"part":`...), e.output[e.partAt:]...)
		e.over()
	}
	e.partOpen = false
	e.parts++
}

// closeItem ends the open item.
func (e *respEncoder) closeItem() {
	status := "completed"
	if e.status != StatusComplete {
		status = "incomplete"
	}
	switch e.open {
	case openNone:
		return
	case openMessage:
		e.closePart()
		e.output = append(append(append(e.output, `],"status":"`...), status...), `"}`...)
	case openReasoning:
		e.closePart()
		e.output = append(e.output, ']')
		if len(e.opaque) > 0 && e.wantsOpaque() {
			e.output = append(e.output, `,"encrypted_content":`...)
			e.output = jsonx.AppendString(e.output, e.opaque)
		} else if len(e.opaque) > 0 && e.s.Keep != nil {
			e.secrets = append(e.secrets, edit{len(e.output), len(e.output), `,"encrypted_content":` + string(jsonx.AppendString(nil, e.opaque))})
		}
		e.output = append(e.output, '}')
	case openCall:
		if !e.quiet {
			text := e.output[e.textAt:]
			if e.part == partArguments {
				e.event("response.function_call_arguments.done")
				e.at("")
				e.b = append(append(e.b, `,"name":`...), e.name...)
				e.b = append(append(e.b, `,"arguments":"`...), text...)
			} else {
				e.event("response.custom_tool_call_input.done")
				e.at("")
				e.b = append(append(e.b, `,"input":"`...), text...)
			}
			e.b = append(e.b, '"')
			e.over()
		}
		e.output = append(append(append(e.output, `","status":"`...), status...), `"}`...)
	}
	e.open = openNone
	e.itemDone()
}

// wantsOpaque reports whether the client asked for encrypted reasoning.
func (e *respEncoder) wantsOpaque() bool {
	if e.s.Request == nil {
		return false
	}
	_, ok := e.s.Request.Setting(ParamIncludeEncrypted)
	return ok
}

func (e *respEncoder) itemDone() {
	if e.quiet {
		return
	}
	e.event("response.output_item.done")
	e.b = append(e.b, `,"output_index":`...)
	e.b = strconv.AppendInt(e.b, int64(e.items-1), 10)
	e.b = append(append(e.b, `,"item":`...), e.output[e.itemAt:]...)
	e.over()
}

// respOutcome is the status of an answer that ended so, and the reason if it is
// incomplete. The API has no terminal event for a cancelled answer: it is an
// incomplete one, for it is neither whole nor the fault of anybody.
func respOutcome(r FinishReason) (status, reason string) {
	switch r {
	case FinishLength:
		return "incomplete", "max_output_tokens"
	case FinishContentFilter:
		return "incomplete", "content_filter"
	case FinishCancelled:
		return "incomplete", "cancelled"
	}
	return "completed", ""
}

func (e *respEncoder) finish(ev *Event) {
	e.start()
	status, reason := respOutcome(ev.Reason)
	switch ev.Reason {
	case FinishPause, FinishInputRequired, FinishOther:
		e.s.Ledger.Note("finish_reason")
	}
	if reason != "" && e.open != openNone {
		e.status = StatusIncomplete // it is the last item that was cut short
	}
	e.closeItem()
	e.ended = true
	if ev.Tier != "" {
		e.object.tier = jsonx.AppendStringS(nil, ev.Tier)
	}
	if e.object.store {
		e.object.store = e.save(status, reason)
	}
	if e.quiet {
		e.b = e.appendObject(e.b, status, reason)
		return
	}
	if status == "completed" {
		e.event("response.completed")
	} else {
		e.event("response.incomplete")
	}
	e.b = append(e.b, `,"response":`...)
	e.b = e.appendObject(e.b, status, reason)
	e.over()
	e.b = append(e.b, respDone...)
}

// respDone is the last frame: the vendor does not send it, Open Responses
// demands it, and every client lets it pass.
const respDone = "data: [DONE]\n\n"

func (e *respEncoder) appendObject(dst []byte, status, reason string) []byte {
	return e.object.append(dst, status, e.completed(status), nil, reason, e.output, e.usage)
}

// completed is when the answer was whole, 0 if it is not; it does not change.
func (e *respEncoder) completed(status string) int64 {
	if status == "completed" && e.completedAt == 0 {
		e.completedAt = e.created
		if e.s.Now != nil {
			e.completedAt = max(e.created, e.s.Now().Unix())
		}
	}
	return e.completedAt
}

// save has the whole answer kept, and reports whether it was.
func (e *respEncoder) save(status, reason string) bool {
	output := e.output
	if len(e.secrets) > 0 {
		s := splice{body: viewString(e.output), edits: e.secrets}
		output = s.append(nil)
	}
	return e.s.Keep.Save(&Kept{
		Status: status, Output: output,
		Object: e.object.append(nil, status, e.completed(status), nil, reason, nil, e.usage),
	})
}

// fail tells a failure: the error event, nested as the vendor's server sends
// it, then response.failed. What was said until then is ended as incomplete; a
// call whose arguments are not whole is not announced as done, for a client
// might run it.
func (e *respEncoder) fail(err *Error) {
	e.start()
	if e.open == openCall {
		e.output = e.output[:max(e.itemAt-1, 0)]
		e.open = openNone
	} else if e.open != openNone {
		e.status = StatusFailed
		e.closeItem()
	}
	e.ended = true
	if e.quiet {
		return
	}
	e.object.store = e.s != nil && e.s.Keep != nil && e.s.Keep.Background
	e.event("error")
	e.b = append(e.b, `,"error":`...)
	e.b = appendErrorObject(e.b, err)
	e.over()
	e.event("response.failed")
	e.b = append(e.b, `,"response":`...)
	e.b = e.object.append(e.b, "failed", 0, err, "", e.output, e.usage)
	e.over()
	e.b = append(e.b, respDone...)
}

// appendRespAnswer writes a JSON answer: the items are those that a stream of
// the same blocks would have had.
func appendRespAnswer(dst []byte, s *Setup, f *Fold) []byte {
	e := newRespEncoder(s)
	e.quiet = true
	e.usage = f.Usage
	ev := Event{Kind: EventStart, Created: f.Created}
	dst = e.Encode(dst, &ev)
	index := 0
	f.Each(func(m *FoldMessage, b FoldBlock) {
		ev = Event{Kind: EventBlockStart, Index: index, Block: b.Block, Msg: m.Msg, Part: b.Part, Author: m.Author, Phase: m.Phase}
		dst = e.Encode(dst, &ev)
		if b.Text != "" {
			ev = Event{Kind: EventBlockDelta, Index: index, Data: viewBytes(b.Text), Logprobs: viewBytes(b.Logprobs)}
			dst = e.Encode(dst, &ev)
		}
		for _, a := range b.Annotations {
			ev = Event{Kind: EventAnnotation, Index: index, Data: viewBytes(a)}
			dst = e.Encode(dst, &ev)
		}
		ev = Event{Kind: EventBlockEnd, Index: index, Status: b.Status, Opaque: b.Opaque}
		dst = e.Encode(dst, &ev)
		index++
	})
	ev = Event{Kind: EventFinish, Reason: f.Reason, Tier: f.Tier}
	return e.Encode(dst, &ev)
}

// appendRespFailure ends a stream that was passed through and cut: the next
// events that the client could have got.
func appendRespFailure(dst []byte, err *Error, t *Tap) []byte {
	echo := respEchoOf(t.Request)
	if k := t.Keep; k != nil {
		echo.previous, echo.conversation, echo.background = k.Previous, k.Conversation, k.Background
		if !k.Native {
			t.ID = k.ID
		}
	}
	e := respEncoder{
		b: dst, started: true, seq: t.Seq + 1, usage: NoUsage(),
		object: newRespSkeleton(firstOf(t.ID, "resp_unknown"), t.Model, t.Created, &echo),
	}
	e.fail(err)
	return e.b
}
