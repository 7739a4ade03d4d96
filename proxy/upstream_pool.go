package proxy

import (
	"context"
	"crypto/tls"
	"math/rand/v2"
	"net"
	"sync"
	"time"
)

const (
	defaultConnectTimeout = 5 * time.Second
	defaultKeepAlive      = 4 * time.Second // Python servers close at 5 s
	defaultMaxHeader      = 64 << 10
	maxIdleConns          = 256 // for one origin
	// oldestNamed is how long a connection to a name serves requests, so that an address that changed counts within a minute
	// also where connections are never idle. Up to a quarter less, so that they are not all made anew together.
	oldestNamed = 55 * time.Second
)

// originConfig says where a backend is and how it is reached.
type originConfig struct {
	// Scheme is http, https or unix.
	Scheme string
	// Addr is host:port, or the path of the socket.
	Addr string
	// Host is the value of the Host header; it is for whoever builds the head.
	Host string
	// TLS is for https; nil verifies against the system's roots. It is cloned.
	TLS *tls.Config
	// ConnectTimeout bounds dialling and the TLS handshake together. Default 5 s.
	ConnectTimeout time.Duration
	// KeepAlive is how long an idle connection may be used again. It should be
	// shorter than the backend's own, so that it is not the backend that closes.
	// Default 4 s; negative: a connection serves one request.
	KeepAlive time.Duration
	// MaxHeader bounds a response head in bytes. Default 64 KiB.
	MaxHeader int
	// Dial replaces the dialler, for a listener in memory. Its connections may
	// lack a descriptor. It must give up when the context does.
	Dial func(context.Context) (net.Conn, error)
	// Lookup replaces the system's resolver; nil: the system's.
	Lookup lookupFunc
	// Stale hears that the lookup of its name failed and the last known addresses are
	// used, each time, and of nil when an answer came again. nil: nobody.
	Stale func(error)
	// AllowLinkLocal permits link-local and metadata addresses, which are else
	// refused at the moment of dialling, whatever the name resolved to.
	AllowLinkLocal bool
}

// origin is one backend address with its idle connections. It is safe for
// concurrent use.
//
// fasthttp's HostClient is not used towards backends: its dialling and waiting
// cannot be cancelled, it loses its place in a chunked body after a read
// timeout, it hides a Content-Length beside Transfer-Encoding, and its retry
// cannot tell a stale connection from a backend that read the request and died.
type origin struct {
	cfg   originConfig
	named bool // found by a name, which may come to mean another address
	dial  func(context.Context) (net.Conn, error)
	tls   *tls.Config

	mu      sync.Mutex
	idle    []*upstreamConn // the last one is the one used last
	closed  bool
	ticking bool // janitor is due
	janitor *time.Timer
}

// newOrigin makes an origin; it dials nothing yet.
func newOrigin(cfg originConfig) *origin {
	if cfg.ConnectTimeout <= 0 {
		cfg.ConnectTimeout = defaultConnectTimeout
	}
	if cfg.KeepAlive == 0 {
		cfg.KeepAlive = defaultKeepAlive
	}
	if cfg.MaxHeader <= 0 {
		cfg.MaxHeader = defaultMaxHeader
	}
	_, _, named := cfg.hostName()
	return &origin{cfg: cfg, named: named, dial: cfg.dialer(), tls: cfg.clientTLS()}
}

// close closes the idle connections. Requests under way go on, and their
// connections are closed instead of kept.
func (o *origin) close() {
	o.mu.Lock()
	o.closed = true
	idle := o.idle
	o.idle = nil
	if o.janitor != nil {
		o.janitor.Stop()
	}
	o.mu.Unlock()
	for _, u := range idle {
		u.closeIdle()
	}
}

// idleConns is the number of connections in the pool.
func (o *origin) idleConns() int {
	o.mu.Lock()
	defer o.mu.Unlock()
	return len(o.idle)
}

// take returns an idle connection that is fit for use, or nil. The newest goes
// first: it is the least likely to be stale, and the others can age out.
func (o *origin) take(now time.Time) *upstreamConn {
	for {
		o.mu.Lock()
		n := len(o.idle)
		if n == 0 {
			o.mu.Unlock()
			return nil
		}
		u := o.idle[n-1]
		o.idle[n-1] = nil
		o.idle = o.idle[:n-1]
		o.mu.Unlock()
		if now.Sub(u.idleSince) < o.cfg.KeepAlive && !u.old(now) && u.alive() {
			return u
		}
		u.closeIdle()
	}
}

// put keeps a connection for the next request, or closes it when there are
// enough or it is too old.
func (o *origin) put(u *upstreamConn) {
	now := time.Now()
	if o.cfg.KeepAlive > 0 && !u.old(now) {
		u.idleSince = now
		o.mu.Lock()
		if !o.closed && len(o.idle) < maxIdleConns {
			o.idle = append(o.idle, u)
			if !o.ticking {
				o.tick(o.cfg.KeepAlive)
			}
			o.mu.Unlock()
			return
		}
		o.mu.Unlock()
	}
	u.closeIdle()
}

// tick has the janitor come after d. It is called with mu held. One timer an
// origin runs while there is something idle, and no goroutine waits.
func (o *origin) tick(d time.Duration) {
	o.ticking = true
	if o.janitor == nil {
		o.janitor = time.AfterFunc(d, o.sweep)
	} else {
		o.janitor.Reset(d)
	}
}

// sweep closes what has been idle for too long, which is at the front.
func (o *origin) sweep() {
	now := time.Now()
	o.mu.Lock()
	o.ticking = false
	n := 0
	for n < len(o.idle) && now.Sub(o.idle[n].idleSince) >= o.cfg.KeepAlive {
		n++
	}
	expired := append([]*upstreamConn(nil), o.idle[:n]...)
	rest := copy(o.idle, o.idle[n:])
	clear(o.idle[rest:])
	o.idle = o.idle[:rest]
	if rest > 0 {
		o.tick(o.cfg.KeepAlive - now.Sub(o.idle[0].idleSince))
	}
	o.mu.Unlock()
	for _, u := range expired {
		u.closeIdle()
	}
}

// connect opens a new connection. Whatever happens, cn no longer refers to it
// when an error is returned.
func (o *origin) connect(cn *cancel, total time.Time) (*upstreamConn, error) {
	deadline := time.Now().Add(o.cfg.ConnectTimeout)
	if !total.IsZero() && total.Before(deadline) {
		deadline = total
	}
	ctx, stop := context.WithDeadline(context.Background(), deadline)
	defer stop()
	if err := cn.attachDial(stop); err != nil {
		return nil, err
	}
	c, err := o.dial(ctx)
	if err != nil {
		if cause := cn.detach(); cause != nil {
			return nil, cause
		}
		if ctx.Err() != nil {
			err = &dialTimeout{err}
		}
		return nil, err
	}
	if cause := cn.attach(c); cause != nil {
		closeAbruptly(c)
		return nil, cause
	}
	if o.tls == nil {
		return o.begin(c), nil
	}
	// With deadlines and cancelling by closing, the handshake needs no goroutine
	// to watch a context.
	t := tls.Client(c, o.tls)
	_ = c.SetDeadline(deadline)
	if err := t.Handshake(); err != nil {
		_ = c.Close()
		if cause := cn.detach(); cause != nil {
			return nil, cause
		}
		return nil, err
	}
	_ = c.SetDeadline(time.Time{})
	return o.begin(t), nil
}

// begin is a connection that is ready for its first request.
func (o *origin) begin(c net.Conn) *upstreamConn {
	u := newUpstreamConn(c)
	if o.named {
		u.retire = time.Now().Add(oldestNamed - rand.N(oldestNamed/4)) // #nosec G404 -- no secret
	}
	return u
}

// old reports whether the connection served long enough.
func (u *upstreamConn) old(now time.Time) bool { return !u.retire.IsZero() && !now.Before(u.retire) }

// dialTimeout marks an error of a dial that ran out of time, whatever a dialler
// made of it.
type dialTimeout struct{ err error }

func (e *dialTimeout) Error() string { return "timed out: " + e.err.Error() }
func (e *dialTimeout) Unwrap() error { return e.err }
func (e *dialTimeout) Timeout() bool { return true }
