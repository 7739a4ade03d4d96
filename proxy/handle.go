package proxy

import (
	"strings"
	"time"

	"github.com/dragoman-proxy/dragoman/internal/state"
	"github.com/dragoman-proxy/dragoman/translate"
)

// handle is what a call knows of the conversation that its backend keeps itself, beside ours.
//
// Each turn of ours is kept with the backend's name of the conversation that it became part of. An entry of its own, the
// turn's mark, says that the backend's conversation ends with it: it can go on from there alone. The mark is taken away
// before the backend is asked, and whoever takes it has the conversation to himself; it is set at the new turn
// when that is kept. In between the backend may have heard what we do not know to have been said, and then no
// turn of ours has the mark: what comes next is told anew, in a new conversation.
type handle struct {
	agent *agent
	made  bool   // the name is of our making
	name  string // of the backend's conversation
	from  string // the turn of ours that it ends with
	goes  bool   // the request goes on there
	taken bool   // the mark was taken away
}

// markRef is where a turn is marked as the latest of its backend's conversation.
func markRef(conv, turn string) state.Ref { return objectRef(conv, "latest-"+turn) }

// markOf is the mark of a turn.
func markOf(conv, turn string) state.Entry {
	return state.Entry{Ref: markRef(conv, turn), Value: []byte("{}")}
}

// errMarkGone says that another request has gone on from the same turn.
var errMarkGone = &translate.Error{Kind: translate.KindConflict, Status: 409, Code: "conversation_locked", RetryAfter: time.Second,
	Message: "Another request is at work on this conversation."}

// handled settles whether the request goes on in a conversation of its backend's own: then history does not go
// along. A fallback agent has never heard of it, and what is not kept has no place in it.
func (c *call) handled(r *translate.Request) (goes bool, e *translate.Error) {
	t := c.thread
	kind := c.agent.protocol.Handles
	if kind == nil || !t.keeps || c.front != nil {
		return false, nil
	}
	made, owned := kind(&c.agent.tr)
	if !owned {
		return false, nil
	}
	h := t.handle
	if h == nil {
		h = &handle{agent: c.agent, made: made}
		t.handle = h
		if e := c.findHandle(h); e != nil {
			return false, e
		}
	}
	if made && !h.goes {
		h.name = newUUID() // one that nothing was said in
	}
	if made || h.goes {
		r.Handle = h.name
	}
	return h.goes, nil
}

// branches reports whether what was said may be told a second time, in another conversation.
func (h *handle) branches() bool { return !h.made && h.agent.tr.Option("branch", "replay") != "refuse" }

// findHandle looks for the backend's conversation that ends where the request goes on. Its turns go one by one: a
// lease says whose it is, where ours does not say that already.
func (c *call) findHandle(h *handle) *translate.Error {
	t := c.thread
	if len(t.turns) == 0 {
		return nil
	}
	last := &t.turns[len(t.turns)-1]
	if last.by != h.agent.conf.Name || last.handle == "" {
		return nil // it has not heard what was said last
	}
	release := func() {}
	if c.face.Threads == translate.ThreadsByTurn {
		var e *translate.Error
		if release, e = c.lock("h" + foreignRef(last.by+" "+last.handle).Conv); e != nil {
			return e
		}
	}
	found, e := c.readState(state.Read{Refs: []state.Ref{markRef(t.conv, last.name)}})
	switch {
	case e != nil:
		release()
		return e
	case found.Values[0] == nil:
		release()
		if h.branches() {
			return nil
		}
		return c.refuseBranch(last.name)
	}
	h.name, h.from, h.goes = last.handle, last.name, true
	if before := t.unlock; before != nil {
		t.unlock = func() { release(); before() }
	} else {
		t.unlock = release
	}
	return nil
}

// refuseBranch refuses to go on from a turn that another one has gone on from. Where nobody has, the backend only failed.
func (c *call) refuseBranch(from string) *translate.Error {
	found, e := c.readState(state.Read{Convs: []string{c.thread.conv}})
	if e != nil {
		return e
	}
	for i := range found.Turns[0] {
		if tu, ok := parseTurn(found.Turns[0][i].Name, found.Turns[0][i].Value); ok && tu.prev == from && tu.status == "" {
			return &translate.Error{Kind: translate.KindInvalid, Status: 400, Code: "previous_response_not_latest", Param: "previous_response_id",
				Message: "The agent keeps the conversation itself, which has gone on since: it can be continued from its latest answer alone."}
		}
	}
	return nil
}

// converseWith asks the agent, with what is in out, in the backend's own conversation if it goes on there. If that
// cannot be, because the backend has lost it or another request was faster, all that was said before is told anew, once.
func (c *call) converseWith(in *translate.Inbound, out *buffer, strict bool, ask func() *translate.Error) *translate.Error {
	e := c.takeMark()
	if e == errMarkGone && c.thread.handle.branches() {
		e = c.retell(in, out, strict)
	}
	if e != nil {
		return e
	}
	if e = ask(); e != nil && c.forgotten(e) {
		c.thread.handle.taken = false // nothing goes on there any more
		if e = c.retell(in, out, strict); e == nil {
			e = ask()
		}
	}
	if e != nil {
		c.returnMark(e)
	}
	return e
}

// takeMark takes away the mark of the turn that the request goes on from.
func (c *call) takeMark() *translate.Error {
	t := c.thread
	if t == nil || t.handle == nil || !t.handle.goes {
		return nil
	}
	ref := []state.Ref{markRef(t.conv, t.handle.from)}
	if e := c.changeState(state.Change{Need: ref, Remove: ref}, errMarkGone); e != nil {
		return e
	}
	t.handle.taken = true
	return nil
}

// returnMark puts the mark back after a request that no agent can have begun with.
func (c *call) returnMark(e *translate.Error) {
	t := c.thread
	if t == nil || t.handle == nil || !t.handle.taken || e.NoRetry || c.ran {
		return
	}
	t.handle.taken = false
	// If it cannot be put back the next request is told anew, which is as true.
	_ = c.changeState(state.Change{Need: []state.Ref{turnRef(t.conv, t.handle.from)}, Put: []state.Entry{markOf(t.conv, t.handle.from)}}, errMarkGone)
}

// moveMark adds to the change that keeps a turn that the backend's conversation ends with it now. If another agent has answered,
// and this one has not heard of it, its conversation still ends where it did.
func (c *call) moveMark(change *state.Change, tu *keptTurn) {
	t := c.thread
	switch h := t.handle; {
	case h == nil:
	case c.agent != h.agent:
		if h.taken && !c.ran {
			change.Put = append(change.Put, markOf(t.conv, h.from))
		}
	default:
		if tu.handle = t.keep.Handle; h.made || tu.handle == "" {
			tu.handle = c.req.Handle
		}
		if tu.handle != "" {
			change.Put = append(change.Put, markOf(t.conv, t.name))
		}
	}
}

// forgotten reports whether the backend has lost the conversation that the request was to go on in, so that nothing
// has run.
func (c *call) forgotten(e *translate.Error) bool {
	t := c.thread
	return t != nil && t.handle != nil && t.handle.goes && c.agent == t.handle.agent && !c.ran &&
		e.Status == 404 && strings.Contains(e.Message, "previous_response_id")
}

// mayHaveHeard reports whether an attempt that failed may have left its words in the backend's own conversation, so that
// they must not be said there again.
func (c *call) mayHaveHeard() bool {
	t := c.thread
	return t != nil && t.handle != nil && c.agent == t.handle.agent && c.ran && c.req.Handle != ""
}

// retell reads the request anew and encodes it with all that was said before, for a new conversation of the backend's.
func (c *call) retell(in *translate.Inbound, out *buffer, strict bool) *translate.Error {
	req, e := c.reread(in)
	if e != nil {
		return e
	}
	c.thread.handle.goes = false
	if e := c.giveHistory(req); e != nil {
		return e
	}
	c.req = req
	out.b = out.b[:0]
	if e := c.encode(out); e != nil {
		return e
	}
	return c.strictly(strict)
}

// reread reads the request once more, because encoding has left marks in it, with what the proxy itself has noted in it.
func (c *call) reread(in *translate.Inbound) (*translate.Request, *translate.Error) {
	again := *in
	req, e := c.face.DecodeRequest(&again)
	if e != nil {
		return nil, e
	}
	req.Stream, req.NeedsUsage, req.ConversationID = c.req.Stream, c.req.NeedsUsage, c.req.ConversationID
	return req, nil
}
