package proxy

import (
	"net"
	"sync"
	"syscall"
	"time"

	"github.com/dragoman-proxy/dragoman/internal/config"
	"github.com/dragoman-proxy/dragoman/translate"
)

// readAheadProtocol is the protocol whose servers do not wait for a slow reader: they
// throw away what it has not read. All others stop and wait, as TCP has it.
const readAheadProtocol = "cycls"

// ahead takes from a stream what its client does not take at once, so that the backend
// is read all the same. In the usual case it is nothing but a question to the socket
// before each write. Once the client is behind, a goroutine writes to it what waits, and
// ends when it has caught up.
//
// One goroutine calls its methods. What waits is bounded by that caller, who asks how far
// behind the client is before more is read.
type ahead struct {
	conn  net.Conn
	sock  syscall.RawConn // below TLS; nil in memory: writes wait
	room  func(fd uintptr)
	ready bool
	limit time.Duration // for a write
	c     *call         // to be cancelled when the client is gone

	mu      sync.Mutex
	waiting *buffer // not yet being written; nil: nothing
	left    int     // bytes that wait or are being written
	until   time.Time
	err     error
	idle    chan struct{} // closed at the end of the goroutine; nil: there was none yet
	running bool

	written int64 // by the goroutine
}

func newAhead(c *call, conn net.Conn) *ahead {
	a := &ahead{conn: conn, limit: c.snap.conf.Server.Timeouts.Write, c: c}
	if sc := descriptorOf(conn); sc != nil {
		a.sock, _ = sc.SyscallConn()
	}
	a.room = func(fd uintptr) { a.ready = hasRoom(fd) }
	return a
}

// aheadPiece is what is written to a socket that has room: less than it takes then
// without waiting.
const aheadPiece = 16 << 10

// write writes what the client takes without waiting, and keeps the rest. n is what was
// written by this call. An error of the goroutine is told by the next call.
func (a *ahead) write(b []byte) (n int, err error) {
	a.mu.Lock()
	running, err := a.running, a.err
	if running {
		a.keep(b)
	}
	a.mu.Unlock()
	if running || err != nil {
		return 0, err
	}
	// Nobody else writes: the goroutine has ended.
	for len(b) > 0 && a.hasRoom() {
		k, err := a.conn.Write(b[:min(len(b), aheadPiece)])
		n, b = n+k, b[k:]
		if err != nil {
			return n, err
		}
	}
	if len(b) > 0 {
		a.mu.Lock()
		a.keep(b)
		a.running, a.idle = true, make(chan struct{})
		a.mu.Unlock()
		go a.drain()
	}
	return n, nil
}

// keep puts bytes behind those that wait; mu is held.
func (a *ahead) keep(b []byte) {
	if a.waiting == nil {
		a.waiting = takeBuffer()
	}
	a.waiting.b = append(a.waiting.b, b...)
	a.left += len(b)
}

func (a *ahead) hasRoom() bool {
	if a.sock == nil {
		return true
	}
	a.ready = true // of a closed connection the write will tell
	_ = a.sock.Control(a.room)
	return a.ready
}

// drain writes what waits until nothing does. It is the goroutine of a client that is
// behind; the deadline rolls with each piece.
func (a *ahead) drain() {
	a.mu.Lock()
	defer a.mu.Unlock()
	defer close(a.idle)
	for a.waiting != nil {
		w := a.waiting
		a.waiting = nil
		for b := w.b; len(b) > 0 && a.err == nil; {
			a.arm()
			a.mu.Unlock()
			n, err := a.conn.Write(b[:min(len(b), writePiece)])
			a.mu.Lock()
			b = b[n:]
			a.left -= n
			a.written += int64(n)
			if err != nil {
				a.err = goneError(err, a.limit)
			}
		}
		w.drop()
		if a.err != nil {
			a.left = 0
			if a.waiting != nil {
				a.waiting.drop()
				a.waiting = nil
			}
			a.c.cancel.Cancel(a.err)
		}
	}
	a.running = false
}

// arm sets the deadline of the next write; mu is held.
func (a *ahead) arm() {
	var t time.Time
	if a.limit > 0 {
		t = time.Now().Add(a.limit)
	}
	if !a.until.IsZero() {
		t = a.until
	}
	_ = a.conn.SetWriteDeadline(t)
}

// behind is how many bytes the client was not given yet.
func (a *ahead) behind() int {
	if a == nil {
		return 0
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.left
}

// hurry has all that waits leave within the time of one write: the stream has failed,
// and the client is told as long as it reads.
func (a *ahead) hurry() {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.limit > 0 && a.running {
		a.until = time.Now().Add(a.limit)
		_ = a.conn.SetWriteDeadline(a.until)
	}
}

// wait waits until nothing waits any more, and is why the client was not given all.
func (a *ahead) wait() error {
	a.mu.Lock()
	idle := a.idle
	a.mu.Unlock()
	if idle != nil {
		<-idle
	}
	return a.err
}

// tooFarBehind ends a stream whose client has fallen further behind than it may: what it
// was read ahead goes to it, and then the truth.
func (p *pump) tooFarBehind() bool {
	if p.ahead == nil || p.c.ans.Ended() || p.ahead.behind() <= int(p.c.agent.conf.ReadAhead) {
		return false
	}
	p.slow = true
	p.finish(tooSlow(p.c.agent.conf.ReadAhead))
	return true
}

// tooSlow is what a client is told that reads more slowly than its agent speaks.
func tooSlow(size config.Size) *translate.Error {
	return &translate.Error{Kind: translate.KindClosed, Status: 499, Code: "client_too_slow", NoRetry: true,
		Message: "The client read the answer too slowly: it fell more than " + size.String() + " behind."}
}

// caughtUp waits until the client has all that was read ahead of it, and reports whether
// its connection can serve another request.
func (p *pump) caughtUp() bool {
	if p.ahead == nil {
		return true
	}
	if p.c.log.err != nil {
		p.ahead.hurry()
	}
	// The agent has been heard, and nobody else waits for its place while the client takes
	// its time.
	p.c.hangUp()
	p.c.settle()
	if err := p.ahead.wait(); err != nil {
		if !p.slow {
			p.c.log.err, p.c.log.status = cutError(err), 499
		}
		return false
	}
	return !p.slow
}
