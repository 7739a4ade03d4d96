package proxy

import (
	"crypto/tls"
	"errors"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"go.uber.org/zap"
)

// listener accepts clients for ever. fasthttp takes an accept that fails with
// EMFILE as the end of the server, so temporary errors are waited out here.
//
// At the limit of connections newcomers wait, one of them in here and the others
// in the kernel's queue, and the connection that has waited longest for a request
// is closed to make room: clients that hold connections and say nothing cannot
// keep out those that have something to ask. There is no limit for one address:
// behind a mesh or a load balancer all clients share one.
type listener struct {
	net.Listener
	log         *zap.Logger
	write       atomic.Int64  // the write timeout, a time.Duration: a reload may change it
	lingers     time.Duration // lingerTime
	headTimeout time.Duration // what a client has for a TLS handshake, and for a head
	watcher     *watcher      // nil: departures show at the next write
	certs       *certificates // nil: no TLS
	slots       chan struct{}
	closed      chan struct{}
	once        sync.Once
	err         error

	crowded atomic.Bool   // a newcomer waits for a place
	stirred chan struct{} // for the newcomer: which connections could make room has changed
	warned  time.Time     // of the limit, by Accept
	onEvict func()        // counts connections that made room; nil: nobody does

	mu       sync.Mutex
	conns    map[*clientConn]struct{} // accepted and not yet closed
	resting  restList                 // those that wait for a request, longest first
	evicting *clientConn              // asked to make room, and has not yet
}

func newListener(ln net.Listener, maxConns int, writeTimeout time.Duration, log *zap.Logger) *listener {
	l := &listener{
		Listener: ln, log: log,
		slots: make(chan struct{}, maxConns), closed: make(chan struct{}), stirred: make(chan struct{}, 1),
		conns: map[*clientConn]struct{}{},
	}
	l.write.Store(int64(writeTimeout))
	return l
}

// writeTimeout is how long a client may take nothing of what it is sent.
func (l *listener) writeTimeout() time.Duration { return time.Duration(l.write.Load()) }

// Accept waits for the next client, and then for a place for it. Nothing is read
// from it here: even a TLS handshake is its own worker's affair (clientConn.Read).
func (l *listener) Accept() (net.Conn, error) {
	c, err := l.next()
	if err != nil {
		return nil, err
	}
	if !l.takeSlot() {
		_ = c.Close()
		return nil, net.ErrClosed
	}
	tuneAccepted(c, l.writeTimeout())
	cc := &clientConn{Conn: c, raw: c, l: l}
	if l.watcher != nil {
		l.watcher.attach(c, &cc.ticket)
	}
	if l.certs != nil {
		cc.tls = l.certs.server(c)
		cc.Conn = cc.tls
	}
	l.mu.Lock()
	l.conns[cc] = struct{}{}
	l.resting.push(cc)
	cc.waiting.Store(true)
	l.mu.Unlock()
	return cc, nil
}

// next accepts a connection, however long that takes.
func (l *listener) next() (net.Conn, error) {
	pause := time.Duration(0)
	for {
		c, err := l.Listener.Accept()
		if err == nil {
			return c, nil
		}
		if !temporary(err) {
			return nil, err
		}
		if pause == 0 {
			l.log.Warn("accept failed; trying again", zap.Error(err))
		}
		pause = min(max(2*pause, 5*time.Millisecond), time.Second)
		t := time.NewTimer(pause)
		select {
		case <-t.C:
		case <-l.closed:
			t.Stop()
			return nil, net.ErrClosed
		}
	}
}

// temporary reports whether accepting may succeed later: descriptors or memory
// are short, or the client left the queue.
func temporary(err error) bool {
	for _, e := range []syscall.Errno{syscall.EMFILE, syscall.ENFILE, syscall.ENOBUFS, syscall.ENOMEM, syscall.ECONNABORTED, syscall.EINTR} {
		if errors.Is(err, e) {
			return true
		}
	}
	var ne net.Error
	return errors.As(err, &ne) && ne.Timeout()
}

// takeSlot waits for a place among the connections, and makes one if somebody
// only waits. It reports false when the listener was closed.
func (l *listener) takeSlot() bool {
	if l.trySlot() {
		return true
	}
	if now := time.Now(); now.Sub(l.warned) >= time.Minute {
		l.warned = now
		l.log.Warn("the limit of connections is reached: the longest idle one makes room for a newcomer", zap.Int("server.max_connections", cap(l.slots)))
	}
	l.crowded.Store(true)
	defer l.crowded.Store(false)
	for !l.trySlot() {
		l.evict()
		select {
		case l.slots <- struct{}{}:
			return true
		case <-l.stirred:
		case <-l.closed:
			return false
		}
	}
	return true
}

func (l *listener) trySlot() bool {
	select {
	case l.slots <- struct{}{}:
		return true
	default:
		return false
	}
}

// evict asks the connection that has waited longest for a request to go. It goes as
// if its idle time were over: if a request comes first it is served, and another
// connection is asked.
func (l *listener) evict() {
	l.mu.Lock()
	c := l.resting.first
	if l.evicting != nil || c == nil {
		l.mu.Unlock()
		return
	}
	l.resting.remove(c)
	l.evicting = c
	c.evicted.Store(true)
	shaking := c.tls != nil && !c.shook.Load()
	if !shaking {
		// Under the lock, so that it cannot hit the deadline of a request that has come meanwhile.
		_ = c.raw.SetReadDeadline(longAgo)
	}
	l.mu.Unlock()
	if shaking { // it may be writing, and there is no request to lose
		_ = c.raw.Close()
	}
}

// longAgo is a deadline that has passed.
var longAgo = time.Unix(1, 0)

// stir tells a newcomer that it may look again for a connection that can go.
func (l *listener) stir() {
	select {
	case l.stirred <- struct{}{}:
	default: // it has been told
	}
}

// Close stops accepting. It may be called again.
func (l *listener) Close() error {
	l.once.Do(func() {
		close(l.closed)
		l.err = l.Listener.Close()
	})
	return l.err
}

// open is the number of connections.
func (l *listener) open() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.conns)
}

// hangUp closes the clients' connections: those that wait for a request, or all of
// them. A request that has arrived and that nobody has read yet is not cut off: who
// sent it would not know whether it was served.
func (l *listener) hangUp(all bool) {
	l.mu.Lock()
	var conns []*clientConn
	for c := range l.conns {
		if all || c.waiting.Load() && !pending(c.raw) {
			conns = append(conns, c)
		}
	}
	l.mu.Unlock()
	for _, c := range conns {
		if all {
			c.torn.Store(true)
		}
		_ = c.Close()
	}
}

// clientConn is a client's connection. It gives its slot back when it is closed.
type clientConn struct {
	net.Conn // tls or raw: what requests and answers go through
	raw      net.Conn
	tls      *tls.Conn // nil: none
	l        *listener
	once     sync.Once
	ticket   watchTicket
	// waiting is true while not one byte of a request has come: on a new
	// connection, TLS handshake included, and between requests.
	waiting atomic.Bool
	opening opening     // how its request begins, for the words of a refusal
	lingers atomic.Bool // Close waits until the client has said all that it had to say
	evicted atomic.Bool // it is to go, unless a request comes first
	shook   atomic.Bool // the TLS handshake is done
	torn    atomic.Bool // nothing more can be said: TLS is not ended in order

	// Guarded by l.mu.
	older, newer *clientConn // in l.resting
	listed, gone bool
}

// Read implements net.Conn.
func (c *clientConn) Read(p []byte) (int, error) {
	if c.tls != nil && !c.shook.Load() {
		if err := c.handshake(); err != nil {
			return 0, err
		}
	}
	n, err := c.Conn.Read(p)
	if err != nil && n == 0 && c.waiting.Load() && errors.Is(err, os.ErrDeadlineExceeded) && pending(c.raw) {
		// A request has come, and nobody was there to read it: the process or its machine stood still for a while.
		_ = c.Conn.SetReadDeadline(time.Now().Add(max(c.l.headTimeout, time.Second)))
		n, err = c.Conn.Read(p)
	}
	c.opening.note(p[:n], err)
	if n > 0 {
		c.busy()
	}
	return n, err
}

// SetReadDeadline implements net.Conn. A connection that is to make room has no
// time left, whatever was meant for it before it heard of that.
func (c *clientConn) SetReadDeadline(t time.Time) error {
	err := c.Conn.SetReadDeadline(t)
	if c.evicted.Load() {
		err = c.Conn.SetReadDeadline(longAgo)
	}
	return err
}

// rest notes that the connection waits for its next request from now on.
func (c *clientConn) rest() {
	l := c.l
	l.mu.Lock()
	if !c.gone && !c.listed && !c.waiting.Load() {
		l.resting.push(c)
		c.waiting.Store(true)
	}
	l.mu.Unlock()
	if l.crowded.Load() {
		l.stir()
	}
}

// busy notes that a request has come.
func (c *clientConn) busy() {
	if !c.waiting.Load() {
		return
	}
	l := c.l
	l.mu.Lock()
	c.waiting.Store(false)
	l.resting.remove(c)
	c.stays()
	l.mu.Unlock()
}

// stays ends the wait for the connection to make room; l.mu is held.
func (c *clientConn) stays() {
	c.evicted.Store(false)
	if c.l.evicting == c {
		c.l.evicting = nil
		c.l.stir()
	}
}

// writePiece is what a client has to take within the write timeout.
const writePiece = 64 << 10

// Write implements net.Conn. A long write goes out in pieces, and each has the
// whole write timeout: a client that reads slowly is not one that does not read.
func (c *clientConn) Write(p []byte) (n int, err error) {
	for limit := c.l.writeTimeout(); len(p) > writePiece && limit > 0 && err == nil; {
		var k int
		_ = c.SetWriteDeadline(time.Now().Add(limit))
		k, err = c.Conn.Write(p[:writePiece])
		n, p = n+k, p[k:]
	}
	if err == nil {
		if n > 0 {
			_ = c.SetWriteDeadline(time.Now().Add(c.l.writeTimeout()))
		}
		var k int
		k, err = c.Conn.Write(p)
		n += k
	}
	if err != nil {
		c.torn.Store(true)
	}
	return n, err
}

// Close closes the connection. It does not wait for the client, unless an answer
// would be lost without (lingerOut).
func (c *clientConn) Close() error {
	c.ticket.retire()
	if c.lingers.Swap(false) {
		c.lingerOut()
	}
	var err error
	if c.tls != nil && !c.torn.Load() {
		err = endTLS(c.tls)
	} else {
		err = c.raw.Close()
	}
	c.once.Do(func() {
		l := c.l
		l.mu.Lock()
		delete(l.conns, c)
		l.resting.remove(c)
		c.gone = true
		<-l.slots // before others are asked to go
		if c.evicted.Load() && l.onEvict != nil {
			l.onEvict()
		}
		c.stays()
		l.mu.Unlock()
	})
	return err
}

// NetConn is the connection below, whose descriptor the watcher needs.
func (c *clientConn) NetConn() net.Conn { return c.Conn }

// clientOf finds the client's connection below fasthttp's and our own wrappers, nil
// if there is none.
func clientOf(c net.Conn) *clientConn {
	for {
		switch v := c.(type) {
		case *clientConn:
			return v
		case interface{ NetConn() net.Conn }:
			c = v.NetConn()
		default:
			return nil
		}
	}
}

// ticketOf finds the watch of a client's connection, nil if it has none.
func ticketOf(c net.Conn) *watchTicket {
	if v := clientOf(c); v != nil {
		return &v.ticket
	}
	return nil
}

// overTLS reports whether a client's connection is encrypted. fasthttp cannot
// tell: it sees our wrapper.
func overTLS(c net.Conn) bool {
	v := clientOf(c)
	return v != nil && v.tls != nil
}

// restList is a list of connections, in the order in which they came to it.
type restList struct{ first, last *clientConn }

func (r *restList) push(c *clientConn) {
	c.listed, c.older = true, r.last
	if r.last != nil {
		r.last.newer = c
	} else {
		r.first = c
	}
	r.last = c
}

// remove does nothing for a connection that is not listed.
func (r *restList) remove(c *clientConn) {
	if !c.listed {
		return
	}
	if c.older != nil {
		c.older.newer = c.newer
	} else {
		r.first = c.newer
	}
	if c.newer != nil {
		c.newer.older = c.older
	} else {
		r.last = c.older
	}
	c.listed, c.older, c.newer = false, nil, nil
}
