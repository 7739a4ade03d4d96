package proxy

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"time"

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
}

// serveAdmin answers operators on ln until stopAdmin.
func (s *Server) serveAdmin(ln net.Listener) {
	a := &adminServer{ln: ln, done: make(chan error, 1), http: &fasthttp.Server{
		Handler: s.handleAdmin,
		Logger:  serverLog{s.log}, SecureErrorLogMessage: true,
		MaxRequestBodySize: 1, DisablePreParseMultipartForm: true, GetOnly: true,
		ReadTimeout: 5 * time.Second, WriteTimeout: 10 * time.Second, IdleTimeout: time.Minute,
		Concurrency: 100, ReduceMemoryUsage: true, NoDefaultServerHeader: true, NoDefaultContentType: true, CloseOnShutdown: true,
	}}
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
	_ = a.http.Shutdown()
	if err := <-a.done; err != nil && !errors.Is(err, net.ErrClosed) {
		s.log.Warn("the admin listener failed", zap.Error(err))
	}
}

func (s *Server) handleAdmin(ctx *fasthttp.RequestCtx) {
	h := &ctx.Response.Header
	h.Set("Cache-Control", "no-store")
	h.SetContentType("text/plain; charset=utf-8")
	if s.draining.Load() {
		h.SetConnectionClose()
	}
	switch string(ctx.Request.Header.RequestURI()) {
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
		ctx.SetStatusCode(fasthttp.StatusNotFound)
		ctx.SetBodyString("There are /livez, /readyz and /metrics here.\n")
	}
}
