package ratelimit

import (
	"crypto/sha256"
	"encoding/hex"
	"hash/maphash"
	"math"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

const (
	subjectShards    = 256 // a power of two
	subjectsPerShard = 256

	// nameLimit is how long a subject's name may be to be kept as it is, so that the memory of a subject has a bound. Of a
	// longer one nameStart bytes and its hash are kept, which is longer than any name kept as it is.
	nameLimit = 128
	nameStart = 80

	// forgotten is what refs of a subject are that is in no table any more.
	forgotten = math.MinInt32
)

// table holds the subjects that callers name, in shards of bounded size. Only subjects that grants use are never
// forgotten, and so a shard grows by these at most.
type table struct {
	limiter *Limiter
	seed    maphash.Seed
	shards  []shard
	room    int // of a shard
	plan    atomic.Pointer[plan]
}

// shard keeps its subjects by name, and in a heap by when all their buckets are full. The heap's times are what was true when somebody
// last looked: a use makes a subject's own time later and never earlier, and so the root is looked at again, until one
// of which nothing has changed is the first to be full.
type shard struct {
	mu   sync.Mutex
	m    map[string]*subject
	heap []place
	busy []place // scratch of evict
}

type place struct {
	full time.Duration // since the limiter began
	*subject
}

// subject is a scope with all its counts, in one piece.
type subject struct {
	Scope
	state [2]counts
	line  slots
}

func (t *table) init(l *Limiter, shards, room int) {
	t.limiter, t.seed, t.shards, t.room = l, maphash.MakeSeed(), make([]shard, shards), room
}

func (t *table) get(name string, lim Limits) *Scope {
	if len(name) > nameLimit {
		sum := sha256.Sum256([]byte(name))
		name = name[:nameStart] + "…" + hex.EncodeToString(sum[:])
	}
	return t.find(name, lim)
}

// find returns the scope of a name as it is kept, and makes it if need be.
func (t *table) find(name string, lim Limits) *Scope {
	s := &t.shards[maphash.String(t.seed, name)&uint64(len(t.shards)-1)]
	s.mu.Lock()
	defer s.mu.Unlock()
	old := s.m[name]
	if old != nil && old.plan.limits == lim {
		return &old.Scope
	}
	if s.m == nil {
		s.m = map[string]*subject{}
	}
	if old == nil {
		s.evict(t.room - 1)
	}
	e := t.make(strings.Clone(name), lim, old)
	s.m[e.name] = e
	if old == nil {
		s.push(place{e.full(), e})
		return &e.Scope
	}
	for i := range s.heap {
		if s.heap[i].subject == old {
			s.heap[i].subject = e
		}
	}
	return &e.Scope
}

// make makes a subject; what it has in common with old, which may be nil, goes on.
func (t *table) make(name string, lim Limits, old *subject) *subject {
	p := t.plan.Load()
	if p == nil || p.limits != lim {
		p = newPlan(lim, t.limiter.replicas)
		t.plan.Store(p)
	}
	e := &subject{Scope: Scope{kind: Key, name: name, plan: p, home: t}}
	e.slots = &e.line
	if old != nil {
		e.slots = old.slots
	}
	for d := range e.rates {
		m := &p.meters[whole][d]
		if !m.limited {
			continue
		}
		e.rates[d] = &e.state[d]
		if old != nil && old.plan.meters[whole][d].rate == m.rate {
			e.rates[d] = old.rates[d]
		}
		if t.limiter.shared != nil {
			e.keys[d] = storeKey("subject", Dimension(d), m.rate, name)
		}
	}
	return e
}

// evict makes room until there are at most so many, as far as there are subjects that nobody uses. Whoever is full first goes first:
// those that are full, which loses nothing, then the one closest to it.
func (s *shard) evict(most int) {
	s.busy = s.busy[:0]
	for len(s.m) > most && len(s.heap) > 0 {
		p := &s.heap[0]
		if full := p.subject.full(); full > p.full {
			p.full = full
			s.sink()
			continue
		}
		if p.forget() {
			delete(s.m, p.name)
		} else {
			s.busy = append(s.busy, *p)
		}
		last := len(s.heap) - 1
		s.heap[0] = s.heap[last]
		s.heap[last] = place{}
		s.heap = s.heap[:last]
		s.sink()
	}
	for _, p := range s.busy {
		s.push(p)
	}
	clear(s.busy)
}

// push puts a place into the heap.
func (s *shard) push(p place) {
	s.heap = append(s.heap, p)
	for i := len(s.heap) - 1; i > 0; {
		up := (i - 1) / 2
		if s.heap[up].full <= s.heap[i].full {
			return
		}
		s.heap[up], s.heap[i] = s.heap[i], s.heap[up]
		i = up
	}
}

// sink puts the root where it belongs.
func (s *shard) sink() {
	for i := 0; ; {
		least := i
		for _, down := range [...]int{2*i + 1, 2*i + 2} {
			if down < len(s.heap) && s.heap[down].full < s.heap[least].full {
				least = down
			}
		}
		if least == i {
			return
		}
		s.heap[least], s.heap[i] = s.heap[i], s.heap[least]
		i = least
	}
}

// full is when all buckets of the subject are full.
func (s *Scope) full() (full time.Duration) {
	for _, c := range s.rates {
		if c != nil {
			full = max(full, time.Duration(c[whole].tat.Load()), time.Duration(c[share].tat.Load()))
		}
	}
	return full
}

// forget makes sure that nobody uses the scope from now on; false if somebody does.
func (s *Scope) forget() bool { return s.refs.CompareAndSwap(0, forgotten) }

// len is how many subjects there are.
func (t *table) len() (n int) {
	for i := range t.shards {
		s := &t.shards[i]
		s.mu.Lock()
		n += len(s.m)
		s.mu.Unlock()
	}
	return n
}
