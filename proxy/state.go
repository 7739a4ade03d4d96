package proxy

import (
	"errors"
	"fmt"
	"strconv"

	"go.uber.org/zap"

	"github.com/dragoman-proxy/dragoman/internal/config"
	"github.com/dragoman-proxy/dragoman/internal/state"
)

// openState opens what keeps conversations; nil: nothing does.
func (s *Server) openState(c *config.Config) (err error) {
	conf := &c.State
	limits := state.Limits{TTL: conf.TTL, MaxBytes: int64(conf.MaxBytes), MaxOwnerBytes: int64(conf.MaxBytesPerKey), MaxConversationBytes: int64(conf.MaxConversation)}
	switch conf.Store {
	case "memory":
		s.state = state.NewMemory(limits)
	case "file":
		if s.state, err = state.OpenFile(conf.Path, limits); err != nil {
			return fmt.Errorf("state.path: %w", err)
		}
	case "redis":
		if s.state, err = state.NewRedis(state.RedisConfig{URL: c.Redis.URL.Reveal(), Timeout: conf.Timeout}, limits); err != nil {
			return fmt.Errorf("redis.url: %w", err)
		}
	default:
		return nil
	}
	if keys := conf.Keys(); len(keys) > 0 && conf.Store != "memory" {
		sealed, err := state.Seal(s.state, keys)
		if err != nil {
			return errors.Join(fmt.Errorf("state.encryption_keys: %w", err), s.state.Close())
		}
		s.state = sealed
	}
	return nil
}

// closeState is the end of what keeps conversations.
func (s *Server) closeState() {
	if s.state == nil {
		return
	}
	if err := s.state.Close(); err != nil {
		s.log.Error("what keeps conversations could not be closed", zap.Error(err))
	}
}

// stateFailed counts a call of the store that failed.
func (s *Server) stateFailed(why string, err error) {
	s.meters.stateFailed(why)
	if why == "read" {
		s.log.Warn("a conversation could not be read", zap.Error(err))
	}
}

// stateFailed counts a call of the store that failed.
func (m *meters) stateFailed(why string) { m.kept.get(why).Inc() }

// appendState writes what the store holds.
func (m *meters) appendState(dst []byte) []byte {
	if m.s.state == nil {
		return dst
	}
	st := m.s.state.Stats()
	one := func(name, kind string, n int64) {
		dst = appendSample(appendHead(dst, name, kind), name, "", strconv.FormatInt(n, 10))
	}
	one("dragoman_state_conversations", "gauge", st.Conversations)
	one("dragoman_state_bytes", "gauge", st.Bytes)
	const evicted = "dragoman_state_evicted_total"
	dst = appendHead(dst, evicted, "counter")
	dst = appendSample(dst, evicted, labels("why", "age"), strconv.FormatInt(st.Expired, 10))
	dst = appendSample(dst, evicted, labels("why", "owner"), strconv.FormatInt(st.EvictedOwner, 10))
	return appendSample(dst, evicted, labels("why", "total"), strconv.FormatInt(st.EvictedTotal, 10))
}
