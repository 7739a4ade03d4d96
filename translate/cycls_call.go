package translate

import (
	"bytes"

	"github.com/dragoman-proxy/dragoman/internal/jsonx"
)

// cyclsCall is a tool call of the agent, announced by a step. It stays in the
// list after its end, so that its completion is not taken for another call.
type cyclsCall struct {
	id   string
	name string
	at   int
	open bool
	args jsonx.Scanner
}

// cyclsMaxCalls is how many calls are remembered; a run has a few dozen.
const cyclsMaxCalls = 256

// step is a line of progress, or, with an id or a tool's name, a call that the
// agent runs: announced, filled by step_arg (.128 and newer), completed by a
// step that has a result (.141 and newer). The stored form has all in one.
func (d *cyclsDecoder) step(out Sink, data []byte) {
	id, label, tool := d.str(cyID), d.value(cyStep), d.str(cyToolName)
	if len(id) == 0 && len(tool) == 0 {
		if len(label) == 0 {
			d.data(out, []byte("step"), data)
			return
		}
		d.block = Block{Type: BlockStep, Name: viewString(label)}
		at := d.begin(out)
		d.emit(out, at, d.value(cyData)) // older themes
		d.emit(out, at, d.value(cyResult))
		d.end(out, at, StatusComplete)
		return
	}
	if len(tool) == 0 {
		tool = label
	}
	c := d.call(id)
	if c == nil && len(tool) > 0 {
		c = d.beginCall(out, id, tool, label)
	}
	args := d.value(cyArgs)
	if args == nil {
		args = d.value(cyData)
	}
	if c != nil && c.open && len(args) > 0 {
		c.args.Write(args)
		d.emit(out, c.at, args)
	}
	if !d.has(cyOK) && !d.has(cyResult) {
		return
	}
	if c != nil {
		d.endCall(out, c)
	}
	d.block = Block{Type: BlockToolResult, Ran: true, CallID: viewString(id)}
	if c != nil {
		d.block.CallID, d.block.Name = c.id, c.name
	}
	status := StatusComplete
	if d.has(cyOK) && string(d.fields[cyOK].b) == "false" {
		d.block.IsError, status = true, StatusFailed
	}
	at := d.begin(out)
	d.emit(out, at, d.value(cyResult))
	d.end(out, at, status)
}

// call finds a call by its id, nil if it is not known.
func (d *cyclsDecoder) call(id []byte) *cyclsCall {
	for i := len(d.calls) - 1; i >= 0; i-- {
		if d.calls[i].id == string(id) {
			return &d.calls[i]
		}
	}
	return nil
}

// beginCall opens a call; label is what the client shows for it.
func (d *cyclsDecoder) beginCall(out Sink, id, name, label []byte) *cyclsCall {
	if len(d.calls) >= cyclsMaxCalls {
		d.endCall(out, &d.calls[0])
		d.calls = append(d.calls[:0], d.calls[1:]...)
	}
	c := cyclsCall{id: string(id), name: string(name), open: true}
	if c.id == "" {
		c.id = d.s.ID("call_", d.next)
	}
	d.block = Block{Type: BlockToolCall, Ran: true, Name: c.name, CallID: c.id}
	if !bytes.Equal(label, name) {
		d.block.Title = viewString(label)
	}
	c.at = d.begin(out)
	d.calls = append(d.calls, c)
	return &d.calls[len(d.calls)-1]
}

func (d *cyclsDecoder) endCall(out Sink, c *cyclsCall) {
	if c.open {
		c.open = false
		d.end(out, c.at, StatusComplete)
	}
}

func (d *cyclsDecoder) stepArg(out Sink) {
	args := d.value(cyDelta)
	c := d.call(d.str(cyID))
	switch {
	case len(args) == 0:
	case c == nil || !c.open:
		d.s.Ledger.Note("step_arg")
	default:
		c.args.Write(args)
		d.emit(out, c.at, args)
	}
}

// toolCall is a generic call. A Cycls agent has no way to ask its client to run
// a tool, so it has run, unless the client offered a tool of that name.
func (d *cyclsDecoder) toolCall(out Sink, data []byte) {
	name := d.str(cyTool)
	if len(name) == 0 {
		d.data(out, []byte("tool_call"), data)
		return
	}
	id := d.str(cyID)
	if len(id) == 0 {
		d.text = d.s.AppendID(d.text[:0], "call_", d.next)
		id = d.text
	}
	ran := d.s.Request == nil || !d.s.Request.OffersTool(viewString(name))
	d.clientCalls = d.clientCalls || !ran
	d.block = Block{Type: BlockToolCall, Name: viewString(name), CallID: viewString(id), Ran: ran}
	at := d.beginContent(out)
	args := d.value(cyArgs)
	if args == nil {
		args = []byte("{}")
	}
	d.emit(out, at, args)
	d.end(out, at, StatusComplete)
}
