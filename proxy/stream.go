package proxy

import (
	"errors"
	"io"
	"net"
	"os"
	"time"

	"github.com/valyala/fasthttp"

	"github.com/dragoman-proxy/dragoman/translate"
)

const (
	// settleTime is how long a stream that is complete may keep us waiting for
	// late usage and its terminator.
	settleTime = 2 * time.Second
	// preambleTime and preambleSize bound how long an answer that has only been
	// opened is held back: until then a failure can still be an HTTP error.
	preambleTime = 250 * time.Millisecond
	preambleSize = 64 << 10
	// drainTime is how long the end of a body whose content is complete is
	// waited for, so that the connection can be used again.
	drainTime = 50 * time.Millisecond
	// gatherTime is how long the letters of an agent that spells its answer out
	// may wait for more of them behind one that went out.
	gatherTime = 20 * time.Millisecond
)

var errContentEncoding = errors.New("the backend compressed its answer although identity was asked for")

// answer reads the agent's answer and writes the client's.
func (c *call) answer(ctx *fasthttp.RequestCtx) *translate.Error {
	stream, e := c.open()
	if e != nil {
		return e
	}
	if !stream || !c.req.Stream {
		out := takeBuffer()
		if e := c.await(out, stream); e != nil {
			out.drop()
			return e
		}
		c.whole(ctx, out)
		return nil
	}
	p := &pump{c: c, lastRead: time.Now()}
	if e := p.preamble(); e != nil {
		return e
	}
	if p.over && !c.heart.stop() {
		// All of it came at once: the worker can write it as it stands.
		p.drain()
		c.whole(ctx, p.held)
		c.log.err = c.ans.Err() // told in the stream
		return nil
	}
	c.resume(ctx, p)
	return nil
}

// open looks at the head of the agent's answer and prepares its translation.
// stream says that a stream follows, and not one body.
func (c *call) open() (stream bool, e *translate.Error) {
	if isEncoded(c.x) {
		return false, translate.Unreadable(errContentEncoding)
	}
	stream = isEventStream(c.x.ContentType())
	c.x.releaseHead()
	c.ans = translate.NewAnswer(&c.setup, c.agent.protocol, c.req.Stream, stream)
	c.ans.Gather()
	c.log.through = c.ans.PassedThrough()
	return stream, nil
}

// await reads an answer to its end and appends to out what the client gets.
func (c *call) await(out *buffer, stream bool) *translate.Error {
	if stream {
		return c.answerFolded(out)
	}
	return c.answerBody(out)
}

// answerBody serves a backend that answers with one JSON body.
func (c *call) answerBody(out *buffer) *translate.Error {
	in := takeBuffer()
	defer in.drop()
	var err error
	in.b, err = c.x.readAll(in.b, translate.MaxAnswer)
	c.log.bytesIn = int64(len(in.b))
	if err != nil {
		switch {
		case errors.Is(err, os.ErrDeadlineExceeded) && !c.total.IsZero() && !time.Now().Before(c.total):
			return tooLong(c.agent.conf.Timeouts.Total)
		case errors.Is(err, os.ErrDeadlineExceeded):
			return silent(c.agent.conf.Timeouts.Idle)
		case errors.Is(err, errBodyTooLarge):
			return translate.Unreadable(err)
		}
		return cutError(err)
	}
	c.x.finish(true)
	c.mask.apply(in.b)
	out.b = c.ans.Body(out.b, in.b)
	return c.ans.Err()
}

// answerFolded serves a client that wants JSON from a backend that streams.
func (c *call) answerFolded(out *buffer) *translate.Error {
	p := &pump{c: c, lastRead: time.Now(), out: &out.b}
	for !p.over {
		p.step()
		if p.finished() { // an agent that goes on after its end is not waited for
			p.finish(nil)
		}
	}
	if e := c.ans.Err(); e != nil {
		return e
	}
	p.drain()
	return nil
}

// whole answers with a body that is complete, and drops it. What fits into the kernel's
// buffers the server can write; a larger body is written by us, so that the log line can
// tell whether the client took it, and so is one whose head a heartbeat has sent.
func (c *call) whole(ctx *fasthttp.RequestCtx, body *buffer) {
	committed := c.heart.stop()
	h := &ctx.Response.Header
	c.headers(h)
	ctx.Response.SetStatusCode(200)
	if c.req.Stream {
		h.SetContentType(eventStreamType)
		h.Set("Cache-Control", "no-cache")
		h.Set("X-Accel-Buffering", "no")
	} else {
		h.SetContentType("application/json")
	}
	lost := c.req.Ledger
	for _, n := range c.losses.Names() {
		lost.Note(n)
	}
	c.log.dropped = lost.Names()
	if lost.Len() > 0 {
		h.Set("Dragoman-Dropped", headerText(lost.Header()))
	}
	c.log.status = 200
	c.answered(time.Now())
	if committed {
		c.resume(ctx, &tail{c: c, body: body})
		return
	}
	if !c.keepAlive || c.s.draining.Load() {
		c.keepAlive = false
		h.SetConnectionClose()
	}
	if len(body.b) > ownWrite && !c.http10 {
		h.SetContentLength(len(body.b))
		c.resume(ctx, &tail{c: c, body: body, head: h.AppendBytes(nil)})
		return
	}
	ctx.Response.SetBody(body.b)
	c.log.bytesOut = int64(len(body.b))
	body.drop()
}

// ownWrite is the length of a body that the kernel may not take at once.
const ownWrite = 64 << 10

const eventStreamType = "text/event-stream; charset=utf-8"

// pump moves a backend's stream to the client: one goroutine, and no buffer
// while nothing comes.
type pump struct {
	c    *call
	conn net.Conn // the client; nil while nothing was promised to it
	out  *[]byte  // where the output goes while conn is nil
	held *buffer  // of a stream's preamble: what out points to

	ahead *ahead // takes what the client does not; nil: the client's pace is the backend's

	lastRead, lastWrite time.Time
	opened              time.Time // first output held back
	spoke               time.Time // something of the answer went out last
	complete            time.Time // the answer was whole but for its terminator
	writeLimit          time.Time // the client's write deadline

	over    bool // the answer has ended, or nobody reads it any more
	atEnd   bool // the backend's body was read to its end
	gone    bool // the client left
	slow    bool // the client fell too far behind
	unseen  bool // no client waits for it
	served  bool // the client has all that matters: a whole answer but for its terminator
	failing *translate.Error

	seen *streamMeters // set by open
}

// step waits for the next bytes, or for the next thing that is due.
func (p *pump) step() {
	c := p.c
	c.x.setDeadline(p.deadline())
	err := c.x.read(p.arrived)
	switch {
	case p.over:
		if err == io.EOF {
			p.atEnd = true
		}
	case err == nil:
	case err == io.EOF:
		p.atEnd = true
		p.finish(nil)
	case errors.Is(err, os.ErrDeadlineExceeded):
		p.due(time.Now())
	default:
		e := cutError(err)
		if e.Kind == translate.KindClosed {
			p.leave(e)
			return
		}
		p.finish(e)
	}
}

// deadline is when something is due if nothing arrives: the end of a time
// limit, a heartbeat, or the end of waiting.
func (p *pump) deadline() time.Time {
	conf := p.c.agent.conf
	d := p.c.total
	sooner := func(t time.Time) {
		if d.IsZero() || t.Before(d) {
			d = t
		}
	}
	if t := conf.Timeouts.Idle; t > 0 {
		sooner(p.lastRead.Add(t))
	}
	if t := conf.Heartbeat.Stream; t > 0 && p.conn != nil {
		sooner(p.lastWrite.Add(t))
	}
	if !p.complete.IsZero() {
		sooner(p.complete.Add(settleTime))
	}
	if !p.opened.IsZero() && p.conn == nil && p.c.req.Stream && !p.unseen {
		sooner(p.opened.Add(p.c.s.hold))
	}
	if p.c.ans.Held() {
		sooner(p.spoke.Add(p.c.s.gather))
	}
	return d
}

// due does what time has come for. A deadline that moved on while it was armed
// does nothing here and is armed anew.
func (p *pump) due(now time.Time) {
	conf := p.c.agent.conf
	switch {
	case !p.c.total.IsZero() && !now.Before(p.c.total):
		p.finish(tooLong(conf.Timeouts.Total))
	case !p.complete.IsZero() && !now.Before(p.complete.Add(settleTime)):
		p.finish(nil)
	case conf.Timeouts.Idle > 0 && !now.Before(p.lastRead.Add(conf.Timeouts.Idle)):
		p.finish(silent(conf.Timeouts.Idle))
	case p.c.ans.Held() && !now.Before(p.spoke.Add(p.c.s.gather)):
		w := takeChunkWriter()
		w.begin()
		w.buf = p.c.ans.Flush(w.buf)
		p.speak(now)
		p.write(w, false, now)
		dropChunkWriter(w)
	case conf.Heartbeat.Stream > 0 && p.conn != nil && !now.Before(p.lastWrite.Add(conf.Heartbeat.Stream)):
		if p.ahead.behind() > 0 { // it has enough to read, and is asked after again when it may have caught up
			p.lastWrite = now
			return
		}
		w := takeChunkWriter()
		w.begin()
		w.buf = append(w.buf, streamBeat...)
		p.write(w, false, now)
		dropChunkWriter(w)
	}
}

// arrived translates what one read yielded; all of it leaves in one write.
func (p *pump) arrived(b []byte) error {
	if p.over {
		return nil
	}
	c := p.c
	now := time.Now()
	p.lastRead = now
	if p.tooFarBehind() {
		return nil
	}
	c.log.bytesIn += int64(len(b))
	c.mask.apply(b)
	if p.conn == nil {
		*p.out = c.ans.Feed(*p.out, b)
		p.note(now)
		return nil
	}
	w := takeChunkWriter()
	w.begin()
	c.ans.Hold(now.Sub(p.spoke) < c.s.gather)
	w.buf = c.ans.Feed(w.buf, b)
	if w.size() > 0 {
		p.speak(now)
	}
	p.note(now)
	if p.finished() {
		w.buf = c.ans.End(w.buf, nil)
		p.over = true
		p.write(w, true, now)
	} else if w.size() > 0 {
		p.write(w, false, now)
		p.lastRead = time.Now() // a client that took its time is not the backend's silence
	}
	dropChunkWriter(w)
	p.settle()
	return nil
}

// speak notes that a part of the answer goes out.
func (p *pump) speak(now time.Time) {
	p.seen.gaps.observe(now.Sub(p.spoke))
	p.spoke = now
}

// settle notes, behind a write, that the client has its whole answer. Clients
// close on the last event of a stream, before the backend's body has ended.
func (p *pump) settle() {
	p.served = !p.gone && p.c.ans.Ended() && p.c.ans.Err() == nil && p.ahead.behind() == 0
}

// note keeps the times that depend on what has been seen.
func (p *pump) note(now time.Time) {
	if p.complete.IsZero() && p.c.ans.Finishing() {
		p.complete = now
	}
	if p.opened.IsZero() {
		p.opened = now
	}
	p.c.log.through = p.c.ans.PassedThrough() // known only at the first event, with some backends
}

// finished reports whether the last bytes of the client's answer are known: a
// translated answer ends with its last event, one that is passed through with
// the backend's body, or where it could not be read on.
func (p *pump) finished() bool {
	if p.c.x.ended() {
		p.atEnd = true
		return true
	}
	return p.c.ans.Over()
}

// finish ends the answer; cause is nil if the backend's body ended cleanly.
func (p *pump) finish(cause *translate.Error) {
	if p.over {
		return
	}
	p.over = true
	if p.conn == nil {
		*p.out = p.c.ans.End(*p.out, cause)
		return
	}
	w := takeChunkWriter()
	w.begin()
	w.buf = p.c.ans.End(w.buf, cause)
	p.write(w, true, time.Now())
	dropChunkWriter(w)
}

// leave ends the answer of a client that is not there any more.
func (p *pump) leave(e *translate.Error) {
	p.over, p.gone, p.failing = true, true, e
	if p.c.ans != nil && p.conn == nil {
		*p.out = p.c.ans.End(*p.out, e)
	}
}

// write sends a chunk to the client. Its deadline rolls, and is set anew only
// when half of it has passed.
func (p *pump) write(w *chunkWriter, last bool, now time.Time) {
	var b []byte
	if p.c.http10 {
		b = w.buf[chunkReserve:] // the end of the connection is the end of the body
	} else {
		b = w.end(last)
	}
	if len(b) > 0 {
		p.send(b, now)
	}
}

func (p *pump) send(b []byte, now time.Time) {
	limit := p.c.snap.conf.Server.Timeouts.Write
	if limit > 0 && p.writeLimit.Sub(now) < limit/2 && p.ahead.behind() == 0 { // else it is that of what is being written
		p.writeLimit = now.Add(limit)
		_ = p.conn.SetWriteDeadline(p.writeLimit)
	}
	var n int
	var err error
	if p.ahead != nil {
		n, err = p.ahead.write(b)
	} else {
		n, err = p.conn.Write(b)
	}
	p.c.log.bytesOut += int64(n)
	p.lastWrite = now
	if err != nil {
		if !errors.Is(err, errClientGone) {
			err = goneError(err, limit)
		}
		p.c.cancel.Cancel(err)
		p.leave(cutError(err))
	}
}

// preamble reads until the agent has said something, has failed, or has kept
// what is known so far back long enough, and no further once a heartbeat has committed
// the answer. It leaves the output in *p.out.
func (p *pump) preamble() *translate.Error {
	held := takeBuffer()
	p.held, p.out = held, &held.b
	for !p.over && !p.c.ans.Started() && p.c.ans.Err() == nil {
		p.step()
		if !p.opened.IsZero() && (time.Since(p.opened) >= p.c.s.hold || len(held.b) > preambleSize) || p.c.heart.committed() {
			break
		}
	}
	if e := p.failedEarly(); e != nil {
		return e
	}
	if p.over { // all of it came at once
		return nil
	}
	if p.finished() {
		p.finish(nil)
		return p.failedEarly()
	}
	return nil
}

// failedEarly is the failure of an answer of which the client saw nothing, so that it can
// be told by a status.
func (p *pump) failedEarly() *translate.Error {
	e := p.c.ans.Err()
	if e == nil || p.c.ans.Started() {
		return nil
	}
	p.held.drop()
	return e
}

// pipelined takes out of the server's reader what the client has sent behind
// its request.
func pipelined(hc net.Conn) []byte {
	_ = hc.SetReadDeadline(time.Unix(1, 0))
	var early []byte
	var b [512]byte
	for {
		n, err := hc.Read(b[:])
		early = append(early, b[:n]...)
		if err != nil {
			break
		}
	}
	_ = hc.SetReadDeadline(time.Time{})
	return early
}

// run implements remainder.
func (p *pump) run(conn net.Conn) (reuse bool) { return p.c.stream(conn, p) }

// stream is the life of a streamed answer from its first byte on. It reports
// whether the connection can serve another request; else it is closed.
func (c *call) stream(conn net.Conn, p *pump) (reuse bool) {
	defer func() {
		if r := recover(); r != nil {
			reuse = false
			c.log.status, c.log.err = 200, c.panicked(r)
		}
		c.release()
		if !reuse {
			_ = conn.Close()
		}
		if p.ahead != nil {
			_ = p.ahead.wait()
			c.log.bytesOut += p.ahead.written
		}
		if p.seen != nil {
			p.seen.open.Add(-1)
		}
		c.finished()
	}()
	p.open(conn)
	for !p.over {
		p.step()
	}
	c.log.status = 200
	c.log.err = c.ans.Err()
	if p.gone {
		if !p.served {
			c.log.err, c.log.status = p.failing, 499
		}
		return false
	}
	p.drain()
	c.log.dropped = append(c.log.dropped, c.losses.Names()...)
	if !p.caughtUp() {
		return false
	}
	_ = conn.SetWriteDeadline(time.Time{})
	// While the proxy shuts down handBack serves what was sent ahead, unless the head, which
	// a heartbeat may have written, has said that the connection closes.
	return c.keepAlive && !c.http10 && !(c.heart.committed() && c.s.draining.Load())
}

// forget drops the request, of which an answer that has begun needs but an outline: no
// agent is asked again.
func (c *call) forget() {
	c.thread.forget(c.req)
	r := c.ans.ForgetRequest()
	if r == nil {
		return
	}
	c.req = r
	c.log.dropped = r.Ledger.Names()
	c.body.drop()
	c.body = nil
}

// open writes the head of the response, unless a heartbeat has, and with it what was
// held back.
func (p *pump) open(conn net.Conn) {
	c := p.c
	c.forget()
	held := p.held.b
	defer p.held.drop()
	p.out, p.held, p.conn = nil, nil, conn
	if a := c.agent; a.conf.ReadAhead > 0 && a.protocol.Name == readAheadProtocol {
		p.ahead = newAhead(c, conn)
	}
	now := time.Now()
	c.answered(now)
	p.seen = c.s.meters.streams.get(c.log.agent)
	p.seen.open.Add(1)
	p.spoke = now
	out := takeBuffer()
	defer out.drop()
	b := out.b
	if h := c.heart; h.committed() {
		if p.lastWrite = h.last; h.err != nil {
			p.leave(cutError(h.err))
			return
		}
	} else {
		if c.s.draining.Load() {
			c.keepAlive = false
		}
		head := c.answerHead()
		head.passed = c.passed
		b = head.append(b, now)
	}
	if c.http10 {
		b = append(b, held...)
	} else {
		b = appendChunk(b, held)
		if p.over {
			b = append(b, lastChunk...)
		}
	}
	if out.b = b; len(b) > 0 {
		p.send(b, now)
	}
	p.settle()
}

// drain reads the end of a body whose content is complete, so that the
// connection can serve another request. What has not come by then is closed:
// an agent that goes on after its end is not waited for.
func (p *pump) drain() {
	x := p.c.x
	if !p.atEnd && p.c.ans.Err() == nil {
		x.setDeadline(time.Now().Add(drainTime))
		for left := 16; left > 0; left-- {
			if err := x.read(func([]byte) error { return nil }); err != nil {
				p.atEnd = err == io.EOF
				break
			}
		}
	}
	x.finish(p.atEnd)
}

// earlyConn hands over first what the client had sent before its turn.
type earlyConn struct {
	net.Conn
	early []byte
}

// Read implements net.Conn.
func (c *earlyConn) Read(p []byte) (int, error) {
	if len(c.early) > 0 {
		n := copy(p, c.early)
		c.early = c.early[n:]
		return n, nil
	}
	return c.Conn.Read(p)
}

// NetConn is the connection below, for the watcher.
func (c *earlyConn) NetConn() net.Conn { return c.Conn }
