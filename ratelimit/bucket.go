package ratelimit

import (
	"sync/atomic"
	"time"
)

// bucket is the state of a rate: when it will be full again, in nanoseconds of the limiter's clock. Any time that has
// passed is full. The decision is one compare and swap of that integer.
type bucket struct {
	tat atomic.Int64

	// idle is when a charge last found the bucket full but for less than one event. Nothing that was charged before then
	// is given back: it has been refilled, and giving it back would let more pass than the rate says. It is written before the
	// charge itself, so that whoever gives back and finds tat unchanged has seen it.
	idle atomic.Int64
}

// meter is a rate with what the arithmetic needs of it.
type meter struct {
	rate     Rate // normal
	unit     time.Duration
	capacity time.Duration
	limited  bool
}

func newMeter(r Rate) meter {
	r = r.normal()
	return meter{rate: r, unit: r.cost(1), capacity: r.capacity(), limited: r.limited()}
}

// cost is the rate's, without a division for a single event.
func (m *meter) cost(n int64) time.Duration {
	if n == 1 {
		return m.unit
	}
	return m.rate.cost(n)
}

// full is how long until the bucket is full.
func (b *bucket) full(now time.Duration) time.Duration {
	return max(time.Duration(b.tat.Load())-now, 0)
}

// take charges c if the bucket admits it. It returns how long until the bucket is full: with c if it was charged,
// without it if not.
func (b *bucket) take(m *meter, c, now time.Duration) (full time.Duration, ok bool) {
	for {
		old := b.tat.Load()
		full = max(time.Duration(old)-now, 0)
		if !admits(full, c, m.capacity) {
			return full, false
		}
		if c == 0 {
			return full, true
		}
		if b.charge(m, old, full, c, now) {
			return full + c, true
		}
	}
}

// add charges c whatever the bucket holds.
func (b *bucket) add(m *meter, c, now time.Duration) {
	for c > 0 {
		old := b.tat.Load()
		if b.charge(m, old, max(time.Duration(old)-now, 0), c, now) {
			return
		}
	}
}

func (b *bucket) charge(m *meter, old int64, full, c, now time.Duration) bool {
	if full < m.unit {
		b.found(now)
	}
	return b.tat.CompareAndSwap(old, int64(now+min(full+c, maxSpan)))
}

// found notes that the bucket was full at a time.
func (b *bucket) found(now time.Duration) {
	for {
		old := b.idle.Load()
		if old >= int64(now) || b.idle.CompareAndSwap(old, int64(now)) {
			return
		}
	}
}

// lapsed reports whether nothing that was charged at a time is given back.
func (b *bucket) lapsed(at time.Duration) bool { return b.idle.Load() > int64(at) }

// refund gives back c, which was charged at a time, up to a full bucket.
func (b *bucket) refund(c, at, now time.Duration) {
	for c > 0 {
		old := b.tat.Load()
		full := time.Duration(old) - now
		if full <= 0 || b.lapsed(at) || b.tat.CompareAndSwap(old, old-int64(min(c, full))) {
			return
		}
	}
}

// saw takes over what a store said of its bucket after a charge of c, or with c zero, without one.
func (b *bucket) saw(m *meter, full, c, now time.Duration) {
	if c > 0 && full-c < m.unit {
		b.found(now)
	}
	b.tat.Store(int64(now + full))
}
