package proxy

import (
	"strings"
	"time"

	"github.com/dragoman-proxy/dragoman/internal/config"
)

// snapshot is a configuration in force, with what was made of it. It does not change: a
// reload puts another in its place, and a call keeps the one that it began with.
type snapshot struct {
	conf    *config.Config
	agents  map[*config.Agent]*agent
	welcome string // to strangers
}

// snapshot is the configuration for calls that begin now.
func (s *Server) snapshot() *snapshot { return s.current.Load() }

// newCall is a request of which nothing is known yet.
func (s *Server) newCall() *call {
	return &call{s: s, snap: s.snapshot(), start: time.Now(), face: defaultFace}
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
