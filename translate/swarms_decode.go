package translate

import (
	"errors"
	"strconv"
	"strings"
	"time"

	"github.com/tidwall/gjson"

	"github.com/dragoman-proxy/dragoman/internal/jsonx"
	"github.com/dragoman-proxy/dragoman/internal/sse"
)

// NewDecoder implements Backend.
func (swarmsBackend) NewDecoder(s *Setup) Decoder {
	d := &swarmsDecoder{setup: s, usage: NoUsage(), text: Block{Type: BlockText}}
	if s.Request != nil {
		for i := range s.Request.Tools {
			d.tools = d.tools || s.Request.Tools[i].Kind != ToolBuiltin
		}
	}
	return d
}

var (
	errSwarmsShape = errors.New("a Swarms answer must be an object with outputs")
	errSwarmsHeld  = errors.New("the tool calls of the answer are too many, or exceed 16 MiB")
)

// swarmsDecoder reads one answer. A stream says who speaks only in the events
// of swarms; there every speaker has a message of his own, and they may
// interleave.
type swarmsDecoder struct {
	setup *Setup
	dec   jsonx.Dec
	frame swarmsFrame
	event Event // of deltas
	text  Block // what a text block starts with
	tools bool  // the client offers some

	started   bool
	finishing bool
	ended     bool
	called    bool // a call of the client's went out
	refused   bool // end said that the answer is not complete

	id       string
	created  int64
	agents   int // that the metadata announced
	speakers []swarmsSpeaker
	calls    []swarmsCall
	byID     map[string]int // the latest of those of one id
	settled  int            // calls before it ran
	due      int            // calls before it have results
	held     int            // bytes of calls that may be the client's
	blocks   int            // indexes used
	msgs     int            // ordinals used
	part     int            // of the call told last, plus one
	usage    Usage
	joined   []byte // scratch
}

// swarmsFrame is what one frame says, as far as the steady state needs it.
type swarmsFrame struct {
	content []byte // text of a chunk, nil if it is none
	lead    rune   // the low surrogate that the content begins with
	tail    rune   // the high surrogate that it ends with
	value   []byte // raw content or output that is not a text
	agent   []byte
	role    []byte
	callID  []byte
	kind    []byte // "type"
	message []byte
	status  []byte
	refused bool // "success": false
	failed  bool // an error that is not null
	counts  bool // there are token counts
	ends    bool // complete or execution_time is there
}

// Finishing implements Decoder.
func (d *swarmsDecoder) Finishing() bool { return d.finishing || d.ended }

// Frame implements Decoder.
func (d *swarmsDecoder) Frame(f *sse.Frame, out Sink) {
	if d.ended {
		return
	}
	if f.Data == nil && f.Event == nil {
		if len(f.Raw) > 0 && f.Raw[0] == ':' {
			out.Event(&Event{Kind: EventPing})
		}
		return
	}
	if err := d.parse(f.Data); err != nil {
		d.malformed(f, err, out)
		return
	}
	if d.frame.refused || d.frame.failed && swarmsIsFault(gjson.Get(viewString(f.Data), "error")) {
		d.failed(f.Data, out)
		return
	}
	switch string(f.Event) {
	case "chunk", "tool_calls": // the latter is our own face's
		d.chunk(out)
	case "metadata":
		d.metadata(f.Data, out)
	case "usage":
		d.tokens(gjson.Parse(viewString(f.Data)), out)
	case "end":
		d.end(f.Data, out)
	case "done":
		d.done(out)
	case "error":
		d.failed(f.Data, out)
	case "agent_start":
		d.agentStart(out)
	case "agent_end":
		d.agentEnd(out)
	case "start":
	case "", "message":
		d.unnamed(f.Data, out)
	default:
		d.native(f, out)
	}
}

// parse reads the members that matter into d.frame.
func (d *swarmsDecoder) parse(data []byte) error {
	d.frame = swarmsFrame{}
	fr := &d.frame
	d.dec.Reset(data)
	if d.dec.Kind() == jsonx.String { // a bare text
		fr.content, _ = d.dec.Str()
		return d.dec.End()
	}
	if d.dec.Object() {
		for k, ok := d.dec.Key(); ok; k, ok = d.dec.Key() {
			switch string(k) {
			case "content":
				if d.dec.Kind() == jsonx.String {
					from := d.dec.Offset()
					fr.content, _ = d.dec.Str()
					fr.halves(data[from:d.dec.Offset()])
				} else if d.dec.Kind() != jsonx.Null {
					fr.value = d.dec.Raw()
				}
			case "output", "outputs", "tool_calls":
				if d.dec.Kind() != jsonx.Null {
					fr.value = d.dec.Raw()
				}
			case "agent":
				fr.agent, _ = d.dec.Str()
			case "role":
				fr.role, _ = d.dec.Str()
			case "tool_call_id":
				fr.callID, _ = d.dec.Str()
			case "type":
				fr.kind, _ = d.dec.Str()
			case "message":
				fr.message, _ = d.dec.Str()
			case "status":
				fr.status, _ = d.dec.Str()
			case "success":
				v, isBool := d.dec.Bool()
				fr.refused = isBool && !v
			case "error":
				fr.failed = d.dec.Kind() != jsonx.Null
			case "input_tokens", "output_tokens", "total_tokens", "tokens_used":
				fr.counts = true
			case "complete", "execution_time":
				fr.ends = true
			}
		}
	}
	return d.dec.End()
}

// halves finds the halves of a surrogate pair at the ends of the content, whose
// JSON string is raw: servers that cut their text into UTF-16 units split such
// pairs over two chunks. Decoded by itself a half is U+FFFD.
func (fr *swarmsFrame) halves(raw []byte) {
	const lost, half = "\uFFFD", len(`\uD83D`)
	n := len(fr.content)
	if n < len(lost) || len(raw) < half+2 {
		return
	}
	if string(fr.content[n-len(lost):]) == lost {
		if r := swarmsUnit(raw[len(raw)-1-half:]); r >= 0xD800 && r < 0xDC00 {
			fr.tail = r
		}
	}
	if string(fr.content[:len(lost)]) == lost {
		if r := swarmsUnit(raw[1:]); r >= 0xDC00 && r < 0xE000 {
			fr.lead = r
		}
	}
}

// swarmsUnit is the UTF-16 unit of the escape that b begins with, 0 if it does
// not.
func swarmsUnit(b []byte) rune {
	if b[0] != '\\' || b[1] != 'u' {
		return 0
	}
	n, err := strconv.ParseUint(string(b[2:6]), 16, 16)
	if err != nil {
		return 0
	}
	return rune(n)
}

// malformed takes a frame whose data is no JSON: where nothing depends on what
// it says, only its name counts.
func (d *swarmsDecoder) malformed(f *sse.Frame, err error, out Sink) {
	switch name := string(f.Event); {
	case name == "error":
		d.fail(InBand(0, "", string(f.Data)), out)
	case name == "done", string(f.Data) == "[DONE]":
		d.done(out)
	case name == "end" && len(f.Data) == 0:
		d.finishing = true
	case name == "start", name == "agent_start", name == "agent_end", len(f.Data) == 0:
	default:
		d.fail(Unreadable(err), out)
	}
}

// unnamed takes a frame without an event line: the current servers' metadata,
// and every frame of a stream that lost its event lines on the way.
func (d *swarmsDecoder) unnamed(data []byte, out Sink) {
	fr := &d.frame
	switch {
	case string(fr.kind) == "metadata":
		d.metadata(data, out)
	case fr.content != nil || fr.value != nil:
		d.chunk(out)
	case fr.ends:
		d.end(data, out)
	case fr.counts:
		d.tokens(gjson.Parse(viewString(data)), out)
	case swarmsSaysDone(fr.message) || string(fr.status) == "finished":
		d.done(out)
	case fr.agent != nil: // agent_start, to which it is nothing, or agent_end
		d.hush(fr.agent, out)
	}
}

// swarmsSaysDone knows the message of the last event.
func swarmsSaysDone(message []byte) bool {
	return strings.Contains(viewString(message), "complete")
}

func (d *swarmsDecoder) native(f *sse.Frame, out Sink) {
	d.start(out)
	out.Event(&Event{Kind: EventNative, Name: viewString(f.Event), Data: f.Data})
}

func (d *swarmsDecoder) metadata(data []byte, out Sink) {
	doc := gjson.Parse(viewString(data))
	d.identify(doc)
	if n := doc.Get("number_of_agents"); n.Type == gjson.Number {
		d.agents = int(n.Int())
	}
	d.start(out)
}

// identify takes what an answer says of itself: job_id, which before August
// 2025 was id.
func (d *swarmsDecoder) identify(doc gjson.Result) {
	if d.started {
		return
	}
	for _, key := range [...]string{"job_id", "id"} {
		if v := doc.Get(key); v.Type == gjson.String && d.id == "" {
			d.id = clone(v.String())
		}
	}
	if stamp := doc.Get("timestamp"); stamp.Type == gjson.String {
		if t, err := time.Parse(time.RFC3339Nano, stamp.String()); err == nil {
			d.created = max(t.Unix(), 0)
		}
	}
}

func (d *swarmsDecoder) start(out Sink) {
	if d.started {
		return
	}
	d.started = true
	out.Event(&Event{Kind: EventStart, ID: d.id, Created: d.created})
}

// chunk takes a piece of what is said.
func (d *swarmsDecoder) chunk(out Sink) {
	fr := &d.frame
	switch {
	case fr.callID != nil || fr.role != nil && swarmsIsTool(viewString(fr.role)):
		text := viewString(fr.content)
		if fr.content == nil {
			text = swarmsContent(gjson.Parse(viewString(fr.value)))
		}
		d.start(out)
		d.result(viewString(fr.callID), text, viewString(fr.agent), out)
	case len(fr.content) > 0:
		d.say(fr.agent, fr.content, out)
	case fr.value != nil:
		d.value(fr.agent, gjson.Parse(viewString(fr.value)), out)
	}
}

// value takes a chunk whose content is not a text: tool calls, or the entries
// that older swarms sent whole.
func (d *swarmsDecoder) value(agent []byte, v gjson.Result, out Sink) {
	if calls, ok := swarmsCalls(v); ok {
		d.start(out)
		d.hush(agent, out)
		d.hold(calls, string(agent), out)
		return
	}
	if !swarmsIsEntries(v) {
		if text := swarmsContent(v); text != "" {
			d.say(agent, viewBytes(text), out)
		}
		return
	}
	v.ForEach(func(_, entry gjson.Result) bool {
		name := entry.Get("role").String()
		content := entry.Get("content")
		calls, isCalls := swarmsCalls(content)
		for i := range calls { // a text only where the client's tools are called
			isCalls = isCalls && (content.Type != gjson.String || d.offered(calls[i].name))
		}
		switch {
		case d.ended || swarmsIsPrompt(name):
		case swarmsIsTool(name) || entry.Get("tool_call_id").Exists():
			d.start(out)
			d.result(entry.Get("tool_call_id").String(), swarmsContent(content), "", out)
		case isCalls:
			d.start(out)
			d.hold(calls, name, out)
		default:
			if text := swarmsContent(content); text != "" {
				d.say(viewBytes(name), viewBytes(text), out)
				d.hush(viewBytes(name), out)
			}
		}
		return true
	})
}

// tokens takes the counts of a usage object: the current names, and the one
// total of 2025.
func (d *swarmsDecoder) tokens(v gjson.Result, out Sink) {
	u := NoUsage()
	for _, m := range [...]struct {
		key string
		to  *int64
	}{{"input_tokens", &u.Input}, {"output_tokens", &u.Output}, {"tokens_used", &u.Total}, {"total_tokens", &u.Total}} {
		if n, ok := swarmsInt(v.Get(m.key)); ok && n >= 0 {
			*m.to = n
		}
	}
	d.costs(v)
	was := d.usage
	d.usage.Merge(u)
	if d.usage != was {
		d.start(out)
		out.Event(&Event{Kind: EventUsage, Usage: d.usage})
	}
}

// costs takes what an answer cost: img_cost and total_cost, in 2025 cost, in swarms
// billing_info.total_cost. Only clients of this protocol can be told.
func (d *swarmsDecoder) costs(v gjson.Result) {
	s := d.setup
	for _, m := range [...]struct {
		key string
		to  *string
	}{{"img_cost", &s.costs[0]}, {"total_cost", &s.costs[1]}, {"cost", &s.costs[1]}, {"billing_info.total_cost", &s.costs[1]}} {
		c := v.Get(m.key)
		if c.Type != gjson.Number {
			continue
		}
		*m.to = clone(c.Raw)
		if c.Num != 0 && s.Ledger != nil && (s.Request == nil || s.Request.Face != &swarmsProtocol) {
			s.Ledger.Note("usage." + m.key)
		}
	}
}

// end takes the event that completes the answer; done, or the end of the
// stream, follows it.
func (d *swarmsDecoder) end(data []byte, out Sink) {
	doc := gjson.Parse(viewString(data))
	d.identify(doc)
	if swarmsFailedStatus(doc.Get("status").String()) {
		d.failed(data, out)
		return
	}
	if u := doc.Get("usage"); u.IsObject() {
		d.tokens(u, out)
	}
	d.refused = doc.Get("complete").Type == gjson.False
	d.finishing = !d.refused
}

func swarmsFailedStatus(status string) bool {
	return strings.EqualFold(status, "error") || strings.EqualFold(status, "failed") || strings.EqualFold(status, "failure")
}

func (d *swarmsDecoder) done(out Sink) {
	switch {
	case swarmsFailedStatus(viewString(d.frame.status)):
		d.fail(InBand(0, "", viewString(d.frame.message)), out)
	case d.refused:
		d.fail(InBand(0, "", "The agent did not complete its answer."), out)
	default:
		d.finish(out)
	}
}

// finish closes what is open and hands the client its calls.
func (d *swarmsDecoder) finish(out Sink) {
	d.start(out)
	for i := range d.speakers {
		s := &d.speakers[i]
		d.settleText(s, out)
		if s.open {
			d.close(s, out)
		}
	}
	if d.ended { // the calls were too many
		return
	}
	msg := -1
	for i := range d.calls {
		if c := &d.calls[i]; c.held {
			msg = d.tell(c, false, msg, out)
		}
	}
	d.ended = true
	e := Event{Kind: EventFinish}
	if d.called {
		e.Reason = FinishToolCalls
	}
	out.Event(&e)
}

func (d *swarmsDecoder) fail(err *Error, out Sink) {
	if d.ended {
		return
	}
	for i := range d.speakers { // half a call is nobody's to run
		if s := &d.speakers[i]; len(s.pending) > 0 {
			d.clear(s, out)
		}
	}
	d.ended = true
	out.Event(&Event{Kind: EventFail, Err: err})
}

// failed reports the error that an event or a body tells. A status in it counts as
// an HTTP status does: the premium gate writes one, and servers of 2025 told their
// own refusals as "400: Agent name is required".
func (d *swarmsDecoder) failed(data []byte, out Sink) {
	body := ParseErrorBody("application/json", data)
	status, message := innerStatus(body.Message)
	if n, ok := swarmsInt(gjson.Get(viewString(data), "error.status_code")); ok && n >= 400 && n < 600 {
		status = int(n)
	}
	err := InBand(status, body.Code, message)
	if ran := gjson.Get(viewString(data), "outputs"); ran.Exists() && !swarmsAbsent(ran) && !swarmsEmpty(ran) {
		err.NoRetry = true // whatever it invites to, there are words
	}
	d.fail(err, out)
}

// swarmsIsFault reports whether the member error tells one.
func swarmsIsFault(v gjson.Result) bool {
	return !swarmsAbsent(v) && v.Type != gjson.False && !swarmsEmpty(v)
}

// End implements Decoder.
func (d *swarmsDecoder) End(cause *Error, out Sink) {
	switch {
	case d.ended:
	case d.finishing:
		d.finish(out)
	case cause != nil:
		d.fail(cause, out)
	default:
		d.fail(Truncated(nil), out)
	}
}
