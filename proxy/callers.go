package proxy

import (
	"fmt"
	"maps"
	"os"
	"reflect"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"github.com/dragoman-proxy/dragoman/auth"
	"github.com/dragoman-proxy/dragoman/internal/config"
	"github.com/dragoman-proxy/dragoman/ratelimit"
)

// callers is who may call, and how often: the configured keys with their limits,
// as they are now. Files of keys are read again while the proxy runs.
type callers struct {
	auth     *auth.Authenticator
	tokens   *auth.Verifier // nil: no tokens
	limiter  *ratelimit.Limiter
	global   *ratelimit.Scope
	scopes   atomic.Pointer[map[string]*ratelimit.Scope] // by the name of a key
	fallback ratelimit.Limits                            // limits.default

	stop   chan struct{}
	closed sync.Once
	done   sync.WaitGroup
}

// keyFileAge is how often files of keys are looked at. A mounted Secret takes up to
// a minute to arrive anyway.
const keyFileAge = 2 * time.Second

func (s *Server) newCallers() (err error) {
	conf := s.snapshot().conf
	s.stop = make(chan struct{})
	defer func() {
		if err != nil {
			s.closeCallers()
		}
	}()
	o := ratelimit.Options{
		OnError: onError(conf.Limits.OnError), Replicas: conf.Limits.Replicas,
		Queue:   ratelimit.Queue{Length: conf.Limits.Queue.Length, Wait: conf.Limits.Queue.Wait},
		Changed: s.limiterChanged,
	}
	if conf.Limits.Store == "redis" {
		store, err := ratelimit.NewRedis(ratelimit.RedisConfig{URL: conf.Redis.URL.Reveal(), Timeout: conf.Redis.Timeout})
		if err != nil {
			return err // it says that it is about Redis
		}
		o.Store = store
		s.meters.share(func() uint64 { return s.limiter.Dropped() })
	}
	s.limiter = ratelimit.New(o)
	s.fallback = limits(conf.Limits.Default)
	s.global = s.limiter.Scope(ratelimit.Global, "", limits(conf.Limits.Global))
	if j := conf.Auth.JWT; j != nil {
		s.tokens, err = auth.NewVerifier(auth.TokenConfig{
			Issuer: j.Issuer, Audience: j.Audience, JWKSURL: j.JWKSURL, JWKSFile: j.JWKSFile, Algorithms: j.Algorithms,
			PrincipalClaim: j.PrincipalClaim, AgentsClaim: j.AgentsClaim, Leeway: j.Leeway,
			Changed: s.keySetTrouble,
		})
		if err != nil {
			return fmt.Errorf("auth.jwt: %w", err)
		}
	}
	s.auth, err = auth.New(auth.Config{
		Open: conf.Auth.Mode == "none", Keys: keys(conf.Auth.Keys), Tokens: s.tokens, Forwards: conf.Forwards(),
	})
	if err != nil {
		return fmt.Errorf("auth: %w", err)
	}
	s.setScopes(conf.Auth.Keys)
	if len(conf.WatchedFiles()) > 0 {
		s.done.Go(func() { s.watchKeys(keyFileAge) })
	}
	return nil
}

// closeCallers may be called again.
func (s *Server) closeCallers() {
	s.closed.Do(func() {
		close(s.stop)
		s.done.Wait()
		if s.tokens != nil {
			s.tokens.Close()
		}
		if s.limiter != nil {
			s.limiter.Close()
		}
	})
}

// waiting is how many requests stand in line for a place.
func (s *Server) waiting() int { return s.limiter.Waiting() }

// setScopes gives every key its limits. What was counted under a name stays, and so
// does the name of a key that has gone: a request that it let in may still be on its
// way, and is limited as before.
func (s *Server) setScopes(list []config.Key) {
	scopes := make(map[string]*ratelimit.Scope, len(list))
	if old := s.scopes.Load(); old != nil {
		maps.Copy(scopes, *old)
	}
	for _, k := range list {
		l := s.fallback
		if k.Limits != nil {
			l = limits(*k.Limits)
		}
		scopes[k.Name] = s.limiter.Scope(ratelimit.Key, k.Name, l)
	}
	s.scopes.Store(&scopes)
}

// callerScope is what a caller's requests count against, nil if nothing limits it:
// where nobody has a key there is nobody to tell from others, and only agents and
// the proxy itself have limits.
func (s *Server) callerScope(p *auth.Principal) *ratelimit.Scope {
	if p.Token {
		return s.limiter.Subject(p.Name, s.fallback)
	}
	return (*s.scopes.Load())[p.Name]
}

// watchKeys reads the files of keys again until the server stops. A list with a
// mistake in it is told of once, and the one before stays in force.
func (s *Server) watchKeys(every time.Duration) {
	tick := time.NewTicker(every)
	defer tick.Stop()
	now, told := s.snapshot().conf.Auth.Keys, ""
	for {
		select {
		case <-s.stop:
			return
		case <-tick.C:
		}
		now, told = s.rereadKeys(now, told)
	}
}

// rereadKeys takes over the keys as they stand in their files, if they are others
// than now and good. It returns the keys in force and the problem that was told.
func (s *Server) rereadKeys(now []config.Key, told string) ([]config.Key, string) {
	for _, path := range s.snapshot().conf.WatchedFiles() {
		// A pipe in the place of a file would be waited for without an end.
		if info, err := os.Stat(path); err == nil && !info.Mode().IsRegular() {
			return s.keepKeys(now, path+" is not a regular file", told)
		}
	}
	list, problems := s.snapshot().conf.ReadKeys()
	text := ""
	if list == nil {
		for _, p := range problems {
			if p.Severity == config.Error {
				text += p.String() + "\n"
			}
		}
	}
	if text == "" {
		if reflect.DeepEqual(list, now) {
			return now, ""
		}
		s.setScopes(list) // first: no key is good before it has its limits
		if err := s.auth.SetKeys(keys(list)); err != nil {
			s.setScopes(now)
			text = err.Error()
		}
	}
	if text != "" {
		return s.keepKeys(now, text, told)
	}
	s.log.Info("keys read again", zap.Int("keys", len(list)))
	return list, ""
}

// keepKeys tells of a problem, once, and leaves the keys as they are.
func (s *Server) keepKeys(now []config.Key, problem, told string) ([]config.Key, string) {
	if problem != told {
		s.log.Error("the keys cannot be read again; the last good ones stay", zap.String("problem", problem))
	}
	return now, problem
}

func keys(list []config.Key) []auth.Key {
	out := make([]auth.Key, len(list))
	for i, k := range list {
		out[i] = auth.Key{Name: k.Name, Hash: k.Hash, Agents: slices.Clone(k.Agents), Expires: k.Expires, Disabled: k.Disabled}
	}
	return out
}

func limits(l config.Limits) ratelimit.Limits {
	return ratelimit.Limits{Requests: ratelimit.Rate(l.Requests), Tokens: ratelimit.Rate(l.Tokens), Concurrent: l.Concurrent}
}

func onError(word string) ratelimit.Mode {
	switch word {
	case "open":
		return ratelimit.Open
	case "closed":
		return ratelimit.Closed
	}
	return ratelimit.Local
}

// keySetTrouble tells of a change in whether the issuer's keys can be had.
func (s *Server) keySetTrouble(err error) {
	if err == nil {
		s.log.Info("the issuer's keys are here")
		return
	}
	s.log.Error("the issuer's keys cannot be had; those that are known stay", zap.Error(err))
}

// limiterChanged tells that the shared limits went, or came back.
func (s *Server) limiterChanged(state ratelimit.State, err error) {
	s.meters.limiter(state == ratelimit.Up)
	if state == ratelimit.Up {
		s.log.Info("redis is back; limits are shared again")
		return
	}
	s.log.Error("redis cannot be had; limits are not shared", zap.String("on_error", s.snapshot().conf.Limits.OnError), zap.Error(err))
}
