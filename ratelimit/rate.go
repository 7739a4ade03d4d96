package ratelimit

import (
	"math"
	"math/bits"
	"time"
)

// maxSpan is the longest that a bucket can need until it is full, 52 days: no sum overflows, and larger debts are
// forgiven. It is what a script in Redis can count exactly, so that the rule is one everywhere.
const maxSpan = 1 << 52

// Rate is a bucket of Burst events that refills with Events in Per. A rate without Events or Per limits nothing.
type Rate struct {
	// Events is how many may happen within Per, in the long run.
	Events int64

	// Per is the time of the rate; more than 52 days mean 52 days.
	Per time.Duration

	// Burst is the size of the bucket: how many may happen at once after a pause. Values outside 1…Events mean Events.
	Burst int64
}

// Limits are the bounds of one scope. The zero Limits bound nothing.
type Limits struct {
	// Requests is how many requests may begin.
	Requests Rate

	// Tokens is how many tokens may be used.
	Tokens Rate

	// Concurrent is how many requests may run at the same time; not positive: any number.
	Concurrent int
}

// IsZero reports whether nothing is limited.
func (l Limits) IsZero() bool {
	return !l.Requests.limited() && !l.Tokens.limited() && l.Concurrent <= 0
}

func (r Rate) limited() bool { return r.Events > 0 && r.Per > 0 }

// normal is the rate with every value in its range; the zero Rate for one that limits nothing.
func (r Rate) normal() Rate {
	if !r.limited() {
		return Rate{}
	}
	if r.Per > maxSpan {
		r.Per = maxSpan
	}
	if r.Burst < 1 || r.Burst > r.Events {
		r.Burst = r.Events
	}
	return r
}

// share is the rate of one of n replicas: rounded up, at least one event.
func (r Rate) share(n int64) Rate {
	if n <= 1 || !r.limited() {
		return r
	}
	r = r.normal()
	r.Events = (r.Events-1)/n + 1
	r.Burst = (r.Burst-1)/n + 1
	return r
}

// cost is how much time of the bucket n events take: ⌈n·Per/Events⌉, at most maxSpan; zero for n not positive.
func (r Rate) cost(n int64) time.Duration {
	if n <= 0 || !r.limited() {
		return 0
	}
	hi, lo := bits.Mul64(uint64(n), uint64(min(r.Per, maxSpan)))
	lo, carry := bits.Add64(lo, uint64(r.Events-1), 0)
	hi += carry
	if hi >= uint64(r.Events) {
		return maxSpan
	}
	q, _ := bits.Div64(hi, lo, uint64(r.Events))
	return time.Duration(min(q, maxSpan))
}

// capacity is how much time the bucket holds: Burst single events, whatever each is rounded up to, so that a burst of
// them passes whole.
func (r Rate) capacity() time.Duration {
	r = r.normal()
	if !r.limited() {
		return 0
	}
	hi, lo := bits.Mul64(uint64(r.Burst), uint64(r.cost(1)))
	if hi > 0 || lo > maxSpan {
		return maxSpan
	}
	return time.Duration(lo)
}

// admits is the rule: what costs c may happen while the bucket lacks full.
func admits(full, c, capacity time.Duration) bool {
	if c > capacity {
		return full <= 0
	}
	return full <= capacity-c
}

// wait is how long after which the rule admits what it refuses now; zero for what it admits.
func wait(full, c, capacity time.Duration) time.Duration {
	if c > capacity {
		return max(full, 0)
	}
	return max(full-(capacity-c), 0)
}

// mulDiv is ⌊a·b/c⌋ of values that are not negative, c positive, at most the largest int64.
func mulDiv(a, b, c int64) int64 {
	hi, lo := bits.Mul64(uint64(a), uint64(b))
	if hi >= uint64(c) {
		return math.MaxInt64
	}
	q, _ := bits.Div64(hi, lo, uint64(c))
	return int64(min(q, math.MaxInt64))
}
