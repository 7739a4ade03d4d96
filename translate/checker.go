package translate

import "fmt"

// Checker holds a decoder to the order of events. It stands between two
// stages in tests and fuzzing, hands every event on, and remembers the first
// breach.
type Checker struct {
	Next Sink

	err     error
	started bool
	ended   bool
	open    map[int]BlockType
	used    map[int]bool
}

// Err is the first breach of the order, nil if there was none.
func (c *Checker) Err() error { return c.err }

// Ended reports whether Finish or Fail has come.
func (c *Checker) Ended() bool { return c.ended }

// Event implements Sink.
func (c *Checker) Event(e *Event) {
	c.check(e)
	if c.Next != nil {
		c.Next.Event(e)
	}
}

func (c *Checker) breach(format string, args ...any) {
	if c.err == nil {
		c.err = fmt.Errorf(format, args...)
	}
}

func (c *Checker) check(e *Event) {
	if c.open == nil {
		c.open, c.used = map[int]BlockType{}, map[int]bool{}
	}
	if c.ended {
		c.breach("%s after the end", e.Kind)
		return
	}
	switch e.Kind {
	case EventPing:
		return
	case EventFail:
		c.ended = true
		if e.Err == nil {
			c.breach("fail without an error")
		}
		return
	case EventStart:
		if c.started {
			c.breach("second start")
		}
		c.started = true
		return
	}
	if !c.started {
		c.breach("%s before start", e.Kind)
		return
	}
	switch e.Kind {
	case EventBlockStart:
		switch {
		case e.Block == nil:
			c.breach("block %d starts without a description", e.Index)
			return
		case c.used[e.Index]:
			c.breach("block index %d used twice", e.Index)
		case e.Msg < 0 || e.Part < 0:
			c.breach("block %d has a negative ordinal", e.Index)
		case e.Block.Type == BlockToolCall && (e.Block.Name == "" || e.Block.CallID == ""):
			c.breach("tool call %d lacks its name or call id", e.Index)
		case e.Block.Text != "":
			c.breach("block %d starts with text", e.Index)
		}
		c.used[e.Index] = true
		c.open[e.Index] = e.Block.Type
	case EventBlockDelta, EventAnnotation:
		t, ok := c.open[e.Index]
		switch {
		case !ok:
			c.breach("%s for block %d, which is not open", e.Kind, e.Index)
		case e.Kind == EventBlockDelta && len(e.Data) == 0 && !e.Replace:
			c.breach("empty delta for block %d", e.Index)
		case e.Kind == EventAnnotation && t != BlockText:
			c.breach("annotation on a %s block", t)
		}
	case EventBlockEnd:
		if _, ok := c.open[e.Index]; !ok {
			c.breach("end of block %d, which is not open", e.Index)
		}
		delete(c.open, e.Index)
	case EventFinish:
		if len(c.open) > 0 {
			c.breach("finish with %d blocks open", len(c.open))
		}
		c.ended = true
	case EventUsage, EventNative:
	default:
		c.breach("unknown event kind %d", e.Kind)
	}
}
