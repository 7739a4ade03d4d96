package ratelimit

import (
	"context"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

func concurrent(n int) Limits { return Limits{Concurrent: n} }

// idle fails the test unless all slots of a scope are free and nobody waits.
func idle(t *testing.T, l *Limiter, scopes ...*Scope) {
	t.Helper()
	for _, s := range scopes {
		s.slots.mu.Lock()
		if s.slots.used != 0 || s.slots.waiting != 0 || s.slots.head != nil || s.slots.tail != nil {
			t.Errorf("%v %s: %d slots used, %d wait", s.kind, s.name, s.slots.used, s.slots.waiting)
		}
		s.slots.mu.Unlock()
	}
	if n := l.Waiting(); n != 0 {
		t.Errorf("%d wait", n)
	}
}

func TestNoMoreRunThanMay(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := New(Options{Queue: Queue{Length: 100, Wait: time.Hour}})
		scopes := [3]*Scope{l.Scope(Key, "k", concurrent(5)), l.Scope(Agent, "a", concurrent(4)), l.Scope(Global, "", concurrent(3))}
		var running, most, ran atomic.Int64
		var all sync.WaitGroup
		for range 50 {
			all.Go(func() {
				var g Grant
				if r := l.Take(t.Context(), scopes, 0, &g); r != nil {
					t.Errorf("refused: %+v", r)
				}
				if r := l.Wait(nil, &g); r != nil {
					t.Errorf("refused: %+v", r)
				}
				n := running.Add(1)
				for old := most.Load(); n > old && !most.CompareAndSwap(old, n); old = most.Load() {
				}
				<-time.After(time.Second)
				running.Add(-1)
				ran.Add(1)
				g.Release()
				g.Release() // counts once
			})
		}
		all.Wait()
		if most.Load() != 3 || ran.Load() != 50 {
			t.Errorf("%d ran at a time and %d in all, want 3 and 50", most.Load(), ran.Load())
		}
		idle(t, l, scopes[:]...)
	})
}

func TestSlotsGoToWhoeverCameFirst(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := New(Options{Queue: Queue{Length: 20, Wait: time.Hour}})
		s := l.Scope(Key, "k", concurrent(1))
		first := mustPass(t, l, s, 0)
		if r := l.Wait(nil, first); r != nil {
			t.Fatalf("refused: %+v", r)
		}
		var mu sync.Mutex
		var order []int
		var all sync.WaitGroup
		for i := range 20 {
			all.Go(func() {
				var g Grant
				l.Take(t.Context(), [3]*Scope{s}, 0, &g)
				if r := l.Wait(nil, &g); r != nil {
					t.Errorf("refused: %+v", r)
				}
				mu.Lock()
				order = append(order, i)
				mu.Unlock()
				<-time.After(time.Second)
				g.Release()
			})
			synctest.Wait() // it stands in line
		}
		if got := l.Waiting(); got != 20 {
			t.Errorf("%d wait, want 20", got)
		}
		first.Release()
		all.Wait()
		if !slices.IsSorted(order) || len(order) != 20 {
			t.Errorf("the order was %v", order)
		}
		idle(t, l, s)
	})
}

// TestANewcomerNeverOvertakes frees a slot while somebody waits, and comes in the same moment.
func TestANewcomerNeverOvertakes(t *testing.T) {
	t.Parallel()
	s := new(slots)
	if !s.try(1) {
		t.Fatal("a free slot is none")
	}
	w := newWaiter().(*waiter)
	if granted, lined := s.line(w, 1, 9); granted || !lined {
		t.Fatal("not in line")
	}
	s.release()
	if s.try(1) {
		t.Error("a newcomer has the slot that was given to who waited")
	}
	<-w.ready
	// Two views of one scope: who may run two at a time stands behind who may run one, though there would be room for him.
	one, two := newWaiter().(*waiter), newWaiter().(*waiter)
	s.line(one, 1, 9)
	if s.try(2) {
		t.Error("a newcomer overtook")
	}
	if granted, lined := s.line(two, 2, 9); granted || !lined {
		t.Error("a newcomer overtook")
	}
	s.leave(one) // and with him gone it is the other's
	select {
	case <-two.ready:
	default:
		t.Error("the place of who left was not given on")
	}
	s.release()
	s.release()
	if s.used != 0 {
		t.Errorf("%d slots are used", s.used)
	}
}

func TestTheLineHasALength(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := New(Options{Queue: Queue{Length: 2, Wait: time.Hour}})
		s := l.Scope(Agent, "a", concurrent(1))
		first := mustPass(t, l, s, 0)
		l.Wait(nil, first)
		var all sync.WaitGroup
		for range 2 {
			all.Go(func() {
				var g Grant
				l.Take(t.Context(), [3]*Scope{s}, 0, &g)
				if r := l.Wait(nil, &g); r != nil {
					t.Errorf("refused: %+v", r)
				}
				g.Release()
			})
		}
		synctest.Wait()
		start := time.Now()
		g := mustPass(t, l, s, 0)
		r := l.Wait(nil, g)
		if r == nil || r.What != Concurrent || r.Kind != Agent || r.Scope != "a" || r.Limit.Events != 1 || r.Wait != time.Second {
			t.Errorf("got %+v, want to be refused", r)
		}
		if time.Since(start) != 0 {
			t.Errorf("it took %v to find the line full", time.Since(start))
		}
		first.Release()
		all.Wait()
		idle(t, l, s)
	})
}

func TestNobodyWaitsWhereThereIsNoLine(t *testing.T) {
	t.Parallel()
	for _, q := range []Queue{{}, {Length: 5}, {Wait: time.Hour}} {
		synctest.Test(t, func(t *testing.T) {
			l := New(Options{Queue: q})
			s := l.Scope(Key, "k", concurrent(1))
			first := mustPass(t, l, s, 0)
			l.Wait(nil, first)
			start := time.Now()
			if r := l.Wait(nil, mustPass(t, l, s, 0)); r == nil || r.What != Concurrent || time.Since(start) != 0 {
				t.Errorf("%+v: got %+v after %v", q, r, time.Since(start))
			}
			first.Release()
			idle(t, l, s)
		})
	}
}

func TestTheWaitIsForAllScopesTogether(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := New(Options{Queue: Queue{Length: 5, Wait: 2 * time.Second}})
		scopes := [3]*Scope{l.Scope(Key, "k", concurrent(1)), l.Scope(Agent, "a", concurrent(1)), nil}
		key, agent := mustPass(t, l, scopes[0], 0), mustPass(t, l, scopes[1], 0)
		l.Wait(nil, key)
		l.Wait(nil, agent)
		time.AfterFunc(1500*time.Millisecond, key.Release)
		start := time.Now()
		var g Grant
		l.Take(t.Context(), scopes, 0, &g)
		if r := l.Wait(nil, &g); r == nil || r.What != Concurrent || r.Kind != Agent {
			t.Errorf("got %+v, want the agent's refusal", r)
		}
		if got := time.Since(start); got != 2*time.Second {
			t.Errorf("waited %v, want 2s", got)
		}
		agent.Release()
		idle(t, l, scopes[0], scopes[1])
	})
}

func TestWhoHangsUpLeavesTheLineAtOnce(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := new(clock)
		l := New(Options{Now: c.now, Queue: Queue{Length: 5, Wait: time.Hour}})
		lim := Limits{Requests: Rate{Events: 10, Per: time.Minute}, Tokens: Rate{Events: 1000, Per: time.Minute}, Concurrent: 1}
		s := l.Scope(Key, "k", lim)
		first := mustPass(t, l, s, 100)
		l.Wait(nil, first)
		done := make(chan struct{})
		start := time.Now()
		var all sync.WaitGroup
		all.Go(func() {
			var g Grant
			l.Take(t.Context(), [3]*Scope{s}, 100, &g)
			r := l.Wait(done, &g)
			if r == nil || r.What != Gone || time.Since(start) != time.Second {
				t.Errorf("got %+v after %v, want to be gone after 1s", r, time.Since(start))
			}
			if r.Status.Requests.Remaining != 8 || r.Status.Tokens.Remaining != 800 {
				t.Errorf("what was charged is not given back: %+v", r.Status)
			}
			g.Settle(5000) // a refused request costs nothing any more
			g.Release()
		})
		synctest.Wait()
		second := new(Grant)
		all.Go(func() {
			l.Take(t.Context(), [3]*Scope{s}, 100, second)
			if r := l.Wait(nil, second); r != nil {
				t.Errorf("refused: %+v", r)
			}
		})
		<-time.After(time.Second)
		close(done)
		synctest.Wait()
		if got := l.Waiting(); got != 1 {
			t.Errorf("%d wait, want 1: the second", got)
		}
		first.Release() // the slot goes to the second, past the one who left
		all.Wait()
		if q := second.Status(); q.Requests.Remaining != 8 || q.Tokens.Remaining != 800 {
			t.Errorf("two are charged, but the status is %+v", q)
		}
		second.Release()
		idle(t, l, s)
	})
}

func TestARefusalForASlotGivesEverythingBack(t *testing.T) {
	t.Parallel()
	c := new(clock)
	l := New(Options{Now: c.now})
	lim := Limits{Requests: Rate{Events: 10, Per: time.Minute}, Tokens: Rate{Events: 1000, Per: time.Minute}, Concurrent: 2}
	scopes := [3]*Scope{l.Scope(Key, "k", lim), l.Scope(Agent, "a", Limits{Requests: lim.Requests, Concurrent: 1}), l.Scope(Global, "", lim)}
	var first Grant
	if l.Take(t.Context(), scopes, 50, &first) != nil || l.Wait(nil, &first) != nil {
		t.Fatal("the first is refused")
	}
	before := levels(scopes, 0)
	var g Grant
	if r := l.Take(t.Context(), scopes, 50, &g); r != nil {
		t.Fatalf("refused: %+v", r)
	}
	if levels(scopes, 0) == before {
		t.Fatal("nothing was charged")
	}
	if r := l.Wait(nil, &g); r == nil || r.Kind != Agent || r.What != Concurrent {
		t.Fatalf("got %+v, want the agent's refusal", r)
	}
	if after := levels(scopes, 0); after != before {
		t.Errorf("left %v, want %v", after, before)
	}
	g.Settle(70)
	g.Release()
	if r := l.Wait(nil, &g); r != nil || levels(scopes, 0) != before || scopes[0].slots.used != 1 || scopes[1].slots.used != 1 {
		t.Error("a refused grant is not inert")
	}
	first.Release()
	idle(t, l, scopes[:]...)
}

// TestSlotsNeverLeak lets grants race with departures, time-outs and releases over three scopes.
func TestSlotsNeverLeak(t *testing.T) {
	t.Parallel()
	l := New(Options{Queue: Queue{Length: 3, Wait: 200 * time.Microsecond}})
	global := l.Scope(Global, "", concurrent(2))
	keys := []*Scope{l.Scope(Key, "0", concurrent(1)), l.Scope(Key, "1", concurrent(2)), l.Scope(Key, "2", concurrent(3))}
	agents := []*Scope{l.Scope(Agent, "0", concurrent(2)), l.Scope(Agent, "1", concurrent(1)), nil}
	// One agent is busy all the time, so that there are refusals whatever the scheduler does.
	busy := mustPass(t, l, agents[1], 0)
	if r := l.Wait(nil, busy); r != nil {
		t.Fatalf("refused: %+v", r)
	}
	var running, refused atomic.Int64
	var all sync.WaitGroup
	for i := range 16 {
		all.Go(func() {
			rnd := rand.New(rand.NewPCG(3, uint64(i)))
			for range 1500 {
				var g Grant
				l.Take(context.Background(), [3]*Scope{keys[rnd.IntN(3)], agents[rnd.IntN(3)], global}, 0, &g)
				ctx, cancel := context.WithCancel(context.Background())
				if rnd.IntN(2) == 0 {
					go cancel()
				}
				if l.Wait(ctx.Done(), &g) == nil {
					if running.Add(1) > 2 {
						t.Error("more run than may")
					}
					running.Add(-1)
				} else {
					refused.Add(1)
				}
				cancel()
				g.Release()
			}
		})
	}
	all.Wait()
	busy.Release()
	idle(t, l, append([]*Scope{global, agents[0], agents[1]}, keys...)...)
	if refused.Load() == 0 {
		t.Error("nobody was refused: the test tests nothing")
	}
}

// TestAGrantThatMeetsADepartureIsGivenOn makes the race happen: the slot is granted and the caller gone when it looks.
func TestAGrantThatMeetsADepartureIsGivenOn(t *testing.T) {
	t.Parallel()
	s := new(slots)
	s.try(1)
	a, b := newWaiter().(*waiter), newWaiter().(*waiter)
	s.line(a, 1, 9)
	s.line(b, 1, 9)
	s.release() // a has it
	s.leave(a)  // and is gone
	select {
	case <-b.ready:
	default:
		t.Fatal("the slot was lost")
	}
	if s.used != 1 || len(a.ready) != 0 {
		t.Errorf("%d used, %d signals left", s.used, len(a.ready))
	}
	s.line(a, 1, 9)
	s.release()
	if !s.expire(a) || s.used != 1 {
		t.Error("a slot that was granted as the time ran out is not kept")
	}
}

func TestTryingTakesWhatIsFreeAndKeepsTheOrder(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := New(Options{Queue: Queue{Length: 5, Wait: time.Hour}})
		scopes := [3]*Scope{l.Scope(Key, "k", concurrent(2)), l.Scope(Agent, "a", concurrent(1)), l.Scope(Global, "", concurrent(2))}
		var first, second, third Grant
		l.Take(t.Context(), scopes, 0, &first)
		if !l.Try(&first) || !first.Concurrent() {
			t.Error("free slots are not taken")
		}
		l.Take(t.Context(), scopes, 0, &second)
		if l.Try(&second) || second.held != 1 {
			t.Errorf("held is %b, want the key's slot alone", second.held)
		}
		time.AfterFunc(time.Second, first.Release)
		if r := l.Wait(nil, &second); r != nil || second.held != 7 {
			t.Errorf("got %+v, held %b", r, second.held)
		}
		// What Try took is given back when Wait is refused.
		done := make(chan struct{})
		close(done)
		l.Take(t.Context(), scopes, 0, &third)
		l.Try(&third)
		if r := l.Wait(done, &third); r == nil || r.What != Gone {
			t.Errorf("got %+v", r)
		}
		if !l.Try(&third) || third.held != 0 || !l.Try(new(Grant)) {
			t.Error("what was refused takes slots")
		}
		second.Release()
		idle(t, l, scopes[:]...)
	})
}

// TestASlotAtTheLastMomentBuysNoMoreTime frees the key's slot in the moment in which the time is over, while the agent's is never
// free: whichever of the two is seen first, nobody waits on.
func TestASlotAtTheLastMomentBuysNoMoreTime(t *testing.T) {
	t.Parallel()
	for range 200 {
		synctest.Test(t, func(t *testing.T) {
			l := New(Options{Queue: Queue{Length: 5, Wait: time.Second}})
			scopes := [3]*Scope{l.Scope(Key, "k", concurrent(1)), l.Scope(Agent, "a", concurrent(1)), nil}
			key, agent := mustPass(t, l, scopes[0], 0), mustPass(t, l, scopes[1], 0)
			l.Wait(nil, key)
			l.Wait(nil, agent)
			time.AfterFunc(time.Second, key.Release)
			gone := make(chan struct{})
			time.AfterFunc(time.Hour, func() { close(gone) })
			start := time.Now()
			var g Grant
			l.Take(t.Context(), scopes, 0, &g)
			if r := l.Wait(gone, &g); r == nil || r.What != Concurrent || time.Since(start) != time.Second {
				t.Fatalf("got %+v after %v, want to be refused after 1s", r, time.Since(start))
			}
			agent.Release()
			synctest.Wait() // the key's slot is given back by a goroutine of this moment
			idle(t, l, scopes[0], scopes[1])
		})
	}
	// The same without chance: the time was over while the key's slot was given.
	l := New(Options{Queue: Queue{Length: 5, Wait: time.Second}})
	s := l.Scope(Agent, "a", concurrent(1))
	l.Wait(nil, mustPass(t, l, s, 0))
	if what := l.stand(nil, &patience{timer: time.NewTimer(time.Hour), over: true}, s); what != Concurrent {
		t.Errorf("got %v, want to be refused at once", what)
	}
}

// TestWhoLeavesAsASlotComesGivesItOn hangs up and frees the slot before the waiter can run.
func TestWhoLeavesAsASlotComesGivesItOn(t *testing.T) {
	t.Parallel()
	for range 300 {
		synctest.Test(t, func(t *testing.T) {
			l := New(Options{Queue: Queue{Length: 5, Wait: time.Hour}})
			s := l.Scope(Key, "k", concurrent(1))
			first, done := mustPass(t, l, s, 0), make(chan struct{})
			l.Wait(nil, first)
			go func() {
				var g Grant
				l.Take(t.Context(), [3]*Scope{s}, 0, &g)
				l.Wait(done, &g)
				g.Release()
			}()
			synctest.Wait()
			close(done)
			first.Release()
			synctest.Wait()
			idle(t, l, s)
		})
	}
}

func TestThePlaceOfWhoRanOutOfTimeIsGivenOn(t *testing.T) {
	t.Parallel()
	s := new(slots)
	s.try(2)
	one, two := newWaiter().(*waiter), newWaiter().(*waiter)
	s.line(one, 1, 9) // one slot is used, so that this one waits, and the next, who may run two, only stands behind
	s.line(two, 2, 9)
	if s.expire(one) || len(two.ready) != 1 || s.used != 2 {
		t.Errorf("%d signals, %d used", len(two.ready), s.used)
	}
}
