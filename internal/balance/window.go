package balance

import (
	"sync"
	"sync/atomic"
	"time"
)

// slots is of how many parts a window is made, each of which is forgotten as a whole.
const slots = 10

// window counts what happened lately. Counting takes no lock but once a slot.
type window struct {
	width atomic.Int64 // of a slot, in nanoseconds
	mu    sync.Mutex   // to turn a slot over
	slot  [slots]struct {
		number     atomic.Int64 // since the beginning of time
		total, bad atomic.Uint32
	}
}

// reset forgets everything and makes the window so long.
func (w *window) reset(length time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.width.Store(max(1, int64(length)/slots))
	for i := range w.slot {
		s := &w.slot[i]
		s.number.Store(-1)
		s.total.Store(0)
		s.bad.Store(0)
	}
}

// add counts; now is in nanoseconds since any time before.
func (w *window) add(now int64, total, bad uint32) {
	number := now / w.width.Load()
	s := &w.slot[uint64(number)%slots] // #nosec G115 -- no time is negative
	if s.number.Load() != number {
		w.mu.Lock()
		if s.number.Load() < number {
			s.total.Store(0)
			s.bad.Store(0)
			s.number.Store(number)
		}
		w.mu.Unlock()
	}
	if total != 0 {
		s.total.Add(total)
	}
	if bad != 0 {
		s.bad.Add(bad)
	}
}

// sum is what was counted within the window.
func (w *window) sum(now int64) (total, bad int) {
	number := now / w.width.Load()
	for i := range w.slot {
		s := &w.slot[i]
		if n := s.number.Load(); n > number-slots && n <= number {
			total += int(s.total.Load())
			bad += int(s.bad.Load())
		}
	}
	return total, bad
}
