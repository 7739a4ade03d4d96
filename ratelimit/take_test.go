package ratelimit

import (
	"context"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

func TestNeverOneTooManyUnderContention(t *testing.T) {
	t.Parallel()
	for _, rate := range []Rate{
		{Events: 1000, Per: time.Second, Burst: 1000},
		{Events: 7, Per: time.Second, Burst: 7},
		{Events: 1_000_000_000, Per: 7 * time.Second, Burst: 997},
		{Events: 60, Per: time.Minute, Burst: 1},
	} {
		c := new(clock)
		l := New(Options{Now: c.now})
		s := l.Scope(Key, "k", Limits{Requests: rate})
		unit := rate.cost(1)
		want := rate.Burst
		var admitted atomic.Int64
		hammer := func() {
			var all sync.WaitGroup
			for range 16 {
				all.Go(func() {
					var g Grant
					for range 200 {
						if l.Take(context.Background(), [3]*Scope{s}, 0, &g) == nil {
							admitted.Add(1)
							g.Release()
						}
					}
				})
			}
			all.Wait()
		}
		hammer()
		if got := admitted.Load(); got != want {
			t.Errorf("%v: %d passed at once, want %d", rate, got, want)
		}
		for i := range 20 { // and again for what has refilled by then: 0 or 1, exactly
			c.add(unit / 2)
			if i%2 == 1 {
				c.add(unit % 2)
				want++
			}
			hammer()
			if got := admitted.Load(); got != want {
				t.Fatalf("%v: %d passed after %d half units, want %d", rate, got, i+1, want)
			}
		}
	}
}

func TestNeverOneTooManyWhileTheClockRuns(t *testing.T) {
	t.Parallel()
	rate := Rate{Events: 9973, Per: time.Second, Burst: 5003}
	c := new(clock)
	l := New(Options{Now: c.now})
	s := l.Scope(Key, "k", Limits{Requests: rate})
	var admitted atomic.Int64
	var all sync.WaitGroup
	empty := make(chan struct{})
	drain := func() {
		var g Grant
		for l.Take(context.Background(), [3]*Scope{s}, 0, &g) == nil {
			admitted.Add(1)
		}
	}
	drain()
	for range 8 {
		all.Go(func() {
			for {
				drain()
				select {
				case <-empty:
					return
				default:
				}
			}
		})
	}
	elapsed := time.Duration(0)
	for range 40_000 { // less than the bucket holds, so that it is never full and nothing is lost
		c.add(9_973)
		elapsed += 9_973
	}
	close(empty)
	all.Wait()
	drain()
	if got, want := admitted.Load(), int64((rate.capacity()+elapsed)/rate.cost(1)); got != want {
		t.Errorf("%d passed, want %d", got, want)
	}
}

func TestNoIntervalSeesOneTooMany(t *testing.T) {
	t.Parallel()
	rnd := rand.New(rand.NewPCG(1, 2))
	for _, rate := range []Rate{
		{Events: 7, Per: time.Second, Burst: 7}, {Events: 7, Per: time.Second, Burst: 2}, {Events: 60, Per: time.Minute, Burst: 60},
		{Events: 3, Per: 10 * time.Millisecond, Burst: 3}, {Events: 1, Per: time.Hour, Burst: 1}, {Events: 999_983, Per: 24 * time.Hour, Burst: 11},
	} {
		c := new(clock)
		l := New(Options{Now: c.now, Queue: Queue{}})
		s := l.Scope(Key, "k", Limits{Requests: rate, Concurrent: 1})
		var busy Grant // makes Wait refuse, which gives back
		if r := l.Take(t.Context(), [3]*Scope{s}, 0, &busy); r != nil || l.Wait(nil, &busy) != nil {
			t.Fatal("the first is refused")
		}
		passed := []time.Duration{0}
		var open []*Grant
		for range 4000 {
			c.add(time.Duration(rnd.Int64N(int64(2*rate.cost(1)) + 1)))
			if rnd.IntN(30) == 0 {
				c.add(rate.capacity())
			}
			switch rnd.IntN(4) {
			case 0:
				g := new(Grant)
				if l.Take(t.Context(), [3]*Scope{s}, 0, g) == nil {
					open = append(open, g) // it waits for a slot, and is refused some time
				}
			case 1:
				if len(open) > 0 {
					i := rnd.IntN(len(open))
					if l.Wait(nil, open[i]) == nil {
						t.Fatal("a slot too many")
					}
					open = append(open[:i], open[i+1:]...)
				}
			default:
				g := new(Grant)
				if l.Take(t.Context(), [3]*Scope{s}, 0, g) == nil {
					g.Release()
					passed = append(passed, time.Duration(c.ns.Load()))
				}
			}
		}
		if len(passed) < 100 {
			t.Fatalf("%v: only %d passed", rate, len(passed))
		}
		for i := range passed {
			for j := i; j < min(len(passed), i+300); j++ {
				most := rate.Burst + mulDiv(rate.Events, int64(passed[j]-passed[i]), int64(rate.Per))
				if n := int64(j - i + 1); n > most {
					t.Fatalf("%v: %d passed within %v, want %d at most", rate, n, passed[j]-passed[i], most)
				}
			}
		}
	}
}

func TestOddRatesAreExactOverAYear(t *testing.T) {
	t.Parallel()
	for _, rate := range []Rate{{Events: 7, Per: time.Second}, {Events: 13, Per: time.Minute}, {Events: 999_999_937, Per: 24 * time.Hour}} {
		rate = rate.normal()
		c := new(clock)
		l := New(Options{Now: c.now})
		s := l.Scope(Key, "k", Limits{Requests: rate, Tokens: rate})
		// At once: exactly the bucket.
		var requests int64
		for ; requests < 100 && requests < rate.Burst; requests++ {
			mustPass(t, l, s, rate.Burst/min(rate.Burst, 100))
		}
		c.add(rate.capacity())
		// A year of asking for a full bucket of tokens whenever there is one.
		n := rate.Events
		start := c.ns.Load()
		var got int64
		for year := int64(365 * 24 * time.Hour); c.ns.Load()-start < year; got += n {
			g := new(Grant)
			r := l.Take(t.Context(), [3]*Scope{s}, n, g)
			for r != nil {
				c.add(r.Wait)
				r = l.Take(t.Context(), [3]*Scope{s}, n, g)
			}
			if rate.Per < time.Minute {
				c.add(rate.Per * 1000)
				got += n * 999
			}
		}
		passed := time.Duration(c.ns.Load() - start)
		most := rate.Burst + mulDiv(rate.Events, int64(passed), int64(rate.Per))
		if got > most+1000*n || float64(got) < float64(most)*0.999999-float64(1000*n) {
			t.Errorf("%v: %d within %v, want about %d", rate, got, passed, most)
		}
	}
}

func TestABurstOfAnOddRatePassesWhole(t *testing.T) {
	t.Parallel()
	for _, n := range []int64{1, 3, 7, 11, 13, 59, 999, 9973} {
		c := new(clock)
		l := New(Options{Now: c.now})
		s := l.Scope(Key, "k", perSecond(n))
		if got := l.Peek(t.Context(), [3]*Scope{s}).Requests.Remaining; got != n {
			t.Errorf("%d/s: a full bucket has %d", n, got)
		}
		for i := range n {
			g := mustPass(t, l, s, 0)
			if got, want := g.Status().Requests.Remaining, n-i-1; got != want {
				t.Fatalf("%d/s: %d remain after %d, want %d", n, got, i+1, want)
			}
		}
		r := mustRefuse(t, l, s, 0)
		c.add(r.Wait - 1)
		mustRefuse(t, l, s, 0)
		c.add(1)
		mustPass(t, l, s, 0)
	}
}

func TestAllScopesAreChargedOrNone(t *testing.T) {
	t.Parallel()
	lim := func(requests, tokens int64) Limits {
		return Limits{Requests: Rate{Events: requests, Per: time.Minute}, Tokens: Rate{Events: tokens, Per: time.Minute}}
	}
	for name, c := range map[string]struct {
		key, agent, global Limits
		kind               Kind
		what               Dimension
		scope              string
	}{
		"requests of the key":   {lim(2, 1e6), lim(9, 1e6), lim(9, 1e6), Key, Requests, "k"},
		"tokens of the key":     {lim(9, 250), lim(9, 1e6), lim(9, 1e6), Key, Tokens, "k"},
		"requests of the agent": {lim(9, 1e6), lim(2, 1e6), lim(9, 1e6), Agent, Requests, "a"},
		"tokens of the agent":   {lim(9, 1e6), lim(9, 250), lim(9, 1e6), Agent, Tokens, "a"},
		"requests of all":       {lim(9, 1e6), lim(9, 1e6), lim(2, 1e6), Global, Requests, "g"},
		"tokens of all":         {lim(9, 1e6), lim(9, 1e6), lim(9, 250), Global, Tokens, "g"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			clk := new(clock)
			l := New(Options{Now: clk.now})
			scopes := [3]*Scope{l.Scope(Key, "k", c.key), l.Scope(Agent, "a", c.agent), l.Scope(Global, "g", c.global)}
			for range 2 {
				var g Grant
				if r := l.Take(t.Context(), scopes, 100, &g); r != nil {
					t.Fatalf("refused: %+v", r)
				}
			}
			before := levels(scopes, 0)
			var g Grant
			r := l.Take(t.Context(), scopes, 100, &g)
			if r == nil || r.Kind != c.kind || r.What != c.what || r.Scope != c.scope {
				t.Fatalf("got %+v, want a refusal of %v %v", r, c.kind, c.what)
			}
			if after := levels(scopes, 0); after != before {
				t.Errorf("a refusal charged: %v, before %v", after, before)
			}
			clk.add(r.Wait - 1)
			if l.Take(t.Context(), scopes, 100, &g) == nil {
				t.Error("admitted before its time")
			}
			clk.add(1)
			if r := l.Take(t.Context(), scopes, 100, &g); r != nil {
				t.Errorf("refused after its time: %+v", r)
			}
		})
	}
}

// levels is how long until each bucket is full.
func levels(scopes [3]*Scope, now time.Duration) (full [6]time.Duration) {
	for i, s := range scopes {
		if s == nil {
			continue
		}
		for d, c := range s.rates {
			if c != nil {
				full[2*i+d] = c[whole].full(now)
			}
		}
	}
	return full
}

func TestAWaitIsForAllLimitsThatRefuse(t *testing.T) {
	t.Parallel()
	c := new(clock)
	l := New(Options{Now: c.now})
	scopes := [3]*Scope{l.Scope(Key, "k", perSecond(1)), l.Scope(Agent, "a", Limits{Requests: Rate{1, time.Minute, 1}}), nil}
	var g Grant
	l.Take(t.Context(), scopes, 0, &g)
	r := l.Take(t.Context(), scopes, 0, &g)
	if r == nil || r.Kind != Key || r.Wait != time.Minute {
		t.Errorf("got %+v, want the key's refusal and the agent's minute", r)
	}
}

// TestUndoIsExactUnderContention has many callers of a wide key and a narrow agent: the key is charged for those alone whom
// the agent admits.
func TestUndoIsExactUnderContention(t *testing.T) {
	t.Parallel()
	c := new(clock)
	l := New(Options{Now: c.now})
	wide := Limits{Requests: Rate{Events: 100_000, Per: time.Hour}, Tokens: Rate{Events: 1e9, Per: time.Hour}}
	narrow := Limits{Requests: Rate{Events: 500, Per: time.Hour}}
	scopes := [3]*Scope{l.Scope(Key, "k", wide), l.Scope(Agent, "a", narrow), l.Scope(Global, "", wide)}
	var admitted atomic.Int64
	var all sync.WaitGroup
	for range 16 {
		all.Go(func() {
			var g Grant
			for range 200 {
				if l.Take(context.Background(), scopes, 77, &g) == nil {
					admitted.Add(1)
				}
			}
		})
	}
	all.Wait()
	if got := admitted.Load(); got != 500 {
		t.Errorf("%d passed, want 500", got)
	}
	w, n := &scopes[0].plan.meters[whole], &scopes[1].plan.meters[whole]
	want := [6]time.Duration{500 * w[Requests].unit, 500 * w[Tokens].cost(77), 500 * n[Requests].unit, 0, 500 * w[Requests].unit, 500 * w[Tokens].cost(77)}
	if got := levels(scopes, 0); got != want {
		t.Errorf("charged %v, want %v", got, want)
	}
}

// TestALostRaceIsUndone makes the second pass of a decision refuse what the first has seen admitted.
func TestALostRaceIsUndone(t *testing.T) {
	t.Parallel()
	c := new(clock)
	l := New(Options{Now: c.now})
	lim := Limits{Requests: Rate{Events: 10, Per: time.Minute}, Tokens: Rate{Events: 1000, Per: time.Minute}}
	scopes := [3]*Scope{l.Scope(Key, "k", lim), l.Scope(Agent, "a", lim), l.Scope(Global, "", lim)}
	var g Grant
	g.begin(l, &scopes, 100)
	var costs [3][2]time.Duration
	if _, refused := l.look(&g, whole, &costs); refused {
		t.Fatal("refused")
	}
	before := levels(scopes, 0)
	for i, s := range scopes {
		for d := range s.rates {
			s.rates[d][whole].take(&s.plan.meters[whole][d], costs[i][d], 0)
			if i == 2 && d == int(Tokens) {
				s.rates[d][whole].refund(costs[i][d], 0, 0) // the one that was lost was not charged
			}
		}
	}
	g.undo(whole, 2, int(Tokens), &costs)
	if got := levels(scopes, 0); got != before {
		t.Errorf("left %v, want %v", got, before)
	}
}

func TestARequestBeyondTheBucketNeedsAFullOneAndRunsIntoDebt(t *testing.T) {
	t.Parallel()
	c := new(clock)
	l := New(Options{Now: c.now})
	s := l.Scope(Key, "k", tokens(60, time.Minute))
	small := mustPass(t, l, s, 1)
	if r := mustRefuse(t, l, s, 300); r.What != Tokens || r.Wait != time.Second {
		t.Errorf("got %+v, want to wait for a full bucket: a second", r)
	}
	small.Release()
	c.add(time.Second)
	big := mustPass(t, l, s, 300)
	if q := big.Status().Tokens; q.Remaining != 0 || q.Reset != 5*time.Minute {
		t.Errorf("in debt the status is %+v", q)
	}
	if r := mustRefuse(t, l, s, 1); r.Wait != 4*time.Minute+time.Second {
		t.Errorf("the wait in debt is %v", r.Wait)
	}
	if r := mustRefuse(t, l, s, 0); r.Wait != 4*time.Minute {
		t.Errorf("a request of no tokens passes in debt, or waits %v", r.Wait)
	}
	c.add(4*time.Minute + time.Second)
	mustPass(t, l, s, 1)
}

func TestOnlyOneOfManyRunsIntoDebt(t *testing.T) {
	t.Parallel()
	c := new(clock)
	l := New(Options{Now: c.now})
	s := l.Scope(Key, "k", tokens(1000, time.Minute))
	var admitted atomic.Int64
	var all sync.WaitGroup
	for range 32 {
		all.Go(func() {
			var g Grant
			if l.Take(context.Background(), [3]*Scope{s}, 5000, &g) == nil {
				admitted.Add(1)
			}
		})
	}
	all.Wait()
	if got := admitted.Load(); got != 1 {
		t.Errorf("%d passed, want 1", got)
	}
}

func TestAStepOfTheWallClockMovesNothing(t *testing.T) {
	t.Parallel()
	l := New(Options{})
	if l.clock != nil || l.base.Round(0) == l.base { //nolint:staticcheck // Equal does not see what is compared here
		t.Fatal("the limiter's base is no monotonic time")
	}
	s := l.Scope(Key, "k", Limits{Requests: Rate{Events: 2, Per: time.Hour}})
	mustPass(t, l, s, 0)
	mustPass(t, l, s, 0)
	mustRefuse(t, l, s, 0)
	// A clock that steps back behind the start of the limiter neither opens nor closes anything for longer than it steps.
	c := new(clock)
	c.add(time.Hour)
	l = New(Options{Now: c.now})
	c.add(-2 * time.Hour)
	s = l.Scope(Key, "k", Limits{Requests: Rate{Events: 2, Per: time.Hour}})
	mustPass(t, l, s, 0)
	mustPass(t, l, s, 0)
	mustRefuse(t, l, s, 0)
}

func TestADecisionAllocatesNothing(t *testing.T) {
	l := New(Options{})
	scopes := threeScopes(l)
	subject := [3]*Scope{nil, scopes[1], nil}
	one := l.Scope(Key, "one", Limits{Requests: Rate{Events: 1, Per: time.Hour}})
	mustPass(t, l, one, 0)
	var g Grant
	for name, f := range map[string]func(){
		"admitted": func() { once(t, l, scopes, &g) },
		"subject":  func() { subject[0] = l.Subject("https://issuer.example|someone", everything); once(t, l, subject, &g) },
		"refused":  func() { l.Take(context.Background(), [3]*Scope{one}, 0, &g) },
		"status":   func() { _ = g.Status() },
		"estimate": func() { EstimateInput([]byte("{}")) },
	} {
		if n := testing.AllocsPerRun(1000, f); n != 0 {
			t.Errorf("%s: %v allocations", name, n)
		}
	}
}

// TestABucketDecidesByItself has no look before it: what it refuses in a race is refused to the nanosecond.
func TestABucketDecidesByItself(t *testing.T) {
	t.Parallel()
	m := newMeter(Rate{Events: 7, Per: time.Second})
	var b bucket
	for range 7 {
		if _, ok := b.take(&m, m.unit, 0); !ok {
			t.Fatal("a burst is refused")
		}
	}
	if _, ok := b.take(&m, m.unit, m.unit-1); ok {
		t.Error("admitted a nanosecond early")
	}
	if _, ok := b.take(&m, m.capacity+1, m.capacity-1); ok {
		t.Error("admitted into debt a nanosecond before the bucket is full")
	}
	if _, ok := b.take(&m, m.capacity+1, m.capacity); !ok {
		t.Error("a full bucket refuses a debt")
	}
	b.add(&m, maxSpan, m.capacity)
	b.add(&m, maxSpan, m.capacity)
	if got := b.full(m.capacity); got != maxSpan {
		t.Errorf("the debt is %v, want %v at most", got, time.Duration(maxSpan))
	}
}

// TestWhatALaterRefusalLosesIsGivenBack asks one scope twice at once, so that the second charge is refused although the look at
// all buckets found room for each.
func TestWhatALaterRefusalLosesIsGivenBack(t *testing.T) {
	t.Parallel()
	c := new(clock)
	l := New(Options{Now: c.now})
	one := l.Scope(Key, "k", Limits{Requests: Rate{Events: 1, Per: time.Minute}})
	var g Grant
	r := l.Take(t.Context(), [3]*Scope{one, one}, 0, &g)
	if r == nil || r.What != Requests || r.Wait <= 0 {
		t.Errorf("got %+v, want to be refused", r)
	}
	if got := one.rates[Requests][whole].full(0); got != 0 {
		t.Errorf("%v is still charged", got)
	}
}
