package auth

import (
	"crypto/subtle"
	"encoding/binary"
	"sync/atomic"
	"time"
)

const (
	seenBuckets = 2048
	seenWays    = 4
)

// seenTokens remembers tokens that were verified, and for how long, under the whole hash of each: a table of a fixed size
// in which a token has four places. It has no lock; of two goroutines that write to one place one wins. It belongs to a
// set of keys and goes with it, so that no token outlives the key that signed it.
type seenTokens [seenBuckets][seenWays]atomic.Pointer[seenToken]

type seenToken struct {
	hash      [32]byte
	principal *Principal
	until     time.Time // the first moment at which it has to be verified again
}

func (t *seenTokens) bucket(hash *[32]byte) *[seenWays]atomic.Pointer[seenToken] {
	return &t[binary.LittleEndian.Uint32(hash[:])%seenBuckets]
}

// find is the principal of a token that is remembered, or nil.
func (t *seenTokens) find(hash *[32]byte, now time.Time) *Principal {
	for i := range t.bucket(hash) {
		s := t.bucket(hash)[i].Load()
		if s != nil && subtle.ConstantTimeCompare(s.hash[:], hash[:]) == 1 && now.Before(s.until) {
			return s.principal
		}
	}
	return nil
}

// add remembers a token. It takes a place that is free, its own or out of date, or else that of the token which has to be
// verified again first.
func (t *seenTokens) add(s *seenToken, now time.Time) {
	b := t.bucket(&s.hash)
	victim, first := 0, time.Time{}
	for i := range b {
		o := b[i].Load()
		if o == nil || o.hash == s.hash || !now.Before(o.until) {
			victim = i
			break
		}
		if first.IsZero() || o.until.Before(first) {
			victim, first = i, o.until
		}
	}
	b[victim].Store(s)
}
