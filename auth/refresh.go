package auth

import (
	"context"
	"crypto/sha256"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/go-jose/go-jose/v4"
)

// pace is how often keys are loaded.
type pace struct {
	every time.Duration // in the background
	gap   time.Duration // between the end of one attempt and the next that a token asks for
	retry time.Duration // after the first failure; twice that after the second, and so on
	slow  time.Duration // the longest of those
	load  time.Duration // the longest that an attempt may take
	wait  time.Duration // the longest that a token waits for an attempt
}

var (
	urlPace  = pace{every: 5 * time.Minute, gap: 10 * time.Second, retry: time.Second, slow: 30 * time.Second, load: 10 * time.Second, wait: 2 * time.Second}
	filePace = pace{every: 5 * time.Second, gap: time.Second, retry: 5 * time.Second, slow: 5 * time.Second, load: 10 * time.Second, wait: 2 * time.Second}
)

// maxWaiting bounds the requests that wait for keys: while the issuer is slow, tokens that name keys which do not exist
// must not hold all of them.
const maxWaiting = 256

// refresher holds the newest good set of keys. One goroutine loads them, so that there is one attempt at a time; requests
// only ask for the next one, and wait without a lock.
type refresher struct {
	load    func(context.Context) ([]byte, error)
	allowed []jose.SignatureAlgorithm
	pace    pace
	changed func(error)
	set     atomic.Pointer[keySet]
	waiting atomic.Int32
	want    chan struct{} // a token asks for an attempt
	cancel  context.CancelFunc
	ended   chan struct{} // closed when the goroutine has ended; nil: there is none

	mu      sync.Mutex
	running bool
	round   chan struct{} // closed when the attempt that runs, or the next one, has ended
	last    time.Time     // when the last attempt ended
	fault   error         // why it failed
}

func newRefresher(load func(context.Context) ([]byte, error), allowed []jose.SignatureAlgorithm, c TokenConfig) (*refresher, error) {
	r := &refresher{load: load, allowed: allowed, pace: urlPace, changed: c.Changed, want: make(chan struct{}, 1), round: make(chan struct{})}
	if r.changed == nil {
		r.changed = func(error) {}
	}
	ctx, cancel := context.WithCancel(context.Background())
	r.cancel = cancel
	if c.JWKSURL == "" { // what is here can be read at once, and has to be good
		err := r.attempt(ctx)
		if err != nil || c.JWKSFile == "" {
			cancel()
			return r, err
		}
		r.pace = filePace
	}
	r.ended = make(chan struct{})
	r.running = c.JWKSURL != "" // the first requests wait for it
	go r.run(ctx, c.JWKSURL != "")
	return r, nil
}

// run loads keys until the context ends.
func (r *refresher) run(ctx context.Context, now bool) {
	defer close(r.ended)
	timer := time.NewTimer(r.pace.every)
	defer timer.Stop()
	failures, failing := 0, false
	for {
		if now {
			err := r.attempt(ctx)
			if ctx.Err() != nil {
				return
			}
			failures++
			delay := min(r.pace.retry<<min(failures-1, 20), r.pace.slow)
			if err == nil {
				failures, delay = 0, r.pace.every
			}
			if failing != (err != nil) {
				failing = err != nil
				r.changed(err)
			}
			timer.Reset(delay)
		}
		now = true
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		case <-r.want:
		}
	}
}

// attempt loads the keys once. A set that is no good leaves the one that is there in place, and so does one without keys:
// that is how a broken issuer looks, and everybody would be locked out.
func (r *refresher) attempt(ctx context.Context) error {
	r.mu.Lock()
	r.running = true
	select {
	case <-r.want: // this is the attempt that was asked for
	default:
	}
	r.mu.Unlock()

	loading, cancel := context.WithTimeout(ctx, r.pace.load)
	data, err := r.load(loading)
	cancel()
	set := r.set.Load()
	if err == nil && (set == nil || sha256.Sum256(data) != set.digest) { // the same keys keep the tokens that they have verified
		set, err = parseKeySet(data, r.allowed)
	}

	r.mu.Lock()
	defer r.mu.Unlock()
	if err == nil {
		r.set.Store(set)
	}
	r.running, r.fault, r.last = false, err, time.Now()
	close(r.round)
	r.round = make(chan struct{})
	return err
}

// newer is the newest set, for a token that old cannot judge. If old is that, it asks for an attempt, unless the last one
// has only just ended, and waits for it a little while. The result may be old.
func (r *refresher) newer(old *keySet) *keySet {
	r.mu.Lock()
	if set := r.set.Load(); set != old || r.ended == nil {
		r.mu.Unlock()
		return set
	}
	if !r.running {
		// Without any keys attempts follow each other by themselves, more and more slowly.
		if old == nil || time.Since(r.last) < r.pace.gap {
			r.mu.Unlock()
			return old
		}
		select {
		case r.want <- struct{}{}:
		default:
		}
	}
	round := r.round
	r.mu.Unlock()

	if r.waiting.Add(1) <= maxWaiting {
		timer := time.NewTimer(r.pace.wait)
		select {
		case <-round:
		case <-r.ended:
		case <-timer.C:
		}
		timer.Stop()
	}
	r.waiting.Add(-1)
	return r.set.Load()
}

func (r *refresher) ready() error {
	if r.set.Load() != nil {
		return nil
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.fault == nil {
		return ErrUnavailable
	}
	return fmt.Errorf("%w: %w", ErrUnavailable, r.fault)
}

func (r *refresher) close() {
	r.cancel()
	if r.ended != nil {
		<-r.ended
	}
}
