package ratelimit

import "time"

// Status is what is left of a caller's limits, for headers. The proxy's own ceiling is never in it.
type Status struct{ Requests, Tokens Quota }

// Any reports whether anything is limited.
func (s Status) Any() bool { return s.Requests.Limited || s.Tokens.Limited }

// Quota is what is left of one rate.
type Quota struct {
	// Limit is the size of the bucket, and Remaining how much of it is left.
	Limit, Remaining int64

	// Reset is how long until all of it is there again; zero if it is.
	Reset time.Duration

	// Next is how long until one more is there; zero if all are.
	Next time.Duration

	// Rate is the rule.
	Rate Rate

	// Limited is false if there is no limit; then all else is zero.
	Limited bool
}

// quota is what is left of a bucket that lacks full.
func (m *meter) quota(full time.Duration) Quota {
	q := Quota{Limit: m.rate.Burst, Reset: full, Rate: m.rate, Limited: true}
	switch {
	case full <= 0:
		q.Remaining = q.Limit
	case full < m.capacity:
		q.Remaining = min(int64((m.capacity-full)/m.unit), m.rate.Burst)
	}
	if full > 0 {
		q.Next = min(max(full-m.capacity+time.Duration(q.Remaining+1)*m.unit, 0), full)
	}
	return q
}

// tighter reports whether q says more to a caller than o does.
func (q *Quota) tighter(o *Quota) bool {
	switch {
	case !o.Limited:
		return true
	case q.Remaining != o.Remaining:
		return q.Remaining < o.Remaining
	case q.Limit != o.Limit:
		return q.Limit < o.Limit
	}
	return q.Reset > o.Reset
}

func (l *Limiter) status(scopes *[3]*Scope, part int, now time.Duration) (st Status) {
	for _, s := range scopes {
		if s == nil || s.kind == Global {
			continue
		}
		for d, to := range [...]*Quota{&st.Requests, &st.Tokens} {
			if s.rates[d] == nil {
				continue
			}
			if q := s.plan.meters[part][d].quota(s.rates[d][part].full(now)); q.tighter(to) {
				*to = q
			}
		}
	}
	return st
}

// Window is how many events the rule admits at most in any time w, and how many of them may happen within w from now.
func (q Quota) Window(w time.Duration) (limit, remaining int64) {
	r := q.Rate.normal()
	if !q.Limited || !r.limited() {
		return 0, 0
	}
	limit = max(r.Burst, mulDiv(r.Events, int64(max(w, 0)), int64(r.Per)))
	// What refills while the bucket is not full counts on top of what is there, and the time to fill it has to pass once.
	refill := mulDiv(r.Events, int64(max(w-r.capacity(), 0)), int64(r.Per))
	if remaining = q.Remaining + refill; remaining < 0 || remaining > limit {
		remaining = limit
	}
	return limit, remaining
}
