package proxy

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"

	"github.com/valyala/fasthttp"

	"github.com/dragoman-proxy/dragoman/internal/balance"
	"github.com/dragoman-proxy/dragoman/translate"
)

// health answers the probes with a bare status; the reasons are on the admin
// listener. Alive is who can answer at all; ready is who is not shutting down and,
// where agents live beside the proxy, has one that takes connections. A shared
// backend does not count unless it is asked for: its failure must not take every
// replica out.
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

// look asks every agent that counts: one that lives beside the proxy, or whose
// configuration says so (health.ready). It is ready if one of its backends is.
func (s *Server) look() (good bool, reasons []string) {
	ctx, cancel := context.WithTimeout(context.Background(), s.looks)
	defer cancel()
	snap := s.snapshot()
	type probe struct {
		b      *backend
		member *balance.Member
		counts bool
		err    error
	}
	agents := make([][]*probe, len(snap.conf.Agents))
	var wait sync.WaitGroup
	var unkept error
	if s.state != nil {
		wait.Go(func() {
			// It decides nothing, so no probe fails for it.
			ctx, cancel := context.WithTimeout(ctx, s.looks/4)
			defer cancel()
			unkept = s.state.Ping(ctx)
		})
	}
	for i := range snap.conf.Agents {
		conf := &snap.conf.Agents[i]
		a := snap.agents[conf]
		members := a.set.Members()
		for j, b := range a.backends {
			p := &probe{b: b, member: members[j]}
			agents[i] = append(agents[i], p)
			p.counts = b.target.Scheme != "demo" && (b.local() || conf.Health.Ready)
			switch {
			case !p.counts:
			case !p.member.Healthy():
				p.err = errDown
			case conf.Health.Interval > 0: // the checks know better than a connection
			default:
				wait.Go(func() {
					var conn net.Conn
					if conn, p.err = b.dial(ctx); p.err == nil {
						_ = conn.Close()
					}
				})
			}
		}
	}
	wait.Wait()
	counted := 0
	for i, probes := range agents {
		name := snap.conf.Agents[i].Name
		counts := false
		for _, p := range probes {
			who := "agent " + name
			if len(probes) > 1 {
				who += " at " + p.b.name
			}
			counts = counts || p.counts
			good = good || p.counts && p.err == nil
			switch {
			case p.b.target.Scheme == "demo":
				reasons = append(reasons, who+" is part of this process")
			case !p.counts:
				reasons = append(reasons, who+" does not live here and does not count")
			case p.err == errDown:
				reasons = append(reasons, who+" is down: "+p.err.Error())
			case p.err != nil:
				reasons = append(reasons, fmt.Sprintf("%s takes no connections: %v", who, p.err))
			case snap.conf.Agents[i].Health.Interval > 0:
				reasons = append(reasons, who+" passes its checks")
			default:
				reasons = append(reasons, who+" takes connections")
			}
		}
		if counts {
			counted++
		}
	}
	switch { // told only: agents answer without it, and a shared store must not take every replica out
	case unkept != nil:
		reasons = append(reasons, "conversations cannot be kept now: "+unkept.Error())
	case s.state != nil:
		reasons = append(reasons, "conversations are kept")
	}
	if snap.tokens != nil && snap.tokens.Ready() != nil {
		return false, append(reasons, "no token can be verified: the issuer's keys have never been had")
	}
	return good || counted == 0, reasons
}

// errDown is that of a backend whose active checks fail.
var errDown = errors.New("its checks fail")
