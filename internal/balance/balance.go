// Package balance chooses among the replicas of a backend.
package balance

import (
	"errors"
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

// ErrNone is Acquire's where no member may be asked.
var ErrNone = errors.New("no backend is available")

// ErrFull is Acquire's where all members have as many requests as they may, and the wait was in vain.
var ErrFull = errors.New("all backends are busy")

// ErrGone is Acquire's where done closed first.
var ErrGone = errors.New("the request was given up")

// Options say how a set balances. The zero value is ready.
type Options struct {
	// Failures in a row open a member's breaker; 0: never.
	Failures int
	// ErrorRate between 0 and 1 within Window opens it too, once there were MinRequests; 0: never.
	ErrorRate   float64
	MinRequests int
	Window      time.Duration
	// OpenFor is how long a breaker stays open for the first time; it doubles with each failed trial.
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
	// Changed hears of a member's new state; it must not block, nor call the set. nil: nobody.
	Changed func(m *Member, now State)
}

// Member is one replica. It keeps its state when it becomes part of another set.
type Member struct {
	name    string
	running atomic.Int64
}

// NewMember makes a member of that name.
func NewMember(name string) *Member { return &Member{name: name} }

// Name is what NewMember was given.
func (m *Member) Name() string { return m.name }

// State is how the member stands now.
func (m *Member) State() State { return Closed }

// Running is how many requests it serves.
func (m *Member) Running() int { return int(m.running.Load()) }

// SetHealth takes the result of an active check.
func (m *Member) SetHealth(up bool) {}

// Tried are the members that a request has been to, by their index.
type Tried uint64

// MaxMembers is how many a set can have.
const MaxMembers = 64

// Set balances over members. It is safe for concurrent use.
type Set struct {
	o       Options
	members []*Member
}

// New makes a set.
func New(o Options, members ...*Member) *Set { return &Set{o: o, members: members} }

// Members are those of New, in order.
func (s *Set) Members() []*Member { return s.members }

// Lease is a place at a member. The zero Lease is inert.
type Lease struct {
	m     *Member
	index int
}

// Index is that of the member.
func (l *Lease) Index() int { return l.index }

// Report tells how the member does; it may be called more than once.
func (l *Lease) Report(r Result) {}

// Release gives the place back; it may be called again.
func (l *Lease) Release() {
	if l.m != nil {
		l.m.running.Add(-1)
		l.m = nil
	}
}

// Acquire takes a place at a member that is not among tried: the one that key belongs to if key is not empty, else
// the one with the fewest requests.
func (s *Set) Acquire(done <-chan struct{}, key string, tried Tried) (Lease, error) {
	for i, m := range s.members {
		if tried&(1<<i) == 0 {
			m.running.Add(1)
			return Lease{m: m, index: i}, nil
		}
	}
	return Lease{}, ErrNone
}

// Budget bounds retries to a share of all requests, so that they cannot make an overload worse.
type Budget struct{ share float64 }

// NewBudget allows retries for that share of requests (0.2: one for each five), and a few a second besides.
func NewBudget(share float64, now func() time.Time) *Budget { return &Budget{share: share} }

// Request notes a request.
func (b *Budget) Request() {}

// Retry takes a retry, if there is one left.
func (b *Budget) Retry() bool { return true }
