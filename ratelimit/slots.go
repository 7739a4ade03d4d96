package ratelimit

import "sync"

// slots counts what runs at the same time, and lines up what waits for that. Views of one scope with different limits share
// it, so that the limit is the taker's.
type slots struct {
	mu         sync.Mutex
	used       int
	waiting    int
	head, tail *waiter
}

// waiter is a place in a line.
type waiter struct {
	ready      chan struct{} // gets one value when the slot is the waiter's; holds one
	limit      int
	queued     bool
	prev, next *waiter
}

func newWaiter() any { return &waiter{ready: make(chan struct{}, 1)} }

// try takes a slot if one is free and nobody waits for it.
func (s *slots) try(limit int) bool {
	s.mu.Lock()
	ok := s.head == nil && s.used < limit
	if ok {
		s.used++
	}
	s.mu.Unlock()
	return ok
}

// line takes a slot as try does, or else puts w at the end of the line, unless that is full. Of granted and lined at most one is true.
func (s *slots) line(w *waiter, limit, length int) (granted, lined bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.head == nil && s.used < limit:
		s.used++
		return true, false
	case s.waiting >= length:
		return false, false
	}
	w.limit, w.queued = limit, true
	w.prev, w.next = s.tail, nil
	if s.tail == nil {
		s.head = w
	} else {
		s.tail.next = w
	}
	s.tail = w
	s.waiting++
	return false, true
}

// leave takes w out of the line. If it has a slot by now, that is given to the next.
func (s *slots) leave(w *waiter) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if w.queued {
		s.unlink(w)
	} else {
		<-w.ready
		s.used--
	}
	s.wake()
}

// expire takes w out of the line, unless it has a slot by now, which it keeps.
func (s *slots) expire(w *waiter) (granted bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !w.queued {
		<-w.ready
		return true
	}
	s.unlink(w)
	s.wake()
	return false
}

// release gives a slot back.
func (s *slots) release() {
	s.mu.Lock()
	s.used--
	s.wake()
	s.mu.Unlock()
}

func (s *slots) unlink(w *waiter) {
	if w.prev == nil {
		s.head = w.next
	} else {
		w.prev.next = w.next
	}
	if w.next == nil {
		s.tail = w.prev
	} else {
		w.next.prev = w.prev
	}
	w.prev, w.next, w.queued = nil, nil, false
	s.waiting--
}

// wake gives free slots to the first in line.
func (s *slots) wake() {
	for s.head != nil && s.used < s.head.limit {
		w := s.head
		s.unlink(w)
		s.used++
		w.ready <- struct{}{} // has room: a waiter is granted once, and whoever waits takes the value
	}
}
