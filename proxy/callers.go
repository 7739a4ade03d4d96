package proxy

import (
	"fmt"
	"os"
	"reflect"
	"slices"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/dragoman-proxy/dragoman/auth"
	"github.com/dragoman-proxy/dragoman/internal/config"
	"github.com/dragoman-proxy/dragoman/ratelimit"
)

// callers is what outlives a configuration of who may call and how often: the
// counts, and whoever reads the files of keys again.
type callers struct {
	limiter *ratelimit.Limiter

	watching sync.Once // files of keys, from the first one on
	stop     chan struct{}
	closed   sync.Once
	done     sync.WaitGroup
}

// keyFileAge is how often files of keys are looked at. A mounted Secret takes up to
// a minute to arrive anyway.
const keyFileAge = 2 * time.Second

// newLimiter makes the counts that every configuration of this process shares.
func (s *Server) newLimiter(conf *config.Config, now func() time.Time) error {
	o := ratelimit.Options{
		OnError: onError(conf.Limits.OnError), Replicas: conf.Limits.Replicas, Now: now,
		Queue:   ratelimit.Queue{Length: conf.Limits.Queue.Length, Wait: conf.Limits.Queue.Wait},
		Changed: func(state ratelimit.State, err error) { s.limiterChanged(conf.Limits.OnError, state, err) },
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
	return nil
}

// admit fills in who may call, and how often. What verifies tokens is old's, if that
// is made of the same; old may be nil.
func (snap *snapshot) admit(s *Server, old *snapshot) (err error) {
	conf := snap.conf
	snap.fallback = limits(conf.Limits.Default)
	if j := conf.Auth.JWT; old != nil && reflect.DeepEqual(j, old.conf.Auth.JWT) {
		snap.tokens = old.tokens
	} else if j != nil {
		snap.tokens, err = auth.NewVerifier(auth.TokenConfig{
			Issuer: j.Issuer, Audience: j.Audience, JWKSURL: j.JWKSURL, JWKSFile: j.JWKSFile, Algorithms: j.Algorithms,
			PrincipalClaim: j.PrincipalClaim, AgentsClaim: j.AgentsClaim, Leeway: j.Leeway,
			Changed: s.keySetTrouble,
		})
		if err != nil {
			return fmt.Errorf("auth.jwt: %w", err)
		}
	}
	if err := snap.setKeys(s, conf.Auth.Keys); err != nil {
		return err
	}
	snap.global = s.limiter.Scope(ratelimit.Global, "", limits(conf.Limits.Global))
	return nil
}

// setKeys lets the holders of keys in, each with its limits, on a snapshot that is not
// in force yet. What was counted under a name stays.
func (snap *snapshot) setKeys(s *Server, list []config.Key) (err error) {
	conf := snap.conf
	snap.auth, err = auth.New(auth.Config{
		Open: conf.Open(), Keys: keys(list), Tokens: snap.tokens, Forwards: conf.Forwards(),
	})
	if err != nil {
		return fmt.Errorf("auth: %w", err)
	}
	snap.keys, snap.scopes = list, make(map[string]*ratelimit.Scope, len(list))
	for _, k := range list {
		l := snap.fallback
		if k.Limits != nil {
			l = limits(*k.Limits)
		}
		snap.scopes[k.Name] = s.limiter.Scope(ratelimit.Key, k.Name, l)
	}
	return nil
}

// closeCallers may be called again.
func (s *Server) closeCallers() {
	s.closed.Do(func() {
		close(s.stop)
		s.done.Wait()
		if snap := s.snapshot(); snap != nil && snap.tokens != nil {
			snap.tokens.Close()
		}
		if s.limiter != nil {
			s.limiter.Close()
		}
	})
}

// waiting is how many requests stand in line for a place.
func (s *Server) waiting() int { return s.limiter.Waiting() }

// watchKeys reads the files of keys again until the server stops. A list with a
// mistake in it is told of once, and the one before stays in force.
func (s *Server) watchKeys(every time.Duration) {
	tick := time.NewTicker(every)
	defer tick.Stop()
	told := ""
	for {
		select {
		case <-s.stop:
			return
		case <-tick.C:
		}
		told = s.rereadKeys(told)
	}
}

// rereadKeys takes over the keys as they stand in their files, if they are others
// than now and good. It returns the problem that was told.
func (s *Server) rereadKeys(told string) string {
	s.changing.Lock()
	defer s.changing.Unlock()
	now := s.snapshot()
	files := now.conf.WatchedFiles()
	if len(files) == 0 {
		return ""
	}
	for _, path := range files {
		// A pipe in the place of a file would be waited for without an end.
		if info, err := os.Stat(path); err == nil && !info.Mode().IsRegular() {
			return s.keepKeys(path+" is not a regular file", told)
		}
	}
	list, problems := now.conf.ReadKeys()
	text := ""
	if list == nil {
		for _, p := range problems {
			if p.Severity == config.Error {
				text += p.String() + "\n"
			}
		}
	}
	if text == "" {
		if reflect.DeepEqual(list, now.keys) || len(list) == 0 && len(now.keys) == 0 {
			return ""
		}
		next := *now
		if err := next.setKeys(s, list); err != nil {
			text = err.Error()
		} else {
			s.current.Store(&next)
		}
	}
	if text != "" {
		return s.keepKeys(text, told)
	}
	s.log.Info("keys read again", zap.Int("keys", len(list)))
	return ""
}

// keepKeys tells of a problem, once, and leaves the keys as they are.
func (s *Server) keepKeys(problem, told string) string {
	if problem != told {
		s.log.Error("the keys cannot be read again; the last good ones stay", zap.String("problem", problem))
	}
	return problem
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
func (s *Server) limiterChanged(onError string, state ratelimit.State, err error) {
	s.meters.limiter(state == ratelimit.Up)
	if state == ratelimit.Up {
		s.log.Info("redis is back; limits are shared again")
		return
	}
	s.log.Error("redis cannot be had; limits are not shared", zap.String("on_error", onError), zap.Error(err))
}
