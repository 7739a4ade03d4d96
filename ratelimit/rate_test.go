package ratelimit

import (
	"math"
	"math/big"
	"testing"
	"time"
)

// exactCost is ⌈n·Per/Events⌉ without bounds.
func exactCost(r Rate, n int64) *big.Int {
	p := new(big.Int).Mul(big.NewInt(n), big.NewInt(int64(r.Per)))
	p.Add(p, big.NewInt(r.Events-1))
	return p.Div(p, big.NewInt(r.Events))
}

func bounded(n *big.Int) time.Duration {
	if n.Cmp(big.NewInt(maxSpan)) > 0 {
		return maxSpan
	}
	return time.Duration(n.Int64())
}

func TestCostsAreRoundedUpAndNeverOverflow(t *testing.T) {
	t.Parallel()
	events := []int64{1, 2, 3, 7, 60, 999, 1000, 100_000, 700_000, 1_000_000_007, 1_000_000_000_000, math.MaxInt64}
	pers := []time.Duration{1, 7, time.Second, time.Minute, time.Hour, 24 * time.Hour, maxSpan}
	counts := []int64{1, 2, 59, 60, 61, 1234, 1 << 31, 1 << 53, 1 << 62, math.MaxInt64}
	for _, e := range events {
		for _, p := range pers {
			r := Rate{Events: e, Per: p}.normal()
			for _, n := range counts {
				if got, want := r.cost(n), bounded(exactCost(r, n)); got != want {
					t.Errorf("%v.cost(%d) = %d, want %d", r, n, got, want)
				}
			}
			unit := exactCost(r, 1)
			if got, want := r.capacity(), bounded(unit.Mul(unit, big.NewInt(r.Burst))); got != want {
				t.Errorf("%v.capacity() = %d, want %d", r, got, want)
			}
		}
	}
}

func TestWhatLimitsNothingCostsNothing(t *testing.T) {
	t.Parallel()
	for _, r := range []Rate{{}, {Events: 5}, {Per: time.Second}, {Events: -5, Per: time.Second}, {Events: 5, Per: -1}, {Burst: 3}} {
		if r.limited() || r.cost(5) != 0 || r.capacity() != 0 || r.normal() != (Rate{}) || !(Limits{Requests: r, Tokens: r}).IsZero() {
			t.Errorf("%v limits something", r)
		}
	}
	r := Rate{Events: 5, Per: time.Second}
	if r.cost(0) != 0 || r.cost(-3) != 0 || r.cost(math.MinInt64) != 0 {
		t.Error("no events cost something")
	}
	if (Limits{Concurrent: 1}).IsZero() || (Limits{Tokens: r}).IsZero() || !(Limits{Concurrent: -1}).IsZero() {
		t.Error("IsZero is wrong")
	}
}

func TestABurstOutOfRangeIsTheWholeRate(t *testing.T) {
	t.Parallel()
	for burst, want := range map[int64]int64{0: 60, -1: 60, 61: 60, 60: 60, 1: 1, 10: 10} {
		if got := (Rate{60, time.Minute, burst}).normal().Burst; got != want {
			t.Errorf("burst %d is %d, want %d", burst, got, want)
		}
	}
}

func TestReplicasShareARateRoundedUp(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		rate Rate
		n    int64
		want Rate
	}{
		{Rate{60, time.Minute, 60}, 1, Rate{60, time.Minute, 60}},
		{Rate{60, time.Minute, 0}, 4, Rate{15, time.Minute, 15}},
		{Rate{60, time.Minute, 10}, 4, Rate{15, time.Minute, 3}},
		{Rate{7, time.Second, 7}, 2, Rate{4, time.Second, 4}},
		{Rate{3, time.Second, 1}, 10, Rate{1, time.Second, 1}},
		{Rate{}, 3, Rate{}},
	} {
		if got := c.rate.share(c.n); got != c.want {
			t.Errorf("%v.share(%d) = %v, want %v", c.rate, c.n, got, c.want)
		}
	}
}

// FuzzArithmetic holds whatever numbers there are to the invariants of a bucket.
func FuzzArithmetic(f *testing.F) {
	f.Add(int64(60), int64(time.Minute), int64(60), int64(1), int64(1<<62), int64(0))
	f.Add(int64(7), int64(time.Second), int64(3), int64(-1), int64(math.MinInt64), int64(time.Hour))
	f.Add(int64(math.MaxInt64), int64(math.MaxInt64), int64(math.MaxInt64), int64(math.MaxInt64), int64(math.MaxInt64), int64(math.MaxInt64))
	f.Add(int64(1), int64(math.MaxInt64), int64(1), int64(1<<62), int64(1), int64(1<<61))
	f.Add(int64(28), int64(math.MaxInt64), int64(-133), int64(1<<62), int64(1), int64(2305843009213694035)) // a capacity at its bound
	f.Fuzz(func(t *testing.T, events, per, burst, estimate, real, step int64) {
		c := new(clock)
		l := New(Options{Now: c.now})
		r := Rate{events, time.Duration(per), burst}
		s := l.Scope(Key, "k", Limits{Requests: r, Tokens: r})
		if s == nil {
			if r.limited() {
				t.Fatal("a limited scope is nil")
			}
			return
		}
		for range 3 {
			var g Grant
			for _, settled := range []int64{real, estimate} {
				refused := l.Take(t.Context(), [3]*Scope{s}, estimate, &g)
				if refused != nil && refused.Wait <= 0 {
					t.Fatalf("refused without a wait: %+v", refused)
				}
				g.Settle(settled)
				g.Release()
				st := g.Status()
				for _, q := range []Quota{st.Requests, st.Tokens} {
					if q.Remaining < 0 || q.Remaining > q.Limit || q.Reset < 0 || q.Reset > maxSpan || q.Next < 0 || q.Next > q.Reset {
						t.Fatalf("impossible quota %+v", q)
					}
					for _, w := range []time.Duration{0, time.Minute, 24 * time.Hour, time.Duration(step)} {
						if limit, left := q.Window(w); limit < 0 || left < 0 || left > limit {
							t.Fatalf("impossible window of %v: %d of %d", w, left, limit)
						}
					}
				}
				st.Headers(time.Unix(0, 0), func(string, string) {})
			}
			c.add(time.Duration(uint64(step) % (1 << 60)))
		}
		// What is not charged for as long as a bucket can lack is full again.
		c.add(maxSpan)
		var g Grant
		if refused := l.Take(t.Context(), [3]*Scope{s}, estimate, &g); refused != nil {
			t.Fatalf("a full bucket refuses: %+v", refused)
		}
	})
}
