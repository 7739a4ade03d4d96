// Package balance chooses among the replicas of a backend: the one with the fewest requests, or the one that a
// conversation belongs to; it leaves those alone that fail, bounds what each serves, and lets the rest wait in line.
package balance

import (
	"errors"
	"math/bits"
	"sync"
	"sync/atomic"
	"time"
)

// Result is what a request says of the member that served it.
type Result uint8

// The results.
const (
	Neutral Result = iota // says nothing: the client left, or the proxy failed
	Success               // it answered, be it with an error of the agent's own
	Failure               // refused, reset, timed out, or 502, 503, 504
)

// State is how a member stands.
type State uint8

// The states.
const (
	Closed   State = iota // it is asked
	Open                  // it failed too often and is left alone for a while
	HalfOpen              // one request tries whether it works again
	Down                  // an active check says that it does not work
)

// String is the state's name in words.
func (s State) String() string {
	switch s {
	case Closed:
		return "closed"
	case Open:
		return "open"
	case HalfOpen:
		return "half-open"
	case Down:
		return "down"
	}
	return "unknown"
}

// ErrNone is Acquire's where no member may be asked.
var ErrNone = errors.New("no backend is available")

// ErrFull is Acquire's where all members have as many requests as they may, and the wait was in vain.
var ErrFull = errors.New("all backends are busy")

// ErrGone is Acquire's where done closed first.
var ErrGone = errors.New("the request was given up")

// What Options mean where they are silent.
const (
	defaultWindow      = 10 * time.Second
	defaultMinRequests = 20
	defaultOpenFor     = 10 * time.Second
	mostOpen           = 10 // times OpenFor
)

// Options say how a set balances. The zero value is ready.
type Options struct {
	// Failures in a row open a member's breaker; 0: never.
	Failures int
	// ErrorRate between 0 and 1 within Window opens it too, once there were MinRequests; 0: never. Window is 10 s
	// and MinRequests is 20 where they are 0.
	ErrorRate   float64
	MinRequests int
	Window      time.Duration
	// OpenFor is how long a breaker stays open for the first time, and up to a fifth longer, so that those of many
	// proxies do not close together; it doubles with each failed trial, to ten times at most. 0: 10 s.
	OpenFor time.Duration
	// SlowStart is how long a member that is new or came back takes to get its full share; 0: none.
	SlowStart time.Duration
	// Max bounds the requests that one member serves at the same time; 0: no bound. Beyond it at most Queue
	// requests wait, each for Wait.
	Max, Queue int
	Wait       time.Duration
	// Optional says that there is somebody else to ask (a fallback): then even the last member is left alone
	// when its breaker is open.
	Optional bool
	// Now is the clock; nil: time.Now.
	Now func() time.Time
	// Changed hears of a member's state before and its new one; it must not block, nor call the set. nil: nobody.
	Changed func(m *Member, before, now State)
}

// Tried are the members that a request has been to, by their index.
type Tried uint64

// MaxMembers is how many a set can have.
const MaxMembers = 64

// Set balances over members. It is safe for concurrent use.
type Set struct {
	o       *Options
	members []*Member
	seeds   []uint64 // of the members' names, for keys
	all     Tried
	last    atomic.Uint32 // the index chosen last: ties go to the next

	waiting     atomic.Int32
	mu          sync.Mutex // taken before a member's
	first, tail *waiter    // the queue
}

// New makes a set of at least one member and at most MaxMembers. Members may be in use in another set: they keep their
// state, their requests count here too, and these options hold for them from now on. One that was in no set before starts
// slowly where another was; a set in which all are new begins with the process, and nobody else could have their share.
func New(o Options, members ...*Member) *Set {
	if len(members) == 0 || len(members) > MaxMembers {
		panic("BUG: a set has from one to 64 members")
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Window <= 0 {
		o.Window = defaultWindow
	}
	if o.MinRequests <= 0 {
		o.MinRequests = defaultMinRequests
	}
	if o.OpenFor <= 0 {
		o.OpenFor = defaultOpenFor
	}
	s := &Set{o: &o, members: members, seeds: make([]uint64, len(members)), all: 1<<len(members) - 1}
	s.last.Store(uint32(len(members))) // #nosec G115 -- at most 64
	running := false
	for i, m := range members {
		running = running || m.opts.Load() != nil
		again := uint64(0) // two urls may differ in their paths only, and have one name
		for _, other := range members[:i] {
			if other.name == m.name {
				again++
			}
		}
		s.seeds[i] = mix(hash(m.name) + again)
	}
	for _, m := range members {
		m.adopt(s.o, running)
	}
	return s
}

// Members are those of New, in order. They must not be changed.
func (s *Set) Members() []*Member { return s.members }

// Waiting is how many requests wait for a place.
func (s *Set) Waiting() int { return int(s.waiting.Load()) }

// Lease is a place at a member. The zero Lease is inert. One goroutine at a time uses it, and it must not be copied once
// it is in use.
type Lease struct {
	m     *Member
	index int
	gen   uint32 // the member's when it was given
	row   int32  // the failures in a row that its success ended
	said  Result
	trial bool
}

// Index is that of the member.
func (l *Lease) Index() int { return l.index }

// Trial reports whether this is the request that tries a member whose breaker is half-open.
func (l *Lease) Trial() bool { return l.trial }

// Report tells how the member does; it may be called more than once: a success is best told when the answer begins, since
// a trial ends with it, and a failure after it takes it back. Each counts once. What a request says that began before the breaker opened
// counts no more.
func (l *Lease) Report(r Result) {
	if l.m == nil || r <= l.said {
		return
	}
	l.m.report(l, r)
	l.said = r
}

// Release gives the place back; it may be called again.
func (l *Lease) Release() {
	m := l.m
	if m == nil {
		return
	}
	l.m = nil
	if l.trial && l.said == Neutral {
		m.freeTrial(l.gen)
	}
	m.running.Add(-1)
	// Whoever waits has said so before it looked for a place the last time: either it saw this one, or it is seen here.
	if m.awaited.Load() != 0 {
		m.wake()
	}
}

// Acquire takes a place at a member that is not among tried: the one that key belongs to if key is not empty, else
// the one with the fewest requests. The member that a key belongs to depends on the names alone, so that all replicas
// of a proxy agree, and a member more or less moves few keys; where that member may not be asked, or has no place, the key
// goes to another.
//
// A member whose breaker was open long enough is given to one request as a trial. If no member of the set is closed, those
// that failed are asked nevertheless, and those that are down where all are, unless the set is Optional. The errors are
// ErrNone, ErrFull and ErrGone.
func (s *Set) Acquire(done <-chan struct{}, key string, tried Tried) (Lease, error) {
	if len(s.members) == 1 && s.o.Max <= 0 && tried&1 == 0 {
		m := s.members[0]
		if w := m.word.Load(); w.state() == Closed {
			m.running.Add(1)
			return Lease{m: m, gen: w.gen()}, nil
		}
	}
	if s.waiting.Load() == 0 {
		l, err := s.try(key, tried)
		if err != ErrFull || s.o.Queue <= 0 || s.o.Wait <= 0 {
			return l, err
		}
	}
	return s.wait(done, key, tried)
}

// try takes a place if there is one now.
func (s *Set) try(key string, tried Tried) (Lease, error) {
	allowed := s.all &^ tried
	if allowed == 0 {
		return Lease{}, ErrNone
	}
	var closed, due, broken, down Tried // of all members, but for due
	var now time.Time                   // read when it is needed
	for i, m := range s.members {
		bit := Tried(1) << i
		switch m.word.Load().state() {
		case Closed:
			closed |= bit
		case Down:
			down |= bit
		default:
			broken |= bit
			if allowed&bit != 0 {
				if now.IsZero() {
					now = s.o.Now()
				}
				if m.due(m.since(now)) {
					due |= bit
				}
			}
		}
	}
	if key == "" {
		// A trial that is due goes first: nobody else would ever find out.
		for t := due; t != 0; t &= t - 1 {
			if l, err := s.take(bits.TrailingZeros64(uint64(t)), now, true); err == nil {
				return l, nil
			}
		}
		due = 0
	}
	l, err := s.from(key, allowed&closed, due, now)
	if err == nil {
		return l, nil
	}
	switch {
	case err == ErrFull:
		return Lease{}, err
	case closed != 0 || s.o.Optional:
		return Lease{}, ErrNone
	case allowed&broken != 0:
		return s.from(key, allowed&broken, 0, now)
	default:
		return s.from(key, allowed&down, 0, now)
	}
}

// from takes a place at one of the members in which, or a trial at one of due: in the order of the key, or of the load.
func (s *Set) from(key string, which, due Tried, now time.Time) (Lease, error) {
	err := ErrNone
	for which|due != 0 {
		var i int
		if key != "" {
			i = s.belongs(key, which|due)
		} else {
			i = s.least(which, now)
		}
		bit := Tried(1) << i
		l, e := s.take(i, now, due&bit != 0)
		if e == nil {
			return l, nil
		}
		if e == ErrFull {
			err = e
		}
		which &^= bit
		due &^= bit
	}
	return Lease{}, err
}

// take takes a place at one member, or the trial there.
func (s *Set) take(i int, now time.Time, trial bool) (Lease, error) {
	m := s.members[i]
	if !trial {
		if !m.enter(s.o.Max) {
			return Lease{}, ErrFull
		}
		return Lease{m: m, index: i, gen: m.word.Load().gen()}, nil
	}
	if s.o.Max > 0 && m.Running() >= s.o.Max {
		return Lease{}, ErrFull
	}
	gen, ok := m.takeTrial(m.since(now))
	if !ok {
		return Lease{}, ErrNone // somebody else has it
	}
	if !m.enter(s.o.Max) {
		m.freeTrial(gen)
		return Lease{}, ErrFull
	}
	return Lease{m: m, index: i, gen: gen, trial: true}, nil
}

// least is the index of the member with the least load for its weight; of several, the next after the one chosen last.
func (s *Set) least(which Tried, now time.Time) int {
	var ties Tried
	var best float64
	for t := which; t != 0; t &= t - 1 {
		i := bits.TrailingZeros64(uint64(t))
		m := s.members[i]
		load := float64(m.running.Load() + 1)
		if s.o.SlowStart > 0 && m.slow.Load() != 0 {
			if now.IsZero() {
				now = s.o.Now()
			}
			load = m.slowLoad(load, m.since(now), s.o.SlowStart)
		}
		switch bit := Tried(1) << i; {
		case ties == 0 || load < best:
			ties, best = bit, load
		case load == best:
			ties |= bit
		}
	}
	last := s.last.Load()
	after := ties &^ (1<<(last+1) - 1)
	if after == 0 {
		after = ties
	}
	i := bits.TrailingZeros64(uint64(after))
	if ties&(ties-1) != 0 {
		s.last.Store(uint32(i)) // #nosec G115 -- below 64
	}
	return i
}

// belongs is the index of the member that a key belongs to, among those given (rendezvous hashing: the highest number wins).
func (s *Set) belongs(key string, which Tried) int {
	h := hash(key)
	best, most := -1, uint64(0)
	for t := which; t != 0; t &= t - 1 {
		i := bits.TrailingZeros64(uint64(t))
		if v := mix(h ^ s.seeds[i]); best < 0 || v > most {
			best, most = i, v
		}
	}
	return best
}

// hash is FNV-1a: the same in every process.
func hash(s string) uint64 {
	h := uint64(14695981039346656037)
	for i := range len(s) {
		h = (h ^ uint64(s[i])) * 1099511628211
	}
	return h
}

// mix spreads what differs in few bits over all (the finalizer of splitmix64).
func mix(h uint64) uint64 {
	h ^= h >> 30
	h *= 0xbf58476d1ce4e5b9
	h ^= h >> 27
	h *= 0x94d049bb133111eb
	return h ^ h>>31
}
