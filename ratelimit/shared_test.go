package ratelimit

import (
	"context"
	"errors"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

var errStore = errors.New("the store is broken")

// memory is a Store in memory that can be broken, or made to hang.
type memory struct {
	mu     sync.Mutex
	now    func() time.Time
	full   map[string]time.Time
	calls  [3]int // of Take, Add and Ping
	added  map[string]int64
	fail   error
	hang   chan struct{} // not nil: calls wait until it is closed, or their context ends
	closed bool
	took   [][]Bucket
}

func newMemory(now func() time.Time) *memory {
	return &memory{now: now, full: map[string]time.Time{}, added: map[string]int64{}}
}

func (m *memory) call(ctx context.Context, what int) error {
	m.mu.Lock()
	m.calls[what]++
	hang := m.hang
	m.mu.Unlock()
	if hang != nil {
		select {
		case <-hang:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.fail
}

func (m *memory) Take(ctx context.Context, b []Bucket) (bool, error) {
	if err := m.call(ctx, 0); err != nil {
		return false, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.took = append(m.took, slices.Clone(b))
	ok, now := true, m.now()
	for i := range b {
		b[i].Full = max(m.full[b[i].Key].Sub(now), 0)
		b[i].OK = admits(b[i].Full, b[i].Rate.cost(b[i].Cost), b[i].Rate.capacity())
		ok = ok && b[i].OK
	}
	for i := range b {
		if ok {
			b[i].Full += b[i].Rate.cost(b[i].Cost)
			m.full[b[i].Key] = now.Add(b[i].Full)
		}
	}
	return ok, nil
}

func (m *memory) Add(ctx context.Context, b []Bucket) error {
	if err := m.call(ctx, 1); err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	now := m.now()
	for _, x := range b {
		full := max(m.full[x.Key].Sub(now), 0) + x.Rate.cost(x.Cost) - x.Rate.cost(-x.Cost)
		m.full[x.Key] = now.Add(max(full, 0))
		m.added[x.Key] += x.Cost
	}
	return nil
}

func (m *memory) Ping(ctx context.Context) error { return m.call(ctx, 2) }

func (m *memory) Close() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.closed = true
	return nil
}

func (m *memory) set(fail error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.fail = fail
}

func (m *memory) counts() [3]int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.calls
}

// changes records what Changed is told.
type changes struct {
	mu   sync.Mutex
	list []string
}

func (c *changes) tell(s State, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	text := s.String()
	if err != nil {
		text += ": " + err.Error()
	}
	c.list = append(c.list, text)
}

func (c *changes) String() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return strings.Join(c.list, ", ")
}

const broken = "down: the store is broken"

func sharedLimits() Limits {
	return Limits{Requests: Rate{Events: 10, Per: time.Minute}, Tokens: Rate{Events: 1000, Per: time.Minute}, Concurrent: 2}
}

// withStore runs f in a bubble, in which time passes only when all wait.
func withStore(t *testing.T, o Options, f func(t *testing.T, l *Limiter, m *memory, told *changes)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		m, told := newMemory(time.Now), new(changes)
		o.Store, o.Changed = m, told.tell
		l := New(o)
		defer l.Close()
		f(t, l, m, told)
	})
}

func TestAStoreDecidesInOneCall(t *testing.T) {
	t.Parallel()
	withStore(t, Options{Replicas: 3}, func(t *testing.T, l *Limiter, m *memory, _ *changes) {
		scopes := [3]*Scope{l.Subject("iss|me", sharedLimits()), l.Scope(Agent, "a", sharedLimits()), l.Scope(Global, "", sharedLimits())}
		var g Grant
		if r := l.Take(t.Context(), scopes, 100, &g); r != nil {
			t.Fatalf("refused: %+v", r)
		}
		if got := m.counts(); got != [3]int{1, 0, 0} || len(m.took[0]) != 6 {
			t.Errorf("%v calls, the first of %d buckets", got, len(m.took[0]))
		}
		keys := slices.Sorted(maps.Keys(m.full))
		want := []string{
			"agent/requests/10/60000000000/10/a", "agent/tokens/1000/60000000000/1000/a",
			"global/requests/10/60000000000/10/", "global/tokens/1000/60000000000/1000/",
			"subject/requests/10/60000000000/10/iss|me", "subject/tokens/1000/60000000000/1000/iss|me",
		}
		if !slices.Equal(keys, want) {
			t.Errorf("the keys are %q", keys)
		}
		if st := g.Status(); st.Requests.Remaining != 9 || st.Tokens.Remaining != 900 || st.Requests.Limit != 10 {
			t.Errorf("the status is %+v", st)
		}
		g.Release()
		// What another replica takes is seen.
		other := New(Options{Store: m})
		defer other.Close()
		for range 9 {
			mustPass(t, other, other.Scope(Agent, "a", sharedLimits()), 1)
		}
		r := l.Take(t.Context(), scopes, 100, &g)
		if r == nil || r.Kind != Agent || r.What != Requests || r.Scope != "a" || r.Wait != 6*time.Second || r.Status.Requests.Remaining != 0 {
			t.Errorf("got %+v, want the agent's refusal for 6s", r)
		}
		if st := l.Peek(t.Context(), scopes); st.Requests.Remaining != 0 || st.Tokens.Remaining != 891 {
			t.Errorf("peeking finds %+v", st)
		}
		<-time.After(r.Wait)
		if r := l.Take(t.Context(), scopes, 100, &g); r != nil {
			t.Errorf("refused after its time: %+v", r)
		}
	})
}

func TestConcurrencyAloneAsksNoStore(t *testing.T) {
	t.Parallel()
	withStore(t, Options{OnError: Closed}, func(t *testing.T, l *Limiter, m *memory, _ *changes) {
		m.set(errStore)
		for range 10 {
			g := mustPass(t, l, l.Scope(Key, "k", concurrent(1)), 5)
			if r := l.Wait(nil, g); r != nil {
				t.Errorf("refused: %+v", r)
			}
			g.Settle(7)
			g.Release()
		}
		l.Peek(t.Context(), [3]*Scope{l.Scope(Key, "k", concurrent(1))})
		if got := m.counts(); got != [3]int{} {
			t.Errorf("%v calls", got)
		}
	})
}

func TestSettlementsReachTheStoreBehindTheCallersBack(t *testing.T) {
	t.Parallel()
	withStore(t, Options{}, func(t *testing.T, l *Limiter, m *memory, _ *changes) {
		s := l.Scope(Key, "k", sharedLimits())
		key, requests := s.keys[Tokens], s.keys[Requests]
		a, b := mustPass(t, l, s, 100), mustPass(t, l, s, 300)
		a.Settle(40)
		if got := a.Status().Tokens.Remaining; got != 660 {
			t.Errorf("%d remain, want 660 at once", got)
		}
		a.Release()
		b.Settle(350)
		b.Settle(1)
		b.Release()
		mustPass(t, l, s, 10).Settle(10) // nothing to tell
		for range 2 {
			g := mustPass(t, l, s, 5)
			if l.Wait(nil, g) != nil {
				t.Fatal("no slot")
			}
		}
		if r := l.Wait(nil, mustPass(t, l, s, 50)); r == nil { // which gives back a request and 50 tokens
			t.Fatal("a slot too many")
		}
		synctest.Wait()
		if want := map[string]int64{key: -60 + 50 - 50, requests: -1}; !maps.Equal(m.added, want) {
			t.Errorf("told %v, want %v", m.added, want)
		}
		if st := l.Peek(t.Context(), [3]*Scope{s}); st.Requests.Remaining != 5 || st.Tokens.Remaining != 590 {
			t.Errorf("the store has %+v", st)
		}
	})
}

func TestNothingIsGivenBackToAStoreOnceTheBucketWasFull(t *testing.T) {
	t.Parallel()
	withStore(t, Options{}, func(t *testing.T, l *Limiter, m *memory, _ *changes) {
		s := l.Scope(Key, "k", tokens(60, time.Minute))
		a := mustPass(t, l, s, 60)
		<-time.After(time.Minute)
		b := mustPass(t, l, s, 60)
		a.Settle(0)
		synctest.Wait()
		mustRefuse(t, l, s, 1)
		b.Settle(50)
		synctest.Wait()
		mustPass(t, l, s, 10)
		mustRefuse(t, l, s, 1)
	})
}

func TestADeadStoreIsNotAskedAfterThreeFailures(t *testing.T) {
	t.Parallel()
	withStore(t, Options{}, func(t *testing.T, l *Limiter, m *memory, told *changes) {
		s := l.Scope(Key, "k", Limits{Requests: Rate{Events: 1000, Per: time.Minute}})
		mustPass(t, l, s, 0)
		m.set(errStore)
		for range 2 {
			mustPass(t, l, s, 0)
		}
		m.set(nil)
		mustPass(t, l, s, 0) // a success between failures: they were not in a row
		m.set(errStore)
		for range 2 {
			mustPass(t, l, s, 0)
		}
		synctest.Wait()
		if told.String() != "" {
			t.Fatalf("told too soon: %v", told)
		}
		for range 100 {
			mustPass(t, l, s, 0)
		}
		synctest.Wait()
		if got := m.counts(); got != [3]int{7, 0, 0} {
			t.Errorf("%v calls, want 7 decisions", got)
		}
		if told.String() != broken {
			t.Errorf("told %v", told)
		}
		<-time.After(5500 * time.Millisecond)
		for range 100 {
			mustPass(t, l, s, 0)
		}
		if got := m.counts(); got != [3]int{7, 0, 5} || told.String() != broken {
			t.Errorf("%v calls, want a probe a second and no more; told %v", got, told)
		}
		m.set(nil)
		<-time.After(time.Second)
		mustPass(t, l, s, 0)
		synctest.Wait()
		if got := m.counts(); got != [3]int{8, 0, 6} || told.String() != broken+", up" {
			t.Errorf("%v calls, told %v", got, told)
		}
		m.set(errStore)
		for range 10 {
			mustPass(t, l, s, 0)
		}
		synctest.Wait()
		if got := m.counts(); got != [3]int{11, 0, 6} || told.String() != broken+", up, "+broken {
			t.Errorf("%v calls, told %v", got, told)
		}
	})
}

func TestManyFailuresAtOnceAreOneChange(t *testing.T) {
	t.Parallel()
	withStore(t, Options{}, func(t *testing.T, l *Limiter, m *memory, told *changes) {
		s := l.Scope(Key, "k", Limits{Requests: Rate{Events: 1000, Per: time.Minute}})
		first, second := make(chan struct{}), make(chan struct{})
		m.hang = first
		var all sync.WaitGroup
		ask := func(n int) {
			for range n {
				all.Go(func() { mustPass(t, l, s, 0) })
			}
			synctest.Wait()
		}
		ask(50)
		m.hang = second
		ask(50)
		m.hang = nil
		m.set(errStore)
		close(first) // fifty fail in one moment
		synctest.Wait()
		if told.String() != broken {
			t.Errorf("told %v", told)
		}
		m.set(nil)
		<-time.After(1500 * time.Millisecond)
		if told.String() != broken+", up" {
			t.Errorf("told %v", told)
		}
		m.set(errStore)
		close(second) // and fifty that began before it was back fail late, of which it knows nothing
		all.Wait()
		synctest.Wait()
		if told.String() != broken+", up" {
			t.Errorf("told %v", told)
		}
	})
}

func TestEachModeWhileTheStoreIsDown(t *testing.T) {
	t.Parallel()
	lim := Limits{Requests: Rate{Events: 10, Per: time.Minute}, Tokens: Rate{Events: 1000, Per: time.Minute}, Concurrent: 1}
	down := func(t *testing.T, l *Limiter, m *memory) {
		m.set(errStore)
		s := l.Scope(Key, "other", lim)
		for range 3 {
			ask(t, l, s, 0)
		}
	}
	t.Run("local", func(t *testing.T) {
		t.Parallel()
		withStore(t, Options{OnError: Local, Replicas: 4}, func(t *testing.T, l *Limiter, m *memory, _ *changes) {
			s := l.Scope(Key, "k", lim)
			down(t, l, m)
			for i := range int64(3) { // a quarter of ten, rounded up
				g := mustPass(t, l, s, 50)
				if q := g.Status().Requests; q.Limit != 3 || q.Remaining != 2-i {
					t.Errorf("the status is %+v", q)
				}
				if got := g.Status().Tokens; got.Limit != 250 || got.Remaining != 250-50*i-50 {
					t.Errorf("the status is %+v", got)
				}
			}
			if r := mustRefuse(t, l, s, 50); r.What != Requests || r.Kind != Key || r.Limit.Events != 3 || r.Wait != 20*time.Second {
				t.Errorf("got %+v", r)
			}
			if got := l.Peek(t.Context(), [3]*Scope{s}).Requests; got.Limit != 3 || got.Remaining != 0 {
				t.Errorf("peeking finds %+v", got)
			}
			<-time.After(time.Minute)
			g := mustPass(t, l, s, 50)
			g.Settle(200)
			if got := g.Status().Tokens.Remaining; got != 50 {
				t.Errorf("%d tokens remain, want 50", got)
			}
		})
	})
	t.Run("open", func(t *testing.T) {
		t.Parallel()
		withStore(t, Options{OnError: Open}, func(t *testing.T, l *Limiter, m *memory, _ *changes) {
			s := l.Scope(Key, "k", lim)
			down(t, l, m)
			for range 100 {
				g := mustPass(t, l, s, 1e9)
				if g.Status().Any() {
					t.Errorf("the status is %+v", g.Status())
				}
				if r := l.Wait(nil, g); r != nil {
					t.Errorf("no slot: %+v", r)
				}
				if r := l.Wait(nil, mustPass(t, l, s, 0)); r == nil || r.What != Concurrent {
					t.Error("concurrency has no limit any more")
				}
				g.Settle(5)
				g.Release()
			}
			if l.Peek(t.Context(), [3]*Scope{s}).Any() {
				t.Error("limits that nobody checks are shown")
			}
			if len(m.added) != 0 {
				t.Errorf("settled %v", m.added)
			}
		})
	})
	t.Run("closed", func(t *testing.T) {
		t.Parallel()
		withStore(t, Options{OnError: Closed}, func(t *testing.T, l *Limiter, m *memory, _ *changes) {
			s := l.Subject("k", lim)
			down(t, l, m)
			r := mustRefuse(t, l, s, 1)
			if r.What != Unavailable || r.Wait != time.Second || r.Status.Any() {
				t.Errorf("got %+v", r)
			}
			if got := s.refs.Load(); got != 0 {
				t.Errorf("%d still use the subject", got)
			}
		})
	})
}

func TestWhoHangsUpIsNoFailureOfTheStoreAndATimeOutIsOne(t *testing.T) {
	t.Parallel()
	withStore(t, Options{}, func(t *testing.T, l *Limiter, m *memory, told *changes) {
		s := l.Scope(Key, "k", sharedLimits())
		m.hang = make(chan struct{})
		for range 10 {
			ctx, cancel := context.WithCancel(t.Context())
			time.AfterFunc(10*time.Millisecond, cancel)
			var g Grant
			if r := l.Take(ctx, [3]*Scope{s}, 1, &g); r == nil || r.What != Gone {
				t.Fatalf("got %+v, want to be gone", r)
			}
		}
		if _, up := l.shared.breaker.enter(); !up || told.String() != "" {
			t.Fatal("the store is taken for dead")
		}
		for range 3 {
			ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
			var g Grant
			if r := l.Take(ctx, [3]*Scope{s}, 1, &g); r != nil {
				t.Fatalf("a request whose store timed out is not counted here: %+v", r)
			}
			cancel()
		}
		synctest.Wait()
		if want := "down: " + context.DeadlineExceeded.Error(); told.String() != want {
			t.Errorf("told %v, want %s", told, want)
		}
		close(m.hang)
	})
}

func TestASettlementNeverBlocksAndAnOverflowFavoursTheCaller(t *testing.T) {
	t.Parallel()
	withStore(t, Options{}, func(t *testing.T, l *Limiter, m *memory, _ *changes) {
		s := l.Scope(Key, "k", Limits{Tokens: Rate{Events: 1e9, Per: time.Minute}})
		var grants []*Grant
		for range 3 * laterLength {
			grants = append(grants, mustPass(t, l, s, 10))
		}
		hang := make(chan struct{})
		m.mu.Lock()
		m.hang = hang
		m.mu.Unlock()
		start := time.Now()
		grants[0].Settle(11)
		synctest.Wait() // the worker hangs with the first
		for _, g := range grants[1 : 1+laterLength] {
			g.Settle(11)
		}
		if got := l.Dropped(); got != laterLength-laterCharges {
			t.Errorf("%d dropped, want %d charges", got, laterLength-laterCharges)
		}
		for _, g := range grants[1+laterLength : 1+2*laterLength] {
			g.Settle(9)
		}
		if got := l.Dropped(); got != laterLength-laterCharges+laterCharges {
			t.Errorf("%d dropped, want the refunds for which there is no room, too", got)
		}
		if time.Since(start) != 0 {
			t.Errorf("settling took %v", time.Since(start))
		}
		m.mu.Lock()
		m.hang = nil
		m.mu.Unlock()
		close(hang)
		synctest.Wait()
		if got, want := m.added[s.keys[Tokens]], int64(1+laterCharges-(laterLength-laterCharges)); got != want {
			t.Errorf("told %d, want %d", got, want)
		}
	})
}

func TestSettlementsAreDroppedWhileTheStoreIsDown(t *testing.T) {
	t.Parallel()
	withStore(t, Options{}, func(t *testing.T, l *Limiter, m *memory, told *changes) {
		s := l.Scope(Key, "k", tokens(1000, time.Minute))
		var grants []*Grant
		for range 6 {
			grants = append(grants, mustPass(t, l, s, 10))
		}
		m.set(errStore)
		for _, g := range grants { // three of them fail, which is enough
			g.Settle(5)
			synctest.Wait()
		}
		if got := m.counts(); got[1] != 3 || l.Dropped() != 6 || told.String() != broken {
			t.Errorf("%v calls, %d dropped, told %v", got, l.Dropped(), told)
		}
	})
}

func TestClosingTellsTheStoreWhatWaits(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		m := newMemory(time.Now)
		l := New(Options{Store: m})
		lim := Limits{Tokens: Rate{Events: 1e6, Per: time.Minute}}
		for i := range 100 {
			mustPass(t, l, l.Scope(Key, string(rune('a'+i)), lim), 10).Settle(3)
		}
		l.Close()
		l.Close()
		sum := int64(0)
		for _, n := range m.added {
			sum += n
		}
		if sum != -700 || !m.closed {
			t.Errorf("told %d, closed %v", sum, m.closed)
		}
		for range laterLength + 5 { // nobody reads any more, and nobody blocks
			mustPass(t, l, l.Scope(Key, "a", lim), 10).Settle(3)
		}
		if (l.Dropped()) == 0 {
			t.Error("what is lost is not counted")
		}
	})
}

func TestClosingWaitsASecondAtMost(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		m := newMemory(time.Now)
		l := New(Options{Store: m})
		s := l.Scope(Key, "k", tokens(1000, time.Minute))
		a, b := mustPass(t, l, s, 10), mustPass(t, l, s, 10)
		m.hang = make(chan struct{})
		a.Settle(5)
		synctest.Wait()
		b.Settle(5)
		start := time.Now()
		l.Close()
		if got := time.Since(start); got > closeTime {
			t.Errorf("it took %v", got)
		}
	})
}

func TestAStoreThatContradictsItselfIsAFailure(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := New(Options{Store: contrary{}, OnError: Closed})
		defer l.Close()
		s := l.Scope(Key, "k", sharedLimits())
		for range 3 {
			if r := mustRefuse(t, l, s, 1); r.What != Unavailable {
				t.Errorf("got %+v", r)
			}
		}
		if _, up := l.shared.breaker.enter(); up {
			t.Error("it is asked again")
		}
	})
}

// contrary refuses although each bucket admits.
type contrary struct{}

func (contrary) Take(_ context.Context, b []Bucket) (bool, error) {
	for i := range b {
		b[i].OK = true
	}
	return false, nil
}
func (contrary) Add(context.Context, []Bucket) error { return nil }
func (contrary) Ping(context.Context) error          { return errStore }
func (contrary) Close() error                        { return nil }

func TestAFlappingStoreUnderLoadIsToldOnceAChange(t *testing.T) {
	t.Parallel()
	withStore(t, Options{OnError: Open}, func(t *testing.T, l *Limiter, m *memory, told *changes) {
		s := l.Scope(Key, "k", Limits{Requests: Rate{Events: 1e9, Per: time.Minute}})
		var stop atomic.Bool
		var all sync.WaitGroup
		for range 8 {
			all.Go(func() {
				for !stop.Load() {
					mustPass(t, l, s, 0)
					<-time.After(7 * time.Millisecond)
				}
			})
		}
		for i := range 20 {
			m.set([]error{errStore, nil}[i%2])
			<-time.After(3 * time.Second)
		}
		stop.Store(true)
		all.Wait()
		want := strings.TrimSuffix(strings.Repeat(broken+", up, ", 10), ", ")
		if told.String() != want {
			t.Errorf("told %v", told)
		}
	})
}
