//go:build redis

package ratelimit

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// One of the limiters has a clock that is a year ahead, another one that stands still: it is Redis' clock that counts.
func TestRealLimitersShareABucketWhateverTheirClocks(t *testing.T) {
	r := startRedis(t)
	start := time.Now()
	clocks := []func() time.Time{
		nil,
		func() time.Time { return time.Now().AddDate(1, 0, 0) },
		func() time.Time { return start },
	}
	const room, workers, each = 600, 6, 100
	var passed [3]atomic.Int64
	var wg sync.WaitGroup
	for i, clock := range clocks {
		l := New(Options{Store: r.store(t), Now: clock})
		defer l.Close()
		scopes := [3]*Scope{
			l.Scope(Key, "shared", Limits{Requests: Rate{Events: room, Per: 600 * time.Hour}}), nil,
			l.Scope(Global, "", Limits{Requests: Rate{Events: 100 * room, Per: 600 * time.Hour}}),
		}
		for range workers {
			wg.Go(func() {
				var g Grant
				for range each {
					if l.Take(t.Context(), scopes, 0, &g) == nil {
						passed[i].Add(1)
					}
					g.Release()
				}
			})
		}
	}
	wg.Wait()
	sum := passed[0].Load() + passed[1].Load() + passed[2].Load()
	if sum != room || passed[0].Load() == 0 || passed[1].Load() == 0 || passed[2].Load() == 0 {
		t.Errorf("%d, %d and %d passed, want %d together", passed[0].Load(), passed[1].Load(), passed[2].Load(), room)
	}
}

// The same calls of a limiter in the process, whose clock stands still, and of one with Redis, where a second is nothing in ten hours.
func TestRealDecisionsAreThoseOfTheProcess(t *testing.T) {
	r := startRedis(t)
	type step struct {
		key, agent string
		tokens     int64
		settle     int64 // -1: not
	}
	ten := func(n, burst int64) Rate { return Rate{Events: n, Per: 10 * time.Hour, Burst: burst} }
	limits := map[string]Limits{
		"requests": {Requests: ten(5, 0)},
		"burst":    {Requests: ten(10, 3)},
		"tokens":   {Tokens: ten(1000, 0)},
		"both":     {Requests: ten(4, 0), Tokens: ten(100, 50)},
		"fine":     {Tokens: Rate{Events: 1e9, Per: 24 * time.Hour}},
		"agent":    {Requests: ten(12, 0), Tokens: ten(2000, 0)},
		"":         {},
	}
	var steps []step
	for range 7 {
		steps = append(steps, step{key: "requests", settle: -1}, step{key: "burst", agent: "agent", settle: -1})
	}
	steps = append(steps,
		step{"tokens", "", 400, 100}, step{"tokens", "", 400, 400}, step{"tokens", "", 501, -1}, step{"tokens", "", 500, 900}, step{"tokens", "", 0, -1},
		step{"tokens", "", 1, -1}, step{"both", "agent", 200, 200}, step{"both", "agent", 1, -1}, step{"both", "", 0, -1},
		step{"fine", "", 1, 1}, step{"fine", "", 900_500_500, -1}, step{"fine", "", 200_000_000, -1},
		step{"", "agent", 700, 0}, step{"", "agent", 5000, 10}, step{"", "agent", 1, -1},
	)
	for i := range 40 {
		steps = append(steps, step{[]string{"requests", "burst", "tokens", "both", ""}[i%5], []string{"", "agent"}[i/3%2], int64(i * 37 % 300), int64(i*53%400) - 50})
	}
	still := time.Now()
	process := New(Options{Now: func() time.Time { return still }})
	store := &told{Store: r.store(t), adds: make(chan int)}
	redis := New(Options{Store: store, Now: func() time.Time { return still }})
	t.Cleanup(process.Close)
	t.Cleanup(redis.Close)
	do := func(l *Limiter, s step) (said string, additions int) {
		var g Grant
		defer g.Release()
		scopes := [3]*Scope{l.Scope(Key, s.key, limits[s.key]), l.Scope(Agent, s.agent, limits[s.agent]), nil}
		refusal := l.Take(t.Context(), scopes, s.tokens, &g)
		near := func(d time.Duration) time.Duration { return (d + 5*time.Minute).Truncate(10 * time.Minute) }
		tell := func(st Status) string {
			if st.Tokens.Limit > 1e6 { // one comes back in 86 µs
				st.Tokens.Remaining /= 1e6
			}
			return fmt.Sprint(st.Requests.Limit, st.Requests.Remaining, near(st.Requests.Reset), " ", st.Tokens.Limit, st.Tokens.Remaining, near(st.Tokens.Reset))
		}
		if refusal != nil {
			return fmt.Sprint("refused ", refusal.Kind, refusal.What, refusal.Scope, near(refusal.Wait), tell(refusal.Status)), 0
		}
		text := "admitted " + tell(g.Status())
		if s.settle >= 0 {
			g.Settle(s.settle)
			text += ", settled " + tell(g.Status())
			for _, scope := range scopes {
				if s.settle != s.tokens && scope.Limits().Tokens.limited() {
					additions++
				}
			}
		}
		return text, additions
	}
	admitted := 0
	for i, s := range steps {
		got, additions := do(redis, s)
		want, _ := do(process, s)
		if got != want {
			t.Errorf("step %d, %+v: with Redis %s, in the process %s", i, s, got, want)
		}
		if want[0] == 'a' {
			admitted++
		}
		for additions > 0 { // the store is told behind the caller's back
			additions -= <-store.adds
		}
	}
	if admitted < 10 || admitted > len(steps)-10 {
		t.Errorf("%d of %d steps admitted: the table does not tell much", admitted, len(steps))
	}
}

// told is a store whose additions can be waited for.
type told struct {
	Store
	adds chan int
}

func (s *told) Add(ctx context.Context, b []Bucket) error {
	err := s.Store.Add(ctx, b)
	s.adds <- len(b)
	return err
}

// stateChanges collects what a limiter says of its store.
type stateChanges struct {
	mu   sync.Mutex
	list []State
	errs []error
}

func (c *stateChanges) changed(s State, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.list, c.errs = append(c.list, s), append(c.errs, err)
}

func (c *stateChanges) get() []State {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.list)
}

// wait waits for as many changes.
func (c *stateChanges) wait(t *testing.T, n int) {
	t.Helper()
	for range 2000 {
		if len(c.get()) >= n {
			return
		}
		<-time.After(10 * time.Millisecond)
	}
	t.Fatalf("changes: %v, want %d", c.get(), n)
}

// TestRealRedisGoesAndComesBackUnderLoad takes Redis away in each way and each mode, while workers ask without a pause.
func TestRealRedisGoesAndComesBackUnderLoad(t *testing.T) {
	ways := map[string]struct{ away, back func(*testing.T, *realRedis) }{
		"killed":  {func(_ *testing.T, r *realRedis) { r.kill() }, func(t *testing.T, r *realRedis) { r.start(t) }},
		"stalled": {func(t *testing.T, r *realRedis) { r.signal(t, syscall.SIGSTOP) }, func(t *testing.T, r *realRedis) { r.signal(t, syscall.SIGCONT) }},
	}
	for name, way := range ways {
		for _, mode := range []Mode{Local, Open, Closed} {
			t.Run(name+"/"+mode.String(), func(t *testing.T) {
				t.Parallel()
				r := startRedis(t)
				const timeout, workers, room = time.Second, 8, 1 << 20
				var c stateChanges
				l := New(Options{Store: r.store(t, func(c *RedisConfig) { c.Timeout = timeout }), OnError: mode, Replicas: 4, Changed: c.changed})
				defer l.Close()
				load := [3]*Scope{l.Scope(Key, "load", Limits{Requests: Rate{Events: room, Per: 1000 * time.Hour}}), nil, nil}
				few := [3]*Scope{l.Scope(Key, "few", Limits{Requests: Rate{Events: 20, Per: 1000 * time.Hour}}), nil, nil}
				ask := func(s [3]*Scope, n int) (admitted, unavailable int) {
					var g Grant
					for range n {
						switch r := l.Take(context.Background(), s, 0, &g); {
						case r == nil:
							admitted++
						case r.What == Unavailable:
							unavailable++
						}
						g.Release()
					}
					return admitted, unavailable
				}
				if admitted, _ := ask(few, 8); admitted != 8 {
					t.Fatalf("%d of 8 admitted with Redis", admitted)
				}
				var slow, late, calls atomic.Int64
				var stop atomic.Bool
				var wg sync.WaitGroup
				for range workers {
					wg.Go(func() {
						var g Grant
						for !stop.Load() {
							down := len(c.get()) == 1
							start := time.Now()
							refusal := l.Take(context.Background(), load, 0, &g)
							took := time.Since(start)
							g.Release()
							calls.Add(1)
							if took > timeout/2 {
								slow.Add(1)
								if down {
									late.Add(1)
								}
							}
							if took > timeout+2*time.Second {
								t.Errorf("a call took %s, with a timeout of %s", took, timeout)
							}
							if refusal != nil && (mode != Closed || refusal.What != Unavailable) {
								t.Errorf("refused: %s", refusal.What)
							}
							<-time.After(time.Millisecond)
						}
					})
				}
				defer wg.Wait()
				defer stop.Store(true)
				for calls.Load() < 100 {
					<-time.After(time.Millisecond)
				}
				way.away(t, r)
				c.wait(t, 1)
				before := calls.Load()
				for calls.Load() < before+500 {
					<-time.After(time.Millisecond)
				}
				switch admitted, unavailable := ask(few, 40); {
				case mode == Local && (admitted != 5 || unavailable != 0): // a quarter of 20
					t.Errorf("local: %d of 40 admitted, %d unavailable, want 5 and none", admitted, unavailable)
				case mode == Open && admitted != 40:
					t.Errorf("open: %d of 40 admitted", admitted)
				case mode == Closed && unavailable != 40:
					t.Errorf("closed: %d of 40 unavailable", unavailable)
				}
				// At the most each worker was in a call when the breaker opened, and some had been before.
				if n := slow.Load(); n > 2*workers+failuresInARow {
					t.Errorf("%d calls took half of the timeout, of %d", n, calls.Load())
				}
				if n := late.Load(); n > 0 {
					t.Errorf("%d calls did so when the store was known to be down", n)
				}
				if got := c.get(); !slices.Equal(got, []State{Down}) {
					t.Errorf("changes: %v", got)
				}
				way.back(t, r)
				c.wait(t, 2)
				want := 20 // a server that was killed knows nothing
				if name == "stalled" {
					want = 12
				}
				if admitted, unavailable := ask(few, 40); admitted != want || unavailable != 0 {
					t.Errorf("with Redis again: %d of 40 admitted, %d unavailable, want %d and none", admitted, unavailable, want)
				}
				before = calls.Load()
				for calls.Load() < before+100 {
					<-time.After(time.Millisecond)
				}
				if got := c.get(); !slices.Equal(got, []State{Down, Up}) || c.errs[0] == nil || c.errs[1] != nil {
					t.Errorf("changes: %v %v", got, c.errs)
				}
			})
		}
	}
}

func BenchmarkRealLimiter(b *testing.B) {
	r := startRedis(b)
	l := New(Options{Store: r.store(b)})
	defer l.Close()
	many := Limits{Requests: Rate{Events: 1 << 40, Per: time.Second}, Tokens: Rate{Events: 1 << 40, Per: time.Second}}
	for name, scopes := range map[string][3]*Scope{
		"key":  {l.Scope(Key, "a", Limits{Requests: many.Requests})},
		"full": {l.Scope(Key, "b", many), l.Scope(Agent, "b", many), l.Scope(Global, "", many)},
	} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				var g Grant
				if l.Take(b.Context(), scopes, 100, &g) != nil {
					b.Fatal("refused")
				}
				g.Release()
			}
		})
	}
}
