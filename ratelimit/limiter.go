package ratelimit

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"
)

// busy is how long a caller is asked to stay away who found no slot: nobody knows when one is free.
const busy = time.Second

// Mode is what happens while a store does not answer.
type Mode uint8

// The modes.
const (
	Local  Mode = iota // count in the process, each replica its share
	Open               // admit everything
	Closed             // admit nothing
)

// String is local, open or closed.
func (m Mode) String() string { return [...]string{"local", "open", "closed"}[m] }

// State is whether the store decides.
type State uint8

// The states of a store.
const (
	Up   State = iota // the store decides
	Down              // the store is not asked; [Options].OnError decides
)

// String is up or down.
func (s State) String() string { return [...]string{"up", "down"}[s] }

// Queue is where requests wait for a slot.
type Queue struct {
	// Length is how many wait at the same time for one scope. Zero: none.
	Length int

	// Wait is how long one waits, for all its scopes together. Zero: not at all.
	Wait time.Duration
}

// Options are what [New] makes a Limiter of.
type Options struct {
	// Store keeps the counts of rates; nil: the process does. The Limiter closes it.
	Store Store

	// OnError is what happens while the Store does not answer.
	OnError Mode

	// Replicas is by how much Local divides the limits. Less than one means one.
	Replicas int

	// Queue is where requests wait for slots.
	Queue Queue

	// Now is the clock; nil: the process's monotonic one, which steps of the wall clock do not move.
	Now func() time.Time

	// Changed is told when the Store goes, with the error of the last straw, and when it is back: once a change, in their order, from
	// a goroutine of the Limiter. Nil: nobody is told.
	Changed func(State, error)
}

// Limiter decides how often and how many. Its methods may be called at the same time.
type Limiter struct {
	queue    Queue
	replicas int64
	base     time.Time
	clock    func() time.Time // nil: time.Since(base)
	shared   *shared          // nil: in process
	onError  Mode
	scopes   registry
	subjects table
	waiters  sync.Pool
	waiting  atomic.Int64
}

// New makes a limiter. With a Store it has two goroutines, which Close ends.
func New(o Options) *Limiter {
	l := &Limiter{
		queue: o.Queue, replicas: int64(max(o.Replicas, 1)), onError: o.OnError,
		clock: o.Now, base: time.Now(),
		scopes:  registry{groups: map[scopeID]*group{}},
		waiters: sync.Pool{New: newWaiter},
	}
	if o.Now != nil {
		l.base = o.Now()
	}
	if o.Store != nil {
		l.shared = newShared(o.Store, o.Changed)
	}
	l.subjects.init(l, subjectShards, subjectsPerShard)
	return l
}

// Close ends the limiter's goroutines and its store, having written what waits to be written, for at most a second. The limiter may be
// used behind it, without the store.
func (l *Limiter) Close() {
	if l.shared != nil {
		l.shared.close()
	}
}

// Scope is the scope of a configured name. The same kind and name share their counts, and a changed rate counts anew. It is
// nil if nothing is limited. What it makes is kept for good: names that callers make up are for [Limiter.Subject].
func (l *Limiter) Scope(k Kind, name string, lim Limits) *Scope {
	if lim.IsZero() {
		return nil
	}
	return l.scopes.scope(l, k, name, lim)
}

// Subject is the scope, of kind Key, of a name that is not configured: the subject of a token. It is nil if nothing is limited. Some 65,536
// subjects are remembered. A further one takes the place of one that nobody uses: of one whose buckets are full, which loses
// nothing, else of the one closest to full, which begins anew with full ones. name is not kept.
func (l *Limiter) Subject(name string, lim Limits) *Scope {
	if lim.IsZero() {
		return nil
	}
	return l.subjects.get(name, lim)
}

// Waiting is how many requests wait for a slot.
func (l *Limiter) Waiting() int { return int(l.waiting.Load()) }

// Dropped is how many settlements and refunds never reached the store, because it was down or too slow.
func (l *Limiter) Dropped() uint64 {
	if l.shared == nil {
		return 0
	}
	return l.shared.dropped.Load()
}

// now is the time since the limiter began.
func (l *Limiter) now() time.Duration {
	if l.clock == nil {
		return time.Since(l.base)
	}
	return max(l.clock().Sub(l.base), 0)
}

// Refusal says which limit refused, and for how long.
type Refusal struct {
	// Kind is whose limit it is, of several the first in the order of kinds.
	Kind Kind

	// What is what the limit is on, or Unavailable or Gone.
	What Dimension

	// Scope is the scope's name.
	Scope string

	// Limit is what it allows; of Concurrent, its Events.
	Limit Rate

	// Wait is how long after which all the limits that refuse now would admit the request, if nobody else came; of Concurrent and
	// Unavailable, a second.
	Wait time.Duration

	// Status is what is left of the caller's limits.
	Status Status
}

// Take charges one request, and tokens as its estimate, to the rates of all scopes, or to none. They stand in the order of their
// kinds; nil ones are skipped. The refusal, nil if there is none, lives in g and is good until g is used again. With a store it is asked
// in one call, which ctx ends. Whatever g held before is released.
func (l *Limiter) Take(ctx context.Context, scopes [3]*Scope, tokens int64, g *Grant) *Refusal {
	g.Release()
	g.begin(l, &scopes, tokens)
	if l.shared == nil {
		return l.takeHere(g, whole)
	}
	if !g.counted() {
		return nil // there is nothing to ask the store
	}
	if epoch, up := l.shared.breaker.enter(); up {
		r, err := l.takeShared(ctx, g, epoch)
		if err == nil {
			return r
		}
		if errors.Is(ctx.Err(), context.Canceled) {
			return g.refuse(Refusal{What: Gone})
		}
	}
	switch l.onError {
	case Open:
		g.charged = unchecked
		return nil
	case Closed:
		return g.refuse(Refusal{Kind: Global, What: Unavailable, Wait: busy})
	}
	return l.takeHere(g, share)
}

// takeHere decides in the process. It looks at all buckets before it charges any, so that hardly ever one is
// charged that has to be given back.
func (l *Limiter) takeHere(g *Grant, part int) *Refusal {
	var costs [3][2]time.Duration
	if r, refused := l.look(g, part, &costs); refused {
		return g.refuse(r)
	}
	for i, s := range g.scopes {
		if s == nil {
			continue
		}
		for d, c := range s.rates {
			if c == nil {
				continue
			}
			m, cost := &s.plan.meters[part][d], costs[i][d]
			full, ok := c[part].take(m, cost, g.at)
			if ok {
				continue
			}
			g.undo(part, i, d, &costs)
			r, refused := l.look(g, part, &costs)
			if !refused { // somebody else has given something back since
				r = s.refused(part, Dimension(d), wait(full, cost, m.capacity))
				r.Status = l.status(&g.scopes, part, g.at)
			}
			return g.refuse(r)
		}
	}
	g.charged = charge(part)
	return nil
}

// look is the refusal of the buckets as they are, if they refuse. It sets what the request costs of each.
func (l *Limiter) look(g *Grant, part int, costs *[3][2]time.Duration) (r Refusal, refused bool) {
	for i, s := range g.scopes {
		if s == nil {
			continue
		}
		for d, c := range s.rates {
			if c == nil {
				continue
			}
			m := &s.plan.meters[part][d]
			cost := m.unit
			if d == int(Tokens) {
				cost = m.cost(g.tokens)
			}
			costs[i][d] = cost
			switch w := wait(c[part].full(g.at), cost, m.capacity); {
			case w <= 0:
			case refused:
				r.Wait = max(r.Wait, w)
			default:
				r, refused = s.refused(part, Dimension(d), w), true
			}
		}
	}
	if refused {
		r.Status = l.status(&g.scopes, part, g.at)
	}
	return r, refused
}

// refused is the refusal of one of the scope's rates.
func (s *Scope) refused(part int, d Dimension, wait time.Duration) Refusal {
	return Refusal{Kind: s.kind, What: d, Scope: s.name, Limit: s.plan.meters[part][d].rate, Wait: wait}
}

// Wait takes a slot of every scope that limits concurrency, having waited for it in the order of arrival. It is refused
// when the line is full or the time is over, and as Gone when done closes first; then what Take charged is given back. The refusal lives
// in g, as Take's does.
func (l *Limiter) Wait(done <-chan struct{}, g *Grant) *Refusal {
	if !g.open {
		return nil
	}
	var p patience
	for i, s := range g.scopes {
		if s == nil || s.plan.limits.Concurrent <= 0 || g.held&(1<<i) != 0 {
			continue
		}
		if !s.slots.try(s.plan.limits.Concurrent) {
			if p.timer == nil && l.queue.Wait > 0 && l.queue.Length > 0 {
				p.timer = time.NewTimer(l.queue.Wait)
				defer p.timer.Stop()
			}
			if what := l.stand(done, &p, s); what != granted {
				return l.turnAway(g, s, what)
			}
		}
		g.held |= 1 << i
	}
	return nil
}

// patience is how long one waits for all scopes together. A timer tells only once that the time is over; whoever was given a slot
// in that very moment keeps it, and waits for no other.
type patience struct {
	timer *time.Timer // nil: nobody waits
	over  bool
}

// turnAway gives back all that a request was given that found no slot in s.
func (l *Limiter) turnAway(g *Grant, s *Scope, what Dimension) *Refusal {
	g.refund()
	r := Refusal{Kind: s.kind, What: what, Scope: s.name, Limit: Rate{Events: int64(s.plan.limits.Concurrent)}, Status: g.Status()}
	g.charged = nowhere
	if what == Concurrent {
		r.Wait = busy
	}
	return g.refuse(r)
}

// granted is what stand returns for a slot: no reason to refuse.
const granted = Dimension(255)

// stand waits in the line of s, and returns granted, Concurrent or Gone.
func (l *Limiter) stand(done <-chan struct{}, p *patience, s *Scope) Dimension {
	if p.timer == nil || p.over {
		return Concurrent
	}
	w := l.waiters.Get().(*waiter)
	defer l.waiters.Put(w)
	ok, lined := s.slots.line(w, s.plan.limits.Concurrent, l.queue.Length)
	if ok {
		return granted
	}
	if !lined {
		return Concurrent
	}
	l.waiting.Add(1)
	defer l.waiting.Add(-1)
	select {
	case <-w.ready:
		return granted
	case <-done:
		s.slots.leave(w)
		return Gone
	case <-p.timer.C:
		p.over = true
		if s.slots.expire(w) {
			return granted
		}
		return Concurrent
	}
}

// Peek is what is left of the limits of a caller who takes nothing. With a store it is asked, in one call that ctx ends.
func (l *Limiter) Peek(ctx context.Context, scopes [3]*Scope) Status {
	var g Grant
	g.begin(l, &scopes, 0)
	defer g.Release()
	if l.shared == nil || !g.counted() {
		return l.status(&g.scopes, whole, g.at)
	}
	if epoch, up := l.shared.breaker.enter(); up && l.peekShared(ctx, &g, epoch) == nil {
		return l.status(&g.scopes, whole, g.at)
	}
	if l.onError == Local {
		return l.status(&g.scopes, share, g.at)
	}
	return Status{}
}
