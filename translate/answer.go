package translate

import (
	"errors"

	"github.com/dragoman-proxy/dragoman/internal/jsonx"
	"github.com/dragoman-proxy/dragoman/internal/sse"
)

// MaxAnswer is how many bytes of one answer are kept where a protocol obliges
// us to keep them (a JSON answer, a terminal event that repeats everything).
const MaxAnswer = 16 << 20

// MaxFrame is how long one frame of a stream may be: a terminal Responses event
// repeats everything.
const MaxFrame = 16 << 20

var errAnswerTooLong = errors.New("the answer exceeds 16 MiB")

// Answer carries one answer from a backend to a client, translating it or, where
// both sides speak the same protocol in the same mode, passing its bytes through
// with the decoder as a tap.
//
// A streamed answer is fed with Feed and closed with End; a JSON answer is
// given to Body. All of them append what the client must get: frames of a
// stream as they come, a JSON answer when it is complete. When Err is not nil
// a client that has received nothing yet is owed an HTTP error instead of what
// was appended.
type Answer struct {
	setup    *Setup
	protocol *Protocol // the client's
	dec      Decoder
	enc      Encoder
	next     Sink // the stages behind the recorder
	fold     *Fold
	filter   FrameFilter
	editor   Editor // nil: what passes through stays as it is
	reader   sse.Reader
	current  sse.Frame // a field, because its address goes to an interface and would escape for every frame
	out      []byte
	tap      Tap
	tapped   *Setup   // the decoder's own while the answer passes through
	gather   *gather  // nil: deltas go out as they come
	detect   Detector // nil: the stream is made of frames
	head     []byte   // the beginning of a stream while its framing is not known
	err      *Error
	usage    Usage
	said     int64
	reason   FinishReason

	// Together, because thousands of answers are held at the same time.
	framing  framing
	through  bool
	halfEnd  bool // the last frame ended in a carriage return, to which a line feed may belong
	spells   bool // the backend may send a letter an event
	gathers  bool // Gather was called
	detected bool // it is known whether the stream may pass through
	started  bool
	ended    bool
}

// NewAnswer prepares the answer of a backend of protocol b to the client of
// s.Request. wantStream is what the client asked for, gotStream what the backend
// sends.
func NewAnswer(s *Setup, b *Protocol, wantStream, gotStream bool) *Answer {
	face := s.Request.Face
	a := &Answer{
		setup: s, protocol: face, usage: NoUsage(),
		through: b == face && wantStream == gotStream && (s.Keep == nil || !s.Keep.Background),
		tap:     Tap{Seq: -1, Request: s.Request}, spells: b.Spells,
	}
	a.reader.Max = MaxFrame
	if a.through {
		// The client gets whatever the decoder has no words for.
		own := &struct {
			setup  Setup
			ledger Ledger
		}{setup: *s}
		own.setup.Ledger = &own.ledger
		a.tapped = &own.setup
		a.dec = b.NewDecoder(a.tapped)
	} else {
		a.dec = b.NewDecoder(s)
	}
	if a.detect, _ = a.dec.(Detector); a.detect != nil {
		a.framing = framingUnknown
	}
	switch {
	case a.through:
		if s.Keep != nil && face.KeepsAnswers {
			a.next = stages(a.tapped, face, &keepSink{a: a, fold: NewFold()})
		}
		a.filter, _ = a.dec.(FrameFilter)
		if s.Keep != nil {
			a.editor, _ = a.dec.(Editor)
		}
	case wantStream:
		a.translate()
	default:
		a.fold = NewFold()
		a.next = stages(s, face, a.fold)
	}
	return a
}

// translate sets up what makes a stream for the client of the events.
func (a *Answer) translate() {
	a.enc = a.protocol.NewEncoder(a.setup)
	last := Sink((*encodeSink)(a))
	if a.setup.Keep != nil && a.protocol.KeepsAnswers {
		last = &keepSink{a: a, fold: NewFold(), next: last}
	}
	a.next = stages(a.setup, a.protocol, last)
	if a.gathers {
		a.gatherLetters()
	}
}

// Detector is implemented by a Decoder whose backends come in versions that
// speak differently: some stream without frames, some in words that today's
// clients of the protocol do not know. What such a backend says is translated
// for those clients too.
type Detector interface {
	// Framed reports whether a stream that begins with head is made of frames.
	// While known is false more of it is needed; end says that there is no more.
	Framed(head []byte, end bool) (framed, known bool)
	// Native reports whether a stream can pass through. It is asked before each
	// frame is decoded until it is known.
	Native(f *sse.Frame) (native, known bool)
	// Text decodes the next bytes of a stream without frames; p is not kept.
	Text(p []byte, out Sink)
}

// Teller is implemented by a Decoder that may hold a failure back until the end
// of the stream.
type Teller interface {
	// Told reports that the failure which End emitted stands in the frames that
	// came before.
	Told() bool
}

type framing uint8

const (
	framed framing = iota
	unframed
	framingUnknown
)

// stages puts before the last sink what the face needs: rendering, then the
// serial stage.
func stages(s *Setup, face *Protocol, last Sink) Sink {
	if s.Encoded != nil {
		s.Encoded.Next = last
		last = s.Encoded
	}
	if !face.Speaks.Overlap {
		last = newSerial(last)
	}
	return newRender(s, &face.Speaks, last)
}

// recorder is the Answer as the first sink behind the decoder.
type recorder Answer

// Event implements Sink.
func (r *recorder) Event(e *Event) {
	a := (*Answer)(r)
	if a.ended {
		return
	}
	switch e.Kind {
	case EventStart:
		a.tap.ID, a.tap.Model, a.tap.Created = clone(e.ID), clone(e.Model), e.Created
		if k := a.setup.Keep; k != nil {
			k.Handle = clone(e.Handle)
		}
	case EventUsage:
		a.usage.Merge(e.Usage)
	case EventFinish:
		a.started, a.ended, a.reason = true, true, e.Reason
	case EventFail:
		a.ended, a.err = true, e.Err
		if a.started {
			a.err = ranAlready(e.Err)
		}
	case EventBlockDelta:
		a.started = true
		a.said += int64(len(e.Data))
	case EventBlockStart, EventBlockEnd:
		a.started = true
	}
	if a.next != nil {
		a.next.Event(e)
	}
	if a.fold != nil && a.fold.Size > MaxAnswer && !a.ended {
		a.fail(Unreadable(errAnswerTooLong))
	}
}

// ranAlready is an error of an agent that has spoken: whatever it says, the agent has
// run. It stands apart so that the frame of Event stays small: the goroutine of each
// stream keeps the largest stack that it ever needed.
func ranAlready(e *Error) *Error {
	if e.NoRetry {
		return e
	}
	err := *e
	err.NoRetry = true
	return &err
}

// encodeSink is the Answer as the last sink of a translated stream.
type encodeSink Answer

// Event implements Sink.
func (s *encodeSink) Event(e *Event) {
	if e.Kind == EventFail && s.err == nil { // a stage failed, not the decoder
		s.ended, s.err = true, e.Err
	}
	s.out = s.enc.Encode(s.out, e)
}

// keepSink gathers an answer that is kept as AppendAnswer writes it, and has it kept before its last
// event goes on.
type keepSink struct {
	a    *Answer
	fold *Fold // nil: the answer is too long
	next Sink
}

// Event implements Sink.
func (k *keepSink) Event(e *Event) {
	if k.fold != nil {
		if k.fold.Event(e); k.fold.Size > MaxAnswer {
			k.fold = nil
		} else if e.Kind == EventFinish {
			k.a.keep(k.fold)
		}
	}
	if k.next != nil {
		k.next.Event(e)
	}
}

// keep has an answer kept; what its form loses the client has got.
func (a *Answer) keep(f *Fold) {
	s, ledger := *a.setup, Ledger{}
	s.Ledger = &ledger
	a.setup.Keep.Save(&Kept{Status: "completed", Output: a.protocol.AppendAnswer(nil, &s, f)})
}

func (a *Answer) sink() Sink {
	if a.setup.Decoded != nil {
		a.setup.Decoded.Next = (*recorder)(a)
		return a.setup.Decoded
	}
	return (*recorder)(a)
}

func (a *Answer) fail(err *Error) {
	e := Event{Kind: EventFail, Err: err}
	(*recorder)(a).Event(&e)
}

// Feed takes the next bytes of a streamed answer; p is not kept. What the
// client must get is appended to dst, whole frames only.
func (a *Answer) Feed(dst, p []byte) []byte {
	if a.ended && !a.through {
		return dst
	}
	a.out = dst
	switch a.framing {
	case framed:
		a.frames(p)
	case unframed:
		a.detect.Text(p, a.sink())
	default:
		a.begin(p, false)
	}
	if a.gather != nil {
		a.gather.read()
	}
	dst, a.out = a.out, nil
	return dst
}

// begin takes the beginning of a stream of which it is not known whether it is
// made of frames. What arrives is kept only as long as that takes.
func (a *Answer) begin(p []byte, end bool) {
	if len(a.head) > 0 {
		a.head = append(a.head, p...)
		p = a.head
	}
	isFramed, known := a.detect.Framed(p, end)
	if !known {
		if len(a.head) == 0 {
			a.head = append(a.head, p...)
		}
		return
	}
	a.head = nil
	if isFramed {
		a.framing = framed
		a.frames(p)
		return
	}
	a.framing = unframed
	if a.through {
		a.leave()
	}
	if len(p) > 0 {
		a.detect.Text(p, a.sink())
	}
}

// leave ends the passing through of an answer that turns out to need
// translation. Nothing of it has been sent but comments.
func (a *Answer) leave() {
	a.through, a.filter, a.editor = false, nil, nil
	a.tapped.Ledger = a.setup.Ledger
	a.translate()
}

func (a *Answer) frames(p []byte) {
	a.reader.Feed(p)
	for a.nextFrame() {
		a.frame(&a.current)
	}
	if err := a.reader.Err(); err != nil {
		a.breakOff(Unreadable(err))
	}
}

// nextFrame stands apart so that the frames below it on the stack do not hold copies
// of the frame.
//
//go:noinline
func (a *Answer) nextFrame() (ok bool) {
	a.current, ok = a.reader.Next()
	return ok
}

func (a *Answer) frame(f *sse.Frame) {
	if a.through && a.detect != nil && !a.detected {
		var native bool
		if native, a.detected = a.detect.Native(f); a.detected && !native {
			a.leave()
		}
	}
	if !a.through {
		if !a.ended {
			a.dec.Frame(f, a.sink())
		}
		return
	}
	if a.err != nil && a.err.unreadable {
		return // the client was told
	}
	before := a.err
	a.dec.Frame(f, a.sink())
	if a.err != before && a.err.unreadable {
		a.appendFailure()
		return
	}
	if a.filter == nil || a.filter.Keep(f) {
		if a.editor != nil {
			a.out = a.editor.AppendEdited(a.out, f, a.err == nil)
		} else {
			a.out = append(a.out, f.Raw...)
		}
		a.halfEnd = len(f.Raw) > 0 && f.Raw[len(f.Raw)-1] == '\r'
	}
}

// breakOff ends a stream that cannot be read on.
func (a *Answer) breakOff(err *Error) {
	if a.ended {
		return
	}
	a.fail(err)
	if a.through {
		a.appendFailure()
	}
}

func (a *Answer) appendFailure() {
	if s, ok := a.dec.(Sequencer); ok {
		a.tap.Seq = s.LastSeq()
	}
	if t, ok := a.dec.(Teller); ok {
		a.tap.Told = t.Told()
	}
	a.tap.Keep = a.setup.Keep
	a.out = a.protocol.AppendFailure(a.out, a.err, &a.tap)
}

// End says that the stream is over: cause is nil after a clean end of the body,
// else what cut it off. For a client that wants JSON the answer is appended
// now.
func (a *Answer) End(dst []byte, cause *Error) []byte {
	a.out = dst
	if cause == nil && a.framing == framingUnknown {
		a.begin(nil, true)
	}
	if cause == nil && a.reader.Err() == nil {
		// A last frame may lack its blank line. After a cut it is not whole.
		var ok bool
		if a.current, ok = a.reader.Flush(); ok {
			n := len(a.out)
			a.frame(&a.current)
			if a.through && len(a.out) > n {
				// The client's parser needs the blank line.
				a.out = append(a.out, "\n\n"...)
			}
		} else if a.halfEnd && a.reader.Pending() == 1 {
			a.out = append(a.out, '\n')
		}
	}
	if !a.ended {
		a.dec.End(cause, a.sink())
		if !a.ended {
			if cause == nil {
				cause = Truncated(nil)
			}
			a.fail(cause)
		}
		if a.through && a.err != nil {
			a.appendFailure()
		}
	}
	a.finishJSON()
	dst, a.out = a.out, nil
	return dst
}

// Body takes a whole JSON answer, which is kept until the call returns. The
// answer for the client is appended, whole: JSON, or a complete stream.
func (a *Answer) Body(dst, body []byte) []byte {
	a.out = dst
	if err := jsonx.Check(body, jsonx.CheckOptions{}); err != nil {
		a.fail(Unreadable(err))
	} else {
		a.dec.JSON(body, a.sink())
		if !a.ended {
			a.fail(Unreadable(errors.New("the answer has no end")))
		}
	}
	if a.through {
		switch {
		case a.err != nil:
		case a.editor != nil:
			a.out = a.editor.AppendEditedBody(a.out, body)
		default:
			a.out = append(a.out, body...)
		}
	} else {
		a.finishJSON()
	}
	dst, a.out = a.out, nil
	return dst
}

func (a *Answer) finishJSON() {
	if a.fold == nil {
		return
	}
	if a.err == nil && a.fold.Err != nil { // a stage failed
		a.err = a.fold.Err
	}
	if a.err == nil {
		if a.setup.Keep != nil && a.protocol.KeepsAnswers {
			a.keep(a.fold)
		}
		a.out = a.protocol.AppendAnswer(a.out, a.setup, a.fold)
	}
}

// Started reports whether the agent has said or done anything yet, beyond
// opening the answer: until then a failure can still be an HTTP error.
func (a *Answer) Started() bool { return a.started }

// Ended reports whether the answer is whole or has failed.
func (a *Answer) Ended() bool { return a.ended }

// Over reports that nothing which the backend still sends can reach the client:
// a translated answer has ended, or one that is passed through could not be read
// on and the client was told.
func (a *Answer) Over() bool {
	return a.ended && (!a.through || a.err != nil && a.err.unreadable)
}

// Finishing reports that only late usage or a terminator is awaited.
func (a *Answer) Finishing() bool { return a.ended || a.dec.Finishing() }

// Err is the failure, nil if there is none (yet).
func (a *Answer) Err() *Error { return a.err }

// Usage is what the backend told of the tokens spent.
func (a *Answer) Usage() Usage { return a.usage }

// Said is how many bytes of content the backend has sent so far: what an answer
// that ended without usage is charged by.
func (a *Answer) Said() int64 { return a.said }

// Reason is why the answer ended; it counts only if Ended and Err is nil.
func (a *Answer) Reason() FinishReason { return a.reason }

// PassedThrough reports whether the bytes go through untouched, as far as is
// known: an answer may still turn out to need translation while nothing but
// comments has been fed.
func (a *Answer) PassedThrough() bool { return a.through }

// Gather has the letters of an agent that spells its answer out, an event a
// letter, gathered where the answer is translated into a stream: those of one
// Feed become one delta, and with Hold more. It is called before the first Feed.
func (a *Answer) Gather() {
	if a.gathers = true; a.enc != nil {
		a.gatherLetters()
	}
}

func (a *Answer) gatherLetters() {
	if a.spells && a.gather == nil {
		a.gather = &gather{next: a.next, index: -1}
		a.next = a.gather
	}
}

// Hold says whether the next Feed may keep letters back that follow letters. The
// caller, who has the clock, allows it for a moment after something went out,
// and flushes what was kept when that has passed. Anything but a letter, and the
// end, takes what was kept along.
func (a *Answer) Hold(hold bool) {
	if a.gather != nil {
		a.gather.hold = hold
	}
}

// Held reports that something is kept back.
func (a *Answer) Held() bool { return a.gather != nil && len(a.gather.buf) > 0 }

// Flush appends what is kept back.
func (a *Answer) Flush(dst []byte) []byte {
	if !a.Held() {
		return dst
	}
	a.out = dst
	a.gather.flush()
	dst, a.out = a.out, nil
	return dst
}
