package proxy

import (
	"errors"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/valyala/fasthttp"
	"go.uber.org/zap"

	"github.com/dragoman-proxy/dragoman/internal/config"
	"github.com/dragoman-proxy/dragoman/internal/state"
	"github.com/dragoman-proxy/dragoman/translate"
)

// Server is the proxy: a configuration, its agents, and the clients being
// served. Make it with New, run it with Serve, give it another configuration with
// Reload, announce its end with Drain and end it with Shutdown.
type Server struct {
	current atomic.Pointer[snapshot]
	log     *zap.Logger
	access  *zap.Logger
	router  *router
	http    *fasthttp.Server
	watcher *watcher
	certs   *certificates // nil: clients speak without TLS
	state   state.Store   // conversations; nil: none are kept
	runs    runs          // answers that run in the background
	started int64         // Unix seconds
	gather  time.Duration // how long letters wait for more; tests change it
	hold    time.Duration // how long an answer that was only opened is held back; tests change it
	looks   time.Duration // readinessAge: what a look at the agents may take; tests change it
	lingers time.Duration // lingerTime; tests change it
	share   time.Duration // how often the events of runs in the background are kept and looked for; tests change it

	draining atomic.Bool // not ready any more; every answer closes its connection
	mu       sync.Mutex
	since    time.Time          // when draining began
	stopped  bool               // accepting has ended, and requests that come are refused
	cutting  bool               // what runs is being cut; nothing new may begin
	running  map[*call]struct{} // requests whose backend is at work
	idle     chan struct{}      // closed when stopped and nothing runs
	returned sync.WaitGroup     // connections that came back from streams; none is added when stopped
	ln       *listener
	admin    *adminServer // nil: none

	meters    *meters
	readiness readiness
	probes    prober
	changing  sync.Mutex       // one at a time puts another snapshot in place
	demo      DemoDialer       // nil: none
	clock     func() time.Time // of balancing; tests change it
	reloads   reloads
	callers
}

// New builds a proxy from a valid configuration. demo reaches the embedded
// agents; it may be nil if the configuration names none.
func New(c *config.Config, log *zap.Logger, demo DemoDialer) (*Server, error) {
	return build(c, log, demo, nil)
}

// build is New with a clock for the rates, by which tests let no time pass; nil is the true one.
func build(c *config.Config, log *zap.Logger, demo DemoDialer, rates func() time.Time) (*Server, error) {
	s := &Server{
		log: log, router: newRouter(), started: time.Now().Unix(), gather: gatherTime, hold: preambleTime, share: sharePause, lingers: lingerTime, looks: readinessAge,
		running: map[*call]struct{}{}, idle: make(chan struct{}),
		clock: time.Now,
	}
	s.demo, s.stop, s.access = demo, make(chan struct{}), log.Named("access")
	s.meters = newMeters(s)
	s.countReloads()
	if err := s.newLimiter(c, rates); err != nil {
		return nil, err
	}
	snap, err := s.newSnapshot(c, nil)
	if err != nil {
		s.closeCallers()
		return nil, err
	}
	s.put(snap)
	if err := s.openState(c); err != nil {
		s.closeCallers()
		s.closeAgents()
		return nil, err
	}
	s.meters.set.NewGauge("dragoman_connections", func() float64 {
		s.mu.Lock()
		l := s.ln
		s.mu.Unlock()
		if l == nil {
			return 0
		}
		return float64(l.open())
	})
	if c.Server.TLS.CertFile != "" {
		if s.certs, err = loadCertificates(c.Server.TLS, log); err != nil {
			s.closeCallers()
			s.closeAgents()
			return nil, err
		}
		s.meters.set.NewGauge("dragoman_tls_certificate_expiry_seconds", s.certs.expiry)
	}
	if s.watcher, err = newWatcher(); err != nil {
		s.closeState()
		s.closeCallers()
		s.closeAgents()
		return nil, err
	}
	s.http = &fasthttp.Server{
		Handler:       s.handle,
		ErrorHandler:  s.protocolError,
		ExpectHandler: s.expect,
		Logger:        serverLog{log},
		// The error log must not hold headers, and with them credentials.
		SecureErrorLogMessage: true,
		// The handler runs behind the head and reads the body itself, with its
		// own limit and deadline.
		StreamRequestBody:            true,
		MaxRequestBodySize:           1,
		DisablePreParseMultipartForm: true,
		ReadBufferSize:               int(c.Server.MaxHeader),
		ReadTimeout:                  c.Server.Timeouts.Header,
		IdleTimeout:                  c.Server.Timeouts.Idle,
		// A stream takes its connection over and gives it back at its end.
		KeepHijackedConns:     true,
		ReduceMemoryUsage:     true,
		NoDefaultServerHeader: true,
		NoDefaultContentType:  true,
		CloseOnShutdown:       true,
		Concurrency:           2 * c.Server.MaxConnections,
		ConnState:             connState,
		// Header names are normalised (the default): fasthttp finds a header by
		// its exact name only, and many clients write theirs in lower case.
	}
	return s, nil
}

// Serve answers clients that connect to ln until Shutdown. It closes ln.
func (s *Server) Serve(ln net.Listener) error {
	timeouts := s.snapshot().conf.Server.Timeouts
	l := newListener(ln, s.snapshot().conf.Server.MaxConnections, timeouts.Write, s.log)
	l.onEvict = s.meters.set.GetOrCreateCounter("dragoman_connections_evicted_total").Inc
	l.watcher, l.certs, l.headTimeout, l.lingers = s.watcher, s.certs, timeouts.Header, s.lingers
	s.mu.Lock()
	down := s.stopped
	s.ln = l
	if !down && s.certs != nil {
		s.certs.start()
	}
	s.mu.Unlock()
	if down {
		return l.Close()
	}
	s.startProbes()
	err := s.http.Serve(l)
	s.mu.Lock()
	down = s.stopped
	s.mu.Unlock()
	if down && (err == nil || errors.Is(err, net.ErrClosed)) {
		return nil
	}
	return err
}

// handBack gives a connection that served a stream to the server again. It waits
// for the next request itself: fasthttp would take the connection for a new one
// and close it after the time that a head may take, not after the idle time.
func (s *Server) handBack(conn net.Conn, early []byte) {
	s.mu.Lock()
	down := s.stopped
	if !down {
		s.returned.Add(1)
	}
	s.mu.Unlock()
	if down {
		_ = conn.Close()
		return
	}
	defer s.returned.Done()
	if len(early) == 0 {
		if early = s.nextByte(conn); len(early) == 0 {
			_ = conn.Close()
			return
		}
	}
	_ = s.http.ServeConn(&earlyConn{Conn: conn, early: early})
}

// nextByte waits for the first byte of the next request.
func (s *Server) nextByte(conn net.Conn) []byte {
	if c := clientOf(conn); c != nil {
		c.rest()
		// Drain is over before this looks, or closes what waits when it is. A request
		// that was sent ahead is served.
		if s.draining.Load() && !pending(c.raw) {
			return nil
		}
	}
	if d := s.snapshot().conf.Server.Timeouts.Idle; d > 0 {
		_ = conn.SetReadDeadline(time.Now().Add(d))
	}
	first := make([]byte, 1)
	n, _ := conn.Read(first)
	return first[:n]
}

// protocolError answers a request that fasthttp could not read, in the words of
// the face that its first line tells, if that could be seen; else in the shape
// that most clients read.
func (s *Server) protocolError(ctx *fasthttp.RequestCtx, err error) {
	if _, ok := errors.AsType[fasthttp.ErrNothingRead](err); ok {
		ctx.Response.Header.SetConnectionClose()
		ctx.Response.SetStatusCode(fasthttp.StatusRequestTimeout)
		return
	}
	e := &translate.Error{Kind: translate.KindInvalid, Status: 400, Code: "bad_request", Message: "The request is not valid HTTP/1.1."}
	var small *fasthttp.ErrSmallBuffer
	var ne net.Error
	switch {
	case errors.As(err, &small):
		e.Status, e.Code, e.Message = 431, "headers_too_large", "The request's head exceeds "+s.snapshot().conf.Server.MaxHeader.String()+"."
	case errors.As(err, &ne) && ne.Timeout():
		e.Status, e.Code, e.Message = 408, "request_timeout", "The request did not arrive in time."
	}
	linger(ctx.Conn(), e.Status != 408)
	c := s.newCall() // of it nothing is known but its end
	c.id = newID("req_")
	c.log.status, c.log.err = e.Status, e
	defer c.finished()
	ctx.Response.Reset()
	ctx.Response.SetStatusCode(e.Status)
	ctx.Response.Header.SetContentType("application/json")
	ctx.Response.Header.SetConnectionClose()
	ctx.Response.Header.Set("X-Request-Id", c.id)
	ctx.Response.SetBodyRaw(s.wordsFor(ctx.Conn()).AppendError(nil, e))
}

// connState hears from fasthttp what a connection does: whether it waits for a request
// decides who makes room when there are too many.
func connState(conn net.Conn, state fasthttp.ConnState) {
	if state != fasthttp.StateIdle && state != fasthttp.StateActive {
		return
	}
	c := clientOf(conn)
	switch {
	case c == nil:
	case state == fasthttp.StateIdle:
		c.rest()
	default: // a request that was sent ahead needs no read
		c.busy()
	}
}

// serverLog passes fasthttp's own messages on, without those that every
// departed client causes.
type serverLog struct{ log *zap.Logger }

// Printf implements fasthttp.Logger.
func (l serverLog) Printf(format string, args ...any) {
	if strings.HasPrefix(format, "error when serving connection") {
		if c := l.log.Check(zap.DebugLevel, "connection ended"); c != nil {
			c.Write(zap.String("format", format))
		}
		return
	}
	l.log.Sugar().Warnf(format, args...)
}
