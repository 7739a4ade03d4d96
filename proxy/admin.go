package proxy

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"sync/atomic"

	"github.com/valyala/fasthttp"
	"go.uber.org/zap"
)

// Listen opens the listeners that the configuration names: it returns the clients',
// for Serve, and answers operators on the other one until Shutdown.
func (s *Server) Listen() (net.Listener, error) {
	conf := s.snapshot().conf
	network, address := conf.Server.Network()
	ln, err := Listen(network, address, conf.Server.SocketMode)
	if err != nil {
		return nil, fmt.Errorf("server.listen: %w", err)
	}
	if conf.Admin.Listen == "" {
		return ln, nil
	}
	network, address = conf.Admin.Network()
	admin, err := Listen(network, address, conf.Server.SocketMode)
	if err != nil {
		_ = ln.Close()
		return nil, fmt.Errorf("admin.listen: %w; another proxy on this host may have it: give each an address of its own, or \"\" for none", err)
	}
	s.serveAdmin(admin)
	return ln, nil
}

// adminServer answers operators: probes and scrapers. It has its own listener, so
// that it answers when the clients' one is full, and goes on during a drain.
type adminServer struct {
	http *fasthttp.Server
	ln   net.Listener
	done chan error
	quit chan struct{} // closed when it ends

	profiling atomic.Bool // a profile is being made
}

// serveAdmin answers operators on ln until stopAdmin.
func (s *Server) serveAdmin(ln net.Listener) {
	limits := s.snapshot().conf.Server.Timeouts
	a := &adminServer{ln: ln, done: make(chan error, 1), quit: make(chan struct{})}
	a.http = &fasthttp.Server{
		Handler: func(ctx *fasthttp.RequestCtx) { s.handleAdmin(a, ctx) },
		Logger:  serverLog{s.log}, SecureErrorLogMessage: true,
		MaxRequestBodySize: 1, DisablePreParseMultipartForm: true, GetOnly: true,
		ReadTimeout: limits.Header, WriteTimeout: limits.Write, IdleTimeout: limits.Idle,
		Concurrency: 100, ReduceMemoryUsage: true, NoDefaultServerHeader: true, NoDefaultContentType: true, CloseOnShutdown: true,
	}
	s.mu.Lock()
	s.admin = a
	s.mu.Unlock()
	go func() { a.done <- a.http.Serve(ln) }()
}

// stopAdmin ends the operators' listener, behind everything else.
func (s *Server) stopAdmin() {
	s.mu.Lock()
	a := s.admin
	s.admin = nil
	s.mu.Unlock()
	if a == nil {
		return
	}
	_ = a.ln.Close()
	close(a.quit)
	_ = a.http.Shutdown()
	if err := <-a.done; err != nil && !errors.Is(err, net.ErrClosed) {
		s.log.Warn("the admin listener failed", zap.Error(err))
	}
}

// handleAdmin answers one request of an operator. Everything here is read and nothing is
// changed, and only GET and HEAD are taken, so that a page in a browser on this host cannot
// do anything by asking; nor can it read what it gets, because no origin is allowed, and a
// name that was made to mean this host is refused.
func (s *Server) handleAdmin(a *adminServer, ctx *fasthttp.RequestCtx) {
	h := &ctx.Response.Header
	h.Set("Cache-Control", "no-store")
	h.SetContentType("text/plain; charset=utf-8")
	if s.draining.Load() {
		h.SetConnectionClose()
	}
	if rebound(ctx) {
		ctx.SetStatusCode(fasthttp.StatusForbidden)
		ctx.SetBodyString("The Host header names another host than this one. Ask by an address, or as localhost.\n")
		return
	}
	path, _, _ := strings.Cut(string(ctx.Request.Header.RequestURI()), "?")
	switch path {
	case "/livez":
		ctx.SetBodyString("ok\n")
	case "/readyz":
		ready, reasons := s.ready()
		var b bytes.Buffer
		if ready {
			b.WriteString("ready\n")
		} else {
			ctx.SetStatusCode(fasthttp.StatusServiceUnavailable)
			b.WriteString("not ready\n")
		}
		for _, r := range reasons {
			b.WriteString("- " + r + "\n")
		}
		ctx.SetBody(b.Bytes())
	case "/metrics":
		h.SetContentType("text/plain; version=0.0.4; charset=utf-8")
		var b bytes.Buffer
		s.meters.write(&b)
		ctx.SetBody(b.Bytes())
	default:
		if name, ok := strings.CutPrefix(path, profilePath); ok && s.snapshot().conf.Admin.PProf {
			a.profile(ctx, name)
			return
		}
		ctx.SetStatusCode(fasthttp.StatusNotFound)
		ctx.SetBodyString("There are /livez, /readyz and /metrics here.\n")
	}
}

// rebound reports whether a request that came by loopback says that it is for a host with
// a name: nobody but a browser whose name server lies to it does that.
func rebound(ctx *fasthttp.RequestCtx) bool {
	local, ok := ctx.LocalAddr().(*net.TCPAddr)
	host := string(ctx.Host())
	if !ok || !local.IP.IsLoopback() || host == "" {
		return false
	}
	if name, _, err := net.SplitHostPort(host); err == nil {
		host = name
	}
	host = strings.TrimSuffix(strings.Trim(host, "[]"), ".")
	_, err := netip.ParseAddr(host)
	return err != nil && !strings.EqualFold(host, "localhost")
}
