package proxy

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"net"
	"os"
	"sync"
	"syscall"
	"time"

	"github.com/valyala/fasthttp"
)

var (
	// errTruncated is the end of a body that was cut: by a FIN before its length
	// or its last chunk, or by a reset. It is never a clean end.
	errTruncated = errors.New("response body was cut short")
	// errBodyTooLarge is readAll's, for a body beyond its limit.
	errBodyTooLarge = errors.New("response body is too large")
	errExchangeOver = errors.New("exchange is over")
	errCanceled     = errors.New("request was canceled")
)

// upstreamError is a request that got no answer.
type upstreamError struct {
	Op       string // dial, write or read
	Sent     bool   // the request may have reached the backend: it must not be sent again
	Timeout  bool
	Canceled bool // by cancel; Err is the cause
	Err      error
}

func (e *upstreamError) Error() string { return e.Op + ": " + e.Err.Error() }

// Unwrap returns what went wrong underneath.
func (e *upstreamError) Unwrap() error { return e.Err }

// deadlines bound one exchange. Zero is no bound.
type deadlines struct {
	FirstByte time.Duration // from the request written to the response head read
	Idle      time.Duration // without progress while the request is written or the body read
	Total     time.Time     // for everything
}

// until is d from now, or Total if that comes first.
func (dl *deadlines) until(now time.Time, d time.Duration) time.Time {
	if d <= 0 {
		return dl.Total
	}
	t := now.Add(d)
	if !dl.Total.IsZero() && dl.Total.Before(t) {
		return dl.Total
	}
	return t
}

// cancel ends a request from outside: the client left, the server drains, the
// time is up. There is one for a client's request, and it costs no goroutine:
// Cancel closes whatever the request is waiting on. The zero value is ready.
// Methods that only look or attach accept a nil cancel.
type cancel struct {
	mu    sync.Mutex
	fired bool
	cause error
	conn  net.Conn
	stop  context.CancelFunc
}

// Cancel ends the request; the first cause counts. It may be called from any
// goroutine, at any time, and does not block: a dial in progress is given up,
// an attached connection is closed, and what attaches later is refused.
func (c *cancel) Cancel(cause error) {
	if cause == nil {
		cause = errCanceled
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.fired {
		return
	}
	c.fired, c.cause = true, cause
	if c.stop != nil {
		c.stop()
	}
	if c.conn != nil {
		// With mu held, so that nobody has detached it and handed it on.
		closeAbruptly(c.conn)
	}
	c.conn, c.stop = nil, nil
}

// Err returns the cause once Cancel was called.
func (c *cancel) Err() error {
	if c == nil {
		return nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.cause
}

// attach makes conn what Cancel closes, in place of a dial or another one. If
// Cancel was called already it returns the cause, and conn stays the caller's.
func (c *cancel) attach(conn net.Conn) error {
	if c == nil {
		return nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.fired {
		return c.cause
	}
	c.conn, c.stop = conn, nil
	return nil
}

// attachDial makes stop what Cancel calls.
func (c *cancel) attachDial(stop context.CancelFunc) error {
	if c == nil {
		return nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.fired {
		return c.cause
	}
	c.conn, c.stop = nil, stop
	return nil
}

// detach has Cancel touch nothing any more. It returns the cause if that is too
// late: then the connection is closed.
func (c *cancel) detach() error {
	if c == nil {
		return nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.conn, c.stop = nil, nil
	return c.cause
}

// reset makes c ready for another request. Nobody may still call Cancel for the
// last one.
func (c *cancel) reset() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.fired, c.cause, c.conn, c.stop = false, nil, nil, nil
}

// roundTrip sends a request and reads the response head. head is the raw request
// head, from the request line to the empty line; head and body are borrowed
// until it returns.
//
// A request that may have reached the backend is never sent again. Once more,
// on a new connection, goes only one that was written to a connection which had
// been idle and of which the backend demonstrably received nothing: the write
// took not one byte, or the backend's FIN came without a byte of answer and
// its TCP had acknowledged not one byte of this request.
//
// Every error is an *upstreamError. After an answer the caller owes the exchange
// a finish or a close.
func (o *origin) roundTrip(cn *cancel, head, body []byte, d deadlines) (*exchange, error) {
	if cause := cn.Err(); cause != nil {
		return nil, &upstreamError{Op: "dial", Canceled: true, Err: cause}
	}
	if u := o.take(time.Now()); u != nil {
		if cause := cn.attach(u.c); cause != nil {
			u.close()
			return nil, &upstreamError{Op: "dial", Canceled: true, Err: cause}
		}
		x, err := o.try(u, cn, head, body, &d)
		if err == nil || err.Sent || err.Timeout || err.Canceled {
			return x, err.orNil()
		}
	}
	u, err := o.connect(cn, d.Total)
	if err != nil {
		return nil, newUpstreamError(cn, "dial", false, err)
	}
	x, uerr := o.try(u, cn, head, body, &d)
	return x, uerr.orNil()
}

// orNil avoids an interface that holds a nil pointer.
func (e *upstreamError) orNil() error {
	if e == nil {
		return nil
	}
	return e
}

func newUpstreamError(cn *cancel, op string, sent bool, err error) *upstreamError {
	if cause := cn.Err(); cause != nil {
		return &upstreamError{Op: op, Sent: sent, Canceled: true, Err: cause}
	}
	var t interface{ Timeout() bool }
	return &upstreamError{Op: op, Sent: sent, Timeout: errors.As(err, &t) && t.Timeout(), Err: err}
}

// try sends the request on u, which is attached to cn. On an error u is closed
// and detached.
func (o *origin) try(u *upstreamConn, cn *cancel, head, body []byte, d *deadlines) (*exchange, *upstreamError) {
	before := u.sent
	now := time.Now()
	u.setWriteTimeout(now, d.Idle, d.Total)
	n, werr := u.send(head, body)
	if werr != nil {
		// EPIPE is the error of a connection whose FIN came first; a reset without
		// one is ECONNRESET.
		sent := n > 0 && (!errors.Is(werr, syscall.EPIPE) || !u.unacknowledged(before))
		err := newUpstreamError(cn, "write", sent, werr)
		if !sent || err.Timeout || err.Canceled {
			o.abandon(u, cn)
			return nil, err
		}
		// A backend that refuses a large body answers and closes without reading all
		// of it; its answer is better than our broken pipe.
		u.setDeadline(d.until(time.Now(), time.Second))
		h, info, _, rerr := u.readHead(o.cfg.MaxHeader)
		if rerr != nil {
			o.abandon(u, cn)
			return nil, err
		}
		return newExchange(o, u, cn, d, h, info, isHead(head), false), nil
	}
	if d.FirstByte > 0 {
		now = time.Now()
	}
	u.setDeadline(d.until(now, d.FirstByte))
	h, info, got, rerr := u.readHead(o.cfg.MaxHeader)
	if rerr != nil {
		sent := got || rerr != io.EOF || !u.unacknowledged(before)
		if rerr == io.EOF {
			rerr = errNoConnResponse
		}
		err := newUpstreamError(cn, "read", sent, rerr)
		o.abandon(u, cn)
		return nil, err
	}
	return newExchange(o, u, cn, d, h, info, isHead(head), true), nil
}

func (o *origin) abandon(u *upstreamConn, cn *cancel) {
	_ = cn.detach()
	u.close()
}

func isHead(head []byte) bool { return len(head) > 5 && string(head[:5]) == "HEAD " }

type bodyKind uint8

const (
	bodyNone bodyKind = iota
	bodyLength
	bodyChunked
	bodyUntilEOF
)

// exchange is an answered request: the response head, and the body as it comes.
// One goroutine uses it, and ends it with finish or close; both may be called
// again and then do nothing.
type exchange struct {
	o      *origin
	u      *upstreamConn // nil when over
	cn     *cancel
	d      deadlines
	h      *fasthttp.ResponseHeader // nil when released
	chunks dechunker
	left   int64 // of a body with a length
	err    error // what ended the body other than its end
	status int
	body   bodyKind
	keep   bool // the connection can be used again once the body is read
	done   bool // the body was read to its end
}

func newExchange(o *origin, u *upstreamConn, cn *cancel, d *deadlines, h *fasthttp.ResponseHeader, info headInfo, head, keep bool) *exchange {
	x := &exchange{o: o, u: u, cn: cn, d: *d, h: h, status: info.status}
	x.keep = keep && !info.close && (!info.http10 || info.keepAlive)
	switch {
	case head || info.status == fasthttp.StatusNoContent || info.status == fasthttp.StatusNotModified:
		x.done = true
		if !head && (info.chunked || info.status == fasthttp.StatusNoContent && info.length > 0) {
			x.keep = false // it announces a body that it must not have
		}
	case info.chunked:
		x.body = bodyChunked
	case info.length >= 0:
		x.body, x.left = bodyLength, info.length
		x.done = info.length == 0
	default:
		x.body, x.keep = bodyUntilEOF, false
	}
	if x.done && len(u.pending()) > 0 {
		x.keep = false
		u.release()
	}
	x.roll()
	return x
}

// Status is the status code.
func (x *exchange) Status() int { return x.status }

// Header returns the first value of a response header, whatever the case of its
// name, or nil. It and what it returns are valid until releaseHead, finish or
// close.
func (x *exchange) Header(name string) []byte {
	if x.h == nil {
		return nil
	}
	return x.h.Peek(name)
}

// ContentType is the Content-Type header, empty if there is none.
func (x *exchange) ContentType() []byte {
	if x.h == nil {
		return nil
	}
	return x.h.ContentType()
}

// Headers goes through the response headers, names in canonical case, with the
// validity of Header.
func (x *exchange) Headers() iter.Seq2[[]byte, []byte] {
	if x.h == nil {
		return func(func([]byte, []byte) bool) {}
	}
	return x.h.All()
}

// contentLength is how much of the body is still to come, or -1 if only its end
// will tell.
func (x *exchange) contentLength() int64 {
	switch x.body {
	case bodyLength, bodyNone:
		return x.left
	default:
		return -1
	}
}

// releaseHead gives up the response headers, which a stream need not carry for
// its whole life. Status stays.
func (x *exchange) releaseHead() {
	if x.h != nil {
		respHeaders.Put(x.h)
		x.h = nil
	}
}

// setDeadline bounds the reads from now on; zero is no bound. A read that meets
// it returns os.ErrDeadlineExceeded and may be repeated under another one. It is
// cheap: moving a deadline later costs no more than noting it.
func (x *exchange) setDeadline(t time.Time) {
	if x.u != nil {
		x.u.setDeadline(t)
	}
}

// roll sets the deadline to the idle time from now, within the total.
func (x *exchange) roll() {
	if x.d.Idle > 0 {
		x.setDeadline(x.d.until(time.Now(), x.d.Idle))
	} else {
		x.setDeadline(x.d.Total)
	}
}

// ended reports whether the body was read to its end. Within read's callback it
// tells that these bytes are the last.
func (x *exchange) ended() bool { return x.done }

// read waits until something of the body has arrived, calls f once with all that
// this one read yielded, and returns; f is not called for bytes that were
// framing only. p belongs to the connection and is valid, and may be changed,
// until f returns. An error of f is returned as it is.
//
// At the end of the body read returns io.EOF, possibly from the very call that
// delivered the last bytes. Other errors: os.ErrDeadlineExceeded (the read may
// be repeated), the cause given to Cancel, errTruncated, or one of the
// dechunker's; of these all but the first are final.
//
// While it waits it holds no buffer, unless the connection is TLS or in memory.
func (x *exchange) read(f func(p []byte) error) error {
	p, err := x.next()
	if len(p) > 0 {
		if ferr := f(p); ferr != nil {
			err = ferr
		}
	}
	if x.u != nil {
		x.u.release()
	}
	return err
}

// next is read without the callback: the payload is valid until the caller
// releases the connection's buffer. It may come together with an error.
func (x *exchange) next() (p []byte, err error) {
	switch {
	case x.done:
		return nil, io.EOF
	case x.err != nil:
		return nil, x.err
	case x.u == nil:
		return nil, errExchangeOver
	}
	u := x.u
	if u.lo == u.hi {
		if err := u.more(); err != nil {
			return nil, x.failed(err)
		}
	}
	b := u.buf.b[u.lo:u.hi]
	used := len(b)
	switch x.body {
	case bodyChunked:
		p, used, x.done, x.err = x.chunks.decode(b)
	case bodyLength:
		if int64(used) > x.left {
			used = int(x.left)
		}
		p = b[:used]
		x.left -= int64(used)
		x.done = x.left == 0
	case bodyUntilEOF:
		p = b
	default:
		panic("BUG: reading a response without a body")
	}
	u.lo = u.hi // all of it is looked at; the buffer stays until released
	if x.done {
		if used < len(b) {
			x.keep = false // nobody asked for more
		}
		return p, io.EOF
	}
	return p, x.err
}

// failed says what an error of the connection means for the body.
func (x *exchange) failed(err error) error {
	if err == os.ErrDeadlineExceeded {
		if cause := x.cn.Err(); cause != nil {
			x.err = cause
			return cause
		}
		return err
	}
	x.keep = false
	switch cause := x.cn.Err(); {
	case cause != nil:
		x.err = cause
	case err == io.EOF && x.body == bodyUntilEOF:
		x.done = true
		return io.EOF
	case err == io.EOF:
		x.err = errTruncated
	default:
		x.err = fmt.Errorf("%w: %w", errTruncated, err)
	}
	return x.err
}

// readAll appends the whole body to dst, at most limit bytes of it, under the
// rolling idle deadline. It returns what it has even with an error.
func (x *exchange) readAll(dst []byte, limit int) ([]byte, error) {
	room := limit
	if n := x.contentLength(); n >= 0 {
		if n > int64(limit) {
			return dst, errBodyTooLarge
		}
		if have := cap(dst) - len(dst); have < int(n) {
			dst = append(make([]byte, 0, len(dst)+int(n)), dst...)
		}
	}
	for {
		p, err := x.next()
		if len(p) > room {
			x.err = errBodyTooLarge
			err, p = errBodyTooLarge, nil
		}
		dst = append(dst, p...)
		room -= len(p)
		if x.u != nil {
			x.u.release()
		}
		if err == io.EOF {
			return dst, nil
		}
		if err != nil {
			return dst, err
		}
		if x.d.Idle > 0 {
			x.roll()
		}
	}
}

// finish ends the exchange. The connection is kept for another request if the
// body was read to its exact end, the backend keeps the connection open, and
// reusable says so too; otherwise it is closed.
func (x *exchange) finish(reusable bool) {
	u := x.u
	if u == nil {
		return
	}
	x.u = nil
	x.releaseHead()
	cause := x.cn.detach()
	if cause != nil || !reusable || !x.done || !x.keep || u.rerr != nil {
		u.close()
		return
	}
	u.release()
	x.o.put(u)
}

// close ends the exchange and closes the connection, which is how a backend
// learns that nobody waits for its answer any more.
func (x *exchange) close() { x.finish(false) }
