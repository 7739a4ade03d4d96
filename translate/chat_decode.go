package translate

import (
	"bytes"
	"errors"
	"math"
	"strconv"
	"unicode/utf16"
	"unicode/utf8"

	"github.com/tidwall/gjson"

	"github.com/dragoman-proxy/dragoman/internal/jsonx"
	"github.com/dragoman-proxy/dragoman/internal/sse"
)

const (
	// maxCalls is how many tool calls one answer may hold; no model comes near
	// it, and every delta looks for its call.
	maxCalls = 1024
	// maxHeldArguments is how many bytes of a call's arguments wait for its id.
	maxHeldArguments = 1 << 20
)

var (
	errNoChoices    = errors.New("the completion has no choices")
	errNamelessCall = errors.New("a tool call has no name")
	errManyCalls    = errors.New("the answer has too many tool calls")
)

// completionDecoder reads chat completions: chunks of a stream, or a whole one.
// It takes what is in the field, not only what OpenAI sends. A chat answer is
// one message, whatever it holds: every block has Msg 0.
type completionDecoder struct {
	s    *Setup
	dec  jsonx.Dec
	doc  []byte // what dec reads
	c    chunk
	like chunkShape

	strict     bool // finish_reason is insisted on
	hideUsage  bool // the usage chunk was asked for by us, not by the client
	drop       bool // the frame just decoded is that chunk
	started    bool
	finished   bool // a finish_reason was seen
	ended      bool // Finish or Fail went out
	reason     FinishReason
	word       string
	tier       string // service_tier, if it is not the default one
	usage      Usage
	said       [numBlockTypes]bool
	others     [128]uint8 // states of the other choices; OpenAI allows 128
	next       int        // index of the next block
	cur        int        // the open text, reasoning or refusal block, -1 if none
	curType    BlockType  // its type
	half       uint16     // a high surrogate at its end, waiting for the low one
	runes      int        // code points of all text
	blockRunes int        // code points of text before the block

	calls   []completionCall
	pending int // the first call that is not open yet

	ev, delta Event // reused; delta only ever has the fields of a delta
	block     Block
	scratch   []byte

	joined   []byte // the texts of content parts
	detailed []byte // and those of reasoning_details
}

// completionCall is one tool call of the answer.
type completionCall struct {
	index  int64 // the backend's, -1 if it gave none
	block  int
	id     string
	name   string
	custom bool
	opened bool
	ended  bool
	half   uint16
	held   []byte // arguments before it was opened
	scan   jsonx.Scanner
}

// functionCallIndex stands for the one call of the deprecated function_call.
const functionCallIndex = -2

func newCompletionDecoder(s *Setup) *completionDecoder {
	d := &completionDecoder{s: s, cur: -1, usage: NoUsage()}
	d.delta.Kind = EventBlockDelta
	if a := s.Agent; a != nil {
		d.strict = a.Option("strict_finish", "") == "true"
		d.hideUsage = s.Request != nil && asksUsageUnasked(s.Request, a)
	}
	return d
}

// Frame implements Decoder.
func (d *completionDecoder) Frame(f *sse.Frame, out Sink) {
	d.drop = false
	if d.ended {
		return
	}
	data := f.Data
	if d.like.ok && f.Event == nil {
		if text := d.like.text(data); text != nil {
			if d.like.says == BlockToolCall {
				d.like.tool.args.b = text
				d.toolDelta(out, &d.like.tool)
			} else {
				d.say(out, d.like.says, chunkText{b: text}, nil)
			}
			return
		}
	}
	data = bytes.TrimSpace(data)
	switch {
	case len(data) == 0:
		d.ping(out)
		return
	case string(data) == "[DONE]":
		d.terminated(out)
		return
	}
	// An event of the vendor's own, whose type and message are no error.
	named := f.Event != nil && string(f.Event) != "message" && string(f.Event) != "error"
	if err := d.parse(data); err != nil {
		if named {
			d.ping(out)
			return
		}
		d.fail(out, Unreadable(err))
		return
	}
	c := &d.c
	if c.err != nil || c.choices <= 0 && !c.hasUsage && !named {
		if e := completionError(data, c.choices > 0, string(f.Event) == "error"); e != nil {
			d.fail(out, e)
			return
		}
	}
	if c.choices <= 0 {
		// Azure's prelude has no choices and an empty id, and says nothing.
		if c.hasUsage {
			d.drop = d.hideUsage
			d.tellUsage(out)
		} else {
			d.ping(out)
		}
		return
	}
	d.noteTier()
	d.start(out)
	d.apply(out)
	if !d.ended && c.hasUsage {
		d.tellUsage(out)
	}
	d.like.remember(c, data)
}

// Keep implements FrameFilter.
func (d *completionDecoder) Keep(*sse.Frame) bool { return !d.drop }

// Finishing implements Decoder.
func (d *completionDecoder) Finishing() bool { return d.complete() || d.ended }

// complete reports whether every choice that began has ended.
func (d *completionDecoder) complete() bool {
	return d.finished && bytes.IndexByte(d.others[:], choiceOpen) < 0
}

// End implements Decoder.
func (d *completionDecoder) End(cause *Error, out Sink) {
	switch {
	case d.ended:
	case d.complete():
		d.finish(out) // cut after the end is an end
	case cause != nil:
		d.fail(out, cause)
	default:
		d.fail(out, Truncated(nil))
	}
}

// JSON implements Decoder.
func (d *completionDecoder) JSON(body []byte, out Sink) {
	if err := d.parse(body); err != nil {
		d.fail(out, Unreadable(err))
		return
	}
	c := &d.c
	if c.err != nil || c.choices <= 0 {
		if e := completionError(body, c.choices > 0, false); e != nil {
			d.fail(out, e)
			return
		}
	}
	if c.choices <= 0 {
		d.fail(out, Unreadable(errNoChoices))
		return
	}
	d.noteTier()
	d.start(out)
	d.apply(out)
	if d.ended {
		return
	}
	if c.hasUsage {
		d.tellUsage(out)
	}
	d.finish(out)
}

// terminated handles [DONE].
func (d *completionDecoder) terminated(out Sink) {
	if !d.finished {
		if d.strict || d.halfCall() {
			e := Truncated(nil)
			e.unreadable = true // nor does this [DONE] go through
			d.fail(out, e)
			return
		}
		d.s.Ledger.Note("finish_reason")
	}
	d.finish(out)
}

// halfCall reports whether the arguments of a call break off.
func (d *completionDecoder) halfCall() bool {
	for i := range d.calls {
		if c := &d.calls[i]; !c.custom && !c.scan.Empty() && !c.scan.Complete() && !c.scan.Broken() {
			return true
		}
	}
	return false
}

func (d *completionDecoder) ping(out Sink) {
	d.ev = Event{Kind: EventPing}
	out.Event(&d.ev)
}

func (d *completionDecoder) start(out Sink) {
	if d.started {
		return
	}
	d.started = true
	d.ev = Event{Kind: EventStart, ID: string(d.c.id), Model: string(d.c.model), Created: d.c.created}
	out.Event(&d.ev)
	if d.usage.Known() {
		d.sendUsage(out)
	}
}

// noteTier remembers which service tier served the request.
func (d *completionDecoder) noteTier() {
	switch t := d.c.tier; string(t) {
	case d.tier, "", "default", "auto":
	default:
		d.tier = string(t)
	}
}

func (d *completionDecoder) fail(out Sink, err *Error) {
	d.ended = true
	d.ev = Event{Kind: EventFail, Err: err}
	out.Event(&d.ev)
}

// tellUsage hands the chunk's token counts on if they are news. Usage may come
// before the answer begins; it is kept until then.
func (d *completionDecoder) tellUsage(out Sink) {
	u := d.usage
	u.Merge(d.c.usage)
	if u == d.usage {
		return
	}
	d.usage = u
	if d.started {
		d.sendUsage(out)
	}
}

func (d *completionDecoder) sendUsage(out Sink) {
	d.ev = Event{Kind: EventUsage, Usage: d.usage}
	out.Event(&d.ev)
}

// finish ends the answer.
func (d *completionDecoder) finish(out Sink) {
	if !d.started {
		d.c = chunk{tools: d.c.tools[:0]}
		d.start(out)
	}
	if !d.finished {
		d.reason, d.word = FinishStop, ""
	}
	if !d.closeAll(out) {
		return
	}
	if d.said[BlockToolCall] && d.reason == FinishStop {
		d.reason = FinishToolCalls
	}
	d.ended = true
	d.ev = Event{Kind: EventFinish, Reason: d.reason, Word: d.word, Tier: d.tier}
	out.Event(&d.ev)
}

// apply emits what the chunk's first choice says.
func (d *completionDecoder) apply(out Sink) {
	c := &d.c
	if c.others {
		d.s.Ledger.Note("choices")
	}
	if c.lost {
		d.s.Ledger.Note("content")
	}
	if c.audio {
		d.s.Ledger.Note("audio")
	}
	if c.sealed {
		d.s.Ledger.Note("reasoning_details")
	}
	// A whole message in a stream repeats what came in pieces before.
	if !c.whole || !d.said[BlockReasoning] {
		d.say(out, BlockReasoning, c.reasoning, nil)
	}
	if !c.whole || !d.said[BlockText] {
		d.say(out, BlockText, c.text, c.logprobs)
	}
	shown := c.whole && d.said[BlockImage]
	if cited := len(c.parts) > 0 && d.sayParts(out); c.annotations != nil && !cited {
		d.annotate(out, math.MinInt, math.MaxInt)
	}
	if !shown {
		for _, raw := range c.images {
			d.showImage(out, raw)
		}
	}
	if !c.whole || !d.said[BlockRefusal] {
		d.say(out, BlockRefusal, c.refusal, c.refusalLogprobs)
	}
	if !c.whole || !d.said[BlockToolCall] {
		for i := range c.tools {
			if !d.toolDelta(out, &c.tools[i]) {
				return
			}
		}
	}
	if len(c.finish) > 0 {
		if string(c.finish) == "error" {
			d.fail(out, InBand(0, "", ""))
			return
		}
		d.finished = true
		d.reason, d.word = finishReason(c.finish)
		d.closeAll(out)
	}
}

// finishReason reads the backend's word. Beside OpenAI's five there are those
// of servers that pass on what their engine or vendor says.
func finishReason(w []byte) (FinishReason, string) {
	switch string(w) {
	case "stop":
		return FinishStop, "stop"
	case "tool_calls":
		return FinishToolCalls, "tool_calls"
	case "length":
		return FinishLength, "length"
	case "content_filter":
		return FinishContentFilter, "content_filter"
	case "function_call", "tool_use":
		return FinishToolCalls, string(w)
	case "max_tokens", "model_length", "MAX_TOKENS":
		return FinishLength, string(w)
	case "eos", "eos_token", "end_turn", "stop_sequence", "STOP":
		return FinishStop, string(w)
	case "SAFETY":
		return FinishContentFilter, string(w)
	case "abort", "cancelled":
		return FinishCancelled, string(w)
	}
	return FinishOther, string(w)
}

// say emits text of one of the three channels that have no end of their own.
func (d *completionDecoder) say(out Sink, t BlockType, text chunkText, logprobs []byte) {
	if len(text.b) == 0 {
		return
	}
	if d.cur < 0 || d.curType != t {
		d.closeFor(out)
		d.open(out, t)
	}
	data := d.join(&d.half, text)
	if len(data) == 0 {
		return
	}
	if t == BlockText {
		d.runes += utf8.RuneCount(data)
	}
	d.delta.Index, d.delta.Data, d.delta.Logprobs = d.cur, data, logprobs
	out.Event(&d.delta)
}

// open opens a block of a channel.
func (d *completionDecoder) open(out Sink, t BlockType) {
	d.cur, d.curType, d.half = d.next, t, 0
	d.next++
	d.said[t] = true
	d.blockRunes = d.runes
	d.block = Block{Type: t}
	d.ev = Event{Kind: EventBlockStart, Index: d.cur, Block: &d.block}
	if t == BlockRefusal {
		d.ev.Part = 1 // a content part beside the text
	}
	out.Event(&d.ev)
}

// join puts a surrogate pair together that the backend split over two texts:
// servers that cut JavaScript strings do.
func (d *completionDecoder) join(half *uint16, text chunkText) []byte {
	if *half == 0 && text.tail == 0 {
		return text.b
	}
	b := text.b
	d.scratch = d.scratch[:0]
	if *half != 0 {
		r := rune(utf8.RuneError)
		if text.lead != 0 {
			r = utf16.DecodeRune(rune(*half), rune(text.lead))
			b = b[len("\uFFFD"):]
		}
		d.scratch = utf8.AppendRune(d.scratch, r)
		*half = 0
	}
	if text.tail != 0 && len(b) > 0 {
		*half = text.tail
		b = b[:len(b)-len("\uFFFD")]
	}
	d.scratch = append(d.scratch, b...)
	return d.scratch
}

// closeCur ends the open text, reasoning or refusal block.
func (d *completionDecoder) closeCur(out Sink, status endOf) {
	if d.cur < 0 {
		return
	}
	if d.half != 0 {
		d.half = 0
		d.delta.Index, d.delta.Data, d.delta.Logprobs = d.cur, append(d.scratch[:0], "\uFFFD"...), nil
		out.Event(&d.delta)
		if d.curType == BlockText {
			d.runes++
		}
	}
	d.end(out, d.cur, status)
	d.cur = -1
}

func (d *completionDecoder) end(out Sink, index int, status endOf) {
	d.ev = Event{Kind: EventBlockEnd, Index: index}
	if status == cutOff {
		d.ev.Status = StatusIncomplete
	}
	out.Event(&d.ev)
}

// endOf says whether a block is whole when it ends.
type endOf bool

const (
	whole  endOf = false
	cutOff endOf = true
)

// closeFor ends what another block's start ends: the channel that was open, and
// the calls whose arguments are complete.
func (d *completionDecoder) closeFor(out Sink) {
	d.closeCur(out, whole)
	d.openReady(out, true)
	for i := range d.calls[:d.pending] {
		if c := &d.calls[i]; !c.ended && !c.custom && c.scan.Complete() {
			d.endCall(out, c, whole)
		}
	}
}

// closeAll ends all blocks at the finish. It returns false if the answer has
// failed instead.
func (d *completionDecoder) closeAll(out Sink) bool {
	status := endOf(d.reason == FinishLength || d.reason == FinishContentFilter)
	d.closeCur(out, status)
	for ; d.pending < len(d.calls); d.pending++ {
		c := &d.calls[d.pending]
		switch {
		case c.name != "":
			d.openCall(out, c, d.pending)
		case c.id == "" && len(c.held) == 0:
			c.ended = true // an empty announcement
		default:
			d.fail(out, Unreadable(errNamelessCall))
			return false
		}
	}
	for i := range d.calls {
		if c := &d.calls[i]; !c.ended {
			if c.custom || !c.scan.Complete() {
				d.endCall(out, c, status)
			} else {
				d.endCall(out, c, whole)
			}
		}
	}
	return true
}

// annotate hands on the citations of the text that begin at code points of it
// from the first up to the second; one that does not say where counts as last.
func (d *completionDecoder) annotate(out Sink, from, to int) {
	gjson.Parse(viewString(d.c.annotations)).ForEach(func(_, a gjson.Result) bool {
		if at := citedAt(a); !a.IsObject() || at < from || at >= to && to != math.MaxInt {
			return true
		}
		if d.cur < 0 || d.curType != BlockText || annotationType(a) == "" {
			d.s.Ledger.Note("annotations")
			return true
		}
		d.scratch = flatAnnotation(d.scratch[:0], a, d.blockRunes)
		d.ev = Event{Kind: EventAnnotation, Index: d.cur, Data: d.scratch}
		out.Event(&d.ev)
		return true
	})
}

// citedAt is where a citation begins, nested or flat.
func citedAt(a gjson.Result) int {
	at := a.Get("start_index")
	if !at.Exists() {
		at = a.Get("url_citation.start_index")
	}
	if at.Type != gjson.Number {
		return math.MaxInt
	}
	return int(at.Int())
}

// annotationType is what an annotation calls itself. A citation without a word for
// itself, but with an address, is of the one kind that Chat has.
func annotationType(a gjson.Result) string {
	t := a.Get("type").Str
	if t == "" && (a.Get("url_citation").IsObject() || a.Get("url").Str != "") {
		return "url_citation"
	}
	return t
}

// flatAnnotation writes Chat's nested citation {"type":T,T:{…}} as the Responses
// API has it: {"type":T,…}. Offsets count from the start of the message's text
// there, and from the start of the block here.
func flatAnnotation(dst []byte, a gjson.Result, before int) []byte {
	t := annotationType(a)
	dst = append(dst, `{"type":`...)
	dst = jsonx.AppendStringS(dst, t)
	member := func(k, v gjson.Result) bool {
		if k.Str == "type" {
			return true
		}
		dst = append(append(append(dst, ','), k.Raw...), ':')
		if before > 0 && v.Type == gjson.Number && (k.Str == "start_index" || k.Str == "end_index") {
			dst = strconv.AppendInt(dst, v.Int()-int64(before), 10)
		} else {
			dst = jsonx.AppendCompact(dst, viewBytes(v.Raw))
		}
		return true
	}
	a.ForEach(func(k, v gjson.Result) bool {
		if k.Str == t && v.IsObject() {
			v.ForEach(member)
			return true
		}
		return member(k, v)
	})
	return append(dst, '}')
}

// completionError is the error that a document of status 200 holds, nil if it
// holds none. Backends write it nested, as a string, or flat; many write
// "error":null into everything. answers says that there are choices too, and
// named that the event is called error: then whatever it says is one.
func completionError(doc []byte, answers, named bool) *Error {
	r := gjson.Parse(viewString(doc))
	e := r.Get("error")
	if !e.Exists() && answers {
		e = r.Get("choices.0.error")
	}
	var message, code, param string
	status := 0
	read := func(o gjson.Result) {
		param = scalar(o.Get("param"))
		code = o.Get("code").String()
		for _, k := range [...]string{"status", "status_code", "code"} {
			if n := o.Get(k); status == 0 && n.Int() >= 400 && n.Int() < 600 {
				status = int(n.Int())
			}
		}
		if code == "" || o.Get("code").Type == gjson.Number {
			code = scalar(o.Get("type"))
		}
	}
	switch {
	case e.IsObject() && !isBare(e):
		message = firstOf(e.Get("message").String(), e.Get("detail").String())
		read(e)
	case e.Type == gjson.String && e.Str != "":
		message = firstOf(r.Get("message").String(), r.Get("detail").String(), e.Str)
		read(r)
	case e.Type == gjson.True, e.Type == gjson.Number && e.Num != 0, e.IsArray() && !isBare(e):
		message = r.Get("message").String()
		read(r)
	case answers:
		return nil
	case named || r.Get("object").Str == "error" || r.Get("type").Str == "error" || r.Get("detail").Exists() ||
		r.Get("message").Type == gjson.String && (r.Get("code").Exists() || r.Get("type").Exists()):
		message = firstOf(r.Get("message").String(), r.Get("detail").String())
		read(r)
		if code == "error" {
			code = ""
		}
	default:
		return nil
	}
	err := InBand(status, code, message)
	if err.Kind == KindInvalid {
		err.Param = clone(cleanMessage(param))
	}
	if m := r.Get("choices.0.message"); m.Get("content").String() != "" || m.Get("tool_calls.0").Exists() {
		err.NoRetry = true // whatever it invites to, there are words
	}
	return err
}
