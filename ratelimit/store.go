package ratelimit

import (
	"context"
	"time"
)

// Store keeps counts that replicas share. Its methods may be called at the same time, return soon after their context
// ends, and keep nothing of the slice.
type Store interface {
	// Take decides over all buckets at once, by the rule of the package's documentation: all are charged or none. It
	// reports whether they were, and sets OK and Full of each. Their keys differ. An error says that nothing is known.
	Take(ctx context.Context, b []Bucket) (ok bool, err error)

	// Add charges without a decision, also beyond what a bucket holds. A negative Cost gives back, up to a full bucket.
	// Their keys differ; there are 32 at most.
	Add(ctx context.Context, b []Bucket) error

	// Ping reports whether the store can decide.
	Ping(ctx context.Context) error

	// Close ends it. [Limiter.Close] calls it.
	Close() error
}

// Bucket is one rate of one scope in a [Store].
type Bucket struct {
	// Key names the bucket; different rates of one scope have different keys. It may hold any bytes.
	Key string

	// Rate is the bucket's, its Burst filled in.
	Rate Rate

	// Cost is how many events to charge; negative: to give back. Zero is admitted like any cost: not in debt.
	Cost int64

	// Full is how long until the bucket is full again: with this cost where all were charged, without it where none were.
	Full time.Duration

	// OK is set where this bucket admits its cost, whatever the others do.
	OK bool
}

// wait is how long after which the bucket admits its Cost, from its Full without it.
func (b *Bucket) wait() time.Duration { return wait(b.Full, b.Rate.cost(b.Cost), b.Rate.capacity()) }
