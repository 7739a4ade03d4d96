package translate

// maxHeld is how many bytes of blocks may wait for the block before them.
const maxHeld = 1 << 20

// heldOverhead is what a waiting event costs beyond its bytes, so that many
// tiny ones are bounded too.
const heldOverhead = 96

// serial puts overlapping blocks one after the other: the oldest open block
// streams, the others wait and follow in the order in which they began. All
// else passes at once; Finish comes after all blocks by the law of events.
// While nothing overlaps nothing is copied.
type serial struct {
	next Sink
	only BlockSet // blocks of other types pass at once

	busy bool // the block with index cur streams
	cur  int
	held []*heldBlock
	size int // of what waits
	done bool
}

// heldBlock is a block that waits. It owns its bytes, for events borrow theirs.
type heldBlock struct {
	start  Event
	events []heldEvent
	ended  bool
	size   int
}

type heldEvent struct {
	kind     EventKind
	replace  bool
	status   EndStatus
	data     []byte
	logprobs []byte
	opaque   string
}

// newSerial makes the stage for an encoder that forbids overlap.
func newSerial(next Sink) Sink { return &serial{next: next, only: ^BlockSet(0)} }

// Event implements Sink.
func (s *serial) Event(e *Event) {
	if s.done {
		return
	}
	switch e.Kind {
	case EventBlockStart:
		if s.only.Has(e.Block.Type) {
			if s.busy {
				s.holdBlock(e)
				return
			}
			s.busy, s.cur = true, e.Index
		}
	case EventBlockDelta, EventAnnotation, EventBlockEnd:
		if len(s.held) > 0 && (!s.busy || e.Index != s.cur) {
			if h := s.find(e.Index); h != nil {
				s.hold(h, e)
				return
			}
		}
		if e.Kind == EventBlockEnd && s.busy && e.Index == s.cur {
			s.next.Event(e)
			s.busy = false
			s.release()
			return
		}
	case EventFail:
		s.fail(e)
		return
	case EventFinish:
		s.done = true
	}
	s.next.Event(e)
}

func (s *serial) find(index int) *heldBlock {
	for _, h := range s.held {
		if h.start.Index == index {
			return h
		}
	}
	return nil
}

func (s *serial) holdBlock(e *Event) {
	h := &heldBlock{start: *e}
	b := cloneBlock(e.Block)
	h.start.Block = &b
	h.start.Author = clone(e.Author)
	s.held = append(s.held, h)
	s.grow(h, heldOverhead+len(h.start.Author)+blockSize(&b))
}

func (s *serial) hold(h *heldBlock, e *Event) {
	if e.Kind == EventBlockEnd {
		h.ended = true
	}
	if n := len(h.events); n > 0 && e.Kind == EventBlockDelta && !e.Replace && e.Logprobs == nil && h.start.Block.Type != BlockTable {
		if last := &h.events[n-1]; last.kind == EventBlockDelta && last.logprobs == nil {
			last.data = append(last.data, e.Data...)
			s.grow(h, len(e.Data))
			return
		}
	}
	h.events = append(h.events, heldEvent{
		kind: e.Kind, replace: e.Replace, status: e.Status, opaque: clone(e.Opaque),
		data: append([]byte(nil), e.Data...), logprobs: append([]byte(nil), e.Logprobs...),
	})
	s.grow(h, heldOverhead+len(e.Data)+len(e.Logprobs)+len(e.Opaque))
}

func (s *serial) grow(h *heldBlock, n int) {
	h.size += n
	if s.size += n; s.size > maxHeld {
		s.fail(&Event{Kind: EventFail, Err: &Error{
			Kind: KindBackend, Status: 502, Code: "bad_gateway", NoRetry: true,
			Message: "The agent's answer has more parts open at once than can be put in order.",
		}})
	}
}

// release lets the blocks go that waited for the one that has ended.
func (s *serial) release() {
	for !s.busy && len(s.held) > 0 {
		h := s.held[0]
		s.held[0] = nil
		s.held = s.held[1:]
		s.size -= h.size
		s.replay(h)
		s.busy, s.cur = !h.ended, h.start.Index
	}
}

func (s *serial) replay(h *heldBlock) {
	s.next.Event(&h.start)
	var e Event
	for i := range h.events {
		v := &h.events[i]
		e = Event{Kind: v.kind, Index: h.start.Index, Data: v.data, Logprobs: v.logprobs, Replace: v.replace, Status: v.status, Opaque: v.opaque}
		s.next.Event(&e)
	}
}

// fail tells what had arrived before the failure: only a tool call whose
// arguments are not whole is of no use to anybody.
func (s *serial) fail(e *Event) {
	s.done = true
	held := s.held
	s.held, s.size = nil, 0
	for _, h := range held {
		if !h.ended && h.start.Block.Type == BlockToolCall {
			continue
		}
		if s.busy {
			s.next.Event(&Event{Kind: EventBlockEnd, Index: s.cur, Status: StatusFailed})
		}
		s.replay(h)
		s.busy, s.cur = !h.ended, h.start.Index
	}
	s.next.Event(e)
}

// blockSize is the number of bytes that the description of a block holds.
func blockSize(b *Block) int {
	n := len(b.Text) + len(b.ID) + len(b.CallID) + len(b.Name) + len(b.Language) + len(b.Style) + len(b.Title) +
		len(b.Headers) + len(b.URL) + len(b.Alt) + len(b.Caption) + len(b.Data) + len(b.MIME) + len(b.FileID) +
		len(b.Detail) + len(b.Logprobs) + len(b.Opaque) + len(b.Native)
	for i := range b.Parts {
		n += heldOverhead + blockSize(&b.Parts[i])
	}
	return n
}
