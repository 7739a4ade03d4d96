package proxy

import (
	"context"
	"errors"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/valyala/fasthttp"
	"go.uber.org/zap"

	"github.com/dragoman-proxy/dragoman/internal/config"
	"github.com/dragoman-proxy/dragoman/ratelimit"
	"github.com/dragoman-proxy/dragoman/translate"
)

// Server is the proxy: a configuration, its agents, and the clients being
// served. Make it with New, run it with Serve, end it with Shutdown.
type Server struct {
	current atomic.Pointer[snapshot]
	log     *zap.Logger
	access  *zap.Logger // nil: no access log
	router  *router
	http    *fasthttp.Server
	watcher *watcher
	certs   *certificates // nil: clients speak without TLS
	started int64         // Unix seconds
	gather  time.Duration // how long letters wait for more; tests change it

	draining atomic.Bool
	mu       sync.Mutex
	running  map[*call]struct{} // requests whose backend is at work
	idle     chan struct{}      // closed when draining and nothing runs
	cutting  bool               // what runs is being cut; nothing new may begin
	returned sync.WaitGroup     // connections that came back from streams; none is added when draining
	ln       *listener
	admin    *adminServer // nil: none

	meters    *meters
	readiness readiness
	callers
}

// New builds a proxy from a valid configuration. demo reaches the embedded
// agents; it may be nil if the configuration names none.
func New(c *config.Config, log *zap.Logger, demo DemoDialer) (*Server, error) {
	s := &Server{
		log: log, router: newRouter(), started: time.Now().Unix(), gather: gatherTime,
		running: map[*call]struct{}{}, idle: make(chan struct{}),
	}
	s.meters = newMeters(s)
	snap := &snapshot{conf: c, agents: map[*config.Agent]*agent{}, welcome: welcome(c)}
	s.current.Store(snap)
	if err := s.newCallers(); err != nil {
		return nil, err
	}
	if c.Log.Access {
		s.access = log.Named("access")
	}
	for i := range c.Agents {
		a, err := newAgent(&c.Agents[i], c.Translate.Strict, demo)
		if err != nil {
			s.closeCallers()
			s.closeAgents()
			return nil, err
		}
		a.info.Created = s.started
		a.scope = s.limiter.Scope(ratelimit.Agent, c.Agents[i].Name, limits(c.Agents[i].Limits))
		snap.agents[&c.Agents[i]] = a
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
		var err error
		if s.certs, err = loadCertificates(c.Server.TLS, log); err != nil {
			s.closeCallers()
			s.closeAgents()
			return nil, err
		}
		s.meters.set.NewGauge("dragoman_tls_certificate_expiry_seconds", s.certs.expiry)
	}
	w, err := newWatcher()
	if err != nil {
		s.closeCallers()
		s.closeAgents()
		return nil, err
	}
	s.watcher = w
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
	l := newListener(ln, s.snapshot().conf.Server.MaxConnections, s.snapshot().conf.Server.Timeouts.Write, s.log)
	l.onEvict = s.meters.set.GetOrCreateCounter("dragoman_connections_evicted_total").Inc
	l.watcher, l.certs, l.headTimeout = s.watcher, s.certs, s.snapshot().conf.Server.Timeouts.Header
	s.mu.Lock()
	down := s.draining.Load()
	s.ln = l
	if !down && s.certs != nil {
		s.certs.start()
	}
	s.mu.Unlock()
	if down {
		return l.Close()
	}
	err := s.http.Serve(l)
	if s.draining.Load() && (err == nil || errors.Is(err, net.ErrClosed)) {
		return nil
	}
	return err
}

// Shutdown stops accepting, waits for the requests that run, and cuts those
// that run when ctx ends: their clients are told so in their own protocol. It
// returns when everything has ended.
func (s *Server) Shutdown(ctx context.Context) error {
	s.mu.Lock()
	first := !s.draining.Swap(true)
	ln := s.ln
	if first && len(s.running) == 0 {
		close(s.idle)
	}
	s.mu.Unlock()
	if ln != nil {
		_ = ln.Close()
	}
	select {
	case <-s.idle:
	case <-ctx.Done():
		s.mu.Lock()
		s.cutting = true
		cut := make([]*call, 0, len(s.running))
		for e := range s.running {
			cut = append(cut, e)
		}
		s.mu.Unlock()
		for _, e := range cut {
			e.cancel.Cancel(errShutdown)
		}
		// They end by themselves: each has at most one write to make, under a
		// deadline of its own.
		select {
		case <-s.idle:
		case <-time.After(max(s.snapshot().conf.Server.Timeouts.Write, hangUpTime)):
		}
	}
	err := s.disconnect(ctx, ln)
	if s.certs != nil {
		s.certs.close()
	}
	s.stopAdmin()
	s.closeCallers()
	s.closeAgents()
	if werr := s.watcher.Close(); err == nil {
		err = werr
	}
	return err
}

// hangUpTime is how long connections have to end once there is no more time.
const hangUpTime = 2 * time.Second

// disconnect ends the clients' connections. No request runs any more, but
// answers may still be on their way, and requests may be coming in, which are
// told that the proxy is shutting down.
func (s *Server) disconnect(ctx context.Context, ln *listener) error {
	if ln == nil {
		return nil
	}
	// fasthttp takes a connection on which nothing was ever sent for a busy one.
	ln.hangUp(false)
	end, cancel := context.WithCancel(context.Background())
	defer cancel()
	down := make(chan error, 1)
	go func() {
		err := s.http.ShutdownWithContext(end)
		s.returned.Wait()
		down <- err
	}()
	select {
	case err := <-down:
		return err
	case <-ctx.Done():
	}
	late := time.NewTimer(hangUpTime)
	defer late.Stop()
	select {
	case err := <-down:
		return err
	case <-late.C:
	}
	ln.hangUp(true)
	late.Reset(hangUpTime)
	select {
	case err := <-down:
		return err
	case <-late.C:
		return errors.New("a request did not end")
	}
}

// handBack gives a connection that served a stream to the server again. It waits
// for the next request itself: fasthttp would take the connection for a new one
// and close it after the time that a head may take, not after the idle time.
func (s *Server) handBack(conn net.Conn, early []byte) {
	s.mu.Lock()
	down := s.draining.Load()
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
		// Shutdown sees that it waits, or this sees the Shutdown.
		if s.draining.Load() {
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

func (s *Server) closeAgents() {
	for _, a := range s.snapshot().agents {
		for _, b := range a.backends {
			b.origin.close()
		}
	}
}

var errShutdown = errors.New("the proxy is shutting down")

// begin notes a request whose backend is about to be called.
func (s *Server) begin(e *call) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.cutting || s.draining.Load() && len(s.running) == 0 {
		return false
	}
	s.running[e] = struct{}{}
	return true
}

func (s *Server) end(e *call) {
	s.mu.Lock()
	delete(s.running, e)
	if s.draining.Load() && len(s.running) == 0 {
		select {
		case <-s.idle:
		default:
			close(s.idle)
		}
	}
	s.mu.Unlock()
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
	ctx.Response.Reset()
	ctx.Response.SetStatusCode(e.Status)
	ctx.Response.Header.SetContentType("application/json")
	ctx.Response.Header.SetConnectionClose()
	ctx.Response.Header.Set("X-Request-Id", newID("req_"))
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
