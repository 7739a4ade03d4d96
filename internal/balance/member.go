package balance

import (
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// Member is one replica. It keeps its state when it becomes part of another set. It is safe for concurrent use.
type Member struct {
	name    string
	running atomic.Int64
	word    atomicWord    // its state and how often its breaker opened
	until   atomic.Int64  // when a trial is due, since epoch
	fails   atomic.Int32  // in a row
	slow    atomic.Int64  // since when it starts slowly, since epoch; 0: it has its full share
	credit  atomic.Uint32 // of a slow start, in 1/1024
	awaited atomic.Int32  // sets in whose queue somebody waits
	opts    atomic.Pointer[Options]
	epoch   time.Time // written once, before there is a set
	seen    window

	mu      sync.Mutex // taken after a set's
	breaker State      // Closed, Open or HalfOpen, behind down
	down    bool
	trial   bool // somebody has it
	opened  int  // times in a row
	sets    []*Set
}

// word is a state with the number of times that the breaker opened, which tells requests from before and after apart.
type word uint64

func (w word) state() State { return State(w & 0xff) } // #nosec G115 -- masked
func (w word) gen() uint32  { return uint32(w >> 32) } // #nosec G115 -- the upper half

// atomicWord is a word that changes under its member's mu and is read without.
type atomicWord struct{ v atomic.Uint64 }

func (a *atomicWord) Load() word   { return word(a.v.Load()) }
func (a *atomicWord) Store(w word) { a.v.Store(uint64(w)) }

// NewMember makes a member of that name.
func NewMember(name string) *Member { return &Member{name: name} }

// Name is what NewMember was given.
func (m *Member) Name() string { return m.name }

// State is how the member stands now. One whose breaker was open long enough is Open until a request tries it.
func (m *Member) State() State { return m.word.Load().state() }

// Healthy reports whether no active check says that it is down.
func (m *Member) Healthy() bool { return m.State() != Down }

// Running is how many requests it serves.
func (m *Member) Running() int { return int(m.running.Load()) }

// SetHealth takes the result of an active check. One that was down and is up again forgets the failures it had before and
// starts slowly; of one that was up, nothing changes: its breaker has seen real requests.
func (m *Member) SetHealth(up bool) {
	m.mu.Lock()
	if m.down == !up {
		m.mu.Unlock()
		return
	}
	m.down = !up
	if up {
		m.recover(m.opts.Load())
	}
	m.show(false)
	m.mu.Unlock()
	if up && m.awaited.Load() != 0 {
		m.wake()
	}
}

// adopt makes the options of a new set the member's. running says that others of the set were in use before.
func (m *Member) adopt(o *Options, running bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	before := m.opts.Load()
	if before == nil {
		m.epoch = o.Now().Add(-time.Second) // no time is 0
		if running && o.SlowStart > 0 {
			m.slow.Store(m.since(o.Now()))
		}
	}
	if before == nil || before.Window != o.Window {
		m.seen.reset(o.Window)
	}
	m.opts.Store(o)
	if o.Failures <= 0 && o.ErrorRate <= 0 && m.breaker != Closed {
		m.recover(o) // nothing can open it now, so that nothing holds it open
		m.show(false)
	}
}

// since is a time in nanoseconds since the member's epoch; the clock on the wall does not matter.
func (m *Member) since(t time.Time) int64 { return int64(t.Sub(m.epoch)) }

// enter takes a place if there are fewer than most; 0: no bound.
func (m *Member) enter(most int) bool {
	if most <= 0 {
		m.running.Add(1)
		return true
	}
	for {
		n := m.running.Load()
		if n >= int64(most) {
			return false
		}
		if m.running.CompareAndSwap(n, n+1) {
			return true
		}
	}
}

// due reports whether a trial may be taken, as far as one can see without the lock.
func (m *Member) due(now int64) bool {
	until := m.until.Load()
	return until != 0 && now >= until
}

// takeTrial makes the caller the one who tries. It returns the generation that the trial belongs to.
func (m *Member) takeTrial(now int64) (gen uint32, ok bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	w := m.word.Load()
	if m.down || m.breaker == Closed || m.trial || !m.due(now) {
		return w.gen(), false
	}
	m.trial = true
	m.breaker = HalfOpen
	m.until.Store(0)
	m.show(false)
	return w.gen(), true
}

// freeTrial lets somebody else try: the request that did came to nothing.
func (m *Member) freeTrial(gen uint32) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.trial && m.word.Load().gen() == gen {
		m.trial = false
		m.until.Store(1) // at once
	}
}

// report counts what a request says.
func (m *Member) report(l *Lease, r Result) {
	w := m.word.Load()
	if w.gen() != l.gen {
		return // it began before the breaker opened, which has seen newer ones
	}
	o := m.opts.Load()
	if r == Success && w.state() == Closed {
		if l.row = m.fails.Load(); l.row != 0 {
			m.fails.Store(0)
		}
		if o.ErrorRate > 0 {
			m.seen.add(m.since(o.Now()), 1, 0)
		}
		return
	}
	m.mu.Lock()
	if m.word.Load().gen() != l.gen {
		m.mu.Unlock()
		return
	}
	closed := false
	switch {
	case r == Success:
		// A trial, or a request that came here because there was nobody else: it works.
		if m.breaker != Closed {
			m.recover(o)
			m.show(false)
			closed = true
		}
	case m.breaker != Closed:
		if l.trial && m.trial {
			m.open(o)
		}
	default:
		m.fail(l, o)
	}
	m.mu.Unlock()
	if closed && m.awaited.Load() != 0 {
		m.wake()
	}
}

// fail counts a failure of a member whose breaker is closed. It is called with mu held.
func (m *Member) fail(l *Lease, o *Options) {
	n := m.fails.Add(1)
	one := uint32(1)
	if l.said == Success {
		n = max(n, l.row+1) // its success ended a row that goes on
		m.fails.Store(n)
		one = 0
	}
	bad := o.Failures > 0 && int(n) >= o.Failures
	if o.ErrorRate > 0 {
		now := m.since(o.Now())
		m.seen.add(now, one, 1)
		total, failed := m.seen.sum(now)
		bad = bad || total >= o.MinRequests && float64(failed) >= o.ErrorRate*float64(total)
	}
	if bad {
		m.open(o)
	}
}

// open opens the breaker. It is called with mu held.
func (m *Member) open(o *Options) {
	d := min(float64(o.OpenFor)*float64(int64(1)<<min(m.opened, 8)), mostOpen*float64(o.OpenFor))
	d *= 1 + rand.Float64()/5 // #nosec G404 -- no secret
	m.opened++
	m.breaker, m.trial = Open, false
	m.until.Store(max(1, m.since(o.Now())+int64(d)))
	m.fails.Store(0)
	m.seen.reset(o.Window)
	m.show(true)
}

// recover closes the breaker and begins anew, slowly. It is called with mu held.
func (m *Member) recover(o *Options) {
	m.breaker, m.trial, m.opened = Closed, false, 0
	m.until.Store(0)
	m.fails.Store(0)
	if o == nil {
		return
	}
	m.seen.reset(o.Window)
	if o.SlowStart > 0 {
		m.slow.Store(m.since(o.Now()))
		m.credit.Store(0)
	}
}

// show makes the state visible and tells of it if it is another. It is called with mu held.
func (m *Member) show(opened bool) {
	before := m.word.Load()
	now, gen := m.breaker, uint64(before.gen())
	if m.down {
		now = Down
	}
	if opened {
		gen = uint64(uint32(gen) + 1) // #nosec G115 -- it may wrap
	}
	m.word.Store(word(gen<<32 | uint64(now)))
	if o := m.opts.Load(); now != before.state() && o != nil && o.Changed != nil {
		o.Changed(m, before.state(), now)
	}
}

// slowLoad is the load of a member that starts slowly, whose share grows from a tenth to the whole. Where there is much to
// do its share is that of the requests that run. Where there is so little that its share would be less than one, it is
// compared as if it were whole, but for a share of the choices only.
func (m *Member) slowLoad(load float64, now int64, whole time.Duration) float64 {
	since := m.slow.Load()
	if since == 0 {
		return load
	}
	if now-since >= int64(whole) {
		m.slow.CompareAndSwap(since, 0)
		return load
	}
	w := max(0.1, float64(now-since)/float64(whole))
	step := max(1, uint32(w*1024))
	if c := m.credit.Add(step); c>>10 != (c-step)>>10 {
		return max(1, (load-1)/w)
	}
	return load / w
}

// await notes that somebody in a set's queue waits for a place here; forget undoes it.
func (m *Member) await(s *Set) {
	m.mu.Lock()
	m.sets = append(m.sets, s)
	m.awaited.Store(int32(len(m.sets))) // #nosec G115 -- a few sets
	m.mu.Unlock()
}

func (m *Member) forget(s *Set) {
	m.mu.Lock()
	if i := slices.Index(m.sets, s); i >= 0 {
		m.sets = slices.Delete(m.sets, i, i+1)
	}
	m.awaited.Store(int32(len(m.sets))) // #nosec G115 -- a few sets
	m.mu.Unlock()
}

// wake has those who wait look again.
func (m *Member) wake() {
	m.mu.Lock()
	sets := slices.Clone(m.sets)
	m.mu.Unlock()
	for _, s := range sets {
		s.mu.Lock()
		s.serve()
		s.mu.Unlock()
	}
}
