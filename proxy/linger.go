package proxy

import (
	"io"
	"net"
	"time"
)

const (
	// lingerTime and lingerSize bound how long, and how much of, a request is
	// thrown away that was refused without being read.
	lingerTime = 2 * time.Second
	lingerSize = 64 << 20
	// lastLinger is lingerTime of a server that has stopped accepting.
	lastLinger = 250 * time.Millisecond
)

// linger says whether a client's connection is to be closed in two steps, because
// the rest of a refused request may still be on its way. A socket that is closed
// with unread bytes in it is reset, and a reset takes the answer from the client
// before it has read it: a broken connection in place of a 401 or a 413.
func linger(conn net.Conn, lingers bool) {
	if c := clientOf(conn); c != nil {
		c.lingers.Store(lingers)
	}
}

// lingerOut says that nothing more follows and waits, within bounds, until the
// client has said all that it had to say. A server that stops waits for a moment.
func (c *clientConn) lingerOut() {
	limit := c.l.lingers
	select {
	case <-c.l.closed:
		limit = lastLinger
	default:
	}
	half, ok := c.Conn.(interface{ CloseWrite() error })
	if !ok || half.CloseWrite() != nil {
		return
	}
	_ = c.raw.SetReadDeadline(time.Now().Add(limit))
	_, _ = io.CopyN(io.Discard, c.raw, lingerSize)
}
