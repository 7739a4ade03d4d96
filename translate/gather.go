package translate

import (
	"sync"
	"unicode/utf8"
)

// gatherMax is how many bytes of tiny deltas become one at most.
const gatherMax = 1 << 10

// gather joins deltas of one or two code points. An agent that returns a string
// where it should yield pieces streams a letter an event, and every such event
// would be hundreds of bytes in the client's protocol. All letters of one read
// are one delta; if hold is set, a letter that follows letters waits for more.
// The first one always goes at once, and so does whatever is longer: words never
// wait.
type gather struct {
	next  Sink
	index int    // the open block of text, -1 if there is none
	buf   []byte // not yet sent
	run   bool   // what went out last of the block was tiny
	hold  bool
}

// gathered are events for flush, which few streams need at the same time.
var gathered = sync.Pool{New: func() any { return &Event{Kind: EventBlockDelta} }}

// Event implements Sink.
func (g *gather) Event(e *Event) {
	switch e.Kind {
	case EventBlockDelta:
		if e.Index == g.index && len(e.Data) <= 2*utf8.UTFMax && !e.Replace && len(e.Logprobs) == 0 && utf8.RuneCount(e.Data) <= 2 {
			if g.buf == nil {
				g.buf = make([]byte, 0, gatherMax+2*utf8.UTFMax)
			}
			if g.buf = append(g.buf, e.Data...); len(g.buf) >= gatherMax {
				g.flush()
			}
			return
		}
		g.flush()
		g.run = false
	case EventBlockStart:
		g.flush()
		g.index, g.run = -1, false
		switch e.Block.Type {
		case BlockText, BlockReasoning, BlockCode:
			g.index = e.Index
		}
	default:
		g.flush()
	}
	g.next.Event(e)
}

// read says that all of one read has come.
func (g *gather) read() {
	if !g.hold || !g.run {
		g.flush()
	}
}

func (g *gather) flush() {
	if len(g.buf) == 0 {
		return
	}
	e := gathered.Get().(*Event) //nolint:forcetypeassert // the pool holds nothing else
	e.Index, e.Data = g.index, g.buf
	g.run = true
	g.next.Event(e)
	e.Data = nil
	gathered.Put(e)
	g.buf = g.buf[:0]
}
