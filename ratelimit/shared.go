package ratelimit

import (
	"context"
	"errors"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

const (
	failuresInARow = 3               // until the store is not asked any more
	probeEvery     = time.Second     // how often it is asked then whether it is back
	callTime       = time.Second     // for a probe, and for a settlement, at most; stores have their own limits, too
	closeTime      = time.Second     // for the settlements that wait when the limiter is closed
	laterLength    = 4096            // settlements and refunds that wait for the store
	laterCharges   = laterLength / 2 // of which this many may be, before charges are dropped and refunds are not
	laterTogether  = 32              // in one call
)

// shared is the store and what keeps it from hurting: a breaker, and a worker for what no caller waits for.
type shared struct {
	store   Store
	changed func(State, error)
	breaker breaker
	calls   sync.Pool // of *[6]Bucket
	queue   chan later
	dropped atomic.Uint64

	ctx    context.Context // of what the goroutines do
	cancel context.CancelFunc
	stop   chan struct{}
	once   sync.Once
	done   sync.WaitGroup
}

// later is what the store is told behind the caller's back.
type later struct {
	scope  *Scope
	d      Dimension
	events int64
}

func newShared(store Store, changed func(State, error)) *shared {
	if changed == nil {
		changed = func(State, error) {}
	}
	s := &shared{
		store: store, changed: changed, queue: make(chan later, laterLength), stop: make(chan struct{}),
		calls: sync.Pool{New: func() any { return new([6]Bucket) }},
	}
	s.breaker.tripped = make(chan error, 1)
	s.ctx, s.cancel = context.WithCancel(context.Background())
	s.done.Go(s.watch)
	s.done.Go(s.work)
	return s
}

func (s *shared) close() {
	s.once.Do(func() {
		close(s.stop)
		defer time.AfterFunc(closeTime, s.cancel).Stop()
		s.done.Wait()
		s.cancel()
		_ = s.store.Close() // nobody is left who could do something about it
	})
}

// breaker counts failures in a row. Its word holds the failures, and above them the epoch, which begins anew when the
// store is back, so that calls which began before then and fail late do not count. At failuresInARow it is open.
type breaker struct {
	word    atomic.Uint64
	tripped chan error // one error for each time it opens
}

const failureBits = 8

// enter reports whether the store may be asked, and the epoch to report the result with.
func (b *breaker) enter() (epoch uint64, up bool) {
	w := b.word.Load()
	return w >> failureBits, w&(1<<failureBits-1) < failuresInARow
}

func (b *breaker) succeeded(epoch uint64) {
	for {
		w := b.word.Load()
		if n := w & (1<<failureBits - 1); w>>failureBits != epoch || n == 0 || n >= failuresInARow || b.word.CompareAndSwap(w, epoch<<failureBits) {
			return
		}
	}
}

func (b *breaker) failed(epoch uint64, err error) {
	for {
		w := b.word.Load()
		n := w & (1<<failureBits - 1)
		if w>>failureBits != epoch || n >= failuresInARow {
			return
		}
		if b.word.CompareAndSwap(w, w+1) {
			if n+1 == failuresInARow {
				b.tripped <- err // has room: it opens again only behind reset, which comes behind its receiver
			}
			return
		}
	}
}

// reset closes the breaker again.
func (b *breaker) reset() { b.word.Store((b.word.Load()>>failureBits + 1) << failureBits) }

// result tells the breaker of a call. Whoever hung up has not made the store fail.
func (s *shared) result(ctx context.Context, epoch uint64, err error) {
	switch {
	case err == nil:
		s.breaker.succeeded(epoch)
	case !errors.Is(ctx.Err(), context.Canceled):
		s.breaker.failed(epoch, err)
	}
}

// watch tells of each change, and asks a store that is down whether it is back.
func (s *shared) watch() {
	for {
		select {
		case <-s.stop:
			return
		case err := <-s.breaker.tripped:
			s.changed(Down, err)
		}
		if !s.back() {
			return
		}
		s.breaker.reset()
		s.changed(Up, nil)
	}
}

// back returns when the store is back; false: when the limiter is closed.
func (s *shared) back() bool {
	tick := time.NewTicker(probeEvery)
	defer tick.Stop()
	for {
		select {
		case <-s.stop:
			return false
		case <-tick.C:
		}
		if s.ping() == nil {
			return true
		}
	}
}

func (s *shared) ping() error {
	ctx, cancel := context.WithTimeout(s.ctx, callTime)
	defer cancel()
	return s.store.Ping(ctx)
}

// later puts a correction into the worker's queue, if there is room for it.
func (s *shared) later(scope *Scope, d Dimension, events int64) {
	if events > 0 && len(s.queue) >= laterCharges {
		s.dropped.Add(1)
		return
	}
	select {
	case s.queue <- later{scope, d, events}:
	default:
		s.dropped.Add(1)
	}
}

// work tells the store what is in the queue, as much as there is at a time.
func (s *shared) work() {
	batch := make([]Bucket, 0, laterTogether)
	for {
		select {
		case x := <-s.queue:
			s.add(batch, x)
			continue
		case <-s.stop:
		}
		for { // what is there is told yet
			select {
			case x := <-s.queue:
				s.add(batch, x)
				continue
			default:
			}
			return
		}
	}
}

// add tells the store one correction together with those that wait behind it.
func (s *shared) add(batch []Bucket, x later) {
	n := uint64(0)
	for more := true; more; {
		n++
		batch = merge(batch, x)
		if more = len(batch) < laterTogether; more {
			select {
			case x = <-s.queue:
			default:
				more = false
			}
		}
	}
	epoch, up := s.breaker.enter()
	if up {
		ctx, cancel := context.WithTimeout(s.ctx, callTime)
		err := s.store.Add(ctx, batch)
		s.result(ctx, epoch, err)
		cancel()
		up = err == nil
	}
	if !up {
		s.dropped.Add(n)
	}
}

// merge adds a correction to its bucket in the batch.
func merge(batch []Bucket, x later) []Bucket {
	key := x.scope.keys[x.d]
	for i := range batch {
		if b := &batch[i]; b.Key == key {
			if sum := b.Cost + x.events; (sum > b.Cost) == (x.events > 0) { // else it overflows, which nobody owes
				b.Cost = sum
			}
			return batch
		}
	}
	return append(batch, Bucket{Key: key, Rate: x.scope.plan.meters[whole][x.d].rate, Cost: x.events})
}

// takeShared lets the store decide. An error says that it did not.
func (l *Limiter) takeShared(ctx context.Context, g *Grant, epoch uint64) (*Refusal, error) {
	call := l.shared.calls.Get().(*[6]Bucket)
	defer l.shared.calls.Put(call)
	b := g.buckets(call[:0], 1, g.tokens)
	ok, err := l.shared.store.Take(ctx, b)
	if err == nil && !ok && !slices.ContainsFunc(b, func(x Bucket) bool { return !x.OK }) {
		err = errUndecided
	}
	l.shared.result(ctx, epoch, err)
	if err != nil {
		return nil, err
	}
	g.saw(b, ok)
	if ok {
		g.charged = inWhole
		return nil, nil
	}
	var r Refusal
	refused := false
	g.each(func(i int, s *Scope, d Dimension) {
		if b[i].OK {
			return
		}
		w := b[i].wait()
		if !refused {
			r, refused = s.refused(whole, d, w), true
		}
		r.Wait = max(r.Wait, w)
	})
	r.Status = l.status(&g.scopes, whole, g.at)
	return g.refuse(r), nil
}

var errUndecided = errors.New("the store refuses but no bucket does")

// peekShared asks the store for the state of the buckets.
func (l *Limiter) peekShared(ctx context.Context, g *Grant, epoch uint64) error {
	call := l.shared.calls.Get().(*[6]Bucket)
	defer l.shared.calls.Put(call)
	b := g.buckets(call[:0], 0, 0)
	_, err := l.shared.store.Take(ctx, b)
	l.shared.result(ctx, epoch, err)
	if err == nil {
		g.saw(b, true)
	}
	return err
}

// each calls f for every limited rate, in the order of the buckets.
func (g *Grant) each(f func(i int, s *Scope, d Dimension)) {
	i := 0
	for _, s := range g.scopes {
		if s == nil {
			continue
		}
		for d, c := range s.rates {
			if c != nil {
				f(i, s, Dimension(d))
				i++
			}
		}
	}
}

// buckets appends what the store is asked.
func (g *Grant) buckets(b []Bucket, requests, tokens int64) []Bucket {
	cost := [...]int64{requests, tokens}
	g.each(func(_ int, s *Scope, d Dimension) {
		b = append(b, Bucket{Key: s.keys[d], Rate: s.plan.meters[whole][d].rate, Cost: cost[d]})
	})
	return b
}

// saw keeps what the store said, for headers, and for refunds.
func (g *Grant) saw(b []Bucket, charged bool) {
	g.at = g.limiter.now()
	g.each(func(i int, s *Scope, d Dimension) {
		m, c := &s.plan.meters[whole][d], time.Duration(0)
		if charged {
			c = m.cost(b[i].Cost)
		}
		s.rates[d][whole].saw(m, min(max(b[i].Full, 0), maxSpan), c, g.at)
	})
}
