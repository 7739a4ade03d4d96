package proxy

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/tidwall/gjson"

	"github.com/dragoman-proxy/dragoman/internal/state"
	"github.com/dragoman-proxy/dragoman/translate"
)

// sharePause is how often the events of a run are kept that have come, and looked for by proxies which tell them too. What a proxy
// has told in its last moment is lost with it.
const sharePause = time.Second

// keptPieces is what is kept of the events of a run: pieces one behind the other, and beside them an entry that says how many there
// are, and whether they are all.
type keptPieces struct {
	n     int // pieces
	bytes int
	tried int  // where a piece ends of which nobody knows whether it was kept; 0: there is none
	lost  bool // there is no room, or nobody to keep them for
}

// piecesRef is where it is said how many pieces there are of the events of an answer that was made in the background with a stream.
func piecesRef(conv, name string) state.Ref { return objectRef(conv, "events-"+name) }

// pieceRef is where a piece is; the first is 1.
func pieceRef(conv, name string, n int) state.Ref {
	return objectRef(conv, "events-"+name+"-"+strconv.Itoa(n))
}

func piecesEntry(conv, name string, n int, whole bool) state.Entry {
	return state.Entry{Ref: piecesRef(conv, name), Value: fmt.Appendf(nil, "%d %t", n, whole)}
}

// parsePieces reads what piecesEntry says.
func parsePieces(value []byte) (n int, whole, ok bool) {
	count, all, _ := strings.Cut(string(value), " ")
	n, err := strconv.Atoi(count)
	whole = all == "true"
	return n, whole, err == nil && n >= 0 && (whole || all == "false")
}

// keepEvents keeps what has been told since it was called last, for those who ask elsewhere or later; whole: there will be no more.
func (x *run) keepEvents(whole bool) {
	if !x.streamed() {
		return
	}
	for again := true; again && !x.pieces.lost; {
		again = x.keepPiece(whole)
	}
}

// keepPiece reports whether there is more to be kept.
func (x *run) keepPiece(whole bool) (more bool) {
	c, k := x.call, &x.pieces
	x.mu.Lock()
	events := x.events // only ever appended to
	x.mu.Unlock()
	if k.tried > 0 { // somebody may have read that piece already, so it is kept as it was
		events, whole, more = events[:k.tried], false, true
	}
	piece := events[k.bytes:]
	if len(piece) == 0 && !whole {
		return false
	}
	conv, name, n := c.thread.conv, c.thread.name, k.n
	change := state.Change{Need: []state.Ref{turnRef(conv, name)}}
	if len(piece) > 0 {
		n++
		change.Put = append(change.Put, state.Entry{Ref: pieceRef(conv, name, n), Value: piece})
	}
	change.Put = append(change.Put, piecesEntry(conv, name, n, whole))
	if e := c.changeState(change, notThere("Response", x.id)); e != nil {
		k.tried = len(events)
		k.lost = e.Kind != translate.KindOverloaded // else it is tried again with what comes
		return false
	}
	k.n, k.bytes, k.tried = n, len(events), 0
	return more
}

// keptEvents reads the pieces behind the first so many. There are none of an answer that was made otherwise.
func (c *call) keptEvents(conv, name string, behind int) (events []byte, n int, whole, there bool, e *translate.Error) {
	found, e := c.readState(state.Read{Refs: []state.Ref{piecesRef(conv, name)}})
	if e != nil || found.Values[0] == nil {
		return nil, 0, false, false, e
	}
	n, whole, ok := parsePieces(found.Values[0])
	if !ok || n < behind {
		c.s.stateFailed("read", errUnreadable)
		return nil, 0, false, false, errStateDown(errUnreadable)
	}
	if n == behind {
		return nil, n, whole, true, nil
	}
	var q state.Read
	for i := behind + 1; i <= n; i++ {
		q.Refs = append(q.Refs, pieceRef(conv, name, i))
	}
	if found, e = c.readState(q); e != nil {
		return nil, 0, false, false, e
	}
	for _, piece := range found.Values {
		if piece == nil { // deleted meanwhile
			return nil, 0, false, false, nil
		}
		events = append(events, piece...)
	}
	return events, n, whole, true, nil
}

// mirror is a run that another proxy works at, or that has ended, as far as is known here.
type mirror struct {
	*run
	seq int64 // of the last event that the client has had
	n   int   // pieces that are known
}

// step tells what has been kept since the last one. over: that was all.
func (m *mirror) step() (over bool, e *translate.Error) {
	c := m.call
	conv, name, _ := splitID(m.id)
	// What has become of the answer is kept before its last events are: asked for in this order, an end is never told too early.
	tu, object, e := c.stored(m.id)
	if e != nil {
		return false, e
	}
	more := func() (whole, there bool, e *translate.Error) {
		events, n, whole, there, e := c.keptEvents(conv, name, m.n)
		if e == nil && there && n > m.n {
			m.publish(events)
			m.n = n
		}
		return whole, there, e
	}
	whole, there, e := more()
	switch {
	case e != nil:
		return false, e
	case !there && m.n == 0:
		return false, translate.Invalid(translate.At("stream"), "This response cannot be streamed: it was not made in the background with a stream.")
	case !there:
		return false, notThere("Response", m.id)
	case whole || tu.status == "queued":
		return whole, nil
	}
	ctx, stop := c.stateContext()
	holder, err := c.s.state.Leased(ctx, c.owner(), "run-"+conv+name)
	stop()
	if err != nil {
		c.s.stateFailed("read", err)
		return false, errStateDown(err)
	}
	if holder != "" { // keeps the rest now
		return false, nil
	}
	if whole, there, e = more(); e != nil || whole || !there {
		return whole, e
	}
	// The rest was lost with the proxy that worked at it, or there was no room.
	m.publish(m.face.AppendLast(nil, max(m.following(m.seq), 2), gjson.GetBytes(object, "status").String(), c.shownResponse(object, tu)))
	return true, nil
}

// feed tells what is kept as it comes, until the end or until nobody listens. While the store fails nothing is told.
func (m *mirror) feed(stop <-chan struct{}) {
	defer m.end()
	t := time.NewTicker(m.call.s.share)
	defer t.Stop()
	for {
		select {
		case <-stop:
			return
		case <-t.C:
		}
		switch over, e := m.step(); {
		case over:
			return
		case e != nil && e.Kind != translate.KindOverloaded: // it was deleted
			m.publish(m.face.AppendCut(nil, m.following(m.seq), e))
			return
		}
	}
}
