package ratelimit

import (
	"context"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

func TestSettlingChargesWhatItReallyCost(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		reserved, real int64
		remaining      int64
		reset          time.Duration
	}{
		"as estimated":       {20, 20, 40, 20 * time.Second},
		"less":               {20, 5, 55, 5 * time.Second},
		"nothing":            {20, 0, 60, 0},
		"more":               {20, 50, 10, 50 * time.Second},
		"more than there is": {20, 150, 0, 150 * time.Second},
		"debt given back":    {200, 30, 30, 30 * time.Second},
		"debt of less":       {200, 120, 0, 120 * time.Second},
		"nonsense":           {20, -7, 60, 0},
		"from nothing":       {0, 7, 53, 7 * time.Second},
		"from nonsense":      {-5, 7, 53, 7 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			clk := new(clock)
			l := New(Options{Now: clk.now})
			s := l.Scope(Key, "k", tokens(60, time.Minute))
			g := mustPass(t, l, s, c.reserved)
			g.Settle(c.real)
			g.Settle(9999) // counts once
			g.Release()
			if q := g.Status().Tokens; q.Remaining != c.remaining || q.Reset != c.reset {
				t.Errorf("%d remain, full in %v, want %d and %v", q.Remaining, q.Reset, c.remaining, c.reset)
			}
		})
	}
}

func TestAHugeCostIsForgivenBeyond52Days(t *testing.T) {
	t.Parallel()
	c := new(clock)
	l := New(Options{Now: c.now})
	s := l.Scope(Key, "k", tokens(1000, 24*time.Hour))
	for range 5 {
		g := mustPass(t, l, s, 1<<62)
		g.Settle(1<<63 - 1)
		g.Release()
		r := mustRefuse(t, l, s, 1)
		if r.Wait <= 0 || r.Wait > maxSpan {
			t.Fatalf("the wait is %v", r.Wait)
		}
		c.add(maxSpan)
	}
}

func TestRefundsGoUpToAFullBucketOnly(t *testing.T) {
	t.Parallel()
	c := new(clock)
	l := New(Options{Now: c.now})
	s := l.Scope(Key, "k", tokens(60, time.Minute))
	a, b := mustPass(t, l, s, 30), mustPass(t, l, s, 30)
	c.add(50 * time.Second)
	a.Settle(0)
	b.Settle(0)
	if q := b.Status().Tokens; q.Remaining != 60 || q.Reset != 0 {
		t.Errorf("the status is %+v", q)
	}
	mustPass(t, l, s, 60)
	mustRefuse(t, l, s, 1)
}

func TestNothingIsGivenBackOnceTheBucketWasFull(t *testing.T) {
	t.Parallel()
	c := new(clock)
	l := New(Options{Now: c.now})
	s := l.Scope(Key, "k", tokens(60, time.Minute))
	var late []*Grant
	for range 5 { // each empties the bucket, and a minute fills it
		late = append(late, mustPass(t, l, s, 60))
		c.add(time.Minute)
	}
	mustPass(t, l, s, 60)
	for _, g := range late { // if each gave its sixty back now, 360 could be had in this instant
		g.Settle(0)
		mustRefuse(t, l, s, 1)
	}
}

func TestABusyBucketGetsBackWhatWasNotUsedHoweverLate(t *testing.T) {
	t.Parallel()
	c := new(clock)
	l := New(Options{Now: c.now})
	s := l.Scope(Key, "k", tokens(60, time.Minute))
	a := mustPass(t, l, s, 40)
	for range 300 { // five minutes in which the bucket is never full
		c.add(time.Second)
		mustPass(t, l, s, 1)
	}
	a.Settle(10)
	if got := a.Status().Tokens.Reset; got != 10*time.Second {
		t.Errorf("full in %v, want 10s", got)
	}
}

// TestSettlementsAddUpUnderContention has the clock stand still: what remains charged is what was settled, to the nanosecond.
func TestSettlementsAddUpUnderContention(t *testing.T) {
	t.Parallel()
	c := new(clock)
	l := New(Options{Now: c.now})
	rate := Rate{Events: 7_000_003, Per: time.Minute}.normal()
	s := l.Scope(Key, "k", Limits{Tokens: rate})
	keep := mustPass(t, l, s, 1) // so that the bucket is not full meanwhile
	var want atomic.Int64
	var all sync.WaitGroup
	for i := range 8 {
		all.Go(func() {
			rnd := rand.New(rand.NewPCG(7, uint64(i)))
			for range 500 {
				var g Grant
				estimate, real := rnd.Int64N(500), rnd.Int64N(700)
				if l.Take(context.Background(), [3]*Scope{s}, estimate, &g) != nil {
					continue
				}
				g.Settle(real)
				want.Add(int64(rate.cost(real)))
				g.Release()
			}
		})
	}
	all.Wait()
	if got, want := keep.Status().Tokens.Reset, rate.cost(1)+time.Duration(want.Load()); got != want {
		t.Errorf("charged %v, want %v", got, want)
	}
}

// model is the rule told in another way: what is there, growing with time, where the limiter has a time at which it is full.
type model struct {
	capacity, unit, there time.Duration
	now, full             time.Duration // and when a charge last found the bucket as good as full
}

func (m *model) pass(d time.Duration) { m.now += d; m.there = min(m.there+d, m.capacity) }

func (m *model) take(c time.Duration) bool {
	if c > m.there && (c <= m.capacity || m.there < m.capacity) || m.there < 0 {
		return false
	}
	m.charge(c)
	return true
}

func (m *model) charge(c time.Duration) {
	if c > 0 && m.capacity-m.there < m.unit {
		m.full = m.now
	}
	m.there -= c
}

func (m *model) back(c, at time.Duration) {
	if m.full <= at {
		m.there = min(m.there+c, m.capacity)
	}
}

// TestRandomLivesAgreeWithAModel runs random decisions, settlements and refusals of slots over two scopes against the model.
func TestRandomLivesAgreeWithAModel(t *testing.T) {
	t.Parallel()
	for seed := range uint64(60) {
		rnd := rand.New(rand.NewPCG(seed, 1))
		rate := func() Rate {
			r := Rate{Events: 1 + rnd.Int64N(200), Per: time.Duration(1 + rnd.Int64N(int64(time.Minute)))}
			r.Burst = 1 + rnd.Int64N(r.Events)
			return r
		}
		c := new(clock)
		l := New(Options{Now: c.now})
		lim := [2]Limits{{Requests: rate(), Tokens: rate(), Concurrent: 3}, {Requests: rate(), Tokens: rate(), Concurrent: 5}}
		scopes := [3]*Scope{l.Scope(Key, "k", lim[0]), nil, l.Scope(Global, "", lim[1])}
		var ms [4]*model
		var rates [4]Rate
		for i := range ms {
			rates[i] = [...]Rate{lim[i/2].Requests, lim[i/2].Tokens}[i%2]
			ms[i] = &model{capacity: rates[i].capacity(), unit: rates[i].cost(1), there: rates[i].capacity()}
		}
		type life struct {
			g      *Grant
			tokens int64
			at     time.Duration
			slot   bool
		}
		var lives []life
		slots := [2]int{}
		for step := range 3000 {
			d := time.Duration(rnd.Int64N(int64(2*ms[rnd.IntN(4)].unit) + 1))
			if rnd.IntN(50) == 0 {
				d = ms[rnd.IntN(4)].capacity
			}
			c.add(d)
			for _, m := range ms {
				m.pass(d)
			}
			switch n := rnd.IntN(10); {
			case n < 5:
				x := life{g: new(Grant), tokens: rnd.Int64N(rates[1].Burst + 3), at: ms[0].now}
				want := true
				var undo []int
				before := [4]model{*ms[0], *ms[1], *ms[2], *ms[3]}
				for i, m := range ms {
					if !m.take(rates[i].cost([...]int64{1, x.tokens}[i%2])) {
						want = false
						break
					}
					undo = append(undo, i)
				}
				if !want {
					for _, i := range undo {
						*ms[i] = before[i]
					}
				}
				r := l.Take(t.Context(), scopes, x.tokens, x.g)
				if got := r == nil; got != want {
					t.Fatalf("seed %d, step %d: admitted %v, want %v", seed, step, got, want)
				}
				if want {
					lives = append(lives, x)
				}
			case len(lives) == 0:
			case n < 8: // it ends
				i := rnd.IntN(len(lives))
				x := lives[i]
				lives = append(lives[:i], lives[i+1:]...)
				real := rnd.Int64N(rates[1].Events + 3)
				x.g.Settle(real)
				x.g.Release()
				if x.slot {
					slots[0], slots[1] = slots[0]-1, slots[1]-1
				}
				for i := 1; i < 4; i += 2 {
					if diff := rates[i].cost(real) - rates[i].cost(x.tokens); diff > 0 {
						ms[i].charge(diff)
					} else {
						ms[i].back(-diff, x.at)
					}
				}
			default: // it wants a slot, which with a line of no length it gets at once or never
				i := rnd.IntN(len(lives))
				x := &lives[i]
				if x.slot {
					continue
				}
				want := slots[0] < 3 && slots[1] < 5
				if got := l.Wait(nil, x.g) == nil; got != want {
					t.Fatalf("seed %d, step %d: slot %v, want %v", seed, step, got, want)
				}
				if want {
					x.slot = true
					slots[0], slots[1] = slots[0]+1, slots[1]+1
					continue
				}
				for i, m := range ms {
					m.back(rates[i].cost([...]int64{1, x.tokens}[i%2]), x.at)
				}
				lives = append(lives[:i], lives[i+1:]...)
			}
			for i, m := range ms {
				s := scopes[i/2*2]
				if got, want := s.rates[i%2][whole].full(time.Duration(c.ns.Load())), m.capacity-m.there; got != want {
					t.Fatalf("seed %d, step %d: bucket %d lacks %v, want %v", seed, step, i, got, want)
				}
			}
		}
	}
}
