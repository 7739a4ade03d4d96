package balance

import (
	"sync"
	"time"
)

// What a budget is counted over, and what it allows besides the share.
const (
	budgetWindow = 10 * time.Second
	budgetFloor  = 3 // a second
)

// Budget bounds retries to a share of all requests, so that they cannot make an overload worse. It is safe for concurrent use.
type Budget struct {
	share float64
	now   func() time.Time
	epoch time.Time
	mu    sync.Mutex // of Retry
	seen  window     // requests, and retries as the bad ones
}

// NewBudget allows retries for that share of requests (0.2: one for each five) of the last ten seconds, and three a second
// besides (thirty in ten seconds), without which a quiet agent would get none. A share of 0 allows none at all. now is the
// clock; nil: time.Now.
func NewBudget(share float64, now func() time.Time) *Budget {
	if now == nil {
		now = time.Now
	}
	b := &Budget{share: share, now: now, epoch: now()}
	b.seen.reset(budgetWindow)
	return b
}

// Request notes a request, not its retries.
func (b *Budget) Request() { b.seen.add(int64(b.now().Sub(b.epoch)), 1, 0) }

// Retry takes a retry, if there is one left.
func (b *Budget) Retry() bool {
	if b.share <= 0 {
		return false
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	now := int64(b.now().Sub(b.epoch))
	requests, retries := b.seen.sum(now)
	if float64(retries+1) > b.share*float64(requests)+budgetFloor*budgetWindow.Seconds() {
		return false
	}
	b.seen.add(now, 0, 1)
	return true
}
