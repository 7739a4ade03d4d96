package proxy

import (
	"errors"
	"fmt"
	"net"
	"os"
	"strconv"
	"sync"
	"time"

	"github.com/valyala/fasthttp"

	"github.com/dragoman-proxy/dragoman/ratelimit"
	"github.com/dragoman-proxy/dragoman/translate"
)

const (
	// streamBeat is a comment, which every parser of server-sent events passes over.
	streamBeat = ": ping\n\n"
	// jsonBeat is white space, which JSON allows in front of a value.
	jsonBeat = "\n"
)

// heart keeps a client alive that waits for an agent: a timer sends it the head of an
// answer and then something that its protocol passes over, again and again. Whoever
// waits for the agent, in line, while dialling, for another attempt or for the first
// byte, need not know of it. It ends before anything else is written to the client.
//
// What it says it was given when it started: while it runs, the call is another
// goroutine's.
type heart struct {
	conn  net.Conn    // of the client; the heart alone writes to it until it is stopped
	gone  func(error) // the client takes nothing any more
	head  answerHead
	s     *Server
	then  time.Duration // from one beat to the next; 0: one is all
	limit time.Duration // for a write to the client

	// mu is held while a beat is written: the answer has to wait for its end anyway.
	mu      sync.Mutex
	timer   *time.Timer
	begun   bool // the head went out: the answer is one with status 200
	over    bool
	last    time.Time // of the last beat
	written int64
	err     error // a beat could not be written whole: nothing may follow it
}

// startHeart has the client of a call hear of it while its agent, which is about to be
// asked, is silent, if the agent's configuration says so.
func (c *call) startHeart(conn net.Conn) {
	h := &c.agent.conf.Heartbeat
	first, then := h.JSON, h.JSON
	if c.req.Stream {
		first, then = h.BeforeFirstByte, h.Stream
	}
	if first > 0 {
		c.heart = c.newHeart(conn, first, then, func(err error) { c.cancel.Cancel(err) })
	}
}

func (c *call) newHeart(conn net.Conn, first, then time.Duration, gone func(error)) *heart {
	h := &heart{conn: conn, gone: gone, s: c.s, then: then, limit: c.snap.conf.Server.Timeouts.Write, head: c.answerHead()}
	if c.log.limited != nil {
		limited := *c.log.limited // the call may note another
		h.head.limited = &limited
	}
	h.mu.Lock() // the timer may be faster
	h.timer = time.AfterFunc(first, h.beat)
	h.mu.Unlock()
	return h
}

// beat is what the timer does.
func (h *heart) beat() {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.over {
		return
	}
	now := time.Now()
	out := takeBuffer()
	defer out.drop()
	b := out.b
	if !h.begun {
		h.begun = true
		h.head.closes = h.head.closes || h.s.draining.Load()
		b = h.head.append(b, now)
	}
	text := jsonBeat
	if h.head.stream {
		text = streamBeat
	}
	if h.head.http10 {
		b = append(b, text...)
	} else {
		b = appendChunk(b, []byte(text))
	}
	out.b = b
	if h.limit > 0 {
		_ = h.conn.SetWriteDeadline(now.Add(h.limit))
	}
	n, err := h.conn.Write(b)
	h.written += int64(n)
	h.last = now
	if err != nil {
		h.over = true
		h.err = goneError(err, h.limit)
		h.gone(h.err)
		return
	}
	if h.then > 0 {
		h.timer.Reset(h.then)
	}
}

// committed reports whether the client was sent the head of its answer.
func (h *heart) committed() bool {
	if h == nil {
		return false
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.begun
}

// stop ends the heart, waits for a beat that is being written, and reports whether the
// client was sent the head of its answer. It may be called again, and of no heart.
func (h *heart) stop() (committed bool) {
	if h == nil {
		return false
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.over = true
	h.timer.Stop()
	return h.begun
}

// goneError is that of a client that does not take what it is sent.
func goneError(err error, limit time.Duration) error {
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return fmt.Errorf("%w: it took nothing for %v", errClientGone, limit)
	}
	return fmt.Errorf("%w: %w", errClientGone, err)
}

// answerHead is the head of an answer of status 200 that we write ourselves, because
// its length is not known or because it goes out before there is an answer.
type answerHead struct {
	id, agent string
	dropped   string // what the request could not be carried with
	limited   *ratelimit.Status
	passed    []byte // lines of the agent's, each with its end
	stream    bool
	http10    bool
	closes    bool // the connection serves no further request
	attempts  int  // how many were made
}

// answerHead is what the head of the call's answer says as far as that is known.
func (c *call) answerHead() answerHead {
	h := answerHead{id: c.id, agent: c.agentNames(), limited: c.log.limited, stream: c.req.Stream, http10: c.http10, closes: !c.keepAlive, attempts: c.log.attempts()}
	if c.req.Ledger.Len() > 0 {
		h.dropped = headerText(c.req.Ledger.Header())
	}
	return h
}

// append writes the head to b.
func (h *answerHead) append(b []byte, now time.Time) []byte {
	b = append(b, "HTTP/1.1 200 OK\r\nContent-Type: "...)
	if h.stream {
		b = append(b, eventStreamType+"\r\nCache-Control: no-cache\r\n"...)
	} else {
		b = append(b, "application/json\r\n"...)
	}
	b = append(b, "X-Accel-Buffering: no\r\nDate: "...) // nginx would keep the beats to itself
	b = fasthttp.AppendHTTPDate(b, now)
	b = append(b, "\r\nX-Request-Id: "...)
	b = append(b, h.id...)
	if h.agent != "" {
		b = append(b, "\r\nDragoman-Agent: "...)
		b = append(b, h.agent...)
	}
	if h.attempts > 1 {
		b = append(b, "\r\nDragoman-Attempts: "...)
		b = strconv.AppendInt(b, int64(h.attempts), 10)
	}
	h.limited.Headers(now, func(name, value string) {
		b = append(b, "\r\n"...)
		b = append(b, name...)
		b = append(b, ": "...)
		b = append(b, value...)
	})
	if h.dropped != "" {
		b = append(b, "\r\nDragoman-Dropped: "...)
		b = append(b, h.dropped...)
	}
	if len(h.passed) > 0 {
		b = append(b, "\r\n"...)
		b = append(b, h.passed[:len(h.passed)-len("\r\n")]...)
	}
	switch {
	case h.http10: // the end of the connection is the end of the body
		return append(b, "\r\nConnection: close\r\n\r\n"...)
	case h.closes:
		return append(b, "\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n"...)
	}
	return append(b, "\r\nTransfer-Encoding: chunked\r\n\r\n"...)
}

// remainder is what is left to be written of an answer when the call takes the client's
// connection over from the server.
type remainder interface {
	// run writes it, ends the call, and reports whether the connection can serve
	// another request; else it has been closed.
	run(conn net.Conn) (reuse bool)
}

// tail is a remainder that is known, all of it, behind a head that went out already or
// goes out with it.
type tail struct {
	c    *call
	head []byte           // nil: it went out
	body *buffer          // dropped behind its writing; nil: err is told
	err  *translate.Error // that a head of status 200 went out before
}

// run implements remainder. The agent has been heard, so its connection and the places
// in the limits are given back before the client takes its time.
func (t *tail) run(conn net.Conn) (reuse bool) {
	c := t.c
	defer func() {
		if r := recover(); r != nil {
			reuse = false
			c.log.status, c.log.err = 200, c.panicked(r)
		}
		if !reuse {
			_ = conn.Close()
		}
		if t.body != nil {
			t.body.drop()
		}
		c.finished()
	}()
	c.release()
	c.settle()
	if t.err != nil {
		c.log.status, c.log.err = 200, t.err
	}
	err := c.heartErr()
	if err == nil {
		if t.err != nil && t.err.Kind == translate.KindClosed {
			c.log.status = 499
			return false
		}
		if t.body == nil {
			t.body = takeBuffer()
			t.body.b = c.appendLate(t.body.b, t.err)
		}
		err = t.write(conn)
	}
	if err != nil {
		c.log.status, c.log.err = 499, cutError(err)
		return false
	}
	_ = conn.SetWriteDeadline(time.Time{})
	return c.keepAlive && !c.http10 && !c.s.draining.Load()
}

// write sends the rest to the client: as one chunk behind a head that went out, else as
// its head announced it.
func (t *tail) write(conn net.Conn) error {
	c := t.c
	first, body := t.head, t.body.b
	if first == nil && !c.http10 {
		var line [16]byte
		if len(body) > 0 {
			i := putHex(line[:], len(line)-2, len(body))
			line[len(line)-2], line[len(line)-1] = '\r', '\n'
			first = line[i:]
			body = append(body, '\r', '\n')
		}
		body = append(body, lastChunk...)
		t.body.b = body
	}
	limit := c.snap.conf.Server.Timeouts.Write
	for _, b := range [2][]byte{first, body} {
		if len(b) == 0 {
			continue
		}
		if limit > 0 {
			_ = conn.SetWriteDeadline(time.Now().Add(limit))
		}
		n, err := conn.Write(b)
		c.log.bytesOut += int64(n)
		if err != nil {
			return goneError(err, limit)
		}
	}
	return nil
}

// heartErr is why nothing more can be said behind the beats.
func (c *call) heartErr() error {
	if c.heart == nil {
		return nil
	}
	return c.heart.err // stopped
}

// appendLate tells a failure behind a head of status 200, in the face's own words: as
// the end of a stream, or as the body of an error.
func (c *call) appendLate(dst []byte, e *translate.Error) []byte {
	if !c.req.Stream {
		return c.face.AppendError(dst, e)
	}
	// An answer of which the client saw nothing may have ended already.
	setup := c.newSetup()
	return translate.NewAnswer(&setup, c.agent.protocol, true, true).End(dst, e)
}

// resume takes the client's connection over for what is left of an answer that the
// heart has begun.
func (c *call) resume(ctx *fasthttp.RequestCtx, r remainder) {
	if h := c.heart; h.stop() {
		c.keepAlive = c.keepAlive && !h.head.closes
		c.log.bytesOut += h.written
	}
	c.seize(ctx, r)
}

// seize has r written to the client's connection in a goroutine of its own, whereupon
// the connection returns to the server.
func (c *call) seize(ctx *fasthttp.RequestCtx, r remainder) {
	c.taken = true
	s := c.s
	ctx.HijackSetNoResponse(true)
	ctx.Hijack(func(hc net.Conn) {
		conn := hc.(interface{ UnsafeConn() net.Conn }).UnsafeConn()
		early := pipelined(hc)
		if e, ok := conn.(*earlyConn); ok { // it came back from a stream before
			conn, early = e.Conn, append(early, e.early...)
		}
		go func() {
			// The connection may idle for long: nothing of this call lives on in
			// the frame below that wait.
			if r.run(conn) {
				s.handBack(conn, early)
			}
		}()
	})
}
