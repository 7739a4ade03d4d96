package balance

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// clock is a time that a test moves.
type clock struct{ ns atomic.Int64 }

func (c *clock) now() time.Time          { return time.Unix(1_000_000, c.ns.Load()) }
func (c *clock) advance(d time.Duration) { c.ns.Add(int64(d)) }

// world is a set with a clock and what it told.
type world struct {
	clock
	t    testing.TB
	set  *Set
	told []string
}

func newWorld(t testing.TB, n int, o Options) *world {
	w := &world{t: t}
	o.Now = w.now
	o.Changed = func(m *Member, _, now State) { w.told = append(w.told, m.Name()+" "+now.String()) }
	var members []*Member
	for i := range n {
		members = append(members, NewMember(string(rune('a'+i))))
	}
	w.set = New(o, members...)
	return w
}

// acquire takes a place and fails the test if there is none.
func (w *world) acquire(key string, tried Tried) *Lease {
	w.t.Helper()
	l, err := w.set.Acquire(nil, key, tried)
	if err != nil {
		w.t.Fatalf("acquire: %v", err)
	}
	return &l
}

// ask makes one request that ends as r at once, and returns who served it.
func (w *world) ask(r Result) int {
	w.t.Helper()
	l := w.acquire("", 0)
	i := l.Index()
	l.Report(r)
	l.Release()
	return i
}

// failOne makes a member fail n times.
func (w *world) failOne(i, n int) {
	w.t.Helper()
	for range n {
		l := w.acquire("", w.set.all&^(1<<i))
		l.Report(Failure)
		l.Release()
	}
}

func (w *world) wantTold(want ...string) {
	w.t.Helper()
	if got := fmt.Sprint(w.told); got != fmt.Sprint(want) {
		w.t.Errorf("told %v, want %v", got, want)
	}
	w.told = nil
}

func (w *world) wantState(i int, want State) {
	w.t.Helper()
	if got := w.set.members[i].State(); got != want {
		w.t.Errorf("member %d is %v, want %v", i, got, want)
	}
}

// mustRefuse expects an error.
func (w *world) mustRefuse(key string, tried Tried, want error) {
	w.t.Helper()
	l, err := w.set.Acquire(nil, key, tried)
	if !errors.Is(err, want) {
		w.t.Fatalf("acquire: member %d and %v, want %v", l.Index(), err, want)
	}
}

func TestTheLeastBusyServes(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 3, Options{})
	a, b, c := w.acquire("", 0), w.acquire("", 0), w.acquire("", 0)
	if got := [3]int{a.Index(), b.Index(), c.Index()}; got != [3]int{0, 1, 2} {
		t.Errorf("three requests went to %v, want one each", got)
	}
	b.Release()
	b.Release() // does nothing
	if got := w.acquire("", 0).Index(); got != 1 {
		t.Errorf("the next went to %d, want 1, which has none", got)
	}
	if got := w.set.members[1].Running(); got != 1 {
		t.Errorf("member 1 runs %d, want 1", got)
	}
	c.Release()
	if got := w.acquire("", 1<<2).Index(); got == 2 {
		t.Error("a request went where it had been")
	}
	w.mustRefuse("", 7, ErrNone)
}

func TestTiesGoInTurn(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 3, Options{})
	var served [3]int
	for range 30 {
		served[w.ask(Success)]++
	}
	if served != [3]int{10, 10, 10} {
		t.Errorf("one after another: %v, want 10 each", served)
	}
	w = newWorld(t, 3, Options{Failures: 1})
	w.failOne(1, 1)
	served = [3]int{}
	for range 30 {
		served[w.ask(Success)]++
	}
	if served != [3]int{15, 0, 15} {
		t.Errorf("without the second: %v, want 15 for each other", served)
	}
}

func TestConversationsStay(t *testing.T) {
	t.Parallel()
	const keys = 1000
	w := newWorld(t, 4, Options{Failures: 1, Max: 1000})
	home := make([]int, keys)
	var share [4]int
	for k := range keys {
		home[k] = w.acquire(fmt.Sprint("conv_", k), 0).Index()
		share[home[k]]++
	}
	for i, n := range share {
		if n < keys/4*3/4 || n > keys/4*5/4 {
			t.Errorf("member %d has %d of %d conversations, want about a quarter", i, n, keys)
		}
	}
	w.failOne(2, 1)
	moved := 0
	for k := range keys {
		got := w.acquire(fmt.Sprint("conv_", k), 0).Index()
		switch {
		case got == 2:
			t.Fatalf("conversation %d went to a member whose breaker is open", k)
		case home[k] == 2:
			moved |= 1 << got
		case got != home[k]:
			t.Fatalf("conversation %d moved from %d to %d, although its own is well", k, home[k], got)
		}
	}
	if moved != 0b1011 {
		t.Errorf("the conversations of the broken member went to members %b, want all others", moved)
	}
	// A set with a member more takes keys from each, and moves no other.
	var members []*Member
	for i := range 5 {
		members = append(members, NewMember(string(rune('a'+i))))
	}
	w.set = New(Options{}, members...)
	for k := range keys {
		if got := w.acquire(fmt.Sprint("conv_", k), 0).Index(); got != home[k] && got != 4 {
			t.Fatalf("conversation %d moved from %d to %d, when member 4 came", k, home[k], got)
		}
	}
}

func TestKeysOfMembersWithOneNameAreShared(t *testing.T) {
	t.Parallel()
	s := New(Options{}, NewMember("host"), NewMember("host"))
	var share [2]int
	for k := range 1000 {
		l, err := s.Acquire(nil, fmt.Sprint(k), 0)
		if err != nil {
			t.Fatal(err)
		}
		share[l.Index()]++
	}
	if share[0] < 400 || share[1] < 400 {
		t.Errorf("two urls of one host have %v of 1000 keys", share)
	}
}

func TestBreakerOpensAfterFailuresInARow(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 2, Options{Failures: 3, OpenFor: 10 * time.Second})
	w.failOne(0, 2)
	l := w.acquire("", 2)
	l.Report(Neutral)
	l.Release()
	w.wantState(0, Closed)
	l = w.acquire("", 2)
	l.Report(Success) // ends the row
	l.Report(Success)
	l.Release()
	w.failOne(0, 2)
	w.wantState(0, Closed)
	w.wantTold()
	w.failOne(0, 1)
	w.wantState(0, Open)
	w.wantTold("a open")
	for range 5 {
		if got := w.ask(Success); got != 1 {
			t.Fatalf("a request went to %d, whose breaker is open", got)
		}
	}
	w.mustRefuse("", 2, ErrNone) // one is closed: nobody else is asked instead
}

func TestStreamsThatBreakOffCountInARow(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 2, Options{Failures: 3})
	for range 3 {
		l := w.acquire("", 2)
		l.Report(Success) // its head
		l.Report(Failure) // its end
		l.Release()
	}
	w.wantState(0, Open)
}

func TestBreakerOpensByErrorRate(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 2, Options{ErrorRate: 0.5, MinRequests: 10, Window: 10 * time.Second})
	say := func(r Result) {
		l := w.acquire("", 2)
		l.Report(r)
		l.Release()
	}
	for range 4 {
		say(Failure)
		say(Success)
	}
	say(Success)
	w.wantState(0, Closed) // nine requests are too few
	w.advance(11 * time.Second)
	for range 5 {
		say(Success)
	}
	for range 4 {
		say(Failure)
	}
	w.wantState(0, Closed) // those before are forgotten
	say(Failure)
	w.wantState(0, Open)
}

func TestBreakerTriesWithOneRequest(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 2, Options{Failures: 1, OpenFor: 10 * time.Second})
	w.failOne(0, 1)
	w.advance(9999 * time.Millisecond)
	for range 4 {
		if got := w.ask(Success); got != 1 {
			t.Fatal("asked before the pause is over")
		}
	}
	w.advance(2001 * time.Millisecond)
	w.wantState(0, Open)
	trial := w.acquire("", 0)
	if trial.Index() != 0 || !trial.Trial() {
		t.Fatalf("the request after the pause went to %d, want a trial of 0", trial.Index())
	}
	w.wantState(0, HalfOpen)
	for range 4 {
		if got := w.ask(Success); got != 1 {
			t.Fatal("a second request went to a member that is being tried")
		}
	}
	trial.Report(Neutral)
	trial.Release() // came to nothing: somebody else tries
	trial = w.acquire("", 0)
	if trial.Index() != 0 {
		t.Fatal("the trial was lost with a client that left")
	}
	trial.Report(Success)
	w.wantState(0, Closed)
	trial.Release()
	w.wantTold("a open", "a half-open", "a closed")
}

func TestPauseDoublesTenfoldAtMost(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 2, Options{Failures: 1, OpenFor: 10 * time.Second})
	w.failOne(0, 1)
	for _, want := range []time.Duration{10, 20, 40, 80, 100, 100, 100} {
		want *= time.Second
		w.advance(want - 1)
		if got := w.ask(Success); got != 1 {
			t.Fatalf("asked before %v", want)
		}
		w.advance(want/5 + 1)
		trial := w.acquire("", 0)
		if trial.Index() != 0 {
			t.Fatalf("not tried %v after it opened", want+want/5)
		}
		trial.Report(Failure)
		trial.Release()
		w.wantState(0, Open)
	}
	// Once it worked the pause is short again.
	w.advance(120 * time.Second)
	w.ask(Success)
	w.wantState(0, Closed)
	w.failOne(0, 1)
	w.advance(12 * time.Second)
	if l := w.acquire("", 0); !l.Trial() {
		t.Error("not tried 12 s after it opened for the first time")
	}
}

func TestRequestsFromBeforeDoNotCount(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 2, Options{Failures: 1})
	old := [3]*Lease{w.acquire("", 2), w.acquire("", 2), w.acquire("", 2)}
	w.failOne(0, 1)
	old[0].Report(Success)
	w.wantState(0, Open)
	w.advance(12 * time.Second)
	trial := w.acquire("", 0)
	old[1].Report(Success)
	w.wantState(0, HalfOpen)
	trial.Report(Success)
	old[2].Report(Failure)
	w.wantState(0, Closed)
}

func TestTheLastMemberIsNeverEjected(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 3, Options{Failures: 1})
	w.failOne(0, 1)
	w.failOne(1, 1)
	w.set.members[2].SetHealth(false)
	w.wantTold("a open", "b open", "c down")
	var asked [3]int
	for range 20 {
		asked[w.ask(Neutral)]++
	}
	if asked[0] != 10 || asked[1] != 10 {
		t.Errorf("asked %v, want those that failed and not the one that is down", asked)
	}
	w.mustRefuse("", 7, ErrNone)
	if got := w.acquire("", 3).Index(); got != 2 {
		t.Errorf("asked %d, want 2: there is no other", got)
	}
	if got := w.ask(Success); got != 0 && got != 1 {
		t.Fatalf("asked %d", got)
	}
	if w.told[len(w.told)-1][2:] != "closed" {
		t.Errorf("told %v: one that was asked for want of others and answered is not closed", w.told)
	}

	one := newWorld(t, 1, Options{Failures: 1})
	one.failOne(0, 50)
	one.wantTold("a open")
	one.set.members[0].SetHealth(false)
	one.acquire("", 0)
	one.acquire("conv", 0)
}

func TestTheLastMemberIsLeftAloneWhereThereIsAFallback(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1, Options{Failures: 1, Optional: true})
	w.failOne(0, 1)
	w.mustRefuse("", 0, ErrNone)
	w.mustRefuse("conv", 0, ErrNone)
	w.advance(12 * time.Second)
	trial := w.acquire("conv", 0)
	w.mustRefuse("", 0, ErrNone)
	w.mustRefuse("conv", 0, ErrNone)
	trial.Report(Success)
	w.acquire("", 0)
	w.set.members[0].SetHealth(false)
	w.mustRefuse("", 0, ErrNone)
	w.advance(time.Hour)
	w.mustRefuse("", 0, ErrNone)
}

func TestActiveChecks(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 2, Options{Failures: 1})
	m := w.set.members[0]
	m.SetHealth(true)
	m.SetHealth(false)
	m.SetHealth(false)
	w.wantTold("a down")
	if m.Healthy() || w.ask(Success) != 1 || w.ask(Success) != 1 {
		t.Error("one that is down was asked")
	}
	w.advance(time.Hour)
	if w.ask(Success) != 1 {
		t.Error("one that is down was tried")
	}
	m.SetHealth(true)
	m.SetHealth(true)
	w.wantTold("a closed")
	// A check that is well says nothing of a breaker that real requests opened.
	w.failOne(0, 1)
	m.SetHealth(true)
	w.wantState(0, Open)
	// But one that was down and came back was started anew.
	m.SetHealth(false)
	m.SetHealth(true)
	w.wantState(0, Closed)
	w.wantTold("a open", "a down", "a closed")
}

// share is how many of n requests, one after another, member i gets.
func (w *world) share(i, n int) (got int) {
	for range n {
		if w.ask(Success) == i {
			got++
		}
	}
	return got
}

func TestSlowStart(t *testing.T) {
	t.Parallel()
	const n = 10000
	w := newWorld(t, 2, Options{Failures: 1, SlowStart: 10 * time.Second})
	if got := w.share(0, n); got != n/2 {
		t.Errorf("a member of the first hour gets %d of %d, want half", got, n)
	}
	comesBack := func() {
		w.failOne(0, 1)
		w.advance(12 * time.Second)
		w.ask(Success)
		w.wantState(0, Closed)
	}
	comesBack()
	for _, step := range []struct {
		after time.Duration
		want  int // percent
	}{{0, 5}, {2, 10}, {3, 25}, {4, 45}, {1, 50}} {
		w.advance(step.after * time.Second)
		got := w.share(0, n)
		if want := n * step.want / 100; got < want-n/20 || got > want+n/20 || got == 0 {
			t.Errorf("after %d s more it gets %d of %d, want about %d", step.after, got, n, want)
		}
	}
	// With much to do the share is of what runs.
	comesBack()
	w.advance(2 * time.Second)
	var running [2]int
	for range 120 {
		running[w.acquire("", 0).Index()]++
	}
	if running[0] < 15 || running[0] > 25 {
		t.Errorf("%v run, want about 20 and 100", running)
	}
	w.advance(8 * time.Second)
	for range 80 {
		running[w.acquire("", 0).Index()]++
	}
	if running != [2]int{100, 100} {
		t.Errorf("%v run after the start, want 100 each", running)
	}
}

func TestReloadKeepsMembers(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 2, Options{Failures: 1, SlowStart: 10 * time.Second})
	held := w.acquire("", 2)
	w.failOne(1, 1)
	old := w.set
	w.set = New(Options{Failures: 2, SlowStart: 10 * time.Second, Now: w.now}, old.members[0], old.members[1], NewMember("c"))
	if got := w.set.members[0].Running(); got != 1 {
		t.Errorf("%d run after the reload, want 1", got)
	}
	w.wantState(1, Open)
	if got := w.share(2, 1000); got < 10 || got > 150 {
		t.Errorf("a new member gets %d of 1000 at once, want about a tenth", got)
	}
	held.Report(Failure)
	held.Release()
	w.wantState(0, Closed) // by the new options, which want two
	if got := w.set.members[0].Running(); got != 0 {
		t.Errorf("%d run after the old request, want none", got)
	}
	w.failOne(0, 1)
	w.wantState(0, Open)
	New(Options{Now: w.now}, w.set.members[0])
	w.wantState(0, Closed) // nothing opens it by these, and nothing would ever close it
}

func TestQueueIsInOrder(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := New(Options{Max: 1, Queue: 3, Wait: time.Minute}, NewMember("a"))
		first, _ := s.Acquire(nil, "", 0)
		var mu sync.Mutex
		var order []int
		for i := range 3 {
			go func() {
				l, err := s.Acquire(nil, "", 0)
				mu.Lock()
				order = append(order, i)
				mu.Unlock()
				if err != nil {
					t.Errorf("waiter %d: %v", i, err)
				}
				time.Sleep(time.Second) //nolint:forbidigo // the bubble's clock
				l.Release()
			}()
			synctest.Wait()
		}
		if got := s.Waiting(); got != 3 {
			t.Errorf("%d wait, want 3", got)
		}
		if _, err := s.Acquire(nil, "", 0); !errors.Is(err, ErrFull) {
			t.Errorf("a fourth in line: %v, want ErrFull at once", err)
		}
		first.Release()
		time.Sleep(10 * time.Second) //nolint:forbidigo // the bubble's clock
		synctest.Wait()
		mu.Lock()
		defer mu.Unlock()
		if fmt.Sprint(order) != "[0 1 2]" {
			t.Errorf("served in the order %v", order)
		}
		if got := s.members[0].Running() + s.Waiting(); got != 0 {
			t.Errorf("%d left", got)
		}
	})
}

func TestWaitEnds(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := New(Options{Max: 1, Queue: 3, Wait: 2 * time.Second}, NewMember("a"))
		held, _ := s.Acquire(nil, "", 0)
		begin := time.Now()
		if _, err := s.Acquire(nil, "", 0); !errors.Is(err, ErrFull) || time.Since(begin) != 2*time.Second {
			t.Errorf("%v after %v, want ErrFull after 2s", err, time.Since(begin))
		}
		done := make(chan struct{})
		time.AfterFunc(time.Second, func() { close(done) })
		begin = time.Now()
		if _, err := s.Acquire(done, "", 0); !errors.Is(err, ErrGone) || time.Since(begin) != time.Second {
			t.Errorf("%v after %v, want ErrGone after 1s", err, time.Since(begin))
		}
		if s.Waiting() != 0 || s.first != nil || s.tail != nil || s.members[0].awaited.Load() != 0 {
			t.Error("somebody is left in line")
		}
		held.Release()
	})
}

func TestWaiterGetsAnyMemberItMay(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := New(Options{Max: 1, Queue: 9, Wait: time.Minute}, NewMember("a"), NewMember("b"))
		a, _ := s.Acquire(nil, "", 2)
		b, _ := s.Acquire(nil, "", 1)
		type got struct {
			who string
			l   Lease
		}
		served := make(chan got, 3)
		wait := func(who, key string, tried Tried) {
			go func() {
				l, err := s.Acquire(nil, key, tried)
				if err != nil {
					t.Errorf("%s: %v", who, err)
				}
				served <- got{who, l}
			}()
			synctest.Wait()
		}
		wait("not b", "", 2)
		wait("not a", "", 1)
		wait("key", "conversation", 0)
		b.Release()
		g := <-served
		if g.who != "not a" || g.l.Index() != 1 {
			t.Errorf("the place at b went to %q", g.who)
		}
		g.l.Release() // at b: the one with a key takes it, wherever it belongs to
		if g = <-served; g.who != "key" || g.l.Index() != 1 {
			t.Errorf("the second place at b went to %q", g.who)
		}
		a.Release()
		if g = <-served; g.who != "not b" || g.l.Index() != 0 {
			t.Errorf("the place at a went to %q", g.who)
		}
	})
}

func TestPlacesOutliveAbandonedWaiters(t *testing.T) {
	t.Parallel()
	s := New(Options{Max: 2, Queue: 64, Wait: time.Hour}, NewMember("a"), NewMember("b"))
	var held []Lease
	for range 4 {
		l, err := s.Acquire(nil, "", 0)
		if err != nil {
			t.Fatal(err)
		}
		held = append(held, l)
	}
	const waiters = 5000
	var wg sync.WaitGroup
	gate := make(chan struct{}, 50)
	for range waiters {
		gate <- struct{}{}
		wg.Go(func() {
			defer func() { <-gate }()
			done := make(chan struct{})
			go close(done)
			if l, err := s.Acquire(done, "", 0); err == nil {
				l.Release()
			} else if !errors.Is(err, ErrGone) {
				t.Errorf("a waiter: %v", err)
			}
		})
	}
	for i := range held {
		held[i].Release() // in the midst of them
	}
	wg.Wait()
	if s.Waiting() != 0 || s.first != nil {
		t.Fatalf("%d are left in line", s.Waiting())
	}
	for i, m := range s.members {
		if m.Running() != 0 {
			t.Errorf("member %d runs %d, want none", i, m.Running())
		}
	}
}

func TestQueueHearsOfATrialThatIsDue(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := New(Options{Max: 1, Queue: 1, Wait: time.Minute, Failures: 1, OpenFor: 10 * time.Second}, NewMember("a"), NewMember("b"))
		l, _ := s.Acquire(nil, "", 1)
		l.Report(Failure)
		l.Release()
		held, _ := s.Acquire(nil, "", 0)
		begin := time.Now()
		l, err := s.Acquire(nil, "", 0)
		if err != nil || !l.Trial() || time.Since(begin) > 13*time.Second {
			t.Errorf("after %v: %v, trial %v; want the trial after 10 to 12 s", time.Since(begin), err, l.Trial())
		}
		held.Release()
	})
}

func TestQueueHearsOfAMemberThatIsUp(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := New(Options{Max: 1, Queue: 1, Wait: time.Minute}, NewMember("a"), NewMember("b"))
		s.members[1].SetHealth(false)
		held, _ := s.Acquire(nil, "", 0)
		time.AfterFunc(time.Second, func() { s.members[1].SetHealth(true) })
		begin := time.Now()
		l, err := s.Acquire(nil, "", 0)
		if err != nil || l.Index() != 1 || time.Since(begin) != time.Second {
			t.Errorf("after %v: member %d, %v; want member 1 when it was up", time.Since(begin), l.Index(), err)
		}
		held.Release()
	})
}

func TestQueuesOfTwoSetsShareTheirMembers(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		m := NewMember("a")
		o := Options{Max: 1, Queue: 9, Wait: time.Minute}
		before := New(o, m)
		held, _ := before.Acquire(nil, "", 0)
		after := New(o, m)
		got := make(chan error)
		go func() {
			l, err := after.Acquire(nil, "", 0)
			l.Release()
			got <- err
		}()
		synctest.Wait()
		held.Release() // of the old set
		begin := time.Now()
		if err := <-got; err != nil || time.Since(begin) != 0 {
			t.Errorf("%v after %v, want the place at once", err, time.Since(begin))
		}
	})
}

func TestBudget(t *testing.T) {
	t.Parallel()
	var c clock
	b := NewBudget(0.2, c.now)
	retries := func() (n int) {
		for b.Retry() {
			n++
		}
		return n
	}
	if got := retries(); got != 30 {
		t.Errorf("%d retries without a request, want the 30 of ten seconds", got)
	}
	for range 1000 {
		b.Request()
	}
	if got := retries(); got != 200 {
		t.Errorf("%d retries more after 1000 requests, want 200", got)
	}
	c.advance(5 * time.Second)
	if got := retries(); got != 0 {
		t.Errorf("%d retries five seconds later, want none", got)
	}
	c.advance(5 * time.Second)
	if got := retries(); got != 30 {
		t.Errorf("%d retries ten seconds later, want 30", got)
	}
	if b = NewBudget(0, nil); b.Retry() {
		t.Error("a share of 0 gave a retry")
	}
}

func TestAcquireAllocatesNothing(t *testing.T) {
	o := Options{Failures: 5, ErrorRate: 0.5, SlowStart: time.Second}
	capped := o
	capped.Max, capped.Queue, capped.Wait = 10, 10, time.Second
	for name, s := range map[string]*Set{
		"one": New(o, NewMember("a")), "three": New(o, NewMember("a"), NewMember("b"), NewMember("c")),
		"capped": New(capped, NewMember("a"), NewMember("b")),
	} {
		for _, key := range []string{"", "conv_1"} {
			if got := testing.AllocsPerRun(100, func() {
				l, err := s.Acquire(nil, key, 0)
				if err != nil {
					t.Error(err)
				}
				l.Report(Success)
				l.Release()
			}); got != 0 {
				t.Errorf("%s with key %q: %v allocations, want none", name, key, got)
			}
		}
	}
	b := NewBudget(0.2, nil)
	if got := testing.AllocsPerRun(100, func() { b.Request(); b.Retry() }); got != 0 {
		t.Errorf("budget: %v allocations, want none", got)
	}
}

func TestOneMemberTakesNoLock(t *testing.T) {
	t.Parallel()
	s := New(Options{Failures: 5, ErrorRate: 0.5, SlowStart: time.Second}, NewMember("a"))
	s.members[0].seen.add(s.members[0].since(time.Now()), 1, 0) // turns the slot over
	s.mu.Lock()
	s.members[0].mu.Lock()
	done := make(chan struct{})
	go func() {
		defer close(done)
		l, _ := s.Acquire(nil, "conv_1", 0)
		l.Report(Success)
		l.Release()
	}()
	select {
	case <-done:
	case <-time.After(20 * time.Second):
		t.Error("a request waits for a lock")
	}
	s.mu.Unlock()
	s.members[0].mu.Unlock()
}

// TestHammer has everything happen at once; at the end nothing may be left.
func TestHammer(t *testing.T) {
	t.Parallel()
	for _, n := range []int{1, 3} {
		for _, most := range []int{0, 2} {
			t.Run(fmt.Sprintf("%d members, at most %d", n, most), func(t *testing.T) {
				t.Parallel()
				o := Options{
					Failures: 3, ErrorRate: 0.5, MinRequests: 5, Window: 10 * time.Millisecond, OpenFor: time.Microsecond,
					SlowStart: time.Millisecond, Max: most, Queue: 4, Wait: time.Millisecond,
				}
				last := make(map[*Member]State)
				var mu sync.Mutex
				o.Changed = func(m *Member, _, now State) {
					mu.Lock()
					defer mu.Unlock()
					if last[m] == now {
						t.Errorf("%s was told to be %v twice", m.Name(), now)
					}
					last[m] = now
				}
				var members []*Member
				for i := range n {
					members = append(members, NewMember(string(rune('a'+i))))
				}
				sets := []*Set{New(o, members...), New(o, members...)}
				var wg sync.WaitGroup
				for g := range 8 {
					wg.Go(func() {
						r := rand.New(rand.NewPCG(1, uint64(g)))
						for range 3000 {
							s := sets[r.IntN(2)]
							key := ""
							if r.IntN(2) == 0 {
								key = fmt.Sprint(r.IntN(10))
							}
							var done chan struct{}
							if r.IntN(4) == 0 {
								done = make(chan struct{})
								close(done)
							}
							l, err := s.Acquire(done, key, Tried(r.IntN(2)))
							if err == nil && most > 0 && l.m.Running() > most {
								t.Errorf("%d run, want %d at most", l.m.Running(), most)
							}
							l.Report(Result(r.IntN(3)))
							if r.IntN(2) == 0 {
								l.Report(Result(r.IntN(3)))
							}
							l.Release()
							if r.IntN(50) == 0 {
								members[r.IntN(n)].SetHealth(r.IntN(2) == 0)
							}
						}
					})
				}
				wg.Wait()
				for _, m := range members {
					if m.Running() != 0 || m.awaited.Load() != 0 || len(m.sets) != 0 {
						t.Errorf("%s: %d run and %d wait at the end", m.Name(), m.Running(), m.awaited.Load())
					}
					mu.Lock()
					if last[m] != m.State() {
						t.Errorf("%s is %v and was told to be %v", m.Name(), m.State(), last[m])
					}
					mu.Unlock()
					m.SetHealth(true)
				}
				for _, s := range sets {
					if s.Waiting() != 0 {
						t.Errorf("%d wait at the end", s.Waiting())
					}
				}
				l, err := sets[0].Acquire(nil, "", 0)
				if err != nil {
					t.Errorf("afterwards: %v", err)
				}
				l.Release()
			})
		}
	}
}

func BenchmarkAcquire(b *testing.B) {
	for _, n := range []int{1, 3, 16} {
		for _, key := range []string{"", "conv_12345678"} {
			name := fmt.Sprint(n)
			if key != "" {
				name += " with a key"
			}
			b.Run(name, func(b *testing.B) {
				var members []*Member
				for i := range n {
					members = append(members, NewMember(string(rune('a'+i))))
				}
				s := New(Options{Failures: 5, ErrorRate: 0.5, SlowStart: time.Second}, members...)
				b.ReportAllocs()
				b.RunParallel(func(pb *testing.PB) {
					for pb.Next() {
						l, _ := s.Acquire(nil, key, 0)
						l.Report(Success)
						l.Release()
					}
				})
			})
		}
	}
}

func TestSeveralPlacesServeSeveralInLine(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := New(Options{Max: 2, Queue: 9, Wait: time.Minute}, NewMember("a"), NewMember("b"))
		s.members[1].SetHealth(false)
		for range 2 {
			if _, err := s.Acquire(nil, "", 0); err != nil {
				t.Fatal(err)
			}
		}
		served := make(chan int, 2)
		for range 2 {
			go func() {
				l, err := s.Acquire(nil, "", 0)
				if err != nil {
					t.Error(err)
				}
				served <- l.Index()
			}()
		}
		synctest.Wait()
		begin := time.Now()
		s.members[1].SetHealth(true) // two places at once
		if a, b := <-served, <-served; a != 1 || b != 1 || time.Since(begin) != 0 {
			t.Errorf("served by %d and %d after %v, want both by 1 at once", a, b, time.Since(begin))
		}
	})
}
