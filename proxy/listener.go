package proxy

import (
	"errors"
	"io/fs"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"go.uber.org/zap"
)

// listener accepts clients for ever. fasthttp takes an accept that fails with
// EMFILE as the end of the server, so temporary errors are waited out here, and
// at the limit of connections none is accepted until one ends.
type listener struct {
	net.Listener
	log          *zap.Logger
	writeTimeout time.Duration
	watcher      *watcher // nil: departures show at the next write
	slots        chan struct{}
	closed       chan struct{}
	once         sync.Once
	err          error

	mu    sync.Mutex
	conns map[*clientConn]struct{} // accepted and not yet closed
}

func newListener(ln net.Listener, maxConns int, writeTimeout time.Duration, log *zap.Logger) *listener {
	return &listener{
		Listener: ln, log: log, writeTimeout: writeTimeout,
		slots: make(chan struct{}, maxConns), closed: make(chan struct{}),
		conns: map[*clientConn]struct{}{},
	}
}

// Accept waits for the next client.
func (l *listener) Accept() (net.Conn, error) {
	select {
	case l.slots <- struct{}{}:
	case <-l.closed:
		return nil, net.ErrClosed
	}
	pause := time.Duration(0)
	for {
		c, err := l.Listener.Accept()
		if err == nil {
			tuneAccepted(c, l.writeTimeout)
			cc := &clientConn{Conn: c, l: l}
			if l.watcher != nil {
				l.watcher.attach(c, &cc.ticket)
			}
			cc.waiting.Store(true)
			l.mu.Lock()
			l.conns[cc] = struct{}{}
			l.mu.Unlock()
			return cc, nil
		}
		if !temporary(err) {
			<-l.slots
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
			<-l.slots
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

// Close stops accepting. It may be called again.
func (l *listener) Close() error {
	l.once.Do(func() {
		close(l.closed)
		l.err = l.Listener.Close()
	})
	return l.err
}

// hangUp closes the clients' connections: those that wait for a request, which
// nobody would be told of, or all of them.
func (l *listener) hangUp(all bool) {
	l.mu.Lock()
	var conns []*clientConn
	for c := range l.conns {
		if all || c.waiting.Load() {
			conns = append(conns, c)
		}
	}
	l.mu.Unlock()
	for _, c := range conns {
		_ = c.Close()
	}
}

// clientConn gives its slot back when it is closed.
type clientConn struct {
	net.Conn
	l      *listener
	once   sync.Once
	ticket watchTicket
	// waiting is true while not one byte of a request has come: on a new
	// connection, and on one that has come back from a stream.
	waiting atomic.Bool
}

// Read implements net.Conn.
func (c *clientConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	if n > 0 && c.waiting.Load() {
		c.waiting.Store(false)
	}
	return n, err
}

// writePiece is what a client has to take within the write timeout.
const writePiece = 64 << 10

// Write implements net.Conn. A long write goes out in pieces, and each has the
// whole write timeout: a client that reads slowly is not one that does not read.
func (c *clientConn) Write(p []byte) (n int, err error) {
	for len(p) > writePiece && c.l.writeTimeout > 0 && err == nil {
		var k int
		_ = c.SetWriteDeadline(time.Now().Add(c.l.writeTimeout))
		k, err = c.Conn.Write(p[:writePiece])
		n, p = n+k, p[k:]
	}
	if err != nil {
		return n, err
	}
	if n > 0 {
		_ = c.SetWriteDeadline(time.Now().Add(c.l.writeTimeout))
	}
	k, err := c.Conn.Write(p)
	return n + k, err
}

// Close closes the connection.
func (c *clientConn) Close() error {
	c.ticket.retire()
	err := c.Conn.Close()
	c.once.Do(func() {
		c.l.mu.Lock()
		delete(c.l.conns, c)
		c.l.mu.Unlock()
		<-c.l.slots
	})
	return err
}

// NetConn is the connection below, whose descriptor the watcher needs.
func (c *clientConn) NetConn() net.Conn { return c.Conn }

// ticketOf finds the watch of a client's connection, nil if it has none.
func ticketOf(c net.Conn) *watchTicket {
	for {
		switch v := c.(type) {
		case *clientConn:
			return &v.ticket
		case interface{ NetConn() net.Conn }:
			c = v.NetConn()
		default:
			return nil
		}
	}
}

// Listen opens the address of a configuration. A unix socket that nobody
// listens on any more is removed first.
func Listen(network, address string, mode fs.FileMode) (net.Listener, error) {
	if network != "unix" {
		return net.Listen(network, address)
	}
	if fi, err := os.Lstat(address); err == nil && fi.Mode()&fs.ModeSocket != 0 {
		if c, err := net.Dial("unix", address); err == nil {
			_ = c.Close()
			return nil, &net.OpError{Op: "listen", Net: "unix", Err: errors.New(address + " is in use")}
		}
		if err := os.Remove(address); err != nil {
			return nil, err
		}
	}
	// The mode is set by the umask from the first moment on: nobody can connect
	// before it is right.
	old := syscall.Umask(int(0o777 &^ mode.Perm()))
	ln, err := net.Listen("unix", address)
	syscall.Umask(old)
	return ln, err
}
