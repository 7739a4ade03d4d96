package proxy

import (
	"context"
	"fmt"
	"net"
	"net/url"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"github.com/dragoman-proxy/dragoman/internal/balance"
	"github.com/dragoman-proxy/dragoman/internal/config"
	"github.com/dragoman-proxy/dragoman/ratelimit"
	"github.com/dragoman-proxy/dragoman/translate"
)

// agent is a configured backend, ready to be called.
type agent struct {
	conf     *config.Agent
	protocol *translate.Protocol
	tr       translate.Agent
	backends []*backend // at least one, in the order of the configuration
	set      *balance.Set
	budget   *balance.Budget // of its retries
	info     translate.AgentInfo
	// head is the part of a request's head that never changes, but for the Host.
	head []byte
	// paths are tried in turn while a backend answers 404 or 405.
	paths []string
	// forward says of client headers, by their names in lower case, whether they
	// go on; of those it does not name, the ones with a prefix do.
	forward  map[string]bool
	prefixes []string
	saysHops bool   // the configuration sets X-Forwarded-* for it
	secret   secret // the proxy's credential for it
	strict   bool
	scope    *ratelimit.Scope // nil: no limits
}

// backend is one of an agent's urls.
type backend struct {
	target config.Target
	name   string // as metrics and the log call it: the configured host, or unix:/path, or demo:protocol
	origin *origin
	dial   func(context.Context) (net.Conn, error) // for probes
	host   string                                  // of the Host header
	served atomic.Int32                            // the index of the path that it last served
}

// DemoDialer reaches an embedded agent by its protocol.
type DemoDialer func(ctx context.Context, protocol string) (net.Conn, error)

// newAgent makes an agent. What before, which may be nil, has of the same backends is
// used on. An agent refers to no other one: it may outlive the configuration that
// it was made for. It has no set yet: the members, of which some may be in use, are left
// as they are.
func newAgent(c *config.Agent, strict bool, s *Server, before *agent) (*agent, []*balance.Member, error) {
	p := translate.Lookup(c.Protocol)
	if p == nil {
		return nil, nil, fmt.Errorf("agent %s: unknown protocol %q", c.Name, c.Protocol)
	}
	if len(c.URLs) > balance.MaxMembers {
		return nil, nil, fmt.Errorf("agent %s: more than %d urls", c.Name, balance.MaxMembers)
	}
	a := &agent{
		conf: c, protocol: p, strict: strict || c.Strict,
		tr: translate.Agent{
			Name: c.Name, Model: c.Model, Options: c.Options,
			SystemPrompt: c.Defaults.SystemPrompt, MaxTokens: int64(c.Defaults.MaxTokens),
		},
		info: translate.AgentInfo{Name: c.Name, Description: c.Description, Protocol: c.Protocol, Model: c.Model},
	}
	if t := c.Defaults.Temperature; t != nil {
		a.tr.Temperature = strconv.FormatFloat(*t, 'g', -1, 64)
	}
	a.info.MaxTokens, a.info.Temperature = a.tr.MaxTokens, a.tr.Temperature
	switch {
	case len(c.Path) > 0:
		a.paths = c.Path
	case len(p.BackendPaths) > 0:
		a.paths = p.BackendPaths
	default:
		a.paths = []string{p.BackendPath}
	}
	members := make([]*balance.Member, len(c.URLs))
	for i, target := range c.URLs {
		b, m := before.replica(c, target)
		if b == nil {
			var err error
			if b, err = newReplica(c, target, s.demo, s.stale(c.Name, target.Host)); err != nil {
				return nil, nil, err
			}
			m = balance.NewMember(b.name)
		}
		a.backends, members[i] = append(a.backends, b), m
	}
	if before != nil && before.conf.Retry.Budget == c.Retry.Budget {
		a.budget = before.budget
	} else {
		a.budget = balance.NewBudget(c.Retry.Budget, s.now)
	}
	a.head = a.appendFixedHead(nil)
	a.chooseHeaders()
	return a, members, nil
}

// now is the clock of balancing.
func (s *Server) now() time.Time { return s.clock() }

// balancing is how an agent's replicas are chosen: what changes in their state is a line
// in the log.
func (s *Server) balancing(all *config.Config, c *config.Agent) balance.Options {
	b := &c.Balance
	log, name := s.log, c.Name
	return balance.Options{
		Failures: b.Failures, ErrorRate: b.ErrorRate, OpenFor: b.Pause, SlowStart: b.SlowStart,
		Max: b.MaxConcurrent, Queue: all.Limits.Queue.Length, Wait: all.Limits.Queue.Wait,
		Optional: len(c.Fallback) > 0,
		Now:      s.now,
		Changed: func(m *balance.Member, before, now balance.State) {
			if before == balance.Down || now == balance.Down {
				return // the check tells of it, and why
			}
			say := log.Warn
			if now == balance.Closed {
				say = log.Info
			}
			say("a backend's state changed", zap.String("agent", name), zap.String("backend", m.Name()), zap.Stringer("state", now))
		},
	}
}

// newReplica prepares one url of an agent; nothing is dialled yet. stale, which may be
// nil, hears of lookups of its name that fail and come back.
func newReplica(c *config.Agent, target config.Target, demo DemoDialer, stale func(error)) (*backend, error) {
	b := &backend{target: target, name: target.Host}
	oc := originConfig{
		Scheme: target.Scheme, Addr: target.Host, Host: target.Host,
		ConnectTimeout: c.Timeouts.Connect, KeepAlive: c.KeepAlive, AllowLinkLocal: c.AllowLinkLocal,
		Stale: stale,
	}
	switch target.Scheme {
	case "unix":
		b.name = target.String()
		oc.Addr, oc.Host = target.Path, "localhost"
	case "demo":
		if demo == nil {
			return nil, fmt.Errorf("agent %s: no embedded agents in this process", c.Name)
		}
		b.name = target.String()
		name := target.Demo
		oc.Scheme, oc.Host = "http", "demo"
		oc.Dial = func(ctx context.Context) (net.Conn, error) { return demo(ctx, name) }
	case "https":
		host, _, err := net.SplitHostPort(target.Host)
		if err != nil {
			return nil, fmt.Errorf("agent %s: %w", c.Name, err)
		}
		oc.TLS = c.TLS.Client(host)
		oc.TLS.NextProtos = []string{"http/1.1"}
		oc.Host = strings.TrimSuffix(oc.Host, ":443")
	case "http":
		oc.Host = strings.TrimSuffix(oc.Host, ":80")
	}
	if oc.KeepAlive == 0 {
		oc.KeepAlive = -1 // 0s keeps none
	}
	b.origin, b.dial, b.host = newOrigin(oc), oc.dialer(), oc.Host
	return b, nil
}

func (a *agent) appendFixedHead(dst []byte) []byte {
	line := func(name, value string) {
		dst = append(dst, name...)
		dst = append(dst, ": "...)
		dst = append(dst, value...)
		dst = append(dst, "\r\n"...)
	}
	line("Content-Type", "application/json")
	// A compressed stream cannot be passed on event by event.
	line("Accept-Encoding", "identity")
	if cred := a.conf.Credential; !cred.IsZero() {
		line(cred.Header, cred.Value.Reveal())
	}
	for _, h := range a.conf.Headers {
		line(h.Name, h.Value)
	}
	return dst
}

// addressable reports whether the client's word can stand in the agent's path.
// Some servers decode before they route, so that an encoded slash or a segment
// of dots would lead elsewhere.
func (a *agent) addressable(r *translate.Request) bool {
	if a.tr.Model != "" {
		return true
	}
	for _, p := range a.paths {
		if strings.Contains(p, "{id}") && !cleanSegment(a.tr.BackendModel(r)) {
			return false
		}
	}
	return true
}

// path is the request target for the nth of the agent's paths at one of its backends.
func (a *agent) path(b *backend, n int, r *translate.Request) string {
	p := b.target.BasePath + a.paths[n]
	if strings.Contains(p, "{id}") {
		p = strings.ReplaceAll(p, "{id}", url.PathEscape(a.tr.BackendModel(r)))
	}
	if a.protocol.Query != nil {
		if q := a.protocol.Query(r, &a.tr); q != "" {
			p += "?" + q
		}
	}
	return p
}

// forwardedHeaders are the client's headers that go on to every backend:
// tracing, and what the dialects themselves define. A name that ends in a hyphen
// stands for all that begin with it.
var forwardedHeaders = []string{
	"traceparent", "tracestate", "baggage", "b3", "x-b3-", "x-ot-span-context", "x-datadog-", "x-cloud-trace-context",
	"x-amzn-trace-id", "accept-language", "user-agent", "idempotency-key", "openai-", "x-stainless-", "x-cpr-hdr-",
	"x-model-id", "x-client-identifier",
}

// chooseHeaders sets which of the client's headers go on: the built-in list and
// the agent's own, but none that the configuration sets, which a client must not
// be able to say a second time, and no credential, save for an agent that checks
// the clients itself.
func (a *agent) chooseHeaders() {
	a.forward = map[string]bool{}
	for _, h := range forwardedHeaders {
		if strings.HasSuffix(h, "-") {
			a.prefixes = append(a.prefixes, h)
		} else {
			a.forward[h] = true
		}
	}
	for _, h := range a.conf.ForwardHeaders { // names, never prefixes
		a.forward[strings.ToLower(h)] = true
	}
	for _, h := range a.conf.Headers {
		name := strings.ToLower(h.Name)
		a.forward[name] = false
		a.saysHops = a.saysHops || strings.HasPrefix(name, "x-forwarded-")
	}
	for _, h := range neverForwarded {
		a.forward[h] = false
	}
	if c := a.conf.Credential; !c.IsZero() {
		a.forward[strings.ToLower(c.Header)] = false
		a.secret = newSecret(c.Value.Reveal())
	} else if c.Forward {
		a.forward["authorization"] = true
	}
}

// forwards reports whether a client's header goes on; name is in lower case.
func (a *agent) forwards(name string) bool {
	if goes, said := a.forward[name]; said {
		return goes
	}
	for _, p := range a.prefixes {
		if len(name) > len(p) && strings.HasPrefix(name, p) {
			return true
		}
	}
	return false
}

// local reports whether a backend lives beside the proxy, so that its state is
// the proxy's own. The embedded ones need no asking.
func (b *backend) local() bool {
	return b.target.Scheme != "demo" && b.target.Loopback()
}
