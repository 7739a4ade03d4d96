package translate

import (
	"unicode/utf16"
	"unicode/utf8"

	"github.com/dragoman-proxy/dragoman/internal/jsonx"
)

// swarmsSpeaker is one of several agents, or the only one, without a name.
type swarmsSpeaker struct {
	name    string
	ordinal int // in the order of their first words
	block   int
	open    bool
	half    rune   // a high surrogate that waits for the low one
	pending []byte // text that may become a list of tool calls
	scan    jsonx.Scanner
	scanned int // bytes of pending that scan has seen
}

// swarmsCrowd is how many speakers are told apart.
const swarmsCrowd = 256

// say adds text to the speaker's message.
func (d *swarmsDecoder) say(agent, text []byte, out Sink) {
	s := d.speaker(agent)
	if s.half|d.frame.lead|d.frame.tail != 0 {
		text = d.pair(s, text)
	}
	if d.tools && (len(s.pending) > 0 || swarmsMayCall(text, s.open)) {
		d.suspect(s, text, out)
		return
	}
	d.speak(s, text, out)
}

// speak adds text to the speaker's message, or begins a new one with it.
func (d *swarmsDecoder) speak(s *swarmsSpeaker, text []byte, out Sink) {
	if !s.open {
		d.start(out)
		d.open(s, out)
	}
	if len(text) == 0 {
		return
	}
	e := &d.event
	e.Kind, e.Index, e.Data = EventBlockDelta, s.block, text
	out.Event(e)
}

// swarmsMayCall reports whether a chunk may begin a list of tool calls: in the
// middle of a message it must look like one.
func swarmsMayCall(text []byte, middle bool) bool {
	for _, c := range text {
		switch c {
		case ' ', '\n', '\r', '\t':
		case '[':
			h := swarmsCallHead(text)
			return h != swarmsNoCalls && (!middle || h != swarmsTooShort)
		default:
			return false
		}
	}
	return false
}

// swarmsSuspect is how much text is kept back as a list of tool calls.
const swarmsSuspect = 1 << 20

// suspect keeps text back while it goes on as a list of tool calls does, which
// some servers send as their content's text. Anything else goes on at once.
func (d *swarmsDecoder) suspect(s *swarmsSpeaker, text []byte, out Sink) {
	s.pending = append(s.pending, text...)
	switch swarmsCallHead(s.pending) {
	case swarmsTooShort, swarmsPythonCalls: // the end of the message decides
		if len(s.pending) > swarmsSuspect {
			d.clear(s, out)
		}
		return
	case swarmsJSONCalls:
		s.scan.Write(s.pending[s.scanned:])
		s.scanned = len(s.pending)
		switch {
		case s.scan.Complete():
			d.settleText(s, out)
			return
		case !s.scan.Broken() && len(s.pending) <= swarmsSuspect:
			return
		}
	}
	d.clear(s, out)
}

// settleText ends the keeping back of a speaker's text: calls of the client's
// tools are calls, anything else was said.
func (d *swarmsDecoder) settleText(s *swarmsSpeaker, out Sink) {
	if len(s.pending) == 0 {
		return
	}
	calls, ok := swarmsCallText(string(s.pending))
	for i := range calls {
		ok = ok && d.offered(calls[i].name)
	}
	if !ok {
		d.clear(s, out)
		return
	}
	s.pending, s.scanned = s.pending[:0], 0
	s.scan.Reset()
	d.start(out)
	if s.open {
		d.close(s, out)
	}
	d.hold(calls, s.name, out)
}

// clear says what was kept back.
func (d *swarmsDecoder) clear(s *swarmsSpeaker, out Sink) {
	text := s.pending
	s.pending, s.scanned = s.pending[:0], 0
	s.scan.Reset()
	d.speak(s, text, out)
}

// pair puts surrogate pairs together that were split over two chunks.
func (d *swarmsDecoder) pair(s *swarmsSpeaker, text []byte) []byte {
	const lost = len("\uFFFD")
	b := d.joined[:0]
	if s.half != 0 {
		b = utf8.AppendRune(b, utf16.DecodeRune(s.half, d.frame.lead))
		if d.frame.lead != 0 {
			text = text[lost:]
		}
	}
	if d.frame.tail != 0 {
		text = text[:len(text)-lost]
	}
	s.half = d.frame.tail
	d.joined = append(b, text...)
	return d.joined
}

func (d *swarmsDecoder) speaker(agent []byte) *swarmsSpeaker {
	for i := range d.speakers {
		if d.speakers[i].name == string(agent) {
			return &d.speakers[i]
		}
	}
	if len(d.speakers) == swarmsCrowd { // the last one speaks for all others
		return &d.speakers[swarmsCrowd-1]
	}
	d.speakers = append(d.speakers, swarmsSpeaker{name: string(agent), ordinal: len(d.speakers) + 1})
	return &d.speakers[len(d.speakers)-1]
}

// open begins a new message of the speaker. Where the number of agents is
// known, all but the last to speak are heard as commentary.
func (d *swarmsDecoder) open(s *swarmsSpeaker, out Sink) {
	e := Event{Kind: EventBlockStart, Index: d.blocks, Block: &d.text, Msg: d.msgs, Author: s.name}
	if d.agents > 1 && s.name != "" {
		e.Phase = PhaseCommentary
		if s.ordinal >= d.agents {
			e.Phase = PhaseFinal
		}
	}
	s.block, s.open = d.blocks, true
	d.blocks++
	d.msgs++
	out.Event(&e)
}

// hush ends the speaker's message.
func (d *swarmsDecoder) hush(agent []byte, out Sink) {
	for i := range d.speakers {
		if s := &d.speakers[i]; s.name == string(agent) {
			d.settleText(s, out)
			if s.open {
				d.close(s, out)
			}
		}
	}
}

func (d *swarmsDecoder) close(s *swarmsSpeaker, out Sink) {
	if s.half != 0 { // its other half never came
		s.half = 0
		out.Event(&Event{Kind: EventBlockDelta, Index: s.block, Data: []byte("\uFFFD")})
	}
	s.open = false
	out.Event(&Event{Kind: EventBlockEnd, Index: s.block})
}

func (d *swarmsDecoder) agentStart(out Sink) {
	d.start(out)
	d.hush(d.frame.agent, out)
	d.speaker(d.frame.agent)
}

func (d *swarmsDecoder) agentEnd(out Sink) { d.hush(d.frame.agent, out) }
