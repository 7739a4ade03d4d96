package proxy

import (
	"strings"
	"time"

	"github.com/dragoman-proxy/dragoman/auth"
	"github.com/dragoman-proxy/dragoman/internal/config"
	"github.com/dragoman-proxy/dragoman/ratelimit"
)

// snapshot is a configuration in force, with what was made of it: agents, callers and
// their limits. It does not change: a reload, and a file of keys that is read again,
// put another in its place, and a call keeps the one that it began with. So no request
// sees half of one and half of another.
//
// Snapshots share what did not change from one to the next: agents, and below them
// the backends with their connections and breakers; the verifier of tokens; and the
// counts of limits, which belong to names.
type snapshot struct {
	conf    *config.Config
	agents  map[*config.Agent]*agent
	welcome string // to strangers

	auth     *auth.Authenticator
	tokens   *auth.Verifier              // nil: no tokens
	keys     []config.Key                // as they were read last
	scopes   map[string]*ratelimit.Scope // by the name of a key
	global   *ratelimit.Scope
	fallback ratelimit.Limits // limits.default
}

// snapshot is the configuration for calls that begin now.
func (s *Server) snapshot() *snapshot { return s.current.Load() }

// newCall is a request of which nothing is known yet.
func (s *Server) newCall() *call {
	return &call{s: s, snap: s.snapshot(), start: time.Now(), face: defaultFace}
}

// agent finds an agent by its name, nil if there is none.
func (s *snapshot) agent(name string) *agent {
	for i := range s.conf.Agents {
		if c := &s.conf.Agents[i]; c.Name == name {
			return s.agents[c]
		}
	}
	return nil
}

// byHost finds an agent by the Host header: its name or an exact alias, alone or
// as the first label. Patterns do not count: a Host is always there.
func (s *snapshot) byHost(host string) *agent {
	if i := strings.LastIndexByte(host, ':'); i > 0 && !strings.HasSuffix(host, "]") {
		host = host[:i]
	}
	label, _, _ := strings.Cut(host, ".")
	for i := range s.conf.Agents {
		c := &s.conf.Agents[i]
		if strings.EqualFold(c.Name, host) || strings.EqualFold(c.Name, label) {
			return s.agents[c]
		}
		for _, alias := range c.Aliases {
			if !strings.Contains(alias, "*") && (strings.EqualFold(alias, host) || strings.EqualFold(alias, label)) {
				return s.agents[c]
			}
		}
	}
	return nil
}

// callerScope is what a caller's requests count against, nil if nothing limits it:
// where nobody has a key there is nobody to tell from others, and only agents and
// the proxy itself have limits.
func (s *snapshot) callerScope(l *ratelimit.Limiter, p *auth.Principal) *ratelimit.Scope {
	if p.Token {
		return l.Subject(p.Name, s.fallback)
	}
	return s.scopes[p.Name]
}
