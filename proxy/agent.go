package proxy

import (
	"context"
	"fmt"
	"net"
	"net/url"
	"strconv"
	"strings"
	"sync/atomic"

	"github.com/dragoman-proxy/dragoman/internal/config"
	"github.com/dragoman-proxy/dragoman/ratelimit"
	"github.com/dragoman-proxy/dragoman/translate"
)

// agent is a configured backend, ready to be called.
type agent struct {
	conf     *config.Agent
	protocol *translate.Protocol
	tr       translate.Agent
	origin   *origin
	dial     func(context.Context) (net.Conn, error) // for readiness
	info     translate.AgentInfo
	// head is the part of a request's head that never changes.
	head []byte
	// paths are tried in turn while the backend answers 404 or 405; served is
	// the index of the one that it last served.
	paths  []string
	served atomic.Int32
	// forward says of client headers, by their names in lower case, whether they
	// go on; of those it does not name, the ones with a prefix do.
	forward  map[string]bool
	prefixes []string
	saysHops bool   // the configuration sets X-Forwarded-* for it
	secret   secret // the proxy's credential for it
	strict   bool
	scope    *ratelimit.Scope // nil: no limits
}

// DemoDialer reaches an embedded agent by its protocol.
type DemoDialer func(ctx context.Context, protocol string) (net.Conn, error)

func newAgent(c *config.Agent, strict bool, demo DemoDialer) (*agent, error) {
	p := translate.Lookup(c.Protocol)
	if p == nil {
		return nil, fmt.Errorf("agent %s: unknown protocol %q", c.Name, c.Protocol)
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
	for i, path := range a.paths {
		if i == 0 {
			a.paths = append([]string(nil), a.paths...)
		}
		a.paths[i] = c.URL.BasePath + path
	}
	oc := originConfig{
		Scheme: c.URL.Scheme, Addr: c.URL.Host, Host: c.URL.Host,
		ConnectTimeout: c.Timeouts.Connect, KeepAlive: c.KeepAlive, AllowLinkLocal: c.AllowLinkLocal,
	}
	switch c.URL.Scheme {
	case "unix":
		oc.Addr, oc.Host = c.URL.Path, "localhost"
	case "demo":
		if demo == nil {
			return nil, fmt.Errorf("agent %s: no embedded agents in this process", c.Name)
		}
		name := c.URL.Demo
		oc.Scheme, oc.Host = "http", "demo"
		oc.Dial = func(ctx context.Context) (net.Conn, error) { return demo(ctx, name) }
	case "https":
		host, _, err := net.SplitHostPort(c.URL.Host)
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
	a.origin, a.dial = newOrigin(oc), oc.dialer()
	a.head = a.appendFixedHead(nil, oc.Host)
	a.chooseHeaders()
	return a, nil
}

func (a *agent) appendFixedHead(dst []byte, host string) []byte {
	line := func(name, value string) {
		dst = append(dst, name...)
		dst = append(dst, ": "...)
		dst = append(dst, value...)
		dst = append(dst, "\r\n"...)
	}
	line("Host", host)
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

// path is the request target for the nth of the agent's paths.
func (a *agent) path(n int, r *translate.Request) string {
	p := a.paths[n]
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

// local reports whether the agent lives beside the proxy, so that its state is
// the proxy's own. The embedded ones need no asking.
func (a *agent) local() bool {
	return a.conf.URL.Scheme != "demo" && a.conf.URL.Loopback()
}
