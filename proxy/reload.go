package proxy

import (
	"bytes"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"sync/atomic"

	"go.uber.org/zap"

	"github.com/dragoman-proxy/dragoman/auth"
	"github.com/dragoman-proxy/dragoman/internal/balance"
	"github.com/dragoman-proxy/dragoman/internal/config"
	"github.com/dragoman-proxy/dragoman/ratelimit"
)

// newSnapshot makes a configuration ready to be put in force, and closes what it made
// if it cannot. What old has of the same is used on; old may be nil.
func (s *Server) newSnapshot(c *config.Config, old *snapshot) (_ *snapshot, err error) {
	snap := &snapshot{conf: c, agents: map[*config.Agent]*agent{}, welcome: welcome(c)}
	defer func() {
		if err != nil {
			snap.retire(old)
		}
	}()
	members := map[*agent][]*balance.Member{}
	for i := range c.Agents {
		conf := &c.Agents[i]
		var before *agent
		if old != nil {
			before = old.agent(conf.Name)
		}
		if before != nil && old.conf.Translate.Strict == c.Translate.Strict && sameAgent(before.conf, conf) {
			snap.agents[conf] = before
			continue
		}
		a, replicas, err := newAgent(conf, c.Translate.Strict, s, before)
		if err != nil {
			return nil, err
		}
		a.info.Created = s.started
		snap.agents[conf], members[a] = a, replicas
	}
	if err := snap.admit(s, old); err != nil {
		return nil, err
	}
	// Last, when nothing can go wrong any more: replicas are used on, and obey their new set
	// from the moment on in which it is made.
	for a, replicas := range members {
		a.set = balance.New(s.balancing(c, a.conf), replicas...)
		a.scope = s.limiter.Scope(ratelimit.Agent, a.conf.Name, limits(a.conf.Limits))
	}
	return snap, nil
}

// put puts a snapshot in force.
func (s *Server) put(next *snapshot) {
	s.current.Store(next)
	s.followProbes()
	if len(next.conf.WatchedFiles()) > 0 {
		s.watching.Do(func() { s.done.Go(func() { s.watchKeys(keyFileAge) }) })
	}
}

// retire closes what a snapshot does not share with another one, which may be nil.
// Calls that still use it go on: their connections are closed when they end, and
// tokens are judged by the keys that are known.
func (s *snapshot) retire(other *snapshot) {
	kept := map[*backend]bool{}
	if other != nil {
		for _, a := range other.agents {
			for _, b := range a.backends {
				kept[b] = true
			}
		}
	}
	for _, a := range s.agents {
		for _, b := range a.backends {
			if !kept[b] {
				b.close()
			}
		}
	}
	if s.tokens != nil && (other == nil || other.tokens != s.tokens) {
		s.tokens.Close()
	}
}

// closeAgents ends what is kept for agents, once nothing runs.
func (s *Server) closeAgents() {
	s.stopProbes()
	for _, a := range s.snapshot().agents {
		for _, b := range a.backends {
			b.close()
		}
	}
}

// close ends what is kept for a backend. Requests under way go on.
func (b *backend) close() { b.origin.close() }

// replica is the agent's backend at target with its state, if it would be made just the
// same for c; else nil.
func (a *agent) replica(c *config.Agent, target config.Target) (*backend, *balance.Member) {
	if a == nil {
		return nil, nil
	}
	o := a.conf
	if o.Protocol != c.Protocol || !slices.Equal(o.Path, c.Path) || o.Timeouts.Connect != c.Timeouts.Connect ||
		o.KeepAlive != c.KeepAlive || o.AllowLinkLocal != c.AllowLinkLocal || !sameTLS(o.TLS, c.TLS) ||
		!reflect.DeepEqual(o.Health, c.Health) {
		return nil, nil
	}
	for i, b := range a.backends {
		if reflect.DeepEqual(b.target, target) {
			return b, a.set.Members()[i]
		}
	}
	return nil, nil
}

// sameAgent reports whether two configurations of an agent mean the same.
func sameAgent(a, b *config.Agent) bool {
	if !sameTLS(a.TLS, b.TLS) {
		return false
	}
	x, y := *a, *b
	x.TLS, y.TLS = config.TLS{}, config.TLS{}
	return reflect.DeepEqual(x, y)
}

// sameTLS compares what is in the files too, which may have changed.
func sameTLS(a, b config.TLS) bool {
	if a.CAFile != b.CAFile || a.CertFile != b.CertFile || a.KeyFile != b.KeyFile || a.ServerName != b.ServerName || a.InsecureSkipVerify != b.InsecureSkipVerify {
		return false
	}
	x, y := a.Client(""), b.Client("")
	if (x.RootCAs == nil) != (y.RootCAs == nil) || x.RootCAs != nil && !x.RootCAs.Equal(y.RootCAs) || len(x.Certificates) != len(y.Certificates) {
		return false
	}
	for i := range x.Certificates {
		if !slices.EqualFunc(x.Certificates[i].Certificate, y.Certificates[i].Certificate, bytes.Equal) {
			return false
		}
	}
	return true
}

// Reload puts a valid configuration in force for the requests that come from now on.
// Requests and streams that run keep the one that they began with. Listeners stay, and
// so do the counts of limits; agents that did not change keep all that they have, and
// backends that did not change their connections, their health and their breakers.
//
// Some settings are those of the process until it is started again; what differs in
// them is named in the log, and the rest is put in force. With an error everything
// stays as it is: the configuration cannot be used, or the server is shutting down.
// Either way it is logged and counted.
func (s *Server) Reload(c *config.Config) error {
	s.changing.Lock()
	defer s.changing.Unlock()
	old := s.snapshot()
	if s.draining.Load() {
		err := errors.New("the proxy is shutting down")
		s.log.Warn("the configuration is not reloaded", zap.Error(err))
		return err
	}
	inForce, restart := pin(old.conf, c)
	var next *snapshot
	err := exposes(old.conf, c)
	if err == nil {
		next, err = s.newSnapshot(inForce, old)
	}
	if err != nil {
		s.ReloadFailed(err.Error())
		return err
	}
	s.put(next)
	old.retire(next)
	s.mu.Lock()
	if s.ln != nil {
		s.ln.write.Store(int64(inForce.Server.Timeouts.Write))
	}
	s.mu.Unlock()
	s.reloads.good.Inc()
	s.reloads.failing.Store(false)
	fields := []zap.Field{zap.Strings("changed", changes(old, next))}
	if len(restart) > 0 {
		fields = append(fields, zap.Strings("needs_restart", restart))
	}
	s.log.Info("configuration reloaded", fields...)
	return nil
}

// ReloadFailed tells, in one line, of a configuration that cannot be used, and counts
// it. The last good one stays.
func (s *Server) ReloadFailed(problems ...string) {
	s.reloads.bad.Inc()
	s.reloads.failing.Store(true)
	s.log.Error("the configuration cannot be reloaded; the last good one stays", zap.Strings("problems", problems))
}

// reloads counts what became of configurations.
type reloads struct {
	good, bad counter
	failing   atomic.Bool // the last one could not be used
}

type counter interface{ Inc() }

func (s *Server) countReloads() {
	s.reloads.good = s.meters.set.NewCounter("dragoman_config_reloads_total" + labels("result", "success"))
	s.reloads.bad = s.meters.set.NewCounter("dragoman_config_reloads_total" + labels("result", "failure"))
	s.meters.set.NewGauge("dragoman_config_last_reload_successful", func() float64 {
		if s.reloads.failing.Load() {
			return 0
		}
		return 1
	})
}

// fixed are the settings that a process keeps until it is started again: listeners, what
// they were opened with, and the store of the limits.
var fixed = []struct {
	name string
	at   func(*config.Config) any // a pointer
}{
	{"server.listen", func(c *config.Config) any { return &c.Server.Listen }},
	{"server.socket_mode", func(c *config.Config) any { return &c.Server.SocketMode }},
	{"server.tls", func(c *config.Config) any { return &c.Server.TLS }},
	{"server.max_header", func(c *config.Config) any { return &c.Server.MaxHeader }},
	{"server.max_connections", func(c *config.Config) any { return &c.Server.MaxConnections }},
	{"server.timeouts.header", func(c *config.Config) any { return &c.Server.Timeouts.Header }},
	{"server.timeouts.idle", func(c *config.Config) any { return &c.Server.Timeouts.Idle }},
	{"admin.listen", func(c *config.Config) any { return &c.Admin.Listen }},
	{"log.format", func(c *config.Config) any { return &c.Log.Format }},
	{"limits.store", func(c *config.Config) any { return &c.Limits.Store }},
	{"limits.on_error", func(c *config.Config) any { return &c.Limits.OnError }},
	{"limits.replicas", func(c *config.Config) any { return &c.Limits.Replicas }},
	{"limits.queue", func(c *config.Config) any { return &c.Limits.Queue }},
	{"state", func(c *config.Config) any { return &c.State }},
	{"redis", func(c *config.Config) any { return &c.Redis }},
}

// pin is c with the fixed settings of the configuration in force, and the names of those
// that differ.
func pin(inForce, c *config.Config) (*config.Config, []string) {
	pinned := *c
	var restart []string
	for _, f := range fixed {
		is, wants := reflect.ValueOf(f.at(inForce)).Elem(), reflect.ValueOf(f.at(&pinned)).Elem()
		if !reflect.DeepEqual(is.Interface(), wants.Interface()) {
			restart = append(restart, f.name)
			wants.Set(is)
		}
	}
	return &pinned, restart
}

// exposes refuses a configuration that is safe on the listener that it names, and not on
// the one that stays open until a restart.
func exposes(inForce, c *config.Config) error {
	if inForce.Server.Local() || !c.Server.Local() {
		return nil
	}
	const stays = "and others reach the listener, which stays %s until a restart"
	if c.Open() && !c.Auth.AllowUnauthenticated {
		return fmt.Errorf("auth.mode: none lets everybody in, "+stays, inForce.Server.Listen)
	}
	if slices.ContainsFunc(c.Auth.Keys, func(k config.Key) bool { return auth.IsDemo(k.Hash) }) {
		return fmt.Errorf("auth.keys: one of them is the published demo key, "+stays, inForce.Server.Listen)
	}
	return nil
}

// changes says in short how two snapshots differ.
func changes(old, next *snapshot) []string {
	list := []string{}
	before, now := old.conf, next.conf
	for i := range now.Agents {
		name := now.Agents[i].Name
		switch a := old.agent(name); {
		case a == nil:
			list = append(list, "agent "+name+" added")
		case a != next.agent(name):
			list = append(list, "agent "+name+" changed")
		}
	}
	for i := range before.Agents {
		if name := before.Agents[i].Name; next.agent(name) == nil {
			list = append(list, "agent "+name+" removed")
		}
	}
	for _, section := range []struct {
		name string
		same bool
	}{
		{"server", reflect.DeepEqual(before.Server, now.Server)},
		{"admin", before.Admin == now.Admin},
		{"log", before.Log == now.Log},
		{"default_agent", before.DefaultAgent == now.DefaultAgent},
		{"translate", reflect.DeepEqual(before.Translate, now.Translate)},
		{"auth.mode", before.Auth.Mode == now.Auth.Mode},
		{"auth.keys", reflect.DeepEqual(old.keys, next.keys)},
		{"auth.jwt", old.tokens == next.tokens},
		{"limits", reflect.DeepEqual(before.Limits, now.Limits)},
	} {
		if !section.same {
			list = append(list, section.name)
		}
	}
	if !slices.EqualFunc(before.Agents, now.Agents, func(a, b config.Agent) bool { return a.Name == b.Name }) && !strings.Contains(strings.Join(list, " "), "agent ") {
		list = append(list, "the order of agents")
	}
	return list
}
