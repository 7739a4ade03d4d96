package balance

import "time"

// waiter is a request in line.
type waiter struct {
	next, prev *waiter
	key        string
	tried      Tried
	lease      Lease
	err        error
	over       bool // out of the line, with lease or err
	ready      chan struct{}
}

// wait gets in line for a place.
func (s *Set) wait(done <-chan struct{}, key string, tried Tried) (Lease, error) {
	s.mu.Lock()
	s.serve() // whoever came first
	l, err := s.try(key, tried)
	if err != ErrFull || s.Waiting() >= s.o.Queue || s.o.Wait <= 0 {
		s.mu.Unlock()
		return l, err
	}
	w := &waiter{key: key, tried: tried, ready: make(chan struct{})}
	s.push(w)
	s.serve() // a place that was given back before the members knew of somebody in line
	s.mu.Unlock()
	end := time.Now().Add(s.o.Wait)
	timer := time.NewTimer(s.pause(s.o.Wait))
	defer timer.Stop()
	for {
		select {
		case <-w.ready:
			return w.lease, w.err
		case <-done:
			return s.leave(w, ErrGone)
		case <-timer.C:
			left := time.Until(end)
			if left <= 0 {
				return s.leave(w, ErrFull)
			}
			// A trial may be due, of which nobody tells.
			s.mu.Lock()
			s.serve()
			s.mu.Unlock()
			timer.Reset(s.pause(left))
		}
	}
}

// pause is how long to sleep at most: until the next trial is due, if that comes first.
func (s *Set) pause(left time.Duration) time.Duration {
	now := s.o.Now()
	for _, m := range s.members {
		if d := m.until.Load() - m.since(now); d > 0 {
			left = min(left, time.Duration(d))
		}
	}
	return left
}

// leave ends the wait of somebody who will not have it longer. A place that was given at the same moment is taken.
func (s *Set) leave(w *waiter, err error) (Lease, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if w.over {
		return w.lease, w.err
	}
	s.remove(w)
	return Lease{}, err
}

// serve gives places to those in line who can have one, in their order. It is called with mu held.
func (s *Set) serve() {
	for w := s.first; w != nil; {
		next := w.next
		l, err := s.try(w.key, w.tried)
		if err != ErrFull {
			w.lease, w.err = l, err
			s.remove(w)
			close(w.ready)
		} else if w.tried == 0 {
			return // there is no place for anybody
		}
		w = next
	}
}

// push puts somebody at the end of the line. It is called with mu held.
func (s *Set) push(w *waiter) {
	if w.prev = s.tail; w.prev != nil {
		w.prev.next = w
	} else {
		s.first = w
	}
	s.tail = w
	if s.waiting.Add(1) == 1 {
		for _, m := range s.members {
			m.await(s)
		}
	}
}

// remove takes somebody out of the line. It is called with mu held.
func (s *Set) remove(w *waiter) {
	if w.over = true; w.prev != nil {
		w.prev.next = w.next
	} else {
		s.first = w.next
	}
	if w.next != nil {
		w.next.prev = w.prev
	} else {
		s.tail = w.prev
	}
	w.next, w.prev = nil, nil
	if s.waiting.Add(-1) == 0 {
		for _, m := range s.members {
			m.forget(s)
		}
	}
}
