package proxy

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"syscall"
	"time"

	"github.com/valyala/fasthttp"
)

// readSize is what one read takes from a backend at most, and what a pooled
// buffer holds: the size of a TLS record, and more than a burst of events.
const readSize = 16 << 10

// readBuf is a buffer that a connection holds only while there is something in
// it. Larger ones exist while a long response head is read, and are not pooled.
type readBuf struct{ b []byte }

var readBufs = sync.Pool{New: func() any { return &readBuf{b: make([]byte, readSize)} }}

func takeReadBuf() *readBuf { return readBufs.Get().(*readBuf) }

func dropReadBuf(b *readBuf) {
	if len(b.b) == readSize {
		readBufs.Put(b)
	}
}

// descriptorOf finds the connection below any wrappers that has a descriptor,
// or nil: below crypto/tls by NetConn, below a connection that fasthttp hijacked
// by UnsafeConn.
func descriptorOf(c net.Conn) syscall.Conn {
	for range 8 {
		switch w := c.(type) {
		case syscall.Conn:
			return w
		case interface{ NetConn() net.Conn }:
			c = w.NetConn()
		case interface{ UnsafeConn() net.Conn }:
			c = w.UnsafeConn()
		default:
			return nil
		}
	}
	return nil
}

// upstreamConn is one connection to a backend. One goroutine at a time uses it;
// only its closing may come from another.
type upstreamConn struct {
	c    net.Conn
	tls  *tls.Conn       // c, when it is one
	raw  syscall.RawConn // c itself, when it can be read through its descriptor
	sock syscall.RawConn // the socket, below TLS too; nil in memory

	// buf is held only while buf.b[lo:hi] is something or a read is at work.
	buf    *readBuf
	lo, hi int
	rerr   error // came together with bytes, and is due at the next read

	// Arming a deadline costs more than noting one. So one that moves later, as
	// nearly all do, is only noted in want; when the armed one fires before it,
	// the read is armed anew and goes on.
	want, armed time.Time
	armedWrite  time.Time

	sent  uint64 // bytes handed to the kernel, or to whatever c is
	ack0  uint64 // acknowledged when the connection was new: its SYN
	acks  bool   // ack0 is known
	quiet bool   // what quietFD found

	idleSince time.Time
	retire    time.Time // when it is too old for another request; zero: never

	// Arguments and results of readFD and quietFD, and the functions as values
	// made once: the descriptor is reached through a callback.
	readFn  func(fd uintptr) bool
	quietFn func(fd uintptr)
	n       int
	err     error

	vec  [2][]byte
	vecs net.Buffers
}

func newUpstreamConn(c net.Conn) *upstreamConn {
	u := &upstreamConn{c: c}
	u.tls, _ = c.(*tls.Conn)
	if sc, ok := c.(syscall.Conn); ok && rawReads {
		u.raw, _ = sc.SyscallConn()
	}
	if sc := descriptorOf(c); sc != nil {
		u.sock, _ = sc.SyscallConn()
	}
	u.ack0, u.acks = bytesAcked(c)
	u.readFn = u.readOnce
	u.quietFn = func(fd uintptr) { u.quiet = quietFD(fd) }
	return u
}

// closeAbruptly closes what is below TLS, so that nobody waits for an alert to
// be written to a peer that does not read.
func closeAbruptly(c net.Conn) {
	if t, ok := c.(*tls.Conn); ok {
		c = t.NetConn()
	}
	_ = c.Close()
}

// close ends a connection in the middle of something.
func (u *upstreamConn) close() {
	u.release()
	closeAbruptly(u.c)
}

// closeIdle ends a connection that has nothing under way, in good form.
func (u *upstreamConn) closeIdle() { _ = u.c.Close() }

// release gives the buffer back and forgets what is in it.
func (u *upstreamConn) release() {
	if u.buf != nil {
		dropReadBuf(u.buf)
		u.buf = nil
	}
	u.lo, u.hi = 0, 0
}

// setDeadline bounds the reads from now on; zero is no bound.
func (u *upstreamConn) setDeadline(t time.Time) {
	u.want = t
	if !t.IsZero() && (u.armed.IsZero() || t.Before(u.armed)) {
		u.arm()
	}
}

func (u *upstreamConn) arm() {
	u.armed = u.want
	_ = u.c.SetReadDeadline(u.want) // fails on a closed connection only, and so will the read
}

// setWriteTimeout bounds the next write to between one and two times d, or by
// total. It arms a deadline only when what is left of the last one has become
// less than d.
func (u *upstreamConn) setWriteTimeout(now time.Time, d time.Duration, total time.Time) {
	var t time.Time
	switch {
	case d > 0:
		if left := u.armedWrite.Sub(now); !u.armedWrite.IsZero() && left >= d && left <= 2*d &&
			(total.IsZero() || !total.Before(u.armedWrite)) {
			return
		}
		t = now.Add(2 * d)
		if !total.IsZero() && total.Before(t) {
			t = total
		}
	default:
		t = total
		if t.Equal(u.armedWrite) {
			return
		}
	}
	u.armedWrite = t
	_ = u.c.SetWriteDeadline(t)
}

// send writes a whole request, in one system call if the connection can.
func (u *upstreamConn) send(head, body []byte) (n int64, err error) {
	switch {
	case len(body) == 0:
		var k int
		k, err = u.c.Write(head)
		n = int64(k)
	case len(head)+len(body) <= readSize:
		// One TLS record, or one message to a listener in memory; and a write
		// costs less than a writev of as many bytes.
		b := takeReadBuf()
		k := copy(b.b, head)
		k += copy(b.b[k:], body)
		k, err = u.c.Write(b.b[:k])
		n = int64(k)
		dropReadBuf(b)
	default:
		u.vec = [2][]byte{head, body}
		u.vecs = u.vec[:]
		n, err = u.vecs.WriteTo(u.c)
		u.vec = [2][]byte{}
	}
	u.sent += uint64(n)
	return n, err
}

// unacknowledged reports whether it is certain that of what was sent since the
// count stood at before, not one byte has reached the peer's kernel. The caller
// must know that the peer's FIN was received before it asks: the FIN carries the
// peer's last acknowledgement, whereas that of a reset does not count, so that
// after a reset alone a request that was read and run looks like this too. And
// a peer that has closed can read no more (one that only shut down its writing
// could, but never answer).
func (u *upstreamConn) unacknowledged(before uint64) bool {
	if !u.acks {
		return false
	}
	n, ok := bytesAcked(u.c)
	return ok && n-u.ack0 <= before
}

// alive probes an idle connection: whatever waits there, be it a FIN, an error
// or bytes that nobody asked for, makes it unusable.
func (u *upstreamConn) alive() bool {
	if u.sock == nil {
		return true // in memory: nothing to ask
	}
	u.quiet = false
	if u.sock.Control(u.quietFn) != nil || !u.quiet {
		return false
	}
	if u.tls == nil {
		return true
	}
	// crypto/tls may hold a record that came along with the last answer. Under a
	// past deadline it gives that up without touching the socket.
	_ = u.c.SetReadDeadline(time.Unix(1, 0))
	u.armed = time.Time{}
	var b [1]byte
	n, err := u.c.Read(b[:])
	return n == 0 && u.expired(err)
}

// more appends at least one byte to buf.b[lo:hi], or returns an error:
// os.ErrDeadlineExceeded, after which it may be called again; io.EOF; or what
// the connection failed with. While it waits with nothing in the buffer it holds
// none, if the connection can be read through its descriptor.
func (u *upstreamConn) more() error {
	if err := u.rerr; err != nil {
		u.rerr = nil
		return err
	}
	if u.buf != nil && u.hi == len(u.buf.b) {
		u.makeRoom()
	}
	for {
		err := u.readSome()
		if err == nil {
			return nil
		}
		if u.lo == u.hi {
			u.release()
		}
		if !u.expired(err) {
			return err
		}
		if !u.want.IsZero() && !time.Now().Before(u.want) {
			return os.ErrDeadlineExceeded
		}
		u.arm()
	}
}

// expired reports whether err is that of a passed deadline, after which the
// connection is as good as before. A socket that gave up on its peer calls
// itself timed out too (ETIMEDOUT); a listener in memory has an error of its own.
func (u *upstreamConn) expired(err error) bool {
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return true
	}
	t, ok := err.(interface{ Timeout() bool }) // not one that wraps ETIMEDOUT
	return ok && u.sock == nil && t.Timeout()
}

// makeRoom is for response heads that outgrow a buffer.
func (u *upstreamConn) makeRoom() {
	if u.lo > 0 {
		u.hi = copy(u.buf.b, u.buf.b[u.lo:u.hi])
		u.lo = 0
		return
	}
	b := &readBuf{b: make([]byte, 2*len(u.buf.b))}
	copy(b.b, u.buf.b[:u.hi])
	dropReadBuf(u.buf)
	u.buf = b
}

func (u *upstreamConn) readSome() error {
	if u.raw != nil {
		u.n, u.err = 0, nil
		if err := u.raw.Read(u.readFn); err != nil {
			return err
		}
		if u.err != nil {
			return os.NewSyscallError("read", u.err)
		}
		if u.n == 0 {
			return io.EOF
		}
		u.hi += u.n
		return nil
	}
	if u.buf == nil {
		u.buf = takeReadBuf()
	}
	for {
		n, err := u.c.Read(u.buf.b[u.hi:])
		if n > 0 {
			u.hi += n
			u.rerr = err
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// readOnce is what the poller calls when the socket may be readable.
func (u *upstreamConn) readOnce(fd uintptr) bool {
	if u.buf == nil {
		u.buf = takeReadBuf()
	}
	var again bool
	u.n, again, u.err = readFD(fd, u.buf.b[u.hi:])
	if again && u.lo == u.hi {
		u.release()
	}
	return !again
}

// What makes a response head unacceptable. Raw bytes of the backend are not part
// of any of these: they end up in logs.
var (
	errNotHTTP        = errors.New("answer is not HTTP/1.0 or HTTP/1.1")
	errHeadTooLong    = errors.New("response head is too long")
	errHeadLine       = errors.New("malformed line in response head")
	errHeadLines      = errors.New("too many lines in response head")
	errHeadTruncated  = errors.New("connection closed within the response head")
	errBothLengths    = errors.New("response has both Content-Length and Transfer-Encoding")
	errLengths        = errors.New("response has several Content-Length lines")
	errLength         = errors.New("malformed Content-Length")
	errCoding         = errors.New("Transfer-Encoding is not chunked")
	errSwitch         = errors.New("backend switched protocols unasked")
	errInterim        = errors.New("too many interim responses")
	errNoConnResponse = errors.New("connection closed before the response")
)

// maxInterim bounds the 1xx responses before an answer: a backend that sends 102
// every ten seconds may think for an hour.
const maxInterim = 400

// maxResponseHeaders bounds the lines of a response head, beside its bytes.
const maxResponseHeaders = 256

// headInfo is what a response head says about its framing.
type headInfo struct {
	status    int
	length    int64 // -1: none given
	chunked   bool
	close     bool // Connection: close
	keepAlive bool // Connection: keep-alive
	http10    bool
}

// scanHead reads the framing off a whole raw head, up to and with its empty
// line. It exists beside fasthttp's parser because that one forgets what matters
// here (a Content-Length beside Transfer-Encoding) and lets pass what has no
// business in an answer (folded lines, spaces in names, any HTTP/x.y, empty
// lines in front). What it accepts, the parser must still accept too.
func scanHead(h []byte) (headInfo, error) {
	info := headInfo{length: -1}
	if len(h) < len("HTTP/1.1 200\r\n") || string(h[:7]) != "HTTP/1." || h[8] != ' ' || h[7] != '1' && h[7] != '0' {
		return info, errNotHTTP
	}
	info.http10 = h[7] == '0'
	for _, c := range h[9:12] {
		if c < '0' || c > '9' {
			return info, errNotHTTP
		}
		info.status = info.status*10 + int(c-'0')
	}
	if info.status < 100 || info.status > 599 || h[12] != ' ' && h[12] != '\r' {
		return info, errNotHTTP
	}
	for n := 0; ; n++ {
		i := bytes.IndexByte(h, '\n')
		if i < 1 || h[i-1] != '\r' {
			return info, errHeadLine
		}
		line := h[:i-1]
		h = h[i+1:]
		if bytes.IndexByte(line, '\r') >= 0 {
			return info, errHeadLine
		}
		if n == 0 {
			if !cleanValue(line) {
				return info, errHeadLine
			}
			continue
		}
		if len(line) == 0 {
			break
		}
		if n > maxResponseHeaders {
			return info, errHeadLines
		}
		colon := 0
		for colon < len(line) && tokenByte[line[colon]] {
			colon++
		}
		if colon == 0 || colon == len(line) || line[colon] != ':' {
			return info, errHeadLine
		}
		name := line[:colon]
		switch len(name) {
		case len("connection"):
			if bytes.EqualFold(name, []byte("connection")) {
				info.connection(line[colon+1:])
			}
		case len("content-length"):
			if bytes.EqualFold(name, []byte("content-length")) {
				if info.length >= 0 {
					return info, errLengths
				}
				n, ok := parseLength(bytes.Trim(line[colon+1:], " \t"))
				if !ok {
					return info, errLength
				}
				info.length = n
			}
		case len("transfer-encoding"):
			if bytes.EqualFold(name, []byte("transfer-encoding")) {
				if info.chunked || info.http10 || !bytes.EqualFold(bytes.Trim(line[colon+1:], " \t"), []byte("chunked")) {
					return info, errCoding
				}
				info.chunked = true
			}
		}
	}
	if info.chunked && info.length >= 0 {
		return info, errBothLengths
	}
	return info, nil
}

func (info *headInfo) connection(value []byte) {
	for len(value) > 0 {
		var token []byte
		if i := bytes.IndexByte(value, ','); i >= 0 {
			token, value = value[:i], value[i+1:]
		} else {
			token, value = value, nil
		}
		token = bytes.Trim(token, " \t")
		info.close = info.close || bytes.EqualFold(token, []byte("close"))
		info.keepAlive = info.keepAlive || bytes.EqualFold(token, []byte("keep-alive"))
	}
}

func parseLength(v []byte) (int64, bool) {
	if len(v) == 0 || len(v) > 18 {
		return 0, false
	}
	var n int64
	for _, c := range v {
		if c < '0' || c > '9' {
			return 0, false
		}
		n = n*10 + int64(c-'0')
	}
	return n, true
}

// tokenByte says which bytes a header name may have (RFC 9110, 5.6.2).
var tokenByte = func() (t [256]bool) {
	for c := '0'; c <= '9'; c++ {
		t[c] = true
	}
	for c := 'a'; c <= 'z'; c++ {
		t[c], t[c-'a'+'A'] = true, true
	}
	for _, c := range "!#$%&'*+-.^_`|~" {
		t[c] = true
	}
	return t
}()

// headParser runs fasthttp's parser, which wants a bufio.Reader, over a head
// that is in memory.
type headParser struct {
	src bytes.Reader
	br  *bufio.Reader
}

var (
	headParsers = sync.Pool{New: func() any { return &headParser{br: bufio.NewReaderSize(nil, 4<<10)} }}
	respHeaders = sync.Pool{New: func() any {
		h := new(fasthttp.ResponseHeader)
		h.SetNoDefaultContentType(true)
		return h
	}}
)

// parseHead gives a whole raw head to fasthttp's parser, which copies what it
// keeps. The header goes back to respHeaders when nobody looks at it any more.
func parseHead(head []byte) (*fasthttp.ResponseHeader, error) {
	p := headParsers.Get().(*headParser)
	p.src.Reset(head)
	br := p.br
	if len(head) > br.Size() {
		br = bufio.NewReaderSize(&p.src, len(head))
	} else {
		br.Reset(&p.src)
	}
	h := respHeaders.Get().(*fasthttp.ResponseHeader)
	err := h.Read(br)
	if err == nil && br.Buffered()+p.src.Len() > 0 {
		err = errHeadLine // the parser saw an earlier end than we did
	}
	p.src.Reset(nil)
	headParsers.Put(p)
	if err != nil {
		respHeaders.Put(h)
		return nil, errHeadLine // fasthttp's own error quotes the head
	}
	return h, nil
}

var crlfcrlf = []byte("\r\n\r\n")

// readHead reads up to the end of the final response head, passing over interim
// ones. What follows it stays in the buffer. An error of the connection comes
// as it is, io.EOF only if not one byte of an answer was seen, which got tells.
func (u *upstreamConn) readHead(limit int) (h *fasthttp.ResponseHeader, info headInfo, got bool, err error) {
	searched, interim := 0, 0
	for {
		if b := u.pending(); len(b) > 0 {
			got = true
			if i := bytes.Index(b[searched:], crlfcrlf); i >= 0 {
				end := searched + i + len(crlfcrlf)
				if end > limit {
					return nil, info, got, errHeadTooLong
				}
				if info, err = scanHead(b[:end]); err != nil {
					return nil, info, got, err
				}
				if info.status >= 200 {
					if h, err = parseHead(b[:end]); err != nil {
						return nil, info, got, err
					}
					u.consume(end)
					return h, info, got, nil
				}
				if info.status == 101 {
					return nil, info, got, errSwitch
				}
				if interim++; interim > maxInterim {
					return nil, info, got, errInterim
				}
				u.consume(end)
				searched = 0
				continue
			}
			if err := checkBegun(b); err != nil {
				return nil, info, got, err
			}
			if len(b) >= limit {
				return nil, info, got, errHeadTooLong
			}
			searched = max(0, len(b)-len(crlfcrlf)+1)
		}
		if err := u.more(); err != nil {
			if err == io.EOF && got {
				err = errHeadTruncated
			}
			return nil, info, got, err
		}
	}
}

// checkBegun refuses a head before it is complete when its first line shows
// that it never will be: another protocol, or bare line feeds.
func checkBegun(b []byte) error {
	const version = "HTTP/1."
	n := min(len(b), len(version))
	if string(b[:n]) != version[:n] {
		return errNotHTTP
	}
	if i := bytes.IndexByte(b, '\n'); i > 0 && b[i-1] != '\r' {
		return errHeadLine
	}
	return nil
}

// pending is what was read and not yet consumed.
func (u *upstreamConn) pending() []byte {
	if u.buf == nil {
		return nil
	}
	return u.buf.b[u.lo:u.hi]
}

// consume takes n bytes off pending, and gives the buffer back if none is left.
func (u *upstreamConn) consume(n int) {
	if u.lo += n; u.lo == u.hi {
		u.release()
	}
}
