package ratelimit

import "time"

// Grant is what a request was given. It is a value inside its owner, who does not copy it while it is in use and calls one
// method at a time. The zero Grant is inert. Every grant that Take did not refuse ends with Release; until then its scopes cannot be
// forgotten.
type Grant struct {
	limiter *Limiter
	scopes  [3]*Scope
	tokens  int64         // reserved
	at      time.Duration // when
	charged charge
	held    uint8 // slots, a bit a scope
	left    uint8 // scopes that Leave has settled, a bit each
	open    bool  // Release has work to do
	settled bool
	refusal *Refusal // the last one; a grant lives as long as its request, and few are refused
}

// charge is where a grant is charged.
type charge uint8

const (
	inWhole   charge = whole // in the process, or in the store where there is one
	inShare   charge = share // in the process, the store being down
	unchecked charge = 2     // nowhere, the store being down
	nowhere   charge = 3     // it was refused
)

// begin makes the grant one of these scopes, which are pinned.
func (g *Grant) begin(l *Limiter, scopes *[3]*Scope, tokens int64) {
	g.limiter, g.tokens = l, max(tokens, 0)
	g.charged, g.held, g.left, g.open, g.settled = nowhere, 0, 0, true, false
	for i, s := range scopes {
		g.scopes[i] = s.pin()
	}
	g.at = l.now()
}

// counted reports whether any rate is limited.
func (g *Grant) counted() bool {
	for _, s := range g.scopes {
		if s != nil && (s.rates[Requests] != nil || s.rates[Tokens] != nil) {
			return true
		}
	}
	return false
}

// Concurrent reports whether one of the scopes limits concurrency, so that Wait has something to take.
func (g *Grant) Concurrent() bool {
	for _, s := range g.scopes {
		if s != nil && s.plan.limits.Concurrent > 0 {
			return true
		}
	}
	return false
}

// Settle charges what the request really cost in tokens instead of what was reserved: what is missing even into debt, and what was too
// much is given back, unless the bucket has been full since. It counts once; requests stay charged. It never blocks: a store is told
// behind the caller's back, and what it cannot be told is forgotten, charges before refunds.
//
// The owner decides what a request cost of which no usage is known, such as an aborted stream. Zero gives everything back.
func (g *Grant) Settle(tokens int64) {
	if g.limiter == nil || g.settled || g.charged > inShare {
		return
	}
	g.settled = true
	tokens = max(tokens, 0)
	if tokens == g.tokens {
		return
	}
	now := time.Duration(-1)
	for i, s := range g.scopes {
		if s == nil || s.rates[Tokens] == nil || g.left&(1<<i) != 0 {
			continue
		}
		if now < 0 {
			now = g.limiter.now()
		}
		g.correct(s, Tokens, g.tokens, tokens, now)
	}
}

// correct charges events of one rate instead of before.
func (g *Grant) correct(s *Scope, d Dimension, before, events int64, now time.Duration) {
	m, b := &s.plan.meters[g.charged][d], &s.rates[d][g.charged]
	lapsed := b.lapsed(g.at)
	if diff := m.cost(events) - m.cost(before); diff > 0 {
		b.add(m, diff, now)
	} else {
		b.refund(-diff, g.at, now)
	}
	if g.charged == inWhole && g.limiter.shared != nil && (events > before || !lapsed) {
		g.limiter.shared.later(s, d, events-before)
	}
}

// refund gives back all that Take charged.
func (g *Grant) refund() {
	if g.charged <= inShare {
		now := g.limiter.now()
		for _, s := range g.scopes {
			if s == nil {
				continue
			}
			for d, events := range [...]int64{1, g.tokens} {
				if s.rates[d] != nil {
					g.correct(s, Dimension(d), events, 0, now)
				}
			}
		}
	}
	g.settled = true
}

// undo gives back what this very decision charged: everything before a rate of a scope.
func (g *Grant) undo(part, scope, dimension int, costs *[3][2]time.Duration) {
	for i, s := range g.scopes[:scope+1] {
		if s == nil {
			continue
		}
		for d, c := range s.rates {
			if i == scope && d == dimension {
				return
			}
			if c != nil {
				c[part].refund(costs[i][d], g.at, g.at)
			}
		}
	}
}

// Release gives the slots back, to those who are first in line for them. It does so once. What was charged stays charged, and may
// still be settled.
func (g *Grant) Release() {
	if !g.open {
		return
	}
	g.open = false
	for i, s := range g.scopes {
		if g.held&(1<<i) != 0 {
			s.slots.release()
		}
		s.unpin()
	}
	g.held = 0
}

// Leave ends what one kind of scope has to do with the request, which goes on without it: its slot is given back, and it is charged
// these tokens in place of what was reserved. It counts once; Settle and Release are for the others then.
func (g *Grant) Leave(k Kind, tokens int64) {
	for i, s := range g.scopes {
		bit := uint8(1) << i
		if s == nil || s.kind != k || g.left&bit != 0 {
			continue
		}
		g.left |= bit
		if g.held&bit != 0 {
			g.held &^= bit
			s.slots.release()
		}
		if tokens = max(tokens, 0); !g.settled && g.charged <= inShare && s.rates[Tokens] != nil && tokens != g.tokens {
			g.correct(s, Tokens, g.tokens, tokens, g.limiter.now())
		}
	}
}

// refuse ends the grant with a refusal, which it keeps.
func (g *Grant) refuse(r Refusal) *Refusal {
	g.Release()
	if g.refusal == nil {
		g.refusal = new(Refusal)
	}
	*g.refusal = r
	return g.refusal
}

// Status is what is left of the caller's limits now: of the limits of its key and its agent, in each dimension the one with
// the least. With a store it is what that said last, the time since reckoned in. It is zero while nothing is checked.
func (g *Grant) Status() Status {
	if g.limiter == nil || g.charged == unchecked {
		return Status{}
	}
	part := int(g.charged)
	if g.charged == nowhere {
		part = whole
	}
	return g.limiter.status(&g.scopes, part, g.limiter.now())
}
