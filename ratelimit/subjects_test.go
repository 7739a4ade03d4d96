package ratelimit

import (
	"context"
	"fmt"
	"math/rand/v2"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

func TestTheSameNameSharesItsCounts(t *testing.T) {
	t.Parallel()
	c := new(clock)
	l := New(Options{Now: c.now})
	lim := Limits{Requests: Rate{Events: 2, Per: time.Minute}, Concurrent: 1}
	for name, get := range map[string]func(name string, lim Limits) *Scope{
		"key":     func(n string, lim Limits) *Scope { return l.Scope(Key, n, lim) },
		"agent":   func(n string, lim Limits) *Scope { return l.Scope(Agent, n, lim) },
		"subject": l.Subject,
	} {
		if get("x", Limits{}) != nil {
			t.Errorf("%s: no limits make a scope", name)
		}
		mustPass(t, l, get("x", lim), 0)
		g := mustPass(t, l, get("x", lim), 0)
		if l.Wait(nil, g) != nil {
			t.Errorf("%s: no slot", name)
		}
		mustRefuse(t, l, get("x", lim), 0)
		mustPass(t, l, get("y", lim), 0)
		// A changed limit counts anew; what has not changed, and the slots, go on.
		changed := lim
		changed.Tokens = Rate{Events: 5, Per: time.Minute}
		mustRefuse(t, l, get("x", changed), 0)
		changed.Requests.Events = 3
		x := mustPass(t, l, get("x", changed), 0)
		if r := l.Wait(nil, x); r == nil || r.What != Concurrent {
			t.Errorf("%s: the slots are not shared", name)
		}
		g.Release()
		if got := get("x", changed).Limits(); got != changed {
			t.Errorf("%s: the limits are %+v", name, got)
		}
	}
}

func TestAMillionNamesTakeBoundedMemory(t *testing.T) {
	names := 300_000
	if race || testing.Short() {
		names = 150_000 // more than there is room for, too
	}
	c := new(clock)
	l := New(Options{Now: c.now})
	lim := Limits{Requests: Rate{Events: 60, Per: time.Minute}, Tokens: Rate{Events: 1000, Per: time.Minute}, Concurrent: 4}
	long := strings.Repeat("a long name ", 500)
	heap := func() uint64 {
		var m runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	before := heap()
	var g Grant
	most := 0
	for i := range names {
		name := "https://issuer.example/|user-" + strconv.Itoa(i)
		if i%64 == 0 {
			name = long + name // whose memory has a bound, too
		}
		c.add(time.Microsecond) // few buckets are full when one has to go
		if r := l.Take(context.Background(), [3]*Scope{l.Subject(name, lim)}, 10, &g); r != nil {
			t.Fatalf("refused: %+v", r)
		}
		g.Release()
		if i%100_000 == 0 {
			most = max(most, l.subjects.len())
		}
	}
	most = max(most, l.subjects.len())
	if most > subjectShards*subjectsPerShard || most < subjectShards*subjectsPerShard*9/10 {
		t.Errorf("%d subjects are kept", most)
	}
	used := int64(heap()) - int64(before)
	t.Logf("%d subjects take %d KiB, %d bytes each", most, used>>10, used/int64(most))
	if used > 64<<20 {
		t.Errorf("they take %d bytes", used)
	}
	runtime.KeepAlive(l)
}

// smallTable has one shard of four, so that what goes is known.
func smallTable(o Options) *Limiter {
	l := New(o)
	l.subjects.init(l, 1, 4)
	return l
}

func (t *table) has(name string) bool {
	_, ok := t.shards[0].m[name]
	return ok
}

func TestWhoeverLosesNothingIsForgottenFirst(t *testing.T) {
	t.Parallel()
	c := new(clock)
	l := smallTable(Options{Now: c.now})
	lim := Limits{Requests: Rate{Events: 60, Per: time.Minute}, Tokens: Rate{Events: 60, Per: time.Minute}}
	use := func(name string, tokens int64) { mustPass(t, l, l.Subject(name, lim), tokens).Release() }
	use("tokens", 30)
	use("b", 20)
	use("full", 1)
	use("d", 10)
	c.add(time.Second)
	use("e", 5)
	if l.subjects.has("full") || l.subjects.len() != 4 {
		t.Error("not the full one went")
	}
	use("f", 50) // nobody is full: the closest to it goes
	if l.subjects.has("e") || l.subjects.len() != 4 {
		t.Error("not the one closest to full went")
	}
	use("g", 50)
	if l.subjects.has("d") || !l.subjects.has("tokens") {
		t.Error("not the one closest to full went")
	}
	// What is given back brings the time closer, and a subject in use is passed over.
	g := mustPass(t, l, l.Subject("g", lim), 0)
	use("h", 58)
	if l.subjects.has("b") || !l.subjects.has("g") {
		t.Error("not the one closest to full went")
	}
	g.Release()
}

func TestWhoeverIsInUseIsNeverForgotten(t *testing.T) {
	t.Parallel()
	c := new(clock)
	l := smallTable(Options{Now: c.now})
	lim := Limits{Requests: Rate{Events: 2, Per: time.Second}, Concurrent: 1}
	var used []*Grant
	for i := range 6 { // more than there is room for
		g := mustPass(t, l, l.Subject("used "+strconv.Itoa(i), lim), 0)
		if l.Wait(nil, g) != nil {
			t.Fatal("no slot")
		}
		used = append(used, g)
	}
	c.add(time.Hour) // their buckets are full, their slots are not
	for i := range 100 {
		mustPass(t, l, l.Subject(strconv.Itoa(i), lim), 0).Release()
	}
	if n := l.subjects.len(); n > 7 {
		t.Errorf("%d are kept", n)
	}
	for i := range used {
		g := mustPass(t, l, l.Subject("used "+strconv.Itoa(i), lim), 0)
		if r := l.Wait(nil, g); r == nil || r.What != Concurrent {
			t.Error("a second slot: the first was forgotten")
		}
	}
	for _, g := range used {
		g.Release()
	}
	c.add(time.Hour)
	for i := range 10 {
		mustPass(t, l, l.Subject("new "+strconv.Itoa(i), lim), 0).Release()
	}
	if n := l.subjects.len(); n > 4 {
		t.Errorf("%d are kept when nobody uses them any more", n)
	}
}

// TestABusySubjectIsNotResetBeforeOthers pours a flood of other names over one who is at its limit: it begins anew only if
// all others lack more than it does.
func TestABusySubjectIsNotResetBeforeOthers(t *testing.T) {
	t.Parallel()
	c := new(clock)
	l := New(Options{Now: c.now})
	l.subjects.init(l, 4, 64)
	lim := Limits{Requests: Rate{Events: 10, Per: time.Minute}}
	passed := 0
	for i := range 50_000 {
		c.add(time.Millisecond)
		mustPass(t, l, l.Subject(strconv.Itoa(i), lim), 0).Release()
		if _, r := ask(t, l, l.Subject("busy", lim), 0); r == nil {
			passed++
		}
	}
	if most := 10 + int(50*time.Second/(6*time.Second)) + 1; passed > most {
		t.Errorf("%d passed, want %d at most", passed, most)
	}
}

func TestAForgottenScopeIsLookedUpAgain(t *testing.T) {
	t.Parallel()
	c := new(clock)
	l := smallTable(Options{Now: c.now})
	lim := Limits{Requests: Rate{Events: 2, Per: time.Hour}}
	for _, name := range []string{"x", strings.Repeat("long", 100)} {
		held := l.Subject(name, lim) // and not yet used
		for i := range 8 {
			mustPass(t, l, l.Subject(strconv.Itoa(i), lim), 0).Release()
		}
		if l.subjects.has(held.name) {
			t.Fatal("still there: the test tests nothing")
		}
		mustPass(t, l, held, 0)
		mustPass(t, l, l.Subject(name, lim), 0)
		if r := mustRefuse(t, l, held, 0); r.Scope != held.name {
			t.Errorf("the scope is %q", r.Scope)
		}
	}
}

func TestLongNamesAreShortenedAndStayApart(t *testing.T) {
	t.Parallel()
	l := New(Options{})
	lim := concurrent(1)
	long := strings.Repeat("x", 5000)
	a, b := l.Subject(long+"a", lim), l.Subject(long+"b", lim)
	if a == b || a != l.Subject(long+"a", lim) || len(a.Name()) <= nameLimit || len(a.Name()) > 2*nameLimit || len(b.Name()) != len(a.Name()) {
		t.Errorf("%q and %q", a.Name(), b.Name())
	}
	if l.Subject(a.Name(), lim) == a {
		t.Error("a name can be made that counts as another's")
	}
	if name := strings.Repeat("y", nameLimit); l.Subject(name, lim).Name() != name {
		t.Error("a short name is shortened")
	}
	buf := []byte("borrowed")
	s := l.Subject(string(buf), lim)
	if s.Name() != "borrowed" || s.Limits() != lim || (*Scope)(nil).Name() != "" || !(*Scope)(nil).Limits().IsZero() {
		t.Error("a scope does not know itself")
	}
}

func TestSubjectsComeAndGoUnderContention(t *testing.T) {
	t.Parallel()
	l := New(Options{Queue: Queue{Length: 4, Wait: time.Millisecond}})
	l.subjects.init(l, 2, 8)
	lim := Limits{Requests: Rate{Events: 1000, Per: time.Second}, Concurrent: 1}
	var running [40]struct {
		mu sync.Mutex
		n  int
	}
	var all sync.WaitGroup
	for i := range 12 {
		all.Go(func() {
			rnd := rand.New(rand.NewPCG(5, uint64(i)))
			for range 2000 {
				n := rnd.IntN(len(running))
				var g Grant
				if l.Take(context.Background(), [3]*Scope{l.Subject(fmt.Sprint(n), lim)}, 0, &g) != nil {
					continue
				}
				if l.Wait(nil, &g) != nil {
					continue
				}
				r := &running[n]
				r.mu.Lock()
				if r.n++; r.n > 1 {
					t.Error("two run where one may: a subject in use was forgotten")
				}
				r.mu.Unlock()
				runtime.Gosched()
				r.mu.Lock()
				r.n--
				r.mu.Unlock()
				g.Release()
			}
		})
	}
	all.Wait()
	for i := range l.subjects.shards {
		for name, e := range l.subjects.shards[i].m {
			if e.refs.Load() != 0 || e.slots.used != 0 {
				t.Errorf("%s: %d refs, %d slots", name, e.refs.Load(), e.slots.used)
			}
		}
	}
}
