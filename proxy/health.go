package proxy

import (
	"context"
	"sync"
	"time"

	"github.com/valyala/fasthttp"

	"github.com/dragoman-proxy/dragoman/translate"
)

// health answers the probes with a bare status. Alive is who can answer at all;
// ready is who is not shutting down and, where agents live beside the proxy, has
// one that takes connections. A shared backend does not count: its failure must
// not take every replica out.
func (c *call) health(ctx *fasthttp.RequestCtx, path string) *translate.Error {
	ctx.Response.Header.SetContentType("text/plain; charset=utf-8")
	ctx.Response.Header.Set("Cache-Control", "no-store")
	if path == "/readyz" && !c.s.ready() {
		ctx.Response.SetStatusCode(503)
		ctx.Response.SetBodyString("not ready\n")
		return nil
	}
	ctx.Response.SetStatusCode(200)
	ctx.Response.SetBodyString("ok\n")
	return nil
}

// readiness remembers the last look at the local agents for a moment, so that
// probes cannot be used to hammer them.
type readiness struct {
	mu   sync.Mutex
	at   time.Time
	good bool
}

const readinessAge = time.Second

func (s *Server) ready() bool {
	if s.draining.Load() {
		return false
	}
	s.readiness.mu.Lock()
	defer s.readiness.mu.Unlock()
	if time.Since(s.readiness.at) < readinessAge {
		return s.readiness.good
	}
	local, good := 0, 0
	for _, a := range s.agents {
		if !a.local() {
			continue
		}
		local++
		ctx, cancel := context.WithTimeout(context.Background(), readinessAge)
		conn, err := a.dial(ctx)
		cancel()
		if err == nil {
			_ = conn.Close()
			good++
			break
		}
	}
	s.readiness.at, s.readiness.good = time.Now(), local == 0 || good > 0
	return s.readiness.good
}
