package balance

import (
	"errors"
	"fmt"
	"testing"
	"time"
)

// model says of one member at a time what a breaker does, in the simplest words.
type model struct {
	state  State // behind down
	down   bool
	row    int
	gen    int
	since  time.Duration // when it opened
	opened int
	trial  bool
	fresh  bool // a trial that came to nothing left it to the next
}

func (m *model) shown() State {
	if m.down {
		return Down
	}
	return m.state
}

type given struct {
	l     *Lease
	gen   int
	trial bool
	said  Result
	row   int
}

// FuzzBreakersKeepToTheModel has a set and a model of it go through the same requests, failures, checks and pauses.
func FuzzBreakersKeepToTheModel(f *testing.F) {
	f.Add([]byte("\x00\x12\x00\x12\x00\x12\x05\x00\x11"), uint8(2), false)
	f.Add([]byte("\x00\x12\x00\x12\x00\x12\x05\x00\x13\x00\x12\x04\x04\x05\x00"), uint8(1), true)
	f.Add([]byte("aAbBcCdDeEfFgGhHiIjJkKlLmMnNoOpPqQrRsStTuUvVwWxXyYzZ0123456789"), uint8(3), true)
	for i := range 200 {
		ops := make([]byte, 300)
		for j := range ops {
			ops[j] = byte(mix(uint64(i*1000+j)) >> 7)
		}
		f.Add(ops, uint8(i), i%3 == 0)
	}
	f.Fuzz(func(t *testing.T, ops []byte, size uint8, optional bool) {
		const failures = 2
		n := int(size%4) + 1
		w := newWorld(t, n, Options{Failures: failures, OpenFor: 10 * time.Second, Optional: optional})
		ms := make([]model, n)
		var out []*given
		var now time.Duration
		var told int
		shown := make([]State, n)
		for step, op := range ops {
			switch op % 8 {
			case 0, 1, 2: // a request
				tried := Tried(op>>3) & Tried(op>>5) & w.set.all
				key := ""
				if op&0x10 != 0 {
					key = fmt.Sprint(op >> 5)
				}
				l, err := w.set.Acquire(nil, key, tried)
				var closed, due, bad, down Tried
				for i := range ms {
					m, bit := &ms[i], Tried(1)<<i
					switch m.shown() {
					case Closed:
						closed |= bit
					case Down:
						down |= bit
					default:
						bad |= bit
						pause := min(10*time.Second<<max(0, m.opened-1), 100*time.Second)
						if !m.trial && (m.fresh || m.state == Open && now-m.since >= pause*6/5) {
							due |= bit
						}
					}
				}
				mayTry := Tried(0) // the jitter makes it possible, not certain
				for i := range ms {
					m := &ms[i]
					if m.shown() == Open && now-m.since >= min(10*time.Second<<max(0, m.opened-1), 100*time.Second) {
						mayTry |= 1 << i
					}
				}
				mayTry |= due
				allowed := w.set.all &^ tried
				var want Tried
				switch {
				case allowed&closed != 0:
					want = allowed & closed
				case closed != 0 || optional:
				case allowed&bad != 0:
					want = allowed & bad
				default:
					want = allowed & down
				}
				if err != nil {
					if !errors.Is(err, ErrNone) || want != 0 || allowed&due != 0 {
						t.Fatalf("step %d: %v, where %b might be asked and %b tried", step, err, want, allowed&due)
					}
					continue
				}
				g := &given{l: &l, trial: l.Trial(), gen: ms[l.Index()].gen}
				bit := Tried(1) << l.Index()
				m := &ms[l.Index()]
				switch {
				case g.trial && allowed&mayTry&bit == 0:
					t.Fatalf("step %d: a trial at %d, of which none is due", step, l.Index())
				case g.trial:
					m.state, m.trial, m.fresh = HalfOpen, true, false
				case want&bit == 0:
					t.Fatalf("step %d: asked %d, want one of %b", step, l.Index(), want)
				case key == "" && allowed&due != 0:
					t.Fatalf("step %d: asked %d while a trial at %b is due", step, l.Index(), allowed&due)
				}
				out = append(out, g)
			case 3, 4, 5: // what one says
				if len(out) == 0 {
					continue
				}
				g, r := out[int(op>>3)%len(out)], Result(op>>6)%3
				g.l.Report(r)
				if r <= g.said {
					continue
				}
				m := &ms[g.l.Index()]
				said := g.said
				g.said = r
				if g.gen != m.gen {
					continue
				}
				switch {
				case r == Success && m.state == Closed && m.down: // what was before is forgotten when it is up
				case r == Success && m.state == Closed:
					g.row, m.row = m.row, 0
				case r == Success:
					*m = model{down: m.down, gen: m.gen}
				case m.state == Closed:
					m.row++
					if said == Success {
						m.row = max(m.row, g.row+1)
					}
					if m.row >= failures {
						*m = model{state: Open, down: m.down, gen: m.gen + 1, since: now, opened: 1}
					}
				case g.trial && m.trial:
					*m = model{state: Open, down: m.down, gen: m.gen + 1, since: now, opened: m.opened + 1}
				}
			case 6: // one ends
				if len(out) == 0 {
					continue
				}
				i := int(op>>3) % len(out)
				g := out[i]
				m := &ms[g.l.Index()]
				if g.trial && g.said == Neutral && g.gen == m.gen && m.trial {
					m.trial, m.fresh = false, true
				}
				g.l.Release()
				out = append(out[:i], out[i+1:]...)
			case 7: // time, and checks
				if op&8 != 0 {
					d := time.Duration(op>>4) * 2 * time.Second
					now += d
					w.advance(d)
					continue
				}
				i, up := int(op>>5)%n, op&16 != 0
				w.set.members[i].SetHealth(up)
				if m := &ms[i]; m.down && up {
					*m = model{gen: m.gen}
				} else {
					m.down = !up
				}
			}
			running := make([]int, n)
			for _, g := range out {
				running[g.l.Index()]++
			}
			for i := range ms {
				got := w.set.members[i]
				if got.State() != ms[i].shown() {
					t.Fatalf("step %d: member %d is %v, want %v", step, i, got.State(), ms[i].shown())
				}
				if got.Running() != running[i] {
					t.Fatalf("step %d: %d run at member %d, want %d", step, got.Running(), i, running[i])
				}
			}
			for ; told < len(w.told); told++ {
				i := int(w.told[told][0] - 'a')
				if w.told[told][2:] == shown[i].String() {
					t.Fatalf("step %d: %q was told twice", step, w.told[told])
				}
				for s := range Down + 1 {
					if w.told[told][2:] == s.String() {
						shown[i] = s
					}
				}
			}
			for i := range ms {
				if shown[i] != ms[i].shown() {
					t.Fatalf("step %d: member %d was told to be %v and is %v", step, i, shown[i], ms[i].shown())
				}
			}
		}
	})
}
