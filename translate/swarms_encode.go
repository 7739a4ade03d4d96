package translate

import (
	"time"

	"github.com/dragoman-proxy/dragoman/internal/jsonx"
	"github.com/dragoman-proxy/dragoman/internal/sse"
)

// NewEncoder implements Face.
func (swarmsFace) NewEncoder(s *Setup) Encoder {
	return &swarmsEncoder{setup: s, usage: NoUsage(), msg: -1}
}

// swarmsEncoder writes a stream: a metadata frame, start, chunks, usage, end,
// done. Blocks reach it one after another.
type swarmsEncoder struct {
	setup *Setup
	stamp swarmsStamp
	usage Usage

	call    bool // the open block is a tool call
	id      []byte
	name    []byte
	args    []byte
	author  []byte // who speaks, escaped; empty if the only one
	msg     int    // that spoke last, -1 if none
	said    bool   // there was text
	parting bool   // a blank line is due before the next text
	sent    bool   // something of the open block went out
}

// The fixed parts of the frames, with the spaces that Python's json.dumps sets.
const (
	swarmsChunk  = "event: chunk\ndata: {"
	swarmsStart  = "event: start\ndata: {\"message\": \"Starting agent processing...\"}\n\n"
	swarmsDone   = "event: done\ndata: {\"message\": \"Agent processing complete\"}\n\n"
	swarmsClosed = "}\n\n"
)

// Encode implements Encoder.
func (c *swarmsEncoder) Encode(dst []byte, e *Event) []byte {
	switch e.Kind {
	case EventStart:
		return c.metadata(dst)
	case EventBlockStart:
		return c.begin(dst, e)
	case EventBlockDelta:
		return c.delta(dst, e)
	case EventAnnotation:
		c.setup.Ledger.Note("annotations")
	case EventBlockEnd:
		if c.call {
			dst = c.toolCall(dst, e)
		}
		c.call = false
	case EventUsage:
		c.usage.Merge(e.Usage)
	case EventFinish:
		return c.finish(dst, e)
	case EventFail:
		dst = c.hush(dst)
		dst = appendSwarmsError(dst, e.Err)
		return c.close(dst)
	case EventPing:
		return sse.AppendComment(dst, "ping")
	}
	return dst
}

func (c *swarmsEncoder) metadata(dst []byte) []byte {
	name, description, temperature := swarmsIdentity(c.setup)
	dst = append(dst, `data: {"job_id": "`...)
	dst = c.setup.AppendID(dst, "agent-", -1)
	dst = append(dst, `", "success": true, "name": `...)
	dst = jsonx.AppendStringS(dst, name)
	dst = append(append(dst, `, "description": `...), description...)
	dst = append(append(dst, `, "temperature": `...), temperature...)
	dst = append(dst, `, "timestamp": "`...)
	dst = c.stamp.append(dst, c.setup.Now())
	dst = append(dst, "+00:00\", \"stream\": true, \"type\": \"metadata\"}\n\n"...)
	return append(dst, swarmsStart...)
}

// begin notes the block that opens, and tells a change of speakers in the
// words that the vendor has for swarms.
func (c *swarmsEncoder) begin(dst []byte, e *Event) []byte {
	c.sent = false
	if e.Block.Type == BlockToolCall {
		c.call = true
		c.id = jsonx.AppendString(c.id[:0], viewBytes(e.Block.CallID))
		c.name = jsonx.AppendString(c.name[:0], viewBytes(e.Block.Name))
		c.args = c.args[:0]
		return dst
	}
	if e.Msg == c.msg {
		return dst
	}
	c.msg = e.Msg
	c.parting = c.said
	dst = c.hush(dst)
	if e.Author != "" {
		c.author = jsonx.AppendString(c.author, viewBytes(e.Author))
		dst = append(dst, "event: agent_start\ndata: {\"agent\": "...)
		dst = append(append(dst, c.author...), swarmsClosed...)
	}
	return dst
}

// hush tells that the named speaker is done.
func (c *swarmsEncoder) hush(dst []byte) []byte {
	if len(c.author) > 0 {
		dst = append(dst, "event: agent_end\ndata: {\"agent\": "...)
		dst = append(append(dst, c.author...), swarmsClosed...)
		c.author = c.author[:0]
	}
	return dst
}

func (c *swarmsEncoder) delta(dst []byte, e *Event) []byte {
	if c.call {
		if e.Replace {
			c.args = c.args[:0]
		}
		c.args = append(c.args, e.Data...)
		return dst
	}
	if len(e.Logprobs) > 2 {
		c.setup.Ledger.Note("logprobs")
	}
	switch {
	case e.Replace && c.sent: // it cannot be taken back
		c.setup.Ledger.Note("replaced_text")
		return dst
	case len(e.Data) == 0:
		return dst
	}
	c.sent = true
	dst = append(dst, swarmsChunk...)
	if len(c.author) > 0 {
		dst = append(dst, `"agent": `...)
		dst = append(append(dst, c.author...), ", "...)
	}
	dst = append(dst, `"content": "`...)
	if c.parting {
		dst = append(dst, `\n\n`...)
		c.parting = false
	}
	c.said = true
	dst = jsonx.AppendEscaped(dst, e.Data)
	dst = append(dst, '"')
	return c.close(dst)
}

// close writes the timestamp, which comes last in most events, and ends the
// frame.
func (c *swarmsEncoder) close(dst []byte) []byte {
	dst = append(dst, `, "timestamp": "`...)
	dst = c.stamp.append(dst, c.setup.Now())
	return append(dst, "+00:00\"}\n\n"...)
}

// toolCall writes a call that the client has to run. The vendor's stream has no
// event for it; this one, which readers that do not know it skip, holds the list
// that a JSON answer has as an entry's content. A call that was cut off in its
// arguments is not the client's to run.
func (c *swarmsEncoder) toolCall(dst []byte, e *Event) []byte {
	if e.Status != StatusComplete {
		c.setup.Ledger.Note("tool_calls")
		return dst
	}
	dst = append(dst, "event: tool_calls\ndata: {\"tool_calls\": [{\"function\": {\"arguments\": "...)
	args := c.args
	if len(args) == 0 {
		args = noArguments
	}
	dst = jsonx.AppendString(dst, args)
	dst = append(append(dst, `, "name": `...), c.name...)
	dst = append(append(dst, `}, "id": `...), c.id...)
	dst = append(dst, `, "type": "function"}]`...)
	return c.close(dst)
}

func (c *swarmsEncoder) finish(dst []byte, e *Event) []byte {
	noteSwarmsFinish(c.setup, e.Reason)
	dst = c.hush(dst)
	if c.usage.Known() {
		dst = append(dst, "event: usage\ndata: "...)
		dst = appendSwarmsUsage(dst, c.setup, c.usage, " ")
		dst = append(dst, "\n\n"...)
	}
	dst = append(dst, "event: end\ndata: {\"job_id\": \""...)
	dst = c.setup.AppendID(dst, "agent-", -1)
	dst = append(dst, `", "usage": `...)
	if c.usage.Known() {
		dst = appendSwarmsUsage(dst, c.setup, c.usage, " ")
	} else {
		dst = append(dst, "null"...)
	}
	dst = append(dst, `, "timestamp": "`...)
	dst = c.stamp.append(dst, c.setup.Now())
	dst = append(dst, "+00:00\", \"complete\": true}\n\n"...)
	return append(dst, swarmsDone...)
}

// noteSwarmsFinish notes a reason that the protocol has no word for: it knows
// complete answers only.
func noteSwarmsFinish(s *Setup, reason FinishReason) {
	if reason != FinishStop && reason != FinishToolCalls {
		s.Ledger.Note("finish_reason")
	}
}

// swarmsStamp writes timestamps, formatting each second once.
type swarmsStamp struct {
	second int64
	text   [20]byte // 2006-01-02T15:04:05.
}

func (s *swarmsStamp) append(dst []byte, t time.Time) []byte {
	if u := t.Unix(); u != s.second || s.text[0] == 0 {
		s.second = u
		t.UTC().AppendFormat(s.text[:0], "2006-01-02T15:04:05.")
	}
	micros := t.Nanosecond() / 1000
	var digits [6]byte
	for i := 5; i >= 0; i-- {
		digits[i] = byte('0' + micros%10)
		micros /= 10
	}
	return append(append(dst, s.text[:]...), digits[:]...)
}

// AppendAnswer implements Face.
func (swarmsFace) AppendAnswer(dst []byte, s *Setup, f *Fold) []byte {
	noteSwarmsFinish(s, f.Reason)
	name, description, temperature := swarmsIdentity(s)
	now := appendSwarmsTime(nil, s.Now())
	dst = append(dst, `{"job_id":"`...)
	dst = s.AppendID(dst, "agent-", -1)
	dst = append(dst, `","success":true,"name":`...)
	dst = jsonx.AppendStringS(dst, name)
	dst = append(append(dst, `,"description":`...), description...)
	dst = append(append(dst, `,"temperature":`...), temperature...)
	dst = append(dst, `,"outputs":[`...)
	w := swarmsOutputs{dst: dst, seed: s.Seed, now: now}
	for i := range f.Messages {
		m := &f.Messages[i]
		w.role = firstOf(m.Author, name)
		for _, b := range m.Blocks {
			switch b.Type {
			case BlockText:
				if len(b.Annotations) > 0 {
					s.Ledger.Note("annotations")
				}
				if b.Logprobs != "" {
					s.Ledger.Note("logprobs")
				}
				w.say(b.Text)
			case BlockToolCall:
				if b.Status != StatusComplete {
					s.Ledger.Note("tool_calls")
					continue
				}
				w.call(b.Block)
			}
		}
		w.close()
	}
	if w.n == 0 { // clients read the content of the last entry
		w.role = name
		w.open('"')
		w.close()
	}
	dst = append(w.dst, `],"usage":`...)
	if f.Usage.Known() {
		dst = appendSwarmsUsage(dst, s, f.Usage, "")
	} else {
		dst = append(dst, "null"...)
	}
	dst = append(dst, `,"timestamp":"`...)
	dst = append(dst, now...)
	return append(dst, `+00:00"}`...)
}

// swarmsOutputs writes the entries of outputs: one for the text of a message,
// one for calls that stand together.
type swarmsOutputs struct {
	dst  []byte
	seed string
	now  []byte
	role string
	n    int
	kind byte // of the open entry: '"' text, '[' calls, 0 none
}

func (w *swarmsOutputs) open(kind byte) {
	w.close()
	if w.n > 0 {
		w.dst = append(w.dst, ',')
	}
	w.dst = append(w.dst, `{"role":`...)
	w.dst = jsonx.AppendStringS(w.dst, w.role)
	w.dst = append(append(w.dst, `,"content":`...), kind)
	w.kind = kind
}

func (w *swarmsOutputs) close() {
	if w.kind == 0 {
		return
	}
	w.dst = append(w.dst, w.kind)
	if w.kind == '[' {
		w.dst[len(w.dst)-1] = ']'
	}
	w.dst = append(append(w.dst, `,"timestamp":"`...), w.now...)
	w.dst = append(w.dst, `","message_id":"`...)
	w.dst = append(appendSwarmsUUID(w.dst, w.seed, w.n), `"}`...)
	w.n++
	w.kind = 0
}

func (w *swarmsOutputs) say(text string) {
	if text == "" {
		return
	}
	if w.kind != '"' {
		w.open('"')
	}
	w.dst = jsonx.AppendEscaped(w.dst, viewBytes(text))
}

func (w *swarmsOutputs) call(b *Block) {
	if w.kind == '[' {
		w.dst = append(w.dst, ',')
	} else {
		w.open('[')
	}
	w.dst = append(w.dst, `{"function":{"arguments":`...)
	w.dst = jsonx.AppendStringS(w.dst, firstOf(b.Text, "{}"))
	w.dst = append(w.dst, `,"name":`...)
	w.dst = jsonx.AppendStringS(w.dst, b.Name)
	w.dst = append(w.dst, `},"id":`...)
	w.dst = jsonx.AppendStringS(w.dst, b.CallID)
	w.dst = append(w.dst, `,"type":"function"}`...)
}
