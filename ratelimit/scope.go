package ratelimit

import (
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
)

// Kind says whose limit a scope's is.
type Kind uint8

// The kinds of scopes, in the order in which they are asked.
const (
	Key    Kind = iota // a key, or the subject of a token
	Agent              // an agent
	Global             // the whole proxy
)

// String is key, agent or global.
func (k Kind) String() string { return [...]string{"key", "agent", "global"}[k] }

// Dimension is what a limit is on, or why else a request was refused.
type Dimension uint8

// The dimensions, and the refusals that are none's.
const (
	Requests    Dimension = iota // requests in a time
	Tokens                       // tokens in a time
	Concurrent                   // requests at the same time
	Unavailable                  // the store does not answer, and nobody is admitted unchecked
	Gone                         // the caller has left
)

// String is requests, tokens, concurrent, unavailable or gone.
func (d Dimension) String() string {
	return [...]string{"requests", "tokens", "concurrent", "unavailable", "gone"}[d]
}

// Scope is one counted subject: a key, a token's subject, an agent, or the proxy, with its limits. A nil Scope limits nothing.
type Scope struct {
	kind  Kind
	name  string
	plan  *plan
	rates [2]*counts // of requests and of tokens; nil where there is no limit
	slots *slots
	keys  [2]string // of its buckets in a store

	home *table       // of a subject; nil for what is configured
	refs atomic.Int32 // how many grants use the subject; forgotten
}

// counts are the two states of a rate: of the whole one, or what the store said of it last, and of this replica's share,
// which is used while the store is down.
type counts [2]bucket

const (
	whole = 0
	share = 1
)

// plan is what scopes of the same limits have in common.
type plan struct {
	limits Limits
	meters [2][2]meter // [whole, share][requests, tokens]
}

func newPlan(lim Limits, replicas int64) *plan {
	return &plan{limits: lim, meters: [2][2]meter{
		whole: {newMeter(lim.Requests), newMeter(lim.Tokens)},
		share: {newMeter(lim.Requests.share(replicas)), newMeter(lim.Tokens.share(replicas))},
	}}
}

// Limits are the scope's, as they were given.
func (s *Scope) Limits() Limits {
	if s == nil {
		return Limits{}
	}
	return s.plan.limits
}

// Name is what the scope was called; the name of a long subject is shortened.
func (s *Scope) Name() string {
	if s == nil {
		return ""
	}
	return s.name
}

// pin keeps a subject from being forgotten until unpin. Whatever was forgotten before is looked up again.
func (s *Scope) pin() *Scope {
	for s != nil && s.home != nil {
		n := s.refs.Load()
		switch {
		case n < 0:
			s = s.home.find(s.name, s.plan.limits)
		case s.refs.CompareAndSwap(n, n+1):
			return s
		}
	}
	return s
}

func (s *Scope) unpin() {
	if s != nil && s.home != nil {
		s.refs.Add(-1)
	}
}

// registry holds the configured scopes: few, and never forgotten.
type registry struct {
	mu     sync.Mutex
	groups map[scopeID]*group
}

type scopeID struct {
	kind Kind
	name string
}

// group is all that is counted under one name. A limit that is changed counts anew, so that what was used of 1000 an hour is
// not held against 60 a minute; everything else goes on.
type group struct {
	slots  slots
	rates  map[rateID]*counts
	scopes map[Limits]*Scope
}

type rateID struct {
	dimension Dimension
	rate      Rate
}

func (r *registry) scope(l *Limiter, k Kind, name string, lim Limits) *Scope {
	r.mu.Lock()
	defer r.mu.Unlock()
	g := r.groups[scopeID{k, name}]
	if g == nil {
		g = &group{rates: map[rateID]*counts{}, scopes: map[Limits]*Scope{}}
		r.groups[scopeID{k, strings.Clone(name)}] = g
	}
	if s := g.scopes[lim]; s != nil {
		return s
	}
	s := &Scope{kind: k, name: strings.Clone(name), plan: newPlan(lim, l.replicas), slots: &g.slots}
	for d := range s.rates {
		m := &s.plan.meters[whole][d]
		if !m.limited {
			continue
		}
		id := rateID{Dimension(d), m.rate}
		if g.rates[id] == nil {
			g.rates[id] = new(counts)
		}
		s.rates[d] = g.rates[id]
		if l.shared != nil {
			s.keys[d] = storeKey(k.String(), Dimension(d), m.rate, s.name)
		}
	}
	g.scopes[lim] = s
	return s
}

// storeKey names a bucket in a store: key/requests/60/60000000000/60/NAME.
func storeKey(kind string, d Dimension, r Rate, name string) string {
	b := make([]byte, 0, 64+len(name))
	b = append(append(append(b, kind...), '/'), d.String()...)
	for _, n := range [...]int64{r.Events, int64(r.Per), r.Burst} {
		b = strconv.AppendInt(append(b, '/'), n, 10)
	}
	return string(append(append(b, '/'), name...))
}
