package proxy

import (
	"errors"
	"math/rand/v2"
	"net"
	"strconv"
	"strings"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/dragoman-proxy/dragoman/internal/balance"
)

const (
	// probesToTurn is how many results in a row say that a backend which was up is down, or the other way round: one may be a
	// backend that is being restarted, or lost on the way. The first of all counts at once.
	probesToTurn = 2
	// maxProbeBody is how much of the answer to a check is read before its connection is closed.
	maxProbeBody = 64 << 10
)

// prober asks backends now and then whether they work. It has no goroutine of its own: a timer of each backend has one run
// for as long as a check takes.
type prober struct {
	mu      sync.Mutex
	begun   bool
	stopped bool
	of      map[*backend]*backendProbe
	busy    sync.WaitGroup // checks under way; none is added when stopped
}

// backendProbe is the checking of one backend. Its prober's mu guards it.
type backendProbe struct {
	agent *agent
	b     *backend
	m     *balance.Member
	timer *time.Timer
	cn    *cancel // of the check under way
	over  bool

	known, up bool
	row       int // results in a row that say otherwise
}

// startProbes begins to check the backends of the configuration in force.
func (s *Server) startProbes() {
	s.probes.mu.Lock()
	s.probes.begun = true
	s.probes.mu.Unlock()
	s.followProbes()
}

// followProbes has the checks follow the configuration in force, once they have begun. Those of backends that it kept go on as
// they were; those of backends that are gone end.
func (s *Server) followProbes() {
	ps := &s.probes
	ps.mu.Lock()
	defer ps.mu.Unlock()
	if !ps.begun || ps.stopped {
		return
	}
	left := ps.of
	ps.of = map[*backend]*backendProbe{}
	for _, a := range s.snapshot().agents {
		if a.conf.Health.Interval <= 0 {
			continue
		}
		for i, b := range a.backends {
			p := left[b]
			delete(left, b)
			if p == nil {
				p = &backendProbe{b: b}
			}
			p.agent, p.m = a, a.set.Members()[i]
			ps.of[b] = p
			if p.timer == nil {
				p.timer = time.AfterFunc(0, func() { s.probe(p) })
			}
		}
	}
	for _, p := range left {
		p.end()
	}
}

// stopProbes ends all checks, also those under way, and waits for them.
func (s *Server) stopProbes() {
	ps := &s.probes
	ps.mu.Lock()
	ps.stopped = true
	for _, p := range ps.of {
		p.end()
	}
	ps.of = nil
	ps.mu.Unlock()
	ps.busy.Wait()
}

// end is called with the prober's mu held.
func (p *backendProbe) end() {
	p.over = true
	p.timer.Stop()
	if p.cn != nil {
		p.cn.Cancel(errShutdown)
	}
}

// probe makes one check, and has the next one follow.
func (s *Server) probe(p *backendProbe) {
	ps := &s.probes
	ps.mu.Lock()
	if p.over {
		ps.mu.Unlock()
		return
	}
	ps.busy.Add(1)
	defer ps.busy.Done()
	cn := &cancel{}
	p.cn = cn
	a := p.agent
	ps.mu.Unlock()

	reason, asked := a.check(p.b, cn)

	ps.mu.Lock()
	if p.over {
		ps.mu.Unlock()
		return
	}
	p.cn = nil
	m, tell := p.m, asked && p.take(reason == "")
	ps.mu.Unlock()
	if asked {
		m.SetHealth(p.up) // only this changes it, and it is not under way twice
	}
	if tell {
		name := zap.String("agent", a.conf.Name)
		if p.up {
			s.log.Info("backend is up", name, zap.String("backend", p.b.name))
		} else {
			s.log.Warn("backend is down", name, zap.String("backend", p.b.name), zap.String("reason", reason))
		}
	}
	ps.mu.Lock()
	if !p.over {
		every := p.agent.conf.Health.Interval
		// A tenth more or less, so that many proxies do not ask at the same time.
		p.timer.Reset(every - every/10 + rand.N(every/5+1)) // #nosec G404 -- no secret
	}
	ps.mu.Unlock()
}

// take notes a result, and reports whether the backend changed by it in a way to tell of.
func (p *backendProbe) take(ok bool) (tell bool) {
	switch {
	case !p.known:
		p.known, p.up = true, ok
		return !ok
	case ok == p.up:
		p.row = 0
		return false
	}
	if p.row++; p.row < probesToTurn {
		return false
	}
	p.up, p.row = ok, 0
	return true
}

// check asks a backend whether it works, on a connection of its own, since taking new ones is part of working. It returns what is
// wrong, in words of ours, or nothing. asked is false if this machine could not ask, which says nothing of the backend.
func (a *agent) check(b *backend, cn *cancel) (reason string, asked bool) {
	timeout := a.conf.Health.Timeout
	if timeout <= 0 {
		timeout = 2 * time.Second
	}
	d := deadlines{FirstByte: timeout, Idle: timeout, Total: time.Now().Add(timeout)}
	u, err := b.origin.connect(cn, d.Total)
	if err != nil {
		return connectReason(newUpstreamError(cn, "dial", false, err)), !exhausted(err)
	}
	path, own := a.conf.Health.Path, false
	if path == "" && a.protocol.Probe != nil {
		path, own = a.protocol.Probe(a.paths[0]), true
	}
	if path == "" { // that it takes a connection must do
		_ = cn.detach()
		u.closeIdle()
		return "", true
	}
	x, uerr := b.origin.try(u, cn, a.appendProbe(nil, b, path, own), nil, &d)
	if uerr != nil {
		if uerr.Timeout {
			return "no answer in time", true
		}
		return "no answer", true
	}
	status := x.Status()
	_, _ = x.readAll(nil, maxProbeBody)
	x.close()
	// The protocol's own routes are asked only whether there is a server: not all have them, and a credential that is wrong is
	// for the requests to tell of.
	if own && status < 500 || !own && status >= 200 && status < 400 {
		return "", true
	}
	return "status " + strconv.Itoa(status), true
}

func connectReason(err *upstreamError) string {
	_, dns := errors.AsType[*net.DNSError](err.Err)
	switch {
	case dns:
		return "its name has no address"
	case err.Timeout:
		return "no connection in time"
	}
	return "no connection"
}

// appendProbe writes the head of a check. What an operator wrote as a path may be served by somebody else, who is not to have the
// credential.
func (a *agent) appendProbe(dst []byte, b *backend, path string, own bool) []byte {
	line := func(words ...string) {
		for _, w := range words {
			dst = append(dst, w...)
		}
		dst = append(dst, "\r\n"...)
	}
	line("GET ", b.target.BasePath, path, " HTTP/1.1")
	line("Host: ", b.host)
	line("Accept: */*")
	line("Accept-Encoding: identity")
	line("Connection: close")
	named := false
	if own {
		if cred := a.conf.Credential; !cred.IsZero() {
			line(cred.Header, ": ", cred.Value.Reveal())
		}
		for _, h := range a.conf.Headers {
			line(h.Name, ": ", h.Value)
			named = named || strings.EqualFold(h.Name, "User-Agent")
		}
	}
	if !named {
		line("User-Agent: dragoman")
	}
	return append(dst, "\r\n"...)
}
