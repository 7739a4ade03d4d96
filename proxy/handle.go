package proxy

import (
	"github.com/tidwall/gjson"

	"github.com/dragoman-proxy/dragoman/internal/jsonx"
	"github.com/dragoman-proxy/dragoman/internal/state"
	"github.com/dragoman-proxy/dragoman/translate"
)

// handle is what a call knows of a conversation that its backend keeps itself, beside ours.
//
// In the store a mark says which turn of ours is the latest that such a conversation has: it can go on from that one alone.
// It is moved before the backend is asked, to the turn that is about to be: if that fails, the backend may have heard
// of it all the same, and no turn of ours is the latest any more.
type handle struct {
	agent  *agent
	before []byte // the mark as it was, nil for none
	name   string // of the backend's conversation, "" until it is known
	marked bool
}

func markRef(conv, agent string) state.Ref {
	return objectRef(conv, "mark-"+foreignRef(agent).Conv)
}

// handled settles whether the request goes on in a conversation of its backend's own, and then in which: history is
// what goes along. Its turns go one by one.
func (c *call) handled(r *translate.Request) (own bool, e *translate.Error) {
	t := c.thread
	kind := c.agent.protocol.Handles
	if kind == nil || !t.keeps || c.front != nil {
		return false, nil // a fallback agent has never heard of it
	}
	made, owned := kind(&c.agent.tr)
	if !owned {
		return false, nil
	}
	if t.unlock == nil {
		if t.unlock, e = c.lock(t.conv); e != nil {
			return false, e
		}
	}
	h := t.handle
	if h == nil {
		h = &handle{agent: c.agent}
		t.handle = h
		found, e := c.readState(state.Read{Convs: []string{t.conv}, Refs: []state.Ref{markRef(t.conv, c.agent.conf.Name)}})
		if e != nil {
			return false, e
		}
		if mark := found.Values[0]; mark != nil && jsonx.Valid(mark) {
			h.before = mark
			latest, name := gjson.GetBytes(mark, "turn").String(), gjson.GetBytes(mark, "handle").String()
			switch {
			case t.before == "" || name == "":
			case latest == t.before:
				h.name = name
			case c.agent.tr.Option("branch", "") == "refuse" || made:
				for i := range found.Turns[0] {
					if found.Turns[0][i].Name == latest {
						return false, &translate.Error{Kind: translate.KindInvalid, Status: 400, Code: "previous_response_not_latest", Param: "previous_response_id",
							Message: "The agent keeps the conversation itself, which has gone on since: it can be continued from its latest answer alone."}
					}
				}
			}
		}
	}
	if h.name != "" {
		r.Handle = h.name
		return true, nil
	}
	if made {
		h.name = newUUID()
		r.Handle = h.name
		return false, nil
	}
	return false, nil
}

// mark moves the mark to the turn that is about to be.
func (c *call) mark() *translate.Error {
	t := c.thread
	if t == nil || t.handle == nil || c.agent != t.handle.agent {
		return nil
	}
	t.handle.marked = true
	return c.changeState(state.Change{Put: []state.Entry{c.markEntry("")}}, nil)
}

func (c *call) markEntry(name string) state.Entry {
	t := c.thread
	value := jsonx.AppendStringS([]byte(`{"turn":`), t.name)
	value = jsonx.AppendStringS(append(value, `,"handle":`...), name)
	return state.Entry{Ref: markRef(t.conv, t.handle.agent.conf.Name), Value: append(value, '}')}
}

// unmark puts the mark back after a request that no backend can have begun with.
func (c *call) unmark(e *translate.Error) {
	t := c.thread
	if t == nil || t.handle == nil || !t.handle.marked || e.NoRetry || c.ran {
		return
	}
	t.handle.marked = false
	var change state.Change
	change.Put, change.Remove = c.unmarked(nil, nil)
	c.saveState(change)
}

// unmarked adds to a change that the mark is as it was.
func (c *call) unmarked(put []state.Entry, remove []state.Ref) ([]state.Entry, []state.Ref) {
	ref := markRef(c.thread.conv, c.thread.handle.agent.conf.Name)
	if before := c.thread.handle.before; before != nil {
		return append(put, state.Entry{Ref: ref, Value: before}), remove
	}
	return put, append(remove, ref)
}

// forgotten reports whether the backend has lost the conversation that the request was to go on in: nothing has run, and all of
// it can be told again.
func (c *call) forgotten(e *translate.Error) bool {
	t := c.thread
	if t == nil || t.handle == nil || c.req.Handle == "" || e.Status != 404 || c.agent != t.handle.agent || c.ran {
		return false
	}
	t.handle.name = ""
	return true
}

// retell reads the request anew and encodes it with all that was said before.
func (c *call) retell(in *translate.Inbound, out *buffer) *translate.Error {
	again := *in
	usage := c.req.NeedsUsage
	req, e := c.face.DecodeRequest(&again)
	if e != nil {
		return e
	}
	req.NeedsUsage = usage
	req.ConversationID = c.req.ConversationID
	c.req = req
	if e := c.giveHistory(req); e != nil {
		return e
	}
	out.b = out.b[:0]
	return c.encode(out)
}
