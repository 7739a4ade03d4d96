package proxy

import (
	"context"
	"fmt"
	"net"
	"sync"
	"time"

	"github.com/valyala/fasthttp"

	"github.com/dragoman-proxy/dragoman/translate"
)

// health answers the probes with a bare status; the reasons are on the admin
// listener. Alive is who can answer at all; ready is who is not shutting down and,
// where agents live beside the proxy, has one that takes connections. A shared
// backend does not count: its failure must not take every replica out.
func (c *call) health(ctx *fasthttp.RequestCtx, path string) *translate.Error {
	ctx.Response.Header.SetContentType("text/plain; charset=utf-8")
	ctx.Response.Header.Set("Cache-Control", "no-store")
	if path == "/readyz" {
		if ready, _ := c.s.ready(); !ready {
			ctx.Response.SetStatusCode(503)
			ctx.Response.SetBodyString("not ready\n")
			return nil
		}
	}
	ctx.Response.SetStatusCode(200)
	ctx.Response.SetBodyString("ok\n")
	return nil
}

// readiness remembers the last look at the local agents for a moment, so that
// probes cannot be used to hammer them.
type readiness struct {
	mu      sync.Mutex
	at      time.Time
	good    bool
	reasons []string
}

const readinessAge = time.Second

// ready reports whether requests should come here, and why.
func (s *Server) ready() (bool, []string) {
	if s.draining.Load() {
		s.mu.Lock()
		n := len(s.running)
		s.mu.Unlock()
		return false, []string{fmt.Sprintf("shutting down, running requests: %d", n)}
	}
	r := &s.readiness
	r.mu.Lock()
	defer r.mu.Unlock()
	if time.Since(r.at) >= readinessAge {
		r.good, r.reasons = s.look()
		r.at = time.Now()
	}
	return r.good, r.reasons
}

// look tries every backend that lives beside the proxy.
func (s *Server) look() (good bool, reasons []string) {
	ctx, cancel := context.WithTimeout(context.Background(), readinessAge)
	defer cancel()
	snap := s.snapshot()
	type probe struct {
		agent string
		b     *backend
		err   error
	}
	var probes []*probe
	var wait sync.WaitGroup
	for i := range snap.conf.Agents {
		for _, b := range snap.agents[&snap.conf.Agents[i]].backends {
			p := &probe{agent: snap.conf.Agents[i].Name, b: b}
			probes = append(probes, p)
			if !b.local() {
				continue
			}
			wait.Go(func() {
				var conn net.Conn
				if conn, p.err = b.dial(ctx); p.err == nil {
					_ = conn.Close()
				}
			})
		}
	}
	wait.Wait()
	local := 0
	for _, p := range probes {
		switch {
		case p.b.target.Scheme == "demo":
			reasons = append(reasons, fmt.Sprintf("agent %s is part of this process", p.agent))
		case !p.b.local():
			reasons = append(reasons, fmt.Sprintf("agent %s does not live here and does not count", p.agent))
		case p.err != nil:
			local++
			reasons = append(reasons, fmt.Sprintf("agent %s takes no connections: %v", p.agent, p.err))
		default:
			local++
			good = true
			reasons = append(reasons, fmt.Sprintf("agent %s takes connections", p.agent))
		}
	}
	if snap.tokens != nil && snap.tokens.Ready() != nil {
		return false, append(reasons, "no token can be verified: the issuer's keys have never been had")
	}
	return good || local == 0, reasons
}
