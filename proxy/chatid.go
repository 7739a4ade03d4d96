package proxy

import (
	"crypto/sha256"
	"encoding/hex"
	"time"

	"github.com/dragoman-proxy/dragoman/internal/state"
	"github.com/dragoman-proxy/dragoman/translate"
)

// answeredConv is where a conversation is kept whose id is that of all its answers.
func answeredConv(id string) string { return "p" + id }

// errNoConversation is the vendor's own answer to an id that means nothing to the caller.
func errNoConversation() *translate.Error {
	return &translate.Error{Kind: translate.KindNotFound, Status: 404, Code: "previous_response_not_found", Param: "previous_response_id",
		Message: "previous_response_id does not match a valid conversation"}
}

// recallAnswered reads a conversation whose id is that of all its answers. It goes on at its end, whichever answer
// the client has in mind, and so its turns go one by one.
func (c *call) recallAnswered(id string) (e *translate.Error) {
	t := c.thread
	name := id[len("resp_"):]
	ok := len(name) == convSize && isHex(name)
	if !ok { // asked for nevertheless, so that it takes as long
		name = hexID(convSize)
	}
	t.conv = answeredConv(name)
	if t.unlock, e = c.lock(t.conv); e != nil {
		return e
	}
	found, e := c.readState(state.Read{Convs: []string{t.conv}})
	if e != nil {
		return e
	}
	turns, good := whole(found.Turns[0])
	if !ok || !good || len(turns) == 0 || turns[len(turns)-1].agent != c.agent.conf.Name {
		return errNoConversation()
	}
	t.turns, t.before = turns, turns[len(turns)-1].name
	return nil
}

// recallNamed reads the conversation that the client names, or gives it a name. One that is busy with another turn is
// refused, as the vendor's server does. A client that sends more than its newest message knows best what was said.
func (c *call) recallNamed() *translate.Error {
	if c.thread == nil {
		c.thread = &thread{}
	}
	t := c.thread
	t.recalled = true
	if c.req.ConversationID == "" {
		c.req.ConversationID = newUUID()
	}
	sum := sha256.Sum256([]byte(c.req.ConversationID))
	t.conv = "c" + hex.EncodeToString(sum[:convSize/2])
	ok, e := c.tryLock(t.conv)
	if e != nil {
		return e
	}
	if !ok {
		return &translate.Error{Kind: translate.KindConflict, Status: 409, Code: "run_in_progress", Param: c.req.ConversationID, RetryAfter: 2 * time.Second,
			Message: "This chat is still working on your last message."}
	}
	t.unlock = c.keepLock(t.conv)
	if !c.req.Lone {
		t.replaces = []state.Ref{{Conv: t.conv}}
		return nil
	}
	found, e := c.readState(state.Read{Convs: []string{t.conv}})
	if e != nil {
		return e
	}
	turns, good := whole(found.Turns[0])
	if !good {
		return errStateDown(errUnreadable)
	}
	if n := len(turns); n > 0 {
		t.turns, t.before = turns, turns[n-1].name
	}
	return nil
}

// newUUID is a random UUID, version 4.
func newUUID() string {
	h := []byte(hexID(convSize))
	h[12], h[16] = '4', "89ab"[h[16]&3]
	return string(h[:8]) + "-" + string(h[8:12]) + "-" + string(h[12:16]) + "-" + string(h[16:20]) + "-" + string(h[20:])
}
