package config

import (
	"encoding/base64"
	"encoding/hex"
	"time"
)

// State says where conversations are kept, for clients that go on from an answer by its id.
type State struct {
	// Store is where conversations are kept: memory, which the process loses when it ends; file, which one process has
	// for itself; redis, which replicas share; or none: then answers say store:false, and what refers to an earlier answer
	// is refused. Default: memory.
	Store string

	// Path is the file of store: file, which is made if it is not there. Required with it.
	Path string

	// TTL is how long a conversation is kept that nobody reads or goes on with. Default: 24h, from 1m to 8760h.
	TTL time.Duration

	// MaxBytes is what all conversations together may take; beyond it those that were not used for longest go, whole.
	// Default: 256MiB.
	MaxBytes Size

	// MaxBytesPerKey is what the conversations of one key, or of one subject of tokens, may take; beyond it its own go
	// that were not used for longest. Default: an eighth of MaxBytes.
	MaxBytesPerKey Size

	// MaxConversation is what one conversation may take. An answer that would exceed it is not kept, and says so by
	// store:false. Default: 16MiB.
	MaxConversation Size

	// Timeout bounds each call of the store. Default: 2s, from 10ms to 60s.
	Timeout time.Duration

	// EncryptionKeys are secrets of 32 bytes each, in base64 or hexadecimal digits, with which a file or Redis holds what
	// was said; the first encrypts, all decrypt. Default: none, nothing is encrypted.
	EncryptionKeys []Secret

	// Background bounds answers that outlive their request. See [Background].
	Background Background
}

// Background bounds answers of background: true.
type Background struct {
	// Timeout ends an answer that takes longer. Default: 1h, from 1s to 24h.
	Timeout time.Duration

	// Concurrent is how many may run at the same time in this process. Default: 64, from 0, which turns them off, to 100000.
	Concurrent int

	// MaxEvents is what the events of one may take that its clients can fetch again. Default: 16MiB.
	MaxEvents Size
}

// DefaultState is how conversations are kept where nothing is written.
func DefaultState() State {
	return State{
		Store: "memory", TTL: 24 * time.Hour, MaxBytes: 256 * MiB, MaxBytesPerKey: 32 * MiB, MaxConversation: 16 * MiB, Timeout: 2 * time.Second,
		Background: Background{Timeout: time.Hour, Concurrent: 64, MaxEvents: 16 * MiB},
	}
}

// Keys are the encryption keys.
func (s *State) Keys() [][]byte {
	keys := make([][]byte, 0, len(s.EncryptionKeys))
	for _, k := range s.EncryptionKeys {
		if b := stateKey(k.Reveal()); b != nil {
			keys = append(keys, b)
		}
	}
	return keys
}

// stateKey decodes a key of 32 bytes, nil if it is none.
func stateKey(text string) []byte {
	if b, err := hex.DecodeString(text); err == nil && len(b) == 32 {
		return b
	}
	for _, e := range [...]*base64.Encoding{base64.StdEncoding, base64.RawStdEncoding, base64.URLEncoding, base64.RawURLEncoding} {
		if b, err := e.DecodeString(text); err == nil && len(b) == 32 {
			return b
		}
	}
	return nil
}

// read reads the section and returns what is written.
func (s *State) read(v value) map[string]value {
	written := v.mapping(fields{
		"store":             oneOf(&s.Store, "memory", "file", "redis", "none"),
		"path":              func(v value) { s.Path, _ = v.text("the path of a file") },
		"ttl":               boundedSpan(&s.TTL, time.Minute, 8760*time.Hour),
		"max_bytes":         size(&s.MaxBytes, 64*KiB, 1024*GiB),
		"max_bytes_per_key": size(&s.MaxBytesPerKey, 64*KiB, 1024*GiB),
		"max_conversation":  size(&s.MaxConversation, 16*KiB, GiB),
		"timeout":           boundedSpan(&s.Timeout, 10*time.Millisecond, time.Minute),
		"encryption_keys": func(v value) {
			v.list("secrets", func(_ int, at value) {
				var k Secret
				secret(&k)(at)
				if k.IsZero() {
					return
				}
				if stateKey(k.Reveal()) == nil {
					at.problem("wants 32 bytes in base64 or hexadecimal digits, such as openssl rand -base64 32 prints")
					return
				}
				s.EncryptionKeys = append(s.EncryptionKeys, k)
			})
		},
		"background": func(v value) {
			v.mapping(fields{
				"timeout":    boundedSpan(&s.Background.Timeout, time.Second, 24*time.Hour),
				"concurrent": integer(&s.Background.Concurrent, 0, 100_000),
				"max_events": size(&s.Background.MaxEvents, 64*KiB, GiB),
			})
		},
	})
	if _, ok := written["max_bytes_per_key"]; !ok {
		s.MaxBytesPerKey = s.MaxBytes / 8
	}
	if _, ok := written["max_conversation"]; !ok {
		s.MaxConversation = min(s.MaxConversation, s.MaxBytesPerKey)
	}
	return written
}

// checkState holds what the section means together with that of Redis.
func (c *Config) checkState(written map[string]value, redis map[string]value) {
	s := &c.State
	if at, ok := written["store"]; ok {
		if _, broken := redis["url"]; s.Store == "redis" && c.Redis.URL.IsZero() && !broken {
			at.problem("needs redis.url, such as redis: {url: {env: REDIS_URL}}")
		}
		if _, broken := written["path"]; s.Store == "file" && s.Path == "" && !broken {
			at.problem("needs state.path, the file that keeps conversations")
		}
	}
	if at, ok := written["max_bytes_per_key"]; ok && s.MaxBytesPerKey > s.MaxBytes {
		at.problem("is more than state.max_bytes, %v", s.MaxBytes)
	}
	if at, ok := written["max_conversation"]; ok && s.MaxConversation > s.MaxBytesPerKey {
		at.problem("is more than state.max_bytes_per_key, %v", s.MaxBytesPerKey)
	}
	if at, ok := written["path"]; ok && s.Path != "" && s.Store != "file" {
		at.warn("is not used: state.store is %s", s.Store)
	}
	if at, ok := written["encryption_keys"]; ok && len(s.EncryptionKeys) > 0 && s.Store != "file" && s.Store != "redis" {
		at.warn("is not used: state.store is %s, which writes nothing down", s.Store)
	}
}

// tokens reads a number of tokens; 0 is none.
func tokens(to *int64) func(value) {
	return func(v value) {
		n := int(*to)
		integer(&n, 0, 1<<30)(v)
		*to = int64(n)
	}
}
