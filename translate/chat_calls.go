package translate

import "bytes"

// toolDelta handles one piece of a tool call. It returns false if the answer
// has failed.
func (d *completionDecoder) toolDelta(out Sink, t *toolDelta) bool {
	i := d.callOf(t)
	if i < 0 {
		if len(t.id) == 0 && len(t.name) == 0 && len(t.args.b) == 0 {
			return true // announces nothing
		}
		if len(d.calls) >= maxCalls {
			d.fail(out, Unreadable(errManyCalls))
			return false
		}
		d.calls = append(d.calls, completionCall{index: t.index, block: -1})
		i = len(d.calls) - 1
		d.calls[i].custom = t.custom
		d.closeFor(out)
	}
	c := &d.calls[i]
	if c.id == "" && len(t.id) > 0 {
		c.id = string(t.id)
	}
	if len(t.name) > 0 && !c.opened && (c.name == "" || d.continues(c, t)) {
		c.name += string(t.name)
	}
	args := t.args
	switch {
	case len(args.b) == 0:
	case c.ended:
		if len(bytes.TrimSpace(args.b)) > 0 {
			d.s.Ledger.Note("tool_calls")
		}
		return true
	default:
		data := d.join(&c.half, args)
		if !c.custom {
			c.scan.Write(data)
		}
		if c.opened {
			d.argue(out, c, data)
			return true
		}
		c.held = append(c.held, data...)
	}
	if !c.opened {
		if t.index == functionCallIndex && c.id == "" {
			c.id = d.s.ID("call_", i) // the deprecated form has no ids
		}
		d.openReady(out, false)
		if c = &d.calls[i]; len(c.held) > maxHeldArguments {
			return d.openHeld(out)
		}
	}
	return true
}

// openHeld opens all calls that wait, because they have waited for too much.
func (d *completionDecoder) openHeld(out Sink) bool {
	for ; d.pending < len(d.calls); d.pending++ {
		c := &d.calls[d.pending]
		if c.name == "" {
			d.fail(out, Unreadable(errNamelessCall))
			return false
		}
		d.openCall(out, c, d.pending)
	}
	return true
}

// callOf finds the call that t belongs to, -1 if it begins a new one. The index
// alone tells calls apart where backends keep to the protocol; some put all
// calls on index 0 with ids or names of their own, some give no index.
func (d *completionDecoder) callOf(t *toolDelta) int {
	if len(t.id) > 0 {
		for i := len(d.calls) - 1; i >= 0; i-- {
			c := &d.calls[i]
			if c.id == string(t.id) && (t.index < 0 || c.index < 0 || c.index == t.index) {
				return i
			}
		}
	}
	i := len(d.calls) - 1
	for t.index != -1 && i >= 0 && d.calls[i].index != t.index {
		i--
	}
	if i < 0 {
		return -1
	}
	c := &d.calls[i]
	complete := c.scan.Complete() && !c.custom
	switch {
	case len(t.id) > 0 && c.id != "" && (len(t.name) > 0 || complete):
		return -1
	case len(t.id) > 0 && c.id == "" && complete && c.name != "" && len(t.name) > 0 && len(t.args.b) > 0:
		return -1
	case len(t.id) > 0 || len(t.name) == 0 || c.name == "" || !c.opened && d.continues(c, t):
	case c.name != string(t.name) && (!c.scan.Empty() || len(t.args.b) != 0), complete && len(t.args.b) > 0:
		return -1
	}
	return i
}

// begins reports whether a name is only the beginning of an offered tool's: some
// servers send names in pieces.
func (d *completionDecoder) begins(name string) bool {
	if d.s.Request == nil {
		return false
	}
	longer := false
	for i := range d.s.Request.Tools {
		switch t := d.s.Request.Tools[i].Name; {
		case t == name:
			return false
		case len(t) > len(name) && t[:len(name)] == name:
			longer = true
		}
	}
	return longer
}

// continues reports whether the name in t is the next piece of that of c.
func (d *completionDecoder) continues(c *completionCall, t *toolDelta) bool {
	if c.name == "" || len(t.name) == 0 || !d.begins(c.name) {
		return false
	}
	n := len(c.name) + len(t.name)
	for i := range d.s.Request.Tools {
		if o := d.s.Request.Tools[i].Name; len(o) >= n && o[:len(c.name)] == c.name && o[len(c.name):n] == string(t.name) {
			return true
		}
	}
	return false
}

// argue emits arguments.
func (d *completionDecoder) argue(out Sink, c *completionCall, data []byte) {
	if len(data) == 0 {
		return
	}
	d.delta.Index, d.delta.Data, d.delta.Logprobs = c.block, data, nil
	out.Event(&d.delta)
}

// openReady opens, in order, the calls whose name and id are known. An id may
// come late, and it is the backend's word for the call when the result comes
// back: so arguments wait for it, until they are complete and something else
// begins.
func (d *completionDecoder) openReady(out Sink, other bool) {
	for ; d.pending < len(d.calls); d.pending++ {
		c := &d.calls[d.pending]
		passed := other || d.pending < len(d.calls)-1
		if c.name == "" || c.id == "" && (!passed || !c.scan.Complete()) || !passed && c.scan.Empty() && d.begins(c.name) {
			return
		}
		d.openCall(out, c, d.pending)
	}
}

func (d *completionDecoder) openCall(out Sink, c *completionCall, i int) {
	d.closeCur(out, whole)
	if c.id == "" {
		c.id = d.s.ID("call_", i)
	}
	d.said[BlockToolCall] = true
	c.opened, c.block = true, d.next
	d.next++
	d.block = Block{Type: BlockToolCall, Name: c.name, CallID: c.id, Custom: c.custom}
	d.ev = Event{Kind: EventBlockStart, Index: c.block, Block: &d.block}
	out.Event(&d.ev)
	d.argue(out, c, c.held)
	c.held = nil
}

func (d *completionDecoder) endCall(out Sink, c *completionCall, status endOf) {
	if c.half != 0 {
		c.half = 0
		d.argue(out, c, append(d.scratch[:0], "\uFFFD"...))
	}
	c.ended = true
	d.end(out, c.block, status)
}
